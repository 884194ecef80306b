//! What is known of every job: the state machine of the store.
//!
//! ```text
//!   accept ──▶ log ──apply──▶ memory ──due soon──▶ wheel ──due──▶ queue ──take──▶ Kafka ──▶ fired
//!                               │ freeze             ▲              │ too many        │
//!                               ▼                    │ scan         ▼ late            ├─ give back
//!                             table ─────────────────┴──────────── spill, sweep       └─ park
//! ```
//!
//! Pure: no disk, no thread, no clock. Whoever owns it appends what it is given to the log, tells it what was committed
//! ([`Book::apply`]), and after a crash tells it the same again from the last snapshot on.
//!
//! *Horizon*: a key. Every job before it that waits is in the wheel, or in its queue's lists, or behind its queue's spill, or
//! parked, or at Kafka. It moves on when all tables and memory were looked at up to where it goes ([`Book::scanned`]; in vain when
//! jobs went from memory into a table meanwhile, which [`Book::epoch`] tells), and a job
//! that is added before it goes to the wheel at once: none is skipped (the fault of Cadence's issue 970). So a key in the wheel
//! says that a job may be due, not that it is: it may have been deleted, moved, or be there twice. [`Book::take`] decides, and a
//! job that was taken is not taken again.
//!
//! Invariants (`tests`, against a twin):
//! - A job whose add was committed fires, or is deleted, or is parked, whatever is lost that was not committed.
//! - A job whose deletion was committed does not fire after that. Nothing fires early.
//! - Jobs of a queue that are on time are taken in the order of their keys, and so are those that are late.

mod due;
mod keep;
mod snapshot;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

pub use due::{Due, Scan, Sweep};
pub use keep::{Alive, Keeping, TableSeen, Work};
pub use snapshot::Snapshot;

use crate::key::Key;
use crate::limits::{KEYS_KEPT_MS, KEYS_MAX, Limits, MOVED_MAX, PARKED_MAX, QUEUES_MAX, SEQ_MAX};
use crate::log::{self, AddKey, Added, Kind, Malformed, Name, Reason, Went};
use crate::memory::Memory;
use crate::queue::Queue;
use crate::shared_map::SharedMap;
use crate::states::{State, States};
use crate::wheel::{Entry, Wheel};

/// A queue's number, the same for as long as anything of it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u32);

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub queue: QueueId,
    pub kind: Kind,
    pub sequence: u64,
    pub body: Bytes,
}

/// A record of the log.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'b> {
    pub lsn: u64,
    pub stream: u32,
    pub kind: u8,
    pub sequence: u64,
    /// Of the block, epoch ms.
    pub wall_ms: i64,
    pub body: &'b Bytes,
}

/// What an accepted job is.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    pub queue: QueueId,
    pub seq: u64,
    /// To be appended before it, with it: the queue is new.
    pub definition: Option<Note>,
}

/// Why a job is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("this node keeps {limit} queues of delayed jobs already")]
    Queues { limit: usize },
    #[error("this node has no numbers left for jobs")]
    Numbers,
    /// What was added lately cannot be written to tables: the disk is full, or too slow.
    #[error("jobs come faster than the disk takes them, or it is full")]
    Memory,
    #[error("this node remembers {limit} idempotency keys of the last 24 h already")]
    Keys { limit: usize },
    /// The same key is being added now.
    #[error("a job with this idempotency key is being added")]
    KeyBusy,
    #[error("this node has {limit} rescheduled jobs that wait already")]
    Moved { limit: usize },
}

/// An add that was done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub seq: u64,
    pub due_ms: i64,
}

/// What a job is that waits, or came to an end lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There is none, or it is forgotten.
    Unknown,
    Fired,
    Deleted,
    /// It waits. `None`: its table knows when it is due, and whose it is.
    Pending(Option<(Entry, Stage)>),
}

/// How far a waiting job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    Waiting,
    /// At Kafka, or about to be.
    Firing,
    Parked {
        reason: Reason,
        at_ms: i64,
    },
}

/// A job that cannot be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    pub key: Key,
    pub queue: QueueId,
    pub reason: Reason,
    pub at_ms: i64,
}

/// What deleting or moving a job comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Append it, and the change is as good as done; [`Book::unchanged`] when it was refused.
    Append(Note),
    /// It fired, or is about to.
    TooLate,
    Unknown,
}

/// A job that Kafka may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    pub queue: QueueId,
    /// Not from before that, epoch ms.
    pub since_ms: i64,
}

/// A key of an add.
#[derive(Clone, Copy, Debug)]
struct KeyOf {
    seq: u64,
    due_ms: i64,
    at_ms: i64,
    is_durable: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Book {
    limits: Limits,
    states: States,
    next_seq: u64,
    next_queue: u32,
    queues: BTreeMap<u32, Queue>,
    by_name: HashMap<Arc<Name>, u32>,
    memory: Memory,
    wheel: Wheel,
    horizon: Key,
    /// Waiting jobs that have another time than a table may say: their entry now.
    moved: SharedMap<u64, Entry>,
    parked: BTreeMap<u64, Parked>,
    /// Deletions and moves on their way to the log: such a job is not taken.
    changing: HashSet<u64>,
    /// How often jobs were given to Kafka in vain.
    attempts: HashMap<u64, u32>,
    /// Taken before the last crash, and nobody knows whether Kafka has them: only that it does not have them for longer than
    /// since a time. They wait for [`Book::doubt_placed`].
    in_doubt: BTreeMap<u64, Doubt>,
    /// Those that were placed, until it is known.
    doubted: BTreeMap<u64, Doubt>,
    keys: SharedMap<AddKey, KeyOf>,
    keys_by_age: VecDeque<(AddKey, i64)>,
    due: due::Lists,
    keeping: Keeping,
    /// Counts changes of which jobs are in which table, or in memory: what was read of tables before one is not all there is.
    epoch: u64,
    applied_lsn: u64,
    /// Records of the log that came before the snapshot: only jobs that are in no table count.
    snapshot_lsn: u64,
}

impl Book {
    /// With nothing in it.
    pub fn new(now_ms: i64, limits: Limits) -> Book {
        Book {
            limits,
            states: States::default(),
            next_seq: 1,
            next_queue: 0,
            queues: BTreeMap::new(),
            by_name: HashMap::new(),
            memory: Memory::new(0),
            wheel: Wheel::new(now_ms),
            horizon: Key::MIN,
            moved: SharedMap::default(),
            parked: BTreeMap::new(),
            changing: HashSet::new(),
            attempts: HashMap::new(),
            in_doubt: BTreeMap::new(),
            doubted: BTreeMap::new(),
            keys: SharedMap::default(),
            keys_by_age: VecDeque::new(),
            due: due::Lists::default(),
            keeping: Keeping::default(),
            epoch: 0,
            applied_lsn: 0,
            snapshot_lsn: 0,
        }
    }

    // ---- adding

    /// What an add with this key came to before. An error: it is being added now, or there is no room for the key.
    pub fn find_key(&self, key: &AddKey, now_ms: i64) -> Result<Option<Known>, Refused> {
        match self.keys.get(*key) {
            Some(known) if known.at_ms < now_ms - KEYS_KEPT_MS => Ok(None),
            Some(known) if !known.is_durable => Err(Refused::KeyBusy),
            Some(known) => Ok(Some(Known { seq: known.seq, due_ms: known.due_ms })),
            None if self.keys.len() >= KEYS_MAX => Err(Refused::Keys { limit: KEYS_MAX }),
            None => Ok(None),
        }
    }

    /// A job is about to be appended: it has its number. In the log's order, so whoever calls this appends before anybody else
    /// does.
    pub fn accept(&mut self, name: &Name, added: &Added, now_ms: i64) -> Result<Accepted, Refused> {
        if self.memory.is_over(&self.limits) {
            return Err(Refused::Memory);
        }
        if self.next_seq > SEQ_MAX {
            return Err(Refused::Numbers);
        }
        let queue = self.queue_of(name)?;
        let seq = self.next_seq;
        self.next_seq += 1;
        if let Some(key) = added.key {
            self.keys.insert(key, KeyOf { seq, due_ms: added.due_ms, at_ms: now_ms, is_durable: false });
        }
        let known = &self.queues[&queue];
        // Until it is durable it is said again with every job: the one before may have been refused.
        let definition = (!known.is_defined).then(|| Note {
            queue: QueueId(queue),
            kind: Kind::Queue,
            sequence: 0,
            body: log::queue(&known.name),
        });
        Ok(Accepted { queue: QueueId(queue), seq, definition })
    }

    /// It was not appended after all.
    pub fn refused(&mut self, seq: u64, key: Option<&AddKey>) {
        if let Some(key) = key
            && self.keys.get(*key).is_some_and(|known| known.seq == seq)
        {
            self.keys.remove(*key);
        }
    }

    fn queue_of(&mut self, name: &Name) -> Result<u32, Refused> {
        if let Some(id) = self.by_name.get(name) {
            return Ok(*id);
        }
        if self.queues.len() >= QUEUES_MAX {
            return Err(Refused::Queues { limit: QUEUES_MAX });
        }
        let id = self.next_queue;
        self.define(id, name.clone());
        Ok(id)
    }

    fn define(&mut self, id: u32, name: Name) -> &mut Queue {
        self.next_queue = self.next_queue.max(id.saturating_add(1));
        let name = Arc::new(name);
        self.by_name.insert(Arc::clone(&name), id);
        self.queues.entry(id).or_insert_with(|| Queue::new(name))
    }

    // ---- what the log says

    /// A record is durable. After a crash everything from [`Book::begin_lsn`] on is told again.
    pub fn apply(&mut self, committed: &Committed<'_>) -> Result<(), Malformed> {
        let &Committed { lsn, stream, kind, sequence, wall_ms, body } = committed;
        let kind = Kind::of(kind).ok_or(Malformed { what: "record of the job store", bytes: body.len() })?;
        let is_news = lsn >= self.snapshot_lsn;
        self.memory.passed(lsn, body.len() as u64 + 48);
        self.applied_lsn = self.applied_lsn.max(lsn + 1);
        if !is_news && !matches!(kind, Kind::Added | Kind::Moved) {
            return Ok(());
        }
        let queue = QueueId(stream);
        if kind == Kind::Queue {
            self.define(stream, log::read_queue(body)?).is_defined = true;
            return Ok(());
        }
        if !self.queues.contains_key(&stream) {
            return Ok(()); // its name was in what is lost
        }
        match kind {
            Kind::Added => {
                let added = Added::read(body)?;
                let entry = Entry { key: Key { due_ms: added.due_ms, seq: sequence }, queue: stream };
                let own = &body[added.head_bytes()..];
                match is_news {
                    true => self.added(entry, own, added.key, wall_ms),
                    false => self.found_before_snapshot(entry, own),
                }
            }
            Kind::Moved => {
                let added = Added::read(body)?;
                let entry = Entry { key: Key { due_ms: added.due_ms, seq: sequence }, queue: stream };
                let own = &body[added.head_bytes()..];
                match is_news {
                    true => self.was_moved(entry, own),
                    false => self.found_before_snapshot(entry, own),
                }
            }
            Kind::Deleted => self.end(sequence, queue, State::Deleted),
            Kind::Taken => {
                let went = Went::read(sequence, body)?;
                let doubt = Doubt { queue, since_ms: went.at_ms };
                went.seqs.iter().for_each(|seq| self.was_taken(*seq, doubt));
            }
            Kind::Fired => Went::read(sequence, body)?.seqs.iter().for_each(|seq| self.end(*seq, queue, State::Fired)),
            Kind::Parked => {
                let (at_ms, due_ms, reason) = log::read_parked(body)?;
                let key = Key { due_ms, seq: sequence };
                if self.states.is_pending(sequence) {
                    self.parked.insert(sequence, Parked { key, queue, reason, at_ms });
                    self.in_doubt.remove(&sequence);
                    self.doubted.remove(&sequence);
                    self.land(sequence, queue);
                }
            }
            Kind::Unparked => {
                self.changing.remove(&sequence);
                if let Some(parked) = self.parked.remove(&sequence) {
                    self.put(Entry { key: parked.key, queue: stream });
                }
            }
            Kind::Paused => {
                let is_paused = log::read_paused(body)?;
                self.queues.get_mut(&stream).expect("it is known, looked at above").is_paused = is_paused;
                self.due.note(queue);
            }
            Kind::Queue => unreachable!("done above"),
        }
        Ok(())
    }

    fn added(&mut self, entry: Entry, own: &[u8], key: Option<AddKey>, wall_ms: i64) {
        let Entry { key: Key { due_ms, seq }, queue } = entry;
        self.next_seq = self.next_seq.max(seq + 1);
        if let Some(key) = key {
            self.keys.insert(key, KeyOf { seq, due_ms, at_ms: wall_ms, is_durable: true });
            self.keys_by_age.push_back((key, wall_ms));
        }
        self.states.set(seq, State::Pending);
        self.queues.get_mut(&queue).expect("looked at before").pending += 1;
        self.place(entry, own);
    }

    /// Puts a job into memory, and where it comes out when it is due.
    fn place(&mut self, entry: Entry, own: &[u8]) {
        self.memory.insert(entry, own);
        self.put(entry);
    }

    /// Puts the key of a job that is in memory or a table where it comes out.
    fn put(&mut self, entry: Entry) {
        match entry.key < self.horizon || self.is_soon(entry.key) {
            true => self.wheel.insert(entry),
            false => self.memory.insert_far(entry),
        }
    }

    /// A record from before the snapshot, which knows everything of the job but where it is.
    fn found_before_snapshot(&mut self, entry: Entry, own: &[u8]) {
        if self.is_alive(entry.key.seq, entry.key.due_ms) {
            self.place(entry, own);
        }
    }

    fn was_moved(&mut self, entry: Entry, own: &[u8]) {
        let seq = entry.key.seq;
        self.changing.remove(&seq);
        if !self.states.is_pending(seq) {
            return;
        }
        // Its former key may be in a table, and in the wheel: only this tells that it is not its time any more.
        self.moved.insert(seq, entry);
        self.parked.remove(&seq);
        self.place(entry, own);
    }

    fn was_taken(&mut self, seq: u64, doubt: Doubt) {
        let in_flight = self.queues.get(&doubt.queue.0).is_some_and(|queue| queue.in_flight.contains_key(&seq));
        if self.states.is_pending(seq) && !in_flight {
            // Taken again: since the first time, or by a clock that went back.
            let known = self.in_doubt.entry(seq).or_insert(doubt);
            known.since_ms = known.since_ms.min(doubt.since_ms);
        }
    }

    /// A job came to its end.
    fn end(&mut self, seq: u64, queue: QueueId, state: State) {
        self.changing.remove(&seq);
        if !self.states.is_pending(seq) {
            return;
        }
        self.states.set(seq, state);
        self.keeping.ended(seq);
        self.memory.remove(seq);
        self.moved.remove(seq);
        self.parked.remove(&seq);
        self.attempts.remove(&seq);
        self.in_doubt.remove(&seq);
        self.doubted.remove(&seq);
        self.land(seq, queue);
        if let Some(queue) = self.queues.get_mut(&queue.0) {
            queue.pending = queue.pending.saturating_sub(1);
        }
    }

    // ---- changing

    /// When a waiting job is due, as far as this knows.
    fn due_of(&self, seq: u64) -> Option<Entry> {
        if let Some(moved) = self.moved.get(seq) {
            return Some(*moved);
        }
        let slot = self.memory.get(seq)?;
        Some(Entry { key: Key { due_ms: slot.due_ms, seq }, queue: slot.queue })
    }

    /// What a job is.
    pub fn see(&self, seq: u64) -> Seen {
        match self.states.get(seq) {
            State::Unknown => Seen::Unknown,
            State::Fired => Seen::Fired,
            State::Deleted => Seen::Deleted,
            State::Pending => Seen::Pending(match self.parked.get(&seq) {
                Some(parked) => {
                    let Parked { key, queue, reason, at_ms } = parked.clone();
                    Some((Entry { key, queue: queue.0 }, Stage::Parked { reason, at_ms }))
                }
                None => self.due_of(seq).map(|entry| (entry, self.stage_of(seq, entry.queue))),
            }),
        }
    }

    /// As [`Book::see`] says of a job of that queue that is in a table.
    pub fn stage_of(&self, seq: u64, queue: u32) -> Stage {
        match self.queues.get(&queue).is_some_and(|queue| queue.in_flight.contains_key(&seq)) {
            true => Stage::Firing,
            false => Stage::Waiting,
        }
    }

    /// How often a job was given to Kafka in vain.
    pub fn attempts(&self, seq: u64) -> u32 {
        self.attempts.get(&seq).copied().unwrap_or(0)
    }

    /// Deletes a job of that queue, whoever found out that it is of it.
    pub fn delete(&mut self, seq: u64, queue: QueueId, now_ms: i64) -> Change {
        let note = Note { queue, kind: Kind::Deleted, sequence: seq, body: log::at(now_ms) };
        self.change(seq, queue, note)
    }

    /// Gives a job of that queue another time; `own` is what it was added with.
    pub fn reschedule(&mut self, seq: u64, queue: QueueId, due_ms: i64, own: &[u8]) -> Result<Change, Refused> {
        if self.moved.len() >= MOVED_MAX {
            return Err(Refused::Moved { limit: MOVED_MAX });
        }
        if self.memory.is_over(&self.limits) {
            return Err(Refused::Memory);
        }
        let body = Added { due_ms, key: None }.head(own);
        Ok(self.change(seq, queue, Note { queue, kind: Kind::Moved, sequence: seq, body }))
    }

    /// A parked job is tried again.
    pub fn unpark(&mut self, seq: u64) -> Option<Note> {
        let parked = self.parked.get(&seq)?;
        let note = Note { queue: parked.queue, kind: Kind::Unparked, sequence: seq, body: Bytes::new() };
        self.changing.insert(seq).then_some(note)
    }

    fn change(&mut self, seq: u64, queue: QueueId, note: Note) -> Change {
        match self.states.get(seq) {
            State::Unknown => return Change::Unknown,
            State::Fired | State::Deleted => return Change::TooLate,
            State::Pending => {}
        }
        let is_firing = self.stage_of(seq, queue.0) == Stage::Firing;
        let is_doubtful = self.in_doubt.contains_key(&seq) || self.doubted.contains_key(&seq);
        if is_firing || is_doubtful || !self.changing.insert(seq) {
            return Change::TooLate;
        }
        Change::Append(note)
    }

    /// A change was refused by the log: the job waits as before. `entry`: when it is due, which whoever changed it knew.
    pub fn unchanged(&mut self, entry: Entry) {
        if !self.changing.remove(&entry.key.seq) || !self.states.is_pending(entry.key.seq) {
            return;
        }
        // It may have come out of the wheel meanwhile, and was passed over.
        self.put(entry);
    }

    /// Has a queue stand still, or go on. What must be appended, also when it is so already: one that says otherwise may be on its
    /// way. None: there is no such queue to go on.
    pub fn pause(&mut self, name: &Name, is_paused: bool) -> Result<Vec<Note>, Refused> {
        let id = match is_paused {
            true => self.queue_of(name)?,
            false => match self.by_name.get(name) {
                Some(id) => *id,
                None => return Ok(Vec::new()),
            },
        };
        let known = &self.queues[&id];
        let note = |kind, body| Note { queue: QueueId(id), kind, sequence: 0, body };
        let definition = (!known.is_defined).then(|| note(Kind::Queue, log::queue(&known.name)));
        Ok(definition.into_iter().chain([note(Kind::Paused, log::paused(is_paused))]).collect())
    }

    /// A job that was taken cannot be delivered. What must be appended; none: there is no room to park it.
    pub fn park(&mut self, key: Key, queue: QueueId, reason: &Reason, now_ms: i64) -> Option<Note> {
        if self.parked.len() >= PARKED_MAX {
            return None;
        }
        let body = log::parked(now_ms, key.due_ms, reason);
        // Kafka answered.
        if let Some(queue) = self.queues.get_mut(&queue.0) {
            queue.is_probing = false;
        }
        self.states.is_pending(key.seq).then_some(Note { queue, kind: Kind::Parked, sequence: key.seq, body })
    }

    // ---- looking

    pub fn find(&self, name: &Name) -> Option<QueueId> {
        self.by_name.get(name).map(|id| QueueId(*id))
    }

    pub fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(&id.0)
    }

    pub fn queues(&self) -> impl Iterator<Item = (QueueId, &Queue)> {
        self.queues.iter().map(|(id, queue)| (QueueId(*id), queue))
    }

    /// Parked jobs from a number on.
    pub fn parked(&self, from: u64) -> impl Iterator<Item = &Parked> {
        self.parked.range(from..).map(|(_, parked)| parked)
    }

    /// What a job that is not in a table was added with.
    pub fn body(&self, seq: u64) -> Option<&[u8]> {
        self.memory.body(seq)
    }

    /// Every job that is in no table, and some that are over.
    pub fn each_in_memory(&self, each: &mut dyn FnMut(Entry)) {
        for (seq, slot) in self.memory.iter() {
            each(Entry { key: Key { due_ms: slot.due_ms, seq }, queue: slot.queue });
        }
    }

    /// How far a job is that waits; none: this key is of one that does not, or that is due at another time.
    pub fn listed(&self, entry: &Entry) -> Option<Stage> {
        let seq = entry.key.seq;
        if !self.is_alive(seq, entry.key.due_ms) {
            return None;
        }
        Some(match self.parked.get(&seq) {
            Some(parked) => Stage::Parked { reason: parked.reason.clone(), at_ms: parked.at_ms },
            None => self.stage_of(seq, entry.queue),
        })
    }

    pub fn states(&self) -> &States {
        &self.states
    }

    /// Jobs that were taken before the last crash, may be in Kafka, and are not placed.
    pub fn in_doubt(&self) -> impl Iterator<Item = (u64, Doubt)> {
        self.in_doubt.iter().map(|(seq, doubt)| (*seq, *doubt))
    }

    /// Such a job is due again, as this entry; whoever takes it is told ([`Due::doubt_since_ms`]).
    pub fn doubt_placed(&mut self, seq: u64, entry: Entry) {
        if let Some(doubt) = self.in_doubt.remove(&seq) {
            self.doubted.insert(seq, doubt);
            self.put(entry);
        }
    }

    /// Kafka was asked, and does not have them: they are like all others.
    pub fn not_in_kafka(&mut self, seqs: &[u64]) {
        for seq in seqs {
            self.doubted.remove(seq);
        }
    }

    /// Forgets keys and ends that are old.
    pub fn forget(&mut self, now_ms: i64) {
        while let Some((key, at_ms)) = self.keys_by_age.front().copied()
            && at_ms < now_ms - KEYS_KEPT_MS
        {
            self.keys_by_age.pop_front();
            if self.keys.get(key).is_some_and(|known| known.at_ms == at_ms) {
                self.keys.remove(key);
            }
        }
        self.states.forget();
    }
}
