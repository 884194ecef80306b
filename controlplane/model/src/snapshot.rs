//! The tenants as a shard looks them up: built once per generation off the shards, then shared read-only.
//!
//! Lookups take borrowed text straight from the request and allocate nothing: one hash lookup for the app, one for
//! the topic, a scan over its few versions. Each is ~10 ns for names of usual length.
//!
//! Invariants, checked by `build`:
//! - An app id, and a (owner, topic, version), occurs once; so does every `index` among apps and among topics.
//! - Every topic's owner exists. A grant to or on something that is gone is ignored, because rows are deleted one
//!   after the other; it comes to life if the topic is made again.
//!
//! A change makes a new snapshot that shares every app it does not touch: [`Snapshot::apply`] costs a pointer per app and
//! the building of those that changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::addresses::Addresses;
use crate::doc::{AppDoc, ChangesDoc, GrantDoc, SnapshotDoc, TopicDoc};
use crate::ids::{AppId, ClusterName, Generation, PhysicalTopic, TopicName, TopicVersion};
use crate::limits::{SNAPSHOT_APPS_MAX, SNAPSHOT_GRANTS_MAX, SNAPSHOT_TOPICS_MAX};
use crate::naming::physical_topic;
use crate::quota::Limits;
use crate::scram::ScramParams;
use crate::secrets::SecretPair;
use crate::topic_options::TopicOptions;

type Map<K, V> = HashMap<K, V, RandomState>;

/// Why rows do not make a snapshot. The old one stays in force.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    #[error("snapshot has {found} {what}, at most {limit} are supported")]
    TooMany { what: &'static str, found: usize, limit: usize },
    #[error("app {0} occurs twice")]
    DuplicateApp(AppId),
    #[error("topic {owner}/{name}/{ver} occurs twice")]
    DuplicateTopic { owner: AppId, name: TopicName, ver: TopicVersion },
    #[error("{what} index {index} occurs twice")]
    DuplicateIndex { what: &'static str, index: u32 },
    #[error("topic {name}/{ver} belongs to app {owner}, which does not exist")]
    OrphanTopic { owner: AppId, name: TopicName, ver: TopicVersion },
    #[error("changes lead on from generation {since}, not from {from}")]
    OtherGeneration { since: Generation, from: Generation },
    #[error("a part of app {part} holds something of app {found}")]
    StrangePart { part: AppId, found: AppId },
    #[error("app {app} has a SCRAM salt of {salt_bytes} bytes and {iterations} iterations")]
    BadScram { app: AppId, salt_bytes: usize, iterations: u32 },
}

/// All tenants at one generation. Immutable; shared as `Arc<Snapshot>`.
pub struct Snapshot {
    pub generation: Generation,
    /// When it was read from the database, epoch ms.
    pub made_at_ms: i64,
    apps: Map<AppId, Arc<App>>,
    topic_count: usize,
    grant_count: usize,
}

/// One app, its topics and what it was granted.
pub struct App {
    /// Small, unique, the same in every generation: good for per-tenant tables and budgets.
    pub index: u32,
    pub id: AppId,
    /// Where its topics are made unless a topic says otherwise.
    pub cluster: ClusterName,
    pub enabled: bool,
    pub scram: ScramParams,
    /// Of everything the app does, whatever the topic.
    pub limits: Limits,
    /// From where it may be used.
    pub addresses: Addresses,
    /// May a gateway keep what it publishes while Kafka is away? Alone it decides for topics published to by name.
    pub handoff: bool,
    pub(crate) publish: SecretPair,
    pub(crate) subscribe: SecretPair,
    topics: Map<TopicName, Vec<Topic>>,
    topic_count: usize,
    grant_count: usize,
    pub(crate) subscribe_grants: Map<AppId, Map<TopicName, Versions>>,
    pub(crate) raw_grants: Map<ClusterName, RawTopics>,
}

/// One version of one topic.
#[derive(Debug)]
pub struct Topic {
    /// Small, unique, the same in every generation. Not contiguous: topics get deleted.
    pub index: u32,
    pub owner: AppId,
    pub name: TopicName,
    pub ver: TopicVersion,
    /// The topic's name in Kafka.
    pub physical: Arc<str>,
    pub cluster: ClusterName,
    /// A disabled topic can be neither published to nor read, by anybody.
    pub enabled: bool,
    pub options: TopicOptions,
    /// Its own option and its owner's: may a gateway keep what is published to it while Kafka is away?
    pub handoff: bool,
    /// Of everybody who uses it together.
    pub limits: Limits,
}

/// Versions a grant speaks of.
#[derive(Default)]
pub(crate) struct Versions {
    every: bool,
    some: Vec<TopicVersion>,
}

impl Versions {
    pub(crate) fn contains(&self, ver: &str) -> bool {
        self.every || self.some.iter().any(|v| v == ver)
    }
}

/// Kafka topics a raw grant speaks of.
#[derive(Default)]
pub(crate) struct RawTopics {
    every: bool,
    some: HashSet<PhysicalTopic, RandomState>,
}

impl RawTopics {
    /// "Every topic" leaves out the ones Kafka keeps for itself; those need to be named.
    pub(crate) fn contains(&self, topic: &str) -> bool {
        self.some.contains(topic) || (self.every && !topic.starts_with("__"))
    }
}

impl Snapshot {
    /// A snapshot of nothing: everybody is refused.
    pub fn empty() -> Self {
        Self { generation: Generation::default(), made_at_ms: 0, apps: Map::default(), topic_count: 0, grant_count: 0 }
    }

    pub fn build(doc: SnapshotDoc) -> Result<Self, SnapshotError> {
        check_count("apps", doc.apps.len(), SNAPSHOT_APPS_MAX)?;
        check_count("topics", doc.topics.len(), SNAPSHOT_TOPICS_MAX)?;
        check_count("grants", doc.grants.len(), SNAPSHOT_GRANTS_MAX)?;
        check_unique("app", doc.apps.iter().map(|app| app.index))?;
        check_unique("topic", doc.topics.iter().map(|topic| topic.index))?;

        let generation = doc.generation();
        let mut apps: Map<AppId, App> = Map::with_capacity_and_hasher(doc.apps.len(), RandomState::default());
        for row in doc.apps {
            let app = App::build(row)?;
            if let Some(twice) = apps.insert(app.id.clone(), app) {
                return Err(SnapshotError::DuplicateApp(twice.id));
            }
        }
        for row in doc.topics {
            let Some(owner) = apps.get_mut(&row.owner) else {
                return Err(SnapshotError::OrphanTopic { owner: row.owner, name: row.name, ver: row.ver });
            };
            owner.add_topic(row)?;
        }
        for grant in doc.grants {
            if let Some(app) = apps.get_mut(grant.app()) {
                app.grant(grant);
            }
        }
        let apps = apps.into_iter().map(|(id, app)| (id, Arc::new(app))).collect();
        Ok(Self::of(generation, doc.made_at_ms, apps))
    }

    /// This snapshot and what changed since.
    pub fn apply(&self, changes: ChangesDoc) -> Result<Self, SnapshotError> {
        if changes.since != self.generation {
            return Err(SnapshotError::OtherGeneration { since: changes.since, from: self.generation });
        }
        let mut apps = self.apps.clone();
        for part in changes.parts {
            let Some(app) = part.app else {
                apps.remove(&part.id);
                continue;
            };
            let strange = |found: &AppId| SnapshotError::StrangePart { part: part.id.clone(), found: found.clone() };
            if app.id != part.id {
                return Err(strange(&app.id));
            }
            let mut app = App::build(app)?;
            for topic in part.topics {
                if topic.owner != part.id {
                    return Err(strange(&topic.owner));
                }
                app.add_topic(topic)?;
            }
            for grant in part.grants {
                if *grant.app() != part.id {
                    return Err(strange(grant.app()));
                }
                app.grant(grant);
            }
            apps.insert(part.id, Arc::new(app));
        }
        let next = Self::of(changes.generation, changes.made_at_ms, apps);
        check_count("apps", next.apps.len(), SNAPSHOT_APPS_MAX)?;
        check_count("topics", next.topic_count, SNAPSHOT_TOPICS_MAX)?;
        check_count("grants", next.grant_count, SNAPSHOT_GRANTS_MAX)?;
        Ok(next)
    }

    fn of(generation: Generation, made_at_ms: i64, apps: Map<AppId, Arc<App>>) -> Self {
        let topic_count = apps.values().map(|app| app.topic_count).sum();
        let grant_count = apps.values().map(|app| app.grant_count).sum();
        Self { generation, made_at_ms, apps, topic_count, grant_count }
    }

    pub fn app(&self, id: &str) -> Option<&App> {
        self.apps.get(id).map(|app| &**app)
    }

    pub fn topic(&self, owner: &str, name: &str, ver: &str) -> Option<&Topic> {
        self.app(owner)?.topic(name, ver)
    }

    /// In no particular order.
    pub fn apps(&self) -> impl Iterator<Item = &App> {
        self.apps.values().map(|app| &**app)
    }

    /// In no particular order.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.apps().flat_map(App::topics)
    }

    pub fn app_count(&self) -> usize {
        self.apps.len()
    }

    pub fn topic_count(&self) -> usize {
        self.topic_count
    }

    pub fn grant_count(&self) -> usize {
        self.grant_count
    }
}

impl App {
    fn build(row: AppDoc) -> Result<Self, SnapshotError> {
        if !row.scram.is_sane() {
            return Err(SnapshotError::BadScram {
                app: row.id,
                salt_bytes: row.scram.salt.len(),
                iterations: row.scram.iterations,
            });
        }
        Ok(Self {
            index: row.index,
            id: row.id,
            cluster: row.cluster,
            enabled: row.enabled,
            scram: row.scram,
            limits: row.limits,
            addresses: row.addresses,
            handoff: row.handoff,
            publish: row.publish,
            subscribe: row.subscribe,
            topics: Map::default(),
            topic_count: 0,
            grant_count: 0,
            subscribe_grants: Map::default(),
            raw_grants: Map::default(),
        })
    }

    fn add_topic(&mut self, row: TopicDoc) -> Result<(), SnapshotError> {
        let versions = self.topics.entry(row.name.clone()).or_default();
        if versions.iter().any(|topic| topic.ver == row.ver) {
            return Err(SnapshotError::DuplicateTopic { owner: row.owner, name: row.name, ver: row.ver });
        }
        self.topic_count += 1;
        let handoff = self.handoff && row.options.handoff;
        versions.push(Topic {
            index: row.index,
            physical: Arc::from(physical_topic(&row.owner, &row.name, &row.ver)),
            owner: row.owner,
            name: row.name,
            ver: row.ver,
            cluster: row.cluster,
            enabled: row.enabled,
            options: row.options,
            handoff,
            limits: row.limits,
        });
        Ok(())
    }

    fn grant(&mut self, grant: GrantDoc) {
        self.grant_count += 1;
        match grant {
            GrantDoc::Subscribe { owner, topic, ver, .. } => {
                let versions = self.subscribe_grants.entry(owner).or_default().entry(topic).or_default();
                match ver {
                    Some(ver) => versions.some.push(ver),
                    None => versions.every = true,
                }
            }
            GrantDoc::RawPublish { cluster, topic, .. } => {
                let topics = self.raw_grants.entry(cluster).or_default();
                match topic {
                    Some(topic) => drop(topics.some.insert(topic)),
                    None => topics.every = true,
                }
            }
        }
    }

    pub fn topic(&self, name: &str, ver: &str) -> Option<&Topic> {
        self.topics.get(name)?.iter().find(|topic| topic.ver == ver)
    }

    /// The versions there are of a topic.
    pub fn versions(&self, name: &str) -> impl Iterator<Item = &Topic> {
        self.topics.get(name).into_iter().flatten()
    }

    /// Does any version of this topic exist?
    pub fn has_topic(&self, name: &str) -> bool {
        self.topics.contains_key(name)
    }

    /// In no particular order.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topics.values().flatten()
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("apps", &self.app_count())
            .field("topics", &self.topic_count)
            .finish()
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").field("id", &self.id).field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

fn check_count(what: &'static str, found: usize, limit: usize) -> Result<(), SnapshotError> {
    if found > limit { Err(SnapshotError::TooMany { what, found, limit }) } else { Ok(()) }
}

fn check_unique(what: &'static str, indexes: impl Iterator<Item = u32>) -> Result<(), SnapshotError> {
    let mut seen: HashSet<u32, RandomState> = HashSet::default();
    for index in indexes {
        if !seen.insert(index) {
            return Err(SnapshotError::DuplicateIndex { what, index });
        }
    }
    Ok(())
}
