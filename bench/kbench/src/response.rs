//! Answers of a server, as far as a client under load needs them: status, body, and whether the connection lives on.

use anyhow::{Result, bail, ensure};
use gafka_http::body::ChunkedDecoder;

use crate::limits::{ANSWER_BYTES_MAX, HEAD_BYTES_MAX};

/// One whole answer at the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Bytes of the buffer it takes.
    pub bytes: usize,
    pub closes: bool,
    /// Where the body stands; empty for a chunked one, which is in `chunked`.
    pub body: std::ops::Range<usize>,
    pub chunked: Option<Vec<u8>>,
}

impl Answer {
    pub fn body<'b>(&'b self, buf: &'b [u8]) -> &'b [u8] {
        self.chunked.as_deref().unwrap_or(&buf[self.body.clone()])
    }
}

/// The answer that `buf` begins with, once it is complete. Interim answers (1xx) are skipped.
pub fn parse(buf: &[u8]) -> Result<Option<Answer>> {
    let mut start = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head_bytes) = head.parse(&buf[start..])? else {
            ensure!(buf.len() - start < HEAD_BYTES_MAX, "answer's head is longer than {HEAD_BYTES_MAX} bytes");
            return Ok(None);
        };
        let status = head.code.unwrap_or(0);
        let body_at = start + head_bytes;
        if (100..200).contains(&status) {
            start = body_at;
            continue;
        }
        let mut length = 0usize;
        let mut chunked = false;
        let mut closes = head.version == Some(0);
        for header in head.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                length = std::str::from_utf8(header.value)?.trim().parse()?;
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = true;
            } else if header.name.eq_ignore_ascii_case("connection") {
                closes |= header.value.eq_ignore_ascii_case(b"close");
            }
        }
        ensure!(length <= ANSWER_BYTES_MAX, "answer of {length} bytes");
        if chunked {
            let mut body = Vec::new();
            // Decoded from the start each time more has come: answers in chunks are few and small here.
            let progress = ChunkedDecoder::new().decode(&buf[body_at..], &mut |part| body.extend_from_slice(part));
            let progress = match progress {
                Ok(progress) => progress,
                Err(err) => bail!("answer's chunks: {err:?}"),
            };
            ensure!(body.len() <= ANSWER_BYTES_MAX, "answer of more than {ANSWER_BYTES_MAX} bytes");
            let bytes = body_at + progress.consumed;
            return Ok(progress.done.then_some(Answer { status, bytes, closes, body: 0..0, chunked: Some(body) }));
        }
        let end = body_at + length;
        if buf.len() < end {
            return Ok(None);
        }
        return Ok(Some(Answer { status, bytes: end, closes, body: body_at..end, chunked: None }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, expected: Option<(u16, &str, bool)>) {
        let answer = parse(bytes.as_bytes()).expect("well formed");
        let found = answer.as_ref().map(|answer| {
            assert_eq!(answer.bytes, bytes.len(), "{bytes:?}");
            (answer.status, std::str::from_utf8(answer.body(bytes.as_bytes())).expect("text"), answer.closes)
        });
        assert_eq!(found, expected, "{bytes:?}");
        if expected.is_some() {
            for cut in 0..bytes.len() {
                assert_eq!(
                    parse(&bytes.as_bytes()[..cut]).expect("so far well formed"),
                    None,
                    "{bytes:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn answers_are_delimited_by_length_by_chunks_or_by_having_no_body() {
        check("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok", Some((201, "ok", false)));
        check("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", Some((204, "", true)));
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            Some((200, "abc", false)),
        );
        assert!(parse(b"SSH-2.0-OpenSSH\r\n").is_err());
    }
}
