//! Group commit: who waits for which file, and when it may be told.
//!
//! The broker writes, asks that the file becomes durable, and goes on. A persist that was asked for and has not begun
//! covers whatever is written until it begins ([`disk::File::writes`]), so all who write meanwhile share one. Everything
//! here is on the broker's thread; the disk's thread only rings.
//!
//! Invariants:
//! - A point is durable only when everything written before it was, the directories that gained a name on the way to
//!   the file are, and so is whatever the file depends on (a partition's records mean nothing without its topic).
//! - After a failed persist the kernel may call the lost pages clean, so a later success would lie: the target stays
//!   failed for ever, and its file is cut back to what is durable, lest the next start read back what only memory has.
//! - A shortage is no failure: it is asked for again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use disk::{Disk, File, Operation, Outcome, is_shortage};
use foldhash::HashMap;
use tracing::{error, warn};

/// A file whose writes somebody waits for.
pub struct SyncTarget {
    file: File,
    /// The file's length after so many of its writes, for those that are not durable.
    lengths: RefCell<VecDeque<(u64, u64)>>,
    /// Writes that are in the file durably; whether the file has a durable name is `new_dirs`' business.
    persisted: Cell<u64>,
    /// Writes that count: persisted, under a durable name, before any failure. None: not even the name is durable.
    durable_writes: Cell<Option<u64>>,
    durable_bytes: Cell<u64>,
    /// Directories whose new names are not durable.
    new_dirs: RefCell<Vec<NewDir>>,
    after: Option<SyncPoint>,
    failed: Cell<bool>,
}

struct NewDir {
    path: PathBuf,
    submitted: bool,
}

impl SyncTarget {
    /// A file of which `durable_bytes` are durable. `new_dirs`: directories that gained a name on the way to it and were
    /// not persisted yet. `after`: what must be durable before anything in this file counts.
    pub fn new(file: File, durable_bytes: u64, new_dirs: Vec<PathBuf>, after: Option<SyncPoint>) -> Rc<SyncTarget> {
        let durable_writes = Cell::new(new_dirs.is_empty().then(|| file.writes()));
        let new_dirs: Vec<NewDir> = new_dirs.into_iter().map(|path| NewDir { path, submitted: false }).collect();
        Rc::new(SyncTarget {
            persisted: Cell::new(file.writes()),
            file,
            lengths: RefCell::default(),
            durable_writes,
            durable_bytes: Cell::new(durable_bytes),
            new_dirs: RefCell::new(new_dirs),
            after,
            failed: Cell::new(false),
        })
    }

    /// The file, for positioned reads and writes.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Notes the file's length after its last write. Between two notes there may be writes that took nothing on.
    pub fn note_length(&self, bytes: u64) {
        self.lengths.borrow_mut().push_back((self.file.writes(), bytes));
    }

    /// The point everything written so far is durable at.
    pub fn point(self: &Rc<Self>) -> SyncPoint {
        SyncPoint { target: Rc::clone(self), writes: self.file.writes() }
    }

    /// Bytes from the beginning that a power cut leaves.
    pub fn durable_bytes(&self) -> u64 {
        self.durable_bytes.get()
    }

    /// Whether nothing written is still missing on disk.
    pub fn is_clean(&self) -> bool {
        self.new_dirs.borrow().is_empty() && self.persisted.get() >= self.file.writes()
    }

    /// Whether a persist failed.
    pub fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// Persists on the calling thread: sealing a segment, compacting a journal. A shortage changes nothing.
    pub fn sync_now(&self, disk: &dyn Disk) -> io::Result<()> {
        if self.failed.get() {
            return Err(io::Error::other("an earlier sync of this file failed"));
        }
        let synced = self.try_sync_now(disk);
        if let Err(err) = &synced
            && !is_shortage(err)
        {
            self.fail(disk, err);
        }
        synced
    }

    fn try_sync_now(&self, disk: &dyn Disk) -> io::Result<()> {
        let writes = self.file.writes();
        disk.persist(&self.file, self.durable_bytes.get())?;
        self.note_persisted(writes);
        let dirs: Vec<PathBuf> = self.new_dirs.borrow().iter().map(|dir| dir.path.clone()).collect();
        for dir in dirs {
            disk.persist_dir(&dir)?;
            self.note_dir(&dir);
        }
        Ok(())
    }

    fn note_persisted(&self, writes: u64) {
        self.persisted.set(self.persisted.get().max(writes));
        self.note_durable();
    }

    fn note_dir(&self, path: &Path) {
        self.new_dirs.borrow_mut().retain(|dir| dir.path != path);
        self.note_durable();
    }

    fn note_durable(&self) {
        if self.failed.get() || !self.new_dirs.borrow().is_empty() {
            return;
        }
        self.durable_writes.set(Some(self.persisted.get()));
        let mut lengths = self.lengths.borrow_mut();
        while let Some((_, bytes)) = lengths.pop_front_if(|(writes, _)| *writes <= self.persisted.get()) {
            self.durable_bytes.set(bytes);
        }
    }

    fn fail(&self, disk: &dyn Disk, err: &io::Error) {
        if self.failed.replace(true) {
            return;
        }
        let path = self.file.path().display();
        let kept = self.durable_bytes.get();
        error!(%path, %err, kept, "a sync failed, the file takes no more writes until restart");
        if let Err(err) = disk.truncate(&self.file, kept) {
            error!(%path, %err, kept, "what did not become durable could not be cut off; the next start may believe it");
        }
    }
}

/// A point in a file's life somebody waits for.
#[derive(Clone)]
pub struct SyncPoint {
    target: Rc<SyncTarget>,
    writes: u64,
}

/// What is known about a `SyncPoint`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncState {
    Pending,
    Durable,
    Failed,
}

impl SyncPoint {
    /// Asked by the broker whenever the disk rang.
    pub fn state(&self) -> SyncState {
        let after = self.target.after.as_ref().map_or(SyncState::Durable, SyncPoint::state);
        let own = match self.target.durable_writes.get() {
            Some(writes) if writes >= self.writes => SyncState::Durable,
            _ if self.target.failed.get() => SyncState::Failed,
            _ => SyncState::Pending,
        };
        match (after, own) {
            (SyncState::Failed, _) | (_, SyncState::Failed) => SyncState::Failed,
            (SyncState::Pending, _) | (_, SyncState::Pending) => SyncState::Pending,
            (SyncState::Durable, SyncState::Durable) => SyncState::Durable,
        }
    }
}

/// What is submitted and not completed.
enum Asked {
    File,
    Dir(PathBuf),
}

/// Asks the disk on behalf of all who wait, and hears its answers.
pub struct Syncer {
    disk: Arc<dyn Disk>,
    asked: RefCell<HashMap<u64, (Rc<SyncTarget>, Asked)>>,
    next_ticket: Cell<u64>,
    /// Met a shortage; asked for again when time has passed.
    short: RefCell<Vec<Rc<SyncTarget>>>,
}

impl Syncer {
    /// The disk rings somebody who then calls `poll`.
    pub fn new(disk: Arc<dyn Disk>) -> Syncer {
        Syncer { disk, asked: RefCell::default(), next_ticket: Cell::new(0), short: RefCell::default() }
    }

    /// Asks that everything written to `target` so far becomes durable.
    pub fn request(&self, target: &Rc<SyncTarget>) -> SyncPoint {
        if !target.failed.get() {
            if let Some(after) = target.after.as_ref().filter(|after| after.state() == SyncState::Pending) {
                self.request(&after.target);
            }
            if target.persisted.get() < target.file.writes() && !target.file.persist_is_waiting() {
                let operation = Operation::Persist { file: target.file.clone(), from: target.durable_bytes.get() };
                self.submit(target, Asked::File, operation);
            }
            for dir in target.new_dirs.borrow_mut().iter_mut().filter(|dir| !dir.submitted) {
                dir.submitted = true;
                let path = dir.path.clone();
                self.submit(target, Asked::Dir(path.clone()), Operation::PersistDir { path });
            }
        }
        target.point()
    }

    /// Hears what became of what was asked for.
    pub fn poll(&self) {
        while let Some(completion) = self.disk.complete() {
            let asked = self.asked.borrow_mut().remove(&completion.ticket);
            let (target, asked) = asked.expect("the disk answers what it was asked, once");
            match (asked, completion.result) {
                (Asked::File, Ok(Outcome::Persisted { writes })) => target.note_persisted(writes),
                (Asked::Dir(dir), Ok(Outcome::Done)) => target.note_dir(&dir),
                (_, Ok(other)) => panic!("{other:?} is no outcome of a persist"),
                (asked, Err(err)) if is_shortage(&err) => {
                    warn!(path = %target.file.path().display(), %err, "a sync lacked something, it is tried again");
                    if let Asked::Dir(path) = asked {
                        let mut dirs = target.new_dirs.borrow_mut();
                        dirs.iter_mut().filter(|dir| dir.path == path).for_each(|dir| dir.submitted = false);
                    }
                    self.short.borrow_mut().push(target);
                }
                (_, Err(err)) => target.fail(&*self.disk, &err),
            }
        }
    }

    /// Asks again for what met a shortage.
    pub fn retry(&self) {
        for target in self.short.take() {
            self.request(&target);
        }
    }

    fn submit(&self, target: &Rc<SyncTarget>, asked: Asked, operation: Operation) {
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        self.asked.borrow_mut().insert(ticket, (Rc::clone(target), asked));
        self.disk.submit(ticket, operation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use disk::{Open, SimulatedDisk};

    const EIO: i32 = 5;
    const EMFILE: i32 = 24;

    fn disk() -> Arc<SimulatedDisk> {
        Arc::new(SimulatedDisk::new(7))
    }

    fn target(disk: &SimulatedDisk, name: &str) -> Rc<SyncTarget> {
        let file = disk.open(Path::new(name), Open::Empty).unwrap();
        SyncTarget::new(file, 0, vec![PathBuf::from("/")], None)
    }

    fn write(disk: &SimulatedDisk, target: &SyncTarget, at: u64) {
        disk.write_all(target.file(), Bytes::from_static(b"x"), Bytes::new(), at).unwrap();
        target.note_length(at + 1);
    }

    fn settle(disk: &SimulatedDisk, syncer: &Syncer) {
        while disk.step() {
            syncer.poll();
        }
    }

    #[test]
    fn all_who_write_before_a_persist_begins_share_it_and_nobody_is_told_early() {
        let disk = disk();
        let syncer = Syncer::new(disk.clone());
        let targets: Vec<_> = (0..4).map(|n| target(&disk, &format!("/f{n}"))).collect();
        let mut points = Vec::new();
        for round in 0..100_u64 {
            let target = &targets[(round % 4) as usize];
            write(&disk, target, round / 4);
            points.push(syncer.request(target));
        }
        assert!(points.iter().all(|point| point.state() == SyncState::Pending));
        assert_eq!(syncer.asked.borrow().len(), 8, "one persist and one directory each");
        settle(&disk, &syncer);
        assert!(points.iter().all(|point| point.state() == SyncState::Durable));
        assert!(targets.iter().all(|target| target.is_clean() && target.durable_bytes() == 25));
    }

    #[test]
    fn a_failed_sync_poisons_its_file_for_ever_and_no_other_and_cuts_it_back() {
        let disk = disk();
        let syncer = Syncer::new(disk.clone());
        let (bad, good) = (target(&disk, "/bad"), target(&disk, "/good"));
        write(&disk, &bad, 0);
        syncer.request(&bad);
        settle(&disk, &syncer);
        write(&disk, &bad, 1);
        disk.fail_next(|operation| matches!(operation, Operation::Persist { .. }), EIO);
        let lost = syncer.request(&bad);
        settle(&disk, &syncer);
        assert_eq!(lost.state(), SyncState::Failed);
        assert_eq!(syncer.request(&bad).state(), SyncState::Failed);
        assert!(bad.sync_now(&*disk).is_err());
        assert_eq!(disk.look_at(Path::new("/bad")).unwrap().bytes, 1);
        write(&disk, &good, 0);
        let point = syncer.request(&good);
        settle(&disk, &syncer);
        assert_eq!(point.state(), SyncState::Durable);
    }

    #[test]
    fn what_was_persisted_without_a_durable_name_does_not_count_after_a_failure_whatever_comes_later() {
        // The file was cut back to nothing, then its directory was persisted, and what had been in it was called durable.
        let disk = disk();
        let syncer = Syncer::new(disk.clone());
        let target = target(&disk, "/f");
        write(&disk, &target, 0);
        disk.fail_next(|operation| matches!(operation, Operation::PersistDir { .. }), EMFILE);
        let point = syncer.request(&target);
        settle(&disk, &syncer);
        disk.fail_next(|operation| matches!(operation, Operation::Persist { .. }), EIO);
        syncer.retry();
        assert!(target.sync_now(&*disk).is_err());
        settle(&disk, &syncer);
        assert_eq!((point.state(), target.durable_bytes()), (SyncState::Failed, 0));
    }

    #[test]
    fn no_descriptor_for_a_directory_is_tried_again_and_poisons_nothing() {
        let disk = disk();
        let syncer = Syncer::new(disk.clone());
        let target = target(&disk, "/f");
        write(&disk, &target, 0);
        disk.fail_next(|operation| matches!(operation, Operation::PersistDir { .. }), EMFILE);
        let point = syncer.request(&target);
        settle(&disk, &syncer);
        assert_eq!(point.state(), SyncState::Pending, "the name is not durable");
        syncer.retry();
        settle(&disk, &syncer);
        assert_eq!(point.state(), SyncState::Durable);
        disk.fail_next(|operation| matches!(operation, Operation::PersistDir { .. }), EMFILE);
        assert!(target.sync_now(&*disk).is_ok(), "no directory is new any more");
    }

    #[test]
    fn a_file_counts_for_nothing_before_what_it_depends_on() {
        for fails in [false, true] {
            let disk = disk();
            let syncer = Syncer::new(disk.clone());
            let topic = target(&disk, "/topics");
            write(&disk, &topic, 0);
            let file = disk.open(Path::new("/records"), Open::Empty).unwrap();
            let records = SyncTarget::new(file, 0, Vec::new(), Some(topic.point()));
            write(&disk, &records, 0);
            if fails {
                let of_topic = |operation: &Operation| match operation {
                    Operation::Persist { file, .. } => file.path() == Path::new("/topics"),
                    _ => false,
                };
                disk.fail_next(of_topic, EIO);
            }
            let point = syncer.request(&records);
            records.sync_now(&*disk).unwrap();
            assert_eq!(point.state(), SyncState::Pending, "the file is durable, what it depends on is not");
            settle(&disk, &syncer);
            assert_eq!(point.state(), if fails { SyncState::Failed } else { SyncState::Durable });
        }
    }
}
