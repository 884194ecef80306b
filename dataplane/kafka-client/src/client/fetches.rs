//! The fetch hub's hands: connections for its requests, answers for its asks. What goes together is decided in
//! [`crate::fetches`].

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_wire::api_key::ApiKey;
use kafka_wire::messages::fetch;

use super::Client;
use crate::connection::{ConnectionError, Owner};
use crate::fetches::{Answers, Fetches, Seats, Union};
use crate::limits::{FETCHES_MAX, POLL_CONNECTIONS_MAX};
use crate::types::{ConnId, Lane, Request, RequestError, RequestToken, Response};

impl Client {
    /// Sends what fetches can be sent now. Looks only at brokers with an ask that nobody names.
    pub(super) fn send_fetches(&mut self, now: Instant) {
        for broker in self.fetches.due() {
            if let Some(error) = self.no_way(broker, now) {
                for token in self.fetches.unnamed(broker) {
                    self.fetches.remove(token);
                    self.requests.answer(token, Err(error.clone()));
                }
            }
            self.send_laggards(broker, now);
            self.send_polls(broker, now);
            self.fetches.looked_at(broker);
        }
    }

    /// Why nothing more can be asked of this broker at present. What is named already is awaited.
    fn no_way(&self, broker: u32, now: Instant) -> Option<RequestError> {
        if let Some(why) = &self.auth_refused {
            return Some(RequestError::Authentication { why: why.clone() });
        }
        let broker = self.brokers.broker(broker);
        let is_connected = !broker.conns[Lane::Fetch.index()].is_empty();
        if is_connected || broker.may_connect(now) {
            return None;
        }
        Some(RequestError::Unreachable { why: broker.last_error.clone().unwrap_or_else(|| "connect failed".into()) })
    }

    fn send_laggards(&mut self, broker: u32, now: Instant) {
        while self.fetches.has_laggards(broker) {
            let Some(conn) = self.connection(broker, Lane::CatchUp, now) else { return };
            if self.conns.get(conn).is_none_or(|connection| !connection.in_flight.is_empty()) {
                return;
            }
            let Some(union) = self.fetches.compose_now(broker, now) else { return };
            self.send_union(conn, union, now);
        }
    }

    fn send_polls(&mut self, broker: u32, now: Instant) {
        let mut seats = self.seats(broker, now);
        self.fetches.leave_homes(broker, &seats.idle);
        while let Some((conn, union)) = self.fetches.compose_poll(broker, &mut seats, now) {
            self.send_union(conn, union, now);
        }
        let wanted = self.fetches.unnamed_count(broker).saturating_sub(seats.opening).min(seats.openable);
        for _ in 0..wanted {
            if self.open(broker, Lane::Fetch, now).is_none() {
                return;
            }
        }
    }

    fn seats(&self, broker: u32, now: Instant) -> Seats {
        let broker = self.brokers.broker(broker);
        let conns = &broker.conns[Lane::Fetch.index()];
        let mut seats = Seats::default();
        for connection in conns.iter().filter_map(|id| self.conns.get(*id)) {
            seats.opening += usize::from(connection.is_opening());
            if connection.can_send(1, now) {
                seats.idle.push(connection.id);
            }
        }
        seats.idle.reverse(); // the oldest is taken first
        if broker.may_connect(now) {
            seats.openable = POLL_CONNECTIONS_MAX.saturating_sub(conns.len());
        }
        seats
    }

    fn send_union(&mut self, conn: ConnId, union: Union, now: Instant) {
        let connection = self.conns.get_mut(conn).expect("the caller has looked");
        let give_up = now + union.timeout.max(self.config.request_timeout);
        match connection.version(ApiKey::Fetch, union.request.versions()) {
            Ok(version) => {
                let client_id = &self.config.client_id;
                connection.send_fetch(&union.request, version, client_id, Owner::Fetches, give_up, now);
                self.fetches.sent(conn, union, now);
                self.list_transmit(conn);
            }
            Err(error) => {
                self.fetches.sent(conn, union, now);
                self.fail_fetches(conn, &error);
            }
        }
    }

    /// Whoever was named on this connection gets no answer from it.
    pub(super) fn fail_fetches(&mut self, conn: ConnId, error: &RequestError) {
        for token in self.fetches.lost(conn) {
            self.requests.answer(token, Err(error.clone()));
        }
    }

    /// The answer to a union. A garbled one ends the connection too.
    pub(super) fn on_fetches(
        &mut self,
        conn: ConnId,
        version: i16,
        body: Bytes,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let body_bytes = body.len();
        match fetch::decode_response(version, body) {
            Ok(response) => {
                self.mute(conn, response.throttle_time_ms, now);
                let answers = self.fetches.answered(conn, response, body_bytes, now);
                self.tell_fetchers(answers);
                Ok(())
            }
            Err(error) => {
                let why: Arc<str> = error.to_string().into();
                self.fail_fetches(conn, &RequestError::Malformed { why });
                Err(error.into())
            }
        }
    }

    /// Asks whose wait is over are told that there is nothing.
    pub(super) fn expire_fetches(&mut self, now: Instant) {
        let mut answers = Answers::new();
        self.fetches.expire(now, &mut answers);
        self.tell_fetchers(answers);
    }

    fn tell_fetchers(&mut self, answers: Answers) {
        for (token, response) in answers {
            self.requests.answer(token, Ok(Response::Fetch(response)));
        }
    }

    /// Gives a user's waiting request to the hub, if it can be put together with others. One that cannot, or is one too
    /// many for the hub, waits for a connection of its own.
    pub(super) fn share_request(&mut self, token: RequestToken, broker: u32, now: Instant) -> bool {
        let is_shared = self.requests.waiting(token).is_some_and(|waiting| match &waiting.request {
            Request::Fetch(request) => waiting.lane == Lane::Fetch && Fetches::takes(request),
            Request::Cold(_) => false,
        });
        if !is_shared || self.fetches.len() >= FETCHES_MAX {
            return false;
        }
        let Some(waiting) = self.requests.take(token) else { return false };
        let Request::Fetch(request) = waiting.request else { return false };
        self.requests.shared(token, waiting.deadline);
        self.fetches.accept(token, broker, request, waiting.timeout, now);
        true
    }
}
