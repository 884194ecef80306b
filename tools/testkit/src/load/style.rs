//! How messages are asked to be published, and what each answer means for each of them (CONTRACT.md: Publish).
//!
//! | answer | of a single message | of a record of a batch |
//! |---|---|---|
//! | 201, receipt 201 | stored there | stored there |
//! | 202, receipt 202 | will be stored | will be stored |
//! | 504, receipt 504 | unknown | unknown |
//! | any other error | nothing was stored | nothing was stored |
//! | none, or cut off | unknown | unknown, also when some receipts had come |

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Load;
use crate::gateway::Tenant;
use crate::http::{Request, Response};
use crate::ledger::Outcome;

const NDJSON: &str = "application/x-ndjson";
const RECORDS: &str = "application/vnd.gafka.records";
const RECEIPTS: &str = "application/vnd.gafka.receipts";
/// `status u16, partition i32, offset i64`.
const RECEIPT_BYTES: usize = 14;
/// Bit of a record's attributes: a key is present.
const HAS_KEY: u8 = 8;

/// What one connection's requests are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `POST /v1/msgs/:topic/:ver`.
    Single { keyed: bool },
    /// `POST /v1/msgs/:topic/:ver/batch`, every second record with a key.
    Batch(Framing),
    /// The same as NDJSON with `stream=1`: receipts come while records are still read.
    Stream,
}

/// Of a batch and of its receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Ndjson,
    Binary,
}

/// A message before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub key: Option<Vec<u8>>,
    /// Unique in the load.
    pub value: Vec<u8>,
}

impl Style {
    /// The messages of the request that begins with the connection's message `sequence`.
    pub fn draft(self, load: &Load, connection: u32, sequence: u64) -> Vec<Draft> {
        let count = match self {
            Self::Single { .. } => 1,
            Self::Batch(_) | Self::Stream => load.records_per_batch as u64,
        };
        let is_keyed = |sequence: u64| match self {
            Self::Single { keyed } => keyed,
            Self::Batch(_) | Self::Stream => sequence.is_multiple_of(2),
        };
        (sequence..sequence + count)
            .map(|sequence| {
                let key_index = sequence % load.keys_per_connection.max(1);
                let key = is_keyed(sequence).then(|| format!("c{connection}k{key_index}").into_bytes());
                let mut value = format!("connection {connection} message {sequence} ").into_bytes();
                value.resize(value.len().max(load.value_bytes), b'.');
                Draft { key, value }
            })
            .collect()
    }

    pub fn request(self, tenant: &Tenant, drafts: &[Draft], timeout: Duration) -> Request {
        let timeout = format!("?timeout={}ms", timeout.as_millis());
        match self {
            Self::Single { .. } => {
                let key = drafts[0].key.as_deref().map(|key| format!("&key={}", String::from_utf8_lossy(key)));
                tenant.publish(&(timeout + &key.unwrap_or_default())).body(drafts[0].value.clone())
            }
            Self::Batch(Framing::Ndjson) => ndjson(tenant, &timeout, drafts),
            Self::Stream => ndjson(tenant, &(timeout + "&stream=1"), drafts),
            Self::Batch(Framing::Binary) => {
                let mut body = Vec::new();
                drafts.iter().for_each(|draft| put_record(draft, &mut body));
                let request = tenant.publish_batch(&timeout).header("Content-Type", RECORDS);
                request.header("Accept", RECEIPTS).body(body)
            }
        }
    }

    /// The outcome of each of the `count` messages that were asked for. An error is an answer the contract forbids.
    pub fn outcomes(self, answer: Result<Response>, count: usize) -> Result<Vec<Outcome>> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(err) => return Ok(vec![Outcome::Unknown { why: format!("{err:#}") }; count]),
        };
        match self {
            Self::Single { .. } => Ok(vec![single(&answer)?; count]),
            Self::Batch(framing) => batch(framing, &answer, count),
            Self::Stream => stream(&answer, count),
        }
    }
}

fn ndjson(tenant: &Tenant, query: &str, drafts: &[Draft]) -> Request {
    let lines: String = drafts.iter().map(ndjson_line).collect();
    tenant.publish_batch(query).header("Content-Type", NDJSON).body(lines)
}

fn ndjson_line(draft: &Draft) -> String {
    let mut record = json!({ "value": String::from_utf8_lossy(&draft.value) });
    if let Some(key) = &draft.key {
        record["key"] = String::from_utf8_lossy(key).into();
    }
    format!("{record}\n")
}

fn put_record(draft: &Draft, body: &mut Vec<u8>) {
    let mut record = vec![if draft.key.is_some() { HAS_KEY } else { 0 }];
    if let Some(key) = &draft.key {
        record.extend((key.len() as u32).to_be_bytes());
        record.extend(key);
    }
    record.extend(0u16.to_be_bytes());
    record.extend(&draft.value);
    body.extend((record.len() as u32).to_be_bytes());
    body.extend(record);
}

fn single(answer: &Response) -> Result<Outcome> {
    match answer.status {
        201 => stored(&answer.json()?),
        202 => {
            let body = answer.json()?;
            let outcome = handed_off(&body)?;
            let told = (answer.header("x-msg-id"), answer.header("location"));
            let expected = (body["msg_id"].as_str(), body["receipt"].as_str());
            ensure!(told == expected, "headers {told:?}, body {body}");
            Ok(outcome)
        }
        504 => Ok(Outcome::Unknown { why: answer.text() }),
        status @ 400..600 => Ok(Outcome::Refused { status }),
        other => bail!("a publish answered {other}: {}", answer.text()),
    }
}

fn batch(framing: Framing, answer: &Response, count: usize) -> Result<Vec<Outcome>> {
    let Some(outcomes) = receipts(framing, answer, count)? else { return Ok(vec![single(answer)?; count]) };
    let failed = outcomes.iter().filter(|outcome| !outcome.is_accepted()).count();
    let told = answer.header("x-failed").and_then(|value| value.parse().ok());
    ensure!(told == Some(failed), "X-Failed is {told:?}, {failed} receipts say so");
    ensure!((answer.status == 200) == (failed < count), "{failed} of {count} failed, yet {}", answer.status);
    Ok(outcomes)
}

/// How many failed is told in a trailer, and the status before anybody knew.
fn stream(answer: &Response, count: usize) -> Result<Vec<Outcome>> {
    let Some(outcomes) = receipts(Framing::Ndjson, answer, count)? else { return Ok(vec![single(answer)?; count]) };
    ensure!(answer.status == 200, "receipts that flow under status {}", answer.status);
    Ok(outcomes)
}

/// The outcome of each record; nothing when the batch was refused as a whole, before its first record.
fn receipts(framing: Framing, answer: &Response, count: usize) -> Result<Option<Vec<Outcome>>> {
    let expected = match framing {
        Framing::Ndjson => NDJSON,
        Framing::Binary => RECEIPTS,
    };
    if answer.header("content-type") != Some(expected) {
        ensure!(answer.status != 200, "a batch without receipts: {}", answer.text());
        return Ok(None);
    }
    let outcomes = match framing {
        Framing::Ndjson => answer.text().lines().map(ndjson_receipt).collect::<Result<Vec<_>>>(),
        Framing::Binary => answer.body.chunks(RECEIPT_BYTES).map(binary_receipt).collect(),
    };
    let outcomes = outcomes.with_context(|| format!("receipts of a batch answered {}", answer.status))?;
    ensure!(outcomes.len() == count, "{} receipts for {count} records", outcomes.len());
    Ok(Some(outcomes))
}

fn ndjson_receipt(line: &str) -> Result<Outcome> {
    let receipt: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
    match receipt.get("status") {
        None => stored(&receipt),
        Some(status) if status == 202 => handed_off(&receipt),
        Some(status) => {
            let status = status.as_u64().and_then(|status| u16::try_from(status).ok());
            failed(status.with_context(|| line.to_owned())?, line)
        }
    }
}

fn binary_receipt(bytes: &[u8]) -> Result<Outcome> {
    let receipt: &[u8; RECEIPT_BYTES] = bytes.try_into().with_context(|| format!("{} bytes", bytes.len()))?;
    let [s0, s1, p0, p1, p2, p3, offset @ ..] = *receipt;
    match u16::from_be_bytes([s0, s1]) {
        201 => {
            Ok(Outcome::Stored { partition: i32::from_be_bytes([p0, p1, p2, p3]), offset: i64::from_be_bytes(offset) })
        }
        202 => {
            let has_no_place = receipt[2..].iter().all(|byte| *byte == 0xff);
            ensure!(has_no_place, "a receipt 202 with a place: {receipt:?}");
            Ok(Outcome::HandedOff { receipt: None })
        }
        status => failed(status, "a binary receipt"),
    }
}

fn failed(status: u16, said: &str) -> Result<Outcome> {
    match status {
        504 => Ok(Outcome::Unknown { why: said.to_owned() }),
        400..600 => Ok(Outcome::Refused { status }),
        other => bail!("a receipt with status {other}: {said}"),
    }
}

fn handed_off(said: &Value) -> Result<Outcome> {
    let id = said["msg_id"].as_str().with_context(|| format!("no msg_id in {said}"))?;
    ensure!(said["receipt"] == format!("/v1/receipts/{id}"), "another receipt than msg_id: {said}");
    Ok(Outcome::HandedOff { receipt: Some(id.to_owned()) })
}

fn stored(receipt: &Value) -> Result<Outcome> {
    let number = |name: &str| receipt[name].as_i64().with_context(|| format!("no {name} in {receipt}"));
    Ok(Outcome::Stored { partition: i32::try_from(number("partition")?)?, offset: number("offset")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, kind: &str, failed: Option<&str>, body: &[u8]) -> Result<Response> {
        let mut headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        headers.extend(failed.map(|count| ("X-Failed".to_owned(), count.to_owned())));
        Ok(Response { status, headers, body: body.to_vec() })
    }

    fn tenant() -> Tenant {
        let [appid, pubkey, subkey, topic, ver] = ["a", "p", "s", "t", "v1"].map(str::to_owned);
        Tenant { appid, pubkey, subkey, topic, ver }
    }

    #[test]
    fn every_second_record_of_a_batch_has_a_key_and_every_value_is_its_own() {
        let load = Load { records_per_batch: 3, keys_per_connection: 4, value_bytes: 0, ..Load::default() };
        let style = Style::Batch(Framing::Ndjson);
        let drafts = style.draft(&load, 7, 4);
        let keys: Vec<Option<&[u8]>> = drafts.iter().map(|draft| draft.key.as_deref()).collect();
        assert_eq!(keys, [Some(&b"c7k0"[..]), None, Some(b"c7k2")]);
        assert_eq!(drafts[1].value, b"connection 7 message 5 ");
        let request = String::from_utf8(style.request(&tenant(), &drafts[..2], load.timeout).to_bytes()).unwrap();
        let body =
            "{\"key\":\"c7k0\",\"value\":\"connection 7 message 4 \"}\n{\"value\":\"connection 7 message 5 \"}\n";
        assert!(request.starts_with("POST /v1/msgs/t/v1/batch?timeout=15000ms HTTP/1.1\r\n"), "{request}");
        assert!(request.ends_with(body), "{request}");
    }

    #[test]
    fn records_are_framed_as_the_contract_says() {
        let mut body = Vec::new();
        put_record(&Draft { key: Some(b"k".to_vec()), value: b"v".to_vec() }, &mut body);
        put_record(&Draft { key: None, value: b"w".to_vec() }, &mut body);
        let expected = [&[0, 0, 0, 9, 8, 0, 0, 0, 1, b'k', 0, 0, b'v'][..], &[0, 0, 0, 4, 0, 0, 0, b'w']].concat();
        assert_eq!(body, expected);
    }

    #[test]
    fn an_answer_says_what_became_of_each_message() {
        let (ndjson, binary) = (Style::Batch(Framing::Ndjson), Style::Batch(Framing::Binary));
        let single = Style::Single { keyed: true };
        let stored = Outcome::Stored { partition: 1, offset: 2 };
        let refused = Outcome::Refused { status: 503 };
        let lines = b"{\"partition\":1,\"offset\":2}\n{\"status\":503,\"errmsg\":\"e\",\"code\":\"c\"}\n";
        let mut bytes = [&201u16.to_be_bytes()[..], &1i32.to_be_bytes(), &2i64.to_be_bytes()].concat();
        bytes.extend([&503u16.to_be_bytes()[..], &[0xff; 12]].concat());
        let (json, error) = ("application/json", &b"{\"errmsg\":\"e\",\"code\":\"c\"}"[..]);
        let rows = [
            (single, answer(201, json, None, b"{\"partition\":1,\"offset\":2}"), 1, vec![stored.clone()]),
            (single, answer(503, json, None, error), 1, vec![refused.clone()]),
            (ndjson, answer(200, NDJSON, Some("1"), lines), 2, vec![stored.clone(), refused.clone()]),
            (Style::Stream, answer(200, NDJSON, None, lines), 2, vec![stored.clone(), refused.clone()]),
            (binary, answer(200, RECEIPTS, Some("1"), &bytes), 2, vec![stored, refused.clone()]),
            (binary, answer(503, json, None, error), 2, vec![refused.clone(), refused]),
        ];
        for (style, answer, count, expected) in rows {
            let shown = format!("{style:?} {answer:?}");
            assert_eq!(style.outcomes(answer, count).unwrap(), expected, "{shown}");
        }
        for style in [single, ndjson, binary, Style::Stream] {
            let cut = style.outcomes(Err(anyhow::anyhow!("cut off")), 2).unwrap();
            assert_eq!(cut, vec![Outcome::Unknown { why: "cut off".into() }; 2]);
            let unknown = style.outcomes(answer(504, json, None, b"who knows"), 1).unwrap();
            assert_eq!(unknown, [Outcome::Unknown { why: "who knows".into() }]);
        }
    }

    #[test]
    fn an_answer_the_contract_forbids_is_an_error() {
        let (ndjson, binary) = (Style::Batch(Framing::Ndjson), Style::Batch(Framing::Binary));
        let one = b"{\"partition\":1,\"offset\":2}\n";
        let rows = [
            (Style::Single { keyed: false }, answer(200, "application/json", None, one), "a 200 without receipts"),
            (Style::Single { keyed: false }, answer(201, "application/json", None, b"{}"), "201 without place"),
            (ndjson, answer(200, NDJSON, Some("0"), one), "a receipt too few"),
            (ndjson, answer(200, NDJSON, Some("1"), &[&one[..], one].concat()), "a wrong X-Failed"),
            (ndjson, answer(503, NDJSON, Some("0"), &[&one[..], one].concat()), "503 although all were stored"),
            (ndjson, answer(200, NDJSON, None, &[&one[..], one].concat()), "no X-Failed"),
            (
                Style::Stream,
                answer(503, NDJSON, None, &[&one[..], one].concat()),
                "receipts under a status of their own",
            ),
            (binary, answer(200, RECEIPTS, Some("0"), &[0; 20]), "half a receipt"),
            (binary, answer(200, "application/json", None, b"{}"), "no receipts at all"),
        ];
        for (style, answer, what) in rows {
            assert!(style.outcomes(answer, 2).is_err(), "{what}");
        }
    }
}
