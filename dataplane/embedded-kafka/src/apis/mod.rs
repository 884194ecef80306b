//! One file per API: how this broker answers it, and how it refuses it with a given code.

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
pub mod once;
pub mod produce;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod sync_group;

use std::ops::RangeInclusive;
use std::rc::Rc;

use bytes::Bytes;
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, RequestKind, ResponseKind, StrBytes};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages;
use tracing::warn;

use crate::slot::Slot;
use crate::topics::TopicId;

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

/// Answers a request with an error without applying it. False: it could not be read.
pub fn refuse(slot: &Rc<Slot>, body: Bytes, code: ErrorCode) -> bool {
    let version = slot.version;
    let response = match slot.api {
        ApiKey::ApiVersions => {
            api_versions::refuse(slot, code);
            return true;
        }
        ApiKey::Produce => return produce::refuse(slot, body, code),
        ApiKey::Fetch => return fetch::refuse(slot, body, code),
        api => match cold::decode_request(api, version, body) {
            Ok(request) => refusal(version, &request, code),
            Err(err) => {
                warn!(%api, version, %err, "request cannot be read");
                None
            }
        },
    };
    if let Some(response) = &response {
        slot.answer_cold(response);
    }
    response.is_some()
}

/// The answer that says `code` wherever this response has room for it.
fn refusal(version: i16, request: &RequestKind, code: ErrorCode) -> Option<ResponseKind> {
    Some(match request {
        RequestKind::Metadata(request) => metadata::refuse(request, code),
        RequestKind::ListOffsets(request) => list_offsets::refuse(request, code),
        RequestKind::FindCoordinator(request) => find_coordinator::refuse(version, request, code),
        RequestKind::JoinGroup(request) => join_group::refuse(version, request, code),
        RequestKind::SyncGroup(_) => sync_group::refuse(code),
        RequestKind::Heartbeat(_) => heartbeat::refuse(code),
        RequestKind::LeaveGroup(_) => leave_group::refuse(code),
        RequestKind::OffsetCommit(request) => offset_commit::refuse(request, code),
        RequestKind::OffsetFetch(request) => offset_fetch::refuse(version, request, code),
        RequestKind::DescribeGroups(request) => describe_groups::refuse(request, code),
        RequestKind::ListGroups(_) => list_groups::refuse(code),
        RequestKind::DeleteGroups(request) => delete_groups::refuse(request, code),
        RequestKind::InitProducerId(_) => init_producer_id::refuse(code),
        RequestKind::CreateTopics(request) => create_topics::refuse(request, code),
        RequestKind::DeleteTopics(request) => delete_topics::refuse(version, request, code),
        RequestKind::CreatePartitions(request) => create_partitions::refuse(request, code),
        RequestKind::DeleteRecords(request) => delete_records::refuse(request, code),
        RequestKind::DescribeConfigs(request) => describe_configs::refuse(request, code),
        RequestKind::IncrementalAlterConfigs(request) => incremental_alter_configs::refuse(request, code),
        RequestKind::AlterConfigs(request) => alter_configs::refuse(request, code),
        RequestKind::OffsetDelete(_) => offset_delete::refuse(code),
        RequestKind::DescribeLogDirs(_) => describe_log_dirs::refuse(code),
        RequestKind::DescribeTopicPartitions(request) => describe_topic_partitions::refuse(request, code),
        RequestKind::DescribeClientQuotas(_) => describe_client_quotas::refuse(code),
        RequestKind::DescribeCluster(_) => describe_cluster::refuse(code),
        RequestKind::SaslHandshake(_) => sasl_handshake::refuse(code),
        RequestKind::SaslAuthenticate(_) => sasl_authenticate::refuse(code),
        _ => return None,
    })
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
