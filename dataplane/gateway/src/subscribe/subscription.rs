//! One group's reading of one topic on one shard: the polls that wait ([`PollQueue`]) and the Kafka group member that feeds them.
//!
//! The member joins with the first poll and leaves when nobody polled for twice the longest wait; a poll that comes while
//! it is leaving, or later, makes a new one. Clients come and go without any rebalance.
//!
//! The driver calls [`Subscription::tick`] after every call that changes something and at
//! [`Subscription::next_deadline`], takes [`Subscription::poll_answer`] until there is none, and reports for each answer
//! with records whether it reached the network.
//!
//! Invariants:
//! - Partitions the member lost are forgotten at the queue before anything is reported as delivered.
//! - Every poll gets exactly one answer, unless it was cancelled.

use std::time::{Duration, Instant};

use kafka_client::group::{GroupConfig, GroupMember, MemberState, Reset, Turn};
use kafka_client::limits::TOPIC_MISSING_REASK;
use kafka_client::{Client, ProduceError, RequestError, RequestToken, Response, TopicState};

use super::limits::{IDLE_MIN, MISSING_PAUSE, SHORT_PAUSE};
use super::memory::Room;
use super::poll_queue::{Poll, PollQueue, PollResult};
use crate::codes;
use crate::refusal::Refusal;

/// See the module.
#[derive(Debug)]
pub struct Subscription {
    config: GroupConfig,
    seed: u64,
    member: GroupMember,
    queue: PollQueue,
    /// Of any poll so far.
    longest_wait: Duration,
    /// Since when nobody polls.
    idle_since: Option<Instant>,
    /// The gateway is going down: no poll waits any more.
    draining: bool,
    /// Nothing was committed yet, nobody else polls, and a client asks to begin elsewhere.
    rejoin_with: Option<Reset>,
    /// The queue stopped for the sake of other subscriptions.
    more: bool,
    /// A batch waits for memory: when to look again.
    short_until: Option<Instant>,
    /// While polls wait and the topic is said not to exist: when metadata was asked for, and when to look at it.
    missing_asked_at: Option<Instant>,
    missing_look_at: Option<Instant>,
    ticked_at: Instant,
}

impl Subscription {
    /// Joins with its first tick. `strip_2017_tags` is the topic's option.
    pub fn new(config: GroupConfig, strip_2017_tags: bool, seed: u64, now: Instant) -> Subscription {
        Subscription {
            member: GroupMember::new(config.clone(), seed, now),
            config,
            seed,
            queue: PollQueue::new(strip_2017_tags),
            longest_wait: Duration::ZERO,
            idle_since: Some(now),
            draining: false,
            rejoin_with: None,
            more: false,
            short_until: None,
            missing_asked_at: None,
            missing_look_at: None,
            ticked_at: now,
        }
    }

    /// A client asks for records.
    pub fn enqueue(&mut self, poll: Poll, now: Instant) {
        self.longest_wait = self.longest_wait.max(poll.deadline.saturating_duration_since(now));
        self.more = true;
        if let Some(reset) = poll.reset.filter(|reset| *reset != self.config.reset && !self.member.has_committed()) {
            if self.queue.is_live() {
                let message = "the group is being read from another `reset`, and has not committed yet; use that one, \
                    none, or another group";
                return self.queue.refuse(poll.id, Refusal::new(codes::OTHER_RESET, message));
            }
            self.rejoin_with = Some(reset);
        }
        self.idle_since = None;
        self.queue.enqueue(poll);
    }

    /// Does what is due: requests, answers, leaving. It may use so much memory, and so much of the shard's turn.
    pub fn tick(&mut self, client: &mut Client, room: Room, turn: &mut Turn, now: Instant) {
        self.ticked_at = now;
        self.member.set_room(room.ahead);
        if let Some(reset) = self.rejoin_with.take() {
            // Nobody has read anything: a new member begins where this poll asks for.
            self.config.reset = reset;
            if self.may_leave() {
                self.member.leave(client, now);
            }
        }
        self.member.tick(client, now);
        self.serve(room, turn);
        self.short_until = turn.is_short.then(|| now + SHORT_PAUSE);
        self.answer_missing(client, now);
        if self.queue.next_deadline().is_some_and(|at| at <= now) {
            let refusal = missing(client, &self.member).or_else(|| unreachable(client, &self.member, now));
            self.queue.expire(now, refusal.as_ref());
        }
        self.follow_member(client, now);
        if self.draining {
            self.queue.answer_all(&PollResult::Empty);
        }
        self.leave_when_idle(client, now);
        self.member.tick(client, now); // what was taken made room
    }

    /// Whether the request is this subscription's, so that its reply goes to [`Subscription::on_reply`].
    pub fn owns(&self, token: RequestToken) -> bool {
        self.member.owns(token)
    }

    /// Takes a reply of [`Client::poll_reply`]; false when the request was not this subscription's. A tick must follow.
    pub fn on_reply(
        &mut self,
        token: RequestToken,
        result: Result<Response, RequestError>,
        client: &mut Client,
        now: Instant,
    ) -> bool {
        let ours = self.member.on_reply(token, result, client, now);
        self.more |= ours;
        ours
    }

    /// The next poll with an answer.
    pub fn poll_answer(&mut self) -> Option<(u64, PollResult)> {
        self.queue.poll_answer()
    }

    /// The answer of poll `id` reached the network: its records are read.
    pub fn handed_over(&mut self, id: u64) {
        self.forget_revoked();
        self.queue.handed_over(id);
        self.report_delivered();
        self.more = true;
    }

    /// The client of poll `id` was gone before its answer reached the network: its records go to the next poll.
    pub fn returned(&mut self, id: u64) {
        self.queue.returned(id);
        self.more = true;
    }

    /// The client of poll `id` is gone, wherever the poll stands.
    pub fn cancel(&mut self, id: u64) {
        self.queue.cancel(id);
        self.more = true;
    }

    /// Answers what waits, commits, leaves the group. Done when [`Subscription::is_finished`].
    pub fn drain(&mut self, client: &mut Client, now: Instant) {
        self.draining = true;
        self.queue.answer_all(&PollResult::Empty);
        self.member.leave(client, now);
    }

    /// Memory that its records keep, wherever they are.
    pub fn held_bytes(&self) -> usize {
        self.member.held_bytes() + self.queue.held_bytes()
    }

    /// Memory that a batch takes which was opened for a poll.
    pub fn opened_bytes(&self) -> usize {
        self.member.opened_bytes()
    }

    /// Somebody polls it, or an answer of it is on its way.
    pub fn is_live(&self) -> bool {
        self.queue.is_live()
    }

    /// Lets go of what was fetched ahead; it is fetched again when somebody polls and there is room.
    pub fn release_records(&mut self) {
        self.member.release_records();
    }

    /// Nothing will happen any more; to be dropped after the last [`Subscription::poll_answer`]. Answers still on their way
    /// to clients change nothing: their group has committed and left.
    pub fn is_finished(&self) -> bool {
        self.queue.waiting_count() == 0 && matches!(self.member.state(), MemberState::Left | MemberState::Failed(_))
    }

    /// Since when nobody polls.
    pub fn idle_since(&self) -> Option<Instant> {
        self.idle_since
    }

    /// The group has committed: `reset` has no effect.
    pub fn has_committed(&self) -> bool {
        self.member.has_committed()
    }

    pub fn waiting_count(&self) -> usize {
        self.queue.waiting_count()
    }

    pub fn state(&self) -> MemberState {
        self.member.state()
    }

    pub fn assignment(&self) -> &[i32] {
        self.member.assignment()
    }

    pub fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// When [`Subscription::tick`] must be called next; a time that has passed means at once.
    pub fn next_deadline(&self) -> Option<Instant> {
        let at_once = self.more.then_some(self.ticked_at);
        let idle = self.idle_since.filter(|_| self.may_leave()).map(|since| since + self.idle_limit());
        let others = [self.queue.next_deadline(), self.missing_look_at, self.short_until, self.member.next_deadline()];
        [at_once, idle].into_iter().chain(others).flatten().min()
    }

    fn serve(&mut self, room: Room, turn: &mut Turn) {
        self.forget_revoked();
        let member = &mut self.member;
        self.more = self.queue.serve(room.answers, &mut |records_max, bytes_max, out| {
            member.poll_records_into(records_max, bytes_max, turn, out);
        });
        self.more |= turn.is_cut;
        self.report_delivered();
    }

    fn forget_revoked(&mut self) {
        for partition in self.member.take_revoked() {
            self.queue.forget(partition);
        }
    }

    fn report_delivered(&mut self) {
        for (partition, next_offset) in self.queue.take_delivered() {
            self.member.delivered(partition, next_offset);
        }
    }

    /// Polls of a topic that does not exist are told so, as publishers are. A denial that is not fresh is asked about first.
    fn answer_missing(&mut self, client: &mut Client, now: Instant) {
        self.missing_look_at = None;
        let refusal = if self.queue.waiting_count() > 0 { missing(client, &self.member) } else { None };
        let Some(refusal) = refusal else { return };
        let fresh = |at: Instant| now < at + TOPIC_MISSING_REASK;
        let denied_at = self.member.topic().and_then(|topic| client.topic_denied_at(topic));
        if denied_at.is_some_and(fresh) {
            return self.queue.answer_all(&PollResult::Error(refusal));
        }
        if !self.missing_asked_at.is_some_and(fresh) {
            self.missing_asked_at = Some(now);
            client.refresh_metadata(now);
        }
        self.missing_look_at = Some(now + MISSING_PAUSE);
    }

    /// A member that failed ends its polls; one that left makes place for a new one when somebody polls.
    fn follow_member(&mut self, client: &mut Client, now: Instant) {
        match self.member.state() {
            MemberState::Failed(why) => {
                let refusal = Refusal::new(codes::GROUP_UNAVAILABLE, format!("the group cannot be joined: {why}"));
                self.queue.answer_all(&PollResult::Error(refusal));
            }
            MemberState::Left if self.queue.waiting_count() > 0 && !self.draining => {
                self.forget_revoked();
                self.seed = self.seed.wrapping_add(1);
                self.member = GroupMember::new(self.config.clone(), self.seed, now);
                self.member.tick(client, now);
            }
            _ => {}
        }
    }

    fn leave_when_idle(&mut self, client: &mut Client, now: Instant) {
        if self.queue.is_live() {
            self.idle_since = None;
            return;
        }
        let since = *self.idle_since.get_or_insert(now);
        if self.may_leave() && now.saturating_duration_since(since) >= self.idle_limit() {
            tracing::info!(group = self.config.group, topic = self.config.topic, "nobody polls, leaving the group");
            self.member.leave(client, now);
        }
    }

    fn may_leave(&self) -> bool {
        !matches!(self.member.state(), MemberState::Leaving | MemberState::Left | MemberState::Failed(_))
    }

    fn idle_limit(&self) -> Duration {
        (self.longest_wait * 2).max(IDLE_MIN)
    }
}

/// What polls are told when the cluster says that the topic does not exist.
fn missing(client: &Client, member: &GroupMember) -> Option<Refusal> {
    let topic = member.topic().filter(|topic| client.topic_state(*topic) == TopicState::Missing)?;
    // Without a name it is one too many to know, not one that is missing.
    let refusal = || Refusal::new(codes::NO_SUCH_TOPIC, ProduceError::TopicUnknown.to_string());
    (!client.topic_name(topic).is_empty()).then(refusal)
}

/// Why a poll whose time is over gets 503 instead of 204: nobody could have read for it.
fn unreachable(client: &Client, member: &GroupMember, now: Instant) -> Option<Refusal> {
    if member.state() == MemberState::Stable {
        return None;
    }
    let health = client.health(now);
    let refusal = || Refusal::new(codes::KAFKA_UNAVAILABLE, format!("the cluster cannot be read: {}", health.detail));
    (!health.reachable).then(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_client::ClientConfig;

    /// A subscription of a cluster nobody can reach.
    struct Scene {
        subscription: Subscription,
        client: Client,
        now: Instant,
    }

    impl Scene {
        fn new() -> Scene {
            let now = Instant::now();
            let config = ClientConfig { bootstrap: vec!["kafka.invalid:9092".into()], ..ClientConfig::default() };
            let group = GroupConfig::new("app.g", "app.t.v1");
            let (client, subscription) = (Client::new(config, 1, now), Subscription::new(group, false, 1, now));
            Scene { subscription, client, now }
        }

        fn poll(&mut self, id: u64, wait_ms: u64) {
            let deadline = self.now + Duration::from_millis(wait_ms);
            let poll = Poll { id, batch: 1, max_bytes: 1 << 20, deadline, filter: None, reset: None };
            self.subscription.enqueue(poll, self.now);
            self.tick();
        }

        fn advance(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
            self.tick();
        }

        /// As the shard does, with a cluster that refuses every connection.
        fn tick(&mut self) {
            self.client.on_timer(self.now);
            self.client.flush(self.now);
            while let Some(connect) = self.client.poll_connect(self.now) {
                self.client.on_connect_failed(connect.conn, "refused".into(), self.now);
            }
            while let Some((token, result)) = self.client.poll_reply() {
                assert!(self.subscription.owns(token));
                assert!(self.subscription.on_reply(token, result, &mut self.client, self.now));
            }
            self.subscription.tick(&mut self.client, Room::ALL, &mut Turn::unbounded(), self.now);
            let deadline = self.subscription.next_deadline();
            assert!(deadline.is_none_or(|at| at > self.now), "a shard would spin");
        }

        fn answers(&mut self) -> Vec<String> {
            std::iter::from_fn(|| self.subscription.poll_answer())
                .map(|(id, answer)| match answer {
                    PollResult::Error(refusal) => format!("{id}: {} {}", refusal.status, refusal.code),
                    other => format!("{id}: {other:?}"),
                })
                .collect()
        }
    }

    #[test]
    fn a_poll_whose_time_ends_while_kafka_is_away_says_so() {
        let mut scene = Scene::new();
        scene.poll(1, 2_000);
        scene.advance(1_999);
        assert_eq!(scene.answers(), [""; 0]);
        scene.advance(1);
        assert_eq!(scene.answers(), ["1: 503 kafka_unavailable"]);
    }

    #[test]
    fn a_group_nobody_polls_leaves_after_twice_the_longest_wait() {
        let mut scene = Scene::new();
        scene.poll(1, 20_000);
        scene.poll(2, 1_000);
        scene.advance(1_000);
        scene.advance(19_000);
        assert_eq!(scene.answers().len(), 2);
        scene.advance(39_999);
        assert_eq!((scene.subscription.state(), scene.subscription.is_finished()), (MemberState::Joining, false));
        scene.advance(1);
        assert_eq!((scene.subscription.state(), scene.subscription.is_finished()), (MemberState::Left, true));
    }

    #[test]
    fn short_waits_do_not_make_a_group_leave_before_it_has_joined() {
        let mut scene = Scene::new();
        scene.poll(1, 0);
        assert_eq!(scene.answers().len(), 1, "a poll that does not wait is answered at once");
        scene.advance(9_999);
        assert!(!scene.subscription.is_finished());
        scene.advance(1);
        assert!(scene.subscription.is_finished());
    }

    #[test]
    fn a_poll_after_the_group_left_joins_again() {
        let mut scene = Scene::new();
        scene.poll(1, 0);
        scene.answers();
        scene.advance(10_000);
        assert_eq!(scene.subscription.state(), MemberState::Left);
        scene.poll(2, 5_000);
        assert_eq!((scene.subscription.state(), scene.subscription.waiting_count()), (MemberState::Joining, 1));
    }

    #[test]
    fn draining_answers_what_waits_and_whoever_still_comes() {
        let mut scene = Scene::new();
        scene.poll(1, 30_000);
        scene.subscription.drain(&mut scene.client, scene.now);
        scene.poll(2, 30_000);
        assert_eq!(scene.answers(), ["1: Empty", "2: Empty"]);
        assert!(scene.subscription.is_finished());
    }

    #[test]
    fn a_cancelled_poll_gets_no_answer() {
        let mut scene = Scene::new();
        scene.poll(1, 1_000);
        scene.subscription.cancel(1);
        scene.advance(2_000);
        assert_eq!(scene.answers(), [""; 0]);
        assert!(scene.subscription.idle_since().is_some());
    }
}
