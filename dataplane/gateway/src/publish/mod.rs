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
pub mod handoff;
pub mod headers;
pub mod single;

use crate::access::{Access, Grant};
use crate::env::Env;
use crate::jobs::Jobs;
use crate::jobs::group::Settled;
use crate::kafka::Clusters;
use crate::kafka::cluster::Cluster;
use crate::kafka::destination::Destination;
use crate::limits::{RECORD_HEADER_OVERHEAD_BYTES, RECORD_META_BYTES_MAX};
use crate::refusal::Refusal;
use batch::session::Session;
use format::RecordError;
use handoff::domains::BY_KEY;
use handoff::{Goes, Handoff};
use journal::queue::Name;
use kafka_client::{Outcome, ProduceError};
use kafka_wire::handoff_entry::Target;
use kafka_wire::record_batch::{HeaderRef, RecordRef};
use single::Single;
use slab::Slab;
use smallvec::SmallVec;
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
    pub jobs: &'s Jobs,
}

/// Who waits for an outcome, in a tag above the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Single = 0,
    Batch = 1,
    /// Messages that waited in the journal.
    Drain = 2,
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
            2 => Kind::Drain,
            other => unreachable!("kind {other} in tag {tag:#x} is none of ours"),
        };
        (kind, (tag & ((1 << KIND_SHIFT) - 1)) as usize)
    }
}

/// Requests of this shard that wait for outcomes.
pub struct Publishing {
    pub handoff: Handoff,
    singles: RefCell<Slab<Single>>,
    batches: RefCell<Slab<Rc<Session>>>,
}

impl Publishing {
    pub fn new(handoff: Handoff) -> Publishing {
        Publishing { handoff, singles: RefCell::default(), batches: RefCell::default() }
    }

    /// Tells the batch of a tag something; it leaves when that was the last it waited for.
    fn with_batch(&self, tag: u64, tell: impl FnOnce(&Rc<Session>) -> bool) {
        let (_, key) = Kind::of(tag);
        let session = self.batches.borrow().get(key).map(Rc::clone);
        debug_assert!(session.is_some(), "an outcome for a batch nobody waits for: key {key}");
        if session.is_some_and(|session| tell(&session)) {
            self.batches.borrow_mut().remove(key);
        }
    }

    /// A request of many records; its tag. It is removed when it is done.
    fn add_batch(&self, session: Rc<Session>) -> u64 {
        Kind::Batch.tag(self.batches.borrow_mut().insert(session))
    }

    fn remove_batch(&self, tag: u64) {
        let (kind, key) = Kind::of(tag);
        let removed = self.batches.borrow_mut().try_remove(key);
        debug_assert!(kind == Kind::Batch && removed.is_some(), "removed once, when done: tag {tag:#x}");
    }

    /// Kafka's outcome for a run of records of one request, or of the journal.
    pub fn complete(&self, around: Around<'_>, cluster: &Cluster, outcome: Outcome, now: Instant) {
        let (kind, key) = Kind::of(outcome.tag);
        match kind {
            Kind::Single => {
                let single = self.singles.borrow_mut().try_remove(key);
                debug_assert!(single.is_some(), "an outcome for a publish nobody waits for: key {key}");
                if let Some(single) = single {
                    self.complete_single(around, cluster, single, outcome, now);
                }
            }
            Kind::Batch => self.complete_batch(around, cluster, outcome, now),
            Kind::Drain => self.handoff.complete(around, key, &outcome, now),
        }
    }

    /// Kafka's outcome for a run of records of a batch: receipts, or their way into the journal.
    fn complete_batch(&self, around: Around<'_>, cluster: &Cluster, outcome: Outcome, now: Instant) {
        let (Err(ProduceError::Away { why, partition }), Some(unsent)) = (&outcome.result, &outcome.unsent) else {
            return self.with_batch(outcome.tag, |session| session.complete(around.env, outcome, now));
        };
        let (tag, first) = (outcome.tag, outcome.record_first);
        let Some(destination) = self.batch_destination(tag) else { return };
        let topic = destination.route.topic;
        let lane = partition.unwrap_or(BY_KEY);
        let (subject, topic_id, is_held) = {
            let client = cluster.client.borrow();
            let is_held = lane >= 0 && !client.is_settled(topic, lane);
            (self.handoff.subject(cluster, &client, topic), client.topic_id(topic).unwrap_or_default(), is_held)
        };
        let target = Target { partition: *partition, is_named: partition.is_some(), topic_id };
        let records: Vec<journal::Record> = unsent
            .records()
            .map(|record| {
                let headers: SmallVec<[HeaderRef<'_>; 4]> =
                    record.headers.iter_refs().map(|(name, value)| HeaderRef { name, value }).collect();
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                let given = RecordRef { timestamp_ms: record.timestamp_ms, key, value, headers: &headers };
                handoff::record(&given, record.value.clone(), target)
            })
            .collect();
        let name = Name { account: self.handoff.app(around, destination.tenant), subject, lane };
        let goes = Goes { name, why, is_held };
        for (from, count, error) in self.handoff.append_run(tag, &goes, first, records, around.env.wall_clock_ms()) {
            let error = RecordError::from(handoff::refuse(&error));
            self.with_batch(tag, |session| session.fail_run(around.env, from, count, &error, now));
        }
    }

    /// What became of records of a batch that were to be delayed jobs.
    pub fn settle_jobs(&self, env: &Env, settled: Settled, now: Instant) {
        let Settled { group, result } = settled;
        self.with_batch(group.tag, |session| match result {
            Ok(ids) => session.delayed(env, &group.jobs, &ids, now),
            Err(refusal) => session.fail_jobs(env, &group.jobs, &RecordError::from(refusal), now),
        });
    }

    fn batch_destination(&self, tag: u64) -> Option<Destination> {
        let (_, key) = Kind::of(tag);
        self.batches.borrow().get(key).map(|session| session.destination)
    }

    /// Has every open batch look whether it may go on.
    pub fn wake_batches(&self) {
        self.batches.borrow().iter().for_each(|(_, session)| session.wake());
    }

    /// Requests still waiting.
    pub fn count(&self) -> usize {
        self.singles.borrow().len() + self.batches.borrow().len() + self.handoff.count()
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
        Grant::Nothing | Grant::App(_) => unreachable!("a publish is granted a topic"),
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
