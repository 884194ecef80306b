//! Receipts of a batch: outcomes in any order, answers in record order (CONTRACT: Publish, batch).
//!
//! | Format | Body |
//! |---|---|
//! | NDJSON | `{"partition":P,"offset":O}` or `{"status":S,"errmsg":…,"code":…}` per record and line |
//! | binary | per record 14 bytes, big endian: `status u16` (201 when stored), `partition i32`, `offset i64`, both −1 on error |
//! | summary | one object with ranges and errors, see [`Summary`] |
//!
//! Of a delayed job: `{"status":201,"id":"…","due":"…"}`; 201, −1 and the id as `i64` (an id is below 2^63); counted, without
//! a range.
//!
//! Kafka settles records in runs (a batch of one partition), and different partitions at different times. The
//! per-record formats keep 16 bytes for each record from its parsing until its receipt is written, 24 of a delayed job; the
//! summary keeps nothing per record, so a million records cost it as much as its ranges.
//!
//! Invariants:
//! - A record is settled once; its receipt is written once, after those of all records before it.
//! - `ok() + failed() <= record_count()`, equal once every record is settled.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::rc::Rc;

use bytes::{BufMut, BytesMut};
use foldhash::fast::FixedState;
use gafka_http::{json, response};

use super::RecordError;
use super::limits::{ERROR_TEXTS_MAX, RECEIPT_BYTES, RECEIPTS_PATH, SUMMARY_ERRORS_MAX, SUMMARY_RANGES_MAX};
use crate::due::shown_time;

/// How the client wants its receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptFormat {
    /// A line per record; the default.
    Ndjson,
    /// `Accept: application/vnd.gafka.receipts`.
    Binary,
    /// `receipts=summary`.
    Summary,
}

impl ReceiptFormat {
    /// The format a request asks for: `summary` by its query, else binary when one of its `Accept` values names it.
    pub fn choose<'v>(summary: bool, accept: impl IntoIterator<Item = &'v [u8]>) -> ReceiptFormat {
        let mut ranges = accept.into_iter().flat_map(|value| value.split(|byte| *byte == b','));
        if summary {
            ReceiptFormat::Summary
        } else if ranges.any(wants_binary) {
            ReceiptFormat::Binary
        } else {
            ReceiptFormat::Ndjson
        }
    }

    /// `Content-Type` of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            ReceiptFormat::Ndjson => "application/x-ndjson",
            ReceiptFormat::Binary => "application/vnd.gafka.receipts",
            ReceiptFormat::Summary => "application/json",
        }
    }
}

/// Whether a media range is the binary one and not refused by a weight of 0 (RFC 9110 section 12.4.2).
fn wants_binary(range: &[u8]) -> bool {
    let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let named = parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case(ReceiptFormat::Binary.content_type().as_bytes()));
    let is_zero = |weight: &[u8]| weight.iter().all(|byte| matches!(byte, b'0' | b'.'));
    let refused = parts.any(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")).is_some_and(is_zero));
    named && !refused
}

/// Outcome of one record, 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    /// Offset of a stored record (−1 with `ack=none`), id of a delayed job, else the index into `errors`.
    offset: i64,
    /// −1: in none, as all delayed jobs are.
    partition: i32,
    status: u16,
}

const UNSETTLED: Slot = Slot { offset: -1, partition: -1, status: 0 };
const STORED: u16 = 201;
/// On this gateway's disk: `offset` is its number there, `partition` the stream's.
const HANDED_OFF: u16 = 202;

impl Slot {
    fn is_job(self) -> bool {
        self.status == STORED && self.partition < 0
    }
}

/// The id of a record that was handed off: by its stream's number, and its own.
#[derive(Clone)]
pub struct Namer(pub Rc<dyn Fn(u32, u64) -> String>);

impl fmt::Debug for Namer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Namer")
    }
}

/// Collects the outcomes of one request.
#[derive(Debug)]
pub struct Receipts {
    format: ReceiptFormat,
    record_count: u64,
    ok: u64,
    failed: u64,
    /// Records from `written` on; stays empty for a summary.
    slots: VecDeque<Slot>,
    /// When the jobs among them are due, where a receipt says that; in step with `slots`, as far as it goes.
    dues_ms: VecDeque<i64>,
    /// Receipts written.
    written: u64,
    /// Different errors, shared by the slots.
    errors: Vec<RecordError>,
    summary: Summary,
    first_error: Option<(u64, RecordError)>,
    /// Who names records that were handed off.
    namer: Option<Namer>,
}

impl Receipts {
    pub fn new(format: ReceiptFormat) -> Receipts {
        Receipts {
            format,
            record_count: 0,
            ok: 0,
            failed: 0,
            slots: VecDeque::new(),
            dues_ms: VecDeque::new(),
            written: 0,
            errors: Vec::new(),
            summary: Summary::default(),
            first_error: None,
            namer: None,
        }
    }

    /// A record was parsed; gives its index, from 0. Its outcome is to come.
    pub fn open(&mut self) -> u64 {
        if self.format != ReceiptFormat::Summary {
            self.slots.push_back(UNSETTLED);
        }
        self.record_count += 1;
        self.record_count - 1
    }

    /// A record was refused before Kafka saw it: [`Receipts::open`] and [`Receipts::failed_run`] in one.
    pub fn refuse(&mut self, error: &RecordError) {
        let record = self.open();
        self.failed_run(record, 1, error);
    }

    /// `count` records from `first` on are stored in a row from `offset` on; −1 for all of them with `ack=none`.
    pub fn stored_run(&mut self, first: u64, count: u64, partition: i32, offset: i64) {
        debug_assert!(partition >= 0, "Kafka's partitions are not negative");
        self.ok += count;
        if self.format == ReceiptFormat::Summary {
            self.summary.stored(first, count, partition, offset);
            return;
        }
        let step = i64::from(offset >= 0);
        let mut offset = offset;
        for slot in self.run(first, count) {
            debug_assert!(*slot == UNSETTLED, "a record is settled once");
            *slot = Slot { offset, partition, status: STORED };
            offset += step;
        }
    }

    /// `count` records from `first` on are durable on this gateway, under numbers in a row from `number` on.
    pub fn handed_off_run(&mut self, first: u64, count: u64, stream: u32, number: u64, namer: &Namer) {
        self.ok += count;
        if self.format == ReceiptFormat::Summary {
            self.summary.handed_off(count);
            return;
        }
        if self.namer.is_none() {
            self.namer = Some(namer.clone());
        }
        for (number, slot) in (number as i64..).zip(self.run(first, count)) {
            debug_assert!(*slot == UNSETTLED, "a record is settled once");
            *slot = Slot { offset: number, partition: stream as i32, status: HANDED_OFF };
        }
    }

    /// A record is a delayed job with this id now, and durable.
    pub fn delayed(&mut self, record: u64, id: u64, due_ms: i64) {
        self.ok += 1;
        if self.format == ReceiptFormat::Summary {
            return;
        }
        debug_assert!(id <= i64::MAX as u64, "{id} is no id of a job");
        for slot in self.run(record, 1) {
            debug_assert!(*slot == UNSETTLED, "a record is settled once");
            *slot = Slot { offset: id as i64, partition: -1, status: STORED };
        }
        if self.format == ReceiptFormat::Ndjson {
            self.dues_ms.resize(self.slots.len(), 0);
            self.dues_ms[(record - self.written) as usize] = due_ms;
        }
    }

    /// `count` records from `first` on are not stored, or nobody knows whether they are.
    pub fn failed_run(&mut self, first: u64, count: u64, error: &RecordError) {
        self.failed += count;
        if self.first_error.as_ref().is_none_or(|(record, _)| first < *record) {
            self.first_error = Some((first, error.clone()));
        }
        if self.format == ReceiptFormat::Summary {
            self.summary.failed(first, count, error);
            return;
        }
        let slot = Slot { offset: self.intern(error), partition: -1, status: error.status };
        for unsettled in self.run(first, count) {
            debug_assert!(*unsettled == UNSETTLED, "a record is settled once");
            *unsettled = slot;
        }
    }

    /// The slots of a run of records that are not written yet.
    fn run(&mut self, first: u64, count: u64) -> impl Iterator<Item = &mut Slot> {
        assert!(first >= self.written, "record {first} was answered already: {} are", self.written);
        assert!(first + count <= self.record_count, "record {first} and {count} more of {}", self.record_count);
        let from = usize::try_from(first - self.written).unwrap_or(usize::MAX);
        let to = usize::try_from(first + count - self.written).unwrap_or(usize::MAX);
        self.slots.range_mut(from..to)
    }

    /// Index of an equal error. When there are too many different ones, their sentences give way to a common one.
    fn intern(&mut self, error: &RecordError) -> i64 {
        // Errors come in runs of the same, so the last one is the likeliest.
        if let Some(at) = self.errors.iter().rposition(|known| known == error) {
            return at as i64;
        }
        let error = if self.errors.len() < ERROR_TEXTS_MAX {
            error.clone()
        } else {
            let common = RecordError { message: "see the code; too many different errors".into(), ..error.clone() };
            if let Some(at) = self.errors.iter().rposition(|known| *known == common) {
                return at as i64;
            }
            common
        };
        self.errors.push(error);
        self.errors.len() as i64 - 1
    }

    /// Records seen.
    pub fn record_count(&self) -> u64 {
        self.record_count
    }

    /// Records stored.
    pub fn ok(&self) -> u64 {
        self.ok
    }

    /// Records not stored, or of unknown outcome: `X-Failed`.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Whether every record has its outcome.
    pub fn is_settled(&self) -> bool {
        self.ok + self.failed == self.record_count
    }

    /// Whether every receipt has been written.
    pub fn is_written(&self) -> bool {
        self.written == self.record_count
    }

    /// Whether the receipt that is next in order can be written.
    pub fn is_next_ready(&self) -> bool {
        self.slots.front().is_some_and(|slot| *slot != UNSETTLED)
    }

    /// Receipts of records whose outcome is known or not, and that are not written.
    pub fn unwritten(&self) -> u64 {
        self.record_count - self.written
    }

    /// The error of the first record that has one, in record order.
    pub fn first_error(&self) -> Option<&RecordError> {
        self.first_error.as_ref().map(|(_, error)| error)
    }

    /// Status of the whole answer once all is settled: 200 when anything was stored, else the first error's.
    pub fn status(&self) -> u16 {
        match (self.ok, self.first_error()) {
            (0, Some(error)) => error.status,
            _ => 200,
        }
    }

    /// Length of the binary receipts of all records.
    pub fn binary_bytes(&self) -> u64 {
        self.record_count * RECEIPT_BYTES as u64
    }

    /// Bytes held, for the memory budget.
    pub fn held_bytes(&self) -> usize {
        let dues_bytes = self.dues_ms.capacity() * size_of::<i64>();
        self.slots.capacity() * size_of::<Slot>() + dues_bytes + self.summary.held_bytes()
    }

    /// Appends the receipts of settled records that are next in order, about `bytes_max` bytes at most; gives how many.
    /// Nothing for a summary, which is written whole by [`Receipts::write_summary`].
    pub fn write_ready(&mut self, out: &mut BytesMut, bytes_max: usize) -> usize {
        let until = out.len().saturating_add(bytes_max);
        let mut count = 0;
        while out.len() < until {
            match self.slots.front() {
                Some(slot) if *slot != UNSETTLED => match self.format {
                    ReceiptFormat::Binary => write_binary(out, *slot),
                    _ if slot.is_job() => write_job(out, *slot, self.dues_ms.front().copied().unwrap_or_default()),
                    _ if slot.status == HANDED_OFF => write_handed_off(out, *slot, self.namer.as_ref()),
                    _ => write_line(out, *slot, &self.errors),
                },
                _ => break,
            }
            self.slots.pop_front();
            self.dues_ms.pop_front();
            count += 1;
        }
        self.written += count as u64;
        count
    }

    /// Appends the summary.
    pub fn write_summary(&mut self, out: &mut BytesMut) {
        self.written = self.record_count;
        self.summary.write(out, self.ok, self.failed);
    }
}

/// `{"status":201,"id":"…","due":"…"}`: the id as text, for JSON's numbers lose digits beyond 2^53.
fn write_job(out: &mut BytesMut, slot: Slot, due_ms: i64) {
    out.extend_from_slice(b"{\"status\":201,\"id\":\"");
    response::put_i64(out, slot.offset);
    out.extend_from_slice(b"\",\"due\":\"");
    out.extend_from_slice(shown_time(due_ms).as_bytes());
    out.extend_from_slice(b"\"}\n");
}

fn write_line(out: &mut BytesMut, slot: Slot, errors: &[RecordError]) {
    if slot.status == STORED {
        out.extend_from_slice(b"{\"partition\":");
        response::put_i64(out, i64::from(slot.partition));
        out.extend_from_slice(b",\"offset\":");
        response::put_i64(out, slot.offset);
    } else {
        let error = usize::try_from(slot.offset).ok().and_then(|at| errors.get(at));
        out.extend_from_slice(b"{\"status\":");
        response::put_u64(out, u64::from(slot.status));
        out.extend_from_slice(b",\"errmsg\":");
        json::string(out, error.map_or("", |error| &error.message));
        out.extend_from_slice(b",\"code\":");
        json::string(out, error.map_or("", |error| error.code));
    }
    out.extend_from_slice(b"}\n");
}

/// `{"status":202,"msg_id":…,"receipt":…}`.
fn write_handed_off(out: &mut BytesMut, slot: Slot, namer: Option<&Namer>) {
    let Some(Namer(name)) = namer else { unreachable!("there since the first was handed off") };
    let id = name(slot.partition as u32, slot.offset as u64);
    for part in ["{\"status\":202,\"msg_id\":\"", &id, "\",\"receipt\":\"", RECEIPTS_PATH, &id, "\"}\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn write_binary(out: &mut BytesMut, slot: Slot) {
    let (partition, offset) = if slot.status == STORED { (slot.partition, slot.offset) } else { (-1, -1) };
    let mut receipt = [0; RECEIPT_BYTES];
    receipt[..2].copy_from_slice(&slot.status.to_be_bytes());
    receipt[2..6].copy_from_slice(&partition.to_be_bytes());
    receipt[6..].copy_from_slice(&offset.to_be_bytes());
    out.put_slice(&receipt);
}

/// `{"ok":N,"failed":M,"ranges":[{"partition":P,"offset":O,"count":C},…],"errors":[{"record":I,"status":S,"code":…},…]}`
///
/// A range is consecutive offsets of a partition, whatever other partitions got in between, so a batch over four
/// partitions that no one else writes to is four ranges. Ranges are in order of their first record, errors in record
/// order; at the limits the rest is left out and `"truncated":true` says so.
#[derive(Debug, Default)]
struct Summary {
    ranges: Vec<Range>,
    /// The range each partition's next offsets would extend.
    last_range: HashMap<i32, usize, FixedState>,
    /// Runs of failed records, in record order, at most [`SUMMARY_ERRORS_MAX`].
    errors: Vec<ErrorRun>,
    truncated: bool,
    /// Of those that are `ok`, the ones on this gateway's disk.
    handed_off: u64,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    first_record: u64,
    partition: i32,
    offset: i64,
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct ErrorRun {
    first_record: u64,
    count: u64,
    status: u16,
    code: &'static str,
}

impl Range {
    /// Whether `offset` is the next one: offsets behind each other, or none at all (`ack=none`).
    fn goes_on_at(&self, offset: i64) -> bool {
        if self.offset < 0 { offset < 0 } else { self.offset + self.count as i64 == offset }
    }
}

impl Summary {
    fn stored(&mut self, first: u64, count: u64, partition: i32, offset: i64) {
        if let Some(range) = self.last_range.get(&partition).and_then(|at| self.ranges.get_mut(*at))
            && range.goes_on_at(offset)
        {
            range.count += count;
            range.first_record = range.first_record.min(first);
        } else if self.ranges.len() < SUMMARY_RANGES_MAX {
            self.last_range.insert(partition, self.ranges.len());
            self.ranges.push(Range { first_record: first, partition, offset, count });
        } else {
            self.truncated = true;
        }
    }

    /// Where they go is not known yet: they are counted, and have no range.
    fn handed_off(&mut self, count: u64) {
        self.handed_off += count;
    }

    /// Keeps the first errors in record order, in whatever order they come.
    fn failed(&mut self, first: u64, count: u64, error: &RecordError) {
        let run = ErrorRun { first_record: first, count, status: error.status, code: error.code };
        let at = self.errors.partition_point(|known| known.first_record < first);
        if at >= SUMMARY_ERRORS_MAX {
            self.truncated = true;
            return;
        }
        self.errors.insert(at, run);
        if self.errors.len() > SUMMARY_ERRORS_MAX {
            self.errors.truncate(SUMMARY_ERRORS_MAX);
            self.truncated = true;
        }
    }

    fn held_bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<Range>() + self.errors.capacity() * size_of::<ErrorRun>()
    }

    fn write(&mut self, out: &mut BytesMut, ok: u64, failed: u64) {
        self.ranges.sort_unstable_by_key(|range| range.first_record);
        out.extend_from_slice(b"{\"ok\":");
        response::put_u64(out, ok);
        out.extend_from_slice(b",\"failed\":");
        response::put_u64(out, failed);
        if self.handed_off > 0 {
            out.extend_from_slice(b",\"handed_off\":");
            response::put_u64(out, self.handed_off);
        }
        out.extend_from_slice(b",\"ranges\":[");
        for (at, range) in self.ranges.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"{\"partition\":" } else { b",{\"partition\":" });
            response::put_i64(out, i64::from(range.partition));
            out.extend_from_slice(b",\"offset\":");
            response::put_i64(out, range.offset);
            out.extend_from_slice(b",\"count\":");
            response::put_u64(out, range.count);
            out.extend_from_slice(b"}");
        }
        out.extend_from_slice(b"],\"errors\":[");
        let mut shown = 0;
        for run in &self.errors {
            for record in run.first_record..run.first_record + run.count {
                if shown == SUMMARY_ERRORS_MAX {
                    self.truncated = true;
                    break;
                }
                out.extend_from_slice(if shown == 0 { b"{\"record\":" } else { b",{\"record\":" });
                response::put_u64(out, record);
                out.extend_from_slice(b",\"status\":");
                response::put_u64(out, u64::from(run.status));
                out.extend_from_slice(b",\"code\":");
                json::string(out, run.code);
                out.extend_from_slice(b"}");
                shown += 1;
            }
        }
        out.extend_from_slice(if self.truncated { b"],\"truncated\":true}\n" } else { b"]}\n" });
    }
}
