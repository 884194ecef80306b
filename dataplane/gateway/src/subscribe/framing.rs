//! Fetched records as an HTTP response, in one of five forms.
//!
//! | Form | When | Body |
//! |---|---|---|
//! | one message | `batch` of 1, no other form asked for | the value; everything else in headers |
//! | 2017 TLV | default of batches | `partition i32, offset i64, length i32, value` each, big endian; a null value has length 0 |
//! | NDJSON | by name in `Accept` | an object per line |
//! | JSON | by name in `Accept` | one array of the same objects |
//! | gafka records | by name in `Accept` | see below |
//!
//! ```text
//! vnd.gafka.records, big endian:
//!   length u32 (of what follows) | partition i32 | offset i64 | timestamp i64 | attempt u16 | receipt_length u16, receipt
//!   | attributes u8 (1 null value, 8 key present) | [key_length u32, key]
//!   | header_count u16 | (name_length u16, name | value_length i32 (-1 null), value)… | value
//! ```
//! Without `ack=receipt` every delivery is the first (attempt 1) and there is no receipt: length 0, absent in JSON. Pure
//! functions: records in, content type, headers and body out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use gafka_http::response::is_lower_token;
use gafka_http::{json, pct};
use kafka_client::group::{FetchedRecord, record_bytes};
use std::sync::Arc;

use super::limits::RESPONSE_HEADERS_BYTES_MAX;
use crate::tags::{TAG_HEADER, split, split_2017};

/// Attempt of a message that is delivered at most once.
const ATTEMPT: u16 = 1;
const NULL_VALUE: u8 = 1;
const KEY_PRESENT: u8 = 8;
/// The one record header that travels under its own name (W3C Trace Context); it holds nothing the encoding changes.
const TRACE_HEADER: &str = "traceparent";
/// Bytes per record besides key, value and headers; for the first guess of a body's size only.
const RECORD_OVERHEAD_BYTES: usize = 96;

/// How the body is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    One,
    Tlv,
    Ndjson,
    Json,
    Records,
}

/// Batch forms by the name a client asks for them.
const NAMED: [(&str, Form); 4] = [
    ("application/octet-stream", Form::Tlv),
    ("application/x-ndjson", Form::Ndjson),
    ("application/json", Form::Json),
    ("application/vnd.gafka.records", Form::Records),
];

impl Form {
    /// What a poll gets: the batch form its `Accept` names (the most wanted one, RFC 9110 section 12.5.1; wildcards name
    /// nothing), else the 2017 TLV for a batch, else one message.
    pub fn choose(accept: Option<&[u8]>, framed: bool) -> Form {
        let accept = accept.and_then(|accept| std::str::from_utf8(accept).ok()).unwrap_or("");
        let mut chosen: Option<(Form, u16)> = None;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or("");
            let Some((_, form)) = NAMED.iter().find(|(name, _)| name.eq_ignore_ascii_case(media_type)) else {
                continue;
            };
            let weight =
                parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q="))).map_or(1000, weight);
            if weight > 0 && chosen.is_none_or(|(_, best)| weight > best) {
                chosen = Some((*form, weight));
            }
        }
        match chosen {
            Some((form, _)) => form,
            None if framed => Form::Tlv,
            None => Form::One,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Form::One => "text/plain; charset=utf8", // as in 2017; the gateway does not know what a message is
            Form::Tlv => "application/octet-stream",
            Form::Ndjson => "application/x-ndjson",
            Form::Json => "application/json",
            Form::Records => "application/vnd.gafka.records",
        }
    }
}

/// A quality value in thousandths; one that is none counts as 0.
fn weight(text: &str) -> u16 {
    match text.parse::<f32>() {
        Ok(weight @ 0.0..=1.0) => (weight * 1000.0) as u16,
        _ => 0,
    }
}

/// Everything of a 200 except what every response has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framed {
    pub content_type: &'static str,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Bytes,
    pub messages: usize,
}

/// An answer on its way to its bytes, record by record: one of 32 MiB leaves turns to others.
#[derive(Debug)]
pub struct Framing {
    form: Form,
    records: Arc<Vec<FetchedRecord>>,
    strip_2017_tags: bool,
    /// The record that comes next.
    next: usize,
    headers: Vec<(String, Vec<u8>)>,
    body: Bytes,
    out: BytesMut,
}

impl Framing {
    /// Of `records`, of which there is at least one; [`Form::One`] frames the first.
    ///
    /// # Panics
    /// Without a record.
    pub fn new(form: Form, records: Arc<Vec<FetchedRecord>>, strip_2017_tags: bool) -> Framing {
        assert!(!records.is_empty(), "an answer without records is a 204");
        let (next, (headers, body), out) = match form {
            Form::One => (records.len(), one(&records[0], strip_2017_tags), BytesMut::new()),
            _ => (0, (Vec::new(), Bytes::new()), body_for(&records)),
        };
        Framing { form, records, strip_2017_tags, next, headers, body, out }
    }

    /// Frames more records, until they are about `bytes_left` bytes. True: that was the last of them.
    pub fn step(&mut self, bytes_left: &mut usize) -> bool {
        while let Some(fetched) = self.records.get(self.next) {
            if *bytes_left == 0 {
                return false;
            }
            let before = self.out.len();
            let out = &mut self.out;
            match self.form {
                Form::One => unreachable!("framed when it was made"),
                Form::Tlv => put_tlv(out, fetched, self.strip_2017_tags),
                Form::Ndjson => {
                    put_object(out, fetched, self.strip_2017_tags);
                    out.put_u8(b'\n');
                }
                Form::Json => {
                    out.put_u8(if self.next == 0 { b'[' } else { b',' });
                    put_object(out, fetched, self.strip_2017_tags);
                }
                Form::Records => put_record(out, fetched, self.strip_2017_tags),
            }
            self.next += 1;
            *bytes_left = bytes_left.saturating_sub(out.len() - before);
        }
        true
    }

    /// What was framed, once [`Framing::step`] says that it is all.
    pub fn finish(mut self) -> Framed {
        if self.form == Form::Json {
            self.out.put_u8(b']');
        }
        let body = if self.form == Form::One { self.body } else { self.out.freeze() };
        let messages = if self.form == Form::One { 1 } else { self.records.len() };
        Framed { content_type: self.form.content_type(), headers: self.headers, body, messages }
    }
}

/// A record's value as clients see it, and the tags that stood in front of it.
fn payload(fetched: &FetchedRecord, strip_2017_tags: bool) -> (Bytes, Option<Bytes>) {
    match &fetched.record.value {
        Some(value) if strip_2017_tags => {
            let (tags, payload) = split_2017(value);
            (tags, Some(payload))
        }
        value => (Bytes::new(), value.clone()),
    }
}

// One message

fn one(fetched: &FetchedRecord, strip_2017_tags: bool) -> (Vec<(String, Vec<u8>)>, Bytes) {
    let (old_tags, value) = payload(fetched, strip_2017_tags);
    let record = &fetched.record;
    let mut headers = Vec::with_capacity(8);
    let mut put = |name: &str, value: Vec<u8>| headers.push((name.to_owned(), value));
    put("X-Partition", fetched.partition.to_string().into_bytes());
    put("X-Offset", record.offset.to_string().into_bytes());
    put("X-Timestamp", record.timestamp_ms.to_string().into_bytes());
    match &record.key {
        Some(key) if pct::is_visible_ascii(key) => put("X-Key", key.to_vec()),
        Some(key) => put("X-Key-Base64", STANDARD.encode(key).into_bytes()),
        None => {}
    }
    if value.is_none() {
        put("X-Null", b"1".to_vec());
    }
    let mut tags: Vec<u8> = Vec::new();
    let mut omitted = 0u32;
    let mut bytes_left = RESPONSE_HEADERS_BYTES_MAX;
    let mut rest = Vec::new();
    let old_tags = split(&old_tags).map(|tag| (TAG_HEADER, Some(tag)));
    for (name, value) in old_tags.chain(record.headers.iter_refs()) {
        match value {
            Some(tag) if name == TAG_HEADER && is_plain_tag(tag) && tag.len() < bytes_left => {
                bytes_left -= tag.len() + 1;
                if !tags.is_empty() {
                    tags.push(b';');
                }
                tags.extend_from_slice(tag);
            }
            Some(value) if is_lower_token(name) => {
                let mut encoded = BytesMut::new();
                pct::encode(&mut encoded, value);
                let line_bytes = "X-Header-: \r\n".len() + name.len() + encoded.len();
                if line_bytes > bytes_left {
                    omitted += 1;
                    continue;
                }
                bytes_left -= line_bytes;
                let name = std::str::from_utf8(name).expect("a token is ASCII");
                let name = if name == TRACE_HEADER { name.to_owned() } else { format!("X-Header-{name}") };
                rest.push((name, encoded.to_vec()));
            }
            _ => omitted += 1,
        }
    }
    if !tags.is_empty() {
        headers.push(("X-Tag".to_owned(), tags));
    }
    headers.append(&mut rest);
    if omitted > 0 {
        headers.push(("X-Headers-Omitted".to_owned(), omitted.to_string().into_bytes()));
    }
    (headers, value.unwrap_or_default())
}

/// Whether a tag can stand in a `;` list in a header as it is. One that cannot travels as `X-Header-tag`.
fn is_plain_tag(tag: &[u8]) -> bool {
    !tag.is_empty()
        && tag.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b';')
        && tag.first() != Some(&b' ')
        && tag.last() != Some(&b' ')
}

// Batches

fn body_for(records: &[FetchedRecord]) -> BytesMut {
    let bytes: usize = records.iter().map(|fetched| record_bytes(&fetched.record) + RECORD_OVERHEAD_BYTES).sum();
    BytesMut::with_capacity(bytes)
}

fn put_tlv(out: &mut BytesMut, fetched: &FetchedRecord, strip_2017_tags: bool) {
    let value = payload(fetched, strip_2017_tags).1.unwrap_or_default();
    out.put_i32(fetched.partition);
    out.put_i64(fetched.record.offset);
    out.put_i32(value.len() as i32);
    out.put_slice(&value);
}

fn put_object(out: &mut BytesMut, fetched: &FetchedRecord, strip_2017_tags: bool) {
    let (old_tags, value) = payload(fetched, strip_2017_tags);
    let record = &fetched.record;
    out.put_slice(b"{\"partition\":");
    json::integer(out, i64::from(fetched.partition));
    out.put_slice(b",\"offset\":");
    json::integer(out, record.offset);
    out.put_slice(b",\"timestamp\":");
    json::integer(out, record.timestamp_ms);
    out.put_slice(b",\"attempt\":");
    json::integer(out, i64::from(ATTEMPT));
    if let Some(key) = &record.key {
        put_text_or_base64(out, "key", key);
    }
    match &value {
        Some(value) => put_text_or_base64(out, "value", value),
        None => out.put_slice(b",\"value\":null"),
    }
    out.put_slice(b",\"headers\":[");
    let mut first = true;
    let old_tags = split(&old_tags).map(|tag| (TAG_HEADER, Some(tag)));
    for (name, value) in record.headers.iter_refs().chain(old_tags) {
        if !std::mem::take(&mut first) {
            out.put_u8(b',');
        }
        out.put_u8(b'[');
        json::lossy(out, name);
        out.put_u8(b',');
        match value.map(|value| (value, std::str::from_utf8(value))) {
            None => out.put_slice(b"null"),
            Some((_, Ok(text))) => json::string(out, text),
            Some((bytes, Err(_))) => {
                out.put_slice(b"{\"base64\":\"");
                out.put_slice(STANDARD.encode(bytes).as_bytes());
                out.put_slice(b"\"}");
            }
        }
        out.put_u8(b']');
    }
    out.put_slice(b"]}");
}

/// `,"NAME":"text"`, or `,"NAME_base64":"…"` when the bytes are no text.
fn put_text_or_base64(out: &mut BytesMut, name: &str, bytes: &[u8]) {
    out.put_slice(b",\"");
    out.put_slice(name.as_bytes());
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            out.put_slice(b"\":");
            json::string(out, text);
        }
        Err(_) => {
            out.put_slice(b"_base64\":\"");
            out.put_slice(STANDARD.encode(bytes).as_bytes());
            out.put_u8(b'"');
        }
    }
}

fn put_record(out: &mut BytesMut, fetched: &FetchedRecord, strip_2017_tags: bool) {
    let (old_tags, value) = payload(fetched, strip_2017_tags);
    let record = &fetched.record;
    let start = out.len();
    out.put_u32(0); // the length, known at the end
    out.put_i32(fetched.partition);
    out.put_i64(record.offset);
    out.put_i64(record.timestamp_ms);
    out.put_u16(ATTEMPT);
    out.put_u16(0); // no receipt
    let null_value = if value.is_none() { NULL_VALUE } else { 0 };
    let key_present = if record.key.is_some() { KEY_PRESENT } else { 0 };
    out.put_u8(null_value | key_present);
    if let Some(key) = &record.key {
        out.put_u32(key.len() as u32);
        out.put_slice(key);
    }
    let count_at = out.len();
    out.put_u16(0); // the header count, known below
    let mut header_count = 0u16;
    let old_tags = split(&old_tags).map(|tag| (TAG_HEADER, Some(tag)));
    for (name, value) in record.headers.iter_refs().chain(old_tags) {
        // Kafka knows neither limit; nobody's headers reach them.
        let Ok(name_length) = u16::try_from(name.len()) else { continue };
        let Some(next_count) = header_count.checked_add(1) else { break };
        header_count = next_count;
        out.put_u16(name_length);
        out.put_slice(name);
        out.put_i32(value.map_or(-1, |value| value.len() as i32));
        out.put_slice(value.unwrap_or_default());
    }
    out[count_at..count_at + 2].copy_from_slice(&header_count.to_be_bytes());
    out.put_slice(&value.unwrap_or_default());
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use kafka_wire::compression::Compression;
    use kafka_wire::record_batch::{BatchBuilder, HeaderRef, Record, RecordRef, batches};

    type TestHeader<'a> = (&'a [u8], Option<&'a [u8]>);

    pub fn record(headers: &[TestHeader<'_>], value: Option<&[u8]>) -> Record {
        full(None, value, headers)
    }

    /// A record as it comes out of a batch: offset 0, timestamp 1700000000123.
    pub fn full(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[TestHeader<'_>]) -> Record {
        let headers: Vec<HeaderRef<'_>> =
            headers.iter().map(|(name, value)| HeaderRef { name, value: *value }).collect();
        let mut builder = BatchBuilder::with_capacity(256);
        builder.append(&RecordRef { timestamp_ms: 1_700_000_000_123, key, value, headers: &headers });
        let mut batch = builder.seal(Compression::None);
        batch.stamp(-1, -1, -1);
        let batch = batches(batch.to_bytes()).next().unwrap().unwrap();
        batch.records(1 << 20).unwrap().next().unwrap().unwrap()
    }

    pub fn fetched(partition: i32, offset: i64, record: Record) -> FetchedRecord {
        FetchedRecord { partition, record: Record { offset, ..record }, pinned_bytes: 0 }
    }

    fn frame(form: Form, records: &[FetchedRecord], strip_2017_tags: bool) -> Framed {
        let mut framing = Framing::new(form, Arc::new(records.to_vec()), strip_2017_tags);
        assert!(framing.step(&mut { usize::MAX }));
        framing.finish()
    }

    fn check_one(record: Record, strip: bool, expected: Expect) {
        let framed = frame(Form::One, &[fetched(3, 42, record)], strip);
        let mut text = String::new();
        for (name, value) in &framed.headers {
            text.push_str(&format!("{name}: {}\n", value.escape_ascii()));
        }
        text.push_str(&format!("\n{}", framed.body.escape_ascii()));
        expected.assert_eq(&text);
    }

    fn check_batch(form: Form, expected: Expect) {
        let records = [
            fetched(
                0,
                7,
                full(Some(b"k1"), Some("h\u{e9}llo \"you\"\n".as_bytes()), &[(b"a", Some(b"1")), (b"a", None)]),
            ),
            fetched(1, 8, full(Some(b"\xff"), Some(b"\x00\xfe"), &[(b"Bin", Some(b"\xff\x00"))])),
            fetched(1, 9, full(None, None, &[])),
        ];
        let framed = frame(form, &records, false);
        assert_eq!((framed.content_type, framed.headers.len()), (form.content_type(), 0));
        let text = match std::str::from_utf8(&framed.body) {
            Ok(text) if matches!(form, Form::Json | Form::Ndjson) => text.to_owned(),
            _ => framed.body.escape_ascii().to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn one_plain_message_is_its_value_and_its_position() {
        check_one(
            full(Some(b"user-1"), Some(b"hello"), &[]),
            false,
            expect![[r#"
            X-Partition: 3
            X-Offset: 42
            X-Timestamp: 1700000000123
            X-Key: user-1

            hello"#]],
        );
    }

    #[test]
    fn a_key_that_is_not_visible_ascii_travels_in_base64() {
        check_one(
            full(Some(b"a b"), Some(b""), &[]),
            false,
            expect![[r#"
            X-Partition: 3
            X-Offset: 42
            X-Timestamp: 1700000000123
            X-Key-Base64: YSBi

        "#]],
        );
    }

    #[test]
    fn a_null_value_says_so() {
        check_one(
            full(None, None, &[]),
            false,
            expect![[r#"
            X-Partition: 3
            X-Offset: 42
            X-Timestamp: 1700000000123
            X-Null: 1

        "#]],
        );
    }

    #[test]
    fn headers_are_percent_encoded_and_what_cannot_travel_is_counted() {
        let headers: &[TestHeader<'_>] = &[
            (b"plain", Some(b"a-b")),
            (b"plain", Some("50%, \u{fc}".as_bytes())),
            (b"bin", Some(b"\xff\r\n")),
            (b"empty", Some(b"")),
            (b"null", None),
            (b"Upper", Some(b"x")),
            (b"with space", Some(b"x")),
            (b"", Some(b"x")),
            (b"traceparent", Some(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        ];
        check_one(
            full(None, Some(b"v"), headers),
            false,
            expect![[r#"
            X-Partition: 3
            X-Offset: 42
            X-Timestamp: 1700000000123
            X-Header-plain: a-b
            X-Header-plain: 50%25%2C%20%C3%BC
            X-Header-bin: %FF%0D%0A
            X-Header-empty: 
            traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
            X-Headers-Omitted: 4

            v"#]],
        );
    }

    #[test]
    fn tags_come_from_headers_and_from_the_2017_prefix() {
        let headers: &[TestHeader<'_>] = &[(b"tag", Some(b"a")), (b"tag", Some(b"b c")), (b"tag", Some(b"x;y"))];
        check_one(
            full(None, Some(b"\x01old;a\x02payload"), headers),
            true,
            expect![[r#"
            X-Partition: 3
            X-Offset: 42
            X-Timestamp: 1700000000123
            X-Tag: old;a;a;b c
            X-Header-tag: x;y

            payload"#]],
        );
        check_one(
            full(None, Some(b"\x01old\x02payload"), &[]),
            false,
            expect![[r#"
            X-Partition: 3
            X-Offset: 42
            X-Timestamp: 1700000000123

            \x01old\x02payload"#]],
        );
    }

    #[test]
    fn headers_beyond_what_a_response_head_may_hold_are_left_out_and_counted() {
        let value = vec![b'x'; 10_000];
        let framed =
            frame(Form::One, &[fetched(0, 0, record(&[(b"a", Some(&value)), (b"b", Some(&value))], None))], false);
        let names: Vec<&str> = framed.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[3..], ["X-Null", "X-Header-a", "X-Headers-Omitted"]);
    }

    #[test]
    fn the_2017_framing_is_partition_offset_length_value() {
        check_batch(
            Form::Tlv,
            expect![[
                r#"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\rh\xc3\xa9llo \"you\"\n\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x00\x02\x00\xfe\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\t\x00\x00\x00\x00"#
            ]],
        );
    }

    #[test]
    fn ndjson_is_an_object_per_line() {
        check_batch(
            Form::Ndjson,
            expect![[r#"
                {"partition":0,"offset":7,"timestamp":1700000000123,"attempt":1,"key":"k1","value":"héllo \"you\"\n","headers":[["a","1"],["a",null]]}
                {"partition":1,"offset":8,"timestamp":1700000000123,"attempt":1,"key_base64":"/w==","value_base64":"AP4=","headers":[["Bin",{"base64":"/wA="}]]}
                {"partition":1,"offset":9,"timestamp":1700000000123,"attempt":1,"value":null,"headers":[]}
            "#]],
        );
    }

    #[test]
    fn json_is_one_array_of_the_same_objects() {
        check_batch(
            Form::Json,
            expect![[
                r#"[{"partition":0,"offset":7,"timestamp":1700000000123,"attempt":1,"key":"k1","value":"héllo \"you\"\n","headers":[["a","1"],["a",null]]},{"partition":1,"offset":8,"timestamp":1700000000123,"attempt":1,"key_base64":"/w==","value_base64":"AP4=","headers":[["Bin",{"base64":"/wA="}]]},{"partition":1,"offset":9,"timestamp":1700000000123,"attempt":1,"value":null,"headers":[]}]"#
            ]],
        );
    }

    #[test]
    fn gafka_records_keep_every_byte() {
        check_batch(
            Form::Records,
            expect![[
                r#"\x00\x00\x00=\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x01\x8b\xcf\xe5h{\x00\x01\x00\x00\x08\x00\x00\x00\x02k1\x00\x02\x00\x01a\x00\x00\x00\x011\x00\x01a\xff\xff\xff\xffh\xc3\xa9llo \"you\"\n\x00\x00\x00-\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x08\x00\x00\x01\x8b\xcf\xe5h{\x00\x01\x00\x00\x08\x00\x00\x00\x01\xff\x00\x01\x00\x03Bin\x00\x00\x00\x02\xff\x00\x00\xfe\x00\x00\x00\x1b\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\t\x00\x00\x01\x8b\xcf\xe5h{\x00\x01\x00\x00\x01\x00\x00"#
            ]],
        );
    }

    #[test]
    fn in_turns_comes_out_what_comes_out_at_once() {
        let records: Vec<FetchedRecord> =
            (0..9).map(|offset| fetched(0, offset, record(&[], Some(&[b'x'; 100])))).collect();
        for (_, form) in NAMED {
            let whole = frame(form, &records, false);
            let mut framing = Framing::new(form, Arc::new(records.clone()), false);
            let mut turns = 1;
            while !framing.step(&mut 300) {
                turns += 1;
            }
            assert_eq!(framing.finish(), whole, "{form:?}");
            assert!((3..9).contains(&turns), "{form:?}: {turns} turns");
        }
    }

    #[test]
    fn old_tags_become_headers_in_the_forms_that_have_them() {
        let records = [fetched(0, 0, record(&[], Some(b"\x01a;b\x02v")))];
        let body = frame(Form::Json, &records, true).body;
        expect![[r#"[{"partition":0,"offset":0,"timestamp":1700000000123,"attempt":1,"value":"v","headers":[["tag","a"],["tag","b"]]}]"#]]
        .assert_eq(std::str::from_utf8(&body).unwrap());
    }

    #[test]
    fn accept_names_a_form_and_wildcards_name_none() {
        for (accept, framed, expected) in [
            (None, false, Form::One),
            (None, true, Form::Tlv),
            (Some("*/*"), false, Form::One),
            (Some("*/*"), true, Form::Tlv),
            (Some("text/html"), true, Form::Tlv),
            (Some("application/json"), false, Form::Json),
            (Some("Application/JSON; charset=utf-8"), false, Form::Json),
            (Some("application/octet-stream"), false, Form::Tlv),
            (Some("application/x-ndjson, application/json"), false, Form::Ndjson),
            (Some("application/x-ndjson;q=0.5, application/vnd.gafka.records;q=0.9, */*"), true, Form::Records),
            (Some("application/json;q=0"), true, Form::Tlv),
            (Some("application/json;q=x"), false, Form::One),
            (Some("text/plain, */*;q=0.1"), false, Form::One),
        ] {
            assert_eq!(Form::choose(accept.map(str::as_bytes), framed), expected, "{accept:?} {framed}");
        }
        assert_eq!(Form::choose(Some(b"\xff"), false), Form::One);
    }
}
