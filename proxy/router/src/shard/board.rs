//! What the shards of one proxy share: the topology, whether brokers answer, and how many connections there are.
//!
//! Written by any shard, rarely; a shard reads its own copy and looks at a number to know whether it is old.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::crew::Roll;
use runtime::net::tls::{ClientTls, ServerTls};
use runtime::server::Crowd;

use crate::config::ProxyConfig;
use crate::shard::tenant_board::TenantBoard;
use crate::topology::{Learned, Topology};

/// One per process.
pub struct Board {
    pub crowd: Crowd,
    /// Shards that ended by a panic.
    pub roll: Roll,
    topology: Mutex<Arc<Topology>>,
    /// Grows with every change of the topology.
    learned: AtomicU64,
    /// Why this proxy should get no traffic; empty when it should.
    unready: Mutex<Vec<String>>,
    draining: AtomicBool,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    tls: Mutex<Option<ServerTls>>,
    upstream_tls: Mutex<Option<ClientTls>>,
    tenants: Option<TenantBoard>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub fn new(config: &ProxyConfig) -> Board {
        let shard_count = config.shard_count.max(1);
        Board {
            crowd: Crowd::new(shard_count),
            roll: Roll::new(shard_count),
            topology: Mutex::default(),
            learned: AtomicU64::new(0),
            unready: Mutex::new(vec!["no broker has answered yet".to_owned()]),
            draining: AtomicBool::new(false),
            by_address: Mutex::default(),
            tls: Mutex::new(config.tls.clone()),
            upstream_tls: Mutex::new(config.upstream_tls.clone()),
            tenants: config.tenants.as_ref().map(|tenants| TenantBoard::new(tenants, shard_count)),
        }
    }

    /// What shards share about tenants.
    ///
    /// # Panics
    /// When this proxy has none.
    pub fn tenants(&self) -> &TenantBoard {
        self.tenants.as_ref().expect("asked of a proxy with tenants")
    }

    pub fn topology(&self) -> Arc<Topology> {
        Arc::clone(&lock(&self.topology))
    }

    /// Tells whether a copy is old.
    pub fn learned_count(&self) -> u64 {
        self.learned.load(Ordering::Acquire)
    }

    /// Takes in what brokers said of themselves; false when all of it was known.
    pub fn learn(&self, learned: &[Learned]) -> bool {
        let mut topology = lock(&self.topology);
        if topology.knows(learned) {
            return false;
        }
        Arc::make_mut(&mut topology).learn(learned);
        self.learned.fetch_add(1, Ordering::Release);
        true
    }

    /// Why there should be no traffic; empty when there may be.
    pub fn unready(&self) -> Vec<String> {
        let mut reasons = self.roll.reasons();
        match self.is_draining() {
            true => reasons.push("draining".to_owned()),
            false => reasons.extend_from_slice(&lock(&self.unready)),
        }
        reasons
    }

    pub fn set_unready(&self, reasons: Vec<String>) {
        *lock(&self.unready) = reasons;
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Counts a connection of an address; false when it has `most` already.
    pub fn try_add(&self, address: IpAddr, most: usize) -> bool {
        if most == 0 {
            return true;
        }
        let mut by_address = lock(&self.by_address);
        let count = by_address.entry(address).or_default();
        let fits = *count < most;
        *count += usize::from(fits);
        fits
    }

    /// One of an address is gone.
    pub fn remove(&self, address: IpAddr, most: usize) {
        if most == 0 {
            return;
        }
        let mut by_address = lock(&self.by_address);
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }

    /// What connections from now on are greeted with.
    pub fn tls(&self) -> Option<ServerTls> {
        lock(&self.tls).clone()
    }

    /// How brokers are greeted from now on.
    pub fn upstream_tls(&self) -> Option<ClientTls> {
        lock(&self.upstream_tls).clone()
    }

    pub fn set_upstream_tls(&self, tls: ClientTls) {
        *lock(&self.upstream_tls) = Some(tls);
    }

    pub fn set_tls(&self, tls: ServerTls) {
        *lock(&self.tls) = Some(tls);
    }
}
