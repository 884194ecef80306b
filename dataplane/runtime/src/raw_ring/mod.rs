//! The floor under every measurement: io_uring by hand, without a runtime, a task or a timer.
//!
//! `kbench floor` runs these loops to learn what this machine's TCP costs, so that a gateway's CPU per request can be
//! given as a ratio to it, measured in the same minute. Nothing of the product uses them.
//!
//! [`Ring`] is a safe face of one ring: an operation takes its buffer and a share of its descriptor along and gives
//! them back with its completion, so neither can be touched or freed while the kernel works on them.

mod forward;
mod http;
mod serve;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{IoUring, opcode, types};
use slab::Slab;

pub use forward::serve_forward;
pub use http::{ANSWER, delimit, serve_http};

use crate::limits::COMPLETIONS_PER_ENTRY;
use crate::mailbox;

/// Submission entries of a floor's ring.
const ENTRIES: u32 = 1024;

/// Ends a floor's loop from another thread.
#[derive(Clone)]
pub struct Stop {
    event: Arc<OwnedFd>,
}

impl Stop {
    pub fn new() -> io::Result<Stop> {
        Ok(Stop { event: Arc::new(mailbox::eventfd()?) })
    }

    /// The loop shuts its connections down and returns.
    pub fn stop(&self) {
        mailbox::ring(&self.event);
    }
}

/// One ring of one thread.
struct Ring {
    uring: IoUring,
    in_flight: Slab<Operation>,
}

/// What the kernel is working on.
struct Operation {
    user: u64,
    buf: Vec<u8>,
    accepts: bool,
    /// Held so that the number is not reused for another descriptor meanwhile.
    _fd: Held,
}

enum Held {
    Shared(#[allow(dead_code)] Rc<OwnedFd>),
    Stop(#[allow(dead_code)] Arc<OwnedFd>),
}

/// An operation that is over.
struct Completion {
    /// As given at the start.
    user: u64,
    result: io::Result<usize>,
    /// The buffer as given; for reads, `result` bytes behind the offset are new.
    buf: Vec<u8>,
    /// The connection of an accept.
    accepted: Option<OwnedFd>,
}

impl Ring {
    fn new() -> io::Result<Ring> {
        let mut builder = IoUring::builder();
        builder.setup_coop_taskrun().setup_single_issuer().setup_cqsize(ENTRIES * COMPLETIONS_PER_ENTRY);
        Ok(Ring { uring: builder.build(ENTRIES)?, in_flight: Slab::new() })
    }

    fn accept(&mut self, listener: &Rc<OwnedFd>, user: u64) -> io::Result<()> {
        let entry = opcode::Accept::new(types::Fd(listener.as_raw_fd()), std::ptr::null_mut(), std::ptr::null_mut())
            .flags(libc::SOCK_CLOEXEC)
            .build();
        let held = Held::Shared(listener.clone());
        self.submit(entry, Operation { user, buf: Vec::new(), accepts: true, _fd: held })
    }

    /// Reads into `buf[from..]`.
    fn recv(&mut self, fd: &Rc<OwnedFd>, mut buf: Vec<u8>, from: usize, user: u64) -> io::Result<()> {
        let room = &mut buf[from..];
        let entry = opcode::Recv::new(types::Fd(fd.as_raw_fd()), room.as_mut_ptr(), length(room.len())).build();
        self.submit(entry, Operation { user, buf, accepts: false, _fd: Held::Shared(fd.clone()) })
    }

    /// Writes `buf[from..to]`, or a part of it.
    fn send(&mut self, fd: &Rc<OwnedFd>, buf: Vec<u8>, from: usize, to: usize, user: u64) -> io::Result<()> {
        let bytes = &buf[from..to];
        let entry = opcode::Send::new(types::Fd(fd.as_raw_fd()), bytes.as_ptr(), length(bytes.len()))
            .flags(libc::MSG_NOSIGNAL)
            .build();
        self.submit(entry, Operation { user, buf, accepts: false, _fd: Held::Shared(fd.clone()) })
    }

    fn watch(&mut self, stop: &Stop, user: u64) -> io::Result<()> {
        let entry = opcode::PollAdd::new(types::Fd(stop.event.as_raw_fd()), libc::POLLIN as u32).build();
        let held = Held::Stop(stop.event.clone());
        self.submit(entry, Operation { user, buf: Vec::new(), accepts: false, _fd: held })
    }

    fn submit(&mut self, entry: io_uring::squeue::Entry, operation: Operation) -> io::Result<()> {
        if self.uring.submission().is_full() {
            self.uring.submit()?;
        }
        let key = self.in_flight.insert(operation);
        let entry = entry.user_data(key as u64);
        // SAFETY: the entry's pointers lead into the heap block of `operation.buf` (within bounds, made from slices
        // above) and its descriptor is held open by `operation._fd`. The operation stays in `in_flight`, where
        // neither moves or is touched, until the kernel has completed the entry; a ring that is dropped earlier
        // leaks them (see Drop).
        let pushed = unsafe { self.uring.submission().push(&entry) };
        assert!(pushed.is_ok(), "room was made above");
        Ok(())
    }

    /// Submits, waits for at least one completion and moves all that are there to `into`.
    fn wait(&mut self, into: &mut VecDeque<Completion>) -> io::Result<()> {
        match self.uring.submit_and_wait(1) {
            Ok(_) => {}
            Err(err) if matches!(err.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => {}
            Err(err) => return Err(err),
        }
        for entry in self.uring.completion() {
            let operation = self.in_flight.remove(entry.user_data() as usize);
            let result = usize::try_from(entry.result()).map_err(|_| io::Error::from_raw_os_error(-entry.result()));
            let accepted = match &result {
                Ok(fd) if operation.accepts => {
                    // SAFETY: a successful accept made this descriptor, and nobody else has seen it.
                    Some(unsafe { OwnedFd::from_raw_fd(*fd as i32) })
                }
                _ => None,
            };
            into.push_back(Completion { user: operation.user, result, buf: operation.buf, accepted });
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.in_flight.len()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // The kernel may write to these until it has torn the ring down, some time after the close.
        std::mem::forget(std::mem::take(&mut self.in_flight));
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("buffers of a floor are small")
}

fn shutdown(fd: &OwnedFd) {
    let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both);
}
