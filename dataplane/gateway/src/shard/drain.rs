//! The end of a shard: what is in flight is finished, or answered as unknown.

use crate::endpoints::Services;
use crate::shard::state::Shard;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often a draining shard looks whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The last answers get a moment to reach the network.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Stops accepting, ends waiting polls, lets what is in flight finish.
pub fn begin(shard: &Rc<Shard>, now: Instant) {
    let Services { env, clusters, subscriptions, jobs, .. } = &*shard.services;
    env.begin_draining();
    jobs.drain();
    subscriptions.drain(env, clusters, now);
    shard.conns.close_when_idle();
    runtime::spawn(finish(Rc::clone(shard)));
}

/// Ends the shard once nothing is in flight any more.
async fn finish(shard: Rc<Shard>) {
    let Services { publishing, jobs, subscriptions, .. } = &*shard.services;
    while publishing.count() > 0 || jobs.count() > 0 || shard.conns.count() > 0 || !subscriptions.is_done() {
        shard.conns.close_when_idle();
        runtime::time::sleep(LOOK_EVERY).await;
    }
    shard.stopped.notify();
}

/// Answers everything that is still with Kafka as unknown or not stored, and ends the shard soon.
pub fn expire_all(shard: &Rc<Shard>, now: Instant) {
    for cluster in shard.services.clusters.iter() {
        cluster.client.borrow_mut().expire_all(now);
        cluster.wake();
    }
    let shard = Rc::clone(shard);
    runtime::spawn(async move {
        runtime::time::sleep(LAST_ANSWERS).await;
        shard.stopped.notify();
    });
}
