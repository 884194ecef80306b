//! Every number tables are bounded by, and how they relate.

use journal::format::PAGE_BYTES;
use journal::limits::GROUP_BYTES_MAX;

use super::format::SECTOR_BYTES;
use super::format::block::{HEADER_BYTES, ROW_OVERHEAD_MAX};
use super::format::tail::{BLOCK_ENTRY_BYTES, FOOTER_BYTES};

/// A part is closed before it gets longer. What is over in a table is let go part by part, so not too long; 43 of these hold
/// 100 million jobs of 64 bytes.
pub const PART_BYTES_MAX: u64 = 256 << 20;
/// A block is closed when it has so much; its last row may make it longer.
pub const BLOCK_BYTES_TARGET: usize = 64 << 10;
/// What a job carries: it came through the journal in one group.
pub const BODY_BYTES_MAX: usize = GROUP_BYTES_MAX;
/// No block is longer, so no reader believes a length beyond it.
pub const BLOCK_BYTES_MAX: usize = HEADER_BYTES + BLOCK_BYTES_TARGET + ROW_OVERHEAD_MAX + BODY_BYTES_MAX;
/// At least one block fits into a part, and its offsets into 32 bits.
const _: () = assert!(
    ((PAGE_BYTES + BLOCK_BYTES_MAX).next_multiple_of(SECTOR_BYTES) + BLOCK_ENTRY_BYTES + FOOTER_BYTES) as u64
        <= PART_BYTES_MAX
);
const _: () = assert!(PART_BYTES_MAX <= u32::MAX as u64);

/// Their numbers have four hexadecimal digits in a name.
pub const PARTS_MAX: usize = 1 << 16;
/// Jobs of one table: keeps the runs its directory is sorted from at a thousand.
pub const ROWS_MAX: u64 = 1 << 30;

/// Buffered before it is written.
pub const WRITE_BYTES: usize = 256 << 10;
/// Written before it is persisted, so that no persist is so large that commits wait behind it.
pub const PERSIST_BYTES: u64 = 16 << 20;
const _: () = assert!(WRITE_BYTES as u64 <= PERSIST_BYTES);

/// Entries of the directory that are sorted in memory, 24 bytes each; more go through runs on the disk.
pub const SORT_ENTRIES_MAX: usize = 1 << 20;
/// Sorted at once, some 2 ms: what else runs on the thread waits so long.
pub const SORT_CHUNK_ENTRIES: usize = 32 << 10;
/// Pages of a run that are read at once.
pub const RUN_PAGES: usize = 8;

/// Tables merged at once; each holds one block and one open file per part.
pub const MERGE_INPUTS_MAX: usize = 32;

/// What tests make small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub part_bytes: u64,
    pub block_bytes: usize,
    pub sort_entries: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { part_bytes: PART_BYTES_MAX, block_bytes: BLOCK_BYTES_TARGET, sort_entries: SORT_ENTRIES_MAX }
    }
}
