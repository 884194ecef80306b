//! AddOffsetsToTxn (API 25): a group whose offsets a transaction will commit (KIP-98).

use crate::shape::Kind::*;
use crate::shape::{Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "AddOffsetsToTxnRequest",
    versions: (0, 4),
    flexible_from: 3,
    fields: &[
        field("transactional_id", String),
        field("producer_id", Int64),
        field("producer_epoch", Int16),
        field("group_id", String),
    ],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "AddOffsetsToTxnResponse",
    versions: (0, 4),
    flexible_from: 3,
    fields: &[field("throttle_time_ms", Int32), field("error_code", Int16)],
};
