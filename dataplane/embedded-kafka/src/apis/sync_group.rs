//! SyncGroup: the leader hands out assignments, the others wait for theirs.

use std::rc::Rc;

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::{SyncGroupRequest, SyncGroupResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::join_group::compact;
use crate::apis::text;
use crate::broker::{Broker, Now, Outcome};
use crate::groups::{Caller, Synced};
use crate::slot::Slot;

pub fn handle(broker: &mut Broker, slot: &Rc<Slot>, request: SyncGroupRequest, now: Now) -> Outcome {
    let ticket = broker.take_ticket(slot);
    let caller = Caller {
        group: request.group_id.0.as_str(),
        generation: request.generation_id,
        member: request.member_id.as_str(),
        instance: request.group_instance_id.as_deref(),
    };
    let assignments = request
        .assignments
        .into_iter()
        .map(|assigned| (assigned.member_id.to_string(), compact(assigned.assignment)))
        .collect();
    let protocol_type = request.protocol_type.as_deref();
    let protocol = request.protocol_name.as_deref();
    broker.groups.sync(caller, protocol_type, protocol, assignments, ticket, now.at);
    Outcome::Kept
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
