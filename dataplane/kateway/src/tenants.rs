//! How this node stands to its tenants' database, for `/readyz`.

use crate::live::Controls;
use agent::Agent;
use gateway::Board;
use serde_json::{Value, json};
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
        board.withhold(agent::standing::stale(&agent, stale_after));
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
