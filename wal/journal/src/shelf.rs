//! Room that is ready: zeroed files under names of their own, and segments on their way to become that.
//!
//! Making one is slow (64 MiB of zeros), so it is done ahead, by [`Core::tend`]; the committing thread only makes one
//! itself when nobody did. A file goes back on the shelf only when its new name is durable: while the old one may come back
//! with a power cut, the file would be two things.

use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use disk::Open;
use tracing::warn;

use crate::core::{Core, is_full, names};
use crate::format::segment::OVERHEAD_BYTES;
use crate::limits::SPARES_MAX;

/// A file that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spare {
    pub name: String,
    pub bytes: u64,
}

/// A file that nobody needs any more.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    pub name: String,
    pub bytes: u64,
    /// Not when its medium failed.
    pub recycle: bool,
}

#[derive(Default)]
pub(crate) struct Shelf {
    inner: Mutex<Inner>,
    /// Held while files are made and renamed.
    work: Mutex<()>,
    /// A spare of this length should be ready; 0: none.
    wanted_bytes: AtomicU64,
}

#[derive(Default)]
struct Inner {
    ready: Vec<Spare>,
    gone: Vec<Gone>,
    /// For the next name.
    next: u64,
}

const _: () = assert!(SPARES_MAX >= 1);

impl Shelf {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew with what was found at a start.
    pub fn reset(&self, ready: Vec<Spare>, gone: Vec<Gone>, next: u64) {
        *self.inner() = Inner { ready, gone, next };
        self.wanted_bytes.store(0, Ordering::Relaxed);
    }

    pub fn want(&self, bytes: u64) {
        self.wanted_bytes.store(bytes, Ordering::Relaxed);
    }

    /// All that is ready.
    pub fn bytes(&self) -> u64 {
        self.inner().ready.iter().map(|spare| spare.bytes).sum()
    }

    /// What blocks can take of it.
    pub fn room(&self) -> u64 {
        self.inner().ready.iter().map(|spare| spare.bytes - OVERHEAD_BYTES).sum()
    }

    pub fn count(&self) -> usize {
        self.inner().ready.len()
    }

    pub fn throw(&self, gone: impl IntoIterator<Item = Gone>) {
        self.inner().gone.extend(gone);
    }

    /// The smallest one that is long enough.
    pub fn take(&self, bytes_min: u64) -> Option<Spare> {
        let mut inner = self.inner();
        let fitting = inner.ready.iter().enumerate().filter(|(_, spare)| spare.bytes >= bytes_min);
        let (at, _) = fitting.min_by_key(|(_, spare)| spare.bytes)?;
        Some(inner.ready.swap_remove(at))
    }

    pub fn put(&self, spare: Spare) {
        self.inner().ready.push(spare);
    }

    /// Whether [`Core::tend`] has something to do.
    pub fn has_work(&self) -> bool {
        let wanted = self.wanted_bytes.load(Ordering::Relaxed);
        let inner = self.inner();
        !inner.gone.is_empty() || (wanted > 0 && !inner.ready.iter().any(|spare| spare.bytes >= wanted))
    }

    fn next_name(&self) -> String {
        let mut inner = self.inner();
        inner.next += 1;
        names::spare(inner.next)
    }
}

impl Core {
    /// Recycles and removes what nobody needs, and has the next spare ready. For a thread that commits do not wait for.
    pub fn tend(&self) -> io::Result<()> {
        self.clear_away()?;
        let wanted = self.shelf.wanted_bytes.load(Ordering::Relaxed);
        if wanted > 0 && !self.shelf.inner().ready.iter().any(|spare| spare.bytes >= wanted) {
            self.make_spare(wanted, true)?;
        }
        Ok(())
    }

    /// Makes what is gone ready again, or removes it.
    pub fn clear_away(&self) -> io::Result<()> {
        let _work = self.shelf.work.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = std::mem::take(&mut self.shelf.inner().gone);
        if gone.is_empty() {
            return Ok(());
        }
        let mut left = gone.into_iter();
        let mut renamed = Vec::new();
        let result = (|| {
            for file in left.by_ref() {
                let kept = self.shelf.count() + renamed.len() < self.config.spares_max;
                let done = if file.recycle && kept {
                    let spare = Spare { name: self.shelf.next_name(), bytes: file.bytes };
                    let done = self.disk.rename(&self.path(&file.name), &self.path(&spare.name));
                    renamed.extend(done.is_ok().then_some(spare));
                    done
                } else {
                    self.metrics.removed.add(1);
                    self.disk.remove(&self.path(&file.name))
                };
                match done {
                    Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                    Err(err) => {
                        self.shelf.throw([file]);
                        return Err(err);
                    }
                    Ok(()) => {}
                }
            }
            Ok(())
        })();
        self.shelf.throw(left);
        // Names that may not be durable yet: not ready, and tried again.
        match self.persist_dir() {
            Ok(()) => {
                self.metrics.recycled.add(renamed.len() as u64);
                renamed.into_iter().for_each(|spare| self.shelf.put(spare));
                result
            }
            Err(err) => {
                let again = |spare: Spare| Gone { name: spare.name, bytes: spare.bytes, recycle: true };
                self.shelf.throw(renamed.into_iter().map(again));
                Err(err)
            }
        }
    }

    /// As [`make_spare`](Core::make_spare) of the longest length there is room for, each half of the one before.
    pub fn make_longest_spare(&self, lengths: RangeInclusive<u64>, keeps_floor: bool) -> io::Result<()> {
        let (bytes_min, mut bytes) = lengths.into_inner();
        loop {
            match self.make_spare(bytes, keeps_floor) {
                Err(err) if is_full(&err) && bytes / 2 >= bytes_min => bytes /= 2,
                done => return done,
            }
        }
    }

    /// Makes a file of zeros. `keeps_floor`: not when it would leave the file system with less than the floor.
    pub fn make_spare(&self, bytes: u64, keeps_floor: bool) -> io::Result<()> {
        let _work = self.shelf.work.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before, so that nobody lacks the room while a file grows that has none.
        if keeps_floor {
            let free = self.disk.space(&self.config.dir)?.free_bytes;
            if free < bytes.saturating_add(self.config.floor_bytes) {
                return Err(rustix::io::Errno::NOSPC.into());
            }
        }
        let temporary = self.path(names::SPARE_TEMPORARY);
        let name = self.shelf.next_name();
        let made = (|| {
            let file = self.disk.open(&temporary, Open::Empty)?;
            self.disk.zero(&file, bytes)?;
            self.disk.persist(&file, 0)?;
            self.disk.rename(&temporary, &self.path(&name))?;
            self.persist_dir()
        })();
        match made {
            Ok(()) => {
                self.shelf.put(Spare { name, bytes });
                Ok(())
            }
            Err(err) => {
                // It takes room that somebody lacks. Whichever name it has, the next start removes it otherwise.
                for path in [temporary, self.path(&name)] {
                    if let Err(err) = self.disk.remove(&path)
                        && err.kind() != io::ErrorKind::NotFound
                    {
                        warn!(?path, %err, "an unfinished file of the journal stays until the next start");
                    }
                }
                Err(err)
            }
        }
    }
}
