//! `GET /v1/grants`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, NAME, ParamDoc, Resource, ResponseDoc, Schema};
use model::ids::AppId;
use serde::Deserialize;
use serde_json::Value;

use super::create_grant::{GRANT, grant_json};
use super::endpoint as tie;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::Query;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/grants",
    operation: "listGrants",
    tag: "grants",
    summary: "Grants that the caller sees, of one app or of all",
    details: "Of an app's grants there are seen those to it and those on its topics.",
    auth: Auth::Read(Resource::Grants),
    params: &[ParamDoc::query("appid", NAME, "only grants to this app")],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "the grants",
            &[ContentDoc::json(
                Schema::Array(&GRANT),
                "an array of grants, each as it can be posted and deleted",
                Some(r#"[{"kind":"raw","appid":"ops","cluster":"main"}]"#),
            )],
        ),
        ResponseDoc::bare(404, "no such app"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    appid: Option<String>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    caller: Caller,
    Query(params): Query<Params>,
) -> Result<Json<Value>, ApiError> {
    let app = params.appid.as_deref().map(AppId::new).transpose()?;
    if let Some(app) = &app {
        state.db.get_app(app).await?;
    }
    Ok(Json(state.db.list_grants(app.as_ref(), &caller.visible).await?.iter().map(grant_json).collect()))
}
