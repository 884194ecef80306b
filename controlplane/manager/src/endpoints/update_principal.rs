//! `PUT /v1/principals/:name`

use authdb::PrincipalUpdate;
use axum::Json;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, NAME, ResponseDoc, Schema};
use serde::Deserialize;
use serde_json::Value;

use super::{P_NAME, PRINCIPAL, PRINCIPAL_EXAMPLE, ROLE, app_ids, endpoint as tie, principal_json, role};
use crate::Endpoint;
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::{JsonBody, NamePath};

const CHANGE: Schema = Schema::Object(&[
    FieldDoc::may("role", ROLE, "what it is for"),
    FieldDoc::may("apps", Schema::Array(&Schema::Value(NAME)), "all that an owner owns, or a reader sees, from now on"),
    FieldDoc::may("every_app", Schema::FLAG, "a reader of every app, those to come too"),
    FieldDoc::may("enabled", Schema::FLAG, "may it log in"),
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Put,
    path: "/v1/principals/:name",
    operation: "updatePrincipal",
    tag: "principals",
    summary: "Change what a principal may do; its tokens are void from then on",
    details: "In force with the answer, in every process of the database. Apps that a new role has no use for are taken \
              away.",
    auth: Auth::Admin,
    params: &[P_NAME],
    request: &[ContentDoc::json(
        CHANGE,
        "what changes; fields left out stay as they are",
        Some(r#"{"apps":["shop","billing"]}"#),
    )],
    responses: &[
        ResponseDoc::with(
            200,
            "changed",
            &[ContentDoc::json(PRINCIPAL, "the principal as it is now", Some(PRINCIPAL_EXAMPLE))],
        ),
        ResponseDoc::bare(400, "nothing to change, or apps that do not fit the role: `bad_principal`"),
        ResponseDoc::bare(404, "no such principal or app"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    role: Option<String>,
    apps: Option<Vec<String>>,
    every_app: Option<bool>,
    enabled: Option<bool>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    Acting(db): Acting,
    NamePath(name): NamePath,
    JsonBody(body): JsonBody<Body>,
) -> Result<Json<Value>, ApiError> {
    if body.role.is_none() && body.apps.is_none() && body.every_app.is_none() && body.enabled.is_none() {
        let message = "say what to change: role, apps, every_app or enabled";
        return Err(ApiError::bad_request("nothing_updated", message));
    }
    let update = PrincipalUpdate {
        role: body.role.as_deref().map(role).transpose()?,
        apps: body.apps.as_deref().map(app_ids).transpose()?,
        every_app: body.every_app,
        enabled: body.enabled,
    };
    let principal = db.update_principal(&name, update).await?;
    tracing::info!(principal = %name, role = principal.role.as_str(), enabled = principal.enabled, "principal changed");
    Ok(Json(principal_json(&principal)))
}
