//! `GET /v1/apps/:appid`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, Resource, ResponseDoc};
use serde_json::Value;

use super::{APP, APP_EXAMPLE, P_APPID, app_json, endpoint as tie};
use crate::error::ApiError;
use crate::input::AppPath;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/apps/:appid",
    operation: "getApp",
    tag: "apps",
    summary: "One app, without its secrets",
    details: "",
    auth: Auth::Read(Resource::Apps),
    params: &[P_APPID],
    request: &[],
    responses: &[
        ResponseDoc::with(200, "the app", &[ContentDoc::json(APP, "the app", Some(APP_EXAMPLE))]),
        ResponseDoc::bare(404, "no such app"),
    ],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, AppPath(id): AppPath) -> Result<Json<Value>, ApiError> {
    Ok(Json(app_json(&state.db.get_app(&id).await?)))
}
