//! One segment file of a partition: contiguous record batches, named by the offset of the first.
//!
//! The index is sparse and lives in memory only: one entry per 16 KiB of log. A sealed segment is indexed when it is
//! first read.

use std::io;
use std::path::PathBuf;

use disk::{Disk, Open};
use kafka_wire::record_batch::BatchHeader;

use crate::limits::INDEX_INTERVAL_BYTES;
use crate::storage::log::format::{Check, scan};

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

    /// Largest timestamp of the segment; None when it has no batch, or none that says when it is from.
    pub fn timestamp_ms_max(&self) -> Option<i64> {
        (!self.entries.is_empty() && self.timestamp_ms_max >= 0).then_some(self.timestamp_ms_max)
    }
}

/// A segment as the log keeps it.
#[derive(Debug)]
pub struct Segment {
    pub base_offset: i64,
    pub path: PathBuf,
    /// File length up to which batches are whole.
    pub bytes: u64,
    /// When it was last appended to, epoch ms.
    pub appended_ms: i64,
    /// None: sealed, and not read since start.
    pub index: Option<Index>,
}

impl Segment {
    /// Indexes a sealed segment on first use.
    pub fn index(&mut self, disk: &dyn Disk) -> io::Result<&Index> {
        if self.index.is_none() {
            let mut index = Index::default();
            let file = disk.open(&self.path, Open::Existing)?;
            scan(disk, &file, 0, self.bytes, Check::Headers, |header, _, position| {
                index.push(header, position);
                Ok(())
            })?;
            self.index = Some(index);
        }
        Ok(self.index.as_ref().expect("filled above"))
    }
}
