//! A cluster that does what the test says, and batches as brokers store them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::cold::types::join_group_response::JoinGroupResponseMember;
use kafka_wire::cold::types::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_wire::cold::types::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_wire::cold::types::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_wire::cold::types::{
    HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, ListOffsetsResponse, OffsetCommitResponse,
    OffsetFetchResponse, SyncGroupResponse,
};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::compression::Compression;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{FetchRequest, FetchResponse, FetchedPartition, FetchedTopic, NO_TOPIC_ID, TopicId};
use kafka_wire::record_batch::{BatchBuilder, RecordRef, patch_base_offset, set_log_append_time};

use super::cluster::Cluster;
use super::{GroupConfig, GroupMember, consumer_protocol, text};
use crate::{Lane, Request, RequestError, RequestToken, Response, Target, TopicIdx, TopicState};

pub(super) const TOPIC: &str = "t";

// Batches

/// `batch(5).records(2).bytes()`: offsets 5 and 6, values `5` and `6`.
pub(super) fn batch(base_offset: i64) -> TestBatch {
    TestBatch {
        base_offset,
        records: 0,
        value: None,
        codec: Compression::None,
        producer_id: -1,
        control_key: None,
        unreadable: false,
    }
}

pub(super) struct TestBatch {
    base_offset: i64,
    records: i64,
    value: Option<Vec<u8>>,
    codec: Compression,
    producer_id: i64,
    control_key: Option<Vec<u8>>,
    unreadable: bool,
}

impl TestBatch {
    pub(super) fn records(mut self, count: i64) -> TestBatch {
        self.records = count;
        self
    }
    pub(super) fn value(mut self, value: &[u8]) -> TestBatch {
        self.value = Some(value.to_vec());
        self
    }
    pub(super) fn codec(mut self, codec: Compression) -> TestBatch {
        self.codec = codec;
        self
    }
    pub(super) fn transactional(mut self, producer_id: i64) -> TestBatch {
        self.producer_id = producer_id;
        self
    }
    /// The marker that ends a transaction.
    pub(super) fn control(self, producer_id: i64, commit: bool) -> TestBatch {
        self.control_key(producer_id, &[0, 0, 0, u8::from(commit)])
    }
    /// A control record whose key may say anything.
    pub(super) fn control_key(mut self, producer_id: i64, key: &[u8]) -> TestBatch {
        self.producer_id = producer_id;
        self.control_key = Some(key.to_vec());
        self
    }
    /// Says that it is compressed, which it is not; the checksum is right.
    pub(super) fn unreadable(mut self) -> TestBatch {
        self.unreadable = true;
        self
    }

    pub(super) fn bytes(self) -> Bytes {
        const AT_ATTRIBUTES_LOW: usize = 22;
        let mut builder = BatchBuilder::with_capacity(256);
        if let Some(key) = &self.control_key {
            builder.append(&RecordRef { timestamp_ms: 1, key: Some(key), value: Some(b"\0\0\0\0\0\0"), headers: &[] });
        }
        for offset in self.base_offset..self.base_offset + self.records {
            let value = self.value.clone().unwrap_or_else(|| offset.to_string().into_bytes());
            builder.append(&RecordRef { timestamp_ms: 1, key: None, value: Some(&value), headers: &[] });
        }
        let mut sealed = builder.seal(self.codec);
        sealed.stamp(self.producer_id, 0, 0);
        let mut bytes = sealed.to_bytes().to_vec();
        patch_base_offset(&mut bytes, self.base_offset, 0);
        if self.producer_id >= 0 || self.unreadable {
            let (transactional, control) = (self.producer_id >= 0, self.control_key.is_some());
            bytes[AT_ATTRIBUTES_LOW] |= if transactional { 0x10 } else { 0 } | if control { 0x20 } else { 0 };
            bytes[AT_ATTRIBUTES_LOW] |= if self.unreadable { Compression::Gzip as u8 } else { 0 };
            set_log_append_time(&mut bytes, 1); // renews the checksum
        }
        bytes.into()
    }
}

// The cluster

#[derive(Debug)]
pub(super) struct Sent {
    pub(super) token: RequestToken,
    pub(super) request: Request,
    line: String,
}

impl Sent {
    pub(super) fn is(&self, api: &str) -> bool {
        self.line.starts_with(api)
    }
}

#[derive(Default)]
pub(super) struct Script {
    pub(super) sent: VecDeque<Sent>,
    pub(super) cancelled: Vec<RequestToken>,
    pub(super) coordinator_lookups: usize,
    pub(super) metadata_refreshes: usize,
    /// Partition counts; a topic without one is still pending.
    pub(super) topics: BTreeMap<String, i32>,
    /// Leaders other than node 1; `None`: nobody leads.
    pub(super) leaders: BTreeMap<i32, Option<i32>>,
    /// As metadata tells them; none where brokers have no ids.
    pub(super) topic_id: Option<TopicId>,
    /// Below 0: not told.
    pub(super) leader_epoch: i32,
    /// The cluster denies every topic, and is believed.
    pub(super) missing: bool,
    names: Vec<String>,
    tokens: u64,
}

impl Cluster for Script {
    fn request(&mut self, target: Target<'_>, lane: Lane, request: Request, _: Duration, _: Instant) -> RequestToken {
        self.tokens += 1;
        let token = RequestToken(self.tokens);
        let line = describe(target, lane, &request);
        self.sent.push_back(Sent { token, request, line });
        token
    }
    fn cancel(&mut self, token: RequestToken) {
        self.cancelled.push(token);
    }
    fn invalidate_coordinator(&mut self, _: &str) {
        self.coordinator_lookups += 1;
    }
    fn refresh_metadata(&mut self, _: Instant) {
        self.metadata_refreshes += 1;
    }
    fn topic(&mut self, name: &str) -> TopicIdx {
        let found = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            self.names.push(name.to_owned());
            self.names.len() - 1
        });
        TopicIdx(found as u32)
    }
    fn topic_state(&self, topic: TopicIdx) -> TopicState {
        match self.partition_count(topic) {
            _ if self.missing => TopicState::Missing,
            Some(_) => TopicState::Known,
            None => TopicState::Pending,
        }
    }
    fn partition_count(&self, topic: TopicIdx) -> Option<i32> {
        self.topics.get(&self.names[topic.0 as usize]).copied()
    }
    fn topic_id(&self, _: TopicIdx) -> Option<TopicId> {
        self.topic_id
    }
    fn leader_epoch(&self, _: TopicIdx, _: i32) -> Option<i32> {
        (self.leader_epoch >= 0).then_some(self.leader_epoch)
    }
    fn leader(&self, _: TopicIdx, partition: i32) -> Option<i32> {
        self.leaders.get(&partition).copied().unwrap_or(Some(1))
    }
}

/// A request as one line; what a test does not look at is left out.
fn describe(target: Target<'_>, lane: Lane, request: &Request) -> String {
    let mut line = String::new();
    let node = match target {
        Target::Broker(node) => format!(" node {node}"),
        Target::Coordinator(_) => String::new(),
        other => panic!("groups talk to coordinators and leaders, not to {other:?}"),
    };
    match request {
        Request::Fetch(fetch) => {
            assert_eq!((lane, fetch.isolation_level, fetch.min_bytes), (Lane::Fetch, 1, 1));
            write!(line, "Fetch{node}").unwrap();
            for partition in fetch.topics.iter().flat_map(|topic| &topic.partitions) {
                write!(line, " {}@{}", partition.index, partition.fetch_offset).unwrap();
            }
            write!(line, " wait {}", fetch.max_wait_ms).unwrap();
            if fetch.topics[0].id != NO_TOPIC_ID {
                write!(line, " of {}", fetch.topics[0].id[0] as char).unwrap();
            }
        }
        Request::Cold(RequestKind::JoinGroup(join)) => {
            assert_eq!(lane, Lane::Group);
            assert_eq!((join.session_timeout_ms, join.rebalance_timeout_ms), (10_000, 30_000), "the defaults");
            write!(line, "JoinGroup member={}", join.member_id).unwrap();
        }
        Request::Cold(RequestKind::SyncGroup(sync)) => {
            assert_eq!(lane, Lane::Group);
            write!(line, "SyncGroup generation={} member={}", sync.generation_id, sync.member_id).unwrap();
            for share in &sync.assignments {
                write!(line, " {}:", share.member_id).unwrap();
                for (topic, partitions) in consumer_protocol::decode_assignment(share.assignment.clone()).unwrap() {
                    write!(line, "{topic}{partitions:?}").unwrap();
                }
            }
        }
        Request::Cold(RequestKind::Heartbeat(heartbeat)) => {
            write!(line, "Heartbeat generation={}", heartbeat.generation_id).unwrap();
        }
        Request::Cold(RequestKind::OffsetFetch(fetch)) => {
            let topics = fetch.topics.as_ref().unwrap();
            write!(line, "OffsetFetch {:?}", topics[0].partition_indexes).unwrap();
        }
        Request::Cold(RequestKind::OffsetCommit(commit)) => {
            write!(line, "OffsetCommit generation={}", commit.generation_id_or_member_epoch).unwrap();
            for partition in &commit.topics[0].partitions {
                assert_eq!(partition.committed_leader_epoch, -1, "not kept");
                write!(line, " {}@{}", partition.partition_index, partition.committed_offset).unwrap();
            }
            let label = commit.topics[0].partitions[0].committed_metadata.as_deref().unwrap_or_default();
            if let Some(id) = label.strip_prefix("gafka topic ") {
                write!(line, " of {}", u8::from_str_radix(&id[..2], 16).unwrap() as char).unwrap();
            }
        }
        Request::Cold(RequestKind::LeaveGroup(leave)) => {
            write!(line, "LeaveGroup member={}", leave.members[0].member_id).unwrap();
        }
        Request::Cold(RequestKind::ListOffsets(list)) => {
            assert_eq!((list.isolation_level, list.replica_id.0), (1, -1), "a consumer, read_committed");
            write!(line, "ListOffsets{node}").unwrap();
            for partition in &list.topics[0].partitions {
                assert_eq!(partition.current_leader_epoch, -1, "whoever leads may answer");
                write!(line, " {}@{}", partition.partition_index, partition.timestamp).unwrap();
            }
        }
        other => panic!("unexpected {other:?}"),
    }
    if !matches!(lane, Lane::Fetch | Lane::Group) {
        assert_eq!(lane, Lane::Control, "{line}");
    }
    line
}

// The stage

/// A member, its cluster and a clock.
pub(super) struct Stage {
    pub(super) member: GroupMember,
    pub(super) cluster: Script,
    pub(super) now: Instant,
}

impl Stage {
    /// Group `g` on topic `t` of `partitions` partitions, all led by node 1.
    pub(super) fn new(partitions: i32, config: impl FnOnce(&mut GroupConfig)) -> Stage {
        let mut group = GroupConfig::new("g", TOPIC);
        config(&mut group);
        let now = Instant::now();
        let mut cluster = Script::default();
        cluster.topics.insert(TOPIC.into(), partitions);
        let mut stage = Stage { member: GroupMember::new(group, 7, now), cluster, now };
        stage.tick();
        stage
    }

    /// As leader and only member of generation 1, with these committed offsets.
    pub(super) fn stable(partitions: i32, committed: &[i64], config: impl FnOnce(&mut GroupConfig)) -> Stage {
        let mut stage = Stage::new(partitions, config);
        stage.expect(&["JoinGroup member="]);
        stage.answer(join(1, "m1", "m1", &[("m1", &[TOPIC])]));
        let all: Vec<i32> = (0..partitions).collect();
        stage.expect(&[&format!("SyncGroup generation=1 member=m1 m1:t{all:?}")]);
        stage.answer(sync(&all));
        stage.expect(&[&format!("OffsetFetch {all:?}")]);
        stage.answer(offsets(&(0..).zip(committed.iter().copied()).collect::<Vec<_>>()));
        stage
    }

    pub(super) fn tick(&mut self) {
        self.member.step(&mut self.cluster, self.now);
        let deadline = self.member.next_deadline();
        assert!(deadline.is_none_or(|at| at > self.now), "a driver would spin with {:?}", self.member);
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.tick();
    }

    /// The requests on their way are exactly these, in this order.
    #[track_caller]
    pub(super) fn expect(&self, lines: &[&str]) {
        let cancelled = &self.cluster.cancelled;
        let on_their_way = self.cluster.sent.iter().filter(|sent| !cancelled.contains(&sent.token));
        assert_eq!(on_their_way.map(|sent| sent.line.as_str()).collect::<Vec<_>>(), lines);
    }

    /// Answers the oldest request.
    pub(super) fn answer(&mut self, response: Response) {
        self.answer_nth(0, Ok(response));
    }

    pub(super) fn answer_nth(&mut self, index: usize, result: Result<Response, RequestError>) {
        let sent = self.cluster.sent.remove(index).expect("a request is on its way");
        assert!(self.member.answered(sent.token, result, &mut self.cluster, self.now), "{sent:?} must be the member's");
        self.tick();
    }

    /// The newest fetch that is on its way.
    pub(super) fn fetch(&self) -> Option<&FetchRequest> {
        let is_awaited = |sent: &&Sent| !self.cluster.cancelled.contains(&sent.token);
        self.cluster.sent.iter().rev().filter(is_awaited).find_map(|sent| match &sent.request {
            Request::Fetch(fetch) => Some(fetch),
            Request::Cold(_) => None,
        })
    }

    /// Drops the oldest request from view, as one that is never answered.
    pub(super) fn lose(&mut self) -> Sent {
        self.cluster.sent.pop_front().expect("a request is on its way")
    }

    /// "partition@offset" of up to `count` records.
    pub(super) fn poll(&mut self, count: usize) -> Vec<String> {
        let records = self.member.poll_records(count, usize::MAX);
        records.iter().map(|fetched| format!("{}@{}", fetched.partition, fetched.record.offset)).collect()
    }
}

// Replies

pub(super) fn join(generation: i32, leader: &str, member: &str, members: &[(&str, &[&str])]) -> Response {
    let members = members
        .iter()
        .map(|(id, topics)| {
            JoinGroupResponseMember::default()
                .with_member_id(text(id))
                .with_metadata(consumer_protocol::encode_subscription(topics))
        })
        .collect();
    let join = JoinGroupResponse::default()
        .with_generation_id(generation)
        .with_protocol_name(Some(text("range")))
        .with_leader(text(leader))
        .with_member_id(text(member))
        .with_members(members);
    Response::Cold(ResponseKind::JoinGroup(join))
}

pub(super) fn join_error(code: ErrorCode, member: &str) -> Response {
    let join = JoinGroupResponse::default().with_error_code(code.0).with_member_id(text(member));
    Response::Cold(ResponseKind::JoinGroup(join))
}

pub(super) fn sync(partitions: &[i32]) -> Response {
    let share = consumer_protocol::encode_assignment(&[(TOPIC.to_owned(), partitions.to_vec())]);
    Response::Cold(ResponseKind::SyncGroup(SyncGroupResponse::default().with_assignment(share)))
}

pub(super) fn sync_error(code: ErrorCode) -> Response {
    Response::Cold(ResponseKind::SyncGroup(SyncGroupResponse::default().with_error_code(code.0)))
}

pub(super) fn heartbeat(code: ErrorCode) -> Response {
    Response::Cold(ResponseKind::Heartbeat(HeartbeatResponse::default().with_error_code(code.0)))
}

pub(super) fn left() -> Response {
    Response::Cold(ResponseKind::LeaveGroup(LeaveGroupResponse::default()))
}

/// What a commit carries that is of the topic with this id.
pub(super) fn label(id: u8) -> String {
    format!("gafka topic {}", format!("{id:02x}").repeat(16))
}

/// Version 8 shape.
pub(super) fn offsets(committed: &[(i32, i64)]) -> Response {
    offsets_of(committed, "")
}

/// With this text committed beside them.
pub(super) fn offsets_of(committed: &[(i32, i64)], label: &str) -> Response {
    offsets_each(committed.iter().map(|(index, offset)| (*index, (*offset, label.to_owned()))).collect())
}

/// Each with its own text.
pub(super) fn offsets_each(committed: Vec<(i32, (i64, String))>) -> Response {
    let partitions = committed
        .into_iter()
        .map(|(index, (offset, label))| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_metadata(Some(text(&label)))
        })
        .collect();
    let topic = OffsetFetchResponseTopics::default().with_name(text(TOPIC).into()).with_partitions(partitions);
    let group = OffsetFetchResponseGroup::default().with_topics(vec![topic]);
    Response::Cold(ResponseKind::OffsetFetch(OffsetFetchResponse::default().with_groups(vec![group])))
}

/// As versions before 8 say it.
pub(super) fn old_shape(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|told| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(told.partition_index)
            .with_committed_offset(told.committed_offset)
            .with_metadata(told.metadata)
    });
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
}

pub(super) fn offsets_error(code: ErrorCode) -> Response {
    Response::Cold(ResponseKind::OffsetFetch(OffsetFetchResponse::default().with_error_code(code.0)))
}

pub(super) fn committed(partitions: &[i32], code: ErrorCode) -> Response {
    let partitions = partitions
        .iter()
        .map(|index| OffsetCommitResponsePartition::default().with_partition_index(*index).with_error_code(code.0))
        .collect();
    let topic = OffsetCommitResponseTopic::default().with_name(text(TOPIC).into()).with_partitions(partitions);
    Response::Cold(ResponseKind::OffsetCommit(OffsetCommitResponse::default().with_topics(vec![topic])))
}

pub(super) fn listed(offsets: &[(i32, i64)], code: ErrorCode) -> Response {
    let partitions = offsets
        .iter()
        .map(|(index, offset)| {
            ListOffsetsPartitionResponse::default()
                .with_partition_index(*index)
                .with_offset(*offset)
                .with_error_code(code.0)
        })
        .collect();
    let topic = ListOffsetsTopicResponse::default().with_name(text(TOPIC).into()).with_partitions(partitions);
    Response::Cold(ResponseKind::ListOffsets(ListOffsetsResponse::default().with_topics(vec![topic])))
}

/// One partition's part of a fetch.
pub(super) fn fetched(parts: &[(i32, ErrorCode, Bytes)]) -> Response {
    let partitions = parts
        .iter()
        .map(|(index, error, records)| FetchedPartition {
            index: *index,
            error: *error,
            high_watermark: 0,
            last_stable_offset: 0,
            log_start_offset: 0,
            aborted: Vec::new(),
            preferred_read_replica: -1,
            records: records.clone(),
            current_leader: None,
        })
        .collect();
    let topics = vec![FetchedTopic { name: TOPIC.into(), id: NO_TOPIC_ID, partitions }];
    Response::Fetch(FetchResponse { topics, ..FetchResponse::default() })
}

/// Records of one partition.
pub(super) fn records(index: i32, records: Bytes) -> Response {
    fetched(&[(index, ErrorCode::NONE, records)])
}
