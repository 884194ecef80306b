//! The percent codec of record headers in `X-Header-NAME` (CONTRACT: Publish, Subscribe).
//!
//! On the wire `%`, the comma and everything but visible ASCII (0x21 to 0x7e) are percent-encoded. The comma is
//! encoded because intermediaries may join repeated fields with it (RFC 9110 section 5.3): a comma in a received value
//! therefore separates two values of the same header, and [`values`] splits there.

use std::borrow::Cow;

use bytes::BytesMut;

use crate::query::{DecodeError, percent_decode_bytes, text};

/// Why a header value is refused. Always a 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PctError {
    /// A byte that had to be encoded stands there as itself.
    #[error("a byte that must be percent-encoded (comma, space, control character, non-ASCII) is not")]
    Unencoded,
    /// `%` without two hexadecimal digits.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    Percent,
    /// The decoded bytes are not UTF-8.
    #[error("the decoded value is not UTF-8")]
    NotUtf8,
}

impl From<DecodeError> for PctError {
    fn from(err: DecodeError) -> Self {
        match err {
            DecodeError::NotUtf8 => Self::NotUtf8,
            DecodeError::Percent | DecodeError::Segment => Self::Percent,
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Whether a byte travels as itself.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7e) && byte != b'%' && byte != b','
}

/// Appends `value` in its encoded form. Any bytes, UTF-8 or not.
pub fn encode(out: &mut BytesMut, value: &[u8]) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|byte| !is_plain(*byte)) {
        out.extend_from_slice(&rest[..at]);
        let byte = rest[at];
        out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Decodes one value. Strict: what [`encode`] would not write is an error (except lower-case hex and needless escapes).
///
/// # Errors
/// [`PctError::Unencoded`] or [`PctError::Percent`].
pub fn decode(encoded: &[u8]) -> Result<Cow<'_, [u8]>, PctError> {
    if encoded.iter().any(|byte| !is_plain(*byte) && *byte != b'%') {
        return Err(PctError::Unencoded);
    }
    Ok(percent_decode_bytes(encoded)?)
}

/// Decodes one value that must be text.
///
/// # Errors
/// Any [`PctError`].
pub fn decode_text(encoded: &[u8]) -> Result<Cow<'_, str>, PctError> {
    Ok(text(decode(encoded)?)?)
}

/// The values in one received field: one, or several that an intermediary joined with commas. Each is text.
pub fn values(field: &[u8]) -> impl Iterator<Item = Result<Cow<'_, str>, PctError>> {
    field.split(|byte| *byte == b',').map(|value| decode_text(value.trim_ascii()))
}

/// Whether all bytes are visible ASCII: then a key may travel as itself in `X-Key`.
#[must_use]
pub fn is_visible_ascii(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, 0x21..=0x7e))
}
