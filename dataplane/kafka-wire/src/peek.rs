//! What a proxy reads of a request whose end has not arrived: enough to route it and to know what will answer it.
//!
//! Everything here takes the bytes behind a frame's length, as many as are there. [`WireError::Truncated`] means "not
//! yet" while the frame is not whole, and "never" once it is.

use crate::api_key::ApiKey;
use crate::primitive::Reader;
use crate::wire_error::WireError;

/// The fixed start of a request header, the same in all its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestStart {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
}

/// Bytes of a [`RequestStart`].
pub const REQUEST_START_BYTES: usize = 8;

/// Reads key, version and correlation id.
pub fn request_start(bytes: &[u8]) -> Result<RequestStart, WireError> {
    let mut reader = Reader::new(bytes);
    Ok(RequestStart {
        api_key: reader.i16("api key")?,
        api_version: reader.i16("api version")?,
        correlation_id: reader.i32("correlation id")?,
    })
}

/// Reads the client id of a request with a header of version 1 or 2; None when null.
pub fn client_id(bytes: &[u8]) -> Result<Option<&[u8]>, WireError> {
    let mut reader = Reader::new(bytes);
    reader.take(REQUEST_START_BYTES, "request header")?;
    reader.nullable_string(false, "client id")
}

/// Reads `acks` of a Produce request of any version: 0 says that no response will come.
pub fn produce_acks(bytes: &[u8]) -> Result<i16, WireError> {
    let start = request_start(bytes)?;
    let flexible = ApiKey::Produce.request_header_version(start.api_version) >= 2;
    let mut reader = Reader::new(bytes);
    reader.take(REQUEST_START_BYTES, "request header")?;
    reader.nullable_string(false, "client id")?;
    reader.skip_tags(flexible)?;
    if start.api_version >= TRANSACTIONAL_ID_FROM {
        reader.nullable_string(flexible, "transactional id")?;
    }
    reader.i16("acks")
}

/// Produce names its transaction from here (KIP-98).
const TRANSACTIONAL_ID_FROM: i16 = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::encode_request_header;
    use bytes::{BufMut, BytesMut};

    fn produce(version: i16, transactional_id: Option<&str>, acks: i16) -> BytesMut {
        let mut bytes = BytesMut::new();
        encode_request_header(&mut bytes, ApiKey::Produce, version, 9, "client");
        if version >= 3 {
            crate::primitive::put_nullable_string(&mut bytes, version >= 9, transactional_id.map(str::as_bytes));
        }
        bytes.put_i16(acks);
        bytes
    }

    #[test]
    fn acks_stands_behind_a_name_that_changed_its_coding_twice() {
        for version in 0..=13 {
            for transactional_id in [None, Some(""), Some("payments-1")] {
                for acks in [-1, 0, 1] {
                    let bytes = produce(version, transactional_id, acks);
                    assert_eq!(produce_acks(&bytes), Ok(acks), "v{version} {transactional_id:?}");
                    for size in 0..bytes.len() {
                        let cut = produce_acks(&bytes[..size]);
                        assert!(matches!(cut, Err(WireError::Truncated { .. })), "v{version} cut at {size}: {cut:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_start_and_the_client_id_are_read_without_the_rest() {
        let bytes = produce(9, None, 1);
        let start = RequestStart { api_key: 0, api_version: 9, correlation_id: 9 };
        assert_eq!(request_start(&bytes), Ok(start));
        assert_eq!(client_id(&bytes), Ok(Some(&b"client"[..])));
    }
}
