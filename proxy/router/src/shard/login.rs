//! A tenant's client before it is let in: it may ask for versions and prove who it is. Brokers hear nothing of it, but for
//! what they offer, once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use kafka_wire::ApiKey;
use kafka_wire::frame::{self, FrameError};
use model::quota::{Measure, Subject};
use model::sasl::Login;
use model::{AuditEvent, AuditWhat, Denied, Full};
use runtime::clock::now_ms;
use runtime::net::{ReadHalf, WriteHalf};
use runtime::pool::PooledBuf;
use runtime::{Either, race};

use crate::limits::{LOGIN_TIMEOUT, STRANGER_REQUEST_BYTES_MAX};
use crate::requests::{RequestError, Watch};
use crate::shard::Shard;
use crate::shard::conns::Conn;
use crate::shard::pipe::{End, note_asker};
use crate::shard::tenants::{self, TenantShard, audit, node_of};
use crate::tenant::door::{self, Door, Step};
use crate::tenant::requests::read_head;
use crate::tenant::rules::Way;
use crate::tenant::session::Session;
use crate::tenant::versions::Offered;
use crate::tenant::whole::Head;

/// A client that was let in.
pub struct Welcome {
    /// What it sent behind its login.
    pub buffer: PooledBuf,
    /// What it was told the broker offers.
    pub offered: Arc<Offered>,
}

/// Talks with a stranger until it is none, or is shown out.
pub async fn log_in(
    shard: &Rc<Shard>,
    conn: &Rc<Conn>,
    from: &mut ReadHalf,
    to: &mut WriteHalf,
    mut buffer: PooledBuf,
) -> Result<Welcome, End> {
    let tenants = shard.tenants.as_ref().expect("only a proxy with tenants asks for a login");
    conn.deadline.set(Some((Instant::now() + LOGIN_TIMEOUT, "no_login")));
    let no_broker = |err: std::io::Error| End::Fault { reason: "no_broker", message: err.to_string() };
    let offered = tenants::offered(shard, conn.target.get()).await.map_err(no_broker)?;
    let mut door = Door::of_stranger();
    loop {
        while let Some(heard) = next(&mut buffer, &offered, door.is_bare())? {
            let said = match heard {
                Heard::Request(head, frame) => answer(shard, tenants, conn, &head, &frame, &offered, &mut door)?,
                Heard::Bare(message) => answer_bare(shard, tenants, conn, &message, &mut door),
            };
            shard.metrics.client_out.add(said.answer.len() as u64);
            if !said.answer.is_empty() {
                to.write_all(said.answer.freeze()).await?;
            }
            match said.then {
                Then::GoesOn => {}
                Then::Enters => {
                    conn.deadline.set(None);
                    return Ok(Welcome { buffer, offered });
                }
                Then::Leaves(reason, message) => {
                    // It reads why, then the end.
                    let _ = to.finish().await;
                    return Err(End::Fault { reason, message });
                }
            }
        }
        match race(from.readable(), conn.retire.notified()).await {
            Either::First(readable) => readable?,
            Either::Second(()) => return Err(End::Retired),
        }
        if buffer.len() == buffer.capacity() {
            buffer.reserve(STRANGER_REQUEST_BYTES_MAX);
        }
        let (read, filled) = from.read(buffer).await;
        buffer = filled;
        match read? {
            0 => return Err(End::Finished),
            count => shard.metrics.client_in.add(count as u64),
        }
    }
}

enum Heard {
    Request(Head, Bytes),
    /// A message of an exchange that began with a handshake of version 0.
    Bare(Bytes),
}

/// The next whole request of a stranger.
fn next(buffer: &mut BytesMut, offered: &Offered, is_bare: bool) -> Result<Option<Heard>, End> {
    let fault = |err: RequestError| End::Fault { reason: err.reason(), message: err.to_string() };
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let checked = frame::check_length(*length, STRANGER_REQUEST_BYTES_MAX);
    let length = match checked {
        Ok(length) => length,
        // One that has not been told apart yet from what may be larger.
        Err(err @ FrameError::TooLarge { .. }) => {
            let message = format!("{err}: before a login no request is as large");
            return Err(End::Fault { reason: "not_logged_in", message });
        }
        Err(err) => return Err(fault(err.into())),
    };
    if buffer.len() < 4 + length {
        return Ok(None);
    }
    if is_bare {
        return Ok(Some(Heard::Bare(buffer.split_to(4 + length).freeze().slice(4..))));
    }
    let head = read_head(&buffer[4..4 + length], length, offered).map_err(fault)?;
    if head.rule.way != Way::Local {
        let message = format!("{} before a login: this proxy wants SASL", head.rule.key.name());
        return Err(End::Fault { reason: "not_logged_in", message });
    }
    Ok(Some(Heard::Request(head, buffer.split_to(head.frame_bytes).freeze())))
}

struct Said {
    answer: BytesMut,
    then: Then,
}

enum Then {
    GoesOn,
    Enters,
    Leaves(&'static str, String),
}

/// Tells who asks for versions.
struct Asking<'a>(&'a Shard, &'a Conn);

impl Watch for Asking<'_> {
    fn request(&mut self, _: &'static crate::apis::Api, _: usize) {}

    fn asker(&mut self, asker: &crate::rewrite::api_versions::Asker) {
        note_asker(self.0, self.1, asker);
    }
}

fn answer(
    shard: &Rc<Shard>,
    tenants: &TenantShard,
    conn: &Conn,
    head: &Head,
    frame: &Bytes,
    offered: &Offered,
    door: &mut Door,
) -> Result<Said, End> {
    let fault = |err: RequestError| End::Fault { reason: err.reason(), message: err.to_string() };
    if head.rule.key == ApiKey::ApiVersions {
        let (cluster, node) = (&*tenants.cluster, node_of(conn.target.get()));
        let answer = crate::tenant::requests::versions(head, frame, offered, cluster, node, &mut Asking(shard, conn));
        return Ok(Said { answer: answer.map_err(fault)?, then: Then::GoesOn });
    }
    let snapshot = Arc::clone(&tenants.snapshot());
    let step = door.step(head, frame, &snapshot, random).map_err(|err| fault(err.into()))?;
    let (version, id) = (head.version, head.correlation_id);
    let (why, reason) = match step {
        Step::Answer(answer) => return Ok(Said { answer, then: Then::GoesOn }),
        Step::Proved { login, last } => match enter(shard, tenants, conn, login) {
            Ok(()) => return Ok(Said { answer: door::welcome(version, id, &last), then: Then::Enters }),
            Err(refused) => refused,
        },
        Step::Failed { app, denied } => (failed(shard, tenants, conn, &app, denied).to_string(), "login_failed"),
    };
    Ok(Said { answer: door::refuse(version, id, &why), then: Then::Leaves(reason, why) })
}

/// There is no room for a sentence: who is refused sees the end, and the log says why.
fn answer_bare(shard: &Rc<Shard>, tenants: &TenantShard, conn: &Conn, message: &[u8], door: &mut Door) -> Said {
    let snapshot = Arc::clone(&tenants.snapshot());
    let (why, reason) = match door.bare_step(message, &snapshot, random) {
        Step::Answer(answer) => return Said { answer, then: Then::GoesOn },
        Step::Proved { login, last } => match enter(shard, tenants, conn, login) {
            Ok(()) => return Said { answer: door::bare(&last), then: Then::Enters },
            Err(refused) => refused,
        },
        Step::Failed { app, denied } => (failed(shard, tenants, conn, &app, denied).to_string(), "login_failed"),
    };
    Said { answer: BytesMut::new(), then: Then::Leaves(reason, why) }
}

/// Bytes nobody can guess.
pub fn random() -> [u8; model::limits::SCRAM_NONCE_RANDOM_BYTES] {
    let mut random = [0; model::limits::SCRAM_NONCE_RANDOM_BYTES];
    for piece in random.chunks_mut(8) {
        let bytes = runtime::clock::seed().to_ne_bytes();
        piece.copy_from_slice(&bytes[..piece.len()]);
    }
    random
}

/// A failed login is counted, and told in the words of REST.
pub fn failed(shard: &Shard, tenants: &TenantShard, conn: &Conn, app: &str, denied: Denied) -> Denied {
    let peer = conn.peer.get();
    let denied = match denied.is_failed_login() {
        true => tenants.config.ledger.lock_logins().failed(peer.ip(), app, Instant::now()),
        false => denied,
    };
    shard.metrics.tenants.login(denied.code());
    // Beyond the limit the log, too, is spared.
    if !matches!(denied, Denied::TooManyFailedLogins { .. }) {
        tracing::info!(target: "audit", event = "login_failed", app, %peer, code = denied.code(), "login failed");
    }
    let what = match denied {
        Denied::TooManyFailedLogins { .. } => AuditWhat::KafkaLoginLimited,
        _ if denied.is_failed_login() => AuditWhat::KafkaLoginFailed,
        _ => AuditWhat::KafkaLoginRefused,
    };
    audit(shard, AuditEvent::new(now_ms(), what, app, peer, &denied.to_string()));
    denied
}

/// Opens the session of whoever has proved who it is.
fn enter(shard: &Rc<Shard>, tenants: &TenantShard, conn: &Conn, login: Login) -> Result<(), (String, &'static str)> {
    let peer = conn.peer.get();
    let snapshot = Arc::clone(&tenants.snapshot());
    let (name, side) = (login.app().to_string(), login.side());
    let begun = Session::begin(login, peer.ip(), Arc::clone(&tenants.cluster), snapshot);
    let session = begun.map_err(|over| {
        shard.metrics.tenants.login("refused");
        tracing::info!(target: "audit", event = "login_refused", app = name, %peer, why = %over, "login refused");
        let event = AuditEvent::new(now_ms(), AuditWhat::KafkaLoginRefused, &name, peer, &over.to_string());
        audit(shard, event.side(side));
        (over.to_string(), "login_refused")
    })?;
    count(tenants, conn, &session).map_err(|why| {
        shard.metrics.tenants.login("too_many_connections");
        (why, "connections_of_app")
    })?;
    shard.metrics.tenants.login("ok");
    conn.app.replace(Some(shard.metrics.tenants.app(&name)));
    conn.session.replace(Some(session));
    Ok(())
}

/// Counts the connection for its app.
fn count(tenants: &TenantShard, conn: &Conn, session: &Session) -> Result<(), String> {
    let (app, ledger) = (session.tenant().app, &tenants.config.ledger);
    let meter = app
        .limits
        .get(Measure::Connections)
        .map(|_| ledger.quotas.meter(Subject::of_app(app), &app.limits, ledger.nanos(Instant::now())));
    let most = meter.as_ref().map(|meter| meter.connections_max());
    match ledger.connections.try_add_below(app.index, most) {
        Ok(()) => {
            conn.counted.set(Some(app.index));
            Ok(())
        }
        Err(Full { of_its_own: true }) if meter.is_some() => {
            Err(meter.expect("looked at").refuse_connection().to_string())
        }
        Err(_) => Err(format!("app {} has as many connections as it may; use those it has", app.id)),
    }
}
