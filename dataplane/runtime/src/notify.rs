//! Waking tasks of the same shard. No thread ever sees one: between shards use a mailbox.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// A flag that tasks of one shard can wait for. Clones are the same flag.
///
/// One `notify` lets at least one waiting task through, or the next one that comes; any number of `notify` calls
/// before that count as one. So the waiter looks at its state again after each wake, as with a condition variable.
#[derive(Clone, Default)]
pub struct Notify {
    inner: Rc<Inner>,
}

#[derive(Default)]
struct Inner {
    set: Cell<bool>,
    /// Bounded by the number of tasks that ever wait between two calls of `notify`; a dropped waiter's waker stays
    /// until then and wakes its task once too often at worst.
    waiting: RefCell<Vec<Waker>>,
}

impl Notify {
    pub fn new() -> Self {
        Notify::default()
    }

    /// Sets the flag and wakes those who wait; the first to run takes the flag, the others wait on.
    pub fn notify(&self) {
        self.inner.set.set(true);
        let mut waiting = self.inner.waiting.borrow_mut();
        for waker in waiting.drain(..) {
            waker.wake();
        }
    }

    /// Waits for the flag and clears it. May be dropped at any time; a notification is never lost by that.
    pub fn notified(&self) -> Notified<'_> {
        Notified { inner: &self.inner }
    }

    /// Takes the flag without waiting.
    pub fn take(&self) -> bool {
        self.inner.set.replace(false)
    }
}

#[must_use = "futures do nothing unless awaited"]
pub struct Notified<'a> {
    inner: &'a Inner,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.set.replace(false) {
            return Poll::Ready(());
        }
        let mut waiting = self.inner.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
