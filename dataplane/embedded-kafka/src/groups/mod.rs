//! The classic group coordinator (KIP-134, KIP-345, KIP-394, KIP-800 as far as it answers): join, sync, heartbeat,
//! leave. Pure: `now` is a parameter, waiting requests are tickets, their answers come out of `poll_reply`.
//!
//! ```text
//!   Empty ──join──▶ PreparingRebalance ──all joined, or deadline──▶ CompletingRebalance ──leader's sync──▶ Stable
//!     ▲                ▲       │                                          │                                  │
//!     └──nobody left───┼───────┘         join, leave, death ◀─────────────┴──────────────────────────────────┘
//! ```
//!
//! Differences from Kafka, on purpose: no initial rebalance delay (an embedded broker has few members and tests do
//! not want to wait 3 s), and groups without members are forgotten after ten minutes (their offsets are not).
//!
//! Invariants:
//! - A member waits with at most one request; every ticket handed in is answered exactly once, or when the group dies.
//! - The generation grows with every completed rebalance.
//! - A group's entry in `schedule` is never later than its earliest deadline.

mod member;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::HashMap;
use kafka_wire::error_code::ErrorCode;

use member::Member;
pub use member::Protocol;

use crate::limits::{
    GROUP_EMPTY_KEEP, GROUP_ID_BYTES_MAX, GROUP_MEMBERS_MAX, GROUP_METADATA_BYTES_MAX, GROUPS_MAX,
    INSTANCE_ID_BYTES_MAX, MEMBER_METADATA_BYTES_MAX, SESSION_TIMEOUT_MAX, SESSION_TIMEOUT_MIN,
};

/// Names a waiting request; chosen by the caller.
pub type Ticket = u64;

/// Who sends a request that must come from a current member.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub group: &'a str,
    pub generation: i32,
    pub member: &'a str,
    pub instance: Option<&'a str>,
}

/// A JoinGroup request.
#[derive(Clone, Debug)]
pub struct Join {
    pub group: String,
    /// Empty: a new member.
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
    /// v4 and later: a new member is first told its id (KIP-394).
    pub member_id_required: bool,
}

/// The answer to a JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub error: ErrorCode,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub member: String,
    /// For the leader: everyone's (member, instance, metadata).
    pub members: Vec<(String, Option<String>, Bytes)>,
}

impl Joined {
    fn refused(error: ErrorCode, member: &str) -> Joined {
        Joined {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member: member.to_owned(),
            members: Vec::new(),
        }
    }
}

/// The answer to a SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub error: ErrorCode,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

impl Synced {
    fn refused(error: ErrorCode) -> Synced {
        Synced { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// An answer that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Joined(Joined),
    Synced(Synced),
}

/// Kafka's state names, as DescribeGroups and ListGroups say them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// A group as DescribeGroups shows it.
#[derive(Clone, Debug)]
pub struct Described {
    pub state: State,
    pub protocol_type: String,
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}

/// A member as DescribeGroups shows it.
#[derive(Clone, Debug)]
pub struct DescribedMember {
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

struct Group {
    state: State,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Static members: instance id to member id.
    instances: HashMap<String, String>,
    /// Told their member id, not joined yet; until when we expect them.
    pending: BTreeMap<String, Instant>,
    /// PreparingRebalance: who has not joined by then is out. CompletingRebalance: who has not synced.
    /// Empty: when the group is forgotten.
    deadline: Option<Instant>,
    scheduled: Option<Instant>,
    /// Order of joining, for choosing the leader.
    joins: u64,
}

/// All groups of the broker.
pub struct Groups {
    groups: HashMap<String, Group>,
    schedule: BTreeSet<(Instant, String)>,
    replies: VecDeque<(Ticket, Reply)>,
    seed: u64,
}

impl Groups {
    /// `seed` makes member ids unique among restarts.
    pub fn new(seed: u64) -> Groups {
        Groups { groups: HashMap::default(), schedule: BTreeSet::new(), replies: VecDeque::new(), seed }
    }

    /// Handles a JoinGroup; the answer comes out of `poll_reply`, now or later.
    pub fn join(&mut self, join: Join, ticket: Ticket, now: Instant) {
        if let Err(joined) = self.try_join(join, ticket, now) {
            self.replies.push_back((ticket, Reply::Joined(*joined)));
        }
    }

    /// Handles a SyncGroup; the answer comes out of `poll_reply`, now or later.
    pub fn sync(
        &mut self,
        caller: Caller<'_>,
        protocol_type: Option<&str>,
        protocol: Option<&str>,
        assignments: Vec<(String, Bytes)>,
        ticket: Ticket,
        now: Instant,
    ) {
        if let Err(error) = self.try_sync(caller, protocol_type, protocol, assignments, ticket, now) {
            self.replies.push_back((ticket, Reply::Synced(Synced::refused(error))));
        }
    }

    /// Handles a Heartbeat.
    pub fn heartbeat(&mut self, caller: Caller<'_>, now: Instant) -> ErrorCode {
        let group = match self.member_of(caller) {
            Ok(group) => group,
            Err(error) => return error,
        };
        group.touch(caller.member, now);
        match group.state {
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            State::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            State::CompletingRebalance | State::Stable => ErrorCode::NONE,
        }
    }

    /// Whether a commit from this caller is taken; counts as a heartbeat.
    pub fn may_commit(&mut self, caller: Caller<'_>, now: Instant) -> Result<(), ErrorCode> {
        if caller.group.len() > GROUP_ID_BYTES_MAX {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        let simple = caller.generation < 0 && caller.member.is_empty() && caller.instance.is_none();
        match self.groups.get(caller.group) {
            // Somebody who assigns partitions by hand, or a tool: allowed while nobody is a member.
            None if caller.generation < 0 => return Ok(()),
            None => return Err(ErrorCode::ILLEGAL_GENERATION),
            Some(group) if group.state == State::Empty && simple => return Ok(()),
            Some(_) => {}
        }
        let group = self.member_of(caller)?;
        group.touch(caller.member, now);
        match group.state {
            State::CompletingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    /// Handles one member of a LeaveGroup.
    pub fn leave(&mut self, group_id: &str, member: &str, instance: Option<&str>, now: Instant) -> ErrorCode {
        let Some(group) = self.groups.get_mut(group_id) else { return ErrorCode::UNKNOWN_MEMBER_ID };
        let member = match instance {
            Some(instance) => match group.instances.get(instance) {
                None => return ErrorCode::UNKNOWN_MEMBER_ID,
                Some(known) if !member.is_empty() && known != member => return ErrorCode::FENCED_INSTANCE_ID,
                Some(known) => known.clone(),
            },
            None => member.to_owned(),
        };
        if group.pending.remove(&member).is_some() {
            self.advance(group_id, now);
            return ErrorCode::NONE;
        }
        if !group.members.contains_key(&member) {
            return ErrorCode::UNKNOWN_MEMBER_ID;
        }
        group.remove(&member, &mut self.replies);
        self.after_removal(group_id, now);
        ErrorCode::NONE
    }

    /// The next answer that is ready.
    pub fn poll_reply(&mut self) -> Option<(Ticket, Reply)> {
        self.replies.pop_front()
    }

    /// When `on_timer` has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.schedule.first().map(|(at, _)| *at)
    }

    /// Ends sessions and rebalances whose time is over.
    pub fn on_timer(&mut self, now: Instant) {
        while let Some((at, _)) = self.schedule.first()
            && *at <= now
        {
            let (_, group_id) = self.schedule.pop_first().expect("looked at above");
            let Some(group) = self.groups.get_mut(&group_id) else { continue };
            group.scheduled = None;
            if group.state == State::Empty && group.pending.is_empty() && group.deadline.is_some_and(|at| at <= now) {
                self.groups.remove(&group_id);
                continue;
            }
            self.expire(&group_id, now);
            self.schedule_exactly(&group_id, now);
        }
    }

    /// Ids of groups with or lately with members, and their state and protocol type.
    pub fn list(&self) -> impl Iterator<Item = (&str, State, &str)> {
        self.groups
            .iter()
            .map(|(id, group)| (id.as_str(), group.state, group.protocol_type.as_deref().unwrap_or_default()))
    }

    /// Whether somebody is in this group, or about to be.
    pub fn has_members(&self, group_id: &str) -> bool {
        self.groups.get(group_id).is_some_and(|group| !group.members.is_empty() || !group.pending.is_empty())
    }

    /// What DescribeGroups says of one group.
    pub fn describe(&self, group_id: &str) -> Option<Described> {
        let group = self.groups.get(group_id)?;
        let stable = group.state == State::Stable;
        let protocol = if stable { group.protocol.clone().unwrap_or_default() } else { String::new() };
        let members = group
            .members
            .values()
            .map(|member| DescribedMember {
                member: member.id.clone(),
                instance: member.instance.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                metadata: if stable { member.metadata(&protocol) } else { Bytes::new() },
                assignment: if stable { member.assignment.clone() } else { Bytes::new() },
            })
            .collect();
        let protocol_type = group.protocol_type.clone().unwrap_or_default();
        Some(Described { state: group.state, protocol_type, protocol, members })
    }

    /// Forgets a group without members. False: it has some.
    pub fn delete(&mut self, group_id: &str) -> bool {
        let deletable = self.groups.get(group_id).is_none_or(|group| group.state == State::Empty);
        if deletable
            && let Some(group) = self.groups.remove(group_id)
            && let Some(scheduled) = group.scheduled
        {
            self.schedule.remove(&(scheduled, group_id.to_owned()));
        }
        deletable
    }

    // --- join ---------------------------------------------------------------------------------------------------

    fn try_join(&mut self, join: Join, ticket: Ticket, now: Instant) -> Result<(), Box<Joined>> {
        let refuse = |error| Err(Box::new(Joined::refused(error, &join.member)));
        if join.group.is_empty() || join.group.len() > GROUP_ID_BYTES_MAX {
            return refuse(ErrorCode::INVALID_GROUP_ID);
        }
        if !(SESSION_TIMEOUT_MIN..=SESSION_TIMEOUT_MAX).contains(&join.session_timeout) {
            return refuse(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        if join.protocols.is_empty() || join.protocol_type.is_empty() {
            return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let metadata_bytes = member::metadata_bytes(&join.protocols);
        if metadata_bytes > MEMBER_METADATA_BYTES_MAX {
            return refuse(ErrorCode::INVALID_REQUEST);
        }
        if join.instance.as_ref().is_some_and(|instance| instance.len() > INSTANCE_ID_BYTES_MAX) {
            return refuse(ErrorCode::INVALID_REQUEST);
        }
        if !self.groups.contains_key(&join.group) {
            if !join.member.is_empty() {
                return refuse(ErrorCode::UNKNOWN_MEMBER_ID);
            }
            if self.groups.len() >= GROUPS_MAX {
                return refuse(ErrorCode::COORDINATOR_NOT_AVAILABLE);
            }
            self.groups.insert(join.group.clone(), Group::new());
        }
        let fresh_id = self.fresh_member_id(join.instance.as_deref().unwrap_or(&join.client_id));
        let group = self.groups.get_mut(&join.group).expect("inserted above");
        if !group.supports(&join) {
            return refuse(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let others = group.members.values().filter(|member| member.id != join.member);
        let others_bytes: usize = others.map(|member| member::metadata_bytes(&member.protocols)).sum();
        if others_bytes + metadata_bytes > GROUP_METADATA_BYTES_MAX {
            return refuse(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        let new = join.member.is_empty() || group.pending.contains_key(&join.member);
        if new && group.members.len() + group.pending.len() >= GROUP_MEMBERS_MAX && !group.knows_instance(&join) {
            return refuse(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        if let Some(instance) = &join.instance
            && let Some(known) = group.instances.get(instance).cloned()
        {
            if join.member.is_empty() {
                self.replace_static(&join, &known, fresh_id, ticket, now);
                return Ok(());
            }
            if known != join.member {
                return refuse(ErrorCode::FENCED_INSTANCE_ID);
            }
        }
        if join.member.is_empty() {
            if join.member_id_required && join.instance.is_none() {
                let until = now + join.session_timeout;
                group.pending.insert(fresh_id.clone(), until);
                self.schedule_by(&join.group, until);
                return Err(Box::new(Joined::refused(ErrorCode::MEMBER_ID_REQUIRED, &fresh_id)));
            }
            self.add_member(join, fresh_id, ticket, now);
        } else if group.pending.remove(&join.member).is_some() {
            let id = join.member.clone();
            self.add_member(join, id, ticket, now);
        } else if group.members.contains_key(&join.member) {
            self.rejoin(join, ticket, now);
        } else {
            return refuse(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        Ok(())
    }

    fn add_member(&mut self, join: Join, id: String, ticket: Ticket, now: Instant) {
        let group = self.groups.get_mut(&join.group).expect("caller looked it up");
        let group_id = join.group.clone();
        group.protocol_type.get_or_insert_with(|| join.protocol_type.clone());
        if group.members.is_empty() {
            group.protocol_type = Some(join.protocol_type.clone());
        }
        if let Some(instance) = &join.instance {
            group.instances.insert(instance.clone(), id.clone());
        }
        group.joins += 1;
        let mut member = Member::new(join, id.clone(), group.joins, now);
        member.awaiting_join = Some(ticket);
        group.members.insert(id, member);
        self.prepare_rebalance(&group_id, now);
    }

    fn rejoin(&mut self, join: Join, ticket: Ticket, now: Instant) {
        let group = self.groups.get_mut(&join.group).expect("caller looked it up");
        let group_id = join.group.clone();
        let id = join.member.clone();
        let is_leader = group.leader.as_deref() == Some(&id);
        let member = group.members.get_mut(&id).expect("caller looked it up");
        let unchanged = member.protocols == join.protocols;
        member.update(join, now);
        match group.state {
            // The answer of the rebalance before was lost on the way: say it again.
            State::CompletingRebalance if unchanged => {
                let joined = group.joined_answer(&id);
                self.replies.push_back((ticket, Reply::Joined(joined)));
            }
            State::Stable if unchanged && !is_leader => {
                let joined = group.joined_answer(&id);
                self.replies.push_back((ticket, Reply::Joined(joined)));
            }
            State::PreparingRebalance => {
                group.await_join(&id, ticket, &mut self.replies);
                self.advance(&group_id, now);
            }
            State::CompletingRebalance | State::Stable | State::Empty => {
                group.await_join(&id, ticket, &mut self.replies);
                self.prepare_rebalance(&group_id, now);
            }
        }
    }

    /// A static member came back under a new member id: the old id is fenced; without a change of subscription
    /// nobody needs to rebalance (KIP-345).
    fn replace_static(&mut self, join: &Join, old_id: &str, new_id: String, ticket: Ticket, now: Instant) {
        let group = self.groups.get_mut(&join.group).expect("caller looked it up");
        let mut member = group.members.remove(old_id).expect("instances name members");
        member.answer_waiting(ErrorCode::FENCED_INSTANCE_ID, &mut self.replies);
        let unchanged = member.protocols == join.protocols;
        member.id.clone_from(&new_id);
        member.update(join.clone(), now);
        let was_leader = group.leader.as_deref() == Some(old_id);
        if was_leader {
            group.leader = Some(new_id.clone());
        }
        group.members.insert(new_id.clone(), member);
        group.instances.insert(join.instance.clone().expect("static"), new_id.clone());
        if group.state == State::Stable && unchanged {
            let mut joined = group.joined_answer(&new_id);
            // It must not compute a new assignment: it is told that somebody else leads.
            joined.members.clear();
            if was_leader {
                joined.leader = old_id.to_owned();
            }
            self.replies.push_back((ticket, Reply::Joined(joined)));
            let until = now + join.session_timeout;
            self.schedule_by(&join.group, until);
            return;
        }
        group.await_join(&new_id, ticket, &mut self.replies);
        match group.state {
            State::PreparingRebalance => self.advance(&join.group, now),
            _ => self.prepare_rebalance(&join.group, now),
        }
    }

    // --- sync ---------------------------------------------------------------------------------------------------

    fn try_sync(
        &mut self,
        caller: Caller<'_>,
        protocol_type: Option<&str>,
        protocol: Option<&str>,
        assignments: Vec<(String, Bytes)>,
        ticket: Ticket,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        let group = self.member_of(caller)?;
        let differs =
            |told: Option<&str>, ours: &Option<String>| told.is_some_and(|told| Some(told) != ours.as_deref());
        if differs(protocol_type, &group.protocol_type) || differs(protocol, &group.protocol) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        group.touch(caller.member, now);
        match group.state {
            State::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            State::PreparingRebalance => return Err(ErrorCode::REBALANCE_IN_PROGRESS),
            State::CompletingRebalance => {}
            State::Stable => {
                let synced = group.synced_answer(caller.member);
                self.replies.push_back((ticket, Reply::Synced(synced)));
                return Ok(());
            }
        }
        let is_leader = group.leader.as_deref() == Some(caller.member);
        let member = group.members.get_mut(caller.member).expect("member_of found it");
        member.synced = true;
        let replaced = member.awaiting_sync.replace(ticket);
        if is_leader {
            group.assign(assignments, now);
        }
        let ready: Vec<(Ticket, Synced)> = match is_leader {
            true => group.take_awaiting_syncs(),
            false => Vec::new(),
        };
        if let Some(ticket) = replaced {
            let again = Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS);
            self.replies.push_back((ticket, Reply::Synced(again)));
        }
        self.replies.extend(ready.into_iter().map(|(ticket, synced)| (ticket, Reply::Synced(synced))));
        Ok(())
    }

    // --- rebalance ----------------------------------------------------------------------------------------------

    fn prepare_rebalance(&mut self, group_id: &str, now: Instant) {
        let group = self.groups.get_mut(group_id).expect("caller looked it up");
        if group.state != State::PreparingRebalance {
            for member in group.members.values_mut() {
                if let Some(ticket) = member.awaiting_sync.take() {
                    let again = Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS);
                    self.replies.push_back((ticket, Reply::Synced(again)));
                    member.deadline = now + member.session_timeout;
                }
            }
            group.state = State::PreparingRebalance;
            group.deadline = Some(now + group.rebalance_timeout());
        }
        self.advance(group_id, now);
    }

    /// Completes the rebalance when everyone has joined; also keeps the schedule honest.
    fn advance(&mut self, group_id: &str, now: Instant) {
        let group = self.groups.get_mut(group_id).expect("caller looked it up");
        if group.state == State::PreparingRebalance && group.pending.is_empty() && group.everyone_joined() {
            group.complete_join(&mut self.replies, now);
        }
        self.schedule_exactly(group_id, now);
    }

    fn after_removal(&mut self, group_id: &str, now: Instant) {
        let group = self.groups.get_mut(group_id).expect("caller looked it up");
        match group.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(group_id, now),
            State::PreparingRebalance | State::Empty => self.advance(group_id, now),
        }
    }

    fn expire(&mut self, group_id: &str, now: Instant) {
        let group = self.groups.get_mut(group_id).expect("caller looked it up");
        group.pending.retain(|_, until| *until > now);
        let silent: Vec<String> = group
            .members
            .values()
            .filter(|member| !member.is_waiting() && member.deadline <= now)
            .map(|member| member.id.clone())
            .collect();
        let mut removed = !silent.is_empty();
        for id in &silent {
            group.remove(id, &mut self.replies);
        }
        let over = group.deadline.is_some_and(|at| at <= now);
        match group.state {
            State::PreparingRebalance if over => {
                // Who did not come back in time is out; static members keep their place until their session ends.
                let absent: Vec<String> = group
                    .members
                    .values()
                    .filter(|member| member.awaiting_join.is_none() && member.instance.is_none())
                    .map(|member| member.id.clone())
                    .collect();
                for id in &absent {
                    group.remove(id, &mut self.replies);
                }
                if group.members.is_empty() || group.members.values().any(|member| member.awaiting_join.is_some()) {
                    group.complete_join(&mut self.replies, now);
                } else {
                    group.deadline = Some(now + group.rebalance_timeout());
                }
            }
            State::CompletingRebalance if over => {
                let absent: Vec<String> =
                    group.members.values().filter(|member| !member.synced).map(|member| member.id.clone()).collect();
                for id in &absent {
                    group.remove(id, &mut self.replies);
                }
                group.deadline = None;
                removed |= !absent.is_empty();
            }
            _ => {}
        }
        if removed {
            self.after_removal(group_id, now);
        } else {
            self.advance(group_id, now);
        }
    }

    // --- helpers ------------------------------------------------------------------------------------------------

    fn member_of(&mut self, caller: Caller<'_>) -> Result<&mut Group, ErrorCode> {
        let group = self.groups.get_mut(caller.group).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if let Some(instance) = caller.instance {
            match group.instances.get(instance) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(known) if known != caller.member => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if !group.members.contains_key(caller.member) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if group.generation != caller.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(group)
    }

    fn fresh_member_id(&mut self, prefix: &str) -> String {
        let high = splitmix(&mut self.seed);
        let low = splitmix(&mut self.seed);
        format!("{prefix}-{high:016x}{low:016x}")
    }

    fn schedule_by(&mut self, group_id: &str, at: Instant) {
        let group = self.groups.get_mut(group_id).expect("caller looked it up");
        if group.scheduled.is_some_and(|scheduled| scheduled <= at) {
            return;
        }
        if let Some(scheduled) = group.scheduled.replace(at) {
            self.schedule.remove(&(scheduled, group_id.to_owned()));
        }
        self.schedule.insert((at, group_id.to_owned()));
    }

    fn schedule_exactly(&mut self, group_id: &str, now: Instant) {
        let group = self.groups.get_mut(group_id).expect("caller looked it up");
        if group.state == State::Empty && group.deadline.is_none() {
            group.deadline = Some(now + GROUP_EMPTY_KEEP);
        }
        let sessions = group.members.values().filter(|member| !member.is_waiting()).map(|member| member.deadline);
        let pending = group.pending.values().copied();
        let earliest = sessions.chain(pending).chain(group.deadline).min();
        if earliest == group.scheduled {
            return;
        }
        if let Some(scheduled) = group.scheduled.take() {
            self.schedule.remove(&(scheduled, group_id.to_owned()));
        }
        if let Some(at) = earliest {
            group.scheduled = Some(at);
            self.schedule.insert((at, group_id.to_owned()));
        }
    }
}

impl Group {
    fn new() -> Group {
        Group {
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            instances: HashMap::default(),
            pending: BTreeMap::new(),
            deadline: None,
            scheduled: None,
            joins: 0,
        }
    }

    /// Whether the joining member speaks the group's protocol type and one protocol with everybody.
    fn supports(&self, join: &Join) -> bool {
        let others: Vec<&Member> = self.members.values().filter(|member| member.id != join.member).collect();
        if others.is_empty() {
            return true;
        }
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && join.protocols.iter().any(|protocol| others.iter().all(|member| member.speaks(&protocol.name)))
    }

    fn knows_instance(&self, join: &Join) -> bool {
        join.instance.as_ref().is_some_and(|instance| self.instances.contains_key(instance))
    }

    fn touch(&mut self, member: &str, now: Instant) {
        if let Some(member) = self.members.get_mut(member) {
            // Only later than before, so the schedule stays honest without being touched.
            member.deadline = now + member.session_timeout;
        }
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    fn everyone_joined(&self) -> bool {
        self.members.values().all(|member| member.awaiting_join.is_some())
    }

    fn await_join(&mut self, id: &str, ticket: Ticket, replies: &mut VecDeque<(Ticket, Reply)>) {
        let member = self.members.get_mut(id).expect("caller looked it up");
        // Its earlier request came over a connection that is gone, or it would not ask again.
        member.answer_waiting(ErrorCode::REBALANCE_IN_PROGRESS, replies);
        member.awaiting_join = Some(ticket);
    }

    fn remove(&mut self, id: &str, replies: &mut VecDeque<(Ticket, Reply)>) {
        let Some(mut member) = self.members.remove(id) else { return };
        member.answer_waiting(ErrorCode::UNKNOWN_MEMBER_ID, replies);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
    }

    fn complete_join(&mut self, replies: &mut VecDeque<(Ticket, Reply)>, now: Instant) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.state = State::Empty;
            self.protocol = None;
            self.leader = None;
            self.deadline = Some(now + GROUP_EMPTY_KEEP);
            return;
        }
        self.state = State::CompletingRebalance;
        self.deadline = Some(now + self.rebalance_timeout());
        self.protocol = Some(self.choose_protocol());
        let leader_joined =
            self.leader.as_ref().and_then(|id| self.members.get(id)).is_some_and(|m| m.awaiting_join.is_some());
        if !leader_joined {
            let first = self.members.values().filter(|member| member.awaiting_join.is_some()).min_by_key(|m| m.joined);
            self.leader = first.or(self.members.values().next()).map(|member| member.id.clone());
        }
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("listed above");
            member.assignment = Bytes::new();
            member.synced = false;
            member.deadline = now + member.session_timeout;
            if let Some(ticket) = member.awaiting_join.take() {
                replies.push_back((ticket, Reply::Joined(self.joined_answer(&id))));
            }
        }
    }

    /// The protocol most members prefer, of those all members speak.
    fn choose_protocol(&self) -> String {
        let common = |name: &str| self.members.values().all(|member| member.speaks(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(first) = member.protocols.iter().find(|protocol| common(&protocol.name)) {
                *votes.entry(&first.name).or_default() += 1;
            }
        }
        let best = votes.into_iter().max_by_key(|(_, count)| *count);
        best.map(|(name, _)| name.to_owned()).expect("`supports` lets only members with a common protocol in")
    }

    fn joined_answer(&self, id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = match leader == id {
            false => Vec::new(),
            true => self
                .members
                .values()
                .map(|member| (member.id.clone(), member.instance.clone(), member.metadata(&protocol)))
                .collect(),
        };
        Joined {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: Some(protocol),
            leader,
            member: id.to_owned(),
            members,
        }
    }

    fn synced_answer(&self, id: &str) -> Synced {
        Synced {
            error: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    /// The leader has spoken: members it did not name get nothing.
    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now: Instant) {
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = assignment;
            }
        }
        for member in self.members.values_mut() {
            member.deadline = now + member.session_timeout;
        }
        self.state = State::Stable;
        self.deadline = None;
    }

    fn take_awaiting_syncs(&mut self) -> Vec<(Ticket, Synced)> {
        let waiting: Vec<(String, Ticket)> = self
            .members
            .values_mut()
            .filter_map(|member| Some((member.id.clone(), member.awaiting_sync.take()?)))
            .collect();
        waiting.into_iter().map(|(id, ticket)| (ticket, self.synced_answer(&id))).collect()
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
