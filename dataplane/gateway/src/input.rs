//! What a connection has received and not yet started: a head being collected, or a body.
//!
//! The body of a batch is used up while it arrives ([`crate::streaming`]).
//!
//! A body that is already in the read buffer is handed over where it stands. A longer one is read straight into a
//! buffer of its own, after its size was charged to the memory budget; when it is whole the head, kept aside, is
//! admitted again, because the snapshot may have changed meanwhile.

use crate::conn::{Conn, RequestMeta};
use crate::endpoints::{self, Body};
use crate::limits::{BODY_BYTES_PER_S_MIN, BODY_GRACE, READ_BUFFER_BYTES};
use crate::reply::{self, Failure};
use crate::shard::Shard;
use crate::streaming::{Progress, Streaming};
use bytes::{Buf, BytesMut};
use gafka_http::{BodyKind, ChunkedDecoder, Head, HeadLimits, parse_head};
use runtime::budget::Reservation;
use runtime::net::ReadHalf;
use runtime::pool::PooledBuf;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What the connection can do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// More bytes are needed.
    NeedBytes,
    /// As many requests wait as may; read on when one was answered.
    Full,
    /// No further request will be started on this connection.
    Stopped,
}

/// One per connection. Holds a pooled buffer only while there are bytes in it.
#[derive(Default)]
pub struct Input {
    buffer: Option<PooledBuf>,
    state: State,
    /// When the request being received began.
    begun: Option<Instant>,
    send_continue: bool,
}

#[derive(Default)]
enum State {
    #[default]
    Head,
    Body(Box<Collecting>),
    Stream(Box<Streaming>),
    Stopped,
}

/// A body that did not come with its head.
struct Collecting {
    head: Vec<u8>,
    body: BytesMut,
    framing: Framing,
    /// Counted for the body while it is collected; start() takes it over.
    reservation: Option<Reservation>,
    body_bytes_max: usize,
}

enum Framing {
    Length(usize),
    Chunked(ChunkedDecoder),
}

impl Input {
    /// Starts every request that is complete.
    pub fn advance(&mut self, shard: &Rc<Shard>, conn: &Rc<Conn>, now: Instant) -> Step {
        loop {
            if matches!(self.state, State::Stopped) {
                return Step::Stopped;
            }
            if conn.is_full() {
                return Step::Full;
            }
            let progressed = match &mut self.state {
                State::Head => self.advance_head(shard, conn, now),
                State::Body(_) => self.advance_body(shard, conn, now),
                State::Stream(streaming) => match streaming.advance(shard, self.buffer.as_deref_mut(), now) {
                    Progress::NeedBytes => false,
                    Progress::Blocked => return Step::Full,
                    Progress::Done { keep_alive } => {
                        self.begun = None;
                        self.state = if keep_alive { State::Head } else { State::Stopped };
                        true
                    }
                },
                State::Stopped => unreachable!("looked above"),
            };
            if !progressed {
                if self.buffer.as_ref().is_some_and(|buffer| buffer.is_empty()) {
                    self.buffer = None; // idle connections hold no buffer
                }
                return if matches!(self.state, State::Stopped) { Step::Stopped } else { Step::NeedBytes };
            }
        }
    }

    fn advance_head(&mut self, shard: &Rc<Shard>, conn: &Rc<Conn>, now: Instant) -> bool {
        let Some(buffer) = self.buffer.as_mut().filter(|buffer| !buffer.is_empty()) else { return false };
        let begun = *self.begun.get_or_insert(now);
        let head = match parse_head(buffer, &HeadLimits::default()) {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(err) => {
                refuse(shard, conn, &RequestMeta::none(shard), &Failure::from_head(&err), begun, now);
                self.state = State::Stopped;
                return false;
            }
        };
        let received = &buffer[head.head_bytes..];
        let meta = RequestMeta::of(&head, shard);
        let whole = match head.body {
            BodyKind::None => Some(0),
            BodyKind::Length(length) => usize::try_from(length).ok().filter(|length| *length <= received.len()),
            BodyKind::Chunked => None,
        };
        if endpoints::may_stream(conn, &head) {
            let opened = endpoints::open_stream(shard, conn, &meta, &head, begun, now);
            let consumed = match (&opened, whole) {
                (Ok(None), _) => None,
                (Ok(Some(_)), _) => Some(head.head_bytes),
                (Err(_), Some(length)) => Some(head.head_bytes + length),
                (Err(_), None) => Some(head.head_bytes),
            };
            let (waits, keep_alive) = (head.expect_continue && received.is_empty(), meta.keep_alive && whole.is_some());
            match opened {
                Ok(None) => {} // no batch: the last segment was a version
                Ok(Some(streaming)) => {
                    self.send_continue = waits;
                    self.state = State::Stream(Box::new(streaming));
                }
                Err(failure) => {
                    // A body that is not here yet is not read any more.
                    let failure = if whole.is_some() { failure } else { failure.closing() };
                    refuse(shard, conn, &meta, &failure, begun, now);
                    self.begun = None;
                    if !keep_alive || failure.close {
                        self.state = State::Stopped;
                    }
                }
            }
            if let Some(consumed) = consumed {
                buffer.advance(consumed);
                return true;
            }
        }
        if let Some(length) = whole {
            let body = Body::Slice(&received[..length]);
            let keep_alive = meta.keep_alive;
            endpoints::start(shard, conn, meta, &head, body, None, begun, now);
            let consumed = head.head_bytes + length;
            buffer.advance(consumed);
            self.begun = None;
            if !keep_alive {
                self.state = State::Stopped;
            }
            return true;
        }
        match begin_collecting(shard, conn, &head, &buffer[..head.head_bytes]) {
            Ok(collecting) => {
                self.send_continue = head.expect_continue && received.is_empty();
                buffer.advance(collecting.head.len());
                self.state = State::Body(Box::new(collecting));
                true
            }
            Err(failure) => {
                refuse(shard, conn, &meta, &failure.closing(), begun, now);
                self.state = State::Stopped;
                false
            }
        }
    }

    fn advance_body(&mut self, shard: &Rc<Shard>, conn: &Rc<Conn>, now: Instant) -> bool {
        let State::Body(collecting) = &mut self.state else { unreachable!("called in this state only") };
        let done = match collecting.take(self.buffer.as_mut()) {
            Ok(done) => done,
            Err(failure) => {
                let begun = self.begun.unwrap_or(now);
                refuse(shard, conn, &RequestMeta::none(shard), &failure.closing(), begun, now);
                self.state = State::Stopped;
                return false;
            }
        };
        if !done {
            return false;
        }
        let State::Body(collecting) = std::mem::take(&mut self.state) else { unreachable!("still in this state") };
        let Collecting { head, body, reservation, .. } = *collecting;
        let head = parse_head(&head, &HeadLimits::default())
            .ok()
            .flatten()
            .expect("these bytes were a complete head when they came in");
        let meta = RequestMeta::of(&head, shard);
        let begun = self.begun.take().unwrap_or(now);
        let keep_alive = meta.keep_alive;
        endpoints::start(shard, conn, meta, &head, Body::Owned(body.freeze()), reservation, begun, now);
        if !keep_alive {
            self.state = State::Stopped;
        }
        true
    }

    /// Reads once into wherever the next bytes belong. 0: the client sends no more.
    pub async fn fill(&mut self, shard: &Shard, reader: &mut ReadHalf) -> io::Result<usize> {
        if let State::Body(collecting) = &mut self.state
            && let Framing::Length(length) = collecting.framing
            && self.buffer.as_ref().is_none_or(|buffer| buffer.is_empty())
        {
            let missing = length - collecting.body.len();
            let body = std::mem::take(&mut collecting.body);
            let (result, mut body) = reader.read(body).await;
            let count = result?;
            if count > missing {
                let excess = body.split_off(length);
                let mut buffer = shard.pool.get_16k();
                buffer.extend_from_slice(&excess);
                self.buffer = Some(buffer);
            }
            collecting.body = body;
            return Ok(count);
        }
        let mut buffer = match self.buffer.take() {
            Some(mut buffer) => {
                // A partial head moves to the front; never beyond the longest head, so this does not grow.
                let room = READ_BUFFER_BYTES.saturating_sub(buffer.len()).max(1);
                buffer.reserve(room);
                buffer
            }
            None if matches!(self.state, State::Stream(_)) => shard.pool.get_64k(),
            None => shard.pool.get_16k(),
        };
        let (result, filled) = reader.read(buffer).await;
        buffer = filled;
        // What comes after the last request is read to see the end of the stream, and thrown away.
        if !buffer.is_empty() && !matches!(self.state, State::Stopped) {
            self.buffer = Some(buffer);
        }
        result
    }

    /// No byte of a request has come yet.
    pub fn is_between_requests(&self) -> bool {
        matches!(self.state, State::Head | State::Stopped)
            && self.buffer.as_ref().is_none_or(|buffer| buffer.is_empty())
    }

    pub fn stop(&mut self) {
        self.state = State::Stopped;
    }

    /// True once, when the client waits for `100 Continue` and earlier answers are written.
    pub fn take_continue(&mut self, open_slots: usize) -> bool {
        // A body that is used up while it arrives has its slot already.
        let in_turn = open_slots == usize::from(matches!(self.state, State::Stream(_)));
        in_turn && std::mem::take(&mut self.send_continue)
    }

    /// The client was too slow. True when that is answered here: a body on its way says what of it was stored.
    pub fn expire(&mut self, shard: &Rc<Shard>, now: Instant) -> bool {
        let State::Stream(streaming) = &mut self.state else { return false };
        streaming.expire(shard, now);
        shard.metrics.connection_ended("timeout");
        self.begun = None;
        self.state = State::Stopped;
        true
    }

    /// The connection is gone.
    pub fn abandon(&mut self, shard: &Shard) {
        if let State::Stream(streaming) = &mut self.state {
            streaming.abandon(shard);
        }
        self.state = State::Stopped;
    }

    /// When the connection ends if nothing more comes.
    pub fn deadline(&self, shard: &Shard, idle: bool, now: Instant) -> Option<Instant> {
        match (&self.state, self.begun) {
            (State::Stream(streaming), _) => streaming.deadline(shard),
            (State::Body(collecting), Some(begun)) => {
                let bytes = collecting.body.len() as u64 + 1;
                Some(begun + BODY_GRACE + Duration::from_millis(bytes * 1000 / BODY_BYTES_PER_S_MIN))
            }
            (_, Some(begun)) => Some(begun + shard.config.head_timeout),
            (_, None) => idle.then(|| now + shard.config.idle_timeout),
        }
    }
}

impl Collecting {
    /// Takes what is buffered; true when the body is whole.
    fn take(&mut self, buffer: Option<&mut PooledBuf>) -> Result<bool, Failure> {
        match &mut self.framing {
            Framing::Length(length) => {
                if let Some(buffer) = buffer {
                    let count = buffer.len().min(*length - self.body.len());
                    self.body.extend_from_slice(&buffer[..count]);
                    buffer.advance(count);
                }
                Ok(self.body.len() == *length)
            }
            Framing::Chunked(decoder) => {
                let Some(buffer) = buffer else { return Ok(false) };
                let body = &mut self.body;
                let progress = decoder
                    .decode(buffer, &mut |data| body.extend_from_slice(data))
                    .map_err(|err| Failure::from_head(&err))?;
                buffer.advance(progress.consumed);
                if self.body.len() > self.body_bytes_max {
                    return Err(endpoints::too_large(self.body_bytes_max));
                }
                Ok(progress.done)
            }
        }
    }
}

fn begin_collecting(
    shard: &Rc<Shard>,
    conn: &Rc<Conn>,
    head: &Head<'_>,
    head_bytes: &[u8],
) -> Result<Collecting, Failure> {
    let admission = endpoints::check(shard, conn, head)?;
    let (framing, charged) = match head.body {
        BodyKind::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            if length > admission.body_bytes_max {
                return Err(endpoints::too_large(admission.body_bytes_max));
            }
            (Framing::Length(length), length)
        }
        // The size is not known: charge the most it may be, and give the difference back when it is.
        BodyKind::Chunked => (
            Framing::Chunked(ChunkedDecoder::with_body_limit(admission.body_bytes_max as u64)),
            admission.body_bytes_max,
        ),
        BodyKind::None => unreachable!("a request without a body is never collected"),
    };
    let reservation = shard.reserve(admission.tenant, admission.cluster, charged)?;
    let capacity = match framing {
        Framing::Length(length) => length,
        Framing::Chunked(_) => READ_BUFFER_BYTES,
    };
    Ok(Collecting {
        head: head_bytes.to_vec(),
        body: BytesMut::with_capacity(capacity),
        framing,
        reservation: Some(reservation),
        body_bytes_max: admission.body_bytes_max,
    })
}

fn refuse(shard: &Rc<Shard>, conn: &Rc<Conn>, meta: &RequestMeta, failure: &Failure, begun: Instant, now: Instant) {
    let sequence = conn.open_slot();
    let answer = reply::failure(&meta.context(shard), failure);
    shard.finish(conn, sequence, meta, "refused", failure.status, begun, now, answer);
}
