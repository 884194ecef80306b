//! SaslHandshake: this broker authenticates nobody and offers no mechanism; it listens on loopback by default.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::{SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_wire::error_code::ErrorCode;
use tracing::warn;

use crate::apis::outcome::Outcome;

pub fn handle(request: &SaslHandshakeRequest) -> Outcome {
    warn!(mechanism = %request.mechanism, "a client wants to authenticate, this broker has no users");
    Outcome::answer(refuse(ErrorCode::UNSUPPORTED_SASL_MECHANISM))
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    ResponseKind::SaslHandshake(SaslHandshakeResponse::default().with_error_code(code.0))
}
