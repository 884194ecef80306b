//! `GET /v1/clusters`: the shape of 2017, now with a login.

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, FieldDoc, Listener, Method, NAME, Resource, ResponseDoc, Schema};
use serde_json::{Value, json};

use super::endpoint as tie;
use crate::{Endpoint, Shared};

const CLUSTER: Schema = Schema::Object(&[
    FieldDoc::must("name", Schema::Value(NAME), ""),
    FieldDoc::must("nickname", Schema::Value(NAME), "the name again"),
]);

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/clusters",
    operation: "listClusters",
    tag: "clusters",
    summary: "Kafka clusters that this gateway is configured with",
    details: "Whether they can be reached: `/readyz`.",
    auth: Auth::Read(Resource::Platform),
    params: &[],
    request: &[],
    responses: &[ResponseDoc::with(
        200,
        "the clusters",
        &[ContentDoc::json(
            Schema::Array(&CLUSTER),
            "an array of names; `nickname` repeats the name for clients of 2017",
            Some(r#"[{"name":"main","nickname":"main"}]"#),
        )],
    )],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>) -> Json<Value> {
    Json(state.clusters.keys().map(|name| json!({"name": name, "nickname": name})).collect())
}
