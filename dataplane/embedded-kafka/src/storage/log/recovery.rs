//! Opening a partition's log after anything: a clean end, a kill, a power cut.
//!
//! A segment is sealed only after it was persisted, so only the last one can be torn; it is checked batch by batch and cut
//! at the first that is not whole. What is cut was never answered: answers wait for a persist of everything before. But
//! rot looks the same, so when whole batches lie behind the damage the end is kept beside the log, under `.cut`, not
//! destroyed on a guess.
//!
//! What is read back may be in memory only. Before anybody is told that it is durable it is persisted, and so are the
//! names that lead to it.

use std::io;
use std::path::Path;

use disk::{Disk, Open};
use kafka_wire::record_batch::batches;
use tracing::{error, warn};

use crate::storage::log::format::{Check, parse_segment_name, read_snapshot, scan, segment_path, write_snapshot};
use crate::storage::log::segment::{Index, Segment};
use crate::storage::log::{LogError, PartitionLog, io_error, stamp_of};
use crate::storage::producers::Producers;

/// How far behind the damage a whole batch is looked for.
const SEARCH_BYTES_MAX: usize = 1024 * 1024;

impl PartitionLog {
    /// Finds the segments, drops those that were forgotten, checks the last, rebuilds the producers.
    pub(super) fn recover(&mut self, now_ms: i64) -> Result<Producers, LogError> {
        self.find_segments()?;
        if self.segments.is_empty() {
            return Ok(Producers::default());
        }
        let producers = self.read_segments(now_ms)?;
        self.start_offset = self.start_offset.max(self.segments[0].base_offset);
        self.persist_what_is_there()?;
        if self.end_offset < self.start_offset {
            // Records before `start_offset` were deleted on request, and the log behind it was cut: go on from there.
            write_snapshot(&*self.disk, &self.dir, self.start_offset, &producers);
            self.roll_to(self.start_offset, now_ms)?;
        }
        self.remove_forgotten();
        Ok(producers)
    }

    fn find_segments(&mut self) -> Result<(), LogError> {
        let entries = match self.disk.list(&self.dir) {
            Ok(entries) => entries,
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(err) => return Err(io_error("list", &self.dir, err)),
        };
        for base_offset in entries.iter().filter_map(|entry| parse_segment_name(&entry.name)) {
            let path = segment_path(&self.dir, base_offset);
            let meta = self.disk.look_at(&path).map_err(|err| io_error("look at", &path, err))?;
            let appended_ms = meta.modified_ms;
            self.segments.push(Segment { base_offset, path, bytes: meta.bytes, appended_ms, index: None });
        }
        self.segments.sort_unstable_by_key(|segment| segment.base_offset);
        Ok(())
    }

    fn read_segments(&mut self, now_ms: i64) -> Result<Producers, LogError> {
        let last = self.segments.len() - 1;
        // From the last snapshot of the producers that is whole; without one, every segment is read for them.
        let snapshot_of = |at: usize| read_snapshot(&*self.disk, &self.dir, self.segments[at].base_offset);
        let found = (0..=last).rev().find_map(|at| Some((at, snapshot_of(at)?)));
        let (first_read, mut producers) = found.unwrap_or((0, Producers::default()));
        for at in first_read..=last {
            let segment = &mut self.segments[at];
            let path = segment.path.clone();
            let mut index = Index::default();
            let mut end_offset = segment.base_offset;
            let file = self.disk.open(&path, Open::Existing).map_err(|err| io_error("open", &path, err))?;
            let check = match at == last {
                true => Check::Everything { first_offset: segment.base_offset },
                false => Check::Headers,
            };
            let good = scan(&*self.disk, &file, 0, segment.bytes, check, |header, _, position| {
                index.push(header, position);
                producers.record(&stamp_of(header), header.base_offset, now_ms);
                end_offset = header.last_offset() + 1;
                Ok(())
            })
            .map_err(|err| io_error("read", &path, err))?;
            // Of forgotten segments some may be gone already.
            let next = self.segments.get(at + 1).map(|next| next.base_offset).filter(|next| *next > self.start_offset);
            if next.is_some_and(|next| end_offset != next) {
                return Err(LogError::Damaged { path, offset: end_offset });
            }
            if at == last && good < self.segments[at].bytes {
                self.cut(at, &file, good)?;
            }
            self.segments[at].index = Some(index);
            self.end_offset = end_offset;
        }
        Ok(producers)
    }

    /// Cuts the torn end of a segment.
    fn cut(&mut self, at: usize, file: &disk::File, good: u64) -> Result<(), LogError> {
        let segment = &mut self.segments[at];
        let path = segment.path.clone();
        let cut = usize::try_from(segment.bytes - good).unwrap_or(usize::MAX);
        let end = self.disk.read(file, good, cut).map_err(|err| io_error("read", &path, err))?;
        if holds_a_whole_batch(&end) {
            let kept = path.with_extension(format!("{good}.cut"));
            keep(&*self.disk, &self.dir, &kept, end).map_err(|err| io_error("write", &kept, err))?;
            error!(
                path = %path.display(), at = good, cut, kept = %kept.display(),
                "batches are whole behind one that is not: a power cut in the middle of several writes, or rot; the log \
                 ends before them and they are kept beside it"
            );
        } else {
            warn!(path = %path.display(), kept = good, cut, "cut a torn batch");
        }
        self.disk.truncate(file, good).map_err(|err| io_error("truncate", &path, err))?;
        segment.bytes = good;
        Ok(())
    }

    /// The last segment with its end as it is now, and the names in this directory. The directory's own name is its
    /// parent's, which the broker persists once for all.
    fn persist_what_is_there(&self) -> Result<(), LogError> {
        let last = self.segments.last().expect("there are segments");
        self.disk
            .open(&last.path, Open::Existing)
            .and_then(|file| self.disk.persist(&file, 0))
            .and_then(|()| self.disk.persist_dir(&self.dir))
            .map_err(|err| io_error("sync", &last.path, err))
    }
}

/// Whether some batch in there is whole, its checksum included.
fn holds_a_whole_batch(bytes: &bytes::Bytes) -> bool {
    let search = bytes.len().min(SEARCH_BYTES_MAX);
    // Kafka's magic byte is the 17th of a batch; everything else is only looked at where it stands.
    let mut candidates = (0..search).filter(|at| bytes.get(at + 16) == Some(&2));
    candidates.any(|at| {
        let first = batches(bytes.slice(at..)).next();
        first.and_then(Result::ok).is_some_and(|batch| batch.verify_crc().is_ok())
    })
}

fn keep(disk: &dyn Disk, dir: &Path, path: &Path, bytes: bytes::Bytes) -> io::Result<()> {
    let file = disk.open(path, Open::Empty)?;
    disk.write_all(&file, bytes, bytes::Bytes::new(), 0)?;
    disk.persist(&file, 0)?;
    disk.persist_dir(dir)
}
