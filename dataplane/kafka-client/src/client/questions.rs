//! What the client asks besides Metadata and Produce: for a producer id, for coordinators, and users' requests.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, RequestKind, ResponseKind, types};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::fetch;

use super::Client;
use crate::connection::{ConnectionError, Owner};
use crate::coordinator::{self, Found};
use crate::limits::METADATA_TIMEOUT;
use crate::requests::{Destination, Line, Place, Waiting, api_of};
use crate::types::{ConnId, Lane, Request, RequestError, RequestToken, Response};

impl Client {
    // ---- producer id

    pub(super) fn ask_producer_id(&mut self, now: Instant) {
        let due = self.ids.wanted && !self.ids.asking && self.ids.retry_at.is_none_or(|at| at <= now);
        if !due {
            return;
        }
        let Some(conn) = self.any_connection(Lane::Control, now) else { return };
        let connection = self.conns.get_mut(conn).expect("given by any_connection()");
        let Ok(version) = connection.version(ApiKey::InitProducerId, cold::supported(ApiKey::InitProducerId)) else {
            return self.refuse_identity(ErrorCode::UNSUPPORTED_VERSION, now);
        };
        // Without a transactional id the timeout means nothing, but it must be positive.
        let request = types::InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(i32::MAX)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let request = RequestKind::InitProducerId(request);
        // As for metadata: all acks=all may wait for it, and another broker can answer.
        let deadline = now + METADATA_TIMEOUT.min(self.config.request_timeout);
        let api = ApiKey::InitProducerId;
        match connection.send_cold(&request, api, version, &self.config.client_id, Owner::ProducerId, deadline, now) {
            Ok(()) => {
                self.ids.asking = true;
                self.list_transmit(conn);
            }
            Err(error) => {
                tracing::error!(%error, "producer id request cannot be encoded");
                self.producer_id_failed(now);
            }
        }
    }

    pub(super) fn producer_id_failed(&mut self, now: Instant) {
        self.ids.asking = false;
        self.ids.retry_at = Some(self.ids.backoff.failed(now, &mut self.rng));
    }

    pub(super) fn on_producer_id(&mut self, conn: ConnId, answer: &types::InitProducerIdResponse, now: Instant) {
        self.mute(conn, answer.throttle_time_ms, now);
        match ErrorCode(answer.error_code) {
            ErrorCode::NONE if answer.producer_id.0 >= 0 && answer.producer_epoch >= 0 => {
                if self.ids.refused {
                    tracing::info!("brokers grant an idempotent producer after all: acks=all is stored once again");
                }
                self.ids.granted(answer.producer_id.0, answer.producer_epoch);
                self.wake_no_producer();
            }
            code @ (ErrorCode::CLUSTER_AUTHORIZATION_FAILED | ErrorCode::UNSUPPORTED_VERSION) => {
                self.refuse_identity(code, now);
            }
            code => {
                tracing::debug!(error = code.name(), "no producer id yet");
                self.producer_id_failed(now);
            }
        }
    }

    // ---- coordinators

    pub(super) fn ask_coordinators(&mut self, now: Instant) {
        while let Some(group) = self.coordinators.due(now) {
            let Some(conn) = self.any_connection(Lane::Control, now) else { return };
            let connection = self.conns.get_mut(conn).expect("given by any_connection()");
            let api = ApiKey::FindCoordinator;
            let sent =
                connection.version(api, cold::supported(api)).map_err(|error| error.to_string()).and_then(|version| {
                    let request = coordinator::request(&group, version);
                    let owner = Owner::Coordinator(group.clone());
                    let deadline = now + self.config.request_timeout;
                    connection
                        .send_cold(&request, api, version, &self.config.client_id, owner, deadline, now)
                        .map_err(|error| error.to_string())
                });
            match sent {
                Ok(()) => {
                    self.coordinators.asked(&group);
                    self.list_transmit(conn);
                }
                Err(error) => {
                    tracing::error!(%error, group, "coordinator cannot be asked for");
                    self.coordinator_failed(&group, now);
                }
            }
        }
    }

    pub(super) fn coordinator_failed(&mut self, group: &str, now: Instant) {
        self.coordinators.failed(group, now, &mut self.rng);
    }

    pub(super) fn on_coordinator(
        &mut self,
        group: &str,
        version: i16,
        answer: types::FindCoordinatorResponse,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let found = match coordinator::found(group, version, answer) {
            Ok(found) => found,
            Err(error) => {
                self.coordinator_failed(group, now);
                return Err(error.into());
            }
        };
        match found {
            Found::Broker { node, host, port } => match self.brokers.learn(node, &host, port) {
                Some((broker, moved)) => {
                    if moved {
                        self.retire_connections(broker);
                    }
                    self.coordinators.found(group, broker);
                    self.requests.replace_group(group);
                }
                None => self.coordinator_failed(group, now),
            },
            Found::Retry(code) => {
                tracing::debug!(error = code.name(), group, "coordinator not known yet");
                self.coordinator_failed(group, now);
            }
            Found::Refused(code) => {
                self.coordinators.refused(group);
                for token in self.requests.of_group(group) {
                    self.requests.answer(token, Err(RequestError::CoordinatorRefused { code }));
                }
            }
        }
        Ok(())
    }

    // ---- users' requests

    /// Sends what can be sent, in order. What has arrived is given a place; what waits for news is not looked at.
    pub(super) fn send_requests(&mut self, now: Instant) {
        if self.requests.waiting_count() == 0 {
            return;
        }
        if let Some(why) = &self.auth_refused {
            let error = RequestError::Authentication { why: why.clone() };
            return self.fail_all_waiting(&error);
        }
        self.requests.news(self.brokers.generation, self.brokers.all.len());
        while let Some(token) = self.requests.first_arrived() {
            self.place_request(token, now);
        }
        for line in self.requests.lines() {
            self.serve_line(line, now);
        }
    }

    /// Gives a waiting request the place it belongs to now, or its error.
    fn place_request(&mut self, token: RequestToken, now: Instant) {
        let Some(waiting) = self.requests.waiting(token) else { return };
        let line = |broker, lane| Ok(Place::Line(Line { broker, lane }));
        let known = match &waiting.destination {
            Destination::Any => Ok(None),
            Destination::Controller => self.brokers.controller.ok_or(Place::Unknown).map(Some),
            Destination::Broker(node) => self.brokers.by_node(*node).ok_or(Place::Unknown).map(Some),
            Destination::Coordinator(group) => self.coordinators.find(group).ok_or(Place::Coordinator).map(Some),
        };
        let place = match known {
            Ok(broker) => line(broker, waiting.lane),
            Err(Place::Unknown) if self.brokers.generation > waiting.generation => {
                let why: Arc<str> = format!("the cluster has no {:?}", waiting.destination).into();
                Err(RequestError::Unreachable { why })
            }
            Err(place) => {
                if place == Place::Unknown {
                    self.brokers.want_refresh();
                }
                Ok(place)
            }
        };
        match place {
            Ok(Place::Line(Line { broker: Some(broker), .. })) if self.share_request(token, broker, now) => {}
            Ok(place) => self.requests.place(token, place),
            Err(error) => self.requests.answer(token, Err(error)),
        }
    }

    /// Sends the first of a line for as long as a connection takes it.
    fn serve_line(&mut self, line: Line, now: Instant) {
        while let Some(token) = self.requests.first_of(line) {
            if let Some(broker) = line.broker.filter(|broker| !self.brokers.broker(*broker).may_connect(now)) {
                let why = self.brokers.broker(broker).last_error.clone().unwrap_or_else(|| "connect failed".into());
                self.requests.answer(token, Err(RequestError::Unreachable { why }));
                continue;
            }
            let wanted = self.requests.line_length(line);
            let conn = match line.broker {
                None => self.any_connection(line.lane, now),
                Some(broker) if line.lane.waits() => self.own_connection(broker, line.lane, wanted, now),
                Some(broker) => self.connection(broker, line.lane, now),
            };
            let Some(conn) = conn else { return };
            if let Some(waiting) = self.requests.take(token) {
                self.send_request(conn, token, waiting, now);
            }
        }
    }

    fn send_request(&mut self, conn: ConnId, token: RequestToken, waiting: Waiting, now: Instant) {
        let Waiting { request, timeout, deadline, .. } = waiting;
        let connection = self.conns.get_mut(conn).expect("the caller has looked");
        let client_id = &self.config.client_id;
        let give_up = now + timeout.max(self.config.request_timeout);
        let sent = match request {
            Request::Fetch(request) => connection.version(ApiKey::Fetch, request.versions()).map(|version| {
                connection.send_fetch(&request, version, client_id, Owner::User(token), give_up, now);
            }),
            Request::Cold(mut request) => api_of(&request)
                .ok_or_else(|| RequestError::Encode { why: "an API this client does not speak".into() })
                .and_then(|api| Ok((api, connection.version(api, cold::supported(api))?)))
                .and_then(|(api, version)| {
                    crate::fit::fit(&mut request, version);
                    let owner = Owner::User(token);
                    connection.send_cold(&request, api, version, client_id, owner, give_up, now).map_err(encode_error)
                }),
        };
        match sent {
            Ok(()) => {
                self.requests.sent(token, conn, deadline);
                self.list_transmit(conn);
            }
            Err(error) => self.requests.answer(token, Err(error)),
        }
    }

    /// An answer for a user. A garbled one ends the connection too.
    pub(super) fn on_reply(
        &mut self,
        conn: ConnId,
        token: RequestToken,
        api: ApiKey,
        version: i16,
        body: Bytes,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let decoded = if api == ApiKey::Fetch {
            fetch::decode_response(version, body).map(Response::Fetch)
        } else {
            cold::decode_response(api, version, body).map(Response::Cold)
        };
        match decoded {
            Ok(response) => {
                if let Some(throttle_time_ms) = throttle(&response) {
                    self.mute(conn, throttle_time_ms, now);
                }
                self.requests.answer(token, Ok(response));
                Ok(())
            }
            Err(error) => {
                let why: Arc<str> = error.to_string().into();
                self.requests.answer(token, Err(RequestError::Malformed { why }));
                Err(error.into())
            }
        }
    }

    /// Answers everything that waits with an error.
    pub(super) fn fail_all_waiting(&mut self, error: &RequestError) {
        for token in self.requests.all_waiting() {
            self.requests.answer(token, Err(error.clone()));
        }
    }
}

fn encode_error(error: kafka_wire::WireError) -> RequestError {
    RequestError::Encode { why: error.to_string().into() }
}

/// KIP-219: how long the broker asks us to be quiet, where quotas apply.
fn throttle(response: &Response) -> Option<i32> {
    match response {
        Response::Fetch(answer) => Some(answer.throttle_time_ms),
        Response::Cold(ResponseKind::CreateTopics(answer)) => Some(answer.throttle_time_ms),
        Response::Cold(ResponseKind::DeleteTopics(answer)) => Some(answer.throttle_time_ms),
        Response::Cold(ResponseKind::CreatePartitions(answer)) => Some(answer.throttle_time_ms),
        Response::Cold(ResponseKind::Metadata(answer)) => Some(answer.throttle_time_ms),
        Response::Cold(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientConfig;

    #[test]
    fn a_producer_id_that_cannot_be_is_none() {
        for (id, epoch, granted) in [(0, 0, true), (7, 3, true), (-1, 0, false), (0, -1, false), (-1, -1, false)] {
            let now = Instant::now();
            let mut client = Client::new(ClientConfig::default(), 1, now);
            let answer =
                types::InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(epoch);
            client.on_producer_id(ConnId(0), &answer, now);
            assert_eq!(client.ids.current.map(|identity| identity.id), granted.then_some(id), "{id} {epoch}");
            assert_eq!(client.ids.retry_at.is_some(), !granted, "{id} {epoch}");
        }
    }

    #[test]
    fn answers_with_a_quota_say_how_long_to_be_quiet() {
        let fetch =
            fetch::FetchResponse { throttle_time_ms: 7, error: ErrorCode::NONE, session_id: 0, topics: Vec::new() };
        let create = types::CreateTopicsResponse::default().with_throttle_time_ms(7);
        let delete = types::DeleteTopicsResponse::default().with_throttle_time_ms(7);
        let grow = types::CreatePartitionsResponse::default().with_throttle_time_ms(7);
        let metadata = types::MetadataResponse::default().with_throttle_time_ms(7);
        for response in [
            Response::Fetch(fetch),
            Response::Cold(ResponseKind::CreateTopics(create)),
            Response::Cold(ResponseKind::DeleteTopics(delete)),
            Response::Cold(ResponseKind::CreatePartitions(grow)),
            Response::Cold(ResponseKind::Metadata(metadata)),
        ] {
            assert_eq!(throttle(&response), Some(7), "{response:?}");
        }
        let heartbeat = types::HeartbeatResponse::default().with_throttle_time_ms(7);
        assert_eq!(throttle(&Response::Cold(ResponseKind::Heartbeat(heartbeat))), None);
    }
}
