//! One client connection: one task, one read in flight, answers in request order.
//!
//! The task alternates between three things: write what is ready, start what is buffered, wait. It waits for whichever
//! comes first of more bytes and a finished answer, with a single readiness poll that stays armed across both, so a
//! keep-alive publish costs one poll, one receive and one send. An idle connection holds no buffer.
//!
//! ```text
//!   readable ──► read ──► parse ──► admit ──► start ──► slot waits ──► slot filled ──► write
//!                  ▲                                                                    │
//!                  └────────────────────────────────────────────────────────────────────┘
//! ```

use crate::input::{Input, Step};
use crate::limits::{LINGER_BYTES_MAX, LINGER_TIME_MAX, WRITE_BYTES_FREE, WRITE_BYTES_PER_S_MIN};
use crate::reply::{Context, Failure};
use crate::shard::Shard;
use crate::slots::{Answer, Slots, Source};
use bytes::Bytes;
use gafka_http::response::CONTINUE;
use gafka_http::{Head, Method};
use model::Side;
use runtime::net::{Closer, ReadHalf, Stream, WriteHalf};
use runtime::notify::Notify;
use smallvec::SmallVec;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// Longest `X-Request-Id` of a client that is echoed; a longer one is replaced by ours.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// What an answer needs to know of its request once the head is gone.
#[derive(Debug, Clone)]
pub struct RequestMeta {
    pub id: SmallVec<[u8; 24]>,
    pub keep_alive: bool,
    pub minor_version: u8,
    /// Index in the configured origins, when the request comes from one of them.
    pub origin: Option<u16>,
    /// A HEAD request, whose answer has no body.
    pub head_only: bool,
}

impl RequestMeta {
    pub fn of(head: &Head<'_>, shard: &Shard) -> RequestMeta {
        let id = match head.known.x_request_id {
            Some(id) if !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX => SmallVec::from_slice(id),
            _ => shard.next_request_id(),
        };
        let origin = head.known.origin.and_then(|origin| shard.allowed_origin(origin));
        RequestMeta {
            id,
            keep_alive: head.keep_alive,
            minor_version: head.minor_version,
            origin,
            head_only: head.method == Method::Head,
        }
    }

    /// For an answer to bytes that were no request.
    pub fn none(shard: &Shard) -> RequestMeta {
        RequestMeta { id: shard.next_request_id(), keep_alive: false, minor_version: 1, origin: None, head_only: false }
    }

    pub fn context<'a>(&'a self, shard: &'a Shard) -> Context<'a> {
        let origins = &shard.config.cors_origins;
        Context {
            request_id: &self.id,
            keep_alive: self.keep_alive && !shard.is_draining(),
            minor_version: self.minor_version,
            date: shard.date(),
            varies_by_origin: !origins.is_empty(),
            origin: self.origin.and_then(|index| origins.get(usize::from(index))).map(String::as_str),
            head_only: self.head_only,
            block: &shard.answers,
        }
    }
}

/// One per connection, on one shard for life.
pub struct Conn {
    /// Index in the shard's table.
    pub key: Cell<usize>,
    pub side: Side,
    pub peer: SocketAddr,
    slots: RefCell<Slots>,
    ready: Notify,
    /// The sweeper ends the connection after this.
    deadline: Cell<Option<Instant>>,
    expired: Cell<bool>,
    writing: Cell<bool>,
    closer: Closer,
    /// Polls of this connection that wait, to be cancelled when it goes.
    pub polls: RefCell<SmallVec<[u64; 1]>>,
}

impl Conn {
    /// Opens the slot of the next request.
    pub fn open_slot(&self) -> u64 {
        self.slots.borrow_mut().open()
    }

    /// Fills a slot and wakes the task when there is something to write.
    pub fn fill(&self, sequence: u64, answer: Answer) -> bool {
        let mut slots = self.slots.borrow_mut();
        let was_waiting = slots.is_waiting(sequence);
        if slots.fill(sequence, answer) {
            self.ready.notify();
        }
        was_waiting
    }

    /// Gives a slot an answer that grows while it is written.
    pub fn grow(&self, sequence: u64, source: Rc<dyn Source>) {
        if self.slots.borrow_mut().grow(sequence, source) {
            self.ready.notify();
        }
    }

    /// Has the task look again: bytes that were held back may go on, or a growing answer has grown.
    pub fn wake(&self) {
        self.ready.notify();
    }

    pub fn is_full(&self) -> bool {
        self.slots.borrow().is_full()
    }

    /// Called by the sweeper.
    pub fn sweep(&self, now: Instant) {
        if self.deadline.get().is_some_and(|deadline| deadline <= now) {
            self.expire();
        }
    }

    /// Ends the connection as soon as its task looks: with 408 in the middle of a request, silently when idle.
    pub fn expire(&self) {
        self.expired.set(true);
        if self.writing.get() {
            self.closer.shutdown();
        } else {
            self.ready.notify();
        }
    }

    /// Ends it if it is idle; a request in flight is answered first (drain).
    pub fn close_when_idle(&self) {
        self.ready.notify();
    }

    fn has_open_slots(&self) -> bool {
        !self.slots.borrow().is_empty()
    }
}

enum Event {
    Ready,
    Readable,
    Broken,
}

/// Serves one connection to its end.
pub async fn serve(shard: Rc<Shard>, stream: Stream, peer: SocketAddr, side: Side) {
    let closer = stream.closer();
    let (mut reader, mut writer) = stream.split();
    let conn = Rc::new(Conn {
        key: Cell::new(0),
        side,
        peer,
        slots: RefCell::default(),
        ready: Notify::new(),
        deadline: Cell::new(None),
        expired: Cell::new(false),
        writing: Cell::new(false),
        closer,
        polls: RefCell::default(),
    });
    shard.add_conn(&conn);
    let mut input = Input::default();
    run(&shard, &conn, &mut input, &mut reader, &mut writer).await;
    input.abandon(&shard);
    for delivery in conn.slots.borrow_mut().abandon() {
        shard.settle(delivery, false);
    }
    for poll in conn.polls.borrow_mut().drain(..) {
        shard.subscriptions.forget(&shard, poll);
    }
    shard.remove_conn(&conn);
}

async fn run(shard: &Rc<Shard>, conn: &Rc<Conn>, input: &mut Input, reader: &mut ReadHalf, writer: &mut WriteHalf) {
    let mut readable = pin!(None);
    let mut at_end = false;
    // One reading of the clock per received burst; answers come with the time of the tick that made them.
    let mut now = shard.tick();
    loop {
        loop {
            let batch = conn.slots.borrow_mut().take_ready();
            let Some(batch) = batch else { break };
            let written = write(shard, conn, writer, batch.chunks).await;
            if let Some(delivery) = batch.delivery {
                shard.settle(delivery, written);
            }
            if !written {
                return;
            }
            if batch.close {
                if writer.finish().await.is_ok() {
                    linger(reader).await;
                }
                return;
            }
        }
        let step = input.advance(shard, conn, now);
        if conn.slots.borrow().is_front_ready() {
            continue;
        }
        if input.take_continue(conn.slots.borrow().count()) {
            if !write(shard, conn, writer, SmallVec::from_buf([Bytes::from_static(CONTINUE)])).await {
                return;
            }
            continue;
        }
        let idle = !conn.has_open_slots();
        if idle && (at_end || step == Step::Stopped || (shard.is_draining() && input.is_between_requests())) {
            return;
        }
        if conn.expired.take() {
            if !input.is_between_requests() {
                // In its turn: what was asked before it is answered first.
                let why = "the request did not arrive in time; nothing of what follows was stored";
                input.cut_short(shard, conn, Failure::new(408, "request_timeout", why), now);
                shard.metrics.connection_ended("timeout");
            } else if idle {
                shard.metrics.connection_ended("timeout");
                return;
            }
            continue;
        }
        conn.deadline.set(input.deadline(shard, idle, now));
        // After the last request of a connection nothing is read any more, but a poll that waits must notice that its
        // client went away: it must not be handed messages then.
        let watch_only = step == Step::Stopped && !conn.polls.borrow().is_empty();
        let want_read = !at_end && (step == Step::NeedBytes || watch_only);
        match next_event(conn, readable.as_mut(), || reader.readable_owned(), want_read).await {
            Event::Ready => now = shard.now(),
            Event::Broken => {
                shard.metrics.connection_ended("read_failed");
                return;
            }
            Event::Readable => match input.fill(shard, reader).await {
                Ok(0) => {
                    at_end = true;
                    if !input.is_between_requests() {
                        // It may still read: earlier requests get their answers, and this one says why it has none.
                        let why = "the client stopped sending in the middle of the request";
                        input.cut_short(shard, conn, Failure::bad_request("incomplete_request", why), now);
                        shard.metrics.connection_ended("early_close");
                    }
                    // Publishes in flight are still answered. Polls end empty, because a client that went away must
                    // not be handed messages, and one that only stopped sending looks the same.
                    let polls = std::mem::take(&mut *conn.polls.borrow_mut());
                    for poll in polls {
                        shard.subscriptions.hang_up(shard, poll, now);
                    }
                }
                Ok(_) => now = shard.tick(),
                Err(_) => {
                    shard.metrics.connection_ended("read_failed");
                    return;
                }
            },
        }
    }
}

/// Writes an answer, or ends the connection when the client does not take it in time. False: it is over, and counted.
async fn write(shard: &Shard, conn: &Conn, writer: &mut WriteHalf, chunks: SmallVec<[Bytes; 1]>) -> bool {
    let bytes = chunks.iter().map(Bytes::len).sum::<usize>() as u64;
    // The last tick of the shard, not this task's: an earlier write may have taken long. A large answer to a slow
    // line gets the time it needs; a piece of receipts does not.
    let large_ms = bytes.saturating_sub(WRITE_BYTES_FREE) * 1000 / WRITE_BYTES_PER_S_MIN;
    conn.deadline.set(Some(shard.now() + shard.config.write_timeout + Duration::from_millis(large_ms)));
    conn.writing.set(true);
    let result = match chunks.into_inner() {
        Ok([only]) => writer.write_all(only).await,
        Err(chunks) => writer.write_chain(chunks.into_vec()).await,
    };
    conn.writing.set(false);
    if result.is_err() {
        shard.metrics.connection_ended(if conn.expired.get() { "write_stalled" } else { "write_failed" });
    }
    result.is_ok()
}

/// Waits for a finished answer or for bytes, whichever is first. The readiness poll stays armed between calls.
async fn next_event<Readable: Future<Output = io::Result<()>>>(
    conn: &Conn,
    mut readable: Pin<&mut Option<Readable>>,
    arm: impl Fn() -> Readable,
    want_read: bool,
) -> Event {
    let mut ready = pin!(conn.ready.notified());
    poll_fn(|cx| {
        if ready.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::Ready);
        }
        if !want_read {
            return Poll::Pending;
        }
        if readable.is_none() {
            readable.set(Some(arm()));
        }
        let armed = readable.as_mut().as_pin_mut().expect("armed above or earlier");
        armed.poll(cx).map(|result| {
            readable.set(None);
            if result.is_ok() { Event::Readable } else { Event::Broken }
        })
    })
    .await
}

/// After an answer that ends the connection: take what the client still sends for a moment, so that it reads the
/// answer instead of a reset (RFC 9112 section 9.6).
async fn linger(reader: &mut ReadHalf) {
    let until = Instant::now() + LINGER_TIME_MAX;
    let mut taken = 0;
    let mut scratch = bytes::BytesMut::with_capacity(crate::limits::READ_BUFFER_BYTES);
    while taken < LINGER_BYTES_MAX {
        match runtime::time::timeout_at(until, reader.readable()).await {
            Ok(Ok(())) => {}
            _ => return,
        }
        scratch.clear();
        scratch.reserve(crate::limits::READ_BUFFER_BYTES);
        let (result, buffer) = reader.read(scratch).await;
        scratch = buffer;
        match result {
            Ok(0) | Err(_) => return,
            Ok(count) => taken += count,
        }
    }
}
