//! What a shard keeps for its tenants: the snapshot, topic ids, limits, memory; and how it asks brokers about them.

use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use kafka_client::sasl::SaltedKeys;
use kafka_wire::{ApiKey, WireError};
use model::quota::ShardQuotas;
use model::sasl::Login;
use model::tenant::{Access, Tenant};
use model::{App, AuditEvent, AuditWhat, Snapshot, Topic};
use runtime::budget::{Budget, BudgetLimits};
use runtime::clock::now_ms;
use runtime::line_log::LineLog;
use runtime::net::Stream;
use runtime::notify::Notify;
use runtime::time::timeout;

use crate::config::TenantConfig;
use crate::limits::{HELD_BYTES_MAX, HELD_BYTES_OF_TENANT_MAX};
use crate::listeners::Target;
use crate::shard::Shard;
use crate::shard::ask::{ASK_TIMEOUT, ask, log_in};
use crate::shard::tenant_board::TenantBoard;
use crate::shard::upstream;
use crate::tenant::found::find;
use crate::tenant::ids::{TopicIds, Wanted};
use crate::tenant::messages::metadata;
use crate::tenant::rules::{self, Message};
use crate::tenant::session::Over;
use crate::tenant::versions::Offered;

/// One per shard of a proxy with tenants.
pub struct TenantShard {
    pub config: TenantConfig,
    pub cluster: Arc<str>,
    pub ids: RefCell<TopicIds>,
    pub quotas: ShardQuotas,
    pub budget: Budget,
    pub access_log: LineLog,
    /// Of the proxy's own login.
    keys: RefCell<SaltedKeys>,
    snapshot: RefCell<(u64, Arc<Snapshot>)>,
    /// What connections wait to hear of.
    wanted: RefCell<BTreeSet<Wanted>>,
    wants: Notify,
}

/// A version of ApiVersions that has all features in it; brokers that do not know it say what they have all the same.
const VERSIONS_VERSION: i16 = 4;
/// A version of Metadata that takes topics by id alone (KIP-516).
const METADATA_BY_ID_VERSION: i16 = 12;
/// How often a connection looks whether what it waits for is known.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// After a failure, brokers are asked again no sooner.
const PAUSE: Duration = Duration::from_millis(100);

impl TenantShard {
    pub fn new(
        config: &TenantConfig,
        board: &TenantBoard,
        shard_count: usize,
        lines: Option<SyncSender<String>>,
    ) -> TenantShard {
        TenantShard {
            cluster: config.cluster.as_str().into(),
            config: config.clone(),
            ids: RefCell::default(),
            quotas: ShardQuotas::new(shard_count),
            budget: Budget::new(BudgetLimits {
                total_bytes_max: HELD_BYTES_MAX,
                tenant_bytes_max: HELD_BYTES_OF_TENANT_MAX,
                cluster_bytes_max: HELD_BYTES_MAX,
            }),
            access_log: LineLog::new(lines),
            keys: RefCell::default(),
            snapshot: RefCell::new(board.snapshot()),
            wanted: RefCell::default(),
            wants: Notify::new(),
        }
    }

    /// The snapshot in force on this shard.
    pub fn snapshot(&self) -> Ref<'_, Arc<Snapshot>> {
        Ref::map(self.snapshot.borrow(), |(_, snapshot)| snapshot)
    }

    pub fn nanos(&self, now: Instant) -> u64 {
        self.config.ledger.nanos(now)
    }

    /// How long nothing will be left of the limits of an app and of these topics.
    pub fn wait<'t>(
        &self,
        side: model::Side,
        app: &App,
        topics: impl Iterator<Item = &'t Topic>,
        bytes: u64,
        now: Instant,
    ) -> Option<Duration> {
        let (quotas, now_ns) = (&self.config.ledger.quotas, self.nanos(now));
        let of_topics = topics.filter_map(|topic| self.quotas.of_topic(quotas, topic, now_ns));
        let meters = self.quotas.of_app(quotas, app, now_ns).into_iter().chain(of_topics);
        meters.filter_map(|meter| meter.check(side, 1, bytes, now_ns).err()).map(|exhausted| exhausted.wait).max()
    }

    /// Takes from the limits of an app, or of one topic.
    pub fn charge(&self, side: model::Side, app: &App, topic: Option<&Topic>, messages: u64, bytes: u64, now: Instant) {
        let (quotas, now_ns) = (&self.config.ledger.quotas, self.nanos(now));
        let meter = match topic {
            Some(topic) => self.quotas.of_topic(quotas, topic, now_ns),
            None => self.quotas.of_app(quotas, app, now_ns),
        };
        if let Some(meter) = meter {
            meter.charge(side, messages, bytes, now_ns);
        }
    }

    /// The topics of these names that a tenant may use, for their limits.
    pub fn named<'a, 's: 'a>(
        tenant: &'a Tenant<'s>,
        names: &'a [Arc<str>],
        access: Access,
    ) -> impl Iterator<Item = &'s Topic> + 'a {
        names.iter().filter_map(move |name| tenant.topic(name, access).ok())
    }

    /// Asks the brokers about topics; returns when they have answered, or cannot.
    pub async fn resolve(&self, wanted: Vec<Wanted>) {
        self.wanted.borrow_mut().extend(wanted.iter().cloned());
        self.wants.notify();
        let until = Instant::now() + ASK_TIMEOUT;
        while !wanted.iter().all(|one| self.ids.borrow().has(one)) {
            if Instant::now() >= until {
                wanted.iter().for_each(|one| self.ids.borrow_mut().give_up(one));
                return;
            }
            runtime::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Hands an event to whoever writes the audit log. A shard waits for nobody.
pub fn audit(shard: &Shard, event: AuditEvent) {
    let audit = shard.tenants.as_ref().and_then(|tenants| tenants.config.audit.as_ref());
    if audit.is_some_and(|audit| audit.try_send(event).is_err()) {
        shard.metrics.tenants.audit_dropped();
    }
}

/// Learns what is wanted of topics, for as long as the shard lives.
pub async fn learn_topics(shard: Rc<Shard>) {
    let Some(tenants) = &shard.tenants else { return };
    loop {
        tenants.wants.notified().await;
        let wanted = std::mem::take(&mut *tenants.wanted.borrow_mut());
        if wanted.is_empty() {
            continue;
        }
        let asked = timeout(ASK_TIMEOUT, ask_about(&shard, tenants, &wanted)).await;
        if !matches!(asked, Ok(Ok(()))) {
            tracing::debug!(count = wanted.len(), "brokers do not say what is known of these topics");
            runtime::time::sleep(PAUSE).await;
        }
        let mut ids = tenants.ids.borrow_mut();
        wanted.iter().for_each(|one| ids.give_up(one));
    }
}

async fn ask_about(shard: &Rc<Shard>, tenants: &TenantShard, wanted: &BTreeSet<Wanted>) -> io::Result<()> {
    let (mut of_ids, mut of_names) = (Vec::new(), Vec::new());
    for one in wanted {
        match one {
            Wanted::Id(id) => of_ids.push(*id),
            Wanted::Name(name) => of_names.push(&**name),
        }
    }
    let mut stream = upstream::connect_to_any(shard).await?;
    if !of_ids.is_empty() {
        let answer = ask(&mut stream, ApiKey::Metadata, METADATA_BY_ID_VERSION, &metadata::ask_by_id(&of_ids)).await?;
        let found = find(metadata_answer(), METADATA_BY_ID_VERSION, &answer).map_err(invalid)?;
        metadata::learn(METADATA_BY_ID_VERSION, &answer, &found, &mut tenants.ids.borrow_mut());
    }
    if !of_names.is_empty() {
        let version = metadata::NO_CREATION_FROM;
        let answer = ask(&mut stream, ApiKey::Metadata, version, &metadata::ask_by_name(&of_names)).await?;
        metadata::learn_there(&answer, &mut tenants.ids.borrow_mut()).map_err(invalid)?;
    }
    Ok(())
}

fn metadata_answer() -> &'static Message {
    &rules::of(ApiKey::Metadata.key()).expect("on the list").response
}

fn invalid(err: WireError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, err)
}

/// Prepares a broker's connection: the proxy logs in, where that is asked for.
pub async fn introduce(shard: &Shard, stream: &mut Stream) -> io::Result<()> {
    let Some(tenants) = &shard.tenants else { return Ok(()) };
    let Some(sasl) = &tenants.config.login else { return Ok(()) };
    timeout(ASK_TIMEOUT, log_in(stream, sasl, &tenants.keys)).await.unwrap_or_else(|_| Err(too_late()))
}

fn too_late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the broker does not answer")
}

/// What the broker at the other end offers, kept for clients to come.
pub async fn learn_offered(shard: &Shard, stream: &mut Stream, node: Option<i32>) -> io::Result<Arc<Offered>> {
    let asked = async {
        let body = versions_request();
        let answer = ask(stream, ApiKey::ApiVersions, VERSIONS_VERSION, &body).await?;
        Offered::read(VERSIONS_VERSION, &answer).map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))
    };
    let offered = timeout(ASK_TIMEOUT, asked).await.unwrap_or_else(|_| Err(too_late()))?;
    Ok(shard.board.tenants().set_offered(node, offered))
}

/// Who we are (KIP-511).
fn versions_request() -> BytesMut {
    let mut body = BytesMut::new();
    for text in ["kproxy", env!("CARGO_PKG_VERSION")] {
        kafka_wire::pieces::put_string(&mut body, true, text.as_bytes());
    }
    body.put_u8(0);
    body
}

/// What clients of this port are told a broker offers: as it said last, or as it says now.
pub async fn offered(shard: &Rc<Shard>, target: Target) -> io::Result<Arc<Offered>> {
    let node = node_of(target);
    let board = shard.board.tenants();
    if let Some(offered) = board.offered(node).or_else(|| board.offered(None)) {
        return Ok(offered);
    }
    let mut broker = upstream::connect(shard, target).await?;
    learn_offered(shard, &mut broker.stream, node).await
}

pub fn node_of(target: Target) -> Option<i32> {
    match target {
        Target::Node(node) => Some(node),
        Target::Bootstrap => None,
    }
}

/// Takes the newest snapshot and asks every session again.
pub fn take_snapshot(shard: &Shard) {
    let Some(tenants) = &shard.tenants else { return };
    let board = shard.board.tenants();
    if board.edition() == tenants.snapshot.borrow().0 {
        return;
    }
    let (edition, snapshot) = board.snapshot();
    tenants.quotas.forget();
    tenants.snapshot.replace((edition, Arc::clone(&snapshot)));
    let mut over = Vec::new();
    shard.conns.each(|conn| {
        if let Some(session) = &mut *conn.session.borrow_mut()
            && let Err(why) = session.renew(Arc::clone(&snapshot))
        {
            over.push((Rc::clone(conn), session.login().clone(), why));
        }
    });
    for (conn, login, why) in over {
        revoke(shard, &conn, &login, &why);
    }
    board.set_applied(shard.id, edition);
}

fn revoke(shard: &Shard, conn: &crate::shard::conns::Conn, login: &Login, why: &Over) {
    let (app, peer) = (login.app().as_str(), conn.peer.get());
    tracing::info!(target: "audit", event = "session_revoked", app, side = login.side().as_str(), %peer, %why, "session ended");
    let event = AuditEvent::new(now_ms(), AuditWhat::KafkaSessionRevoked, app, peer, &why.to_string());
    audit(shard, event.side(login.side()));
    shard.metrics.tenants.session_revoked();
    conn.end("revoked");
}

/// A number that nothing else waits for.
#[derive(Debug, Default)]
pub struct SessionUse {
    pub requests: Cell<u64>,
    pub refused: Cell<u64>,
    pub messages_in: Cell<u64>,
    pub messages_out: Cell<u64>,
    pub bytes_in: Cell<u64>,
    pub bytes_out: Cell<u64>,
    pub throttled: Cell<u64>,
}

pub fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}
