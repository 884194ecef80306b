//! One line of NDJSON as a record: its fields, wherever they stand, each checked.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kafka_wire::record_batch::HeaderRef;

use super::json::{self, Nesting, NotJson, Quoted, Scanner};
use super::limits::{BatchLimits, NAME_SHOWN_CHARS, SCRATCH_KEEP_BYTES};
use super::{Meta, ParsedRecord, RecordError};
use crate::codes;
use crate::due::Due;

/// Standard alphabet, padding optional.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of a string: in the line where it stood, or decoded.
#[derive(Debug, Clone, Copy)]
enum Span {
    Line { from: usize, to: usize },
    Decoded { from: usize, to: usize },
}

impl Span {
    fn len(self) -> usize {
        let (Span::Line { from, to } | Span::Decoded { from, to }) = self;
        to - from
    }
}

/// Fields of a record that have been seen, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Value = 1,
    ValueBase64 = 2,
    ValueJson = 4,
    Key = 8,
    KeyBase64 = 16,
    Headers = 32,
    Partition = 64,
    Timestamp = 128,
    Due = 256,
    Delay = 512,
}

impl Field {
    fn from_name(name: &[u8], takes_due: bool) -> Option<Field> {
        Some(match name {
            b"value" => Field::Value,
            b"value_base64" => Field::ValueBase64,
            b"value_json" => Field::ValueJson,
            b"key" => Field::Key,
            b"key_base64" => Field::KeyBase64,
            b"headers" => Field::Headers,
            b"partition" => Field::Partition,
            b"timestamp" => Field::Timestamp,
            b"due" if takes_due => Field::Due,
            b"delay" if takes_due => Field::Delay,
            _ => return None,
        })
    }

    const VALUES: u16 = Field::Value as u16 | Field::ValueBase64 as u16 | Field::ValueJson as u16;
    const KEYS: u16 = Field::Key as u16 | Field::KeyBase64 as u16;
}

/// What a line says, its strings as spans.
#[derive(Debug)]
pub(super) struct Fields {
    seen: u16,
    value: Option<Span>,
    key: Option<Span>,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
    due: Option<Due>,
    meta: Meta,
}

impl Fields {
    /// `due` or `delay`; the other one may stand beside it as null.
    fn set_due(&mut self, due: Due) -> Result<(), RecordError> {
        match self.due.replace(due) {
            None => Ok(()),
            Some(_) => Err(RecordError::new(codes::CONFLICTING_FIELDS, "only one of due and delay may stand")),
        }
    }
}

/// A line's failure: of the batch, or of the record.
enum Failure {
    NotJson,
    Record(RecordError),
}

impl From<NotJson> for Failure {
    fn from(NotJson: NotJson) -> Failure {
        Failure::NotJson
    }
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Failure {
        Failure::Record(error)
    }
}

/// Buffers that live as long as the parser, so that a record allocates nothing.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    decoded: Vec<u8>,
    headers: Vec<(Span, Option<Span>)>,
    nesting: Nesting,
    order: Vec<usize>,
}

impl Scratch {
    pub(super) fn held_bytes(&self) -> usize {
        self.decoded.capacity()
    }

    /// The record of spans that were found in `line`.
    pub(super) fn record<'a>(&'a self, line: &'a [u8], fields: &Fields) -> ParsedRecord<'a> {
        let bytes = |span: Span| self.bytes(line, span);
        ParsedRecord {
            key: fields.key.map(bytes),
            value: fields.value.map(bytes),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| HeaderRef { name: bytes(*name), value: value.map(bytes) })
                .collect(),
            partition: fields.partition,
            timestamp_ms: fields.timestamp_ms,
            due: fields.due,
        }
    }

    fn bytes<'a>(&'a self, line: &'a [u8], span: Span) -> &'a [u8] {
        match span {
            Span::Line { from, to } => &line[from..to],
            Span::Decoded { from, to } => &self.decoded[from..to],
        }
    }

    /// Reads one line. The first error of the record is kept while the rest is checked to be JSON, because a line that
    /// is not JSON ends the batch whatever else is wrong with it.
    pub(super) fn parse(&mut self, line: &[u8], limits: &BatchLimits) -> Result<Fields, RecordError> {
        self.decoded.clear();
        if self.decoded.capacity() > SCRATCH_KEEP_BYTES {
            self.decoded = Vec::new();
        }
        self.headers.clear();
        if std::str::from_utf8(line).is_err() {
            return Err(not_json("it is not UTF-8"));
        }
        let mut scanner = Scanner::new(line);
        let record = match self.object(&mut scanner, line, limits) {
            Err(Failure::NotJson) => return Err(not_json("it breaks JSON's grammar")),
            Err(Failure::Record(error)) => Err(error),
            Ok(fields) => Ok(fields),
        };
        match scanner.end() {
            Ok(()) => record,
            Err(NotJson) => Err(not_json("something follows the object")),
        }
    }

    fn object(&mut self, scanner: &mut Scanner<'_>, line: &[u8], limits: &BatchLimits) -> Result<Fields, Failure> {
        let mut fields = Fields {
            seen: 0,
            value: None,
            key: None,
            partition: None,
            timestamp_ms: None,
            due: None,
            meta: Meta { bytes: 0 },
        };
        if scanner.peek() != Some(b'{') {
            scanner.value(&mut self.nesting)?;
            return Err(RecordError::new(codes::INVALID_RECORD, "a record must be a JSON object").into());
        }
        scanner.expect(b'{')?;
        let mut first_error = None;
        if !scanner.take(b'}') {
            loop {
                let name = scanner.string()?;
                scanner.expect(b':')?;
                match self.field(&mut fields, name, scanner, line, limits) {
                    Err(Failure::Record(error)) => _ = first_error.get_or_insert(error),
                    other => other?,
                }
                if !scanner.take(b',') {
                    break;
                }
            }
            scanner.expect(b'}')?;
        }
        match first_error {
            Some(error) => Err(Failure::Record(error)),
            None => Ok(fields),
        }
    }

    /// One field: always takes its whole value, then says what is wrong with it.
    fn field(
        &mut self,
        fields: &mut Fields,
        name: Quoted<'_>,
        scanner: &mut Scanner<'_>,
        line: &[u8],
        limits: &BatchLimits,
    ) -> Result<(), Failure> {
        let field = self.field_of(name, limits.takes_due);
        let seen_before = fields.seen;
        match field {
            Ok(field) if seen_before & field as u16 == 0 => {
                fields.seen |= field as u16;
                self.take_field(field, fields, scanner, line, limits)?;
                check_conflict(fields.seen, seen_before)?;
                Ok(())
            }
            Ok(_) => {
                scanner.value(&mut self.nesting)?;
                Err(RecordError::new(codes::REPEATED_FIELD, format!("the field {} is repeated", shown(name.raw)))
                    .into())
            }
            Err(error) => {
                scanner.value(&mut self.nesting)?;
                Err(error.into())
            }
        }
    }

    fn field_of(&mut self, name: Quoted<'_>, takes_due: bool) -> Result<Field, RecordError> {
        let known = if name.escaped {
            let from = self.decoded.len();
            json::unescape(name.raw, &mut self.decoded).map_err(|_| lone_surrogate())?;
            Field::from_name(&self.decoded[from..], takes_due)
        } else {
            Field::from_name(name.raw, takes_due)
        };
        known.ok_or_else(|| RecordError::new(codes::UNKNOWN_FIELD, format!("the field {} is unknown", shown(name.raw))))
    }

    fn take_field(
        &mut self,
        field: Field,
        fields: &mut Fields,
        scanner: &mut Scanner<'_>,
        line: &[u8],
        limits: &BatchLimits,
    ) -> Result<(), Failure> {
        match field {
            Field::ValueJson => {
                let raw = scanner.value(&mut self.nesting)?;
                fields.value = Some(value_span(span_in(line, raw), limits)?);
            }
            // In every other field `null` stands for nothing.
            _ if scanner.null() => {}
            Field::Value => {
                let string = self.string(scanner, line, "value must be a string or null; use value_json for JSON")?;
                fields.value = Some(value_span(string, limits)?);
            }
            Field::ValueBase64 => {
                let bytes = self.base64(scanner, "value_base64 must be a string")?;
                fields.value = Some(value_span(bytes, limits)?);
            }
            Field::Key => {
                let key = self.string(scanner, line, "key must be a string")?;
                fields.meta.add(key.len(), limits)?;
                fields.key = Some(key);
            }
            Field::KeyBase64 => {
                let key = self.base64(scanner, "key_base64 must be a string")?;
                fields.meta.add(key.len(), limits)?;
                fields.key = Some(key);
            }
            Field::Headers => {
                // The whole value first: then whatever is wrong within is the record's fault, not the grammar's.
                let raw = scanner.value(&mut self.nesting)?;
                self.take_headers(raw, &mut fields.meta, line, limits)?;
            }
            Field::Partition => {
                let number = scanner.value(&mut self.nesting)?;
                let number = json::integer(number).and_then(|number| i32::try_from(number).ok());
                fields.partition = Some(number.filter(|number| *number >= 0).ok_or_else(|| {
                    RecordError::new(codes::INVALID_FIELD, "partition must be an integer from 0 to 2147483647")
                })?);
            }
            Field::Timestamp => {
                let number = json::integer(scanner.value(&mut self.nesting)?);
                fields.timestamp_ms = Some(number.filter(|number| *number >= 0).ok_or_else(|| {
                    RecordError::new(codes::INVALID_FIELD, "timestamp must be an integer of epoch milliseconds")
                })?);
            }
            Field::Due => {
                let due = self.text_or_number(scanner, Due::of_time, |seconds| Some(Due::of_seconds(seconds)))?;
                fields.set_due(due.ok_or_else(|| {
                    RecordError::new(codes::INVALID_FIELD, "due must be RFC 3339, or seconds since 1970")
                })?)?;
            }
            Field::Delay => {
                let delay = self.text_or_number(scanner, Due::of_delay, |number| Due::of_delay(&number.to_string()))?;
                fields.set_due(delay.ok_or_else(|| {
                    let message = "delay must be seconds, or a duration like 30s, 250ms or 2h, at most a year";
                    RecordError::new(codes::INVALID_FIELD, message)
                })?)?;
            }
        }
        Ok(())
    }

    /// Takes a value that must be a string.
    fn string(&mut self, scanner: &mut Scanner<'_>, line: &[u8], otherwise: &'static str) -> Result<Span, Failure> {
        if scanner.peek() != Some(b'"') {
            scanner.value(&mut self.nesting)?;
            return Err(RecordError::new(codes::INVALID_FIELD, otherwise).into());
        }
        let string = scanner.string()?;
        Ok(self.decode(string, line)?)
    }

    /// Takes a value that says something as a string or as an integer. `None`: it does not.
    fn text_or_number(
        &mut self,
        scanner: &mut Scanner<'_>,
        of_text: fn(&str) -> Option<Due>,
        of_number: fn(i64) -> Option<Due>,
    ) -> Result<Option<Due>, Failure> {
        if scanner.peek() != Some(b'"') {
            return Ok(json::integer(scanner.value(&mut self.nesting)?).and_then(of_number));
        }
        let string = scanner.string()?;
        let mut unescaped = Vec::new();
        let text = if string.escaped {
            // Some encoders write the plus sign of a time zone as `\u002B`.
            json::unescape(string.raw, &mut unescaped).map_err(|_| lone_surrogate())?;
            &unescaped
        } else {
            string.raw
        };
        Ok(std::str::from_utf8(text).ok().and_then(of_text))
    }

    /// Takes a value that must be a string of base64.
    fn base64(&mut self, scanner: &mut Scanner<'_>, otherwise: &'static str) -> Result<Span, Failure> {
        if scanner.peek() != Some(b'"') {
            scanner.value(&mut self.nesting)?;
            return Err(RecordError::new(codes::INVALID_FIELD, otherwise).into());
        }
        let string = scanner.string()?;
        Ok(self.decode_base64(string)?)
    }

    fn decode(&mut self, string: Quoted<'_>, line: &[u8]) -> Result<Span, RecordError> {
        if !string.escaped {
            return Ok(span_in(line, string.raw));
        }
        let from = self.decoded.len();
        json::unescape(string.raw, &mut self.decoded).map_err(|_| lone_surrogate())?;
        Ok(Span::Decoded { from, to: self.decoded.len() })
    }

    fn decode_base64(&mut self, string: Quoted<'_>) -> Result<Span, RecordError> {
        let mut unescaped = Vec::new();
        let encoded = if string.escaped {
            // Some encoders write the slash of the alphabet as `\/`.
            json::unescape(string.raw, &mut unescaped).map_err(|_| lone_surrogate())?;
            &unescaped
        } else {
            string.raw
        };
        let from = self.decoded.len();
        match BASE64.decode_vec(encoded, &mut self.decoded) {
            Ok(()) => Ok(Span::Decoded { from, to: self.decoded.len() }),
            Err(_) => Err(RecordError::new(codes::INVALID_BASE64, "a base64 field is not base64")),
        }
    }

    /// Headers in either form, from a value that is known to be JSON.
    fn take_headers(
        &mut self,
        raw: &[u8],
        meta: &mut Meta,
        line: &[u8],
        limits: &BatchLimits,
    ) -> Result<(), RecordError> {
        let scanner = &mut Scanner::new(raw);
        let result = if scanner.take(b'{') {
            self.header_object(scanner, meta, line, limits)
        } else if scanner.take(b'[') {
            self.header_array(scanner, meta, line, limits)
        } else {
            Err(Failure::NotJson)
        };
        result.map_err(|failure| match failure {
            Failure::Record(error) => error,
            Failure::NotJson => RecordError::new(
                codes::INVALID_FIELD,
                r#"headers must be an object of strings, or an array of [name, string|null] and [name, {"base64": string}]"#,
            ),
        })
    }

    fn header_object(
        &mut self,
        scanner: &mut Scanner<'_>,
        meta: &mut Meta,
        line: &[u8],
        limits: &BatchLimits,
    ) -> Result<(), Failure> {
        if scanner.take(b'}') {
            return Ok(());
        }
        loop {
            let name = scanner.string()?;
            scanner.expect(b':')?;
            let value = scanner.string()?;
            let (name, value) = (self.decode(name, line)?, self.decode(value, line)?);
            self.push_header(name, Some(value), meta, limits)?;
            if !scanner.take(b',') {
                break;
            }
        }
        if self.has_repeated_header(line) {
            let message = "the object of headers repeats a name; repeated headers need the array form";
            return Err(RecordError::new(codes::REPEATED_FIELD, message).into());
        }
        Ok(())
    }

    fn header_array(
        &mut self,
        scanner: &mut Scanner<'_>,
        meta: &mut Meta,
        line: &[u8],
        limits: &BatchLimits,
    ) -> Result<(), Failure> {
        if scanner.take(b']') {
            return Ok(());
        }
        loop {
            scanner.expect(b'[')?;
            let name = scanner.string()?;
            let name = self.decode(name, line)?;
            scanner.expect(b',')?;
            let value = self.header_value(scanner, line)?;
            scanner.expect(b']')?;
            self.push_header(name, value, meta, limits)?;
            if !scanner.take(b',') {
                return Ok(());
            }
        }
    }

    fn header_value(&mut self, scanner: &mut Scanner<'_>, line: &[u8]) -> Result<Option<Span>, Failure> {
        if scanner.null() {
            return Ok(None);
        }
        if !scanner.take(b'{') {
            let value = scanner.string()?;
            return Ok(Some(self.decode(value, line)?));
        }
        let name = scanner.string()?;
        if name.raw != b"base64" {
            return Err(Failure::NotJson);
        }
        scanner.expect(b':')?;
        let value = scanner.string()?;
        scanner.expect(b'}')?;
        Ok(Some(self.decode_base64(value)?))
    }

    fn push_header(
        &mut self,
        name: Span,
        value: Option<Span>,
        meta: &mut Meta,
        limits: &BatchLimits,
    ) -> Result<(), RecordError> {
        meta.add_header(name.len(), value.map_or(0, Span::len), limits)?;
        self.headers.push((name, value));
        Ok(())
    }

    /// Whether two headers have one name: by sorting, so that many headers stay cheap.
    fn has_repeated_header(&mut self, line: &[u8]) -> bool {
        if self.headers.len() < 2 {
            return false;
        }
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(0..self.headers.len());
        let name = |at: usize| self.bytes(line, self.headers[at].0);
        order.sort_unstable_by(|left, right| name(*left).cmp(name(*right)));
        let repeated = order.windows(2).any(|pair| name(pair[0]) == name(pair[1]));
        self.order = order;
        repeated
    }
}

fn value_span(span: Span, limits: &BatchLimits) -> Result<Span, RecordError> {
    if span.len() > limits.value_bytes_max { Err(RecordError::value_too_large(limits)) } else { Ok(span) }
}

/// Where a slice of `line` stands in it.
fn span_in(line: &[u8], part: &[u8]) -> Span {
    let from = part.as_ptr() as usize - line.as_ptr() as usize;
    debug_assert!(from + part.len() <= line.len(), "the part was cut from this line");
    Span::Line { from, to: from + part.len() }
}

/// At most one of the value fields, at most one of the key fields.
fn check_conflict(seen: u16, seen_before: u16) -> Result<(), RecordError> {
    let twice = |group: u16| (seen & group).count_ones() > 1 && (seen_before & group).count_ones() < 2;
    if twice(Field::VALUES) {
        return Err(RecordError::new(
            codes::CONFLICTING_FIELDS,
            "only one of value, value_base64 and value_json may stand",
        ));
    }
    if twice(Field::KEYS) {
        return Err(RecordError::new(codes::CONFLICTING_FIELDS, "only one of key and key_base64 may stand"));
    }
    Ok(())
}

fn not_json(why: &str) -> RecordError {
    RecordError::undelimitable(format!("the line is not a JSON value: {why}"))
}

fn lone_surrogate() -> RecordError {
    RecordError::new(codes::LONE_SURROGATE, "a \\u escape is half of a surrogate pair")
}

/// A name from the wire, short enough for an error message.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(NAME_SHOWN_CHARS).collect()
}
