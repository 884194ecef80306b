//! The member in a world that changes under it, from a seed: topics deleted and made again with ids and without, partitions
//! added, metadata that is behind, coordinators that move and forget, offsets told of topics that are no more, requests that
//! are applied and not answered, answers that come late.
//!
//! What must hold, whatever the seed:
//! - At the end every record of the topic as it is then was handed out.
//! - A commit that says it is of the topic as it is never covers a record that was not handed out.
//! - In a world without trouble nothing is handed out twice.
//!
//! A failure prints its seed: `GAFKA_SIMULATION_SEED=n cargo test -p kafka-client --lib group::simulation`.
//! `GAFKA_SIMULATION_SECONDS` makes it run for so long instead of for `WORLDS` worlds, `GAFKA_SIMULATION_WORLDS` for as many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::cold::RequestKind as Kind;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{FetchRequest, FetchedTopic, NO_TOPIC_ID, TopicId};

use super::cluster::Cluster;
use super::testing::*;
use super::*;
use crate::rng::Rng;
use crate::{Lane, Request, Target, TopicState};

const NONE: ErrorCode = ErrorCode::NONE;
/// Worlds of every run; `GAFKA_SIMULATION_SECONDS` goes on for longer.
const WORLDS: u64 = 2_000;
/// Events of one world before it calms down, and how long it then has, in virtual time.
const STEPS: usize = 1_500;
const CALM_MS: u64 = 40_000;

/// The topic as a broker sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct View {
    incarnation: u8,
    exists: bool,
    epoch: i32,
    partitions: i32,
}

#[derive(Debug)]
struct Pending {
    token: RequestToken,
    request: Request,
    at: Instant,
    reply: Option<Result<Response, RequestError>>,
}

#[derive(Debug)]
struct World {
    rng: Rng,
    now: Instant,
    trouble: bool,
    ids: bool,
    /// As it is, and as the client last heard.
    real: View,
    told: View,
    /// Metadata on its way.
    news: Option<(Instant, View)>,
    /// What was true before, for brokers that are behind.
    before: View,
    ends: Vec<i64>,
    committed: BTreeMap<i32, (i64, String)>,
    generation: i32,
    member: bool,
    handed_out: BTreeSet<(u8, i32, i64)>,
    handed_out_count: usize,
    pending: Vec<Pending>,
    tokens: u64,
}

impl World {
    fn new(seed: u64, trouble: bool) -> World {
        let mut rng = Rng::new(seed);
        let ids = !trouble || rng.below(3) > 0;
        let partitions = 1 + rng.below(3) as i32;
        let real = View { incarnation: 1, exists: true, epoch: 3, partitions };
        World {
            now: Instant::now(),
            trouble,
            ids,
            told: real.clone(),
            before: real.clone(),
            real,
            news: None,
            ends: vec![0; partitions as usize],
            committed: BTreeMap::new(),
            generation: 0,
            member: false,
            handed_out: BTreeSet::new(),
            handed_out_count: 0,
            pending: Vec::new(),
            tokens: 0,
            rng,
        }
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.trouble && self.rng.below(count) == 0
    }

    fn id(&self, view: &View) -> Option<TopicId> {
        self.ids.then_some([view.incarnation; 16])
    }

    /// Something happens to the topic or the group.
    fn change(&mut self) {
        match self.rng.below(40) {
            // Without ids a topic that is made again under the epoch we know, and filled at once, cannot be told.
            0 if self.trouble && self.real.exists && (self.ids || self.told.epoch > 0 && self.told == self.real) => {
                self.before = self.real.clone();
                self.real.exists = false;
                self.ends.clear();
            }
            1..=4 if !self.real.exists => {
                let (incarnation, partitions) = (self.real.incarnation + 1, 1 + self.rng.below(3) as i32);
                // Without ids what tells the new topic is its epoch, which begins anew.
                let epoch = if self.ids && self.rng.below(2) == 0 { self.real.epoch } else { 0 };
                self.real = View { incarnation, exists: true, epoch, partitions };
                self.ends = vec![0; partitions as usize];
                if self.rng.below(2) == 0 {
                    self.committed.clear(); // or later, see `handle`
                }
                if self.rng.below(2) == 0 {
                    self.ends.iter_mut().for_each(|end| *end = 30); // beyond every position before anybody looks
                }
            }
            5 if self.trouble && self.real.exists && self.real.partitions < 4 => {
                self.before = self.real.clone();
                self.real.partitions += 1;
                self.ends.push(0);
            }
            6 if self.trouble && self.real.exists => {
                self.before = self.real.clone();
                self.real.epoch += 1;
            }
            7 if self.trouble => self.generation += 1, // the coordinator forgot
            8 if self.trouble => self.member = false,
            9..=30 if self.real.exists => {
                let partition = self.rng.below(self.ends.len());
                self.ends[partition] += 1 + self.rng.below(4) as i64;
            }
            _ => {}
        }
    }

    fn later(&mut self) -> Instant {
        let ms = if self.one_in(8) { 2_000 } else { 30 };
        self.now + Duration::from_millis(1 + self.rng.below(ms) as u64)
    }

    /// What has arrived is answered, what was answered comes back.
    fn work(&mut self, member: &mut GroupMember) {
        if let Some((_, view)) = self.news.take_if(|(at, _)| *at <= self.now) {
            // As the client: of one topic an older epoch or fewer partitions are old news.
            let same = self.ids && view.incarnation == self.told.incarnation && view.exists;
            if !(same && (view.epoch < self.told.epoch || view.partitions < self.told.partitions)) {
                self.told = view;
            }
        }
        while let Some(at) = self.pending.iter().position(|pending| pending.at <= self.now) {
            let mut pending = self.pending.swap_remove(at);
            if let Some(reply) = pending.reply.take() {
                member.answered(pending.token, reply, self, self.now);
                continue;
            }
            let lost = || Err(RequestError::Timeout { sent: true });
            let reply = if self.one_in(25) { lost() } else { Ok(self.handle(&pending.request)) };
            pending.reply = Some(if self.one_in(25) { lost() } else { reply });
            pending.at = self.later();
            self.pending.push(pending);
        }
    }

    fn handle(&mut self, request: &Request) -> Response {
        let coordinator = if self.one_in(30) { ErrorCode::NOT_COORDINATOR } else { NONE };
        match request {
            Request::Fetch(fetch) => Response::Fetch(self.fetch(fetch)),
            Request::Cold(Kind::JoinGroup(join)) => {
                if coordinator != NONE {
                    return join_error(coordinator, "");
                }
                if !join.member_id.is_empty() && !self.member {
                    return join_error(ErrorCode::UNKNOWN_MEMBER_ID, "");
                }
                self.member = true;
                self.generation += 1;
                super::testing::join(self.generation, "m1", "m1", &[("m1", &[TOPIC])])
            }
            Request::Cold(Kind::SyncGroup(request)) => match self.judge(request.generation_id, coordinator) {
                NONE => {
                    let share = request.assignments.first().map(|share| share.assignment.clone()).unwrap_or_default();
                    let share = consumer_protocol::decode_assignment(share).unwrap();
                    sync(&share.into_iter().flat_map(|(_, partitions)| partitions).collect::<Vec<_>>())
                }
                code => sync_error(code),
            },
            Request::Cold(Kind::Heartbeat(request)) => {
                let code = if self.one_in(30) { ErrorCode::REBALANCE_IN_PROGRESS } else { coordinator };
                heartbeat(self.judge(request.generation_id, code))
            }
            Request::Cold(Kind::OffsetFetch(fetch)) => {
                if coordinator != NONE {
                    return offsets_error(coordinator);
                }
                let asked = &fetch.topics.as_ref().unwrap()[0].partition_indexes;
                offsets_each(
                    asked.iter().map(|p| (*p, self.committed.get(p).cloned().unwrap_or((-1, String::new())))).collect(),
                )
            }
            Request::Cold(Kind::OffsetCommit(commit)) => {
                let partitions = &commit.topics[0].partitions;
                let asked: Vec<i32> = partitions.iter().map(|partition| partition.partition_index).collect();
                let code = self.judge(commit.generation_id_or_member_epoch, coordinator);
                if code == NONE {
                    for partition in partitions {
                        let label = partition.committed_metadata.as_deref().unwrap_or_default().to_owned();
                        self.check_commit(partition.partition_index, partition.committed_offset, &label);
                        self.committed.insert(partition.partition_index, (partition.committed_offset, label));
                    }
                }
                committed(&asked, code)
            }
            Request::Cold(Kind::ListOffsets(list)) => {
                let asked: Vec<(i32, i64)> =
                    list.topics[0].partitions.iter().map(|p| (p.partition_index, p.timestamp)).collect();
                let found: Vec<(i32, i64)> = asked
                    .iter()
                    .map(|(p, time)| {
                        (*p, if *time == -2 { 0 } else { self.ends.get(*p as usize).copied().unwrap_or(0) })
                    })
                    .collect();
                let exists = self.real.exists && asked.iter().all(|(p, _)| (*p as usize) < self.ends.len());
                listed(&found, if exists { NONE } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION })
            }
            Request::Cold(Kind::LeaveGroup(_)) => left(),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn judge(&self, generation: i32, code: ErrorCode) -> ErrorCode {
        match code {
            NONE if !self.member => ErrorCode::UNKNOWN_MEMBER_ID,
            NONE if generation != self.generation => ErrorCode::ILLEGAL_GENERATION,
            code => code,
        }
    }

    fn check_commit(&self, partition: i32, offset: i64, of: &str) {
        if self.ids && of == label(self.real.incarnation) {
            for below in 0..offset {
                let seen = self.handed_out.contains(&(self.real.incarnation, partition, below));
                assert!(seen, "{partition}@{offset} was committed of {of}, but {below} was never handed out");
            }
        }
    }

    fn fetch(&mut self, request: &FetchRequest) -> kafka_wire::messages::fetch::FetchResponse {
        let asked = &request.topics[0];
        let here = asked.id == NO_TOPIC_ID || Some(asked.id) == self.id(&self.real);
        let partitions = asked.partitions.iter().map(|partition| {
            let end = self.ends.get(partition.index as usize).copied();
            let code = match end {
                _ if !here => ErrorCode::UNKNOWN_TOPIC_ID,
                None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                _ if partition.current_leader_epoch > self.real.epoch => ErrorCode::UNKNOWN_LEADER_EPOCH,
                _ if partition.current_leader_epoch < self.real.epoch => ErrorCode::FENCED_LEADER_EPOCH,
                Some(end) if partition.fetch_offset > end => ErrorCode::OFFSET_OUT_OF_RANGE,
                Some(_) => NONE,
            };
            let count = end.unwrap_or(0) - partition.fetch_offset;
            let records = if code == NONE && count > 0 {
                batch(partition.fetch_offset).records(count.min(20)).value(&[self.real.incarnation]).bytes()
            } else {
                Bytes::new()
            };
            (partition.index, code, records)
        });
        let Response::Fetch(mut answer) = fetched(&partitions.collect::<Vec<_>>()) else { unreachable!() };
        if asked.id != NO_TOPIC_ID {
            let FetchedTopic { partitions, .. } = answer.topics.remove(0);
            answer.topics.push(FetchedTopic { name: Bytes::new(), id: asked.id, partitions });
        }
        answer
    }

    fn take(&mut self, member: &mut GroupMember) {
        member.take_revoked();
        let max = 1 + self.rng.below(12);
        for fetched in member.poll_records(max, usize::MAX) {
            let incarnation = fetched.record.value.as_ref().unwrap()[0];
            self.handed_out.insert((incarnation, fetched.partition, fetched.record.offset));
            self.handed_out_count += 1;
            member.delivered(fetched.partition, fetched.record.offset + 1);
        }
    }

    fn missing(&self) -> Vec<(i32, i64)> {
        let all =
            (0i32..).zip(&self.ends).flat_map(|(partition, end)| (0..*end).map(move |offset| (partition, offset)));
        all.filter(|(partition, offset)| !self.handed_out.contains(&(self.real.incarnation, *partition, *offset)))
            .collect()
    }
}

impl Cluster for World {
    fn request(&mut self, _: Target<'_>, _: Lane, request: Request, _: Duration, _: Instant) -> RequestToken {
        self.tokens += 1;
        let token = RequestToken(self.tokens);
        let at = self.later();
        self.pending.push(Pending { token, request, at, reply: None });
        token
    }
    fn cancel(&mut self, token: RequestToken) {
        // The broker may act on it all the same.
        let answered = self.pending.iter_mut().find(|pending| pending.token == token && pending.reply.is_some());
        if let Some(pending) = answered {
            pending.reply = None;
            pending.request = Request::Cold(Kind::LeaveGroup(Default::default()));
        }
    }
    fn invalidate_coordinator(&mut self, _: &str) {}
    fn refresh_metadata(&mut self, _: Instant) {
        let behind = self.one_in(4);
        let view = if behind { self.before.clone() } else { self.real.clone() };
        let at = self.later();
        self.news.get_or_insert((at, view));
    }
    fn topic(&mut self, _: &str) -> TopicIdx {
        TopicIdx(0)
    }
    fn topic_state(&self, _: TopicIdx) -> TopicState {
        // A denial is not believed for a long time: what was known stays known.
        TopicState::Known
    }
    fn partition_count(&self, _: TopicIdx) -> Option<i32> {
        Some(self.told.partitions)
    }
    fn topic_id(&self, _: TopicIdx) -> Option<TopicId> {
        self.id(&self.told)
    }
    fn leader(&self, _: TopicIdx, partition: i32) -> Option<i32> {
        (partition < self.told.partitions).then_some(1)
    }
    fn leader_epoch(&self, _: TopicIdx, _: i32) -> Option<i32> {
        Some(self.told.epoch)
    }
}

fn run(seed: u64, trouble: bool) {
    let mut world = World::new(seed, trouble);
    let mut member = GroupMember::new(GroupConfig::new("g", TOPIC), seed, world.now);
    let end = |world: &World| world.now + Duration::from_millis(CALM_MS);
    for _ in 0..STEPS {
        world.change();
        if trouble && world.ids && world.rng.below(150) == 0 {
            // The gateway is restarted; what the brokers were asked they do.
            member = GroupMember::new(GroupConfig::new("g", TOPIC), seed, world.now);
            world.told = world.real.clone();
            world.told.exists = true;
        }
        step(&mut world, &mut member);
    }
    world.trouble = false;
    while !world.real.exists {
        world.change();
    }
    let until = end(&world);
    while world.now < until {
        if world.rng.below(50) == 0 {
            let now = world.now;
            world.refresh_metadata(now); // as the client does every now and then
        }
        step(&mut world, &mut member);
    }
    assert_eq!(world.missing(), [], "never handed out");
    let count: i64 = world.ends.iter().sum();
    for (partition, end) in (0i32..).zip(&world.ends) {
        let (offset, of) = world.committed.get(&partition).expect("committed");
        // A commit for the deleted topic may come late, over a newer one: nobody believes it, for it says what it is of.
        let is_old = trouble && world.ids && *of != label(world.real.incarnation);
        assert!(offset == end || is_old, "committed of {partition}: {offset} of {of}, it ends at {end}");
    }
    if !trouble {
        assert_eq!(world.handed_out_count as i64, count, "each once");
    }
}

fn step(world: &mut World, member: &mut GroupMember) {
    world.now += Duration::from_millis(1 + world.rng.below(40) as u64);
    world.work(member);
    let now = world.now;
    member.step(world, now);
    if world.rng.below(2) == 0 {
        world.take(member);
    }
}

fn announce(seed: u64, trouble: bool) {
    let result = std::panic::catch_unwind(|| run(seed, trouble));
    if let Err(panic) = result {
        eprintln!("GAFKA_SIMULATION_SEED={seed} (trouble: {trouble})");
        std::panic::resume_unwind(panic);
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Seeds that found something once.
#[test]
fn seeds_that_failed_before_pass() {
    for seed in [40, 59, 87, 2_536] {
        announce(seed, true);
    }
}

#[test]
fn in_a_quiet_world_each_record_is_handed_out_once() {
    for seed in 0..20 {
        announce(seed, false);
    }
}

#[test]
fn whatever_happens_no_record_of_the_topic_as_it_is_is_skipped() {
    if let Some(seed) = setting("GAFKA_SIMULATION_SEED") {
        return announce(seed, true);
    }
    let until = setting("GAFKA_SIMULATION_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let worlds = setting("GAFKA_SIMULATION_WORLDS").unwrap_or(WORLDS);
    let mut seed = 0;
    while until.map_or(seed < worlds, |until| Instant::now() < until) {
        announce(seed, true);
        seed += 1;
    }
    eprintln!("{seed} worlds");
}
