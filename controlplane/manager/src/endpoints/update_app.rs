//! `PUT /v1/apps/:appid`

use authdb::AppUpdate;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, NAME, ResponseDoc, Schema};
use model::ids::ClusterName;
use serde::Deserialize;

use super::{APP, APP_EXAMPLE, P_APPID, app_json, endpoint as tie};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::{AppPath, JsonBody};
use crate::{Endpoint, Shared};

const CHANGE: Schema = Schema::Object(&[
    FieldDoc::may("enabled", Schema::FLAG, "may it be used"),
    FieldDoc::may("cluster", Schema::Value(NAME), "where its topics to come are made"),
    FieldDoc::may("handoff", Schema::FLAG, "may gateways keep what it publishes while Kafka is away"),
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Put,
    path: "/v1/apps/:appid",
    operation: "updateApp",
    tag: "apps",
    summary: "Enable or disable an app, change the cluster of its topics to come, or whether its publishes may wait here",
    details: "A disabled app can neither publish nor subscribe, and nobody can read its topics. Topics that exist \
              stay in their cluster. Without `handoff` a publish that Kafka cannot take now is 503; what is kept \
              already goes on being delivered.",
    auth: Auth::Admin,
    params: &[P_APPID],
    request: &[ContentDoc::json(
        CHANGE,
        "what changes; fields left out stay as they are",
        Some(r#"{"enabled":false}"#),
    )],
    responses: &[
        ResponseDoc::with(200, "changed", &[ContentDoc::json(APP, "the app as it is now", Some(APP_EXAMPLE))]),
        accepted!(
            APP,
            r#"{"appid":"shop","cluster":"main","enabled":false,"created_at":1511366400000,"limits":{},"addresses":[],"handoff":true,"rotating":[],"secrets":[],
"generation":"3f2a000000000001-17","in_force":false,"lacking":["kateway 7d1e"]}"#
        ),
        ResponseDoc::bare(404, "no such app or cluster"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    enabled: Option<bool>,
    cluster: Option<String>,
    handoff: Option<bool>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    AppPath(id): AppPath,
    JsonBody(body): JsonBody<Body>,
) -> Result<Response, ApiError> {
    let cluster = body.cluster.as_deref().map(ClusterName::new).transpose()?;
    if let Some(cluster) = &cluster {
        state.cluster(cluster)?;
    }
    if cluster.is_none() && body.enabled.is_none() && body.handoff.is_none() {
        return Err(ApiError::bad_request("nothing_updated", "say what to change: enabled, cluster or handoff"));
    }
    let app = db.update_app(&id, AppUpdate { cluster, enabled: body.enabled, handoff: body.handoff }).await?;
    tracing::info!(app = %id, enabled = app.enabled, cluster = %app.cluster, handoff = app.handoff, "app changed");
    if body.enabled == Some(false) {
        return Ok(state.revoke().await.answer(app_json(&app)));
    }
    state.bring_into_force().await;
    Ok(Json(app_json(&app)).into_response())
}
