//! Reading a partition's log: by offset, by time.

use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use disk::{File, Open};
use kafka_wire::record_batch::{BatchHeader, batches};

use crate::limits::{
    BATCH_HEADER_BYTES, FETCH_PARTITION_BYTES_MAX, INDEX_INTERVAL_BYTES, LOOKUP_DECOMPRESSED_BYTES_MAX,
};
use crate::storage::log::format::{Check, Peek, scan};
use crate::storage::log::{LogError, PartitionLog, io_error};

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub offset: i64,
    pub timestamp_ms: i64,
}

impl PartitionLog {
    /// Whole batches from the one that holds `offset`, of those that end before `limit_offset`, up to `bytes_max` but
    /// at least one.
    ///
    /// Cost: one `pread` of what is asked for plus at most 16 KiB, and a walk over the headers.
    pub fn read(&mut self, offset: i64, limit_offset: i64, bytes_max: usize) -> Result<Bytes, LogError> {
        self.check_range(offset)?;
        if offset >= limit_offset {
            return Ok(Bytes::new());
        }
        let bytes_max = bytes_max.min(FETCH_PARTITION_BYTES_MAX);
        let at = self.segment_of(offset);
        let file = self.file_of(at)?;
        let segment = &mut self.segments[at];
        let path = segment.path.clone();
        let position = segment.index(&*self.disk).map_err(|err| io_error("index", &path, err))?.floor(offset);
        let segment_bytes = segment.bytes;
        let read = |position: u64, bytes: usize| {
            let left = usize::try_from(segment_bytes.saturating_sub(position)).unwrap_or(usize::MAX);
            self.disk.read(&file, position, bytes.min(left)).map_err(|err| io_error("read", &path, err))
        };
        let window = bytes_max + INDEX_INTERVAL_BYTES as usize;
        let mut chunk = read(position, window)?;
        let mut chunk_position = position;

        let mut first = None;
        let mut end = 0;
        let mut walked = 0;
        loop {
            let ahead = chunk.len().saturating_sub(walked);
            if first.is_none() && ahead < BATCH_HEADER_BYTES && chunk_position + (walked as u64) < segment_bytes {
                // The window ends within the header we look for, or within the batch before it.
                chunk_position += walked as u64;
                walked = 0;
                chunk = read(chunk_position, window)?;
                if chunk.len() < BATCH_HEADER_BYTES {
                    return Err(LogError::Damaged { path, offset });
                }
            }
            let Some(peek) = chunk.get(walked..).and_then(Peek::at) else { break };
            if peek.last_offset >= limit_offset {
                break;
            }
            if peek.last_offset < offset {
                walked += peek.bytes;
                continue;
            }
            if first.is_none() && walked + peek.bytes > chunk.len() {
                // The first batch alone is larger than what was asked for.
                chunk_position += walked as u64;
                walked = 0;
                chunk = read(chunk_position, peek.bytes)?;
                if chunk.len() < peek.bytes {
                    return Err(LogError::Damaged { path, offset: peek.base_offset });
                }
            }
            let begin = *first.get_or_insert(walked);
            if walked + peek.bytes > chunk.len() || (end > begin && walked + peek.bytes - begin > bytes_max) {
                break;
            }
            walked += peek.bytes;
            end = walked;
        }
        Ok(first.map_or_else(Bytes::new, |begin| chunk.slice(begin..end.max(begin))))
    }

    /// The first record at or after `timestamp_ms`, among those before `limit_offset`. Adds the records it had to look
    /// through, decompressed, to `opened_bytes`.
    pub fn find_timestamp(
        &mut self,
        timestamp_ms: i64,
        limit_offset: i64,
        opened_bytes: &mut usize,
    ) -> Result<Option<Found>, LogError> {
        for at in 0..self.segments.len() {
            let segment = &mut self.segments[at];
            let path = segment.path.clone();
            let index = segment.index(&*self.disk).map_err(|err| io_error("index", &path, err))?;
            let Some(position) = index.floor_of_timestamp(timestamp_ms) else { continue };
            let start_offset = self.start_offset;
            let mut found = None;
            self.visit(at, position, |header, bytes| {
                if header.max_timestamp_ms < timestamp_ms || header.last_offset() < start_offset {
                    return Ok(true);
                }
                let keep = |record: &Found| record.timestamp_ms >= timestamp_ms && record.offset >= start_offset;
                found = records_of(bytes, opened_bytes)?.into_iter().find(keep);
                Ok(found.is_none())
            })?;
            if let Some(found) = found {
                return Ok((found.offset < limit_offset).then_some(found));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp, among those before `limit_offset`; otherwise as `find_timestamp`.
    pub fn find_max_timestamp(
        &mut self,
        limit_offset: i64,
        opened_bytes: &mut usize,
    ) -> Result<Option<Found>, LogError> {
        let mut largest = None;
        for at in 0..self.segments.len() {
            largest = largest.max(self.largest_timestamp_in(at, limit_offset, opened_bytes)?);
        }
        match largest {
            Some(timestamp_ms) => self.find_timestamp(timestamp_ms, limit_offset, opened_bytes),
            None => Ok(None),
        }
    }

    /// The largest timestamp of a segment's records that can be read.
    fn largest_timestamp_in(
        &mut self,
        at: usize,
        limit_offset: i64,
        opened_bytes: &mut usize,
    ) -> Result<Option<i64>, LogError> {
        let start_offset = self.start_offset;
        let end_offset = self.segments.get(at + 1).map_or(self.end_offset, |next| next.base_offset);
        let segment = &mut self.segments[at];
        if segment.base_offset >= start_offset && end_offset <= limit_offset {
            let path = segment.path.clone();
            return Ok(segment.index(&*self.disk).map_err(|err| io_error("index", &path, err))?.timestamp_ms_max());
        }
        let mut largest = None;
        self.visit(at, 0, |header, bytes| {
            if header.base_offset >= limit_offset {
                return Ok(false);
            }
            if header.base_offset >= start_offset {
                largest = largest.max(Some(header.max_timestamp_ms));
            } else if header.last_offset() >= start_offset {
                let kept = records_of(bytes, opened_bytes)?.into_iter().filter(|record| record.offset >= start_offset);
                largest = largest.max(kept.map(|record| record.timestamp_ms).max());
            }
            Ok(true)
        })?;
        Ok(largest.filter(|timestamp_ms| *timestamp_ms >= 0))
    }

    fn segment_of(&self, offset: i64) -> usize {
        self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }

    /// The active segment's file is open, mostly; a sealed one is opened.
    fn file_of(&self, at: usize) -> Result<File, LogError> {
        match self.active.as_ref().filter(|_| at + 1 == self.segments.len()) {
            Some(target) => Ok(target.file().clone()),
            None => {
                let path = &self.segments[at].path;
                self.disk.open(path, Open::Existing).map_err(|err| io_error("open", path, err))
            }
        }
    }

    fn visit(
        &self,
        at: usize,
        position: u64,
        mut visit: impl FnMut(&BatchHeader, &Bytes) -> Result<bool, LogError>,
    ) -> Result<(), LogError> {
        let file = self.file_of(at)?;
        let segment = &self.segments[at];
        let mut stopped = Ok(());
        let scanned =
            scan(&*self.disk, &file, position, segment.bytes, Check::Headers, |header, bytes, _| {
                match visit(header, bytes) {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(io::ErrorKind::Other.into()),
                    Err(err) => {
                        stopped = Err(err);
                        Err(io::ErrorKind::Other.into())
                    }
                }
            });
        match scanned {
            Err(err) if err.kind() != io::ErrorKind::Other => Err(io_error("read", &segment.path, err)),
            _ => stopped,
        }
    }
}

fn records_of(bytes: &Bytes, opened_bytes: &mut usize) -> Result<Vec<Found>, LogError> {
    let mut found = Vec::new();
    for batch in batches(bytes.clone()) {
        let damaged = |offset| LogError::Damaged { path: PathBuf::new(), offset };
        let batch = batch.map_err(|_| damaged(-1))?;
        let base_offset = batch.header.base_offset;
        let records = batch.records(LOOKUP_DECOMPRESSED_BYTES_MAX).map_err(|_| damaged(base_offset))?;
        *opened_bytes += records.body_bytes();
        for record in records {
            let record = record.map_err(|_| damaged(base_offset))?;
            found.push(Found { offset: record.offset, timestamp_ms: record.timestamp_ms });
        }
    }
    Ok(found)
}
