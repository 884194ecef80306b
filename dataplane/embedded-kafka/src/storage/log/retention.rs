//! Which records a partition keeps, and when files of forgotten ones go.
//!
//! Forgetting is two steps, for retention and DeleteRecords alike: the later start becomes durable in the catalogue
//! ([`PartitionLog::forget_before`] is told at which point), then files that lie before it are removed. A power cut
//! between the two leaves files that the next start removes; files never go first, or a cut could bring back some of a
//! partition's segments and not others.
//!
//! A segment is as old as the largest timestamp in it, as in Kafka; where no record says when it is from, as old as its
//! last append.

use std::io;

use disk::Open;
use tracing::{debug, warn};

use crate::storage::log::format::{read_snapshot, snapshot_path};
use crate::storage::log::{LogError, LogOptions, PartitionLog, io_error};
use crate::storage::producers::Producers;
use crate::storage::syncer::{SyncPoint, SyncState};

impl PartitionLog {
    /// Where the log should begin by its options; the active segment is sealed when it is too old. Up to `limit_offset`,
    /// the end of what is durable. None: where it begins now.
    pub fn start_by_retention(
        &mut self,
        options: &LogOptions,
        limit_offset: i64,
        producers: &Producers,
        now_ms: i64,
    ) -> Result<Option<i64>, LogError> {
        let mut start = self.start_offset();
        let mut bytes = self.bytes();
        for at in 0.. {
            let Some(oldest) = self.segments.get_mut(at).filter(|segment| segment.bytes > 0) else { break };
            let path = oldest.path.clone();
            let oldest_bytes = oldest.bytes;
            let over_size = options.retention_bytes.is_some_and(|keep| bytes - oldest_bytes >= keep.max(1));
            let over_age = match options.retention_ms {
                None => false,
                Some(keep_ms) => {
                    let index = oldest.index(&*self.disk).map_err(|err| io_error("index", &path, err))?;
                    let newest_ms = index.timestamp_ms_max();
                    newest_ms.unwrap_or(oldest.appended_ms).saturating_add(keep_ms) < now_ms
                }
            };
            if !over_size && !over_age {
                break;
            }
            if at + 1 == self.segments.len() {
                if !over_age || self.end_offset() > limit_offset || self.is_poisoned() {
                    break;
                }
                self.roll(producers, now_ms)?;
            }
            start = start.max(self.segments[at + 1].base_offset);
            bytes -= oldest_bytes;
        }
        Ok((start > self.start_offset()).then_some(start))
    }

    /// Whether a log may begin at this offset: not before its start, not behind its end.
    pub fn check_start(&self, offset: i64) -> Result<(), LogError> {
        self.check_range(offset)
    }

    /// Begins later from now on. Files go when `point`, at which the catalogue knows, is durable; None: it knows already.
    pub fn forget_before(&mut self, offset: i64, point: Option<SyncPoint>) {
        assert!(offset <= self.end_offset(), "checked before it was written down: {offset} > {}", self.end_offset());
        self.start_offset = self.start_offset.max(offset);
        self.start_point = point;
        self.remove_forgotten();
    }

    /// Removes files of forgotten records, if that may be done by now.
    pub fn remove_forgotten(&mut self) {
        match self.start_point.as_ref().map(SyncPoint::state) {
            Some(SyncState::Pending | SyncState::Failed) => return,
            Some(SyncState::Durable) => self.start_point = None,
            None => {}
        }
        let is_forgotten =
            |log: &PartitionLog| log.segments.get(1).is_some_and(|next| next.base_offset <= log.start_offset);
        if !is_forgotten(self) {
            return;
        }
        // Whoever wrote into the segments that go must be known without them.
        if let Err(err) = self.persist_last_snapshot() {
            debug!(dir = %self.dir.display(), %err, "old segments stay until their producers' state is durable");
            return;
        }
        while is_forgotten(self) {
            let gone = self.segments.remove(0);
            if let Err(err) = self.disk.remove(&gone.path) {
                warn!(path = %gone.path.display(), %err, "an old segment cannot be removed, the next start tries again");
            }
            let _ = self.disk.remove(&snapshot_path(&self.dir, gone.base_offset));
        }
    }
    fn persist_last_snapshot(&self) -> io::Result<()> {
        let last = self.segments.last().expect("something is forgotten before it");
        if read_snapshot(&*self.disk, &self.dir, last.base_offset).is_none() {
            return Err(io::Error::other("it was not written when the segment was begun; the next one's will do"));
        }
        let file = self.disk.open(&snapshot_path(&self.dir, last.base_offset), Open::Existing)?;
        self.disk.persist(&file, 0)?;
        self.disk.persist_dir(&self.dir)
    }
}
