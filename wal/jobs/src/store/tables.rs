//! The thread that writes: memory into tables, tables into fewer, snapshots, and what goes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use disk::ring::Ring;
use disk::{AtOnce, WaitedDisk, at_once};
use glommio::LocalExecutor;
use journal::Background;
use tracing::{error, info, warn};

use super::merging::{Done, Merging};
use super::scrub::Scrubber;
use super::{Shared, book_file, replay};
use crate::book::{TableSeen, Work};
use crate::limits::{
    CHECKPOINT_AFTER, CHECKPOINT_AFTER_TABLE, CHECKPOINT_RECORDS, RING_DEPTH, RING_MEMORY_BYTES, TEND_EVERY,
};
use crate::memory::Generation;
use crate::table::{Meta, StoreId, Table, Target};

/// What failed is tried again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Old keys and ends are looked for this often: a walk over pages, under the lock.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// A table goes when none of the snapshots that are kept names it; a segment sooner.
const OWED: u8 = book_file::KEPT as u8;

pub(super) struct Keeper {
    shared: Arc<Shared>,
    dir: PathBuf,
    forgot_at: Instant,
    /// None: a snapshot is due now.
    written_at: Option<Instant>,
    written_lsn: u64,
    /// Snapshots that are owed to what may go.
    owed: u8,
    next_book: u64,
    /// Tables the last snapshots name, newest last.
    named: VecDeque<BTreeSet<u64>>,
    /// Tables that are over, until no snapshot names them.
    over: BTreeMap<u64, Meta>,
    /// The last failure that was told.
    is_failing: bool,
    scrubber: Scrubber,
}

impl Keeper {
    /// `is_owed`: the start wrote tables, which no snapshot names.
    pub fn new(shared: Arc<Shared>, next_book: u64, is_owed: bool) -> Keeper {
        let dir = shared.config.dir.join(super::open::TABLES);
        let named = shared.book().keeping().tables().map(|table| table.number).collect();
        let now = Instant::now();
        Keeper {
            scrubber: Scrubber::new(Arc::clone(&shared), now),
            shared,
            dir,
            forgot_at: now,
            written_at: (!is_owed).then(Instant::now),
            written_lsn: 0,
            owed: if is_owed { OWED } else { 0 },
            next_book,
            named: VecDeque::from([named]),
            over: BTreeMap::new(),
            is_failing: false,
        }
    }

    /// On this thread, until the store is over: on a ring of its own where the log has one, and where there can be another.
    pub fn run_here(mut self) {
        let disk = Arc::clone(&self.shared.disk);
        if self.shared.journal.background() == Background::Ring
            && let Some(executor) = executor()
        {
            let shared = Arc::clone(&self.shared);
            shared.is_on_ring.store(true, Ordering::Relaxed);
            let on_ring = || executor.run(async { self.run(&Ring::new(&*disk)).await });
            if catch_unwind(AssertUnwindSafe(on_ring)).is_ok() {
                return;
            }
            shared.is_on_ring.store(false, Ordering::Relaxed);
            error!("the ring of the tables of jobs panicked, which is a bug; they go on without it");
        }
        at_once(self.run(&AtOnce(&*disk)));
    }

    /// The only task of its thread, so it may sleep there.
    async fn run<D: WaitedDisk>(&mut self, disk: &D) {
        let dir = self.dir.clone();
        let mut merging: Option<Merging<'_>> = None;
        loop {
            let is_over = self.shared.is_over.load(Ordering::Acquire);
            if self.shared.is_closing() {
                // It stops at its next block, and removes what it made.
                while merging.is_some() {
                    drop(self.go_on(disk, &mut merging).await);
                }
                if !is_over {
                    self.shared.tend.wait(TEND_EVERY);
                    continue;
                }
            }
            if !is_over {
                let done = match self.next_work(merging.is_some()) {
                    Some(Work::Merge { inputs, number, tier }) => {
                        let which = (inputs, number, tier);
                        merging = Some(Merging::new(disk, Arc::clone(&self.shared), &dir, self.store(), which));
                        Ok(true)
                    }
                    Some(Work::Write { generation, number }) => {
                        self.write(disk, &generation, number).await.map(|()| true)
                    }
                    Some(Work::Count { number }) => self.count(disk, number).await.map(|()| true),
                    None if merging.is_some() => self.go_on(disk, &mut merging).await.map(|()| true),
                    None => Ok(false),
                };
                self.rest_after(disk, done).await;
            }
            if let Err(err) = self.snapshot(disk, is_over).await {
                self.written_at = Some(Instant::now());
                warn!(%err, "no snapshot of jobs; a start reads more of the log");
            }
            if is_over {
                return;
            }
        }
    }

    /// While a merge runs, what memory has is all that cannot wait.
    fn next_work(&mut self, is_merging: bool) -> Option<Work> {
        let now_ms = self.shared.now_ms();
        let mut book = self.shared.book();
        if self.forgot_at.elapsed() >= FORGET_EVERY {
            self.forgot_at = Instant::now();
            book.forget(now_ms);
        }
        if is_merging { book.work_beside_merge() } else { book.work() }
    }

    /// `done`: whether there was anything to do.
    async fn rest_after<D: WaitedDisk>(&mut self, disk: &D, done: Result<bool, String>) {
        match done {
            Ok(true) => self.is_failing = false,
            Err(err) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(%err, "tables of jobs cannot be written; new jobs are refused when memory is full; tried again");
                }
                self.shared.tend.wait(AGAIN_AFTER);
            }
            Ok(false) => {
                self.scrubber.turn(disk).await;
                self.shared.tend.wait(TEND_EVERY);
            }
        }
    }

    /// A piece of the merge.
    async fn go_on<D: WaitedDisk>(&mut self, disk: &D, merging: &mut Option<Merging<'_>>) -> Result<(), String> {
        let Some(running) = merging else { return Ok(()) };
        let Some(done) = running.piece().await else { return Ok(()) };
        *merging = None;
        self.merged(disk, done?).await;
        Ok(())
    }

    fn store(&self) -> StoreId {
        self.shared.journal.id().expect("what is written to tables was in the log")
    }

    async fn write<D: WaitedDisk>(&mut self, disk: &D, generation: &Generation, number: u64) -> Result<(), String> {
        let target = Target { dir: &self.dir, store: self.store(), number, tier: 0 };
        let (limits, stop) = (self.shared.config.table_limits, &self.shared.is_closing);
        let opened = replay::write(disk, target, generation, limits, stop).await?;
        self.install(opened, |book, seen| book.written(seen));
        self.owed = OWED;
        Ok(())
    }

    async fn merged<D: WaitedDisk>(&mut self, disk: &D, done: Done) {
        let Done { merged, opened, inputs } = done;
        let has_lost = !merged.lost.is_empty();
        for rotten in merged.lost {
            let table = inputs.iter().find(|table| table.block_of(&rotten).is_some());
            let table = table.expect("what a merge does not find is a block of an input");
            // Their rows are in no table any more: parked now, or nobody ever hears of them.
            self.scrubber.found(disk, table, &rotten, false).await;
        }
        if has_lost && self.shared.is_closing() {
            return; // nobody is told any more: the inputs stay, and the next start removes the files
        }
        let numbers: Vec<u64> = inputs.iter().map(|input| input.meta().number).collect();
        self.over.extend(inputs.iter().map(|input| (input.meta().number, input.meta().clone())));
        self.install(opened, |book, seen| book.merged(&numbers, seen));
        let mut tables = self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let left = tables.iter().filter(|(number, _)| !numbers.contains(number));
        *tables = Arc::new(left.map(|(number, table)| (*number, Arc::clone(table))).collect());
        self.owed = OWED;
    }

    async fn count<D: WaitedDisk>(&mut self, disk: &D, number: u64) -> Result<(), String> {
        let (tables, _) = self.shared.tables();
        let Some(table) = tables.get(&number) else { return Ok(()) };
        let alive = self.shared.book().alive();
        let mut waiting = 0;
        let counted = table.each_number(disk, &self.shared.is_closing, |seq, due_ms, _| {
            waiting += u64::from(alive.has(seq, due_ms));
        });
        let counted = counted.await;
        // One that cannot be counted is left as it is.
        counted.map_err(|err| chain(&err))?;
        self.shared.book().counted(number, waiting);
        Ok(())
    }

    /// Readers and book see it at once.
    fn install(&self, opened: Option<Arc<Table>>, tell: impl FnOnce(&mut crate::book::Book, Option<TableSeen>)) {
        let mut book = self.shared.book();
        let mut tables = self.shared.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = opened.as_ref().map(|table| seen(table.meta()));
        if let Some(table) = opened {
            let mut all = BTreeMap::clone(&tables);
            all.insert(table.meta().number, table);
            *tables = Arc::new(all);
        }
        tell(&mut book, seen);
    }

    /// Writes down what is known, and lets go what nobody needs.
    async fn snapshot<D: WaitedDisk>(&mut self, disk: &D, is_last: bool) -> Result<(), String> {
        let shared = Arc::clone(&self.shared);
        let snapshot = {
            let book = shared.book();
            let news = book.applied_lsn().saturating_sub(self.written_lsn);
            // Soon after a table, too: what is in one need not be read again from the log.
            let after = if self.owed == OWED { CHECKPOINT_AFTER_TABLE } else { CHECKPOINT_AFTER };
            let is_time =
                self.written_at.is_none_or(|at| at.elapsed() >= after) || news >= CHECKPOINT_RECORDS || is_last;
            if !is_time || news == 0 && self.owed == 0 {
                return Ok(());
            }
            book.snapshot()
        };
        let Some(store) = shared.journal.id() else { return Ok(()) };
        let tables: BTreeSet<u64> = snapshot.tables().collect();
        let number = self.next_book;
        let written = book_file::write(disk, &self.dir, &store, number, snapshot.encode()).await;
        written.map_err(|err| err.to_string())?;
        self.next_book += 1;
        for segment in shared.journal.segments_before(snapshot.begin_lsn) {
            shared.journal.free(segment);
        }
        shared.journal.checkpoint(snapshot.lsn, number.to_le_bytes().to_vec()).map_err(|err| chain(&err))?;
        (self.written_at, self.written_lsn) = (Some(Instant::now()), snapshot.lsn);
        self.owed = self.owed.saturating_sub(1);
        self.named.push_back(tables);
        while self.named.len() > book_file::KEPT {
            self.named.pop_front();
        }
        self.remove().map_err(|err| err.to_string())
    }

    fn remove(&mut self) -> io::Result<()> {
        book_file::remove_old(&*self.shared.disk, &self.dir, book_file::KEPT)?;
        let named = &self.named;
        let gone = self.over.extract_if(.., |number, _| named.iter().all(|named| !named.contains(number)));
        for (number, meta) in gone {
            for name in meta.names() {
                if let Err(err) = self.shared.disk.remove(&self.dir.join(&name))
                    && err.kind() != io::ErrorKind::NotFound
                {
                    warn!(table = number, name, %err, "a file of jobs that are over stays until the next start");
                }
            }
        }
        Ok(())
    }
}

/// A table that was written a moment ago.
pub(super) async fn open<D: WaitedDisk>(
    disk: &D,
    dir: &Path,
    store: StoreId,
    meta: &Meta,
) -> Result<Arc<Table>, String> {
    let (table, rotten) = Table::open(disk, dir, store, meta).await.map_err(|err| chain(&err))?;
    rotten.iter().for_each(|rotten| error!(%rotten, "a table of jobs is rotten as soon as it is written"));
    Ok(Arc::new(table))
}

/// A ring for this thread, if there can be one.
fn executor() -> Option<LocalExecutor> {
    let made = disk::ring::executor("jobs-tables", RING_MEMORY_BYTES, RING_DEPTH);
    let warned = |err: &io::Error| {
        warn!(
            %err,
            "tables of jobs cannot have an io_uring, so they are written on a plain thread; allow io_uring in the container's \
             seccomp profile, and more locked memory (ulimit -l)"
        );
    };
    made.inspect_err(warned).ok()
}

/// As the book knows a table.
pub(super) fn seen(meta: &Meta) -> TableSeen {
    let mut bytes = Vec::new();
    meta.encode(&mut bytes);
    TableSeen {
        number: meta.number,
        tier: meta.tier,
        rows: meta.rows,
        seq_min: meta.seq_min,
        seq_max: meta.seq_max,
        meta: bytes.into(),
    }
}

/// An error and what is behind it.
pub(super) fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        text = format!("{text}: {err}");
        source = err.source();
    }
    text
}

/// At the end of the process.
pub(super) fn say_what_stays(pending: u64) {
    if pending > 0 {
        info!(pending, "jobs wait on this node's disk: the next start on this directory goes on with them");
    }
}
