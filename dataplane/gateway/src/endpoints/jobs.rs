//! `/v1/jobs/:topic/:ver`: messages that are published later ([`crate::jobs`]).
//!
//! An id names the node that has the job: another one asks that, with the caller's own credentials, and passes its answer on.

use crate::access::Grant;
use crate::codes;
use crate::endpoints::docs::{CODING, REQUEST_ID, TOPIC, VER};
use crate::endpoints::jobs_query::{self as asked, AddWishes};
use crate::endpoints::publish::{self, decoded_message};
use crate::endpoints::{Admission, Services};
use crate::exchange::Exchange;
use crate::exchange::body::RequestBody;
use crate::exchange::reply::Reply;
use crate::jobs::{self, Act, Named, New};
use crate::kafka::destination::Destination;
use crate::limits::JOB_BYTES_MAX;
use crate::publish::handoff::peer::{self, Question};
use crate::publish::headers::RecordHeaders;
use crate::refusal::Refusal;
use ::jobs::JobId;
use ::jobs::id::node_number;
use ::jobs::log::{AddKey, Name};
use gafka_http::Head;
use kafka_wire::job_entry;
use model::Side;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ParamDoc, ResponseDoc, Schema};
use sha2::{Digest, Sha256};
use std::time::Instant;

/// How metrics and log name these.
const ENDPOINT: &str = "jobs";
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// What may come as the body of a job.
pub fn admit(services: &Services, grant: &Grant<'_>) -> Result<Admission, Refusal> {
    let admission = publish::admit(services, grant)?;
    Ok(Admission { body_bytes_max: admission.body_bytes_max.min(JOB_BYTES_MAX), ..admission })
}

/// `POST /v1/jobs/:topic/:ver`.
pub fn add(
    services: &Services,
    mut exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    body: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    exchange.endpoint = ENDPOINT;
    let env = &services.env;
    let meters = services.access.meters(env, grant);
    let prepared = prepare(services, &mut exchange, head, grant, body, now);
    match prepared {
        Ok(new) => {
            meters.charge(env, Side::Publish, 1, new.own.len(), now);
            services.jobs.add(exchange, new, env, now);
        }
        Err(refusal) => exchange.refuse(env, &refusal, now),
    }
    None
}

fn prepare(
    services: &Services,
    exchange: &mut Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    body: RequestBody<'_>,
    now: Instant,
) -> Result<New, Refusal> {
    let now_ms = services.env.wall_clock_ms();
    let AddWishes { due_ms, key, partition, null, durability } = asked::add(head.query, now_ms)?;
    let name = name_of(grant);
    let body = decoded_message(services, exchange, head, grant, body, now)?;
    if body.len() > JOB_BYTES_MAX {
        return Err(Refusal::too_large(JOB_BYTES_MAX));
    }
    if null && !body.is_empty() {
        return Err(Refusal::new(codes::NULL_WITH_BODY, "null=1 stores a null value, but the request has a body"));
    }
    let headers = RecordHeaders::of(head)?;
    let entry = job_entry::Entry {
        timestamp_ms: None,
        partition,
        key: key.as_deref(),
        headers: headers.refs().into_iter().collect(),
        value: (!null).then(|| body.as_slice()),
    };
    let mut own = Vec::new();
    entry.encode(&mut own);
    Ok(New { key: add_key(head, &name)?, name, due_ms, own, durability })
}

/// Whose the jobs of a grant are, and for what.
pub(super) fn name_of(grant: &Grant<'_>) -> Name {
    let Grant::Topic(permit) = grant else { unreachable!("a job is granted a topic") };
    let topic = permit.topic();
    Name {
        account: permit.app().id.as_str().into(),
        subject: format!("{}/{}", topic.name.as_str(), topic.ver.as_str()).into(),
    }
}

/// What `Idempotency-Key` comes to for this app and topic.
fn add_key(head: &Head<'_>, name: &Name) -> Result<Option<AddKey>, Refusal> {
    let Some(key) = head.header(IDEMPOTENCY_KEY) else { return Ok(None) };
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_BYTES_MAX {
        let sentence = format!("Idempotency-Key has {} bytes, 1 to {IDEMPOTENCY_KEY_BYTES_MAX} are taken", key.len());
        return Err(Refusal::new(codes::BAD_HEADER, sentence));
    }
    let mut hash = Sha256::new();
    for part in [name.account.as_bytes(), name.subject.as_bytes(), key] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Ok(hash.finalize().first_chunk().copied())
}

// ---- one job

/// `GET /v1/jobs/:topic/:ver`: a job, or a list of those that wait.
pub fn look(
    services: &Services,
    mut exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    exchange.endpoint = ENDPOINT;
    let env = &services.env;
    match asked::look(head.query) {
        Ok(asked::Look::Job(id)) => act(services, exchange, head, grant, id, Act::Show, now),
        Ok(asked::Look::List(page)) => services.jobs.list(exchange, name_of(grant), page, env, now),
        Err(refusal) => exchange.refuse(env, &refusal, now),
    }
    None
}

/// `DELETE /v1/jobs/:topic/:ver?id=`.
pub fn delete(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    named(services, exchange, head, grant, asked::id(head.query).map(|id| (id, Act::Delete)), now)
}

/// `PUT /v1/jobs/:topic/:ver?id=&due=`.
pub fn reschedule(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    let asked = asked::reschedule(head.query, services.env.wall_clock_ms());
    named(services, exchange, head, grant, asked.map(|(id, due_ms)| (id, Act::Move(due_ms))), now)
}

/// `POST /v1/jobs/:topic/:ver/fire?id=`.
pub fn fire(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    named(services, exchange, head, grant, asked::id(head.query).map(|id| (id, Act::Fire)), now)
}

/// `POST /v1/jobs/:topic/:ver/replay?id=`.
pub fn replay(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    named(services, exchange, head, grant, asked::id(head.query).map(|id| (id, Act::Replay)), now)
}

fn named(
    services: &Services,
    mut exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    asked: Result<(Option<JobId>, Act), Refusal>,
    now: Instant,
) -> Option<Destination> {
    exchange.endpoint = ENDPOINT;
    match asked {
        Ok((id, what)) => act(services, exchange, head, grant, id, what, now),
        Err(refusal) => exchange.refuse(&services.env, &refusal, now),
    }
    None
}

/// Does something with a job, here or where it is. `id`: none when what was given cannot be one.
fn act(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    id: Option<JobId>,
    act: Act,
    now: Instant,
) {
    let env = &services.env;
    let Some(id) = id else { return exchange.refuse(env, &jobs::unknown(act), now) };
    let named = Named { id, name: name_of(grant), act };
    if services.jobs.has(&named) {
        return services.jobs.act(exchange, named, env, now);
    }
    let is_relayed = head.header(peer::RELAYED).is_some();
    let may_be_here = services.jobs.is_here(id);
    let peers = env.board.peers();
    let others: Vec<Question> = match is_relayed {
        true => Vec::new(),
        false => {
            let of_number = peers.iter().filter(|(node, peer)| node_number(node) == id.node() && !peer.tls);
            of_number.map(|(_, peer)| Question::same(peer.address, head)).collect()
        }
    };
    if others.is_empty() {
        let refusal = match may_be_here || is_relayed {
            true => jobs::unknown(act),
            false => {
                away("no gateway with this job is registered, or it speaks TLS, over which gateways do not ask yet")
            }
        };
        return exchange.refuse(env, &refusal, now);
    }
    let services = services.this();
    drop(runtime::spawn(async move {
        let reply = relayed(others, act, may_be_here).await;
        exchange.answer(&services.env, reply, services.env.tick());
    }));
}

/// What the first says that knows the job.
async fn relayed(others: Vec<Question>, act: Act, may_be_here: bool) -> Reply {
    let unknown = jobs::unknown(act);
    let (mut failure, mut last) = (None, None);
    for question in others {
        match question.ask().await {
            Ok((status, body)) if status == unknown.status => last = Some((status, body)),
            Ok((status, body)) => return Reply::json(status, body),
            Err(why) => failure = Some(why),
        }
    }
    match (failure, last) {
        // The one that did not answer may have it.
        (Some(why), _) if !may_be_here => Reply::refusal(&away(&why)),
        (_, Some((status, body))) => Reply::json(status, body),
        _ => Reply::refusal(&unknown),
    }
}

fn away(why: &str) -> Refusal {
    let message =
        format!("the gateway that has this job does not answer ({why}); the job is safe there, ask again later");
    Refusal::new(codes::OWNER_AWAY, message)
}

// ---- queues

/// `PUT /v1/jobs/:topic/:ver/pause`.
pub fn pause(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    set_paused(services, exchange, head, grant, true, now)
}

/// `PUT /v1/jobs/:topic/:ver/resume`.
pub fn resume(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    _: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    set_paused(services, exchange, head, grant, false, now)
}

fn set_paused(
    services: &Services,
    mut exchange: Exchange,
    head: &Head<'_>,
    grant: &Grant<'_>,
    is_paused: bool,
    now: Instant,
) -> Option<Destination> {
    exchange.endpoint = ENDPOINT;
    match crate::endpoints::params::none(head.query) {
        Ok(()) => services.jobs.pause(exchange, &name_of(grant), is_paused, &services.env, now),
        Err(refusal) => exchange.refuse(&services.env, &refusal, now),
    }
    None
}

// ---- documents

const ID: ParamDoc = ParamDoc::query("id", Kind::Text, "`id` of the answer that the job was added with").required();
const DUE: ParamDoc = ParamDoc::query("due", Kind::Text, "when: RFC 3339, or seconds since 1970; not in the past");

const DELAY: ParamDoc = ParamDoc::query(
    "delay",
    Kind::Text,
    "how long from now: seconds, or with a unit (`30s`, `250ms`, `2h`); `due` means more",
);

const ADDED: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), "1"),
    FieldDoc::must("id", Schema::TEXT, "19 digits; positive, and fits into 64 bits"),
    FieldDoc::must("due", Schema::TEXT, "RFC 3339"),
    FieldDoc::must(
        "durability",
        Schema::Value(Kind::Word(&["local", "async"])),
        "`local`: on this gateway's disk, fsynced; `async`: on its way there",
    ),
]);

const JOB: Schema = Schema::Object(&[
    FieldDoc::must("id", Schema::TEXT, ""),
    FieldDoc::must(
        "state",
        Schema::Value(Kind::Word(&["pending", "firing", "parked", "fired", "deleted"])),
        "ends are remembered for the last 33 million jobs of a gateway",
    ),
    FieldDoc::may("due", Schema::TEXT, "RFC 3339; of one that waits"),
    FieldDoc::may("attempts", Schema::COUNT, "how often it was given to Kafka in vain"),
    FieldDoc::may("code", Schema::TEXT, "why it is parked"),
    FieldDoc::may("reason", Schema::TEXT, "the same as a sentence"),
    FieldDoc::may("parked_at", Schema::TEXT, "RFC 3339"),
]);

const DONE: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), "1"),
    FieldDoc::must("id", Schema::TEXT, ""),
    FieldDoc::may("due", Schema::TEXT, "its new time"),
]);

const PAUSED: Schema =
    Schema::Object(&[FieldDoc::must("ok", Schema::Always(1), "1"), FieldDoc::must("paused", Schema::FLAG, "")]);

const LIST: Schema = Schema::Object(&[
    FieldDoc::must("jobs", Schema::Array(&JOB), "in the order of when they are due"),
    FieldDoc::must(
        "cursor",
        Schema::AnyOf(&[Schema::TEXT, Schema::Null]),
        "for the next page; null after the last. A page may be empty and not the last",
    ),
]);

macro_rules! details {
    ($table:literal) => {
        concat!(include_str!($table), include_str!("statuses/any.md"))
    };
}

const fn doc(
    method: Method,
    path: &'static str,
    operation: &'static str,
    summary: &'static str,
    params: &'static [ParamDoc],
    details: &'static str,
    responses: &'static [ResponseDoc],
) -> EndpointDoc {
    EndpointDoc {
        listener: Listener::Publish,
        method,
        path,
        operation,
        tag: "jobs",
        summary,
        details,
        auth: Auth::Publisher,
        params,
        request: &[],
        responses,
    }
}

const PATH: &str = "/v1/jobs/:topic/:ver";

pub const ADD_DOCS: &[EndpointDoc] = &[EndpointDoc {
    request: publish::BODY,
    ..doc(
        Method::Post,
        PATH,
        "addJob",
        "Publish a message later",
        &[
            TOPIC,
            VER,
            DELAY,
            DUE,
            ParamDoc::query("key", Kind::Text, "record key"),
            ParamDoc::query(
                "partition",
                Kind::Integer { min: 0, max: i32::MAX as i64 },
                "the partition, instead of one by key",
            ),
            ParamDoc::query("null", Kind::Bool, "a null value; without a body"),
            ParamDoc::query(
                "durability",
                Kind::Text,
                "`durable`, which is also what none means; `async`: answered before the fsync, a kill within the next milliseconds \
                 loses it",
            ),
            ParamDoc::header("Idempotency-Key", Kind::Text, "the same answer for 24 h, and one job"),
            ParamDoc::header("X-Tag", Kind::Text, "tags, between semicolons"),
            CODING,
            REQUEST_ID,
        ],
        details!("statuses/jobs.md"),
        &[
            ResponseDoc::with(
                201,
                "kept, and it will be published",
                &[ContentDoc::json(ADDED, "", Some(ADDED_EXAMPLE))],
            ),
            ResponseDoc::bare(400, "a parameter is wrong, or the time is past"),
            ResponseDoc::bare(404, "there is no such topic of this app"),
            ResponseDoc::bare(409, "a job with this key is being added"),
            ResponseDoc::bare(413, "the message is too large for its topic, or for a job (2 MiB)"),
            ResponseDoc::bare(415, "the content coding is not known"),
            ResponseDoc::bare(501, "that durability does not exist yet"),
            ResponseDoc::bare(503, "nothing was stored"),
        ],
    )
}];
const ADDED_EXAMPLE: &str =
    r#"{"ok":1,"id":"5188146770730811648","due":"2027-01-01T08:00:00.000Z","durability":"local"}"#;

pub const LOOK_DOCS: &[EndpointDoc] = &[doc(
    Method::Get,
    PATH,
    "getJobs",
    "A job, or those that wait",
    &[
        TOPIC,
        VER,
        ParamDoc::query("id", Kind::Text, "a job; without one, those that wait at this gateway are listed"),
        ParamDoc::query("from", Kind::Text, "list those due from then on: RFC 3339, or seconds since 1970"),
        ParamDoc::query("to", Kind::Text, "list those due before then"),
        ParamDoc::query("limit", Kind::Integer { min: 1, max: 1_000 }, "jobs of a page").or("100"),
        ParamDoc::query("cursor", Kind::Text, "of the page before"),
        REQUEST_ID,
    ],
    details!("statuses/jobs_look.md"),
    &[
        ResponseDoc::with(
            200,
            "the job, or a page of jobs",
            &[ContentDoc::json(Schema::AnyOf(&[JOB, LIST]), "", None)],
        ),
        ResponseDoc::bare(400, "a parameter is wrong"),
        ResponseDoc::bare(404, "no job of this topic has this id, or it is no longer remembered"),
        ResponseDoc::bare(503, "the gateway that has the job does not answer"),
    ],
)];

const CHANGED: &[ResponseDoc] = &[
    ResponseDoc::with(200, "it is so, durably", &[ContentDoc::json(DONE, "", None)]),
    ResponseDoc::bare(400, "a parameter is wrong, or the time is past"),
    ResponseDoc::bare(404, "there is no such topic of this app"),
    ResponseDoc::bare(409, "nothing was changed: it has fired, is about to, is deleted, or unknown"),
    ResponseDoc::bare(503, "nothing was changed, or the gateway that has the job does not answer"),
];

pub const DELETE_DOCS: &[EndpointDoc] = &[doc(
    Method::Delete,
    PATH,
    "deleteJob",
    "A job never fires",
    &[TOPIC, VER, ID, REQUEST_ID],
    details!("statuses/jobs_change.md"),
    CHANGED,
)];
pub const RESCHEDULE_DOCS: &[EndpointDoc] = &[doc(
    Method::Put,
    PATH,
    "rescheduleJob",
    "A job is due at another time",
    &[TOPIC, VER, ID, DUE, DELAY, REQUEST_ID],
    details!("statuses/jobs_change.md"),
    CHANGED,
)];
pub const FIRE_DOCS: &[EndpointDoc] = &[doc(
    Method::Post,
    "/v1/jobs/:topic/:ver/fire",
    "fireJob",
    "A job fires now",
    &[TOPIC, VER, ID, REQUEST_ID],
    details!("statuses/jobs_change.md"),
    CHANGED,
)];
pub const REPLAY_DOCS: &[EndpointDoc] = &[doc(
    Method::Post,
    "/v1/jobs/:topic/:ver/replay",
    "replayJob",
    "A parked job is tried again",
    &[TOPIC, VER, ID, REQUEST_ID],
    details!("statuses/jobs_change.md"),
    CHANGED,
)];

const PAUSES: &[ResponseDoc] = &[
    ResponseDoc::with(200, "it is so, durably, at this gateway", &[ContentDoc::json(PAUSED, "", None)]),
    ResponseDoc::bare(404, "there is no such topic of this app"),
    ResponseDoc::bare(503, "nothing was changed"),
];
pub const PAUSE_DOCS: &[EndpointDoc] = &[doc(
    Method::Put,
    "/v1/jobs/:topic/:ver/pause",
    "pauseJobs",
    "A topic's jobs wait, however late",
    &[TOPIC, VER, REQUEST_ID],
    details!("statuses/jobs_pause.md"),
    PAUSES,
)];
pub const RESUME_DOCS: &[EndpointDoc] = &[doc(
    Method::Put,
    "/v1/jobs/:topic/:ver/resume",
    "resumeJobs",
    "A topic's jobs go on",
    &[TOPIC, VER, REQUEST_ID],
    details!("statuses/jobs_pause.md"),
    PAUSES,
)];
