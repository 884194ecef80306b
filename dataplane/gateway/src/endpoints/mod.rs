//! The endpoints of the publish and subscribe listeners: one list ([`router`]), one file each.
//!
//! [`check`] admits a request by its head alone (before a large body is read), [`start`] admits and starts it, [`open`]
//! admits one whose body is used up while it arrives. All go through [`admit`]. An endpoint sees a request as values and
//! answers with one; it knows no protocol and no shard.

pub mod batch;
pub mod docs;
mod handoff;
mod health;
mod jobs;
mod jobs_batch;
mod jobs_query;
mod params;
pub mod publish;
mod receipts;
pub mod router;
mod subscribe;
#[cfg(test)]
mod tests;

use crate::access::{Access, Grant};
use crate::env::Env;
use crate::exchange::Exchange;
use crate::exchange::body::RequestBody;
use crate::exchange::conn::{Conn, Watched};
use crate::exchange::content_encoding::Decoder;
use crate::exchange::meta::Meta;
use crate::exchange::reply::{Delivery, Header, Reply};
use crate::jobs::{Ground, Jobs};
use crate::kafka::Clusters;
use crate::kafka::destination::Destination;
use crate::limits::ANONYMOUS;
use crate::publish::batch::feed::Feed;
use crate::publish::{Around, Publishing};
use crate::refusal::Refusal;
use crate::subscribe::mail::Written;
use crate::subscribe::subscriptions::Subscriptions;
use gafka_http::Head;
use model::Snapshot;
use router::{Found, Row, Takes};
use std::rc::{Rc, Weak};
use std::time::Instant;

/// What endpoints work with. One per shard.
pub struct Services {
    pub env: Env,
    pub access: Access,
    pub clusters: Clusters,
    pub publishing: Publishing,
    pub jobs: Jobs,
    pub subscriptions: Subscriptions,
    /// Itself, for what goes on after its request's turn.
    pub itself: Weak<Services>,
}

/// What a request may do, before its body is read.
pub struct Admission {
    pub body_bytes_max: usize,
    /// [`model::App::index`], for the budget.
    pub tenant: u32,
    /// Index of the cluster on this shard, for the budget.
    pub cluster: u32,
}

/// A body nobody asked for is tolerated up to this length, and ignored.
const IDLE_BODY_BYTES_MAX: usize = 64 << 10;

enum Admitted<'s> {
    Endpoint(&'static Row, Grant<'s>),
    Options { allow: &'static str },
}

impl Services {
    /// For a task that outlives its caller's borrow.
    pub fn this(&self) -> Rc<Services> {
        self.itself.upgrade().expect("whoever borrows it keeps it")
    }

    pub fn around(&self) -> Around<'_> {
        Around {
            env: &self.env,
            access: &self.access,
            clusters: &self.clusters,
            publishing: &self.publishing,
            jobs: &self.jobs,
        }
    }

    /// What delayed jobs stand on.
    pub fn ground(&self) -> Ground<'_> {
        Ground { env: &self.env, access: &self.access, clusters: &self.clusters }
    }

    /// An answer with messages reached the network, or did not.
    pub fn settle(&self, delivery: Delivery, written: Written) {
        self.subscriptions.settle(&self.env, &self.clusters, delivery, written);
    }

    /// The client of these went away, and is answered nothing.
    pub fn client_gone(&self, watched: impl Iterator<Item = Watched>) {
        for Watched::Poll(poll) in watched {
            self.subscriptions.forget(&self.env, &self.clusters, poll);
        }
    }

    /// The client of these sends no more. It may be gone, or still read: they end as if nothing had come.
    pub fn client_silent(&self, watched: impl Iterator<Item = Watched>, now: Instant) {
        for Watched::Poll(poll) in watched {
            self.subscriptions.hang_up(&self.env, &self.clusters, poll, now);
        }
    }
}

/// Admits a request whose body is not here yet.
pub fn check(services: &Services, conn: &Conn, head: &Head<'_>) -> Result<Admission, Refusal> {
    let snapshot = services.access.borrow_snapshot();
    match admit(services, conn, head, &snapshot)? {
        Admitted::Endpoint(Row { takes: Takes::Whole(admit, _), .. }, grant) => admit(services, &grant),
        _ => Ok(Admission { body_bytes_max: IDLE_BODY_BYTES_MAX, tenant: ANONYMOUS, cluster: ANONYMOUS }),
    }
}

/// Admits and starts a request; it is answered now or later. Returns where a publish goes that was accepted.
pub fn start(
    services: &Services,
    exchange: Exchange,
    head: &Head<'_>,
    body: RequestBody<'_>,
    now: Instant,
) -> Option<Destination> {
    let snapshot = services.access.borrow_snapshot();
    match admit(services, &exchange.conn, head, &snapshot) {
        Ok(Admitted::Endpoint(row, grant)) => match row.takes {
            Takes::Nothing(start) | Takes::Whole(_, start) => start(services, exchange, head, &grant, body, now),
            Takes::Pieces(_) => unreachable!("opened by its head"),
        },
        Ok(Admitted::Options { allow }) => {
            options(services, exchange, allow, now);
            None
        }
        Err(refusal) => {
            exchange.refuse(&services.env, &refusal, now);
            None
        }
    }
}

/// Admits and opens a request by its head; its body is what comes. `None`: it is another request after all.
pub fn open(
    services: &Services,
    conn: &Rc<Conn>,
    meta: &Meta,
    head: &Head<'_>,
    begun: Instant,
) -> Result<Option<(Feed, Option<Decoder>)>, Refusal> {
    let snapshot = services.access.borrow_snapshot();
    match admit(services, conn, head, &snapshot)? {
        Admitted::Endpoint(Row { takes: Takes::Pieces(open), .. }, grant) => {
            open(services, conn, meta, head, &grant, begun).map(Some)
        }
        _ => Ok(None),
    }
}

fn admit<'s>(
    services: &Services,
    conn: &Conn,
    head: &Head<'_>,
    snapshot: &'s Snapshot,
) -> Result<Admitted<'s>, Refusal> {
    match router::route(conn.side, head.method, head.path)? {
        Found::Endpoint(row, names) => {
            let grant = services.access.authorize(&services.env, conn, head, snapshot, row.wants, &names)?;
            Ok(Admitted::Endpoint(row, grant))
        }
        // Its query is not looked at: a preflight that fails would hide the real answer from a browser's script.
        Found::Options { allow } => Ok(Admitted::Options { allow }),
    }
}

/// Request headers a browser may send from a configured origin.
const CORS_HEADERS: &str = "Appid, Pubkey, Subkey, Authorization, Accept, Content-Type, Content-Encoding, X-Tag, \
                            X-Request-Id, traceparent, *";

fn options(services: &Services, mut exchange: Exchange, allow: &'static str, now: Instant) {
    let mut reply = Reply::no_content().with(Header::text("Allow", allow));
    if exchange.meta.origin.is_some() {
        reply.headers.push(Header::text("Access-Control-Allow-Methods", allow));
        reply.headers.push(Header::text("Access-Control-Allow-Headers", CORS_HEADERS));
        reply.headers.push(Header::text("Access-Control-Max-Age", "600"));
    }
    exchange.endpoint = "options";
    exchange.answer(&services.env, reply, now);
}
