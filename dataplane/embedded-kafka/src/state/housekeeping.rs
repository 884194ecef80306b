//! What time alone does: old records and unused offsets go, idle files are closed, journals are compacted.

use std::time::Instant;

use tracing::{info, warn};

use crate::clock::Now;
use crate::limits::OFFSETS_CHECK_EVERY;
use crate::state::{BrokerConfig, State};

/// When the rarer things are looked at next.
pub struct Due {
    offsets: Instant,
    retention: Instant,
}

impl Due {
    pub fn after_start(config: &BrokerConfig, now: Now) -> Due {
        Due { offsets: now.at, retention: now.at + config.retention_check_every }
    }
}

impl State {
    /// Called every [`crate::limits::HOUSEKEEPING_EVERY`].
    pub fn housekeep(&mut self, now: Now) {
        if let Some(syncer) = self.syncer() {
            syncer.retry();
        }
        if self.due.offsets <= now.at {
            self.due.offsets = now.at + OFFSETS_CHECK_EVERY;
            self.expire_offsets(now);
        }
        if self.due.retention <= now.at {
            self.due.retention = now.at + self.config.retention_check_every;
            self.retain(now);
        }
        self.housekeep_partitions(now);
        self.compact();
    }

    /// What nobody uses any more goes without being told of; the next sync of the journal takes it along.
    fn expire_offsets(&mut self, now: Now) {
        let retention_ms = i64::try_from(self.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let groups = &self.groups;
        match self.offsets.expire(retention_ms, now.ms, |group| groups.has_members(group)) {
            Ok(0) => {}
            Ok(expired) => info!(groups = expired, retention_ms, "offsets of unused groups expired"),
            Err(err) => warn!(%err, "offsets could not be expired"),
        }
    }

    /// Old and too many records go: first in the catalogue, then, when that is durable, from the disk.
    fn retain(&mut self, now: Now) {
        let mut later = self.starts_by_retention(now);
        later.retain(|(name, index, start)| {
            let set = self.catalogue.set_start(name, *index, *start);
            set.inspect_err(|refusal| warn!(topic = name, index, why = refusal.message, "retention failed")).is_ok()
        });
        let point = self.persist_catalogue();
        for (name, index, start) in later {
            info!(topic = name, index, start, "retention forgot old records");
            if let Some(partition) = self.partition(&name, index) {
                partition.forget_before(start, point.clone());
            }
        }
    }

    /// Partitions that should begin later than they do.
    fn starts_by_retention(&mut self, now: Now) -> Vec<(String, i32, i64)> {
        let mut later = Vec::new();
        for meta in self.catalogue.topics() {
            let Some(topic) = self.topics.get_mut(&meta.name) else { continue };
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                if let Some(start) = partition.start_by_retention(&topic.options, now) {
                    later.push((meta.name.clone(), index as i32, start));
                }
            }
        }
        later
    }

    /// In the catalogue's order, so that a simulation tells the same story twice.
    fn housekeep_partitions(&mut self, now: Now) {
        for meta in self.catalogue.topics() {
            let topic = self.topics.get_mut(&meta.name);
            topic.into_iter().flat_map(|topic| &mut topic.partitions).for_each(|partition| partition.housekeep(now));
        }
    }

    /// Committed offsets of a deleted topic are there until its deletion is durable, so they are compacted only then.
    fn compact(&mut self) {
        let compacted = self.catalogue.compact_if_grown().and_then(|()| match self.deleted.is_empty() {
            true => self.offsets.compact_if_grown(),
            false => Ok(()),
        });
        if let Err(err) = compacted {
            warn!(%err, "a journal could not be compacted");
        }
    }
}
