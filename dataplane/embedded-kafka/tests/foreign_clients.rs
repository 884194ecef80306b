//! What clients that were not written here stumbled over, each against Apache Kafka's answer.

mod common;

use common::{Client, TestBroker, batch, batch_at, fetch_request, group_id, text, today_ms, topic_name, values};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::types::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::cold::types::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_wire::cold::types::*;
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::compression::Compression;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::{BatchBuilder, RecordRef};

macro_rules! ask {
    ($client:expr, $api:ident, $version:expr, $request:expr) => {
        match $client.cold(ApiKey::$api, $version, RequestKind::$api($request)) {
            ResponseKind::$api(response) => response,
            other => panic!("{other:?}"),
        }
    };
}

fn delete_records(client: &mut Client, topic: &str, offset: i64) -> ErrorCode {
    let partition = delete_records_request::DeleteRecordsPartition::default().with_offset(offset);
    let topic = delete_records_request::DeleteRecordsTopic::default().with_name(topic_name(topic));
    let request = DeleteRecordsRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]);
    ErrorCode(ask!(client, DeleteRecords, 2, request).topics[0].partitions[0].error_code)
}

#[test]
fn a_record_without_a_key_is_refused_by_a_compacted_topic_and_named() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create_with("t", 1, 1, &[("cleanup.policy", "compact")]);
    for compression in [Compression::None, Compression::Lz4] {
        let mut builder = BatchBuilder::with_capacity(1024);
        for key in [Some(&b"k"[..]), Some(b""), None, Some(b"k"), None] {
            builder.append(&RecordRef { timestamp_ms: today_ms(), key, value: Some(b"v"), headers: &[] });
        }
        let refused = client.produce_batch(-1, "t", 0, &builder.seal(compression));
        assert_eq!(refused.error, ErrorCode::INVALID_RECORD);
        assert_eq!(refused.record_errors.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [2, 4]);
        assert!(refused.error_message.unwrap().contains("record 2"));
    }
    assert_eq!(client.offset_at("t", 0, -1).0, 0, "nothing of the batches is stored");
}

#[test]
fn the_record_with_the_largest_timestamp_is_one_that_is_still_there() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    let now = today_ms();
    // Offsets 0 to 2 hold the largest, 3 to 5 the smallest, 6 to 8 what is between.
    for first in [now + 100, now, now + 50] {
        client.produce_batch(-1, "t", 0, &batch_at(first, &["a", "b", "c"]));
    }
    for (deleted, expected) in [(0, (2, now + 102)), (2, (2, now + 102)), (3, (8, now + 52)), (8, (8, now + 52))] {
        assert_eq!(delete_records(&mut client, "t", deleted), ErrorCode::NONE);
        assert_eq!(client.offset_at("t", 0, -3), expected, "after deleting before {deleted}");
    }
    assert_eq!(delete_records(&mut client, "t", 9), ErrorCode::NONE);
    assert_eq!(client.offset_at("t", 0, -3), (-1, -1));
}

#[test]
fn a_fetch_for_little_advances_wherever_the_batch_begins() {
    // A header that straddled the end of the 16 KiB read for the index was taken for the end of the log.
    let broker = TestBroker::start();
    let mut client = broker.client();
    for before_end in [1, 20, 60, 61, 62] {
        let topic = format!("t{before_end}");
        client.create(&topic, 1);
        let bytes = |length: usize| batch(&[&"x".repeat(length)]).bytes();
        let wanted = 16 * 1024 - before_end;
        let length = (0..).find(|length| bytes(wanted - 100 + length) >= wanted).unwrap() + wanted - 100;
        client.produce(&topic, 0, &[&"x".repeat(length)]);
        client.produce(&topic, 0, &["second"]);
        client.produce(&topic, 0, &["third"]);
        for max in [1, 20, 61, 100] {
            let mut request = fetch_request(&topic, 0, 1, 0);
            request.topics[0].partitions[0].partition_max_bytes = max;
            let response = client.fetch(&request);
            let read = values(response.topics[0].partitions[0].records.clone());
            assert_eq!(read.first(), Some(&(1, "second".to_owned())), "{before_end} before the end, at most {max}");
        }
    }
}

#[test]
fn of_names_that_differ_in_dots_and_underscores_only_one_exists() {
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    assert_eq!(client.create("a.b", 1), ErrorCode::NONE);
    assert_eq!(client.create("a_b", 1), ErrorCode::INVALID_TOPIC_EXCEPTION);
    assert_eq!(client.create("a.b", 1), ErrorCode::TOPIC_ALREADY_EXISTS);
    broker.restart();
    let mut client = broker.client();
    let named = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("a_b")));
    let request = MetadataRequest::default().with_topics(Some(vec![named])).with_allow_auto_topic_creation(true);
    let found = ask!(client, Metadata, 9, request);
    assert_eq!(ErrorCode(found.topics[0].error_code), ErrorCode::INVALID_TOPIC_EXCEPTION);
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("a.b")]);
    assert_eq!(ask!(client, DeleteTopics, 5, request).responses[0].error_code, 0);
    assert_eq!(client.create("a_b", 1), ErrorCode::NONE);
}

#[test]
fn a_coordinator_of_transactions_is_refused_with_the_code_that_ends_the_attempt() {
    // librdkafka asked again for ten seconds after INVALID_REQUEST; this one is final to it, Java and kafka-python.
    let broker = TestBroker::start();
    let mut client = broker.client();
    let request = FindCoordinatorRequest::default().with_key_type(1);
    let old = ask!(client, FindCoordinator, 3, request.clone().with_key(text("x")));
    assert_eq!(ErrorCode(old.error_code), ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    let new = ask!(client, FindCoordinator, 4, request.with_coordinator_keys(vec![text("x")]));
    assert_eq!(ErrorCode(new.coordinators[0].error_code), ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    let share = FindCoordinatorRequest::default().with_key_type(2).with_key(text("x"));
    assert_eq!(ErrorCode(ask!(client, FindCoordinator, 3, share).error_code), ErrorCode::INVALID_REQUEST);
}

#[test]
fn options_that_are_shown_are_those_that_are_obeyed() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    assert_eq!(client.create_with("t", 1, 1, &[("segment.ms", "5000"), ("retention.ms", "9000")]), ErrorCode::NONE);
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("t"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let shown = ask!(client, DescribeConfigs, 4, request).results.remove(0).configs;
    let shown: Vec<_> = shown.iter().map(|config| config.name.as_str()).collect();
    let obeyed = [
        "cleanup.policy",
        "max.message.bytes",
        "message.timestamp.type",
        "min.insync.replicas",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
    ];
    assert_eq!(shown, obeyed);
}

#[test]
fn legacy_alter_configs_replaces_all_options() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create_with("t", 1, 1, &[("retention.ms", "9000"), ("segment.bytes", "2048")]);
    let mut alter = |name: &str, value: &str, times: usize| {
        let config = alter_configs_request::AlterableConfig::default().with_name(text(name));
        let resource = alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(vec![config.with_value(Some(text(value)))]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource; times]);
        let response = ask!(client, AlterConfigs, 2, request);
        response.responses.iter().map(|result| ErrorCode(result.error_code)).collect::<Vec<_>>()
    };
    assert_eq!(alter("retention.ms", "soon", 1), [ErrorCode::INVALID_CONFIG]);
    assert_eq!(alter("max.message.bytes", "100", 2), [ErrorCode::INVALID_REQUEST]);
    assert_eq!(alter("max.message.bytes", "100", 1), [ErrorCode::NONE]);
    let resource = describe_configs_request::DescribeConfigsResource::default().with_resource_type(2);
    let resource = resource.with_resource_name(text("t")).with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let shown = ask!(client, DescribeConfigs, 4, request).results.remove(0).configs;
    let set: Vec<_> = shown.iter().filter(|config| config.config_source == 1).map(|c| c.name.as_str()).collect();
    assert_eq!(set, ["max.message.bytes"]);
}

#[test]
fn single_offsets_are_deleted_and_stay_so() {
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 3);
    let partitions = (0..3)
        .map(|index| OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(7));
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(partitions.collect());
    let commit = OffsetCommitRequest::default().with_group_id(group_id("g")).with_topics(vec![topic]);
    ask!(client, OffsetCommit, 7, commit);
    let delete = |group: &str| {
        let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
        let topic = OffsetDeleteRequestTopic::default().with_name(topic_name("t"));
        let topic = topic.with_partitions([0, 2, 3].map(partition).to_vec());
        OffsetDeleteRequest::default().with_group_id(group_id(group)).with_topics(vec![topic])
    };
    let response = ask!(client, OffsetDelete, 0, delete("g"));
    let codes: Vec<_> = response.topics[0].partitions.iter().map(|result| ErrorCode(result.error_code)).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
    let nobody = ask!(client, OffsetDelete, 0, delete("nobody"));
    assert_eq!(ErrorCode(nobody.error_code), ErrorCode::GROUP_ID_NOT_FOUND);
    broker.restart();
    let request = OffsetFetchRequest::default().with_group_id(group_id("g")).with_topics(None);
    let left = ask!(broker.client(), OffsetFetch, 7, request);
    assert_eq!(left.topics[0].partitions.iter().map(|found| found.partition_index).collect::<Vec<_>>(), [1]);
}

#[test]
fn log_directories_say_what_a_partition_takes() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 2);
    client.produce("t", 1, &["hello"]);
    let stored = batch(&["hello"]).bytes() as i64;
    let topic = describe_log_dirs_request::DescribableLogDirTopic::default();
    let topic = topic.with_topic(topic_name("t")).with_partitions(vec![0, 1, 1, 9]);
    for topics in [Some(vec![topic]), None] {
        let request = DescribeLogDirsRequest::default().with_topics(topics);
        let response = ask!(client, DescribeLogDirs, 4, request);
        let dir = &response.results[0];
        assert!(dir.usable_bytes > 0 && dir.total_bytes > dir.usable_bytes);
        let sizes: Vec<_> = dir.topics[0].partitions.iter().map(|p| (p.partition_index, p.partition_size)).collect();
        assert_eq!(sizes, [(0, 0), (1, stored)]);
    }
}

#[test]
fn topics_are_described_a_page_at_a_time() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    for (name, partitions) in [("a", 2), ("b", 5), ("c", 1)] {
        client.create(name, partitions);
    }
    let mut cursor = None;
    let mut pages = Vec::new();
    loop {
        let request = DescribeTopicPartitionsRequest::default().with_response_partition_limit(3).with_cursor(cursor);
        let response = ask!(client, DescribeTopicPartitions, 0, request);
        let page = response.topics.iter().map(|topic| {
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index.to_string());
            format!("{}:{}", topic.name.as_ref().unwrap().0, indexes.collect::<Vec<_>>().join(","))
        });
        pages.push(page.collect::<Vec<_>>().join(" "));
        let Some(next) = response.next_cursor else { break };
        let at = describe_topic_partitions_request::Cursor::default().with_topic_name(next.topic_name);
        cursor = Some(at.with_partition_index(next.partition_index));
    }
    assert_eq!(pages, ["a:0,1 b:0", "b:1,2,3", "b:4 c:0"]);
    let unknown = describe_topic_partitions_request::TopicRequest::default().with_name(topic_name("nope"));
    let request = DescribeTopicPartitionsRequest::default().with_topics(vec![unknown]);
    let response = ask!(client, DescribeTopicPartitions, 0, request.with_response_partition_limit(10));
    assert_eq!(ErrorCode(response.topics[0].error_code), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn nobody_has_a_quota() {
    let broker = TestBroker::start();
    let response = ask!(broker.client(), DescribeClientQuotas, 1, DescribeClientQuotasRequest::default());
    assert_eq!((response.error_code, response.entries), (0, Some(Vec::new())));
}
