//! When a delayed job is due, as clients write it: a time, or from now on.

use model::duration;

/// When a job is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    At {
        /// Epoch milliseconds; any, also such as no job may have.
        ms: i64,
    },
    In {
        ms: i64,
    },
}

impl Due {
    /// A time: RFC 3339, or seconds since 1970.
    pub fn of_time(text: &str) -> Option<Due> {
        if let Ok(seconds) = text.parse() {
            return Some(Due::of_seconds(seconds));
        }
        let time: Result<jiff::Timestamp, _> = text.parse();
        time.ok().map(|time| Due::At { ms: time.as_millisecond() })
    }

    pub fn of_seconds(seconds: i64) -> Due {
        Due::At { ms: seconds.saturating_mul(1_000) }
    }

    /// A delay: seconds, or with a unit, at most a year.
    pub fn of_delay(text: &str) -> Option<Due> {
        duration::parse(text).map(|delay| Due::In { ms: delay.as_millis() as i64 })
    }

    /// Epoch milliseconds.
    pub fn ms(self, now_ms: i64) -> i64 {
        match self {
            Due::At { ms } => ms,
            Due::In { ms } => now_ms.saturating_add(ms),
        }
    }
}

/// RFC 3339, to the millisecond.
pub fn shown_time(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_or_seconds_and_a_delay_is_seconds_or_has_a_unit() {
        let at = |ms| Some(Due::At { ms });
        for (text, expected) in [
            ("1795824060", at(1_795_824_060_000)),
            ("-5", at(-5_000)),
            ("9223372036854775807", at(i64::MAX)),
            ("2026-11-28T00:01:00Z", at(1_795_824_060_000)),
            ("2026-11-28T01:01:00.5+01:00", at(1_795_824_060_500)),
            ("2026-11-28 00:01:00Z", at(1_795_824_060_000)),
            ("2026-11-28T00:01:00", None),
            ("1795824060.5", None),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(Due::of_time(text), expected, "{text}");
        }
        for (text, expected) in [
            ("30", Some(30_000)),
            ("30s", Some(30_000)),
            ("250ms", Some(250)),
            ("0", Some(0)),
            ("-1", None),
            ("1.5s", None),
            ("367h", Some(367 * 3_600_000)),
            ("8785h", None),
        ] {
            assert_eq!(Due::of_delay(text), expected.map(|ms| Due::In { ms }), "{text}");
        }
        assert_eq!(Due::In { ms: 5 }.ms(100), 105);
        assert_eq!(Due::In { ms: 5 }.ms(i64::MAX), i64::MAX);
        assert_eq!(Due::At { ms: 5 }.ms(100), 5);
    }
}
