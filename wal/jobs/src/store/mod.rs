//! The store at work: the book under a lock, the log it stands on, and three threads.
//!
//! ```text
//!   shards ── add, change ──▶ book (number) ──▶ journal ── observer ──▶ book.apply
//!     ▲  │ outcomes                                                        │
//!     │  ▼                                                                 ▼
//!   "jobs-due"      wheel ▶ queues ▶ bodies ▶ TAKEN durable ▶ deliver;  FIRED
//!   "jobs-look"     horizon, sweeps, what somebody asks about a job that is in a table
//!   "jobs-tables"   memory ▶ table, tables ▶ table, snapshots, what goes, rot
//! ```
//!
//! Numbers are given and records appended under the lock, so that the log has jobs in the order of their numbers. A job is
//! kept when its commit is told to whoever appended it.

mod book_file;
mod due;
mod look;
mod merging;
mod open;
mod parked;
mod replay;
mod rows;
mod scrub;
mod tables;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use disk::Disk;
use journal::{Background, Group, Journal, Record, Waiter};
use tracing::{error, warn};

pub use look::{Answer, Asked, Listed, LookWaiter, Looked, Question};
pub use open::{OpenError, Opened};
pub use parked::Deed;

use crate::book::{Accepted, Book, Change, Known, Note, QueueId, Refused, Seen};
use crate::clock::Clock;
use crate::id::Issuer;
use crate::key::Key;
use crate::limits::Limits;
use crate::log::{AddKey, Added, Kind, Name, Reason};
use crate::table::{self, Table};
use crate::wheel::Entry;

/// Where a store is, and what it may take.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its directory; made when it is not there, its parent is. `log/` and `tables/` are in it.
    pub dir: PathBuf,
    /// Whose it is; another node's directory is refused.
    pub node: String,
    /// In ids; below [`NODES`](crate::id::NODES).
    pub node_number: u16,
    pub limits: Limits,
    pub table_limits: table::Limits,
    /// Adds are refused when the file system would be left with less than this.
    pub floor_bytes: u64,
    pub journal: fn(journal::Config) -> journal::Config,
}

/// A job that is due.
#[derive(Clone, Debug)]
pub struct Job {
    pub queue: QueueId,
    pub name: Arc<Name>,
    pub key: Key,
    /// Given to Kafka in vain so often.
    pub attempts: u32,
    /// Kafka may have it, and not from before that, epoch ms: it was under way when the last process was killed. It is looked for
    /// before it is given again; where it is not, [`Store::not_in_kafka`].
    pub doubt_since_ms: Option<i64>,
    /// What it was added with.
    pub body: Bytes,
}

/// Who gives jobs to Kafka. Called on a thread of the store, so it only passes them on; each comes back as an [`Outcome`].
pub type Deliver = Box<dyn Fn(Vec<Job>) + Send + Sync>;

/// What became of jobs that were delivered.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Kafka has them.
    Fired { queue: QueueId, seqs: Vec<u64>, partition: i32, offset: i64 },
    /// Not now: its queue is left alone for so long.
    GivenBack { queue: QueueId, seqs: Vec<u64>, pause: Duration },
    /// Not as things are.
    Parked { queue: QueueId, key: Key, reason: Reason },
}

/// A job to be added.
#[derive(Clone, Copy, Debug)]
pub struct NewJob<'a> {
    pub due_ms: i64,
    pub key: Option<AddKey>,
    /// What comes out when it is due; copied once.
    pub own: &'a [u8],
}

/// Why a job is not kept, or not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Log(#[from] journal::Refused),
}

/// Numbers for metrics; of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub pending: u64,
    pub in_memory: u64,
    pub memory_bytes: u64,
    pub tables: u64,
    pub table_bytes: u64,
    /// Due and not at Kafka, as far as known here.
    pub due: u64,
    pub in_flight: u64,
    pub parked: u64,
    pub fired: u64,
    /// Jobs in blocks that are rotten.
    pub lost: u64,
    /// Places of tables that a scrub or a merge found rotten.
    pub rotten: u64,
    /// Of tables, that were looked at for rot.
    pub scrubbed_bytes: u64,
}

/// A queue, of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSeen {
    pub name: Arc<Name>,
    /// That did not come to an end; parked ones, too.
    pub pending: u64,
    pub parked: u64,
    /// It stands still.
    pub is_paused: bool,
}

/// See the module. Dropping it closes it.
pub struct Store {
    shared: Arc<Shared>,
    /// In the order they end: whoever writes down what the others did is last.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Tables that can be read, by number.
type Tables = Arc<BTreeMap<u64, Arc<Table>>>;

struct Shared {
    journal: Journal,
    disk: Arc<dyn Disk>,
    config: Config,
    book: Arc<Mutex<Book>>,
    /// Changed together with the book's.
    tables: Mutex<Tables>,
    clock: Mutex<Clock>,
    issuer: OnceLock<Issuer>,
    outcomes: Mutex<Vec<Outcome>>,
    questions: Mutex<look::Questions>,
    due: Bell,
    look: Bell,
    tend: Bell,
    /// The thread of what is due sleeps until then, and who adds what is due before that wakes it: `MAX` while it makes up its
    /// mind, `MIN` once it is woken.
    sleeps_until_ms: Arc<AtomicI64>,
    /// Nothing more is given to Kafka.
    is_held: AtomicBool,
    is_closing: AtomicBool,
    /// Everything but the last snapshot is done.
    is_over: AtomicBool,
    in_flight_bytes: AtomicU64,
    fired: AtomicU64,
    lost: AtomicU64,
    is_on_ring: AtomicBool,
    rotten: AtomicU64,
    scrubbed_bytes: AtomicU64,
}

/// Wakes one thread.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Until it is rung, or so long.
    fn wait(&self, at_most: Duration) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, at_most, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables, and the epoch they are of.
    fn tables(&self) -> (Tables, u64) {
        let book = self.book();
        let tables = Arc::clone(&self.tables.lock().unwrap_or_else(PoisonError::into_inner));
        (tables, book.epoch())
    }

    /// Takes the lock when the clock was set back, so nobody asks who holds it.
    fn now_ms(&self) -> i64 {
        let (wall_ms, boot_ms) = clocks();
        let (now_ms, step) = self.clock.lock().unwrap_or_else(PoisonError::into_inner).now(wall_ms, boot_ms);
        if let Some(step) = step {
            match step.by_ms < 0 {
                true => {
                    warn!(by_ms = step.by_ms, "the clock was set back: jobs wait for the time it says now");
                    self.book().rewind(now_ms);
                }
                false => warn!(by_ms = step.by_ms, "the clock was set forward: jobs due in between fire now"),
            }
            self.due.ring();
        }
        now_ms
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Appends records that follow from something that was done, for whoever is told of it with this ticket.
    fn append(&self, notes: Vec<Note>, ticket: u64, waiter: &Waiter) -> Result<(), journal::Refused> {
        let group = Group::new(notes.into_iter().map(record_of))?;
        self.journal.append(group, ticket, waiter)
    }
}

/// It settles others, so on a full disk it may use the reserve; a job moved is one more.
fn record_of(note: Note) -> Record {
    let record = Record::new(note.queue.0, note.kind as u8, note.sequence, note.body);
    if note.kind == Kind::Moved { record } else { record.reserved() }
}

/// Wall clock and time since boot, ms.
fn clocks() -> (i64, i64) {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let boot_ms = boot.tv_sec * 1_000 + boot.tv_nsec / 1_000_000;
    (i64::try_from(wall.as_millis()).unwrap_or(i64::MAX), boot_ms)
}

impl Store {
    /// Epoch ms, as jobs see it.
    pub fn now_ms(&self) -> i64 {
        self.shared.now_ms()
    }

    /// Who names jobs; none before the first one is durable.
    pub fn issuer(&self) -> Option<&Issuer> {
        let shared = &self.shared;
        if shared.issuer.get().is_none() {
            let key = shared.journal.id()?;
            shared.issuer.get_or_init(|| Issuer::new(shared.config.node_number, key));
        }
        shared.issuer.get()
    }

    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// What tables are written on now: plain also when a ring was wished for and could not be had.
    pub fn tables_background(&self) -> Background {
        match self.shared.is_on_ring.load(Ordering::Relaxed) {
            true => Background::Ring,
            false => Background::Plain,
        }
    }

    // ---- adding and changing; `waiter` hears with this ticket when it is durable, or that it is not

    /// What an add with this key came to before.
    pub fn find_key(&self, key: &AddKey) -> Result<Option<Known>, Refused> {
        let now_ms = self.shared.now_ms();
        self.shared.book().find_key(key, now_ms)
    }

    /// Adds jobs of one queue, all or none. Their numbers follow each other from the one that comes back.
    pub fn add(&self, name: &Name, jobs: &[NewJob<'_>], ticket: u64, waiter: &Waiter) -> Result<u64, AddError> {
        let now_ms = self.shared.now_ms();
        let mut book = self.shared.book();
        let mut records = Vec::with_capacity(jobs.len() + 1);
        let mut taken: Vec<(u64, Option<AddKey>)> = Vec::with_capacity(jobs.len());
        let mut failed = None;
        for job in jobs {
            let added = Added { due_ms: job.due_ms, key: job.key };
            match book.accept(name, &added, now_ms) {
                Ok(Accepted { queue, seq, definition }) => {
                    if let Some(note) = definition.filter(|_| records.is_empty()) {
                        records.push(record_of(note));
                    }
                    records.push(Record::new(queue.0, Kind::Added as u8, seq, added.head(job.own)));
                    taken.push((seq, job.key));
                }
                Err(refused) => {
                    failed = Some(AddError::Refused(refused));
                    break;
                }
            }
        }
        let appended = match failed {
            Some(error) => Err(error),
            None => Group::new(records)
                .and_then(|group| self.shared.journal.append(group, ticket, waiter))
                .map_err(AddError::Log),
        };
        if let Err(error) = appended {
            taken.iter().for_each(|(seq, key)| book.refused(*seq, key.as_ref()));
            return Err(error);
        }
        Ok(taken[0].0)
    }

    /// The log did not take it after all.
    pub fn add_failed(&self, seq: u64, key: Option<&AddKey>) {
        self.shared.book().refused(seq, key);
    }

    /// Deletes a job of that queue.
    pub fn delete(&self, entry: Entry, ticket: u64, waiter: &Waiter) -> Result<Changed, AddError> {
        let now_ms = self.shared.now_ms();
        let mut book = self.shared.book();
        let change = book.delete(entry.key.seq, QueueId(entry.queue), now_ms);
        self.changed(&mut book, change, entry, ticket, waiter)
    }

    /// Gives a job of that queue another time; `own` is what it was added with.
    pub fn reschedule(
        &self,
        entry: Entry,
        due_ms: i64,
        own: &[u8],
        ticket: u64,
        waiter: &Waiter,
    ) -> Result<Changed, AddError> {
        let mut book = self.shared.book();
        let change = book.reschedule(entry.key.seq, QueueId(entry.queue), due_ms, own)?;
        self.changed(&mut book, change, entry, ticket, waiter)
    }

    fn changed(
        &self,
        book: &mut Book,
        change: Change,
        entry: Entry,
        ticket: u64,
        waiter: &Waiter,
    ) -> Result<Changed, AddError> {
        let note = match change {
            Change::Append(note) => note,
            Change::TooLate => return Ok(Changed::TooLate),
            Change::Unknown => return Ok(Changed::Unknown),
        };
        match self.shared.append(vec![note], ticket, waiter) {
            Ok(()) => Ok(Changed::Appended),
            Err(refused) => {
                book.unchanged(entry);
                Err(refused.into())
            }
        }
    }

    /// The log did not take a change of a job that was due as this says.
    pub fn change_failed(&self, entry: Entry) {
        self.shared.book().unchanged(entry);
    }

    /// A parked job is tried again. False: it is not parked.
    pub fn unpark(&self, seq: u64, ticket: u64, waiter: &Waiter) -> Result<bool, AddError> {
        let mut book = self.shared.book();
        let parked = book.parked(seq).next().filter(|parked| parked.key.seq == seq);
        let Some(entry) = parked.map(|parked| Entry { key: parked.key, queue: parked.queue.0 }) else {
            return Ok(false);
        };
        let Some(note) = book.unpark(seq) else { return Ok(false) };
        if let Err(refused) = self.shared.append(vec![note], ticket, waiter) {
            // Or nobody could try it again.
            book.unchanged(entry);
            return Err(refused.into());
        }
        Ok(true)
    }

    /// Has a queue stand still, or go on. False: there is no such queue to go on.
    pub fn pause(&self, name: &Name, is_paused: bool, ticket: u64, waiter: &Waiter) -> Result<bool, AddError> {
        let mut book = self.shared.book();
        let notes = book.pause(name, is_paused)?;
        if notes.is_empty() {
            return Ok(false);
        }
        self.shared.append(notes, ticket, waiter)?;
        Ok(true)
    }

    // ---- what came of what was delivered

    /// Jobs that were in doubt were looked for, and Kafka does not have them: they are like all others.
    pub fn not_in_kafka(&self, seqs: &[u64]) {
        self.shared.book().not_in_kafka(seqs);
    }

    /// Says what became of jobs.
    pub fn settle(&self, outcome: Outcome) {
        self.shared.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
        self.shared.due.ring();
    }

    // ---- looking

    /// What a job is, without the disk.
    pub fn see(&self, seq: u64) -> Seen {
        self.shared.book().see(seq)
    }

    /// How often a job was given to Kafka in vain.
    pub fn attempts(&self, seq: u64) -> u32 {
        self.shared.book().attempts(seq)
    }

    pub fn find(&self, name: &Name) -> Option<QueueId> {
        self.shared.book().find(name)
    }

    pub fn name_of(&self, queue: u32) -> Option<Arc<Name>> {
        self.shared.book().queue(QueueId(queue)).map(|queue| Arc::clone(&queue.name))
    }

    /// Looks with the tables, on another thread; `waiter` hears with this ticket. False: too many wait.
    pub fn look(&self, asked: Asked) -> bool {
        self.shared.questions.lock().unwrap_or_else(PoisonError::into_inner).push(asked) && {
            self.shared.look.ring();
            true
        }
    }

    /// Queues of which anything is known but their name.
    pub fn queues(&self) -> Vec<QueueSeen> {
        let book = self.shared.book();
        let mut parked: BTreeMap<QueueId, u64> = BTreeMap::new();
        book.parked(0).for_each(|job| *parked.entry(job.queue).or_default() += 1);
        let known = book.queues().filter(|(_, queue)| !queue.is_over());
        let seen = known.map(|(id, queue)| QueueSeen {
            name: Arc::clone(&queue.name),
            pending: queue.pending,
            parked: parked.get(&id).copied().unwrap_or(0),
            is_paused: queue.is_paused,
        });
        seen.collect()
    }

    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        let table_bytes = {
            let tables = shared.tables.lock().unwrap_or_else(PoisonError::into_inner);
            tables.values().map(|table| table.meta().bytes()).sum()
        };
        let book = shared.book();
        let (due, in_flight) = book.due_and_in_flight();
        let (jobs, bytes) = book.in_memory();
        Counts {
            pending: book.states().pending(),
            in_memory: jobs as u64,
            memory_bytes: bytes,
            tables: book.keeping().tables().count() as u64,
            table_bytes,
            due: due as u64,
            in_flight: in_flight as u64,
            parked: book.parked(0).count() as u64,
            fired: shared.fired.load(Ordering::Relaxed),
            lost: shared.lost.load(Ordering::Relaxed),
            rotten: shared.rotten.load(Ordering::Relaxed),
            scrubbed_bytes: shared.scrubbed_bytes.load(Ordering::Relaxed),
        }
    }

    /// From now on nothing more is delivered; what was is still settled. For an end that leaves no job in doubt.
    pub fn hold(&self) {
        self.shared.is_held.store(true, Ordering::Release);
    }

    /// Ends what runs. What was settled before is in the log when this returns; jobs that are still with whoever they were
    /// delivered to are in doubt at the next start.
    pub fn close(&self) {
        let mut threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(last) = threads.pop() else { return };
        self.shared.is_closing.store(true, Ordering::Release);
        for bell in [&self.shared.due, &self.shared.look] {
            bell.ring();
        }
        let joined = |thread: JoinHandle<()>| {
            if thread.join().is_err() {
                error!("a thread of the job store panicked");
            }
        };
        threads.into_iter().for_each(joined);
        self.shared.is_over.store(true, Ordering::Release);
        self.shared.tend.ring();
        joined(last);
        tables::say_what_stays(self.shared.book().states().pending());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is done when it is durable.
    Appended,
    TooLate,
    Unknown,
}
