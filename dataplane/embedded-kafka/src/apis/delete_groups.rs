//! DeleteGroups: a group without members goes, and its offsets with it.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::delete_groups_response::DeletableGroupResult;
use kafka_wire::cold::types::{DeleteGroupsRequest, DeleteGroupsResponse};
use kafka_wire::error_code::ErrorCode;
use tracing::error;

use crate::apis::once::distinct;
use crate::apis::outcome::Outcome;
use crate::state::State;

pub fn handle(state: &mut State, request: DeleteGroupsRequest) -> Outcome {
    let answer = each(&request, |group| {
        let known = state.groups.describe(group).is_some();
        if !state.groups.delete(group) {
            return ErrorCode::NON_EMPTY_GROUP;
        }
        match state.offsets.delete_group(group) {
            Ok(had_offsets) if had_offsets || known => ErrorCode::NONE,
            Ok(_) => ErrorCode::GROUP_ID_NOT_FOUND,
            Err(err) => {
                error!(%err, group, "a group's offsets cannot be deleted");
                ErrorCode::KAFKA_STORAGE_ERROR
            }
        }
    });
    let otherwise = refuse(&request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::durable(state.persist_offsets(), answer, otherwise)
}

pub fn refuse(request: &DeleteGroupsRequest, code: ErrorCode) -> ResponseKind {
    each(request, |_| code)
}

fn each(request: &DeleteGroupsRequest, mut answer: impl FnMut(&str) -> ErrorCode) -> ResponseKind {
    let results = distinct(&request.groups_names, |id| id.0.clone()).map(|id| {
        let code = answer(id.0.as_str());
        DeletableGroupResult::default().with_group_id(id.clone()).with_error_code(code.0)
    });
    ResponseKind::DeleteGroups(DeleteGroupsResponse::default().with_results(results.collect()))
}
