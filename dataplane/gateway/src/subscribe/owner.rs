//! The groups that live on this shard, each a [`Subscription`]: polls in, answers out, Kafka's replies to whom they belong.
//!
//! Nothing here is searched. A subscription that has something to do is on its cluster's list of the stirred or in its
//! order of deadlines; requests to Kafka carry its index and their replies come back with it. So what a publish or a
//! reply costs does not depend on how many groups and polls wait.

use crate::codes;
use crate::env::Env;
use crate::exchange::reply::{Delivery, Value};
use crate::kafka::Clusters;
use crate::limits::{GROUPS_MAX, GROUPS_PER_APP_MAX};
use crate::refusal::Refusal;
use crate::subscribe::framing::{Form, Framing};
use crate::subscribe::limits::TURN_BYTES;
use crate::subscribe::mail::{PollAnswer, PollOutcome, PollRequest, Written};
use crate::subscribe::memory::{self, Memory};
use crate::subscribe::poll_queue::{Poll, PollResult};
use crate::subscribe::subscription::Subscription;
use crate::subscribe::subscriptions::RESET_IGNORED;
use foldhash::{HashMap, HashMapExt};
use kafka_client::group::{GroupConfig, Reset};
use kafka_client::{Asker, Client, RequestError, RequestToken, Response};
use runtime::budget::Reservation;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// While draining, what was handed out gets so long to reach the network before its group commits and leaves.
const DELIVERY_GRACE: Duration = Duration::from_millis(200);

/// A subscription that lives here.
struct Entry {
    cluster: usize,
    /// Group and topic.
    key: (String, Arc<str>),
    subscription: Subscription,
    /// How to answer the polls that wait.
    polls: HashMap<u64, Waiting>,
    /// On its cluster's list of the stirred.
    stirred: bool,
    /// Its place in its cluster's order of deadlines.
    deadline: Option<Instant>,
    /// Told to commit and leave.
    leaving: bool,
    /// The app it belongs to, and what its records keep in memory.
    tenant: u32,
    held: Reservation,
    /// Since when it rests with records fetched ahead.
    rests_since: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Waiting {
    origin: usize,
    form: Form,
    strip_2017_tags: bool,
    asks_reset: bool,
}

/// Cluster, group and topic, by their names in Kafka.
type Key = (usize, String, Arc<str>);

/// An answer whose framing goes on in the next turn.
struct Unframed {
    origin: usize,
    poll: u64,
    delivery: Delivery,
    framing: Framing,
    reset_ignored: bool,
}

/// The subscriptions of one cluster that have something to do.
#[derive(Default)]
struct Agenda {
    stirred: Vec<usize>,
    deadlines: BTreeSet<(Instant, usize)>,
}

/// The app a group belongs to: `appid.group`, and neither has a dot.
fn app_of(group: &str) -> &str {
    group.split('.').next().unwrap_or_default()
}

/// One per shard.
#[derive(Default)]
pub struct Owner {
    entries: RefCell<Slab<Entry>>,
    agendas: RefCell<Vec<Agenda>>,
    by_key: RefCell<HashMap<Key, usize>>,
    by_poll: RefCell<HashMap<u64, usize>>,
    /// Entries of each app.
    of_app: RefCell<HashMap<String, u32>>,
    unframed: RefCell<VecDeque<Unframed>>,
    memory: Memory,
    /// While draining: when the groups are left, once the last answers had time to reach the network.
    leave_at: Cell<Option<Instant>>,
}

/// An answer and the shard it goes to.
pub type Answered = (usize, PollAnswer);

impl Owner {
    /// A poll for a subscription that lives here, from this shard or another. `Some`: it is answered at once.
    pub fn enqueue(&self, env: &Env, clusters: &Clusters, request: PollRequest, now: Instant) -> Option<Answered> {
        let (poll, origin) = (request.poll, request.origin);
        let at_once = |outcome| Some((origin, PollAnswer { poll, outcome }));
        if self.leave_at.get().is_some() {
            return at_once(PollOutcome::Empty { reset_ignored: false });
        }
        let key = (request.cluster, request.group.clone(), request.topic.clone());
        let known = self.by_key.borrow().get(&key).copied();
        let index = match known.map_or_else(|| self.open(env, &request, key, now), Ok) {
            Ok(index) => index,
            Err(refusal) => return at_once(PollOutcome::Refused(refusal)),
        };
        let mut entries = self.entries.borrow_mut();
        let entry = &mut entries[index];
        let waiting = Waiting {
            origin,
            form: request.form,
            strip_2017_tags: request.strip_2017_tags,
            asks_reset: request.reset.is_some(),
        };
        entry.polls.insert(poll, waiting);
        self.by_poll.borrow_mut().insert(poll, index);
        let PollRequest { batch, max_bytes, deadline, filter, reset, .. } = request;
        entry.subscription.enqueue(Poll { id: poll, batch, max_bytes, deadline, filter, reset }, now);
        self.stir(clusters, index, entry);
        None
    }

    /// Opens a subscription, unless the app or this shard has as many as may be: clients choose the names of groups.
    fn open(&self, env: &Env, request: &PollRequest, key: Key, now: Instant) -> Result<usize, Refusal> {
        let mut of_app = self.of_app.borrow_mut();
        let of_app = of_app.entry(app_of(&request.group).to_owned()).or_default();
        let app_is_full = *of_app >= GROUPS_PER_APP_MAX;
        if app_is_full || self.entries.borrow().len() >= GROUPS_MAX {
            env.metrics.groups_full(app_is_full);
            let message = "this gateway is a member of as many groups as it may be; groups that nobody polls are left";
            return Err(Refusal::new(codes::TOO_MANY_GROUPS, message));
        }
        *of_app += 1;
        let config = GroupConfig {
            reset: request.reset.unwrap_or(Reset::Oldest),
            ..GroupConfig::new(request.group.as_str(), &*request.topic)
        };
        let entry = Entry {
            cluster: request.cluster,
            key: (request.group.clone(), request.topic.clone()),
            subscription: Subscription::new(config, request.strip_2017_tags, runtime::clock::seed(), now),
            polls: HashMap::new(),
            stirred: false,
            deadline: None,
            leaving: false,
            tenant: request.tenant,
            held: memory::charge(env, request.tenant, 0),
            rests_since: None,
        };
        let index = self.entries.borrow_mut().insert(entry);
        self.by_key.borrow_mut().insert(key, index);
        tracing::info!(shard = env.shard, group = request.group, topic = %request.topic, "subscription opened");
        Ok(index)
    }

    /// The client of a poll is gone.
    pub fn cancel(&self, clusters: &Clusters, poll: u64) {
        let Some(index) = self.by_poll.borrow_mut().remove(&poll) else { return };
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(index) else { return };
        entry.polls.remove(&poll);
        entry.subscription.cancel(poll);
        self.stir(clusters, index, entry);
    }

    /// An answer reached the network, or its client was gone.
    pub fn settle(&self, clusters: &Clusters, delivery: Delivery, written: Written) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(delivery.subscription) else { return };
        match written {
            Written::Whole => entry.subscription.handed_over(delivery.poll),
            Written::Not => entry.subscription.returned(delivery.poll),
        }
        self.stir(clusters, delivery.subscription, entry);
    }

    /// An answer of Kafka for the subscription that asked.
    pub fn on_reply(
        &self,
        client: &mut Client,
        token: RequestToken,
        reply: Result<Response, RequestError>,
        now: Instant,
    ) {
        let Some(index) = token.asker().index() else { return };
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(index) else { return };
        client.ask_as(token.asker());
        entry.subscription.on_reply(token, reply, client, now);
        self.put_on_list(index, entry);
    }

    /// Something of it changed: the next tick of its cluster looks at it.
    fn stir(&self, clusters: &Clusters, index: usize, entry: &mut Entry) {
        self.put_on_list(index, entry);
        clusters.at(entry.cluster).wake();
    }

    fn put_on_list(&self, index: usize, entry: &mut Entry) {
        if !std::mem::replace(&mut entry.stirred, true) {
            self.with_agenda(entry.cluster, |agenda| agenda.stirred.push(index));
        }
    }

    fn with_agenda<T>(&self, cluster: usize, act: impl FnOnce(&mut Agenda) -> T) -> T {
        let mut agendas = self.agendas.borrow_mut();
        if agendas.len() <= cluster {
            agendas.resize_with(cluster + 1, Agenda::default);
        }
        act(&mut agendas[cluster])
    }

    /// Who has something to do now: those that changed and those whose time has come.
    fn take_due(&self, cluster: usize, now: Instant) -> Vec<usize> {
        self.with_agenda(cluster, |agenda| {
            let mut due = std::mem::take(&mut agenda.stirred);
            while let Some((at, index)) = agenda.deadlines.first().copied().filter(|(at, _)| *at <= now) {
                agenda.deadlines.remove(&(at, index));
                due.push(index);
            }
            due
        })
    }

    /// Lets every subscription of this cluster that has something to do do it; the answers that came of it.
    pub fn tick(&self, env: &Env, clusters: &Clusters, cluster: usize, now: Instant) -> Vec<Answered> {
        let mut answers = Vec::new();
        let mut bytes_left = TURN_BYTES;
        self.frame_on(&mut bytes_left, &mut answers);
        let leaving = self.leave_at.get().is_some_and(|at| at <= now);
        if leaving {
            self.stir_all(cluster);
        }
        let due = self.take_due(cluster, now);
        if due.is_empty() {
            return answers;
        }
        let mut client = clusters.at(cluster).client.borrow_mut();
        let mut entries = self.entries.borrow_mut();
        for index in due {
            let Some(entry) = entries.get_mut(index) else { continue };
            // Once, though it may be due and stirred.
            if !std::mem::take(&mut entry.stirred) && entry.deadline.is_none_or(|at| at > now) {
                continue;
            }
            client.ask_as(Asker::of(index));
            if leaving && !entry.leaving {
                entry.leaving = true;
                entry.subscription.drain(&mut client, now);
            }
            self.make_room(env, clusters, &mut entries, index);
            let entry = &mut entries[index];
            self.work(env, index, entry, &mut client, &mut bytes_left, now);
            self.take_answers(env, index, entry, &mut bytes_left, &mut answers);
            if entry.subscription.is_finished() {
                let entry = entries.remove(index);
                self.close(env, index, entry);
                continue;
            }
            let deadline = entry.subscription.next_deadline();
            self.with_agenda(cluster, |agenda| {
                if let Some(old) = entry.deadline {
                    agenda.deadlines.remove(&(old, index));
                }
                agenda.deadlines.extend(deadline.map(|at| (at, index)));
            });
            entry.deadline = deadline;
        }
        client.ask_as(Asker::NOBODY);
        client.set_fetch_room(memory::ahead_of_shard(env));
        answers
    }

    /// One subscription's tick, and what it holds after it.
    fn work(
        &self,
        env: &Env,
        index: usize,
        entry: &mut Entry,
        client: &mut Client,
        bytes_left: &mut usize,
        now: Instant,
    ) {
        let subscription = &mut entry.subscription;
        let room = Memory::room(env, entry.tenant, entry.held.bytes(), subscription.is_live());
        let mut turn = self.memory.turn(index, *bytes_left, room);
        subscription.tick(client, room, &mut turn, now);
        *bytes_left = turn.bytes_left;
        if turn.is_short {
            self.memory.overdraw(index);
        } else if subscription.opened_bytes() == 0 {
            self.memory.settled(index);
        }
        self.count(index, entry);
    }

    /// What it holds is charged, and whoever rests on it is known.
    fn count(&self, index: usize, entry: &mut Entry) {
        entry.held.set(entry.subscription.held_bytes());
        let rests_since = entry.subscription.idle_since().filter(|_| entry.held.bytes() > 0);
        self.memory.rest(index, entry.tenant, entry.rests_since, rests_since);
        entry.rests_since = rests_since;
    }

    /// Somebody polls and memory is short: those let go who hold records that nobody polls.
    fn make_room(&self, env: &Env, clusters: &Clusters, entries: &mut Slab<Entry>, index: usize) {
        let (tenant, is_live) = (entries[index].tenant, entries[index].subscription.is_live());
        while is_live && let Some(other) = self.memory.to_let_go(env, tenant) {
            let entry = &mut entries[other];
            let before = entry.held.bytes();
            entry.subscription.release_records();
            self.count(other, entry);
            self.stir(clusters, other, entry);
            if entry.held.bytes() == before {
                return; // what it holds came back from clients, or is on its way to one
            }
        }
    }

    /// Goes on with answers that took more than their turn.
    fn frame_on(&self, bytes_left: &mut usize, answers: &mut Vec<Answered>) {
        let mut unframed = self.unframed.borrow_mut();
        while let Some(mut first) = unframed.pop_front() {
            if !first.framing.step(bytes_left) {
                unframed.push_front(first);
                return;
            }
            answers.push(first.finish());
        }
    }

    /// While the groups are left: each that was not told yet.
    fn stir_all(&self, cluster: usize) {
        for (index, entry) in self.entries.borrow_mut().iter_mut() {
            if entry.cluster == cluster && !entry.leaving {
                self.put_on_list(index, entry);
            }
        }
    }

    fn take_answers(
        &self,
        env: &Env,
        index: usize,
        entry: &mut Entry,
        bytes_left: &mut usize,
        answers: &mut Vec<Answered>,
    ) {
        while let Some((poll, result)) = entry.subscription.poll_answer() {
            self.by_poll.borrow_mut().remove(&poll);
            let Some(waiting) = entry.polls.remove(&poll) else { continue };
            let reset_ignored = waiting.asks_reset && entry.subscription.has_committed();
            let outcome = match result {
                PollResult::Records(records) => {
                    let delivery = Delivery { shard: env.shard, subscription: index, poll };
                    let framing = Framing::new(waiting.form, records, waiting.strip_2017_tags);
                    let mut answer = Unframed { origin: waiting.origin, poll, delivery, framing, reset_ignored };
                    let mut unframed = self.unframed.borrow_mut();
                    if unframed.is_empty() && answer.framing.step(bytes_left) {
                        answers.push(answer.finish());
                    } else {
                        unframed.push_back(answer);
                    }
                    continue;
                }
                PollResult::Empty => PollOutcome::Empty { reset_ignored },
                PollResult::Error(refusal) => PollOutcome::Refused(refusal),
            };
            answers.push((waiting.origin, PollAnswer { poll, outcome }));
        }
    }

    fn close(&self, env: &Env, index: usize, entry: Entry) {
        let (group, topic) = entry.key;
        tracing::info!(shard = env.shard, group, %topic, "subscription closed");
        let mut of_app = self.of_app.borrow_mut();
        if let Some(count) = of_app.get_mut(app_of(&group)) {
            *count -= 1;
            if *count == 0 {
                of_app.remove(app_of(&group));
            }
        }
        if let Some(at) = entry.deadline {
            self.with_agenda(entry.cluster, |agenda| agenda.deadlines.remove(&(at, index)));
        }
        self.memory.rest(index, entry.tenant, entry.rests_since, None);
        self.memory.settled(index);
        self.by_key.borrow_mut().remove(&(entry.cluster, group, topic));
    }

    /// When the next subscription of this cluster has something to do; a time that has passed means at once.
    pub fn next_deadline(&self, cluster: usize, now: Instant) -> Option<Instant> {
        if !self.unframed.borrow().is_empty() {
            return Some(now);
        }
        let deadline = self.with_agenda(cluster, |agenda| agenda.deadlines.first().map(|(at, _)| *at));
        // Once the groups are left, each has a deadline of its own.
        let leave_at = self
            .leave_at
            .get()
            .filter(|_| self.entries.borrow().iter().any(|(_, entry)| entry.cluster == cluster && !entry.leaving));
        [deadline, leave_at].into_iter().flatten().min()
    }

    /// Subscriptions here commit and leave once what they handed out is settled; further polls are answered empty.
    pub fn drain(&self, clusters: &Clusters, now: Instant) {
        self.leave_at.set(Some(now + DELIVERY_GRACE));
        clusters.iter().for_each(|cluster| cluster.wake());
    }

    /// No subscription lives here, and no answer of one is being made.
    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty() && self.unframed.borrow().is_empty()
    }

    /// Subscriptions that live here.
    pub fn len(&self) -> usize {
        self.entries.borrow().len()
    }
}

impl Unframed {
    fn finish(self) -> Answered {
        let mut framed = self.framing.finish();
        if self.reset_ignored {
            framed.headers.push(reset_ignored_header());
        }
        (self.origin, PollAnswer { poll: self.poll, outcome: PollOutcome::Records(framed, self.delivery) })
    }
}

fn reset_ignored_header() -> (String, Vec<u8>) {
    let Value::Text(value) = RESET_IGNORED.value else { unreachable!("a text") };
    (RESET_IGNORED.name.into_owned(), value.into())
}
