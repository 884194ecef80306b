//! `POST /v1/jobs/:topic/:ver/batch`: many delayed jobs, kept and answered one by one ([`crate::publish::batch`]).

use crate::access::Grant;
use crate::codes;
use crate::due::Due;
use crate::endpoints::Services;
use crate::endpoints::batch::{self, Common, Opening, RECORD_FIELDS, STREAM_PARAM, SUMMARY, SUMMARY_PARAM};
use crate::endpoints::docs::{CODING, REQUEST_ID, TIMEOUT, TOPIC, VER};
use crate::endpoints::jobs::{IDEMPOTENCY_KEY, name_of};
use crate::endpoints::jobs_query::{delay_of, due_of, durability_of};
use crate::exchange::conn::Conn;
use crate::exchange::content_encoding::Decoder;
use crate::exchange::meta::Meta;
use crate::jobs::when;
use crate::limits::JOB_BYTES_MAX;
use crate::publish::batch::ToJobs;
use crate::publish::batch::feed::Feed;
use crate::publish::batch::sink::Sink;
use crate::refusal::Refusal;
use gafka_http::Head;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ParamDoc, ResponseDoc, Schema};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How metrics and log name it.
const ENDPOINT: &str = "jobs_batch";

/// The query of a batch of jobs.
#[derive(Debug, PartialEq, Eq)]
struct Params {
    common: Common,
    /// Of records that say none.
    default_due: Option<Due>,
}

/// As [`batch::open`].
pub fn open(
    services: &Services,
    conn: &Rc<Conn>,
    meta: &Meta,
    head: &Head<'_>,
    grant: &Grant<'_>,
    begun: Instant,
) -> Result<(Feed, Option<Decoder>), Refusal> {
    let env = &services.env;
    let Params { common, default_due } = parse_query(head.query, env.config.publish_timeout, env.wall_clock_ms())?;
    if head.header(IDEMPOTENCY_KEY).is_some() {
        let sentence = "Idempotency-Key is for jobs that are added one by one: after a batch that broke off, the jobs \
                        whose receipts are missing may be there";
        return Err(Refusal::new(codes::BAD_HEADER, sentence));
    }
    services.jobs.takes()?;
    let sink = Sink::Jobs(ToJobs::new(name_of(grant), default_due));
    let opening = Opening { endpoint: ENDPOINT, value_bytes_max: JOB_BYTES_MAX, common, sink };
    batch::open_into(services, conn, meta, head, grant, begun, opening)
}

pub(super) const PARAMETERS: [&str; 6] = ["delay", "due", "durability", "timeout", "receipts", "stream"];

fn parse_query(text: Option<&str>, timeout_max: Duration, now_ms: i64) -> Result<Params, Refusal> {
    let (mut delay, mut time) = (None, None);
    let common = batch::parse_common(text, &PARAMETERS, timeout_max, |name, value| {
        match name {
            "delay" => delay = Some(delay_of(value)?),
            "due" => time = Some(due_of("due", value)?),
            // Receipts come when records are durable, whoever wants them sooner.
            "durability" => {
                durability_of(value)?;
            }
            _ => unreachable!("a name of the list"),
        }
        Ok(())
    })?;
    // As of a single one `due` means more.
    let default_due = time.or(delay);
    if let Some(due) = default_due {
        when::check(due.ms(now_ms), now_ms)?;
    }
    Ok(Params { common, default_due })
}

const DELAY: ParamDoc = ParamDoc::query(
    "delay",
    Kind::Text,
    "of records that say neither `due` nor `delay`, from when each arrives: seconds, or with a unit; `due` means more",
);
const DUE: ParamDoc = ParamDoc::query(
    "due",
    Kind::Text,
    "of records that say neither `due` nor `delay`: RFC 3339, or seconds since 1970; not in the past",
);

const RECEIPTS: ParamDoc = ParamDoc::header(
    "Accept",
    Kind::Text,
    "application/vnd.gafka.receipts: 14 bytes per record, status u16, i32 that is always -1, i64 with the job's id (-1: \
     not added), big endian",
);

const RECORD: Schema = {
    const FIELDS: [FieldDoc; 10] = {
        let [key, key_base64, value, value_base64, value_json, headers, partition, _] = RECORD_FIELDS;
        let timestamp =
            FieldDoc::may("timestamp", Schema::COUNT, "epoch ms, of the message; otherwise when it is published");
        let due = FieldDoc::may("due", TIME, "when: RFC 3339, or seconds since 1970");
        let delay = FieldDoc::may("delay", TIME, "instead of due, how long from now: seconds, or text with a unit");
        [due, delay, key, key_base64, value, value_base64, value_json, headers, partition, timestamp]
    };
    Schema::Object(&FIELDS)
};
const TIME: Schema = Schema::AnyOf(&[Schema::TEXT, Schema::COUNT]);

const REQUEST: &[ContentDoc] = &[
    ContentDoc {
        media_type: "application/x-ndjson",
        what: "a job per line: due or delay; value, value_base64 or value_json, key or key_base64, headers, partition, timestamp",
        schema: Schema::Lines(&RECORD),
        example: Some("{\"delay\":\"30s\",\"key\":\"user-7\",\"value\":\"hello later\"}"),
    },
    ContentDoc::bytes(
        "application/vnd.gafka.records",
        "as for `publishBatch`; with bit 16 of the attributes due_ms i64, epoch ms, stands behind the timestamp, or where \
         that would stand",
    ),
];

const RECEIPT: Schema = Schema::AnyOf(&[
    Schema::Object(&[
        FieldDoc::must("status", Schema::Always(201), "kept, and it will be published"),
        FieldDoc::must("id", Schema::TEXT, "19 digits; positive, and fits into 64 bits"),
        FieldDoc::must("due", Schema::TEXT, "RFC 3339"),
    ]),
    batch::FAILED,
]);

/// Receipts in the format that was asked for; also where no job was kept.
const RECEIPTS_CONTENT: &[ContentDoc] = &[
    ContentDoc {
        media_type: "application/x-ndjson",
        what: "a line per record: its id, or status, errmsg and code",
        schema: Schema::Lines(&RECEIPT),
        example: Some(r#"{"status":201,"id":"5188146770730811648","due":"2027-01-01T08:00:00.000Z"}"#),
    },
    ContentDoc::bytes("application/vnd.gafka.receipts", "14 bytes per record"),
    ContentDoc::json(
        SUMMARY,
        "receipts=summary: jobs are counted, their ids are not told, and there are no ranges",
        Some(r#"{"ok":2,"failed":0,"ranges":[],"errors":[]}"#),
    ),
];

/// Why nothing was kept: in one sentence before the first record was read, else a receipt for each.
const REFUSED_CONTENT: &[ContentDoc] = &[
    ContentDoc::json(Schema::AnyOf(&[Schema::ERROR, SUMMARY]), "why, or with receipts=summary the summary", None),
    RECEIPTS_CONTENT[0],
    RECEIPTS_CONTENT[1],
];

pub const DOCS: &[EndpointDoc] = &[EndpointDoc {
    listener: Listener::Publish,
    method: Method::Post,
    path: "/v1/jobs/:topic/:ver/batch",
    operation: "addJobs",
    tag: "jobs",
    summary: "Publish many messages later",
    details: concat!(
        "Records become delayed jobs while the body arrives, those that arrive together with one write to the disk; each has its receipt, which is 201 once its job is fsynced on this gateway. Jobs that are due in the same millisecond are published in the order of the batch. A record with neither `due` nor `delay` is refused, alone, unless the query says one for it. Without stream=1 the answer begins when the body has ended, and there are at most 1,000,000 records. After a record that cannot be delimited nothing is kept and the connection closes. While the store has no room for the moment the body is not read on; after `timeout` records are refused. Statuses not listed here are those of `addJob`.",
        include_str!("statuses/jobs_batch.md"),
    ),
    auth: Auth::Publisher,
    params: &[
        TOPIC,
        VER,
        DELAY,
        DUE,
        ParamDoc::query(
            "durability",
            Kind::Text,
            "`durable`, which is also what none means; `async` waits as long in a batch",
        ),
        ParamDoc::query("timeout", TIMEOUT, "wait at most so long for room").or("30s"),
        SUMMARY_PARAM,
        STREAM_PARAM,
        RECEIPTS,
        CODING,
        REQUEST_ID,
    ],
    request: REQUEST,
    responses: &[
        ResponseDoc::with(
            200,
            "at least one job was kept (with stream=1: one record was parsed); receipts in record order",
            RECEIPTS_CONTENT,
        )
        .and_headers(&[
            ("X-Failed", "records that were refused; a trailer with stream=1"),
            ("X-Request-Id", "the request's id"),
        ]),
        ResponseDoc::with(
            400,
            "no record, a bad parameter or header, or no job was kept and the first record is malformed",
            REFUSED_CONTENT,
        ),
        ResponseDoc::with(404, "no such topic or version", REFUSED_CONTENT),
        ResponseDoc::with(413, "no job was kept and the first is over the topic's limit, or 2 MiB", REFUSED_CONTENT),
        ResponseDoc::bare(415, "a Content-Type or Content-Encoding that is not spoken here"),
        ResponseDoc::bare(501, "that durability does not exist yet"),
        ResponseDoc::with(503, "nothing was kept; the receipts say why, try again after Retry-After", REFUSED_CONTENT),
    ],
}];

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-28T00:00:00Z
    const NOW_MS: i64 = 1_795_824_000_000;

    #[test]
    fn a_query_says_when_records_are_due_that_do_not_say_it_and_nothing_of_kafka() {
        let at = |ms| Ok(Some(Due::At { ms }));
        for (query, expected) in [
            ("", Ok(None)),
            ("delay=30s", Ok(Some(Due::In { ms: 30_000 }))),
            ("due=1795824060", at(NOW_MS + 60_000)),
            ("due=2026-11-28T01:01:00+01:00", at(NOW_MS + 60_000)),
            ("delay=1&due=1795824060", at(NOW_MS + 60_000)),
            ("durability=durable&stream=1&timeout=5s", Ok(None)),
            ("due=2026-11-27T00:00:00Z", Err("due_past")),
            ("due=1795824060000", Err("due_too_far")),
            ("due=tomorrow", Err("bad_parameter")),
            ("delay=-1", Err("bad_parameter")),
            ("delay=1&delay=2", Err("bad_parameter")),
            ("durability=async&stream=1&timeout=5s", Ok(None)),
            ("durability=both", Err("durability_unknown")),
            ("ack=all", Err("unknown_parameter")),
            ("async=1", Err("unknown_parameter")),
            ("key=k", Err("unknown_parameter")),
            ("stream=1&receipts=summary", Err("summary_with_stream")),
        ] {
            let read = parse_query(Some(query), Duration::from_secs(30), NOW_MS);
            assert_eq!(read.map(|params| params.default_due).map_err(|refusal| refusal.code), expected, "{query}");
        }
    }
}
