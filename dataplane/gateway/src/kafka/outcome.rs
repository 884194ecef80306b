//! What Kafka said of a record, as an answer: the only place where an outcome becomes a status.

use crate::refusal::Refusal;
use kafka_client::ProduceError;

impl From<&ProduceError> for Refusal {
    fn from(error: &ProduceError) -> Refusal {
        let (status, code) = match error {
            ProduceError::TopicUnknown => (404, "no_such_topic"),
            ProduceError::PartitionUnknown { .. } => (400, "no_such_partition"),
            ProduceError::RecordTooLarge { .. } => (413, "message_too_large"),
            ProduceError::NotAuthorized { .. } => (503, "kafka_denied"),
            ProduceError::Unavailable { .. } => (503, "kafka_unavailable"),
            ProduceError::Unknown { .. } => (504, "outcome_unknown"),
            ProduceError::Rejected { .. } => (400, "rejected_by_kafka"),
            ProduceError::QueueFull => (503, "overloaded"),
        };
        Refusal::new(status, code, error.to_string())
    }
}
