//! Jobs that were under way when a process was killed: Kafka may have them, and nobody noted it. They are looked for in their
//! topic before they are given to it again.
//!
//! Each of our records says in a header which job it is. The store knows since when Kafka may have it, and the record has a
//! timestamp of that clock, or its publisher's, so a partition is read from there on ([`kafka_client::Search`]). Brokers that stamp
//! records themselves may be behind by [`JOB_DOUBT_MARGIN`].
//!
//! Where nobody can look (no right to read, topic gone), jobs are given again: at least once.

use std::time::Instant;

use ::jobs::book::QueueId;
use ::jobs::store::Job;
use ::jobs::{JobId, Key};
use foldhash::HashMap;
use kafka_client::{Search, Since, TopicIdx};
use kafka_wire::job_entry;

use super::desk::Desk;
use super::fire::{DUE_HEADER, JOB_ID_HEADER};
use crate::kafka::cluster::Cluster;
use crate::kafka::searches::SearchKey;
use crate::limits::{JOB_DOUBT_MARGIN, JOB_DOUBT_PATIENCE};

/// Of one shard.
#[derive(Default)]
pub struct Doubts {
    by_queue: HashMap<QueueId, Doubt>,
}

/// Jobs of one queue that are looked for.
struct Doubt {
    cluster: usize,
    topic: TopicIdx,
    search: SearchKey,
    since_ms: i64,
    began: Instant,
    jobs: Vec<Job>,
    found: HashMap<Key, (i32, i64)>,
}

/// What is known of jobs that were looked for.
pub struct Looked {
    pub queue: QueueId,
    /// Kafka has them, there.
    pub fired: Vec<(Key, i32, i64)>,
    /// It does not, or nobody can tell.
    pub absent: Vec<Job>,
    /// It is away: they are looked for later.
    pub away: Vec<Job>,
}

impl Doubts {
    pub fn is_about(&self, queue: QueueId) -> bool {
        self.by_queue.contains_key(&queue)
    }

    /// Looks for jobs of a queue; [`Doubts::look`] has them when it is known.
    pub fn hold(&mut self, cluster: &Cluster, topic: TopicIdx, queue: QueueId, jobs: Vec<Job>, now: Instant) {
        let since_ms = jobs.iter().filter_map(from_ms).min().expect("each is in doubt");
        let begin = |since_ms: i64| {
            let name = cluster.client.borrow().topic_name(topic).to_owned();
            let from_ms = since_ms.saturating_sub(JOB_DOUBT_MARGIN.as_millis() as i64);
            cluster.search(Search::new(topic, &name, None, Since::Time(from_ms), JOB_ID_HEADER))
        };
        match self.by_queue.get_mut(&queue) {
            Some(doubt) => {
                doubt.jobs.extend(jobs);
                // A search is its cluster's: one of a topic that has moved meanwhile goes on as it is.
                if since_ms < doubt.since_ms && doubt.cluster == cluster.index {
                    cluster.cancel_search(doubt.search);
                    (doubt.since_ms, doubt.search) = (since_ms, begin(since_ms));
                }
            }
            None => {
                let (cluster, search) = (cluster.index, begin(since_ms));
                let found = HashMap::default();
                self.by_queue.insert(queue, Doubt { cluster, topic, search, since_ms, began: now, jobs, found });
            }
        }
    }

    /// What became known about jobs on this cluster.
    pub fn look(&mut self, desk: &Desk, cluster: &Cluster, now: Instant) -> Vec<Looked> {
        let queues: Vec<QueueId> = self.by_queue.keys().copied().collect();
        queues.into_iter().filter_map(|queue| self.look_at(desk, cluster, queue, now)).collect()
    }

    fn look_at(&mut self, desk: &Desk, cluster: &Cluster, queue: QueueId, now: Instant) -> Option<Looked> {
        let doubt = self.by_queue.get_mut(&queue).filter(|doubt| doubt.cluster == cluster.index)?;
        let issuer = desk.store().issuer()?;
        let look = cluster.look_at(doubt.search);
        for found in look.found {
            let text = |name| found.header(name).and_then(|value| std::str::from_utf8(value).ok());
            let id = text(JOB_ID_HEADER).and_then(JobId::parse).filter(|id| issuer.is_genuine(queue.0, *id));
            let due_ms = text(DUE_HEADER).and_then(|text| text.parse::<i64>().ok());
            // Ids of two nodes may look alike; not when they are due in the same millisecond, too.
            if let (Some(id), Some(due_ms)) = (id, due_ms) {
                doubt.found.entry(Key { due_ms, seq: id.seq() }).or_insert((found.partition, found.offset));
            }
        }
        let all_found = doubt.jobs.iter().all(|job| doubt.found.contains_key(&job.key));
        let is_away = look.last_error.is_some() && now - doubt.began >= JOB_DOUBT_PATIENCE;
        if look.ended.is_none() {
            if !all_found && !is_away {
                return None;
            }
            cluster.cancel_search(doubt.search);
        }
        let Doubt { topic, jobs, found, .. } = self.by_queue.remove(&queue).expect("looked at above");
        let (there, mut rest): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| found.contains_key(&job.key));
        let fired: Vec<(Key, i32, i64)> = there
            .iter()
            .map(|job| {
                let (partition, offset) = found[&job.key];
                (job.key, partition, offset)
            })
            .collect();
        let (absent, away) = match look.ended {
            Some(_) => {
                rest.iter_mut().for_each(|job| job.doubt_since_ms = None);
                (rest, Vec::new())
            }
            None => (Vec::new(), rest),
        };
        let client = cluster.client.borrow();
        let (topic, fired_count, again) = (client.topic_name(topic), fired.len(), absent.len());
        match &look.ended {
            Some(Err(err)) => tracing::warn!(
                topic,
                %err,
                again,
                "nobody can tell whether Kafka has delayed jobs that were under way when this gateway ended: they are published, \
                 perhaps again"
            ),
            None if !all_found => {}
            Some(Ok(_)) | None => tracing::info!(
                topic,
                fired = fired_count,
                again,
                "delayed jobs were at Kafka when this gateway ended: it has those, and gets the others now"
            ),
        }
        Some(Looked { queue, fired, absent, away })
    }
}

/// The record of a job has no timestamp before this, if there is one.
fn from_ms(job: &Job) -> Option<i64> {
    let own = job_entry::read(&job.body).and_then(|entry| entry.timestamp_ms);
    job.doubt_since_ms.map(|since_ms| own.map_or(since_ms, |own| own.min(since_ms)))
}
