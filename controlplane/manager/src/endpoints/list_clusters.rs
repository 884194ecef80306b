//! `GET /v1/clusters`: the shape of 2017, now with a login.

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, NAME, Resource, ResponseDoc, Schema};
use model::ids::ClusterName;
use serde_json::{Value, json};

use super::endpoint as tie;
use crate::{Endpoint, Shared};

const CLUSTER: Schema = Schema::Object(&[
    FieldDoc::must("name", Schema::Value(NAME), ""),
    FieldDoc::must("nickname", Schema::Value(NAME), "the name again"),
    FieldDoc::may("up", Schema::FLAG, "did it answer the last time it was asked"),
    FieldDoc::may("detail", Schema::TEXT, "what is wrong, if something is"),
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/clusters",
    operation: "listClusters",
    tag: "clusters",
    summary: "Kafka clusters that this gateway is configured with",
    details: "As the node that answers sees them.",
    auth: Auth::Read(Resource::Platform),
    params: &[],
    request: &[],
    responses: &[ResponseDoc::with(
        200,
        "the clusters",
        &[ContentDoc::json(
            Schema::Array(&CLUSTER),
            "an array of names; `nickname` repeats the name for clients of 2017",
            Some(r#"[{"name":"main","nickname":"main","up":true}]"#),
        )],
    )],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>) -> Json<Value> {
    let detail = (state.readiness)().detail;
    let cluster = |name: &ClusterName| {
        let mut value = json!({"name": name, "nickname": name});
        let health = &detail["clusters"][name.as_str()];
        for field in ["up", "detail"] {
            if !health[field].is_null() {
                value[field] = health[field].clone();
            }
        }
        value
    };
    Json(state.clusters.keys().map(cluster).collect())
}
