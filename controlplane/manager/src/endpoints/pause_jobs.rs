//! `PUT /v1/jobs/:appid/:topic/:ver/pause` and `…/resume`, and `POST /v1/jobs/:appid/:topic/:ver` of 2017.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, Resource, ResponseDoc, Schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{OK, OK_EXAMPLE, P_OWNER, P_TOPIC, P_VER, endpoint as tie};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, P_NODE, Question, UNREACHABLE};
use crate::input::{Query, TopicPath};
use crate::jobs::TopicOf;
use crate::{Endpoint, Shared};

const NODE: Schema =
    Schema::Object(&[FieldDoc::must("node", Schema::TEXT, "the gateway"), FieldDoc::must("paused", Schema::FLAG, "")]);
const ANSWER: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), ""),
    FieldDoc::must("paused", Schema::FLAG, ""),
    FieldDoc::must("nodes", Schema::Array(&NODE), "each gateway that answered, by id"),
    UNREACHABLE,
]);

const PAUSE: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Put,
    path: "/v1/jobs/:appid/:topic/:ver/pause",
    operation: "pauseJobsOfApp",
    tag: "jobs",
    summary: "A topic's delayed jobs wait, however late",
    details: "At every gateway that is registered, or at the one that is named. Until they go on; also over a restart. Repeating is \
              harmless. Who gives no answer within 5 s is named, and may have done it all the same.",
    auth: Auth::Write(Resource::Topics),
    params: &[P_OWNER, P_TOPIC, P_VER, P_NODE],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "done, durably",
            &[ContentDoc::json(
                ANSWER,
                "where",
                Some(r#"{"ok":1,"paused":true,"nodes":[{"node":"5f0c9a3e71d2b684","paused":true}],"unreachable":[]}"#),
            )],
        ),
        ResponseDoc::bare(404, "no such topic, or no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no delayed jobs (`no_jobs`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, the database, or the gateway that was named, is away"),
    ],
};
const RESUME: EndpointDoc = EndpointDoc {
    path: "/v1/jobs/:appid/:topic/:ver/resume",
    operation: "resumeJobsOfApp",
    summary: "A topic's delayed jobs go on",
    ..PAUSE
};

const CREATE_2017: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/jobs/:appid/:topic/:ver",
    operation: "createJobs2017",
    tag: "jobs",
    summary: "May delayed jobs be added to this topic",
    details: "In 2017 this made a queue, once. Queues need not be made any more: every topic takes jobs, and this says yes as \
              often as it is asked.",
    auth: Auth::Write(Resource::Topics),
    params: &[P_OWNER, P_TOPIC, P_VER],
    request: &[],
    responses: &[
        ResponseDoc::with(
            201,
            "yes, and nothing had to be done",
            &[ContentDoc::json(OK, "always the same", Some(OK_EXAMPLE))],
        ),
        ResponseDoc::bare(404, "no such app, topic or version"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    node: Option<String>,
}

pub(crate) fn pause() -> Endpoint {
    endpoint(PAUSE, true)
}

pub(crate) fn resume() -> Endpoint {
    endpoint(RESUME, false)
}

fn endpoint(doc: EndpointDoc, is_paused: bool) -> Endpoint {
    let handle = async move |State(state): State<Shared>,
                             acting: Acting,
                             asker: Asker,
                             path: TopicPath,
                             Query(params): Query<Params>| {
        set_paused(&state, &acting, &asker, path, params, is_paused).await
    };
    tie(doc, handle)
}

async fn set_paused(
    state: &Shared,
    Acting(db): &Acting,
    asker: &Asker,
    path: TopicPath,
    params: Params,
    is_paused: bool,
) -> Result<Json<Value>, ApiError> {
    let TopicPath { owner, name, ver } = path;
    // Jobs of a topic that is gone may go on, to be parked; a queue is not made for one.
    if is_paused {
        db.get_topic(&owner, &name, &ver).await?;
    }
    let (word, operation) = if is_paused { ("pause", "jobs.pause") } else { ("resume", "jobs.resume") };
    let nodes = state.nodes_to_ask(asker, params.node.as_deref()).await?;
    let path = format!("/v1/jobs/{owner}/{name}/{ver}/{word}");
    let question = Question { method: "PUT", path, query: Vec::new(), body: None };
    let of = TopicOf { app: owner, topic: name, ver };
    let here = async {
        let (jobs, node) = (state.jobs()?, &state.fleet.this);
        let subject = format!("jobs of {}/{} at kateway {node}", of.topic, of.ver);
        db.record(operation, of.app.as_str(), &subject, Value::Null, json!({"paused": is_paused})).await?;
        jobs.pause(&of, is_paused).await?;
        tracing::info!(operation, app = %of.app, topic = %of.topic, ver = %of.ver, "delayed jobs of a topic");
        Ok(json!({"nodes": [{"node": node, "paused": is_paused}]}))
    };
    let answers = state.ask(asker, &nodes, &question, here).await?;
    let nodes = answers.nodes();
    Ok(Json(json!({"ok": 1, "paused": is_paused, "nodes": nodes, "unreachable": answers.unreachable})))
}

pub(crate) fn create_2017() -> Endpoint {
    tie(CREATE_2017, create)
}

async fn create(State(state): State<Shared>, path: TopicPath) -> Result<(StatusCode, Json<Value>), ApiError> {
    state.db.get_topic(&path.owner, &path.name, &path.ver).await?;
    Ok((StatusCode::CREATED, Json(json!({"ok": 1}))))
}
