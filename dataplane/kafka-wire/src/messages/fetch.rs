//! Fetch (API 1), versions 4 to 13.
//!
//! From 4 (Kafka 0.11) because it is the first that returns batches of magic 2; to 13 (Kafka 3.1) because it names topics
//! by id (KIP-516): an offset of a deleted topic cannot be read from the topic made again under its name. What changed on
//! the way: 5 log start offset, 7 sessions (KIP-227), 9 leader epoch (KIP-320), 11 rack and preferred replica (KIP-392),
//! 12 flexible, 13 topic ids instead of names.
//!
//! Records are never copied: a client slices them out of the response frame, a broker links them into it.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};

use crate::api_key::ApiKey;
use crate::chain::Chain;
use crate::error_code::ErrorCode;
use crate::header::{encode_request_header, encode_response_header};
use crate::limits::BODY_LINK_BYTES_MIN;
use crate::primitive::{Reader, put_count, put_no_tags, put_string, share};
use crate::wire_error::WireError;

/// Versions spoken, as a client and as a broker.
pub const VERSIONS: RangeInclusive<i16> = 4..=13;

const FLEXIBLE_FROM: i16 = 12;
const IDS_FROM: i16 = 13;

/// KIP-516: all zero where the cluster gives topics none.
pub type TopicId = [u8; 16];
/// A cluster that gives topics no ids.
pub const NO_TOPIC_ID: TopicId = [0; 16];
const CURRENT_LEADER_TAG: u32 = 1;

/// A request, received or to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// -1 for a consumer.
    pub replica_id: i32,
    pub max_wait_ms: i32,
    pub min_bytes: i32,
    pub max_bytes: i32,
    /// 0 read uncommitted, 1 read committed.
    pub isolation_level: i8,
    /// 0 without a session; from version 7.
    pub session_id: i32,
    /// -1 without a session; from version 7.
    pub session_epoch: i32,
    pub topics: Vec<FetchTopic>,
    /// Partitions to drop from the session; from version 7.
    pub forgotten: Vec<ForgottenTopic>,
    /// Empty when unknown; from version 11. UTF-8 checked.
    pub rack_id: Bytes,
}

impl Default for FetchRequest {
    /// A consumer without a session, nothing asked for yet.
    fn default() -> FetchRequest {
        FetchRequest {
            replica_id: -1,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 50 << 20,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten: Vec::new(),
            rack_id: Bytes::new(),
        }
    }
}

impl FetchRequest {
    /// The versions that can say this: only with every topic's id one that names topics by it.
    pub fn versions(&self) -> RangeInclusive<i16> {
        let by_id = self.topics.iter().all(|topic| topic.id != NO_TOPIC_ID);
        let by_id = by_id && self.forgotten.iter().all(|topic| topic.id != NO_TOPIC_ID);
        *VERSIONS.start()..=if by_id { *VERSIONS.end() } else { IDS_FROM - 1 }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchTopic {
    /// UTF-8 checked; empty from version 13.
    pub name: Bytes,
    /// From version 13, in place of the name.
    pub id: TopicId,
    pub partitions: Vec<FetchPartition>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchPartition {
    pub index: i32,
    /// -1 when unknown; from version 9.
    pub current_leader_epoch: i32,
    pub fetch_offset: i64,
    /// -1 unless a follower; version 12.
    pub last_fetched_epoch: i32,
    /// -1 unless a follower; from version 5.
    pub log_start_offset: i64,
    pub partition_max_bytes: i32,
}

impl FetchPartition {
    /// What a consumer asks of one partition.
    pub fn consumer(index: i32, fetch_offset: i64, partition_max_bytes: i32) -> FetchPartition {
        FetchPartition {
            index,
            current_leader_epoch: -1,
            fetch_offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// UTF-8 checked; empty from version 13.
    pub name: Bytes,
    /// From version 13, in place of the name.
    pub id: TopicId,
    pub partitions: Vec<i32>,
}

/// A response, received or to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FetchResponse {
    pub throttle_time_ms: i32,
    /// From version 7.
    pub error: ErrorCode,
    /// From version 7.
    pub session_id: i32,
    pub topics: Vec<FetchedTopic>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedTopic {
    /// UTF-8 checked; empty from version 13.
    pub name: Bytes,
    /// From version 13, in place of the name.
    pub id: TopicId,
    pub partitions: Vec<FetchedPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedPartition {
    pub index: i32,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    /// -1 below version 5.
    pub log_start_offset: i64,
    /// Aborted transactions as (producer id, first offset).
    pub aborted: Vec<(i64, i64)>,
    /// -1 for none; from version 11.
    pub preferred_read_replica: i32,
    /// Record batches, the last one possibly cut off: see [`crate::record_batch::batches`]. Empty when null.
    pub records: Bytes,
    /// The leader's id and epoch when this broker is not it; version 12.
    pub current_leader: Option<(i32, i32)>,
}

impl FetchedPartition {
    /// An answer without records.
    pub fn empty(index: i32, error: ErrorCode) -> FetchedPartition {
        FetchedPartition {
            index,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted: Vec::new(),
            preferred_read_replica: -1,
            records: Bytes::new(),
            current_leader: None,
        }
    }
}

/// Writes a whole request frame.
///
/// # Panics
/// When the version is not one of [`VERSIONS`].
pub fn encode_request_frame(version: i16, correlation_id: i32, client_id: &str, request: &FetchRequest) -> Bytes {
    assert!(VERSIONS.contains(&version), "Fetch v{version} is not spoken here");
    let flexible = version >= FLEXIBLE_FROM;
    let partition_count: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut chain = Chain::with_capacity(96 + client_id.len() + 64 * request.topics.len() + 40 * partition_count);
    let out = &mut chain.buffer;
    encode_request_header(out, ApiKey::Fetch, version, correlation_id, client_id);
    out.put_i32(request.replica_id);
    out.put_i32(request.max_wait_ms);
    out.put_i32(request.min_bytes);
    out.put_i32(request.max_bytes);
    out.put_i8(request.isolation_level);
    if version >= 7 {
        out.put_i32(request.session_id);
        out.put_i32(request.session_epoch);
    }
    put_count(out, flexible, request.topics.len());
    for topic in &request.topics {
        put_topic(out, version, &topic.name, &topic.id);
        put_count(out, flexible, topic.partitions.len());
        for partition in &topic.partitions {
            out.put_i32(partition.index);
            if version >= 9 {
                out.put_i32(partition.current_leader_epoch);
            }
            out.put_i64(partition.fetch_offset);
            if version >= 12 {
                out.put_i32(partition.last_fetched_epoch);
            }
            if version >= 5 {
                out.put_i64(partition.log_start_offset);
            }
            out.put_i32(partition.partition_max_bytes);
            put_no_tags(out, flexible);
        }
        put_no_tags(out, flexible);
    }
    if version >= 7 {
        put_count(out, flexible, request.forgotten.len());
        for topic in &request.forgotten {
            put_topic(out, version, &topic.name, &topic.id);
            put_count(out, flexible, topic.partitions.len());
            topic.partitions.iter().for_each(|index| out.put_i32(*index));
            put_no_tags(out, flexible);
        }
    }
    if version >= 11 {
        put_string(out, flexible, &request.rack_id);
    }
    put_no_tags(out, flexible);
    chain.finish_plain()
}

fn put_topic(out: &mut BytesMut, version: i16, name: &[u8], id: &TopicId) {
    if version >= IDS_FROM {
        out.put_slice(id);
    } else {
        put_string(out, version >= FLEXIBLE_FROM, name);
    }
}

fn read_topic(version: i16, reader: &mut Reader<'_>, body: &Bytes) -> Result<(Bytes, TopicId), WireError> {
    if version >= IDS_FROM {
        let id = reader.take(16, "topic id")?.try_into().expect("16 bytes were asked for");
        return Ok((Bytes::new(), id));
    }
    Ok((share(body, reader.string(version >= FLEXIBLE_FROM, "topic name")?), NO_TOPIC_ID))
}

/// Reads a request body; bytes after it are ignored, as Kafka does.
pub fn decode_request(version: i16, body: Bytes) -> Result<FetchRequest, WireError> {
    let flexible = check_version(version)?;
    let mut reader = Reader::new(&body);
    let mut request = FetchRequest {
        replica_id: reader.i32("replica id")?,
        max_wait_ms: reader.i32("max wait")?,
        min_bytes: reader.i32("min bytes")?,
        max_bytes: reader.i32("max bytes")?,
        isolation_level: reader.i8("isolation level")?,
        ..FetchRequest::default()
    };
    if version >= 7 {
        request.session_id = reader.i32("session id")?;
        request.session_epoch = reader.i32("session epoch")?;
    }
    let topic_count = reader.count(flexible, 3, "topics")?;
    request.topics.reserve(topic_count);
    for _ in 0..topic_count {
        let (name, id) = read_topic(version, &mut reader, &body)?;
        let partition_count = reader.count(flexible, 16, "partitions")?;
        let mut partitions = Vec::with_capacity(partition_count);
        for _ in 0..partition_count {
            partitions.push(FetchPartition {
                index: reader.i32("partition index")?,
                current_leader_epoch: if version >= 9 { reader.i32("current leader epoch")? } else { -1 },
                fetch_offset: reader.i64("fetch offset")?,
                last_fetched_epoch: if version >= 12 { reader.i32("last fetched epoch")? } else { -1 },
                log_start_offset: if version >= 5 { reader.i64("log start offset")? } else { -1 },
                partition_max_bytes: reader.i32("partition max bytes")?,
            });
            reader.skip_tags(flexible)?;
        }
        reader.skip_tags(flexible)?;
        request.topics.push(FetchTopic { name, id, partitions });
    }
    if version >= 7 {
        let forgotten_count = reader.count(flexible, 3, "forgotten topics")?;
        request.forgotten.reserve(forgotten_count);
        for _ in 0..forgotten_count {
            let (name, id) = read_topic(version, &mut reader, &body)?;
            let partition_count = reader.count(flexible, 4, "partitions")?;
            let mut partitions = Vec::with_capacity(partition_count);
            for _ in 0..partition_count {
                partitions.push(reader.i32("partition index")?);
            }
            reader.skip_tags(flexible)?;
            request.forgotten.push(ForgottenTopic { name, id, partitions });
        }
    }
    if version >= 11 {
        request.rack_id = share(&body, reader.string(flexible, "rack id")?);
    }
    reader.skip_tags(flexible)?;
    Ok(request)
}

/// Writes a whole response frame as a chain, frame length first: records of at least [`BODY_LINK_BYTES_MIN`] are
/// linked, not copied.
///
/// # Panics
/// When the version is not one of [`VERSIONS`].
pub fn encode_response_frame(version: i16, correlation_id: i32, response: &FetchResponse) -> Vec<Bytes> {
    assert!(VERSIONS.contains(&version), "Fetch v{version} is not spoken here");
    let flexible = version >= FLEXIBLE_FROM;
    let mut chain = Chain::with_capacity(copied_bytes(response));
    encode_response_header(&mut chain.buffer, ApiKey::Fetch, version, correlation_id);
    chain.buffer.put_i32(response.throttle_time_ms);
    if version >= 7 {
        chain.buffer.put_i16(response.error.0);
        chain.buffer.put_i32(response.session_id);
    }
    put_count(&mut chain.buffer, flexible, response.topics.len());
    for topic in &response.topics {
        put_topic(&mut chain.buffer, version, &topic.name, &topic.id);
        put_count(&mut chain.buffer, flexible, topic.partitions.len());
        for partition in &topic.partitions {
            encode_partition(version, flexible, &mut chain, partition);
        }
        put_no_tags(&mut chain.buffer, flexible);
    }
    put_no_tags(&mut chain.buffer, flexible);
    chain.finish()
}

fn encode_partition(version: i16, flexible: bool, chain: &mut Chain, partition: &FetchedPartition) {
    let out = &mut chain.buffer;
    out.put_i32(partition.index);
    out.put_i16(partition.error.0);
    out.put_i64(partition.high_watermark);
    out.put_i64(partition.last_stable_offset);
    if version >= 5 {
        out.put_i64(partition.log_start_offset);
    }
    put_count(out, flexible, partition.aborted.len());
    for (producer_id, first_offset) in &partition.aborted {
        out.put_i64(*producer_id);
        out.put_i64(*first_offset);
        put_no_tags(out, flexible);
    }
    if version >= 11 {
        out.put_i32(partition.preferred_read_replica);
    }
    put_count(out, flexible, partition.records.len());
    chain.payload(&partition.records, BODY_LINK_BYTES_MIN);
    let out = &mut chain.buffer;
    match partition.current_leader {
        Some((id, epoch)) if version >= 12 => {
            out.put_slice(&[1, CURRENT_LEADER_TAG as u8, 9]);
            out.put_i32(id);
            out.put_i32(epoch);
            put_no_tags(out, true);
        }
        _ => put_no_tags(out, flexible),
    }
}

/// Upper bound of what [`encode_response_frame`] copies, aborted transactions and leader hints aside.
fn copied_bytes(response: &FetchResponse) -> usize {
    let mut bytes = 32;
    for topic in &response.topics {
        bytes += 16 + topic.name.len().max(topic.id.len());
        for partition in &topic.partitions {
            let copied = Some(partition.records.len()).filter(|len| *len < BODY_LINK_BYTES_MIN).unwrap_or(0);
            bytes += 64 + copied + 17 * partition.aborted.len();
        }
    }
    bytes
}

/// Reads a response body; records are slices of it. Bytes after it are ignored, as every client does.
pub fn decode_response(version: i16, body: Bytes) -> Result<FetchResponse, WireError> {
    let flexible = check_version(version)?;
    let mut reader = Reader::new(&body);
    let mut response = FetchResponse { throttle_time_ms: reader.i32("throttle time")?, ..FetchResponse::default() };
    if version >= 7 {
        response.error = ErrorCode(reader.i16("error code")?);
        response.session_id = reader.i32("session id")?;
    }
    let topic_count = reader.count(flexible, 3, "topics")?;
    response.topics.reserve(topic_count);
    for _ in 0..topic_count {
        let (name, id) = read_topic(version, &mut reader, &body)?;
        let partition_count = reader.count(flexible, 24, "partitions")?;
        let mut partitions = Vec::with_capacity(partition_count);
        for _ in 0..partition_count {
            partitions.push(decode_partition(version, flexible, &mut reader, &body)?);
        }
        reader.skip_tags(flexible)?;
        response.topics.push(FetchedTopic { name, id, partitions });
    }
    reader.skip_tags(flexible)?;
    Ok(response)
}

fn decode_partition(
    version: i16,
    flexible: bool,
    reader: &mut Reader<'_>,
    body: &Bytes,
) -> Result<FetchedPartition, WireError> {
    let index = reader.i32("partition index")?;
    let error = ErrorCode(reader.i16("error code")?);
    let high_watermark = reader.i64("high watermark")?;
    let last_stable_offset = reader.i64("last stable offset")?;
    let log_start_offset = if version >= 5 { reader.i64("log start offset")? } else { -1 };
    let aborted_count = reader.nullable_count(flexible, 16, "aborted transactions")?.unwrap_or(0);
    let mut aborted = Vec::with_capacity(aborted_count);
    for _ in 0..aborted_count {
        aborted.push((reader.i64("producer id")?, reader.i64("first offset")?));
        reader.skip_tags(flexible)?;
    }
    let preferred_read_replica = if version >= 11 { reader.i32("preferred read replica")? } else { -1 };
    let records = reader.nullable_bytes(flexible, "records")?;
    let records = records.map_or_else(Bytes::new, |records| share(body, records));
    let mut current_leader = None;
    reader.tags(flexible, |tag, mut value| {
        if tag == CURRENT_LEADER_TAG {
            let (id, epoch) = (value.i32("leader id")?, value.i32("leader epoch")?);
            // -1 is the default: the broker does not know either.
            current_leader = (id >= 0).then_some((id, epoch));
        }
        Ok(())
    })?;
    Ok(FetchedPartition {
        index,
        error,
        high_watermark,
        last_stable_offset,
        log_start_offset,
        aborted,
        preferred_read_replica,
        records,
        current_leader,
    })
}

fn check_version(version: i16) -> Result<bool, WireError> {
    if !VERSIONS.contains(&version) {
        let (min, max) = VERSIONS.into_inner();
        return Err(WireError::Version { api: ApiKey::Fetch, version, min, max });
    }
    Ok(version >= FLEXIBLE_FROM)
}
