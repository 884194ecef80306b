//! OffsetDelete (KIP-496): a group forgets single offsets, but not those of topics its members read.

use foldhash::HashSet;
use kafka_wire::cold::types::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_wire::cold::types::{OffsetDeleteRequest, OffsetDeleteResponse};
use kafka_wire::cold::{ResponseKind, decode_subscription};
use kafka_wire::error_code::ErrorCode;
use tracing::error;

use crate::apis::NOT_HERE;
use crate::apis::once::merged;
use crate::apis::outcome::Outcome;
use crate::groups::GroupState;
use crate::state::State;

pub fn handle(state: &mut State, request: OffsetDeleteRequest) -> Outcome {
    let group = request.group_id.0.as_str();
    let read = match read_topics(state, group) {
        Ok(read) => read,
        Err(code) => return Outcome::answer(refuse(code)),
    };
    let mut deleted = Vec::new();
    let topics = merged(request.topics.into_iter().map(|topic| (topic.name, topic.partitions)));
    let topics = topics.into_iter().map(|(name, partitions)| {
        let topic = name.0.as_str();
        let partitions = partitions.into_iter().map(|partition| {
            let index = partition.partition_index;
            let code = if read.contains(topic) {
                ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
            } else if state.null.is_none() && state.partition(topic, index).is_none() {
                NOT_HERE
            } else {
                deleted.push((topic.to_owned(), index));
                ErrorCode::NONE
            };
            OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code.0)
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(name).with_partitions(partitions)
    });
    let answer = OffsetDeleteResponse::default().with_topics(topics.collect());
    if let Err(err) = state.offsets.delete_partitions(group, &deleted) {
        error!(%err, group, "offsets cannot be deleted");
        return Outcome::answer(refuse(ErrorCode::KAFKA_STORAGE_ERROR));
    }
    let otherwise = refuse(ErrorCode::KAFKA_STORAGE_ERROR);
    let answer = ResponseKind::OffsetDelete(answer);
    Outcome::durable(state.persist_offsets(), answer, otherwise)
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    ResponseKind::OffsetDelete(OffsetDeleteResponse::default().with_error_code(code.0))
}

/// What the members of a group read; members that do not say so as consumers do keep every offset.
fn read_topics(state: &State, group: &str) -> Result<HashSet<String>, ErrorCode> {
    let Some(described) = state.groups.describe(group) else {
        return match state.offsets.has_group(group) {
            true => Ok(HashSet::default()),
            false => Err(ErrorCode::GROUP_ID_NOT_FOUND),
        };
    };
    let mut read = HashSet::default();
    for member in described.members {
        // Between two assignments nobody's subscription is settled.
        let subscription = match described.state {
            GroupState::Stable if described.protocol_type == "consumer" => decode_subscription(member.metadata).ok(),
            _ => None,
        };
        let (_, subscription) = subscription.ok_or(ErrorCode::NON_EMPTY_GROUP)?;
        read.extend(subscription.topics.iter().map(ToString::to_string));
    }
    Ok(read)
}
