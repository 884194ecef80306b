//! Fetch requests that found too little and wait: for records, or for their time to be over.
//!
//! Invariant: a fetch is noted at every partition it looks at that exists, from `park` to `take`.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

use foldhash::HashMap;
use kafka_wire::messages::fetch::FetchRequest;

use crate::apis::fetch::partitions;
use crate::hooks::Hooks;
use crate::state::partition::FetchKey;
use crate::state::{Shown, State};
use crate::waiting::slot::Slot;

/// One waiting fetch.
pub struct WaitingFetch {
    pub slot: Rc<Slot>,
    pub request: FetchRequest,
    pub deadline: Instant,
    /// Bytes that must still become readable before it is worth answering.
    pub missing_bytes: u64,
}

/// All waiting fetches.
pub struct Fetches {
    by_key: HashMap<FetchKey, WaitingFetch>,
    deadlines: BTreeSet<(Instant, FetchKey)>,
    next_key: FetchKey,
    /// Tests want to know how many there are.
    hooks: Hooks,
}

impl Fetches {
    pub fn new(hooks: Hooks) -> Fetches {
        Fetches { by_key: HashMap::default(), deadlines: BTreeSet::new(), next_key: 0, hooks }
    }

    /// Keeps a fetch.
    pub fn park(&mut self, fetch: WaitingFetch, state: &mut State) {
        let key = self.next_key;
        self.next_key += 1;
        for (topic, index) in partitions(&fetch.request) {
            if let Some(partition) = state.partition(topic, index) {
                partition.fetches.push(key);
            }
        }
        self.deadlines.insert((fetch.deadline, key));
        fetch.slot.fetch.set(Some(key));
        self.by_key.insert(key, fetch);
        self.hooks.note_fetches_waiting(self.by_key.len());
    }

    /// Records became readable: those that have enough by now.
    pub fn feed(&mut self, shown: &Shown) -> Vec<FetchKey> {
        let enough = |key: &FetchKey| {
            let Some(fetch) = self.by_key.get_mut(key) else { return false };
            fetch.missing_bytes = fetch.missing_bytes.saturating_sub(shown.bytes);
            fetch.missing_bytes == 0
        };
        shown.fetches.iter().copied().filter(enough).collect()
    }

    /// Takes a fetch out.
    pub fn take(&mut self, key: FetchKey, state: &mut State) -> Option<WaitingFetch> {
        let fetch = self.by_key.remove(&key)?;
        for (topic, index) in partitions(&fetch.request) {
            if let Some(partition) = state.partition(topic, index) {
                partition.fetches.retain(|waiting| *waiting != key);
            }
        }
        self.deadlines.remove(&(fetch.deadline, key));
        fetch.slot.fetch.set(None);
        self.hooks.note_fetches_waiting(self.by_key.len());
        Some(fetch)
    }

    /// The key of a fetch whose time is over.
    pub fn overdue(&self, now: Instant) -> Option<FetchKey> {
        self.deadlines.first().filter(|(at, _)| *at <= now).map(|(_, key)| *key)
    }

    /// When the next one's time is over.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }
}
