//! Numbers that bound a batch.

/// Records of one request without `stream=1` (CONTRACT: Publish).
pub const RECORDS_MAX: u64 = 1_000_000;
/// Key and headers of one record together: what a single publish can carry in its request head.
pub const META_BYTES_MAX: usize = 16 << 10;
/// What a header weighs beside its bytes: lengths in the record batch, its place in the parser.
pub const HEADER_OVERHEAD_BYTES: usize = 8;
/// A JSON string spends at most six bytes on one (`\u0000`).
pub const JSON_ESCAPE_FACTOR: usize = 6;
/// Field names and punctuation of a line around its strings.
pub const LINE_OVERHEAD_BYTES: usize = 4 << 10;
/// A binary record that claims more than this is no large record but a stray length.
pub const RECORD_SKIP_BYTES_MAX: usize = 64 << 20;
/// Buffers that grew beyond this for one record are given back after it.
pub const SCRATCH_KEEP_BYTES: usize = 64 << 10;
/// Of an unknown field's name in an error message.
pub const NAME_SHOWN_CHARS: usize = 40;

/// Ranges in a summary (CONTRACT: Publish).
pub const SUMMARY_RANGES_MAX: usize = 1_000;
/// Errors in a summary.
pub const SUMMARY_ERRORS_MAX: usize = 100;
/// One binary receipt: status u16, partition i32, offset i64.
pub const RECEIPT_BYTES: usize = 14;
/// Different error sentences kept for the receipts of one request; beyond it a receipt has the code's sentence only.
pub const ERROR_TEXTS_MAX: usize = 256;

const _: () = assert!(META_BYTES_MAX < RECORD_SKIP_BYTES_MAX);
const _: () = assert!(SUMMARY_ERRORS_MAX <= ERROR_TEXTS_MAX);

/// What one request may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Largest value in bytes.
    pub value_bytes_max: usize,
    /// Largest sum of key and headers of a record, with [`HEADER_OVERHEAD_BYTES`] each.
    pub meta_bytes_max: usize,
    /// Most records; `u64::MAX` with `stream=1`.
    pub records_max: u64,
    /// Records may say when they are due: they are delayed jobs.
    pub takes_due: bool,
}

impl BatchLimits {
    /// The contract's limits around a topic's largest message.
    pub fn new(value_bytes_max: usize) -> BatchLimits {
        BatchLimits { value_bytes_max, meta_bytes_max: META_BYTES_MAX, records_max: RECORDS_MAX, takes_due: false }
    }

    /// The longest NDJSON line a record within these limits can need.
    pub fn line_bytes_max(&self) -> usize {
        (self.value_bytes_max + self.meta_bytes_max) * JSON_ESCAPE_FACTOR + LINE_OVERHEAD_BYTES
    }

    /// The longest binary record within these limits, without its length: attributes, timestamp, due, partition,
    /// lengths.
    pub fn record_bytes_max(&self) -> usize {
        self.value_bytes_max + self.meta_bytes_max + 1 + 8 + if self.takes_due { 8 } else { 0 } + 4 + 4 + 2
    }
}

/// Where receipts of records that were handed off are asked for.
pub const RECEIPTS_PATH: &str = "/v1/receipts/";
