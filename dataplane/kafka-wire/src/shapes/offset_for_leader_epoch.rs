//! OffsetForLeaderEpoch (API 23): where a leader's epoch ended (KIP-101, KIP-320).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "OffsetForLeaderEpochRequest",
    versions: (0, 4),
    flexible_from: 4,
    fields: &[field("replica_id", Int32).since(3), field("topics", Array(&Struct(OFFSET_FOR_LEADER_TOPIC)))],
};

const OFFSET_FOR_LEADER_TOPIC: &[Field] =
    &[field("topic", String), field("partitions", Array(&Struct(OFFSET_FOR_LEADER_PARTITION)))];

const OFFSET_FOR_LEADER_PARTITION: &[Field] =
    &[field("partition", Int32), field("current_leader_epoch", Int32).since(2), field("leader_epoch", Int32)];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "OffsetForLeaderEpochResponse",
    versions: (0, 4),
    flexible_from: 4,
    fields: &[
        field("throttle_time_ms", Int32).since(2),
        field("topics", Array(&Struct(OFFSET_FOR_LEADER_TOPIC_RESULT))),
    ],
};

const OFFSET_FOR_LEADER_TOPIC_RESULT: &[Field] =
    &[field("topic", String), field("partitions", Array(&Struct(EPOCH_END_OFFSET)))];

const EPOCH_END_OFFSET: &[Field] = &[
    field("error_code", Int16),
    field("partition", Int32),
    field("leader_epoch", Int32).since(1),
    field("end_offset", Int64),
];
