//! Fetch requests that found too little and wait: for records, or for their time to be over.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

use foldhash::HashMap;
use kafka_wire::messages::fetch::FetchRequest;

use crate::slot::Slot;

/// One waiting fetch.
pub struct WaitingFetch {
    pub slot: Rc<Slot>,
    pub request: FetchRequest,
    pub deadline: Instant,
    /// Bytes that must still become readable before it is worth answering.
    pub missing_bytes: u64,
}

/// All waiting fetches. Which partitions they look at is written at the partitions.
#[derive(Default)]
pub struct Fetches {
    by_key: HashMap<u64, WaitingFetch>,
    deadlines: BTreeSet<(Instant, u64)>,
    next_key: u64,
}

impl Fetches {
    /// Parks a fetch and returns its key.
    pub fn park(&mut self, fetch: WaitingFetch) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.deadlines.insert((fetch.deadline, key));
        fetch.slot.fetch.set(Some(key));
        self.by_key.insert(key, fetch);
        key
    }

    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    /// Tells a fetch that so many bytes became readable. True: it has enough.
    pub fn feed(&mut self, key: u64, bytes: u64) -> bool {
        let Some(fetch) = self.by_key.get_mut(&key) else { return false };
        fetch.missing_bytes = fetch.missing_bytes.saturating_sub(bytes);
        fetch.missing_bytes == 0
    }

    /// Takes a fetch out.
    pub fn take(&mut self, key: u64) -> Option<WaitingFetch> {
        let fetch = self.by_key.remove(&key)?;
        self.deadlines.remove(&(fetch.deadline, key));
        fetch.slot.fetch.set(None);
        Some(fetch)
    }

    /// The key of a fetch whose time is over.
    pub fn overdue(&self, now: Instant) -> Option<u64> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, key)| *key)
    }

    /// When the next one's time is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }
}
