//! LeaveGroup: one member, from version 3 any number of them (KIP-345).

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::leave_group_response::MemberResponse;
use kafka_wire::cold::types::{LeaveGroupRequest, LeaveGroupResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::outcome::Outcome;
use crate::clock::Now;
use crate::state::State;

const MANY_FROM: i16 = 3;

pub fn handle(state: &mut State, version: i16, request: LeaveGroupRequest, now: Now) -> Outcome {
    let group = request.group_id.0.as_str();
    if version < MANY_FROM {
        return Outcome::answer(refuse(state.groups.leave(group, request.member_id.as_str(), None, now.at)));
    }
    let members = request
        .members
        .into_iter()
        .map(|member| {
            let instance = member.group_instance_id.as_deref();
            let code = state.groups.leave(group, member.member_id.as_str(), instance, now.at);
            MemberResponse::default()
                .with_member_id(member.member_id.clone())
                .with_group_instance_id(member.group_instance_id.clone())
                .with_error_code(code.0)
        })
        .collect();
    Outcome::answer(ResponseKind::LeaveGroup(LeaveGroupResponse::default().with_members(members)))
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    ResponseKind::LeaveGroup(LeaveGroupResponse::default().with_error_code(code.0))
}
