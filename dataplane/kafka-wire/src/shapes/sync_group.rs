//! SyncGroup (API 14): the leader's assignment goes in, one's own comes out.

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "SyncGroupRequest",
    versions: (0, 5),
    flexible_from: 4,
    fields: &[
        field("group_id", String),
        field("generation_id", Int32),
        field("member_id", String),
        field("group_instance_id", String).since(3).nullable(),
        field("protocol_type", String).since(5).nullable(),
        field("protocol_name", String).since(5).nullable(),
        field("assignments", Array(&Struct(SYNC_GROUP_REQUEST_ASSIGNMENT))),
    ],
};

const SYNC_GROUP_REQUEST_ASSIGNMENT: &[Field] = &[field("member_id", String), field("assignment", Bytes)];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "SyncGroupResponse",
    versions: (0, 5),
    flexible_from: 4,
    fields: &[
        field("throttle_time_ms", Int32).since(1),
        field("error_code", Int16),
        field("protocol_type", String).since(5).nullable(),
        field("protocol_name", String).since(5).nullable(),
        field("assignment", Bytes),
    ],
};
