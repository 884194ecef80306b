//! `walctl dump`: the messages that wait, or are parked, as a subscriber would see them.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use journal::queue::{Extent, Name, Queue, StreamId};
use journal::{Entry, ReadError, Reader};
use kafka_wire::handoff_entry;
use serde_json::{Map, Value, json};

use crate::backlog::{parts, see};
use crate::cli::Dump;
use crate::exit;
use crate::place::Place;
use crate::rows::{self, Format, Section, time};

/// Printed at once, so that a large backlog is not held in memory.
const ROWS_MAX: usize = 1_000;

pub fn run(dump: &Dump, output: Option<Format>) -> Result<ExitCode> {
    let seen = see(&Place::find(&dump.place)?)?;
    let mut queue = seen.queue.map_err(|err| anyhow!(err))?;
    let mut reader = seen.looked.reader();
    let mut left = dump.limit.unwrap_or(u64::MAX);
    let mut unreadable = 0;
    // A table lines up over all of its rows, and JSON is one list; the other forms are a row each.
    let at_once = if matches!(output, Some(Format::Jsonl | Format::Tsv | Format::Name | Format::Yaml)) {
        ROWS_MAX
    } else {
        usize::MAX
    };
    let mut held = Vec::new();
    for (extent, name, stream, state) in wanted(&mut queue, dump) {
        let count = u64::from(extent.count).min(left) as u32;
        if count == 0 {
            break;
        }
        left -= u64::from(count);
        for (row, is_good) in read(&mut reader, &Extent { count, ..extent }, &name, stream, &state) {
            unreadable += u64::from(!is_good);
            held.push(row);
        }
        if held.len() >= at_once {
            rows::print(&[section(std::mem::take(&mut held))], output);
        }
    }
    rows::print(&[section(held)], output);
    if !seen.lost.is_empty() {
        eprintln!(
            "walctl: records of this journal are lost, so messages may be missing here; walctl verify says where"
        );
    }
    if unreadable > 0 {
        eprintln!("walctl: {unreadable} messages cannot be read; walctl verify says where they are");
        return Ok(ExitCode::from(exit::FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

fn section(rows: Vec<Value>) -> Section {
    Section {
        title: "",
        columns: &["app", "topic", "partition", "sequence", "state", "accepted", "key", "value"],
        more: &["cluster", "stream", "lsn", "timestamp", "headers", "why"],
        rows,
    }
}

/// Whether it waits, or why it is parked.
enum State {
    Waiting,
    Parked { code: String, why: String },
}

/// Extents in order, stream by stream.
fn wanted(queue: &mut Queue, dump: &Dump) -> Vec<(Extent, Name, StreamId, State)> {
    let mut streams: Vec<(Name, StreamId)> = queue.streams().map(|(stream, name)| (name.clone(), stream)).collect();
    streams.retain(|(name, _)| is_meant(name, dump.app.as_deref(), dump.topic.as_deref()));
    streams.sort();
    let mut all = Vec::new();
    for (name, stream) in streams {
        if dump.parked {
            for (_, parked) in queue.parked(stream, 0) {
                let state =
                    State::Parked { code: parked.reason.code.to_string(), why: parked.reason.sentence.to_string() };
                all.push((parked.extent, name.clone(), stream, state));
            }
        } else {
            // Of the copy of the queue that is ours alone.
            let taken =
                std::iter::from_fn(|| Some(queue.take(stream, u64::MAX, u32::MAX)).filter(|taken| !taken.is_empty()));
            all.extend(taken.flatten().map(|extent| (extent, name.clone(), stream, State::Waiting)));
        }
    }
    all
}

/// Whether a stream is of this app and topic; a topic by its name in Kafka, or as its app calls it, with or without version.
pub fn is_meant(name: &Name, app: Option<&str>, topic: Option<&str>) -> bool {
    let (account, _, physical) = parts(name);
    let own = physical.strip_prefix(account).and_then(|own| own.strip_prefix('.'));
    let is_topic = |topic: &str| {
        let is_own = |own: &str| own == topic || own.rsplit_once('.').is_some_and(|(own, _)| own == topic);
        physical == topic || own.is_some_and(is_own)
    };
    app.is_none_or(|app| app == account) && topic.is_none_or(is_topic)
}

/// A row for each entry of an extent, and whether it could be read.
fn read(reader: &mut Reader, extent: &Extent, name: &Name, stream: StreamId, state: &State) -> Vec<(Value, bool)> {
    let found: Vec<Result<Entry, ReadError>> = match reader.read_run(extent.place.into(), extent.count) {
        Ok(found) => found,
        Err(err) => vec![Err(err)],
    };
    let mut found = found.into_iter();
    let (app, cluster, physical) = parts(name);
    let mut failed = "its block in the journal has fewer records".to_owned();
    let row = |sequence: u64| {
        let mut row = Map::new();
        let mut put = |field: &str, value: Value| drop(row.insert(field.to_owned(), value));
        for (field, value) in [("app", app), ("cluster", cluster), ("topic", physical)] {
            put(field, value.into());
        }
        put("partition", (name.lane >= 0).then_some(name.lane).into());
        put("stream", stream.0.into());
        put("sequence", sequence.into());
        match state {
            State::Waiting => put("state", "waiting".into()),
            State::Parked { code, why } => {
                put("state", format!("parked: {code}").into());
                put("why", why.as_str().into());
            }
        }
        let entry = match found.next() {
            Some(Ok(entry)) => Some(entry),
            Some(Err(err)) => {
                failed = err.to_string();
                None
            }
            None => None,
        };
        let message = entry.as_ref().and_then(|entry| handoff_entry::read(&entry.body));
        if let Some(entry) = &entry {
            put("lsn", entry.lsn.into());
            put("accepted", time(entry.wall_ms));
        }
        match (&entry, &message) {
            (_, Some(message)) => put_message(&mut row, message),
            (Some(_), None) => {
                put("state", "unreadable".into());
                put("why", "its bytes in the journal make no sense".into());
            }
            (None, None) => {
                put("state", "unreadable".into());
                put("why", failed.as_str().into());
            }
        }
        (Value::Object(row), message.is_some())
    };
    (extent.first..extent.end()).map(row).collect()
}

/// Fields as subscribers get them in JSON.
fn put_message(row: &mut Map<String, Value>, message: &handoff_entry::Entry<'_>) {
    row.insert("timestamp".to_owned(), message.timestamp_ms.into());
    if let Some(key) = message.key {
        put_text_or_base64(row, "key", key);
    }
    match message.value {
        Some(value) => put_text_or_base64(row, "value", value),
        None => drop(row.insert("value".to_owned(), Value::Null)),
    }
    let header = |header: &kafka_wire::record_batch::HeaderRef<'_>| {
        let value = header.value.map(|value| match std::str::from_utf8(value) {
            Ok(text) => Value::from(text),
            Err(_) => json!({ "base64": STANDARD.encode(value) }),
        });
        json!([String::from_utf8_lossy(header.name), value])
    };
    row.insert("headers".to_owned(), message.headers.iter().map(header).collect());
}

fn put_text_or_base64(row: &mut Map<String, Value>, field: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => row.insert(field.to_owned(), text.into()),
        Err(_) => row.insert(format!("{field}_base64"), STANDARD.encode(bytes).into()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_meant_by_its_name_in_kafka_and_as_its_app_calls_it() {
        let name = Name { account: "shop".into(), subject: "main/shop.orders.eu.v1".into(), lane: 0 };
        for (app, topic, expected) in [
            (None, None, true),
            (Some("shop"), None, true),
            (Some("sho"), None, false),
            (None, Some("shop.orders.eu.v1"), true),
            (None, Some("orders.eu.v1"), true),
            (Some("shop"), Some("orders.eu"), true),
            (None, Some("orders"), false),
            (None, Some("v1"), false),
            (Some("other"), Some("orders.eu"), false),
        ] {
            assert_eq!(is_meant(&name, app, topic), expected, "{app:?} {topic:?}");
        }
    }
}
