//! An append-only file of small checksummed records: the topic catalogue and the committed offsets.
//!
//! ```text
//! file   = "GFKJ0001" record*
//! record = length u32 LE | crc32c u32 LE of the payload | payload
//! ```
//!
//! Recovery reads records until one does not fit or its checksum is wrong, and cuts the file there: that is what a
//! kill or a power cut in the middle of an append leaves behind. Nothing acknowledged is cut, because an answer
//! waits for the sync of its record. Compaction writes the living state to a new file, syncs it and renames it
//! over the old one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;

use crate::hooks::Hooks;
use crate::limits::{JOURNAL_COMPACT_BYTES_MIN, JOURNAL_COMPACT_FACTOR, JOURNAL_RECORD_BYTES_MAX};
use crate::syncer::{SyncPoint, SyncTarget, Syncer, sync_dir};

const MAGIC: &[u8; 8] = b"GFKJ0001";
const RECORD_HEADER_BYTES: usize = 8;

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
    path: PathBuf,
    target: Arc<SyncTarget>,
    bytes: u64,
    compacted_bytes: u64,
}

impl Journal {
    /// A journal that forgets: null mode.
    pub fn memory() -> Journal {
        Journal { file: None }
    }

    /// Opens or creates, cuts a torn tail, replays every record.
    pub fn open(path: PathBuf, mut replay: impl FnMut(&[u8]) -> Result<(), String>) -> Result<Journal, JournalError> {
        let io = |err| JournalError::Io { path: path.clone(), err };
        let dir = path.parent().unwrap_or(Path::new(".")).to_owned();
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(io)?;
        let content = fs::read(&path).map_err(io)?;
        let mut good = MAGIC.len();
        if content.len() < MAGIC.len() {
            // New, or killed while it was being created: nothing was ever acknowledged from it.
            if !MAGIC.starts_with(&content) {
                return Err(JournalError::Foreign { path });
            }
            file.set_len(0).map_err(io)?;
            file.write_all_at(MAGIC, 0).map_err(io)?;
            file.sync_all().map_err(io)?;
            sync_dir(&dir).map_err(io)?;
        } else if !content.starts_with(MAGIC) {
            return Err(JournalError::Foreign { path });
        } else {
            let mut index = 0;
            while let Some(payload) = next_record(&content[good..]) {
                replay(payload).map_err(|why| JournalError::Record { path: path.clone(), index, why })?;
                good += RECORD_HEADER_BYTES + payload.len();
                index += 1;
            }
            if good < content.len() {
                warn!(path = %path.display(), kept = good, cut = content.len() - good, "cut a torn journal tail");
                file.set_len(good as u64).map_err(io)?;
                file.sync_all().map_err(io)?;
            }
        }
        let bytes = good as u64;
        let target = SyncTarget::new(file, path.clone(), Vec::new());
        Ok(Journal { file: Some(JournalFile { path, target, bytes, compacted_bytes: bytes }) })
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
        let mut record = Vec::with_capacity(RECORD_HEADER_BYTES + payload.len());
        put_record(&mut record, payload);
        if let Err(err) = file.target.file().write_all_at(&record, file.bytes) {
            // A half-written record would end recovery early and hide what is appended behind it.
            let _ = file.target.file().set_len(file.bytes);
            return Err(JournalError::Io { path: file.path.clone(), err });
        }
        file.bytes += record.len() as u64;
        Ok(())
    }

    /// Asks for everything appended so far to become durable; nothing to wait for in memory.
    pub fn request_sync(&self, syncer: Option<&Syncer>) -> Option<SyncPoint> {
        Some(syncer?.request(&self.file.as_ref()?.target))
    }

    /// Whether it has grown far beyond its living state.
    pub fn wants_compaction(&self) -> bool {
        self.file.as_ref().is_some_and(|file| {
            file.bytes > JOURNAL_COMPACT_BYTES_MIN.max(file.compacted_bytes.saturating_mul(JOURNAL_COMPACT_FACTOR))
        })
    }

    /// Whether replay at open left dead records behind.
    pub fn is_longer_than(&self, living_bytes: u64) -> bool {
        self.file.as_ref().is_some_and(|file| file.bytes > living_bytes + MAGIC.len() as u64)
    }

    /// Replaces the content by these records, durable when this returns. Whoever waits for an older append is
    /// satisfied too: the living state contains it.
    pub fn compact(&mut self, records: &[Vec<u8>], hooks: &Hooks) -> Result<(), JournalError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if file.target.has_failed() {
            return Err(JournalError::Poisoned { path: file.path.clone() });
        }
        let io = |err| JournalError::Io { path: file.path.clone(), err };
        let dir = file.path.parent().unwrap_or(Path::new(".")).to_owned();
        let fresh_path = file.path.with_extension("compacting");
        let mut content = MAGIC.to_vec();
        for payload in records {
            put_record(&mut content, payload);
        }
        let mut fresh =
            File::options().read(true).write(true).create(true).truncate(true).open(&fresh_path).map_err(io)?;
        fresh.write_all(&content).map_err(io)?;
        let target = SyncTarget::new(fresh, file.path.clone(), Vec::new());
        target.sync_now(hooks).map_err(io)?;
        fs::rename(&fresh_path, &file.path).map_err(io)?;
        sync_dir(&dir).map_err(io)?;
        file.target.supersede();
        file.target = target;
        file.bytes = content.len() as u64;
        file.compacted_bytes = file.bytes;
        Ok(())
    }
}

/// Bytes one record takes in the file.
pub fn record_bytes(payload: &[u8]) -> u64 {
    (RECORD_HEADER_BYTES + payload.len()) as u64
}

fn put_record(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend_from_slice(&u32::try_from(payload.len()).expect("bounded by JOURNAL_RECORD_BYTES_MAX").to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    out.extend_from_slice(payload);
}

fn next_record(rest: &[u8]) -> Option<&[u8]> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    // An empty record is never written; a hole of zeros would read as one.
    if length == 0 || length > JOURNAL_RECORD_BYTES_MAX {
        return None;
    }
    let payload = rest.get(..length)?;
    (crc32c::crc32c(payload) == u32::from_le_bytes(*crc)).then_some(payload)
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

    fn open(path: &Path) -> (Journal, Vec<Vec<u8>>) {
        let mut seen = Vec::new();
        let journal = Journal::open(path.to_owned(), |payload| {
            seen.push(payload.to_vec());
            Ok(())
        })
        .unwrap();
        (journal, seen)
    }

    #[test]
    fn a_journal_cut_at_any_byte_of_its_last_record_keeps_all_before_it_and_takes_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (mut journal, _) = open(&path);
        journal.append(b"first").unwrap();
        journal.append(b"second").unwrap();
        let keep = fs::metadata(&path).unwrap().len();
        journal.append(b"the third and last").unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in keep as usize..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, seen) = open(&path);
            assert_eq!(seen, [b"first".to_vec(), b"second".to_vec()], "cut at {cut}");
            journal.append(b"again").unwrap();
            assert_eq!(open(&path).1.last().unwrap(), b"again");
        }
    }

    #[test]
    fn a_flipped_bit_in_the_last_record_cuts_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (mut journal, _) = open(&path);
        journal.append(b"first").unwrap();
        journal.append(b"second").unwrap();
        let mut content = fs::read(&path).unwrap();
        *content.last_mut().unwrap() ^= 1;
        fs::write(&path, &content).unwrap();
        assert_eq!(open(&path).1, [b"first".to_vec()]);
    }

    #[test]
    fn compaction_replaces_the_content_and_satisfies_who_waits() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        let (mut journal, _) = open(&path);
        for n in 0..100_u8 {
            journal.append(&[n]).unwrap();
        }
        journal.compact(&[b"living".to_vec()], &Hooks::new()).unwrap();
        journal.append(b"later").unwrap();
        assert_eq!(open(&path).1, [b"living".to_vec(), b"later".to_vec()]);
    }

    #[test]
    fn a_foreign_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j");
        for content in ["precious data of somebody else", "x"] {
            fs::write(&path, content).unwrap();
            assert!(matches!(Journal::open(path.clone(), |_| Ok(())), Err(JournalError::Foreign { .. })));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }
}
