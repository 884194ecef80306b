//! The log of one partition: segments in a directory, written at the end, read anywhere.
//!
//! ```text
//! logs/<topic id>-<partition>/00000000000000000000.log        sealed
//!                             00000000000000001742.log        active: the only one written
//!                             00000000000000001742.producers  idempotence state before the active segment
//! ```
//!
//! `format.rs` knows the bytes, `recovery.rs` opens, `retention.rs` forgets, `lookup.rs` reads. Here it is written. The
//! directory appears with the first append. Writes go to the page cache, one vectored write per batch; the caller asks
//! the syncer for durability.
//!
//! Invariants:
//! - A segment is sealed only after it was persisted, so a torn batch can only be in the last file, and recovery checks
//!   only that one.
//! - Batches are contiguous: each begins with the offset behind the one before it.
//! - A failed append leaves the file as it was, or the log refuses to go on.

mod format;
mod lookup;
mod recovery;
mod retention;
mod segment;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, Open};
use kafka_wire::record_batch::BatchHeader;
use tracing::warn;

use crate::clock::Now;
use crate::limits::{BATCH_HEADER_BYTES, FILE_IDLE, LEADER_EPOCH};
use crate::storage::producers::{Producers, Stamp};
use crate::storage::syncer::{SyncPoint, SyncState, SyncTarget};
use format::{segment_path, write_snapshot};
use segment::{Index, Segment};

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

/// One partition's log.
pub struct PartitionLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Ascending; the last is the active one. Empty until the first append.
    segments: Vec<Segment>,
    /// The active segment's file; closed while idle.
    active: Option<Rc<SyncTarget>>,
    start_offset: i64,
    /// When `start_offset` is durable in the catalogue; None: it is.
    start_point: Option<SyncPoint>,
    end_offset: i64,
    poisoned: Option<String>,
    /// Both the log directory and its parent gained names that are not durable yet.
    new_dirs: Vec<PathBuf>,
    /// When the partition itself is durable in the catalogue; None: it is.
    exists: Option<SyncPoint>,
    written: Option<Now>,
}

impl PartitionLog {
    /// Opens what is there, checks the last segment batch by batch, cuts a torn tail, rebuilds the producers. Everything
    /// in it is durable then. `exists`: the point at which the catalogue's word that there is this partition is durable.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        start_offset: i64,
        exists: Option<SyncPoint>,
        now_ms: i64,
    ) -> Result<(PartitionLog, Producers), LogError> {
        let mut log = PartitionLog {
            disk,
            dir,
            segments: Vec::new(),
            active: None,
            start_offset,
            start_point: None,
            end_offset: start_offset,
            poisoned: None,
            new_dirs: Vec::new(),
            exists,
            written: None,
        };
        let producers = log.recover(now_ms)?;
        Ok((log, producers))
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
        batch: &Bytes,
        header: &BatchHeader,
        options: &LogOptions,
        producers: &Producers,
        now: Now,
    ) -> Result<i64, LogError> {
        self.refuse_if_poisoned()?;
        assert!(batch.len() >= BATCH_HEADER_BYTES, "the caller validated the batch");
        let full = self
            .segments
            .last()
            .is_some_and(|active| active.bytes > 0 && active.bytes + batch.len() as u64 > options.segment_bytes);
        if self.segments.is_empty() {
            self.roll_to(self.end_offset, now.ms)?;
        } else if full {
            self.roll(producers, now.ms)?;
        }
        let target = self.open_active()?;
        let base_offset = self.end_offset;
        let active = self.segments.last_mut().expect("rolled above");

        let mut head: [u8; BATCH_HEADER_BYTES] = batch[..BATCH_HEADER_BYTES].try_into().expect("long enough");
        kafka_wire::record_batch::patch_base_offset(&mut head, base_offset, LEADER_EPOCH);
        let (head, body) = (Bytes::copy_from_slice(&head), batch.slice(BATCH_HEADER_BYTES..));
        if let Err(err) = self.disk.write_all(target.file(), head, body, active.bytes) {
            if let Err(err) = self.disk.truncate(target.file(), active.bytes) {
                self.poisoned = Some(format!("half a batch could not be taken back: {err}"));
            }
            return Err(io_error("append to", target.file().path(), err));
        }
        let stored = BatchHeader { base_offset, ..*header };
        active.index.get_or_insert_with(Index::default).push(&stored, active.bytes);
        active.bytes += batch.len() as u64;
        active.appended_ms = now.ms;
        target.note_length(active.bytes);
        self.end_offset = stored.last_offset() + 1;
        self.written = Some(now);
        Ok(base_offset)
    }

    /// The file whose sync makes the last append durable.
    pub fn sync_target(&self) -> Option<&Rc<SyncTarget>> {
        self.active.as_ref()
    }

    /// No append succeeds any more; reading goes on.
    pub fn poison(&mut self, why: &str) {
        self.poisoned.get_or_insert_with(|| why.to_owned());
    }

    /// Gives the file handle of an idle, durable log back.
    pub fn close_if_idle(&mut self, now: Now) {
        let idle = self.written.is_none_or(|written| now.at.saturating_duration_since(written.at) >= FILE_IDLE);
        if idle && self.active.as_ref().is_some_and(|target| target.is_clean() && !target.has_failed()) {
            self.active = None;
        }
    }

    /// Removes the files; the topic is gone, durably.
    pub fn remove(self) {
        remove_dir(&*self.disk, &self.dir);
    }

    fn check_range(&self, offset: i64) -> Result<(), LogError> {
        let (start, end) = (self.start_offset, self.end_offset);
        if offset < start || offset > end {
            return Err(LogError::OutOfRange { offset, start, end });
        }
        Ok(())
    }

    fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    fn refuse_if_poisoned(&mut self) -> Result<(), LogError> {
        if self.poisoned.is_none() && self.active.as_ref().is_some_and(|target| target.has_failed()) {
            self.poisoned = Some("an fsync failed".to_owned());
        }
        if self.exists.as_ref().is_some_and(|exists| exists.state() == SyncState::Failed) {
            self.poison("its topic did not become durable");
        }
        match &self.poisoned {
            Some(why) => Err(LogError::Poisoned { path: self.dir.clone(), why: why.clone() }),
            None => Ok(()),
        }
    }

    /// Seals the active segment and begins the next at the end offset.
    fn roll(&mut self, producers: &Producers, now_ms: i64) -> Result<(), LogError> {
        let target = self.open_active()?;
        target.sync_now(&*self.disk).map_err(|err| io_error("sync", target.file().path(), err))?;
        write_snapshot(&*self.disk, &self.dir, self.end_offset, producers);
        self.roll_to(self.end_offset, now_ms)
    }

    fn roll_to(&mut self, base_offset: i64, now_ms: i64) -> Result<(), LogError> {
        match self.disk.make_dir(&self.dir) {
            Ok(()) => self.new_dirs.extend(self.dir.parent().map(Path::to_owned)),
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {}
            Err(err) => return Err(io_error("create", &self.dir, err)),
        }
        let path = segment_path(&self.dir, base_offset);
        // Emptied: a leftover of that name holds nothing that was ever acknowledged.
        self.disk.open(&path, Open::Empty).map_err(|err| io_error("create", &path, err))?;
        if !self.new_dirs.contains(&self.dir) {
            self.new_dirs.push(self.dir.clone());
        }
        let index = Some(Index::default());
        self.segments.push(Segment { base_offset, path, bytes: 0, appended_ms: now_ms, index });
        self.active = None;
        self.end_offset = base_offset;
        Ok(())
    }

    fn open_active(&mut self) -> Result<Rc<SyncTarget>, LogError> {
        if let Some(target) = &self.active {
            return Ok(Rc::clone(target));
        }
        let active = self.segments.last().expect("callers roll before they open");
        let file = self.disk.open(&active.path, Open::Existing).map_err(|err| io_error("open", &active.path, err))?;
        let new_dirs = std::mem::take(&mut self.new_dirs);
        let target = SyncTarget::new(file, active.bytes, new_dirs, self.exists.clone());
        self.active = Some(Rc::clone(&target));
        Ok(target)
    }
}

/// Removes a partition's directory with everything in it.
pub fn remove_dir(disk: &dyn Disk, dir: &Path) {
    let removed = disk.list(dir).and_then(|entries| {
        entries.iter().try_for_each(|entry| disk.remove(&dir.join(&entry.name)))?;
        disk.remove_dir(dir)
    });
    match removed {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            warn!(dir = %dir.display(), %err, "a deleted partition's directory remains until the next start");
        }
        _ => {}
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

fn io_error(doing: &'static str, path: &Path, err: io::Error) -> LogError {
    LogError::Io { doing, path: path.to_owned(), err }
}
