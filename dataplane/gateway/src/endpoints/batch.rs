//! `POST /v1/msgs/:topic/:ver/batch` and its raw twin: many records, stored and answered one by one
//! ([`crate::publish::batch`]).

use crate::access::Grant;
use crate::access::standing::Standing;
use crate::codes;
use crate::endpoints::Services;
use crate::endpoints::docs::{CLUSTER, CODING, HH, PHYSICAL, REQUEST_ID, TIMEOUT, TOPIC, VER};
use crate::endpoints::params::{self, bad_parameter, parse_acks, parse_timeout};
use crate::exchange::conn::Conn;
use crate::exchange::content_encoding::{Coding, Decoder, Window};
use crate::exchange::meta::Meta;
use crate::exchange::{Exchange, reserve};
use crate::limits::BATCH_OVERHEAD_BYTES;
use crate::publish;
use crate::publish::batch::ToKafka;
use crate::publish::batch::feed::Feed;
use crate::publish::batch::session::{Receiving, Session};
use crate::publish::batch::sink::Sink;
use crate::publish::format::{BatchLimits, BatchParser, ReceiptFormat};
use crate::publish::handoff::Wish;
use crate::refusal::Refusal;
use gafka_http::{Head, query};
use kafka_client::Acks;
use model::Side;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ParamDoc, ResponseDoc, Schema};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The query of a batch of messages.
#[derive(Debug, PartialEq, Eq)]
struct Params {
    acks: Acks,
    wish: Wish,
    common: Common,
}

/// What every batch may ask for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Common {
    pub timeout: Duration,
    pub summary: bool,
    pub streams: bool,
}

/// What [`BatchParser::for_content_type`] takes.
const CONTENT_TYPES: &str = "application/x-ndjson, application/vnd.gafka.records";

/// How metrics and log name it.
const ENDPOINT: &str = "publish_batch";

/// Validates the request by its head and opens it; its body is fed to what this gives. `Err`: nothing was opened, the
/// request has no answer yet.
pub fn open(
    services: &Services,
    conn: &Rc<Conn>,
    meta: &Meta,
    head: &Head<'_>,
    grant: &Grant<'_>,
    begun: Instant,
) -> Result<(Feed, Option<Decoder>), Refusal> {
    let Params { acks, wish, common } = parse_query(head.query, services.env.config.publish_timeout)?;
    let sink = Sink::Kafka(ToKafka::new(acks, wish, common.timeout));
    let value_bytes_max = usize::MAX;
    open_into(services, conn, meta, head, grant, begun, Opening { endpoint: ENDPOINT, value_bytes_max, common, sink })
}

/// Where a batch's records go, and what is particular there.
pub(super) struct Opening {
    /// How metrics and log name it.
    pub endpoint: &'static str,
    /// Beside the topic's own limit.
    pub value_bytes_max: usize,
    pub common: Common,
    pub sink: Sink,
}

/// Opens a batch of any kind.
pub(super) fn open_into(
    services: &Services,
    conn: &Rc<Conn>,
    meta: &Meta,
    head: &Head<'_>,
    grant: &Grant<'_>,
    begun: Instant,
    opening: Opening,
) -> Result<(Feed, Option<Decoder>), Refusal> {
    let env = &services.env;
    let Opening { endpoint, value_bytes_max, common: Common { timeout, summary, streams }, sink } = opening;
    let destination = publish::destination(&services.clusters, grant, begun)?;
    let meters = services.access.meters(env, grant);
    meters.admit(env, Side::Publish, 0, env.now())?;
    let standing = Standing::of(conn, head, grant)?;
    let window = Window::within(env.budget.limits().tenant_bytes_max);
    let coding = Coding::of(head.known.content_encoding)?;
    let decoder_bytes = coding.map_or(0, |coding| window.decoder_bytes(coding));
    let decoder = coding
        .map(|coding| Decoder::new(coding, window))
        .transpose()
        .map_err(|err| Refusal::overloaded(&format!("cannot make a decoder: {err}")))?;
    let mut limits = BatchLimits::new(destination.message_bytes_max.min(value_bytes_max));
    limits.takes_due = matches!(sink, Sink::Jobs(_));
    if streams {
        if meta.minor_version == 0 {
            let message = "stream=1 is answered in chunks and needs HTTP/1.1";
            return Err(Refusal::new(codes::STREAM_NEEDS_HTTP_1_1, message));
        }
        limits.records_max = u64::MAX;
    }
    let content_type = head.known.content_type.unwrap_or_default();
    let parser = BatchParser::for_content_type(content_type, limits).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(content_type).chars().take(64).collect();
        let message = format!("Content-Type is `{shown}`, expected one of {CONTENT_TYPES}");
        Refusal::new(codes::UNSUPPORTED_CONTENT_TYPE, message).with("Accept", CONTENT_TYPES)
    })?;
    let bytes = BATCH_OVERHEAD_BYTES + decoder_bytes;
    let reservation = reserve(env, destination.tenant, destination.budget_cluster(), bytes)?;
    let mut exchange = Exchange::open(conn, meta.clone(), begun);
    exchange.endpoint = endpoint;
    let format = ReceiptFormat::choose(summary, head.values("accept"));
    let flow = if streams { Receiving::WhileSending } else { Receiving::AtTheEnd };
    let session = Session::open(&services.publishing, exchange, destination, format, flow, reservation);
    let generation = services.access.borrow_snapshot().generation;
    Ok((Feed::new(session, parser, standing, meters, generation, sink, timeout), decoder))
}

pub(super) const PARAMETERS: [&str; 6] = ["ack", "async", "timeout", "receipts", "stream", "hh"];

fn parse_query(text: Option<&str>, timeout_max: Duration) -> Result<Params, Refusal> {
    let (mut acks, mut wish) = (Acks::All, Wish::Allowed);
    let common = parse_common(text, &PARAMETERS, timeout_max, |name, value| {
        match name {
            "ack" => acks = parse_acks(value)?,
            "async" => wish = wish.and_async(params::flag("async", value)?),
            "hh" => wish = wish.and_hh(params::hh(value)?),
            _ => unreachable!("a name of the list"),
        }
        Ok(())
    })?;
    Ok(Params { acks, wish, common })
}

/// Reads what every batch may ask for; `other` is given the rest of what is `known`. Each may stand once.
pub(super) fn parse_common(
    text: Option<&str>,
    known: &[&'static str],
    timeout_max: Duration,
    mut other: impl FnMut(&'static str, &str) -> Result<(), Refusal>,
) -> Result<Common, Refusal> {
    let mut common = Common { timeout: timeout_max, summary: false, streams: false };
    let mut seen = 0_u8;
    for pair in query::pairs(text.unwrap_or_default()) {
        let (name, value) = pair.map_err(|_| params::malformed())?;
        let Some(bit) = params::position(&name, known)? else { continue };
        if seen & 1 << bit != 0 {
            return Err(Refusal::new(codes::BAD_PARAMETER, format!("{name} is given twice")));
        }
        seen |= 1 << bit;
        let value =
            query::text(value).map_err(|_| Refusal::new(codes::BAD_QUERY, format!("parameter {name} is not UTF-8")))?;
        match known[bit] {
            "timeout" => common.timeout = parse_timeout(&value)?.min(timeout_max),
            "receipts" => match &*value {
                "summary" => common.summary = true,
                _ => return Err(bad_parameter("receipts", &value, "summary")),
            },
            "stream" => common.streams = params::flag("stream", &value)?,
            name => other(name, &value)?,
        }
    }
    if common.summary && common.streams {
        let message = "receipts=summary comes at the end, stream=1 wants receipts at once";
        return Err(Refusal::new(codes::SUMMARY_WITH_STREAM, message));
    }
    Ok(common)
}

pub const DOCS: &[EndpointDoc] = &[EndpointDoc {
    listener: Listener::Publish,
    method: Method::Post,
    path: "/v1/msgs/:topic/:ver/batch",
    operation: "publishBatch",
    tag: "publish",
    summary: "Publish many messages",
    details: concat!(
        "Records are stored while the body arrives; each has its receipt. Without stream=1 the answer begins when the body has ended, and there are at most 1,000,000 records. After a record that cannot be delimited nothing is stored and the connection closes. Statuses not listed here are those of `publishMessage`.",
        include_str!("statuses/batch.md"),
    ),
    auth: Auth::Publisher,
    params: BATCH_PARAMS,
    request: BATCH_REQUEST,
    responses: BATCH_RESPONSES,
}];

pub const RAW_DOCS: &[EndpointDoc] = &[EndpointDoc {
    listener: Listener::Publish,
    method: Method::Post,
    path: "/v1/raw/msgs/:cluster/:topic/batch",
    operation: "publishRawBatch",
    tag: "publish",
    summary: "Publish many messages to a topic by its name in Kafka",
    details: "For apps with that grant; otherwise, statuses included, as `publishBatch`.",
    auth: Auth::Publisher,
    params: RAW_BATCH_PARAMS,
    request: BATCH_REQUEST,
    responses: BATCH_RESPONSES,
}];

pub(super) const SUMMARY_PARAM: ParamDoc =
    ParamDoc::query("receipts", Kind::Word(&["summary"]), "one object with ranges instead of a receipt per record");
pub(super) const STREAM_PARAM: ParamDoc = ParamDoc::query(
    "stream",
    Kind::Bool,
    "1: receipts flow while records still arrive, and there may be any number of them; needs HTTP/1.1",
);

const BATCH_QUERY: [ParamDoc; 6] = [
    ParamDoc::query("ack", Kind::Word(&["all", "local", "none"]), "who must have a record before its receipt")
        .or("all"),
    ParamDoc::query("timeout", TIMEOUT, "wait at most so long for each record").or("30s"),
    SUMMARY_PARAM,
    STREAM_PARAM,
    ParamDoc::query(
        "async",
        Kind::Bool,
        "1: hand every record off: its receipt is 202 once it is on this gateway's disk",
    ),
    HH,
];

const RECEIPTS: ParamDoc = ParamDoc::header(
    "Accept",
    Kind::Text,
    "application/vnd.gafka.receipts: 14 bytes per record, status u16, partition i32, offset i64, big endian",
);

const fn batch_params(first: ParamDoc, second: ParamDoc) -> [ParamDoc; 11] {
    let [ack, timeout, receipts, stream, asynchronous, hh] = BATCH_QUERY;
    [first, second, ack, timeout, receipts, stream, asynchronous, hh, RECEIPTS, CODING, REQUEST_ID]
}

const BATCH_PARAMS: &[ParamDoc] = &batch_params(TOPIC, VER);
const RAW_BATCH_PARAMS: &[ParamDoc] = &batch_params(CLUSTER, PHYSICAL);

const HEADER_VALUE: Schema = Schema::AnyOf(&[Schema::TEXT, Schema::Null, BASE64]);
const BASE64: Schema = Schema::Object(&[FieldDoc::must("base64", Schema::TEXT, "")]);
pub(super) const RECORD_FIELDS: [FieldDoc; 8] = [
    FieldDoc::may("key", Schema::TEXT, ""),
    FieldDoc::may("key_base64", Schema::TEXT, "instead of key"),
    FieldDoc::may("value", Schema::AnyOf(&[Schema::TEXT, Schema::Null]), "left out or null: a null value"),
    FieldDoc::may("value_base64", Schema::TEXT, "instead of value"),
    FieldDoc::may("value_json", Schema::Any, "instead of value; stored as sent"),
    FieldDoc::may(
        "headers",
        Schema::AnyOf(&[Schema::Map(&Schema::TEXT), Schema::Array(&Schema::Tuple(&[Schema::TEXT, HEADER_VALUE]))]),
        "by name, or in order",
    ),
    FieldDoc::may("partition", Schema::PARTITION, "instead of by key"),
    FieldDoc::may("timestamp", Schema::COUNT, "epoch ms"),
];
const RECORD: Schema = Schema::Object(&RECORD_FIELDS);

const BATCH_REQUEST: &[ContentDoc] = &[
    ContentDoc {
        media_type: "application/x-ndjson",
        what: "a record per line: value, value_base64 or value_json, key or key_base64, headers, partition, timestamp",
        schema: Schema::Lines(&RECORD),
        example: Some("{\"key\":\"user-7\",\"value\":\"hello\",\"headers\":{\"source\":\"web\"}}"),
    },
    ContentDoc::bytes(
        "application/vnd.gafka.records",
        "length u32, attributes u8, [timestamp i64], [partition i32], [key_length u32, key], header_count u16, headers, \
         value; big endian",
    ),
];

const RECEIPT: Schema = Schema::AnyOf(&[
    Schema::Object(&[
        FieldDoc::must("partition", Schema::PARTITION, ""),
        FieldDoc::must("offset", Schema::OFFSET, "-1 with ack=none"),
    ]),
    Schema::Object(&[
        FieldDoc::must("status", Schema::Always(202), "durable on this gateway's disk, delivered later"),
        FieldDoc::must("msg_id", Schema::TEXT, "opaque to clients"),
        FieldDoc::must("receipt", Schema::TEXT, "path of its receipt"),
    ]),
    FAILED,
]);
/// Of a record that was refused.
pub(super) const FAILED: Schema = Schema::Object(&[
    FieldDoc::must("status", STATUS, "as the status of a single one"),
    FieldDoc::must("errmsg", Schema::TEXT, "a sentence for people"),
    FieldDoc::must("code", Schema::TEXT, "stable, for programs"),
]);
const STATUS: Schema = Schema::Value(Kind::Integer { min: 400, max: 599 });
pub(super) const SUMMARY: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::COUNT, "records that were stored"),
    FieldDoc::must("failed", Schema::COUNT, "records that were not"),
    FieldDoc::may("handed_off", Schema::COUNT, "of those stored, the ones on this gateway's disk; they have no range"),
    FieldDoc::must(
        "ranges",
        Schema::Array(&Schema::Object(&[
            FieldDoc::must("partition", Schema::PARTITION, ""),
            FieldDoc::must("offset", Schema::OFFSET, "of the first"),
            FieldDoc::must("count", Schema::COUNT, "behind each other"),
        ])),
        "where they are; at most 1000",
    ),
    FieldDoc::must(
        "errors",
        Schema::Array(&Schema::Object(&[
            FieldDoc::must("record", Schema::COUNT, "its place in the batch, from 0"),
            FieldDoc::must("status", STATUS, ""),
            FieldDoc::must("code", Schema::TEXT, ""),
        ])),
        "the first of those that failed; at most 100",
    ),
    FieldDoc::may("truncated", Schema::FLAG, "there are more ranges or errors than these"),
]);
/// Receipts in the format that was asked for; also where no record was stored.
const RECEIPTS_CONTENT: &[ContentDoc] = &[
    ContentDoc {
        media_type: "application/x-ndjson",
        what: "a line per record: where it is, or status, errmsg and code",
        schema: Schema::Lines(&RECEIPT),
        example: Some(r#"{"partition":0,"offset":42}"#),
    },
    ContentDoc::bytes("application/vnd.gafka.receipts", "14 bytes per record"),
    ContentDoc::json(
        SUMMARY,
        "receipts=summary",
        Some(r#"{"ok":2,"failed":0,"ranges":[{"partition":0,"offset":42,"count":2}],"errors":[]}"#),
    ),
];

/// Why nothing was stored: in one sentence before the first record was read, else a receipt for each.
const REFUSED_CONTENT: &[ContentDoc] = &[
    ContentDoc::json(Schema::AnyOf(&[Schema::ERROR, SUMMARY]), "why, or with receipts=summary the summary", None),
    RECEIPTS_CONTENT[0],
    RECEIPTS_CONTENT[1],
];

const BATCH_RESPONSES: &[ResponseDoc] = &[
    ResponseDoc::with(
        200,
        "at least one record was stored (with stream=1: was parsed); receipts in record order",
        RECEIPTS_CONTENT,
    )
    .and_headers(&[
        ("X-Failed", "records that were not stored; a trailer with stream=1"),
        ("X-Request-Id", "the request's id"),
    ]),
    ResponseDoc::with(
        400,
        "no record, a bad parameter, or no record was stored and the first is malformed",
        REFUSED_CONTENT,
    ),
    ResponseDoc::with(404, "no such topic or version", REFUSED_CONTENT),
    ResponseDoc::with(413, "no record was stored and the first is over the topic's limit", REFUSED_CONTENT),
    ResponseDoc::bare(415, "a Content-Type or Content-Encoding that is not spoken here"),
    ResponseDoc::with(503, "nothing was stored; the receipts say why, try again after Retry-After", REFUSED_CONTENT),
    ResponseDoc::with(
        504,
        "no record is known to be stored; the first may be, a retry may store it twice",
        REFUSED_CONTENT,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(query: &str, expected: Expect) {
        let shown = match parse_query(Some(query), Duration::from_secs(30)) {
            Ok(params) => format!("{params:?}"),
            Err(refusal) => format!("{} {}: {}", refusal.status, refusal.code, refusal.message),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn only_the_six_parameters_are_taken_and_each_once() {
        check("stream=1&stream=0", expect!["400 bad_parameter: stream is given twice"]);
        check(
            "",
            expect![
                "Params { acks: All, wish: Allowed, common: Common { timeout: 30s, summary: false, streams: false } }"
            ],
        );
        check(
            "ack=local&timeout=2s&receipts=summary&async=1",
            expect![
                "Params { acks: Leader, wish: Always, common: Common { timeout: 2s, summary: true, streams: false } }"
            ],
        );
        check(
            "stream=true&mux=1&limit=2&limit=3",
            expect![
                "Params { acks: All, wish: Allowed, common: Common { timeout: 30s, summary: false, streams: true } }"
            ],
        );
        check(
            "stream=1&timeout=90s",
            expect![
                "Params { acks: All, wish: Allowed, common: Common { timeout: 30s, summary: false, streams: true } }"
            ],
        );
        check("key=k", expect!["400 unknown_parameter: there is no query parameter key here, the nearest is ack"]);
        check("receipts=all", expect!["400 bad_parameter: receipts is `all`, expected summary"]);
        check("stream=yes", expect!["400 bad_parameter: stream is `yes`, expected 0, 1, true or false"]);
        check("ack=most", expect!["400 bad_parameter: ack is `most`, expected all, local or none"]);
        check(
            "stream=1&receipts=summary",
            expect!["400 summary_with_stream: receipts=summary comes at the end, stream=1 wants receipts at once"],
        );
    }
}
