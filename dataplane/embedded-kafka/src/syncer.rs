//! Group commit: one plain thread that calls fdatasync for everybody.
//!
//! The broker writes into the page cache, then asks for a sync of that file and goes on. All requests for a file
//! that arrive while it waits its turn are covered by one call. Cost per group: one condvar wake, one fdatasync
//! per dirty file (0.1 to 5 ms), one doorbell back.
//!
//! Invariants:
//! - `synced >= n` is only true when everything written before request `n` was on the disk.
//! - After a failed fdatasync the kernel may call the lost pages clean, so a later success would lie: the target
//!   stays failed for ever and is never synced again (Rebello et al., "Can applications recover from fsync failures?").
//! - Directories named at creation are synced before the file's first success, else a power cut loses the name.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tracing::{debug, error};

use crate::hooks::Hooks;

/// A file whose writes somebody waits for.
pub struct SyncTarget {
    file: File,
    path: PathBuf,
    /// Number of syncs asked for; written by the broker's thread only.
    requested: AtomicU64,
    /// All requests up to this number are on disk.
    synced: AtomicU64,
    failed: AtomicBool,
    queued: AtomicBool,
    /// Held during fdatasync, so that only one caller can be told about an error. Holds the directories whose
    /// entries are not durable yet.
    new_dirs: Mutex<Vec<PathBuf>>,
}

impl SyncTarget {
    /// `new_dirs`: directories that gained an entry on the way to this file and were not synced yet.
    pub fn new(file: File, path: PathBuf, new_dirs: Vec<PathBuf>) -> Arc<SyncTarget> {
        Arc::new(SyncTarget {
            file,
            path,
            requested: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            new_dirs: Mutex::new(new_dirs),
        })
    }

    /// The file, for positioned reads and writes.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing asked for is still missing on disk.
    pub fn is_clean(&self) -> bool {
        self.synced.load(Ordering::Acquire) >= self.requested.load(Ordering::Acquire)
    }

    /// Whether a sync failed: what was written since the last success may be lost.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Syncs on the calling thread: sealing a segment, compacting a journal.
    pub fn sync_now(&self, hooks: &Hooks) -> io::Result<()> {
        let mut new_dirs = self.new_dirs.lock().unwrap_or_else(PoisonError::into_inner);
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync of this file failed"));
        }
        // Read before the call: what is written while it runs belongs to the next one.
        let covered = self.requested.load(Ordering::Acquire);
        let result = hooks.before_sync().and_then(|()| self.file.sync_data()).and_then(|()| {
            for dir in new_dirs.iter() {
                sync_dir(dir)?;
            }
            Ok(())
        });
        match result {
            Ok(()) => {
                new_dirs.clear();
                self.synced.fetch_max(covered, Ordering::Release);
                Ok(())
            }
            Err(err) => {
                self.failed.store(true, Ordering::Release);
                error!(path = %self.path.display(), %err, "fsync failed, the file takes no more writes until restart");
                Err(err)
            }
        }
    }

    /// Declares everything durable because its content was made durable elsewhere (a compacted journal).
    pub fn supersede(&self) {
        self.synced.fetch_max(self.requested.load(Ordering::Acquire), Ordering::Release);
    }
}

/// Makes names in this directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// A point in a file's life somebody waits for.
#[derive(Clone)]
pub struct SyncPoint {
    target: Arc<SyncTarget>,
    number: u64,
}

/// What is known about a `SyncPoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    Pending,
    Durable,
    Failed,
}

impl SyncPoint {
    /// Asked by the broker whenever the sync thread rang.
    pub fn state(&self) -> SyncState {
        if self.target.synced.load(Ordering::Acquire) >= self.number {
            SyncState::Durable
        } else if self.target.has_failed() {
            SyncState::Failed
        } else {
            SyncState::Pending
        }
    }
}

/// Handle of the sync thread; dropping it waits until the queue is empty.
pub struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    targets: Vec<Arc<SyncTarget>>,
    stop: bool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Syncer {
    /// `progress` is called on the sync thread after every file.
    pub fn start(hooks: Hooks, progress: impl Fn() + Send + 'static) -> io::Result<Syncer> {
        let shared = Arc::new(Shared { queue: Mutex::new(Queue::default()), wake: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("kafka-sync".to_owned()).spawn(move || run(&theirs, &hooks, &progress))?;
        Ok(Syncer { shared, thread: Some(thread) })
    }

    /// Asks that everything written to `target` so far becomes durable. Called by the writing thread only.
    pub fn request(&self, target: &Arc<SyncTarget>) -> SyncPoint {
        let number = target.requested.fetch_add(1, Ordering::AcqRel) + 1;
        if !target.queued.swap(true, Ordering::AcqRel) {
            let mut queue = self.shared.queue();
            queue.targets.push(Arc::clone(target));
            drop(queue);
            self.shared.wake.notify_one();
        }
        SyncPoint { target: Arc::clone(target), number }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.queue().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the sync thread panicked");
        }
    }
}

/// Real-time level of the sync thread: just above ordinary threads.
const PRIORITY: u8 = 1;

fn run(shared: &Shared, hooks: &Hooks, progress: &dyn Fn()) {
    if let Err(err) = runtime::priority::realtime(PRIORITY) {
        debug!(%err, "the sync thread runs at ordinary priority: with all cores busy a commit takes milliseconds");
    }
    let mut group = Vec::new();
    loop {
        {
            let mut queue = shared.queue();
            while queue.targets.is_empty() {
                if queue.stop {
                    return;
                }
                queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut group, &mut queue.targets);
        }
        for target in group.drain(..) {
            // A swap, not a store: it reads the requester's swap, so every request that found the flag set is seen
            // by the load of `requested` that follows; one made from here on queues the file again.
            target.queued.swap(false, Ordering::AcqRel);
            // The error is logged and kept in the target; whoever waits for it sees `Failed`.
            let _ = target.sync_now(hooks);
            progress();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::mpsc;
    use std::time::Duration;

    fn target(dir: &Path, name: &str) -> Arc<SyncTarget> {
        let path = dir.join(name);
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path).unwrap();
        SyncTarget::new(file, path, vec![dir.to_owned()])
    }

    fn wait(point: &SyncPoint, progress: &mpsc::Receiver<()>) -> SyncState {
        while point.state() == SyncState::Pending {
            progress.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        point.state()
    }

    #[test]
    fn every_request_becomes_durable_and_files_share_groups() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, rang) = mpsc::channel();
        let syncer = Syncer::start(Hooks::new(), move || ring.send(()).unwrap_or(())).unwrap();
        let targets: Vec<_> = (0..4).map(|n| target(dir.path(), &format!("f{n}"))).collect();
        let mut points = Vec::new();
        for round in 0..100_u64 {
            let target = &targets[(round % 4) as usize];
            target.file().write_all_at(b"x", round).unwrap();
            points.push(syncer.request(target));
        }
        for point in &points {
            assert_eq!(wait(point, &rang), SyncState::Durable);
        }
        assert!(targets.iter().all(|target| target.is_clean()));
    }

    #[test]
    fn a_failed_sync_poisons_its_file_for_ever_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, rang) = mpsc::channel();
        let hooks = Hooks::new();
        let syncer = Syncer::start(hooks.clone(), move || ring.send(()).unwrap_or(())).unwrap();
        let bad = target(dir.path(), "bad");
        let good = target(dir.path(), "good");
        hooks.fail_syncs(1);
        assert_eq!(wait(&syncer.request(&bad), &rang), SyncState::Failed);
        assert_eq!(wait(&syncer.request(&bad), &rang), SyncState::Failed);
        assert_eq!(wait(&syncer.request(&good), &rang), SyncState::Durable);
        assert!(bad.sync_now(&hooks).is_err());
    }
}
