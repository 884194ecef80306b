//! `POST /v1/tokens`

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ParamDoc, ResponseDoc, Schema};
use serde::Deserialize;
use serde_json::json;

use super::{SECRET, endpoint as tie};
use crate::Endpoint;
use crate::auth::Acting;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::Query;
use crate::limits::{TOKEN_TTL_S_DEFAULT, TOKEN_TTL_S_MAX, TOKEN_TTL_S_MIN};
use crate::tokens;

const TOKEN: Schema = Schema::Object(&[
    FieldDoc::must("token", SECRET, "a JWT"),
    FieldDoc::must("token_type", Schema::Value(Kind::Word(&["Bearer"])), "how it is presented"),
    FieldDoc::must("name", Schema::TEXT, "whose it is"),
    FieldDoc::must("expires_at", Schema::COUNT, "epoch ms"),
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/tokens",
    operation: "createToken",
    tag: "principals",
    summary: "A token for the caller, good for a while; it is shown in this answer and never again",
    details: "For the admin and principals, with their key. `Authorization: Bearer <token>` opens what the key opens, \
              except this. It is void as soon as anything about the principal changes.",
    auth: Auth::Key,
    params: &[ParamDoc::query(
        "ttl",
        Kind::Integer { min: TOKEN_TTL_S_MIN, max: TOKEN_TTL_S_MAX },
        "seconds that it is good for",
    )
    .or("3600")],
    request: &[],
    responses: &[ResponseDoc::with(
        201,
        "made",
        &[ContentDoc::json(
            TOKEN,
            "the token",
            Some(
                r#"{"token":"header.claims.signature","token_type":"Bearer","name":"shop-team","expires_at":1511370000000}"#,
            ),
        )],
    )],
};
const _: () = assert!(TOKEN_TTL_S_DEFAULT == 3_600, "as the document says");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    ttl: Option<i64>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(Acting(db): Acting, caller: Caller, Query(params): Query<Params>) -> Result<Response, ApiError> {
    let ttl = params.ttl.unwrap_or(TOKEN_TTL_S_DEFAULT);
    if !(TOKEN_TTL_S_MIN..=TOKEN_TTL_S_MAX).contains(&ttl) {
        let message = format!("ttl is {ttl}, allowed are {TOKEN_TTL_S_MIN} to {TOKEN_TTL_S_MAX}");
        return Err(ApiError::bad_request("out_of_range", message));
    }
    let stamp = caller.stamp.as_deref().expect("the guard lets nobody in who showed no key");
    let given = tokens::give(&*db, &caller.subject, caller.role.as_str(), stamp, ttl as u64).await?;
    tracing::info!(principal = caller.subject, ttl_s = ttl, "token given out");
    let body = json!({
        "token": given.token,
        "token_type": "Bearer",
        "name": caller.subject,
        "expires_at": given.expires_at_s * 1_000,
    });
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
