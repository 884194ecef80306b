//! `PUT /v1/apps/:appid/limits`

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Kind, Listener, Method, ParamDoc, ResponseDoc};
use model::limits::QUOTA_MAX;
use model::quota::Measure;
use serde::Deserialize;
use serde_json::Value;

use super::{APP, APP_EXAMPLE, AS_BODY, P_APPID, app_json, endpoint as tie};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::{AppPath, Given};
use crate::{Endpoint, Shared};

pub(super) const LIMIT: Kind = Kind::Integer { min: 0, max: QUOTA_MAX as i64 };
pub(super) const P_PUBLISH_MESSAGES: ParamDoc =
    ParamDoc::query("publish_messages", LIMIT, "messages a second that may be published; 0: no limit");
pub(super) const P_PUBLISH_BYTES: ParamDoc =
    ParamDoc::query("publish_bytes", LIMIT, "bytes a second of values, keys and headers; 0: no limit");
pub(super) const P_SUBSCRIBE_MESSAGES: ParamDoc =
    ParamDoc::query("subscribe_messages", LIMIT, "messages a second that may be read; 0: no limit");
pub(super) const P_SUBSCRIBE_BYTES: ParamDoc =
    ParamDoc::query("subscribe_bytes", LIMIT, "bytes a second of answers to polls; 0: no limit");

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Put,
    path: "/v1/apps/:appid/limits",
    operation: "limitApp",
    tag: "apps",
    summary: "Set how much an app may publish and read, and how many connections it may have",
    details: "What is not given stays; 0 takes a limit away. A limit is one number for all gateways that share the \
              database, whatever the topic. Beyond it requests are 429 `over_quota` with `Retry-After`.",
    auth: Auth::Admin,
    params: &[
        P_APPID,
        P_PUBLISH_MESSAGES,
        P_PUBLISH_BYTES,
        P_SUBSCRIBE_MESSAGES,
        P_SUBSCRIBE_BYTES,
        ParamDoc::query("connections", LIMIT, "client connections at one time; 0: no limit"),
    ],
    request: &[AS_BODY],
    responses: &[
        ResponseDoc::with(200, "set", &[ContentDoc::json(APP, "the app as it is now", Some(APP_EXAMPLE))]),
        ResponseDoc::bare(400, "nothing to set, or a value out of range"),
        ResponseDoc::bare(404, "no such app"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    publish_messages: Option<u64>,
    publish_bytes: Option<u64>,
    subscribe_messages: Option<u64>,
    subscribe_bytes: Option<u64>,
    connections: Option<u64>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    AppPath(id): AppPath,
    Given(params): Given<Params>,
) -> Result<Json<Value>, ApiError> {
    let limits = limits([
        (Measure::PublishMessages, params.publish_messages),
        (Measure::PublishBytes, params.publish_bytes),
        (Measure::SubscribeMessages, params.subscribe_messages),
        (Measure::SubscribeBytes, params.subscribe_bytes),
        (Measure::Connections, params.connections),
    ])?;
    let app = db.limit_app(&id, &limits).await?;
    tracing::info!(app = %id, ?limits, "limits of an app set");
    state.bring_into_force().await;
    Ok(Json(app_json(&app)))
}

/// Those that were given.
pub(super) fn limits<const N: usize>(given: [(Measure, Option<u64>); N]) -> Result<Vec<(Measure, u64)>, ApiError> {
    let limits: Vec<(Measure, u64)> =
        given.into_iter().filter_map(|(measure, limit)| Some((measure, limit?))).collect();
    if limits.is_empty() {
        let names = given.map(|(measure, _)| measure.as_str()).join(", ");
        return Err(ApiError::bad_request("nothing_updated", format!("say which limits: {names}")));
    }
    match limits.iter().find(|(_, limit)| *limit > QUOTA_MAX) {
        None => Ok(limits),
        Some((measure, limit)) => {
            let message = format!("{measure} is {limit}, expected 0 (no limit) to {QUOTA_MAX}");
            Err(ApiError::bad_request("out_of_range", message))
        }
    }
}
