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
use crate::kafka::Clusters;
use crate::kafka::cluster::Cluster;
use crate::kafka::destination::Destination;
use crate::limits::{PUBLISH_META_BYTES_FREE, VALUE_SHARED_BYTES_MIN};
use crate::publish::headers::RecordHeaders;
use crate::publish::{Kind, Publishing};
use crate::refusal::Refusal;
use crate::timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_client::{Acks, How, Outcome, TopicIdx};
use kafka_wire::record_batch::RecordRef;
use model::Side;
use smallvec::SmallVec;
use std::borrow::Cow;
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

/// A publish that waits for Kafka.
pub struct Single {
    exchange: Exchange,
    topic: TopicIdx,
    /// [`Destination::label`], for the per-topic metrics.
    topic_label: u32,
    bytes: usize,
}

impl Publishing {
    /// Hands a message over and waits for its outcome. False: it was refused at once, nothing was stored.
    pub fn start_single(
        &self,
        env: &Env,
        clusters: &Clusters,
        mut exchange: Exchange,
        message: &Message<'_>,
        destination: &Destination,
        now: Instant,
    ) -> bool {
        let cluster = clusters.at(destination.route.cluster);
        let mut singles = self.singles.borrow_mut();
        let entry = singles.vacant_entry();
        let tag = Kind::Single.tag(entry.key());
        if let Err(refusal) = hand_over(env, cluster, &mut exchange, message, destination, tag, now) {
            exchange.refuse(env, &refusal, now);
            return false;
        }
        exchange.endpoint = ENDPOINT;
        let (topic, topic_label, bytes) = (destination.route.topic, destination.label, message.body.len());
        entry.insert(Single { exchange, topic, topic_label, bytes });
        cluster.wake();
        true
    }
}

/// Checks what the record needs beyond its parts, and gives it to the client.
fn hand_over(
    env: &Env,
    cluster: &Cluster,
    exchange: &mut Exchange,
    message: &Message<'_>,
    destination: &Destination,
    tag: u64,
    now: Instant,
) -> Result<(), Refusal> {
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
    let refs = headers.refs();
    let record = RecordRef { timestamp_ms, key, value: (!wishes.null).then(|| body.as_slice()), headers: &refs };
    let deadline = now + wishes.timeout.unwrap_or(env.config.publish_timeout);
    let (topic, partition, how) = (destination.route.topic, wishes.partition, How::new(wishes.acks, deadline));
    let mut client = cluster.client.borrow_mut();
    let handed_over = match body {
        RequestBody::Owned(bytes) if bytes.len() >= VALUE_SHARED_BYTES_MIN && !wishes.null => {
            client.produce_shared(topic, partition, &record, bytes.clone(), how, tag, 0, now)
        }
        _ => client.produce(topic, partition, &record, how, tag, 0, now),
    };
    handed_over.map_err(|err| Refusal::from(&err))
}

impl Single {
    /// Kafka's outcome for the record.
    pub fn complete(self, env: &Env, cluster: &Cluster, outcome: Outcome, now: Instant) {
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
