//! ConsumerGroupHeartbeat (API 68): entering, staying in and leaving a group of the new protocol (KIP-848).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "ConsumerGroupHeartbeatRequest",
    versions: (0, 1),
    flexible_from: 0,
    fields: &[
        field("group_id", String),
        field("member_id", String),
        field("member_epoch", Int32),
        field("instance_id", String).nullable(),
        field("rack_id", String).nullable(),
        field("rebalance_timeout_ms", Int32),
        field("subscribed_topic_names", Array(&String)).nullable(),
        field("subscribed_topic_regex", String).since(1).nullable(),
        field("server_assignor", String).nullable(),
        field("topic_partitions", Array(&Struct(TOPIC_PARTITIONS))).nullable(),
    ],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "ConsumerGroupHeartbeatResponse",
    versions: (0, 1),
    flexible_from: 0,
    fields: &[
        field("throttle_time_ms", Int32),
        field("error_code", Int16),
        field("error_message", String).nullable(),
        field("member_id", String).nullable(),
        field("member_epoch", Int32),
        field("heartbeat_interval_ms", Int32),
        field("assignment", NullableStruct(ASSIGNMENT)),
    ],
};

const ASSIGNMENT: &[Field] = &[field("topic_partitions", Array(&Struct(TOPIC_PARTITIONS)))];

const TOPIC_PARTITIONS: &[Field] = &[field("topic_id", Uuid), field("partitions", Array(&Int32))];
