//! `POST /v1/msgs/:topic/:ver` and `POST /v1/raw/msgs/:cluster/:topic`: one message, one record ([`crate::publish::single`]).

use crate::access::Grant;
use crate::access::quota::Meters;
use crate::codes;
use crate::endpoints::docs::{CLUSTER, CODING, HH, PHYSICAL, REQUEST_ID, TIMEOUT, TOPIC, VER};
use crate::endpoints::params::{self, bad_parameter, parse_acks, parse_timeout};
use crate::endpoints::{Admission, Services};
use crate::exchange::body::RequestBody;
use crate::exchange::content_encoding::{self, Coding, Window};
use crate::exchange::{Exchange, budget_spent, reserve};
use crate::kafka::destination::Destination;
use crate::limits::{KEY_BYTES_MAX, PUBLISH_OVERHEAD_BYTES, TAG_BYTES_MAX};
use crate::publish;
use crate::publish::handoff::Wish;
use crate::publish::headers::RecordHeaders;
use crate::publish::single::{Message, Wishes};
use crate::refusal::Refusal;
use gafka_http::{Head, query};
use kafka_client::Acks;
use model::Side;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ParamDoc, ResponseDoc, Schema};
use std::time::{Duration, Instant};

/// Where a message goes, and what it is charged to.
#[derive(Clone, Copy)]
struct Target<'t> {
    destination: &'t Destination,
    meters: &'t Meters,
}

/// What may come as the body, and who pays for it.
pub fn admit(services: &Services, grant: &Grant<'_>) -> Result<Admission, Refusal> {
    let destination = publish::destination(&services.clusters, grant, services.env.now())?;
    services.access.meters(&services.env, grant).admit(&services.env, Side::Publish, 0, services.env.now())?;
    Ok(Admission {
        body_bytes_max: destination.message_bytes_max,
        tenant: destination.tenant,
        cluster: destination.budget_cluster(),
    })
}

/// Where it went, if it was handed over: the next one of its connection may be like it.
pub fn start(
    services: &Services,
    mut exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    body: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    let meters = services.access.meters(&services.env, grant);
    let prepared = prepare(services, &mut exchange, head, grant, &meters, body, now);
    let (destination, headers, body) = match prepared {
        Ok(prepared) => prepared,
        Err(refusal) => {
            exchange.refuse(&services.env, &refusal, now);
            return None;
        }
    };
    let to = Target { destination: &destination, meters: &meters };
    hand_over(services, exchange, head.query, &headers, body, to, now).then_some(destination)
}

/// A publish whose head was admitted before.
pub fn start_again(
    services: &Services,
    mut exchange: Exchange,
    query: Option<&str>,
    body: &[u8],
    destination: &Destination,
    now: Instant,
) {
    let meters = match destination.is_metered {
        true => services.access.quotas.known(destination.tenant, destination.label).into(),
        false => Meters::default(),
    };
    let to = Target { destination, meters: &meters };
    match take_whole(services, &mut exchange, to, body.len(), now) {
        Ok(()) => {
            let body = RequestBody::Slice(body);
            hand_over(services, exchange, query, &RecordHeaders::default(), body, to, now);
        }
        Err(refusal) => exchange.refuse(&services.env, &refusal, now),
    }
}

fn hand_over(
    services: &Services,
    exchange: Exchange,
    query: Option<&str>,
    headers: &RecordHeaders,
    body: RequestBody<'_>,
    to: Target<'_>,
    now: Instant,
) -> bool {
    let Services { env, publishing, .. } = services;
    match parse_query(query, env.config.publish_timeout) {
        Ok(wishes) => {
            let message = Message { wishes, headers, body };
            let accepted = publishing.start_single(services.around(), exchange, &message, to.destination, now);
            if accepted {
                to.meters.charge(env, Side::Publish, 1, message.bytes(), now);
            }
            accepted
        }
        Err(refusal) => {
            exchange.refuse(env, &refusal, now);
            false
        }
    }
}

fn prepare<'b>(
    services: &Services,
    exchange: &mut Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    meters: &Meters,
    body: RequestBody<'b>,
    now: Instant,
) -> Result<(Destination, RecordHeaders, RequestBody<'b>), Refusal> {
    let destination = publish::destination(&services.clusters, grant, now)?;
    take_whole(services, exchange, Target { destination: &destination, meters }, body.len(), now)?;
    let body = decoded(services, exchange, &destination, head, body)?;
    Ok((destination, RecordHeaders::of(head)?, body))
}

/// Whether a message of that size may be published there now, and the memory for it.
fn take_whole(
    services: &Services,
    exchange: &mut Exchange,
    Target { destination, meters }: Target<'_>,
    body_bytes: usize,
    now: Instant,
) -> Result<(), Refusal> {
    meters.admit(&services.env, Side::Publish, body_bytes, now)?;
    if body_bytes > destination.message_bytes_max {
        return Err(Refusal::too_large(destination.message_bytes_max));
    }
    if exchange.held.is_none() {
        let (tenant, cluster) = (destination.tenant, destination.budget_cluster());
        exchange.held = Some(reserve(&services.env, tenant, cluster, body_bytes + PUBLISH_OVERHEAD_BYTES)?);
    }
    Ok(())
}

/// A message that is to be kept for later: checked as one that is published, and its body with its content coding taken off.
pub(super) fn decoded_message<'b>(
    services: &Services,
    exchange: &mut Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    body: RequestBody<'b>,
    now: Instant,
) -> Result<RequestBody<'b>, Refusal> {
    let meters = services.access.meters(&services.env, grant);
    let destination = publish::destination(&services.clusters, grant, now)?;
    take_whole(services, exchange, Target { destination: &destination, meters: &meters }, body.len(), now)?;
    decoded(services, exchange, &destination, head, body)
}

/// A message's body with its content coding taken off.
fn decoded<'b>(
    services: &Services,
    exchange: &mut Exchange,
    destination: &Destination,
    head: &Head<'_>,
    body: RequestBody<'b>,
) -> Result<RequestBody<'b>, Refusal> {
    let env = &services.env;
    match (Coding::of(head.known.content_encoding)?, &mut exchange.held) {
        (Some(coding), Some(held)) if !body.is_empty() => {
            let window = Window::within(env.budget.limits().tenant_bytes_max);
            let (tenant, cluster) = (destination.tenant, destination.budget_cluster());
            let _decoder = reserve(env, tenant, cluster, window.decoder_bytes(coding))?;
            let limit = destination.message_bytes_max;
            let bytes = content_encoding::decode_whole(coding, window, body.as_slice(), limit, |bytes| {
                held.grow(bytes).map_err(|refused| budget_spent(env, &refused))
            })?;
            Ok(RequestBody::Owned(bytes))
        }
        _ => Ok(body),
    }
}

/// A message as the body of a request.
pub(super) const BODY: &[ContentDoc] = &[ContentDoc::bytes("application/octet-stream", "the message")];

pub(super) const PARAMETERS: [&str; 8] = ["key", "partition", "ack", "timestamp", "timeout", "null", "async", "hh"];

fn parse_query(text: Option<&str>, timeout_max: Duration) -> Result<Wishes<'_>, Refusal> {
    let mut wishes = Wishes {
        key: None,
        partition: None,
        acks: Acks::All,
        timestamp_ms: None,
        timeout: None,
        null: false,
        hand_off: Wish::Allowed,
    };
    let Some(text) = text else { return Ok(wishes) };
    let mut seen = 0_u8;
    for pair in query::pairs(text) {
        let (name, value) = pair.map_err(|_| params::malformed())?;
        // A name given twice counts as first given, as in 2017.
        let Some(bit) = params::position(&name, &PARAMETERS)? else { continue };
        if seen & 1 << bit != 0 {
            continue;
        }
        seen |= 1 << bit;
        if name == "key" {
            if value.len() > KEY_BYTES_MAX {
                return Err(Refusal::new(
                    codes::KEY_TOO_LONG,
                    format!("key is {} bytes, the limit is {KEY_BYTES_MAX}", value.len()),
                ));
            }
            wishes.key = (!value.is_empty()).then_some(value);
            continue;
        }
        let value =
            query::text(value).map_err(|_| Refusal::new(codes::BAD_QUERY, format!("parameter {name} is not UTF-8")))?;
        match &*name {
            "partition" => match value.parse() {
                Ok(partition) if partition >= 0 => wishes.partition = Some(partition),
                _ => return Err(bad_parameter("partition", &value, "a number, at least 0")),
            },
            "ack" => wishes.acks = parse_acks(&value)?,
            "timestamp" => match value.parse() {
                Ok(timestamp) if timestamp >= 0 => wishes.timestamp_ms = Some(timestamp),
                _ => return Err(bad_parameter("timestamp", &value, "milliseconds since 1970")),
            },
            "timeout" => wishes.timeout = Some(parse_timeout(&value)?.min(timeout_max)),
            "null" => wishes.null = params::flag("null", &value)?,
            "async" => wishes.hand_off = wishes.hand_off.and_async(params::flag("async", &value)?),
            "hh" => wishes.hand_off = wishes.hand_off.and_hh(params::hh(&value)?),
            _ => unreachable!("a name of the list"),
        }
    }
    Ok(wishes)
}

pub const DOCS: &[EndpointDoc] = &[EndpointDoc {
    listener: Listener::Publish,
    method: Method::Post,
    path: "/v1/msgs/:topic/:ver",
    operation: "publishMessage",
    tag: "publish",
    summary: "Publish one message",
    details: concat!(
        "The body is the message, any bytes; an empty body is an empty value. `POST /topics/:topic/:ver` is the 2017 alias.",
        include_str!("statuses/publish.md"),
        include_str!("statuses/any.md"),
    ),
    auth: Auth::Publisher,
    params: PUBLISH_PARAMS,
    request: BODY,
    responses: PUBLISH_RESPONSES,
}];

pub const RAW_DOCS: &[EndpointDoc] = &[EndpointDoc {
    listener: Listener::Publish,
    method: Method::Post,
    path: "/v1/raw/msgs/:cluster/:topic",
    operation: "publishRawMessage",
    tag: "publish",
    summary: "Publish one message to a topic by its name in Kafka",
    details: "For apps with that grant; otherwise, statuses included, as `publishMessage`.",
    auth: Auth::Publisher,
    params: RAW_PARAMS,
    request: BODY,
    responses: PUBLISH_RESPONSES,
}];

const PLACE: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), ""),
    FieldDoc::must("partition", Schema::PARTITION, ""),
    FieldDoc::must("offset", Schema::OFFSET, "-1 with ack=none"),
    FieldDoc::must("timestamp", Schema::OFFSET, "epoch ms; -1 when Kafka tells none"),
]);

const HANDED_OFF: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), ""),
    FieldDoc::must("msg_id", Schema::Value(Kind::Text), "opaque to clients"),
    FieldDoc::must("receipt", Schema::Value(Kind::Text), "path of its receipt"),
]);

const KEPT: &[(&str, &str)] = &[
    ("X-Msg-Id", "the message's id, opaque to clients"),
    ("Location", "path of its receipt"),
    ("X-Request-Id", "the request's id"),
];

const STORED: &[(&str, &str)] = &[
    ("X-Partition", "partition the message is in"),
    ("X-Offset", "its offset; -1 with ack=none"),
    ("X-Msg-Id", "cluster/physical topic/partition/offset in base64url, opaque to clients"),
    ("X-Request-Id", "the request's id"),
];

const PUBLISH_PARAMS: &[ParamDoc] = &publish_params(TOPIC, VER);
const RAW_PARAMS: &[ParamDoc] = &publish_params(CLUSTER, PHYSICAL);

const fn publish_params(first: ParamDoc, second: ParamDoc) -> [ParamDoc; 15] {
    let [key, partition, ack, timestamp, timeout, null, asynchronous, hh, tag, header, traceparent] = PUBLISH_QUERY;
    [
        first,
        second,
        key,
        partition,
        ack,
        timestamp,
        timeout,
        null,
        asynchronous,
        hh,
        tag,
        header,
        traceparent,
        CODING,
        REQUEST_ID,
    ]
}

const PUBLISH_QUERY: [ParamDoc; 11] = [
    ParamDoc::query("key", Kind::UpTo { bytes: KEY_BYTES_MAX }, "record key; equal keys go to one partition"),
    ParamDoc::query("partition", Kind::Integer { min: 0, max: i32::MAX as i64 }, "partition, instead of by key"),
    ParamDoc::query("ack", Kind::Word(&["all", "local", "none"]), "who must have it before the answer").or("all"),
    ParamDoc::query(
        "timestamp",
        Kind::Integer { min: 0, max: i64::MAX },
        "record timestamp, epoch ms; now when absent; 400 `timestamp_unit` when it is about now in s, µs or ns",
    ),
    ParamDoc::query("timeout", TIMEOUT, "wait at most so long").or("30s"),
    ParamDoc::query("null", Kind::Bool, "1: store a null value (a tombstone); the body must be empty"),
    ParamDoc::query(
        "async",
        Kind::Bool,
        "1: hand it off: 202 once it is on this gateway's disk, whether Kafka is there or not",
    ),
    HH,
    ParamDoc::header("X-Tag", Kind::UpTo { bytes: TAG_BYTES_MAX }, "tags, separated by ;, each a record header `tag`"),
    ParamDoc::header("X-Header-NAME", Kind::Text, "record header `name`: UTF-8, percent-encoded; repeatable"),
    ParamDoc::header("traceparent", Kind::Text, "becomes the record header of that name"),
];

const PUBLISH_RESPONSES: &[ResponseDoc] = &[
    ResponseDoc::with(
        201,
        "stored under the asked acks",
        &[ContentDoc::json(
            PLACE,
            "where it is",
            Some(r#"{"ok":1,"partition":0,"offset":42,"timestamp":1795362345123}"#),
        )],
    )
    .and_headers(STORED),
    ResponseDoc::with(
        202,
        "Kafka cannot take it now, or `async=1`: durable on this gateway's disk, and delivered in order later",
        &[ContentDoc::json(
            HANDED_OFF,
            "its id and where to ask what became of it",
            Some(r#"{"ok":1,"msg_id":"AQAAAAE","receipt":"/v1/receipts/AQAAAAE"}"#),
        )],
    )
    .and_headers(KEPT),
    ResponseDoc::bare(400, "the request is malformed; nothing was stored"),
    ResponseDoc::bare(404, "no such topic or version; nothing was stored"),
    ResponseDoc::bare(413, "the message is over the topic's limit; nothing was stored"),
    ResponseDoc::bare(415, "a Content-Encoding that is not spoken here; nothing was stored"),
    ResponseDoc::bare(503, "Kafka or this gateway cannot take it now; nothing was stored, try again after Retry-After"),
    ResponseDoc::bare(504, "outcome unknown: the message may or may not be in Kafka, a retry may store it twice"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(query: &str, expected: Expect) {
        let shown = match parse_query(Some(query), Duration::from_secs(30)) {
            Ok(wishes) => format!("{wishes:?}"),
            Err(refusal) => format!("{} {}: {}", refusal.status, refusal.code, refusal.message),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn the_query_is_form_decoded_and_checked() {
        check(
            "key=a+b%2Fc&partition=3&ack=local",
            expect![
                "Wishes { key: Some([97, 32, 98, 47, 99]), partition: Some(3), acks: Leader, timestamp_ms: None, timeout: None, null: false, hand_off: Allowed }"
            ],
        );
        check(
            "timestamp=17&timeout=250ms&null=1&async=1&hh=n&mux=1&use=x&limit=5",
            expect![
                "Wishes { key: None, partition: None, acks: All, timestamp_ms: Some(17), timeout: Some(250ms), null: true, hand_off: Always }"
            ],
        );
        check(
            "timeout=90s",
            expect![
                "Wishes { key: None, partition: None, acks: All, timestamp_ms: None, timeout: Some(30s), null: false, hand_off: Allowed }"
            ],
        );
        check("partition=-1", expect!["400 bad_parameter: partition is `-1`, expected a number, at least 0"]);
        // The documented limits are the real ones.
        check(
            &format!("partition={}&timestamp={}", i32::MAX, i64::MAX),
            expect![
                "Wishes { key: None, partition: Some(2147483647), acks: All, timestamp_ms: Some(9223372036854775807), timeout: None, null: false, hand_off: Allowed }"
            ],
        );
        check(
            "partition=2147483648",
            expect!["400 bad_parameter: partition is `2147483648`, expected a number, at least 0"],
        );
        check(
            "timestamp=9223372036854775808",
            expect!["400 bad_parameter: timestamp is `9223372036854775808`, expected milliseconds since 1970"],
        );
        check("ack=most", expect!["400 bad_parameter: ack is `most`, expected all, local or none"]);
        check("timestamp=x", expect!["400 bad_parameter: timestamp is `x`, expected milliseconds since 1970"]);
        check("timeout=0", expect!["400 bad_parameter: timeout is `0`, expected a duration like 5s or 500ms"]);
        check("keey=a", expect!["400 unknown_parameter: there is no query parameter keey here, the nearest is key"]);
        check("null=yes", expect!["400 bad_parameter: null is `yes`, expected 0, 1, true or false"]);
        check("async=yes", expect!["400 bad_parameter: async is `yes`, expected 0, 1, true or false"]);
        check("key=%zz", expect!["400 bad_query: the query has a malformed percent escape"]);
        check(&format!("key={}", "k".repeat(257)), expect!["400 key_too_long: key is 257 bytes, the limit is 256"]);
    }
}
