//! `GET /v1/handoff`

use axum::Json;
use axum::extract::State;
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, NAME, PHYSICAL, Resource, ResponseDoc, Schema,
};
use model::principals::Visible;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint as tie;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, P_NODE, Question, UNREACHABLE};
use crate::handoff::{Domain, HandoffStatus};
use crate::input::Query;
use crate::limits::DOMAINS_SHOWN_MAX;
use crate::{Endpoint, Shared};

const STATE: Schema = Schema::Value(Kind::Word(&["buffering", "draining", "gate", "direct"]));
const DOMAIN: Schema = Schema::Object(&[
    FieldDoc::must("cluster", Schema::Value(NAME), ""),
    FieldDoc::must("physical", Schema::Value(PHYSICAL), "the topic's name in Kafka"),
    FieldDoc::must("partition", Schema::PARTITION, ""),
    FieldDoc::must("appid", Schema::Value(NAME), "who published"),
    FieldDoc::must(
        "state",
        STATE,
        "where new messages go: kept, kept behind what is delivered, held a moment, to Kafka",
    ),
    FieldDoc::must("since", Schema::COUNT, "epoch ms"),
    FieldDoc::must("records", Schema::COUNT, "that wait"),
    FieldDoc::must("bytes", Schema::COUNT, "that wait"),
    FieldDoc::must("why", Schema::TEXT, "what Kafka said, or did not say"),
    FieldDoc::may("drain_bytes_per_s", Schema::COUNT, "left out: nothing is delivered, or nobody knows yet"),
    FieldDoc::may("left_s", Schema::COUNT, "seconds until nothing waits, at this rate; left out: nobody knows"),
]);
const NODE: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "the gateway's id"),
    FieldDoc::must("enabled", Schema::FLAG, "does it keep publishes that Kafka cannot take"),
    FieldDoc::must("records", Schema::COUNT, "that wait, as far as the caller sees"),
    FieldDoc::must("bytes", Schema::COUNT, "that wait, likewise"),
    FieldDoc::must("domains", Schema::Array(&DOMAIN), "what does not go to Kafka straight away, the most bytes first"),
    FieldDoc::may("domains_left_out", Schema::COUNT, "those beyond the first 1,000"),
    FieldDoc::may("device", Schema::TEXT, "how the journal writes"),
    FieldDoc::may("disk_bytes", Schema::COUNT, "that the journal has"),
    FieldDoc::may("budget_bytes", Schema::COUNT, "that it may have"),
    FieldDoc::may("free_bytes", Schema::COUNT, "on its disk, for everybody"),
    FieldDoc::may("parked", Schema::COUNT, "messages that cannot be delivered and wait for somebody"),
    FieldDoc::may("oldest_at", Schema::COUNT, "when the oldest that waits was accepted, epoch ms"),
]);
const STATUS: Schema = Schema::Object(&[FieldDoc::must("nodes", Schema::Array(&NODE), "by id"), UNREACHABLE]);
const _: () = assert!(DOMAINS_SHOWN_MAX == 1_000, "as the document says");

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/handoff",
    operation: "getHandoff",
    tag: "handoff",
    summary: "What gateways keep of publishes that Kafka could not take",
    details: "Of every gateway that is registered, asked at the same time; who gives no answer within 5 s is named. How disks \
              are is told to whoever sees every app; others see what is of their apps.",
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
                    r#"{"nodes":[{"node":"5f0c9a3e71d2b684","enabled":true,"device":"direct","disk_bytes":67108864,"#,
                    r#""budget_bytes":10737418240,"free_bytes":214748364800,"records":1200,"bytes":614400,"parked":2,"#,
                    r#""oldest_at":1511366400000,"domains":[{"cluster":"main","physical":"shop.orders.v1","partition":3,"#,
                    r#""appid":"shop","state":"draining","since":1511366400000,"records":1200,"bytes":614400,"#,
                    r#""why":"no leader","drain_bytes_per_s":1048576,"left_s":1}]}],"#,
                    r#""unreachable":[{"node":"7d1e","why":"gateway 7d1e gave no answer"}]}"#
                )),
            )],
        ),
        ResponseDoc::bare(404, "no such gateway is registered"),
        ResponseDoc::bare(409, "the gateway that was named keeps no publishes (`no_handoff`)"),
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
        let status = state.handoff()?.status().await?;
        Ok(json!({"nodes": [status_json(&status, &caller.visible)]}))
    };
    let answers = state.ask(&asker, &nodes, &question, here).await?;
    Ok(Json(json!({"nodes": answers.nodes(), "unreachable": answers.unreachable})))
}

/// As far as the caller sees.
fn status_json(status: &HandoffStatus, visible: &Visible) -> Value {
    let mut domains: Vec<&Domain> =
        status.domains.iter().filter(|domain| visible.includes(domain.app.as_str())).collect();
    domains.sort_by_key(|domain| std::cmp::Reverse(domain.bytes));
    let total = |of: fn(&Domain) -> u64| domains.iter().map(|domain| of(domain)).sum::<u64>();
    let sees_all = *visible == Visible::All;
    let (records, bytes) = match sees_all {
        true => (status.records, status.bytes),
        false => (total(|domain| domain.records), total(|domain| domain.bytes)),
    };
    let left_out = domains.len().saturating_sub(DOMAINS_SHOWN_MAX);
    domains.truncate(DOMAINS_SHOWN_MAX);
    let mut value = json!({
        "node": status.node,
        "enabled": status.enabled,
        "records": records,
        "bytes": bytes,
        "domains": domains.into_iter().map(domain_json).collect::<Value>(),
    });
    if left_out > 0 {
        value["domains_left_out"] = left_out.into();
    }
    if sees_all {
        value["device"] = status.device.as_str().into();
        value["disk_bytes"] = status.disk_bytes.into();
        value["budget_bytes"] = status.budget_bytes.into();
        value["free_bytes"] = status.free_bytes.into();
        value["parked"] = status.parked_records.into();
        if let Some(oldest) = status.oldest_at_ms {
            value["oldest_at"] = oldest.into();
        }
    }
    value
}

fn domain_json(domain: &Domain) -> Value {
    let mut value = json!({
        "cluster": domain.cluster,
        "physical": domain.topic,
        "partition": domain.partition,
        "appid": domain.app,
        "state": domain.state.as_str(),
        "since": domain.since_ms,
        "records": domain.records,
        "bytes": domain.bytes,
        "why": domain.why,
    });
    for (name, number) in [("drain_bytes_per_s", domain.drain_bytes_per_s), ("left_s", domain.left_s)] {
        if let Some(number) = number {
            value[name] = number.into();
        }
    }
    value
}
