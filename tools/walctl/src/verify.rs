//! `walctl verify`: every block, every body.
//!
//! Lost is what was acknowledged and cannot be read. A torn tail is not: nobody was told that it was stored.

use std::process::ExitCode;

use anyhow::{Context, Result};
use journal::{Lost, SegmentState};
use serde_json::{Value, json};

use crate::backlog::{Seen, see};
use crate::cli::Verify;
use crate::exit;
use crate::inspect::findings;
use crate::place::Place;
use crate::rows::{self, Format, Section, size};

pub fn run(verify: &Verify, output: Option<Format>) -> Result<ExitCode> {
    let place = Place::find(&verify.place)?;
    let seen = see(&place)?;
    let (mut records, mut bytes) = (0_u64, 0_u64);
    let count = &mut |entry: journal::Entry| {
        records += 1;
        bytes += u64::from(entry.location.bytes);
    };
    seen.looked.reader().scan(0, count).context("cannot read the journal")?;
    rows::print(&[table(&seen.lost)], output);
    for finding in findings(&seen).iter().filter(|finding| finding["finding"] != "lost") {
        eprintln!("{}: {}", text(&finding["finding"]), text(&finding["detail"]));
    }
    let segments = seen.looked.segments.iter().filter(|segment| segment.state == SegmentState::Live).count();
    let lost: u64 = seen.lost.iter().map(|lost| lost.to_lsn - lost.from_lsn).sum();
    let what = if lost == 0 { "whole".to_owned() } else { format!("{lost} RECORDS ARE LOST") };
    eprintln!(
        "{}: {what}; {records} records of {} in {segments} segments are good",
        place.journal.display(),
        size(bytes)
    );
    say_live(&seen);
    Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn say_live(seen: &Seen) {
    if seen.is_live == Some(true) {
        eprintln!("a process has it open: this is what the files said while it went on");
    }
}

/// What is lost, and where it was.
pub fn table(lost: &[Lost]) -> Section {
    let row = |lost: &Lost| {
        json!({
            "segment": lost.segment,
            "at": lost.at,
            "bytes": lost.bytes,
            "from_lsn": lost.from_lsn,
            "to_lsn": lost.to_lsn - 1,
            "records": lost.to_lsn - lost.from_lsn,
            "what": what(lost),
        })
    };
    Section {
        title: "",
        columns: &["segment", "at", "bytes", "from_lsn", "to_lsn", "records", "what"],
        more: &[],
        rows: lost.iter().map(row).collect(),
    }
}

fn what(lost: &Lost) -> &'static str {
    match (lost.at, lost.bytes) {
        (0, 0) => "the segment is missing",
        (0, _) => "both headers of the segment are rotten; records at most",
        _ => "acknowledged records do not match their checksum",
    }
}

/// The same for people.
pub fn sentence(lost: &Lost) -> String {
    let Lost { from_lsn, to_lsn, segment, at, bytes } = lost;
    format!("lsns {from_lsn} to {}: segment {segment}, {bytes} bytes at {at}: {}", to_lsn - 1, what(lost))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
