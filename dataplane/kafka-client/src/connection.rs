//! One broker connection as a state machine: bytes in, bytes out, no I/O.
//!
//! ```text
//!   Connecting ──connected──> ApiVersions ──> [SaslHandshake ──> SaslAuthenticate …] ──> Ready ──> dropped
//! ```
//!
//! ApiVersions is asked in version 3; a broker that does not know it answers UNSUPPORTED_VERSION in version 0 and is
//! asked again in that (KIP-511). Every API is then spoken in the highest version both sides know.
//!
//! Invariants:
//! - Answers come back in request order, so `in_flight` is a queue and its front's correlation id is the next one.
//! - A request without an answer (Produce with acks=0) is not in `in_flight`.
//! - The last `untaken` entries of `in_flight` were not handed to the driver: they certainly did not leave.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::WireError;
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, RequestKind, ResponseKind, types};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::frame::{FrameError, FrameReader};
use kafka_wire::header;
use kafka_wire::messages::{api_versions, fetch, produce};
use smallvec::SmallVec;

use crate::batch::Attempt;
use crate::config::ClientConfig;
use crate::limits::{RESPONSE_BYTES_MAX, TRANSMIT_BYTES_MAX};
use crate::queue::QueueId;
use crate::rng::Rng;
use crate::sasl::{Exchange, SaltedKeys, SaslError};
use crate::types::{ConnId, Lane, RequestError, RequestToken};

/// Newest ApiVersions we ask in: 4 adds nothing we use, 5 carries an identity (KIP-1242) we do not claim.
const API_VERSIONS_FIRST: i16 = 3;

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Owner {
    /// The connection itself.
    Handshake,
    /// Batches of these queues, sorted: an answer is for the attempt it answers, not for whatever stands there now.
    Produce(SmallVec<[(QueueId, Attempt); 4]>),
    Metadata,
    ProducerId,
    Coordinator(String),
    User(RequestToken),
    /// Asks of the fetch hub; it knows whose.
    Fetches,
    /// Somebody who no longer waits; the answer is read and dropped.
    Nobody,
}

#[derive(Debug)]
pub(crate) struct InFlight {
    correlation_id: i32,
    pub api: ApiKey,
    pub version: i16,
    pub sent_at: Instant,
    /// When the connection is given up.
    pub deadline: Instant,
    pub owner: Owner,
}

#[derive(Debug)]
enum Phase {
    Connecting,
    ApiVersions,
    SaslHandshake,
    SaslAuthenticate(Exchange),
    Ready,
}

/// What a frame brought.
#[derive(Debug)]
pub(crate) enum Event {
    /// The handshake went one step on.
    Progress,
    /// The handshake is complete.
    Ready,
    /// An answer for somebody.
    Answer { owner: Owner, api: ApiKey, version: i16, body: Bytes },
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("broker sent what cannot be decoded: {0}")]
    Wire(#[from] WireError),
    #[error("broker answered request {found}, the next to be answered is {expected}")]
    Correlation { expected: i32, found: i32 },
    #[error("broker sent a frame nobody asked for")]
    Unsolicited,
    #[error("broker refuses ApiVersions: {}", .0.name())]
    ApiVersions(ErrorCode),
    #[error("broker offers no {0}")]
    Missing(ApiKey),
    #[error("broker does not offer SASL {mechanism}, it offers {offered}")]
    Mechanism { mechanism: &'static str, offered: String },
    #[error("authentication refused: {0}")]
    Refused(String),
    #[error("authentication failed: {0}")]
    Sasl(#[from] SaslError),
}

impl ConnectionError {
    /// Our credentials are the matter, not the network.
    pub fn is_authentication(&self) -> bool {
        matches!(self, ConnectionError::Mechanism { .. } | ConnectionError::Refused(_) | ConnectionError::Sasl(_))
    }
}

/// What a connection borrows from its client while it shakes hands.
pub(crate) struct Context<'a> {
    pub config: &'a ClientConfig,
    pub keys: &'a mut SaltedKeys,
    pub rng: &'a mut Rng,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub id: ConnId,
    pub broker: u32,
    pub lane: Lane,
    phase: Phase,
    frames: FrameReader,
    pub in_flight: VecDeque<InFlight>,
    out: Vec<Bytes>,
    out_bytes: usize,
    untaken: usize,
    /// In the client's list of connections with something to transmit.
    pub transmit_listed: bool,
    correlation_next: i32,
    /// Version range by API key; empty ranges for what the broker does not offer.
    versions: Vec<(i16, i16)>,
    pub opened_at: Instant,
    /// When the broker last said something.
    heard_at: Instant,
    /// When its silence last made us ask who leads what waits for it.
    pub stall_noted_at: Instant,
    /// Connecting and handshake must be over by then.
    pub opening_deadline: Instant,
    /// KIP-219: the broker asks us to be quiet until then.
    pub muted_until: Option<Instant>,
    /// KIP-368: no new requests after this; closed when nothing is in flight.
    pub retire_at: Option<Instant>,
    pub last_used: Instant,
}

impl Connection {
    pub fn new(id: ConnId, broker: u32, lane: Lane, now: Instant, config: &ClientConfig) -> Connection {
        Connection {
            id,
            broker,
            lane,
            phase: Phase::Connecting,
            frames: FrameReader::new(RESPONSE_BYTES_MAX),
            in_flight: VecDeque::new(),
            out: Vec::new(),
            out_bytes: 0,
            untaken: 0,
            transmit_listed: false,
            correlation_next: 0,
            versions: Vec::new(),
            opened_at: now,
            heard_at: now,
            stall_noted_at: now,
            opening_deadline: now + config.connect_timeout + config.request_timeout,
            muted_until: None,
            retire_at: None,
            last_used: now,
        }
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    pub fn is_connecting(&self) -> bool {
        matches!(self.phase, Phase::Connecting)
    }

    pub fn is_opening(&self) -> bool {
        !self.is_ready()
    }

    pub fn is_retired(&self, now: Instant) -> bool {
        self.retire_at.is_some_and(|at| at <= now)
    }

    /// May another request be put on this connection?
    pub fn can_send(&self, in_flight_max: usize, now: Instant) -> bool {
        self.is_ready()
            && self.in_flight.len() < in_flight_max
            && self.out_bytes < TRANSMIT_BYTES_MAX
            && self.muted_until.is_none_or(|until| until <= now)
            && !self.is_retired(now)
    }

    /// The version to speak, or why none.
    pub fn version(&self, api: ApiKey, ours: RangeInclusive<i16>) -> Result<i16, RequestError> {
        let (min, max) = self.versions.get(api as i16 as usize).copied().unwrap_or((0, -1));
        let version = max.min(*ours.end());
        if min <= max && version >= min && version >= *ours.start() {
            return Ok(version);
        }
        let broker = if min <= max { format!("{min} to {max}") } else { "none".into() };
        Err(RequestError::Unsupported { api, ours_min: *ours.start(), ours_max: *ours.end(), broker })
    }

    /// TCP (and TLS) stand: the handshake begins.
    pub fn on_connected(&mut self, cx: &mut Context<'_>, now: Instant) {
        if self.is_connecting() {
            self.opening_deadline = now + cx.config.request_timeout;
            self.ask_api_versions(API_VERSIONS_FIRST, cx, now);
        }
    }

    fn ask_api_versions(&mut self, version: i16, cx: &mut Context<'_>, now: Instant) {
        self.phase = Phase::ApiVersions;
        let correlation_id = self.take_correlation_id();
        let frame = api_versions::encode_request_frame(
            version,
            correlation_id,
            &cx.config.client_id,
            "gafka",
            env!("CARGO_PKG_VERSION"),
        );
        let deadline = now + cx.config.request_timeout;
        self.push(ApiKey::ApiVersions, version, correlation_id, [frame], Some(Owner::Handshake), deadline, now);
    }

    /// Takes the next whole frame from `buf` and reads it. `None`: not whole yet.
    pub fn next_event(
        &mut self,
        buf: &mut BytesMut,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Option<Event>, ConnectionError> {
        let Some(mut frame) = self.frames.next(buf)? else { return Ok(None) };
        self.last_used = now;
        self.heard_at = now;
        let found = header::peek_correlation_id(&frame)?;
        match self.in_flight.front() {
            None => return Err(ConnectionError::Unsolicited),
            Some(next) if next.correlation_id != found => {
                return Err(ConnectionError::Correlation { expected: next.correlation_id, found });
            }
            Some(_) => {}
        }
        let (api, version) = self.in_flight.front().map(|next| (next.api, next.version)).expect("checked above");
        header::decode_response_header(&mut frame, api, version)?;
        let answered = self.in_flight.pop_front().expect("checked above");
        self.untaken = self.untaken.min(self.in_flight.len());
        match answered.owner {
            Owner::Handshake => self.on_handshake(answered.version, frame, cx, now).map(Some),
            owner => Ok(Some(Event::Answer { owner, api, version, body: frame })),
        }
    }

    fn on_handshake(
        &mut self,
        version: i16,
        body: Bytes,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Event, ConnectionError> {
        // Whatever fails below, the connection was not ready.
        match std::mem::replace(&mut self.phase, Phase::ApiVersions) {
            Phase::ApiVersions => {
                // What follows this code is in version 0 with Kafka, in a mixture with others: nobody needs it.
                let refused = body
                    .first_chunk()
                    .is_some_and(|code| ErrorCode(i16::from_be_bytes(*code)) == ErrorCode::UNSUPPORTED_VERSION);
                if refused && version > 0 {
                    self.ask_api_versions(0, cx, now);
                    return Ok(Event::Progress);
                }
                let answer = api_versions::decode_response(version, body)?;
                if answer.error != ErrorCode::NONE {
                    return Err(ConnectionError::ApiVersions(answer.error));
                }
                self.learn_versions(&answer);
                self.begin_sasl(cx, now)
            }
            Phase::SaslHandshake => self.on_sasl_handshake(version, body, cx, now),
            Phase::SaslAuthenticate(exchange) => self.on_sasl_authenticate(exchange, version, body, cx, now),
            Phase::Connecting | Phase::Ready => Err(ConnectionError::Unsolicited),
        }
    }

    fn learn_versions(&mut self, answer: &api_versions::ApiVersionsResponse) {
        self.versions = vec![(0, -1); ApiKey::ALL.last().map_or(0, |api| api.key() as usize + 1)];
        for range in &answer.apis {
            if let Some(entry) = usize::try_from(range.key).ok().and_then(|key| self.versions.get_mut(key)) {
                *entry = (range.min, range.max);
            }
        }
    }

    fn begin_sasl(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<Event, ConnectionError> {
        let Some(sasl) = &cx.config.security.sasl else {
            self.phase = Phase::Ready;
            return Ok(Event::Ready);
        };
        let mechanism = types::SaslHandshakeRequest::default().with_mechanism(sasl.mechanism.name().into());
        self.phase = Phase::SaslHandshake;
        // Version 1: the exchange is framed in SaslAuthenticate (KIP-152); version 0 sends bare tokens.
        self.ask_handshake(&RequestKind::SaslHandshake(mechanism), ApiKey::SaslHandshake, 1..=1, cx, now)
    }

    fn on_sasl_handshake(
        &mut self,
        version: i16,
        body: Bytes,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Event, ConnectionError> {
        let ResponseKind::SaslHandshake(answer) = cold::decode_response(ApiKey::SaslHandshake, version, body)? else {
            return Err(ConnectionError::Unsolicited);
        };
        let sasl = cx.config.security.sasl.as_ref().expect("a handshake was begun with credentials");
        if answer.error_code != ErrorCode::NONE.0 {
            let offered: Vec<&str> = answer.mechanisms.iter().map(|name| name.as_str()).collect();
            return Err(ConnectionError::Mechanism {
                mechanism: sasl.mechanism.name(),
                offered: offered.join(", ").chars().take(200).collect(),
            });
        }
        let (exchange, first) = Exchange::start(sasl, cx.rng);
        self.phase = Phase::SaslAuthenticate(exchange);
        self.ask_authenticate(first, cx, now)
    }

    fn on_sasl_authenticate(
        &mut self,
        mut exchange: Exchange,
        version: i16,
        body: Bytes,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Event, ConnectionError> {
        let ResponseKind::SaslAuthenticate(answer) = cold::decode_response(ApiKey::SaslAuthenticate, version, body)?
        else {
            return Err(ConnectionError::Unsolicited);
        };
        if answer.error_code != ErrorCode::NONE.0 {
            let words = answer.error_message.map(|message| message.to_string()).unwrap_or_default();
            let name = ErrorCode(answer.error_code).name();
            return Err(ConnectionError::Refused(format!("{name} {}", words.chars().take(200).collect::<String>())));
        }
        let sasl = cx.config.security.sasl.as_ref().expect("an exchange was begun with credentials");
        if let Some(message) = exchange.on_message(&answer.auth_bytes, sasl, cx.keys)? {
            self.phase = Phase::SaslAuthenticate(exchange);
            return self.ask_authenticate(message, cx, now);
        }
        if answer.session_lifetime_ms > 0 {
            // Leave before the broker hangs up (KIP-368); a fresh connection takes over.
            let lifetime = Duration::from_millis(answer.session_lifetime_ms as u64);
            self.retire_at = Some(now + lifetime * 8 / 10 - cx.rng.jitter(lifetime / 20));
        }
        self.phase = Phase::Ready;
        Ok(Event::Ready)
    }

    fn ask_authenticate(
        &mut self,
        message: Vec<u8>,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Event, ConnectionError> {
        let request = types::SaslAuthenticateRequest::default().with_auth_bytes(message.into());
        let ours = cold::supported(ApiKey::SaslAuthenticate);
        self.ask_handshake(&RequestKind::SaslAuthenticate(request), ApiKey::SaslAuthenticate, ours, cx, now)
    }

    fn ask_handshake(
        &mut self,
        request: &RequestKind,
        api: ApiKey,
        ours: RangeInclusive<i16>,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Result<Event, ConnectionError> {
        let version = self.version(api, ours).map_err(|_| ConnectionError::Missing(api))?;
        let deadline = now + cx.config.request_timeout;
        self.send_cold(request, api, version, &cx.config.client_id, Owner::Handshake, deadline, now)?;
        Ok(Event::Progress)
    }

    /// Queues a request of the cold codec.
    #[allow(clippy::too_many_arguments)]
    pub fn send_cold(
        &mut self,
        request: &RequestKind,
        api: ApiKey,
        version: i16,
        client_id: &str,
        owner: Owner,
        deadline: Instant,
        now: Instant,
    ) -> Result<(), WireError> {
        let frame = cold::encode_request_frame(request, version, self.correlation_next, client_id)?;
        let correlation_id = self.take_correlation_id();
        self.push(api, version, correlation_id, [frame], Some(owner), deadline, now);
        Ok(())
    }

    pub fn send_fetch(
        &mut self,
        request: &fetch::FetchRequest,
        version: i16,
        client_id: &str,
        owner: Owner,
        deadline: Instant,
        now: Instant,
    ) {
        let correlation_id = self.take_correlation_id();
        let frame = fetch::encode_request_frame(version, correlation_id, client_id, request);
        self.push(ApiKey::Fetch, version, correlation_id, [frame], Some(owner), deadline, now);
    }

    /// Queues a Produce request; without an owner (acks=0) it takes no slot.
    #[allow(clippy::too_many_arguments)]
    pub fn send_produce(
        &mut self,
        version: i16,
        client_id: &str,
        acks: i16,
        timeout: Duration,
        topics: &[produce::OutTopic<'_>],
        owner: Option<Owner>,
        now: Instant,
    ) {
        let correlation_id = self.take_correlation_id();
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let frame = produce::encode_request_frame(version, correlation_id, client_id, acks, timeout_ms, topics);
        self.push(ApiKey::Produce, version, correlation_id, frame, owner, now + timeout, now);
    }

    #[allow(clippy::too_many_arguments)]
    fn push(
        &mut self,
        api: ApiKey,
        version: i16,
        correlation_id: i32,
        frame: impl IntoIterator<Item = Bytes>,
        owner: Option<Owner>,
        deadline: Instant,
        now: Instant,
    ) {
        for part in frame {
            self.out_bytes += part.len();
            self.out.push(part);
        }
        self.last_used = now;
        if let Some(owner) = owner {
            self.in_flight.push_back(InFlight { correlation_id, api, version, sent_at: now, deadline, owner });
            self.untaken += 1;
        }
    }

    fn take_correlation_id(&mut self) -> i32 {
        let id = self.correlation_next;
        self.correlation_next = if id == i32::MAX { 0 } else { id + 1 };
        id
    }

    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Everything queued, for the driver to write in this order. From here on it may have left.
    pub fn take_output(&mut self) -> Vec<Bytes> {
        self.out_bytes = 0;
        self.untaken = 0;
        std::mem::take(&mut self.out)
    }

    /// The end: whoever waits, and whether the request may have left.
    pub fn into_waiting(self) -> impl Iterator<Item = (InFlight, bool)> {
        let taken = self.in_flight.len() - self.untaken;
        self.in_flight.into_iter().enumerate().map(move |(index, request)| (request, index < taken))
    }

    /// Records wait for this connection's broker: since it is silent, or since that was last noted, whichever is later.
    pub fn silent_since(&self) -> Option<Instant> {
        let since = match self.in_flight.front() {
            _ if self.is_opening() => self.opened_at,
            Some(oldest) if matches!(oldest.owner, Owner::Produce(_)) => oldest.sent_at,
            _ => return None,
        };
        Some(since.max(self.stall_noted_at))
    }

    /// Since when an answer is due and nothing is said. None: none is due.
    pub fn owes_since(&self) -> Option<Instant> {
        self.in_flight.front().map(|oldest| oldest.sent_at.max(self.heard_at))
    }

    /// When the oldest request is given up.
    pub fn answer_deadline(&self) -> Option<Instant> {
        self.in_flight.iter().map(|request| request.deadline).min()
    }
}
