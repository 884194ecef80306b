//! Fetches the assigned partitions ahead of the polls.
//!
//! One Fetch per leader is on its way at any time; it names every partition of that leader that has a position, room and
//! no pause, and waits at the broker until one of them has data. The client puts those of its groups together on few
//! connections ([`crate::fetches`]). KIP-227 fetch sessions are not used.
//!
//! Back-pressure: what lies in the queues plus what the fetches on their way may bring stays below `queue_bytes_max`
//! (plus one batch per leader, since a broker answers with at least one); without room nothing is asked for. The records
//! wait at the broker, where they cost nothing. Whoever counts memory may make the room smaller, down to none, and back.
//!
//! Isolation is read_committed: records of open transactions wait, those of aborted ones never appear.
//!
//! Invariants:
//! - A fetch names the topic by its id where the brokers have ids: a position is never read from another topic.
//! - A partition's `epoch` grows whenever its position is set anew; a reply for an older epoch or another position changes
//!   nothing, and within one epoch a partition is named by at most one request on its way.
//! - Records of one partition come out in offset order, each once per assignment.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use kafka_wire::WireError;
use kafka_wire::cold::types::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::cold::types::{ListOffsetsRequest, ListOffsetsResponse};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition, NO_TOPIC_ID, TopicId,
};

use super::cluster::Cluster;
use super::limits::{
    BACKOFF_BROKEN, COORDINATOR_TIMEOUT, FETCH_BYTES_MIN, FETCH_WAIT_CROWDED, PARTITION_BYTES_LIMIT, REPLY_GRACE,
};
use super::queue::{Queue, record_bytes};
use super::{FetchedRecord, GroupConfig, Reset, Turn, text};
use crate::backoff::Backoff;
use crate::rng::Rng;
use crate::{Lane, Request, RequestError, RequestToken, Response, Target, TopicIdx};

/// ListOffsets' names for the ends of a log.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
/// Consumers are no replicas.
const NO_REPLICA: i32 = -1;
const READ_COMMITTED: i8 = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    /// The group's offset is being asked for.
    Unknown,
    /// The leader is to tell the offset of this timestamp.
    Reset(i64),
    /// Fetch from here next.
    At(i64),
}

#[derive(Debug)]
struct Partition {
    position: Position,
    epoch: u64,
    /// Named by a request on its way.
    asked: bool,
    retry_at: Option<Instant>,
    backoff: Backoff,
    bytes_max: usize,
    queue: Queue,
    /// While starting over: where it was, outside of the log.
    left: Option<i64>,
}

#[derive(Debug)]
struct Flight {
    node: i32,
    kind: Kind,
    topic_id: Option<TopicId>,
    /// Partition, epoch and position or timestamp it was asked with.
    asked: Vec<(i32, u64, i64)>,
}

/// A starting point that a reset found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Started {
    pub partition: i32,
    pub offset: i64,
    /// The position went back: offsets that were handed out will come again as other records.
    pub back: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Fetch,
    Resets,
}

#[derive(Debug)]
pub(super) struct Fetcher {
    topic: String,
    reset: Reset,
    fetch_bytes_max: usize,
    partition_bytes_max: usize,
    fetch_wait: Duration,
    queue_bytes_max: usize,
    /// How much of that may be used for now.
    room: usize,
    /// Records were let go of: a fetch on its way may be for what comes behind them.
    let_go: bool,
    partitions: BTreeMap<i32, Partition>,
    flights: HashMap<RequestToken, Flight>,
    /// Where the next poll begins its round.
    next_partition: i32,
    epoch: u64,
    /// A leader is unknown; metadata may be asked again from here on.
    metadata_at: Option<Instant>,
    metadata_backoff: Backoff,
    /// How long the next fetch beside a held-back partition waits; doubles until somebody polls.
    crowded_wait: Duration,
    /// New starting points since the owner asked last.
    started: Vec<Started>,
    rng: Rng,
}

impl Fetcher {
    pub(super) fn new(config: &GroupConfig, seed: u64) -> Fetcher {
        Fetcher {
            topic: config.topic.clone(),
            reset: config.reset,
            fetch_bytes_max: config.fetch_bytes_max,
            partition_bytes_max: config.partition_bytes_max,
            fetch_wait: config.fetch_wait,
            queue_bytes_max: config.queue_bytes_max,
            room: config.queue_bytes_max,
            let_go: false,
            partitions: BTreeMap::new(),
            flights: HashMap::new(),
            next_partition: 0,
            epoch: 0,
            metadata_at: None,
            metadata_backoff: Backoff::default(),
            crowded_wait: FETCH_WAIT_CROWDED,
            started: Vec::new(),
            rng: Rng::new(seed),
        }
    }

    /// The new share. Partitions that stay keep position and records, but for those whose committed offset is `asked` for:
    /// a reset that was sought for them in the generation before would set their position too.
    pub(super) fn assign(&mut self, partitions: &[i32], asked: &[i32], cluster: &mut impl Cluster) {
        self.partitions.retain(|index, _| partitions.contains(index) && !asked.contains(index));
        for index in partitions {
            self.epoch += 1;
            let (epoch, bytes_max) = (self.epoch, self.partition_bytes_max);
            self.partitions.entry(*index).or_insert_with(|| Partition {
                position: Position::Unknown,
                epoch,
                asked: false,
                retry_at: None,
                backoff: Backoff::default(),
                bytes_max,
                queue: Queue::default(),
                left: None,
            });
        }
        self.forget_flights(cluster);
    }

    fn forget_flights(&mut self, cluster: &mut impl Cluster) {
        // A request that only asks for what is gone holds its broker's place for nothing.
        let partitions = &self.partitions;
        self.flights.retain(|token, flight| {
            let wanted =
                flight.asked.iter().any(|(index, epoch, _)| partitions.get(index).is_some_and(|p| p.epoch == *epoch));
            if !wanted {
                cluster.cancel(*token);
            }
            wanted
        });
    }

    /// The topic is another one, with so many partitions. It begins at offset 0: asking for its beginning might be answered
    /// by a broker that still has the old one. A share beyond its partitions waits for the next assignment.
    pub(super) fn begin_anew(&mut self, partition_count: i32, cluster: &mut impl Cluster) {
        self.started.clear();
        let indexes: Vec<i32> = self.partitions.keys().copied().collect();
        for index in indexes {
            self.start_at(index, 0);
            let partition = self.partitions.get_mut(&index).expect("listed above");
            partition.retry_at = None;
            if index >= partition_count {
                partition.position = Position::Unknown;
            }
        }
        self.forget_flights(cluster);
    }

    pub(super) fn clear(&mut self, cluster: &mut impl Cluster) {
        self.assign(&[], &[], cluster);
        self.started.clear();
    }

    /// The group's committed offset, or where the reset policy says it begins.
    pub(super) fn set_position(&mut self, index: i32, committed: Option<i64>) {
        match committed {
            Some(offset) => self.start_at(index, offset),
            None => self.start_over(index, self.reset),
        }
    }

    /// The partition appeared while the group was at work: nothing of it may be missed.
    pub(super) fn set_new_partition(&mut self, index: i32) {
        self.start_over(index, Reset::Oldest);
    }

    /// Positions that a reset has found, once each.
    pub(super) fn take_started(&mut self) -> Vec<Started> {
        std::mem::take(&mut self.started)
    }

    /// What to commit when everything below `delivered` was delivered: when that is all there is, also the control batches
    /// and compacted records behind it, so that a group that has read everything has no lag.
    pub(super) fn commit_offset(&self, index: i32, delivered: i64) -> i64 {
        match self.partitions.get(&index) {
            Some(Partition { position: Position::At(_), queue, .. }) if queue.taken_offset() == delivered => {
                queue.read_offset()
            }
            _ => delivered,
        }
    }

    /// Memory that fetched records keep.
    pub(super) fn held_bytes(&self) -> usize {
        self.partitions.values().map(|partition| partition.queue.held_bytes()).sum()
    }

    /// Of those, what batches take that were decompressed.
    pub(super) fn opened_bytes(&self) -> usize {
        self.partitions.values().map(|partition| partition.queue.opened_bytes()).sum()
    }

    /// True when more may be asked for than before.
    pub(super) fn set_room(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.room, bytes.min(self.queue_bytes_max));
        self.room > before
    }

    /// Lets go of what nobody has read yet, and of the answers that are on their way behind it.
    pub(super) fn release(&mut self) {
        let held: Vec<(i32, i64)> = self
            .partitions
            .iter()
            .filter(|(_, partition)| matches!(partition.position, Position::At(_)) && !partition.queue.is_empty())
            .map(|(index, partition)| (*index, partition.queue.taken_offset()))
            .collect();
        for (index, offset) in held {
            self.start_at(index, offset);
            self.let_go = true;
        }
    }

    /// Up to `records_max` records and `bytes_max` bytes; the first record comes whatever its size. Each call begins with
    /// another partition and empties it before the next, so one answer rarely mixes partitions and none starves. False:
    /// there was nothing to look at.
    pub(super) fn poll(
        &mut self,
        records_max: usize,
        bytes_max: usize,
        turn: &mut Turn,
        out: &mut Vec<FetchedRecord>,
    ) -> bool {
        let order: Vec<i32> = self
            .partitions
            .range(self.next_partition..)
            .chain(self.partitions.range(..self.next_partition))
            .filter(|(_, partition)| !partition.queue.is_empty())
            .map(|(index, _)| *index)
            .collect();
        let Some(first) = order.first() else { return false };
        self.next_partition = first.saturating_add(1);
        self.crowded_wait = FETCH_WAIT_CROWDED;
        let mut bytes_left = bytes_max;
        for index in order {
            let partition = self.partitions.get_mut(&index).expect("listed above");
            while out.len() < records_max {
                let allowed = if out.is_empty() { usize::MAX } else { bytes_left };
                let Some(record) = partition.queue.take(allowed, turn) else { break };
                bytes_left = bytes_left.saturating_sub(record_bytes(&record));
                let pinned_bytes = partition.queue.front_bytes();
                out.push(FetchedRecord { partition: index, record, pinned_bytes });
            }
        }
        true
    }

    /// Sends whatever can be asked for.
    pub(super) fn tick(
        &mut self,
        topic: TopicIdx,
        topic_id: Option<TopicId>,
        cluster: &mut impl Cluster,
        now: Instant,
    ) {
        if std::mem::take(&mut self.let_go) {
            self.forget_flights(cluster);
        }
        self.recover_faults(now);
        for partition in self.partitions.values_mut() {
            partition.retry_at = partition.retry_at.filter(|at| *at > now);
        }
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        let mut leaderless = false;
        for (index, partition) in &self.partitions {
            if partition.position == Position::Unknown {
                continue;
            }
            match cluster.leader(topic, *index) {
                Some(node) => by_leader.entry(node).or_default().push(*index),
                None => leaderless = true,
            }
        }
        self.look_for_leaders(leaderless, cluster, now);
        let leader_count = by_leader.len();
        for (node, indexes) in by_leader {
            self.send_resets(node, &indexes, cluster, now);
            self.send_fetch(node, leader_count, &indexes, (topic, topic_id), cluster, now);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.partitions.values().filter_map(|partition| partition.retry_at).chain(self.metadata_at).min()
    }

    pub(super) fn owns(&self, token: RequestToken) -> bool {
        self.flights.contains_key(&token)
    }

    /// False when the token is not ours.
    pub(super) fn on_reply(
        &mut self,
        token: RequestToken,
        result: &mut Option<Result<Response, RequestError>>,
        cluster: &mut impl Cluster,
        now: Instant,
    ) -> bool {
        let Some(flight) = self.flights.remove(&token) else { return false };
        for (index, epoch, _) in &flight.asked {
            if let Some(partition) = self.partitions.get_mut(index).filter(|partition| partition.epoch == *epoch) {
                partition.asked = false;
            }
        }
        match result.take() {
            Some(Ok(Response::Fetch(response))) => {
                self.fetched(&flight, response, cluster, now);
            }
            Some(Ok(Response::Cold(ResponseKind::ListOffsets(response)))) => {
                self.offsets_listed(&flight, &response, cluster, now);
            }
            Some(Err(err)) => {
                tracing::debug!(topic = self.topic, node = flight.node, %err, "fetch without an answer");
                cluster.refresh_metadata(now);
                self.all_wait(&flight, now);
            }
            _ => self.all_wait(&flight, now),
        }
        true
    }

    // Sending

    fn send_fetch(
        &mut self,
        node: i32,
        leader_count: usize,
        indexes: &[i32],
        (topic, topic_id): (TopicIdx, Option<TopicId>),
        cluster: &mut impl Cluster,
        now: Instant,
    ) {
        if self.flights.values().any(|flight| flight.node == node && flight.kind == Kind::Fetch) {
            return;
        }
        // Every leader may fill its part of the room, every partition its part of that.
        let leader_room = self.room / leader_count.max(1);
        let partition_room = leader_room / indexes.len().max(1);
        let held: usize = indexes.iter().map(|index| self.partitions[index].queue.bytes()).sum();
        let bytes_max = leader_room.saturating_sub(held).min(self.fetch_bytes_max);
        if bytes_max < FETCH_BYTES_MIN.min(leader_room / 2) || leader_room == 0 {
            return;
        }
        let mut crowded = false;
        let mut asked = Vec::new();
        let mut partitions = Vec::new();
        for index in indexes {
            let partition = self.partitions.get_mut(index).expect("listed by tick");
            let Position::At(offset) = partition.position else { continue };
            if partition.asked || partition.retry_at.is_some() {
                continue;
            }
            if partition.queue.bytes() > partition_room / 2 {
                crowded = true;
                continue;
            }
            partition.asked = true;
            asked.push((*index, partition.epoch, offset));
            let partition_max_bytes = i32::try_from(partition.bytes_max).unwrap_or(i32::MAX);
            // KIP-320: a leader of another epoch refuses, so that we ask who leads now, and what.
            let current_leader_epoch = cluster.leader_epoch(topic, *index).unwrap_or(-1);
            partitions.push(FetchPartition {
                current_leader_epoch,
                ..FetchPartition::consumer(*index, offset, partition_max_bytes)
            });
        }
        if asked.is_empty() {
            return;
        }
        let wait = if crowded { self.crowded_wait.min(self.fetch_wait) } else { self.fetch_wait };
        if crowded {
            self.crowded_wait = (self.crowded_wait * 2).min(self.fetch_wait);
        }
        let request = FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            max_bytes: i32::try_from(bytes_max).unwrap_or(i32::MAX),
            isolation_level: READ_COMMITTED,
            topics: vec![FetchTopic {
                name: self.topic.clone().into(),
                id: topic_id.unwrap_or(NO_TOPIC_ID),
                partitions,
            }],
            ..FetchRequest::default()
        };
        let token =
            cluster.request(Target::Broker(node), Lane::Fetch, Request::Fetch(request), wait + REPLY_GRACE, now);
        self.flights.insert(token, Flight { node, kind: Kind::Fetch, topic_id, asked });
    }

    fn send_resets(&mut self, node: i32, indexes: &[i32], cluster: &mut impl Cluster, now: Instant) {
        let mut asked = Vec::new();
        let mut partitions = Vec::new();
        for index in indexes {
            let partition = self.partitions.get_mut(index).expect("listed by tick");
            let Position::Reset(timestamp) = partition.position else { continue };
            if partition.asked || partition.retry_at.is_some() {
                continue;
            }
            partition.asked = true;
            asked.push((*index, partition.epoch, timestamp));
            let mut wire = ListOffsetsPartition::default();
            wire.partition_index = *index;
            wire.current_leader_epoch = -1;
            wire.timestamp = timestamp;
            partitions.push(wire);
        }
        if asked.is_empty() {
            return;
        }
        let topic = ListOffsetsTopic::default().with_name(text(&self.topic).into()).with_partitions(partitions);
        let list = ListOffsetsRequest::default()
            .with_replica_id(NO_REPLICA.into())
            .with_isolation_level(READ_COMMITTED)
            .with_topics(vec![topic]);
        let request = Request::Cold(RequestKind::ListOffsets(list));
        let token = cluster.request(Target::Broker(node), Lane::Control, request, COORDINATOR_TIMEOUT, now);
        self.flights.insert(token, Flight { node, kind: Kind::Resets, topic_id: None, asked });
    }

    fn look_for_leaders(&mut self, leaderless: bool, cluster: &mut impl Cluster, now: Instant) {
        if !leaderless {
            self.metadata_at = None;
            self.metadata_backoff.succeeded();
        } else if self.metadata_at.is_none_or(|at| at <= now) {
            cluster.refresh_metadata(now);
            self.metadata_at = Some(self.metadata_backoff.failed(now, &mut self.rng));
        }
    }

    // Replies

    fn fetched(&mut self, flight: &Flight, response: FetchResponse, cluster: &mut impl Cluster, now: Instant) {
        if response.error != ErrorCode::NONE {
            tracing::warn!(topic = self.topic, node = flight.node, code = response.error.name(), "fetch refused");
            return self.all_wait(flight, now);
        }
        let named = |name: &[u8], id| match flight.topic_id {
            Some(asked) if name.is_empty() => id == asked,
            _ => name == self.topic.as_bytes(),
        };
        let ours = response.topics.into_iter().find(|topic| named(&topic.name, topic.id));
        let mut found: HashMap<i32, FetchedPartition> =
            ours.into_iter().flat_map(|topic| topic.partitions).map(|found| (found.index, found)).collect();
        for (index, epoch, offset) in &flight.asked {
            match found.remove(index) {
                Some(found) => self.partition_fetched((*index, *epoch, *offset), found, cluster, now),
                None => self.wait(*index, *epoch, now), // left out: asked again, not at once
            }
        }
    }

    fn partition_fetched(
        &mut self,
        (index, epoch, offset): (i32, u64, i64),
        found: FetchedPartition,
        cluster: &mut impl Cluster,
        now: Instant,
    ) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        if partition.epoch != epoch || partition.position != Position::At(offset) {
            return;
        }
        match found.error {
            ErrorCode::NONE => match partition.queue.accept(found.records, &found.aborted, offset) {
                Ok(accepted) => {
                    partition.position = Position::At(accepted.next_offset);
                    partition.backoff.succeeded();
                    if accepted.too_small {
                        partition.bytes_max = (partition.bytes_max * 2).min(PARTITION_BYTES_LIMIT);
                    }
                }
                Err(err) => self.damaged(index, &err, now),
            },
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                tracing::warn!(
                    topic = self.topic,
                    partition = index,
                    offset,
                    log_start = found.log_start_offset,
                    high_watermark = found.high_watermark,
                    reset = ?self.reset,
                    "position is outside of the log, starting over"
                );
                self.out_of_range(index, now);
            }
            code => self.refused(index, code, cluster, now),
        }
    }

    fn offsets_listed(
        &mut self,
        flight: &Flight,
        response: &ListOffsetsResponse,
        cluster: &mut impl Cluster,
        now: Instant,
    ) {
        for (index, epoch, timestamp) in &flight.asked {
            let Some(partition) = self.partitions.get_mut(index).filter(|partition| partition.epoch == *epoch) else {
                continue;
            };
            let found = response
                .topics
                .iter()
                .filter(|topic| topic.name.as_str() == self.topic)
                .flat_map(|topic| &topic.partitions)
                .find(|found| found.partition_index == *index);
            match found.map(|found| (ErrorCode(found.error_code), found.offset)) {
                Some((ErrorCode::NONE, offset @ 0..)) => {
                    let back = partition.left.take().is_some_and(|left| offset < left);
                    self.started.push(Started { partition: *index, offset, back });
                    self.start_at(*index, offset);
                }
                // No record is that young: begin with the next one that is written.
                Some((ErrorCode::NONE, _)) if *timestamp != LATEST => partition.position = Position::Reset(LATEST),
                Some((ErrorCode::NONE, _)) | None => self.wait(*index, *epoch, now),
                Some((code, _)) => self.refused(*index, code, cluster, now),
            }
        }
    }

    fn refused(&mut self, index: i32, code: ErrorCode, cluster: &mut impl Cluster, now: Instant) {
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        if code.is_retriable() {
            // The leader moved, is not there yet, or the topic is being made or deleted: ask who leads now.
            tracing::debug!(topic = self.topic, partition = index, code = code.name(), "partition not readable here");
            cluster.refresh_metadata(now);
            partition.retry_at = Some(partition.backoff.failed(now, &mut self.rng));
        } else {
            tracing::error!(topic = self.topic, partition = index, code = code.name(), "partition not readable");
            partition.retry_at = Some(now + BACKOFF_BROKEN);
        }
    }

    fn all_wait(&mut self, flight: &Flight, now: Instant) {
        for (index, epoch, _) in &flight.asked {
            self.wait(*index, *epoch, now);
        }
    }

    fn wait(&mut self, index: i32, epoch: u64, now: Instant) {
        if let Some(partition) = self.partitions.get_mut(&index).filter(|partition| partition.epoch == epoch) {
            partition.retry_at = Some(partition.backoff.failed(now, &mut self.rng));
        }
    }

    // Positions

    fn start_at(&mut self, index: i32, offset: i64) {
        self.begin(index, Position::At(offset), offset);
    }

    fn start_over(&mut self, index: i32, reset: Reset) {
        let timestamp = match reset {
            Reset::Oldest => EARLIEST,
            Reset::Newest => LATEST,
            Reset::Timestamp(timestamp_ms) => timestamp_ms.max(0),
        };
        self.begin(index, Position::Reset(timestamp), 0);
    }

    fn begin(&mut self, index: i32, position: Position, offset: i64) {
        self.epoch += 1;
        let Some(partition) = self.partitions.get_mut(&index) else { return };
        partition.epoch = self.epoch;
        partition.asked = false;
        partition.queue.restart(offset);
        partition.position = position;
        partition.left = None;
    }

    /// The position lies outside of the log. What was fetched before is delivered first: nobody will send it again.
    fn out_of_range(&mut self, index: i32, now: Instant) {
        match self.partitions.get_mut(&index) {
            Some(partition) if !partition.queue.is_empty() => {
                partition.retry_at = Some(partition.backoff.failed(now, &mut self.rng));
            }
            Some(Partition { position: Position::At(left), .. }) => {
                let left = *left;
                self.start_over(index, self.reset);
                if let Some(partition) = self.partitions.get_mut(&index) {
                    partition.left = Some(left);
                }
            }
            _ => {}
        }
    }

    /// Batches that were refused on arrival or cannot be read now are fetched again after a pause: skipping them would lose
    /// records silently.
    fn damaged(&mut self, index: i32, err: &WireError, now: Instant) {
        let Some(offset) = self.partitions.get(&index).map(|partition| partition.queue.taken_offset()) else { return };
        tracing::error!(topic = self.topic, partition = index, offset, %err, "fetched records are damaged, fetching again");
        self.start_at(index, offset);
        if let Some(partition) = self.partitions.get_mut(&index) {
            partition.retry_at = Some(now + BACKOFF_BROKEN);
        }
    }

    fn recover_faults(&mut self, now: Instant) {
        let faults: Vec<(i32, WireError)> = self
            .partitions
            .iter()
            .filter_map(|(index, partition)| Some((*index, partition.queue.fault()?.clone())))
            .collect();
        for (index, err) in faults {
            self.damaged(index, &err, now);
        }
    }
}
