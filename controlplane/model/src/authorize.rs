//! May this app do that? The answer is a permit, and only a permit can be routed to Kafka.
//!
//! | Wanted | Who may |
//! |---|---|
//! | publish to a topic | its owner (the path names no other app) |
//! | subscribe to a topic | its owner, and apps with a grant for this version or for all versions |
//! | publish to a Kafka topic by name | apps with a raw grant for it, or for all topics of the cluster |

use crate::denied::{Denied, echo};
use crate::ids::{ClusterName, PhysicalTopic};
use crate::snapshot::{App, Snapshot, Topic};

/// Proof that `app` may publish to, or subscribe to, `topic`. Made only by this module.
#[derive(Debug, Clone, Copy)]
pub struct Permit<'s> {
    app: &'s App,
    topic: &'s Topic,
}

impl<'s> Permit<'s> {
    /// The caller, which is not the topic's owner when it subscribes by grant.
    pub fn app(&self) -> &'s App {
        self.app
    }

    pub fn topic(&self) -> &'s Topic {
        self.topic
    }

    /// May what is published be kept here while Kafka is away? By the topic's option and its owner's.
    pub fn handoff(&self) -> bool {
        self.topic.handoff
    }
}

/// Proof that `app` may publish to a Kafka topic by name.
#[derive(Debug, Clone)]
pub struct RawPermit<'s> {
    app: &'s App,
    cluster: &'s ClusterName,
    topic: PhysicalTopic,
}

impl<'s> RawPermit<'s> {
    pub fn app(&self) -> &'s App {
        self.app
    }

    pub fn cluster(&self) -> &'s ClusterName {
        self.cluster
    }

    pub fn topic(&self) -> &PhysicalTopic {
        &self.topic
    }

    /// As [`Permit::handoff`], by the option of the app that publishes: nobody here owns the topic.
    pub fn handoff(&self) -> bool {
        self.app.handoff
    }
}

/// An app publishes to its own topics only.
pub fn authorize_publish<'s>(
    _snapshot: &'s Snapshot,
    app: &'s App,
    topic: &str,
    ver: &str,
) -> Result<Permit<'s>, Denied> {
    Ok(Permit { app, topic: find(app, topic, ver)? })
}

/// An app reads its own topics and those it was granted.
pub fn authorize_subscribe<'s>(
    snapshot: &'s Snapshot,
    app: &'s App,
    owner: &str,
    topic: &str,
    ver: &str,
) -> Result<Permit<'s>, Denied> {
    if app.id == owner {
        return Ok(Permit { app, topic: find(app, topic, ver)? });
    }
    let Some(owning) = snapshot.app(owner) else {
        return Err(Denied::NoSuchApp { app: echo(owner) });
    };
    let found = find(owning, topic, ver);
    if matches!(found, Err(Denied::NoSuchTopic { .. } | Denied::NoSuchVersion { .. })) {
        return Err(found.expect_err("matched as an error"));
    }
    let granted = app
        .subscribe_grants
        .get(owner)
        .and_then(|topics| topics.get(topic))
        .is_some_and(|versions| versions.contains(ver));
    if !granted {
        return Err(Denied::NotGranted {
            app: app.id.as_str().to_owned(),
            what: format!("subscribe to {}/{}/{}", echo(owner), echo(topic), echo(ver)),
        });
    }
    if !owning.enabled {
        return Err(Denied::AppDisabled { app: owning.id.as_str().to_owned() });
    }
    Ok(Permit { app, topic: found? })
}

/// What [`authorize_subscribe`] says yes to, in no particular order.
pub fn readable<'s>(snapshot: &'s Snapshot, app: &'s App) -> impl Iterator<Item = &'s Topic> {
    let granted = app.subscribe_grants.iter().flat_map(move |(owner, topics)| {
        let owning = snapshot.app(owner.as_str()).filter(|owning| owning.enabled && owning.id != app.id);
        owning.into_iter().flat_map(move |owning| {
            topics.iter().flat_map(move |(name, versions)| {
                owning.versions(name.as_str()).filter(|topic| versions.contains(topic.ver.as_str()))
            })
        })
    });
    app.topics().chain(granted).filter(|topic| topic.enabled)
}

/// An app with a raw grant publishes to a Kafka topic by name. That the topic exists is Kafka's to say.
pub fn authorize_raw<'s>(
    _snapshot: &'s Snapshot,
    app: &'s App,
    cluster: &str,
    topic: &str,
) -> Result<RawPermit<'s>, Denied> {
    let granted = app.raw_grants.get_key_value(cluster).filter(|(_, topics)| topics.contains(topic));
    match (granted, PhysicalTopic::new(topic)) {
        (Some((cluster, _)), Ok(topic)) => Ok(RawPermit { app, cluster, topic }),
        _ => Err(Denied::NotGranted {
            app: app.id.as_str().to_owned(),
            what: format!("publish to Kafka topic {} of cluster {}", echo(topic), echo(cluster)),
        }),
    }
}

fn find<'s>(owner: &'s App, topic: &str, ver: &str) -> Result<&'s Topic, Denied> {
    match owner.topic(topic, ver) {
        Some(found) if found.enabled => Ok(found),
        Some(found) => Err(Denied::TopicDisabled { topic: found.name.to_string(), ver: found.ver.to_string() }),
        None if owner.has_topic(topic) => Err(Denied::NoSuchVersion { topic: echo(topic), ver: echo(ver) }),
        None => Err(Denied::NoSuchTopic { owner: owner.id.as_str().to_owned(), topic: echo(topic) }),
    }
}
