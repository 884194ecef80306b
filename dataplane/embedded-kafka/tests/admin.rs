//! Topics made, grown, configured and deleted.

mod common;

use common::{Client, TestBroker, batch, fetch_request, text, topic_name};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::types::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::cold::types::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::cold::types::describe_configs_request::DescribeConfigsResource;
use kafka_wire::cold::types::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::cold::types::metadata_request::MetadataRequestTopic;
use kafka_wire::cold::types::*;
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

fn delete(client: &mut Client, name: &str) -> ErrorCode {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]);
    match client.cold(ApiKey::DeleteTopics, 5, RequestKind::DeleteTopics(request)) {
        ResponseKind::DeleteTopics(response) => ErrorCode(response.responses[0].error_code),
        other => panic!("{other:?}"),
    }
}

/// (error, number of partitions) of one topic.
fn metadata(client: &mut Client, name: &str, create: bool) -> (ErrorCode, usize) {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(create);
    match client.cold(ApiKey::Metadata, 9, RequestKind::Metadata(request)) {
        ResponseKind::Metadata(response) => {
            assert_eq!(response.brokers.len(), 1);
            assert_eq!(response.controller_id, response.brokers[0].node_id);
            (ErrorCode(response.topics[0].error_code), response.topics[0].partitions.len())
        }
        other => panic!("{other:?}"),
    }
}

fn alter(client: &mut Client, name: &str, option: &str, operation: i8, value: &str) -> ErrorCode {
    let config = AlterableConfig::default()
        .with_name(text(option))
        .with_config_operation(operation)
        .with_value(Some(text(value)));
    let resource =
        AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(name)).with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    match client.cold(ApiKey::IncrementalAlterConfigs, 1, RequestKind::IncrementalAlterConfigs(request)) {
        ResponseKind::IncrementalAlterConfigs(response) => ErrorCode(response.responses[0].error_code),
        other => panic!("{other:?}"),
    }
}

/// (value, source) of one option.
fn config(client: &mut Client, name: &str, option: &str) -> (String, i8) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(name))
        .with_configuration_keys(Some(vec![text(option)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    match client.cold(ApiKey::DescribeConfigs, 4, RequestKind::DescribeConfigs(request)) {
        ResponseKind::DescribeConfigs(response) => {
            let shown = &response.results[0].configs[0];
            (shown.value.as_deref().unwrap().to_owned(), shown.config_source)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn three_replicas_on_one_node_are_refused() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    assert_eq!(client.create_with("t", 1, 3, &[]), ErrorCode::INVALID_REPLICATION_FACTOR);
    assert_eq!(metadata(&mut client, "t", false), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0));
    assert_eq!(client.create_with("t", 1, -1, &[]), ErrorCode::NONE);
    assert_eq!(client.create_with("t", 1, 1, &[]), ErrorCode::TOPIC_ALREADY_EXISTS);
}

#[test]
fn asking_for_a_topic_makes_it_only_when_both_sides_allow_it() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    assert_eq!(metadata(&mut client, "t", false), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0));
    assert_eq!(metadata(&mut client, "t", true), (ErrorCode::NONE, 4));
    assert_eq!(client.produce("t", 3, &["at once"]), 0);
    assert_eq!(metadata(&mut client, "not/a/name", true), (ErrorCode::INVALID_TOPIC_EXCEPTION, 0));
    let strict = TestBroker::with(|config| config.auto_create = false);
    assert_eq!(metadata(&mut strict.client(), "t", true), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0));
}

#[test]
fn a_deleted_topic_is_gone_and_its_namesake_begins_empty() {
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    let mut waiting = broker.client();
    client.create("t", 1);
    client.produce("t", 0, &["old"]);
    let id = waiting.send_fetch(&fetch_request("t", 0, 1, 60_000));
    // Behind the fetch on its connection nothing is handled; on ours it is surely parked once it was counted.
    while broker.hooks().requests(ApiKey::Fetch) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(delete(&mut client, "t"), ErrorCode::NONE);
    assert_eq!(delete(&mut client, "t"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let woken = waiting.receive_fetch(id);
    assert_eq!(woken.topics[0].partitions[0].error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let refused = client.produce_batch(-1, "t", 0, &batch(&["x"]));
    assert_eq!(refused.error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    client.create("t", 1);
    assert_eq!(client.produce("t", 0, &["new"]), 0);
    broker.restart();
    assert_eq!(broker.client().read_all("t", 0), [(0, "new".to_owned())]);
    let logs = std::fs::read_dir(broker.dir.path().join("data/logs")).unwrap().count();
    assert_eq!(logs, 1, "nothing of the old one is left");
}

#[test]
fn a_topic_grows_and_keeps_what_it_has() {
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    client.produce("t", 0, &["a"]);
    for (count, expected) in [
        (3, ErrorCode::NONE),
        (3, ErrorCode::INVALID_PARTITIONS),
        (2, ErrorCode::INVALID_PARTITIONS),
        (5, ErrorCode::NONE),
    ] {
        let topic = CreatePartitionsTopic::default().with_name(topic_name("t")).with_count(count);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic.with_assignments(None)]);
        match client.cold(ApiKey::CreatePartitions, 3, RequestKind::CreatePartitions(request)) {
            ResponseKind::CreatePartitions(response) => {
                assert_eq!(ErrorCode(response.results[0].error_code), expected, "to {count}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.produce("t", 4, &["e"]), 0);
    broker.restart();
    let mut client = broker.client();
    assert_eq!(metadata(&mut client, "t", false), (ErrorCode::NONE, 5));
    assert_eq!(client.read_all("t", 0).len() + client.read_all("t", 4).len(), 2);
}

#[test]
fn options_are_set_deleted_appended_and_take_effect() {
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    client.create_with("t", 1, 1, &[("retention.ms", "1000000")]);
    assert_eq!(config(&mut client, "t", "retention.ms"), ("1000000".to_owned(), 1));
    assert_eq!(alter(&mut client, "t", "retention.ms", 1, ""), ErrorCode::NONE);
    assert_eq!(config(&mut client, "t", "retention.ms"), ("604800000".to_owned(), 5));
    assert_eq!(alter(&mut client, "t", "cleanup.policy", 2, "compact"), ErrorCode::NONE);
    assert_eq!(config(&mut client, "t", "cleanup.policy").0, "delete,compact");
    assert_eq!(alter(&mut client, "t", "cleanup.policy", 3, "delete"), ErrorCode::NONE);
    assert_eq!(config(&mut client, "t", "cleanup.policy").0, "compact");
    assert_eq!(alter(&mut client, "t", "retention.ms", 2, "1"), ErrorCode::INVALID_CONFIG);
    assert_eq!(alter(&mut client, "t", "no.such.option", 0, "1"), ErrorCode::INVALID_CONFIG);
    assert_eq!(alter(&mut client, "nope", "retention.ms", 0, "1"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(alter(&mut client, "t", "max.message.bytes", 0, "100"), ErrorCode::NONE);
    assert_eq!(
        client.produce_batch(-1, "t", 0, &batch(&["more than thirty-nine bytes of payload, surely"])).error,
        ErrorCode::MESSAGE_TOO_LARGE
    );
    broker.restart();
    assert_eq!(config(&mut broker.client(), "t", "max.message.bytes"), ("100".to_owned(), 1));
}

#[test]
fn deleted_records_stay_deleted() {
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 1);
    for n in 0..10 {
        client.produce("t", 0, &[&format!("v{n}")]);
    }
    for (offset, expected) in [
        (4, (ErrorCode::NONE, 4)),
        (11, (ErrorCode::OFFSET_OUT_OF_RANGE, -1)),
        (2, (ErrorCode::NONE, 4)),
        (-7, (ErrorCode::OFFSET_OUT_OF_RANGE, -1)),
    ] {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
        match client.cold(ApiKey::DeleteRecords, 2, RequestKind::DeleteRecords(request)) {
            ResponseKind::DeleteRecords(response) => {
                let result = &response.topics[0].partitions[0];
                assert_eq!((ErrorCode(result.error_code), result.low_watermark), expected, "before {offset}");
            }
            other => panic!("{other:?}"),
        }
    }
    broker.restart();
    let mut client = broker.client();
    assert_eq!(client.offset_at("t", 0, -2).0, 4);
    let read: Vec<i64> = client.read_all("t", 0).into_iter().map(|(offset, _)| offset).collect();
    assert_eq!(read, [4, 5, 6, 7, 8, 9]);
}

#[test]
fn five_hundred_topics_are_made_listed_and_recovered() {
    let mut broker = TestBroker::start();
    let mut client = broker.client();
    let topics = (0..500)
        .map(|n| {
            create_topics_request::CreatableTopic::default()
                .with_name(topic_name(&format!("t{n}")))
                .with_num_partitions(4)
                .with_replication_factor(1)
        })
        .collect();
    let request = CreateTopicsRequest::default().with_topics(topics);
    client.cold(ApiKey::CreateTopics, 5, RequestKind::CreateTopics(request));
    broker.restart();
    let request = MetadataRequest::default().with_topics(None);
    match broker.client().cold(ApiKey::Metadata, 9, RequestKind::Metadata(request)) {
        ResponseKind::Metadata(response) => assert_eq!(response.topics.len(), 500),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_cluster_id_is_made_once_or_configured() {
    let id = |broker: &TestBroker| match broker.client().cold(
        ApiKey::DescribeCluster,
        0,
        RequestKind::DescribeCluster(DescribeClusterRequest::default()),
    ) {
        ResponseKind::DescribeCluster(response) => response.cluster_id.to_string(),
        other => panic!("{other:?}"),
    };
    let mut broker = TestBroker::start();
    let made = id(&broker);
    broker.restart();
    assert_eq!(id(&broker), made);
    assert_eq!(id(&TestBroker::with(|config| config.cluster_id = "mine".to_owned())), "mine");
}

/// It was: told never, so that librdkafka's DescribeTopics and DescribeCluster found nothing allowed.
#[test]
fn what_a_client_may_do_is_told_when_it_asks_and_only_then() {
    const NOT_ASKED: i32 = i32::MIN;
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("orders", 1);
    for (asked, with_topic, with_cluster) in [(true, 3_576, 8_096), (false, NOT_ASKED, NOT_ASKED)] {
        let topics =
            ["orders", "missing"].map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(name))));
        let request = MetadataRequest::default()
            .with_topics(Some(topics.to_vec()))
            .with_allow_auto_topic_creation(false)
            .with_include_topic_authorized_operations(asked)
            .with_include_cluster_authorized_operations(asked);
        let ResponseKind::Metadata(response) = client.cold(ApiKey::Metadata, 9, RequestKind::Metadata(request)) else {
            panic!("another answer")
        };
        assert_eq!(response.topics[0].topic_authorized_operations, with_topic);
        assert_eq!(response.topics[1].topic_authorized_operations, NOT_ASKED, "there is no such topic");
        assert_eq!(response.cluster_authorized_operations, with_cluster);
        let request = DescribeClusterRequest::default().with_include_cluster_authorized_operations(asked);
        match client.cold(ApiKey::DescribeCluster, 1, RequestKind::DescribeCluster(request)) {
            ResponseKind::DescribeCluster(response) => {
                assert_eq!(response.cluster_authorized_operations, with_cluster);
            }
            other => panic!("{other:?}"),
        }
    }
}
