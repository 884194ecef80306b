//! Fetches of many users on few connections, through the wire. What goes together is tested beside `fetches.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_client::limits::{FETCH_CONNECTIONS_MAX, FETCH_DOOR_WAIT, STABLE_CONNECTIONS_MAX};
use kafka_client::{Acks, ConnId, Lane, Request, RequestError, RequestToken, Response, Target};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{FetchPartition, FetchRequest, FetchTopic, NO_TOPIC_ID};

use crate::broker::Fault;
use crate::world::World;

const GROUPS: usize = 2_000;
const TIMEOUT: Duration = Duration::from_secs(5);

/// A world with `many` partitions for as many groups, each led by broker 1.
fn world(partitions: usize) -> World {
    let (mut world, _) = World::warm(1, 1);
    world.cluster.create("many", partitions);
    world.cluster.long_polls = true;
    world
}

fn id(world: &World) -> [u8; 16] {
    world.cluster.topics["many"].id.to_be_bytes()
}

fn fetch(id: [u8; 16], partition: usize, offset: i64) -> FetchRequest {
    let partitions = vec![FetchPartition::consumer(partition as i32, offset, 100_000)];
    let topics = vec![FetchTopic { name: "many".into(), id, partitions }];
    FetchRequest { max_wait_ms: 500, max_bytes: 1_000_000, topics, ..FetchRequest::default() }
}

fn ask(world: &mut World, partition: usize, offset: i64) -> RequestToken {
    let request = Request::Fetch(fetch(id(world), partition, offset));
    world.client.request(Target::Broker(1), Lane::Fetch, request, TIMEOUT, world.now)
}

fn write(world: &mut World, partition: usize, value: &str) {
    world.cluster.topics.get_mut("many").unwrap().partitions[partition].log.push(value.into());
}

/// The records in a reply, all partitions together; None while there is none.
fn records(world: &World, token: RequestToken) -> Option<String> {
    match world.replies.iter().find(|(replied, _)| *replied == token) {
        None => None,
        Some((_, Ok(Response::Fetch(response)))) => {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            Some(partitions.map(|partition| String::from_utf8_lossy(&partition.records).into_owned()).collect())
        }
        Some((_, other)) => panic!("{other:?}"),
    }
}

fn errors(world: &World) -> BTreeMap<RequestToken, RequestError> {
    world.replies.iter().filter_map(|(token, reply)| Some((*token, reply.as_ref().err()?.clone()))).collect()
}

/// Groups that ask again as soon as they are answered, for some time. Gives the replies with records.
struct Groups {
    asked: BTreeMap<RequestToken, usize>,
    offsets: BTreeMap<usize, i64>,
}

impl Groups {
    fn new(world: &mut World, count: usize) -> Groups {
        let mut groups = Groups { asked: BTreeMap::new(), offsets: (0..count).map(|index| (index, 0)).collect() };
        (0..count).for_each(|index| groups.ask(world, index));
        groups
    }

    fn ask(&mut self, world: &mut World, index: usize) {
        self.asked.insert(ask(world, index, self.offsets[&index]), index);
    }

    fn run(&mut self, world: &mut World, ms: u64) -> Vec<usize> {
        let mut told = Vec::new();
        for _ in 0..ms {
            world.run_ms(1);
            for (token, reply) in std::mem::take(&mut world.replies) {
                let index = self.asked.remove(&token).expect("a group's");
                let Ok(Response::Fetch(response)) = reply else { panic!("{reply:?}") };
                if !response.topics[0].partitions[0].records.is_empty() {
                    told.push(index);
                    *self.offsets.get_mut(&index).unwrap() += 1; // tests write one at a time
                }
                self.ask(world, index);
            }
        }
        told
    }
}

#[test]
fn two_thousand_waiting_groups_hold_at_most_16_connections_per_broker() {
    let mut world = world(GROUPS);
    let mut groups = Groups::new(&mut world, GROUPS);
    groups.run(&mut world, 2_000);
    assert_eq!(STABLE_CONNECTIONS_MAX, 16);
    assert!(world.open_wires().len() <= STABLE_CONNECTIONS_MAX, "{}", world.open_wires().len());
    let fetching: BTreeSet<u32> =
        world.cluster.seen.iter().filter(|seen| seen.api == ApiKey::Fetch).map(|seen| seen.conn).collect();
    assert!(fetching.len() <= FETCH_CONNECTIONS_MAX);
    world.cluster.polls.clear();
    groups.run(&mut world, 1_000);
    let polls = world.cluster.polls.len();
    assert!(polls <= 4 * FETCH_CONNECTIONS_MAX, "idle groups cost a poll per connection and wait, not {polls}");
}

#[test]
fn a_message_for_one_of_two_thousand_groups_reaches_it_in_time() {
    let mut world = world(GROUPS);
    let mut groups = Groups::new(&mut world, GROUPS);
    groups.run(&mut world, 1_000);
    for index in (0..GROUPS).step_by(97) {
        write(&mut world, index, "x");
        assert_eq!(groups.run(&mut world, 1), [index], "a quiet group");
        write(&mut world, index, "x");
        let in_time = FETCH_DOOR_WAIT.as_millis() as u64 + 1;
        assert_eq!(groups.run(&mut world, in_time), [index], "and one that has just asked again");
    }
}

#[test]
fn a_message_takes_one_way_when_there_are_spare_connections() {
    let mut world = world(10);
    let tokens: Vec<RequestToken> = (0..10).map(|partition| ask(&mut world, partition, 0)).collect();
    world.run_ms(10);
    let polls = world.cluster.polls.len();
    assert_eq!(polls, 10, "each is named alone");
    assert!(world.cluster.polls.iter().all(|(_, request)| request.max_wait_ms == 500));
    for (partition, token) in tokens.into_iter().enumerate() {
        write(&mut world, partition, "x");
        world.settle();
        assert_eq!(records(&world, token).as_deref(), Some("x"));
    }
    assert_eq!(world.cluster.polls.len(), polls, "the poll that waited was answered");
}

/// Which its place in a request that also waits for others, who asked later, must not change.
#[test]
fn whoever_asks_is_answered_when_its_wait_is_over() {
    let mut world = world(100);
    let mut asked: BTreeMap<RequestToken, (usize, u64)> = BTreeMap::new();
    let mut offsets = vec![0; 100];
    for partition in 0..100 {
        asked.insert(ask(&mut world, partition, 0), (partition, 0));
    }
    for now_ms in 1..3_000 {
        if now_ms % 7 == 0 {
            write(&mut world, now_ms as usize * 31 % 100, "x");
        }
        world.run_ms(1);
        for (token, reply) in std::mem::take(&mut world.replies) {
            let (partition, asked_at) = asked.remove(&token).expect("asked once");
            assert!(now_ms - asked_at <= 500 + FETCH_DOOR_WAIT.as_millis() as u64, "{partition} from {asked_at}");
            let Ok(Response::Fetch(response)) = reply else { panic!("{reply:?}") };
            offsets[partition] += response.topics[0].partitions[0].records.len() as i64;
            asked.insert(ask(&mut world, partition, offsets[partition]), (partition, now_ms));
        }
    }
}

#[test]
fn asks_that_wait_for_connections_that_are_being_opened_open_no_more() {
    let mut world = world(3);
    world.cluster.frozen.insert(1);
    let before = world.connects.len();
    for partition in 0..3 {
        ask(&mut world, partition, 0);
        world.run_ms(1);
    }
    world.run_ms(5);
    assert_eq!(world.connects.len() - before, 3);
}

#[test]
fn groups_at_one_place_share_a_named_partition_by_id_and_by_name() {
    for by_id in [true, false] {
        let mut world = world(1);
        let id = if by_id { id(&world) } else { NO_TOPIC_ID };
        let tokens = [(); 3].map(|()| {
            let request = Request::Fetch(fetch(id, 0, 0));
            let token = world.client.request(Target::Broker(1), Lane::Fetch, request, TIMEOUT, world.now);
            world.run_ms(20);
            token
        });
        assert_eq!(world.cluster.polls.len(), 1);
        write(&mut world, 0, "x");
        world.settle();
        assert!(tokens.iter().all(|token| records(&world, *token).as_deref() == Some("x")));
        let fetch = world.cluster.seen.iter().find(|seen| seen.api == ApiKey::Fetch).unwrap();
        assert_eq!(fetch.version, if by_id { 13 } else { 12 });
    }
}

#[test]
fn a_laggard_does_not_hold_up_those_that_wait() {
    let mut world = world(100);
    for _ in 0..10_000 {
        write(&mut world, 0, &"x".repeat(1_000));
    }
    let waiting: Vec<RequestToken> = (1..100).map(|partition| ask(&mut world, partition, 0)).collect();
    let mut lagging = ask(&mut world, 0, 0);
    let mut read = 0;
    for _ in 0..5 {
        world.settle();
        read += records(&world, lagging).expect("at once").len() as i64 / 1_000;
        lagging = ask(&mut world, 0, read);
    }
    assert_eq!(read, 500, "in portions of 100,000 bytes");
    let named: Vec<(u32, i32)> = world.cluster.polls.iter().map(|(conn, r)| (*conn, r.max_wait_ms)).collect();
    let (catch_up, _) = *named.last().unwrap();
    assert!(named.iter().all(|(conn, wait_ms)| (*conn == catch_up) == (*wait_ms == 0)), "{named:?}");
    world.settle();
    write(&mut world, 50, "for one that waits");
    world.settle();
    assert_eq!(records(&world, waiting[49]).as_deref(), Some("for one that waits"));
}

#[test]
fn a_lost_connection_answers_exactly_those_named_on_it() {
    let mut world = world(100);
    let tokens: Vec<RequestToken> = (0..100).map(|partition| ask(&mut world, partition, 0)).collect();
    world.run_ms(10);
    let (conn, request) = world.cluster.polls[0].clone();
    let named: BTreeSet<RequestToken> =
        request.topics[0].partitions.iter().map(|partition| tokens[partition.index as usize]).collect();
    assert_eq!(named.len(), 10);
    world.drop_wire(ConnId(conn), "reset by peer");
    world.run_ms(10);
    let lost = errors(&world);
    assert_eq!(lost.keys().copied().collect::<BTreeSet<_>>(), named);
    assert!(lost.values().all(|error| matches!(error, RequestError::Disconnected { .. })), "{lost:?}");
    (0..100).for_each(|partition| write(&mut world, partition, "x"));
    world.settle();
    let read = tokens.iter().filter(|token| !named.contains(token)).filter_map(|token| records(&world, *token));
    assert_eq!(read.filter(|records| records == "x").count(), 90);
}

#[test]
fn a_silent_broker_times_out_those_it_was_asked_for() {
    let mut world = world(100);
    world.cluster.frozen.insert(1);
    let tokens: Vec<RequestToken> = (0..3).map(|partition| ask(&mut world, partition, 0)).collect();
    world.run_ms(5_100);
    let unsent = RequestError::Timeout { sent: false };
    assert_eq!(errors(&world), tokens.iter().map(|token| (*token, unsent.clone())).collect());
    world.replies.clear();
    world.cluster.frozen.clear();
    world.end_half_open();
    world.run_ms(60_000);
    let tokens: Vec<RequestToken> = (0..3).map(|partition| ask(&mut world, partition, 0)).collect();
    world.run_ms(100);
    world.cluster.frozen.insert(1);
    world.run_ms(5_100);
    let sent = RequestError::Timeout { sent: true };
    assert_eq!(errors(&world), tokens.iter().map(|token| (*token, sent.clone())).collect());
}

#[test]
fn a_dead_broker_is_unreachable_and_a_garbled_answer_malformed() {
    let mut world = world(3);
    world.cluster.fault(ApiKey::Fetch, Fault::GarbageBody(vec![7]));
    let garbled = ask(&mut world, 0, 0);
    world.run_ms(10);
    assert!(matches!(errors(&world)[&garbled], RequestError::Malformed { .. }), "{:?}", errors(&world));
    let polling = ask(&mut world, 1, 0);
    world.run_ms(10);
    world.kill(1);
    let late = ask(&mut world, 2, 0);
    world.run_ms(3_000);
    let errors = errors(&world);
    assert!(matches!(errors[&polling], RequestError::Disconnected { .. }), "{errors:?}");
    assert!(matches!(errors[&late], RequestError::Unreachable { .. }), "{errors:?}");
    assert!(world.client.is_idle());
}

#[test]
fn a_refused_topic_is_told_to_who_asked_for_it() {
    let mut world = world(2);
    let other = Request::Fetch(fetch([7; 16], 0, 0));
    let refused = world.client.request(Target::Broker(1), Lane::Fetch, other, TIMEOUT, world.now);
    let waiting = ask(&mut world, 0, 0);
    world.run_ms(10);
    let (_, reply) = world.replies.iter().find(|(token, _)| *token == refused).expect("at once");
    let Ok(Response::Fetch(response)) = reply else { panic!("{reply:?}") };
    assert_eq!(response.topics[0].partitions[0].error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(records(&world, waiting), None);
}

#[test]
fn a_cancelled_ask_is_not_named_again() {
    let mut world = world(100);
    let tokens: Vec<RequestToken> = (0..100).map(|partition| ask(&mut world, partition, 0)).collect();
    world.run_ms(10);
    tokens[..99].iter().for_each(|token| world.client.cancel(*token));
    world.cluster.polls.clear();
    write(&mut world, 0, "x");
    write(&mut world, 99, "x");
    world.run_ms(2_000);
    assert_eq!(world.replies.len(), 1);
    assert_eq!(records(&world, tokens[99]).as_deref(), Some("x"));
    assert!(world.cluster.polls.is_empty(), "{:?}", world.cluster.polls);
    assert!(world.client.is_idle());
}

#[test]
fn a_flood_of_groups_does_not_hold_up_a_publish() {
    let mut world = world(GROUPS);
    let _groups = Groups::new(&mut world, GROUPS);
    world.run_ms(100);
    let topic = world.client.topic("t");
    let tag = world.produce(topic, Some(0), "x", Acks::All, 1_000);
    world.settle();
    world.stored(tag);
}
