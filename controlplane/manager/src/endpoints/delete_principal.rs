//! `DELETE /v1/principals/:name`

use axum::Json;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc};
use serde_json::{Value, json};

use super::{GONE, GONE_EXAMPLE, P_NAME, endpoint as tie};
use crate::Endpoint;
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::NamePath;

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Delete,
    path: "/v1/principals/:name",
    operation: "deletePrincipal",
    tag: "principals",
    summary: "Remove a principal; its key and its tokens are void from then on",
    details: "Idempotent: 200 too when there is no such principal. Its apps stay.",
    auth: Auth::Admin,
    params: &[P_NAME],
    request: &[],
    responses: &[ResponseDoc::with(
        200,
        "gone",
        &[ContentDoc::json(GONE, "whether there was one", Some(GONE_EXAMPLE))],
    )],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(Acting(db): Acting, NamePath(name): NamePath) -> Result<Json<Value>, ApiError> {
    let existed = db.delete_principal(&name).await?;
    if existed {
        tracing::info!(principal = %name, "principal removed");
    }
    Ok(Json(json!({"ok": 1, "existed": existed})))
}
