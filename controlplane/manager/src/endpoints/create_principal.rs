//! `POST /v1/principals`

use authdb::NewPrincipal;
use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, NAME, ResponseDoc, Schema};
use model::ids::PrincipalName;
use serde::Deserialize;

use super::{PRINCIPAL, ROLE, SECRET, app_ids, endpoint as tie, principal_json, role};
use crate::Endpoint;
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::JsonBody;

const NEW_PRINCIPAL: Schema = Schema::Object(&[
    FieldDoc::must("name", Schema::Value(NAME), "as it logs in; no app's and not the admin's"),
    FieldDoc::must("role", ROLE, "what it is for"),
    FieldDoc::may("apps", Schema::Array(&Schema::Value(NAME)), "what an owner owns, or a reader sees"),
    FieldDoc::may("every_app", Schema::FLAG, "a reader of every app, those to come too"),
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/principals",
    operation: "createPrincipal",
    tag: "principals",
    summary: "Make a principal; its key is shown in this answer and never again",
    details: "It logs in with `Appid: <name>` and `Pubkey: <key>`, or Basic. `admin`: everything. `owner`: sees its apps \
              and changes their topics, secrets and grants. `reader`: sees its apps, or every app. `node`: sees what \
              belongs to no app. An app that is deleted and made again is nobody's.",
    auth: Auth::Admin,
    params: &[],
    request: &[ContentDoc::json(
        NEW_PRINCIPAL,
        "the principal",
        Some(r#"{"name":"shop-team","role":"owner","apps":["shop"]}"#),
    )],
    responses: &[
        ResponseDoc::with(
            201,
            "made",
            &[ContentDoc::json(
                Schema::With(&PRINCIPAL, &[FieldDoc::must("key", SECRET, "")]),
                "the principal with its key",
                Some(
                    r#"{"name":"shop-team","role":"owner","apps":["shop"],"every_app":false,"enabled":true,
"created_at":1511366400000,"key_at":1511366400000,"key":"32 characters"}"#,
                ),
            )],
        ),
        ResponseDoc::bare(400, "apps that do not fit the role: `bad_principal`"),
        ResponseDoc::bare(404, "no such app"),
        ResponseDoc::bare(409, "an app, the admin or a principal has this name: `name_taken`"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    name: String,
    role: String,
    #[serde(default)]
    apps: Vec<String>,
    #[serde(default)]
    every_app: bool,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(Acting(db): Acting, JsonBody(body): JsonBody<Body>) -> Result<Response, ApiError> {
    let new = NewPrincipal {
        name: PrincipalName::new(&body.name)?,
        role: role(&body.role)?,
        apps: app_ids(&body.apps)?,
        every_app: body.every_app,
    };
    let (principal, key) = db.create_principal(new).await?;
    tracing::info!(principal = %principal.name, role = principal.role.as_str(), "principal made");
    let mut value = principal_json(&principal);
    value["key"] = key.expose().into();
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(value)).into_response())
}
