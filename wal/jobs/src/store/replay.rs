//! What the log says since the last book, told to it at a start: in memory that is bounded, however much it is.
//!
//! Memory that is full becomes a table on the way, as it does while the store runs ([`write`]). No book names such a table
//! before the first one after the start: a start that dies before that is begun again from the same book, which removes the
//! files and reads the same records, so nothing is lost and nothing is there twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use disk::{AtOnce, Disk, WaitedDisk, at_once};
use journal::{Idle, Lost};
use tracing::warn;

use super::open::OpenError;
use super::tables::{chain, seen};
use crate::book::{Book, Committed};
use crate::memory::Generation;
use crate::table::{self, RowRef, StoreId, Table, Target};

/// A generation as a table that can be read. None: there was nothing in it.
pub(super) async fn write<D: WaitedDisk>(
    disk: &D,
    target: Target<'_>,
    generation: &Generation,
    limits: table::Limits,
    stop: &AtomicBool,
) -> Result<Option<Arc<Table>>, String> {
    let rows = generation.rows();
    let rows = rows.iter().map(|row| RowRef { key: row.key, queue: row.queue, body: generation.body(row) });
    let written = table::write(disk, target, rows, limits, stop).await;
    let Some(meta) = written.map_err(|err| chain(&err))? else { return Ok(None) };
    super::tables::open(disk, target.dir, target.store, &meta).await.map(Some)
}

/// Where it is told, and what comes of it.
pub(super) struct Replay<'a> {
    pub book: &'a mut Book,
    /// Those of the book; written ones come to them.
    pub tables: &'a mut BTreeMap<u64, Arc<Table>>,
    pub disk: &'a dyn Disk,
    pub dir: &'a Path,
    pub limits: table::Limits,
    pub malformed: u64,
    /// Tables that were written.
    pub written: usize,
}

impl Replay<'_> {
    /// Tells the book all of it; stretches that are rotten.
    pub fn run(&mut self, idle: &Idle) -> Result<Vec<Lost>, OpenError> {
        let store = idle.id();
        let (mut is_failing, from_lsn) = (false, self.book.begin_lsn());
        let lost = idle.reader().scan(from_lsn, &mut |entry| {
            let committed = Committed {
                lsn: entry.lsn,
                stream: entry.stream,
                kind: entry.kind,
                sequence: entry.sequence,
                wall_ms: entry.wall_ms,
                body: &entry.body,
            };
            self.malformed += u64::from(self.book.apply(&committed).is_err());
            if is_failing {
                return;
            }
            // Who has records has an id.
            let Some(store) = store else { return };
            if let Err(err) = self.relieve(store) {
                // A disk that is full is no reason not to start: what has no table stays in memory, and in the log.
                warn!(
                    err,
                    "jobs of the log cannot be written to a table at the start; they stay in memory until they can"
                );
                is_failing = true;
            }
        })?;
        Ok(lost)
    }

    /// Writes what fills memory.
    fn relieve(&mut self, store: StoreId) -> Result<(), String> {
        let Some((generation, number)) = self.book.relief() else { return Ok(()) };
        let target = Target { dir: self.dir, store, number, tier: 0 };
        let never = AtomicBool::new(false);
        let table = at_once(write(&AtOnce(self.disk), target, &generation, self.limits, &never))?;
        self.book.written(table.as_ref().map(|table| seen(table.meta())));
        self.written += usize::from(table.is_some());
        self.tables.extend(table.map(|table| (number, table)));
        Ok(())
    }
}
