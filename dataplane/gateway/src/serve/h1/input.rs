//! What a connection has received and not yet started: a head being collected, or a body.
//!
//! The body of a batch is used up while it arrives ([`crate::serve::body::streaming`]).
//!
//! A body that is already in the read buffer is handed over where it stands. A longer one is read straight into a
//! buffer of its own, after its size was charged to the memory budget, or piece by piece when its size is not told;
//! when it is whole the head, kept aside, is admitted again, because the snapshot may have changed meanwhile.
//!
//! A request that is refused by its head has its body thrown away as it comes, if it is short, so that the connection
//! can be used on. A client that asked with `Expect: 100-continue` may or may not send it: that connection ends.

use crate::codes;
use crate::endpoints::{self, Services, publish};
use crate::env::Env;
use crate::exchange::body::RequestBody;
use crate::exchange::conn::Conn;
use crate::exchange::meta::Meta;
use crate::exchange::{Exchange, reserve};
use crate::kafka::destination::Destination;
use crate::limits::{ANONYMOUS, BODY_BYTES_PER_S_MIN, FIRST_BYTE_WITHIN, READ_BUFFER_BYTES};
use crate::refusal::Refusal;
use crate::serve::body::collecting::{self, Collecting, Framing};
use crate::serve::body::streaming::{Progress, Streaming};
use crate::serve::h1::repeated::Memory;
use bytes::{Buf, BytesMut};
use gafka_http::{BodyKind, Head, HeadLimits, parse_head};
use model::requests::{NO_WEBSOCKET, asks_for_websocket};
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
    /// For the buffer of a head that has not come whole: many clients that dribble theirs must not add up.
    head_charge: Option<Reservation>,
    send_continue: bool,
    /// A byte has come on this connection.
    received: bool,
    memory: Memory,
}

#[derive(Default)]
enum State {
    #[default]
    Head,
    Body(Box<Collecting>),
    Stream(Box<Streaming>),
    /// The body of a request that has its answer already.
    Discard(Box<Framing>),
    Stopped,
}

impl Input {
    /// Starts every request that is complete.
    pub fn advance(&mut self, services: &Services, conn: &Rc<Conn>, now: Instant) -> Step {
        loop {
            if matches!(self.state, State::Stopped) {
                // What the client sent behind its last request is nothing that could be late or cut short.
                (self.buffer, self.begun, self.head_charge, self.send_continue) = (None, None, None, false);
                return Step::Stopped;
            }
            if conn.is_full() {
                return Step::Full;
            }
            let progressed = match &mut self.state {
                State::Head => self.advance_head(services, conn, now),
                State::Body(_) => self.advance_body(services, conn, now),
                State::Stream(streaming) => match streaming.advance(services, self.buffer.as_deref_mut(), now) {
                    Progress::NeedBytes => false,
                    Progress::Blocked => return Step::Full,
                    Progress::Done { keep_alive } => {
                        self.begun = None;
                        self.state = if keep_alive { State::Head } else { State::Stopped };
                        true
                    }
                },
                State::Discard(_) => self.advance_discard(),
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

    fn advance_head(&mut self, services: &Services, conn: &Rc<Conn>, now: Instant) -> bool {
        let Some(buffer) = self.buffer.as_mut().filter(|buffer| !buffer.is_empty()) else { return false };
        let begun = *self.begun.get_or_insert(now);
        if let Some((repeated, found)) = self.memory.find(&services.access, &services.clusters, buffer) {
            let end = found.head_bytes + found.body_bytes;
            let exchange = Exchange::open(conn, repeated.meta(&services.env), begun);
            services.env.metrics.repeated();
            let body = &buffer[found.head_bytes..end];
            publish::start_again(services, exchange, found.query, body, &repeated.destination, now);
            buffer.advance(end);
            (self.begun, self.head_charge) = (None, None);
            return true;
        }
        let head = match parse_head(buffer, &HeadLimits::default()) {
            Ok(Some(head)) => {
                self.head_charge = None;
                head
            }
            Ok(None) if self.head_charge.is_some() => return false,
            Ok(None) => match reserve(&services.env, ANONYMOUS, ANONYMOUS, READ_BUFFER_BYTES) {
                Ok(charge) => {
                    self.head_charge = Some(charge);
                    return false;
                }
                Err(refusal) => {
                    refuse(services, conn, Meta::none(&services.env), &refusal.closing(), begun, now);
                    self.state = State::Stopped;
                    return true;
                }
            },
            Err(err) => {
                refuse(services, conn, Meta::none(&services.env), &Refusal::from(err), begun, now);
                self.state = State::Stopped;
                return true;
            }
        };
        let meta = Meta::of(&head, &services.env);
        let keep_alive = meta.keep_alive;
        let waits = head.expect_continue && buffer.len() == head.head_bytes;
        let begins = match begin(services, conn, &meta, &head, buffer, begun, now) {
            Ok(begins) => begins,
            Err(refusal) => {
                let rest = Framing::to_discard(head.body).filter(|_| keep_alive && !waits && !refusal.close);
                let refusal = if rest.is_some() { refusal } else { refusal.closing() };
                refuse(services, conn, meta.clone(), &refusal, begun, now);
                rest.map_or(Begins::Nothing, |rest| Begins::Discard(Box::new(rest)))
            }
        };
        let consumed = head.head_bytes;
        match begins {
            Begins::Whole(body_bytes, destination) => {
                if let Some(destination) = destination {
                    self.memory.learn(&services.access, &meta, &head, buffer, destination);
                }
                buffer.advance(consumed + body_bytes);
                self.begun = None;
                self.state = if keep_alive { State::Head } else { State::Stopped };
                return true;
            }
            Begins::Body(collecting) => self.state = State::Body(collecting),
            Begins::Stream(streaming) => self.state = State::Stream(streaming),
            Begins::Discard(rest) => self.state = State::Discard(rest),
            Begins::Nothing => self.state = State::Stopped,
        }
        self.send_continue = waits;
        buffer.advance(consumed);
        true
    }

    fn advance_body(&mut self, services: &Services, conn: &Rc<Conn>, now: Instant) -> bool {
        let State::Body(collecting) = &mut self.state else { unreachable!("called in this state only") };
        let taken = collecting.take(&services.env, self.buffer.as_mut());
        if taken.as_ref().is_ok_and(|whole| !whole) {
            return false;
        }
        let State::Body(collecting) = std::mem::take(&mut self.state) else { unreachable!("still in this state") };
        let Collecting { head, body, framing, reservation, .. } = *collecting;
        let head = parse_head(&head, &HeadLimits::default())
            .ok()
            .flatten()
            .expect("these bytes were a complete head when they came in");
        let meta = Meta::of(&head, &services.env);
        let keep_alive = meta.keep_alive;
        let begun = self.begun.unwrap_or(now);
        if let Err(refusal) = taken {
            // What is left of the body is passed over, as long as its framing can be followed.
            drop((body, reservation));
            let goes_on = keep_alive && !refusal.close;
            let refusal = if goes_on { refusal } else { refusal.closing() };
            refuse(services, conn, meta, &refusal, begun, now);
            self.state = if goes_on { State::Discard(Box::new(framing)) } else { State::Stopped };
            return true;
        }
        self.begun = None;
        let mut exchange = Exchange::open(conn, meta, begun);
        exchange.held = Some(reservation);
        endpoints::start(services, exchange, &head, RequestBody::Owned(body.freeze()), now);
        if !keep_alive {
            self.state = State::Stopped;
        }
        true
    }

    /// Passes over what is left of a body that nobody wants. It has its answer: what is wrong now ends the connection
    /// without another.
    fn advance_discard(&mut self) -> bool {
        let State::Discard(framing) = &mut self.state else { unreachable!("called in this state only") };
        let mut none = BytesMut::new();
        let buffer = self.buffer.as_deref_mut().unwrap_or(&mut none);
        let done = match &mut **framing {
            Framing::Length(left) => {
                let count = buffer.len().min(*left);
                buffer.advance(count);
                *left -= count;
                Some(*left == 0)
            }
            Framing::Chunked(decoder) => match decoder.decode(buffer, &mut |_| {}) {
                Ok(progress) => {
                    buffer.advance(progress.consumed);
                    Some(progress.done)
                }
                Err(_) => None,
            },
        };
        match done {
            Some(false) => return false,
            Some(true) => (self.state, self.begun) = (State::Head, None),
            None => self.state = State::Stopped,
        }
        true
    }

    /// Reads once into wherever the next bytes belong. 0: the client sends no more.
    pub async fn fill(&mut self, env: &Env, reader: &mut ReadHalf) -> io::Result<usize> {
        self.received = true;
        self.send_continue = false; // whoever sends the body does not wait any more
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
                let mut buffer = env.pool.get_16k();
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
            None if matches!(self.state, State::Stream(_)) => env.pool.get_64k(),
            None => env.pool.get_16k(),
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

    /// True once, when the client waits for `100 Continue` and earlier answers are written.
    pub fn take_continue(&mut self, open_slots: usize) -> bool {
        // A body that is used up while it arrives has its slot already.
        let in_turn = open_slots == usize::from(matches!(self.state, State::Stream(_)));
        in_turn && std::mem::take(&mut self.send_continue)
    }

    /// The rest of the request at hand will not come: answers it, behind those before it, and takes no other. A body
    /// that is used up while it arrives says what of it was stored.
    pub fn cut_short(&mut self, services: &Services, conn: &Rc<Conn>, refusal: Refusal, now: Instant) {
        match &mut self.state {
            State::Stream(streaming) => streaming.cut_short(services, refusal, now),
            State::Discard(_) => {} // it has its answer
            _ => {
                let begun = self.begun.unwrap_or(now);
                refuse(services, conn, Meta::none(&services.env), &refusal.closing(), begun, now);
            }
        }
        self.state = State::Stopped;
    }

    /// The connection is gone.
    pub fn abandon(&mut self, services: &Services) {
        if let State::Stream(streaming) = &mut self.state {
            streaming.abandon(services);
        }
        self.state = State::Stopped;
    }

    /// When the connection ends if nothing more comes.
    pub fn deadline(&self, env: &Env, idle: bool, now: Instant) -> Option<Instant> {
        match (&self.state, self.begun) {
            (State::Stream(streaming), _) => streaming.deadline(env),
            (State::Body(collecting), Some(begun)) => {
                let bytes = collecting.body.len() as u64 + 1;
                Some(begun + env.config.body_grace() + Duration::from_millis(bytes * 1000 / BODY_BYTES_PER_S_MIN))
            }
            (State::Discard(_), Some(begun)) => Some(begun + env.config.body_grace()),
            (_, Some(begun)) => Some(begun + env.config.head_timeout),
            (_, None) if !self.received => Some(now + FIRST_BYTE_WITHIN.min(env.config.idle_timeout)),
            (_, None) => idle.then(|| now + env.config.idle_timeout),
        }
    }
}

/// What a head begins.
enum Begins {
    /// The request came whole, with so many bytes of body, and was started; where it goes if it is a publish.
    Whole(usize, Option<Destination>),
    Body(Box<Collecting>),
    Stream(Box<Streaming>),
    Discard(Box<Framing>),
    /// The connection ends with the answer.
    Nothing,
}

/// Starts a request that is whole, or admits it by its head, which stands at the front of `buffer`. `Err`: it is
/// refused before its body.
fn begin(
    services: &Services,
    conn: &Rc<Conn>,
    meta: &Meta,
    head: &Head<'_>,
    buffer: &[u8],
    begun: Instant,
    now: Instant,
) -> Result<Begins, Refusal> {
    if head.known.upgrade.is_some() && asks_for_websocket(head.values("upgrade")) {
        return Err(Refusal::new(codes::NOT_SUPPORTED_YET, NO_WEBSOCKET));
    }
    if endpoints::router::may_come_in_pieces(conn.side, head)
        && let Some((feed, decoder)) = endpoints::open(services, conn, meta, head, begun)?
    {
        return Ok(Begins::Stream(Box::new(Streaming::new(head.body, decoder, feed, begun, now))));
    }
    let (head_bytes, received) = buffer.split_at(head.head_bytes);
    let whole = match head.body {
        BodyKind::None => Some(0),
        BodyKind::Length(length) => usize::try_from(length).ok().filter(|length| *length <= received.len()),
        BodyKind::Chunked => None,
    };
    let Some(length) = whole else {
        return Ok(Begins::Body(Box::new(collecting::begin(services, conn, head, head_bytes)?)));
    };
    let exchange = Exchange::open(conn, meta.clone(), begun);
    let destination = endpoints::start(services, exchange, head, RequestBody::Slice(&received[..length]), now);
    Ok(Begins::Whole(length, destination))
}

fn refuse(services: &Services, conn: &Rc<Conn>, meta: Meta, refusal: &Refusal, begun: Instant, now: Instant) {
    Exchange::open(conn, meta, begun).refuse(&services.env, refusal, now);
}
