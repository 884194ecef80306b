//! The batch formats as tables, at every cut, against serde_json, and their receipts.

mod ndjson;
mod properties;
mod receipts;
mod records;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use expect_test::expect_file;

use super::*;
use crate::due::Due;

const LIMITS: BatchLimits = BatchLimits { value_bytes_max: 40, meta_bytes_max: 60, records_max: 6, takes_due: false };
const ROOMY: BatchLimits =
    BatchLimits { value_bytes_max: 1 << 20, meta_bytes_max: 1 << 16, records_max: u64::MAX, takes_due: false };
/// Of delayed jobs.
const JOBS: BatchLimits = BatchLimits { takes_due: true, ..LIMITS };
const ROOMY_JOBS: BatchLimits = BatchLimits { takes_due: true, ..ROOMY };

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
    match record.due {
        Some(Due::At { ms }) => write!(line, " due={ms}").unwrap(),
        Some(Due::In { ms }) => write!(line, " delay={ms}").unwrap(),
        None => {}
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
    for (target, parser) in
        [("batch_ndjson", ndjson as fn(BatchLimits) -> BatchParser), ("batch_records", binary_parser)]
    {
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
    RecordError { status, code, message: format!("what {code} means").into(), fatal: false }
}
