//! One gateway process from start to end: auth DB, snapshot, shards, manager, registration, drain.
//!
//! The main thread runs the control plane on a current-thread tokio; the shards have their own threads. Nothing the
//! shards do waits for it.

use crate::config::AuditTopic;
use crate::credentials::{self, Credentials};
use crate::handoff_desk::Desk;
use crate::jobs_desk::JobsDesk;
use crate::kproxy::{self, Kproxy};
use crate::live::{self, Controls, Live};
use crate::manage::{self, Manage, Surroundings};
use crate::peers;
use crate::tenants;
use agent::{Agent, AgentConfig, Feed, Shards};
use anyhow::{Context, Result, anyhow};
use authdb::AuthDb;
use daemon::logging::LogHandle;
use daemon::notify::notify;
use daemon::{Fault, Signal, Signals, exit, fault};
use gateway::{ClusterSpec, Gateway, GatewayConfig, GatewayParts, HandoffPlace, JobsPlace, Listeners};
use manager::OidcConfig;
use model::PlainSecret;
use model::ids::AppId;
use registry::node_dir::{self, NodeDir};
use registry::{LocalRegistry, NodeInfo, NodeKind, NodeState, NodeWish, Registration, Registry};
use runtime::crew::Fallen;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The ready line waits so long for a first cluster; after that the node says it is up, and `/readyz` says what is
/// missing.
const FIRST_CLUSTER_WAIT: Duration = Duration::from_secs(10);
/// And so long for the registry: who reads the line finds the node there.
const REGISTRY_WAIT: Duration = Duration::from_secs(1);
/// After the drain limit, answers get so long to reach the network before the process ends.
const LAST_ANSWERS: Duration = Duration::from_millis(1500);
/// Manager requests in flight get so long at the end.
const MANAGER_GRACE: Duration = Duration::from_millis(500);
/// How often a running drain is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How often is asked whether a shard has fallen.
const WATCH_EVERY: Duration = Duration::from_millis(50);
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
    /// What can be told otherwise while it runs, as configured.
    pub live: Live,
    pub log: LogHandle,
    /// Whose tokens the manager takes beside its own.
    pub oidc: Option<OidcConfig>,
    /// Where the audit log goes beside the database.
    pub audit_topic: Option<AuditTopic>,
    /// A proxy for Kafka clients in the same process.
    pub kproxy: Option<kproxy::Asked>,
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
    /// Where the proxy for Kafka clients is, if there is one.
    pub kproxy: Option<String>,
}

/// What a caller may do before the shards start: the demo app of quickstart.
pub struct Seed<'a> {
    pub db: &'a dyn AuthDb,
    pub manage: &'a Manage,
    pub credentials: &'a mut Credentials,
}

/// Cores this process may use, when no number was asked for.
pub fn shard_count(asked: usize) -> usize {
    if asked > 0 { asked } else { std::thread::available_parallelism().map_or(1, std::num::NonZero::get) }
}

/// Runs a node until SIGTERM or Ctrl-C, or until a shard falls. `seed` runs before traffic, `ready` when traffic can come, `hangup` at a SIGHUP,
/// of which `Break` makes an end, too.
pub fn run(
    config: NodeConfig,
    seed: impl AsyncFnOnce(Seed<'_>) -> Result<()>,
    ready: impl FnOnce(&Ready, &Credentials) -> ControlFlow<()>,
    hangup: impl FnMut(&Gateway, &Controls) -> ControlFlow<()>,
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
    ready: impl FnOnce(&Ready, &Credentials) -> ControlFlow<()>,
    mut hangup: impl FnMut(&Gateway, &Controls) -> ControlFlow<()>,
) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let fault = Fault::of_environment(config.gateway.shard_count)?;

    let listeners = Listeners::bind(config.listen_pub, config.listen_sub, config.gateway.shard_count)?;
    let man_listener = manage::bind(config.listen_man).await?;
    let man_addr = man_listener.local_addr()?;

    // Held until the process ends: the id is ours so long.
    let node_dir = node_dir::claim(&config.data_dir);
    let (node_id, node_dir) = match node_dir {
        Ok(node_dir) => (node_dir.id.to_string(), Some(node_dir)),
        Err(err) => {
            let err = format!("{:#}", anyhow!(err));
            tracing::warn!(err, "this node has no place on disk, and another id after each start");
            (new_secret()?.chars().filter(char::is_ascii_alphanumeric).take(16).collect(), None)
        }
    };
    let snapshot_path = config.data_dir.join("snapshot.json");
    let database = config.data_dir.join("gafka.db");
    let db = agent::open_db(&database.display().to_string(), &snapshot_path)
        .with_context(|| format!("cannot open the auth DB {}", database.display()))?;
    let registry = open_registry(&config.data_dir);
    let manage = Manage::connect(&config.clusters)?;
    let credentials = {
        // Processes that start together on one directory make one admin, one demo app and one file.
        let _alone = credentials::lock(&config.data_dir).await;
        let path = Credentials::path(&config.data_dir);
        let (mut credentials, before) = admin_credentials(&*db, &path).await?;
        seed(Seed { db: &*db, manage: &manage, credentials: &mut credentials }).await?;
        let man = credentials.man.strip_prefix("http://").unwrap_or_default();
        if !is_address_of_a_living_node(registry.as_deref(), "man", man).await {
            credentials.man = format!("http://{man_addr}");
        }
        save_credentials(&credentials, before.as_ref(), &path)?;
        credentials
    };

    let (feed, applied) = Feed::new();
    let (audit, events) = agent::audit::channel();
    let agent = Agent::start(
        AgentConfig {
            applied: Some(applied),
            audit: Some(events),
            socket_path: Some(agent::socket_path(&config.data_dir)),
            node: node_id.clone(),
            ..AgentConfig::new(Arc::clone(&db), snapshot_path)
        },
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
            handoff: handoff_place(node_dir.as_ref(), &config.gateway),
            jobs: jobs_place(node_dir.as_ref(), &config.gateway),
        })
        .context("cannot start the shards")?,
    );
    let desk = handoff_desk(&gateway, &config, node_dir.as_ref());
    let jobs_desk = jobs_desk(&gateway, &config, node_dir.as_ref());
    let controls = Arc::new(Controls::new(Arc::clone(&gateway), config.log, config.live));
    let kproxy = match config.kproxy {
        Some(asked) => Kproxy::start(asked, &gateway.board.ledger, feed.latest(), audit)?,
        None => None,
    };
    let kproxy_address = kproxy.as_ref().map(|kproxy| kproxy.address.to_string());
    let credentials =
        tell_kproxy(credentials, &config.data_dir, registry.as_deref(), kproxy_address.as_deref()).await?;
    let mut addresses = vec![("pub", publish_addr), ("sub", subscribe_addr), ("man", man_addr)];
    addresses.extend(kproxy.as_ref().map(|kproxy| ("kproxy", kproxy.address)));
    let info = node_info(&node_id, &addresses, man_addr);
    let registration = registry.clone().map(|registry| {
        let registration = Arc::new(Registration::keep(Arc::clone(&registry), info.clone()));
        tokio::spawn(live::follow(Arc::clone(&controls), registry, Arc::clone(&registration), info.clone()));
        registration
    });
    if let Some(registry) = &registry {
        let told = Arc::clone(&gateway);
        tokio::spawn(peers::follow(Arc::clone(registry), node_id.clone(), move |peers| told.set_peers(peers)));
    }
    let mut shards = vec![shards(&gateway)];
    shards.extend(kproxy.as_ref().map(Kproxy::shards));
    feed.connect(shards, registration.as_ref());

    let relay = match &config.audit_topic {
        Some(topic) => Some(manage.audit_relay(topic, &db, &agent, &config.data_dir)?),
        None => None,
    };
    let (router, chores) = manage.router(&Surroundings {
        db: &db,
        agent: &agent,
        gateway: &gateway,
        kproxy: kproxy.as_ref(),
        credentials: &credentials,
        registry: registry.as_ref(),
        controls: &controls,
        node: &info,
        on_loopback: man_addr.ip().is_loopback(),
        cors_origins: &config.gateway.cors_origins,
        oidc: config.oidc.as_ref(),
        handoff: desk.as_ref(),
        jobs: jobs_desk.as_ref(),
        relayed: relay.as_ref().map(|relay| &relay.progress),
    })?;
    let (stop_manager, manager_stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(manager::serve(man_listener, router, async move { drop(manager_stopped.await) }));
    let chores = tokio::spawn(chores);
    let relay = relay.map(|relay| tokio::spawn(relay.run()));
    tokio::spawn(tenants::watch(agent.clone(), Arc::clone(&gateway.board), Arc::clone(&controls)));
    tokio::spawn(tenants::sample_traffic(Arc::clone(&gateway.board)));
    tokio::spawn(agent::share_limits(
        agent.clone(),
        Arc::clone(&gateway.board.ledger),
        config.data_dir.clone(),
        node_id.clone(),
        registry.clone(),
    ));

    wait_for_a_cluster(&gateway).await;
    if let Some(registration) = &registration {
        // What takes longer is told by the registration.
        let _ = tokio::time::timeout(REGISTRY_WAIT, registration.registered()).await;
    }
    let bound = Ready {
        publish: format!("http://{publish_addr}"),
        subscribe: format!("http://{subscribe_addr}"),
        manager: format!("http://{man_addr}"),
        kproxy: kproxy_address,
    };
    let goes_on = has_fallen(&gateway, kproxy.as_ref()) || ready(&bound, &credentials).is_continue();

    let mut fallen = std::pin::pin!(fallen(&gateway, kproxy.as_ref()));
    let mut fault = std::pin::pin!(fall(&gateway, fault));
    if goes_on {
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Reload if hangup(&gateway, &controls).is_continue() => {}
                    Signal::Reload | Signal::Stop => break,
                },
                () = &mut fallen => break,
                () = &mut fault => {}
            }
        }
    }
    let begun = Instant::now();
    let told = all_fallen(&gateway, kproxy.as_ref()).map(|fallen| tell_fallen(&fallen));
    notify("STOPPING=1");
    tracing::info!("draining");
    let Live { drain_delay, drain_limit, .. } = controls.in_force();
    let proxy_drained = async {
        if let Some(kproxy) = &kproxy {
            kproxy.drain(drain_delay, drain_limit).await;
        }
    };
    tokio::join!(proxy_drained, drain(&gateway, registration, begun, drain_delay, drain_limit));
    agent.stop().await;
    chores.abort();
    if let Some(relay) = relay {
        relay.abort();
    }
    drop(stop_manager);
    if tokio::time::timeout(MANAGER_GRACE, server).await.is_err() {
        tracing::warn!("manager requests were still in flight");
    }
    feed.disconnect();
    let ended = gateway.join();
    kproxy.iter().for_each(Kproxy::join);
    db.close().await;
    let fallen = all_fallen(&gateway, kproxy.as_ref());
    for (fallen, told) in fallen.iter().zip(told) {
        tell_fallen(&fallen[told..]);
    }
    if has_fallen(&gateway, kproxy.as_ref()) {
        return Ok(ExitCode::from(exit::FAILED));
    }
    ended.map_err(|err| anyhow!(err))?;
    tracing::info!(elapsed_ms = begun.elapsed().as_millis() as u64, "drained");
    Ok(ExitCode::SUCCESS)
}

/// Who answers the manager about handed-off messages.
fn handoff_desk(
    gateway: &Gateway,
    config: &NodeConfig,
    node_dir: Option<&NodeDir>,
) -> Option<Arc<dyn manager::Handoff>> {
    let (store, node_dir) = (gateway.handoff()?, node_dir?);
    let dir = node_dir.path.join(node_dir::JOURNAL);
    let desk = Desk::new(Arc::clone(store), config.data_dir.clone(), dir, config.gateway.handoff.enabled);
    Some(Arc::new(desk))
}

/// Who answers the manager about delayed jobs.
fn jobs_desk(gateway: &Gateway, config: &NodeConfig, node_dir: Option<&NodeDir>) -> Option<Arc<dyn manager::Jobs>> {
    let (jobs, node_dir) = (gateway.jobs()?, node_dir?);
    Some(Arc::new(JobsDesk::new(Arc::clone(jobs), node_dir.id.to_string(), config.gateway.jobs.enabled)))
}

/// Where the journal of handed-off messages is. One that is there is opened even where nothing more is handed off, so that what
/// it holds is delivered.
fn handoff_place(node_dir: Option<&NodeDir>, config: &GatewayConfig) -> Option<HandoffPlace> {
    let Some(node_dir) = node_dir else {
        if config.handoff.enabled {
            tracing::warn!("hinted handoff is off: this node has no place on disk");
        }
        return None;
    };
    let dir = node_dir.path.join(node_dir::JOURNAL);
    (config.handoff.enabled || dir.exists()).then(|| HandoffPlace { dir, node: node_dir.id.to_string() })
}

/// Where delayed jobs are. A store that is there is opened even where nothing more is kept, so that what it holds fires.
fn jobs_place(node_dir: Option<&NodeDir>, config: &GatewayConfig) -> Option<JobsPlace> {
    let Some(node_dir) = node_dir else {
        if config.jobs.enabled {
            tracing::warn!("delayed jobs are off: this node has no place on disk");
        }
        return None;
    };
    let dir = node_dir.path.join(node_dir::JOBS);
    (config.jobs.enabled || dir.exists()).then(|| JobsPlace { dir, node: node_dir.id.to_string() })
}

/// Shards that fell so far, of the gateway and of the proxy.
fn all_fallen(gateway: &Gateway, kproxy: Option<&Kproxy>) -> [Vec<Fallen>; 2] {
    [gateway.fallen(), kproxy.map_or_else(Vec::new, Kproxy::fallen)]
}

fn has_fallen(gateway: &Gateway, kproxy: Option<&Kproxy>) -> bool {
    all_fallen(gateway, kproxy).iter().any(|fallen| !fallen.is_empty())
}

async fn fallen(gateway: &Gateway, kproxy: Option<&Kproxy>) {
    while !has_fallen(gateway, kproxy) {
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

/// Tells of each shard that has fallen; how many have.
fn tell_fallen(fallen: &[Fallen]) -> usize {
    for Fallen { shard, message } in fallen {
        tracing::error!(
            shard,
            panic = message,
            "a shard panicked: its connections are closed and its groups are not served; this process drains the other \
             shards and ends with code 1, to be started again"
        );
    }
    fallen.len()
}

fn shards(gateway: &Arc<Gateway>) -> Shards {
    let gateway = || Arc::clone(gateway);
    let (told, asked, dropping, ending) = (gateway(), gateway(), gateway(), gateway());
    Shards {
        set_snapshot: Box::new(move |snapshot| told.publish_snapshot(snapshot)),
        applied_edition: Box::new(move || asked.board.applied_edition()),
        drop_retired: Box::new(move || dropping.board.drop_retired()),
        is_finished: Box::new(move || ending.is_finished()),
    }
}

/// What a test asked for. Never ends otherwise.
async fn fall(gateway: &Gateway, fault: Option<Fault>) {
    if let Some(Fault::PanicShard(shard)) = fault {
        tokio::time::sleep(fault::DELAY).await;
        gateway.make_panic(shard);
    }
    std::future::pending().await
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
        if gateway.readiness().ready || !gateway.fallen().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tracing::warn!(readiness = gateway.readiness().reason(), "no cluster can be reached yet; serving all the same");
}

/// The admin's credentials, and the file as it was: from the file, or made up now, in the file before the DB. The
/// database has the last word on who the admin is; whoever may write this directory may set it, so a file that was
/// removed makes a new key, as its error advises.
async fn admin_credentials(db: &dyn AuthDb, path: &Path) -> Result<(Credentials, Option<Credentials>)> {
    let before = Credentials::load(path)?;
    let mut credentials = before.clone().unwrap_or_default();
    let is_new = credentials.admin_key.is_empty();
    if is_new {
        credentials.admin_appid = ADMIN_APPID.to_owned();
        credentials.admin_key = new_secret()?;
        credentials.save(path)?;
    }
    let admin = AppId::new(&credentials.admin_appid).context("admin_appid in the credentials file")?;
    let key = PlainSecret::from_text(&credentials.admin_key)
        .ok_or_else(|| anyhow!("admin_key in {} is no usable secret", path.display()))?;
    let written = match db.create_admin(&admin, Some(key.clone())).await {
        Ok(None) if is_new => {
            tracing::warn!(path = %path.display(), "the admin gets a new key, there was no file with the old one");
            db.reset_admin(&admin, &key).await
        }
        Ok(None) if !db.is_admin(admin.as_str(), key.expose().as_bytes()).await.unwrap_or(true) => {
            tracing::warn!(path = %path.display(), "the key in the file is not the admin's any more");
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(err) => Err(err),
    };
    // The DB may be away, or its disk full: then the snapshot on disk serves, and the manager says what is wrong.
    if let Err(err) = written {
        tracing::error!(err = format!("{:#}", anyhow!(err)), "cannot write the admin to the auth DB");
    }
    Ok((credentials, before))
}

/// A registry that cannot be used is no reason not to serve.
fn open_registry(data_dir: &Path) -> Option<Arc<dyn Registry>> {
    match LocalRegistry::open(&data_dir.join("registry")) {
        Ok(registry) => Some(Arc::new(registry)),
        Err(err) => {
            tracing::warn!(%err, "this node is not registered");
            None
        }
    }
}

/// Of several processes of one directory, the file names the manager, and the proxy, of one that lives.
async fn is_address_of_a_living_node(registry: Option<&dyn Registry>, name: &str, address: &str) -> bool {
    let Some(registry) = registry else { return false };
    let nodes = registry.nodes(Some(NodeKind::Kateway)).await.unwrap_or_default();
    nodes.iter().any(|node| node.addresses.get(name).is_some_and(|found| found == address))
}

/// Writes the credentials unless they are there; that this fails matters only to who has none yet.
fn save_credentials(credentials: &Credentials, before: Option<&Credentials>, path: &Path) -> Result<()> {
    match credentials::save_if_new(credentials, before, path) {
        // What is there opens everything all the same.
        Err(err) if before.is_some() => {
            tracing::warn!(err = format!("{err:#}"), "credentials file stays as it was");
            Ok(())
        }
        saved => saved,
    }
}

/// Has the file say where the proxy is, which is known after the shards run; or that there is none any more.
async fn tell_kproxy(
    credentials: Credentials,
    data_dir: &Path,
    registry: Option<&dyn Registry>,
    address: Option<&str>,
) -> Result<Credentials> {
    let ours = address.unwrap_or_default();
    if credentials.kproxy == ours || is_address_of_a_living_node(registry, "kproxy", &credentials.kproxy).await {
        return Ok(credentials);
    }
    let _alone = credentials::lock(data_dir).await;
    let path = Credentials::path(data_dir);
    let before = Credentials::load(&path)?;
    // Another process may have written its manager's address meanwhile.
    let now = before.clone().unwrap_or_else(|| credentials.clone());
    save_credentials(&Credentials { kproxy: ours.to_owned(), ..now }, before.as_ref(), &path)?;
    Ok(Credentials { kproxy: ours.to_owned(), ..credentials })
}

/// A secret as text, of 32 random bytes.
pub fn new_secret() -> Result<String> {
    let mut random = [0; model::limits::SECRET_RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(|err| anyhow!("no randomness from the operating system: {err}"))?;
    Ok(PlainSecret::generate(random).expose().to_owned())
}

/// What is announced of this node.
fn node_info(node_id: &str, addresses: &[(&str, SocketAddr)], man_addr: SocketAddr) -> NodeInfo {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let started_at_ms = since_epoch.map_or(0, |since| since.as_millis() as i64);
    NodeInfo {
        kind: NodeKind::Kateway,
        id: node_id.to_owned(),
        zone: "local".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: man_addr.ip().to_string(),
        pid: std::process::id(),
        started_at_ms,
        addresses: addresses
            .iter()
            .map(|(name, addr)| ((*name).to_owned(), addr.to_string()))
            .collect::<BTreeMap<_, _>>(),
        applied: None,
        state: NodeState::Serving,
        obeys: Some(NodeWish { started_at_ms, ..NodeWish::default() }),
        refuses: None,
    }
}
