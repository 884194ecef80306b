//! What a proxy reads of a request whose end has not arrived: enough to route it and to know what will answer it.
//!
//! Everything here takes the bytes behind a frame's length, as many as are there. [`WireError::Truncated`] means "not
//! yet" while the frame is not whole, and "never" once it is.

use std::ops::Range;

use crate::api_key::ApiKey;
use crate::limits::ARRAY_ELEMENTS_MAX;
use crate::primitive::Reader;
use crate::wire_error::WireError;

/// The fixed start of a request header, the same in all its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestStart {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
}

/// Bytes of a [`RequestStart`].
pub const REQUEST_START_BYTES: usize = 8;

/// Reads key, version and correlation id.
pub fn request_start(bytes: &[u8]) -> Result<RequestStart, WireError> {
    let mut reader = Reader::new(bytes);
    Ok(RequestStart {
        api_key: reader.i16("api key")?,
        api_version: reader.i16("api version")?,
        correlation_id: reader.i32("correlation id")?,
    })
}

/// Reads the client id of a request with a header of version 1 or 2; None when null.
pub fn client_id(bytes: &[u8]) -> Result<Option<&[u8]>, WireError> {
    let mut reader = Reader::new(bytes);
    reader.take(REQUEST_START_BYTES, "request header")?;
    reader.nullable_string(false, "client id")
}

/// Reads `acks` of a Produce request of any version: 0 says that no response will come.
pub fn produce_acks(bytes: &[u8]) -> Result<i16, WireError> {
    let start = request_start(bytes)?;
    let flexible = ApiKey::Produce.request_header_version(start.api_version) >= 2;
    let mut reader = Reader::new(bytes);
    reader.take(REQUEST_START_BYTES, "request header")?;
    reader.nullable_string(false, "client id")?;
    if flexible {
        skip_tags_so_far(&mut reader)?;
    }
    if start.api_version >= TRANSACTIONAL_ID_FROM {
        reader.nullable_string(flexible, "transactional id")?;
    }
    reader.i16("acks")
}

/// How a Produce request begins: what a proxy has to know, and to replace, before its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceHead {
    /// Where the transactional id stands, with its length.
    pub transactional_id: Range<usize>,
    pub acks: i16,
    pub topic_count: usize,
    /// Where the first topic's name stands, with its length, or its id (from version 13). None without a topic.
    pub topic: Option<Range<usize>>,
}

/// Topics are named by id from here (KIP-516).
pub const PRODUCE_TOPIC_ID_FROM: i16 = 13;

/// Reads the head of a Produce request of version 3 or later. Ranges are of `bytes`.
pub fn produce_head(bytes: &[u8]) -> Result<ProduceHead, WireError> {
    let start = request_start(bytes)?;
    let flexible = ApiKey::Produce.request_header_version(start.api_version) >= 2;
    let mut reader = Reader::new(bytes);
    reader.take(REQUEST_START_BYTES, "request header")?;
    reader.nullable_string(false, "client id")?;
    if flexible {
        skip_tags_so_far(&mut reader)?;
    }
    let from = reader.offset();
    reader.nullable_string(flexible, "transactional id")?;
    let transactional_id = from..reader.offset();
    let acks = reader.i16("acks")?;
    reader.i32("timeout")?;
    let topic_count = count_so_far(&mut reader, flexible)?;
    let by_id = start.api_version >= PRODUCE_TOPIC_ID_FROM;
    let topic = first_topic(&mut reader, topic_count, flexible, by_id)?;
    Ok(ProduceHead { transactional_id, acks, topic_count, topic })
}

/// How a Fetch response begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchAnswerHead {
    pub throttle_time_ms: Range<usize>,
    /// The count of topics.
    pub topics: Range<usize>,
    pub topic_count: usize,
    /// Where the first topic's name stands, with its length, or its id (from version 13). None without a topic.
    pub topic: Option<Range<usize>>,
}

/// Topics are named by id from here (KIP-516).
pub const FETCH_TOPIC_ID_FROM: i16 = 13;
/// Fetch sessions begin here (KIP-227).
const FETCH_SESSION_FROM: i16 = 7;
const FETCH_FLEXIBLE_FROM: i16 = 12;

/// Reads the head of a Fetch response of version 1 or later, from behind the frame's length. Ranges are of `bytes`.
pub fn fetch_answer_head(bytes: &[u8], version: i16) -> Result<FetchAnswerHead, WireError> {
    let flexible = version >= FETCH_FLEXIBLE_FROM;
    let mut reader = Reader::new(bytes);
    reader.i32("correlation id")?;
    if flexible {
        skip_tags_so_far(&mut reader)?;
    }
    let from = reader.offset();
    reader.i32("throttle time")?;
    let throttle_time_ms = from..reader.offset();
    if version >= FETCH_SESSION_FROM {
        reader.i16("error code")?;
        reader.i32("session id")?;
    }
    let from = reader.offset();
    let topic_count = count_so_far(&mut reader, flexible)?;
    let topics = from..reader.offset();
    let topic = first_topic(&mut reader, topic_count, flexible, version >= FETCH_TOPIC_ID_FROM)?;
    Ok(FetchAnswerHead { throttle_time_ms, topics, topic_count, topic })
}

/// A count that the bytes which are there need not back.
fn count_so_far(reader: &mut Reader<'_>, flexible: bool) -> Result<usize, WireError> {
    let offset = reader.offset();
    let count = match flexible {
        true => i64::from(reader.uvarint("topics")?) - 1,
        false => i64::from(reader.i32("topics")?),
    };
    match usize::try_from(count) {
        Ok(count) if count <= ARRAY_ELEMENTS_MAX => Ok(count),
        _ => Err(WireError::Invalid { what: "topics", offset, found: count }),
    }
}

fn first_topic(
    reader: &mut Reader<'_>,
    count: usize,
    flexible: bool,
    by_id: bool,
) -> Result<Option<Range<usize>>, WireError> {
    if count == 0 {
        return Ok(None);
    }
    let from = reader.offset();
    match by_id {
        true => reader.take(TOPIC_ID_BYTES, "topic id")?,
        false => reader.string(flexible, "topic")?,
    };
    Ok(Some(from..reader.offset()))
}

const TOPIC_ID_BYTES: usize = 16;

/// As `Reader::skip_tags`, which takes a count that is larger than the bytes there for a lie.
fn skip_tags_so_far(reader: &mut Reader<'_>) -> Result<(), WireError> {
    let mut previous = None;
    for _ in 0..reader.tag_count_so_far()? {
        let (_, size) = reader.tag_head(&mut previous)?;
        reader.take(size, "tagged field")?;
    }
    Ok(())
}

/// Produce names its transaction from here (KIP-98).
const TRANSACTIONAL_ID_FROM: i16 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::encode_request_header;
    use bytes::{BufMut, BytesMut};

    fn produce(version: i16, transactional_id: Option<&str>, acks: i16) -> BytesMut {
        let mut bytes = BytesMut::new();
        encode_request_header(&mut bytes, ApiKey::Produce, version, 9, "client");
        if version >= 9 {
            // Two tagged fields instead of none.
            let end = bytes.len() - 1;
            bytes.truncate(end);
            bytes.put_slice(&[2, 0, 1, 7, 9, 2, 7, 7]);
        }
        if version >= 3 {
            crate::primitive::put_nullable_string(&mut bytes, version >= 9, transactional_id.map(str::as_bytes));
        }
        bytes.put_i16(acks);
        bytes
    }

    #[test]
    fn acks_stands_behind_a_name_that_changed_its_coding_twice() {
        for version in 0..=13 {
            for transactional_id in [None, Some(""), Some("payments-1")] {
                for acks in [-1, 0, 1] {
                    let bytes = produce(version, transactional_id, acks);
                    assert_eq!(produce_acks(&bytes), Ok(acks), "v{version} {transactional_id:?}");
                    for size in 0..bytes.len() {
                        let cut = produce_acks(&bytes[..size]);
                        assert!(matches!(cut, Err(WireError::Truncated { .. })), "v{version} cut at {size}: {cut:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_head_of_a_produce_says_where_its_names_stand() {
        for version in 3..=13 {
            let flexible = version >= 9;
            let mut bytes = produce(version, Some("tx"), -1);
            let start = bytes.len();
            bytes.put_i32(30_000);
            crate::primitive::put_count(&mut bytes, flexible, 2);
            let at = bytes.len();
            match version >= PRODUCE_TOPIC_ID_FROM {
                true => bytes.put_slice(&[7; 16]),
                false => crate::primitive::put_string(&mut bytes, flexible, b"orders.v1"),
            }
            let head = produce_head(&bytes).unwrap();
            let id_bytes = if flexible { 3 } else { 4 };
            let id_at = start - 2 - id_bytes;
            let (topic_count, topic) = (2, Some(at..bytes.len()));
            let expected = ProduceHead { transactional_id: id_at..id_at + id_bytes, acks: -1, topic_count, topic };
            assert_eq!(head, expected, "v{version}");
            for size in 0..bytes.len() {
                let cut = produce_head(&bytes[..size]);
                assert!(matches!(cut, Err(WireError::Truncated { .. })), "v{version} cut at {size}: {cut:?}");
            }
        }
    }

    #[test]
    fn the_head_of_a_fetch_answer_says_where_its_topics_begin() {
        for version in 4..=18 {
            let flexible = version >= FETCH_FLEXIBLE_FROM;
            let mut bytes = BytesMut::new();
            bytes.put_i32(9);
            if flexible {
                bytes.put_slice(&[1, 0, 1, 7]);
            }
            let throttle = bytes.len();
            bytes.put_i32(0);
            if version >= FETCH_SESSION_FROM {
                bytes.put_slice(&[0; 6]);
            }
            let from = bytes.len();
            crate::primitive::put_count(&mut bytes, flexible, 1);
            let topics = from..bytes.len();
            match version >= FETCH_TOPIC_ID_FROM {
                true => bytes.put_slice(&[7; 16]),
                false => crate::primitive::put_string(&mut bytes, flexible, b"orders.v1"),
            }
            let (throttle_time_ms, topic) = (throttle..throttle + 4, Some(topics.end..bytes.len()));
            let expected = FetchAnswerHead { throttle_time_ms, topics, topic_count: 1, topic };
            assert_eq!(fetch_answer_head(&bytes, version), Ok(expected), "v{version}");
            for size in 0..bytes.len() {
                let cut = fetch_answer_head(&bytes[..size], version);
                assert!(matches!(cut, Err(WireError::Truncated { .. })), "v{version} cut at {size}: {cut:?}");
            }
        }
    }

    #[test]
    fn the_start_and_the_client_id_are_read_without_the_rest() {
        let bytes = produce(9, None, 1);
        let start = RequestStart { api_key: 0, api_version: 9, correlation_id: 9 };
        assert_eq!(request_start(&bytes), Ok(start));
        assert_eq!(client_id(&bytes), Ok(Some(&b"client"[..])));
    }
}
