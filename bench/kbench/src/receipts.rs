//! What an answer to a publish must say before it counts: a load that takes every 200 for stored measures nothing.
//!
//! | asked for | success is | read as |
//! |---|---|---|
//! | one message | 201 | `{"ok":1,"partition":P,"offset":O,…}` |
//! | a batch, `receipts=summary` | 200 | `{"ok":N,"failed":M,"ranges":[…],…}`, N + M = records, ranges add up to N |
//! | a batch, a line each | 200 | `{"partition":…` stored or `{"status":…` failed, as many lines as records |
//! | a batch, 14 bytes each | 200 | status 201 stored, anything else failed, as many as records |

use serde::Deserialize;

/// `application/vnd.gafka.receipts`: status u16, partition i32, offset i64.
const RECEIPT_BYTES: usize = 14;
const CREATED: u16 = 201;

/// How receipts of a batch are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Receipts {
    /// One object for the batch.
    Summary,
    /// A JSON line per record.
    Ndjson,
    /// Fourteen bytes per record.
    Binary,
}

impl Receipts {
    pub const BINARY_CONTENT_TYPE: &str = "application/vnd.gafka.receipts";
}

/// Records of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    pub stored: u64,
    pub failed: u64,
}

/// Reads the 201 of one message.
pub fn single(status: u16, body: &[u8]) -> Result<Stored, String> {
    let rest = body.strip_prefix(b"{\"ok\":1,\"partition\":").and_then(digits);
    let rest = rest.and_then(|rest| rest.strip_prefix(b",\"offset\":"));
    // With ack=none nobody knows the offset: -1.
    match rest.map(|rest| rest.strip_prefix(b"-").unwrap_or(rest)).and_then(digits) {
        Some([b',' | b'}', ..]) if status == CREATED => Ok(Stored { stored: 1, failed: 0 }),
        _ => Err(wrong(status, body)),
    }
}

/// Reads the 200 of a batch of `records`.
pub fn batch(receipts: Receipts, records: u64, status: u16, body: &[u8]) -> Result<Stored, String> {
    let found = match receipts {
        _ if status != 200 => None,
        Receipts::Summary => summary(body),
        Receipts::Ndjson => lines(body),
        Receipts::Binary => binary(body),
    };
    found.filter(|found| found.stored + found.failed == records).ok_or_else(|| wrong(status, body))
}

#[derive(Deserialize)]
struct Summary {
    ok: u64,
    failed: u64,
    ranges: Vec<Range>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct Range {
    count: u64,
}

fn summary(body: &[u8]) -> Option<Stored> {
    let Summary { ok, failed, ranges, truncated } = serde_json::from_slice(body).ok()?;
    let counted: u64 = ranges.iter().map(|range| range.count).sum();
    (truncated || counted == ok).then_some(Stored { stored: ok, failed })
}

fn lines(body: &[u8]) -> Option<Stored> {
    let mut found = Stored::default();
    let whole = body.strip_suffix(b"\n").unwrap_or(body);
    for line in whole.split(|&byte| byte == b'\n') {
        if line.starts_with(b"{\"partition\":") {
            found.stored += 1;
        } else if line.starts_with(b"{\"status\":") {
            found.failed += 1;
        } else {
            return None;
        }
    }
    Some(found)
}

fn binary(body: &[u8]) -> Option<Stored> {
    let (receipts, []) = body.as_chunks::<RECEIPT_BYTES>() else { return None };
    let stored = receipts.iter().filter(|receipt| receipt[..2] == CREATED.to_be_bytes()).count() as u64;
    Some(Stored { stored, failed: receipts.len() as u64 - stored })
}

/// What stands behind a number, which must have a digit.
fn digits(bytes: &[u8]) -> Option<&[u8]> {
    let count = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then(|| &bytes[count..])
}

fn wrong(status: u16, body: &[u8]) -> String {
    let start = String::from_utf8_lossy(&body[..body.len().min(60)]).escape_debug().to_string();
    format!("wrong answer: {status} {start}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(stored: u64, failed: u64) -> Option<Stored> {
        Some(Stored { stored, failed })
    }

    #[test]
    fn one_message_is_stored_when_the_answer_says_where() {
        for (status, body, expected) in [
            (201, "{\"ok\":1,\"partition\":0,\"offset\":17,\"timestamp\":5}", counts(1, 0)),
            (201, "{\"ok\":1,\"partition\":0,\"offset\":-1}", counts(1, 0)),
            (200, "{\"ok\":1,\"partition\":0,\"offset\":17}", None),
            (201, "{\"ok\":1,\"partition\":,\"offset\":17}", None),
            (201, "{\"ok\":1,\"partition\":0,\"offset\":-}", None),
            (201, "{\"ok\":1,\"partition\":0}", None),
            (201, "", None),
        ] {
            assert_eq!(single(status, body.as_bytes()).ok(), expected, "{status} {body}");
        }
        assert_eq!(single(201, runtime_answer_body()).ok(), counts(1, 0), "the floors answer like a gateway");
    }

    fn runtime_answer_body() -> &'static [u8] {
        let answer = runtime::raw_ring::ANSWER;
        &answer[answer.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4..]
    }

    #[test]
    fn receipts_count_what_was_stored_and_what_was_not() {
        let stored = [0, 201, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 9];
        let failed = [1, 157, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255];
        let both = [stored, failed].concat();
        for (receipts, body, expected) in [
            (
                Receipts::Summary,
                &b"{\"ok\":1,\"failed\":1,\"ranges\":[{\"partition\":0,\"offset\":7,\"count\":1}],\"errors\":[{\"record\":1,\
                   \"status\":413,\"code\":\"x\"}]}"[..],
                counts(1, 1),
            ),
            (Receipts::Summary, b"{\"ok\":2,\"failed\":0,\"ranges\":[{\"count\":1}],\"errors\":[]}", None),
            (
                Receipts::Summary,
                b"{\"ok\":2,\"failed\":0,\"ranges\":[{\"count\":1}],\"errors\":[],\"truncated\":true}",
                counts(2, 0),
            ),
            (Receipts::Summary, b"{\"ok\":1,\"failed\":0,\"ranges\":[{\"count\":1}]}", None),
            (Receipts::Summary, b"{}", None),
            (Receipts::Ndjson, b"{\"partition\":0,\"offset\":1}\n{\"status\":413,\"code\":\"x\"}\n", counts(1, 1)),
            (Receipts::Ndjson, b"{\"partition\":0,\"offset\":1}\n", None),
            (Receipts::Ndjson, b"{\"partition\":0,\"offset\":1}\nhello\n", None),
            (Receipts::Binary, &both, counts(1, 1)),
            (Receipts::Binary, &both[..20], None),
            (Receipts::Binary, &stored, None),
        ] {
            assert_eq!(batch(receipts, 2, 200, body).ok(), expected, "{receipts:?} {body:?}");
            assert!(batch(receipts, 2, 201, body).is_err(), "a batch is answered with 200");
        }
    }

    #[test]
    fn a_wrong_answer_is_quoted_but_not_at_length() {
        let err = single(500, "\r\n".repeat(1_000).as_bytes()).expect_err("no publish");
        assert!(err.starts_with("wrong answer: 500 \\r\\n") && err.len() < 200, "{err}");
    }
}
