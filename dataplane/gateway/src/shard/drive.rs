//! One cluster's turn: what everybody of this shard wants of its Kafka client, in one order.

use crate::endpoints::Services;
use crate::jobs::Jobs;
use crate::kafka::cluster::Cluster;
use std::rc::Rc;
use std::time::Instant;

/// Ticks whenever something changed, until the cluster is stopped.
pub async fn drive(services: Rc<Services>, cluster: Rc<Cluster>) {
    loop {
        tick(&services, &cluster);
        if !cluster.woken().await {
            return;
        }
    }
}

/// The whole plan of a tick: decide, hand out results, open, close, write, set the alarm.
fn tick(services: &Services, cluster: &Rc<Cluster>) {
    let Services { env, clusters, publishing, subscriptions, .. } = services;
    let now = env.tick();
    let ask = || {
        subscriptions.tick(env, clusters, cluster.index, now);
        cluster.probe(now);
        cluster.tick_searches(now);
        cluster.client.borrow_mut().flush(now);
    };
    ask();
    loop {
        let Some(outcome) = cluster.client.borrow_mut().poll_outcome() else { break };
        match Jobs::is_its(outcome.tag) {
            true => services.jobs.complete(services.ground(), &outcome, now),
            false => publishing.complete(services.around(), cluster, outcome, now),
        }
    }
    let mut replied = false;
    loop {
        let Some((token, reply)) = cluster.client.borrow_mut().poll_reply() else { break };
        replied = true;
        if cluster.is_probe(token, &reply, now) {
            continue;
        }
        let mut reply = Some(reply);
        if !cluster.is_search(token, &mut reply, now)
            && let Some(reply) = reply
        {
            subscriptions.on_reply(cluster, token, reply, now);
        }
    }
    if replied {
        ask();
    }
    if cluster.is_searching() {
        services.jobs.searched(services.ground(), cluster, now);
        publishing.handoff.wake.notify();
    }
    cluster.carry(now);
    cluster.tell_health(env);
    cluster.arm(subscriptions.next_deadline(cluster.index, now), now);
    env.turns.note(now, Instant::now());
}
