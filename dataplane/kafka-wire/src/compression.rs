//! The four codecs a record batch may be compressed with, as Kafka's clients frame them.
//!
//! | id | codec | framing |
//! |---|---|---|
//! | 1 | gzip | RFC 1952, several members allowed |
//! | 2 | snappy | written in xerial blocks as the Java client does; read as such or raw (librdkafka) |
//! | 3 | lz4 | LZ4 frame, independent 64 KiB blocks |
//! | 4 | zstd | Zstandard frame (KIP-110) |
//!
//! Decompression always has a limit, given by the caller: a batch of a kilobyte can claim a gigabyte.

use std::io::{BufRead, Read, Write};

use bytes::{Buf, Bytes};

use crate::wire_error::WireError;

/// How a batch's records are compressed; the number is that of the batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    #[default]
    None = 0,
    Gzip = 1,
    Snappy = 2,
    Lz4 = 3,
    Zstd = 4,
}

impl Compression {
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The codec with this number, if there is one.
    pub const fn from_id(id: u8) -> Option<Compression> {
        match id {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// Kafka's name, as in `compression.type`.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl std::str::FromStr for Compression {
    type Err = ();

    fn from_str(name: &str) -> Result<Compression, ()> {
        Compression::ALL.into_iter().find(|codec| codec.name() == name).ok_or(())
    }
}

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
/// Uncompressed bytes per xerial block, snappy-java's default.
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// Zstandard's own default level, as in the Java client.
const ZSTD_LEVEL: i32 = 3;
/// Largest zstd window accepted: what the reference decoder accepts unless told otherwise.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// First guess at how much larger the decompressed body is; the buffer grows with what comes out.
const GROWTH_GUESS: usize = 3;

/// Compresses `body`. Fails only when a codec does, which on memory it does not.
pub fn compress(codec: Compression, body: &[u8]) -> Result<Vec<u8>, WireError> {
    let compressed: std::io::Result<Vec<u8>> = match codec {
        Compression::None => Ok(body.to_vec()),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body).and_then(|()| encoder.finish())
        }
        Compression::Snappy => compress_xerial(body),
        Compression::Lz4 => {
            let frame = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, Vec::new());
            encoder.write_all(body).and_then(|()| encoder.finish().map_err(std::io::Error::other))
        }
        Compression::Zstd => zstd::stream::encode_all(body, ZSTD_LEVEL),
    };
    compressed.map_err(|err| refused(codec, err))
}

/// Decompresses `body` into at most `limit` bytes; more than that is refused as [`WireError::TooLarge`].
pub fn decompress(codec: Compression, body: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    match codec {
        Compression::None if body.len() > limit => Err(too_large(body.len(), limit)),
        Compression::None => Ok(body.to_vec()),
        Compression::Gzip => read_bounded(codec, gzip(body), body.len(), limit),
        Compression::Snappy if body.starts_with(&XERIAL_MAGIC) => decompress_xerial(body, limit),
        Compression::Snappy => {
            let mut out = Vec::new();
            decompress_snappy_block(body, &mut out, limit)?;
            Ok(out)
        }
        Compression::Lz4 => read_bounded(codec, lz4(body), body.len(), limit),
        Compression::Zstd => read_bounded(codec, zstd(body)?, body.len(), limit),
    }
}

fn gzip<'a>(body: impl BufRead + Send + 'a) -> impl Read + Send + 'a {
    flate2::bufread::MultiGzDecoder::new(body)
}

fn lz4<'a>(body: impl Read + Send + 'a) -> impl Read + Send + 'a {
    lz4_flex::frame::FrameDecoder::new(body)
}

fn zstd<'a>(body: impl BufRead + Send + 'a) -> Result<impl Read + Send + 'a, WireError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(|err| refused(Compression::Zstd, err))?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|err| refused(Compression::Zstd, err))?;
    Ok(decoder)
}

fn read_bounded(codec: Compression, decoder: impl Read, body_bytes: usize, limit: usize) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(limit.min(body_bytes.saturating_mul(GROWTH_GUESS)));
    let allowed = (limit as u64).saturating_add(1);
    decoder.take(allowed).read_to_end(&mut out).map_err(|err| refused(codec, err))?;
    if out.len() > limit { Err(too_large(out.len(), limit)) } else { Ok(out) }
}

/// Decompression a piece at a time, for those who have others to serve meanwhile: 64 MiB of gzip keep a core busy for
/// a quarter of a second. The result is that of [`decompress`].
///
/// A snappy block comes out whole: at most 64 KiB as Java frames them, a whole batch as librdkafka does.
pub struct Decompressing {
    codec: Compression,
    source: Source,
    out: Vec<u8>,
    limit: usize,
}

enum Source {
    Stream(Box<dyn Read + Send>),
    Xerial(Bytes),
    Block(Bytes),
}

impl Decompressing {
    /// Begins; nothing is decompressed yet.
    pub fn new(codec: Compression, body: Bytes, limit: usize) -> Result<Decompressing, WireError> {
        let source = match codec {
            Compression::None => Source::Stream(Box::new(body.reader())),
            Compression::Gzip => Source::Stream(Box::new(gzip(body.reader()))),
            Compression::Lz4 => Source::Stream(Box::new(lz4(body.reader()))),
            Compression::Zstd => Source::Stream(Box::new(zstd(body.reader())?)),
            Compression::Snappy if body.starts_with(&XERIAL_MAGIC) => {
                crate::primitive::Reader::new(&body).take(XERIAL_HEADER_BYTES, "snappy stream header")?;
                Source::Xerial(body.slice(XERIAL_HEADER_BYTES..))
            }
            Compression::Snappy => Source::Block(body),
        };
        Ok(Decompressing { codec, source, out: Vec::new(), limit })
    }

    /// Decompresses about `bytes` more, at least one. True: that was the last of it. After an error it is over.
    pub fn step(&mut self, bytes: usize) -> Result<bool, WireError> {
        let wanted = self.out.len().saturating_add(bytes.max(1));
        match &mut self.source {
            Source::Stream(stream) => {
                // One byte beyond the limit tells whether there is more.
                let allowed = self.limit.saturating_add(1).min(wanted) - self.out.len();
                let read = stream.take(allowed as u64).read_to_end(&mut self.out);
                let read = read.map_err(|err| refused(self.codec, err))?;
                if self.out.len() > self.limit {
                    return Err(too_large(self.out.len(), self.limit));
                }
                Ok(read < allowed)
            }
            Source::Xerial(rest) => {
                while !rest.is_empty() && self.out.len() < wanted {
                    let mut reader = crate::primitive::Reader::new(rest);
                    decompress_xerial_block(&mut reader, &mut self.out, self.limit)?;
                    let read = reader.offset();
                    rest.advance(read);
                }
                Ok(rest.is_empty())
            }
            Source::Block(block) => decompress_snappy_block(block, &mut self.out, self.limit).map(|()| true),
        }
    }

    /// Memory it holds for what came out so far.
    pub fn held_bytes(&self) -> usize {
        self.out.capacity()
    }

    /// What came out.
    pub fn into_bytes(mut self) -> Bytes {
        if self.out.capacity() - self.out.len() > self.out.len() / 4 {
            self.out.shrink_to_fit(); // it is kept until its records are read
        }
        self.out.into()
    }
}

impl std::fmt::Debug for Decompressing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Decompressing({}, {} bytes so far)", self.codec.name(), self.out.len())
    }
}

fn compress_xerial(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + body.len() / 2);
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes()); // version
    out.extend_from_slice(&1i32.to_be_bytes()); // oldest version that can read it
    let mut encoder = snap::raw::Encoder::new();
    for block in body.chunks(XERIAL_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block)?;
        out.extend_from_slice(&(compressed.len() as i32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}

fn decompress_xerial(body: &[u8], limit: usize) -> Result<Vec<u8>, WireError> {
    let mut reader = crate::primitive::Reader::new(body);
    reader.take(XERIAL_HEADER_BYTES, "snappy stream header")?;
    let mut out = Vec::with_capacity(limit.min(body.len().saturating_mul(GROWTH_GUESS)));
    while reader.left() > 0 {
        decompress_xerial_block(&mut reader, &mut out, limit)?;
    }
    Ok(out)
}

fn decompress_xerial_block(
    reader: &mut crate::primitive::Reader<'_>,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), WireError> {
    let offset = reader.offset();
    let size = reader.i32("snappy block size")?;
    let size = usize::try_from(size).map_err(|_| WireError::Invalid {
        what: "snappy block size",
        offset,
        found: i64::from(size),
    })?;
    decompress_snappy_block(reader.take(size, "snappy block")?, out, limit)
}

/// Appends one raw snappy block. Its announced length is checked against the limit before memory is taken.
fn decompress_snappy_block(block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), WireError> {
    let announced = snap::raw::decompress_len(block).map_err(|err| refused(Compression::Snappy, err))?;
    let before = out.len();
    if announced > limit.saturating_sub(before) {
        return Err(too_large(before.saturating_add(announced), limit));
    }
    out.resize(before + announced, 0);
    let written = snap::raw::Decoder::new()
        .decompress(block, &mut out[before..])
        .map_err(|err| refused(Compression::Snappy, err))?;
    out.truncate(before + written);
    Ok(())
}

#[cold]
fn refused(codec: Compression, err: impl std::fmt::Display) -> WireError {
    WireError::Compression { codec: codec.name(), reason: err.to_string() }
}

#[cold]
fn too_large(found: usize, limit: usize) -> WireError {
    WireError::TooLarge { what: "decompressed body", offset: 0, found: found as u64, limit: limit as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| b"the quick brown fox "[i % 20].wrapping_add((i / 777) as u8 & 3)).collect()
    }

    #[test]
    fn every_codec_survives_the_round_trip_at_every_size_class() {
        for codec in Compression::ALL {
            for bytes in [0, 1, 100, XERIAL_BLOCK_BYTES, XERIAL_BLOCK_BYTES + 1, 300_000] {
                let body = text(bytes);
                let compressed = compress(codec, &body).expect("memory compresses");
                assert_eq!(decompress(codec, &compressed, bytes), Ok(body), "{codec:?} of {bytes} bytes");
            }
        }
    }

    /// Everything, in steps of `bytes`, and how many steps it took.
    fn stepwise(codec: Compression, body: &[u8], limit: usize, bytes: usize) -> Result<(Vec<u8>, usize), WireError> {
        let mut decompressing = Decompressing::new(codec, Bytes::copy_from_slice(body), limit)?;
        let mut steps = 1;
        while !decompressing.step(bytes)? {
            steps += 1;
        }
        Ok((decompressing.into_bytes().to_vec(), steps))
    }

    #[test]
    fn in_steps_comes_out_what_comes_out_at_once() {
        for codec in Compression::ALL {
            for bytes in [0, 1, 100, XERIAL_BLOCK_BYTES, XERIAL_BLOCK_BYTES + 1, 300_000] {
                let body = text(bytes);
                let compressed = compress(codec, &body).expect("memory compresses");
                for step in [1 + bytes / 7, bytes, usize::MAX] {
                    let (whole, steps) = stepwise(codec, &compressed, bytes, step).expect("it is whole");
                    assert_eq!(whole, body, "{codec:?} of {bytes} bytes in steps of {step}");
                    let most = bytes / step.max(1) + 2;
                    assert!(steps <= most, "{codec:?} of {bytes} bytes in steps of {step}: {steps} steps");
                }
            }
            let compressed = compress(codec, &text(300_000)).expect("memory compresses");
            let (_, steps) = stepwise(codec, &compressed, 300_000, 64 << 10).expect("it is whole");
            assert!(steps >= 4, "{codec:?}: {steps} steps are turns for others");
        }
    }

    #[test]
    fn in_steps_a_bomb_is_refused_at_the_limit_and_a_cut_body_as_it_is_at_once() {
        let bomb = vec![0; 8 << 20];
        for codec in Compression::ALL {
            let compressed = compress(codec, &bomb).expect("memory compresses");
            let refusal = stepwise(codec, &compressed, 1 << 20, 64 << 10).expect_err("more than the limit");
            assert!(matches!(refusal, WireError::TooLarge { limit: 0x100000, .. }), "{codec:?}: {refusal}");
            let compressed = compress(codec, &text(3000)).expect("memory compresses");
            for size in 0..compressed.len() {
                let at_once = decompress(codec, &compressed[..size], 10_000);
                let in_steps = stepwise(codec, &compressed[..size], 10_000, 100).map(|(whole, _)| whole);
                assert_eq!(at_once.is_ok(), in_steps.is_ok(), "{codec:?} cut at {size}: {at_once:?} {in_steps:?}");
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit_by_every_codec() {
        let body = vec![0; 8 << 20];
        for codec in Compression::ALL {
            let bomb = compress(codec, &body).expect("memory compresses");
            let refusal = decompress(codec, &bomb, 1 << 20).expect_err("more than the limit");
            assert!(matches!(refusal, WireError::TooLarge { limit: 0x100000, .. }), "{codec:?}: {refusal}");
        }
    }

    #[test]
    fn a_snappy_block_that_announces_gigabytes_takes_no_memory() {
        // A raw block whose preamble says 4 GiB - 1.
        let refusal = decompress(Compression::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], 1 << 20);
        assert!(matches!(refusal, Err(WireError::TooLarge { .. })), "{refusal:?}");
    }

    #[test]
    fn raw_snappy_as_librdkafka_writes_it_is_read() {
        let body = text(5000);
        let raw = snap::raw::Encoder::new().compress_vec(&body).expect("memory compresses");
        assert_eq!(decompress(Compression::Snappy, &raw, 5000), Ok(body));
    }

    #[test]
    fn cut_or_garbled_bodies_are_errors_never_panics() {
        let body = text(3000);
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let whole = compress(codec, &body).expect("memory compresses");
            for size in 0..whole.len() {
                // A cut between blocks can look whole; the batch's record count is what notices.
                if let Ok(cut) = decompress(codec, &whole[..size], 10_000) {
                    assert!(body.starts_with(&cut), "{codec:?} cut at {size}");
                }
            }
            for at in 0..whole.len() {
                let mut garbled = whole.clone();
                garbled[at] ^= 0xff;
                let _ = decompress(codec, &garbled, 10_000);
            }
        }
    }

    #[test]
    fn names_are_kafkas() {
        for codec in Compression::ALL {
            assert_eq!(codec.name().parse(), Ok(codec));
            assert_eq!(Compression::from_id(codec as u8), Some(codec));
        }
        assert_eq!(Compression::from_id(5), None);
    }
}
