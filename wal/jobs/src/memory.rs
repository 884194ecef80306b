//! Jobs that are in the log and in memory, and in no table yet.
//!
//! They are kept by generations: the present one grows until it is frozen, written as a table, and dropped. What fires before
//! that is never written. A generation begins at a place of the log, and the log is needed from the begin of the oldest on.

use std::sync::Arc;

use foldhash::HashMap;

use crate::bodies::{Bodies, Place};
use crate::key::Key;
use crate::limits::{Limits, MEMORY_OVER_MAX};
use crate::wheel::Entry;

/// A job that is here, and where its body is.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub due_ms: i64,
    pub queue: u32,
    body: Place,
}

/// What a job costs beside its body: 32 bytes in a map and 24 among the far ones, each of which has room for up to twice as many.
const SLOT_BYTES: u64 = 88;
const _: () = assert!(size_of::<(u64, Slot)>() == 32 && size_of::<Entry>() == 24);

/// Jobs of a stretch of the log.
#[derive(Debug, Default)]
pub struct Generation {
    pub begin_lsn: u64,
    jobs: HashMap<u64, Slot>,
    bodies: Bodies,
    log_bytes: u64,
}

/// A job of a generation.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub key: Key,
    pub queue: u32,
    body: Place,
}

impl Generation {
    fn at(begin_lsn: u64) -> Generation {
        Generation { begin_lsn, ..Generation::default() }
    }

    /// In order of their keys, as a table has them.
    pub fn rows(&self) -> Vec<Row> {
        let row = |(seq, slot): (&u64, &Slot)| {
            let Slot { due_ms, queue, body } = *slot;
            Row { key: Key { due_ms, seq: *seq }, queue, body }
        };
        let mut rows: Vec<Row> = self.jobs.iter().map(row).collect();
        rows.sort_unstable_by_key(|row| row.key);
        rows
    }

    pub fn body(&self, row: &Row) -> &[u8] {
        self.bodies.get(row.body)
    }

    fn bytes(&self) -> u64 {
        self.bodies.bytes() + self.jobs.len() as u64 * SLOT_BYTES
    }

    fn remove(&mut self, seq: u64) {
        if let Some(slot) = self.jobs.remove(&seq) {
            self.bodies.remove(slot.body);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Memory {
    current: Generation,
    /// Being written.
    frozen: Option<Arc<Generation>>,
    /// Jobs of both that are due behind the horizon, in no order.
    far: Vec<Entry>,
    /// Of the frozen ones.
    frozen_far: Vec<Entry>,
    /// Where the next record goes.
    next_lsn: u64,
}

impl Memory {
    /// Everything below `begin_lsn` is in tables, or over.
    pub fn new(begin_lsn: u64) -> Memory {
        Memory {
            current: Generation::at(begin_lsn),
            frozen: None,
            far: Vec::new(),
            frozen_far: Vec::new(),
            next_lsn: begin_lsn,
        }
    }

    /// From here on the log is needed.
    pub fn begin_lsn(&self) -> u64 {
        self.frozen.as_ref().map_or(self.current.begin_lsn, |frozen| frozen.begin_lsn)
    }

    pub fn passed(&mut self, lsn: u64, log_bytes: u64) {
        self.next_lsn = lsn + 1;
        self.current.log_bytes += log_bytes;
    }

    /// A job, or one that is here already with another time.
    pub fn insert(&mut self, entry: Entry, body: &[u8]) {
        let Entry { key: Key { due_ms, seq }, queue } = entry;
        self.current.remove(seq);
        let body = self.current.bodies.put(body);
        self.current.jobs.insert(seq, Slot { due_ms, queue, body });
    }

    pub fn insert_far(&mut self, entry: Entry) {
        self.far.push(entry);
    }

    /// It came to an end. Frozen ones stay until they are written.
    pub fn remove(&mut self, seq: u64) {
        self.current.remove(seq);
    }

    pub fn get(&self, seq: u64) -> Option<&Slot> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.jobs.get(&seq));
        self.current.jobs.get(&seq).or_else(frozen)
    }

    /// What a job was added with.
    pub fn body(&self, seq: u64) -> Option<&[u8]> {
        let of = |generation: &'_ Generation| generation.jobs.get(&seq).map(|slot| slot.body);
        if let Some(body) = of(&self.current) {
            return Some(self.current.bodies.get(body));
        }
        let frozen = self.frozen.as_deref()?;
        of(frozen).map(|body| frozen.bodies.get(body))
    }

    /// Takes out the far ones that are due before a key.
    pub fn take_far(&mut self, before: Key, out: &mut Vec<Entry>) {
        for far in [&mut self.far, &mut self.frozen_far] {
            out.extend(far.extract_if(.., |entry| entry.key < before));
        }
    }

    /// All are behind the horizon again.
    pub fn all_far(&mut self) {
        let entry =
            |(seq, slot): (&u64, &Slot)| Entry { key: Key { due_ms: slot.due_ms, seq: *seq }, queue: slot.queue };
        self.far = self.current.jobs.iter().map(entry).collect();
        self.frozen_far = self.frozen.iter().flat_map(|frozen| frozen.jobs.iter()).map(entry).collect();
    }

    /// All jobs that are here, frozen ones that are over included.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Slot)> {
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.jobs.iter());
        let frozen = frozen.filter(|(seq, _)| !self.current.jobs.contains_key(seq));
        self.current.jobs.iter().chain(frozen).map(|(seq, slot)| (*seq, slot))
    }

    pub fn jobs(&self) -> usize {
        self.current.jobs.len() + self.frozen.as_ref().map_or(0, |frozen| frozen.jobs.len())
    }

    pub fn bytes(&self) -> u64 {
        self.current.bytes() + self.frozen.as_ref().map_or(0, |frozen| frozen.bytes())
    }

    /// Enough for a table.
    pub fn is_ripe(&self, limits: &Limits) -> bool {
        self.is_full(limits) || self.current.log_bytes >= limits.memory_log_bytes_max
    }

    /// As many as one generation may have: enough for a table, wherever its log is.
    pub fn is_full(&self, limits: &Limits) -> bool {
        self.current.jobs.len() >= limits.memory_jobs_max || self.current.bytes() >= limits.memory_bytes_max
    }

    /// There is no room for more: the last tables could not be written.
    pub fn is_over(&self, limits: &Limits) -> bool {
        self.current.jobs.len() as u64 >= limits.memory_jobs_max as u64 * MEMORY_OVER_MAX
            || self.current.bytes() >= limits.memory_bytes_max * MEMORY_OVER_MAX
    }

    /// Begins a new generation; the one before is to be written. None while one is.
    pub fn freeze(&mut self) -> Option<Arc<Generation>> {
        if self.frozen.is_some() {
            return None;
        }
        let next = Generation::at(self.next_lsn);
        let frozen = Arc::new(std::mem::replace(&mut self.current, next));
        self.frozen_far = std::mem::take(&mut self.far);
        self.frozen = Some(Arc::clone(&frozen));
        Some(frozen)
    }

    /// What is being written.
    pub fn frozen(&self) -> Option<&Arc<Generation>> {
        self.frozen.as_ref()
    }

    /// It is in a table now, which is looked into from the horizon on.
    pub fn written(&mut self) {
        self.frozen = None;
        self.frozen_far = Vec::new();
    }
}
