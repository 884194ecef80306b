//! `PUT /v1/topics/:appid/:topic/:ver/limits`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc};
use model::quota::Measure;
use serde::Deserialize;
use serde_json::Value;

use super::limit_app::{P_PUBLISH_BYTES, P_PUBLISH_MESSAGES, P_SUBSCRIBE_BYTES, P_SUBSCRIBE_MESSAGES, limits};
use super::{AS_BODY, P_OWNER, P_TOPIC, P_VER, TOPIC, TOPIC_EXAMPLE, endpoint as tie, topic_json};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::{Given, TopicPath};
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Put,
    path: "/v1/topics/:appid/:topic/:ver/limits",
    operation: "limitTopic",
    tag: "topics",
    summary: "Set how much may be published to a topic version and read from it",
    details: "By everybody together: its owner and all apps with a grant. What is not given stays; 0 takes a limit \
              away. An app's own limits hold beside it. Beyond it requests are 429 `over_quota` with `Retry-After`.",
    auth: Auth::Admin,
    params: &[P_OWNER, P_TOPIC, P_VER, P_PUBLISH_MESSAGES, P_PUBLISH_BYTES, P_SUBSCRIBE_MESSAGES, P_SUBSCRIBE_BYTES],
    request: &[AS_BODY],
    responses: &[
        ResponseDoc::with(200, "set", &[ContentDoc::json(TOPIC, "the version as it is now", Some(TOPIC_EXAMPLE))]),
        ResponseDoc::bare(400, "nothing to set, or a value out of range"),
        ResponseDoc::bare(404, "no such app, topic or version"),
        ResponseDoc::bare(409, "it is being made or deleted right now"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    publish_messages: Option<u64>,
    publish_bytes: Option<u64>,
    subscribe_messages: Option<u64>,
    subscribe_bytes: Option<u64>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    path: TopicPath,
    Given(params): Given<Params>,
) -> Result<Json<Value>, ApiError> {
    let limits = limits([
        (Measure::PublishMessages, params.publish_messages),
        (Measure::PublishBytes, params.publish_bytes),
        (Measure::SubscribeMessages, params.subscribe_messages),
        (Measure::SubscribeBytes, params.subscribe_bytes),
    ])?;
    let TopicPath { owner, name, ver } = path;
    let row = db.limit_topic(&owner, &name, &ver, &limits).await?;
    tracing::info!(%owner, topic = %name, %ver, ?limits, "limits of a topic set");
    state.bring_into_force().await;
    Ok(Json(topic_json(&row)))
}
