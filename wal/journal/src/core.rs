//! What the threads of one journal share: the disk, the names, the table of segments.
//!
//! The table is written by the committing thread (how far the newest segment goes) and by whoever writes checkpoints or
//! lets segments go; each holds the lock for a few instructions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use disk::{Disk, File, Open};
use rustix::io::Errno;

use crate::config::Config;
use crate::format::checkpoint::{Checkpoint, Extent};
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::format::{Bad, JournalId, NUMBERS_END, PAGE_BYTES};
use crate::metrics::Metrics;
use crate::shelf::Shelf;

/// See the module.
pub(crate) struct Core {
    pub disk: Arc<dyn Disk>,
    pub config: Config,
    pub table: Mutex<Table>,
    pub shelf: Shelf,
    pub metrics: Metrics,
    /// Held while a checkpoint is written.
    pub checkpointing: Mutex<()>,
    /// Somebody only looks at it: nothing is written, whatever is found.
    pub is_looking: bool,
}

/// A segment that holds something.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub extent: Extent,
    pub header: SegmentHeader,
    /// A persist or write failed: its file is not used again.
    pub is_poisoned: bool,
    /// Its user needs nothing of it.
    pub is_free: bool,
}

/// What a checkpoint still needs.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    pub number: u64,
    pub lsn: u64,
    pub segments: BTreeSet<u64>,
    /// Segments after it are of later.
    pub highest: u64,
}

impl Needs {
    pub fn of(checkpoint: &Checkpoint) -> Needs {
        let segments: BTreeSet<u64> = checkpoint.segments.iter().map(|extent| extent.number).collect();
        let highest = segments.last().copied().unwrap_or(0);
        Needs { number: checkpoint.number, lsn: checkpoint.lsn, segments, highest }
    }

    pub fn lets_go(&self, segment: u64) -> bool {
        segment <= self.highest && !self.segments.contains(&segment)
    }
}

/// While the journal was open, the end of one segment was written again to another; its user knows the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moved {
    pub from: u64,
    pub to: u64,
    pub from_is_free: bool,
}

/// Segments, and what checkpoints need.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub id: Option<JournalId>,
    pub live: BTreeMap<u64, Live>,
    /// The newest last.
    pub checkpoints: VecDeque<Needs>,
    /// Of all checkpoint files there ever were, bad ones included.
    pub last_checkpoint: u64,
    pub durable_lsn: u64,
    /// The end of the newest segment may be in the page cache only, so no checkpoint may speak of it.
    pub is_unfinished: bool,
    pub moved: Option<Moved>,
}

impl Table {
    /// Whether its user needs nothing of it.
    pub fn is_free(&self, segment: u64) -> bool {
        let holds_moved = self.moved.is_some_and(|moved| moved.to == segment && !moved.from_is_free);
        self.live.get(&segment).is_none_or(|live| live.is_free) && !holds_moved
    }

    /// Takes out the segments that the last two checkpoints do without.
    pub fn take_let_go(&mut self) -> Vec<Live> {
        let count = self.checkpoints.len();
        if count < 2 {
            return Vec::new();
        }
        let (before, last) = (&self.checkpoints[count - 2], &self.checkpoints[count - 1]);
        let gone = self.live.keys().copied().filter(|segment| before.lets_go(*segment) && last.lets_go(*segment));
        let gone: Vec<u64> = gone.collect();
        gone.into_iter().filter_map(|segment| self.live.remove(&segment)).collect()
    }
}

impl Core {
    pub fn new(disk: Arc<dyn Disk>, config: Config) -> Core {
        let (table, shelf, metrics) = (Mutex::default(), Shelf::default(), Metrics::default());
        Core { disk, config, table, shelf, metrics, checkpointing: Mutex::new(()), is_looking: false }
    }

    /// For whoever does not write. Its node is not known.
    pub fn looking(disk: Arc<dyn Disk>, dir: PathBuf) -> Core {
        Core { is_looking: true, ..Core::new(disk, Config::new(dir, "")) }
    }

    /// Opens a file to read it.
    pub fn open_to_read(&self, path: &Path) -> io::Result<File> {
        self.disk.open(path, if self.is_looking { Open::Reading } else { Open::Existing })
    }

    pub fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is this segment, and its file is no other's.
    pub fn is_live(&self, segment: u64) -> bool {
        self.table().live.contains_key(&segment)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.config.dir.join(name)
    }

    pub fn persist_dir(&self) -> io::Result<()> {
        self.disk.persist_dir(&self.config.dir)
    }

    /// Writes a small file under `temporary`, persists it, and gives it its name, durably.
    pub fn write_whole(&self, temporary: &str, name: &str, bytes: Vec<u8>) -> io::Result<()> {
        let file = self.disk.open(&self.path(temporary), Open::Empty)?;
        self.disk.write_all(&file, Bytes::from(bytes), Bytes::new(), 0)?;
        self.disk.persist(&file, 0)?;
        self.disk.rename(&self.path(temporary), &self.path(name))?;
        self.persist_dir()
    }

    pub fn read_whole(&self, path: &Path, bytes_max: u64) -> io::Result<Bytes> {
        let file = self.open_to_read(path)?;
        let bytes = self.disk.look_at(path)?.bytes.min(bytes_max);
        self.disk.read(&file, 0, bytes as usize)
    }

    /// The header of a segment file, from its first page or else from its last. `Ok(Err(…))`: neither is good.
    pub fn read_header(&self, path: &Path, number: u64) -> io::Result<Result<SegmentHeader, Bad>> {
        let bytes = self.disk.look_at(path)?.bytes;
        let file = self.open_to_read(path)?;
        let mut worst = Bad::Short;
        for at in [0, bytes.saturating_sub(PAGE_BYTES as u64)] {
            match SegmentHeader::decode(&self.read_or_zeros(&file, at, HEADER_BYTES)?) {
                Ok(header) if header.number == number && header.length == bytes && fits(&header) => {
                    return Ok(Ok(header));
                }
                Ok(_) => worst = Bad::Field,
                Err(bad @ Bad::Newer { .. }) => return Ok(Err(bad)),
                Err(bad) => worst = bad,
            }
        }
        Ok(Err(worst))
    }

    /// Reads; what the medium does not give back reads as zeros, page by page, and so is found rotten.
    pub fn read_or_zeros(&self, file: &File, at: u64, bytes: usize) -> io::Result<Bytes> {
        match self.disk.read(file, at, bytes) {
            Err(err) if is_medium(&err) => {}
            read => return read,
        }
        let mut whole = vec![0; bytes];
        for (page, part) in whole.chunks_mut(PAGE_BYTES).enumerate() {
            match self.disk.read(file, at + (page * PAGE_BYTES) as u64, part.len()) {
                Ok(read) => part[..read.len()].copy_from_slice(&read),
                Err(err) if is_medium(&err) => {}
                Err(err) => return Err(err),
            }
        }
        Ok(Bytes::from(whole))
    }
}

/// Whether what a header says can be: later arithmetic depends on it.
fn fits(header: &SegmentHeader) -> bool {
    use crate::limits::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
    let length = header.length;
    let previous = header.previous;
    (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&length)
        && length.is_power_of_two()
        && previous.segment < header.number
        && previous.at <= SEGMENT_BYTES_MAX
        && header.first_lsn < NUMBERS_END
}

/// The medium failed at this very place: rot, not a full or absent disk.
pub(crate) fn is_medium(err: &io::Error) -> bool {
    is_errno(err, &[Errno::IO, Errno::ILSEQ, Errno::BADMSG])
}

/// No room, or a shortage: nothing is broken.
pub(crate) fn is_full(err: &io::Error) -> bool {
    disk::is_shortage(err) || is_errno(err, &[Errno::NOSPC, Errno::DQUOT])
}

fn is_errno(err: &io::Error, among: &[Errno]) -> bool {
    err.raw_os_error().is_some_and(|code| among.iter().any(|errno| errno.raw_os_error() == code))
}

/// Names of files.
pub(crate) mod names {
    use crate::format::NUMBERS_END;

    pub const ID: &str = "id";
    pub const ID_TEMPORARY: &str = "id.tmp";
    pub const CHECKPOINT_TEMPORARY: &str = "checkpoint.tmp";
    pub const SPARE_TEMPORARY: &str = "spare.tmp";
    pub const QUARANTINE: &str = "quarantine";

    pub fn segment(number: u64) -> String {
        format!("segment-{number:016x}.wal")
    }

    pub fn spare(number: u64) -> String {
        format!("spare-{number:016x}.wal")
    }

    pub fn checkpoint(number: u64) -> String {
        format!("checkpoint-{number:016x}")
    }

    /// The number in a name of this form, written just as we write it.
    pub fn number(name: &str, prefix: &str, suffix: &str) -> Option<u64> {
        let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        let is_ours = digits.len() == 16 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        // Headroom, so that one more is always a number.
        is_ours.then(|| u64::from_str_radix(digits, 16).ok()).flatten().filter(|number| *number < NUMBERS_END)
    }
}
