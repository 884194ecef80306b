//! Batches and records out of received bytes, as slices of them.
//!
//! A Fetch response ends wherever the broker's byte limit fell, so a truncated last batch is normal: [`Batches`] ends
//! quietly there and says so. Everything else that does not add up is an error.
//!
//! Invariants:
//! - A [`Record`]'s key, value and headers share the memory of the batch (or of its decompressed body); nothing is
//!   copied.
//! - A record's headers are walked once when the record is read, so iterating over [`Headers`] cannot fail.

use bytes::{Bytes, BytesMut};

use super::{AT_LENGTH, AT_MAGIC, BatchHeader, MAGIC, NO_TIMESTAMP_MS, verify_crc};
use crate::compression::{Compression, Decompressing, decompress};
use crate::limits::{BATCH_HEADER_BYTES, BATCH_LOG_OVERHEAD_BYTES};
use crate::primitive::{Reader, share};
use crate::wire_error::WireError;

/// The batches in `bytes`: the records of one partition of a Fetch response or a Produce request.
pub fn batches(bytes: Bytes) -> Batches {
    Batches { bytes, at: 0, truncated: false, failed: false }
}

/// See [`batches`]. After an error the iteration is over.
#[derive(Debug, Clone)]
pub struct Batches {
    bytes: Bytes,
    at: usize,
    truncated: bool,
    failed: bool,
}

impl Batches {
    /// True once the iteration has met a batch that is cut off by the end of the bytes.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    fn read(&mut self) -> Result<Option<Batch>, WireError> {
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Ok(None);
        }
        // The magic comes first: message sets of magic 0 and 1 keep it at the same place, with smaller lengths.
        if let Some(&magic) = rest.get(AT_MAGIC)
            && magic as i8 != MAGIC
        {
            return Err(WireError::Magic { offset: self.at, magic: magic as i8 });
        }
        let Some(length) = rest.get(AT_LENGTH..).and_then(|rest| rest.first_chunk::<4>()) else {
            self.truncated = true;
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        let batch_bytes = match usize::try_from(length) {
            Ok(length) if length >= BATCH_HEADER_BYTES - BATCH_LOG_OVERHEAD_BYTES => length + BATCH_LOG_OVERHEAD_BYTES,
            _ => {
                let (offset, found) = (self.at + AT_LENGTH, i64::from(length));
                return Err(WireError::Invalid { what: "batch length", offset, found });
            }
        };
        if batch_bytes > rest.len() {
            self.truncated = true;
            return Ok(None);
        }
        let bytes = self.bytes.slice(self.at..self.at + batch_bytes);
        self.at += batch_bytes;
        let header = BatchHeader::decode(&bytes)?;
        Ok(Some(Batch { header, bytes }))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.truncated {
            return None;
        }
        let item = self.read().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

/// One whole batch. Its lengths are checked, its checksum and its records are not until asked for.
#[derive(Debug, Clone)]
pub struct Batch {
    pub header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// The batch as received, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Compares the checksum with the bytes.
    pub fn verify_crc(&self) -> Result<(), WireError> {
        verify_crc(&self.bytes)
    }

    /// The records. A compressed body is decompressed here, into at most `limit` bytes.
    pub fn records(&self, limit: usize) -> Result<Records, WireError> {
        let body = self.bytes.slice(BATCH_HEADER_BYTES..);
        let body = match self.header.compression()? {
            Compression::None => body,
            codec => Bytes::from(decompress(codec, &body, limit)?),
        };
        self.check_record_count()?;
        Ok(records_of(self.header, body))
    }

    /// As [`Batch::records`], but a compressed body is decompressed in steps.
    pub fn open(&self, limit: usize) -> Result<Opening, WireError> {
        self.check_record_count()?;
        let body = self.bytes.slice(BATCH_HEADER_BYTES..);
        Ok(match self.header.compression()? {
            Compression::None => Opening::Open(records_of(self.header, body)),
            codec => Opening::Compressed(self.header, Decompressing::new(codec, body, limit)?),
        })
    }

    fn check_record_count(&self) -> Result<(), WireError> {
        if self.header.record_count < 0 {
            let found = i64::from(self.header.record_count);
            return Err(WireError::Invalid { what: "record count", offset: 57, found });
        }
        Ok(())
    }

    /// Walks every record as a broker does before appending: they fill the body exactly and their offset deltas are
    /// 0, 1, 2 and so on. Returns their largest timestamp, which the header need not know: older clients leave it unset,
    /// or take the last record's.
    pub fn validate_records(&self, limit: usize) -> Result<i64, WireError> {
        let records = self.records(limit)?;
        if records.remaining() == 0 {
            // Compaction leaves such batches, with nothing in them.
            return Reader::new(&records.body).finish("record batch").map(|()| self.header.max_timestamp_ms);
        }
        let mut largest_ms = NO_TIMESTAMP_MS;
        let mut expected = self.header.base_offset;
        let mut views = records.views();
        while let Some(record) = views.next().transpose()? {
            if record.offset != expected {
                let found = record.offset.wrapping_sub(self.header.base_offset);
                return Err(WireError::Invalid { what: "record offset delta", offset: 0, found });
            }
            expected = expected.wrapping_add(1);
            largest_ms = largest_ms.max(record.timestamp_ms);
        }
        Ok(largest_ms)
    }
}

/// A batch on its way to its records.
#[derive(Debug)]
pub enum Opening {
    /// Nothing had to be decompressed, or it is done.
    Open(Records),
    Compressed(BatchHeader, Decompressing),
}

impl Opening {
    /// Decompresses about `bytes` more.
    pub fn step(self, bytes: usize) -> Result<Opening, WireError> {
        let Opening::Compressed(header, mut decompressing) = self else { return Ok(self) };
        Ok(match decompressing.step(bytes)? {
            true => Opening::Open(records_of(header, decompressing.into_bytes())),
            false => Opening::Compressed(header, decompressing),
        })
    }
}

/// Records over an uncompressed body.
pub(super) fn records_of(header: BatchHeader, body: Bytes) -> Records {
    Records { header, left: header.record_count.max(0) as u32, at: 0, body }
}

/// The records of one batch, owned slices. After an error the iteration is over.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    body: Bytes,
    at: usize,
    left: u32,
}

impl Records {
    /// How many records the batch says are still to come.
    pub fn remaining(&self) -> u32 {
        self.left
    }

    /// Bytes of the uncompressed body, which any of its records keeps in memory.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// The same records, borrowed: no reference counts. For those who look and go on.
    pub fn views(&self) -> impl Iterator<Item = Result<RecordView<'_>, WireError>> {
        let (mut at, mut left) = (self.at, self.left);
        std::iter::from_fn(move || next_view(&self.header, &self.body, &mut at, &mut left))
    }
}

impl Iterator for Records {
    type Item = Result<Record, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        let view = match next_view(&self.header, &self.body, &mut self.at, &mut self.left)? {
            Ok(view) => view,
            Err(err) => return Some(Err(err)),
        };
        let own = |part: Option<&[u8]>| part.map(|part| share(&self.body, part));
        Some(Ok(Record {
            offset: view.offset,
            timestamp_ms: view.timestamp_ms,
            key: own(view.key),
            value: own(view.value),
            headers: match view.header_count {
                0 => Headers::default(),
                count => Headers { bytes: share(&self.body, view.header_bytes), count },
            },
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize))
    }
}

/// One record, owning slices of the batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    /// Epoch milliseconds; the batch's append time when the topic says so.
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Headers,
}

impl Record {
    /// The same record in memory of its own, so that it does not keep its batch.
    pub fn unpinned(&self) -> Record {
        let bytes_of = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let bytes = bytes_of(&self.key) + bytes_of(&self.value) + self.headers.bytes.len();
        let mut copy = BytesMut::with_capacity(bytes);
        let mut own = |part: &Bytes| {
            copy.extend_from_slice(part);
            copy.split().freeze()
        };
        Record {
            key: self.key.as_ref().map(&mut own),
            value: self.value.as_ref().map(&mut own),
            headers: Headers { bytes: own(&self.headers.bytes), count: self.headers.count },
            ..*self
        }
    }
}

/// One record, borrowed from the batch.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    header_bytes: &'a [u8],
    header_count: u32,
}

impl<'a> RecordView<'a> {
    /// The record's headers in order, duplicates kept.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        HeaderRefs { reader: Reader::new(self.header_bytes), left: self.header_count }
    }
}

/// A record's headers, decoded while iterating. Order and duplicates are kept; names are any bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    bytes: Bytes,
    count: u32,
}

impl Headers {
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Name and value of each header; the value is a slice that may be kept.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<Bytes>)> {
        self.refs().map(|(name, value)| (name, value.map(|value| share(&self.bytes, value))))
    }

    /// Name and value of each header, borrowed.
    pub fn iter_refs(&self) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> {
        self.refs()
    }

    /// Value of the last header with this name, which is the one that counts for Kafka's `lastHeader`.
    pub fn last(&self, name: &[u8]) -> Option<Option<&[u8]>> {
        self.refs().filter(|(found, _)| *found == name).last().map(|(_, value)| value)
    }

    fn refs(&self) -> HeaderRefs<'_> {
        HeaderRefs { reader: Reader::new(&self.bytes), left: self.count }
    }
}

struct HeaderRefs<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl<'a> Iterator for HeaderRefs<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(header(&mut self.reader).expect("headers were walked when their record was read"))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for HeaderRefs<'_> {}

/// Reads the record at `at`. `left` becomes 0 on an error, which ends the iteration.
#[inline]
fn next_view<'a>(
    batch: &BatchHeader,
    body: &'a [u8],
    at: &mut usize,
    left: &mut u32,
) -> Option<Result<RecordView<'a>, WireError>> {
    if *left == 0 {
        return None;
    }
    *left -= 1;
    let mut reader = Reader::new(body);
    let result = reader.take(*at, "record").and_then(|_| record(batch, &mut reader)).and_then(|view| {
        *at = reader.offset();
        if *left == 0 { reader.finish("record batch").map(|()| view) } else { Ok(view) }
    });
    if result.is_err() {
        *left = 0;
    }
    Some(result)
}

#[inline]
fn record<'a>(batch: &BatchHeader, reader: &mut Reader<'a>) -> Result<RecordView<'a>, WireError> {
    let start = reader.offset();
    let length = reader.varint("record length")?;
    let Ok(length) = usize::try_from(length) else {
        return Err(WireError::Invalid { what: "record length", offset: start, found: i64::from(length) });
    };
    let body_start = reader.offset();
    let mut fields = Reader::new(reader.take(length, "record")?);
    let view = record_fields(batch, &mut fields);
    view.and_then(|view| fields.finish("record").map(|()| view)).map_err(|err| shifted(err, body_start))
}

#[inline]
fn record_fields<'a>(batch: &BatchHeader, fields: &mut Reader<'a>) -> Result<RecordView<'a>, WireError> {
    fields.i8("record attributes")?;
    let timestamp_delta = fields.varlong("timestamp delta")?;
    let offset_delta = fields.varint("offset delta")?;
    let key = nullable(fields, "key length")?;
    let value = nullable(fields, "value length")?;
    let at = fields.offset();
    let header_count = fields.varint("header count")?;
    // A header takes two bytes at least: two lengths.
    let header_count = match u32::try_from(header_count) {
        Ok(count) if count as usize <= fields.left() / 2 => count,
        _ => {
            let found = i64::from(header_count);
            return Err(WireError::Invalid { what: "header count", offset: at, found });
        }
    };
    let mut walked = fields.clone();
    for _ in 0..header_count {
        header(&mut walked)?;
    }
    let header_bytes = fields.take(walked.offset() - fields.offset(), "headers")?;
    let timestamp_ms = match batch.log_append_time() {
        true => batch.max_timestamp_ms,
        false => batch.first_timestamp_ms.wrapping_add(timestamp_delta),
    };
    let offset = batch.base_offset.wrapping_add(i64::from(offset_delta));
    Ok(RecordView { offset, timestamp_ms, key, value, header_bytes, header_count })
}

#[inline]
fn header<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], Option<&'a [u8]>), WireError> {
    let at = reader.offset();
    let name = nullable(reader, "header name length")?;
    let name = name.ok_or(WireError::Invalid { what: "header name length", offset: at, found: -1 })?;
    Ok((name, nullable(reader, "header value length")?))
}

#[inline]
fn nullable<'a>(reader: &mut Reader<'a>, what: &'static str) -> Result<Option<&'a [u8]>, WireError> {
    let at = reader.offset();
    match reader.varint(what)? {
        -1 => Ok(None),
        size if size >= 0 => reader.take(size as usize, what).map(Some),
        size => Err(WireError::Invalid { what, offset: at, found: i64::from(size) }),
    }
}

/// An error inside a record, counted from the start of the records instead.
#[cold]
fn shifted(mut err: WireError, by: usize) -> WireError {
    match &mut err {
        WireError::Truncated { offset, .. }
        | WireError::TooLarge { offset, .. }
        | WireError::Invalid { offset, .. }
        | WireError::TrailingBytes { offset, .. } => *offset += by,
        _ => {}
    }
    err
}
