//! `GET /v1/partitions/:appid/:topic/:ver`: the shape of 2017.

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, Resource, ResponseDoc, Schema};
use model::naming::physical_topic;
use serde_json::{Map, Value, json};

use super::{P_OWNER, P_TOPIC, P_VER, endpoint as tie};
use crate::error::ApiError;
use crate::input::TopicPath;
use crate::{Endpoint, Shared};

const PARTITIONS: Schema = Schema::Object(&[
    FieldDoc::must("num", Schema::COUNT, "how many there are"),
    FieldDoc::must("offsets", Schema::Map(&OFFSETS), "by partition"),
]);
const OFFSETS: Schema = Schema::Object(&[
    FieldDoc::must("oldest", Schema::COUNT, "of the oldest message"),
    FieldDoc::must("latest", Schema::COUNT, "that the next message will have"),
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/partitions/:appid/:topic/:ver",
    operation: "getPartitions",
    tag: "topics",
    summary: "Partitions of a topic version with their oldest and next offset, asked of Kafka now",
    details: "",
    auth: Auth::Read(Resource::Topics),
    params: &[P_OWNER, P_TOPIC, P_VER],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "the partitions",
            &[ContentDoc::json(
                PARTITIONS,
                "number of partitions, and by partition the oldest offset and the one the next message will have",
                Some(r#"{"num":2,"offsets":{"0":{"oldest":0,"latest":7827},"1":{"oldest":0,"latest":7801}}}"#),
            )],
        ),
        ResponseDoc::bare(404, "no such app, topic or version, or Kafka has lost it"),
        ResponseDoc::bare(503, "Kafka or the database cannot be reached"),
        ResponseDoc::bare(504, "a partition has no leader"),
    ],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>, path: TopicPath) -> Result<Json<Value>, ApiError> {
    let topic = state.db.get_topic(&path.owner, &path.name, &path.ver).await?.doc;
    let physical = physical_topic(&path.owner, &path.name, &path.ver);
    let partitions = state.cluster(&topic.cluster)?.list_offsets(&physical).await?;
    let offsets: Map<String, Value> =
        partitions.iter().map(|p| (p.index.to_string(), json!({"oldest": p.oldest, "latest": p.newest}))).collect();
    Ok(Json(json!({"num": partitions.len(), "offsets": offsets})))
}
