//! IncrementalAlterConfigs (API 44) (KIP-339).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "IncrementalAlterConfigsRequest",
    versions: (0, 1),
    flexible_from: 1,
    fields: &[field("resources", Array(&Struct(ALTER_CONFIGS_RESOURCE))), field("validate_only", Bool)],
};

const ALTER_CONFIGS_RESOURCE: &[Field] =
    &[field("resource_type", Int8), field("resource_name", String), field("configs", Array(&Struct(ALTERABLE_CONFIG)))];

const ALTERABLE_CONFIG: &[Field] =
    &[field("name", String), field("config_operation", Int8), field("value", String).nullable()];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "IncrementalAlterConfigsResponse",
    versions: (0, 1),
    flexible_from: 1,
    fields: &[field("throttle_time_ms", Int32), field("responses", Array(&Struct(ALTER_CONFIGS_RESOURCE_RESPONSE)))],
};

const ALTER_CONFIGS_RESOURCE_RESPONSE: &[Field] = &[
    field("error_code", Int16),
    field("error_message", String).nullable(),
    field("resource_type", Int8),
    field("resource_name", String),
];
