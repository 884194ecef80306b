//! What the group member and the search need of the cluster: [`Client`] in every binary, a script in the tests.
//!
//! Small on purpose: a request goes out under a token, everything else is a question about metadata.

use std::time::{Duration, Instant};

use kafka_wire::messages::fetch::TopicId;

use crate::{Client, Lane, Request, RequestToken, Target, TopicIdx, TopicState};

pub(crate) trait Cluster {
    fn request(
        &mut self,
        target: Target<'_>,
        lane: Lane,
        req: Request,
        timeout: Duration,
        now: Instant,
    ) -> RequestToken;
    fn cancel(&mut self, token: RequestToken);
    fn invalidate_coordinator(&mut self, group: &str);
    fn refresh_metadata(&mut self, now: Instant);
    fn topic(&mut self, name: &str) -> TopicIdx;
    fn topic_state(&self, topic: TopicIdx) -> TopicState;
    fn partition_count(&self, topic: TopicIdx) -> Option<i32>;
    fn topic_id(&self, topic: TopicIdx) -> Option<TopicId>;
    fn leader(&self, topic: TopicIdx, partition: i32) -> Option<i32>;
    fn leader_epoch(&self, topic: TopicIdx, partition: i32) -> Option<i32>;
}

impl Cluster for Client {
    fn request(
        &mut self,
        target: Target<'_>,
        lane: Lane,
        req: Request,
        timeout: Duration,
        now: Instant,
    ) -> RequestToken {
        Client::request(self, target, lane, req, timeout, now)
    }
    fn cancel(&mut self, token: RequestToken) {
        Client::cancel(self, token);
    }
    fn invalidate_coordinator(&mut self, group: &str) {
        Client::invalidate_coordinator(self, group);
    }
    fn refresh_metadata(&mut self, now: Instant) {
        Client::refresh_metadata(self, now);
    }
    fn topic(&mut self, name: &str) -> TopicIdx {
        Client::topic(self, name)
    }
    fn topic_state(&self, topic: TopicIdx) -> TopicState {
        Client::topic_state(self, topic)
    }
    fn partition_count(&self, topic: TopicIdx) -> Option<i32> {
        Client::partition_count(self, topic)
    }
    fn leader(&self, topic: TopicIdx, partition: i32) -> Option<i32> {
        Client::leader(self, topic, partition)
    }
    fn topic_id(&self, topic: TopicIdx) -> Option<TopicId> {
        Client::topic_id(self, topic)
    }
    fn leader_epoch(&self, topic: TopicIdx, partition: i32) -> Option<i32> {
        Client::leader_epoch(self, topic, partition)
    }
}
