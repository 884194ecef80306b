//! `GET /v1/apps`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, Resource, ResponseDoc};
use model::ids::AppId;
use serde_json::Value;

use super::{APP, app_json, endpoint as tie};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::input::Query;
use crate::page::{Asked, P_CURSOR, P_ROWS, TOO_MANY, list};
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
    params: &[P_ROWS, P_CURSOR],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "the apps",
            &[ContentDoc::json(
                list!(APP),
                "an array of apps, or a page of it; `rotating` names the sides whose previous secret still works",
                Some(concat!(
                    "[",
                    r#"{"appid":"shop","cluster":"main","enabled":true,"created_at":1,"limits":{},"addresses":[],"handoff":true,
"rotating":[],"secrets":[]}"#,
                    "]"
                )),
            )],
        ),
        TOO_MANY,
    ],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    caller: Caller,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, ApiError> {
    let page = asked.page()?;
    let after = asked.after(|parts| match parts {
        [id] => AppId::new(id).ok(),
        _ => None,
    })?;
    let rows = state.db.list_apps(&caller.visible, after.as_ref(), page.rows_asked()).await?;
    page.answer(rows, app_json, |app| app.id.to_string())
}
