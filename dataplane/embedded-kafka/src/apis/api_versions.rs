//! ApiVersions (KIP-35, KIP-511): what this broker speaks.
//!
//! Produce is announced from version 0 although 0 to 2 are refused: librdkafka otherwise stops compressing without a
//! word (KAFKA-18659). A version we do not know is answered in version 0 with error 35, as Kafka does.

use bytes::Bytes;
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::api_versions::{ApiRange, ApiVersionsResponse, VERSIONS, decode_request};

use crate::apis::outcome::{Outcome, Response};
use crate::apis::{OFFERED, advertised};

pub fn handle(version: i16, body: Bytes) -> Outcome {
    if !VERSIONS.contains(&version) {
        return Outcome::answer(unsupported(ErrorCode::UNSUPPORTED_VERSION));
    }
    let error = match decode_request(version, body) {
        Ok(_) => ErrorCode::NONE,
        Err(_) => ErrorCode::INVALID_REQUEST,
    };
    Outcome::Answer(response(version, error))
}

pub fn refuse(version: i16, code: ErrorCode) -> Outcome {
    Outcome::Answer(match VERSIONS.contains(&version) && code != ErrorCode::UNSUPPORTED_VERSION {
        true => response(version, code),
        false => unsupported(code),
    })
}

fn unsupported(error: ErrorCode) -> Response {
    Response::ApiVersions(Box::new((0, ApiVersionsResponse { error, ..ApiVersionsResponse::unsupported() })))
}

fn response(version: i16, error: ErrorCode) -> Response {
    let apis = match error.is_none() {
        true => ranges(),
        false => Vec::new(),
    };
    Response::ApiVersions(Box::new((version, ApiVersionsResponse { error, apis, throttle_time_ms: 0 })))
}

fn ranges() -> Vec<ApiRange> {
    OFFERED
        .iter()
        .filter_map(|api| {
            let versions = advertised(*api)?;
            let min = if *api == ApiKey::Produce { 0 } else { *versions.start() };
            Some(ApiRange { key: api.key(), min, max: *versions.end() })
        })
        .collect()
}
