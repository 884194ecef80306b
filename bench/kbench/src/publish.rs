//! `kbench publish`: one message per request, or many in a binary batch.

use std::fmt::Write;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};

use crate::cli::Publish;
use crate::limits::BODY_BYTES_MAX;
use crate::load::{self, Count, Mode, Work, split_url};
use crate::{records, report};

pub fn run(publish: Publish) -> Result<ExitCode> {
    let mode = publish.rate.map_or(Mode::Closed, Mode::Open);
    let request = Request {
        appid: &publish.target.appid,
        pubkey: &publish.pubkey,
        topic: &publish.target.topic,
        ver: &publish.target.ver,
        ack: &publish.ack,
        size: publish.size,
        batch: publish.batch,
    };
    let figures = load::run(&work(&publish.target.target, &request, mode)?, &publish.run)?;
    report::print(&figures, publish.run.output)
}

/// One kind of publish.
pub struct Request<'a> {
    pub appid: &'a str,
    pub pubkey: &'a str,
    pub topic: &'a str,
    pub ver: &'a str,
    pub ack: &'a str,
    pub size: usize,
    pub batch: usize,
}

pub fn work(target: &str, request: &Request<'_>, mode: Mode) -> Result<Work> {
    let (host, port) = split_url(target)?;
    ensure!(request.batch > 0, "a batch holds at least one message");
    ensure!(
        (request.size + 16).saturating_mul(request.batch) <= BODY_BYTES_MAX,
        "a request has at most {BODY_BYTES_MAX} bytes"
    );
    Ok(Work {
        request: encode(&host, port, request),
        host,
        port,
        mode,
        count: Count::Each(request.batch as u64),
        payload_bytes: request.size * request.batch,
    })
}

fn encode(host: &str, port: u16, request: &Request<'_>) -> Bytes {
    let message = message(request.size);
    let Request { topic, ver, ack, .. } = request;
    let mut head = String::new();
    let body = if request.batch == 1 {
        let _ = write!(head, "POST /v1/msgs/{topic}/{ver}?ack={ack} HTTP/1.1\r\n");
        message
    } else {
        let _ = write!(head, "POST /v1/msgs/{topic}/{ver}/batch?ack={ack}&receipts=summary HTTP/1.1\r\n");
        let _ = write!(head, "Content-Type: {}\r\n", records::CONTENT_TYPE);
        records::body(&message, request.batch)
    };
    let _ = write!(head, "Host: {host}:{port}\r\nAppid: {}\r\nPubkey: {}\r\n", request.appid, request.pubkey);
    let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
    let mut out = BytesMut::with_capacity(head.len() + body.len());
    out.put_slice(head.as_bytes());
    out.put_slice(&body);
    out.freeze()
}

/// Bytes that do not compress, the same in every run.
fn message(size: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect::<Vec<u8>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Request<'_> =
        Request { appid: "a1", pubkey: "secret", topic: "demo", ver: "v1", ack: "all", size: 5, batch: 1 };

    #[test]
    fn one_message_is_the_body_itself() {
        let work = work("http://127.0.0.1:9191", &REQUEST, Mode::Closed).expect("work");
        let text = String::from_utf8_lossy(&work.request).into_owned();
        let (head, _) = text.split_once("\r\n\r\n").expect("a head");
        assert_eq!(
            head,
            "POST /v1/msgs/demo/v1?ack=all HTTP/1.1\r\nHost: 127.0.0.1:9191\r\nAppid: a1\r\nPubkey: secret\r\n\
             Content-Length: 5"
        );
        assert_eq!((work.payload_bytes, work.count), (5, Count::Each(1)));
    }

    #[test]
    fn many_messages_are_binary_records() {
        let request = Request { batch: 3, ..REQUEST };
        let work = work("http://h:1", &request, Mode::Closed).expect("work");
        let head_bytes = work.request.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        assert_eq!(records::count(&work.request[head_bytes..]), Some(3));
        let head = String::from_utf8_lossy(&work.request[..head_bytes]).into_owned();
        assert!(head.starts_with("POST /v1/msgs/demo/v1/batch?ack=all&receipts=summary HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", work.request.len() - head_bytes)), "{head}");
    }
}
