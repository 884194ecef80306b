//! One question to every gateway of the fleet, or to one of them: what only the node itself can say or do.
//!
//! ```text
//! caller ─► this manager ─┬─ itself
//!                         ├─► manager of gw-2   ?node=gw-2, the caller's credentials, X-Gafka-Asked-By: gw-1
//!                         └─► manager of gw-3   no answer: named in `unreachable`
//! ```
//! Whoever is asked by another manager answers for itself or not at all, so that no question goes round in circles, whatever
//! the registry says of addresses. A node that gives no answer is named with the reason, never left out in silence.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::Side;
use model::api_doc::{FieldDoc, Kind, ParamDoc, Schema};
use model::presented::{BasicBuffer, Presented};
use registry::NodeKind;
use serde_json::{Value, json};

use crate::client::{AdminClient, ClientError};
use crate::error::ApiError;
use crate::handoff::Handoff;
use crate::jobs::Jobs;
use crate::limits::{NODE_ANSWERS_WITHIN, RETRY_AFTER_BUSY_S};
use crate::shell::RequestId;
use crate::{ManagerState, Shared};

/// Names the node that passes a question on.
const ASKED_BY: &str = "x-gafka-asked-by";

pub(crate) const P_NODE: ParamDoc = ParamDoc::query(
    "node",
    Kind::Pattern("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$"),
    "only this gateway, as it is registered; not given: all of them",
);

/// Nodes that gave no answer.
pub(crate) const UNREACHABLE: FieldDoc = FieldDoc::must(
    "unreachable",
    Schema::Array(&MISSING),
    "gateways that gave no answer, and what they have is not told",
);
const MISSING: Schema = Schema::Object(&[
    FieldDoc::must("node", Schema::TEXT, "its id"),
    FieldDoc::must("why", Schema::TEXT, "a sentence"),
]);

/// Whose question it is, as other nodes have to be told.
pub(crate) struct Asker {
    authorization: String,
    request_id: String,
    asked_by: Option<String>,
}

impl FromRequestParts<Shared> for Asker {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &Shared) -> Result<Self, ApiError> {
        let asked_by = parts.headers.get(ASKED_BY).map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
        let request_id = parts.extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        Ok(Asker { authorization: authorization(&parts.headers)?, request_id, asked_by })
    }
}

/// The credentials that the guard let in, in one header.
fn authorization(headers: &HeaderMap) -> Result<String, ApiError> {
    let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let presented = Presented::from_headers(headers, Side::Publish);
    if let Some(token) = presented.bearer() {
        return Ok(format!("Bearer {}", String::from_utf8_lossy(token)));
    }
    let mut buffer = BasicBuffer::default();
    let credentials = presented.credentials(&mut buffer)?;
    let pair = [credentials.app.as_bytes(), b":", credentials.key].concat();
    Ok(format!("Basic {}", STANDARD.encode(pair)))
}

/// What is asked of a node: the same that this one was asked.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
}

/// Who is to answer.
pub(crate) struct Nodes {
    /// Managers' addresses by node id. `None`: this node itself. Empty: it has not said where its manager is.
    addresses: BTreeMap<String, Option<String>>,
    is_one: bool,
}

impl Nodes {
    /// One was named, so its word is the answer.
    pub(crate) fn is_one(&self) -> bool {
        self.is_one
    }

    /// In their order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.addresses.keys().map(String::as_str)
    }
}

/// What came of a question.
#[derive(Default)]
pub(crate) struct Answers {
    /// By node.
    pub(crate) of: BTreeMap<String, Value>,
    pub(crate) unreachable: Vec<Value>,
}

impl Answers {
    /// What each node says of itself, where answers are `{"nodes": [..]}`.
    pub(crate) fn nodes(&self) -> Vec<&Value> {
        self.of.values().filter_map(|answer| answer["nodes"].as_array()).flatten().collect()
    }

    pub(crate) fn take(&mut self, node: &str, answer: Result<Value, ApiError>) {
        match answer {
            Ok(answer) => drop(self.of.insert(node.to_owned(), answer)),
            Err(err) => {
                tracing::warn!(node, why = err.message, "a gateway gave no answer");
                self.unreachable.push(json!({"node": node, "why": err.message}));
            }
        }
    }
}

impl ManagerState {
    pub(crate) fn handoff(&self) -> Result<&Arc<dyn Handoff>, ApiError> {
        let message = || format!("gateway {} keeps no publishes", self.fleet.this);
        self.handoff.as_ref().ok_or_else(|| ApiError::new(StatusCode::CONFLICT, "no_handoff", message()))
    }

    pub(crate) fn jobs(&self) -> Result<&Arc<dyn Jobs>, ApiError> {
        let message = || format!("gateway {} keeps no delayed jobs", self.fleet.this);
        self.jobs.as_ref().ok_or_else(|| ApiError::new(StatusCode::CONFLICT, "no_jobs", message()))
    }

    /// The node that is named, or all gateways; whoever is asked by another manager speaks for itself alone.
    pub(crate) async fn nodes_to_ask(&self, asker: &Asker, node: Option<&str>) -> Result<Nodes, ApiError> {
        let this = &self.fleet.this;
        let only_this = || Nodes { addresses: BTreeMap::from([(this.clone(), None)]), is_one: true };
        if node.is_some_and(|node| node == this) {
            return Ok(only_this());
        }
        if let Some(by) = &asker.asked_by {
            let message = format!("this is node {this}; what {by} asks is for {}", node.unwrap_or("all of them"));
            return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", message));
        }
        let registered = self.fleet.nodes().await?.into_iter().filter(|node| node.kind == NodeKind::Kateway);
        let mut addresses: BTreeMap<String, Option<String>> =
            registered.map(|mut node| (node.id, Some(node.addresses.remove("man").unwrap_or_default()))).collect();
        addresses.insert(this.clone(), None);
        let Some(id) = node else { return Ok(Nodes { addresses, is_one: false }) };
        addresses.retain(|known, _| known == id);
        match addresses.is_empty() {
            true => Err(ApiError::not_found("no_such_instance", format!("no gateway {id:?} is registered"))),
            false => Ok(Nodes { addresses, is_one: true }),
        }
    }

    /// Asks all of them at once; `here` is this node's own answer. Of a single node its refusal is the answer, and so is
    /// what is wrong with the question itself.
    pub(crate) async fn ask(
        &self,
        asker: &Asker,
        nodes: &Nodes,
        question: &Question,
        here: impl Future<Output = Result<Value, ApiError>>,
    ) -> Result<Answers, ApiError> {
        let mut others = tokio::task::JoinSet::new();
        for (node, address) in &nodes.addresses {
            if let Some(address) = address {
                let (node, asking) = (node.clone(), self.ask_other(asker, node, address, question));
                others.spawn(async move { (node, asking.await) });
            }
        }
        let mut answers = Answers::default();
        if nodes.addresses.contains_key(&self.fleet.this) {
            match here.await {
                Err(err) if nodes.is_one || err.status == StatusCode::BAD_REQUEST => return Err(err),
                answer => answers.take(&self.fleet.this, answer),
            }
        }
        while let Some(asked) = others.join_next().await {
            let (node, answer) = asked.expect("asking a node does not panic");
            match answer {
                Err(err) if nodes.is_one => return Err(err),
                answer => answers.take(&node, answer),
            }
        }
        answers.unreachable.sort_by_key(|missing| missing["node"].to_string());
        Ok(answers)
    }

    /// As [`ManagerState::ask`], one of the nodes.
    pub(crate) async fn ask_one(
        &self,
        asker: &Asker,
        nodes: &Nodes,
        node: &str,
        question: &Question,
        here: impl Future<Output = Result<Value, ApiError>>,
    ) -> Result<Value, ApiError> {
        match &nodes.addresses[node] {
            None => here.await,
            Some(address) => self.ask_other(asker, node, address, question).await,
        }
    }

    fn ask_other(
        &self,
        asker: &Asker,
        node: &str,
        address: &str,
        question: &Question,
    ) -> impl Future<Output = Result<Value, ApiError>> + Send + use<> {
        let client = AdminClient::passing_on(
            &format!("http://{address}"),
            asker.authorization.clone(),
            vec![(ASKED_BY, self.fleet.this.clone()), ("x-request-id", asker.request_id.clone())],
            NODE_ANSWERS_WITHIN,
        );
        let (node, mut question) = (node.to_owned(), question.clone());
        async move {
            question.query.push(("node", node.clone()));
            let query: Vec<(&str, &str)> = question.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let asked = match client {
                Ok(client) => client.request(question.method, &question.path, &query, question.body.as_ref()).await,
                Err(err) => Err(err),
            };
            asked.map_err(|err| no_answer(&node, err))
        }
    }
}

/// A refusal is passed on as it is, as far as its code is one of ours.
fn no_answer(node: &str, err: ClientError) -> ApiError {
    let (status, message) = match &err {
        ClientError::Refused { status, message, .. } => (*status, format!("gateway {node}: {message}")),
        err => {
            let cause = std::error::Error::source(err).map_or(String::new(), |cause| format!(": {cause}"));
            (503, format!("gateway {node} gave no answer: {err}{cause}"))
        }
    };
    match StatusCode::from_u16(status) {
        Ok(status) if status.is_client_error() => ApiError::new(status, "refused_by_instance", message),
        _ => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "instance_unreachable", message)
            .retry_after(RETRY_AFTER_BUSY_S),
    }
}
