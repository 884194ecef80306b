//! `GET /v1/clusters`: the shape of 2017, now for the admin only.

use axum::Json;
use axum::extract::State;
use model::api_doc::{Auth, ContentDoc, EndpointDoc, Listener, Method, ResponseDoc};
use serde_json::{Value, json};

use super::endpoint as tie;
use crate::{Endpoint, Shared};

const DOC: EndpointDoc = EndpointDoc {
    listener: Listener::Manager,
    method: Method::Get,
    path: "/v1/clusters",
    operation: "listClusters",
    tag: "clusters",
    summary: "Kafka clusters that this gateway is configured with",
    details: "Whether they can be reached: `/readyz`.",
    auth: Auth::Admin,
    params: &[],
    request: &[],
    responses: &[ResponseDoc::with(
        200,
        "the clusters",
        &[ContentDoc {
            media_type: "application/json",
            what: "an array of names; `nickname` repeats the name for clients of 2017",
            example: Some(r#"[{"name":"main","nickname":"main"}]"#),
        }],
    )],
};

pub(crate) fn endpoint() -> Endpoint {
    tie(DOC, handle)
}

async fn handle(State(state): State<Shared>) -> Json<Value> {
    Json(state.clusters.keys().map(|name| json!({"name": name, "nickname": name})).collect())
}
