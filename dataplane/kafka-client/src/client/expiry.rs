//! Deadlines: of records, of requests, of connections; and when the next one is.
//!
//! A record's deadline ends its owner's wait, not its batch's life. A record whose batch cannot be stored yet is
//! taken out and is Unavailable. A record whose batch was sent is Unknown; the batch goes on for the others in it, and
//! when nobody is left it is given up, unless its answer is still to come: until then the partition waits, because
//! sending the next batch meanwhile could only be done under another producer id and out of order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Client;
use super::sockets::End;
use crate::connection::{InFlight, Owner};
use crate::limits::{CONNECTION_IDLE_MAX, EXPIRY_PAUSE, GROUP_CONNECTION_IDLE_MAX, OPENING_PATIENCE, PRODUCE_STALL};
use crate::queue::{Place, Queue, QueueId};
use crate::requests::Holder;
use crate::types::{ConnId, Lane, Outcome, ProduceError, RequestError, RequestToken};

/// A connection without an answer for longer does not count as reachable.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

impl Client {
    pub(super) fn expire_records(&mut self, now: Instant) {
        let due = self.records.next_expiry.is_some_and(|at| at <= now);
        if due && now >= self.expired_at + EXPIRY_PAUSE {
            self.expired_at = now;
            self.expire_records_until(Some(now), now);
        }
    }

    /// Ends the wait of every record with a deadline up to `until`, or of all.
    pub(super) fn expire_records_until(&mut self, until: Option<Instant>, now: Instant) {
        let why: Arc<str> = match &self.brokers.last_error {
            Some(error) => format!("topic metadata not known in time: {error}").into(),
            None => "topic metadata not known in time".into(),
        };
        let mut next = self.records.expire_waiting(until, &why, &mut self.told);
        self.tell();
        for queue_id in self.records.occupied().to_vec() {
            let left = self.expire_queue(queue_id, until, now);
            next = earlier(next, left);
        }
        self.records.next_expiry = next;
    }

    /// One queue; gives its earliest deadline left.
    fn expire_queue(&mut self, queue_id: QueueId, until: Option<Instant>, now: Instant) -> Option<Instant> {
        let mut next = None;
        let mut index = 0;
        while let Some(batch) = self.records.queue(queue_id).and_then(|queue| queue.batches.get(index)) {
            let over = batch.earliest.is_some_and(|at| until.is_none_or(|until| at <= until));
            if !over {
                next = earlier(next, batch.earliest);
                index += 1;
                continue;
            }
            let in_flight = index == 0 && self.records.queue(queue_id).is_some_and(Queue::is_in_flight);
            let maybe_stored = in_flight || batch.maybe_stored;
            let error = if maybe_stored {
                ProduceError::Unknown { why: self.problem(queue_id, "the broker did not answer in time") }
            } else {
                ProduceError::Unavailable { why: self.problem(queue_id, &self.reason(queue_id, now)) }
            };
            self.expire_batch(queue_id, index, until, &error, in_flight, maybe_stored);
            // What stays there has a later deadline; else another batch has come to its place.
        }
        next
    }

    /// Tells those whose time is over. The batch stays while somebody waits for it, or its answer is to come.
    ///
    /// Records of a batch that was never sent leave it in bulk, when half of it is over or when it is sent, so that an
    /// expired record costs about as much as an accepted one.
    fn expire_batch(
        &mut self,
        queue_id: QueueId,
        index: usize,
        until: Option<Instant>,
        error: &ProduceError,
        in_flight: bool,
        maybe_stored: bool,
    ) {
        let Some(queue) = self.records.queue_mut(queue_id) else { return };
        let batch = &mut queue.batches[index];
        let outcomes = &mut self.outcomes;
        batch.expire(until, |run| {
            outcomes.push_back(Outcome {
                tag: run.tag,
                record_first: run.record_first,
                count: run.count,
                result: Err(error.clone()),
                unsent: None,
            });
        });
        let (nobody_left, mostly_over) = (batch.earliest.is_none(), batch.is_mostly_over());
        if in_flight {
            return;
        }
        match (maybe_stored, nobody_left) {
            (true, false) => {}
            (true, true) => {
                debug_assert_eq!(index, 0, "only the first batch was ever sent");
                let why = self.problem(queue_id, "the broker did not answer in time");
                self.abandon(queue_id, &why);
            }
            (false, true) => {
                if let Some(batch) = self.records.remove(queue_id, index) {
                    self.records.recycle(batch.runs);
                }
            }
            (false, false) => {
                if mostly_over {
                    self.records.strip(queue_id, index);
                }
            }
        }
    }

    /// Ends every record that was never sent: sending it is out of the question for now, no connection stands.
    pub(super) fn fail_unsent(&mut self, why: &Arc<str>) {
        self.records.expire_waiting(None, why, &mut self.told);
        self.tell();
        let error = ProduceError::Unavailable { why: why.clone() };
        for queue_id in self.records.occupied().to_vec() {
            debug_assert!(
                !self.records.queue(queue_id).is_some_and(Queue::is_in_flight),
                "{queue_id:?} has no connection"
            );
            let mut index = 0;
            while let Some(batch) = self.records.queue(queue_id).and_then(|queue| queue.batches.get(index)) {
                if batch.maybe_stored {
                    index += 1;
                } else if let Some(batch) = self.records.remove(queue_id, index) {
                    self.fail(batch, &error);
                }
            }
        }
    }

    /// What last went wrong with a queue, else `otherwise`.
    fn problem(&self, queue_id: QueueId, otherwise: &str) -> Arc<str> {
        self.records.queue(queue_id).and_then(|queue| queue.problem.clone()).unwrap_or_else(|| otherwise.into())
    }

    /// Why a queue's batches were not sent, from where it waits.
    fn reason(&self, queue_id: QueueId, now: Instant) -> String {
        let Some(queue) = self.records.queue(queue_id) else { return "partition is gone".into() };
        match (queue.place(), self.records.leader(queue_id)) {
            (Place::NoLeader, _) | (_, None) => "partition has no leader".into(),
            (Place::NoProducer, _) => "no producer id from the cluster".into(),
            (_, Some(leader)) => {
                let broker = self.brokers.broker(leader);
                match &broker.last_error {
                    Some(why) if !broker.may_connect(now) => why.to_string(),
                    _ => format!("leader {}:{} did not take it in time", broker.host, broker.port),
                }
            }
        }
    }

    /// Outcomes of records that never reached a queue.
    pub(super) fn tell(&mut self) {
        for told in self.told.drain(..) {
            self.outcomes.push_back(Outcome {
                tag: told.tag,
                record_first: told.record_first,
                count: told.count,
                result: Err(told.error),
                unsent: told.unsent,
            });
        }
    }

    // ---- requests

    pub(super) fn expire_requests(&mut self, now: Instant) {
        while let Some((token, holder)) = self.requests.overdue(now) {
            let sent = holder.is_some_and(|holder| self.disown(token, holder));
            self.requests.answer(token, Err(RequestError::Timeout { sent }));
        }
    }

    /// The answer to a request will be read and dropped. Gives whether it was sent.
    pub(super) fn disown(&mut self, token: RequestToken, holder: Holder) -> bool {
        let conn = match holder {
            Holder::Connection(conn) => conn,
            Holder::Hub => return self.fetches.remove(token) == Some(true),
        };
        let in_flight = self.conns.get_mut(conn).into_iter().flat_map(|conn| conn.in_flight.iter_mut());
        for request in in_flight {
            if matches!(&request.owner, Owner::User(owner) if *owner == token) {
                request.owner = Owner::Nobody;
            }
        }
        true
    }

    // ---- connections

    /// Connections that are silent, stalled, unused or past their session end or stop being used here.
    pub(super) fn expire_connections(&mut self, now: Instant) {
        let mut over: Vec<(ConnId, &'static str)> = Vec::new();
        let mut stalled: Vec<QueueId> = Vec::new();
        let mut stalled_brokers: Vec<u32> = Vec::new();
        for conn in self.conns.iter_mut().filter(|conn| conn.silent_since().is_some_and(|at| at + PRODUCE_STALL <= now))
        {
            conn.stall_noted_at = now;
            match conn.in_flight.front() {
                Some(InFlight { owner: Owner::Produce(sent), .. }) => {
                    stalled.extend(sent.iter().map(|(queue_id, _)| *queue_id))
                }
                _ => stalled_brokers.push(conn.broker),
            }
        }
        for conn in self.conns.iter() {
            if conn.is_opening() && conn.opening_deadline <= now {
                over.push((conn.id, "broker did not complete the handshake in time"));
            } else if conn.answer_deadline().is_some_and(|at| at <= now) {
                over.push((conn.id, "broker did not answer in time"));
            } else if self.is_unused(conn, now) {
                over.push((conn.id, UNUSED));
            }
        }
        for (conn, why) in over {
            if let Some(silent) = self.conns.get(conn).filter(|_| why != UNUSED) {
                self.brokers.broker_mut(silent.broker).failed_at.get_or_insert(now);
            }
            self.lose(conn, why, if why == UNUSED { End::Unused } else { End::Failure }, now);
        }
        for queue_id in stalled {
            self.want_topic(queue_id.topic);
        }
        for broker in stalled_brokers {
            self.want_topics_pending_at(broker);
        }
    }

    fn is_unused(&self, conn: &crate::connection::Connection, now: Instant) -> bool {
        if conn.is_opening() || !conn.in_flight.is_empty() || conn.has_output() {
            return false;
        }
        conn.is_retired(now) || self.idle_end(conn) <= now
    }

    fn idle_end(&self, conn: &crate::connection::Connection) -> Instant {
        let is_bootstrap = self.brokers.broker(conn.broker).node.is_none();
        conn.last_used
            + match conn.lane {
                _ if is_bootstrap => self.config.bootstrap_idle_max,
                Lane::Group => GROUP_CONNECTION_IDLE_MAX,
                _ => CONNECTION_IDLE_MAX,
            }
    }

    /// The earliest time after this flush at which something is due. What is due already waits for an event, not for
    /// time, so it does not count.
    pub(super) fn earliest_timer(&self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        let mut consider = |at: Option<Instant>| {
            if let Some(at) = at.filter(|at| *at > now) {
                next = earlier(next, Some(at));
            }
        };
        consider(self.records.next_expiry.map(|at| at.max(self.expired_at + EXPIRY_PAUSE)));
        consider(self.records.places.delayed.peek().map(|delayed| delayed.0.0));
        consider(self.requests.next_deadline());
        consider(self.fetches.next_deadline());
        consider(self.rechecks.iter().map(|(at, _)| *at).min());
        consider(self.watch.next_at);
        consider(self.ids.retry_at);
        consider(self.coordinators.next_retry());
        if !self.brokers.refresh.asking {
            consider(self.brokers.refresh.wanted.then_some(self.brokers.refresh.not_before));
            consider(Some(self.brokers.refresh.periodic_at));
        }
        for broker in &self.brokers.all {
            consider(broker.retry_at);
        }
        for conn in self.conns.iter() {
            consider(conn.is_opening().then_some(conn.opening_deadline));
            consider(conn.is_opening().then_some(conn.opened_at + OPENING_PATIENCE));
            consider(conn.answer_deadline());
            consider(conn.muted_until);
            consider(conn.retire_at);
            if conn.is_retired(now) && conn.in_flight.is_empty() {
                consider(Some(now + EXPIRY_PAUSE)); // closed by the next look at the connections
            }
            consider(conn.silent_since().map(|at| at + PRODUCE_STALL));
            consider(Some(self.idle_end(conn)));
        }
        next
    }
}

/// A connection closed because nobody uses it is no failure.
pub(super) const UNUSED: &str = "not used any more";

pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
