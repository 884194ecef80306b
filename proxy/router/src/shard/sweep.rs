//! What is looked at twice a second: connections past a deadline, too old, idle, or at the wrong broker.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::limits::SWEEP_INTERVAL;
use crate::listeners::Target;
use crate::requests::Upstream;
use crate::shard::{Shard, tenants};

/// How often a draining shard looks whether it is done.
pub const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(20);

/// Topic ids that nobody knew are asked about again after so many rounds.
const FORGET_EVERY_ROUNDS: u32 = 4;

pub async fn sweep(shard: Rc<Shard>) {
    let mut rounds = 0u32;
    loop {
        runtime::time::sleep(SWEEP_INTERVAL).await;
        let now = Instant::now();
        tenants::take_snapshot(&shard);
        let topology = shard.topology();
        shard.conns.each(|conn| {
            conn.sweep(now, shard.config.idle_max);
            if let Target::Node(node) = conn.target.get()
                && conn.upstream.get() == Upstream::Any
                && conn.has_broker()
                && topology.address(node).is_some()
            {
                // It was given any broker while the one it means was unknown; now it can have that.
                conn.begin_retiring("broker_known");
            }
        });
        shard.metrics.connections.set(shard.conns.count() as i64);
        if let Some(tenants) = &shard.tenants {
            tenants.access_log.hand_over();
            rounds += 1;
            if rounds.is_multiple_of(FORGET_EVERY_ROUNDS) {
                tenants.ids.borrow_mut().forget_unknown();
            }
        }
        runtime::memory::give_back();
    }
}
