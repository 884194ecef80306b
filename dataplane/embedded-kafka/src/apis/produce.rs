//! Produce v3 to v12: batches into partition logs, idempotence checked (KIP-98).
//!
//! acks=all is answered when every batch of the request is on disk, acks=1 when it is written, acks=0 never; an error
//! under acks=0 closes the connection, the only sign there is.

use std::rc::Rc;

use bytes::Bytes;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::produce::{
    PartitionData, PartitionResult, ProduceRequest, ProduceResponse, TopicResult, VERSIONS, decode_request,
    encode_response_frame,
};
use kafka_wire::record_batch::batches;
use tracing::warn;

use crate::apis::NO_TRANSACTIONS;
use crate::broker::{Broker, NOT_HERE, Now, ProducePoint};
use crate::limits::{LOOKUP_DECOMPRESSED_BYTES_MAX, RECORD_ERRORS_MAX};
use crate::partition::Stored;
use crate::slot::{Answer, Slot};
use crate::syncer::SyncPoint;
use crate::topics::Refusal;

const ACKS_ALL: i16 = -1;
const ACKS_NONE: i16 = 0;

pub fn handle(broker: &mut Broker, slot: &Rc<Slot>, body: Bytes, now: Now) -> bool {
    let Some(request) = read(slot, body) else { return false };
    if !(ACKS_ALL..=1).contains(&request.acks) {
        return answer_all(slot, &request, ErrorCode::INVALID_REQUIRED_ACKS);
    }
    if request.transactional_id.is_some() {
        return answer_all(slot, &request, NO_TRANSACTIONS);
    }
    let ProduceRequest { acks, topics, .. } = request;
    let mut response = ProduceResponse { topics: Vec::with_capacity(topics.len()), ..ProduceResponse::default() };
    let mut points = Vec::new();
    let mut failed = false;
    for (topic_at, topic) in topics.into_iter().enumerate() {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (partition_at, data) in topic.partitions.iter().enumerate() {
            let result = match &mut broker.null {
                Some(null) => null
                    .append(&topic.name, data.index, data.records.as_deref().unwrap_or_default())
                    .map(|base_offset| (PartitionResult::stored(data.index, base_offset, -1, 0), None))
                    .map_err(|code| Refusal::new(code, code.name()).into()),
                None => append(broker, &topic.name, data, acks, now),
            };
            partitions.push(match result {
                Ok((result, point)) => {
                    if let Some(point) = point.filter(|_| acks == ACKS_ALL) {
                        points.push(ProducePoint { topic: topic_at, partition: partition_at, point });
                    }
                    result
                }
                Err(Refused { refusal, record_errors }) => {
                    failed = true;
                    let error_message = Some(refusal.message);
                    let refused = PartitionResult::refused(data.index, refusal.code);
                    PartitionResult { error_message, record_errors, ..refused }
                }
            });
        }
        response.topics.push(TopicResult { name: topic.name, partitions });
    }
    match acks {
        ACKS_NONE if failed => {
            warn!("a produce request with acks=0 failed, closing its connection");
            slot.answer(Answer::Close);
        }
        ACKS_NONE => slot.answer(Answer::Nothing),
        _ if points.is_empty() => answer(slot, &response),
        _ => broker.answer_produce_after_sync(slot, points, response),
    }
    true
}

pub fn refuse(slot: &Rc<Slot>, body: Bytes, code: ErrorCode) -> bool {
    match read(slot, body) {
        Some(request) => answer_all(slot, &request, code),
        None => false,
    }
}

/// Sends the response.
pub fn answer(slot: &Slot, response: &ProduceResponse) {
    slot.answer(Answer::Frame(vec![encode_response_frame(slot.version, slot.correlation_id, response)]));
}

/// Turns a result that waited for the disk into the error that the disk made of it.
pub fn not_durable(result: &mut PartitionResult) {
    *result = PartitionResult {
        error_message: Some("the batch could not be made durable".to_owned()),
        ..PartitionResult::refused(result.index, ErrorCode::KAFKA_STORAGE_ERROR)
    };
}

/// Why a batch is refused, and which of its records are the reason.
struct Refused {
    refusal: Refusal,
    record_errors: Vec<(i32, Option<String>)>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused { refusal, record_errors: Vec::new() }
    }
}

fn append(
    broker: &mut Broker,
    name: &Bytes,
    data: &PartitionData,
    acks: i16,
    now: Now,
) -> Result<(PartitionResult, Option<SyncPoint>), Refused> {
    let name = std::str::from_utf8(name).map_err(|err| Refusal::new(NOT_HERE, err.to_string()))?;
    let not_here = || Refusal::new(NOT_HERE, format!("{name}-{} does not exist", data.index));
    let (topic, syncer) = broker.append_parts(name).ok_or_else(not_here)?;
    if acks == ACKS_ALL && topic.options.min_insync_replicas > 1 {
        let message = format!("one replica, min.insync.replicas={}", topic.options.min_insync_replicas);
        return Err(Refusal::new(ErrorCode::NOT_ENOUGH_REPLICAS, message).into());
    }
    let index = usize::try_from(data.index).map_err(|_| not_here())?;
    let options = topic.options;
    let partition = topic.partitions.get_mut(index).ok_or_else(not_here)?;
    let records = data.records.as_ref().ok_or_else(|| Refusal::new(ErrorCode::INVALID_RECORD, "no records"))?;
    if options.is_compacted && records.len() <= options.batch_bytes_max {
        refuse_keyless(records)?;
    }
    let Stored { base_offset, log_append_time_ms, point, newly_dirty } =
        partition.append(records, &options, syncer, now)?;
    let log_start_offset = partition.start_offset();
    if newly_dirty {
        broker.mark_dirty(name, index);
    }
    Ok((PartitionResult::stored(data.index, base_offset, log_append_time_ms, log_start_offset), point))
}

/// A compacted topic keeps the last record of each key: one without a key is refused, and its batch with it (KIP-467).
/// A batch that cannot be read is left to `Partition::append`, which says what is wrong with it.
fn refuse_keyless(records: &Bytes) -> Result<(), Refused> {
    let Some(Ok(batch)) = batches(records.clone()).next() else { return Ok(()) };
    let Ok(read) = batch.records(LOOKUP_DECOMPRESSED_BYTES_MAX) else { return Ok(()) };
    let keyless = read.views().zip(0_i32..).filter(|(view, _)| view.as_ref().is_ok_and(|view| view.key.is_none()));
    let why = "a compacted topic takes no record without a key";
    let record_errors: Vec<_> = keyless.take(RECORD_ERRORS_MAX).map(|(_, at)| (at, Some(why.to_owned()))).collect();
    if record_errors.is_empty() {
        return Ok(());
    }
    let message = format!("{why}: record {} of the batch has none", record_errors[0].0);
    Err(Refused { refusal: Refusal::new(ErrorCode::INVALID_RECORD, message), record_errors })
}

fn read(slot: &Slot, body: Bytes) -> Option<ProduceRequest> {
    if !VERSIONS.contains(&slot.version) {
        warn!(version = slot.version, "produce request of a version that is announced and not spoken");
        return None;
    }
    decode_request(slot.version, body).inspect_err(|err| warn!(%err, "produce request cannot be read")).ok()
}

fn answer_all(slot: &Rc<Slot>, request: &ProduceRequest, code: ErrorCode) -> bool {
    if request.acks == ACKS_NONE {
        slot.answer(Answer::Close);
        return true;
    }
    let topics = request
        .topics
        .iter()
        .map(|topic| TopicResult {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(|data| PartitionResult::refused(data.index, code)).collect(),
        })
        .collect();
    answer(slot, &ProduceResponse { topics, ..ProduceResponse::default() });
    true
}
