//! Time and randomness, read here once and passed on as values; pure crates get them as parameters.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by the system's clock; negative when it stands before that.
pub fn now_ms() -> i64 {
    epoch_ms(SystemTime::now())
}

fn epoch_ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// 64 random bits from the kernel, to seed a shard's generator or a state machine.
pub fn seed() -> u64 {
    // Fails only where the kernel has no getrandom (before 3.17); nothing else here works there either.
    getrandom::u64().expect("random bytes from the kernel")
}

/// One reading of both clocks, kept for the rest of a tick. One per shard.
///
/// A shard that handles sixty requests per turn of its loop reads the clocks once (about 50 ns) by calling
/// [`Clock::tick`] when it wakes, and stamps all of them with that.
#[derive(Debug)]
pub struct Clock {
    now: Cell<Instant>,
    now_ms: Cell<i64>,
}

impl Clock {
    pub fn new() -> Clock {
        Clock { now: Cell::new(Instant::now()), now_ms: Cell::new(now_ms()) }
    }

    /// Reads both clocks.
    pub fn tick(&self) -> Instant {
        self.now.set(Instant::now());
        self.now_ms.set(now_ms());
        self.now.get()
    }

    /// Monotonic time of the last tick.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// Wall time of the last tick, epoch milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.now_ms.get()
    }

    /// How old the readings are.
    pub fn age(&self) -> Duration {
        self.now.get().elapsed()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_stay_until_the_next_tick() {
        let clock = Clock::new();
        let (now, wall) = (clock.now(), clock.now_ms());
        assert_eq!((clock.now(), clock.now_ms()), (now, wall));
        assert!(clock.tick() >= now);
    }

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(epoch_ms(UNIX_EPOCH - Duration::from_millis(1500)), -1500);
        assert_eq!(epoch_ms(UNIX_EPOCH + Duration::from_micros(2900)), 2);
    }

    #[test]
    fn seeds_differ() {
        assert_ne!(seed(), seed());
    }
}
