//! Why not: a code that every client knows, and a sentence for people.

use kafka_wire::error_code::ErrorCode;

use crate::limits::SENTENCE_BYTES_MAX;
use crate::sentence::bounded;

/// A request, or a part of one, that is refused, and how Kafka would put it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Refusal {
        // It may quote what a peer said, at any length.
        Refusal { code, message: bounded(message.into(), SENTENCE_BYTES_MAX) }
    }
}
