//! Fault injection: what tests ask this broker to do wrong.
//!
//! `Hooks` is a cheap `Send + Sync` handle. The broker asks `take` once per request; while nothing is armed that
//! costs one relaxed load. Faults of one API are used up in the order they were injected.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;

/// What happens to one request instead of the ordinary thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not applied; answered with this code wherever the answer has room for one.
    Error(ErrorCode),
    /// Applied at once, answered this much later. Answers of later requests on that connection wait behind it.
    Delay(Duration),
    /// Not applied; the connection is closed without an answer.
    Disconnect,
    /// Applied, then the connection is closed without an answer: the client cannot know.
    ApplyThenDisconnect,
    /// Not applied and never answered; the connection stays open and answers nothing any more.
    Silence,
    /// The whole broker stands still for so long, as one whose machine swaps or whose process was stopped; then the request
    /// is applied as usual.
    Freeze(Duration),
    /// Not applied; these bytes are sent as they are instead of an answer frame.
    Garbage(Vec<u8>),
}

const API_KEYS: usize = 128;

/// Shared by the broker and whoever steers it.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Number of faults not used up, so that the usual case takes no lock.
    armed: AtomicUsize,
    faults: Mutex<Vec<(i16, VecDeque<Fault>)>>,
    requests: [AtomicU64; API_KEYS],
    sync_failures: AtomicUsize,
    sync_delay_us: AtomicU64,
    fetches_waiting: AtomicUsize,
}

impl Default for Shared {
    fn default() -> Self {
        Shared {
            armed: AtomicUsize::new(0),
            faults: Mutex::new(Vec::new()),
            requests: [const { AtomicU64::new(0) }; API_KEYS],
            sync_failures: AtomicUsize::new(0),
            sync_delay_us: AtomicU64::new(0),
            fetches_waiting: AtomicUsize::new(0),
        }
    }
}

impl Hooks {
    /// No faults.
    pub fn new() -> Hooks {
        Hooks::default()
    }

    /// Fetches that wait at the broker for records.
    pub fn fetches_waiting(&self) -> usize {
        self.shared.fetches_waiting.load(Ordering::SeqCst)
    }

    pub(crate) fn note_fetches_waiting(&self, count: usize) {
        self.shared.fetches_waiting.store(count, Ordering::SeqCst);
    }

    /// The next `times` requests of this API meet `fault`, after those injected before.
    pub fn inject(&self, api: ApiKey, fault: Fault, times: usize) {
        let key = api as i16;
        let mut faults = self.faults();
        let at = match faults.iter().position(|(k, _)| *k == key) {
            Some(at) => at,
            None => {
                faults.push((key, VecDeque::new()));
                faults.len() - 1
            }
        };
        faults[at].1.extend(std::iter::repeat_n(fault, times));
        self.shared.armed.fetch_add(times, Ordering::SeqCst);
    }

    /// Forgets every fault that was not used up.
    pub fn clear(&self) {
        let mut faults = self.faults();
        faults.clear();
        self.shared.armed.store(0, Ordering::SeqCst);
        self.shared.sync_failures.store(0, Ordering::SeqCst);
        self.shared.sync_delay_us.store(0, Ordering::SeqCst);
    }

    /// Faults injected for this API and not yet met.
    pub fn remaining(&self, api: ApiKey) -> usize {
        self.faults().iter().find(|(k, _)| *k == api as i16).map_or(0, |(_, queue)| queue.len())
    }

    /// Requests of this API seen so far, faulted ones included.
    pub fn requests(&self, api: ApiKey) -> u64 {
        usize::try_from(api as i16)
            .ok()
            .and_then(|at| self.shared.requests.get(at))
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The next `times` calls of fdatasync report an I/O error: the file they were for is poisoned.
    pub fn fail_syncs(&self, times: usize) {
        self.shared.sync_failures.fetch_add(times, Ordering::SeqCst);
    }

    /// Every fdatasync takes at least this long, until `clear`.
    pub fn delay_syncs(&self, delay: Duration) {
        self.shared.sync_delay_us.store(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Called by the broker for every request.
    pub(crate) fn take(&self, api_key: i16) -> Option<Fault> {
        if let Some(count) = usize::try_from(api_key).ok().and_then(|at| self.shared.requests.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if self.shared.armed.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut faults = self.faults();
        let fault = faults.iter_mut().find(|(k, _)| *k == api_key)?.1.pop_front()?;
        self.shared.armed.fetch_sub(1, Ordering::SeqCst);
        Some(fault)
    }

    /// Called by the sync thread before every fdatasync.
    pub(crate) fn before_sync(&self) -> std::io::Result<()> {
        let delay_us = self.shared.sync_delay_us.load(Ordering::Relaxed);
        if delay_us > 0 {
            std::thread::sleep(Duration::from_micros(delay_us));
        }
        let taken =
            self.shared.sync_failures.fetch_update(Ordering::SeqCst, Ordering::Relaxed, |left| left.checked_sub(1));
        match taken {
            Ok(_) => Err(std::io::Error::other("injected fsync failure")),
            Err(_) => Ok(()),
        }
    }

    fn faults(&self) -> MutexGuard<'_, Vec<(i16, VecDeque<Fault>)>> {
        self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_met_in_order_and_only_by_their_api() {
        let hooks = Hooks::new();
        hooks.inject(ApiKey::Produce, Fault::Disconnect, 2);
        hooks.inject(ApiKey::Produce, Fault::Silence, 1);
        assert_eq!(hooks.take(ApiKey::Fetch as i16), None);
        assert_eq!(hooks.take(ApiKey::Produce as i16), Some(Fault::Disconnect));
        assert_eq!(hooks.take(ApiKey::Produce as i16), Some(Fault::Disconnect));
        assert_eq!(hooks.remaining(ApiKey::Produce), 1);
        assert_eq!(hooks.take(ApiKey::Produce as i16), Some(Fault::Silence));
        assert_eq!(hooks.take(ApiKey::Produce as i16), None);
        assert_eq!(hooks.requests(ApiKey::Produce), 4);
    }

    #[test]
    fn an_unknown_api_key_meets_nothing() {
        assert_eq!(Hooks::new().take(-5), None);
        assert_eq!(Hooks::new().take(i16::MAX), None);
    }
}
