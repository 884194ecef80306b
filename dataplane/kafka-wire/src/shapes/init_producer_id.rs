//! InitProducerId (API 22): an identity for idempotence (KIP-98, KIP-360), with two-phase commit from version 6
//! (KIP-939).

use crate::shape::Kind::*;
use crate::shape::{Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "InitProducerIdRequest",
    versions: (0, 6),
    flexible_from: 2,
    fields: &[
        field("transactional_id", String).nullable(),
        field("transaction_timeout_ms", Int32),
        field("producer_id", Int64).since(3),
        field("producer_epoch", Int16).since(3),
        field("enable2_pc", Bool).since(6),
        field("keep_prepared_txn", Bool).since(6),
    ],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "InitProducerIdResponse",
    versions: (0, 6),
    flexible_from: 2,
    fields: &[
        field("throttle_time_ms", Int32),
        field("error_code", Int16),
        field("producer_id", Int64),
        field("producer_epoch", Int16),
        field("ongoing_txn_producer_id", Int64).since(6),
        field("ongoing_txn_producer_epoch", Int16).since(6),
    ],
};
