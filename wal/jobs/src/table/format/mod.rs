//! The bytes of "Tables of jobs" in `wal/FORMAT.md`: encoders, and decoders that take any bytes at all.
//!
//! Pure. A decoder never allocates more than what its input holds.

pub mod block;
pub mod page;
pub mod tail;

use journal::format::{AT_OWN, Bad, JournalId, Magic, array_at, begin, checked, finish, put, u32_at, u64_at};

/// Blocks begin on one, so that after a rotten block the next is found without reading every byte as a begin.
pub const SECTOR_BYTES: usize = 512;

/// Which store's tables these are: 16 random bytes, those of its journal.
pub type StoreId = JournalId;

const PART_MAGIC: &Magic = b"GAFKAJOB";
const DIRECTORY_MAGIC: &Magic = b"GAFKAJDR";
const HEADER_BYTES: usize = 56;
const AT_NUMBER: usize = 40;
const AT_PART: usize = 48;

/// In the place of a part's number: the directory, and what it is sorted from.
pub const DIRECTORY: u32 = u32::MAX;
pub const RUN: u32 = u32::MAX - 1;

/// What a file of a table says of itself, on its first page, the rest of which is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub store: StoreId,
    pub number: u64,
    /// Or [`DIRECTORY`].
    pub part: u32,
}

impl Header {
    fn magic(part: u32) -> &'static Magic {
        if part == DIRECTORY { DIRECTORY_MAGIC } else { PART_MAGIC }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut header = begin(HEADER_BYTES, Header::magic(self.part));
        put(&mut header, AT_OWN, &self.store);
        put(&mut header, AT_NUMBER, &self.number.to_le_bytes());
        put(&mut header, AT_PART, &self.part.to_le_bytes());
        finish(header)
    }

    pub fn decode(bytes: &[u8]) -> Result<Header, Bad> {
        let header = match checked(bytes, PART_MAGIC) {
            Err(Bad::Magic) => checked(bytes, DIRECTORY_MAGIC)?,
            header => header?,
        };
        if header.len() != HEADER_BYTES {
            return Err(Bad::Field);
        }
        let (number, part) = (u64_at(header, AT_NUMBER), u32_at(header, AT_PART));
        match checked(bytes, Header::magic(part)).is_ok() && u32_at(header, AT_PART + 4) == 0 {
            true => Ok(Header { store: array_at(header, AT_OWN), number, part }),
            false => Err(Bad::Field),
        }
    }

    /// What the checksums of its blocks, its pages and its index begin with.
    pub fn key(&self) -> FileKey {
        let of_table = crc32c::crc32c_append(crc32c::crc32c(&self.store), &self.number.to_le_bytes());
        FileKey(crc32c::crc32c_append(of_table, &self.part.to_le_bytes()))
    }
}

/// What ties bytes to one file of one table of one store: all three, checksummed. So a block that turns up elsewhere, by
/// a mistake of a file system or of a hand, is not believed there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileKey(u32);

impl FileKey {
    /// The checksum of what stands at this offset.
    pub fn checksum(self, at: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c_append(self.0, &at.to_le_bytes()), bytes)
    }
}

/// Seven bits a byte, the lowest first; every byte but the last has its highest bit set. At most ten bytes.
pub(super) fn put_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

pub(super) fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        number |= part << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Small numbers of either sign as small ones: 0, -1, 1, -2 become 0, 1, 2, 3.
pub(super) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

pub(super) fn take_u32(bytes: &[u8], at: &mut usize) -> Option<u32> {
    u32::try_from(take_varint(bytes, at)?).ok()
}
