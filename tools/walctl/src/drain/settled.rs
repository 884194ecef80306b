//! The journal while it is drained: entries read out of it, and what becomes of them noted in it, durably.

use std::cell::RefCell;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use disk::Files;
use journal::queue::{self, Extent, Note, Queue, StreamId};
use journal::receipt_id::Issuer;
use journal::{Config, Group, Journal, Reader, Record, Refused, Waiter};
use tokio::sync::Notify;

use crate::backlog::{BUDGET, KEEPING};
use crate::place::Place;

/// Notes that are durable together. A note why something is parked has two texts of at most 4 KiB.
const NOTES_MAX: usize = 128;
const _: () = assert!(NOTES_MAX * 2 * 4_200 <= journal::limits::GROUP_BYTES_MAX);

/// See the module. The queue is told first, and then the journal: who dies in between delivers again.
pub struct Settling {
    queue: Queue,
    issuer: Issuer,
    journal: Journal,
    reader: Reader,
}

/// An entry that was taken: its number, and what was read, or why it cannot be.
pub type Taken = (u64, Result<Bytes, String>);

impl Settling {
    /// Recovers the journal, whose lock the caller holds.
    pub fn open(place: &Place, node: String) -> Result<Settling> {
        let files = Arc::new(Files::start(|_| Ok(()), || {}, || {})?);
        let issuer = Issuer::new(node.clone());
        let (idle, recovered) = Journal::recover(Config::new(&place.journal, node), files, journal::random())
            .context("cannot recover the journal")?;
        let mut reader = idle.reader();
        let replayed =
            queue::replay(&recovered, &mut reader, BUDGET, KEEPING).context("cannot tell what waits in the journal")?;
        let journal = idle.start(|| {}, |_| {}).context("cannot open the journal")?;
        if let Some(key) = journal.id() {
            issuer.set_key(key);
        }
        Ok(Settling { queue: replayed.queue, issuer, journal, reader })
    }

    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Who names the messages of this journal.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    pub fn queue_mut(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// The next entries of a stream, in order.
    pub fn take(&mut self, stream: StreamId, bytes_max: u64, count_max: u32) -> Vec<Taken> {
        let extents = self.queue.take(stream, bytes_max, count_max);
        extents.into_iter().flat_map(|extent| self.read(&extent)).collect()
    }

    /// Each of an extent.
    fn read(&mut self, extent: &Extent) -> Vec<Taken> {
        let found = match self.reader.read_run(extent.place.into(), extent.count) {
            Ok(found) => found,
            Err(err) => vec![Err(err)],
        };
        let mut why = "its block in the journal has fewer records".to_owned();
        let mut found = found.into_iter();
        let body = |number| {
            let body = match found.next() {
                Some(Ok(entry)) => Ok(entry.body),
                Some(Err(err)) => {
                    why = err.to_string();
                    Err(why.clone())
                }
                None => Err(why.clone()),
            };
            (number, body)
        };
        (extent.first..extent.end()).map(body).collect()
    }

    /// A last checkpoint, so that a start has less to read.
    pub fn close(self) {
        if let Err(err) = self.journal.checkpoint(self.journal.durable_lsn(), self.queue.checkpoint()) {
            eprintln!("walctl: no checkpoint of the journal, by which nothing is lost: {err}");
        }
        self.journal.close();
    }
}

/// Appends notes, and waits until they are durable.
pub async fn note(settling: &RefCell<Settling>, notes: Vec<Note>) -> Result<(), Refused> {
    let rung = Arc::new(Notify::new());
    let waiter = {
        let rung = Arc::clone(&rung);
        Waiter::new(move || rung.notify_one())
    };
    let mut notes = notes.into_iter().map(record).peekable();
    let mut done = Vec::new();
    // Group by group: what waits in the journal at once has a limit.
    while notes.peek().is_some() {
        let group = Group::new(notes.by_ref().take(NOTES_MAX))?;
        settling.borrow().journal.append(group, 0, &waiter)?;
        while done.is_empty() {
            rung.notified().await;
            waiter.take(&mut done);
        }
        for completion in done.drain(..) {
            completion.result?;
        }
    }
    Ok(())
}

fn record(note: Note) -> Record {
    Record::new(note.stream.0, note.kind as u8, note.sequence, note.body).reserved()
}
