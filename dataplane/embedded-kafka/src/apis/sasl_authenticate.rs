//! SaslAuthenticate: never follows a successful handshake here, so it is always out of place.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::SaslAuthenticateResponse;
use kafka_wire::error_code::ErrorCode;

use crate::apis::message;
use crate::apis::outcome::Outcome;

pub fn handle() -> Outcome {
    Outcome::answer(refuse(ErrorCode::ILLEGAL_SASL_STATE))
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    let response = SaslAuthenticateResponse::default().with_error_code(code.0).with_error_message(message(code));
    ResponseKind::SaslAuthenticate(response)
}
