//! When it is known that a record cannot be stored now, and what is done about it: hinted handoff begins here.
//!
//! Whoever asked for `OnAway::GiveBack` gets his record back at once instead of at its deadline. Only what was never sent,
//! or was refused for sure, goes back; a batch that may be stored waits for its answer, whatever else is given back.
//!
//! | Away | From | Until |
//! |---|---|---|
//! | partition without a leader | metadata has said so for `AWAY_UNREST` | metadata or a hint names one |
//! | its leader refuses (NOT_ENOUGH_REPLICAS) | at once | the backoff ends, a batch is stored, another leads |
//! | its leader refuses (is none, any other code) | the first time `AWAY_UNREST` ago | as above |
//! | its leader's broker cannot be reached | attempts have failed for `AWAY_UNREST`, or all brokers are away | backoff ends |
//! | … takes too long for it | `AWAY_CONNECT`, after a failure `AWAY_RECONNECT` | the connection stands |
//! | … owes an answer and is silent | `AWAY_SILENCE` | it says something |
//! | no producer id | it was asked for `AWAY_CONNECT` ago (frozen brokers say nothing) | one is granted, or refused |
//! | cluster | no broker can be reached, each was tried | one may be tried again, or is there |
//!
//! After a backoff nothing is known (half-open): the next record, or one that waits, makes the attempt, and those that
//! come meanwhile wait for its result within the limits above. A quota (THROTTLING_QUOTA_EXCEEDED, a muted connection) and a
//! full queue are not away.
//!
//! What it costs while all is well: two flags read per record, and a look at each connection per flush, of which the
//! flush has one already. Everything else is paid while some broker or partition is in trouble.

use std::sync::Arc;
use std::time::Instant;

use kafka_wire::error_code::ErrorCode;

use super::Client;
use super::expiry::earlier;
use crate::accumulator::{Entry, Partition};
use crate::brokers::Brokers;
use crate::connection::Connection;
use crate::connections::Connections;
use crate::limits::{AWAY_CONNECT, AWAY_FORGOTTEN, AWAY_REASK, AWAY_RECONNECT, AWAY_SILENCE, AWAY_UNREST};
use crate::producer::ProducerIds;
use crate::queue::{Place, Queue, QueueId, Refusal, acks_index};
use crate::types::{Acks, Lane, OnAway, Outcome, ProduceError, TopicIdx, TopicState};

/// What is known of who is away, as of the last flush.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Some broker may be away: whoever asks must look.
    unrest: bool,
    /// No broker can be reached, and each was tried.
    cluster_away: bool,
    /// Something happened for which records may have to go back.
    pub sweep: bool,
    /// Without another event, something may be away from then on.
    pub next_at: Option<Instant>,
}

/// Why a partition is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    NoLeader,
    NoProducer,
    Refused,
    Unreachable(u32),
    Opening(u32),
    Silent(u32),
}

/// What a connection says about its broker; the later counts where there are several. An attempt that takes too long
/// says more than a later one that may still succeed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Sight {
    Silent,
    Opening,
    Late,
    There,
}

/// What can be told about partitions and brokers at a time.
struct Reach<'a> {
    brokers: &'a Brokers,
    conns: &'a Connections,
    ids: &'a ProducerIds,
    cluster_away: bool,
    now: Instant,
}

/// Whoever answers here is there. Long polls and joins say nothing by their silence.
const TELLING_LANES: [Lane; 3] = [Lane::ProduceAll, Lane::ProduceOther, Lane::Control];

/// From then on this connection does not count as one: it takes too long to come about, or to answer.
fn away_at(conn: &Connection, has_failed: bool) -> Option<Instant> {
    if conn.is_opening() {
        return Some(conn.opened_at + if has_failed { AWAY_RECONNECT } else { AWAY_CONNECT });
    }
    conn.owes_since().map(|since| since + AWAY_SILENCE)
}

/// Somebody has waited for a producer id for too long. It is asked for all the while.
fn is_id_overdue(ids: &ProducerIds, now: Instant) -> bool {
    ids.wanted_since.is_some_and(|since| since + AWAY_CONNECT <= now)
}

impl Reach<'_> {
    fn trouble(&self, partition: &Partition) -> Option<Trouble> {
        let Some(leader) = partition.leader else {
            let lasts = partition.leaderless_since.is_some_and(|since| since + AWAY_UNREST <= self.now);
            return lasts.then_some(Trouble::NoLeader);
        };
        let own = partition.queue(acks_index(Acks::All)).and_then(|queue| match queue.place() {
            Place::NoProducer => is_id_overdue(self.ids, self.now).then_some(Trouble::NoProducer),
            _ => queue.is_refused(self.now).then_some(Trouble::Refused),
        });
        self.broker_trouble(leader).or(own)
    }

    /// Why acks=all does not get through to a broker.
    fn broker_trouble(&self, index: u32) -> Option<Trouble> {
        let broker = self.brokers.broker(index);
        match self.look_at(index, &[Lane::ProduceAll]) {
            Some(Sight::Silent) => Some(Trouble::Silent(index)),
            Some(Sight::Late) => Some(Trouble::Opening(index)),
            Some(Sight::There | Sight::Opening) => None,
            None => {
                let lasts = broker.failed_at.is_some_and(|since| self.cluster_away || since + AWAY_UNREST <= self.now);
                (lasts && !broker.may_connect(self.now)).then_some(Trouble::Unreachable(index))
            }
        }
    }

    /// The best that can be said of a broker's connections of these lanes.
    fn look_at(&self, index: u32, lanes: &[Lane]) -> Option<Sight> {
        let broker = self.brokers.broker(index);
        let conns = lanes.iter().flat_map(|lane| &broker.conns[lane.index()]);
        let sights = conns.filter_map(|conn| self.conns.get(*conn)).map(|conn| {
            let is_over = away_at(conn, broker.failed_at.is_some()).is_some_and(|at| at <= self.now);
            match (conn.is_opening(), is_over) {
                (false, false) => Sight::There,
                (false, true) => Sight::Silent,
                (true, true) => Sight::Late,
                (true, false) => Sight::Opening,
            }
        });
        sights.max()
    }

    /// Nothing that anybody could answer gets through to it, and that was tried.
    fn is_unreachable(&self, index: u32) -> bool {
        let broker = self.brokers.broker(index);
        match self.look_at(index, &TELLING_LANES) {
            Some(sight) => matches!(sight, Sight::Silent | Sight::Late),
            None => broker.failed_at.is_some() && !broker.may_connect(self.now),
        }
    }

    fn is_cluster_away(&self) -> bool {
        let brokers = &self.brokers.all;
        let mut listed = (0..brokers.len() as u32).filter(|index| brokers[*index as usize].listed).peekable();
        listed.peek().is_some() && listed.all(|index| self.is_unreachable(index))
    }

    fn why(&self, trouble: Trouble, partition: &Partition) -> Arc<str> {
        let of = |index: u32, what: &str| {
            let broker = self.brokers.broker(index);
            format!("leader {}:{} {what}", broker.host, broker.port).into()
        };
        match trouble {
            Trouble::NoLeader => "partition has no leader".into(),
            Trouble::NoProducer => "no producer id from the cluster".into(),
            Trouble::Refused => {
                let queue = partition.queue(acks_index(Acks::All));
                queue.and_then(|queue| queue.problem.clone()).unwrap_or_else(|| "refused by its leader".into())
            }
            Trouble::Unreachable(index) => {
                let last = self.brokers.broker(index).last_error.clone();
                last.unwrap_or_else(|| of(index, "cannot be reached"))
            }
            Trouble::Opening(index) => of(index, "does not complete the connection"),
            Trouble::Silent(index) => of(index, "owes answers and is silent"),
        }
    }
}

impl Client {
    fn reach(&self, now: Instant) -> Reach<'_> {
        let Client { brokers, conns, ids, watch, .. } = self;
        Reach { brokers, conns, ids, cluster_away: watch.cluster_away, now }
    }

    fn cluster_why(&self) -> Arc<str> {
        self.brokers.last_error.clone().unwrap_or_else(|| "no broker can be reached".into())
    }

    // ---- questions

    /// The partition that a record with this key goes to now: one asked for is itself. Without a key it is the choice that
    /// produce would make, and producing to it explicitly is the same. None while the topic's partitions are not known.
    pub fn partition_for(&mut self, topic: TopicIdx, partition: Option<i32>, key: Option<&[u8]>) -> Option<i32> {
        if partition.is_some() {
            return partition;
        }
        let known = self.used_topic(topic)?;
        if known.state != TopicState::Known {
            return None;
        }
        let looks = self.watch.unrest || known.unrest;
        self.choose(topic, None, key, Acks::All, looks, self.flushed_at).ok().map(|chosen| chosen as i32)
    }

    /// Why records to the topic, or to a partition of it, cannot be stored now; for the topic, when that holds for all its
    /// partitions. None when they can, and when nobody knows otherwise.
    pub fn away(&self, topic: TopicIdx, partition: Option<i32>, now: Instant) -> Option<Arc<str>> {
        let known = self.used_topic(topic)?;
        match known.state {
            TopicState::Known if !self.watch.unrest && !known.unrest => None,
            TopicState::Known => {
                let reach = self.reach(now);
                let partitions = known.partitions.get(..known.partition_count as usize)?;
                let partitions = match partition {
                    Some(index) => std::slice::from_ref(partitions.get(usize::try_from(index).ok()?)?),
                    None => partitions,
                };
                let mut first = None;
                for partition in partitions {
                    let trouble = reach.trouble(partition)?;
                    first = first.or(Some((trouble, partition)));
                }
                first.map(|(trouble, partition)| reach.why(trouble, partition))
            }
            TopicState::Pending => self.watch.cluster_away.then(|| self.cluster_why()),
            TopicState::Missing | TopicState::Denied => None,
        }
    }

    /// No acks=all record of this partition is in flight, or may be stored without an answer: what is stored there from
    /// now on comes after all that was produced here before. What was told as unknown is no more followed.
    pub fn is_settled(&self, topic: TopicIdx, partition: i32) -> bool {
        let Ok(partition) = u32::try_from(partition) else { return true };
        let queue_id = QueueId { topic: topic.place(), partition, acks: acks_index(Acks::All) };
        self.records.topic(topic).is_none() || !self.records.queue(queue_id).is_some_and(Queue::is_unsettled)
    }

    // ---- records that arrive

    /// Before a record of a known topic is taken. Ok: it is taken, by the partition that is chosen here.
    pub(super) fn check_away(
        &mut self,
        topic: TopicIdx,
        entry: &mut Entry<'_>,
        now: Instant,
    ) -> Result<(), ProduceError> {
        let looks = self.watch.unrest || self.records.topics[topic.place() as usize].unrest;
        if !looks {
            return Ok(());
        }
        let chosen = self.choose(topic, entry.partition, entry.record.key, entry.how.acks, true, now)?;
        entry.partition = Some(chosen as i32);
        if entry.how.on_away == OnAway::Wait {
            return Ok(());
        }
        self.records.check_size(entry)?;
        let reach = self.reach(now);
        let partition = &self.records.topics[topic.place() as usize].partitions[chosen as usize];
        let Some(trouble) = reach.trouble(partition) else { return Ok(()) };
        let why = reach.why(trouble, partition);
        self.ask_for_leaders(topic, now);
        Err(ProduceError::Away { why, partition: entry.partition })
    }

    /// Before a record of a topic that is not known is taken.
    pub(super) fn check_cluster_away(&self, entry: &Entry<'_>) -> Result<(), ProduceError> {
        if !self.watch.cluster_away || entry.how.on_away == OnAway::Wait {
            return Ok(());
        }
        self.records.check_size(entry)?;
        Err(ProduceError::Away { why: self.cluster_why(), partition: entry.partition })
    }

    fn choose(
        &mut self,
        topic: TopicIdx,
        partition: Option<i32>,
        key: Option<&[u8]>,
        acks: Acks,
        looks: bool,
        now: Instant,
    ) -> Result<u32, ProduceError> {
        let Client { brokers, conns, ids, watch, records, rng, .. } = self;
        let reach = Reach { brokers, conns, ids, cluster_away: watch.cluster_away, now };
        let is_away = |partition: &Partition| reach.trouble(partition).is_some();
        let is_away: Option<crate::accumulator::IsAway<'_>> = if looks { Some(&is_away) } else { None };
        records.choose_partition(topic, partition, key, acks_index(acks), rng, is_away)
    }

    /// Nobody may wait there who would ask.
    fn ask_for_leaders(&mut self, topic: TopicIdx, now: Instant) {
        let known = &mut self.records.topics[topic.place() as usize];
        if known.asked_away_at.is_none_or(|at| at + AWAY_REASK <= now) {
            known.asked_away_at = Some(now);
            self.want_topic(topic.place());
        }
    }

    // ---- records that are here

    /// The leader answered that it does not take a batch, which is not in flight any more.
    pub(super) fn note_refusal(&mut self, queue_id: QueueId, code: ErrorCode, now: Instant) {
        let from = match code {
            ErrorCode::NOT_ENOUGH_REPLICAS => now,
            ErrorCode::THROTTLING_QUOTA_EXCEEDED | ErrorCode::CORRUPT_MESSAGE => return,
            _ => now + AWAY_UNREST,
        };
        let Some(queue) = self.records.queue_mut(queue_id) else { return };
        let before = queue.refusal.filter(|before| now < before.last_at + AWAY_FORGOTTEN);
        let counts_from = before.map_or(from, |before| before.counts_from.min(from));
        queue.refusal = Some(Refusal { counts_from, last_at: now });
        self.records.topics[queue_id.topic as usize].unrest = true;
        self.give_back_if_away(queue_id, now);
    }

    /// Looks around, and gives back what became unstorable since the last look.
    pub(super) fn watch(&mut self, now: Instant) {
        let was_due = self.watch.next_at.is_some_and(|at| at <= now);
        let mut is_overdue = false;
        let mut next: Option<Instant> = None;
        for conn in self.conns.iter().filter(|conn| TELLING_LANES.contains(&conn.lane)) {
            match away_at(conn, self.brokers.broker(conn.broker).failed_at.is_some()) {
                Some(at) if at <= now => is_overdue = true,
                at => next = earlier(next, at),
            }
        }
        let failing = self.brokers.all.iter().filter(|broker| broker.listed && broker.failed_at.is_some());
        let (mut is_failing, mut leads) = (false, false);
        for broker in failing {
            (is_failing, leads) = (true, leads || broker.node.is_some());
            next = earlier(next, broker.failed_at.map(|since| since + AWAY_UNREST).filter(|at| *at > now));
        }
        let leaders_awaited = self.leaderless().map(|since| since + AWAY_UNREST).filter(|at| *at > now).min();
        next = earlier(next, leaders_awaited);
        let ids_awaited = self.ids.wanted_since.map(|since| since + AWAY_CONNECT).filter(|at| *at > now);
        next = earlier(next, ids_awaited);
        let was_away = self.watch.cluster_away;
        self.watch.next_at = next;
        self.watch.cluster_away = (is_failing || is_overdue) && self.reach(now).is_cluster_away();
        self.watch.unrest = is_overdue || leads || is_id_overdue(&self.ids, now);
        if was_due || std::mem::take(&mut self.watch.sweep) || self.watch.cluster_away && !was_away {
            self.sweep(now);
        }
    }

    /// Since when metadata says of each queue that waits for a leader that there is none.
    pub(super) fn leaderless(&self) -> impl Iterator<Item = Instant> {
        self.records.places.no_leader.iter().filter_map(|queue_id| {
            let topic = &self.records.topics[queue_id.topic as usize];
            topic.partitions.get(queue_id.partition as usize)?.leaderless_since
        })
    }

    fn sweep(&mut self, now: Instant) {
        if self.watch.cluster_away {
            let why = self.cluster_why();
            self.records.give_back_waiting(&why, &mut self.told);
            self.tell();
        }
        for queue_id in self.records.occupied().to_vec() {
            self.give_back_if_away(queue_id, now);
        }
    }

    fn give_back_if_away(&mut self, queue_id: QueueId, now: Instant) {
        let Some(queue) = self.records.queue(queue_id) else { return };
        if !queue.batches.iter().any(|batch| batch.runs.iter().any(|run| run.goes_back())) {
            return;
        }
        let reach = self.reach(now);
        let partition = &self.records.topics[queue_id.topic as usize].partitions[queue_id.partition as usize];
        let Some(trouble) = reach.trouble(partition) else { return };
        let why = reach.why(trouble, partition);
        self.give_back(queue_id, &why);
    }

    /// Gives back, in order, what may go back of a queue: nothing that may be stored.
    fn give_back(&mut self, queue_id: QueueId, why: &Arc<str>) {
        let mut index = 0;
        while let Some(queue) = self.records.queue(queue_id) {
            let Some(batch) = queue.batches.get(index) else { return };
            let is_out = index == 0 && queue.is_in_flight();
            if is_out || batch.maybe_stored || !batch.runs.iter().any(|run| run.goes_back()) {
                index += 1;
                continue;
            }
            let Some(batch) = self.records.remove(queue_id, index) else { return };
            let outcomes = &mut self.outcomes;
            let partition = Some(queue_id.partition as i32);
            let rest = batch.give_back(|run, unsent| {
                outcomes.push_back(Outcome {
                    tag: run.tag,
                    record_first: run.record_first,
                    count: run.count,
                    result: Err(ProduceError::Away { why: why.clone(), partition }),
                    unsent: Some(unsent),
                });
            });
            if let Some(rest) = rest {
                self.records.insert(queue_id, index, rest);
                index += 1;
            }
        }
    }
}
