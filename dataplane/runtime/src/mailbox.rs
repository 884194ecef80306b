//! Values from any thread to one shard.
//!
//! ```text
//! sender:   push to the queue ── fence ── parked? ──yes──> write the eventfd (the doorbell)
//! receiver: pop until empty ── parked = true ── fence ── pop once more ── wait for the eventfd
//! ```
//!
//! Both sides write one thing and then read the other's with a SeqCst fence between, so at least one of them sees
//! the other: either the receiver finds the value before it waits, or the sender finds it parked. While the
//! receiver is awake nobody makes a system call; a wake across cores costs about 30 µs, so keep hops off the
//! request path and send many values per wake.
//!
//! The doorbell arrives as a completion of the ring, not through monoio's own cross-thread wakers: those are served
//! only when the run queue is empty, and their `awake` flag has no such fence.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::thread::ThreadId;

use crossbeam_queue::ArrayQueue;
use monoio::net::TcpStream;

/// A bounded queue of `capacity` values into one shard. Make it anywhere; receive on one shard.
///
/// # Panics
/// When `capacity` is 0, or no descriptor is left for the doorbell.
pub fn mailbox<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a mailbox holds at least one value");
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        parked: AtomicBool::new(false),
        sender_count: AtomicUsize::new(1),
        receiver_gone: AtomicBool::new(false),
        doorbell: eventfd().expect("an eventfd for the doorbell"),
    });
    (Sender { shared: shared.clone() }, Receiver { shared, doorbell: None })
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    parked: AtomicBool,
    sender_count: AtomicUsize,
    receiver_gone: AtomicBool,
    doorbell: OwnedFd,
}

impl<T> Shared<T> {
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) && self.parked.swap(false, Ordering::SeqCst) {
            ring(&self.doorbell);
        }
    }

    /// Drops what nobody will receive. Values often carry what their senders wait for (reply mailboxes, reservations,
    /// sockets): free them now.
    fn empty(&self) {
        while self.queue.pop().is_some() {}
    }
}

/// Why a value was not taken; it comes back.
#[derive(PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    #[error("mailbox is full")]
    Full(T),
    #[error("mailbox is closed: its receiver is gone")]
    Closed(T),
}

impl<T> TrySendError<T> {
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(value) | TrySendError::Closed(value) => value,
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full",
            TrySendError::Closed(_) => "Closed",
        })
    }
}

/// The sending end, for any thread.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Never waits. A value taken here reaches the receiver unless that is dropped first.
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        if self.shared.receiver_gone.load(Ordering::Acquire) {
            return Err(TrySendError::Closed(value));
        }
        self.shared.queue.push(value).map_err(TrySendError::Full)?;
        self.shared.wake();
        // The receiver may have left since the first look, and emptied the queue before our push. One of the two sees
        // the other, by the fence in `wake` and the one in the receiver's drop: nothing lies in the queue for ever.
        if self.shared.receiver_gone.load(Ordering::Relaxed) {
            self.shared.empty();
        }
        Ok(())
    }

    /// Values waiting, at about this moment.
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }

    pub fn is_closed(&self) -> bool {
        self.shared.receiver_gone.load(Ordering::Acquire)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.sender_count.fetch_add(1, Ordering::Relaxed);
        Sender { shared: self.shared.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.shared.sender_count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.wake();
        }
    }
}

/// The receiving end, for one shard. It may be made elsewhere and moved there before its first `recv`.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    doorbell: Option<Doorbell>,
}

/// The doorbell as this thread's driver knows it. Belongs to the thread that made it.
struct Doorbell {
    owner: ThreadId,
    stream: ManuallyDrop<TcpStream>,
}

impl Doorbell {
    fn new(event: &OwnedFd) -> io::Result<Doorbell> {
        let stream = pollable(event.try_clone()?)?;
        Ok(Doorbell { owner: std::thread::current().id(), stream: ManuallyDrop::new(stream) })
    }

    fn stream(&self) -> &TcpStream {
        assert_eq!(self.owner, std::thread::current().id(), "a receiver stays on the shard of its first recv");
        &self.stream
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        // On another thread the registration and its descriptor are leaked: that thread may not touch the driver.
        if self.owner == std::thread::current().id() {
            // SAFETY: dropped once, here, and never used after.
            unsafe { ManuallyDrop::drop(&mut self.stream) };
        }
    }
}

// SAFETY: the stream inside is reached only through `stream()` and `drop`, and both compare the thread with the one
// that made it.
unsafe impl Send for Doorbell {}

impl<T> Receiver<T> {
    /// Takes the next value if there is one.
    pub fn try_recv(&mut self) -> Option<T> {
        self.shared.queue.pop()
    }

    /// Waits for the next value; `None` when all senders are gone and the queue is empty. May be dropped at any
    /// time without losing a value.
    pub async fn recv(&mut self) -> Option<T> {
        loop {
            if let Some(value) = self.shared.queue.pop() {
                return Some(value);
            }
            self.shared.parked.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            if let Some(value) = self.shared.queue.pop() {
                self.shared.parked.store(false, Ordering::Relaxed);
                return Some(value);
            }
            if self.shared.sender_count.load(Ordering::SeqCst) == 0 {
                // The last sender pushed before it left, and it left before we looked.
                return self.shared.queue.pop();
            }
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        if self.doorbell.is_none() {
            self.doorbell = Some(Doorbell::new(&self.shared.doorbell).expect("register the doorbell"));
        }
        if let Some(doorbell) = &self.doorbell {
            doorbell.stream().readable(false).await.expect("wait for the doorbell");
        }
        silence(&self.shared.doorbell);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.receiver_gone.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        self.shared.empty();
    }
}

/// A doorbell: counts rings, readable while not zero.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    use rustix::event::EventfdFlags;
    Ok(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Wraps an eventfd for `readable` and `writable`. monoio has no plain descriptor to poll; its TcpStream calls
/// nothing of TCP until asked for addresses or options, which nobody does here.
pub(crate) fn pollable(event: OwnedFd) -> io::Result<TcpStream> {
    TcpStream::from_std(std::net::TcpStream::from(event))
}

pub(crate) fn ring(event: &OwnedFd) {
    // The counter is full after 2^64 - 1 rings without a read; then it is readable anyway.
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

pub(crate) fn silence(event: &OwnedFd) {
    let mut count = [0u8; 8];
    let _ = rustix::io::read(event, &mut count);
}
