//! `DELETE /v1/apps/:appid/secrets/:side`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc};
use serde_json::{Value, json};

use super::rotate_secret::SecretPath;
use super::{OK_EXAMPLE, P_APPID, P_SIDE, endpoint as tie};
use crate::error::ApiError;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Delete,
    path: "/v1/apps/:appid/secrets/:side",
    operation: "revokePreviousSecret",
    tag: "secrets",
    summary: "End a rotation: only the newest secret works from now on",
    details: "Idempotent: 200 too when no previous secret was live.",
    auth: Auth::Admin,
    params: &[P_APPID, P_SIDE],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "the previous secret does not work any more",
            &[ContentDoc { media_type: "application/json", what: "always the same", example: Some(OK_EXAMPLE) }],
        ),
        ResponseDoc::bare(404, "no such app"),
    ],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, of: SecretPath) -> Result<Json<Value>, ApiError> {
    if state.db.revoke_previous(&of.app, of.side).await? {
        tracing::info!(app = %of.app, side = of.side.as_str(), "previous secret revoked");
        state.bring_into_force().await;
    }
    Ok(Json(json!({"ok": 1})))
}
