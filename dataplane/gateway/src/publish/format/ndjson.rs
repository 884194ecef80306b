//! `application/x-ndjson`: one JSON object per line (CONTRACT: Publish, batch).
//!
//! ```text
//! {"key":"k","value":"text","headers":{"trace":"1"},"partition":3,"timestamp":1795362345000}
//! {"key_base64":"aw==","value_base64":"AAEC"}
//! {"value_json":{"any":["JSON",null]}}           stored as sent, between the colon and the brace
//! {"headers":[["a","1"],["a",null],["b",{"base64":"/w=="}]]}       no value: a null value
//! {"value":"text","delay":"30s"}                 of delayed jobs: or "due", RFC 3339; numbers are seconds
//! ```
//!
//! `null` where a field may be absent means absent, except for `value_json`, whose `null` is four bytes of JSON. A line
//! that is not JSON ends the batch: it is a record cut in two, or no NDJSON at all, and what follows would be guessing.
//! JSON that is no acceptable record is an error of that record alone. A byte order mark before the first line is
//! skipped.
//!
//! Here a body becomes lines; `line` makes a record of each.
//!
//! Cost of a 150-byte line: one memchr for the line feed, one UTF-8 check, one pass eight bytes at a time; no copy
//! unless a string has escapes or base64, no allocation up to four headers.

use model::requests::{BOM, without_bom};

use super::limits::{BatchLimits, SCRATCH_KEEP_BYTES};
use super::line::Scratch;
use super::{Parsed, RecordError};

/// Parser of one NDJSON body.
#[derive(Debug)]
pub struct NdjsonParser {
    limits: BatchLimits,
    /// The beginning of a line whose end has not arrived, or the whole of the line that was yielded last.
    carry: Vec<u8>,
    carry_is_done: bool,
    /// The line at hand is longer than any record can need; its rest is thrown away.
    skipping: bool,
    /// No line feed has come yet: a byte order mark may stand in front.
    is_first_line: bool,
    broken: bool,
    record_count: u64,
    scratch: Scratch,
}

/// A line whose end has arrived.
enum Line<'a> {
    Here(&'a [u8]),
    Carried,
    TooLong,
}

impl NdjsonParser {
    pub fn new(limits: BatchLimits) -> NdjsonParser {
        NdjsonParser {
            limits,
            carry: Vec::new(),
            carry_is_done: false,
            skipping: false,
            is_first_line: true,
            broken: false,
            record_count: 0,
            scratch: Scratch::default(),
        }
    }

    /// See [`super::BatchParser::next`].
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Parsed<'a>> {
        if self.broken {
            *input = &[];
            return None;
        }
        let line = self.next_line(input)?;
        Some(self.parse(line))
    }

    /// See [`super::BatchParser::end`]: the last line may lack its line feed.
    pub fn end(&mut self) -> Option<Parsed<'_>> {
        self.drop_done_carry();
        if self.broken {
            return None;
        }
        if std::mem::take(&mut self.skipping) {
            return Some(self.parse(Line::TooLong));
        }
        self.skip_carried_bom();
        if is_blank(&self.carry) {
            return None;
        }
        self.carry_is_done = true;
        Some(self.parse(Line::Carried))
    }

    pub fn record_count(&self) -> u64 {
        self.record_count
    }

    pub fn is_broken(&self) -> bool {
        self.broken
    }

    pub fn held_bytes(&self) -> usize {
        self.carry.capacity() + self.scratch.held_bytes()
    }

    /// The next line that is neither blank nor unfinished.
    fn next_line<'a>(&mut self, input: &mut &'a [u8]) -> Option<Line<'a>> {
        self.drop_done_carry();
        loop {
            let Some(end) = memchr::memchr(b'\n', input) else {
                self.keep(std::mem::take(input));
                return None;
            };
            let (mut piece, rest) = (&input[..end], &input[end + 1..]);
            *input = rest;
            if self.carry.is_empty() && !self.skipping && piece.len() <= self.limits.line_bytes_max() {
                if std::mem::take(&mut self.is_first_line) {
                    piece = without_bom(piece);
                }
                if is_blank(piece) {
                    continue;
                }
                return Some(Line::Here(piece));
            }
            self.keep(piece);
            if std::mem::take(&mut self.skipping) {
                self.is_first_line = false;
                return Some(Line::TooLong);
            }
            self.skip_carried_bom();
            if is_blank(&self.carry) {
                self.carry.clear();
                continue;
            }
            self.carry_is_done = true;
            return Some(Line::Carried);
        }
    }

    /// Takes the byte order mark off a first line that came in pieces.
    fn skip_carried_bom(&mut self) {
        if std::mem::take(&mut self.is_first_line) && self.carry.starts_with(BOM) {
            self.carry.drain(..BOM.len());
        }
    }

    /// Keeps a part of the line at hand, unless the line is too long already.
    fn keep(&mut self, piece: &[u8]) {
        if self.skipping {
            return;
        }
        if self.carry.len() + piece.len() > self.limits.line_bytes_max() {
            self.skipping = true;
            self.carry = Vec::new();
        } else {
            self.carry.extend_from_slice(piece);
        }
    }

    fn drop_done_carry(&mut self) {
        if std::mem::take(&mut self.carry_is_done) {
            self.carry.clear();
            if self.carry.capacity() > SCRATCH_KEEP_BYTES {
                self.carry = Vec::new();
            }
        }
    }

    fn parse<'a>(&'a mut self, line: Line<'a>) -> Parsed<'a> {
        if self.record_count == self.limits.records_max {
            self.broken = true;
            return Err(RecordError::too_many(&self.limits));
        }
        self.record_count += 1;
        let line = match line {
            Line::Here(line) => line,
            Line::Carried => &self.carry,
            Line::TooLong => return Err(RecordError::value_too_large(&self.limits)),
        };
        let parsed = self.scratch.parse(line, &self.limits);
        self.broken = matches!(parsed, Err(RecordError { fatal: true, .. }));
        let fields = parsed?;
        Ok(self.scratch.record(line, &fields))
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}
