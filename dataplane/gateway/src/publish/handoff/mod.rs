//! Hinted handoff: what Kafka cannot take now is kept on this gateway's disk, answered 202, and delivered when it can.
//!
//! ```text
//!   publish ──▶ DIRECT? ──yes──▶ Kafka client ──stored──▶ 201
//!                  │no               │ cannot be stored now: given back, nothing was sent
//!                  ▼                 ▼
//!               journal ◀────────────┘        ──durable──▶ 202 and a receipt
//!                  │
//!                  └──▶ drain ──▶ Kafka client ──▶ delivered, or parked
//! ```
//!
//! | File | Story |
//! |---|---|
//! | `kafka_wire::handoff_entry` | a message as the journal has it |
//! | [`domains`] | which partitions go through the journal now (pure) |
//! | [`store`] | journal, queue and domains, shared by all shards |
//! | [`begin`] | what an earlier process sent and did not note is looked for |
//! | [`drain`], [`pace`] | delivers what waits, no faster than it may |
//! | [`open`], [`keeper`] | opens the journal; checkpoints, segments that go |
//! | [`parked`], [`adopt`], [`status`] | what operators and tenants do and see |
//! | [`peer`] | asks another gateway about a message that it has |
//! | this | one shard's part: what waits for the disk, what waits at a gate |
//!
//! In good times a publish reads one counter of all this. Its body is owned by the client's batch; only when that batch
//! cannot be sent is it read out of it.
//!
//! Order: for a partition, what a client was answered before it sent the next message goes before it, through whatever
//! shards and whether it went to Kafka or here. Two gateways are not ordered against each other, as two Kafka producers are
//! not.

pub mod adopt;
pub mod begin;
pub mod domains;
pub mod drain;
pub mod keeper;
pub mod open;
pub mod pace;
pub mod parked;
pub mod peer;
pub mod status;
pub mod store;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};
use journal::queue::{Kind as RecordKind, Name};
use journal::{Record, Refused};
use kafka_client::{Acks, Client, How, Outcome, TopicIdx};
use kafka_wire::handoff_entry::{self as entry, Target};
use kafka_wire::record_batch::RecordRef;
use runtime::notify::Notify;
use slab::Slab;
use smallvec::SmallVec;

use self::domains::{BY_KEY, Way};
use self::drain::Drainer;
use self::pace::Pace;
use self::store::{Appended, HandOffError, Handed, Store};
use crate::codes;
use crate::exchange::reply::{Header, Reply};
use crate::kafka::cluster::Cluster;
use crate::limits::{HANDOFF_GROUP_BYTES_MAX, HANDOFF_GROUP_RECORDS_MAX, HANDOFF_HELD_MAX};
use crate::publish::format::limits::RECEIPTS_PATH;
use crate::publish::single::{Sending, Single};
use crate::publish::{Around, Publishing};
use crate::refusal::Refusal;

/// How often is looked at what waits while something does.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a publisher wants when Kafka is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wish {
    /// Handed off, if app and topic allow it.
    #[default]
    Allowed,
    /// `hh=n`: 503.
    Refused,
    /// `async=1`: handed off even when Kafka is there.
    Always,
}

impl Wish {
    /// With `async` in the query. It means more than `hh`.
    pub fn and_async(self, is_async: bool) -> Wish {
        if is_async { Wish::Always } else { self }
    }

    /// With `hh` in the query.
    pub fn and_hh(self, allowed: bool) -> Wish {
        match (self, allowed) {
            (Wish::Always, _) => Wish::Always,
            (_, true) => Wish::Allowed,
            (_, false) => Wish::Refused,
        }
    }
}

/// Which way a record goes.
pub enum Route {
    /// To Kafka, to this partition if one was chosen; given back if it cannot be stored now.
    Kafka {
        partition: Option<i32>,
        gives_back: bool,
    },
    /// To the journal, behind what waits there.
    Journal {
        lane: i32,
        why: Arc<str>,
    },
    /// Nowhere for a moment; from then on into the journal, in that lane.
    Hold {
        lane: i32,
        until: Instant,
    },
    Refuse(Refusal),
}

/// A record that goes somewhere, and who wants what.
pub struct Asked<'a> {
    pub topic: TopicIdx,
    pub partition: Option<i32>,
    pub key: Option<&'a [u8]>,
    pub acks: Acks,
    pub wish: Wish,
    /// App and topic allow it.
    pub is_allowed: bool,
}

/// Where records go in the journal, and why.
pub(super) struct Goes<'a> {
    pub name: Name,
    pub why: &'a Arc<str>,
    /// This shard has sends to that partition without an answer, which come before.
    pub is_held: bool,
}

/// One shard's part. One per shard.
pub struct Handoff {
    store: Option<Arc<Store>>,
    shard: usize,
    /// Appended and not durable, by ticket.
    appending: RefCell<Slab<Appending>>,
    /// At a gate, in the order they came.
    held: RefCell<VecDeque<Held>>,
    pub(super) drainer: Drainer,
    /// Rung when there is something to look at.
    pub wake: Notify,
    subjects: RefCell<HashMap<(usize, TopicIdx), Arc<str>>>,
    apps: RefCell<HashMap<u32, Arc<str>>>,
}

/// Who waits for records to be durable.
enum Owner {
    Single(Box<Single>),
    Batch { tag: u64, record_first: u32 },
}

struct Appending {
    owner: Owner,
    app: Arc<str>,
    appended: Appended,
    bytes: SmallVec<[u32; 1]>,
}

/// A publish that waits at a gate.
struct Held {
    single: Box<Single>,
    cluster: usize,
    topic: TopicIdx,
    partition: i32,
    head: Bytes,
    tail: Bytes,
    deadline: Instant,
    name: Name,
}

/// A record as the journal is to have it. Its checksum is computed here, by whoever has the time.
pub fn record(record: &RecordRef<'_>, value: Option<Bytes>, target: Target) -> Record {
    let head = entry::head(record, record.value.is_none() && value.is_none(), target);
    let tail = value.unwrap_or_else(|| Bytes::copy_from_slice(record.value.unwrap_or_default()));
    Record::of_parts(0, RecordKind::Entry as u8, 0, head, tail)
}

impl Handoff {
    pub fn new(store: Option<Arc<Store>>, shard: usize, pace: Pace) -> Handoff {
        Handoff {
            store,
            shard,
            appending: RefCell::default(),
            held: RefCell::default(),
            drainer: Drainer::new(pace),
            wake: Notify::new(),
            subjects: RefCell::new(HashMap::new()),
            apps: RefCell::new(HashMap::new()),
        }
    }

    pub fn store(&self) -> Option<&Arc<Store>> {
        self.store.as_ref()
    }

    /// Requests that wait for the disk or at a gate.
    pub fn count(&self) -> usize {
        self.appending.borrow().len() + self.held.borrow().len()
    }

    /// `cluster/physical topic`.
    pub fn subject(&self, cluster: &Cluster, client: &Client, topic: TopicIdx) -> Arc<str> {
        let mut subjects = self.subjects.borrow_mut();
        if let Some(subject) = subjects.get(&(cluster.index, topic)) {
            return Arc::clone(subject);
        }
        let subject: Arc<str> = format!("{}/{}", cluster.name, client.topic_name(topic)).into();
        subjects.insert((cluster.index, topic), Arc::clone(&subject));
        subject
    }

    /// The app with that [`model::App::index`], which never changes its id.
    pub fn app(&self, around: Around<'_>, tenant: u32) -> Arc<str> {
        let mut apps = self.apps.borrow_mut();
        if let Some(app) = apps.get(&tenant) {
            return Arc::clone(app);
        }
        let snapshot = around.access.borrow_snapshot();
        let id: Arc<str> = snapshot.apps().find(|app| app.index == tenant).map_or("", |app| app.id.as_str()).into();
        if !id.is_empty() {
            apps.insert(tenant, Arc::clone(&id));
        }
        id
    }

    /// Which way a record goes now.
    pub fn route(&self, cluster: &Cluster, client: &mut Client, asked: &Asked<'_>) -> Route {
        let &Asked { topic, partition, key, acks, wish, is_allowed } = asked;
        let Some(store) = self.store.as_ref().filter(|store| store.takes()) else {
            return match wish {
                Wish::Always => Route::Refuse(is_off("hinted handoff is off at this gateway")),
                _ => Route::Kafka { partition, gives_back: false },
            };
        };
        if wish == Wish::Always && !is_allowed {
            return Route::Refuse(is_off("hinted handoff is off for this topic or app"));
        }
        let gives_back = is_allowed && wish == Wish::Allowed && acks == Acks::All;
        if wish != Wish::Always && (store.is_quiet() || acks != Acks::All || !is_allowed) {
            return Route::Kafka { partition, gives_back };
        }
        let subject = self.subject(cluster, client, topic);
        let known = client.partition_for(topic, partition, key);
        let lane = known.unwrap_or(BY_KEY);
        match (store.way(&subject, known), wish) {
            (Way::Direct, Wish::Always) => Route::Journal { lane, why: "the client asked for it".into() },
            (Way::Direct, _) => Route::Kafka { partition: known.or(partition), gives_back },
            (_, Wish::Refused) => {
                let message = "nothing was stored: other messages for this partition wait for Kafka at this gateway";
                Route::Refuse(Refusal::new(codes::KAFKA_UNAVAILABLE, message))
            }
            (Way::Journal { lane }, _) => Route::Journal { lane, why: "others wait before it".into() },
            (Way::Wait { lane, .. }, Wish::Always) => Route::Journal { lane, why: "the client asked for it".into() },
            (Way::Wait { lane, until }, _) => Route::Hold { lane, until },
        }
    }

    /// Appends a publish. It has its number; `single` is answered when it is durable.
    pub(super) fn append_single(
        &self,
        single: Box<Single>,
        goes: &Goes<'_>,
        record: Record,
        now_ms: i64,
    ) -> Result<(), (Box<Single>, HandOffError)> {
        match self.append(Owner::Single(single), goes, vec![record], now_ms) {
            Ok(_) => Ok(()),
            Err((Owner::Single(single), error)) => Err((single, error)),
            Err((Owner::Batch { .. }, _)) => unreachable!("given as a single"),
        }
    }

    /// Appends consecutive records of a batch; its session is told when they are durable. Those that were not taken, with
    /// why: the first one's index, and how many.
    pub(super) fn append_run(
        &self,
        tag: u64,
        goes: &Goes<'_>,
        first: u32,
        records: Vec<Record>,
        now_ms: i64,
    ) -> Vec<(u32, u32, HandOffError)> {
        let mut failures = Vec::new();
        let mut at = first;
        let mut left = records.into_iter().peekable();
        while left.peek().is_some() {
            let mut bytes = 0;
            let group: Vec<Record> = std::iter::from_fn(|| {
                let next =
                    left.next_if(|record| bytes == 0 || bytes + record.body_bytes() <= HANDOFF_GROUP_BYTES_MAX)?;
                bytes += next.body_bytes().max(1);
                Some(next)
            })
            .take(HANDOFF_GROUP_RECORDS_MAX)
            .collect();
            let count = group.len() as u32;
            let owner = Owner::Batch { tag, record_first: at };
            let (taken, error) = match self.append(owner, goes, group, now_ms) {
                Ok((taken, error)) => (taken, error),
                Err((_, error)) => (0, Some(error)),
            };
            if let Some(error) = error {
                failures.push((at.wrapping_add(taken), count - taken, error));
            }
            at = at.wrapping_add(count);
        }
        failures
    }

    /// Appends records of one owner for one lane: how many were taken, and why not the others.
    fn append(
        &self,
        owner: Owner,
        goes: &Goes<'_>,
        records: Vec<Record>,
        now_ms: i64,
    ) -> Result<(u32, Option<HandOffError>), (Owner, HandOffError)> {
        let store = self.store.as_ref().expect("routed here, so there is one");
        let mut appending = self.appending.borrow_mut();
        let place = appending.vacant_entry();
        let bytes: SmallVec<[u32; 1]> = records.iter().map(|record| record.body_bytes() as u32).collect();
        let handed = Handed { name: &goes.name, why: goes.why, is_held: goes.is_held };
        match store.hand_off(self.shard, &handed, records, place.key() as u64, now_ms) {
            (Some(appended), error) => {
                let bytes = bytes.into_iter().take(appended.count as usize).collect();
                place.insert(Appending { owner, app: Arc::clone(&goes.name.account), appended, bytes });
                Ok((appended.count, error))
            }
            (None, error) => Err((owner, error.expect("nothing was taken for a reason"))),
        }
    }

    /// Kafka's outcome for records that waited in the journal.
    pub(super) fn complete(&self, around: Around<'_>, key: usize, outcome: &Outcome, now: Instant) {
        let store = self.store.as_ref().expect("it handed them over");
        self.drainer.complete(around, store, key, outcome, now);
        self.wake.notify();
    }

    /// Has a publish wait at the gate of the lane in `name`. Given back when there are too many.
    pub(super) fn hold(
        &self,
        single: Box<Single>,
        sending: Sending<'_>,
        deadline: Instant,
        name: Name,
    ) -> Result<(), Box<Single>> {
        let mut held = self.held.borrow_mut();
        if held.len() >= HANDOFF_HELD_MAX {
            return Err(single);
        }
        let Sending { cluster, topic, record, shared, .. } = sending;
        let partition = name.lane;
        let target = Target { partition: Some(partition), is_named: true, topic_id: [0; 16] };
        let head = entry::head(record, record.value.is_none() && shared.is_none(), target);
        let tail = shared.cloned().unwrap_or_else(|| Bytes::copy_from_slice(record.value.unwrap_or_default()));
        held.push_back(Held { single, cluster: cluster.index, topic, partition, head, tail, deadline, name });
        Ok(())
    }

    /// Whether somebody waits at a gate here.
    pub fn has_held(&self) -> bool {
        !self.held.borrow().is_empty()
    }
}

impl Publishing {
    /// One look at everything that waits here: what became durable, what may leave a gate, what is delivered next.
    pub fn turn(&self, around: Around<'_>, now: Instant) {
        let Some(store) = self.handoff.store() else { return };
        self.take_completions(around, store, now);
        self.leave_gates(around, now);
        self.release_holds(around, store);
        self.handoff.drainer.turn(around, store, self.handoff.shard, now);
    }

    /// When [`Publishing::turn`] is due without being rung for.
    pub fn next_turn(&self, now: Instant) -> Option<Instant> {
        let store = self.handoff.store()?;
        let is_idle = store.is_quiet() && self.handoff.count() == 0;
        (!is_idle).then(|| {
            let look = now + LOOK_EVERY;
            self.handoff.drainer.next_deadline().map_or(look, |at| at.min(look))
        })
    }

    fn take_completions(&self, around: Around<'_>, store: &Store, now: Instant) {
        for (ticket, bodies) in store.take_reads(self.handoff.shard) {
            self.handoff.drainer.read(ticket, bodies);
        }
        for (ticket, result) in store.take_commits(self.handoff.shard) {
            let done = self.handoff.appending.borrow_mut().try_remove(ticket as usize);
            let Some(done) = done else {
                debug_assert!(false, "the journal told of ticket {ticket}, which nobody has");
                continue;
            };
            match result {
                Ok(()) => self.durable(around, store, done, now),
                Err(refused) => {
                    store.take_back(done.appended, &done.bytes, now);
                    self.not_durable(around, done, refused, now);
                }
            }
        }
    }

    fn durable(&self, around: Around<'_>, store: &Store, done: Appending, now: Instant) {
        let Appending { owner, app, appended, bytes } = done;
        let all: usize = bytes.iter().map(|bytes| *bytes as usize).sum();
        around.env.metrics.handed_off(u64::from(appended.count), all);
        match owner {
            Owner::Single(single) => {
                let id = store.issuer().issue(&app, appended.stream, appended.first);
                single.answer(around.env, accepted(&id), now);
            }
            Owner::Batch { tag, record_first } => {
                self.with_batch(tag, |session| {
                    session.handed_off(around.env, record_first, appended, store.issuer(), &app, now)
                });
            }
        }
    }

    fn not_durable(&self, around: Around<'_>, done: Appending, refused: Refused, now: Instant) {
        let refusal = refuse(&HandOffError::Refused(refused));
        match done.owner {
            Owner::Single(single) => single.answer(around.env, Reply::refusal(&refusal), now),
            Owner::Batch { tag, record_first } => {
                let count = done.appended.count;
                self.with_batch(tag, |session| {
                    session.fail_run(around.env, record_first, count, &refusal.clone().into(), now)
                });
            }
        }
    }

    /// Publishes at a gate that opened, one way or the other, in the order they came.
    pub(super) fn leave_gates(&self, around: Around<'_>, now: Instant) {
        let Some(store) = self.handoff.store() else { return };
        let mut stays = VecDeque::new();
        loop {
            let next = self.handoff.held.borrow_mut().pop_front();
            let Some(held) = next else { break };
            // Those behind one that stays stay behind it.
            let behind = stays.iter().any(|other: &Held| {
                (other.cluster, other.topic, other.partition) == (held.cluster, held.topic, held.partition)
            });
            match store.way(&held.name.subject, Some(held.partition)) {
                Way::Wait { until, .. } if now < until || behind => stays.push_back(held),
                _ if behind => stays.push_back(held),
                Way::Direct => self.leave_to_kafka(around, held, now),
                // Of a gate by key it is the lane by key, whichever partition is known by now: it goes last of all.
                Way::Journal { lane } | Way::Wait { lane, .. } => self.leave_to_journal(around, held, lane, now),
            }
        }
        *self.handoff.held.borrow_mut() = stays;
    }

    fn leave_to_journal(&self, around: Around<'_>, held: Held, lane: i32, now: Instant) {
        let record = Record::of_parts(0, RecordKind::Entry as u8, 0, held.head, held.tail);
        let name = Name { lane, ..held.name };
        let why: Arc<str> = "the backlog before it took too long".into();
        let goes = Goes { name, why: &why, is_held: false };
        let appended = self.handoff.append_single(held.single, &goes, record, around.env.wall_clock_ms());
        if let Err((single, error)) = appended {
            single.answer(around.env, Reply::refusal(&refuse(&error)), now);
        }
    }

    fn leave_to_kafka(&self, around: Around<'_>, held: Held, now: Instant) {
        let Held { single, cluster, topic, partition, head, tail, deadline, .. } = held;
        let mut entry = entry::read(&head).expect("a head of ours");
        entry.value = entry.value.map(|_| &tail[..]);
        let cluster = Rc::clone(around.clusters.at(cluster));
        let record = entry.as_record();
        let how = How::new(Acks::All, deadline).or_give_back();
        let (cluster, partition) = (&*cluster, Some(partition));
        let sending = Sending { cluster, topic, partition, record: &record, shared: None };
        if let Err(unplaced) = self.give_to_kafka(around, *single, sending, how, now) {
            let (single, refusal) = *unplaced;
            single.answer(around.env, Reply::refusal(&refusal), now);
        }
    }

    /// Sends of this shard that others wait for, and that have their answers now.
    fn release_holds(&self, around: Around<'_>, store: &Store) {
        if store.is_quiet() {
            return;
        }
        for (subject, lane) in store.held_by(self.handoff.shard) {
            let found =
                subject.split_once('/').and_then(|(cluster, topic)| Some((around.clusters.find(cluster)?, topic)));
            let is_settled = found.is_none_or(|(cluster, topic)| {
                let mut client = cluster.client.borrow_mut();
                let topic = client.topic(topic);
                client.is_settled(topic, lane)
            });
            if is_settled {
                store.release(&subject, lane, self.handoff.shard);
            }
        }
    }
}

/// `202`: durable here, and delivered when Kafka is back.
fn accepted(id: &str) -> Reply {
    let receipt = format!("{RECEIPTS_PATH}{id}");
    let body = format!("{{\"ok\":1,\"msg_id\":\"{id}\",\"receipt\":\"{receipt}\"}}");
    Reply::json(202, body)
        .with(Header::bytes("X-Msg-Id".to_owned(), id.as_bytes().to_vec()))
        .with(Header::bytes("Location".to_owned(), receipt.into_bytes()))
}

fn is_off(message: &str) -> Refusal {
    Refusal::new(codes::HANDOFF_OFF, format!("nothing was stored: {message}"))
}

/// Why a message was neither sent nor kept.
pub(super) fn refuse(error: &HandOffError) -> Refusal {
    let code = match error {
        HandOffError::Over(_) => codes::HANDOFF_FULL,
        // Kafka may take it when it is there.
        HandOffError::Refused(Refused::TooLarge) => codes::KAFKA_UNAVAILABLE,
        HandOffError::Refused(Refused::Waiting) => codes::OVERLOADED,
        HandOffError::Refused(Refused::DiskFull) => codes::DISK_FULL,
        HandOffError::Refused(Refused::ReadOnly) => codes::HANDOFF_BROKEN,
        HandOffError::Refused(Refused::Closed) => codes::DRAINING,
        HandOffError::Refused(Refused::Unknown) => codes::OUTCOME_UNKNOWN,
    };
    let message = match code {
        codes::OUTCOME_UNKNOWN => format!("Kafka is away, and {error}"),
        _ => format!("nothing was stored: Kafka is away, and {error}"),
    };
    let mut refusal = Refusal::new(code, message);
    if code == codes::HANDOFF_FULL || code == codes::DISK_FULL {
        refusal.retry_after_s = Some(RETRY_AFTER_FULL_S);
    }
    refusal
}

/// What is full does not empty in a second.
const RETRY_AFTER_FULL_S: u32 = 5;
