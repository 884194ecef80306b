//! The header of a segment, which stands on its first and on its last page.

use super::{AT_OWN, Bad, JournalId, Magic, PAGE_BYTES, array_at, begin, checked, finish, hash, put, u64_at};

const MAGIC: &Magic = b"GAFKASEG";
pub const HEADER_BYTES: usize = 128;
/// Where the first block may begin.
pub const BLOCKS_BEGIN: u64 = PAGE_BYTES as u64;

/// Of a segment's length, what is not for records: a header at each end, and a page for a mark.
pub const OVERHEAD_BYTES: u64 = 3 * PAGE_BYTES as u64;

const AT_JOURNAL: usize = 40;
const AT_NUMBER: usize = 56;
const AT_FIRST_LSN: usize = 64;
const AT_LENGTH: usize = 72;
const AT_PREVIOUS: usize = 80;
const AT_PREVIOUS_END: usize = 88;
const AT_PREVIOUS_HASH: usize = 96;
const AT_CREATED: usize = 104;

/// Where a segment validly ends: its number, the byte, and the hash the next block is chained to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    pub segment: u64,
    pub at: u64,
    pub hash: u64,
}

/// What a segment says of itself and of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub salt: [u8; 16],
    pub journal: JournalId,
    pub number: u64,
    pub first_lsn: u64,
    pub length: u64,
    /// The segment before, sealed there; number 0: none.
    pub previous: End,
    pub created_ms: i64,
}

impl SegmentHeader {
    /// Its first bytes; the page they stand on is otherwise zero.
    pub fn encode(&self) -> Vec<u8> {
        let mut header = begin(HEADER_BYTES, MAGIC);
        put(&mut header, AT_OWN, &self.salt);
        put(&mut header, AT_JOURNAL, &self.journal);
        for (at, field) in [
            (AT_NUMBER, self.number),
            (AT_FIRST_LSN, self.first_lsn),
            (AT_LENGTH, self.length),
            (AT_PREVIOUS, self.previous.segment),
            (AT_PREVIOUS_END, self.previous.at),
            (AT_PREVIOUS_HASH, self.previous.hash),
        ] {
            put(&mut header, at, &field.to_le_bytes());
        }
        put(&mut header, AT_CREATED, &self.created_ms.to_le_bytes());
        finish(header)
    }

    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, Bad> {
        let header = checked(bytes, MAGIC)?;
        if header.len() != HEADER_BYTES {
            return Err(Bad::Field);
        }
        Ok(SegmentHeader {
            salt: array_at(header, AT_OWN),
            journal: array_at(header, AT_JOURNAL),
            number: u64_at(header, AT_NUMBER),
            first_lsn: u64_at(header, AT_FIRST_LSN),
            length: u64_at(header, AT_LENGTH),
            previous: End {
                segment: u64_at(header, AT_PREVIOUS),
                at: u64_at(header, AT_PREVIOUS_END),
                hash: u64_at(header, AT_PREVIOUS_HASH),
            },
            created_ms: u64_at(header, AT_CREATED) as i64,
        })
    }

    /// What its first block is chained to.
    pub fn hash(&self) -> u64 {
        hash(&self.encode())
    }

    /// What the checksums of its blocks are begun with.
    pub fn key(&self) -> BlockKey {
        BlockKey::new(&self.salt, self.number)
    }

    /// Where the last block must end.
    pub fn blocks_end(&self) -> u64 {
        self.length - PAGE_BYTES as u64
    }
}

/// What ties a block to this use of this file: salt and number, checksummed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockKey(u32);

impl BlockKey {
    pub fn new(salt: &[u8; 16], number: u64) -> BlockKey {
        BlockKey(crc32c::crc32c_append(crc32c::crc32c(salt), &number.to_le_bytes()))
    }

    /// The checksum of a block at this offset begins with it.
    pub fn at(self, offset: u64) -> u32 {
        crc32c::crc32c_append(self.0, &offset.to_le_bytes())
    }
}
