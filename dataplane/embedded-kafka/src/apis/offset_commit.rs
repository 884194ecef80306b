//! OffsetCommit: kept with its metadata, on disk before the answer.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::offset_commit_request::OffsetCommitRequestPartition;
use kafka_wire::cold::types::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_wire::cold::types::{OffsetCommitRequest, OffsetCommitResponse};
use kafka_wire::error_code::ErrorCode;
use tracing::error;

use crate::apis::NOT_HERE;
use crate::apis::outcome::Outcome;
use crate::clock::Now;
use crate::groups::Caller;
use crate::limits::{OFFSET_METADATA_BYTES_MAX, OFFSETS_MAX, OFFSETS_WITHOUT_MEMBERS_MAX};
use crate::state::State;
use crate::state::offsets::{Committed, OffsetsError};

pub fn handle(state: &mut State, request: OffsetCommitRequest, now: Now) -> Outcome {
    let caller = Caller {
        group: request.group_id.0.as_str(),
        generation: request.generation_id_or_member_epoch,
        member: request.member_id.as_str(),
        instance: request.group_instance_id.as_deref(),
    };
    if let Err(code) = state.groups.may_commit(caller, now.at) {
        return Outcome::answer(refuse(&request, code));
    }
    let mut commits = Vec::new();
    let answer = each(&request, |topic, partition| {
        let index = partition.partition_index;
        let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
        if state.null.is_none() && state.partition(topic, index).is_none() {
            return NOT_HERE;
        }
        if metadata.len() > OFFSET_METADATA_BYTES_MAX {
            return ErrorCode::OFFSET_METADATA_TOO_LARGE;
        }
        let committed = Committed {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            commit_ms: now.ms,
            metadata: metadata.to_owned(),
        };
        commits.push((topic.to_owned(), index, committed));
        ErrorCode::NONE
    });
    let has_members = state.groups.has_members(caller.group);
    let room = if has_members { OFFSETS_MAX } else { OFFSETS_WITHOUT_MEMBERS_MAX };
    match state.offsets.commit(caller.group, commits, room, &state.catalogue) {
        Ok(()) => {
            let otherwise = refuse(&request, ErrorCode::KAFKA_STORAGE_ERROR);
            Outcome::durable(state.persist_offsets(), answer, otherwise)
        }
        Err(err) => {
            error!(%err, group = caller.group, "offsets cannot be committed");
            let code = match err {
                OffsetsError::Full { .. } => ErrorCode::POLICY_VIOLATION,
                OffsetsError::Journal(_) => ErrorCode::KAFKA_STORAGE_ERROR,
            };
            Outcome::answer(refuse(&request, code))
        }
    }
}

pub fn refuse(request: &OffsetCommitRequest, code: ErrorCode) -> ResponseKind {
    each(request, |_, _| code)
}

fn each(
    request: &OffsetCommitRequest,
    mut answer: impl FnMut(&str, &OffsetCommitRequestPartition) -> ErrorCode,
) -> ResponseKind {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let partitions = topic
                .partitions
                .iter()
                .map(|partition| {
                    let code = answer(topic.name.0.as_str(), partition);
                    let response = OffsetCommitResponsePartition::default();
                    response.with_partition_index(partition.partition_index).with_error_code(code.0)
                })
                .collect();
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
        })
        .collect();
    ResponseKind::OffsetCommit(OffsetCommitResponse::default().with_topics(topics))
}
