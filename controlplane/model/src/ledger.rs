//! What apps have used of what they may: one account in a process, whatever protocol they come by.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::counted::Counted;
use crate::login_limiter::LoginLimiter;
use crate::quota::Quotas;

/// One per process, shared by its shards.
pub struct Ledger {
    pub quotas: Quotas,
    /// Open connections by app ([`crate::App::index`]).
    pub connections: Counted<u32>,
    /// Failed logins, by address and app.
    pub logins: Arc<Mutex<LoginLimiter>>,
    /// Since when [`Ledger::nanos`] counts.
    began: Instant,
}

impl Ledger {
    /// `random` comes from the operating system. `connections_per_app`: 0: any number.
    pub fn new(random: [u8; 16], connections_per_app: usize, now: Instant) -> Self {
        Self {
            quotas: Quotas::default(),
            connections: Counted::new(connections_per_app),
            logins: Arc::new(Mutex::new(LoginLimiter::new(random))),
            began: now,
        }
    }

    /// Who failed to log in lately.
    pub fn lock_logins(&self) -> MutexGuard<'_, LoginLimiter> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clock of the quotas: the same for all who draw from them.
    pub fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }
}
