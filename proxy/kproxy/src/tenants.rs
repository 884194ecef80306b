//! The apps of a kateway, for a proxy on the same machine: what kateway's agent pushes goes to the shards, what all shards
//! have is announced in kateway's registry, the limits of apps are shared with everybody who serves them, and what is to stand
//! in the audit log is told to kateway's agent.
//!
//! Nothing here waits for a kateway. While it is away the last good snapshot of its data directory serves.

use crate::settings::{Settings, TenantKeys};
use agent::{Agent, AgentConfig, Feed, Shards, Source, standing};
use anyhow::{Context, Result, anyhow};
use daemon::{HostPort, brokers, files};
use kafka_client::{Mechanism, Sasl};
use model::{AuditEvent, ClusterName, Ledger};
use registry::node_dir::{self, NodeDir};
use registry::{LocalRegistry, NodeInfo, NodeKind, NodeState, Registration, Registry};
use router::{Proxy, TenantConfig};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// The ready line waits so long for the registry: who reads the line finds the proxy there.
const REGISTRY_WAIT: Duration = Duration::from_secs(1);

/// One per process.
pub struct Tenants {
    agent: Agent,
    feed: Feed,
    ledger: Arc<Ledger>,
    audit: SyncSender<AuditEvent>,
    data_dir: PathBuf,
    cluster: ClusterName,
    node: String,
    /// Held until the process ends: the id is ours so long.
    _node_dir: Option<NodeDir>,
    registry: Option<Arc<dyn Registry>>,
    registration: Mutex<Option<Arc<Registration>>>,
    stale_after_ms: AtomicU64,
}

impl Tenants {
    /// Has a snapshot, if there is one; nobody is served yet.
    pub async fn start(settings: &Settings, data_dir: &Path) -> Result<Tenants> {
        files::make_private_dir(data_dir)
            .with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
        let (node, node_dir) = node_id(data_dir)?;
        let (feed, applied) = Feed::new();
        let (audit, events) = agent::audit::channel();
        let agent = Agent::start(
            AgentConfig {
                db: None,
                snapshot_path: data_dir.join("snapshot.json"),
                socket_path: Some(agent::socket_path(data_dir)),
                node: node.clone(),
                applied: Some(applied),
                poll_period: agent::limits::POLL_PERIOD,
                audit: Some(events),
            },
            feed.publisher(),
        )
        .await;
        let ledger = Arc::new(Ledger::new(random()?, settings.connections_per_app, Instant::now()));
        let tenants = Tenants {
            agent,
            feed,
            ledger,
            audit,
            data_dir: data_dir.to_owned(),
            cluster: ClusterName::new(&settings.tenants.cluster).context("tenants.cluster")?,
            node,
            _node_dir: node_dir,
            registry: open_registry(data_dir),
            registration: Mutex::default(),
            stale_after_ms: AtomicU64::default(),
        };
        tenants.reload(settings);
        Ok(tenants)
    }

    /// What the shards are started with.
    pub fn config(&self, keys: &TenantKeys, sasl: &brokers::Sasl) -> Result<TenantConfig> {
        Ok(TenantConfig {
            cluster: self.cluster.clone(),
            login: login(sasl)?,
            snapshot: self.feed.latest(),
            ledger: Arc::clone(&self.ledger),
            access_log: keys.access_log.clone(),
            audit: Some(self.audit.clone()),
        })
    }

    /// Registers the proxy, and feeds it from now on. `advertised`: the host that clients are told.
    pub async fn connect(&self, proxy: &Arc<Proxy>, advertised: &str) {
        let bootstrap = bootstrap(proxy, advertised);
        let registration = self.registry.clone().map(|registry| {
            let info = node_info(&self.node, self.cluster.as_str(), &bootstrap);
            Arc::new(Registration::keep(registry, info))
        });
        self.feed.connect(vec![shards(proxy)], registration.as_ref());
        *self.registration.lock().unwrap_or_else(PoisonError::into_inner) = registration.clone();
        tokio::spawn(agent::share_limits(
            self.agent.clone(),
            Arc::clone(&self.ledger),
            self.data_dir.clone(),
            self.node.clone(),
            self.registry.clone(),
        ));
        if let Some(registration) = registration {
            // What takes longer is told by the registration.
            let _ = tokio::time::timeout(REGISTRY_WAIT, registration.registered()).await;
        }
    }

    /// Takes the values that are live.
    pub fn reload(&self, settings: &Settings) {
        let stale_after_ms = u64::try_from(settings.tenants.stale_after.as_millis()).unwrap_or(u64::MAX);
        self.stale_after_ms.store(stale_after_ms, Ordering::Relaxed);
        self.ledger.connections.set_max(settings.connections_per_app);
    }

    /// Why this proxy should get no traffic, as far as its tenants are concerned.
    pub fn unready(&self) -> Option<String> {
        let status = self.agent.status();
        if status.source == Source::Nothing && status.confirmed_at.is_none() {
            let dir = self.data_dir.display();
            return Some(format!("nobody is served: {dir} has no snapshot.json, and no kateway that runs there"));
        }
        standing::stale(&self.agent, Duration::from_millis(self.stale_after_ms.load(Ordering::Relaxed)))
    }

    pub fn metrics(&self) -> String {
        standing::metrics(&self.agent)
    }

    /// Nobody is sent here any more, and nobody waits for this proxy when something is revoked.
    pub async fn leave(&self) {
        let registration = self.registration.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(registration) = registration {
            registration.end().await;
        }
    }

    /// After the drain: the shards have ended.
    pub async fn stop(&self) {
        self.agent.stop().await;
        self.feed.disconnect();
    }
}

fn shards(proxy: &Arc<Proxy>) -> Shards {
    let proxy = || Arc::clone(proxy);
    let (told, asked, dropping, ending) = (proxy(), proxy(), proxy(), proxy());
    Shards {
        set_snapshot: Box::new(move |snapshot| told.set_snapshot(snapshot)),
        applied_edition: Box::new(move || asked.applied_edition()),
        drop_retired: Box::new(move || dropping.drop_retired()),
        is_finished: Box::new(move || ending.is_finished()),
    }
}

/// How the proxy logs in at the brokers; reads the password file.
fn login(sasl: &brokers::Sasl) -> Result<Option<Sasl>> {
    let Some(mechanism) = sasl.mechanism else { return Ok(None) };
    let mechanism = match mechanism {
        brokers::Mechanism::Plain => Mechanism::Plain,
        brokers::Mechanism::ScramSha256 => Mechanism::ScramSha256,
        brokers::Mechanism::ScramSha512 => Mechanism::ScramSha512,
    };
    let password = sasl.password().context("cannot read upstream.sasl.password_file")?.expose().to_owned();
    Ok(Some(Sasl { mechanism, username: sasl.username.clone(), password }))
}

/// Apart from kateway's node directories: one of those may hold messages that only a kateway delivers.
fn node_id(data_dir: &Path) -> Result<(String, Option<NodeDir>)> {
    match node_dir::claim(&data_dir.join("kproxy")) {
        Ok(node_dir) => Ok((node_dir.id.to_string(), Some(node_dir))),
        Err(err) => {
            let err = format!("{:#}", anyhow!(err));
            tracing::warn!(err, "this proxy has no place on disk, and another id after each start");
            Ok((format!("{:016x}", u64::from_be_bytes(random()?)), None))
        }
    }
}

/// A registry that cannot be used is no reason not to serve.
fn open_registry(data_dir: &Path) -> Option<Arc<dyn Registry>> {
    match LocalRegistry::open(&data_dir.join("registry")) {
        Ok(registry) => Some(Arc::new(registry)),
        Err(err) => {
            tracing::warn!(%err, "this proxy is not registered: nobody waits for it when something is revoked");
            None
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|err| anyhow!("no randomness from the operating system: {err}"))?;
    Ok(bytes)
}

/// Where clients begin.
fn bootstrap(proxy: &Proxy, advertised: &str) -> HostPort {
    let address = proxy.bootstrap();
    let host = if advertised.is_empty() { address.ip().to_string() } else { advertised.to_owned() };
    HostPort { host, port: address.port() }
}

/// What is announced of this proxy. `kafka` is where it listens, and `kafka.CLUSTER` says for which cluster.
fn node_info(node: &str, cluster: &str, bootstrap: &HostPort) -> NodeInfo {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let address = bootstrap.to_string();
    NodeInfo {
        kind: NodeKind::Kproxy,
        id: node.to_owned(),
        zone: "local".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: bootstrap.host.clone(),
        pid: std::process::id(),
        started_at_ms: since_epoch.map_or(0, |since| since.as_millis() as i64),
        addresses: BTreeMap::from([("kafka".to_owned(), address.clone()), (format!("kafka.{cluster}"), address)]),
        applied: None,
        state: NodeState::Serving,
        obeys: None,
        refuses: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_keeps_its_id_and_never_takes_a_gateways_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let (first, held) = node_id(dir.path()).expect("an id");
        let (second, _second_held) = node_id(dir.path()).expect("another");
        assert_ne!(first, second, "two proxies of one directory");
        drop(held);
        assert_eq!(node_id(dir.path()).expect("the first again").0, first);
        let gateways = node_dir::claim(dir.path()).expect("a place");
        assert!(![first, second].contains(&gateways.id.to_string()));
    }

    #[test]
    fn a_node_says_where_kafka_clients_of_its_cluster_are_welcome() {
        let bootstrap = HostPort { host: "::1".to_owned(), port: 9092 };
        let node = node_info("n1", "main", &bootstrap);
        let addresses: Vec<String> = node.addresses.iter().map(|(name, address)| format!("{name} {address}")).collect();
        assert_eq!(addresses, ["kafka [::1]:9092", "kafka.main [::1]:9092"]);
        assert_eq!((node.kind, node.obeys), (NodeKind::Kproxy, None));
    }
}
