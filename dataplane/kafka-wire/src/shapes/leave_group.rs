//! LeaveGroup (API 13): leaving a classic group; several members from version 3 (KIP-345).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "LeaveGroupRequest",
    versions: (0, 5),
    flexible_from: 4,
    fields: &[
        field("group_id", String),
        field("member_id", String).until(2),
        field("members", Array(&Struct(MEMBER_IDENTITY))).since(3),
    ],
};

const MEMBER_IDENTITY: &[Field] = &[
    field("member_id", String).since(3),
    field("group_instance_id", String).since(3).nullable(),
    field("reason", String).since(5).nullable(),
];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "LeaveGroupResponse",
    versions: (0, 5),
    flexible_from: 4,
    fields: &[
        field("throttle_time_ms", Int32).since(1),
        field("error_code", Int16),
        field("members", Array(&Struct(MEMBER_RESPONSE))).since(3),
    ],
};

const MEMBER_RESPONSE: &[Field] = &[
    field("member_id", String).since(3),
    field("group_instance_id", String).since(3).nullable(),
    field("error_code", Int16).since(3),
];
