//! One request on its way to its answer.
//!
//! An [`Exchange`] is made when a request starts and is carried along to whoever answers it: at once, when Kafka's
//! outcome is there, from another shard. It knows who asked, where the answer goes, what it holds of the memory budget,
//! when it began and how metrics and log name it. What it says is a value ([`reply::Reply`]); the protocol of the
//! connection writes it.

pub mod body;
pub mod conn;
pub mod content_encoding;
pub mod meta;
pub mod reply;
pub mod slots;

use crate::env::Env;
use crate::refusal::Refusal;
use conn::{Conn, Watched};
use meta::Meta;
use reply::Reply;
use runtime::budget::{Refused, Reservation};
use slots::Answered;
use std::rc::Rc;
use std::time::Instant;

/// How metrics and log name a request that reached no endpoint.
pub const REFUSED: &str = "refused";

/// One request. It is answered once; another answer goes nowhere.
pub struct Exchange {
    pub conn: Rc<Conn>,
    /// Which of the connection's answers this one is.
    sequence: u64,
    pub meta: Meta,
    /// Name of the endpoint, for metrics and log.
    pub endpoint: &'static str,
    pub begun: Instant,
    /// What it holds of the memory budget until it is gone: that is what bounds a dead cluster's share of memory.
    pub held: Option<Reservation>,
}

impl Exchange {
    /// Opens the connection's next answer.
    pub fn open(conn: &Rc<Conn>, meta: Meta, begun: Instant) -> Exchange {
        let sequence = conn.slots().open();
        Exchange { conn: Rc::clone(conn), sequence, meta, endpoint: REFUSED, begun, held: None }
    }

    /// The answer, counted and logged. False: nobody waits for it any more.
    pub fn answer(&self, env: &Env, reply: Reply, now: Instant) -> bool {
        self.count(env, reply.status, now);
        self.begin(reply)
    }

    pub fn refuse(&self, env: &Env, refusal: &Refusal, now: Instant) {
        self.answer(env, Reply::refusal(refusal), now);
    }

    /// An answer that grows while it is written; [`Exchange::count`] follows when its end is known.
    pub fn grow(&self, reply: Reply) {
        self.begin(reply);
    }

    /// Has the connection look again at the body that comes or the answer that grows.
    pub fn wake(&self) {
        self.conn.wake();
    }

    /// `what` is to be told when the client is gone before the answer.
    pub fn watch(&self, what: Watched) {
        self.conn.watch(self.sequence, what);
    }

    /// Metrics and access log of a request whose status is known.
    pub fn count(&self, env: &Env, status: u16, now: Instant) {
        let elapsed = now.saturating_duration_since(self.begun);
        env.metrics.finished(self.endpoint, status, elapsed);
        env.access_log.write(env.wall_clock_ms(), self.conn.peer, self.endpoint, status, elapsed, &self.meta.id);
    }

    fn begin(&self, reply: Reply) -> bool {
        self.conn.fill(self.sequence, Answered::new(self.meta.clone(), reply))
    }
}

/// Sets memory aside for a request, or says that nothing was stored.
pub fn reserve(env: &Env, tenant: u32, cluster: u32, bytes: usize) -> Result<Reservation, Refusal> {
    env.budget.try_reserve(tenant, cluster, bytes).map_err(|refused| budget_spent(env, &refused))
}

/// A spent budget as an answer, counted.
pub fn budget_spent(env: &Env, refused: &Refused) -> Refusal {
    env.metrics.budget_refused(refused.scope);
    Refusal::overloaded(&refused.to_string())
}
