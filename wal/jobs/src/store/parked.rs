//! Jobs that cannot be delivered: listed, tried again, dropped, by whoever may. For threads that may wait.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use journal::{Refused, Waiter};

use super::{AddError, Store};
use crate::book::{Book, Change, Note, Parked, QueueId};
use crate::limits::LIST_MAX;
use crate::log::Name;
use crate::wheel::Entry;

/// What is done with parked jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// They are due again, as they were.
    Replay,
    /// They never fire.
    Drop,
}

/// Whoever waits for changes to be durable waits no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

impl Store {
    /// Parked jobs that are wanted, by their numbers, from one on, at most so many; each with its queue's name.
    pub fn parked(
        &self,
        from: u64,
        rows_max: usize,
        wanted: &dyn Fn(&Name, &Parked) -> bool,
    ) -> Vec<(Arc<Name>, Parked)> {
        let book = self.shared.book();
        let all = book.parked(from).filter_map(|parked| Some((&book.queue(parked.queue)?.name, parked)));
        let rows = all.filter(|(name, parked)| wanted(name, parked)).take(rows_max);
        rows.map(|(name, parked)| (Arc::clone(name), parked.clone())).collect()
    }

    /// Replays or drops those of them that are parked, and waits until that is durable. How many.
    pub fn change_parked(&self, deed: Deed, seqs: &[u64]) -> Result<u64, AddError> {
        let now_ms = self.shared.now_ms();
        let (ring, rang) = channel();
        let waiter = Waiter::new(move || ring.send(()).unwrap_or_default());
        let mut appended: Vec<Vec<Entry>> = Vec::new();
        let mut refused = None;
        for seqs in seqs.chunks(LIST_MAX) {
            let mut book = self.shared.book();
            let changes = seqs.iter().filter_map(|seq| change(&mut book, deed, *seq, now_ms));
            let (notes, entries): (Vec<Note>, Vec<Entry>) = changes.unzip();
            if notes.is_empty() {
                continue;
            }
            if let Err(error) = self.shared.append(notes, appended.len() as u64, &waiter) {
                entries.into_iter().for_each(|entry| book.unchanged(entry));
                refused = Some(error);
                break;
            }
            appended.push(entries);
        }
        // Also after a refusal: what was appended before it is done.
        let (mut left, mut changed, until) = (appended.len(), 0, Instant::now() + PATIENCE);
        let mut completions = Vec::new();
        while left > 0 {
            let wait = until.saturating_duration_since(Instant::now());
            rang.recv_timeout(wait).map_err(|_| AddError::Log(Refused::Unknown))?;
            waiter.take(&mut completions);
            for completion in completions.drain(..) {
                left -= 1;
                let entries = std::mem::take(&mut appended[completion.ticket as usize]);
                match completion.result {
                    Ok(_) => changed += entries.len() as u64,
                    Err(error) => {
                        entries.into_iter().for_each(|entry| self.change_failed(entry));
                        refused = Some(error);
                    }
                }
            }
        }
        refused.map_or(Ok(changed), |error| Err(error.into()))
    }
}

/// The note that changes a job; none: it is not parked, or somebody changes it.
fn change(book: &mut Book, deed: Deed, seq: u64, now_ms: i64) -> Option<(Note, Entry)> {
    let (key, QueueId(queue)) = book.parked(seq).next().filter(|is| is.key.seq == seq).map(|is| (is.key, is.queue))?;
    let note = match deed {
        Deed::Replay => book.unpark(seq)?,
        Deed::Drop => match book.delete(seq, QueueId(queue), now_ms) {
            Change::Append(note) => note,
            Change::TooLate | Change::Unknown => return None,
        },
    };
    Some((note, Entry { key, queue }))
}
