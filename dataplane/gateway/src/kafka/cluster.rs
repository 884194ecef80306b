//! One sans-I/O [`kafka_client::Client`] and its sockets. One per (shard, cluster).
//!
//! The client decides; this carries bytes. Everything that may give the client something to do (a publish, bytes from a
//! broker, a timer) rings `wake`; the shard's drive task (`shard/drive.rs`) then does all of it in one tick, after the
//! tasks that were already runnable. That order is what makes batching fall out of load: the first publish of a burst
//! wakes the drive task, which runs behind the other connections' publishes of the same burst.

use crate::env::Env;
use crate::kafka::Probing;
use crate::kafka::complaints::Complaints;
use crate::kafka::link::{self, Link};
use crate::kafka::prober::Prober;
use crate::kafka::searches::{Look, SearchKey, Searches};
use foldhash::HashMap;
use kafka_client::{Asker, Client, ClientConfig, ConnId, RequestError, RequestToken, Response, Search};
use runtime::net::tls::ClientTls;
use runtime::notify::Notify;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// A timer is not re-armed for an improvement smaller than this.
const TIMER_SLACK: Duration = Duration::from_millis(1);

/// One per (shard, cluster).
pub struct Cluster {
    pub name: Rc<str>,
    /// Index in [`crate::kafka::Clusters`].
    pub index: usize,
    pub client: RefCell<Client>,
    tls: Option<ClientTls>,
    /// On one shard of the process.
    prober: Option<RefCell<Prober>>,
    searches: RefCell<Searches>,
    links: RefCell<HashMap<ConnId, Rc<Link>>>,
    pub(in crate::kafka) complaints: RefCell<Complaints>,
    wake: Notify,
    timer: Notify,
    armed: Cell<Option<Instant>>,
    stopped: Cell<bool>,
}

impl Cluster {
    pub fn new(
        name: &str,
        index: usize,
        config: ClientConfig,
        tls: Option<ClientTls>,
        probing: Probing,
        now: Instant,
    ) -> Cluster {
        Cluster {
            name: name.into(),
            index,
            client: RefCell::new(Client::new(config, runtime::clock::seed(), now)),
            tls,
            prober: (probing == Probing::Asks).then(|| RefCell::new(Prober::new(now))),
            searches: RefCell::default(),
            links: RefCell::default(),
            complaints: RefCell::default(),
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

    /// Until [`Cluster::wake`]; false: stopped, nothing is to be driven any more.
    pub async fn woken(&self) -> bool {
        self.wake.notified().await;
        !self.is_stopped()
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

    pub fn is_stopped(&self) -> bool {
        self.stopped.get()
    }

    pub(in crate::kafka) fn tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref()
    }

    pub(in crate::kafka) fn forget_link(&self, conn: ConnId) {
        self.links.borrow_mut().remove(&conn);
    }

    /// A connection was lost: does the cluster still answer?
    pub(in crate::kafka) fn suspect(&self, now: Instant) {
        if let Some(prober) = &self.prober {
            prober.borrow_mut().suspect(now);
        }
    }

    /// Asks whether the cluster answers, if that is due and this shard asks.
    pub fn probe(&self, now: Instant) {
        if let Some(prober) = &self.prober {
            prober.borrow_mut().tick(&mut self.client.borrow_mut(), now);
        }
    }

    /// Takes a reply to a probe; false: it is somebody else's.
    pub fn is_probe(&self, token: RequestToken, reply: &Result<Response, RequestError>, now: Instant) -> bool {
        let Some(prober) = &self.prober else { return false };
        prober.borrow_mut().on_reply(&mut self.client.borrow_mut(), token, reply, now)
    }

    // ---- searches

    /// Begins to look for records of ours; [`Cluster::look_at`] says what came of it.
    pub fn search(&self, search: Search) -> SearchKey {
        let key = self.searches.borrow_mut().begin(search);
        self.wake();
        key
    }

    pub fn look_at(&self, key: SearchKey) -> Look {
        self.searches.borrow_mut().look(key)
    }

    pub fn cancel_search(&self, key: SearchKey) {
        self.searches.borrow_mut().cancel(key, &mut self.client.borrow_mut());
    }

    /// Whether anybody looks for anything.
    pub fn is_searching(&self) -> bool {
        !self.searches.borrow().is_empty()
    }

    pub fn tick_searches(&self, now: Instant) {
        if self.is_searching() {
            let mut client = self.client.borrow_mut();
            client.ask_as(Asker::NOBODY);
            self.searches.borrow_mut().tick(&mut client, now);
        }
    }

    /// Takes a reply to a search; false: it is somebody else's.
    pub fn is_search(
        &self,
        token: RequestToken,
        reply: &mut Option<Result<Response, RequestError>>,
        now: Instant,
    ) -> bool {
        self.searches.borrow_mut().on_reply(&mut self.client.borrow_mut(), token, reply, now)
    }

    /// Opens, closes and writes what the client wants opened, closed and written.
    pub fn carry(self: &Rc<Self>, now: Instant) {
        loop {
            let Some(connect) = self.client.borrow_mut().poll_connect(now) else { break };
            let link = Rc::new(Link::new(connect.conn));
            self.links.borrow_mut().insert(connect.conn, Rc::clone(&link));
            runtime::spawn(link::run(Rc::clone(self), connect, link));
        }
        loop {
            let Some((conn, why)) = self.client.borrow_mut().poll_close() else { break };
            tracing::debug!(cluster = %self.name, ?conn, why, "closing a broker connection");
            if let Some(link) = self.links.borrow().get(&conn) {
                link.close();
            }
        }
        loop {
            let Some(conn) = self.client.borrow_mut().poll_transmit_ready() else { break };
            if let Some(link) = self.links.borrow().get(&conn) {
                link.writable.notify();
            }
        }
    }

    /// The result of a probe, for `/readyz` and the metric of the whole process.
    pub fn tell_health(&self, env: &Env) {
        let Some(health) = self.prober.as_ref().and_then(|prober| prober.borrow_mut().take_verdict()) else { return };
        env.metrics.cluster_up(&self.name, health.up);
        let (up, detail) = (health.up, health.detail.clone());
        if env.board.report(&self.name, health) {
            match up {
                true => tracing::info!(cluster = %self.name, detail, "the cluster answers"),
                false => tracing::warn!(cluster = %self.name, detail, "no broker of the cluster answers"),
            }
        }
    }

    /// Sets the alarm for what is due next: the client's, the prober's, a search's, or `other`.
    pub fn arm(&self, other: Option<Instant>, now: Instant) {
        let client = self.client.borrow().next_deadline();
        let probe = self.prober.as_ref().map(|prober| prober.borrow().next_deadline());
        let searches = self.searches.borrow().next_deadline();
        let Some(next) = [client, probe, searches, other].into_iter().flatten().min() else { return };
        let next = next.max(now);
        if self.armed.get().is_none_or(|armed| next + TIMER_SLACK < armed) {
            self.armed.set(Some(next));
            self.timer.notify();
        }
    }

    /// Sleeps until the alarm, then has the drive task look, until the cluster is stopped.
    pub async fn keep_time(self: Rc<Self>) {
        while !self.stopped.get() {
            match self.armed.get() {
                None => self.timer.notified().await,
                Some(at) => {
                    if runtime::time::timeout_at(at, self.timer.notified()).await.is_ok() {
                        continue; // armed for an earlier time
                    }
                    self.armed.set(None);
                    self.client.borrow_mut().on_timer(Instant::now());
                    self.wake.notify();
                    // Let the drive task run and arm the next deadline before we look again.
                    self.timer.notified().await;
                }
            }
        }
    }
}
