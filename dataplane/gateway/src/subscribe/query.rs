//! The query of `GET /v1/msgs/:appid/:topic/:ver`.
//!
//! | Name | Default | Values |
//! |---|---|---|
//! | `group` | required | letters, digits, `_` and `-`, at most 64 |
//! | `batch` | 1 | a number; above 4,000 means 4,000; 0 and less mean one message in a batch framing, as in 2017 |
//! | `max_bytes` | 4 MiB | a number above 0; above 32 MiB means that |
//! | `wait` | 30s | `30s`, `500ms`, `2m` or seconds; above 120s means that |
//! | `reset` | absent: `oldest` | `oldest`, `newest`, RFC 3339, epoch milliseconds |
//! | `ack`, `q` | absent | refused with 501 for now |
//!
//! Any other name is a 400, but for those of 2017 that change nothing (`mux`, `use`, …). A name given twice counts as
//! first given, as it did then.

use std::time::Duration;

use gafka_http::query::{Pair, pairs};
use kafka_client::group::Reset;
use model::duration;
use model::ids::GroupName;
use model::requests;

use super::limits::{BATCH_MAX, RESPONSE_BYTES_DEFAULT, RESPONSE_BYTES_MAX, WAIT_DEFAULT, WAIT_MAX};
use crate::codes;
use crate::refusal::Refusal;

/// Every name of the table.
pub const PARAMETERS: [&str; 7] = ["group", "batch", "max_bytes", "wait", "reset", "ack", "q"];

/// A poll as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeQuery {
    pub group: GroupName,
    /// 1 to [`BATCH_MAX`].
    pub batch: u32,
    /// A batch framing is wanted whatever `Accept` says.
    pub framed: bool,
    /// 1 to [`RESPONSE_BYTES_MAX`].
    pub max_bytes: usize,
    /// Up to [`WAIT_MAX`].
    pub wait: Duration,
    /// Where to begin, if it was asked for.
    pub reset: Option<Reset>,
}

impl SubscribeQuery {
    /// Parses the raw query of the request target.
    pub fn parse(query: &str) -> Result<SubscribeQuery, Refusal> {
        let mut found = Found::default();
        for pair in pairs(query) {
            found.take(&pair.map_err(|err| Refusal::passed_on(400, err.code(), err.to_string()))?)?;
        }
        found.refuse_later_features()?;
        let group = found.group.ok_or_else(|| Refusal::new(codes::MISSING_GROUP, "the query has no group"))?;
        let group = GroupName::new(&group).map_err(|err| Refusal::new(codes::ILLEGAL_GROUP, err.to_string()))?;
        let (batch, framed) = found.batch.as_deref().map_or(Ok((1, false)), parse_batch)?;
        Ok(SubscribeQuery {
            group,
            batch,
            framed,
            max_bytes: found.max_bytes.as_deref().map_or(Ok(RESPONSE_BYTES_DEFAULT), parse_max_bytes)?,
            wait: found.wait.as_deref().map_or(Ok(WAIT_DEFAULT), parse_wait)?,
            reset: found.reset.as_deref().map(parse_reset).transpose()?,
        })
    }
}

#[derive(Default)]
struct Found {
    group: Option<String>,
    batch: Option<String>,
    max_bytes: Option<String>,
    wait: Option<String>,
    reset: Option<String>,
    ack: Option<String>,
    q: Option<String>,
}

impl Found {
    fn take(&mut self, (name, value): &Pair<'_>) -> Result<(), Refusal> {
        let known = requests::parameter(name, &PARAMETERS)
            .map_err(|err| Refusal::new(codes::UNKNOWN_PARAMETER, err.to_string()))?;
        if known.is_none() {
            return Ok(());
        }
        let (slot, code) = match name.as_ref() {
            "group" => (&mut self.group, codes::ILLEGAL_GROUP),
            "batch" => (&mut self.batch, codes::ILLEGAL_BATCH),
            "max_bytes" => (&mut self.max_bytes, codes::ILLEGAL_MAX_BYTES),
            "wait" => (&mut self.wait, codes::ILLEGAL_WAIT),
            "reset" => (&mut self.reset, codes::ILLEGAL_RESET),
            "ack" => (&mut self.ack, codes::ILLEGAL_ACK),
            "q" => (&mut self.q, codes::ILLEGAL_Q),
            _ => unreachable!("a name of the list"),
        };
        if slot.is_none() {
            let text = std::str::from_utf8(value).map_err(|_| Refusal::new(code, format!("{name} is not UTF-8")))?;
            *slot = Some(text.to_owned());
        }
        Ok(())
    }

    fn refuse_later_features(&self) -> Result<(), Refusal> {
        match self.ack.as_deref() {
            None | Some("") => {}
            Some(ack @ ("1" | "receipt")) => return Err(not_yet(format!("ack={ack}"))),
            Some(ack) => {
                return Err(Refusal::new(
                    codes::ILLEGAL_ACK,
                    format!("ack is {ack:?}, expected 1, receipt or nothing"),
                ));
            }
        }
        match self.q.as_deref() {
            None | Some("") => Ok(()),
            Some(q @ ("retry" | "dead")) => Err(not_yet(format!("q={q}"))),
            Some(q) => Err(Refusal::new(codes::ILLEGAL_Q, format!("q is {q:?}, expected retry, dead or nothing"))),
        }
    }
}

fn parse_batch(text: &str) -> Result<(u32, bool), Refusal> {
    let illegal = || Refusal::new(codes::ILLEGAL_BATCH, format!("batch is {text:?}, expected a number"));
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(illegal());
    }
    // More digits than a number can have still say "as many as you can".
    let number = digits.parse::<u32>().unwrap_or(u32::MAX).min(BATCH_MAX);
    Ok(if sign < 0 || number == 0 { (1, true) } else { (number, number > 1) })
}

fn parse_max_bytes(text: &str) -> Result<usize, Refusal> {
    match text.parse::<u64>() {
        Ok(bytes @ 1..) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(usize::try_from(bytes).unwrap_or(usize::MAX).min(RESPONSE_BYTES_MAX))
        }
        _ => Err(Refusal::new(
            codes::ILLEGAL_MAX_BYTES,
            format!("max_bytes is {text:?}, expected a number of bytes above 0"),
        )),
    }
}

fn parse_wait(text: &str) -> Result<Duration, Refusal> {
    let wait = duration::parse(text);
    let wait = wait.ok_or_else(|| {
        Refusal::new(codes::ILLEGAL_WAIT, format!("wait is {text:?}, expected as in 30, 30s or 500ms"))
    })?;
    Ok(wait.min(WAIT_MAX))
}

fn parse_reset(text: &str) -> Result<Reset, Refusal> {
    match text {
        "oldest" => return Ok(Reset::Oldest),
        "newest" => return Ok(Reset::Newest),
        _ => {}
    }
    if text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(epoch_ms) = text.parse()
    {
        return Ok(Reset::Timestamp(epoch_ms));
    }
    // A plus that was not percent-encoded arrives as a space: 2024-06-01T00:00:00 02:00.
    let time = text.parse::<jiff::Timestamp>().or_else(|err| match text.rsplit_once(' ') {
        Some((time, zone)) => format!("{time}+{zone}").parse().map_err(|_| err),
        None => Err(err),
    });
    match time {
        Ok(time) if time.as_millisecond() >= 0 => Ok(Reset::Timestamp(time.as_millisecond())),
        _ => Err(Refusal::new(
            codes::ILLEGAL_RESET,
            format!("reset is {text:?}, expected oldest, newest, a time of RFC 3339 or milliseconds since 1970"),
        )),
    }
}

fn not_yet(what: String) -> Refusal {
    Refusal::new(codes::NOT_SUPPORTED_YET, format!("{what} is not supported by this version of the gateway"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(query: &str, expected: Expect) {
        let text = match SubscribeQuery::parse(query) {
            Ok(q) => {
                let framed = if q.framed { " framed" } else { "" };
                format!(
                    "group={} batch={}{framed} max_bytes={} wait={:?} {:?}",
                    q.group, q.batch, q.max_bytes, q.wait, q.reset
                )
            }
            Err(refusal) => format!("{} {}: {}", refusal.status, refusal.code, refusal.message),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn the_group_alone_is_enough() {
        check("group=g1", expect!["group=g1 batch=1 max_bytes=4194304 wait=30s None"]);
    }

    #[test]
    fn every_name_has_its_values() {
        check(
            "group=g&batch=100&max_bytes=1000&wait=500ms&reset=newest",
            expect!["group=g batch=100 framed max_bytes=1000 wait=500ms Some(Newest)"],
        );
    }

    #[test]
    fn the_group_is_required_and_checked() {
        check("", expect!["400 missing_group: the query has no group"]);
        check("group=", expect!["400 illegal_group: group is empty"]);
        check(
            "group=a.b",
            expect![[
                r#"400 illegal_group: group "a.b" holds '.' at character 1, allowed are letters, digits, _ and -"#
            ]],
        );
        check("group=%ff", expect!["400 illegal_group: group is not UTF-8"]);
    }

    #[test]
    fn batch_is_capped_and_below_one_it_means_one_message_in_a_framing_as_in_2017() {
        check("group=g&batch=4001", expect!["group=g batch=4000 framed max_bytes=4194304 wait=30s None"]);
        check("group=g&batch=99999999999", expect!["group=g batch=4000 framed max_bytes=4194304 wait=30s None"]);
        check("group=g&batch=0", expect!["group=g batch=1 framed max_bytes=4194304 wait=30s None"]);
        check("group=g&batch=-5", expect!["group=g batch=1 framed max_bytes=4194304 wait=30s None"]);
        check("group=g&batch=ten", expect![[r#"400 illegal_batch: batch is "ten", expected a number"#]]);
        check("group=g&batch=", expect![[r#"400 illegal_batch: batch is "", expected a number"#]]);
    }

    #[test]
    fn max_bytes_is_a_number_above_zero() {
        check("group=g&max_bytes=99999999999", expect!["group=g batch=1 max_bytes=33554432 wait=30s None"]);
        check(
            "group=g&max_bytes=0",
            expect![[r#"400 illegal_max_bytes: max_bytes is "0", expected a number of bytes above 0"#]],
        );
        check(
            "group=g&max_bytes=%2B5",
            expect![[r#"400 illegal_max_bytes: max_bytes is "+5", expected a number of bytes above 0"#]],
        );
    }

    #[test]
    fn wait_is_a_duration_or_seconds_and_capped_at_two_minutes() {
        check("group=g&wait=0", expect!["group=g batch=1 max_bytes=4194304 wait=0ns None"]);
        check("group=g&wait=5", expect!["group=g batch=1 max_bytes=4194304 wait=5s None"]);
        check("group=g&wait=1h", expect!["group=g batch=1 max_bytes=4194304 wait=120s None"]);
        check("group=g&wait=soon", expect![[r#"400 illegal_wait: wait is "soon", expected as in 30, 30s or 500ms"#]]);
    }

    #[test]
    fn reset_is_an_end_of_the_log_or_a_time() {
        let at = |reset: &str, expected: Expect| check(&format!("group=g&reset={reset}"), expected);
        at("oldest", expect!["group=g batch=1 max_bytes=4194304 wait=30s Some(Oldest)"]);
        at("1717200000123", expect!["group=g batch=1 max_bytes=4194304 wait=30s Some(Timestamp(1717200000123))"]);
        at(
            "2024-06-01T00:00:00Z",
            expect!["group=g batch=1 max_bytes=4194304 wait=30s Some(Timestamp(1717200000000))"],
        );
        at(
            "2024-06-01T02:00:00%2B02:00",
            expect!["group=g batch=1 max_bytes=4194304 wait=30s Some(Timestamp(1717200000000))"],
        );
        at(
            "2024-06-01T02:00:00+02:00",
            expect!["group=g batch=1 max_bytes=4194304 wait=30s Some(Timestamp(1717200000000))"],
        );
        at(
            "yesterday",
            expect![[
                r#"400 illegal_reset: reset is "yesterday", expected oldest, newest, a time of RFC 3339 or milliseconds since 1970"#
            ]],
        );
        at(
            "-5",
            expect![[
                r#"400 illegal_reset: reset is "-5", expected oldest, newest, a time of RFC 3339 or milliseconds since 1970"#
            ]],
        );
    }

    #[test]
    fn explicit_acknowledgement_and_shadow_queues_are_refused_clearly_for_now() {
        check("group=g&ack=1", expect!["501 not_supported_yet: ack=1 is not supported by this version of the gateway"]);
        check(
            "group=g&ack=receipt",
            expect!["501 not_supported_yet: ack=receipt is not supported by this version of the gateway"],
        );
        check(
            "group=g&q=dead",
            expect!["501 not_supported_yet: q=dead is not supported by this version of the gateway"],
        );
        check("group=g&ack=2", expect![[r#"400 illegal_ack: ack is "2", expected 1, receipt or nothing"#]]);
        check("group=g&q=main", expect![[r#"400 illegal_q: q is "main", expected retry, dead or nothing"#]]);
    }

    #[test]
    fn names_of_2017_change_nothing_and_the_first_of_two_counts() {
        check(
            "mux=1&group=a&use=x&limit=3&hh=n&group=b&limit=4",
            expect!["400 unknown_parameter: there is no query parameter hh here, the nearest is q"],
        );
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_nearest_known_one() {
        check(
            "group=g&bach=10",
            expect!["400 unknown_parameter: there is no query parameter bach here, the nearest is batch"],
        );
        check(
            "group=g&key=k",
            expect!["400 unknown_parameter: there is no query parameter key here, the nearest is ack"],
        );
        check(
            "Group=g",
            expect!["400 unknown_parameter: there is no query parameter Group here, the nearest is group"],
        );
    }

    #[test]
    fn malformed_encoding_is_an_error() {
        check(
            "group=%zz",
            expect!["400 malformed_percent_encoding: a percent sign is not followed by two hexadecimal digits"],
        );
    }
}
