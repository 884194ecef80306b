//! The log of one partition: segments in a directory, written at the end, read anywhere.
//!
//! ```text
//! logs/<topic id>-<partition>/00000000000000000000.log        sealed
//!                             00000000000000001742.log        active: the only one written
//!                             00000000000000001742.producers  idempotence state before the active segment
//! ```
//!
//! The directory appears with the first append. Writes go to the page cache with one `pwritev` per batch; the caller
//! asks the syncer for durability.
//!
//! Invariants:
//! - A segment is sealed only after its fdatasync, so a torn batch can only be in the last file, and recovery checks
//!   only that one.
//! - Batches are contiguous: each begins with the offset behind the one before it.
//! - A failed append leaves the file as it was, or the log refuses to go on.

pub mod segment;

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_wire::record_batch::{BatchHeader, batches};
use tracing::{info, warn};

use crate::hooks::Hooks;
use crate::limits::{
    BATCH_HEADER_BYTES, FETCH_PARTITION_BYTES_MAX, FILE_IDLE, INDEX_INTERVAL_BYTES, LEADER_EPOCH,
    LOOKUP_DECOMPRESSED_BYTES_MAX,
};
use crate::log::segment::{Check, Index, Peek, Segment, read, scan};
use crate::producers::{Producers, Stamp};
use crate::syncer::SyncTarget;

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {doing} {path:?}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("offset {offset} is outside of {start}..={end}")]
    OutOfRange { offset: i64, start: i64, end: i64 },
    #[error("log {path:?} takes no more writes: {why}")]
    Poisoned { path: PathBuf, why: String },
    #[error("batch in {path:?} at offset {offset} cannot be read")]
    Damaged { path: PathBuf, offset: i64 },
}

/// When to begin a new segment and when to forget old ones; taken from the topic's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    pub segment_bytes: u64,
    /// None: unlimited.
    pub retention_bytes: Option<u64>,
    /// None: for ever.
    pub retention_ms: Option<i64>,
}

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub offset: i64,
    pub timestamp_ms: i64,
}

/// One partition's log.
pub struct PartitionLog {
    dir: PathBuf,
    /// Ascending; the last is the active one. Empty until the first append.
    segments: Vec<Segment>,
    /// The active segment's file; closed while idle.
    active: Option<Arc<SyncTarget>>,
    start_offset: i64,
    end_offset: i64,
    poisoned: Option<String>,
    /// Both the log directory and its parent gained names that are not durable yet.
    new_dirs: Vec<PathBuf>,
    written_at: Option<Instant>,
}

impl PartitionLog {
    /// Opens what is there, checks the last segment batch by batch, cuts a torn tail, rebuilds the producers.
    pub fn open(dir: PathBuf, start_offset: i64, now_ms: i64) -> Result<(PartitionLog, Producers), LogError> {
        let mut log = PartitionLog {
            dir,
            segments: Vec::new(),
            active: None,
            start_offset,
            end_offset: start_offset,
            poisoned: None,
            new_dirs: Vec::new(),
            written_at: None,
        };
        let mut names = match fs::read_dir(&log.dir) {
            Ok(entries) => entries
                .filter_map(|entry| entry.ok()?.file_name().to_str().and_then(Segment::parse_name))
                .collect::<Vec<i64>>(),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(err) => return Err(LogError::Io { doing: "list", path: log.dir, err }),
        };
        names.sort_unstable();
        for base_offset in &names {
            let path = Segment::path(&log.dir, *base_offset);
            let bytes = fs::metadata(&path).map_err(|err| io_error("look at", &path, err))?.len();
            log.segments.push(Segment { base_offset: *base_offset, path, bytes, index: None });
        }
        let producers = log.recover(now_ms)?;
        Ok((log, producers))
    }

    fn recover(&mut self, now_ms: i64) -> Result<Producers, LogError> {
        let Some(last) = self.segments.len().checked_sub(1) else { return Ok(Producers::default()) };
        let snapshot = read_snapshot(&self.dir, self.segments[last].base_offset);
        // Without a snapshot of the last segment's beginning, every segment is read for its producers.
        let (first_read, mut producers) = match snapshot {
            Some(producers) => (last, producers),
            None => (0, Producers::default()),
        };
        for at in first_read..=last {
            let segment = &mut self.segments[at];
            let mut index = Index::default();
            let mut end_offset = segment.base_offset;
            let file = File::options()
                .read(true)
                .write(true)
                .open(&segment.path)
                .map_err(|err| io_error("open", &segment.path, err))?;
            let check = match at == last {
                true => Check::Everything { first_offset: segment.base_offset },
                false => Check::Headers,
            };
            let good = scan(&file, 0, segment.bytes, check, |header, _, position| {
                index.push(header, position);
                producers.record(&stamp_of(header), header.base_offset, now_ms);
                end_offset = header.last_offset() + 1;
                Ok(())
            })
            .map_err(|err| io_error("read", &segment.path, err))?;
            if good < segment.bytes {
                if at != last {
                    return Err(LogError::Damaged { path: segment.path.clone(), offset: end_offset });
                }
                warn!(path = %segment.path.display(), kept = good, cut = segment.bytes - good, "cut a torn batch");
                file.set_len(good).map_err(|err| io_error("truncate", &segment.path, err))?;
                file.sync_all().map_err(|err| io_error("sync", &segment.path, err))?;
                segment.bytes = good;
            }
            segment.index = Some(index);
            self.end_offset = end_offset;
        }
        self.start_offset = self.start_offset.max(self.segments[0].base_offset);
        if self.end_offset < self.start_offset {
            // Records before `start_offset` were deleted on request, and the log behind it was cut: go on from there.
            self.roll_to(self.start_offset)?;
        }
        Ok(producers)
    }

    /// First offset that can be read.
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// Offset the next record will have.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Appends one validated batch under the next offsets and returns its base offset. Written, not yet durable: ask
    /// the syncer for `sync_target`. `header` is the batch's own; only base offset and leader epoch are replaced,
    /// which the CRC does not cover.
    pub fn append(
        &mut self,
        batch: &[u8],
        header: &BatchHeader,
        options: &LogOptions,
        producers: &Producers,
        hooks: &Hooks,
        now: Instant,
    ) -> Result<i64, LogError> {
        self.refuse_if_poisoned()?;
        assert!(batch.len() >= BATCH_HEADER_BYTES, "the caller validated the batch");
        let full = self
            .segments
            .last()
            .is_some_and(|active| active.bytes > 0 && active.bytes + batch.len() as u64 > options.segment_bytes);
        if self.segments.is_empty() {
            self.roll_to(self.end_offset)?;
        } else if full {
            self.roll(producers, hooks)?;
        }
        let target = self.open_active()?;
        let base_offset = self.end_offset;
        let active = self.segments.last_mut().expect("rolled above");

        let (head, body) = batch.split_at(BATCH_HEADER_BYTES);
        let mut head: [u8; BATCH_HEADER_BYTES] = head.try_into().expect("split there");
        kafka_wire::record_batch::patch_base_offset(&mut head, base_offset, LEADER_EPOCH);
        if let Err(err) = write_all(target.file(), &head, body, active.bytes) {
            if let Err(err) = target.file().set_len(active.bytes) {
                self.poisoned = Some(format!("half a batch could not be taken back: {err}"));
            }
            return Err(io_error("append to", target.path(), err));
        }
        let stored = BatchHeader { base_offset, ..*header };
        active.index.get_or_insert_with(Index::default).push(&stored, active.bytes);
        active.bytes += batch.len() as u64;
        self.end_offset = stored.last_offset() + 1;
        self.written_at = Some(now);
        Ok(base_offset)
    }

    /// The file whose sync makes the last append durable.
    pub fn sync_target(&self) -> Option<&Arc<SyncTarget>> {
        self.active.as_ref()
    }

    /// No append succeeds any more; reading goes on.
    pub fn poison(&mut self, why: &str) {
        self.poisoned.get_or_insert_with(|| why.to_owned());
    }

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
        let open_file = (at + 1 == self.segments.len()).then(|| self.active.clone()).flatten();
        let segment = &mut self.segments[at];
        let path = segment.path.clone();
        let position = segment.index().map_err(|err| io_error("index", &path, err))?.floor(offset);
        let segment_bytes = segment.bytes;
        let sealed;
        let file = match &open_file {
            Some(target) => target.file(),
            None => {
                sealed = File::open(&path).map_err(|err| io_error("open", &path, err))?;
                &sealed
            }
        };
        let ahead = usize::try_from(segment_bytes - position).unwrap_or(usize::MAX);
        let wanted = (bytes_max + INDEX_INTERVAL_BYTES as usize).min(ahead);
        let mut chunk = read(file, position, wanted).map_err(|err| io_error("read", &path, err))?;
        let mut chunk_position = position;

        let mut first = None;
        let mut end = 0;
        let mut walked = 0;
        loop {
            let Some(peek) = Peek::at(&chunk[walked..]) else {
                let at = chunk_position + walked as u64;
                if first.is_some() || walked == 0 || at + BATCH_HEADER_BYTES as u64 > segment_bytes {
                    break;
                }
                // Little was asked for, and what was read ends within the header of the first batch.
                (chunk_position, walked) = (at, 0);
                let wanted = (bytes_max + INDEX_INTERVAL_BYTES as usize).min((segment_bytes - at) as usize);
                chunk = read(file, at, wanted).map_err(|err| io_error("read", &path, err))?;
                continue;
            };
            if peek.last_offset >= limit_offset {
                break;
            }
            if peek.last_offset < offset {
                walked += peek.bytes;
                if walked > chunk.len() {
                    return Err(LogError::Damaged { path, offset: peek.base_offset });
                }
                continue;
            }
            if first.is_none() && walked + peek.bytes > chunk.len() {
                // The first batch alone is larger than what was asked for.
                chunk_position += walked as u64;
                walked = 0;
                chunk = read(file, chunk_position, peek.bytes).map_err(|err| io_error("read", &path, err))?;
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

    /// The first record at or after `timestamp_ms`, among those before `limit_offset`.
    pub fn find_timestamp(&mut self, timestamp_ms: i64, limit_offset: i64) -> Result<Option<Found>, LogError> {
        for at in 0..self.segments.len() {
            let segment = &mut self.segments[at];
            let path = segment.path.clone();
            let index = segment.index().map_err(|err| io_error("index", &path, err))?;
            let Some(position) = index.floor_of_timestamp(timestamp_ms) else { continue };
            let start_offset = self.start_offset;
            let mut found = None;
            self.visit(at, position, |header, bytes| {
                if header.max_timestamp_ms < timestamp_ms || header.last_offset() < start_offset {
                    return Ok(true);
                }
                let keep = |record: &Found| record.timestamp_ms >= timestamp_ms && record.offset >= start_offset;
                found = records_of(bytes)?.into_iter().find(keep);
                Ok(found.is_none())
            })?;
            if let Some(found) = found {
                return Ok((found.offset < limit_offset).then_some(found));
            }
        }
        Ok(None)
    }

    /// The first record with the largest timestamp, among those before `limit_offset`.
    pub fn find_max_timestamp(&mut self, limit_offset: i64) -> Result<Option<Found>, LogError> {
        let mut largest = None;
        for at in 0..self.segments.len() {
            let segment = &mut self.segments[at];
            if segment.base_offset < self.start_offset {
                // Its records before the start are deleted, whatever their timestamps.
                largest = largest.max(self.largest_from_start(at)?);
                continue;
            }
            let path = segment.path.clone();
            let index = segment.index().map_err(|err| io_error("index", &path, err))?;
            largest = largest.max(index.timestamp_ms_max());
        }
        match largest {
            Some(timestamp_ms) => self.find_timestamp(timestamp_ms, limit_offset),
            None => Ok(None),
        }
    }

    /// The largest timestamp at or behind the log's start in the segment that holds it.
    fn largest_from_start(&mut self, at: usize) -> Result<Option<i64>, LogError> {
        let start_offset = self.start_offset;
        let segment = &mut self.segments[at];
        let path = segment.path.clone();
        let position = segment.index().map_err(|err| io_error("index", &path, err))?.floor(start_offset);
        let mut largest = None;
        self.visit(at, position, |header, bytes| {
            if header.base_offset >= start_offset {
                largest = largest.max(Some(header.max_timestamp_ms));
            } else if header.last_offset() >= start_offset {
                let kept = records_of(bytes)?.into_iter().filter(|record| record.offset >= start_offset);
                largest = largest.max(kept.map(|record| record.timestamp_ms).max());
            }
            Ok(true)
        })?;
        Ok(largest)
    }

    /// Forgets everything before `offset` (DeleteRecords). The caller makes the new start durable first.
    pub fn delete_before(&mut self, offset: i64) -> Result<(), LogError> {
        self.check_range(offset)?;
        self.start_offset = self.start_offset.max(offset);
        self.drop_segments_before_start();
        Ok(())
    }

    /// Deletes sealed segments that are too old or too many; seals the active one when it is too old. Returns how many
    /// went.
    pub fn enforce_retention(
        &mut self,
        options: &LogOptions,
        limit_offset: i64,
        producers: &Producers,
        hooks: &Hooks,
        now_ms: i64,
    ) -> Result<usize, LogError> {
        let mut gone = 0;
        let mut bytes = self.bytes();
        while let Some(oldest) = self.segments.first_mut() {
            let path = oldest.path.clone();
            let oldest_bytes = oldest.bytes;
            if oldest_bytes == 0 {
                break;
            }
            let over_size = options.retention_bytes.is_some_and(|keep| bytes - oldest_bytes >= keep.max(1));
            let over_age = match options.retention_ms {
                None => false,
                Some(keep_ms) => {
                    let newest = oldest.index().map_err(|err| io_error("index", &path, err))?.timestamp_ms_max();
                    newest.is_some_and(|newest| newest.saturating_add(keep_ms) < now_ms)
                }
            };
            if !over_size && !over_age {
                break;
            }
            if self.segments.len() == 1 {
                if !over_age || self.end_offset > limit_offset || self.poisoned.is_some() {
                    break;
                }
                self.roll(producers, hooks)?;
            }
            self.start_offset = self.start_offset.max(self.segments[1].base_offset);
            bytes -= oldest_bytes;
            gone += 1;
            self.drop_segments_before_start();
        }
        if gone > 0 {
            info!(dir = %self.dir.display(), segments = gone, start = self.start_offset, "retention deleted segments");
        }
        Ok(gone)
    }

    /// Gives the file handle of an idle, durable log back.
    pub fn close_if_idle(&mut self, now: Instant) {
        let idle = self.written_at.is_none_or(|at| now.saturating_duration_since(at) >= FILE_IDLE);
        if idle && self.active.as_ref().is_some_and(|target| target.is_clean() && !target.has_failed()) {
            self.active = None;
        }
    }

    /// Removes the directory; the topic is gone.
    pub fn remove(self) {
        if let Err(err) = fs::remove_dir_all(&self.dir)
            && err.kind() != io::ErrorKind::NotFound
        {
            warn!(dir = %self.dir.display(), %err, "a deleted partition's directory remains until the next start");
        }
    }

    fn check_range(&self, offset: i64) -> Result<(), LogError> {
        let (start, end) = (self.start_offset, self.end_offset);
        if offset < start || offset > end {
            return Err(LogError::OutOfRange { offset, start, end });
        }
        Ok(())
    }

    fn refuse_if_poisoned(&mut self) -> Result<(), LogError> {
        if self.poisoned.is_none() && self.active.as_ref().is_some_and(|target| target.has_failed()) {
            self.poisoned = Some("an fsync failed".to_owned());
        }
        match &self.poisoned {
            Some(why) => Err(LogError::Poisoned { path: self.dir.clone(), why: why.clone() }),
            None => Ok(()),
        }
    }

    fn segment_of(&self, offset: i64) -> usize {
        self.segments.partition_point(|segment| segment.base_offset <= offset).saturating_sub(1)
    }

    /// Seals the active segment and begins the next at the end offset.
    fn roll(&mut self, producers: &Producers, hooks: &Hooks) -> Result<(), LogError> {
        let target = self.open_active()?;
        if let Err(err) = target.sync_now(hooks) {
            self.poisoned = Some("an fsync failed".to_owned());
            return Err(io_error("sync", target.path(), err));
        }
        write_snapshot(&self.dir, self.end_offset, producers);
        self.roll_to(self.end_offset)
    }

    fn roll_to(&mut self, base_offset: i64) -> Result<(), LogError> {
        if !self.dir.exists() {
            fs::create_dir_all(&self.dir).map_err(|err| io_error("create", &self.dir, err))?;
            self.new_dirs.extend(self.dir.parent().map(Path::to_owned));
        }
        let path = Segment::path(&self.dir, base_offset);
        // Truncated: a leftover of that name holds nothing that was ever acknowledged.
        File::create(&path).map_err(|err| io_error("create", &path, err))?;
        if !self.new_dirs.contains(&self.dir) {
            self.new_dirs.push(self.dir.clone());
        }
        self.segments.push(Segment { base_offset, path, bytes: 0, index: Some(Index::default()) });
        self.active = None;
        self.end_offset = base_offset;
        Ok(())
    }

    fn open_active(&mut self) -> Result<Arc<SyncTarget>, LogError> {
        if let Some(target) = &self.active {
            return Ok(Arc::clone(target));
        }
        let active = self.segments.last().expect("callers roll before they open");
        let file = File::options()
            .read(true)
            .write(true)
            .open(&active.path)
            .map_err(|err| io_error("open", &active.path, err))?;
        let target = SyncTarget::new(file, active.path.clone(), std::mem::take(&mut self.new_dirs));
        self.active = Some(Arc::clone(&target));
        Ok(target)
    }

    fn drop_segments_before_start(&mut self) {
        while self.segments.len() > 1 && self.segments[1].base_offset <= self.start_offset {
            let gone = self.segments.remove(0);
            if let Err(err) = fs::remove_file(&gone.path) {
                warn!(path = %gone.path.display(), %err, "cannot delete an old segment");
            }
            let _ = fs::remove_file(gone.path.with_extension("producers"));
        }
    }

    fn visit(
        &self,
        at: usize,
        position: u64,
        mut visit: impl FnMut(&BatchHeader, &Bytes) -> Result<bool, LogError>,
    ) -> Result<(), LogError> {
        let segment = &self.segments[at];
        let file = File::open(&segment.path).map_err(|err| io_error("open", &segment.path, err))?;
        let mut stopped = Ok(());
        let scanned =
            scan(&file, position, segment.bytes, Check::Headers, |header, bytes, _| match visit(header, bytes) {
                Ok(true) => Ok(()),
                Ok(false) => Err(io::ErrorKind::Other.into()),
                Err(err) => {
                    stopped = Err(err);
                    Err(io::ErrorKind::Other.into())
                }
            });
        match scanned {
            Err(err) if err.kind() != io::ErrorKind::Other => Err(io_error("read", &segment.path, err)),
            _ => stopped,
        }
    }
}

/// What idempotence needs of a header.
pub fn stamp_of(header: &BatchHeader) -> Stamp {
    Stamp {
        producer_id: header.producer_id,
        epoch: header.producer_epoch,
        base_sequence: header.base_sequence,
        last_offset_delta: header.last_offset_delta,
        max_timestamp_ms: header.max_timestamp_ms,
    }
}

fn records_of(bytes: &Bytes) -> Result<Vec<Found>, LogError> {
    let mut found = Vec::new();
    for batch in batches(bytes.clone()) {
        let damaged = |offset| LogError::Damaged { path: PathBuf::new(), offset };
        let batch = batch.map_err(|_| damaged(-1))?;
        let base_offset = batch.header.base_offset;
        for record in batch.records(LOOKUP_DECOMPRESSED_BYTES_MAX).map_err(|_| damaged(base_offset))? {
            let record = record.map_err(|_| damaged(base_offset))?;
            found.push(Found { offset: record.offset, timestamp_ms: record.timestamp_ms });
        }
    }
    Ok(found)
}

fn write_all(file: &File, head: &[u8], body: &[u8], position: u64) -> io::Result<()> {
    let total = head.len() + body.len();
    let mut written = 0;
    while written < total {
        let head_left = head.get(written..).unwrap_or(&[]);
        let body_left = &body[written.saturating_sub(head.len())..];
        let pieces = [IoSlice::new(head_left), IoSlice::new(body_left)];
        match rustix::io::pwritev(file, &pieces, position + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => written += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(())
}

fn snapshot_path(dir: &Path, base_offset: i64) -> PathBuf {
    Segment::path(dir, base_offset).with_extension("producers")
}

/// Not synced: a snapshot that is missing or does not match its checksum costs a longer recovery, nothing else.
fn write_snapshot(dir: &Path, base_offset: i64, producers: &Producers) {
    let body = producers.encode();
    let mut content = crc32c::crc32c(&body).to_le_bytes().to_vec();
    content.extend_from_slice(&body);
    let path = snapshot_path(dir, base_offset);
    if let Err(err) = fs::write(&path, &content) {
        warn!(path = %path.display(), %err, "no producer snapshot, the next recovery reads the whole log");
    }
}

fn read_snapshot(dir: &Path, base_offset: i64) -> Option<Producers> {
    if base_offset == 0 {
        return Some(Producers::default());
    }
    let content = fs::read(snapshot_path(dir, base_offset)).ok()?;
    let (crc, body) = content.split_first_chunk::<4>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*crc)).then(|| Producers::decode(body).ok()).flatten()
}

fn io_error(doing: &'static str, path: &Path, err: io::Error) -> LogError {
    LogError::Io { doing, path: path.to_owned(), err }
}

#[cfg(test)]
mod tests;
