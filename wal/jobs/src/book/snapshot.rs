//! Everything the book knows at a place of the log, as bytes, and back.
//!
//! What is in memory is not in it: the log is read again from [`Book::begin_lsn`] on. Taking one costs copies of what is small
//! and pointers to what is not; its bytes are made by whoever took it, without the lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::keep::{Keeping, TableSeen};
use super::{Book, Doubt, KeyOf, Parked, QueueId};
use crate::key::Key;
use crate::limits::{Limits, SEQS_SKIPPED};
use crate::log::{AddKey, Name, Reason, put_text, take, text};
use crate::memory::Memory;
use crate::shared_map::SharedMap;
use crate::states::States;
use crate::wheel::Entry;

/// Version 1 did not say since when jobs are in doubt.
const VERSION: u8 = 2;

/// See the module.
pub struct Snapshot {
    /// Records from it on are not in it.
    pub lsn: u64,
    /// The log is needed from here on.
    pub begin_lsn: u64,
    next_seq: u64,
    next_queue: u32,
    next_table: u64,
    queues: Vec<(u32, Arc<Name>, bool, u64)>,
    tables: Vec<TableSeen>,
    moved: SharedMap<u64, Entry>,
    parked: Vec<Parked>,
    in_doubt: Vec<(u64, Doubt)>,
    keys: SharedMap<AddKey, KeyOf>,
    states: States,
}

impl Book {
    /// What is known of everything that was applied.
    pub fn snapshot(&self) -> Snapshot {
        // Whoever is at Kafka now: after a crash nobody would know of it.
        let in_flight = self.queues.iter().flat_map(|(id, queue)| {
            let doubt = |since_ms| Doubt { queue: QueueId(*id), since_ms };
            queue.in_flight.iter().map(move |(seq, flight)| (*seq, doubt(flight.since_ms)))
        });
        let mut in_doubt: BTreeMap<u64, Doubt> = in_flight.collect();
        for (seq, doubt) in self.doubted.iter().chain(&self.in_doubt) {
            let known = in_doubt.entry(*seq).or_insert(*doubt);
            known.since_ms = known.since_ms.min(doubt.since_ms);
        }
        let in_doubt = in_doubt.into_iter().collect();
        Snapshot {
            lsn: self.applied_lsn,
            begin_lsn: self.begin_lsn(),
            next_seq: self.next_seq,
            next_queue: self.next_queue,
            next_table: self.keeping.next_table(),
            queues: (self.queues.iter())
                .filter(|(_, queue)| queue.is_defined)
                .map(|(id, queue)| (*id, Arc::clone(&queue.name), queue.is_paused, queue.pending))
                .collect(),
            tables: self.keeping.tables().cloned().collect(),
            moved: self.moved.clone(),
            parked: self.parked.values().cloned().collect(),
            in_doubt,
            keys: self.keys.clone(),
            states: self.states.clone(),
        }
    }

    /// The book a snapshot was taken of; records of the log from [`Book::begin_lsn`] on are applied next. `None`: these bytes
    /// are none of ours.
    pub fn restore(bytes: &[u8], now_ms: i64, limits: Limits) -> Option<Book> {
        let mut left = bytes;
        let left = &mut left;
        let [version @ 1..=VERSION] = take(left)? else { return None };
        let (lsn, begin_lsn) = (u64::from_le_bytes(take(left)?), u64::from_le_bytes(take(left)?));
        let mut book = Book::new(now_ms, limits);
        (book.snapshot_lsn, book.applied_lsn, book.memory) = (lsn, lsn, Memory::new(begin_lsn));
        book.next_seq = u64::from_le_bytes(take(left)?);
        book.next_queue = u32::from_le_bytes(take(left)?);
        let next_table = u64::from_le_bytes(take(left)?);
        for _ in 0..u32::from_le_bytes(take(left)?) {
            let id = u32::from_le_bytes(take(left)?);
            let [is_paused] = take(left)?;
            let pending = u64::from_le_bytes(take(left)?);
            let name = Name { account: text(left)?, subject: text(left)? };
            let queue = book.define(id, name);
            (queue.is_defined, queue.is_paused, queue.pending) = (true, is_paused == 1, pending);
        }
        let mut tables = Vec::new();
        for _ in 0..u32::from_le_bytes(take(left)?) {
            let number = u64::from_le_bytes(take(left)?);
            let [tier] = take(left)?;
            let rows = u64::from_le_bytes(take(left)?);
            let (seq_min, seq_max) = (u64::from_le_bytes(take(left)?), u64::from_le_bytes(take(left)?));
            let meta = u32::from_le_bytes(take(left)?) as usize;
            let (meta, rest) = left.split_at_checked(meta)?;
            *left = rest;
            tables.push(TableSeen { number, tier, rows, seq_min, seq_max, meta: Bytes::copy_from_slice(meta) });
        }
        book.keeping = Keeping::restore(tables, next_table);
        for _ in 0..u32::from_le_bytes(take(left)?) {
            let (key, queue) = (key(left)?, u32::from_le_bytes(take(left)?));
            book.moved.insert(key.seq, Entry { key, queue });
        }
        let mut parked = BTreeMap::new();
        for _ in 0..u32::from_le_bytes(take(left)?) {
            let (key, queue) = (key(left)?, QueueId(u32::from_le_bytes(take(left)?)));
            let at_ms = i64::from_le_bytes(take(left)?);
            let reason = Reason { code: text(left)?, sentence: text(left)? };
            parked.insert(key.seq, Parked { key, queue, reason, at_ms });
        }
        book.parked = parked;
        for _ in 0..u32::from_le_bytes(take(left)?) {
            let (seq, queue) = (u64::from_le_bytes(take(left)?), QueueId(u32::from_le_bytes(take(left)?)));
            let since_ms = if version == 1 { now_ms } else { i64::from_le_bytes(take(left)?) };
            book.in_doubt.insert(seq, Doubt { queue, since_ms });
        }
        let mut keys: Vec<(AddKey, KeyOf)> = Vec::new();
        for _ in 0..u32::from_le_bytes(take(left)?) {
            let add_key = take(left)?;
            let Key { due_ms, seq } = key(left)?;
            let at_ms = i64::from_le_bytes(take(left)?);
            keys.push((add_key, KeyOf { seq, due_ms, at_ms, is_durable: true }));
        }
        keys.sort_unstable_by_key(|(_, known)| known.at_ms);
        for (key, known) in keys {
            book.keys_by_age.push_back((key, known.at_ms));
            book.keys.insert(key, known);
        }
        book.states = States::decode(left)?;
        Some(book)
    }

    /// Everything durable was applied. Numbers that were given and are not durable are not given again: with `async` they were
    /// told.
    pub fn recovered(&mut self) {
        self.next_seq = self.next_seq.saturating_add(SEQS_SKIPPED);
        for queue in self.queues.values_mut() {
            queue.is_defined = true;
        }
        let states = &self.states;
        self.in_doubt.retain(|seq, _| states.is_pending(*seq));
    }
}

fn key(left: &mut &[u8]) -> Option<Key> {
    Some(Key { due_ms: i64::from_le_bytes(take(left)?), seq: u64::from_le_bytes(take(left)?) })
}

fn put_key(out: &mut Vec<u8>, key: Key) {
    out.put_i64_le(key.due_ms);
    out.put_u64_le(key.seq);
}

impl Snapshot {
    /// Its bytes, for [`Book::restore`].
    pub fn encode(&self) -> Vec<u8> {
        // Most of it are states: 25 MB of 100 million jobs, which would be copied again and again as they grow.
        let mut out = Vec::with_capacity(self.states.bytes() + (64 << 10));
        out.put_u8(VERSION);
        out.put_u64_le(self.lsn);
        out.put_u64_le(self.begin_lsn);
        out.put_u64_le(self.next_seq);
        out.put_u32_le(self.next_queue);
        out.put_u64_le(self.next_table);
        out.put_u32_le(self.queues.len() as u32);
        for (id, name, is_paused, pending) in &self.queues {
            out.put_u32_le(*id);
            out.put_u8(u8::from(*is_paused));
            out.put_u64_le(*pending);
            put_text(&mut out, &name.account);
            put_text(&mut out, &name.subject);
        }
        out.put_u32_le(self.tables.len() as u32);
        for table in &self.tables {
            out.put_u64_le(table.number);
            out.put_u8(table.tier);
            out.put_u64_le(table.rows);
            out.put_u64_le(table.seq_min);
            out.put_u64_le(table.seq_max);
            out.put_u32_le(table.meta.len() as u32);
            out.extend_from_slice(&table.meta);
        }
        out.put_u32_le(self.moved.len() as u32);
        for (_, entry) in self.moved.iter() {
            put_key(&mut out, entry.key);
            out.put_u32_le(entry.queue);
        }
        out.put_u32_le(self.parked.len() as u32);
        for parked in &self.parked {
            put_key(&mut out, parked.key);
            out.put_u32_le(parked.queue.0);
            out.put_i64_le(parked.at_ms);
            put_text(&mut out, &parked.reason.code);
            put_text(&mut out, &parked.reason.sentence);
        }
        out.put_u32_le(self.in_doubt.len() as u32);
        for (seq, doubt) in &self.in_doubt {
            out.put_u64_le(*seq);
            out.put_u32_le(doubt.queue.0);
            out.put_i64_le(doubt.since_ms);
        }
        let durable = || self.keys.iter().filter(|(_, known)| known.is_durable);
        out.put_u32_le(durable().count() as u32);
        for (key, known) in durable() {
            out.extend_from_slice(&key);
            put_key(&mut out, Key { due_ms: known.due_ms, seq: known.seq });
            out.put_i64_le(known.at_ms);
        }
        self.states.encode(&mut out);
        out
    }

    /// Tables it names.
    pub fn tables(&self) -> impl Iterator<Item = u64> {
        self.tables.iter().map(|table| table.number)
    }
}
