//! `kbench publish`: one message per request, or many in a batch of either framing.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};

use crate::cli::Publish;
use crate::limits::{BODY_BYTES_MAX, KEYS_MAX};
use crate::load::{self, Count, Mode, Work, split_url};
use crate::receipts::{Receipts, Taken};
use crate::records::{FRAMING_BYTES_MAX, Framing};
use crate::report;

pub fn run(publish: Publish) -> Result<ExitCode> {
    let mode = publish.rate.map_or(Mode::Closed, Mode::Open);
    let kind = Kind {
        size: publish.size,
        batch: publish.batch,
        framing: publish.framing,
        receipts: publish.receipts,
        request_ids: publish.request_ids,
        taken: Taken::Stored,
        is_async: false,
        keys: 0,
    };
    let sender = Sender {
        target: publish.target.target,
        appid: publish.target.appid,
        pubkey: publish.pubkey,
        topic: publish.target.topic,
        ver: publish.target.ver,
        ack: publish.ack,
    };
    let figures = load::run(&work(&sender, kind, mode)?, &publish.run)?;
    report::print(&figures, publish.run.output)
}

/// Where publishes go, as whom.
#[derive(Debug, Clone, Default)]
pub struct Sender {
    /// `http://host:port`.
    pub target: String,
    pub appid: String,
    pub pubkey: String,
    pub topic: String,
    pub ver: String,
    pub ack: String,
}

impl Sender {
    /// The topic's name in Kafka.
    pub fn physical_topic(&self) -> String {
        format!("{}.{}.{}", self.appid, self.topic, self.ver)
    }
}

/// What one request carries and how it wants to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Bytes per message.
    pub size: usize,
    /// Messages; 1 is no batch.
    pub batch: usize,
    pub framing: Framing,
    pub receipts: Receipts,
    /// Each request has an id of its own, so that no head on a connection is like the one before.
    pub request_ids: bool,
    /// What has to become of its messages.
    pub taken: Taken,
    /// `async=1`: handed off although Kafka is there.
    pub is_async: bool,
    /// Different keys of its messages; 0: they have none.
    pub keys: usize,
}

/// Of `k00042`, for as many keys as a command line may ask for.
const KEY_BYTES_MAX: usize = 6;
const _: () = assert!(KEYS_MAX <= 100_000);
/// Different ids.
const REQUEST_IDS: usize = 64;

impl Kind {
    pub fn single(size: usize) -> Kind {
        Kind {
            size,
            batch: 1,
            framing: Framing::Binary,
            receipts: Receipts::Summary,
            request_ids: false,
            taken: Taken::Stored,
            is_async: false,
            keys: 0,
        }
    }

    pub fn batch(batch: usize, size: usize, framing: Framing) -> Kind {
        Kind { batch, framing, ..Kind::single(size) }
    }

    /// The same with so many different keys.
    pub fn keyed(self, keys: usize) -> Kind {
        Kind { keys, ..self }
    }

    /// Different requests: after them a connection begins again.
    fn requests(self) -> usize {
        self.keys.div_ceil(self.batch).max(if self.request_ids { REQUEST_IDS } else { 1 })
    }

    /// Of the messages of one request.
    fn keys_of(self, request: usize) -> Vec<Option<String>> {
        let key = |message| (self.keys > 0).then(|| format!("k{:05}", (request * self.batch + message) % self.keys));
        (0..self.batch).map(key).collect()
    }

    /// The same while Kafka is away.
    pub fn handed_off(self) -> Kind {
        Kind { taken: Taken::HandedOff, ..self }
    }

    /// The same as jobs that are due in an hour.
    pub fn delayed(self) -> Kind {
        Kind { taken: Taken::Delayed, ..self }
    }

    /// The same when the gateway is to answer before Kafka has it.
    pub fn asynchronous(self) -> Kind {
        Kind { is_async: true, ..self.handed_off() }
    }
}

pub fn work(sender: &Sender, kind: Kind, mode: Mode) -> Result<Work> {
    let (host, port) = split_url(&sender.target)?;
    ensure!(kind.batch > 0, "a batch holds at least one message");
    ensure!(
        (kind.size + KEY_BYTES_MAX + FRAMING_BYTES_MAX).saturating_mul(kind.batch) <= BODY_BYTES_MAX,
        "a request has at most {BODY_BYTES_MAX} bytes"
    );
    let count = match kind.batch {
        1 => Count::Single { taken: kind.taken },
        records => Count::Receipts { taken: kind.taken, receipts: kind.receipts, records: records as u64 },
    };
    Ok(Work {
        requests: (0..kind.requests()).map(|id| encode(&host, port, sender, kind, id)).collect(),
        host,
        port,
        mode,
        count,
        payload_bytes: kind.size * kind.batch,
    })
}

fn encode(host: &str, port: u16, sender: &Sender, kind: Kind, id: usize) -> Bytes {
    let message = message(kind.size);
    let Sender { topic, ver, ack, .. } = sender;
    let wish = if kind.is_async { "&async=1" } else { "" };
    let keys = kind.keys_of(id);
    let mut head = String::new();
    let body = if kind.batch == 1 {
        let key = keys.iter().flatten().map(|key| format!("&key={key}")).collect::<String>();
        let _ = match kind.taken {
            Taken::Delayed => write!(head, "POST /v1/jobs/{topic}/{ver}?delay=1h{key} HTTP/1.1\r\n"),
            _ => write!(head, "POST /v1/msgs/{topic}/{ver}?ack={ack}{wish}{key} HTTP/1.1\r\n"),
        };
        message
    } else {
        let summary = if kind.receipts == Receipts::Summary { "&receipts=summary" } else { "" };
        let _ = match kind.taken {
            Taken::Delayed => write!(head, "POST /v1/jobs/{topic}/{ver}/batch?delay=1h{summary} HTTP/1.1\r\n"),
            _ => write!(head, "POST /v1/msgs/{topic}/{ver}/batch?ack={ack}{summary}{wish} HTTP/1.1\r\n"),
        };
        let _ = write!(head, "Content-Type: {}\r\n", kind.framing.content_type());
        if kind.receipts == Receipts::Binary {
            let _ = write!(head, "Accept: {}\r\n", Receipts::BINARY_CONTENT_TYPE);
        }
        kind.framing.body(&message, &keys)
    };
    let _ = write!(head, "Host: {host}:{port}\r\nAppid: {}\r\nPubkey: {}\r\n", sender.appid, sender.pubkey);
    if kind.request_ids {
        let _ = write!(head, "X-Request-Id: kbench-{id:08}\r\n");
    }
    let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
    let mut out = BytesMut::with_capacity(head.len() + body.len());
    out.put_slice(head.as_bytes());
    out.put_slice(&body);
    out.freeze()
}

/// Letters and digits that hardly compress, the same in every run and in both framings.
pub fn message(size: usize) -> Bytes {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut state = 0x2545_f491_4f6c_dd1du64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ALPHABET[(state >> 58) as usize]
        })
        .collect::<Vec<u8>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records;

    fn request(kind: Kind) -> (String, Bytes, Count) {
        let text = |text: &str| text.to_owned();
        let sender = Sender {
            target: text("http://127.0.0.1:9191"),
            appid: text("a1"),
            pubkey: text("secret"),
            topic: text("demo"),
            ver: text("v1"),
            ack: text("all"),
        };
        let work = work(&sender, kind, Mode::Closed).expect("work");
        assert_eq!(work.payload_bytes, kind.size * kind.batch);
        let request = &work.requests[0];
        let head_bytes = request.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        let body = request.slice(head_bytes..);
        let head = String::from_utf8_lossy(&request[..head_bytes]).into_owned();
        let mut others = work.requests.clone();
        others.sort();
        others.dedup();
        assert_eq!(others.len(), kind.requests());
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        (head, body, work.count)
    }

    #[test]
    fn one_message_is_the_body_itself() {
        let (head, body, count) = request(Kind::single(5));
        assert_eq!(
            head,
            "POST /v1/msgs/demo/v1?ack=all HTTP/1.1\r\nHost: 127.0.0.1:9191\r\nAppid: a1\r\nPubkey: secret\r\n\
             Content-Length: 5\r\n\r\n"
        );
        assert_eq!((body, count), (message(5), Count::Single { taken: Taken::Stored }));
        let (head, ..) = request(Kind { request_ids: true, ..Kind::single(5) });
        assert!(head.contains("Pubkey: secret\r\nX-Request-Id: kbench-00000000\r\n"), "{head}");
    }

    #[test]
    fn what_is_to_be_handed_off_counts_as_that_and_async_asks_for_it() {
        let (head, _, count) = request(Kind::single(5).handed_off());
        assert!(head.starts_with("POST /v1/msgs/demo/v1?ack=all HTTP/1.1\r\n"), "{head}");
        assert_eq!(count, Count::Single { taken: Taken::HandedOff });
        let (head, _, count) = request(Kind::single(5).asynchronous());
        assert!(head.starts_with("POST /v1/msgs/demo/v1?ack=all&async=1 HTTP/1.1\r\n"), "{head}");
        assert_eq!(count, Count::Single { taken: Taken::HandedOff });
        let (head, _, count) = request(Kind::batch(3, 5, Framing::Binary).asynchronous());
        assert!(head.contains("/batch?ack=all&receipts=summary&async=1 HTTP/1.1\r\n"), "{head}");
        assert_eq!(count, Count::Receipts { taken: Taken::HandedOff, receipts: Receipts::Summary, records: 3 });
    }

    #[test]
    fn a_job_is_added_with_a_delay_alone_and_in_a_batch() {
        let (head, body, count) = request(Kind::single(5).keyed(2).delayed());
        assert!(head.starts_with("POST /v1/jobs/demo/v1?delay=1h&key=k00000 HTTP/1.1\r\n"), "{head}");
        let taken = Taken::Delayed;
        assert_eq!((body, count), (message(5), Count::Single { taken }));
        let receipts = Receipts::Binary;
        let (head, body, count) = request(Kind { receipts, ..Kind::batch(3, 5, Framing::Binary).delayed() });
        assert!(head.starts_with("POST /v1/jobs/demo/v1/batch?delay=1h HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Accept: application/vnd.gafka.receipts\r\n"), "{head}");
        assert_eq!((records::count(&body), count), (Some(3), Count::Receipts { taken, receipts, records: 3 }));
    }

    #[test]
    fn keys_are_dealt_to_messages_in_turn() {
        let (head, ..) = request(Kind::single(5).keyed(3).handed_off());
        assert!(head.starts_with("POST /v1/msgs/demo/v1?ack=all&key=k00000 HTTP/1.1\r\n"), "{head}");
        assert_eq!(Kind::single(5).keyed(3).requests(), 3);
        let batch = Kind::batch(4, 5, Framing::Ndjson).keyed(6);
        let (_, body, _) = request(batch);
        assert_eq!(body.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"{\"key\":\"k0000")).count(), 4);
        let keys = [batch.keys_of(0), batch.keys_of(1)].concat();
        let keys: Vec<&str> = keys.iter().flatten().map(|key| &key[5..]).collect();
        assert_eq!((batch.requests(), keys), (2, vec!["0", "1", "2", "3", "4", "5", "0", "1"]));
    }

    #[test]
    fn many_messages_are_records_of_the_framing_asked_for() {
        let (head, body, count) = request(Kind::batch(3, 5, Framing::Binary));
        assert!(head.starts_with("POST /v1/msgs/demo/v1/batch?ack=all&receipts=summary HTTP/1.1\r\n"), "{head}");
        assert_eq!(records::count(&body), Some(3));
        let taken = Taken::Stored;
        assert_eq!(count, Count::Receipts { taken, receipts: Receipts::Summary, records: 3 });
        let (head, body, _) = request(Kind { receipts: Receipts::Ndjson, ..Kind::batch(3, 5, Framing::Ndjson) });
        assert!(head.contains("?ack=all HTTP/1.1\r\nContent-Type: application/x-ndjson\r\nHost:"), "{head}");
        for line in body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let parsed: serde_json::Value = serde_json::from_slice(line).expect("JSON");
            assert_eq!(parsed["value"].as_str().map(str::as_bytes), Some(&message(5)[..]));
        }
        let (head, ..) = request(Kind { receipts: Receipts::Binary, ..Kind::batch(3, 5, Framing::Binary) });
        assert!(head.contains("Accept: application/vnd.gafka.receipts\r\n"), "{head}");
    }
}
