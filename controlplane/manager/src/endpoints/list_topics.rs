//! `GET /v1/topics` and `GET /v1/topics/:appid`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, Resource, ResponseDoc, Schema};
use serde_json::Value;

use super::{P_OWNER, TOPIC, endpoint as tie, topic_json};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::AppPath;
use crate::{Endpoint, Shared};

const LIST: ContentDoc = ContentDoc::json(
    Schema::Array(&TOPIC),
    "an array of topic versions",
    Some(
        r#"[{"appid":"shop","topic":"orders","ver":"v1","cluster":"main","physical":"shop.orders.v1","enabled":true,"state":"active",
            "limits":{},"partitioner":"murmur2","compression":"none","strip_2017_tags":false,"message_bytes_max":1000000}]"#,
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
    params: &[],
    request: &[],
    responses: &[ResponseDoc::with(200, "the topics", &[LIST])],
};

const OF_ONE: EndpointDoc = EndpointDoc {
    path: "/v1/topics/:appid",
    operation: "listTopicsOfApp",
    summary: "Topic versions that an app owns",
    params: &[P_OWNER],
    responses: &[ResponseDoc::with(200, "the topics", &[LIST]), ResponseDoc::bare(404, "no such app")],
    ..OF_ALL
};

pub(crate) fn of_all() -> Endpoint {
    tie(OF_ALL, handle_all)
}

pub(crate) fn of_one() -> Endpoint {
    tie(OF_ONE, handle_one)
}

async fn handle_all(State(state): State<Shared>, caller: Caller) -> Result<Json<Value>, ApiError> {
    Ok(Json(state.db.list_topics(None, &caller.visible).await?.iter().map(topic_json).collect()))
}

async fn handle_one(
    State(state): State<Shared>,
    caller: Caller,
    AppPath(id): AppPath,
) -> Result<Json<Value>, ApiError> {
    state.db.get_app(&id).await?;
    Ok(Json(state.db.list_topics(Some(&id), &caller.visible).await?.iter().map(topic_json).collect()))
}
