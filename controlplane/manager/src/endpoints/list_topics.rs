//! `GET /v1/topics` and `GET /v1/topics/:appid`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, Resource, ResponseDoc};
use model::ids::{AppId, TopicName, TopicVersion};
use serde_json::Value;

use super::{P_OWNER, TOPIC_SEEN, endpoint as tie, topic_seen};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::{AppPath, Query};
use crate::page::{Asked, P_CURSOR, P_ROWS, TOO_MANY, list};
use crate::{Endpoint, Shared};

const LIST: ContentDoc = ContentDoc::json(
    list!(TOPIC_SEEN),
    "an array of topic versions, or a page of it",
    Some(
        r#"[{"appid":"shop","topic":"orders","ver":"v1","cluster":"main","physical":"shop.orders.v1","enabled":true,"state":"active",
            "limits":{},"partitioner":"murmur2","compression":"none","strip_2017_tags":false,"message_bytes_max":1000000,"handoff":true,
            "rates":{"publish_messages":12.5,"publish_bytes":4096,"subscribe_messages":0,"subscribe_bytes":0}}]"#,
    ),
);

const OF_ALL: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/topics",
    operation: "listTopics",
    tag: "topics",
    summary: "Topic versions that the caller sees, by owner and name",
    details: "",
    auth: Auth::Read(Resource::Topics),
    params: &[P_ROWS, P_CURSOR],
    request: &[],
    responses: &[ResponseDoc::with(200, "the topics", &[LIST]), TOO_MANY],
};

const OF_ONE: EndpointDoc = EndpointDoc {
    path: "/v1/topics/:appid",
    operation: "listTopicsOfApp",
    summary: "Topic versions that an app owns",
    params: &[P_OWNER, P_ROWS, P_CURSOR],
    responses: &[ResponseDoc::with(200, "the topics", &[LIST]), TOO_MANY, ResponseDoc::bare(404, "no such app")],
    ..OF_ALL
};

pub(crate) fn of_all() -> Endpoint {
    tie(OF_ALL, handle_all)
}

pub(crate) fn of_one() -> Endpoint {
    tie(OF_ONE, handle_one)
}

async fn handle_all(
    State(state): State<Shared>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    list(&state, None, &caller, &asked).await
}

async fn handle_one(
    State(state): State<Shared>,
    caller: Caller,
    AppPath(id): AppPath,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    state.db.get_app(&id).await?;
    list(&state, Some(&id), &caller, &asked).await
}

async fn list(state: &Shared, owner: Option<&AppId>, caller: &Caller, asked: &Asked) -> Result<Json<Value>, ApiError> {
    let page = asked.page()?;
    let after = asked.after(|parts| match parts {
        [owner, name, ver] => Some((AppId::new(owner).ok()?, TopicName::new(name).ok()?, TopicVersion::new(ver).ok()?)),
        _ => None,
    })?;
    let after = after.as_ref().map(|(owner, name, ver)| (owner, name, ver));
    let rows = state.db.list_topics(owner, &caller.visible, after, page.rows_asked()).await?;
    page.answer(rows, |row| topic_seen(state, row), |row| format!("{}/{}/{}", row.doc.owner, row.doc.name, row.doc.ver))
}
