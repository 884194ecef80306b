//! Delivers what waits in the journal: each stream in its order, by one shard, through that shard's Kafka client.
//!
//! ```text
//!   waiting ──take──▶ read ──▶ checked against the snapshot ──▶ client ──▶ settled
//!                       │                │                        │ refused for good ──▶ parked
//!                       │ rotten         └──▶ parked              │ not now ──▶ given back, once nothing is under way
//!                       └──▶ parked                               └ unknown ──▶ the same: it may be stored twice
//! ```
//!
//! The first batch after a pause is one message, the probe; while Kafka takes them the window doubles. What the client knows
//! that it cannot send now it gives back, so that nothing waits there that may be parked meanwhile. What was sent and not
//! answered it repeats under the same producer id and sequence for as long as it takes ([`DELIVERY_PATIENCE`]), so that it is
//! stored once while this process lives. What was under way when the last one died is looked for first ([`begin`](super::begin)).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use journal::queue::{Extent, Fate, Name, Reason, StreamId};
use kafka_client::{Acks, How, Outcome, ProduceError, TopicIdx};
use model::{Generation, Snapshot, authorize_publish, authorize_raw};
use slab::Slab;
use smallvec::SmallVec;

use super::begin::Begin;
use super::pace::Pace;
use super::store::{Drainable, Store};
use crate::kafka::Clusters;
use crate::kafka::cluster::Cluster;
use crate::kafka::denied;
use crate::limits::{HANDOFF_READ_BYTES, HANDOFF_READ_RECORDS, HANDOFF_WINDOW_BYTES_FIRST, HANDOFF_WINDOW_BYTES_MAX};
use crate::publish::{Around, Kind};
use kafka_wire::handoff_entry::{self as entry, MSG_ID_HEADER};
use kafka_wire::record_batch::{HeaderRef, RecordRef};

/// Longer than any outage that is ended by somebody.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// After Kafka did not take it, it is tried again this soon at first, then ever later.
const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// Streams that this shard delivers. One per shard.
pub struct Drainer {
    pace: RefCell<Pace>,
    lanes: RefCell<BTreeMap<StreamId, Lane>>,
    /// Records with the client, by the key in their tag.
    chunks: RefCell<Slab<Chunk>>,
}

/// One stream.
struct Lane {
    name: Name,
    /// `None`: this gateway has no such cluster any more.
    cluster: Option<(usize, TopicIdx)>,
    begin: Begin,
    /// Asked of the journal, and read, in order. Those without a ticket are to be asked for again.
    ahead: VecDeque<Ahead>,
    in_flight: u64,
    in_flight_bytes: u64,
    window_bytes: u64,
    /// Something was not taken: everything is given back once nothing is under way.
    broken: Option<Arc<str>>,
    not_before: Option<Instant>,
    pause: Duration,
    /// Whether the app still may, and under which snapshot that was found.
    standing: Option<(Generation, Result<(), Reason>)>,
    /// Since when the cluster says that there is no such topic, or partition, and nothing else.
    gone_since: Option<Instant>,
}

/// An extent on its way.
struct Ahead {
    extent: Extent,
    ticket: Option<u64>,
    /// `None`: not read yet.
    bodies: Option<VecDeque<Result<Bytes, Arc<str>>>>,
}

/// Records that went to the client one after the other.
struct Chunk {
    stream: StreamId,
    numbers: Vec<(u64, u32)>,
    left: usize,
}

/// What one turn found out.
#[derive(Default)]
struct Findings {
    parked: Vec<(u64, Reason)>,
    /// Kafka has them: number, bytes, partition, offset.
    found: Vec<(u64, u32, i32, i64)>,
    /// The client has something new to do.
    handed_over: bool,
}

impl Drainer {
    pub fn new(pace: Pace) -> Drainer {
        Drainer { pace: RefCell::new(pace), lanes: RefCell::default(), chunks: RefCell::default() }
    }

    /// A look at every stream of this shard: asks the journal for what is next, hands over what was read.
    pub fn turn(&self, around: Around<'_>, store: &Store, shard: usize, now: Instant) {
        let mut lanes = self.lanes.borrow_mut();
        for Drainable { stream, name } in store.drainable(shard) {
            lanes.entry(stream).or_insert_with(|| Lane::new(name));
        }
        let is_draining = around.env.is_draining();
        lanes.retain(|stream, lane| {
            self.step(around, store, shard, *stream, lane, is_draining, now);
            store.look_at(&lane.name, now);
            let stays = lane.in_flight > 0 || !lane.ahead.is_empty() || store.has_left(*stream);
            if !stays {
                lane.stop(around, store, *stream);
            }
            stays
        });
    }

    /// When [`Drainer::turn`] is due without any event.
    pub fn next_deadline(&self) -> Option<Instant> {
        let lanes = self.lanes.borrow();
        lanes.values().filter_map(|lane| lane.not_before.into_iter().chain(lane.begin.next_deadline()).min()).min()
    }

    #[allow(clippy::too_many_arguments)] // one turn of one lane: all of it is looked at
    fn step(
        &self,
        around: Around<'_>,
        store: &Store,
        shard: usize,
        stream: StreamId,
        lane: &mut Lane,
        is_draining: bool,
        now: Instant,
    ) {
        if lane.broken.is_some() {
            let reads_are_back = lane.ahead.iter().all(|ahead| ahead.bodies.is_some() || ahead.ticket.is_none());
            if lane.in_flight > 0 || !reads_are_back {
                return;
            }
            let why = lane.broken.take().expect("looked at above");
            lane.ahead.clear();
            lane.window_bytes = HANDOFF_WINDOW_BYTES_FIRST;
            lane.not_before = Some(now + lane.pause);
            lane.pause = (lane.pause * 2).min(PAUSE_MAX);
            store.give_back(stream, &lane.name, &why);
            return;
        }
        if lane.not_before.is_some_and(|at| now < at) {
            return;
        }
        lane.not_before = None;
        if lane.cluster.is_none() {
            lane.cluster = find(around.clusters, &lane.name);
        }
        let Some((cluster, topic)) = lane.cluster else {
            lane.break_off("this gateway has no such cluster in its configuration".into());
            return;
        };
        if is_draining {
            if lane.in_flight == 0 {
                lane.stop(around, store, stream);
            }
            return;
        }
        let cluster = around.clusters.at(cluster);
        let may_send = lane.begin.may_send(cluster, topic, store, (stream, &lane.name), now);
        // What may not be delivered any more is parked without Kafka, unless it may be there.
        let parks = !lane.begin.is_in_doubt() && lane.may_still(around).is_err();
        if !may_send && !parks {
            return;
        }
        let findings = lane.hand_over(around, cluster, topic, (self, store), stream, now);
        if findings.handed_over {
            cluster.wake();
        }
        if !findings.found.is_empty() {
            let each = findings.found.iter();
            let ends = each.clone().map(|(number, _, partition, offset)| {
                let fate = Fate::Delivered { partition: *partition, offset: *offset };
                (*number, 1, fate)
            });
            let bytes = each.map(|(_, bytes, ..)| u64::from(*bytes)).sum();
            around.env.metrics.handoff_delivered(findings.found.len() as u64);
            store.settle(stream, &lane.name, &ends.collect::<Vec<_>>(), bytes, around.env.wall_clock_ms(), now);
        }
        if !findings.parked.is_empty() {
            store.park(stream, &lane.name, &findings.parked, around.env.wall_clock_ms(), now);
        }
        lane.read_ahead(store, shard, stream);
    }

    /// What the journal read for `ticket`.
    pub fn read(&self, ticket: u64, bodies: Vec<Result<Bytes, Arc<str>>>) {
        let mut lanes = self.lanes.borrow_mut();
        let asked = lanes.values_mut().flat_map(|lane| lane.ahead.iter_mut());
        let Some(ahead) = asked.into_iter().find(|ahead| ahead.ticket == Some(ticket)) else { return };
        let count = ahead.extent.count as usize;
        let why = |bodies: &[Result<Bytes, Arc<str>>]| match bodies.last() {
            Some(Err(why)) => Arc::clone(why),
            _ => Arc::from("its block in the journal has fewer records"),
        };
        let missing = why(&bodies);
        let mut bodies: VecDeque<Result<Bytes, Arc<str>>> = bodies.into();
        // One for each entry, whatever was read.
        bodies.resize(count, Err(missing));
        ahead.bodies = Some(bodies);
    }

    /// Kafka's outcome for a run of records that were handed over here.
    pub fn complete(&self, around: Around<'_>, store: &Store, key: usize, outcome: &Outcome, now: Instant) {
        let mut chunks = self.chunks.borrow_mut();
        let Some(chunk) = chunks.get_mut(key) else {
            debug_assert!(false, "an outcome for records nobody handed over: key {key}");
            return;
        };
        let (first, count) = (outcome.record_first as usize, outcome.count as usize);
        let stream = chunk.stream;
        let numbers: Vec<(u64, u32)> = chunk.numbers[first..first + count].to_vec();
        chunk.left -= count;
        if chunk.left == 0 {
            chunks.remove(key);
        }
        drop(chunks);
        let mut lanes = self.lanes.borrow_mut();
        let Some(lane) = lanes.get_mut(&stream) else { return };
        lane.in_flight -= count as u64;
        let bytes = numbers.iter().map(|(_, bytes)| u64::from(*bytes)).sum::<u64>();
        lane.in_flight_bytes -= bytes;
        let now_ms = around.env.wall_clock_ms();
        match &outcome.result {
            Ok(stored) => {
                lane.window_bytes = (lane.window_bytes * 2).min(HANDOFF_WINDOW_BYTES_MAX);
                (lane.pause, lane.gone_since) = (PAUSE_FIRST, None);
                let ends = delivered(&numbers, stored.partition, stored.offset);
                around.env.metrics.handoff_delivered(count as u64);
                store.settle(stream, &lane.name, &ends, bytes, now_ms, now);
            }
            Err(error) => {
                if let ProduceError::Unknown { .. } = error {
                    around.env.metrics.handoff_maybe_doubled(count as u64);
                }
                match lane.verdict(error, now) {
                    Verdict::Park(reason) => {
                        let parked: Vec<(u64, Reason)> =
                            numbers.iter().map(|(number, _)| (*number, reason.clone())).collect();
                        store.park(stream, &lane.name, &parked, now_ms, now);
                    }
                    Verdict::Later(why) => lane.break_off(why),
                }
            }
        }
    }
}

/// What an error says of a record.
enum Verdict {
    /// It will never be taken.
    Park(Reason),
    /// It is tried again, and everything behind it.
    Later(Arc<str>),
}

impl Lane {
    fn new(name: Name) -> Lane {
        Lane {
            name,
            cluster: None,
            begin: Begin::default(),
            ahead: VecDeque::new(),
            in_flight: 0,
            in_flight_bytes: 0,
            window_bytes: HANDOFF_WINDOW_BYTES_FIRST,
            broken: None,
            not_before: None,
            pause: PAUSE_FIRST,
            standing: None,
            gone_since: None,
        }
    }

    fn break_off(&mut self, why: Arc<str>) {
        self.broken.get_or_insert(why);
    }

    /// Nothing is under way, and nothing will be for now.
    fn stop(&mut self, around: Around<'_>, store: &Store, stream: StreamId) {
        let cluster = self.cluster.map(|(cluster, _)| around.clusters.at(cluster));
        self.begin.end(cluster.map(|cluster| &**cluster), store, stream);
    }

    /// Asks the journal for what comes next, while less than a window's worth is here.
    fn read_ahead(&mut self, store: &Store, shard: usize, stream: StreamId) {
        for ahead in self.ahead.iter_mut().filter(|ahead| ahead.ticket.is_none()) {
            ahead.ticket = store.read(shard, &ahead.extent);
        }
        let held: u64 = self.ahead.iter().map(|ahead| ahead.extent.bytes).sum();
        if self.broken.is_some() || held >= self.window_bytes.min(HANDOFF_READ_BYTES) {
            return;
        }
        let count = if self.window_bytes == HANDOFF_WINDOW_BYTES_FIRST { 1 } else { HANDOFF_READ_RECORDS };
        for extent in store.take(stream, &self.name, self.window_bytes.min(HANDOFF_READ_BYTES), count) {
            let ticket = store.read(shard, &extent);
            self.ahead.push_back(Ahead { extent, ticket, bodies: None });
        }
    }

    /// Hands over what was read, in order, as far as the window goes.
    fn hand_over(
        &mut self,
        around: Around<'_>,
        cluster: &Rc<Cluster>,
        topic: TopicIdx,
        (drainer, store): (&Drainer, &Store),
        stream: StreamId,
        now: Instant,
    ) -> Findings {
        let mut findings = Findings::default();
        let standing = self.may_still(around);
        let mut client = cluster.client.borrow_mut();
        let mut chunks = drainer.chunks.borrow_mut();
        let entry = chunks.vacant_entry();
        let tag = Kind::Drain.tag(entry.key());
        let mut numbers: Vec<(u64, u32)> = Vec::new();
        let how = How::new(Acks::All, now + DELIVERY_PATIENCE).or_give_back();
        while self.in_flight_bytes < self.window_bytes || self.in_flight == 0 {
            let Some(ahead) = self.ahead.front_mut() else { break };
            let Some(bodies) = &mut ahead.bodies else { break };
            let Some(body) = bodies.front().cloned() else {
                self.ahead.pop_front();
                continue;
            };
            let number = ahead.extent.end() - bodies.len() as u64;
            if let Some((partition, offset)) = self.begin.take_found(number) {
                findings.found.push((number, body.as_ref().map_or(0, |body| body.len() as u32), partition, offset));
                bodies.pop_front();
                continue;
            }
            let known_id = client.topic_id(topic);
            let checked = standing.clone().and_then(|()| match &body {
                Ok(body) => checked(body, known_id),
                Err(why) => Err(reason("unreadable", why)),
            });
            let read = match checked {
                Ok(read) => read,
                Err(reason) => {
                    bodies.pop_front();
                    findings.parked.push((number, reason));
                    continue;
                }
            };
            let partition = read.target.partition;
            let broker = (cluster.index, client.leader(topic, partition.unwrap_or(0)).unwrap_or(-1));
            let bytes = body.as_ref().map_or(0, |body| body.len() as u64);
            if let Err(at) = drainer.pace.borrow_mut().take(broker, bytes, now) {
                self.not_before = Some(at);
                break;
            }
            let id = store.issuer().issue(&self.name.account, stream, number);
            let mut headers: SmallVec<[HeaderRef<'_>; 6]> = read.headers.iter().copied().collect();
            headers.push(HeaderRef { name: MSG_ID_HEADER, value: Some(id.as_bytes()) });
            let record = RecordRef { headers: &headers, ..read.as_record() };
            match client.produce(topic, partition, &record, how, tag, numbers.len() as u32, now) {
                Ok(()) => {
                    let bytes = body.as_ref().map_or(0, |body| body.len() as u32);
                    numbers.push((number, bytes));
                    (self.in_flight, self.in_flight_bytes) =
                        (self.in_flight + 1, self.in_flight_bytes + u64::from(bytes));
                    bodies.pop_front();
                }
                Err(error) => {
                    match verdict(&error, &mut self.gone_since, now) {
                        Verdict::Park(reason) => {
                            bodies.pop_front();
                            findings.parked.push((number, reason));
                        }
                        Verdict::Later(why) => {
                            self.broken.get_or_insert(why);
                            break;
                        }
                    };
                }
            }
        }
        if !numbers.is_empty() {
            findings.handed_over = true;
            let left = numbers.len();
            entry.insert(Chunk { stream, numbers, left });
        }
        findings
    }

    /// Whether the app may still publish there: asked once for each snapshot.
    fn may_still(&mut self, around: Around<'_>) -> Result<(), Reason> {
        let snapshot = around.access.borrow_snapshot();
        match &self.standing {
            Some((generation, standing)) if *generation == snapshot.generation => standing.clone(),
            _ => {
                let standing = may(&snapshot, &self.name);
                self.standing = Some((snapshot.generation, standing.clone()));
                standing
            }
        }
    }

    fn verdict(&mut self, error: &ProduceError, now: Instant) -> Verdict {
        verdict(error, &mut self.gone_since, now)
    }
}

fn verdict(error: &ProduceError, gone_since: &mut Option<Instant>, now: Instant) -> Verdict {
    match denied::verdict(error, gone_since, now) {
        denied::Verdict::Never(code) => Verdict::Park(reason(code, &error.to_string())),
        denied::Verdict::Later => Verdict::Later(error.to_string().into()),
    }
}

fn reason(code: &str, sentence: &str) -> Reason {
    Reason { code: code.into(), sentence: sentence.into() }
}

/// An entry that can go to the topic that has this id now.
fn checked(body: &Bytes, known_id: Option<[u8; 16]>) -> Result<entry::Entry<'_>, Reason> {
    let read = entry::read(body).ok_or_else(|| reason("unreadable", "its bytes in the journal make no sense"))?;
    match known_id {
        Some(id) if read.target.topic_id != [0; 16] && read.target.topic_id != id => {
            Err(reason("topic_recreated", "the topic was deleted and made again since this message was accepted"))
        }
        _ => Ok(read),
    }
}

/// Whether the app may publish to that physical topic, as its own or as a raw one.
fn may(snapshot: &Snapshot, name: &Name) -> Result<(), Reason> {
    let (cluster, physical) = name.subject.split_once('/').unwrap_or((&name.subject, ""));
    let Some(app) = snapshot.app(&name.account) else {
        return Err(reason("grant_revoked", "the app that published it is gone"));
    };
    if !app.enabled {
        return Err(reason("grant_revoked", "the app that published it is disabled"));
    }
    let own = app.topics().find(|topic| topic.physical.as_ref() == physical && topic.cluster.as_str() == cluster);
    let granted = match own {
        Some(topic) => authorize_publish(snapshot, app, topic.name.as_str(), topic.ver.as_str()).map(|_| ()),
        None => authorize_raw(snapshot, app, cluster, physical).map(|_| ()),
    };
    granted.map_err(|denied| reason("grant_revoked", &denied.refusal().message))
}

/// Cluster and topic of a stream on this shard.
fn find(clusters: &Clusters, name: &Name) -> Option<(usize, TopicIdx)> {
    let (cluster, physical) = name.subject.split_once('/')?;
    let cluster = clusters.find(cluster)?;
    let topic = cluster.client.borrow_mut().topic(physical);
    Some((cluster.index, topic))
}

/// Runs of numbers that follow each other, with where they went.
fn delivered(numbers: &[(u64, u32)], partition: i32, offset: i64) -> Vec<(u64, u32, Fate)> {
    let mut ends: Vec<(u64, u32, Fate)> = Vec::new();
    for (at, (number, _)) in numbers.iter().enumerate() {
        match ends.last_mut() {
            Some((first, count, _)) if *first + u64::from(*count) == *number => *count += 1,
            _ => {
                let offset = if offset < 0 { -1 } else { offset + at as i64 };
                ends.push((*number, 1, Fate::Delivered { partition, offset }));
            }
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_follow_each_other_come_to_one_end_with_the_offsets_they_have() {
        let to = |offset| Fate::Delivered { partition: 2, offset };
        let numbers = |all: &[u64]| -> Vec<(u64, u32)> { all.iter().map(|number| (*number, 1)).collect() };
        for (given, offset, expected) in [
            (vec![5, 6, 7], 100, vec![(5, 3, to(100))]),
            (vec![5, 6, 9, 10, 12], 100, vec![(5, 2, to(100)), (9, 2, to(102)), (12, 1, to(104))]),
            (vec![5, 9], -1, vec![(5, 1, to(-1)), (9, 1, to(-1))]),
        ] {
            assert_eq!(delivered(&numbers(&given), 2, offset), expected);
        }
    }
}
