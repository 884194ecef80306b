//! Files of the system from a ring's thread: reads, writes and persists are operations of the ring.
//!
//! Whatever names files (opening, renaming, removing, directories) is done by the disk below: it is over in microseconds, but
//! for the persist of a directory, and the ring has no operation for most of it. So a file is the disk's, and whoever else has
//! it can use it, too; the ring has handles of its own to what it reads or writes, by the file's descriptor, so that a name
//! that changes says nothing.
//!
//! Cost of an operation beside what a system call does: one submission, one completion, and for a read one copy out of glommio's
//! buffer, which is its thread's. Buffered writes of ext4 go through a worker of the kernel, some 10 µs.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use glommio::io::{BufferedFile, OpenOptions};

use super::plain;
use crate::file::WeakFile;
use crate::transfer::INTERRUPTIONS_MAX;
use crate::{Disk, File, Operation, Outcome, WaitedDisk};

/// Handles to files that are only read. One that was written keeps its handle as long as somebody has the file: its persist tells
/// what became of those writes.
const READ_HANDLES_MAX: usize = 64;

/// See the module. For a task of an executor of glommio's; one per thread.
pub struct Ring<'d> {
    disk: &'d dyn Disk,
    handles: RefCell<Vec<Handle>>,
}

struct Handle {
    file: WeakFile,
    is_written: bool,
    ring: Rc<BufferedFile>,
}

impl<'d> Ring<'d> {
    /// # Panics
    /// When the disk is not the system's.
    pub fn new(disk: &'d dyn Disk) -> Ring<'d> {
        assert!(disk.is_of_the_system(), "a ring knows files of the system only");
        Ring { disk, handles: RefCell::default() }
    }

    /// The ring's handle to a file. `None`: it has none, as of a segment, which its device writes.
    async fn handle(&self, file: &File, is_written: bool) -> Option<Rc<BufferedFile>> {
        let known = |handles: &Vec<Handle>| {
            let handle = handles.iter().find(|handle| handle.file.is(file))?;
            (handle.is_written || !is_written).then(|| Rc::clone(&handle.ring))
        };
        if let Some(known) = known(&self.handles.borrow()) {
            return Some(known);
        }
        let descriptor = file.descriptor()?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
        // Without /proc the disk below does it.
        let opened = OpenOptions::new().read(true).write(is_written).buffered_open(&path).await.ok()?;
        let ring = Rc::new(opened);
        let mut handles = self.handles.borrow_mut();
        handles.retain(|handle| handle.file.is_open() && !handle.file.is(file));
        if handles.iter().filter(|handle| !handle.is_written).count() >= READ_HANDLES_MAX {
            handles.retain(|handle| handle.is_written);
        }
        handles.push(Handle { file: file.weak(), is_written, ring: Rc::clone(&ring) });
        Some(ring)
    }
}

impl WaitedDisk for Ring<'_> {
    async fn run(&self, operation: Operation) -> io::Result<Outcome> {
        let handle = match &operation {
            Operation::Read { file, .. } => self.handle(file, false).await,
            Operation::Write { file, .. } | Operation::Persist { file, .. } => self.handle(file, true).await,
            _ => None,
        };
        let Some(ring) = handle else { return self.disk.call(operation) };
        if let Operation::Persist { file, .. } = &operation {
            let persist = async {
                self.disk.before(&operation)?;
                ring.fdatasync().await.map_err(plain)
            };
            return file.wait_persist(persist).await.map(|writes| Outcome::Persisted { writes });
        }
        self.disk.before(&operation)?;
        match operation {
            Operation::Read { at, bytes, .. } => read(&ring, at, bytes).await.map(Outcome::Bytes),
            Operation::Write { file, at, head, body } => {
                let written = write(&ring, at, &head, &body).await?;
                file.note_write();
                Ok(Outcome::Written(written))
            }
            other => unreachable!("{other:?} has no handle"),
        }
    }
}

/// Up to so many, fewer only at the end of the file.
async fn read(ring: &BufferedFile, at: u64, bytes: usize) -> io::Result<Bytes> {
    let mut whole = Vec::with_capacity(bytes);
    let mut interruptions = 0;
    while whole.len() < bytes {
        match ring.read_at(at + whole.len() as u64, bytes - whole.len()).await.map_err(plain) {
            Ok(some) if some.is_empty() => break,
            Ok(some) => whole.extend_from_slice(&some),
            Err(err) if is_interruption(&err) && interruptions < INTERRUPTIONS_MAX => interruptions += 1,
            Err(err) => return Err(err),
        }
    }
    Ok(Bytes::from(whole))
}

/// One write, which may be short. Copied: glommio wants the bytes for itself, and whoever writes keeps them for what is left.
async fn write(ring: &BufferedFile, at: u64, head: &Bytes, body: &Bytes) -> io::Result<usize> {
    let mut interruptions = 0;
    loop {
        match ring.write_at([&head[..], &body[..]].concat(), at).await.map_err(plain) {
            Err(err) if is_interruption(&err) && interruptions < INTERRUPTIONS_MAX => interruptions += 1,
            done => return done,
        }
    }
}

fn is_interruption(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Files, Open};

    #[test]
    fn what_is_read_and_written_has_handles_of_the_ring_that_go_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Files::start(|_| Ok(()), || {}, || {}).unwrap();
        let executor = crate::ring::executor("handles", 64 << 10, 16).expect("this machine has io_uring");
        executor.run(async {
            let ring = Ring::new(&disk);
            let handles = |is_written| ring.handles.borrow().iter().filter(|is| is.is_written == is_written).count();
            let name = |index: usize| dir.path().join(index.to_string());
            let written = ring.open(&name(0), Open::Empty).await.unwrap();
            ring.write_all(&written, Bytes::from_static(b"x"), 0).await.unwrap();
            ring.persist(&written, 0).await.unwrap();
            assert_eq!(ring.read(&written, 0, 9).await.unwrap(), "x");
            assert_eq!((handles(true), handles(false)), (1, 0), "one handle for all of it");
            let mut files = Vec::new();
            for index in 1..2 * READ_HANDLES_MAX {
                ring.rename(&name(index - 1), &name(index)).await.unwrap();
                files.push(ring.open(&name(index), Open::Reading).await.unwrap());
                assert_eq!(ring.read(&files[index - 1], 0, 9).await.unwrap(), "x");
                assert!(handles(false) <= READ_HANDLES_MAX && handles(true) == 1, "{} of {index}", handles(false));
            }
            drop((written, files));
            let other = ring.open(Path::new("/proc/self/stat"), Open::Reading).await.unwrap();
            assert!(!ring.read(&other, 0, 9).await.unwrap().is_empty());
            assert_eq!((handles(true), handles(false)), (0, 1), "nobody has the others");
        });
    }
}
