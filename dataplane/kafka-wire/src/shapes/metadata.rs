//! Metadata (API 3): brokers, topics, leaders (KIP-516 ids from version 10).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "MetadataRequest",
    versions: (0, 13),
    flexible_from: 9,
    fields: &[
        field("topics", Array(&Struct(METADATA_REQUEST_TOPIC))).nullable(),
        field("allow_auto_topic_creation", Bool).since(4),
        field("include_cluster_authorized_operations", Bool).since(8).until(10),
        field("include_topic_authorized_operations", Bool).since(8),
    ],
};

const METADATA_REQUEST_TOPIC: &[Field] = &[field("topic_id", Uuid).since(10), field("name", String).nullable()];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "MetadataResponse",
    versions: (0, 13),
    flexible_from: 9,
    fields: &[
        field("throttle_time_ms", Int32).since(3),
        field("brokers", Array(&Struct(METADATA_RESPONSE_BROKER))),
        field("cluster_id", String).since(2).nullable(),
        field("controller_id", Int32).since(1),
        field("topics", Array(&Struct(METADATA_RESPONSE_TOPIC))),
        field("cluster_authorized_operations", Int32).since(8).until(10),
        field("error_code", Int16).since(13),
    ],
};

const METADATA_RESPONSE_TOPIC: &[Field] = &[
    field("error_code", Int16),
    field("name", String).nullable(),
    field("topic_id", Uuid).since(10),
    field("is_internal", Bool).since(1),
    field("partitions", Array(&Struct(METADATA_RESPONSE_PARTITION))),
    field("topic_authorized_operations", Int32).since(8),
];

const METADATA_RESPONSE_PARTITION: &[Field] = &[
    field("error_code", Int16),
    field("partition_index", Int32),
    field("leader_id", Int32),
    field("leader_epoch", Int32).since(7),
    field("replica_nodes", Array(&Int32)),
    field("isr_nodes", Array(&Int32)),
    field("offline_replicas", Array(&Int32)).since(5),
];

const METADATA_RESPONSE_BROKER: &[Field] =
    &[field("node_id", Int32), field("host", String), field("port", Int32), field("rack", String).since(1).nullable()];
