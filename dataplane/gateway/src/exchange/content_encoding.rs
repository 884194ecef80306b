//! Request bodies with `Content-Encoding: gzip` or `zstd`, decoded while they arrive.
//!
//! A body of a thousand bytes may stand for a million, so nothing here decodes more than it was asked for: bytes are
//! pushed in with [`Decoder::feed`], and [`Decoder::read`] fills the caller's buffer and stops. How much the whole may
//! become is the caller's limit.

use crate::codes;
use crate::limits::{ZSTD_WINDOW_LOG_MAX, ZSTD_WINDOW_LOG_MIN};
use crate::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufRead, ErrorKind, Read};

/// Coding of a request body (RFC 9110 section 8.4.1, RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    /// `None` without a coding; 415 for one that is not known, also for several on top of each other.
    pub fn of(content_encoding: Option<&[u8]>) -> Result<Option<Coding>, Refusal> {
        let Some(name) = content_encoding.map(<[u8]>::trim_ascii) else { return Ok(None) };
        if name.is_empty() || name.eq_ignore_ascii_case(b"identity") {
            Ok(None)
        } else if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") {
            Ok(Some(Coding::Gzip))
        } else if name.eq_ignore_ascii_case(b"zstd") {
            Ok(Some(Coding::Zstd))
        } else {
            let shown: String = String::from_utf8_lossy(name).chars().take(40).collect();
            let message = format!("Content-Encoding is `{shown}`, expected gzip, zstd or none");
            Err(Refusal::new(codes::UNSUPPORTED_CONTENT_ENCODING, message).with("Accept-Encoding", "gzip, zstd"))
        }
    }
}

/// What a decoder may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    log: u32,
}

impl Window {
    /// The largest zstd window that a tenant's share of the memory budget has room for, at most 8 MiB (RFC 9659).
    pub fn within(bytes: usize) -> Window {
        let log = (bytes / 2).max(1).ilog2();
        Window { log: log.clamp(ZSTD_WINDOW_LOG_MIN, ZSTD_WINDOW_LOG_MAX) }
    }

    /// Memory of a decoder of that coding, for the budget: window, tables, what was pushed in.
    pub fn decoder_bytes(self, coding: Coding) -> usize {
        match coding {
            Coding::Gzip => 128 << 10,
            Coding::Zstd => (1 << self.log) + (384 << 10),
        }
    }
}

/// What [`Decoder::read`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    Bytes(usize),
    /// Nothing comes out before more is pushed in.
    NeedsInput,
    /// The body ended where it should.
    End,
}

/// Decoder of one body.
pub struct Decoder {
    inner: Inner,
    /// Bytes that came out.
    decoded_bytes: u64,
    /// Bytes that went in.
    fed_bytes: u64,
}

enum Inner {
    Gzip(Box<MultiGzDecoder<Pushed>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Pushed>>),
}

impl Decoder {
    pub fn new(coding: Coding, window: Window) -> io::Result<Decoder> {
        let inner = match coding {
            Coding::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(Pushed::default()))),
            Coding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(Pushed::default())?;
                decoder.window_log_max(window.log)?;
                Inner::Zstd(Box::new(decoder))
            }
        };
        Ok(Decoder { inner, decoded_bytes: 0, fed_bytes: 0 })
    }

    /// Pushes received bytes in; call it only when [`Decoder::read`] asked for input, so that little is kept.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.fed_bytes += bytes.len() as u64;
        self.pushed().push(bytes);
    }

    /// Nothing more is pushed in.
    pub fn end_input(&mut self) {
        self.pushed().ended = true;
    }

    /// Decodes into `out`, which must not be empty.
    pub fn read(&mut self, out: &mut [u8]) -> io::Result<Decoded> {
        debug_assert!(!out.is_empty(), "an empty buffer looks like the end");
        if self.fed_bytes == 0 {
            return Ok(if self.pushed().ended { Decoded::End } else { Decoded::NeedsInput });
        }
        let result = match &mut self.inner {
            Inner::Gzip(decoder) => decoder.read(out),
            Inner::Zstd(decoder) => decoder.read(out),
        };
        match result {
            Ok(0) => Ok(Decoded::End),
            Ok(count) => {
                self.decoded_bytes += count as u64;
                Ok(Decoded::Bytes(count))
            }
            Err(err) if err.kind() == ErrorKind::WouldBlock => Ok(Decoded::NeedsInput),
            Err(err) => Err(err),
        }
    }

    pub fn decoded_bytes(&self) -> u64 {
        self.decoded_bytes
    }

    pub fn fed_bytes(&self) -> u64 {
        self.fed_bytes
    }

    fn pushed(&mut self) -> &mut Pushed {
        match &mut self.inner {
            Inner::Gzip(decoder) => decoder.get_mut(),
            Inner::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

/// Bytes pushed in and not yet read by the decoder; asks for more with `WouldBlock`, which both decoders pass on
/// without losing their place.
#[derive(Default)]
struct Pushed {
    bytes: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Pushed {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }
}

impl Read for Pushed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let here = self.fill_buf()?;
        let count = here.len().min(out.len());
        out[..count].copy_from_slice(&here[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Pushed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.bytes.len() && !self.ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(&self.bytes[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

/// Decodes a whole body of at most `bytes_max`. `charge` is asked for every step of memory before it is taken.
pub fn decode_whole(
    coding: Coding,
    window: Window,
    body: &[u8],
    bytes_max: usize,
    mut charge: impl FnMut(usize) -> Result<(), Refusal>,
) -> Result<Bytes, Refusal> {
    const STEP_BYTES: usize = 16 << 10;
    let mut decoder =
        Decoder::new(coding, window).map_err(|err| Refusal::overloaded(&format!("cannot make a decoder: {err}")))?;
    decoder.feed(body);
    decoder.end_input();
    let mut out = BytesMut::new();
    loop {
        let begin = out.len();
        // One byte beyond the limit is enough to know.
        let step = STEP_BYTES.max(begin).min(bytes_max + 1 - begin);
        charge(step)?;
        out.resize(begin + step, 0);
        let mut filled = begin;
        while filled < out.len() {
            match decoder.read(&mut out[filled..]).map_err(|err| malformed(&err))? {
                Decoded::Bytes(count) => filled += count,
                Decoded::End => {
                    out.truncate(filled);
                    return Ok(out.freeze());
                }
                Decoded::NeedsInput => unreachable!("the input has ended"),
            }
        }
        if filled > bytes_max {
            return Err(Refusal::too_large(bytes_max));
        }
    }
}

/// The body is not what its `Content-Encoding` says, or needs a larger window than there is room for.
pub fn malformed(err: &io::Error) -> Refusal {
    // The only word of it that the zstd crate passes on.
    if err.to_string().contains("requires too much memory") {
        let message = "the zstd window is too large for this gateway; compress with a window of 1 MiB (wlog=20)";
        return Refusal::new(codes::ZSTD_WINDOW_TOO_LARGE, message);
    }
    Refusal::new(codes::MALFORMED_CONTENT_ENCODING, format!("the body cannot be decoded: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const WINDOW: Window = Window { log: ZSTD_WINDOW_LOG_MAX };

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(plain).expect("to memory");
        encoder.finish().expect("to memory")
    }

    fn coded(coding: Coding, plain: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => gzip(plain),
            Coding::Zstd => zstd::encode_all(plain, 3).expect("to memory"),
        }
    }

    fn whole(coding: Coding, body: &[u8], bytes_max: usize) -> String {
        match decode_whole(coding, WINDOW, body, bytes_max, |_| Ok(())) {
            Ok(plain) => format!("{} bytes", plain.len()),
            Err(failure) => format!("{} {}", failure.status, failure.code),
        }
    }

    #[test]
    fn a_body_comes_out_as_it_went_in_however_it_was_cut() {
        let plain: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7).to_be_bytes()).collect();
        for coding in [Coding::Gzip, Coding::Zstd] {
            // Two members or frames behind each other are one body.
            let body = [coded(coding, &plain[..5000]), coded(coding, &plain[5000..])].concat();
            for step in [1, 7, 1000, body.len()] {
                let mut decoder = Decoder::new(coding, WINDOW).expect("a decoder");
                let (mut out, mut room) = (Vec::new(), [0; 777]);
                let mut pieces = body.chunks(step);
                loop {
                    match decoder.read(&mut room).expect("well formed") {
                        Decoded::Bytes(count) => out.extend_from_slice(&room[..count]),
                        Decoded::NeedsInput => match pieces.next() {
                            Some(piece) => decoder.feed(piece),
                            None => decoder.end_input(),
                        },
                        Decoded::End => break,
                    }
                }
                assert!(out == plain, "{coding:?} in pieces of {step}");
                assert_eq!(decoder.decoded_bytes(), plain.len() as u64);
            }
        }
    }

    #[test]
    fn what_is_cut_broken_or_too_large_is_refused() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let body = coded(coding, &[7; 100_000]);
            assert_eq!(whole(coding, &body, 100_000), "100000 bytes");
            assert_eq!(whole(coding, &body, 99_999), "413 message_too_large");
            assert_eq!(whole(coding, &body[..body.len() - 1], 100_000), "400 malformed_content_encoding");
            assert_eq!(whole(coding, b"no such thing at all", 100_000), "400 malformed_content_encoding");
            assert_eq!(whole(coding, b"", 100_000), "0 bytes");
            let mut flipped = body.clone();
            let at = body.len() - 3;
            flipped[at] ^= 1;
            assert_eq!(whole(coding, &flipped, 100_000), "400 malformed_content_encoding", "{coding:?} checksum");
        }
    }

    #[test]
    fn a_window_there_is_no_room_for_is_told_apart_from_a_broken_body() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("an encoder");
        encoder.window_log(22).expect("a window");
        encoder.write_all(&[7; 5 << 20]).expect("to memory");
        let body = encoder.finish().expect("to memory");
        let failure = decode_whole(Coding::Zstd, Window { log: 21 }, &body, 8 << 20, |_| Ok(())).expect_err("refused");
        assert_eq!((failure.status, failure.code), (413, "zstd_window_too_large"));
        assert!(decode_whole(Coding::Zstd, Window { log: 22 }, &body, 8 << 20, |_| Ok(())).is_ok());
    }

    #[test]
    fn codings_are_known_by_name() {
        let of = |name: &str| Coding::of(Some(name.as_bytes())).map_err(|failure| failure.code);
        assert_eq!(Coding::of(None), Ok(None));
        assert_eq!(of("identity"), Ok(None));
        assert_eq!(of(" GZIP"), Ok(Some(Coding::Gzip)));
        assert_eq!(of("x-gzip"), Ok(Some(Coding::Gzip)));
        assert_eq!(of("zstd"), Ok(Some(Coding::Zstd)));
        for unknown in ["br", "deflate", "gzip, gzip", "gzip, zstd"] {
            assert_eq!(of(unknown), Err("unsupported_content_encoding"), "{unknown}");
        }
    }

    #[test]
    fn a_small_budget_means_a_small_window() {
        assert_eq!(Window::within(usize::MAX).decoder_bytes(Coding::Zstd), (8 << 20) + (384 << 10));
        assert_eq!(Window::within(4 << 20).log, 21, "what zstd uses by default fits into the smallest budget");
        assert_eq!(Window::within(0).log, ZSTD_WINDOW_LOG_MIN);
    }
}
