//! One gateway process from start to end: auth DB, snapshot, shards, manager, registration, drain.
//!
//! The main thread runs the control plane on a current-thread tokio; the shards have their own threads. Nothing the
//! shards do waits for it.

use crate::credentials::Credentials;
use crate::manage::{self, Manage, Surroundings};
use agent::{Agent, AgentConfig};
use anyhow::{Context, Result, anyhow};
use authdb::AuthDb;
use daemon::notify::notify;
use daemon::{Signal, Signals};
use gateway::{ClusterSpec, Gateway, GatewayConfig, GatewayParts, Listeners};
use model::ids::{AppId, Generation};
use model::{PlainSecret, Snapshot};
use registry::node_dir::{self, NodeDir};
use registry::{AppliedGeneration, LocalRegistry, NodeInfo, NodeKind, Registration};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// The ready line waits so long for a first cluster; after that the node says it is up, and `/readyz` says what is
/// missing.
const FIRST_CLUSTER_WAIT: Duration = Duration::from_secs(10);
/// And so long for the registry: who reads the line finds the node there.
const REGISTRY_WAIT: Duration = Duration::from_secs(1);
/// After the drain limit, answers get so long to reach the network before the process ends.
const LAST_ANSWERS: Duration = Duration::from_millis(1500);
/// Manager requests in flight get so long at the end.
const MANAGER_GRACE: Duration = Duration::from_millis(500);
/// How often a running drain, or a snapshot on its way to the shards, is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// The admin's app id.
const ADMIN_APPID: &str = "admin";

/// What a node is started from; checked values only.
pub struct NodeConfig {
    pub data_dir: PathBuf,
    pub listen_pub: SocketAddr,
    pub listen_sub: SocketAddr,
    pub listen_man: SocketAddr,
    pub gateway: GatewayConfig,
    pub clusters: Vec<Cluster>,
    pub access_log: Option<PathBuf>,
    pub drain_delay: Duration,
    pub drain_limit: Duration,
}

/// A Kafka cluster for both planes: the shards' client and the control plane's.
#[derive(Clone)]
pub struct Cluster {
    pub spec: ClusterSpec,
    pub admin_tls: Option<kafka_admin::AdminTls>,
}

/// What is known once the node listens; handed to the caller for its banner.
pub struct Ready {
    pub publish: String,
    pub subscribe: String,
    pub manager: String,
}

/// What a caller may do before the shards start: the demo app of quickstart.
pub struct Seed<'a> {
    pub db: &'a AuthDb,
    pub manage: &'a Manage,
    pub credentials: &'a mut Credentials,
}

/// Cores this process may use, when no number was asked for.
pub fn shard_count(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
}

/// Runs a node until SIGTERM or Ctrl-C. `seed` runs before traffic, `ready` when traffic can come, `hangup` at a SIGHUP,
/// of which `Break` makes an end, too.
pub fn run(
    config: NodeConfig,
    seed: impl AsyncFnOnce(Seed<'_>) -> Result<()>,
    ready: impl FnOnce(&Ready, &Credentials),
    hangup: impl FnMut(&Gateway) -> ControlFlow<()>,
) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("control")
        .build()
        .context("cannot start the control plane")?;
    let ended = runtime.block_on(live(config, seed, ready, hangup));
    // A name that the system's resolver still looks up, for half a minute maybe, is waited for by nobody.
    runtime.shutdown_background();
    ended
}

async fn live(
    config: NodeConfig,
    seed: impl AsyncFnOnce(Seed<'_>) -> Result<()>,
    ready: impl FnOnce(&Ready, &Credentials),
    mut hangup: impl FnMut(&Gateway) -> ControlFlow<()>,
) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;

    let listeners = Listeners::bind(config.listen_pub, config.listen_sub, config.gateway.shard_count)?;
    let man_listener = manage::bind(config.listen_man).await?;
    let man_addr = man_listener.local_addr()?;

    // Held until the process ends: the id is ours so long.
    let node_dir = node_dir::claim(&config.data_dir)?;
    let snapshot_path = config.data_dir.join("snapshot.json");
    let database = config.data_dir.join("gafka.db");
    let db = agent::disk::open_db(&database.display().to_string(), &snapshot_path)
        .with_context(|| format!("cannot open the auth DB {}", database.display()))?;
    let credentials_path = Credentials::path(&config.data_dir);
    let mut credentials = admin_credentials(&db, &credentials_path).await?;
    credentials.man = format!("http://{man_addr}");

    let manage = Manage::connect(&config.clusters)?;
    seed(Seed { db: &db, manage: &manage, credentials: &mut credentials }).await?;
    credentials.save(&credentials_path)?;

    let (applied, applied_seen) = watch::channel(Generation(0));
    let feed = Feed::new(applied);
    let agent = Agent::start(
        AgentConfig { applied: Some(applied_seen), ..AgentConfig::new(db.clone(), snapshot_path) },
        feed.publisher(),
    )
    .await;

    let (publish_addr, subscribe_addr) = (listeners.publish_addr, listeners.subscribe_addr);
    let gateway = Arc::new(
        Gateway::start(GatewayParts {
            config: config.gateway.clone(),
            clusters: config.clusters.iter().map(|cluster| cluster.spec.clone()).collect(),
            listeners,
            snapshot: feed.latest(),
            access_log: config.access_log.clone(),
        })
        .context("cannot start the shards")?,
    );
    let registration = register(&config, &node_dir, publish_addr, subscribe_addr, man_addr).map(Arc::new);
    feed.connect(&gateway, registration.as_ref());

    let router = manage.router(&Surroundings {
        db: &db,
        agent: &agent,
        gateway: &gateway,
        credentials: &credentials,
        on_loopback: man_addr.ip().is_loopback(),
        cors_origins: &config.gateway.cors_origins,
    })?;
    let (stop_manager, manager_stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(manager::serve(man_listener, router, async move { drop(manager_stopped.await) }));

    wait_for_a_cluster(&gateway).await;
    if let Some(registration) = &registration {
        // What takes longer is told by the registration.
        let _ = tokio::time::timeout(REGISTRY_WAIT, registration.registered()).await;
    }
    let bound = Ready {
        publish: format!("http://{publish_addr}"),
        subscribe: format!("http://{subscribe_addr}"),
        manager: format!("http://{man_addr}"),
    };
    ready(&bound, &credentials);

    let mut watchdog = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            signal = signals.next() => match signal {
                Signal::Reload if hangup(&gateway).is_continue() => {}
                Signal::Reload | Signal::Stop => break,
            },
            _ = watchdog.tick() => {
                if gateway.is_finished() {
                    break; // a shard ended by itself: its panic is told below
                }
            }
        }
    }
    let begun = Instant::now();
    notify("STOPPING=1");
    tracing::info!("draining");
    drain(&gateway, registration, begun, config.drain_delay, config.drain_limit).await;
    agent.stop().await;
    drop(stop_manager);
    if tokio::time::timeout(MANAGER_GRACE, server).await.is_err() {
        tracing::warn!("manager requests were still in flight");
    }
    feed.disconnect();
    let ended = gateway.join();
    db.close().await;
    match ended {
        Ok(()) => {
            tracing::info!(elapsed_ms = begun.elapsed().as_millis() as u64, "drained");
            Ok(ExitCode::SUCCESS)
        }
        Err(panic) => Err(anyhow!(panic)),
    }
}

/// SIGTERM to the end: say no to new traffic and leave the registry, wait, stop accepting, let what is in flight finish,
/// end the rest.
async fn drain(
    gateway: &Gateway,
    registration: Option<Arc<Registration>>,
    begun: Instant,
    delay: Duration,
    limit: Duration,
) {
    gateway.announce_drain();
    // Beside it: the shards do not wait for a registry that is away.
    let unregistered = async {
        if let Some(registration) = &registration {
            registration.end().await;
        }
    };
    tokio::join!(unregistered, drain_shards(gateway, begun, delay, limit));
}

async fn drain_shards(gateway: &Gateway, begun: Instant, delay: Duration, limit: Duration) {
    tokio::time::sleep(delay).await;
    gateway.drain();
    while !gateway.is_finished() && begun.elapsed() < limit {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    if gateway.is_finished() {
        return;
    }
    tracing::warn!("publishes still in flight at the drain limit are answered 503 or 504");
    gateway.stop();
    let end = Instant::now() + LAST_ANSWERS;
    while !gateway.is_finished() && Instant::now() < end {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn wait_for_a_cluster(gateway: &Gateway) {
    let until = Instant::now() + FIRST_CLUSTER_WAIT;
    while Instant::now() < until {
        if gateway.readiness().ready {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tracing::warn!(readiness = gateway.readiness().reason(), "no cluster can be reached yet; serving all the same");
}

/// The admin's credentials: from the file, or made up now, in the file before the DB.
async fn admin_credentials(db: &AuthDb, path: &std::path::Path) -> Result<Credentials> {
    let mut credentials = Credentials::load(path)?.unwrap_or_default();
    if credentials.admin_key.is_empty() {
        credentials.admin_appid = ADMIN_APPID.to_owned();
        credentials.admin_key = new_secret()?;
        credentials.save(path)?;
    }
    let admin = AppId::new(&credentials.admin_appid).context("admin_appid in the credentials file")?;
    let key = PlainSecret::from_text(&credentials.admin_key)
        .ok_or_else(|| anyhow!("admin_key in {} is no usable secret", path.display()))?;
    // The DB may be away: then the snapshot on disk serves, and the manager says what is wrong.
    match db.create_admin(&admin, Some(key)).await {
        Ok(_) => {}
        Err(err) => tracing::error!(err = %format!("{err:#}"), "cannot write the admin to the auth DB"),
    }
    Ok(credentials)
}

/// A secret as text, of 32 random bytes.
pub fn new_secret() -> Result<String> {
    let mut random = [0; model::limits::SECRET_RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|err| anyhow!("no randomness from the operating system: {err}"))?;
    Ok(PlainSecret::generate(random).expose().to_owned())
}

/// Announces the node as long as it is not draining. A registry that cannot be used is no reason not to serve.
fn register(
    config: &NodeConfig,
    node_dir: &NodeDir,
    publish_addr: SocketAddr,
    subscribe_addr: SocketAddr,
    man_addr: SocketAddr,
) -> Option<Registration> {
    let registry = match LocalRegistry::open(&config.data_dir.join("registry")) {
        Ok(registry) => registry,
        Err(err) => {
            tracing::warn!(%err, "this node is not registered");
            return None;
        }
    };
    let addresses = [("pub", publish_addr), ("sub", subscribe_addr), ("man", man_addr)];
    let info = NodeInfo {
        kind: NodeKind::Kateway,
        id: node_dir.id.to_string(),
        zone: "local".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: man_addr.ip().to_string(),
        pid: std::process::id(),
        started_at_ms: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64),
        addresses: addresses
            .map(|(name, addr)| (name.to_owned(), addr.to_string()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        applied: None,
    };
    Some(Registration::keep(Arc::new(registry), info))
}

/// Snapshots from the agent to the shards, also those that come before the shards run.
struct Feed {
    inner: Arc<FeedInner>,
}

struct FeedInner {
    state: Mutex<FeedState>,
    applied: watch::Sender<Generation>,
}

struct FeedState {
    latest: Arc<Snapshot>,
    gateway: Option<Arc<Gateway>>,
    registration: Option<Arc<Registration>>,
}

impl Feed {
    fn new(applied: watch::Sender<Generation>) -> Feed {
        let state = Mutex::new(FeedState { latest: Arc::new(Snapshot::empty()), gateway: None, registration: None });
        Feed { inner: Arc::new(FeedInner { state, applied }) }
    }

    fn publisher(&self) -> impl Fn(Arc<Snapshot>) + Send + 'static {
        let inner = Arc::clone(&self.inner);
        move |snapshot| inner.publish(snapshot)
    }

    fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.inner.lock().latest)
    }

    /// From now on snapshots go to the shards, and what they have taken is announced. One that came while they started
    /// goes now.
    fn connect(&self, gateway: &Arc<Gateway>, registration: Option<&Arc<Registration>>) {
        {
            let mut state = self.inner.lock();
            state.gateway = Some(Arc::clone(gateway));
            state.registration = registration.cloned();
        }
        let latest = self.latest();
        self.inner.publish(latest);
    }

    fn disconnect(&self) {
        let mut state = self.inner.lock();
        (state.gateway, state.registration) = (None, None);
    }
}

impl FeedInner {
    fn lock(&self) -> std::sync::MutexGuard<'_, FeedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(self: &Arc<Self>, snapshot: Arc<Snapshot>) {
        let gateway = {
            let mut state = self.lock();
            state.latest = Arc::clone(&snapshot);
            state.gateway.clone()
        };
        let generation = snapshot.generation;
        let Some(gateway) = gateway else {
            self.applied.send_replace(generation);
            return;
        };
        gateway.publish_snapshot(&snapshot);
        let inner = Arc::clone(self);
        tokio::spawn(async move {
            while gateway.board.applied_generation() < generation.0 && !gateway.is_finished() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            gateway.board.drop_retired();
            inner.applied.send_replace(generation);
            inner.announce(generation);
        });
    }

    /// To whoever asks the registry whether a revocation is in force everywhere.
    fn announce(&self, generation: Generation) {
        if let Some(registration) = &self.lock().registration {
            registration.update_applied(AppliedGeneration { history: String::new(), number: generation.0 });
        }
    }
}
