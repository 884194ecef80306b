//! `POST /v1/apps`

use authdb::NewApp;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc};
use model::ids::{AppId, ClusterName};
use serde::Deserialize;

use super::{app_json, endpoint as tie};
use crate::error::ApiError;
use crate::input::JsonBody;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/apps",
    operation: "createApp",
    tag: "apps",
    summary: "Make an app; its two secrets are shown in this answer and never again",
    details: "`cluster` is where the app's topics are made unless a topic says otherwise; it may be left out when \
              only one cluster is configured.",
    auth: Auth::Admin,
    params: &[],
    request: &[ContentDoc {
        media_type: "application/json",
        what: "the app",
        example: Some(r#"{"appid":"shop","cluster":"main"}"#),
    }],
    responses: &[
        ResponseDoc::with(
            201,
            "made",
            &[ContentDoc {
                media_type: "application/json",
                what: "the app with its secrets",
                example: Some(
                    r#"{"appid":"shop","cluster":"main","enabled":true,"created_at":1511366400000,"rotating":[],
                "pubkey":"32 characters","subkey":"32 characters"}"#,
                ),
            }],
        ),
        ResponseDoc::bare(404, "no such cluster"),
        ResponseDoc::bare(409, "the app exists already"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    appid: String,
    cluster: Option<String>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, JsonBody(body): JsonBody<Body>) -> Result<Response, ApiError> {
    let id = AppId::new(&body.appid)?;
    let cluster = match body.cluster {
        Some(name) => ClusterName::new(&name)?,
        None if state.clusters.len() == 1 => state.clusters.keys().next().expect("there is one").clone(),
        None => {
            let message = "several clusters are configured, name the one for this app";
            return Err(ApiError::bad_request("cluster_required", message));
        }
    };
    state.cluster(&cluster)?;
    if state.admin.appid == id {
        let message = format!("{id} is the admin's name, an app cannot have it");
        return Err(ApiError::new(StatusCode::CONFLICT, "app_exists", message));
    }
    let created = state.db.create_app(NewApp { id, cluster, publish: None, subscribe: None }).await?;
    tracing::info!(app = %created.app.id, "app made");
    state.bring_into_force().await;
    let mut value = app_json(&created.app);
    value["pubkey"] = created.publish.expose().into();
    value["subkey"] = created.subscribe.expose().into();
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(value)).into_response())
}
