//! Every API in every version that is advertised: answered, decodable, and also when it is refused.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Client, TestBroker, batch, fetch_request, group_id, text, topic_name};
use embedded_kafka::Fault;
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::types::create_partitions_request::CreatePartitionsTopic;
use kafka_wire::cold::types::create_topics_request::CreatableTopic;
use kafka_wire::cold::types::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_wire::cold::types::delete_topics_request::DeleteTopicState;
use kafka_wire::cold::types::describe_configs_request::DescribeConfigsResource;
use kafka_wire::cold::types::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_wire::cold::types::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::cold::types::leave_group_request::MemberIdentity;
use kafka_wire::cold::types::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_wire::cold::types::metadata_request::MetadataRequestTopic;
use kafka_wire::cold::types::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_wire::cold::types::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_wire::cold::types::*;
use kafka_wire::cold::{self, RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::{api_versions, fetch, produce};

/// What the broker says it speaks.
fn advertised(client: &mut Client) -> Vec<(ApiKey, std::ops::RangeInclusive<i16>)> {
    let id = client.next_id();
    client.send(&api_versions::encode_request_frame(3, id, "test", "test", "1"));
    let body = client.receive_body(ApiKey::ApiVersions, 3, id);
    let response = api_versions::decode_response(3, body).unwrap();
    assert_eq!(response.error, ErrorCode::NONE);
    response.apis.iter().map(|range| (ApiKey::from_i16(range.key).unwrap(), range.min..=range.max)).collect()
}

fn sample(api: ApiKey, version: i16) -> RequestKind {
    let group = || group_id("g");
    let topic = || topic_name("t");
    match api {
        ApiKey::Metadata => {
            let named = MetadataRequestTopic::default().with_name(Some(topic()));
            let request = MetadataRequest::default().with_topics(Some(vec![named]));
            RequestKind::Metadata(request.with_allow_auto_topic_creation(true))
        }
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
            let topic = ListOffsetsTopic::default().with_name(topic()).with_partitions(vec![partition]);
            RequestKind::ListOffsets(
                ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]),
            )
        }
        ApiKey::FindCoordinator => RequestKind::FindCoordinator(match version {
            ..4 => FindCoordinatorRequest::default().with_key(text("g")),
            _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("h")]),
        }),
        ApiKey::JoinGroup => {
            let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
            let protocol = protocol.with_metadata(Bytes::from_static(b"subscription"));
            let request = JoinGroupRequest::default()
                .with_group_id(group_id(&format!("join{version}")))
                .with_session_timeout_ms(30_000)
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol]);
            RequestKind::JoinGroup(if version >= 1 { request.with_rebalance_timeout_ms(1_000) } else { request })
        }
        ApiKey::SyncGroup => RequestKind::SyncGroup(
            SyncGroupRequest::default().with_group_id(group()).with_generation_id(1).with_member_id(text("m")),
        ),
        ApiKey::Heartbeat => RequestKind::Heartbeat(
            HeartbeatRequest::default().with_group_id(group()).with_generation_id(1).with_member_id(text("m")),
        ),
        ApiKey::LeaveGroup => {
            let request = LeaveGroupRequest::default().with_group_id(group());
            RequestKind::LeaveGroup(match version {
                ..3 => request.with_member_id(text("m")),
                _ => request.with_members(vec![MemberIdentity::default().with_member_id(text("m"))]),
            })
        }
        ApiKey::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default()
                .with_committed_offset(5)
                .with_committed_metadata(Some(text("why")));
            let topic = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
            RequestKind::OffsetCommit(OffsetCommitRequest::default().with_group_id(group()).with_topics(vec![topic]))
        }
        ApiKey::OffsetFetch => RequestKind::OffsetFetch(match version {
            ..8 => {
                let topic = OffsetFetchRequestTopic::default().with_name(topic()).with_partition_indexes(vec![0, 1]);
                OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]))
            }
            _ => {
                let topic = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![0, 1]);
                let group = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![topic]));
                OffsetFetchRequest::default().with_groups(vec![group])
            }
        }),
        ApiKey::DescribeGroups => {
            RequestKind::DescribeGroups(DescribeGroupsRequest::default().with_groups(vec![group(), group_id("none")]))
        }
        ApiKey::ListGroups => RequestKind::ListGroups(ListGroupsRequest::default()),
        ApiKey::DeleteGroups => {
            RequestKind::DeleteGroups(DeleteGroupsRequest::default().with_groups_names(vec![group_id("none")]))
        }
        ApiKey::InitProducerId => {
            RequestKind::InitProducerId(InitProducerIdRequest::default().with_transactional_id(None))
        }
        ApiKey::CreateTopics => {
            let new = CreatableTopic::default().with_num_partitions(1).with_replication_factor(1);
            let topics = vec![
                new.clone().with_name(topic_name(&format!("new{version}"))),
                new.with_name(topic_name("not/a/name")),
            ];
            RequestKind::CreateTopics(CreateTopicsRequest::default().with_topics(topics))
        }
        ApiKey::DeleteTopics => {
            let (known, unknown) = (topic_name(&format!("new{version}")), topic_name("unknown"));
            RequestKind::DeleteTopics(match version {
                ..6 => DeleteTopicsRequest::default().with_topic_names(vec![known, unknown]),
                _ => {
                    let by_name = |name| DeleteTopicState::default().with_name(Some(name));
                    let by_id = DeleteTopicState::default();
                    DeleteTopicsRequest::default().with_topics(vec![by_name(known), by_name(unknown), by_id])
                }
            })
        }
        ApiKey::CreatePartitions => {
            let grow = CreatePartitionsTopic::default().with_name(topic()).with_count(3 + i32::from(version));
            let unknown = CreatePartitionsTopic::default().with_name(topic_name("unknown")).with_count(2);
            RequestKind::CreatePartitions(CreatePartitionsRequest::default().with_topics(vec![grow, unknown]))
        }
        ApiKey::DeleteRecords => {
            let partitions = vec![
                DeleteRecordsPartition::default().with_offset(0),
                DeleteRecordsPartition::default().with_partition_index(99),
            ];
            let topic = DeleteRecordsTopic::default().with_name(topic()).with_partitions(partitions);
            RequestKind::DeleteRecords(DeleteRecordsRequest::default().with_topics(vec![topic]))
        }
        ApiKey::DescribeConfigs => {
            let about = |kind, name: &str| {
                DescribeConfigsResource::default()
                    .with_resource_type(kind)
                    .with_resource_name(text(name))
                    .with_configuration_keys(None)
            };
            let resources = vec![about(2, "t"), about(2, "unknown"), about(4, "1"), about(4, "9"), about(77, "x")];
            let request = DescribeConfigsRequest::default().with_resources(resources);
            let request = if version >= 1 { request.with_include_synonyms(true) } else { request };
            RequestKind::DescribeConfigs(if version >= 3 { request.with_include_documentation(true) } else { request })
        }
        ApiKey::IncrementalAlterConfigs => {
            let set = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("5000")));
            let about = |name: &str| {
                AlterConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text(name))
                    .with_configs(vec![set.clone()])
            };
            let resources = vec![about("t"), about("unknown")];
            RequestKind::IncrementalAlterConfigs(IncrementalAlterConfigsRequest::default().with_resources(resources))
        }
        ApiKey::AlterConfigs => {
            let set = alter_configs_request::AlterableConfig::default().with_name(text("retention.ms"));
            let about = |name: &str| {
                alter_configs_request::AlterConfigsResource::default()
                    .with_resource_type(2)
                    .with_resource_name(text(name))
                    .with_configs(vec![set.clone().with_value(Some(text("6000")))])
            };
            RequestKind::AlterConfigs(AlterConfigsRequest::default().with_resources(vec![about("t"), about("unknown")]))
        }
        ApiKey::OffsetDelete => {
            let partition = offset_delete_request::OffsetDeleteRequestPartition::default();
            let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
                .with_name(topic())
                .with_partitions(vec![partition.clone(), partition.with_partition_index(9)]);
            RequestKind::OffsetDelete(OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![topic]))
        }
        ApiKey::DescribeLogDirs => RequestKind::DescribeLogDirs(DescribeLogDirsRequest::default().with_topics(None)),
        ApiKey::DescribeTopicPartitions => RequestKind::DescribeTopicPartitions(
            DescribeTopicPartitionsRequest::default().with_response_partition_limit(2_000),
        ),
        ApiKey::DescribeClientQuotas => RequestKind::DescribeClientQuotas(DescribeClientQuotasRequest::default()),
        ApiKey::DescribeCluster => RequestKind::DescribeCluster(DescribeClusterRequest::default()),
        ApiKey::SaslHandshake => {
            RequestKind::SaslHandshake(SaslHandshakeRequest::default().with_mechanism(text("PLAIN")))
        }
        ApiKey::SaslAuthenticate => RequestKind::SaslAuthenticate(SaslAuthenticateRequest::default()),
        other => panic!("{other} has no sample"),
    }
}

/// One request of that API and version.
fn frame(api: ApiKey, version: i16, id: i32) -> Vec<u8> {
    match api {
        ApiKey::ApiVersions => api_versions::encode_request_frame(version, id, "test", "test", "1").to_vec(),
        ApiKey::Produce => {
            let sealed = batch(&["a"]);
            let partitions = [produce::OutPartition { index: 0, batch: &sealed }];
            let topics = [produce::OutTopic { name: "t", partitions: &partitions }];
            produce::encode_request_frame(version, id, "test", -1, 1000, &topics).concat()
        }
        ApiKey::Fetch => fetch::encode_request_frame(version, id, "test", &fetch_request("t", 0, 0, 0)).to_vec(),
        _ => cold::encode_request_frame(&sample(api, version), version, id, "test").unwrap().to_vec(),
    }
}

/// Sends one request of that API and version and decodes the answer.
fn exchange(client: &mut Client, api: ApiKey, version: i16) {
    exchange_with(client, api, version, b"");
}

/// As `exchange`, with bytes in the frame behind the request.
fn exchange_with(client: &mut Client, api: ApiKey, version: i16, behind: &[u8]) {
    let id = client.next_id();
    let mut frame = frame(api, version, id);
    frame.extend_from_slice(behind);
    let length = (frame.len() as u32 - 4).to_be_bytes();
    frame[..4].copy_from_slice(&length);
    client.send(&frame);
    let body = client.receive_body(api, version, id);
    match api {
        ApiKey::ApiVersions => drop(api_versions::decode_response(version, body).unwrap()),
        ApiKey::Produce => drop(produce::decode_response(version, body).unwrap()),
        ApiKey::Fetch => drop(fetch::decode_response(version, body).unwrap()),
        _ => drop(cold::decode_response(api, version, body).unwrap()),
    }
}

/// What Apache Kafka 4.4 announces for what this broker offers, taken from its `ApiKeys`.
const KAFKA: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 0, 13), // 3, announced as 0: KAFKA-18659
    (ApiKey::Fetch, 4, 18),
    (ApiKey::ListOffsets, 1, 11),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 10),
    (ApiKey::OffsetFetch, 1, 10),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::SaslHandshake, 0, 1),
    (ApiKey::ApiVersions, 0, 5),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::AlterConfigs, 0, 2),
    (ApiKey::DescribeLogDirs, 1, 5),
    (ApiKey::SaslAuthenticate, 0, 2),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 3),
    (ApiKey::IncrementalAlterConfigs, 0, 1),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeClientQuotas, 0, 1),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::DescribeTopicPartitions, 0, 0),
];

/// Where this broker stops before Kafka does: Produce, OffsetCommit and OffsetFetch by topic id only, Fetch and
/// ListOffsets of followers and tiered storage, ApiVersions with an identity (KIP-1242), DeleteGroups of share
/// groups, DescribeLogDirs of cordoned directories.
const EARLIER_END: &[(ApiKey, i16)] = &[
    (ApiKey::Produce, 12),
    (ApiKey::Fetch, 13),
    (ApiKey::ListOffsets, 10),
    (ApiKey::OffsetCommit, 9),
    (ApiKey::OffsetFetch, 9),
    (ApiKey::ApiVersions, 4),
    (ApiKey::DescribeLogDirs, 4),
    (ApiKey::DeleteGroups, 2),
];

#[test]
fn versions_are_announced_as_kafka_4_does() {
    // segmentio/kafka-go syncs with SyncGroup v0, Debian's kafka-python 2.0.2 asks Metadata v0 first: a client that does
    // not negotiate speaks the oldest version there is.
    let broker = TestBroker::start();
    let announced = advertised(&mut broker.client());
    let expected: Vec<_> = KAFKA
        .iter()
        .map(|(api, min, max)| {
            let end = EARLIER_END.iter().find(|(earlier, _)| earlier == api).map_or(*max, |(_, end)| *end);
            assert!(end <= *max);
            (*api, *min..=end)
        })
        .collect();
    assert_eq!(announced, expected);
}

#[test]
fn bytes_behind_a_request_of_any_api_are_ignored() {
    // `list_topics` and pattern subscriptions of librdkafka 2.3 to 2.16 write three bytes behind Metadata.
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 2);
    for (api, versions) in advertised(&mut client) {
        for version in versions.filter(|version| api != ApiKey::Produce || *version >= 3) {
            exchange_with(&mut client, api, version, b"\x01\0\0");
        }
    }
}

#[test]
fn every_advertised_version_is_answered() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 2);
    client.produce("t", 0, &["a"]);
    let mut answered = 0;
    for (api, versions) in advertised(&mut client) {
        for version in versions.filter(|version| api != ApiKey::Produce || *version >= 3) {
            exchange(&mut client, api, version);
            answered += 1;
        }
    }
    assert!(answered > 100, "{answered}");
}

#[test]
fn every_advertised_version_can_be_refused_by_a_hook_and_nothing_is_applied() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    client.create("t", 2);
    for (api, versions) in advertised(&mut client) {
        for version in versions.filter(|version| api != ApiKey::Produce || *version >= 3) {
            broker.hooks().inject(api, Fault::Error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED), 1);
            exchange(&mut client, api, version);
            assert_eq!(broker.hooks().remaining(api), 0);
        }
    }
    assert_eq!(client.offset_at("t", 0, -1), (0, -1), "no produce was applied");
    let all = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(true);
    match client.cold(ApiKey::Metadata, 9, RequestKind::Metadata(all)) {
        ResponseKind::Metadata(response) => {
            assert_eq!(response.topics.len(), 1);
            assert_eq!(response.topics[0].partitions.len(), 2);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0_and_others_close() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    let id = client.next_id();
    let mut frame = api_versions::encode_request_frame(3, id, "test", "test", "1").to_vec();
    frame[7] = 99;
    client.send(&frame);
    let body = client.receive_body(ApiKey::ApiVersions, 0, id);
    let response = api_versions::decode_response(4, body).unwrap();
    assert_eq!(response.error, ErrorCode::UNSUPPORTED_VERSION);
    assert!(response.range(ApiKey::ApiVersions).is_some());
    advertised(&mut client);

    // Produce v2 is announced (librdkafka needs to see version 0) but not spoken.
    let sealed = batch(&["a"]);
    let partitions = [produce::OutPartition { index: 0, batch: &sealed }];
    let topics = [produce::OutTopic { name: "t", partitions: &partitions }];
    for (api_key, version) in [(0_u8, 2_u8), (1, 99), (99, 0), (68, 0)] {
        let mut client = broker.client();
        let mut frame = produce::encode_request_frame(3, 1, "test", -1, 1000, &topics).concat();
        (frame[5], frame[7]) = (api_key, version);
        client.send(&frame);
        assert!(client.is_closed(), "api {api_key} version {version}");
    }
}

#[test]
fn broken_frames_close_their_connection_and_harm_no_other() {
    let broker = TestBroker::start();
    let mut good = broker.client();
    good.create("t", 1);
    for bytes in [
        &b"\x80\0\0\0"[..],
        b"\x7f\xff\xff\xff",
        b"\x16\x03\x01\x02\0\x01\0",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\x02\0\0",
        b"\0\0\0\x0a\0\x03\0\x09\0\0\0\x01\xff\xfe",
        b"\0\0\0\x0c\0\x03\0\x08\0\0\0\x01\xff\xff\x7f\xff",
    ] {
        let mut bad = broker.client();
        bad.send(bytes);
        assert!(bad.is_closed(), "{bytes:?}");
    }
    let mut slow = broker.client();
    slow.send(b"\0\0\0");
    slow.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(slow.receive().is_err(), "half a frame is waited for");
    assert_eq!(good.produce("t", 0, &["still here"]), 0);
}

#[test]
fn every_cold_request_cut_short_or_with_a_huge_count_never_kills_the_broker() {
    let broker = TestBroker::start();
    let mut client = broker.client();
    let apis = advertised(&mut client);
    for (api, versions) in &apis {
        if matches!(api, ApiKey::ApiVersions | ApiKey::Produce | ApiKey::Fetch) {
            continue;
        }
        let version = *versions.end();
        let frame = kafka_wire::cold::encode_request_frame(&sample(*api, version), version, 1, "test").unwrap();
        for cut in [8, 10, 15, frame.len() / 2, frame.len() - 1] {
            let mut cut = frame[..cut.min(frame.len() - 1)].to_vec();
            let length = (cut.len() as u32 - 4).to_be_bytes();
            cut[..4].copy_from_slice(&length);
            broker.client().send(&cut);
        }
        for at in 14..frame.len() {
            let mut bad = frame.to_vec();
            bad[at] = 0x7f;
            broker.client().send(&bad);
        }
    }
    advertised(&mut broker.client());
}
