//! ApiVersions (KIP-35, KIP-511): what this broker speaks.
//!
//! Produce is announced from version 0 although 0 to 2 are refused: librdkafka otherwise stops compressing without a
//! word (KAFKA-18659). A version we do not know is answered in version 0 with error 35, as Kafka does.

use std::rc::Rc;

use bytes::Bytes;
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::api_versions::{
    ApiRange, ApiVersionsResponse, VERSIONS, decode_request, encode_response_frame,
};

use crate::apis::{OFFERED, advertised};
use crate::slot::{Answer, Slot};

pub fn handle(slot: &Rc<Slot>, body: Bytes) {
    if !VERSIONS.contains(&slot.version) {
        let frame = encode_response_frame(0, slot.correlation_id, &ApiVersionsResponse::unsupported());
        return slot.answer(Answer::Frame(vec![frame]));
    }
    let error = match decode_request(slot.version, body) {
        Ok(_) => ErrorCode::NONE,
        Err(_) => ErrorCode::INVALID_REQUEST,
    };
    answer(slot, error);
}

pub fn refuse(slot: &Rc<Slot>, code: ErrorCode) {
    if VERSIONS.contains(&slot.version) && code != ErrorCode::UNSUPPORTED_VERSION {
        return answer(slot, code);
    }
    let response = ApiVersionsResponse { error: code, ..ApiVersionsResponse::unsupported() };
    slot.answer(Answer::Frame(vec![encode_response_frame(0, slot.correlation_id, &response)]));
}

fn answer(slot: &Rc<Slot>, error: ErrorCode) {
    let apis = match error.is_none() {
        true => ranges(),
        false => Vec::new(),
    };
    let response = ApiVersionsResponse { error, apis, throttle_time_ms: 0 };
    slot.answer(Answer::Frame(vec![encode_response_frame(slot.version, slot.correlation_id, &response)]));
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
