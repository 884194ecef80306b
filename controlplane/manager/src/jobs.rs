//! Delayed jobs of a gateway, as its operator sees them. The gateway's process answers; [`crate::fleet_ask`] puts the answers of
//! all nodes together.
//!
//! A job that can never fire (its topic is gone, say) is parked with the reason, and waits there for somebody who replays it or
//! drops it.

use axum::http::StatusCode;
use model::ids::{AppId, TopicName, TopicVersion};
use model::principals::Visible;

use crate::error::ApiError;
use crate::parked::{self, Parking};

/// What a call of [`Jobs`] returns.
pub type Answer<'a, T> = parked::Answer<'a, T, JobsError>;

/// The delayed jobs of one gateway, and which of them are parked.
pub trait Jobs: Parking<Filter = JobFilter, Row = ParkedJob, Error = JobsError> {
    fn status(&self) -> Answer<'_, JobsStatus>;

    /// Whether this may be the id of a job, of whichever gateway.
    fn is_id(&self, text: &str) -> bool;

    /// Whether a job with this id may be at that node: ids say so, but two nodes may share what they say.
    fn may_have(&self, id: &str, node: &str) -> bool;

    /// Does something with one job. `None`: this gateway knows no such job of this topic.
    fn act<'a>(&'a self, topic: &'a TopicOf, id: &'a str, act: JobAct) -> Answer<'a, Option<Job>>;

    /// Has a topic's jobs wait, however late, or go on. Repeating is harmless.
    fn pause<'a>(&'a self, topic: &'a TopicOf, is_paused: bool) -> Answer<'a, ()>;
}

/// A topic version, whose jobs are one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOf {
    pub app: AppId,
    pub topic: TopicName,
    pub ver: TopicVersion,
}

/// What is done with one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobAct {
    Show,
    /// It never fires.
    Delete,
    /// It is due then, epoch ms.
    Move(i64),
    /// It is due now; a parked one is tried again.
    Fire,
}

impl JobAct {
    /// The new time, epoch ms, if it gives one.
    pub fn due_ms(self) -> Option<i64> {
        if let JobAct::Move(due_ms) = self { Some(due_ms) } else { None }
    }
}

/// A job as it is, or was before it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub state: JobState,
    /// Epoch ms; `None`: it came to an end.
    pub due_ms: Option<i64>,
    /// How often it was given to Kafka in vain.
    pub attempts: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    Pending,
    Firing,
    Parked { at_ms: i64, reason: String, why: String },
    Fired,
    Deleted,
}

impl JobState {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Parked { .. } => "parked",
            Self::Fired => "fired",
            Self::Deleted => "deleted",
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobsError {
    #[error("the cursor is none that a page of parked jobs ended with")]
    BadCursor,
    #[error("{id:?} is no id of a job")]
    BadId { id: String },
    #[error("nothing was changed: this job is {state}")]
    TooLate { state: &'static str },
    /// The disk, or what is on it; the sentence is for a person.
    #[error("the store of delayed jobs cannot be used: {why}")]
    Store { why: String },
    #[error("this gateway ends")]
    Ending,
}

/// How the store of one node is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobsStatus {
    /// The node's id.
    pub node: String,
    /// New jobs are taken.
    pub enabled: bool,
    /// That did not come to an end; parked ones, too.
    pub pending: u64,
    /// Their time has come, and they are not at Kafka.
    pub due: u64,
    pub in_flight: u64,
    pub parked: u64,
    /// Since this process started.
    pub fired: u64,
    /// Jobs that rotted on the disk.
    pub lost: u64,
    pub memory_bytes: u64,
    pub tables: u64,
    pub table_bytes: u64,
    pub log_segments: u64,
    pub log_bytes: u64,
    /// The disk is full: nothing is taken.
    pub is_read_only: bool,
    pub queues: Vec<JobQueue>,
}

/// Jobs of one topic version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobQueue {
    pub of: TopicOf,
    pub pending: u64,
    pub parked: u64,
    /// Its jobs wait, however late.
    pub paused: bool,
}

/// Which parked jobs; what is not given is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFilter {
    /// Whose.
    pub apps: Visible,
    pub topic: Option<(TopicName, TopicVersion)>,
    /// A reason's code.
    pub reason: Option<String>,
}

impl JobFilter {
    /// Texts, so that looking through many makes nothing.
    pub fn lets_through(&self, app: &str, topic: &str, ver: &str, reason: &str) -> bool {
        self.apps.includes(app)
            && self.topic.as_ref().is_none_or(|(name, version)| name.as_str() == topic && version.as_str() == ver)
            && self.reason.as_ref().is_none_or(|wanted| wanted == reason)
    }
}

/// A job that does not fire until somebody says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedJob {
    /// As whoever added it was told.
    pub id: String,
    pub of: TopicOf,
    /// Epoch ms.
    pub due_ms: i64,
    pub parked_at_ms: i64,
    /// Stable, for programs.
    pub reason: String,
    /// For people.
    pub why: String,
}

impl From<JobsError> for ApiError {
    fn from(err: JobsError) -> Self {
        let message = err.to_string();
        match err {
            JobsError::BadCursor => Self::bad_request("bad_cursor", message),
            JobsError::BadId { .. } => Self::bad_request("bad_job_id", message),
            JobsError::TooLate { .. } => Self::new(StatusCode::CONFLICT, "job_too_late", message),
            JobsError::Store { .. } => {
                tracing::error!(err = message, "management call failed at the store of delayed jobs");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "jobs_unusable", message)
            }
            JobsError::Ending => Self::new(StatusCode::SERVICE_UNAVAILABLE, "ending", message),
        }
        .retry_later()
    }
}
