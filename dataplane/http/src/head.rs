//! The request head: request line, headers, and how the body is delimited.
//!
//! httparse does the byte work; everything it tolerates and another parser on the way might read differently is
//! refused above it. [`parse_head`] keeps no state between calls: a connection calls it again when bytes arrived, so
//! a client that drips a 16 KiB head byte by byte costs less in parsing than in its own system calls.
//!
//! Invariants:
//! - The answer depends on the bytes alone, not on how they were cut: every prefix of a head gives `Ok(None)` or the
//!   very answer of the whole (`tests/head_properties.rs`).
//! - A returned head ends with CRLF CRLF at `head_bytes`, has no line feed without its carriage return, and at most
//!   one length.

use std::mem::MaybeUninit;

use crate::error::HeadError;
use crate::limits::{HEADERS_MAX, HeadLimits};

/// A method this gateway knows. Others are answered with 501 by the parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `TRACE`
    Trace,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 section 9.1).
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        Some(match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "PATCH" => Self::Patch,
            "TRACE" => Self::Trace,
            _ => return None,
        })
    }

    /// As it stands in the request line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Patch => "PATCH",
            Self::Trace => "TRACE",
        }
    }
}

/// How the body behind a head is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// No body: neither header is present.
    None,
    /// Exactly so many bytes; may be 0.
    Length(u64),
    /// Chunked transfer coding, for [`crate::ChunkedDecoder`].
    Chunked,
}

/// Headers that endpoints ask for on most requests, found in the one pass over the head.
///
/// Values are raw, without surrounding white space. One that must not be repeated (credentials, positions, types) is
/// a 400 when it is; `accept`, `x_tag` and `x_request_id` hold the first of several ([`Head::values`] has all).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Known<'b> {
    /// `Host`
    pub host: Option<&'b [u8]>,
    /// `Content-Type`
    pub content_type: Option<&'b [u8]>,
    /// `Content-Encoding`
    pub content_encoding: Option<&'b [u8]>,
    /// `Accept`, the first
    pub accept: Option<&'b [u8]>,
    /// `Authorization`
    pub authorization: Option<&'b [u8]>,
    /// `Appid`
    pub appid: Option<&'b [u8]>,
    /// `Pubkey`
    pub pubkey: Option<&'b [u8]>,
    /// `Subkey`
    pub subkey: Option<&'b [u8]>,
    /// `X-Tag`, the first
    pub x_tag: Option<&'b [u8]>,
    /// `X-Request-Id`, the first
    pub x_request_id: Option<&'b [u8]>,
    /// `traceparent`; empty when sent twice, which is no trace context (W3C Trace Context section 3.2)
    pub traceparent: Option<&'b [u8]>,
    /// `Origin`
    pub origin: Option<&'b [u8]>,
    /// `X-Partition`
    pub x_partition: Option<&'b [u8]>,
    /// `X-Offset`
    pub x_offset: Option<&'b [u8]>,
    /// `Upgrade`, the first
    pub upgrade: Option<&'b [u8]>,
    /// How many `X-Header-NAME` fields there are; [`Head::x_headers`] walks them.
    pub x_header_count: u16,
    /// How many `X-Tag` fields there are.
    pub x_tag_count: u16,
}

/// A complete, acceptable request head. Borrows the receive buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head<'b> {
    /// The method.
    pub method: Method,
    /// Absolute path as sent, undecoded, beginning with `/`; `*` for `OPTIONS *`. Visible ASCII only.
    /// Of an absolute-form target only the path is kept, its authority is ignored like `Host`.
    pub path: &'b str,
    /// What stands behind the first `?`, undecoded.
    pub query: Option<&'b str>,
    /// 0 or 1: HTTP/1.0 or HTTP/1.1. A later 1.x counts as 1.1.
    pub minor_version: u8,
    /// How the body is delimited.
    pub body: BodyKind,
    /// Whether the client wants the connection kept after the answer.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body. Never without a body, never in 1.0.
    pub expect_continue: bool,
    /// Length of the head in bytes, empty line included; the body begins there.
    pub head_bytes: usize,
    /// The headers most endpoints look at.
    pub known: Known<'b>,
    /// Header lines, each with its CRLF, without the empty line.
    block: &'b [u8],
}

impl<'b> Head<'b> {
    /// The first field of that name, any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'b [u8]> {
        self.values(name).next()
    }

    /// All fields of that name, any case, in order.
    pub fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
        self.headers().filter(move |(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields in order: name as sent, value without surrounding white space.
    #[must_use]
    pub fn headers(&self) -> Headers<'b> {
        Headers { rest: self.block }
    }

    /// `X-Header-NAME` fields in order: `NAME` as sent (any case, an HTTP token), the value still percent-encoded.
    pub fn x_headers(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        let block = if self.known.x_header_count == 0 { &[][..] } else { self.block };
        Headers { rest: block }.filter_map(|(name, value)| Some((strip_x_header(name)?, value)))
    }
}

const X_HEADER_PREFIX: &str = "x-header-";

/// `NAME` of `X-Header-NAME`; `None` for every other header.
fn strip_x_header(name: &str) -> Option<&str> {
    let (prefix, rest) = name.split_at_checked(X_HEADER_PREFIX.len())?;
    (prefix.eq_ignore_ascii_case(X_HEADER_PREFIX) && !rest.is_empty()).then_some(rest)
}

/// Iterator over the header lines of a checked head.
#[derive(Debug, Clone)]
pub struct Headers<'b> {
    rest: &'b [u8],
}

impl<'b> Iterator for Headers<'b> {
    type Item = (&'b str, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let line_end = memchr::memchr(b'\n', self.rest)?;
        let line = &self.rest[..line_end];
        self.rest = &self.rest[line_end + 1..];
        let colon = memchr::memchr(b':', line)?;
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        Some((name, trim_ows(&line[colon + 1..])))
    }
}

/// Optional white space of RFC 9110 section 5.6.3, and the carriage return of the line end.
fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t' | b'\r'] = value {
        value = rest;
    }
    value
}

/// Parses the request head at the start of `buf`.
///
/// `Ok(None)`: more bytes are needed. Never looks at more than `limits.head_bytes_max` bytes; what stands behind the
/// head (its body, the next pipelined request) is not touched.
///
/// # Errors
/// The answer to give and close with; see [`HeadError`].
pub fn parse_head<'b>(buf: &'b [u8], limits: &HeadLimits) -> Result<Option<Head<'b>>, HeadError> {
    let window = &buf[..buf.len().min(limits.head_bytes_max)];
    let mut table = [const { MaybeUninit::<httparse::Header<'b>>::uninit() }; HEADERS_MAX];
    let table = &mut table[..limits.headers_max.min(HEADERS_MAX)];
    let mut request = httparse::Request::new(&mut []);
    let status = httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, window, table);
    match status {
        Ok(httparse::Status::Complete(head_bytes)) => {
            let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version)
            else {
                return Err(HeadError::bad("malformed_head", "the request head is not HTTP/1.1"));
            };
            let line = RequestLine { method, target, minor_version };
            check_head(&line, request.headers, &window[..head_bytes], limits).map(Some)
        }
        Ok(httparse::Status::Partial) => incomplete(buf, limits),
        Err(httparse::Error::Version) => later_minor(buf, limits),
        Err(err) => Err(explain(window, err, limits)),
    }
}

/// The request line, its three parts.
struct RequestLine<'b> {
    method: &'b str,
    target: &'b str,
    minor_version: u8,
}

/// HTTP/1.2 to HTTP/1.9 is served as 1.1, the highest we speak (RFC 9110 section 6.2); httparse knows no such version.
#[cold]
fn later_minor<'b>(buf: &'b [u8], limits: &HeadLimits) -> Result<Option<Head<'b>>, HeadError> {
    let window = &buf[..buf.len().min(limits.head_bytes_max)];
    if let Some(mistake) = diagnose::first_mistake(window, limits) {
        return Err(mistake);
    }
    // What has no mistake begins with empty lines, then the request line: method, target and version.
    let text_at = window.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(window.len());
    let Some(line_bytes) = memchr::memchr(b'\n', &window[text_at..]) else { return incomplete(buf, limits) };
    let lines_at = text_at + line_bytes + 1;
    let line = std::str::from_utf8(&window[text_at..lines_at]).unwrap_or_default();
    let mut parts = line.split(' ');
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else {
        return Err(HeadError::bad("malformed_head", "the request head is not HTTP/1.1"));
    };
    let mut table = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let table = &mut table[..limits.headers_max.min(HEADERS_MAX)];
    match httparse::parse_headers(&window[lines_at..], table) {
        Ok(httparse::Status::Complete((headers_bytes, headers))) => {
            let line = RequestLine { method, target, minor_version: 1 };
            check_head(&line, headers, &window[..lines_at + headers_bytes], limits).map(Some)
        }
        Ok(httparse::Status::Partial) => incomplete(buf, limits),
        Err(err) => Err(explain(window, err, limits)),
    }
}

/// Everything httparse tolerates and we do not, of a head that is whole.
fn check_head<'b>(
    line: &RequestLine<'b>,
    headers: &[httparse::Header<'b>],
    head: &'b [u8],
    limits: &HeadLimits,
) -> Result<Head<'b>, HeadError> {
    let RequestLine { method, target, minor_version } = *line;
    if target.len() > limits.uri_bytes_max {
        return Err(uri_too_long(limits));
    }
    let block = header_block(head)?;
    check_target_bytes(target)?;
    let Some(method) = Method::from_token(method) else {
        return Err(HeadError::new(501, "method_not_implemented", "this server does not know the request method"));
    };
    let (path, query) = split_target(method, target)?;
    let fields = fields(headers)?;
    let body = fields.body(method, minor_version)?;
    fields.check_host(minor_version)?;
    Ok(Head {
        method,
        path,
        query,
        minor_version,
        body,
        keep_alive: fields.keep_alive(minor_version),
        expect_continue: fields.expect_continue(minor_version, body)?,
        head_bytes: head.len(),
        known: fields.known,
        block,
    })
}

/// No complete head yet: wait, unless what is there is already more than a head may be.
fn incomplete<'b>(buf: &[u8], limits: &HeadLimits) -> Result<Option<Head<'b>>, HeadError> {
    if buf.len() > limits.uri_bytes_max
        && let Some(error @ HeadError { status: 414, .. }) = diagnose::first_mistake(buf, limits)
    {
        return Err(error);
    }
    if buf.len() >= limits.head_bytes_max {
        return Err(head_too_long(limits));
    }
    Ok(None)
}

/// The header lines of a complete head, once no line feed in it stands alone.
///
/// httparse ends lines at a bare line feed; a proxy in front that does not would see other headers than we do.
fn header_block(head: &[u8]) -> Result<&[u8], HeadError> {
    // Without a branch per byte, so that the compiler compares 16 or more bytes at once.
    let pairs = head.iter().zip(head.get(1..).unwrap_or_default());
    let bare = pairs.fold(false, |bare, (before, byte)| bare | ((*byte == b'\n') & (*before != b'\r')));
    if bare || head.first() == Some(&b'\n') {
        return Err(bare_line_feed());
    }
    // Empty lines before the request line are allowed (RFC 9112 section 2.2).
    let mut lines = head;
    while let [b'\r', b'\n', rest @ ..] = lines {
        lines = rest;
    }
    let from = memchr::memchr(b'\n', lines).map_or(lines.len(), |at| at + 1);
    let to = lines.len().saturating_sub(2);
    Ok(lines.get(from..to).unwrap_or_default())
}

/// A request target is visible ASCII without `#` (RFC 3986; httparse lets obs-text through).
fn check_target_bytes(target: &str) -> Result<(), HeadError> {
    if !target.is_ascii() {
        return Err(target_not_ascii());
    }
    if memchr::memchr(b'#', target.as_bytes()).is_some() {
        return Err(HeadError::bad("malformed_target", "a fragment (#) does not belong into a request target"));
    }
    Ok(())
}

/// Path and query of a request target in one of the forms of RFC 9112 section 3.2.
fn split_target(method: Method, target: &str) -> Result<(&str, Option<&str>), HeadError> {
    let origin_form = if target.starts_with('/') {
        target
    } else if target == "*" {
        if method != Method::Options {
            return Err(HeadError::bad("malformed_target", "the target * is for OPTIONS only"));
        }
        return Ok((target, None));
    } else {
        strip_authority(target)?
    };
    match memchr::memchr(b'?', origin_form.as_bytes()) {
        // `http://host?query` has an empty path, which means `/` (RFC 9110 section 4.2.3).
        Some(0) => Ok(("/", Some(&origin_form[1..]))),
        Some(at) => Ok((&origin_form[..at], Some(&origin_form[at + 1..]))),
        None if origin_form.is_empty() => Ok(("/", None)),
        None => Ok((origin_form, None)),
    }
}

/// Absolute-form: what stands behind the authority, possibly empty. Accepted as RFC 9112 section 3.2.2 demands; the
/// authority chooses nothing here, so it is checked for shape and ignored.
fn strip_authority(target: &str) -> Result<&str, HeadError> {
    let bytes = target.as_bytes();
    let scheme_bytes = ["http://", "https://"].iter().find_map(|scheme| {
        let start = bytes.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(scheme.len())
    });
    let Some(scheme_bytes) = scheme_bytes else {
        return Err(HeadError::bad(
            "malformed_target",
            "the request target is neither an absolute path nor an http URL",
        ));
    };
    let rest = &target[scheme_bytes..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = &rest.as_bytes()[..end];
    if authority.is_empty() || !is_host(authority) {
        return Err(HeadError::bad("malformed_target", "the authority of the request target is malformed"));
    }
    Ok(&rest[end..])
}

/// What the one pass over the header fields found.
#[derive(Default)]
struct Fields<'b> {
    known: Known<'b>,
    content_length: Option<&'b [u8]>,
    transfer_encoding: Option<&'b [u8]>,
    expect: Option<&'b [u8]>,
    close: bool,
    persist: bool,
}

fn fields<'b>(headers: &[httparse::Header<'b>]) -> Result<Fields<'b>, HeadError> {
    let mut fields = Fields::default();
    for header in headers {
        fields.add(header.name, header.value)?;
    }
    Ok(fields)
}

impl<'b> Fields<'b> {
    /// Sorts one field into its place. Length and first letter decide, so a name costs one comparison at most.
    fn add(&mut self, name: &'b str, value: &'b [u8]) -> Result<(), HeadError> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let first = name.as_bytes().first().map_or(0, u8::to_ascii_lowercase);
        let known = &mut self.known;
        match (name.len(), first) {
            (4, b'h') if is("host") => once(&mut known.host, name, value)?,
            (5, b'a') if is("appid") => once(&mut known.appid, name, value)?,
            (5, b'x') if is("x-tag") => {
                known.x_tag.get_or_insert(value);
                known.x_tag_count = known.x_tag_count.saturating_add(1);
            }
            (6, b'a') if is("accept") => {
                known.accept.get_or_insert(value);
            }
            (6, b'p') if is("pubkey") => once(&mut known.pubkey, name, value)?,
            (6, b's') if is("subkey") => once(&mut known.subkey, name, value)?,
            (6, b'o') if is("origin") => once(&mut known.origin, name, value)?,
            (6, b'e') if is("expect") => once(&mut self.expect, name, value)?,
            (7, b'u') if is("upgrade") => {
                known.upgrade.get_or_insert(value);
            }
            (8, b'x') if is("x-offset") => once(&mut known.x_offset, name, value)?,
            (10, b'c') if is("connection") => self.add_connection(value),
            (11, b't') if is("traceparent") => {
                // A repeated one is no trace context at all: an empty value parses as none.
                known.traceparent = Some(if known.traceparent.is_some() { &[] } else { value });
            }
            (11, b'x') if is("x-partition") => once(&mut known.x_partition, name, value)?,
            (12, b'c') if is("content-type") => once(&mut known.content_type, name, value)?,
            (12, b'x') if is("x-request-id") => {
                known.x_request_id.get_or_insert(value);
            }
            (13, b'a') if is("authorization") => once(&mut known.authorization, name, value)?,
            (14, b'c') if is("content-length") => once(&mut self.content_length, name, value)?,
            (16, b'c') if is("content-encoding") => once(&mut known.content_encoding, name, value)?,
            (17, b't') if is("transfer-encoding") => once(&mut self.transfer_encoding, name, value)?,
            (10.., b'x') if strip_x_header(name).is_some() => {
                known.x_header_count = known.x_header_count.saturating_add(1);
            }
            _ => {}
        }
        Ok(())
    }

    fn add_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',') {
            let option = trim_ows(option);
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.persist |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// RFC 9112 section 9.3.
    fn keep_alive(&self, minor_version: u8) -> bool {
        !self.close && (minor_version >= 1 || self.persist)
    }

    fn body(&self, method: Method, minor_version: u8) -> Result<BodyKind, HeadError> {
        match (self.content_length, self.transfer_encoding) {
            // There a body could only end with the connection, and nobody could tell a whole one from half of one.
            (None, None) if minor_version == 0 && matches!(method, Method::Post | Method::Put) => Err(HeadError::new(
                411,
                "length_required",
                "a POST or PUT in HTTP/1.0 needs a Content-Length, which may be 0",
            )),
            (None, None) => Ok(BodyKind::None),
            (Some(length), None) => content_length(length).map(BodyKind::Length),
            (Some(_), Some(_)) => Err(HeadError::bad(
                "length_and_chunked",
                "Content-Length and Transfer-Encoding in one request: which of them ends the body is ambiguous",
            )),
            (None, Some(_)) if minor_version == 0 => {
                Err(HeadError::bad("transfer_encoding_in_http_1_0", "Transfer-Encoding does not exist in HTTP/1.0"))
            }
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Ok(BodyKind::Chunked),
            (None, Some(_)) => {
                Err(HeadError::bad("unsupported_transfer_encoding", "Transfer-Encoding must be exactly chunked"))
            }
        }
    }

    fn check_host(&self, minor_version: u8) -> Result<(), HeadError> {
        match self.known.host {
            Some(host) if is_host(host) => Ok(()),
            Some(_) => Err(HeadError::bad("malformed_host", "the Host header is malformed")),
            None if minor_version == 0 => Ok(()),
            None => Err(HeadError::bad("missing_host", "an HTTP/1.1 request needs a Host header")),
        }
    }

    /// RFC 9110 section 10.1.1: ignored in HTTP/1.0 and without a body.
    fn expect_continue(&self, minor_version: u8, body: BodyKind) -> Result<bool, HeadError> {
        match self.expect {
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => {
                Ok(minor_version >= 1 && !matches!(body, BodyKind::None | BodyKind::Length(0)))
            }
            Some(_) => Err(HeadError::new(
                417,
                "expectation_failed",
                "the only expectation this server can meet is 100-continue",
            )),
            None => Ok(false),
        }
    }
}

/// Stores a field that must not come twice: with two of them, two readers could each believe another one.
fn once<'b>(slot: &mut Option<&'b [u8]>, name: &str, value: &'b [u8]) -> Result<(), HeadError> {
    if slot.is_some() {
        return Err(duplicate_header(name));
    }
    *slot = Some(value);
    Ok(())
}

/// Digits only: no sign, no list (`5, 5`), no space, nothing beyond what 19 digits hold.
fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if !digits {
        return Err(HeadError::bad("malformed_content_length", "Content-Length must be one number of decimal digits"));
    }
    value
        .iter()
        .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or_else(|| HeadError::bad("malformed_content_length", "Content-Length is larger than any body can be"))
}

/// Shape of `host [":" port]`: characters of RFC 3986 section 3.2.2. Empty is allowed (RFC 9112 section 3.2).
fn is_host(host: &[u8]) -> bool {
    host.iter().all(|byte| HOST_BYTES[usize::from(*byte)])
}

const HOST_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let allowed = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-._~!$&'()*+;=:[]%";
    let mut at = 0;
    while at < allowed.len() {
        table[allowed[at] as usize] = true;
        at += 1;
    }
    table
};

fn uri_too_long(limits: &HeadLimits) -> HeadError {
    let message = format!("the request target is longer than {} bytes", limits.uri_bytes_max);
    HeadError::with(414, "uri_too_long", message)
}

fn head_too_long(limits: &HeadLimits) -> HeadError {
    let message = format!("the request head is longer than {} bytes", limits.head_bytes_max);
    HeadError::with(431, "head_too_large", message)
}

fn too_many_headers(limits: &HeadLimits) -> HeadError {
    let message = format!("the request has more than {} headers", limits.headers_max.min(HEADERS_MAX));
    HeadError::with(431, "too_many_headers", message)
}

#[cold]
fn duplicate_header(name: &str) -> HeadError {
    HeadError::with(400, "duplicate_header", format!("the header {} must not be repeated", name.to_ascii_lowercase()))
}

fn bare_line_feed() -> HeadError {
    HeadError::bad("bare_line_feed", "a line of the request head ends without a carriage return")
}

fn target_not_ascii() -> HeadError {
    HeadError::bad("malformed_target", "the request target must be visible ASCII, everything else percent-encoded")
}

/// httparse said no: find the first mistake ourselves, for a sentence that helps.
#[cold]
fn explain(window: &[u8], err: httparse::Error, limits: &HeadLimits) -> HeadError {
    if let Some(mistake) = diagnose::first_mistake(window, limits) {
        return mistake;
    }
    match err {
        httparse::Error::TooManyHeaders => too_many_headers(limits),
        _ => HeadError::bad("malformed_head", "the request head is not HTTP/1.1"),
    }
}

/// Slow path: walks the head byte by byte to the first one that may not stand where it stands.
///
/// Looks at no byte behind that one, so the finding does not depend on how much has arrived.
mod diagnose {
    use super::{HEADERS_MAX, HeadError, HeadLimits, bare_line_feed, target_not_ascii, too_many_headers, uri_too_long};

    /// The first mistake in `head`, or `None` when all there is could begin an acceptable head.
    pub(super) fn first_mistake(head: &[u8], limits: &HeadLimits) -> Option<HeadError> {
        let mut rest = head;
        loop {
            match rest {
                [b'\r', b'\n', tail @ ..] => rest = tail,
                [b'\n', ..] => return Some(bare_line_feed()),
                [b'\r', _, ..] => return Some(bare_carriage_return()),
                _ => break,
            }
        }
        let mut lines = match request_line(rest, limits) {
            Ok(lines) => lines?,
            Err(mistake) => return Some(mistake),
        };
        for _ in 0..limits.headers_max.min(HEADERS_MAX) {
            match header_line(lines) {
                Ok(next) => lines = next?,
                Err(mistake) => return Some(mistake),
            }
        }
        match lines.first()? {
            b'\r' | b'\n' => header_line(lines).err(),
            _ => Some(too_many_headers(limits)),
        }
    }

    /// `Ok(Some)` what follows the request line, `Ok(None)` when the bytes end within it.
    fn request_line<'b>(line: &'b [u8], limits: &HeadLimits) -> Result<Option<&'b [u8]>, HeadError> {
        let Some(method_end) = line.iter().position(|byte| !is_token(*byte)) else { return Ok(None) };
        if method_end == 0 || line[method_end] != b' ' {
            return Err(HeadError::bad("malformed_method", "the request does not begin with a method and a space"));
        }
        let line = &line[method_end + 1..];
        let target_end = line.iter().position(|byte| !(0x21..=0x7e).contains(byte)).unwrap_or(line.len());
        if target_end > limits.uri_bytes_max {
            return Err(uri_too_long(limits));
        }
        match line.get(target_end) {
            None => return Ok(None),
            Some(b' ') if target_end > 0 => {}
            Some(b' ') => {
                return Err(HeadError::bad("malformed_request_line", "one space between method and target, not more"));
            }
            Some(b'\r' | b'\n') => {
                return Err(HeadError::bad("malformed_request_line", "the request line has no HTTP version"));
            }
            Some(_) => return Err(target_not_ascii()),
        }
        version(&line[target_end + 1..])
    }

    fn version(line: &[u8]) -> Result<Option<&[u8]>, HeadError> {
        let malformed = || HeadError::bad("malformed_version", "the request line must end in HTTP/1.1 or HTTP/1.0");
        let unsupported = || HeadError::new(505, "version_not_supported", "this server speaks HTTP/1.1 and HTTP/1.0");
        for (at, expected) in b"HTTP/1.1\r\n".iter().enumerate() {
            let Some(found) = line.get(at) else { return Ok(None) };
            match (at, found) {
                _ if found == expected => {}
                (7, b'0'..=b'9') => {}
                (5, b'0'..=b'9') => return Err(unsupported()),
                (8, b'\n') => return Err(bare_line_feed()),
                _ => return Err(malformed()),
            }
        }
        Ok(Some(&line[10..]))
    }

    /// `Ok(Some)` what follows this header line, `Ok(None)` when the bytes end within it or the head ends here.
    fn header_line(line: &[u8]) -> Result<Option<&[u8]>, HeadError> {
        let Some(name_end) = line.iter().position(|byte| !is_token(*byte)) else { return Ok(None) };
        match (name_end, line[name_end]) {
            (0, b'\r') => {
                return match line.get(1) {
                    None | Some(b'\n') => Ok(None),
                    Some(_) => Err(bare_carriage_return()),
                };
            }
            (0, b' ' | b'\t') => {
                return Err(HeadError::bad("folded_header", "a header line must not begin with white space"));
            }
            (1.., b':') => {}
            (_, b'\n') => return Err(bare_line_feed()),
            (_, b' ' | b'\t') => {
                return Err(HeadError::bad("space_before_colon", "white space within or behind a header name"));
            }
            _ => return Err(HeadError::bad("malformed_header_name", "a header name has a byte no name may have")),
        }
        let value = &line[name_end + 1..];
        let is_value = |byte: &u8| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..);
        let Some(value_end) = value.iter().position(|byte| !is_value(byte)) else { return Ok(None) };
        match (value[value_end], value.get(value_end + 1)) {
            (b'\r', None) => Ok(None),
            (b'\r', Some(b'\n')) => Ok(Some(&value[value_end + 2..])),
            (b'\r', Some(_)) => Err(bare_carriage_return()),
            (b'\n', _) => Err(bare_line_feed()),
            _ => Err(HeadError::bad("malformed_header_value", "a header value has a control character")),
        }
    }

    fn bare_carriage_return() -> HeadError {
        HeadError::bad("bare_carriage_return", "a carriage return in the request head has no line feed behind it")
    }

    /// tchar of RFC 9110 section 5.6.2.
    fn is_token(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
    }
}
