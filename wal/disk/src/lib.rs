//! The file layer: what our logs ask of a disk, and nothing of what they mean by it.
//!
//! ```text
//!   log ── submit(ticket, Operation) ──▶ Disk ──▶ device          log ── call(Operation) ──▶ done when it returns
//!    ▲                                    │
//!    └─────────── complete() ◀── doorbell ┘
//! ```
//!
//! Two disks: [`Files`], files of the system with one thread for what is submitted, and [`SimulatedDisk`], in memory and
//! from a seed, which after a power cut has what was persisted and of everything else what chance left. The same code runs
//! on both, so what it forgets to persist is found by a seed instead of by a customer. Of a short history it lists every
//! state that a cut could leave ([`SimulatedDisk::states_after_cut`]).
//!
//! What must be told apart, because disks do:
//! - A write is in the page cache. [`Operation::Persist`] makes it durable; a file's *name* is durable when its
//!   directory is ([`Operation::PersistDir`]), and so are a rename and a removal.
//! - A persist that failed is final for its [`File`]: the kernel may call the lost pages clean, so that the next one would
//!   succeed and lie (Rebello et al., "Can applications recover from fsync failures?"). Opened anew it would be believed:
//!   cut off or write again what was not durable before.
//! - A segment ([`Open::Segment`]) is a file made in full before it is used: [`Operation::Zero`] (a full disk is an error
//!   there), persist, rename into place, persist the directory. Its length never changes while it is open.
//! - A shortage ([`is_shortage`]: no descriptor, no memory) says nothing about the disk: nothing was done, try again.
//!
//! How segments are written is the [`Device`] that `Files` was given; all other files are plain. What each promises is
//! one table of tests (`promises.rs`). A page of a mapped segment that is lost (cut off by somebody, a device error) is an
//! error of the write or the persist, never a signal that ends the process (`segment/sigbus.rs`).
//!
//! What runs behind commits waits for its operations ([`WaitedDisk`]): on a plain thread and on a simulated disk at once
//! ([`AtOnce`]), on a thread with a ring in glommio's executor ([`ring::Ring`]).
//!
//! Other kinds dock here as further [`Disk`]s, owned buffers and completions being what they need: another runtime keeps
//! operations in flight between `submit` and `complete`. What they keep per file is in [`File::new`].

mod amplification;
mod file;
mod files;
mod operation;
#[cfg(test)]
mod promises;
pub mod ring;
mod segment;
mod simulated;
mod transfer;
mod waited;

use std::io;
use std::path::Path;

use bytes::Bytes;

pub use amplification::commit_amplification;
pub use file::File;
pub use files::Files;
pub use operation::{Completion, Entry, Meta, Open, Operation, Outcome, Space, ZERO_WRITE_BYTES};
pub use segment::Device;
pub use simulated::{Chance, Chances, SECTOR_BYTES, SimulatedDisk, TooManyStates};
pub use waited::{AtOnce, WaitedDisk, at_once};

/// A disk. Operations of one caller may overlap and end in any order; who needs one before another waits for it.
pub trait Disk: Send + Sync {
    /// Does it on this thread.
    fn call(&self, operation: Operation) -> io::Result<Outcome>;

    /// Has it done elsewhere; its completion carries `ticket`.
    fn submit(&self, ticket: u64, operation: Operation);

    /// Takes the next completion, if there is one.
    fn complete(&self) -> Option<Completion>;

    /// Whether its paths are those of the system, so that its files may be read there, too. Not of a simulation.
    fn is_of_the_system(&self) -> bool {
        false
    }

    /// Asked by whoever does an operation on a file of this disk in another way, before it does; an error is the operation's. Tests
    /// inject faults here.
    fn before(&self, _operation: &Operation) -> io::Result<()> {
        Ok(())
    }

    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<File> {
        self.call(Operation::Open { path: path.to_owned(), how }).map(Outcome::into_file)
    }

    /// Up to `bytes` from `at`, fewer only at the end of the file.
    fn read(&self, file: &File, at: u64, bytes: usize) -> io::Result<Bytes> {
        self.call(Operation::Read { file: file.clone(), at, bytes }).map(Outcome::into_bytes)
    }

    /// Writes all of head and body at `at`, however many writes that takes.
    fn write_all(&self, file: &File, mut head: Bytes, mut body: Bytes, mut at: u64) -> io::Result<()> {
        while !(head.is_empty() && body.is_empty()) {
            let operation = Operation::Write { file: file.clone(), at, head: head.clone(), body: body.clone() };
            let written = self.call(operation)?.into_written();
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            at += written as u64;
            let of_head = written.min(head.len());
            head = head.slice(of_head..);
            body = body.slice(written - of_head..);
        }
        Ok(())
    }

    /// Makes every write durable that was done before, from byte `from` on.
    fn persist(&self, file: &File, from: u64) -> io::Result<()> {
        self.call(Operation::Persist { file: file.clone(), from }).map(|_| ())
    }

    /// Cuts or grows a file to this length.
    fn truncate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.call(Operation::Truncate { file: file.clone(), bytes }).map(|_| ())
    }

    /// Fills an empty file with zeros up to this length.
    fn zero(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.call(Operation::Zero { file: file.clone(), bytes }).map(|_| ())
    }

    /// Reserves room up to this length, which does not change.
    fn preallocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        self.call(Operation::Preallocate { file: file.clone(), bytes }).map(|_| ())
    }

    /// Gives a file another name; what had that name is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Operation::Rename { from: from.to_owned(), to: to.to_owned() }).map(|_| ())
    }

    /// Removes a file's name.
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Operation::Remove { path: path.to_owned() }).map(|_| ())
    }

    /// Makes one directory.
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Operation::MakeDir { path: path.to_owned() }).map(|_| ())
    }

    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Operation::RemoveDir { path: path.to_owned() }).map(|_| ())
    }

    /// Makes what names a directory has durable.
    fn persist_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Operation::PersistDir { path: path.to_owned() }).map(|_| ())
    }

    /// What is in a directory, by name.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.call(Operation::List { path: path.to_owned() }).map(Outcome::into_entries)
    }

    /// Length and age of what has this name.
    fn look_at(&self, path: &Path) -> io::Result<Meta> {
        self.call(Operation::LookAt { path: path.to_owned() }).map(Outcome::into_meta)
    }

    /// Room on the file system of what has this name.
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.call(Operation::Space { path: path.to_owned() }).map(Outcome::into_space)
    }
}

/// Room on the file system of what has this name, for those who only want to know that and have no [`Disk`].
pub fn space_of(path: &Path) -> io::Result<Space> {
    let found = rustix::fs::statvfs(path)?;
    let [free_bytes, total_bytes] = [found.f_bavail, found.f_blocks].map(|blocks| blocks * found.f_frsize);
    Ok(Space { free_bytes, total_bytes })
}

/// Whether an error only says that something was scarce: nothing was done, nothing is broken, a retry can help.
pub fn is_shortage(err: &io::Error) -> bool {
    use rustix::io::Errno;
    let scarce = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    err.raw_os_error().is_some_and(|code| scarce.iter().any(|errno| errno.raw_os_error() == code))
}
