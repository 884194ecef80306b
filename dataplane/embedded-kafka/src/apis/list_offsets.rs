//! ListOffsets: where a partition begins (−2, −4), ends (−1), has its largest timestamp (−3), or reaches a time.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::list_offsets_request::ListOffsetsPartition;
use kafka_wire::cold::types::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_wire::cold::types::{ListOffsetsRequest, ListOffsetsResponse};
use kafka_wire::error_code::ErrorCode;

use crate::broker::{Broker, NOT_HERE, Outcome};
use crate::limits::LEADER_EPOCH;
use crate::partition::Wanted;

/// From here the answer says which epoch the offset belongs to.
const EPOCH_FROM: i16 = 4;

pub fn handle(broker: &mut Broker, version: i16, request: ListOffsetsRequest) -> Outcome {
    Outcome::Answer(each(&request, |topic, partition| {
        let answer = one(broker, topic, partition);
        let knows_epoch = version >= EPOCH_FROM && answer.offset >= 0;
        answer.with_leader_epoch(if knows_epoch { LEADER_EPOCH } else { -1 })
    }))
}

pub fn refuse(request: &ListOffsetsRequest, code: ErrorCode) -> ResponseKind {
    each(request, |_, partition| failed(partition.partition_index, code))
}

fn each(
    request: &ListOffsetsRequest,
    mut answer: impl FnMut(&str, &ListOffsetsPartition) -> ListOffsetsPartitionResponse,
) -> ResponseKind {
    let topics = request
        .topics
        .iter()
        .map(|topic| {
            let partitions =
                topic.partitions.iter().map(|partition| answer(topic.name.0.as_str(), partition)).collect();
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
        })
        .collect();
    ResponseKind::ListOffsets(ListOffsetsResponse::default().with_topics(topics))
}

fn one(broker: &mut Broker, topic: &str, asked: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
    let index = asked.partition_index;
    let found = |offset, timestamp| {
        ListOffsetsPartitionResponse::default()
            .with_partition_index(index)
            .with_offset(offset)
            .with_timestamp(timestamp)
    };
    if let Some(null) = &broker.null {
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
    let Some(partition) = broker.partition(topic, index) else { return failed(index, NOT_HERE) };
    if asked.current_leader_epoch > LEADER_EPOCH {
        return failed(index, ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    match partition.find(wanted) {
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
