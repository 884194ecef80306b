//! A small blocking HTTP/1.1 client that shows what is on the wire.
//!
//! Not ours from `dataplane/http`, so that a mistake in our parser is not answered by the same mistake here. Supports
//! what tests look at: keep-alive, pipelining, bytes sent as they are, chunked bodies both ways, interim answers.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::limits::{HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_TIMEOUT};

/// A request to be written.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    chunk_bytes: Option<usize>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            chunk_bytes: None,
        }
    }

    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub fn post(target: &str) -> Self {
        Self::new("POST", target)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    /// Sends the body in chunks of this size instead of with a length.
    #[must_use]
    pub fn chunked(mut self, chunk_bytes: usize) -> Self {
        assert!(chunk_bytes > 0);
        self.chunk_bytes = Some(chunk_bytes);
        self
    }

    /// The bytes up to and including the empty line.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: gafka.test\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.chunk_bytes.is_some() {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// The whole request as it goes over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.head_bytes();
        match self.chunk_bytes {
            None => bytes.extend(&self.body),
            Some(chunk_bytes) => {
                for chunk in self.body.chunks(chunk_bytes) {
                    bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                    bytes.extend(chunk);
                    bytes.extend(b"\r\n");
                }
                bytes.extend(b"0\r\n\r\n");
            }
        }
        bytes
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON ({}): {}", self.status, self.text()))
    }

    /// The answer itself when it has that status, else an error that shows it.
    pub fn expect(self, status: u16) -> Result<Self> {
        ensure!(self.status == status, "expected {status}, got {}: {}", self.status, self.text());
        Ok(self)
    }

    /// The stable code of an error answer.
    pub fn code(&self) -> Option<String> {
        Some(self.json().ok()?.get("code")?.as_str()?.to_owned())
    }
}

/// One connection, kept alive as long as the server lets us.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// `http://host:port` or `host:port` to an address.
pub fn address_of(base: &str) -> Result<SocketAddr> {
    let host = base.strip_prefix("http://").unwrap_or(base).trim_end_matches('/');
    let mut addresses = host.to_socket_addrs().with_context(|| format!("{base:?} is no host and port"))?;
    addresses.next().with_context(|| format!("{base:?} has no address"))
}

impl Connection {
    pub fn open(base: &str) -> Result<Self> {
        Self::open_within(base, HTTP_TIMEOUT)
    }

    /// With a deadline for every single read and write.
    pub fn open_within(base: &str, timeout: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address_of(base)?, timeout)
            .with_context(|| format!("cannot connect to {base}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream, received: Vec::new() })
    }

    pub fn local_address(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("cannot send")
    }

    pub fn send(&mut self, request: &Request) -> Result<()> {
        self.send_raw(&request.to_bytes())
    }

    /// Sends one request and reads its final answer.
    pub fn call(&mut self, request: &Request) -> Result<Response> {
        self.send(request)?;
        self.read_for(&request.method)
    }

    /// The next final answer; interim ones (1xx) are skipped.
    pub fn read(&mut self) -> Result<Response> {
        self.read_for("GET")
    }

    fn read_for(&mut self, method: &str) -> Result<Response> {
        loop {
            let response = self.read_any(method)?;
            if response.status >= 200 {
                return Ok(response);
            }
        }
    }

    /// The next answer of any kind, also `100 Continue`.
    pub fn read_interim(&mut self) -> Result<Response> {
        self.read_any("GET")
    }

    /// Whether the server closes without sending anything more.
    pub fn is_closed_within(&mut self, timeout: Duration) -> Result<bool> {
        self.stream.set_read_timeout(Some(timeout))?;
        let mut byte = [0];
        Ok(match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => bail!("the server sent something more"),
            Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(_) => true,
        })
    }

    fn read_any(&mut self, method: &str) -> Result<Response> {
        let end = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                break at;
            }
            ensure!(self.received.len() <= HTTP_HEAD_BYTES_MAX, "a response head over {HTTP_HEAD_BYTES_MAX} bytes");
            self.receive().context("while waiting for a response head")?;
        };
        let head = String::from_utf8(self.received[..end].to_vec()).context("a response head that is not text")?;
        self.received.drain(..end + 4);
        let (status, headers) = parse_head(&head)?;
        let mut response = Response { status, headers, body: Vec::new() };
        let bodyless = status < 200 || status == 204 || status == 304 || method == "HEAD";
        if bodyless {
            return Ok(response);
        }
        if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            response.body = self.read_chunked()?;
        } else if let Some(length) = response.header("content-length") {
            let length: usize = length.parse().context("content-length")?;
            ensure!(length <= HTTP_BODY_BYTES_MAX, "a body of {length} bytes");
            response.body = self.take(length)?;
        } else {
            bail!("a response without length: {head}");
        }
        Ok(response)
    }

    fn read_chunked(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).with_context(|| format!("chunk size {line:?}"))?;
            ensure!(body.len() + size <= HTTP_BODY_BYTES_MAX, "a body over {HTTP_BODY_BYTES_MAX} bytes");
            if size == 0 {
                while !self.take_line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            ensure!(self.take_line()?.is_empty(), "a chunk longer than it said");
        }
    }

    fn take_line(&mut self) -> Result<String> {
        loop {
            if let Some(at) = find(&self.received, b"\r\n") {
                let line = String::from_utf8(self.received[..at].to_vec())?;
                self.received.drain(..at + 2);
                return Ok(line);
            }
            self.receive()?;
        }
    }

    fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.received.len() < count {
            self.receive().context("in the middle of a body")?;
        }
        let rest = self.received.split_off(count);
        Ok(std::mem::replace(&mut self.received, rest))
    }

    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).context("cannot read")?;
        ensure!(count > 0, "the server closed the connection");
        self.received.extend(&buffer[..count]);
        Ok(())
    }
}

/// One request on a connection of its own.
pub fn call(base: &str, request: &Request) -> Result<Response> {
    Connection::open(base)?.call(request)
}

fn parse_head(head: &str) -> Result<(u16, Vec<(String, String)>)> {
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("not an HTTP/1.1 status line: {first:?}"))?;
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').with_context(|| format!("not a header: {line:?}"))?;
            Ok((name.to_owned(), value.trim().to_owned()))
        })
        .collect::<Result<_>>()?;
    Ok((status, headers))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that sends `answer` to whoever connects and closes.
    fn canned(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(answer).unwrap();
            // Until the client has read everything and gone.
            let _ = stream.read_to_end(&mut Vec::new());
        });
        format!("http://{address}")
    }

    #[test]
    fn pipelined_answers_come_apart() {
        let base = canned(
            b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nab\
              HTTP/1.1 100 Continue\r\n\r\n\
              HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ncde\r\n1;x=y\r\nf\r\n0\r\nX-T: 1\r\n\r\n\
              HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
        );
        let mut connection = Connection::open(&base).unwrap();
        assert_eq!(connection.read().unwrap().text(), "ab");
        assert_eq!(connection.read().unwrap().text(), "cdef");
        let last = connection.read().unwrap();
        assert_eq!((last.status, last.header("x-a")), (204, Some("b")));
    }

    #[test]
    fn an_answer_that_breaks_off_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab").unwrap();
        });
        let err = format!("{:#}", Connection::open(&address).unwrap().read().unwrap_err());
        assert!(err.contains("in the middle of a body"), "{err}");
    }

    #[test]
    fn requests_are_written_with_a_length_or_in_chunks() {
        let plain = Request::post("/x").header("Appid", "a").body("hello");
        assert_eq!(
            String::from_utf8(plain.to_bytes()).unwrap(),
            "POST /x HTTP/1.1\r\nHost: gafka.test\r\nAppid: a\r\nContent-Length: 5\r\n\r\nhello"
        );
        let chunked = Request::post("/x").body("hello").chunked(3);
        assert!(String::from_utf8(chunked.to_bytes()).unwrap().ends_with("\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"));
    }
}
