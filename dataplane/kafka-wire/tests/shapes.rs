//! The shape tables against `kafka-protocol`: random messages written from a table, over every API and version, are
//! read by its decoder, field for field, and written back byte for byte. So both see every count and length at the same
//! place, which is what makes checking by one a guard for the other. Versions that `kafka-protocol` does not know are
//! held against bytes written by Kafka itself.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable};
use kafka_wire::cold::{
    self, decode_assignment, decode_request, decode_response, decode_subscription, encode_assignment,
    encode_request_frame, encode_response_frame, encode_subscription, types,
};
use kafka_wire::header::{decode_request_header, decode_response_header};
use kafka_wire::limits::{ARRAY_ELEMENTS_MAX, TAGGED_FIELDS_MAX};
use kafka_wire::shape::{Field, Kind, Shape, check, walk};
use kafka_wire::{ApiKey, WireError, shapes};

/// Messages per API, version and side. Raise it when a table is new.
const SEEDS: u64 = 24;

/// A small generator of messages; the seed decides everything.
struct Writer {
    state: u64,
    version: i16,
    flexible: bool,
    out: BytesMut,
}

impl Writer {
    fn message(shape: &Shape, version: i16, seed: u64) -> Bytes {
        let state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut writer = Writer { state, version, flexible: version >= shape.flexible_from, out: BytesMut::new() };
        writer.structure(shape.fields);
        writer.out.freeze()
    }

    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % below
    }

    fn structure(&mut self, fields: &'static [Field]) {
        let version = self.version;
        let present = |field: &&Field| field.since <= version && version <= field.until;
        for field in fields.iter().filter(present).filter(|field| field.tag.is_none()) {
            self.field(field.kind, field.nullable);
        }
        if !self.flexible {
            return;
        }
        let mut tags = Vec::new();
        for field in fields.iter().filter(present) {
            if let Some(tag) = field.tag
                && self.random(2) == 0
            {
                let mut value = std::mem::take(&mut self.out);
                self.field(field.kind, field.nullable);
                std::mem::swap(&mut value, &mut self.out);
                // A default value would be left out when written back: zero, or an array without elements.
                let is_empty = matches!(field.kind, Kind::Array(_)) && value[..] == [1];
                if !is_empty && value.iter().any(|byte| *byte != 0) {
                    tags.push((tag, value));
                }
            }
        }
        for unknown in 0..self.random(8).saturating_sub(5) {
            let value = vec![0xab; self.random(20) as usize];
            tags.push((100 + 200 * unknown as u32, BytesMut::from(&value[..])));
        }
        self.uvarint(tags.len() as u32);
        for (tag, value) in tags {
            self.uvarint(tag);
            self.uvarint(value.len() as u32);
            self.out.put_slice(&value);
        }
    }

    fn field(&mut self, kind: Kind, nullable: bool) {
        match kind {
            Kind::Bool => self.out.put_u8((self.state & 1) as u8),
            Kind::Int8 => self.fixed(1),
            Kind::Int16 | Kind::Uint16 => self.fixed(2),
            Kind::Int32 | Kind::Uint32 => self.fixed(4),
            Kind::Int64 | Kind::Float64 => self.fixed(8),
            Kind::Uuid => self.fixed(16),
            Kind::String => {
                let size = self.size(nullable, 40);
                match (size, self.flexible) {
                    (None, false) => self.out.put_i16(-1),
                    (Some(size), false) => self.out.put_i16(size as i16),
                    (size, true) => self.uvarint(size.map_or(0, |size| size + 1)),
                }
                for n in 0..size.unwrap_or(0) {
                    self.out.put_u8(b'a' + (n % 26) as u8);
                }
            }
            Kind::Bytes => {
                let size = self.size(nullable, 200);
                self.count(size);
                self.fixed(size.unwrap_or(0) as usize);
            }
            Kind::Array(element) => {
                let count = self.size(nullable, 4);
                self.count(count);
                for _ in 0..count.unwrap_or(0) {
                    self.field(*element, false);
                }
            }
            Kind::Struct(fields) => self.structure(fields),
            Kind::NullableStruct(fields) => match self.random(2) {
                0 => self.out.put_i8(-1),
                _ => {
                    self.out.put_i8(1);
                    self.structure(fields);
                }
            },
        }
    }

    fn fixed(&mut self, size: usize) {
        for _ in 0..size {
            let byte = self.random(256) as u8;
            self.out.put_u8(byte);
        }
    }

    fn size(&mut self, nullable: bool, below: u64) -> Option<u32> {
        if nullable && self.random(4) == 0 { None } else { Some(self.random(below) as u32) }
    }

    fn count(&mut self, count: Option<u32>) {
        match (count, self.flexible) {
            (count, true) => self.uvarint(count.map_or(0, |count| count + 1)),
            (None, false) => self.out.put_i32(-1),
            (Some(count), false) => self.out.put_i32(count as i32),
        }
    }

    fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }
}

/// Calls `test` with random messages of every cold API, version and side.
fn for_every_message(mut test: impl FnMut(ApiKey, bool, &'static Shape, i16, Bytes)) {
    for api in cold::apis() {
        let (request, response) = shapes::of(api).expect("a cold API has shapes");
        for version in cold::supported(api) {
            for seed in 0..SEEDS {
                test(api, true, request, version, Writer::message(request, version, seed));
                test(api, false, response, version, Writer::message(response, version, seed));
            }
        }
    }
}

#[test]
fn every_message_of_a_table_is_read_by_kafka_protocol_and_written_back_the_same() {
    let mut messages = 0;
    for_every_message(|api, is_request, shape, version, body| {
        let what = || format!("{} v{version}: {body:02x?}", shape.name);
        assert_eq!(check(shape, version, &body), Ok(body.len()), "{}", what());
        let written = if is_request {
            let read = decode_request(api, version, body.clone()).unwrap_or_else(|err| panic!("{err}: {}", what()));
            let mut frame = encode_request_frame(&read, version, 1, "t").expect("what was read is written").slice(4..);
            decode_request_header(&mut frame).expect("our own header");
            frame
        } else {
            let read = decode_response(api, version, body.clone()).unwrap_or_else(|err| panic!("{err}: {}", what()));
            let mut frame = encode_response_frame(&read, api, version, 1).expect("what was read is written").slice(4..);
            decode_response_header(&mut frame, api, version).expect("our own header");
            frame
        };
        assert_eq!(written, body, "{}", what());
        messages += 1;
    });
    assert!(messages > 3000, "{messages} messages were tried");
}

/// The same for a message that kafka-wire does not decode through `kafka-protocol`, or not in all of `versions`.
fn agrees<T: Decodable + Encodable + Debug>(shape: &'static Shape, versions: RangeInclusive<i16>) {
    for version in versions {
        for seed in 0..SEEDS {
            let body = Writer::message(shape, version, seed);
            let what = || format!("{} v{version}: {body:02x?}", shape.name);
            assert_eq!(check(shape, version, &body), Ok(body.len()), "{}", what());
            let mut left = body.clone();
            let read = T::decode(&mut left, version).unwrap_or_else(|err| panic!("{err}: {}", what()));
            assert!(left.is_empty(), "{}", what());
            let mut written = BytesMut::new();
            read.encode(&mut written, version).unwrap_or_else(|err| panic!("{err}: {}", what()));
            assert_eq!(written, body, "{}", what());
            for size in 0..body.len() {
                assert!(check(shape, version, &body[..size]).is_err(), "cut at {size}: {}", what());
            }
        }
    }
}

#[test]
fn messages_that_are_only_walked_agree_with_kafka_protocol() {
    agrees::<types::ProduceRequest>(&shapes::produce::REQUEST, 3..=13);
    agrees::<types::ProduceResponse>(&shapes::produce::RESPONSE, 3..=13);
    agrees::<types::FetchRequest>(&shapes::fetch::REQUEST, 4..=18);
    agrees::<types::FetchResponse>(&shapes::fetch::RESPONSE, 4..=18);
    agrees::<types::OffsetForLeaderEpochRequest>(&shapes::offset_for_leader_epoch::REQUEST, 2..=4);
    agrees::<types::OffsetForLeaderEpochResponse>(&shapes::offset_for_leader_epoch::RESPONSE, 2..=4);
    agrees::<types::AddPartitionsToTxnRequest>(&shapes::add_partitions_to_txn::REQUEST, 0..=3);
    agrees::<types::AddPartitionsToTxnResponse>(&shapes::add_partitions_to_txn::RESPONSE, 0..=3);
    agrees::<types::AddOffsetsToTxnRequest>(&shapes::add_offsets_to_txn::REQUEST, 0..=4);
    agrees::<types::AddOffsetsToTxnResponse>(&shapes::add_offsets_to_txn::RESPONSE, 0..=4);
    agrees::<types::EndTxnRequest>(&shapes::end_txn::REQUEST, 0..=5);
    agrees::<types::EndTxnResponse>(&shapes::end_txn::RESPONSE, 0..=5);
    agrees::<types::TxnOffsetCommitRequest>(&shapes::txn_offset_commit::REQUEST, 0..=5);
    agrees::<types::TxnOffsetCommitResponse>(&shapes::txn_offset_commit::RESPONSE, 0..=5);
    agrees::<types::ConsumerGroupHeartbeatRequest>(&shapes::consumer_group_heartbeat::REQUEST, 0..=1);
    agrees::<types::ConsumerGroupHeartbeatResponse>(&shapes::consumer_group_heartbeat::RESPONSE, 0..=1);
    agrees::<types::ConsumerGroupDescribeRequest>(&shapes::consumer_group_describe::REQUEST, 0..=1);
    agrees::<types::ConsumerGroupDescribeResponse>(&shapes::consumer_group_describe::RESPONSE, 0..=1);
    // Of these it knows the response of a version whose request it does not know.
    agrees::<types::OffsetCommitResponse>(&shapes::offset_commit::RESPONSE, 10..=10);
    agrees::<types::OffsetFetchResponse>(&shapes::offset_fetch::RESPONSE, 10..=10);
    agrees::<types::InitProducerIdResponse>(&shapes::init_producer_id::RESPONSE, 6..=6);
}

/// Bytes that Kafka wrote are walked to their end, and the fields named are found where they are.
fn check_written_by_kafka(shape: &Shape, version: i16, hex: &str, expected: &[(&str, &str)]) {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two digits");
    let body: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
    let mut found = Vec::new();
    let size = walk(shape, version, &body, |visit| {
        if !matches!(visit.kind, Kind::Array(_)) {
            found.push((visit.field.name, &hex[2 * visit.range.start..2 * visit.range.end]));
        }
    });
    assert_eq!(size, Ok(body.len()), "{} v{version}", shape.name);
    assert_eq!(found, expected, "{} v{version}", shape.name);
    for size in 0..body.len() {
        assert!(check(shape, version, &body[..size]).is_err(), "{} v{version} cut at {size}", shape.name);
    }
}

#[test]
fn versions_that_kafka_protocol_does_not_know_are_walked_as_kafka_writes_them() {
    // Written by the message classes of kafka-clients 4.4.0, the first two versions of OffsetForLeaderEpoch by 3.9.2.
    check_written_by_kafka(
        &shapes::list_offsets::REQUEST,
        11,
        "ffffffff0102076f7264657273020000000300000007fffffffffffffffa00000000753000",
        &[
            ("replica_id", "ffffffff"),
            ("isolation_level", "01"),
            ("name", "076f7264657273"),
            ("partition_index", "00000003"),
            ("current_leader_epoch", "00000007"),
            ("timestamp", "fffffffffffffffa"),
            ("timeout_ms", "00007530"),
        ],
    );
    check_written_by_kafka(
        &shapes::list_offsets::RESPONSE,
        11,
        "0000000502076f726465727302000000030000ffffffffffffffff000000000000002a00000007000000",
        &[
            ("throttle_time_ms", "00000005"),
            ("name", "076f7264657273"),
            ("partition_index", "00000003"),
            ("error_code", "0000"),
            ("timestamp", "ffffffffffffffff"),
            ("offset", "000000000000002a"),
            ("leader_epoch", "00000007"),
        ],
    );
    check_written_by_kafka(
        &shapes::offset_commit::REQUEST,
        10,
        "026700000009026d0002010203040506070811121314151617180200000003000000000000002a000000070278000000",
        &[
            ("group_id", "0267"),
            ("generation_id_or_member_epoch", "00000009"),
            ("member_id", "026d"),
            ("group_instance_id", "00"),
            ("topic_id", "01020304050607081112131415161718"),
            ("partition_index", "00000003"),
            ("committed_offset", "000000000000002a"),
            ("committed_leader_epoch", "00000007"),
            ("committed_metadata", "0278"),
        ],
    );
    check_written_by_kafka(
        &shapes::offset_fetch::REQUEST,
        10,
        "020267026d000000090201020304050607081112131415161718020000000300000100",
        &[
            ("group_id", "0267"),
            ("member_id", "026d"),
            ("member_epoch", "00000009"),
            ("topic_id", "01020304050607081112131415161718"),
            ("partition_indexes", "00000003"),
            ("require_stable", "01"),
        ],
    );
    check_written_by_kafka(&shapes::delete_groups::REQUEST, 3, "02026700", &[("groups_names", "0267")]);
    check_written_by_kafka(
        &shapes::delete_groups::RESPONSE,
        3,
        "000000050202670044036e6f0000",
        &[("throttle_time_ms", "00000005"), ("group_id", "0267"), ("error_code", "0044"), ("error_message", "036e6f")],
    );
    check_written_by_kafka(
        &shapes::init_producer_id::REQUEST,
        6,
        "02740000ea60000000000000000b0002010100",
        &[
            ("transactional_id", "0274"),
            ("transaction_timeout_ms", "0000ea60"),
            ("producer_id", "000000000000000b"),
            ("producer_epoch", "0002"),
            ("enable2_pc", "01"),
            ("keep_prepared_txn", "01"),
        ],
    );
    check_written_by_kafka(
        &shapes::txn_offset_commit::REQUEST,
        6,
        "02740267000000000000000b000200000009026d026902010203040506070811121314151617180200000003000000000000002a0000000700000000",
        &[
            ("transactional_id", "0274"),
            ("group_id", "0267"),
            ("producer_id", "000000000000000b"),
            ("producer_epoch", "0002"),
            ("generation_id_or_member_epoch", "00000009"),
            ("member_id", "026d"),
            ("group_instance_id", "0269"),
            ("topic_id", "01020304050607081112131415161718"),
            ("partition_index", "00000003"),
            ("committed_offset", "000000000000002a"),
            ("committed_leader_epoch", "00000007"),
            ("committed_metadata", "00"),
        ],
    );
    check_written_by_kafka(
        &shapes::txn_offset_commit::RESPONSE,
        6,
        "00000005020102030405060708111213141516171802000000030000000000",
        &[
            ("throttle_time_ms", "00000005"),
            ("topic_id", "01020304050607081112131415161718"),
            ("partition_index", "00000003"),
            ("error_code", "0000"),
        ],
    );
    check_written_by_kafka(
        &shapes::offset_for_leader_epoch::REQUEST,
        0,
        "0000000100066f7264657273000000010000000300000007",
        &[("topic", "00066f7264657273"), ("partition", "00000003"), ("leader_epoch", "00000007")],
    );
    check_written_by_kafka(
        &shapes::offset_for_leader_epoch::RESPONSE,
        0,
        "0000000100066f726465727300000001000000000003000000000000002a",
        &[
            ("topic", "00066f7264657273"),
            ("error_code", "0000"),
            ("partition", "00000003"),
            ("end_offset", "000000000000002a"),
        ],
    );
    check_written_by_kafka(
        &shapes::offset_for_leader_epoch::REQUEST,
        1,
        "0000000100066f7264657273000000010000000300000007",
        &[("topic", "00066f7264657273"), ("partition", "00000003"), ("leader_epoch", "00000007")],
    );
    check_written_by_kafka(
        &shapes::offset_for_leader_epoch::RESPONSE,
        1,
        "0000000100066f72646572730000000100000000000300000007000000000000002a",
        &[
            ("topic", "00066f7264657273"),
            ("error_code", "0000"),
            ("partition", "00000003"),
            ("leader_epoch", "00000007"),
            ("end_offset", "000000000000002a"),
        ],
    );
    check_written_by_kafka(
        &shapes::describe_log_dirs::REQUEST,
        5,
        "02076f726465727302000000030000",
        &[("topic", "076f7264657273"), ("partitions", "00000003")],
    );
    check_written_by_kafka(
        &shapes::describe_log_dirs::RESPONSE,
        5,
        "000000050000020000032f6402076f72646572730200000003000000000000002a000000000000000101000000000000000000640000000000000032000000",
        &[
            ("throttle_time_ms", "00000005"),
            ("error_code", "0000"),
            ("error_code", "0000"),
            ("log_dir", "032f64"),
            ("name", "076f7264657273"),
            ("partition_index", "00000003"),
            ("partition_size", "000000000000002a"),
            ("offset_lag", "0000000000000001"),
            ("is_future_key", "01"),
            ("total_bytes", "0000000000000064"),
            ("usable_bytes", "0000000000000032"),
            ("is_cordoned", "00"),
        ],
    );
}

#[test]
fn the_shapes_cover_at_least_what_is_decoded() {
    for api in cold::apis() {
        let (request, response) = shapes::of(api).expect("a cold API has shapes");
        let decoded = cold::supported(api);
        assert_eq!(request.versions, response.versions, "{api}");
        assert_eq!(request.flexible_from, response.flexible_from, "{api}");
        assert!(request.versions.0 <= *decoded.start() && *decoded.end() <= request.versions.1, "{api}");
        assert!(!decoded.is_empty(), "{api}");
    }
}

#[test]
fn a_message_cut_at_any_byte_is_refused_by_the_walk() {
    for_every_message(|_, _, shape, version, body| {
        for size in 0..body.len() {
            let cut = check(shape, version, &body[..size]);
            assert!(cut.is_err(), "{} v{version} cut at {size} of {}", shape.name, body.len());
        }
    });
}

#[test]
fn a_garbled_message_never_reaches_a_panic_or_a_large_allocation() {
    for_every_message(|api, is_request, _, version, body| {
        for at in 0..body.len() {
            let mut garbled = BytesMut::from(&body[..]);
            garbled[at] ^= [0xff, 0x80, 0x7f, 0x01][at % 4];
            if is_request {
                let _ = decode_request(api, version, garbled.freeze());
            } else {
                let _ = decode_response(api, version, garbled.freeze());
            }
        }
    });
}

#[test]
fn a_hostile_count_is_refused_wherever_an_array_stands() {
    let mut arrays = 0;
    for_every_message(|api, is_request, shape, version, body| {
        let mut counts = Vec::new();
        walk(shape, version, &body, |visit| {
            if let Kind::Array(_) = visit.kind {
                counts.push(visit.range);
            }
        })
        .expect("our own message");
        let flexible = version >= shape.flexible_from;
        for range in counts {
            for count in [i32::MAX as u32, ARRAY_ELEMENTS_MAX as u32 + 1, body.len() as u32 + 1] {
                let mut hostile = BytesMut::from(&body[..range.start]);
                if flexible {
                    let mut writer = Writer { state: 1, version, flexible, out: BytesMut::new() };
                    writer.uvarint(count + 1);
                    hostile.put_slice(&writer.out);
                } else {
                    hostile.put_u32(count);
                }
                hostile.put_slice(&body[range.end..]);
                let hostile = hostile.freeze();
                let refused = if is_request {
                    decode_request(api, version, hostile).err()
                } else {
                    decode_response(api, version, hostile).err()
                };
                assert!(refused.is_some(), "{} v{version} with {count} at {range:?}", shape.name);
                arrays += 1;
            }
        }
    });
    assert!(arrays > 1000, "{arrays} arrays were tried");
}

#[test]
fn the_walk_tells_where_every_field_stands() {
    // CreateTopics v5: one topic "orders", 4 partitions, 1 replica, no assignments, one config.
    let body = b"\x02\x07orders\0\0\0\x04\0\x01\x01\x02\x02a\x02b\0\0\0\0\x03\xe8\0\0";
    let mut seen = Vec::new();
    let size = walk(&shapes::create_topics::REQUEST, 5, body, |visit| {
        seen.push(format!("{}{} {:?}", "  ".repeat(visit.depth.into()), visit.field.name, visit.range));
    });
    assert_eq!(size, Ok(body.len()));
    assert_eq!(
        seen,
        [
            "topics 0..1",
            "  name 1..8",
            "  num_partitions 8..12",
            "  replication_factor 12..14",
            "  assignments 14..15",
            "  configs 15..16",
            "    name 16..18",
            "    value 18..20",
            "timeout_ms 22..26",
            "validate_only 26..27",
        ]
    );
}

#[test]
fn a_known_tag_whose_size_lies_is_refused() {
    // CreateTopics response v5: one topic "t", and tag 0 (an i16) announced with three bytes. kafka-protocol would
    // read two and take the third for the next field.
    let mut body = BytesMut::new();
    body.put_slice(b"\0\0\0\0\x02\x02t\0\0\0\0\0\0\x01\0\x01\x01");
    let tail = b"\0";
    let lying = [&body[..], b"\x01\0\x03\0\x01\0", tail].concat();
    let honest = [&body[..], b"\x01\0\x02\0\x01", tail].concat();
    let shape = &shapes::create_topics::RESPONSE;
    assert_eq!(check(shape, 5, &honest), Ok(honest.len()));
    let refusal = check(shape, 5, &lying).expect_err("three bytes are no i16");
    assert!(matches!(refusal, WireError::Invalid { what: "topic_config_error_code", .. }), "{refusal}");
}

#[test]
fn more_tagged_fields_than_kafka_allows_are_refused() {
    let mut body = BytesMut::new();
    let mut writer = Writer { state: 1, version: 4, flexible: true, out: BytesMut::new() };
    writer.uvarint(TAGGED_FIELDS_MAX as u32 + 1);
    body.put_slice(b"\0\0\0\0\0\0"); // Heartbeat response v4: throttle time, error code
    body.put_slice(&writer.out);
    body.resize(200_000, 0);
    assert!(matches!(check(&shapes::heartbeat::RESPONSE, 4, &body), Err(WireError::TooLarge { limit: 10_000, .. })));
}

#[test]
fn consumer_protocol_messages_agree_with_kafka_protocol() {
    for version in cold::CONSUMER_PROTOCOL_VERSIONS {
        for seed in 0..SEEDS {
            let versioned = |shape| {
                let mut bytes = BytesMut::new();
                bytes.put_i16(version);
                bytes.put_slice(&Writer::message(shape, version, seed));
                bytes.freeze()
            };
            let bytes = versioned(&shapes::consumer_protocol::SUBSCRIPTION);
            let (found, read) = decode_subscription(bytes.clone()).expect("a subscription");
            assert_eq!((found, encode_subscription(version, &read)), (version, Ok(bytes.clone())));
            for size in 0..bytes.len() {
                assert!(decode_subscription(bytes.slice(..size)).is_err(), "cut at {size}");
            }
            let bytes = versioned(&shapes::consumer_protocol::ASSIGNMENT);
            let (found, read) = decode_assignment(bytes.clone()).expect("an assignment");
            assert_eq!((found, encode_assignment(version, &read)), (version, Ok(bytes)));
        }
    }
}

#[test]
fn a_subscription_of_a_later_version_is_read_as_ours_and_what_follows_is_ignored() {
    let bytes = Bytes::from_static(b"\0\x63\0\0\0\x01\0\x01t\xff\xff\xff\xff\0\0\0\0\0\0\0\x05\xff\xffsomething new");
    let (version, read) = decode_subscription(bytes).expect("readable");
    assert_eq!((version, read.topics.len(), read.generation_id), (0x63, 1, 5));
    assert!(decode_subscription(Bytes::from_static(b"\xff\xff\0\0\0\0")).is_err());
}
