//! The manager beside the shards: its listener, its Kafka admin clients, what it is told about the gateway.

use crate::config::AuditTopic;
use crate::credentials::Credentials;
use crate::kproxy::Kproxy;
use crate::live::Controls;
use crate::node::Cluster;
use crate::tenants;
use agent::{Agent, Part};
use anyhow::{Context, Result, anyhow};
use authdb::{Admin, AuthDb};
use gateway::{Board, Gateway};
use kafka_admin::{AdminError, KafkaAdmin, NewTopic, TopicAdmin};
use manager::{
    AdminAccount, AuditRelay, Fleet, Handoff, LackingHook, ManagerState, Oidc, OidcConfig, Readiness, RefreshHook,
    RelayProgress, TopicRates,
};
use model::api_doc::EndpointDoc;
use model::ids::{AppId, ClusterName};
use model::{Generation, HistoryId, SecretHash};
use registry::{ConnectionState, NodeInfo, NodeState, Registry};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;

/// What the manager is told about the gateway it runs beside.
pub struct Surroundings<'a> {
    pub db: &'a Arc<dyn AuthDb>,
    pub agent: &'a Agent,
    pub gateway: &'a Arc<Gateway>,
    pub kproxy: Option<&'a Kproxy>,
    pub credentials: &'a Credentials,
    pub registry: Option<&'a Arc<dyn Registry>>,
    pub controls: &'a Arc<Controls>,
    /// As this node announced itself there.
    pub node: &'a NodeInfo,
    pub on_loopback: bool,
    pub cors_origins: &'a [String],
    pub oidc: Option<&'a OidcConfig>,
    /// What is kept of publishes that Kafka could not take.
    pub handoff: Option<&'a Arc<dyn Handoff>>,
    /// What is kept of messages that are to be published later.
    pub jobs: Option<&'a Arc<dyn manager::Jobs>>,
    /// How far the audit log is in its topic, if it has one.
    pub relayed: Option<&'a Arc<RelayProgress>>,
}

/// The control plane's hands: one admin client per cluster.
pub struct Manage {
    admins: BTreeMap<String, KafkaAdmin>,
}

/// Binds the manager's listener.
pub async fn bind(addr: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr} (manager)"))
}

impl Manage {
    /// Makes the admin clients; they connect when first needed.
    pub fn connect(clusters: &[Cluster]) -> Result<Manage> {
        let admins = clusters
            .iter()
            .map(|cluster| {
                let admin = KafkaAdmin::connect(cluster.spec.client.clone(), cluster.admin_tls.clone())
                    .with_context(|| format!("cluster {}", cluster.spec.name))?;
                Ok((cluster.spec.name.clone(), admin))
            })
            .collect::<Result<_>>()?;
        Ok(Manage { admins })
    }

    /// Makes the topic unless it is there; with as many replicas as brokers allow, up to `replicas_max`.
    pub async fn ensure_topic(&self, cluster: &str, name: &str, partitions: i32, replicas_max: usize) -> Result<()> {
        let admin = self.admin(cluster)?;
        let replicas = admin.broker_count().await?.clamp(1, replicas_max) as i16;
        let topic = NewTopic { name: name.to_owned(), partitions, replicas, configs: Vec::new() };
        match admin.create_topic(&topic).await {
            Ok(()) | Err(AdminError::AlreadyExists { .. }) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    /// What brings the audit log to its topic, while this process owns the snapshot of the data directory.
    pub fn audit_relay(
        &self,
        to: &AuditTopic,
        db: &Arc<dyn AuthDb>,
        agent: &Agent,
        data_dir: &Path,
    ) -> Result<AuditRelay> {
        let AuditTopic { cluster, topic } = to.clone();
        let agent = agent.clone();
        Ok(AuditRelay {
            db: Arc::clone(db),
            kafka: self.admin(cluster.as_str())?.clone(),
            cluster,
            topic,
            position_path: data_dir.join("audit.position"),
            is_ours: Box::new(move || agent.status().part == Part::Owner),
            progress: Arc::default(),
        })
    }

    fn admin(&self, cluster: &str) -> Result<&KafkaAdmin> {
        self.admins.get(cluster).ok_or_else(|| anyhow!("there is no cluster {cluster}"))
    }

    /// The manager's router, and what runs beside it.
    pub fn router(
        &self,
        surroundings: &Surroundings<'_>,
    ) -> Result<(axum::Router, impl Future<Output = ()> + Send + 'static)> {
        let Surroundings { db, agent, gateway, credentials, registry, node, .. } = *surroundings;
        let Surroundings { on_loopback, cors_origins, oidc, relayed, kproxy, .. } = *surroundings;
        let clusters = self
            .admins
            .iter()
            .map(|(name, admin)| {
                let name = ClusterName::new(name).with_context(|| format!("cluster name {name}"))?;
                Ok((name, Arc::new(admin.clone()) as Arc<dyn TopicAdmin>))
            })
            .collect::<Result<_>>()?;
        let metrics = Arc::clone(&gateway.metrics);
        Ok(manager::build(ManagerState {
            db: Arc::clone(db),
            oidc: oidc.cloned().map(Oidc::new).transpose().context("manager.oidc.jwks_file")?,
            admin: AdminAccount::new(Admin {
                appid: AppId::new(&credentials.admin_appid)?,
                key: SecretHash::of(credentials.admin_key.as_bytes()),
            }),
            clusters,
            refresh: refresh(agent.clone()),
            lacking: lacking(registry.cloned(), node.id.clone()),
            fleet: fleet(surroundings),
            handoff: surroundings.handoff.cloned(),
            jobs: surroundings.jobs.cloned(),
            resume_after: manager::limits::CREATING_FOR,
            metrics: {
                let (agent, relayed, kproxy) = (agent.clone(), relayed.cloned(), kproxy.map(Kproxy::counter));
                Arc::new(move || {
                    let relayed = relayed.as_ref().map_or(String::new(), |relayed| relayed.metrics());
                    let proxied = kproxy.as_ref().map_or(String::new(), |counted| counted());
                    metrics.render() + &agent::standing::metrics(&agent) + &relayed + &proxied
                })
            },
            openapi: openapi().into(),
            readiness: readiness(Arc::clone(&gateway.board), agent.clone()),
            rates: rates(Arc::clone(&gateway.board)),
            login_limiter: Arc::clone(&gateway.board.ledger.logins),
            denials: Mutex::default(),
            on_loopback,
            cors_origins: cors_origins.to_vec(),
        }))
    }
}

fn refresh(agent: Agent) -> RefreshHook {
    Arc::new(move || {
        let agent = agent.clone();
        Box::pin(async move { agent.refresh().await.map_err(|err| err.to_string()) })
    })
}

/// What the registered nodes have announced. This one has brought it into force by itself before anybody asks.
fn lacking(registry: Option<Arc<dyn Registry>>, this: String) -> LackingHook {
    Arc::new(move |generation| {
        let (registry, this) = (registry.clone(), this.clone());
        Box::pin(async move {
            let Some(registry) = registry else { return Ok(Vec::new()) };
            let nodes = registry.nodes(None).await.map_err(|err| err.to_string())?;
            let others = nodes.into_iter().filter(|node| node.id != this);
            let has = |node: &NodeInfo| {
                let applied = node.applied.as_ref()?;
                let history = HistoryId::parse(&applied.history)?;
                Some(Generation { history, number: applied.number })
            };
            let lacking = others.filter(|node| !has(node).is_some_and(|applied| applied.includes(generation)));
            Ok(lacking.map(|node| format!("{} {}", node.kind, node.id)).collect())
        })
    })
}

fn fleet(surroundings: &Surroundings<'_>) -> Fleet {
    let Surroundings { gateway, registry, controls, node, .. } = *surroundings;
    let (registry, checked) = (registry.cloned(), Arc::clone(controls));
    Fleet {
        registry: registry.clone(),
        this: node.id.clone(),
        check: Arc::new(move |options| checked.check(options)),
        status: {
            let (gateway, controls, node) = (Arc::clone(gateway), Arc::clone(controls), node.clone());
            let listening_since = Instant::now();
            Arc::new(move || {
                let live = controls.in_force();
                let draining = gateway.board.is_draining();
                json!({
                    "id": node.id,
                    "version": node.version,
                    "uptime_s": listening_since.elapsed().as_secs(),
                    "shards": gateway.shard_count(),
                    "connections": gateway.board.connections.total(),
                    "state": if draining { NodeState::Draining } else { NodeState::Serving }.as_str(),
                    "loglevel": live.log_level.as_str(),
                    "options": live.shown(),
                    "registry": registry.as_deref().map_or("none", |registry| match *registry.connection().borrow() {
                        ConnectionState::Connected { .. } => "connected",
                        ConnectionState::Suspended => "suspended",
                        ConnectionState::SessionLost => "lost",
                    }),
                })
            })
        },
    }
}

fn rates(board: Arc<Board>) -> Arc<dyn Fn(u32) -> TopicRates + Send + Sync> {
    Arc::new(move |topic| {
        let rates = board.traffic.rates(topic);
        TopicRates {
            publish_messages: rates.publish_messages,
            publish_bytes: rates.publish_bytes,
            subscribe_messages: rates.subscribe_messages,
            subscribe_bytes: rates.subscribe_bytes,
        }
    })
}

fn readiness(board: Arc<Board>, agent: Agent) -> Arc<dyn Fn() -> Readiness + Send + Sync> {
    Arc::new(move || {
        let readiness = board.readiness();
        let mut detail: serde_json::Value = serde_json::from_str(&readiness.to_json()).unwrap_or_default();
        detail["tenants"] = tenants::standing(&agent);
        Readiness { alive: !readiness.draining, ready: readiness.ready, detail }
    })
}

/// `/openapi.json`: the three listeners, from their lists of endpoints.
fn openapi() -> String {
    manager::openapi_json(&endpoints(), env!("CARGO_PKG_VERSION"))
}

fn endpoints() -> Vec<EndpointDoc> {
    let mut endpoints = manager::endpoints();
    endpoints.extend_from_slice(&gateway::endpoints::docs::all());
    endpoints
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rest_surface_of_all_listeners_is_as_written_down() {
        // A difference is a change of the public interface: CHANGELOG.md says so, then UPDATE_EXPECT=1 writes it down.
        expect_test::expect_file!["../openapi.golden.json"].assert_eq(&super::openapi());
    }

    #[test]
    fn the_listeners_together_have_no_mistakes() {
        let endpoints = super::endpoints();
        assert_eq!(model::api_doc::mistakes(&endpoints.iter().collect::<Vec<_>>()), Vec::<String>::new());
    }
}
