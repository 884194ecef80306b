//! What the shards and the control plane share: readiness, health of the clusters, connection counts. Written rarely,
//! never on the request path.

use crate::config::GatewayConfig;
use crossbeam_queue::ArrayQueue;
use model::Snapshot;
use model::login_limiter::LoginLimiter;
use runtime::server::Crowd;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Old snapshots waiting to be dropped away from the shards.
const GRAVEYARD_DEPTH: usize = 64;

/// One per process; shards write their own entries, anybody reads.
pub struct Board {
    draining: AtomicBool,
    /// The newest snapshot; each shard takes it when it is told that there is one.
    snapshot: Mutex<Arc<Snapshot>>,
    /// Generation of the snapshot each shard works with.
    applied: Vec<AtomicU64>,
    /// What the last probe of each cluster found; written by the shard that probes.
    clusters: Mutex<BTreeMap<String, ClusterHealth>>,
    /// Open client connections per shard.
    pub connections: Crowd,
    /// Failures only pass here, so a lock is fine: right credentials never take it.
    pub logins: Arc<Mutex<LoginLimiter>>,
    graveyard: ArrayQueue<Arc<Snapshot>>,
    /// Client connections by where they come from.
    pub by_address: Counted<IpAddr>,
    /// And by whose credentials they use: [`model::App::index`].
    pub by_app: Counted<u32>,
}

/// How many there are of each, and at most.
#[derive(Debug)]
pub struct Counted<K> {
    /// 0: any number, and none is counted.
    max: usize,
    counts: Mutex<HashMap<K, usize>>,
}

impl<K: Eq + Hash> Counted<K> {
    fn new(max: usize) -> Counted<K> {
        Counted { max, counts: Mutex::default() }
    }

    /// One more; false: there are as many as may be.
    pub fn try_add(&self, key: K) -> bool {
        if self.max == 0 {
            return true;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        let fits = *count < self.max;
        *count += usize::from(fits);
        fits
    }

    /// One that was added is gone.
    pub fn remove(&self, key: &K) {
        if self.max == 0 {
            return;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(key);
            }
        }
    }
}

/// What the last probe of a cluster found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterHealth {
    pub up: bool,
    pub detail: String,
    /// `None`: no probe has ended yet.
    pub probed_at: Option<Instant>,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    pub ready: bool,
    pub draining: bool,
    pub generation: u64,
    pub clusters: BTreeMap<String, ClusterHealth>,
}

impl Board {
    pub fn new(
        config: &GatewayConfig,
        cluster_names: impl Iterator<Item = String>,
        logins: LoginLimiter,
        snapshot: Arc<Snapshot>,
    ) -> Board {
        let shard_count = config.shard_count;
        let unknown = ClusterHealth { up: false, detail: "not asked yet".to_owned(), probed_at: None };
        Board {
            draining: AtomicBool::new(false),
            applied: (0..shard_count).map(|_| AtomicU64::new(snapshot.generation.0)).collect(),
            snapshot: Mutex::new(snapshot),
            clusters: Mutex::new(cluster_names.map(|name| (name, unknown.clone())).collect()),
            connections: Crowd::new(shard_count),
            logins: Arc::new(Mutex::new(logins)),
            graveyard: ArrayQueue::new(GRAVEYARD_DEPTH),
            by_address: Counted::new(config.connections_per_address),
            by_app: Counted::new(config.connections_per_app),
        }
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lays a snapshot out for the shards to take.
    pub fn set_snapshot(&self, snapshot: Arc<Snapshot>) {
        *self.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }

    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// What a probe found. True when it is news: the first word about the cluster, or another than the last.
    pub fn report(&self, cluster: &str, health: ClusterHealth) -> bool {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = clusters.get_mut(cluster) else { return false };
        let is_news = entry.probed_at.is_none() || entry.up != health.up;
        *entry = health;
        is_news
    }

    /// Ready: not draining, and one cluster answered its last probe.
    pub fn readiness(&self) -> Readiness {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let draining = self.is_draining();
        let generation = self.applied_generation();
        let any_up = clusters.is_empty() || clusters.values().any(|health| health.up);
        Readiness { ready: !draining && any_up, draining, generation, clusters }
    }

    /// A shard works with this generation from now on.
    pub fn set_applied(&self, shard: usize, generation: u64) {
        self.applied[shard].store(generation, Ordering::Release);
    }

    /// The generation every shard works with, or has gone beyond.
    pub fn applied_generation(&self) -> u64 {
        self.applied.iter().map(|generation| generation.load(Ordering::Acquire)).min().unwrap_or(0)
    }

    /// Takes a snapshot a shard is done with; it is dropped by [`Board::drop_retired`]'s caller, off the shard.
    pub fn retire(&self, snapshot: Arc<Snapshot>) {
        // A full queue means nobody buries; then the shard pays for the drop itself.
        drop(self.graveyard.push(snapshot));
    }

    /// Drops retired snapshots; called by the control plane after every change.
    pub fn drop_retired(&self) {
        while self.graveyard.pop().is_some() {}
    }
}

impl Readiness {
    /// One sentence for a person.
    pub fn reason(&self) -> String {
        if self.draining {
            return "this gateway is draining".to_owned();
        }
        let down: Vec<String> = self
            .clusters
            .iter()
            .filter(|(_, health)| !health.up)
            .map(|(name, health)| format!("{name}: {}", health.detail))
            .collect();
        if down.is_empty() { "ready".to_owned() } else { format!("clusters down: {}", down.join("; ")) }
    }

    pub fn to_json(&self) -> String {
        let clusters: serde_json::Map<String, serde_json::Value> = self
            .clusters
            .iter()
            .map(|(name, health)| {
                let mut entry = serde_json::json!({ "up": health.up });
                if !health.up {
                    entry["detail"] = health.detail.clone().into();
                }
                if let Some(at) = health.probed_at {
                    entry["probed_ms_ago"] = (at.elapsed().as_millis() as u64).into();
                }
                (name.clone(), entry)
            })
            .collect();
        serde_json::json!({
            "ready": self.ready,
            "draining": self.draining,
            "generation": self.generation,
            "clusters": clusters,
        })
        .to_string()
    }
}
