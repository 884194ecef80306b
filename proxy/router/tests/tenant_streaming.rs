//! Records of tenants stream by: what is large is neither waited for nor copied, whatever stands around it is renamed, and
//! what passed is counted.

#[allow(dead_code, reason = "other tests use the rest")]
mod common;

use std::ops::Range;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use common::tenant::*;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_wire::ApiKey;
use model::Side;
use router::tenant::answers as to_client;
use router::tenant::found::TopicId;
use router::tenant::requests::Turn;

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

fn encoded(message: &impl Encodable, version: i16) -> Bytes {
    let mut body = BytesMut::new();
    message.encode(&mut body, version).expect("kafka-protocol writes it");
    body.freeze()
}

/// Batches with so many records each, as large as told.
fn batches(counts: &[i32], bytes: usize) -> Bytes {
    let mut out = BytesMut::new();
    for count in counts {
        let from = out.len();
        out.put_i64(0);
        out.put_i32(bytes as i32 - 12);
        out.put_i32(0);
        out.put_i8(2);
        out.put_bytes(0xab, 40);
        out.put_i32(*count);
        out.put_bytes(0xcd, bytes - (out.len() - from));
    }
    out.freeze()
}

macro_rules! uuid {
    ($bytes:expr) => {
        consumer_group_heartbeat_request::TopicPartitions::decode(&mut &[&$bytes[..], &[1, 0]].concat()[..], 0)
            .expect("an id and nothing else")
            .topic_id
    };
}

/// A topic as a version names it.
#[derive(Clone, Copy)]
struct Topic(&'static str, TopicId);

const ORDERS: Topic = Topic("orders.v1", ID_ORDERS);
const CAPPED: Topic = Topic("capped.v1", ID_CAPPED);
const CAPPED_2: Topic = Topic("capped.v2", ID_CAPPED_2);
const SECRET: Topic = Topic("zorro.secret.v1", ID_SECRET);

fn produce(version: i16, acks: i16, topics: &[(Topic, Bytes)]) -> ProduceRequest {
    use produce_request::*;
    let topics = topics.iter().map(|(Topic(name, id), records)| {
        let data = PartitionProduceData::default().with_index(3).with_records(Some(records.clone()));
        let topic = TopicProduceData::default().with_partition_data(vec![data]);
        if version >= 13 { topic.with_topic_id(uuid!(*id)) } else { topic.with_name(TopicName(text(name))) }
    });
    let message = ProduceRequest::default().with_acks(acks).with_transactional_id(Some(TransactionalId(text("tx"))));
    message.with_topic_data(topics.collect())
}

/// As the broker is to get it.
fn renamed(mut message: ProduceRequest) -> ProduceRequest {
    message.transactional_id = Some(TransactionalId(text("app1.tx")));
    for topic in message.topic_data.iter_mut().filter(|topic| !topic.name.is_empty()) {
        topic.name = TopicName(text(&format!("app1.{}", &**topic.name)));
    }
    message
}

fn memory(bytes: &[u8]) -> Range<usize> {
    let from = bytes.as_ptr() as usize;
    from..from + bytes.len()
}

#[test]
fn a_produce_about_one_topic_leaves_while_it_arrives_and_is_not_copied() {
    for version in 3..=13 {
        let message = produce(version, -1, &[(ORDERS, batches(&[5; 64], 64 << 10))]);
        let frame = request(ApiKey::Produce, version, 7, &encoded(&message, version));
        let mut client = Client::new(Side::Publish);
        let (mut out, mut copied) = (Vec::new(), 0);
        for (at, piece) in frame.chunks(16 << 10).enumerate() {
            client.from_client.extend_from_slice(piece);
            let (buffer, sent) = (memory(&client.from_client), out.len());
            assert_eq!(client.pass_requests(&mut out), Ok(Turn::Bytes));
            assert!(out.len() > sent, "v{version}: piece {at} waits");
            for part in &out[sent..] {
                let is_there = buffer.contains(&memory(part).start) && memory(part).end <= buffer.end;
                copied += if is_there { 0 } else { part.len() };
            }
            assert!(client.held_bytes().0 < 64, "v{version}: {} bytes are held", client.held_bytes().0);
        }
        assert!(copied < 200, "v{version}: {copied} bytes were copied");
        let (id, mut body) = request_body(frames(&out)[0].clone());
        assert_eq!((id, client.in_flight.count()), (7, 1));
        assert_eq!(ProduceRequest::decode(&mut body, version).expect("a Produce"), renamed(message), "v{version}");
        assert!(body.is_empty() && client.requests.is_at_boundary());
        assert_eq!(client.told.used, [(None, 320, frame.len() as u64)], "v{version}");
    }
}

#[test]
fn a_produce_about_several_topics_is_held_until_it_is_whole_and_its_records_are_not_copied() {
    for version in 3..=13 {
        let records = batches(&[2, 3], 200 << 10);
        let message = produce(version, 1, &[(ORDERS, records.clone()), (CAPPED, records.clone()), (ORDERS, records)]);
        let frame = request(ApiKey::Produce, version, 7, &encoded(&message, version));
        let mut client = Client::new(Side::Publish);
        let (out, turn) = client.send(&frame[..frame.len() - 1], 64 << 10).expect("a request");
        assert_eq!((out.len(), turn, client.in_flight.count()), (0, Turn::Bytes, 0), "v{version}");
        client.from_client.extend_from_slice(&frame[frame.len() - 1..]);
        let (buffer, mut out) = (memory(&client.from_client), Vec::new());
        client.pass_requests(&mut out).expect("a request");
        let large: Vec<_> = out.iter().filter(|part| part.len() > 4096).collect();
        // Ids stay, and what is between them.
        assert_eq!(large.len(), if version >= 13 { 1 } else { 3 }, "v{version}");
        for part in large {
            assert!(buffer.contains(&memory(part).start) && memory(part).end <= buffer.end, "v{version}: copied");
        }
        let small: usize = out.iter().map(Bytes::len).filter(|bytes| *bytes <= 4096).sum();
        assert!(small < 400, "v{version}: {small} bytes around them");
        let (_, mut body) = request_body(frames(&out)[0].clone());
        assert_eq!(ProduceRequest::decode(&mut body, version).expect("a Produce"), renamed(message), "v{version}");
        let used: Vec<_> = client.told.used.iter().map(|(topic, messages, _)| (topic.as_deref(), *messages)).collect();
        assert_eq!(used, [(None, 15), (Some("app1.capped.v1"), 5)], "v{version}");
    }
}

#[test]
fn a_produce_waits_for_memory_only_when_it_has_to_be_whole() {
    let records = batches(&[1], 100 << 10);
    let one = request(ApiKey::Produce, 9, 7, &encoded(&produce(9, 1, &[(ORDERS, records.clone())]), 9));
    let two =
        request(ApiKey::Produce, 9, 8, &encoded(&produce(9, 1, &[(ORDERS, records.clone()), (CAPPED, records)]), 9));
    let mut client = Client::new(Side::Publish);
    client.told.has_no_memory = true;
    assert_eq!(client.send(&one, 10_000).expect("a request").1, Turn::Bytes);
    assert_eq!(client.in_flight.count(), 1);
    assert_eq!(client.send(&two[..50_000], 10_000).expect("a request").1, Turn::Memory);
    client.told.has_no_memory = false;
    let (out, turn) = client.send(&two[10_000..], usize::MAX).expect("a request");
    assert_eq!((turn, frames(&out).len(), client.in_flight.count()), (Turn::Bytes, 1, 2));
}

#[test]
fn a_produce_that_wants_no_answer_gets_none_and_ends_the_session_when_a_topic_is_refused() {
    let small = batches(&[1], 100);
    for version in [3, 8, 9, 12, 13] {
        for piece_bytes in [1, 7, 64, usize::MAX] {
            let frame = |acks, topics: &[(Topic, Bytes)]| {
                request(ApiKey::Produce, version, 7, &encoded(&produce(version, acks, topics), version))
            };
            let what = format!("v{version} in pieces of {piece_bytes}");
            let mut client = Client::new(Side::Publish);
            let own = frame(0, &[(ORDERS, small.clone())]);
            let (out, turn) = client.send(&[&own[..], &own].concat(), piece_bytes).expect("requests");
            assert_eq!((frames(&out).len(), turn, client.in_flight.count()), (2, Turn::Bytes, 0), "{what}");
            for topics in [vec![(SECRET, small.clone())], vec![(ORDERS, small.clone()), (SECRET, small.clone())]] {
                let mut client = Client::new(Side::Publish);
                let refused = [&frame(0, &topics)[..], &own].concat();
                let (out, turn) = client.send(&refused, piece_bytes).expect("a request");
                assert_eq!((out.len(), turn), (0, Turn::End("refused_without_answer")), "{what}");
                assert_eq!(client.pass_requests(&mut Vec::new()), Ok(Turn::End("refused_without_answer")), "{what}");
            }
            let mut other = Client::new(Side::Subscribe);
            let (out, turn) = other.send(&own, piece_bytes).expect("a request");
            assert_eq!((out.len(), turn), (0, Turn::End("refused_without_answer")), "{what}: with the other secret");
        }
    }
}

#[test]
fn a_request_that_waits_for_its_limits_leaves_and_is_drawn_once() {
    let message = produce(9, 1, &[(ORDERS, batches(&[4], 100)), (CAPPED, batches(&[6], 100))]);
    let frame = request(ApiKey::Produce, 9, 7, &encoded(&message, 9));
    let mut client = Client::new(Side::Publish);
    client.told.waits = vec![Duration::from_secs(1), Duration::from_secs(60)];
    let (out, turn) = client.send(&frame, usize::MAX).expect("a request");
    assert_eq!((out.len(), turn), (0, Turn::Limits(router::limits::THROTTLE_MAX)));
    let mut out = Vec::new();
    assert_eq!(client.pass_requests(&mut out), Ok(Turn::Limits(Duration::from_secs(1))));
    assert!(out.is_empty() && client.told.used.is_empty() && !client.requests.is_at_boundary());
    assert_eq!(client.pass_requests(&mut out), Ok(Turn::Bytes));
    assert_eq!((frames(&out).len(), client.told.used.len(), client.in_flight.count()), (1, 2, 1));
}

fn fetch(version: i16, topics: &[Topic]) -> Bytes {
    use fetch_request::*;
    let topics = topics.iter().map(|Topic(name, id)| {
        let topic = FetchTopic::default().with_partitions(vec![FetchPartition::default().with_partition(3)]);
        if version >= 13 { topic.with_topic_id(uuid!(*id)) } else { topic.with_topic(TopicName(text(name))) }
    });
    encoded(&FetchRequest::default().with_max_bytes(100 << 20).with_topics(topics.collect()), version)
}

fn fetched(version: i16, topics: &[(Topic, Bytes)], endpoints: i32) -> FetchResponse {
    use fetch_response::*;
    let topics = topics.iter().map(|(Topic(name, id), records)| {
        let partition = PartitionData::default().with_partition_index(3).with_high_watermark(9);
        let partition = partition.with_aborted_transactions(Some(Vec::new())).with_records(Some(records.clone()));
        let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
        if version >= 13 { topic.with_topic_id(uuid!(*id)) } else { topic.with_topic(TopicName(text(name))) }
    });
    let endpoints = (0..endpoints).map(|node| {
        NodeEndpoint::default().with_node_id(BrokerId(node)).with_host(text("kafka.internal")).with_port(9092)
    });
    FetchResponse::default().with_responses(topics.collect()).with_node_endpoints(endpoints.collect())
}

/// As Kafka names them.
fn in_kafka(topic: Topic) -> Topic {
    let name = match topic.0 {
        "orders.v1" => "app1.orders.v1",
        "capped.v1" => "app1.capped.v1",
        "capped.v2" => "app1.capped.v2",
        other => panic!("{other} was refused"),
    };
    Topic(name, topic.1)
}

#[test]
fn what_is_fetched_is_renamed_counted_and_told_of_in_every_version_and_in_all_pieces() {
    let sets: &[&[Topic]] = &[
        &[],
        &[ORDERS],
        &[CAPPED],
        &[SECRET],
        &[SECRET, ORDERS],
        &[ORDERS, CAPPED],
        &[CAPPED, SECRET, CAPPED_2, ORDERS],
    ];
    for (version, asked, endpoints) in
        (4..=18).flat_map(|version| sets.iter().flat_map(move |set| [0, 2].map(|endpoints| (version, *set, endpoints))))
    {
        let endpoints = if version >= 16 { endpoints } else { 0 };
        let records = |at: usize| batches(&[1 + at as i32, 10], 120 + at);
        let kept: Vec<(Topic, Bytes)> = asked
            .iter()
            .filter(|topic| topic.0 != SECRET.0)
            .enumerate()
            .map(|(at, topic)| (*topic, records(at)))
            .collect();
        let theirs: Vec<(Topic, Bytes)> =
            kept.iter().map(|(topic, records)| (in_kafka(*topic), records.clone())).collect();
        let said = answer(ApiKey::Fetch, version, 7, &encoded(&fetched(version, &theirs, endpoints), version));
        let mut outs = Vec::new();
        for piece_bytes in [1, 7, 64, usize::MAX] {
            let names: Vec<&str> = asked.iter().map(|topic| topic.0).collect();
            let what = format!("v{version} {names:?} {endpoints} in pieces of {piece_bytes}");
            let mut client = Client::new(Side::Subscribe);
            client.told.throttle_ms = 1234;
            client.send(&request(ApiKey::Fetch, version, 7, &fetch(version, asked)), usize::MAX).expect("a request");
            let out = client.receive(&said, piece_bytes).unwrap_or_else(|err| panic!("{what}: {err}"));
            assert_eq!((client.held_bytes().1, client.in_flight.count()), (0, 0), "{what}");
            let (_, mut body) = answer_body(ApiKey::Fetch, version, frames(&out)[0].clone());
            assert!(!String::from_utf8_lossy(&body).contains("internal"), "{what}: an address");
            let mut found = FetchResponse::decode(&mut body, version).unwrap_or_else(|err| panic!("{what}: {err}"));
            assert!(body.is_empty(), "{what}");
            found.unknown_tagged_fields.clear();
            let mut expected = fetched(version, &kept, 0).with_throttle_time_ms(1234);
            if asked.iter().any(|topic| topic.0 == SECRET.0) {
                let mut refused = fetched(version, &[(SECRET, Bytes::new())], 0).responses.remove(0);
                let partition = &mut refused.partitions[0];
                (partition.error_code, partition.high_watermark) = (if version >= 13 { 100 } else { 29 }, -1);
                (partition.last_stable_offset, partition.log_start_offset) = (-1, -1);
                partition.preferred_read_replica = BrokerId(-1);
                expected.responses.insert(0, refused);
            }
            assert_eq!(found.responses, expected.responses, "{what}");
            assert_eq!(found, expected, "{what}");
            outs.push(out.concat());

            let mut counted: Vec<_> = client.told.fetched.clone();
            let of_each: Vec<(String, u64)> =
                kept.iter().enumerate().map(|(at, (topic, _))| (topic.0.to_owned(), 11 + at as u64)).collect();
            let sum: u64 = of_each.iter().map(|(_, count)| count).sum();
            let is_apart = kept.len() == 1 || asked.iter().any(|topic| topic.0.starts_with("capped"));
            if kept.len() > 1 && !is_apart && version >= 13 || kept.is_empty() {
                assert_eq!(counted, [("".to_owned(), sum)], "{what}");
            } else {
                counted.sort();
                let mut of_each = of_each;
                of_each.sort();
                assert_eq!(counted, of_each, "{what}");
            }
        }
        assert!(outs.iter().all(|out| *out == outs[0]), "v{version}: not the same in pieces");
    }
}

#[test]
fn a_fetch_answer_about_one_topic_leaves_while_it_arrives_and_is_not_copied() {
    for version in 4..=18 {
        let said = fetched(version, &[(in_kafka(ORDERS), batches(&[5; 64], 64 << 10))], i32::from(version >= 16));
        let frame = answer(ApiKey::Fetch, version, 7, &encoded(&said, version));
        let mut client = Client::new(Side::Subscribe);
        client
            .send(&request(ApiKey::Fetch, version, 7, &fetch(version, &[ORDERS, SECRET])), usize::MAX)
            .expect("a request");
        let (mut out, mut copied) = (Vec::new(), 0);
        for piece in frame.chunks(16 << 10) {
            client.from_broker.extend_from_slice(piece);
            let (buffer, sent) = (memory(&client.from_broker), out.len());
            assert_eq!(client.pass_answers(&mut out), Ok(to_client::Turn::Bytes));
            assert!(out.len() > sent, "v{version} waits");
            for part in &out[sent..] {
                let is_there = buffer.contains(&memory(part).start) && memory(part).end <= buffer.end;
                copied += if is_there { 0 } else { part.len() };
            }
            assert!(client.held_bytes().1 < 64, "v{version}: {} bytes are held", client.held_bytes().1);
        }
        assert!(copied < 200, "v{version}: {copied} bytes were copied");
        assert_eq!(client.told.fetched, [("orders.v1".to_owned(), 320)], "v{version}");
        assert_eq!(client.told.hidden, usize::from(version >= 16), "v{version}");
        let (_, mut body) = answer_body(ApiKey::Fetch, version, frames(&out)[0].clone());
        let found = FetchResponse::decode(&mut body, version).expect("a Fetch answer");
        assert_eq!(found.responses.len(), 2, "v{version}");
        assert!(!String::from_utf8_lossy(&out.concat()).contains("internal"), "v{version}");
    }
}

#[test]
fn the_longer_wait_is_told() {
    for (of_broker, ours, told) in [(0, 0, 0), (500, 0, 500), (500, 400, 500), (500, 600, 600), (0, i32::MAX, i32::MAX)]
    {
        for version in [4, 12, 18] {
            let mut client = Client::new(Side::Subscribe);
            client.told.throttle_ms = ours;
            client
                .send(&request(ApiKey::Fetch, version, 7, &fetch(version, &[ORDERS])), usize::MAX)
                .expect("a request");
            let said = fetched(version, &[(in_kafka(ORDERS), Bytes::new())], 0).with_throttle_time_ms(of_broker);
            let out =
                client.receive(&answer(ApiKey::Fetch, version, 7, &encoded(&said, version)), 9).expect("an answer");
            let (_, mut body) = answer_body(ApiKey::Fetch, version, frames(&out)[0].clone());
            assert_eq!(
                FetchResponse::decode(&mut body, version).expect("an answer").throttle_time_ms,
                told,
                "v{version}"
            );
        }
        let said = encoded(&MetadataResponse::default().with_throttle_time_ms(of_broker), 12);
        let mut client = Client::new(Side::Subscribe);
        client.told.throttle_ms = ours;
        let ask = encoded(&MetadataRequest::default(), 12);
        client.send(&request(ApiKey::Metadata, 12, 7, &ask), usize::MAX).expect("a request");
        let out = client.receive(&answer(ApiKey::Metadata, 12, 7, &said), 9).expect("an answer");
        let (_, mut body) = answer_body(ApiKey::Metadata, 12, frames(&out)[0].clone());
        assert_eq!(MetadataResponse::decode(&mut body, 12).expect("an answer").throttle_time_ms, told);
    }
}

#[test]
fn answers_made_here_stand_among_the_others_in_the_order_of_their_requests() {
    // A Produce with the wrong secret between two Fetches, all in one piece.
    let mut client = Client::new(Side::Subscribe);
    let refused = encoded(&produce(9, 1, &[(ORDERS, Bytes::new())]), 9);
    let asked = [
        request(ApiKey::Produce, 9, 1, &refused),
        request(ApiKey::Fetch, 12, 2, &fetch(12, &[ORDERS])),
        request(ApiKey::Produce, 9, 3, &refused),
        request(ApiKey::Fetch, 12, 4, &fetch(12, &[SECRET])),
        request(ApiKey::Produce, 9, 5, &refused),
    ];
    let (out, _) = client.send(&asked.concat(), 5).expect("requests");
    assert_eq!(frames(&out).len(), 2, "only the Fetches go");
    let early = client.receive(&[], 1).expect("an answer");
    assert_eq!(frames(&early).len(), 1, "the first need not wait");
    let said = |id| answer(ApiKey::Fetch, 12, id, &encoded(&fetched(12, &[], 0), 12));
    let late = client.receive(&[said(2), said(4)].concat(), 5).expect("answers");
    let ids: Vec<i32> = frames(&late).iter().map(|frame| i32::from_be_bytes(frame[..4].try_into().unwrap())).collect();
    assert_eq!(ids, [2, 3, 4, 5]);
}

#[test]
fn an_answer_that_is_too_large_to_be_held_ends_the_connection_and_does_not_wait_for_memory() {
    let mut client = Client::new(Side::Subscribe);
    client.told.has_no_memory = true;
    let ask = encoded(&MetadataRequest::default(), 12);
    client.send(&request(ApiKey::Metadata, 12, 7, &ask), usize::MAX).expect("a request");
    let err = client
        .receive(&[&0x7000_0000_i32.to_be_bytes()[..], &7_i32.to_be_bytes(), &[0]].concat(), 64)
        .expect_err("too large");
    assert_eq!(err.reason(), "frame_length_of_broker");
}

#[test]
fn an_answer_that_would_outgrow_its_length_ends_the_connection() {
    let mut client = Client::new(Side::Subscribe);
    client.send(&request(ApiKey::Fetch, 12, 7, &fetch(12, &[SECRET])), usize::MAX).expect("a request");
    // As long as a length can say, with no topic so far.
    let start = [&i32::MAX.to_be_bytes()[..], &7_i32.to_be_bytes(), &[0], &[0; 10], &[1], &[0]].concat();
    let err = client.receive(&start, 64).expect_err("too large");
    assert_eq!(err.reason(), "frame_length_of_broker");
}
