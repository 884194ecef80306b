//! Produce (API 0), versions 3 to 12.
//!
//! From 3 (Kafka 0.11) because older ones carry message sets of magic 0 and 1; to 12 because 13 names topics by id
//! (KIP-516), which a gateway that routes by name gains nothing from. What changed on the way: 5 log start offset,
//! 8 record errors (KIP-467), 9 flexible, 10 leader hints (KIP-951), 11 and 12 transactions (KIP-890).
//!
//! Broker and proxy decode a request: records stay a slice of the frame. A client encodes one: batches are linked
//! into the frame ([`encode_request_frame`]), their bodies are not touched. With `acks` 0 no response comes.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes};

use crate::api_key::ApiKey;
use crate::chain::Chain;
use crate::error_code::ErrorCode;
use crate::header::{encode_request_header, encode_response_header};
use crate::limits::{BATCH_HEADER_BYTES, BODY_LINK_BYTES_MIN};
use crate::primitive::{
    Reader, put_count, put_no_tags, put_nullable_string, put_string, put_uvarint, share, uvarint_bytes,
};
use crate::record_batch::SealedBatch;
use crate::wire_error::WireError;

/// Versions spoken, as a client and as a broker.
pub const VERSIONS: RangeInclusive<i16> = 3..=12;

const FLEXIBLE_FROM: i16 = 9;
const NODE_ENDPOINTS_TAG: u32 = 0;
const CURRENT_LEADER_TAG: u32 = 0;

/// A received request. Names and records are slices of its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceRequest {
    /// UTF-8 checked.
    pub transactional_id: Option<Bytes>,
    /// -1 all in-sync replicas, 1 the leader, 0 nobody answers.
    pub acks: i16,
    pub timeout_ms: i32,
    pub topics: Vec<TopicData>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicData {
    /// UTF-8 checked.
    pub name: Bytes,
    pub partitions: Vec<PartitionData>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionData {
    pub index: i32,
    /// The record batches as sent, unchecked: see [`crate::record_batch::validate_batch`].
    pub records: Option<Bytes>,
}

/// A topic of a request to be sent.
#[derive(Debug, Clone, Copy)]
pub struct OutTopic<'a> {
    pub name: &'a str,
    pub partitions: &'a [OutPartition<'a>],
}

/// A partition of a request to be sent: Kafka accepts one batch for each.
#[derive(Debug, Clone, Copy)]
pub struct OutPartition<'a> {
    pub index: i32,
    pub batch: &'a SealedBatch,
}

/// A response, received or to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProduceResponse {
    pub topics: Vec<TopicResult>,
    pub throttle_time_ms: i32,
    /// Where the leaders of [`PartitionResult::current_leader`] listen; from version 10.
    pub node_endpoints: Vec<NodeEndpoint>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResult {
    /// UTF-8 checked.
    pub name: Bytes,
    pub partitions: Vec<PartitionResult>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResult {
    pub index: i32,
    pub error: ErrorCode,
    /// Offset of the batch's first record; -1 on an error.
    pub base_offset: i64,
    /// Append time when the topic uses it, else -1.
    pub log_append_time_ms: i64,
    /// First offset of the partition; -1 below version 5.
    pub log_start_offset: i64,
    /// Records that made the broker refuse the batch, by their index in it; from version 8.
    pub record_errors: Vec<(i32, Option<String>)>,
    /// From version 8.
    pub error_message: Option<String>,
    /// The leader's id and epoch when this broker is not it; from version 10.
    pub current_leader: Option<(i32, i32)>,
}

impl PartitionResult {
    /// Stored, first record at `base_offset`.
    pub fn stored(index: i32, base_offset: i64, log_append_time_ms: i64, log_start_offset: i64) -> PartitionResult {
        PartitionResult {
            base_offset,
            log_append_time_ms,
            log_start_offset,
            ..PartitionResult::refused(index, ErrorCode::NONE)
        }
    }

    /// Not stored.
    pub fn refused(index: i32, error: ErrorCode) -> PartitionResult {
        PartitionResult {
            index,
            error,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoint {
    pub id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

/// Writes a whole request frame with the batches linked in: header and fields in small pieces, bodies of at least
/// [`BODY_LINK_BYTES_MIN`] shared. Write the parts in order, with one `writev` where possible.
///
/// # Panics
/// When the version is not one of [`VERSIONS`].
pub fn encode_request_frame(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    acks: i16,
    timeout_ms: i32,
    topics: &[OutTopic<'_>],
) -> Vec<Bytes> {
    assert!(VERSIONS.contains(&version), "Produce v{version} is not spoken here");
    let flexible = version >= FLEXIBLE_FROM;
    let mut chain = Chain::with_capacity(copied_bytes(client_id, topics));
    encode_request_header(&mut chain.buffer, ApiKey::Produce, version, correlation_id, client_id);
    put_nullable_string(&mut chain.buffer, flexible, None); // transactional id
    chain.buffer.put_i16(acks);
    chain.buffer.put_i32(timeout_ms);
    put_count(&mut chain.buffer, flexible, topics.len());
    for topic in topics {
        put_string(&mut chain.buffer, flexible, topic.name.as_bytes());
        put_count(&mut chain.buffer, flexible, topic.partitions.len());
        for partition in topic.partitions {
            chain.buffer.put_i32(partition.index);
            put_count(&mut chain.buffer, flexible, partition.batch.bytes());
            chain.buffer.put_slice(&partition.batch.header_to_send());
            for chunk in partition.batch.body() {
                chain.payload(chunk, BODY_LINK_BYTES_MIN);
            }
            put_no_tags(&mut chain.buffer, flexible);
        }
        put_no_tags(&mut chain.buffer, flexible);
    }
    put_no_tags(&mut chain.buffer, flexible);
    chain.finish()
}

/// Upper bound of what [`encode_request_frame`] copies, so that its buffer is allocated once.
fn copied_bytes(client_id: &str, topics: &[OutTopic<'_>]) -> usize {
    let mut bytes = 64 + client_id.len();
    for topic in topics {
        bytes += 16 + topic.name.len();
        for partition in topic.partitions {
            bytes += 16 + BATCH_HEADER_BYTES;
            bytes +=
                partition.batch.body().iter().map(Bytes::len).filter(|len| *len < BODY_LINK_BYTES_MIN).sum::<usize>();
        }
    }
    bytes
}

/// Reads a request body; bytes after it are ignored, as Kafka does.
pub fn decode_request(version: i16, body: Bytes) -> Result<ProduceRequest, WireError> {
    let flexible = check_version(version)?;
    let mut reader = Reader::new(&body);
    let transactional_id = reader.nullable_string(flexible, "transactional id")?.map(|id| share(&body, id));
    let acks = reader.i16("acks")?;
    let timeout_ms = reader.i32("timeout")?;
    let topic_count = reader.count(flexible, 3, "topics")?;
    let mut topics = Vec::with_capacity(topic_count);
    for _ in 0..topic_count {
        let name = share(&body, reader.string(flexible, "topic name")?);
        let partition_count = reader.count(flexible, 5, "partitions")?;
        let mut partitions = Vec::with_capacity(partition_count);
        for _ in 0..partition_count {
            let index = reader.i32("partition index")?;
            let records = reader.nullable_bytes(flexible, "records")?.map(|records| share(&body, records));
            reader.skip_tags(flexible)?;
            partitions.push(PartitionData { index, records });
        }
        reader.skip_tags(flexible)?;
        topics.push(TopicData { name, partitions });
    }
    reader.skip_tags(flexible)?;
    Ok(ProduceRequest { transactional_id, acks, timeout_ms, topics })
}

/// Writes a whole response frame.
///
/// # Panics
/// When the version is not one of [`VERSIONS`].
pub fn encode_response_frame(version: i16, correlation_id: i32, response: &ProduceResponse) -> Bytes {
    assert!(VERSIONS.contains(&version), "Produce v{version} is not spoken here");
    let flexible = version >= FLEXIBLE_FROM;
    let partition_count: usize = response.topics.iter().map(|topic| topic.partitions.len()).sum();
    let mut chain = Chain::with_capacity(64 + 64 * (response.topics.len() + partition_count));
    let out = &mut chain.buffer;
    encode_response_header(out, ApiKey::Produce, version, correlation_id);
    put_count(out, flexible, response.topics.len());
    for topic in &response.topics {
        put_string(out, flexible, &topic.name);
        put_count(out, flexible, topic.partitions.len());
        for partition in &topic.partitions {
            out.put_i32(partition.index);
            out.put_i16(partition.error.0);
            out.put_i64(partition.base_offset);
            out.put_i64(partition.log_append_time_ms);
            if version >= 5 {
                out.put_i64(partition.log_start_offset);
            }
            if version >= 8 {
                put_count(out, flexible, partition.record_errors.len());
                for (index, message) in &partition.record_errors {
                    out.put_i32(*index);
                    put_nullable_string(out, flexible, message.as_ref().map(String::as_bytes));
                    put_no_tags(out, flexible);
                }
                put_nullable_string(out, flexible, partition.error_message.as_ref().map(String::as_bytes));
            }
            match partition.current_leader {
                Some((id, epoch)) if version >= 10 => {
                    out.put_slice(&[1, CURRENT_LEADER_TAG as u8, 9]);
                    out.put_i32(id);
                    out.put_i32(epoch);
                    put_no_tags(out, true);
                }
                _ => put_no_tags(out, flexible),
            }
        }
        put_no_tags(out, flexible);
    }
    out.put_i32(response.throttle_time_ms);
    if version >= 10 && !response.node_endpoints.is_empty() {
        put_node_endpoints(out, &response.node_endpoints);
    } else {
        put_no_tags(out, flexible);
    }
    chain.finish_plain()
}

fn put_node_endpoints(out: &mut bytes::BytesMut, endpoints: &[NodeEndpoint]) {
    let mut value = bytes::BytesMut::new();
    put_count(&mut value, true, endpoints.len());
    for endpoint in endpoints {
        value.put_i32(endpoint.id);
        put_string(&mut value, true, endpoint.host.as_bytes());
        value.put_i32(endpoint.port);
        put_nullable_string(&mut value, true, endpoint.rack.as_ref().map(String::as_bytes));
        put_no_tags(&mut value, true);
    }
    out.reserve(2 + uvarint_bytes(value.len() as u64) + value.len());
    out.put_slice(&[1, NODE_ENDPOINTS_TAG as u8]);
    put_uvarint(out, value.len() as u32);
    out.put_slice(&value);
}

/// Reads a response body. Bytes after it are ignored, as every client does.
pub fn decode_response(version: i16, body: Bytes) -> Result<ProduceResponse, WireError> {
    let flexible = check_version(version)?;
    let mut reader = Reader::new(&body);
    let topic_count = reader.count(flexible, 3, "topics")?;
    let mut topics = Vec::with_capacity(topic_count);
    for _ in 0..topic_count {
        let name = share(&body, reader.string(flexible, "topic name")?);
        let partition_count = reader.count(flexible, 22, "partitions")?;
        let mut partitions = Vec::with_capacity(partition_count);
        for _ in 0..partition_count {
            partitions.push(decode_partition_result(version, flexible, &mut reader)?);
        }
        reader.skip_tags(flexible)?;
        topics.push(TopicResult { name, partitions });
    }
    let throttle_time_ms = reader.i32("throttle time")?;
    let mut node_endpoints = Vec::new();
    reader.tags(flexible, |tag, mut value| {
        if version >= 10 && tag == NODE_ENDPOINTS_TAG {
            node_endpoints = decode_node_endpoints(&mut value)?;
        }
        Ok(())
    })?;
    Ok(ProduceResponse { topics, throttle_time_ms, node_endpoints })
}

fn decode_partition_result(
    version: i16,
    flexible: bool,
    reader: &mut Reader<'_>,
) -> Result<PartitionResult, WireError> {
    let index = reader.i32("partition index")?;
    let error = ErrorCode(reader.i16("error code")?);
    let base_offset = reader.i64("base offset")?;
    let log_append_time_ms = reader.i64("log append time")?;
    let log_start_offset = if version >= 5 { reader.i64("log start offset")? } else { -1 };
    let mut record_errors = Vec::new();
    let mut error_message = None;
    if version >= 8 {
        let count = reader.count(flexible, 5, "record errors")?;
        record_errors.reserve(count);
        for _ in 0..count {
            let batch_index = reader.i32("batch index")?;
            record_errors.push((batch_index, text(reader.nullable_string(flexible, "record error message")?)));
            reader.skip_tags(flexible)?;
        }
        error_message = text(reader.nullable_string(flexible, "error message")?);
    }
    let mut current_leader = None;
    reader.tags(flexible, |tag, mut value| {
        if version >= 10 && tag == CURRENT_LEADER_TAG {
            let (id, epoch) = (value.i32("leader id")?, value.i32("leader epoch")?);
            // -1 is the default: the broker does not know either.
            current_leader = (id >= 0).then_some((id, epoch));
        }
        Ok(())
    })?;
    Ok(PartitionResult {
        index,
        error,
        base_offset,
        log_append_time_ms,
        log_start_offset,
        record_errors,
        error_message,
        current_leader,
    })
}

fn decode_node_endpoints(reader: &mut Reader<'_>) -> Result<Vec<NodeEndpoint>, WireError> {
    let count = reader.count(true, 11, "node endpoints")?;
    let mut endpoints = Vec::with_capacity(count);
    for _ in 0..count {
        let id = reader.i32("node id")?;
        let host = text(Some(reader.string(true, "host")?)).unwrap_or_default();
        let port = reader.i32("port")?;
        let rack = text(reader.nullable_string(true, "rack")?);
        reader.skip_tags(true)?;
        endpoints.push(NodeEndpoint { id, host, port, rack });
    }
    Ok(endpoints)
}

/// A string the reader has checked, as an owned one.
fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn check_version(version: i16) -> Result<bool, WireError> {
    if !VERSIONS.contains(&version) {
        let (min, max) = VERSIONS.into_inner();
        return Err(WireError::Version { api: ApiKey::Produce, version, min, max });
    }
    Ok(version >= FLEXIBLE_FROM)
}
