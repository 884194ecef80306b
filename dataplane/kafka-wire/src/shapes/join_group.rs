//! JoinGroup (API 11): entering a classic group (KIP-345, KIP-394).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "JoinGroupRequest",
    versions: (0, 9),
    flexible_from: 6,
    fields: &[
        field("group_id", String),
        field("session_timeout_ms", Int32),
        field("rebalance_timeout_ms", Int32).since(1),
        field("member_id", String),
        field("group_instance_id", String).since(5).nullable(),
        field("protocol_type", String),
        field("protocols", Array(&Struct(JOIN_GROUP_REQUEST_PROTOCOL))),
        field("reason", String).since(8).nullable(),
    ],
};

const JOIN_GROUP_REQUEST_PROTOCOL: &[Field] = &[field("name", String), field("metadata", Bytes)];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "JoinGroupResponse",
    versions: (0, 9),
    flexible_from: 6,
    fields: &[
        field("throttle_time_ms", Int32).since(2),
        field("error_code", Int16),
        field("generation_id", Int32),
        field("protocol_type", String).since(7).nullable(),
        field("protocol_name", String).nullable(),
        field("leader", String),
        field("skip_assignment", Bool).since(9),
        field("member_id", String),
        field("members", Array(&Struct(JOIN_GROUP_RESPONSE_MEMBER))),
    ],
};

const JOIN_GROUP_RESPONSE_MEMBER: &[Field] =
    &[field("member_id", String), field("group_instance_id", String).since(5).nullable(), field("metadata", Bytes)];
