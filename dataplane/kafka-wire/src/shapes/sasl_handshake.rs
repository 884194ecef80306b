//! SaslHandshake (API 17): which mechanism; never flexible.

use crate::shape::Kind::*;
use crate::shape::{NEVER_FLEXIBLE, Shape, field};

/// The request.
pub const REQUEST: Shape = Shape {
    name: "SaslHandshakeRequest",
    versions: (0, 1),
    flexible_from: NEVER_FLEXIBLE,
    fields: &[field("mechanism", String)],
};

/// The response.
pub const RESPONSE: Shape = Shape {
    name: "SaslHandshakeResponse",
    versions: (0, 1),
    flexible_from: NEVER_FLEXIBLE,
    fields: &[field("error_code", Int16), field("mechanisms", Array(&String))],
};
