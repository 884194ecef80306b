//! `walctl inspect`: files, backlog, and what a start would say.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use journal::SegmentState;
use journal::queue::{Queue, StreamId};
use serde_json::{Value, json};

use crate::backlog::{Seen, parts, see};
use crate::cli::Inspect;
use crate::place::Place;
use crate::rows::{self, Format, Section, time};
use crate::verify;

pub fn run(inspect: &Inspect, output: Option<Format>) -> Result<ExitCode> {
    let place = Place::find(&inspect.place)?;
    let seen = see(&place)?;
    rows::print(&sections(&place, &seen), output);
    Ok(ExitCode::SUCCESS)
}

/// Everything there is to say.
pub fn sections(place: &Place, seen: &Seen) -> Vec<Section> {
    let queue = seen.queue.as_ref().ok();
    vec![
        Section {
            title: "journal",
            columns: &["journal", "node", "in_use", "records", "bytes", "next_lsn"],
            more: &["id", "replay_from"],
            rows: vec![journal(place, seen)],
        },
        Section {
            title: "backlog",
            columns: &["app", "cluster", "topic", "partition", "waiting", "parked", "bytes", "oldest"],
            more: &["stream"],
            rows: queue.map(backlog).unwrap_or_default(),
        },
        Section {
            title: "segments",
            columns: &["segment", "state", "bytes", "first_lsn", "next_lsn", "unsettled", "unsettled_bytes", "created"],
            more: &["used_bytes"],
            rows: segments(seen, queue),
        },
        Section {
            title: "checkpoints",
            columns: &["checkpoint", "state", "lsn", "segments", "blob_bytes"],
            more: &[],
            rows: checkpoints(seen),
        },
        Section { title: "other_files", columns: &["file", "what", "bytes"], more: &[], rows: others(seen) },
        Section { title: "findings", columns: &["finding", "detail"], more: &[], rows: findings(seen) },
    ]
}

fn journal(place: &Place, seen: &Seen) -> Value {
    let usage = seen.queue.as_ref().ok().map(Queue::usage);
    let id: Option<String> = seen.looked.id.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect());
    json!({
        "journal": place.journal.display().to_string(),
        "node": seen.looked.node,
        "in_use": match seen.is_live { Some(true) => "yes", Some(false) => "no", None => "unknown" },
        "records": usage.map(|usage| usage.records),
        "bytes": usage.map(|usage| usage.bytes),
        "next_lsn": seen.looked.recovered.next_lsn,
        "replay_from": seen.looked.recovered.from_lsn,
        "id": id,
    })
}

/// Of each app and partition.
fn backlog(queue: &Queue) -> Vec<Value> {
    let row = |(stream, name): (StreamId, &journal::queue::Name)| {
        let backlog = queue.backlog(stream);
        let parked_bytes: u64 = queue.parked(stream, 0).map(|(_, parked)| parked.extent.bytes).sum();
        let oldest_parked = queue.parked(stream, 0).map(|(_, parked)| parked.extent.at_ms).min();
        let oldest = backlog.oldest_ms.into_iter().chain(oldest_parked).min();
        let (app, cluster, topic) = parts(name);
        let row = json!({
            "app": app,
            "cluster": cluster,
            "topic": topic,
            // Chosen by key when it is delivered.
            "partition": (name.lane >= 0).then_some(name.lane),
            "waiting": backlog.waiting,
            "parked": backlog.parked,
            "bytes": backlog.waiting_bytes + parked_bytes,
            "oldest": oldest.map(time),
            "stream": stream.0,
        });
        (backlog.waiting + backlog.parked > 0).then_some(((name.clone(), stream.0), row))
    };
    let by_name: BTreeMap<_, Value> = queue.streams().filter_map(row).collect();
    by_name.into_values().collect()
}

fn segments(seen: &Seen, queue: Option<&Queue>) -> Vec<Value> {
    let needed: BTreeMap<u64, u64> = queue.map(|queue| queue.needed().collect()).unwrap_or_default();
    let bytes_in = |queue: &Queue, segment| -> u64 {
        queue.entries_in(segment, usize::MAX).iter().map(|(_, extent)| extent.bytes).sum()
    };
    let row = |segment: &journal::SegmentFile| {
        json!({
            "segment": segment.number,
            "state": match segment.state {
                SegmentState::Live => "live",
                SegmentState::Unneeded => "unneeded",
                SegmentState::Rotten => "rotten",
            },
            "bytes": segment.bytes,
            "used_bytes": segment.end.map(|(_, end)| end),
            "first_lsn": segment.header.map(|(first_lsn, _)| first_lsn),
            "next_lsn": segment.end.map(|(next_lsn, _)| next_lsn),
            "unsettled": queue.map(|_| needed.get(&segment.number).copied().unwrap_or(0)),
            "unsettled_bytes": queue.map(|queue| bytes_in(queue, segment.number)),
            "created": segment.header.map(|(_, created_ms)| time(created_ms)),
        })
    };
    seen.looked.segments.iter().map(row).collect()
}

fn checkpoints(seen: &Seen) -> Vec<Value> {
    let row = |checkpoint: &journal::CheckpointFile| {
        json!({
            "checkpoint": checkpoint.number,
            "state": if checkpoint.content.is_some() { "good" } else { "rotten" },
            "lsn": checkpoint.content.map(|(lsn, _, _)| lsn),
            "blob_bytes": checkpoint.content.map(|(_, bytes, _)| bytes),
            "segments": checkpoint.content.map(|(_, _, segments)| segments),
        })
    };
    seen.looked.checkpoints.iter().map(row).collect()
}

fn others(seen: &Seen) -> Vec<Value> {
    let row = |what: &str, name: &str, bytes: Option<u64>| json!({ "file": name, "what": what, "bytes": bytes });
    let spares = seen.looked.spares.iter().map(|(name, bytes)| row("spare", name, Some(*bytes)));
    let aside = seen.looked.quarantine.iter().map(|(name, bytes)| row("quarantine", name, Some(*bytes)));
    let temporary = seen.looked.temporary.iter().map(|name| row("unfinished", name, None));
    spares.chain(aside).chain(temporary).collect()
}

/// What somebody should know; empty: nothing is wrong with it.
pub fn findings(seen: &Seen) -> Vec<Value> {
    let mut found = Vec::new();
    let mut say = |finding: &str, detail: String| found.push(json!({ "finding": finding, "detail": detail }));
    let recovered = &seen.looked.recovered;
    for lost in &seen.lost {
        say("lost", verify::sentence(lost));
    }
    if recovered.torn {
        say("torn_tail", "blocks at the end were not finished; nobody was told that they were stored".to_owned());
    }
    if recovered.rewritten > 0 {
        let said = format!("{} records at the end may not be durable; a start writes them again", recovered.rewritten);
        say("unconfirmed", said);
    }
    for number in &recovered.bad_checkpoints {
        say("rotten_checkpoint", format!("checkpoint {number} is rotten; an older one, or the log alone, is used"));
    }
    if seen.looked.node.is_none() {
        say("rotten_id", "the file id is lost or rotten; a start writes it again from the segments".to_owned());
    }
    if let Err(err) = &seen.queue {
        let cause = std::error::Error::source(err).map(|cause| format!(": {cause}")).unwrap_or_default();
        say("not_understood", format!("{err}{cause}; what waits cannot be told"));
    }
    if seen.malformed > 0 {
        say("senseless", format!("{} records make no sense and are passed over", seen.malformed));
    }
    found
}
