//! A group member by its public methods, on the client it is made for, driven as a gateway drives it: at its deadline and
//! when a reply has come. What it does in trouble is tested beside `group/`, against a script and in a simulation.

use std::collections::BTreeMap;

use kafka_client::group::{FetchedRecord, GroupConfig, GroupMember, MemberState, Reset};
use kafka_client::{RequestToken, TopicState};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;

use crate::broker::{Fault, Seen};
use crate::world::World;

struct Scene {
    world: World,
    member: GroupMember,
    read: Vec<String>,
}

impl Scene {
    /// The coordinator is broker 2 of two, and each leads one of the topic's two partitions.
    fn new() -> Scene {
        let (mut world, _) = World::warm(2, 2);
        world.cluster.long_polls = true;
        world.cluster.stores_batches = true;
        world.cluster.coordinators.insert("g".into(), 2);
        let topic = world.cluster.topics.get_mut("t").unwrap();
        topic.partitions.iter_mut().for_each(|partition| partition.log.clear());
        let config = GroupConfig { reset: Reset::Oldest, ..GroupConfig::new("g", "t") };
        let member = GroupMember::new(config, 1, world.now);
        Scene { world, member, read: Vec::new() }
    }

    fn stable() -> Scene {
        let mut scene = Scene::new();
        scene.run_ms(100);
        assert_eq!((scene.member.state(), scene.member.assignment()), (MemberState::Stable, &[0, 1][..]));
        scene
    }

    fn run_ms(&mut self, ms: u64) {
        for _ in 0..ms / 5 {
            self.world.run_ms(5);
            let (world, member) = (&mut self.world, &mut self.member);
            for (token, reply) in std::mem::take(&mut world.replies) {
                assert!(member.owns(token) && member.on_reply(token, reply, &mut world.client, world.now));
            }
            if member.next_deadline().is_some_and(|at| at <= world.now) {
                member.tick(&mut world.client, world.now);
            }
            for FetchedRecord { partition, record, .. } in member.poll_records(100, 1_000_000) {
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                self.read.push(format!("{partition}@{} {value}", record.offset));
            }
            member.tick(&mut world.client, world.now);
        }
        self.world.settle();
    }

    fn write(&mut self, partition: usize, value: &str) {
        self.world.cluster.topics.get_mut("t").unwrap().partitions[partition].log.push(value.into());
    }

    fn seen(&self, api: ApiKey) -> Vec<&Seen> {
        self.world.cluster.seen.iter().filter(|seen| seen.api == api).collect()
    }

    fn nodes(&self, api: ApiKey) -> Vec<i32> {
        self.seen(api).iter().map(|seen| seen.node).collect()
    }

    /// Partition and leader epoch of each fetch so far, the newest last.
    fn named(&self) -> Vec<(i32, i32)> {
        let topics = self.world.cluster.polls.iter().flat_map(|(_, fetch)| &fetch.topics);
        topics.flat_map(|topic| &topic.partitions).map(|asked| (asked.index, asked.current_leader_epoch)).collect()
    }
}

#[test]
fn a_member_reads_the_topic_from_its_leaders_commits_at_its_coordinator_and_leaves() {
    let mut scene = Scene::new();
    assert_eq!((scene.member.topic(), scene.member.state()), (None, MemberState::Joining));
    scene.run_ms(100);
    let topic = scene.member.topic().expect("it was ticked");
    assert_eq!((scene.world.client.topic_name(topic), scene.world.client.topic_state(topic)), ("t", TopicState::Known));

    scene.write(0, "a");
    scene.write(1, "b");
    scene.run_ms(20);
    scene.read.sort_unstable();
    assert_eq!(scene.read, ["0@0 a", "1@0 b"]);
    let id = scene.world.cluster.topics["t"].id.to_be_bytes();
    assert!(scene.world.cluster.polls.iter().all(|(_, fetch)| fetch.topics[0].id == id));

    scene.run_ms(2_000); // where it began is committed by now
    scene.world.cluster.seen.clear();
    scene.member.delivered(0, 1);
    scene.run_ms(900);
    assert_eq!(scene.nodes(ApiKey::OffsetCommit), [0; 0], "not before its interval");
    scene.member.commit(&mut scene.world.client, scene.world.now);
    scene.run_ms(20);
    assert_eq!(scene.nodes(ApiKey::OffsetCommit), [2], "or when it is asked to");
    assert_eq!(scene.world.cluster.committed, BTreeMap::from([(0, 1), (1, 0)]));
    assert!(scene.member.has_committed());

    scene.member.delivered(1, 1);
    scene.member.leave(&mut scene.world.client, scene.world.now);
    assert_eq!(scene.member.state(), MemberState::Leaving);
    scene.run_ms(20);
    assert_eq!((scene.nodes(ApiKey::LeaveGroup), scene.member.state()), (vec![2], MemberState::Left));
    assert_eq!(scene.world.cluster.committed, BTreeMap::from([(0, 1), (1, 1)]));
    assert!(scene.world.client.is_idle(), "its fetches are cancelled");
}

#[test]
fn a_reply_to_somebody_else_is_not_the_member_s() {
    let mut scene = Scene::stable();
    let nobody_s = RequestToken(1 << 30);
    assert!(!scene.member.owns(nobody_s));
    let reply = Err(kafka_client::RequestError::Timeout { sent: true });
    assert!(!scene.member.on_reply(nobody_s, reply, &mut scene.world.client, scene.world.now));
}

#[test]
fn a_coordinator_that_moved_is_looked_up_again() {
    let mut scene = Scene::stable();
    scene.world.cluster.coordinators.insert("g".into(), 1);
    scene.world.cluster.fault(ApiKey::Heartbeat, Fault::Error(ErrorCode::NOT_COORDINATOR));
    scene.run_ms(4_000);
    assert_eq!(scene.nodes(ApiKey::Heartbeat), [2, 1]);
    assert_eq!(scene.member.state(), MemberState::Stable);
}

#[test]
fn a_leader_that_moved_is_found_and_told_its_own_epoch() {
    let mut scene = Scene::stable();
    assert_eq!(scene.named(), [(0, 1), (1, 1)]);
    let fetching = |scene: &Scene| scene.seen(ApiKey::Fetch).iter().map(|seen| seen.node).collect::<Vec<_>>();
    assert_eq!(fetching(&scene), [1, 2]);
    scene.world.cluster.move_leader("t", 0, 2);
    scene.world.cluster.seen.clear();
    scene.run_ms(2_000);
    assert!(scene.named().contains(&(0, 2)), "{:?}", scene.named());
    scene.write(0, "a");
    scene.run_ms(20);
    assert_eq!(scene.read, ["0@0 a"]);
    assert_eq!(fetching(&scene).last(), Some(&2));
}
