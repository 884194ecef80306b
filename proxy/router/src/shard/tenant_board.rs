//! What the shards of a proxy share about tenants: the snapshot in force, and what brokers offer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use model::{Ledger, Snapshot};

use crate::config::TenantConfig;
use crate::tenant::versions::Offered;

/// One per process.
pub struct TenantBoard {
    pub ledger: Arc<Ledger>,
    /// Edition of the snapshot that is laid out, counted from 1.
    edition: AtomicU64,
    snapshot: Mutex<Arc<Snapshot>>,
    /// By shard, the edition it has taken.
    applied: Vec<AtomicU64>,
    /// Snapshots that were replaced. The last to let go of one pays for it, which should be no shard.
    retired: Mutex<Vec<Arc<Snapshot>>>,
    /// By node, what it offered last; under None what any bootstrap broker did.
    offered: Mutex<HashMap<Option<i32>, Arc<Offered>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TenantBoard {
    pub fn new(config: &TenantConfig, shard_count: usize) -> TenantBoard {
        TenantBoard {
            ledger: Arc::clone(&config.ledger),
            edition: AtomicU64::new(1),
            snapshot: Mutex::new(Arc::clone(&config.snapshot)),
            applied: (0..shard_count).map(|_| AtomicU64::new(1)).collect(),
            retired: Mutex::default(),
            offered: Mutex::default(),
        }
    }

    /// The newest snapshot and its edition.
    pub fn snapshot(&self) -> (u64, Arc<Snapshot>) {
        let snapshot = lock(&self.snapshot);
        (self.edition.load(Ordering::Acquire), Arc::clone(&snapshot))
    }

    /// Tells whether a copy is old.
    pub fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// Lays a snapshot out for the shards to take; its edition.
    pub fn set_snapshot(&self, snapshot: Arc<Snapshot>) -> u64 {
        self.ledger.quotas.refresh(&snapshot, self.ledger.nanos(Instant::now()));
        let mut laid_out = lock(&self.snapshot);
        let before = std::mem::replace(&mut *laid_out, snapshot);
        lock(&self.retired).push(before);
        self.edition.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// A shard and all its sessions have taken it.
    pub fn set_applied(&self, shard: usize, edition: u64) {
        self.applied[shard].store(edition, Ordering::Release);
    }

    /// Of the newest snapshot that every shard has taken.
    pub fn applied_edition(&self) -> u64 {
        self.applied.iter().map(|edition| edition.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// Drops snapshots that nobody else has.
    pub fn drop_retired(&self) {
        lock(&self.retired).retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }

    /// What the broker of a node offers, as it said last.
    pub fn offered(&self, node: Option<i32>) -> Option<Arc<Offered>> {
        lock(&self.offered).get(&node).cloned()
    }

    pub fn set_offered(&self, node: Option<i32>, offered: Offered) -> Arc<Offered> {
        let offered = Arc::new(offered);
        lock(&self.offered).insert(node, Arc::clone(&offered));
        offered
    }
}
