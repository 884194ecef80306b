//! The endpoints of the publish and subscribe listeners, one file each.
//!
//! [`check`] admits a request by its head alone (before a large body is read), [`start`] admits and starts it. Both
//! go through [`admit`], the only place where an endpoint is matched.

pub mod batch;
pub mod docs;
mod health;
mod parameters;
pub mod publish;
mod subscribe;

use crate::conn::{Conn, RequestMeta};
use crate::content_encoding::{self, Coding, Decoder, Window};
use crate::destination::Destination;
use crate::endpoints::publish::RecordHeaders;
use crate::limits::{ANONYMOUS, PUBLISH_OVERHEAD_BYTES};
use crate::repeated::Repeated;
use crate::reply::{self, Failure};
use crate::router::{self, Endpoint, RouteError};
use crate::shard::Shard;
use crate::standing::Standing;
use crate::streaming::Streaming;
use bytes::Bytes;
use gafka_http::{Head, Method};
use model::ids::PhysicalTopic;
use model::{App, Permit, RawPermit, Side, Snapshot, authorize_publish, authorize_raw, authorize_subscribe};
use runtime::budget::Reservation;
use std::rc::Rc;
use std::time::Instant;

/// A message body: still in the read buffer, or collected into its own.
#[derive(Debug)]
pub enum Body<'b> {
    Slice(&'b [u8]),
    Owned(Bytes),
}

impl Body<'_> {
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn as_slice(&self) -> &[u8] {
        match self {
            Body::Slice(bytes) => bytes,
            Body::Owned(bytes) => bytes,
        }
    }
}

/// What a request may do, before its body is read.
pub struct Admission {
    pub body_bytes_max: usize,
    /// [`model::App::index`], for the budget.
    pub tenant: u32,
    /// Index of the cluster on this shard, for the budget.
    pub cluster: u32,
}

impl Admission {
    fn of(destination: &Destination) -> Admission {
        Admission {
            body_bytes_max: destination.message_bytes_max,
            tenant: destination.tenant,
            cluster: destination.route.cluster as u32,
        }
    }
}

enum Admitted<'s> {
    Publish(Permit<'s>),
    Batch(Permit<'s>),
    Raw(RawPermit<'s>),
    RawBatch(RawPermit<'s>),
    Subscribe(Permit<'s>),
    Alive,
    Healthz,
    Readyz,
    Options { allow: &'static str },
}

/// Admits a request whose body is not here yet.
pub fn check(shard: &Shard, conn: &Conn, head: &Head<'_>) -> Result<Admission, Failure> {
    let snapshot = shard.borrow_snapshot();
    match admit(shard, conn, head, &snapshot)? {
        Admitted::Publish(permit) => Ok(Admission::of(&shard.destination(&permit)?)),
        Admitted::Raw(permit) => Ok(Admission::of(&shard.raw_destination(&permit)?)),
        // No other endpoint takes a body; a small one is tolerated and ignored.
        _ => Ok(Admission { body_bytes_max: 64 << 10, tenant: ANONYMOUS, cluster: ANONYMOUS }),
    }
}

/// Admits and starts a request. Its answer goes into a slot of the connection, now or later. Returns where a publish
/// goes that was accepted.
#[allow(clippy::too_many_arguments, reason = "the one entry of the request path, all of it borrowed")]
pub fn start(
    shard: &Rc<Shard>,
    conn: &Rc<Conn>,
    meta: &RequestMeta,
    head: &Head<'_>,
    body: Body<'_>,
    reservation: Option<Reservation>,
    begun: Instant,
    now: Instant,
) -> Option<Destination> {
    let sequence = conn.open_slot();
    match try_start(shard, conn, sequence, meta, head, body, reservation, begun, now) {
        Ok(destination) => destination,
        Err(failure) => {
            refuse(shard, conn, sequence, meta, &failure, begun, now);
            None
        }
    }
}

/// Starts a publish whose head was admitted before and is [in force](crate::repeated::Repeated::is_in_force) still.
pub fn start_repeated(
    shard: &Rc<Shard>,
    conn: &Rc<Conn>,
    repeated: &Repeated,
    query: Option<&str>,
    body: &[u8],
    begun: Instant,
    now: Instant,
) {
    let sequence = conn.open_slot();
    let meta = repeated.meta(shard);
    shard.metrics.repeated();
    let result = take_whole(shard, &repeated.destination, body.len(), None).and_then(|reservation| {
        let none = RecordHeaders::default();
        let (destination, body) = (&repeated.destination, Body::Slice(body));
        publish::start(shard, conn, sequence, &meta, query, &none, destination, body, reservation, begun, now)
    });
    if let Err(failure) = result {
        refuse(shard, conn, sequence, &meta, &failure, begun, now);
    }
}

fn refuse(
    shard: &Shard,
    conn: &Conn,
    sequence: u64,
    meta: &RequestMeta,
    failure: &Failure,
    begun: Instant,
    now: Instant,
) {
    let answer = reply::failure(&meta.context(shard), failure);
    shard.finish(conn, sequence, meta, "refused", failure.status, begun, now, answer);
}

#[allow(clippy::too_many_arguments, reason = "as start()")]
fn try_start(
    shard: &Rc<Shard>,
    conn: &Rc<Conn>,
    sequence: u64,
    meta: &RequestMeta,
    head: &Head<'_>,
    body: Body<'_>,
    reservation: Option<Reservation>,
    begun: Instant,
    now: Instant,
) -> Result<Option<Destination>, Failure> {
    let snapshot = shard.borrow_snapshot();
    let destination = match admit(shard, conn, head, &snapshot)? {
        Admitted::Publish(permit) => shard.destination(&permit)?,
        Admitted::Raw(permit) => shard.raw_destination(&permit)?,
        Admitted::Batch(_) | Admitted::RawBatch(_) => unreachable!("batches are opened by their heads: open_stream"),
        Admitted::Subscribe(permit) => {
            return subscribe::start(shard, conn, sequence, meta, head, &permit, begun, now).map(|()| None);
        }
        Admitted::Alive => return health::alive(shard, conn, sequence, meta, begun, now).map(|()| None),
        Admitted::Healthz => return health::healthz(shard, conn, sequence, meta, begun, now).map(|()| None),
        Admitted::Readyz => return health::readyz(shard, conn, sequence, meta, begun, now).map(|()| None),
        Admitted::Options { allow } => {
            options(shard, conn, sequence, meta, allow, begun, now);
            return Ok(None);
        }
    };
    let mut reservation = take_whole(shard, &destination, body.len(), reservation)?;
    let body = decoded(shard, &destination, head, body, &mut reservation)?;
    let headers = RecordHeaders::of(head)?;
    publish::start(shard, conn, sequence, meta, head.query, &headers, &destination, body, reservation, begun, now)?;
    Ok(Some(destination))
}

/// Whether a message of that size may be published there now, and the memory for it.
fn take_whole(
    shard: &Shard,
    destination: &Destination,
    body_bytes: usize,
    reservation: Option<Reservation>,
) -> Result<Reservation, Failure> {
    let limit = destination.message_bytes_max;
    if body_bytes > limit {
        return Err(too_large(limit));
    }
    match reservation {
        Some(reservation) => Ok(reservation),
        None => {
            let cluster = destination.route.cluster as u32;
            shard.reserve(destination.tenant, cluster, body_bytes + PUBLISH_OVERHEAD_BYTES)
        }
    }
}

/// A message's body with its content coding taken off.
fn decoded<'b>(
    shard: &Shard,
    destination: &Destination,
    head: &Head<'_>,
    body: Body<'b>,
    reservation: &mut Reservation,
) -> Result<Body<'b>, Failure> {
    match Coding::of(head.known.content_encoding)? {
        Some(coding) if !body.is_empty() => {
            let window = Window::within(shard.budget.limits().tenant_bytes_max);
            let cluster = destination.route.cluster as u32;
            let _decoder = shard.reserve(destination.tenant, cluster, window.decoder_bytes(coding))?;
            let limit = destination.message_bytes_max;
            let bytes = content_encoding::decode_whole(coding, window, body.as_slice(), limit, |bytes| {
                reservation.grow(bytes).map_err(|refused| shard.refused(&refused))
            })?;
            Ok(Body::Owned(bytes))
        }
        _ => Ok(body),
    }
}

/// Whether a request may be one whose body is used up while it arrives; looked at before it is admitted.
pub fn may_stream(conn: &Conn, head: &Head<'_>) -> bool {
    conn.side == Side::Publish && head.method == Method::Post && head.path.ends_with("/batch")
}

/// Admits and opens a batch by its head; its body is what comes. `None`: it is another request after all.
pub fn open_stream(
    shard: &Shard,
    conn: &Rc<Conn>,
    meta: &RequestMeta,
    head: &Head<'_>,
    begun: Instant,
    now: Instant,
) -> Result<Option<Streaming>, Failure> {
    let snapshot = shard.borrow_snapshot();
    let (destination, standing) = match admit(shard, conn, head, &snapshot)? {
        Admitted::Batch(permit) => (shard.destination(&permit)?, Standing::of(shard, conn, head, &permit)?),
        Admitted::RawBatch(permit) => (shard.raw_destination(&permit)?, Standing::of_raw(shard, conn, head, &permit)?),
        _ => return Ok(None),
    };
    let window = Window::within(shard.budget.limits().tenant_bytes_max);
    let coding = Coding::of(head.known.content_encoding)?;
    let decoder_bytes = coding.map_or(0, |coding| window.decoder_bytes(coding));
    let decoder = coding
        .map(|coding| Decoder::new(coding, window))
        .transpose()
        .map_err(|err| Failure::overloaded(&format!("cannot make a decoder: {err}")))?;
    let feed = batch::open(shard, conn, meta, head, destination, standing, decoder_bytes, begun)?;
    Ok(Some(Streaming::new(head.body, decoder, feed, begun, now)))
}

fn admit<'s>(shard: &Shard, conn: &Conn, head: &Head<'_>, snapshot: &'s Snapshot) -> Result<Admitted<'s>, Failure> {
    let endpoint = router::route(conn.side, head.method, head.path).map_err(|err| match err {
        RouteError::NotFound => Failure::new(404, "no_such_path", "there is no such path on this listener"),
        RouteError::BadPath => Failure::bad_request(
            "bad_path",
            "the path has a malformed percent escape, or an encoded slash or control character",
        ),
        RouteError::MethodNotAllowed { allow } => {
            Failure::new(405, "method_not_allowed", format!("this path answers {allow}")).with("Allow", allow)
        }
    })?;
    match endpoint {
        Endpoint::Publish { topic, version } => {
            let app = shard.authenticate(conn, head, snapshot)?;
            authorize_publish(snapshot, app, &topic, &version)
                .map(Admitted::Publish)
                .map_err(|denied| Failure::from_denied(&denied))
        }
        Endpoint::Batch { topic, version } => {
            let app = shard.authenticate(conn, head, snapshot)?;
            authorize_publish(snapshot, app, &topic, &version)
                .map(Admitted::Batch)
                .map_err(|denied| Failure::from_denied(&denied))
        }
        Endpoint::Raw { cluster, topic } => {
            let app = shard.authenticate(conn, head, snapshot)?;
            raw_permit(snapshot, app, &cluster, &topic).map(Admitted::Raw)
        }
        Endpoint::RawBatch { cluster, topic } => {
            let app = shard.authenticate(conn, head, snapshot)?;
            raw_permit(snapshot, app, &cluster, &topic).map(Admitted::RawBatch)
        }
        Endpoint::Subscribe { owner, topic, version } => {
            let app = shard.authenticate(conn, head, snapshot)?;
            authorize_subscribe(snapshot, app, &owner, &topic, &version)
                .map(Admitted::Subscribe)
                .map_err(|denied| Failure::from_denied(&denied))
        }
        Endpoint::Alive => parameters::none(head.query).map(|()| Admitted::Alive),
        Endpoint::Healthz => parameters::none(head.query).map(|()| Admitted::Healthz),
        Endpoint::Readyz => parameters::none(head.query).map(|()| Admitted::Readyz),
        // Its query is not looked at: a preflight that fails would hide the real answer from a browser's script.
        Endpoint::Options { allow } => Ok(Admitted::Options { allow }),
    }
}

/// A name that Kafka takes for no topic is the request's mistake, whatever is granted.
fn raw_permit<'s>(snapshot: &'s Snapshot, app: &'s App, cluster: &str, topic: &str) -> Result<RawPermit<'s>, Failure> {
    authorize_raw(snapshot, app, cluster, topic).map_err(|denied| match PhysicalTopic::new(topic) {
        Ok(_) => Failure::from_denied(&denied),
        Err(err) => Failure::bad_request("bad_topic_name", err.to_string()),
    })
}

/// The body is over the topic's limit; nothing was stored.
pub fn too_large(limit: usize) -> Failure {
    Failure::new(413, "message_too_large", format!("the message is over the limit of {limit} bytes"))
}

/// Request headers a browser may send from a configured origin.
const CORS_HEADERS: &str = "Appid, Pubkey, Subkey, Authorization, Accept, Content-Type, Content-Encoding, X-Tag, \
                            X-Request-Id, traceparent, *";

#[allow(clippy::too_many_arguments, reason = "as start()")]
fn options(
    shard: &Shard,
    conn: &Conn,
    sequence: u64,
    meta: &RequestMeta,
    allow: &'static str,
    begun: Instant,
    now: Instant,
) {
    let mut headers = vec![("Allow", allow)];
    if meta.origin.is_some() {
        headers.push(("Access-Control-Allow-Methods", allow));
        headers.push(("Access-Control-Allow-Headers", CORS_HEADERS));
        headers.push(("Access-Control-Max-Age", "600"));
    }
    let answer = reply::no_content(&meta.context(shard), &headers);
    shard.finish(conn, sequence, meta, "options", 204, begun, now, answer);
}
