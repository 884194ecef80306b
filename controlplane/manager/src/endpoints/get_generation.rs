//! `GET /v1/generations/:generation`: where a 202 says to ask.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use model::Generation;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Kind, Listener, Method, ParamDoc, Resource, ResponseDoc, Schema};
use serde_json::Value;

use super::{PENDING, endpoint as tie};
use crate::error::ApiError;
use crate::input::path;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/generations/:generation",
    operation: "getGeneration",
    tag: "in force",
    summary: "Which nodes lack a change",
    details: "A change makes a new generation of the tenants. It is in force when every registered node serves that \
              generation or a later one. A generation is a history and a number; the database begins a new history \
              when it is restored from a backup.",
    auth: Auth::Read(Resource::Platform),
    params: &[ParamDoc::path(
        "generation",
        Kind::Pattern("^[0-9a-f]{16}-[0-9]{1,20}$"),
        "as the Location of a 202 has it",
    )],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "how far it has come",
            &[ContentDoc::json(
                Schema::Object(PENDING),
                "whether it is in force, and the nodes that lack it",
                Some(r#"{"generation":"3f2a000000000001-17","in_force":false,"lacking":["kateway 7d1e"]}"#),
            )],
        ),
        ResponseDoc::bare(404, "the database is of another history by now: what was changed may be undone"),
    ],
};

struct Asked(Generation);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let text = path::<String, S>(parts, state).await?.0;
        let message = "a generation is 16 hexadecimal digits, - and a number";
        Generation::parse(&text).map(Asked).ok_or_else(|| ApiError::bad_request("illegal_generation", message))
    }
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, Asked(generation): Asked) -> Result<Json<Value>, ApiError> {
    let newest = state.db.generation().await?;
    if !newest.includes(generation) {
        let message = format!("the database is at {newest}, which does not come from {generation}");
        return Err(ApiError::not_found("no_such_generation", message));
    }
    Ok(Json(state.standing(generation).await.to_json()))
}
