//! What a store says of itself: for the operator, for readiness, for metrics.

use std::time::Instant;

use journal::queue::{Backlog, Name};

use super::domains::State;
use super::store::Store;
use crate::env::board::HandoffHealth;
use crate::env::metrics::ShardMetrics;

/// One look at a store.
#[derive(Debug, Clone)]
pub struct Status {
    pub records: u64,
    pub bytes: u64,
    pub parked: u64,
    /// When the oldest that waits became durable, epoch ms.
    pub oldest_ms: Option<i64>,
    pub domains: Vec<DomainStatus>,
}

/// One app's messages for a partition that is not DIRECT.
#[derive(Debug, Clone)]
pub struct DomainStatus {
    pub name: Name,
    pub state: State,
    pub since_ms: i64,
    pub why: std::sync::Arc<str>,
    pub records: u64,
    pub bytes: u64,
    pub drain_bytes_per_s: Option<u64>,
}

impl DomainStatus {
    /// Seconds until it is delivered, as fast as it goes now.
    pub fn left_s(&self) -> Option<u64> {
        self.drain_bytes_per_s.map(|rate| self.bytes.div_ceil(rate))
    }
}

impl Status {
    /// Seconds until everything that is being delivered is; none while something is not.
    pub fn left_s(&self) -> Option<u64> {
        self.domains.iter().map(DomainStatus::left_s).try_fold(0, |longest, left| left.map(|left| longest.max(left)))
    }

    /// When the first partition that is not DIRECT stopped being it, epoch ms.
    pub fn since_ms(&self) -> Option<i64> {
        self.domains.iter().map(|domain| domain.since_ms).min()
    }
}

impl Store {
    pub fn status(&self, now: Instant) -> Status {
        let inner = self.inner();
        let held = inner.queue.usage();
        let (mut parked, mut bytes) = (0, 0);
        let mut oldest_ms: Option<i64> = None;
        for (stream, _) in inner.queue.streams() {
            let backlog = inner.queue.backlog(stream);
            parked += backlog.parked;
            bytes += backlog.waiting_bytes + backlog.taken_bytes;
            oldest_ms = [oldest_ms, backlog.oldest_ms].into_iter().flatten().min();
        }
        let mut domains = Vec::new();
        for (subject, lane, domain) in inner.domains.iter() {
            for stream in inner.queue.about(subject, lane) {
                let Backlog { appending, waiting, waiting_bytes, taken, taken_bytes, .. } = inner.queue.backlog(stream);
                let Some(name) = inner.queue.name(stream) else { continue };
                domains.push(DomainStatus {
                    name: name.clone(),
                    state: domain.state,
                    since_ms: domain.since_ms,
                    why: std::sync::Arc::clone(&domain.why),
                    records: appending + waiting + taken,
                    bytes: waiting_bytes + taken_bytes,
                    drain_bytes_per_s: domain.drain_bytes_per_s(now),
                });
            }
        }
        domains.sort_by(|a, b| a.name.cmp(&b.name));
        Status { records: held.records - parked, bytes, parked, oldest_ms, domains }
    }

    /// The same in short.
    pub fn health(&self) -> HandoffHealth {
        let status = self.status(Instant::now());
        HandoffHealth {
            has_room: self.has_room(),
            partitions: status.domains.len() as u64,
            messages: status.records,
            bytes: status.bytes,
            since_ms: status.since_ms(),
            left_s: status.left_s(),
        }
    }

    /// Everything as metrics, by one shard of the process, a few times a second.
    pub fn measure(&self, metrics: &ShardMetrics, now: Instant, now_ms: i64) {
        let status = self.status(now);
        let age_ms = status.oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms).max(0));
        let journal = self.journal().metrics();
        for (what, value) in [
            ("messages", status.records),
            ("bytes", status.bytes),
            ("parked", status.parked),
            ("partitions", status.domains.len() as u64),
            ("oldest_ms", age_ms as u64),
            ("left_s", status.left_s().unwrap_or(0)),
            ("journal_segments", self.journal().segments().len() as u64),
            ("journal_disk_bytes", self.disk_bytes()),
            ("journal_records", journal.records.get()),
            ("journal_commits", journal.commits.get()),
            ("journal_waiting_bytes", journal.waiting_bytes.get()),
            ("journal_durable_lsn", journal.durable_lsn.get()),
            ("journal_poisoned", journal.poisoned.get()),
            ("journal_lost_records", journal.lost_records.get()),
            ("journal_read_only", journal.read_only.get()),
            ("journal_recovery_ms", journal.recovery_ms.get()),
        ] {
            metrics.handoff(what, value);
        }
    }

    /// Whether a message more would be taken, as far as is known.
    pub fn has_room(&self) -> bool {
        let held = self.inner().queue.usage();
        let budget = self.budget();
        self.takes()
            && !self.journal().is_read_only()
            && held.bytes < budget.bytes_max
            && held.records < budget.records_max
    }
}
