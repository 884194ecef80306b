//! The way from a tenant's client to its broker: each request by its rule.
//!
//! ```text
//!   Produce about one topic   head replaced, records counted while they stream by
//!   everything else           read whole, edited around what it names, sent in pieces: large parts are not copied
//!   versions and logins       answered here, in their turn
//! ```
//! Invariants:
//! - A request is remembered before its first byte leaves, and what is answered here stands among the others in order.
//! - Nothing leaves that was not seen to the end, but for the records of a topic that this client may write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::frame::{self, FrameError};
use kafka_wire::passing::Passing;
use kafka_wire::{ApiKey, ErrorCode, WireError, header, peek};
use model::limits::SCRAM_NONCE_RANDOM_BYTES;
use model::tenant::{Access, NoTopic};
use model::{App, Denied, Side, Topic};

use crate::apis;
use crate::edit::{Edits, Front};
use crate::in_flight::{Asked, InFlight, Outstanding};
use crate::limits::{HELD_FREELY_BYTES_MAX, REQUEST_HEAD_BYTES_MAX, TENANT_REQUEST_BYTES_MAX, THROTTLE_MAX};
use crate::requests::{RequestError, Watch};
use crate::rewrite::{api_versions, text};
use crate::tenant::door::{self, Door, Step};
use crate::tenant::found::TopicId;
use crate::tenant::ids::{TopicIds, Wanted};
use crate::tenant::rename;
use crate::tenant::rules::{self, Way};
use crate::tenant::session::Session;
use crate::tenant::versions::Offered;
use crate::tenant::whole::{Asking, Head, Used, ask};

/// What is told and asked on the way.
pub trait Desk: Watch {
    /// A topic was refused.
    fn refused(&mut self, why: &NoTopic);
    /// How long a request about these topics has to wait for the limits of its app and of them.
    fn wait(&mut self, side: Side, app: &App, topics: &[&Topic], bytes: u64) -> Option<Duration>;
    /// Draws from the limits of an app, or of one of the topics it used.
    fn used(&mut self, side: Side, app: &App, topic: Option<&Topic>, messages: u64, bytes: u64);
    /// Bytes from the operating system.
    fn random(&mut self) -> [u8; SCRAM_NONCE_RANDOM_BYTES];
    /// A login in the middle of a session failed; what its client is told.
    fn login_failed(&mut self, app: &str, denied: Denied) -> Denied;
    /// Something to be audited was asked for.
    fn audit(&mut self, what: &'static str, about: &str);
    /// How many bytes may be held of a frame now; false: wait.
    fn try_hold(&mut self, bytes: usize) -> bool;
}

/// What a connection has to wait for before it goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// More bytes.
    Bytes,
    /// Room in flight.
    Room,
    /// These topics have to be asked about.
    Topics(Vec<Wanted>),
    /// Limits.
    Limits(Duration),
    /// Memory for a large frame.
    Memory,
    /// The session has ended; its last answer is on the way.
    End(&'static str),
}

/// What a request meets.
pub struct Office<'a> {
    pub session: &'a mut Session,
    pub ids: &'a TopicIds,
    pub offered: &'a Offered,
    /// The broker this connection is to.
    pub node: Option<i32>,
    pub cluster: &'a str,
    pub now: Instant,
}

/// One per connection.
#[derive(Debug)]
pub struct TenantRequests {
    frame_bytes_max: usize,
    state: State,
    door: Door,
    /// Since when the request at hand waits for limits.
    waits_since: Option<Instant>,
}

#[derive(Debug)]
enum State {
    /// Between two requests.
    Head,
    /// A request is whole, and waits until it may leave.
    Whole {
        head: Head,
        frame: Bytes,
    },
    /// Records of one topic stream by.
    Records {
        left: usize,
        passing: Box<Passing>,
        topic: Arc<str>,
        bytes: u64,
    },
    /// What follows a message is nobody's field: it passes.
    Rest {
        left: usize,
    },
    Ended(&'static str),
}

impl TenantRequests {
    pub fn new(frame_bytes_max: usize) -> TenantRequests {
        TenantRequests { frame_bytes_max, state: State::Head, door: Door::default(), waits_since: None }
    }

    /// Whether the client is between two requests.
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Head | State::Ended(_))
    }

    /// Takes what may leave from the front of `buffer` to `out`, and says what is waited for next.
    pub fn advance(
        &mut self,
        buffer: &mut BytesMut,
        in_flight: &mut InFlight,
        office: &mut Office<'_>,
        out: &mut Vec<Bytes>,
        desk: &mut impl Desk,
    ) -> Result<Turn, RequestError> {
        let mut front = Front::new(buffer, out);
        loop {
            let turn = match &mut self.state {
                State::Ended(why) => Some(Turn::End(why)),
                State::Rest { left } => {
                    *left -= front.pass(*left);
                    if *left > 0 {
                        return Ok(Turn::Bytes);
                    }
                    self.state = State::Head;
                    None
                }
                State::Records { left, passing, .. } => {
                    let rest = front.rest();
                    let here = rest.len().min(*left);
                    let done = passing.advance(&mut rest[..here], *left)?;
                    *left -= front.pass(done);
                    if *left > 0 && !passing.is_done() {
                        return Ok(Turn::Bytes);
                    }
                    check_end(passing)?;
                    self.finish_records(office, desk);
                    None
                }
                State::Whole { head, frame } => {
                    let (head, frame) = (*head, frame.clone());
                    self.whole(&head, &frame, &mut front, in_flight, office, desk)?
                }
                State::Head if in_flight.is_full() => Some(Turn::Room),
                State::Head => match self.head(front.rest(), office.offered)? {
                    Some(head) => self.begin(head, &mut front, in_flight, office, desk)?,
                    None => Some(Turn::Bytes),
                },
            };
            if let Some(turn) = turn {
                return Ok(turn);
            }
        }
    }

    /// The head of the frame that begins here, None while it is not whole.
    fn head(&self, bytes: &[u8], offered: &Offered) -> Result<Option<Head>, RequestError> {
        let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
        let length = frame::check_length(*length, self.frame_bytes_max)?;
        let body = &bytes[4..bytes.len().min(4 + length)];
        match read_head(body, length, offered) {
            Ok(head) => Ok(Some(head)),
            Err(RequestError::Malformed(WireError::Truncated { .. }))
                if body.len() < length.min(REQUEST_HEAD_BYTES_MAX) =>
            {
                Ok(None)
            }
            Err(err) => Err(err),
        }
    }

    /// A request whose head is here. Nothing: look again.
    fn begin(
        &mut self,
        head: Head,
        front: &mut Front<'_>,
        in_flight: &mut InFlight,
        office: &mut Office<'_>,
        desk: &mut impl Desk,
    ) -> Result<Option<Turn>, RequestError> {
        let is_whole = front.rest().len() >= head.frame_bytes;
        let held = match head.rule.way {
            Way::Produce if is_whole => front.hold(head.frame_bytes),
            Way::Produce => match self.begin_records(&head, front, in_flight, office, desk)? {
                Begun::Streams => return Ok(None),
                Begun::Waits(turn) => return Ok(Some(turn)),
                Begun::No if !desk.try_hold(head.frame_bytes) => return Ok(Some(Turn::Memory)),
                Begun::No => front.hold_large(head.frame_bytes),
            },
            _ if head.frame_bytes > TENANT_REQUEST_BYTES_MAX => {
                let (length, limit) = (head.frame_bytes, TENANT_REQUEST_BYTES_MAX);
                return Err(FrameError::TooLarge { length, limit }.into());
            }
            _ if !is_whole && head.frame_bytes > HELD_FREELY_BYTES_MAX && !desk.try_hold(head.frame_bytes) => {
                return Ok(Some(Turn::Memory));
            }
            _ => front.hold(head.frame_bytes),
        };
        let Some(frame) = held else { return Ok(Some(Turn::Bytes)) };
        self.state = State::Whole { head, frame: frame.freeze() };
        Ok(None)
    }

    /// A Produce about one topic that this client may write: its records need not be waited for.
    fn begin_records(
        &mut self,
        head: &Head,
        front: &mut Front<'_>,
        in_flight: &mut InFlight,
        office: &mut Office<'_>,
        desk: &mut impl Desk,
    ) -> Result<Begun, RequestError> {
        let bytes = &front.rest()[4..];
        let produce = match peek::produce_head(bytes) {
            Ok(produce) => produce,
            Err(WireError::Truncated { .. }) if bytes.len() < REQUEST_HEAD_BYTES_MAX => {
                return Ok(Begun::Waits(Turn::Bytes));
            }
            Err(err) => return Err(err.into()),
        };
        let (1, Some(topic_at)) = (produce.topic_count, produce.topic) else { return Ok(Begun::No) };
        let flexible = head.version >= head.rule.request.shape.flexible_from;
        let by_id = head.version >= peek::PRODUCE_TOPIC_ID_FROM;
        let tenant = office.session.tenant();
        let name = match by_id {
            true => {
                let id: TopicId = bytes[topic_at.clone()].try_into().expect("an id has 16 bytes");
                let meant = office.ids.name(&id).and_then(|physical| tenant.meant(physical, Access::Write));
                meant.and_then(|topic| tenant.shown(&topic.physical)).map(String::from)
            }
            false => text(bytes, &topic_at, flexible).map(str::to_owned),
        };
        // What is refused, or not known, is read whole, so that its partitions can be told of.
        let Some(name) = name.filter(|_| office.session.has(head.rule.need)) else { return Ok(Begun::No) };
        let Ok(topic) = tenant.topic(&name, Access::Write) else { return Ok(Begun::No) };
        if let Some(turn) = self.wait(desk, Side::Publish, tenant.app, &[topic], head.frame_bytes, office.now) {
            return Ok(Begun::Waits(turn));
        }
        let body_at = 4 + produce.transactional_id.start;
        let mut edits = Edits::default();
        rename::own(flexible, bytes, &produce.transactional_id, &tenant, &mut edits)?;
        if !by_id {
            edits.string(topic_at.clone(), flexible, &topic.physical);
        }
        let start = front.hold(4 + topic_at.end).expect("it is there");
        let mut passing = Box::new(Passing::body(head.rule.request.shape, head.version));
        let left = head.frame_bytes - body_at;
        let done = passing.advance(&mut BytesMut::from(&start[body_at..]), left)?;
        assert_eq!(done, start.len() - body_at, "a head ends where a field ends");
        let too_large = FrameError::TooLarge { length: head.frame_bytes, limit: i32::MAX as usize };
        front.put(edits.apply_to_start(&start.freeze(), head.frame_bytes).ok_or(too_large)?);
        let (topic_name, bytes): (Arc<str>, _) = (name.into(), head.frame_bytes as u64);
        let limited = topic.limits.has_rates().then(|| Arc::clone(&topic_name)).into_iter().collect();
        self.state = State::Records { left: left - done, passing, topic: topic_name, bytes };
        self.remember(
            head,
            in_flight,
            desk,
            office.now,
            Asked { side: Some(Side::Publish), limited, ..Asked::default() },
        );
        Ok(Begun::Streams)
    }

    fn finish_records(&mut self, office: &Office<'_>, desk: &mut impl Desk) {
        let State::Records { left, passing, topic, bytes } = std::mem::replace(&mut self.state, State::Head) else {
            unreachable!("records have streamed by")
        };
        let used = Used { name: topic, has_limits: true, messages: passing.record_count(), bytes };
        draw(desk, office.session, &[used], bytes);
        if left > 0 {
            self.state = State::Rest { left };
        }
    }

    /// A request that is whole: it leaves, or is answered, or waits.
    fn whole(
        &mut self,
        head: &Head,
        frame: &Bytes,
        front: &mut Front<'_>,
        in_flight: &mut InFlight,
        office: &mut Office<'_>,
        desk: &mut impl Desk,
    ) -> Result<Option<Turn>, RequestError> {
        if head.rule.way == Way::Local {
            self.state = State::Head;
            return self.answer_here(head, frame, in_flight, office, desk).map(|()| None);
        }
        let side = match head.rule.way {
            Way::Produce => Some(Side::Publish),
            Way::Fetch => Some(Side::Subscribe),
            _ => None,
        };
        let asking = ask(head, frame, office.session, office.ids, &mut |why| desk.refused(why))?;
        match asking {
            Asking::Unknown(wanted) => return Ok(Some(Turn::Topics(wanted))),
            Asking::Unanswerable => {
                self.state = State::Ended("refused_without_answer");
            }
            Asking::Answer(answer) => {
                self.state = State::Head;
                self.remember(
                    head,
                    in_flight,
                    desk,
                    office.now,
                    Asked { answer: Some(answer.freeze()), ..Asked::default() },
                );
            }
            Asking::Forward { edits, body_at, asked, topics, about } => {
                if let Some(side) = side
                    && let Some(turn) = self.wait_for(desk, office.session, side, &topics, head.frame_bytes, office.now)
                {
                    return Ok(Some(turn));
                }
                self.state = State::Head;
                edits.splice(frame, body_at, front.out());
                if let Some(about) = about {
                    desk.audit(head.rule.key.name(), &about);
                }
                if side == Some(Side::Publish) {
                    draw(desk, office.session, &topics, head.frame_bytes as u64);
                }
                let limited = match side {
                    Some(Side::Publish) => {
                        topics.into_iter().filter(|used| used.has_limits).map(|used| used.name).collect()
                    }
                    _ => Vec::new(),
                };
                self.remember(head, in_flight, desk, office.now, Asked { side, limited, ..asked });
            }
        }
        Ok(None)
    }

    fn remember(&mut self, head: &Head, in_flight: &mut InFlight, desk: &mut impl Desk, at: Instant, asked: Asked) {
        let api = apis::offered(head.rule.key.key()).expect("what has a rule is on the list of all");
        self.waits_since = None;
        desk.request(api, head.frame_bytes);
        if head.is_answered {
            let (version, correlation_id, asked) = (head.version, head.correlation_id, Some(Box::new(asked)));
            in_flight.push(Outstanding { api, version, correlation_id, at, asked });
        }
    }

    fn wait_for(
        &mut self,
        desk: &mut impl Desk,
        session: &Session,
        side: Side,
        topics: &[Used],
        bytes: usize,
        now: Instant,
    ) -> Option<Turn> {
        let tenant = session.tenant();
        let access = if side == Side::Publish { Access::Write } else { Access::Read };
        let limited = topics.iter().filter(|used| used.has_limits);
        let mut limited: Vec<_> = limited.filter_map(|used| tenant.topic(&used.name, access).ok()).collect();
        if side == Side::Subscribe {
            // An incremental Fetch names what changed only (KIP-227).
            limited.extend(session.limited());
        }
        self.wait(desk, side, tenant.app, &limited, bytes, now)
    }

    /// A request waits as long as nothing is left of a limit; not for ever: what is overdrawn, the next ones wait for.
    fn wait(
        &mut self,
        desk: &mut impl Desk,
        side: Side,
        app: &App,
        topics: &[&Topic],
        bytes: usize,
        now: Instant,
    ) -> Option<Turn> {
        if self.waits_since.is_some_and(|since| now.saturating_duration_since(since) >= THROTTLE_MAX) {
            return None;
        }
        // Of a Fetch nobody knows yet what it will bring.
        let bytes = if side == Side::Publish { bytes as u64 } else { 0 };
        let wait = desk.wait(side, app, topics, bytes)?;
        self.waits_since.get_or_insert(now);
        Some(Turn::Limits(wait.min(THROTTLE_MAX)))
    }

    /// Versions and logins, in the middle of a session.
    fn answer_here(
        &mut self,
        head: &Head,
        frame: &Bytes,
        in_flight: &mut InFlight,
        office: &mut Office<'_>,
        desk: &mut impl Desk,
    ) -> Result<(), RequestError> {
        let answer = match head.rule.key {
            ApiKey::ApiVersions => versions(head, frame, office.offered, office.cluster, office.node, desk)?,
            _ => self.login_again(head, frame, office, desk)?,
        };
        self.remember(head, in_flight, desk, office.now, Asked { answer: Some(answer.freeze()), ..Asked::default() });
        Ok(())
    }

    /// The client proves anew who it is, and may be nobody else (KIP-368).
    fn login_again(
        &mut self,
        head: &Head,
        frame: &Bytes,
        office: &mut Office<'_>,
        desk: &mut impl Desk,
    ) -> Result<BytesMut, RequestError> {
        let (version, id) = (head.version, head.correlation_id);
        let snapshot = Arc::clone(office.session.snapshot());
        let (why, app) = match self.door.step(head, frame, &snapshot, || desk.random())? {
            Step::Answer(answer) => return Ok(answer),
            Step::Proved { login, last } => {
                let app = login.app().to_string();
                match office.session.login_again(login) {
                    Ok(()) => return Ok(door::welcome(version, id, &last)),
                    Err(over) => (over.to_string(), app),
                }
            }
            Step::Failed { app, denied } => (desk.login_failed(&app, denied).to_string(), app),
        };
        tracing::debug!(app, why, "login in the middle of a session failed");
        self.state = State::Ended("login_failed");
        Ok(door::refuse(version, id, &why))
    }
}

/// A message that says it has more bytes than its frame is none.
pub(super) fn check_end(passing: &Passing) -> Result<(), WireError> {
    match passing.is_done() {
        true => Ok(()),
        false => Err(WireError::Truncated { what: "records", offset: 0, need: 1, left: 0 }),
    }
}

enum Begun {
    Streams,
    Waits(Turn),
    /// It has to be read whole.
    No,
}

/// Draws what was written from the limits of the app and of those topics that have some.
fn draw(desk: &mut impl Desk, session: &Session, topics: &[Used], bytes: u64) {
    let (tenant, side) = (session.tenant(), Side::Publish);
    desk.used(side, tenant.app, None, topics.iter().map(|used| used.messages).sum(), bytes);
    for used in topics.iter().filter(|used| used.has_limits) {
        if let Some(topic) = tenant.topic(&used.name, Access::Write).ok().filter(|topic| topic.limits.has_rates()) {
            desk.used(side, tenant.app, Some(topic), used.messages, used.bytes);
        }
    }
}

/// The answer to ApiVersions, and who asks.
pub fn versions(
    head: &Head,
    frame: &Bytes,
    offered: &Offered,
    cluster: &str,
    node: Option<i32>,
    watch: &mut impl Watch,
) -> Result<BytesMut, RequestError> {
    let is_known = head.rule.has_version(head.version);
    let mut error = ErrorCode::NONE;
    if is_known {
        let mut body = frame.slice(4..);
        header::decode_request_header(&mut body)?;
        let asker = api_versions::asker(head.version, &body)?;
        watch.asker(&asker);
        if !door::is_meant(&asker, &body, cluster, node) {
            error = ErrorCode::REBOOTSTRAP_REQUIRED;
        }
    }
    Ok(offered.answer(head.version, head.correlation_id, error))
}

/// The head of a request, from behind its length.
pub fn read_head(body: &[u8], length: usize, offered: &Offered) -> Result<Head, RequestError> {
    let start = peek::request_start(body)?;
    let (key, version) = (start.api_key, start.api_version);
    let asks_versions = key == ApiKey::ApiVersions.key() && version >= 0;
    let rule = rules::of(key)
        .filter(|rule| asks_versions || offered.has(rule, version))
        .ok_or(RequestError::NotOffered { key, version })?;
    let is_answered = rule.key != ApiKey::Produce || peek::produce_acks(body)? != 0;
    Ok(Head { rule, version, correlation_id: start.correlation_id, frame_bytes: 4 + length, is_answered })
}
