//! The brokers: a topic that is deleted and made again, moves, grows, is cut back and expires, brokers that are behind, the
//! group's committed offsets, and the wire.
//!
//! What no member can know is left out, as `incarnation` says it: a log that was cut grows again only when every reader of
//! it has noticed, and without topic ids a topic is deleted only when all gateways know its epoch, and made again only when
//! the epoch goes back or all believe that it is gone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::cold::types::OffsetCommitRequest;
use kafka_wire::cold::{RequestKind as Kind, ResponseKind};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch::{FetchPartition, FetchRequest, FetchedTopic, NO_TOPIC_ID};

use super::super::testing::*;
use super::coordinator::{Coordinator, Key};
use super::gateway::{Gateway, News};
use super::log::{Log, MARKER};
use crate::rng::Rng;
use crate::{Request, RequestError, RequestToken, Response};

const NONE: ErrorCode = ErrorCode::NONE;
const NODES: i32 = 2;

/// The topic as a broker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct View {
    pub(super) incarnation: u8,
    pub(super) exists: bool,
    pub(super) epoch: i32,
    pub(super) partitions: i32,
}

/// Leaders move with the epoch.
pub(super) fn leader(partition: i32, epoch: i32) -> i32 {
    (partition + epoch).rem_euclid(NODES) + 1
}

#[derive(Debug)]
enum Stage {
    Going,
    /// Waits for the group.
    Parked,
    Coming(Box<Result<Response, RequestError>>),
}

#[derive(Debug)]
struct Pending {
    key: Key,
    gateway: usize,
    process: u64,
    token: RequestToken,
    node: Option<i32>,
    request: Request,
    /// The topic its sender knew.
    of: u8,
    at: Instant,
    deadline: Instant,
    /// A fetch that found nothing has waited.
    waited: bool,
    /// Nobody waits for the answer; the broker acts all the same.
    unwanted: bool,
    stage: Stage,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: Instant,
    pub(super) trouble: bool,
    pub(super) ids: bool,
    /// Topics are deleted here; their logs do not expire, so that a broker that is behind tells no beginning but 0.
    pub(super) deletes: bool,
    /// Steps between two accidents of a kind, and requests between two that fail.
    pub(super) rarity: usize,
    errors: usize,
    pub(super) real: View,
    /// What brokers that are behind think.
    before: View,
    logs: Vec<Log>,
    old_logs: Vec<Log>,
    segment: u32,
    behind_until: [Instant; NODES as usize],
    denied_until: Instant,
    hidden_until: Instant,
    /// The coordinator hears nobody.
    silent_until: Instant,
    coordinator: Coordinator,
    committed: BTreeMap<i32, (i64, String)>,
    forget_at: Option<Instant>,
    /// What was committed when the generation began, and when that was.
    begins: BTreeMap<i32, i64>,
    generation_at: (i32, Instant),
    wire: Vec<Pending>,
    keys: Key,
}

impl World {
    pub(super) fn new(seed: u64, trouble: bool) -> World {
        let mut rng = Rng::new(seed);
        let now = Instant::now();
        let ids = !trouble || rng.below(3) > 0;
        let deletes = trouble && if ids { rng.below(4) > 0 } else { rng.below(2) > 0 };
        let partitions = 1 + rng.below(4) as i32;
        let real = View { incarnation: 1, exists: true, epoch: 3, partitions };
        World {
            now,
            trouble,
            ids,
            deletes,
            rarity: [60, 200, 600][rng.below(3)],
            errors: [1, 4, 20][rng.below(3)],
            real,
            before: real,
            logs: vec![Log::default(); partitions as usize],
            old_logs: Vec::new(),
            segment: 1,
            behind_until: [now; NODES as usize],
            denied_until: now,
            hidden_until: now,
            silent_until: now,
            coordinator: Coordinator::new(),
            committed: BTreeMap::new(),
            forget_at: None,
            begins: BTreeMap::new(),
            generation_at: (0, now),
            wire: Vec::new(),
            keys: 0,
            rng,
        }
    }

    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.trouble && self.rng.below(count) == 0
    }

    pub(super) fn within(&mut self, ms: usize) -> Instant {
        self.now + Duration::from_millis(self.rng.below(ms) as u64)
    }

    /// Whether gateways may stop: without ids a new one could not tell what was committed of a deleted topic.
    pub(super) fn may_stop(&self) -> bool {
        self.ids || !self.deletes
    }

    // What happens

    /// Something happens to the topic or the group, or nothing.
    pub(super) fn change(&mut self, gateways: &mut [Option<Gateway>]) {
        if self.forget_at.take_if(|at| *at <= self.now).is_some() {
            self.committed.clear();
            self.begins.clear();
        }
        self.heal(gateways);
        if self.real.exists && self.rng.below(2) == 0 {
            self.grow();
        }
        if !self.trouble {
            return;
        }
        let real = self.real;
        let all = |holds: &dyn Fn(&Gateway) -> bool| gateways.iter().all(|place| place.as_ref().is_some_and(holds));
        let all_know = all(&|gateway| gateway.knowledge.is_up_to_date(&real));
        let all_of_now = all(&|gateway| gateway.knowledge.incarnation == real.incarnation);
        match self.rng.below(self.rarity) {
            0..=1 if self.deletes && self.real.exists && (self.ids || all_know) => self.delete(),
            2..=9 if !self.real.exists => self.make_again(gateways),
            2 if self.real.exists && self.real.partitions < 5 => {
                self.brokers_are_behind();
                self.real.partitions += 1;
                self.logs.push(Log::default());
            }
            3..=4 if self.real.exists && (self.ids || all_of_now) => {
                self.brokers_are_behind();
                self.real.epoch += 1;
            }
            5 => {
                self.coordinator.forget_members();
                self.coordinator.generation *= self.rng.below(2) as i32;
            }
            6 => self.coordinator.shake(self.now),
            7 if self.real.exists => self.cut(gateways),
            8 if !self.deletes => {
                let index = self.rng.below(self.logs.len());
                let log = &mut self.logs[index];
                log.start = (log.start + 1 + self.rng.below(8) as i64).min(log.end());
            }
            9 => self.denied_until = self.within(3_000),
            10 => self.hidden_until = self.within(25_000),
            11 => self.silent_until = self.within(8_000),
            _ => {}
        }
    }

    fn grow(&mut self) {
        let index = self.rng.below(self.logs.len());
        let (count, marked) = (1 + self.rng.below(4), self.rng.below(8) == 0);
        let log = &mut self.logs[index];
        if !log.cut {
            log.append(self.segment, count);
            log.append(MARKER, usize::from(marked));
        }
    }

    fn brokers_are_behind(&mut self) {
        self.before = self.real;
        self.delay_brokers();
    }

    fn delay_brokers(&mut self) {
        for node in 0..NODES as usize {
            if self.rng.below(2) == 0 {
                self.behind_until[node] = self.within(3_000);
            }
        }
    }

    fn delete(&mut self) {
        self.brokers_are_behind();
        self.real.exists = false;
        self.old_logs = std::mem::take(&mut self.logs);
        self.begins.clear();
        if !self.ids || self.rng.below(2) == 0 {
            self.forget_at = Some(self.within(5_000));
        }
    }

    fn make_again(&mut self, gateways: &[Option<Gateway>]) {
        let believed = |place: &Option<Gateway>| place.as_ref().is_some_and(|gateway| gateway.knowledge.is_missing());
        let looks_alike = !self.ids && self.real.epoch == 0;
        if looks_alike && !gateways.iter().all(believed) {
            return;
        }
        let (incarnation, partitions) = (self.real.incarnation + 1, 1 + self.rng.below(4) as i32);
        // Without ids what tells the new topic is its epoch, which begins anew.
        let epoch = if self.ids && self.rng.below(2) == 0 { self.real.epoch } else { 0 };
        self.real = View { incarnation, exists: true, epoch, partitions };
        self.logs = vec![Log::default(); partitions as usize];
        self.segment += 1;
        if self.rng.below(2) == 0 {
            let segment = self.segment;
            self.logs.iter_mut().for_each(|log| log.append(segment, 30)); // beyond every position before anybody looks
        }
        if !looks_alike {
            self.delay_brokers();
        }
    }

    /// An unclean leader election: the end of a log is lost.
    fn cut(&mut self, gateways: &mut [Option<Gateway>]) {
        let index = self.rng.below(self.logs.len());
        let log = &mut self.logs[index];
        let kept = log.start as usize + self.rng.below(log.cells.len() - log.start as usize + 1);
        log.cells.truncate(kept);
        log.cut = true;
        self.segment += 1;
        self.begins.remove(&(index as i32));
        for gateway in gateways.iter_mut().flatten() {
            gateway.fetched_at.remove(&(index as i32));
        }
    }

    pub(super) fn heal(&mut self, gateways: &[Option<Gateway>]) {
        for (partition, log) in (0i32..).zip(&mut self.logs).filter(|(_, log)| log.cut) {
            let end = log.end();
            let old = |of: &str| self.ids && of != label(self.real.incarnation);
            let committed = self.committed.get(&partition).is_none_or(|(offset, of)| *offset <= end || old(of));
            let beyond = |commit: &OffsetCommitRequest| {
                let mut partitions = commit.topics.iter().flat_map(|topic| &topic.partitions);
                partitions.any(|told| told.partition_index == partition && told.committed_offset > end)
            };
            let coming = |pending: &Pending| match &pending.request {
                Request::Cold(Kind::OffsetCommit(commit)) => {
                    matches!(pending.stage, Stage::Going) && pending.of == self.real.incarnation && beyond(commit)
                }
                _ => false,
            };
            let mut readers =
                gateways.iter().flatten().filter(|gateway| gateway.member.assignment().contains(&partition));
            let noticed = readers.all(|gateway| gateway.fetched_at.get(&partition).is_some_and(|at| *at <= end));
            log.cut = !(committed && noticed && !self.wire.iter().any(coming));
        }
    }

    /// The last records, which everybody can read and commit; false while some log may not grow.
    pub(super) fn end(&mut self, gateways: &[Option<Gateway>]) -> bool {
        if !self.real.exists {
            self.make_again(gateways);
        }
        let ready = self.real.exists && self.logs.iter().all(|log| !log.cut);
        if ready {
            let segment = self.segment;
            self.logs.iter_mut().for_each(|log| log.append(segment, 1));
        }
        ready
    }

    pub(super) fn calm_down(&mut self) {
        self.trouble = false;
        self.behind_until = [self.now; NODES as usize];
        (self.denied_until, self.hidden_until, self.silent_until) = (self.now, self.now, self.now);
    }

    // What must hold

    /// A client got the record.
    pub(super) fn read(&mut self, partition: i32, offset: i64, segment: u32) {
        let cell = self.logs.get_mut(partition as usize).and_then(|log| log.cells.get_mut(offset as usize));
        if let Some(cell) = cell.filter(|cell| cell.segment == segment) {
            cell.read_count += 1;
        }
    }

    /// Whether no record of the topic as it is lies there.
    pub(super) fn is_void(&self, of: u8, partition: i32, offsets: Range<i64>) -> bool {
        if of != self.real.incarnation {
            return true;
        }
        let Some(log) = self.logs.get(partition as usize).filter(|log| !log.cut && offsets.end <= log.end()) else {
            return true;
        };
        offsets.into_iter().all(|at| at < log.start || log.cells[at as usize].segment == MARKER)
    }

    /// Who has a share of the group's generation begins where the group had committed when the generation began.
    pub(super) fn check_begin(&self, gateway: &Gateway, partition: i32, offset: i64) {
        let current = gateway.member.membership.identity().is_some_and(|(id, of)| self.coordinator.is_current(id, of));
        let knowledge = &gateway.knowledge;
        let knew = knowledge.anew_at.is_none_or(|at| at < self.generation_at.1);
        if self.ids && current && knew && knowledge.incarnation == self.real.incarnation {
            let begin = self.begins.get(&partition).copied().unwrap_or(0);
            assert!(offset >= begin, "{partition}@{offset} is handed out, {begin} was committed before");
        }
    }

    fn check_commit(&self, partition: i32, offset: i64, of: &str, known: u8) {
        let of_now = if self.ids { of == label(self.real.incarnation) } else { known == self.real.incarnation };
        if !of_now || !self.real.exists || offset == 0 {
            return;
        }
        let log = self.logs.get(partition as usize);
        if log.is_none() {
            eprintln!("ids {} real {:?} known {known} of {of}", self.ids, self.real);
        }
        let log =
            log.unwrap_or_else(|| panic!("{partition}@{offset} was committed, of {} partitions", self.logs.len()));
        if !log.cut {
            assert!(offset <= log.end(), "{partition}@{offset} was committed, which ends at {}", log.end());
            assert!(log.is_settled(0..offset), "{partition}@{offset} was committed, and nobody read some of it");
        }
    }

    /// What is not as it must be in the end.
    pub(super) fn complaint(&self) -> Option<String> {
        for (partition, log) in (0i32..).zip(&self.logs) {
            if !log.is_settled(0..log.end()) {
                return Some(format!("{partition} was not read to its end: {log:?}"));
            }
            let Some((offset, of)) = self.committed.get(&partition) else {
                return Some(format!("{partition} was not committed"));
            };
            if self.ids && *of != label(self.real.incarnation) {
                return Some(format!("{partition}@{offset} is committed of {of}"));
            }
            let last = log.cells.iter().rposition(|cell| cell.segment != MARKER).map_or(0, |at| at as i64 + 1);
            if !(last..=log.end()).contains(offset) {
                return Some(format!("{partition}@{offset} is committed, it ends at {last}"));
            }
        }
        None
    }

    pub(super) fn read_more_than_once(&self) -> usize {
        self.logs.iter().flat_map(|log| &log.cells).filter(|cell| cell.read_count > 1).count()
    }

    // The wire

    fn later(&mut self) -> Instant {
        let slow = 8 * self.errors;
        let ms = if self.one_in(slow) { 4_000 } else { 30 };
        self.within(ms) + Duration::from_millis(1)
    }

    /// Takes what the gateway sends.
    pub(super) fn post(&mut self, gateway: &mut Gateway) {
        let process = gateway.process;
        let of = gateway.knowledge.incarnation;
        for sent in gateway.knowledge.sent.drain(..) {
            self.keys += 1;
            let at = self.later();
            self.wire.push(Pending {
                key: self.keys,
                gateway: gateway.index,
                process,
                token: sent.token,
                node: sent.node,
                request: sent.request,
                of,
                at,
                deadline: self.now + sent.timeout,
                waited: false,
                unwanted: false,
                stage: Stage::Going,
            });
        }
        for token in gateway.knowledge.cancelled.drain(..) {
            let mut wire = self.wire.iter_mut();
            if let Some(pending) = wire.find(|pending| pending.process == process && pending.token == token) {
                pending.unwanted = true;
            }
        }
        self.ask_metadata(gateway);
    }

    fn ask_metadata(&mut self, gateway: &mut Gateway) {
        if self.rng.below(100) == 0 {
            gateway.knowledge.ask_at = Some(self.now);
        }
        let now = self.now;
        if gateway.knowledge.news.is_some() || gateway.knowledge.ask_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        if self.one_in(10) {
            gateway.knowledge.ask_at = Some(now + Duration::from_millis(500));
            return;
        }
        let node = 1 + self.rng.below(NODES as usize) as i32;
        let news = match self.view_of(node) {
            _ if now < self.denied_until => News::NotAllowed,
            view if now < self.hidden_until || !view.exists => News::NoSuchTopic,
            view => News::Topic(view),
        };
        gateway.knowledge.news = Some((self.later(), news));
    }

    fn view_of(&self, node: i32) -> View {
        if self.now < self.behind_until[node as usize - 1] { self.before } else { self.real }
    }

    fn log(&self, view: &View, partition: i32) -> Option<&Log> {
        let of_now = self.real.exists && view.incarnation == self.real.incarnation;
        let logs = if of_now { &self.logs } else { &self.old_logs };
        logs.get(partition as usize).filter(|_| view.exists && partition < view.partitions)
    }

    /// What has arrived is answered, what was answered comes back.
    pub(super) fn work(&mut self, gateways: &mut [Option<Gateway>]) {
        self.coordinator.tick(self.now);
        self.collect_answers();
        let mut at = 0;
        while at < self.wire.len() {
            if self.wire[at].at > self.now {
                at += 1;
                continue;
            }
            let mut pending = self.wire.swap_remove(at);
            let (loss, lost) = (25 * self.errors, || Err(RequestError::Timeout { sent: true }));
            pending.stage = match std::mem::replace(&mut pending.stage, Stage::Parked) {
                Stage::Coming(reply) => {
                    self.deliver(&pending, *reply, gateways);
                    continue;
                }
                Stage::Parked => Stage::Coming(Box::new(lost())),
                Stage::Going if self.one_in(loss) || (pending.node.is_none() && self.now < self.silent_until) => {
                    pending.at = self.later();
                    Stage::Coming(Box::new(lost()))
                }
                Stage::Going => match self.handle(&pending, gateways) {
                    Some(reply) => {
                        pending.at = self.later();
                        Stage::Coming(Box::new(if self.one_in(loss) { lost() } else { Ok(reply) }))
                    }
                    None => match &pending.request {
                        Request::Fetch(fetch) => {
                            pending.waited = true;
                            pending.at = self.now + Duration::from_millis(fetch.max_wait_ms as u64);
                            Stage::Going
                        }
                        _ => {
                            pending.at = pending.deadline;
                            Stage::Parked
                        }
                    },
                },
            };
            self.wire.push(pending);
        }
        self.collect_answers();
    }

    /// The group has come so far that parked requests are answered.
    fn collect_answers(&mut self) {
        for (key, answer) in std::mem::take(&mut self.coordinator.answers) {
            let at = self.later();
            if let Some(pending) = self.wire.iter_mut().find(|pending| pending.key == key) {
                (pending.at, pending.stage) = (at, Stage::Coming(Box::new(Ok(answer))));
            }
        }
        if self.generation_at.0 != self.coordinator.generation {
            self.generation_at = (self.coordinator.generation, self.now);
            let ids = self.ids.then(|| label(self.real.incarnation));
            let is_whole = |partition: &i32| self.logs.get(*partition as usize).is_some_and(|log| !log.cut);
            let believed = |of: &String| ids.as_ref().is_none_or(|id| id == of);
            let committed = self.committed.iter().filter(|(partition, (_, of))| is_whole(partition) && believed(of));
            self.begins = committed.map(|(partition, (offset, _))| (*partition, *offset)).collect();
        }
    }

    fn deliver(&mut self, pending: &Pending, reply: Result<Response, RequestError>, gateways: &mut [Option<Gateway>]) {
        let is_there = |gateway: &&mut Gateway| gateway.process == pending.process && !pending.unwanted;
        let Some(gateway) = gateways[pending.gateway].as_mut().filter(is_there) else { return };
        if reply.as_ref().is_ok_and(is_recognised) {
            gateway.heard_at = self.now;
        }
        gateway.stirred = true;
        let ours = gateway.member.answered(pending.token, reply, &mut gateway.knowledge, self.now);
        let leaves = matches!(pending.request, Request::Cold(Kind::LeaveGroup(_))); // its member may be out by now
        assert!(ours || leaves, "a member waits for every request it did not cancel: {:?}", pending.request);
        self.post(gateway);
    }

    /// `None`: it waits.
    fn handle(&mut self, pending: &Pending, gateways: &mut [Option<Gateway>]) -> Option<Response> {
        let failing = 30 * self.errors;
        let coordinator = if self.one_in(failing) { ErrorCode::NOT_COORDINATOR } else { NONE };
        let (key, now) = (pending.key, self.now);
        Some(match &pending.request {
            Request::Fetch(fetch) => return self.fetch(pending, fetch, gateways),
            Request::Cold(Kind::JoinGroup(_)) if coordinator != NONE => join_error(coordinator, ""),
            Request::Cold(Kind::JoinGroup(join)) => {
                let id_first = self.rng.below(2) == 0;
                return self.coordinator.join(key, join, id_first, now);
            }
            Request::Cold(Kind::SyncGroup(_)) if coordinator != NONE => sync_error(coordinator),
            Request::Cold(Kind::SyncGroup(sync)) => return self.coordinator.sync(key, sync, now),
            Request::Cold(Kind::Heartbeat(_)) if coordinator != NONE => heartbeat(coordinator),
            Request::Cold(Kind::Heartbeat(beat)) => {
                heartbeat(self.coordinator.heartbeat(beat.member_id.as_str(), beat.generation_id, now))
            }
            Request::Cold(Kind::LeaveGroup(leave)) => {
                self.coordinator.leave(leave.members[0].member_id.as_str(), now);
                left()
            }
            Request::Cold(Kind::OffsetFetch(_)) if coordinator != NONE => offsets_error(coordinator),
            Request::Cold(Kind::OffsetFetch(fetch)) => {
                let asked = &fetch.topics.as_ref().unwrap()[0].partition_indexes;
                let nothing = || (-1, String::new());
                let found = |p: &i32| (*p, self.committed.get(p).cloned().unwrap_or_else(nothing));
                offsets_each(asked.iter().map(found).collect())
            }
            Request::Cold(Kind::OffsetCommit(commit)) => self.commit(pending, commit, coordinator),
            Request::Cold(Kind::ListOffsets(list)) => {
                let node = pending.node.expect("asked of a leader");
                let view = self.view_of(node);
                let asked = list.topics[0].partitions.iter();
                let found = asked.map(|p| match self.log(&view, p.partition_index) {
                    Some(log) if leader(p.partition_index, view.epoch) == node => {
                        (p.partition_index, if p.timestamp == -2 { log.start } else { log.end() })
                    }
                    _ => (p.partition_index, -1),
                });
                let found: Vec<(i32, i64)> = found.collect();
                let led = found.iter().all(|(_, offset)| *offset >= 0);
                listed(&found, if led { NONE } else { ErrorCode::NOT_LEADER_OR_FOLLOWER })
            }
            other => panic!("unexpected {other:?}"),
        })
    }

    fn commit(&mut self, pending: &Pending, commit: &OffsetCommitRequest, coordinator: ErrorCode) -> Response {
        let partitions = &commit.topics[0].partitions;
        let asked: Vec<i32> = partitions.iter().map(|partition| partition.partition_index).collect();
        let generation = commit.generation_id_or_member_epoch;
        let code = match coordinator {
            NONE => self.coordinator.commit(commit.member_id.as_str(), generation, self.now),
            code => code,
        };
        if code == NONE && !self.real.exists && self.rng.below(2) == 0 {
            return committed(&asked, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        }
        for partition in partitions.iter().filter(|_| code == NONE) {
            let of = partition.committed_metadata.as_deref().unwrap_or_default().to_owned();
            self.check_commit(partition.partition_index, partition.committed_offset, &of, pending.of);
            self.committed.insert(partition.partition_index, (partition.committed_offset, of));
        }
        committed(&asked, code)
    }

    fn fetch(&mut self, pending: &Pending, fetch: &FetchRequest, gateways: &mut [Option<Gateway>]) -> Option<Response> {
        let asked = &fetch.topics[0];
        let node = pending.node.expect("asked of a leader");
        let view = self.view_of(node);
        let here = asked.id == NO_TOPIC_ID || (self.ids && asked.id == [view.incarnation; 16]);
        let back = self.rng.below(4) as i64;
        let mut found = Vec::new();
        let mut something = false;
        for partition in &asked.partitions {
            let log = self.log(&view, partition.index);
            let code = if here { fetch_error(partition, node, &view, log) } else { ErrorCode::UNKNOWN_TOPIC_ID };
            let mut records = Bytes::new();
            if let Some(log) = log.filter(|log| code == NONE && partition.fetch_offset < log.end()) {
                records = log.batches_from(partition.fetch_offset, back);
            }
            something |= code != NONE || !records.is_empty();
            found.push((partition.index, code, records));
        }
        if !something && !pending.waited {
            return None;
        }
        let of_now = view.incarnation == self.real.incarnation;
        if let Some(gateway) = gateways[pending.gateway].as_mut().filter(|gateway| gateway.process == pending.process) {
            for partition in asked.partitions.iter().filter(|_| here && of_now) {
                gateway.fetched_at.insert(partition.index, partition.fetch_offset);
            }
        }
        let damage = 100 * self.errors;
        if self.one_in(damage)
            && let Some((_, _, records)) = found.iter_mut().find(|(.., records)| !records.is_empty())
        {
            let mut bytes = records.to_vec();
            *bytes.last_mut().expect("not empty") ^= 1;
            *records = bytes.into();
        }
        let Response::Fetch(mut answer) = fetched(&found) else { unreachable!() };
        if asked.id != NO_TOPIC_ID {
            let FetchedTopic { partitions, .. } = answer.topics.remove(0);
            answer.topics.push(FetchedTopic { name: Bytes::new(), id: asked.id, partitions });
        }
        Some(Response::Fetch(answer))
    }
}

fn fetch_error(asked: &FetchPartition, node: i32, view: &View, log: Option<&Log>) -> ErrorCode {
    match log {
        None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        _ if leader(asked.index, view.epoch) != node => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        _ if asked.current_leader_epoch > view.epoch => ErrorCode::UNKNOWN_LEADER_EPOCH,
        _ if asked.current_leader_epoch < view.epoch => ErrorCode::FENCED_LEADER_EPOCH,
        Some(log) if !(log.start..=log.end()).contains(&asked.fetch_offset) => ErrorCode::OFFSET_OUT_OF_RANGE,
        Some(_) => NONE,
    }
}

/// The coordinator took the member for one of its own.
fn is_recognised(response: &Response) -> bool {
    let code = match response {
        Response::Cold(ResponseKind::JoinGroup(join)) => join.error_code,
        Response::Cold(ResponseKind::SyncGroup(sync)) => sync.error_code,
        Response::Cold(ResponseKind::Heartbeat(beat)) => beat.error_code,
        Response::Cold(ResponseKind::OffsetCommit(commit)) => commit.topics[0].partitions[0].error_code,
        _ => return false,
    };
    matches!(ErrorCode(code), NONE | ErrorCode::REBALANCE_IN_PROGRESS)
}
