//! CreatePartitions (API 37) (KIP-195).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "CreatePartitionsRequest",
    versions: (0, 3),
    flexible_from: 2,
    fields: &[
        field("topics", Array(&Struct(CREATE_PARTITIONS_TOPIC))),
        field("timeout_ms", Int32),
        field("validate_only", Bool),
    ],
};

const CREATE_PARTITIONS_TOPIC: &[Field] = &[
    field("name", String),
    field("count", Int32),
    field("assignments", Array(&Struct(CREATE_PARTITIONS_ASSIGNMENT))).nullable(),
];

const CREATE_PARTITIONS_ASSIGNMENT: &[Field] = &[field("broker_ids", Array(&Int32))];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "CreatePartitionsResponse",
    versions: (0, 3),
    flexible_from: 2,
    fields: &[field("throttle_time_ms", Int32), field("results", Array(&Struct(CREATE_PARTITIONS_TOPIC_RESULT)))],
};

const CREATE_PARTITIONS_TOPIC_RESULT: &[Field] =
    &[field("name", String), field("error_code", Int16), field("error_message", String).nullable()];
