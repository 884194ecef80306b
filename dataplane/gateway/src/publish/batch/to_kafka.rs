//! Records of a batch on their way into the Kafka client, or into the journal while Kafka is away.

use super::sink::{Burst, Taker, weight};
use crate::env::Env;
use crate::kafka::cluster::Cluster;
use crate::limits::BATCH_DEADLINE_SHARE;
use crate::publish::batch::session::State;
use crate::publish::format::{ParsedRecord, RecordError};
use crate::publish::handoff::domains::BY_KEY;
use crate::publish::handoff::{self, Asked, Goes, Route, Wish};
use crate::publish::record_error;
use journal::Record;
use journal::queue::Name;
use kafka_client::{Acks, Client, How, ProduceError, TopicIdx};
use kafka_wire::handoff_entry::Target;
use kafka_wire::record_batch::{HeaderRef, RecordRef};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// See the module.
pub struct ToKafka {
    acks: Acks,
    wish: Wish,
    /// Each record's.
    timeout: Duration,
    deadline: Option<Instant>,
    /// A record that found the client's queue full.
    held: Option<Held>,
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

impl ToKafka {
    pub fn new(acks: Acks, wish: Wish, timeout: Duration) -> ToKafka {
        ToKafka { acks, wish, timeout, deadline: None, held: None }
    }

    pub(super) fn at_work<'w>(
        &'w mut self,
        client: &'w mut Client,
        cluster: &'w Cluster,
        burst: &Burst<'_>,
    ) -> AtWork<'w> {
        let deadline = self.deadline(burst.now);
        AtWork { sink: self, client, cluster, topic: burst.destination.route.topic, deadline, run: None }
    }

    pub(super) fn waits(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn give_up(&mut self, env: &Env, state: &mut State, why: &RecordError) {
        if self.held.take().is_some() {
            state.give_up_last(env, why);
        }
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

/// In one burst.
pub(super) struct AtWork<'w> {
    sink: &'w mut ToKafka,
    client: &'w mut Client,
    cluster: &'w Cluster,
    topic: TopicIdx,
    deadline: Instant,
    /// Records on their way into the journal, for one lane.
    run: Option<Run>,
}

impl Taker for AtWork<'_> {
    fn take_waiting(&mut self, burst: &mut Burst<'_>) {
        if let Some(held) = self.sink.held.take()
            && !self.take_held(burst, &held)
        {
            self.sink.held = Some(held);
        }
    }

    fn take(&mut self, burst: &mut Burst<'_>, record: ParsedRecord<'_>) {
        if let Err(error) = burst.right_timestamp(&record) {
            return burst.refuse(&error);
        }
        let index = burst.state.next_index();
        if !self.give(burst, &record.as_record(burst.now_ms), record.partition, index) {
            self.sink.held = Some(Held::of(&record, index.1, burst.now_ms));
        }
    }

    /// Appends what goes into the journal.
    fn flush(&mut self, burst: &mut Burst<'_>) {
        let Some(Run { lane, why, first, records }) = self.run.take() else { return };
        let handoff = &burst.around.publishing.handoff;
        let name = Name {
            account: handoff.app(burst.around, burst.destination.tenant),
            subject: handoff.subject(self.cluster, self.client, self.topic),
            lane,
        };
        let is_held = lane >= 0 && !self.client.is_settled(self.topic, lane);
        let goes = Goes { name, why: &why, is_held };
        for (from, count, error) in handoff.append_run(burst.tag, &goes, first.1, records, burst.now_ms) {
            burst.state.unanswered -= u64::from(count);
            let from = first.0 + u64::from(from.wrapping_sub(first.1));
            burst.fail(from, u64::from(count), &RecordError::from(handoff::refuse(&error)));
        }
    }

    fn waits(&self) -> bool {
        self.sink.waits()
    }
}

impl AtWork<'_> {
    /// Hands a record over that has its receipt; false when the queue is full and it should wait.
    fn give(
        &mut self,
        burst: &mut Burst<'_>,
        record: &RecordRef<'_>,
        partition: Option<i32>,
        index: (u64, u32),
    ) -> bool {
        let mut route = self.route(burst, record, partition);
        if self.run.is_some() && !matches!(&route, Route::Journal { .. }) {
            // What goes into the journal before it makes its way, which may be another then.
            self.flush(burst);
            route = self.route(burst, record, partition);
        }
        match route {
            Route::Kafka { partition: chosen, gives_back } => {
                let how = How::new(self.sink.acks, self.deadline);
                let how = if gives_back { how.or_give_back() } else { how };
                match self.client.produce(self.topic, chosen, record, how, burst.tag, index.1, burst.now) {
                    Ok(()) => {
                        accept(burst, record);
                        true
                    }
                    Err(ProduceError::QueueFull) if !burst.given_up => false,
                    Err(ProduceError::Away { why, partition: away }) => {
                        self.keep(burst, (away.unwrap_or(BY_KEY), why), record, partition, index);
                        true
                    }
                    Err(err) => {
                        burst.fail(index.0, 1, &record_error(&err));
                        true
                    }
                }
            }
            Route::Journal { lane, why } => {
                self.keep(burst, (lane, why), record, partition, index);
                true
            }
            Route::Hold { until, .. } if burst.now < until && !burst.given_up => false,
            Route::Hold { lane, .. } => {
                let why = "the backlog before it took too long".into();
                self.keep(burst, (lane, why), record, partition, index);
                true
            }
            Route::Refuse(refusal) => {
                burst.fail(index.0, 1, &RecordError::from(refusal));
                true
            }
        }
    }

    fn route(&mut self, burst: &Burst<'_>, record: &RecordRef<'_>, partition: Option<i32>) -> Route {
        let asked = Asked {
            topic: self.topic,
            partition,
            key: record.key,
            acks: self.sink.acks,
            wish: self.sink.wish,
            is_allowed: burst.destination.hands_off,
        };
        burst.around.publishing.handoff.route(self.cluster, self.client, &asked)
    }

    /// Puts a record among those that go into the journal.
    fn keep(
        &mut self,
        burst: &mut Burst<'_>,
        (lane, why): (i32, Arc<str>),
        record: &RecordRef<'_>,
        named: Option<i32>,
        index: (u64, u32),
    ) {
        if self.run.as_ref().is_some_and(|run| !run.goes_on_with(lane, index)) {
            self.flush(burst);
        }
        accept(burst, record);
        let topic_id = self.client.topic_id(self.topic).unwrap_or_default();
        let partition = if lane >= 0 { Some(lane) } else { named };
        let kept = handoff::record(record, None, Target { partition, is_named: named.is_some(), topic_id });
        let run = self.run.get_or_insert_with(|| Run { lane, why, first: index, records: Vec::new() });
        run.records.push(kept);
    }

    /// Hands over a record that waited; false when it has to wait on.
    fn take_held(&mut self, burst: &mut Burst<'_>, held: &Held) -> bool {
        let headers: SmallVec<[HeaderRef<'_>; 4]> =
            held.headers.iter().map(|(name, value)| HeaderRef { name, value: value.as_deref() }).collect();
        let record = RecordRef {
            timestamp_ms: held.timestamp_ms,
            key: held.key.as_deref(),
            value: held.value.as_deref(),
            headers: &headers,
        };
        let index = burst.state.receipts.record_count() - 1;
        debug_assert_eq!(index as u32, held.index, "nothing is opened while a record waits");
        self.give(burst, &record, held.partition, (index, held.index))
    }
}

fn accept(burst: &mut Burst<'_>, record: &RecordRef<'_>) {
    burst.accept(weight(record));
    burst.got_through = true;
}
