//! Recognising a request head that differs from an earlier one in its query and its length only.
//!
//! A client that publishes sends the same head over and over: same path, same credentials, another key, another
//! length. Comparing with the last one is a few dozen nanoseconds; parsing, authenticating and authorizing it again
//! is several hundred. What was decided about the earlier head holds for this one as far as it does not depend on the
//! query or the length.
//!
//! ```text
//!   POST /v1/msgs/orders/v1 ?key=a HTTP/1.1␍␊Host: …␍␊Content-Length:  1024 ␍␊Appid: …␍␊␍␊
//!   └──────── before ─────┘ └query┘└──────────── between ───────────┘ └────┘ └── after ──┘
//! ```
//!
//! Invariant: where [`HeadTemplate::find`] says yes, [`crate::parse_head`] would have given the earlier head with that
//! query and length (`tests/repeat.rs`). Anything unusual is a no, and takes the long way.

use crate::head::{BodyKind, Head};
use crate::limits::HeadLimits;

/// Digits of a `Content-Length` that are recognised; more take the long way.
const LENGTH_DIGITS_MAX: usize = 9;

/// A head seen before.
#[derive(Debug)]
pub struct HeadTemplate {
    /// Method, space, path; then `between`; then `after`.
    bytes: Box<[u8]>,
    between_at: usize,
    after_at: usize,
}

/// How a head differs from the one seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat<'b> {
    /// What stands behind the `?`, undecoded.
    pub query: Option<&'b str>,
    /// Value of `Content-Length`.
    pub body_bytes: usize,
    /// Length of the head in bytes, empty line included.
    pub head_bytes: usize,
}

impl HeadTemplate {
    /// Remembers `head`, which [`crate::parse_head`] made from the start of `buf`. `None` when its shape is not the
    /// common one: origin-form target, a `Content-Length`, no `Expect`, no empty line before it.
    #[must_use]
    pub fn of(head: &Head<'_>, buf: &[u8]) -> Option<Self> {
        let bytes = buf.get(..head.head_bytes)?;
        let BodyKind::Length(_) = head.body else { return None };
        if head.header("expect").is_some() {
            return None; // what it means depends on the length
        }
        let target_at = head.method.as_str().len() + 1;
        let path_end = target_at + head.path.len();
        if bytes.get(target_at..path_end) != Some(head.path.as_bytes()) {
            return None;
        }
        let query_end = path_end + head.query.map_or(0, |query| query.len() + 1);
        if bytes.get(query_end) != Some(&b' ') {
            return None;
        }
        let length = head.header("content-length")?;
        let length_at = (length.as_ptr() as usize).checked_sub(bytes.as_ptr() as usize)?;
        let length_end = length_at + length.len();
        let (before, between, after) =
            (bytes.get(..path_end)?, bytes.get(query_end..length_at)?, bytes.get(length_end..)?);
        Some(Self {
            bytes: [before, between, after].concat().into(),
            between_at: before.len(),
            after_at: before.len() + between.len(),
        })
    }

    /// Whether `buf` begins with the same head again. `None` says nothing: it may be another head, none, or half of
    /// one.
    #[must_use]
    pub fn find<'b>(&self, buf: &'b [u8], limits: &HeadLimits) -> Option<Repeat<'b>> {
        let rest = buf.strip_prefix(&self.bytes[..self.between_at])?;
        let (query, rest) = match rest.first()? {
            b'?' => {
                let rest = &rest[1..];
                let end = memchr::memchr(b' ', &rest[..rest.len().min(limits.uri_bytes_max)])?;
                let query = std::str::from_utf8(&rest[..end]).ok()?;
                (query.bytes().all(is_plain).then_some(Some(query))?, &rest[end..])
            }
            _ => (None, rest),
        };
        let rest = rest.strip_prefix(&self.bytes[self.between_at..self.after_at])?;
        let digits = rest.iter().take(LENGTH_DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 || digits > LENGTH_DIGITS_MAX {
            return None;
        }
        let body_bytes = rest[..digits].iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        let rest = rest[digits..].strip_prefix(&self.bytes[self.after_at..])?;
        let head_bytes = buf.len() - rest.len();
        let target_bytes = self.between_at + query.map_or(0, |query| query.len() + 1);
        if head_bytes > limits.head_bytes_max || target_bytes > limits.uri_bytes_max {
            return None;
        }
        Some(Repeat { query, body_bytes, head_bytes })
    }
}

/// Bytes of a query that every parser reads alike.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'=' | b'&' | b'+' | b'/' | b':' | b',' | b'@')
}
