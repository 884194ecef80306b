//! Everything this gateway says in HTTP: the only file that turns an outcome into a status.
//!
//! | Status | Means | A retry |
//! |---|---|---|
//! | 200 | of a batch: at least one record was stored; each has its receipt | of the failed records |
//! | 201 | in Kafka under the asked acks | would store it twice |
//! | 4xx | nothing was stored; the request is at fault | the same request fails again |
//! | 429, 503 | nothing was stored | after `Retry-After` |
//! | 504 | unknown: the message may be in Kafka | may store it twice |

use crate::batch::RecordError;
use crate::limits::ANSWER_BLOCK_BYTES;
use crate::slots::{Answer, Delivery};
use crate::subscribe::Refusal;
use bytes::{Bytes, BytesMut};
use gafka_http::HeadError;
use gafka_http::date::HttpDate;
use gafka_http::response::{Answer as Writer, Connection};
use kafka_client::ProduceError;
use model::Denied;
use model::denied::WWW_AUTHENTICATE;
use smallvec::SmallVec;
use std::cell::RefCell;

/// An error answer: status, stable code, sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
    /// What would be right: `Allow` of a 405, `Accept` or `Accept-Encoding` of a 415 (RFC 9110 section 15.5.16).
    pub header: Option<(&'static str, &'static str)>,
    /// Seconds for `Retry-After`.
    pub retry_after_s: Option<u32>,
    /// The connection cannot be used after it.
    pub close: bool,
}

impl Failure {
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> Failure {
        let retry_after_s = matches!(status, 429 | 503).then_some(1);
        Failure { status, code, message: message.into(), header: None, retry_after_s, close: false }
    }

    pub fn bad_request(code: &'static str, message: impl Into<String>) -> Failure {
        Failure::new(400, code, message)
    }

    /// With a header that says what would be right.
    pub fn with(mut self, name: &'static str, value: &'static str) -> Failure {
        self.header = Some((name, value));
        self
    }

    pub fn closing(mut self) -> Failure {
        self.close = true;
        self
    }

    /// Nothing was stored, because a budget is spent.
    pub fn overloaded(what: &str) -> Failure {
        Failure::new(503, "overloaded", format!("nothing was stored: {what}; try again after Retry-After"))
    }

    pub fn from_denied(denied: &Denied) -> Failure {
        let refusal = denied.refusal();
        Failure { retry_after_s: refusal.retry_after_s, ..Failure::new(refusal.status, refusal.code, refusal.message) }
    }

    pub fn from_head(error: &HeadError) -> Failure {
        Failure::new(error.status, error.code, error.message.clone()).closing()
    }

    /// The one mapping of Kafka's outcomes to statuses.
    pub fn from_produce(error: &ProduceError) -> Failure {
        let (status, code) = match error {
            ProduceError::TopicUnknown => (404, "no_such_topic"),
            ProduceError::PartitionUnknown { .. } => (400, "no_such_partition"),
            ProduceError::RecordTooLarge { .. } => (413, "message_too_large"),
            ProduceError::NotAuthorized { .. } => (503, "kafka_denied"),
            ProduceError::Unavailable { .. } => (503, "kafka_unavailable"),
            ProduceError::Unknown { .. } => (504, "outcome_unknown"),
            ProduceError::Rejected { .. } => (400, "rejected_by_kafka"),
            ProduceError::QueueFull => (503, "overloaded"),
        };
        Failure::new(status, code, error.to_string())
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::new(refusal.status, refusal.code, refusal.message)
    }
}

/// What every answer of one request carries.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// `X-Request-Id`, the client's or ours.
    pub request_id: &'a [u8],
    /// Keep the connection after this answer.
    pub keep_alive: bool,
    /// 0 or 1: HTTP/1.0 or HTTP/1.1.
    pub minor_version: u8,
    pub date: HttpDate,
    /// Origins are configured, so caches must not mix answers.
    pub varies_by_origin: bool,
    /// The configured origin the request came from.
    pub origin: Option<&'a str>,
    /// Where the shard writes answers, one behind the other.
    pub block: &'a RefCell<BytesMut>,
    /// A HEAD request: the answer ends with its head (RFC 9110 section 9.3.2).
    pub head_only: bool,
}

/// An error answer.
pub fn failure(context: &Context<'_>, failure: &Failure) -> Answer {
    let keep = context.keep_alive && !failure.close;
    build(context, failure.status, keep, 320 + failure.message.len(), |mut out| {
        if let Some((name, value)) = failure.header {
            out = out.header(name, value.as_bytes());
        }
        if let Some(seconds) = failure.retry_after_s {
            out = out.number("Retry-After", i64::from(seconds));
        }
        if failure.status == 401 {
            out = out.header("WWW-Authenticate", WWW_AUTHENTICATE.as_bytes());
        }
        out.error(&failure.message, failure.code);
    })
}

/// `201` of a publish.
pub fn stored(context: &Context<'_>, message_id: &[u8], partition: i32, offset: i64, timestamp_ms: i64) -> Answer {
    let mut body: SmallVec<[u8; 128]> = SmallVec::new();
    for (name, number) in [
        ("{\"ok\":1,\"partition\":", i64::from(partition)),
        (",\"offset\":", offset),
        (",\"timestamp\":", timestamp_ms),
    ] {
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }
    body.push(b'}');
    build(context, 201, context.keep_alive, 384, |out| {
        out.number("X-Partition", i64::from(partition))
            .number("X-Offset", offset)
            .header("X-Msg-Id", message_id)
            .body("application/json", &body);
    })
}

/// How long the receipts of a batch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiptsLength {
    Known(u64),
    /// Unknown yet; with the number of failed records as a trailer when even that is.
    Chunked {
        trailer: bool,
    },
    /// To an HTTP/1.0 client.
    UntilClose,
}

/// Name of the header, or trailer, with the number of records that were not stored.
pub const X_FAILED: &str = "X-Failed";

/// The head of a batch's answer; its receipts follow.
pub fn receipts(
    context: &Context<'_>,
    status: u16,
    failed: Option<u64>,
    content_type: &str,
    length: ReceiptsLength,
    close: bool,
) -> Answer {
    let keep = context.keep_alive && !close && length != ReceiptsLength::UntilClose;
    build(context, status, keep, 384, |mut out| {
        if let Some(failed) = failed {
            out = out.number(X_FAILED, failed as i64);
        }
        if matches!(status, 429 | 503) {
            out = out.number("Retry-After", 1);
        }
        match length {
            ReceiptsLength::Known(bytes) => out.length(content_type, bytes),
            ReceiptsLength::Chunked { trailer: false } => out.chunked(content_type),
            ReceiptsLength::Chunked { trailer: true } => {
                out.header("Trailer", X_FAILED.as_bytes()).chunked(content_type);
            }
            ReceiptsLength::UntilClose => out.until_close(content_type),
        }
    })
}

/// The receipt of records Kafka did not store, or of which nobody knows.
pub fn record_error(error: &ProduceError) -> RecordError {
    let failure = Failure::from_produce(error);
    RecordError::new(failure.status, failure.code, failure.message)
}

/// A plain JSON answer.
pub fn json(context: &Context<'_>, status: u16, body: &[u8]) -> Answer {
    build(context, status, context.keep_alive, body.len() + 256, |out| {
        out.header("Cache-Control", b"no-store").body("application/json", body);
    })
}

/// `204` with no body: no message in time, or a preflight.
pub fn no_content(context: &Context<'_>, headers: &[(&str, &str)]) -> Answer {
    build(context, 204, context.keep_alive, 256, |mut out| {
        for (name, value) in headers {
            out = out.header(name, value.as_bytes());
        }
        out.no_content();
    })
}

/// `200` of a poll: headers from the framing, body linked, not copied.
pub fn records(
    context: &Context<'_>,
    content_type: &str,
    headers: &[(String, Vec<u8>)],
    body: Bytes,
    delivery: Delivery,
) -> Answer {
    let mut answer = build(context, 200, context.keep_alive, 512, |mut out| {
        out = out.header("Cache-Control", b"no-store");
        for (name, value) in headers {
            out = out.header(name, value);
        }
        out.length(content_type, body.len() as u64);
    });
    answer.body = Some(body);
    answer.delivery = Some(delivery);
    answer
}

fn build(context: &Context<'_>, status: u16, keep: bool, capacity: usize, end: impl FnOnce(Writer<'_>)) -> Answer {
    let mut block = context.block.borrow_mut();
    let out = &mut *block;
    debug_assert!(out.is_empty(), "every answer is split off when it is whole");
    if out.capacity() < capacity {
        // One allocation for several answers; the last of them that is written lets it go.
        *out = BytesMut::with_capacity(capacity.max(ANSWER_BLOCK_BYTES));
    }
    let connection = Connection { keep_alive: keep, minor_version: context.minor_version };
    let mut writer = Writer::start(out, status, connection, &context.date);
    if context.varies_by_origin {
        writer = writer.header("Vary", b"Origin");
    }
    if let Some(origin) = context.origin {
        // No credentials mode: clients authenticate with headers of their own, so every answer header may be shown.
        writer = writer
            .header("Access-Control-Allow-Origin", origin.as_bytes())
            .header("Access-Control-Expose-Headers", b"*");
    }
    end(writer.header("X-Request-Id", context.request_id));
    if context.head_only {
        let end = out.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer has a head");
        out.truncate(end + 4);
    }
    Answer { bytes: out.split().freeze(), close: !keep, ..Answer::default() }
}
