//! Hinted handoff's turns on this shard: what the journal tells, what waits at gates, what is delivered.

use crate::endpoints::Services;
use runtime::mailbox::Receiver;
use std::rc::Rc;

/// Looks whenever it is rung for, or something is due.
pub async fn keep(services: Rc<Services>) {
    let publishing = &services.publishing;
    loop {
        let now = services.env.tick();
        publishing.turn(services.around(), now);
        match publishing.next_turn(now) {
            Some(at) => drop(runtime::time::timeout_at(at, publishing.handoff.wake.notified()).await),
            None => publishing.handoff.wake.notified().await,
        }
    }
}

/// The bell that the journal and other shards ring.
pub async fn listen(services: Rc<Services>, mut bell: Receiver<()>) {
    while bell.recv().await.is_some() {
        services.publishing.handoff.wake.notify();
    }
}
