//! `POST /v1/grants`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, NAME, PHYSICAL, Resource, ResponseDoc, Schema,
    VERSION,
};
use model::doc::GrantDoc;
use model::ids::{AppId, ClusterName, PhysicalTopic, TopicName, TopicVersion};
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint as tie;
use crate::auth::Acting;
use crate::error::ApiError;
use crate::input::JsonBody;
use crate::{Endpoint, Shared};

pub(super) const GRANT: Schema = Schema::AnyOf(&[
    Schema::Object(&[
        FieldDoc::must("kind", Schema::Value(Kind::Word(&["subscribe"])), ""),
        FieldDoc::must("appid", Schema::Value(NAME), "who may read"),
        FieldDoc::must("owner", Schema::Value(NAME), "the topic's owner"),
        FieldDoc::must("topic", Schema::Value(NAME), "the topic"),
        FieldDoc::may("ver", Schema::Value(VERSION), "left out: every version"),
    ]),
    Schema::Object(&[
        FieldDoc::must("kind", Schema::Value(Kind::Word(&["raw"])), ""),
        FieldDoc::must("appid", Schema::Value(NAME), "who may publish"),
        FieldDoc::must("cluster", Schema::Value(NAME), "where the topic is"),
        FieldDoc::may("topic", Schema::Value(PHYSICAL), "its name in Kafka; left out: every topic"),
    ]),
]);

pub(super) const BODY: ContentDoc = ContentDoc::json(
    GRANT,
    "`subscribe`: app `appid` may read `topic` of `owner`, this `ver` or (left out) every version. `raw`: app \
           `appid` may publish to Kafka topic `topic` of `cluster` by its physical name, or (left out) to every one",
    Some(r#"{"kind":"subscribe","appid":"audit","owner":"shop","topic":"orders","ver":"v1"}"#),
);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/grants",
    operation: "createGrant",
    tag: "grants",
    summary: "Let an app read another app's topic, or publish to a Kafka topic by its physical name",
    details: "An app's own topics need no grant. A raw grant on every topic leaves out those that Kafka keeps for \
              itself (`__…`). An owner grants on its own topics, to any app; raw grants are an admin's.",
    auth: Auth::Write(Resource::Grants),
    params: &[],
    request: &[BODY],
    responses: &[
        ResponseDoc::with(201, "granted", &[BODY]),
        ResponseDoc::with(200, "it was granted already", &[BODY]),
        ResponseDoc::bare(404, "no such app, topic, version or cluster"),
    ],
};

/// A grant as clients write it, in a body or a query.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    kind: Option<String>,
    appid: Option<String>,
    owner: Option<String>,
    cluster: Option<String>,
    topic: Option<String>,
    ver: Option<String>,
}

impl Grant {
    pub(crate) fn parse(self) -> Result<GrantDoc, ApiError> {
        let needed = |name: &str, given: Option<String>| {
            given.ok_or_else(|| ApiError::bad_request("bad_grant", format!("this kind of grant needs {name}")))
        };
        let excess = |name: &str, given: &Option<String>| match given {
            Some(_) => Err(ApiError::bad_request("bad_grant", format!("this kind of grant has no {name}"))),
            None => Ok(()),
        };
        match self.kind.as_deref() {
            Some("subscribe") => {
                excess("cluster", &self.cluster)?;
                Ok(GrantDoc::Subscribe {
                    app: AppId::new(&needed("appid", self.appid)?)?,
                    owner: AppId::new(&needed("owner", self.owner)?)?,
                    topic: TopicName::new(&needed("topic", self.topic)?)?,
                    ver: self.ver.as_deref().map(TopicVersion::new).transpose()?,
                })
            }
            Some("raw") => {
                excess("owner", &self.owner)?;
                excess("ver", &self.ver)?;
                Ok(GrantDoc::RawPublish {
                    app: AppId::new(&needed("appid", self.appid)?)?,
                    cluster: ClusterName::new(&needed("cluster", self.cluster)?)?,
                    topic: self.topic.as_deref().map(PhysicalTopic::new).transpose()?,
                })
            }
            _ => Err(ApiError::bad_request("bad_grant", "kind is subscribe or raw")),
        }
    }
}

/// As clients see a grant: what can be posted again, or deleted.
pub(super) fn grant_json(grant: &GrantDoc) -> Value {
    let mut value = match grant {
        GrantDoc::Subscribe { app, owner, topic, ver } => {
            json!({"kind": "subscribe", "appid": app, "owner": owner, "topic": topic, "ver": ver})
        }
        GrantDoc::RawPublish { app, cluster, topic } => {
            json!({"kind": "raw", "appid": app, "cluster": cluster, "topic": topic})
        }
    };
    value.as_object_mut().expect("made above").retain(|_, field| !field.is_null());
    value
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    JsonBody(body): JsonBody<Grant>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let grant = body.parse()?;
    if let GrantDoc::RawPublish { cluster, .. } = &grant {
        state.cluster(cluster)?;
    }
    let is_new = db.grant(&grant).await?;
    if is_new {
        tracing::info!(%grant, "granted");
        state.bring_into_force().await;
    }
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(grant_json(&grant))))
}
