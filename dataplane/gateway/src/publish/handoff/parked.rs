//! Messages that cannot be delivered: listed, tried again, dropped, by whoever may.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use journal::queue::{Fate, Name, Note, Place, Reason, StreamId};
use journal::{Group, Refused, Waiter};

use super::open::now_ms;
use super::store::{Store, record_of};
use kafka_wire::handoff_entry as entry;

/// What is done with parked messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They wait to be delivered again, before everything else of their partition.
    Replay,
    Drop,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct ParkedRow {
    pub stream: StreamId,
    pub sequence: u64,
    pub name: Name,
    pub reason: Reason,
    pub accepted_ms: i64,
    pub parked_ms: i64,
    pub bytes: u64,
    place: Place,
}

/// Whoever waits for a change to be durable waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

impl Store {
    /// Those that are wanted, behind one of them, at most so many.
    pub fn parked(
        &self,
        wanted: &dyn Fn(&Name, &Reason) -> bool,
        after: Option<(StreamId, u64)>,
        rows_max: usize,
    ) -> Vec<ParkedRow> {
        let inner = self.inner();
        let mut rows = Vec::new();
        for (stream, name) in inner.queue.streams() {
            let from = match after {
                Some((last, _)) if stream < last => continue,
                Some((last, sequence)) if stream == last => sequence + 1,
                _ => 0,
            };
            for (sequence, parked) in inner.queue.parked(stream, from) {
                if rows.len() >= rows_max {
                    return rows;
                }
                if wanted(name, &parked.reason) {
                    rows.push(ParkedRow {
                        stream,
                        sequence,
                        name: name.clone(),
                        reason: parked.reason.clone(),
                        accepted_ms: parked.extent.at_ms,
                        parked_ms: parked.at_ms,
                        bytes: parked.extent.bytes,
                        place: parked.extent.place,
                    });
                }
            }
        }
        rows
    }

    /// The key of a parked message, if it can be read. Reads the disk: for a thread that may wait.
    pub fn key_of(&self, row: &ParkedRow) -> Option<Vec<u8>> {
        let place = journal::Place { segment: row.place.segment, block: row.place.block, index: row.place.index };
        let entry = self.journal().reader().read_run(place, 1).ok()?.pop()?.ok()?;
        entry::read(&entry.body)?.key.map(<[u8]>::to_vec)
    }

    /// Changes those of them that are parked; how many, and what the journal is to be told before anybody is.
    pub fn change(&self, change: Change, which: &[(StreamId, u64)]) -> (u64, Vec<Note>) {
        let now_ms = now_ms();
        let inner = &mut *self.inner();
        let mut notes = Vec::new();
        for (stream, sequence) in which {
            let is_parked = inner.queue.parked(*stream, *sequence).next().is_some_and(|(at, _)| at == *sequence);
            let Some(name) = inner.queue.name(*stream).cloned().filter(|_| is_parked) else { continue };
            notes.extend(match change {
                Change::Drop => inner.queue.settle(*stream, *sequence, 1, Fate::Dropped, now_ms),
                Change::Replay => inner.queue.unpark(*stream, *sequence),
            });
            if change == Change::Replay {
                inner.domains.buffer(&name.subject, name.lane, &"it was replayed".into(), None, now_ms);
            }
        }
        self.note_busy(inner);
        self.ring_all();
        (notes.len() as u64, notes)
    }

    /// As [`Store::change`], and waits until that is durable: for a thread that may wait.
    pub fn change_durably(&self, change: Change, which: &[(StreamId, u64)]) -> Result<u64, Refused> {
        let (count, notes) = self.change(change, which);
        if notes.is_empty() {
            return Ok(0);
        }
        self.wait_for(Group::new(notes.into_iter().map(record_of))?)?;
        Ok(count)
    }

    /// Appends, and waits until that is durable.
    pub(super) fn wait_for(&self, group: Group) -> Result<(), Refused> {
        let (ring, rang) = channel();
        let waiter = Waiter::new(move || {
            let _ = ring.send(());
        });
        self.journal().append(group, 0, &waiter)?;
        let until = Instant::now() + PATIENCE;
        let mut done = Vec::new();
        while done.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            rang.recv_timeout(left).map_err(|_| Refused::Unknown)?;
            waiter.take(&mut done);
        }
        done[0].result.map(|_| ())
    }
}
