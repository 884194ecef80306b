//! Which shard owns a group, and how polls and answers travel.
//!
//! ```text
//!   shard of the connection (origin)             shard of the group (owner)
//!   begin ── Poll ──────────────────────────────► enqueue ─► Subscription ◄─► kafka-client
//!   answered ◄── Answer (owned buffer) ────────── tick
//!   written ── Settle(written) ─────────────────► positions advance, or the records go back
//!   client gone ── Cancel ──────────────────────► cancel
//! ```
//!
//! A group of one topic lives on one shard: the hash of cluster, group and topic. When origin and owner are the same
//! shard the same calls are made without the mailbox.

use crate::access::Access;
use crate::codes;
use crate::env::Env;
use crate::exchange::Exchange;
use crate::exchange::reply::{Delivery, Header, Reply, Value, no_store};
use crate::kafka::Clusters;
use crate::kafka::cluster::Cluster;
use crate::refusal::Refusal;
use crate::subscribe::mail::{Mail, PollAnswer, PollOutcome, PollRequest, Post, Written};
use crate::subscribe::origin::{self, Caller, Origin, Pending};
use crate::subscribe::owner::Owner;
use kafka_client::{RequestError, RequestToken, Response};
use model::Side;
use std::borrow::Cow;
use std::hash::BuildHasher;
use std::time::Instant;

/// How metrics and log name a poll.
const ENDPOINT: &str = "subscribe";

/// Says that the group had committed before: where it begins was decided, `reset` had no effect (CONTRACT.md).
pub const RESET_IGNORED: Header = Header { name: Cow::Borrowed("X-Reset"), value: Value::Text("ignored") };

/// Both halves of one shard.
pub struct Subscriptions {
    origin: Origin,
    owner: Owner,
    post: Post,
}

/// Which shard owns this group of this topic.
fn owner_of(shard_count: usize, request: &PollRequest) -> usize {
    // Fixed seeds: every shard must come to the same answer.
    let state = foldhash::fast::FixedState::with_seed(0x0067_6166_6b61);
    let hash = state.hash_one((request.cluster, &request.group, &request.topic));
    (hash % shard_count as u64) as usize
}

impl Subscriptions {
    pub fn new(post: Post) -> Subscriptions {
        Subscriptions { origin: Origin::default(), owner: Owner::default(), post }
    }

    pub fn next_poll_id(&self, env: &Env) -> u64 {
        self.origin.next_poll_id(env.shard)
    }

    /// Sends a poll to its owner; it is answered when the answer comes.
    pub fn begin(
        &self,
        env: &Env,
        clusters: &Clusters,
        mut exchange: Exchange,
        request: PollRequest,
        caller: Caller,
        now: Instant,
    ) {
        let (poll, deadline, tenant) = (request.poll, request.deadline, request.tenant);
        let owner = owner_of(self.post.shard_count(), &request);
        exchange.endpoint = ENDPOINT;
        self.origin.add(poll, Pending { exchange, owner, deadline, tenant, caller });
        if owner == env.shard {
            return self.enqueue(env, clusters, request, now);
        }
        if self.post.offer(owner, Mail::Poll(Box::new(request))).is_err()
            && let Some(pending) = self.origin.take(poll)
        {
            env.metrics.mailbox_full();
            let refusal = Refusal::new(codes::OVERLOADED, "the shard that serves this group is busy");
            pending.exchange.refuse(env, &refusal, now);
        }
    }

    /// A letter from another shard.
    pub fn receive(&self, env: &Env, clusters: &Clusters, mail: Mail, now: Instant) {
        match mail {
            Mail::Poll(request) => self.enqueue(env, clusters, *request, now),
            Mail::Answer(answer) => self.answered(env, clusters, *answer, now),
            Mail::Cancel { poll } => self.owner.cancel(clusters, poll),
            Mail::Settle { delivery, written } => self.settle(env, clusters, delivery, written),
        }
    }

    fn enqueue(&self, env: &Env, clusters: &Clusters, request: PollRequest, now: Instant) {
        if let Some((origin, answer)) = self.owner.enqueue(env, clusters, request, now) {
            self.send_answer(env, clusters, origin, answer, now);
        }
    }

    /// The owner's answer: to the client, or back if that is gone.
    fn answered(&self, env: &Env, clusters: &Clusters, answer: PollAnswer, now: Instant) {
        let (delivery, messages, bytes) = match &answer.outcome {
            PollOutcome::Records(framed, delivery) => {
                env.metrics.delivered(framed.body.len());
                (Some(*delivery), framed.messages, framed.body.len())
            }
            PollOutcome::Empty { .. } | PollOutcome::Refused(_) => (None, 0, 0),
        };
        let taken = match self.origin.take(answer.poll) {
            Some(Pending { exchange, tenant, caller, .. }) => {
                if messages > 0 {
                    caller.meters.charge(env, Side::Subscribe, messages, bytes, now);
                    env.traffic.count(Side::Subscribe, caller.topic, messages, bytes);
                }
                exchange.answer(env, origin::reply(env, tenant, answer), now)
            }
            None => false,
        };
        if let Some(delivery) = delivery.filter(|_| !taken) {
            self.settle(env, clusters, delivery, Written::Not);
        }
    }

    fn send_answer(&self, env: &Env, clusters: &Clusters, origin: usize, answer: PollAnswer, now: Instant) {
        if origin == env.shard {
            self.answered(env, clusters, answer, now);
        } else {
            self.send(env, origin, Mail::Answer(Box::new(answer)));
        }
    }

    fn send(&self, env: &Env, to: usize, mail: Mail) {
        if !self.post.send(to, mail) {
            env.metrics.mailbox_full();
        }
    }

    /// An answer with messages reached the network, or did not.
    pub fn settle(&self, env: &Env, clusters: &Clusters, delivery: Delivery, written: Written) {
        if delivery.shard == env.shard {
            self.owner.settle(clusters, delivery, written);
        } else {
            self.send(env, delivery.shard, Mail::Settle { delivery, written });
        }
    }

    /// The client of a waiting poll went away: nobody is answered.
    pub fn forget(&self, env: &Env, clusters: &Clusters, poll: u64) {
        if let Some(pending) = self.origin.take(poll) {
            self.withdraw(env, clusters, poll, pending.owner);
        }
    }

    /// The client of a waiting poll sends no more, and may be gone: it is handed nothing.
    pub fn hang_up(&self, env: &Env, clusters: &Clusters, poll: u64, now: Instant) {
        self.end(env, clusters, poll, Reply::no_content().with(no_store()), now);
    }

    fn withdraw(&self, env: &Env, clusters: &Clusters, poll: u64, owner: usize) {
        if owner == env.shard {
            self.owner.cancel(clusters, poll);
        } else {
            self.send(env, owner, Mail::Cancel { poll });
        }
    }

    /// Ends a waiting poll with an answer of ours.
    fn end(&self, env: &Env, clusters: &Clusters, poll: u64, reply: Reply, now: Instant) {
        let Some(pending) = self.origin.take(poll) else { return };
        self.withdraw(env, clusters, poll, pending.owner);
        pending.exchange.answer(env, reply, now);
    }

    /// Asks again about every poll that came in here.
    pub fn reauthorize(&self, env: &Env, access: &Access, clusters: &Clusters, now: Instant) {
        for (poll, refusal) in self.origin.denied(&access.snapshot()) {
            self.end(env, clusters, poll, Reply::refusal(&refusal), now);
        }
    }

    /// Ends polls whose owner has ended without a word: 204, as if nothing had come.
    pub fn sweep(&self, env: &Env, clusters: &Clusters, now: Instant) {
        for poll in self.origin.lost(now) {
            self.hang_up(env, clusters, poll, now);
        }
    }

    /// An answer of Kafka.
    pub fn on_reply(
        &self,
        cluster: &Cluster,
        token: RequestToken,
        reply: Result<Response, RequestError>,
        now: Instant,
    ) {
        self.owner.on_reply(&mut cluster.client.borrow_mut(), token, reply, now);
    }

    /// Lets the subscriptions of a cluster do what is due, and sends the answers.
    pub fn tick(&self, env: &Env, clusters: &Clusters, cluster: usize, now: Instant) {
        for (origin, answer) in self.owner.tick(env, clusters, cluster, now) {
            self.send_answer(env, clusters, origin, answer, now);
        }
    }

    pub fn next_deadline(&self, cluster: usize, now: Instant) -> Option<Instant> {
        self.owner.next_deadline(cluster, now)
    }

    /// Ends waiting polls with 204; subscriptions here commit and leave once what they handed out is settled.
    pub fn drain(&self, env: &Env, clusters: &Clusters, now: Instant) {
        for poll in self.origin.all() {
            self.hang_up(env, clusters, poll, now);
        }
        self.owner.drain(clusters, now);
    }

    /// No subscription lives here any more, no poll waits, no letter is unsent.
    pub fn is_done(&self) -> bool {
        self.owner.is_empty() && self.origin.is_empty() && self.post.kept_count() == 0
    }

    /// Subscriptions that live here.
    pub fn count(&self) -> usize {
        self.owner.len()
    }
}
