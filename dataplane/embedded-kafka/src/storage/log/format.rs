//! What lies in a partition's directory, byte for byte (FORMAT.md), without an idea of what it is good for.
//!
//! ```text
//! 00000000000000001742.log        batch*    batch: Kafka's record batch v2, exactly as it goes over the wire
//! 00000000000000001742.producers  crc32c u32 LE of the rest | what producers.rs encodes: the state before that segment
//! ```

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use disk::{Disk, File, Open};
use kafka_wire::record_batch::{BatchHeader, batches};
use tracing::warn;

use crate::limits::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, SCAN_BYTES};
use crate::storage::producers::Producers;

/// The file of the segment that begins with this offset.
pub fn segment_path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(format!("{base_offset:020}.log"))
}

/// The base offset in a file name, if it is a segment's.
pub fn parse_segment_name(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// The file of the producers' state before the segment that begins with this offset.
pub fn snapshot_path(dir: &Path, base_offset: i64) -> PathBuf {
    segment_path(dir, base_offset).with_extension("producers")
}

/// The three header fields that are enough to walk over batches without parsing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    pub base_offset: i64,
    pub last_offset: i64,
    /// Whole batch, prefix included.
    pub bytes: usize,
}

impl Peek {
    /// None when the header is cut short or its length cannot be.
    pub fn at(bytes: &[u8]) -> Option<Peek> {
        let header: &[u8; BATCH_HEADER_BYTES] = bytes.first_chunk()?;
        let base_offset = i64::from_be_bytes(*header.first_chunk()?);
        let length = usize::try_from(i32::from_be_bytes(*header[8..].first_chunk()?)).ok()?;
        let last_offset_delta = i32::from_be_bytes(*header[23..].first_chunk()?);
        let bytes = length + BATCH_PREFIX_BYTES;
        let fits = (BATCH_HEADER_BYTES..=BATCH_BYTES_MAX).contains(&bytes);
        fits.then_some(Peek { base_offset, last_offset: base_offset.checked_add(i64::from(last_offset_delta))?, bytes })
    }
}

/// How much of a batch is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Headers,
    /// And the CRC, and that offsets continue: what recovery needs.
    Everything {
        first_offset: i64,
    },
}

/// Walks the whole batches between two positions. Returns the position behind the last good one: less than `to`
/// when a batch is cut short or damaged.
pub fn scan(
    disk: &dyn Disk,
    file: &File,
    from: u64,
    to: u64,
    check: Check,
    mut visit: impl FnMut(&BatchHeader, &Bytes, u64) -> io::Result<()>,
) -> io::Result<u64> {
    let mut position = from;
    let mut read_bytes = SCAN_BYTES;
    let mut expected_offset = match check {
        Check::Headers => None,
        Check::Everything { first_offset } => Some(first_offset),
    };
    while position < to {
        let left = usize::try_from(to - position).unwrap_or(usize::MAX);
        let chunk = disk.read(file, position, read_bytes.min(left))?;
        let mut consumed = 0;
        for batch in batches(chunk.clone()) {
            let Ok(batch) = batch else { return Ok(position + consumed) };
            if let Some(expected) = &mut expected_offset {
                if batch.verify_crc().is_err() || batch.header.base_offset != *expected {
                    return Ok(position + consumed);
                }
                *expected = batch.header.last_offset() + 1;
            }
            visit(&batch.header, batch.bytes(), position + consumed)?;
            consumed += batch.bytes().len() as u64;
        }
        position += consumed;
        if consumed > 0 {
            read_bytes = SCAN_BYTES;
            continue;
        }
        // Not one whole batch: either it is larger than what was read, or it is torn.
        match Peek::at(&chunk) {
            Some(peek) if peek.bytes > chunk.len() && peek.bytes <= left => read_bytes = peek.bytes,
            _ => return Ok(position),
        }
    }
    Ok(position)
}

/// Not persisted: a snapshot that is missing or does not match its checksum costs a longer recovery, nothing else.
pub fn write_snapshot(disk: &dyn Disk, dir: &Path, base_offset: i64, producers: &Producers) {
    let body = producers.encode();
    let crc = Bytes::copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    let path = snapshot_path(dir, base_offset);
    let written = disk.open(&path, Open::Empty).and_then(|file| disk.write_all(&file, crc, Bytes::from(body), 0));
    if let Err(err) = written {
        warn!(path = %path.display(), %err, "no producer snapshot, the next recovery reads the whole log");
    }
}

/// None: recovery has to read the log from its beginning.
pub fn read_snapshot(disk: &dyn Disk, dir: &Path, base_offset: i64) -> Option<Producers> {
    if base_offset == 0 {
        return Some(Producers::default());
    }
    let path = snapshot_path(dir, base_offset);
    let bytes = disk.look_at(&path).ok()?.bytes;
    let file = disk.open(&path, Open::Existing).ok()?;
    let content = disk.read(&file, 0, usize::try_from(bytes).ok()?).ok()?;
    let (crc, body) = content.split_first_chunk::<4>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then(|| Producers::decode(body).ok()).flatten()
}
