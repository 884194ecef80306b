//! Delayed jobs' turns on this shard: what the store tells, what is due.

use crate::endpoints::Services;
use runtime::mailbox::Receiver;
use std::rc::Rc;

/// Looks whenever the store rings.
pub async fn listen(services: Rc<Services>, mut bell: Receiver<()>) {
    while bell.recv().await.is_some() {
        let now = services.env.tick();
        for settled in services.jobs.turn(services.ground(), now) {
            services.publishing.settle_jobs(&services.env, settled, now);
        }
    }
}
