//! `GET /v1/handoff/parked`: gateway after gateway, in the order of their ids, so that a page goes on where the one before
//! ended although each has a list of its own.

use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, NAME, PHYSICAL, ParamDoc, Resource, ResponseDoc,
    Schema, VERSION,
};
use model::ids::{AppId, ClusterName, PhysicalTopic, TopicName, TopicVersion};
use model::naming::physical_topic;
use model::principals::Visible;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::endpoint as tie;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, P_NODE, UNREACHABLE};
use crate::fleet_pages::{P_ROWS, Pages, Part};
use crate::handoff::{Parked, ParkedFilter};
use crate::input::Query;
use crate::page::P_CURSOR;
use crate::{Endpoint, Shared};

const ROW: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway that has it"),
    FieldDoc::must("receipt", Schema::TEXT, "the id that its publisher was given"),
    FieldDoc::must("appid", Schema::Value(NAME), "who published it"),
    FieldDoc::must("cluster", Schema::Value(NAME), ""),
    FieldDoc::must("physical", Schema::Value(PHYSICAL), "the topic's name in Kafka"),
    FieldDoc::must("partition", Schema::PARTITION, ""),
    FieldDoc::must("accepted_at", Schema::COUNT, "epoch ms"),
    FieldDoc::must("parked_at", Schema::COUNT, "epoch ms"),
    FieldDoc::must("bytes", Schema::COUNT, "of key, value and headers"),
    FieldDoc::must("reason", Schema::TEXT, "why it cannot be delivered, for programs"),
    FieldDoc::must("why", Schema::TEXT, "and for people"),
    FieldDoc::may("key_start_base64", Schema::TEXT, "the first bytes of its key; left out: it has none"),
]);
const PAGE: Schema = Schema::Object(&[
    FieldDoc::must("rows", Schema::Array(&ROW), "of each gateway the oldest first"),
    FieldDoc::may("cursor", Schema::TEXT, "where the next page begins; left out: this is the last one"),
    UNREACHABLE,
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/handoff/parked",
    operation: "listParked",
    tag: "handoff",
    summary: "Messages that were accepted and cannot be delivered, with the reason",
    details: "They wait until somebody replays or drops them. Gateway after gateway, by id; who gives no answer within 5 s is \
              named. What a gateway that is gone has left is told after it was adopted.",
    auth: Auth::Read(Resource::Topics),
    params: &[
        P_NODE,
        ParamDoc::query("appid", NAME, "only those that this app published"),
        ParamDoc::query("topic", NAME, "only those for this topic of the app, with `ver`"),
        ParamDoc::query("ver", VERSION, "of `topic`"),
        ParamDoc::query("physical", PHYSICAL, "only those for this topic, by its name in Kafka"),
        ParamDoc::query("cluster", NAME, "only those for this cluster"),
        ParamDoc::query("reason", Kind::Text, "only those with this reason"),
        P_CURSOR,
        P_ROWS,
    ],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "a page of them",
            &[ContentDoc::json(
                PAGE,
                "the messages, without their values",
                Some(concat!(
                    r#"{"rows":[{"node":"5f0c9a3e71d2b684","receipt":"AZ3c","appid":"shop","cluster":"main","#,
                    r#""physical":"shop.orders.v1","partition":3,"accepted_at":1511366400000,"parked_at":1511366460000,"#,
                    r#""bytes":512,"reason":"no_such_topic","why":"Kafka has no topic shop.orders.v1 any more","#,
                    r#""key_start_base64":"NDI="}],"cursor":"5f0c9a3e71d2b684/17","unreachable":[]}"#
                )),
            )],
        ),
        ResponseDoc::bare(400, "`topic` without `ver` or `appid`, or a cursor of another list"),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no publishes (`no_handoff`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, or the gateway that was named, is away"),
    ],
};

/// Which of them, beside whose.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ver: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) physical: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
}

impl Which {
    pub(super) fn says_nothing(&self) -> bool {
        self.given().next().is_none()
    }

    /// By the names of the query.
    fn given(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let fields = [
            ("topic", &self.topic),
            ("ver", &self.ver),
            ("physical", &self.physical),
            ("cluster", &self.cluster),
            ("reason", &self.reason),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }

    /// Of the app that is named, or of all that the caller sees.
    pub(super) fn filter(&self, app: Option<&AppId>, visible: &Visible) -> Result<ParkedFilter, ApiError> {
        let physical = self.physical.as_deref().map(PhysicalTopic::new).transpose()?;
        let topic = match (app, &self.topic, &self.ver) {
            (_, None, None) => physical,
            (Some(app), Some(topic), Some(ver)) if physical.is_none() => {
                Some(PhysicalTopic::new(&physical_topic(app, &TopicName::new(topic)?, &TopicVersion::new(ver)?))?)
            }
            _ => {
                let message = "a topic is named by appid, topic and ver, or by physical";
                return Err(ApiError::bad_request("bad_filter", message));
            }
        };
        Ok(ParkedFilter {
            apps: whose(app, visible),
            cluster: self.cluster.as_deref().map(ClusterName::new).transpose()?,
            topic,
            reason: self.reason.clone(),
        })
    }
}

/// The guard has asked whether the caller may name this app.
pub(super) fn whose(app: Option<&AppId>, visible: &Visible) -> Visible {
    app.map_or_else(|| visible.clone(), |app| Visible::Apps(vec![app.clone()]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    node: Option<String>,
    appid: Option<String>,
    topic: Option<String>,
    ver: Option<String>,
    physical: Option<String>,
    cluster: Option<String>,
    reason: Option<String>,
    cursor: Option<String>,
    rows: Option<i64>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    caller: Caller,
    asker: Asker,
    Query(params): Query<Params>,
) -> Result<Json<Value>, ApiError> {
    let Params { node, appid, topic, ver, physical, cluster, reason, cursor, rows } = params;
    let app = appid.as_deref().map(AppId::new).transpose()?;
    let which = Which { topic, ver, physical, cluster, reason };
    let filter = which.filter(app.as_ref(), &caller.visible)?;
    let mut query: Vec<(&str, String)> = which.given().map(|(name, value)| (name, value.clone())).collect();
    query.extend(app.as_ref().map(|app| ("appid", app.to_string())));
    let nodes = state.nodes_to_ask(&asker, node.as_deref()).await?;
    let here = |after: Option<String>, room| -> Part<'_> {
        let (state, filter) = (&state, &filter);
        Box::pin(async move {
            let page = state.handoff()?.parked(filter, after.as_deref(), room).await?;
            Ok((page.rows.iter().map(|row| row_json(&state.fleet.this, row)).collect(), page.cursor))
        })
    };
    state.page_of_nodes(&asker, &nodes, Pages { path: DOC.path, query, rows, cursor }, here).await.map(Json)
}

fn row_json(node: &str, row: &Parked) -> Value {
    let mut value = json!({
        "node": node,
        "receipt": row.receipt,
        "appid": row.app,
        "cluster": row.cluster,
        "physical": row.topic,
        "partition": row.partition,
        "accepted_at": row.accepted_at_ms,
        "parked_at": row.parked_at_ms,
        "bytes": row.bytes,
        "reason": row.reason,
        "why": row.why,
    });
    if let Some(key) = &row.key_start {
        value["key_start_base64"] = STANDARD.encode(key).into();
    }
    value
}
