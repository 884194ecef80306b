//! Answers, written straight into the send buffer without formatting machinery.
//!
//! ```text
//! ResponseWriter::start(out, 201, conn, &date)      status line, Date, Connection when it must be said
//!     .header("X-Offset", b"7")             any number
//!     .body("application/json", b"{}")      exactly one ending; the types see to it
//! ```
//!
//! A status line always says HTTP/1.1 (RFC 9110 section 2.5: the server's own version). A header value never breaks
//! its line: control bytes in it are written as `?`.

use bytes::BytesMut;

use crate::date::HttpDate;
use crate::head::Head;
use crate::json;

/// The interim answer to `Expect: 100-continue`.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// The end of a chunked body without trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What the answer has to say about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The connection stays open after this answer.
    pub keep_alive: bool,
    /// Minor version of the request: 0 or 1.
    pub minor_version: u8,
}

impl Connection {
    /// As the request asked for.
    #[must_use]
    pub const fn of(head: &Head<'_>) -> Self {
        Self { keep_alive: head.keep_alive, minor_version: head.minor_version }
    }

    /// Closed after this answer: after an error in the head, or while draining.
    pub const CLOSE: Self = Self { keep_alive: false, minor_version: 1 };

    /// Kept, HTTP/1.1.
    pub const KEEP: Self = Self { keep_alive: true, minor_version: 1 };
}

/// Reason phrase of a status, empty for one that this gateway never sends.
#[must_use]
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// An answer whose head is being written. Must be ended by one of its consuming methods.
#[must_use = "an answer that is not ended leaves half a head in the send buffer"]
#[derive(Debug)]
pub struct ResponseWriter<'o> {
    out: &'o mut BytesMut,
}

impl<'o> ResponseWriter<'o> {
    /// Status line, `Date`, and `Connection` where the default of the request's version does not say it already.
    pub fn start(out: &'o mut BytesMut, status: u16, connection: Connection, date: &HttpDate) -> Self {
        match status {
            // The answers of the hot paths, in one copy each.
            201 => out.extend_from_slice(b"HTTP/1.1 201 Created\r\nDate: "),
            200 => out.extend_from_slice(b"HTTP/1.1 200 OK\r\nDate: "),
            204 => out.extend_from_slice(b"HTTP/1.1 204 No Content\r\nDate: "),
            _ => {
                out.extend_from_slice(b"HTTP/1.1 ");
                put_u64(out, u64::from(status));
                out.extend_from_slice(b" ");
                out.extend_from_slice(reason(status).as_bytes());
                out.extend_from_slice(b"\r\nDate: ");
            }
        }
        out.extend_from_slice(date.as_bytes());
        out.extend_from_slice(b"\r\n");
        match (connection.keep_alive, connection.minor_version) {
            (true, 1..) => {}
            (true, 0) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
        }
        Self { out }
    }

    /// One header. Control bytes in the value become `?`, so that data can never end a line.
    pub fn header(self, name: &str, value: &[u8]) -> Self {
        debug_assert!(!name.is_empty(), "header names are ours");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        put_value(self.out, value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// One header with a number.
    pub fn number(self, name: &str, value: i64) -> Self {
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        put_i64(self.out, value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// `X-Header-NAME` with its value percent-encoded; `name` must be a lower-case token ([`is_lower_token`]).
    pub fn x_header(self, name: &str, value: &[u8]) -> Self {
        debug_assert!(is_lower_token(name.as_bytes()), "checked by the caller: {name:?}");
        self.out.extend_from_slice(b"X-Header-");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b": ");
        crate::pct::encode(self.out, value);
        self.out.extend_from_slice(b"\r\n");
        self
    }

    /// Ends the head of a message with its whole body: type, length, body.
    pub fn body(self, content_type: &str, body: &[u8]) {
        let out = self.length_head(content_type, body.len() as u64);
        out.extend_from_slice(body);
    }

    /// Ends the head; the caller appends or links exactly `body_bytes` bytes (none when it answers a HEAD).
    pub fn length(self, content_type: &str, body_bytes: u64) {
        self.length_head(content_type, body_bytes);
    }

    fn length_head(self, content_type: &str, body_bytes: u64) -> &'o mut BytesMut {
        let Self { out } = self.header("Content-Type", content_type.as_bytes());
        out.extend_from_slice(b"Content-Length: ");
        put_u64(out, body_bytes);
        out.extend_from_slice(b"\r\n\r\n");
        out
    }

    /// Ends the head of an answer that can have a body but has none (not for 204 and 304).
    pub fn empty(self) {
        self.out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }

    /// Ends the head of a 204, 304 or 101: no `Content-Length`, no body (RFC 9110 section 8.6).
    pub fn no_content(self) {
        self.out.extend_from_slice(b"\r\n");
    }

    /// Ends the head; a chunked body follows ([`chunk`], [`LAST_CHUNK`]). Never to an HTTP/1.0 client.
    pub fn chunked(self, content_type: &str) {
        let Self { out } = self.header("Content-Type", content_type.as_bytes());
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    }

    /// Ends the head; the body ends when the connection closes. For HTTP/1.0 clients and unknown lengths.
    pub fn until_close(self, content_type: &str) {
        let Self { out } = self.header("Content-Type", content_type.as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Ends an error answer with its JSON body. `code` is stable, `errmsg` one sentence.
    pub fn error(self, errmsg: &str, code: &str) {
        let mut body = BytesMut::with_capacity(errmsg.len() + code.len() + 32);
        json::error(&mut body, errmsg, code);
        self.body("application/json", &body);
    }
}

/// A whole answer in one call: the body is empty, any type, or absent for a 204.
pub fn head(out: &mut BytesMut, status: u16, connection: Connection, date: &HttpDate, headers: &[(&str, &[u8])]) {
    let mut answer = ResponseWriter::start(out, status, connection, date);
    for (name, value) in headers {
        answer = answer.header(name, value);
    }
    if matches!(status, 101 | 204 | 304) { answer.no_content() } else { answer.empty() }
}

/// A whole error answer in one call, for errors without headers of their own.
pub fn error(out: &mut BytesMut, status: u16, code: &str, errmsg: &str, connection: Connection, date: &HttpDate) {
    ResponseWriter::start(out, status, connection, date).error(errmsg, code);
}

/// One chunk of a chunked body. An empty one writes nothing: it would end the body.
pub fn chunk(out: &mut BytesMut, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    chunk_head(out, data.len() as u64);
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// The size line of a chunk whose data and CR LF the caller links behind it. `data_bytes` must not be 0.
pub fn chunk_head(out: &mut BytesMut, data_bytes: u64) {
    debug_assert!(data_bytes > 0, "an empty chunk ends the body");
    let mut digits = [0u8; 18];
    let mut at = 16;
    let mut left = data_bytes;
    digits[16..].copy_from_slice(b"\r\n");
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(left & 15) as usize];
        left >>= 4;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The end of a chunked body with trailers, which the head must have announced in `Trailer`.
pub fn last_chunk(out: &mut BytesMut, trailers: &[(&str, &[u8])]) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        put_value(out, value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a number in decimal: at most 20 digits.
pub fn put_u64(out: &mut BytesMut, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a signed number in decimal.
pub fn put_i64(out: &mut BytesMut, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a header value; bytes that would break its line become `?`.
fn put_value(out: &mut BytesMut, value: &[u8]) {
    let is_control = |byte: &u8| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f;
    // Without a branch per byte, so that the compiler looks at 16 or more at once; values with such bytes are rare.
    if !value.iter().fold(false, |found, byte| found | is_control(byte)) {
        return out.extend_from_slice(value);
    }
    let mut rest = value;
    while let Some(at) = rest.iter().position(is_control) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"?");
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Whether `name` can travel as `X-Header-NAME`: a token of RFC 9110 section 5.6.2 without upper-case letters.
#[must_use]
pub fn is_lower_token(name: &[u8]) -> bool {
    let is_token = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(is_token)
}
