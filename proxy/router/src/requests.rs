//! The way from client to broker: requests recognised by the first bytes of their frames and passed on as they arrive.
//!
//! ```text
//!   | length | key, version, correlation id | client id .. acks .. | the rest, unread |
//!      └ checked      └ on the list?  remembered for the answer ┘
//! ```
//! Nothing is copied and nothing kept but a head that is not whole yet. Only ApiVersions is read whole, for what it says
//! about the client.
//!
//! Invariants:
//! - Bytes leave in the order they came. All of them are passed on as they were, except that ApiVersions of a version that
//!   we have not looked at becomes one that no broker knows, and loses its identity when the broker is another.
//! - A request is remembered before its first byte leaves; a Produce with acks=0 is not, for no answer comes.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use kafka_wire::frame::{self, FrameError};
use kafka_wire::{ApiKey, WireError, peek};

use crate::apis::{self, Api};
use crate::edit::Front;
use crate::in_flight::{InFlight, Outstanding};
use crate::limits::{HELD_REQUEST_BYTES_MAX, REQUEST_HEAD_BYTES_MAX};
use crate::rewrite::api_versions::{self, Asker};

/// A version of ApiVersions that no broker will ever know, so that it answers with those it does (KIP-511).
const NO_VERSION: i16 = i16::MAX;

/// Why a client's bytes end its connection. All are the client's doing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A key or version that was not offered: it might carry what we cannot hide.
    #[error("request of API key {key} version {version}, which this proxy does not offer")]
    NotOffered { key: i16, version: i16 },
    #[error("request that cannot be read: {0}")]
    Malformed(#[from] WireError),
}

impl RequestError {
    /// For the metric.
    pub fn reason(&self) -> &'static str {
        match self {
            RequestError::Frame(FrameError::Tls) => "tls_on_plain_port",
            RequestError::Frame(FrameError::Http) => "http_on_kafka_port",
            RequestError::Frame(_) => "frame_length",
            RequestError::NotOffered { .. } => "not_offered",
            RequestError::Malformed(_) => "malformed_request",
        }
    }
}

/// What is told on the way.
pub trait Watch {
    /// A request begins; `bytes` is its frame with the length.
    fn request(&mut self, api: &'static Api, bytes: usize);
    /// The client has said who it is.
    fn asker(&mut self, asker: &Asker);
}

/// Whether the broker at the other end is the one the client means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    Meant,
    /// The one meant is not known yet; this is any.
    Any,
}

/// One per connection.
#[derive(Debug)]
pub struct Requests {
    frame_bytes_max: usize,
    /// Bytes of the current frame that still pass unread.
    left: usize,
}

impl Requests {
    pub fn new(frame_bytes_max: usize) -> Requests {
        Requests { frame_bytes_max, left: 0 }
    }

    /// Whether the client is between two requests.
    pub fn is_at_boundary(&self) -> bool {
        self.left == 0
    }

    /// Takes what may leave from the front of `buffer` to `out`, and remembers the requests in it. What remains in
    /// `buffer` is a head that is not whole, or waits because too many requests are in flight.
    pub fn advance(
        &mut self,
        buffer: &mut BytesMut,
        in_flight: &mut InFlight,
        upstream: Upstream,
        out: &mut Vec<Bytes>,
        watch: &mut impl Watch,
        now: Instant,
    ) -> Result<(), RequestError> {
        let mut front = Front::new(buffer, out);
        loop {
            self.left -= front.pass(self.left);
            if self.left > 0 || in_flight.is_full() {
                return Ok(());
            }
            let Some(head) = self.head(front.rest())? else { return Ok(()) };
            if head.api.key == ApiKey::ApiVersions {
                let Some(frame) = held(&mut front, head.frame_bytes)? else { return Ok(()) };
                front.put(introduce(frame, &head, upstream, watch)?);
            } else {
                self.left = head.frame_bytes;
            }
            watch.request(head.api, head.frame_bytes);
            if head.is_answered {
                let (api, version, correlation_id) = (head.api, head.version, head.correlation_id);
                in_flight.push(Outstanding { api, version, correlation_id, at: now, asked: None });
            }
        }
    }

    /// The head of the frame that begins here, None while it is not whole.
    fn head(&self, bytes: &[u8]) -> Result<Option<Head>, RequestError> {
        let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
        let length = frame::check_length(*length, self.frame_bytes_max)?;
        let body = &bytes[4..bytes.len().min(4 + length)];
        let is_whole = body.len() == length;
        match read_head(body, length) {
            Ok(head) => Ok(Some(head)),
            Err(RequestError::Malformed(WireError::Truncated { .. }))
                if !is_whole && body.len() < REQUEST_HEAD_BYTES_MAX =>
            {
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }
}

struct Head {
    api: &'static Api,
    version: i16,
    correlation_id: i32,
    /// Length included.
    frame_bytes: usize,
    is_answered: bool,
}

fn read_head(body: &[u8], length: usize) -> Result<Head, RequestError> {
    let start = peek::request_start(body)?;
    let (key, version) = (start.api_key, start.api_version);
    let asks_versions = key == ApiKey::ApiVersions.key() && version >= 0;
    let api = match apis::offered_version(key, version) {
        Some(api) => api,
        None => apis::offered(key).filter(|_| asks_versions).ok_or(RequestError::NotOffered { key, version })?,
    };
    let is_answered = api.key != ApiKey::Produce || peek::produce_acks(body)? != 0;
    Ok(Head { api, version, correlation_id: start.correlation_id, frame_bytes: 4 + length, is_answered })
}

fn held(front: &mut Front<'_>, frame_bytes: usize) -> Result<Option<BytesMut>, RequestError> {
    if frame_bytes > HELD_REQUEST_BYTES_MAX {
        let (length, limit) = (frame_bytes, HELD_REQUEST_BYTES_MAX);
        return Err(FrameError::TooLarge { length, limit }.into());
    }
    Ok(front.hold(frame_bytes))
}

/// ApiVersions, as the broker is to get it.
fn introduce(
    mut frame: BytesMut,
    head: &Head,
    upstream: Upstream,
    watch: &mut impl Watch,
) -> Result<Bytes, RequestError> {
    if head.version > head.api.version_max {
        frame[6..8].copy_from_slice(&NO_VERSION.to_be_bytes());
        return Ok(frame.freeze());
    }
    let frame = frame.freeze();
    let mut body = frame.slice(4..);
    kafka_wire::header::decode_request_header(&mut body)?;
    let asker = api_versions::asker(head.version, &body)?;
    watch.asker(&asker);
    Ok(match upstream {
        Upstream::Meant => frame,
        Upstream::Any => api_versions::without_identity(&asker).apply(&frame, frame.len() - body.len()),
    })
}
