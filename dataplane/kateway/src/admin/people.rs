//! What programs say in numbers, as people do.

use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Fields that are epoch ms.
const TIMES: &[&str] =
    &["at", "created_at", "expires_at", "started_at", "accepted_at", "oldest_at", "since", "due", "parked_at"];

/// Times as dates, secrets as people ask for them: which side, which of two, how old.
pub fn say_as_people_do(answer: &mut Value, now: SystemTime) {
    let now_ms = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let rows = match answer {
        Value::Array(rows) => rows.as_mut_slice(),
        one => std::slice::from_mut(one),
    };
    for row in rows {
        for name in TIMES {
            if let Some(at_ms) = row.get(*name).and_then(Value::as_i64) {
                row[*name] = rfc_3339(at_ms).into();
            }
        }
        let Some(secrets) = row.get("secrets").and_then(Value::as_array) else { continue };
        let said = secrets.iter().map(|secret| {
            let text = |field: &str| secret[field].as_str().unwrap_or("?").to_owned();
            let age_ms = now_ms - secret["created_at"].as_i64().unwrap_or(now_ms);
            format!("{} {} {}", text("side"), text("which"), age(age_ms.max(0) as u64 / 1000))
        });
        row["secrets"] = said.collect::<Vec<_>>().join(", ").into();
    }
}

/// A time as people and programs give it: RFC 3339, or seconds since 1970.
pub fn epoch_ms(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds.saturating_mul(1_000));
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(|time| time.as_millisecond())
        .map_err(|_| "expected RFC 3339 (2027-01-01T08:00:00Z), or seconds since 1970".to_owned())
}

/// UTC, with milliseconds. Days to dates after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn rfc_3339(epoch_ms: i64) -> String {
    let (days, ms) = (epoch_ms.div_euclid(86_400_000), epoch_ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March, so that the leap day is the last one.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// In the largest unit that fits.
fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn times_are_shown_in_utc() {
        let rows = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_795_795_012_775, "2026-11-27T15:56:52.775Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ];
        for (ms, expected) in rows {
            assert_eq!(rfc_3339(ms), expected);
        }
    }

    #[test]
    fn secrets_are_shown_with_their_ages() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let secret = |which: &str, ago_s: i64| json!({"side": "publish", "which": which, "created_at": (1_000_000 - ago_s) * 1000});
        let mut app =
            json!([{"appid": "shop", "secrets": [secret("previous", 400_000), secret("current", 90)]}, {"appid": "x"}]);
        say_as_people_do(&mut app, now);
        assert_eq!(app[0]["secrets"], "publish previous 4d, publish current 90s");
        assert_eq!([119, 120, 7_199, 7_200, 172_799, 172_800].map(age), ["119s", "2m", "119m", "2h", "47h", "2d"]);
    }
}
