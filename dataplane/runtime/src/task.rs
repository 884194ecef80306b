//! Local tasks, known to their shard.
//!
//! monoio keeps a task alive through the waker of whatever it waits for and never drops it when the runtime ends:
//! its sockets would stay open for as long as the process lives. Every task of ours is therefore listed in its
//! shard (24 bytes and its waker), which can tell all of them to drop their futures; and panics are caught at the
//! task's edge so that a panicking shard closes its sockets too.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use slab::Slab;

use crate::context::{self, Shard};

/// The live tasks of one shard.
#[derive(Default)]
pub(crate) struct Registry {
    slots: RefCell<Slab<Slot>>,
}

struct Slot {
    /// `None` until the first poll.
    waker: Option<Waker>,
    aborted: bool,
}

impl Registry {
    pub fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.borrow().is_empty()
    }

    pub fn wake_all(&self) {
        // Waking only queues the task, so no task runs and borrows the slab while this loop holds it.
        for (_, slot) in self.slots.borrow().iter() {
            if let Some(waker) = &slot.waker {
                waker.wake_by_ref();
            }
        }
    }

    fn insert(&self) -> usize {
        self.slots.borrow_mut().insert(Slot { waker: None, aborted: false })
    }

    fn remove(&self, key: usize) {
        let slot = self.slots.borrow_mut().remove(key);
        drop(slot);
    }

    /// Notes the waker at the first poll; says whether the task was aborted.
    fn polled(&self, key: usize, waker: &Waker) -> bool {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[key];
        if slot.waker.is_none() {
            slot.waker = Some(waker.clone());
        }
        slot.aborted
    }

    fn abort(&self, key: usize) {
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[key];
        slot.aborted = true;
        if let Some(waker) = &slot.waker {
            waker.wake_by_ref();
        }
    }
}

/// Runs `future` on this shard, at its own pace. Dropping the handle lets it run on.
///
/// # Panics
/// Outside of a shard.
pub fn spawn<F>(future: F) -> TaskHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let shard = context::current();
    let key = shard.tasks.insert();
    let life = Rc::new(Life { shard, key });
    let weak = Rc::downgrade(&life);
    let join = monoio::spawn(Supervised { future: Some(future), life: Some(life) });
    TaskHandle { join, life: weak }
}

/// A spawned task. Await it for its value: `None` when it was aborted or its shard ended first.
pub struct TaskHandle<T> {
    join: monoio::task::JoinHandle<Option<T>>,
    life: std::rc::Weak<Life>,
}

impl<T> TaskHandle<T> {
    /// Drops the task's future at its next turn. Bytes of a read or write in flight are lost; the socket is closed
    /// if the task owned it.
    pub fn abort(&self) {
        if let Some(life) = self.life.upgrade() {
            life.shard.tasks.abort(life.key);
        }
    }

    pub fn is_finished(&self) -> bool {
        self.join.is_finished()
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.join).poll(cx)
    }
}

/// A task's entry in the registry, freed with the last owner.
struct Life {
    shard: Rc<Shard>,
    key: usize,
}

impl Drop for Life {
    fn drop(&mut self) {
        self.shard.tasks.remove(self.key);
    }
}

struct Supervised<F> {
    future: Option<F>,
    life: Option<Rc<Life>>,
}

impl<F: Future> Future for Supervised<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: `future` is pinned with `self` and never moved: it is only polled in place or overwritten by
        // `None`, which drops it in place. `life` is not structurally pinned. There is no Drop impl on Self.
        let (mut future, life) = unsafe {
            let this = self.get_unchecked_mut();
            (Pin::new_unchecked(&mut this.future), &mut this.life)
        };
        let Some(entry) = life.as_ref() else { return Poll::Ready(None) };
        let aborted = entry.shard.tasks.polled(entry.key, cx.waker());
        let outcome = if aborted || entry.shard.closing.get() {
            None
        } else {
            let polled = catch_unwind(AssertUnwindSafe(|| match future.as_mut().as_pin_mut() {
                Some(future) => future.poll(cx).map(Some),
                None => Poll::Ready(None),
            }));
            match polled {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(value)) => value,
                Err(payload) => {
                    entry.shard.fail(payload);
                    None
                }
            }
        };
        // What the future owns may panic while it is dropped; its shard must still close everything else.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| future.set(None))) {
            entry.shard.fail(payload);
        }
        *life = None;
        Poll::Ready(outcome)
    }
}
