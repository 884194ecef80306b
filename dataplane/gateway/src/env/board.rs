//! What the shards and the control plane share: readiness, health of the clusters, connection counts. Written rarely,
//! never on the request path.

use crate::codes;
use crate::config::GatewayConfig;
use crate::env::peers::Peers;
use crate::env::traffic::Traffic;
use crossbeam_queue::ArrayQueue;
use model::{Counted, Generation, Ledger, Snapshot};
use runtime::crew::Roll;
use runtime::server::Crowd;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Old snapshots waiting to be dropped away from the shards.
const GRAVEYARD_DEPTH: usize = 64;

/// One per process; shards write their own entries, anybody reads.
pub struct Board {
    draining: AtomicBool,
    /// Somebody wants no new traffic here for the time being.
    resting: AtomicBool,
    /// Shards that ended by a panic.
    pub roll: Roll,
    /// Why the process is not to be ready although its shards and clusters are.
    withheld: Mutex<Option<String>>,
    /// The newest snapshot; each shard takes it when it is told that there is one.
    laid_out: Mutex<LaidOut>,
    /// Edition of the snapshot each shard works with. Generations would not do: after a database was restored their
    /// numbers begin anew.
    applied: Vec<AtomicU64>,
    /// What the last probe of each cluster found; written by the shard that probes.
    clusters: Mutex<BTreeMap<String, ClusterHealth>>,
    /// Open client connections per shard.
    pub connections: Crowd,
    graveyard: ArrayQueue<Arc<Snapshot>>,
    /// Client connections by where they come from.
    pub by_address: Counted<IpAddr>,
    /// What apps have used of what they may.
    pub ledger: Arc<Ledger>,
    /// What went through each topic.
    pub traffic: Arc<Traffic>,
    /// The other gateways; laid out by the control plane.
    peers: Mutex<Arc<Peers>>,
    /// Says how hinted handoff is; none where nothing is handed off.
    handoff: OnceLock<Box<dyn Fn() -> HandoffHealth + Send + Sync>>,
    /// Says how delayed jobs are; none where none are kept.
    jobs: OnceLock<Box<dyn Fn() -> JobsHealth + Send + Sync>>,
}

/// How hinted handoff is, for whoever wants to know whether to send traffic here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HandoffHealth {
    /// A message more would be taken.
    pub has_room: bool,
    /// Partitions whose messages wait here.
    pub partitions: u64,
    pub messages: u64,
    pub bytes: u64,
    /// Since when, epoch ms.
    pub since_ms: Option<i64>,
    /// Until all is delivered, as fast as it goes now; none while something is not delivered.
    pub left_s: Option<u64>,
}

/// How delayed jobs are, for whoever watches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobsHealth {
    pub pending: u64,
    /// Their time has come, and they are not at Kafka.
    pub due: u64,
    pub in_flight: u64,
    /// They cannot fire, and wait for somebody.
    pub parked: u64,
    /// They rotted on the disk.
    pub lost: u64,
}

/// A snapshot and which one of this process it is, counted from 1.
struct LaidOut {
    edition: u64,
    snapshot: Arc<Snapshot>,
    /// Of the newest snapshot that every shard has taken.
    in_force: Generation,
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
    /// A sentence for each shard that ended by a panic, and for whatever else keeps the node from being ready.
    pub failures: Vec<String>,
    /// What every shard works with.
    pub generation: Generation,
    pub clusters: BTreeMap<String, ClusterHealth>,
    /// None where nothing is handed off.
    pub handoff: Option<HandoffHealth>,
    /// None where no jobs are kept.
    pub jobs: Option<JobsHealth>,
}

impl Board {
    pub fn new(
        config: &GatewayConfig,
        cluster_names: impl Iterator<Item = String>,
        random: [u8; 16],
        snapshot: Arc<Snapshot>,
    ) -> Board {
        let shard_count = config.shard_count;
        let unknown = ClusterHealth { up: false, detail: "not asked yet".to_owned(), probed_at: None };
        Board {
            draining: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            roll: Roll::new(shard_count),
            withheld: Mutex::default(),
            applied: (0..shard_count).map(|_| AtomicU64::new(1)).collect(),
            laid_out: Mutex::new(LaidOut { edition: 1, in_force: snapshot.generation, snapshot }),
            clusters: Mutex::new(cluster_names.map(|name| (name, unknown.clone())).collect()),
            connections: Crowd::new(shard_count),
            graveyard: ArrayQueue::new(GRAVEYARD_DEPTH),
            by_address: Counted::new(config.connections_per_address),
            ledger: Arc::new(Ledger::new(random, config.connections_per_app, Instant::now())),
            traffic: Arc::new(Traffic::new(shard_count)),
            peers: Mutex::default(),
            handoff: OnceLock::new(),
            jobs: OnceLock::new(),
        }
    }

    fn laid_out(&self) -> MutexGuard<'_, LaidOut> {
        self.laid_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest snapshot and its edition.
    pub fn snapshot(&self) -> (u64, Arc<Snapshot>) {
        let laid_out = self.laid_out();
        (laid_out.edition, Arc::clone(&laid_out.snapshot))
    }

    /// The other gateways, as the registry has them now. For what is asked rarely: it costs a lock.
    pub fn peers(&self) -> Arc<Peers> {
        Arc::clone(&self.peers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who is to be asked how hinted handoff is; once.
    pub fn set_handoff(&self, ask: impl Fn() -> HandoffHealth + Send + Sync + 'static) {
        drop(self.handoff.set(Box::new(ask)));
    }

    /// Who says how delayed jobs are; said once.
    pub fn set_jobs(&self, ask: impl Fn() -> JobsHealth + Send + Sync + 'static) {
        drop(self.jobs.set(Box::new(ask)));
    }

    pub fn set_peers(&self, peers: Arc<Peers>) {
        *self.peers.lock().unwrap_or_else(PoisonError::into_inner) = peers;
    }

    /// The clock of the quotas.
    pub fn nanos(&self, now: Instant) -> u64 {
        self.ledger.nanos(now)
    }

    /// Lays a snapshot out for the shards to take; its edition.
    pub fn set_snapshot(&self, snapshot: Arc<Snapshot>) -> u64 {
        self.ledger.quotas.refresh(&snapshot, self.nanos(Instant::now()));
        let mut laid_out = self.laid_out();
        laid_out.edition += 1;
        laid_out.snapshot = snapshot;
        laid_out.edition
    }

    /// The generation that every shard works with.
    pub fn in_force(&self) -> Generation {
        let mut laid_out = self.laid_out();
        if self.applied_edition() >= laid_out.edition {
            laid_out.in_force = laid_out.snapshot.generation;
        }
        laid_out.in_force
    }

    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Not ready while there is a reason; `None`: as far as this is concerned, ready.
    pub fn withhold(&self, reason: Option<String>) {
        *self.withheld.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Drained as far as others can see, or not any more; nothing ends, and what comes is served.
    pub fn set_resting(&self, resting: bool) {
        self.resting.store(resting, Ordering::SeqCst);
    }

    /// On the way to its end, or wished to be drained.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.resting.load(Ordering::Relaxed)
    }

    /// What a probe found. True when it is news: the first word about the cluster, or another than the last.
    pub fn report(&self, cluster: &str, health: ClusterHealth) -> bool {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = clusters.get_mut(cluster) else { return false };
        let is_news = entry.probed_at.is_none() || entry.up != health.up;
        *entry = health;
        is_news
    }

    /// Ready: not draining, every shard at work, and one cluster answered its last probe.
    pub fn readiness(&self) -> Readiness {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let draining = self.is_draining();
        let generation = self.in_force();
        let handoff = self.handoff.get().map(|ask| ask());
        let has_room = handoff.as_ref().is_some_and(|handoff| handoff.has_room);
        let any_up = has_room || clusters.is_empty() || clusters.values().any(|health| health.up);
        let mut failures = self.roll.reasons();
        failures.extend(self.withheld.lock().unwrap_or_else(PoisonError::into_inner).clone());
        Readiness {
            ready: !draining && failures.is_empty() && any_up,
            draining,
            failures,
            generation,
            clusters,
            handoff,
            jobs: self.jobs.get().map(|ask| ask()),
        }
    }

    /// A shard works with this edition from now on.
    pub fn set_applied(&self, shard: usize, edition: u64) {
        self.applied[shard].store(edition, Ordering::Release);
    }

    /// The edition that every shard that is at work works with, or has gone beyond.
    pub fn applied_edition(&self) -> u64 {
        let at_work = self.applied.iter().enumerate().filter(|(shard, _)| !self.roll.has_fallen(*shard));
        at_work.map(|(_, edition)| edition.load(Ordering::Acquire)).min().unwrap_or(0)
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
        let mut reasons = self.failures.clone();
        if self.draining {
            reasons.push("this gateway is draining".to_owned());
        }
        if !reasons.is_empty() {
            return reasons.join("; ");
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
        let mut json = serde_json::json!({
            "ready": self.ready,
            "draining": self.draining,
            "generation": self.generation.number,
            "clusters": clusters,
        });
        if let Some(handoff) = self.handoff.as_ref().filter(|handoff| handoff.partitions > 0 || !handoff.has_room) {
            json["handoff"] = serde_json::json!({
                "has_room": handoff.has_room,
                "partitions": handoff.partitions,
                "messages": handoff.messages,
                "bytes": handoff.bytes,
                "since": handoff.since_ms,
                "left_s": handoff.left_s,
            });
        }
        if let Some(jobs) = self.jobs.filter(|jobs| jobs.pending > 0 || jobs.lost > 0) {
            json["jobs"] = serde_json::json!({
                "pending": jobs.pending,
                "due": jobs.due,
                "in_flight": jobs.in_flight,
                "parked": jobs.parked,
                "lost": jobs.lost,
            });
        }
        if !self.ready {
            // It is an error answer, too.
            json["errmsg"] = self.reason().into();
            json["code"] = codes::NOT_READY.name.into();
        }
        json.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::SnapshotDoc;
    use model::api_doc::Schema;
    use serde_json::{Value, json};

    #[test]
    fn delayed_jobs_are_told_where_there_are_any_or_were_lost() {
        let none = JobsHealth::default();
        for (health, expected) in [
            (None, Value::Null),
            (Some(none), Value::Null),
            (
                Some(JobsHealth { pending: 7, due: 2, in_flight: 1, parked: 3, lost: 0 }),
                json!({"pending": 7, "due": 2, "in_flight": 1, "parked": 3, "lost": 0}),
            ),
            (
                Some(JobsHealth { lost: 1, ..none }),
                json!({"pending": 0, "due": 0, "in_flight": 0, "parked": 0, "lost": 1}),
            ),
        ] {
            let snapshot = Arc::new(Snapshot::build(SnapshotDoc::default()).expect("a snapshot of nothing"));
            let board = Board::new(&GatewayConfig::default(), ["main".to_owned()].into_iter(), [1; 16], snapshot);
            if let Some(health) = health {
                board.set_jobs(move || health);
            }
            let said: Value = serde_json::from_str(&board.readiness().to_json()).expect("JSON");
            assert_eq!(said["jobs"], expected);
            assert_eq!(Schema::UNREADINESS.accepts(&said), Ok(()), "{said}");
        }
    }
}
