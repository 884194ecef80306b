//! `GET /v1/handoff` and `GET /v1/jobs`: what gateways keep, and how they are.

use std::cmp::Reverse;

use axum::Json;
use axum::extract::State;
use model::principals::Visible;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint as tie;
use super::kept::Kept;
use crate::caller::Caller;
use crate::error::ApiError;
use crate::fleet_ask::{Asker, Question};
use crate::input::Query;
use crate::{Endpoint, Shared};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    node: Option<String>,
}

pub(crate) fn of<K: Kept>() -> Endpoint {
    tie(K::DOCS.status, handle::<K>)
}

async fn handle<K: Kept>(
    State(state): State<Shared>,
    caller: Caller,
    asker: Asker,
    Query(params): Query<Params>,
) -> Result<Json<Value>, ApiError> {
    let nodes = state.nodes_to_ask(&asker, params.node.as_deref()).await?;
    let question = Question { method: "GET", path: K::DOCS.status.path.to_owned(), query: Vec::new(), body: None };
    let here = async {
        let status = K::status(K::store(&state)?).await.map_err(Into::into)?;
        Ok(json!({"nodes": [status_json::<K>(&status, &caller.visible)]}))
    };
    let answers = state.ask(&asker, &nodes, &question, here).await?;
    Ok(Json(json!({"nodes": answers.nodes(), "unreachable": answers.unreachable})))
}

/// As far as the caller sees.
fn status_json<K: Kept>(status: &K::Status, visible: &Visible) -> Value {
    let mut parts: Vec<&K::Part> = K::parts(status).iter().filter(|part| visible.includes(K::app(part))).collect();
    parts.sort_by_key(|part| Reverse(K::weight(part)));
    let (node, enabled) = K::node(status);
    let mut value = json!({"node": node, "enabled": enabled});
    let sees_all = *visible == Visible::All;
    for total in K::totals(status) {
        let of_parts = || parts.iter().map(|part| (total.of_part)(part)).sum::<u64>();
        value[total.name] = if sees_all { total.of_all } else { of_parts() }.into();
    }
    let left_out = parts.len().saturating_sub(K::PARTS_SHOWN_MAX);
    parts.truncate(K::PARTS_SHOWN_MAX);
    value[K::WORDS.parts] = parts.into_iter().map(K::part).collect();
    if left_out > 0 {
        value[K::WORDS.parts_left_out] = left_out.into();
    }
    if sees_all {
        for (name, of_all) in K::of_all(status) {
            value[name] = of_all;
        }
    }
    value
}
