//! What this process may pass of the limits that it shares with the others of its data directory.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Ledger;
use model::quota::Shares;
use registry::Registry;

use crate::{Agent, shares};

/// A registry that cannot be watched is asked again after this.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

/// Learns this process's share of the limits of apps and topics. Runs until it is dropped.
pub async fn share_limits(
    agent: Agent,
    ledger: Arc<Ledger>,
    data_dir: PathBuf,
    node: String,
    registry: Option<Arc<dyn Registry>>,
) {
    let counted = count_nodes(Arc::clone(&ledger), registry);
    let given = Arc::clone(&ledger);
    let report = move || {
        let connections = |app: u32| ledger.connections.count(&app);
        ledger.quotas.report(&node, &agent.snapshot(), connections, ledger.nanos(Instant::now()))
    };
    let take = move |shares: &Shares| given.quotas.take(shares, given.nanos(Instant::now()));
    tokio::join!(counted, shares::keep(data_dir, report, take));
}

/// Tells among how many nodes, gateways and proxies alike, a limit is split while nobody leases it. While the registry is
/// away the last word stands.
async fn count_nodes(ledger: Arc<Ledger>, registry: Option<Arc<dyn Registry>>) {
    let Some(registry) = registry else { return };
    loop {
        if let Ok(mut nodes) = registry.watch(None).await {
            loop {
                ledger.quotas.set_registered(u32::try_from(nodes.borrow_and_update().len()).unwrap_or(u32::MAX));
                if nodes.changed().await.is_err() {
                    break;
                }
            }
        }
        tokio::time::sleep(WATCH_AGAIN).await;
    }
}
