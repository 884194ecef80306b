//! One client of one cluster on one shard: the parts composed, and the one function that decides.
//!
//! Calls note what happened; [`Client::flush`] decides what follows from it. The driver calls flush once per tick,
//! after a burst of calls, so that records which arrive together leave together and an idle publish leaves at once.
//!
//! | File | Story |
//! |---|---|
//! | `client/publish.rs` | records in, batches out, what answers mean |
//! | `client/expiry.rs` | deadlines of records and requests, what times out when |
//! | `client/away.rs` | what cannot be stored now is given back, instead of waiting |
//! | `client/metadata.rs` | asking about topics, believing the answers |
//! | `client/questions.rs` | producer ids, coordinators, users' requests |
//! | `client/fetches.rs` | users' fetches, put together on few connections |
//! | `client/sockets.rs` | connections: opened, read, lost |
//!
//! Invariants:
//! - Every accepted record gets exactly one outcome, every request token exactly one reply (unless cancelled).
//! - After `flush(now)`, nothing more can be done at `now`: `next_deadline()` is later, or None.

mod away;
mod expiry;
mod fetches;
mod metadata;
mod publish;
mod questions;
mod sockets;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::record_batch::RecordRef;

use crate::accumulator::{Accumulator, Entry, Told, Topic};
use crate::batch::Attempt;
use crate::brokers::Brokers;
use crate::config::ClientConfig;
use crate::connections::Connections;
use crate::coordinator::Coordinators;
use crate::fetches::Fetches;
use crate::limits::{BATCH_HEADER_BYTES, COMPRESS_TURN_BYTES, REQUESTS_WAITING_MAX, TOPIC_MISSING_REASK};
use crate::producer::ProducerIds;
use crate::requests::{Requests, Waiting};
use crate::rng::Rng;
use crate::sasl::SaltedKeys;
use crate::types::{
    Acks, Asker, ConnId, Connect, Health, How, Lane, OnAway, Outcome, ProduceError, Request, RequestError,
    RequestToken, Response, Target, TopicIdx, TopicOptions, TopicState,
};

/// A Kafka client without I/O. One per (shard, cluster).
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    rng: Rng,
    brokers: Brokers,
    conns: Connections,
    records: Accumulator,
    ids: ProducerIds,
    coordinators: Coordinators,
    requests: Requests,
    fetches: Fetches,
    keys: SaltedKeys,
    // What the driver and the users take.
    outcomes: VecDeque<Outcome>,
    connects: VecDeque<Connect>,
    closes: VecDeque<(ConnId, String)>,
    transmit: VecDeque<ConnId>,
    /// Bytes that this flush may still compress.
    compress_left: usize,
    attempt_last: Attempt,
    /// Topics to be asked about again at a time: a first "no such topic" is not believed.
    rechecks: Vec<(Instant, u32)>,
    /// Topics in the Metadata request under way.
    asked_topics: Vec<u32>,
    /// Records are expired at most every `EXPIRY_PAUSE`.
    expired_at: Instant,
    told: Vec<Told>,
    /// The brokers' words when they refused our credentials and no connection stands.
    auth_refused: Option<Arc<str>>,
    watch: away::Watch,
    draining: bool,
    /// Something happened since the last flush.
    dirty: bool,
    flushed_at: Instant,
    timer: Option<Instant>,
}

impl Client {
    /// A client that will connect when it is flushed. `seed` decides partitions, jitter and SCRAM nonces; in
    /// production it must be random.
    pub fn new(config: ClientConfig, seed: u64, now: Instant) -> Client {
        let mut rng = Rng::new(seed);
        let config = ClientConfig {
            batch_bytes_max: config.batch_bytes_max.max(2 * BATCH_HEADER_BYTES),
            record_bytes_max: config.record_bytes_max.max(config.batch_bytes_max),
            in_flight_max: config.in_flight_max.max(1),
            ..config
        };
        Client {
            brokers: Brokers::new(&config.bootstrap, rng.below(config.bootstrap.len()), now),
            records: Accumulator::new(&config),
            conns: Connections::default(),
            ids: ProducerIds::default(),
            coordinators: Coordinators::default(),
            requests: Requests::default(),
            fetches: Fetches::default(),
            keys: SaltedKeys::default(),
            outcomes: VecDeque::new(),
            connects: VecDeque::new(),
            closes: VecDeque::new(),
            transmit: VecDeque::new(),
            attempt_last: Attempt::default(),
            compress_left: COMPRESS_TURN_BYTES,
            rechecks: Vec::new(),
            asked_topics: Vec::new(),
            expired_at: now,
            told: Vec::new(),
            auth_refused: None,
            watch: away::Watch::default(),
            draining: false,
            dirty: true,
            flushed_at: now,
            timer: None,
            rng,
            config,
        }
    }

    // ---- topics and records

    /// The index of a topic of this cluster; its metadata is looked up if it is new. Cheap, but hashes the name: keep
    /// the index.
    ///
    /// A topic that nobody uses for an hour sleeps: it is Pending and not asked for until the next use of its name or a
    /// publish to its index. Only when there are too many names is one that sleeps forgotten, and its index with it.
    pub fn topic(&mut self, name: &str) -> TopicIdx {
        let (topic, is_new) = self.records.intern(name, self.flushed_at);
        if is_new {
            self.brokers.want_refresh();
            self.dirty = true;
        }
        self.wake(topic);
        topic
    }

    fn wake(&mut self, index: TopicIdx) {
        let topic = &mut self.records.topics[index.place() as usize];
        topic.used.set(true);
        if topic.asleep {
            topic.asleep = false;
            self.want_topic(index.place());
            self.dirty = true;
        }
    }

    fn used_topic(&self, topic: TopicIdx) -> Option<&Topic> {
        let topic = self.records.topic(topic)?;
        topic.used.set(true);
        Some(topic)
    }

    /// Whether the index still is of the topic it was given for; then it stays so for the next while.
    pub fn is_current(&self, topic: TopicIdx) -> bool {
        self.used_topic(topic).is_some()
    }

    /// Whether nobody has used the topic for so long that it is not asked for any more, or it was forgotten.
    pub fn is_asleep(&self, topic: TopicIdx) -> bool {
        self.records.topic(topic).is_none_or(|topic| topic.asleep)
    }

    /// How this topic's records are placed and compressed from now on.
    pub fn set_topic_options(&mut self, topic: TopicIdx, options: TopicOptions) {
        if self.records.topic(topic).is_some() {
            self.records.topics[topic.place() as usize].options = options;
        }
    }

    /// Accepts a record: it is copied into its partition's open batch now. Its outcome comes from
    /// [`Client::poll_outcome`] under `tag` and `record_index`; consecutive indexes of one tag come as one outcome
    /// per batch. An error means nothing was accepted and no outcome will come.
    ///
    /// Until `how.deadline` the record may be sent. Then its outcome is told: Unavailable when it was never sent,
    /// Unknown when it was sent and not answered.
    #[allow(clippy::too_many_arguments)] // the record, where to, how, and whose: none belongs to another
    pub fn produce(
        &mut self,
        topic: TopicIdx,
        partition: Option<i32>,
        record: &RecordRef<'_>,
        how: How,
        tag: u64,
        record_index: u32,
        now: Instant,
    ) -> Result<(), ProduceError> {
        self.accept(topic, Entry { partition, record, shared: None, how, tag, record_index }, now)
    }

    /// As [`Client::produce`] with a value that is linked into the request instead of copied when it is large;
    /// `record.value` is ignored.
    #[allow(clippy::too_many_arguments)] // as above
    pub fn produce_shared(
        &mut self,
        topic: TopicIdx,
        partition: Option<i32>,
        record: &RecordRef<'_>,
        value: Bytes,
        how: How,
        tag: u64,
        record_index: u32,
        now: Instant,
    ) -> Result<(), ProduceError> {
        self.accept(topic, Entry { partition, record, shared: Some(value), how, tag, record_index }, now)
    }

    fn accept(&mut self, topic: TopicIdx, mut entry: Entry<'_>, now: Instant) -> Result<(), ProduceError> {
        self.dirty = true;
        if entry.how.acks != Acks::All || !self.is_idempotent() {
            entry.how.on_away = OnAway::Wait;
        }
        if self.draining {
            return Err(ProduceError::Unavailable { why: "this gateway is shutting down".into() });
        }
        if let Some(why) = &self.auth_refused {
            return Err(ProduceError::Unavailable { why: why.clone() });
        }
        let Some(known) = self.used_topic(topic) else {
            return Err(ProduceError::Unavailable { why: "its topic was not used for long and forgotten here".into() });
        };
        match known.state {
            TopicState::Known if !self.records.has_waiting(topic) => {
                let taken = self.check_away(topic, &mut entry, now);
                let refused = taken.and_then(|()| self.records.append(topic, entry, &mut self.rng));
                if let Err(ProduceError::PartitionUnknown { .. }) = refused {
                    self.want_topic(topic.place()); // it may have been added since
                }
                refused
            }
            TopicState::Known | TopicState::Pending => {
                if known.asleep {
                    self.wake(topic);
                }
                self.check_cluster_away(&entry)?;
                self.records.wait(topic, entry)
            }
            TopicState::Missing if known.name.is_empty() => {
                Err(ProduceError::Unavailable { why: "too many topics of this cluster are known here".into() })
            }
            TopicState::Missing | TopicState::Denied => {
                let fresh = known.negative_at.is_none_or(|at| now < at + TOPIC_MISSING_REASK);
                if fresh {
                    return Err(metadata::refusal(known.state));
                }
                self.want_topic(topic.place());
                self.check_cluster_away(&entry)?;
                self.records.wait(topic, entry)
            }
        }
    }

    /// The next record outcome, oldest first.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    // ---- requests

    /// Sends a request that is not Produce to `target` over its connection of `lane`. The reply comes from
    /// [`Client::poll_reply`] under the token, within `timeout`. Fetches of [`Lane::Fetch`] to one broker share its
    /// connections and may share a request; each is answered as if it had been alone.
    pub fn request(
        &mut self,
        target: Target<'_>,
        lane: Lane,
        request: Request,
        timeout: Duration,
        now: Instant,
    ) -> RequestToken {
        self.dirty = true;
        let token = self.requests.next_token();
        if self.requests.waiting_count() >= REQUESTS_WAITING_MAX {
            self.requests.answer(token, Err(RequestError::QueueFull));
            return token;
        }
        let (destination, deadline, generation) = (target.into(), now + timeout, self.brokers.generation);
        self.requests.accept(token, Waiting { destination, lane, request, timeout, deadline, generation });
        token
    }

    /// Requests from now on are this user's: their tokens say so.
    pub fn ask_as(&mut self, asker: Asker) {
        self.requests.asker = asker;
    }

    /// The next reply, oldest first.
    pub fn poll_reply(&mut self) -> Option<(RequestToken, Result<Response, RequestError>)> {
        self.requests.poll_reply()
    }

    /// Nobody waits for this reply any more. Whether the broker acts on the request is open.
    pub fn cancel(&mut self, token: RequestToken) {
        if let Some(holder) = self.requests.forget(token) {
            self.disown(token, holder);
        }
    }

    /// The coordinator answered that it is not: look it up again when it is needed next.
    pub fn invalidate_coordinator(&mut self, group: &str) {
        self.coordinators.forget(group);
        self.requests.replace_group(group);
    }

    // ---- what is known

    /// Node id of a partition's leader.
    pub fn leader(&self, topic: TopicIdx, partition: i32) -> Option<i32> {
        let partitions = &self.used_topic(topic)?.partitions;
        let leader = partitions.get(usize::try_from(partition).ok()?)?.leader?;
        self.brokers.broker(leader).node
    }

    /// Epoch of a partition's leader, when the cluster tells one.
    pub fn leader_epoch(&self, topic: TopicIdx, partition: i32) -> Option<i32> {
        let partitions = &self.used_topic(topic)?.partitions;
        let epoch = partitions.get(usize::try_from(partition).ok()?)?.leader_epoch;
        (epoch >= 0).then_some(epoch)
    }

    /// None until the topic is known.
    pub fn partition_count(&self, topic: TopicIdx) -> Option<i32> {
        let topic = self.used_topic(topic)?;
        (topic.state == TopicState::Known).then_some(topic.partition_count as i32)
    }

    /// The name [`Client::topic`] was given.
    pub fn topic_name(&self, topic: TopicIdx) -> &str {
        self.records.topic(topic).map_or("", |topic| &topic.name)
    }

    /// What the cluster said about the topic.
    pub fn topic_state(&self, topic: TopicIdx) -> TopicState {
        self.used_topic(topic).map_or(TopicState::Missing, |topic| topic.state)
    }

    /// Node ids of the brokers in the last metadata.
    pub fn broker_nodes(&self) -> impl Iterator<Item = i32> {
        self.brokers.all.iter().filter(|broker| broker.listed).filter_map(|broker| broker.node)
    }

    /// Asks for everything again, soon.
    pub fn refresh_metadata(&mut self, now: Instant) {
        self.brokers.refresh.periodic_at = now;
        self.dirty = true;
    }

    /// When the cluster last denied that the topic exists, unless it was seen since.
    pub fn topic_denied_at(&self, topic: TopicIdx) -> Option<Instant> {
        self.used_topic(topic)?.negative_at
    }

    /// KIP-516: the topic's id in the last metadata, when the cluster tells one. Another id is another topic.
    pub fn topic_id(&self, topic: TopicIdx) -> Option<[u8; 16]> {
        let id = self.used_topic(topic)?.id;
        (id != [0; 16]).then_some(id)
    }

    /// Bytes of records accepted and not yet answered.
    pub fn queued_bytes(&self) -> usize {
        self.records.queued_bytes
    }

    /// Is acks=all stored once whatever is retried? False when the configuration says so, and while the brokers refuse
    /// us a producer id; then an unanswered batch is never repeated but told as unknown.
    pub fn is_idempotent(&self) -> bool {
        self.config.idempotence && !self.ids.refused
    }

    /// Does a broker answer?
    pub fn health(&self, now: Instant) -> Health {
        let ready = self.conns.iter().filter(|conn| conn.is_ready()).count();
        let silent = |conn: &&crate::connection::Connection| {
            conn.in_flight.front().is_some_and(|oldest| now.saturating_duration_since(oldest.sent_at) > expiry::SILENCE)
        };
        let silent = self.conns.iter().filter(|conn| conn.is_ready()).filter(silent).count();
        let known = self.broker_nodes().count();
        if ready > silent {
            return Health { reachable: true, detail: format!("{known} brokers known, {ready} connections") };
        }
        // Nobody uses it: the connections were closed by us, and what was last heard was good.
        if self.conns.iter().next().is_none() && self.brokers.last_error.is_none() && self.brokers.generation > 0 {
            return Health { reachable: true, detail: format!("{known} brokers known, no connection needed") };
        }
        let detail = match (&self.brokers.last_error, silent) {
            (_, silent) if silent > 0 => {
                format!("{silent} connections without an answer for more than {:?}", expiry::SILENCE)
            }
            (Some(why), _) => why.to_string(),
            (None, _) if self.brokers.all.is_empty() => "no bootstrap address".into(),
            (None, _) => "not connected yet".into(),
        };
        Health { reachable: false, detail }
    }

    /// There is memory for so many bytes of fetched records: one answer for several users brings about half of it at most.
    pub fn set_fetch_room(&mut self, bytes: usize) {
        self.fetches.set_room(bytes / 2);
    }

    // ---- time

    /// Decides: what has expired, what may be asked, what may be sent, to whom. Call it once per tick.
    pub fn flush(&mut self, now: Instant) {
        self.dirty = false;
        self.flushed_at = now;
        self.compress_left = COMPRESS_TURN_BYTES;
        if self.timer.is_some_and(|at| at <= now) {
            self.expire_connections(now);
            self.wake_delayed(now);
            self.wake_rechecks(now);
        }
        self.expire_records(now);
        self.expire_requests(now);
        self.expire_fetches(now);
        self.send_requests(now);
        self.send_fetches(now);
        self.send_batches(now);
        self.ask_producer_id(now);
        if !self.records.places.ready.is_empty() {
            self.send_batches(now); // no producer id will come
        }
        self.ask_coordinators(now);
        self.ask_metadata(now);
        self.watch(now);
        self.timer = self.earliest_timer(now);
    }

    /// When to call [`Client::on_timer`] at the latest, if nothing else happens. In the past: at once.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.dirty { Some(self.flushed_at) } else { self.timer }
    }

    /// Time has passed.
    pub fn on_timer(&mut self, now: Instant) {
        self.flush(now);
    }

    /// No new records from here on; what is queued still goes out.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        self.flush(now);
    }

    /// No record and no request is under way.
    pub fn is_idle(&self) -> bool {
        self.records.is_empty() && self.requests.is_empty()
    }

    /// Ends every record now as if its deadline had come: never sent is Unavailable, sent is Unknown.
    pub fn expire_all(&mut self, now: Instant) {
        self.expire_records_until(None, now);
        self.dirty = true;
    }
}

/// The index below `count` that fits, looked for from `begin` on: brokers mostly answer in the order asked.
fn find_from(begin: usize, count: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
    (begin..count).chain(0..begin).find(|index| fits(*index))
}
