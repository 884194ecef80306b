//! The `Date` header: formatted once a second, copied 29 bytes at a time.

/// An IMF-fixdate (RFC 9110 section 5.6.7), such as `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDate([u8; 29]);

impl HttpDate {
    /// Formats seconds since 1970. Years outside 0 to 9999 are clamped to its ends.
    #[must_use]
    pub fn from_epoch_s(epoch_s: i64) -> Self {
        const DAY_S: i64 = 86_400;
        // 0000-01-01 and 9999-12-31T23:59:59.
        let epoch_s = epoch_s.clamp(-62_167_219_200, 253_402_300_799);
        let days = epoch_s.div_euclid(DAY_S);
        let second_of_day = epoch_s.rem_euclid(DAY_S);
        let (year, month, day) = civil(days);
        // 1970-01-01 was a Thursday.
        let weekday = (days + 4).rem_euclid(7);
        let mut text = *b"Sun, 00 Jan 0000 00:00:00 GMT";
        let name = |names: &[u8], index: i64| -> [u8; 3] {
            let at = usize::try_from(index).unwrap_or(0) * 3;
            [names[at], names[at + 1], names[at + 2]]
        };
        text[..3].copy_from_slice(&name(b"SunMonTueWedThuFriSat", weekday));
        put2(&mut text, 5, day);
        text[8..11].copy_from_slice(&name(b"JanFebMarAprMayJunJulAugSepOctNovDec", month - 1));
        put2(&mut text, 12, year / 100);
        put2(&mut text, 14, year % 100);
        put2(&mut text, 17, second_of_day / 3600);
        put2(&mut text, 20, second_of_day / 60 % 60);
        put2(&mut text, 23, second_of_day % 60);
        Self(text)
    }

    /// The 29 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 29] {
        &self.0
    }
}

/// Two digits at `at`; `value` is 0 to 99.
fn put2(text: &mut [u8; 29], at: usize, value: i64) {
    let digit = |value: i64| b'0' + u8::try_from(value % 10).unwrap_or(0);
    text[at] = digit(value / 10);
    text[at + 1] = digit(value);
}

/// Year, month (1 to 12) and day (1 to 31) of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
///
/// Counts from 1 March 0000, so that the leap day is the last of its year; 400 years have 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// The current date of one shard. One per core.
#[derive(Debug, Clone)]
pub struct DateCache {
    epoch_s: i64,
    date: HttpDate,
}

impl Default for DateCache {
    fn default() -> Self {
        Self { epoch_s: 0, date: HttpDate::from_epoch_s(0) }
    }
}

impl DateCache {
    /// The date at `now_ms`, formatted anew only when the second changed.
    pub fn at(&mut self, now_ms: i64) -> HttpDate {
        let epoch_s = now_ms.div_euclid(1000);
        if epoch_s != self.epoch_s {
            *self = Self { epoch_s, date: HttpDate::from_epoch_s(epoch_s) };
        }
        self.date
    }
}

#[cfg(test)]
mod tests {
    use super::{DateCache, HttpDate};

    fn check(epoch_s: i64, expected: &str) {
        let date = HttpDate::from_epoch_s(epoch_s);
        assert_eq!(std::str::from_utf8(date.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn dates_are_formatted_as_the_rfc_shows_them() {
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(-1, "Wed, 31 Dec 1969 23:59:59 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT");
        check(4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT");
        check(1_795_362_345, "Sun, 22 Nov 2026 15:45:45 GMT");
        check(i64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT");
        check(i64::MIN, "Sat, 01 Jan 0000 00:00:00 GMT");
    }

    #[test]
    fn the_cache_follows_the_clock_by_seconds_and_backwards_too() {
        let mut cache = DateCache::default();
        assert_eq!(cache.at(784_111_777_999), HttpDate::from_epoch_s(784_111_777));
        assert_eq!(cache.at(784_111_778_000), HttpDate::from_epoch_s(784_111_778));
        assert_eq!(cache.at(784_111_777_000), HttpDate::from_epoch_s(784_111_777));
        assert_eq!(cache.at(-1), HttpDate::from_epoch_s(-1));
    }
}
