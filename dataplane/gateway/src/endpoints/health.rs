//! `GET /alive`, `/healthz`, `/readyz`: no credentials, no body.
//!
//! `/healthz` says the process lives. `/alive`, the 2017 load balancer's word, fails only while draining: a gateway
//! taken out for its clusters' sake could not even say 503. `/readyz` says whether this node wants traffic: not while
//! draining, and not before a cluster has answered its last probe (`prober.rs`); those that did not are named.

use crate::access::Grant;
use crate::codes;
use crate::endpoints::{Services, params};
use crate::exchange::Exchange;
use crate::exchange::body::RequestBody;
use crate::exchange::reply::Reply;
use crate::kafka::destination::Destination;
use crate::refusal::Refusal;
use gafka_http::Head;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, ResponseDoc, Schema};
use std::time::Instant;

/// How metrics and log name these.
const ENDPOINT: &str = "health";

pub fn alive(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    _: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    answer(services, exchange, head, now, || match services.env.board.is_draining() {
        true => Err(Refusal::new(codes::NOT_READY, "this gateway is draining")),
        false => Ok(yes()),
    })
}

pub fn healthz(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    _: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    answer(services, exchange, head, now, || Ok(yes()))
}

pub fn readyz(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    _: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    answer(services, exchange, head, now, || {
        let readiness = services.env.board.readiness();
        Ok(Reply::json(if readiness.ready { 200 } else { 503 }, readiness.to_json()))
    })
}

fn yes() -> Reply {
    Reply::json(200, "{\"ok\":1}")
}

fn answer(
    services: &Services,
    mut exchange: Exchange,
    head: &Head<'_>,
    now: Instant,
    make: impl FnOnce() -> Result<Reply, Refusal>,
) -> Option<Destination> {
    match params::none(head.query).and_then(|()| make()) {
        Ok(reply) => {
            exchange.endpoint = ENDPOINT;
            exchange.answer(&services.env, reply, now);
        }
        Err(refusal) => exchange.refuse(&services.env, &refusal, now),
    }
    None
}

pub const ALIVE_DOCS: &[EndpointDoc] = &[
    probe(Listener::Publish, "/alive", "alivePublish", "Whether the load balancer may send traffic here", ALIVE),
    probe(Listener::Subscribe, "/alive", "aliveSubscribe", "Whether the load balancer may send traffic here", ALIVE),
];

pub const HEALTHZ_DOCS: &[EndpointDoc] = &[
    probe(Listener::Publish, "/healthz", "healthzPublish", "Whether the process lives", OK),
    probe(Listener::Subscribe, "/healthz", "healthzSubscribe", "Whether the process lives", OK),
];

pub const READYZ_DOCS: &[EndpointDoc] = &[
    probe(
        Listener::Publish,
        "/readyz",
        "readyzPublish",
        "Whether this gateway may take traffic, cluster by cluster",
        READY,
    ),
    probe(
        Listener::Subscribe,
        "/readyz",
        "readyzSubscribe",
        "Whether this gateway may take traffic, cluster by cluster",
        READY,
    ),
];

const OK: &[ResponseDoc] = &[ResponseDoc::with(
    200,
    "yes",
    &[ContentDoc::json(Schema::Object(&[FieldDoc::must("ok", Schema::Always(1), "")]), "", Some(r#"{"ok":1}"#))],
)];

const READY: &[ResponseDoc] = &[
    ResponseDoc::with(
        200,
        "may take traffic",
        &[ContentDoc::json(
            Schema::READINESS,
            "with every cluster",
            Some(r#"{"ready":true,"draining":false,"generation":7,"clusters":{"main":{"up":true}}}"#),
        )],
    ),
    ResponseDoc::with(
        503,
        "draining, a shard has failed, or no cluster answered its last probe",
        &[ContentDoc::json(Schema::UNREADINESS, "why not, and the same as at 200", None)],
    ),
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
