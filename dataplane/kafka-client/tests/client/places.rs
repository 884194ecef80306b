//! Every place where a queue can wait, and every event that ends the wait (the table in `src/queue.rs`). A place whose
//! event never comes stops a partition: a row each.

use std::time::Duration;

use kafka_client::{Acks, ProduceError};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;

use crate::broker::{Cluster, Fault};
use crate::world::{World, config};

/// `enter` brings the queue of partition 0 to a place with a record of `acks` in it; `leave` is the event. The record, and
/// the next one, must be stored within `within_ms` after it.
fn check(
    place: &str,
    acks: Acks,
    mut world: World,
    enter: impl FnOnce(&mut World, &mut dyn FnMut(&mut World) -> u64) -> u64,
    leave: impl FnOnce(&mut World),
    within_ms: u64,
) {
    let topic = world.warm_up();
    let mut produce = |world: &mut World| world.produce(topic, Some(0), "waits", acks, 60_000);
    let tag = enter(&mut world, &mut produce);
    world.run_ms(1);
    assert_eq!(world.outcome(tag), None, "{place}: it waits");
    leave(&mut world);
    world.run_ms(within_ms);
    match world.outcome(tag) {
        Some(Ok(_)) => {}
        Some(Err(error)) if error.outcome_unknown() => {} // it left its place, and may be stored
        other => panic!("{place}: {other:?} {within_ms} ms after the event"),
    }
    let next = world.produce(topic, Some(0), "next", acks, 5_000);
    world.run_ms(2_000);
    assert!(matches!(world.outcome(next), Some(Ok(_))), "{place}: the next record: {:?}", world.outcome(next));
}

fn world_of(nodes: i32) -> World {
    World::new(nodes, 1)
}

#[test]
fn pending_ends_when_the_connection_has_room() {
    let mut one_at_a_time = config();
    one_at_a_time.in_flight_max = 1;
    let world = World::with(Cluster::new(1, 2), one_at_a_time, 1);
    let enter = |world: &mut World, produce: &mut dyn FnMut(&mut World) -> u64| {
        world.cluster.fault(ApiKey::Produce, Fault::Hold);
        let topic = world.client.topic("t");
        world.produce(topic, Some(1), "before it", Acks::All, 60_000);
        world.settle();
        produce(world)
    };
    check("pending, room", Acks::All, world, enter, World::release, 10);
}

#[test]
fn pending_ends_when_metadata_names_another_leader() {
    let enter = |world: &mut World, produce: &mut dyn FnMut(&mut World) -> u64| {
        world.kill(1);
        world.run_ms(50);
        produce(world)
    };
    let leave = |world: &mut World| world.cluster.move_leader("t", 0, 2);
    check("pending, metadata", Acks::All, world_of(2), enter, leave, 2_000);
}

#[test]
fn pending_ends_when_a_broker_hints_at_another_leader() {
    let mut cluster = Cluster::new(2, 3);
    cluster.leader_hints = true;
    let mut one_at_a_time = config();
    one_at_a_time.in_flight_max = 1;
    let mut world = World::with(cluster, one_at_a_time, 1);
    let topic = world.warm_up();
    // Partitions 0 and 2 are with the same leader, whose connection for acks=all is taken.
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    world.produce(topic, Some(2), "takes the connection", Acks::All, 60_000);
    world.settle();
    let tag = world.produce(topic, Some(0), "waits", Acks::All, 60_000);
    world.settle();
    world.cluster.move_leader("t", 0, 2);
    (0..9).for_each(|_| world.cluster.fault(ApiKey::Metadata, Fault::Silence));
    world.produce(topic, Some(0), "is told who leads", Acks::Leader, 60_000);
    world.run_ms(500);
    world.stored(tag);
}

#[test]
fn in_flight_ends_with_the_answer_with_the_connection_or_after_the_request_timeout() {
    let held = |world: &mut World, produce: &mut dyn FnMut(&mut World) -> u64| {
        world.cluster.fault(ApiKey::Produce, Fault::Hold);
        let tag = produce(world);
        world.settle();
        tag
    };
    check("in flight, answer", Acks::All, world_of(1), held, World::release, 10);
    let cut = |world: &mut World| world.open_wires().into_iter().for_each(|conn| world.drop_wire(conn, "reset"));
    check("in flight, reset", Acks::All, world_of(1), held, cut, 2_000);
    check("in flight, reset, acks=1", Acks::Leader, world_of(1), held, cut, 2_000);
    let silent = |world: &mut World, produce: &mut dyn FnMut(&mut World) -> u64| {
        world.cluster.fault(ApiKey::Produce, Fault::Silence);
        let tag = produce(world);
        world.settle();
        tag
    };
    check("in flight, silence", Acks::All, world_of(1), silent, |_| {}, 33_000);
}

#[test]
fn no_leader_ends_when_metadata_or_a_hint_names_one() {
    let leaderless = |world: &mut World, produce: &mut dyn FnMut(&mut World) -> u64| {
        world.cluster.topics.get_mut("t").unwrap().partitions[0].leader = -1;
        world.cluster.fault(ApiKey::Produce, Fault::Error(ErrorCode::LEADER_NOT_AVAILABLE));
        let tag = produce(world);
        world.run_ms(500);
        tag
    };
    let elected = |world: &mut World| world.cluster.move_leader("t", 0, 1);
    check("no leader", Acks::All, world_of(1), leaderless, elected, 2_500);
}

#[test]
fn no_producer_ends_when_an_id_is_granted_or_refused() {
    for refused in [false, true] {
        let burnt = |world: &mut World, produce: &mut dyn FnMut(&mut World) -> u64| {
            for _ in 0..6 {
                world.cluster.fault(ApiKey::InitProducerId, Fault::Error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
            }
            world.cluster.fault(ApiKey::Produce, Fault::Error(ErrorCode::UNKNOWN_PRODUCER_ID));
            let tag = produce(world);
            world.run_ms(100);
            tag
        };
        let event = |world: &mut World| {
            world.cluster.script.clear();
            world.cluster.refuses_producer_ids = refused;
        };
        check(&format!("no producer, refused {refused}"), Acks::All, world_of(1), burnt, event, 2_500);
    }
}

#[test]
fn delayed_ends_with_time() {
    for (acks, code) in [
        (Acks::All, ErrorCode::NOT_ENOUGH_REPLICAS),
        (Acks::All, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (Acks::Leader, ErrorCode::NOT_LEADER_OR_FOLLOWER),
    ] {
        let refused = |world: &mut World, produce: &mut dyn FnMut(&mut World) -> u64| {
            (0..5).for_each(|_| world.cluster.fault(ApiKey::Produce, Fault::Error(code)));
            let tag = produce(world);
            world.run_ms(25);
            tag
        };
        check(&format!("delayed, {}", code.name()), acks, world_of(1), refused, |_| {}, 2_000);
    }
}

#[test]
fn a_leader_that_moved_where_producer_ids_are_refused_stops_nobody() {
    // Told "not the leader", the batch counted as maybe stored; such a batch wanted the id it was sent under, which it
    // never had, and its partition waited for one until the brokers were asked again: five minutes.
    for hides_the_api in [true, false] {
        let mut cluster = Cluster::new(2, 1);
        cluster.no_producer_ids = hides_the_api;
        cluster.refuses_producer_ids = !hides_the_api;
        let mut world = World::with(cluster, config(), 1);
        let topic = world.warm_up();
        world.cluster.move_leader("t", 0, 2);
        let first = world.produce(topic, Some(0), "first", Acks::All, 5_000);
        world.run_ms(1_000);
        world.stored(first);
        world.cluster.fault(ApiKey::Produce, Fault::ApplyThenError(ErrorCode::NOT_LEADER_OR_FOLLOWER));
        let appended = world.produce(topic, Some(0), "appended", Acks::All, 5_000);
        world.run_ms(1_000);
        assert!(world.error(appended).outcome_unknown(), "nothing tells a retry from a second record");
        let next = world.produce(topic, Some(0), "next", Acks::All, 5_000);
        world.run_ms(1_000);
        world.stored(next);
        assert_eq!(world.cluster.log("t", 0), ["warm0", "first", "appended", "next"]);
    }
}

#[test]
fn a_deadline_takes_a_record_out_of_every_place() {
    type Enter = fn(&mut World);
    let places: [(&str, &str, Enter); 5] = [
        ("pending", "b1:9092: connection refused", |world| world.kill(1)),
        ("pending, opening", "leader b1:9092 did not take it in time", |world| {
            world.kill(1);
            world.run_ms(10); // refused
            world.revive(1);
            world.cluster.frozen.insert(1);
        }),
        ("no leader", "partition has no leader", |world| {
            world.cluster.topics.get_mut("t").unwrap().partitions[0].leader = -1;
        }),
        ("in flight", "the broker did not answer in time", |world| {
            world.cluster.fault(ApiKey::Produce, Fault::Silence);
        }),
        ("delayed", "NOT_ENOUGH_REPLICAS", |world| {
            (0..99).for_each(|_| world.cluster.fault(ApiKey::Produce, Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS)));
        }),
    ];
    for (place, words, enter) in places {
        let (mut world, topic) = World::warm(1, 1);
        enter(&mut world);
        world.client.refresh_metadata(world.now);
        world.run_ms(50);
        let tag = world.produce(topic, Some(0), "waits", Acks::All, 700);
        world.run(Duration::from_millis(690));
        assert_eq!(world.outcome(tag), None, "{place}");
        world.run_ms(15);
        let why = words.into();
        let expected = match place {
            "in flight" => ProduceError::Unknown { why },
            _ => ProduceError::Unavailable { why },
        };
        assert_eq!(world.error(tag), expected, "{place}");
    }
}

#[test]
fn deadlines_are_looked_at_in_time_and_every_two_milliseconds_at_most() {
    let (mut world, topic) = World::warm(1, 1);
    world.kill(1);
    let tags = [100, 101, 103].map(|ms| world.produce(topic, Some(0), "it", Acks::All, ms));
    world.run_ms(99);
    for told in [[true, false, false], [true, false, false], [true, true, false], [true, true, false], [true; 3]] {
        world.run_ms(1);
        assert_eq!(tags.map(|tag| world.outcome(tag).is_some()), told);
    }
}

#[test]
fn records_that_expired_leave_their_batch_when_they_are_half_of_it() {
    let (mut world, topic) = World::warm(1, 1);
    world.kill(1);
    for n in 1..=4 {
        world.produce(topic, Some(0), &"x".repeat(32), Acks::All, 100 * n); // 39 bytes of a batch with 61 of its own
    }
    for bytes in [61 + 4 * 39, 61 + 2 * 39, 61 + 39, 0] {
        world.run_ms(100);
        assert_eq!(world.client.queued_bytes(), bytes);
    }
}
