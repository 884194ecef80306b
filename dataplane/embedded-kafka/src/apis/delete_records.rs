//! DeleteRecords: a partition begins later from now on; −1 means at its end.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_wire::cold::types::{DeleteRecordsRequest, DeleteRecordsResponse};
use kafka_wire::error_code::ErrorCode;

use crate::apis::NOT_HERE;
use crate::apis::outcome::Outcome;
use crate::refusal::Refusal;
use crate::state::State;

pub fn handle(state: &mut State, request: DeleteRecordsRequest) -> Outcome {
    let answer = each(&request, |topic, index, offset| delete(state, topic, index, offset));
    let otherwise = refuse(&request, ErrorCode::KAFKA_STORAGE_ERROR);
    Outcome::durable(state.persist_catalogue(), answer, otherwise)
}

pub fn refuse(request: &DeleteRecordsRequest, code: ErrorCode) -> ResponseKind {
    each(request, |_, _, _| Err(Refusal::new(code, code.name())))
}

fn delete(state: &mut State, topic: &str, index: i32, offset: i64) -> Result<i64, Refusal> {
    let not_here = || Refusal::new(NOT_HERE, format!("{topic}-{index} does not exist"));
    let partition = state.partition(topic, index).ok_or_else(not_here)?;
    // What begins later already has nothing to delete, which is no mistake (KIP-107).
    if (0..=partition.start_offset()).contains(&offset) {
        return Ok(partition.start_offset());
    }
    let start = partition.check_delete_before(offset)?;
    state.forget_before(topic, index, start)?;
    Ok(start)
}

fn each(
    request: &DeleteRecordsRequest,
    mut answer: impl FnMut(&str, i32, i64) -> Result<i64, Refusal>,
) -> ResponseKind {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let index = partition.partition_index;
            let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
            match answer(topic.name.0.as_str(), index, partition.offset) {
                Ok(low_watermark) => result.with_low_watermark(low_watermark),
                Err(refusal) => result.with_low_watermark(-1).with_error_code(refusal.code.0),
            }
        });
        DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    ResponseKind::DeleteRecords(DeleteRecordsResponse::default().with_topics(topics.collect()))
}
