//! The formats of batches, of messages and of delayed jobs, without I/O: bytes in, records out; outcomes in, receipts out.
//!
//! A body is parsed while it arrives. [`BatchParser`] is given each run of received bytes and yields the records that
//! are complete, borrowed from that run; only a record cut off by its end is copied. [`Receipts`] takes the outcomes in
//! any order and writes them in record order.
//!
//! | File | Story |
//! |---|---|
//! | [`ndjson`] | `application/x-ndjson`: lines |
//! | `line` | a record from a line |
//! | `json` | the JSON grammar over one line |
//! | [`records`] | `application/vnd.gafka.records` |
//! | [`receipts`] | NDJSON, binary and summary receipts |
//! | [`limits`] | the numbers |
//!
//! Invariants:
//! - What comes out does not depend on how the input was cut.
//! - Every record, good or bad, takes one index, in order of its place in the body.
//! - After a fatal error nothing more comes out: what follows cannot be trusted to be records.

mod json;
pub mod limits;
mod line;
pub mod ndjson;
pub mod receipts;
pub mod records;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::codes::{self, Code};
use crate::due::Due;
use kafka_wire::record_batch::{HeaderRef, RecordRef};
use smallvec::SmallVec;

pub use limits::BatchLimits;
pub use ndjson::NdjsonParser;
pub use receipts::{Namer, ReceiptFormat, Receipts};
pub use records::RecordsParser;

/// A record of a batch. Slices point into the received bytes, or into the parser where they had to be decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParsedRecord<'a> {
    /// `None` without a key; an empty key is a key.
    pub key: Option<&'a [u8]>,
    /// `None` for a null value.
    pub value: Option<&'a [u8]>,
    /// In order, repetitions kept.
    pub headers: SmallVec<[HeaderRef<'a>; 4]>,
    /// Not negative. Whether the topic has it is for Kafka's metadata to say.
    pub partition: Option<i32>,
    /// Epoch milliseconds, not negative.
    pub timestamp_ms: Option<i64>,
    /// Of a delayed job: where [`BatchLimits::takes_due`].
    pub due: Option<Due>,
}

impl ParsedRecord<'_> {
    /// As the accumulator takes it; `now_ms` stands in for a timestamp that was not given.
    pub fn as_record(&self, now_ms: i64) -> RecordRef<'_> {
        RecordRef {
            timestamp_ms: self.timestamp_ms.unwrap_or(now_ms),
            key: self.key,
            value: self.value,
            headers: &self.headers,
        }
    }
}

/// Why a record was not stored: becomes its receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RecordError {
    pub status: u16,
    /// Stable snake_case name.
    pub code: &'static str,
    /// One sentence.
    pub message: Cow<'static, str>,
    /// Where the next record begins is unknown, or there may be none: nothing after it is parsed, the rest of the body
    /// is to be drained and the connection closed.
    pub fatal: bool,
}

impl RecordError {
    /// An error of this record alone.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> RecordError {
        RecordError { status: code.status, code: code.name, message: message.into(), fatal: false }
    }

    /// A record that cannot be delimited.
    fn undelimitable(message: impl Into<Cow<'static, str>>) -> RecordError {
        RecordError { fatal: true, ..RecordError::new(codes::MALFORMED_RECORD, message) }
    }

    fn value_too_large(limits: &BatchLimits) -> RecordError {
        let message = format!("the value is larger than {} bytes", limits.value_bytes_max);
        RecordError::new(codes::MESSAGE_TOO_LARGE, message)
    }

    fn meta_too_large(limits: &BatchLimits) -> RecordError {
        let message = format!("key and headers are larger than {} bytes", limits.meta_bytes_max);
        RecordError::new(codes::RECORD_METADATA_TOO_LARGE, message)
    }

    fn too_many(limits: &BatchLimits) -> RecordError {
        let message = format!("the batch has more than {} records", limits.records_max);
        RecordError { fatal: true, ..RecordError::new(codes::TOO_MANY_RECORDS, message) }
    }
}

/// What a parser yields for one record.
pub type Parsed<'a> = Result<ParsedRecord<'a>, RecordError>;

/// The parser of a batch body, by its `Content-Type`.
#[derive(Debug)]
pub enum BatchParser {
    /// `application/x-ndjson`
    Ndjson(NdjsonParser),
    /// `application/vnd.gafka.records`
    Records(RecordsParser),
}

impl BatchParser {
    /// The parser for a `Content-Type`, parameters ignored; `None` is a 415.
    pub fn for_content_type(content_type: &[u8], limits: BatchLimits) -> Option<BatchParser> {
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if essence.eq_ignore_ascii_case(b"application/x-ndjson") {
            Some(BatchParser::Ndjson(NdjsonParser::new(limits)))
        } else if essence.eq_ignore_ascii_case(b"application/vnd.gafka.records") {
            Some(BatchParser::Records(RecordsParser::new(limits)))
        } else {
            None
        }
    }

    /// The next record that is complete, taking its bytes off the front of `input`; `None` when all of `input` is
    /// used up. Call it until then for every run of received bytes.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Parsed<'a>> {
        match self {
            BatchParser::Ndjson(parser) => parser.next(input),
            BatchParser::Records(parser) => parser.next(input),
        }
    }

    /// The body has ended: what its last bytes are, if anything. Call it once, after the last [`BatchParser::next`].
    pub fn end(&mut self) -> Option<Parsed<'_>> {
        match self {
            BatchParser::Ndjson(parser) => parser.end(),
            BatchParser::Records(parser) => parser.end(),
        }
    }

    /// Records so far, good and bad; the index of the last one is one less.
    pub fn record_count(&self) -> u64 {
        match self {
            BatchParser::Ndjson(parser) => parser.record_count(),
            BatchParser::Records(parser) => parser.record_count(),
        }
    }

    /// A fatal error was yielded: drain the rest of the body, then close.
    pub fn is_broken(&self) -> bool {
        match self {
            BatchParser::Ndjson(parser) => parser.is_broken(),
            BatchParser::Records(parser) => parser.is_broken(),
        }
    }

    /// Bytes held of a record that is not complete, for the memory budget.
    pub fn held_bytes(&self) -> usize {
        match self {
            BatchParser::Ndjson(parser) => parser.held_bytes(),
            BatchParser::Records(parser) => parser.held_bytes(),
        }
    }
}

/// What a record weighs beside its value: key, header names and values, and what each header costs to keep.
#[derive(Debug, Clone, Copy)]
struct Meta {
    bytes: usize,
}

impl Meta {
    fn add(&mut self, bytes: usize, limits: &BatchLimits) -> Result<(), RecordError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > limits.meta_bytes_max { Err(RecordError::meta_too_large(limits)) } else { Ok(()) }
    }

    fn add_header(&mut self, name: usize, value: usize, limits: &BatchLimits) -> Result<(), RecordError> {
        self.add(name.saturating_add(value).saturating_add(limits::HEADER_OVERHEAD_BYTES), limits)
    }
}
