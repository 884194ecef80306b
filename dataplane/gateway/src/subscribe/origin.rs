//! The polls that came in on this shard: sent to the shard that owns their group, answered when its answer is back.
//!
//! A poll that waits keeps the names it was authorized for, and is asked about again with every new snapshot.

use crate::access::quota::Meters;
use crate::access::standing::Standing;
use crate::env::Env;
use crate::exchange::Exchange;
use crate::exchange::conn::Watched;
use crate::exchange::reply::{Body, Header, Reply, no_store};
use crate::refusal::Refusal;
use crate::subscribe::framing::Framed;
use crate::subscribe::mail::{PollAnswer, PollOutcome};
use crate::subscribe::memory;
use crate::subscribe::subscriptions::RESET_IGNORED;
use foldhash::HashMap;
use model::Snapshot;
use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

/// A poll that has no answer so long after its deadline will not get one.
const LOST_ANSWER_GRACE: Duration = Duration::from_secs(5);

/// A poll that came in on this shard and has no answer yet.
pub struct Pending {
    pub exchange: Exchange,
    pub owner: usize,
    pub deadline: Instant,
    pub tenant: u32,
    pub caller: Caller,
}

/// Who polls, and what the messages are taken from.
pub struct Caller {
    pub standing: Standing,
    pub meters: Meters,
    /// [`model::Topic::index`].
    pub topic: u32,
}

/// One per shard.
#[derive(Default)]
pub struct Origin {
    counter: Cell<u64>,
    pending: RefCell<HashMap<u64, Pending>>,
}

impl Origin {
    pub fn next_poll_id(&self, shard: usize) -> u64 {
        let count = self.counter.get() + 1;
        self.counter.set(count);
        (shard as u64) << 48 | count
    }

    pub fn add(&self, poll: u64, pending: Pending) {
        pending.exchange.watch(Watched::Poll(poll));
        self.pending.borrow_mut().insert(poll, pending);
    }

    /// The poll waits no more.
    pub fn take(&self, poll: u64) -> Option<Pending> {
        self.pending.borrow_mut().remove(&poll)
    }

    /// Polls that the snapshot does not allow any more: the app, its secret, its grant, the topic.
    pub fn denied(&self, snapshot: &Snapshot) -> Vec<(u64, Refusal)> {
        let pending = self.pending.borrow();
        let denied =
            |(poll, pending): (&u64, &Pending)| Some((*poll, pending.caller.standing.check(snapshot).err()?.into()));
        pending.iter().filter_map(denied).collect()
    }

    /// Polls whose answer was lost on the way.
    pub fn lost(&self, now: Instant) -> Vec<u64> {
        let lost = |pending: &Pending| pending.deadline + LOST_ANSWER_GRACE < now;
        self.pending.borrow().iter().filter(|(_, pending)| lost(pending)).map(|(poll, _)| *poll).collect()
    }

    pub fn all(&self) -> Vec<u64> {
        self.pending.borrow().keys().copied().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.pending.borrow().is_empty()
    }
}

/// What the owner says, as an answer. Its body is the tenant's until it is written.
pub fn reply(env: &Env, tenant: u32, answer: PollAnswer) -> Reply {
    match answer.outcome {
        PollOutcome::Records(Framed { content_type, headers, body, .. }, delivery) => {
            let held = memory::charge(env, tenant, body.len());
            let mut reply = Reply::new(200, Body::Large(content_type, body)).with(no_store());
            reply.held = Some(held);
            reply.headers.extend(headers.into_iter().map(|(name, value)| Header::bytes(name, value)));
            reply.delivery = Some(delivery);
            reply
        }
        PollOutcome::Empty { reset_ignored } => {
            let reply = Reply::no_content().with(no_store());
            if reset_ignored { reply.with(RESET_IGNORED) } else { reply }
        }
        PollOutcome::Refused(refusal) => Reply::refusal(&refusal),
    }
}
