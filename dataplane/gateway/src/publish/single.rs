//! One message, one record: handed to the accumulator, where order is fixed; answered with Kafka's outcome. Nothing waits
//! in between: an idle publish leaves at the end of the current tick.
//!
//! Cost sketch per 1 KiB message: one copy of the body into the open batch, one slab entry, one answer; no allocation
//! per header below eight.

use crate::codes;
use crate::env::Env;
use crate::exchange::body::RequestBody;
use crate::exchange::reply::{Reply, Stored};
use crate::exchange::{Exchange, budget_spent};
use crate::kafka::cluster::Cluster;
use crate::kafka::destination::Destination;
use crate::limits::{PUBLISH_META_BYTES_FREE, VALUE_SHARED_BYTES_MIN};
use crate::publish::handoff::domains::BY_KEY;
use crate::publish::handoff::{self, Asked, Goes, Route, Wish};
use crate::publish::headers::RecordHeaders;
use crate::publish::{Around, Kind, Publishing};
use crate::refusal::Refusal;
use crate::timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use journal::queue::Name;
use kafka_client::{Acks, How, Outcome, ProduceError, TopicIdx};
use kafka_wire::handoff_entry::Target;
use kafka_wire::record_batch::{HeaderRef, RecordRef};
use model::Side;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How metrics and log name it.
const ENDPOINT: &str = "publish";

/// What a publish asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Wishes<'q> {
    pub key: Option<Cow<'q, [u8]>>,
    pub partition: Option<i32>,
    pub acks: Acks,
    pub timestamp_ms: Option<i64>,
    pub timeout: Option<Duration>,
    pub null: bool,
    pub hand_off: Wish,
}

/// A message and what is asked of it.
pub struct Message<'m> {
    pub wishes: Wishes<'m>,
    pub headers: &'m RecordHeaders,
    pub body: RequestBody<'m>,
}

impl Message<'_> {
    /// Value, key and headers.
    pub fn bytes(&self) -> usize {
        self.body.len() + self.wishes.key.as_ref().map_or(0, |key| key.len()) + self.headers.weight()
    }
}

/// A publish that waits for Kafka, or for this gateway's disk.
pub struct Single {
    exchange: Exchange,
    topic: TopicIdx,
    /// [`Destination::label`], for the per-topic metrics.
    topic_label: u32,
    /// [`Destination::tenant`].
    tenant: u32,
    bytes: usize,
}

/// A publish that went nowhere, and why. Boxed: rare, and large.
pub(super) type Unplaced = Box<(Single, Refusal)>;

/// A record that is checked, and how long it may take.
struct Checked<'m> {
    timestamp_ms: i64,
    key: Option<&'m [u8]>,
    value: Option<&'m [u8]>,
    /// The value again, to be linked instead of copied.
    shared: Option<&'m Bytes>,
    deadline: Instant,
}

/// A record, and where it is to go.
#[derive(Clone, Copy)]
pub(super) struct Sending<'r> {
    pub cluster: &'r Cluster,
    pub topic: TopicIdx,
    /// The one it must go to: asked for, or chosen before.
    pub partition: Option<i32>,
    pub record: &'r RecordRef<'r>,
    /// The value again, to be linked instead of copied.
    pub shared: Option<&'r Bytes>,
}

impl Publishing {
    /// Hands a message over and waits for its outcome. False: it was refused at once, nothing was stored.
    pub fn start_single(
        &self,
        around: Around<'_>,
        mut exchange: Exchange,
        message: &Message<'_>,
        destination: &Destination,
        now: Instant,
    ) -> bool {
        let env = around.env;
        let checked = match check(env, &mut exchange, message, now) {
            Ok(checked) => checked,
            Err(refusal) => {
                exchange.refuse(env, &refusal, now);
                return false;
            }
        };
        exchange.endpoint = ENDPOINT;
        if self.handoff.has_held() {
            // Whoever waits at a gate that has opened goes first.
            self.leave_gates(around, now);
        }
        let (topic, topic_label, tenant) = (destination.route.topic, destination.label, destination.tenant);
        let single = Single { exchange, topic, topic_label, tenant, bytes: message.body.len() };
        match self.go(around, single, message, &checked, destination, now) {
            Ok(()) => true,
            Err(unplaced) => {
                let (single, refusal) = *unplaced;
                single.exchange.refuse(env, &refusal, now);
                false
            }
        }
    }

    /// To Kafka, to the journal, or to wait for a moment.
    fn go(
        &self,
        around: Around<'_>,
        single: Single,
        message: &Message<'_>,
        checked: &Checked<'_>,
        destination: &Destination,
        now: Instant,
    ) -> Result<(), Unplaced> {
        let wishes = &message.wishes;
        let headers = message.headers.refs();
        let Checked { timestamp_ms, key, value, shared, deadline } = *checked;
        let record = RecordRef { timestamp_ms, key, value, headers: &headers };
        let cluster = around.clusters.at(destination.route.cluster);
        let (topic, partition) = (destination.route.topic, wishes.partition);
        let sending = Sending { cluster, topic, partition, record: &record, shared };
        let asked = Asked {
            topic,
            partition: wishes.partition,
            key,
            acks: wishes.acks,
            wish: wishes.hand_off,
            is_allowed: destination.hands_off,
        };
        let route = self.handoff.route(cluster, &mut cluster.client.borrow_mut(), &asked);
        match route {
            Route::Kafka { partition, gives_back } => {
                let how = How::new(wishes.acks, deadline);
                let how = if gives_back { how.or_give_back() } else { how };
                self.give_to_kafka(around, single, Sending { partition, ..sending }, how, now)
            }
            Route::Journal { lane, why } => self.give_to_journal(around, single, sending, lane, &why),
            Route::Hold { .. } => {
                let known = cluster.client.borrow_mut().partition_for(topic, partition, key);
                let Some(lane) = known else {
                    return self.give_to_journal(around, single, sending, BY_KEY, &"others wait before it".into());
                };
                let name = self.name(around, cluster, &single, lane);
                self.handoff
                    .hold(Box::new(single), sending, deadline, name)
                    .map_err(|single| Box::new((*single, Refusal::overloaded("too many publishes wait for a moment"))))
            }
            Route::Refuse(refusal) => Err(Box::new((single, refusal))),
        }
    }

    /// Gives a record to the Kafka client; if Kafka is known to be away, to the journal.
    pub(super) fn give_to_kafka(
        &self,
        around: Around<'_>,
        single: Single,
        sending: Sending<'_>,
        how: How,
        now: Instant,
    ) -> Result<(), Unplaced> {
        let Sending { cluster, topic, partition, record, shared } = sending;
        let mut singles = self.singles.borrow_mut();
        let entry = singles.vacant_entry();
        let tag = Kind::Single.tag(entry.key());
        let mut client = cluster.client.borrow_mut();
        let given = match shared {
            Some(value) => client.produce_shared(topic, partition, record, value.clone(), how, tag, 0, now),
            None => client.produce(topic, partition, record, how, tag, 0, now),
        };
        drop(client);
        match given {
            Ok(()) => {
                entry.insert(single);
                cluster.wake();
                Ok(())
            }
            Err(ProduceError::Away { why, partition: away }) => {
                drop(singles);
                let lane = away.unwrap_or(BY_KEY);
                self.give_to_journal(around, single, sending, lane, &why)
            }
            Err(error) => Err(Box::new((single, Refusal::from(&error)))),
        }
    }

    /// Gives a record to the journal, behind what waits in that lane.
    fn give_to_journal(
        &self,
        around: Around<'_>,
        single: Single,
        sending: Sending<'_>,
        lane: i32,
        why: &Arc<str>,
    ) -> Result<(), Unplaced> {
        let Sending { cluster, partition: named, record, shared, .. } = sending;
        let name = self.name(around, cluster, &single, lane);
        let (topic_id, is_held) = {
            let client = cluster.client.borrow();
            (client.topic_id(single.topic).unwrap_or_default(), lane >= 0 && !client.is_settled(single.topic, lane))
        };
        let partition = if lane >= 0 { Some(lane) } else { named };
        let target = Target { partition, is_named: named.is_some(), topic_id };
        let record = handoff::record(record, shared.cloned(), target);
        let goes = Goes { name, why, is_held };
        let appended = self.handoff.append_single(Box::new(single), &goes, record, around.env.wall_clock_ms());
        appended.map_err(|(single, error)| Box::new((*single, handoff::refuse(&error))))
    }

    fn name(&self, around: Around<'_>, cluster: &Cluster, single: &Single, lane: i32) -> Name {
        let subject = self.handoff.subject(cluster, &cluster.client.borrow(), single.topic);
        Name { account: self.handoff.app(around, single.tenant), subject, lane }
    }

    /// Kafka's outcome for a publish: its answer, or its way into the journal.
    pub(super) fn complete_single(
        &self,
        around: Around<'_>,
        cluster: &Cluster,
        single: Single,
        outcome: Outcome,
        now: Instant,
    ) {
        let (Err(ProduceError::Away { why, partition }), Some(unsent)) = (&outcome.result, &outcome.unsent) else {
            return single.complete(around.env, cluster, outcome, now);
        };
        let Some(record) = unsent.records().next() else { unreachable!("a publish is one record") };
        let headers: SmallVec<[HeaderRef<'_>; 4]> =
            record.headers.iter_refs().map(|(name, value)| HeaderRef { name, value }).collect();
        let given = RecordRef {
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        let (topic, partition, shared) = (single.topic, *partition, record.value.as_ref());
        let sending = Sending { cluster, topic, partition, record: &given, shared };
        let given = self.give_to_journal(around, single, sending, partition.unwrap_or(BY_KEY), why);
        if let Err(unplaced) = given {
            let (single, refusal) = *unplaced;
            single.exchange.refuse(around.env, &refusal, now);
        }
    }
}

/// Checks what the record needs beyond its parts.
fn check<'m>(
    env: &Env,
    exchange: &mut Exchange,
    message: &'m Message<'_>,
    now: Instant,
) -> Result<Checked<'m>, Refusal> {
    let Message { wishes, headers, body } = message;
    if wishes.null && !body.is_empty() {
        return Err(Refusal::new(codes::NULL_WITH_BODY, "null=1 stores a null value, but the request has a body"));
    }
    let now_ms = env.wall_clock_ms();
    let timestamp_ms = wishes.timestamp_ms.map_or(Ok(now_ms), |given| timestamp::check(given, now_ms));
    let timestamp_ms = timestamp_ms.map_err(|err| Refusal::new(codes::TIMESTAMP_UNIT, err.to_string()))?;
    let key = wishes.key.as_deref();
    let meta_bytes = key.map_or(0, <[u8]>::len) + headers.weight();
    if let Some(held) = exchange.held.as_mut().filter(|_| meta_bytes > PUBLISH_META_BYTES_FREE) {
        held.grow(meta_bytes).map_err(|refused| budget_spent(env, &refused))?;
    }
    let shared = match body {
        RequestBody::Owned(bytes) if bytes.len() >= VALUE_SHARED_BYTES_MIN && !wishes.null => Some(bytes),
        _ => None,
    };
    let deadline = now + wishes.timeout.unwrap_or(env.config.publish_timeout);
    Ok(Checked { timestamp_ms, key, value: (!wishes.null).then(|| body.as_slice()), shared, deadline })
}

impl Single {
    /// An answer that is not Kafka's.
    pub fn answer(&self, env: &Env, reply: Reply, now: Instant) {
        self.exchange.answer(env, reply, now);
    }

    /// Kafka's outcome for the record.
    fn complete(self, env: &Env, cluster: &Cluster, outcome: Outcome, now: Instant) {
        let reply = match outcome.result {
            Ok(stored) => {
                let client = cluster.client.borrow();
                let name = client.topic_name(self.topic);
                env.metrics.published(self.topic_label, name, self.bytes, now - self.exchange.begun);
                env.traffic.count(Side::Publish, self.topic_label, 1, self.bytes);
                Reply::stored(Stored {
                    id: message_id(&cluster.name, name, stored.partition, stored.offset),
                    partition: stored.partition,
                    offset: stored.offset,
                    timestamp_ms: stored.timestamp_ms,
                })
            }
            Err(err) => Reply::refusal(&Refusal::from(&err)),
        };
        self.exchange.answer(env, reply, now);
    }
}

/// `cluster/physical topic/partition/offset` in base64url; opaque to clients.
fn message_id(cluster: &str, topic: &str, partition: i32, offset: i64) -> SmallVec<[u8; 64]> {
    let mut plain: SmallVec<[u8; 128]> = SmallVec::new();
    plain.extend_from_slice(cluster.as_bytes());
    plain.push(b'/');
    plain.extend_from_slice(topic.as_bytes());
    plain.push(b'/');
    plain.extend_from_slice(itoa::Buffer::new().format(partition).as_bytes());
    plain.push(b'/');
    plain.extend_from_slice(itoa::Buffer::new().format(offset).as_bytes());
    let mut out: SmallVec<[u8; 64]> = SmallVec::new();
    out.resize(plain.len().div_ceil(3) * 4, 0);
    let written = URL_SAFE_NO_PAD.encode_slice(&plain, &mut out).expect("sized for the worst case");
    out.truncate(written);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_base64url_of_the_position() {
        let id = message_id("main", "app.orders.v1", 3, 1_234_567_890_123);
        let plain = URL_SAFE_NO_PAD.decode(&id[..]).expect("base64url");
        assert_eq!(plain, b"main/app.orders.v1/3/1234567890123");
        let id = message_id("main", "t", 0, -1);
        assert_eq!(URL_SAFE_NO_PAD.decode(&id[..]).expect("base64url"), b"main/t/0/-1");
    }
}
