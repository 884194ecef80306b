//! Fetch v4 to v13: whole batches up to the high watermark, or a wait for them.
//!
//! A fetch that finds less than `min_bytes` is parked; an append to one of its partitions that becomes durable wakes
//! it. No sessions (KIP-227): every answer carries session id 0, so clients send every request in full.
//!
//! From v13 topics are named by id. The id is looked up when the request comes and again when it is answered: a topic that
//! was deleted meanwhile is UNKNOWN_TOPIC_ID, even if another one has its name by then.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::HashSet;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition, FetchedTopic, NO_TOPIC_ID, VERSIONS,
    decode_request, encode_response_frame,
};
use tracing::warn;

use crate::broker::{Broker, NOT_HERE, Now, wait_of};
use crate::fetches::WaitingFetch;
use crate::limits::{FETCH_BYTES_MAX, FETCH_PARTITION_BYTES_MAX, FETCH_WAIT_MAX, LEADER_EPOCH};
use crate::slot::{Answer, Slot};

pub fn handle(broker: &mut Broker, slot: &Rc<Slot>, body: Bytes, now: Now) -> bool {
    let Some(mut request) = read(slot, body) else { return false };
    name_topics(broker, &mut request);
    keep_distinct(&mut request);
    if request.session_id != 0 {
        let error = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        answer(slot, &FetchResponse { error, ..FetchResponse::default() });
        return true;
    }
    let (response, bytes, settled) = collect(broker, &request);
    let min_bytes = u64::try_from(request.min_bytes).unwrap_or(0);
    let wait = wait_of(request.max_wait_ms, FETCH_WAIT_MAX);
    if settled || bytes >= min_bytes || wait == Duration::ZERO {
        answer(slot, &response);
        return true;
    }
    let missing_bytes = min_bytes - bytes;
    broker.park_fetch(WaitingFetch { slot: Rc::clone(slot), request, deadline: now.at + wait, missing_bytes });
    true
}

/// Answers a fetch that waited, with whatever is there now.
pub fn finish(broker: &mut Broker, slot: &Slot, request: &FetchRequest, _now: Now) {
    let (response, _, _) = collect(broker, request);
    answer(slot, &response);
}

pub fn refuse(slot: &Rc<Slot>, body: Bytes, code: ErrorCode) -> bool {
    let Some(request) = read(slot, body) else { return false };
    let topics = request
        .topics
        .iter()
        .map(|topic| FetchedTopic {
            name: topic.name.clone(),
            id: topic.id,
            partitions: topic.partitions.iter().map(|wanted| FetchedPartition::empty(wanted.index, code)).collect(),
        })
        .collect();
    answer(slot, &FetchResponse { error: code, topics, ..FetchResponse::default() });
    true
}

/// Fills in the names of topics asked for by id; a topic that is not here keeps none.
fn name_topics(broker: &Broker, request: &mut FetchRequest) {
    for topic in request.topics.iter_mut().filter(|topic| topic.id != NO_TOPIC_ID) {
        let named = broker.names.by_id(&topic.id);
        topic.name = named.map(|name| Bytes::copy_from_slice(name.as_bytes())).unwrap_or_default();
    }
}

/// A partition named again is read once, for its first place.
fn keep_distinct(request: &mut FetchRequest) {
    if let [FetchTopic { partitions, .. }] = request.topics.as_slice()
        && partitions.len() == 1
    {
        return;
    }
    let mut seen = HashSet::default();
    for FetchTopic { name, id, partitions } in &mut request.topics {
        partitions.retain(|wanted| seen.insert((name.clone(), *id, wanted.index)));
    }
}

/// Whether a topic asked for by name or id is still that one.
fn is_here(broker: &Broker, topic: &FetchTopic) -> bool {
    let name = std::str::from_utf8(&topic.name).unwrap_or_default();
    topic.id == NO_TOPIC_ID || broker.catalogue.topic(name).is_some_and(|known| known.id == topic.id)
}

/// The partitions a fetch looks at.
pub fn partitions(request: &FetchRequest) -> Vec<(String, i32)> {
    let mut all = Vec::new();
    for topic in &request.topics {
        let Ok(name) = std::str::from_utf8(&topic.name) else { continue };
        all.extend(topic.partitions.iter().map(|partition| (name.to_owned(), partition.index)));
    }
    all
}

/// Builds the answer, counts the bytes in it, and says whether it must go out although it may be empty.
fn collect(broker: &mut Broker, request: &FetchRequest) -> (FetchResponse, u64, bool) {
    let mut left = usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX);
    let mut bytes = 0;
    let mut settled = false;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut asked = 0;
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let is_here = is_here(broker, topic);
        for wanted in &topic.partitions {
            asked += 1;
            // The first batch of an answer may exceed every limit, or a consumer could never get past it (KIP-74).
            let may_read = left > 0 || bytes == 0;
            let limit = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(FETCH_PARTITION_BYTES_MAX);
            let fetched = if is_here {
                fetch_one(broker, &topic.name, wanted, may_read.then_some(limit.min(left)), bytes == 0)
            } else {
                FetchedPartition::empty(wanted.index, ErrorCode::UNKNOWN_TOPIC_ID)
            };
            settled |= !fetched.error.is_none();
            left = left.saturating_sub(fetched.records.len());
            bytes += fetched.records.len() as u64;
            partitions.push(fetched);
        }
        topics.push(FetchedTopic { name: topic.name.clone(), id: topic.id, partitions });
    }
    settled |= asked == 0;
    (FetchResponse { topics, ..FetchResponse::default() }, bytes, settled)
}

fn fetch_one(
    broker: &mut Broker,
    name: &Bytes,
    wanted: &FetchPartition,
    bytes_max: Option<usize>,
    is_first: bool,
) -> FetchedPartition {
    if let Some(null) = &broker.null {
        let end = null.end(name, wanted.index);
        let records = null.read(wanted.fetch_offset, bytes_max.unwrap_or(0));
        let fetched = FetchedPartition::empty(wanted.index, ErrorCode::NONE);
        let high_watermark = end.max(wanted.fetch_offset.saturating_add(1_000_000));
        return FetchedPartition {
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset: 0,
            records,
            ..fetched
        };
    }
    let refused = |code| FetchedPartition::empty(wanted.index, code);
    let Ok(name) = std::str::from_utf8(name) else { return refused(NOT_HERE) };
    let Some(partition) = broker.partition(name, wanted.index) else { return refused(NOT_HERE) };
    if wanted.current_leader_epoch > LEADER_EPOCH {
        return refused(ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    let read = match bytes_max {
        Some(bytes_max) => partition.read(wanted.fetch_offset, bytes_max),
        None => Ok(Bytes::new()),
    };
    let high_watermark = partition.high_watermark();
    let log_start_offset = partition.start_offset();
    match read {
        Ok(records) => {
            // One batch always comes; behind other partitions it must fit.
            let fits = is_first || bytes_max.is_some_and(|limit| records.len() <= limit);
            FetchedPartition {
                high_watermark,
                last_stable_offset: high_watermark,
                log_start_offset,
                records: if fits { records } else { Bytes::new() },
                ..refused(ErrorCode::NONE)
            }
        }
        Err(refusal) => refused(refusal.code),
    }
}

fn answer(slot: &Slot, response: &FetchResponse) {
    slot.answer(Answer::Frame(encode_response_frame(slot.version, slot.correlation_id, response)));
}

fn read(slot: &Slot, body: Bytes) -> Option<FetchRequest> {
    if !VERSIONS.contains(&slot.version) {
        warn!(version = slot.version, "fetch request of a version that is not spoken");
        return None;
    }
    decode_request(slot.version, body).inspect_err(|err| warn!(%err, "fetch request cannot be read")).ok()
}
