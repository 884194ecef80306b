//! A disk whose operations are waited for, so that one text of what runs behind commits (tables, spares) serves a ring's
//! thread, a plain thread and a simulated disk.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::{Disk, Entry, File, Meta, Open, Operation, Outcome, Space};

/// A [`Disk`] whose operations are futures, of one thread.
pub trait WaitedDisk {
    /// Does it, while other tasks of this thread go on where there are such.
    fn run(&self, operation: Operation) -> impl Future<Output = io::Result<Outcome>>;

    /// As [`Disk::open`].
    fn open(&self, path: &Path, how: Open) -> impl Future<Output = io::Result<File>> {
        let opened = self.run(Operation::Open { path: path.to_owned(), how });
        async { opened.await.map(Outcome::into_file) }
    }

    /// As [`Disk::read`].
    fn read(&self, file: &File, at: u64, bytes: usize) -> impl Future<Output = io::Result<Bytes>> {
        let read = self.run(Operation::Read { file: file.clone(), at, bytes });
        async { read.await.map(Outcome::into_bytes) }
    }

    /// What is read next comes from the medium ([`Operation::Forget`]).
    fn forget(&self, file: &File, at: u64, bytes: usize) -> impl Future<Output = io::Result<()>> {
        done(self.run(Operation::Forget { file: file.clone(), at, bytes }))
    }

    /// As [`Disk::write_all`], of one part.
    fn write_all(&self, file: &File, mut bytes: Bytes, mut at: u64) -> impl Future<Output = io::Result<()>> {
        async move {
            while !bytes.is_empty() {
                let operation = Operation::Write { file: file.clone(), at, head: bytes.clone(), body: Bytes::new() };
                let written = self.run(operation).await?.into_written();
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                at += written as u64;
                bytes = bytes.slice(written..);
            }
            Ok(())
        }
    }

    /// As [`Disk::persist`].
    fn persist(&self, file: &File, from: u64) -> impl Future<Output = io::Result<()>> {
        done(self.run(Operation::Persist { file: file.clone(), from }))
    }

    /// As [`Disk::rename`].
    fn rename(&self, from: &Path, to: &Path) -> impl Future<Output = io::Result<()>> {
        done(self.run(Operation::Rename { from: from.to_owned(), to: to.to_owned() }))
    }

    /// As [`Disk::remove`].
    fn remove(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        done(self.run(Operation::Remove { path: path.to_owned() }))
    }

    /// As [`Disk::persist_dir`].
    fn persist_dir(&self, path: &Path) -> impl Future<Output = io::Result<()>> {
        done(self.run(Operation::PersistDir { path: path.to_owned() }))
    }

    /// As [`Disk::list`].
    fn list(&self, path: &Path) -> impl Future<Output = io::Result<Vec<Entry>>> {
        let listed = self.run(Operation::List { path: path.to_owned() });
        async { listed.await.map(Outcome::into_entries) }
    }

    /// As [`Disk::look_at`].
    fn look_at(&self, path: &Path) -> impl Future<Output = io::Result<Meta>> {
        let looked = self.run(Operation::LookAt { path: path.to_owned() });
        async { looked.await.map(Outcome::into_meta) }
    }

    /// As [`Disk::space`].
    fn space(&self, path: &Path) -> impl Future<Output = io::Result<Space>> {
        let asked = self.run(Operation::Space { path: path.to_owned() });
        async { asked.await.map(Outcome::into_space) }
    }
}

async fn done(ran: impl Future<Output = io::Result<Outcome>>) -> io::Result<()> {
    ran.await.map(|_| ())
}

/// A disk that does it before it is waited for: on whatever thread asks.
#[derive(Clone, Copy)]
pub struct AtOnce<'d>(pub &'d dyn Disk);

impl WaitedDisk for AtOnce<'_> {
    fn run(&self, operation: Operation) -> impl Future<Output = io::Result<Outcome>> {
        std::future::ready(self.0.call(operation))
    }
}

/// What a future brings that only waits for [`AtOnce`].
///
/// # Panics
/// When it waits for anything else.
pub fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(brought) => brought,
        Poll::Pending => panic!("what runs at once waits for nothing"),
    }
}
