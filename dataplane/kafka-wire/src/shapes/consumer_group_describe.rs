//! ConsumerGroupDescribe (API 69): members and assignments of groups of the new protocol (KIP-848).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "ConsumerGroupDescribeRequest",
    versions: (0, 1),
    flexible_from: 0,
    fields: &[field("group_ids", Array(&String)), field("include_authorized_operations", Bool)],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "ConsumerGroupDescribeResponse",
    versions: (0, 1),
    flexible_from: 0,
    fields: &[field("throttle_time_ms", Int32), field("groups", Array(&Struct(DESCRIBED_GROUP)))],
};

const DESCRIBED_GROUP: &[Field] = &[
    field("error_code", Int16),
    field("error_message", String).nullable(),
    field("group_id", String),
    field("group_state", String),
    field("group_epoch", Int32),
    field("assignment_epoch", Int32),
    field("assignor_name", String),
    field("members", Array(&Struct(MEMBER))),
    field("authorized_operations", Int32),
];

const MEMBER: &[Field] = &[
    field("member_id", String),
    field("instance_id", String).nullable(),
    field("rack_id", String).nullable(),
    field("member_epoch", Int32),
    field("client_id", String),
    field("client_host", String),
    field("subscribed_topic_names", Array(&String)),
    field("subscribed_topic_regex", String).nullable(),
    field("assignment", Struct(ASSIGNMENT)),
    field("target_assignment", Struct(ASSIGNMENT)),
    field("member_type", Int8).since(1),
];

const ASSIGNMENT: &[Field] = &[field("topic_partitions", Array(&Struct(TOPIC_PARTITIONS)))];

const TOPIC_PARTITIONS: &[Field] =
    &[field("topic_id", Uuid), field("topic_name", String), field("partitions", Array(&Int32))];
