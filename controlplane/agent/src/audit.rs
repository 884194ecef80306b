//! What shards tell for the audit log, until it is a row of the database.
//!
//! ```text
//! shards ──channel──► Gate: counts what comes too often ──► Outbox: numbers, waits ──► AuthDb::record_events
//!                                                                      └── e frame ──► the owner, which does that
//! ```
//! Who has a database writes; who has none tells the owner whom it follows. An event leaves the outbox when its row is known
//! to be there. Until then it is in memory only: what ends this process ends it, too.

mod gate;
mod outbox;

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use model::{AuditEvent, ReportedEvent};

use crate::limits::{AUDIT_CHANNEL_EVENTS, COMPLAIN_PERIOD};
use gate::Gate;
use outbox::Outbox;

/// From shards to their process's agent. A shard never waits: what does not fit is the shard's to count.
pub fn channel() -> (SyncSender<AuditEvent>, Receiver<AuditEvent>) {
    sync_channel(AUDIT_CHANNEL_EVENTS)
}

/// One per agent that is told events.
pub(crate) struct Audit {
    events: Receiver<AuditEvent>,
    gate: Gate,
    outbox: Outbox,
    complained_at: Option<Instant>,
    complained_of: u64,
}

impl Audit {
    pub(crate) fn new(events: Receiver<AuditEvent>, node: &str) -> Self {
        let began = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let outbox = Outbox::new(node.to_owned(), format!("{node}-{began:x}"));
        Self { events, gate: Gate::default(), outbox, complained_at: None, complained_of: 0 }
    }

    /// Takes what shards have told since the last time.
    pub(crate) fn take(&mut self, now: Instant) {
        // More than the channel holds may come while it is emptied; the rest is for the next time.
        for event in self.events.try_iter().take(AUDIT_CHANNEL_EVENTS) {
            if let Some(event) = self.gate.pass(event, now) {
                self.outbox.push(event);
            }
        }
        for event in self.gate.counted(now) {
            self.outbox.push(event);
        }
        self.complain(now);
    }

    /// As [`Audit::take`], and what is still being counted: nothing comes after it.
    pub(crate) fn take_last(&mut self, now: Instant) {
        self.take(now);
        for event in self.gate.counted_so_far() {
            self.outbox.push(event);
        }
    }

    /// What is to be told now, if anything is.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Vec<ReportedEvent>> {
        self.outbox.due(now)
    }

    /// Rows are there up to the one of this id.
    pub(crate) fn recorded(&mut self, id: &str) {
        self.outbox.recorded(id);
    }

    /// It could not be written; tried again after a pause.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.outbox.failed(now);
    }

    /// Whoever was told is gone: somebody else may be told at once.
    pub(crate) fn told_nobody(&mut self) {
        self.outbox.told_nobody();
    }

    pub(crate) fn waiting(&self) -> usize {
        self.outbox.waiting()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.outbox.dropped()
    }

    fn complain(&mut self, now: Instant) {
        let dropped = self.outbox.dropped();
        let is_time = self.complained_at.is_none_or(|at| now.duration_since(at) >= COMPLAIN_PERIOD);
        if dropped > self.complained_of && is_time {
            let (count, waiting) = (dropped - self.complained_of, self.outbox.waiting());
            tracing::error!(count, waiting, "the oldest events for the audit log were dropped: nobody takes them");
            (self.complained_at, self.complained_of) = (Some(now), dropped);
        }
    }
}
