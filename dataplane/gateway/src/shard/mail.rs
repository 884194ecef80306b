//! Letters of other shards.

use crate::endpoints::Services;
use crate::subscribe::mail::Mail;
use runtime::mailbox::Receiver;
use std::rc::Rc;

pub async fn read(services: Rc<Services>, mut inbox: Receiver<Mail>) {
    let Services { env, clusters, subscriptions, .. } = &*services;
    while let Some(mail) = inbox.recv().await {
        let now = env.tick();
        subscriptions.receive(env, clusters, mail, now);
    }
}
