//! What the broker knows: topics, their records, committed offsets, groups. Who asked and who waits is not known here.
//!
//! ```text
//! mod.rs           State, how it is opened, what the disk's progress shows
//! topics.rs        a topic is made, grows, changes its options, takes records, goes
//! housekeeping.rs  what time alone does: retention, expiry, compaction
//! catalogue.rs     which topics there are, durably        names.rs   the same by id and by folded name
//! partition.rs     one log and how much of it is durable  configs.rs a topic's options
//! offsets.rs       what groups committed                  null.rs    topics of a broker that keeps nothing
//! data_dir.rs      where it all lies
//! ```
//!
//! Single-threaded. File writes go to the page cache on this thread; whoever must know that something is durable takes a
//! [`SyncPoint`] and looks at it when the disk has rung.
//!
//! Invariant: what a change needs to be found again (a topic before its records, a start before files go) is durable first.

pub mod catalogue;
pub mod configs;
mod data_dir;
mod housekeeping;
pub mod names;
pub mod null;
pub mod offsets;
pub mod partition;
pub mod topics;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use disk::Disk;
use foldhash::HashMap;
use tracing::info;

use crate::clock::Now;
use crate::groups::Groups;
use crate::state::catalogue::Catalogue;
use crate::state::data_dir::DataDir;
use crate::state::housekeeping::Due;
use crate::state::names::TopicNames;
use crate::state::null::NullTopics;
use crate::state::offsets::Offsets;
use crate::state::partition::{FetchKey, Partition};
use crate::state::topics::Topic;
use crate::storage::syncer::{SyncPoint, SyncState, Syncer};

/// What the broker is told at start.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    pub data_dir: PathBuf,
    pub cluster_id: String,
    pub host: String,
    pub port: u16,
    pub default_partitions: i32,
    pub auto_create: bool,
    pub null: bool,
    pub offsets_retention: Duration,
    pub retention_check_every: Duration,
}

/// Everything the broker knows.
pub struct State {
    pub config: BrokerConfig,
    pub catalogue: Catalogue,
    /// Topics with their open partitions, by name: those of the catalogue.
    pub topics: HashMap<String, Topic>,
    pub names: TopicNames,
    pub offsets: Offsets,
    pub groups: Groups,
    pub null: Option<NullTopics>,
    /// None in null mode.
    on_disk: Option<OnDisk>,
    /// Partitions of deleted topics; their files go when the deletion is durable.
    deleted: Vec<(Option<SyncPoint>, Partition)>,
    /// Partitions with writes that are not durable yet.
    dirty: Vec<(String, usize)>,
    /// Fetches that waited for records of a deleted topic.
    disturbed: Vec<FetchKey>,
    due: Due,
}

struct OnDisk {
    dir: DataDir,
    syncer: Syncer,
}

/// Records that became visible to consumers.
pub struct Shown {
    pub bytes: u64,
    /// Who waits for them.
    pub fetches: Vec<FetchKey>,
}

impl State {
    /// Opens everything in the data directory, recovering what a kill left behind; without a disk, in null mode, nothing
    /// is kept.
    pub fn open(config: BrokerConfig, disk: Option<Arc<dyn Disk>>, now: Now) -> io::Result<State> {
        let mut state = State::empty(config, now);
        if let Some(disk) = disk {
            state.recover(disk, now)?;
        }
        let fresh = format!("gafka-{:016x}", runtime::clock::seed());
        let settled = state.catalogue.settle_cluster_id(&state.config.cluster_id, fresh).map_err(|err| whole(&err))?;
        state.config.cluster_id = settled;
        state.persist_catalogue();
        info!(
            cluster_id = %state.config.cluster_id, topics = state.topics.len(), null = state.config.null,
            data_dir = %state.config.data_dir.display(), "embedded Kafka broker opened"
        );
        Ok(state)
    }

    fn empty(config: BrokerConfig, now: Now) -> State {
        State {
            catalogue: Catalogue::memory(config.default_partitions),
            topics: HashMap::default(),
            names: TopicNames::default(),
            offsets: Offsets::memory(),
            groups: Groups::new(runtime::clock::seed()),
            null: config.null.then(NullTopics::new),
            on_disk: None,
            deleted: Vec::new(),
            dirty: Vec::new(),
            disturbed: Vec::new(),
            due: Due::after_start(&config, now),
            config,
        }
    }

    fn recover(&mut self, disk: Arc<dyn Disk>, now: Now) -> io::Result<()> {
        let dir = DataDir::open(Arc::clone(&disk), &self.config.data_dir)?;
        self.catalogue =
            Catalogue::open(dir.disk(), dir.topics(), self.config.default_partitions).map_err(|err| whole(&err))?;
        self.offsets = Offsets::open(dir.disk(), dir.offsets(), &self.catalogue).map_err(|err| whole(&err))?;
        dir.persist()?;
        dir.sweep(&mut self.catalogue)?;
        for meta in self.catalogue.topics() {
            let topic = Topic::open(&dir, meta, now).map_err(|err| whole(&err))?;
            self.topics.insert(meta.name.clone(), topic);
            self.names.insert(meta);
        }
        self.on_disk = Some(OnDisk { dir, syncer: Syncer::new(disk) });
        Ok(())
    }

    /// Asks for all that the catalogue says to become durable. None: it is, or nothing ever will be.
    pub fn persist_catalogue(&self) -> Option<SyncPoint> {
        self.catalogue.request_sync(self.syncer())
    }

    /// Asks for all that was committed to become durable. None: it is, or nothing ever will be.
    pub fn persist_offsets(&self) -> Option<SyncPoint> {
        self.offsets.request_sync(self.syncer())
    }

    /// The disk made progress: files of deleted topics go, records become visible.
    pub fn on_synced(&mut self) -> Vec<Shown> {
        if let Some(syncer) = self.syncer() {
            syncer.poll();
        }
        self.remove_deleted();
        self.show_durable()
    }

    /// Fetches that waited for records of a topic that is no more: they must be answered now.
    pub fn take_disturbed(&mut self) -> Vec<FetchKey> {
        std::mem::take(&mut self.disturbed)
    }

    fn syncer(&self) -> Option<&Syncer> {
        self.on_disk.as_ref().map(|on_disk| &on_disk.syncer)
    }

    fn remove_deleted(&mut self) {
        let is_durable = |point: &Option<SyncPoint>| {
            let state = point.as_ref().map_or(SyncState::Durable, SyncPoint::state);
            state == SyncState::Durable
        };
        for (_, partition) in self.deleted.extract_if(.., |(point, _)| is_durable(point)) {
            partition.remove();
        }
    }

    fn show_durable(&mut self) -> Vec<Shown> {
        let mut shown = Vec::new();
        let topics = &mut self.topics;
        self.dirty.retain(|(name, index)| {
            let Some(partition) = topics.get_mut(name).and_then(|topic| topic.partitions.get_mut(*index)) else {
                return false;
            };
            let progress = partition.progress();
            if progress.bytes > 0 && !partition.fetches.is_empty() {
                shown.push(Shown { bytes: progress.bytes, fetches: partition.fetches.clone() });
            }
            !progress.settled
        });
        shown
    }
}

/// An error with all its causes, for whoever reads only one line.
fn whole(err: &dyn std::error::Error) -> io::Error {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        text.push_str(": ");
        text.push_str(&err.to_string());
        source = err.source();
    }
    io::Error::other(text)
}
