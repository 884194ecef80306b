//! What the tests of this crate share: outcomes as lines of text.
#![allow(dead_code, reason = "every test binary uses its part")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use gafka_http::{BodyKind, ChunkedDecoder, Head, HeadLimits, parse_head};

/// Small limits, so that rows of tables can reach them.
pub const SMALL: HeadLimits = HeadLimits { head_bytes_max: 512, headers_max: 8, uri_bytes_max: 128 };

/// One line that says everything a head means, or the answer it gets.
pub fn head_outcome(buf: &[u8], limits: &HeadLimits) -> String {
    match parse_head(buf, limits) {
        Ok(None) => "incomplete".to_owned(),
        Ok(Some(head)) => describe(&head, buf.len()),
        Err(err) => format!("{} {}: {err}", err.status, err.code),
    }
}

fn describe(head: &Head<'_>, buf_bytes: usize) -> String {
    let mut line = format!("{} {}", head.method.as_str(), head.path);
    if let Some(query) = head.query {
        write!(line, " ?{query}").unwrap();
    }
    if head.minor_version == 0 {
        line.push_str(" 1.0");
    }
    match head.body {
        BodyKind::None => {}
        BodyKind::Length(bytes) => write!(line, " length={bytes}").unwrap(),
        BodyKind::Chunked => line.push_str(" chunked"),
    }
    if !head.keep_alive {
        line.push_str(" close");
    }
    if head.expect_continue {
        line.push_str(" continue");
    }
    for (name, value) in head.headers() {
        if !name.eq_ignore_ascii_case("host") {
            write!(line, " [{name}={}]", value.escape_ascii()).unwrap();
        }
    }
    if head.head_bytes < buf_bytes {
        write!(line, " +{} bytes", buf_bytes - head.head_bytes).unwrap();
    }
    line
}

/// What came out of a chunked body: the data, and how it ended.
pub fn chunked_outcome<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, String) {
    let mut decoder = ChunkedDecoder::with_body_limit(1 << 20);
    let mut data = Vec::new();
    let mut consumed = 0;
    for piece in pieces {
        match decoder.decode(piece, &mut |run| data.extend_from_slice(run)) {
            Ok(progress) => {
                consumed += progress.consumed;
                assert_eq!(progress.done, decoder.is_done(), "progress and decoder agree");
                assert!(progress.done || progress.consumed == piece.len(), "only the end leaves bytes");
            }
            Err(err) => return (data, format!("{} {}: {err}", err.status, err.code)),
        }
    }
    let end = if decoder.is_done() { format!("ends at {consumed}") } else { "incomplete".to_owned() };
    (data, end)
}

/// The committed inputs of one fuzz target, by name. A new one needs `UPDATE_EXPECT=1` once, to record its outcome.
pub fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/fuzz/corpus").join(target);
    let mut inputs: Vec<(String, Vec<u8>)> = fs::read_dir(&dir)
        .unwrap_or_else(|err| panic!("{}: {err}", dir.display()))
        .map(|entry| entry.expect("a readable directory").path())
        .map(|path| {
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("a readable file"))
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} holds the corpus", dir.display());
    inputs
}
