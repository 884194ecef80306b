//! Reads a journal without a change: its files, and the queue that it tells of.

use std::io;
use std::sync::Arc;

use anyhow::{Context, Result};
use disk::Files;
use journal::queue::{self, Budget, Keeping, Name, Queue, ReplayError, Replayed};
use journal::{Looked, Lost, OpenError, ReadError};

use crate::exit::Fault;
use crate::place::Place;

/// A journal that is in use changes while it is read: so often it is looked at again.
const LOOKS_MAX: usize = 8;

/// Nothing is accepted here, so nothing is too much.
pub const BUDGET: Budget = Budget {
    bytes_max: u64::MAX,
    subject_bytes_max: u64::MAX,
    account_bytes_max: u64::MAX,
    records_max: u64::MAX,
    age_ms_max: None,
};
pub const KEEPING: Keeping = Keeping { receipts_ms: i64::MAX };

/// What was read.
pub struct Seen {
    pub looked: Looked,
    /// Whether a process has it; `None`: nobody can tell.
    pub is_live: Option<bool>,
    /// Everything that is lost, by segment and offset, each once.
    pub lost: Vec<Lost>,
    /// Not understood: some other program's journal, or a newer one's.
    pub queue: Result<Queue, ReplayError>,
    /// Records that make no sense to the queue.
    pub malformed: u64,
}

/// Looks at a journal.
pub fn see(place: &Place) -> Result<Seen> {
    let mut seen = see_once(place)?;
    // Between two reads of a file that is written there may be a hole: lost is what stays so.
    for _ in 0..LOOKS_MAX {
        if seen.is_live == Some(false) || seen.lost.is_empty() {
            break;
        }
        let again = see_once(place)?;
        let before = std::mem::replace(&mut seen, again).lost;
        if seen.lost.iter().all(|lost| before.contains(lost)) {
            break;
        }
    }
    Ok(seen)
}

fn see_once(place: &Place) -> Result<Seen> {
    let mut looks = 1;
    loop {
        match try_to_see(place) {
            Err(err) if looks < LOOKS_MAX && is_gone(&err) => looks += 1,
            done => return done,
        }
    }
}

/// A segment went while it was to be read.
fn is_gone(err: &anyhow::Error) -> bool {
    err.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>();
        io.is_some_and(|io| io.kind() == io::ErrorKind::NotFound)
            || matches!(cause.downcast_ref(), Some(ReadError::Gone { .. }))
    })
}

fn try_to_see(place: &Place) -> Result<Seen> {
    let is_live = place.is_live()?;
    let files = Arc::new(Files::start(|_| Ok(()), || {}, || {})?);
    let looked = journal::look(&place.journal, files).map_err(|err| match err {
        OpenError::Newer { .. } => Fault::Precondition(err.to_string()).into(),
        err => anyhow::Error::new(err),
    })?;
    let none = || Fault::NotFound(format!("there is no journal in {}", place.journal.display()));
    let looked = looked.ok_or_else(none)?;
    let mut lost = looked.recovered.lost.clone();
    lost.extend(looked.missing.iter().copied());
    let (queue, malformed) = match queue::replay(&looked.recovered, &mut looked.reader(), BUDGET, KEEPING) {
        Ok(Replayed { queue, malformed, lost: more }) => {
            lost.extend(more);
            (Ok(queue), malformed)
        }
        Err(ReplayError::Read(err)) => return Err(err).context("cannot read the journal"),
        Err(err) => {
            lost.extend(looked.reader().scan(0, &mut |_| {}).context("cannot read the journal")?);
            (Err(err), 0)
        }
    };
    Ok(Seen { lost: once(lost), looked, is_live, queue, malformed })
}

/// Recovery puts records of one block that follow each other together; a scan finds each.
fn once(mut lost: Vec<Lost>) -> Vec<Lost> {
    lost.sort_by_key(|lost| (lost.from_lsn, std::cmp::Reverse(lost.to_lsn)));
    let mut all: Vec<Lost> = Vec::new();
    for lost in lost {
        match all.last_mut() {
            Some(last) if lost.from_lsn < last.to_lsn => {}
            Some(last) if lost.from_lsn == last.to_lsn && (lost.segment, lost.at) == (last.segment, last.at) => {
                last.to_lsn = lost.to_lsn;
            }
            _ => all.push(lost),
        }
    }
    all
}

/// App, cluster, and topic as Kafka has it.
pub fn parts(name: &Name) -> (&str, &str, &str) {
    let (cluster, physical) = name.subject.split_once('/').unwrap_or(("", &name.subject));
    (&name.account, cluster, physical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_ways_of_looking_find_is_said_once() {
        let lost = |from_lsn, to_lsn, at| Lost { from_lsn, to_lsn, segment: 1, at, bytes: 4096 };
        let given = vec![lost(5, 8, 4096), lost(1, 2, 0), lost(5, 6, 4096), lost(6, 7, 4096), lost(8, 9, 8192)];
        assert_eq!(once(given), [lost(1, 2, 0), lost(5, 8, 4096), lost(8, 9, 8192)]);
        assert_eq!(once(vec![lost(5, 6, 0), lost(6, 7, 0)]), [lost(5, 7, 0)]);
    }
}
