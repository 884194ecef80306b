//! Opens the journal of this node: which device, what is in it, who is told.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use disk::{Device, Disk, Files};
use journal::queue::{self, Budget, Committed, Keeping, Kind, Replayed};
use journal::{Journal, Lost, Waiter};
use runtime::mailbox::Sender;

use super::domains::Domains;
use super::store::{Door, Inner, Store, StoreParts};
use crate::config::HandoffConfig;
use crate::device;
use crate::limits::HANDOFF_RECORDS_MAX;
use journal::receipt_id::Issuer;

/// Where this node's journal is, and whose it is.
#[derive(Debug, Clone)]
pub struct HandoffPlace {
    /// Made when it is not there; nobody else has it while this process lives.
    pub dir: PathBuf,
    pub node: String,
}

/// Opens it, and has it recovered. `bells`: one for each shard.
pub fn open(place: &HandoffPlace, config: &HandoffConfig, bells: Vec<Sender<()>>) -> io::Result<Arc<Store>> {
    let HandoffPlace { dir, node } = place;
    let began = Instant::now();
    std::fs::create_dir_all(dir).map_err(|err| at(dir, "cannot make the directory of the journal", &err))?;
    let device = device::choose(config.device, dir);
    let disk: Arc<dyn Disk> = Arc::new(Files::with_device(device, |_| Ok(()), || {}, || {})?);
    let space = disk.space(dir).map_err(|err| at(dir, "cannot ask how much room there is", &err))?;
    let budget = Budget {
        bytes_max: config.bytes_max(space.free_bytes),
        subject_bytes_max: config.topic_bytes_max,
        account_bytes_max: config.app_bytes_max,
        records_max: HANDOFF_RECORDS_MAX,
        age_ms_max: config.age_max.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
    };
    let keeping = Keeping { receipts_ms: i64::try_from(config.receipts_keep.as_millis()).unwrap_or(i64::MAX) };
    let journal_config =
        journal::Config { floor_bytes: config.free_bytes_min(space.total_bytes), ..journal::Config::new(dir, node) };
    let open_failed = |err: journal::OpenError| io::Error::other(format!("the journal of handed-off messages: {err}"));
    let (idle, recovered) = Journal::recover(journal_config, disk, journal::random()).map_err(open_failed)?;
    let Replayed { queue, lost, malformed } =
        queue::replay(&recovered, &mut idle.reader(), budget, keeping).map_err(io::Error::other)?;
    let held = queue.usage();
    tell_lost(&lost, malformed, dir);
    tell(device, held.records, held.bytes, began);
    let applied_segment = idle.reader().segments().last().copied().unwrap_or(0);
    let inner = Inner { queue, domains: Domains::new(), applied_lsn: recovered.next_lsn, applied_segment };
    let inner = Arc::new(Mutex::new(inner));
    let journal = {
        let (inner, bells) = (Arc::clone(&inner), bells.clone());
        let observer = move |committed: journal::Committed<'_>| observe(&inner, &bells, &committed);
        let prepare = || match journal::raise_priority() {
            journal::Priority::Raised => {}
            journal::Priority::Ordinary => tracing::info!(
                "the journal's thread runs with ordinary priority: with busy cores a commit may wait for the scheduler"
            ),
        };
        idle.start(prepare, observer).map_err(open_failed)?
    };
    let (doors, issuer) = (bells.into_iter().map(door).collect(), Issuer::new(node.clone()));
    Ok(Arc::new(Store::new(
        StoreParts { journal, inner, doors, issuer, budget, device, takes: config.enabled },
        now_ms(),
    )))
}

/// A shard's door: the journal rings the shard's bell.
fn door(bell: Sender<()>) -> Door {
    let ring = {
        let bell = bell.clone();
        // A full doorbell rings already.
        move || drop(bell.try_send(()))
    };
    Door { waiter: Waiter::new(ring.clone()), reads: journal::ReadWaiter::new(ring), bell }
}

/// What the commit thread does for each record, before whoever appended it hears of it.
fn observe(inner: &Mutex<Inner>, bells: &[Sender<()>], committed: &journal::Committed<'_>) {
    let record = committed.record;
    let mut inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
    let told = Committed {
        stream: record.stream,
        kind: record.kind,
        sequence: record.sequence,
        place: committed.place.into(),
        bytes: record.body_bytes() as u32,
        wall_ms: committed.wall_ms,
        body: record.head(),
    };
    (inner.applied_lsn, inner.applied_segment) = (committed.lsn + 1, committed.place.segment);
    if let Err(err) = inner.queue.apply(&told) {
        unreachable!("the queue wrote a record that it cannot read: {err}");
    }
    drop(inner);
    if matches!(Kind::of(record.kind), Some(Kind::Entry | Kind::Sending)) {
        let owner = &bells[record.stream as usize % bells.len()];
        drop(owner.try_send(()));
    }
}

/// Says what was lost, for whoever looks after this node's disk.
pub(super) fn tell_lost(lost: &[Lost], malformed: u64, dir: &Path) {
    if malformed > 0 {
        tracing::error!(malformed, "records of the journal make no sense and were passed over");
    }
    for lost in lost {
        let (from, to, segment, at) = (lost.from_lsn, lost.to_lsn, lost.segment, lost.at);
        tracing::error!(
            from,
            to,
            segment,
            at,
            "acknowledged records of the journal are rotten on the disk: they cannot be delivered; a copy of the bytes is in \
             {}",
            dir.join("quarantine").display()
        );
    }
}

/// Says what was found.
fn tell(device: Device, records: u64, bytes: u64, began: Instant) {
    let took_ms = began.elapsed().as_millis() as u64;
    if records > 0 {
        tracing::info!(
            records,
            bytes,
            ?device,
            took_ms,
            "messages wait here since before this start; they are delivered now"
        );
    } else {
        tracing::debug!(?device, took_ms, "nothing waits in the journal");
    }
}

fn at(dir: &Path, what: &str, err: &io::Error) -> io::Error {
    io::Error::new(err.kind(), format!("{what} {}: {err}", dir.display()))
}

pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
