//! How whoever appended hears of it: completions in a queue of its own, and a doorbell.

use std::sync::{Arc, Mutex, PoisonError};

use crate::refused::Refused;

/// The end of one append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub ticket: u64,
    /// Lsn of the group's first record.
    pub result: Result<u64, Refused>,
}

/// One per consumer (a shard); clones are the same one. It holds no more completions than its owner has appended.
#[derive(Clone)]
pub struct Waiter {
    inner: Arc<Inner>,
}

struct Inner {
    completions: Mutex<Vec<Completion>>,
    doorbell: Box<dyn Fn() + Send + Sync>,
    is_nobody: bool,
}

impl Waiter {
    /// `doorbell` is rung on the thread of the journal, once per commit; so it does little.
    pub fn new(doorbell: impl Fn() + Send + Sync + 'static) -> Waiter {
        Waiter::of(Box::new(doorbell), false)
    }

    /// Who hears nothing.
    pub(crate) fn nobody() -> Waiter {
        Waiter::of(Box::new(|| {}), true)
    }

    fn of(doorbell: Box<dyn Fn() + Send + Sync>, is_nobody: bool) -> Waiter {
        Waiter { inner: Arc::new(Inner { completions: Mutex::default(), doorbell, is_nobody }) }
    }

    /// Takes all completions there are, in the order of appends, into `into`.
    pub fn take(&self, into: &mut Vec<Completion>) {
        into.append(&mut self.inner.completions.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn push(&self, completion: Completion) {
        if self.inner.is_nobody {
            return;
        }
        self.inner.completions.lock().unwrap_or_else(PoisonError::into_inner).push(completion);
    }

    pub(crate) fn ring(&self) {
        (self.inner.doorbell)();
    }

    pub(crate) fn is(&self, other: &Waiter) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}
