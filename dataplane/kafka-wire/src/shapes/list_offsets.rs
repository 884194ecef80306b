//! ListOffsets (API 2): the first, last or time-bound offset of partitions (KIP-79, KIP-320).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "ListOffsetsRequest",
    versions: (1, 11),
    flexible_from: 6,
    fields: &[
        field("replica_id", Int32),
        field("isolation_level", Int8).since(2),
        field("topics", Array(&Struct(LIST_OFFSETS_TOPIC))),
        field("timeout_ms", Int32).since(10),
    ],
};

const LIST_OFFSETS_TOPIC: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(LIST_OFFSETS_PARTITION)))];

const LIST_OFFSETS_PARTITION: &[Field] =
    &[field("partition_index", Int32), field("current_leader_epoch", Int32).since(4), field("timestamp", Int64)];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "ListOffsetsResponse",
    versions: (1, 11),
    flexible_from: 6,
    fields: &[field("throttle_time_ms", Int32).since(2), field("topics", Array(&Struct(LIST_OFFSETS_TOPIC_RESPONSE)))],
};

const LIST_OFFSETS_TOPIC_RESPONSE: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(LIST_OFFSETS_PARTITION_RESPONSE)))];

const LIST_OFFSETS_PARTITION_RESPONSE: &[Field] = &[
    field("partition_index", Int32),
    field("error_code", Int16),
    field("timestamp", Int64),
    field("offset", Int64),
    field("leader_epoch", Int32).since(4),
];
