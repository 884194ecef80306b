//! The good path: when records leave, in which batches, over which connections.

use std::time::Duration;

use kafka_client::{Acks, ClientConfig, How, Partitioner, ProduceError, Stored, TopicOptions, TopicState};
use kafka_wire::api_key::ApiKey;
use kafka_wire::compression::Compression;
use kafka_wire::record_batch::{HeaderRef, RecordRef};

use crate::broker::{Cluster, Fault};
use crate::world::{Dice, World, config};

#[test]
fn an_idle_publish_leaves_in_the_same_instant() {
    let (mut world, topic) = World::warm(1, 1);
    let tag = world.produce(topic, None, "hello", Acks::All, 1_000);
    let before = world.now;
    world.settle();
    assert_eq!(world.now, before);
    assert_eq!(world.stored(tag), Stored { partition: 0, offset: 1, timestamp_ms: 1_000 });
    assert_eq!(world.cluster.log("t", 0), ["warm0", "hello"]);
    assert!(world.client.is_idle());
    assert_eq!(world.client.queued_bytes(), 0);
}

#[test]
fn a_record_for_a_topic_not_yet_known_waits_for_its_metadata_and_no_longer() {
    let mut world = World::new(3, 4);
    let topic = world.client.topic("t");
    assert_eq!(world.client.topic_state(topic), TopicState::Pending);
    let tags: Vec<u64> =
        (0..10).map(|n| world.produce(topic, Some(n % 4), &format!("v{n}"), Acks::All, 1_000)).collect();
    world.run_ms(100);
    for (n, tag) in tags.iter().enumerate() {
        assert_eq!(world.stored(*tag).partition, n as i32 % 4);
    }
    assert_eq!(world.cluster.log("t", 1), ["v1", "v5", "v9"]);
    assert_eq!(world.client.partition_count(topic), Some(4));
    assert_eq!(world.client.leader(topic, 1), Some(2));
}

#[test]
fn records_that_arrive_while_one_batch_is_out_leave_together_when_it_returns() {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    world.produce(topic, None, "first", Acks::All, 1_000);
    world.settle();
    for n in 0..50 {
        world.produce(topic, None, &format!("v{n}"), Acks::All, 1_000);
        world.settle();
    }
    assert_eq!(world.cluster.seen_produce().len(), 1, "one in flight per partition");
    world.release();
    let produces = world.cluster.seen_produce();
    assert_eq!(produces.len(), 2);
    assert_eq!(produces[1].batches[0].values.len(), 50);
    assert_eq!(
        (produces[1].batches[0].sequence, produces[1].batches[0].producer_id),
        (2, produces[0].batches[0].producer_id)
    );
    assert_eq!(world.outcomes.len(), 51);
}

#[test]
fn ready_partitions_of_one_broker_share_a_request_and_others_go_to_theirs() {
    let (mut world, topic) = World::warm(2, 6);
    for partition in 0..6 {
        world.produce(topic, Some(partition), "x", Acks::All, 1_000);
    }
    world.settle();
    let produces = world.cluster.seen_produce();
    let mut partitions: Vec<(i32, Vec<i32>)> =
        produces.iter().map(|seen| (seen.node, seen.batches.iter().map(|batch| batch.partition).collect())).collect();
    partitions.sort();
    assert_eq!(partitions, [(1, vec![0, 2, 4]), (2, vec![1, 3, 5])]);
}

/// Batches of 100 bytes, each of a partition of its own, leave in requests of so many.
#[track_caller]
fn check_requests(partitions: usize, request_bytes_max: usize, requests: &[usize]) {
    let mut world = World::with(Cluster::new(1, partitions), ClientConfig { request_bytes_max, ..config() }, 1);
    let topic = world.warm_up();
    for partition in 0..partitions as i32 {
        world.produce(topic, Some(partition), &"x".repeat(32), Acks::All, 1_000);
    }
    world.settle();
    let sizes: Vec<usize> = world.cluster.seen_produce().iter().map(|seen| seen.batches.len()).collect();
    assert_eq!(sizes, requests, "{partitions} partitions, requests of at most {request_bytes_max} bytes");
}

#[test]
fn a_request_takes_as_many_batches_as_fit_and_at_least_one() {
    check_requests(4, 400, &[4]);
    check_requests(4, 399, &[3, 1]);
    check_requests(4, 200, &[2, 2]);
    check_requests(4, 199, &[1, 1, 1, 1]);
    check_requests(2, 50, &[1, 1]);
    check_requests(1_001, 4_000_000, &[1_000, 1]);
}

#[test]
fn answers_are_told_to_whom_they_belong_in_whatever_order_they_come() {
    for backwards in [false, true] {
        let mut cluster = Cluster::new(1, 3);
        cluster.create("u", 2);
        cluster.answers_backwards = backwards;
        let mut world = World::with(cluster, config(), 1);
        let t = world.warm_up();
        let u = world.client.topic("u");
        world.run_ms(10);
        // Log lengths differ, so that no offset is right for another partition.
        let places = [(t, "t", 0), (t, "t", 1), (t, "t", 2), (u, "u", 0), (u, "u", 1)];
        for (n, (topic, _, partition)) in places.iter().enumerate() {
            for _ in 0..10 * n {
                world.produce(*topic, Some(*partition), "earlier", Acks::All, 1_000);
            }
        }
        world.settle();
        world.cluster.seen.clear();
        let tags = places.map(|(topic, _, partition)| world.produce(topic, Some(partition), "it", Acks::All, 1_000));
        world.settle();
        assert_eq!(world.cluster.seen_produce().len(), 1, "one request for both topics");
        for (tag, (_, name, partition)) in tags.iter().zip(places) {
            let log = world.cluster.log(name, partition as usize);
            assert_eq!(log.iter().position(|value| value == "it"), Some(log.len() - 1), "{name}/{partition}");
            let stored = Stored { partition, offset: log.len() as i64 - 1, timestamp_ms: 1_000 };
            assert_eq!(world.stored(*tag), stored, "{name}/{partition}, backwards {backwards}");
        }
    }
}

#[test]
fn five_requests_are_out_per_connection_and_the_sixth_waits() {
    let (mut world, topic) = World::warm(1, 8);
    for partition in 0..8 {
        world.cluster.fault(ApiKey::Produce, Fault::Hold);
        world.produce(topic, Some(partition), "x", Acks::All, 1_000);
        world.settle();
    }
    assert_eq!(world.cluster.seen_produce().len(), 5);
    world.release();
    let sizes: Vec<usize> = world.cluster.seen_produce().iter().map(|seen| seen.batches.len()).collect();
    assert_eq!(sizes, [1, 1, 1, 1, 1, 3], "what waited leaves together");
    world.release();
    assert_eq!(world.outcomes.len(), 8);
}

#[test]
fn consecutive_records_of_one_request_come_back_as_one_outcome() {
    let (mut world, topic) = World::warm(1, 1);
    let deadline = world.now + Duration::from_secs(1);
    for index in 0..1_000 {
        let record = RecordRef { timestamp_ms: 5, key: None, value: Some(b"x"), headers: &[] };
        world.client.produce(topic, Some(0), &record, How::new(Acks::All, deadline), 7_777, index, world.now).unwrap();
    }
    world.settle();
    let told: Vec<_> = world.outcomes.iter().map(|o| (o.tag, o.record_first, o.count, o.result.is_ok())).collect();
    assert_eq!(told, [(7_777, 0, 1_000, true)]);
}

#[test]
fn records_without_a_key_stay_in_one_partition_until_their_batch_leaves_and_then_spread() {
    let (mut world, topic) = World::warm(1, 4);
    let mut used = std::collections::BTreeSet::new();
    for round in 0..40 {
        for n in 0..5 {
            world.produce(topic, None, &format!("{round}/{n}"), Acks::All, 1_000);
        }
        world.settle();
        let last = world.cluster.seen_produce().last().unwrap().batches.clone();
        assert_eq!((last.len(), last[0].values.len()), (1, 5), "one batch of five");
        used.insert(last[0].partition);
    }
    assert_eq!(used.len(), 4, "every partition gets its share: {used:?}");
}

#[test]
fn a_busy_partition_is_left_alone_by_records_without_a_key() {
    let (mut world, topic) = World::warm(2, 2);
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    world.produce(topic, Some(0), "slow", Acks::All, 1_000);
    world.settle();
    for n in 0..20 {
        let tag = world.produce(topic, None, &format!("v{n}"), Acks::All, 1_000);
        world.settle();
        assert_eq!(world.stored(tag).partition, 1);
    }
}

#[test]
fn keys_go_where_the_partitioner_of_the_topic_says() {
    let (mut world, topic) = World::warm(1, 10);
    for partitioner in [Partitioner::Murmur2, Partitioner::Fnv1a] {
        world.client.set_topic_options(topic, TopicOptions { partitioner, compression: Compression::Lz4 });
        for (tag, key) in ["", "a", "foobar", "21"].into_iter().enumerate() {
            let record = RecordRef {
                timestamp_ms: 1,
                key: Some(key.as_bytes()),
                value: None,
                headers: &[HeaderRef { name: b"h", value: None }],
            };
            let deadline = world.now + Duration::from_secs(1);
            world.outcomes.clear();
            world
                .client
                .produce(topic, None, &record, How::new(Acks::All, deadline), 900 + tag as u64, 0, world.now)
                .unwrap();
            world.settle();
            assert_eq!(world.stored(900 + tag as u64).partition as u32, partitioner.partition(key.as_bytes(), 10));
        }
    }
}

#[test]
fn acks_none_is_answered_when_written_and_waits_for_nobody() {
    let (mut world, topic) = World::warm(1, 1);
    let tags: Vec<u64> = (0..20)
        .map(|n| {
            let tag = world.produce(topic, None, &format!("v{n}"), Acks::None, 1_000);
            world.settle();
            tag
        })
        .collect();
    let told = Stored { partition: 0, offset: -1, timestamp_ms: 1_000 };
    assert!(tags.iter().all(|tag| world.stored(*tag) == told));
    let produces = world.cluster.seen_produce();
    assert_eq!(produces.len(), 20);
    assert!(produces.iter().all(|seen| seen.acks == 0 && seen.batches[0].producer_id == -1));
    assert_eq!(world.cluster.log("t", 0).len(), 21);
}

#[test]
fn each_kind_of_acknowledgement_has_its_connection_and_only_acks_all_a_producer_id() {
    let (mut world, topic) = World::warm(1, 1);
    let all = world.produce(topic, None, "all", Acks::All, 1_000);
    let leader = world.produce(topic, None, "leader", Acks::Leader, 1_000);
    let none = world.produce(topic, None, "none", Acks::None, 1_000);
    world.run_ms(10);
    assert!(world.stored(all).offset > 0 && world.stored(leader).offset > 0 && world.stored(none).offset == -1);
    let seen: Vec<(i16, bool)> =
        world.cluster.seen_produce().iter().map(|seen| (seen.acks, seen.batches[0].producer_id >= 0)).collect();
    for expected in [(-1, true), (1, false), (0, false)] {
        assert!(seen.contains(&expected), "{seen:?}");
    }
    let conn = |acks| world.cluster.seen_produce().iter().find(|seen| seen.acks == acks).unwrap().conn;
    assert_ne!(conn(-1), conn(1));
    assert_eq!(conn(0), conn(1));
}

#[test]
fn a_batch_grows_to_its_limit_and_no_further() {
    let limits = ClientConfig { batch_bytes_max: 1_000, record_bytes_max: 1_500, ..config() };
    let mut world = World::with(Cluster::new(1, 1), limits, 1);
    let topic = world.warm_up();
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    world.produce(topic, Some(0), "first", Acks::All, 9_000);
    world.settle();
    let value = "x".repeat(300);
    let tags: Vec<u64> = (0..7).map(|_| world.produce(topic, Some(0), &value, Acks::All, 9_000)).collect();
    world.release();
    world.run_ms(10);
    assert!(tags.iter().all(|tag| world.stored(*tag).offset > 0));
    let sizes: Vec<usize> = world.cluster.seen_produce().iter().map(|seen| seen.batches[0].values.len()).collect();
    assert_eq!(sizes, [1, 3, 3, 1]);
    let alone = world.produce(topic, Some(0), &"x".repeat(1_200), Acks::All, 1_000);
    world.run_ms(10);
    world.stored(alone);
    let refused = world.try_produce(topic, Some(0), &"x".repeat(1_450), Acks::All, 1_000).unwrap_err();
    assert!(matches!(refused, ProduceError::RecordTooLarge { limit_bytes: 1_500, .. }), "{refused:?}");
}

#[test]
fn a_large_shared_value_arrives_as_it_is() {
    let (mut world, topic) = World::warm(1, 1);
    let value = bytes::Bytes::from(vec![b'v'; 100_000]);
    let record = RecordRef { timestamp_ms: 1, key: Some(b"k"), value: None, headers: &[] };
    let deadline = world.now + Duration::from_secs(1);
    let client = &mut world.client;
    client
        .produce_shared(topic, Some(0), &record, value.clone(), How::new(Acks::All, deadline), 55, 0, world.now)
        .unwrap();
    world.settle();
    assert_eq!(world.stored(55).offset, 1);
    assert_eq!(world.cluster.topics["t"].partitions[0].log[1], value);
}

#[test]
fn the_queue_is_bounded_in_bytes() {
    let mut world = World::with(Cluster::new(1, 1), ClientConfig { queue_bytes_max: 10_000, ..config() }, 1);
    let topic = world.warm_up();
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    let value = "x".repeat(900);
    let mut accepted = 0;
    let refused = loop {
        match world.try_produce(topic, Some(0), &value, Acks::All, 1_000) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
        world.settle();
    };
    assert_eq!(refused, ProduceError::QueueFull);
    assert!((9..=11).contains(&accepted), "{accepted}");
    world.release();
    world.run_ms(10);
    assert_eq!(world.client.queued_bytes(), 0);
    world.try_produce(topic, Some(0), &value, Acks::All, 1_000).unwrap();
}

#[test]
fn partitions_added_at_run_time_are_used() {
    let (mut world, topic) = World::warm(1, 1);
    let refused = world.try_produce(topic, Some(3), "early", Acks::All, 1_000).unwrap_err();
    assert_eq!(refused, ProduceError::PartitionUnknown { partition: 3, partition_count: 1 });
    let four = Cluster::new(1, 4).topics["t"].partitions.clone();
    world.cluster.topics.get_mut("t").unwrap().partitions.extend(four[1..].iter().cloned());
    world.run_ms(50); // being asked for a partition it does not have made the client look
    let tag = world.produce(topic, Some(3), "there", Acks::All, 1_000);
    world.run_ms(50);
    assert_eq!(world.stored(tag).partition, 3);
    assert_eq!(world.client.partition_count(topic), Some(4));
}

#[test]
fn metadata_is_asked_again_when_it_is_old() {
    let (mut world, topic) = World::warm(1, 1);
    let two = Cluster::new(1, 2).topics["t"].partitions.clone();
    world.cluster.topics.get_mut("t").unwrap().partitions = two;
    world.run(Duration::from_secs(301));
    assert_eq!(world.client.partition_count(topic), Some(2));
}

#[test]
fn after_drain_nothing_new_is_taken_and_the_queue_empties() {
    let (mut world, topic) = World::warm(1, 1);
    let tag = world.produce(topic, None, "last", Acks::All, 1_000);
    world.client.drain(world.now);
    let refused = world.try_produce(topic, None, "late", Acks::All, 1_000).unwrap_err();
    assert!(matches!(refused, ProduceError::Unavailable { .. }), "{refused:?}");
    assert!(!world.client.is_idle());
    world.settle();
    assert!(world.stored(tag).offset > 0);
    assert!(world.client.is_idle());
}

#[test]
fn compression_of_much_is_spread_over_flushes_so_that_others_have_their_turn() {
    const PARTITIONS: i32 = 12;
    let (mut world, topic) = World::warm(1, PARTITIONS as usize);
    let options = TopicOptions { compression: Compression::Gzip, ..TopicOptions::default() };
    world.client.set_topic_options(topic, options);
    let mut dice = Dice(7);
    let value: Vec<u8> = (0..150_000).map(|_| dice.below(256) as u8).collect();
    let now = world.now;
    for partition in 0..PARTITIONS {
        let record = RecordRef { timestamp_ms: 1, key: None, value: Some(&value), headers: &[] };
        let deadline = now + Duration::from_secs(30);
        let accepted = world.client.produce(
            topic,
            Some(partition),
            &record,
            How::new(Acks::All, deadline),
            partition as u64,
            0,
            now,
        );
        accepted.expect("accepted");
    }
    let has_it = |world: &World, p| world.cluster.log("t", p).iter().any(|value| value.len() >= 150_000);
    let stored = |world: &World| (0..PARTITIONS as usize).filter(|p| has_it(world, *p)).count();
    world.client.flush(now);
    world.carry();
    assert_eq!(stored(&world), 4, "512 KiB are 4 of these, the last of them begun");
    assert_eq!(world.client.next_deadline(), Some(now), "the rest is due at once");
    world.settle();
    assert_eq!(stored(&world), PARTITIONS as usize);
    (0..PARTITIONS as u64).for_each(|tag| _ = world.stored(tag));
}

#[test]
fn records_that_are_not_compressed_do_not_wait_for_the_compression_of_others() {
    let (mut world, compressed) = World::warm(1, 4);
    let options = TopicOptions { compression: Compression::Gzip, ..TopicOptions::default() };
    world.client.set_topic_options(compressed, options);
    world.cluster.create("plain", 2);
    let plain = world.client.topic("plain");
    for partition in 0..2 {
        world.produce(plain, Some(partition), "known by now", Acks::All, 1_000);
    }
    world.run_ms(10);
    let before = world.produce(plain, Some(0), "before them", Acks::All, 1_000);
    let value = "x".repeat(150_000); // four of them take a flush's turn
    let tags = [0, 1, 2, 3].map(|partition| world.produce(compressed, Some(partition), &value, Acks::All, 1_000));
    let behind = world.produce(plain, Some(1), "behind them", Acks::All, 1_000);
    world.client.flush(world.now);
    world.carry();
    for tag in [before, behind].into_iter().chain(tags) {
        world.stored(tag);
    }
}
