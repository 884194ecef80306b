//! `GET /v1/instances` and `GET /v1/instances/:id`

use axum::Json;
use axum::extract::{Path, State};
use model::api_doc::{
    Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, ParamDoc, Resource, ResponseDoc, Schema,
};
use registry::NodeInfo;
use serde_json::{Value, json};

use super::endpoint as tie;
use crate::error::ApiError;
use crate::fleet::shown;
use crate::{Endpoint, Shared};

pub(super) const P_ID: ParamDoc =
    ParamDoc::path("id", Kind::Pattern("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"), "the node, as it is registered");

pub(super) const STATE: Schema = Schema::Value(Kind::Word(&["serving", "draining"]));

const WISH: Schema = Schema::Object(&[
    FieldDoc::must("revision", Schema::COUNT, "grows from wish to wish"),
    FieldDoc::must("drain", Schema::FLAG, "is no new traffic wanted there"),
    FieldDoc::must("options", Schema::Map(&Schema::TEXT), "in place of what is configured, by key"),
]);

const INSTANCE: Schema = Schema::Object(&[
    FieldDoc::must("kind", Schema::Value(Kind::Word(&["kateway", "kproxy"])), "which program it is"),
    FieldDoc::must("id", Schema::TEXT, "stays the same over restarts"),
    FieldDoc::must("this", Schema::FLAG, "is it the one that answers"),
    FieldDoc::must("zone", Schema::TEXT, ""),
    FieldDoc::must("version", Schema::TEXT, ""),
    FieldDoc::must("host", Schema::TEXT, ""),
    FieldDoc::must("addresses", Schema::Map(&Schema::TEXT), "where it listens, by the names of the ready line"),
    FieldDoc::must("started_at", Schema::COUNT, "epoch ms"),
    FieldDoc::must("state", STATE, "a draining one serves what comes and wants nothing new"),
    FieldDoc::may("generation", Schema::TEXT, "of the tenants that all of it works with"),
    FieldDoc::may("obeys", WISH, "left out: it is of a version that obeys nobody"),
    FieldDoc::may("wished", WISH, "what it does not obey yet"),
    FieldDoc::may("refuses", Schema::TEXT, "why it cannot obey the last wish"),
]);

const EXAMPLE: &str = r#"{"kind":"kateway","id":"5f0c9a3e71d2b684","this":true,"zone":"local","version":"0.1.0",
"host":"127.0.0.1","addresses":{"pub":"127.0.0.1:9191"},"started_at":1511366400000,"state":"draining",
"generation":"3f2a000000000001-17","obeys":{"revision":2,"drain":true,"options":{"log.level":"debug"}}}"#;

const OF_ALL: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/instances",
    operation: "listInstances",
    tag: "instances",
    summary: "Nodes that are up",
    details: "",
    auth: Auth::Read(Resource::Nodes),
    params: &[],
    request: &[],
    responses: &[
        ResponseDoc::with(
            200,
            "the nodes",
            &[ContentDoc::json(
                Schema::Array(&INSTANCE),
                "by kind and id",
                Some(concat!(
                    r#"[{"kind":"kateway","id":"5f0c9a3e71d2b684","this":true,"zone":"local","version":"0.1.0","#,
                    r#""host":"127.0.0.1","addresses":{},"started_at":1511366400000,"state":"serving"}]"#
                )),
            )],
        ),
        ResponseDoc::bare(503, "the registry is away"),
    ],
};

const OF_ONE: EndpointDoc = EndpointDoc {
    path: "/v1/instances/:id",
    operation: "getInstance",
    summary: "One node, and what is wished of it that it does not obey yet",
    params: &[P_ID],
    responses: &[
        ResponseDoc::with(200, "the node", &[ContentDoc::json(INSTANCE, "as it says itself", Some(EXAMPLE))]),
        ResponseDoc::bare(404, "no such node is registered"),
        ResponseDoc::bare(503, "the registry is away"),
    ],
    ..OF_ALL
};

pub(crate) fn of_all() -> Endpoint {
    tie(OF_ALL, handle_all)
}

pub(crate) fn of_one() -> Endpoint {
    tie(OF_ONE, handle_one)
}

async fn handle_all(State(state): State<Shared>) -> Result<Json<Value>, ApiError> {
    let nodes = state.fleet.nodes().await?;
    Ok(Json(nodes.iter().map(|node| instance_json(node, &state.fleet.this)).collect()))
}

async fn handle_one(State(state): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    let node = state.fleet.node(&id).await?;
    let mut value = instance_json(&node, &state.fleet.this);
    if let Some(wished) = state.fleet.pending(&node).await? {
        value["wished"] = shown(&wished);
    }
    Ok(Json(value))
}

fn instance_json(node: &NodeInfo, this: &str) -> Value {
    let mut value = json!({
        "kind": node.kind.as_str(),
        "id": node.id,
        "this": node.id == this,
        "zone": node.zone,
        "version": node.version,
        "host": node.host,
        "addresses": node.addresses,
        "started_at": node.started_at_ms,
        "state": node.state.as_str(),
    });
    let optional = [
        ("generation", node.applied.as_ref().map(|applied| format!("{}-{}", applied.history, applied.number).into())),
        ("obeys", node.obeys.as_ref().map(shown)),
        ("refuses", node.refuses.as_ref().map(|refused| refused.why.clone().into())),
    ];
    for (name, found) in optional {
        if let Some(found) = found {
            value[name] = found;
        }
    }
    value
}
