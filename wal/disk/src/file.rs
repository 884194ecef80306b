//! An open file, as its disk and its user both see it.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// An open file; clones are the same one, the last to go closes it.
///
/// It counts its writes, so that a persist can say how far it reached: it covers what was written before it began, which
/// may be much later than when it was asked for. That is group commit, and it needs no queue of its own.
#[derive(Clone)]
pub struct File {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    writes: AtomicU64,
    persist_is_waiting: AtomicBool,
    /// Held while a persist runs; whether one failed. The system tells one of two that overlap, the other would lie.
    persist_failed: Mutex<bool>,
    handle: Box<dyn Any + Send + Sync>,
}

impl File {
    /// For disks: `handle` is whatever they need to know it again.
    pub fn new(path: PathBuf, handle: impl Any + Send + Sync) -> File {
        let writes = AtomicU64::new(0);
        let (persist_is_waiting, persist_failed) = (AtomicBool::new(false), Mutex::new(false));
        let handle = Box::new(handle);
        File { shared: Arc::new(Shared { path, writes, persist_is_waiting, persist_failed, handle }) }
    }

    /// For disks: what `new` was given.
    ///
    /// # Panics
    /// When the file is of another disk.
    pub fn handle<T: Any>(&self) -> &T {
        self.shared.handle.downcast_ref().expect("a file is used with the disk that opened it")
    }

    /// As [`File::handle`]; none when the file is of another disk.
    pub(crate) fn try_handle<T: Any>(&self) -> Option<&T> {
        self.shared.handle.downcast_ref()
    }

    pub(crate) fn weak(&self) -> WeakFile {
        WeakFile { shared: Arc::downgrade(&self.shared) }
    }

    /// The name it was opened under.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Writes and truncations done since it was opened.
    pub fn writes(&self) -> u64 {
        self.shared.writes.load(Ordering::Acquire)
    }

    /// Whether a submitted persist has not begun, so that it will cover what is written now.
    pub fn persist_is_waiting(&self) -> bool {
        self.shared.persist_is_waiting.load(Ordering::Acquire)
    }

    /// For disks: one more write is done.
    pub fn note_write(&self) {
        self.shared.writes.fetch_add(1, Ordering::AcqRel);
    }

    /// For disks: a persist was submitted.
    pub fn note_persist_waiting(&self) {
        self.shared.persist_is_waiting.store(true, Ordering::Release);
    }

    /// For disks: runs a persist and returns the writes it covers. One at a time, and none after one that failed.
    pub fn run_persist(&self, persist: impl FnOnce() -> io::Result<()>) -> io::Result<u64> {
        let mut failed = self.shared.persist_failed.lock().unwrap_or_else(PoisonError::into_inner);
        // A swap, not a store: it reads the submitter's store, so whoever found the flag set and submitted nothing has
        // its writes in the count that is read next.
        self.shared.persist_is_waiting.swap(false, Ordering::AcqRel);
        let writes = self.writes();
        if *failed {
            return Err(io::Error::other("an earlier persist of this file failed"));
        }
        persist().map(|()| writes).inspect_err(|err| *failed = !crate::is_shortage(err))
    }

    /// For disks: as [`File::run_persist`], of a persist that is waited for. Whoever waits is the only one who persists this file:
    /// its one writer.
    pub(crate) async fn wait_persist(&self, persist: impl Future<Output = io::Result<()>>) -> io::Result<u64> {
        let failed = || self.shared.persist_failed.lock().unwrap_or_else(PoisonError::into_inner);
        let writes = self.writes();
        if *failed() {
            return Err(io::Error::other("an earlier persist of this file failed"));
        }
        let persisted = persist.await;
        persisted.map(|()| writes).inspect_err(|err| *failed() = !crate::is_shortage(err))
    }
}

/// Knows a file and does not keep it open.
pub(crate) struct WeakFile {
    shared: Weak<Shared>,
}

impl WeakFile {
    pub fn is(&self, file: &File) -> bool {
        std::ptr::eq(self.shared.as_ptr(), Arc::as_ptr(&file.shared))
    }

    /// Whether somebody has it.
    pub fn is_open(&self) -> bool {
        self.shared.strong_count() > 0
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({:?}, {} writes)", self.shared.path, self.writes())
    }
}
