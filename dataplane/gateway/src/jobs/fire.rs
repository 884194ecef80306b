//! Gives jobs that are due to Kafka: each queue's in order, through this shard's client.
//!
//! What the client knows that it cannot send now it gives back, and the queue is left alone for a moment. What was sent and not
//! answered it repeats under the same producer id and sequence for as long as it takes, so that a job is stored once while this
//! process lives. Those that were under way when the last one died are looked for first ([`doubts`](super::doubts)).

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::jobs::book::QueueId;
use ::jobs::log::{Name, Reason};
use ::jobs::store::{Job, Outcome as Fate};
use foldhash::HashMap;
use kafka_client::{Acks, How, Outcome, ProduceError};
use kafka_wire::job_entry;
use kafka_wire::record_batch::{HeaderRef, RecordRef};
use model::{Snapshot, authorize_publish};
use slab::Slab;
use smallvec::SmallVec;

use super::Ground;
use super::desk::Desk;
use super::doubts::{Doubts, Looked};
use crate::kafka::cluster::Cluster;
use crate::kafka::denied::{self, Verdict};
use crate::kafka::destination::Destination;
use crate::refusal::Refusal;

/// Above the key in a tag; the kinds below it are publishing's.
const KIND: u64 = 3 << KIND_SHIFT;
const KIND_SHIFT: u32 = 56;

/// Longer than any outage that is ended by somebody.
const PATIENCE: Duration = Duration::from_secs(7 * 24 * 3600);
/// After Kafka did not take a queue's job, it is tried again this soon.
const PAUSE: Duration = Duration::from_millis(200);

/// Names of the record headers that say which job a message was, and when it was due.
pub const JOB_ID_HEADER: &[u8] = b"gafka-job-id";
pub const DUE_HEADER: &[u8] = b"gafka-due-ms";

/// Jobs of this shard that are with the Kafka client.
#[derive(Default)]
pub struct Firing {
    chunks: RefCell<Slab<Chunk>>,
    /// Since when the cluster says, and says nothing else, that there is no such topic.
    gone_since: RefCell<HashMap<QueueId, Instant>>,
    /// Jobs that Kafka may have.
    doubts: RefCell<Doubts>,
}

/// Jobs of one queue that went to the client one after the other.
struct Chunk {
    queue: QueueId,
    name: Arc<Name>,
    keys: Vec<::jobs::Key>,
    left: usize,
}

impl Firing {
    pub fn is_its(tag: u64) -> bool {
        tag >> KIND_SHIFT == KIND >> KIND_SHIFT
    }

    /// Runs of jobs that Kafka has not answered.
    pub fn count(&self) -> usize {
        self.chunks.borrow().len()
    }

    /// Gives what is due to Kafka.
    pub fn fire(&self, ground: Ground<'_>, desk: &Desk, due: Vec<Job>, now: Instant) {
        let mut due = due.into_iter().peekable();
        while let Some(first) = due.next() {
            let queue = first.queue;
            let mut jobs = vec![first];
            jobs.extend(std::iter::from_fn(|| due.next_if(|job| job.queue == queue)));
            self.fire_run(ground, desk, queue, jobs, now);
        }
    }

    /// What was found out about jobs that this cluster may have.
    pub fn searched(&self, ground: Ground<'_>, desk: &Desk, cluster: &Cluster, now: Instant) {
        let looked = self.doubts.borrow_mut().look(desk, cluster, now);
        for Looked { queue, fired, absent, away } in looked {
            ground.env.metrics.jobs_found(fired.len() as u64);
            for (key, partition, offset) in fired {
                desk.settle(Fate::Fired { queue, seqs: vec![key.seq], partition, offset });
            }
            give_back(desk, queue, away.iter().map(|job| job.key.seq).collect());
            if !absent.is_empty() {
                desk.store().not_in_kafka(&absent.iter().map(|job| job.key.seq).collect::<Vec<_>>());
                self.fire_run(ground, desk, queue, absent, now);
            }
        }
    }

    /// Jobs of one queue, in order.
    fn fire_run(&self, ground: Ground<'_>, desk: &Desk, queue: QueueId, jobs: Vec<Job>, now: Instant) {
        let name = Arc::clone(&jobs[0].name);
        let snapshot = ground.access.borrow_snapshot();
        let destination = match may(&snapshot, &name) {
            Ok(permit) => ground.clusters.topic_destination(&permit),
            Err(reason) => {
                jobs.iter().for_each(|job| park(desk, job, reason.clone()));
                return;
            }
        };
        let destination: Destination = match destination {
            Ok(destination) => destination,
            Err(refusal) => return later(desk, queue, &jobs, &refusal),
        };
        drop(snapshot);
        let cluster = ground.clusters.at(destination.route.cluster);
        let mut doubts = self.doubts.borrow_mut();
        let (doubtful, jobs): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.doubt_since_ms.is_some());
        if !doubtful.is_empty() {
            doubts.hold(cluster, destination.route.topic, queue, doubtful, now);
        }
        if jobs.is_empty() {
            return;
        }
        if doubts.is_about(queue) {
            // They would go before those that are looked for.
            return give_back(desk, queue, jobs.iter().map(|job| job.key.seq).collect());
        }
        drop(doubts);
        let mut chunks = self.chunks.borrow_mut();
        let place = chunks.vacant_entry();
        let tag = KIND | place.key() as u64;
        let how = How::new(Acks::All, now + PATIENCE).or_give_back();
        let mut keys = Vec::with_capacity(jobs.len());
        // Of the clock that says what is due, so that a search from then on finds it.
        let now_ms = desk.store().now_ms();
        let mut client = cluster.client.borrow_mut();
        for (at, job) in jobs.iter().enumerate() {
            let Some(entry) = job_entry::read(&job.body) else {
                park(desk, job, reason("unreadable", "its bytes on the gateway's disk make no sense"));
                continue;
            };
            let id = desk.id_of(queue, job.key.seq).to_string();
            let due = job.key.due_ms.to_string();
            let mut headers: SmallVec<[HeaderRef<'_>; 8]> = entry.headers.iter().copied().collect();
            headers.push(HeaderRef { name: JOB_ID_HEADER, value: Some(id.as_bytes()) });
            headers.push(HeaderRef { name: DUE_HEADER, value: Some(due.as_bytes()) });
            let timestamp_ms = entry.timestamp_ms.unwrap_or(now_ms);
            let record = RecordRef { timestamp_ms, key: entry.key, value: entry.value, headers: &headers };
            let topic = destination.route.topic;
            match client.produce(topic, entry.partition, &record, how, tag, keys.len() as u32, now) {
                Ok(()) => keys.push(job.key),
                Err(error) => match self.verdict(queue, &error, now) {
                    Verdict::Never(code) => park(desk, job, reason(code, &error.to_string())),
                    // Those behind it would go before it.
                    Verdict::Later => {
                        give_back(desk, queue, jobs[at..].iter().map(|job| job.key.seq).collect());
                        break;
                    }
                },
            }
        }
        drop(client);
        if !keys.is_empty() {
            let left = keys.len();
            place.insert(Chunk { queue, name, keys, left });
            cluster.wake();
        }
    }

    /// Kafka's outcome for a run of jobs.
    pub fn complete(&self, ground: Ground<'_>, desk: &Desk, outcome: &Outcome, now: Instant) {
        let key = (outcome.tag & !KIND) as usize;
        let mut chunks = self.chunks.borrow_mut();
        let Some(chunk) = chunks.get_mut(key) else {
            debug_assert!(false, "an outcome for jobs nobody fired: key {key}");
            return;
        };
        let (first, count) = (outcome.record_first as usize, outcome.count as usize);
        let (queue, app) = (chunk.queue, Arc::clone(&chunk.name.account));
        let keys: Vec<::jobs::Key> = chunk.keys[first..first + count].to_vec();
        chunk.left -= count;
        if chunk.left == 0 {
            chunks.remove(key);
        }
        drop(chunks);
        let seqs = || keys.iter().map(|key| key.seq).collect();
        match &outcome.result {
            Ok(stored) => {
                self.gone_since.borrow_mut().remove(&queue);
                let now_ms = ground.env.wall_clock_ms();
                ground.env.metrics.jobs_fired(&app, keys.iter().map(|key| now_ms - key.due_ms));
                desk.settle(Fate::Fired { queue, seqs: seqs(), partition: stored.partition, offset: stored.offset });
            }
            Err(error) => match self.verdict(queue, error, now) {
                Verdict::Never(code) => {
                    let reason = reason(code, &error.to_string());
                    for key in keys {
                        desk.settle(Fate::Parked { queue, key, reason: reason.clone() });
                    }
                }
                Verdict::Later => give_back(desk, queue, seqs()),
            },
        }
    }

    fn verdict(&self, queue: QueueId, error: &ProduceError, now: Instant) -> Verdict {
        let mut all = self.gone_since.borrow_mut();
        let mut gone_since = all.remove(&queue);
        let verdict = denied::verdict(error, &mut gone_since, now);
        all.extend(gone_since.map(|since| (queue, since)));
        verdict
    }
}

/// Whether the app may still publish there.
fn may<'s>(snapshot: &'s Snapshot, name: &Name) -> Result<model::Permit<'s>, Reason> {
    let (topic, ver) = name.subject.split_once('/').unwrap_or((&name.subject, ""));
    let Some(app) = snapshot.app(&name.account) else {
        return Err(reason("grant_revoked", "the app that added it is gone"));
    };
    if !app.enabled {
        return Err(reason("grant_revoked", "the app that added it is disabled"));
    }
    authorize_publish(snapshot, app, topic, ver).map_err(|denied| reason("topic_gone", &denied.refusal().message))
}

fn park(desk: &Desk, job: &Job, reason: Reason) {
    desk.settle(Fate::Parked { queue: job.queue, key: job.key, reason });
}

fn later(desk: &Desk, queue: QueueId, jobs: &[Job], refusal: &Refusal) {
    tracing::debug!(queue = queue.0, why = refusal.message, "delayed jobs are due and cannot go now");
    give_back(desk, queue, jobs.iter().map(|job| job.key.seq).collect());
}

fn give_back(desk: &Desk, queue: QueueId, seqs: Vec<u64>) {
    if seqs.is_empty() {
        return;
    }
    desk.settle(Fate::GivenBack { queue, seqs, pause: PAUSE });
}

fn reason(code: &str, sentence: &str) -> Reason {
    Reason { code: Arc::from(code), sentence: Arc::from(sentence) }
}
