//! Every number the journal is bounded by, and how they relate.

use std::time::Duration;

use crate::format::PAGE_BYTES;
use crate::format::block::{HEADER_BYTES, TABLE_ENTRY_BYTES};

/// A journal's first segment. Small, because most nodes never need a second one.
pub const SEGMENT_BYTES_FIRST: u64 = 4 << 20;
/// Each segment is twice as long as the one before, up to this.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// A smaller one would be header, header and next to no block. For tests.
pub const SEGMENT_BYTES_MIN: u64 = 4 * PAGE_BYTES as u64;

/// Records appended together: they are in one block, and a block is in one segment.
pub const GROUP_BYTES_MAX: usize = 2 << 20;
pub const GROUP_RECORDS_MAX: usize = 1 << 14;
const _: () = assert!(
    (GROUP_BYTES_MAX + GROUP_RECORDS_MAX * (TABLE_ENTRY_BYTES + 8) + HEADER_BYTES) as u64
        <= SEGMENT_BYTES_FIRST - 3 * PAGE_BYTES as u64
);

/// A block is closed when it has so much; one group may make it longer.
pub const BLOCK_BYTES_TARGET: usize = 1 << 20;
/// One persist covers at most so much, so that the first of it does not wait for too many others.
pub const COMMIT_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(BLOCK_BYTES_TARGET <= COMMIT_BYTES_MAX);

/// Appended and not answered; beyond it an append is refused.
pub const WAITING_BYTES_MAX: usize = 64 << 20;
pub const WAITING_GROUPS_MAX: usize = 1 << 18;
const _: () = assert!(GROUP_BYTES_MAX <= WAITING_BYTES_MAX);

/// Part of a body from this length on is handed to the disk as it is; shorter ones are copied beside each other.
pub const COPY_BYTES_MAX: usize = 32 << 10;

/// Room that only records with the flag for it may use: what settles others, and so makes room.
pub const RESERVE_BYTES: u64 = 1 << 20;
const _: () = assert!(RESERVE_BYTES * 2 <= SEGMENT_BYTES_FIRST);

/// Segments kept ready; more than that are removed instead of recycled.
pub const SPARES_MAX: usize = 2;

/// A second failure of the medium within this time: no more fresh segments, the journal is read-only.
pub const POISON_AGAIN_WITHIN: Duration = Duration::from_secs(60);
/// A read-only journal tries again after this long.
pub const READ_ONLY_PAUSE: Duration = Duration::from_secs(30);
/// A persist that only lacked memory or a descriptor is tried so often before it counts as failed.
pub const PERSIST_ATTEMPTS: usize = 3;

pub const CHECKPOINTS_KEPT: usize = 3;
pub const CHECKPOINT_BLOB_BYTES_MAX: u64 = 1 << 30;
pub const CHECKPOINT_SEGMENTS_MAX: u32 = 1 << 20;

/// What is rotten is copied, up to so much in all; beyond it, it is only reported.
pub const QUARANTINE_BYTES_MAX: u64 = 256 << 20;

/// Name of a node in the file `id`.
pub const NAME_BYTES_MAX: usize = 255;

/// So long after the last commit a mark says how far the log is durable.
pub const MARK_AFTER: Duration = Duration::from_secs(1);
/// Room that could not be made ready is tried again after this long.
pub const TEND_PAUSE: Duration = Duration::from_secs(1);

/// Streams of the queue; each costs some 300 bytes while anything of it is known.
pub const STREAMS_MAX: usize = 65_536;
/// Ends of entries that are remembered for receipts, put together where they follow each other. Some 60 bytes each; when there are
/// more, the older half is forgotten.
pub const RECEIPT_RANGES_MAX: usize = 500_000;

/// Requests to read that wait; beyond it one is refused.
pub const READS_MAX: usize = 4096;
/// Tables of blocks that a reader keeps decoded, so that the next run of one of them costs one read: some streams' backlogs,
/// each read on from block to block.
pub const TABLES_KEPT_MAX: usize = 16;
/// Rows in all of those; some 40 bytes each. Any one block's table has room.
pub const TABLE_ROWS_KEPT_MAX: usize = 1 << 16;
const _: () = assert!(BLOCK_BYTES_TARGET / TABLE_ENTRY_BYTES + GROUP_RECORDS_MAX <= TABLE_ROWS_KEPT_MAX);
/// A scrub, however slow it shall be, goes on after this long.
pub const SCRUB_PAUSE_MAX: Duration = Duration::from_secs(600);

/// A scrub on the ring reads so much at once, and so much more when its pace allows: what a commit may have to wait behind.
pub const SCRUB_READ_BYTES: usize = 256 << 10;
const _: () = assert!(SCRUB_READ_BYTES.is_multiple_of(PAGE_BYTES));
/// Memory that is registered with the ring for reads that pass the page cache by; it counts against the memory that a process
/// may lock, once for each of glommio's three rings.
pub const RING_MEMORY_BYTES: usize = 512 << 10;
const _: () = assert!(SCRUB_READ_BYTES < RING_MEMORY_BYTES);
/// Operations in flight on a ring: one read, one of a scrub, and what opens and closes files.
pub const RING_DEPTH: usize = 16;
/// Time of the thread that reads and scrubs get when both want it.
pub const READ_SHARES: usize = 1000;
pub const SCRUB_SHARES: usize = 50;
const _: () = assert!(SCRUB_SHARES < READ_SHARES);
