//! Heartbeat (API 12): staying in a classic group.

use crate::shape::Kind::*;
use crate::shape::{Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "HeartbeatRequest",
    versions: (0, 4),
    flexible_from: 4,
    fields: &[
        field("group_id", String),
        field("generation_id", Int32),
        field("member_id", String),
        field("group_instance_id", String).since(3).nullable(),
    ],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "HeartbeatResponse",
    versions: (0, 4),
    flexible_from: 4,
    fields: &[field("throttle_time_ms", Int32).since(1), field("error_code", Int16)],
};
