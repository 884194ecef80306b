//! `GET /v1/principals`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc, Schema};
use serde_json::Value;

use super::{PRINCIPAL, endpoint as tie, principal_json};
use crate::error::ApiError;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/principals",
    operation: "listPrincipals",
    tag: "principals",
    summary: "Who may call beside the admin, by name",
    details: "The admin of `credentials.json` is none of them.",
    auth: Auth::Admin,
    params: &[],
    request: &[],
    responses: &[ResponseDoc::with(
        200,
        "the principals",
        &[ContentDoc::json(
            Schema::Array(&PRINCIPAL),
            "an array of principals",
            Some(
                r#"[{"name":"auditor","role":"reader","apps":[],"every_app":true,"enabled":true,"created_at":1,"key_at":1}]"#,
            ),
        )],
    )],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>) -> Result<Json<Value>, ApiError> {
    Ok(Json(state.db.list_principals().await?.iter().map(principal_json).collect()))
}
