//! How this node stands to its tenants' database, for `/readyz` and `/metrics`.

use crate::live::Controls;
use agent::{Agent, Part, Status};
use gateway::Board;
use model::quota::Shares;
use registry::{NodeKind, Registry};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often it is looked whether the node may be ready.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Over how long rates of topics are.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// A node that nobody could tell of revocations for longer than `stale_after` is not ready, on every listener. Runs until it
/// is dropped.
pub async fn watch(agent: Agent, board: Arc<Board>, controls: Arc<Controls>) {
    loop {
        let stale_after = controls.in_force().stale_after;
        let stale = agent.staleness(Instant::now());
        board.withhold((stale > stale_after).then(|| {
            format!(
                "whether a secret or a grant was revoked is not known for {} s, the limit is {} s (tenants.stale_after)",
                stale.as_secs(),
                stale_after.as_secs()
            )
        }));
        tokio::time::sleep(LOOK_EVERY.min(stale_after)).await;
    }
}

/// Makes rates of what the shards count. Runs until it is dropped.
pub async fn sample_traffic(board: Arc<Board>) {
    loop {
        board.traffic.sample(Instant::now());
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}

/// Learns this node's share of the limits of apps and topics. Runs until it is dropped.
pub async fn share_limits(
    agent: Agent,
    board: Arc<Board>,
    data_dir: PathBuf,
    node: String,
    registry: Option<Arc<dyn Registry>>,
) {
    let counted = count_nodes(Arc::clone(&board), registry);
    let given = Arc::clone(&board);
    let report = move || {
        let connections = |app: u32| board.ledger.connections.count(&app);
        board.ledger.quotas.report(&node, &agent.snapshot(), connections, board.nanos(Instant::now()))
    };
    let take = move |shares: &Shares| given.ledger.quotas.take(shares, given.nanos(Instant::now()));
    tokio::join!(counted, agent::shares::keep(data_dir, report, take));
}

/// Tells how many nodes a limit is split among while nobody leases it. While the registry is away the last word stands.
async fn count_nodes(board: Arc<Board>, registry: Option<Arc<dyn Registry>>) {
    let Some(registry) = registry else { return };
    loop {
        if let Ok(mut nodes) = registry.watch(Some(NodeKind::Kateway)).await {
            loop {
                board.ledger.quotas.set_registered(u32::try_from(nodes.borrow_and_update().len()).unwrap_or(u32::MAX));
                if nodes.changed().await.is_err() {
                    break;
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the manager's `/readyz` says of it.
pub fn standing(agent: &Agent) -> Value {
    let now = Instant::now();
    let status = agent.status();
    let mut value = json!({
        "generation": status.generation.to_string(),
        "stale_seconds": agent.staleness(now).as_secs(),
    });
    for (name, trouble) in [("trouble", &status.trouble), ("unwritten", &status.unwritten)] {
        if let Some((why, since)) = trouble {
            value[name] = json!({"why": why, "seconds": now.duration_since(*since).as_secs()});
        }
    }
    value
}

/// Prometheus text.
pub fn metrics(agent: &Agent) -> String {
    let Status { generation, part, unwritten, consumers, .. } = agent.status();
    let snapshot = agent.snapshot();
    let gauges = [
        (
            "tenants_staleness_seconds",
            "Since it was last known that no newer generation of the tenants exists.",
            agent.staleness(Instant::now()).as_secs_f64(),
        ),
        ("tenants_generation", "Number of the generation in force, in its history.", generation.number as f64),
        ("tenants_apps", "Apps in force.", snapshot.app_count() as f64),
        ("tenants_topics", "Topic versions in force.", snapshot.topic_count() as f64),
        ("tenants_grants", "Grants in force.", snapshot.grant_count() as f64),
        (
            "tenants_snapshot_owner",
            "1: this process writes the snapshot of its data directory.",
            f64::from(u8::from(part == Part::Owner)),
        ),
        (
            "tenants_snapshot_unwritten_seconds",
            "Since when the snapshot on disk is older than what is in force; 0: it is not.",
            unwritten.map_or(0.0, |(_, since)| since.elapsed().as_secs_f64()),
        ),
        ("tenants_snapshot_consumers", "Processes that use this one's result.", consumers.len() as f64),
    ];
    let mut text = String::new();
    for (name, help, value) in gauges {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
    }
    text
}
