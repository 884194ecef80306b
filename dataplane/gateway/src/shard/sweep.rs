//! What is looked at a few times a second: connections past their deadline, lost answers, gauges.

use crate::endpoints::Services;
use crate::env::metrics::Gauges;
use crate::limits::{SWEEP_INTERVAL, SWEEP_INTERVAL_FIRST};
use crate::serve::conns::Conns;
use std::rc::Rc;
use std::time::Instant;

/// The first sweeps come sooner, for whoever started this node and looks at its metrics.
pub async fn sweep(services: Rc<Services>, conns: Rc<Conns>) {
    let Services { env, access, clusters, publishing, subscriptions, .. } = &*services;
    let mut pause = SWEEP_INTERVAL_FIRST;
    loop {
        let due = Instant::now() + pause;
        runtime::time::sleep(pause).await;
        pause = (pause * 2).min(SWEEP_INTERVAL);
        let now = env.tick();
        // Many short turns of connections in a row keep everybody waiting as one long one does.
        env.turns.note(due, now);
        conns.sweep(now);
        runtime::memory::give_back();
        subscriptions.sweep(env, clusters, now);
        env.access_log.hand_over();
        if env.shard == 0
            && let Some(store) = publishing.handoff.store()
        {
            store.measure(&env.metrics, now, env.wall_clock_ms());
        }
        if env.shard == 0 {
            services.jobs.measure(&env.metrics);
        }
        env.metrics.set_gauges(&Gauges {
            shard: env.shard as u16,
            connections: conns.count(),
            publishes_waiting: publishing.count(),
            subscriptions: subscriptions.count(),
            budget_used_bytes: env.budget.used_bytes(),
            clusters_without_idempotence: clusters
                .iter()
                .filter(|cluster| !cluster.client.borrow().is_idempotent())
                .count(),
            longest_turn: env.turns.longest(now),
            access_log_dropped: env.access_log.dropped_total(),
            generation: access.borrow_snapshot().generation,
        });
    }
}
