//! FindCoordinator (API 10): which broker leads a group or a transaction; many keys from version 4 (KIP-699).

use crate::shape::Kind::*;
use crate::shape::{Field, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "FindCoordinatorRequest",
    versions: (0, 6),
    flexible_from: 3,
    fields: &[
        field("key", String).until(3),
        field("key_type", Int8).since(1),
        field("coordinator_keys", Array(&String)).since(4),
    ],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "FindCoordinatorResponse",
    versions: (0, 6),
    flexible_from: 3,
    fields: &[
        field("throttle_time_ms", Int32).since(1),
        field("error_code", Int16).until(3),
        field("error_message", String).since(1).until(3).nullable(),
        field("node_id", Int32).until(3),
        field("host", String).until(3),
        field("port", Int32).until(3),
        field("coordinators", Array(&Struct(COORDINATOR))).since(4),
    ],
};

const COORDINATOR: &[Field] = &[
    field("key", String).since(4),
    field("node_id", Int32).since(4),
    field("host", String).since(4),
    field("port", Int32).since(4),
    field("error_code", Int16).since(4),
    field("error_message", String).since(4).nullable(),
];
