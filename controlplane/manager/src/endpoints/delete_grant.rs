//! `DELETE /v1/grants`

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Kind, Listener, Method, ParamDoc, ResponseDoc};
use serde_json::{Value, json};

use super::create_grant::{BODY, Grant};
use super::{OK_EXAMPLE, endpoint as tie};
use crate::error::ApiError;
use crate::input::{Query, parse_json, read_body, with_effect};
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Delete,
    path: "/v1/grants",
    operation: "deleteGrant",
    tag: "grants",
    summary: "Take a grant back",
    details: "Names exactly the grant that was made, in the body or, for clients that cannot send one, in the query: \
              taking back one version does not touch a grant for every version. Idempotent: 200 too when there is no \
              such grant. Polls that wait on it end.",
    auth: Auth::Admin,
    params: &[
        ParamDoc::query("kind", Kind::Word(&["subscribe", "raw"]), "which kind of grant"),
        ParamDoc::query("appid", Kind::Text, "who was granted"),
        ParamDoc::query("owner", Kind::Text, "subscribe: the topic's owner"),
        ParamDoc::query("topic", Kind::Text, "the topic"),
        ParamDoc::query("ver", Kind::Text, "subscribe: the version"),
        ParamDoc::query("cluster", Kind::Text, "raw: the cluster"),
    ],
    request: &[BODY],
    responses: &[ResponseDoc::with(
        200,
        "gone",
        &[ContentDoc { media_type: "application/json", what: "always the same", example: Some(OK_EXAMPLE) }],
    )],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, request: Request) -> Result<Json<Value>, ApiError> {
    let (mut parts, body) = request.into_parts();
    let Query(query) = Query::<Grant>::from_request_parts(&mut parts, &state).await?;
    let has_query = !with_effect(parts.uri.query())?.is_empty();
    let body = read_body(Request::from_parts(parts, body)).await?;
    let grant: Grant = match (body.is_empty(), has_query) {
        (false, false) => parse_json(&body)?,
        (true, _) => query,
        (false, true) => {
            return Err(ApiError::bad_request("bad_grant", "name the grant in the body or in the query, not in both"));
        }
    };
    let grant = grant.parse()?;
    if state.db.revoke(&grant).await? {
        tracing::info!(%grant, "taken back");
        state.bring_into_force().await;
    }
    Ok(Json(json!({"ok": 1})))
}
