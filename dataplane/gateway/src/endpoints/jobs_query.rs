//! What a query asks of delayed jobs.

use crate::codes;
use crate::due::Due;
use crate::endpoints::params::{self, bad_parameter};
use crate::jobs::{Durability, Page, when};
use crate::limits::{JOBS_LISTED_DEFAULT, JOBS_LISTED_MAX, KEY_BYTES_MAX};
use crate::refusal::Refusal;
use ::jobs::{JobId, Key};
use gafka_http::query;
use std::borrow::Cow;
use std::collections::BTreeMap;

pub const ADD: [&str; 6] = ["delay", "due", "key", "partition", "null", "durability"];
pub const LOOK: [&str; 5] = ["id", "from", "to", "limit", "cursor"];
pub const NAMED: [&str; 1] = ["id"];
pub const RESCHEDULE: [&str; 3] = ["id", "due", "delay"];

/// What an add asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct AddWishes<'q> {
    pub due_ms: i64,
    pub key: Option<Cow<'q, [u8]>>,
    pub partition: Option<i32>,
    pub null: bool,
    pub durability: Durability,
}

/// A look at jobs. `Job(None)`: what was given cannot be an id.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    Job(Option<JobId>),
    List(Page),
}

/// Each parameter as first given, of those that are known.
fn all<'q>(text: Option<&'q str>, known: &[&'static str]) -> Result<BTreeMap<&'static str, Cow<'q, [u8]>>, Refusal> {
    let mut all = BTreeMap::new();
    for pair in query::pairs(text.unwrap_or_default()) {
        let (name, value) = pair.map_err(|_| params::malformed())?;
        if let Some(at) = params::position(&name, known)? {
            all.entry(known[at]).or_insert(value);
        }
    }
    Ok(all)
}

fn text<'a>(name: &str, value: &'a [u8]) -> Result<&'a str, Refusal> {
    std::str::from_utf8(value).map_err(|_| Refusal::new(codes::BAD_QUERY, format!("parameter {name} is not UTF-8")))
}

/// What `POST /v1/jobs/:topic/:ver` asks for. `due` wins over `delay`, as in 2017.
pub fn add(query: Option<&str>, now_ms: i64) -> Result<AddWishes<'_>, Refusal> {
    let mut all = all(query, &ADD)?;
    let durability = match all.get("durability") {
        Some(durability) => durability_of(text("durability", durability)?)?,
        None => Durability::Durable,
    };
    let due_ms = due_ms(&all, now_ms)?;
    let partition = match all.get("partition") {
        None => None,
        Some(value) => {
            let value = text("partition", value)?;
            let parsed = value.parse::<i32>().ok().filter(|partition| *partition >= 0);
            Some(parsed.ok_or_else(|| bad_parameter("partition", value, "a number, at least 0"))?)
        }
    };
    let null = all.get("null").map_or(Ok(false), |value| params::flag("null", text("null", value)?))?;
    let key = all.remove("key").filter(|key| !key.is_empty());
    if let Some(key) = &key
        && key.len() > KEY_BYTES_MAX
    {
        let sentence = format!("key is {} bytes, the limit is {KEY_BYTES_MAX}", key.len());
        return Err(Refusal::new(codes::KEY_TOO_LONG, sentence));
    }
    Ok(AddWishes { due_ms, key, partition, null, durability })
}

/// What `GET /v1/jobs/:topic/:ver` asks for.
pub fn look(query: Option<&str>) -> Result<Look, Refusal> {
    let all = all(query, &LOOK)?;
    if let Some(id) = all.get("id") {
        return Ok(Look::Job(JobId::parse(text("id", id)?)));
    }
    let time = |name: &'static str| match all.get(name) {
        None => Ok(None),
        Some(value) => text(name, value).and_then(|value| time_of(name, value)).map(Some),
    };
    let mut from = time("from")?.map_or(Key::MIN, Key::first_of);
    let to = time("to")?.map_or(Key::MAX, Key::first_of);
    if let Some(cursor) = all.get("cursor") {
        let cursor = text("cursor", cursor)?;
        let parsed = cursor
            .rsplit_once('-')
            .and_then(|(due_ms, seq)| Some(Key { due_ms: due_ms.parse().ok()?, seq: seq.parse().ok()? }));
        from = parsed.ok_or_else(|| bad_parameter("cursor", cursor, "the cursor of the page before"))?;
    }
    let count_max = match all.get("limit") {
        None => JOBS_LISTED_DEFAULT,
        Some(value) => {
            let value = text("limit", value)?;
            let parsed = value.parse().ok().filter(|count| (1..=JOBS_LISTED_MAX).contains(count));
            parsed.ok_or_else(|| bad_parameter("limit", value, "a number from 1 to 1000"))?
        }
    };
    Ok(Look::List(Page { from, to, count_max }))
}

/// The job a query names; `None`: what is given cannot be an id.
pub fn id(query: Option<&str>) -> Result<Option<JobId>, Refusal> {
    let all = all(query, &NAMED)?;
    named(&all)
}

/// What `PUT /v1/jobs/:topic/:ver` asks for.
pub fn reschedule(query: Option<&str>, now_ms: i64) -> Result<(Option<JobId>, i64), Refusal> {
    let all = all(query, &RESCHEDULE)?;
    let id = named(&all)?;
    let due_ms = due_ms(&all, now_ms)?;
    Ok((id, due_ms))
}

fn named(all: &BTreeMap<&'static str, Cow<'_, [u8]>>) -> Result<Option<JobId>, Refusal> {
    let id = all.get("id").ok_or_else(|| Refusal::new(codes::MISSING_ID, "say which job: id"))?;
    Ok(JobId::parse(text("id", id)?))
}

/// When a job is due, as a query says it.
fn due_ms(all: &BTreeMap<&'static str, Cow<'_, [u8]>>, now_ms: i64) -> Result<i64, Refusal> {
    let said = said(all)?.ok_or_else(when::missing)?;
    when::check(said.ms(now_ms), now_ms)
}

/// What a query says of it; `due` means more than `delay`.
fn said(all: &BTreeMap<&'static str, Cow<'_, [u8]>>) -> Result<Option<Due>, Refusal> {
    match (all.get("due"), all.get("delay")) {
        (Some(due), _) => text("due", due).and_then(|value| due_of("due", value)).map(Some),
        (None, Some(delay)) => text("delay", delay).and_then(delay_of).map(Some),
        (None, None) => Ok(None),
    }
}

pub fn delay_of(value: &str) -> Result<Due, Refusal> {
    Due::of_delay(value).ok_or_else(|| bad_parameter("delay", value, "seconds, or a duration like 30s, 250ms or 2h"))
}

/// RFC 3339, or seconds since 1970.
pub fn due_of(name: &str, value: &str) -> Result<Due, Refusal> {
    // A plus sign in a query is a space unless it was escaped.
    let value = value.replace(' ', "+");
    let expected = "RFC 3339 (2027-01-01T08:00:00Z), or seconds since 1970";
    Due::of_time(&value).ok_or_else(|| bad_parameter(name, &value, expected))
}

/// The same as epoch ms.
fn time_of(name: &str, value: &str) -> Result<i64, Refusal> {
    due_of(name, value).map(|due| due.ms(0))
}

/// `durability`: what there is yet.
pub fn durability_of(value: &str) -> Result<Durability, Refusal> {
    match value {
        "" | "durable" => Ok(Durability::Durable),
        "async" => Ok(Durability::Async),
        "both" | "replicated" | "any" => {
            let sentence = "nothing was stored: only durability=durable and durability=async exist yet";
            Err(Refusal::new(codes::DURABILITY_UNKNOWN, sentence))
        }
        other => Err(bad_parameter("durability", other, "durable or async")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-28T00:00:00Z
    const NOW_MS: i64 = 1_795_824_000_000;

    #[test]
    fn when_a_job_is_due_is_said_in_three_ways_and_never_in_the_past() {
        for (query, expected) in [
            ("delay=30s", Ok(NOW_MS + 30_000)),
            ("delay=30", Ok(NOW_MS + 30_000)),
            ("delay=250ms", Ok(NOW_MS + 250)),
            ("delay=0", Ok(NOW_MS)),
            ("due=1795824060", Ok(NOW_MS + 60_000)),
            ("due=2026-11-28T00:01:00Z", Ok(NOW_MS + 60_000)),
            ("due=2026-11-28T01:01:00.5%2B01:00", Ok(NOW_MS + 60_500)),
            ("due=2026-11-28T01:01:00+01:00", Ok(NOW_MS + 60_000)),
            ("delay=1&due=1795824060", Ok(NOW_MS + 60_000)),
            ("due=2026-11-27T00:00:00Z", Err("due_past")),
            ("due=1795823990", Err("due_past")),
            ("due=1795824060000", Err("due_too_far")),
            ("due=tomorrow", Err("bad_parameter")),
            ("delay=-1", Err("bad_parameter")),
            ("", Err("missing_due")),
            ("delay=1&durability=async", Ok(NOW_MS + 1_000)),
            ("delay=1&durability=both", Err("durability_unknown")),
            ("delay=1&durability=x", Err("bad_parameter")),
            ("delay=1&dealy=2", Err("unknown_parameter")),
        ] {
            let read = add(Some(query), NOW_MS).map(|wishes| wishes.due_ms).map_err(|refusal| refusal.code);
            assert_eq!(read, expected, "{query}");
        }
    }

    #[test]
    fn a_list_goes_on_where_its_cursor_says() {
        let list = |query| match look(Some(query)) {
            Ok(Look::List(Page { from, to, count_max })) => Ok((from, to, count_max)),
            Ok(Look::Job(id)) => panic!("a job: {id:?}"),
            Err(refusal) => Err(refusal.code),
        };
        let key = |due_ms, seq| Key { due_ms, seq };
        for (query, expected) in [
            ("", Ok((Key::MIN, Key::MAX, 100))),
            ("from=10&to=20&limit=7", Ok((key(10_000, 0), key(20_000, 0), 7))),
            ("from=10&cursor=15000-3", Ok((key(15_000, 3), Key::MAX, 100))),
            ("cursor=-5-3", Ok((key(-5, 3), Key::MAX, 100))),
            ("cursor=x", Err("bad_parameter")),
            ("limit=0", Err("bad_parameter")),
            ("limit=1001", Err("bad_parameter")),
        ] {
            assert_eq!(list(query), expected, "{query}");
        }
        assert_eq!(look(Some("id=17")), Ok(Look::Job(None)), "no id is so short");
    }
}
