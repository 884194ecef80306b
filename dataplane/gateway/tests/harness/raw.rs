//! A connection without manners: bytes as they are, either half closed at will, answers taken apart afterwards.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

pub struct Raw {
    stream: TcpStream,
    /// Read by [`Raw::until`] beyond what was waited for.
    ahead: String,
}

/// An answer as it stood on the wire.
#[derive(Debug, Clone)]
pub struct Answer {
    pub head: String,
    pub body: String,
}

impl Raw {
    pub fn open(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        stream.set_write_timeout(Some(Duration::from_secs(10))).expect("a socket");
        Raw { stream, ahead: String::new() }
    }

    /// Opens, sends, and sends no more.
    pub fn half_closed(address: SocketAddr, bytes: &[u8]) -> Raw {
        let mut raw = Raw::open(address);
        raw.send(bytes);
        raw.stop_sending();
        raw
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// Sends as long as the other side takes it: false when it does not any more.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn stop_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write); // it may be closed already
    }

    /// The same connection, for another thread.
    pub fn try_clone(&self) -> Raw {
        Raw { stream: self.stream.try_clone().expect("a descriptor"), ahead: String::new() }
    }

    /// Reads at most `bytes_max` bytes, waiting for the first; 0 at the end.
    pub fn read_some(&mut self, seen: &mut Vec<u8>, bytes_max: usize) -> usize {
        let mut buffer = vec![0; bytes_max];
        let count = self.stream.read(&mut buffer).expect("bytes in time");
        seen.extend(&buffer[..count]);
        count
    }

    /// Sends one chunk of a chunked body.
    pub fn chunk(&mut self, data: &str) {
        self.send(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes());
    }

    /// Reads until `end` has come, and gives everything up to it.
    pub fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.ahead.find(end) {
                let rest = self.ahead.split_off(at + end.len());
                return std::mem::replace(&mut self.ahead, rest);
            }
            let mut seen = Vec::new();
            assert!(self.read_some(&mut seen, 4096) > 0, "closed before {end:?}: {}", self.ahead);
            self.ahead.push_str(&show(&seen));
        }
    }

    /// Everything until the server closes. A reset counts as closed only when `reset_is_fine`.
    pub fn read_to_close(&mut self, reset_is_fine: bool) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.ahead).into_bytes();
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return bytes,
                Ok(count) => bytes.extend(&buffer[..count]),
                Err(err) if err.kind() == ErrorKind::ConnectionReset && reset_is_fine => return bytes,
                Err(err) => panic!("no clean close: {err}; got {}", String::from_utf8_lossy(&bytes)),
            }
        }
    }

    /// The answers until the server closes.
    pub fn answers(&mut self) -> Vec<Answer> {
        answers(&self.read_to_close(false))
    }

    /// True when the server has closed or reset the connection, within `timeout`; what it sends until then is dropped.
    pub fn is_cut_off_within(&mut self, timeout: Duration) -> bool {
        let until = Instant::now() + timeout;
        self.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
        let mut buffer = [0; 64 << 10];
        while Instant::now() < until {
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => return true,
            }
        }
        false
    }
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head[9..12].parse().expect("a status")
    }

    pub fn closes(&self) -> bool {
        self.head.contains("\r\nConnection: close\r\n")
    }

    /// `400 code`, or the status alone.
    pub fn summary(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        match json.get("code").and_then(|code| code.as_str()) {
            Some(code) => format!("{} {code}", self.status()),
            None => self.status().to_string(),
        }
    }
}

/// Takes bytes apart into whole answers; anything else is a failure of the server.
pub fn answers(bytes: &[u8]) -> Vec<Answer> {
    let mut rest = bytes;
    let mut answers = Vec::new();
    while !rest.is_empty() {
        let end = find(rest, b"\r\n\r\n").unwrap_or_else(|| panic!("half a head: {}", show(bytes)));
        let head = show(&rest[..end + 4]);
        assert!(head.starts_with("HTTP/1.1 "), "no status line: {}", show(bytes));
        rest = &rest[end + 4..];
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        let mut body = Vec::new();
        if let Some(length) = value("Content-Length: ") {
            let length: usize = length.parse().expect("a length");
            assert!(length <= rest.len(), "half a body: {}", show(bytes));
            body.extend(&rest[..length]);
            rest = &rest[length..];
        } else if value("Transfer-Encoding: chunked").is_some() {
            loop {
                let line_end = find(rest, b"\r\n").unwrap_or_else(|| panic!("half a chunk: {}", show(bytes)));
                let size = usize::from_str_radix(&show(&rest[..line_end]), 16).expect("a chunk size");
                rest = &rest[line_end + 2..];
                if size == 0 {
                    let end = if rest.starts_with(b"\r\n") { 0 } else { find(rest, b"\r\n\r\n").expect("an end") + 2 };
                    rest = &rest[end + 2..];
                    break;
                }
                body.extend(&rest[..size]);
                rest = &rest[size + 2..];
            }
        }
        answers.push(Answer { head, body: show(&body) });
    }
    answers
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
