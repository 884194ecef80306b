//! `GET /v1/msgs/:appid/:topic/:ver?group=`: a poll of a consumer group.
//!
//! Here it is only read and sent on its way: the group lives on one shard of this gateway, and the poll travels there
//! as a value ([`crate::subscribe::subscriptions`]). The answer comes back as an owned buffer.

use crate::access::Grant;
use crate::access::standing::Standing;
use crate::codes;
use crate::endpoints::Services;
use crate::endpoints::docs::{REQUEST_ID, TOPIC, VER};
use crate::exchange::Exchange;
use crate::exchange::body::RequestBody;
use crate::kafka::destination::Destination;
use crate::refusal::Refusal;
use crate::subscribe::framing::Form;
use crate::subscribe::limits::{BATCH_MAX, RESPONSE_BYTES_MAX, WAIT_MAX};
use crate::subscribe::mail::PollRequest;
use crate::subscribe::origin::Caller;
use crate::subscribe::query::SubscribeQuery;
use crate::tags::TagFilter;
use gafka_http::Head;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, In, Kind, Listener, Method, NAME, ParamDoc, ResponseDoc, Schema,
};
use model::{Side, physical_group};
use std::time::Instant;

pub fn start(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    let Services { env, clusters, subscriptions, .. } = services;
    match read(services, &exchange, head, grant, now) {
        Ok((request, caller)) => subscriptions.begin(env, clusters, exchange, request, caller, now),
        Err(refusal) => exchange.refuse(env, &refusal, now),
    }
    None
}

fn read(
    services: &Services,
    exchange: &Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    now: Instant,
) -> Result<(PollRequest, Caller), Refusal> {
    let Services { env, clusters, subscriptions, .. } = services;
    let Grant::Topic(permit) = grant else { unreachable!("a poll is granted a topic") };
    let query = SubscribeQuery::parse(head.query.unwrap_or_default())?;
    let filter = match head.known.x_tag {
        Some(value) => TagFilter::parse(value)?,
        None => None,
    };
    if env.is_draining() {
        return Err(Refusal::new(codes::DRAINING, "this gateway is shutting down; poll another one"));
    }
    let meters = services.access.meters(env, grant);
    meters.admit(env, Side::Subscribe, 0, now)?;
    let topic = permit.topic();
    let request = PollRequest {
        poll: subscriptions.next_poll_id(env),
        origin: env.shard,
        cluster: clusters.of_topic(topic)?.index,
        tenant: permit.app().index,
        group: physical_group(&permit.app().id, &query.group),
        topic: topic.physical.clone(),
        batch: query.batch,
        max_bytes: query.max_bytes,
        wait: query.wait,
        deadline: now + query.wait,
        reset: query.reset,
        filter,
        form: Form::choose(head.known.accept, query.framed),
        strip_2017_tags: topic.options.strip_2017_tags,
    };
    Ok((request, Caller { standing: Standing::of(&exchange.conn, head, grant)?, meters, topic: topic.index }))
}

pub const DOCS: &[EndpointDoc] = &[EndpointDoc {
    listener: Listener::Subscribe,
    method: Method::Get,
    path: "/v1/msgs/:appid/:topic/:ver",
    operation: "pollMessages",
    tag: "subscribe",
    summary: "Poll messages as a consumer group",
    details: concat!(
        "Answers as soon as one message is there. `GET /topics/:appid/:topic/:ver` is the 2017 alias. Statuses not listed here are those of every request, at `publishMessage`.",
        include_str!("statuses/subscribe.md"),
    ),
    auth: Auth::Subscriber,
    params: SUBSCRIBE_PARAMS,
    request: &[],
    responses: SUBSCRIBE_RESPONSES,
}];

const SUBSCRIBE_PARAMS: &[ParamDoc] = &[
    ParamDoc::path("appid", NAME, "app that owns the topic"),
    TOPIC,
    VER,
    ParamDoc {
        place: In::Query,
        name: "group",
        kind: NAME,
        required: true,
        default: None,
        what: "consumer group of the calling app",
    },
    ParamDoc::query("batch", Kind::Capped { min: 1, max: BATCH_MAX as i64 }, "most messages in the answer").or("1"),
    ParamDoc::query("max_bytes", Kind::Capped { min: 1, max: RESPONSE_BYTES_MAX as i64 }, "most bytes in the answer")
        .or("4194304"),
    ParamDoc::query("wait", Kind::Duration { max_s: WAIT_MAX.as_secs() }, "long poll: 204 when nothing came").or("30s"),
    ParamDoc::query(
        "reset",
        Kind::Text,
        "oldest, newest, RFC 3339 time or epoch ms: where a group without committed offset begins",
    )
    .or("oldest"),
    ParamDoc::header(
        "X-Tag",
        Kind::Text,
        "only messages with at least one of these tags; the same for all of a live group",
    ),
    ParamDoc::header("Accept", Kind::Text, "a batch framing by name; makes the answer a batch even for one message"),
    REQUEST_ID,
];

const MESSAGE: Schema = Schema::Object(&[
    FieldDoc::must("partition", Schema::PARTITION, ""),
    FieldDoc::must("offset", Schema::COUNT, ""),
    FieldDoc::must("timestamp", Schema::OFFSET, "epoch ms; -1: none"),
    FieldDoc::must("attempt", Schema::COUNT, "how often it has been delivered"),
    FieldDoc::may("key", Schema::TEXT, "where there is one"),
    FieldDoc::may("key_base64", Schema::TEXT, "instead of key, when it is not UTF-8"),
    FieldDoc::may("value", Schema::AnyOf(&[Schema::TEXT, Schema::Null]), "null: a null value"),
    FieldDoc::may("value_base64", Schema::TEXT, "instead of value, when it is not UTF-8"),
    FieldDoc::must(
        "headers",
        Schema::Array(&Schema::Tuple(&[Schema::TEXT, Schema::AnyOf(&[Schema::TEXT, Schema::Null, BASE64])])),
        "in order",
    ),
]);
const BASE64: Schema = Schema::Object(&[FieldDoc::must("base64", Schema::TEXT, "")]);

macro_rules! example {
    () => {
        r#"{"partition":0,"offset":42,"timestamp":1795362345123,"attempt":1,"value":"hello","headers":[]}"#
    };
}

const SUBSCRIBE_RESPONSES: &[ResponseDoc] = &[
    ResponseDoc::with(
        200,
        "messages; acknowledged when the answer was handed to the network",
        &[
            ContentDoc::bytes(
                "text/plain; charset=utf8",
                "batch=1: the message; its position in X-Partition, X-Offset",
            ),
            ContentDoc::bytes(
                "application/octet-stream",
                "2017 framing: partition i32, offset i64, length i32, value, big endian",
            ),
            ContentDoc {
                media_type: "application/x-ndjson",
                what: "one JSON object per line",
                schema: Schema::Lines(&MESSAGE),
                example: Some(example!()),
            },
            ContentDoc::json(
                Schema::Array(&MESSAGE),
                "an array of the same objects",
                Some(concat!("[", example!(), "]")),
            ),
            ContentDoc::bytes("application/vnd.gafka.records", "length-prefixed records"),
        ],
    ),
    ResponseDoc::bare(204, "no message in time"),
    ResponseDoc::bare(400, "the request is malformed"),
    ResponseDoc::bare(404, "no such app, topic or version"),
    ResponseDoc::bare(409, "the live group polls with another tag filter"),
    ResponseDoc::bare(503, "Kafka or this gateway cannot serve it now, try again after Retry-After"),
];
