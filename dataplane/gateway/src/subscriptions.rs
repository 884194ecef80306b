//! Which shard owns a group, and how polls and answers travel.
//!
//! ```text
//!   shard of the connection (origin)             shard of the group (owner)
//!   begin ── PollRequest ───────────────────────► enqueue ─► Subscription ◄─► kafka-client
//!   answered ◄── PollAnswer (owned buffer) ────── deliver
//!   written ── Settle(written) ─────────────────► positions advance, or the records go back
//!   client gone ── CancelPoll ──────────────────► cancel
//! ```
//!
//! A group of one topic lives on one shard: the hash of cluster, group and topic. When origin and owner are the same
//! shard the same calls are made without the mailbox. A poll that waits keeps the names it was authorized for, and is
//! asked about again with every new snapshot.

use crate::conn::{Conn, RequestMeta};
use crate::limits::{GROUPS_MAX, GROUPS_PER_APP_MAX};
use crate::reply::{self, Failure};
use crate::shard::{Message, Shard};
use crate::slots::Delivery;
use crate::standing::Standing;
use crate::subscribe::Refusal;
use crate::subscribe::desk::{Answer, Poll};
use crate::subscribe::framing::{self, Form, Framed};
use crate::subscribe::subscription::Subscription;
use crate::subscribe::tags::TagFilter;
use foldhash::{HashMap, HashMapExt};
use kafka_client::group::{GroupConfig, Reset};
use kafka_client::{RequestError, RequestToken, Response};
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A poll that has no answer so long after its deadline will not get one.
const LOST_ANSWER_GRACE: Duration = Duration::from_secs(5);

/// While draining, what was handed out gets so long to reach the network before its group commits and leaves.
const DELIVERY_GRACE: Duration = Duration::from_millis(200);

/// Says that the group had committed before: where it begins was decided, `reset` had no effect (CONTRACT.md).
const RESET_IGNORED: (&str, &str) = ("X-Reset", "ignored");

/// A poll on its way to the shard that owns its group.
#[derive(Debug, Clone)]
pub struct PollRequest {
    /// Unique in this process: the origin shard and a counter.
    pub poll: u64,
    pub origin: usize,
    pub cluster: usize,
    /// `appid.group`.
    pub group: String,
    /// Physical topic.
    pub topic: Arc<str>,
    pub batch: u32,
    pub max_bytes: usize,
    pub wait: Duration,
    pub deadline: Instant,
    pub reset: Option<Reset>,
    pub filter: Option<TagFilter>,
    pub form: Form,
    pub strip_2017_tags: bool,
}

/// Its answer on the way back.
#[derive(Debug)]
pub struct PollAnswer {
    pub poll: u64,
    pub outcome: PollOutcome,
}

#[derive(Debug)]
pub enum PollOutcome {
    Records(Framed, Delivery),
    Empty { reset_ignored: bool },
    Refused(Refusal),
}

/// A poll that came in on this shard and has no answer yet.
struct Pending {
    conn: Rc<Conn>,
    sequence: u64,
    meta: RequestMeta,
    begun: Instant,
    owner_shard: usize,
    deadline: Instant,
    standing: Standing,
}

/// A subscription that lives here.
struct Entry {
    cluster: usize,
    key: (String, Arc<str>),
    subscription: Subscription,
    /// How to answer the polls that wait.
    polls: HashMap<u64, Waiting>,
    dirty: bool,
    /// Told to commit and leave.
    leaving: bool,
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

/// The app a group belongs to: `appid.group`, and neither has a dot.
fn app_of(group: &str) -> &str {
    group.split('.').next().unwrap_or_default()
}

/// Both roles of one shard.
#[derive(Default)]
pub struct Subscriptions {
    counter: Cell<u64>,
    pending: RefCell<HashMap<u64, Pending>>,
    entries: RefCell<Slab<Entry>>,
    by_key: RefCell<HashMap<Key, usize>>,
    by_poll: RefCell<HashMap<u64, usize>>,
    /// Entries of each app.
    of_app: RefCell<HashMap<String, u32>>,
    draining: Cell<bool>,
    /// While draining: when the groups are left, once the last answers had time to reach the network.
    leave_at: Cell<Option<Instant>>,
}

/// Which shard owns this group of this topic.
fn owner_of(shard: &Shard, request: &PollRequest) -> usize {
    // Fixed seeds: every shard must come to the same answer.
    let state = foldhash::fast::FixedState::with_seed(0x0067_6166_6b61);
    let hash = state.hash_one((request.cluster, &request.group, &request.topic));
    (hash % shard.mailboxes.len() as u64) as usize
}

impl Subscriptions {
    pub fn next_poll_id(&self, shard: usize) -> u64 {
        let count = self.counter.get() + 1;
        self.counter.set(count);
        (shard as u64) << 48 | count
    }

    // ---- origin ----

    /// Sends a poll to its owner; the slot is filled when the answer comes.
    #[allow(clippy::too_many_arguments, reason = "called once, from the endpoint")]
    pub fn begin(
        &self,
        shard: &Rc<Shard>,
        conn: &Rc<Conn>,
        sequence: u64,
        meta: &RequestMeta,
        request: PollRequest,
        standing: Standing,
        begun: Instant,
        now: Instant,
    ) -> Result<(), Failure> {
        let (poll, owner_shard) = (request.poll, owner_of(shard, &request));
        let pending = Pending {
            conn: Rc::clone(conn),
            sequence,
            meta: meta.clone(),
            begun,
            owner_shard,
            deadline: request.deadline,
            standing,
        };
        self.pending.borrow_mut().insert(poll, pending);
        conn.polls.borrow_mut().push(poll);
        if owner_shard == shard.id {
            self.enqueue(shard, request, now);
            return Ok(());
        }
        if shard.mailboxes[owner_shard].try_send(Message::Poll(Box::new(request))).is_err() {
            self.pending.borrow_mut().remove(&poll);
            conn.polls.borrow_mut().retain(|open| *open != poll);
            shard.metrics.mailbox_full();
            return Err(Failure::new(503, "overloaded", "the shard that serves this group is busy"));
        }
        Ok(())
    }

    /// The owner's answer: into the slot, or back if the client is gone.
    pub fn answered(&self, shard: &Rc<Shard>, answer: PollAnswer, now: Instant) {
        let pending = self.pending.borrow_mut().remove(&answer.poll);
        let Some(pending) = pending else {
            if let PollOutcome::Records(_, delivery) = answer.outcome {
                shard.settle(delivery, false);
            }
            return;
        };
        pending.conn.polls.borrow_mut().retain(|open| *open != answer.poll);
        let context = pending.meta.context(shard);
        let (status, reply, delivery) = match answer.outcome {
            PollOutcome::Records(framed, delivery) => {
                shard.metrics.delivered(framed.body.len());
                let reply = reply::records(&context, framed.content_type, &framed.headers, framed.body, delivery);
                (200, reply, Some(delivery))
            }
            PollOutcome::Empty { reset_ignored } => {
                let headers = [("Cache-Control", "no-store"), RESET_IGNORED];
                let headers = &headers[..1 + usize::from(reset_ignored)];
                (204, reply::no_content(&context, headers), None)
            }
            PollOutcome::Refused(refusal) => {
                let failure = Failure::from(refusal);
                (failure.status, reply::failure(&context, &failure), None)
            }
        };
        let (conn, sequence, begun) = (&pending.conn, pending.sequence, pending.begun);
        let taken = shard.finish(conn, sequence, &pending.meta, "subscribe", status, begun, now, reply);
        if let Some(delivery) = delivery.filter(|_| !taken) {
            shard.settle(delivery, false);
        }
    }

    /// The client of a waiting poll went away.
    pub fn forget(&self, shard: &Rc<Shard>, poll: u64) {
        let Some(pending) = self.pending.borrow_mut().remove(&poll) else { return };
        self.withdraw(shard, poll, pending.owner_shard);
    }

    /// The client of a waiting poll sends no more, and may be gone: it is handed nothing.
    pub fn hang_up(&self, shard: &Rc<Shard>, poll: u64, now: Instant) {
        self.end(shard, poll, None, now);
    }

    fn withdraw(&self, shard: &Rc<Shard>, poll: u64, owner_shard: usize) {
        if owner_shard == shard.id {
            self.cancel(shard, poll);
        } else if shard.mailboxes[owner_shard].try_send(Message::CancelPoll { poll }).is_err() {
            // The owner will answer it in time; the answer finds nobody and its records go back.
            shard.metrics.mailbox_full();
        }
    }

    /// Ends a waiting poll with an answer of ours.
    fn end(&self, shard: &Rc<Shard>, poll: u64, failure: Option<&Failure>, now: Instant) {
        let Some(pending) = self.pending.borrow_mut().remove(&poll) else { return };
        self.withdraw(shard, poll, pending.owner_shard);
        pending.conn.polls.borrow_mut().retain(|open| *open != poll);
        let context = pending.meta.context(shard);
        let (status, answer) = match failure {
            None => (204, reply::no_content(&context, &[("Cache-Control", "no-store")])),
            Some(failure) => (failure.status, reply::failure(&context, failure)),
        };
        let (conn, meta) = (&pending.conn, &pending.meta);
        shard.finish(conn, pending.sequence, meta, "subscribe", status, pending.begun, now, answer);
    }

    /// Asks again about every poll that waits here: the app, its secret, its grant, the topic.
    pub fn reauthorize(&self, shard: &Rc<Shard>, now: Instant) {
        let snapshot = shard.snapshot();
        let denied: Vec<(u64, Failure)> = self
            .pending
            .borrow()
            .iter()
            .filter_map(|(poll, pending)| {
                let denied = pending.standing.check_poll(&snapshot).err()?;
                Some((*poll, Failure::from_denied(&denied)))
            })
            .collect();
        for (poll, failure) in denied {
            self.end(shard, poll, Some(&failure), now);
        }
    }

    /// Ends polls whose answer was lost on the way (a full mailbox): 204, as if nothing had come.
    pub fn sweep(&self, shard: &Rc<Shard>, now: Instant) {
        let lost = |pending: &Pending| pending.deadline + LOST_ANSWER_GRACE < now;
        let polls: Vec<u64> =
            self.pending.borrow().iter().filter(|(_, pending)| lost(pending)).map(|(poll, _)| *poll).collect();
        for poll in polls {
            self.end(shard, poll, None, now);
        }
    }

    // ---- owner ----

    /// A poll for a subscription that lives here, from this shard or another.
    pub fn enqueue(&self, shard: &Rc<Shard>, request: PollRequest, now: Instant) {
        if self.draining.get() {
            let answer = PollAnswer { poll: request.poll, outcome: PollOutcome::Empty { reset_ignored: false } };
            return self.send_answer(shard, request.origin, answer, now);
        }
        let key = (request.cluster, request.group.clone(), request.topic.clone());
        let known = self.by_key.borrow().get(&key).copied();
        let index = match known.map_or_else(|| self.open(shard, &request, key, now), Ok) {
            Ok(index) => index,
            Err(refusal) => {
                let answer = PollAnswer { poll: request.poll, outcome: PollOutcome::Refused(refusal) };
                return self.send_answer(shard, request.origin, answer, now);
            }
        };
        let mut entries = self.entries.borrow_mut();
        let entry = &mut entries[index];
        let waiting = Waiting {
            origin: request.origin,
            form: request.form,
            strip_2017_tags: request.strip_2017_tags,
            asks_reset: request.reset.is_some(),
        };
        entry.polls.insert(request.poll, waiting);
        entry.dirty = true;
        self.by_poll.borrow_mut().insert(request.poll, index);
        entry.subscription.enqueue(
            Poll {
                id: request.poll,
                batch: request.batch,
                max_bytes: request.max_bytes,
                deadline: request.deadline,
                filter: request.filter,
                reset: request.reset,
            },
            now,
        );
        drop(entries);
        shard.clusters[request.cluster].wake();
    }

    /// Opens a subscription, unless the app or this shard has as many as may be: clients choose the names of groups.
    fn open(&self, shard: &Shard, request: &PollRequest, key: Key, now: Instant) -> Result<usize, Refusal> {
        let mut of_app = self.of_app.borrow_mut();
        let of_app = of_app.entry(app_of(&request.group).to_owned()).or_default();
        let app_is_full = *of_app >= GROUPS_PER_APP_MAX;
        if app_is_full || self.entries.borrow().len() >= GROUPS_MAX {
            shard.metrics.groups_full(app_is_full);
            let message = "this gateway is a member of as many groups as it may be; groups that nobody polls are left";
            return Err(Refusal::new(503, "too_many_groups", message));
        }
        *of_app += 1;
        let config = GroupConfig {
            reset: request.reset.unwrap_or(Reset::Oldest),
            ..GroupConfig::new(request.group.as_str(), &*request.topic)
        };
        let seed = runtime::clock::seed();
        let entry = Entry {
            cluster: request.cluster,
            key: (request.group.clone(), request.topic.clone()),
            subscription: Subscription::new(config, request.strip_2017_tags, seed, now),
            polls: HashMap::new(),
            dirty: true,
            leaving: false,
        };
        let index = self.entries.borrow_mut().insert(entry);
        self.by_key.borrow_mut().insert(key, index);
        tracing::info!(shard = shard.id, group = request.group, topic = %request.topic, "subscription opened");
        Ok(index)
    }

    pub fn cancel(&self, shard: &Shard, poll: u64) {
        let Some(index) = self.by_poll.borrow_mut().remove(&poll) else { return };
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(index) else { return };
        entry.polls.remove(&poll);
        entry.subscription.cancel(poll);
        entry.dirty = true;
        shard.clusters[entry.cluster].wake();
    }

    /// An answer reached the network (`written`), or its client was gone.
    pub fn settle(&self, shard: &Shard, delivery: Delivery, written: bool) {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(delivery.subscription) else { return };
        if written {
            entry.subscription.handed_over(delivery.poll);
        } else {
            entry.subscription.returned(delivery.poll);
        }
        entry.dirty = true;
        shard.clusters[entry.cluster].wake();
    }

    /// An answer of Kafka, for one of the subscriptions of this cluster.
    pub fn on_reply(
        &self,
        shard: &Shard,
        cluster: usize,
        token: RequestToken,
        reply: Result<Response, RequestError>,
        now: Instant,
    ) {
        let mut client = shard.clusters[cluster].client.borrow_mut();
        let mut entries = self.entries.borrow_mut();
        let owner = entries.iter_mut().find(|(_, entry)| entry.cluster == cluster && entry.subscription.owns(token));
        if let Some((_, entry)) = owner {
            entry.dirty = true;
            entry.subscription.on_reply(token, reply, &mut client, now);
        }
    }

    /// Lets every subscription of this cluster that has something to do do it, and sends the answers.
    pub fn tick(&self, shard: &Rc<Shard>, cluster: usize, now: Instant) {
        let mut answers: Vec<(usize, PollAnswer)> = Vec::new();
        let mut ended: Vec<usize> = Vec::new();
        let leaving = self.leave_at.get().is_some_and(|at| at <= now);
        {
            let mut client = shard.clusters[cluster].client.borrow_mut();
            let mut entries = self.entries.borrow_mut();
            for (index, entry) in entries.iter_mut().filter(|(_, entry)| entry.cluster == cluster) {
                let due = entry.subscription.next_deadline().is_some_and(|deadline| deadline <= now);
                if !entry.dirty && !due && entry.leaving == leaving {
                    continue;
                }
                entry.dirty = false;
                if leaving && !entry.leaving {
                    entry.leaving = true;
                    entry.subscription.drain(&mut client, now);
                }
                entry.subscription.tick(&mut client, now);
                while let Some((poll, answer)) = entry.subscription.poll_answer() {
                    self.by_poll.borrow_mut().remove(&poll);
                    let Some(waiting) = entry.polls.remove(&poll) else { continue };
                    let reset_ignored = waiting.asks_reset && entry.subscription.has_committed();
                    let outcome = match answer {
                        Answer::Records(records) => {
                            let delivery = Delivery { shard: shard.id, cluster, subscription: index, poll };
                            let mut framed = framing::frame(waiting.form, &records, waiting.strip_2017_tags);
                            if reset_ignored {
                                let (name, value) = RESET_IGNORED;
                                framed.headers.push((name.to_owned(), value.into()));
                            }
                            PollOutcome::Records(framed, delivery)
                        }
                        Answer::Empty => PollOutcome::Empty { reset_ignored },
                        Answer::Error(refusal) => PollOutcome::Refused(refusal),
                    };
                    answers.push((waiting.origin, PollAnswer { poll, outcome }));
                }
                if entry.subscription.is_finished() {
                    ended.push(index);
                }
            }
            for index in ended {
                let entry = entries.remove(index);
                tracing::info!(shard = shard.id, group = entry.key.0, topic = %entry.key.1, "subscription closed");
                let mut of_app = self.of_app.borrow_mut();
                if let Some(count) = of_app.get_mut(app_of(&entry.key.0)) {
                    *count -= 1;
                    if *count == 0 {
                        of_app.remove(app_of(&entry.key.0));
                    }
                }
                self.by_key.borrow_mut().remove(&(entry.cluster, entry.key.0, entry.key.1));
            }
        }
        for (origin, answer) in answers {
            self.send_answer(shard, origin, answer, now);
        }
    }

    fn send_answer(&self, shard: &Rc<Shard>, origin: usize, answer: PollAnswer, now: Instant) {
        if origin == shard.id {
            return self.answered(shard, answer, now);
        }
        if let Err(refused) = shard.mailboxes[origin].try_send(Message::PollAnswer(Box::new(answer))) {
            shard.metrics.mailbox_full();
            if let Message::PollAnswer(answer) = refused.into_inner()
                && let PollOutcome::Records(_, delivery) = answer.outcome
            {
                shard.settle(delivery, false); // the poll ends by its client's patience; nothing is lost
            }
        }
    }

    /// When the next subscription of this cluster has something to do.
    pub fn next_deadline(&self, cluster: usize) -> Option<Instant> {
        self.entries
            .borrow()
            .iter()
            .filter(|(_, entry)| entry.cluster == cluster)
            .filter_map(|(_, entry)| match entry.leaving {
                false => entry.subscription.next_deadline().into_iter().chain(self.leave_at.get()).min(),
                true => entry.subscription.next_deadline(),
            })
            .min()
    }

    /// Ends waiting polls with 204; subscriptions here commit and leave once what they handed out is settled.
    pub fn drain(&self, shard: &Rc<Shard>, now: Instant) {
        self.draining.set(true);
        let waiting: Vec<u64> = self.pending.borrow().keys().copied().collect();
        for poll in waiting {
            self.end(shard, poll, None, now);
        }
        self.leave_at.set(Some(now + DELIVERY_GRACE));
        for cluster in &shard.clusters {
            cluster.wake();
        }
    }

    /// No subscription lives here any more, and no poll waits.
    pub fn is_done(&self) -> bool {
        self.entries.borrow().is_empty() && self.pending.borrow().is_empty()
    }

    /// Subscriptions that live here.
    pub fn count(&self) -> usize {
        self.entries.borrow().len()
    }
}
