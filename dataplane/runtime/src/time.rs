//! Timers of a shard, one millisecond fine, and the only right way to yield.
//!
//! Deadlines are `std::time::Instant`s, so state machines and the shell share one clock.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use monoio::net::TcpStream;

use crate::context;
use crate::limits::YIELDERS_IDLE_MAX;
use crate::mailbox;
use crate::shard::Driver;

/// Waits for `duration`, rounded up to a millisecond.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep { inner: monoio::time::sleep(duration) }
}

/// Waits until `deadline`, rounded up to a millisecond; at once when it has passed.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { inner: monoio::time::sleep_until(monoio::time::Instant::from_std(deadline)) }
}

/// Future of [`sleep`] and [`sleep_until`]; may be dropped at any time.
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    inner: monoio::time::Sleep,
}

impl Sleep {
    /// Moves the deadline without a new timer.
    pub fn reset(self: Pin<&mut Self>, deadline: Instant) {
        self.project().reset(monoio::time::Instant::from_std(deadline));
    }

    fn project(self: Pin<&mut Self>) -> Pin<&mut monoio::time::Sleep> {
        // SAFETY: `inner` is the only field, is pinned whenever `self` is, and is never moved out.
        unsafe { self.map_unchecked_mut(|this| &mut this.inner) }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().poll(cx)
    }
}

/// The time was over before the future was ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("deadline passed")]
pub struct Elapsed;

impl From<Elapsed> for io::Error {
    fn from(_: Elapsed) -> io::Error {
        io::Error::new(io::ErrorKind::TimedOut, Elapsed)
    }
}

/// Gives `future` at most `duration`, then drops it.
///
/// Wrap only futures that may be dropped: `readable()`, `notified()`, `recv()`, `connect()`. A read or write that
/// is dropped has an unknown outcome and loses bytes; bound those by shutting the stream down instead.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(duration) }
}

/// As [`timeout`], until `deadline`.
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep_until(deadline) }
}

/// Future of [`timeout`].
#[must_use = "futures do nothing unless awaited"]
pub struct Timeout<F> {
    future: F,
    sleep: Sleep,
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: both fields are pinned with `self`, neither is moved out, and there is no Drop impl.
        let (future, sleep) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), Pin::new_unchecked(&mut this.sleep))
        };
        if let Poll::Ready(value) = future.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        sleep.poll(cx).map(|()| Err(Elapsed))
    }
}

/// Lets everything else have its turn: other tasks, completions, timers and wakes from other threads.
///
/// A task that spends its budget without waiting for anything calls this. It goes once around through the kernel,
/// so the run queue becomes empty meanwhile and the driver does all its duties (waking oneself would put the task
/// in front of the queue, and monoio 0.2.4 would look at neither timers nor foreign wakes until it stops). Costs
/// about half a microsecond and, unlike a zero timer, does not wait for the next millisecond.
pub async fn yield_now() {
    let shard = context::current();
    if let Err(err) = shard.yielder.turn(shard.driver).await {
        // Out of descriptors or memory: the next millisecond will do.
        tracing::warn!(%err, "yielding by timer");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Per shard: descriptors that are always about to complete.
///
/// io_uring: one eventfd, always writable, so a poll for that completes when the ring is next entered.
/// epoll: what counts as ready once and for all would not wait at all, so each yield takes an eventfd of its own
/// (kept for the next one), waits for it to become readable, and only then writes it.
#[derive(Default)]
pub(crate) struct Yielder {
    idle: RefCell<Vec<Rc<Event>>>,
}

struct Event {
    fd: OwnedFd,
    stream: TcpStream,
}

impl Event {
    fn new() -> io::Result<Event> {
        let fd = mailbox::eventfd()?;
        let stream = mailbox::pollable(fd.try_clone()?)?;
        Ok(Event { fd, stream })
    }
}

impl Yielder {
    async fn turn(&self, driver: Driver) -> io::Result<()> {
        match driver {
            Driver::IoUringCoop | Driver::IoUring => {
                let kept = self.idle.borrow().first().cloned();
                let event = match kept {
                    Some(event) => event,
                    None => {
                        let event = Rc::new(Event::new()?);
                        self.idle.borrow_mut().push(event.clone());
                        event
                    }
                };
                event.stream.writable(false).await
            }
            Driver::Epoll => {
                let kept = self.idle.borrow_mut().pop();
                let event = match kept {
                    Some(event) => event,
                    None => Rc::new(Event::new()?),
                };
                let mut readable = pin!(event.stream.readable(false));
                let mut rung = false;
                poll_fn(|cx| {
                    let polled = readable.as_mut().poll(cx);
                    if polled.is_pending() && !rung {
                        rung = true;
                        mailbox::ring(&event.fd);
                    }
                    polled
                })
                .await?;
                mailbox::silence(&event.fd);
                let mut idle = self.idle.borrow_mut();
                if idle.len() < YIELDERS_IDLE_MAX {
                    idle.push(event.clone());
                }
                Ok(())
            }
        }
    }
}
