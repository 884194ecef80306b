//! A closed batch: a 61-byte header apart from the body, so that stamping a producer's identity on it, even again
//! after a retry, never copies a record.

use bytes::{BufMut, Bytes};

use super::builder::{BatchBuilder, HeaderRef, RecordRef};
use super::reader::records_of;
use super::{
    AT_ATTRIBUTES, AT_BASE_SEQUENCE, AT_CRC, AT_PRODUCER_EPOCH, AT_PRODUCER_ID, BatchHeader, MAGIC, NO_PRODUCER_EPOCH,
    NO_PRODUCER_ID, NO_SEQUENCE,
};
use crate::compression::{Compression, compress, decompress};
use crate::limits::{BATCH_HEADER_BYTES, BATCH_LOG_OVERHEAD_BYTES};

/// A batch ready to be sent. Cloning shares the body.
#[derive(Clone, Debug)]
pub struct SealedBatch {
    header: [u8; BATCH_HEADER_BYTES],
    body: Vec<Bytes>,
    body_bytes: usize,
    /// Size of the records before compression; bounds decompression in [`SealedBatch::split`].
    plain_bytes: usize,
    compression: Compression,
    stamped: bool,
}

impl SealedBatch {
    pub(super) fn new(
        chunks: Vec<Bytes>,
        record_count: u32,
        first_timestamp_ms: i64,
        max_timestamp_ms: i64,
        wanted: Compression,
    ) -> SealedBatch {
        let plain_bytes = chunks.iter().map(Bytes::len).sum();
        let (body, used) = compressed_if_smaller(chunks, plain_bytes, wanted);
        let body_bytes: usize = body.iter().map(Bytes::len).sum();
        let record_count = i32::try_from(record_count).expect("a batch has fewer than 2^31 records");
        let length = i32::try_from(BATCH_HEADER_BYTES - BATCH_LOG_OVERHEAD_BYTES + body_bytes)
            .expect("a batch is smaller than 2 GiB");

        let mut header = [0; BATCH_HEADER_BYTES];
        let mut out = &mut header[..];
        out.put_i64(0); // base offset: the broker's
        out.put_i32(length);
        out.put_i32(-1); // partition leader epoch: the broker's
        out.put_i8(MAGIC);
        out.put_u32(0); // checksum: made by `stamp`
        out.put_i16(used as i16);
        out.put_i32(record_count - 1);
        out.put_i64(first_timestamp_ms);
        out.put_i64(max_timestamp_ms);
        out.put_i64(NO_PRODUCER_ID);
        out.put_i16(NO_PRODUCER_EPOCH);
        out.put_i32(NO_SEQUENCE);
        out.put_i32(record_count);
        assert!(out.is_empty(), "the header has 61 bytes");
        SealedBatch { header, body, body_bytes, plain_bytes, compression: wanted, stamped: false }
    }

    /// Writes the producer's identity ([`NO_PRODUCER_ID`] and its companions for none) and the checksum, which is
    /// taken over the rest of the header and then chunk by chunk. Costs one pass over the body (60 ns per KiB).
    pub fn stamp(&mut self, producer_id: i64, epoch: i16, base_sequence: i32) {
        self.header[AT_PRODUCER_ID..AT_PRODUCER_EPOCH].copy_from_slice(&producer_id.to_be_bytes());
        self.header[AT_PRODUCER_EPOCH..AT_BASE_SEQUENCE].copy_from_slice(&epoch.to_be_bytes());
        self.header[AT_BASE_SEQUENCE..AT_BASE_SEQUENCE + 4].copy_from_slice(&base_sequence.to_be_bytes());
        let crc = self.crc();
        self.header[AT_CRC..AT_ATTRIBUTES].copy_from_slice(&crc.to_be_bytes());
        self.stamped = true;
    }

    fn crc(&self) -> u32 {
        let head = crc32c::crc32c(&self.header[AT_ATTRIBUTES..]);
        self.body.iter().fold(head, |crc, chunk| crc32c::crc32c_append(crc, chunk))
    }

    pub fn record_count(&self) -> u32 {
        self.decoded().record_count as u32
    }

    /// Size on the wire, header included.
    pub fn bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.body_bytes
    }

    /// The header. Its checksum is zero until the batch is stamped.
    pub fn header(&self) -> &[u8; BATCH_HEADER_BYTES] {
        &self.header
    }

    /// The header as it may be sent: a batch that was never stamped gets its checksum here, without an identity.
    pub fn header_to_send(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut header = self.header;
        if !self.stamped {
            header[AT_CRC..AT_ATTRIBUTES].copy_from_slice(&self.crc().to_be_bytes());
        }
        header
    }

    /// The records, encoded, in order.
    pub fn body(&self) -> &[Bytes] {
        &self.body
    }

    pub fn max_timestamp_ms(&self) -> i64 {
        self.decoded().max_timestamp_ms
    }

    /// The header's fields.
    pub fn decoded(&self) -> BatchHeader {
        BatchHeader::decode(&self.header).expect("a header of ours decodes")
    }

    /// The whole batch in one buffer, as it goes to a log or a test.
    pub fn to_bytes(&self) -> Bytes {
        let mut whole = Vec::with_capacity(self.bytes());
        whole.extend_from_slice(&self.header_to_send());
        self.body.iter().for_each(|chunk| whole.extend_from_slice(chunk));
        Bytes::from(whole)
    }

    /// Two batches with the first half of the records (the larger one when odd) and the rest, for a broker that
    /// answered MESSAGE_TOO_LARGE; `None` for a single record. Both are unstamped: the second one's base sequence is
    /// the first one's plus its record count.
    pub fn split(&self) -> Option<(SealedBatch, SealedBatch)> {
        let header = self.decoded();
        let count = self.record_count();
        if count < 2 {
            return None;
        }
        let whole: Vec<u8> = self.body.concat();
        let codec = header.compression().expect("our own codec");
        let plain = match codec {
            Compression::None => whole,
            codec => decompress(codec, &whole, self.plain_bytes).expect("what we compressed decompresses"),
        };
        let records = records_of(header, Bytes::from(plain));
        let first_count = count.div_ceil(2);
        let mut halves = [BatchBuilder::with_capacity(self.plain_bytes), BatchBuilder::with_capacity(self.plain_bytes)];
        for (index, record) in records.enumerate() {
            let record = record.expect("a record of ours decodes");
            let headers: Vec<HeaderRef<'_>> =
                record.headers.iter_refs().map(|(name, value)| HeaderRef { name, value }).collect();
            let half = usize::from(index as u32 >= first_count);
            halves[half].append(&RecordRef {
                timestamp_ms: record.timestamp_ms,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            });
        }
        Some(halves.map(|half| half.seal(self.compression)).into())
    }
}

/// Compresses the chunks into one, unless that does not make them smaller.
fn compressed_if_smaller(chunks: Vec<Bytes>, plain_bytes: usize, wanted: Compression) -> (Vec<Bytes>, Compression) {
    if wanted == Compression::None {
        return (chunks, Compression::None);
    }
    let compressed = match chunks.as_slice() {
        [chunk] => compress(wanted, chunk),
        chunks => compress(wanted, &chunks.concat()),
    };
    match compressed {
        Ok(compressed) if compressed.len() < plain_bytes => (vec![Bytes::from(compressed)], wanted),
        _ => (chunks, Compression::None),
    }
}
