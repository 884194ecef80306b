//! What every piece of this crate needs to know about the shard it runs on. One per thread, reached through a
//! thread local, so that `spawn`, `yield_now` and `Stream` need no handle passed through every call.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use crate::pool::BufferPool;
use crate::shard::Driver;
use crate::task::Registry;
use crate::time::Yielder;

/// Hears of every panic of a shard, at once and on its thread.
pub(crate) type PanicWatch = dyn Fn(&(dyn Any + Send)) + Send + Sync;

/// Per shard. Never leaves its thread.
pub(crate) struct Shard {
    pub driver: Driver,
    pub tasks: Registry,
    pub yielder: Yielder,
    pub pool: BufferPool,
    /// Set once `main` is over: every task sees it at its next poll and drops its future.
    pub closing: Cell<bool>,
    /// The first panic of any task; ends the shard.
    pub panic: RefCell<Option<Box<dyn Any + Send>>>,
    pub main: RefCell<Option<Waker>>,
    panicked: Arc<PanicWatch>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Shard>>> = const { RefCell::new(None) };
}

impl Shard {
    pub fn new(driver: Driver, panicked: Arc<PanicWatch>) -> Rc<Shard> {
        Rc::new(Shard {
            driver,
            tasks: Registry::default(),
            yielder: Yielder::default(),
            pool: BufferPool::default(),
            closing: Cell::new(false),
            panic: RefCell::new(None),
            main: RefCell::new(None),
            panicked,
        })
    }

    /// Something here panicked: tell it, remember why and let `main`'s supervisor end the shard.
    pub fn fail(&self, payload: Box<dyn Any + Send>) {
        (self.panicked)(&*payload);
        self.panic.borrow_mut().get_or_insert(payload);
        if let Some(waker) = self.main.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }
}

/// The shard of this thread.
///
/// # Panics
/// Outside of [`crate::spawn_shard`]: there is no ring to work with.
pub(crate) fn current() -> Rc<Shard> {
    CURRENT.with(|shard| shard.borrow().clone()).expect("called on a shard: inside a future run by spawn_shard")
}

pub(crate) fn enter(shard: Option<Rc<Shard>>) {
    CURRENT.with(|current| *current.borrow_mut() = shard);
}
