//! ListGroups: groups with members, and groups that only have offsets.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::list_groups_response::ListedGroup;
use kafka_wire::cold::types::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::outcome::Outcome;
use crate::apis::text;
use crate::groups::GroupState;
use crate::state::State;

pub fn handle(state: &State, version: i16, request: ListGroupsRequest) -> Outcome {
    let live = state.groups.list().map(|(id, state, protocol_type)| (id.to_owned(), state, protocol_type.to_owned()));
    let idle = state.offsets.groups().filter(|id| state.groups.describe(id).is_none());
    let idle = idle.map(|id| (id.to_owned(), GroupState::Empty, "consumer".to_owned()));
    let wanted_state = |state: GroupState| {
        request.states_filter.is_empty()
            || request.states_filter.iter().any(|name| name.eq_ignore_ascii_case(state.name()))
    };
    let wanted_type =
        request.types_filter.is_empty() || request.types_filter.iter().any(|name| name.eq_ignore_ascii_case("classic"));
    let groups =
        live.chain(idle).filter(|(_, state, _)| wanted_type && wanted_state(*state)).map(|(id, state, kind)| {
            let mut group = ListedGroup::default().with_group_id(GroupId(text(&id))).with_protocol_type(text(&kind));
            if version >= 4 {
                group = group.with_group_state(text(state.name()));
            }
            if version >= 5 {
                group = group.with_group_type(text("classic"));
            }
            group
        });
    Outcome::answer(ResponseKind::ListGroups(ListGroupsResponse::default().with_groups(groups.collect())))
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    ResponseKind::ListGroups(ListGroupsResponse::default().with_error_code(code.0))
}
