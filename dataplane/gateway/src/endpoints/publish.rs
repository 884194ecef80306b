//! `POST /v1/msgs/:topic/:ver`: one message, one record.
//!
//! `start` validates and hands the record to the accumulator (order is fixed there); `complete` turns Kafka's outcome
//! into the answer. Nothing waits in between: an idle publish leaves at the end of the current tick.
//!
//! Cost sketch per 1 KiB message: one copy of the body into the open batch, one slab entry, one answer buffer; no
//! allocation per header below eight.

use crate::cluster::Cluster;
use crate::conn::{Conn, RequestMeta};
use crate::destination::Destination;
use crate::endpoints::Body;
use crate::endpoints::parameters::{self, bad_parameter};
use crate::limits::{
    KEY_BYTES_MAX, PUBLISH_META_BYTES_FREE, RECORD_HEADER_OVERHEAD_BYTES, RECORD_HEADERS_MAX, TAG_BYTES_MAX,
    VALUE_SHARED_BYTES_MIN,
};
use crate::reply::{self, Failure};
use crate::shard::Shard;
use crate::timestamp;
use crate::waiters::Waiter;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gafka_http::{Head, pct, query};
use kafka_client::{Acks, Outcome, TopicIdx};
use kafka_wire::record_batch::{HeaderRef, RecordRef};
use runtime::budget::Reservation;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The query of a publish.
#[derive(Debug, PartialEq, Eq)]
struct Params<'q> {
    key: Option<Cow<'q, [u8]>>,
    partition: Option<i32>,
    acks: Acks,
    timestamp_ms: Option<i64>,
    timeout: Option<Duration>,
    null: bool,
}

/// A publish that waits for Kafka.
pub struct Single {
    conn: Rc<Conn>,
    sequence: u64,
    meta: RequestMeta,
    topic: TopicIdx,
    /// [`Destination::label`], for the per-topic metrics.
    topic_label: u32,
    started: Instant,
    bytes: usize,
    /// Held until the answer is known, then dropped: that is what bounds a dead cluster's share of memory.
    _reservation: Reservation,
}

/// Validates the request and hands the record over. `Err` is an answer at once: nothing was stored.
#[allow(clippy::too_many_arguments, reason = "the one call of the request path, all of it borrowed")]
pub fn start(
    shard: &Shard,
    conn: &Rc<Conn>,
    sequence: u64,
    meta: &RequestMeta,
    query: Option<&str>,
    record_headers: &RecordHeaders,
    destination: &Destination,
    body: Body<'_>,
    mut reservation: Reservation,
    begun: Instant,
    now: Instant,
) -> Result<(), Failure> {
    let params = parse_query(query, shard.config.publish_timeout)?;
    if params.null && !body.is_empty() {
        return Err(Failure::bad_request("null_with_body", "null=1 stores a null value, but the request has a body"));
    }
    let now_ms = shard.wall_clock_ms();
    let timestamp_ms = params.timestamp_ms.map_or(Ok(now_ms), |given| timestamp::check(given, now_ms));
    let timestamp_ms = timestamp_ms.map_err(|err| Failure::bad_request("timestamp_unit", err.to_string()))?;
    let headers = record_headers.refs();
    let route = destination.route;
    let cluster = &shard.clusters[route.cluster];
    let record = RecordRef {
        timestamp_ms,
        key: params.key.as_deref(),
        value: (!params.null).then(|| body.as_slice()),
        headers: &headers,
    };
    let meta_bytes = params.key.as_deref().map_or(0, <[u8]>::len) + record_headers.weight();
    if meta_bytes > PUBLISH_META_BYTES_FREE {
        reservation.grow(meta_bytes).map_err(|refused| shard.refused(&refused))?;
    }
    let (partition, acks) = (params.partition, params.acks);
    let deadline = now + params.timeout.unwrap_or(shard.config.publish_timeout);
    shard.waiters.add(|tag| {
        let mut client = cluster.client.borrow_mut();
        match &body {
            Body::Owned(bytes) if bytes.len() >= VALUE_SHARED_BYTES_MIN && !params.null => {
                client.produce_shared(route.topic, partition, &record, bytes.clone(), acks, tag, 0, deadline, now)
            }
            _ => client.produce(route.topic, partition, &record, acks, tag, 0, deadline, now),
        }
        .map_err(|err| Failure::from_produce(&err))?;
        Ok(Waiter::Single(Single {
            conn: Rc::clone(conn),
            sequence,
            meta: meta.clone(),
            topic: route.topic,
            topic_label: destination.label,
            started: begun,
            bytes: body.len(),
            _reservation: reservation,
        }))
    })?;
    cluster.wake();
    Ok(())
}

impl Single {
    /// Kafka's outcome for the record: the answer goes into the connection's slot.
    pub fn complete(self, shard: &Shard, cluster: &Cluster, outcome: Outcome, now: Instant) {
        let context = self.meta.context(shard);
        let (status, answer) = match outcome.result {
            Ok(stored) => {
                let client = cluster.client.borrow();
                let name = client.topic_name(self.topic);
                let id = message_id(&cluster.name, name, stored.partition, stored.offset);
                shard.metrics.published(self.topic_label, name, self.bytes, now - self.started);
                (201, reply::stored(&context, &id, stored.partition, stored.offset, stored.timestamp_ms))
            }
            Err(err) => {
                let failure = Failure::from_produce(&err);
                (failure.status, reply::failure(&context, &failure))
            }
        };
        shard.finish(&self.conn, self.sequence, &self.meta, "publish", status, self.started, now, answer);
    }
}

/// `cluster/physical topic/partition/offset` in base64url; opaque to clients.
fn message_id(cluster: &str, topic: &str, partition: i32, offset: i64) -> SmallVec<[u8; 128]> {
    let mut plain: SmallVec<[u8; 128]> = SmallVec::new();
    plain.extend_from_slice(cluster.as_bytes());
    plain.push(b'/');
    plain.extend_from_slice(topic.as_bytes());
    plain.push(b'/');
    plain.extend_from_slice(itoa::Buffer::new().format(partition).as_bytes());
    plain.push(b'/');
    plain.extend_from_slice(itoa::Buffer::new().format(offset).as_bytes());
    let mut out: SmallVec<[u8; 128]> = SmallVec::new();
    out.resize(plain.len().div_ceil(3) * 4, 0);
    let written = URL_SAFE_NO_PAD.encode_slice(&plain, &mut out).expect("sized for the worst case");
    out.truncate(written);
    out
}

/// `async=1` behaves as without until hinted handoff exists (CONTRACT.md).
pub(super) const PARAMETERS: [&str; 7] = ["key", "partition", "ack", "timestamp", "timeout", "null", "async"];

fn parse_query(text: Option<&str>, timeout_max: Duration) -> Result<Params<'_>, Failure> {
    let mut params =
        Params { key: None, partition: None, acks: Acks::All, timestamp_ms: None, timeout: None, null: false };
    let Some(text) = text else { return Ok(params) };
    let mut seen = 0_u8;
    for pair in query::pairs(text) {
        let (name, value) = pair.map_err(|_| parameters::malformed())?;
        // A name given twice counts as first given, as in 2017.
        let Some(bit) = parameters::position(&name, &PARAMETERS)? else { continue };
        if seen & 1 << bit != 0 {
            continue;
        }
        seen |= 1 << bit;
        if name == "key" {
            if value.len() > KEY_BYTES_MAX {
                return Err(Failure::bad_request(
                    "key_too_long",
                    format!("key is {} bytes, the limit is {KEY_BYTES_MAX}", value.len()),
                ));
            }
            params.key = (!value.is_empty()).then_some(value);
            continue;
        }
        let value = query::text(value)
            .map_err(|_| Failure::bad_request("bad_query", format!("parameter {name} is not UTF-8")))?;
        match &*name {
            "partition" => match value.parse() {
                Ok(partition) if partition >= 0 => params.partition = Some(partition),
                _ => return Err(bad_parameter("partition", &value, "a number, at least 0")),
            },
            "ack" => params.acks = parse_acks(&value)?,
            "timestamp" => match value.parse() {
                Ok(timestamp) if timestamp >= 0 => params.timestamp_ms = Some(timestamp),
                _ => return Err(bad_parameter("timestamp", &value, "milliseconds since 1970")),
            },
            "timeout" => params.timeout = Some(parse_timeout(&value)?.min(timeout_max)),
            "null" => params.null = parameters::flag("null", &value)?,
            "async" => drop(parameters::flag("async", &value)?),
            _ => unreachable!("a name of the list"),
        }
    }
    Ok(params)
}

/// `ack` of the query.
pub(super) fn parse_acks(value: &str) -> Result<Acks, Failure> {
    match value {
        "all" | "" => Ok(Acks::All),
        "local" => Ok(Acks::Leader),
        "none" => Ok(Acks::None),
        _ => Err(bad_parameter("ack", value, "all, local or none")),
    }
}

/// `timeout` of the query.
pub(super) fn parse_timeout(value: &str) -> Result<Duration, Failure> {
    crate::duration::parse(value)
        .filter(|timeout| !timeout.is_zero())
        .ok_or_else(|| bad_parameter("timeout", value, "a duration like 5s or 500ms"))
}

/// The record headers a request asks for.
#[derive(Default)]
pub struct RecordHeaders {
    bytes: Vec<u8>,
    spans: SmallVec<[Span; 8]>,
}

/// Where a record header's name and value stand.
struct Span {
    name: Range<usize>,
    value: Range<usize>,
}

impl RecordHeaders {
    /// `X-Tag: a;b` becomes one record header `tag` each; `X-Header-NAME` becomes `name`; `traceparent` passes through.
    pub fn of(head: &Head<'_>) -> Result<RecordHeaders, Failure> {
        let mut headers = RecordHeaders::default();
        for tags in head.values("x-tag").take(usize::from(head.known.x_tag_count)) {
            if tags.len() > TAG_BYTES_MAX {
                return Err(Failure::bad_request(
                    "tag_too_long",
                    format!("X-Tag is {} bytes, the limit is {TAG_BYTES_MAX}", tags.len()),
                ));
            }
            for tag in crate::subscribe::tags::split(tags) {
                headers.push("tag", tag)?;
            }
        }
        for (name, field) in head.x_headers() {
            for value in pct::values(field) {
                let value =
                    value.map_err(|err| Failure::bad_request("bad_header", format!("X-Header-{name}: {err}")))?;
                headers.push(name, value.as_bytes())?;
            }
        }
        if let Some(traceparent) = head.known.traceparent {
            headers.push("traceparent", traceparent)?;
        }
        Ok(headers)
    }

    /// Whether [`RecordHeaders::of`] would find none.
    pub fn are_none(head: &Head<'_>) -> bool {
        head.known.x_tag_count == 0 && head.known.x_header_count == 0 && head.known.traceparent.is_none()
    }

    /// Bytes they take in a record batch.
    fn weight(&self) -> usize {
        self.bytes.len() + self.spans.len() * RECORD_HEADER_OVERHEAD_BYTES
    }

    fn refs(&self) -> SmallVec<[HeaderRef<'_>; 8]> {
        self.spans
            .iter()
            .map(|span| HeaderRef {
                name: &self.bytes[span.name.clone()],
                value: Some(&self.bytes[span.value.clone()]),
            })
            .collect()
    }

    fn push(&mut self, name: &str, value: &[u8]) -> Result<(), Failure> {
        if self.spans.len() == RECORD_HEADERS_MAX {
            return Err(Failure::bad_request(
                "too_many_headers",
                format!("more than {RECORD_HEADERS_MAX} tags and X-Header-* together"),
            ));
        }
        let start = self.bytes.len();
        self.bytes.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.spans.push(Span { name: start..middle, value: middle..self.bytes.len() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(query: &str, expected: Expect) {
        let shown = match parse_query(Some(query), Duration::from_secs(30)) {
            Ok(params) => format!("{params:?}"),
            Err(failure) => format!("{} {}: {}", failure.status, failure.code, failure.message),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn the_query_is_form_decoded_and_checked() {
        check(
            "key=a+b%2Fc&partition=3&ack=local",
            expect![[
                r#"Params { key: Some([97, 32, 98, 47, 99]), partition: Some(3), acks: Leader, timestamp_ms: None, timeout: None, null: false }"#
            ]],
        );
        check(
            "timestamp=17&timeout=250ms&null=1&async=1&hh=n&mux=1&use=x&limit=5",
            expect![[
                r#"Params { key: None, partition: None, acks: All, timestamp_ms: Some(17), timeout: Some(250ms), null: true }"#
            ]],
        );
        check(
            "timeout=90s",
            expect![[
                r#"Params { key: None, partition: None, acks: All, timestamp_ms: None, timeout: Some(30s), null: false }"#
            ]],
        );
        check("partition=-1", expect!["400 bad_parameter: partition is `-1`, expected a number, at least 0"]);
        check("ack=most", expect!["400 bad_parameter: ack is `most`, expected all, local or none"]);
        check("timestamp=x", expect!["400 bad_parameter: timestamp is `x`, expected milliseconds since 1970"]);
        check("timeout=0", expect!["400 bad_parameter: timeout is `0`, expected a duration like 5s or 500ms"]);
        check("keey=a", expect!["400 unknown_parameter: there is no query parameter keey here, the nearest is key"]);
        check("null=yes", expect!["400 bad_parameter: null is `yes`, expected 0, 1, true or false"]);
        check("async=yes", expect!["400 bad_parameter: async is `yes`, expected 0, 1, true or false"]);
        check("key=%zz", expect!["400 bad_query: the query has a malformed percent escape"]);
        check(&format!("key={}", "k".repeat(257)), expect!["400 key_too_long: key is 257 bytes, the limit is 256"]);
    }

    #[test]
    fn message_ids_are_base64url_of_the_position() {
        let id = message_id("main", "app.orders.v1", 3, 1_234_567_890_123);
        let plain = URL_SAFE_NO_PAD.decode(&id[..]).expect("base64url");
        assert_eq!(plain, b"main/app.orders.v1/3/1234567890123");
        let id = message_id("main", "t", 0, -1);
        assert_eq!(URL_SAFE_NO_PAD.decode(&id[..]).expect("base64url"), b"main/t/0/-1");
    }
}
