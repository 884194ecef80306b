//! TxnOffsetCommit (API 28): where a group stands once a transaction is committed (KIP-98, KIP-447).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "TxnOffsetCommitRequest",
    versions: (0, 6),
    flexible_from: 3,
    fields: &[
        field("transactional_id", String),
        field("group_id", String),
        field("producer_id", Int64),
        field("producer_epoch", Int16),
        field("generation_id_or_member_epoch", Int32).since(3),
        field("member_id", String).since(3),
        field("group_instance_id", String).since(3).nullable(),
        field("topics", Array(&Struct(TXN_OFFSET_COMMIT_REQUEST_TOPIC))),
    ],
};

const TXN_OFFSET_COMMIT_REQUEST_TOPIC: &[Field] = &[
    field("name", String).until(5),
    field("topic_id", Uuid).since(6),
    field("partitions", Array(&Struct(TXN_OFFSET_COMMIT_REQUEST_PARTITION))),
];

const TXN_OFFSET_COMMIT_REQUEST_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("committed_offset", Int64),
    field("committed_leader_epoch", Int32).since(2),
    field("committed_metadata", String).nullable(),
];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "TxnOffsetCommitResponse",
    versions: (0, 6),
    flexible_from: 3,
    fields: &[field("throttle_time_ms", Int32), field("topics", Array(&Struct(TXN_OFFSET_COMMIT_RESPONSE_TOPIC)))],
};

const TXN_OFFSET_COMMIT_RESPONSE_TOPIC: &[Field] = &[
    field("name", String).until(5),
    field("topic_id", Uuid).since(6),
    field("partitions", Array(&Struct(TXN_OFFSET_COMMIT_RESPONSE_PARTITION))),
];

const TXN_OFFSET_COMMIT_RESPONSE_PARTITION: &[Field] = &[field("partition_index", Int32), field("error_code", Int16)];
