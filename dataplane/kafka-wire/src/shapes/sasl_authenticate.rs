//! SaslAuthenticate (API 36): the mechanism's own bytes (KIP-152, KIP-368).

use crate::shape::Kind::*;
use crate::shape::{Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "SaslAuthenticateRequest",
    versions: (0, 2),
    flexible_from: 2,
    fields: &[field("auth_bytes", Bytes)],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "SaslAuthenticateResponse",
    versions: (0, 2),
    flexible_from: 2,
    fields: &[
        field("error_code", Int16),
        field("error_message", String).nullable(),
        field("auth_bytes", Bytes),
        field("session_lifetime_ms", Int64).since(1),
    ],
};
