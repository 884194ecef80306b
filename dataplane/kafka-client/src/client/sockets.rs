//! Connections: which one takes a request, when one is opened, what its bytes say, and what its end means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, ResponseKind};

use super::Client;
use super::expiry::UNUSED;
use crate::connection::{Connection, ConnectionError, Context, Event, Owner};
use crate::limits::{
    ATTEMPTS_MAX, AWAY_FORGOTTEN, AWAY_PAUSE, AWAY_UNREST, OPENING_PATIENCE, POLL_CONNECTIONS_MAX,
    WAITING_LANE_CONNECTIONS_MAX,
};
use crate::types::{ConnId, Connect, Lane, RequestError};

/// A connection whose oldest request is older is not given requests that others can answer.
const SLOW: Duration = Duration::from_secs(1);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The broker is held for worse.
    Failure,
    /// Nobody needs it.
    Unused,
}

impl Client {
    // ---- the driver's side

    /// The next connection to open. Answer with [`Client::on_connected`] or [`Client::on_connect_failed`].
    pub fn poll_connect(&mut self, _now: Instant) -> Option<Connect> {
        while let Some(connect) = self.connects.pop_front() {
            if self.conns.get(connect.conn).is_some() {
                return Some(connect);
            }
        }
        None
    }

    /// TCP, and TLS where asked for, stand.
    pub fn on_connected(&mut self, conn: ConnId, now: Instant) {
        self.dirty = true;
        let mut cx = Context { config: &self.config, keys: &mut self.keys, rng: &mut self.rng };
        if let Some(connection) = self.conns.get_mut(conn) {
            connection.on_connected(&mut cx, now);
        }
        self.list_transmit(conn);
    }

    /// No connection came about.
    pub fn on_connect_failed(&mut self, conn: ConnId, why: String, now: Instant) {
        self.end(conn, &why, End::Failure, now);
    }

    /// Takes every whole frame out of `buf`; the rest stays for the next call. After a protocol error the connection
    /// is named by [`Client::poll_close`] and further bytes are dropped.
    pub fn on_bytes(&mut self, conn: ConnId, buf: &mut BytesMut, now: Instant) {
        self.dirty = true;
        loop {
            let mut cx = Context { config: &self.config, keys: &mut self.keys, rng: &mut self.rng };
            let Some(connection) = self.conns.get_mut(conn) else {
                buf.clear();
                return;
            };
            let read = match connection.next_event(buf, &mut cx, now) {
                Ok(None) => return,
                Ok(Some(event)) => self.on_event(conn, event, now),
                Err(error) => Err(error),
            };
            if let Err(error) = read {
                self.on_protocol_error(conn, &error, now);
            }
        }
    }

    /// The peer, or the driver, ended the connection.
    pub fn on_closed(&mut self, conn: ConnId, why: String, now: Instant) {
        self.end(conn, &why, End::Failure, now);
    }

    /// A connection with bytes to write. After it, call [`Client::take_transmit`].
    pub fn poll_transmit_ready(&mut self) -> Option<ConnId> {
        while let Some(conn) = self.transmit.pop_front() {
            if let Some(connection) = self.conns.get_mut(conn) {
                connection.transmit_listed = false;
                if connection.has_output() {
                    return Some(conn);
                }
            }
        }
        None
    }

    /// Everything to be written on a connection now, in order. Take it when the last chain has been written: what
    /// was taken may have left, what was not has not.
    pub fn take_transmit(&mut self, conn: ConnId) -> Vec<Bytes> {
        self.conns.get_mut(conn).map(Connection::take_output).unwrap_or_default()
    }

    /// A connection to close, and why.
    pub fn poll_close(&mut self) -> Option<(ConnId, String)> {
        self.closes.pop_front()
    }

    // ---- the client's side

    pub(super) fn list_transmit(&mut self, conn: ConnId) {
        if let Some(connection) = self.conns.get_mut(conn)
            && connection.has_output()
            && !connection.transmit_listed
        {
            connection.transmit_listed = true;
            self.transmit.push_back(conn);
        }
    }

    fn on_event(&mut self, conn: ConnId, event: Event, now: Instant) -> Result<(), ConnectionError> {
        match event {
            Event::Progress => self.list_transmit(conn),
            Event::Ready => self.on_ready(conn, now),
            Event::Answer { owner, api, version, body } => return self.on_answer(conn, owner, api, version, body, now),
        }
        Ok(())
    }

    fn on_ready(&mut self, conn: ConnId, now: Instant) {
        let Some((broker, lane)) = self.conns.get(conn).map(|conn| (conn.broker, conn.lane)) else { return };
        if !lane.waits() {
            // Attempts that were begun because this one took long.
            for other in self.brokers.broker(broker).conns[lane.index()].clone() {
                if self.conns.get(other).is_some_and(Connection::is_connecting) {
                    self.lose(other, UNUSED, End::Unused, now);
                }
            }
        }
        let broker = self.brokers.broker_mut(broker);
        broker.backoff.succeeded();
        broker.retry_at = None;
        broker.last_error = None;
        broker.failed_at = None;
        self.brokers.last_error = None;
        self.auth_refused = None;
    }

    fn on_answer(
        &mut self,
        conn: ConnId,
        owner: Owner,
        api: ApiKey,
        version: i16,
        body: Bytes,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        match owner {
            Owner::Produce(sent) => self.on_produce_answer(conn, &sent, version, body, now),
            Owner::User(token) => self.on_reply(conn, token, api, version, body, now),
            Owner::Fetches => self.on_fetches(conn, version, body, now),
            Owner::Nobody => Ok(()),
            Owner::Handshake => Err(ConnectionError::Unsolicited),
            owner @ (Owner::Metadata | Owner::ProducerId | Owner::Coordinator(_)) => {
                let answer = match cold::decode_response(api, version, body) {
                    Ok(answer) => answer,
                    Err(error) => {
                        self.internal_failed(&owner, now);
                        return Err(error.into());
                    }
                };
                match (owner, answer) {
                    (Owner::Metadata, ResponseKind::Metadata(answer)) => self.on_metadata(conn, answer, now),
                    (Owner::ProducerId, ResponseKind::InitProducerId(answer)) => {
                        self.on_producer_id(conn, &answer, now)
                    }
                    (Owner::Coordinator(group), ResponseKind::FindCoordinator(answer)) => {
                        return self.on_coordinator(&group, version, answer, now);
                    }
                    (owner, _) => {
                        self.internal_failed(&owner, now);
                        return Err(ConnectionError::Unsolicited);
                    }
                }
                Ok(())
            }
        }
    }

    fn internal_failed(&mut self, owner: &Owner, now: Instant) {
        match owner {
            Owner::Metadata => self.metadata_failed(now),
            Owner::ProducerId => self.producer_id_failed(now),
            Owner::Coordinator(group) => self.coordinator_failed(group, now),
            Owner::Handshake | Owner::Produce(_) | Owner::User(_) | Owner::Fetches | Owner::Nobody => {}
        }
    }

    fn on_protocol_error(&mut self, conn: ConnId, error: &ConnectionError, now: Instant) {
        let Some(connection) = self.conns.get(conn) else { return };
        let broker = self.brokers.broker(connection.broker);
        tracing::warn!(host = %broker.host, port = broker.port, %error, "broker connection closed");
        let is_authentication = error.is_authentication();
        let why = error.to_string();
        self.lose(conn, &why, End::Failure, now);
        if is_authentication && !self.conns.iter().any(Connection::is_ready) {
            // Nobody lets us in: waiting for the deadline helps nobody.
            let why: Arc<str> = why.into();
            self.auth_refused = Some(why.clone());
            self.fail_unsent(&why);
            self.fail_all_waiting(&RequestError::Authentication { why });
        }
    }

    /// Ends a connection from our side; the driver is told to close it.
    pub(super) fn lose(&mut self, conn: ConnId, why: &str, end: End, now: Instant) {
        if self.conns.get(conn).is_some() {
            self.closes.push_back((conn, why.to_owned()));
            self.end(conn, why, end, now);
        }
    }

    /// A connection is gone: whoever waited for it hears so.
    fn end(&mut self, conn: ConnId, why: &str, end: End, now: Instant) {
        self.dirty = true;
        let Some(connection) = self.conns.remove(conn) else { return };
        let broker = &mut self.brokers.all[connection.broker as usize];
        broker.conns[connection.lane.index()].retain(|id| *id != conn);
        let place = format!("{}:{}: {why}", broker.host, broker.port);
        if end == End::Failure {
            if connection.is_opening() {
                // A failure that nobody followed up says nothing about this one.
                let is_old = broker.retry_at.is_some_and(|at| at + AWAY_FORGOTTEN < connection.opened_at);
                let since = broker.failed_at.filter(|_| !is_old).unwrap_or(now);
                broker.failed_at = Some(since);
                let at = broker.backoff.failed(now, &mut self.rng);
                let at = if now < since + AWAY_UNREST { at.min(now + AWAY_PAUSE) } else { at };
                broker.retry_at = Some(broker.retry_at.map_or(at, |earlier| earlier.max(at)));
                broker.last_error = Some(place.as_str().into());
            }
            self.watch.sweep = true;
            self.brokers.last_error = Some(place.as_str().into());
            self.brokers.want_refresh();
            self.want_topics_pending_at(connection.broker);
            tracing::debug!(broker = %place, lane = ?connection.lane, in_flight = connection.in_flight.len(), "connection lost");
        }
        let why: Arc<str> = place.into();
        for (request, left) in connection.into_waiting() {
            let error = match left {
                true => RequestError::Disconnected { why: why.clone() },
                false => RequestError::Unreachable { why: why.clone() },
            };
            match request.owner {
                Owner::Produce(sent) => {
                    sent.iter().for_each(|(queue_id, attempt)| self.unanswered(*queue_id, *attempt, left, &why, now));
                }
                Owner::User(token) => self.requests.answer(token, Err(error)),
                Owner::Fetches => self.fail_fetches(conn, &error),
                owner => self.internal_failed(&owner, now),
            }
        }
    }

    /// Whatever waits for this broker may have another leader by now.
    pub(super) fn want_topics_pending_at(&mut self, broker: u32) {
        for queue_id in self.records.places.all_pending_at(broker) {
            self.records.topics[queue_id.topic as usize].wanted = true;
            self.brokers.want_refresh();
        }
    }

    /// KIP-219: nothing goes out on this connection for so long.
    pub(super) fn mute(&mut self, conn: ConnId, throttle_time_ms: i32, now: Instant) {
        let Ok(throttle_ms @ 1..) = u64::try_from(throttle_time_ms) else { return };
        // No broker asks for more than its quota window; a longer silence would be garbage.
        let quiet = Duration::from_millis(throttle_ms).min(self.config.request_timeout);
        if let Some(connection) = self.conns.get_mut(conn) {
            connection.muted_until = Some(now + quiet);
        }
    }

    /// The broker's address changed: its connections end when they are through.
    pub(super) fn retire_connections(&mut self, broker: u32) {
        let now = self.flushed_at;
        for connection in self.conns.iter_mut().filter(|connection| connection.broker == broker) {
            connection.retire_at = Some(now);
        }
    }

    // ---- which connection

    /// The broker's connection of a lane, if it takes a request now. If there is none, one is opened.
    pub(super) fn connection(&mut self, broker: u32, lane: Lane, now: Instant) -> Option<ConnId> {
        let in_flight_max = self.config.in_flight_max;
        let (mut usable, mut attempts) = (0, 0);
        for id in &self.brokers.broker(broker).conns[lane.index()] {
            let Some(connection) = self.conns.get(*id) else { continue };
            if connection.can_send(in_flight_max, now) {
                return Some(*id);
            }
            attempts += usize::from(connection.is_connecting());
            let is_late = connection.is_connecting() && connection.opened_at + OPENING_PATIENCE <= now;
            usable += usize::from(!connection.is_retired(now) && !is_late);
        }
        if usable == 0 && attempts < ATTEMPTS_MAX {
            self.open(broker, lane, now);
        }
        None
    }

    /// As [`Client::connection`] for lanes whose requests wait at the broker: one without a request. If there is none,
    /// so many are opened that each of `wanted` requests gets one; those beyond the limit share the least busy.
    pub(super) fn own_connection(&mut self, broker: u32, lane: Lane, wanted: usize, now: Instant) -> Option<ConnId> {
        let conns = &self.brokers.broker(broker).conns[lane.index()];
        let (count, mut opening) = (conns.len(), 0);
        let mut least: Option<(usize, ConnId)> = None;
        for id in conns {
            let Some(connection) = self.conns.get(*id) else { continue };
            if connection.can_send(1, now) {
                return Some(*id);
            }
            opening += usize::from(connection.is_opening());
            if connection.can_send(self.config.in_flight_max, now) {
                let load = connection.in_flight.len();
                least = least.filter(|(other, _)| *other <= load).or(Some((load, *id)));
            }
        }
        let count_max = if lane == Lane::Fetch { POLL_CONNECTIONS_MAX } else { WAITING_LANE_CONNECTIONS_MAX };
        for _ in count..count_max.min(count + wanted.saturating_sub(opening)) {
            if self.open(broker, lane, now).is_none() {
                break;
            }
        }
        let shared = count >= count_max && wanted > opening;
        least.filter(|_| shared).map(|(_, id)| id)
    }

    /// Any broker's connection of a lane: the least busy that is not slow. If nobody's is open, the next candidate's
    /// is opened; and another's, whenever those that are being opened have taken `OPENING_PATIENCE`: a frozen broker
    /// takes connections and says nothing.
    pub(super) fn any_connection(&mut self, lane: Lane, now: Instant) -> Option<ConnId> {
        let in_flight_max = self.config.in_flight_max;
        let mut best: Option<(bool, bool, usize, ConnId)> = None;
        let mut opening = false;
        for (index, broker) in self.brokers.all.iter().enumerate() {
            for id in &broker.conns[lane.index()] {
                let Some(connection) = self.conns.get(*id) else { continue };
                opening |= connection.is_opening() && now < connection.opened_at + OPENING_PATIENCE;
                let slow = connection.in_flight.front().is_some_and(|oldest| oldest.sent_at + SLOW <= now);
                if connection.can_send(in_flight_max, now) && !slow {
                    let is_doubted = self.brokers.is_doubted(index as u32);
                    let rank = (is_doubted, broker.node.is_none(), connection.in_flight.len(), *id);
                    best = Some(best.map_or(rank, |best| best.min(rank)));
                }
            }
        }
        // The word of a doubted broker is better than none; somebody else's next time.
        let wanted = best.is_none_or(|(is_doubted, ..)| is_doubted);
        if wanted
            && !opening
            && let Some(broker) = self.brokers.next_candidate(lane, now)
        {
            self.open(broker, lane, now);
        }
        best.map(|(.., id)| id)
    }

    pub(super) fn open(&mut self, broker: u32, lane: Lane, now: Instant) -> Option<ConnId> {
        if !self.brokers.broker(broker).may_connect(now) {
            return None;
        }
        let config = &self.config;
        let conn = self.conns.insert(|id| Connection::new(id, broker, lane, now, config))?;
        let broker = self.brokers.broker_mut(broker);
        broker.conns[lane.index()].push(conn);
        self.connects.push_back(Connect {
            conn,
            host: broker.host.clone(),
            port: broker.port,
            tls: self.config.security.tls,
            timeout: self.config.connect_timeout,
        });
        Some(conn)
    }
}
