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

use crate::codes;
use crate::endpoints::Services;
use crate::env::Env;
use crate::exchange::conn::Conn;
use crate::limits::{LINGER_BYTES_MAX, LINGER_TIME_MAX, READ_BUFFER_BYTES, WRITE_BYTES_FREE, WRITE_BYTES_PER_S_MIN};
use crate::refusal::Refusal;
use crate::serve::conns::Conns;
use crate::serve::h1::input::{Input, Step};
use crate::serve::h1::write;
use crate::subscribe::mail::Written;
use bytes::Bytes;
use gafka_http::response::CONTINUE;
use model::Side;
use runtime::net::{ReadHalf, Stream, WriteHalf};
use smallvec::SmallVec;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

enum Event {
    Ready,
    Readable,
    Broken,
}

/// Serves one connection to its end.
pub async fn serve(services: Rc<Services>, conns: Rc<Conns>, stream: Stream, peer: SocketAddr, side: Side) {
    let conn = Rc::new(Conn::new(side, peer, Some(stream.closer())));
    let (mut reader, mut writer) = stream.split();
    conns.add(&conn);
    let mut input = Input::default();
    run(&services, &conn, &mut input, &mut reader, &mut writer).await;
    input.abandon(&services);
    let unwritten = conn.slots().abandon();
    unwritten.into_iter().for_each(|delivery| services.settle(delivery, Written::Not));
    services.client_gone(conn.take_watched());
    conns.remove(&conn);
}

async fn run(services: &Services, conn: &Rc<Conn>, input: &mut Input, reader: &mut ReadHalf, writer: &mut WriteHalf) {
    let env = &services.env;
    let mut readable = pin!(None);
    let mut at_end = false;
    // One reading of the clock per received burst; answers come with the time of the tick that made them.
    let mut now = env.tick();
    loop {
        loop {
            let batch = write::take_ready(env, &mut conn.slots());
            let Some(batch) = batch else { break };
            let written = write(env, conn, writer, batch.chunks).await;
            if let Some(delivery) = batch.delivery {
                services.settle(delivery, if written { Written::Whole } else { Written::Not });
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
        let step = input.advance(services, conn, now);
        if conn.slots().is_front_ready() {
            continue;
        }
        if input.take_continue(conn.slots().count()) {
            if !write(env, conn, writer, SmallVec::from_buf([Bytes::from_static(CONTINUE)])).await {
                return;
            }
            continue;
        }
        let idle = !conn.has_open_slots();
        if idle && (at_end || step == Step::Stopped || (env.is_draining() && input.is_between_requests())) {
            return;
        }
        if conn.expired.take() {
            if !input.is_between_requests() {
                // In its turn: what was asked before it is answered first.
                let why = "the request did not arrive in time; nothing of what follows was stored";
                input.cut_short(services, conn, Refusal::new(codes::REQUEST_TIMEOUT, why), now);
                env.metrics.connection_ended("timeout");
            } else if idle {
                env.metrics.connection_ended("timeout");
                return;
            }
            continue;
        }
        conn.deadline.set(input.deadline(env, idle, now));
        // After the last request of a connection nothing is read any more, but a poll that waits must notice that its
        // client went away: it must not be handed messages then.
        let watch_only = step == Step::Stopped && conn.is_watched();
        let want_read = !at_end && (step == Step::NeedBytes || watch_only);
        match next_event(conn, readable.as_mut(), || reader.readable_owned(), want_read).await {
            Event::Ready => now = env.now(),
            Event::Broken => {
                env.metrics.connection_ended("read_failed");
                return;
            }
            // Who closes thousands of connections with waiting polls at once would take a buffer for each.
            Event::Readable if conn.is_watched() && reader.is_at_end() => {
                at_end = true;
                end_of_stream(services, conn, input, now);
            }
            Event::Readable => match input.fill(env, reader).await {
                Ok(0) => {
                    at_end = true;
                    end_of_stream(services, conn, input, now);
                }
                Ok(_) => now = env.tick(),
                Err(_) => {
                    env.metrics.connection_ended("read_failed");
                    return;
                }
            },
        }
    }
}

/// The client sends no more.
fn end_of_stream(services: &Services, conn: &Rc<Conn>, input: &mut Input, now: Instant) {
    if !input.is_between_requests() {
        // It may still read: earlier requests get their answers, and this one says why it has none.
        let why = "the client stopped sending in the middle of the request";
        input.cut_short(services, conn, Refusal::new(codes::INCOMPLETE_REQUEST, why), now);
        services.env.metrics.connection_ended("early_close");
    }
    // Publishes in flight are still answered. Polls end empty, because a client that went away must not be handed
    // messages, and one that only stopped sending looks the same.
    services.client_silent(conn.take_watched(), now);
}

/// Writes an answer, or ends the connection when the client does not take it in time. False: it is over, and counted.
async fn write(env: &Env, conn: &Conn, writer: &mut WriteHalf, chunks: SmallVec<[Bytes; 1]>) -> bool {
    let bytes = chunks.iter().map(Bytes::len).sum::<usize>() as u64;
    // The last tick of the shard, not this task's: an earlier write may have taken long. A large answer to a slow
    // line gets the time it needs; a piece of receipts does not.
    let large_ms = bytes.saturating_sub(WRITE_BYTES_FREE) * 1000 / WRITE_BYTES_PER_S_MIN;
    conn.deadline.set(Some(env.now() + env.config.write_timeout + Duration::from_millis(large_ms)));
    conn.writing.set(true);
    let result = match chunks.into_inner() {
        Ok([only]) => writer.write_all(only).await,
        Err(chunks) => writer.write_chain(chunks.into_vec()).await,
    };
    conn.writing.set(false);
    if result.is_err() {
        env.metrics.connection_ended(if conn.expired.get() { "write_stalled" } else { "write_failed" });
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
    let mut scratch = bytes::BytesMut::with_capacity(READ_BUFFER_BYTES);
    while taken < LINGER_BYTES_MAX {
        match runtime::time::timeout_at(until, reader.readable()).await {
            Ok(Ok(())) => {}
            _ => return,
        }
        scratch.clear();
        scratch.reserve(READ_BUFFER_BYTES);
        let (result, buffer) = reader.read(scratch).await;
        scratch = buffer;
        match result {
            Ok(0) | Err(_) => return,
            Ok(count) => taken += count,
        }
    }
}
