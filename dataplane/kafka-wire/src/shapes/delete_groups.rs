//! DeleteGroups (API 42) (KIP-229).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "DeleteGroupsRequest",
    versions: (0, 3),
    flexible_from: 2,
    fields: &[field("groups_names", Array(&String))],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "DeleteGroupsResponse",
    versions: (0, 3),
    flexible_from: 2,
    fields: &[field("throttle_time_ms", Int32), field("results", Array(&Struct(DELETABLE_GROUP_RESULT)))],
};

const DELETABLE_GROUP_RESULT: &[Field] =
    &[field("group_id", String), field("error_code", Int16), field("error_message", String).since(3).nullable()];
