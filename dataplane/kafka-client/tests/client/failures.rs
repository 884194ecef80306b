//! What goes wrong, and what the publisher is told: every row ends in stored, not stored, or unknown.

use std::time::Duration;

use kafka_client::{Acks, ClientConfig, How, Outcome, ProduceError, TopicState};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::RecordRef;

use crate::broker::{Cluster, Fault};
use crate::world::{World, config};

/// Publishes one record into `faults`, waits, and says what was told and how often it lies in the log.
fn publish_into(acks: Acks, faults: &[Fault], timeout_ms: u64) -> (String, usize, World) {
    let (mut world, topic) = World::warm(1, 1);
    faults.iter().for_each(|fault| world.cluster.fault(ApiKey::Produce, fault.clone()));
    let tag = world.produce(topic, Some(0), "it", acks, timeout_ms);
    world.run_ms(timeout_ms + 2_000);
    let told = match world.outcome(tag).expect("an outcome by its deadline") {
        Ok(_) => "stored".into(),
        Err(ProduceError::Unavailable { .. }) => "unavailable".into(),
        Err(ProduceError::Unknown { .. }) => "unknown".into(),
        Err(ProduceError::RecordTooLarge { .. }) => "too large".into(),
        Err(ProduceError::NotAuthorized { .. }) => "not authorized".into(),
        Err(ProduceError::Rejected { code }) => format!("rejected {}", code.name()),
        Err(other) => format!("{other:?}"),
    };
    let copies = world.cluster.log("t", 0).iter().filter(|value| *value == "it").count();
    world.cluster.script.clear();
    world.run_ms(31_000); // a batch nobody waits for is still in flight until the request timeout
    assert_eq!(world.client.queued_bytes(), 0);
    assert_eq!(world.cluster.log("t", 0).iter().filter(|value| *value == "it").count(), copies, "later copies");
    (told, copies, world)
}

fn check(acks: Acks, faults: &[Fault], told: &str, copies: usize) {
    let (got, found, _) = publish_into(acks, faults, 3_000);
    assert_eq!((got.as_str(), found), (told, copies), "{acks:?} into {faults:?}");
}

/// The same fault until the deadline.
fn check_lasting(acks: Acks, fault: Fault, told: &str, copies: usize) {
    check(acks, &vec![fault; 1_000], told, copies);
}

use Fault::{ApplyThenDisconnect, ApplyThenError, ApplyThenSilence, BadRecords, Disconnect, Error, Garbage, Silence};

#[test]
fn passing_errors_are_retried_until_stored_once() {
    for code in [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::LEADER_NOT_AVAILABLE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode::UNKNOWN_PRODUCER_ID,
        ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::PRODUCER_FENCED,
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
    ] {
        check(Acks::All, &[Error(code)], "stored", 1);
    }
    for code in [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::KAFKA_STORAGE_ERROR] {
        check(Acks::Leader, &[Error(code)], "stored", 1);
    }
}

#[test]
fn an_attempt_that_was_stored_without_an_answer_is_not_stored_again() {
    check(Acks::All, &[ApplyThenDisconnect], "stored", 1);
    check(Acks::All, &[ApplyThenDisconnect, ApplyThenDisconnect, Disconnect], "stored", 1);
    check(Acks::All, &[ApplyThenError(ErrorCode::NOT_LEADER_OR_FOLLOWER)], "stored", 1);
    check(Acks::All, &[ApplyThenError(ErrorCode::REQUEST_TIMED_OUT)], "stored", 1);
    check(Acks::All, &[ApplyThenError(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND)], "stored", 1);
    check(Acks::All, &[ApplyThenDisconnect, Error(ErrorCode::DUPLICATE_SEQUENCE_NUMBER)], "stored", 1);
}

#[test]
fn a_duplicate_that_the_broker_does_not_place_is_told_without_an_offset() {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Produce, ApplyThenDisconnect);
    world.cluster.fault(ApiKey::Produce, Error(ErrorCode::DUPLICATE_SEQUENCE_NUMBER));
    let tags = ["a", "b"].map(|value| world.produce(topic, Some(0), value, Acks::All, 1_000));
    world.run_ms(500);
    tags.iter().for_each(|tag| assert_eq!(world.stored(*tag).offset, -1));
}

#[test]
fn lasting_refusal_before_append_ends_as_unavailable() {
    check_lasting(Acks::All, Error(ErrorCode::NOT_ENOUGH_REPLICAS), "unavailable", 0);
    check_lasting(Acks::All, Error(ErrorCode::LEADER_NOT_AVAILABLE), "unavailable", 0);
    check_lasting(Acks::Leader, Error(ErrorCode::NOT_LEADER_OR_FOLLOWER), "unavailable", 0);
}

#[test]
fn what_may_have_been_appended_ends_as_unknown() {
    check_lasting(Acks::All, Silence, "unknown", 0);
    check_lasting(Acks::All, ApplyThenSilence, "unknown", 1);
    check_lasting(Acks::All, Disconnect, "unknown", 0);
    check_lasting(Acks::All, ApplyThenDisconnect, "unknown", 1);
    check_lasting(Acks::All, Error(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND), "unknown", 0);
    check_lasting(Acks::All, Error(ErrorCode::REQUEST_TIMED_OUT), "unknown", 0);
    check_lasting(Acks::All, Error(ErrorCode::NOT_LEADER_OR_FOLLOWER), "unknown", 0);
    check(Acks::All, &[Error(ErrorCode::UNKNOWN_SERVER_ERROR)], "unknown", 0);
    // A retry is refused for good: that says nothing about the first attempt.
    check(Acks::All, &[ApplyThenDisconnect, Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED)], "unknown", 1);
    check(Acks::All, &[ApplyThenDisconnect, Error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)], "unknown", 1);
    check(Acks::All, &[ApplyThenDisconnect, Error(ErrorCode::MESSAGE_TOO_LARGE)], "unknown", 1);
}

#[test]
fn without_a_producer_id_an_unanswered_attempt_is_never_repeated() {
    check(Acks::Leader, &[ApplyThenDisconnect], "unknown", 1);
    check(Acks::Leader, &[Disconnect], "unknown", 0);
    check(Acks::Leader, &[Error(ErrorCode::REQUEST_TIMED_OUT)], "unknown", 0);
}

#[test]
fn refusals_for_good_are_told_as_they_are() {
    check(Acks::All, &[Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED)], "not authorized", 0);
    check(Acks::All, &[Error(ErrorCode::MESSAGE_TOO_LARGE)], "too large", 0);
    check(Acks::All, &[Error(ErrorCode::RECORD_LIST_TOO_LARGE)], "too large", 0);
    check(Acks::All, &[Error(ErrorCode::INVALID_RECORD)], "rejected INVALID_RECORD", 0);
    check(Acks::All, &[Error(ErrorCode::INVALID_TIMESTAMP)], "rejected INVALID_TIMESTAMP", 0);
    check(Acks::All, &[Error(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE)], "rejected UNSUPPORTED_COMPRESSION_TYPE", 0);
    check_lasting(Acks::All, Error(ErrorCode::CORRUPT_MESSAGE), "rejected CORRUPT_MESSAGE", 0);
}

#[test]
fn garbage_ends_the_connection_and_answers_what_was_in_flight() {
    for garbage in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x02\x00\x00",
        b"\x00\x00\x00\x04\x7f\xff\xff\xff",
    ] {
        let (told, copies, world) = publish_into(Acks::All, &[Garbage(garbage.to_vec())], 3_000);
        assert_eq!((told.as_str(), copies), ("stored", 1), "retried on a new connection after {garbage:?}");
        let failures = world.closes.iter().filter(|why| !why.contains("not used")).count();
        assert_eq!(failures, 1, "{:?}", world.closes);
        check(Acks::Leader, &[Garbage(garbage.to_vec())], "unknown", 0);
    }
}

#[test]
fn answers_that_come_twice_or_in_the_wrong_order_end_the_connection_and_nothing_is_stored_twice() {
    let (told, copies, world) = publish_into(Acks::All, &[Fault::Repeat], 3_000);
    assert_eq!((told.as_str(), copies), ("stored", 1));
    assert!(world.closes.iter().any(|why| why.contains("nobody asked for")), "{:?}", world.closes);
    for acks in [Acks::All, Acks::Leader] {
        let (mut world, topic) = World::warm(1, 2);
        world.produce(topic, Some(0), "opens the connection", acks, 1_000);
        world.settle();
        world.cluster.fault(ApiKey::Produce, Fault::Overtaken);
        let tags: Vec<u64> = (0..2)
            .map(|n| {
                let tag = world.produce(topic, Some(n), &format!("v{n}"), acks, 3_000);
                world.client.flush(world.now); // a request each
                tag
            })
            .collect();
        world.run_ms(3_500);
        for (n, tag) in tags.into_iter().enumerate() {
            match acks {
                Acks::All => assert_eq!(world.stored(tag).partition, n as i32),
                _ => assert!(world.error(tag).outcome_unknown(), "which answer is whose?"),
            }
            let log = world.cluster.log("t", n);
            assert_eq!(log.iter().filter(|value| value.starts_with('v')).count(), 1, "{log:?}");
        }
        assert!(world.closes.iter().any(|why| why.contains("the next to be answered")), "{:?}", world.closes);
    }
}

#[test]
fn an_answer_that_is_cut_off_or_leaves_a_partition_out_is_no_answer() {
    // Correlation id as expected (the connection has asked ApiVersions and warmed up), then too little.
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    let tag = world.produce(topic, Some(0), "it", Acks::All, 2_000);
    world.settle();
    let conn = world.cluster.seen_produce()[0].conn;
    // v12 answer: tagged header, no topics, throttle 0, no tags; correlation id 2 follows ApiVersions and the warm-up.
    let mut frame = bytes::BytesMut::from(&b"\x00\x00\x00\x0b\x00\x00\x00\x02\x00\x01\x00\x00\x00\x00\x00"[..]);
    world.client.on_bytes(kafka_client::ConnId(conn), &mut frame, world.now);
    world.run_ms(500);
    assert_eq!(world.stored(tag).offset, 1);
    assert_eq!(world.closes.len(), 1, "{:?}", world.closes);
    assert_eq!(world.cluster.log("t", 0), ["warm0", "it"]);
}

#[test]
fn a_retry_keeps_producer_id_and_sequence_and_the_next_batch_follows_on() {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Produce, Disconnect);
    world.produce(topic, Some(0), "a", Acks::All, 5_000);
    world.settle();
    world.run_ms(500);
    world.cluster.fault(ApiKey::Produce, ApplyThenDisconnect);
    world.produce(topic, Some(0), "b", Acks::All, 5_000);
    world.settle();
    world.produce(topic, Some(0), "c", Acks::All, 5_000);
    world.run_ms(1_000);
    let sent: Vec<(i64, i32, String)> = world
        .cluster
        .seen_produce()
        .iter()
        .map(|seen| (seen.batches[0].producer_id, seen.batches[0].sequence, seen.batches[0].values.concat()))
        .collect();
    let id = sent[0].0;
    let expected = [(id, 1, "a".to_string()), (id, 2, "b".into()), (id, 2, "b".into()), (id, 3, "c".into())];
    assert_eq!(sent, expected);
    assert_eq!(world.cluster.log("t", 0), ["warm0", "a", "b", "c"]);
}

#[test]
fn a_batch_given_up_is_never_sent_again_and_its_producer_id_is_burnt_for_that_partition() {
    let (mut world, topic) = World::warm(1, 2);
    world.produce(topic, Some(0), "before", Acks::All, 500);
    world.settle();
    let id = world.cluster.seen_produce()[0].batches[0].producer_id;
    for _ in 0..100 {
        world.cluster.fault(ApiKey::Produce, Disconnect);
    }
    let lost = world.produce(topic, Some(0), "lost", Acks::All, 500);
    world.run_ms(2_000);
    assert!(world.error(lost).outcome_unknown());
    world.cluster.script.clear();
    world.cluster.seen.clear();
    let tags = [
        world.produce(topic, Some(0), "after", Acks::All, 500),
        world.produce(topic, Some(1), "other", Acks::All, 500),
    ];
    world.run_ms(500);
    assert!(tags.iter().all(|tag| world.stored(*tag).offset > 0));
    for batch in world.cluster.seen_produce().iter().flat_map(|seen| &seen.batches) {
        match batch.partition {
            0 => assert!(batch.producer_id != id && batch.sequence == 0, "{batch:?}"),
            _ => assert!(batch.producer_id == id && batch.sequence == 1, "{batch:?}"),
        }
    }
    assert_eq!(world.cluster.log("t", 0), ["warm0", "before", "after"]);
}

#[test]
fn a_leader_that_moved_is_found_and_told_leaders_at_once() {
    for hints in [false, true] {
        let (mut world, topic) = World::warm(3, 1);
        world.cluster.leader_hints = hints;
        world.cluster.move_leader("t", 0, 3);
        let tag = world.produce(topic, Some(0), "it", Acks::All, 2_000);
        let before = world.now;
        world.settle();
        if hints {
            assert_eq!(world.stored(tag).offset, 1, "KIP-951 spares the metadata round trip");
            assert_eq!(world.now, before);
        }
        world.run_ms(500);
        assert_eq!(world.stored(tag).offset, 1);
        assert_eq!(world.client.leader(topic, 0), Some(3));
        assert_eq!(world.cluster.log("t", 0), ["warm0", "it"]);
    }
}

#[test]
fn old_news_about_a_leader_is_not_believed() {
    let (mut world, topic) = World::warm(2, 1);
    world.cluster.move_leader("t", 0, 2);
    world.client.refresh_metadata(world.now);
    world.run_ms(100);
    assert_eq!(world.client.leader(topic, 0), Some(2));
    let partition = &mut world.cluster.topics.get_mut("t").unwrap().partitions[0];
    (partition.leader, partition.leader_epoch) = (1, 1);
    world.client.refresh_metadata(world.now);
    world.run_ms(100);
    assert_eq!(world.client.leader(topic, 0), Some(2));
}

#[test]
fn who_leads_is_asked_when_the_leader_does_not_answer_and_not_before() {
    let (mut world, topic) = World::warm(2, 3); // of which node 1 leads partitions 0 and 2
    for _ in 0..10 {
        let tag = world.produce(topic, Some(0), "it", Acks::All, 1_000);
        world.run_ms(100);
        world.stored(tag);
    }
    assert!(world.cluster.seen.iter().all(|seen| seen.api != ApiKey::Metadata));
    world.kill(1);
    world.revive(1);
    world.cluster.refusing.insert(1);
    world.produce(topic, Some(0), "waits", Acks::All, 20_000);
    world.run_ms(2_100); // by now it is connected to about once a second
    world.cluster.move_leader("t", 2, 2);
    let tag = world.produce(topic, Some(2), "at once", Acks::All, 20_000);
    world.run_ms(50);
    world.stored(tag);
}

#[test]
fn a_dead_leader_is_waited_for_and_the_batch_goes_to_the_next() {
    let (mut world, topic) = World::warm(3, 1);
    world.kill(1);
    let tag = world.produce(topic, Some(0), "it", Acks::All, 10_000);
    world.run_ms(2_000);
    assert!(world.outcome(tag).is_none());
    world.cluster.move_leader("t", 0, 2);
    world.run_ms(2_500);
    assert_eq!(world.stored(tag).offset, 1);
}

#[test]
fn a_frozen_leader_is_left_when_another_leads() {
    let (mut world, topic) = World::warm(3, 1);
    world.cluster.fault(ApiKey::Produce, Silence);
    let tag = world.produce(topic, Some(0), "it", Acks::All, 20_000);
    world.run_ms(1_000);
    world.cluster.move_leader("t", 0, 2);
    world.run_ms(6_000);
    assert_eq!(world.stored(tag).offset, 1, "long before the request timeout of 30 s");
}

#[test]
fn a_silent_leader_makes_the_client_ask_who_leads_every_three_seconds_and_keeps_its_connection_while_it_does() {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Produce, Silence);
    world.produce(topic, Some(0), "it", Acks::All, 60_000);
    for n in 1..=20 {
        world.produce(topic, Some(0), "its deadline is another time to look at everything", Acks::All, 600 * n);
    }
    let begin = world.now;
    for (at_ms, asked) in [(2_999, 0), (3_000, 1), (5_999, 1), (6_000, 2), (12_000, 4)] {
        world.run(begin + Duration::from_millis(at_ms) - world.now);
        let found = world.cluster.seen.iter().filter(|seen| seen.api == ApiKey::Metadata).count();
        assert_eq!(found, asked, "after {at_ms} ms");
    }
    assert_eq!(world.closes, Vec::<String>::new());
}

#[test]
fn a_leader_of_before_that_still_answers_is_waited_for() {
    let (mut world, topic) = World::warm(2, 1);
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    let tag = world.produce(topic, Some(0), "it", Acks::All, 60_000);
    world.settle();
    world.cluster.move_leader("t", 0, 2);
    world.client.refresh_metadata(world.now);
    world.run_ms(1_000);
    assert_eq!(world.client.leader(topic, 0), Some(2));
    assert_eq!(world.closes, Vec::<String>::new());
    world.release();
    assert_eq!(world.stored(tag).offset, 1);
}

#[test]
fn all_brokers_gone_ends_as_unavailable_and_health_says_so() {
    let (mut world, topic) = World::warm(2, 2);
    assert!(world.client.health(world.now).reachable);
    world.kill(1);
    world.kill(2);
    world.run_ms(100);
    let health = world.client.health(world.now);
    assert!(!health.reachable && health.detail.contains("refused"), "{health:?}");
    let tag = world.produce(topic, Some(0), "it", Acks::All, 1_000);
    let begin = world.now;
    world.run_ms(1_100);
    assert!(matches!(world.error(tag), ProduceError::Unavailable { .. }));
    let attempts = world.connects.len();
    world.run(Duration::from_secs(60));
    let per_second = (world.connects.len() - attempts) as u64 / 60;
    assert!(per_second <= 12, "{per_second} connects a second to dead brokers since {begin:?}");
    world.revive(1);
    world.revive(2);
    world.run_ms(2_000);
    assert!(world.client.health(world.now).reachable);
    let tag = world.produce(topic, Some(0), "again", Acks::All, 1_000);
    world.run_ms(1_000);
    assert_eq!(world.stored(tag).offset, 1);
}

#[test]
fn an_expired_record_leaves_its_batch_and_the_others_go_on() {
    let (mut world, topic) = World::warm(1, 1);
    world.kill(1);
    let short: Vec<u64> = (0..3).map(|n| world.produce(topic, Some(0), &format!("short{n}"), Acks::All, 300)).collect();
    let long: Vec<u64> =
        (0..3).map(|n| world.produce(topic, Some(0), &format!("long{n}"), Acks::All, 30_000)).collect();
    let short2 = world.produce(topic, Some(0), "short3", Acks::All, 300);
    world.run_ms(320);
    for tag in short.iter().chain([&short2]) {
        assert!(matches!(world.error(*tag), ProduceError::Unavailable { .. }));
    }
    world.revive(1);
    world.run_ms(3_000);
    assert_eq!(world.cluster.log("t", 0), ["warm0", "long0", "long1", "long2"]);
    assert_eq!(long.iter().map(|tag| world.stored(*tag).offset).collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_record_in_flight_is_unknown_at_its_deadline_while_its_batch_goes_on() {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    let short = world.produce(topic, Some(0), "short", Acks::All, 300);
    let long = world.produce(topic, Some(0), "long", Acks::All, 20_000);
    world.run_ms(400);
    assert!(world.error(short).outcome_unknown());
    let next = world.produce(topic, Some(0), "next", Acks::All, 20_000);
    world.release();
    assert_eq!(world.stored(long).offset, 2);
    assert_eq!(world.stored(next).offset, 3, "the answer came: same producer, no fresh id needed");
    let ids: Vec<i64> = world.cluster.seen_produce().iter().map(|seen| seen.batches[0].producer_id).collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn a_batch_too_large_together_goes_in_parts_with_sequences_in_order() {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.topics.get_mut("t").unwrap().batch_bytes_max = Some(400);
    let tags: Vec<u64> =
        (0..16).map(|n| world.produce(topic, Some(0), &format!("{n:0>60}"), Acks::All, 5_000)).collect();
    let giant = world.produce(topic, Some(0), &"g".repeat(500), Acks::All, 5_000);
    world.run_ms(500);
    let offsets: Vec<i64> = tags.iter().map(|tag| world.stored(*tag).offset).collect();
    assert_eq!(offsets, (1..17).collect::<Vec<i64>>());
    assert!(matches!(world.error(giant), ProduceError::RecordTooLarge { limit_bytes: 0, .. }));
    let stored: Vec<i32> = world.cluster.seen_produce().iter().map(|seen| seen.batches[0].sequence).collect();
    assert!(stored.windows(2).all(|pair| pair[0] <= pair[1]), "{stored:?}");
    world.cluster.seen.clear();
    let after: Vec<u64> =
        (0..16).map(|n| world.produce(topic, Some(0), &format!("{n:0>60}"), Acks::All, 5_000)).collect();
    world.run_ms(100);
    assert_eq!(after.iter().map(|tag| world.stored(*tag).offset).collect::<Vec<_>>(), (17..33).collect::<Vec<i64>>());
    let sizes: Vec<usize> = world.cluster.seen_produce().iter().map(|seen| seen.batches[0].values.len()).collect();
    assert_eq!(sizes, [2; 8], "half of what was refused last, at most");
}

/// Three records of request 1 and two of request 2 make one batch, of which the broker refuses these positions. `sent`:
/// records of each batch that reached it; `told`: request, first record, count, offset.
#[track_caller]
fn check_refused(positions: &[i32], sent: &[usize], told: &[&str]) {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Produce, BadRecords(positions.to_vec()));
    let deadline = world.now + Duration::from_secs(5);
    for (tag, index) in [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)] {
        let record = RecordRef { timestamp_ms: 1, key: None, value: Some(b"v"), headers: &[] };
        world.client.produce(topic, Some(0), &record, How::new(Acks::All, deadline), tag, index, world.now).unwrap();
    }
    world.run_ms(100);
    let sizes: Vec<usize> = world.cluster.seen_produce().iter().map(|seen| seen.batches[0].values.len()).collect();
    assert_eq!(sizes, sent, "refused {positions:?}");
    let say = |outcome: &Outcome| {
        let Outcome { tag, record_first, count, result, .. } = outcome;
        match result {
            Ok(stored) => format!("{tag}: {record_first}+{count} at {}", stored.offset),
            Err(ProduceError::Rejected { code }) => format!("{tag}: {record_first}+{count} {}", code.name()),
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(world.outcomes.iter().map(say).collect::<Vec<_>>(), told, "refused {positions:?}");
}

#[test]
fn a_refused_record_does_not_take_its_neighbours_with_it() {
    check_refused(&[1], &[5, 4], &["1: 1+1 INVALID_RECORD", "1: 0+1 at 1", "1: 2+1 at 2", "2: 0+2 at 3"]);
    check_refused(&[0, 1], &[5, 3], &["1: 0+2 INVALID_RECORD", "1: 2+1 at 1", "2: 0+2 at 2"]);
    check_refused(
        &[3, 2, 3],
        &[5, 3],
        &["1: 2+1 INVALID_RECORD", "2: 0+1 INVALID_RECORD", "1: 0+2 at 1", "2: 1+1 at 3"],
    );
    check_refused(&[0, 1, 2, 3, 4], &[5], &["1: 0+3 INVALID_RECORD", "2: 0+2 INVALID_RECORD"]);
    // The broker does not say which, or names none of these: halves find it.
    check_refused(&[], &[5, 3, 2], &["1: 0+3 at 1", "2: 0+2 at 4"]);
    check_refused(&[5, -1], &[5, 3, 2], &["1: 0+3 at 1", "2: 0+2 at 4"]);
}

/// Two records share a batch; the first one's deadline passes before the broker answers as `fault` has it. `told`: what
/// the second is told; `log`: what lies in the log at last.
#[track_caller]
fn check_late(fault: Fault, told: &str, log: &[&str]) {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Produce, Fault::Late(Box::new(fault.clone())));
    let short = world.produce(topic, Some(0), "short", Acks::All, 100);
    let long = world.produce(topic, Some(0), "long", Acks::All, 20_000);
    world.run_ms(200);
    assert!(world.error(short).outcome_unknown());
    world.release();
    world.run_ms(500);
    assert!(world.error(short).outcome_unknown(), "told once");
    let got = world
        .outcome(long)
        .expect("told with the answer")
        .as_ref()
        .map_or_else(ProduceError::to_string, |_| "stored".into());
    assert_eq!(got, told, "{fault:?}");
    assert_eq!(world.cluster.log("t", 0)[1..], *log, "{fault:?}");
    let next = world.produce(topic, Some(0), "next", Acks::All, 1_000);
    world.run_ms(100);
    world.stored(next);
}

#[test]
fn an_answer_that_comes_after_a_records_deadline_is_for_those_who_still_wait() {
    check_late(Fault::Repeat, "stored", &["short", "long"]);
    // Surely not stored: it goes again without the record that nobody waits for.
    check_late(Error(ErrorCode::NOT_ENOUGH_REPLICAS), "stored", &["long"]);
    check_late(Error(ErrorCode::MESSAGE_TOO_LARGE), "stored", &["long"]);
    check_late(BadRecords(vec![0]), "stored", &["long"]);
    check_late(BadRecords(vec![1]), "refused by the broker: INVALID_RECORD", &[]);
    check_late(
        Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        "not authorized at the broker: TOPIC_AUTHORIZATION_FAILED",
        &[],
    );
    // Perhaps stored: only the very same batch is recognized.
    check_late(ApplyThenError(ErrorCode::REQUEST_TIMED_OUT), "stored", &["short", "long"]);
    check_late(Error(ErrorCode::REQUEST_TIMED_OUT), "stored", &["short", "long"]);
}

#[test]
fn a_refused_batch_is_tried_again_after_pauses_that_grow() {
    for code in [ErrorCode::NOT_ENOUGH_REPLICAS, ErrorCode::NOT_LEADER_OR_FOLLOWER] {
        let (mut world, topic) = World::warm(1, 1);
        (0..99).for_each(|_| world.cluster.fault(ApiKey::Produce, Error(code)));
        world.produce(topic, Some(0), "it", Acks::All, 60_000);
        let mut attempts = Vec::new();
        for ms in [0, 20, 40, 80, 160, 320, 640, 1_000] {
            world.run_ms(ms);
            attempts.push(world.cluster.seen_produce().len());
        }
        assert_eq!(attempts, [1, 2, 3, 4, 5, 6, 7, 8], "{}", code.name());
        world.run_ms(10_000);
        let later = world.cluster.seen_produce().len() - 8;
        assert!((10..=14).contains(&later), "{later} in ten seconds, {}", code.name());
    }
}

#[test]
fn a_throttled_connection_is_quiet_for_as_long_as_asked() {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Produce, Fault::Throttle(700));
    world.produce(topic, Some(0), "a", Acks::All, 5_000);
    world.settle();
    let tag = world.produce(topic, Some(0), "b", Acks::All, 5_000);
    world.run_ms(690);
    assert!(world.outcome(tag).is_none());
    world.run_ms(20);
    assert_eq!(world.stored(tag).offset, 2);
}

#[test]
fn a_topic_that_does_not_exist_is_believed_after_the_second_answer() {
    let (mut world, _) = World::warm(1, 1);
    let topic = world.client.topic("nowhere");
    let tag = world.produce(topic, None, "it", Acks::All, 5_000);
    world.run_ms(150);
    assert!(world.outcome(tag).is_none(), "one broker may not have heard yet");
    world.run_ms(150);
    assert_eq!(world.error(tag), ProduceError::TopicUnknown);
    assert_eq!(world.client.topic_state(topic), TopicState::Missing);
    let asked = |world: &World| world.cluster.seen.iter().filter(|seen| seen.api == ApiKey::Metadata).count();
    let before = asked(&world);
    for _ in 0..100 {
        let _ = world.try_produce(topic, None, "it", Acks::All, 5_000);
        world.run_ms(10);
    }
    assert!(asked(&world) - before <= 6, "asked {} times in a second", asked(&world) - before);
}

#[test]
fn a_topic_created_a_moment_ago_is_found() {
    let (mut world, _) = World::warm(1, 1);
    let topic = world.client.topic("new");
    let tag = world.produce(topic, None, "it", Acks::All, 5_000);
    world.run_ms(50);
    world.cluster.create("new", 2);
    world.run_ms(300);
    assert_eq!(world.stored(tag).offset, 0);
    let late = world.client.topic("later");
    world.run_ms(1_000);
    assert_eq!(world.client.topic_state(late), TopicState::Missing);
    world.cluster.create("later", 1);
    let tag = world.produce(late, None, "it", Acks::All, 5_000);
    world.run_ms(50);
    assert_eq!(world.stored(tag).offset, 0, "a missing topic is asked for again when somebody publishes");
}

#[test]
fn a_topic_we_may_not_see_is_not_authorized() {
    let mut world = World::new(1, 1);
    world.cluster.topics.get_mut("t").unwrap().denied = true;
    let topic = world.client.topic("t");
    let tag = world.produce(topic, None, "it", Acks::All, 5_000);
    world.run_ms(100);
    assert!(matches!(world.error(tag), ProduceError::NotAuthorized { .. }));
    assert_eq!(world.client.topic_state(topic), TopicState::Denied);
}

#[test]
fn a_topic_created_anew_starts_with_a_fresh_producer_id() {
    let (mut world, topic) = World::warm(1, 2);
    world.produce(topic, Some(0), "old", Acks::All, 1_000);
    world.settle();
    let id = world.cluster.seen_produce()[0].batches[0].producer_id;
    world.cluster.topics.remove("t");
    world.cluster.create("other", 1);
    world.cluster.create("t", 1);
    world.client.refresh_metadata(world.now);
    world.run_ms(100);
    world.cluster.seen.clear();
    assert_eq!(world.client.partition_count(topic), Some(1));
    let tag = world.produce(topic, Some(0), "new", Acks::All, 1_000);
    world.run_ms(100);
    assert_eq!(world.stored(tag).offset, 0);
    let batch = &world.cluster.seen_produce()[0].batches[0];
    assert!(batch.producer_id != id && batch.sequence == 0, "{batch:?}");
}

#[test]
fn brokers_that_refuse_producer_ids_are_written_to_without() {
    for no_api in [false, true] {
        let mut cluster = Cluster::new(1, 1);
        cluster.no_producer_ids = no_api;
        if !no_api {
            cluster.fault(ApiKey::InitProducerId, Error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
        }
        let mut world = World::with(cluster, config(), 3);
        let topic = world.warm_up();
        let tag = world.produce(topic, Some(0), "it", Acks::All, 1_000);
        world.run_ms(100);
        assert_eq!(world.stored(tag).offset, 1);
        assert_eq!(world.cluster.seen_produce()[0].batches[0].producer_id, -1);
        world.cluster.fault(ApiKey::Produce, Disconnect);
        let lost = world.produce(topic, Some(0), "lost", Acks::All, 1_000);
        world.run_ms(100);
        assert!(world.error(lost).outcome_unknown(), "no sequence, no retry");
    }
}

#[test]
fn a_producer_id_that_comes_late_is_waited_for() {
    let mut cluster = Cluster::new(1, 1);
    for _ in 0..4 {
        cluster.fault(ApiKey::InitProducerId, Error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    }
    cluster.fault(ApiKey::InitProducerId, Disconnect);
    let mut world = World::with(cluster, config(), 3);
    let topic = world.client.topic("t");
    let tag = world.produce(topic, Some(0), "it", Acks::All, 5_000);
    world.run_ms(3_000);
    assert_eq!(world.stored(tag).offset, 0);
}

#[test]
fn metadata_survives_errors_silence_garbage_and_disconnects() {
    for fault in [
        Disconnect,
        Silence,
        Garbage(b"\x00\x00\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00".to_vec()),
        Error(ErrorCode::LEADER_NOT_AVAILABLE),
    ] {
        let mut cluster = Cluster::new(2, 1);
        cluster.fault(ApiKey::Metadata, fault.clone());
        let bootstrap = vec!["nobody:1".into(), "b1:9092".into(), "b2:9092".into()];
        let mut world = World::with(cluster, ClientConfig { bootstrap, ..config() }, 4);
        let topic = world.client.topic("t");
        let tag = world.produce(topic, Some(0), "it", Acks::All, 20_000);
        world.run_ms(10_000);
        assert_eq!(world.stored(tag).offset, 0, "after {fault:?}");
    }
}

#[test]
fn expire_all_answers_everybody_now() {
    let (mut world, topic) = World::warm(1, 2);
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    let sent = world.produce(topic, Some(0), "sent", Acks::All, 30_000);
    world.settle();
    let queued = world.produce(topic, Some(0), "queued", Acks::All, 30_000);
    let unknown_topic = world.client.topic("unknown yet");
    let waiting = world.produce(unknown_topic, Some(0), "waiting", Acks::All, 30_000);
    world.client.expire_all(world.now);
    world.settle();
    assert!(world.error(sent).outcome_unknown());
    assert!(matches!(world.error(queued), ProduceError::Unavailable { .. }));
    assert!(matches!(world.error(waiting), ProduceError::Unavailable { .. }));
    world.release();
    assert_eq!(world.outcomes.len(), 3);
    assert_eq!(world.client.queued_bytes(), 0);
}
