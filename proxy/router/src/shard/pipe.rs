//! The two directions of a connection, a task each: read, recognise, write what may leave.
//!
//! A side that does not take what it is sent stops the other from being read: nothing is queued but one buffer.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::peek;
use runtime::net::{ReadHalf, WriteHalf};
use runtime::pool::PooledBuf;
use runtime::{Either, race};
use telemetry::Counter;

use crate::answers::{self, Answers};
use crate::apis::Api;
use crate::in_flight::Outstanding;
use crate::limits::STALL_TIMEOUT;
use crate::requests::{self, Requests};
use crate::rewrite::api_versions::Asker;
use crate::shard::Shard;
use crate::shard::conns::Conn;
use crate::topology::View;

/// Longest client id kept for the log.
const CLIENT_ID_SHOWN_MAX: usize = 64;

/// Why a direction ended.
pub enum End {
    /// The side it reads from has said that no more comes.
    Finished,
    /// Between two requests, because it was asked to.
    Retired,
    /// One side is at fault; it was said in `reason` for the metric.
    Fault { reason: &'static str, message: String },
}

impl From<std::io::Error> for End {
    fn from(err: std::io::Error) -> End {
        End::Fault { reason: "connection_lost", message: err.to_string() }
    }
}

/// What both directions know.
pub struct Pipe {
    pub shard: Rc<Shard>,
    pub conn: Rc<Conn>,
    pub view: View,
    pub broker_bytes: Counter,
}

/// Counts while requests pass.
struct RequestWatch<'a>(&'a Pipe);

impl requests::Watch for RequestWatch<'_> {
    fn request(&mut self, api: &'static Api, bytes: usize) {
        self.0.shard.metrics.request(api, bytes);
    }

    fn asker(&mut self, asker: &Asker) {
        let software: std::sync::Arc<str> = match asker.software_name.as_str() {
            "" => "unknown".into(),
            name => format!("{name} {}", asker.software_version).into(),
        };
        if self.0.conn.software.borrow().is_none() {
            self.0.shard.metrics.software(std::sync::Arc::clone(&software));
            *self.0.conn.software.borrow_mut() = Some(software);
        }
    }
}

/// Counts while answers pass.
struct AnswerWatch<'a> {
    pipe: &'a Pipe,
    now: Instant,
}

impl answers::Watch for AnswerWatch<'_> {
    fn answer(&mut self, to: &Outstanding, bytes: usize) {
        self.pipe.shard.metrics.answer(to.api, bytes, self.now.saturating_duration_since(to.at));
    }

    fn hidden(&mut self) {
        self.pipe.shard.metrics.hidden.inc();
    }
}

impl Pipe {
    /// Client to broker. `buffer` has what was read before the broker was connected.
    pub async fn requests(&self, mut from: ReadHalf, mut to: WriteHalf, buffer: PooledBuf) -> End {
        let mut requests = Requests::new(self.shard.config.request_bytes_max);
        let mut held = Some(buffer);
        let mut last_bytes = 0;
        loop {
            if let Some(buffer) = &mut held {
                if let Err(end) = self.pass_requests(&mut requests, buffer, &mut to).await {
                    return end;
                }
                if buffer.is_empty() {
                    held = None;
                }
            }
            self.conn.is_between.set(requests.is_at_boundary() && held.is_none());
            if self.conn.in_flight.borrow().is_full() {
                self.conn.room.notified().await;
                continue;
            }
            if self.conn.is_retiring.get() && self.conn.is_between.get() {
                // What was asked is answered first, and for a while what is asked meanwhile; then it is closed.
                if !self.conn.in_flight.borrow().is_empty() {
                    self.conn.room.notified().await;
                    continue;
                }
                let is_patient = self.conn.retiring_since().elapsed() < RETIRE_PATIENCE;
                if !is_patient || runtime::time::timeout(RETIRE_LOOK, from.readable()).await.is_err() {
                    return End::Retired;
                }
            }
            self.owe(held.is_some() || !requests.is_at_boundary(), "half_a_request");
            if requests.is_at_boundary() || last_bytes < STREAMING_BYTES_MIN {
                match race(from.readable(), self.conn.retire.notified()).await {
                    Either::Second(()) => continue,
                    Either::First(Err(err)) => return err.into(),
                    Either::First(Ok(())) => {}
                }
            }
            let mut buffer = held.take().unwrap_or_else(|| self.shard.pool.get_64k());
            if buffer.len() == buffer.capacity() {
                buffer.reserve(READ_MORE_BYTES);
            }
            let (read, filled) = from.read(buffer).await;
            match read {
                Ok(0) => {
                    // The broker reads what was sent, then the end.
                    let _ = to.finish().await;
                    return End::Finished;
                }
                Ok(count) => {
                    last_bytes = count;
                    self.shard.metrics.client_in.add(count as u64);
                }
                Err(err) => return err.into(),
            }
            held = Some(filled);
        }
    }

    async fn pass_requests(
        &self,
        requests: &mut Requests,
        buffer: &mut PooledBuf,
        to: &mut WriteHalf,
    ) -> Result<(), End> {
        let now = Instant::now();
        self.conn.moved.set(now);
        // While the broker is slow to take it, the client owes nothing.
        self.conn.deadline.set(None);
        self.note_client_id(buffer);
        let mut out: Vec<Bytes> = Vec::new();
        let advanced = requests.advance(
            buffer,
            &mut self.conn.in_flight.borrow_mut(),
            self.conn.upstream.get(),
            &mut out,
            &mut RequestWatch(self),
            now,
        );
        let sent = self.send(to, out, &self.shard.metrics.broker_out).await?;
        self.broker_bytes.add(sent);
        if sent > 0 {
            self.shard.metrics.added_to_requests.record_duration(now.elapsed());
        }
        advanced.map_err(|err| End::Fault { reason: err.reason(), message: err.to_string() })
    }

    /// Broker to client.
    pub async fn answers(&self, mut from: ReadHalf, mut to: WriteHalf) -> End {
        let mut answers = Answers::default();
        let mut held: Option<PooledBuf> = None;
        let mut last_bytes = 0;
        let end = loop {
            if (answers.is_at_boundary() || last_bytes < STREAMING_BYTES_MIN)
                && let Err(err) = from.readable().await
            {
                break err.into();
            }
            let mut buffer = held.take().unwrap_or_else(|| self.shard.pool.get_64k());
            if buffer.len() == buffer.capacity() {
                buffer.reserve(READ_MORE_BYTES);
            }
            let (read, mut buffer) = from.read(buffer).await;
            match read {
                Ok(0) => break End::Finished,
                Ok(count) => {
                    last_bytes = count;
                    self.shard.metrics.broker_in.add(count as u64);
                    self.broker_bytes.add(count as u64);
                }
                Err(err) => break err.into(),
            }
            if let Err(end) = self.pass_answers(&mut answers, &mut buffer, &mut to).await {
                break end;
            }
            held = (!buffer.is_empty()).then_some(buffer);
        };
        if matches!(end, End::Finished) {
            // The client reads what was sent, then the end.
            let _ = to.finish().await;
        }
        end
    }

    async fn pass_answers(&self, answers: &mut Answers, buffer: &mut PooledBuf, to: &mut WriteHalf) -> Result<(), End> {
        let now = Instant::now();
        self.conn.moved.set(now);
        let (mut out, mut learned): (Vec<Bytes>, Vec<_>) = (Vec::new(), Vec::new());
        let mut watch = AnswerWatch { pipe: self, now };
        let advanced = {
            let mut in_flight = self.conn.in_flight.borrow_mut();
            answers.advance(buffer, &mut in_flight, &self.view, &mut out, &mut learned, &mut watch)
        };
        self.shard.learn(&learned);
        let sent = self.send(to, out, &self.shard.metrics.client_out).await?;
        if sent > 0 {
            self.shard.metrics.added_to_answers.record_duration(now.elapsed());
        }
        // After the write: whoever retires this connection then knows that the answer is out.
        self.conn.room.notify();
        advanced.map_err(|err| End::Fault { reason: err.reason(), message: err.to_string() })
    }

    /// Writes what may leave; gives how many bytes.
    async fn send(&self, to: &mut WriteHalf, mut out: Vec<Bytes>, counter: &Counter) -> Result<u64, End> {
        let bytes: u64 = out.iter().map(|piece| piece.len() as u64).sum();
        match out.len() {
            0 => return Ok(0),
            1 => to.write_all(out.pop().expect("one")).await?,
            _ => to.write_chain(out).await?,
        }
        counter.add(bytes);
        Ok(bytes)
    }

    /// A client in the middle of something must go on with it.
    fn owe(&self, is_owed: bool, reason: &'static str) {
        self.conn.deadline.set(is_owed.then(|| (Instant::now() + STALL_TIMEOUT, reason)));
    }

    fn note_client_id(&self, buffer: &[u8]) {
        if self.conn.client_id.borrow().is_some() {
            return;
        }
        if let Ok(Some(id)) = peek::client_id(buffer.get(4..).unwrap_or_default()) {
            let shown = &id[..id.len().min(CLIENT_ID_SHOWN_MAX)];
            *self.conn.client_id.borrow_mut() = Some(String::from_utf8_lossy(shown).into());
        }
    }
}

/// A client that keeps asking is served so long after it was to go,
const RETIRE_PATIENCE: Duration = Duration::from_secs(2);
/// and one that asks nothing for so long has nothing under way.
const RETIRE_LOOK: Duration = Duration::from_millis(5);

/// In the middle of a frame that comes in pieces like this, the next read waits with its buffer in hand: it saves a system
/// call's worth per piece. At other times a side that says nothing holds no buffer.
const STREAMING_BYTES_MIN: usize = 16 * 1024;

/// Room for more of a frame that is held until it is whole.
const READ_MORE_BYTES: usize = 64 * 1024;
