//! Answers that a fault hook holds back.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use crate::waiting::slot::Slot;

/// Slots and when their connections may look at them.
#[derive(Default)]
pub struct Delays {
    held: BTreeMap<(Instant, u64), Rc<Slot>>,
    next_key: u64,
}

impl Delays {
    /// Holds the answer back until then, whenever it is given.
    pub fn hold(&mut self, slot: &Rc<Slot>, until: Instant) {
        slot.hold_until(until);
        self.next_key += 1;
        self.held.insert((until, self.next_key), Rc::clone(slot));
    }

    /// Wakes the connections whose time has come.
    pub fn release(&mut self, now: Instant) {
        while let Some(entry) = self.held.first_entry()
            && entry.key().0 <= now
        {
            entry.remove().ring();
        }
    }

    /// When `release` has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.held.keys().next().map(|(at, _)| *at)
    }
}
