//! `GET`, `DELETE` and `PUT /v1/jobs/:appid/:topic/:ver?id=`, and `POST …/fire?id=`: one job, at whichever gateway has it.
//!
//! A job's id says which gateway that is; two may share what it says, and then both are asked.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ParamDoc, Resource, ResponseDoc, Schema,
};
use model::duration;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{P_OWNER, P_TOPIC, P_VER, endpoint as tie};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, P_NODE, Question};
use crate::input::{Query, TopicPath};
use crate::jobs::{Job, JobAct, JobState, TopicOf};
use crate::limits::{JOB_DUE_MAX_MS, RETRY_AFTER_BUSY_S};
use crate::{Endpoint, Shared};

const STATE: Schema = Schema::Value(Kind::Word(&["pending", "firing", "parked", "fired", "deleted"]));
const JOB: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway that has it"),
    FieldDoc::must("id", Schema::TEXT, ""),
    FieldDoc::must("state", STATE, "ends are remembered for the last 33 million jobs of a gateway"),
    FieldDoc::may("due", Schema::COUNT, "epoch ms; of one that waits"),
    FieldDoc::may("attempts", Schema::COUNT, "how often it was given to Kafka in vain"),
    FieldDoc::may("parked_at", Schema::COUNT, "epoch ms"),
    FieldDoc::may("reason", Schema::TEXT, "why it is parked, for programs"),
    FieldDoc::may("why", Schema::TEXT, "and for people"),
]);
const DONE: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), ""),
    FieldDoc::must("node", Schema::TEXT, "the gateway that has it"),
    FieldDoc::must("id", Schema::TEXT, ""),
    FieldDoc::may("due", Schema::COUNT, "its new time, epoch ms"),
]);
const P_ID: ParamDoc = ParamDoc::query("id", Kind::Text, "the job").required();
const P_DUE: ParamDoc = ParamDoc::query("due", Kind::Integer { min: 0, max: i64::MAX }, "its new time, epoch ms");
const P_DELAY: ParamDoc = ParamDoc::query(
    "delay",
    Kind::Text,
    "instead of `due`: how long from now, in seconds or with a unit (`30s`, `250ms`, `2h`)",
);

const SHOW: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/jobs/:appid/:topic/:ver",
    operation: "showJob",
    tag: "jobs",
    summary: "What became of a delayed job",
    details: "",
    auth: Auth::Read(Resource::Topics),
    params: &[P_OWNER, P_TOPIC, P_VER, P_NODE, P_ID],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "the job",
            &[ContentDoc::json(
                JOB,
                "without its message",
                Some(
                    r#"{"node":"5f0c9a3e71d2b684","id":"5188146770730811648","state":"pending","due":1511366400000,"attempts":0}"#,
                ),
            )],
        ),
        ResponseDoc::bare(400, "no job is named (`missing_id`)"),
        ResponseDoc::bare(404, "no job of this topic has this id, or it is no longer remembered (`no_such_job`)"),
        ResponseDoc::bare(409, "the gateway that answers, or the one that was named, keeps no delayed jobs"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, or the gateway that has the job, is away (`owner_away`)"),
    ],
};

const CHANGED: &[ResponseDoc] = &[
    ResponseDoc::with(
        200,
        "done, durably",
        &[ContentDoc::json(
            DONE,
            "which",
            Some(r#"{"ok":1,"node":"5f0c9a3e71d2b684","id":"5188146770730811648","due":1511366400000}"#),
        )],
    ),
    ResponseDoc::bare(400, "no job or no time is named, or it is named twice, or past, or more than ten years away"),
    ResponseDoc::bare(404, "no job of this topic has this id, or it is no longer remembered (`no_such_job`)"),
    ResponseDoc::bare(409, "nothing was changed: it has fired, is about to, or is deleted (`job_too_late`)"),
    ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
    ResponseDoc::bare(503, "the registry, the database, or the gateway that has the job, is away (`owner_away`)"),
];

const DELETE: EndpointDoc = EndpointDoc {
    method: Method::Delete,
    operation: "deleteJobOfApp",
    summary: "A delayed job never fires",
    auth: Auth::Write(Resource::Topics),
    responses: CHANGED,
    ..SHOW
};
const RESCHEDULE: EndpointDoc = EndpointDoc {
    method: Method::Put,
    operation: "rescheduleJobOfApp",
    summary: "A delayed job is due at another time",
    details: "One that is parked is tried again then. Say when in one way: `due`, or `delay` by the clock of the manager that is asked.",
    params: &[P_OWNER, P_TOPIC, P_VER, P_NODE, P_ID, P_DUE, P_DELAY],
    ..DELETE
};
const FIRE: EndpointDoc = EndpointDoc {
    method: Method::Post,
    path: "/v1/jobs/:appid/:topic/:ver/fire",
    operation: "fireJobOfApp",
    summary: "A delayed job fires now",
    details: "One that is parked is tried again.",
    ..DELETE
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    node: Option<String>,
    id: Option<String>,
    due: Option<i64>,
    delay: Option<String>,
}

pub(crate) fn show() -> Endpoint {
    endpoint(SHOW, |_, _| Ok(JobAct::Show))
}

pub(crate) fn delete() -> Endpoint {
    endpoint(DELETE, |_, _| Ok(JobAct::Delete))
}

pub(crate) fn reschedule() -> Endpoint {
    endpoint(RESCHEDULE, |params, now_ms| checked(due_ms(params, now_ms)?, now_ms).map(JobAct::Move))
}

pub(crate) fn fire() -> Endpoint {
    endpoint(FIRE, |_, _| Ok(JobAct::Fire))
}

/// `act`: what is asked for, by the time it is now.
fn endpoint(doc: EndpointDoc, act: fn(&Params, i64) -> Result<JobAct, ApiError>) -> Endpoint {
    let method = doc.method.as_str();
    let suffix = if doc.path.ends_with("/fire") { "/fire" } else { "" };
    let handle = async move |State(state): State<Shared>,
                             acting: Acting,
                             asker: Asker,
                             path: TopicPath,
                             Query(params): Query<Params>| {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let act = act(&params, since_epoch.as_millis() as i64)?;
        let TopicPath { owner, name, ver } = path;
        let path = format!("/v1/jobs/{owner}/{name}/{ver}{suffix}");
        let of = TopicOf { app: owner, topic: name, ver };
        find(&state, &acting, &asker, &of, act, (method, path), params).await
    };
    tie(doc, handle)
}

/// As it is said.
fn due_ms(params: &Params, now_ms: i64) -> Result<i64, ApiError> {
    match (params.due, &params.delay) {
        (Some(due_ms), None) => Ok(due_ms),
        (None, Some(delay)) => {
            let parsed = duration::parse(delay).ok_or_else(|| {
                let message = format!("delay is {delay:?}, expected seconds or a number with a unit: 30s, 250ms, 2h");
                ApiError::bad_request("bad_delay", message)
            });
            Ok(now_ms + parsed?.as_millis() as i64)
        }
        (None, None) => {
            Err(ApiError::bad_request("missing_due", "say when it is due: due, epoch ms, or delay, how long from now"))
        }
        (Some(_), Some(_)) => Err(ApiError::bad_request("due_and_delay", "say when in one way: due, or delay")),
    }
}

/// Not past, but for what clocks and networks may differ by.
fn checked(due_ms: i64, now_ms: i64) -> Result<i64, ApiError> {
    match due_ms {
        ..0 => Err(ApiError::bad_request("out_of_range", format!("due is {due_ms}, allowed are 0 and more"))),
        _ if due_ms < now_ms - 1_000 => {
            Err(ApiError::bad_request("due_past", format!("nothing was changed: {due_ms} is past, it is {now_ms} now")))
        }
        _ if due_ms > now_ms + JOB_DUE_MAX_MS => {
            Err(ApiError::bad_request("due_too_far", "nothing was changed: due is in more than ten years"))
        }
        _ => Ok(due_ms),
    }
}

/// At whichever gateway it is.
async fn find(
    state: &Shared,
    acting: &Acting,
    asker: &Asker,
    of: &TopicOf,
    act: JobAct,
    (method, path): (&'static str, String),
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let Params { node, id, .. } = params;
    let id = id.ok_or_else(|| ApiError::bad_request("missing_id", "say which job: id"))?;
    let nodes = state.nodes_to_ask(asker, node.as_deref()).await?;
    let jobs = if nodes.is_one() { None } else { Some(state.jobs()?) };
    let candidates = nodes.ids().filter(|node| jobs.is_none_or(|jobs| jobs.may_have(&id, node)));
    let candidates: Vec<&str> = candidates.collect();
    let mut query = vec![("id", id.clone())];
    // Whoever is asked next reads no clock for it.
    query.extend(act.due_ms().map(|due_ms| ("due", due_ms.to_string())));
    let question = Question { method, path, query, body: None };
    let unknown = || {
        let TopicOf { app, topic, ver } = of;
        let message = format!("there is no job {id} of {app}/{topic}/{ver}, or it is no longer remembered");
        ApiError::not_found("no_such_job", message)
    };
    for node in &candidates {
        let here = async { do_here(state, acting, of, &id, act).await?.ok_or_else(unknown) };
        match state.ask_one(asker, &nodes, node, &question, here).await {
            Err(err) if err.status == StatusCode::NOT_FOUND => {}
            answer => return answer.map(Json),
        }
    }
    if candidates.is_empty() && jobs.is_some_and(|jobs| jobs.is_id(&id)) {
        let message = "no gateway with this job is registered; the job is safe there, ask again later";
        let away = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "owner_away", message);
        return Err(away.retry_after(RETRY_AFTER_BUSY_S));
    }
    Err(unknown())
}

/// At this gateway; none: it does not know the job.
async fn do_here(
    state: &Shared,
    acting: &Acting,
    of: &TopicOf,
    id: &str,
    act: JobAct,
) -> Result<Option<Value>, ApiError> {
    let (jobs, node) = (state.jobs()?, &state.fleet.this);
    let operation = match act {
        JobAct::Show => return Ok(jobs.act(of, id, act).await?.map(|job| job_json(node, id, &job))),
        JobAct::Delete => "jobs.delete",
        JobAct::Move(_) => "jobs.reschedule",
        JobAct::Fire => "jobs.fire",
    };
    let Some(job) = jobs.act(of, id, JobAct::Show).await? else { return Ok(None) };
    let due_ms = act.due_ms();
    // Before it is done, so that nothing is done without a row.
    let subject = format!("job {id} of {}/{} at kateway {node}", of.topic, of.ver);
    let Acting(db) = acting;
    db.record(operation, of.app.as_str(), &subject, job_json(node, id, &job), json!({"due": due_ms})).await?;
    if jobs.act(of, id, act).await?.is_none() {
        return Ok(None);
    }
    tracing::info!(operation, app = %of.app, id, "a delayed job was changed");
    let mut value = json!({"ok": 1, "node": node, "id": id});
    if let Some(due_ms) = due_ms {
        value["due"] = due_ms.into();
    }
    Ok(Some(value))
}

fn job_json(node: &str, id: &str, job: &Job) -> Value {
    let mut value = json!({"node": node, "id": id, "state": job.state.as_str()});
    if let Some(due_ms) = job.due_ms {
        value["due"] = due_ms.into();
        value["attempts"] = job.attempts.into();
    }
    if let JobState::Parked { at_ms, reason, why } = &job.state {
        value["parked_at"] = (*at_ms).into();
        value["reason"] = reason.as_str().into();
        value["why"] = why.as_str().into();
    }
    value
}
