//! Frames: a 32-bit length, then that many bytes. The reader cuts them out of a receive buffer without copying.
//!
//! ```text
//!   | length i32 | request or response header | body |
//!                \___________ length bytes __________/
//! ```
//!
//! Invariants:
//! - A length is checked before a byte is reserved for it; a frame that has begun never makes the buffer reserve
//!   more than [`FRAME_RESERVE_STEP_BYTES`](crate::limits::FRAME_RESERVE_STEP_BYTES) beyond what has arrived.
//! - After an error the buffer is as it was, and the same call gives the same error: the connection is to be closed.

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::{FRAME_BYTES_MAX, FRAME_RESERVE_STEP_BYTES};

/// Why the bytes at a frame's place are not a frame. The peer is at fault and the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame length {length} is negative")]
    Negative { length: i32 },
    #[error("frame of {length} bytes is larger than the limit of {limit}")]
    TooLarge { length: usize, limit: usize },
    /// `15 03` (alert) or `16 03` (handshake) where a length should be.
    #[error("the peer speaks TLS, and this connection expects the Kafka protocol in plain text")]
    Tls,
    /// An HTTP request or status line where a length should be.
    #[error("the peer speaks HTTP, and this connection expects the Kafka protocol")]
    Http,
}

/// Cuts whole frames from the front of a receive buffer. One per connection and direction.
#[derive(Debug, Clone)]
pub struct FrameReader {
    /// Largest frame accepted, in bytes without its length.
    pub size_max: usize,
}

impl Default for FrameReader {
    fn default() -> FrameReader {
        FrameReader::new(FRAME_BYTES_MAX)
    }
}

impl FrameReader {
    pub fn new(size_max: usize) -> FrameReader {
        FrameReader { size_max }
    }

    /// The next frame without its length, `None` while it is not whole. The frame shares the buffer's memory.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, FrameError> {
        let Some(head) = buf.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = check_length(*head, self.size_max)?;
        let missing = (4 + length).saturating_sub(buf.len());
        if missing > 0 {
            buf.reserve(missing.min(FRAME_RESERVE_STEP_BYTES));
            return Ok(None);
        }
        buf.advance(4);
        Ok(Some(buf.split_to(length).freeze()))
    }
}

/// Reads the length in front of a frame, of at most `size_max` bytes; otherwise says what the peer seems to speak.
pub fn check_length(head: [u8; 4], size_max: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(head);
    let fits = usize::try_from(length).is_ok_and(|length| length <= size_max);
    if fits {
        return Ok(length as usize);
    }
    Err(match &head {
        [0x15 | 0x16, 0x03, _, _] => FrameError::Tls,
        b"GET " | b"PUT " | b"POST" | b"HEAD" | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"TRAC" | b"PRI " | b"HTTP" => {
            FrameError::Http
        }
        _ if length < 0 => FrameError::Negative { length },
        _ => FrameError::TooLarge { length: length as usize, limit: size_max },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reader: &mut FrameReader, buf: &mut BytesMut) -> Vec<Bytes> {
        let mut frames = Vec::new();
        while let Some(frame) = reader.next(buf).expect("these are frames") {
            frames.push(frame);
        }
        frames
    }

    #[test]
    fn frames_come_out_the_same_wherever_the_bytes_are_split() {
        let stream = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x05defgh";
        for split in 0..=stream.len() {
            let mut reader = FrameReader::default();
            let mut buf = BytesMut::new();
            buf.extend_from_slice(&stream[..split]);
            let mut frames = all(&mut reader, &mut buf);
            buf.extend_from_slice(&stream[split..]);
            frames.extend(all(&mut reader, &mut buf));
            assert_eq!(frames, [&b"abc"[..], b"", b"defgh"], "split at {split}");
            assert!(buf.is_empty());
        }
    }

    #[test]
    fn frames_come_out_of_single_bytes() {
        let stream = b"\0\0\0\x03abc\0\0\0\x01z";
        let (mut reader, mut buf, mut frames) = (FrameReader::default(), BytesMut::new(), Vec::new());
        for byte in stream {
            buf.extend_from_slice(&[*byte]);
            frames.extend(all(&mut reader, &mut buf));
        }
        assert_eq!(frames, [&b"abc"[..], b"z"]);
    }

    #[test]
    fn an_announced_frame_reserves_one_step_not_its_length() {
        let mut buf = BytesMut::new();
        buf.extend_from_slice(&(100i32 << 20).to_be_bytes());
        assert_eq!(FrameReader::default().next(&mut buf), Ok(None));
        assert!(buf.capacity() <= 2 * FRAME_RESERVE_STEP_BYTES, "{} bytes reserved", buf.capacity());
    }

    #[test]
    fn what_is_no_frame_is_named() {
        let rows: &[(&[u8], FrameError)] = &[
            (b"\xff\xff\xff\xff", FrameError::Negative { length: -1 }),
            (b"\x7f\xff\xff\xff", FrameError::TooLarge { length: i32::MAX as usize, limit: 1 << 20 }),
            (b"\0\x10\0\x01", FrameError::TooLarge { length: (1 << 20) + 1, limit: 1 << 20 }),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc", FrameError::Tls),
            (b"\x15\x03\x03\x00\x02\x02\x28", FrameError::Tls),
            (b"GET / HTTP/1.1\r\n", FrameError::Http),
            (b"POST /v1/msgs HTTP/1.1\r\n", FrameError::Http),
            (b"HTTP/1.1 400 Bad Request\r\n", FrameError::Http),
            (b"PRI * HTTP/2.0\r\n", FrameError::Http),
        ];
        for (bytes, expected) in rows {
            let mut buf = BytesMut::from(*bytes);
            let mut reader = FrameReader::new(1 << 20);
            assert_eq!(reader.next(&mut buf), Err(*expected));
            assert_eq!(reader.next(&mut buf), Err(*expected), "the same error again");
            assert_eq!(buf, *bytes, "nothing is consumed");
        }
    }
}
