//! `POST /v1/apps`

use authdb::NewApp;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, NAME, ParamDoc, ResponseDoc, Schema,
};
use model::ids::{AppId, ClusterName};
use serde::Deserialize;

use super::{APP, SECRET, app_json, endpoint as tie};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::{Flag, JsonBody, Query};
use crate::{Endpoint, Shared};

const NEW_APP: Schema = Schema::Object(&[
    FieldDoc::must("appid", Schema::Value(NAME), "its name"),
    FieldDoc::may("cluster", Schema::Value(NAME), "where its topics are made; needed where there are several"),
]);
const SECRETS: &[FieldDoc] = &[
    FieldDoc::must("pubkey", SECRET, "its secret for publishing"),
    FieldDoc::must("subkey", SECRET, "its secret for subscribing"),
];

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
    params: &[ParamDoc::query(
        "reuse",
        Kind::Bool,
        "although an app of this id was deleted and its topics or groups remain in Kafka, which the new one will own",
    )
    .or("0")],
    request: &[ContentDoc::json(NEW_APP, "the app", Some(r#"{"appid":"shop","cluster":"main"}"#))],
    responses: &[
        ResponseDoc::with(
            201,
            "made",
            &[ContentDoc::json(
                Schema::With(&APP, SECRETS),
                "the app with its secrets",
                Some(
                    r#"{"appid":"shop","cluster":"main","enabled":true,"created_at":1511366400000,"limits":{},"addresses":[],"handoff":true,"rotating":[],"secrets":[],
                "pubkey":"32 characters","subkey":"32 characters"}"#,
                ),
            )],
        ),
        ResponseDoc::bare(404, "no such cluster"),
        ResponseDoc::bare(
            409,
            "the app exists already, or its id is reserved for what a deleted app left: `appid_reserved`",
        ),
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    reuse: Option<Flag>,
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    Query(params): Query<Params>,
    JsonBody(body): JsonBody<Body>,
) -> Result<Response, ApiError> {
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
    if state.admin.appid() == id {
        let message = format!("{id} is the admin's name, an app cannot have it");
        return Err(ApiError::new(StatusCode::CONFLICT, "app_exists", message));
    }
    let reuse = params.reuse == Some(Flag(true)) || left_nothing(&state, &id).await?;
    let created = db.create_app(NewApp { id, cluster, publish: None, subscribe: None, reuse }).await?;
    tracing::info!(app = %created.app.id, "app made");
    state.bring_into_force().await;
    let mut value = app_json(&created.app);
    value["pubkey"] = created.publish.expose().into();
    value["subkey"] = created.subscribe.expose().into();
    Ok((StatusCode::CREATED, [(CACHE_CONTROL, "no-store")], Json(value)).into_response())
}

/// Did a deleted app of this id leave nothing in Kafka that an app of the same name would own?
///
/// # Errors
/// It left something, or nobody can say.
async fn left_nothing(state: &Shared, id: &AppId) -> Result<bool, ApiError> {
    let Some(retired) = state.db.retired_app(id).await? else { return Ok(false) };
    let reserved = |why: String| {
        let message = format!("app {id} was deleted, and {why}; reuse=1 makes one of that id all the same");
        ApiError::new(StatusCode::CONFLICT, "appid_reserved", message)
    };
    if let Some((cluster, topic)) = retired.topics.first() {
        let more = match retired.topics.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        return Err(reserved(format!("Kafka topic {topic} of cluster {cluster}{more} would be the new one's")));
    }
    let prefix = format!("{id}.");
    for (cluster, admin) in &state.clusters {
        match admin.list_groups().await {
            Ok(groups) => {
                if let Some(group) = groups.iter().find(|group| group.starts_with(&prefix)) {
                    return Err(reserved(format!(
                        "consumer group {group} of cluster {cluster} would be the new one's"
                    )));
                }
            }
            Err(err) => return Err(reserved(format!("cluster {cluster} does not say which groups it left: {err}"))),
        }
    }
    Ok(true)
}
