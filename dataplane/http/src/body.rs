//! The chunked transfer coding, decoded as the bytes arrive (RFC 9112 section 7.1).
//!
//! ```text
//! 1a;ext=1 CR LF   <26 bytes> CR LF   0 CR LF   trailer: x CR LF   CR LF
//! ^size ^extension ^data              ^last     ^checked, dropped  ^end
//! ```
//!
//! Data is handed on as slices of the input, nothing is copied or kept. Line ends are CR LF and nothing else:
//! readers that also take a bare line feed disagree about where the body ends, and that is how requests are smuggled.
//!
//! Invariants:
//! - What comes out does not depend on how the input was cut (`tests/chunked_properties.rs`).
//! - After `done` or an error the decoder consumes nothing more.

use crate::error::HeadError;
use crate::limits::{
    CHUNK_EXTENSION_BYTES_MAX, CHUNK_EXTENSION_EXCESS_BYTES_MAX, CHUNK_SIZE_DIGITS_MAX, TRAILER_BYTES_MAX,
};

/// How far one call got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Input bytes used up. Less than all of them only when the body has ended: the rest is the next request.
    pub consumed: usize,
    /// The body, its trailers included, has ended.
    pub done: bool,
}

/// What the next byte is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    Size,
    /// White space between size and `;`, which some clients send (bad white space, RFC 9112 section 7.1.1).
    SizeSpace,
    Extension,
    SizeLineFeed,
    Data,
    DataCarriageReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    Done,
}

/// Decoder of one chunked body. 40 bytes, no allocation.
#[derive(Debug, Clone)]
pub struct ChunkedDecoder {
    expect: Expect,
    /// Of the chunk at hand: its size while the size line is read, then what is left of it.
    chunk_bytes: u64,
    size_digits: u32,
    line_extension_bytes: u32,
    extension_excess_bytes: u64,
    trailer_bytes: u32,
    body_bytes: u64,
    body_bytes_max: u64,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedDecoder {
    /// A decoder that leaves the size of the whole body to its caller.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_body_limit(u64::MAX)
    }

    /// A decoder that answers 413 as soon as a chunk announces more than `body_bytes_max` in all.
    #[must_use]
    pub const fn with_body_limit(body_bytes_max: u64) -> Self {
        Self {
            expect: Expect::Size,
            chunk_bytes: 0,
            size_digits: 0,
            line_extension_bytes: 0,
            extension_excess_bytes: 0,
            trailer_bytes: 0,
            body_bytes: 0,
            body_bytes_max,
        }
    }

    /// Data bytes announced so far, the chunk at hand included.
    #[must_use]
    pub const fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether the body has ended.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.expect, Expect::Done)
    }

    /// Data bytes of the current chunk still to come: a hint for how much to read.
    #[must_use]
    pub const fn chunk_bytes_left(&self) -> u64 {
        if matches!(self.expect, Expect::Data) { self.chunk_bytes } else { 0 }
    }

    /// Decodes `buf`, giving `out` each run of data as a slice of it.
    ///
    /// # Errors
    /// 400 for framing no one should accept, 413 beyond the body limit. `out` may have been given the data before the
    /// mistake: a caller that stores whole bodies drops it.
    pub fn decode(&mut self, buf: &[u8], out: &mut impl FnMut(&[u8])) -> Result<Progress, HeadError> {
        let mut at = 0;
        while at < buf.len() && self.expect != Expect::Done {
            if self.expect == Expect::Data {
                let run = usize::try_from(self.chunk_bytes).map_or(buf.len() - at, |left| left.min(buf.len() - at));
                out(&buf[at..at + run]);
                at += run;
                self.chunk_bytes -= run as u64;
                if self.chunk_bytes == 0 {
                    self.expect = Expect::DataCarriageReturn;
                }
                continue;
            }
            self.expect = self.step(buf[at])?;
            at += 1;
        }
        Ok(Progress { consumed: at, done: self.is_done() })
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) -> Result<Expect, HeadError> {
        match self.expect {
            Expect::Size => self.size(byte),
            Expect::SizeSpace => self.size_space(byte),
            Expect::Extension => self.extension(byte),
            Expect::SizeLineFeed => {
                line_feed(byte)?;
                self.size_line_ended()
            }
            Expect::DataCarriageReturn if byte == b'\r' => Ok(Expect::DataLineFeed),
            Expect::DataCarriageReturn => Err(malformed("the data of a chunk is not followed by CR LF")),
            Expect::DataLineFeed => {
                line_feed(byte)?;
                Ok(Expect::Size)
            }
            Expect::TrailerStart | Expect::TrailerName | Expect::TrailerValue | Expect::TrailerLineFeed => {
                self.trailer(byte)
            }
            Expect::LastLineFeed => {
                line_feed(byte)?;
                Ok(Expect::Done)
            }
            Expect::Data | Expect::Done => Ok(self.expect),
        }
    }

    fn size(&mut self, byte: u8) -> Result<Expect, HeadError> {
        if let Some(digit) = (byte as char).to_digit(16) {
            if self.size_digits == CHUNK_SIZE_DIGITS_MAX {
                return Err(malformed("a chunk size has more than 16 hexadecimal digits"));
            }
            self.size_digits += 1;
            self.chunk_bytes = (self.chunk_bytes << 4) | u64::from(digit);
            return Ok(Expect::Size);
        }
        if self.size_digits == 0 {
            return Err(malformed("a chunk does not begin with its size in hexadecimal"));
        }
        match byte {
            b'\r' => Ok(Expect::SizeLineFeed),
            b';' => self.count_extension(),
            b' ' | b'\t' => {
                self.count_extension()?;
                Ok(Expect::SizeSpace)
            }
            _ => Err(malformed("a chunk size has a byte that is no hexadecimal digit")),
        }
    }

    fn size_space(&mut self, byte: u8) -> Result<Expect, HeadError> {
        match byte {
            b';' => self.count_extension(),
            b' ' | b'\t' => {
                self.count_extension()?;
                Ok(Expect::SizeSpace)
            }
            _ => Err(malformed("only an extension may follow a chunk size and white space")),
        }
    }

    fn extension(&mut self, byte: u8) -> Result<Expect, HeadError> {
        match byte {
            b'\r' => Ok(Expect::SizeLineFeed),
            b'\t' | 0x20..=0x7e | 0x80.. => self.count_extension(),
            _ => Err(malformed("a chunk extension has a control character")),
        }
    }

    fn count_extension(&mut self) -> Result<Expect, HeadError> {
        self.line_extension_bytes += 1;
        if self.line_extension_bytes > CHUNK_EXTENSION_BYTES_MAX {
            return Err(too_much_extension());
        }
        Ok(Expect::Extension)
    }

    fn size_line_ended(&mut self) -> Result<Expect, HeadError> {
        self.extension_excess_bytes =
            (self.extension_excess_bytes + u64::from(self.line_extension_bytes)).saturating_sub(self.chunk_bytes);
        if self.extension_excess_bytes > CHUNK_EXTENSION_EXCESS_BYTES_MAX {
            return Err(too_much_extension());
        }
        self.size_digits = 0;
        self.line_extension_bytes = 0;
        if self.chunk_bytes == 0 {
            return Ok(Expect::TrailerStart);
        }
        self.body_bytes = self
            .body_bytes
            .checked_add(self.chunk_bytes)
            .ok_or_else(|| malformed("the chunk sizes of the body overflow"))?;
        if self.body_bytes > self.body_bytes_max {
            let message = format!("the body is larger than {} bytes", self.body_bytes_max);
            return Err(HeadError::with(413, "body_too_large", message));
        }
        Ok(Expect::Data)
    }

    fn trailer(&mut self, byte: u8) -> Result<Expect, HeadError> {
        if self.expect == Expect::TrailerStart && byte == b'\r' {
            return Ok(Expect::LastLineFeed);
        }
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            let message = format!("the trailers are longer than {TRAILER_BYTES_MAX} bytes");
            return Err(HeadError::with(431, "trailers_too_large", message));
        }
        match (self.expect, byte) {
            (Expect::TrailerName, b':') => Ok(Expect::TrailerValue),
            (Expect::TrailerStart | Expect::TrailerName, _) if is_token(byte) => Ok(Expect::TrailerName),
            (Expect::TrailerValue, b'\r') => Ok(Expect::TrailerLineFeed),
            (Expect::TrailerValue, b'\t' | 0x20..=0x7e | 0x80..) => Ok(Expect::TrailerValue),
            (Expect::TrailerLineFeed, b'\n') => Ok(Expect::TrailerStart),
            _ => Err(malformed("a trailer of the chunked body is no header line")),
        }
    }
}

fn line_feed(byte: u8) -> Result<(), HeadError> {
    if byte == b'\n' {
        Ok(())
    } else {
        Err(malformed("a carriage return in chunked framing has no line feed behind it"))
    }
}

fn malformed(message: &'static str) -> HeadError {
    HeadError::bad("malformed_chunk", message)
}

fn too_much_extension() -> HeadError {
    HeadError::bad("chunk_extension_too_long", "the body has more chunk extensions than data can justify")
}

/// tchar of RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
