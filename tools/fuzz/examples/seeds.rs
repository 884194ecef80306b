//! Writes the seeds of the Kafka targets from our own encoders: small, one of each shape, every version's ends.
//! libFuzzer does the rest. The HTTP seeds are written by hand.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, ResponseKind, StrBytes, types};
use kafka_wire::compression::Compression;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::header::{decode_request_header, decode_response_header};
use kafka_wire::messages::fetch::{
    self, FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition, FetchedTopic,
};
use kafka_wire::messages::produce::{
    self, NodeEndpoint, OutPartition, OutTopic, PartitionResult, ProduceResponse, TopicResult,
};
use kafka_wire::messages::{ApiRange, ApiVersionsResponse, api_versions};
use kafka_wire::record_batch::{BatchBuilder, HeaderRef, RecordRef, SealedBatch};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn main() {
    batches();
    produce();
    fetch();
    api_versions();
    cold_responses();
}

fn save(target: &str, name: &str, bytes: &[u8]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir).expect("the corpus can be written");
    fs::write(dir.join(format!("{name}.bin")), bytes).expect("the corpus can be written");
}

fn batch(compression: Compression) -> SealedBatch {
    let mut builder = BatchBuilder::with_capacity(512);
    let headers = [HeaderRef { name: b"trace", value: Some(b"4bf92f35") }, HeaderRef { name: b"trace", value: None }];
    let record = |key, value, headers| RecordRef { timestamp_ms: 1_795_362_345_000, key, value, headers };
    builder.append(&record(Some(b"k"), Some(b"value value value value"), &headers[..]));
    builder.append(&record(None, Some(b""), &[]));
    builder.append(&record(Some(b""), None, &[]));
    let mut sealed = builder.seal(compression);
    sealed.stamp(7, 1, 40);
    sealed
}

fn batches() {
    for codec in CODECS {
        let bytes = batch(codec).to_bytes();
        save("record_batch", codec.name(), &bytes);
        if codec == Compression::None {
            save("record_batch", "two_batches_the_second_cut_off", &[&bytes[..], &bytes[..80]].concat());
        }
    }
}

/// A frame without its length and header, behind the byte that says the version.
fn request_body(version: i16, frame: &[u8]) -> Vec<u8> {
    let mut rest = Bytes::copy_from_slice(&frame[4..]);
    decode_request_header(&mut rest).expect("we wrote it");
    [&[version_byte(version)], &rest[..]].concat()
}

fn response_body(api: ApiKey, version: i16, frame: &[u8]) -> Vec<u8> {
    let mut rest = Bytes::copy_from_slice(&frame[4..]);
    decode_response_header(&mut rest, api, version).expect("we wrote it");
    rest.to_vec()
}

fn version_byte(version: i16) -> u8 {
    u8::try_from(version).expect("versions are small")
}

fn produce() {
    for version in [3, 8, 9, 12] {
        let sealed = [batch(Compression::None), batch(Compression::Lz4)];
        let partitions = [0, 1].map(|index| OutPartition { index, batch: &sealed[index as usize] });
        let topics = [OutTopic { name: "app1.orders.v1", partitions: &partitions }];
        let frame = produce::encode_request_frame(version, 1, "seed", -1, 1000, &topics).concat();
        save("kafka_frame", &format!("produce_v{version}"), &frame);
        save("kafka_produce_request", &format!("v{version}"), &request_body(version, &frame));

        let refused = PartitionResult {
            record_errors: vec![(1, Some("too old".to_owned()))],
            error_message: Some("refused".to_owned()),
            current_leader: Some((2, 5)),
            ..PartitionResult::refused(1, ErrorCode(6))
        };
        let response = ProduceResponse {
            topics: vec![TopicResult {
                name: Bytes::from_static(b"app1.orders.v1"),
                id: *b"an id of a topic",
                partitions: vec![PartitionResult::stored(0, 1234, -1, 0), refused],
            }],
            throttle_time_ms: 7,
            node_endpoints: vec![NodeEndpoint { id: 2, host: "b2".to_owned(), port: 9092, rack: Some("r".to_owned()) }],
        };
        let frame = produce::encode_response_frame(version, 1, &response);
        let body = response_body(ApiKey::Produce, version, &frame);
        save("kafka_produce_response", &format!("v{version}"), &[&[version_byte(version)], &body[..]].concat());
    }
}

fn fetch() {
    for version in [4, 7, 11, 12] {
        let request = FetchRequest {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1 << 20,
            topics: vec![FetchTopic {
                name: Bytes::from_static(b"app1.orders.v1"),
                id: *b"an id of a topic",
                partitions: vec![FetchPartition::consumer(0, 5, 1 << 20)],
            }],
            ..FetchRequest::default()
        };
        let frame = fetch::encode_request_frame(version, 2, "seed", &request);
        save("kafka_frame", &format!("fetch_v{version}"), &frame);

        let records = [batch(Compression::None).to_bytes(), batch(Compression::Zstd).to_bytes()].concat();
        let full = FetchedPartition {
            high_watermark: 9,
            last_stable_offset: 9,
            log_start_offset: 0,
            aborted: vec![(7, 3)],
            records: Bytes::from(records),
            current_leader: Some((1, 4)),
            ..FetchedPartition::empty(0, ErrorCode::NONE)
        };
        let empty = FetchedPartition::empty(1, ErrorCode::OFFSET_OUT_OF_RANGE);
        let (name, id) = (Bytes::from_static(b"app1.orders.v1"), *b"an id of a topic");
        let topic = FetchedTopic { name, id, partitions: vec![full, empty] };
        let response = FetchResponse { session_id: 3, topics: vec![topic], ..FetchResponse::default() };
        let frame = fetch::encode_response_frame(version, 2, &response).concat();
        let body = response_body(ApiKey::Fetch, version, &frame);
        save("kafka_fetch_response", &format!("v{version}"), &[&[version_byte(version)], &body[..]].concat());
    }
}

fn api_versions() {
    for version in [0, 3] {
        let frame = api_versions::encode_request_frame(version, 3, "seed", "gafka", "0.1");
        save("kafka_frame", &format!("api_versions_v{version}"), &frame);
        let apis = vec![ApiRange { key: 0, min: 3, max: 12 }, ApiRange { key: 18, min: 0, max: 4 }];
        let response = ApiVersionsResponse { error: ErrorCode::NONE, apis, throttle_time_ms: 0 };
        let frame = api_versions::encode_response_frame(version, 3, &response);
        let body = response_body(ApiKey::ApiVersions, version, &frame);
        save("kafka_api_versions_response", &format!("v{version}"), &[&[version_byte(version)], &body[..]].concat());
    }
    let frame = api_versions::encode_response_frame(0, 3, &ApiVersionsResponse::unsupported());
    let body = response_body(ApiKey::ApiVersions, 0, &frame);
    save("kafka_api_versions_response", "unsupported_v0_body", &[&[3], &body[..]].concat());
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn cold_responses() {
    let topic = || types::TopicName(text("app1.orders.v1"));
    let group = || types::GroupId(text("app1.g"));
    let broker = types::metadata_response::MetadataResponseBroker::default()
        .with_node_id(types::BrokerId(1))
        .with_host(text("b1"))
        .with_port(9092);
    let partition = types::metadata_response::MetadataResponsePartition::default()
        .with_leader_id(types::BrokerId(1))
        .with_replica_nodes(vec![types::BrokerId(1)])
        .with_isr_nodes(vec![types::BrokerId(1)]);
    let metadata_topic = types::metadata_response::MetadataResponseTopic::default()
        .with_name(Some(topic()))
        .with_partitions(vec![partition]);
    let metadata = types::MetadataResponse::default()
        .with_brokers(vec![broker])
        .with_cluster_id(Some(text("cluster")))
        .with_topics(vec![metadata_topic]);
    let subscription = types::ConsumerProtocolSubscription::default().with_topics(vec![text("app1.orders.v1")]);
    let subscription = cold::encode_subscription(0, &subscription).expect("a plain subscription");
    save("kafka_cold_response", "subscription", &[&[0, 0], &subscription[..]].concat());
    let member = types::join_group_response::JoinGroupResponseMember::default()
        .with_member_id(text("m-1"))
        .with_metadata(subscription);
    let join = types::JoinGroupResponse::default()
        .with_generation_id(3)
        .with_protocol_name(Some(text("range")))
        .with_leader(text("m-1"))
        .with_member_id(text("m-1"))
        .with_members(vec![member]);
    let offset = types::list_offsets_response::ListOffsetsPartitionResponse::default().with_offset(17);
    let offsets = types::list_offsets_response::ListOffsetsTopicResponse::default()
        .with_name(topic())
        .with_partitions(vec![offset]);
    let offsets = types::ListOffsetsResponse::default().with_topics(vec![offsets]);
    let described = types::describe_groups_response::DescribedGroup::default().with_group_id(group());
    let described = types::DescribeGroupsResponse::default().with_groups(vec![described]);
    let responses = [
        ResponseKind::Metadata(metadata),
        ResponseKind::JoinGroup(join),
        ResponseKind::ListOffsets(offsets),
        ResponseKind::DescribeGroups(described),
        ResponseKind::FindCoordinator(types::FindCoordinatorResponse::default()),
        ResponseKind::SyncGroup(
            types::SyncGroupResponse::default().with_assignment(Bytes::from_static(b"\0\0\0\0\0\0")),
        ),
        ResponseKind::Heartbeat(types::HeartbeatResponse::default()),
        ResponseKind::InitProducerId(types::InitProducerIdResponse::default()),
        ResponseKind::CreateTopics(types::CreateTopicsResponse::default()),
        ResponseKind::OffsetCommit(types::OffsetCommitResponse::default()),
        ResponseKind::OffsetFetch(types::OffsetFetchResponse::default()),
        ResponseKind::SaslHandshake(types::SaslHandshakeResponse::default().with_mechanisms(vec![text("PLAIN")])),
        ResponseKind::SaslAuthenticate(types::SaslAuthenticateResponse::default()),
    ];
    for response in &responses {
        save_cold(response);
    }
}

/// The response in every version that can carry it.
fn save_cold(response: &ResponseKind) {
    let name = format!("{response:?}").split('(').next().unwrap_or_default().to_ascii_lowercase();
    for (index, api) in cold::apis().enumerate().filter(|(_, api)| api.name().eq_ignore_ascii_case(&name)) {
        let versions = cold::supported(api);
        for version in versions.clone() {
            let Ok(frame) = cold::encode_response_frame(response, api, version, 4) else { continue };
            let body = response_body(api, version, &frame);
            let head = [index, usize::try_from(version - versions.start()).unwrap_or(0)].map(|byte| byte as u8);
            if version == *versions.start() || version == *versions.end() {
                save("kafka_cold_response", &format!("{name}_v{version}"), &[&head[..], &body[..]].concat());
            }
        }
    }
}
