//! The two directions of a connection, a task each: read, recognise, write what may leave.
//!
//! A side that does not take what it is sent stops the other from being read: nothing is queued but one buffer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::{ApiKey, peek};
use model::limits::SCRAM_NONCE_RANDOM_BYTES;
use model::tenant::{Access, NoTopic};
use model::{App, AuditEvent, AuditWhat, Denied, Side, Topic};
use runtime::budget::Reservation;
use runtime::clock::now_ms;
use runtime::net::{ReadHalf, WriteHalf};
use runtime::pool::PooledBuf;
use runtime::{Either, race};
use telemetry::Counter;

use crate::answers::{self, Answers};
use crate::apis::Api;
use crate::in_flight::{Asked, Outstanding};
use crate::limits::{STALL_TIMEOUT, THROTTLE_MAX};
use crate::metrics::AppMetrics;
use crate::requests::{RequestError, Requests};
use crate::rewrite::api_versions::Asker;
use crate::shard::conns::Conn;
use crate::shard::tenants::{self, SessionUse, TenantShard, add, node_of};
use crate::shard::{Shard, login};
use crate::tenant::answers::{self as tenant_answers, TenantAnswers};
use crate::tenant::requests::{self, TenantRequests, Turn};
use crate::tenant::session::Session;
use crate::tenant::versions::Offered;
use crate::tenant::whole::Used;
use crate::topology::View;

/// Longest client id kept for the log.
const CLIENT_ID_SHOWN_MAX: usize = 64;

/// Why a direction ended.
pub enum End {
    /// The side it reads from has said that no more comes.
    Finished,
    /// Between two requests, because it was asked to.
    Retired,
    /// One side is at fault; it was said in `reason` for the metric.
    Fault { reason: &'static str, message: String },
}

impl From<std::io::Error> for End {
    fn from(err: std::io::Error) -> End {
        End::Fault { reason: "connection_lost", message: err.to_string() }
    }
}

/// What both directions know.
pub struct Pipe {
    pub shard: Rc<Shard>,
    pub conn: Rc<Conn>,
    pub view: View,
    pub broker_bytes: Counter,
    /// What its tenant was told the broker offers. None: the client is nobody's tenant.
    pub tenant: Option<Arc<Offered>>,
}

/// Counts while requests pass.
struct RequestWatch<'a>(&'a Pipe);

impl crate::requests::Watch for RequestWatch<'_> {
    fn request(&mut self, api: &'static Api, bytes: usize) {
        self.0.shard.metrics.request(api, bytes);
    }

    fn asker(&mut self, asker: &Asker) {
        note_asker(&self.0.shard, &self.0.conn, asker);
    }
}

/// Remembers what a client calls its software.
pub fn note_asker(shard: &Shard, conn: &Conn, asker: &Asker) {
    let software: Arc<str> = match asker.software_name.as_str() {
        "" => "unknown".into(),
        name => format!("{name} {}", asker.software_version).into(),
    };
    if conn.software.borrow().is_none() {
        shard.metrics.software(Arc::clone(&software));
        *conn.software.borrow_mut() = Some(software);
    }
}

/// What a tenant's messages are told and asked on the way.
struct Desk<'a> {
    pipe: &'a Pipe,
    tenants: &'a TenantShard,
    app: u32,
    memory: &'a mut Option<Reservation>,
    now: Instant,
}

impl Desk<'_> {
    fn hold(&mut self, bytes: usize) -> bool {
        if self.memory.is_none() {
            *self.memory = self.tenants.budget.try_reserve(self.app, ONE_CLUSTER, bytes).ok();
        }
        self.memory.is_some()
    }

    fn note(&self, note: impl FnOnce(&SessionUse, &AppMetrics)) {
        if let Some(app) = &*self.pipe.conn.app.borrow() {
            note(&self.pipe.conn.used, app);
        }
    }
}

/// A proxy has one.
const ONE_CLUSTER: u32 = 0;

impl crate::requests::Watch for Desk<'_> {
    fn request(&mut self, api: &'static Api, bytes: usize) {
        self.pipe.shard.metrics.request(api, bytes);
        self.note(|used, app| {
            app.requests.inc();
            add(&used.requests, 1);
        });
    }

    fn asker(&mut self, asker: &Asker) {
        note_asker(&self.pipe.shard, &self.pipe.conn, asker);
    }
}

impl requests::Desk for Desk<'_> {
    fn refused(&mut self, why: &NoTopic) {
        tracing::debug!(peer = %self.pipe.conn.peer.get(), %why, "topic refused");
        self.note(|used, app| {
            app.refused.inc();
            add(&used.refused, 1);
        });
    }

    fn wait(&mut self, side: Side, app: &App, topics: &[&Topic], bytes: u64) -> Option<Duration> {
        self.tenants.wait(side, app, topics.iter().copied(), bytes, self.now)
    }

    fn used(&mut self, side: Side, app: &App, topic: Option<&Topic>, messages: u64, bytes: u64) {
        self.tenants.charge(side, app, topic, messages, bytes, self.now);
        if topic.is_none() {
            self.note(|used, app| {
                app.messages_in.add(messages);
                app.bytes_in.add(bytes);
                add(&used.messages_in, messages);
                add(&used.bytes_in, bytes);
            });
        }
    }

    fn random(&mut self) -> [u8; SCRAM_NONCE_RANDOM_BYTES] {
        login::random()
    }

    fn login_failed(&mut self, app: &str, denied: Denied) -> Denied {
        login::failed(&self.pipe.shard, self.tenants, &self.pipe.conn, app, denied)
    }

    fn audit(&mut self, what: &'static str, about: &str) {
        let app = self.pipe.conn.app.borrow().as_ref().map(|app| Arc::clone(&app.app)).unwrap_or_default();
        let peer = self.pipe.conn.peer.get();
        tracing::info!(target: "audit", event = what, %app, %peer, groups = about, "asked for by a Kafka client");
        let what = match what {
            what if what == ApiKey::DeleteGroups.name() => AuditWhat::KafkaGroupsDeleted,
            _ => AuditWhat::KafkaOffsetsDeleted,
        };
        tenants::audit(&self.pipe.shard, AuditEvent::new(now_ms(), what, &app, peer, about));
    }

    fn try_hold(&mut self, bytes: usize) -> bool {
        self.hold(bytes)
    }
}

impl answers::Watch for Desk<'_> {
    fn answer(&mut self, to: &Outstanding, bytes: usize) {
        self.pipe.shard.metrics.answer(to.api, bytes, self.now.saturating_duration_since(to.at));
    }

    fn hidden(&mut self) {
        self.pipe.shard.metrics.hidden.inc();
    }
}

impl tenant_answers::Desk for Desk<'_> {
    fn throttle_ms(&mut self, asked: &Asked, session: &Session) -> i32 {
        let Some(side) = asked.side else { return 0 };
        let tenant = session.tenant();
        let wait = match side {
            Side::Publish => {
                let topics = TenantShard::named(&tenant, &asked.limited, Access::Write);
                self.tenants.wait(side, tenant.app, topics, 0, self.now)
            }
            Side::Subscribe => self.tenants.wait(side, tenant.app, session.limited(), 0, self.now),
        };
        let wait = wait.map_or(0, |wait| wait.min(THROTTLE_MAX).as_millis() as i32);
        if wait > 0 {
            self.pipe.conn.count_throttled();
        }
        wait
    }

    fn gives(&mut self, session: &Session, topic: &Arc<str>, bytes: u64) {
        let used = Used { name: Arc::clone(topic), has_limits: false, messages: 0, bytes };
        draw(self, session, &[used], bytes);
    }

    fn fetched(&mut self, session: &Session, topics: &[Used], bytes: u64) {
        draw(self, session, topics, bytes);
    }

    fn try_hold(&mut self, bytes: usize) -> bool {
        self.hold(bytes)
    }
}

/// What a client is given is drawn from its limits, though it comes whole: the next answers wait.
fn draw(desk: &Desk<'_>, session: &Session, topics: &[Used], bytes: u64) {
    let tenant = session.tenant();
    let messages = topics.iter().map(|used| used.messages).sum();
    desk.tenants.charge(Side::Subscribe, tenant.app, None, messages, bytes, desk.now);
    for topic in session.limited() {
        let shown = tenant.shown(&topic.physical).unwrap_or_default();
        if let Some(used) = topics.iter().find(|used| *used.name == *shown) {
            desk.tenants.charge(Side::Subscribe, tenant.app, Some(topic), used.messages, used.bytes, desk.now);
        }
    }
    desk.note(|used, app| {
        app.messages_out.add(messages);
        app.bytes_out.add(bytes);
        add(&used.messages_out, messages);
        add(&used.bytes_out, bytes);
    });
}

/// Counts while answers pass.
struct AnswerWatch<'a> {
    pipe: &'a Pipe,
    now: Instant,
}

impl answers::Watch for AnswerWatch<'_> {
    fn answer(&mut self, to: &Outstanding, bytes: usize) {
        self.pipe.shard.metrics.answer(to.api, bytes, self.now.saturating_duration_since(to.at));
    }

    fn hidden(&mut self) {
        self.pipe.shard.metrics.hidden.inc();
    }
}

/// The requests of whom this proxy serves.
enum Requesting {
    Anybody(Requests),
    Tenant(Box<TenantRequests>),
}

impl Requesting {
    fn is_at_boundary(&self) -> bool {
        match self {
            Requesting::Anybody(requests) => requests.is_at_boundary(),
            Requesting::Tenant(requests) => requests.is_at_boundary(),
        }
    }
}

/// The answers to them.
enum Answering {
    Anybody(Answers),
    Tenant(Box<TenantAnswers>),
}

impl Answering {
    fn is_at_boundary(&self) -> bool {
        match self {
            Answering::Anybody(answers) => answers.is_at_boundary(),
            Answering::Tenant(answers) => answers.is_at_boundary(),
        }
    }
}

impl Pipe {
    /// Client to broker. `buffer` has what was read before the broker was connected.
    pub async fn requests(&self, mut from: ReadHalf, mut to: WriteHalf, buffer: PooledBuf) -> End {
        let frame_bytes_max = self.shard.config.request_bytes_max;
        let mut requests = match &self.tenant {
            None => Requesting::Anybody(Requests::new(frame_bytes_max)),
            Some(_) => Requesting::Tenant(Box::new(TenantRequests::new(frame_bytes_max))),
        };
        let mut held = Some(buffer);
        let mut memory = None;
        let mut last_bytes = 0;
        loop {
            let mut turn = Turn::Bytes;
            if held.is_some() || !requests.is_at_boundary() {
                let (mut nothing, mut none) = (BytesMut::new(), true);
                let buffer = match &mut held {
                    Some(buffer) => {
                        none = false;
                        &mut **buffer
                    }
                    None => &mut nothing,
                };
                turn = match self.pass_requests(&mut requests, buffer, &mut to, &mut memory).await {
                    Ok(turn) => turn,
                    Err(end) => return end,
                };
                if none || buffer.is_empty() {
                    held = None;
                }
            }
            self.conn.is_between.set(requests.is_at_boundary() && held.is_none());
            match turn {
                Turn::Bytes => {}
                Turn::Room => {
                    self.conn.room.notified().await;
                    continue;
                }
                Turn::Topics(wanted) => {
                    self.tenants().resolve(wanted).await;
                    continue;
                }
                Turn::Limits(wait) => {
                    // Its limits are its own affair: it is neither late nor idle.
                    self.conn.deadline.set(None);
                    self.conn.count_throttled();
                    runtime::time::sleep(wait).await;
                    self.conn.moved.set(Instant::now());
                    continue;
                }
                Turn::Memory => {
                    runtime::time::sleep(MEMORY_LOOK).await;
                    continue;
                }
                Turn::End(reason) => {
                    // Whoever was told why reads it before the end.
                    while !self.conn.in_flight.borrow().is_empty() {
                        self.conn.room.notified().await;
                    }
                    return End::Fault { reason, message: "the session is over".to_owned() };
                }
            }
            if self.conn.is_retiring.get() && self.conn.is_between.get() {
                // What was asked is answered first, and for a while what is asked meanwhile; then it is closed.
                if !self.conn.in_flight.borrow().is_empty() {
                    self.conn.room.notified().await;
                    continue;
                }
                let is_patient = self.conn.retiring_since().elapsed() < RETIRE_PATIENCE;
                if !is_patient || runtime::time::timeout(RETIRE_LOOK, from.readable()).await.is_err() {
                    return End::Retired;
                }
            }
            self.owe(held.is_some() || !requests.is_at_boundary(), "half_a_request");
            if requests.is_at_boundary() || last_bytes < STREAMING_BYTES_MIN {
                match race(from.readable(), self.conn.retire.notified()).await {
                    Either::Second(()) => continue,
                    Either::First(Err(err)) => return err.into(),
                    Either::First(Ok(())) => {}
                }
            }
            let mut buffer = held.take().unwrap_or_else(|| self.shard.pool.get_64k());
            if buffer.len() == buffer.capacity() {
                buffer.reserve(READ_MORE_BYTES);
            }
            let (read, filled) = from.read(buffer).await;
            match read {
                Ok(0) => {
                    // The broker reads what was sent, then the end.
                    let _ = to.finish().await;
                    return End::Finished;
                }
                Ok(count) => {
                    last_bytes = count;
                    self.shard.metrics.client_in.add(count as u64);
                }
                Err(err) => return err.into(),
            }
            held = Some(filled);
        }
    }

    async fn pass_requests(
        &self,
        requests: &mut Requesting,
        buffer: &mut BytesMut,
        to: &mut WriteHalf,
        memory: &mut Option<Reservation>,
    ) -> Result<Turn, End> {
        let now = Instant::now();
        self.conn.moved.set(now);
        // While the broker is slow to take it, the client owes nothing.
        self.conn.deadline.set(None);
        self.note_client_id(buffer);
        let mut out: Vec<Bytes> = Vec::new();
        let advanced = match requests {
            Requesting::Anybody(requests) => {
                let upstream = self.conn.upstream.get();
                let in_flight = &mut self.conn.in_flight.borrow_mut();
                requests
                    .advance(buffer, in_flight, upstream, &mut out, &mut RequestWatch(self), now)
                    .map(|()| if in_flight.is_full() { Turn::Room } else { Turn::Bytes })
            }
            Requesting::Tenant(requests) => self.pass_tenant_requests(requests, buffer, &mut out, memory, now),
        };
        let sent = self.send(to, out, &self.shard.metrics.broker_out).await?;
        self.broker_bytes.add(sent);
        if sent > 0 {
            self.shard.metrics.added_to_requests.record_duration(now.elapsed());
        }
        if requests.is_at_boundary() {
            *memory = None;
        }
        advanced.map_err(|err| End::Fault { reason: err.reason(), message: err.to_string() })
    }

    fn pass_tenant_requests(
        &self,
        requests: &mut TenantRequests,
        buffer: &mut BytesMut,
        out: &mut Vec<Bytes>,
        memory: &mut Option<Reservation>,
        now: Instant,
    ) -> Result<Turn, RequestError> {
        let (tenants, offered) = (self.tenants(), self.tenant.as_ref().expect("a tenant's requests"));
        let mut session = self.conn.session.borrow_mut();
        let session = session.as_mut().expect("it has logged in");
        let app = session.login().app_index();
        let ids = &tenants.ids.borrow();
        let node = node_of(self.conn.target.get());
        let mut office = requests::Office { session, ids, offered, node, cluster: &tenants.cluster, now };
        let mut desk = Desk { pipe: self, tenants, app, memory, now };
        let mut in_flight = self.conn.in_flight.borrow_mut();
        let turn = requests.advance(buffer, &mut in_flight, &mut office, out, &mut desk);
        if in_flight.has_answer() {
            self.conn.answered.notify();
        }
        turn
    }

    fn tenants(&self) -> &TenantShard {
        self.shard.tenants.as_ref().expect("asked of a proxy with tenants")
    }

    /// Broker to client.
    pub async fn answers(&self, mut from: ReadHalf, mut to: WriteHalf) -> End {
        let mut answers = match &self.tenant {
            None => Answering::Anybody(Answers::default()),
            Some(_) => Answering::Tenant(Box::default()),
        };
        let mut held: Option<PooledBuf> = None;
        let mut memory = None;
        let mut last_bytes = 0;
        let end = loop {
            if answers.is_at_boundary() || last_bytes < STREAMING_BYTES_MIN {
                match race(from.readable(), self.conn.answered.notified()).await {
                    Either::First(Err(err)) => break err.into(),
                    Either::First(Ok(())) => {}
                    Either::Second(()) => {
                        let mut nothing = BytesMut::new();
                        let buffer = held.as_mut().map_or(&mut nothing, |held| &mut **held);
                        match self.pass_answers(&mut answers, buffer, &mut to, &mut memory).await {
                            Ok(()) => continue,
                            Err(end) => break end,
                        }
                    }
                }
            }
            let mut buffer = held.take().unwrap_or_else(|| self.shard.pool.get_64k());
            if buffer.len() == buffer.capacity() {
                buffer.reserve(READ_MORE_BYTES);
            }
            let (read, mut buffer) = from.read(buffer).await;
            match read {
                Ok(0) => break End::Finished,
                Ok(count) => {
                    last_bytes = count;
                    self.shard.metrics.broker_in.add(count as u64);
                    self.broker_bytes.add(count as u64);
                }
                Err(err) => break err.into(),
            }
            if let Err(end) = self.pass_answers(&mut answers, &mut buffer, &mut to, &mut memory).await {
                break end;
            }
            held = (!buffer.is_empty()).then_some(buffer);
        };
        if matches!(end, End::Finished) {
            // The client reads what was sent, then the end.
            let _ = to.finish().await;
        }
        end
    }

    async fn pass_answers(
        &self,
        answers: &mut Answering,
        buffer: &mut BytesMut,
        to: &mut WriteHalf,
        memory: &mut Option<Reservation>,
    ) -> Result<(), End> {
        loop {
            let now = Instant::now();
            self.conn.moved.set(now);
            let (mut out, mut learned): (Vec<Bytes>, Vec<_>) = (Vec::new(), Vec::new());
            let advanced = {
                let mut in_flight = self.conn.in_flight.borrow_mut();
                match answers {
                    Answering::Anybody(answers) => {
                        let mut watch = AnswerWatch { pipe: self, now };
                        answers
                            .advance(buffer, &mut in_flight, &self.view, &mut out, &mut learned, &mut watch)
                            .map(|()| tenant_answers::Turn::Bytes)
                    }
                    Answering::Tenant(answers) => {
                        let tenants = self.tenants();
                        let session = self.conn.session.borrow();
                        let session = session.as_ref().expect("it has logged in");
                        let ids = &mut tenants.ids.borrow_mut();
                        let app = session.login().app_index();
                        let mut desk = Desk { pipe: self, tenants, app, memory, now };
                        let mut office =
                            tenant_answers::Office { session, ids, view: &self.view, learned: &mut learned };
                        answers.advance(buffer, &mut in_flight, &mut office, &mut out, &mut desk)
                    }
                }
            };
            self.shard.learn(&learned);
            let sent = self.send(to, out, &self.shard.metrics.client_out).await?;
            if sent > 0 {
                self.shard.metrics.added_to_answers.record_duration(now.elapsed());
            }
            if answers.is_at_boundary() {
                *memory = None;
            }
            // After the write: whoever retires this connection then knows that the answer is out.
            self.conn.room.notify();
            match advanced {
                Ok(tenant_answers::Turn::Bytes) => return Ok(()),
                Ok(tenant_answers::Turn::Memory) => runtime::time::sleep(MEMORY_LOOK).await,
                Err(err) => return Err(End::Fault { reason: err.reason(), message: err.to_string() }),
            }
        }
    }

    /// Writes what may leave; gives how many bytes.
    async fn send(&self, to: &mut WriteHalf, mut out: Vec<Bytes>, counter: &Counter) -> Result<u64, End> {
        let bytes: u64 = out.iter().map(|piece| piece.len() as u64).sum();
        match out.len() {
            0 => return Ok(0),
            1 => to.write_all(out.pop().expect("one")).await?,
            _ => to.write_chain(out).await?,
        }
        counter.add(bytes);
        Ok(bytes)
    }

    /// A client in the middle of something must go on with it.
    fn owe(&self, is_owed: bool, reason: &'static str) {
        self.conn.deadline.set(is_owed.then(|| (Instant::now() + STALL_TIMEOUT, reason)));
    }

    fn note_client_id(&self, buffer: &[u8]) {
        if self.conn.client_id.borrow().is_some() {
            return;
        }
        if let Ok(Some(id)) = peek::client_id(buffer.get(4..).unwrap_or_default()) {
            let shown = &id[..id.len().min(CLIENT_ID_SHOWN_MAX)];
            *self.conn.client_id.borrow_mut() = Some(String::from_utf8_lossy(shown).into());
        }
    }
}

/// A client that keeps asking is served so long after it was to go,
const RETIRE_PATIENCE: Duration = Duration::from_secs(2);
/// and one that asks nothing for so long has nothing under way.
const RETIRE_LOOK: Duration = Duration::from_millis(5);

/// In the middle of a frame that comes in pieces like this, the next read waits with its buffer in hand: it saves a system
/// call's worth per piece. At other times a side that says nothing holds no buffer.
const STREAMING_BYTES_MIN: usize = 16 * 1024;

/// How often a frame that waits for memory looks whether there is some.
const MEMORY_LOOK: Duration = Duration::from_millis(5);

/// Room for more of a frame that is held until it is whole.
const READ_MORE_BYTES: usize = 64 * 1024;
