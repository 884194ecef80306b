//! Record batches, magic 2 (Kafka 0.11 and later, KIP-98): written without copying large values, read as slices.
//!
//! ```text
//!   0  base offset i64            ┐ not covered by the checksum: a broker writes both when it appends
//!   8  length i32 (of what follows)│
//!  12  partition leader epoch i32 ┘
//!  16  magic i8 = 2
//!  17  crc u32, CRC-32C of everything from byte 21 to the end
//!  21  attributes i16: codec (3 bits) | 8 log append time | 16 transactional | 32 control | 64 delete horizon
//!  23  last offset delta i32
//!  27  first timestamp i64        35  max timestamp i64
//!  43  producer id i64            51  producer epoch i16       53  base sequence i32
//!  57  record count i32
//!  61  records, compressed as one when a codec is set:
//!      length varint | attributes i8 | timestamp delta varlong | offset delta varint
//!      | key length varint, key | value length varint, value | header count varint, (name, value)...
//! ```
//!
//! [`BatchBuilder`] writes, [`SealedBatch`] is what it becomes, [`batches`] reads. The functions here look at or
//! change a batch as bytes, which is what a broker or a proxy does with one.

mod builder;
pub mod count;
mod reader;
mod sealed;

pub use builder::{BatchBuilder, HeaderRef, RecordRef};
pub use reader::{Batch, Batches, Headers, Opening, Record, RecordView, Records, batches};
pub use sealed::SealedBatch;

use bytes::Bytes;

use crate::compression::Compression;
use crate::limits::{BATCH_HEADER_BYTES, BATCH_LOG_OVERHEAD_BYTES};
use crate::primitive::Reader;
use crate::wire_error::WireError;

/// Producer id, epoch and sequence of a batch that is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
pub const NO_PRODUCER_EPOCH: i16 = -1;
pub const NO_SEQUENCE: i32 = -1;
/// Timestamp of a record that does not say when it is from.
pub const NO_TIMESTAMP_MS: i64 = -1;

const MAGIC: i8 = 2;
const AT_LENGTH: usize = 8;
const AT_LEADER_EPOCH: usize = 12;
const AT_MAGIC: usize = 16;
const AT_CRC: usize = 17;
/// The checksum covers everything from here.
const AT_ATTRIBUTES: usize = 21;
const AT_MAX_TIMESTAMP: usize = 35;
const AT_PRODUCER_ID: usize = 43;
const AT_PRODUCER_EPOCH: usize = 51;
const AT_BASE_SEQUENCE: usize = 53;
const AT_RECORD_COUNT: usize = 57;

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// What a batch says about its records, decoded from its first 61 bytes. Nothing of it is believed about the records
/// until they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes of the batch after this field.
    pub length: i32,
    pub partition_leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub first_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads a header. `bytes` may go on after it; lengths are not compared with what follows.
    pub fn decode(bytes: &[u8]) -> Result<BatchHeader, WireError> {
        let mut reader = Reader::new(bytes);
        let base_offset = reader.i64("batch base offset")?;
        let length = reader.i32("batch length")?;
        let partition_leader_epoch = reader.i32("partition leader epoch")?;
        let magic = reader.i8("batch magic")?;
        if magic != MAGIC {
            return Err(WireError::Magic { offset: 0, magic });
        }
        Ok(BatchHeader {
            base_offset,
            length,
            partition_leader_epoch,
            magic,
            crc: reader.u32("batch crc")?,
            attributes: reader.i16("batch attributes")?,
            last_offset_delta: reader.i32("last offset delta")?,
            first_timestamp_ms: reader.i64("first timestamp")?,
            max_timestamp_ms: reader.i64("max timestamp")?,
            producer_id: reader.i64("producer id")?,
            producer_epoch: reader.i16("producer epoch")?,
            base_sequence: reader.i32("base sequence")?,
            record_count: reader.i32("record count")?,
        })
    }

    /// The codec of the records; an error for the three numbers no codec has.
    pub fn compression(&self) -> Result<Compression, WireError> {
        let id = self.attributes & CODEC_MASK;
        Compression::from_id(id as u8).ok_or(WireError::Invalid {
            what: "compression codec",
            offset: AT_ATTRIBUTES,
            found: i64::from(id),
        })
    }

    /// Transaction markers and the like; not for consumers.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// True when every record's timestamp is the batch's max timestamp, set by the broker.
    pub fn log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    /// Offset of the last record the batch stands for; compaction may have removed that record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// Sequence of the last record, wrapping from `i32::MAX` to 0 as Kafka's do; -1 without one.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence {
            NO_SEQUENCE => NO_SEQUENCE,
            base => (i64::from(base) + i64::from(self.last_offset_delta)).rem_euclid(1 << 31) as i32,
        }
    }

    /// Bytes of the whole batch, if its length is one a batch can have.
    pub fn batch_bytes(&self) -> Option<usize> {
        let length = usize::try_from(self.length).ok()?;
        (length >= BATCH_HEADER_BYTES - BATCH_LOG_OVERHEAD_BYTES).then_some(length + BATCH_LOG_OVERHEAD_BYTES)
    }
}

/// What a broker checks before it appends a batch a producer sent: exactly one batch of magic 2, lengths that add up,
/// the checksum, and as many records as offsets. The records themselves: [`Batch::validate_records`].
pub fn validate_batch(bytes: &Bytes) -> Result<BatchHeader, WireError> {
    let header = BatchHeader::decode(bytes)?;
    let batch_bytes = header.batch_bytes().ok_or(WireError::Invalid {
        what: "batch length",
        offset: AT_LENGTH,
        found: i64::from(header.length),
    })?;
    if batch_bytes > bytes.len() {
        return Err(WireError::Truncated {
            what: "record batch",
            offset: AT_LENGTH + 4,
            need: batch_bytes - BATCH_LOG_OVERHEAD_BYTES,
            left: bytes.len() - BATCH_LOG_OVERHEAD_BYTES,
        });
    }
    if batch_bytes < bytes.len() {
        let left = bytes.len() - batch_bytes;
        return Err(WireError::TrailingBytes { what: "record batch", offset: batch_bytes, left });
    }
    header.compression()?;
    if header.record_count <= 0 || header.record_count != header.last_offset_delta.wrapping_add(1) {
        let found = i64::from(header.record_count);
        return Err(WireError::Invalid { what: "record count", offset: 57, found });
    }
    verify_crc(bytes)?;
    Ok(header)
}

/// Compares the stored checksum of one whole batch with its bytes.
fn verify_crc(batch: &[u8]) -> Result<(), WireError> {
    let stored = u32::from_be_bytes(batch[AT_CRC..AT_ATTRIBUTES].try_into().expect("four bytes"));
    let computed = crc32c::crc32c(&batch[AT_ATTRIBUTES..]);
    if stored == computed { Ok(()) } else { Err(WireError::Crc { stored, computed }) }
}

/// Gives a batch its place in a log. The checksum does not cover these fields, so nothing else changes.
///
/// # Panics
/// When `batch` is shorter than a batch header.
pub fn patch_base_offset(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(batch.len() >= BATCH_HEADER_BYTES, "{} bytes are no batch", batch.len());
    batch[..AT_LENGTH].copy_from_slice(&base_offset.to_be_bytes());
    batch[AT_LEADER_EPOCH..AT_MAGIC].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Makes `now_ms` (epoch milliseconds) the timestamp of every record of a whole batch, as a topic with
/// `message.timestamp.type=LogAppendTime` does, and renews the checksum.
///
/// # Panics
/// When `batch` is shorter than a batch header.
pub fn set_log_append_time(batch: &mut [u8], now_ms: i64) {
    assert!(batch.len() >= BATCH_HEADER_BYTES, "{} bytes are no batch", batch.len());
    batch[AT_ATTRIBUTES + 1] |= LOG_APPEND_TIME as u8;
    batch[AT_MAX_TIMESTAMP..AT_PRODUCER_ID].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc32c::crc32c(&batch[AT_ATTRIBUTES..]);
    batch[AT_CRC..AT_ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
}

/// Sets the largest timestamp of an encoded batch and its checksum, as a broker does when the header does not say what
/// the records do.
///
/// # Panics
/// When `batch` is shorter than a batch header.
pub fn set_max_timestamp(batch: &mut [u8], max_timestamp_ms: i64) {
    assert!(batch.len() >= BATCH_HEADER_BYTES, "{} bytes are no batch", batch.len());
    batch[AT_MAX_TIMESTAMP..AT_PRODUCER_ID].copy_from_slice(&max_timestamp_ms.to_be_bytes());
    let crc = crc32c::crc32c(&batch[AT_ATTRIBUTES..]);
    batch[AT_CRC..AT_ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
}
