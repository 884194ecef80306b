//! DescribeTopicPartitions (API 75): metadata of topics in pages, a cursor from one to the next (KIP-966).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "DescribeTopicPartitionsRequest",
    versions: (0, 0),
    flexible_from: 0,
    fields: &[
        field("topics", Array(&Struct(TOPIC_REQUEST))),
        field("response_partition_limit", Int32),
        field("cursor", NullableStruct(CURSOR)),
    ],
};

const TOPIC_REQUEST: &[Field] = &[field("name", String)];

const CURSOR: &[Field] = &[field("topic_name", String), field("partition_index", Int32)];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "DescribeTopicPartitionsResponse",
    versions: (0, 0),
    flexible_from: 0,
    fields: &[
        field("throttle_time_ms", Int32),
        field("topics", Array(&Struct(DESCRIBE_TOPIC_PARTITIONS_RESPONSE_TOPIC))),
        field("next_cursor", NullableStruct(CURSOR)),
    ],
};

const DESCRIBE_TOPIC_PARTITIONS_RESPONSE_TOPIC: &[Field] = &[
    field("error_code", Int16),
    field("name", String).nullable(),
    field("topic_id", Uuid),
    field("is_internal", Bool),
    field("partitions", Array(&Struct(DESCRIBE_TOPIC_PARTITIONS_RESPONSE_PARTITION))),
    field("topic_authorized_operations", Int32),
];

const DESCRIBE_TOPIC_PARTITIONS_RESPONSE_PARTITION: &[Field] = &[
    field("error_code", Int16),
    field("partition_index", Int32),
    field("leader_id", Int32),
    field("leader_epoch", Int32),
    field("replica_nodes", Array(&Int32)),
    field("isr_nodes", Array(&Int32)),
    field("eligible_leader_replicas", Array(&Int32)).nullable(),
    field("last_known_elr", Array(&Int32)).nullable(),
    field("offline_replicas", Array(&Int32)),
];
