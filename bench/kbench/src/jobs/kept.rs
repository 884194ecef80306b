//! A store on real files in this process, opened as a gateway opens it; what is due is at once said to have fired.

use std::path::Path;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use ::disk::{Device, Disk, Files};
use ::jobs::book::{QueueId, Refused};
use ::jobs::limits::{LIST_MAX, Limits};
use ::jobs::log::Name;
use ::jobs::store::{AddError, Config, Job, NewJob, Opened, Outcome, Store};
use ::jobs::table;
use ::journal::Waiter;
use anyhow::{Result, bail};

use crate::limits::{JOBS_FILL_GROUP, JOBS_FILL_GROUP_BYTES, JOBS_FILL_WAITING, JOBS_FULL_PAUSE};
use crate::publish::message;

/// See the module. Dropping it closes the store.
pub struct Kept {
    store: Option<Arc<Store>>,
    pub found: Found,
}

/// What a start found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Found {
    pub pending: u64,
    pub tables: usize,
    pub without_book: bool,
    /// Stretches of the log that are rotten.
    pub lost: usize,
    pub took: Duration,
}

/// Jobs of these benches are of this account, but for those beside a burst.
pub const ACCOUNT: &str = "bench";

pub fn name(account: &str, subject: &str) -> Name {
    Name { account: account.into(), subject: subject.into() }
}

impl Kept {
    /// `look` sees what is due, as soon as it is given out.
    pub fn open(dir: &Path, look: impl Fn(&[Job]) + Send + Sync + 'static) -> Result<Kept> {
        let disk: Arc<dyn Disk> = Arc::new(Files::with_device(Device::Mapped, |_| Ok(()), || {}, || {})?);
        let config = Config {
            dir: dir.join("jobs"),
            node: "kbench".to_owned(),
            node_number: 1,
            limits: Limits::default(),
            table_limits: table::Limits::default(),
            floor_bytes: 0,
            journal: |config| config,
        };
        let to_settle: Arc<OnceLock<Weak<Store>>> = Arc::default();
        let deliver = {
            let to_settle = Arc::clone(&to_settle);
            move |jobs: Vec<Job>| {
                look(&jobs);
                // What fires before the store is out of its constructor waits for it.
                if let Some(store) = to_settle.wait().upgrade() {
                    fired(&jobs).into_iter().for_each(|outcome| store.settle(outcome));
                }
            }
        };
        let prepare = || {
            ::journal::raise_priority();
        };
        let opened = Store::open(config, disk, ::journal::random(), prepare, Box::new(deliver))?;
        let Opened { store, pending, tables, without_book, lost, took, .. } = opened;
        let store = Arc::new(store);
        assert!(to_settle.set(Arc::downgrade(&store)).is_ok(), "it is set once");
        Ok(Kept { store: Some(store), found: Found { pending, tables, without_book, lost: lost.len(), took } })
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open until it is dropped")
    }

    /// Adds so many jobs of one queue, many at a time. `due_ms` says when each is due, `added` hears their first number and
    /// when they are due. How often the store had no room.
    pub fn fill(
        &self,
        name: &Name,
        count: u64,
        size: usize,
        mut due_ms: impl FnMut(u64) -> i64,
        mut added: impl FnMut(u64, &[i64]),
    ) -> Result<u64> {
        let this = std::thread::current();
        let waiter = Waiter::new(move || this.unpark());
        let body = message(size);
        let group = (JOBS_FILL_GROUP_BYTES / size.max(1)).clamp(1, JOBS_FILL_GROUP) as u64;
        let (mut sent, mut waiting, mut full) = (0, 0, 0);
        let mut completions = Vec::new();
        let mut dues: Vec<i64> = Vec::new();
        while sent < count || waiting > 0 || !dues.is_empty() {
            let mut pause = None;
            while waiting < JOBS_FILL_WAITING && (sent < count || !dues.is_empty()) {
                if dues.is_empty() {
                    dues.extend((sent..(sent + group).min(count)).map(&mut due_ms));
                    sent += dues.len() as u64;
                }
                let jobs: Vec<NewJob<'_>> =
                    dues.iter().map(|due_ms| NewJob { due_ms: *due_ms, key: None, own: &body }).collect();
                match self.store().add(name, &jobs, 0, &waiter) {
                    Ok(first) => added(first, &dues),
                    Err(error) if is_full(&error) => {
                        full += 1;
                        pause = Some(JOBS_FULL_PAUSE);
                        break;
                    }
                    Err(error) => bail!("the store refused an add: {error}"),
                }
                waiting += 1;
                dues.clear();
            }
            waiter.take(&mut completions);
            if completions.is_empty() {
                pause.map_or_else(std::thread::park, std::thread::park_timeout);
            }
            for completion in completions.drain(..) {
                waiting -= 1;
                if let Err(refused) = completion.result {
                    bail!("the log refused an add: {refused}");
                }
            }
        }
        Ok(full)
    }
}

/// Jobs come faster than tables are written: try again in a moment.
pub fn is_full(error: &AddError) -> bool {
    matches!(error, AddError::Refused(Refused::Memory) | AddError::Log(::journal::Refused::Waiting))
}

/// All of them are with Kafka: so much in one word as a record of the log holds.
fn fired(jobs: &[Job]) -> Vec<Outcome> {
    let mut by_queue: Vec<(QueueId, Vec<u64>)> = Vec::new();
    for job in jobs {
        match by_queue.iter_mut().find(|(queue, seqs)| *queue == job.queue && seqs.len() < LIST_MAX) {
            Some((_, seqs)) => seqs.push(job.key.seq),
            None => by_queue.push((job.queue, vec![job.key.seq])),
        }
    }
    by_queue
        .into_iter()
        .map(|(queue, mut seqs)| {
            seqs.sort_unstable();
            Outcome::Fired { queue, seqs, partition: -1, offset: -1 }
        })
        .collect()
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Never the last one on a thread of the store: that would wait for itself.
        let mut store = self.store.take();
        while let Some(left) = store.take() {
            match Arc::try_unwrap(left) {
                Ok(store) => store.close(),
                Err(shared) => {
                    std::thread::yield_now();
                    store = Some(shared);
                }
            }
        }
    }
}

/// Looks until it is so, or so long.
pub fn until(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    loop {
        if is_so() {
            return true;
        }
        if began.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::TempDir;
    use ::jobs::Key;
    use bytes::Bytes;

    #[test]
    fn everything_filled_in_is_there_after_a_start_and_when_it_was_due_is_told() {
        let dir = TempDir::new().expect("a directory");
        let far_ms = i64::MAX / 4;
        let kept = Kept::open(&dir.path, |_| {}).expect("a store");
        let mut dues = Vec::new();
        let name = name(ACCOUNT, "fill");
        kept.fill(&name, 2_500, 10, |index| far_ms - index as i64, |_, of| dues.extend_from_slice(of)).expect("jobs");
        assert_eq!(kept.found.pending, 0);
        assert_eq!(dues, (0..2_500).map(|index| far_ms - index).collect::<Vec<_>>());
        assert_eq!(kept.store().counts().pending, 2_500);
        drop(kept);
        assert_eq!(Kept::open(&dir.path, |_| {}).expect("the store").found.pending, 2_500);
    }

    #[test]
    fn what_fired_is_said_by_queue_ascending() {
        let job = |queue, seq| Job {
            queue: QueueId(queue),
            name: Arc::new(name(ACCOUNT, "q")),
            key: Key { due_ms: 1, seq },
            attempts: 0,
            doubt_since_ms: None,
            body: Bytes::new(),
        };
        let outcomes = fired(&[job(2, 9), job(1, 4), job(2, 3)]);
        let seqs: Vec<_> = outcomes
            .iter()
            .map(|outcome| match outcome {
                Outcome::Fired { queue, seqs, .. } => (queue.0, seqs.clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(seqs, [(2, vec![3, 9]), (1, vec![4])]);
        let many: Vec<Job> = (0..LIST_MAX as u64 + 1).map(|seq| job(1, seq)).collect();
        assert_eq!(fired(&many).len(), 2);
    }
}
