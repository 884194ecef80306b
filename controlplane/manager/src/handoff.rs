//! What a gateway keeps of publishes that Kafka could not take, as its operator sees it. The gateway's process answers;
//! [`crate::fleet_ask`] puts the answers of all nodes together.
//!
//! A record that can never be delivered (its topic is gone, say) is parked with the reason, and waits there for somebody who
//! replays it or drops it.

use axum::http::StatusCode;
use model::ids::{AppId, ClusterName, PhysicalTopic};
use model::principals::Visible;

use crate::error::ApiError;
use crate::parked::{self, Parking};

/// What a call of [`Handoff`] returns.
pub type Answer<'a, T> = parked::Answer<'a, T, HandoffError>;

/// The journal of one gateway, and what is parked there.
pub trait Handoff: Parking<Filter = ParkedFilter, Row = Parked, Error = HandoffError> {
    fn status(&self) -> Answer<'_, HandoffStatus>;

    /// Takes over what a node that is dead left in its directory under the same data directory.
    /// [`HandoffError::NoSuchNode`], [`HandoffError::NodeLives`] while its lock is held. Repeating is harmless.
    fn adopt<'a>(&'a self, from: &'a str) -> Answer<'a, Adopted>;

    /// What became of a record, by the id of its receipt. `None`: nobody here knows, or knows any more.
    fn receipt<'a>(&'a self, id: &'a str) -> Answer<'a, Option<Receipt>>;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandoffError {
    #[error("there is no node {node} under this data directory")]
    NoSuchNode { node: String },
    #[error("node {node} lives and delivers what it has itself")]
    NodeLives { node: String },
    #[error("the cursor is none that a page of parked messages ended with")]
    BadCursor,
    #[error("receipt {id:?} is none that was given out")]
    BadReceipt { id: String },
    /// The disk, or what is on it; the sentence is for a person.
    #[error("the journal cannot be used: {why}")]
    Journal { why: String },
    #[error("this gateway ends")]
    Ending,
}

/// How the journal of one node is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HandoffStatus {
    /// The node's id.
    pub node: String,
    /// New records are taken.
    pub enabled: bool,
    /// How it writes.
    pub device: String,
    /// What it has of the disk, and may have.
    pub disk_bytes: u64,
    pub budget_bytes: u64,
    /// What is free there, for everybody.
    pub free_bytes: u64,
    /// What waits to be delivered.
    pub records: u64,
    pub bytes: u64,
    pub parked_records: u64,
    /// When the oldest record that waits was accepted, epoch ms.
    pub oldest_at_ms: Option<i64>,
    /// Of everything that does not go to Kafka straight away.
    pub domains: Vec<Domain>,
}

/// What is kept in order: one app's records for one partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Domain {
    pub cluster: ClusterName,
    /// Its name in Kafka.
    pub topic: PhysicalTopic,
    pub partition: i32,
    pub app: AppId,
    pub state: DomainState,
    /// Since when it is in this state, epoch ms.
    pub since_ms: i64,
    pub records: u64,
    pub bytes: u64,
    /// What Kafka said, or did not say.
    pub why: String,
    /// `None`: nothing is delivered, or nobody knows yet.
    pub drain_bytes_per_s: Option<u64>,
    pub left_s: Option<u64>,
}

/// Where new publishes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainState {
    /// Into the journal; Kafka takes nothing.
    Buffering,
    /// Into the journal, behind what is being delivered.
    Draining,
    /// They wait a moment for the last of it.
    Gate,
    /// To Kafka.
    Direct,
}

impl DomainState {
    pub const ALL: [DomainState; 4] = [Self::Buffering, Self::Draining, Self::Gate, Self::Direct];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buffering => "buffering",
            Self::Draining => "draining",
            Self::Gate => "gate",
            Self::Direct => "direct",
        }
    }
}

/// Which parked records; what is not given is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedFilter {
    /// Whose.
    pub apps: Visible,
    pub cluster: Option<ClusterName>,
    pub topic: Option<PhysicalTopic>,
    /// A reason's code.
    pub reason: Option<String>,
}

impl ParkedFilter {
    pub fn lets_through(&self, parked: &Parked) -> bool {
        self.apps.includes(parked.app.as_str())
            && self.cluster.as_ref().is_none_or(|cluster| *cluster == parked.cluster)
            && self.topic.as_ref().is_none_or(|topic| *topic == parked.topic)
            && self.reason.as_ref().is_none_or(|reason| *reason == parked.reason)
    }
}

/// A record that is not delivered until somebody says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The id that its publisher was given.
    pub receipt: String,
    pub app: AppId,
    pub cluster: ClusterName,
    pub topic: PhysicalTopic,
    pub partition: i32,
    /// Epoch ms.
    pub accepted_at_ms: i64,
    pub parked_at_ms: i64,
    pub bytes: u64,
    /// Stable, for programs.
    pub reason: String,
    /// For people.
    pub why: String,
    /// The first bytes of the key; `None`: it has none.
    pub key_start: Option<Vec<u8>>,
}

/// What was taken over from a dead node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Adopted {
    pub records: u64,
    pub bytes: u64,
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub app: AppId,
    pub state: ReceiptState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptState {
    Pending,
    Delivered { partition: i32, offset: i64 },
    Parked { reason: String },
}

impl From<HandoffError> for ApiError {
    fn from(err: HandoffError) -> Self {
        let message = err.to_string();
        match err {
            HandoffError::NoSuchNode { .. } => Self::not_found("no_such_instance", message),
            HandoffError::NodeLives { .. } => Self::new(StatusCode::CONFLICT, "node_lives", message),
            HandoffError::BadCursor => Self::bad_request("bad_cursor", message),
            HandoffError::BadReceipt { .. } => Self::bad_request("bad_receipt", message),
            HandoffError::Journal { .. } => {
                tracing::error!(err = message, "management call failed at the journal of handed-off publishes");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "journal_unusable", message)
            }
            HandoffError::Ending => Self::new(StatusCode::SERVICE_UNAVAILABLE, "ending", message),
        }
        .retry_later()
    }
}
