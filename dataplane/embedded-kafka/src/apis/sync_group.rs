//! SyncGroup: the leader hands out assignments, the others wait for theirs.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::{SyncGroupRequest, SyncGroupResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::join_group::compact;
use crate::apis::outcome::Outcome;
use crate::apis::text;
use crate::groups::{SyncGroup, Synced};

pub fn handle(request: SyncGroupRequest) -> Outcome {
    let sync = SyncGroup {
        group: request.group_id.0.to_string(),
        generation: request.generation_id,
        member: request.member_id.to_string(),
        instance: request.group_instance_id.map(|instance| instance.to_string()),
        protocol_type: request.protocol_type.map(|kind| kind.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        assignments: request
            .assignments
            .into_iter()
            .map(|assigned| (assigned.member_id.to_string(), compact(assigned.assignment)))
            .collect(),
    };
    Outcome::Sync(Box::new(sync))
}

/// The coordinator's answer on the wire.
pub fn response(synced: Synced) -> ResponseKind {
    let Synced { error, protocol_type, protocol, assignment } = synced;
    ResponseKind::SyncGroup(
        SyncGroupResponse::default()
            .with_error_code(error.0)
            .with_protocol_type(protocol_type.as_deref().map(text))
            .with_protocol_name(protocol.as_deref().map(text))
            .with_assignment(assignment),
    )
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    ResponseKind::SyncGroup(SyncGroupResponse::default().with_error_code(code.0))
}
