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
use sqlx::{Row, SqliteConnection};

use crate::limits::HISTORIES_REMEMBERED;
use crate::rows::{bad, unsigned};
use crate::{AuthDb, AuthDbError, random};

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
}

impl AuthDb {
    /// What an earlier process has seen of this database: its snapshot on disk.
    pub fn has_seen(&self, generation: Generation) {
        if generation.history != HistoryId::default() {
            self.inner.seen.note(generation);
        }
    }
}

pub(crate) async fn read(conn: &mut SqliteConnection) -> Result<Generation, AuthDbError> {
    const TABLE: &str = "generation";
    let row = sqlx::query("SELECT history, value FROM generation").fetch_one(conn).await?;
    let history: Vec<u8> = row.try_get("history")?;
    let history = history.try_into().map_err(|_| bad(TABLE, "history is not 8 bytes long"))?;
    Ok(Generation {
        history: HistoryId::new(u64::from_be_bytes(history)),
        number: unsigned(TABLE, row.try_get("value")?)?,
    })
}

/// To the next generation, under the write lock; of a new history, if the database was restored.
pub(crate) async fn advance(conn: &mut SqliteConnection, seen: &Seen) -> Result<Generation, AuthDbError> {
    let found = read(conn).await?;
    let number = found.number + 1;
    if seen.is_fine(found) {
        sqlx::query("UPDATE generation SET value = ?").bind(number as i64).execute(conn).await?;
        return Ok(Generation { number, ..found });
    }
    let history: [u8; 8] = random()?;
    let next = Generation { history: HistoryId::new(u64::from_be_bytes(history)), number };
    tracing::warn!(%found, %next, "database is older than it was seen (restored?), it goes on in a new history");
    sqlx::query("UPDATE generation SET history = ?, value = ?")
        .bind(history.as_slice())
        .bind(number as i64)
        .execute(conn)
        .await?;
    Ok(next)
}
