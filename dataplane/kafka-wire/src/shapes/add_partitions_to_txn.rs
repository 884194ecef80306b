//! AddPartitionsToTxn (API 24): partitions a transaction will write to (KIP-98). From version 4 on only brokers speak it
//! (KIP-890), so the tables end before.

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "AddPartitionsToTxnRequest",
    versions: (0, 3),
    flexible_from: 3,
    fields: &[
        field("v3_and_below_transactional_id", String),
        field("v3_and_below_producer_id", Int64),
        field("v3_and_below_producer_epoch", Int16),
        field("v3_and_below_topics", Array(&Struct(ADD_PARTITIONS_TO_TXN_TOPIC))),
    ],
};

const ADD_PARTITIONS_TO_TXN_TOPIC: &[Field] = &[field("name", String), field("partitions", Array(&Int32))];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "AddPartitionsToTxnResponse",
    versions: (0, 3),
    flexible_from: 3,
    fields: &[
        field("throttle_time_ms", Int32),
        field("results_by_topic_v3_and_below", Array(&Struct(ADD_PARTITIONS_TO_TXN_TOPIC_RESULT))),
    ],
};

const ADD_PARTITIONS_TO_TXN_TOPIC_RESULT: &[Field] =
    &[field("name", String), field("results_by_partition", Array(&Struct(ADD_PARTITIONS_TO_TXN_PARTITION_RESULT)))];

const ADD_PARTITIONS_TO_TXN_PARTITION_RESULT: &[Field] =
    &[field("partition_index", Int32), field("partition_error_code", Int16)];
