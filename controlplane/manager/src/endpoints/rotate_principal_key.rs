//! `POST /v1/principals/:name/key`

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, NAME, ResponseDoc, Schema};
use serde_json::json;

use super::{P_NAME, SECRET, endpoint as tie};
use crate::Endpoint;
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::NamePath;

const NEW_KEY: Schema =
    Schema::Object(&[FieldDoc::must("name", Schema::Value(NAME), ""), FieldDoc::must("key", SECRET, "")]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/principals/:name/key",
    operation: "rotatePrincipalKey",
    tag: "principals",
    summary: "Make a new key; it is shown in this answer and never again",
    details: "The key so far and the tokens made with it are void with the answer.",
    auth: Auth::Admin,
    params: &[P_NAME],
    request: &[],
    responses: &[
        ResponseDoc::with(
            201,
            "made",
            &[ContentDoc::json(NEW_KEY, "the new key", Some(r#"{"name":"shop-team","key":"32 characters"}"#))],
        ),
        ResponseDoc::bare(404, "no such principal"),
    ],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(Acting(db): Acting, NamePath(name): NamePath) -> Result<Response, ApiError> {
    let key = db.rotate_principal_key(&name).await?;
    tracing::info!(principal = %name, "key of a principal rotated");
    let body = json!({"name": name, "key": key.expose()});
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
