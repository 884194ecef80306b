//! One batch request from its first record to its last receipt: what is with Kafka, what came back, the answer.
//!
//! Shared by the [`super::feed::Feed`] that hands records over, the shard's waiters that bring outcomes, and the
//! connection's slot that writes receipts; all on one shard, none across an await.
//!
//! Invariants:
//! - A record is opened in the receipts before it is handed over, so an outcome always finds it.
//! - The session leaves the waiters when the body is over and every record is settled, never before: its tag may not
//!   be given to another request while a record of it is with the client.
//! - The reservation is what is held: bytes of unanswered records, the parser's beginning of a record, receipts.

use crate::batch::{ReceiptFormat, Receipts, RecordError};
use crate::conn::{Conn, RequestMeta};
use crate::destination::Destination;
use crate::limits::{
    BATCH_RECORD_OVERHEAD_BYTES, BATCH_RETRY_PAUSE, BATCH_UNANSWERED_BYTES_MAX, BATCH_UNANSWERED_RECORDS_MAX,
    BATCH_UNREAD_RECEIPTS_MAX, RECEIPTS_PIECE_BYTES,
};
use crate::reply::{self, Failure, ReceiptsLength};
use crate::shard::Shard;
use crate::slots::{Grown, Source};
use crate::waiters::Waiter;
use bytes::BytesMut;
use gafka_http::response;
use kafka_client::Outcome;
use runtime::budget::Reservation;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

/// One batch request.
pub struct Session {
    conn: Rc<Conn>,
    sequence: u64,
    meta: RequestMeta,
    pub(super) destination: Destination,
    format: ReceiptFormat,
    /// `stream=1`: receipts flow while records arrive.
    pub(super) streams: bool,
    begun: Instant,
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
    pub refused: Option<Failure>,
    /// No further record comes.
    over: bool,
    /// Nobody reads the answer.
    abandoned: bool,
    /// The slot is growing.
    answering: bool,
    /// Written before the next receipts: the head, and a first piece of them.
    pending: BytesMut,
    chunked: bool,
}

impl Session {
    #[allow(clippy::too_many_arguments, reason = "all of it is kept")]
    pub(super) fn open(
        shard: &Shard,
        conn: &Rc<Conn>,
        meta: &RequestMeta,
        destination: Destination,
        format: ReceiptFormat,
        streams: bool,
        reservation: Reservation,
        begun: Instant,
    ) -> Rc<Session> {
        let session = Rc::new(Session {
            conn: Rc::clone(conn),
            sequence: conn.open_slot(),
            meta: meta.clone(),
            destination,
            format,
            streams,
            begun,
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
                chunked: false,
            }),
        });
        session.tag.set(shard.waiters.insert(Waiter::Batch(Rc::clone(&session))));
        session
    }

    /// The tag of its records.
    pub(super) fn tag(&self) -> u64 {
        self.tag.get()
    }

    pub fn keep_alive(&self) -> bool {
        self.meta.keep_alive
    }

    /// Has the connection look again at the body.
    pub fn wake(&self) {
        self.conn.wake();
    }

    /// Kafka's outcome for a run of records. True when the session is done and leaves the waiters.
    pub fn complete(self: &Rc<Self>, shard: &Shard, outcome: Outcome, now: Instant) -> bool {
        let state = &mut *self.state.borrow_mut();
        let count = u64::from(outcome.count);
        let first = state.index_of(outcome.record_first);
        debug_assert!(count <= state.unanswered, "{count} outcomes for {} records", state.unanswered);
        let bytes = state.answered(count);
        match outcome.result {
            Ok(stored) => {
                state.receipts.stored_run(first, count, stored.partition, stored.offset);
                shard.metrics.batch_stored(count, bytes);
            }
            Err(err) => {
                state.receipts.failed_run(first, count, &reply::record_error(&err));
                shard.metrics.batch_failed(count);
            }
        }
        state.recharge();
        let roomy = state.unanswered <= BATCH_UNANSWERED_RECORDS_MAX / 2;
        if (state.starved && roomy) || (state.answering && state.receipts.is_next_ready()) {
            self.conn.wake();
        }
        self.conclude(shard, state, now)
    }

    /// The body is over: answers as soon as every record is settled.
    pub(super) fn end(self: &Rc<Self>, shard: &Shard, now: Instant) {
        let state = &mut *self.state.borrow_mut();
        state.over = true;
        state.carried_bytes = 0;
        if self.conclude(shard, state, now) {
            shard.waiters.remove(self.tag());
        }
    }

    /// The client is gone. What was handed over goes on; nobody reads the answer.
    pub(super) fn abandon(self: &Rc<Self>, shard: &Shard) {
        self.state.borrow_mut().abandoned = true;
        self.end(shard, self.begun);
    }

    /// With `stream=1` the answer begins with the first record.
    pub(super) fn begin_streaming(self: &Rc<Self>, shard: &Shard, state: &mut State) {
        if !self.streams || state.answering || state.receipts.record_count() == 0 {
            return;
        }
        let context = self.meta.context(shard);
        let length = ReceiptsLength::Chunked { trailer: true };
        let head = reply::receipts(&context, 200, None, self.format.content_type(), length, false);
        self.grow(state, &head.bytes, head.close, true);
    }

    /// Gives the slot an answer that grows, beginning with `head`.
    fn grow(self: &Rc<Self>, state: &mut State, head: &[u8], close: bool, chunked: bool) {
        state.pending.extend_from_slice(head);
        state.close |= close;
        state.chunked = chunked;
        state.answering = true;
        self.conn.grow(self.sequence, Rc::<Session>::clone(self));
    }

    /// The answer, once the body is over and everything is settled. True then.
    fn conclude(self: &Rc<Self>, shard: &Shard, state: &mut State, now: Instant) -> bool {
        if !state.over || !state.receipts.is_settled() {
            return false;
        }
        if state.abandoned {
            return true;
        }
        if self.streams && state.answering {
            self.count(shard, 200, now);
            self.conn.wake();
            return true;
        }
        let context = self.meta.context(shard);
        let refused = state.refused.take().or_else(|| {
            let empty = || Failure::bad_request("empty_batch", "the batch has no record");
            (state.receipts.record_count() == 0).then(empty)
        });
        if let Some(mut failure) = refused {
            failure.close |= state.close;
            self.count(shard, failure.status, now);
            self.conn.fill(self.sequence, reply::failure(&context, &failure));
            return true;
        }
        let (status, failed) = (state.receipts.status(), Some(state.receipts.failed()));
        self.count(shard, status, now);
        let mut first = BytesMut::with_capacity(self.first_bytes(state));
        if self.format == ReceiptFormat::Summary {
            state.receipts.write_summary(&mut first);
        } else {
            state.receipts.write_ready(&mut first, RECEIPTS_PIECE_BYTES);
        }
        let content_type = self.format.content_type();
        if state.receipts.is_written() {
            let length = ReceiptsLength::Known(first.len() as u64);
            let mut answer = reply::receipts(&context, status, failed, content_type, length, state.close);
            answer.body = Some(first.freeze());
            self.conn.fill(self.sequence, answer);
            return true;
        }
        let length = match self.format {
            ReceiptFormat::Binary => ReceiptsLength::Known(state.receipts.binary_bytes()),
            _ if self.meta.minor_version == 0 => ReceiptsLength::UntilClose,
            _ => ReceiptsLength::Chunked { trailer: false },
        };
        let chunked = matches!(length, ReceiptsLength::Chunked { .. });
        let head = reply::receipts(&context, status, failed, content_type, length, state.close);
        let mut bytes = BytesMut::from(&head.bytes[..]);
        put(&mut bytes, &first, chunked);
        self.grow(state, &bytes, head.close, chunked);
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

    fn count(&self, shard: &Shard, status: u16, now: Instant) {
        shard.count(&self.conn, &self.meta, "publish_batch", status, self.begun, now);
    }

    /// Wakes the connection behind the tasks that can run now.
    pub(super) fn wake_next_turn(self: &Rc<Self>) {
        let session = Rc::clone(self);
        drop(runtime::spawn(async move {
            runtime::time::yield_now().await;
            session.conn.wake();
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
            session.conn.wake();
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

    /// The record opened last will not be handed over after all.
    pub fn give_up_last(&mut self, shard: &Shard, error: &RecordError) {
        self.receipts.failed_run(self.receipts.record_count() - 1, 1, error);
        shard.metrics.batch_failed(1);
    }

    /// A record is refused at once; it never was with the client.
    pub fn refuse(&mut self, shard: &Shard, error: &RecordError) {
        self.receipts.refuse(error);
        shard.metrics.batch_failed(1);
    }
}

impl Source for Session {
    fn take(&self, out: &mut BytesMut) -> Grown {
        let state = &mut *self.state.borrow_mut();
        std::mem::swap(out, &mut state.pending);
        let mut piece = BytesMut::new();
        if state.receipts.is_next_ready() {
            piece.reserve(RECEIPTS_PIECE_BYTES);
            state.receipts.write_ready(&mut piece, RECEIPTS_PIECE_BYTES);
            put(out, &piece, state.chunked);
        }
        if !state.over || !state.receipts.is_written() {
            return Grown::Open;
        }
        if state.chunked && self.streams {
            let failed = state.receipts.failed().to_string();
            response::last_chunk(out, &[(reply::X_FAILED, failed.as_bytes())]);
        } else if state.chunked {
            response::last_chunk(out, &[]);
        }
        Grown::End { close: state.close }
    }

    fn is_ready(&self) -> bool {
        let state = self.state.borrow();
        !state.pending.is_empty() || state.receipts.is_next_ready() || (state.over && state.receipts.is_written())
    }
}

fn put(out: &mut BytesMut, piece: &[u8], chunked: bool) {
    if chunked {
        response::chunk(out, piece);
    } else {
        out.extend_from_slice(piece);
    }
}
