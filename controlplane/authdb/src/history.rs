//! Generations, and how one that was restored from a backup is told from one that went on.
//!
//! ```text
//! history h:  1 … 40 ─ backup ─ 41 … 50          what processes have seen
//!                         └─ restored: 40, 41' …  numbers come again, with other rows
//! ```
//! Whoever remembers "50 of h" would take 50' for it: credentials that were revoked between 41 and 50 would live again.
//! So whoever finds the database older than it was seen, or in a file that took another one's place, makes the next
//! change in a history of its own. What was seen is remembered per process, and comes from the snapshot on disk at a start.
//!
//! Not noticed: a backup in place of a file whose number nobody remembers; then nobody can mistake it either.

use std::sync::{Mutex, MutexGuard, PoisonError};

use model::ids::{Generation, HistoryId};

use crate::limits::HISTORIES_REMEMBERED;

/// What this process knows of the database's past.
#[derive(Default)]
pub(crate) struct Seen {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The newest of each history, the last seen at the end.
    newest: Vec<Generation>,
    /// Since then another file took the place of the one that was open.
    was_replaced: bool,
}

impl State {
    fn note(&mut self, generation: Generation) {
        self.newest.retain(|known| known.history != generation.history);
        self.newest.push(generation);
        if self.newest.len() > HISTORIES_REMEMBERED {
            self.newest.remove(0);
        }
        self.was_replaced = false;
    }
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn file_was_replaced(&self) {
        self.lock().was_replaced = true;
    }

    /// Does `found` go on from what was seen? Remembered if so.
    pub(crate) fn is_fine(&self, found: Generation) -> bool {
        let mut state = self.lock();
        let known = state.newest.iter().find(|known| known.history == found.history);
        let is_restored = known.is_some_and(|known| state.was_replaced || known.number > found.number);
        if !is_restored {
            state.note(found);
        }
        !is_restored
    }

    pub(crate) fn note(&self, generation: Generation) {
        self.lock().note(generation);
    }

    /// What an earlier process says.
    pub(crate) fn note_earlier(&self, generation: Generation) {
        if generation.history != HistoryId::default() {
            self.note(generation);
        }
    }
}
