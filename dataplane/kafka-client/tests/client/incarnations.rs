//! Topics that brokers tell wrongly about for a while, that grow, or that are deleted and made again under their name:
//! what was told stored stays true, and publishing goes on.

use std::time::Duration;

use kafka_client::{Acks, ProduceError, TopicState};
use kafka_wire::api_key::ApiKey;

use crate::broker::{Cluster, Fault, PartitionModel};
use crate::world::{World, config};

/// A broker that lags behind tells the partition count of earlier; the partitions themselves are untouched.
fn hide(world: &mut World, keep: usize) -> Vec<PartitionModel> {
    let hidden = world.cluster.topics.get_mut("t").unwrap().partitions.split_off(keep);
    world.client.refresh_metadata(world.now);
    world.run_ms(50);
    hidden
}

fn show(world: &mut World, hidden: Vec<PartitionModel>) {
    world.cluster.topics.get_mut("t").unwrap().partitions.extend(hidden);
    world.client.refresh_metadata(world.now);
    world.run_ms(50);
}

/// Metadata is asked for on one connection as long as it stands.
fn ask_the_next_broker(world: &mut World) {
    world.open_wires().into_iter().for_each(|conn| world.drop_wire(conn, "reset by peer"));
    world.client.refresh_metadata(world.now);
}

/// A cluster that tells no topic ids, as brokers before 2.8.
fn without_ids(nodes: i32, partitions: usize) -> World {
    let mut cluster = Cluster::new(nodes, partitions);
    cluster.topics.get_mut("t").unwrap().id = 0;
    World::with(cluster, config(), 1)
}

#[test]
fn a_partition_count_of_earlier_reuses_no_sequence() {
    // The queues of the partitions that were not told were dropped; made again they counted from 0 under the same
    // producer id, the broker took the next batch for a repeat of the first, and the publisher was told 201.
    for id in [1, 0] {
        let mut cluster = Cluster::new(1, 4);
        cluster.topics.get_mut("t").unwrap().id = id;
        let mut world = World::with(cluster, config(), 1);
        let topic = world.warm_up();
        let hidden = hide(&mut world, 2);
        assert_eq!(world.client.partition_count(topic), Some(4), "told once it is old news");
        show(&mut world, hidden);
        let tag = world.produce(topic, Some(3), "precious", Acks::All, 5_000);
        world.run_ms(1_000);
        assert_eq!(world.stored(tag).offset, 1, "topic id {id}");
        assert_eq!(world.cluster.log("t", 3), ["warm3", "precious"], "topic id {id}");
    }
}

#[test]
fn an_answer_settles_the_batch_that_was_sent_and_no_other() {
    let (mut world, topic) = World::warm(1, 4);
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    let a = world.produce(topic, Some(3), "a", Acks::Leader, 20_000);
    world.settle();
    let hidden = hide(&mut world, 2);
    show(&mut world, hidden);
    world.cluster.fault(ApiKey::Produce, Fault::Silence); // b never reaches the log
    let b = world.produce(topic, Some(3), "b", Acks::Leader, 20_000);
    world.settle();
    world.release();
    world.run_ms(100);
    world.stored(a);
    assert_eq!(world.outcome(b), None, "b was not answered");
    world.run_ms(21_000);
    assert!(world.error(b).outcome_unknown(), "{:?}", world.error(b));
    assert_eq!(world.cluster.log("t", 3), ["warm3", "a"]);
}

#[test]
fn records_that_wait_for_a_partition_which_one_broker_does_not_know_yet_are_stored() {
    let (mut world, topic) = World::warm(1, 4);
    world.kill(1);
    world.run_ms(10);
    let tag = world.produce(topic, Some(3), "waits", Acks::All, 30_000);
    world.run_ms(10);
    let hidden = world.cluster.topics.get_mut("t").unwrap().partitions.split_off(2);
    world.revive(1);
    world.client.refresh_metadata(world.now);
    world.run_ms(2_000);
    assert_eq!(world.outcome(tag), None, "not refused on old news");
    show(&mut world, hidden);
    world.run_ms(2_000);
    assert_eq!(world.stored(tag).offset, 1);
}

#[test]
fn a_topic_without_id_that_was_gone_and_is_made_again_is_written_to_at_once() {
    let mut world = without_ids(2, 1);
    let topic = world.warm_up();
    (0..4).for_each(|_| world.cluster.move_leader("t", 0, 2)); // epoch 5; the new one begins at 0
    world.client.refresh_metadata(world.now);
    world.run_ms(100);
    world.cluster.topics.remove("t").unwrap();
    for _ in 0..60 {
        let _ = world.try_produce(topic, Some(0), "gone", Acks::All, 500);
        world.run_ms(1_000);
    }
    assert_eq!(world.client.topic_state(topic), TopicState::Missing);
    world.cluster.create("t", 1);
    let again = world.cluster.topics.get_mut("t").unwrap();
    (again.id, again.partitions[0].leader_epoch) = (0, 0);
    let tag = world.produce(topic, Some(0), "v", Acks::All, 2_000);
    world.run_ms(2_000);
    assert_eq!(world.stored(tag).offset, 0);
}

#[test]
fn a_topic_without_id_made_again_unseen_is_written_to_after_some_seconds() {
    // Nobody said that it was gone, and everybody tells a leader with an older epoch than we know: that guard had no end.
    for epoch in [0, -1] {
        let mut world = without_ids(2, 2);
        let topic = world.warm_up();
        for partition in 0..2 {
            (0..4).for_each(|_| world.cluster.move_leader("t", partition, 2));
        }
        world.client.refresh_metadata(world.now);
        world.run_ms(100);
        let again = PartitionModel { leader: 1, leader_epoch: epoch, ..Default::default() };
        world.cluster.topics.get_mut("t").unwrap().partitions = vec![again];
        // The leader of before answers as one that lost the partition: under acks=all it may have appended.
        world.produce(topic, Some(0), "first", Acks::All, 9_000);
        world.run_ms(6_000);
        let second = world.produce(topic, Some(0), "second", Acks::All, 1_000);
        world.run_ms(1_000);
        world.stored(second);
        assert_eq!(world.cluster.log("t", 0).last().map(String::as_str), Some("second"), "epoch {epoch}");
        assert_eq!(world.client.partition_count(topic), Some(1), "epoch {epoch}");
        let gone = world.try_produce(topic, Some(1), "there is no such partition", Acks::All, 1_000);
        assert!(matches!(gone, Err(ProduceError::PartitionUnknown { partition_count: 1, .. })), "{gone:?}");
    }
}

#[test]
fn one_broker_with_old_news_is_not_believed_while_another_knows_better() {
    let mut world = without_ids(2, 1);
    let topic = world.warm_up();
    world.cluster.lag(2);
    (0..3).for_each(|_| world.cluster.move_leader("t", 0, 1));
    for n in 0..30 {
        ask_the_next_broker(&mut world);
        let tag = world.produce(topic, Some(0), &format!("v{n}"), Acks::All, 1_000);
        world.run_ms(1_000);
        assert_eq!(world.stored(tag).offset, n + 1);
    }
}

#[test]
fn a_broker_that_still_tells_the_deleted_topic_does_not_bring_it_back() {
    // Each change of mind would begin sequences anew, and have groups read the topic from its beginning again.
    let (mut world, topic) = World::warm(2, 1);
    let before = world.client.topic_id(topic);
    world.cluster.lag(2);
    world.cluster.create("t", 1);
    world.cluster.topics.get_mut("t").unwrap().id = 77;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ask_the_next_broker(&mut world);
        let _ = world.try_produce(topic, Some(0), "v", Acks::All, 900);
        world.run_ms(1_000);
        let id = world.client.topic_id(topic);
        if ids.last() != Some(&id) {
            ids.push(id);
        }
    }
    ids.retain(|id| *id != before);
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[test]
fn older_news_under_the_same_id_is_believed_after_fifteen_seconds_and_sequences_go_on() {
    let (mut world, topic) = World::warm(2, 2);
    (0..4).for_each(|_| world.cluster.move_leader("t", 0, 1));
    world.client.refresh_metadata(world.now);
    world.run_ms(100);
    let older = |world: &mut World, partitions: usize, leader| {
        let topic = world.cluster.topics.get_mut("t").unwrap();
        topic.partitions.truncate(partitions);
        (topic.partitions[0].leader, topic.partitions[0].leader_epoch) = (leader, 2);
        world.client.refresh_metadata(world.now);
        world.run_ms(100);
    };
    let newer = |world: &mut World| {
        world.cluster.topics.get_mut("t").unwrap().partitions[0].leader_epoch = 5;
        world.cluster.topics.get_mut("t").unwrap().partitions[0].leader = 1;
        world.run_ms(1_000);
    };
    // A moment of it, and better news after that: the time begins anew.
    older(&mut world, 2, 2);
    newer(&mut world);
    world.run_ms(20_000);
    older(&mut world, 1, 2);
    world.cluster.seen.clear();
    world.run_ms(14_000);
    assert_eq!((world.client.leader(topic, 0), world.client.partition_count(topic)), (Some(1), Some(2)));
    let asked = world.cluster.seen.iter().filter(|seen| seen.api == ApiKey::Metadata).count();
    assert!((60..=71).contains(&asked), "asked {asked} times in 14 s");
    world.run_ms(1_500);
    assert_eq!((world.client.leader(topic, 0), world.client.partition_count(topic)), (Some(2), Some(1)));
    world.cluster.seen.clear();
    world.run_ms(10_000);
    assert!(world.cluster.seen.is_empty(), "believed, and asked for no more");
    let tag = world.produce(topic, Some(0), "it", Acks::All, 1_000);
    world.run_ms(500);
    assert_eq!(world.stored(tag).offset, 1);
    let batch = &world.cluster.seen_produce()[0].batches[0];
    assert_eq!((batch.producer_id, batch.sequence), (101, 1), "the same topic");
}

#[test]
fn a_topic_that_was_gone_and_is_back_under_its_id_goes_on_where_it_was() {
    let (mut world, topic) = World::warm(1, 1);
    let gone = world.cluster.topics.remove("t").unwrap();
    world.client.refresh_metadata(world.now);
    world.run_ms(20_000);
    assert_eq!(world.client.topic_state(topic), TopicState::Missing);
    world.cluster.topics.insert("t".into(), gone);
    world.cluster.seen.clear();
    let tag = world.produce(topic, Some(0), "it", Acks::All, 1_000);
    world.run_ms(500);
    assert_eq!(world.stored(tag).offset, 1);
    let batch = &world.cluster.seen_produce()[0].batches[0];
    assert_eq!((batch.producer_id, batch.sequence), (101, 1));
}

#[test]
fn a_topic_made_again_with_fewer_partitions_tells_those_who_wait_for_the_others_that_nothing_was_stored() {
    let (mut world, topic) = World::warm(1, 4);
    world.cluster.fault(ApiKey::Produce, Fault::Hold);
    let in_flight = world.produce(topic, Some(3), "in flight", Acks::All, 20_000);
    world.settle();
    let queued = world.produce(topic, Some(3), "queued", Acks::All, 20_000);
    world.cluster.create("t", 2);
    world.cluster.topics.get_mut("t").unwrap().id = 77;
    world.client.refresh_metadata(world.now);
    world.run_ms(50);
    assert!(matches!(world.error(queued), ProduceError::Unavailable { .. }), "{:?}", world.error(queued));
    assert_eq!(world.outcome(in_flight), None, "its answer is still to come");
    world.release();
    world.stored(in_flight); // in the topic that was deleted
    assert_eq!(world.client.partition_count(topic), Some(2));
    world.cluster.create("t", 4);
    world.cluster.topics.get_mut("t").unwrap().id = 78;
    world.client.refresh_metadata(world.now);
    world.run_ms(50);
    let tag = world.produce(topic, Some(3), "again", Acks::All, 5_000);
    world.run_ms(500);
    assert_eq!(world.stored(tag).offset, 0);
    assert_eq!(world.cluster.log("t", 3), ["again"]);
}

#[test]
fn a_partition_that_a_topic_made_again_gets_later_begins_at_epoch_0() {
    let (mut world, topic) = World::warm(1, 4);
    world.cluster.create("t", 2);
    world.cluster.topics.get_mut("t").unwrap().id = 77;
    world.client.refresh_metadata(world.now);
    world.run_ms(50);
    let added = PartitionModel { leader: 1, leader_epoch: 0, ..Default::default() };
    world.cluster.topics.get_mut("t").unwrap().partitions.extend([added.clone(), added]);
    world.client.refresh_metadata(world.now);
    world.run_ms(50);
    let tag = world.produce(topic, Some(3), "it", Acks::All, 5_000);
    world.run_ms(50);
    assert_eq!(world.stored(tag).offset, 0);
}

#[test]
fn a_topic_that_slept_after_its_producer_id_was_burnt_does_not_take_that_id_again() {
    let mut world = World::with(Cluster::new(1, 1), config(), 1);
    let topic = world.warm_up();
    world.cluster.fault(ApiKey::Produce, Fault::ApplyThenSilence);
    let unknown = world.produce(topic, Some(0), "unknown", Acks::All, 100);
    world.run(Duration::from_secs(31)); // the connection ends, the id is burnt, nothing else is published
    assert!(world.error(unknown).outcome_unknown());
    for _ in 0..30 {
        world.run(Duration::from_secs(5 * 60));
    }
    let tag = world.produce(topic, Some(0), "later", Acks::All, 5_000);
    world.run_ms(1_000);
    world.stored(tag);
    assert_eq!(world.cluster.log("t", 0), ["warm0", "unknown", "later"]);
}

#[test]
fn a_record_larger_than_a_batch_goes_alone_as_far_as_its_topic_takes_it() {
    let (mut world, topic) = World::warm(1, 1);
    for (bytes, topic_limit, stored) in [
        (1_048_000, None, true),
        (1_100_000, None, true),
        (5_000_000, None, true),
        (5_000_000, Some(1_048_588), false),
        (17 * 1_048_576, None, false),
    ] {
        world.cluster.topics.get_mut("t").unwrap().batch_bytes_max = topic_limit;
        let small = world.produce(topic, Some(0), "before", Acks::All, 5_000);
        let large = world.try_produce(topic, Some(0), &"x".repeat(bytes), Acks::All, 5_000);
        let after = world.produce(topic, Some(0), "after", Acks::All, 5_000);
        world.run_ms(1_000);
        let told = large.and_then(|tag| world.outcome(tag).unwrap().clone());
        match told {
            Ok(_) => assert!(stored, "{bytes} bytes, limit {topic_limit:?}"),
            Err(ProduceError::RecordTooLarge { .. }) => assert!(!stored, "{bytes} bytes, limit {topic_limit:?}"),
            other => panic!("{bytes} bytes: {other:?}"),
        }
        world.stored(small);
        world.stored(after);
    }
}
