//! `walctl repair`: what a start of the gateway does with a damaged journal, done by hand, and told in full.
//!
//! Recovery never stops at rot: it copies rotten bytes to `quarantine/`, writes again what may not be durable, and goes on. This
//! does the same under the node's lock, looks at what lies before the last checkpoint too, and says what was lost and why.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use disk::Files;
use journal::{Config, Journal};

use crate::backlog::{Seen, see};
use crate::cli::Repair;
use crate::exit::Fault;
use crate::inspect::findings;
use crate::place::Place;
use crate::rows::{self, Format, Section};

pub fn run(repair: &Repair, output: Option<Format>) -> Result<ExitCode> {
    let place = Place::find(&repair.place)?;
    // Held until the end.
    let _lock = if repair.dry_run { None } else { Some(place.lock()?) };
    let seen = see(&place)?;
    let found = findings(&seen);
    rows::print(&[Section { title: "", columns: &["finding", "detail"], more: &[], rows: found.clone() }], output);
    if found.is_empty() {
        eprintln!("nothing is wrong with {}", place.journal.display());
        return Ok(ExitCode::SUCCESS);
    }
    if repair.dry_run {
        eprintln!("a repair would copy rotten bytes to quarantine/ and write again what may not be durable");
        return Ok(ExitCode::SUCCESS);
    }
    if !repair.yes {
        confirm(&format!("Repair {}?", place.journal.display()))?;
    }
    let node = node_of(&place, &seen, repair.place.node.as_deref())?;
    let before = seen.looked.quarantine.clone();
    let files = Arc::new(Files::start(|_| Ok(()), || {}, || {})?);
    let (idle, recovered) = Journal::recover(Config::new(&place.journal, node), files, journal::random())
        .context("cannot repair the journal")?;
    for lost in &seen.lost {
        idle.quarantine(lost).context("cannot copy what is rotten")?;
    }
    drop(idle);
    let after = see(&place)?;
    for (name, bytes) in after.looked.quarantine.iter().filter(|aside| !before.contains(aside)) {
        eprintln!("put aside: {} ({})", place.journal.join("quarantine").join(name).display(), rows::size(*bytes));
    }
    if recovered.rewritten > 0 {
        eprintln!("{} records were written again", recovered.rewritten);
    }
    eprintln!("{} can be opened; the next record gets lsn {}", place.journal.display(), recovered.next_lsn);
    Ok(ExitCode::SUCCESS)
}

/// Whose journal it stays: recovery writes it down where it is lost.
pub fn node_of(place: &Place, seen: &Seen, named: Option<&str>) -> Result<String> {
    let of_dir = place.of_node.as_ref().map(|(_, node)| node.clone());
    let node = seen.looked.node.clone().or(of_dir).or(named.map(str::to_owned));
    let unknown = || Fault::Precondition("the file id is lost: say with --node whose journal it is".to_owned());
    Ok(node.ok_or_else(unknown)?)
}

/// Asks whoever sits there.
pub fn confirm(question: &str) -> Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Fault::Usage(format!("{question} Say --yes to do it without a terminal")).into());
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    match matches!(line.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Fault::Precondition("nothing was changed".to_owned()).into()),
    }
}
