//! `GET /v1/jobs/parked`

use axum::Json;
use axum::extract::State;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, NAME, ParamDoc, Resource, ResponseDoc, Schema,
    VERSION,
};
use model::ids::{AppId, TopicName, TopicVersion};
use model::principals::Visible;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::endpoint as tie;
use super::list_parked::whose;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, P_NODE, UNREACHABLE};
use crate::fleet_pages::{P_ROWS, Pages, Part};
use crate::input::Query;
use crate::jobs::{JobFilter, ParkedJob};
use crate::page::P_CURSOR;
use crate::{Endpoint, Shared};

const ROW: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway that has it"),
    FieldDoc::must("id", Schema::TEXT, "as whoever added it was told"),
    FieldDoc::must("appid", Schema::Value(NAME), "whose"),
    FieldDoc::must("topic", Schema::Value(NAME), ""),
    FieldDoc::must("ver", Schema::Value(VERSION), ""),
    FieldDoc::must("due", Schema::COUNT, "epoch ms"),
    FieldDoc::must("parked_at", Schema::COUNT, "epoch ms"),
    FieldDoc::must("reason", Schema::TEXT, "why it cannot fire, for programs"),
    FieldDoc::must("why", Schema::TEXT, "and for people"),
]);
const PAGE: Schema = Schema::Object(&[
    FieldDoc::must("rows", Schema::Array(&ROW), "of each gateway as they were added"),
    FieldDoc::may("cursor", Schema::TEXT, "where the next page begins; left out: this is the last one"),
    UNREACHABLE,
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/jobs/parked",
    operation: "listParkedJobs",
    tag: "jobs",
    summary: "Delayed jobs whose time came and that cannot fire, with the reason",
    details: "They wait until somebody replays, reschedules or drops them. Gateway after gateway, by id; who gives no answer within \
              5 s is named.",
    auth: Auth::Read(Resource::Topics),
    params: &[
        P_NODE,
        ParamDoc::query("appid", NAME, "only those of this app"),
        ParamDoc::query("topic", NAME, "only those for this topic of the app, with `ver`"),
        ParamDoc::query("ver", VERSION, "of `topic`"),
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
                "the jobs, without their messages",
                Some(concat!(
                    r#"{"rows":[{"node":"5f0c9a3e71d2b684","id":"5188146770730811648","appid":"shop","topic":"orders","#,
                    r#""ver":"v1","due":1511366400000,"parked_at":1511366460000,"reason":"topic_gone","#,
                    r#""why":"topic orders has no version v1"}],"cursor":"5f0c9a3e71d2b684/17","unreachable":[]}"#
                )),
            )],
        ),
        ResponseDoc::bare(400, "`topic` without `ver` or `appid`, or a cursor of another list"),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no delayed jobs (`no_jobs`)"),
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
    pub(super) reason: Option<String>,
}

impl Which {
    pub(super) fn says_nothing(&self) -> bool {
        self.topic.is_none() && self.ver.is_none() && self.reason.is_none()
    }

    /// Of the app that is named, or of all that the caller sees.
    pub(super) fn filter(&self, app: Option<&AppId>, visible: &Visible) -> Result<JobFilter, ApiError> {
        let topic = match (app, &self.topic, &self.ver) {
            (_, None, None) => None,
            (Some(_), Some(topic), Some(ver)) => Some((TopicName::new(topic)?, TopicVersion::new(ver)?)),
            _ => return Err(ApiError::bad_request("bad_filter", "a topic is named by appid, topic and ver")),
        };
        Ok(JobFilter { apps: whose(app, visible), topic, reason: self.reason.clone() })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    node: Option<String>,
    appid: Option<String>,
    topic: Option<String>,
    ver: Option<String>,
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
    let Params { node, appid, topic, ver, reason, cursor, rows } = params;
    let app = appid.as_deref().map(AppId::new).transpose()?;
    let which = Which { topic, ver, reason };
    let filter = which.filter(app.as_ref(), &caller.visible)?;
    let Which { topic, ver, reason } = which;
    let query = [("appid", appid), ("topic", topic), ("ver", ver), ("reason", reason)];
    let query = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let nodes = state.nodes_to_ask(&asker, node.as_deref()).await?;
    let here = |after: Option<String>, room| -> Part<'_> {
        let (state, filter) = (&state, &filter);
        Box::pin(async move {
            let page = state.jobs()?.parked(filter, after.as_deref(), room).await?;
            Ok((page.rows.iter().map(|row| row_json(&state.fleet.this, row)).collect(), page.cursor))
        })
    };
    state.page_of_nodes(&asker, &nodes, Pages { path: DOC.path, query, rows, cursor }, here).await.map(Json)
}

fn row_json(node: &str, row: &ParkedJob) -> Value {
    json!({
        "node": node,
        "id": row.id,
        "appid": row.of.app,
        "topic": row.of.topic,
        "ver": row.of.ver,
        "due": row.due_ms,
        "parked_at": row.parked_at_ms,
        "reason": row.reason,
        "why": row.why,
    })
}
