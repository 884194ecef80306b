//! DescribeGroups (API 15): members and assignments of groups.

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "DescribeGroupsRequest",
    versions: (0, 6),
    flexible_from: 5,
    fields: &[field("groups", Array(&String)), field("include_authorized_operations", Bool).since(3)],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "DescribeGroupsResponse",
    versions: (0, 6),
    flexible_from: 5,
    fields: &[field("throttle_time_ms", Int32).since(1), field("groups", Array(&Struct(DESCRIBED_GROUP)))],
};

const DESCRIBED_GROUP: &[Field] = &[
    field("error_code", Int16),
    field("error_message", String).since(6).nullable(),
    field("group_id", String),
    field("group_state", String),
    field("protocol_type", String),
    field("protocol_data", String),
    field("members", Array(&Struct(DESCRIBED_GROUP_MEMBER))),
    field("authorized_operations", Int32).since(3),
];

const DESCRIBED_GROUP_MEMBER: &[Field] = &[
    field("member_id", String),
    field("group_instance_id", String).since(4).nullable(),
    field("client_id", String),
    field("client_host", String),
    field("member_metadata", Bytes),
    field("member_assignment", Bytes),
];
