//! From the tables into the wheel, from the wheel into the queues, from the queues to Kafka.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt, HashSet};

use super::{Book, Note, QueueId};
use crate::key::Key;
use crate::limits::{AHEAD_MS, LIST_MAX, QUANTUM};
use crate::log::{Kind, Went};
use crate::queue::Flight;
use crate::wheel::{Entry, Wheel};

/// A job to be given to Kafka now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub entry: Entry,
    /// In vain until now.
    pub attempts: u32,
    /// Kafka may have it, and not from before that, epoch ms: it was at Kafka at a crash.
    pub doubt_since_ms: Option<i64>,
}

/// Look into all tables from a key on, in order: everything before `to`, or the first `rows_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    pub from: Key,
    pub to: Key,
    pub rows_max: usize,
}

/// Look for late jobs of these queues, each from its key on, in all tables; in order, everything before `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    pub from: Key,
    pub to: Key,
    pub rows_max: usize,
    pub queues: HashMap<u32, Key>,
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Accounts with queues that may be ready, in turns.
    accounts: VecDeque<Arc<str>>,
    /// Of each, its queues, in turns.
    of_account: HashMap<Arc<str>, VecDeque<QueueId>>,
    listed: HashSet<u32>,
    /// Queues that are to be looked at: something changed.
    noted: Vec<QueueId>,
    /// Keys in all queues' lists.
    known: usize,
    in_flight: usize,
    /// Queues with a spill.
    spilled: HashSet<u32>,
    /// The sweep that runs: who spilled while it did.
    sweeping: bool,
    again: HashMap<u32, Key>,
    turn: usize,
    /// Fired jobs, by queue, that the log was not told of.
    owed: Vec<(QueueId, Went)>,
}

impl Lists {
    pub fn note(&mut self, queue: QueueId) {
        self.noted.push(queue);
    }

    /// Nothing is known to be due.
    fn again_all(&mut self) {
        (self.known, self.sweeping) = (0, false);
        self.spilled.clear();
        self.again.clear();
    }

    fn list(&mut self, queue: QueueId, account: &Arc<str>) {
        if !self.listed.insert(queue.0) {
            return;
        }
        let of_account = self.of_account.entry(Arc::clone(account)).or_default();
        if of_account.is_empty() {
            self.accounts.push_back(Arc::clone(account));
        }
        of_account.push_back(queue);
    }
}

impl Book {
    // ---- into the wheel

    /// Whether a job that is not in the wheel yet is due so soon that it goes there without a scan.
    pub(super) fn is_soon(&self, key: Key) -> bool {
        key.due_ms < self.wheel.now_ms().saturating_add(AHEAD_MS)
    }

    /// See the field.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next look into the tables, if there is room for what it may bring.
    pub fn scan(&self) -> Option<Scan> {
        // Of the wheel's time, which is behind: it must go round to whatever is found.
        let to = Key::first_of(self.wheel.now_ms().saturating_add(AHEAD_MS));
        let room = self.limits.wheel_max.saturating_sub(self.wheel.len()).min(self.limits.scan_rows_max);
        (self.horizon < to && room > 0).then_some(Scan { from: self.horizon, to, rows_max: room })
    }

    /// What the tables of that epoch have from the horizon on, all of it up to `reached`.
    pub fn scanned(&mut self, epoch: u64, found: &[Entry], reached: Key) {
        if epoch != self.epoch {
            return;
        }
        debug_assert!(self.horizon <= reached, "the horizon went back from {:?} to {reached:?}", self.horizon);
        self.horizon = self.horizon.max(reached);
        let mut far = Vec::new();
        self.memory.take_far(self.horizon, &mut far);
        for entry in found.iter().chain(&far) {
            if self.waits(entry) {
                self.wheel.insert(*entry);
            }
        }
    }

    /// Whether this is what is known of a waiting job that nobody takes or changes.
    pub(super) fn waits(&self, entry: &Entry) -> bool {
        let seq = entry.key.seq;
        if !self.states.is_pending(seq) || self.parked.contains_key(&seq) || self.in_doubt.contains_key(&seq) {
            return false;
        }
        self.is_its_time(entry.key)
    }

    /// Whether a waiting job is due when this key says.
    pub(super) fn is_its_time(&self, key: Key) -> bool {
        self.moved.get(key.seq).is_none_or(|moved| moved.key == key)
    }

    /// The clock went back: what is due next is laid out again, from the first job that waits. Tables are looked into again from
    /// their begin; what is at Kafka stays there.
    pub fn rewind(&mut self, now_ms: i64) {
        self.wheel = Wheel::new(now_ms);
        self.horizon = Key::MIN;
        self.epoch += 1;
        self.due.again_all();
        for queue in self.queues.values_mut() {
            queue.forget_due();
        }
        self.memory.all_far();
    }

    // ---- into the queues

    /// What is due goes to its queue. When something is due next, as far as the wheel knows.
    pub fn advance(&mut self, now_ms: i64) -> Option<i64> {
        let mut expired = Vec::new();
        self.wheel.expire(now_ms, &mut expired);
        for entry in expired {
            self.arrive(entry, now_ms);
        }
        self.wheel.next_due_ms()
    }

    fn arrive(&mut self, entry: Entry, now_ms: i64) {
        if !self.waits(&entry) || self.changing.contains(&entry.key.seq) {
            return;
        }
        let Some(queue) = self.queues.get_mut(&entry.queue) else { return };
        let has_room = self.due.known < self.limits.due_max;
        match queue.arrive(entry.key, now_ms, has_room, &self.limits) {
            true => {
                self.due.known += 1;
                let account = Arc::clone(&queue.name.account);
                self.due.list(QueueId(entry.queue), &account);
            }
            false => self.spilled(entry.queue, entry.key),
        }
    }

    fn spilled(&mut self, queue: u32, key: Key) {
        self.due.spilled.insert(queue);
        if self.due.sweeping {
            let again = self.due.again.entry(queue).or_insert(key);
            *again = key.min(*again);
        }
    }

    /// Which late jobs to look for: of queues that have room for more.
    pub fn sweep(&mut self) -> Option<Sweep> {
        if self.due.sweeping || self.due.known + self.limits.queue_due_max > self.limits.due_max {
            return None;
        }
        let of = |id: &u32| {
            let queue = self.queues.get(id)?;
            let has_room = !queue.is_paused && queue.late.len() < self.limits.queue_due_max / 2;
            has_room.then_some((*id, queue.spill?))
        };
        let queues: HashMap<u32, Key> = self.due.spilled.iter().filter_map(of).collect();
        let from = queues.values().min().copied()?;
        self.due.sweeping = true;
        self.due.again.clear();
        let to = Key::first_of(self.wheel.now_ms().saturating_add(1));
        Some(Sweep { from, to, rows_max: self.limits.scan_rows_max, queues })
    }

    /// All late jobs that the tables of that epoch have from the sweep's key on, up to `reached`, of its queues or of others. True:
    /// go on from there.
    pub fn swept(&mut self, sweep: &mut Sweep, epoch: u64, found: &[Entry], reached: Key) -> bool {
        if epoch != self.epoch {
            return self.due.sweeping;
        }
        let reached = reached.min(sweep.to);
        let here =
            self.memory.iter().map(|(seq, slot)| Entry { key: Key { due_ms: slot.due_ms, seq }, queue: slot.queue });
        let is_wanted = |entry: &Entry| {
            let from = sweep.queues.get(&entry.queue);
            from.is_some_and(|from| entry.key >= (*from).max(sweep.from) && entry.key < reached)
        };
        let mut found: Vec<Entry> = found.iter().copied().chain(here).filter(is_wanted).collect();
        found.sort_unstable();
        found.dedup();
        for entry in found {
            if !self.waits(&entry) || self.changing.contains(&entry.key.seq) {
                continue;
            }
            let Some(queue) = self.queues.get_mut(&entry.queue) else { continue };
            let is_out = self.due.again.get(&entry.queue).is_some_and(|again| *again <= entry.key);
            if is_out || queue.late.len() >= self.limits.queue_due_max || self.due.known >= self.limits.due_max {
                let again = self.due.again.entry(entry.queue).or_insert(entry.key);
                *again = entry.key.min(*again);
                continue;
            }
            queue.late.push_back(entry.key);
            self.due.known += 1;
            let account = Arc::clone(&queue.name.account);
            self.due.list(QueueId(entry.queue), &account);
        }
        sweep.from = reached;
        // Nobody of the sweep takes any more: what is behind is found by the next one. What came out of the wheel meanwhile may be
        // behind what was looked at, and says nothing.
        let is_out = |queue: &u32| self.due.again.get(queue).is_some_and(|again| *again < reached);
        let all_out = sweep.queues.keys().all(is_out);
        if reached < sweep.to && !all_out {
            return true;
        }
        for id in sweep.queues.keys() {
            let Some(queue) = self.queues.get_mut(id) else { continue };
            queue.spill = self.due.again.get(id).copied();
            if queue.spill.is_none() {
                self.due.spilled.remove(id);
            }
        }
        self.due.sweeping = false;
        self.due.again.clear();
        false
    }

    // ---- to Kafka

    /// Takes jobs that are due, accounts in turns, up to so many. They are with whoever took them until he says what became of
    /// them.
    pub fn take(&mut self, now_ms: i64, count_max: usize, out: &mut Vec<Due>) {
        for queue in std::mem::take(&mut self.due.noted) {
            if let Some(known) = self.queues.get(&queue.0)
                && known.known() > 0
            {
                let account = Arc::clone(&known.name.account);
                self.due.list(queue, &account);
            }
        }
        let mut left = count_max.min(self.limits.in_flight_max.saturating_sub(self.due.in_flight));
        while left > 0 {
            let taken = self.take_round(now_ms, left, out);
            left -= taken;
            if taken == 0 {
                break;
            }
        }
    }

    /// One turn of every account.
    fn take_round(&mut self, now_ms: i64, count_max: usize, out: &mut Vec<Due>) -> usize {
        let mut left = count_max;
        for _ in 0..self.due.accounts.len() {
            if left == 0 {
                break;
            }
            let Some(account) = self.due.accounts.pop_front() else { break };
            let mut queues = self.due.of_account.remove(&account).unwrap_or_default();
            let mut quantum = QUANTUM.min(left);
            for _ in 0..queues.len() {
                let Some(id) = queues.pop_front() else { break };
                let taken = self.take_of(id, now_ms, quantum, out);
                (quantum, left) = (quantum - taken, left - taken);
                match self.queues.get(&id.0).is_some_and(|queue| queue.known() > 0 && !queue.is_paused) {
                    true => queues.push_back(id),
                    false => drop(self.due.listed.remove(&id.0)),
                }
                if quantum == 0 {
                    break;
                }
            }
            if !queues.is_empty() {
                self.due.of_account.insert(Arc::clone(&account), queues);
                self.due.accounts.push_back(account);
            }
        }
        count_max - left
    }

    fn take_of(&mut self, id: QueueId, now_ms: i64, count_max: usize, out: &mut Vec<Due>) -> usize {
        let Some(queue) = self.queues.get_mut(&id.0) else { return 0 };
        let (spilled, from) = queue.grow_late(now_ms, &self.limits);
        self.due.known -= spilled;
        if let Some(from) = from {
            self.spilled(id.0, from);
        }
        let mut taken = 0;
        while taken < count_max {
            let queue = self.queues.get_mut(&id.0).expect("looked at above");
            if !queue.is_ready(now_ms, &self.limits) {
                break;
            }
            self.due.turn = self.due.turn.wrapping_add(1);
            let Some(key) = queue.pop(self.due.turn) else { break };
            self.due.known -= 1;
            let entry = Entry { key, queue: id.0 };
            let is_busy = queue.in_flight.contains_key(&key.seq) || self.changing.contains(&key.seq);
            if is_busy || !self.waits(&entry) {
                continue;
            }
            let queue = self.queues.get_mut(&id.0).expect("looked at above");
            let doubt_since_ms = self.doubted.get(&key.seq).map(|doubt| doubt.since_ms);
            let since_ms = doubt_since_ms.unwrap_or(now_ms).min(now_ms);
            queue.in_flight.insert(key.seq, Flight { key, since_ms, is_done: false });
            self.due.in_flight += 1;
            out.push(Due { entry, attempts: self.attempts(key.seq), doubt_since_ms });
            taken += 1;
        }
        taken
    }

    /// What must be durable before these are given to Kafka, so that after a crash it is known of which jobs nobody knows.
    pub fn taken(due: &[Due], now_ms: i64) -> Vec<Note> {
        let mut by_queue: HashMap<u32, Vec<u64>> = HashMap::new();
        due.iter().for_each(|due| by_queue.entry(due.entry.queue).or_default().push(due.entry.key.seq));
        let mut notes = Vec::new();
        for (queue, mut seqs) in by_queue {
            seqs.sort_unstable();
            for seqs in seqs.chunks(LIST_MAX) {
                let went = Went { at_ms: now_ms, partition: -1, offset: -1, seqs: seqs.to_vec() };
                notes.push(note(QueueId(queue), Kind::Taken, &went));
            }
        }
        notes.sort_unstable_by_key(|note| note.sequence);
        notes
    }

    /// Kafka has these, together. What must be appended.
    pub fn fired(&mut self, queue: QueueId, mut went: Went) -> Note {
        went.seqs.sort_unstable();
        if let Some(known) = self.queues.get_mut(&queue.0) {
            known.is_probing = false;
            for seq in &went.seqs {
                known.in_flight.entry(*seq).and_modify(|flight| flight.is_done = true);
            }
        }
        note(queue, Kind::Fired, &went)
    }

    /// The log did not take what [`Book::fired`] said: it is said again ([`Book::owed`]).
    pub fn owe(&mut self, note: &Note) {
        if let Ok(went) = Went::read(note.sequence, &note.body) {
            self.due.owed.push((note.queue, went));
        }
    }

    /// What the log has to be told again.
    pub fn owed(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.due.owed).iter().map(|(queue, went)| note(*queue, Kind::Fired, went)).collect()
    }

    /// Kafka did not take these: they wait again, before all others of their queue, which is left alone until then.
    pub fn give_back(&mut self, queue: QueueId, seqs: &[u64], hold_until_ms: i64, now_ms: i64) {
        let Some(known) = self.queues.get_mut(&queue.0) else { return };
        let mut keys: Vec<Key> = Vec::new();
        for seq in seqs {
            if let Some(flight) = known.in_flight.remove(seq) {
                self.due.in_flight -= 1;
                keys.push(flight.key);
                *self.attempts.entry(*seq).or_default() += 1;
            }
        }
        known.hold_until_ms = known.hold_until_ms.max(hold_until_ms);
        // However long Kafka is away, a job at a time is noted as taken.
        known.is_probing = true;
        keys.sort_unstable();
        // A clock that went back has made them early.
        let early = keys.split_off(keys.partition_point(|key| key.due_ms <= now_ms));
        self.due.known += keys.len();
        keys.into_iter().rev().for_each(|key| known.give_back(key, now_ms));
        let account = Arc::clone(&known.name.account);
        self.due.list(queue, &account);
        early.into_iter().for_each(|key| self.put(Entry { key, queue: queue.0 }));
    }

    /// A job is no longer at Kafka.
    pub(super) fn land(&mut self, seq: u64, queue: QueueId) {
        let Some(known) = self.queues.get_mut(&queue.0) else { return };
        if known.in_flight.remove(&seq).is_some() {
            self.due.in_flight -= 1;
        }
    }

    /// Jobs that are due and known, and at Kafka.
    pub fn due_and_in_flight(&self) -> (usize, usize) {
        (self.due.known, self.due.in_flight)
    }

    pub fn has_spilled(&self) -> bool {
        !self.due.spilled.is_empty()
    }
}

fn note(queue: QueueId, kind: Kind, went: &Went) -> Note {
    Note { queue, kind, sequence: went.seqs[0], body: went.body() }
}
