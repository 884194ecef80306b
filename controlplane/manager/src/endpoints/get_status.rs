//! `GET /v1/status`: the node that answers, with what 2017 told of it where that still means something.

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Kind, Listener, Method, Resource, ResponseDoc, Schema};
use serde_json::Value;

use super::endpoint as tie;
use super::instances::STATE;
use crate::{Endpoint, Shared};

const STATUS: Schema = Schema::Object(&[
    FieldDoc::must("id", Schema::TEXT, "of this node"),
    FieldDoc::must("version", Schema::TEXT, ""),
    FieldDoc::must("uptime_s", Schema::COUNT, "since the process listens"),
    FieldDoc::must("shards", Schema::COUNT, "data-plane threads"),
    FieldDoc::must("connections", Schema::COUNT, "of clients"),
    FieldDoc::must("state", STATE, "as balancers see it"),
    FieldDoc::must("loglevel", Schema::TEXT, "the filter in force"),
    FieldDoc::must("options", Schema::Map(&Schema::TEXT), "those that can be changed, as they are in force"),
    FieldDoc::must("registry", Schema::Value(Kind::Word(&["connected", "suspended", "lost", "none"])), ""),
    FieldDoc::must("readiness", Schema::Any, "what `/readyz` says: clusters, tenants, the generation in force"),
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/status",
    operation: "getStatus",
    tag: "instances",
    summary: "How the node that answers is",
    details: "",
    auth: Auth::Read(Resource::Nodes),
    params: &[],
    request: &[],
    responses: &[ResponseDoc::with(
        200,
        "how it is",
        &[ContentDoc::json(
            STATUS,
            "`options` and `loglevel` are of 2017",
            Some(
                r#"{"id":"5f0c9a3e71d2b684","version":"0.1.0","uptime_s":60,"shards":8,"connections":117,"state":"serving",
                "loglevel":"info","options":{"drain.delay":"1000ms"},"registry":"connected","readiness":{"ready":true}}"#,
            ),
        )],
    )],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>) -> Json<Value> {
    let mut status = (state.fleet.status)();
    let readiness = (state.readiness)();
    status["readiness"] = readiness.detail;
    status["readiness"]["ready"] = readiness.ready.into();
    Json(status)
}
