//! The APIs that are not on the hot path, through `kafka-protocol`, whose decoder never sees bytes that were not
//! walked first.
//!
//! `kafka-protocol` 0.18 reserves memory for whatever an array count says, so a body of twelve bytes can abort the
//! process. Here every body is checked by its [`shapes`](crate::shapes) table, and only what adds up is decoded.
//! Its errors (`anyhow`, with a backtrace when one is asked for) become [`WireError::Codec`] and are off the hot path.
//!
//! Bytes that follow a message are ignored on both sides, as Kafka and its clients do: librdkafka from 2.3 to 2.16
//! writes three behind a Metadata request for all topics.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};

pub use kafka_protocol::messages as types;
pub use kafka_protocol::messages::{RequestKind, ResponseKind};
pub use kafka_protocol::protocol::StrBytes;

use crate::api_key::ApiKey;
use crate::header::{encode_request_header, encode_response_header};
use crate::limits::{COLD_REQUEST_BYTES_MAX, FRAME_BYTES_MAX};
use crate::primitive::Reader;
use crate::shape::{self, Shape};
use crate::shapes;
use crate::wire_error::WireError;

/// Versions of a cold API that we speak, as a client and as the embedded broker; empty for one that is not cold.
/// They begin where those of Kafka 4 do and end with Kafka 4.1, or where `kafka-protocol` ends.
pub fn supported(api: ApiKey) -> RangeInclusive<i16> {
    match shapes::of(api) {
        Some((request, _)) => request.versions.0..=request.versions.1.min(codec_version_max(api)),
        #[allow(clippy::reversed_empty_ranges)]
        None => 0..=-1,
    }
}

/// Where `kafka-protocol` 0.18, on one side at least, ends before the shapes do.
fn codec_version_max(api: ApiKey) -> i16 {
    match api {
        ApiKey::ListOffsets => 10,
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        ApiKey::InitProducerId => 5,
        ApiKey::DescribeLogDirs => 4,
        ApiKey::DeleteGroups => 2,
        _ => i16::MAX,
    }
}

/// Every API that [`supported`] gives versions of.
pub fn apis() -> impl Iterator<Item = ApiKey> {
    ApiKey::ALL.iter().copied().filter(|api| shapes::of(*api).is_some())
}

/// Writes a whole request frame, length first. The API is that of the request.
pub fn encode_request_frame(
    request: &RequestKind,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<Bytes, WireError> {
    let api = request_api(request)?;
    shapes_of(api, version)?;
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    encode_request_header(&mut out, api, version, correlation_id, client_id);
    request.encode(&mut out, version).map_err(|err| codec(api, &err))?;
    finish_frame(out)
}

/// Reads a request body, header already taken off.
pub fn decode_request(api: ApiKey, version: i16, body: Bytes) -> Result<RequestKind, WireError> {
    let (shape, _) = shapes_of(api, version)?;
    if body.len() > COLD_REQUEST_BYTES_MAX {
        let (found, limit) = (body.len() as u64, COLD_REQUEST_BYTES_MAX as u64);
        return Err(WireError::TooLarge { what: shape.name, offset: 0, found, limit });
    }
    shape::check(shape, version, &body)?;
    decode_checked_request(api, version, body).map_err(|err| codec(api, &err))
}

/// Writes a whole response frame, length first.
pub fn encode_response_frame(
    response: &ResponseKind,
    api: ApiKey,
    version: i16,
    correlation_id: i32,
) -> Result<Bytes, WireError> {
    shapes_of(api, version)?;
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    encode_response_header(&mut out, api, version, correlation_id);
    response.encode(&mut out, version).map_err(|err| codec(api, &err))?;
    finish_frame(out)
}

/// Reads a response body, header already taken off.
pub fn decode_response(api: ApiKey, version: i16, body: Bytes) -> Result<ResponseKind, WireError> {
    let (_, shape) = shapes_of(api, version)?;
    shape::check(shape, version, &body)?;
    decode_checked_response(api, version, body).map_err(|err| codec(api, &err))
}

fn shapes_of(api: ApiKey, version: i16) -> Result<(&'static Shape, &'static Shape), WireError> {
    let shapes = shapes::of(api).ok_or(WireError::Api { api })?;
    let versions = supported(api);
    if !versions.contains(&version) {
        return Err(WireError::Version { api, version, min: *versions.start(), max: *versions.end() });
    }
    Ok(shapes)
}

fn finish_frame(mut out: BytesMut) -> Result<Bytes, WireError> {
    let length = out.len() - 4;
    if length > FRAME_BYTES_MAX {
        let (found, limit) = (length as u64, FRAME_BYTES_MAX as u64);
        return Err(WireError::TooLarge { what: "frame", offset: 0, found, limit });
    }
    out[..4].copy_from_slice(&(length as i32).to_be_bytes());
    Ok(out.freeze())
}

#[cold]
fn codec(api: ApiKey, err: &dyn std::fmt::Display) -> WireError {
    // `{err}` prints the message without the backtrace.
    WireError::Codec { what: api.name(), reason: err.to_string() }
}

macro_rules! cold_apis {
    ($($api:ident),*) => {
        /// The API a request is for.
        fn request_api(request: &RequestKind) -> Result<ApiKey, WireError> {
            match request {
                $(RequestKind::$api(_) => Ok(ApiKey::$api),)*
                _ => Err(WireError::Codec { what: "request", reason: "is of an API that is not coded here".to_owned() }),
            }
        }

        fn decode_checked_request(api: ApiKey, version: i16, body: Bytes) -> Result<RequestKind, String> {
            match api {
                $(ApiKey::$api => {
                    decode_all(body, version).map(RequestKind::$api)
                })*
                other => Err(format!("{other} has a shape and no decoder")),
            }
        }

        fn decode_checked_response(api: ApiKey, version: i16, body: Bytes) -> Result<ResponseKind, String> {
            match api {
                $(ApiKey::$api => {
                    decode_all(body, version).map(ResponseKind::$api)
                })*
                other => Err(format!("{other} has a shape and no decoder")),
            }
        }
    };
}

cold_apis! {
    ListOffsets, Metadata, OffsetCommit, OffsetFetch, FindCoordinator, JoinGroup, Heartbeat,
    LeaveGroup, SyncGroup, DescribeGroups, ListGroups, SaslHandshake, CreateTopics, DeleteTopics,
    DeleteRecords, InitProducerId, DescribeConfigs, SaslAuthenticate, CreatePartitions,
    DeleteGroups, IncrementalAlterConfigs, DescribeCluster, AlterConfigs, OffsetDelete, DescribeLogDirs,
    DescribeTopicPartitions, DescribeClientQuotas
}

fn decode_all<T: Decodable>(mut body: Bytes, version: i16) -> Result<T, String> {
    T::decode(&mut body, version).map_err(|err| err.to_string())
}

/// Versions of the consumer protocol inside JoinGroup and SyncGroup that we write and read.
pub const CONSUMER_PROTOCOL_VERSIONS: RangeInclusive<i16> = 0..=3;

/// Writes a member's subscription, its version first, as a protocol's metadata in JoinGroup.
pub fn encode_subscription(
    version: i16,
    subscription: &types::ConsumerProtocolSubscription,
) -> Result<Bytes, WireError> {
    encode_versioned("subscription", version, subscription)
}

/// Reads a member's subscription and the version it was written in. A version newer than ours is read as ours.
pub fn decode_subscription(bytes: Bytes) -> Result<(i16, types::ConsumerProtocolSubscription), WireError> {
    decode_versioned("subscription", &shapes::consumer_protocol::SUBSCRIPTION, bytes)
}

/// Writes a member's assignment, its version first, as SyncGroup carries it.
pub fn encode_assignment(version: i16, assignment: &types::ConsumerProtocolAssignment) -> Result<Bytes, WireError> {
    encode_versioned("assignment", version, assignment)
}

/// Reads a member's assignment and the version it was written in. A version newer than ours is read as ours.
pub fn decode_assignment(bytes: Bytes) -> Result<(i16, types::ConsumerProtocolAssignment), WireError> {
    decode_versioned("assignment", &shapes::consumer_protocol::ASSIGNMENT, bytes)
}

fn encode_versioned(what: &'static str, version: i16, message: &impl Encodable) -> Result<Bytes, WireError> {
    if !CONSUMER_PROTOCOL_VERSIONS.contains(&version) {
        return Err(WireError::Invalid { what, offset: 0, found: i64::from(version) });
    }
    let mut out = BytesMut::with_capacity(64);
    out.put_i16(version);
    message.encode(&mut out, version).map_err(|err| WireError::Codec { what, reason: err.to_string() })?;
    Ok(out.freeze())
}

fn decode_versioned<T: Decodable>(what: &'static str, shape: &Shape, bytes: Bytes) -> Result<(i16, T), WireError> {
    let version = Reader::new(&bytes).i16(what)?;
    if version < 0 {
        return Err(WireError::Invalid { what, offset: 0, found: i64::from(version) });
    }
    let body = bytes.slice(2..);
    let known = version.min(*CONSUMER_PROTOCOL_VERSIONS.end());
    shape::check(shape, known, &body)?;
    let message = decode_all(body, known).map_err(|reason| WireError::Codec { what, reason })?;
    Ok((version, message))
}
