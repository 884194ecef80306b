//! Heartbeat: a member is alive, and hears of rebalances.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::{HeartbeatRequest, HeartbeatResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::outcome::Outcome;
use crate::clock::Now;
use crate::groups::Caller;
use crate::state::State;

pub fn handle(state: &mut State, request: HeartbeatRequest, now: Now) -> Outcome {
    let caller = Caller {
        group: request.group_id.0.as_str(),
        generation: request.generation_id,
        member: request.member_id.as_str(),
        instance: request.group_instance_id.as_deref(),
    };
    Outcome::answer(refuse(state.groups.heartbeat(caller, now.at)))
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    ResponseKind::Heartbeat(HeartbeatResponse::default().with_error_code(code.0))
}
