//! DescribeConfigs (API 32).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "DescribeConfigsRequest",
    versions: (1, 4),
    flexible_from: 4,
    fields: &[
        field("resources", Array(&Struct(DESCRIBE_CONFIGS_RESOURCE))),
        field("include_synonyms", Bool),
        field("include_documentation", Bool).since(3),
    ],
};

const DESCRIBE_CONFIGS_RESOURCE: &[Field] = &[
    field("resource_type", Int8),
    field("resource_name", String),
    field("configuration_keys", Array(&String)).nullable(),
];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "DescribeConfigsResponse",
    versions: (1, 4),
    flexible_from: 4,
    fields: &[field("throttle_time_ms", Int32), field("results", Array(&Struct(DESCRIBE_CONFIGS_RESULT)))],
};

const DESCRIBE_CONFIGS_RESULT: &[Field] = &[
    field("error_code", Int16),
    field("error_message", String).nullable(),
    field("resource_type", Int8),
    field("resource_name", String),
    field("configs", Array(&Struct(DESCRIBE_CONFIGS_RESOURCE_RESULT))),
];

const DESCRIBE_CONFIGS_RESOURCE_RESULT: &[Field] = &[
    field("name", String),
    field("value", String).nullable(),
    field("read_only", Bool),
    field("config_source", Int8),
    field("is_sensitive", Bool),
    field("synonyms", Array(&Struct(DESCRIBE_CONFIGS_SYNONYM))),
    field("config_type", Int8).since(3),
    field("documentation", String).since(3).nullable(),
];

const DESCRIBE_CONFIGS_SYNONYM: &[Field] =
    &[field("name", String), field("value", String).nullable(), field("source", Int8)];
