//! One producer, a cluster, and a network that loses, delays and cuts. Brokers die, freeze, forget their topics, lag
//! behind in metadata, move leaders, answer wrongly or late, refuse producer ids and grant them again. The topic grows, is
//! deleted, and made again; in some worlds brokers tell no topic ids, in some no leader epochs, in some neither.
//! Whatever happens, what the publisher was told is true:
//!
//! - every record gets one outcome, by its deadline and a little;
//! - told stored: it is in the log, at the offset told, and once in each topic of that name there was;
//! - told not stored: it is in no log, and never will be;
//! - given back, with its own value: the same, and only to those who asked for it;
//! - told unknown: it is in each log at most once;
//! - what one partition stored with acks=all, it stored in the order given;
//! - and when all is well again, every partition is written to within `WELL_AGAIN`.
//!
//! To run one seed again: `GAFKA_SIM_SEED=n cargo test -p kafka-client --test client simulation`. For longer:
//! `GAFKA_SIMULATION_SECONDS=600`, which goes on with seeds that differ from day to day; `GAFKA_SIMULATION_WORLDS=100` for
//! fewer, as when many changes of the code are tried.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use kafka_client::{Acks, ClientConfig, How, Mechanism, OnAway, ProduceError, Sasl, Security, TopicIdx};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;

use crate::broker::{Cluster, Credentials, Fault};
use crate::world::{Dice, World, config};

/// Longest that a client may take to notice that all is well: what looks older is believed after 15 s at the most, then
/// come a metadata round and a backoff.
const WELL_AGAIN: Duration = Duration::from_secs(20);
const STEPS: usize = 400;
const PARTITIONS_MAX: usize = 8;
/// Seeds of every run, about 20 s.
const SEEDS: u64 = 700;

struct Sent {
    acks: Acks,
    on_away: OnAway,
    partition: i32,
    value: String,
    deadline_ms: u64,
}

/// What this world's brokers tell of topics.
#[derive(Clone, Copy, Debug)]
struct Manners {
    ids: bool,
    epochs: bool,
}

struct Sea {
    world: World,
    dice: Dice,
    manners: Manners,
    nodes: i32,
    topic: TopicIdx,
    topic_id_next: u128,
    give_back_percent: u64,
    refused_away: u64,
    sent: BTreeMap<u64, Sent>,
    seed: u64,
}

fn random_fault(dice: &mut Dice) -> (ApiKey, Fault) {
    let api = match dice.below(10) {
        0 => ApiKey::Metadata,
        1 => ApiKey::InitProducerId,
        2 => ApiKey::ApiVersions,
        _ => ApiKey::Produce,
    };
    let codes = [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode::MESSAGE_TOO_LARGE,
        ErrorCode::INVALID_RECORD,
        ErrorCode::UNKNOWN_PRODUCER_ID,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ];
    let applied = [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ];
    let fault = match (api, dice.below(12)) {
        (_, 0) => Fault::Disconnect,
        (_, 1) => Fault::ApplyThenDisconnect,
        (_, 2) => Fault::Silence,
        (_, 3) => Fault::ApplyThenSilence,
        (_, 4) => Fault::Garbage(vec![0, 0, 0, 5, 1, 2, 3, 4, dice.roll() as u8]),
        (_, 5) => Fault::Repeat,
        (_, 6) => Fault::Overtaken,
        (_, 7) => Fault::Hold,
        (ApiKey::Produce, 8) => Fault::ApplyThenError(applied[dice.below(5) as usize]),
        (ApiKey::Produce, 9) => Fault::Throttle(dice.below(300) as i32),
        (ApiKey::Produce, _) => Fault::Error(codes[dice.below(11) as usize]),
        (ApiKey::InitProducerId, _) => Fault::Error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
        (_, _) => Fault::Disconnect,
    };
    (api, fault)
}

impl Sea {
    fn new(seed: u64) -> Sea {
        let mut dice = Dice(seed);
        let nodes = 1 + dice.below(3) as i32;
        let mut cluster = Cluster::new(nodes, 1 + dice.below(5) as usize);
        cluster.leader_hints = dice.chance(50);
        let mut settings = ClientConfig {
            request_timeout: Duration::from_millis(400 + dice.below(2_000)),
            batch_bytes_max: 200 + dice.below(2_000) as usize,
            in_flight_max: 1 + dice.below(5) as usize,
            bootstrap: (1..=nodes).map(|node| format!("b{node}:9092")).collect(),
            ..config()
        };
        if dice.chance(20) {
            cluster.credentials = Some(Credentials { mechanism: "SCRAM-SHA-256", username: "u", password: "p" });
            cluster.session_lifetime_ms = 3_000;
            let sasl = Sasl { mechanism: Mechanism::ScramSha256, username: "u".into(), password: "p".into() };
            settings.security = Security { tls: false, sasl: Some(sasl) };
        }
        let manners = Manners { ids: dice.chance(60), epochs: dice.chance(85) };
        let mut world = World::with(cluster, settings, seed);
        world.latency_max = Duration::from_micros(dice.below(30_000));
        let topic = world.client.topic("t");
        let give_back_percent = [0, 30, 60, 100][dice.below(4) as usize];
        let (topic_id_next, refused_away, sent) = (100, 0, BTreeMap::new());
        let mut sea =
            Sea { world, dice, manners, nodes, topic, topic_id_next, give_back_percent, refused_away, sent, seed };
        sea.tell_as_this_world_does();
        sea
    }

    /// Topic ids and leader epochs are told, or not.
    fn tell_as_this_world_does(&mut self) {
        let Some(topic) = self.world.cluster.topics.get_mut("t") else { return };
        if !self.manners.ids {
            topic.id = 0;
        }
        if !self.manners.epochs {
            topic.partitions.iter_mut().for_each(|partition| partition.leader_epoch = -1);
        }
    }

    fn partition_count(&self) -> usize {
        self.world.cluster.topics.get("t").map_or(0, |topic| topic.partitions.len())
    }

    fn any_node(&mut self) -> i32 {
        1 + self.dice.below(self.nodes as u64) as i32
    }

    fn publish(&mut self, step: usize) {
        let acks = match self.dice.below(10) {
            0 | 1 => Acks::Leader,
            2 => Acks::None,
            _ => Acks::All,
        };
        let known = self.world.client.partition_count(self.topic).unwrap_or(PARTITIONS_MAX as i32).max(1);
        let partition = self.dice.below(known as u64) as i32;
        let value = format!("{step}-{}", self.sent.len());
        let deadline_ms = [60, 300, 1_500, 6_000][self.dice.below(4) as usize];
        let how = How::new(acks, self.world.now + Duration::from_millis(deadline_ms));
        let how = if self.dice.chance(self.give_back_percent) { how.or_give_back() } else { how };
        match self.world.produce_as(self.topic, Some(partition), &value, how) {
            Ok(tag) => {
                let deadline_ms = deadline_ms + (self.world.now - self.world.start).as_millis() as u64;
                self.sent.insert(tag, Sent { acks, on_away: how.on_away, partition, value, deadline_ms });
            }
            Err(ProduceError::Away { .. }) => {
                self.refused_away += 1;
                assert_eq!((acks, how.on_away), (Acks::All, OnAway::GiveBack), "seed {}: {value}", self.seed);
            }
            Err(_) => {}
        }
    }

    fn disturb(&mut self) {
        let world = &mut self.world;
        match self.dice.below(20) {
            0..=2 => {
                let (api, fault) = random_fault(&mut self.dice);
                world.cluster.fault(api, fault);
            }
            3 => self.move_a_leader(),
            4 | 5 => {
                let wires = world.open_wires();
                if wires.is_empty() {
                    return;
                }
                let conn = wires[self.dice.below(wires.len() as u64) as usize];
                match self.dice.below(6) {
                    // What was on its way still reaches the broker, after we have given up on it.
                    0 | 1 => world.cut_wire(conn),
                    2 | 3 => world.drop_wire(conn, "reset by peer"),
                    4 => world.half_open(conn, [true, true]),
                    _ => world.half_open(conn, [false, true]),
                }
            }
            6 => {
                let node = self.any_node();
                self.world.kill(node);
                for _ in 0..self.partition_count() {
                    if self.dice.chance(50) {
                        self.move_a_leader();
                    }
                }
            }
            7 if self.dice.chance(30) => {
                let node = self.any_node();
                self.world.cluster.dark.insert(node);
                self.world.cluster.frozen.insert(node);
            }
            7 => {
                // What reached it before is read when it thaws and more comes.
                let node = self.any_node();
                self.world.cluster.frozen.insert(node);
            }
            8 => {
                let node = self.any_node();
                self.world.cluster.amnesiacs.insert(node);
            }
            9 | 10 => {
                let node = self.any_node();
                self.world.cluster.lag(node);
                self.world.client.refresh_metadata(self.world.now);
            }
            11 | 12 => self.grow(),
            13 => {
                self.world.cluster.delete("t");
                if self.dice.chance(60) {
                    self.create();
                }
            }
            14 => world.cluster.refuses_producer_ids = !world.cluster.refuses_producer_ids,
            15 => world.release(),
            16 => world.client.refresh_metadata(world.now),
            _ => self.all_is_well(),
        }
    }

    fn move_a_leader(&mut self) {
        let (count, node) = (self.partition_count(), self.any_node());
        if count > 0 {
            let partition = self.dice.below(count as u64) as usize;
            self.world.cluster.move_leader("t", partition, node);
            self.tell_as_this_world_does();
        }
    }

    fn grow(&mut self) {
        let leader = self.any_node();
        if let Some(topic) = self.world.cluster.topics.get_mut("t")
            && topic.partitions.len() < PARTITIONS_MAX
        {
            topic.partitions.push(crate::broker::PartitionModel { leader, ..Default::default() });
            self.tell_as_this_world_does();
        }
    }

    fn create(&mut self) {
        if self.partition_count() > 0 {
            return;
        }
        let count = 1 + self.dice.below(5) as usize;
        self.world.cluster.create("t", count);
        let topic = self.world.cluster.topics.get_mut("t").expect("made just now");
        topic.id = self.topic_id_next;
        topic.partitions.iter_mut().for_each(|partition| partition.leader_epoch = 0);
        self.topic_id_next += 1;
        self.tell_as_this_world_does();
    }

    fn all_is_well(&mut self) {
        self.create();
        let world = &mut self.world;
        world.cluster.frozen.clear();
        world.cluster.dark.clear();
        world.cluster.amnesiacs.clear();
        world.cluster.lagging.clear();
        (1..=self.nodes).for_each(|node| world.revive(node));
        world.end_half_open();
        world.release();
    }

    fn assert_outcomes_in_time(&self) {
        let now_ms = (self.world.now - self.world.start).as_millis() as u64;
        let told: BTreeSet<u64> = self.world.outcomes.iter().map(|outcome| outcome.tag).collect();
        for (tag, sent) in &self.sent {
            let late = now_ms > sent.deadline_ms + 50 && !told.contains(tag);
            assert!(
                !late,
                "seed {}: no outcome for {} with {:?} at {now_ms} ms, deadline {} ms",
                self.seed, sent.value, sent.acks, sent.deadline_ms
            );
        }
    }

    /// Every partition can be written to, whatever was.
    fn assert_it_goes_on(&mut self) {
        for partition in 0..self.partition_count() as i32 {
            for acks in [Acks::All, Acks::Leader] {
                let value = format!("at the end {partition} {acks:?}");
                let told = self.world.try_produce(self.topic, Some(partition), &value, acks, 4_000);
                let tag =
                    told.unwrap_or_else(|error| panic!("seed {}, {:?}: {value}: {error}", self.seed, self.manners));
                let (on_away, deadline_ms) = (OnAway::Wait, u64::MAX / 2);
                self.sent.insert(tag, Sent { acks, on_away, partition, value, deadline_ms });
            }
        }
        self.world.run(Duration::from_secs(5));
        for (tag, sent) in self.sent.iter().filter(|(_, sent)| sent.deadline_ms == u64::MAX / 2) {
            let told = self.world.outcome(*tag);
            assert!(matches!(told, Some(Ok(_))), "seed {}, {:?}: {}: {told:?}", self.seed, self.manners, sent.value);
        }
    }

    /// The logs of a partition in every topic of this name that there was.
    fn logs(&self, partition: i32) -> Vec<Vec<String>> {
        let buried = self.world.cluster.graveyard.iter().filter(|(_, index, _)| *index == partition as usize);
        let text = |log: &Vec<Vec<u8>>| log.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect();
        let mut logs: Vec<Vec<String>> = buried.map(|(_, _, log)| text(log)).collect();
        if (partition as usize) < self.partition_count() {
            logs.push(self.world.cluster.log("t", partition as usize));
        }
        logs
    }

    fn judge(&self) {
        let seed = self.seed;
        let logs: Vec<Vec<Vec<String>>> = (0..PARTITIONS_MAX as i32).map(|partition| self.logs(partition)).collect();
        let mut last_stored: BTreeMap<(i32, usize), (usize, u64)> = BTreeMap::new();
        for (tag, sent) in &self.sent {
            let told =
                self.world.outcome(*tag).unwrap_or_else(|| panic!("seed {seed}: {} was never answered", sent.value));
            let mut found: Vec<(usize, usize)> = Vec::new();
            for (topic, log) in logs[sent.partition as usize].iter().enumerate() {
                found.extend(log.iter().enumerate().filter(|(_, value)| **value == sent.value).map(|at| (topic, at.0)));
            }
            let context = format!(
                "seed {seed}, {:?}: {} with {:?} was told {told:?} and lies at {found:?} (topic, offset)",
                self.manners, sent.value, sent.acks
            );
            let topics: BTreeSet<usize> = found.iter().map(|(topic, _)| *topic).collect();
            assert_eq!(topics.len(), found.len(), "twice in a log: {context}");
            match told {
                Ok(stored) if sent.acks == Acks::None => assert_eq!(stored.offset, -1, "{context}"),
                Ok(stored) => {
                    assert!(!found.is_empty(), "{context}");
                    let there = found.iter().any(|(_, offset)| *offset as i64 == stored.offset);
                    assert!(stored.offset == -1 || there, "{context}");
                }
                Err(error) if error.outcome_unknown() => {}
                Err(ProduceError::Away { .. }) => {
                    assert!(found.is_empty(), "given back: {context}");
                    assert_eq!((sent.acks, sent.on_away), (Acks::All, OnAway::GiveBack), "{context}");
                }
                Err(_) => assert!(found.is_empty(), "{context}"),
            }
            if sent.acks != Acks::All || told.is_err() {
                continue;
            }
            for (topic, offset) in found {
                let (last, last_tag) = last_stored.insert((sent.partition, topic), (offset, *tag)).unwrap_or((0, 0));
                assert!(last_tag == 0 || last < offset, "seed {seed}: {} overtook tag {last_tag}", sent.value);
            }
        }
        for outcome in &self.world.outcomes {
            let back =
                outcome.unsent.as_ref().map(|unsent| unsent.records().filter_map(|record| record.value).collect());
            let away = matches!(outcome.result, Err(ProduceError::Away { .. }));
            let own: Vec<_> = self.sent.get(&outcome.tag).map(|sent| sent.value.clone().into()).into_iter().collect();
            assert_eq!(back, away.then_some(own), "seed {seed}: {outcome:?}");
        }
        assert_eq!(self.world.client.queued_bytes(), 0, "seed {seed}");
        assert!(self.world.client.is_idle(), "seed {seed}");
    }
}

/// Gives how many records were given back, and refused at once because they would have been.
fn simulate(seed: u64) -> [u64; 2] {
    let mut sea = Sea::new(seed);
    let trouble = sea.dice.below(25);
    for step in 0..STEPS {
        for _ in 0..sea.dice.below(6) {
            sea.publish(step);
        }
        if sea.dice.below(100) < trouble {
            sea.disturb();
        }
        let pause = match sea.dice.below(200) {
            0 => Duration::from_millis(sea.dice.below(20_000)), // long enough to believe that a topic is gone
            _ => Duration::from_micros(sea.dice.below(40_000)),
        };
        sea.world.run(pause);
        sea.assert_outcomes_in_time();
    }
    sea.world.cluster.script.clear();
    sea.all_is_well();
    sea.world.client.refresh_metadata(sea.world.now); // as after five minutes: partitions were added
    sea.world.run(WELL_AGAIN);
    sea.assert_it_goes_on();
    sea.judge();
    let back = sea.world.outcomes.iter().filter(|outcome| outcome.unsent.is_some()).count();
    [back as u64, sea.refused_away]
}

#[test]
fn what_publishers_are_told_is_true_whatever_happens() {
    if let Ok(seed) = std::env::var("GAFKA_SIM_SEED") {
        simulate(seed.parse().expect("a number"));
        return;
    }
    let setting = |name| std::env::var(name).ok().map(|number| number.parse::<u64>().expect("a number"));
    let seeds = setting("GAFKA_SIMULATION_WORLDS").unwrap_or(SEEDS);
    let end = setting("GAFKA_SIMULATION_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let further = end.into_iter().flat_map(|end| (today * 1_000_000..).take_while(move |_| Instant::now() < end));
    let (mut count, mut away) = (0, [0, 0]);
    for seed in (1..=seeds).chain(further) {
        let result = std::panic::catch_unwind(|| simulate(seed));
        match result {
            Ok([back, refused]) => away = [away[0] + back, away[1] + refused],
            Err(panic) => {
                eprintln!("simulation failed with GAFKA_SIM_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
        count += 1;
    }
    println!("{count} seeds of {STEPS} steps: {} records given back, {} refused as away", away[0], away[1]);
    assert!(away.iter().all(|records| *records > count), "that is what is tested: {away:?}");
}
