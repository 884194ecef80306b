//! Records between their publisher and the wire: topics, their partitions, and a queue of batches per partition
//! and kind of acknowledgement.
//!
//! ```text
//!   topic (TopicIdx) ── partition ── queue[acks] ── batch 0  batch 1 … batch n (open)
//!                                                   in flight or next      records are appended here
//! ```
//!
//! What one record costs: two vector indexes, the copy of its bytes into the open batch, and maybe a run. No hashing
//! of names, no allocation of its own.
//!
//! Invariants:
//! - A queue with batches is in `occupied`.
//! - Partitions are never taken away but from a topic at rest: what is under way for one that no longer exists ends
//!   with its answer or its deadline (`put_to_sleep` burns what it drops).
//! - `queued_bytes` is the sum of all batches' `accounted_bytes` and all waiting records' sizes.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{BatchBuilder, HeaderRef, RecordRef};
use smallvec::SmallVec;

use crate::batch::{Batch, Body, Run};
use crate::config::ClientConfig;
use crate::limits::{TOPIC_PLACES_PAUSE, TOPICS_MAX, WAITING_RECORDS_MAX};
use crate::queue::{ACKS, Place, Places, Queue, QueueId, acks_index};
use crate::rng::Rng;
use crate::types::{How, OnAway, ProduceError, TopicIdx, TopicOptions, TopicState};
use crate::unsent::{self, Unsent};

/// One partition as the last metadata has it.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    /// Broker (index in the cluster), None while there is no leader.
    pub leader: Option<u32>,
    pub leader_epoch: i32,
    /// Since when metadata says that nobody leads it.
    pub leaderless_since: Option<Instant>,
    queues: [Option<Box<Queue>>; ACKS.len()],
}

impl Partition {
    pub fn queue(&self, acks: u8) -> Option<&Queue> {
        self.queues[acks as usize].as_deref()
    }

    /// What the leader said that is none any more counts no more.
    pub fn forgive(&mut self) {
        self.queues.iter_mut().flatten().for_each(|queue| queue.refusal = None);
    }

    /// A leader is missing, or refuses.
    pub fn has_unrest(&self) -> bool {
        self.leaderless_since.is_some() || self.queues.iter().flatten().any(|queue| queue.refusal.is_some())
    }

    fn is_busy(&self, acks: u8) -> bool {
        self.queue(acks).is_some_and(|queue| queue.place() != Place::Idle)
    }
}

/// A record that came before its topic's metadata.
#[derive(Debug)]
struct WaitingRecord {
    partition: Option<i32>,
    timestamp_ms: i64,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(Bytes, Option<Bytes>)>,
    how: How,
    tag: u64,
    record_index: u32,
    accounted_bytes: usize,
}

impl WaitingRecord {
    fn with_ref<T>(&self, look: impl FnOnce(&RecordRef<'_>) -> T) -> T {
        let headers: SmallVec<[HeaderRef<'_>; 8]> =
            self.headers.iter().map(|(name, value)| HeaderRef { name, value: value.as_deref() }).collect();
        look(&RecordRef {
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }
}

/// One topic of this client.
#[derive(Debug)]
pub(crate) struct Topic {
    pub name: Arc<str>,
    /// How many names had this place before.
    generation: u32,
    pub options: TopicOptions,
    pub state: TopicState,
    /// Version 10 of Metadata and later; all zero when not told.
    pub id: [u8; 16],
    /// Its id before it was made again: a broker that lags behind may tell that one for a while.
    pub id_before: [u8; 16],
    /// May be more than exist: see `partition_count`.
    pub partitions: Vec<Partition>,
    /// How many partitions there are, by the last metadata that was believed.
    pub partition_count: u32,
    /// Since when brokers tell what looks older than what we know, and nobody anything else.
    pub older_since: Option<Instant>,
    /// Batches of several records stay below it; lowered when the brokers find one too large.
    pub batch_bytes_max: usize,
    /// To be asked for in the next Metadata request.
    pub wanted: bool,
    /// When the last answer said "no such topic" (or "not for you"); of a known topic, when they began to.
    pub negative_at: Option<Instant>,
    /// Somebody asked for it since the last round; set through a shared reference, too.
    pub used: Cell<bool>,
    /// The last round before which somebody asked for it.
    pub used_at: Instant,
    /// Nobody used it for long: Pending without being asked for, until somebody does.
    pub asleep: bool,
    /// A partition may be away for a reason of its own: no leader, or one that refuses. Found out record by record.
    pub unrest: bool,
    /// When somebody was refused last and therefore asked for its leaders.
    pub asked_away_at: Option<Instant>,
    waiting: VecDeque<WaitingRecord>,
    /// No waiting record has an earlier deadline than the one before it.
    waiting_in_order: bool,
    /// Where records without a key go until that batch is closed.
    sticky: Option<u32>,
    /// How often it was chosen since while all were away: then no batch is closed that would end the choice.
    sticky_away: u32,
}

impl Topic {
    fn index(&self, place: u32) -> TopicIdx {
        TopicIdx::new(place, self.generation)
    }
}

/// A record as produce() is given it, with everything about it.
pub(crate) struct Entry<'a> {
    pub partition: Option<i32>,
    pub record: &'a RecordRef<'a>,
    /// Replaces `record.value`; linked when large.
    pub shared: Option<Bytes>,
    pub how: How,
    pub tag: u64,
    pub record_index: u32,
}

impl Entry<'_> {
    /// The record with the value it has.
    fn with_record<T>(&self, look: impl FnOnce(&RecordRef<'_>) -> T) -> T {
        match &self.shared {
            None => look(self.record),
            Some(value) => look(&RecordRef { value: Some(value), ..*self.record }),
        }
    }
}

/// Records that ended before they had a place in a queue.
#[derive(Debug)]
pub(crate) struct Told {
    pub tag: u64,
    pub record_first: u32,
    pub count: u32,
    pub error: ProduceError,
    pub unsent: Option<Unsent>,
}

impl Told {
    fn one(waiting: &WaitingRecord, error: ProduceError) -> Told {
        Told { tag: waiting.tag, record_first: waiting.record_index, count: 1, error, unsent: None }
    }
}

/// Which partitions are away now.
pub(crate) type IsAway<'a> = &'a dyn Fn(&Partition) -> bool;

/// All topics and queues of a client.
#[derive(Debug)]
pub(crate) struct Accumulator {
    pub topics: Vec<Topic>,
    by_name: foldhash::HashMap<Arc<str>, u32>,
    pub places: Places,
    occupied: Vec<QueueId>,
    /// Topics with waiting records; may hold topics that have none any more.
    waiting_topics: Vec<u32>,
    pub queued_bytes: usize,
    pub queued_bytes_max: usize,
    batch_bytes_max: usize,
    record_bytes_max: usize,
    /// No unanswered record has an earlier deadline.
    pub next_expiry: Option<Instant>,
    /// Producer ids older than this generation may have been used by queues that were dropped: a new queue must not
    /// count its sequences under one of them again.
    generation_min: u32,
    /// Where the next search for a topic that sleeps begins, and until when there is none.
    next_place: usize,
    none_sleeps_until: Option<Instant>,
    spare_runs: Vec<Vec<Run>>,
    scratch: BatchBuilder,
}

/// What a record of n bytes costs beyond its bytes while it waits for metadata.
const WAITING_RECORD_OVERHEAD: usize = 128;
const SPARE_RUNS_MAX: usize = 256;
const CAPACITY_MIN: usize = 512;
const CAPACITY_MAX: usize = 64 * 1_024;
/// Partitions of a topic that are under way for records without a key before further ones gather behind them.
const STICKY_BUSY_MAX: usize = 2;
/// Records without a key that go to one partition while all are away, before another is chosen: whoever keeps them meanwhile
/// keeps them in runs, and no partition gets the whole of an outage.
const STICKY_AWAY_MAX: u32 = 1_000;
/// Partitions looked at when a sticky partition is chosen.
const STICKY_SCAN_MAX: usize = 64;
/// Names that one place is given to at most: as often as an index can tell.
const GENERATIONS_MAX: u32 = u32::MAX / TOPICS_MAX as u32;

impl Accumulator {
    pub fn new(config: &ClientConfig) -> Accumulator {
        Accumulator {
            topics: Vec::new(),
            by_name: foldhash::HashMap::default(),
            places: Places::default(),
            occupied: Vec::new(),
            waiting_topics: Vec::new(),
            queued_bytes: 0,
            queued_bytes_max: config.queue_bytes_max,
            batch_bytes_max: config.batch_bytes_max,
            record_bytes_max: config.record_bytes_max,
            next_expiry: None,
            generation_min: 0,
            next_place: 0,
            none_sleeps_until: None,
            spare_runs: Vec::new(),
            scratch: BatchBuilder::with_capacity(0),
        }
    }

    /// The index of a topic, and whether it is new. Beyond the limit a name gets the place of a topic that sleeps or, when
    /// all are awake, shares one missing topic with all other new names.
    pub fn intern(&mut self, name: &str, now: Instant) -> (TopicIdx, bool) {
        if let Some(place) = self.by_name.get(name) {
            return (self.topics[*place as usize].index(*place), false);
        }
        const OVERFLOW: u32 = TOPICS_MAX as u32 - 1;
        let free = self.topics.len() as u32;
        let place = if free < OVERFLOW { free } else { self.take_place(now).unwrap_or(OVERFLOW) };
        if place == OVERFLOW && free > OVERFLOW {
            return (TopicIdx::new(OVERFLOW, 0), false);
        }
        let overflow = place == OVERFLOW;
        let name: Arc<str> = if overflow { "".into() } else { name.into() };
        let topic = Topic {
            name: name.clone(),
            generation: self.topics.get(place as usize).map_or(0, |before| before.generation + 1),
            options: TopicOptions::default(),
            state: if overflow { TopicState::Missing } else { TopicState::Pending },
            id: [0; 16],
            id_before: [0; 16],
            partitions: Vec::new(),
            partition_count: 0,
            older_since: None,
            batch_bytes_max: self.batch_bytes_max,
            wanted: !overflow,
            negative_at: None,
            used: Cell::new(true),
            used_at: now,
            asleep: false,
            unrest: false,
            asked_away_at: None,
            waiting: VecDeque::new(),
            waiting_in_order: true,
            sticky: None,
            sticky_away: 0,
        };
        let index = topic.index(place);
        match self.topics.get_mut(place as usize) {
            Some(before) => *before = topic,
            None => self.topics.push(topic),
        }
        if !overflow {
            self.by_name.insert(name, place);
        }
        (index, !overflow)
    }

    /// A place whose topic sleeps, which is forgotten. When none does, nobody looks again for a while: names come from
    /// clients, and a search is long.
    fn take_place(&mut self, now: Instant) -> Option<u32> {
        if self.none_sleeps_until.is_some_and(|until| now < until) {
            return None;
        }
        let count = self.topics.len();
        let places = (0..count).map(|step| (self.next_place + step) % count);
        let may_go = |topic: &Topic| topic.asleep && topic.waiting.is_empty() && topic.generation < GENERATIONS_MAX;
        let found = places.into_iter().find(|place| may_go(&self.topics[*place]));
        self.none_sleeps_until = found.is_none().then(|| now + TOPIC_PLACES_PAUSE);
        let place = found?;
        self.next_place = place + 1;
        self.by_name.remove(&self.topics[place].name);
        Some(place as u32)
    }

    /// None: that topic was forgotten, and its place may be another one's.
    pub fn topic(&self, index: TopicIdx) -> Option<&Topic> {
        self.topics.get(index.place() as usize).filter(|topic| topic.index(index.place()) == index)
    }

    /// Forgets everything about a topic but its name and options, unless a record of it is under way. The index stays
    /// good: whoever uses it next wakes the topic.
    pub fn put_to_sleep(&mut self, topic: u32) -> bool {
        let topic = &mut self.topics[topic as usize];
        let queues = || topic.partitions.iter().flat_map(|partition| partition.queues.iter().flatten());
        if !topic.waiting.is_empty() || queues().any(|queue| !queue.is_at_rest()) {
            return false;
        }
        self.generation_min = queues().map(|queue| queue.generation_burnt()).fold(self.generation_min, u32::max);
        topic.partitions = Vec::new();
        topic.partition_count = 0;
        topic.older_since = None;
        topic.state = TopicState::Pending;
        topic.id = [0; 16];
        topic.id_before = [0; 16];
        topic.batch_bytes_max = self.batch_bytes_max;
        topic.negative_at = None;
        topic.wanted = false;
        topic.sticky = None;
        topic.unrest = false;
        topic.asleep = true;
        true
    }

    pub fn lookup(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub fn queue(&self, queue_id: QueueId) -> Option<&Queue> {
        self.topics[queue_id.topic as usize].partitions.get(queue_id.partition as usize)?.queue(queue_id.acks)
    }

    pub fn queue_mut(&mut self, queue_id: QueueId) -> Option<&mut Queue> {
        self.topics[queue_id.topic as usize].partitions.get_mut(queue_id.partition as usize)?.queues
            [queue_id.acks as usize]
            .as_deref_mut()
    }

    pub fn leader(&self, queue_id: QueueId) -> Option<u32> {
        self.topics[queue_id.topic as usize].partitions.get(queue_id.partition as usize)?.leader
    }

    /// Takes a record of a topic whose partitions are known.
    pub fn append(&mut self, topic: TopicIdx, entry: Entry<'_>, rng: &mut Rng) -> Result<(), ProduceError> {
        let record_bytes = entry.shared.as_ref().map(Bytes::len).or(entry.record.value.map(<[u8]>::len)).unwrap_or(0)
            + entry.record.key.map_or(0, <[u8]>::len);
        if self.queued_bytes + record_bytes > self.queued_bytes_max {
            return Err(ProduceError::QueueFull);
        }
        let acks = acks_index(entry.how.acks);
        let partition = self.choose_partition(topic, entry.partition, entry.record.key, acks, rng, None)?;
        let queue_id = QueueId { topic: topic.place(), partition, acks };
        self.append_to(queue_id, entry)
    }

    /// The partition asked for, that of the key, or the sticky one. The next record under the same conditions goes to the
    /// same, whether it asks for it or not.
    pub fn choose_partition(
        &mut self,
        topic: TopicIdx,
        partition: Option<i32>,
        key: Option<&[u8]>,
        acks: u8,
        rng: &mut Rng,
        is_away: Option<IsAway<'_>>,
    ) -> Result<u32, ProduceError> {
        let topic = &mut self.topics[topic.place() as usize];
        let count = topic.partition_count as usize;
        if let Some(partition) = partition {
            return match usize::try_from(partition) {
                Ok(index) if index < count => Ok(index as u32),
                _ => Err(ProduceError::PartitionUnknown { partition, partition_count: count as i32 }),
            };
        }
        if let Some(key) = key {
            return Ok(topic.options.partitioner.partition(key, count as u32));
        }
        if count == 1 {
            return Ok(0);
        }
        let away = |partition: u32| is_away.is_some_and(|is_away| is_away(&topic.partitions[partition as usize]));
        let before = topic.sticky.filter(|chosen| (*chosen as usize) < count);
        if let Some(chosen) = before.filter(|chosen| !away(*chosen)) {
            return Ok(chosen);
        }
        let chosen = choose_sticky(&topic.partitions[..count], acks, rng.below(count), is_away);
        let kept = before.filter(|_| topic.sticky_away < STICKY_AWAY_MAX && away(chosen));
        topic.sticky_away = if kept.is_some() { topic.sticky_away + 1 } else { 0 };
        topic.sticky = kept.or(Some(chosen));
        Ok(kept.unwrap_or(chosen))
    }

    fn append_to(&mut self, queue_id: QueueId, entry: Entry<'_>) -> Result<(), ProduceError> {
        let topic = &mut self.topics[queue_id.topic as usize];
        let queue = topic.partitions[queue_id.partition as usize].queues[queue_id.acks as usize]
            .get_or_insert_with(|| Box::new(Queue::new(self.generation_min)));
        let measured;
        let record = match &entry.shared {
            None => entry.record,
            Some(value) => {
                measured = RecordRef { value: Some(value), ..*entry.record };
                &measured
            }
        };
        let fits = match queue.batches.back().map(|batch| &batch.body) {
            Some(Body::Open(builder)) => builder.bytes_with(record) <= topic.batch_bytes_max,
            _ => false,
        };
        if !fits {
            let record_bytes = self.scratch.bytes_with(record);
            if record_bytes > self.record_bytes_max {
                return Err(ProduceError::RecordTooLarge { record_bytes, limit_bytes: self.record_bytes_max });
            }
            if queue.batches.is_empty() {
                queue.occupied_at = self.occupied.len() as u32;
                self.occupied.push(queue_id);
            } else if topic.sticky == Some(queue_id.partition) {
                topic.sticky = None; // the next record without a key may go elsewhere
            }
            // A batch that was never open before was sized by its predecessor; linked values need no room.
            let needed = if entry.shared.is_some() { CAPACITY_MIN } else { record_bytes };
            let capacity = queue.capacity_hint.min(self.batch_bytes_max).max(needed).max(CAPACITY_MIN);
            let runs = self.spare_runs.pop().unwrap_or_default();
            queue.batches.push_back(Batch::new(capacity, runs));
        }
        let batch = queue.batches.back_mut().expect("pushed above or there before");
        let Body::Open(builder) = &mut batch.body else { unreachable!("only an open batch fits") };
        let before = if builder.is_empty() { 0 } else { builder.bytes() };
        match entry.shared {
            None => builder.append(record),
            Some(value) => {
                let bare = RecordRef { value: None, ..*entry.record };
                builder.append_shared(&bare, value)
            }
        };
        let added = builder.bytes() - before;
        batch.accounted_bytes += added;
        self.queued_bytes += added;
        batch.note(entry.tag, entry.record_index, entry.how, entry.record.timestamp_ms);
        let deadline = entry.how.deadline;
        self.next_expiry = Some(self.next_expiry.map_or(deadline, |at| at.min(deadline)));
        if queue.place() == Place::Idle {
            queue.move_to(Place::Ready, queue_id, &mut self.places);
        }
        Ok(())
    }

    /// Keeps a copy of a record until its topic's metadata is there.
    pub fn wait(&mut self, topic: TopicIdx, entry: Entry<'_>) -> Result<(), ProduceError> {
        let record = entry.record;
        let value = match entry.shared {
            Some(value) => Some(value),
            None => record.value.map(Bytes::copy_from_slice),
        };
        let headers_bytes: usize = record.headers.iter().map(|h| h.name.len() + h.value.map_or(0, <[u8]>::len)).sum();
        let accounted_bytes = WAITING_RECORD_OVERHEAD
            + record.key.map_or(0, <[u8]>::len)
            + value.as_ref().map_or(0, Bytes::len)
            + headers_bytes;
        let topic_index = topic.place();
        let topic = &mut self.topics[topic_index as usize];
        let waiting = &mut topic.waiting;
        if waiting.len() >= WAITING_RECORDS_MAX || self.queued_bytes + accounted_bytes > self.queued_bytes_max {
            return Err(ProduceError::QueueFull);
        }
        if waiting.is_empty() {
            self.waiting_topics.push(topic_index);
            topic.waiting_in_order = true;
        }
        topic.waiting_in_order &= waiting.back().is_none_or(|last| last.how.deadline <= entry.how.deadline);
        waiting.push_back(WaitingRecord {
            partition: entry.partition,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(Bytes::copy_from_slice),
            value,
            headers: record
                .headers
                .iter()
                .map(|h| (Bytes::copy_from_slice(h.name), h.value.map(Bytes::copy_from_slice)))
                .collect(),
            how: entry.how,
            tag: entry.tag,
            record_index: entry.record_index,
            accounted_bytes,
        });
        self.queued_bytes += accounted_bytes;
        let deadline = entry.how.deadline;
        self.next_expiry = Some(self.next_expiry.map_or(deadline, |at| at.min(deadline)));
        Ok(())
    }

    pub fn has_waiting(&self, topic: TopicIdx) -> bool {
        !self.topics[topic.place() as usize].waiting.is_empty()
    }

    /// The topic's metadata is there: its waiting records take their places, in order.
    pub fn release_waiting(&mut self, topic: u32, rng: &mut Rng, told: &mut Vec<Told>) {
        for waiting in std::mem::take(&mut self.topics[topic as usize].waiting) {
            self.queued_bytes -= waiting.accounted_bytes;
            let index = self.topics[topic as usize].index(topic);
            let appended = waiting.with_ref(|record| {
                let entry = Entry {
                    partition: waiting.partition,
                    record,
                    shared: waiting.value.clone(),
                    how: waiting.how,
                    tag: waiting.tag,
                    record_index: waiting.record_index,
                };
                self.append(index, entry, rng)
            });
            if let Err(error) = appended {
                told.push(Told::one(&waiting, error));
            }
        }
    }

    /// The topic cannot be written: its waiting records are told so.
    pub fn refuse_waiting(&mut self, topic: u32, error: &ProduceError, told: &mut Vec<Told>) {
        for waiting in std::mem::take(&mut self.topics[topic as usize].waiting) {
            self.queued_bytes -= waiting.accounted_bytes;
            told.push(Told::one(&waiting, error.clone()));
        }
    }

    /// Answers waiting records whose deadline has passed (all of them when `now` is None) and gives the earliest
    /// deadline left.
    pub fn expire_waiting(&mut self, now: Option<Instant>, why: &Arc<str>, told: &mut Vec<Told>) -> Option<Instant> {
        let mut earliest: Option<Instant> = None;
        let topics = &mut self.topics;
        let queued_bytes = &mut self.queued_bytes;
        self.waiting_topics.retain(|topic| {
            let topic = &mut topics[*topic as usize];
            let over = |record: &WaitingRecord| now.is_none_or(|now| record.how.deadline <= now);
            let mut end = |record: WaitingRecord| {
                *queued_bytes -= record.accounted_bytes;
                let error = ProduceError::Unavailable { why: why.clone() };
                told.push(Told::one(&record, error));
            };
            if topic.waiting_in_order {
                while topic.waiting.front().is_some_and(over) {
                    topic.waiting.pop_front().into_iter().for_each(&mut end);
                }
            } else {
                let (ended, left): (VecDeque<_>, VecDeque<_>) =
                    std::mem::take(&mut topic.waiting).into_iter().partition(over);
                topic.waiting = left;
                ended.into_iter().for_each(&mut end);
            }
            let first = topic.waiting.iter().take(if topic.waiting_in_order { 1 } else { usize::MAX });
            earliest = first.map(|record| record.how.deadline).chain(earliest).min();
            !topic.waiting.is_empty()
        });
        self.waiting_topics.sort_unstable();
        self.waiting_topics.dedup();
        earliest
    }

    /// Gives back, in order, the waiting records that want it: one outcome for consecutive records of one tag.
    pub fn give_back_waiting(&mut self, why: &Arc<str>, told: &mut Vec<Told>) {
        for place in 0..self.waiting_topics.len() {
            let topic = &mut self.topics[self.waiting_topics[place] as usize];
            let (back, left): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut topic.waiting)
                .into_iter()
                .partition(|record| record.how.on_away == OnAway::GiveBack);
            topic.waiting = left;
            self.queued_bytes -= back.iter().map(|record| record.accounted_bytes).sum::<usize>();
            let back: Vec<WaitingRecord> = back.into();
            let follows = |a: &WaitingRecord, b: &WaitingRecord| {
                (a.tag, a.partition, a.record_index.wrapping_add(1)) == (b.tag, b.partition, b.record_index)
            };
            for run in back.chunk_by(follows) {
                let error = ProduceError::Away { why: why.clone(), partition: run[0].partition };
                told.push(Told { count: run.len() as u32, unsent: Some(unsent_of(run)), ..Told::one(&run[0], error) });
            }
        }
        let topics = &self.topics;
        self.waiting_topics.retain(|topic| !topics[*topic as usize].waiting.is_empty());
    }

    /// A record that no batch takes is refused for that before anything else is wrong with it.
    pub fn check_size(&self, entry: &Entry<'_>) -> Result<(), ProduceError> {
        let record_bytes = entry.with_record(|record| self.scratch.bytes_with(record));
        if record_bytes > self.record_bytes_max {
            return Err(ProduceError::RecordTooLarge { record_bytes, limit_bytes: self.record_bytes_max });
        }
        Ok(())
    }

    /// Queues that hold batches.
    pub fn occupied(&self) -> &[QueueId] {
        &self.occupied
    }

    /// Bytes that closing the first batch would compress.
    pub fn to_compress(&self, queue_id: QueueId) -> usize {
        let compression = self.topics[queue_id.topic as usize].options.compression;
        match self.queue(queue_id).and_then(|queue| queue.batches.front()) {
            Some(Batch { body: Body::Open(builder), .. }) if compression != Compression::None => builder.bytes(),
            _ => 0,
        }
    }

    /// Closes the first batch, so that it can leave; the sticky choice ends with it. Gives its size.
    pub fn seal_first(&mut self, queue_id: QueueId) -> Option<usize> {
        let topic = &mut self.topics[queue_id.topic as usize];
        let compression = topic.options.compression;
        let queue =
            topic.partitions.get_mut(queue_id.partition as usize)?.queues[queue_id.acks as usize].as_deref_mut()?;
        let batch = queue.batches.front_mut()?;
        if let Body::Open(builder) = &batch.body {
            // Batches of one queue differ; one that outgrows its buffer is copied, so the hint falls slowly.
            let (used, before) = (builder.bytes(), queue.capacity_hint);
            queue.capacity_hint = (used + used / 4).max(before - before / 8).min(CAPACITY_MAX);
            if topic.sticky == Some(queue_id.partition) && queue.batches.len() == 1 {
                topic.sticky = None;
            }
        }
        let batch = queue.batches.front_mut()?;
        Some(batch.seal(compression).bytes())
    }

    /// Takes the first batch out of its queue.
    pub fn pop_first(&mut self, queue_id: QueueId) -> Option<Batch> {
        self.remove(queue_id, 0)
    }

    /// Takes a batch out of its queue.
    pub fn remove(&mut self, queue_id: QueueId, index: usize) -> Option<Batch> {
        let queue = self.queue_mut(queue_id)?;
        let batch = queue.batches.remove(index)?;
        let empty = queue.batches.is_empty().then_some(queue.occupied_at);
        self.queued_bytes -= batch.accounted_bytes;
        if let Some(at) = empty {
            self.vacate(at);
        }
        Some(batch)
    }

    /// Takes out of a batch the records whose owners were answered, if there are any; false when nobody is left in it.
    pub fn strip(&mut self, queue_id: QueueId, index: usize) -> bool {
        let Some(batch) = self.queue(queue_id).and_then(|queue| queue.batches.get(index)) else { return false };
        if batch.expired_count == 0 {
            return true;
        }
        let Some(rest) = self.remove(queue_id, index).and_then(Batch::strip) else { return false };
        self.insert(queue_id, index, rest);
        true
    }

    /// Puts a batch back to the front of its queue.
    pub fn push_first(&mut self, queue_id: QueueId, batch: Batch) {
        self.insert(queue_id, 0, batch);
    }

    /// Puts a batch back where it was.
    pub fn insert(&mut self, queue_id: QueueId, index: usize, batch: Batch) {
        let occupied_at = self.occupied.len() as u32;
        self.queued_bytes += batch.accounted_bytes;
        let Some(queue) = self.queue_mut(queue_id) else { unreachable!("a batch goes back to the queue it came from") };
        let was_empty = queue.batches.is_empty();
        queue.batches.insert(index, batch);
        if was_empty {
            queue.occupied_at = occupied_at;
            self.occupied.push(queue_id);
        }
    }

    fn vacate(&mut self, at: u32) {
        self.occupied.swap_remove(at as usize);
        if let Some(moved) = self.occupied.get(at as usize).copied()
            && let Some(queue) = self.queue_mut(moved)
        {
            queue.occupied_at = at;
        }
    }

    /// The queue waits elsewhere from now on.
    pub fn move_to(&mut self, queue_id: QueueId, place: Place) {
        let partition = &mut self.topics[queue_id.topic as usize].partitions[queue_id.partition as usize];
        if let Some(queue) = partition.queues[queue_id.acks as usize].as_deref_mut() {
            queue.move_to(place, queue_id, &mut self.places);
        }
    }

    /// The queue is looked at in the next flush if it has batches, else it rests.
    pub fn make_ready(&mut self, queue_id: QueueId) {
        let Some(queue) = self.queue(queue_id) else { return };
        let place = if queue.batches.is_empty() { Place::Idle } else { Place::Ready };
        self.move_to(queue_id, place);
    }

    /// Keeps a finished batch's vector for the next one.
    pub fn recycle(&mut self, mut runs: Vec<Run>) {
        if self.spare_runs.len() < SPARE_RUNS_MAX && runs.capacity() <= 1_024 {
            runs.clear();
            self.spare_runs.push(runs);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.occupied.is_empty()
            && self.waiting_topics.iter().all(|topic| self.topics[*topic as usize].waiting.is_empty())
    }
}

/// Where records without a key go next, beginning at a random partition with a leader.
///
/// While fewer than [`STICKY_BUSY_MAX`] partitions of the topic are under way it is one with nothing under way, so an
/// idle publish waits for nothing. Beyond that records gather behind a batch that is out: more requests at once would
/// only make each of them smaller, and every request costs the broker and us about as much as ten records.
/// A partition in trouble is avoided while another one is well, and one that is away while another one is not (KIP-794).
fn choose_sticky(partitions: &[Partition], acks: u8, start: usize, is_away: Option<IsAway<'_>>) -> u32 {
    let here = is_away.and_then(|is_away| find_sticky(partitions, acks, start, |partition| !is_away(partition)));
    here.or_else(|| find_sticky(partitions, acks, start, |_| true)).unwrap_or(start as u32)
}

fn find_sticky(partitions: &[Partition], acks: u8, start: usize, fits: impl Fn(&Partition) -> bool) -> Option<u32> {
    let (mut idle, mut well, mut led) = (None, None, None);
    let mut busy_count = 0;
    for step in 0..partitions.len().min(STICKY_SCAN_MAX) {
        let index = (start + step) % partitions.len();
        let partition = &partitions[index];
        if partition.leader.is_none() || !fits(partition) {
            continue;
        }
        led.get_or_insert(index as u32);
        if !partition.is_busy(acks) {
            idle.get_or_insert(index as u32);
        } else if partition.queue(acks).is_some_and(Queue::is_on_its_way) {
            busy_count += 1;
            well.get_or_insert(index as u32);
        }
        if busy_count >= STICKY_BUSY_MAX {
            return well;
        }
    }
    idle.or(well).or(led)
}

/// Records that had no batch yet: they get one to go back in.
fn unsent_of(run: &[WaitingRecord]) -> Unsent {
    let mut builder = BatchBuilder::with_capacity(run.iter().map(|record| record.accounted_bytes).sum());
    for waiting in run {
        waiting.with_ref(|record| builder.append(record));
    }
    Unsent::take(&mut unsent::records(builder.seal(Compression::None).to_bytes()), run.len() as u32)
}
