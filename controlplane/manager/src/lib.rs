//! The management REST API on port 9193, as an axum router that a binary puts on a socket.
//!
//! What is wished of nodes goes through here, too ([`Fleet`]).
//!
//! Everything about tenants goes through here: apps, secrets, topics, grants. A change is made in Kafka first where
//! Kafka is concerned, then in the database, then it is brought into force ([`ManagerState::refresh`]), and only then
//! answered; so whoever is told that a topic exists can publish to it.
//!
//! [`endpoints()`] is the list of what is routed. Routing, authentication and OpenAPI are made from it; an endpoint
//! that is not described cannot be reached.
//!
//! Who may call what stands beside each endpoint's document and is asked by one guard ([`auth`]); `model::principals` has
//! the roles.

mod about;
mod audit_relay;
mod auth;
mod caller;
pub mod client;
mod endpoints;
mod error;
mod fleet;
mod fleet_ask;
mod fleet_pages;
pub mod handoff;
mod in_force;
mod input;
pub mod jobs;
mod jwt_crypto;
pub mod limits;
mod oidc;
mod page;
pub mod parked;
mod resume;
mod serve;
mod shell;
pub mod tokens;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authdb::AuthDb;
use axum::Router;
use axum::routing::MethodRouter;
use kafka_admin::TopicAdmin;
use model::api_doc::EndpointDoc;
use model::ids::ClusterName;
use model::login_limiter::LoginLimiter;

pub use audit_relay::{AuditRelay, RelayProgress};
pub use caller::AdminAccount;
pub use fleet::{CheckHook, Fleet, Options};
pub use handoff::{Handoff, HandoffError, HandoffStatus};
pub use in_force::{Answer, LackingHook, RefreshHook};
pub use jobs::Jobs;
pub use oidc::{JwksError, Oidc, OidcConfig};
pub use serve::serve;

use error::ApiError;

/// What the manager works with. Made by the binary; shared by all requests.
pub struct ManagerState {
    pub db: Arc<dyn AuthDb>,
    /// Who may call, as the database said last.
    pub admin: AdminAccount,
    /// Whose tokens are taken beside our own.
    pub oidc: Option<Oidc>,
    /// The clusters of the gateway's configuration.
    pub clusters: BTreeMap<ClusterName, Arc<dyn TopicAdmin>>,
    pub refresh: RefreshHook,
    pub lacking: LackingHook,
    pub fleet: Fleet,
    /// What this gateway keeps of publishes that Kafka could not take. `None`: it keeps none.
    pub handoff: Option<Arc<dyn Handoff>>,
    /// What this gateway keeps of messages that are to be published later. `None`: it keeps none.
    pub jobs: Option<Arc<dyn Jobs>>,
    /// A topic that is creating for so long is gone on with by itself: [`limits::CREATING_FOR`].
    pub resume_after: Duration,
    /// `/metrics`: Prometheus text exposition.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// `/openapi.json`, ready to send: [`openapi_json`].
    pub openapi: Arc<str>,
    pub readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    /// What goes through a topic version here, by its index.
    pub rates: Arc<dyn Fn(u32) -> TopicRates + Send + Sync>,
    /// Shared with the other listeners, so that failures are counted once.
    pub login_limiter: Arc<Mutex<LoginLimiter>>,
    /// Refusals since when that went into the audit log. A fresh manager has none: `Default`.
    pub denials: Mutex<(Option<Instant>, u32)>,
    /// The listener is on loopback: `/metrics` needs no credentials.
    pub on_loopback: bool,
    /// Origins whose pages may call, as `https://console.example.com`.
    pub cors_origins: Vec<String>,
}

/// Messages and bytes a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TopicRates {
    pub publish_messages: f64,
    pub publish_bytes: f64,
    pub subscribe_messages: f64,
    pub subscribe_bytes: f64,
}

/// What the health endpoints say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// `/alive`: false while draining, so that balancers of 2017 notice.
    pub alive: bool,
    /// `/readyz`: may take traffic.
    pub ready: bool,
    /// What goes into the body of `/readyz` beside `"ready"`: an object, for example the state of each cluster.
    pub detail: serde_json::Value,
}

type Shared = Arc<ManagerState>;

/// The router, to be served with [`serve`] (or with connect info, or all failed logins count as one address), and what
/// is to run beside it: it goes on with what was left half done.
pub fn build(state: ManagerState) -> (Router, impl Future<Output = ()> + Send + 'static) {
    jwt_crypto::install();
    let state: Shared = Arc::new(state);
    (router(Arc::clone(&state)), resume::run(state))
}

fn router(state: Shared) -> Router {
    let mut router = Router::new();
    for endpoint in endpoints::all() {
        let known: Arc<[&str]> = endpoint.doc.query_params().collect();
        let route = match endpoint.doc.request {
            [] => endpoint.route.route_layer(axum::middleware::from_fn(shell::check_no_body)),
            _ => endpoint.route,
        };
        let route = route.route_layer(axum::middleware::from_fn_with_state(known, shell::check_query));
        let path = endpoint.doc.template();
        let guard = auth::Guard { state: Arc::clone(&state), doc: Arc::new(endpoint.doc) };
        router = router.route(&path, route.route_layer(axum::middleware::from_fn_with_state(guard, auth::guard)));
    }
    router
        .method_not_allowed_fallback(shell::method_not_allowed)
        .fallback(shell::not_found)
        .layer(axum::middleware::from_fn(shell::check_head))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&state), shell::wrap))
        .with_state(state)
}

/// Every endpoint of the manager.
pub fn endpoints() -> Vec<EndpointDoc> {
    endpoints::all().into_iter().map(|endpoint| endpoint.doc).collect()
}

/// `/openapi.json` for these endpoints: the manager's own and those of other listeners.
pub fn openapi_json(endpoints: &[EndpointDoc], version: &str) -> String {
    let endpoints: Vec<&EndpointDoc> = endpoints.iter().collect();
    let document = model::openapi::document(&endpoints, version);
    serde_json::to_string_pretty(&document).expect("a document of strings and numbers")
}

/// One line of the list: what is said of an endpoint, and who answers it.
struct Endpoint {
    doc: EndpointDoc,
    route: MethodRouter<Shared>,
}

impl ManagerState {
    /// The named cluster's client.
    fn cluster(&self, name: &ClusterName) -> Result<&Arc<dyn TopicAdmin>, ApiError> {
        self.clusters.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.clusters.keys().map(ClusterName::as_str).collect();
            let message = format!("there is no cluster {name}, configured are: {}", known.join(", "));
            ApiError::not_found("no_such_cluster", message)
        })
    }
}
