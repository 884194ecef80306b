//! `PUT /v1/topics/:appid/:topic/:ver`: what Kafka has to do first, then what clients see.

use std::cmp::Ordering;

use authdb::{AuthDbError, TopicRow, TopicState, TopicUpdate};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Kind, Listener, Method, ParamDoc, Resource, ResponseDoc};
use model::naming::physical_topic;
use serde::Deserialize;

use super::create_topic::{
    P_COMPRESSION, P_HANDOFF, P_MESSAGE_BYTES_MAX, P_PARTITIONER, P_PARTITIONS, P_RETENTION_BYTES, P_RETENTION_HOURS,
    P_STRIP_2017_TAGS, configs, options, partitions, retention_bytes, retention_ms,
};
use super::{AS_BODY, P_OWNER, P_TOPIC, P_VER, TOPIC_CHANGED, TOPIC_CHANGED_EXAMPLE, endpoint as tie, topic_json};
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::{Flag, Given, TopicPath};
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Put,
    path: "/v1/topics/:appid/:topic/:ver",
    operation: "updateTopic",
    tag: "topics",
    summary: "Change a topic version: more partitions, retention, options, enabled or not",
    details: "What is not given stays. Partitions can only grow; keys then choose among the new number. A disabled \
              topic can be neither published to nor read.",
    auth: Auth::Write(Resource::Topics),
    params: &[
        P_OWNER,
        P_TOPIC,
        P_VER,
        P_PARTITIONS,
        P_RETENTION_HOURS,
        P_RETENTION_BYTES,
        P_PARTITIONER,
        P_COMPRESSION,
        P_STRIP_2017_TAGS,
        P_MESSAGE_BYTES_MAX,
        P_HANDOFF,
        ParamDoc::query("enabled", Kind::Bool, "may it be used"),
    ],
    request: &[AS_BODY],
    responses: &[
        ResponseDoc::with(
            200,
            "changed",
            &[ContentDoc::json(
                TOPIC_CHANGED,
                "the topic version as it is now, with `\"ok\":1`",
                Some(TOPIC_CHANGED_EXAMPLE),
            )],
        ),
        accepted!(
            TOPIC_CHANGED,
            r#"{"appid":"shop","topic":"orders","ver":"v1","cluster":"main","physical":"shop.orders.v1","enabled":false,
"state":"disabled","limits":{},"partitioner":"murmur2","compression":"none","strip_2017_tags":false,"message_bytes_max":1000000,"handoff":true,
"ok":1,"generation":"3f2a000000000001-17","in_force":false,"lacking":["kateway 7d1e"]}"#
        ),
        ResponseDoc::bare(400, "nothing to change, a value out of range, or fewer partitions than there are"),
        ResponseDoc::bare(404, "no such app, topic or version, or Kafka has lost it"),
        ResponseDoc::bare(409, "it is being made or deleted right now"),
        ResponseDoc::bare(502, "Kafka refuses"),
        ResponseDoc::bare(503, "Kafka or the database cannot be reached"),
        ResponseDoc::bare(504, "Kafka has not finished in time; trying again is safe"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    partitions: Option<i64>,
    #[serde(rename = "retention.hours")]
    retention_hours: Option<f64>,
    #[serde(rename = "retention.bytes")]
    retention_bytes: Option<i64>,
    partitioner: Option<String>,
    compression: Option<String>,
    strip_2017_tags: Option<Flag>,
    message_bytes_max: Option<i64>,
    handoff: Option<Flag>,
    enabled: Option<Flag>,
}

impl Params {
    fn says_nothing(&self) -> bool {
        self.partitions.is_none()
            && self.retention_hours.is_none()
            && self.retention_bytes.is_none()
            && self.partitioner.is_none()
            && self.compression.is_none()
            && self.strip_2017_tags.is_none()
            && self.message_bytes_max.is_none()
            && self.handoff.is_none()
            && self.enabled.is_none()
    }
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    path: TopicPath,
    Given(params): Given<Params>,
) -> Result<Response, ApiError> {
    if params.says_nothing() {
        return Err(ApiError::bad_request("nothing_updated", "nothing updated"));
    }
    let partitions = partitions(params.partitions)?;
    let retention_ms = retention_ms(params.retention_hours)?;
    let retention_bytes = retention_bytes(params.retention_bytes)?;
    let TopicRow { doc: before, state: found, .. } = state.db.get_topic(&path.owner, &path.name, &path.ver).await?;
    if matches!(found, TopicState::Creating | TopicState::Deleting) {
        return Err(AuthDbError::TopicBusy { owner: path.owner, name: path.name, ver: path.ver, state: found }.into());
    }
    let options = options(
        before.options.clone(),
        params.partitioner.as_deref(),
        params.compression.as_deref(),
        params.strip_2017_tags,
        params.message_bytes_max,
        params.handoff,
    )?;
    let admin = state.cluster(&before.cluster)?;
    let physical = physical_topic(&path.owner, &path.name, &path.ver);

    if let Some(wanted) = partitions {
        let there = admin.describe_topic(&physical).await?.partitions.len() as u32;
        match wanted.cmp(&there) {
            Ordering::Greater => admin.create_partitions(&physical, wanted as i32).await?,
            Ordering::Equal => {}
            Ordering::Less => {
                let message = format!("the topic has {there} partitions, and Kafka cannot take any away");
                return Err(ApiError::bad_request("invalid_partitions", message));
            }
        }
    }
    let mut changed = configs(&options, retention_ms, retention_bytes);
    changed.retain(|(name, _)| {
        name != "max.message.bytes" || options.message_bytes_max != before.options.message_bytes_max
    });
    if !changed.is_empty() {
        admin.alter_configs(&physical, &changed).await?;
    }
    let update = TopicUpdate {
        enabled: params.enabled.map(|flag| flag.0),
        options: Some(options),
        partitions,
        retention_ms,
        retention_bytes,
    };
    let topic = db.update_topic(&path.owner, &path.name, &path.ver, update).await?;
    tracing::info!(topic = physical, enabled = topic.doc.enabled, "topic changed");
    let mut value = topic_json(&topic);
    value["ok"] = 1.into();
    if params.enabled == Some(Flag(false)) {
        return Ok(state.revoke().await.answer(value));
    }
    state.bring_into_force().await;
    Ok(Json(value).into_response())
}
