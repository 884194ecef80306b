//! An append-only file of small checksummed records: the topic catalogue and the committed offsets.
//!
//! ```text
//! file   = "GFKJ0002" record*
//! record = length u32 LE | crc32c u32 LE of what follows | durable u64 LE | payload      length counts the payload
//! ```
//!
//! `durable` is how many bytes of the file were durable when the record was written, so that recovery can tell a torn end
//! from rot. It reads records until one does not fit or its checksum is wrong. When a whole record anywhere says that the
//! damaged place was durable once, what is broken was answered, and nothing is touched: the start is refused. Else it is
//! what a kill or a power cut in the middle of appends leaves behind, which nobody was told of, and the file is cut there.
//! Compaction writes the living state to a new file, persists it and renames it over the old one; having that name, all
//! of it is durable, and so its records say.
//!
//! Files of the first version ("GFKJ0001", no `durable`) are read and written anew. There any whole record behind the
//! damage refuses the start.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, Open};
use tracing::warn;

use crate::limits::{JOURNAL_COMPACT_BYTES_MIN, JOURNAL_COMPACT_FACTOR, JOURNAL_RECORD_BYTES_MAX};
use crate::storage::syncer::{SyncPoint, SyncTarget, Syncer};

const MAGIC_BYTES: usize = 8;
const MAGIC: &[u8; MAGIC_BYTES] = b"GFKJ0002";
const MAGIC_V1: &[u8; MAGIC_BYTES] = b"GFKJ0001";

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("cannot read or write {path:?}")]
    Io {
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("{path:?} is not one of our journals")]
    Foreign { path: PathBuf },
    #[error(
        "{path:?} is damaged at byte {at} of {bytes}, where it was whole once: nothing was changed; put a copy in its \
         place, or move the data directory away to begin anew (records of topics are in logs/, whole)"
    )]
    Damaged { path: PathBuf, at: usize, bytes: usize },
    #[error("record {index} of {path:?} has a good checksum but makes no sense: {why}")]
    Record { path: PathBuf, index: usize, why: String },
    #[error("journal record of {bytes} bytes exceeds {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("{path:?} failed to sync earlier and takes no more records")]
    Poisoned { path: PathBuf },
}

/// One journal, or nothing at all in null mode.
pub struct Journal {
    file: Option<JournalFile>,
}

struct JournalFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    target: Rc<SyncTarget>,
    bytes: u64,
    compacted_bytes: u64,
}

impl Journal {
    /// A journal that forgets: null mode.
    pub fn memory() -> Journal {
        Journal { file: None }
    }

    /// Opens or creates, cuts a torn tail, replays every record. All that it replayed is durable. The caller persists the
    /// directory.
    pub fn open(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        mut replay: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<Journal, JournalError> {
        let io = |err| JournalError::Io { path: path.clone(), err };
        let file = match disk.open(&path, Open::Existing) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => disk.open(&path, Open::Empty).map_err(io)?,
            opened => opened.map_err(io)?,
        };
        let bytes = disk.look_at(&path).map_err(io)?.bytes;
        let content = disk.read(&file, 0, usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(io)?;
        let Some(layout) = Layout::of(&content).map_err(|()| JournalError::Foreign { path: path.clone() })? else {
            // New, or killed while it was being created: nothing was ever acknowledged from it.
            disk.truncate(&file, 0).map_err(io)?;
            disk.write_all(&file, Bytes::from_static(MAGIC), Bytes::new(), 0).map_err(io)?;
            disk.persist(&file, 0).map_err(io)?;
            return Ok(Journal::over(disk, path, file, MAGIC_BYTES as u64));
        };
        let mut good = MAGIC_BYTES;
        let mut index = 0;
        let mut durable_bytes = 0;
        while let Some(record) = layout.record_at(&content, good) {
            durable_bytes = record.durable_bytes.unwrap_or(0).max(durable_bytes);
            replay(record.payload).map_err(|why| JournalError::Record { path: path.clone(), index, why })?;
            good += record.bytes;
            index += 1;
        }
        if durable_bytes > good as u64 || layout.knows_better(&content, good) {
            return Err(JournalError::Damaged { path, at: good, bytes: content.len() });
        }
        if good < content.len() {
            warn!(path = %path.display(), kept = good, cut = content.len() - good, "cut a torn journal tail");
            disk.truncate(&file, good as u64).map_err(io)?;
        }
        // What was read back may have been in memory only.
        disk.persist(&file, 0).map_err(io)?;
        let mut journal = Journal::over(Arc::clone(&disk), path.clone(), file, good as u64);
        if layout == Layout::V1 {
            let mut records = Vec::new();
            let mut at = MAGIC_BYTES;
            while let Some(record) = layout.record_at(&content, at) {
                records.push(record.payload.to_vec());
                at += record.bytes;
            }
            journal.compact(&records)?;
        }
        Ok(journal)
    }

    fn over(disk: Arc<dyn Disk>, path: PathBuf, file: disk::File, bytes: u64) -> Journal {
        let target = SyncTarget::new(file, bytes, Vec::new(), None);
        Journal { file: Some(JournalFile { disk, path, target, bytes, compacted_bytes: bytes }) }
    }

    /// Writes one record. It is durable when the point of a later `request_sync` is.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), JournalError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if payload.len() > JOURNAL_RECORD_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes: payload.len(), limit: JOURNAL_RECORD_BYTES_MAX });
        }
        if file.target.has_failed() {
            return Err(JournalError::Poisoned { path: file.path.clone() });
        }
        let mut record = Vec::with_capacity(Layout::V2.header_bytes() + payload.len());
        put_record(&mut record, file.target.durable_bytes(), payload);
        let bytes = record.len() as u64;
        let (disk, handle) = (&*file.disk, file.target.file());
        if let Err(err) = disk.write_all(handle, Bytes::from(record), Bytes::new(), file.bytes) {
            // A half-written record would end recovery early and hide what is appended behind it.
            let _ = disk.truncate(handle, file.bytes);
            return Err(JournalError::Io { path: file.path.clone(), err });
        }
        file.bytes += bytes;
        file.target.note_length(file.bytes);
        Ok(())
    }

    /// Asks for everything appended so far to become durable. None: it is, or there is no disk.
    pub fn request_sync(&self, syncer: Option<&Syncer>) -> Option<SyncPoint> {
        let file = self.file.as_ref()?;
        let is_durable = file.target.is_clean() && !file.target.has_failed();
        (!is_durable).then(|| syncer.map(|syncer| syncer.request(&file.target))).flatten()
    }

    /// The point at which everything appended so far is durable, without asking for it.
    pub fn point(&self) -> Option<SyncPoint> {
        self.file.as_ref().map(|file| file.target.point())
    }

    /// Whether it has grown far beyond its living state.
    pub fn wants_compaction(&self) -> bool {
        self.file.as_ref().is_some_and(|file| {
            file.bytes > JOURNAL_COMPACT_BYTES_MIN.max(file.compacted_bytes.saturating_mul(JOURNAL_COMPACT_FACTOR))
        })
    }

    /// Whether replay at open left dead records behind.
    pub fn is_longer_than(&self, living_bytes: u64) -> bool {
        self.file.as_ref().is_some_and(|file| file.bytes > living_bytes + MAGIC_BYTES as u64)
    }

    /// At a start: a full disk keeps nobody from starting, and a longer journal is as good.
    pub fn compact_if_possible(&mut self, records: &[Vec<u8>]) {
        if let Err(err) = self.compact(records) {
            warn!(err = &err as &dyn std::error::Error, "a journal could not be compacted at start");
        }
    }

    /// Replaces the content by these records, durable when this returns. Whoever waits for an older append is
    /// satisfied by the old file's own persist: the living state contains it, whichever file a power cut leaves.
    pub fn compact(&mut self, records: &[Vec<u8>]) -> Result<(), JournalError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if file.target.has_failed() {
            return Err(JournalError::Poisoned { path: file.path.clone() });
        }
        let io = |err| JournalError::Io { path: file.path.clone(), err };
        let disk = Arc::clone(&file.disk);
        let dir = file.path.parent().unwrap_or(Path::new(".")).to_owned();
        let fresh_path = file.path.with_extension("compacting");
        let bytes = MAGIC_BYTES as u64 + records.iter().map(|payload| record_bytes(payload)).sum::<u64>();
        let mut content = MAGIC.to_vec();
        for payload in records {
            put_record(&mut content, bytes, payload);
        }
        let fresh = disk.open(&fresh_path, Open::Empty).map_err(io)?;
        disk.write_all(&fresh, Bytes::from(content), Bytes::new(), 0).map_err(io)?;
        disk.persist(&fresh, 0).map_err(io)?;
        disk.rename(&fresh_path, &file.path).map_err(io)?;
        // From here on the name means the new file, so it is the one written to, whatever becomes of the directory.
        let target = SyncTarget::new(fresh, bytes, vec![dir], None);
        *file = JournalFile { disk: Arc::clone(&disk), path: file.path.clone(), target, bytes, compacted_bytes: bytes };
        let synced = file.target.sync_now(&*disk);
        synced.map_err(|err| JournalError::Io { path: file.path.clone(), err })
    }
}

/// Bytes one record takes in the file.
pub fn record_bytes(payload: &[u8]) -> u64 {
    (Layout::V2.header_bytes() + payload.len()) as u64
}

fn put_record(out: &mut Vec<u8>, durable_bytes: u64, payload: &[u8]) {
    let durable = durable_bytes.to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&durable), payload);
    out.extend_from_slice(&u32::try_from(payload.len()).expect("bounded by JOURNAL_RECORD_BYTES_MAX").to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&durable);
    out.extend_from_slice(payload);
}

/// The two versions of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    V1,
    V2,
}

struct Record<'a> {
    /// None: the version does not say.
    durable_bytes: Option<u64>,
    payload: &'a [u8],
    /// Header included.
    bytes: usize,
}

impl Layout {
    /// None: a file that was not begun. An error: somebody else's.
    fn of(content: &[u8]) -> Result<Option<Layout>, ()> {
        match content.first_chunk::<MAGIC_BYTES>() {
            Some(MAGIC) => Ok(Some(Layout::V2)),
            Some(MAGIC_V1) => Ok(Some(Layout::V1)),
            // A power cut may leave the length without the bytes.
            _ if content.len() <= MAGIC_BYTES && content.iter().all(|byte| *byte == 0) => Ok(None),
            Some(_) => Err(()),
            None if [MAGIC, MAGIC_V1].iter().any(|magic| magic.starts_with(content)) => Ok(None),
            None => Err(()),
        }
    }

    fn header_bytes(self) -> usize {
        match self {
            Layout::V1 => 8,
            Layout::V2 => 16,
        }
    }

    fn record_at(self, content: &[u8], at: usize) -> Option<Record<'_>> {
        let (length, rest) = content.get(at..)?.split_first_chunk::<4>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        // An empty record is never written; a hole of zeros would read as one.
        if length == 0 || length > JOURNAL_RECORD_BYTES_MAX {
            return None;
        }
        let checked = rest.get(..self.header_bytes() - 8 + length)?;
        if crc32c::crc32c(checked) != u32::from_le_bytes(*crc) {
            return None;
        }
        let (durable_bytes, payload) = match self {
            Layout::V1 => (None, checked),
            Layout::V2 => {
                checked.split_first_chunk::<8>().map(|(durable, p)| (Some(u64::from_le_bytes(*durable)), p))?
            }
        };
        Some(Record { durable_bytes, payload, bytes: self.header_bytes() + length })
    }

    /// Whether a whole record behind the damage at `damaged` knows that this place was durable.
    fn knows_better(self, content: &[u8], damaged: usize) -> bool {
        let claims = |at: usize| match self {
            Layout::V1 => true,
            // Looked at before the checksum: of a megabyte of anything almost nothing passes.
            Layout::V2 => content.get(at + 8..).and_then(<[u8]>::first_chunk).is_some_and(|durable| {
                let durable = u64::from_le_bytes(*durable);
                durable > damaged as u64 && durable <= content.len() as u64
            }),
        };
        (damaged + 1..content.len()).any(|at| claims(at) && self.record_at(content, at).is_some())
    }
}

/// Fields of a journal payload: numbers big endian, strings and blobs with a u32 length before them.
#[derive(Default)]
pub struct FieldWriter(pub Vec<u8>);

impl FieldWriter {
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    pub fn str(&mut self, value: &str) -> &mut Self {
        self.i32(i32::try_from(value.len()).expect("strings in journals are bounded far below 2 GiB"));
        self.raw(value.as_bytes())
    }
}

/// Reads what `FieldWriter` wrote; every method fails on bytes that are too short.
pub struct FieldReader<'a>(pub &'a [u8]);

impl<'a> FieldReader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) =
            self.0.split_first_chunk::<N>().ok_or_else(|| format!("{} bytes left, need {N}", self.0.len()))?;
        self.0 = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub fn i32(&mut self) -> Result<i32, String> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, String> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn str(&mut self) -> Result<&'a str, String> {
        let bytes = usize::try_from(self.i32()?).map_err(|_| "negative string length".to_owned())?;
        let (head, rest) =
            self.0.split_at_checked(bytes).ok_or_else(|| format!("string of {bytes} bytes cut short"))?;
        self.0 = rest;
        std::str::from_utf8(head).map_err(|err| format!("string is not UTF-8: {err}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use disk::{Operation, SimulatedDisk};

    const PATH: &str = "/j";
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;

    type Replayed = Vec<Vec<u8>>;

    fn open(disk: &Arc<SimulatedDisk>) -> Result<(Journal, Replayed), JournalError> {
        let mut seen = Vec::new();
        let journal = Journal::open(disk.clone(), PathBuf::from(PATH), |payload| {
            seen.push(payload.to_vec());
            Ok(())
        })?;
        Ok((journal, seen))
    }

    fn content(disk: &SimulatedDisk) -> Vec<u8> {
        let file = disk.open(Path::new(PATH), Open::Existing).unwrap();
        disk.read(&file, 0, 1 << 20).unwrap().to_vec()
    }

    fn put(disk: &SimulatedDisk, content: &[u8]) {
        let file = disk.open(Path::new(PATH), Open::Empty).unwrap();
        disk.write_all(&file, Bytes::copy_from_slice(content), Bytes::new(), 0).unwrap();
    }

    /// Two records, each durable before the next is written when `synced`.
    fn written(synced: bool) -> (Arc<SimulatedDisk>, Journal) {
        let disk = Arc::new(SimulatedDisk::new(3));
        let syncer = Syncer::new(disk.clone());
        let mut journal = open(&disk).unwrap().0;
        for payload in ["first", "second"] {
            journal.append(payload.as_bytes()).unwrap();
            if synced {
                assert!(journal.request_sync(Some(&syncer)).is_some());
                while disk.step() {}
                syncer.poll();
                assert!(journal.request_sync(Some(&syncer)).is_none(), "nothing to wait for");
            }
        }
        (disk, journal)
    }

    #[test]
    fn a_journal_cut_at_any_byte_of_its_last_record_keeps_all_before_it_and_takes_more() {
        let (disk, mut journal) = written(true);
        let keep = content(&disk).len();
        journal.append(b"the third and last").unwrap();
        let whole = content(&disk);
        for cut in keep..whole.len() {
            put(&disk, &whole[..cut]);
            let (mut journal, seen) = open(&disk).unwrap();
            assert_eq!(seen, [b"first".to_vec(), b"second".to_vec()], "cut at {cut}");
            journal.append(b"again").unwrap();
            assert_eq!(open(&disk).unwrap().1.last().unwrap(), b"again");
        }
    }

    #[test]
    fn damage_in_what_was_durable_refuses_the_start_and_changes_nothing() {
        let (disk, mut journal) = written(true);
        let second = content(&disk).len() - record_bytes(b"second") as usize;
        journal.append(b"third").unwrap();
        let whole = content(&disk);
        for at in MAGIC_BYTES..second {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            put(&disk, &damaged);
            assert!(matches!(open(&disk), Err(JournalError::Damaged { at: MAGIC_BYTES, .. })), "flipped at {at}");
            assert_eq!(content(&disk), damaged);
        }
    }

    #[test]
    fn a_torn_end_of_several_records_is_cut_although_the_last_of_them_is_whole() {
        let (disk, mut journal) = written(true);
        let keep = content(&disk).len();
        journal.append(b"torn").unwrap();
        journal.append(b"whole").unwrap();
        let mut torn = content(&disk);
        torn[keep] ^= 1;
        put(&disk, &torn);
        assert_eq!(open(&disk).unwrap().1, [b"first".to_vec(), b"second".to_vec()]);
        assert_eq!(content(&disk).len(), keep);
    }

    #[test]
    fn a_journal_of_the_first_version_is_read_and_written_anew_and_not_cut_in_its_middle() {
        let mut old = MAGIC_V1.to_vec();
        for payload in [&b"first"[..], b"second"] {
            old.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            old.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
            old.extend_from_slice(payload);
        }
        let disk = Arc::new(SimulatedDisk::new(3));
        put(&disk, &old);
        assert_eq!(open(&disk).unwrap().1, [b"first".to_vec(), b"second".to_vec()]);
        assert!(content(&disk).starts_with(MAGIC));
        assert_eq!(open(&disk).unwrap().1, [b"first".to_vec(), b"second".to_vec()]);
        old[MAGIC_BYTES + 8] ^= 1;
        put(&disk, &old);
        assert!(matches!(open(&disk), Err(JournalError::Damaged { .. })));
        put(&disk, &old[..old.len() - 1]);
        assert_eq!(open(&disk).unwrap().1, Vec::<Vec<u8>>::new(), "nothing whole is behind it: a torn end");
    }

    #[test]
    fn a_compacted_journal_knows_that_all_of_it_was_durable() {
        let (disk, mut journal) = written(false);
        journal.compact(&[b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]).unwrap();
        let whole = content(&disk);
        for at in MAGIC_BYTES..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            put(&disk, &damaged);
            assert!(matches!(open(&disk), Err(JournalError::Damaged { .. })), "flipped at {at}");
            put(&disk, &whole[..at]);
            assert_eq!(open(&disk).is_err(), at >= MAGIC_BYTES + record_bytes(b"one") as usize, "cut at {at}");
        }
    }

    #[test]
    fn compaction_replaces_the_content() {
        let (disk, mut journal) = written(false);
        journal.compact(&[b"living".to_vec()]).unwrap();
        journal.append(b"later").unwrap();
        assert_eq!(open(&disk).unwrap().1, [b"living".to_vec(), b"later".to_vec()]);
    }

    #[test]
    fn after_a_compaction_that_failed_anywhere_what_is_appended_and_answered_is_in_the_file_of_that_name() {
        for failing in 0..5 {
            let (disk, mut journal) = written(false);
            let syncer = Syncer::new(disk.clone());
            let fails = move |operation: &Operation| {
                let step = match operation {
                    Operation::Open { .. } => 0,
                    Operation::Write { .. } => 1,
                    Operation::Persist { .. } => 2,
                    Operation::Rename { .. } => 3,
                    _ => 4,
                };
                step == failing
            };
            disk.fail_next(fails, EIO);
            assert!(journal.compact(&[b"living".to_vec()]).is_err(), "{failing}");
            let appended = journal.append(b"later");
            let point = journal.request_sync(Some(&syncer));
            while disk.step() {}
            syncer.poll();
            let answered =
                appended.is_ok() && point.is_some_and(|p| p.state() == crate::storage::syncer::SyncState::Durable);
            assert_eq!(answered, failing != 4, "{failing}: a directory that cannot be persisted poisons");
            drop(journal);
            let seen = open(&disk).unwrap().1;
            assert!(!answered || seen.last().unwrap() == b"later", "{failing}: {seen:?}");
        }
    }

    #[test]
    fn a_full_disk_keeps_nobody_from_starting() {
        let (disk, mut journal) = written(true);
        disk.fail_next(|operation| matches!(operation, Operation::Write { .. }), ENOSPC);
        journal.compact_if_possible(&[b"living".to_vec()]);
        journal.append(b"later").unwrap();
        assert_eq!(open(&disk).unwrap().1, [b"first".to_vec(), b"second".to_vec(), b"later".to_vec()]);
    }

    #[test]
    fn a_foreign_file_is_refused_and_left_alone() {
        let disk = Arc::new(SimulatedDisk::new(3));
        for foreign in ["precious data of somebody else", "x"] {
            put(&disk, foreign.as_bytes());
            assert!(matches!(open(&disk), Err(JournalError::Foreign { .. })));
            assert_eq!(content(&disk), foreign.as_bytes());
        }
    }
}
