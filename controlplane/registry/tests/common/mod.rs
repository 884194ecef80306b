//! A node to register, and patience.

#![allow(dead_code)] // Each test binary uses its part.

use std::collections::BTreeMap;
use std::time::Duration;

use registry::{NodeInfo, NodeKind, NodeState};

pub fn node(kind: NodeKind, id: &str) -> NodeInfo {
    NodeInfo {
        kind,
        id: id.to_owned(),
        zone: "local".to_owned(),
        version: "0.1.0".to_owned(),
        host: "localhost".to_owned(),
        pid: std::process::id(),
        started_at_ms: 1_511_366_400_000,
        addresses: BTreeMap::from([("pub".to_owned(), "http://127.0.0.1:9191".to_owned())]),
        applied: None,
        state: NodeState::Serving,
        obeys: None,
        refuses: None,
    }
}

pub fn gateway(id: &str) -> NodeInfo {
    node(NodeKind::Kateway, id)
}

/// Longer than anything here takes.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it happens soon")
}
