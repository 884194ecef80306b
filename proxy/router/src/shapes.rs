//! The shapes of the responses that carry addresses and that kafka-wire does not describe, as in the message
//! definitions of Apache Kafka 4.4.

use kafka_wire::shape::Kind::*;
use kafka_wire::shape::{Field, Shape, field};
use kafka_wire::shapes::new_leader::{LEADER, NODE_ENDPOINT, NODE_ENDPOINTS};

pub const SHARE_FETCH_RESPONSE: Shape = Shape {
    name: "ShareFetchResponse",
    versions: (0, 2),
    flexible_from: 0,
    fields: &[
        field("throttle_time_ms", Int32),
        field("error_code", Int16),
        field("error_message", String).nullable(),
        field("acquisition_lock_timeout_ms", Int32).since(1),
        field("responses", Array(&Struct(SHARE_FETCH_TOPIC))),
        field(NODE_ENDPOINTS, Array(&Struct(NODE_ENDPOINT))),
    ],
};

const SHARE_FETCH_TOPIC: &[Field] =
    &[field("topic_id", Uuid), field("partitions", Array(&Struct(SHARE_FETCH_PARTITION)))];

const SHARE_FETCH_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("error_code", Int16),
    field("error_message", String).nullable(),
    field("acknowledge_error_code", Int16),
    field("acknowledge_error_message", String).nullable(),
    field("current_leader", Struct(LEADER)),
    field("records", Bytes).nullable(),
    field("acquired_records", Array(&Struct(ACQUIRED_RECORDS))),
];

const ACQUIRED_RECORDS: &[Field] =
    &[field("first_offset", Int64), field("last_offset", Int64), field("delivery_count", Int16)];

pub const SHARE_ACKNOWLEDGE_RESPONSE: Shape = Shape {
    name: "ShareAcknowledgeResponse",
    versions: (0, 2),
    flexible_from: 0,
    fields: &[
        field("throttle_time_ms", Int32),
        field("error_code", Int16),
        field("error_message", String).nullable(),
        field("acquisition_lock_timeout_ms", Int32).since(2),
        field("responses", Array(&Struct(SHARE_ACKNOWLEDGE_TOPIC))),
        field(NODE_ENDPOINTS, Array(&Struct(NODE_ENDPOINT))),
    ],
};

const SHARE_ACKNOWLEDGE_TOPIC: &[Field] =
    &[field("topic_id", Uuid), field("partitions", Array(&Struct(SHARE_ACKNOWLEDGE_PARTITION)))];

const SHARE_ACKNOWLEDGE_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("error_code", Int16),
    field("error_message", String).nullable(),
    field("current_leader", Struct(LEADER)),
];

pub const DESCRIBE_QUORUM_RESPONSE: Shape = Shape {
    name: "DescribeQuorumResponse",
    versions: (2, 2),
    flexible_from: 0,
    fields: &[
        field("error_code", Int16),
        field("error_message", String).nullable(),
        field("topics", Array(&Struct(QUORUM_TOPIC))),
        field("nodes", Array(&Struct(QUORUM_NODE))),
    ],
};

const QUORUM_TOPIC: &[Field] = &[field("topic_name", String), field("partitions", Array(&Struct(QUORUM_PARTITION)))];

const QUORUM_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("error_code", Int16),
    field("error_message", String).nullable(),
    field("leader_id", Int32),
    field("leader_epoch", Int32),
    field("high_watermark", Int64),
    field("current_voters", Array(&Struct(REPLICA_STATE))),
    field("observers", Array(&Struct(REPLICA_STATE))),
];

const REPLICA_STATE: &[Field] = &[
    field("replica_id", Int32),
    field("replica_directory_id", Uuid),
    field("log_end_offset", Int64),
    field("last_fetch_timestamp", Int64),
    field("last_caught_up_timestamp", Int64),
];

const QUORUM_NODE: &[Field] = &[field("node_id", Int32), field("listeners", Array(&Struct(QUORUM_LISTENER)))];
const QUORUM_LISTENER: &[Field] = &[field("name", String), field("host", String), field("port", Uint16)];

pub const API_VERSIONS_RESPONSE: Shape = Shape {
    name: "ApiVersionsResponse",
    versions: (0, 5),
    flexible_from: 3,
    fields: &[
        field("error_code", Int16),
        field("api_keys", Array(&Struct(API_VERSION))),
        field("throttle_time_ms", Int32).since(1),
    ],
};

const API_VERSION: &[Field] = &[field("api_key", Int16), field("min_version", Int16), field("max_version", Int16)];

pub const API_VERSIONS_REQUEST: Shape = Shape {
    name: "ApiVersionsRequest",
    versions: (0, 5),
    flexible_from: 3,
    fields: &[
        field("client_software_name", String).since(3),
        field("client_software_version", String).since(3),
        field("cluster_id", String).since(5).nullable(),
        field("node_id", Int32).since(5),
    ],
};
