//! An answer as a value: status, headers, body. The protocol of the connection writes it.
//!
//! | Status | Means | A retry |
//! |---|---|---|
//! | 200 | of a batch: at least one record was stored; each has its receipt | of the failed records |
//! | 201 | in Kafka under the asked acks | would store it twice |
//! | 4xx | nothing was stored; the request is at fault | the same request fails again |
//! | 429, 503 | nothing was stored | after `Retry-After` |
//! | 504 | unknown: the message may be in Kafka | may store it twice |

use crate::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use model::denied::WWW_AUTHENTICATE;
use runtime::budget::Reservation;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::rc::Rc;

/// Name of the header, or trailer, with the number of records that were not stored.
pub const X_FAILED: &str = "X-Failed";

/// A finished answer, or the beginning of one that grows.
pub struct Reply {
    pub status: u16,
    pub headers: SmallVec<[Header; 2]>,
    pub body: Body,
    /// The connection ends after this answer.
    pub close: bool,
    /// Messages it hands out.
    pub delivery: Option<Delivery>,
    /// What it holds of the memory budget until it is written.
    pub held: Option<Reservation>,
}

/// One header of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: Cow<'static, str>,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Text(&'static str),
    Number(i64),
    Bytes(Vec<u8>),
}

/// What follows the head.
pub enum Body {
    /// None, and no length either: 204.
    None,
    /// Where one message is; small and by far the most frequent, so it is written without being made first.
    Stored(Stored),
    /// A few bytes, copied behind the head.
    Small(&'static str, Vec<u8>),
    /// Any number of bytes, linked behind the head.
    Large(&'static str, Bytes),
    Growing(Growing),
}

/// Where a published message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// `cluster/physical topic/partition/offset` in base64url.
    pub id: SmallVec<[u8; 64]>,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: i64,
}

/// A body that is made while it is written.
pub struct Growing {
    pub content_type: &'static str,
    /// `None`: nobody knows yet.
    pub length: Option<u64>,
    /// A number comes after the body, under this name.
    pub trailer: Option<&'static str>,
    pub source: Rc<dyn Source>,
}

/// Where a growing body comes from: receipts of a batch. It is asked for more only when what it gave is on its way, so
/// a slow reader holds back its source, not memory here.
pub trait Source {
    /// Appends what is ready, about a piece of it.
    fn take(&self, out: &mut BytesMut) -> Grown;

    /// True when [`Source::take`] would append something or end.
    fn is_ready(&self) -> bool;
}

/// How far a growing body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grown {
    /// More will come.
    Open,
    /// That was the last of it; the connection ends after it or not.
    End { close: bool, trailer: u64 },
}

/// Messages that an answer hands out. It is told whether they reached the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Shard that owns the subscription.
    pub shard: usize,
    /// The subscription's key on that shard.
    pub subscription: usize,
    /// The poll whose messages were handed out.
    pub poll: u64,
}

const JSON: &str = "application/json";

impl Header {
    pub fn text(name: &'static str, value: &'static str) -> Header {
        Header { name: Cow::Borrowed(name), value: Value::Text(value) }
    }

    pub fn number(name: &'static str, value: i64) -> Header {
        Header { name: Cow::Borrowed(name), value: Value::Number(value) }
    }

    pub fn bytes(name: String, value: Vec<u8>) -> Header {
        Header { name: Cow::Owned(name), value: Value::Bytes(value) }
    }
}

impl Reply {
    pub fn new(status: u16, body: Body) -> Reply {
        Reply { status, headers: SmallVec::new(), body, close: false, delivery: None, held: None }
    }

    pub fn with(mut self, header: Header) -> Reply {
        self.headers.push(header);
        self
    }

    /// An error answer.
    pub fn refusal(refusal: &Refusal) -> Reply {
        let mut body = BytesMut::with_capacity(refusal.message.len() + refusal.code.len() + 32);
        gafka_http::json::error(&mut body, &refusal.message, refusal.code);
        let mut reply = Reply::new(refusal.status, Body::Small(JSON, body.into()));
        if let Some((name, value)) = refusal.header {
            reply.headers.push(Header::text(name, value));
        }
        if let Some(seconds) = refusal.retry_after_s {
            reply.headers.push(Header::number("Retry-After", i64::from(seconds)));
        }
        if refusal.status == 401 {
            reply.headers.push(Header::text("WWW-Authenticate", WWW_AUTHENTICATE));
        }
        reply.close = refusal.close;
        reply
    }

    /// `201` of a publish.
    pub fn stored(stored: Stored) -> Reply {
        Reply::new(201, Body::Stored(stored))
    }

    /// A plain JSON answer that nobody may keep.
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply::new(status, Body::Small(JSON, body.into())).with(no_store())
    }

    /// `204` with no body: no message in time, or a preflight.
    pub fn no_content() -> Reply {
        Reply::new(204, Body::None)
    }
}

/// For answers that are true for one client and one moment.
pub fn no_store() -> Header {
    Header::text("Cache-Control", "no-store")
}

impl Stored {
    /// `{"ok":1,"partition":P,"offset":O,"timestamp":T}`.
    pub fn to_json(&self) -> SmallVec<[u8; 128]> {
        let mut body: SmallVec<[u8; 128]> = SmallVec::new();
        for (name, number) in [
            ("{\"ok\":1,\"partition\":", i64::from(self.partition)),
            (",\"offset\":", self.offset),
            (",\"timestamp\":", self.timestamp_ms),
        ] {
            body.extend_from_slice(name.as_bytes());
            body.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
        body.push(b'}');
        body
    }
}
