//! `PUT /v1/apps/:appid`

use authdb::AppUpdate;
use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc};
use model::ids::ClusterName;
use serde::Deserialize;
use serde_json::Value;

use super::{APP_EXAMPLE, P_APPID, app_json, endpoint as tie};
use crate::error::ApiError;
use crate::input::{AppPath, JsonBody};
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Put,
    path: "/v1/apps/:appid",
    operation: "updateApp",
    tag: "apps",
    summary: "Enable or disable an app, or change the cluster of its topics to come",
    details: "A disabled app can neither publish nor subscribe, and nobody can read its topics. Topics that exist \
              stay in their cluster.",
    auth: Auth::Admin,
    params: &[P_APPID],
    request: &[ContentDoc {
        media_type: "application/json",
        what: "what changes; fields left out stay as they are",
        example: Some(r#"{"enabled":false}"#),
    }],
    responses: &[
        ResponseDoc::with(
            200,
            "changed",
            &[ContentDoc { media_type: "application/json", what: "the app as it is now", example: Some(APP_EXAMPLE) }],
        ),
        ResponseDoc::bare(404, "no such app or cluster"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    enabled: Option<bool>,
    cluster: Option<String>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    AppPath(id): AppPath,
    JsonBody(body): JsonBody<Body>,
) -> Result<Json<Value>, ApiError> {
    let cluster = body.cluster.as_deref().map(ClusterName::new).transpose()?;
    if let Some(cluster) = &cluster {
        state.cluster(cluster)?;
    }
    if cluster.is_none() && body.enabled.is_none() {
        return Err(ApiError::bad_request("nothing_updated", "say what to change: enabled or cluster"));
    }
    let app = state.db.update_app(&id, AppUpdate { cluster, enabled: body.enabled }).await?;
    tracing::info!(app = %id, enabled = app.enabled, cluster = %app.cluster, "app changed");
    state.bring_into_force().await;
    Ok(Json(app_json(&app)))
}
