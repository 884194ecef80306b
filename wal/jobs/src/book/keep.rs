//! Memory into tables, tables into fewer, and what goes.

use std::sync::Arc;

use bytes::Bytes;

use super::{Book, Note, QueueId, Stage};
use crate::key::Key;
use crate::limits::{MERGE_MAX, PARKED_MAX, TIERS_MAX};
use crate::log::{self, Kind, Reason};
use crate::memory::Generation;
use crate::shared_map::SharedMap;
use crate::states::States;
use crate::wheel::Entry;

/// What is known of a table that is not looked into for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSeen {
    pub number: u64,
    pub tier: u8,
    pub rows: u64,
    pub seq_min: u64,
    pub seq_max: u64,
    /// What opens it.
    pub meta: Bytes,
}

/// What is to be done with tables next.
#[derive(Debug)]
pub enum Work {
    /// Write this generation ([`Book::written`]).
    Write { generation: Arc<Generation>, number: u64 },
    /// Make one table of these ([`Book::merged`]).
    Merge { inputs: Vec<u64>, number: u64, tier: u8 },
    /// Count what waits in it ([`Book::counted`]).
    Count { number: u64 },
}

/// The tables, and what came to an end near them.
#[derive(Debug, Default)]
pub struct Keeping {
    tables: Vec<Table>,
    next_table: u64,
}

#[derive(Clone, Debug)]
struct Table {
    seen: TableSeen,
    /// Jobs within its numbers that came to an end since it was counted: at least those of its own.
    ended: u64,
    /// Of its jobs, when it was counted; all, until then.
    waiting: u64,
    /// Some of it is rotten: what is left is written anew.
    is_rotten: bool,
}

impl Keeping {
    /// Counts an end for every table that may have had it.
    pub(super) fn ended(&mut self, seq: u64) {
        for table in &mut self.tables {
            table.ended += u64::from((table.seen.seq_min..=table.seen.seq_max).contains(&seq));
        }
    }

    pub fn tables(&self) -> impl Iterator<Item = &TableSeen> {
        self.tables.iter().map(|table| &table.seen)
    }

    pub(super) fn next_table(&self) -> u64 {
        self.next_table
    }

    pub(super) fn restore(tables: Vec<TableSeen>, next_table: u64) -> Keeping {
        // Nobody counted them: looked at soon.
        let tables = tables.into_iter().map(|seen| Table { ended: seen.rows, ..Table::of(seen) }).collect();
        Keeping { tables, next_table }
    }

    fn number(&mut self) -> u64 {
        self.next_table += 1;
        self.next_table
    }

    fn add(&mut self, seen: TableSeen) {
        self.tables.push(Table::of(seen));
    }
}

impl Table {
    fn of(seen: TableSeen) -> Table {
        Table { ended: 0, waiting: seen.rows, is_rotten: false, seen }
    }
}

/// See [`Book::alive`].
pub struct Alive {
    states: States,
    moved: SharedMap<u64, Entry>,
}

impl Alive {
    pub fn has(&self, seq: u64, due_ms: i64) -> bool {
        self.states.is_pending(seq) && self.moved.get(seq).is_none_or(|moved| moved.key.due_ms == due_ms)
    }
}

impl Book {
    pub fn keeping(&self) -> &Keeping {
        &self.keeping
    }

    /// What is to be done with tables, if anything. One at a time, but for [`Book::work_beside_merge`].
    pub fn work(&mut self) -> Option<Work> {
        self.write_work().or_else(|| self.merge()).or_else(|| self.count())
    }

    /// What cannot wait for the merge that runs: memory that is full, as long as tables do not become too many by that.
    pub fn work_beside_merge(&mut self) -> Option<Work> {
        let fresh = self.keeping.tables.iter().filter(|table| table.seen.tier == 0).count();
        if fresh < self.limits.fresh_tables_max { self.write_work() } else { None }
    }

    /// What memory has to be relieved of, if it has.
    fn write_work(&mut self) -> Option<Work> {
        if self.memory.frozen().is_none() && self.memory.is_ripe(&self.limits) {
            self.memory.freeze();
        }
        let generation = Arc::clone(self.memory.frozen()?);
        Some(Work::Write { generation, number: self.keeping.number() })
    }

    /// What is to be written before more is applied ([`Book::written`]), so that memory stays within its limits, and the number of
    /// its table. For a start, where nobody else writes.
    pub fn relief(&mut self) -> Option<(Arc<Generation>, u64)> {
        let generation = if self.memory.is_full(&self.limits) { self.memory.freeze() } else { None };
        generation.map(|generation| (generation, self.keeping.number()))
    }

    fn merge(&mut self) -> Option<Work> {
        let tables = &self.keeping.tables;
        for tier in 0..TIERS_MAX {
            let of_tier = || tables.iter().filter(|table| table.seen.tier == tier);
            if of_tier().count() >= self.limits.merge_min {
                let inputs = of_tier().take(MERGE_MAX).map(|table| table.seen.number).collect();
                let tier = (tier + 1).min(TIERS_MAX - 1);
                return Some(Work::Merge { inputs, number: self.keeping.number(), tier });
            }
        }
        // Written anew when it was counted and most of it came to an end: that costs less than what it was written for.
        let is_few = |table: &Table| table.waiting < table.seen.rows / 2 || table.waiting == 0;
        let few = tables.iter().find(|table| table.is_rotten || is_few(table))?;
        let (inputs, tier) = (vec![few.seen.number], few.seen.tier);
        Some(Work::Merge { inputs, number: self.keeping.number(), tier })
    }

    fn count(&mut self) -> Option<Work> {
        let is_due = |table: &&Table| table.ended > table.waiting / 4;
        self.keeping.tables.iter().find(is_due).map(|table| Work::Count { number: table.seen.number })
    }

    /// A generation is in a table; none: nothing of it waits.
    pub fn written(&mut self, seen: Option<TableSeen>) {
        self.memory.written();
        self.epoch += 1;
        seen.into_iter().for_each(|seen| self.keeping.add(seen));
    }

    /// Tables became one, or none. They are to be removed when a snapshot was written that does not name them.
    pub fn merged(&mut self, inputs: &[u64], seen: Option<TableSeen>) {
        self.epoch += 1;
        self.keeping.tables.retain(|table| !inputs.contains(&table.seen.number));
        seen.into_iter().for_each(|seen| self.keeping.add(seen));
    }

    /// So many of a table's jobs wait. What nobody waits for goes with the next merge.
    pub fn counted(&mut self, number: u64, waiting: u64) {
        if let Some(table) = self.keeping.tables.iter_mut().find(|table| table.seen.number == number) {
            (table.ended, table.waiting) = (0, waiting);
        }
    }

    /// Some of a table is rotten, and what is known of that is noted: what is left is written anew.
    pub fn renew(&mut self, number: u64) {
        if let Some(table) = self.keeping.tables.iter_mut().find(|table| table.seen.number == number) {
            table.is_rotten = true;
        }
    }

    /// Jobs of a table that can be read nowhere any more: what must be appended to park those that wait, and whether there was
    /// room to park all of them. Whoever is at Kafka, or being changed, is left alone.
    pub fn park_rotten(&self, found: &[(Key, u32)], reason: &Reason, now_ms: i64) -> (Vec<Note>, bool) {
        let is_lost = |entry: &Entry| {
            let seq = entry.key.seq;
            let is_busy = self.changing.contains(&seq) || self.stage_of(seq, entry.queue) == Stage::Firing;
            self.waits(entry) && !is_busy && self.memory.get(seq).is_none()
        };
        let entries = found.iter().map(|(key, queue)| Entry { key: *key, queue: *queue });
        let lost: Vec<Entry> = entries.filter(is_lost).collect();
        let room = PARKED_MAX.saturating_sub(self.parked.len());
        let note = |entry: &Entry| Note {
            queue: QueueId(entry.queue),
            kind: Kind::Parked,
            sequence: entry.key.seq,
            body: log::parked(now_ms, entry.key.due_ms, reason),
        };
        (lost.iter().take(room).map(note).collect(), lost.len() <= room)
    }

    /// Which rows of tables are jobs that wait, as of now; for whoever has no lock.
    pub fn alive(&self) -> Alive {
        Alive { states: self.states.clone(), moved: self.moved.clone() }
    }

    /// Whether a row of a table is a job that waits.
    pub fn is_alive(&self, seq: u64, due_ms: i64) -> bool {
        self.states.is_pending(seq) && self.is_its_time(Key { due_ms, seq })
    }

    /// From here on the log is needed, once a snapshot of now is written.
    pub fn begin_lsn(&self) -> u64 {
        self.memory.begin_lsn()
    }

    /// Records below it were applied.
    pub fn applied_lsn(&self) -> u64 {
        self.applied_lsn
    }

    /// Jobs in memory, and their bytes.
    pub fn in_memory(&self) -> (usize, u64) {
        (self.memory.jobs(), self.memory.bytes())
    }
}
