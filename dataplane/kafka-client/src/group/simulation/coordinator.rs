//! The broker's side of a classic consumer group, as Kafka does it.
//!
//! ```text
//! Empty ─join→ Joining ─all are there, or their time is over→ Syncing ─the leader's shares→ Stable ─join, leave, death→ Joining …
//! ```
//! Joins and syncs are parked under a [`Key`] until the group has come so far; their answers are in `answers`. A member is
//! forgotten when it was silent for a session, when it did not join again in time, and when it leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::cold::ResponseKind;
use kafka_wire::cold::types::join_group_response::JoinGroupResponseMember;
use kafka_wire::cold::types::{JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse};
use kafka_wire::error_code::ErrorCode;

use super::super::testing::{join_error, sync_error};
use super::super::{assignor, text};
use super::{REBALANCE_TIMEOUT, SESSION_TIMEOUT};
use crate::Response;

/// How long a group that was empty waits for more members.
const FIRST_JOIN_WAIT: Duration = Duration::from_millis(200);

/// A request on the wire.
pub(super) type Key = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    Joining { from: Instant, until: Instant },
    Syncing { until: Instant },
    Stable,
}

#[derive(Debug)]
struct Member {
    subscription: Bytes,
    heard_at: Instant,
    join: Option<Key>,
    sync: Option<Key>,
}

#[derive(Debug)]
pub(super) struct Coordinator {
    pub(super) generation: i32,
    /// Answers to what was parked.
    pub(super) answers: Vec<(Key, Response)>,
    phase: Phase,
    members: BTreeMap<String, Member>,
    leader: String,
    shares: BTreeMap<String, Bytes>,
    /// Given out with MEMBER_ID_REQUIRED.
    promised: BTreeSet<String>,
    ids: u32,
}

impl Coordinator {
    pub(super) fn new() -> Coordinator {
        Coordinator {
            generation: 0,
            answers: Vec::new(),
            phase: Phase::Empty,
            members: BTreeMap::new(),
            leader: String::new(),
            shares: BTreeMap::new(),
            promised: BTreeSet::new(),
            ids: 0,
        }
    }

    pub(super) fn join(&mut self, key: Key, join: &JoinGroupRequest, id_first: bool, now: Instant) -> Option<Response> {
        let mut id = join.member_id.to_string();
        if id.is_empty() {
            self.ids += 1;
            id = format!("m{}", self.ids);
            if id_first {
                self.promised.insert(id.clone());
                return Some(join_error(ErrorCode::MEMBER_ID_REQUIRED, &id));
            }
        } else if !self.members.contains_key(&id) && !self.promised.remove(&id) {
            return Some(join_error(ErrorCode::UNKNOWN_MEMBER_ID, ""));
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.heard_at = now;
            // Nothing is new with it, so it gets what it missed; a leader may have seen new partitions.
            if self.phase == Phase::Stable && id != self.leader || matches!(self.phase, Phase::Syncing { .. }) {
                return Some(self.joined(&id));
            }
        }
        let subscription = join.protocols[0].metadata.clone();
        self.members.insert(id, Member { subscription, heard_at: now, join: Some(key), sync: None });
        self.rebalance(now);
        None
    }

    pub(super) fn sync(&mut self, key: Key, sync: &SyncGroupRequest, now: Instant) -> Option<Response> {
        let id = sync.member_id.as_str();
        let code = match (self.judge(id, sync.generation_id, now), self.phase) {
            (ErrorCode::NONE, Phase::Joining { .. }) => ErrorCode::REBALANCE_IN_PROGRESS,
            (code, _) => code,
        };
        if code != ErrorCode::NONE {
            return Some(sync_error(code));
        }
        if self.phase == Phase::Stable {
            return Some(self.synced(id));
        }
        self.members.get_mut(id).expect("judged").sync = Some(key);
        if id == self.leader {
            let share = |share: &kafka_wire::cold::types::sync_group_request::SyncGroupRequestAssignment| {
                (share.member_id.to_string(), share.assignment.clone())
            };
            self.shares = sync.assignments.iter().map(share).collect();
            self.phase = Phase::Stable;
            let parked: Vec<(Key, String)> =
                self.members.iter_mut().filter_map(|(id, member)| Some((member.sync.take()?, id.clone()))).collect();
            for (key, id) in parked {
                self.members.get_mut(&id).expect("listed above").heard_at = now;
                let answer = self.synced(&id);
                self.answers.push((key, answer));
            }
        }
        None
    }

    pub(super) fn heartbeat(&mut self, id: &str, generation: i32, now: Instant) -> ErrorCode {
        match (self.judge(id, generation, now), self.phase) {
            (ErrorCode::NONE, Phase::Joining { .. }) => ErrorCode::REBALANCE_IN_PROGRESS,
            (code, _) => code,
        }
    }

    /// Whether a commit is taken.
    pub(super) fn commit(&mut self, id: &str, generation: i32, now: Instant) -> ErrorCode {
        match (self.judge(id, generation, now), self.phase) {
            (ErrorCode::NONE, Phase::Syncing { .. }) => ErrorCode::REBALANCE_IN_PROGRESS,
            (code, _) => code,
        }
    }

    pub(super) fn leave(&mut self, id: &str, now: Instant) {
        if self.members.remove(id).is_some() {
            self.rebalance(now);
        }
    }

    /// Another broker coordinates now, and never heard of the members.
    pub(super) fn forget_members(&mut self) {
        for (_, member) in std::mem::take(&mut self.members) {
            let gone = |key| (key, join_error(ErrorCode::NOT_COORDINATOR, ""));
            self.answers.extend(member.join.map(gone));
            self.answers.extend(member.sync.map(|key| (key, sync_error(ErrorCode::NOT_COORDINATOR))));
        }
        self.phase = Phase::Empty;
    }

    /// A rebalance without a reason that members know of.
    pub(super) fn shake(&mut self, now: Instant) {
        if !self.members.is_empty() {
            self.rebalance(now);
        }
    }

    /// Whether the generation is the one the group is in, and `id` has a share in it.
    pub(super) fn is_current(&self, id: &str, generation: i32) -> bool {
        generation == self.generation && self.phase == Phase::Stable && self.members.contains_key(id)
    }

    pub(super) fn tick(&mut self, now: Instant) {
        let count = self.members.len();
        self.members.retain(|_, member| {
            member.join.is_some() || member.sync.is_some() || now < member.heard_at + SESSION_TIMEOUT
        });
        let late = matches!(self.phase, Phase::Syncing { until } if until <= now);
        if self.members.len() < count || late {
            self.rebalance(now);
        }
        self.end_joining(now);
    }

    fn judge(&mut self, id: &str, generation: i32, now: Instant) -> ErrorCode {
        let Some(member) = self.members.get_mut(id) else { return ErrorCode::UNKNOWN_MEMBER_ID };
        if generation != self.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        member.heard_at = now;
        ErrorCode::NONE
    }

    fn rebalance(&mut self, now: Instant) {
        let first_wait = if self.phase == Phase::Empty { FIRST_JOIN_WAIT } else { Duration::ZERO };
        if !matches!(self.phase, Phase::Joining { .. }) {
            self.phase = Phase::Joining { from: now + first_wait, until: now + REBALANCE_TIMEOUT };
        }
        let parked: Vec<Key> = self.members.values_mut().filter_map(|member| member.sync.take()).collect();
        self.answers.extend(parked.into_iter().map(|key| (key, sync_error(ErrorCode::REBALANCE_IN_PROGRESS))));
        self.end_joining(now);
    }

    fn end_joining(&mut self, now: Instant) {
        let Phase::Joining { from, until } = self.phase else { return };
        let complete = self.members.values().all(|member| member.join.is_some());
        if now < from || now < until && !complete {
            return;
        }
        self.members.retain(|_, member| member.join.is_some());
        let Some(first) = self.members.keys().next() else {
            self.phase = Phase::Empty;
            return;
        };
        if !self.members.contains_key(&self.leader) {
            self.leader = first.clone();
        }
        self.generation += 1;
        self.shares.clear();
        self.phase = Phase::Syncing { until: now + REBALANCE_TIMEOUT };
        let parked: Vec<(Key, String)> =
            self.members.iter_mut().filter_map(|(id, member)| Some((member.join.take()?, id.clone()))).collect();
        for (key, id) in parked {
            self.members.get_mut(&id).expect("listed above").heard_at = now;
            let answer = self.joined(&id);
            self.answers.push((key, answer));
        }
    }

    fn joined(&self, id: &str) -> Response {
        let leads = id == self.leader;
        let of = |(id, member): (&String, &Member)| {
            JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(member.subscription.clone())
        };
        let join = JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_name(Some(text(assignor::NAME)))
            .with_leader(text(&self.leader))
            .with_member_id(text(id))
            .with_members(self.members.iter().filter(|_| leads).map(of).collect());
        Response::Cold(ResponseKind::JoinGroup(join))
    }

    fn synced(&self, id: &str) -> Response {
        let share = self.shares.get(id).cloned().unwrap_or_default();
        Response::Cold(ResponseKind::SyncGroup(SyncGroupResponse::default().with_assignment(share)))
    }
}
