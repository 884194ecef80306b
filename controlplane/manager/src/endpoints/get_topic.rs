//! `GET /v1/topics/:appid/:topic/:ver`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, Resource, ResponseDoc};
use serde_json::Value;

use super::{P_OWNER, P_TOPIC, P_VER, TOPIC_SEEN, TOPIC_SEEN_EXAMPLE, endpoint as tie, topic_seen};
use crate::error::ApiError;
use crate::input::TopicPath;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/topics/:appid/:topic/:ver",
    operation: "getTopic",
    tag: "topics",
    summary: "One topic version as it was registered, and what goes through it",
    details: "",
    auth: Auth::Read(Resource::Topics),
    params: &[P_OWNER, P_TOPIC, P_VER],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "the topic version",
            &[ContentDoc::json(TOPIC_SEEN, "the topic version", Some(TOPIC_SEEN_EXAMPLE))],
        ),
        ResponseDoc::bare(404, "no such app, topic or version"),
    ],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, path: TopicPath) -> Result<Json<Value>, ApiError> {
    let row = state.db.get_topic(&path.owner, &path.name, &path.ver).await?;
    Ok(Json(topic_seen(&state, &row)))
}
