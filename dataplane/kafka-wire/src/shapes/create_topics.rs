//! CreateTopics (API 19).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "CreateTopicsRequest",
    versions: (2, 7),
    flexible_from: 5,
    fields: &[
        field("topics", Array(&Struct(CREATABLE_TOPIC))),
        field("timeout_ms", Int32),
        field("validate_only", Bool),
    ],
};

const CREATABLE_TOPIC: &[Field] = &[
    field("name", String),
    field("num_partitions", Int32),
    field("replication_factor", Int16),
    field("assignments", Array(&Struct(CREATABLE_REPLICA_ASSIGNMENT))),
    field("configs", Array(&Struct(CREATABLE_TOPIC_CONFIG))),
];

const CREATABLE_TOPIC_CONFIG: &[Field] = &[field("name", String), field("value", String).nullable()];

const CREATABLE_REPLICA_ASSIGNMENT: &[Field] = &[field("partition_index", Int32), field("broker_ids", Array(&Int32))];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "CreateTopicsResponse",
    versions: (2, 7),
    flexible_from: 5,
    fields: &[field("throttle_time_ms", Int32), field("topics", Array(&Struct(CREATABLE_TOPIC_RESULT)))],
};

const CREATABLE_TOPIC_RESULT: &[Field] = &[
    field("name", String),
    field("topic_id", Uuid).since(7),
    field("error_code", Int16),
    field("error_message", String).nullable(),
    field("topic_config_error_code", Int16).tag(0),
    field("num_partitions", Int32).since(5),
    field("replication_factor", Int16).since(5),
    field("configs", Array(&Struct(CREATABLE_TOPIC_CONFIGS))).since(5).nullable(),
];

const CREATABLE_TOPIC_CONFIGS: &[Field] = &[
    field("name", String).since(5),
    field("value", String).since(5).nullable(),
    field("read_only", Bool).since(5),
    field("config_source", Int8).since(5),
    field("is_sensitive", Bool).since(5),
];
