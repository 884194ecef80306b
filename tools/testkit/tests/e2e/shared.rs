//! What several tests use at once, started by the first one that asks.
//!
//! Tests that only need *a* Kafka share a single node, those that need several share three; whoever kills brokers
//! starts a cluster of its own. Content of the shared brokers is anyone's: look only for what you yourself wrote
//! ([`unique`]).

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use testkit::kafka::{Cluster, KafkaOptions};

type Shared = Mutex<Option<Result<Arc<Cluster>, String>>>;

static KAFKA: Shared = Mutex::new(None);
static THREE: Shared = Mutex::new(None);

/// The single-node Kafka without security.
pub fn kafka() -> Result<Arc<Cluster>> {
    started(&KAFKA, KafkaOptions::default())
}

/// Three nodes without security, where topics appear by being asked for.
pub fn three_nodes() -> Result<Arc<Cluster>> {
    started(&THREE, KafkaOptions { auto_create: true, ..KafkaOptions::nodes(3) })
}

fn started(shared: &Shared, options: KafkaOptions) -> Result<Arc<Cluster>> {
    let mut slot = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let start = || Cluster::start(options).map(Arc::new).map_err(|err| format!("{err:?}"));
    slot.get_or_insert_with(start).clone().map_err(|err| anyhow!("the shared Kafka: {err}"))
}

/// Stops them. Statics are not dropped, so `main` calls this at its end.
pub fn stop() {
    for shared in [&KAFKA, &THREE] {
        drop(shared.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// A name nobody else in this run has.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
