//! The two lists: which file answers a request, and which says how it is refused.

use std::net::IpAddr;

use bytes::Bytes;
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::header::RequestHeader;
use tracing::warn;

use crate::apis;
use crate::apis::outcome::Outcome;
use crate::clock::Now;
use crate::state::State;

/// A request, read as far as its header.
pub struct Request<'a> {
    pub api: ApiKey,
    pub header: &'a RequestHeader,
    pub client_ip: &'a IpAddr,
    pub body: Bytes,
}

/// Does what a request asks for. Nothing: it could not be understood, close the connection.
pub fn apply(state: &mut State, request: Request<'_>, now: Now) -> Option<Outcome> {
    let version = request.header.api_version;
    match request.api {
        ApiKey::Produce => apis::produce::handle(state, version, request.body, now),
        ApiKey::Fetch => apis::fetch::handle(state, version, request.body),
        ApiKey::ApiVersions => Some(apis::api_versions::handle(version, request.body)),
        _ => apply_cold(state, request, now),
    }
}

/// Not inlined: with a frame that has room for every kind of request, a Produce to the null broker costs 1 to 2 % more.
#[inline(never)]
fn apply_cold(state: &mut State, request: Request<'_>, now: Now) -> Option<Outcome> {
    let Request { api, header, client_ip, .. } = request;
    let version = header.api_version;
    Some(match decode(request)? {
        RequestKind::Metadata(request) => apis::metadata::handle(state, version, request, now),
        RequestKind::ListOffsets(request) => apis::list_offsets::handle(state, version, request),
        RequestKind::FindCoordinator(request) => apis::find_coordinator::handle(state, version, request),
        RequestKind::JoinGroup(request) => {
            apis::join_group::handle(version, header.client_id_str(), *client_ip, request)
        }
        RequestKind::SyncGroup(request) => apis::sync_group::handle(request),
        RequestKind::Heartbeat(request) => apis::heartbeat::handle(state, request, now),
        RequestKind::LeaveGroup(request) => apis::leave_group::handle(state, version, request, now),
        RequestKind::OffsetCommit(request) => apis::offset_commit::handle(state, request, now),
        RequestKind::OffsetFetch(request) => apis::offset_fetch::handle(state, version, request),
        RequestKind::DescribeGroups(request) => apis::describe_groups::handle(state, version, request),
        RequestKind::ListGroups(request) => apis::list_groups::handle(state, version, request),
        RequestKind::DeleteGroups(request) => apis::delete_groups::handle(state, request),
        RequestKind::InitProducerId(request) => apis::init_producer_id::handle(state, request),
        RequestKind::CreateTopics(request) => apis::create_topics::handle(state, version, request, now),
        RequestKind::DeleteTopics(request) => apis::delete_topics::handle(state, version, request),
        RequestKind::CreatePartitions(request) => apis::create_partitions::handle(state, request, now),
        RequestKind::DeleteRecords(request) => apis::delete_records::handle(state, request),
        RequestKind::DescribeConfigs(request) => apis::describe_configs::handle(state, request),
        RequestKind::IncrementalAlterConfigs(request) => apis::incremental_alter_configs::handle(state, request),
        RequestKind::AlterConfigs(request) => apis::alter_configs::handle(state, request),
        RequestKind::OffsetDelete(request) => apis::offset_delete::handle(state, request),
        RequestKind::DescribeLogDirs(request) => apis::describe_log_dirs::handle(state, request),
        RequestKind::DescribeTopicPartitions(request) => apis::describe_topic_partitions::handle(state, request),
        RequestKind::DescribeClientQuotas(_) => apis::describe_client_quotas::handle(),
        RequestKind::DescribeCluster(request) => apis::describe_cluster::handle(state, request),
        RequestKind::SaslHandshake(request) => apis::sasl_handshake::handle(&request),
        RequestKind::SaslAuthenticate(_) => apis::sasl_authenticate::handle(),
        _ => {
            warn!(peer = %client_ip, api = %api, "an API is advertised and not listed");
            return None;
        }
    })
}

/// Answers a request with an error without applying it. Nothing: it could not be understood, close the connection.
pub fn refuse(request: Request<'_>, code: ErrorCode) -> Option<Outcome> {
    let version = request.header.api_version;
    match request.api {
        ApiKey::ApiVersions => Some(apis::api_versions::refuse(version, code)),
        ApiKey::Produce => apis::produce::refuse(version, request.body, code),
        ApiKey::Fetch => apis::fetch::refuse(version, request.body, code),
        _ => refusal(version, &decode(request)?, code).map(Outcome::answer),
    }
}

/// The answer that says `code` wherever this response has room for it.
fn refusal(version: i16, request: &RequestKind, code: ErrorCode) -> Option<ResponseKind> {
    Some(match request {
        RequestKind::Metadata(request) => apis::metadata::refuse(request, code),
        RequestKind::ListOffsets(request) => apis::list_offsets::refuse(request, code),
        RequestKind::FindCoordinator(request) => apis::find_coordinator::refuse(version, request, code),
        RequestKind::JoinGroup(request) => apis::join_group::refuse(version, request, code),
        RequestKind::SyncGroup(_) => apis::sync_group::refuse(code),
        RequestKind::Heartbeat(_) => apis::heartbeat::refuse(code),
        RequestKind::LeaveGroup(_) => apis::leave_group::refuse(code),
        RequestKind::OffsetCommit(request) => apis::offset_commit::refuse(request, code),
        RequestKind::OffsetFetch(request) => apis::offset_fetch::refuse(version, request, code),
        RequestKind::DescribeGroups(request) => apis::describe_groups::refuse(request, code),
        RequestKind::ListGroups(_) => apis::list_groups::refuse(code),
        RequestKind::DeleteGroups(request) => apis::delete_groups::refuse(request, code),
        RequestKind::InitProducerId(_) => apis::init_producer_id::refuse(code),
        RequestKind::CreateTopics(request) => apis::create_topics::refuse(request, code),
        RequestKind::DeleteTopics(request) => apis::delete_topics::refuse(version, request, code),
        RequestKind::CreatePartitions(request) => apis::create_partitions::refuse(request, code),
        RequestKind::DeleteRecords(request) => apis::delete_records::refuse(request, code),
        RequestKind::DescribeConfigs(request) => apis::describe_configs::refuse(request, code),
        RequestKind::IncrementalAlterConfigs(request) => apis::incremental_alter_configs::refuse(request, code),
        RequestKind::AlterConfigs(request) => apis::alter_configs::refuse(request, code),
        RequestKind::OffsetDelete(_) => apis::offset_delete::refuse(code),
        RequestKind::DescribeLogDirs(_) => apis::describe_log_dirs::refuse(code),
        RequestKind::DescribeTopicPartitions(request) => apis::describe_topic_partitions::refuse(request, code),
        RequestKind::DescribeClientQuotas(_) => apis::describe_client_quotas::refuse(code),
        RequestKind::DescribeCluster(_) => apis::describe_cluster::refuse(code),
        RequestKind::SaslHandshake(_) => apis::sasl_handshake::refuse(code),
        RequestKind::SaslAuthenticate(_) => apis::sasl_authenticate::refuse(code),
        _ => return None,
    })
}

fn decode(request: Request<'_>) -> Option<RequestKind> {
    let Request { api, header, client_ip, body } = request;
    let version = header.api_version;
    cold::decode_request(api, version, body)
        .inspect_err(|err| warn!(peer = %client_ip, %api, version, %err, "request cannot be read"))
        .ok()
}
