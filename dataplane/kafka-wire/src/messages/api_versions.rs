//! ApiVersions (API 18), versions 0 to 4: the first thing a client asks.
//!
//! The answer must be readable by a client whose version the server does not know, so its header is always v0 and
//! an unknown version is answered in version 0 with UNSUPPORTED_VERSION (KIP-511): [`decode_response`] reads that
//! body whatever was asked. Version 5 carries a cluster identity (KIP-1242) that a proxy must check, so it is not
//! offered. Tagged fields with default values are left out: librdkafka 2.0.2 chokes on them.

use std::ops::RangeInclusive;

use bytes::{BufMut, Bytes};

use crate::api_key::ApiKey;
use crate::chain::Chain;
use crate::error_code::ErrorCode;
use crate::header::{encode_request_header, encode_response_header};
use crate::primitive::{Reader, put_count, put_no_tags, put_string, share};
use crate::wire_error::WireError;

/// Versions spoken, as a client and as a broker.
pub const VERSIONS: RangeInclusive<i16> = 0..=4;

const FLEXIBLE_FROM: i16 = 3;

/// Who is asking, from version 3 (KIP-511); empty before. UTF-8 checked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiVersionsRequest {
    pub client_software_name: Bytes,
    pub client_software_version: Bytes,
}

/// One API's range of versions, keys as on the wire: a server may know more APIs than we do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiRange {
    pub key: i16,
    pub min: i16,
    pub max: i16,
}

/// A response, received or to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ApiVersionsResponse {
    pub error: ErrorCode,
    pub apis: Vec<ApiRange>,
    /// From version 1.
    pub throttle_time_ms: i32,
}

impl ApiVersionsResponse {
    /// The answer to a version we do not speak; send it with [`encode_response_frame`] as version 0.
    pub fn unsupported() -> ApiVersionsResponse {
        let (min, max) = VERSIONS.into_inner();
        ApiVersionsResponse {
            error: ErrorCode::UNSUPPORTED_VERSION,
            apis: vec![ApiRange { key: ApiKey::ApiVersions.key(), min, max }],
            throttle_time_ms: 0,
        }
    }

    /// The server's range for an API.
    pub fn range(&self, api: ApiKey) -> Option<RangeInclusive<i16>> {
        self.apis.iter().find(|range| range.key == api.key()).map(|range| range.min..=range.max)
    }
}

/// Writes a whole request frame. The software name and version go out from version 3.
///
/// # Panics
/// When the version is not one of [`VERSIONS`].
pub fn encode_request_frame(
    version: i16,
    correlation_id: i32,
    client_id: &str,
    software_name: &str,
    software_version: &str,
) -> Bytes {
    assert!(VERSIONS.contains(&version), "ApiVersions v{version} is not spoken here");
    let mut chain = Chain::with_capacity(64 + client_id.len());
    let out = &mut chain.buffer;
    encode_request_header(out, ApiKey::ApiVersions, version, correlation_id, client_id);
    if version >= FLEXIBLE_FROM {
        put_string(out, true, software_name.as_bytes());
        put_string(out, true, software_version.as_bytes());
        put_no_tags(out, true);
    }
    chain.finish_plain()
}

/// Reads a request body; bytes after it are ignored, as Kafka does. An unknown version is [`WireError::Version`], to be answered
/// with [`ApiVersionsResponse::unsupported`].
pub fn decode_request(version: i16, body: Bytes) -> Result<ApiVersionsRequest, WireError> {
    check_version(version)?;
    let mut request = ApiVersionsRequest::default();
    let mut reader = Reader::new(&body);
    if version >= FLEXIBLE_FROM {
        request.client_software_name = share(&body, reader.string(true, "client software name")?);
        request.client_software_version = share(&body, reader.string(true, "client software version")?);
        reader.skip_tags(true)?;
    }
    Ok(request)
}

/// Writes a whole response frame.
///
/// # Panics
/// When the version is not one of [`VERSIONS`].
pub fn encode_response_frame(version: i16, correlation_id: i32, response: &ApiVersionsResponse) -> Bytes {
    assert!(VERSIONS.contains(&version), "ApiVersions v{version} is not spoken here");
    let flexible = version >= FLEXIBLE_FROM;
    let mut chain = Chain::with_capacity(32 + 7 * response.apis.len());
    let out = &mut chain.buffer;
    encode_response_header(out, ApiKey::ApiVersions, version, correlation_id);
    out.put_i16(response.error.0);
    put_count(out, flexible, response.apis.len());
    for api in &response.apis {
        out.put_i16(api.key);
        out.put_i16(api.min);
        out.put_i16(api.max);
        put_no_tags(out, flexible);
    }
    if version >= 1 {
        out.put_i32(response.throttle_time_ms);
    }
    put_no_tags(out, flexible);
    chain.finish_plain()
}

/// Reads a response body. UNSUPPORTED_VERSION means the body is that of version 0, whatever was asked. Bytes after
/// it are ignored, as every client does.
pub fn decode_response(version: i16, body: Bytes) -> Result<ApiVersionsResponse, WireError> {
    check_version(version)?;
    let mut reader = Reader::new(&body);
    let error = ErrorCode(reader.i16("error code")?);
    let version = if error == ErrorCode::UNSUPPORTED_VERSION { 0 } else { version };
    let flexible = version >= FLEXIBLE_FROM;
    let count = reader.count(flexible, 6, "api keys")?;
    let mut apis = Vec::with_capacity(count);
    for _ in 0..count {
        let (key, min, max) = (reader.i16("api key")?, reader.i16("min version")?, reader.i16("max version")?);
        reader.skip_tags(flexible)?;
        apis.push(ApiRange { key, min, max });
    }
    let throttle_time_ms = if version >= 1 { reader.i32("throttle time")? } else { 0 };
    reader.skip_tags(flexible)?;
    Ok(ApiVersionsResponse { error, apis, throttle_time_ms })
}

fn check_version(version: i16) -> Result<(), WireError> {
    if !VERSIONS.contains(&version) {
        let (min, max) = VERSIONS.into_inner();
        return Err(WireError::Version { api: ApiKey::ApiVersions, version, min, max });
    }
    Ok(())
}
