//! The broker: what it knows, who waits, and the one list that says which file answers which request.
//!
//! Single-threaded and without a socket: connections hand frames in and take answers out of slots. Its file writes go
//! to the page cache on this thread; what must be durable waits for the sync thread.
//!
//! Invariant: a slot is answered exactly once, or its connection is gone.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use disk::Disk;
use foldhash::HashMap;
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::header::{RequestHeader, decode_request_header};
use kafka_wire::messages::produce::ProduceResponse;
use runtime::notify::Notify;
use tracing::{debug, info, warn};

use crate::apis;
use crate::configs::TopicOptions;
use crate::data_dir::DataDir;
use crate::fetches::{Fetches, WaitingFetch};
use crate::groups::{Groups, Reply};
use crate::hooks::{Fault, Hooks};
use crate::limits::{HOUSEKEEPING_EVERY, OFFSETS_CHECK_EVERY};
use crate::names::TopicNames;
use crate::null::NullTopics;
use crate::offsets::Offsets;
use crate::partition::Partition;
use crate::slot::{Afterwards, Answer, Slot};
use crate::syncer::{SyncPoint, SyncState, Syncer};
use crate::topics::{Catalogue, TopicMeta};

/// Both clocks, read once per event.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub at: Instant,
    /// Epoch milliseconds.
    pub ms: i64,
}

impl Now {
    /// Reads the clocks.
    pub fn read() -> Now {
        Now { at: Instant::now(), ms: runtime::clock::now_ms() }
    }
}

/// Who sends a request.
pub struct Peer {
    pub ip: IpAddr,
    /// Rung when an answer of this connection is ready.
    pub ready: Notify,
}

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

/// A topic with its open partitions.
pub struct Topic {
    pub options: TopicOptions,
    pub partitions: Vec<Partition>,
}

/// How a handler leaves a cold request.
#[allow(clippy::large_enum_variant, reason = "lives on the stack between a handler and the list that called it")]
pub enum Outcome {
    Answer(ResponseKind),
    /// `answer` once the point is durable; `otherwise` if the disk refuses.
    Durable {
        point: Option<SyncPoint>,
        answer: ResponseKind,
        otherwise: ResponseKind,
    },
    /// The slot is kept by somebody who will answer it.
    Kept,
}

/// Something that waits for the disk.
enum AfterSync {
    Cold { slot: Rc<Slot>, point: SyncPoint, answer: Answer, otherwise: Answer },
    Produce { slot: Rc<Slot>, points: Vec<ProducePoint>, response: ProduceResponse },
}

/// One batch of a produce request that waits: where its result stands in the response.
pub struct ProducePoint {
    pub topic: usize,
    pub partition: usize,
    pub point: SyncPoint,
}

/// The whole broker.
pub struct Broker {
    pub config: BrokerConfig,
    pub hooks: Hooks,
    pub catalogue: Catalogue,
    pub topics: HashMap<String, Topic>,
    pub names: TopicNames,
    pub offsets: Offsets,
    pub groups: Groups,
    pub fetches: Fetches,
    pub null: Option<NullTopics>,
    /// None in null mode.
    data_dir: Option<DataDir>,
    /// None in null mode.
    syncer: Option<Syncer>,
    after_sync: Vec<AfterSync>,
    /// Partitions of deleted topics; their files go when the deletion is durable.
    deleted: Vec<(Option<SyncPoint>, Partition)>,
    /// Partitions with writes that are not durable yet.
    dirty: Vec<(String, usize)>,
    /// Join and sync requests in the coordinator's hands.
    tickets: HashMap<u64, Rc<Slot>>,
    next_ticket: u64,
    held: BTreeMap<(Instant, u64), Rc<Slot>>,
    next_housekeeping: Instant,
    next_offsets_check: Instant,
    next_retention: Instant,
    /// Wakes the timer task when a deadline earlier than its own appeared.
    timer: Notify,
    armed: Option<Instant>,
}

impl Broker {
    /// Opens everything in the data directory, recovering what a kill left behind; without a disk, in null mode, nothing
    /// is kept. Whoever the disk rings calls `on_synced`; `timer` is rung when the caller's timer must be set earlier.
    pub fn open(
        mut config: BrokerConfig,
        hooks: Hooks,
        disk: Option<Arc<dyn Disk>>,
        timer: Notify,
        now: Now,
    ) -> io::Result<Broker> {
        let other = |err: &dyn std::error::Error| io::Error::other(chain(err));
        let mut catalogue = Catalogue::memory(config.default_partitions);
        let mut offsets = Offsets::memory();
        let mut topics = HashMap::default();
        let mut names = TopicNames::default();
        let mut data_dir = None;
        let mut syncer = None;
        if let Some(disk) = disk {
            let dir = DataDir::open(Arc::clone(&disk), &config.data_dir)?;
            catalogue =
                Catalogue::open(dir.disk(), dir.topics(), config.default_partitions).map_err(|err| other(&err))?;
            offsets = Offsets::open(dir.disk(), dir.offsets(), &catalogue).map_err(|err| other(&err))?;
            dir.persist()?;
            dir.sweep(&mut catalogue)?;
            for meta in catalogue.topics() {
                let topic = open_topic(&dir, meta, now).map_err(|err| other(&err))?;
                topics.insert(meta.name.clone(), topic);
                names.insert(meta);
            }
            data_dir = Some(dir);
            syncer = Some(Syncer::new(disk));
        }
        let fresh = format!("gafka-{:016x}", runtime::clock::seed());
        config.cluster_id = catalogue.settle_cluster_id(&config.cluster_id, fresh).map_err(|err| other(&err))?;
        catalogue.request_sync(syncer.as_ref());
        info!(
            cluster_id = %config.cluster_id, topics = topics.len(), null = config.null,
            data_dir = %config.data_dir.display(), "embedded Kafka broker opened"
        );
        let next_retention = now.at + config.retention_check_every;
        Ok(Broker {
            null: config.null.then(NullTopics::new),
            config,
            hooks,
            catalogue,
            topics,
            names,
            offsets,
            groups: Groups::new(runtime::clock::seed()),
            fetches: Fetches::default(),
            data_dir,
            syncer,
            after_sync: Vec::new(),
            deleted: Vec::new(),
            dirty: Vec::new(),
            tickets: HashMap::default(),
            next_ticket: 0,
            held: BTreeMap::new(),
            next_housekeeping: now.at + HOUSEKEEPING_EVERY,
            next_offsets_check: now.at,
            next_retention,
            timer,
            armed: None,
        })
    }

    /// Handles one request frame. The returned slot is, or will be, answered; None: close the connection.
    pub fn handle(&mut self, mut frame: Bytes, peer: &Peer, now: Now) -> Option<Rc<Slot>> {
        let header = match decode_request_header(&mut frame) {
            Ok(header) => header,
            Err(err) => {
                warn!(peer = %peer.ip, %err, "request header cannot be read");
                return None;
            }
        };
        let Some(api) = header.api().filter(|api| apis::advertised(*api).is_some()) else {
            warn!(peer = %peer.ip, api_key = header.api_key, "request for an API that was not offered");
            return None;
        };
        let slot = Slot::new(api, header.api_version, header.correlation_id, peer.ready.clone());
        match self.hooks.take(header.api_key) {
            None => {}
            Some(Fault::Error(code)) => {
                return apis::refuse(&slot, frame, code).then_some(slot);
            }
            Some(Fault::Delay(delay)) => slot.set_afterwards(Afterwards::SendLater(delay)),
            Some(Fault::ApplyThenDisconnect) => slot.set_afterwards(Afterwards::Close),
            Some(Fault::Disconnect) => return None,
            Some(Fault::Silence) => return Some(slot),
            Some(Fault::Freeze(time)) => std::thread::sleep(time),
            Some(Fault::Garbage(bytes)) => {
                slot.answer(Answer::Frame(vec![Bytes::from(bytes)]));
                return Some(slot);
            }
        }
        if let Some(delay) = slot.delay() {
            let at = now.at + delay;
            slot.hold_until(at);
            self.next_ticket += 1;
            self.held.insert((at, self.next_ticket), Rc::clone(&slot));
        }
        let understood = self.dispatch(&header, frame, &slot, peer, now);
        self.deliver_group_replies();
        self.arm();
        understood.then_some(slot)
    }

    /// The list: every request this broker answers. False: it could not be understood, close the connection.
    fn dispatch(&mut self, header: &RequestHeader, body: Bytes, slot: &Rc<Slot>, peer: &Peer, now: Now) -> bool {
        let version = header.api_version;
        match slot.api {
            ApiKey::ApiVersions => {
                apis::api_versions::handle(slot, body);
                return true;
            }
            ApiKey::Produce => return apis::produce::handle(self, slot, body, now),
            ApiKey::Fetch => return apis::fetch::handle(self, slot, body, now),
            _ => {}
        }
        let request = match cold::decode_request(slot.api, version, body) {
            Ok(request) => request,
            Err(err) => {
                warn!(peer = %peer.ip, api = %slot.api, version, %err, "request cannot be read");
                return false;
            }
        };
        let outcome = match request {
            RequestKind::Metadata(request) => apis::metadata::handle(self, version, request, now),
            RequestKind::ListOffsets(request) => apis::list_offsets::handle(self, version, request),
            RequestKind::FindCoordinator(request) => apis::find_coordinator::handle(self, version, request),
            RequestKind::JoinGroup(request) => {
                apis::join_group::handle(self, slot, header.client_id_str(), peer, request, now)
            }
            RequestKind::SyncGroup(request) => apis::sync_group::handle(self, slot, request, now),
            RequestKind::Heartbeat(request) => apis::heartbeat::handle(self, request, now),
            RequestKind::LeaveGroup(request) => apis::leave_group::handle(self, version, request, now),
            RequestKind::OffsetCommit(request) => apis::offset_commit::handle(self, request, now),
            RequestKind::OffsetFetch(request) => apis::offset_fetch::handle(self, version, request),
            RequestKind::DescribeGroups(request) => apis::describe_groups::handle(self, version, request),
            RequestKind::ListGroups(request) => apis::list_groups::handle(self, version, request),
            RequestKind::DeleteGroups(request) => apis::delete_groups::handle(self, request),
            RequestKind::InitProducerId(request) => apis::init_producer_id::handle(self, request),
            RequestKind::CreateTopics(request) => apis::create_topics::handle(self, version, request, now),
            RequestKind::DeleteTopics(request) => apis::delete_topics::handle(self, version, request, now),
            RequestKind::CreatePartitions(request) => apis::create_partitions::handle(self, request, now),
            RequestKind::DeleteRecords(request) => apis::delete_records::handle(self, request),
            RequestKind::DescribeConfigs(request) => apis::describe_configs::handle(self, request),
            RequestKind::IncrementalAlterConfigs(request) => apis::incremental_alter_configs::handle(self, request),
            RequestKind::AlterConfigs(request) => apis::alter_configs::handle(self, request),
            RequestKind::OffsetDelete(request) => apis::offset_delete::handle(self, request),
            RequestKind::DescribeLogDirs(request) => apis::describe_log_dirs::handle(self, request),
            RequestKind::DescribeTopicPartitions(request) => apis::describe_topic_partitions::handle(self, request),
            RequestKind::DescribeClientQuotas(_) => apis::describe_client_quotas::handle(),
            RequestKind::DescribeCluster(request) => apis::describe_cluster::handle(self, request),
            RequestKind::SaslHandshake(request) => apis::sasl_handshake::handle(&request),
            RequestKind::SaslAuthenticate(_) => apis::sasl_authenticate::handle(),
            _ => {
                warn!(peer = %peer.ip, api = %slot.api, "an API is advertised and not listed");
                return false;
            }
        };
        match outcome {
            Outcome::Answer(response) => slot.answer_cold(&response),
            Outcome::Kept => {}
            Outcome::Durable { point: None, answer, .. } => slot.answer_cold(&answer),
            Outcome::Durable { point: Some(point), answer, otherwise } => {
                let (answer, otherwise) = (slot.encode(&answer), slot.encode(&otherwise));
                self.answer_after_sync(AfterSync::Cold { slot: Rc::clone(slot), point, answer, otherwise });
            }
        }
        true
    }

    /// The disk made progress: answer who waited for it, show new records to consumers.
    pub fn on_synced(&mut self, now: Now) {
        if let Some(syncer) = &self.syncer {
            syncer.poll();
        }
        self.remove_deleted();
        let mut at = 0;
        while at < self.dirty.len() {
            let (name, index) = &self.dirty[at];
            let Some(partition) = self.topics.get_mut(name).and_then(|topic| topic.partitions.get_mut(*index)) else {
                self.dirty.swap_remove(at);
                continue;
            };
            let progress = partition.progress();
            let mut enough = Vec::new();
            if progress.bytes > 0 {
                enough.extend(partition.fetches.iter().copied().filter(|key| self.fetches.feed(*key, progress.bytes)));
            }
            if progress.settled {
                self.dirty.swap_remove(at);
            } else {
                at += 1;
            }
            for key in enough {
                self.finish_fetch(key, now);
            }
        }
        let mut waiting = std::mem::take(&mut self.after_sync);
        waiting.retain_mut(|waiting| !waiting.try_finish());
        self.after_sync = waiting;
        self.arm();
    }

    /// Time has passed.
    pub fn on_timer(&mut self, now: Now) {
        self.armed = None;
        while let Some(key) = self.fetches.overdue(now.at) {
            self.finish_fetch(key, now);
        }
        self.groups.on_timer(now.at);
        self.deliver_group_replies();
        while let Some(entry) = self.held.first_entry()
            && entry.key().0 <= now.at
        {
            entry.remove().ring();
        }
        if self.next_housekeeping <= now.at {
            self.next_housekeeping = now.at + HOUSEKEEPING_EVERY;
            self.housekeep(now);
        }
    }

    /// When `on_timer` wants to be called.
    pub fn arm_timer(&mut self) -> Instant {
        let at = self.next_deadline();
        self.armed = Some(at);
        at
    }

    /// The connection of this slot is gone.
    pub fn abandon(&mut self, slot: &Slot) {
        if let Some(fetch) = slot.fetch.get().and_then(|key| self.take_fetch(key)) {
            debug!(correlation_id = fetch.slot.correlation_id, "waiting fetch of a closed connection dropped");
        }
    }

    // --- for the handlers ---------------------------------------------------------------------------------------

    /// None in null mode.
    pub fn syncer(&self) -> Option<&Syncer> {
        self.syncer.as_ref()
    }

    /// Topic and syncer at once, for appending.
    pub fn append_parts(&mut self, topic: &str) -> Option<(&mut Topic, &Syncer)> {
        Some((self.topics.get_mut(topic)?, self.syncer.as_ref()?))
    }

    /// A partition that exists.
    pub fn partition(&mut self, topic: &str, index: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partitions.get_mut(usize::try_from(index).ok()?)
    }

    /// Remembers that a partition has writes on their way to the disk; once until they are there.
    pub fn mark_dirty(&mut self, topic: &str, index: usize) {
        self.dirty.push((topic.to_owned(), index));
    }

    /// Answers a produce request when all its batches are durable.
    pub fn answer_produce_after_sync(&mut self, slot: &Rc<Slot>, points: Vec<ProducePoint>, response: ProduceResponse) {
        self.answer_after_sync(AfterSync::Produce { slot: Rc::clone(slot), points, response });
    }

    /// Answers at once when nothing is pending, for instance because the disk refused before.
    fn answer_after_sync(&mut self, mut waiting: AfterSync) {
        if !waiting.try_finish() {
            self.after_sync.push(waiting);
        }
    }

    /// Keeps a slot for the group coordinator.
    pub fn take_ticket(&mut self, slot: &Rc<Slot>) -> u64 {
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, Rc::clone(slot));
        self.next_ticket
    }

    /// Opens the partitions the catalogue says a topic has and this broker has not opened yet. What is written to them is
    /// durable when the catalogue's word is.
    pub fn open_partitions(&mut self, name: &str, now: Now) -> io::Result<()> {
        let (Some(meta), Some(data_dir)) = (self.catalogue.topic(name), &self.data_dir) else { return Ok(()) };
        let options = TopicOptions::parse(&meta.overrides);
        let exists = self.catalogue.point();
        let topic = self.topics.entry(name.to_owned()).or_insert_with(|| Topic { options, partitions: Vec::new() });
        topic.options = options;
        for index in topic.partitions.len()..meta.partitions as usize {
            let dir = data_dir.partition(&meta.id, index);
            let partition = Partition::open(data_dir.disk(), dir, 0, exists.clone(), now)
                .map_err(|err| io::Error::other(chain(&err)))?;
            topic.partitions.push(partition);
        }
        Ok(())
    }

    /// Forgets a topic the catalogue has forgotten: its waiting fetches hear of it, its files go when that is durable.
    pub fn close_topic(&mut self, name: &str, now: Now) {
        let Some(mut topic) = self.topics.remove(name) else { return };
        let waiting: Vec<u64> =
            topic.partitions.iter_mut().flat_map(|partition| std::mem::take(&mut partition.fetches)).collect();
        for key in waiting {
            self.finish_fetch(key, now);
        }
        let point = self.catalogue.point();
        self.deleted.extend(topic.partitions.into_iter().map(|partition| (point.clone(), partition)));
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

    /// Parks a fetch until records come or its time is over.
    pub fn park_fetch(&mut self, fetch: WaitingFetch) {
        let looked_at: Vec<(String, i32)> = apis::fetch::partitions(&fetch.request);
        let key = self.fetches.park(fetch);
        self.hooks.note_fetches_waiting(self.fetches.count());
        for (topic, index) in looked_at {
            if let Some(partition) = self.partition(&topic, index) {
                partition.fetches.push(key);
            }
        }
    }

    fn finish_fetch(&mut self, key: u64, now: Now) {
        if let Some(fetch) = self.take_fetch(key) {
            apis::fetch::finish(self, &fetch.slot, &fetch.request, now);
        }
    }

    fn take_fetch(&mut self, key: u64) -> Option<WaitingFetch> {
        let fetch = self.fetches.take(key)?;
        self.hooks.note_fetches_waiting(self.fetches.count());
        for (topic, index) in apis::fetch::partitions(&fetch.request) {
            if let Some(partition) = self.partition(&topic, index) {
                partition.fetches.retain(|waiting| *waiting != key);
            }
        }
        Some(fetch)
    }

    fn deliver_group_replies(&mut self) {
        while let Some((ticket, reply)) = self.groups.poll_reply() {
            let Some(slot) = self.tickets.remove(&ticket) else { continue };
            slot.answer_cold(&match reply {
                Reply::Joined(joined) => apis::join_group::response(slot.version, joined),
                Reply::Synced(synced) => apis::sync_group::response(synced),
            });
        }
    }

    fn next_deadline(&self) -> Instant {
        let held = self.held.keys().next().map(|(at, _)| *at);
        let waits = [self.fetches.next_deadline(), self.groups.next_deadline(), held];
        waits.into_iter().flatten().min().map_or(self.next_housekeeping, |at| at.min(self.next_housekeeping))
    }

    fn arm(&mut self) {
        let next = self.next_deadline();
        if self.armed.is_none_or(|armed| next < armed) {
            self.timer.notify();
        }
    }

    /// What nobody uses any more goes without being told of; the next sync of the journal takes it along.
    fn expire_offsets(&mut self, now: Now) {
        let retention_ms = i64::try_from(self.config.offsets_retention.as_millis()).unwrap_or(i64::MAX);
        let groups = &self.groups;
        match self.offsets.expire(retention_ms, now.ms, |group| groups.has_members(group)) {
            Ok(0) => {}
            Ok(expired) => info!(groups = expired, retention_ms, "offsets of unused groups expired"),
            Err(err) => warn!(%err, "offsets could not be expired"),
        }
    }

    fn housekeep(&mut self, now: Now) {
        if let Some(syncer) = &self.syncer {
            syncer.retry();
        }
        if self.next_offsets_check <= now.at {
            self.next_offsets_check = now.at + OFFSETS_CHECK_EVERY;
            self.expire_offsets(now);
        }
        if self.next_retention <= now.at {
            self.next_retention = now.at + self.config.retention_check_every;
            self.retain(now);
        }
        // In the catalogue's order, so that a simulation tells the same story twice.
        for meta in self.catalogue.topics() {
            let topic = self.topics.get_mut(&meta.name);
            topic.into_iter().flat_map(|topic| &mut topic.partitions).for_each(|partition| partition.housekeep(now));
        }
        // Committed offsets of a deleted topic are there until its deletion is durable, so they are compacted only then.
        let compacted = self.catalogue.compact_if_grown().and_then(|()| match self.deleted.is_empty() {
            true => self.offsets.compact_if_grown(),
            false => Ok(()),
        });
        if let Err(err) = compacted {
            warn!(%err, "a journal could not be compacted");
        }
    }

    /// Old and too many records go: first in the catalogue, then, when that is durable, from the disk.
    fn retain(&mut self, now: Now) {
        let mut later = Vec::new();
        for meta in self.catalogue.topics() {
            let Some(topic) = self.topics.get_mut(&meta.name) else { continue };
            for (index, partition) in topic.partitions.iter_mut().enumerate() {
                if let Some(start) = partition.start_by_retention(&topic.options, now) {
                    later.push((meta.name.clone(), index as i32, start));
                }
            }
        }
        later.retain(|(name, index, start)| {
            let set = self.catalogue.set_start(name, *index, *start);
            set.inspect_err(|refusal| warn!(topic = name, index, why = refusal.message, "retention failed")).is_ok()
        });
        let point = self.catalogue.request_sync(self.syncer());
        for (name, index, start) in later {
            info!(topic = name, index, start, "retention forgot old records");
            if let Some(partition) = self.partition(&name, index) {
                partition.forget_before(start, point.clone());
            }
        }
    }
}

impl AfterSync {
    /// Answers when nothing is pending any more.
    fn try_finish(&mut self) -> bool {
        match self {
            AfterSync::Cold { slot, point, answer, otherwise } => {
                let answer = match point.state() {
                    SyncState::Pending => return false,
                    SyncState::Durable => answer,
                    SyncState::Failed => otherwise,
                };
                slot.answer(std::mem::replace(answer, Answer::Nothing));
            }
            AfterSync::Produce { slot, points, response } => {
                points.retain(|waiting| match waiting.point.state() {
                    SyncState::Pending => true,
                    SyncState::Durable => false,
                    SyncState::Failed => {
                        apis::produce::not_durable(&mut response.topics[waiting.topic].partitions[waiting.partition]);
                        false
                    }
                });
                if !points.is_empty() {
                    return false;
                }
                apis::produce::answer(slot, response);
            }
        }
        true
    }
}

fn open_topic(dir: &DataDir, meta: &TopicMeta, now: Now) -> Result<Topic, crate::log::LogError> {
    let mut partitions = Vec::with_capacity(meta.partitions as usize);
    for index in 0..meta.partitions as usize {
        let start_offset = meta.start_offsets.get(&(index as i32)).copied().unwrap_or(0);
        partitions.push(Partition::open(dir.disk(), dir.partition(&meta.id, index), start_offset, None, now)?);
    }
    Ok(Topic { options: TopicOptions::parse(&meta.overrides), partitions })
}

fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut source = err.source();
    while let Some(err) = source {
        text.push_str(": ");
        text.push_str(&err.to_string());
        source = err.source();
    }
    text
}

/// Longest a client may ask us to wait, as a duration.
pub fn wait_of(ms: i32, most: Duration) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(most)
}

/// The code of a partition or topic that is not there.
pub const NOT_HERE: ErrorCode = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
