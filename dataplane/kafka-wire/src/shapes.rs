//! The shapes of messages, one file per API, over every version that Kafka 4.4 gives clients; where older clients matter
//! they begin earlier.
//!
//! Those of cold APIs guard `kafka-protocol` ([`of`], over the versions of [`crate::cold::supported`]). The others, and
//! the versions beyond, are for whoever finds his way in a message without decoding it, as kproxy does.
//!
//! The tables follow the message definitions of Apache Kafka 4.4; `tests/shapes.rs` proves against `kafka-protocol`
//! that both read every field of every version at the same place, and against bytes of Kafka where that one ends.

pub mod add_offsets_to_txn;
pub mod add_partitions_to_txn;
pub mod alter_configs;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod consumer_protocol;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_topic_partitions;
pub mod end_txn;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod new_leader;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod sync_group;
pub mod txn_offset_commit;

use crate::api_key::ApiKey;
use crate::shape::Shape;

/// The request and response shapes of an API, for those coded through [`crate::cold`]. They may cover more versions than
/// [`crate::cold::supported`].
pub const fn of(api: ApiKey) -> Option<(&'static Shape, &'static Shape)> {
    let shapes: (&Shape, &Shape) = match api {
        ApiKey::ListOffsets => (&list_offsets::REQUEST, &list_offsets::RESPONSE),
        ApiKey::Metadata => (&metadata::REQUEST, &metadata::RESPONSE),
        ApiKey::OffsetCommit => (&offset_commit::REQUEST, &offset_commit::RESPONSE),
        ApiKey::OffsetFetch => (&offset_fetch::REQUEST, &offset_fetch::RESPONSE),
        ApiKey::FindCoordinator => (&find_coordinator::REQUEST, &find_coordinator::RESPONSE),
        ApiKey::JoinGroup => (&join_group::REQUEST, &join_group::RESPONSE),
        ApiKey::Heartbeat => (&heartbeat::REQUEST, &heartbeat::RESPONSE),
        ApiKey::LeaveGroup => (&leave_group::REQUEST, &leave_group::RESPONSE),
        ApiKey::SyncGroup => (&sync_group::REQUEST, &sync_group::RESPONSE),
        ApiKey::DescribeGroups => (&describe_groups::REQUEST, &describe_groups::RESPONSE),
        ApiKey::ListGroups => (&list_groups::REQUEST, &list_groups::RESPONSE),
        ApiKey::SaslHandshake => (&sasl_handshake::REQUEST, &sasl_handshake::RESPONSE),
        ApiKey::CreateTopics => (&create_topics::REQUEST, &create_topics::RESPONSE),
        ApiKey::DeleteTopics => (&delete_topics::REQUEST, &delete_topics::RESPONSE),
        ApiKey::DeleteRecords => (&delete_records::REQUEST, &delete_records::RESPONSE),
        ApiKey::InitProducerId => (&init_producer_id::REQUEST, &init_producer_id::RESPONSE),
        ApiKey::DescribeConfigs => (&describe_configs::REQUEST, &describe_configs::RESPONSE),
        ApiKey::SaslAuthenticate => (&sasl_authenticate::REQUEST, &sasl_authenticate::RESPONSE),
        ApiKey::CreatePartitions => (&create_partitions::REQUEST, &create_partitions::RESPONSE),
        ApiKey::DeleteGroups => (&delete_groups::REQUEST, &delete_groups::RESPONSE),
        ApiKey::IncrementalAlterConfigs => (&incremental_alter_configs::REQUEST, &incremental_alter_configs::RESPONSE),
        ApiKey::DescribeCluster => (&describe_cluster::REQUEST, &describe_cluster::RESPONSE),
        ApiKey::AlterConfigs => (&alter_configs::REQUEST, &alter_configs::RESPONSE),
        ApiKey::OffsetDelete => (&offset_delete::REQUEST, &offset_delete::RESPONSE),
        ApiKey::DescribeLogDirs => (&describe_log_dirs::REQUEST, &describe_log_dirs::RESPONSE),
        ApiKey::DescribeTopicPartitions => (&describe_topic_partitions::REQUEST, &describe_topic_partitions::RESPONSE),
        ApiKey::DescribeClientQuotas => (&describe_client_quotas::REQUEST, &describe_client_quotas::RESPONSE),
        _ => return None,
    };
    Some(shapes)
}
