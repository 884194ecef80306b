//! Fetch (API 1): records of partitions; sessions from version 7 (KIP-227), topic ids from 13 (KIP-516).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};
use crate::shapes::new_leader::{LEADER, NODE_ENDPOINT, NODE_ENDPOINTS};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "FetchRequest",
    versions: (4, 18),
    flexible_from: 12,
    fields: &[
        field("cluster_id", String).since(12).nullable().tag(0),
        field("replica_id", Int32).until(14),
        field("replica_state", Struct(REPLICA_STATE)).since(15).tag(1),
        field("max_wait_ms", Int32),
        field("min_bytes", Int32),
        field("max_bytes", Int32),
        field("isolation_level", Int8),
        field("session_id", Int32).since(7),
        field("session_epoch", Int32).since(7),
        field("topics", Array(&Struct(FETCH_TOPIC))),
        field("forgotten_topics_data", Array(&Struct(FORGOTTEN_TOPIC))).since(7),
        field("rack_id", String).since(11),
    ],
};

const REPLICA_STATE: &[Field] = &[field("replica_id", Int32), field("replica_epoch", Int64)];

const FETCH_TOPIC: &[Field] = &[
    field("topic", String).until(12),
    field("topic_id", Uuid).since(13),
    field("partitions", Array(&Struct(FETCH_PARTITION))),
];

const FETCH_PARTITION: &[Field] = &[
    field("partition", Int32),
    field("current_leader_epoch", Int32).since(9),
    field("fetch_offset", Int64),
    field("last_fetched_epoch", Int32).since(12),
    field("log_start_offset", Int64).since(5),
    field("partition_max_bytes", Int32),
    field("replica_directory_id", Uuid).since(17).tag(0),
    field("high_watermark", Int64).since(18).tag(1),
];

const FORGOTTEN_TOPIC: &[Field] =
    &[field("topic", String).until(12), field("topic_id", Uuid).since(13), field("partitions", Array(&Int32))];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "FetchResponse",
    versions: (4, 18),
    flexible_from: 12,
    fields: &[
        field("throttle_time_ms", Int32),
        field("error_code", Int16).since(7),
        field("session_id", Int32).since(7),
        field("responses", Array(&Struct(FETCHABLE_TOPIC_RESPONSE))),
        field(NODE_ENDPOINTS, Array(&Struct(NODE_ENDPOINT))).since(16).tag(0),
    ],
};

const FETCHABLE_TOPIC_RESPONSE: &[Field] = &[
    field("topic", String).until(12),
    field("topic_id", Uuid).since(13),
    field("partitions", Array(&Struct(PARTITION_DATA))),
];

const PARTITION_DATA: &[Field] = &[
    field("partition_index", Int32),
    field("error_code", Int16),
    field("high_watermark", Int64),
    field("last_stable_offset", Int64),
    field("log_start_offset", Int64).since(5),
    field("diverging_epoch", Struct(EPOCH_END_OFFSET)).since(12).tag(0),
    field("current_leader", Struct(LEADER)).since(12).tag(1),
    field("snapshot_id", Struct(SNAPSHOT_ID)).since(12).tag(2),
    field("aborted_transactions", Array(&Struct(ABORTED_TRANSACTION))).nullable(),
    field("preferred_read_replica", Int32).since(11),
    field("records", Bytes).nullable(),
];

const EPOCH_END_OFFSET: &[Field] = &[field("epoch", Int32), field("end_offset", Int64)];

const SNAPSHOT_ID: &[Field] = &[field("end_offset", Int64), field("epoch", Int32)];

const ABORTED_TRANSACTION: &[Field] = &[field("producer_id", Int64), field("first_offset", Int64)];
