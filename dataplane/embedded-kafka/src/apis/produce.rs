//! Produce v3 to v12: batches into partition logs, idempotence checked (KIP-98).
//!
//! acks=all is answered when every batch of the request is on disk, acks=1 when it is written, acks=0 never; an error
//! under acks=0 closes the connection, the only sign there is.

use bytes::Bytes;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::produce::{
    PartitionData, PartitionResult, ProduceRequest, ProduceResponse, TopicData, TopicResult, VERSIONS, decode_request,
};
use kafka_wire::record_batch::batches;
use tracing::warn;

use crate::apis::outcome::{Outcome, ProducePoint, Response};
use crate::apis::{NO_TRANSACTIONS, NOT_HERE};
use crate::clock::Now;
use crate::limits::{LOOKUP_DECOMPRESSED_BYTES_MAX, RECORD_ERRORS_MAX};
use crate::refusal::Refusal;
use crate::state::State;
use crate::state::partition::Stored;
use crate::storage::syncer::SyncPoint;

const ACKS_ALL: i16 = -1;
const ACKS_NONE: i16 = 0;

/// Nothing: the request cannot be read.
pub fn handle(state: &mut State, version: i16, body: Bytes, now: Now) -> Option<Outcome> {
    let request = read(version, body)?;
    if !(ACKS_ALL..=1).contains(&request.acks) {
        return Some(refuse_all(&request, ErrorCode::INVALID_REQUIRED_ACKS));
    }
    if request.transactional_id.is_some() {
        return Some(refuse_all(&request, NO_TRANSACTIONS));
    }
    let acks = request.acks;
    let Appended { response, points, any_refused } = append_all(state, request, now);
    Some(match acks {
        ACKS_NONE if any_refused => {
            warn!("a produce request with acks=0 failed, closing its connection");
            Outcome::Close
        }
        ACKS_NONE => Outcome::Nothing,
        _ if points.is_empty() => Outcome::Answer(Response::Produce(response)),
        _ => Outcome::Produced { response, points },
    })
}

/// Nothing: the request cannot be read.
pub fn refuse(version: i16, body: Bytes, code: ErrorCode) -> Option<Outcome> {
    read(version, body).map(|request| refuse_all(&request, code))
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

impl Refused {
    fn result(self, index: i32) -> PartitionResult {
        let Refused { refusal, record_errors } = self;
        let error_message = Some(refusal.message);
        PartitionResult { error_message, record_errors, ..PartitionResult::refused(index, refusal.code) }
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused { refusal, record_errors: Vec::new() }
    }
}

/// What became of a request's batches.
struct Appended {
    response: ProduceResponse,
    /// What acks=all waits for.
    points: Vec<ProducePoint>,
    any_refused: bool,
}

fn append_all(state: &mut State, request: ProduceRequest, now: Now) -> Appended {
    let ProduceRequest { acks, topics, .. } = request;
    let mut results = Vec::with_capacity(topics.len());
    let mut points = Vec::new();
    let mut any_refused = false;
    for (topic, TopicData { name, partitions: asked }) in topics.into_iter().enumerate() {
        let mut partitions = Vec::with_capacity(asked.len());
        for (partition, data) in asked.iter().enumerate() {
            let appended = match &mut state.null {
                Some(null) => null
                    .append(&name, data.index, data.records.as_deref().unwrap_or_default())
                    .map(|base_offset| (PartitionResult::stored(data.index, base_offset, -1, 0), None))
                    .map_err(|code| Refusal::new(code, code.name()).into()),
                None => append(state, &name, data, acks, now),
            };
            partitions.push(match appended {
                Ok((result, point)) => {
                    if let Some(point) = point.filter(|_| acks == ACKS_ALL) {
                        points.push(ProducePoint { topic, partition, point });
                    }
                    result
                }
                Err(refused) => {
                    any_refused = true;
                    refused.result(data.index)
                }
            });
        }
        results.push(TopicResult { name, partitions });
    }
    Appended { response: ProduceResponse { topics: results, ..ProduceResponse::default() }, points, any_refused }
}

fn append(
    state: &mut State,
    name: &Bytes,
    data: &PartitionData,
    acks: i16,
    now: Now,
) -> Result<(PartitionResult, Option<SyncPoint>), Refused> {
    let name = std::str::from_utf8(name).map_err(|err| Refusal::new(NOT_HERE, err.to_string()))?;
    let not_here = || Refusal::new(NOT_HERE, format!("{name}-{} does not exist", data.index));
    let mut topic = state.append_to(name).ok_or_else(not_here)?;
    if acks == ACKS_ALL && topic.options().min_insync_replicas > 1 {
        let message = format!("one replica, min.insync.replicas={}", topic.options().min_insync_replicas);
        return Err(Refusal::new(ErrorCode::NOT_ENOUGH_REPLICAS, message).into());
    }
    let index = usize::try_from(data.index).ok().filter(|index| topic.has(*index)).ok_or_else(not_here)?;
    let records = data.records.as_ref().ok_or_else(|| Refusal::new(ErrorCode::INVALID_RECORD, "no records"))?;
    if topic.options().is_compacted && records.len() <= topic.options().batch_bytes_max {
        refuse_keyless(records)?;
    }
    let stored = topic.append(index, records, now)?;
    let Stored { base_offset, log_append_time_ms, log_start_offset, point, .. } = stored;
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

fn read(version: i16, body: Bytes) -> Option<ProduceRequest> {
    if !VERSIONS.contains(&version) {
        warn!(version, "produce request of a version that is announced and not spoken");
        return None;
    }
    decode_request(version, body).inspect_err(|err| warn!(%err, "produce request cannot be read")).ok()
}

fn refuse_all(request: &ProduceRequest, code: ErrorCode) -> Outcome {
    if request.acks == ACKS_NONE {
        return Outcome::Close;
    }
    let refused = |data: &PartitionData| PartitionResult::refused(data.index, code);
    let topics = request.topics.iter().map(|topic| TopicResult {
        name: topic.name.clone(),
        partitions: topic.partitions.iter().map(refused).collect(),
    });
    Outcome::Answer(Response::Produce(ProduceResponse { topics: topics.collect(), ..ProduceResponse::default() }))
}
