//! Drives one sans-I/O [`kafka_client::Client`] from a shard: sockets, timers, nothing else. One per (shard, cluster).
//!
//! The client decides; this file only carries bytes. Everything that may give the client something to do (a publish,
//! bytes from a broker, a timer) rings `wake`; the drive task then runs [`Cluster::tick`] once for all of it, after the
//! tasks that were already runnable. That order is what makes batching fall out of load: the first publish of a burst
//! wakes the drive task, which runs behind the other connections' publishes of the same burst.

use crate::prober::Prober;
use crate::shard::Shard;
use bytes::BytesMut;
use foldhash::HashMap;
use kafka_client::{Client, ClientConfig, ConnId, Connect, RequestError, RequestToken, Response};
use runtime::net::tls::ClientTls;
use runtime::net::{self, Closer, ReadHalf, Stream, WriteHalf};
use runtime::notify::Notify;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Bytes asked of a broker connection per read; produce answers are small, fetch answers want the space.
const BROKER_READ_BYTES: usize = 64 << 10;
/// A timer is not re-armed for an improvement smaller than this.
const TIMER_SLACK: Duration = Duration::from_millis(1);

/// One per (shard, cluster).
pub struct Cluster {
    pub name: Rc<str>,
    /// Index in [`Shard::clusters`].
    pub index: usize,
    pub client: RefCell<Client>,
    tls: Option<ClientTls>,
    /// On one shard of the process.
    prober: Option<RefCell<Prober>>,
    links: RefCell<HashMap<ConnId, Rc<Link>>>,
    wake: Notify,
    timer: Notify,
    armed: Cell<Option<Instant>>,
    stopped: Cell<bool>,
}

/// One broker connection of this shard.
struct Link {
    conn: ConnId,
    writable: Notify,
    /// Rung when the link is closed while it is being opened.
    given_up: Notify,
    /// From the first moment there is a socket, so also during the TLS handshake.
    stream: RefCell<Option<Closer>>,
    closed: Cell<bool>,
}

impl Cluster {
    pub fn new(
        name: &str,
        index: usize,
        config: ClientConfig,
        tls: Option<ClientTls>,
        seed: u64,
        probes: bool,
        now: Instant,
    ) -> Cluster {
        Cluster {
            name: name.into(),
            index,
            client: RefCell::new(Client::new(config, seed, now)),
            tls,
            prober: probes.then(|| RefCell::new(Prober::new(now))),
            links: RefCell::default(),
            wake: Notify::new(),
            timer: Notify::new(),
            armed: Cell::new(None),
            stopped: Cell::new(false),
        }
    }

    /// Something changed; the drive task will look at it once for this burst.
    pub fn wake(&self) {
        self.wake.notify();
    }

    /// Ends the drive and timer tasks and closes every broker connection.
    pub fn stop(&self) {
        self.stopped.set(true);
        for link in self.links.borrow().values() {
            link.close();
        }
        self.wake.notify();
        self.timer.notify();
    }

    /// Starts the drive and timer tasks.
    pub fn start(shard: &Rc<Shard>, index: usize) {
        runtime::spawn(drive(Rc::clone(shard), index));
        runtime::spawn(keep_time(Rc::clone(shard), index));
    }

    /// The whole plan of a tick: decide, hand out results, open, close, write, set the alarm.
    fn tick(shard: &Rc<Shard>, index: usize) {
        let cluster = &shard.clusters[index];
        let now = shard.tick();
        shard.subscriptions.tick(shard, index, now);
        cluster.probe(now);
        cluster.client.borrow_mut().flush(now);
        loop {
            let Some(outcome) = cluster.client.borrow_mut().poll_outcome() else { break };
            shard.waiters.complete(shard, cluster, outcome, now);
        }
        let mut replied = false;
        loop {
            let Some((token, reply)) = cluster.client.borrow_mut().poll_reply() else { break };
            replied = true;
            if !cluster.is_probe(token, &reply, now) {
                shard.subscriptions.on_reply(shard, index, token, reply, now);
            }
        }
        if replied {
            shard.subscriptions.tick(shard, index, now);
            cluster.probe(now);
            cluster.client.borrow_mut().flush(now);
        }
        loop {
            let Some(connect) = cluster.client.borrow_mut().poll_connect(now) else { break };
            let link = Rc::new(Link {
                conn: connect.conn,
                writable: Notify::new(),
                given_up: Notify::new(),
                stream: RefCell::new(None),
                closed: Cell::new(false),
            });
            cluster.links.borrow_mut().insert(connect.conn, Rc::clone(&link));
            runtime::spawn(run_link(Rc::clone(shard), index, connect, link));
        }
        loop {
            let Some((conn, why)) = cluster.client.borrow_mut().poll_close() else { break };
            tracing::debug!(cluster = %cluster.name, ?conn, why, "closing a broker connection");
            if let Some(link) = cluster.links.borrow().get(&conn) {
                link.close();
            }
        }
        loop {
            let Some(conn) = cluster.client.borrow_mut().poll_transmit_ready() else { break };
            if let Some(link) = cluster.links.borrow().get(&conn) {
                link.writable.notify();
            }
        }
        cluster.tell_health(shard);
        cluster.arm(shard, now);
    }

    fn probe(&self, now: Instant) {
        if let Some(prober) = &self.prober {
            prober.borrow_mut().tick(&mut self.client.borrow_mut(), now);
        }
    }

    fn is_probe(&self, token: RequestToken, reply: &Result<Response, RequestError>, now: Instant) -> bool {
        let Some(prober) = &self.prober else { return false };
        prober.borrow_mut().on_reply(&mut self.client.borrow_mut(), token, reply, now)
    }

    /// The result of a probe, for `/readyz` and the metric of the whole process.
    fn tell_health(&self, shard: &Shard) {
        let Some(health) = self.prober.as_ref().and_then(|prober| prober.borrow_mut().take_verdict()) else { return };
        shard.metrics.cluster_up(&self.name, health.up);
        let (up, detail) = (health.up, health.detail.clone());
        if shard.shared.report(&self.name, health) {
            match up {
                true => tracing::info!(cluster = %self.name, detail, "the cluster answers"),
                false => tracing::warn!(cluster = %self.name, detail, "no broker of the cluster answers"),
            }
        }
    }

    fn arm(&self, shard: &Shard, now: Instant) {
        let client = self.client.borrow().next_deadline();
        let subscriptions = shard.subscriptions.next_deadline(self.index);
        let probe = self.prober.as_ref().map(|prober| prober.borrow().next_deadline());
        let Some(next) = client.into_iter().chain(subscriptions).chain(probe).min() else { return };
        let next = next.max(now);
        if self.armed.get().is_none_or(|armed| next + TIMER_SLACK < armed) {
            self.armed.set(Some(next));
            self.timer.notify();
        }
    }
}

impl Link {
    fn close(&self) {
        self.closed.set(true);
        self.given_up.notify();
        self.writable.notify();
        if let Some(stream) = self.stream.borrow().as_ref() {
            stream.shutdown();
        }
    }
}

async fn drive(shard: Rc<Shard>, index: usize) {
    let cluster = Rc::clone(&shard.clusters[index]);
    loop {
        Cluster::tick(&shard, index);
        cluster.wake.notified().await;
        if cluster.stopped.get() {
            return;
        }
    }
}

/// Sleeps until the earliest deadline of the client or a subscription, then ticks.
async fn keep_time(shard: Rc<Shard>, index: usize) {
    let cluster = Rc::clone(&shard.clusters[index]);
    while !cluster.stopped.get() {
        match cluster.armed.get() {
            None => cluster.timer.notified().await,
            Some(at) => {
                if runtime::time::timeout_at(at, cluster.timer.notified()).await.is_ok() {
                    continue; // armed for an earlier time
                }
                cluster.armed.set(None);
                cluster.client.borrow_mut().on_timer(Instant::now());
                cluster.wake.notify();
                // Let the drive task run and arm the next deadline before we look again.
                cluster.timer.notified().await;
            }
        }
    }
}

async fn run_link(shard: Rc<Shard>, index: usize, connect: Connect, link: Rc<Link>) {
    let cluster = Rc::clone(&shard.clusters[index]);
    let why = match open_in_time(&cluster, &connect, &link).await {
        Err(why) => {
            if !cluster.stopped.get() {
                tracing::warn!(cluster = %cluster.name, broker = %connect.host, port = connect.port, why, "cannot connect to a broker");
            }
            cluster.links.borrow_mut().remove(&link.conn);
            cluster.client.borrow_mut().on_connect_failed(link.conn, why, Instant::now());
            cluster.wake();
            return;
        }
        Ok(stream) => {
            let (reader, writer) = stream.split();
            cluster.client.borrow_mut().on_connected(link.conn, Instant::now());
            cluster.wake();
            runtime::spawn(write_link(Rc::clone(&cluster), Rc::clone(&link), writer));
            read_link(&cluster, &link, reader).await
        }
    };
    link.close();
    cluster.links.borrow_mut().remove(&link.conn);
    let now = Instant::now();
    cluster.client.borrow_mut().on_closed(link.conn, why, now);
    if let Some(prober) = &cluster.prober {
        prober.borrow_mut().suspect(now);
    }
    cluster.wake();
}

/// Name, TCP and TLS together within `Connect::timeout`, and no longer than the client wants the connection.
async fn open_in_time(cluster: &Cluster, connect: &Connect, link: &Link) -> Result<Stream, String> {
    let opening = runtime::time::timeout(connect.timeout, open(cluster, connect, link));
    match runtime::race(opening, link.given_up.notified()).await {
        runtime::Either::First(Ok(opened)) if !link.closed.get() => opened,
        runtime::Either::First(Err(_)) => {
            link.close(); // a read of the handshake may be in the kernel's hands: that ends it
            Err(format!("no connection within {} ms", connect.timeout.as_millis()))
        }
        runtime::Either::First(Ok(_)) | runtime::Either::Second(()) => Err("not wanted any more".to_owned()),
    }
}

async fn open(cluster: &Cluster, connect: &Connect, link: &Link) -> Result<Stream, String> {
    let stream = net::connect(&connect.host, connect.port, connect.timeout).await.map_err(|err| err.to_string())?;
    *link.stream.borrow_mut() = Some(stream.closer());
    if !connect.tls {
        return Ok(stream);
    }
    let tls = cluster.tls.as_ref().ok_or("the cluster asks for TLS but none is configured")?;
    tls.connect(stream, &connect.host).await.map_err(|err| format!("TLS handshake failed: {err}"))
}

async fn read_link(cluster: &Cluster, link: &Link, mut reader: ReadHalf) -> String {
    let mut buffer = BytesMut::new();
    loop {
        if let Err(err) = reader.readable().await {
            return err.to_string();
        }
        buffer.reserve(BROKER_READ_BYTES);
        let (result, filled) = reader.read(buffer).await;
        buffer = filled;
        match result {
            Ok(0) => return "the broker closed the connection".to_owned(),
            Ok(_) => {}
            Err(err) => return err.to_string(),
        }
        if link.closed.get() {
            return "closed by us".to_owned();
        }
        cluster.client.borrow_mut().on_bytes(link.conn, &mut buffer, Instant::now());
        cluster.wake();
        if buffer.is_empty() && buffer.capacity() > 4 * BROKER_READ_BYTES {
            buffer = BytesMut::new(); // a large fetch answer must not pin its space for ever
        }
    }
}

async fn write_link(cluster: Rc<Cluster>, link: Rc<Link>, mut writer: WriteHalf) {
    while !link.closed.get() {
        let chain = cluster.client.borrow_mut().take_transmit(link.conn);
        if chain.is_empty() {
            link.writable.notified().await;
            continue;
        }
        if let Err(err) = writer.write_chain(chain).await {
            tracing::debug!(cluster = %cluster.name, %err, "writing to a broker failed");
            link.close(); // the reader ends next and tells the client
            return;
        }
    }
}
