//! What a journal counts. Written by the threads that do it, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Plain counters.
        #[derive(Debug, Default)]
        pub struct Metrics { $($(#[$doc])* pub $name: Count,)* }
    };
}

metrics! {
    /// Committed.
    records, record_bytes, groups, blocks, commits, marks,
    /// Every record below it is durable.
    durable_lsn,
    /// Appended and not answered.
    waiting_groups, waiting_bytes,
    refused_waiting, refused_disk_full, refused_read_only, refused_unknown,
    persists, persist_us_sum, persist_us_max,
    segments, segment_bytes, spares, spare_bytes,
    recycled, removed,
    /// Failed persists and writes; each closed a segment.
    poisoned,
    /// 1 while it is.
    read_only,
    recovery_ms,
    /// Lsns whose record is rotten, as found at starts and by scrubs.
    lost_records, quarantined_bytes,
    checkpoints, checkpoint_failures,
    scrubbed_bytes,
}

/// One number.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Ordering::Relaxed);
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub fn at_least(&self, n: u64) {
        self.0.fetch_max(n, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
