//! Things that only go up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::family::{Handle, Kind};
use crate::text;

/// On a cache line pair of its own: the neighbour in memory may be another shard's.
#[repr(align(128))]
#[derive(Default)]
pub struct CounterSlot {
    value: AtomicU64,
}

pub enum CounterKind {}

impl Kind for CounterKind {
    type Slot = CounterSlot;
    type Total = u64;
    type Spec = ();

    const TYPE: &'static str = "counter";
    const KEEPS_ENDED: bool = true;

    fn slot((): ()) -> CounterSlot {
        CounterSlot::default()
    }

    fn add(total: &mut u64, slot: &CounterSlot) {
        *total = total.wrapping_add(slot.value.load(Ordering::Relaxed));
    }

    fn merge(total: &mut u64, other: &u64) {
        *total = total.wrapping_add(*other);
    }

    fn write(out: &mut String, name: &str, pairs: &str, (): (), total: &u64) {
        text::sample(out, name, "", pairs, "", total);
    }
}

/// One shard's part of a counter.
pub type Counter = Handle<CounterKind>;

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        // This thread is the only writer, so a plain add will do: no locked instruction.
        let value = &self.slot.value;
        value.store(value.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// This shard's part.
    pub fn value(&self) -> u64 {
        self.slot.value.load(Ordering::Relaxed)
    }
}

/// A counter without labels that any thread may write, for places that are rarely reached. Written with a locked
/// add (about 5 ns, more under contention).
#[derive(Clone, Default)]
pub struct SharedCounter {
    value: Arc<AtomicU64>,
}

impl SharedCounter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        self.value.fetch_add(count, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}
