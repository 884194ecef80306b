//! The threads around the writer: one that commits, one that has room ready.
//!
//! The committing thread takes everything that was appended while the last commit ran, so groups grow with load and an idle
//! append waits for nothing. It is woken only when it is parked: a wake across cores costs some 30 µs.

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use disk::Disk;
use tracing::{error, warn};

use crate::background::{ReadWaiter, Worker};
use crate::config::{Background, Config, Now, Random};
use crate::core::Core;
use crate::limits::{COMMIT_BYTES_MAX, MARK_AFTER, TEND_PAUSE, WAITING_BYTES_MAX, WAITING_GROUPS_MAX};
use crate::metrics::Metrics;
use crate::reader::Reader;
use crate::record::{Committed, Group, Place};
use crate::recovery::{self, Lost, Recovered};
use crate::refused::{CheckpointError, OpenError, Refused};
use crate::waiter::{Completion, Waiter};
use crate::writer::Writer;

/// An open journal. Dropping it closes it.
pub struct Journal {
    shared: Arc<Shared>,
    background: Worker,
    threads: Vec<JoinHandle<()>>,
    nobody: Waiter,
}

/// A journal that has recovered and takes nothing yet: the time to replay.
pub struct Idle {
    core: Arc<Core>,
    writer: Writer,
    clock: Clock,
}

struct Shared {
    core: Arc<Core>,
    queue: Mutex<Queue>,
    /// The committing thread waits here.
    appended: Condvar,
    /// The other one waits here.
    tend: Condvar,
}

#[derive(Default)]
struct Queue {
    groups: Vec<Group>,
    /// Whose they are.
    owners: Vec<Owner>,
    /// Appended and not answered, those of the running commit included.
    waiting_groups: usize,
    waiting_bytes: usize,
    is_parked: bool,
    reopen: bool,
    is_closing: bool,
    is_closed: bool,
    tend: bool,
}

struct Owner {
    ticket: u64,
    waiter: Waiter,
}

impl Journal {
    /// Recovers the journal in this directory, or finds none.
    pub fn recover(config: Config, disk: Arc<dyn Disk>, random: Random) -> Result<(Idle, Recovered), OpenError> {
        if config.node.len() > crate::limits::NAME_BYTES_MAX {
            return Err(OpenError::Name { bytes: config.node.len(), max: crate::limits::NAME_BYTES_MAX });
        }
        let clock = Clock { began: Instant::now() };
        let core = Arc::new(Core::new(disk, config));
        let (writer, recovered) = Writer::open(Arc::clone(&core), random, clock.now())?;
        Ok((Idle { core, writer, clock }, recovered))
    }

    /// Has a group committed, whole; `waiter` hears of it with this ticket. Refused at once: nothing was stored.
    pub fn append(&self, group: Group, ticket: u64, waiter: &Waiter) -> Result<(), Refused> {
        let mut queue = self.shared.queue();
        if queue.is_closing || queue.is_closed {
            return Err(Refused::Closed);
        }
        let bytes = group.room();
        if queue.waiting_bytes + bytes > WAITING_BYTES_MAX || queue.waiting_groups >= WAITING_GROUPS_MAX {
            self.metrics().refused_waiting.add(1);
            return Err(Refused::Waiting);
        }
        queue.waiting_groups += 1;
        queue.waiting_bytes += bytes;
        queue.groups.push(group);
        queue.owners.push(Owner { ticket, waiter: waiter.clone() });
        if std::mem::take(&mut queue.is_parked) {
            drop(queue);
            self.shared.appended.notify_one();
        }
        Ok(())
    }

    /// Has a group committed of which nobody hears.
    pub fn append_unwatched(&self, group: Group) -> Result<(), Refused> {
        self.append(group, 0, &self.nobody)
    }

    /// What tells this journal from every other; none before its first record is durable.
    pub fn id(&self) -> Option<[u8; 16]> {
        self.shared.core.table().id
    }

    /// Live segments, oldest first.
    pub fn segments(&self) -> Vec<u64> {
        self.shared.core.table().live.keys().copied().collect()
    }

    /// Live segments that have no record from this lsn on, oldest first; never the newest.
    pub fn segments_before(&self, lsn: u64) -> Vec<u64> {
        let table = self.shared.core.table();
        let next = table.live.values().skip(1);
        let before = table.live.keys().zip(next).take_while(|(_, next)| next.header.first_lsn <= lsn);
        before.map(|(segment, _)| *segment).collect()
    }

    /// Length of the file of a live segment.
    pub fn segment_bytes(&self, segment: u64) -> Option<u64> {
        self.shared.core.table().live.get(&segment).map(|live| live.header.length)
    }

    /// Every record below it is durable.
    pub fn durable_lsn(&self) -> u64 {
        self.shared.core.table().durable_lsn
    }

    /// Whether the disk failed, so that nothing is taken until it is tried again.
    pub fn is_read_only(&self) -> bool {
        self.metrics().read_only.get() != 0
    }

    /// Tries a disk that failed again now, not after the pause.
    pub fn reopen(&self) {
        let mut queue = self.shared.queue();
        queue.reopen = true;
        queue.is_parked = false;
        drop(queue);
        self.shared.appended.notify_one();
    }

    /// For one thread that reads.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared.core))
    }

    /// Has consecutive records of a block read on another thread; `waiter` gets them, checked, with this ticket. Refused: too many wait.
    pub fn read(&self, place: Place, count: u32, ticket: u64, waiter: &ReadWaiter) -> Result<(), Refused> {
        self.background.read(place, count, ticket, waiter)
    }

    /// Begins to check every segment but the newest, in the background, at this pace. What is rotten is logged and counted.
    pub fn scrub(&self, bytes_per_second: u64) {
        self.background.scrub(bytes_per_second);
    }

    /// What reads and scrubs run on: plain also when a ring was wished for and could not be had.
    pub fn background(&self) -> Background {
        self.background.runs_on()
    }

    /// Nothing of this segment is needed any more, and the records that made it so are durable.
    pub fn free(&self, segment: u64) {
        self.shared.core.free(segment);
    }

    /// Writes down what the user knows at `lsn`; replay begins there from now on. Blocks for a few persists.
    pub fn checkpoint(&self, lsn: u64, blob: Vec<u8>) -> Result<(), CheckpointError> {
        let done = self.shared.core.checkpoint(lsn, blob);
        self.shared.poke_tending();
        done
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shared.core.metrics
    }

    /// Commits everything that was appended, and ends.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let mut queue = self.shared.queue();
        queue.is_closing = true;
        queue.is_parked = false;
        drop(queue);
        self.shared.appended.notify_one();
        self.shared.tend.notify_one();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a thread of the journal panicked");
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.end();
    }
}

impl Idle {
    /// Puts a copy of what is rotten into `quarantine/`, unless there is one. What was lost after the last checkpoint has one.
    pub fn quarantine(&self, lost: &Lost) -> std::io::Result<()> {
        match self.core.table().live.contains_key(&lost.segment) && lost.bytes > 0 {
            true => {}
            false => return Ok(()),
        }
        recovery::quarantine::copy(&self.core, lost.segment, lost.at, lost.bytes)
    }

    /// What tells this journal from every other; none before its first record was durable.
    pub fn id(&self) -> Option<[u8; 16]> {
        self.core.table().id
    }

    /// The lsn of the oldest record there is, or can be; none without a segment.
    pub fn first_lsn(&self) -> Option<u64> {
        self.core.table().live.values().next().map(|live| live.header.first_lsn)
    }

    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.core))
    }

    /// Starts the threads. `prepare` runs first on the committing one (its priority is the caller's business); `observer` is
    /// called there for every record that has become durable, in lsn order, before whoever appended it hears of it.
    pub fn start(
        self,
        prepare: impl FnOnce() + Send + 'static,
        observer: impl FnMut(Committed<'_>) + Send + 'static,
    ) -> Result<Journal, OpenError> {
        let Idle { core, writer, clock } = self;
        let (queue, appended, tend) = (Mutex::default(), Condvar::new(), Condvar::new());
        let background = Worker::start(Arc::clone(&core))?;
        let shared = Arc::new(Shared { core, queue, appended, tend });
        // Dropped with what did start, when one does not.
        let nobody = Waiter::nobody();
        let mut journal = Journal { shared: Arc::clone(&shared), background, threads: Vec::new(), nobody };
        let theirs = Arc::clone(&shared);
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
            thread.map_err(|source| OpenError::Thread { source })
        };
        let committing = move || {
            prepare();
            Committing { shared: theirs, writer, clock, observer: Box::new(observer), rung: Vec::new() }.run();
        };
        journal.threads.push(spawn("journal", Box::new(committing))?);
        journal.threads.push(spawn("journal-tend", Box::new(move || shared.tend()))?);
        Ok(journal)
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poke_tending(&self) {
        if self.core.shelf.has_work() {
            self.queue().tend = true;
            self.tend.notify_one();
        }
    }

    /// Has room ready, until the journal closes.
    fn tend(&self) {
        loop {
            {
                let mut queue = self.queue();
                while !queue.tend && !queue.is_closing {
                    queue = self.tend.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                if queue.is_closing {
                    return;
                }
                queue.tend = false;
            }
            if let Err(err) = self.core.tend() {
                warn!(%err, "room for the journal cannot be made ready; tried again");
                let queue = self.queue();
                let paused = self.tend.wait_timeout_while(queue, TEND_PAUSE, |queue| !queue.is_closing);
                drop(paused);
                self.poke_tending();
            }
        }
    }
}

/// The committing thread.
struct Committing {
    shared: Arc<Shared>,
    writer: Writer,
    clock: Clock,
    observer: Box<dyn FnMut(Committed<'_>) + Send>,
    /// Waiters that got something in this commit.
    rung: Vec<Waiter>,
}

impl Committing {
    fn run(mut self) {
        let (mut groups, mut owners) = (Vec::new(), Vec::new());
        while self.take(&mut groups, &mut owners) {
            let mut from = 0;
            while from < groups.len() {
                let chunk = chunk(&groups, from);
                self.commit(&groups[chunk.clone()], &owners[chunk.clone()]);
                from = chunk.end;
            }
            groups.clear();
            owners.clear();
            self.shared.poke_tending();
        }
        self.writer.mark(self.clock.now());
    }

    /// Waits for something to do. False: closed, and nothing is left.
    fn take(&mut self, groups: &mut Vec<Group>, owners: &mut Vec<Owner>) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.queue();
        loop {
            if std::mem::take(&mut queue.reopen) {
                drop(queue);
                if let Err(err) = self.writer.reopen(self.clock.now()) {
                    warn!(%err, "the journal stays read-only");
                }
                queue = shared.queue();
            }
            if !queue.groups.is_empty() {
                std::mem::swap(&mut queue.groups, groups);
                std::mem::swap(&mut queue.owners, owners);
                return true;
            }
            if queue.is_closing {
                queue.is_closed = true;
                return false;
            }
            queue.is_parked = true;
            let (back, timeout) =
                shared.appended.wait_timeout(queue, MARK_AFTER).unwrap_or_else(PoisonError::into_inner);
            queue = back;
            queue.is_parked = false;
            if timeout.timed_out() && queue.groups.is_empty() && !queue.is_closing {
                drop(queue);
                self.writer.mark(self.clock.now());
                queue = shared.queue();
            }
        }
    }

    fn commit(&mut self, groups: &[Group], owners: &[Owner]) {
        let results = self.writer.commit(groups, self.clock.now(), &mut *self.observer);
        {
            let mut queue = self.shared.queue();
            queue.waiting_groups -= groups.len();
            queue.waiting_bytes -= groups.iter().map(Group::room).sum::<usize>();
            let metrics = &self.shared.core.metrics;
            metrics.waiting_groups.set(queue.waiting_groups as u64);
            metrics.waiting_bytes.set(queue.waiting_bytes as u64);
        }
        for (Owner { ticket, waiter }, result) in owners.iter().zip(results) {
            waiter.push(Completion { ticket: *ticket, result });
            if !self.rung.iter().rev().any(|rung| rung.is(waiter)) {
                self.rung.push(waiter.clone());
            }
        }
        self.rung.drain(..).for_each(|waiter| waiter.ring());
    }
}

/// Nobody waits for ever when the thread panics: our bug, and loud, but appends are refused.
impl Drop for Committing {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.is_closed = true;
        let owners = std::mem::take(&mut queue.owners);
        queue.groups.clear();
        drop(queue);
        for Owner { ticket, waiter } in owners {
            waiter.push(Completion { ticket, result: Err(Refused::Unknown) });
            waiter.ring();
        }
    }
}

/// Groups from `from` on that one persist shall cover.
fn chunk(groups: &[Group], from: usize) -> Range<usize> {
    let mut bytes = 0;
    let fits = |group: &&Group| {
        bytes += group.room();
        bytes <= COMMIT_BYTES_MAX
    };
    let count = groups[from..].iter().take_while(fits).count().max(1);
    from..from + count
}

/// The clock of the shell.
struct Clock {
    began: Instant,
}

impl Clock {
    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now {
            wall_ms: i64::try_from(wall.as_millis()).unwrap_or(i64::MAX),
            monotonic_ms: self.began.elapsed().as_millis() as u64,
        }
    }
}

/// Salts from the system.
pub fn random() -> Random {
    Box::new(|| {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has random numbers");
        bytes
    })
}

/// How the committing thread stands among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    Raised,
    /// The system does not allow more: with busy cores a commit may wait for the scheduler, some 4 ms.
    Ordinary,
}

/// Raises the priority of the calling thread, as far as the system allows.
pub fn raise_priority() -> Priority {
    // On Linux a priority is a thread's, and none given is the calling one.
    match rustix::process::setpriority_process(None, -10) {
        Ok(()) => Priority::Raised,
        Err(_) => Priority::Ordinary,
    }
}
