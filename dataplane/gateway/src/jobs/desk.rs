//! The store of delayed jobs of this process, and how shards hear from it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ::jobs::JobId;
use ::jobs::book::QueueId;
use ::jobs::id::node_number;
use ::jobs::limits::Limits;
use ::jobs::store::{Config, Job, LookWaiter, Opened, Outcome, Store};
use ::jobs::table;
use disk::{Disk, Files};
use journal::Waiter;
use runtime::mailbox::Sender;

use crate::config::{HandoffDevice, JobsConfig};
use crate::device;
use crate::env::board::JobsHealth;
use crate::env::metrics::OfAppLabels;

/// Where this node's jobs are, and whose they are.
#[derive(Debug, Clone)]
pub struct JobsPlace {
    /// Made when it is not there; nobody else has it while this process lives.
    pub dir: PathBuf,
    pub node: String,
}

/// See the module.
pub struct Desk {
    store: Store,
    trays: Arc<Trays>,
    node_number: u16,
    /// New jobs are taken; what is there fires in any case.
    takes: bool,
}

/// What is due, by the shard that gives it to Kafka.
struct Trays {
    bells: Vec<Sender<()>>,
    due: Vec<Mutex<Vec<Job>>>,
}

/// How one shard hears from the store.
pub struct Door {
    shard: usize,
    pub waiter: Waiter,
    pub looks: LookWaiter,
}

impl Desk {
    /// Opens the store. `bells`: one for each shard.
    pub fn open(place: &JobsPlace, config: &JobsConfig, bells: Vec<Sender<()>>) -> io::Result<Arc<Desk>> {
        let JobsPlace { dir, node } = place;
        let parent = dir.parent().unwrap_or(dir);
        std::fs::create_dir_all(parent)?;
        let device = device::choose(HandoffDevice::Auto, parent);
        let disk: Arc<dyn Disk> = Arc::new(Files::with_device(device, |_| Ok(()), || {}, || {})?);
        let total_bytes = disk.space(parent)?.total_bytes;
        let node_number = node_number(node);
        let store_config = Config {
            dir: dir.clone(),
            node: node.clone(),
            node_number,
            limits: Limits::default(),
            table_limits: table::Limits::default(),
            floor_bytes: config.free_bytes_min(total_bytes),
            journal: |config| config,
        };
        let due = bells.iter().map(|_| Mutex::default()).collect();
        let trays = Arc::new(Trays { bells, due });
        let deliver = {
            let trays = Arc::clone(&trays);
            move |jobs| trays.put(jobs)
        };
        let prepare = || {
            let _ = journal::raise_priority();
        };
        let failed =
            |err: ::jobs::store::OpenError| io::Error::other(format!("the store of delayed jobs: {}", chain(&err)));
        let opened = Store::open(store_config, disk, journal::random(), prepare, Box::new(deliver)).map_err(failed)?;
        tell(&opened);
        Ok(Arc::new(Desk { store: opened.store, trays, node_number, takes: config.enabled }))
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub fn takes(&self) -> bool {
        self.takes
    }

    pub fn node_number(&self) -> u16 {
        self.node_number
    }

    pub fn door(&self, shard: usize) -> Door {
        let bell = || {
            let bell = self.trays.bells[shard].clone();
            // A full doorbell rings already.
            move || drop(bell.try_send(()))
        };
        Door { shard, waiter: Waiter::new(bell()), looks: LookWaiter::new(bell()) }
    }

    /// From now on nothing more becomes due here.
    pub fn hold(&self) {
        self.store.hold();
    }

    /// At the end of the process: what is known is on the disk when this returns.
    pub fn close(&self) {
        self.store.close();
    }

    /// Whether something is due and this shard's.
    pub fn has_due(&self, door: &Door) -> bool {
        !self.trays.due[door.shard].lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What is due and this shard's.
    pub fn take(&self, door: &Door) -> Vec<Job> {
        std::mem::take(&mut *self.trays.due[door.shard].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What clients call a job that is durable.
    pub fn id_of(&self, queue: QueueId, seq: u64) -> JobId {
        let issuer = self.store.issuer().expect("what is durable gave the store its id");
        issuer.issue(queue.0, seq)
    }

    /// How the store is, in short.
    pub fn health(&self) -> JobsHealth {
        let counts = self.store.counts();
        JobsHealth {
            pending: counts.pending,
            due: counts.due,
            in_flight: counts.in_flight,
            parked: counts.parked,
            lost: counts.lost,
        }
    }

    /// What waits and what is parked, by app.
    pub fn by_app(&self) -> Vec<(OfAppLabels, f64)> {
        let mut apps: BTreeMap<Arc<str>, Waiting> = BTreeMap::new();
        for queue in self.store.queues() {
            let waiting = apps.entry(Arc::clone(&queue.name.account)).or_default();
            waiting.pending += queue.pending;
            waiting.parked += queue.parked;
        }
        let labelled = |(app, waiting): (Arc<str>, Waiting)| {
            let of = |what, count: u64| (OfAppLabels { app: Arc::clone(&app), what }, count as f64);
            [of("pending", waiting.pending), of("parked", waiting.parked)]
        };
        with_most(apps, APPS_SHOWN_MAX).into_iter().flat_map(labelled).collect()
    }

    /// Bytes of the log's files.
    pub fn log_bytes(&self) -> u64 {
        let journal = self.store.journal();
        journal.segments().into_iter().filter_map(|segment| journal.segment_bytes(segment)).sum()
    }

    /// What became of jobs.
    pub fn settle(&self, outcome: Outcome) {
        self.store.settle(outcome);
    }
}

/// Apps that have a value of their own in metrics; all others have one together.
const APPS_SHOWN_MAX: usize = 99;

/// Jobs of an app.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Waiting {
    pending: u64,
    parked: u64,
}

/// The apps with the most jobs, by name, and what all others have together.
fn with_most(apps: BTreeMap<Arc<str>, Waiting>, count_max: usize) -> Vec<(Arc<str>, Waiting)> {
    let mut all: Vec<(Arc<str>, Waiting)> = apps.into_iter().collect();
    all.sort_by_key(|(_, waiting)| std::cmp::Reverse(waiting.pending));
    let rest = all.split_off(all.len().min(count_max));
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    if !rest.is_empty() {
        let sum = |of: fn(&Waiting) -> u64| rest.iter().map(|(_, waiting)| of(waiting)).sum();
        let others = Waiting { pending: sum(|waiting| waiting.pending), parked: sum(|waiting| waiting.parked) };
        all.push(("other".into(), others));
    }
    all
}

impl Trays {
    fn put(&self, jobs: Vec<Job>) {
        let mut rung = vec![false; self.bells.len()];
        for job in jobs {
            let shard = job.queue.0 as usize % self.bells.len();
            self.due[shard].lock().unwrap_or_else(PoisonError::into_inner).push(job);
            rung[shard] = true;
        }
        for (bell, _) in self.bells.iter().zip(rung).filter(|(_, rung)| *rung) {
            drop(bell.try_send(()));
        }
    }
}

/// Says what a start found.
fn tell(opened: &Opened) {
    let Opened { pending, in_doubt, lost, malformed, tables, without_book, took, .. } = opened;
    let took_ms = took.as_millis() as u64;
    if *without_book {
        tracing::error!(
            "no book of delayed jobs can be read: jobs of tables that fired or were deleted before the log begins fire again"
        );
    }
    if *malformed > 0 {
        tracing::error!(malformed, "records of the log of delayed jobs make no sense and were passed over");
    }
    for lost in lost {
        let (from, to, segment, at) = (lost.from_lsn, lost.to_lsn, lost.segment, lost.at);
        tracing::error!(from, to, segment, at, "records of the log of delayed jobs are rotten: jobs in them are lost");
    }
    match pending {
        0 => tracing::debug!(took_ms, "no delayed job waits"),
        _ => tracing::info!(pending, in_doubt, tables, took_ms, "delayed jobs wait here since before this start"),
    }
}

fn chain(err: &dyn std::error::Error) -> String {
    std::iter::successors(err.source(), |err| err.source()).fold(err.to_string(), |text, err| format!("{text}: {err}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_with_the_most_jobs_have_a_value_of_their_own_and_all_others_one_together() {
        let apps = |all: &[(&str, u64, u64)]| -> BTreeMap<Arc<str>, Waiting> {
            all.iter()
                .map(|(app, pending, parked)| ((*app).into(), Waiting { pending: *pending, parked: *parked }))
                .collect()
        };
        let shown = |all: &[(&str, u64, u64)]| -> Vec<(Arc<str>, Waiting)> {
            all.iter()
                .map(|(app, pending, parked)| ((*app).into(), Waiting { pending: *pending, parked: *parked }))
                .collect()
        };
        let all = [("a", 1, 1), ("b", 9, 0), ("c", 2, 2), ("d", 7, 3)];
        for (count_max, expected) in [
            (4, shown(&all)),
            (2, shown(&[("b", 9, 0), ("d", 7, 3), ("other", 3, 3)])),
            (0, shown(&[("other", 19, 6)])),
        ] {
            assert_eq!(with_most(apps(&all), count_max), expected);
        }
        assert_eq!(with_most(BTreeMap::new(), 2), []);
    }
}
