//! Things that go up and down: connections, bytes in use. The shards' parts are added up.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::family::{Handle, Kind};
use crate::text;

#[repr(align(128))]
#[derive(Default)]
pub struct GaugeSlot {
    value: AtomicI64,
}

pub enum GaugeKind {}

impl Kind for GaugeKind {
    type Slot = GaugeSlot;
    type Total = i64;
    type Spec = ();

    const TYPE: &'static str = "gauge";
    const KEEPS_ENDED: bool = false;

    fn slot((): ()) -> GaugeSlot {
        GaugeSlot::default()
    }

    fn add(total: &mut i64, slot: &GaugeSlot) {
        *total = total.wrapping_add(slot.value.load(Ordering::Relaxed));
    }

    fn merge(total: &mut i64, other: &i64) {
        *total = total.wrapping_add(*other);
    }

    fn write(out: &mut String, name: &str, pairs: &str, (): (), total: &i64) {
        text::sample(out, name, "", pairs, "", total);
    }
}

/// One shard's part of a gauge.
pub type Gauge = Handle<GaugeKind>;

impl Gauge {
    pub fn set(&self, value: i64) {
        self.slot.value.store(value, Ordering::Relaxed);
    }

    pub fn add(&self, change: i64) {
        let value = &self.slot.value;
        value.store(value.load(Ordering::Relaxed).wrapping_add(change), Ordering::Relaxed);
    }

    pub fn inc(&self) {
        self.add(1);
    }

    pub fn dec(&self) {
        self.add(-1);
    }

    /// This shard's part.
    pub fn value(&self) -> i64 {
        self.slot.value.load(Ordering::Relaxed)
    }
}
