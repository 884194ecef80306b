//! The nodes of the fleet, and what is wished of them.
//!
//! A change is a wish in the registry: the whole of what is wished of a node, of the next revision. The node obeys it and
//! says so, or says why it cannot; whoever asked waits for that a moment, as for a revocation ([`crate::in_force`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use authdb::AuthDb;
use axum::Json;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use registry::{NodeInfo, NodeWish, Registry};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::limits::{RETRY_AFTER_BUSY_S, REVOKED_WITHIN};

/// Options by key.
pub type Options = BTreeMap<String, String>;

/// Whether options could be obeyed; its error is a sentence.
pub type CheckHook = Arc<dyn Fn(&Options) -> Result<(), String> + Send + Sync>;

/// What the manager knows of the fleet and of the node that it is part of.
pub struct Fleet {
    /// `None`: this node could not use it, and knows of nobody.
    pub registry: Option<Arc<dyn Registry>>,
    /// This node's id.
    pub this: String,
    pub check: CheckHook,
    /// `/v1/status`.
    pub status: Arc<dyn Fn() -> Value + Send + Sync>,
}

/// What somebody wants to be otherwise.
pub(crate) enum Change {
    Drain(bool),
    /// `None`: as it is configured.
    Options(BTreeMap<String, Option<String>>),
}

impl Change {
    fn operation(&self) -> &'static str {
        match self {
            Change::Drain(true) => "instance.drain",
            Change::Drain(false) => "instance.undrain",
            Change::Options(_) => "instance.options",
        }
    }

    fn apply(self, wish: &mut NodeWish) {
        match self {
            Change::Drain(drain) => wish.drain = drain,
            Change::Options(changed) => {
                for (key, value) in changed {
                    match value {
                        Some(value) => drop(wish.options.insert(key, value)),
                        None => drop(wish.options.remove(&key)),
                    }
                }
            }
        }
    }
}

impl Fleet {
    fn registry(&self) -> Result<&Arc<dyn Registry>, ApiError> {
        self.registry.as_ref().ok_or_else(|| away("this node could not use the registry when it started"))
    }

    pub(crate) async fn nodes(&self) -> Result<Vec<NodeInfo>, ApiError> {
        Ok(self.registry()?.nodes(None).await?)
    }

    pub(crate) async fn node(&self, id: &str) -> Result<NodeInfo, ApiError> {
        let node = self.nodes().await?.into_iter().find(|node| node.id == id);
        node.ok_or_else(|| ApiError::not_found("no_such_instance", format!("no node {id:?} is registered")))
    }

    /// What is wished of a node that it neither obeys nor refuses yet.
    pub(crate) async fn pending(&self, node: &NodeInfo) -> Result<Option<NodeWish>, ApiError> {
        let wished = self.registry()?.wish(node.kind, &node.id).await?;
        Ok(wished.filter(|wish| wish.revision > revision_seen(node)))
    }

    /// Changes what is wished of a node, writes that down in `db`, and waits for the node.
    pub(crate) async fn wish(&self, db: &dyn AuthDb, id: &str, change: Change) -> Result<Response, ApiError> {
        let node = self.node(id).await?;
        let Some(obeyed) = node.obeys.clone() else {
            let message = format!("{} {id} is of version {}, which obeys no wishes", node.kind, node.version);
            return Err(ApiError::new(StatusCode::CONFLICT, "obeys_nobody", message));
        };
        let pending = self.pending(&node).await?;
        let last = pending.as_ref().map_or(revision_seen(&node), |wish| wish.revision);
        let before = pending.unwrap_or(obeyed);
        let mut wish = before.clone();
        let operation = change.operation();
        change.apply(&mut wish);
        if wish != before {
            (self.check)(&wish.options).map_err(|why| ApiError::bad_request("bad_option", why))?;
            wish.revision = last + 1;
            // First, so that there is no change without its row; of two at the same time one is refused after it.
            let subject = format!("{} {id}", node.kind);
            db.record(operation, "", &subject, shown(&before), shown(&wish)).await?;
            self.registry()?.set_wish(node.kind, id, &wish).await?;
            tracing::info!(id, operation, revision = wish.revision, "something is wished of a node");
        }
        self.wait_for(node, wish).await
    }

    /// Until the node obeys or refuses, or is gone; the answer.
    async fn wait_for(&self, node: NodeInfo, wish: NodeWish) -> Result<Response, ApiError> {
        let is_it = |other: &NodeInfo| other.kind == node.kind && other.id == node.id && wish.is_for(other);
        let mut nodes = self.registry()?.watch(Some(node.kind)).await?;
        let settled = nodes.wait_for(|nodes| {
            nodes.iter().find(|node| is_it(node)).is_none_or(|node| revision_seen(node) >= wish.revision)
        });
        let found = match tokio::time::timeout(REVOKED_WITHIN, settled).await {
            Ok(nodes) => nodes.map_err(|_| away("the registry is closed"))?.iter().find(|node| is_it(node)).cloned(),
            Err(_) => return Ok(accepted(&node, &wish)),
        };
        let Some(found) = found else {
            let message = format!("{} {} has left meanwhile", node.kind, node.id);
            return Err(ApiError::not_found("no_such_instance", message));
        };
        match found.refuses.filter(|refused| refused.revision >= wish.revision) {
            Some(refused) => {
                let message = format!("{} {} cannot obey: {}", node.kind, node.id, refused.why);
                Err(ApiError::new(StatusCode::CONFLICT, "refused_by_instance", message))
            }
            None => {
                let (state, obeyed) = (found.state.as_str(), found.obeys.unwrap_or(wish));
                let body = json!({"ok": 1, "id": found.id, "revision": obeyed.revision, "state": state});
                Ok(Json(body).into_response())
            }
        }
    }
}

/// The last revision that the node has settled, for or against.
fn revision_seen(node: &NodeInfo) -> u64 {
    let obeys = node.obeys.as_ref().map_or(0, |wish| wish.revision);
    obeys.max(node.refuses.as_ref().map_or(0, |refused| refused.revision))
}

pub(crate) fn shown(wish: &NodeWish) -> Value {
    json!({"revision": wish.revision, "drain": wish.drain, "options": wish.options})
}

fn accepted(node: &NodeInfo, wish: &NodeWish) -> Response {
    let lacking = [format!("{} {}", node.kind, node.id)];
    let body = json!({"ok": 1, "id": node.id, "revision": wish.revision, "in_force": false, "lacking": lacking});
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    let at = format!("/v1/instances/{}", node.id);
    response.headers_mut().insert(LOCATION, at.try_into().expect("an id is letters, digits, dots, _ and -"));
    response
}

pub(crate) fn away(why: &str) -> ApiError {
    let message = format!("nobody knows which nodes are up: {why}");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "registry_away", message).retry_after(RETRY_AFTER_BUSY_S)
}
