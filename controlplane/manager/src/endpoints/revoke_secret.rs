//! `DELETE /v1/apps/:appid/secrets/:side`

use axum::extract::State;
use axum::response::Response;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, Resource, ResponseDoc};
use serde_json::json;

use super::rotate_secret::SecretPath;
use super::{GONE, GONE_EXAMPLE, GONE_PENDING_EXAMPLE, P_APPID, P_SIDE, endpoint as tie};
use crate::auth::Acting;
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
    auth: Auth::Write(Resource::Secrets),
    params: &[P_APPID, P_SIDE],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "the previous secret does not work any more, on any node",
            &[ContentDoc::json(GONE, "whether there was one", Some(GONE_EXAMPLE))],
        ),
        accepted!(GONE, GONE_PENDING_EXAMPLE),
        ResponseDoc::bare(404, "no such app"),
    ],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, Acting(db): Acting, of: SecretPath) -> Result<Response, ApiError> {
    let existed = db.revoke_previous(&of.app, of.side).await?;
    if existed {
        tracing::info!(app = %of.app, side = of.side.as_str(), "previous secret revoked");
    }
    Ok(state.revoke().await.answer(json!({"ok": 1, "existed": existed})))
}
