//! Topic versions. An active row here is what makes a topic exist for clients; that Kafka has the topic is the manager's
//! care, and the states are how far it has come:
//!
//! ```text
//!            begin_topic      activate_topic        update_topic
//!  (nothing) ──────────► creating ──────► active ◄──────► disabled
//!      ▲                    │ abandon       └──────┬─────────┘
//!      └────────────────────┘                      │ begin_delete_topic
//!      ▲                 delete_topic              ▼
//!      └──────────────────────────────────────  deleting
//! ```
//! Snapshots show active and disabled ones. What is creating or deleting when a process dies is found by
//! [`AuthDb::unfinished_topics`](crate::AuthDb::unfinished_topics) and gone on with.

use model::doc::TopicDoc;
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::topic_options::TopicOptions;

/// A topic version to be made. `cluster`, and what `None` means, as in [`TopicDoc`].
#[derive(Debug, Clone)]
pub struct NewTopic {
    pub owner: AppId,
    pub name: TopicName,
    pub ver: TopicVersion,
    pub cluster: ClusterName,
    pub options: TopicOptions,
    pub partitions: Option<u32>,
    pub replicas: Option<u32>,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
}

/// How far a topic version has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicState {
    /// Kafka may not have it yet.
    Creating,
    Active,
    /// Can be neither published to nor read.
    Disabled,
    /// It is to go from Kafka, too, with its messages.
    Deleting,
}

impl TopicState {
    pub const ALL: [TopicState; 4] = [Self::Creating, Self::Active, Self::Disabled, Self::Deleting];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Deleting => "deleting",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// A topic version with how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRow {
    pub doc: TopicDoc,
    pub state: TopicState,
    /// Creating: Kafka had said that the name is free, so what it has of that name by now was made for this row.
    pub was_free: bool,
    /// Epoch ms.
    pub created_at_ms: i64,
}

/// What to change; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct TopicUpdate {
    pub enabled: Option<bool>,
    pub options: Option<TopicOptions>,
    pub partitions: Option<u32>,
    pub retention_ms: Option<i64>,
    pub retention_bytes: Option<i64>,
}

/// As people call it.
pub(crate) fn shown(topic: &TopicDoc) -> String {
    format!("{}/{}/{}", topic.owner, topic.name, topic.ver)
}

pub(crate) fn json(topic: &TopicDoc) -> serde_json::Value {
    serde_json::to_value(topic).expect("a topic has string keys only")
}
