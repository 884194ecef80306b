//! A snapshot as it is stored and sent: plain rows, no index. [`crate::Snapshot`] is the same thing made for lookups.
//!
//! Brokers' addresses and passwords are not in here: clusters come from each gateway's own configuration, and rows
//! only name them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::addresses::Addresses;
use crate::ids::{AppId, ClusterName, Generation, HistoryId, PhysicalTopic, TopicName, TopicVersion};
use crate::quota::Limits;
use crate::scram::ScramParams;
use crate::secrets::SecretPair;
use crate::topic_options::TopicOptions;

/// Everything the data plane knows about tenants.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SnapshotDoc {
    /// How many changes were made in `history`.
    pub generation: u64,
    #[serde(default)]
    pub history: HistoryId,
    /// When it was read from the database, epoch ms. For people; nothing depends on it.
    #[serde(default)]
    pub made_at_ms: i64,
    pub apps: Vec<AppDoc>,
    pub topics: Vec<TopicDoc>,
    pub grants: Vec<GrantDoc>,
}

impl SnapshotDoc {
    pub fn generation(&self) -> Generation {
        Generation { history: self.history, number: self.generation }
    }
}

/// How to get from one generation to a later one of the same history: whole parts of those apps that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesDoc {
    pub since: Generation,
    pub generation: Generation,
    pub made_at_ms: i64,
    pub parts: Vec<AppPart>,
}

/// What a snapshot has of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPart {
    pub id: AppId,
    /// `None`: it is gone, with its topics and what it was granted.
    pub app: Option<AppDoc>,
    pub topics: Vec<TopicDoc>,
    /// To this app.
    pub grants: Vec<GrantDoc>,
}

/// One app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppDoc {
    /// Small, unique among apps, never used again after the app is gone.
    pub index: u32,
    pub id: AppId,
    /// Where its topics are made unless a topic says otherwise.
    pub cluster: ClusterName,
    pub enabled: bool,
    pub scram: ScramParams,
    pub publish: SecretPair,
    pub subscribe: SecretPair,
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// From where it may be used.
    #[serde(default, skip_serializing_if = "Addresses::is_any")]
    pub addresses: Addresses,
    /// May a gateway keep what it publishes in its own journal while Kafka is away?
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub handoff: bool,
}

fn yes() -> bool {
    true
}

fn is_yes(flag: &bool) -> bool {
    *flag
}

/// One version of one topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDoc {
    /// Small, unique among topics, never used again after the topic is gone.
    pub index: u32,
    pub owner: AppId,
    pub name: TopicName,
    pub ver: TopicVersion,
    pub cluster: ClusterName,
    pub enabled: bool,
    pub options: TopicOptions,
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// As asked for when the topic was made; Kafka has the last word. `None`: never said (an adopted topic).
    #[serde(default)]
    pub partitions: Option<u32>,
    #[serde(default)]
    pub replicas: Option<u32>,
    /// `None`: the broker's default. -1: forever.
    #[serde(default)]
    pub retention_ms: Option<i64>,
    /// Bytes per partition. `None`: the broker's default. -1: no limit.
    #[serde(default)]
    pub retention_bytes: Option<i64>,
}

/// What an app may do beyond its own topics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum GrantDoc {
    /// Read `owner`'s topic: this version, or every version when `ver` is absent.
    Subscribe {
        app: AppId,
        owner: AppId,
        topic: TopicName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ver: Option<TopicVersion>,
    },
    /// Publish to a Kafka topic by its own name: this one, or every one of the cluster that Kafka does not keep for
    /// itself (`__…`) when `topic` is absent.
    RawPublish {
        app: AppId,
        cluster: ClusterName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<PhysicalTopic>,
    },
}

impl GrantDoc {
    /// Who was granted something.
    pub fn app(&self) -> &AppId {
        match self {
            GrantDoc::Subscribe { app, .. } | GrantDoc::RawPublish { app, .. } => app,
        }
    }
}

impl fmt::Display for GrantDoc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrantDoc::Subscribe { app, owner, topic, ver: Some(ver) } => {
                write!(f, "{app} may subscribe to {owner}/{topic}/{ver}")
            }
            GrantDoc::Subscribe { app, owner, topic, ver: None } => {
                write!(f, "{app} may subscribe to every version of {owner}/{topic}")
            }
            GrantDoc::RawPublish { app, cluster, topic: Some(topic) } => {
                write!(f, "{app} may publish to Kafka topic {topic} of cluster {cluster}")
            }
            GrantDoc::RawPublish { app, cluster, topic: None } => {
                write!(f, "{app} may publish to every Kafka topic of cluster {cluster}")
            }
        }
    }
}
