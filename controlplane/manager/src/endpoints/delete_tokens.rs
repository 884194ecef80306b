//! `DELETE /v1/tokens`

use axum::Json;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc};
use serde_json::{Value, json};

use super::{OK, OK_EXAMPLE, endpoint as tie};
use crate::Endpoint;
use crate::auth::Acting;
use crate::error::ApiError;

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Delete,
    path: "/v1/tokens",
    operation: "deleteTokens",
    tag: "principals",
    summary: "Make every token that was given out so far void, with a new key to sign those to come",
    details: "Those of one principal: rotate its key. Tokens of another issuer are not ours to end.",
    auth: Auth::Admin,
    params: &[],
    request: &[],
    responses: &[ResponseDoc::with(
        200,
        "none of them is good any more",
        &[ContentDoc::json(OK, "always the same", Some(OK_EXAMPLE))],
    )],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(Acting(db): Acting) -> Result<Json<Value>, ApiError> {
    db.renew_token_key().await?;
    tracing::info!("all tokens are void");
    Ok(Json(json!({"ok": 1})))
}
