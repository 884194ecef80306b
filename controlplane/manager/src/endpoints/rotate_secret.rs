//! `POST /v1/apps/:appid/secrets/:side`

use authdb::Rotation;
use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use model::Side;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, NAME, ParamDoc, Resource, ResponseDoc, Schema,
};
use model::ids::AppId;
use serde::Deserialize;
use serde_json::json;

use super::{P_APPID, P_SIDE, SECRET, SIDE, endpoint as tie};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::{Flag, Query, path};
use crate::{Endpoint, Shared};

const NEW_SECRET: Schema = Schema::Object(&[
    FieldDoc::must("appid", Schema::Value(NAME), ""),
    FieldDoc::must("side", SIDE, "what it is for"),
    FieldDoc::must("secret", SECRET, ""),
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/apps/:appid/secrets/:side",
    operation: "rotateSecret",
    tag: "secrets",
    summary: "Make a new secret; it is shown in this answer and never again",
    details: "The secret so far goes on working until it is revoked (DELETE on the same path). At most two are live; \
              while they are, a rotation needs to be told which one it replaces. `created_at` of both is in the app.",
    auth: Auth::Write(Resource::Secrets),
    params: &[
        P_APPID,
        P_SIDE,
        ParamDoc::query("force", Kind::Bool, "replace the younger of two: its answer was lost, say").or("0"),
        ParamDoc::query("replace", Kind::Word(&["current"]), "replace the older of two, which clients use so far"),
    ],
    request: &[],
    responses: &[
        ResponseDoc::with(
            201,
            "made",
            &[ContentDoc::json(
                NEW_SECRET,
                "the new secret",
                Some(r#"{"appid":"shop","side":"publish","secret":"32 characters"}"#),
            )],
        ),
        ResponseDoc::bare(400, "`force` and `replace` at once"),
        ResponseDoc::bare(404, "no such app"),
        ResponseDoc::bare(409, "two are live already: `two_secrets_live`"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    force: Option<Flag>,
    replace: Option<String>,
}

impl Params {
    fn rotation(&self) -> Result<Rotation, ApiError> {
        match (self.force == Some(Flag(true)), self.replace.as_deref()) {
            (false, None) => Ok(Rotation::Ordinary),
            (true, None) => Ok(Rotation::ReplaceYounger),
            (false, Some("current")) => Ok(Rotation::ReplaceOlder),
            (true, Some(_)) => Err(ApiError::bad_request("bad_query", "force and replace say different things")),
            (false, Some(word)) => Err(ApiError::bad_request("bad_query", format!("replace is current, not {word:?}"))),
        }
    }
}

/// `:appid/secrets/:side` of a path.
pub(super) struct SecretPath {
    pub(super) app: AppId,
    pub(super) side: Side,
}

impl<S: Send + Sync> FromRequestParts<S> for SecretPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (app, side) = path::<(String, String), S>(parts, state).await?.0;
        let message = "a secret is for publish or for subscribe";
        let side = Side::parse(&side).ok_or_else(|| ApiError::bad_request("illegal_side", message))?;
        Ok(SecretPath { app: AppId::new(&app)?, side })
    }
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    of: SecretPath,
    Query(params): Query<Params>,
) -> Result<Response, ApiError> {
    let how = params.rotation()?;
    let secret = db.rotate_secret(&of.app, of.side, None, how).await?;
    tracing::info!(app = %of.app, side = of.side.as_str(), ?how, "secret rotated");
    if how == Rotation::Ordinary {
        state.bring_into_force().await;
    } else {
        // The new secret is shown now or never, so who lacks what is said in the log.
        state.revoke().await;
    }
    let body = json!({"appid": of.app, "side": of.side.as_str(), "secret": secret.expose()});
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
