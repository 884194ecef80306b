//! A gateway: its member, what its client believes of the topic, and the clients that its records go to.
//!
//! [`Knowledge`] believes as `client::metadata` does, and is denied, behind and mistaken as that is. The desk hands records
//! out as the gateway's does: what a client never got comes back and goes to another one first, and the watermark waits
//! for the slowest.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use kafka_wire::messages::fetch::TopicId;

use super::super::cluster::Cluster;
use super::super::{GroupMember, MemberState};
use super::world::{View, World, leader};
use super::{SESSION_TIMEOUT, config};
use crate::limits::{OLDER_NEWS_AFTER, TOPIC_GONE_AFTER, TOPIC_MISSING_REASK};
use crate::rng::Rng;
use crate::{Lane, Request, RequestToken, Target, TopicIdx, TopicState};

/// Records with clients before the desk takes no more.
const HELD_MAX: usize = 40;

/// What a broker says of the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Topic(View),
    NoSuchTopic,
    NotAllowed,
}

#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) token: RequestToken,
    pub(super) node: Option<i32>,
    pub(super) request: Request,
    pub(super) timeout: Duration,
}

/// The client.
#[derive(Debug)]
pub(super) struct Knowledge {
    ids: bool,
    state: TopicState,
    id: Option<u8>,
    id_before: Option<u8>,
    /// Whose partitions and epoch these are; without ids only the simulation knows.
    pub(super) incarnation: u8,
    partitions: i32,
    epoch: i32,
    has_leaders: bool,
    denied_since: Option<Instant>,
    older_since: Option<Instant>,
    /// When to ask, and what is on its way.
    pub(super) ask_at: Option<Instant>,
    pub(super) news: Option<(Instant, News)>,
    /// When it last took the topic for another one.
    pub(super) anew_at: Option<Instant>,
    pub(super) sent: Vec<Outgoing>,
    pub(super) cancelled: Vec<RequestToken>,
    tokens: u64,
}

impl Knowledge {
    fn new(ids: bool) -> Knowledge {
        Knowledge {
            ids,
            state: TopicState::Pending,
            id: None,
            id_before: None,
            incarnation: 0,
            partitions: 0,
            epoch: -1,
            has_leaders: false,
            denied_since: None,
            older_since: None,
            ask_at: None,
            news: None,
            anew_at: None,
            sent: Vec::new(),
            cancelled: Vec::new(),
            tokens: 0,
        }
    }

    /// It knows the topic as it is.
    pub(super) fn is_up_to_date(&self, real: &View) -> bool {
        let known = (self.incarnation, self.epoch, self.partitions) == (real.incarnation, real.epoch, real.partitions);
        known && self.state == TopicState::Known
    }

    pub(super) fn is_missing(&self) -> bool {
        self.state == TopicState::Missing
    }

    pub(super) fn hear(&mut self, news: News, now: Instant) {
        match news {
            News::Topic(view) => self.hear_of(view, now),
            News::NotAllowed => self.deny(TopicState::Denied, now),
            News::NoSuchTopic => {
                let since = *self.denied_since.get_or_insert(now);
                let known = self.state == TopicState::Known;
                if if known { now >= since + TOPIC_GONE_AFTER } else { now > since } {
                    self.deny(TopicState::Missing, now);
                } else {
                    self.ask_at = Some(now + TOPIC_MISSING_REASK);
                }
            }
        }
    }

    fn deny(&mut self, state: TopicState, now: Instant) {
        self.denied_since = Some(now);
        self.state = state;
        self.has_leaders = false;
    }

    fn hear_of(&mut self, view: View, now: Instant) {
        let told_id = self.ids.then_some(view.incarnation);
        let same_id = told_id.is_some() && told_id == self.id;
        let other_id = told_id.is_some() && self.id.is_some() && told_id != self.id;
        let of_before = other_id && told_id == self.id_before;
        let older = of_before || view.partitions < self.partitions || view.epoch < self.epoch;
        let mut anew = (other_id && !of_before) || (self.state == TopicState::Missing && !same_id);
        let mut overruled = false;
        if older && !anew {
            let since = *self.older_since.get_or_insert(now);
            overruled = now >= since + if same_id { TOPIC_GONE_AFTER } else { OLDER_NEWS_AFTER };
            anew = overruled && !same_id;
            if !overruled {
                self.ask_at = Some(now + TOPIC_MISSING_REASK);
            }
        }
        if anew {
            self.id_before = self.id.take();
            (self.has_leaders, self.epoch) = (false, -1);
            self.anew_at = Some(now).filter(|_| self.incarnation > 0);
        }
        if overruled || !older {
            self.older_since = None;
        }
        if told_id.is_some() && (!of_before || anew) {
            self.id = told_id;
        }
        self.denied_since = None;
        self.partitions = match (anew || overruled, of_before) {
            (true, _) => view.partitions,
            (false, true) => self.partitions,
            (false, false) => self.partitions.max(view.partitions),
        };
        if anew || overruled || !(of_before || view.epoch < self.epoch) {
            (self.has_leaders, self.epoch) = (true, view.epoch);
            self.incarnation = view.incarnation;
        }
        self.state = TopicState::Known;
    }
}

impl Cluster for Knowledge {
    fn request(
        &mut self,
        target: Target<'_>,
        _: Lane,
        request: Request,
        timeout: Duration,
        _: Instant,
    ) -> RequestToken {
        self.tokens += 1;
        let token = RequestToken(self.tokens);
        let node = if let Target::Broker(node) = target { Some(node) } else { None };
        self.sent.push(Outgoing { token, node, request, timeout });
        token
    }
    fn cancel(&mut self, token: RequestToken) {
        self.cancelled.push(token);
    }
    fn invalidate_coordinator(&mut self, _: &str) {}
    fn refresh_metadata(&mut self, now: Instant) {
        self.ask_at = Some(now);
    }
    fn topic(&mut self, _: &str) -> TopicIdx {
        TopicIdx(0)
    }
    fn topic_state(&self, _: TopicIdx) -> TopicState {
        self.state
    }
    fn partition_count(&self, _: TopicIdx) -> Option<i32> {
        (self.state == TopicState::Known).then_some(self.partitions)
    }
    fn topic_id(&self, _: TopicIdx) -> Option<TopicId> {
        self.id.map(|id| [id; 16])
    }
    fn leader(&self, _: TopicIdx, partition: i32) -> Option<i32> {
        (self.has_leaders && partition < self.partitions).then(|| leader(partition, self.epoch))
    }
    fn leader_epoch(&self, _: TopicIdx, partition: i32) -> Option<i32> {
        (self.epoch >= 0 && partition < self.partitions).then_some(self.epoch)
    }
}

/// A record with a client, or back from one.
#[derive(Debug)]
struct Held {
    offset: i64,
    segment: u32,
    /// When its client got it, or turned out to be gone.
    at: Instant,
    arrives: bool,
    done: bool,
}

#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) index: usize,
    /// Tells this process from those before it in its place.
    pub(super) process: u64,
    pub(super) knowledge: Knowledge,
    pub(super) member: GroupMember,
    /// A reply of the coordinator last came in.
    pub(super) heard_at: Instant,
    /// It runs its member only when it must: when its deadline has come, when a reply has, when a client's fate is known.
    /// The others also do at any other time, as when somebody else's poll comes.
    punctual: bool,
    /// A reply has come, or more may be had than the last poll took.
    pub(super) stirred: bool,
    /// What the client knows has changed since the member last looked.
    has_news: bool,
    /// While it stays away.
    away_until: Option<Instant>,
    /// When it is not polled: nobody is there.
    deserted_until: Instant,
    /// Partition and offset of the last fetch that each partition's leader answered since its log was cut.
    pub(super) fetched_at: BTreeMap<i32, i64>,
    held: BTreeMap<i32, VecDeque<Held>>,
    /// Next offset that may be handed out.
    next: BTreeMap<i32, i64>,
}

impl Gateway {
    pub(super) fn new(index: usize, process: u64, world: &mut World) -> Gateway {
        let now = world.now;
        let mut knowledge = Knowledge::new(world.ids);
        knowledge.ask_at = Some(now);
        Gateway {
            index,
            process,
            knowledge,
            member: GroupMember::new(config(), process, now),
            heard_at: now,
            punctual: world.rng.below(2) == 0,
            stirred: true,
            has_news: false,
            away_until: None,
            deserted_until: now,
            fetched_at: BTreeMap::new(),
            held: BTreeMap::new(),
            next: BTreeMap::new(),
        }
    }

    pub(super) fn stay_away(&mut self, until: Instant) {
        self.away_until = Some(until);
    }

    pub(super) fn nobody_polls(&mut self, until: Instant) {
        self.deserted_until = until;
    }

    /// Commits and leaves; a new member joins when it comes back.
    pub(super) fn leave(&mut self, until: Instant, now: Instant) {
        self.away_until = Some(until);
        self.member.begin_leaving(&mut self.knowledge, now);
    }

    pub(super) fn is_away(&self) -> bool {
        self.away_until.is_some()
    }

    pub(super) fn step(&mut self, world: &mut World) {
        let now = world.now;
        if self.member.state() == MemberState::Left && self.away_until.is_none_or(|until| until <= now) {
            self.forget_revoked();
            self.away_until = None;
            self.member = GroupMember::new(config(), world.rng.next(), now);
        }
        if let Some((_, news)) = self.knowledge.news.take_if(|(at, _)| *at <= now) {
            self.knowledge.hear(news, now);
            self.has_news = true;
        }
        // As the gateway does: at deadlines, before and after polls, and by itself after replies.
        let polls = if self.punctual { self.stirred || self.is_fate_known(now) } else { world.rng.below(2) == 0 };
        let serves = polls && self.deserted_until <= now;
        let due = self.member.next_deadline().is_some_and(|at| at <= now);
        if serves || due {
            self.tick(due, now);
        }
        if serves {
            self.stirred = false;
            self.serve(world);
            self.member.step(&mut self.knowledge, now);
        }
        assert!(!matches!(self.member.state(), MemberState::Failed(_)), "{:?}", self.member.state());
        let deadline = self.member.next_deadline();
        assert!(deadline.is_none_or(|at| at > now), "a driver would spin with {:?}", self.member);
    }

    fn tick(&mut self, due: bool, now: Instant) {
        let called_for = std::mem::take(&mut self.has_news) || due;
        let requests = |knowledge: &Knowledge| (knowledge.sent.len(), knowledge.cancelled.len());
        let before = (requests(&self.knowledge), self.member.state());
        self.member.step(&mut self.knowledge, now);
        let after = (requests(&self.knowledge), self.member.state());
        assert!(called_for || before == after, "a driver would have missed it: {before:?}, then {after:?}");
    }

    fn is_fate_known(&self, now: Instant) -> bool {
        self.held.values().flatten().any(|record| !record.done && record.at <= now)
    }

    fn forget_revoked(&mut self) {
        for partition in self.member.take_revoked() {
            self.held.remove(&partition);
            self.next.remove(&partition);
        }
    }

    fn serve(&mut self, world: &mut World) {
        self.forget_revoked();
        self.settle(world);
        let count: usize = self.held.values().map(VecDeque::len).sum();
        let most = 1 + world.rng.below(12);
        if count + most > HELD_MAX {
            return;
        }
        for fetched in self.member.poll_records(most, usize::MAX) {
            self.stirred = true;
            let (partition, offset) = (fetched.partition, fetched.record.offset);
            self.check_hand_out(partition, offset, world);
            let value = fetched.record.value.expect("every record has one");
            let segment = u32::from_be_bytes(value[..].try_into().expect("four bytes"));
            let (at, arrives) = fate(world);
            self.held.entry(partition).or_default().push_back(Held { offset, segment, at, arrives, done: false });
        }
        self.settle(world);
    }

    /// Clients get what they asked for, or turn out to be gone, and others ask.
    fn settle(&mut self, world: &mut World) {
        let now = world.now;
        for (partition, held) in &mut self.held {
            for record in held.iter_mut().filter(|record| !record.done && record.at <= now) {
                if record.arrives {
                    record.done = true;
                    world.read(*partition, record.offset, record.segment);
                } else {
                    (record.at, record.arrives) = fate(world);
                }
            }
            let mut watermark = None;
            while held.front().is_some_and(|record| record.done) {
                watermark = held.pop_front().map(|record| record.offset + 1);
            }
            if let Some(watermark) = watermark {
                self.member.delivered(*partition, watermark);
            }
        }
    }

    fn check_hand_out(&mut self, partition: i32, offset: i64, world: &World) {
        let who = format!("gateway {} hands out {partition}@{offset}", self.index);
        assert!(self.member.assignment().contains(&partition), "{who}, which is not its own");
        assert!(world.now < self.heard_at + SESSION_TIMEOUT, "{who} a session after the coordinator was heard");
        let next = self.next.insert(partition, offset + 1);
        if let Some(next) = next.filter(|next| *next != offset) {
            assert!(next < offset, "{who} after {next}, and nobody took the partition away");
            let of = self.knowledge.incarnation;
            assert!(world.is_void(of, partition, next..offset), "{who} after {next}, and skips records");
        }
        world.check_begin(self, partition, offset);
    }
}

/// When a client gets its record, and whether it does.
fn fate(world: &mut World) -> (Instant, bool) {
    let span = |rng: &mut Rng, ms: usize| Duration::from_millis(rng.below(ms) as u64);
    if !world.trouble {
        return (world.now, true);
    }
    match world.rng.below(24) {
        0..=3 => (world.now + span(&mut world.rng, 1_500), true),
        4..=6 => (world.now + span(&mut world.rng, 500), false),
        7 => (world.now + span(&mut world.rng, 12_000), false),
        _ => (world.now, true),
    }
}
