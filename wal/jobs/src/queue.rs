//! One queue's jobs that are due: on time, late, at Kafka.
//!
//! What is known here is a job's key, 16 bytes. When too many of a queue are late, the rest stays in the tables, from a key on
//! ([`Queue::spill`]), until somebody looks for them again.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use crate::key::Key;
use crate::limits::{LATE_MS, Limits};
use crate::log::Name;

/// See the module.
#[derive(Debug)]
pub struct Queue {
    pub name: Arc<Name>,
    /// Its name is durable.
    pub is_defined: bool,
    pub is_paused: bool,
    /// Jobs that did not come to an end.
    pub pending: u64,
    /// In order, but for what was given back.
    pub on_time: VecDeque<Key>,
    pub late: VecDeque<Key>,
    /// Late jobs from here on are only in tables and memory.
    pub spill: Option<Key>,
    pub in_flight: HashMap<u64, Flight>,
    /// Kafka does not take its jobs before that.
    pub hold_until_ms: i64,
    /// The last ones were given back: one at a time, until one is taken.
    pub is_probing: bool,
}

/// A job that was given to Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flight {
    pub key: Key,
    /// Kafka may have it since then, epoch ms.
    pub since_ms: i64,
    /// Kafka has it; the log does not say so yet.
    pub is_done: bool,
}

impl Queue {
    pub fn new(name: Arc<Name>) -> Queue {
        Queue {
            name,
            is_defined: false,
            is_paused: false,
            pending: 0,
            on_time: VecDeque::new(),
            late: VecDeque::new(),
            spill: None,
            in_flight: HashMap::new(),
            hold_until_ms: i64::MIN,
            is_probing: false,
        }
    }

    /// Keys that are known here.
    pub fn known(&self) -> usize {
        self.on_time.len() + self.late.len()
    }

    /// A job is due. False: there is no room, and it is spilled.
    pub fn arrive(&mut self, key: Key, now_ms: i64, has_room: bool, limits: &Limits) -> bool {
        match is_late(key, now_ms) {
            true => self.arrive_late(key, has_room, limits),
            false if has_room && self.on_time.len() < limits.queue_due_max => {
                self.on_time.push_back(key);
                true
            }
            false => self.spill(key),
        }
    }

    fn arrive_late(&mut self, key: Key, has_room: bool, limits: &Limits) -> bool {
        let is_behind = self.spill.is_some_and(|spill| spill <= key);
        if is_behind || !has_room || self.late.len() >= limits.queue_due_max {
            return self.spill(key);
        }
        self.late.push_back(key);
        true
    }

    fn spill(&mut self, key: Key) -> bool {
        self.spill = Some(self.spill.map_or(key, |spill| spill.min(key)));
        false
    }

    /// Those on time that have become late wait with the late ones. How many were spilled, from which key on.
    pub fn grow_late(&mut self, now_ms: i64, limits: &Limits) -> (usize, Option<Key>) {
        let (mut spilled, mut from) = (0, None);
        while let Some(key) = self.on_time.front().copied()
            && is_late(key, now_ms)
        {
            self.on_time.pop_front();
            if !self.arrive_late(key, true, limits) {
                spilled += 1;
                from = from.or(Some(key));
            }
        }
        (spilled, from)
    }

    /// It was taken before what waits, and waits again, in its place.
    pub fn give_back(&mut self, key: Key, now_ms: i64) {
        let list = if is_late(key, now_ms) { &mut self.late } else { &mut self.on_time };
        // Most often the first.
        let at = list.iter().position(|other| *other > key).unwrap_or(list.len());
        list.insert(at, key);
    }

    /// What is due is found again from the begin.
    pub fn forget_due(&mut self) {
        self.on_time = VecDeque::new();
        self.late = VecDeque::new();
        self.spill = None;
        self.hold_until_ms = i64::MIN;
    }

    /// Whether something may be given to Kafka.
    pub fn is_ready(&self, now_ms: i64, limits: &Limits) -> bool {
        !self.is_paused
            && self.hold_until_ms <= now_ms
            && self.in_flight.len() < if self.is_probing { 1 } else { limits.queue_in_flight_max }
            && self.known() > 0
    }

    /// The next one: those on time and those late in turns. `turn` counts.
    pub fn pop(&mut self, turn: usize) -> Option<Key> {
        let (first, second) = match turn.is_multiple_of(2) {
            true => (&mut self.on_time, &mut self.late),
            false => (&mut self.late, &mut self.on_time),
        };
        first.pop_front().or_else(|| second.pop_front())
    }

    /// Nothing of it is left but its name.
    pub fn is_over(&self) -> bool {
        self.pending == 0 && !self.is_paused && self.in_flight.is_empty() && self.known() == 0
    }
}

fn is_late(key: Key, now_ms: i64) -> bool {
    key.due_ms < now_ms.saturating_sub(LATE_MS)
}
