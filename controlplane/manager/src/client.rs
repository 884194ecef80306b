//! A client for this API, for the command line: one request per connection, JSON in and out.
//!
//! Plain HTTP/1.1 over a tokio socket. It talks to our own manager only, but reads its answer as carefully as any
//! other bytes from a network: everything has a limit, nothing is believed.

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::limits::{ANSWER_BYTES_MAX, ANSWER_TIMEOUT};

/// Longest head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why there is no answer to show.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{url:?} is no address of a manager, expected http://HOST:PORT")]
    BadUrl { url: String },
    #[error("the admin's app id and key must be visible ASCII, the app id without colon")]
    BadCredentials,
    #[error("a token must be visible ASCII")]
    BadToken,
    #[error("manager {address} cannot be reached")]
    Unreachable {
        address: String,
        #[source]
        err: io::Error,
    },
    #[error("manager {address} has not answered within {} s", timeout.as_secs())]
    Timeout { address: String, timeout: Duration },
    #[error("manager {address} gave an answer that is no HTTP with JSON: {why}")]
    Garbage { address: String, why: &'static str },
    /// The manager refused; its own words.
    #[error("{message} ({code})")]
    Refused { status: u16, code: String, message: String },
}

impl ClientError {
    /// The answer's status. `None`: there was no answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            ClientError::Refused { status, .. } => Some(*status),
            ClientError::BadUrl { .. }
            | ClientError::BadCredentials
            | ClientError::BadToken
            | ClientError::Unreachable { .. }
            | ClientError::Timeout { .. }
            | ClientError::Garbage { .. } => None,
        }
    }
}

/// Calls one manager.
pub struct AdminClient {
    /// `HOST:PORT`.
    address: String,
    authorization: String,
    /// Sent with every request.
    headers: Vec<(&'static str, String)>,
    timeout: Duration,
}

impl AdminClient {
    /// As the admin, or as a principal by its name.
    pub fn new(url: &str, appid: &str, key: &str) -> Result<AdminClient, ClientError> {
        let is_visible = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        if !is_visible(appid) || !is_visible(key) || appid.contains(':') {
            return Err(ClientError::BadCredentials);
        }
        Self::authorized(url, format!("Basic {}", STANDARD.encode(format!("{appid}:{key}"))))
    }

    /// As whoever the token is of.
    pub fn with_token(url: &str, token: &str) -> Result<AdminClient, ClientError> {
        if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(ClientError::BadToken);
        }
        Self::authorized(url, format!("Bearer {token}"))
    }

    fn authorized(url: &str, authorization: String) -> Result<AdminClient, ClientError> {
        let bad_url = || ClientError::BadUrl { url: url.to_owned() };
        let address = url.strip_prefix("http://").ok_or_else(bad_url)?.trim_end_matches('/');
        let has_port = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
        if !has_port || !address.bytes().all(|b| b.is_ascii_graphic()) || address.contains(['/', '@', '?', '#']) {
            return Err(bad_url());
        }
        let address = address.to_owned();
        Ok(AdminClient { address, authorization, headers: Vec::new(), timeout: ANSWER_TIMEOUT })
    }

    /// For somebody who called this manager, with their credentials as one header and a few of ours.
    pub(crate) fn passing_on(
        url: &str,
        authorization: String,
        headers: Vec<(&'static str, String)>,
        timeout: Duration,
    ) -> Result<AdminClient, ClientError> {
        let texts = headers.iter().map(|(_, value)| value).chain([&authorization]);
        if texts.into_iter().any(|text| text.bytes().any(|b| !b.is_ascii_graphic() && b != b' ')) {
            return Err(ClientError::BadCredentials);
        }
        Ok(AdminClient { headers, timeout, ..Self::authorized(url, authorization)? })
    }

    /// One call. Anything but a 2xx is [`ClientError::Refused`]; an answer without body is `null`.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let request = self.write_request(method, path, query, body);
        let exchange = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.write_all(&request).await?;
            let mut answer = Vec::new();
            stream.take(ANSWER_BYTES_MAX as u64 + 1).read_to_end(&mut answer).await?;
            Ok(answer)
        };
        let answer = match tokio::time::timeout(self.timeout, exchange).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(err)) => return Err(ClientError::Unreachable { address: self.address.clone(), err }),
            Err(_) => return Err(ClientError::Timeout { address: self.address.clone(), timeout: self.timeout }),
        };
        let garbage = |why| ClientError::Garbage { address: self.address.clone(), why };
        let (status, body) = read_answer(&answer).map_err(garbage)?;
        let value = match body.as_slice() {
            [] => Value::Null,
            body => serde_json::from_slice(body).map_err(|_| garbage("the body is not JSON"))?,
        };
        if (200..300).contains(&status) {
            return Ok(value);
        }
        let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("unknown").to_owned();
        Err(ClientError::Refused { status, code: field("code"), message: field("errmsg") })
    }

    fn write_request(&self, method: &str, path: &str, query: &[(&str, &str)], body: Option<&Value>) -> Vec<u8> {
        let mut target: String = path.split('/').map(percent_encode).collect::<Vec<_>>().join("/");
        for (at, (name, value)) in query.iter().enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            target.push_str(&format!("{}={}", percent_encode(name), percent_encode(value)));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nAccept: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n",
            self.address,
            self.authorization,
            body.len()
        );
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str("Content-Type: application/json\r\n");
        }
        head.push_str("\r\n");
        head.push_str(&body);
        head.into_bytes()
    }
}

impl std::fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminClient").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Everything but unreserved characters (RFC 3986 section 2.3) as `%XX`.
fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Status and body of a whole answer, read to the end of its connection.
fn read_answer(answer: &[u8]) -> Result<(u16, Vec<u8>), &'static str> {
    if answer.len() > ANSWER_BYTES_MAX {
        return Err("the answer is too large");
    }
    let window = &answer[..answer.len().min(HEAD_BYTES_MAX)];
    let head_end = window.windows(4).position(|w| w == b"\r\n\r\n").ok_or("the head has no end")?;
    let head = std::str::from_utf8(&answer[..head_end]).map_err(|_| "the head is not text")?;
    let body = &answer[head_end + 4..];
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|s| s.parse().ok());
    let status = status.ok_or("there is no status line")?;
    let mut length = None;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header has no colon")?;
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                length = Some(value.trim().parse::<usize>().map_err(|_| "the length is no number")?);
            }
            // Ours always sends a length.
            "transfer-encoding" => return Err("the body is chunked"),
            _ => {}
        }
    }
    match length {
        Some(length) if body.len() < length => Err("the body is cut short"),
        Some(length) => Ok((status, body[..length].to_vec())),
        None => Ok((status, body.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_is_an_http_address() {
        for good in ["http://127.0.0.1:9193", "http://localhost:1/", "http://[::1]:9193"] {
            assert!(AdminClient::new(good, "admin", "key").is_ok(), "{good}");
        }
        for bad in
            ["https://a:1", "127.0.0.1:9193", "http://a", "http://a:0", "http://:1", "http://a:1/path", "http://u@a:1"]
        {
            assert!(matches!(AdminClient::new(bad, "admin", "key"), Err(ClientError::BadUrl { .. })), "{bad}");
        }
        for (appid, key) in [("", "key"), ("ad:min", "key"), ("admin", ""), ("admin", "k\r\ny")] {
            assert!(AdminClient::new("http://a:1", appid, key).is_err(), "{appid:?} {key:?}");
        }
    }

    #[test]
    fn requests_cannot_be_split_by_what_is_put_into_them() {
        let client = AdminClient::new("http://a:1", "admin", "key").unwrap();
        let request = client.write_request("GET", "/v1/apps/a b\r\nX: y", &[("q&", "ä=1")], None);
        let text = String::from_utf8(request).unwrap();
        assert!(text.starts_with("GET /v1/apps/a%20b%0D%0AX%3A%20y?q%26=%C3%A4%3D1 HTTP/1.1\r\n"), "{text}");
        assert!(!format!("{client:?}").contains("Basic"));
    }

    #[test]
    fn answers_are_read_whole_or_refused() {
        type Expected = Result<(u16, &'static str), &'static str>;
        let rows: [(&str, Expected); 8] = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", Ok((200, "{}"))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}extra", Ok((200, "{}"))),
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok((204, ""))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", Err("the body is cut short")),
            ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", Err("the length is no number")),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Err("the body is chunked")),
            ("", Err("the head has no end")),
            ("SSH-2.0\r\n\r\n", Err("there is no status line")),
        ];
        for (answer, expected) in rows {
            let expected = expected.map(|(status, body)| (status, body.as_bytes().to_vec()));
            assert_eq!(read_answer(answer.as_bytes()), expected, "{answer:?}");
        }
    }
}
