//! Request and response headers.
//!
//! ```text
//!   request v0   api key i16 | version i16 | correlation id i32
//!   request v1   ... | client id nullable string (16-bit length, in v2 too)
//!   request v2   ... | tagged fields
//!   response v0  correlation id i32
//!   response v1  correlation id i32 | tagged fields
//! ```
//! Which one applies is decided by API and version ([`ApiKey::request_header_version`]). The header of an API we do
//! not know is read as v1, which is enough to answer or to refuse it.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::api_key::ApiKey;
use crate::primitive::{Reader, put_no_tags, put_string, share};
use crate::wire_error::WireError;

/// What a request says before its body. `api_key` and `api_version` are as received, known or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    /// UTF-8 checked.
    pub client_id: Option<Bytes>,
}

impl RequestHeader {
    /// The API, if it is one of the list.
    pub fn api(&self) -> Option<ApiKey> {
        ApiKey::from_i16(self.api_key)
    }

    /// The client id as text, empty when null.
    pub fn client_id_str(&self) -> &str {
        self.client_id.as_deref().and_then(|id| std::str::from_utf8(id).ok()).unwrap_or("")
    }
}

/// Takes the header from the front of a request frame; what remains in `frame` is the body.
pub fn decode_request_header(frame: &mut Bytes) -> Result<RequestHeader, WireError> {
    let (header, size) = {
        let mut reader = Reader::new(frame);
        let api_key = reader.i16("api key")?;
        let api_version = reader.i16("api version")?;
        let correlation_id = reader.i32("correlation id")?;
        let header_version = ApiKey::from_i16(api_key).map_or(1, |api| api.request_header_version(api_version));
        let client_id = if header_version >= 1 { reader.nullable_string(false, "client id")? } else { None };
        reader.skip_tags(header_version >= 2)?;
        let client_id = client_id.map(|id| share(frame, id));
        (RequestHeader { api_key, api_version, correlation_id, client_id }, reader.offset())
    };
    frame.advance(size);
    Ok(header)
}

/// Writes a request header.
pub fn encode_request_header(out: &mut BytesMut, api: ApiKey, version: i16, correlation_id: i32, client_id: &str) {
    out.put_i16(api.key());
    out.put_i16(version);
    out.put_i32(correlation_id);
    let header_version = api.request_header_version(version);
    if header_version >= 1 {
        put_string(out, false, client_id.as_bytes());
    }
    put_no_tags(out, header_version >= 2);
}

/// Takes the header from the front of a response frame and gives its correlation id; what remains is the body.
pub fn decode_response_header(frame: &mut Bytes, api: ApiKey, version: i16) -> Result<i32, WireError> {
    let (correlation_id, size) = {
        let mut reader = Reader::new(frame);
        let correlation_id = reader.i32("correlation id")?;
        reader.skip_tags(api.response_header_version(version) >= 1)?;
        (correlation_id, reader.offset())
    };
    frame.advance(size);
    Ok(correlation_id)
}

/// The correlation id of a response frame, without consuming it: a client finds the request, and with it API and
/// version, by this.
pub fn peek_correlation_id(frame: &[u8]) -> Result<i32, WireError> {
    Reader::new(frame).i32("correlation id")
}

/// Writes a response header.
pub fn encode_response_header(out: &mut BytesMut, api: ApiKey, version: i16, correlation_id: i32) {
    out.put_i32(correlation_id);
    put_no_tags(out, api.response_header_version(version) >= 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{RequestHeader as TheirRequest, ResponseHeader as TheirResponse};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    const ROWS: &[(ApiKey, i16)] = &[
        (ApiKey::Produce, 3),
        (ApiKey::Produce, 9),
        (ApiKey::Metadata, 8),
        (ApiKey::Metadata, 9),
        (ApiKey::ApiVersions, 0),
        (ApiKey::ApiVersions, 3),
        (ApiKey::ApiVersions, 99),
        (ApiKey::SaslHandshake, 1),
    ];

    #[test]
    fn request_headers_are_kafka_protocols_both_ways() {
        for &(api, version) in ROWS {
            let mut ours = BytesMut::new();
            encode_request_header(&mut ours, api, version, 77, "gafka");
            let mut theirs = BytesMut::new();
            let header = TheirRequest::default()
                .with_request_api_key(api.key())
                .with_request_api_version(version)
                .with_correlation_id(77)
                .with_client_id(Some(StrBytes::from_static_str("gafka")));
            header.encode(&mut theirs, api.request_header_version(version)).expect("a plain header encodes");
            assert_eq!(ours, theirs, "{api} v{version}");

            theirs.extend_from_slice(b"body");
            let mut frame = theirs.freeze();
            let read = decode_request_header(&mut frame).expect("a header");
            assert_eq!((read.api(), read.api_version, read.correlation_id), (Some(api), version, 77));
            assert_eq!(read.client_id_str(), "gafka");
            assert_eq!(frame, &b"body"[..]);
        }
    }

    #[test]
    fn response_headers_are_kafka_protocols_both_ways() {
        for &(api, version) in ROWS {
            let mut ours = BytesMut::new();
            encode_response_header(&mut ours, api, version, -5);
            assert_eq!(peek_correlation_id(&ours), Ok(-5));
            let mut frame = ours.freeze();
            let read = TheirResponse::decode(&mut frame.clone(), api.response_header_version(version));
            assert_eq!(read.expect("a header").correlation_id, -5);
            assert_eq!(decode_response_header(&mut frame, api, version), Ok(-5));
            assert!(frame.is_empty());
        }
    }

    #[test]
    fn an_unknown_api_is_read_with_a_v1_header() {
        let mut frame = Bytes::from_static(b"\x7f\x00\x00\x01\x00\x00\x00\x09\x00\x02idrest");
        let read = decode_request_header(&mut frame).expect("a header");
        assert_eq!((read.api(), read.api_key, read.client_id_str()), (None, 0x7f00, "id"));
        assert_eq!(frame, &b"rest"[..]);
    }

    #[test]
    fn a_header_cut_at_any_byte_is_an_error_and_consumes_nothing() {
        let mut whole = BytesMut::new();
        encode_request_header(&mut whole, ApiKey::Metadata, 12, 1, "client");
        for size in 0..whole.len() {
            let mut cut = Bytes::copy_from_slice(&whole[..size]);
            assert!(decode_request_header(&mut cut).is_err(), "cut at {size}");
            assert_eq!(cut.len(), size);
        }
    }

    #[test]
    fn a_null_client_id_is_none_and_a_foreign_one_is_refused() {
        let mut frame = Bytes::from_static(b"\0\x03\0\x01\0\0\0\x01\xff\xff");
        assert_eq!(decode_request_header(&mut frame).expect("a header").client_id, None);
        let mut frame = Bytes::from_static(b"\0\x03\0\x01\0\0\0\x01\0\x01\xff");
        assert!(matches!(decode_request_header(&mut frame), Err(WireError::NotUtf8 { .. })));
    }
}
