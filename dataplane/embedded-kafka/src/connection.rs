//! One client connection: frames in, answers out, in order.
//!
//! ```text
//!   read ─▶ frames ─▶ broker ─▶ slots (oldest first) ─▶ one gathered write of all that are ready
//! ```
//!
//! Requests behind a produce that waits for its fsync are read and handled meanwhile; behind anything else that waits
//! (a fetch, a join) nothing is handled, as in Kafka. While answers are written nothing is read: a client that does
//! not read its answers stops being served.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use kafka_wire::frame::FrameReader;
use runtime::net::Stream;
use runtime::notify::Notify;
use runtime::{Either, race};
use tracing::{debug, warn};

use crate::broker::{Broker, Peer};
use crate::clock::Now;
use crate::limits::{FRAME_BYTES_MAX, PIPELINE_REQUESTS_MAX, READ_AHEAD_BYTES_MAX, READ_BYTES, WRITE_PIECES_MAX};
use crate::waiting::slot::{Answer, Slot};

/// Serves one connection until either side has enough.
pub async fn serve(stream: Stream, addr: SocketAddr, broker: Rc<RefCell<Broker>>) {
    let peer = Peer { ip: addr.ip(), ready: Notify::new() };
    let mut connection = Connection {
        stream,
        peer,
        broker,
        frames: FrameReader::new(FRAME_BYTES_MAX),
        buffer: BytesMut::new(),
        pending: VecDeque::new(),
    };
    match connection.run().await {
        Ok(why) => debug!(peer = %addr, why, "connection closed"),
        Err(err) => debug!(peer = %addr, %err, "connection lost"),
    }
    let Connection { broker, pending, .. } = connection;
    let mut broker = broker.borrow_mut();
    for slot in pending {
        broker.abandon(&slot);
    }
}

struct Connection {
    stream: Stream,
    peer: Peer,
    broker: Rc<RefCell<Broker>>,
    frames: FrameReader,
    buffer: BytesMut,
    /// Requests without a written answer, oldest first.
    pending: VecDeque<Rc<Slot>>,
}

/// What the front of the queue allows.
struct Ready {
    chain: Vec<Bytes>,
    close: bool,
}

impl Connection {
    async fn run(&mut self) -> io::Result<&'static str> {
        loop {
            let mut close = self.handle_frames();
            let ready = self.take_ready();
            close |= ready.close;
            if !ready.chain.is_empty() {
                self.stream.write_chain(ready.chain).await?;
                if !close {
                    continue;
                }
            }
            if close {
                return Ok("by the broker");
            }
            if !self.wait().await? {
                return Ok("by the client");
            }
        }
    }

    /// Hands whole frames to the broker. True: the connection cannot go on.
    fn handle_frames(&mut self) -> bool {
        let mut now = None;
        while self.may_handle() {
            let frame = match self.frames.next(&mut self.buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => return false,
                Err(err) => {
                    warn!(peer = %self.peer.ip, %err, "not a Kafka request");
                    return true;
                }
            };
            let now = *now.get_or_insert_with(Now::read);
            match self.broker.borrow_mut().handle(frame, &self.peer, now) {
                Some(slot) => self.pending.push_back(slot),
                None => return true,
            }
        }
        false
    }

    fn may_handle(&self) -> bool {
        self.pending.len() < PIPELINE_REQUESTS_MAX && self.pending.back().is_none_or(|last| last.lets_others_pass())
    }

    fn take_ready(&mut self) -> Ready {
        let mut ready = Ready { chain: Vec::new(), close: false };
        if self.pending.is_empty() {
            return ready;
        }
        let now = Instant::now();
        while let Some(answer) = self.pending.front().and_then(|slot| slot.take(now)) {
            self.pending.pop_front();
            match answer {
                Answer::Frame(pieces) => ready.chain.extend(pieces),
                Answer::Nothing => {}
                Answer::Close => {
                    ready.close = true;
                    break;
                }
            }
            if ready.chain.len() >= WRITE_PIECES_MAX {
                break;
            }
        }
        ready
    }

    /// Waits for more bytes or for an answer. False: the client closed the connection.
    async fn wait(&mut self) -> io::Result<bool> {
        if self.pending.is_empty() {
            return self.read().await;
        }
        // A partial frame behind a pipelined produce may be larger than the read-ahead; anything else must wait.
        if !self.may_handle() && self.buffer.len() >= READ_AHEAD_BYTES_MAX {
            self.peer.ready.notified().await;
            return Ok(true);
        }
        match race(self.peer.ready.notified(), self.stream.readable()).await {
            Either::First(()) => Ok(true),
            Either::Second(readable) => {
                readable?;
                self.read().await
            }
        }
    }

    async fn read(&mut self) -> io::Result<bool> {
        self.buffer.reserve(READ_BYTES);
        let (read, buffer) = self.stream.read(std::mem::take(&mut self.buffer)).await;
        self.buffer = buffer;
        Ok(read? > 0)
    }
}
