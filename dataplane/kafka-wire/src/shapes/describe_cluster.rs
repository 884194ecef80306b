//! DescribeCluster (API 60) (KIP-700).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "DescribeClusterRequest",
    versions: (0, 2),
    flexible_from: 0,
    fields: &[
        field("include_cluster_authorized_operations", Bool),
        field("endpoint_type", Int8).since(1),
        field("include_fenced_brokers", Bool).since(2),
    ],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "DescribeClusterResponse",
    versions: (0, 2),
    flexible_from: 0,
    fields: &[
        field("throttle_time_ms", Int32),
        field("error_code", Int16),
        field("error_message", String).nullable(),
        field("endpoint_type", Int8).since(1),
        field("cluster_id", String),
        field("controller_id", Int32),
        field("brokers", Array(&Struct(DESCRIBE_CLUSTER_BROKER))),
        field("cluster_authorized_operations", Int32),
    ],
};

const DESCRIBE_CLUSTER_BROKER: &[Field] = &[
    field("broker_id", Int32),
    field("host", String),
    field("port", Int32),
    field("rack", String).nullable(),
    field("is_fenced", Bool).since(2),
];
