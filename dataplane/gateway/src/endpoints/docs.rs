//! The one list of endpoints of the publish and subscribe listeners, as documented: OpenAPI and the tests are made
//! from it.

use model::api_doc::{Auth, ContentDoc, EndpointDoc, In, Kind, Listener, Method, ParamDoc, ResponseDoc};

const NAME: Kind = Kind::Pattern("^[A-Za-z0-9_-]{1,64}$");
const VERSION: Kind = Kind::Pattern("^v[0-9]+$");

const TOPIC: ParamDoc = ParamDoc::path("topic", NAME, "topic name");
const VER: ParamDoc = ParamDoc::path("ver", VERSION, "topic version, for example v1");
const REQUEST_ID: ParamDoc = ParamDoc::header("X-Request-Id", Kind::Text, "echoed in the answer; made when absent");

const STORED: &[(&str, &str)] = &[
    ("X-Partition", "partition the message is in"),
    ("X-Offset", "its offset; -1 with ack=none"),
    ("X-Msg-Id", "cluster/physical topic/partition/offset in base64url, opaque to clients"),
    ("X-Request-Id", "the request's id"),
];

const CLUSTER: ParamDoc = ParamDoc::path("cluster", NAME, "cluster name");
const PHYSICAL: ParamDoc =
    ParamDoc::path("topic", Kind::Pattern("^[A-Za-z0-9._-]{1,249}$"), "topic by its name in Kafka");

const PUBLISH_PARAMS: &[ParamDoc] = &publish_params(TOPIC, VER);
const RAW_PARAMS: &[ParamDoc] = &publish_params(CLUSTER, PHYSICAL);

const fn publish_params(first: ParamDoc, second: ParamDoc) -> [ParamDoc; 14] {
    let [key, partition, ack, timestamp, timeout, null, asynchronous, tag, header, traceparent] = PUBLISH_QUERY;
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
        tag,
        header,
        traceparent,
        CODING,
        REQUEST_ID,
    ]
}

const PUBLISH_QUERY: [ParamDoc; 10] = [
    ParamDoc::query("key", Kind::Text, "record key, at most 256 bytes; equal keys go to one partition"),
    ParamDoc::query("partition", Kind::Integer { min: 0, max: i32::MAX as i64 }, "partition, instead of by key"),
    ParamDoc::query("ack", Kind::Word(&["all", "local", "none"]), "who must have it before the answer").or("all"),
    ParamDoc::query(
        "timestamp",
        Kind::Integer { min: 0, max: i64::MAX },
        "record timestamp, epoch ms; now when absent; 400 `timestamp_unit` when it is about now in s, µs or ns",
    ),
    ParamDoc::query("timeout", Kind::Duration, "wait at most so long; at most 30s").or("30s"),
    ParamDoc::query("null", Kind::Bool, "1: store a null value (a tombstone); the body must be empty"),
    ParamDoc::query(
        "async",
        Kind::Bool,
        "1: answer once it is safe on this gateway; until hinted handoff exists, as without",
    ),
    ParamDoc::header("X-Tag", Kind::Text, "tags, separated by ;, each a record header `tag`; at most 1024 bytes"),
    ParamDoc::header("X-Header-NAME", Kind::Text, "record header `name`: UTF-8, percent-encoded; repeatable"),
    ParamDoc::header("traceparent", Kind::Text, "becomes the record header of that name"),
];

const PUBLISH_RESPONSES: &[ResponseDoc] = &[
    ResponseDoc::with(
        201,
        "stored under the asked acks",
        &[ContentDoc {
            media_type: "application/json",
            what: "where it is",
            example: Some(r#"{"ok":1,"partition":0,"offset":42,"timestamp":1795362345123}"#),
        }],
    )
    .and_headers(STORED),
    ResponseDoc::bare(400, "the request is malformed; nothing was stored"),
    ResponseDoc::bare(404, "no such topic or version; nothing was stored"),
    ResponseDoc::bare(413, "the message is over the topic's limit; nothing was stored"),
    ResponseDoc::bare(415, "a Content-Encoding that is not spoken here; nothing was stored"),
    ResponseDoc::bare(503, "Kafka or this gateway cannot take it now; nothing was stored, try again after Retry-After"),
    ResponseDoc::bare(504, "outcome unknown: the message may or may not be in Kafka, a retry may store it twice"),
];

const BATCH_QUERY: [ParamDoc; 5] = [
    ParamDoc::query("ack", Kind::Word(&["all", "local", "none"]), "who must have a record before its receipt")
        .or("all"),
    ParamDoc::query("timeout", Kind::Duration, "wait at most so long for each record; at most 30s").or("30s"),
    ParamDoc::query("receipts", Kind::Word(&["summary"]), "one object with ranges instead of a receipt per record"),
    ParamDoc::query(
        "stream",
        Kind::Bool,
        "1: receipts flow while records still arrive, and there may be any number of them; needs HTTP/1.1",
    ),
    ParamDoc::query(
        "async",
        Kind::Bool,
        "1: answer once it is safe on this gateway; until hinted handoff exists, as without",
    ),
];

const RECEIPTS: ParamDoc = ParamDoc::header(
    "Accept",
    Kind::Text,
    "application/vnd.gafka.receipts: 14 bytes per record, status u16, partition i32, offset i64, big endian",
);
const CODING: ParamDoc = ParamDoc::header("Content-Encoding", Kind::Word(&["gzip", "zstd"]), "coding of the body");

const fn batch_params(first: ParamDoc, second: ParamDoc) -> [ParamDoc; 10] {
    let [ack, timeout, receipts, stream, asynchronous] = BATCH_QUERY;
    [first, second, ack, timeout, receipts, stream, asynchronous, RECEIPTS, CODING, REQUEST_ID]
}

const BATCH_PARAMS: &[ParamDoc] = &batch_params(TOPIC, VER);
const RAW_BATCH_PARAMS: &[ParamDoc] = &batch_params(CLUSTER, PHYSICAL);

const BATCH_REQUEST: &[ContentDoc] = &[
    ContentDoc {
        media_type: "application/x-ndjson",
        what: "a record per line: value, value_base64 or value_json, key or key_base64, headers, partition, timestamp",
        example: Some("{\"key\":\"user-7\",\"value\":\"hello\",\"headers\":{\"source\":\"web\"}}"),
    },
    ContentDoc {
        media_type: "application/vnd.gafka.records",
        what: "length u32, attributes u8, [timestamp i64], [partition i32], [key_length u32, key], header_count u16, \
               headers, value; big endian",
        example: None,
    },
];

const BATCH_RESPONSES: &[ResponseDoc] = &[
    ResponseDoc::with(
        200,
        "at least one record was stored (with stream=1: was parsed); receipts in record order",
        &[
            ContentDoc {
                media_type: "application/x-ndjson",
                what: "a line per record: where it is, or status, errmsg and code",
                example: Some(r#"{"partition":0,"offset":42}"#),
            },
            ContentDoc { media_type: "application/vnd.gafka.receipts", what: "14 bytes per record", example: None },
            ContentDoc {
                media_type: "application/json",
                what: "receipts=summary",
                example: Some(r#"{"ok":2,"failed":0,"ranges":[{"partition":0,"offset":42,"count":2}],"errors":[]}"#),
            },
        ],
    )
    .and_headers(&[
        ("X-Failed", "records that were not stored; a trailer with stream=1"),
        ("X-Request-Id", "the request's id"),
    ]),
    ResponseDoc::bare(400, "no record, a bad parameter, or no record was stored and the first is malformed"),
    ResponseDoc::bare(404, "no such topic or version"),
    ResponseDoc::bare(413, "no record was stored and the first is over the topic's limit"),
    ResponseDoc::bare(415, "a Content-Type or Content-Encoding that is not spoken here"),
    ResponseDoc::bare(503, "nothing was stored; the receipts say why, try again after Retry-After"),
    ResponseDoc::bare(504, "no record is known to be stored; the first may be, a retry may store it twice"),
];

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
    ParamDoc::query("batch", Kind::Integer { min: 1, max: 4000 }, "most messages in the answer").or("1"),
    ParamDoc::query("max_bytes", Kind::Integer { min: 1, max: i32::MAX as i64 }, "most bytes in the answer")
        .or("4194304"),
    ParamDoc::query("wait", Kind::Duration, "long poll: 204 when nothing came; at most 120s").or("30s"),
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

const SUBSCRIBE_RESPONSES: &[ResponseDoc] = &[
    ResponseDoc::with(
        200,
        "messages; acknowledged when the answer was handed to the network",
        &[
            ContentDoc {
                media_type: "text/plain; charset=utf8",
                what: "batch=1: the message; its position in X-Partition, X-Offset",
                example: None,
            },
            ContentDoc {
                media_type: "application/octet-stream",
                what: "2017 framing: partition i32, offset i64, length i32, value, big endian",
                example: None,
            },
            ContentDoc { media_type: "application/x-ndjson", what: "one JSON object per line", example: None },
            ContentDoc {
                media_type: "application/json",
                what: "an array of the same objects",
                example: Some(r#"[{"partition":0,"offset":42,"timestamp":1795362345123,"value":"hello"}]"#),
            },
            ContentDoc { media_type: "application/vnd.gafka.records", what: "length-prefixed records", example: None },
        ],
    ),
    ResponseDoc::bare(204, "no message in time"),
    ResponseDoc::bare(400, "the request is malformed"),
    ResponseDoc::bare(404, "no such app, topic or version"),
    ResponseDoc::bare(409, "the live group polls with another tag filter"),
    ResponseDoc::bare(503, "Kafka or this gateway cannot serve it now, try again after Retry-After"),
];

const OK: &[ResponseDoc] = &[ResponseDoc::with(
    200,
    "yes",
    &[ContentDoc { media_type: "application/json", what: "", example: Some(r#"{"ok":1}"#) }],
)];

const READY: &[ResponseDoc] = &[
    ResponseDoc::with(
        200,
        "may take traffic",
        &[ContentDoc {
            media_type: "application/json",
            what: "with every cluster",
            example: Some(r#"{"ready":true,"draining":false,"generation":7,"clusters":{"main":{"up":true}}}"#),
        }],
    ),
    ResponseDoc::bare(503, "draining, or no cluster answered its last probe"),
];

const ALIVE: &[ResponseDoc] = &[OK[0], ResponseDoc::bare(503, "draining")];

const fn probe(
    listener: Listener,
    path: &'static str,
    operation: &'static str,
    summary: &'static str,
    responses: &'static [ResponseDoc],
) -> EndpointDoc {
    EndpointDoc {
        listener,
        method: Method::Get,
        path,
        operation,
        tag: "health",
        summary,
        details: "",
        auth: Auth::None,
        params: &[],
        request: &[],
        responses,
    }
}

/// Every endpoint of the two data-plane listeners.
pub const ENDPOINTS: &[EndpointDoc] = &[
    EndpointDoc {
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
        request: &[ContentDoc { media_type: "application/octet-stream", what: "the message", example: None }],
        responses: PUBLISH_RESPONSES,
    },
    EndpointDoc {
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
    },
    EndpointDoc {
        listener: Listener::Publish,
        method: Method::Post,
        path: "/v1/raw/msgs/:cluster/:topic",
        operation: "publishRawMessage",
        tag: "publish",
        summary: "Publish one message to a topic by its name in Kafka",
        details: "For apps with that grant; otherwise, statuses included, as `publishMessage`.",
        auth: Auth::Publisher,
        params: RAW_PARAMS,
        request: &[ContentDoc { media_type: "application/octet-stream", what: "the message", example: None }],
        responses: PUBLISH_RESPONSES,
    },
    EndpointDoc {
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
    },
    EndpointDoc {
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
    },
    probe(Listener::Publish, "/alive", "alivePublish", "Whether the load balancer may send traffic here", ALIVE),
    probe(Listener::Publish, "/healthz", "healthzPublish", "Whether the process lives", OK),
    probe(
        Listener::Publish,
        "/readyz",
        "readyzPublish",
        "Whether this gateway may take traffic, cluster by cluster",
        READY,
    ),
    probe(Listener::Subscribe, "/alive", "aliveSubscribe", "Whether the load balancer may send traffic here", ALIVE),
    probe(Listener::Subscribe, "/healthz", "healthzSubscribe", "Whether the process lives", OK),
    probe(
        Listener::Subscribe,
        "/readyz",
        "readyzSubscribe",
        "Whether this gateway may take traffic, cluster by cluster",
        READY,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::{RouteError, route};
    use model::Side;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    #[test]
    fn the_list_has_no_mistakes() {
        let listed: Vec<&EndpointDoc> = ENDPOINTS.iter().collect();
        assert_eq!(model::api_doc::mistakes(&listed), Vec::<String>::new());
    }

    /// `(status, code)` of the status tables in the endpoints' details.
    fn documented() -> BTreeSet<(String, String)> {
        let rows = ENDPOINTS.iter().flat_map(|doc| doc.details.lines()).filter_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            Some((cells.next()?, cells.next()?))
        });
        let codes = rows.flat_map(|(status, codes)| {
            codes.split(", ").filter_map(move |code| {
                let code = code.trim().strip_prefix('`')?.strip_suffix('`')?;
                Some((status.to_owned(), code.to_owned()))
            })
        });
        codes.collect()
    }

    /// Takes a string literal off the front of source text, if one begins there that could be a code.
    fn literal(text: &str) -> Option<&str> {
        let (code, _) = text.trim_start().strip_prefix('"')?.split_once('"')?;
        let is_code =
            !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        is_code.then_some(code)
    }

    /// `(status, code)` wherever the sources make one: `(404, "code"`, `bad_request("code"`, `bad("code"`, and the few
    /// places that keep a code in a table of their own, which are all 400.
    fn made_in(source: &str) -> Vec<(String, String)> {
        let source = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let with_status = source.split('(').filter_map(|rest| {
            let (status, rest) = rest.trim_start().split_once(',')?;
            let is_status = status.len() == 3 && status.starts_with(['4', '5']) && status.parse::<u16>().is_ok();
            literal(rest).filter(|_| is_status).map(|code| (status, code))
        });
        let markers = ["bad_request(", "bad(", "&mut self."];
        let bad = markers.into_iter().flat_map(|marker| {
            source.split(marker).skip(1).filter_map(move |rest| match marker {
                "&mut self." => literal(rest.split_once(',')?.1).filter(|code| code.starts_with("illegal_")),
                _ => literal(rest),
            })
        });
        let decode_errors = source.split("=> \"").skip(1).filter_map(|rest| {
            let code = rest.split('"').next()?;
            ["malformed_percent_encoding", "not_utf8"].contains(&code).then_some(code)
        });
        let all = with_status.chain(bad.map(|code| ("400", code))).chain(decode_errors.map(|code| ("400", code)));
        all.map(|(status, code)| (status.to_owned(), code.to_owned())).collect()
    }

    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap_or_else(|err| panic!("{}: {err}", dir.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("tests") {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_code_that_can_be_sent_is_documented_with_its_status_and_no_other() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = vec![crates.join("../controlplane/model/src/denied.rs")];
        sources(&crates.join("gateway/src"), &mut files);
        sources(&crates.join("http/src"), &mut files);
        let mut sent = BTreeSet::new();
        for file in &files {
            sent.extend(made_in(&fs::read_to_string(file).unwrap_or_else(|err| panic!("{}: {err}", file.display()))));
        }
        // Not of this listener, turned into another code on the way, or no code at all.
        let elsewhere = [("404", "no_such_cluster"), ("413", "body_too_large")];
        let elsewhere = elsewhere.map(|(status, code)| (status.to_owned(), code.to_owned()));
        sent.retain(|pair| !elsewhere.contains(pair));
        let documented = documented();
        let missing: Vec<_> = sent.difference(&documented).collect();
        let stale: Vec<_> = documented.difference(&sent).collect();
        assert!(missing.is_empty() && stale.is_empty(), "not documented: {missing:?}; never sent: {stale:?}");
        assert!(sent.len() > 80, "the sources were read: {}", sent.len());
    }

    #[test]
    fn the_documented_query_names_are_those_that_are_taken() {
        use crate::endpoints::{batch, publish};
        use crate::subscribe::query;
        for doc in ENDPOINTS {
            let mut named: Vec<&str> = doc.query_params().collect();
            let mut taken: Vec<&str> = match doc.operation {
                "publishMessage" | "publishRawMessage" => publish::PARAMETERS.to_vec(),
                "publishBatch" | "publishRawBatch" => batch::PARAMETERS.to_vec(),
                // Known, and answered with 501 until they exist.
                "pollMessages" => query::PARAMETERS.into_iter().filter(|name| !["ack", "q"].contains(name)).collect(),
                _ => Vec::new(),
            };
            named.sort_unstable();
            taken.sort_unstable();
            assert_eq!(named, taken, "{}", doc.operation);
        }
    }

    #[test]
    fn every_documented_endpoint_is_routed() {
        for doc in ENDPOINTS {
            let side = if doc.listener == Listener::Publish { Side::Publish } else { Side::Subscribe };
            let path = doc.path.replace(":ver", "v1").replace(':', "");
            let method = gafka_http::Method::from_token(doc.method.as_str()).expect("a method the parser knows");
            assert!(!matches!(route(side, method, &path), Err(RouteError::NotFound)), "{path}");
            assert!(route(side, method, &path).is_ok(), "{path}");
        }
    }
}
