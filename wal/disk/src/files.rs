//! The real disk: plain files, segments written as its device does, and one thread that does what is submitted.
//!
//! Cost of a group of persists: one condvar wake, one `fdatasync` each (0.1 to 5 ms), one doorbell each.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::UNIX_EPOCH;

use rustix::fs::FallocateFlags;
use tracing::error;

use crate::Disk;
use crate::file::File;
use crate::operation::{Completion, Entry, Meta, Open, Operation, Outcome};
use crate::segment::{self, Device, Segment};
use crate::transfer;

/// Asked before every operation; an error is the operation's. Tests inject faults here.
type Before = Box<dyn Fn(&Operation) -> io::Result<()> + Send + Sync>;

/// Files of the system. Dropping it waits until everything submitted is done.
pub struct Files {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What a file of this disk is.
enum Handle {
    File(fs::File),
    Segment(Segment),
}

struct Shared {
    device: Device,
    before: Before,
    queue: Mutex<Queue>,
    wake: Condvar,
    completed: Mutex<VecDeque<Completion>>,
}

#[derive(Default)]
struct Queue {
    submitted: Vec<(u64, Operation)>,
    stop: bool,
}

impl Files {
    /// `prepare` runs first on the thread of submitted operations (its priority is the caller's business); `doorbell` is
    /// rung there after each of them.
    pub fn start(
        before: impl Fn(&Operation) -> io::Result<()> + Send + Sync + 'static,
        prepare: impl FnOnce() + Send + 'static,
        doorbell: impl Fn() + Send + 'static,
    ) -> io::Result<Files> {
        Files::with_device(Device::Plain, before, prepare, doorbell)
    }

    /// The same, and segments ([`Open::Segment`]) are written in this way. All other files are plain.
    pub fn with_device(
        device: Device,
        before: impl Fn(&Operation) -> io::Result<()> + Send + Sync + 'static,
        prepare: impl FnOnce() + Send + 'static,
        doorbell: impl Fn() + Send + 'static,
    ) -> io::Result<Files> {
        let shared = Arc::new(Shared {
            device,
            before: Box::new(before),
            queue: Mutex::default(),
            wake: Condvar::new(),
            completed: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
            prepare();
            theirs.work(&doorbell);
        })?;
        Ok(Files { shared, thread: Some(thread) })
    }
}

impl Disk for Files {
    fn is_of_the_system(&self) -> bool {
        true
    }

    fn call(&self, operation: Operation) -> io::Result<Outcome> {
        self.shared.perform(operation)
    }

    fn before(&self, operation: &Operation) -> io::Result<()> {
        (self.shared.before)(operation)
    }

    fn submit(&self, ticket: u64, operation: Operation) {
        if let Operation::Persist { file, .. } = &operation {
            file.note_persist_waiting();
        }
        locked(&self.shared.queue).submitted.push((ticket, operation));
        self.shared.wake.notify_one();
    }

    fn complete(&self) -> Option<Completion> {
        locked(&self.shared.completed).pop_front()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        locked(&self.shared.queue).stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the disk thread panicked");
        }
    }
}

impl Shared {
    fn work(&self, doorbell: &dyn Fn()) {
        let mut group = Vec::new();
        loop {
            {
                let mut queue = locked(&self.queue);
                while queue.submitted.is_empty() {
                    if queue.stop {
                        return;
                    }
                    queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                std::mem::swap(&mut group, &mut queue.submitted);
            }
            for (ticket, operation) in group.drain(..) {
                let result = self.perform(operation);
                locked(&self.completed).push_back(Completion { ticket, result });
                doorbell();
            }
        }
    }

    fn perform(&self, operation: Operation) -> io::Result<Outcome> {
        if let Operation::Persist { file, .. } = &operation {
            let persist = || (self.before)(&operation).and_then(|()| file.handle::<Handle>().persist());
            return file.run_persist(persist).map(|writes| Outcome::Persisted { writes });
        }
        (self.before)(&operation).inspect_err(|_| {
            if let Operation::Write { file, .. } = &operation
                && let Handle::Segment(segment) = file.handle()
            {
                segment.note_failed_write();
            }
        })?;
        match operation {
            Operation::Open { path, how: Open::Segment } => {
                let segment = Segment::open(&path, self.device)?;
                Ok(Outcome::File(File::new(path, Handle::Segment(segment))))
            }
            Operation::Open { path, how: Open::Reading } => {
                let file = fs::File::open(&path)?;
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
                Ok(Outcome::File(File::new(path, Handle::File(file))))
            }
            Operation::Open { path, how } => {
                let is_new = how == Open::Empty;
                let file = fs::File::options().read(true).write(true).create(is_new).truncate(is_new).open(&path)?;
                Ok(Outcome::File(File::new(path, Handle::File(file))))
            }
            Operation::Read { file, at, bytes } => {
                transfer::read(file.handle::<Handle>().file(), at, bytes).map(Outcome::Bytes)
            }
            Operation::Forget { file, at, bytes } => {
                transfer::forget(file.handle::<Handle>().file(), at, bytes).map(|()| Outcome::Done)
            }
            Operation::Write { file, at, head, body } => {
                let written = match file.handle() {
                    Handle::File(file) => transfer::write(file, &head, &body, at)?,
                    Handle::Segment(segment) => segment.write(at, &head, &body)?,
                };
                file.note_write();
                Ok(Outcome::Written(written))
            }
            Operation::Zero { file, bytes } => {
                let zeroed = growing(&file)?;
                match zeroed.metadata()?.len() {
                    0 => transfer::zero(zeroed, bytes)?,
                    some => return Err(segment::is_not_empty(file.path(), some)),
                }
                file.note_write();
                Ok(Outcome::Done)
            }
            Operation::Preallocate { file, bytes } => {
                rustix::fs::fallocate(growing(&file)?, FallocateFlags::KEEP_SIZE, 0, bytes)?;
                Ok(Outcome::Done)
            }
            Operation::Truncate { file, bytes } => {
                growing(&file)?.set_len(bytes)?;
                file.note_write();
                Ok(Outcome::Done)
            }
            Operation::Persist { .. } => unreachable!("done above"),
            Operation::Rename { from, to } => fs::rename(from, to).map(|()| Outcome::Done),
            Operation::Remove { path } => fs::remove_file(path).map(|()| Outcome::Done),
            Operation::MakeDir { path } => fs::create_dir(path).map(|()| Outcome::Done),
            Operation::RemoveDir { path } => fs::remove_dir(path).map(|()| Outcome::Done),
            Operation::PersistDir { path } => fs::File::open(path)?.sync_all().map(|()| Outcome::Done),
            Operation::List { path } => list(&path).map(Outcome::Entries),
            Operation::LookAt { path } => {
                let found = fs::metadata(path)?;
                let age = found.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let modified_ms = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                Ok(Outcome::Meta(Meta { bytes: found.len(), modified_ms }))
            }
            Operation::Space { path } => crate::space_of(&path).map(Outcome::Space),
        }
    }
}

impl File {
    /// What the system calls it. None: it is not the system's, or a segment, which its device writes.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self.try_handle()? {
            Handle::File(file) => Some(file.as_fd()),
            Handle::Segment(_) => None,
        }
    }
}

impl Handle {
    fn file(&self) -> &fs::File {
        match self {
            Handle::File(file) => file,
            Handle::Segment(segment) => segment.file(),
        }
    }

    fn persist(&self) -> io::Result<()> {
        match self {
            Handle::File(file) => file.sync_data(),
            Handle::Segment(segment) => segment.persist(),
        }
    }
}

/// The file behind one whose length may change.
fn growing(file: &File) -> io::Result<&fs::File> {
    match file.handle() {
        Handle::File(growing) => Ok(growing),
        Handle::Segment(_) => Err(segment::length_is_fixed(file.path())),
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn list(path: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        // Our names are ASCII; one that is not even text is somebody else's.
        if let Ok(name) = entry.file_name().into_string() {
            entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
        }
    }
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use bytes::Bytes;
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_is_submitted_completes_and_a_persist_covers_what_was_written_before_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let (ring, rang) = mpsc::channel();
        let (go, going) = mpsc::channel::<()>();
        let going = Mutex::new(going);
        // The first persist waits for us, so that the second is still waiting when more is written.
        let before = move |operation: &Operation| match operation {
            Operation::Persist { .. } => locked(&going).recv_timeout(Duration::from_secs(10)).map_err(io::Error::other),
            _ => Ok(()),
        };
        let disk = Files::start(before, || {}, move || ring.send(()).unwrap()).unwrap();
        let [first, second] = ["first", "second"].map(|name| disk.open(&dir.path().join(name), Open::Empty).unwrap());
        disk.submit(1, Operation::Persist { file: first, from: 0 });
        disk.submit(2, Operation::Persist { file: second.clone(), from: 0 });
        for n in 0..5 {
            assert!(second.persist_is_waiting());
            disk.write_all(&second, Bytes::from_static(b"x"), Bytes::new(), n).unwrap();
        }
        let mut covered = Vec::new();
        for _ in 0..2 {
            go.send(()).unwrap();
            rang.recv_timeout(Duration::from_secs(10)).unwrap();
            match disk.complete().unwrap() {
                Completion { ticket, result: Ok(Outcome::Persisted { writes }) } => covered.push((ticket, writes)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(covered, [(1, 0), (2, 5)]);
        assert!(disk.complete().is_none());
        assert!(!second.persist_is_waiting());
    }

    #[test]
    fn files_and_directories_do_what_their_names_say() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Files::start(|_| Ok(()), || {}, || {}).unwrap();
        let sub = dir.path().join("sub");
        disk.make_dir(&sub).unwrap();
        let (a, b) = (sub.join("a"), sub.join("b"));
        assert_eq!(disk.open(&a, Open::Existing).unwrap_err().kind(), io::ErrorKind::NotFound);
        let file = disk.open(&a, Open::Empty).unwrap();
        disk.preallocate(&file, 1 << 16).unwrap();
        disk.write_all(&file, Bytes::from_static(b"head"), Bytes::from_static(b"body"), 2).unwrap();
        assert_eq!(disk.read(&file, 0, 100).unwrap(), &b"\0\0headbody"[..]);
        let reading = disk.open(&a, Open::Reading).unwrap();
        assert_eq!(disk.read(&reading, 2, 4).unwrap(), &b"head"[..]);
        assert!(disk.write_all(&reading, Bytes::from_static(b"x"), Bytes::new(), 0).is_err());
        disk.truncate(&file, 4).unwrap();
        disk.persist(&file, 0).unwrap();
        disk.call(Operation::Forget { file: reading, at: 1, bytes: 2 }).unwrap();
        assert_eq!(disk.read(&file, 0, 100).unwrap(), &b"\0\0he"[..]);
        disk.rename(&a, &b).unwrap();
        disk.persist_dir(&sub).unwrap();
        assert_eq!(disk.list(&sub).unwrap(), [Entry { name: "b".to_owned(), is_dir: false }]);
        let meta = disk.look_at(&b).unwrap();
        assert!(meta.bytes == 4 && meta.modified_ms > 1_600_000_000_000, "{meta:?}");
        assert_eq!(disk.open(&b, Open::Empty).map(|file| file.writes()).unwrap(), 0);
        disk.remove(&b).unwrap();
        disk.remove_dir(&sub).unwrap();
        assert_eq!(disk.list(&sub).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_shortage_is_no_broken_disk() {
        for (code, scarce) in [(Errno::MFILE, true), (Errno::NFILE, true), (Errno::IO, false), (Errno::NOSPC, false)] {
            assert_eq!(crate::is_shortage(&code.into()), scarce, "{code:?}");
        }
    }
}
