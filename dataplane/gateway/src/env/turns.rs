//! How long a shard was busy without looking at anybody else: its longest turn of late, for the metric. A turn that takes
//! a hundred milliseconds is a hundred milliseconds for every client of the shard.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A longest turn is told for one to two of these.
const REMEMBERED: Duration = Duration::from_secs(30);

/// One per shard.
#[derive(Debug, Default)]
pub struct Turns {
    longest: Cell<Duration>,
    /// Of the window before.
    before: Cell<Duration>,
    since: Cell<Option<Instant>>,
}

impl Turns {
    /// A turn took from `begun` to `ended`.
    pub fn note(&self, begun: Instant, ended: Instant) {
        self.longest.set(self.longest.get().max(ended.saturating_duration_since(begun)));
    }

    /// The longest of late. Called now and then.
    pub fn longest(&self, now: Instant) -> Duration {
        let since = self.since.get().unwrap_or(now);
        if now.saturating_duration_since(since) >= REMEMBERED {
            self.before.set(self.longest.take());
            self.since.set(Some(now));
        } else {
            self.since.set(Some(since));
        }
        self.longest.get().max(self.before.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_turn_is_told_for_a_while_and_then_forgotten() {
        let (turns, start) = (Turns::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(turns.longest(at(0)), Duration::ZERO);
        turns.note(at(1), at(4));
        turns.note(at(5), at(6));
        assert_eq!(turns.longest(at(6)), Duration::from_secs(3));
        assert_eq!(turns.longest(at(31)), Duration::from_secs(3), "in the window after");
        turns.note(at(32), at(33));
        assert_eq!(turns.longest(at(62)), Duration::from_secs(1));
        assert_eq!(turns.longest(at(93)), Duration::ZERO);
    }
}
