//! The consumer protocol: what members and leader say to each other inside JoinGroup and SyncGroup.
//!
//! ```text
//! Subscription: version i16 · topics [string] · user_data nullable bytes · (v1) owned [topic, [i32]] · (v2) generation · (v3) rack
//! Assignment:   version i16 · partitions [topic string, [partition i32]] · user_data nullable bytes
//! ```
//! We write version 0 of both, which every client reads, and read any version: newer ones only append fields
//! (KIP-429, KIP-792, KIP-881), and the range assignor needs none of them.
//!
//! The bytes were written by whoever else is in the group, so every count is checked against the bytes present before
//! anything is reserved.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What `protocol_type` says in a consumer group.
pub const PROTOCOL_TYPE: &str = "consumer";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("{what} ends after {have} bytes where {need} were announced")]
    Short { what: &'static str, need: usize, have: usize },
    #[error("{what} has length {length}")]
    Length { what: &'static str, length: i64 },
    #[error("{what} is not UTF-8")]
    NotUtf8 { what: &'static str },
    #[error("version {version} is negative")]
    Version { version: i16 },
}

/// A subscription to `topics` (version 0).
pub fn encode_subscription(topics: &[&str]) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + topics.iter().map(|topic| topic.len() + 2).sum::<usize>());
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    for topic in topics {
        put_string(&mut out, topic);
    }
    out.put_i32(-1);
    out.freeze()
}

/// The topics of a subscription of any version.
pub fn decode_subscription(mut bytes: Bytes) -> Result<Vec<String>, ProtocolError> {
    take_version(&mut bytes)?;
    let count = take_count(&mut bytes, "subscription topics", 2)?;
    let mut topics = Vec::with_capacity(count);
    for _ in 0..count {
        topics.push(take_string(&mut bytes, "subscription topic")?);
    }
    Ok(topics)
}

/// One member's share (version 0).
pub fn encode_assignment(share: &[(String, Vec<i32>)]) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_i16(0);
    out.put_i32(share.len() as i32);
    for (topic, partitions) in share {
        put_string(&mut out, topic);
        out.put_i32(partitions.len() as i32);
        for partition in partitions {
            out.put_i32(*partition);
        }
    }
    out.put_i32(-1);
    out.freeze()
}

/// A member's share. No bytes at all means no partition: Kafka sends that to members its leader forgot.
pub fn decode_assignment(mut bytes: Bytes) -> Result<Vec<(String, Vec<i32>)>, ProtocolError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    take_version(&mut bytes)?;
    let count = take_count(&mut bytes, "assigned topics", 6)?;
    let mut share = Vec::with_capacity(count);
    for _ in 0..count {
        let topic = take_string(&mut bytes, "assigned topic")?;
        let partition_count = take_count(&mut bytes, "assigned partitions", 4)?;
        share.push((topic, (0..partition_count).map(|_| bytes.get_i32()).collect()));
    }
    Ok(share)
}

fn put_string(out: &mut BytesMut, text: &str) {
    let length = i16::try_from(text.len()).expect("Kafka topic names have at most 249 bytes");
    out.put_i16(length);
    out.put_slice(text.as_bytes());
}

fn take_version(bytes: &mut Bytes) -> Result<i16, ProtocolError> {
    need(bytes, "version", 2)?;
    match bytes.get_i16() {
        version @ ..0 => Err(ProtocolError::Version { version }),
        version => Ok(version),
    }
}

/// An array's count, checked against the bytes its elements need at least.
fn take_count(bytes: &mut Bytes, what: &'static str, element_bytes_min: usize) -> Result<usize, ProtocolError> {
    need(bytes, what, 4)?;
    let count = bytes.get_i32();
    let count_checked = usize::try_from(count).map_err(|_| ProtocolError::Length { what, length: count.into() })?;
    need(bytes, what, count_checked.saturating_mul(element_bytes_min))?;
    Ok(count_checked)
}

fn take_string(bytes: &mut Bytes, what: &'static str) -> Result<String, ProtocolError> {
    need(bytes, what, 2)?;
    let length = bytes.get_i16();
    let length = usize::try_from(length).map_err(|_| ProtocolError::Length { what, length: length.into() })?;
    need(bytes, what, length)?;
    let text = bytes.split_to(length);
    std::str::from_utf8(&text).map(str::to_owned).map_err(|_| ProtocolError::NotUtf8 { what })
}

fn need(bytes: &Bytes, what: &'static str, need: usize) -> Result<(), ProtocolError> {
    if bytes.len() < need {
        return Err(ProtocolError::Short { what, need, have: bytes.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_subscription_is_written_as_version_0_bytes_every_client_reads() {
        let bytes = encode_subscription(&["t1"]);
        assert_eq!(&bytes[..], b"\x00\x00\x00\x00\x00\x01\x00\x02t1\xff\xff\xff\xff");
    }

    #[test]
    fn an_assignment_is_written_as_version_0_bytes_every_client_reads() {
        let bytes = encode_assignment(&[("t1".to_owned(), vec![3])]);
        assert_eq!(&bytes[..], b"\0\0\0\0\0\x01\0\x02t1\0\0\0\x01\0\0\0\x03\xff\xff\xff\xff");
    }

    #[test]
    fn the_subscription_of_a_java_client_with_owned_partitions_generation_and_rack_is_read() {
        // Version 3 as kafka-clients 3.9 writes it: two topics, null user data, one owned partition, generation 7, rack "a".
        let bytes = Bytes::from_static(
            b"\x00\x03\x00\x00\x00\x02\x00\x01x\x00\x01y\xff\xff\xff\xff\
              \x00\x00\x00\x01\x00\x01x\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x07\x00\x01a",
        );
        assert_eq!(decode_subscription(bytes).unwrap(), ["x", "y"]);
    }

    #[test]
    fn an_assignment_survives_the_round_trip_and_no_bytes_mean_no_partition() {
        let share = vec![("a".to_owned(), vec![0, 1, 5]), ("b".to_owned(), vec![])];
        assert_eq!(decode_assignment(encode_assignment(&share)).unwrap(), share);
        assert_eq!(decode_assignment(Bytes::new()).unwrap(), []);
    }

    #[test]
    fn hostile_counts_are_errors_before_anything_is_reserved() {
        for (bytes, error) in [
            (
                &b"\x00\x00\x7f\xff\xff\xff"[..],
                "subscription topics ends after 0 bytes where 4294967294 were announced",
            ),
            (b"\x00\x00\xff\xff\xff\xff", "subscription topics has length -1"),
            (b"\x00\x00\x00\x00\x00\x01\x00\x05ab", "subscription topic ends after 2 bytes where 5 were announced"),
            (b"\x00\x00\x00\x00\x00\x01\x00\x01\xff", "subscription topic is not UTF-8"),
            (b"\xff\xff\x00\x00\x00\x00", "version -1 is negative"),
            (b"\x00", "version ends after 1 bytes where 2 were announced"),
        ] {
            assert_eq!(decode_subscription(Bytes::copy_from_slice(bytes)).unwrap_err().to_string(), error);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_whatever_panic_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode_subscription(Bytes::from(bytes.clone()));
            let _ = decode_assignment(Bytes::from(bytes));
        }
    }
}
