//! What is looked at twice a second: connections past a deadline, too old, idle, or at the wrong broker.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::limits::SWEEP_INTERVAL;
use crate::listeners::Target;
use crate::requests::Upstream;
use crate::shard::Shard;

/// How often a draining shard looks whether it is done.
pub const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(20);

pub async fn sweep(shard: Rc<Shard>) {
    loop {
        runtime::time::sleep(SWEEP_INTERVAL).await;
        let now = Instant::now();
        let topology = shard.topology();
        shard.conns.each(|conn| {
            conn.sweep(now, shard.config.idle_max);
            if let Target::Node(node) = conn.target.get()
                && conn.upstream.get() == Upstream::Any
                && topology.address(node).is_some()
            {
                // It was given any broker while the one it means was unknown; now it can have that.
                conn.begin_retiring("broker_known");
            }
        });
        shard.metrics.connections.set(shard.conns.count() as i64);
        runtime::memory::give_back();
    }
}
