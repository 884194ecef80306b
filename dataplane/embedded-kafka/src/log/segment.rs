//! One segment file of a partition: contiguous record batches, named by the offset of the first.
//!
//! ```text
//! 00000000000000001742.log = batch*      batch: Kafka's record batch v2, exactly as it goes over the wire
//! ```
//!
//! The index is sparse and lives in memory only: one entry per 16 KiB of log. A sealed segment is indexed when it is
//! first read.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use kafka_wire::record_batch::{BatchHeader, batches};

use crate::limits::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, INDEX_INTERVAL_BYTES, SCAN_BYTES};

/// The first batch at or behind every 16 KiB of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    base_offset: i64,
    position: u64,
    /// Largest timestamp of the batches from this entry up to the next.
    timestamp_ms_max: i64,
}

/// Where to begin looking for an offset or a timestamp.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Index {
    entries: Vec<Entry>,
    /// Largest timestamp in the segment; meaningless while `entries` is empty.
    timestamp_ms_max: i64,
}

impl Index {
    /// Notes a batch at the end of the file.
    pub fn push(&mut self, header: &BatchHeader, position: u64) {
        let timestamp_ms = header.max_timestamp_ms;
        self.timestamp_ms_max =
            if self.entries.is_empty() { timestamp_ms } else { self.timestamp_ms_max.max(timestamp_ms) };
        match self.entries.last_mut() {
            Some(last) if position - last.position < INDEX_INTERVAL_BYTES => {
                last.timestamp_ms_max = last.timestamp_ms_max.max(timestamp_ms);
            }
            _ => self.entries.push(Entry { base_offset: header.base_offset, position, timestamp_ms_max: timestamp_ms }),
        }
    }

    /// Position of a batch at most 16 KiB before the one that holds `offset`.
    pub fn floor(&self, offset: i64) -> u64 {
        let after = self.entries.partition_point(|entry| entry.base_offset <= offset);
        after.checked_sub(1).map_or(0, |at| self.entries[at].position)
    }

    /// Position at most 16 KiB before the first batch whose largest timestamp reaches `timestamp_ms`.
    pub fn floor_of_timestamp(&self, timestamp_ms: i64) -> Option<u64> {
        self.entries.iter().find(|entry| entry.timestamp_ms_max >= timestamp_ms).map(|entry| entry.position)
    }

    /// Largest timestamp of the segment, if it has a batch.
    pub fn timestamp_ms_max(&self) -> Option<i64> {
        (!self.entries.is_empty()).then_some(self.timestamp_ms_max)
    }
}

/// A segment as the log keeps it.
#[derive(Debug)]
pub struct Segment {
    pub base_offset: i64,
    pub path: PathBuf,
    /// File length up to which batches are whole.
    pub bytes: u64,
    /// None: sealed, and not read since start.
    pub index: Option<Index>,
}

impl Segment {
    pub fn path(dir: &Path, base_offset: i64) -> PathBuf {
        dir.join(format!("{base_offset:020}.log"))
    }

    /// The base offset in a file name, if it is a segment's.
    pub fn parse_name(name: &str) -> Option<i64> {
        let digits = name.strip_suffix(".log")?;
        (digits.len() == 20).then(|| digits.parse().ok()).flatten()
    }

    /// Indexes a sealed segment on first use.
    pub fn index(&mut self) -> io::Result<&Index> {
        if self.index.is_none() {
            let mut index = Index::default();
            let file = File::open(&self.path)?;
            scan(&file, 0, self.bytes, Check::Headers, |header, _, position| {
                index.push(header, position);
                Ok(())
            })?;
            self.index = Some(index);
        }
        Ok(self.index.as_ref().expect("filled above"))
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
        let chunk = read(file, position, read_bytes.min(left))?;
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

/// Up to `bytes` from `position`, fewer at the end of the file; never zeroes memory first.
pub fn read(file: &File, position: u64, bytes: usize) -> io::Result<Bytes> {
    let mut buffer: Vec<u8> = Vec::with_capacity(bytes);
    while buffer.len() < bytes && buffer.capacity() > buffer.len() {
        let at = position + buffer.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut buffer), at) {
            Ok(0) => break,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
    buffer.truncate(bytes);
    Ok(Bytes::from(buffer))
}
