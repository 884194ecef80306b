//! JoinGroup: handed to the coordinator, answered when the rebalance completes.

use std::net::IpAddr;
use std::time::Duration;

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::join_group_response::JoinGroupResponseMember;
use kafka_wire::cold::types::{JoinGroupRequest, JoinGroupResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::outcome::Outcome;
use crate::apis::text;
use crate::apis::wait_of;
use crate::groups::{JoinGroup, Joined, Protocol};
use crate::limits::CLIENT_ID_BYTES_MAX;
use crate::sentence::bounded;

/// From here a new member is told its id before it may join (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;

pub fn handle(version: i16, client_id: &str, client_ip: IpAddr, request: JoinGroupRequest) -> Outcome {
    let session_timeout = wait_of(request.session_timeout_ms, Duration::MAX);
    let rebalance_timeout = match request.rebalance_timeout_ms {
        // Version 0 has none.
        ..0 => session_timeout,
        ms => wait_of(ms, Duration::MAX),
    };
    let join = JoinGroup {
        group: request.group_id.0.to_string(),
        member: request.member_id.to_string(),
        instance: request.group_instance_id.map(|instance| instance.to_string()),
        // Member ids begin with it, and DescribeGroups shows it.
        client_id: bounded(client_id.to_owned(), CLIENT_ID_BYTES_MAX),
        client_host: format!("/{client_ip}"),
        session_timeout,
        rebalance_timeout,
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| Protocol { name: protocol.name.to_string(), metadata: compact(protocol.metadata) })
            .collect(),
        member_id_required: version >= MEMBER_ID_REQUIRED_FROM,
    };
    Outcome::Join(Box::new(join))
}

/// What a member says is kept for as long as it lives: it must not keep the frame it came in.
pub(super) fn compact(bytes: bytes::Bytes) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&bytes)
}

/// The coordinator's answer on the wire.
pub fn response(version: i16, joined: Joined) -> ResponseKind {
    let Joined { error, generation, protocol_type, protocol, leader, member, members } = joined;
    let members = members
        .into_iter()
        .map(|(id, instance, metadata)| {
            let member = JoinGroupResponseMember::default().with_member_id(text(&id)).with_metadata(metadata);
            member.with_group_instance_id(instance.filter(|_| version >= 5).map(|instance| text(&instance)))
        })
        .collect();
    // Nullable from version 7 only.
    let protocol_name = match protocol {
        Some(protocol) => Some(text(&protocol)),
        None if version < 7 => Some(text("")),
        None => None,
    };
    let response = JoinGroupResponse::default()
        .with_error_code(error.0)
        .with_generation_id(generation)
        .with_protocol_name(protocol_name)
        .with_leader(text(&leader))
        .with_member_id(text(&member))
        .with_members(members);
    ResponseKind::JoinGroup(match protocol_type {
        Some(protocol_type) if version >= 7 => response.with_protocol_type(Some(text(&protocol_type))),
        _ => response,
    })
}

pub fn refuse(version: i16, request: &JoinGroupRequest, code: ErrorCode) -> ResponseKind {
    let joined = Joined {
        error: code,
        generation: -1,
        protocol_type: None,
        protocol: None,
        leader: String::new(),
        member: request.member_id.to_string(),
        members: Vec::new(),
    };
    response(version, joined)
}
