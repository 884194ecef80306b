//! `DELETE /v1/topics/:appid/:topic/:ver`
//!
//! With `delete_data` the topic is first disabled (nobody publishes any more), then deleted in Kafka, and only then
//! forgotten here: whatever fails, the same call can be made again and goes on where it stopped.

use authdb::{AuthDbError, TopicUpdate};
use axum::Json;
use axum::extract::State;
use kafka_admin::AdminError;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Kind, Listener, Method, ParamDoc, ResponseDoc};
use model::naming::physical_topic;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{OK_EXAMPLE, P_OWNER, P_TOPIC, P_VER, endpoint as tie};
use crate::error::ApiError;
use crate::input::{Flag, Query, TopicPath};
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Delete,
    path: "/v1/topics/:appid/:topic/:ver",
    operation: "deleteTopic",
    tag: "topics",
    summary: "Remove a topic version; its messages stay in Kafka unless delete_data is set",
    details: "Idempotent: 200 too when there is no such version. Grants on this version end; grants on every version \
              end with the last one.",
    auth: Auth::Admin,
    params: &[
        P_OWNER,
        P_TOPIC,
        P_VER,
        ParamDoc::query("delete_data", Kind::Bool, "delete the Kafka topic with all its messages as well").or("0"),
    ],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "gone",
            &[ContentDoc { media_type: "application/json", what: "always the same", example: Some(OK_EXAMPLE) }],
        ),
        ResponseDoc::bare(502, "Kafka refuses; the topic is disabled and still registered"),
        ResponseDoc::bare(503, "Kafka or the database cannot be reached; trying again is safe"),
        ResponseDoc::bare(504, "Kafka has not finished in time; trying again is safe"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    delete_data: Option<Flag>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    path: TopicPath,
    Query(params): Query<Params>,
) -> Result<Json<Value>, ApiError> {
    let topic = match state.db.get_topic(&path.owner, &path.name, &path.ver).await {
        Ok(topic) => topic,
        Err(AuthDbError::NoSuchApp(_) | AuthDbError::NoSuchTopic { .. } | AuthDbError::NoSuchVersion { .. }) => {
            return Ok(Json(json!({"ok": 1})));
        }
        Err(err) => return Err(err.into()),
    };
    let physical = physical_topic(&path.owner, &path.name, &path.ver);
    let delete_data = params.delete_data == Some(Flag(true));
    if delete_data {
        let admin = state.cluster(&topic.cluster)?;
        let disable = TopicUpdate { enabled: Some(false), ..TopicUpdate::default() };
        state.db.update_topic(&path.owner, &path.name, &path.ver, disable).await?;
        state.bring_into_force().await;
        match admin.delete_topic(&physical).await {
            Ok(()) | Err(AdminError::NoSuchTopic { .. }) => {}
            Err(err) => return Err(err.into()),
        }
    }
    state.db.delete_topic(&path.owner, &path.name, &path.ver).await?;
    tracing::info!(topic = physical, delete_data, "topic removed");
    state.bring_into_force().await;
    Ok(Json(json!({"ok": 1})))
}
