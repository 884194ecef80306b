//! `POST /v1/jobs/replay` and `POST /v1/jobs/drop`

use axum::Json;
use axum::extract::State;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, NAME, ParamDoc, Resource, ResponseDoc, Schema, VERSION,
};
use model::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::endpoint as tie;
use super::list_parked::whose;
use super::list_parked_jobs::Which;
use crate::auth::Acting;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, P_NODE, Question, UNREACHABLE};
use crate::input::{JsonBody, Query};
use crate::jobs::JobSelection;
use crate::limits::{SELECTED_RECEIPTS_MAX, SELECTED_RECORDS_MAX};
use crate::{Endpoint, Shared};

const SELECTION: Schema = Schema::Object(&[
    FieldDoc::may("ids", Schema::Array(&Schema::TEXT), "these, at most 500; nothing else is said then"),
    FieldDoc::may("topic", Schema::Value(NAME), "those for this topic of the app, with `ver`"),
    FieldDoc::may("ver", Schema::Value(VERSION), "of `topic`"),
    FieldDoc::may("reason", Schema::TEXT, "those with this reason"),
    FieldDoc::may("all", Schema::FLAG, "all of them, where nothing else is said"),
]);
const DONE: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway"),
    FieldDoc::must("jobs", Schema::COUNT, "how many"),
    FieldDoc::must("more", Schema::FLAG, "has it more of them"),
]);
const ANSWER: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), ""),
    FieldDoc::must("jobs", Schema::COUNT, "how many, together"),
    FieldDoc::must("more", Schema::FLAG, "are there more of them; the same call goes on"),
    FieldDoc::must("nodes", Schema::Array(&DONE), "each gateway that answered, by id"),
    UNREACHABLE,
]);
const _: () = assert!(SELECTED_RECORDS_MAX == 10_000 && SELECTED_RECEIPTS_MAX == 500, "as the documents say");

const REPLAY: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/jobs/replay",
    operation: "replayParkedJobs",
    tag: "jobs",
    summary: "Have parked jobs tried again",
    details: "At every gateway or at the one that is named. One call takes at most 10,000 of each gateway; `more` says that there \
              are others. What is not parked is passed over, so repeating is harmless. Who gives no answer within 5 s is named, \
              and may have done it all the same.",
    auth: Auth::Write(Resource::Topics),
    params: &[P_NODE, ParamDoc::query("appid", NAME, "those of this app; all but admins have to say whose")],
    request: &[ContentDoc::json(SELECTION, "which of them: one of these", Some(r#"{"topic":"orders","ver":"v1"}"#))],
    responses: &[
        ResponseDoc::with(
            200,
            "done, durably",
            &[ContentDoc::json(
                ANSWER,
                "how many",
                Some(
                    r#"{"ok":1,"jobs":2,"more":false,"nodes":[{"node":"5f0c9a3e71d2b684","jobs":2,"more":false}],"unreachable":[]}"#,
                ),
            )],
        ),
        ResponseDoc::bare(400, "nothing, or more than one thing, is said of which (`bad_selection`)"),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no delayed jobs (`no_jobs`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, the database, or the gateway that was named, is away"),
    ],
};

const DROP: EndpointDoc = EndpointDoc {
    path: "/v1/jobs/drop",
    operation: "dropParkedJobs",
    summary: "Let parked jobs go for good",
    details: "At every gateway or at the one that is named; nobody can bring them back. One call takes at most 10,000 of each \
              gateway; `more` says that there are others. Repeating is harmless. Who gives no answer within 5 s is named, and \
              may have done it all the same.",
    ..REPLAY
};

/// What is to be done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Replay,
    Drop,
}

impl Deed {
    /// For the audit log: that somebody is about to, and what came of it.
    fn operations(self) -> (&'static str, &'static str) {
        match self {
            Deed::Replay => ("jobs.replay.begin", "jobs.replay"),
            Deed::Drop => ("jobs.drop.begin", "jobs.drop"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    node: Option<String>,
    appid: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    all: bool,
}

pub(crate) fn replay() -> Endpoint {
    endpoint(REPLAY, Deed::Replay)
}

pub(crate) fn drop() -> Endpoint {
    endpoint(DROP, Deed::Drop)
}

fn endpoint(doc: EndpointDoc, deed: Deed) -> Endpoint {
    let handle = async move |State(state): State<Shared>,
                             acting: Acting,
                             caller: Caller,
                             asker: Asker,
                             Query(params): Query<Params>,
                             JsonBody(body): JsonBody<Body>| {
        change(&state, deed, doc.path, (acting, caller, asker), params, body).await
    };
    tie(doc, handle)
}

async fn change(
    state: &Shared,
    deed: Deed,
    path: &'static str,
    (acting, caller, asker): (Acting, Caller, Asker),
    params: Params,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let app = params.appid.as_deref().map(AppId::new).transpose()?;
    let said = serde_json::to_value(&body).expect("a selection has string keys only");
    let selected = selection(body, app.as_ref(), &caller)?;
    let nodes = state.nodes_to_ask(&asker, params.node.as_deref()).await?;
    let query = app.as_ref().map(|app| ("appid", app.to_string())).into_iter().collect();
    let question = Question { method: "POST", path: path.to_owned(), query, body: Some(said.clone()) };
    let here = async {
        let done = do_here(state, &acting, deed, app.as_ref(), &selected, &said).await?;
        Ok(json!({"nodes": [done]}))
    };
    let answers = state.ask(&asker, &nodes, &question, here).await?;
    let done = answers.nodes();
    let jobs: u64 = done.iter().filter_map(|done| done["jobs"].as_u64()).sum();
    let more = done.iter().any(|done| done["more"] == true);
    Ok(Json(json!({"ok": 1, "jobs": jobs, "more": more, "nodes": done, "unreachable": answers.unreachable})))
}

/// At this gateway. That it is about to be done is written down before, so that nothing is done without a row.
async fn do_here(
    state: &Shared,
    Acting(db): &Acting,
    deed: Deed,
    app: Option<&AppId>,
    selected: &JobSelection,
    said: &Value,
) -> Result<Value, ApiError> {
    let jobs = state.jobs()?;
    let (begins, ends) = deed.operations();
    let (app, subject) = (app.map_or("", AppId::as_str), format!("parked jobs of kateway {}", state.fleet.this));
    db.record(begins, app, &subject, Value::Null, said.clone()).await?;
    let done = match deed {
        Deed::Replay => jobs.replay(selected, SELECTED_RECORDS_MAX).await?,
        Deed::Drop => jobs.discard(selected, SELECTED_RECORDS_MAX).await?,
    };
    tracing::info!(operation = ends, app, jobs = done.jobs, more = done.more, "parked jobs changed");
    let after = json!({"jobs": done.jobs, "more": done.more});
    if let Err(err) = db.record(ends, app, &subject, said.clone(), after).await {
        tracing::warn!(%err, operation = ends, "what was done has only the row of its beginning in the audit log");
    }
    Ok(json!({"node": state.fleet.this, "jobs": done.jobs, "more": done.more}))
}

fn selection(body: Body, app: Option<&AppId>, caller: &Caller) -> Result<JobSelection, ApiError> {
    let refused = |message: &str| Err(ApiError::bad_request("bad_selection", message));
    let Body { ids, topic, ver, reason, all } = body;
    let which = Which { topic, ver, reason };
    let kinds = [ids.is_some(), !which.says_nothing(), all];
    match kinds.iter().filter(|said| **said).count() {
        0 => return refused("say which: ids, a topic, a reason, or all"),
        1 => {}
        _ => return refused("ids, all, and what is matched are said one at a time"),
    }
    match ids {
        Some(ids) if ids.is_empty() || ids.len() > SELECTED_RECEIPTS_MAX => {
            refused(&format!("there are {} ids, allowed are 1 to {SELECTED_RECEIPTS_MAX}", ids.len()))
        }
        Some(ids) => Ok(JobSelection::Ids { apps: whose(app, &caller.visible), ids }),
        None => Ok(JobSelection::Matching(which.filter(app, &caller.visible)?)),
    }
}
