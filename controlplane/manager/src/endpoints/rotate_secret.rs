//! `POST /v1/apps/:appid/secrets/:side`

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use model::Side;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc};
use model::ids::AppId;
use serde_json::json;

use super::{P_APPID, P_SIDE, endpoint as tie};
use crate::error::ApiError;
use crate::input::path;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/apps/:appid/secrets/:side",
    operation: "rotateSecret",
    tag: "secrets",
    summary: "Make a new secret; it is shown in this answer and never again",
    details: "The secret so far goes on working until it is revoked (DELETE on the same path) or the next rotation \
              pushes it out: at most two are live.",
    auth: Auth::Admin,
    params: &[P_APPID, P_SIDE],
    request: &[],
    responses: &[
        ResponseDoc::with(
            201,
            "made",
            &[ContentDoc {
                media_type: "application/json",
                what: "the new secret",
                example: Some(r#"{"appid":"shop","side":"publish","secret":"32 characters"}"#),
            }],
        ),
        ResponseDoc::bare(404, "no such app"),
    ],
};

/// `:appid/secrets/:side` of a path.
pub(super) struct SecretPath {
    pub(super) app: AppId,
    pub(super) side: Side,
}

impl<S: Send + Sync> FromRequestParts<S> for SecretPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (app, side) = path::<(String, String), S>(parts, state).await?.0;
        let message = "a secret is for publish or for subscribe";
        let side = Side::parse(&side).ok_or_else(|| ApiError::bad_request("illegal_side", message))?;
        Ok(SecretPath { app: AppId::new(&app)?, side })
    }
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, of: SecretPath) -> Result<Response, ApiError> {
    let secret = state.db.rotate_secret(&of.app, of.side, None).await?;
    tracing::info!(app = %of.app, side = of.side.as_str(), "secret rotated");
    state.bring_into_force().await;
    let body = json!({"appid": of.app, "side": of.side.as_str(), "secret": secret.expose()});
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
