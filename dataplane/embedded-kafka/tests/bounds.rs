//! What a request can make the broker do grows with the request: names of any length, things named many times.

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Client, TestBroker, batch, batch_at, fetch_request, group_id, text, today_ms, topic_name};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::types::create_topics_request::CreatableTopic;
use kafka_wire::cold::types::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::cold::types::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::cold::types::metadata_request::MetadataRequestTopic;
use kafka_wire::cold::types::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::cold::types::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_wire::cold::types::*;
use kafka_wire::cold::{self, RequestKind, ResponseKind};
use kafka_wire::compression::Compression;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{self, FetchPartition};
use kafka_wire::messages::produce;
use kafka_wire::record_batch::{BatchBuilder, RecordRef};

/// Far below what anything quadratic takes, far above what a busy machine needs.
const SOON: Duration = Duration::from_secs(5);

/// Sends a request; the size of its frame and of the answer's.
fn sizes(client: &mut Client, api: ApiKey, version: i16, request: RequestKind) -> (usize, usize) {
    let id = client.next_id();
    let frame = cold::encode_request_frame(&request, version, id, "test").unwrap();
    client.send(&frame);
    (frame.len(), client.receive_body(api, version, id).len())
}

#[test]
fn a_name_of_any_length_is_answered_in_every_version_of_produce_and_fetch() {
    // One frame with a name of 32,767 bytes stopped the broker: the sentence that refused it could not be encoded.
    for null in [false, true] {
        let broker = TestBroker::with(|config| config.null = null);
        let sealed = batch(&["a"]);
        for length in [0, 1, 249, 250, 32_700, 32_766, 32_767] {
            let name = "x".repeat(length);
            for version in produce::VERSIONS {
                let mut client = broker.client();
                let partitions = [produce::OutPartition { index: 0, batch: &sealed }];
                let topics = [produce::OutTopic { name: &name, partitions: &partitions }];
                client.send(&produce::encode_request_frame(version, 1, "test", -1, 1000, &topics).concat());
                let body = client.receive_body(ApiKey::Produce, version, 1);
                let response = produce::decode_response(version, body).unwrap();
                assert_eq!(response.topics[0].name, name.as_bytes());
                assert!(null || response.topics[0].partitions[0].error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            }
            for version in fetch::VERSIONS {
                let mut client = broker.client();
                client.send(&fetch::encode_request_frame(version, 1, "test", &fetch_request(&name, 0, 0, 0)));
                let body = client.receive_body(ApiKey::Fetch, version, 1);
                fetch::decode_response(version, body).unwrap();
            }
        }
        assert_eq!(broker.client().create("still-here", 1), ErrorCode::NONE);
    }
}

#[test]
fn long_ids_of_a_member_are_cut_or_refused_and_never_make_an_answer_that_cannot_be_written() {
    let broker = TestBroker::start();
    let join = |instance: Option<&str>| {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        let request = JoinGroupRequest::default()
            .with_group_id(group_id("g"))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(100)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol.with_metadata(Bytes::from_static(b"topics"))]);
        RequestKind::JoinGroup(request.with_group_instance_id(instance.map(text)))
    };
    for version in [5, 9] {
        for (client_id, instance, expected) in [
            ("c".repeat(32_767), None, ErrorCode::MEMBER_ID_REQUIRED),
            ("c".to_owned(), Some("i".repeat(250)), ErrorCode::INVALID_REQUEST),
            ("c".to_owned(), Some("i".repeat(32_767)), ErrorCode::INVALID_REQUEST),
        ] {
            let mut client = broker.client();
            client.send(&cold::encode_request_frame(&join(instance.as_deref()), version, 1, &client_id).unwrap());
            let body = client.receive_body(ApiKey::JoinGroup, version, 1);
            match cold::decode_response(ApiKey::JoinGroup, version, body).unwrap() {
                ResponseKind::JoinGroup(joined) => {
                    assert_eq!(ErrorCode(joined.error_code), expected);
                    assert!(joined.member_id.len() < 300, "{}", joined.member_id.len());
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_topic_asked_for_many_times_is_described_once() {
    // 1,225 bytes asked, 104 MB were answered out of 800 MB of memory.
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1_000);
    let ask = |times: usize| {
        let topics = vec![MetadataRequestTopic::default().with_name(Some(topic_name("t"))); times];
        RequestKind::Metadata(MetadataRequest::default().with_topics(Some(topics)))
    };
    let (_, once) = sizes(&mut client, ApiKey::Metadata, 9, ask(1));
    let (_, often) = sizes(&mut client, ApiKey::Metadata, 9, ask(400));
    assert_eq!(once, often);
}

#[test]
fn offsets_asked_for_many_times_are_answered_once() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let partition = partition.with_committed_metadata(Some(text(&"m".repeat(4_000))));
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let commit = OffsetCommitRequest::default().with_group_id(group_id("g")).with_topics(vec![topic]);
    client.cold(ApiKey::OffsetCommit, 7, RequestKind::OffsetCommit(commit));
    let ask = |groups: usize, topics: usize, partitions: usize| {
        let topic = OffsetFetchRequestTopics::default().with_name(topic_name("t"));
        let topic = topic.with_partition_indexes(vec![0; partitions]);
        let topics = (topics > 0).then(|| vec![topic; topics]);
        let group = OffsetFetchRequestGroup::default().with_group_id(group_id("g")).with_topics(topics);
        RequestKind::OffsetFetch(OffsetFetchRequest::default().with_groups(vec![group; groups]))
    };
    let (_, once) = sizes(&mut client, ApiKey::OffsetFetch, 8, ask(1, 1, 1));
    for (groups, topics, partitions) in [(1, 1, 1_000), (1, 1_000, 1), (1_000, 1, 1), (1_000, 0, 0)] {
        let (_, often) = sizes(&mut client, ApiKey::OffsetFetch, 8, ask(groups, topics, partitions));
        assert_eq!(once, often, "{groups} groups, {topics} topics, {partitions} partitions");
    }
}

#[test]
fn a_topic_named_twice_is_refused_once_and_many_topics_take_no_quadratic_time() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    let new = |name: &str, partitions| {
        let topic = CreatableTopic::default().with_name(topic_name(name));
        topic.with_num_partitions(partitions).with_replication_factor(1)
    };
    let mut create = |topics: Vec<CreatableTopic>, validate_only: bool| {
        let request = CreateTopicsRequest::default().with_topics(topics).with_validate_only(validate_only);
        match client.cold(ApiKey::CreateTopics, 5, RequestKind::CreateTopics(request)) {
            ResponseKind::CreateTopics(response) => {
                let results =
                    response.topics.iter().map(|topic| (topic.name.0.to_string(), ErrorCode(topic.error_code)));
                results.collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let result = |name: &str, code| (name.to_owned(), code);
    let answered = create(vec![new("a", 1), new("b", 1), new("a", 1)], false);
    assert_eq!(answered, [result("a", ErrorCode::INVALID_REQUEST), result("b", ErrorCode::NONE)]);
    let answered = create(vec![new("c", 9_999), new("d", 2), new("e", 10_001)], true);
    let expected = [ErrorCode::NONE, ErrorCode::POLICY_VIOLATION, ErrorCode::POLICY_VIOLATION];
    assert_eq!(answered.into_iter().map(|(_, code)| code).collect::<Vec<_>>(), expected);
    let begin = Instant::now();
    let many = create((0..200_000).map(|n| new(&format!("n{n}"), 1)).collect(), true);
    assert_eq!(many.iter().filter(|(_, code)| code.is_none()).count(), 10_000);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[test]
fn a_partition_asked_for_again_is_not_looked_at_again() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    let now = today_ms();
    client.produce_batch(-1, "t", 0, &batch_at(now, &["a", "b"]));
    // By time: once each batch was decompressed for every entry.
    let asked = ListOffsetsPartition::default().with_timestamp(now + 1).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(topic_name("t"));
    let ask = |topics| RequestKind::ListOffsets(ListOffsetsRequest::default().with_topics(topics));
    let listed = client.cold(ApiKey::ListOffsets, 7, ask(vec![topic.clone().with_partitions(vec![asked.clone(); 3])]));
    let ResponseKind::ListOffsets(listed) = listed else { panic!("{listed:?}") };
    assert_eq!((listed.topics.len(), listed.topics[0].partitions.len()), (1, 1));
    assert_eq!(ErrorCode(listed.topics[0].partitions[0].error_code), ErrorCode::INVALID_REQUEST);
    let often = ask(vec![topic.with_partitions(vec![asked]); 1_000]);
    let (_, answered) = sizes(&mut client, ApiKey::ListOffsets, 7, often);
    assert!(answered < 100, "{answered}");

    // A waiting fetch that names a partition often: entering and leaving its list was quadratic.
    let mut request = fetch_request("t", 0, 2, 60_000);
    request.topics[0].partitions = vec![FetchPartition::consumer(0, 2, 1024); 300_000];
    let begin = Instant::now();
    let id = client.send_fetch(&request);
    while broker.hooks().requests(ApiKey::Fetch) == 0 {
        std::thread::yield_now();
    }
    broker.client().produce("t", 0, &["c"]);
    let fetched = client.receive_fetch(id);
    assert_eq!(fetched.topics[0].partitions.len(), 1);
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
}

#[test]
fn what_one_request_looks_through_by_time_is_bounded_and_the_rest_is_asked_for_again() {
    // A request that named many partitions by time decompressed a batch for each of them, whatever they became.
    const PARTITIONS: i32 = 6;
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", PARTITIONS);
    let now = today_ms();
    let mut builder = BatchBuilder::with_capacity(1024);
    let value = vec![b'x'; 10_000_000];
    for _ in 0..6 {
        builder.append(&RecordRef { timestamp_ms: now, key: None, value: Some(&value), headers: &[] });
    }
    let sealed = builder.seal(Compression::Zstd);
    (0..PARTITIONS).for_each(|index| assert_eq!(client.produce_batch(-1, "t", index, &sealed).error, ErrorCode::NONE));
    let mut list = |indexes: &[i32]| {
        let by_time = ListOffsetsPartition::default().with_timestamp(now).with_current_leader_epoch(-1);
        let asked = indexes.iter().map(|index| by_time.clone().with_partition_index(*index)).collect();
        let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(asked);
        let request = RequestKind::ListOffsets(ListOffsetsRequest::default().with_topics(vec![topic]));
        let ResponseKind::ListOffsets(listed) = client.cold(ApiKey::ListOffsets, 7, request) else { panic!() };
        let found = listed.topics[0].partitions.iter();
        found.map(|one| (one.partition_index, ErrorCode(one.error_code), one.offset)).collect::<Vec<_>>()
    };
    let found = list(&[0, 1, 2, 3, 4, 5]);
    assert_eq!(found[..5], [0, 1, 2, 3, 4].map(|index| (index, ErrorCode::NONE, 0)));
    assert_eq!(found[5], (5, ErrorCode::OFFSET_NOT_AVAILABLE, -1));
    assert!(ErrorCode::OFFSET_NOT_AVAILABLE.is_retriable());
    assert_eq!(list(&[5]), [(5, ErrorCode::NONE, 0)]);
}
