//! ListOffsets: where a partition begins (−2, −4), ends (−1), has its largest timestamp (−3), or reaches a time.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::list_offsets_request::ListOffsetsPartition;
use kafka_wire::cold::types::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_wire::cold::types::{ListOffsetsRequest, ListOffsetsResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::NOT_HERE;
use crate::apis::once::{merged, once};
use crate::apis::outcome::Outcome;
use crate::limits::{LEADER_EPOCH, LOOKUP_BYTES_PER_REQUEST_MAX};
use crate::state::State;
use crate::state::partition::Wanted;

/// From here the answer says which epoch the offset belongs to.
const EPOCH_FROM: i16 = 4;

/// Of a partition beyond what one request may look through: clients ask again for those that got it.
const NOT_NOW: ErrorCode = ErrorCode::OFFSET_NOT_AVAILABLE;

pub fn handle(state: &mut State, version: i16, request: ListOffsetsRequest) -> Outcome {
    // A lookup by time may decompress a batch: a partition named twice is looked at not even once, as in Kafka.
    let topics = merged(request.topics.into_iter().map(|topic| (topic.name, topic.partitions)));
    let mut opened_bytes = 0;
    let topics = topics.into_iter().map(|(name, partitions)| {
        let partitions = once(partitions, |asked| asked.partition_index).into_iter().map(|(asked, doubled)| {
            let answer = match doubled {
                true => failed(asked.partition_index, ErrorCode::INVALID_REQUEST),
                false => one(state, name.0.as_str(), &asked, &mut opened_bytes),
            };
            let knows_epoch = version >= EPOCH_FROM && answer.offset >= 0;
            answer.with_leader_epoch(if knows_epoch { LEADER_EPOCH } else { -1 })
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(name).with_partitions(partitions)
    });
    let topics = topics.collect();
    Outcome::answer(ResponseKind::ListOffsets(ListOffsetsResponse::default().with_topics(topics)))
}

pub fn refuse(request: &ListOffsetsRequest, code: ErrorCode) -> ResponseKind {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| failed(asked.partition_index, code)).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    ResponseKind::ListOffsets(ListOffsetsResponse::default().with_topics(topics.collect()))
}

fn one(
    state: &mut State,
    topic: &str,
    asked: &ListOffsetsPartition,
    opened_bytes: &mut usize,
) -> ListOffsetsPartitionResponse {
    let index = asked.partition_index;
    let found = |offset, timestamp| {
        ListOffsetsPartitionResponse::default()
            .with_partition_index(index)
            .with_offset(offset)
            .with_timestamp(timestamp)
    };
    if let Some(null) = &state.null {
        return match asked.timestamp {
            -1 => found(null.end(topic.as_bytes(), index), -1),
            _ => found(0, -1),
        };
    }
    let wanted = match asked.timestamp {
        -1 => Wanted::Latest,
        // Tiered storage does not exist here: the local log is the whole log.
        -2 | -4 => Wanted::Earliest,
        -3 => Wanted::MaxTimestamp,
        -5 => return found(-1, -1),
        timestamp if timestamp >= 0 => Wanted::Timestamp(timestamp),
        _ => return failed(index, ErrorCode::UNSUPPORTED_VERSION),
    };
    let Some(partition) = state.partition(topic, index) else { return failed(index, NOT_HERE) };
    if asked.current_leader_epoch > LEADER_EPOCH {
        return failed(index, ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    if wanted.is_by_time() && *opened_bytes >= LOOKUP_BYTES_PER_REQUEST_MAX {
        return failed(index, NOT_NOW);
    }
    match partition.find(wanted, opened_bytes) {
        Ok((offset, timestamp)) => found(offset, timestamp),
        Err(refusal) => failed(index, refusal.code),
    }
}

fn failed(index: i32, code: ErrorCode) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse::default()
        .with_partition_index(index)
        .with_error_code(code.0)
        .with_offset(-1)
        .with_timestamp(-1)
}
