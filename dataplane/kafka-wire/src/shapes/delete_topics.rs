//! DeleteTopics (API 20).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "DeleteTopicsRequest",
    versions: (1, 6),
    flexible_from: 4,
    fields: &[
        field("topics", Array(&Struct(DELETE_TOPIC_STATE))).since(6),
        field("topic_names", Array(&String)).until(5),
        field("timeout_ms", Int32),
    ],
};

const DELETE_TOPIC_STATE: &[Field] = &[field("name", String).since(6).nullable(), field("topic_id", Uuid).since(6)];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "DeleteTopicsResponse",
    versions: (1, 6),
    flexible_from: 4,
    fields: &[field("throttle_time_ms", Int32), field("responses", Array(&Struct(DELETABLE_TOPIC_RESULT)))],
};

const DELETABLE_TOPIC_RESULT: &[Field] = &[
    field("name", String).nullable(),
    field("topic_id", Uuid).since(6),
    field("error_code", Int16),
    field("error_message", String).since(5).nullable(),
];
