//! When a change is in force: where it was made, and on every node that is registered.
//!
//! A revocation is answered 200 when every node has it, or 202 with where to ask and who lacks it: whoever was told 200
//! knows that the secret, the grant or the topic is of no use any more, anywhere. Other changes wait a moment for the
//! other nodes, for whoever goes there next, and are answered the same in any case.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use model::Generation;
use serde_json::{Value, json};

use crate::ManagerState;
use crate::limits::{ADDED_WITHIN, LOOK_EVERY, REVOKED_WITHIN};

/// What a hook of this manager answers.
pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Brings changes into force on this node now; the generation that then is. Its error is a sentence: the change is safe
/// in the database and comes into force with a later poll.
pub type RefreshHook = Arc<dyn Fn() -> Answer<Result<Generation, String>> + Send + Sync>;

/// Registered nodes that do not have a generation in force, as people call them. Its error is a sentence: nobody knows.
pub type LackingHook = Arc<dyn Fn(Generation) -> Answer<Result<Vec<String>, String>> + Send + Sync>;

/// How far a change has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// `None`: not even the database says.
    pub generation: Option<Generation>,
    /// Who lacks it; nobody: it is in force.
    pub lacking: Vec<String>,
}

impl Standing {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "generation": self.generation.map(|generation| generation.to_string()),
            "in_force": self.lacking.is_empty(),
            "lacking": self.lacking,
        })
    }

    /// 200 with `body`, or 202 with what is lacking as well.
    pub(crate) fn answer(self, body: Value) -> Response {
        if self.lacking.is_empty() {
            return Json(body).into_response();
        }
        let mut accepted = self.to_json();
        for (name, value) in body.as_object().into_iter().flatten() {
            accepted[name] = value.clone();
        }
        let mut response = (StatusCode::ACCEPTED, Json(accepted)).into_response();
        if let Some(generation) = self.generation {
            let at = format!("/v1/generations/{generation}");
            response.headers_mut().insert(LOCATION, at.try_into().expect("digits, letters and slashes"));
        }
        response
    }
}

impl ManagerState {
    /// After a change that gives: here at once, elsewhere in a moment.
    pub(crate) async fn bring_into_force(&self) {
        let standing = self.come_into_force(ADDED_WITHIN).await;
        if !standing.lacking.is_empty() {
            tracing::warn!(lacking = standing.lacking.join(", "), "change is stored and not in force everywhere yet");
        }
    }

    /// After a change that takes away.
    pub(crate) async fn revoke(&self) -> Standing {
        let standing = self.come_into_force(REVOKED_WITHIN).await;
        if !standing.lacking.is_empty() {
            tracing::warn!(
                lacking = standing.lacking.join(", "),
                "revocation is stored and not in force everywhere yet"
            );
        }
        standing
    }

    async fn come_into_force(&self, within: Duration) -> Standing {
        let until = Instant::now() + within;
        loop {
            let standing = match (self.refresh)().await {
                Ok(generation) => self.standing(generation).await,
                Err(why) => {
                    Standing { generation: self.db.generation().await.ok(), lacking: vec![format!("this node: {why}")] }
                }
            };
            if standing.lacking.is_empty() || Instant::now() >= until {
                return standing;
            }
            // What this node has is settled; the others are asked on.
            if let Some(generation) = standing.generation
                && !standing.lacking.iter().any(|node| node.starts_with("this node"))
            {
                return self.wait_for_others(generation, until).await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn wait_for_others(&self, generation: Generation, until: Instant) -> Standing {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let standing = self.standing(generation).await;
            if standing.lacking.is_empty() || Instant::now() >= until {
                return standing;
            }
        }
    }

    /// Who lacks this generation now.
    pub(crate) async fn standing(&self, generation: Generation) -> Standing {
        let lacking = match (self.lacking)(generation).await {
            Ok(lacking) => lacking,
            Err(why) => vec![format!("the registry cannot say who is there: {why}")],
        };
        Standing { generation: Some(generation), lacking }
    }
}
