//! Batches: which may leave now, to whom, and what the answer means for them.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::messages::produce::{self, OutPartition, OutTopic, PartitionResult};
use kafka_wire::record_batch::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE};
use smallvec::SmallVec;

use super::{Client, find_from};
use crate::backoff;
use crate::batch::{Attempt, Batch, Body};
use crate::connection::{ConnectionError, Owner};
use crate::limits::{IDEMPOTENCE_RETRY, REQUEST_PARTITIONS_MAX};
use crate::producer::{Verdict, sequence_after, settle, verdict};
use crate::queue::{ACKS, Place, Queue, QueueId};
use crate::types::{Acks, ConnId, Outcome, ProduceError, Stored};

/// When a batch goes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    /// At once, the first time.
    Soon,
    /// After a backoff.
    Later,
}

impl Client {
    /// Every ready queue goes to its leader's list, and every leader's list as far as its connection has room.
    pub(super) fn send_batches(&mut self, now: Instant) {
        loop {
            while let Some(queue_id) = self.records.places.ready.pop() {
                self.place(queue_id);
            }
            for broker in 0..self.records.places.broker_count() {
                for acks in 0..ACKS.len() {
                    if self.records.places.is_pending_at(broker, acks) {
                        self.send_pending(broker, acks, now);
                    }
                }
            }
            if self.records.places.ready.is_empty() {
                return;
            }
        }
    }

    /// Where a ready queue waits: at its leader, for a leader, or for a producer id.
    fn place(&mut self, queue_id: QueueId) {
        if self.records.queue(queue_id).is_some_and(|queue| queue.place() == Place::Ready) {
            let place = self.place_of(queue_id);
            self.records.move_to(queue_id, place);
        }
    }

    fn place_of(&mut self, queue_id: QueueId) -> Place {
        let leader = self.records.leader(queue_id);
        let idempotent = queue_id.acks() == Acks::All && self.config.idempotence;
        let refused = self.ids.refused;
        let Some(queue) = self.records.queue_mut(queue_id) else { return Place::Idle };
        let Some(first) = queue.batches.front() else { return Place::Idle };
        let Some(leader) = leader else {
            self.want_topic(queue_id.topic);
            self.watch.sweep = true;
            return Place::NoLeader;
        };
        // A batch that may be stored goes again under the id it was sent under, or nobody could tell it from a second
        // one; that it was sent without one was settled by the answer that lets it go again (`producer::settle`).
        let keeps_identity = first.maybe_stored && first.sent_as.is_some();
        if idempotent && refused && !keeps_identity {
            queue.burn_identity();
        } else if idempotent && queue.identity().is_none() {
            let Some(identity) = self.ids.adopt(queue.generation_min(), self.flushed_at) else {
                self.watch.sweep = true;
                return Place::NoProducer;
            };
            queue.take_identity(identity);
        }
        if !self.brokers.broker(leader).may_connect(self.flushed_at) {
            self.want_topic(queue_id.topic); // it does not answer: another may lead by now
        }
        Place::Pending { broker: leader }
    }

    /// Requests of as many partitions as fit, as long as the connection takes them.
    fn send_pending(&mut self, broker: u32, acks: usize, now: Instant) {
        let mut sent: Vec<(QueueId, Attempt)> = Vec::new();
        while self.records.places.is_pending_at(broker, acks) {
            let Some(conn) = self.connection(broker, ACKS[acks].lane(), now) else { return };
            let goes_on = self.take_pending(broker, acks, &mut sent);
            if !sent.is_empty() {
                self.send_produce(conn, ACKS[acks], &mut sent, now);
            }
            if !goes_on {
                self.dirty = true; // the rest in the next flush
                return;
            }
        }
    }

    /// Closes and stamps first batches of this leader's queues, up to one request's worth. False: this flush has compressed
    /// enough.
    fn take_pending(&mut self, broker: u32, acks: usize, sent: &mut Vec<(QueueId, Attempt)>) -> bool {
        sent.clear();
        let mut request_bytes = 0;
        while let Some(queue_id) = self.records.places.pending(broker, acks).pop_front() {
            let idempotent = ACKS[acks] == Acks::All && self.config.idempotence && !self.ids.refused;
            let Some(queue) = self.records.queue(queue_id) else { continue };
            if queue.place() != (Place::Pending { broker }) {
                continue;
            }
            debug_assert_eq!(self.records.leader(queue_id), Some(broker), "who leads another is placed again at once");
            let empty = match queue.batches.front() {
                Some(first) if !first.maybe_stored => !self.records.strip(queue_id, 0),
                first => first.is_none(),
            };
            let Some(queue) = self.records.queue(queue_id) else { continue };
            // The identity may have been burnt by a batch that expired here.
            if empty || (idempotent && queue.identity().is_none()) {
                self.records.make_ready(queue_id); // place() finds the right place, or rest
                continue;
            }
            let batch_bytes = queue.batches[0].bytes();
            let full =
                request_bytes + batch_bytes > self.config.request_bytes_max || sent.len() >= REQUEST_PARTITIONS_MAX;
            if full && !sent.is_empty() {
                self.records.places.pending(broker, acks).push_front(queue_id);
                return true;
            }
            let to_compress = self.records.to_compress(queue_id);
            if to_compress > 0 && self.compress_left == 0 {
                self.records.places.pending(broker, acks).push_front(queue_id);
                return false;
            }
            self.compress_left = self.compress_left.saturating_sub(to_compress);
            request_bytes += batch_bytes;
            sent.push((queue_id, self.stamp_first(queue_id)));
        }
        true
    }

    fn stamp_first(&mut self, queue_id: QueueId) -> Attempt {
        self.attempt_last.0 += 1;
        let attempt = self.attempt_last;
        self.records.seal_first(queue_id);
        self.records.move_to(queue_id, Place::InFlight);
        let queue = self.records.queue_mut(queue_id).expect("the caller has looked");
        let (identity, sequence) = (queue.identity(), queue.sequence_next);
        let batch = queue.batches.front_mut().expect("the caller has looked");
        let was_stamped = batch.sent_as;
        assert!(
            !batch.maybe_stored || was_stamped == identity,
            "{queue_id:?}: sent as {was_stamped:?}, now {identity:?}"
        );
        batch.sent_as = identity;
        batch.attempts += 1;
        batch.attempt = attempt;
        let Body::Sealed(sealed) = &mut batch.body else { unreachable!("sealed above") };
        match identity {
            Some(identity) => sealed.stamp(identity.id, identity.epoch, sequence),
            None => sealed.stamp(NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE),
        }
        attempt
    }

    /// The queue whose first batch is out with this attempt. None when it is not any more: the answer settles nobody.
    fn in_flight(&mut self, queue_id: QueueId, attempt: Attempt) -> Option<&mut Queue> {
        let queue = self.records.queue_mut(queue_id).filter(|queue| queue.is_in_flight())?;
        queue.batches.front().is_some_and(|first| first.attempt == attempt).then_some(queue)
    }

    fn send_produce(&mut self, conn: ConnId, acks: Acks, sent: &mut [(QueueId, Attempt)], now: Instant) {
        sent.sort_unstable(); // by topic, then partition
        let connection = self.conns.get_mut(conn).expect("given by connection()");
        let version = match connection.version(ApiKey::Produce, produce::VERSIONS) {
            Ok(version) => version,
            Err(error) => {
                let why: Arc<str> = error.to_string().into();
                for (queue_id, attempt) in sent.iter() {
                    self.unanswered(*queue_id, *attempt, false, &why, now);
                }
                return;
            }
        };
        let records = &self.records;
        let partitions: SmallVec<[OutPartition<'_>; 8]> = sent
            .iter()
            .map(|(queue_id, _)| {
                let batch = records.queue(*queue_id).and_then(|queue| queue.batches.front()).expect("stamped just now");
                let Body::Sealed(batch) = &batch.body else { unreachable!("stamped just now") };
                OutPartition { index: queue_id.partition as i32, batch }
            })
            .collect();
        let mut topics: SmallVec<[OutTopic<'_>; 4]> = SmallVec::new();
        let mut begin = 0;
        for end in 1..=sent.len() {
            if end == sent.len() || sent[end].0.topic != sent[begin].0.topic {
                let name = &records.topics[sent[begin].0.topic as usize].name;
                topics.push(OutTopic { name, partitions: &partitions[begin..end] });
                begin = end;
            }
        }
        let owner = (acks != Acks::None).then(|| Owner::Produce(SmallVec::from_slice(sent)));
        connection.send_produce(
            version,
            &self.config.client_id,
            acks.wire(),
            self.config.request_timeout,
            &topics,
            owner,
            now,
        );
        drop(topics);
        drop(partitions);
        self.list_transmit(conn);
        if acks == Acks::None {
            for (queue_id, _) in sent.iter() {
                self.stored(*queue_id, -1, -1);
            }
        }
    }

    /// Reads a Produce answer. An error means that the connection cannot be trusted; its batches have been treated
    /// as unanswered.
    pub(super) fn on_produce_answer(
        &mut self,
        conn: ConnId,
        sent: &[(QueueId, Attempt)],
        version: i16,
        body: Bytes,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        let answer = match produce::decode_response(version, body) {
            Ok(answer) => answer,
            Err(error) => {
                let why: Arc<str> = "the broker's answer could not be read".into();
                sent.iter().for_each(|(queue_id, attempt)| self.unanswered(*queue_id, *attempt, true, &why, now));
                return Err(error.into());
            }
        };
        self.mute(conn, answer.throttle_time_ms, now);
        for node in &answer.node_endpoints {
            self.brokers.learn(node.id, &node.host, node.port);
        }
        let mut open: SmallVec<[bool; 16]> = SmallVec::from_elem(true, sent.len());
        let mut last = 0;
        for topic in &answer.topics {
            for partition in &topic.partitions {
                let found = find_from(last, sent.len(), |index| {
                    let queue_id = sent[index].0;
                    open[index]
                        && queue_id.partition as i32 == partition.index
                        && self.records.topics[queue_id.topic as usize].name.as_bytes() == &topic.name[..]
                });
                if let Some(index) = found {
                    open[index] = false;
                    last = index;
                    let (queue_id, attempt) = sent[index];
                    self.conclude(queue_id, attempt, partition, now);
                }
            }
        }
        if open.contains(&true) {
            let why: Arc<str> = "the broker's answer left the partition out".into();
            for ((queue_id, attempt), _) in sent.iter().zip(&open).filter(|(_, open)| **open) {
                self.unanswered(*queue_id, *attempt, true, &why, now);
            }
            return Err(ConnectionError::Unsolicited);
        }
        Ok(())
    }

    /// What the broker's answer means for the batch that was sent.
    fn conclude(&mut self, queue_id: QueueId, attempt: Attempt, answer: &PartitionResult, now: Instant) {
        let acks = queue_id.acks();
        let Some(queue) = self.in_flight(queue_id, attempt) else { return };
        let Some(batch) = queue.batches.front_mut() else { return };
        let idempotent = batch.sent_as.is_some();
        if batch.of_old_topic {
            return self.conclude_old_topic(queue_id, answer);
        }
        let said = verdict(answer.error, answer.base_offset, acks, batch.attempts);
        match settle(said, answer.error, answer.base_offset, batch.maybe_stored, idempotent) {
            Verdict::Stored => self.stored(queue_id, answer.base_offset, answer.log_append_time_ms),
            Verdict::Duplicate => self.stored(queue_id, -1, answer.log_append_time_ms),
            Verdict::Retry { refresh, maybe_stored } => {
                batch.maybe_stored |= maybe_stored;
                queue.problem = Some(answer.error.name().into());
                if refresh {
                    self.want_topic(queue_id.topic);
                }
                let moved = refresh && self.believe_leader(queue_id, answer.current_leader);
                self.retry(queue_id, if moved { Retry::Soon } else { Retry::Later }, now);
                if !moved {
                    self.note_refusal(queue_id, answer.error, now);
                }
            }
            Verdict::TooLarge => self.split(queue_id, answer.error),
            Verdict::BadRecord => self.isolate(queue_id, answer),
            Verdict::FreshIdentity => {
                queue.burn_identity();
                queue.problem = Some(answer.error.name().into());
                tracing::warn!(topic = %self.records.topics[queue_id.topic as usize].name, partition = queue_id.partition,
                    error = answer.error.name(), "broker lost track of our producer id, taking a fresh one");
                self.retry(queue_id, Retry::Later, now);
            }
            Verdict::NoIdentity => {
                self.refuse_identity(answer.error, now);
                self.retry(queue_id, Retry::Soon, now);
            }
            Verdict::NotAuthorized => {
                self.fail_first(queue_id, &ProduceError::NotAuthorized { code: answer.error });
                self.records.make_ready(queue_id);
            }
            Verdict::Rejected => {
                self.fail_first(queue_id, &ProduceError::Rejected { code: answer.error });
                self.records.make_ready(queue_id);
            }
            Verdict::Unknown => {
                self.abandon(queue_id, &format!("broker answered {}", answer.error.name()).into());
                self.records.make_ready(queue_id);
            }
        }
    }

    /// The topic was made again while the batch was under way: only a plain yes is believed, and sequences start anew.
    fn conclude_old_topic(&mut self, queue_id: QueueId, answer: &PartitionResult) {
        if answer.error == ErrorCode::NONE {
            self.stored(queue_id, answer.base_offset, answer.log_append_time_ms);
            if let Some(queue) = self.records.queue_mut(queue_id) {
                queue.burn_identity();
            }
        } else {
            self.abandon(queue_id, &"topic was deleted and created again".into());
            self.records.make_ready(queue_id);
        }
    }

    /// The first batch is stored; `base_offset` -1 when nobody knows where.
    fn stored(&mut self, queue_id: QueueId, base_offset: i64, log_append_time_ms: i64) {
        let Some(batch) = self.records.pop_first(queue_id) else { return };
        let mut position = 0;
        for run in batch.runs.iter() {
            if !run.answered {
                let offset = if base_offset < 0 { -1 } else { base_offset + i64::from(position) };
                let timestamp_ms = if log_append_time_ms >= 0 { log_append_time_ms } else { run.timestamp_ms };
                self.outcomes.push_back(Outcome {
                    tag: run.tag,
                    record_first: run.record_first,
                    count: run.count,
                    result: Ok(Stored { partition: queue_id.partition as i32, offset, timestamp_ms }),
                    unsent: None,
                });
            }
            position += run.count;
        }
        if let Some(queue) = self.records.queue_mut(queue_id) {
            if batch.sent_as.is_some() {
                queue.sequence_next = sequence_after(queue.sequence_next, batch.record_count());
            }
            queue.failures = 0;
            queue.problem = None;
            queue.refusal = None;
        }
        self.records.recycle(batch.runs);
        self.records.make_ready(queue_id);
    }

    /// The first batch is tried again. Nobody left to tell: it is given up.
    fn retry(&mut self, queue_id: QueueId, when: Retry, now: Instant) {
        let Some(queue) = self.records.queue_mut(queue_id) else { return };
        let Some(batch) = queue.batches.front() else { return };
        if batch.earliest.is_none() {
            self.abandon(queue_id, &Arc::from("deadline passed"));
            self.records.make_ready(queue_id);
            return;
        }
        if when == Retry::Soon && queue.failures == 0 {
            queue.failures = 1;
            self.records.make_ready(queue_id);
            return;
        }
        let wait = self.rng.jitter(backoff::step(queue.failures));
        queue.failures = queue.failures.saturating_add(1);
        self.records.move_to(queue_id, Place::Delayed { until: now + wait });
    }

    /// The connection ended, or the answer was unreadable. `left`: the request may have reached the broker.
    pub(super) fn unanswered(&mut self, queue_id: QueueId, attempt: Attempt, left: bool, why: &Arc<str>, now: Instant) {
        self.want_topic(queue_id.topic);
        let Some(queue) = self.in_flight(queue_id, attempt) else { return };
        queue.problem = Some(why.clone());
        let Some(batch) = queue.batches.front_mut() else { return };
        batch.maybe_stored |= left;
        if batch.maybe_stored && (batch.sent_as.is_none() || batch.of_old_topic) {
            // Without a sequence the broker cannot tell a retry from a second record.
            self.abandon(queue_id, why);
            self.records.make_ready(queue_id);
        } else {
            self.retry(queue_id, Retry::Later, now);
        }
    }

    /// Gives up on the first batch, which may be stored: its records are unknown, its producer id is burnt.
    pub(super) fn abandon(&mut self, queue_id: QueueId, why: &Arc<str>) {
        self.fail_first(queue_id, &ProduceError::Unknown { why: why.clone() });
        if let Some(queue) = self.records.queue_mut(queue_id) {
            queue.burn_identity();
        }
    }

    /// Tells everybody in the first batch, and takes it out.
    pub(super) fn fail_first(&mut self, queue_id: QueueId, error: &ProduceError) {
        if let Some(batch) = self.records.pop_first(queue_id) {
            self.fail(batch, error);
        }
    }

    pub(super) fn fail(&mut self, batch: Batch, error: &ProduceError) {
        for run in batch.runs.iter().filter(|run| !run.answered) {
            self.outcomes.push_back(Outcome {
                tag: run.tag,
                record_first: run.record_first,
                count: run.count,
                result: Err(error.clone()),
                unsent: None,
            });
        }
        self.records.recycle(batch.runs);
    }

    /// Too large together: two halves, first half first. Alone: refused.
    fn split(&mut self, queue_id: QueueId, code: ErrorCode) {
        let Some(batch) = self.records.pop_first(queue_id) else { return };
        let batch_bytes = batch.bytes();
        match batch.split() {
            (first, Some(second)) => {
                let topic = &mut self.records.topics[queue_id.topic as usize];
                if matches!(code, ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE) {
                    topic.batch_bytes_max = topic.batch_bytes_max.min(batch_bytes.div_ceil(2));
                    tracing::info!(topic = %topic.name, batch_bytes, "batch is too large for the broker, splitting");
                }
                self.records.push_first(queue_id, second);
                self.records.push_first(queue_id, first);
            }
            (batch, None) => {
                let error = match code {
                    ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
                        ProduceError::RecordTooLarge { record_bytes: batch_bytes, limit_bytes: 0 }
                    }
                    code => ProduceError::Rejected { code },
                };
                self.fail(batch, &error);
            }
        }
        self.records.make_ready(queue_id);
    }

    /// Some record is refused: those the broker names go, the others are sent again; unnamed, halves find it.
    fn isolate(&mut self, queue_id: QueueId, answer: &PartitionResult) {
        let Some(batch) = self.records.queue(queue_id).and_then(|queue| queue.batches.front()) else { return };
        let count = batch.record_count();
        let mut bad: Vec<u32> =
            answer.record_errors.iter().filter_map(|(index, _)| u32::try_from(*index).ok()).collect();
        bad.retain(|position| *position < count);
        bad.sort_unstable();
        bad.dedup();
        if bad.is_empty() {
            self.split(queue_id, answer.error);
            return;
        }
        let error = ProduceError::Rejected { code: answer.error };
        let Some(batch) = self.records.pop_first(queue_id) else { return };
        if let Some(rest) = self.drop_records(batch, |position| bad.binary_search(&position).is_ok(), &error) {
            self.records.push_first(queue_id, rest);
        }
        self.records.make_ready(queue_id);
    }

    /// Tells the owners of some records of a batch, and gives the batch without them.
    pub(super) fn drop_records(
        &mut self,
        batch: Batch,
        dropped: impl Fn(u32) -> bool,
        error: &ProduceError,
    ) -> Option<Batch> {
        let mut position = 0;
        for run in &batch.runs {
            let mut begin = None;
            for index in 0..=run.count {
                let drops = index < run.count && dropped(position + index) && !run.answered;
                match (drops, begin) {
                    (true, None) => begin = Some(index),
                    (false, Some(first)) => {
                        self.outcomes.push_back(Outcome {
                            tag: run.tag,
                            record_first: run.record_first.wrapping_add(first),
                            count: index - first,
                            result: Err(error.clone()),
                            unsent: None,
                        });
                        begin = None;
                    }
                    _ => {}
                }
            }
            position += run.count;
        }
        batch.without(dropped)
    }

    /// Acks=all goes without producer ids until the brokers grant one; they are asked again now and then.
    pub(super) fn refuse_identity(&mut self, code: ErrorCode, now: Instant) {
        let is_news = !self.ids.refused || self.ids.asking;
        if is_news {
            tracing::warn!(
                error = code.name(),
                asked_again_in = ?IDEMPOTENCE_RETRY,
                "brokers refuse an idempotent producer (before Kafka 2.8 it needs the IdempotentWrite permission): acks=all \
                goes WITHOUT it, batches that are not answered are told as unknown instead of being repeated"
            );
        }
        self.ids.refused(now);
        self.wake_no_producer();
    }

    pub(super) fn wake_no_producer(&mut self) {
        for queue_id in std::mem::take(&mut self.records.places.no_producer) {
            if self.records.queue(queue_id).is_some_and(|queue| queue.place() == Place::NoProducer) {
                self.records.make_ready(queue_id);
            }
        }
    }

    pub(super) fn wake_delayed(&mut self, now: Instant) {
        while let Some(Reverse((until, queue_id))) = self.records.places.delayed.peek().copied()
            && until <= now
        {
            self.records.places.delayed.pop();
            if self.records.queue(queue_id).is_some_and(|queue| queue.place() == Place::Delayed { until }) {
                self.records.make_ready(queue_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kafka_wire::record_batch::RecordRef;

    use super::*;
    use crate::accumulator::Partition;
    use crate::config::ClientConfig;
    use crate::queue::acks_index;
    use crate::types::{How, TopicState};

    #[test]
    fn an_answer_to_an_earlier_attempt_settles_nobody() {
        let now = Instant::now();
        let mut client = Client::new(ClientConfig::default(), 1, now);
        let topic = client.topic("t");
        let known = &mut client.records.topics[topic.place() as usize];
        (known.state, known.partition_count, known.partitions) = (TopicState::Known, 1, vec![Partition::default()]);
        let queue_id = QueueId { topic: topic.place(), partition: 0, acks: acks_index(Acks::Leader) };
        let send = |client: &mut Client, tag| {
            let record = RecordRef { timestamp_ms: 1, key: None, value: Some(b"v"), headers: &[] };
            let deadline = now + Duration::from_secs(9);
            client.produce(topic, Some(0), &record, How::new(Acks::Leader, deadline), tag, 0, now).unwrap();
            client.stamp_first(queue_id)
        };
        let told = |client: &Client| -> Vec<(u64, i64)> {
            client.outcomes.iter().map(|outcome| (outcome.tag, outcome.result.as_ref().unwrap().offset)).collect()
        };
        let first = send(&mut client, 1);
        client.conclude(queue_id, first, &PartitionResult::stored(0, 7, -1, 0), now);
        let second = send(&mut client, 2);
        client.conclude(queue_id, first, &PartitionResult::stored(0, 7, -1, 0), now);
        client.unanswered(queue_id, first, true, &"lost".into(), now);
        assert_eq!(told(&client), [(1, 7)]);
        client.conclude(queue_id, second, &PartitionResult::stored(0, 8, -1, 0), now);
        assert_eq!(told(&client), [(1, 7), (2, 8)]);
    }
}
