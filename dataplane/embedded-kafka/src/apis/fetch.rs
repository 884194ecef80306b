//! Fetch v4 to v13: whole batches up to the high watermark, or a wait for them.
//!
//! A fetch that finds less than `min_bytes` is parked; an append to one of its partitions that becomes durable wakes
//! it. No sessions (KIP-227): every answer carries session id 0, so clients send every request in full.
//!
//! From v13 topics are named by id. The id is looked up when the request comes and again when it is answered: a topic that
//! was deleted meanwhile is UNKNOWN_TOPIC_ID, even if another one has its name by then.

use std::time::Duration;

use bytes::Bytes;
use foldhash::HashSet;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchedPartition, FetchedTopic, NO_TOPIC_ID, VERSIONS,
    decode_request,
};
use tracing::warn;

use crate::apis::outcome::{Outcome, Response};
use crate::apis::{NOT_HERE, wait_of};
use crate::limits::{FETCH_BYTES_MAX, FETCH_PARTITION_BYTES_MAX, FETCH_WAIT_MAX, LEADER_EPOCH};
use crate::state::State;
use crate::state::null::NullTopics;

/// Nothing: the request cannot be read.
pub fn handle(state: &mut State, version: i16, body: Bytes) -> Option<Outcome> {
    let mut request = read(version, body)?;
    name_topics(state, &mut request);
    keep_distinct(&mut request);
    if request.session_id != 0 {
        let error = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
        return Some(Outcome::Answer(Response::Fetch(FetchResponse { error, ..FetchResponse::default() })));
    }
    let Collected { response, bytes, urgent } = collect(state, &request);
    let min_bytes = u64::try_from(request.min_bytes).unwrap_or(0);
    let at_most = wait_of(request.max_wait_ms, FETCH_WAIT_MAX);
    Some(match urgent || bytes >= min_bytes || at_most == Duration::ZERO {
        true => Outcome::Answer(Response::Fetch(response)),
        false => Outcome::Wait { request: Box::new(request), missing_bytes: min_bytes - bytes, at_most },
    })
}

/// Nothing: the request cannot be read.
pub fn refuse(version: i16, body: Bytes, code: ErrorCode) -> Option<Outcome> {
    let request = read(version, body)?;
    let topics = request.topics.iter().map(|topic| FetchedTopic {
        name: topic.name.clone(),
        id: topic.id,
        partitions: topic.partitions.iter().map(|wanted| FetchedPartition::empty(wanted.index, code)).collect(),
    });
    let response = FetchResponse { error: code, topics: topics.collect(), ..FetchResponse::default() };
    Some(Outcome::Answer(Response::Fetch(response)))
}

/// What there is of what a fetch wants.
pub struct Collected {
    pub response: FetchResponse,
    /// Of records.
    bytes: u64,
    /// It must go out although there may be nothing in it.
    urgent: bool,
}

/// Reads whatever is there now.
pub fn collect(state: &mut State, request: &FetchRequest) -> Collected {
    let left = usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_BYTES_MAX);
    let mut room = Room { left, bytes: 0 };
    let mut urgent = request.topics.iter().all(|topic| topic.partitions.is_empty());
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let is_here = is_here(state, topic);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let fetched = match is_here {
                true => fetch_one(state, &topic.name, wanted, &room),
                false => FetchedPartition::empty(wanted.index, ErrorCode::UNKNOWN_TOPIC_ID),
            };
            urgent |= !fetched.error.is_none();
            room.take(fetched.records.len());
            partitions.push(fetched);
        }
        topics.push(FetchedTopic { name: topic.name.clone(), id: topic.id, partitions });
    }
    Collected { response: FetchResponse { topics, ..FetchResponse::default() }, bytes: room.bytes, urgent }
}

/// The partitions a fetch looks at.
pub fn partitions(request: &FetchRequest) -> impl Iterator<Item = (&str, i32)> {
    let named = request.topics.iter().filter_map(|topic| Some((std::str::from_utf8(&topic.name).ok()?, topic)));
    named.flat_map(|(name, topic)| topic.partitions.iter().map(move |partition| (name, partition.index)))
}

/// Room for records in one answer.
struct Room {
    left: usize,
    /// Records that are in it.
    bytes: u64,
}

impl Room {
    /// Most bytes one more partition may add; None: not even one batch.
    fn of(&self, wanted: &FetchPartition) -> Option<usize> {
        // The first batch of an answer may exceed every limit, or a consumer could never get past it (KIP-74).
        let may_read = self.left > 0 || self.is_empty();
        let limit = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(FETCH_PARTITION_BYTES_MAX);
        may_read.then_some(limit.min(self.left))
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        self.bytes += bytes as u64;
    }
}

fn fetch_one(state: &mut State, name: &Bytes, wanted: &FetchPartition, room: &Room) -> FetchedPartition {
    let bytes_max = room.of(wanted);
    if let Some(null) = &state.null {
        return fetch_null(null, name, wanted, bytes_max);
    }
    let refused = |code| FetchedPartition::empty(wanted.index, code);
    let Ok(name) = std::str::from_utf8(name) else { return refused(NOT_HERE) };
    let Some(partition) = state.partition(name, wanted.index) else { return refused(NOT_HERE) };
    if wanted.current_leader_epoch > LEADER_EPOCH {
        return refused(ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    let read = match bytes_max {
        Some(bytes_max) => partition.read(wanted.fetch_offset, bytes_max),
        None => Ok(Bytes::new()),
    };
    let records = match read {
        // One batch always comes; behind other partitions it must fit.
        Ok(records) if room.is_empty() || bytes_max.is_some_and(|limit| records.len() <= limit) => records,
        Ok(_) => Bytes::new(),
        Err(refusal) => return refused(refusal.code),
    };
    FetchedPartition {
        high_watermark: partition.high_watermark(),
        last_stable_offset: partition.high_watermark(),
        log_start_offset: partition.start_offset(),
        records,
        ..refused(ErrorCode::NONE)
    }
}

fn fetch_null(null: &NullTopics, name: &Bytes, wanted: &FetchPartition, bytes_max: Option<usize>) -> FetchedPartition {
    let high_watermark = null.end(name, wanted.index).max(wanted.fetch_offset.saturating_add(1_000_000));
    FetchedPartition {
        high_watermark,
        last_stable_offset: high_watermark,
        log_start_offset: 0,
        records: null.read(wanted.fetch_offset, bytes_max.unwrap_or(0)),
        ..FetchedPartition::empty(wanted.index, ErrorCode::NONE)
    }
}

/// Fills in the names of topics asked for by id; a topic that is not here keeps none.
fn name_topics(state: &State, request: &mut FetchRequest) {
    for topic in request.topics.iter_mut().filter(|topic| topic.id != NO_TOPIC_ID) {
        let named = state.names.by_id(&topic.id);
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
fn is_here(state: &State, topic: &FetchTopic) -> bool {
    let name = std::str::from_utf8(&topic.name).unwrap_or_default();
    topic.id == NO_TOPIC_ID || state.catalogue.topic(name).is_some_and(|known| known.id == topic.id)
}

fn read(version: i16, body: Bytes) -> Option<FetchRequest> {
    if !VERSIONS.contains(&version) {
        warn!(version, "fetch request of a version that is not spoken");
        return None;
    }
    decode_request(version, body).inspect_err(|err| warn!(%err, "fetch request cannot be read")).ok()
}
