//! A model of a Kafka cluster: enough of it to produce to, with sequence checks as Kafka makes them, and a script of
//! things that go wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use hmac::{Hmac, Mac};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, RequestKind, ResponseKind, StrBytes, types};
use kafka_wire::compression::Compression;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::header::{self, RequestHeader};
use kafka_wire::messages::api_versions::{self, ApiRange, ApiVersionsResponse};
use kafka_wire::messages::{fetch, produce};
use kafka_wire::record_batch::{BatchBuilder, RecordRef, batches, patch_base_offset, validate_batch};
use sha2::{Digest, Sha256};

/// What goes wrong with the next request of an API.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// Nothing is done, this is the answer.
    Error(ErrorCode),
    /// It is done, and this is the answer all the same.
    ApplyThenError(ErrorCode),
    /// Nothing is done, the connection ends.
    Disconnect,
    /// It is done, then the connection ends without an answer.
    ApplyThenDisconnect,
    /// Nothing is done, nothing is said.
    Silence,
    /// It is done, nothing is said.
    ApplyThenSilence,
    /// These bytes come instead of an answer.
    Garbage(Vec<u8>),
    /// Nothing is done, the answer has the right header and then these bytes.
    GarbageBody(Vec<u8>),
    /// It is done; the answer comes when the test releases it.
    Hold,
    /// As the other; the answer comes when the test releases it.
    Late(Box<Fault>),
    /// It is done; the answer comes twice.
    Repeat,
    /// It is done; the answer comes after the next one on that connection.
    Overtaken,
    /// It is done, and the answer asks for quiet.
    Throttle(i32),
    /// INVALID_RECORD naming these positions of the batch.
    BadRecords(Vec<i32>),
}

#[derive(Clone, Debug, Default)]
pub struct PartitionModel {
    pub leader: i32,
    pub leader_epoch: i32,
    /// Values of the records, in order.
    pub log: Vec<Vec<u8>>,
    pub producers: BTreeMap<i64, ProducerModel>,
}

#[derive(Clone, Debug, Default)]
pub struct ProducerModel {
    sequence_next: i32,
    /// (base sequence, count, base offset) of the last five batches.
    recent: VecDeque<(i32, i32, i64)>,
}

#[derive(Clone, Debug, Default)]
pub struct TopicModel {
    pub id: u128,
    pub partitions: Vec<PartitionModel>,
    /// Largest batch taken.
    pub batch_bytes_max: Option<usize>,
    pub denied: bool,
}

/// One batch that reached a broker.
#[derive(Clone, Debug)]
pub struct BatchSeen {
    pub partition: i32,
    pub producer_id: i64,
    pub sequence: i32,
    pub values: Vec<String>,
}

/// One request that reached a broker.
#[derive(Clone, Debug)]
pub struct Seen {
    pub node: i32,
    pub conn: u32,
    pub api: ApiKey,
    pub version: i16,
    pub acks: i16,
    pub batches: Vec<BatchSeen>,
    /// Asked for in Metadata.
    pub topics: Vec<String>,
}

/// What becomes of a frame.
pub enum Reply {
    Answer(Vec<Bytes>),
    Held(Vec<Bytes>),
    Overtaken(Vec<Bytes>),
    Nothing,
    Close,
    /// A long poll: to be tried again when something was written, and when its wait is over.
    Parked(Poll),
}

/// A Fetch that waits for records.
pub struct Poll {
    pub wait_ms: u64,
    node: i32,
    header: RequestHeader,
    request: fetch::FetchRequest,
}

/// A connection as the broker sees it.
#[derive(Default)]
pub struct Session {
    scram: Option<(String, String)>,
    pub authenticated: bool,
}

pub struct Credentials {
    pub mechanism: &'static str,
    pub username: &'static str,
    pub password: &'static str,
}

/// The cluster.
pub struct Cluster {
    pub nodes: BTreeMap<i32, bool>,
    pub topics: BTreeMap<String, TopicModel>,
    pub script: Vec<(ApiKey, Fault)>,
    pub seen: Vec<Seen>,
    pub credentials: Option<Credentials>,
    pub session_lifetime_ms: i64,
    pub api_versions_max: i16,
    pub no_producer_ids: bool,
    /// Version range offered for Produce.
    pub produce_versions: (i16, i16),
    pub metadata_version_max: i16,
    pub leader_hints: bool,
    /// Where nodes listen that do not at 9092.
    pub ports: BTreeMap<i32, u16>,
    /// Metadata as from a broker that is only starting: with brokers or without, and this error.
    pub starting: Option<(bool, ErrorCode)>,
    /// Answers name topics and partitions in another order than the request.
    pub answers_backwards: bool,
    pub coordinators: BTreeMap<String, i32>,
    /// Restarted, and not told of any topic yet.
    pub amnesiacs: BTreeSet<i32>,
    /// Refuse our connections, and the others have not noticed.
    pub refusing: BTreeSet<i32>,
    /// Packets to them vanish: attempts to connect have no result.
    pub dark: BTreeSet<i32>,
    /// Take connections and bytes and say nothing.
    pub frozen: BTreeSet<i32>,
    /// Tell of topics what they knew when they began to lag behind.
    pub lagging: BTreeMap<i32, BTreeMap<String, TopicModel>>,
    /// InitProducerId, and Produce with a producer id, are refused.
    pub refuses_producer_ids: bool,
    /// Fetch waits for records and is answered with them, values one after the other; else it is answered at once with
    /// nothing.
    pub long_polls: bool,
    /// Long polls are answered as by a broker: each value in a batch, and by the partition's leader only.
    pub stores_batches: bool,
    /// What the one member of the group has committed.
    pub committed: BTreeMap<i32, i64>,
    /// Each of them, with its connection.
    pub polls: Vec<(u32, fetch::FetchRequest)>,
    /// Logs of topics that were deleted, by name and partition.
    pub graveyard: Vec<(String, usize, Vec<Vec<u8>>)>,
    producer_id_next: i64,
}

impl Cluster {
    /// Nodes 1 to `nodes` at `b1:9092` and so on, and one topic `t` with leaders in turn.
    pub fn new(nodes: i32, partitions: usize) -> Cluster {
        let mut cluster = Cluster {
            nodes: (1..=nodes).map(|node| (node, true)).collect(),
            topics: BTreeMap::new(),
            script: Vec::new(),
            seen: Vec::new(),
            credentials: None,
            session_lifetime_ms: 0,
            api_versions_max: 4,
            no_producer_ids: false,
            produce_versions: (0, 12),
            metadata_version_max: 13,
            leader_hints: false,
            ports: BTreeMap::new(),
            starting: None,
            answers_backwards: false,
            coordinators: BTreeMap::new(),
            amnesiacs: BTreeSet::new(),
            refusing: BTreeSet::new(),
            dark: BTreeSet::new(),
            frozen: BTreeSet::new(),
            lagging: BTreeMap::new(),
            refuses_producer_ids: false,
            long_polls: false,
            stores_batches: false,
            committed: BTreeMap::new(),
            polls: Vec::new(),
            graveyard: Vec::new(),
            producer_id_next: 100,
        };
        cluster.create("t", partitions);
        cluster
    }

    pub fn create(&mut self, name: &str, partitions: usize) {
        let nodes = self.nodes.len() as i32;
        let partitions = (0..partitions as i32)
            .map(|partition| PartitionModel { leader: partition % nodes + 1, leader_epoch: 1, ..Default::default() })
            .collect();
        let id = self.topics.len() as u128 + 1;
        self.topics.insert(name.into(), TopicModel { id, partitions, ..Default::default() });
    }

    /// From now on `node` tells of topics what they are now.
    pub fn lag(&mut self, node: i32) {
        self.lagging.insert(node, self.topics.clone());
    }

    /// Deletes a topic; its logs stay to be looked at.
    pub fn delete(&mut self, name: &str) -> Option<TopicModel> {
        let mut topic = self.topics.remove(name)?;
        for (index, partition) in topic.partitions.iter_mut().enumerate() {
            self.graveyard.push((name.to_owned(), index, std::mem::take(&mut partition.log)));
        }
        Some(topic)
    }

    pub fn fault(&mut self, api: ApiKey, fault: Fault) {
        self.script.push((api, fault));
    }

    pub fn log(&self, topic: &str, partition: usize) -> Vec<String> {
        let log = &self.topics[topic].partitions[partition].log;
        log.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    pub fn move_leader(&mut self, topic: &str, partition: usize, node: i32) {
        let partition = &mut self.topics.get_mut(topic).unwrap().partitions[partition];
        partition.leader = node;
        partition.leader_epoch += 1;
    }

    pub fn port(&self, node: i32) -> u16 {
        self.ports.get(&node).copied().unwrap_or(9092)
    }

    pub fn seen_produce(&self) -> Vec<&Seen> {
        self.seen.iter().filter(|seen| seen.api == ApiKey::Produce).collect()
    }

    fn take_fault(&mut self, api: ApiKey) -> Option<Fault> {
        let index = self.script.iter().position(|(wanted, _)| *wanted == api)?;
        Some(self.script.remove(index).1)
    }

    /// Node `node` got this frame on connection `conn`.
    pub fn handle(&mut self, node: i32, conn: u32, session: &mut Session, mut frame: Bytes) -> Reply {
        let header = header::decode_request_header(&mut frame).expect("the client writes good headers");
        let api = header.api().expect("the client asks for APIs that exist");
        let (fault, is_late) = match self.take_fault(api) {
            Some(Fault::Late(fault)) => (Some(*fault), true),
            fault => (fault, false),
        };
        match &fault {
            Some(Fault::Disconnect) => return Reply::Close,
            Some(Fault::Silence) => return Reply::Nothing,
            Some(Fault::Garbage(bytes)) => return Reply::Answer(vec![Bytes::from(bytes.clone())]),
            Some(Fault::GarbageBody(bytes)) => return Reply::Answer(vec![garbage_body(&header, bytes)]),
            _ => {}
        }
        assert!(
            self.credentials.is_none()
                || session.authenticated
                || matches!(api, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate),
            "{api} before authentication"
        );
        self.seen.push(Seen {
            node,
            conn,
            api,
            version: header.api_version,
            acks: 0,
            batches: Vec::new(),
            topics: Vec::new(),
        });
        if api == ApiKey::Fetch && self.long_polls && fault.is_none() {
            let request = fetch::decode_request(header.api_version, frame).expect("a good Fetch request");
            self.polls.push((conn, request.clone()));
            let poll = Poll { wait_ms: request.max_wait_ms as u64, node, header, request };
            return self.try_poll(&poll, poll.wait_ms == 0).map_or(Reply::Parked(poll), Reply::Answer);
        }
        let answer = match api {
            ApiKey::ApiVersions => Some(vec![self.api_versions(&header)]),
            ApiKey::Produce => self.produce(node, &header, frame, fault.as_ref()),
            ApiKey::Fetch => Some(self.fetch(&header, frame)),
            _ => {
                let request = cold::decode_request(api, header.api_version, frame).expect("a good request");
                let response = self.cold(node, session, request, fault.as_ref());
                let version = header.api_version;
                Some(vec![
                    cold::encode_response_frame(&response, api, version, header.correlation_id).expect("encodes"),
                ])
            }
        };
        match (fault, answer) {
            (Some(Fault::ApplyThenDisconnect), _) => Reply::Close,
            (Some(Fault::ApplyThenSilence), _) | (_, None) => Reply::Nothing,
            (Some(Fault::Hold), Some(answer)) => Reply::Held(answer),
            (Some(Fault::Overtaken), Some(answer)) => Reply::Overtaken(answer),
            (_, Some(answer)) if is_late => Reply::Held(answer),
            (Some(Fault::Repeat), Some(answer)) => Reply::Answer([&answer[..], &answer[..]].concat()),
            (_, Some(answer)) => Reply::Answer(answer),
        }
    }

    fn api_versions(&self, header: &RequestHeader) -> Bytes {
        if header.api_version > self.api_versions_max {
            return api_versions::encode_response_frame(0, header.correlation_id, &ApiVersionsResponse::unsupported());
        }
        let mut apis: Vec<ApiRange> = cold::apis()
            .filter(|api| !(self.no_producer_ids && *api == ApiKey::InitProducerId))
            .map(|api| ApiRange {
                key: api.key(),
                min: *cold::supported(api).start(),
                max: match api {
                    ApiKey::Metadata => self.metadata_version_max,
                    api => *cold::supported(api).end(),
                },
            })
            .collect();
        apis.push(ApiRange { key: 0, min: self.produce_versions.0, max: self.produce_versions.1 });
        apis.push(ApiRange { key: 1, min: 4, max: 17 });
        apis.push(ApiRange { key: 18, min: 0, max: self.api_versions_max });
        let answer = ApiVersionsResponse { error: ErrorCode::NONE, apis, throttle_time_ms: 0 };
        api_versions::encode_response_frame(header.api_version, header.correlation_id, &answer)
    }

    fn fetch(&mut self, header: &RequestHeader, frame: Bytes) -> Vec<Bytes> {
        fetch::decode_request(header.api_version, frame).expect("a good Fetch request");
        let answer =
            fetch::FetchResponse { throttle_time_ms: 0, error: ErrorCode::NONE, session_id: 0, topics: Vec::new() };
        fetch::encode_response_frame(header.api_version, header.correlation_id, &answer)
    }

    /// The answer to a long poll, if there is something to tell or its wait is over.
    pub fn try_poll(&self, poll: &Poll, is_over: bool) -> Option<Vec<Bytes>> {
        let (mut bytes_left, mut has_news) = (poll.request.max_bytes as usize, false);
        let mut topics = Vec::new();
        for asked in &poll.request.topics {
            let by_name = std::str::from_utf8(&asked.name).ok().and_then(|name| self.topics.get(name));
            let topic = by_name.or_else(|| self.topics.values().find(|topic| topic.id.to_be_bytes() == asked.id));
            let mut partitions = Vec::new();
            for partition in &asked.partitions {
                let found = topic.and_then(|topic| topic.partitions.get(partition.index as usize));
                let code = match found {
                    None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    Some(found) if self.stores_batches && found.leader != poll.node => {
                        ErrorCode::NOT_LEADER_OR_FOLLOWER
                    }
                    Some(_) => ErrorCode::NONE,
                };
                let found = found.filter(|_| code == ErrorCode::NONE);
                let mut answer = fetch::FetchedPartition::empty(partition.index, code);
                let log = found.map(|found| &found.log[..]).unwrap_or_default();
                answer.high_watermark = log.len() as i64;
                let mut records = BytesMut::new();
                let mut room = bytes_left.min(partition.partition_max_bytes as usize);
                for (offset, value) in log.iter().enumerate().skip(partition.fetch_offset as usize) {
                    let value = if self.stores_batches { &batch(offset as i64, value)[..] } else { &value[..] };
                    if value.len() > room && (has_news || !records.is_empty()) {
                        break;
                    }
                    room = room.saturating_sub(value.len());
                    records.extend_from_slice(value);
                }
                bytes_left = bytes_left.saturating_sub(records.len());
                has_news |= !records.is_empty() || found.is_none();
                answer.records = records.freeze();
                partitions.push(answer);
            }
            topics.push(fetch::FetchedTopic { name: asked.name.clone(), id: asked.id, partitions });
        }
        let answer = fetch::FetchResponse { topics, ..Default::default() };
        let Poll { header, .. } = poll;
        (has_news || is_over).then(|| fetch::encode_response_frame(header.api_version, header.correlation_id, &answer))
    }

    fn produce(
        &mut self,
        node: i32,
        header: &RequestHeader,
        frame: Bytes,
        fault: Option<&Fault>,
    ) -> Option<Vec<Bytes>> {
        let request = produce::decode_request(header.api_version, frame).expect("a good Produce request");
        let mut answer = produce::ProduceResponse::default();
        if let Some(Fault::Throttle(throttle_time_ms)) = fault {
            answer.throttle_time_ms = *throttle_time_ms;
        }
        let mut seen = Vec::new();
        for topic in &request.topics {
            let name = std::str::from_utf8(&topic.name).unwrap().to_owned();
            let mut partitions = Vec::new();
            for partition in &topic.partitions {
                let records = partition.records.clone().expect("there are records");
                seen.push(describe(partition.index, &records));
                let mut result = match fault {
                    Some(Fault::Error(code)) => produce::PartitionResult::refused(partition.index, *code),
                    Some(Fault::BadRecords(positions)) => {
                        let mut result = produce::PartitionResult::refused(partition.index, ErrorCode::INVALID_RECORD);
                        result.record_errors = positions.iter().map(|position| (*position, None)).collect();
                        result
                    }
                    // Only acks=all appends before it finds out; see `producer::verdict`.
                    Some(Fault::ApplyThenError(code)) if request.acks != -1 => {
                        produce::PartitionResult::refused(partition.index, *code)
                    }
                    _ => self.append(node, &name, partition.index, records),
                };
                if let (Some(Fault::ApplyThenError(code)), -1) = (fault, request.acks) {
                    result.error = *code; // with the offset, as Kafka's DelayedProduce
                }
                partitions.push(result);
            }
            answer.topics.push(produce::TopicResult { name: topic.name.clone(), partitions });
        }
        if self.answers_backwards {
            answer.topics.iter_mut().for_each(|topic| topic.partitions.reverse());
            answer.topics.reverse();
        }
        let last = self.seen.last_mut().unwrap();
        last.acks = request.acks;
        last.batches = seen;
        (request.acks != 0)
            .then(|| vec![produce::encode_response_frame(header.api_version, header.correlation_id, &answer)])
    }

    fn append(&mut self, node: i32, topic: &str, index: i32, records: Bytes) -> produce::PartitionResult {
        let refused = |code| produce::PartitionResult::refused(index, code);
        if self.amnesiacs.contains(&node) {
            return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        let Some(topic) = self.topics.get_mut(topic) else { return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) };
        if topic.denied {
            return refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        }
        let Some(partition) = topic.partitions.get_mut(index as usize) else {
            return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        if partition.leader != node {
            let mut result = refused(ErrorCode::NOT_LEADER_OR_FOLLOWER);
            if self.leader_hints {
                result.current_leader = Some((partition.leader, partition.leader_epoch));
            }
            return result;
        }
        if topic.batch_bytes_max.is_some_and(|max| records.len() > max) {
            return refused(ErrorCode::MESSAGE_TOO_LARGE);
        }
        let batch = validate_batch(&records).expect("the client writes good batches");
        let base_offset = partition.log.len() as i64;
        if batch.producer_id >= 0 && self.refuses_producer_ids {
            return refused(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
        }
        if batch.producer_id >= 0 {
            let fresh = !partition.producers.contains_key(&batch.producer_id);
            let producer = partition.producers.entry(batch.producer_id).or_default();
            let known = producer
                .recent
                .iter()
                .find(|(base, count, _)| (*base, *count) == (batch.base_sequence, batch.record_count));
            if let Some((_, _, offset)) = known {
                return produce::PartitionResult::stored(index, *offset, -1, 0);
            }
            if !fresh && batch.base_sequence != producer.sequence_next {
                return refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
            producer.sequence_next = batch.base_sequence + batch.record_count;
            producer.recent.push_back((batch.base_sequence, batch.record_count, base_offset));
            if producer.recent.len() > 5 {
                producer.recent.pop_front();
            }
        }
        partition.log.extend(values(&records));
        produce::PartitionResult::stored(index, base_offset, -1, 0)
    }

    fn cold(&mut self, node: i32, session: &mut Session, request: RequestKind, fault: Option<&Fault>) -> ResponseKind {
        let error = match fault {
            Some(Fault::Error(code)) => code.0,
            _ => 0,
        };
        match request {
            RequestKind::Metadata(request) => {
                let names = request.topics.iter().flatten().filter_map(|topic| Some(topic.name.as_ref()?.to_string()));
                self.seen.last_mut().expect("noted above").topics = names.collect();
                ResponseKind::Metadata(self.metadata(node, request, error))
            }
            RequestKind::InitProducerId(request) => {
                assert_eq!((request.producer_id.0, request.producer_epoch), (-1, -1), "a new one is asked for");
                self.producer_id_next += 1;
                let error = match error {
                    0 if self.refuses_producer_ids => ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0,
                    error => error,
                };
                let answer = types::InitProducerIdResponse::default().with_error_code(error);
                ResponseKind::InitProducerId(
                    answer.with_producer_id(self.producer_id_next.into()).with_producer_epoch(0),
                )
            }
            RequestKind::FindCoordinator(request) => {
                let key = request.coordinator_keys.first().cloned().unwrap_or(request.key);
                let found = self.coordinators.get(key.as_str()).copied().unwrap_or(node);
                let (host, port) = (StrBytes::from_string(format!("b{found}")), self.port(found).into());
                let entry = types::find_coordinator_response::Coordinator::default()
                    .with_key(key)
                    .with_error_code(error)
                    .with_node_id(found.into())
                    .with_host(host)
                    .with_port(port);
                ResponseKind::FindCoordinator(types::FindCoordinatorResponse::default().with_coordinators(vec![entry]))
            }
            RequestKind::Heartbeat(_) => {
                ResponseKind::Heartbeat(types::HeartbeatResponse::default().with_error_code(error))
            }
            RequestKind::JoinGroup(request) => {
                let answer = types::JoinGroupResponse::default().with_error_code(error).with_generation_id(1);
                let member = types::join_group_response::JoinGroupResponseMember::default()
                    .with_member_id(StrBytes::from_static_str("m1"))
                    .with_metadata(request.protocols[0].metadata.clone());
                let answer = answer.with_protocol_type(Some(request.protocol_type));
                ResponseKind::JoinGroup(
                    answer
                        .with_protocol_name(Some(request.protocols[0].name.clone()))
                        .with_leader(member.member_id.clone())
                        .with_member_id(member.member_id.clone())
                        .with_members(vec![member]),
                )
            }
            RequestKind::SyncGroup(request) => {
                let share = request.assignments.first().map(|share| share.assignment.clone()).unwrap_or_default();
                let answer = types::SyncGroupResponse::default().with_error_code(error).with_assignment(share);
                let answer = answer.with_protocol_type(request.protocol_type);
                ResponseKind::SyncGroup(answer.with_protocol_name(request.protocol_name))
            }
            RequestKind::LeaveGroup(_) => {
                ResponseKind::LeaveGroup(types::LeaveGroupResponse::default().with_error_code(error))
            }
            RequestKind::OffsetFetch(request) => ResponseKind::OffsetFetch(self.tell_offsets(&request)),
            RequestKind::OffsetCommit(request) => ResponseKind::OffsetCommit(self.commit(&request)),
            RequestKind::ListOffsets(request) => ResponseKind::ListOffsets(beginnings(&request)),
            RequestKind::SaslHandshake(request) => {
                let wanted = self.credentials.as_ref().expect("SASL is on").mechanism;
                let code =
                    if request.mechanism.as_str() == wanted { 0 } else { ErrorCode::UNSUPPORTED_SASL_MECHANISM.0 };
                let answer = types::SaslHandshakeResponse::default().with_error_code(code);
                ResponseKind::SaslHandshake(answer.with_mechanisms(vec![StrBytes::from_static_str(wanted)]))
            }
            RequestKind::SaslAuthenticate(request) => {
                let answer =
                    types::SaslAuthenticateResponse::default().with_session_lifetime_ms(self.session_lifetime_ms);
                ResponseKind::SaslAuthenticate(match self.authenticate(session, &request.auth_bytes) {
                    Ok(bytes) => answer.with_auth_bytes(bytes.into()),
                    Err(()) => answer
                        .with_error_code(ErrorCode::SASL_AUTHENTICATION_FAILED.0)
                        .with_error_message(Some(StrBytes::from_static_str("invalid credentials"))),
                })
            }
            other => panic!("the model has no {other:?}"),
        }
    }

    fn tell_offsets(&self, request: &types::OffsetFetchRequest) -> types::OffsetFetchResponse {
        use types::offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
        };
        let asked = &request.groups[0];
        let topics = asked.topics.iter().flatten().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                OffsetFetchResponsePartitions::default()
                    .with_partition_index(*index)
                    .with_committed_offset(self.committed.get(index).copied().unwrap_or(-1))
            });
            OffsetFetchResponseTopics::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        let group = OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone());
        types::OffsetFetchResponse::default().with_groups(vec![group.with_topics(topics.collect())])
    }

    fn commit(&mut self, request: &types::OffsetCommitRequest) -> types::OffsetCommitResponse {
        use types::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                self.committed.insert(partition.partition_index, partition.committed_offset);
                OffsetCommitResponsePartition::default().with_partition_index(partition.partition_index)
            });
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        types::OffsetCommitResponse::default().with_topics(topics.collect())
    }

    fn metadata(&self, node: i32, request: types::MetadataRequest, error: i16) -> types::MetadataResponse {
        let brokers = self.nodes.iter().filter(|(_, up)| **up).map(|(node, _)| {
            types::metadata_response::MetadataResponseBroker::default()
                .with_node_id((*node).into())
                .with_host(StrBytes::from_string(format!("b{node}")))
                .with_port(self.port(*node).into())
        });
        let request_may_create = request.allow_auto_topic_creation;
        let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
            let name = topic.name.clone().unwrap();
            let answer = types::metadata_response::MetadataResponseTopic::default().with_name(topic.name);
            let known = self.lagging.get(&node).unwrap_or(&self.topics);
            let Some(topic) = known.get(name.as_str()).filter(|_| error == 0 && !self.amnesiacs.contains(&node)) else {
                let code = if error != 0 { error } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0 };
                return answer.with_error_code(code);
            };
            if topic.denied {
                return answer.with_error_code(ErrorCode::TOPIC_AUTHORIZATION_FAILED.0);
            }
            let partitions = topic.partitions.iter().enumerate().rev().map(|(index, partition)| {
                let up = self.nodes.get(&partition.leader).copied().unwrap_or(false);
                types::metadata_response::MetadataResponsePartition::default()
                    .with_partition_index(index as i32)
                    .with_error_code(if up { 0 } else { ErrorCode::LEADER_NOT_AVAILABLE.0 })
                    .with_leader_id(if up { partition.leader } else { -1 }.into())
                    .with_leader_epoch(partition.leader_epoch)
            });
            let partitions = partitions.collect();
            let id = format!("{:032x}", topic.id).parse().expect("a topic id");
            answer.with_topic_id(id).with_partitions(partitions)
        });
        let mut topics: Vec<_> = topics.collect();
        if self.answers_backwards {
            topics.reverse();
        }
        let (with_brokers, error) = self.starting.unwrap_or((true, ErrorCode::NONE));
        let version = self.seen.last().expect("noted above").version;
        assert!(!request_may_create || version < 4, "topics are not made by asking for them");
        types::MetadataResponse::default()
            .with_error_code(error.0)
            .with_brokers(brokers.filter(|_| with_brokers).collect())
            .with_controller_id(1.into())
            .with_topics(topics)
    }

    /// The server's side of PLAIN and SCRAM-SHA-256.
    fn authenticate(&self, session: &mut Session, message: &[u8]) -> Result<Vec<u8>, ()> {
        let credentials = self.credentials.as_ref().ok_or(())?;
        let text = std::str::from_utf8(message).map_err(|_| ())?;
        if credentials.mechanism == "PLAIN" {
            session.authenticated = text == format!("\0{}\0{}", credentials.username, credentials.password);
            return if session.authenticated { Ok(Vec::new()) } else { Err(()) };
        }
        let Some((first_bare, server_first)) = session.scram.take() else {
            let bare = text.strip_prefix("n,,").ok_or(())?.to_owned();
            let nonce = bare.split(",r=").nth(1).ok_or(())?;
            let server_first = format!("r={nonce}SERVER,s={},i=4096", STANDARD.encode("pepper and salt"));
            session.scram = Some((bare, server_first.clone()));
            return Ok(server_first.into_bytes());
        };
        let (without_proof, proof) = text.split_once(",p=").ok_or(())?;
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(credentials.password.as_bytes(), b"pepper and salt", 4096);
        let auth_message = format!("{first_bare},{server_first},{without_proof}");
        let stored_key = Sha256::digest(mac(&salted, b"Client Key"));
        let signature = mac(&stored_key, auth_message.as_bytes());
        let proof = STANDARD.decode(proof).map_err(|_| ())?;
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, signature)| proof ^ signature).collect();
        let name_matches = first_bare.starts_with(&format!("n={},", credentials.username));
        if Sha256::digest(&client_key) != stored_key || !name_matches {
            return Err(());
        }
        session.authenticated = true;
        let signature = mac(&mac(&salted, b"Server Key"), auth_message.as_bytes());
        Ok(format!("v={}", STANDARD.encode(signature)).into_bytes())
    }
}

/// Logs begin at 0.
fn beginnings(request: &types::ListOffsetsRequest) -> types::ListOffsetsResponse {
    use types::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index).with_offset(0)
        });
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    types::ListOffsetsResponse::default().with_topics(topics.collect())
}

/// A batch of one record, as the log has it.
fn batch(offset: i64, value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::with_capacity(value.len());
    builder.append(&RecordRef { timestamp_ms: 1, key: None, value: Some(value), headers: &[] });
    let mut sealed = builder.seal(Compression::None);
    sealed.stamp(-1, 0, 0);
    let mut bytes = sealed.to_bytes().to_vec();
    patch_base_offset(&mut bytes, offset, 0);
    bytes
}

fn garbage_body(header: &RequestHeader, bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::from(&[0; 4][..]);
    header::encode_response_header(&mut frame, header.api().unwrap(), header.api_version, header.correlation_id);
    frame.extend_from_slice(bytes);
    let length = frame.len() as u32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn values(records: &Bytes) -> Vec<Vec<u8>> {
    let batch = batches(records.clone()).next().unwrap().unwrap();
    let records = batch.records(1 << 26).unwrap();
    records.map(|record| record.unwrap().value.unwrap_or_default().to_vec()).collect()
}

fn describe(partition: i32, records: &Bytes) -> BatchSeen {
    let header = validate_batch(records).expect("the client writes good batches");
    BatchSeen {
        partition,
        producer_id: header.producer_id,
        sequence: header.base_sequence,
        values: values(records).iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect(),
    }
}
