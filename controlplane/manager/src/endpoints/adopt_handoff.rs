//! `POST /v1/handoff/adopt`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ResponseDoc, Schema};
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint as tie;
use crate::auth::Acting;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, P_NODE, Question};
use crate::handoff::HandoffError;
use crate::input::{JsonBody, Query};
use crate::{Endpoint, Shared};

const NODE_ID: Schema = Schema::Value(Kind::Pattern("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"));

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Post,
    path: "/v1/handoff/adopt",
    operation: "adoptHandoff",
    tag: "handoff",
    summary: "Have a gateway deliver what one that is dead has left",
    details: "Both share a data directory. A gateway that is started there again as the same node delivers what it had by \
              itself; this is for one that never will be. It is refused while that node lives. Repeating is harmless.",
    auth: Auth::Admin,
    params: &[P_NODE],
    request: &[ContentDoc::json(
        Schema::Object(&[
            FieldDoc::must("from", NODE_ID, "the node that is dead"),
            FieldDoc::may("node", NODE_ID, "who takes it over, as in the query; left out: the one that answers"),
        ]),
        "who takes over from whom",
        Some(r#"{"node":"5f0c9a3e71d2b684","from":"7d1e03aa19c04b52"}"#),
    )],
    responses: &[
        ResponseDoc::with(
            200,
            "taken over",
            &[ContentDoc::json(
                Schema::Object(&[
                    FieldDoc::must("ok", Schema::Always(1), ""),
                    FieldDoc::must("node", Schema::TEXT, "who took it over"),
                    FieldDoc::must("from", Schema::TEXT, "from whom"),
                    FieldDoc::must("records", Schema::COUNT, "that it has to deliver now"),
                    FieldDoc::must("bytes", Schema::COUNT, "likewise"),
                ]),
                "how much it was",
                Some(r#"{"ok":1,"node":"5f0c9a3e71d2b684","from":"7d1e03aa19c04b52","records":1200,"bytes":614400}"#),
            )],
        ),
        ResponseDoc::bare(400, "no id of a node"),
        ResponseDoc::bare(404, "no such node"),
        ResponseDoc::bare(409, "that node lives (`node_lives`), or the one that is to take over keeps no publishes"),
        ResponseDoc::bare(421, "another manager asked this one for what is not its own"),
        ResponseDoc::bare(503, "the registry, the database, or the gateway that was named, is away"),
    ],
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    node: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    from: String,
    node: Option<String>,
}

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(
    State(state): State<Shared>,
    Acting(db): Acting,
    asker: Asker,
    Query(params): Query<Params>,
    JsonBody(Body { from, node }): JsonBody<Body>,
) -> Result<Json<Value>, ApiError> {
    if !is_id(&from) {
        return Err(ApiError::bad_request("bad_node", format!("{from:?} is no id of a node")));
    }
    if let (Some(one), Some(other)) = (&params.node, &node)
        && one != other
    {
        return Err(ApiError::bad_request("query_and_body", "query and body name two gateways"));
    }
    // What is registered lives. What is not may live all the same, which its lock tells.
    match state.fleet.node(&from).await {
        Ok(_) => return Err(HandoffError::NodeLives { node: from }.into()),
        Err(err) if err.status == StatusCode::NOT_FOUND => {}
        Err(err) => return Err(err),
    }
    let node = params.node.or(node).unwrap_or_else(|| state.fleet.this.clone());
    let nodes = state.nodes_to_ask(&asker, Some(&node)).await?;
    let question =
        Question { method: "POST", path: DOC.path.to_owned(), query: Vec::new(), body: Some(json!({"from": from})) };
    let here = async {
        let handoff = state.handoff()?;
        let subject = format!("journal of kateway {from}");
        let by = json!({"node": state.fleet.this});
        db.record("handoff.adopt.begin", "", &subject, Value::Null, by.clone()).await?;
        let adopted = handoff.adopt(&from).await?;
        tracing::info!(from, records = adopted.records, bytes = adopted.bytes, "a dead node's journal was taken over");
        let after = json!({"node": state.fleet.this, "records": adopted.records, "bytes": adopted.bytes});
        if let Err(err) = db.record("handoff.adopt", "", &subject, by, after).await {
            tracing::warn!(%err, "what was taken over has only the row of its beginning in the audit log");
        }
        let (records, bytes) = (adopted.records, adopted.bytes);
        Ok(json!({"ok": 1, "node": state.fleet.this, "from": from, "records": records, "bytes": bytes}))
    };
    state.ask_one(&asker, &nodes, &node, &question, here).await.map(Json)
}

/// It names a directory, so it is no path.
fn is_id(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(is_allowed)
}
