//! The manager beside the shards: its listener, its Kafka admin clients, what it is told about the gateway.

use crate::credentials::Credentials;
use crate::node::Cluster;
use agent::Agent;
use anyhow::{Context, Result, anyhow};
use authdb::{Admin, AuthDb};
use gateway::Gateway;
use kafka_admin::{AdminError, KafkaAdmin, NewTopic, TopicAdmin};
use manager::{ManagerState, Readiness, RefreshHook};
use model::SecretHash;
use model::ids::{AppId, ClusterName};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// What the manager is told about the gateway it runs beside.
pub struct Surroundings<'a> {
    pub db: &'a AuthDb,
    pub agent: &'a Agent,
    pub gateway: &'a Arc<Gateway>,
    pub credentials: &'a Credentials,
    pub on_loopback: bool,
    pub cors_origins: &'a [String],
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
        let admin = self.admins.get(cluster).ok_or_else(|| anyhow!("there is no cluster {cluster}"))?;
        let replicas = admin.broker_count().await?.clamp(1, replicas_max) as i16;
        let topic = NewTopic { name: name.to_owned(), partitions, replicas, configs: Vec::new() };
        match admin.create_topic(&topic).await {
            Ok(()) | Err(AdminError::AlreadyExists { .. }) => Ok(()),
            Err(err) => Err(err.into()),
        }
    }

    /// The manager's router.
    pub fn router(&self, surroundings: &Surroundings<'_>) -> Result<axum::Router> {
        let Surroundings { db, agent, gateway, credentials, on_loopback, cors_origins } = *surroundings;
        let clusters = self
            .admins
            .iter()
            .map(|(name, admin)| {
                let name = ClusterName::new(name).with_context(|| format!("cluster name {name}"))?;
                Ok((name, Arc::new(admin.clone()) as Arc<dyn TopicAdmin>))
            })
            .collect::<Result<_>>()?;
        let agent = agent.clone();
        let refresh: RefreshHook = Arc::new(move || {
            let agent = agent.clone();
            Box::pin(async move { agent.refresh().await.map(drop).map_err(|err| err.to_string()) })
        });
        let metrics = Arc::clone(&gateway.metrics);
        let board = Arc::clone(&gateway.board);
        Ok(manager::router(ManagerState {
            db: db.clone(),
            admin: Admin {
                appid: AppId::new(&credentials.admin_appid)?,
                key: SecretHash::of(credentials.admin_key.as_bytes()),
            },
            clusters,
            refresh,
            metrics: Arc::new(move || metrics.render()),
            openapi: openapi().into(),
            readiness: Arc::new(move || {
                let readiness = board.readiness();
                Readiness {
                    alive: !readiness.draining,
                    ready: readiness.ready,
                    detail: serde_json::from_str(&readiness.to_json()).unwrap_or_default(),
                }
            }),
            login_limiter: Arc::clone(&gateway.board.logins),
            on_loopback,
            cors_origins: cors_origins.to_vec(),
        }))
    }
}

/// `/openapi.json`: the three listeners, from their lists of endpoints.
fn openapi() -> String {
    let mut endpoints = manager::endpoints();
    endpoints.extend_from_slice(&gateway::endpoints::docs::all());
    manager::openapi_json(&endpoints, env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_rest_surface_of_all_listeners_is_as_written_down() {
        // A difference is a change of the public interface: CHANGELOG.md says so, then UPDATE_EXPECT=1 writes it down.
        expect_test::expect_file!["../openapi.golden.json"].assert_eq(&super::openapi());
    }
}
