//! What Kafka said of a record, as an answer: the only place where an outcome becomes a status.

use crate::codes;
use crate::refusal::Refusal;
use kafka_client::ProduceError;

impl From<&ProduceError> for Refusal {
    fn from(error: &ProduceError) -> Refusal {
        let code = match error {
            ProduceError::TopicUnknown => codes::NO_SUCH_TOPIC,
            ProduceError::PartitionUnknown { .. } => codes::NO_SUCH_PARTITION,
            ProduceError::RecordTooLarge { .. } => codes::MESSAGE_TOO_LARGE,
            ProduceError::NotAuthorized { .. } => codes::KAFKA_DENIED,
            ProduceError::Unavailable { .. } | ProduceError::Away { .. } => codes::KAFKA_UNAVAILABLE,
            ProduceError::Unknown { .. } => codes::OUTCOME_UNKNOWN,
            ProduceError::Rejected { .. } => codes::REJECTED_BY_KAFKA,
            ProduceError::QueueFull => codes::OVERLOADED,
        };
        Refusal::new(code, error.to_string())
    }
}
