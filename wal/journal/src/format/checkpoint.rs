//! A checkpoint: what its user knew at an lsn, and which segments it still needs.

use super::{AT_OWN, Bad, JournalId, Magic, NUMBERS_END, array_at, begin, checked, finish, put, u32_at, u64_at};
use crate::limits::{CHECKPOINT_BLOB_BYTES_MAX, CHECKPOINT_SEGMENTS_MAX, SEGMENT_BYTES_MAX};

const MAGIC: &Magic = b"GAFKACHK";
const HEADER_BYTES: usize = 72;
const SEGMENT_BYTES: usize = 40;

const AT_NUMBER: usize = 40;
const AT_LSN: usize = 48;
const AT_BLOB_BYTES: usize = 56;
const AT_SEGMENTS: usize = 64;
const AT_BODY_CRC: usize = 68;

/// A segment as far as it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub number: u64,
    pub first_lsn: u64,
    /// The lsn after its last record.
    pub next_lsn: u64,
    pub end: u64,
    /// Of its last block, or of its header.
    pub last_hash: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub journal: JournalId,
    pub number: u64,
    /// Replay begins here.
    pub lsn: u64,
    pub segments: Vec<Extent>,
    pub blob: Vec<u8>,
}

impl Checkpoint {
    /// # Panics
    /// When it is beyond the limits, which are checked where it is asked for.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.blob.len() as u64 <= CHECKPOINT_BLOB_BYTES_MAX);
        assert!(self.segments.len() as u64 <= u64::from(CHECKPOINT_SEGMENTS_MAX));
        let mut body = Vec::with_capacity(self.segments.len() * SEGMENT_BYTES + self.blob.len());
        for extent in &self.segments {
            let Extent { number, first_lsn, next_lsn, end, last_hash } = *extent;
            for field in [number, first_lsn, next_lsn, end, last_hash] {
                body.extend_from_slice(&field.to_le_bytes());
            }
        }
        body.extend_from_slice(&self.blob);
        let mut header = begin(HEADER_BYTES, MAGIC);
        put(&mut header, AT_OWN, &self.journal);
        put(&mut header, AT_NUMBER, &self.number.to_le_bytes());
        put(&mut header, AT_LSN, &self.lsn.to_le_bytes());
        put(&mut header, AT_BLOB_BYTES, &(self.blob.len() as u64).to_le_bytes());
        put(&mut header, AT_SEGMENTS, &(self.segments.len() as u32).to_le_bytes());
        put(&mut header, AT_BODY_CRC, &crc32c::crc32c(&body).to_le_bytes());
        let mut whole = finish(header);
        whole.append(&mut body);
        whole
    }

    pub fn decode(bytes: &[u8]) -> Result<Checkpoint, Bad> {
        let header = checked(bytes, MAGIC)?;
        if header.len() != HEADER_BYTES {
            return Err(Bad::Field);
        }
        let (blob_bytes, segment_count) = (u64_at(header, AT_BLOB_BYTES), u32_at(header, AT_SEGMENTS));
        if blob_bytes > CHECKPOINT_BLOB_BYTES_MAX || segment_count > CHECKPOINT_SEGMENTS_MAX {
            return Err(Bad::Field);
        }
        let table_bytes = segment_count as usize * SEGMENT_BYTES;
        let body = bytes.get(HEADER_BYTES..HEADER_BYTES + table_bytes + blob_bytes as usize).ok_or(Bad::Short)?;
        if crc32c::crc32c(body) != u32_at(header, AT_BODY_CRC) {
            return Err(Bad::Checksum);
        }
        let (table, blob) = body.split_at(table_bytes);
        let extent = |entry: &[u8]| {
            let [number, first_lsn, next_lsn, end, last_hash] = [0, 8, 16, 24, 32].map(|at| u64_at(entry, at));
            Extent { number, first_lsn, next_lsn, end, last_hash }
        };
        let segments: Vec<Extent> = table.chunks_exact(SEGMENT_BYTES).map(extent).collect();
        let (number, lsn) = (u64_at(header, AT_NUMBER), u64_at(header, AT_LSN));
        let fits = |extent: &Extent| {
            let Extent { number, first_lsn, next_lsn, end, .. } = *extent;
            number < NUMBERS_END && first_lsn <= next_lsn && next_lsn < NUMBERS_END && end <= SEGMENT_BYTES_MAX
        };
        if number >= NUMBERS_END || lsn >= NUMBERS_END || !segments.iter().all(fits) {
            return Err(Bad::Field);
        }
        Ok(Checkpoint { journal: array_at(header, AT_OWN), number, lsn, segments, blob: blob.to_vec() })
    }
}
