//! `DELETE /v1/apps/:appid`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Kind, Listener, Method, ParamDoc, ResponseDoc};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{OK_EXAMPLE, P_APPID, endpoint as tie};
use crate::error::ApiError;
use crate::input::{AppPath, Flag, Query};
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Delete,
    path: "/v1/apps/:appid",
    operation: "deleteApp",
    tag: "apps",
    summary: "Remove an app with its secrets and all grants to it and on it",
    details: "Idempotent: 200 too when there is no such app. Its topics in Kafka stay, with their messages; a new app \
              of the same name can adopt them.",
    auth: Auth::Admin,
    params: &[
        P_APPID,
        ParamDoc::query("cascade", Kind::Bool, "remove the registration of the topics it owns as well").or("0"),
    ],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "gone",
            &[ContentDoc { media_type: "application/json", what: "always the same", example: Some(OK_EXAMPLE) }],
        ),
        ResponseDoc::bare(409, "it still owns topics and `cascade` is not set"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    cascade: Option<Flag>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    AppPath(id): AppPath,
    Query(params): Query<Params>,
) -> Result<Json<Value>, ApiError> {
    if params.cascade == Some(Flag(true)) {
        for topic in state.db.list_topics(Some(&id)).await? {
            state.db.delete_topic(&topic.owner, &topic.name, &topic.ver).await?;
        }
    }
    let was_there = state.db.delete_app(&id).await?;
    if was_there {
        tracing::info!(app = %id, "app removed");
        state.bring_into_force().await;
    }
    Ok(Json(json!({"ok": 1})))
}
