//! EndTxn (API 26): a transaction is committed or aborted (KIP-98); the next epoch comes back from version 5 (KIP-890).

use crate::shape::Kind::*;
use crate::shape::{Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "EndTxnRequest",
    versions: (0, 5),
    flexible_from: 3,
    fields: &[
        field("transactional_id", String),
        field("producer_id", Int64),
        field("producer_epoch", Int16),
        field("committed", Bool),
    ],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "EndTxnResponse",
    versions: (0, 5),
    flexible_from: 3,
    fields: &[
        field("throttle_time_ms", Int32),
        field("error_code", Int16),
        field("producer_id", Int64).since(5),
        field("producer_epoch", Int16).since(5),
    ],
};
