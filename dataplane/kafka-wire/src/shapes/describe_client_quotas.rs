//! DescribeClientQuotas (API 48): which quotas are set for users, clients and addresses (KIP-546).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "DescribeClientQuotasRequest",
    versions: (0, 1),
    flexible_from: 1,
    fields: &[field("components", Array(&Struct(COMPONENT_DATA))), field("strict", Bool)],
};

const COMPONENT_DATA: &[Field] =
    &[field("entity_type", String), field("match_type", Int8), field("match", String).nullable()];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "DescribeClientQuotasResponse",
    versions: (0, 1),
    flexible_from: 1,
    fields: &[
        field("throttle_time_ms", Int32),
        field("error_code", Int16),
        field("error_message", String).nullable(),
        field("entries", Array(&Struct(ENTRY_DATA))).nullable(),
    ],
};

const ENTRY_DATA: &[Field] =
    &[field("entity", Array(&Struct(ENTITY_DATA))), field("values", Array(&Struct(VALUE_DATA)))];

const ENTITY_DATA: &[Field] = &[field("entity_type", String), field("entity_name", String).nullable()];

const VALUE_DATA: &[Field] = &[field("key", String), field("value", Float64)];
