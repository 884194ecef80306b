//! Produce (API 0): records to partitions; topic ids instead of names from version 13 (KIP-516).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};
use crate::shapes::new_leader::{LEADER, NODE_ENDPOINT, NODE_ENDPOINTS};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "ProduceRequest",
    versions: (3, 13),
    flexible_from: 9,
    fields: &[
        field("transactional_id", String).nullable(),
        field("acks", Int16),
        field("timeout_ms", Int32),
        field("topic_data", Array(&Struct(TOPIC_PRODUCE_DATA))),
    ],
};

const TOPIC_PRODUCE_DATA: &[Field] = &[
    field("name", String).until(12),
    field("topic_id", Uuid).since(13),
    field("partition_data", Array(&Struct(PARTITION_PRODUCE_DATA))),
];

const PARTITION_PRODUCE_DATA: &[Field] = &[field("index", Int32), field("records", Bytes).nullable()];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "ProduceResponse",
    versions: (3, 13),
    flexible_from: 9,
    fields: &[
        field("responses", Array(&Struct(TOPIC_PRODUCE_RESPONSE))),
        field("throttle_time_ms", Int32),
        field(NODE_ENDPOINTS, Array(&Struct(NODE_ENDPOINT))).since(10).tag(0),
    ],
};

const TOPIC_PRODUCE_RESPONSE: &[Field] = &[
    field("name", String).until(12),
    field("topic_id", Uuid).since(13),
    field("partition_responses", Array(&Struct(PARTITION_PRODUCE_RESPONSE))),
];

const PARTITION_PRODUCE_RESPONSE: &[Field] = &[
    field("index", Int32),
    field("error_code", Int16),
    field("base_offset", Int64),
    field("log_append_time_ms", Int64),
    field("log_start_offset", Int64).since(5),
    field("record_errors", Array(&Struct(BATCH_INDEX_AND_ERROR_MESSAGE))).since(8),
    field("error_message", String).since(8).nullable(),
    field("current_leader", Struct(LEADER)).since(10).tag(0),
];

const BATCH_INDEX_AND_ERROR_MESSAGE: &[Field] =
    &[field("batch_index", Int32), field("batch_index_error_message", String).nullable()];
