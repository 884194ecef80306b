//! `GET /v1/principals/:name`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc};
use serde_json::Value;

use super::{P_NAME, PRINCIPAL, PRINCIPAL_EXAMPLE, endpoint as tie, principal_json};
use crate::error::ApiError;
use crate::input::NamePath;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/principals/:name",
    operation: "getPrincipal",
    tag: "principals",
    summary: "One principal, without its key",
    details: "",
    auth: Auth::Admin,
    params: &[P_NAME],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "the principal",
            &[ContentDoc::json(PRINCIPAL, "the principal", Some(PRINCIPAL_EXAMPLE))],
        ),
        ResponseDoc::bare(404, "no such principal"),
    ],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, NamePath(name): NamePath) -> Result<Json<Value>, ApiError> {
    Ok(Json(principal_json(&state.db.get_principal(&name).await?)))
}
