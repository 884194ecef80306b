//! Numbered events that wait until their rows are there.
//!
//! One batch is on its way at a time, always the oldest ones. What is not answered in time, or went to somebody who is gone,
//! is told again with the same ids. Full, it drops the oldest and counts them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use model::{AuditEvent, ReportedEvent};

use crate::limits::{AUDIT_AGAIN_MAX, AUDIT_AGAIN_MIN, AUDIT_BATCH_EVENTS_MAX, AUDIT_WAITING_MAX, RECORDED_WITHIN};

pub(super) struct Outbox {
    node: String,
    /// Begins every id.
    sender: String,
    told: u64,
    waiting: VecDeque<ReportedEvent>,
    dropped: u64,
    /// Nothing is told before; `None`: at once.
    not_before: Option<Instant>,
    pause: Duration,
}

impl Outbox {
    pub(super) fn new(node: String, sender: String) -> Self {
        let waiting = VecDeque::new();
        Self { node, sender, told: 0, waiting, dropped: 0, not_before: None, pause: AUDIT_AGAIN_MIN }
    }

    pub(super) fn push(&mut self, event: AuditEvent) {
        if self.waiting.len() >= AUDIT_WAITING_MAX {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.told += 1;
        let id = format!("{}-{}", self.sender, self.told);
        self.waiting.push_back(ReportedEvent { id, node: self.node.clone(), event });
    }

    pub(super) fn due(&mut self, now: Instant) -> Option<Vec<ReportedEvent>> {
        if self.waiting.is_empty() || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.not_before = Some(now + RECORDED_WITHIN);
        Some(self.waiting.iter().take(AUDIT_BATCH_EVENTS_MAX).cloned().collect())
    }

    pub(super) fn recorded(&mut self, id: &str) {
        (self.not_before, self.pause) = (None, AUDIT_AGAIN_MIN);
        // Not there any more: it was dropped, and so was what came before it.
        if let Some(last) = self.waiting.iter().take(AUDIT_BATCH_EVENTS_MAX).position(|waiting| waiting.id == id) {
            self.waiting.drain(..=last);
        }
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + self.pause);
        self.pause = (2 * self.pause).min(AUDIT_AGAIN_MAX);
    }

    pub(super) fn told_nobody(&mut self) {
        self.not_before = None;
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::AuditWhat;

    fn outbox(events: usize) -> Outbox {
        let mut outbox = Outbox::new("gw".to_owned(), "gw-1".to_owned());
        push(&mut outbox, events);
        outbox
    }

    fn push(outbox: &mut Outbox, events: usize) {
        let peer = "10.0.0.1:1".parse().unwrap();
        (0..events).for_each(|_| outbox.push(AuditEvent::new(0, AuditWhat::KafkaGroupsDeleted, "shop", peer, "a")));
    }

    fn ids(batch: Option<Vec<ReportedEvent>>) -> Option<(String, String, usize)> {
        batch.map(|batch| (batch[0].id.clone(), batch[batch.len() - 1].id.clone(), batch.len()))
    }

    fn batch(first: usize, last: usize) -> Option<(String, String, usize)> {
        Some((format!("gw-1-{first}"), format!("gw-1-{last}"), last + 1 - first))
    }

    #[test]
    fn one_batch_is_on_its_way_and_goes_again_until_it_is_acknowledged() {
        let (mut outbox, now) = (outbox(3), Instant::now());
        assert_eq!(ids(outbox.due(now)), batch(1, 3));
        push(&mut outbox, 1);
        assert_eq!(outbox.due(now + RECORDED_WITHIN / 2), None);
        assert_eq!(ids(outbox.due(now + RECORDED_WITHIN)), batch(1, 4), "the same ids");
        // Of the first time, late.
        outbox.recorded("gw-1-3");
        assert_eq!(outbox.waiting(), 1);
        assert_eq!(ids(outbox.due(now + RECORDED_WITHIN)), batch(4, 4));
        outbox.told_nobody();
        assert_eq!(ids(outbox.due(now + RECORDED_WITHIN)), batch(4, 4), "the next one is told at once");
        outbox.recorded("gw-1-4");
        outbox.recorded("gw-1-4");
        assert_eq!((outbox.due(now + 2 * RECORDED_WITHIN), outbox.waiting(), outbox.dropped()), (None, 0, 0));
    }

    #[test]
    fn what_fails_is_tried_again_later_and_later() {
        let (mut outbox, mut now) = (outbox(1), Instant::now());
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert!(outbox.due(now).is_some());
            outbox.failed(now);
            let again = now + Duration::from_secs(seconds);
            assert!(outbox.due(again - Duration::from_millis(1)).is_none(), "{seconds}");
            now = again;
        }
    }

    #[test]
    fn it_is_bounded_and_drops_the_oldest_also_of_what_is_on_its_way() {
        let (mut outbox, now) = (outbox(AUDIT_WAITING_MAX), Instant::now());
        assert_eq!(ids(outbox.due(now)), batch(1, AUDIT_BATCH_EVENTS_MAX));
        push(&mut outbox, 10);
        assert_eq!((outbox.waiting(), outbox.dropped()), (AUDIT_WAITING_MAX, 10));
        outbox.recorded(&format!("gw-1-{AUDIT_BATCH_EVENTS_MAX}"));
        assert_eq!(outbox.waiting(), AUDIT_WAITING_MAX + 10 - AUDIT_BATCH_EVENTS_MAX);
        assert_eq!(ids(outbox.due(now)), batch(AUDIT_BATCH_EVENTS_MAX + 1, 2 * AUDIT_BATCH_EVENTS_MAX));
        push(&mut outbox, AUDIT_WAITING_MAX);
        outbox.recorded("gw-1-300");
        assert_eq!(outbox.waiting(), AUDIT_WAITING_MAX, "it was dropped: nothing newer goes with it");
    }
}
