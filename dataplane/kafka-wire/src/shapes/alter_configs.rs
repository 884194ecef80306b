//! AlterConfigs (API 33): replaces all options at once; IncrementalAlterConfigs is its successor (KIP-133, KIP-339).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "AlterConfigsRequest",
    versions: (0, 2),
    flexible_from: 2,
    fields: &[field("resources", Array(&Struct(ALTER_CONFIGS_RESOURCE))), field("validate_only", Bool)],
};

const ALTER_CONFIGS_RESOURCE: &[Field] =
    &[field("resource_type", Int8), field("resource_name", String), field("configs", Array(&Struct(ALTERABLE_CONFIG)))];

const ALTERABLE_CONFIG: &[Field] = &[field("name", String), field("value", String).nullable()];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "AlterConfigsResponse",
    versions: (0, 2),
    flexible_from: 2,
    fields: &[field("throttle_time_ms", Int32), field("responses", Array(&Struct(ALTER_CONFIGS_RESOURCE_RESPONSE)))],
};

const ALTER_CONFIGS_RESOURCE_RESPONSE: &[Field] = &[
    field("error_code", Int16),
    field("error_message", String).nullable(),
    field("resource_type", Int8),
    field("resource_name", String),
];
