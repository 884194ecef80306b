//! The body of a batch on its way into the Kafka client: bytes in, records handed over.
//!
//! [`Feed::take`] is given whatever has arrived and stops in the middle of it when there is no room: too many records
//! unanswered, the memory budget spent, the client's queue full, receipts not read. The bytes stay where they are and
//! the connection does not read on. Room comes with outcomes, which wake the connection, or with time, for which
//! [`Session::retry_soon`] does. A wait ends after the request's timeout; from then on records are refused with 503
//! until one gets through.

use crate::access::quota::{self, Meters};
use crate::access::standing::Standing;
use crate::codes;
use crate::env::Env;
use crate::kafka::cluster::Cluster;
use crate::kafka::destination::Destination;
use crate::limits::{BATCH_DEADLINE_SHARE, BATCH_UNANSWERED_RECORDS_MAX};
use crate::publish::batch::session::{Receiving, Session, State};
use crate::publish::format::{BatchParser, Parsed, ParsedRecord, RecordError};
use crate::publish::handoff::domains::BY_KEY;
use crate::publish::handoff::{self, Asked, Goes, Route, Wish};
use crate::publish::{Around, destination, record_error};
use crate::refusal::Refusal;
use crate::timestamp;
use journal::Record;
use journal::queue::Name;
use kafka_client::{Acks, Client, How, ProduceError, TopicIdx};
use kafka_wire::handoff_entry::Target;
use kafka_wire::record_batch::{HeaderRef, RecordRef};
use model::Side;
use model::ids::Generation;
use smallvec::SmallVec;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whether the body may be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    Open,
    /// What was given is not used up. Come again when the connection is woken.
    Blocked,
}

/// The side of a batch request that takes its body.
pub struct Feed {
    session: Rc<Session>,
    parser: BatchParser,
    standing: Standing,
    meters: Meters,
    /// Of the snapshot the request was last admitted under.
    generation: Generation,
    acks: Acks,
    wish: Wish,
    timeout: Duration,
    deadline: Option<Instant>,
    /// A record that found the client's queue full.
    held: Option<Held>,
    /// Since when nothing gets through.
    stalled_since: Option<Instant>,
    /// The parser was told that the body is over.
    ended: bool,
    /// Nothing more is stored; what still comes is thrown away.
    broken_since: Option<Instant>,
    drained_bytes: u64,
}

/// A record of which the input is gone.
struct Held {
    index: u32,
    partition: Option<i32>,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Held {
    fn of(record: &ParsedRecord<'_>, index: u32, now_ms: i64) -> Held {
        Held {
            index,
            partition: record.partition,
            timestamp_ms: record.timestamp_ms.unwrap_or(now_ms),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|h| (h.name.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

/// Records that go into the journal in one go.
const RUN_RECORDS_MAX: usize = 1_000;

/// What one burst of records is handed over with.
struct Burst<'a> {
    env: &'a Env,
    client: &'a mut Client,
    state: &'a mut State,
    topic: TopicIdx,
    meters: &'a Meters,
    acks: Acks,
    tag: u64,
    deadline: Instant,
    now: Instant,
    now_ms: i64,
    /// Waited long enough for room: a full queue is the record's error now.
    given_up: bool,
    accepted: u64,
    around: Around<'a>,
    cluster: &'a Cluster,
    wish: Wish,
    destination: &'a Destination,
    /// Records on their way into the journal, for one lane.
    run: Option<Run>,
}

/// Consecutive records of the batch that go into the journal together.
struct Run {
    lane: i32,
    why: Arc<str>,
    first: (u64, u32),
    records: Vec<Record>,
}

impl Run {
    /// Whether the record of this number may be the next: none before it has another end, and there is room.
    fn goes_on_with(&self, lane: i32, index: (u64, u32)) -> bool {
        let next = self.first.0 + self.records.len() as u64;
        (lane, index.0) == (self.lane, next) && self.records.len() < RUN_RECORDS_MAX
    }
}

/// Value, key and headers of a record, in bytes.
fn weight(record: &RecordRef<'_>) -> usize {
    let headers = record.headers.iter().map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len));
    record.value.map_or(0, <[u8]>::len) + record.key.map_or(0, <[u8]>::len) + headers.sum::<usize>()
}

impl Burst<'_> {
    /// Hands a record over that has its receipt; false when the queue is full and it should wait.
    fn give(&mut self, record: &RecordRef<'_>, partition: Option<i32>, index: (u64, u32)) -> bool {
        let mut route = self.route(record, partition);
        if self.run.is_some() && !matches!(&route, Route::Journal { .. }) {
            // What goes into the journal before it makes its way, which may be another then.
            self.flush_run();
            route = self.route(record, partition);
        }
        match route {
            Route::Kafka { partition: chosen, gives_back } => {
                let how = How::new(self.acks, self.deadline);
                let how = if gives_back { how.or_give_back() } else { how };
                match self.client.produce(self.topic, chosen, record, how, self.tag, index.1, self.now) {
                    Ok(()) => {
                        self.accept(record);
                        true
                    }
                    Err(ProduceError::QueueFull) if !self.given_up => false,
                    Err(ProduceError::Away { why, partition: away }) => {
                        self.keep(away.unwrap_or(BY_KEY), why, record, partition, index);
                        true
                    }
                    Err(err) => {
                        self.fail(index.0, 1, &record_error(&err));
                        true
                    }
                }
            }
            Route::Journal { lane, why } => {
                self.keep(lane, why, record, partition, index);
                true
            }
            Route::Hold { until, .. } if self.now < until && !self.given_up => false,
            Route::Hold { lane, .. } => {
                self.keep(lane, "the backlog before it took too long".into(), record, partition, index);
                true
            }
            Route::Refuse(refusal) => {
                self.fail(index.0, 1, &RecordError::from(refusal));
                true
            }
        }
    }

    fn route(&mut self, record: &RecordRef<'_>, partition: Option<i32>) -> Route {
        let asked = Asked {
            topic: self.topic,
            partition,
            key: record.key,
            acks: self.acks,
            wish: self.wish,
            is_allowed: self.destination.hands_off,
        };
        self.around.publishing.handoff.route(self.cluster, self.client, &asked)
    }

    fn accept(&mut self, record: &RecordRef<'_>) {
        self.state.unanswered += 1;
        self.accepted += 1;
        self.meters.charge(self.env, Side::Publish, 1, weight(record), self.now);
    }

    fn fail(&mut self, first: u64, count: u64, error: &RecordError) {
        self.state.receipts.failed_run(first, count, error);
        self.env.metrics.batch_failed(count);
    }

    /// Puts a record among those that go into the journal.
    fn keep(&mut self, lane: i32, why: Arc<str>, record: &RecordRef<'_>, named: Option<i32>, index: (u64, u32)) {
        if self.run.as_ref().is_some_and(|run| !run.goes_on_with(lane, index)) {
            self.flush_run();
        }
        self.accept(record);
        let topic_id = self.client.topic_id(self.topic).unwrap_or_default();
        let partition = if lane >= 0 { Some(lane) } else { named };
        let kept = handoff::record(record, None, Target { partition, is_named: named.is_some(), topic_id });
        let run = self.run.get_or_insert_with(|| Run { lane, why, first: index, records: Vec::new() });
        run.records.push(kept);
    }

    /// Appends what goes into the journal.
    fn flush_run(&mut self) {
        let Some(Run { lane, why, first, records }) = self.run.take() else { return };
        let handoff = &self.around.publishing.handoff;
        let name = Name {
            account: handoff.app(self.around, self.destination.tenant),
            subject: handoff.subject(self.cluster, self.client, self.topic),
            lane,
        };
        let is_held = lane >= 0 && !self.client.is_settled(self.topic, lane);
        let goes = Goes { name, why: &why, is_held };
        for (from, count, error) in handoff.append_run(self.tag, &goes, first.1, records, self.now_ms) {
            self.state.unanswered -= u64::from(count);
            let from = first.0 + u64::from(from.wrapping_sub(first.1));
            self.fail(from, u64::from(count), &RecordError::from(handoff::refuse(&error)));
        }
    }

    /// Opens the receipt of what the parser yielded and hands it over; gives it back when it has to wait.
    fn take(&mut self, parsed: Parsed<'_>) -> Option<Held> {
        let parsed =
            parsed.and_then(|record| match record.timestamp_ms.map(|given| timestamp::check(given, self.now_ms)) {
                Some(Err(err)) => Err(RecordError::new(codes::TIMESTAMP_UNIT, err.to_string())),
                _ => Ok(record),
            });
        match parsed {
            Ok(record) => {
                let index = self.state.next_index();
                if self.give(&record.as_record(self.now_ms), record.partition, index) {
                    return None;
                }
                Some(Held::of(&record, index.1, self.now_ms))
            }
            Err(error) => {
                self.state.close |= error.fatal;
                self.state.refuse(self.env, &error);
                None
            }
        }
    }

    /// Hands over a record that waited; false when it has to wait on.
    fn take_held(&mut self, held: &Held) -> bool {
        let headers: SmallVec<[HeaderRef<'_>; 4]> =
            held.headers.iter().map(|(name, value)| HeaderRef { name, value: value.as_deref() }).collect();
        let record = RecordRef {
            timestamp_ms: held.timestamp_ms,
            key: held.key.as_deref(),
            value: held.value.as_deref(),
            headers: &headers,
        };
        let index = self.state.receipts.record_count() - 1;
        debug_assert_eq!(index as u32, held.index, "nothing is opened while a record waits");
        self.give(&record, held.partition, (index, held.index))
    }
}

impl Feed {
    pub fn new(
        session: Rc<Session>,
        parser: BatchParser,
        standing: Standing,
        meters: Meters,
        generation: Generation,
        (acks, wish): (Acks, Wish),
        timeout: Duration,
    ) -> Feed {
        Feed {
            session,
            parser,
            standing,
            meters,
            generation,
            acks,
            wish,
            timeout,
            deadline: None,
            held: None,
            stalled_since: None,
            ended: false,
            broken_since: None,
            drained_bytes: 0,
        }
    }

    /// Receipts flow while records arrive.
    pub fn streams(&self) -> bool {
        self.session.receiving == Receiving::WhileSending
    }

    /// The connection may be used after this request.
    pub fn keeps_alive(&self) -> bool {
        self.session.keep_alive() && self.broken_since.is_none()
    }

    /// Since when the body is only thrown away.
    pub fn broken_since(&self) -> Option<Instant> {
        self.broken_since
    }

    pub fn drained_bytes(&self) -> u64 {
        self.drained_bytes
    }

    /// Asks again whether the caller may, if there is a new snapshot; if not, nothing after this is stored. True when
    /// nothing of the request was taken yet, so that it can be answered without its body.
    pub fn recheck(&mut self, around: Around<'_>, now: Instant) -> bool {
        let Around { env, access, clusters, .. } = around;
        let snapshot = access.borrow_snapshot();
        let generation = snapshot.generation;
        if self.broken_since.is_some() || std::mem::replace(&mut self.generation, generation) == generation {
            return false;
        }
        let granted = self.standing.check(&snapshot).map_err(Refusal::from);
        let found = granted.and_then(|grant| Ok((destination(clusters, &grant, now)?, access.meters(env, &grant))));
        let refusal = match found {
            Ok((destination, meters)) if destination.route == self.session.destination.route => {
                self.meters = meters;
                return false;
            }
            Ok(_) => Refusal::new(codes::TOPIC_MOVED, "the topic moved to another cluster meanwhile"),
            Err(refusal) => refusal,
        };
        let message = format!("{}; nothing of what follows was stored", refusal.message);
        self.fail(env, Refusal { message, ..refusal }, now);
        self.session.state.borrow().refused.is_some()
    }

    /// Goes on once the shard's other tasks had their turn.
    pub fn go_on_next_turn(&self) {
        self.session.wake_next_turn();
    }

    /// Takes records off the front of `input`, as many as there is room for.
    pub fn take(&mut self, around: Around<'_>, input: &mut &[u8], now: Instant) -> Flow {
        if self.broken_since.is_some() {
            self.drained_bytes += input.len() as u64;
            *input = &[];
            return Flow::Open;
        }
        self.burst(around, input, false, now)
    }

    /// The body has ended: its last record, then the answer. Call it again after [`Flow::Blocked`].
    pub fn end(&mut self, around: Around<'_>, now: Instant) -> Flow {
        if self.broken_since.is_none() && self.burst(around, &mut &[][..], true, now) == Flow::Blocked {
            return Flow::Blocked;
        }
        self.session.end(around.env, around.publishing, now);
        Flow::Open
    }

    /// The body cannot be followed any further, for a reason outside its records. Nothing after this is stored.
    pub fn fail(&mut self, env: &Env, refusal: Refusal, now: Instant) {
        if self.broken_since.replace(now).is_some() {
            return;
        }
        let state = &mut *self.session.state.borrow_mut();
        state.close = true;
        // A record that waits for room is settled by giving it up.
        if self.held.take().is_some() {
            let why = "nothing was stored: too much waits for this cluster";
            state.give_up_last(env, &RecordError::new(codes::OVERLOADED, why));
        }
        if state.receipts.record_count() == 0 {
            state.refused = Some(refusal);
        } else {
            state.refuse(env, &RecordError::from(refusal));
        }
    }

    /// Nothing more will come, or be looked at: answers what there is.
    pub fn cut(&mut self, around: Around<'_>, now: Instant) {
        debug_assert!(self.broken_since.is_some(), "only a broken body ends before its end");
        self.session.end(around.env, around.publishing, now);
    }

    /// The client is gone.
    pub fn abandon(&mut self, around: Around<'_>) {
        let env = around.env;
        if self.held.take().is_some() {
            let state = &mut *self.session.state.borrow_mut();
            state.give_up_last(env, &RecordError::new(codes::OVERLOADED, "the client is gone"));
        }
        self.session.abandon(env, around.publishing);
    }

    /// One burst of handing over: the record that waits, then what `input` and the end of the body give.
    fn burst(&mut self, around: Around<'_>, input: &mut &[u8], at_end: bool, now: Instant) -> Flow {
        let Around { env, clusters, .. } = around;
        let session = Rc::clone(&self.session);
        let state = &mut *session.state.borrow_mut();
        state.starved = !state.has_room() && !input.is_empty();
        if state.starved {
            return Flow::Blocked;
        }
        let given_up = self.stalled_since.is_some_and(|since| now >= since + self.timeout);
        let offered = input.len();
        if let Err(refused) = state.reservation.grow(offered) {
            if self.stalled_since.is_none() {
                env.metrics.budget_refused(refused.scope);
            }
            if !given_up {
                return self.stall(&session, state, now);
            }
            let refusal = Refusal::overloaded(&refused.to_string());
            return self.refuse_all(env, &session, state, input, refusal, now);
        }
        let route = session.destination.route;
        let cluster = clusters.at(route.cluster);
        let mut client = cluster.client.borrow_mut();
        let deadline = self.deadline(now);
        let mut burst = Burst {
            env,
            client: &mut client,
            state,
            topic: route.topic,
            meters: &self.meters,
            acks: self.acks,
            tag: session.tag(),
            deadline,
            now,
            now_ms: env.wall_clock_ms(),
            given_up,
            accepted: 0,
            around,
            cluster,
            wish: self.wish,
            destination: &session.destination,
            run: None,
        };
        if let Some(held) = self.held.take()
            && !burst.take_held(&held)
        {
            self.held = Some(held);
        }
        let mut spent = None;
        while self.held.is_none() && burst.state.unanswered < BATCH_UNANSWERED_RECORDS_MAX {
            if let Err(exhausted) = burst.meters.check(env, Side::Publish, 0, now) {
                spent = (!input.is_empty()).then_some(exhausted);
                break;
            }
            let Some(parsed) = self.parser.next(input) else { break };
            self.held = burst.take(parsed);
        }
        if at_end && self.held.is_none() && !self.ended {
            self.ended = true;
            if let Some(parsed) = self.parser.end() {
                self.held = burst.take(parsed);
            }
        }
        burst.flush_run();
        let accepted = burst.accepted;
        drop(client);
        if accepted > 0 {
            self.stalled_since = None;
            state.handed_over(offered - input.len());
            cluster.wake();
        }
        self.settle_burst(&session, state, now);
        if self.held.is_some() || (spent.is_some() && !given_up) {
            return self.stall(&session, state, now);
        }
        if let Some(exhausted) = spent {
            return self.refuse_all(env, &session, state, input, quota::refuse(env, &exhausted), now);
        }
        state.starved = !input.is_empty();
        if state.starved { Flow::Blocked } else { Flow::Open }
    }

    /// After records were taken: what is held, whether the body still makes sense, whether the answer begins.
    /// False when not even that is covered by the budget.
    fn settle_burst(&mut self, session: &Rc<Session>, state: &mut State, now: Instant) -> bool {
        state.set_carried(self.parser.held_bytes());
        let covered = state.recharge();
        if self.parser.is_broken() && self.broken_since.is_none() {
            self.broken_since = Some(now);
        }
        session.begin_streaming(state);
        covered
    }

    /// Waits for room that no outcome of this request may bring.
    fn stall(&mut self, session: &Rc<Session>, state: &mut State, now: Instant) -> Flow {
        self.stalled_since.get_or_insert(now);
        state.starved = true;
        session.retry_soon();
        Flow::Blocked
    }

    /// Waited long enough: every record of `input` gets the same refusal.
    fn refuse_all(
        &mut self,
        env: &Env,
        session: &Rc<Session>,
        state: &mut State,
        input: &mut &[u8],
        refusal: Refusal,
        now: Instant,
    ) -> Flow {
        let overloaded = RecordError::from(refusal);
        if self.held.take().is_some() {
            state.give_up_last(env, &overloaded);
        }
        while let Some(parsed) = self.parser.next(input) {
            let error = parsed.err().unwrap_or_else(|| overloaded.clone());
            state.close |= error.fatal;
            state.refuse(env, &error);
        }
        if !self.settle_burst(session, state, now) && self.broken_since.is_none() {
            // There is no memory for the receipts either, of which a body may ask a million: it ends here.
            let message = format!("{}; nothing of what follows was stored", overloaded.message).into();
            self.broken_since = Some(now);
            state.close = true;
            state.refuse(env, &RecordError { message, ..overloaded });
        }
        Flow::Open
    }

    /// The deadline of records handed over now. It moves in steps, so that a burst shares one.
    fn deadline(&mut self, now: Instant) -> Instant {
        let exact = now + self.timeout;
        match self.deadline {
            Some(deadline) if exact < deadline + self.timeout / BATCH_DEADLINE_SHARE => deadline,
            _ => {
                self.deadline = Some(exact);
                exact
            }
        }
    }
}
