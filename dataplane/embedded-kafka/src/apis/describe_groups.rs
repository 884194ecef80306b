//! DescribeGroups: state and members. A group that only has offsets is Empty; one that has nothing is Dead.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_wire::cold::types::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_wire::error_code::ErrorCode;

use crate::apis::once::distinct;
use crate::apis::outcome::Outcome;
use crate::apis::{TOO_MUCH, allowed, text};
use crate::groups::GroupState;
use crate::limits::{GATHERED_BYTES_MAX, SENTENCE_BYTES_MAX};
use crate::sentence::bounded;
use crate::state::State;

/// From here a missing group is an error of its own (KIP-1043).
const NOT_FOUND_FROM: i16 = 6;

pub fn handle(state: &State, version: i16, request: DescribeGroupsRequest) -> Outcome {
    let of_group = request.include_authorized_operations;
    let mut gathered_bytes = 0;
    let groups = distinct(request.groups, |id| id.0.clone()).map(|id| {
        if gathered_bytes > GATHERED_BYTES_MAX {
            return DescribedGroup::default().with_group_id(id).with_error_code(TOO_MUCH.0);
        }
        let mut group = one(state, version, id);
        if of_group && group.error_code == 0 {
            group.authorized_operations = allowed::WITH_GROUP;
        }
        gathered_bytes += group.members.iter().map(member_bytes).sum::<usize>();
        group
    });
    let groups = groups.collect();
    Outcome::answer(ResponseKind::DescribeGroups(DescribeGroupsResponse::default().with_groups(groups)))
}

pub fn refuse(request: &DescribeGroupsRequest, code: ErrorCode) -> ResponseKind {
    let refused = |id: &GroupId| DescribedGroup::default().with_group_id(id.clone()).with_error_code(code.0);
    let groups = request.groups.iter().map(refused).collect();
    ResponseKind::DescribeGroups(DescribeGroupsResponse::default().with_groups(groups))
}

fn member_bytes(member: &DescribedGroupMember) -> usize {
    let text = member.member_id.len() + member.client_id.len() + member.client_host.len();
    text + member.member_metadata.len() + member.member_assignment.len()
}

fn one(state: &State, version: i16, id: GroupId) -> DescribedGroup {
    let name = id.0.as_str();
    let group = DescribedGroup::default();
    let Some(described) = state.groups.describe(name) else {
        if state.offsets.has_group(name) {
            return group
                .with_group_id(id)
                .with_group_state(text(GroupState::Empty.name()))
                .with_protocol_type(text("consumer"));
        }
        let dead = group.with_group_state(text("Dead"));
        return match version >= NOT_FOUND_FROM {
            true => dead
                .with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.0)
                .with_error_message(Some(text(&bounded(format!("group {name} not found"), SENTENCE_BYTES_MAX))))
                .with_group_id(id),
            false => dead.with_group_id(id),
        };
    };
    let members = described.members.into_iter().map(|member| {
        let shown = DescribedGroupMember::default()
            .with_member_id(text(&member.member))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.client_host))
            .with_member_metadata(member.metadata)
            .with_member_assignment(member.assignment);
        // Shown from version 4 on.
        shown.with_group_instance_id(member.instance.filter(|_| version >= 4).as_deref().map(text))
    });
    group
        .with_group_id(id)
        .with_group_state(text(described.state.name()))
        .with_protocol_type(text(&described.protocol_type))
        .with_protocol_data(text(&described.protocol))
        .with_members(members.collect())
}
