//! `GET /v1/apps`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, Resource, ResponseDoc, Schema};
use serde_json::Value;

use super::{APP, app_json, endpoint as tie};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/apps",
    operation: "listApps",
    tag: "apps",
    summary: "Apps that the caller sees, by id",
    details: "",
    auth: Auth::Read(Resource::Apps),
    params: &[],
    request: &[],
    responses: &[ResponseDoc::with(
        200,
        "the apps",
        &[ContentDoc::json(
            Schema::Array(&APP),
            "an array of apps; `rotating` names the sides whose previous secret still works",
            Some(concat!(
                "[",
                r#"{"appid":"shop","cluster":"main","enabled":true,"created_at":1,"limits":{},"addresses":[],
"rotating":[],"secrets":[]}"#,
                "]"
            )),
        )],
    )],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, caller: Caller) -> Result<Json<Value>, ApiError> {
    Ok(Json(state.db.list_apps(&caller.visible).await?.iter().map(app_json).collect()))
}
