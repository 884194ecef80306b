//! `DELETE /v1/topics/:appid/:topic/:ver`
//!
//! With `delete_data` the topic is first `deleting` (no client finds it any more), then deleted in Kafka, and only then
//! forgotten here. Whatever fails, it stays `deleting` and is gone on with by itself; the same call goes on with it, too.

use authdb::{AuthDbError, TopicState};
use axum::extract::State;
use axum::response::Response;
use kafka_admin::AdminError;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Kind, Listener, Method, ParamDoc, Resource, ResponseDoc};
use model::naming::physical_topic;
use serde::Deserialize;
use serde_json::json;

use super::{GONE, GONE_EXAMPLE, GONE_PENDING_EXAMPLE, P_OWNER, P_TOPIC, P_VER, endpoint as tie};
use crate::auth::Acting;
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
    auth: Auth::Write(Resource::Topics),
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
            "gone, on every node",
            &[ContentDoc::json(GONE, "whether there was one", Some(GONE_EXAMPLE))],
        ),
        accepted!(GONE, GONE_PENDING_EXAMPLE),
        ResponseDoc::bare(502, "Kafka refuses; no client finds the topic any more, and its deletion is tried on"),
        ResponseDoc::bare(
            503,
            "Kafka cannot be reached: no client finds the topic any more, and it is deleted as soon as \
                                Kafka answers; or the database cannot, and nothing has changed",
        ),
        ResponseDoc::bare(504, "Kafka has not finished in time; no client finds the topic any more"),
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
    Acting(db): Acting,
    path: TopicPath,
    Query(params): Query<Params>,
) -> Result<Response, ApiError> {
    let row = match state.db.get_topic(&path.owner, &path.name, &path.ver).await {
        Ok(row) => row,
        Err(AuthDbError::NoSuchApp(_) | AuthDbError::NoSuchTopic { .. } | AuthDbError::NoSuchVersion { .. }) => {
            return Ok(state.revoke().await.answer(json!({"ok": 1, "existed": false})));
        }
        Err(err) => return Err(err.into()),
    };
    let physical = physical_topic(&path.owner, &path.name, &path.ver);
    // What began with its messages ends with them.
    let delete_data = params.delete_data == Some(Flag(true)) || row.state == TopicState::Deleting;
    if delete_data {
        let admin = state.cluster(&row.doc.cluster)?;
        db.begin_delete_topic(&row.doc).await?;
        state.bring_into_force().await;
        match admin.delete_topic(&physical).await {
            Ok(()) | Err(AdminError::NoSuchTopic { .. }) => {}
            Err(err) => {
                tracing::warn!(topic = physical, %err, "topic is deleting and still in Kafka, trying on");
                let mut err = ApiError::from(err);
                err.message += "; no client finds the topic any more, and its deletion is gone on with";
                return Err(err);
            }
        }
    }
    db.delete_topic(&path.owner, &path.name, &path.ver, delete_data).await?;
    tracing::info!(topic = physical, delete_data, "topic removed");
    Ok(state.revoke().await.answer(json!({"ok": 1, "existed": true})))
}
