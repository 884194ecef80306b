//! Requests that wait for Kafka: the tag of every record handed to the client is its request's key here.
//!
//! A single publish waits for one outcome and is gone with it. A batch waits for many, in runs, and is gone when its
//! body has ended and every record has its outcome. One [`Waiters`] per shard, over all clusters, so that a tag names
//! one request.
//!
//! Invariant: a key is given out again only when no record of its request is with the client any more, so an outcome
//! never reaches a stranger.

use crate::cluster::Cluster;
use crate::endpoints::batch::session::Session;
use crate::endpoints::publish::Single;
use crate::reply::Failure;
use crate::shard::Shard;
use kafka_client::Outcome;
use slab::Slab;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

/// Who is told the outcome.
pub enum Waiter {
    Single(Single),
    Batch(Rc<Session>),
}

/// Requests of this shard that wait for outcomes.
#[derive(Default)]
pub struct Waiters {
    waiting: RefCell<Slab<Waiter>>,
}

impl Waiters {
    /// Hands a record over under a fresh tag; its request waits only if it was accepted.
    pub fn add(&self, accept: impl FnOnce(u64) -> Result<Waiter, Failure>) -> Result<(), Failure> {
        let mut waiting = self.waiting.borrow_mut();
        let entry = waiting.vacant_entry();
        let waiter = accept(entry.key() as u64)?;
        entry.insert(waiter);
        Ok(())
    }

    /// A request of many records; its tag. It is removed by whoever finds it done.
    pub fn insert(&self, waiter: Waiter) -> u64 {
        self.waiting.borrow_mut().insert(waiter) as u64
    }

    pub fn remove(&self, tag: u64) {
        let removed = self.waiting.borrow_mut().try_remove(tag as usize);
        debug_assert!(removed.is_some(), "removed once, when done: tag {tag}");
    }

    /// Kafka's outcome for a run of records of one request.
    pub fn complete(&self, shard: &Shard, cluster: &Cluster, outcome: Outcome, now: Instant) {
        let key = outcome.tag as usize;
        let mut waiting = self.waiting.borrow_mut();
        match waiting.get(key) {
            Some(Waiter::Single(_)) => {
                let Waiter::Single(single) = waiting.remove(key) else { unreachable!("just looked") };
                drop(waiting);
                single.complete(shard, cluster, outcome, now);
            }
            Some(Waiter::Batch(session)) => {
                let session = Rc::clone(session);
                drop(waiting);
                if session.complete(shard, outcome, now) {
                    self.remove(key as u64);
                }
            }
            None => debug_assert!(false, "an outcome for a request nobody waits for: tag {}", outcome.tag),
        }
    }

    /// Has every open batch look whether it may go on.
    pub fn wake_batches(&self) {
        for (_, waiter) in self.waiting.borrow().iter() {
            if let Waiter::Batch(session) = waiter {
                session.wake();
            }
        }
    }

    /// Requests still waiting.
    pub fn count(&self) -> usize {
        self.waiting.borrow().len()
    }
}
