//! One shard: everything a request needs, owned by one thread.
//!
//! Nothing here is shared with another shard except through mailboxes ([`Message`]) and [`Shared`], which the request
//! path does not touch. No `RefCell` is borrowed across an await.

use crate::access_log::AccessLog;
use crate::cluster::Cluster;
use crate::config::{ClusterSpec, GatewayConfig};
use crate::conn::{self, Conn, RequestMeta};
use crate::destination::Routes;
use crate::limits::{CONNECTIONS_MAX, SWEEP_INTERVAL, SWEEP_INTERVAL_FIRST};
use crate::metrics::{GatewayMetrics, ShardMetrics};
use crate::reply::Failure;
use crate::shared::Shared;
use crate::slots::{Answer, Delivery};
use crate::subscriptions::{PollAnswer, PollRequest, Subscriptions};
use crate::waiters::Waiters;
use bytes::BytesMut;
use foldhash::HashMap;
use gafka_http::Head;
use gafka_http::date::{DateCache, HttpDate};
use model::presented::{BasicBuffer, Presented};
use model::{App, CredentialCache, Credentials, Side, Snapshot, authenticate_cached};
use runtime::budget::{Budget, Refused, Reservation};
use runtime::clock::Clock;
use runtime::mailbox::{Receiver, Sender};
use runtime::net::{Listener, Stream};
use runtime::notify::Notify;
use runtime::pool::BufferPool;
use slab::Slab;
use smallvec::SmallVec;
use std::cell::{Cell, Ref, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// It asks the clusters whether they answer, for the whole process.
const PROBING_SHARD: usize = 0;

/// What other threads send to a shard. Values only; a poll or an answer travels, a connection never does after its
/// first byte.
pub enum Message {
    Snapshot(Arc<Snapshot>),
    /// A connection that was accepted elsewhere and not touched since.
    Adopt {
        stream: std::net::TcpStream,
        peer: SocketAddr,
        side: Side,
    },
    /// A poll for a subscription that lives here.
    Poll(Box<PollRequest>),
    /// The answer to a poll that came in here.
    PollAnswer(Box<PollAnswer>),
    /// A poll's client went away.
    CancelPoll {
        poll: u64,
    },
    /// An answer reached the network, or did not.
    Settle {
        delivery: Delivery,
        written: bool,
    },
    /// Stop accepting; end waiting polls; finish what is in flight.
    Drain,
    /// Answer what is still in flight as unknown or not stored, and end.
    Stop,
}

/// One per core.
pub struct Shard {
    pub id: usize,
    pub config: Arc<GatewayConfig>,
    pub shared: Arc<Shared>,
    pub clusters: Vec<Rc<Cluster>>,
    pub(crate) cluster_index: HashMap<String, usize>,
    snapshot: RefCell<Arc<Snapshot>>,
    credentials: RefCell<CredentialCache>,
    pub(crate) routes: Routes,
    pub waiters: Waiters,
    pub subscriptions: Subscriptions,
    pub pool: BufferPool,
    pub budget: Budget,
    pub metrics: ShardMetrics,
    access_log: AccessLog,
    conns: RefCell<Slab<Rc<Conn>>>,
    clock: Clock,
    dates: RefCell<DateCache>,
    /// The block answers are written into.
    pub answers: RefCell<BytesMut>,
    request_ids: Cell<u64>,
    request_id_prefix: u32,
    draining: Cell<bool>,
    /// Rung when draining begins, for the accept loops.
    pub drain_began: Notify,
    stopped: Notify,
    pub mailboxes: Vec<Sender<Message>>,
}

/// What a shard is built from.
pub struct ShardParts {
    pub id: usize,
    pub config: Arc<GatewayConfig>,
    pub shared: Arc<Shared>,
    pub clusters: Vec<ClusterSpec>,
    pub snapshot: Arc<Snapshot>,
    pub mailboxes: Vec<Sender<Message>>,
    pub inbox: Receiver<Message>,
    pub listeners: Vec<(Side, std::net::TcpListener)>,
    pub metrics: Arc<GatewayMetrics>,
    pub access_log: AccessLog,
}

/// Runs a shard until it is told to stop.
pub async fn run(parts: ShardParts) {
    let ShardParts { id, config, shared, clusters, snapshot, mailboxes, inbox, listeners, metrics, access_log } = parts;
    let now = Instant::now();
    let shard = Rc::new(Shard {
        id,
        cluster_index: clusters.iter().enumerate().map(|(index, spec)| (spec.name.clone(), index)).collect(),
        clusters: clusters
            .into_iter()
            .enumerate()
            .map(|(index, spec)| {
                let seed = runtime::clock::seed();
                Rc::new(Cluster::new(
                    &spec.name,
                    index,
                    config.client(spec.client),
                    spec.tls,
                    seed,
                    id == PROBING_SHARD,
                    now,
                ))
            })
            .collect(),
        snapshot: RefCell::new(snapshot),
        credentials: RefCell::new(CredentialCache::new(random_key())),
        routes: Routes::default(),
        waiters: Waiters::default(),
        subscriptions: Subscriptions::default(),
        pool: BufferPool::current(),
        budget: Budget::new(config.budget()),
        metrics: metrics.shard(),
        access_log,
        conns: RefCell::default(),
        clock: Clock::new(),
        dates: RefCell::default(),
        answers: RefCell::default(),
        request_ids: Cell::new(0),
        request_id_prefix: runtime::clock::seed() as u32,
        draining: Cell::new(false),
        drain_began: Notify::new(),
        stopped: Notify::new(),
        mailboxes,
        shared,
        config,
    });
    for index in 0..shard.clusters.len() {
        Cluster::start(&shard, index);
    }
    for (side, listener) in listeners {
        runtime::spawn(accept(Rc::clone(&shard), side, listener));
    }
    runtime::spawn(sweep(Rc::clone(&shard)));
    runtime::spawn(read_mail(Rc::clone(&shard), inbox));
    shard.stopped.notified().await;
    for cluster in &shard.clusters {
        cluster.stop();
    }
    shard.access_log.close();
}

/// Two lower-case hexadecimal digits per byte.
fn put_hex(out: &mut [u8], bytes: &[u8]) {
    for (digits, byte) in out.chunks_exact_mut(2).zip(bytes) {
        digits[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        digits[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
}

fn random_key() -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&runtime::clock::seed().to_ne_bytes());
    key[8..].copy_from_slice(&runtime::clock::seed().to_ne_bytes());
    key
}

async fn accept(shard: Rc<Shard>, side: Side, listener: std::net::TcpListener) {
    let listener = match Listener::from_std(listener) {
        Ok(listener) => listener,
        Err(err) => {
            tracing::error!(shard = shard.id, %err, "cannot accept on this shard");
            return;
        }
    };
    loop {
        let accepted = match runtime::race(listener.accept_std(), shard.drain_began.notified()).await {
            runtime::Either::First(accepted) => accepted,
            runtime::Either::Second(()) => {
                shard.drain_began.notify(); // one notification lets one waiter through: pass it on
                return;
            }
        };
        match accepted {
            Ok((stream, peer)) => shard.place(stream, peer, side),
            Err(err) => {
                // Out of descriptors, most likely: wait for some to be closed instead of spinning.
                tracing::warn!(shard = shard.id, %err, "accept failed");
                shard.metrics.accept_failed();
                runtime::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

/// Ends connections past their deadline and sets the gauges. The first sweeps come sooner, for whoever started this node
/// and looks at its metrics.
async fn sweep(shard: Rc<Shard>) {
    let mut pause = SWEEP_INTERVAL_FIRST;
    loop {
        runtime::time::sleep(pause).await;
        pause = (pause * 2).min(SWEEP_INTERVAL);
        let now = shard.tick();
        for (_, conn) in shard.conns.borrow().iter() {
            conn.sweep(now);
        }
        shard.subscriptions.sweep(&shard, now);
        shard.access_log.hand_over();
        shard.metrics.sweep(&shard);
    }
}

async fn read_mail(shard: Rc<Shard>, mut inbox: Receiver<Message>) {
    while let Some(message) = inbox.recv().await {
        let now = shard.tick();
        match message {
            Message::Snapshot(snapshot) => shard.replace_snapshot(snapshot, now),
            Message::Adopt { stream, peer, side } => shard.serve(stream, peer, side),
            Message::Poll(request) => shard.subscriptions.enqueue(&shard, *request, now),
            Message::PollAnswer(answer) => shard.subscriptions.answered(&shard, *answer, now),
            Message::CancelPoll { poll } => shard.subscriptions.cancel(&shard, poll),
            Message::Settle { delivery, written } => shard.settle(delivery, written),
            Message::Drain => shard.drain(now),
            Message::Stop => {
                shard.expire_all(now);
                return;
            }
        }
    }
}

impl Shard {
    /// Takes the time for everything that happens in this burst.
    pub fn tick(&self) -> Instant {
        self.clock.tick()
    }

    /// The time of the last [`Shard::tick`].
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    pub fn wall_clock_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub fn date(&self) -> HttpDate {
        self.dates.borrow_mut().at(self.clock.now_ms())
    }

    /// The snapshot in force, for the length of one synchronous call: no shared counter is touched.
    pub fn borrow_snapshot(&self) -> Ref<'_, Arc<Snapshot>> {
        self.snapshot.borrow()
    }

    /// The snapshot in force, to keep.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    pub fn connection_count(&self) -> usize {
        self.conns.borrow().len()
    }

    pub fn access_log_dropped(&self) -> u64 {
        self.access_log.dropped_total.get()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// 24 hexadecimal digits: shard prefix and a counter.
    pub fn next_request_id(&self) -> SmallVec<[u8; 24]> {
        let number = self.request_ids.get();
        self.request_ids.set(number + 1);
        let mut id = [0; 24];
        put_hex(&mut id[..8], &self.request_id_prefix.to_be_bytes());
        put_hex(&mut id[8..], &number.to_be_bytes());
        SmallVec::from_buf(id)
    }

    /// The configured origin a browser's request comes from, as its index.
    pub fn allowed_origin(&self, origin: &[u8]) -> Option<u16> {
        let origins = &self.config.cors_origins;
        origins.iter().position(|known| known.as_bytes() == origin).and_then(|index| index.try_into().ok())
    }

    /// Who is calling, by header or Basic; failures are counted across shards.
    pub fn authenticate<'s>(&self, conn: &Conn, head: &Head<'_>, snapshot: &'s Snapshot) -> Result<&'s App, Failure> {
        let mut buffer = BasicBuffer::default();
        let denied = match presented(conn, head).credentials(&mut buffer) {
            Ok(credentials) => {
                let cache = &mut *self.credentials.borrow_mut();
                match authenticate_cached(snapshot, cache, &credentials, conn.side) {
                    Ok(app) => return Ok(app),
                    Err(denied) if denied.is_failed_login() => {
                        let mut logins = self.shared.logins.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        logins.failed(conn.peer.ip(), credentials.app, self.clock.now())
                    }
                    Err(denied) => denied,
                }
            }
            Err(denied) => denied,
        };
        Err(Failure::from_denied(&denied))
    }

    /// Looks at the presented credentials again, for what outlives the request.
    pub fn with_credentials<T>(
        &self,
        conn: &Conn,
        head: &Head<'_>,
        look: impl FnOnce(&Credentials<'_>) -> T,
    ) -> Result<T, Failure> {
        let mut buffer = BasicBuffer::default();
        match presented(conn, head).credentials(&mut buffer) {
            Ok(credentials) => Ok(look(&credentials)),
            Err(denied) => Err(Failure::from_denied(&denied)),
        }
    }

    /// Sets memory aside for a request, or says that nothing was stored.
    pub fn reserve(&self, tenant: u32, cluster: u32, bytes: usize) -> Result<Reservation, Failure> {
        self.budget.try_reserve(tenant, cluster, bytes).map_err(|refused| self.refused(&refused))
    }

    /// A spent budget as an answer, counted.
    pub fn refused(&self, refused: &Refused) -> Failure {
        self.metrics.budget_refused(refused.scope);
        Failure::overloaded(&refused.to_string())
    }

    /// Ends a request: metrics, access log, answer.
    #[allow(clippy::too_many_arguments, reason = "the one exit of the request path")]
    pub fn finish(
        &self,
        conn: &Conn,
        sequence: u64,
        meta: &RequestMeta,
        endpoint: &'static str,
        status: u16,
        begun: Instant,
        now: Instant,
        answer: Answer,
    ) -> bool {
        self.count(conn, meta, endpoint, status, begun, now);
        conn.fill(sequence, answer)
    }

    /// Metrics and access log of a request whose status is known.
    pub fn count(
        &self,
        conn: &Conn,
        meta: &RequestMeta,
        endpoint: &'static str,
        status: u16,
        begun: Instant,
        now: Instant,
    ) {
        let elapsed = now.saturating_duration_since(begun);
        self.metrics.finished(endpoint, status, elapsed);
        self.access_log.write(self.clock.now_ms(), conn.peer, endpoint, status, elapsed, &meta.id);
    }

    pub fn add_conn(&self, conn: &Rc<Conn>) {
        let key = self.conns.borrow_mut().insert(Rc::clone(conn));
        conn.key.set(key);
    }

    pub fn remove_conn(&self, conn: &Conn) {
        self.conns.borrow_mut().remove(conn.key.get());
        self.shared.connections[self.id].fetch_sub(1, Ordering::Relaxed);
    }

    /// Gives a fresh connection to the shard with the fewest, if this one has clearly more (SO_REUSEPORT is lumpy for
    /// few fat connections; DESIGN.md section 3).
    fn place(self: &Rc<Self>, stream: std::net::TcpStream, peer: SocketAddr, side: Side) {
        let counts = &self.shared.connections;
        let mine = counts[self.id].load(Ordering::Relaxed);
        let (target, least) = counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .enumerate()
            .min_by_key(|(_, count)| *count)
            .unwrap_or((self.id, mine));
        if target != self.id && mine > least + (least / 4).max(1) {
            counts[target].fetch_add(1, Ordering::Relaxed);
            match self.mailboxes[target].try_send(Message::Adopt { stream, peer, side }) {
                Ok(()) => return,
                Err(refused) => {
                    counts[target].fetch_sub(1, Ordering::Relaxed);
                    let Message::Adopt { stream, peer, side } = refused.into_inner() else {
                        unreachable!("the mailbox returns what it was given")
                    };
                    counts[self.id].fetch_add(1, Ordering::Relaxed);
                    return self.serve(stream, peer, side);
                }
            }
        }
        counts[self.id].fetch_add(1, Ordering::Relaxed);
        self.serve(stream, peer, side);
    }

    fn serve(self: &Rc<Self>, stream: std::net::TcpStream, peer: SocketAddr, side: Side) {
        let full = self.conns.borrow().len() >= CONNECTIONS_MAX;
        let stream = if full { Err(std::io::Error::other("too many connections")) } else { Stream::from_std(stream) };
        match stream {
            Ok(stream) => {
                self.metrics.connection_opened(side);
                drop(runtime::spawn(conn::serve(Rc::clone(self), stream, peer, side)));
            }
            Err(err) => {
                tracing::warn!(shard = self.id, %peer, %err, "connection refused");
                self.metrics.connection_ended("refused");
                self.shared.connections[self.id].fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    fn replace_snapshot(self: &Rc<Self>, snapshot: Arc<Snapshot>, now: Instant) {
        let generation = snapshot.generation.0;
        let old = self.snapshot.replace(snapshot);
        self.routes.forget_topics();
        self.shared.set_applied(self.id, generation);
        self.subscriptions.reauthorize(self, now);
        self.waiters.wake_batches();
        self.shared.retire(old);
    }

    /// An answer with messages reached the network (their positions advance) or did not (they go back).
    pub fn settle(self: &Rc<Self>, delivery: Delivery, written: bool) {
        if delivery.shard == self.id {
            self.subscriptions.settle(self, delivery, written);
        } else if self.mailboxes[delivery.shard].try_send(Message::Settle { delivery, written }).is_err() {
            // Losing this delays a commit: the records come again. It must be seen.
            tracing::warn!(shard = self.id, to = delivery.shard, "mailbox full: a delivery was not reported");
            self.metrics.mailbox_full();
        }
    }

    fn drain(self: &Rc<Self>, now: Instant) {
        self.draining.set(true);
        self.drain_began.notify();
        self.subscriptions.drain(self, now);
        for (_, conn) in self.conns.borrow().iter() {
            conn.close_when_idle();
        }
        runtime::spawn(finish_draining(Rc::clone(self)));
    }

    fn expire_all(self: &Rc<Self>, now: Instant) {
        for cluster in &self.clusters {
            cluster.client.borrow_mut().expire_all(now);
            cluster.wake();
        }
        runtime::spawn(end_soon(Rc::clone(self)));
    }
}

/// Ends the shard once nothing is in flight any more.
async fn finish_draining(shard: Rc<Shard>) {
    loop {
        let busy = shard.waiters.count() > 0 || !shard.conns.borrow().is_empty() || !shard.subscriptions.is_done();
        if !busy {
            shard.stopped.notify();
            return;
        }
        for (_, conn) in shard.conns.borrow().iter() {
            conn.close_when_idle();
        }
        runtime::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// The last answers get a moment to reach the network.
async fn end_soon(shard: Rc<Shard>) {
    runtime::time::sleep(std::time::Duration::from_millis(500)).await;
    shard.stopped.notify();
}

fn presented<'h>(conn: &Conn, head: &Head<'h>) -> Presented<'h> {
    let key = match conn.side {
        Side::Publish => head.known.pubkey,
        Side::Subscribe => head.known.subkey,
    };
    Presented::new(head.known.appid, key, head.known.authorization)
}
