//! The open batch: records are encoded while they arrive, so sealing has nothing left to do but the header.
//!
//! Cost of one record of 1 KiB: one copy of its bytes (12 ns), about twenty bytes of varints written from the stack,
//! no allocation of its own. A value of 16 KiB or more may be linked instead ([`BatchBuilder::append_shared`]).
//!
//! Invariants:
//! - `chunks` followed by `tail` are the encoded records, in order.
//! - Record `n` has offset delta `n`; timestamp deltas count from the first record's timestamp and may be negative.

use bytes::{Bytes, BytesMut};

use super::sealed::SealedBatch;
use crate::compression::Compression;
use crate::limits::{BATCH_HEADER_BYTES, VALUE_LINK_BYTES_MIN};
use crate::primitive::{Small, varint_bytes};

/// One record header. Kafka allows any bytes as a name although clients show text; duplicates and order are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    pub name: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// One record to be written. `timestamp_ms` is epoch milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [HeaderRef<'a>],
}

/// A batch that records are appended to. The caller keeps it below the broker's `max.message.bytes` by asking
/// [`BatchBuilder::bytes_with`] first.
#[derive(Debug)]
pub struct BatchBuilder {
    chunks: Vec<Bytes>,
    chunk_bytes: usize,
    tail: BytesMut,
    record_count: u32,
    first_timestamp_ms: i64,
    max_timestamp_ms: i64,
}

impl BatchBuilder {
    /// An empty batch whose buffer holds `bytes` of encoded records before it grows.
    pub fn with_capacity(bytes: usize) -> BatchBuilder {
        BatchBuilder {
            chunks: Vec::new(),
            chunk_bytes: 0,
            tail: BytesMut::with_capacity(bytes),
            record_count: 0,
            first_timestamp_ms: 0,
            max_timestamp_ms: i64::MIN,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Size of the batch if it were sealed now without compression, its 61-byte header included.
    pub fn bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.chunk_bytes + self.tail.len()
    }

    /// [`BatchBuilder::bytes`] if `record` were appended.
    pub fn bytes_with(&self, record: &RecordRef<'_>) -> usize {
        let body_bytes = self.body_bytes(record, record.value.map(<[u8]>::len));
        self.bytes() + varint_bytes(body_bytes as i64) + body_bytes
    }

    /// Appends a record and gives its index in the batch.
    pub fn append(&mut self, record: &RecordRef<'_>) -> u32 {
        self.begin(record, record.value.map(<[u8]>::len));
        self.tail.extend_from_slice(record.value.unwrap_or_default());
        self.end(record)
    }

    /// Appends a record whose value is `value` (`record.value` is ignored): linked when it is large, copied below
    /// [`VALUE_LINK_BYTES_MIN`], where that is cheaper.
    pub fn append_shared(&mut self, record: &RecordRef<'_>, value: Bytes) -> u32 {
        self.begin(record, Some(value.len()));
        if value.len() < VALUE_LINK_BYTES_MIN {
            self.tail.extend_from_slice(&value);
        } else {
            let head = self.tail.split().freeze();
            self.chunk_bytes += head.len() + value.len();
            self.chunks.push(head);
            self.chunks.push(value);
        }
        self.end(record)
    }

    /// Closes the batch. With a codec the records are compressed as one block; a block that did not shrink is sent
    /// plain. The header's checksum is made by [`SealedBatch::stamp`].
    pub fn seal(mut self, compression: Compression) -> SealedBatch {
        assert!(!self.is_empty(), "an empty batch is never sealed");
        if !self.tail.is_empty() {
            self.chunks.push(self.tail.freeze());
        }
        SealedBatch::new(self.chunks, self.record_count, self.first_timestamp_ms, self.max_timestamp_ms, compression)
    }

    /// Everything of a record up to its value.
    fn begin(&mut self, record: &RecordRef<'_>, value_bytes: Option<usize>) {
        if self.record_count == 0 {
            self.first_timestamp_ms = record.timestamp_ms;
        }
        self.max_timestamp_ms = self.max_timestamp_ms.max(record.timestamp_ms);
        let body_bytes = self.body_bytes(record, value_bytes);
        assert!(i32::try_from(body_bytes).is_ok(), "a record of {body_bytes} bytes cannot be encoded");
        let key_bytes = record.key.map_or(-1, |key| key.len() as i64);

        let mut head = Small::new();
        head.varint(body_bytes as i64);
        head.u8(0); // attributes: none are defined for a record
        head.varint(record.timestamp_ms.wrapping_sub(self.first_timestamp_ms));
        head.varint(i64::from(self.record_count));
        head.varint(key_bytes);
        match record.key {
            Some(key) if !key.is_empty() => {
                self.tail.extend_from_slice(head.as_slice());
                self.tail.extend_from_slice(key);
                head = Small::new();
            }
            _ => {}
        }
        head.varint(value_bytes.map_or(-1, |bytes| bytes as i64));
        self.tail.extend_from_slice(head.as_slice());
    }

    /// Everything of a record after its value; gives its index.
    fn end(&mut self, record: &RecordRef<'_>) -> u32 {
        let mut small = Small::new();
        small.varint(record.headers.len() as i64);
        self.tail.extend_from_slice(small.as_slice());
        for header in record.headers {
            self.header_part(Some(header.name));
            self.header_part(header.value);
        }
        self.record_count += 1;
        self.record_count - 1
    }

    fn header_part(&mut self, part: Option<&[u8]>) {
        let mut small = Small::new();
        small.varint(part.map_or(-1, |part| part.len() as i64));
        self.tail.extend_from_slice(small.as_slice());
        self.tail.extend_from_slice(part.unwrap_or_default());
    }

    /// Encoded size of a record without its length.
    fn body_bytes(&self, record: &RecordRef<'_>, value_bytes: Option<usize>) -> usize {
        let timestamp_delta = match self.record_count {
            0 => 0,
            _ => record.timestamp_ms.wrapping_sub(self.first_timestamp_ms),
        };
        let mut bytes = 1 + varint_bytes(timestamp_delta) + varint_bytes(i64::from(self.record_count));
        bytes += optional_bytes(record.key.map(<[u8]>::len)) + optional_bytes(value_bytes);
        bytes += varint_bytes(record.headers.len() as i64);
        for header in record.headers {
            bytes += optional_bytes(Some(header.name.len())) + optional_bytes(header.value.map(<[u8]>::len));
        }
        bytes
    }
}

/// Encoded size of a nullable field of `bytes` bytes.
fn optional_bytes(bytes: Option<usize>) -> usize {
    match bytes {
        None => 1,
        Some(bytes) => varint_bytes(bytes as i64) + bytes,
    }
}
