//! What an answer to a publish must say before it counts: a load that takes every 200 for stored measures nothing.
//!
//! | asked for | success is | read as |
//! |---|---|---|
//! | one message | 201 | `{"ok":1,"partition":P,"offset":O,…}` |
//! | a batch, `receipts=summary` | 200 | `{"ok":N,"failed":M,"ranges":[…],…}`, N + M = records, ranges add up to N |
//! | a batch, a line each | 200 | `{"partition":…` stored or `{"status":…` failed, as many lines as records |
//! | a batch, 14 bytes each | 200 | status 201 stored, anything else failed, as many as records |
//!
//! Where messages are to be handed off ([`Taken::HandedOff`]) the same is read of 202: `{"ok":1,"msg_id":…`, a summary with
//! `"handed_off":N` and no ranges, lines with `{"status":202,`. Whoever expects the one takes the other for an error: a load
//! that partly went elsewhere measures neither. A delayed job ([`Taken::Delayed`]) is a 201 with an id that is
//! durable here; of a batch a summary without ranges, lines with `{"status":201,"id":`, or 201, −1 and the id.

use serde::Deserialize;

/// `application/vnd.gafka.receipts`: status u16, partition i32, offset i64.
const RECEIPT_BYTES: usize = 14;
const CREATED: u16 = 201;
const ACCEPTED: u16 = 202;
/// What the receipt of a delayed job begins with: 201, partition −1.
const DELAYED: [u8; 6] = [0, 201, 255, 255, 255, 255];

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

/// Where a message is when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Taken {
    /// In Kafka.
    #[default]
    Stored,
    /// On the gateway's disk, which delivers it later.
    HandedOff,
    /// On the gateway's disk, which delivers it when it is due.
    Delayed,
}

/// Records of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Or handed off, where that was expected.
    pub stored: u64,
    pub failed: u64,
}

/// Reads the 201 or 202 of one message.
pub fn single(taken: Taken, status: u16, body: &[u8]) -> Result<Stored, String> {
    let is_one = match taken {
        Taken::Stored => status == CREATED && is_stored(body),
        Taken::HandedOff => status == ACCEPTED && body.starts_with(b"{\"ok\":1,\"msg_id\":\""),
        Taken::Delayed => status == CREATED && is_delayed(body),
    };
    if is_one { Ok(Stored { stored: 1, failed: 0 }) } else { Err(wrong(status, body)) }
}

/// Whether it says where.
fn is_stored(body: &[u8]) -> bool {
    let rest = body.strip_prefix(b"{\"ok\":1,\"partition\":").and_then(digits);
    let rest = rest.and_then(|rest| rest.strip_prefix(b",\"offset\":"));
    // With ack=none nobody knows the offset: -1.
    matches!(rest.map(|rest| rest.strip_prefix(b"-").unwrap_or(rest)).and_then(digits), Some([b',' | b'}', ..]))
}

#[derive(Deserialize)]
struct Delayed<'a> {
    ok: u64,
    id: &'a str,
    durability: &'a str,
}

/// Whether it has an id, and where it is.
fn is_delayed(body: &[u8]) -> bool {
    let delayed = serde_json::from_slice::<Delayed<'_>>(body);
    delayed.is_ok_and(|Delayed { ok, id, durability }| ok == 1 && id.len() >= 18 && durability == "local")
}

/// Reads the 200 of a batch of `records`.
pub fn batch(taken: Taken, receipts: Receipts, records: u64, status: u16, body: &[u8]) -> Result<Stored, String> {
    let found = match receipts {
        _ if status != 200 => None,
        Receipts::Summary => summary(taken, body),
        Receipts::Ndjson => lines(taken, body),
        Receipts::Binary => binary(taken, body),
    };
    found.filter(|found| found.stored + found.failed == records).ok_or_else(|| wrong(status, body))
}

#[derive(Deserialize)]
struct Summary {
    ok: u64,
    failed: u64,
    /// Of those that are ok.
    #[serde(default)]
    handed_off: u64,
    ranges: Vec<Range>,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct Range {
    count: u64,
}

fn summary(taken: Taken, body: &[u8]) -> Option<Stored> {
    let Summary { ok, failed, handed_off, ranges, truncated } = serde_json::from_slice(body).ok()?;
    let counted: u64 = ranges.iter().map(|range| range.count).sum();
    let adds_up = match taken {
        Taken::Stored => handed_off == 0 && (truncated || counted == ok),
        Taken::HandedOff => handed_off == ok && counted == 0,
        Taken::Delayed => handed_off == 0 && counted == 0 && !truncated,
    };
    adds_up.then_some(Stored { stored: ok, failed })
}

fn lines(taken: Taken, body: &[u8]) -> Option<Stored> {
    let success: &[u8] = match taken {
        Taken::Stored => b"{\"partition\":",
        Taken::HandedOff => b"{\"status\":202,",
        Taken::Delayed => b"{\"status\":201,\"id\":\"",
    };
    let mut found = Stored::default();
    let whole = body.strip_suffix(b"\n").unwrap_or(body);
    for line in whole.split(|&byte| byte == b'\n') {
        if line.starts_with(success) {
            found.stored += 1;
        } else if line.starts_with(b"{\"status\":") {
            found.failed += 1;
        } else {
            return None;
        }
    }
    Some(found)
}

fn binary(taken: Taken, body: &[u8]) -> Option<Stored> {
    let success: &[u8] = match taken {
        Taken::Stored => &CREATED.to_be_bytes(),
        Taken::HandedOff => &ACCEPTED.to_be_bytes(),
        // In no partition, and with an id: its highest two bits are 01.
        Taken::Delayed => &DELAYED,
    };
    let (receipts, []) = body.as_chunks::<RECEIPT_BYTES>() else { return None };
    let has_id = |receipt: &[u8; RECEIPT_BYTES]| taken != Taken::Delayed || receipt[6] >> 6 == 1;
    let stored = receipts.iter().filter(|receipt| receipt.starts_with(success) && has_id(receipt)).count() as u64;
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
            assert_eq!(single(Taken::Stored, status, body.as_bytes()).ok(), expected, "{status} {body}");
        }
        assert_eq!(
            single(Taken::Stored, 201, runtime_answer_body()).ok(),
            counts(1, 0),
            "the floors answer like a gateway"
        );
    }

    #[test]
    fn what_is_handed_off_counts_only_where_that_is_expected_and_what_is_stored_only_elsewhere() {
        let accepted = r#"{"ok":1,"msg_id":"a.1-2","receipt":"/v1/receipts/a.1-2"}"#;
        let created = r#"{"ok":1,"partition":0,"offset":17}"#;
        let delayed = r#"{"due":"2026-11-28T10:00:00Z","durability":"local","id":"4611686018427387904","ok":1}"#;
        for (taken, status, body, expected) in [
            (Taken::HandedOff, 202, accepted, counts(1, 0)),
            (Taken::HandedOff, 201, accepted, None),
            (Taken::HandedOff, 202, created, None),
            (Taken::HandedOff, 201, created, None),
            (Taken::HandedOff, 202, "", None),
            (Taken::Stored, 202, accepted, None),
            (Taken::Delayed, 201, delayed, counts(1, 0)),
            (Taken::Delayed, 202, delayed, None),
            (Taken::Delayed, 201, created, None),
            (Taken::Delayed, 201, r#"{"durability":"none","id":"4611686018427387904","ok":1}"#, None),
            (Taken::Delayed, 201, r#"{"durability":"local","id":"461168601842738","ok":1}"#, None),
            (Taken::Stored, 201, delayed, None),
        ] {
            assert_eq!(single(taken, status, body.as_bytes()).ok(), expected, "{taken:?} {status} {body}");
        }
        let binary = |status: u8| [[0, status, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]; 2].concat();
        for (receipts, body, as_handed_off, as_stored) in [
            (
                Receipts::Summary,
                &br#"{"ok":2,"failed":0,"handed_off":2,"ranges":[],"errors":[]}"#[..],
                counts(2, 0),
                None,
            ),
            (
                Receipts::Summary,
                br#"{"ok":2,"failed":0,"handed_off":1,"ranges":[{"partition":0,"offset":7,"count":1}],"errors":[]}"#,
                None,
                None,
            ),
            (
                Receipts::Summary,
                br#"{"ok":2,"failed":0,"ranges":[{"partition":0,"offset":7,"count":2}],"errors":[]}"#,
                None,
                counts(2, 0),
            ),
            (Receipts::Summary, br#"{"ok":1,"failed":1,"handed_off":1,"ranges":[],"errors":[]}"#, counts(1, 1), None),
            (
                Receipts::Ndjson,
                b"{\"status\":202,\"msg_id\":\"a\"}\n{\"status\":503,\"errmsg\":\"b\"}\n",
                counts(1, 1),
                counts(0, 2),
            ),
            (Receipts::Binary, &binary(202), counts(2, 0), counts(0, 2)),
            (Receipts::Binary, &binary(201), counts(0, 2), counts(2, 0)),
        ] {
            assert_eq!(batch(Taken::HandedOff, receipts, 2, 200, body).ok(), as_handed_off, "{receipts:?} {body:?}");
            assert_eq!(batch(Taken::Stored, receipts, 2, 200, body).ok(), as_stored, "{receipts:?} {body:?}");
        }
    }

    #[test]
    fn a_batch_of_jobs_is_delayed_where_each_has_an_id() {
        let job = [0, 201, 255, 255, 255, 255, 0x48, 0, 0, 0, 0, 0, 1, 7];
        let refused = [1, 144, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255];
        let in_a_partition = [0, 201, 0, 0, 0, 3, 0x48, 0, 0, 0, 0, 0, 1, 7];
        let without_id = [0, 201, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255];
        let two = |one: [u8; RECEIPT_BYTES], other: [u8; RECEIPT_BYTES]| [one, other].concat();
        let line = br#"{"status":201,"id":"5188146770730811648","due":"2027-01-01T08:00:00.000Z"}"#;
        let lines = |other: &[u8]| [line, &b"\n"[..], other, b"\n"].concat();
        for (receipts, body, expected) in [
            (Receipts::Binary, two(job, job), counts(2, 0)),
            (Receipts::Binary, two(job, refused), counts(1, 1)),
            (Receipts::Binary, two(job, in_a_partition), counts(1, 1)),
            (Receipts::Binary, two(job, without_id), counts(1, 1)),
            (Receipts::Ndjson, lines(line), counts(2, 0)),
            (Receipts::Ndjson, lines(br#"{"status":400,"errmsg":"a","code":"missing_due"}"#), counts(1, 1)),
            (Receipts::Ndjson, lines(br#"{"partition":0,"offset":1}"#), None),
            (Receipts::Summary, br#"{"ok":2,"failed":0,"ranges":[],"errors":[]}"#.to_vec(), counts(2, 0)),
            (Receipts::Summary, br#"{"ok":2,"failed":0,"ranges":[{"count":2}],"errors":[]}"#.to_vec(), None),
            (Receipts::Summary, br#"{"ok":2,"failed":0,"handed_off":2,"ranges":[],"errors":[]}"#.to_vec(), None),
        ] {
            assert_eq!(batch(Taken::Delayed, receipts, 2, 200, &body).ok(), expected, "{receipts:?} {body:?}");
        }
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
            assert_eq!(batch(Taken::Stored, receipts, 2, 200, body).ok(), expected, "{receipts:?} {body:?}");
            assert!(batch(Taken::Stored, receipts, 2, 201, body).is_err(), "a batch is answered with 200");
        }
    }

    #[test]
    fn a_wrong_answer_is_quoted_but_not_at_length() {
        let err = single(Taken::Stored, 500, "\r\n".repeat(1_000).as_bytes()).expect_err("no publish");
        assert!(err.starts_with("wrong answer: 500 \\r\\n") && err.len() < 200, "{err}");
    }
}
