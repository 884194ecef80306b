//! Classic consumer group member and fetcher, on top of [`crate::Client::request`].
//!
//! One [`GroupMember`] reads one topic for one group. It joins, keeps its membership alive, fetches its partitions ahead
//! of [`GroupMember::poll_records`], and commits what [`GroupMember::delivered`] reports. Reading order: this file,
//! `member` (join, sync, heartbeat), `offsets` (look up, commit), `fetcher` and `queue` (records).
//!
//! A rebalance never waits for whoever reads the records: hand-out stops, the delivered watermark is committed (a broker
//! round trip, bounded), and the member joins again. Partitions that stay ours through consecutive generations keep their
//! position and their fetched records, since nobody else can have read them meanwhile; all others are reported by
//! [`GroupMember::take_revoked`] and begin at the committed offset wherever they went.
//!
//! Invariants:
//! - Records are handed out only while the membership is stable, so never beside another owner's as far as we can know:
//!   a coordinator silent for a session timeout ends the membership here too.
//! - A commit carries the contiguous delivered watermark of the current generation and nothing else.
//! - Positions, records and watermarks are of one making of the topic ([`incarnation`]): when it was deleted and made
//!   again, all of them go, and the group reads the new one from its beginning.

pub mod assignor;
pub(crate) mod cluster;
pub mod consumer_protocol;
mod coordinator;
mod fetcher;
mod incarnation;
pub mod limits;
mod member;
mod offsets;
mod queue;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use kafka_wire::cold::StrBytes;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::Record;

pub use self::queue::record_bytes;

use self::cluster::Cluster;
use self::fetcher::Fetcher;
use self::incarnation::Incarnation;
use self::member::{Event, Membership, Phase};
use self::offsets::Offsets;
use crate::{Client, RequestError, RequestToken, Response, TopicIdx};

/// Where a group begins in a partition it has no committed offset for, or whose committed offset is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The oldest record there is.
    Oldest,
    /// The next record that is written.
    Newest,
    /// The first record at or after this time (epoch milliseconds), or the next one that is written.
    Timestamp(i64),
}

/// One member: a group, a topic, and the manners.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// Kafka's group id.
    pub group: String,
    /// Kafka's topic name.
    pub topic: String,
    /// Silence after which the coordinator drops us, and we drop the partitions.
    pub session_timeout: Duration,
    /// How long the coordinator waits for all members to rejoin.
    pub rebalance_timeout: Duration,
    /// Pause between heartbeats; a third of the session timeout at most.
    pub heartbeat_interval: Duration,
    /// Where to begin without a committed offset.
    pub reset: Reset,
    /// Bytes asked of one broker at once.
    pub fetch_bytes_max: usize,
    /// Bytes asked of one partition at once.
    pub partition_bytes_max: usize,
    /// Longest wait of a fetch at an idle broker.
    pub fetch_wait: Duration,
    /// KIP-345: a static member keeps its share over a restart within the session timeout.
    pub instance_id: Option<String>,
    /// Bytes of fetched records kept for polls.
    pub queue_bytes_max: usize,
    /// A delivered position is committed at most this much later.
    pub commit_interval: Duration,
}

impl GroupConfig {
    /// With the defaults of [`limits`].
    pub fn new(group: impl Into<String>, topic: impl Into<String>) -> GroupConfig {
        GroupConfig {
            group: group.into(),
            topic: topic.into(),
            session_timeout: limits::SESSION_TIMEOUT,
            rebalance_timeout: limits::REBALANCE_TIMEOUT,
            heartbeat_interval: limits::HEARTBEAT_INTERVAL,
            reset: Reset::Oldest,
            fetch_bytes_max: limits::FETCH_BYTES_MAX,
            partition_bytes_max: limits::PARTITION_BYTES_MAX,
            fetch_wait: limits::FETCH_WAIT,
            instance_id: None,
            queue_bytes_max: limits::QUEUE_BYTES_MAX,
            commit_interval: limits::COMMIT_INTERVAL,
        }
    }
}

/// Where the membership stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberState {
    /// Not in the group, or in a rebalance.
    Joining,
    /// Waiting for the share.
    Syncing,
    /// Has a share, maybe an empty one.
    Stable,
    /// Committing and leaving.
    Leaving,
    /// Out; nothing more happens.
    Left,
    /// Nothing more happens; a sentence for the person who is paged.
    Failed(String),
}

/// A record and where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedRecord {
    /// Its partition.
    pub partition: i32,
    /// Slices of the batch it came in.
    pub record: Record,
    /// Bytes that it keeps in memory as long as it is kept: its batch, decompressed, or the answer that brought it.
    pub pinned_bytes: usize,
}

/// What reading may cost whoever else waits: time in this turn, and memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Bytes that may still be decompressed before others get their turn.
    pub bytes_left: usize,
    /// Memory that batches may still be decompressed into. It is checked before a batch is opened, not while.
    pub room: usize,
    /// It ended with work left; the next turn goes on.
    pub is_cut: bool,
    /// A batch waits for room.
    pub is_short: bool,
}

impl Turn {
    /// With so many bytes to decompress, into so much memory.
    pub fn new(bytes: usize, room: usize) -> Turn {
        Turn { bytes_left: bytes, room, is_cut: false, is_short: false }
    }

    /// As long as it takes.
    pub fn unbounded() -> Turn {
        Turn::new(usize::MAX, usize::MAX)
    }

    /// So much was decompressed; it counts for something, however little it was.
    fn spend(&mut self, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes.max(1));
        self.room = self.room.saturating_sub(bytes);
    }
}

/// See the module.
#[derive(Debug)]
pub struct GroupMember {
    membership: Membership,
    offsets: Offsets,
    fetcher: Fetcher,
    incarnation: Incarnation,
    topic_name: String,
    topic: Option<TopicIdx>,
    assignment: Vec<i32>,
    /// Partitions that went away since the owner asked last.
    revoked: Vec<i32>,
    /// Partition count of the topic at the current and, when nothing was lost between, the one before.
    partition_count: Option<i32>,
    partition_count_before: Option<i32>,
    /// While revoking: when to join again even without the commit's reply.
    revoke_until: Option<Instant>,
    /// While leaving: when to leave even without the commit's reply.
    leave_until: Option<Instant>,
    /// Something changed since the last tick that may let a request go.
    due: bool,
    ticked_at: Instant,
}

impl GroupMember {
    /// A member that will join with its first tick. `seed` spreads its retries.
    pub fn new(config: GroupConfig, seed: u64, now: Instant) -> GroupMember {
        GroupMember {
            membership: Membership::new(&config, seed, now),
            offsets: Offsets::new(&config, seed ^ 1),
            fetcher: Fetcher::new(&config, seed ^ 2),
            incarnation: Incarnation::default(),
            topic_name: config.topic,
            topic: None,
            assignment: Vec::new(),
            revoked: Vec::new(),
            partition_count: None,
            partition_count_before: None,
            revoke_until: None,
            leave_until: None,
            due: true,
            ticked_at: now,
        }
    }

    /// Sends whatever is due. To be called after every reply, poll and deadline.
    pub fn tick(&mut self, client: &mut Client, now: Instant) {
        self.step(client, now);
    }

    /// Takes a reply of [`Client::poll_reply`]; false when the request was not this member's.
    pub fn on_reply(
        &mut self,
        token: RequestToken,
        result: Result<Response, RequestError>,
        client: &mut Client,
        now: Instant,
    ) -> bool {
        self.answered(token, result, client, now)
    }

    /// Whether the request is this member's and its reply still awaited.
    pub fn owns(&self, token: RequestToken) -> bool {
        self.membership.owns(token) || self.offsets.owns(token) || self.fetcher.owns(token)
    }

    /// Commits what was delivered with the next tick, without waiting for the interval.
    pub fn commit(&mut self, client: &mut Client, now: Instant) {
        self.offsets.hurry(now);
        self.step(client, now);
    }

    /// Commits, then leaves the group, each within a bounded time. Done when [`GroupMember::state`] says `Left`.
    pub fn leave(&mut self, client: &mut Client, now: Instant) {
        self.begin_leaving(client, now);
    }

    /// When [`GroupMember::tick`] must be called next; a time that has passed means at once.
    pub fn next_deadline(&self) -> Option<Instant> {
        let work = match self.membership.phase() {
            _ if self.due => Some(self.ticked_at),
            Phase::Stable if self.leave_until.is_none() => {
                [self.offsets.next_deadline(), self.fetcher.next_deadline()].into_iter().flatten().min()
            }
            Phase::Stable | Phase::Revoking => self.offsets.next_deadline(),
            _ => None,
        };
        [work, self.membership.next_deadline(), self.revoke_until, self.leave_until].into_iter().flatten().min()
    }

    /// Takes records out of the queues: at most `records_max` of together at most `bytes_max` bytes of keys, values and
    /// headers, but one record whatever its size. Each call begins with another partition.
    pub fn poll_records(&mut self, records_max: usize, bytes_max: usize) -> Vec<FetchedRecord> {
        let mut records = Vec::new();
        self.poll_records_into(records_max, bytes_max, &mut Turn::unbounded(), &mut records);
        records
    }

    /// As [`GroupMember::poll_records`], onto the end of `out`, until that holds `records_max` records or the turn is over.
    /// Only an empty `out` gets a record larger than `bytes_max`.
    pub fn poll_records_into(
        &mut self,
        records_max: usize,
        bytes_max: usize,
        turn: &mut Turn,
        out: &mut Vec<FetchedRecord>,
    ) {
        if self.hands_out() {
            // What was read made room for another fetch, or turned out to be damaged.
            self.due |= self.fetcher.poll(records_max, bytes_max, turn, out);
        }
    }

    /// Memory that fetched records keep.
    pub fn held_bytes(&self) -> usize {
        self.fetcher.held_bytes()
    }

    /// Of those, the memory of batches that were decompressed for a poll.
    pub fn opened_bytes(&self) -> usize {
        self.fetcher.opened_bytes()
    }

    /// From now on it holds and asks for no more than this, up to [`GroupConfig::queue_bytes_max`]. What it holds stays.
    pub fn set_room(&mut self, bytes: usize) {
        self.due |= self.fetcher.set_room(bytes);
    }

    /// Lets go of fetched records that nobody polled; they are fetched again when there is room.
    pub fn release_records(&mut self) {
        self.fetcher.release();
        self.due = true;
    }

    /// Everything of `partition` below `next_offset` was delivered and may be committed.
    pub fn delivered(&mut self, partition: i32, next_offset: i64) {
        let next_offset = self.fetcher.commit_offset(partition, next_offset);
        self.offsets.delivered(partition, next_offset, self.ticked_at);
    }

    /// Partitions that are no longer ours, or are ours anew, since the last call. What was polled from them and not
    /// reported as delivered will be delivered again by whoever owns them now.
    pub fn take_revoked(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.revoked)
    }

    /// Where the membership stands.
    pub fn state(&self) -> MemberState {
        match self.membership.phase() {
            Phase::Left => MemberState::Left,
            Phase::Failed(why) => MemberState::Failed(why.clone()),
            Phase::Leaving { .. } => MemberState::Leaving,
            _ if self.leave_until.is_some() => MemberState::Leaving,
            Phase::Unjoined { .. } | Phase::Joining { .. } | Phase::Revoking => MemberState::Joining,
            Phase::Planning { .. } | Phase::Syncing { .. } => MemberState::Syncing,
            Phase::Stable => MemberState::Stable,
        }
    }

    /// The topic, as the client knows it; `None` before the first tick.
    pub fn topic(&self) -> Option<TopicIdx> {
        self.topic
    }

    /// The group has a committed offset in one of our partitions: where to begin was decided.
    pub fn has_committed(&self) -> bool {
        self.offsets.has_committed()
    }

    /// Our partitions, in order.
    pub fn assignment(&self) -> &[i32] {
        &self.assignment
    }

    fn hands_out(&self) -> bool {
        matches!(self.membership.phase(), Phase::Stable) && self.leave_until.is_none()
    }

    // Decisions

    fn step(&mut self, cluster: &mut impl Cluster, now: Instant) {
        self.due = false;
        self.ticked_at = now;
        let topic = self.look_at_topic(cluster, now);
        let event = self.membership.tick(cluster, now);
        self.apply(event, cluster, now);

        if let Some((member_id, generation)) = self.membership.identity() {
            self.offsets.tick(member_id, generation, &self.incarnation, cluster, now);
        }
        let committed = |until: Instant, offsets: &Offsets| offsets.settled() || until <= now;
        match self.membership.phase() {
            Phase::Stable | Phase::Revoking if self.leave_until.is_some_and(|at| committed(at, &self.offsets)) => {
                self.leave_until = None;
                self.revoke_until = None;
                self.membership.leave(cluster, now);
            }
            Phase::Revoking if self.revoke_until.is_some_and(|at| committed(at, &self.offsets)) => {
                self.revoke_until = None;
                self.membership.join(cluster, now);
            }
            Phase::Stable if self.leave_until.is_none() => {
                self.fetcher.tick(topic, self.incarnation.id(), cluster, now);
            }
            Phase::Left | Phase::Failed(_) => {
                self.leave_until = None;
                self.release_all(cluster);
            }
            // The session ended while we were leaving: nothing to commit any more.
            Phase::Unjoined { .. } | Phase::Joining { .. } if self.leave_until.take().is_some() => {
                self.membership.leave(cluster, now);
            }
            _ => {}
        }
    }

    fn answered(
        &mut self,
        token: RequestToken,
        result: Result<Response, RequestError>,
        cluster: &mut impl Cluster,
        now: Instant,
    ) -> bool {
        if !self.owns(token) {
            return false;
        }
        // Before the answer is judged: it may be of a topic that is no more.
        self.look_at_topic(cluster, now);
        let mut result = Some(result);
        if let Some(event) = self.membership.on_reply(token, &mut result, cluster, now) {
            self.apply(event, cluster, now);
        } else if let Some(event) = self.offsets.on_reply(token, &mut result, &self.incarnation, cluster, now) {
            self.apply_offsets(event, cluster, now);
        } else if self.fetcher.on_reply(token, &mut result, cluster, now) {
            for started in self.fetcher.take_started() {
                if started.back {
                    self.revoked.push(started.partition); // offsets of before say nothing about those to come
                }
                self.offsets.started(started.partition, started.offset, now);
            }
        }
        self.step(cluster, now);
        true
    }

    fn apply(&mut self, event: Event, cluster: &mut impl Cluster, now: Instant) {
        match event {
            Event::Nothing => {}
            Event::Revoke => {
                self.offsets.hurry(now);
                self.revoke_until = Some(now + limits::REVOKE_COMMIT_WAIT);
            }
            Event::Assigned { partitions, continuous } => self.assign(partitions, continuous, cluster, now),
            Event::Lost => {
                self.revoke_until = None;
                self.partition_count = None;
                self.release_all(cluster);
            }
        }
    }

    fn apply_offsets(&mut self, event: offsets::Event, cluster: &mut impl Cluster, now: Instant) {
        match event {
            offsets::Event::Nothing => {}
            offsets::Event::Confirmed => self.membership.confirmed(now),
            offsets::Event::Refused(code) => {
                if self.revoke_until.is_some() && code == ErrorCode::REBALANCE_IN_PROGRESS {
                    self.revoke_until = Some(now); // too late for this generation's commits
                }
                let event = self.membership.on_commit_error(code, cluster, now);
                self.apply(event, cluster, now);
            }
            offsets::Event::Positions(positions) => {
                for (partition, committed) in positions {
                    let new = self.partition_count_before.is_some_and(|count| partition >= count);
                    if new && committed.is_none() {
                        self.fetcher.set_new_partition(partition);
                    } else {
                        self.fetcher.set_position(partition, committed);
                    }
                }
            }
        }
    }

    fn assign(&mut self, partitions: Vec<i32>, continuous: bool, cluster: &mut impl Cluster, now: Instant) {
        if !continuous {
            self.partition_count = None;
            self.release_all(cluster);
        }
        self.revoked.extend(self.assignment.iter().filter(|held| !partitions.contains(held)));
        self.partition_count_before = self.partition_count;
        self.partition_count = self.topic.and_then(|topic| cluster.partition_count(topic));
        let asked = self.offsets.assign(&partitions, cluster, now);
        self.fetcher.assign(&partitions, asked, cluster);
        self.assignment = partitions;
    }

    /// Notices when the topic was made anew: what we hold of it is then worth nothing.
    fn look_at_topic(&mut self, cluster: &mut impl Cluster, now: Instant) -> TopicIdx {
        let topic = *self.topic.get_or_insert_with(|| cluster.topic(&self.topic_name));
        if self.incarnation.is_anew(topic, cluster, now) {
            tracing::warn!(topic = self.topic_name, "topic was deleted and made again, reading it from its beginning");
            let count = cluster.partition_count(topic).unwrap_or(0);
            self.revoked.extend(&self.assignment);
            self.partition_count_before = self.partition_count_before.map(|_| 0);
            self.offsets.begin_anew(count, cluster, now);
            self.fetcher.begin_anew(count, cluster);
        }
        topic
    }

    fn release_all(&mut self, cluster: &mut impl Cluster) {
        self.revoked.append(&mut self.assignment);
        self.offsets.clear(cluster);
        self.fetcher.clear(cluster);
    }

    fn begin_leaving(&mut self, cluster: &mut impl Cluster, now: Instant) {
        if self.leave_until.is_some() {
            return;
        }
        match self.membership.phase() {
            Phase::Stable | Phase::Revoking => {
                self.offsets.hurry(now);
                self.leave_until = Some(now + limits::LEAVE_COMMIT_WAIT);
            }
            Phase::Failed(_) => {}
            _ => self.membership.leave(cluster, now),
        }
        self.step(cluster, now);
    }
}

/// Text as `kafka-protocol` wants it.
pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}
