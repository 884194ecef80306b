//! A segment in memory: a write is a copy, a persist is `msync` of what was copied since the last one.
//!
//! Cost of a write: the copy, and a page fault for each page that is clean (0.5 to 1 µs). Of a persist: an `fstat`, and an
//! `msync` that waits for the device.
//!
//! `msync` writes pages and not the file's metadata. Nothing of that is pending: the file was written in full and synced
//! before it was opened, so no block is allocated later, and the time of the last write may be lost.
//!
//! Read-ahead is off. It would fill the page cache with large folios, of which a change of one byte writes all: 21 times
//! as much as was committed ([`commit_amplification`](crate::commit_amplification)).

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use memmap2::{Advice, MmapRaw};

use super::sigbus::Watched;

/// A mapped file. Whatever goes wrong with its pages, its user gets an error.
pub struct Mapping {
    // Before `map`, so that nobody watches addresses that are another's already.
    watched: Watched,
    map: MmapRaw,
    path: PathBuf,
    /// What was copied since the last persist began. Held while copying: one writer at a time.
    dirty: Mutex<Option<Range<usize>>>,
}

impl Mapping {
    pub fn of(file: &fs::File, path: &Path) -> io::Result<Mapping> {
        let map = MmapRaw::map_raw(file)?;
        map.advise(Advice::Random)?;
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random)?;
        let watched = Watched::new(map.as_ptr().addr(), map.len())?;
        Ok(Mapping { watched, map, path: path.to_owned(), dirty: Mutex::new(None) })
    }

    /// What is past the end is the caller's mistake, and was refused before.
    pub fn write(&self, at: u64, head: &[u8], body: &[u8]) -> io::Result<usize> {
        let at = usize::try_from(at).expect("within a mapping");
        let bytes = head.len() + body.len();
        self.check_pages(at, bytes)?;
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        self.copy(at, head);
        self.copy(at + head.len(), body);
        // Only what is copied is dirty: a persist that began in between would call clean what is not there yet.
        join(&mut dirty, at..at + bytes);
        drop(dirty);
        self.check_pages(at, bytes)?;
        Ok(bytes)
    }

    pub fn persist(&self) -> io::Result<()> {
        let dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(range) = dirty else { return self.check_pages(0, 0) };
        let synced = self.map.flush_range(range.start, range.len());
        if synced.is_err() {
            join(&mut self.dirty.lock().unwrap_or_else(PoisonError::into_inner), range.clone());
        }
        synced?;
        self.check_pages(range.start, range.len())
    }

    /// Only called with `dirty` held.
    fn copy(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.map.len() && bytes.len() <= self.map.len() - at, "a write lies within its mapping");
        // SAFETY: the target lies within the mapping (asserted), which lives as long as `self`, and nothing of ours refers
        // to its memory but this copy, of which there is one at a time (`dirty` is held). It cannot overlap `bytes`, to
        // whose memory nobody has a second reference. A page that is lost meanwhile is replaced (`sigbus`).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), bytes.len()) }
    }

    fn check_pages(&self, at: usize, bytes: usize) -> io::Result<()> {
        if !self.watched.lost_a_page() {
            return Ok(());
        }
        let path = self.path.display();
        Err(io::Error::other(format!(
            "input/output error (EIO) on mapped segment {path}, seen at {bytes} bytes from {at}: a page of it is gone, the \
             file was cut off by somebody else or its device lost the page; it is not written any more"
        )))
    }
}

fn join(dirty: &mut Option<Range<usize>>, more: Range<usize>) {
    *dirty = match dirty.take() {
        Some(known) => Some(known.start.min(more.start)..known.end.max(more.end)),
        None => Some(more),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amplification::bytes_written;
    use crate::transfer;

    const PAGE: usize = 4096;

    fn mapped(pages: usize) -> (tempfile::TempDir, fs::File, Mapping) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let file = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        transfer::zero(&file, (pages * PAGE) as u64).unwrap();
        let mapping = Mapping::of(&file, &path).unwrap();
        (dir, file, mapping)
    }

    #[test]
    fn a_persist_covers_all_that_was_written_since_the_last_one_began_and_nothing_twice() {
        let (_dir, _file, mapping) = mapped(8);
        let dirty = || mapping.dirty.lock().unwrap().clone();
        for at in [5, 2, 3] {
            mapping.write(at * PAGE as u64, b"a", b"bc").unwrap();
        }
        assert_eq!(dirty(), Some(2 * PAGE..5 * PAGE + 3));
        mapping.persist().unwrap();
        assert_eq!(dirty(), None);
        mapping.write(0, b"", b"a").unwrap();
        assert_eq!(dirty(), Some(0..1));
    }

    #[test]
    fn a_persist_writes_back_the_pages_that_were_copied_to_and_no_others() {
        let (_dir, file, mapping) = mapped(16);
        file.sync_all().unwrap();
        // A page is accounted for when it becomes dirty, so one that was written back is so again.
        let made_dirty = |at: usize, pages: usize| {
            let before = bytes_written().unwrap();
            rustix::io::pwrite(&file, &vec![1; pages * PAGE], (at * PAGE) as u64).unwrap();
            bytes_written().unwrap().zip(before).map(|(after, before)| (after - before) / PAGE as u64)
        };
        if made_dirty(12, 1) != Some(1) {
            return eprintln!("skipped: the kernel does not account for this file system, or by more than pages");
        }
        for at in [8, 3, 5] {
            mapping.write(at * PAGE as u64, &[2; PAGE], b"").unwrap();
        }
        mapping.persist().unwrap();
        assert_eq!([3, 5, 8, 12].map(|at| made_dirty(at, 1)), [Some(1), Some(1), Some(1), Some(0)]);
    }

    #[test]
    fn pages_cut_off_while_they_are_copied_to_are_an_error_that_stays_and_the_process_lives() {
        let (_dir, file, mapping) = mapped(8);
        let (_other_dir, _other_file, other) = mapped(8);
        mapping.write(0, b"a", b"").unwrap();
        file.set_len(PAGE as u64).unwrap();
        // Three pages in one copy, each lost by itself; no look at the length between.
        let err = mapping.write(2 * PAGE as u64, &[1; 3 * PAGE], b"").unwrap_err();
        assert!(err.to_string().contains("12288 bytes from 8192") && err.to_string().contains("/s"), "{err}");
        file.set_len(8 * PAGE as u64).unwrap();
        assert!(mapping.write(0, b"a", b"").is_err(), "also when the file is long again");
        assert!(mapping.persist().is_err());
        assert!(mapping.persist().is_err());
        other.write(0, b"a", b"").expect("nobody else's");
        other.persist().unwrap();
    }

    #[test]
    fn mapped_pages_cut_off_before_they_are_written_back_are_no_signal() {
        let (_dir, file, mapping) = mapped(8);
        mapping.write(2 * PAGE as u64, &[1; 3 * PAGE], b"").unwrap();
        file.set_len(0).unwrap();
        // The system calls nothing amiss, so who is asked before is the length (`Segment::persist`).
        mapping.persist().unwrap();
        assert!(mapping.write(0, b"a", b"").is_err());
    }
}
