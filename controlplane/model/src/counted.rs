//! How many there are of each: connections of an app, of an address. Shared by the shards of a process, and by what else
//! serves the same apps in it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many there are of each, and at most.
#[derive(Debug)]
pub struct Counted<K> {
    /// 0: any number. They are counted all the same: the limit may change.
    max: AtomicUsize,
    counts: Mutex<HashMap<K, usize>>,
}

impl<K: Eq + Hash> Counted<K> {
    /// `max`: of each; 0: any number.
    pub fn new(max: usize) -> Counted<K> {
        Counted { max: AtomicUsize::new(max), counts: Mutex::default() }
    }

    /// From now on; those that are there already stay.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more; false: there are as many as may be.
    pub fn try_add(&self, key: K) -> bool {
        self.try_add_below(key, None).is_ok()
    }

    /// One more, if there are fewer than may be of any and than `most`, its own limit.
    pub fn try_add_below(&self, key: K, most: Option<u64>) -> Result<(), Full> {
        let max = self.max.load(Ordering::Relaxed);
        let mut counts = self.counts();
        let count = counts.get(&key).copied().unwrap_or(0);
        let of_its_own = most.is_some_and(|most| count as u64 >= most);
        if of_its_own || (max > 0 && count >= max) {
            return Err(Full { of_its_own });
        }
        counts.insert(key, count + 1);
        Ok(())
    }

    /// How many there are of one.
    pub fn count(&self, key: &K) -> usize {
        self.counts().get(key).copied().unwrap_or(0)
    }

    /// One that was added is gone.
    pub fn remove(&self, key: &K) {
        let mut counts = self.counts();
        if let Some(count) = counts.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(key);
            }
        }
    }
}

/// There are as many as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// By its own limit, not that of all.
    pub of_its_own: bool,
}
