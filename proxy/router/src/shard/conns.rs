//! The client connections of a shard, for whoever looks at all of them: sweep and drain.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use runtime::net::Closer;
use runtime::notify::Notify;
use slab::Slab;

use crate::in_flight::InFlight;
use crate::listeners::Target;
use crate::metrics::AppMetrics;
use crate::requests::Upstream;
use crate::shard::tenants::{SessionUse, add};
use crate::tenant::session::Session;

/// What is known of one connection while it lives. The tasks of its two directions share it.
pub struct Conn {
    /// Who the client is: as accepted, or as a balancer says.
    pub peer: Cell<SocketAddr>,
    /// What the client asked for by port or name.
    pub target: Cell<Target>,
    /// Whether the broker it has is that one.
    pub upstream: Cell<Upstream>,
    pub in_flight: RefCell<InFlight>,
    /// The client is between two requests, as far as we have read.
    pub is_between: Cell<bool>,
    /// Ends both sides at once.
    client: Closer,
    broker: RefCell<Option<Closer>>,
    /// Rung when an answer made room among the requests in flight.
    pub room: Notify,
    /// Rung when this connection is to end between two requests.
    pub retire: Notify,
    pub is_retiring: Cell<bool>,
    retiring_since: Cell<Instant>,
    /// The last moment bytes moved.
    pub moved: Cell<Instant>,
    /// When somebody must have done something, or the connection ends; None: nobody owes anything.
    pub deadline: Cell<Option<(Instant, &'static str)>>,
    /// When it has lived long enough.
    pub old_at: Option<Instant>,
    /// Why it ends, once somebody has said so.
    pub reason: Cell<Option<&'static str>>,
    pub client_id: RefCell<Option<Box<str>>>,
    pub software: RefCell<Option<std::sync::Arc<str>>>,
    /// Of a proxy with tenants, once it has logged in.
    pub session: RefCell<Option<Session>>,
    /// The app it is counted for.
    pub counted: Cell<Option<u32>>,
    pub app: RefCell<Option<Rc<AppMetrics>>>,
    pub used: SessionUse,
    /// Rung when an answer was made here.
    pub answered: Notify,
    began: Instant,
}

impl Conn {
    pub fn new(peer: SocketAddr, target: Target, client: Closer, old_at: Option<Instant>, now: Instant) -> Conn {
        Conn {
            peer: Cell::new(peer),
            target: Cell::new(target),
            upstream: Cell::new(Upstream::Any),
            in_flight: RefCell::default(),
            is_between: Cell::new(true),
            client,
            broker: RefCell::new(None),
            room: Notify::new(),
            retire: Notify::new(),
            is_retiring: Cell::new(false),
            retiring_since: Cell::new(now),
            moved: Cell::new(now),
            deadline: Cell::new(None),
            old_at,
            reason: Cell::new(None),
            client_id: RefCell::new(None),
            software: RefCell::new(None),
            session: RefCell::new(None),
            counted: Cell::new(None),
            app: RefCell::new(None),
            used: SessionUse::default(),
            answered: Notify::new(),
            began: now,
        }
    }

    pub fn set_broker(&self, broker: Closer) {
        *self.broker.borrow_mut() = Some(broker);
    }

    /// It is with a broker; before that nobody can say that it is with the wrong one.
    pub fn has_broker(&self) -> bool {
        self.broker.borrow().is_some()
    }

    /// Ends both sides; the first reason stays.
    pub fn end(&self, reason: &'static str) {
        if self.reason.get().is_none() {
            self.reason.set(Some(reason));
        }
        self.client.shutdown();
        if let Some(broker) = &*self.broker.borrow() {
            broker.shutdown();
        }
    }

    /// Asks it to end between two requests.
    pub fn begin_retiring(&self, why: &'static str) {
        if !self.is_retiring.replace(true) {
            self.retiring_since.set(Instant::now());
            self.reason.set(self.reason.get().or(Some(why)));
        }
        self.retire.notify();
    }

    /// A request or an answer met a limit of its app.
    pub fn count_throttled(&self) {
        add(&self.used.throttled, 1);
        if let Some(app) = &*self.app.borrow() {
            app.throttled.inc();
        }
    }

    /// For how long it has been.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Since when.
    pub fn retiring_since(&self) -> Instant {
        self.retiring_since.get()
    }

    /// Ends it when somebody is too late.
    pub fn sweep(&self, now: Instant, idle_max: Duration) {
        if let Some((at, reason)) = self.deadline.get()
            && at <= now
        {
            self.end(reason);
        } else if !idle_max.is_zero() && now.saturating_duration_since(self.moved.get()) >= idle_max {
            self.begin_retiring("idle");
        } else if self.old_at.is_some_and(|at| at <= now) {
            self.begin_retiring("old");
        }
    }
}

/// One per shard.
pub struct Conns {
    count_max: usize,
    table: RefCell<Slab<Rc<Conn>>>,
}

impl Conns {
    pub fn new(count_max: usize) -> Conns {
        Conns { count_max, table: RefCell::default() }
    }

    pub fn add(&self, conn: &Rc<Conn>) -> usize {
        self.table.borrow_mut().insert(Rc::clone(conn))
    }

    pub fn remove(&self, key: usize) {
        self.table.borrow_mut().remove(key);
    }

    pub fn count(&self) -> usize {
        self.table.borrow().len()
    }

    pub fn is_full(&self) -> bool {
        self.count() >= self.count_max
    }

    pub fn retire_all(&self) {
        self.table.borrow().iter().for_each(|(_, conn)| conn.begin_retiring("drain"));
    }

    pub fn each(&self, look: impl FnMut(&Rc<Conn>)) {
        self.table.borrow().iter().map(|(_, conn)| conn).for_each(look);
    }
}
