//! The batch formats as tables, at every cut, against serde_json, and their receipts.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use bytes::BytesMut;
use expect_test::{Expect, expect, expect_file};
use proptest::prelude::*;

use super::limits::{SUMMARY_ERRORS_MAX, SUMMARY_RANGES_MAX};
use super::*;

const LIMITS: BatchLimits = BatchLimits { value_bytes_max: 40, meta_bytes_max: 60, records_max: 6 };
const ROOMY: BatchLimits = BatchLimits { value_bytes_max: 1 << 20, meta_bytes_max: 1 << 16, records_max: u64::MAX };

fn ndjson(limits: BatchLimits) -> BatchParser {
    BatchParser::Ndjson(NdjsonParser::new(limits))
}

fn binary_parser(limits: BatchLimits) -> BatchParser {
    BatchParser::Records(RecordsParser::new(limits))
}

fn show(parsed: &Parsed<'_>) -> String {
    let record = match parsed {
        Ok(record) => record,
        Err(error) => {
            let fatal = if error.fatal { " FATAL" } else { "" };
            return format!("{} {}{fatal}: {error}", error.status, error.code);
        }
    };
    let text = |bytes: Option<&[u8]>| bytes.map_or("null".to_owned(), |bytes| format!("\"{}\"", bytes.escape_ascii()));
    let mut line = format!("value={}", text(record.value));
    if record.key.is_some() {
        write!(line, " key={}", text(record.key)).unwrap();
    }
    if let Some(partition) = record.partition {
        write!(line, " partition={partition}").unwrap();
    }
    if let Some(timestamp_ms) = record.timestamp_ms {
        write!(line, " timestamp={timestamp_ms}").unwrap();
    }
    for header in &record.headers {
        write!(line, " [{}={}]", header.name.escape_ascii(), text(header.value)).unwrap();
    }
    line
}

/// What comes out of a body that arrives in these pieces, a line each.
fn outcome<'a>(mut parser: BatchParser, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
    let mut lines = Vec::new();
    for piece in pieces {
        let mut input = piece;
        while let Some(parsed) = parser.next(&mut input) {
            lines.push(show(&parsed));
        }
        assert!(input.is_empty(), "a parser that yields nothing has used up its input");
    }
    if let Some(parsed) = parser.end() {
        lines.push(show(&parsed));
    }
    assert!(parser.end().is_none(), "a body ends once");
    let fatal = lines.iter().position(|line| line.contains(" FATAL"));
    assert_eq!(parser.is_broken(), fatal.is_some());
    assert!(fatal.is_none_or(|at| at + 1 == lines.len()), "nothing comes after a fatal error");
    lines
}

/// The outcome of the whole, after proving that no cut changes it.
fn outcome_at_every_cut(parser: impl Fn() -> BatchParser, body: &[u8]) -> Vec<String> {
    let whole = outcome(parser(), [body]);
    for cut in 0..=body.len() {
        let cut_up = outcome(parser(), [&body[..cut], &body[cut..]]);
        assert_eq!(cut_up, whole, "cut at {cut} of {}", body.escape_ascii());
    }
    assert_eq!(outcome(parser(), body.chunks(1)), whole, "byte by byte: {}", body.escape_ascii());
    whole
}

/// Each row is a body.
fn check_ndjson(rows: &[&str], expected: Expect) {
    let mut table = String::new();
    for row in rows {
        table += &format!("{}\n", row.escape_default());
        for line in outcome_at_every_cut(|| ndjson(LIMITS), row.as_bytes()) {
            table += &format!("    {line}\n");
        }
    }
    expected.assert_eq(&table);
}

#[test]
fn ndjson_values_keys_and_positions_are_what_the_line_says() {
    check_ndjson(
        &[
            r#"{"value":"text"}"#,
            r#"{"value":""}"#,
            r#"{"value":null}"#,
            "{}",
            r#" { "value" : "a" , "key" : "k" } "#,
            r#"{"value":"\"\\\/\b\f\n\r\tA\u0041\u00e9\u20ac\ud83d\ude00"}"#,
            r#"{"value_base64":"AAEC/w=="}"#,
            r#"{"value_base64":"AAEC\/w"}"#,
            r#"{"value_base64":""}"#,
            r#"{"value_json":{"a":[1,-2.5e+3,"x\ud800",{}],"b":null}}"#,
            r#"{"value_json":null}"#,
            r#"{"value_json":  [ 1 , 2 ]  }"#,
            r#"{"key":""}"#,
            r#"{"key_base64":"/w=="}"#,
            r#"{"key":null,"partition":null,"timestamp":null,"headers":null,"value_base64":null}"#,
            r#"{"partition":0,"timestamp":0}"#,
            r#"{"partition":2147483647,"timestamp":9223372036854775807}"#,
            r#"{"\u0076alue":"name with escape"}"#,
        ],
        expect![[""]],
    );
}

#[test]
fn ndjson_headers_come_in_two_forms() {
    check_ndjson(
        &[
            r#"{"headers":{}}"#,
            r#"{"headers":[]}"#,
            r#"{"headers":{"a":"1","b":"\u00e9"}}"#,
            r#"{"headers":[["a","1"],["a",null],["b",{"base64":"/w=="}],["",""]]}"#,
            r#"{"headers": [ [ "a" , "1" ] , [ "b" , { "base64" : "" } ] ] }"#,
            r#"{"headers":{"a":"1","\u0061":"2"}}"#,
            r#"{"headers":{"a":null}}"#,
            r#"{"headers":{"a":1}}"#,
            r#"{"headers":[["a"]]}"#,
            r#"{"headers":[["a","1","2"]]}"#,
            r#"{"headers":[["a",1]]}"#,
            r#"{"headers":[[null,"1"]]}"#,
            r#"{"headers":["a","1"]}"#,
            r#"{"headers":[["a",{"base64":"!"}]]}"#,
            r#"{"headers":[["a",{"base64":"","x":1}]]}"#,
            r#"{"headers":[["a",{"base32":""}]]}"#,
            r#"{"headers":[["a",{}]]}"#,
            r#"{"headers":"a"}"#,
            r#"{"headers":{"a":"\ud800"}}"#,
        ],
        expect![[""]],
    );
}

#[test]
fn ndjson_records_that_are_json_but_wrong_fail_alone() {
    check_ndjson(
        &[
            "1\n\"x\"\nnull\n[]\n{}",
            r#"{"valu":"x"}"#,
            r#"{"value":"x","value":"y"}"#,
            r#"{"value":null,"value":null}"#,
            r#"{"value":"x","value_base64":"AA=="}"#,
            r#"{"value":null,"value_json":1}"#,
            r#"{"value":"x","value_base64":"AA==","value_json":1,"value":""}"#,
            r#"{"key":"a","key_base64":"AA=="}"#,
            r#"{"value":1}"#,
            r#"{"value":{"a":1}}"#,
            r#"{"value":true}"#,
            r#"{"value_base64":1}"#,
            r#"{"value_base64":"A"}"#,
            r#"{"value_base64":"AA=A"}"#,
            r#"{"value_base64":"-_=="}"#,
            r#"{"key":1}"#,
            r#"{"partition":-1}"#,
            r#"{"partition":1.0}"#,
            r#"{"partition":1e0}"#,
            r#"{"partition":"1"}"#,
            r#"{"partition":2147483648}"#,
            r#"{"timestamp":-1}"#,
            r#"{"timestamp":9223372036854775808}"#,
            r#"{"timestamp":"2026-11-22T00:00:00Z"}"#,
            r#"{"value":"\ud800"}"#,
            r#"{"value":"\ude00\ud83d"}"#,
            r#"{"value":"\ud83dx"}"#,
            r#"{"value":"\ud83d\u0041"}"#,
            r#"{"\ud800":"x"}"#,
            "{\"value\":\"1\"}\n{\"x\":1}\n{\"value\":\"3\"}\n",
            r#"{"value":"0123456789012345678901234567890123456789"}"#,
            r#"{"value":"01234567890123456789012345678901234567890"}"#,
            r#"{"value_json":"012345678901234567890123456789012345678"}"#,
            r#"{"key":"0123456789012345678901234567890123456789012345678901234567890"}"#,
            r#"{"headers":{"a":"","b":"","c":"","d":"","e":"","f":"","g":""}}"#,
        ],
        expect![[""]],
    );
}

#[test]
fn ndjson_lines_that_are_not_json_end_the_batch() {
    check_ndjson(
        &[
            "{\"value\":\"1\"}\nnonsense\n{\"value\":\"3\"}\n",
            "{\"value\":\"1\"",
            "{\"value\":\"1\",}",
            "{\"value\":\"1\"}}",
            "{\"value\":\"1\"}{\"value\":\"2\"}",
            "{\"value\":\"1\"} x",
            "{\"value\" \"1\"}",
            "{value:\"1\"}",
            "{'value':'1'}",
            "{\"value\":\"1}",
            "{\"value\":\"a\u{1}b\"}",
            "{\"value\":\"a\tb\"}",
            "{\"value\":\"\\x\"}",
            "{\"value\":\"\\u12\"}",
            "{\"value\":\"\\u12g4\"}",
            "{\"value\":\"\\",
            "{\n\"value\":\"1\"\n}",
            "{\"value_json\":}",
            "{\"value_json\":[1,]}",
            "{\"value_json\":[1 2]}",
            "{\"value_json\":{\"a\"}}",
            "{\"value_json\":[}]}",
            "{\"value_json\":01}",
            "{\"value_json\":1.}",
            "{\"value_json\":.5}",
            "{\"value_json\":+1}",
            "{\"value_json\":-}",
            "{\"value_json\":1e}",
            "{\"value_json\":nul}",
            "{\"value_json\":NaN}",
            "{\"value\":nullx}",
            "{\"unknown\":[}",
            "{\"value\":1,\"value\":tru}",
            "[1",
            "\u{feff}{\"value\":\"1\"}",
        ],
        expect![[""]],
    );
    let not_utf8 = b"{\"value\":\"1\"}\n{\"value\":\"\xff\"}\n{}\n";
    expect![[""]].assert_eq(&outcome_at_every_cut(|| ndjson(LIMITS), not_utf8).join("\n"));
}

#[test]
fn ndjson_blank_lines_are_no_records() {
    check_ndjson(
        &["", "\n", "\n\r\n \t\n", "\n{}\n\n\r\n{}\r\n", "{}", "{}\n", "  {}  \n  "],
        expect![[""]],
    );
}

#[test]
fn ndjson_lines_and_batches_have_limits() {
    let tiny = BatchLimits { value_bytes_max: 2, meta_bytes_max: 2, records_max: 3 };
    let long = tiny.line_bytes_max();
    let body = [" ".repeat(long - 2) + "{}", " ".repeat(long - 1) + "{}", "{}".to_owned(), "{}".to_owned()].join("\n");
    let parser = || ndjson(tiny);
    let whole = outcome(parser(), [body.as_bytes()]);
    for piece_bytes in [1, 2, 3, 1000, long - 1, long, long + 1] {
        assert_eq!(outcome(parser(), body.as_bytes().chunks(piece_bytes)), whole, "pieces of {piece_bytes}");
    }
    expect![[""]].assert_eq(&whole.join("\n"));
    let unended = "x".repeat(long + 1);
    expect![[""]].assert_eq(&outcome(parser(), [unended.as_bytes()]).join("\n"));
}

#[test]
fn ndjson_nesting_is_bounded_by_the_line_not_by_the_stack() {
    let deep = format!("{{\"value_json\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let lines = outcome(ndjson(ROOMY), [deep.as_bytes()]);
    assert!(lines[0].starts_with("value=\"[[["), "{}", &lines[0][..60]);
    let open = format!("{{\"value_json\":{}", "{\"a\":[".repeat(100_000));
    assert!(outcome(ndjson(ROOMY), [open.as_bytes()])[0].contains("FATAL"));
}

#[test]
fn a_line_is_read_where_it_arrived_and_buffers_are_given_back() {
    let mut parser = NdjsonParser::new(ROOMY);
    let body = b"{\"value\":\"here\"}\n".to_vec();
    let mut input = &body[..];
    let value = parser.next(&mut input).unwrap().unwrap().value.unwrap().as_ptr_range();
    assert!(body.as_ptr_range().contains(&value.start), "the value is a slice of the input");
    assert_eq!(parser.held_bytes(), 0);
    let large = format!("{{\"value\":\"\\n{}", "x".repeat(300_000));
    assert!(parser.next(&mut large.as_bytes()).is_none());
    assert!(parser.held_bytes() >= 300_000);
    assert!(parser.next(&mut &b"\"}\n"[..]).unwrap().is_ok());
    assert!(parser.next(&mut &b"{}\n{"[..]).unwrap().is_ok());
    assert!(parser.held_bytes() < 100_000, "{} bytes are still held", parser.held_bytes());
}

/// A binary record with its length, from parts in hexadecimal and text: `00|0000|'abc'`.
fn binary(parts: &str) -> Vec<u8> {
    let body = unframed(parts);
    [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
}

fn unframed(parts: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts.split('|') {
        match part.strip_prefix('\'') {
            Some(text) => body.extend_from_slice(text.trim_end_matches('\'').as_bytes()),
            None => body.extend(
                (0..part.len()).step_by(2).map(|at| u8::from_str_radix(&part[at..at + 2], 16).expect("hexadecimal")),
            ),
        }
    }
    body
}

/// Rows are records, or raw bytes after `raw `; rows with `;` are several in one body.
fn check_records(rows: &[&str], expected: Expect) {
    let mut table = String::new();
    for row in rows {
        let body: Vec<u8> = row
            .split(';')
            .flat_map(|record| record.strip_prefix("raw ").map_or_else(|| binary(record), unframed))
            .collect();
        table += &format!("{row}\n");
        for line in outcome_at_every_cut(|| binary_parser(LIMITS), &body) {
            table += &format!("    {line}\n");
        }
    }
    expected.assert_eq(&table);
}

#[test]
fn binary_records_carry_what_their_attributes_say() {
    check_records(
        &[
            "00|0000|'value'",
            "00|0000",
            "01|0000",
            "02|0000019b8f8c6d80|0000|'v'",
            "04|00000003|0000|'v'",
            "08|00000001|'k'|0000|'v'",
            "08|00000000|0000|'v'",
            "0f|0000000000000007|00000003|00000001|'k'|0000",
            "00|0003|0001|'a'|00000001|'1'|0001|'a'|ffffffff|0000|00000000|'v'",
            "00|0000|'a';00|0000|'b';01|0000",
            "00|0000|ff00",
        ],
        expect![[""]],
    );
}

#[test]
fn binary_records_that_are_wrong_inside_fail_alone() {
    check_records(
        &[
            "10|0000|'v';00|0000|'next'",
            "80|0000;00|0000|'next'",
            "01|0000|'v'",
            "02|ffffffffffffffff|0000",
            "04|ffffffff|0000",
            "02|00000000",
            "08|00000005|'k'|0000",
            "08|ffffffff|'k'|0000",
            "00|0001|0005|'ab'",
            "00|0001|0001|'a'|00000005|'b'",
            "00|0001|0001|'a'|fffffffe",
            "00|0001|0001|ff|ffffffff",
            "00|ffff|'v'",
            "00|0000|'0123456789012345678901234567890123456789'",
            "00|0000|'01234567890123456789012345678901234567890';00|0000|'next'",
            "08|0000003d|'0123456789012345678901234567890123456789012345678901234567890'|0000",
            "00|0000|'012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789';00|0000|'next'",
            "00|0000;00|0000;00|0000;00|0000;00|0000;00|0000;00|0000",
        ],
        expect![[""]],
    );
}

#[test]
fn binary_records_that_cannot_be_delimited_end_the_batch() {
    check_records(
        &[
            "00|0000|'a';raw 00000000;00|0000|'b'",
            "raw 00000002|0000",
            "raw ffffffff|00|0000",
            "raw 04000001|00|0000",
            "raw 'GET /v1'",
            "00|0000|'a';raw 00",
            "raw 00000005|00|0000|'v'",
            "raw 00001000|00|0000|'v'",
            "raw ",
        ],
        expect![[""]],
    );
}

#[test]
fn the_content_type_chooses_the_parser() {
    let chosen = |content_type: &str| match BatchParser::for_content_type(content_type.as_bytes(), LIMITS) {
        Some(BatchParser::Ndjson(_)) => "ndjson",
        Some(BatchParser::Records(_)) => "records",
        None => "none",
    };
    assert_eq!(chosen("application/x-ndjson"), "ndjson");
    assert_eq!(chosen("Application/X-NDJSON; charset=utf-8"), "ndjson");
    assert_eq!(chosen("application/vnd.gafka.records"), "records");
    assert_eq!(chosen("application/json"), "none");
    assert_eq!(chosen(""), "none");
}

#[test]
fn the_fuzz_corpora_have_the_outcomes_they_had() {
    let mut table = String::new();
    for (target, parser) in [("batch_ndjson", ndjson as fn(BatchLimits) -> BatchParser), ("batch_records", binary_parser)] {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/fuzz/corpus").join(target);
        let mut paths: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{} holds the corpus", dir.display());
        for path in paths {
            table += &format!("{target} {}\n", path.file_name().unwrap().to_string_lossy());
            for line in outcome_at_every_cut(|| parser(LIMITS), &fs::read(&path).unwrap()) {
                table += &format!("    {line}\n");
            }
        }
    }
    expect_file!["corpus.txt"].assert_eq(&table);
}

fn error(status: u16, code: &'static str) -> RecordError {
    RecordError::new(status, code, format!("what {code} means"))
}

fn written(receipts: &mut Receipts) -> String {
    let mut out = BytesMut::new();
    while receipts.write_ready(&mut out, 1) > 0 {}
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn receipts_wait_for_those_before_them() {
    let mut receipts = Receipts::new(ReceiptFormat::Ndjson);
    (0..5).for_each(|index| assert_eq!(receipts.open(), index));
    receipts.stored_run(2, 2, 1, 70);
    assert_eq!(written(&mut receipts), "", "records 0 and 1 are not settled");
    receipts.failed_run(1, 1, &error(413, "message_too_large"));
    receipts.stored_run(0, 1, 0, 5);
    receipts.refuse(&error(400, "unknown_field"));
    assert!(!receipts.is_settled());
    expect![[""]].assert_eq(&written(&mut receipts));
    receipts.stored_run(4, 1, 3, -1);
    expect![[""]].assert_eq(&written(&mut receipts));
    assert!(receipts.is_settled());
    assert!(receipts.is_written());
    assert_eq!((receipts.ok(), receipts.failed(), receipts.status()), (4, 2, 200));
    assert_eq!(receipts.first_error().map(|error| error.code), Some("message_too_large"));
}

#[test]
fn binary_receipts_have_14_bytes_each() {
    let mut receipts = Receipts::new(ReceiptFormat::Binary);
    (0..3).for_each(|_| _ = receipts.open());
    receipts.stored_run(0, 2, 3, 256);
    receipts.failed_run(2, 1, &error(504, "outcome_unknown"));
    let mut out = BytesMut::new();
    assert_eq!(receipts.write_ready(&mut out, usize::MAX), 3);
    assert_eq!(out.len() as u64, receipts.binary_bytes());
    let shown: Vec<String> = out.chunks(14).map(|receipt| receipt.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    expect![[""]].assert_eq(&shown.join("\n"));
}

#[test]
fn without_a_stored_record_the_first_error_is_the_answer() {
    let mut receipts = Receipts::new(ReceiptFormat::Summary);
    (0..3).for_each(|_| _ = receipts.open());
    receipts.failed_run(2, 1, &error(400, "later"));
    receipts.failed_run(0, 1, &error(413, "first"));
    receipts.failed_run(1, 1, &error(503, "between"));
    assert_eq!(receipts.status(), 413);
    let mut out = BytesMut::new();
    receipts.write_summary(&mut out);
    expect![[""]].assert_eq(std::str::from_utf8(&out).unwrap());
}

#[test]
fn a_summary_joins_what_is_consecutive_in_a_partition() {
    let mut receipts = Receipts::new(ReceiptFormat::Summary);
    (0..12).for_each(|_| _ = receipts.open());
    receipts.stored_run(2, 2, 1, 100);
    receipts.stored_run(0, 2, 0, 7);
    receipts.stored_run(4, 3, 0, 9);
    receipts.stored_run(7, 1, 1, 103);
    receipts.stored_run(8, 1, 2, -1);
    receipts.stored_run(9, 2, 2, -1);
    receipts.refuse(&error(400, "unknown_field"));
    receipts.failed_run(11, 1, &error(504, "outcome_unknown"));
    let mut out = BytesMut::new();
    receipts.write_summary(&mut out);
    expect![[""]].assert_eq(std::str::from_utf8(&out).unwrap());
    assert!(receipts.is_settled());
    assert_eq!(receipts.status(), 200);
}

#[test]
fn a_summary_is_cut_at_its_limits_and_says_so() {
    let summary = |ranges: usize, errors: usize| {
        let mut receipts = Receipts::new(ReceiptFormat::Summary);
        for range in 0..ranges {
            let record = receipts.open();
            receipts.stored_run(record, 1, 0, range as i64 * 2);
        }
        // The last errors come first, and the first hundred must be shown.
        let first = (0..errors).map(|_| receipts.open()).min().unwrap_or(0);
        for record in (first..first + errors as u64).rev() {
            receipts.failed_run(record, 1, &error(400, "x"));
        }
        let mut out = BytesMut::new();
        receipts.write_summary(&mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let first_shown = json["errors"].get(0).map_or(0, |error| error["record"].as_u64().unwrap() - first);
        let count = |name: &str| json[name].as_array().unwrap().len();
        (json["ok"].clone(), count("ranges"), count("errors"), first_shown, json.get("truncated").is_some())
    };
    assert_eq!(summary(SUMMARY_RANGES_MAX, SUMMARY_ERRORS_MAX), (1000.into(), 1000, 100, 0, false));
    assert_eq!(summary(SUMMARY_RANGES_MAX + 1, 0), (1001.into(), 1000, 0, 0, true));
    assert_eq!(summary(1, SUMMARY_ERRORS_MAX + 1), (1.into(), 1, 100, 0, true));
    let mut run = Receipts::new(ReceiptFormat::Summary);
    (0..150).for_each(|_| _ = run.open());
    run.failed_run(0, 150, &error(503, "kafka_unavailable"));
    let mut out = BytesMut::new();
    run.write_summary(&mut out);
    let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((json["errors"].as_array().unwrap().len(), &json["truncated"]), (100, &true.into()));
}

#[test]
fn too_many_different_errors_share_a_sentence() {
    let mut receipts = Receipts::new(ReceiptFormat::Ndjson);
    for index in 0..1000 {
        receipts.refuse(&RecordError::new(400, "unknown_field", format!("the field f{index} is unknown")));
    }
    let lines = written(&mut receipts);
    assert_eq!(lines.lines().count(), 1000);
    assert!(lines.lines().next().unwrap().contains("f0 is unknown"));
    assert!(lines.lines().last().unwrap().contains("too many different errors"));
}

/// Holds the outcome of one line against serde_json: what is JSON, and what an accepted record says.
fn assert_serde_agrees(line: &str) {
    let is_json = serde_json::from_str::<&serde_json::value::RawValue>(line).is_ok();
    let mut parser = NdjsonParser::new(ROOMY);
    let mut input = line.as_bytes();
    assert!(parser.next(&mut input).is_none());
    let Some(parsed) = parser.end() else {
        assert_eq!(line.trim_ascii(), "", "only a blank line is no record");
        return;
    };
    let record = match parsed {
        Err(error) => return assert_eq!(!error.fatal, is_json, "{error}: {line:?}"),
        Ok(record) => record,
    };
    assert!(is_json, "{line:?}");
    // Lone surrogates and numbers beyond f64 within value_json are JSON, but no serde_json::Value.
    let Ok(reference) = serde_json::from_str::<serde_json::Value>(line) else { return };
    let text = |name: &str| reference.get(name).and_then(|value| value.as_str()).map(str::as_bytes);
    if let Some(value) = text("value") {
        assert_eq!(record.value, Some(value), "{line:?}");
    } else if let Some(json) = reference.get("value_json") {
        let raw: serde_json::Value = serde_json::from_slice(record.value.unwrap()).unwrap();
        assert_eq!(raw, *json, "{line:?}");
    } else if text("value_base64").is_none() {
        assert_eq!(record.value, None, "{line:?}");
    }
    if text("key_base64").is_none() {
        assert_eq!(record.key, text("key"), "{line:?}");
    }
    let number = |name: &str| reference.get(name).and_then(|value| value.as_i64());
    assert_eq!(record.partition.map(i64::from), number("partition"), "{line:?}");
    assert_eq!(record.timestamp_ms, number("timestamp"), "{line:?}");
    let headers = reference.get("headers");
    let count = headers.map_or(0, |headers| {
        headers.as_object().map_or(0, |object| object.len()) + headers.as_array().map_or(0, Vec::len)
    });
    assert_eq!(record.headers.len(), count, "{line:?}");
}

/// JSON texts, and with luck almost JSON.
fn json_text() -> impl Strategy<Value = String> {
    let scalars = prop::sample::select(
        &[
            "null", "true", "false", "0", "-0", "-12", "3.25", "1e9", "2E-3", "1e999", "01", "-", "1.", "\"\"", "\"a\"",
            "\"\\u00e9\\n\"", "\"\\ud83d\\ude00\"", "\"\\ud83d\"", "\"\\x\"", "\"é\"", "\"AA==\"", "\"a", "nul", "",
        ][..],
    );
    let leaf = prop_oneof![8 => scalars.prop_map(str::to_owned), 1 => "\"[ -~é€😀]{0,20}\""];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let space = prop::sample::select(&["", "", " ", "\t "][..]);
        let pair = ("\"[a-c]\"", inner.clone()).prop_map(|(name, value)| format!("{name}:{value}"));
        prop_oneof![
            (prop::collection::vec(inner, 0..4), space.clone())
                .prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(","))),
            (prop::collection::vec(pair, 0..4), space)
                .prop_map(|(pairs, space)| format!("{{{space}{}{space}}}", pairs.join(&format!("{space},{space}")))),
        ]
    })
}

/// Lines that look like records.
fn record_line() -> impl Strategy<Value = String> {
    let names = prop::sample::select(
        &[
            "value", "value", "value_base64", "value_json", "value_json", "key", "key_base64", "headers", "headers",
            "partition", "timestamp", "other", "val\\u0075e",
        ][..],
    );
    let likely = prop::sample::select(
        &[
            "\"text\"", "\"a\\tb\"", "\"AAEC\"", "{\"a\":\"1\"}", "[[\"a\",null],[\"b\",{\"base64\":\"AA\"}]]", "7", "null",
        ][..],
    );
    let value = prop_oneof![3 => likely.prop_map(str::to_owned), 1 => json_text()];
    let field = (names, value).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    prop::collection::vec(field, 0..5).prop_map(|fields| format!("{{{}}}", fields.join(",")))
}

/// A record as a client means it.
#[derive(Debug, Clone)]
struct Meant {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
}

fn meant() -> impl Strategy<Value = Meant> {
    let bytes = || prop_oneof!["[ -~é\\u{1}\\n]{0,12}".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..12)];
    let maybe = move || prop::option::of(bytes());
    let headers = prop::collection::vec(("[a-zé\"]{0,6}", prop::option::of(bytes())), 0..6);
    (maybe(), maybe(), headers, prop::option::of(0..i32::MAX), prop::option::of(0..i64::MAX)).prop_map(
        |(key, value, headers, partition, timestamp_ms)| Meant { key, value, headers, partition, timestamp_ms },
    )
}

impl Meant {
    /// Text where it is text, else base64.
    fn ndjson(&self) -> String {
        use base64::Engine as _;
        let base64 = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let field = |name: &str, bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => format!("\"{name}\":{}", serde_json::to_string(text).unwrap()),
            Err(_) => format!("\"{name}_base64\":\"{}\"", base64(bytes)),
        };
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            let value = match value.as_deref().map(|bytes| (std::str::from_utf8(bytes), bytes)) {
                None => "null".to_owned(),
                Some((Ok(text), _)) => serde_json::to_string(text).unwrap(),
                Some((Err(_), bytes)) => format!("{{\"base64\":\"{}\"}}", base64(bytes)),
            };
            format!("[{},{value}]", serde_json::to_string(name).unwrap())
        };
        let headers: Vec<String> = self.headers.iter().map(header).collect();
        let mut fields = vec![format!("\"headers\":[{}]", headers.join(","))];
        fields.extend(self.key.as_deref().map(|key| field("key", key)));
        fields.extend(self.value.as_deref().map(|value| field("value", value)));
        fields.extend(self.partition.map(|partition| format!("\"partition\":{partition}")));
        fields.extend(self.timestamp_ms.map(|timestamp_ms| format!("\"timestamp\":{timestamp_ms}")));
        format!("{{{}}}\n", fields.join(","))
    }

    fn binary(&self) -> Vec<u8> {
        let attributes = u8::from(self.value.is_none())
            | u8::from(self.timestamp_ms.is_some()) << 1
            | u8::from(self.partition.is_some()) << 2
            | u8::from(self.key.is_some()) << 3;
        let mut body = vec![attributes];
        body.extend(self.timestamp_ms.iter().flat_map(|timestamp_ms| timestamp_ms.to_be_bytes()));
        body.extend(self.partition.iter().flat_map(|partition| partition.to_be_bytes()));
        if let Some(key) = &self.key {
            body.extend((key.len() as u32).to_be_bytes());
            body.extend(key);
        }
        body.extend((self.headers.len() as u16).to_be_bytes());
        for (name, value) in &self.headers {
            body.extend((name.len() as u16).to_be_bytes());
            body.extend(name.as_bytes());
            body.extend(value.as_ref().map_or(-1, |value| value.len() as i32).to_be_bytes());
            body.extend(value.iter().flatten());
        }
        body.extend(self.value.iter().flatten());
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    }

    fn shown(&self) -> String {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| HeaderRef { name: name.as_bytes(), value: value.as_deref() }).collect();
        show(&Ok(ParsedRecord {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
            partition: self.partition,
            timestamp_ms: self.timestamp_ms,
        }))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_meant_is_what_comes_out(records in prop::collection::vec(meant(), 0..4)) {
        let meant: Vec<String> = records.iter().map(Meant::shown).collect();
        let body: String = records.iter().map(Meant::ndjson).collect();
        prop_assert_eq!(outcome_at_every_cut(|| ndjson(ROOMY), body.as_bytes()), meant.clone());
        let body: Vec<u8> = records.iter().flat_map(Meant::binary).collect();
        prop_assert_eq!(outcome_at_every_cut(|| binary_parser(ROOMY), &body), meant);
    }

    #[test]
    fn random_bytes_are_read_the_same_at_every_cut(bytes in prop::collection::vec(any::<u8>(), 0..80), small in prop::collection::vec(0..12u8, 0..60)) {
        outcome_at_every_cut(|| ndjson(LIMITS), &bytes);
        outcome_at_every_cut(|| binary_parser(LIMITS), &bytes);
        outcome_at_every_cut(|| binary_parser(LIMITS), &small);
    }

    #[test]
    fn bodies_of_almost_records_are_read_the_same_at_every_cut(lines in prop::collection::vec(record_line(), 0..4)) {
        outcome_at_every_cut(|| ndjson(LIMITS), lines.join("\n").as_bytes());
    }

    #[test]
    fn receipts_come_out_in_record_order_whatever_order_outcomes_have(
        runs in prop::collection::vec((1..5u64, 0..4i32, any::<bool>()), 1..20).prop_flat_map(|runs| {
            let order: Vec<usize> = (0..runs.len()).collect();
            (Just(runs), Just(order).prop_shuffle())
        }),
        binary in any::<bool>(),
    ) {
        let (runs, order) = runs;
        let format = if binary { ReceiptFormat::Binary } else { ReceiptFormat::Ndjson };
        let mut shuffled = Receipts::new(format);
        let mut straight = Receipts::new(format);
        let mut firsts = Vec::new();
        for (count, ..) in &runs {
            firsts.push((0..*count).map(|_| { straight.open(); shuffled.open() }).min().unwrap());
        }
        let settle = |receipts: &mut Receipts, at: usize| {
            let (count, partition, stored) = runs[at];
            if stored {
                receipts.stored_run(firsts[at], count, partition, at as i64 * 100);
            } else {
                receipts.failed_run(firsts[at], count, &error(503, "kafka_unavailable"));
            }
        };
        let mut out = BytesMut::new();
        for at in order {
            settle(&mut shuffled, at);
            shuffled.write_ready(&mut out, 50);
        }
        while shuffled.write_ready(&mut out, 50) > 0 {}
        (0..runs.len()).for_each(|at| settle(&mut straight, at));
        let mut expected = BytesMut::new();
        straight.write_ready(&mut expected, usize::MAX);
        prop_assert_eq!(out, expected);
        prop_assert!(shuffled.is_written());
        prop_assert_eq!(shuffled.status(), straight.status());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8000))]

    #[test]
    fn serde_json_agrees_on_what_is_json_and_what_it_says(line in prop_oneof![record_line(), json_text()], cut in 0..60usize, junk in "[\\]\\[{}\",:a-f0-9 \\\\u\\t]{0,2}") {
        assert_serde_agrees(&line);
        let cut = (0..=cut.min(line.len())).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        assert_serde_agrees(&format!("{}{junk}{}", &line[..cut], &line[cut..]));
        assert_serde_agrees(&line[..cut]);
    }
}
