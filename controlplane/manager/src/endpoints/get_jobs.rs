//! `GET /v1/jobs`

use axum::Json;
use axum::extract::State;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, NAME, Resource, ResponseDoc, Schema, VERSION,
};
use model::principals::Visible;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint as tie;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, P_NODE, Question, UNREACHABLE};
use crate::input::Query;
use crate::jobs::{JobQueue, JobsStatus};
use crate::limits::QUEUES_SHOWN_MAX;
use crate::{Endpoint, Shared};

const QUEUE: Schema = Schema::Object(&[
    FieldDoc::must("appid", Schema::Value(NAME), "whose"),
    FieldDoc::must("topic", Schema::Value(NAME), "where they are published when they are due"),
    FieldDoc::must("ver", Schema::Value(VERSION), ""),
    FieldDoc::must("pending", Schema::COUNT, "that wait, also those that are parked"),
    FieldDoc::must("parked", Schema::COUNT, "that cannot fire and wait for somebody"),
    FieldDoc::must("paused", Schema::FLAG, "do they wait, however late"),
]);
const NODE: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway's id"),
    FieldDoc::must("enabled", Schema::FLAG, "does it take jobs"),
    FieldDoc::must("pending", Schema::COUNT, "that wait, as far as the caller sees"),
    FieldDoc::must("parked", Schema::COUNT, "likewise"),
    FieldDoc::must("queues", Schema::Array(&QUEUE), "those with anything in them, the most jobs first"),
    FieldDoc::may("queues_left_out", Schema::COUNT, "those beyond the first 1,000"),
    FieldDoc::may("due", Schema::COUNT, "whose time has come and that are not at Kafka"),
    FieldDoc::may("in_flight", Schema::COUNT, "at Kafka, not answered"),
    FieldDoc::may("fired", Schema::COUNT, "since the process started"),
    FieldDoc::may("lost", Schema::COUNT, "that rotted on the disk"),
    FieldDoc::may("memory_bytes", Schema::COUNT, "of those that are in memory, and in the log"),
    FieldDoc::may("tables", Schema::COUNT, "files of those that are not"),
    FieldDoc::may("table_bytes", Schema::COUNT, "of these files"),
    FieldDoc::may("log_segments", Schema::COUNT, "files of the log"),
    FieldDoc::may("log_bytes", Schema::COUNT, "of these files"),
    FieldDoc::may("read_only", Schema::FLAG, "is the disk full, so that nothing is taken"),
]);
const STATUS: Schema = Schema::Object(&[FieldDoc::must("nodes", Schema::Array(&NODE), "by id"), UNREACHABLE]);
const _: () = assert!(QUEUES_SHOWN_MAX == 1_000, "as the document says");

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/jobs",
    operation: "getJobQueues",
    tag: "jobs",
    summary: "How many delayed jobs wait at the gateways, for which topics",
    details: "Of every gateway that is registered, asked at the same time; who gives no answer within 5 s is named. How stores are \
              is told to whoever sees every app; others see what is of their apps.",
    auth: Auth::Read(Resource::Topics),
    params: &[P_NODE],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "what they keep",
            &[ContentDoc::json(
                STATUS,
                "each gateway",
                Some(concat!(
                    r#"{"nodes":[{"node":"5f0c9a3e71d2b684","enabled":true,"pending":1202,"parked":2,"due":1,"in_flight":1,"#,
                    r#""fired":881,"lost":0,"memory_bytes":614400,"tables":1,"table_bytes":1048576,"log_segments":2,"#,
                    r#""log_bytes":2097152,"read_only":false,"queues":[{"appid":"shop","topic":"orders","ver":"v1","#,
                    r#""pending":1202,"parked":2,"paused":false}]}],"#,
                    r#""unreachable":[{"node":"7d1e","why":"gateway 7d1e gave no answer"}]}"#
                )),
            )],
        ),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no delayed jobs (`no_jobs`)"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, or the gateway that was named, is away"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    node: Option<String>,
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
    let nodes = state.nodes_to_ask(&asker, params.node.as_deref()).await?;
    let question = Question { method: "GET", path: DOC.path.to_owned(), query: Vec::new(), body: None };
    let here = async {
        let status = state.jobs()?.status().await?;
        Ok(json!({"nodes": [status_json(&status, &caller.visible)]}))
    };
    let answers = state.ask(&asker, &nodes, &question, here).await?;
    Ok(Json(json!({"nodes": answers.nodes(), "unreachable": answers.unreachable})))
}

/// As far as the caller sees.
fn status_json(status: &JobsStatus, visible: &Visible) -> Value {
    let mut queues: Vec<&JobQueue> =
        status.queues.iter().filter(|queue| visible.includes(queue.of.app.as_str())).collect();
    queues.sort_by_key(|queue| std::cmp::Reverse(queue.pending));
    let total = |of: fn(&JobQueue) -> u64| queues.iter().map(|queue| of(queue)).sum::<u64>();
    let sees_all = *visible == Visible::All;
    let (pending, parked) = match sees_all {
        true => (status.pending, status.parked),
        false => (total(|queue| queue.pending), total(|queue| queue.parked)),
    };
    let left_out = queues.len().saturating_sub(QUEUES_SHOWN_MAX);
    queues.truncate(QUEUES_SHOWN_MAX);
    let mut value = json!({
        "node": status.node,
        "enabled": status.enabled,
        "pending": pending,
        "parked": parked,
        "queues": queues.into_iter().map(queue_json).collect::<Value>(),
    });
    if left_out > 0 {
        value["queues_left_out"] = left_out.into();
    }
    if sees_all {
        for (name, number) in [
            ("due", status.due),
            ("in_flight", status.in_flight),
            ("fired", status.fired),
            ("lost", status.lost),
            ("memory_bytes", status.memory_bytes),
            ("tables", status.tables),
            ("table_bytes", status.table_bytes),
            ("log_segments", status.log_segments),
            ("log_bytes", status.log_bytes),
        ] {
            value[name] = number.into();
        }
        value["read_only"] = status.is_read_only.into();
    }
    value
}

fn queue_json(queue: &JobQueue) -> Value {
    json!({
        "appid": queue.of.app,
        "topic": queue.of.topic,
        "ver": queue.of.ver,
        "pending": queue.pending,
        "parked": queue.parked,
        "paused": queue.paused,
    })
}
