//! Publishes that wait for Kafka: the tag of every record handed to the client names its request here, by kind and key.
//!
//! A single publish waits for one outcome and is gone with it. A batch waits for many, in runs, and is gone when its
//! body has ended and every record has its outcome. Keys are the shard's, over all clusters. A further kind of waiting
//! request is a slab, a [`Kind`] and an arm in [`Publishing::complete`].
//!
//! Invariant: a key is given out again only when no record of its request is with the client any more, so an outcome
//! never reaches a stranger.

pub mod batch;
pub mod format;
pub mod headers;
pub mod single;

use crate::access::{Access, Grant};
use crate::env::Env;
use crate::kafka::Clusters;
use crate::kafka::cluster::Cluster;
use crate::kafka::destination::Destination;
use crate::limits::{RECORD_HEADER_OVERHEAD_BYTES, RECORD_META_BYTES_MAX};
use crate::refusal::Refusal;
use batch::session::Session;
use format::RecordError;
use kafka_client::{Outcome, ProduceError};
use single::Single;
use slab::Slab;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

/// What a publish stands on.
#[derive(Clone, Copy)]
pub struct Around<'s> {
    pub env: &'s Env,
    pub access: &'s Access,
    pub clusters: &'s Clusters,
    pub publishing: &'s Publishing,
}

/// Who waits for an outcome, in a tag above the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single = 0,
    Batch = 1,
}

const KIND_SHIFT: u32 = 56;

impl Kind {
    fn tag(self, key: usize) -> u64 {
        (self as u64) << KIND_SHIFT | key as u64
    }

    fn of(tag: u64) -> (Kind, usize) {
        let kind = match tag >> KIND_SHIFT {
            0 => Kind::Single,
            1 => Kind::Batch,
            other => unreachable!("kind {other} in tag {tag:#x} is none of ours"),
        };
        (kind, (tag & ((1 << KIND_SHIFT) - 1)) as usize)
    }
}

/// Requests of this shard that wait for outcomes.
#[derive(Default)]
pub struct Publishing {
    singles: RefCell<Slab<Single>>,
    batches: RefCell<Slab<Rc<Session>>>,
}

impl Publishing {
    /// A request of many records; its tag. It is removed when it is done.
    fn add_batch(&self, session: Rc<Session>) -> u64 {
        Kind::Batch.tag(self.batches.borrow_mut().insert(session))
    }

    fn remove_batch(&self, tag: u64) {
        let (kind, key) = Kind::of(tag);
        let removed = self.batches.borrow_mut().try_remove(key);
        debug_assert!(kind == Kind::Batch && removed.is_some(), "removed once, when done: tag {tag:#x}");
    }

    /// Kafka's outcome for a run of records of one request.
    pub fn complete(&self, env: &Env, cluster: &Cluster, outcome: Outcome, now: Instant) {
        let (kind, key) = Kind::of(outcome.tag);
        match kind {
            Kind::Single => {
                let single = self.singles.borrow_mut().try_remove(key);
                debug_assert!(single.is_some(), "an outcome for a publish nobody waits for: key {key}");
                if let Some(single) = single {
                    single.complete(env, cluster, outcome, now);
                }
            }
            Kind::Batch => {
                let session = self.batches.borrow().get(key).map(Rc::clone);
                debug_assert!(session.is_some(), "an outcome for a batch nobody waits for: key {key}");
                if session.is_some_and(|session| session.complete(env, outcome, now)) {
                    self.batches.borrow_mut().remove(key);
                }
            }
        }
    }

    /// Has every open batch look whether it may go on.
    pub fn wake_batches(&self) {
        self.batches.borrow().iter().for_each(|(_, session)| session.wake());
    }

    /// Requests still waiting.
    pub fn count(&self) -> usize {
        self.singles.borrow().len() + self.batches.borrow().len()
    }
}

/// Where the records of whoever was granted this go.
///
/// # Panics
/// When nothing was granted: a publish is granted a topic.
pub fn destination(clusters: &Clusters, grant: &Grant<'_>, now: Instant) -> Result<Destination, Refusal> {
    match grant {
        Grant::Topic(permit) => clusters.topic_destination(permit),
        Grant::Raw(permit) => clusters.raw_destination(permit, now),
        Grant::Nothing => unreachable!("a publish is granted a topic"),
    }
}

/// The receipt of records Kafka did not store, or of which nobody knows.
fn record_error(error: &ProduceError) -> RecordError {
    RecordError::from(Refusal::from(error))
}

impl From<Refusal> for RecordError {
    fn from(refusal: Refusal) -> RecordError {
        RecordError { status: refusal.status, code: refusal.code, message: refusal.message.into(), fatal: false }
    }
}

const _: () = assert!(format::limits::META_BYTES_MAX <= RECORD_META_BYTES_MAX);
const _: () = assert!(format::limits::HEADER_OVERHEAD_BYTES == RECORD_HEADER_OVERHEAD_BYTES);
