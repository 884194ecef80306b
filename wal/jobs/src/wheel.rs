//! Jobs that are due soon, by ten milliseconds (Varghese & Lauck, "Hashed and hierarchical timing wheels").
//!
//! Putting one in costs a push, whatever is in there. What is due later than the wheel goes round is not put in.

use crate::key::Key;
use crate::limits::{WHEEL_SLOT_MS, WHEEL_SLOTS};

const SLOTS: usize = WHEEL_SLOTS as usize;
/// How far ahead of the present a job in the wheel may be due.
pub const SPAN_MS: i64 = WHEEL_SLOT_MS * (WHEEL_SLOTS - 1);

/// A job and its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub key: Key,
    pub queue: u32,
}

/// See the module.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// Which slots have something, a bit each.
    filled: [u64; SLOTS / 64],
    /// Everything of slots before it has come out.
    tick: i64,
    now_ms: i64,
    count: usize,
}

fn tick_of(ms: i64) -> i64 {
    ms.div_euclid(WHEEL_SLOT_MS)
}

fn slot_of(tick: i64) -> usize {
    tick.rem_euclid(WHEEL_SLOTS) as usize
}

impl Wheel {
    pub fn new(now_ms: i64) -> Wheel {
        Wheel { slots: vec![Vec::new(); SLOTS], filled: [0; SLOTS / 64], tick: tick_of(now_ms), now_ms, count: 0 }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Up to when everything came out.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// What is due already comes out next.
    ///
    /// # Panics
    /// When it is due later than the wheel goes round: our own bug.
    pub fn insert(&mut self, entry: Entry) {
        let tick = tick_of(entry.key.due_ms).max(self.tick);
        assert!(tick - self.tick < WHEEL_SLOTS, "{entry:?} is too far from tick {} for the wheel", self.tick);
        let slot = slot_of(tick);
        self.slots[slot].push(entry);
        self.filled[slot / 64] |= 1 << (slot % 64);
        self.count += 1;
    }

    /// Takes out everything that is due, in order. A clock that went back takes out nothing.
    pub fn expire(&mut self, now_ms: i64, out: &mut Vec<Entry>) {
        let from = out.len();
        self.now_ms = self.now_ms.max(now_ms);
        let now = tick_of(now_ms);
        // Once round is every slot there is.
        let last = now.min(self.tick.saturating_add(WHEEL_SLOTS - 1));
        while self.tick <= last {
            let Some(tick) = self.next_filled(last) else { break };
            self.tick = tick;
            let slot = slot_of(tick);
            let before = out.len();
            let entries = &mut self.slots[slot];
            match tick < now {
                true => out.append(entries),
                false => out.extend(entries.extract_if(.., |entry| entry.key.due_ms <= now_ms)),
            }
            self.count -= out.len() - before;
            if !entries.is_empty() {
                break; // due later in this tick
            }
            *entries = Vec::new();
            self.filled[slot / 64] &= !(1 << (slot % 64));
            if tick == now {
                break;
            }
        }
        self.tick = self.tick.max(now);
        out[from..].sort_unstable();
    }

    /// When the next one is due.
    pub fn next_due_ms(&self) -> Option<i64> {
        let tick = self.next_filled(self.tick + WHEEL_SLOTS - 1)?;
        self.slots[slot_of(tick)].iter().map(|entry| entry.key.due_ms).min()
    }

    /// The first tick that has something, from the present one to `last`.
    fn next_filled(&self, last: i64) -> Option<i64> {
        let mut tick = self.tick;
        while tick <= last {
            let slot = slot_of(tick);
            let word = self.filled[slot / 64] >> (slot % 64);
            if word != 0 {
                let found = tick + i64::from(word.trailing_zeros());
                return (found <= last).then_some(found);
            }
            tick += 64 - (slot % 64) as i64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use disk::Chance;

    use super::*;

    #[test]
    fn what_comes_out_is_what_is_due_in_order_and_never_early() {
        for seed in 0..200 {
            let mut chance = Chance::new(seed);
            let mut now = chance.below(1 << 40) as i64 - (1_i64 << 39);
            let (mut wheel, mut twin) = (Wheel::new(now), BTreeSet::new());
            let mut seq = 0;
            for _ in 0..300 {
                for _ in 0..chance.below(20) {
                    seq += 1;
                    let ahead = [0, 5, 100, 5_000, SPAN_MS as usize][chance.below(5)];
                    let due_ms = now + chance.below(ahead + 1) as i64 - chance.below(3) as i64;
                    let entry = Entry { key: Key { due_ms, seq }, queue: seq as u32 };
                    wheel.insert(entry);
                    twin.insert(entry);
                }
                let step = [0, 1, 9, 10, 11, 1_000, 200_000][chance.below(7)];
                now += chance.below(step + 1) as i64;
                assert_eq!(wheel.next_due_ms().is_some(), !twin.is_empty(), "seed {seed}");
                let mut out = Vec::new();
                wheel.expire(now, &mut out);
                let due: Vec<Entry> = twin.iter().copied().take_while(|entry| entry.key.due_ms <= now).collect();
                twin.retain(|entry| entry.key.due_ms > now);
                assert_eq!(out, due, "seed {seed}, at {now}");
                assert_eq!(wheel.len(), twin.len(), "seed {seed}");
                let next = twin.first().map(|entry| entry.key.due_ms);
                assert_eq!(wheel.next_due_ms(), next, "seed {seed}, at {now}");
            }
        }
    }

    #[test]
    fn a_clock_that_goes_back_takes_out_nothing() {
        let mut wheel = Wheel::new(1_000_000);
        let entry = |due_ms| Entry { key: Key { due_ms, seq: 1 }, queue: 0 };
        wheel.insert(entry(1_000_500));
        let mut out = Vec::new();
        wheel.expire(900_000, &mut out);
        wheel.expire(1_000_499, &mut out);
        assert_eq!(out, []);
        wheel.expire(1_000_500, &mut out);
        assert_eq!(out, [entry(1_000_500)]);
    }
}
