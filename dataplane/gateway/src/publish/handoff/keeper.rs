//! The keeper of a store: a thread that writes checkpoints, lets segments go, moves what would pin them, and forgets
//! receipts. Nothing of it is on a publish's path.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use journal::queue::Kind;
use journal::{Group, Reader, Record};

use super::open::now_ms;
use super::store::Store;
use crate::limits::{HANDOFF_MOVED_BYTES_MAX, HANDOFF_PINNED_SHARE};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A checkpoint at least this often while anything changes,
const CHECKPOINT_AFTER: Duration = Duration::from_secs(5);
/// and as soon as so many records came.
const CHECKPOINT_RECORDS: u64 = 200_000;
/// Segments that few messages pin are looked for this often.
const MOVE_AFTER: Duration = Duration::from_secs(10);

/// Ends its thread when it is dropped, after a last checkpoint.
pub struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(store: &Arc<Store>) -> std::io::Result<Keeper> {
        let (stop, stopped) = channel();
        let store = Arc::downgrade(store);
        let thread = std::thread::Builder::new().name("handoff".to_owned()).spawn(move || keep(&store, &stopped))?;
        Ok(Keeper { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the keeper of handed-off messages panicked");
        }
    }
}

fn keep(store: &Weak<Store>, stopped: &Receiver<()>) {
    let mut written = Written { at: Instant::now(), lsn: 0, freed: Vec::new(), owed: 0 };
    let mut moved_at = Instant::now();
    loop {
        let is_last = stopped.recv_timeout(LOOK_EVERY) != Err(RecvTimeoutError::Timeout);
        let Some(store) = store.upgrade() else { return };
        store.inner().queue.forget(now_ms());
        if moved_at.elapsed() >= MOVE_AFTER && !is_last {
            moved_at = Instant::now();
            move_few(&store);
        }
        written.checkpoint(&store, is_last);
        if is_last {
            return;
        }
    }
}

/// The last checkpoint.
struct Written {
    at: Instant,
    lsn: u64,
    /// Segments that nobody needs and that are still there.
    freed: Vec<u64>,
    /// Checkpoints until they go; without news, too, or a full disk would stay full.
    owed: u8,
}

/// A segment goes with the second checkpoint after it was freed.
const OWED: u8 = 2;

impl Written {
    fn checkpoint(&mut self, store: &Store, is_last: bool) {
        let (lsn, blob) = {
            let inner = store.inner();
            let lsn = inner.applied_lsn;
            let news = lsn.saturating_sub(self.lsn);
            let is_due = is_last || self.at.elapsed() >= CHECKPOINT_AFTER || news >= CHECKPOINT_RECORDS;
            if !is_due {
                return;
            }
            // Every record of a segment before this one was applied, so it is known whether anybody needs it.
            let segments = store.journal().segments().into_iter();
            let is_done = |segment: &u64| *segment < inner.applied_segment && !inner.queue.is_needed(*segment);
            let freed: Vec<u64> = segments.filter(is_done).collect();
            if freed.iter().any(|segment| !self.freed.contains(segment)) {
                self.owed = OWED;
            }
            self.freed = freed;
            if news == 0 && self.owed == 0 {
                return;
            }
            self.freed.iter().for_each(|segment| store.journal().free(*segment));
            (lsn, inner.queue.checkpoint())
        };
        match store.journal().checkpoint(lsn, blob) {
            Ok(()) => {
                (self.at, self.lsn) = (Instant::now(), lsn);
                self.owed = self.owed.saturating_sub(1);
            }
            Err(err) => {
                self.at = Instant::now();
                tracing::warn!(%err, "no checkpoint of handed-off messages; a start reads more of the journal");
            }
        }
    }
}

/// Gives messages that nearly alone keep a segment a new place, so that it can go.
fn move_few(store: &Store) {
    let mut reader = store.journal().reader();
    let pinned: Vec<u64> = {
        let inner = store.inner();
        inner.queue.needed().map(|(segment, _)| segment).filter(|segment| *segment < inner.applied_segment).collect()
    };
    let mut left = HANDOFF_MOVED_BYTES_MAX;
    for segment in pinned {
        let Some(length) = store.journal().segment_bytes(segment) else { continue };
        let extents = store.inner().queue.entries_in(segment, usize::MAX);
        let bytes: u64 = extents.iter().map(|(_, extent)| extent.bytes).sum();
        if bytes > length / HANDOFF_PINNED_SHARE || bytes > left {
            continue;
        }
        left -= bytes;
        for (stream, extent) in extents {
            let place = journal::Place { segment, block: extent.place.block, index: extent.place.index };
            move_extent(store, &mut reader, stream.0, extent.first, place, extent.count);
        }
    }
}

fn move_extent(store: &Store, reader: &mut Reader, stream: u32, first: u64, place: journal::Place, count: u32) {
    let entries = match reader.read_run(place, count) {
        Ok(entries) => entries,
        Err(err) => return tracing::warn!(%err, "messages that should move cannot be read"),
    };
    for (at, entry) in entries.into_iter().enumerate() {
        // What cannot be read stays where it is; whoever delivers it finds the same and parks it.
        let Ok(entry) = entry else { continue };
        let record = Record::new(stream, Kind::Moved as u8, first + at as u64, entry.body);
        let appended = Group::new([record]).and_then(|group| store.journal().append_unwatched(group));
        if let Err(refused) = appended {
            return tracing::debug!(%refused, "no room to move messages");
        }
    }
}
