//! HTTP Basic credentials (RFC 7617). Nothing here logs, and [`Basic`] does not print its password.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use crate::limits::BASIC_BYTES_MAX;

/// Standard alphabet; padding is optional because clients forget it, stray bits are not because they hide nothing good.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// User and password of an `Authorization: Basic` header.
#[derive(Clone, PartialEq, Eq)]
pub struct Basic {
    decoded: Vec<u8>,
    colon: usize,
}

impl Basic {
    /// The app id. Bytes: whether it is a valid id is for the caller to say.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        &self.decoded[..self.colon]
    }

    /// The secret. Compare it in constant time.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        &self.decoded[self.colon + 1..]
    }
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Basic").field("user", &String::from_utf8_lossy(self.user())).finish_non_exhaustive()
    }
}

/// Why an `Authorization` header names nobody. Always a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Another scheme.
    #[error("the only authentication scheme here is Basic")]
    Scheme,
    /// Not base64 of `user:password`.
    #[error("the Basic credentials are not base64 of user:password")]
    Malformed,
}

/// Decodes the value of an `Authorization` header.
///
/// # Errors
/// [`AuthError`]; never with any part of the credentials in it.
pub fn decode_basic(value: &[u8]) -> Result<Basic, AuthError> {
    let Some((scheme, rest)) = value.split_at_checked(5) else { return Err(AuthError::Scheme) };
    let [b' ', encoded @ ..] = rest else { return Err(AuthError::Scheme) };
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return Err(AuthError::Scheme);
    }
    let encoded = encoded.trim_ascii();
    if encoded.len() > BASIC_BYTES_MAX {
        return Err(AuthError::Malformed);
    }
    let decoded = BASE64.decode(encoded).map_err(|_| AuthError::Malformed)?;
    let colon = memchr::memchr(b':', &decoded).ok_or(AuthError::Malformed)?;
    Ok(Basic { decoded, colon })
}
