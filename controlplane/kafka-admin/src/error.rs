//! Why the cluster did not do what it was asked to.

use std::sync::Arc;

use kafka_client::RequestError;
use kafka_wire::error_code::ErrorCode;

/// The first group is the asker's to mend, the second one passes or is the operator's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    #[error("Kafka topic {topic} exists already")]
    AlreadyExists { topic: String },
    #[error("Kafka topic {topic} does not exist")]
    NoSuchTopic { topic: String },
    #[error("{asked} replicas are not possible with {brokers} brokers")]
    InvalidReplicationFactor { asked: i16, brokers: usize },
    #[error("number of partitions refused: {why}")]
    InvalidPartitions { why: String },
    #[error("topic configuration refused: {why}")]
    InvalidConfig { why: String },
    /// A legal name is refused because of another that differs from it in `.` and `_` only.
    #[error("Kafka takes no topic {topic}: {why}")]
    NameRefused { topic: String, why: String },

    #[error("Kafka refuses: {}{}{why}", code.name(), if why.is_empty() { "" } else { ": " })]
    Refused { code: ErrorCode, why: String },
    #[error("Kafka does not let this gateway do it: {}", code.name())]
    NotAuthorized { code: ErrorCode },
    #[error("Kafka refuses our credentials: {why}")]
    NotAuthenticated { why: Arc<str> },
    #[error("no Kafka broker can be reached: {why}")]
    Unreachable { why: Arc<str> },
    /// It may have happened nevertheless.
    #[error("Kafka has not finished in time: {why}")]
    Timeout { why: String },
    #[error("Kafka's answer cannot be used: {why}")]
    Unusable { why: String },
    #[error("the admin client has stopped")]
    Stopped,
}

impl AdminError {
    /// Trying again later may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, AdminError::Unreachable { .. } | AdminError::Timeout { .. })
    }
}

/// What an error code inside an answer means for a topic, when it is final.
pub(crate) fn refusal(code: ErrorCode, message: Option<&str>, topic: &str) -> AdminError {
    let why = message.unwrap_or_default().to_owned();
    match code {
        ErrorCode::TOPIC_ALREADY_EXISTS => AdminError::AlreadyExists { topic: topic.to_owned() },
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => AdminError::NoSuchTopic { topic: topic.to_owned() },
        ErrorCode::INVALID_TOPIC_EXCEPTION => AdminError::NameRefused { topic: topic.to_owned(), why },
        ErrorCode::INVALID_PARTITIONS => AdminError::InvalidPartitions { why },
        ErrorCode::INVALID_CONFIG => AdminError::InvalidConfig { why },
        ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED => {
            AdminError::NotAuthorized { code }
        }
        _ => AdminError::Refused { code, why },
    }
}

/// Why a request has no answer, when that is final.
pub(crate) fn lost(err: &RequestError) -> AdminError {
    match err {
        RequestError::Timeout { .. } | RequestError::Disconnected { .. } => {
            AdminError::Timeout { why: err.to_string() }
        }
        RequestError::Unreachable { why } => AdminError::Unreachable { why: Arc::clone(why) },
        RequestError::QueueFull => AdminError::Unreachable { why: err.to_string().into() },
        RequestError::Authentication { why } => AdminError::NotAuthenticated { why: Arc::clone(why) },
        RequestError::Unsupported { .. }
        | RequestError::Encode { .. }
        | RequestError::Malformed { .. }
        | RequestError::CoordinatorRefused { .. } => AdminError::Unusable { why: err.to_string() },
    }
}
