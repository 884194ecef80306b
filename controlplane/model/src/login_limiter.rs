//! Counts failed logins per address and app id, so that guessing is answered 429 instead of 401.
//!
//! It is asked only after credentials turned out wrong. Right credentials never meet it, whatever others at the same
//! address do; guessing 192 random bits is hopeless anyway, and what the limiter saves is attention: a client with a
//! stale secret in a loop stands out as 429 and knows from `Retry-After` when to come back.
//!
//! Memory is bounded: a table of `FAILED_LOGIN_ENTRIES` in sets of eight ways. Somebody who invents app ids by
//! the thousand pushes old entries out of their sets (the one that began first goes) and is thereby not refused
//! himself; he does not get any other client refused either.
//!
//! Failures are rare, so one limiter behind a mutex can serve all listeners of a process, or each shard can have one
//! (then the limit is per shard).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::denied::Denied;
use crate::limits::{FAILED_LOGIN_ENTRIES, FAILED_LOGIN_WAYS, FAILED_LOGIN_WINDOW_S, FAILED_LOGINS_MAX};
use crate::siphash::SipKey;

const WINDOW: Duration = Duration::from_secs(FAILED_LOGIN_WINDOW_S);

pub struct LoginLimiter {
    key: SipKey,
    entries: Vec<Option<Entry>>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Keyed hash of address and app id: fixed size, whatever a client sends as an app id.
    tag: u128,
    window_began: Instant,
    failures: u32,
}

impl LoginLimiter {
    /// `random` comes from the operating system: nobody outside can aim at a set of the table.
    pub fn new(random: [u8; 16]) -> Self {
        Self { key: SipKey::new(random), entries: vec![None; FAILED_LOGIN_ENTRIES] }
    }

    /// Credentials were wrong: count it, and say how to answer. The first 30 in a minute are
    /// [`Denied::NotAuthenticated`], those beyond [`Denied::TooManyFailedLogins`].
    pub fn failed(&mut self, address: IpAddr, app: &str, now: Instant) -> Denied {
        let tag = self.tag(address, app);
        let entry = self.entry(tag, now);
        entry.failures = entry.failures.saturating_add(1);
        if entry.failures <= FAILED_LOGINS_MAX {
            return Denied::NotAuthenticated;
        }
        let left = WINDOW.saturating_sub(now.saturating_duration_since(entry.window_began));
        Denied::TooManyFailedLogins { retry_after_s: (left.as_millis().div_ceil(1000) as u32).max(1) }
    }

    /// The entry of this tag, with a fresh window if the old one is over.
    fn entry(&mut self, tag: u128, now: Instant) -> &mut Entry {
        let set_count = FAILED_LOGIN_ENTRIES / FAILED_LOGIN_WAYS;
        let first = (tag as usize & (set_count - 1)) * FAILED_LOGIN_WAYS;
        let set = &mut self.entries[first..first + FAILED_LOGIN_WAYS];
        let known = set.iter().position(|e| e.is_some_and(|e| e.tag == tag));
        let way = known.unwrap_or_else(|| {
            let oldest_first = |e: &Option<Entry>| e.map(|e| e.window_began);
            (0..FAILED_LOGIN_WAYS).min_by_key(|way| oldest_first(&set[*way])).expect("a set has ways")
        });
        let fresh = Entry { tag, window_began: now, failures: 0 };
        let entry = set[way].get_or_insert(fresh);
        if entry.tag != tag || now.saturating_duration_since(entry.window_began) >= WINDOW {
            *entry = fresh;
        }
        entry
    }

    fn tag(&self, address: IpAddr, app: &str) -> u128 {
        let address = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        self.key.hash_parts(&[&address, app.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn fail(limiter: &mut LoginLimiter, times: u32, address: IpAddr, app: &str, now: Instant) -> Denied {
        (0..times).map(|_| limiter.failed(address, app, now)).last().unwrap()
    }

    #[test]
    fn the_31st_failure_within_a_minute_is_a_429_and_a_new_minute_starts_afresh() {
        let mut limiter = LoginLimiter::new([1; 16]);
        let start = Instant::now();
        assert_eq!(fail(&mut limiter, 30, HERE, "app1", start), Denied::NotAuthenticated);
        let later = start + Duration::from_millis(20_500);
        assert_eq!(limiter.failed(HERE, "app1", later), Denied::TooManyFailedLogins { retry_after_s: 40 });
        let almost = start + Duration::from_millis(59_999);
        assert_eq!(limiter.failed(HERE, "app1", almost), Denied::TooManyFailedLogins { retry_after_s: 1 });
        assert_eq!(limiter.failed(HERE, "app1", start + WINDOW), Denied::NotAuthenticated);
    }

    #[test]
    fn another_address_and_another_app_are_counted_apart() {
        let mut limiter = LoginLimiter::new([1; 16]);
        let now = Instant::now();
        assert!(matches!(fail(&mut limiter, 31, HERE, "app1", now), Denied::TooManyFailedLogins { .. }));
        assert_eq!(limiter.failed(THERE, "app1", now), Denied::NotAuthenticated);
        assert_eq!(limiter.failed(HERE, "app2", now), Denied::NotAuthenticated);
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert!(matches!(limiter.failed(mapped, "app1", now), Denied::TooManyFailedLogins { .. }));
    }

    #[test]
    fn a_flood_of_invented_app_ids_does_not_grow_the_table() {
        let mut limiter = LoginLimiter::new([1; 16]);
        let now = Instant::now();
        for i in 0..50_000 {
            assert_eq!(limiter.failed(HERE, &format!("app{i}"), now), Denied::NotAuthenticated);
        }
        assert_eq!(limiter.entries.len(), FAILED_LOGIN_ENTRIES);
        assert!(matches!(fail(&mut limiter, 31, THERE, "app1", now), Denied::TooManyFailedLogins { .. }));
    }
}
