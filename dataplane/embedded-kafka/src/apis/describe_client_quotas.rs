//! DescribeClientQuotas (KIP-546): nobody has a quota here, whoever is asked about.

use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::DescribeClientQuotasResponse;
use kafka_wire::error_code::ErrorCode;

use crate::apis::message;
use crate::apis::outcome::Outcome;

pub fn handle() -> Outcome {
    Outcome::answer(refuse(ErrorCode::NONE))
}

pub fn refuse(code: ErrorCode) -> ResponseKind {
    let entries = code.is_none().then(Vec::new);
    let response = DescribeClientQuotasResponse::default().with_error_code(code.0).with_error_message(message(code));
    ResponseKind::DescribeClientQuotas(response.with_entries(entries))
}
