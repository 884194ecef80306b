//! Records that cannot be stored now go back to those who asked for it, at once and whole; those that may be stored never.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_client::{Acks, ClientConfig, How, ProduceError, TopicIdx, TopicOptions};
use kafka_wire::api_key::ApiKey;
use kafka_wire::compression::Compression;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::{HeaderRef, Record, RecordRef};

use crate::broker::{Cluster, Fault};
use crate::world::{World, config};

impl World {
    /// The values that came back under a tag; None when it has another outcome, or none yet.
    fn given_back(&self, tag: u64) -> Option<Vec<String>> {
        let outcome = self.outcomes.iter().find(|outcome| outcome.tag == tag)?;
        assert_eq!(
            outcome.unsent.is_some(),
            matches!(outcome.result, Err(ProduceError::Away { .. })),
            "records come back with Away and with nothing else: {outcome:?}"
        );
        let unsent = outcome.unsent.as_ref()?;
        assert_eq!((unsent.count(), unsent.records().count()), (outcome.count, outcome.count as usize));
        Some(unsent.records().map(|record| text(&record)).collect())
    }

    fn is_away(&mut self, topic: TopicIdx, partition: i32) -> bool {
        let away = self.client.away(topic, Some(partition), self.now).is_some();
        match self.offer(topic, Some(partition), "a question") {
            Err(ProduceError::Away { partition: told, .. }) => assert!(away && told == Some(partition)),
            Err(other) => panic!("{other:?}"),
            Ok(_) => assert!(!away),
        }
        away
    }
}

fn text(record: &Record) -> String {
    String::from_utf8(record.value.as_ref().expect("a value").to_vec()).unwrap()
}

/// A record is offered to partition 0 while all is well but `breaks` has just happened. It must come back between the
/// limits, be in no log, and the next after `heals` must be stored without waiting for long.
fn check(
    cause: &str,
    nodes: i32,
    breaks: impl FnOnce(&mut World, TopicIdx),
    between_ms: [u64; 2],
    why: &str,
    heals: impl FnOnce(&mut World),
) {
    let (mut world, topic) = World::warm(nodes, 3);
    breaks(&mut world, topic);
    let begun = world.now;
    let tag = world.offer(topic, Some(0), "it").unwrap_or_else(|error| panic!("{cause}: nobody knows yet: {error}"));
    world.run_ms(between_ms[1] + 1);
    assert_eq!(world.given_back(tag), Some(vec!["it".into()]), "{cause}: {:?}", world.outcome(tag));
    let took_ms = (world.told_at[&tag] - begun).as_millis() as u64;
    assert!((between_ms[0]..=between_ms[1]).contains(&took_ms), "{cause}: after {took_ms} ms, not {between_ms:?}");
    let Err(ProduceError::Away { why: told, partition }) = world.outcome(tag).unwrap() else { unreachable!() };
    assert_eq!(*partition, Some(0), "{cause}");
    assert!(told.contains(why), "{cause}: {told}");
    heals(&mut world);
    world.cluster.script.clear();
    let mut stored = false;
    for _ in 0..30 {
        world.run_ms(100); // somebody publishes all the time
        if let Ok(tag) = world.offer(topic, Some(0), "after") {
            world.run_ms(5);
            stored |= matches!(world.outcome(tag), Some(Ok(_)));
        }
        if stored {
            break;
        }
    }
    let waited_ms = (world.now - begun).as_millis();
    assert!(stored, "{cause}: {waited_ms} ms: {:?}", world.client.away(topic, Some(0), world.now));
    assert!(!world.cluster.log("t", 0).contains(&"it".to_owned()), "{cause}");
}

/// The same for all.
fn revive_all(world: &mut World) {
    (1..=3).for_each(|node| world.revive(node));
    world.cluster.dark.clear();
    world.cluster.refusing.clear();
    world.thaw();
}

fn faults(world: &mut World, code: ErrorCode) {
    (0..1_000).for_each(|_| world.cluster.fault(ApiKey::Produce, Fault::Error(code)));
}

/// Node 1 does not listen, and the others have not noticed.
fn refuse(world: &mut World) {
    world.kill(1);
    world.revive(1);
    world.cluster.refusing.insert(1);
}

fn leaderless(world: &mut World) {
    world.cluster.topics.get_mut("t").unwrap().partitions[0].leader = -1;
}

#[test]
fn what_cannot_be_stored_comes_back_within_the_limit_of_its_cause() {
    let kill_all = |world: &mut World, _: TopicIdx| (1..=3).for_each(|node| world.kill(node));
    check("nobody listens", 3, kill_all, [0, 5], "connection refused", revive_all);
    check("one of three does not listen", 3, |world, _| refuse(world), [250, 270], "b1:9092", revive_all);
    let no_leader = |world: &mut World, _: TopicIdx| {
        leaderless(world);
        world.client.refresh_metadata(world.now);
        world.run_ms(30);
    };
    let lead = |world: &mut World| world.cluster.move_leader("t", 0, 2);
    check("no leader", 3, no_leader, [200, 260], "no leader", lead);
    let behind = |world: &mut World, topic: TopicIdx| {
        world.cluster.frozen.insert(1);
        world.produce(topic, Some(0), "in flight", Acks::All, 60_000);
        world.settle();
    };
    check("behind what a frozen broker has", 1, behind, [1_000, 1_000], "is silent", revive_all);
    let dark = |world: &mut World, _: TopicIdx| {
        let wires = world.open_wires();
        world.cluster.dark.extend([1, 2, 3]);
        wires.into_iter().for_each(|wire| world.drop_wire(wire, "reset by peer"));
    };
    check("packets vanish", 3, dark, [1_000, 1_000], "does not complete", revive_all);
    let refused = |world: &mut World, _: TopicIdx| faults(world, ErrorCode::NOT_ENOUGH_REPLICAS);
    check("too few replicas", 1, refused, [0, 0], "NOT_ENOUGH_REPLICAS", |_| {});
    let unled = |world: &mut World, _: TopicIdx| faults(world, ErrorCode::LEADER_NOT_AVAILABLE);
    check("no leader, the broker says", 1, unled, [250, 650], "LEADER_NOT_AVAILABLE", |_| {});
}

#[test]
fn without_a_producer_id_records_come_back_after_a_second() {
    let mut world = World::new(2, 1);
    (0..9).for_each(|_| world.cluster.fault(ApiKey::InitProducerId, Fault::Silence));
    let topic = world.client.topic("t");
    let tag = world.offer(topic, Some(0), "it").unwrap();
    let begun = world.now;
    world.run_ms(1_100);
    assert_eq!(world.given_back(tag), Some(vec!["it".into()]));
    assert_eq!((world.told_at[&tag] - begun).as_millis(), 1_000);
    assert!(world.is_away(topic, 0));
    world.cluster.script.clear();
    world.run_ms(5_100); // the broker that said nothing is given up, the other asked
    let tag = world.offer(topic, Some(0), "straight").unwrap();
    world.settle();
    world.stored(tag);
}

#[test]
fn unrest_of_long_ago_is_not_added_to_that_of_now() {
    let (mut world, topic) = World::warm(1, 1);
    for _ in 0..5 {
        world.cluster.fault(ApiKey::Produce, Fault::Error(ErrorCode::LEADER_NOT_AVAILABLE));
        let how = How::new(Acks::All, world.now + Duration::from_millis(5)).or_give_back();
        world.produce_as(topic, Some(0), "gives up at once", how).unwrap();
        world.run(Duration::from_secs(20));
        assert_eq!(world.outcomes.pop().map(|told| told.unsent), Some(None), "one refusal is none");
    }
}

#[test]
fn what_may_be_stored_never_comes_back() {
    for (fault, told) in [
        (Fault::Silence, "unknown"),
        (Fault::ApplyThenSilence, "unknown"),
        (Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND), "unknown"),
        (Fault::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER), "unknown"),
        (Fault::ApplyThenDisconnect, "stored"),
    ] {
        let (mut world, topic) = World::warm(1, 1);
        let times = if told == "stored" { 1 } else { 1_000 };
        (0..times).for_each(|_| world.cluster.fault(ApiKey::Produce, fault.clone()));
        let how = How::new(Acks::All, world.now + Duration::from_secs(5)).or_give_back();
        let tag = world.produce_as(topic, Some(0), "it", how).unwrap();
        world.settle();
        if told == "stored" {
            world.kill(1); // its answer is lost, and then the broker is
            world.run_ms(2_000);
            assert_eq!(world.outcome(tag), None);
            world.revive(1);
        }
        world.run_ms(6_000);
        match world.outcome(tag).expect("by its deadline") {
            Ok(_) => assert_eq!(told, "stored", "{fault:?}"),
            Err(error) => assert_eq!((error.outcome_unknown(), told), (true, "unknown"), "{fault:?}: {error}"),
        }
        assert!(world.cluster.log("t", 0).iter().filter(|value| *value == "it").count() <= 1);
    }
}

#[test]
fn records_that_wait_stay_in_order_when_others_of_their_batch_go_back() {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Produce, Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS));
    let deadline = world.now + Duration::from_secs(60);
    let (wait, back) = (How::new(Acks::All, deadline), How::new(Acks::All, deadline).or_give_back());
    let given = [(1, 0, back), (1, 1, back), (2, 0, wait), (1, 2, back), (1, 3, wait), (3, 0, back), (3, 1, back)];
    for (tag, index, how) in given {
        let value = format!("{tag}/{index}");
        let record = RecordRef { timestamp_ms: 1, key: None, value: Some(value.as_bytes()), headers: &[] };
        world.client.produce(topic, Some(0), &record, how, tag, index, world.now).unwrap();
    }
    world.settle();
    let told: Vec<(u64, u32, Vec<String>)> = world
        .outcomes
        .iter()
        .map(|told| (told.tag, told.record_first, told.unsent.as_ref().unwrap().records().map(|r| text(&r)).collect()))
        .collect();
    let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
    let back = [(1, 0, values(&["1/0", "1/1"])), (1, 2, values(&["1/2"])), (3, 0, values(&["3/0", "3/1"]))];
    assert_eq!(told, back);
    world.run_ms(1_000);
    assert_eq!(world.cluster.log("t", 0), ["warm0", "2/0", "1/3"]);
    assert_eq!((world.outcomes.len(), world.client.queued_bytes()), (5, 0));
}

#[test]
fn what_comes_back_is_what_was_given_whatever_the_batch_was_compressed_with() {
    let long = "x".repeat(10_000);
    let headers = [
        HeaderRef { name: b"twice", value: Some(b"1") },
        HeaderRef { name: b"null", value: None },
        HeaderRef { name: b"twice", value: Some(b"") },
    ];
    let records = [
        RecordRef { timestamp_ms: 5_000, key: None, value: None, headers: &[] },
        RecordRef { timestamp_ms: 1, key: Some(b""), value: Some(b""), headers: &headers },
        RecordRef { timestamp_ms: 1 << 41, key: Some(b"\xff\0"), value: Some(long.as_bytes()), headers: &headers[..1] },
    ];
    // Refused by the broker as it was sent, still open, and before it had a batch.
    for stage in ["refused", "open", "no metadata"] {
        for compression in
            [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
        {
            for shared in [false, true] {
                let mut world = World::new(1, 1);
                let topic = if stage == "no metadata" {
                    world.cluster.nodes.insert(1, false);
                    world.client.topic("t")
                } else {
                    world.warm_up()
                };
                world.client.set_topic_options(topic, TopicOptions { compression, ..TopicOptions::default() });
                if stage == "refused" {
                    world.cluster.fault(ApiKey::Produce, Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS));
                }
                let how = How::new(Acks::All, world.now + Duration::from_secs(60)).or_give_back();
                for (index, record) in records.iter().enumerate() {
                    let (client, index, now) = (&mut world.client, index as u32, world.now);
                    let taken = match record.value.filter(|_| shared) {
                        Some(value) => {
                            let value = bytes::Bytes::copy_from_slice(value);
                            client.produce_shared(topic, Some(0), record, value, how, 9, index, now)
                        }
                        None => client.produce(topic, Some(0), record, how, 9, index, now),
                    };
                    taken.unwrap();
                }
                if stage == "open" {
                    world.kill(1);
                }
                world.settle();
                let context = format!("{stage} {compression:?} {shared}");
                let [outcome] = &world.outcomes[..] else { panic!("{context}: {:?}", world.outcomes) };
                let back: Vec<Record> = outcome.unsent.as_ref().expect(&context).records().collect();
                assert_eq!(back.len(), records.len(), "{context}");
                for (back, given) in back.iter().zip(&records) {
                    assert_eq!(back.timestamp_ms, given.timestamp_ms, "{context}");
                    assert_eq!((back.key.as_deref(), back.value.as_deref()), (given.key, given.value), "{context}");
                    let headers: Vec<_> = back.headers.iter_refs().collect();
                    let expected: Vec<_> = given.headers.iter().map(|header| (header.name, header.value)).collect();
                    assert_eq!(headers, expected, "{context}");
                }
                assert_eq!(world.client.queued_bytes(), 0, "{context}");
            }
        }
    }
}

#[test]
fn after_a_backoff_one_record_is_tried_and_its_success_ends_it() {
    let (mut world, topic) = World::warm(1, 1);
    faults(&mut world, ErrorCode::NOT_ENOUGH_REPLICAS);
    let mut tried = 0;
    for _ in 0..100 {
        // Whoever is not refused at once is told within the round trip.
        match world.offer(topic, Some(0), "probe") {
            Ok(tag) => {
                world.settle();
                assert!(world.given_back(tag).is_some());
                tried += 1;
            }
            Err(ProduceError::Away { .. }) => assert!(world.client.away(topic, Some(0), world.now).is_some()),
            Err(other) => panic!("{other:?}"),
        }
        world.run_ms(30);
    }
    assert!((5..=12).contains(&tried), "{tried} attempts in 3 s, with a backoff of up to a second");
    world.cluster.script.clear();
    world.run_ms(1_000);
    let tags = ["first", "second"].map(|value| world.offer(topic, Some(0), value).expect("half-open"));
    world.settle();
    tags.into_iter().for_each(|tag| _ = world.stored(tag));
    assert!(!world.is_away(topic, 0));
}

#[test]
fn a_broker_that_is_back_is_found_within_a_second_and_the_first_record_goes_straight() {
    for how in ["refuses", "dark", "frozen"] {
        let (mut world, topic) = World::warm(3, 3);
        match how {
            "refuses" => refuse(&mut world),
            "dark" => {
                let wires = world.open_wires();
                world.cluster.dark.extend([1]);
                wires.into_iter().for_each(|wire| world.drop_wire(wire, "reset by peer"));
            }
            _ => _ = world.cluster.frozen.insert(1),
        }
        // As the gateway drains: this one waits as long as it takes.
        let drained = world.produce(topic, Some(0), "drained", Acks::All, 3_600_000);
        world.run_ms(4_567);
        assert!(world.is_away(topic, 0), "{how}");
        assert!(!world.is_away(topic, 1), "{how}: its leader is well");
        revive_all(&mut world);
        world.run_ms(1_200);
        world.stored(drained);
        let tag = world.offer(topic, Some(0), "straight").unwrap_or_else(|error| panic!("{how}: {error}"));
        world.settle();
        world.stored(tag);
    }
}

#[test]
fn a_broker_that_nobody_tries_any_more_is_tried_by_the_next_record() {
    let (mut world, topic) = World::warm(3, 3);
    refuse(&mut world);
    world.connects.clear();
    for _ in 0..20 {
        // Metadata is asked of anybody: one day of the broker that does not listen, and then of others.
        world.open_wires().into_iter().for_each(|wire| world.drop_wire(wire, "reset by peer"));
        world.client.refresh_metadata(world.now);
        world.run_ms(300);
        if world.connects.iter().any(|connect| connect.host == "b1") {
            break;
        }
    }
    assert!(world.connects.iter().any(|connect| connect.host == "b1"));
    let tag = world.offer(topic, Some(0), "tries it").expect("half-open");
    world.run_ms(5);
    assert!(world.given_back(tag).is_some());
    world.cluster.refusing.clear();
    world.run_ms(1_100);
    let tag = world.offer(topic, Some(0), "straight").expect("found");
    world.settle();
    world.stored(tag);
}

#[test]
fn short_unrest_is_not_away() {
    let all_direct = |unrest: &str, mut world: World, topic: TopicIdx| {
        let mut tags = Vec::new();
        for number in 0..100 {
            for partition in 0..3 {
                let value = format!("{number}");
                tags.push(
                    world.offer(topic, Some(partition), &value).unwrap_or_else(|error| panic!("{unrest}: {error}")),
                );
            }
            world.run_ms(10);
            if number == 17 {
                world.cluster.move_leader("t", 0, 2); // 180 ms after it began
            }
        }
        tags.into_iter().for_each(|tag| _ = world.stored(tag));
    };
    let (mut world, topic) = World::warm(3, 3);
    leaderless(&mut world);
    world.cluster.fault(ApiKey::Produce, Fault::Error(ErrorCode::LEADER_NOT_AVAILABLE));
    all_direct("an election", world, topic);
    let (mut world, topic) = World::warm(3, 3);
    world.kill(1);
    all_direct("a broker that restarts, its partitions move", world, topic);
    let (mut world, topic) = World::warm(3, 3);
    refuse(&mut world);
    all_direct("a broker that restarts and is thought to lead", world, topic);
    let (mut world, topic) = World::warm(3, 3);
    world.open_wires().into_iter().for_each(|wire| world.drop_wire(wire, "idle for too long"));
    all_direct("connections that end", world, topic);
    let (mut world, topic) = World::warm(3, 3);
    world.cluster.fault(ApiKey::Produce, Fault::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    all_direct("one that is no leader", world, topic);
    let (mut world, topic) = World::warm(3, 3);
    (0..3).for_each(|_| world.cluster.fault(ApiKey::Produce, Fault::Throttle(2_000)));
    (0..3).for_each(|_| world.cluster.fault(ApiKey::Produce, Fault::Error(ErrorCode::THROTTLING_QUOTA_EXCEEDED)));
    for partition in 0..3 {
        world.offer(topic, Some(partition), "throttled").unwrap();
    }
    for _ in 0..30 {
        world.run_ms(100);
        assert!(!world.is_away(topic, 0), "a quota");
    }
}

#[test]
fn records_without_a_key_avoid_partitions_that_are_away() {
    let (mut world, topic) = World::warm(3, 6);
    world.kill(1); // leads 0 and 3
    world.produce(topic, Some(0), "finds out", Acks::All, 60_000);
    world.run_ms(400);
    assert!(world.is_away(topic, 0) && world.is_away(topic, 3));
    for how in ["offer", "wait"] {
        for number in 0..60 {
            let value = format!("{how} {number}");
            let tag = match how {
                "offer" => world.offer(topic, None, &value).expect("others are there"),
                _ => world.produce(topic, None, &value, Acks::All, 60_000),
            };
            world.run_ms(7);
            assert!(![0, 3].contains(&world.stored(tag).partition));
        }
    }
    assert_eq!(world.client.away(topic, None, world.now), None);
    world.kill(2);
    world.kill(3);
    // Leader after leader is found to be gone, then all are known to be.
    let mut refused = None;
    for _ in 0..9 {
        match world.offer(topic, None, "nobody is there") {
            Ok(tag) => {
                world.run_ms(260);
                assert!(world.given_back(tag).is_some());
            }
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    assert!(matches!(refused, Some(ProduceError::Away { partition: Some(_), .. })), "{refused:?}");
    assert!(world.client.away(topic, None, world.now).is_some());
}

#[test]
fn the_partition_told_is_the_one_a_record_goes_to() {
    let (mut one, topic) = World::warm(3, 6);
    let (mut other, _) = World::warm(3, 6);
    for number in 0..200u64 {
        let key = number.is_multiple_of(3).then(|| number.to_be_bytes());
        let key = key.as_ref().map(|key| &key[..]);
        let record = RecordRef { timestamp_ms: 1, key, value: Some(b"v"), headers: &[] };
        let how = How::new(Acks::All, one.now + Duration::from_secs(60));
        let told = one.client.partition_for(topic, None, key);
        assert!(told.is_some());
        assert_eq!(one.client.partition_for(topic, None, key), told, "asked twice");
        one.client.produce(topic, told, &record, how, number, 0, one.now).unwrap();
        other.client.produce(topic, None, &record, how, number, 0, other.now).unwrap();
        if number % 4 == 0 {
            one.settle();
            other.settle();
        }
    }
    one.settle();
    other.settle();
    assert_eq!(one.outcomes, other.outcomes);
    let unknown = one.client.topic("unknown");
    assert_eq!(one.client.partition_for(unknown, None, None), None);
    assert_eq!(one.client.partition_for(unknown, Some(7), None), Some(7));
}

#[test]
fn records_without_a_key_keep_to_a_partition_while_all_are_away_and_not_to_one_for_ever() {
    let mut world = World::with(Cluster::new(2, 6), config(), 1);
    let topic = world.warm_up();
    (1..=2).for_each(|node| world.kill(node));
    world.run_ms(2_000);
    let told: Vec<i32> = (0..10_000).map(|_| world.client.partition_for(topic, None, None).unwrap()).collect();
    let runs: Vec<&[i32]> = told.chunk_by(|a, b| a == b).collect();
    assert!(runs.len() > 5 && runs.len() <= 11, "{} runs", runs.len());
    let all: BTreeSet<i32> = told.iter().copied().collect();
    assert!(all.len() > 2, "{all:?}");
}

#[test]
fn records_that_wait_for_metadata_come_back_when_no_broker_can_be_reached() {
    for dark in [false, true] {
        let settings = ClientConfig { bootstrap: vec!["b1:9092".into(), "b2:9092".into()], ..config() };
        let mut world = World::with(Cluster::new(2, 3), settings, 1);
        if dark {
            world.cluster.dark.extend([1, 2]);
        } else {
            (1..=2).for_each(|node| world.kill(node));
        }
        let topic = world.client.topic("t");
        let tags = [None, Some(2)].map(|partition| world.offer(topic, partition, "it").expect("nobody knows yet"));
        let waits = world.produce(topic, Some(0), "waits", Acks::All, 60_000);
        let leader = world.produce(topic, Some(0), "waits too", Acks::Leader, 60_000);
        world.run_ms(if dark { 2_100 } else { 1 });
        for (tag, partition) in tags.into_iter().zip([None, Some(2)]) {
            assert_eq!(world.given_back(tag), Some(vec!["it".into()]), "dark {dark}");
            assert!(matches!(world.error(tag), ProduceError::Away { partition: told, .. } if told == partition));
        }
        let refused = world.offer(topic, None, "known by now").unwrap_err();
        assert!(matches!(refused, ProduceError::Away { partition: None, .. }), "dark {dark}: {refused:?}");
        assert!(world.client.away(topic, None, world.now).is_some());
        assert_eq!((world.outcome(waits), world.outcome(leader)), (None, None));
        revive_all(&mut world);
        world.run_ms(2_500);
        world.stored(waits);
        world.stored(leader);
        assert!(!world.is_away(topic, 0), "dark {dark}");
    }
}

#[test]
fn without_acks_all_or_a_producer_id_everybody_waits() {
    for (acks, idempotence) in [(Acks::Leader, true), (Acks::None, true), (Acks::All, false)] {
        let mut world = World::with(Cluster::new(1, 1), ClientConfig { idempotence, ..config() }, 1);
        let topic = world.warm_up();
        world.kill(1);
        world.run_ms(500);
        let how = How::new(acks, world.now + Duration::from_secs(2)).or_give_back();
        let tag = world.produce_as(topic, Some(0), "it", how).expect("taken");
        world.run_ms(1_500);
        assert_eq!(world.outcome(tag), None, "{acks:?}");
        world.run_ms(1_000);
        assert!(matches!(world.error(tag), ProduceError::Unavailable { .. }), "{acks:?}");
    }
}

#[test]
fn a_partition_is_settled_when_nothing_of_it_may_be_stored_unknown_to_us() {
    let (mut world, topic) = World::warm(1, 2);
    assert!(world.client.is_settled(topic, 0));
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    world.produce(topic, Some(0), "it", Acks::All, 60_000);
    assert!(world.client.is_settled(topic, 0), "not sent");
    world.settle();
    assert!(!world.client.is_settled(topic, 0), "in flight");
    assert!(world.client.is_settled(topic, 1), "another partition");
    world.kill(1);
    world.run_ms(3_000);
    assert!(!world.client.is_settled(topic, 0), "may be stored");
    world.revive(1);
    world.run_ms(1_500);
    assert!(world.client.is_settled(topic, 0));
    assert!(world.client.is_settled(topic, 99) && world.client.is_settled(topic, -1));
}

#[test]
fn a_record_with_hours_of_time_is_stored_once_however_long_its_answer_takes() {
    let (mut world, topic) = World::warm(1, 1);
    (0..150).for_each(|_| world.cluster.fault(ApiKey::Produce, Fault::ApplyThenSilence));
    (0..50).for_each(|_| world.cluster.fault(ApiKey::Produce, Fault::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER)));
    let tag = world.produce(topic, Some(0), "it", Acks::All, 3 * 3_600_000);
    world.run(Duration::from_secs(3_600));
    assert_eq!(world.outcome(tag), None);
    world.kill(1);
    world.run(Duration::from_secs(3_600));
    assert_eq!(world.outcome(tag), None);
    world.revive(1);
    world.run_ms(2_000);
    world.cluster.script.clear();
    world.run(Duration::from_secs(1_800));
    assert_eq!(world.stored(tag).offset, 1);
    let sent: std::collections::BTreeSet<(i64, i32)> = world
        .cluster
        .seen_produce()
        .iter()
        .map(|seen| (seen.batches[0].producer_id, seen.batches[0].sequence))
        .collect();
    assert_eq!(sent.len(), 1, "one producer id, one sequence: {sent:?}");
    assert_eq!(world.cluster.log("t", 0), ["warm0", "it"]);
}
