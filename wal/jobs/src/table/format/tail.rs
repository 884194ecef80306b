//! The end of a file of a table: its index, then the footer, which is found from the file's length.

use journal::format::{Bad, put, u32_at, u64_at};

use super::FileKey;
use crate::Key;

const MAGIC: &[u8; 4] = b"GJFT";
pub const FOOTER_BYTES: usize = 64;
/// Of the index of a part; that of a directory has the first number of every page.
pub const BLOCK_ENTRY_BYTES: usize = 28;
pub const PAGE_ENTRY_BYTES: usize = 8;

const AT_INDEX: usize = 8;
const AT_ENTRIES: usize = 16;
const AT_INDEX_CRC: usize = 20;
const AT_ROWS: usize = 24;

/// Where a block is, and what it begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    pub first: Key,
    pub at: u32,
    pub bytes: u32,
    pub rows: u32,
}

/// In the rows of an entry in memory: the place of what was not found, and so many rows with it, as far as is known.
pub const GAP: u32 = 1 << 31;

impl BlockEntry {
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.first.due_ms.to_le_bytes());
        out.extend_from_slice(&self.first.seq.to_le_bytes());
        for field in [self.at, self.bytes, self.rows] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }

    /// Whether nothing was found there.
    pub fn is_gap(&self) -> bool {
        self.rows & GAP != 0
    }

    pub fn row_count(&self) -> u64 {
        u64::from(self.rows & !GAP)
    }

    /// All of an index.
    pub fn decode_all(index: &[u8]) -> impl ExactSizeIterator<Item = BlockEntry> + '_ {
        index.chunks_exact(BLOCK_ENTRY_BYTES).map(|entry| BlockEntry {
            first: Key { due_ms: u64_at(entry, 0) as i64, seq: u64_at(entry, 8) },
            at: u32_at(entry, 16),
            bytes: u32_at(entry, 20),
            rows: u32_at(entry, 24),
        })
    }
}

/// The last bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Where the index begins; it ends where the footer begins.
    pub index_at: u64,
    pub entries: u32,
    pub index_crc: u32,
    pub rows: u64,
}

impl Footer {
    /// Of an index of so many entries that stands at this offset.
    pub fn new(index: &[u8], entries: u32, rows: u64, key: FileKey, index_at: u64) -> Footer {
        Footer { index_at, entries, index_crc: key.checksum(index_at, index), rows }
    }

    /// Its bytes, as they stand at this offset.
    pub fn seal(&self, key: FileKey, at: u64) -> Vec<u8> {
        let mut footer = vec![0; FOOTER_BYTES];
        put(&mut footer, 4, MAGIC);
        put(&mut footer, AT_INDEX, &self.index_at.to_le_bytes());
        put(&mut footer, AT_ENTRIES, &self.entries.to_le_bytes());
        put(&mut footer, AT_INDEX_CRC, &self.index_crc.to_le_bytes());
        put(&mut footer, AT_ROWS, &self.rows.to_le_bytes());
        let crc = key.checksum(at, &footer[4..]);
        put(&mut footer, 0, &crc.to_le_bytes());
        footer
    }

    /// The footer that was found at this offset, behind an index of entries of so many bytes.
    pub fn decode(bytes: &[u8], entry_bytes: usize, key: FileKey, at: u64) -> Result<Footer, Bad> {
        let footer = bytes.get(..FOOTER_BYTES).ok_or(Bad::Short)?;
        if footer[4..8] != MAGIC[..] {
            return Err(Bad::Magic);
        }
        if key.checksum(at, &footer[4..]) != u32_at(footer, 0) {
            return Err(Bad::Checksum);
        }
        let (index_at, entries) = (u64_at(footer, AT_INDEX), u32_at(footer, AT_ENTRIES));
        let index_bytes = u64::from(entries) * entry_bytes as u64;
        match index_at.checked_add(index_bytes) == Some(at) {
            true => {
                Ok(Footer { index_at, entries, index_crc: u32_at(footer, AT_INDEX_CRC), rows: u64_at(footer, AT_ROWS) })
            }
            false => Err(Bad::Field),
        }
    }
}
