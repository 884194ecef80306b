//! One gateway asks another about a message that only the other has.
//!
//! The caller's own credentials go along, so that the other decides by itself; it is asked once, never passed on again.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gafka_http::Head;
use runtime::net::{self, Stream};

use crate::publish::format::limits::RECEIPTS_PATH;

/// Says that the question was passed on.
pub const RELAYED: &str = "x-gafka-relayed";
/// To connect, ask, and be answered.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A question for another gateway.
pub struct Question {
    address: SocketAddr,
    request: Bytes,
}

impl Question {
    /// About the receipt with this id, which is base64url.
    pub fn receipt(address: SocketAddr, head: &Head<'_>, id: &str) -> Question {
        Question::new(address, head, "GET", &format!("{RECEIPTS_PATH}{id}"), "")
    }

    /// The same as was asked here, query and all, without a body.
    pub fn same(address: SocketAddr, head: &Head<'_>) -> Question {
        let path = match head.query {
            Some(query) => format!("{}?{query}", head.path),
            None => head.path.to_owned(),
        };
        Question::new(address, head, head.method.as_str(), &path, "")
    }

    /// The same as was asked here, with another body, which is JSON.
    pub fn post(address: SocketAddr, head: &Head<'_>, body: String) -> Question {
        Question::new(address, head, "POST", head.path, &body)
    }

    /// `path` was parsed before, so it has nothing in it that ends a line.
    fn new(address: SocketAddr, head: &Head<'_>, method: &str, path: &str, body: &str) -> Question {
        let known = &head.known;
        let credentials = [("Appid", known.appid), ("Pubkey", known.pubkey), ("Authorization", known.authorization)];
        let mut request = BytesMut::new();
        request.extend_from_slice(format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n").as_bytes());
        for (name, value) in credentials {
            if let Some(value) = value {
                request.extend_from_slice(name.as_bytes());
                request.extend_from_slice(b": ");
                request.extend_from_slice(value);
                request.extend_from_slice(b"\r\n");
            }
        }
        if method != "GET" {
            let about = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            request.extend_from_slice(about.as_bytes());
        }
        request.extend_from_slice(format!("{RELAYED}: 1\r\nConnection: close\r\n\r\n{body}").as_bytes());
        Question { address, request: request.freeze() }
    }

    /// Status and body of the answer.
    pub async fn ask(self) -> Result<(u16, Vec<u8>), String> {
        let address = self.address;
        let asked = runtime::time::timeout(PATIENCE, self.exchange()).await;
        match asked {
            Ok(answered) => answered.map_err(|why| format!("{address}: {why}")),
            Err(_) => Err(format!("{address}: no answer within {} s", PATIENCE.as_secs())),
        }
    }

    async fn exchange(self) -> Result<(u16, Vec<u8>), String> {
        let host = self.address.ip().to_string();
        let mut stream: Stream =
            net::connect(&host, self.address.port(), PATIENCE).await.map_err(|err| err.to_string())?;
        stream.write_all(self.request).await.map_err(|err| err.to_string())?;
        let mut received = BytesMut::new();
        loop {
            received.reserve(4 << 10);
            let (read, filled) = stream.read(received).await;
            received = filled;
            match read {
                Ok(0) => break,
                Ok(_) if received.len() <= ANSWER_BYTES_MAX => {}
                Ok(_) => return Err("its answer is too long".to_owned()),
                Err(err) => return Err(err.to_string()),
            }
        }
        parse(&received).ok_or_else(|| "its answer is none".to_owned())
    }
}

/// Status and body of an answer that ended with its connection.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let status = answer.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    let status = std::str::from_utf8(status).ok()?.parse().ok().filter(|status| (200..600).contains(status))?;
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((status, answer[at + 4..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_status_and_what_follows_its_head() {
        let good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(good), Some((200, b"{}".to_vec())));
        for bad in [
            &b""[..],
            b"HTTP/1.1 20",
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 100 C\r\n\r\n",
        ] {
            assert_eq!(parse(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
