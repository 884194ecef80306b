//! One file per API: `handle` says what becomes of a request, `refuse` how it is answered with a given code.
//!
//! They work on the state and return an [`outcome::Outcome`]; `once.rs` and `options.rs` are what several share.

mod allowed;
pub mod alter_configs;
pub mod api_versions;
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
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
mod once;
mod options;
pub mod outcome;
pub mod produce;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod sync_group;

use std::ops::RangeInclusive;
use std::time::Duration;

use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, StrBytes};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages;

use crate::state::catalogue::TopicId;

/// Everything this broker offers. What is spoken comes from the codec; OffsetCommit and OffsetFetch stop before the
/// versions that name topics by id only (KIP-848).
pub const OFFERED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::FindCoordinator,
    ApiKey::JoinGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::SyncGroup,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::SaslHandshake,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::DeleteRecords,
    ApiKey::InitProducerId,
    ApiKey::DescribeConfigs,
    ApiKey::AlterConfigs,
    ApiKey::DescribeLogDirs,
    ApiKey::SaslAuthenticate,
    ApiKey::CreatePartitions,
    ApiKey::DeleteGroups,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::OffsetDelete,
    ApiKey::DescribeClientQuotas,
    ApiKey::DescribeCluster,
    ApiKey::DescribeTopicPartitions,
];

/// What every client takes for final: librdkafka asks for the coordinator again after any other code, until its time is
/// over; the Java client and kafka-python give up as well.
const NO_TRANSACTIONS: ErrorCode = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
/// Of a group that no longer fits into an answer: ask for fewer at once.
const TOO_MUCH: ErrorCode = ErrorCode::INVALID_REQUEST;

/// Versions this broker answers; None for an API it does not have.
pub fn advertised(api: ApiKey) -> Option<RangeInclusive<i16>> {
    if !OFFERED.contains(&api) {
        return None;
    }
    let spoken = match api {
        ApiKey::ApiVersions => messages::api_versions::VERSIONS,
        ApiKey::Produce => messages::produce::VERSIONS,
        ApiKey::Fetch => messages::fetch::VERSIONS,
        _ => cold::supported(api),
    };
    match api {
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => Some(*spoken.start()..=(*spoken.end()).min(9)),
        _ => Some(spoken),
    }
}

/// The code of a partition or topic that is not there.
const NOT_HERE: ErrorCode = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;

/// Whether a request wants something done, or only to know whether it could be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intent {
    Validate,
    Apply,
}

impl Intent {
    fn of(validate_only: bool) -> Intent {
        if validate_only { Intent::Validate } else { Intent::Apply }
    }
}

/// As long as a client asks us to wait, and no longer than `most`.
fn wait_of(ms: i32, most: Duration) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(most)
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A topic id in the codec's type, which this crate does not name.
fn wire_id<U: TryFrom<Vec<u8>> + Default>(id: &TopicId) -> U {
    U::try_from(id.to_vec()).unwrap_or_default()
}

fn message(code: ErrorCode) -> Option<StrBytes> {
    (!code.is_none()).then(|| text(code.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offered_api_is_spoken() {
        for api in OFFERED {
            let versions = advertised(*api).unwrap();
            assert!(!versions.is_empty(), "{api}");
        }
    }
}
