//! Membership in a classic consumer group: join, sync, heartbeat, leave.
//!
//! ```text
//! Unjoined ─JoinGroup→ Joining ─leader→ Planning ─SyncGroup→ Syncing → Stable ─rebalance→ Revoking ─JoinGroup→ Joining …
//!     ↑                   └──────────────follower──────────────┘         │ session over, member or generation unknown
//!     └──────────────────────────────────────────────────────────────────┘
//! ```
//! Invariants:
//! - At most one of JoinGroup, SyncGroup and LeaveGroup is on its way, and at most one Heartbeat.
//! - A reply counts only for the request it answers, and a heartbeat is forgotten with the generation it was sent in;
//!   anything else is dropped.
//! - The broker parks join and sync until all members are there, so they go by [`Lane::Group`], where each waiting request
//!   has a connection to itself. Heartbeats go by the control connection.
//! - When the coordinator was silent for a session timeout, the partitions count as lost, whatever it says later.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::cold::types::join_group_request::JoinGroupRequestProtocol;
use kafka_wire::cold::types::leave_group_request::MemberIdentity;
use kafka_wire::cold::types::sync_group_request::SyncGroupRequestAssignment;
use kafka_wire::cold::types::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest, SyncGroupResponse,
};
use kafka_wire::cold::{RequestKind, ResponseKind};
use kafka_wire::error_code::ErrorCode;

use super::assignor::{self, Member};
use super::cluster::Cluster;
use super::coordinator::{Verdict, verdict};
use super::limits::{COORDINATOR_TIMEOUT, LEAVE_WAIT, MEMBERS_MAX, PLAN_WAIT, REPLY_GRACE, TOPICS_MAX};
use super::{GroupConfig, consumer_protocol, text};
use crate::backoff::Backoff;
use crate::rng::Rng;
use crate::{Lane, Request, RequestError, RequestToken, Response, Target, TopicIdx, TopicState};

/// What the member's owner must act on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Nothing,
    /// A rebalance began: stop handing out, commit, then call [`Membership::join`].
    Revoke,
    /// The new share. `continuous`: nobody else can have owned our partitions since the last share.
    Assigned {
        partitions: Vec<i32>,
        continuous: bool,
    },
    /// Everything assigned may belong to others already; commit nothing.
    Lost,
}

#[derive(Debug)]
pub(super) enum Phase {
    Unjoined { at: Instant },
    Joining { token: RequestToken },
    Planning { until: Instant },
    Syncing { token: RequestToken },
    Stable,
    Revoking,
    Leaving { token: RequestToken, until: Instant },
    Left,
    Failed(String),
}

/// Whether the coordinator still knows us by our member id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberId {
    Kept,
    Forgotten,
}

/// Where the next join goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coordinator {
    Same,
    /// Somewhere else: it is looked for.
    Moved,
}

#[derive(Debug)]
pub(super) struct Membership {
    group: String,
    topic: String,
    instance_id: Option<String>,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    heartbeat_interval: Duration,

    phase: Phase,
    member_id: String,
    generation: i32,
    /// The generation whose share we hold without interruption; what `continuous` compares with.
    held_generation: Option<i32>,
    /// Members to assign for, while we lead the generation that is being made.
    plan: Vec<Member>,
    /// Every topic of the group's members and the partition count the last assignment used, while we lead.
    planned: Vec<(TopicIdx, String, i32)>,

    heartbeat: Option<RequestToken>,
    heartbeat_at: Instant,
    /// When the coordinator last confirmed us.
    contact: Instant,
    backoff: Backoff,
    rng: Rng,
}

impl Membership {
    pub(super) fn new(config: &GroupConfig, seed: u64, now: Instant) -> Membership {
        Membership {
            group: config.group.clone(),
            topic: config.topic.clone(),
            instance_id: config.instance_id.clone(),
            session_timeout: config.session_timeout,
            rebalance_timeout: config.rebalance_timeout,
            heartbeat_interval: config.heartbeat_interval,
            phase: Phase::Unjoined { at: now },
            member_id: String::new(),
            generation: -1,
            held_generation: None,
            plan: Vec::new(),
            planned: Vec::new(),
            heartbeat: None,
            heartbeat_at: now,
            contact: now,
            backoff: Backoff::default(),
            rng: Rng::new(seed),
        }
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What a commit must carry; `None` when there is no generation to commit in.
    pub(super) fn identity(&self) -> Option<(&str, i32)> {
        match self.phase {
            Phase::Stable | Phase::Revoking => Some((&self.member_id, self.generation)),
            _ => None,
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, cluster: &mut impl Cluster, now: Instant) -> Event {
        if self.holds_generation() && now.saturating_duration_since(self.contact) >= self.session_timeout {
            tracing::warn!(group = self.group, member = self.member_id, "group coordinator silent for a whole session");
            cluster.invalidate_coordinator(&self.group);
            return self.lose(cluster, now, MemberId::Kept);
        }
        let mut event = Event::Nothing;
        match self.phase {
            Phase::Unjoined { at } if at <= now => self.join(cluster, now),
            Phase::Planning { until } => self.sync_when_planned(cluster, until, now),
            Phase::Stable if self.partitions_changed(cluster) => event = self.revoke(),
            Phase::Leaving { until, .. } if until <= now => self.phase = Phase::Left,
            _ => {}
        }
        if self.holds_generation() && self.heartbeat.is_none() && self.heartbeat_at <= now {
            self.beat(cluster, now);
        }
        event
    }

    /// When `tick` has something to do next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Unjoined { at } => Some(at),
            Phase::Planning { until } | Phase::Leaving { until, .. } => Some(until),
            _ => None,
        };
        let session = self.holds_generation().then(|| self.contact + self.session_timeout);
        let heartbeat = (self.holds_generation() && self.heartbeat.is_none()).then_some(self.heartbeat_at);
        [phase, session, heartbeat].into_iter().flatten().min()
    }

    /// Sends JoinGroup now: the first time, or after what was delivered has been committed.
    pub(super) fn join(&mut self, cluster: &mut impl Cluster, now: Instant) {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text(assignor::NAME))
            .with_metadata(consumer_protocol::encode_subscription(&[&self.topic]));
        let join = JoinGroupRequest::default()
            .with_group_id(text(&self.group).into())
            .with_session_timeout_ms(millis(self.session_timeout))
            .with_rebalance_timeout_ms(millis(self.rebalance_timeout))
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance_id.as_deref().map(text))
            .with_protocol_type(text(consumer_protocol::PROTOCOL_TYPE))
            .with_protocols(vec![protocol]);
        let request = Request::Cold(RequestKind::JoinGroup(join));
        let timeout = self.rebalance_timeout + REPLY_GRACE;
        let token = cluster.request(Target::Coordinator(&self.group), Lane::Group, request, timeout, now);
        self.forget_heartbeat(cluster);
        self.phase = Phase::Joining { token };
    }

    /// Leaves the group; done when the phase is `Left`. The owner has committed before.
    pub(super) fn leave(&mut self, cluster: &mut impl Cluster, now: Instant) {
        match self.phase {
            Phase::Leaving { .. } | Phase::Left => return,
            Phase::Joining { token } | Phase::Syncing { token } => cluster.cancel(token),
            _ => {}
        }
        self.forget_heartbeat(cluster);
        if self.member_id.is_empty() || self.instance_id.is_some() {
            // Never admitted; or static: leaving is then for the session timeout, so that a restart keeps its share.
            self.phase = Phase::Left;
            return;
        }
        let identity = MemberIdentity::default().with_member_id(text(&self.member_id));
        let leave = LeaveGroupRequest::default().with_group_id(text(&self.group).into()).with_members(vec![identity]);
        let request = Request::Cold(RequestKind::LeaveGroup(leave));
        let token = cluster.request(Target::Coordinator(&self.group), Lane::Control, request, LEAVE_WAIT, now);
        self.phase = Phase::Leaving { token, until: now + LEAVE_WAIT };
    }

    pub(super) fn owns(&self, token: RequestToken) -> bool {
        let of_phase = match self.phase {
            Phase::Joining { token } | Phase::Syncing { token } | Phase::Leaving { token, .. } => Some(token),
            _ => None,
        };
        of_phase == Some(token) || self.heartbeat == Some(token)
    }

    /// `None` when the token is not ours.
    pub(super) fn on_reply(
        &mut self,
        token: RequestToken,
        result: &mut Option<Result<Response, RequestError>>,
        cluster: &mut impl Cluster,
        now: Instant,
    ) -> Option<Event> {
        if !self.owns(token) {
            return None;
        }
        let reply = result.take()?;
        if self.heartbeat.take_if(|sent| *sent == token).is_some() {
            return Some(self.heartbeat_answered(reply, cluster, now));
        }
        Some(match (&self.phase, reply) {
            (Phase::Joining { .. }, Ok(Response::Cold(ResponseKind::JoinGroup(join)))) => {
                self.joined(join, cluster, now)
            }
            (Phase::Syncing { .. }, Ok(Response::Cold(ResponseKind::SyncGroup(sync)))) => {
                self.synced(sync, cluster, now)
            }
            (Phase::Leaving { .. }, _) => {
                self.phase = Phase::Left;
                Event::Nothing
            }
            (_, Ok(_)) => self.unreachable_for_now("a reply to another question", cluster, now),
            (_, Err(RequestError::CoordinatorRefused { code })) => {
                self.fail(format!("coordinator lookup refused: {}", code.name()), cluster)
            }
            (_, Err(err)) => self.unreachable_for_now(&err.to_string(), cluster, now),
        })
    }

    /// A commit was answered with an error of the group as a whole.
    pub(super) fn on_commit_error(&mut self, code: ErrorCode, cluster: &mut impl Cluster, now: Instant) -> Event {
        match verdict(code) {
            Verdict::Rebalance => self.revoke(),
            Verdict::LostGeneration => self.lose(cluster, now, MemberId::Kept),
            Verdict::LostMember => self.lose(cluster, now, MemberId::Forgotten),
            Verdict::Moved => {
                cluster.invalidate_coordinator(&self.group);
                Event::Nothing
            }
            Verdict::Ok | Verdict::Retry | Verdict::Fatal => Event::Nothing,
        }
    }

    /// The coordinator confirmed us by another request than a heartbeat.
    pub(super) fn confirmed(&mut self, now: Instant) {
        self.contact = now;
    }

    // Replies

    fn joined(&mut self, join: JoinGroupResponse, cluster: &mut impl Cluster, now: Instant) -> Event {
        let code = ErrorCode(join.error_code);
        if code == ErrorCode::MEMBER_ID_REQUIRED {
            // KIP-394: the first join only hands out an id, so that a lost reply leaves no ghost in the group.
            self.member_id = join.member_id.to_string();
            self.join(cluster, now);
            return Event::Nothing;
        }
        match verdict(code) {
            Verdict::Ok => {}
            Verdict::Rebalance | Verdict::Retry => return self.rejoin(cluster, now, Coordinator::Same),
            Verdict::Moved => return self.rejoin(cluster, now, Coordinator::Moved),
            Verdict::LostGeneration => return self.lose(cluster, now, MemberId::Kept),
            Verdict::LostMember => return self.lose(cluster, now, MemberId::Forgotten),
            Verdict::Fatal => return self.fail(format!("join refused: {}", code.name()), cluster),
        }
        if join.protocol_name.as_ref().is_some_and(|name| name.as_str() != assignor::NAME) {
            let chosen = join.protocol_name.map(|name| name.to_string()).unwrap_or_default();
            return self.fail(format!("the group chose assignor {chosen:?}, which we do not speak"), cluster);
        }
        self.backoff.succeeded();
        self.member_id = join.member_id.to_string();
        self.generation = join.generation_id;
        self.contact = now;
        self.heartbeat_at = now + self.heartbeat_interval;
        self.plan.clear();
        self.planned.clear();
        let leads = join.leader == join.member_id;
        if !leads || join.skip_assignment {
            self.sync(Vec::new(), cluster, now);
            return Event::Nothing;
        }
        if join.members.len() > MEMBERS_MAX {
            return self.fail(format!("{} members, {MEMBERS_MAX} allowed", join.members.len()), cluster);
        }
        self.plan = join
            .members
            .into_iter()
            .map(|member| Member {
                topics: self.topics_of(&member.member_id, member.metadata),
                id: member.member_id.to_string(),
                instance_id: member.group_instance_id.map(|id| id.to_string()),
            })
            .collect();
        let mut names: Vec<&String> = self.plan.iter().flat_map(|member| &member.topics).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(TOPICS_MAX);
        self.planned = names.into_iter().map(|name| (cluster.topic(name), name.clone(), 0)).collect();
        self.phase = Phase::Planning { until: now + PLAN_WAIT };
        self.sync_when_planned(cluster, now + PLAN_WAIT, now);
        Event::Nothing
    }

    fn topics_of(&self, member_id: &str, metadata: Bytes) -> Vec<String> {
        consumer_protocol::decode_subscription(metadata).unwrap_or_else(|err| {
            tracing::warn!(group = self.group, member = member_id, %err, "group member without readable subscription");
            Vec::new()
        })
    }

    fn synced(&mut self, sync: SyncGroupResponse, cluster: &mut impl Cluster, now: Instant) -> Event {
        let code = ErrorCode(sync.error_code);
        match verdict(code) {
            Verdict::Ok => {}
            Verdict::Rebalance | Verdict::Retry => return self.rejoin(cluster, now, Coordinator::Same),
            Verdict::Moved => return self.rejoin(cluster, now, Coordinator::Moved),
            Verdict::LostGeneration => return self.lose(cluster, now, MemberId::Kept),
            Verdict::LostMember => return self.lose(cluster, now, MemberId::Forgotten),
            Verdict::Fatal => return self.fail(format!("sync refused: {}", code.name()), cluster),
        }
        let share = match consumer_protocol::decode_assignment(sync.assignment) {
            Ok(share) => share,
            Err(err) => {
                tracing::warn!(group = self.group, %err, "unreadable assignment from the group's leader");
                return self.rejoin(cluster, now, Coordinator::Same);
            }
        };
        let mut partitions: Vec<i32> = share
            .into_iter()
            .filter(|(topic, _)| *topic == self.topic)
            .flat_map(|(_, partitions)| partitions)
            .collect();
        partitions.retain(|partition| *partition >= 0);
        partitions.sort_unstable();
        partitions.dedup();
        let continuous = self.held_generation.is_some_and(|held| held.checked_add(1) == Some(self.generation));
        self.held_generation = Some(self.generation);
        self.contact = now;
        self.phase = Phase::Stable;
        tracing::info!(
            group = self.group,
            topic = self.topic,
            generation = self.generation,
            member = self.member_id,
            ?partitions,
            "group partitions assigned"
        );
        Event::Assigned { partitions, continuous }
    }

    fn heartbeat_answered(
        &mut self,
        reply: Result<Response, RequestError>,
        cluster: &mut impl Cluster,
        now: Instant,
    ) -> Event {
        self.heartbeat_at = now + self.heartbeat_interval;
        let code = match reply {
            Ok(Response::Cold(ResponseKind::Heartbeat(heartbeat))) => ErrorCode(heartbeat.error_code),
            Ok(_) | Err(_) => ErrorCode::NOT_COORDINATOR, // not reached: look for it again, soon
        };
        match verdict(code) {
            Verdict::Ok => {
                self.contact = now;
                self.backoff.succeeded();
                Event::Nothing
            }
            Verdict::Rebalance => {
                self.contact = now;
                if matches!(self.phase, Phase::Stable) { self.revoke() } else { Event::Nothing }
            }
            Verdict::Retry => {
                self.heartbeat_at = self.backoff.failed(now, &mut self.rng);
                Event::Nothing
            }
            Verdict::Moved => {
                cluster.invalidate_coordinator(&self.group);
                self.heartbeat_at = self.backoff.failed(now, &mut self.rng);
                Event::Nothing
            }
            Verdict::LostGeneration => self.lose(cluster, now, MemberId::Kept),
            Verdict::LostMember => self.lose(cluster, now, MemberId::Forgotten),
            Verdict::Fatal => self.fail(format!("heartbeat refused: {}", code.name()), cluster),
        }
    }

    // Steps

    fn beat(&mut self, cluster: &mut impl Cluster, now: Instant) {
        let heartbeat = HeartbeatRequest::default()
            .with_group_id(text(&self.group).into())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance_id.as_deref().map(text));
        let request = Request::Cold(RequestKind::Heartbeat(heartbeat));
        let timeout = COORDINATOR_TIMEOUT.min(self.session_timeout);
        let token = cluster.request(Target::Coordinator(&self.group), Lane::Control, request, timeout, now);
        self.heartbeat = Some(token);
    }

    /// As leader: sends the assignment once every topic's partition count is known, or waited for long enough.
    fn sync_when_planned(&mut self, cluster: &mut impl Cluster, until: Instant, now: Instant) {
        let pending = self.planned.iter().any(|(topic, ..)| cluster.topic_state(*topic) == TopicState::Pending);
        if pending && now < until {
            return;
        }
        for (topic, _, count) in &mut self.planned {
            *count = cluster.partition_count(*topic).unwrap_or(0);
        }
        let count_of = |name: &str| {
            self.planned
                .binary_search_by(|(_, planned, _)| planned.as_str().cmp(name))
                .map_or(0, |at| self.planned[at].2)
        };
        let shares = assignor::range(&self.plan, count_of);
        let assignments = std::mem::take(&mut self.plan)
            .into_iter()
            .zip(shares)
            .map(|(member, share)| {
                SyncGroupRequestAssignment::default()
                    .with_member_id(text(&member.id))
                    .with_assignment(consumer_protocol::encode_assignment(&share))
            })
            .collect();
        self.sync(assignments, cluster, now);
    }

    fn sync(&mut self, assignments: Vec<SyncGroupRequestAssignment>, cluster: &mut impl Cluster, now: Instant) {
        let sync = SyncGroupRequest::default()
            .with_group_id(text(&self.group).into())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.member_id))
            .with_group_instance_id(self.instance_id.as_deref().map(text))
            .with_protocol_type(Some(text(consumer_protocol::PROTOCOL_TYPE)))
            .with_protocol_name(Some(text(assignor::NAME)))
            .with_assignments(assignments);
        let request = Request::Cold(RequestKind::SyncGroup(sync));
        let timeout = self.rebalance_timeout + REPLY_GRACE;
        let token = cluster.request(Target::Coordinator(&self.group), Lane::Group, request, timeout, now);
        self.phase = Phase::Syncing { token };
    }

    /// Whether a topic of the group has another partition count than our assignment used.
    fn partitions_changed(&self, cluster: &impl Cluster) -> bool {
        self.planned
            .iter()
            .any(|(topic, _, count)| cluster.partition_count(*topic).is_some_and(|count_now| count_now != *count))
    }

    fn revoke(&mut self) -> Event {
        if !matches!(self.phase, Phase::Stable) {
            return Event::Nothing;
        }
        self.phase = Phase::Revoking;
        Event::Revoke
    }

    /// What we hold is no longer ours; join anew.
    fn lose(&mut self, cluster: &mut impl Cluster, now: Instant, member_id: MemberId) -> Event {
        if let Phase::Joining { token } | Phase::Syncing { token } = self.phase {
            cluster.cancel(token);
        }
        if member_id == MemberId::Forgotten {
            self.member_id.clear();
        }
        self.held_generation = None;
        self.forget_heartbeat(cluster);
        self.phase = Phase::Unjoined { at: self.backoff.failed(now, &mut self.rng) };
        Event::Lost
    }

    /// Nothing is lost yet, the round is only tried again.
    fn rejoin(&mut self, cluster: &mut impl Cluster, now: Instant, coordinator: Coordinator) -> Event {
        if coordinator == Coordinator::Moved {
            cluster.invalidate_coordinator(&self.group);
        }
        // A join that failed tells nothing about who was served meanwhile.
        self.held_generation = None;
        self.forget_heartbeat(cluster);
        self.phase = Phase::Unjoined { at: self.backoff.failed(now, &mut self.rng) };
        Event::Lost
    }

    fn unreachable_for_now(&mut self, why: &str, cluster: &mut impl Cluster, now: Instant) -> Event {
        tracing::info!(group = self.group, why, "group coordinator not reached, joining again");
        self.rejoin(cluster, now, Coordinator::Moved)
    }

    fn fail(&mut self, why: String, cluster: &mut impl Cluster) -> Event {
        tracing::error!(group = self.group, topic = self.topic, why, "group membership failed");
        self.forget_heartbeat(cluster);
        self.held_generation = None;
        self.phase = Phase::Failed(why);
        Event::Lost
    }

    fn forget_heartbeat(&mut self, cluster: &mut impl Cluster) {
        if let Some(token) = self.heartbeat.take() {
            cluster.cancel(token);
        }
    }

    /// Whether the coordinator counts on our heartbeats.
    fn holds_generation(&self) -> bool {
        matches!(self.phase, Phase::Planning { .. } | Phase::Syncing { .. } | Phase::Stable | Phase::Revoking)
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
