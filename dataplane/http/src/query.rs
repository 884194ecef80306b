//! Query strings and path segments, decoded strictly.
//!
//! A query is `application/x-www-form-urlencoded`: `+` is a space. A path is split at `/` first and decoded segment
//! by segment, so `%2F` can never move a request to another route; in a segment it is an error.

use std::borrow::Cow;

/// Why a query or a path could not be decoded. Always a 400; the connection stays usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// `%` without two hexadecimal digits.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    Percent,
    /// The decoded bytes are not UTF-8 where text is needed.
    #[error("percent-encoded text is not UTF-8")]
    NotUtf8,
    /// A decoded path segment holds `/` or a control character, or is `.` or `..`.
    #[error("a path segment holds an encoded slash or control character, or is a dot segment")]
    Segment,
}

impl DecodeError {
    /// Stable code for the error body.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Percent => "malformed_percent_encoding",
            Self::NotUtf8 => "not_utf8",
            Self::Segment => "malformed_path",
        }
    }
}

/// One decoded pair: the name is text, the value is any bytes (a record key may be); [`text`] makes it text.
pub type Pair<'q> = (Cow<'q, str>, Cow<'q, [u8]>);

/// The pairs of a query in order. Empty pairs (`a=1&&b=2`) are skipped, a name alone has an empty value.
#[must_use]
pub fn pairs(query: &str) -> Pairs<'_> {
    Pairs { rest: Some(query) }
}

/// Iterator of [`pairs`].
#[derive(Debug, Clone)]
pub struct Pairs<'q> {
    rest: Option<&'q str>,
}

impl<'q> Iterator for Pairs<'q> {
    type Item = Result<Pair<'q>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.rest?;
            let pair = match rest.split_once('&') {
                Some((pair, tail)) => {
                    self.rest = Some(tail);
                    pair
                }
                None => {
                    self.rest = None;
                    rest
                }
            };
            if !pair.is_empty() {
                return Some(decode_pair(pair));
            }
        }
    }
}

fn decode_pair(pair: &str) -> Result<Pair<'_>, DecodeError> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok((text(form_decode(name)?)?, form_decode(value)?))
}

/// Form decoding: `+` is a space, `%XX` a byte.
///
/// # Errors
/// [`DecodeError::Percent`].
pub fn form_decode(encoded: &str) -> Result<Cow<'_, [u8]>, DecodeError> {
    let bytes = encoded.as_bytes();
    let Some(first) = memchr::memchr2(b'+', b'%', bytes) else { return Ok(Cow::Borrowed(bytes)) };
    let mut decoded = Vec::with_capacity(bytes.len());
    decoded.extend_from_slice(&bytes[..first]);
    let mut rest = &bytes[first..];
    while let [byte, tail @ ..] = rest {
        rest = match byte {
            b'+' => {
                decoded.push(b' ');
                tail
            }
            b'%' => {
                let (byte, tail) = unescape(tail).ok_or(DecodeError::Percent)?;
                decoded.push(byte);
                tail
            }
            byte => {
                decoded.push(*byte);
                tail
            }
        };
    }
    Ok(Cow::Owned(decoded))
}

/// Strict percent decoding without form rules: `+` is a plus.
///
/// # Errors
/// [`DecodeError::Percent`].
pub fn percent_decode(encoded: &str) -> Result<Cow<'_, [u8]>, DecodeError> {
    percent_decode_bytes(encoded.as_bytes())
}

/// As [`percent_decode`], for bytes.
///
/// # Errors
/// [`DecodeError::Percent`].
pub fn percent_decode_bytes(encoded: &[u8]) -> Result<Cow<'_, [u8]>, DecodeError> {
    let Some(first) = memchr::memchr(b'%', encoded) else { return Ok(Cow::Borrowed(encoded)) };
    let mut decoded = Vec::with_capacity(encoded.len());
    decoded.extend_from_slice(&encoded[..first]);
    let mut rest = &encoded[first..];
    while let [byte, tail @ ..] = rest {
        let (byte, tail) = if *byte == b'%' { unescape(tail).ok_or(DecodeError::Percent)? } else { (*byte, tail) };
        decoded.push(byte);
        rest = tail;
    }
    Ok(Cow::Owned(decoded))
}

/// The byte behind a percent sign, and what follows it.
fn unescape(tail: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = tail else { return None };
    let high = (*high as char).to_digit(16)?;
    let low = (*low as char).to_digit(16)?;
    Some((u8::try_from(high << 4 | low).ok()?, rest))
}

/// Decoded bytes as text.
///
/// # Errors
/// [`DecodeError::NotUtf8`].
pub fn text(bytes: Cow<'_, [u8]>) -> Result<Cow<'_, str>, DecodeError> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|_| DecodeError::NotUtf8),
        Cow::Owned(bytes) => String::from_utf8(bytes).map(Cow::Owned).map_err(|_| DecodeError::NotUtf8),
    }
}

/// The decoded segments of an absolute path: `/v1/msgs/a%20b` gives `v1`, `msgs`, `a b`. `/` gives one empty segment,
/// a trailing slash a last empty one.
///
/// Each is checked by [`segment`].
pub fn segments(path: &str) -> impl Iterator<Item = Result<Cow<'_, str>, DecodeError>> {
    path.strip_prefix('/').unwrap_or(path).split('/').map(segment)
}

/// One path segment, decoded: text without `/` and control characters, not `.` or `..`.
///
/// # Errors
/// Any [`DecodeError`].
pub fn segment(encoded: &str) -> Result<Cow<'_, str>, DecodeError> {
    let decoded = text(percent_decode(encoded)?)?;
    let forbidden = |byte: u8| byte == b'/' || byte.is_ascii_control();
    if decoded.bytes().any(forbidden) || decoded == "." || decoded == ".." {
        return Err(DecodeError::Segment);
    }
    Ok(decoded)
}
