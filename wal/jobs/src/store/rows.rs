//! Rows of several tables in one order, and one job out of any of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use disk::{AtOnce, Disk, at_once};

use super::Tables;
use crate::key::Key;
use crate::limits::BLOCKS_KEPT_MAX;
use crate::table::{BlockRef, ReadError, Rotten, Row, Table};
use crate::wheel::Entry;

/// A block of a table.
type Which = (u64, BlockRef);
/// Its rows, in order.
type Decoded = Arc<Vec<Row>>;

/// Reads tables for one thread, and keeps the blocks it read lately.
pub struct Reader {
    disk: Arc<dyn Disk>,
    /// Decoded, so that a job of a block is found without walking it.
    kept: VecDeque<(Which, Decoded)>,
    /// Rotten blocks that were met, each once.
    rotten: BTreeMap<Which, Rotten>,
    fresh: Vec<Rotten>,
}

/// What tables have from a key on.
pub struct Rows {
    pub found: Vec<Entry>,
    /// Before it, that is all there is.
    pub reached: Key,
}

/// Where a table is read, in order.
struct Cursor<'t> {
    number: u64,
    table: &'t Table,
    next: Option<BlockRef>,
    rows: std::vec::IntoIter<Entry>,
}

impl Reader {
    pub fn new(disk: Arc<dyn Disk>) -> Reader {
        Reader { disk, kept: VecDeque::new(), rotten: BTreeMap::new(), fresh: Vec::new() }
    }

    /// Rotten blocks met since the last time this was asked.
    pub fn take_rotten(&mut self) -> Vec<Rotten> {
        std::mem::take(&mut self.fresh)
    }

    /// What tables have from a key on, in order: everything before `to`, or the first `rows_max`.
    pub fn rows(&mut self, tables: &Tables, from: Key, to: Key, rows_max: usize) -> Result<Rows, ReadError> {
        let mut cursors = Vec::new();
        for (number, table) in tables.iter() {
            let next = table.block_at_or_after(from).filter(|block| table.first_key(*block) < to);
            let mut cursor = Cursor { number: *number, table, next, rows: Vec::new().into_iter() };
            if self.fill(&mut cursor, from, to)? {
                cursors.push(cursor);
            }
        }
        let mut found = Vec::new();
        while found.len() < rows_max {
            let heads = cursors.iter().enumerate();
            let first = heads.min_by_key(|(_, cursor)| cursor.rows.as_slice().first().map(|entry| entry.key));
            let Some((at, _)) = first else { return Ok(Rows { found, reached: to }) };
            // As long as no other table has something before it.
            let others = cursors.iter().enumerate().filter(|(other, _)| *other != at);
            let until = others.filter_map(|(_, cursor)| cursor.rows.as_slice().first()).map(|entry| entry.key).min();
            let cursor = &mut cursors[at];
            while found.len() < rows_max
                && let Some(entry) = cursor.rows.as_slice().first()
                && until.is_none_or(|until| entry.key <= until)
            {
                found.push(*entry);
                cursor.rows.next();
            }
            if cursor.rows.as_slice().is_empty() && !self.fill(&mut cursors[at], from, to)? {
                cursors.swap_remove(at);
            }
        }
        let reached = found.last().map_or(to, |last| last.key.after());
        Ok(Rows { found, reached })
    }

    /// Reads on until there is a row. False: there is none before `to`.
    fn fill(&mut self, cursor: &mut Cursor<'_>, from: Key, to: Key) -> Result<bool, ReadError> {
        while cursor.rows.as_slice().is_empty() {
            let Some(block) = cursor.next.filter(|block| cursor.table.first_key(*block) < to) else { return Ok(false) };
            if let Some(read) = self.block(cursor.number, cursor.table, block)? {
                let wanted = read.iter().filter(|row| row.key >= from && row.key < to);
                cursor.rows =
                    wanted.map(|row| Entry { key: row.key, queue: row.queue }).collect::<Vec<_>>().into_iter();
            }
            cursor.next = cursor.table.next(block);
        }
        Ok(true)
    }

    /// A block's rows, in order; none when it is rotten.
    fn block(&mut self, number: u64, table: &Table, block: BlockRef) -> Result<Option<Decoded>, ReadError> {
        let which = (number, block);
        if let Some((_, kept)) = self.kept.iter().find(|(is, _)| *is == which) {
            return Ok(Some(Arc::clone(kept)));
        }
        if self.rotten.contains_key(&which) {
            return Ok(None);
        }
        match at_once(table.read_block(&AtOnce(&*self.disk), block)) {
            Ok(read) => {
                if self.kept.len() >= BLOCKS_KEPT_MAX {
                    self.kept.pop_front();
                }
                let read: Decoded = Arc::new(read.rows().collect());
                self.kept.push_back((which, Arc::clone(&read)));
                Ok(Some(read))
            }
            Err(ReadError::Rotten(rotten)) => {
                self.fresh.push(rotten.clone());
                self.rotten.insert(which, rotten);
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }

    /// What a job was added with, wherever it is; the newest table first. None: no table has it, or it is rotten there.
    pub fn body(&mut self, tables: &Tables, key: Key) -> Result<Option<Bytes>, ReadError> {
        for (number, table) in tables.iter().rev() {
            let meta = table.meta();
            if !(meta.seq_min..=meta.seq_max).contains(&key.seq) {
                continue;
            }
            let Some(block) = table.block_at_or_after(key).filter(|block| table.first_key(*block) <= key) else {
                continue;
            };
            let Some(block) = self.block(*number, table, block)? else { continue };
            if let Ok(at) = block.binary_search_by_key(&key, |row| row.key) {
                return Ok(Some(block[at].body.clone()));
            }
        }
        Ok(None)
    }

    /// When a job is due, and its queue, if a table has it with a time that is its.
    pub fn find(
        &mut self,
        tables: &Tables,
        seq: u64,
        is_its: impl Fn(i64) -> bool,
    ) -> Result<Option<Entry>, ReadError> {
        let disk = AtOnce(&*self.disk);
        for table in tables.values().rev() {
            let meta = table.meta();
            if !(meta.seq_min..=meta.seq_max).contains(&seq) {
                continue;
            }
            if let Some((due_ms, queue)) = at_once(table.find(&disk, seq, &is_its))? {
                return Ok(Some(Entry { key: Key { due_ms, seq }, queue }));
            }
        }
        Ok(None)
    }

    /// Blocks of tables that are gone take no room.
    pub fn forget(&mut self, tables: &Tables) {
        self.kept.retain(|((number, _), _)| tables.contains_key(number));
        self.rotten.retain(|(number, _), _| tables.contains_key(number));
    }
}
