//! How long to wait before trying again: doubling from 20 ms to 1 s, with jitter, until something succeeds.

use std::time::{Duration, Instant};

use crate::limits::{BACKOFF_FIRST, BACKOFF_MAX};
use crate::rng::Rng;

/// Failures in a row of one thing (a broker's connect, the metadata refresh, a coordinator lookup).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and says when to try again.
    pub(crate) fn failed(&mut self, now: Instant, rng: &mut Rng) -> Instant {
        let at = now + rng.jitter(step(self.failures));
        self.failures = self.failures.saturating_add(1);
        at
    }
}

/// The wait after `failures` earlier failures: 20, 40, 80 … 1000 ms.
pub(crate) fn step(failures: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1 << failures.min(10)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_second_and_start_again_after_a_success() {
        let mut rng = Rng::new(7);
        let now = Instant::now();
        let mut backoff = Backoff::default();
        for ceiling in [20, 40, 80, 160, 320, 640, 1000, 1000, 1000] {
            let waited = backoff.failed(now, &mut rng) - now;
            assert!(waited <= Duration::from_millis(ceiling), "{waited:?} of {ceiling}");
            assert!(waited >= Duration::from_millis(ceiling * 3 / 4), "{waited:?} of {ceiling}");
        }
        backoff.succeeded();
        assert!(backoff.failed(now, &mut rng) - now <= Duration::from_millis(20));
    }
}
