//! `POST /v1/handoff/replay` and `POST /v1/handoff/drop`

use axum::Json;
use axum::extract::State;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, NAME, PHYSICAL, ParamDoc, Resource, ResponseDoc, Schema,
    VERSION,
};
use model::ids::AppId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::endpoint as tie;
use super::list_parked::{Which, whose};
use crate::auth::Acting;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, P_NODE, Question, UNREACHABLE};
use crate::handoff::Selection;
use crate::input::{JsonBody, Query};
use crate::limits::{SELECTED_RECEIPTS_MAX, SELECTED_RECORDS_MAX};
use crate::{Endpoint, Shared};

const SELECTION: Schema = Schema::Object(&[
    FieldDoc::may("receipts", Schema::Array(&Schema::TEXT), "these, at most 500; nothing else is said then"),
    FieldDoc::may("topic", Schema::Value(NAME), "those for this topic of the app, with `ver`"),
    FieldDoc::may("ver", Schema::Value(VERSION), "of `topic`"),
    FieldDoc::may("physical", Schema::Value(PHYSICAL), "those for this topic, by its name in Kafka"),
    FieldDoc::may("cluster", Schema::Value(NAME), "those for this cluster"),
    FieldDoc::may("reason", Schema::TEXT, "those with this reason"),
    FieldDoc::may("all", Schema::FLAG, "all of them, where nothing else is said"),
]);
const DONE: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway"),
    FieldDoc::must("records", Schema::COUNT, "how many"),
    FieldDoc::must("more", Schema::FLAG, "has it more of them"),
]);
const ANSWER: Schema = Schema::Object(&[
    FieldDoc::must("ok", Schema::Always(1), ""),
    FieldDoc::must("records", Schema::COUNT, "how many, together"),
    FieldDoc::must("more", Schema::FLAG, "are there more of them; the same call goes on"),
    FieldDoc::must("nodes", Schema::Array(&DONE), "each gateway that answered, by id"),
    UNREACHABLE,
]);
const _: () = assert!(SELECTED_RECORDS_MAX == 10_000 && SELECTED_RECEIPTS_MAX == 500, "as the documents say");

const REPLAY: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/handoff/replay",
    operation: "replayParked",
    tag: "handoff",
    summary: "Have parked messages delivered again",
    details: "Behind what waits for their topics, at every gateway or at the one that is named. One call takes at most 10,000 \
              of each gateway; `more` says that there are others. What is not parked is passed over, so repeating is \
              harmless. Who gives no answer within 5 s is named, and may have done it all the same.",
    auth: Auth::Write(Resource::Topics),
    params: &[
        P_NODE,
        ParamDoc::query("appid", NAME, "those that this app published; all but admins have to say whose"),
    ],
    request: &[ContentDoc::json(SELECTION, "which", Some(r#"{"topic":"orders","ver":"v1","reason":"no_such_topic"}"#))],
    responses: &[
        ResponseDoc::with(
            200,
            "done",
            &[ContentDoc::json(
                ANSWER,
                "how many, by gateway",
                Some(concat!(
                    r#"{"ok":1,"records":2,"more":false,"nodes":[{"node":"5f0c9a3e71d2b684","records":2,"more":false}],"#,
                    r#""unreachable":[]}"#
                )),
            )],
        ),
        ResponseDoc::bare(400, "nothing is selected, or what is said contradicts itself"),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no publishes (`no_handoff`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, the database, or the gateway that was named, is away"),
    ],
};

const DROP: EndpointDoc = EndpointDoc {
    path: "/v1/handoff/drop",
    operation: "dropParked",
    summary: "Let parked messages go for good",
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
            Deed::Replay => ("handoff.replay.begin", "handoff.replay"),
            Deed::Drop => ("handoff.drop.begin", "handoff.drop"),
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
    receipts: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    physical: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
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
    let records: u64 = done.iter().filter_map(|done| done["records"].as_u64()).sum();
    let more = done.iter().any(|done| done["more"] == true);
    Ok(Json(json!({"ok": 1, "records": records, "more": more, "nodes": done, "unreachable": answers.unreachable})))
}

/// At this gateway. That it is about to be done is written down before, so that nothing is done without a row.
async fn do_here(
    state: &Shared,
    Acting(db): &Acting,
    deed: Deed,
    app: Option<&AppId>,
    selected: &Selection,
    said: &Value,
) -> Result<Value, ApiError> {
    let handoff = state.handoff()?;
    let (begins, ends) = deed.operations();
    let (app, subject) = (app.map_or("", AppId::as_str), format!("parked messages of kateway {}", state.fleet.this));
    db.record(begins, app, &subject, Value::Null, said.clone()).await?;
    let done = match deed {
        Deed::Replay => handoff.replay(selected, SELECTED_RECORDS_MAX).await?,
        Deed::Drop => handoff.discard(selected, SELECTED_RECORDS_MAX).await?,
    };
    tracing::info!(operation = ends, app, records = done.records, more = done.more, "parked messages changed");
    let after = json!({"records": done.records, "more": done.more});
    if let Err(err) = db.record(ends, app, &subject, said.clone(), after).await {
        tracing::warn!(%err, operation = ends, "what was done has only the row of its beginning in the audit log");
    }
    Ok(json!({"node": state.fleet.this, "records": done.records, "more": done.more}))
}

fn selection(body: Body, app: Option<&AppId>, caller: &Caller) -> Result<Selection, ApiError> {
    let refused = |message: &str| Err(ApiError::bad_request("bad_selection", message));
    let Body { receipts, topic, ver, physical, cluster, reason, all } = body;
    let which = Which { topic, ver, physical, cluster, reason };
    let kinds = [receipts.is_some(), !which.says_nothing(), all];
    match kinds.iter().filter(|said| **said).count() {
        0 => return refused("say which: receipts, a topic, a cluster, a reason, or all"),
        1 => {}
        _ => return refused("receipts, all, and what is matched are said one at a time"),
    }
    match receipts {
        Some(ids) if ids.is_empty() || ids.len() > SELECTED_RECEIPTS_MAX => {
            refused(&format!("there are {} receipts, allowed are 1 to {SELECTED_RECEIPTS_MAX}", ids.len()))
        }
        Some(ids) => Ok(Selection::Receipts { apps: whose(app, &caller.visible), ids }),
        None => Ok(Selection::Matching(which.filter(app, &caller.visible)?)),
    }
}
