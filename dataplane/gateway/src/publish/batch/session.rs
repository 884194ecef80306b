//! One batch request from its first record to its last receipt: what is with Kafka or the store of delayed jobs, what came
//! back, the answer.
//!
//! Shared by the [`super::feed::Feed`] that hands records over, the shard's waiters that bring outcomes, and the
//! connection's slot that writes receipts; all on one shard, none across an await.
//!
//! Invariants:
//! - A record is opened in the receipts before it is handed over, so an outcome always finds it.
//! - The session leaves the waiters when the body is over and every record is settled, never before: its tag may not
//!   be given to another request while a record of it is with the client.
//! - The reservation is what is held: bytes of unanswered records, the parser's beginning of a record, receipts.

use crate::codes;
use crate::env::Env;
use crate::exchange::Exchange;
use crate::exchange::reply::{Body, Growing, Grown, Header, Reply, Source, X_FAILED};
use crate::jobs::group::Batched;
use crate::kafka::destination::Destination;
use crate::limits::{
    BATCH_RECORD_OVERHEAD_BYTES, BATCH_RETRY_PAUSE, BATCH_UNANSWERED_BYTES_MAX, BATCH_UNANSWERED_RECORDS_MAX,
    BATCH_UNREAD_RECEIPTS_MAX, RECEIPTS_PIECE_BYTES,
};
use crate::publish::format::{Namer, ReceiptFormat, Receipts, RecordError};
use crate::publish::handoff::store::Appended;
use crate::publish::{Publishing, record_error};
use crate::refusal::Refusal;
use ::jobs::JobId;
use bytes::BytesMut;
use journal::queue::StreamId;
use journal::receipt_id::Issuer;
use kafka_client::Outcome;
use model::Side;
use runtime::budget::Reservation;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// When the client is given its receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receiving {
    AtTheEnd,
    /// `stream=1`: receipts flow while records arrive.
    WhileSending,
}

/// One batch request.
pub struct Session {
    exchange: Exchange,
    pub destination: Destination,
    format: ReceiptFormat,
    pub(super) receiving: Receiving,
    /// Key in the shard's waiters, and the tag of every record.
    tag: Cell<u64>,
    retries: Cell<bool>,
    pub(super) state: RefCell<State>,
}

/// What changes.
pub(super) struct State {
    pub receipts: Receipts,
    /// Records with the client.
    pub unanswered: u64,
    /// About their bytes: exact when none is unanswered, shares of runs in between.
    unanswered_bytes: usize,
    /// Held by the parser for a record that is not complete.
    carried_bytes: usize,
    /// For the session itself, decoder included.
    fixed_bytes: usize,
    pub reservation: Reservation,
    /// The body is held back until there is room.
    pub starved: bool,
    /// The connection ends after the answer.
    pub close: bool,
    /// The request ended before its first record; this is the answer.
    pub refused: Option<Refusal>,
    /// No further record comes.
    over: bool,
    /// Nobody reads the answer.
    abandoned: bool,
    /// The slot is growing.
    answering: bool,
    /// Written before the next receipts: a first piece of them.
    pending: BytesMut,
}

impl Session {
    pub fn open(
        publishing: &Publishing,
        exchange: Exchange,
        destination: Destination,
        format: ReceiptFormat,
        receiving: Receiving,
        reservation: Reservation,
    ) -> Rc<Session> {
        let session = Rc::new(Session {
            exchange,
            destination,
            format,
            receiving,
            tag: Cell::new(0),
            retries: Cell::new(false),
            state: RefCell::new(State {
                receipts: Receipts::new(format),
                unanswered: 0,
                unanswered_bytes: 0,
                carried_bytes: 0,
                fixed_bytes: reservation.bytes(),
                reservation,
                starved: false,
                close: false,
                refused: None,
                over: false,
                abandoned: false,
                answering: false,
                pending: BytesMut::new(),
            }),
        });
        session.tag.set(publishing.add_batch(Rc::clone(&session)));
        session
    }

    /// The tag of its records.
    pub(super) fn tag(&self) -> u64 {
        self.tag.get()
    }

    pub fn keep_alive(&self) -> bool {
        self.exchange.meta.keep_alive
    }

    /// Has the connection look again at the body.
    pub fn wake(&self) {
        self.exchange.wake();
    }

    /// Kafka's outcome for a run of records. True when the session is done and leaves the waiters.
    pub fn complete(self: &Rc<Self>, env: &Env, outcome: Outcome, now: Instant) -> bool {
        let state = &mut *self.state.borrow_mut();
        let count = u64::from(outcome.count);
        let first = state.index_of(outcome.record_first);
        debug_assert!(count <= state.unanswered, "{count} outcomes for {} records", state.unanswered);
        let bytes = state.answered(count);
        match outcome.result {
            Ok(stored) => {
                state.receipts.stored_run(first, count, stored.partition, stored.offset);
                env.metrics.batch_stored(count, bytes);
                env.traffic.count(Side::Publish, self.destination.label, count as usize, bytes);
            }
            Err(err) => {
                state.receipts.failed_run(first, count, &record_error(&err));
                env.metrics.batch_failed(count);
            }
        }
        self.settled(env, state, now)
    }

    /// A run of records that is durable on this gateway.
    pub fn handed_off(
        self: &Rc<Self>,
        env: &Env,
        record_first: u32,
        appended: Appended,
        issuer: &Issuer,
        app: &Arc<str>,
        now: Instant,
    ) -> bool {
        let state = &mut *self.state.borrow_mut();
        let count = u64::from(appended.count);
        let first = state.index_of(record_first);
        state.answered(count);
        let (issuer, app) = (issuer.clone(), Arc::clone(app));
        let namer = Namer(Rc::new(move |stream, number| issuer.issue(&app, StreamId(stream), number)));
        state.receipts.handed_off_run(first, count, appended.stream.0, appended.first, &namer);
        env.metrics.batch_handed_off(count);
        self.settled(env, state, now)
    }

    /// A run of records that is nowhere, for a reason that is not Kafka's.
    pub fn fail_run(
        self: &Rc<Self>,
        env: &Env,
        record_first: u32,
        count: u32,
        error: &RecordError,
        now: Instant,
    ) -> bool {
        let state = &mut *self.state.borrow_mut();
        state.fail_unanswered(env, record_first, u64::from(count), error);
        self.settled(env, state, now)
    }

    /// Records that are delayed jobs now, and durable.
    pub fn delayed(self: &Rc<Self>, env: &Env, jobs: &[Batched], ids: &[JobId], now: Instant) -> bool {
        let state = &mut *self.state.borrow_mut();
        let count = jobs.len() as u64;
        state.answered(count);
        for (job, id) in jobs.iter().zip(ids) {
            state.receipts.delayed(state.index_of(job.record), id.number(), job.due_ms);
        }
        env.metrics.batch_delayed(count);
        self.settled(env, state, now)
    }

    /// Records that are no delayed jobs after all.
    pub fn fail_jobs(self: &Rc<Self>, env: &Env, jobs: &[Batched], error: &RecordError, now: Instant) -> bool {
        let state = &mut *self.state.borrow_mut();
        jobs.iter().for_each(|job| state.fail_unanswered(env, job.record, 1, error));
        self.settled(env, state, now)
    }

    /// After a run came to its end. True when the session is done.
    fn settled(self: &Rc<Self>, env: &Env, state: &mut State, now: Instant) -> bool {
        state.recharge();
        let roomy = state.unanswered <= BATCH_UNANSWERED_RECORDS_MAX / 2;
        if (state.starved && roomy) || (state.answering && state.receipts.is_next_ready()) {
            self.exchange.wake();
        }
        self.conclude(env, state, now)
    }

    /// The body is over: answers as soon as every record is settled.
    pub(super) fn end(self: &Rc<Self>, env: &Env, publishing: &Publishing, now: Instant) {
        let state = &mut *self.state.borrow_mut();
        state.over = true;
        state.carried_bytes = 0;
        if self.conclude(env, state, now) {
            publishing.remove_batch(self.tag());
        }
    }

    /// The client is gone. What was handed over goes on; nobody reads the answer.
    pub(super) fn abandon(self: &Rc<Self>, env: &Env, publishing: &Publishing) {
        self.state.borrow_mut().abandoned = true;
        self.end(env, publishing, self.exchange.begun);
    }

    fn streams(&self) -> bool {
        self.receiving == Receiving::WhileSending
    }

    /// With `stream=1` the answer begins with the first record.
    pub(super) fn begin_streaming(self: &Rc<Self>, state: &mut State) {
        if self.streams() && !state.answering && state.receipts.record_count() > 0 {
            self.grow(state, self.head(200, None, None));
        }
    }

    /// A head for receipts that are made while they are written.
    fn head(self: &Rc<Self>, status: u16, failed: Option<u64>, length: Option<u64>) -> Reply {
        let growing = Growing {
            content_type: self.format.content_type(),
            length,
            trailer: self.streams().then_some(X_FAILED),
            source: Rc::<Session>::clone(self),
        };
        with_failed(Reply::new(status, Body::Growing(growing)), failed)
    }

    fn grow(&self, state: &mut State, mut reply: Reply) {
        state.answering = true;
        reply.close = state.close;
        self.exchange.grow(reply);
    }

    /// The answer, once the body is over and everything is settled. True then.
    fn conclude(self: &Rc<Self>, env: &Env, state: &mut State, now: Instant) -> bool {
        if !state.over || !state.receipts.is_settled() {
            return false;
        }
        if state.abandoned {
            return true;
        }
        if self.streams() && state.answering {
            self.exchange.count(env, 200, now);
            self.exchange.wake();
            return true;
        }
        let refused = state.refused.take().or_else(|| {
            let empty = || Refusal::new(codes::EMPTY_BATCH, "the batch has no record");
            (state.receipts.record_count() == 0).then(empty)
        });
        if let Some(mut refusal) = refused {
            refusal.close |= state.close;
            self.exchange.refuse(env, &refusal, now);
            return true;
        }
        let (status, failed) = (state.receipts.status(), Some(state.receipts.failed()));
        let mut first = BytesMut::with_capacity(self.first_bytes(state));
        if self.format == ReceiptFormat::Summary {
            state.receipts.write_summary(&mut first);
        } else {
            state.receipts.write_ready(&mut first, RECEIPTS_PIECE_BYTES);
        }
        if state.receipts.is_written() {
            let body = Body::Large(self.format.content_type(), first.freeze());
            let mut reply = with_failed(Reply::new(status, body), failed);
            reply.close = state.close;
            self.exchange.answer(env, reply, now);
            return true;
        }
        self.exchange.count(env, status, now);
        let length = (self.format == ReceiptFormat::Binary).then(|| state.receipts.binary_bytes());
        state.pending = first;
        self.grow(state, self.head(status, failed, length));
        true
    }

    /// Room for the receipts of a batch that is answered in one piece.
    fn first_bytes(&self, state: &State) -> usize {
        const LINE_BYTES: u64 = 40;
        let bytes = match self.format {
            ReceiptFormat::Binary => state.receipts.binary_bytes(),
            ReceiptFormat::Ndjson => state.receipts.record_count() * LINE_BYTES,
            ReceiptFormat::Summary => 512,
        };
        bytes.min(RECEIPTS_PIECE_BYTES as u64) as usize
    }

    /// Wakes the connection behind the tasks that can run now.
    pub(super) fn wake_next_turn(self: &Rc<Self>) {
        let session = Rc::clone(self);
        drop(runtime::spawn(async move {
            runtime::time::yield_now().await;
            session.exchange.wake();
        }));
    }

    /// Wakes the connection in a while: what is waited for comes without an outcome of this request.
    pub(super) fn retry_soon(self: &Rc<Self>) {
        if self.retries.replace(true) {
            return;
        }
        let session = Rc::clone(self);
        drop(runtime::spawn(async move {
            runtime::time::sleep(BATCH_RETRY_PAUSE).await;
            session.retries.set(false);
            session.exchange.wake();
        }));
    }
}

impl State {
    /// Whether further records may be taken.
    pub fn has_room(&self) -> bool {
        self.unanswered < BATCH_UNANSWERED_RECORDS_MAX
            && (self.unanswered == 0 || self.unanswered_bytes < BATCH_UNANSWERED_BYTES_MAX)
            // Without `stream=1` all receipts wait for the end of the body, and the parser limits the records.
            && (!self.answering || self.receipts.unwritten() - self.unanswered < BATCH_UNREAD_RECEIPTS_MAX)
    }

    /// A record goes over to the client as (tag, index): the index's lower half, for there may be more than 2^32.
    pub fn next_index(&mut self) -> (u64, u32) {
        let index = self.receipts.open();
        (index, index as u32)
    }

    /// The record a lower half stands for: one of the last 2^32.
    fn index_of(&self, low: u32) -> u64 {
        let last = self.receipts.record_count() - 1;
        last - u64::from((last as u32).wrapping_sub(low))
    }

    /// Bytes were used up for records that went to the client.
    pub fn handed_over(&mut self, bytes: usize) {
        self.unanswered_bytes += bytes;
    }

    pub fn set_carried(&mut self, bytes: usize) {
        self.carried_bytes = bytes;
    }

    /// Gives the share of `count` records of the unanswered bytes.
    fn answered(&mut self, count: u64) -> usize {
        let share = (self.unanswered_bytes as u64 * count / self.unanswered.max(1)) as usize;
        self.unanswered -= count;
        self.unanswered_bytes -= share;
        if self.unanswered == 0 {
            self.unanswered_bytes = 0;
        }
        share
    }

    /// Makes the reservation what is held. More than is left is let pass: it was reserved before it was read, except
    /// for a run's worth of receipts. False then: the next run must wait.
    pub fn recharge(&mut self) -> bool {
        if self.unanswered == 0 {
            self.unanswered_bytes = 0;
        }
        let records_bytes = self.unanswered_bytes + self.unanswered as usize * BATCH_RECORD_OVERHEAD_BYTES;
        let held = self.fixed_bytes + records_bytes + self.carried_bytes + self.receipts.held_bytes();
        let reserved = self.reservation.bytes();
        if held < reserved {
            self.reservation.shrink(reserved - held);
        }
        held <= reserved || self.reservation.grow(held - reserved).is_ok()
    }

    /// A run of unanswered records comes to nothing.
    pub fn fail_unanswered(&mut self, env: &Env, record_first: u32, count: u64, error: &RecordError) {
        let first = self.index_of(record_first);
        self.answered(count);
        self.receipts.failed_run(first, count, error);
        env.metrics.batch_failed(count);
    }

    /// The record opened last will not be handed over after all.
    pub fn give_up_last(&mut self, env: &Env, error: &RecordError) {
        self.receipts.failed_run(self.receipts.record_count() - 1, 1, error);
        env.metrics.batch_failed(1);
    }

    /// A record is refused at once; it never was with the client.
    pub fn refuse(&mut self, env: &Env, error: &RecordError) {
        self.receipts.refuse(error);
        env.metrics.batch_failed(1);
    }
}

impl Source for Session {
    fn take(&self, out: &mut BytesMut) -> Grown {
        let state = &mut *self.state.borrow_mut();
        if !state.pending.is_empty() {
            std::mem::swap(out, &mut state.pending);
        } else if state.receipts.is_next_ready() {
            out.reserve(RECEIPTS_PIECE_BYTES);
            state.receipts.write_ready(out, RECEIPTS_PIECE_BYTES);
        }
        if !state.over || !state.pending.is_empty() || !state.receipts.is_written() {
            return Grown::Open;
        }
        Grown::End { close: state.close, trailer: state.receipts.failed() }
    }

    fn is_ready(&self) -> bool {
        let state = self.state.borrow();
        !state.pending.is_empty() || state.receipts.is_next_ready() || (state.over && state.receipts.is_written())
    }
}

fn with_failed(mut reply: Reply, failed: Option<u64>) -> Reply {
    if let Some(failed) = failed {
        reply.headers.push(Header::number(X_FAILED, failed as i64));
    }
    if matches!(reply.status, 429 | 503) {
        reply.headers.push(Header::number("Retry-After", 1));
    }
    reply
}
