//! ListGroups (API 16): the groups a broker coordinates.

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "ListGroupsRequest",
    versions: (0, 5),
    flexible_from: 3,
    fields: &[field("states_filter", Array(&String)).since(4), field("types_filter", Array(&String)).since(5)],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "ListGroupsResponse",
    versions: (0, 5),
    flexible_from: 3,
    fields: &[
        field("throttle_time_ms", Int32).since(1),
        field("error_code", Int16),
        field("groups", Array(&Struct(LISTED_GROUP))),
    ],
};

const LISTED_GROUP: &[Field] = &[
    field("group_id", String),
    field("protocol_type", String),
    field("group_state", String).since(4),
    field("group_type", String).since(5),
];
