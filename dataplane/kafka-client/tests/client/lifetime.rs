//! What changes while a client lives: brokers that were restarted and know nothing yet, topics that go, come back or are
//! left alone, partitions that are added, permissions that are granted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_client::{Acks, ClientConfig, ProduceError, TopicState};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;

use crate::broker::{Cluster, Fault};
use crate::world::{World, config};

fn two_bootstraps() -> ClientConfig {
    ClientConfig { bootstrap: vec!["b1:9092".into(), "b2:9092".into()], ..config() }
}

// ---- brokers

#[test]
fn a_known_topic_that_restarted_brokers_deny_is_waited_for() {
    // All nodes of a Kafka 3.9 with ZooKeeper were restarted; until the controller had told them, each denied every
    // topic for seconds. Publishers were told that their topic does not exist, and gave up.
    let (mut world, topic) = World::warm(2, 2);
    world.cluster.amnesiacs.extend([1, 2]);
    world.client.refresh_metadata(world.now);
    let short: Vec<u64> =
        (0..2).map(|n| world.produce(topic, Some(n), &format!("short{n}"), Acks::All, 1_000)).collect();
    let long: Vec<u64> =
        (0..2).map(|n| world.produce(topic, Some(n), &format!("long{n}"), Acks::All, 10_000)).collect();
    world.run_ms(3_000);
    for tag in short {
        assert!(matches!(world.error(tag), ProduceError::Unavailable { .. }), "nothing was stored");
    }
    assert_eq!(world.client.topic_state(topic), TopicState::Known);
    world.cluster.amnesiacs.clear();
    world.run_ms(2_000);
    assert_eq!(long.iter().map(|tag| world.stored(*tag).offset).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn one_broker_that_denies_a_known_topic_does_not_overrule_the_others() {
    let (mut world, topic) = World::warm(3, 3);
    world.cluster.amnesiacs.insert(1);
    world.client.refresh_metadata(world.now);
    for n in 0..300 {
        let tag = world.produce(topic, Some(1 + n % 2), &format!("v{n}"), Acks::All, 1_000);
        world.run_ms(100);
        world.stored(tag);
    }
    assert_eq!(world.client.topic_state(topic), TopicState::Known, "after 30 s");
    let asked = |node: i32| world.cluster.seen.iter().filter(|s| s.api == ApiKey::Metadata && s.node == node).count();
    assert!(asked(1) >= 1, "it was asked");
    assert!(asked(2) + asked(3) >= 1 && asked(1) <= 3, "and then another: {} {} {}", asked(1), asked(2), asked(3));
}

#[test]
fn the_only_broker_is_asked_again_though_it_once_denied_a_known_topic() {
    // It was passed over for as long as another might know better, and there was no other: once its connection had
    // ended, metadata was never asked for again.
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.amnesiacs.insert(1);
    world.client.refresh_metadata(world.now);
    world.run_ms(100);
    world.cluster.amnesiacs.clear();
    world.open_wires().into_iter().for_each(|conn| world.drop_wire(conn, "reset by peer"));
    world.cluster.create("t", 3);
    world.cluster.topics.get_mut("t").unwrap().id = 1;
    world.client.refresh_metadata(world.now);
    world.run_ms(2_000);
    assert_eq!(world.client.partition_count(topic), Some(3));
}

#[test]
fn a_topic_that_nobody_knows_any_more_is_gone_after_a_while() {
    let (mut world, topic) = World::warm(2, 1);
    let gone = world.cluster.topics.remove("t").unwrap();
    world.client.refresh_metadata(world.now);
    for _ in 0..14 {
        let tag = world.produce(topic, Some(0), "it", Acks::All, 500);
        world.run_ms(1_000);
        assert!(matches!(world.error(tag), ProduceError::Unavailable { .. }), "{:?}", world.error(tag));
    }
    let waiting = world.produce(topic, Some(0), "waiting", Acks::All, 30_000);
    world.run_ms(2_000);
    assert_eq!(world.error(waiting), ProduceError::TopicUnknown);
    assert_eq!(world.client.topic_state(topic), TopicState::Missing);
    assert!(world.client.topic_denied_at(topic).is_some_and(|at| at + Duration::from_secs(1) > world.now));
    world.cluster.topics.insert("t".into(), gone);
    world.run_ms(500);
    let back = world.produce(topic, Some(0), "back", Acks::All, 1_000);
    world.run_ms(500);
    assert_eq!(world.stored(back).offset, 1);
}

#[test]
fn a_frozen_bootstrap_address_delays_the_first_publish_by_a_second_and_not_by_its_timeout() {
    for seed in 0..6 {
        let mut cluster = Cluster::new(3, 1);
        cluster.move_leader("t", 0, 3);
        cluster.frozen.insert(1);
        let mut world = World::with(cluster, two_bootstraps(), seed);
        let topic = world.client.topic("t");
        let tag = world.produce(topic, None, "it", Acks::All, 20_000);
        world.run_ms(2_500);
        assert_eq!(world.stored(tag).offset, 0, "seed {seed}");
        assert!(world.client.health(world.now).reachable);
        world.run(Duration::from_secs(120));
        assert!(world.connects.len() < 30, "{} connects", world.connects.len());
    }
}

#[test]
fn a_frozen_broker_does_not_hold_up_what_others_can_answer() {
    let (mut world, topic) = World::warm(3, 3);
    for node in 1..=3 {
        world.kill(node);
        world.revive(node);
    }
    world.cluster.frozen.insert(1);
    world.cluster.move_leader("t", 0, 2);
    let tag = world.produce(topic, Some(0), "it", Acks::All, 20_000);
    world.run_ms(4_000);
    assert_eq!(world.stored(tag).offset, 1);
}

#[test]
fn a_connection_stays_while_it_is_used_and_goes_after_nine_minutes() {
    for (pause_s, stays) in [(60, true), (539, true), (541, false)] {
        let (mut world, topic) = World::warm(1, 1);
        for _ in 0..5 {
            let tag = world.produce(topic, Some(0), "it", Acks::All, 1_000);
            world.run(Duration::from_secs(pause_s));
            world.stored(tag);
        }
        let mut conns: Vec<u32> = world.cluster.seen_produce().iter().map(|seen| seen.conn).collect();
        conns.dedup();
        assert_eq!(conns.len(), if stays { 1 } else { 5 }, "every {pause_s} s");
    }
}

#[test]
fn a_broker_that_moved_to_another_port_is_found_there_and_the_others_keep_their_connections() {
    let (mut world, topic) = World::warm(2, 2);
    let produce = |world: &mut World| {
        world.cluster.seen.clear();
        for partition in 0..2 {
            let tag = world.produce(topic, Some(partition), "it", Acks::All, 1_000);
            world.run_ms(100);
            world.stored(tag);
        }
        let conns: Vec<u32> = world.cluster.seen_produce().iter().map(|seen| seen.conn).collect();
        conns
    };
    let before = produce(&mut world);
    world.cluster.ports.insert(2, 9999);
    world.client.refresh_metadata(world.now);
    world.run_ms(100);
    let after = produce(&mut world);
    assert_eq!(before[0], after[0], "node 1 is where it was");
    assert_ne!(before[1], after[1], "node 2 is not");
    assert!(world.connects.iter().any(|connect| (connect.host.as_str(), connect.port) == ("b2", 9999)));
    assert!(world.closes.iter().all(|why| why.contains("not used")), "{:?}", world.closes);
    assert!(world.open_wires().iter().all(|conn| conn.0 != before[1]), "the old connection is closed");
}

#[test]
fn one_bootstrap_address_after_the_other_is_tried_a_second_each() {
    let mut cluster = Cluster::new(3, 1);
    cluster.frozen.extend([1, 2, 3]);
    let bootstrap = (1..=3).map(|node| format!("b{node}:9092")).collect();
    let mut world = World::with(cluster, ClientConfig { bootstrap, ..config() }, 1);
    let topic = world.client.topic("t");
    world.settle();
    for (ms, connects) in [(0, 1), (999, 1), (1, 2), (999, 2), (1, 3), (5_000, 3)] {
        world.run_ms(ms);
        world.produce(topic, Some(0), "makes the client look", Acks::All, 60_000);
        world.settle();
        assert_eq!(world.connects.len(), connects, "{:?} after the start", world.now - world.start);
    }
}

#[test]
fn a_question_without_an_answer_is_given_up_in_its_time_and_not_before() {
    const WITHIN_MS: u64 = 5_000;
    for api in [ApiKey::Metadata, ApiKey::InitProducerId] {
        let mut cluster = Cluster::new(1, 1);
        cluster.fault(api, Fault::Silence);
        let mut world = World::with(cluster, config(), 1);
        let topic = world.client.topic("t");
        let tag = world.produce(topic, Some(0), "it", Acks::All, 60_000);
        let lost = |world: &World| world.closes.iter().filter(|why| why.contains("did not answer")).count();
        world.run_ms(WITHIN_MS - 1);
        assert_eq!((lost(&world), world.outcome(tag)), (0, None), "{api}");
        world.run_ms(1);
        assert_eq!(lost(&world), 1, "{api}");
        world.run_ms(2_000);
        world.stored(tag);
    }
}

// ---- what is asked about topics

/// Requests of an API since `seen` was cleared.
fn asked(world: &World, api: ApiKey) -> usize {
    world.cluster.seen.iter().filter(|seen| seen.api == api).count()
}

#[test]
fn metadata_that_is_no_news_is_asked_for_once_and_changes_nothing() {
    // (id, epochs) as told before and after; brokers are upgraded and begin to tell them, or a broker does not.
    for (before, after) in [
        ((0, -1), (0, -1)),
        ((0, 4), (0, 4)),
        ((7, -1), (7, -1)),
        ((7, 4), (7, 4)),
        ((0, -1), (7, 4)),
        ((7, 4), (0, -1)),
        ((7, 4), (7, 5)),
    ] {
        let tell = |cluster: &mut Cluster, (id, epoch)| {
            let topic = cluster.topics.get_mut("t").unwrap();
            topic.id = id;
            topic.partitions.iter_mut().for_each(|partition| partition.leader_epoch = epoch);
        };
        let mut cluster = Cluster::new(2, 4);
        tell(&mut cluster, before);
        let mut world = World::with(cluster, config(), 1);
        let topic = world.warm_up();
        let known = world.client.topic_id(topic);
        for told in [after, before, after] {
            tell(&mut world.cluster, if told.1 < before.1 { (told.0, -1) } else { told });
            world.cluster.seen.clear();
            world.client.refresh_metadata(world.now);
            world.run_ms(20_000);
            assert_eq!(asked(&world, ApiKey::Metadata), 1, "{before:?} to {after:?}");
            assert_eq!(asked(&world, ApiKey::InitProducerId), 0, "{before:?} to {after:?}");
            if after.1 > before.1 {
                break; // telling the earlier epoch again would be older
            }
        }
        if known.is_some() {
            assert_eq!(world.client.topic_id(topic), known, "{before:?} to {after:?}");
        }
        let tag = world.produce(topic, Some(3), "goes on", Acks::All, 1_000);
        world.run_ms(100);
        assert_eq!(world.stored(tag).offset, 1);
        let batch = &world.cluster.seen_produce()[0].batches[0];
        assert_eq!((batch.sequence, batch.producer_id), (1, 101), "{before:?} to {after:?}");
    }
}

#[test]
fn topics_beyond_a_thousand_are_asked_for_in_further_requests_without_delay() {
    let mut world = World::new(1, 1);
    let names: Vec<String> = (0..4_500).map(|n| format!("n{n}")).collect();
    for name in &names {
        world.cluster.create(name, 1);
        world.client.topic(name);
    }
    world.run_ms(100); // five requests, 20 ms apart
    let sizes: Vec<usize> = world.cluster.seen.iter().map(|seen| seen.topics.len()).filter(|size| *size > 0).collect();
    assert_eq!(sizes, [1_000, 1_000, 1_000, 1_000, 500]);
    for name in names {
        let topic = world.client.topic(&name);
        assert_eq!(world.client.topic_state(topic), TopicState::Known, "{name}");
    }
}

#[test]
fn a_partition_without_a_leader_is_asked_about_less_and_less_often_while_somebody_waits() {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.topics.get_mut("t").unwrap().partitions[0].leader = -1;
    world.client.refresh_metadata(world.now);
    world.run_ms(100);
    world.cluster.seen.clear();
    world.produce(topic, Some(0), "it", Acks::All, 10_000);
    world.run_ms(10_000);
    let count = asked(&world, ApiKey::Metadata);
    assert!((10..=20).contains(&count), "{count} times in ten seconds");
    world.run_ms(1_000);
    world.cluster.seen.clear();
    world.run_ms(10_000);
    assert_eq!(asked(&world, ApiKey::Metadata), 0, "nobody waits any more");
}

#[test]
fn a_topic_that_is_told_without_partitions_is_asked_for_again_until_it_has_some() {
    let mut world = World::new(1, 1);
    world.cluster.create("new", 0);
    let topic = world.client.topic("new");
    let tag = world.produce(topic, Some(0), "it", Acks::All, 20_000);
    world.run_ms(5_000);
    let count = asked(&world, ApiKey::Metadata);
    assert!((24..=27).contains(&count), "{count} times in five seconds");
    world.cluster.create("new", 1);
    world.run_ms(300);
    assert_eq!(world.stored(tag).offset, 0);
}

#[test]
fn a_name_that_no_topic_can_have_is_refused_at_once() {
    let mut world = World::new(1, 1);
    world.cluster.fault(ApiKey::Metadata, Fault::Error(ErrorCode::INVALID_TOPIC_EXCEPTION));
    let topic = world.client.topic("no/name");
    let tag = world.produce(topic, None, "it", Acks::All, 5_000);
    world.run_ms(10);
    assert_eq!(world.error(tag), ProduceError::TopicUnknown);
}

#[test]
fn what_a_broker_says_that_is_only_starting_is_not_believed() {
    for (brokers, code) in [(false, ErrorCode::NONE), (true, ErrorCode(129))] {
        let (mut world, topic) = World::warm(1, 1);
        world.cluster.starting = Some((brokers, code));
        world.cluster.amnesiacs.insert(1);
        world.client.refresh_metadata(world.now);
        world.run(Duration::from_secs(20));
        assert_eq!(world.client.topic_state(topic), TopicState::Known);
        assert_eq!(world.client.topic_denied_at(topic), None);
        assert!(asked(&world, ApiKey::Metadata) < 30, "asked for less and less often");
        world.cluster.starting = None;
        world.cluster.amnesiacs.clear();
        world.cluster.move_leader("t", 0, 1);
        let tag = world.produce(topic, Some(0), "it", Acks::All, 1_000);
        world.run_ms(1_000);
        world.stored(tag);
    }
}

// ---- topics

#[test]
fn a_topic_nobody_uses_sleeps_and_wakes_at_its_next_use() {
    let (mut world, topic) = World::warm(1, 1);
    world.cluster.create("rare", 2);
    let rare = world.client.topic("rare");
    let first = world.produce(rare, Some(0), "first", Acks::All, 1_000);
    world.run_ms(100);
    assert_eq!(world.stored(first).offset, 0);
    let id = world.cluster.seen_produce()[0].batches[0].producer_id;
    for n in 0..10 {
        world.run(Duration::from_secs(10 * 60));
        world.produce(topic, Some(0), &format!("often{n}"), Acks::All, 1_000);
    }
    world.cluster.seen.clear();
    world.run(Duration::from_secs(10 * 60));
    let asked: Vec<&String> = world.cluster.seen.iter().flat_map(|seen| &seen.topics).collect();
    assert!(asked.iter().any(|name| *name == "t") && asked.iter().all(|name| *name != "rare"), "{asked:?}");
    assert_eq!(world.client.topic_state(rare), TopicState::Pending);
    world.run(Duration::from_secs(10 * 60));
    let asked: Vec<&String> = world.cluster.seen.iter().flat_map(|seen| &seen.topics).collect();
    assert!(asked.iter().all(|name| *name != "rare"), "to look at it does not wake it: {asked:?}");
    // The same index, and the same name; a record that looks to the broker like the first one would be dropped.
    world.cluster.seen.clear();
    let second = world.produce(rare, Some(0), "second", Acks::All, 1_000);
    world.run_ms(100);
    assert_eq!(world.stored(second).offset, 1);
    let batch = &world.cluster.seen_produce()[0].batches[0];
    assert!(batch.producer_id != id && batch.sequence == 0, "{batch:?}");
    assert_eq!(world.client.topic("rare"), rare);
    assert_eq!(world.client.partition_count(rare), Some(2));
    assert_eq!(world.cluster.log("rare", 0), ["first", "second"]);
    let often = world.produce(topic, Some(0), "often", Acks::All, 1_000);
    world.run_ms(100);
    assert_eq!(world.stored(often).offset, 11, "others go on under their producer id");
}

#[test]
fn an_answer_that_comes_after_its_topic_was_put_to_sleep_wakes_it() {
    let (mut world, topic) = World::warm(1, 2);
    world.cluster.create("rare", 1);
    let rare = world.client.topic("rare");
    world.client.refresh_metadata(world.now);
    world.run_ms(1_000);
    world.run(Duration::from_secs(3_597));
    world.cluster.fault(ApiKey::Metadata, Fault::Hold);
    world.client.refresh_metadata(world.now);
    world.run_ms(3_000);
    world.client.refresh_metadata(world.now); // more than an hour since it was used
    world.settle();
    world.release();
    for n in 0..12 {
        let tags = [rare, topic].map(|topic| world.produce(topic, Some(0), &format!("v{n}"), Acks::All, 1_000));
        world.run_ms(100);
        tags.iter().for_each(|tag| assert!(world.stored(*tag).offset >= 0));
        world.cluster.seen.clear();
        world.run(Duration::from_secs(10 * 60));
        let asked: Vec<&String> = world.cluster.seen.iter().flat_map(|seen| &seen.topics).collect();
        assert!(asked.iter().any(|name| *name == "rare"), "it is used, so it is asked for: {asked:?}");
    }
}

#[test]
fn a_topic_that_is_looked_at_or_has_records_under_way_stays_awake() {
    let (mut world, topic) = World::warm(1, 2);
    for _ in 0..30 {
        world.run(Duration::from_secs(10 * 60));
        assert_eq!(world.client.partition_count(topic), Some(2));
    }
    world.cluster.topics.get_mut("t").unwrap().partitions[0].leader = 9;
    let waiting = world.produce(topic, Some(0), "it", Acks::All, 3 * 3_600_000);
    world.run(Duration::from_secs(2 * 3_600));
    world.cluster.move_leader("t", 0, 1);
    world.run_ms(5_000);
    assert_eq!(world.stored(waiting).offset, 1);
}

#[test]
fn names_beyond_the_limit_are_refused_as_unavailable_and_the_others_go_on() {
    let (mut world, topic) = World::warm(1, 1);
    let mut last = topic;
    for n in 0..kafka_client::limits::TOPICS_MAX {
        last = world.client.topic(&format!("n{n}"));
    }
    let refused = world.try_produce(last, None, "it", Acks::All, 1_000).unwrap_err();
    assert!(matches!(refused, ProduceError::Unavailable { .. }), "{refused:?}");
    let tag = world.produce(topic, None, "it", Acks::All, 1_000);
    world.run_ms(100);
    world.stored(tag);
}

#[test]
fn a_name_beyond_the_limit_gets_the_place_of_a_topic_that_sleeps_and_old_indexes_mean_nobody() {
    let (mut world, old) = World::warm(1, 1);
    let first = world.produce(old, Some(0), "first", Acks::All, 1_000);
    world.run_ms(100);
    let producer =
        |world: &World| world.cluster.seen.iter().rev().find_map(|seen| Some(seen.batches.first()?.producer_id));
    world.stored(first);
    let id = producer(&world);
    assert!(world.client.is_current(old) && !world.client.is_asleep(old));
    // Everybody sleeps, and then all other places are taken.
    world.run(Duration::from_secs(2 * 3_600));
    assert!(world.client.is_asleep(old));
    for n in 0..kafka_client::limits::TOPICS_MAX - 2 {
        world.client.topic(&format!("n{n}"));
    }
    assert_eq!(world.client.topic_name(old), "t", "there was a place for each");
    world.cluster.create("new", 1);
    let new = world.client.topic("new");
    assert_eq!((world.client.topic_name(old), world.client.topic_name(new)), ("", "new"));
    assert!(!world.client.is_current(old) && world.client.is_current(new));
    let refused = world.try_produce(old, None, "lost?", Acks::All, 1_000).unwrap_err();
    assert!(matches!(refused, ProduceError::Unavailable { .. }), "{refused:?}");
    // The others are awake: the next name finds no place.
    assert_eq!(world.client.topic("one too many"), world.client.topic("another"));
    let tag = world.produce(new, Some(0), "it", Acks::All, 5_000);
    world.run_ms(5_000);
    assert_eq!(world.stored(tag).offset, 0);
    assert_ne!(producer(&world), id, "nobody counts sequences anew under an id that was used");
}

#[test]
fn a_topic_recreated_under_a_batch_in_flight_starts_anew_behind_it() {
    for apply in [true, false] {
        let (mut world, topic) = World::warm(1, 2);
        world.cluster.fault(ApiKey::Produce, if apply { Fault::Hold } else { Fault::Silence });
        let flying = world.produce(topic, Some(0), "flying", Acks::All, 40_000);
        world.settle();
        let id = world.cluster.seen.iter().rev().find_map(|seen| Some(seen.batches.first()?.producer_id));
        let next = world.produce(topic, Some(0), "next", Acks::All, 40_000);
        world.cluster.topics.remove("t");
        world.cluster.create("other", 1);
        world.cluster.create("t", 2);
        world.client.refresh_metadata(world.now);
        world.run_ms(100);
        assert_eq!(world.client.partition_count(topic), Some(2));
        world.release();
        world.run_ms(35_000);
        match apply {
            true => assert_eq!(world.stored(flying).offset, 1, "told before it went with the old topic"),
            false => {
                assert!(world.error(flying).outcome_unknown(), "never sent to the new topic under an old sequence")
            }
        }
        assert_eq!(world.stored(next).offset, 0, "the new topic begins at 0");
        let batch = world.cluster.seen_produce().last().unwrap().batches[0].clone();
        assert!(Some(batch.producer_id) != id && batch.sequence == 0, "{batch:?}");
        assert_eq!(world.cluster.log("t", 0), ["next"]);
        let more = world.produce(topic, Some(0), "more", Acks::All, 1_000);
        world.run_ms(100);
        assert_eq!(world.stored(more).offset, 1);
    }
}

#[test]
fn added_partitions_are_found_within_the_age_of_metadata_and_take_records_without_a_key() {
    let (mut world, topic) = World::warm(2, 1);
    let four = Cluster::new(2, 4).topics["t"].partitions.clone();
    world.cluster.topics.get_mut("t").unwrap().partitions.extend(four[1..].iter().cloned());
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..400 {
        let tag = world.produce(topic, None, &format!("v{n}"), Acks::All, 1_000);
        world.run_ms(1_000);
        seen.insert(world.stored(tag).partition);
        assert!(n < 301 || world.client.partition_count(topic) == Some(4));
    }
    assert_eq!(seen.len(), 4, "no restart needed");
}

// ---- the idempotent producer

#[test]
fn the_parts_of_a_batch_that_was_too_large_carry_its_sequence_on() {
    for fault in [None, Some(Fault::ApplyThenDisconnect), Some(Fault::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER))] {
        let (mut world, topic) = World::warm(1, 1);
        world.cluster.topics.get_mut("t").unwrap().batch_bytes_max = Some(400);
        let tags: Vec<u64> =
            (0..16).map(|n| world.produce(topic, Some(0), &format!("{n:0>60}"), Acks::All, 9_000)).collect();
        world.settle(); // refused, split
        if let Some(fault) = fault.clone() {
            // In the middle of the parts of the next one.
            world.cluster.fault(ApiKey::Produce, fault);
        }
        let more: Vec<u64> =
            (16..20).map(|n| world.produce(topic, Some(0), &format!("{n:0>60}"), Acks::All, 9_000)).collect();
        world.run_ms(2_000);
        let offsets: Vec<i64> = tags.iter().chain(&more).map(|tag| world.stored(*tag).offset).collect();
        assert_eq!(offsets, (1..21).collect::<Vec<i64>>(), "{fault:?}");
        let seen = world.cluster.seen_produce();
        let batches: Vec<_> = seen.iter().map(|seen| &seen.batches[0]).collect();
        let id = batches[0].producer_id;
        let mut next = 1; // the warm one was 0
        for (index, batch) in batches.iter().enumerate() {
            assert_eq!((batch.producer_id, batch.sequence), (id, next), "{fault:?}: {batches:#?}");
            // Sent again, whole or its first half, under the same sequence: it was not taken, or not answered.
            let again = batches.get(index + 1).is_some_and(|after| after.sequence == batch.sequence);
            if !again {
                next += batch.values.len() as i32;
            }
        }
        assert_eq!(next, 21);
        assert!(batches.len() > 5, "it took several parts");
    }
}

/// Counts warnings that say what an operator must know.
struct Loud(Arc<AtomicUsize>);

impl tracing::Subscriber for Loud {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Says(bool);
        impl tracing::field::Visit for Says {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0 |= field.name() == "message" && format!("{value:?}").contains("WITHOUT");
            }
        }
        let mut says = Says(false);
        event.record(&mut says);
        self.0.fetch_add(usize::from(says.0), Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_refused_producer_id_is_loud_and_asked_for_again_and_used_once_granted() {
    let warnings = Arc::new(AtomicUsize::new(0));
    tracing::subscriber::with_default(Loud(warnings.clone()), || {
        let mut cluster = Cluster::new(1, 2);
        for _ in 0..3 {
            cluster.fault(ApiKey::InitProducerId, Fault::Error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
        }
        let mut world = World::with(cluster, config(), 3);
        assert!(world.client.is_idempotent());
        let topic = world.warm_up();
        assert!(!world.client.is_idempotent());
        assert_eq!(warnings.load(Ordering::Relaxed), 1);
        for n in 0..100 {
            // Every 10 s for 17 minutes.
            let tag = world.produce(topic, Some(n % 2), &format!("v{n}"), Acks::All, 1_000);
            world.run_ms(10_000);
            world.stored(tag);
        }
        assert!(world.client.is_idempotent());
        assert_eq!(warnings.load(Ordering::Relaxed), 3, "once per refusal");
        let ids: Vec<i64> = world.cluster.seen_produce().iter().map(|seen| seen.batches[0].producer_id).collect();
        assert!(ids[0] == -1 && *ids.last().unwrap() > 0 && ids.is_sorted(), "{ids:?}");
        world.cluster.fault(ApiKey::Produce, Fault::ApplyThenDisconnect);
        let tag = world.produce(topic, Some(0), "once", Acks::All, 1_000);
        world.run_ms(500);
        world.stored(tag);
        assert_eq!(world.cluster.log("t", 0).iter().filter(|value| *value == "once").count(), 1);
    });
}

#[test]
fn a_producer_id_that_is_refused_with_the_batches_is_loud_once() {
    for partitions in [1, 3] {
        let warnings = Arc::new(AtomicUsize::new(0));
        tracing::subscriber::with_default(Loud(warnings.clone()), || {
            let (mut world, topic) = World::warm(1, partitions);
            world.cluster.refuses_producer_ids = true;
            let mut tags = Vec::new();
            for partition in 0..partitions as i32 {
                tags.push(world.produce(topic, Some(partition), "it", Acks::All, 1_000));
                world.client.flush(world.now); // a request each
            }
            world.run_ms(1_000);
            tags.iter().for_each(|tag| assert_eq!(world.stored(*tag).offset, 1));
        });
        assert_eq!(warnings.load(Ordering::Relaxed), 1, "{partitions} partitions");
    }
}

// ---- answers that stop half way

#[test]
fn half_a_frame_and_then_nothing_is_no_answer() {
    let half = || Fault::Garbage(vec![0, 0, 0, 100, 0, 0, 0, 3, 1]);
    for (timeout_ms, stored) in [(3_000, false), (60_000, true)] {
        let (mut world, topic) = World::warm(1, 1);
        world.cluster.fault(ApiKey::Produce, half());
        let tag = world.produce(topic, Some(0), "it", Acks::All, timeout_ms);
        world.run(Duration::from_secs(65));
        match stored {
            true => assert_eq!(world.stored(tag).offset, 1, "on a new connection, after the request timeout"),
            false => assert!(world.error(tag).outcome_unknown()),
        }
        let after = world.produce(topic, Some(0), "after", Acks::All, 1_000);
        world.run_ms(500);
        world.stored(after);
    }
}
