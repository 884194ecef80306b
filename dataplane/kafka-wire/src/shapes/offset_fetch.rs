//! OffsetFetch (API 9): where a group stood; several groups at once from version 8 (KIP-709),
//! topic ids instead of names from version 10 (KIP-848).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "OffsetFetchRequest",
    versions: (1, 10),
    flexible_from: 6,
    fields: &[
        field("group_id", String).until(7),
        field("topics", Array(&Struct(OFFSET_FETCH_REQUEST_TOPIC))).until(7).nullable(),
        field("groups", Array(&Struct(OFFSET_FETCH_REQUEST_GROUP))).since(8),
        field("require_stable", Bool).since(7),
    ],
};

const OFFSET_FETCH_REQUEST_GROUP: &[Field] = &[
    field("group_id", String).since(8),
    field("member_id", String).since(9).nullable(),
    field("member_epoch", Int32).since(9),
    field("topics", Array(&Struct(OFFSET_FETCH_REQUEST_TOPICS))).since(8).nullable(),
];

const OFFSET_FETCH_REQUEST_TOPICS: &[Field] = &[
    field("name", String).since(8).until(9),
    field("topic_id", Uuid).since(10),
    field("partition_indexes", Array(&Int32)).since(8),
];

const OFFSET_FETCH_REQUEST_TOPIC: &[Field] =
    &[field("name", String).until(7), field("partition_indexes", Array(&Int32)).until(7)];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "OffsetFetchResponse",
    versions: (1, 10),
    flexible_from: 6,
    fields: &[
        field("throttle_time_ms", Int32).since(3),
        field("topics", Array(&Struct(OFFSET_FETCH_RESPONSE_TOPIC))).until(7),
        field("error_code", Int16).since(2).until(7),
        field("groups", Array(&Struct(OFFSET_FETCH_RESPONSE_GROUP))).since(8),
    ],
};

const OFFSET_FETCH_RESPONSE_GROUP: &[Field] = &[
    field("group_id", String).since(8),
    field("topics", Array(&Struct(OFFSET_FETCH_RESPONSE_TOPICS))).since(8),
    field("error_code", Int16).since(8),
];

const OFFSET_FETCH_RESPONSE_TOPICS: &[Field] = &[
    field("name", String).since(8).until(9),
    field("topic_id", Uuid).since(10),
    field("partitions", Array(&Struct(OFFSET_FETCH_RESPONSE_PARTITIONS))).since(8),
];

const OFFSET_FETCH_RESPONSE_PARTITIONS: &[Field] = &[
    field("partition_index", Int32).since(8),
    field("committed_offset", Int64).since(8),
    field("committed_leader_epoch", Int32).since(8),
    field("metadata", String).since(8).nullable(),
    field("error_code", Int16).since(8),
];

const OFFSET_FETCH_RESPONSE_TOPIC: &[Field] =
    &[field("name", String).until(7), field("partitions", Array(&Struct(OFFSET_FETCH_RESPONSE_PARTITION))).until(7)];

const OFFSET_FETCH_RESPONSE_PARTITION: &[Field] = &[
    field("partition_index", Int32).until(7),
    field("committed_offset", Int64).until(7),
    field("committed_leader_epoch", Int32).since(5).until(7),
    field("metadata", String).until(7).nullable(),
    field("error_code", Int16).until(7),
];
