//! Tables are read again in search of rot, before somebody needs them: while there is nothing else to do, at a pace.
//!
//! A rotten block is told once, with what to do. Its jobs are parked as if they were due and could not be read, so that their
//! owner hears of it now and not in a year; then what is left of the table is written anew. A rotten index or directory
//! costs nobody a job: the table is written anew.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use disk::WaitedDisk;
use journal::Waiter;
use tracing::{error, info, warn};

use super::tables::chain;
use super::{Shared, Tables};
use crate::limits::{LIST_MAX, PARKED_MAX, ROTTEN_TOLD_MAX, SCRUB_BURST, SCRUB_FIRST_AFTER};
use crate::log::Reason;
use crate::table::{Rotten, Scrub, Table};

/// The log answers within this, or not.
const PATIENCE: Duration = Duration::from_secs(10);
/// Numbers of jobs that a line of the log names.
const NAMED_MAX: usize = 10;

/// See the module.
pub(super) struct Scrubber {
    shared: Arc<Shared>,
    began_at: Instant,
    /// When the next pass begins.
    next_at: Instant,
    pass: Option<Pass>,
    /// Up to when what was read has been paid for.
    paid_until: Instant,
    told: Told,
}

/// All tables that were there when it began, by number.
struct Pass {
    last: u64,
    number: u64,
    scrub: Scrub,
    /// That it cannot read was told.
    is_failing: bool,
}

/// Places, the oldest first.
#[derive(Default)]
struct Told {
    places: BTreeSet<(PathBuf, u64)>,
    in_order: VecDeque<(PathBuf, u64)>,
}

impl Told {
    /// Whether it is news.
    fn tell(&mut self, rotten: &Rotten) -> bool {
        let place = (rotten.file.clone(), rotten.at);
        if !self.places.insert(place.clone()) {
            return false;
        }
        self.in_order.push_back(place);
        if self.in_order.len() > ROTTEN_TOLD_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.places.remove(&oldest);
        }
        true
    }
}

impl Scrubber {
    pub fn new(shared: Arc<Shared>, now: Instant) -> Scrubber {
        let next_at = now + SCRUB_FIRST_AFTER.min(shared.config.limits.scrub_every);
        Scrubber { shared, began_at: now, next_at, pass: None, paid_until: now, told: Told::default() }
    }

    /// Reads what the pace allows by now.
    pub async fn turn<D: WaitedDisk>(&mut self, disk: &D) {
        let now = Instant::now();
        self.paid_until = self.paid_until.max(now.checked_sub(SCRUB_BURST).unwrap_or(now));
        while self.paid_until <= now && !self.shared.is_closing() {
            let (tables, _) = self.shared.tables();
            let Some(table) = self.table(&tables, now) else { return };
            let Some(pass) = &mut self.pass else { return };
            match pass.scrub.step(disk, &table).await {
                Ok(Some(scrubbed)) => {
                    self.shared.scrubbed_bytes.fetch_add(scrubbed.bytes, Ordering::Relaxed);
                    let pace = self.shared.config.limits.scrub_bytes_per_second.max(1);
                    self.paid_until += Duration::from_secs_f64(scrubbed.bytes as f64 / pace as f64);
                    if let Some(rotten) = scrubbed.rotten {
                        self.found(disk, &table, &rotten, true).await;
                    }
                }
                Ok(None) => (pass.number, pass.scrub) = (pass.number + 1, Scrub::new()),
                Err(err) => {
                    if !std::mem::replace(&mut pass.is_failing, true) {
                        warn!(%err, "places of tables of jobs cannot be checked now; the next pass tries again");
                    }
                    return;
                }
            }
        }
    }

    /// The table that is checked; none: nothing is to be checked now.
    fn table(&mut self, tables: &Tables, now: Instant) -> Option<Arc<Table>> {
        if self.pass.is_none() && self.next_at <= now {
            self.began_at = now;
            self.next_at = now + self.shared.config.limits.scrub_every;
            let last = tables.last_key_value().map_or(0, |(last, _)| *last);
            self.pass = Some(Pass { last, number: 0, scrub: Scrub::new(), is_failing: false });
        }
        let pass = self.pass.as_mut()?;
        let next = tables.range(pass.number..=pass.last.max(pass.number)).next();
        let Some((number, table)) = next.filter(|(number, _)| **number <= pass.last) else {
            if pass.last > 0 {
                info!(took = ?self.began_at.elapsed(), "all tables of jobs were checked for rot");
            }
            self.pass = None;
            return None;
        };
        if pass.number != *number {
            (pass.number, pass.scrub) = (*number, Scrub::new());
        }
        Some(Arc::clone(table))
    }

    /// Something of a table is rotten: told once, its jobs parked, the table renewed. `is_left`: the table is there afterwards.
    pub async fn found<D: WaitedDisk>(&mut self, disk: &D, table: &Table, rotten: &Rotten, is_left: bool) {
        let is_news = self.told.tell(rotten);
        let number = table.meta().number;
        let jobs = match table.block_of(rotten) {
            Some(block) => table.jobs_of(disk, block, PARKED_MAX, &self.shared.is_closing).await,
            None => Ok(Vec::new()),
        };
        if self.shared.is_closing() {
            return; // these are not all of them; the next start finds it again
        }
        let parked = jobs.map_err(|err| chain(&err)).and_then(|jobs| self.park(&jobs));
        if is_news {
            self.shared.lost.fetch_add(rotten.rows, Ordering::Relaxed);
            self.shared.rotten.fetch_add(1, Ordering::Relaxed);
            tell(number, rotten, &parked, is_left);
        }
        if is_left && parked.is_ok() {
            self.shared.book().renew(number);
        }
    }

    /// Parks those that wait. Their numbers; an error: some are not.
    fn park(&self, jobs: &[(crate::Key, u32)]) -> Result<Vec<u64>, String> {
        let now_ms = self.shared.now_ms();
        let sentence = "the message is rotten on the gateway's disk".into();
        let reason = Reason { code: "rotten".into(), sentence };
        let (ring, rang) = channel();
        let waiter = Waiter::new(move || ring.send(()).unwrap_or_default());
        let (mut appended, seqs, has_room) = {
            // Under the lock, so that nobody moves one of them in between.
            let book = self.shared.book();
            let (notes, has_room) = book.park_rotten(jobs, &reason, now_ms);
            for notes in notes.chunks(LIST_MAX) {
                self.shared.append(notes.to_vec(), 0, &waiter).map_err(|err| err.to_string())?;
            }
            let seqs: Vec<u64> = notes.iter().map(|note| note.sequence).collect();
            (notes.len().div_ceil(LIST_MAX), seqs, has_room)
        };
        // Durable, before their table is written without them.
        let until = Instant::now() + PATIENCE;
        let mut completions = Vec::new();
        while appended > 0 {
            let wait = until.saturating_duration_since(Instant::now());
            rang.recv_timeout(wait).map_err(|_| "the log does not answer".to_owned())?;
            waiter.take(&mut completions);
            for completion in completions.drain(..) {
                completion.result.map_err(|err| err.to_string())?;
                appended -= 1;
            }
        }
        match has_room && jobs.len() < PARKED_MAX {
            true => Ok(seqs),
            false => Err(format!("{PARKED_MAX} jobs are parked, which is all there is room for")),
        }
    }
}

/// One line for whoever is paged.
fn tell(table: u64, rotten: &Rotten, parked: &Result<Vec<u64>, String>, is_left: bool) {
    match parked {
        Ok(jobs) if rotten.rows == 0 && jobs.is_empty() => {
            error!(table, %rotten, "a table of jobs is rotten where no job is lost by it; it is written anew; look at the disk");
        }
        Ok(jobs) => error!(
            table,
            %rotten,
            parked = jobs.len(),
            first = ?&jobs[..jobs.len().min(NAMED_MAX)],
            "jobs are rotten on the disk: those that wait are parked with the code rotten and the rest of the table is written \
             anew; look at the disk, and drop them or have them added again"
        ),
        Err(err) if is_left => error!(
            table,
            %rotten,
            err,
            "jobs are rotten on the disk, and not all of them can be parked now: the others are parked when they are due; look at \
             the disk"
        ),
        Err(err) => error!(
            table,
            %rotten,
            err,
            "jobs are rotten on the disk and not all of them can be parked: the others never fire, and only the log of who added \
             them says which they are; look at the disk"
        ),
    }
}
