//! What time it is for jobs: the wall clock's, as far as it can be believed.
//!
//! - Forward it is followed at once, whatever the step.
//! - Back by up to a second (corrections, a leap second's smear): time stands still until the wall has caught up.
//! - Back by more: followed, and told, since whoever lays out what is due next must do so again ([`Book::rewind`]). What fired
//!   does not fire again: that is a matter of states, not of time.
//!
//! A step is known by the time since boot, which counts sleep and does not jump. Daylight saving changes nothing: this counts
//! seconds of UTC.
//!
//! [`Book::rewind`]: crate::book::Book::rewind

/// A difference from which it is a step, not a correction.
pub const STEP_MS: i64 = 1_000;

/// See the module. Pure: who has clocks tells it what they say.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    said_ms: i64,
    boot_ms: i64,
}

/// A jump of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Back when negative.
    pub by_ms: i64,
}

impl Clock {
    pub fn new(wall_ms: i64, boot_ms: i64) -> Clock {
        Clock { said_ms: wall_ms, boot_ms }
    }

    /// Epoch ms, and whether the wall clock jumped since the last look.
    pub fn now(&mut self, wall_ms: i64, boot_ms: i64) -> (i64, Option<Step>) {
        let passed = (boot_ms - self.boot_ms).max(0);
        let by_ms = wall_ms.saturating_sub(self.said_ms.saturating_add(passed));
        let is_back = wall_ms < self.said_ms;
        let stands_still = is_back && self.said_ms.saturating_sub(wall_ms) <= STEP_MS;
        // A step back is one only when it leads behind what was said; less is waited out.
        let is_step = if by_ms < 0 { is_back && !stands_still } else { by_ms > STEP_MS };
        if !stands_still {
            self.said_ms = wall_ms;
        }
        self.boot_ms = self.boot_ms.max(boot_ms);
        (self.said_ms, is_step.then_some(Step { by_ms }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_is_followed_but_for_small_steps_back_and_large_ones_are_told() {
        let mut clock = Clock::new(100_000, 0);
        // Of the wall, since boot; what it is, and what was told.
        for (wall, boot, now, step) in [
            (100_010, 10, 100_010, None),
            (100_020, 5_000, 100_020, None), // asleep: the wall is behind, but it went on
            (99_500, 5_010, 100_020, None),
            (100_019, 5_529, 100_020, None),
            (100_030, 5_540, 100_030, None),
            (3_700_030, 5_550, 3_700_030, Some(3_599_990)),
            (100_050, 5_560, 100_050, Some(-3_599_990)),
            (100_060, 5_570, 100_060, None),
            (i64::MAX, 5_580, i64::MAX, Some(i64::MAX - 100_070)),
            (100_080, 5_590, 100_080, Some(100_080 - i64::MAX)),
            (98_000, 5_600, 98_000, Some(-2_090)),
        ] {
            assert_eq!(clock.now(wall, boot), (now, step.map(|by_ms| Step { by_ms })), "wall {wall}, boot {boot}");
        }
    }
}
