//! DescribeLogDirs (API 35): how many bytes each partition takes on the broker's disks (KIP-113, KIP-827).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "DescribeLogDirsRequest",
    versions: (1, 5),
    flexible_from: 2,
    fields: &[field("topics", Array(&Struct(DESCRIBABLE_LOG_DIR_TOPIC))).nullable()],
};

const DESCRIBABLE_LOG_DIR_TOPIC: &[Field] = &[field("topic", String), field("partitions", Array(&Int32))];

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "DescribeLogDirsResponse",
    versions: (1, 5),
    flexible_from: 2,
    fields: &[
        field("throttle_time_ms", Int32),
        field("error_code", Int16).since(3),
        field("results", Array(&Struct(DESCRIBE_LOG_DIRS_RESULT))),
    ],
};

const DESCRIBE_LOG_DIRS_RESULT: &[Field] = &[
    field("error_code", Int16),
    field("log_dir", String),
    field("topics", Array(&Struct(DESCRIBE_LOG_DIRS_TOPIC))),
    field("total_bytes", Int64).since(4),
    field("usable_bytes", Int64).since(4),
    field("is_cordoned", Bool).since(5),
];

const DESCRIBE_LOG_DIRS_TOPIC: &[Field] =
    &[field("name", String), field("partitions", Array(&Struct(DESCRIBE_LOG_DIRS_PARTITION)))];

const DESCRIBE_LOG_DIRS_PARTITION: &[Field] = &[
    field("partition_index", Int32),
    field("partition_size", Int64),
    field("offset_lag", Int64),
    field("is_future_key", Bool),
];
