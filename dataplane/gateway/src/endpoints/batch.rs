//! `POST /v1/msgs/:topic/:ver/batch` and its raw twin: many records, stored and answered one by one.
//!
//! The body is never held: [`feed::Feed`] is given each run of bytes as it arrives, and hands every record that is
//! complete to the Kafka client at once. [`session::Session`] is told the outcomes and becomes the answer. What bounds
//! memory is the number of records with Kafka, not the size of the body: beyond it the body is not read on, which the
//! client sees as TCP back-pressure.
//!
//! ```text
//!   bytes ──► input/streaming ──► feed ──► Client::produce(tag = this request, index) ──► … ──► outcome
//!                  ▲ not read on            │ open a receipt                                      │
//!                  └──── too many unanswered└──────────────► session: receipts ◄──────────────────┘
//!                                                              │ body over, all settled; or stream=1: at once
//!                                                              └──► the connection's slot
//! ```
//!
//! Cost of a record of 100 bytes: parse, one copy into the open record batch, a receipt of 16 bytes (none for the
//! summary). Everything else is per run: of received bytes, and of records that shared a record batch.

pub mod feed;
pub mod session;

use crate::batch::{BatchLimits, BatchParser, ReceiptFormat};
use crate::conn::{Conn, RequestMeta};
use crate::destination::Destination;
use crate::endpoints::parameters::{self, bad_parameter};
use crate::endpoints::publish::{parse_acks, parse_timeout};
use crate::limits::BATCH_OVERHEAD_BYTES;
use crate::reply::Failure;
use crate::shard::Shard;
use crate::standing::Standing;
use feed::Feed;
use gafka_http::{Head, query};
use kafka_client::Acks;
use session::Session;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The query of a batch.
#[derive(Debug, PartialEq, Eq)]
struct Params {
    acks: Acks,
    timeout: Duration,
    summary: bool,
    streams: bool,
}

/// What [`BatchParser::for_content_type`] takes.
const CONTENT_TYPES: &str = "application/x-ndjson, application/vnd.gafka.records";

/// Validates the request by its head and opens it; its body is fed to what this gives.
#[allow(clippy::too_many_arguments, reason = "the one call of the request path, all of it borrowed")]
pub fn open(
    shard: &Shard,
    conn: &Rc<Conn>,
    meta: &RequestMeta,
    head: &Head<'_>,
    destination: Destination,
    standing: Standing,
    decoder_bytes: usize,
    begun: Instant,
) -> Result<Feed, Failure> {
    let params = parse_query(head.query, shard.config.publish_timeout)?;
    let mut limits = BatchLimits::new(destination.message_bytes_max);
    if params.streams {
        if meta.minor_version == 0 {
            let message = "stream=1 is answered in chunks and needs HTTP/1.1";
            return Err(Failure::bad_request("stream_needs_http_1_1", message));
        }
        limits.records_max = u64::MAX;
    }
    let content_type = head.known.content_type.unwrap_or_default();
    let parser = BatchParser::for_content_type(content_type, limits).ok_or_else(|| {
        let shown: String = String::from_utf8_lossy(content_type).chars().take(64).collect();
        let message = format!("Content-Type is `{shown}`, expected one of {CONTENT_TYPES}");
        Failure::new(415, "unsupported_content_type", message).with("Accept", CONTENT_TYPES)
    })?;
    let bytes = BATCH_OVERHEAD_BYTES + decoder_bytes;
    let reservation = shard.reserve(destination.tenant, destination.route.cluster as u32, bytes)?;
    let format = ReceiptFormat::choose(params.summary, head.values("accept"));
    let session = Session::open(shard, conn, meta, destination, format, params.streams, reservation, begun);
    Ok(Feed::new(session, parser, standing, shard.borrow_snapshot().generation, params.acks, params.timeout))
}

pub(super) const PARAMETERS: [&str; 5] = ["ack", "async", "timeout", "receipts", "stream"];

fn parse_query(text: Option<&str>, timeout_max: Duration) -> Result<Params, Failure> {
    let mut params = Params { acks: Acks::All, timeout: timeout_max, summary: false, streams: false };
    let mut seen = 0_u8;
    for pair in query::pairs(text.unwrap_or_default()) {
        let (name, value) = pair.map_err(|_| parameters::malformed())?;
        let Some(bit) = parameters::position(&name, &PARAMETERS)? else { continue };
        if seen & 1 << bit != 0 {
            return Err(Failure::bad_request("bad_parameter", format!("{name} is given twice")));
        }
        seen |= 1 << bit;
        let value = query::text(value)
            .map_err(|_| Failure::bad_request("bad_query", format!("parameter {name} is not UTF-8")))?;
        match &*name {
            "ack" => params.acks = parse_acks(&value)?,
            "timeout" => params.timeout = parse_timeout(&value)?.min(timeout_max),
            "receipts" => match &*value {
                "summary" => params.summary = true,
                _ => return Err(bad_parameter("receipts", &value, "summary")),
            },
            "stream" => params.streams = parameters::flag("stream", &value)?,
            // Behaves as without until hinted handoff exists (CONTRACT.md).
            "async" => drop(parameters::flag("async", &value)?),
            _ => unreachable!("a name of the list"),
        }
    }
    if params.summary && params.streams {
        let message = "receipts=summary comes at the end, stream=1 wants receipts at once";
        return Err(Failure::bad_request("summary_with_stream", message));
    }
    Ok(params)
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
    fn only_the_five_parameters_are_taken_and_each_once() {
        check("stream=1&stream=0", expect!["400 bad_parameter: stream is given twice"]);
        check("", expect!["Params { acks: All, timeout: 30s, summary: false, streams: false }"]);
        check(
            "ack=local&timeout=2s&receipts=summary&async=1",
            expect!["Params { acks: Leader, timeout: 2s, summary: true, streams: false }"],
        );
        check(
            "stream=true&mux=1&limit=2&limit=3",
            expect!["Params { acks: All, timeout: 30s, summary: false, streams: true }"],
        );
        check("stream=1&timeout=90s", expect!["Params { acks: All, timeout: 30s, summary: false, streams: true }"]);
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
