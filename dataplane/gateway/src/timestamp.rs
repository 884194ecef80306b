//! Timestamps that clients give, which must be epoch milliseconds.
//!
//! Given in seconds a record is of January 1970 and retention takes it at once; given in micro- or nanoseconds it is of
//! the year 50000 and retention never does. Both were answered 201. So a value that would be about now in another unit
//! is refused; every other is taken as it is, however old: importing old records is normal, and what a topic's
//! configuration refuses is for the brokers to say.

use std::fmt;

/// So far from now a timestamp in another unit is recognised: ten years.
pub const UNIT_WINDOW_MS: i64 = 3_652 * 86_400_000;

/// How many nanoseconds each unit has that is none of ours.
const OTHER_UNITS: [(&str, i128); 3] = [("seconds", 1_000_000_000), ("microseconds", 1_000), ("nanoseconds", 1)];
const NS_PER_MS: i128 = 1_000_000;

/// A timestamp that looks as if it were in another unit: 400 `timestamp_unit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongUnit {
    value: i64,
    unit: &'static str,
}

impl fmt::Display for WrongUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timestamp {} looks like {} since 1970, expected milliseconds", self.value, self.unit)
    }
}

/// `timestamp_ms` as it is, unless it is about `now_ms` when read in another unit.
///
/// The windows of the units do not overlap with that of milliseconds while now is later than 1981.
pub fn check(timestamp_ms: i64, now_ms: i64) -> Result<i64, WrongUnit> {
    for (unit, unit_ns) in OTHER_UNITS {
        // Not divided: a division would round values into the window that are outside it.
        let distance_ns = (i128::from(timestamp_ms) * unit_ns - i128::from(now_ms) * NS_PER_MS).abs();
        if distance_ns <= i128::from(UNIT_WINDOW_MS) * NS_PER_MS {
            return Err(WrongUnit { value: timestamp_ms, unit });
        }
    }
    Ok(timestamp_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    /// 2026-11-27T00:00:00Z
    const NOW_MS: i64 = 1_795_737_600_000;

    fn check_all(values: &[i64], expected: Expect) {
        let rows = values.iter().map(|value| match check(*value, NOW_MS) {
            Ok(taken) => format!("{taken} is taken\n"),
            Err(err) => format!("{err}\n"),
        });
        expected.assert_eq(&rows.collect::<String>());
    }

    #[test]
    fn a_timestamp_that_is_about_now_in_another_unit_is_refused_and_every_other_is_taken() {
        let window_s = UNIT_WINDOW_MS / 1_000;
        let now_s = NOW_MS / 1_000;
        check_all(
            &[
                0,
                17,
                -1,
                NOW_MS,
                NOW_MS - UNIT_WINDOW_MS * 5,
                NOW_MS + UNIT_WINDOW_MS * 50,
                now_s,
                now_s - window_s,
                now_s - window_s - 1,
                now_s + window_s,
                now_s + window_s + 1,
                NOW_MS * 1_000,
                NOW_MS * 1_000 + 999,
                (NOW_MS - UNIT_WINDOW_MS) * 1_000,
                (NOW_MS - UNIT_WINDOW_MS) * 1_000 - 1,
                (NOW_MS + UNIT_WINDOW_MS) * 1_000 + 1,
                NOW_MS * 1_000_000,
                (NOW_MS + UNIT_WINDOW_MS) * 1_000_000,
                (NOW_MS + UNIT_WINDOW_MS) * 1_000_000 + 1,
                (NOW_MS - UNIT_WINDOW_MS) * 1_000_000 - 1,
                i64::MAX,
                i64::MIN,
            ],
            expect![[r#"
                0 is taken
                17 is taken
                -1 is taken
                1795737600000 is taken
                218073600000 is taken
                17572377600000 is taken
                timestamp 1795737600 looks like seconds since 1970, expected milliseconds
                timestamp 1480204800 looks like seconds since 1970, expected milliseconds
                1480204799 is taken
                timestamp 2111270400 looks like seconds since 1970, expected milliseconds
                2111270401 is taken
                timestamp 1795737600000000 looks like microseconds since 1970, expected milliseconds
                timestamp 1795737600000999 looks like microseconds since 1970, expected milliseconds
                timestamp 1480204800000000 looks like microseconds since 1970, expected milliseconds
                1480204799999999 is taken
                2111270400000001 is taken
                timestamp 1795737600000000000 looks like nanoseconds since 1970, expected milliseconds
                timestamp 2111270400000000000 looks like nanoseconds since 1970, expected milliseconds
                2111270400000000001 is taken
                1480204799999999999 is taken
                9223372036854775807 is taken
                -9223372036854775808 is taken
            "#]],
        );
    }
}
