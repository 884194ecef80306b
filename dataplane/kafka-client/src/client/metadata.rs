//! Asking about topics and brokers, and what to believe of the answer.
//!
//! A broker that has just started, or has not heard yet, says that a topic does not exist. So the first "no" is asked
//! again 200 ms later; the second is believed, and asked again at most every 200 ms when somebody publishes there. Of a
//! topic that we know, no broker's "no" is believed until nobody has said anything else for `TOPIC_GONE_AFTER`: other
//! brokers are asked meanwhile, records go to the leaders we know, or wait.
//!
//! Brokers lag behind, too: a leader with an older epoch than the one we know (KIP-320), or fewer partitions under the
//! topic id we know, or the topic id of before, is old news and not taken. But no guard is for ever: a topic deleted and made again begins at
//! epoch 0, and brokers before 2.8 tell no topic ids. What looks older, said for `OLDER_NEWS_AFTER` (under the topic id
//! we know `TOPIC_GONE_AFTER`) with nobody saying anything else, is taken for the truth: without topic ids the topic was
//! made again. To believe that wrongly is safe, for sequences begin anew under another producer id, and a leader that is none
//! refuses.

use std::time::Instant;

use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::{self, RequestKind, StrBytes, types};
use kafka_wire::error_code::ErrorCode;

use super::sockets::End;
use super::{Client, find_from};
use crate::accumulator::{Partition, Topic};
use crate::connection::Owner;
use crate::limits::{
    AWAY_PAUSE, AWAY_UNREST, METADATA_TIMEOUT, METADATA_TOPICS_MAX, OLDER_NEWS_AFTER, PARTITIONS_MAX, PRODUCE_STALL,
    TOPIC_GONE_AFTER, TOPIC_IDLE_MAX, TOPIC_MISSING_REASK,
};
use crate::queue::{ACKS, Place, Queue, QueueId};
use crate::types::{ConnId, Lane, ProduceError, TopicState};

/// First version that can say "do not create the topic".
const AUTO_CREATE_FROM: i16 = 4;

/// What a broker before Metadata version 10 tells as a topic's id.
const NO_ID: [u8; 16] = [0; 16];

/// What records for a topic in this state are told.
pub(super) fn refusal(state: TopicState) -> ProduceError {
    match state {
        TopicState::Denied => ProduceError::NotAuthorized { code: ErrorCode::TOPIC_AUTHORIZATION_FAILED },
        TopicState::Missing | TopicState::Pending | TopicState::Known => ProduceError::TopicUnknown,
    }
}

impl Partition {
    /// Was this the leader's epoch before the one we know? -1 says nothing.
    fn is_earlier(&self, epoch: i32) -> bool {
        (0..self.leader_epoch).contains(&epoch)
    }
}

/// How many partitions a topic has; None when that is impossible.
fn partition_count(partitions: &[types::metadata_response::MetadataResponsePartition]) -> Option<u32> {
    let index_max = partitions.iter().map(|partition| partition.partition_index).max()?;
    let count = u32::try_from(index_max.checked_add(1)?).ok()?;
    (1..=PARTITIONS_MAX as u32).contains(&count).then_some(count)
}

impl Topic {
    /// Does the answer tell of fewer partitions, or of earlier leaders, than we know?
    fn is_older(&self, answer: &types::metadata_response::MetadataResponseTopic, count: u32) -> bool {
        let earlier = |told: &types::metadata_response::MetadataResponsePartition| {
            let known = usize::try_from(told.partition_index).ok().and_then(|index| self.partitions.get(index));
            known.is_some_and(|known| known.is_earlier(told.leader_epoch))
        };
        count < self.partition_count || answer.partitions.iter().any(earlier)
    }
}

impl Client {
    /// The topic is part of the next Metadata request.
    pub(super) fn want_topic(&mut self, topic: u32) {
        self.records.topics[topic as usize].wanted = true;
        self.brokers.want_refresh();
    }

    pub(super) fn wake_rechecks(&mut self, now: Instant) {
        let topics = &mut self.records.topics;
        let brokers = &mut self.brokers;
        self.rechecks.retain(|(at, topic)| {
            let due = *at <= now;
            if due {
                topics[*topic as usize].wanted = true;
                brokers.want_refresh();
            }
            !due
        });
    }

    pub(super) fn ask_metadata(&mut self, now: Instant) {
        if self.brokers.refresh.periodic_at <= now {
            self.brokers.refresh.periodic_at = now + self.config.metadata_max_age;
            self.brokers.refresh.wanted = true;
            self.begin_round(now);
        }
        if !self.brokers.refresh.is_due(now) {
            return;
        }
        let Some(conn) = self.any_connection(Lane::Control, now) else { return };
        let connection = self.conns.get_mut(conn).expect("given by any_connection()");
        let version = match connection.version(ApiKey::Metadata, cold::supported(ApiKey::Metadata)) {
            Ok(version) => version,
            Err(error) => return self.lose(conn, &error.to_string(), End::Failure, now),
        };
        self.asked_topics.clear();
        let mut names = Vec::new();
        for (index, topic) in self.records.topics.iter_mut().enumerate() {
            if topic.wanted && names.len() < METADATA_TOPICS_MAX {
                topic.wanted = false;
                self.asked_topics.push(index as u32);
                let name = types::TopicName(StrBytes::from_string(topic.name.to_string()));
                names.push(types::metadata_request::MetadataRequestTopic::default().with_name(Some(name)));
            }
        }
        let request = types::MetadataRequest::default()
            .with_topics(Some(names))
            .with_allow_auto_topic_creation(version < AUTO_CREATE_FROM);
        let deadline = now + METADATA_TIMEOUT.min(self.config.request_timeout);
        let request = RequestKind::Metadata(request);
        let sent = connection.send_cold(
            &request,
            ApiKey::Metadata,
            version,
            &self.config.client_id,
            Owner::Metadata,
            deadline,
            now,
        );
        match sent {
            Ok(()) => {
                self.brokers.refresh.asking = true;
                self.brokers.refresh.wanted = false;
                self.list_transmit(conn);
            }
            Err(error) => {
                tracing::error!(%error, "metadata request cannot be encoded");
                self.metadata_failed(now);
            }
        }
    }

    /// Every topic is asked for again, except those that nobody uses.
    fn begin_round(&mut self, now: Instant) {
        for index in 0..self.records.topics.len() as u32 {
            let topic = &mut self.records.topics[index as usize];
            if topic.used.replace(false) {
                topic.used_at = now;
            }
            let unused = now.saturating_duration_since(topic.used_at) >= TOPIC_IDLE_MAX;
            let sleeps = topic.asleep || topic.name.is_empty() || unused && self.records.put_to_sleep(index);
            if !sleeps {
                self.records.topics[index as usize].wanted = true;
            }
        }
    }

    /// No usable answer: the same topics are asked again after a pause.
    pub(super) fn metadata_failed(&mut self, now: Instant) {
        for topic in std::mem::take(&mut self.asked_topics) {
            self.records.topics[topic as usize].wanted = true;
        }
        let refresh = &mut self.brokers.refresh;
        refresh.asking = false;
        refresh.wanted = true;
        refresh.not_before = refresh.backoff.failed(now, &mut self.rng);
    }

    pub(super) fn on_metadata(&mut self, conn: ConnId, answer: types::MetadataResponse, now: Instant) {
        self.mute(conn, answer.throttle_time_ms, now);
        if answer.brokers.is_empty() || answer.error_code != 0 {
            return self.metadata_failed(now); // a broker that is starting
        }
        self.learn_brokers(&answer);
        self.brokers.refreshed(now);
        self.brokers.refresh.doubted = None;
        let asked = std::mem::take(&mut self.asked_topics);
        let mut answered = vec![false; asked.len()];
        let mut last = 0;
        for topic in &answer.topics {
            let Some(name) = topic.name.as_ref().map(|name| name.as_str()) else { continue };
            let Some(index) = self.records.lookup(name) else { continue };
            if let Some(position) = find_from(last, asked.len(), |position| asked[position] == index) {
                answered[position] = true;
                last = position;
            }
            self.on_topic(conn, index, topic, now);
        }
        for (topic, answered) in asked.iter().zip(&answered) {
            if !answered {
                self.on_negative(conn, *topic, now);
            }
        }
        self.replace_queues();
        let open = self.records.topics.iter().any(|topic| topic.wanted);
        if open && !self.records.places.no_leader.is_empty() {
            // Leaders are still being elected: ask less and less often.
            let at = self.brokers.refresh.backoff.failed(now, &mut self.rng);
            let is_news = self.leaderless().any(|since| now < since + AWAY_UNREST);
            self.brokers.refresh.not_before = if is_news { at.min(now + AWAY_PAUSE) } else { at };
        } else {
            self.brokers.refresh.backoff.succeeded();
        }
        if open {
            self.brokers.want_refresh();
        }
        self.leave_silent_leaders(now);
        self.watch.sweep = true;
    }

    fn learn_brokers(&mut self, answer: &types::MetadataResponse) {
        for broker in self.brokers.all.iter_mut().filter(|broker| broker.node.is_some()) {
            broker.listed = false;
        }
        for broker in &answer.brokers {
            let learnt = self.brokers.learn(broker.node_id.0, broker.host.as_str(), broker.port);
            if let Some((index, true)) = learnt {
                self.retire_connections(index);
            }
        }
        self.brokers.controller = self.brokers.by_node(answer.controller_id.0);
    }

    fn on_topic(
        &mut self,
        conn: ConnId,
        index: u32,
        answer: &types::metadata_response::MetadataResponseTopic,
        now: Instant,
    ) {
        match ErrorCode(answer.error_code) {
            ErrorCode::NONE if !answer.partitions.is_empty() => self.on_positive(conn, index, answer, now),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => self.on_negative(conn, index, now),
            ErrorCode::INVALID_TOPIC_EXCEPTION => self.confirm(index, TopicState::Missing, now),
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => self.confirm(index, TopicState::Denied, now),
            _ => {
                // LEADER_NOT_AVAILABLE while a topic is being created, and whatever else passes.
                self.rechecks.push((now + TOPIC_MISSING_REASK, index));
            }
        }
    }

    /// "No such topic", said on `conn`.
    fn on_negative(&mut self, conn: ConnId, index: u32, now: Instant) {
        let topic = &mut self.records.topics[index as usize];
        let since = *topic.negative_at.get_or_insert(now);
        let known = topic.state == TopicState::Known;
        let believed = if known { now >= since + TOPIC_GONE_AFTER } else { now > since };
        if believed {
            self.confirm(index, TopicState::Missing, now);
            return;
        }
        self.rechecks.push((now + TOPIC_MISSING_REASK, index));
        if known {
            self.brokers.refresh.doubted = self.conns.get(conn).map(|conn| conn.broker);
        }
    }

    /// The topic cannot be written, and everybody who waits for it is told.
    fn confirm(&mut self, index: u32, state: TopicState, now: Instant) {
        let topic = &mut self.records.topics[index as usize];
        topic.negative_at = Some(now);
        topic.asleep = false;
        if topic.state != state {
            tracing::info!(topic = %topic.name, ?state, "topic cannot be written");
        }
        topic.state = state;
        topic.partitions.iter_mut().for_each(|partition| (partition.leader, partition.leaderless_since) = (None, None));
        let partition_count = topic.partitions.len() as u32;
        let error = refusal(state);
        self.records.refuse_waiting(index, &error, &mut self.told);
        self.tell();
        for queue_id in queue_ids(index, 0..partition_count) {
            self.fail_queue(queue_id, &error);
        }
    }

    /// Ends every batch of a queue: `error` for what is surely not stored, Unknown for the rest. What is in flight
    /// stays until its answer.
    fn fail_queue(&mut self, queue_id: QueueId, error: &ProduceError) {
        let Some(queue) = self.records.queue(queue_id) else { return };
        let kept = usize::from(queue.is_in_flight());
        while let Some(batch) = self.records.queue(queue_id).and_then(|queue| queue.batches.get(kept)) {
            let maybe_stored = batch.maybe_stored;
            let Some(batch) = self.records.remove(queue_id, kept) else { break };
            if maybe_stored {
                self.fail(batch, &ProduceError::Unknown { why: "topic was deleted".into() });
                if let Some(queue) = self.records.queue_mut(queue_id) {
                    queue.burn_identity();
                }
            } else {
                self.fail(batch, error);
            }
        }
    }

    fn on_positive(
        &mut self,
        conn: ConnId,
        index: u32,
        answer: &types::metadata_response::MetadataResponseTopic,
        now: Instant,
    ) {
        let Some(count) = partition_count(&answer.partitions) else {
            tracing::warn!(topic = %self.records.topics[index as usize].name, "metadata with impossible partitions");
            return;
        };
        let told_id = answer.topic_id.into_bytes();
        let topic = &mut self.records.topics[index as usize];
        let (same_id, other_id) = match (topic.id, told_id) {
            (known, told) if known == NO_ID || told == NO_ID => (false, false),
            (known, told) => (known == told, known != told),
        };
        let was_gone = topic.state == TopicState::Missing;
        let of_before = other_id && told_id == topic.id_before;
        let older = of_before || topic.is_older(answer, count);
        let mut recreated = (other_id && !of_before) || (was_gone && !same_id);
        let mut overruled = false; // what we know of the leaders
        if older && !recreated {
            let since = *topic.older_since.get_or_insert(now);
            overruled = now >= since + if same_id { TOPIC_GONE_AFTER } else { OLDER_NEWS_AFTER };
            recreated = overruled && !same_id;
            if !overruled {
                self.rechecks.push((now + TOPIC_MISSING_REASK, index));
                self.brokers.refresh.doubted = self.conns.get(conn).map(|conn| conn.broker);
            }
        }
        if recreated {
            self.begin_anew(index, count);
        }
        let topic = &mut self.records.topics[index as usize];
        if overruled || !older {
            topic.older_since = None;
        }
        if told_id != NO_ID && (!of_before || recreated) {
            topic.id = told_id;
        }
        topic.asleep = false; // asked for before it was put to sleep
        topic.negative_at = None;
        // Partitions are never taken away from a topic: what is under way for them ends with its answer or deadline.
        let believed = recreated || overruled;
        topic.partition_count = match (believed, of_before) {
            (true, _) => count,
            (false, true) => topic.partition_count,
            (false, false) => topic.partition_count.max(count),
        };
        let length = topic.partitions.len().max(topic.partition_count as usize);
        topic.partitions.resize_with(length, Partition::default);
        for told in &answer.partitions {
            let Ok(partition) = usize::try_from(told.partition_index) else { continue };
            let Some(partition) = topic.partitions.get_mut(partition) else { continue };
            if !believed && (of_before || partition.is_earlier(told.leader_epoch)) {
                continue; // old news
            }
            let leader = self.brokers.by_node(told.leader_id.0);
            if leader.is_some() && leader != partition.leader {
                partition.forgive();
            }
            partition.leader = leader;
            partition.leaderless_since = match leader {
                Some(_) => None,
                None => partition.leaderless_since.or(Some(now)),
            };
            partition.leader_epoch = told.leader_epoch;
        }
        topic.state = TopicState::Known;
        topic.unrest = topic.partitions.iter().any(Partition::has_unrest);
        self.records.release_waiting(index, &mut self.rng, &mut self.told);
        self.tell();
    }

    /// The topic was deleted and made again: sequences begin anew, what was sent to the old one is unknown, and what
    /// waits for a partition that the new one lacks was not stored.
    fn begin_anew(&mut self, index: u32, count: u32) {
        let topic = &mut self.records.topics[index as usize];
        tracing::info!(topic = %topic.name, partitions = count, "topic was created anew");
        topic.id_before = std::mem::replace(&mut topic.id, NO_ID);
        for partition in topic.partitions.iter_mut() {
            partition.leader = None;
            partition.leaderless_since = None;
            partition.leader_epoch = -1;
        }
        let old_count = topic.partitions.len() as u32;
        let gone = ProduceError::Unavailable { why: "topic was created anew with fewer partitions".into() };
        for queue_id in queue_ids(index, 0..old_count) {
            let Some(queue) = self.records.queue_mut(queue_id) else { continue };
            if queue.is_in_flight() {
                if let Some(batch) = queue.batches.front_mut() {
                    batch.of_old_topic = true;
                }
            } else {
                if queue.batches.front().is_some_and(|batch| batch.maybe_stored) {
                    self.abandon(queue_id, &"topic was deleted and created again".into());
                }
                if let Some(queue) = self.records.queue_mut(queue_id) {
                    queue.burn_identity();
                }
            }
            if queue_id.partition >= count {
                self.fail_queue(queue_id, &gone);
            }
        }
    }

    /// A broker that is not the leader said who is (KIP-951). True when that is news.
    pub(super) fn believe_leader(&mut self, queue_id: QueueId, hint: Option<(i32, i32)>) -> bool {
        let Some((node, epoch)) = hint else { return false };
        let leader = self.brokers.by_node(node);
        let topic = &mut self.records.topics[queue_id.topic as usize];
        let Some(partition) = topic.partitions.get_mut(queue_id.partition as usize) else { return false };
        if leader.is_none() || epoch <= partition.leader_epoch {
            return false;
        }
        partition.leader = leader;
        partition.leader_epoch = epoch;
        partition.leaderless_since = None;
        partition.forgive();
        // The partition's other queues need not wait for metadata either.
        for acks in 0..ACKS.len() as u8 {
            let sibling = QueueId { acks, ..queue_id };
            let waits = |queue: &Queue| matches!(queue.place(), Place::NoLeader | Place::Pending { .. });
            if self.records.queue(sibling).is_some_and(waits) {
                self.records.make_ready(sibling);
            }
        }
        true
    }

    /// Leaders may have changed: whoever waits for one, or at one, is placed again.
    fn replace_queues(&mut self) {
        for queue_id in std::mem::take(&mut self.records.places.no_leader) {
            let Some(queue) = self.records.queue(queue_id).filter(|queue| queue.place() == Place::NoLeader) else {
                continue;
            };
            if queue.batches.is_empty() || self.records.leader(queue_id).is_some() {
                self.records.make_ready(queue_id);
            } else {
                self.records.places.no_leader.push(queue_id);
                self.records.topics[queue_id.topic as usize].wanted = true;
            }
        }
        for broker in 0..self.records.places.broker_count() {
            for acks in 0..ACKS.len() {
                for queue_id in std::mem::take(self.records.places.pending(broker, acks)) {
                    let waits =
                        self.records.queue(queue_id).is_some_and(|queue| queue.place() == Place::Pending { broker });
                    if waits && self.records.leader(queue_id) == Some(broker) {
                        self.records.places.pending(broker, acks).push_back(queue_id);
                    } else if waits {
                        self.records.make_ready(queue_id);
                    }
                }
            }
        }
    }

    /// A frozen broker sends no reset. When it has been silent for a while and leads none of what we sent it, its
    /// connection is dropped, and the batches go to the new leaders with the same sequences.
    fn leave_silent_leaders(&mut self, now: Instant) {
        let mut left: Vec<ConnId> = Vec::new();
        for conn in self.conns.iter() {
            let Some(oldest) = conn.in_flight.front() else { continue };
            let Owner::Produce(sent) = &oldest.owner else { continue };
            let leads = sent
                .iter()
                .any(|(queue_id, _)| self.records.leader(*queue_id).is_none_or(|leader| leader == conn.broker));
            if oldest.sent_at + PRODUCE_STALL <= now && !leads {
                left.push(conn.id);
            }
        }
        for conn in left {
            self.lose(conn, "broker is silent and leads these partitions no more", End::Failure, now);
        }
    }
}

fn queue_ids(topic: u32, partitions: std::ops::Range<u32>) -> impl Iterator<Item = QueueId> {
    partitions.flat_map(move |partition| (0..ACKS.len() as u8).map(move |acks| QueueId { topic, partition, acks }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ClientConfig;

    #[test]
    fn partition_counts_that_cannot_be_are_not_believed() {
        for (indexes, count) in [
            (&[0][..], Some(1)),
            (&[2, 0, 1], Some(3)),
            (&[5], Some(6)), // those that are not told have no leader yet
            (&[99_999], Some(100_000)),
            (&[100_000], None),
            (&[i32::MAX], None),
            (&[-1], None),
            (&[-7], None),
            (&[], None),
        ] {
            let told: Vec<_> = indexes
                .iter()
                .map(|index| {
                    types::metadata_response::MetadataResponsePartition::default().with_partition_index(*index)
                })
                .collect();
            assert_eq!(partition_count(&told), count, "{indexes:?}");
        }
    }

    #[test]
    fn a_hint_about_the_leader_is_news_when_it_names_a_known_broker_and_a_later_epoch() {
        for (hint, is_news) in [
            (None, false),
            (Some((2, 4)), false),
            (Some((2, 5)), false),
            (Some((9, 6)), false), // nobody we know
            (Some((2, 6)), true),
        ] {
            let mut client = Client::new(ClientConfig::default(), 1, Instant::now());
            let topic = client.topic("t").0;
            let (first, second) = (client.brokers.learn(1, "b1", 9092), client.brokers.learn(2, "b2", 9092));
            client.records.topics[topic as usize].partitions = vec![Partition::default()];
            let partition = &mut client.records.topics[topic as usize].partitions[0];
            (partition.leader, partition.leader_epoch) = (first.map(|broker| broker.0), 5);
            let queue_id = QueueId { topic, partition: 0, acks: 0 };
            assert_eq!(client.believe_leader(queue_id, hint), is_news, "{hint:?}");
            let leader = if is_news { second } else { first };
            assert_eq!(client.records.leader(queue_id), leader.map(|broker| broker.0), "{hint:?}");
        }
    }
}
