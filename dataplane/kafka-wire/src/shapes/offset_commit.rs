//! OffsetCommit (API 8): where a group stands; topic ids instead of names from version 10 (KIP-848).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "OffsetCommitRequest",
    versions: (2, 10),
    flexible_from: 8,
    fields: &[
        field("group_id", String),
        field("generation_id_or_member_epoch", Int32),
        field("member_id", String),
        field("group_instance_id", String).since(7).nullable(),
        field("retention_time_ms", Int64).until(4),
        field("topics", Array(&Struct(OFFSET_COMMIT_REQUEST_TOPIC))),
    ],
};

const OFFSET_COMMIT_REQUEST_TOPIC: &[Field] = &[
    field("name", String).until(9),
    field("topic_id", Uuid).since(10),
    field("partitions", Array(&Struct(OFFSET_COMMIT_REQUEST_PARTITION))),
];

const OFFSET_COMMIT_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("committed_offset", Int64),
    field("committed_leader_epoch", Int32).since(6),
    field("committed_metadata", String).nullable(),
];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "OffsetCommitResponse",
    versions: (2, 10),
    flexible_from: 8,
    fields: &[field("throttle_time_ms", Int32).since(3), field("topics", Array(&Struct(OFFSET_COMMIT_RESPONSE_TOPIC)))],
};

const OFFSET_COMMIT_RESPONSE_TOPIC: &[Field] = &[
    field("name", String).until(9),
    field("topic_id", Uuid).since(10),
    field("partitions", Array(&Struct(OFFSET_COMMIT_RESPONSE_PARTITION))),
];

const OFFSET_COMMIT_RESPONSE_PARTITION: &[Field] = &[field("partition_index", Int32), field("error_code", Int16)];
