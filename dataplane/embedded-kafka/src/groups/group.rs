//! One group: its members, its generation, and the rebalance that leads from one to the next (drawn in `mod.rs`).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::HashMap;
use kafka_wire::error_code::ErrorCode;

use crate::groups::member::{Member, metadata_bytes};
use crate::groups::{
    Caller, Described, DescribedMember, GroupState, JoinGroup, Joined, Replies, Reply, SyncGroup, Synced, Ticket,
};
use crate::limits::{GROUP_EMPTY_KEEP, GROUP_MEMBERS_MAX, GROUP_METADATA_BYTES_MAX};

pub struct Group {
    state: GroupState,
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
    /// Empty: when the group is forgotten; none while somebody is expected.
    deadline: Option<Instant>,
    /// Where it stands in the coordinator's schedule.
    pub scheduled: Option<Instant>,
    /// Order of joining, for choosing the leader.
    joins: u64,
}

/// How somebody who joins stands to the group.
pub enum Arrival {
    New,
    /// New, and first to be told its id (KIP-394).
    Unnamed,
    /// Was told its id.
    Expected,
    Member,
    /// A static member without its member id; who has that one is fenced (KIP-345).
    Replaces(String),
}

impl Group {
    pub fn new() -> Group {
        Group {
            state: GroupState::Empty,
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

    pub fn state(&self) -> GroupState {
        self.state
    }

    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    pub fn has_members(&self) -> bool {
        !self.members.is_empty() || !self.pending.is_empty()
    }

    pub fn describe(&self) -> Described {
        let stable = self.state == GroupState::Stable;
        let protocol = if stable { self.protocol.clone().unwrap_or_default() } else { String::new() };
        let members = self.members.values().map(|member| DescribedMember {
            member: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: if stable { member.metadata(&protocol) } else { Bytes::new() },
            assignment: if stable { member.assignment.clone() } else { Bytes::new() },
        });
        let (members, protocol_type) = (members.collect(), self.protocol_type().to_owned());
        Described { state: self.state, protocol_type, protocol, members }
    }

    // --- requests of members ------------------------------------------------------------------------------------

    pub fn heartbeat(&mut self, caller: Caller<'_>, now: Instant) -> ErrorCode {
        if let Err(error) = self.check_member(caller) {
            return error;
        }
        self.touch(caller.member, now);
        match self.state {
            GroupState::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            GroupState::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            GroupState::CompletingRebalance | GroupState::Stable => ErrorCode::NONE,
        }
    }

    pub fn may_commit(&mut self, caller: Caller<'_>, now: Instant) -> Result<(), ErrorCode> {
        let simple = caller.generation < 0 && caller.member.is_empty() && caller.instance.is_none();
        if self.state == GroupState::Empty && simple {
            return Ok(());
        }
        self.check_member(caller)?;
        self.touch(caller.member, now);
        match self.state {
            GroupState::CompletingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            _ => Ok(()),
        }
    }

    pub fn leave(
        &mut self,
        member: &str,
        instance: Option<&str>,
        now: Instant,
        replies: &mut Replies,
    ) -> Result<(), ErrorCode> {
        let member = match instance.map(|instance| self.instances.get(instance)) {
            None => member.to_owned(),
            Some(None) => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(Some(known)) if !member.is_empty() && known != member => return Err(ErrorCode::FENCED_INSTANCE_ID),
            Some(Some(known)) => known.clone(),
        };
        if self.pending.remove(&member).is_some() {
            self.advance(now, replies);
            return Ok(());
        }
        if !self.members.contains_key(&member) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        self.remove(&member, replies);
        self.after_removal(now, replies);
        Ok(())
    }

    /// Whether this is a member of this generation.
    fn check_member(&self, caller: Caller<'_>) -> Result<(), ErrorCode> {
        match caller.instance.map(|instance| self.instances.get(instance)) {
            Some(None) => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            Some(Some(known)) if known != caller.member => return Err(ErrorCode::FENCED_INSTANCE_ID),
            Some(Some(_)) | None => {}
        }
        if !self.members.contains_key(caller.member) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if self.generation != caller.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        Ok(())
    }

    fn touch(&mut self, member: &str, now: Instant) {
        if let Some(member) = self.members.get_mut(member) {
            // Only later than before, so the schedule stays honest without being touched.
            member.deadline = now + member.session_timeout;
        }
    }

    // --- join ---------------------------------------------------------------------------------------------------

    /// Whether there is room for who wants to join, and who that is.
    pub fn admit(&self, join: &JoinGroup) -> Result<Arrival, ErrorCode> {
        if !self.supports(join) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        self.check_room(join)?;
        self.arrival(join)
    }

    /// Lets somebody in who was admitted. A new member becomes `fresh_id`.
    pub fn join(
        &mut self,
        arrival: Arrival,
        join: JoinGroup,
        fresh_id: String,
        ticket: Ticket,
        now: Instant,
        replies: &mut Replies,
    ) {
        match arrival {
            Arrival::New => self.add_member(join, fresh_id, ticket, now, replies),
            Arrival::Unnamed => {
                let told = Joined::refused(ErrorCode::MEMBER_ID_REQUIRED, &fresh_id);
                self.pending.insert(fresh_id, now + join.session_timeout);
                replies.push_back((ticket, Reply::Joined(told)));
            }
            Arrival::Expected => {
                let id = join.member.clone();
                self.pending.remove(&id);
                self.add_member(join, id, ticket, now, replies);
            }
            Arrival::Member => self.rejoin(join, ticket, now, replies),
            Arrival::Replaces(old_id) => self.replace_static(join, &old_id, fresh_id, ticket, now, replies),
        }
    }

    /// Whether the joining member speaks the group's protocol type and one protocol with everybody.
    fn supports(&self, join: &JoinGroup) -> bool {
        let others: Vec<&Member> = self.members.values().filter(|member| member.id != join.member).collect();
        if others.is_empty() {
            return true;
        }
        self.protocol_type() == join.protocol_type
            && join.protocols.iter().any(|protocol| others.iter().all(|member| member.speaks(&protocol.name)))
    }

    fn check_room(&self, join: &JoinGroup) -> Result<(), ErrorCode> {
        let others = self.members.values().filter(|member| member.id != join.member);
        let others_bytes: usize = others.map(|member| metadata_bytes(&member.protocols)).sum();
        if others_bytes + metadata_bytes(&join.protocols) > GROUP_METADATA_BYTES_MAX {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        let is_new = join.member.is_empty() || self.pending.contains_key(&join.member);
        let is_known = join.instance.as_ref().is_some_and(|instance| self.instances.contains_key(instance));
        if is_new && !is_known && self.members.len() + self.pending.len() >= GROUP_MEMBERS_MAX {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        Ok(())
    }

    fn arrival(&self, join: &JoinGroup) -> Result<Arrival, ErrorCode> {
        let of_instance = join.instance.as_ref().and_then(|instance| self.instances.get(instance));
        match of_instance {
            Some(known) if join.member.is_empty() => Ok(Arrival::Replaces(known.clone())),
            Some(known) if *known != join.member => Err(ErrorCode::FENCED_INSTANCE_ID),
            _ if join.member.is_empty() && join.member_id_required && join.instance.is_none() => Ok(Arrival::Unnamed),
            _ if join.member.is_empty() => Ok(Arrival::New),
            _ if self.pending.contains_key(&join.member) => Ok(Arrival::Expected),
            _ if self.members.contains_key(&join.member) => Ok(Arrival::Member),
            _ => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        }
    }

    fn add_member(&mut self, join: JoinGroup, id: String, ticket: Ticket, now: Instant, replies: &mut Replies) {
        if self.members.is_empty() || self.protocol_type.is_none() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if let Some(instance) = &join.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.joins += 1;
        let mut member = Member::new(join, id.clone(), self.joins, now);
        member.awaiting_join = Some(ticket);
        self.members.insert(id, member);
        self.prepare_rebalance(now, replies);
    }

    fn rejoin(&mut self, join: JoinGroup, ticket: Ticket, now: Instant, replies: &mut Replies) {
        let id = join.member.clone();
        let is_leader = self.leader.as_deref() == Some(&id);
        let member = self.members.get_mut(&id).expect("a member");
        let unchanged = member.protocols == join.protocols;
        member.update(join, now);
        let knows_all = match self.state {
            // The answer of the rebalance before was lost on the way: say it again.
            GroupState::CompletingRebalance => unchanged,
            GroupState::Stable => unchanged && !is_leader,
            GroupState::PreparingRebalance | GroupState::Empty => false,
        };
        if knows_all {
            replies.push_back((ticket, Reply::Joined(self.joined_answer(&id))));
            return;
        }
        self.await_join(&id, ticket, replies);
        self.prepare_rebalance(now, replies);
    }

    /// A static member came back under a new member id: the old id is fenced; without a change of subscription
    /// nobody needs to rebalance (KIP-345).
    fn replace_static(
        &mut self,
        join: JoinGroup,
        old_id: &str,
        new_id: String,
        ticket: Ticket,
        now: Instant,
        replies: &mut Replies,
    ) {
        let mut member = self.members.remove(old_id).expect("instances name members");
        member.answer_waiting(ErrorCode::FENCED_INSTANCE_ID, replies);
        let unchanged = member.protocols == join.protocols;
        member.id.clone_from(&new_id);
        let instance = join.instance.clone().expect("static");
        member.update(join, now);
        let was_leader = self.leader.as_deref() == Some(old_id);
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        self.members.insert(new_id.clone(), member);
        self.instances.insert(instance, new_id.clone());
        if self.state == GroupState::Stable && unchanged {
            let mut joined = self.joined_answer(&new_id);
            // It must not compute a new assignment: it is told that somebody else leads.
            joined.members.clear();
            if was_leader {
                joined.leader = old_id.to_owned();
            }
            replies.push_back((ticket, Reply::Joined(joined)));
            return;
        }
        self.await_join(&new_id, ticket, replies);
        self.prepare_rebalance(now, replies);
    }

    fn await_join(&mut self, id: &str, ticket: Ticket, replies: &mut Replies) {
        let member = self.members.get_mut(id).expect("caller looked it up");
        // Its earlier request came over a connection that is gone, or it would not ask again.
        member.answer_waiting(ErrorCode::REBALANCE_IN_PROGRESS, replies);
        member.awaiting_join = Some(ticket);
    }

    // --- sync ---------------------------------------------------------------------------------------------------

    pub fn sync(
        &mut self,
        sync: SyncGroup,
        ticket: Ticket,
        now: Instant,
        replies: &mut Replies,
    ) -> Result<(), ErrorCode> {
        self.check_member(sync.caller())?;
        let differs = |told: &Option<String>, ours: &Option<String>| told.is_some() && told != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol, &self.protocol) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        self.touch(&sync.member, now);
        match self.state {
            GroupState::Empty => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
            GroupState::PreparingRebalance => return Err(ErrorCode::REBALANCE_IN_PROGRESS),
            GroupState::CompletingRebalance => self.await_sync(&sync.member, ticket, replies),
            GroupState::Stable => {
                replies.push_back((ticket, Reply::Synced(self.synced_answer(&sync.member))));
                return Ok(());
            }
        }
        if self.leader.as_deref() == Some(&sync.member) {
            self.assign(sync.assignments, now);
            self.answer_syncs(replies);
        }
        Ok(())
    }

    fn await_sync(&mut self, id: &str, ticket: Ticket, replies: &mut Replies) {
        let member = self.members.get_mut(id).expect("caller looked it up");
        member.synced = true;
        if let Some(replaced) = member.awaiting_sync.replace(ticket) {
            let again = Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS);
            replies.push_back((replaced, Reply::Synced(again)));
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
        self.state = GroupState::Stable;
        self.deadline = None;
    }

    fn answer_syncs(&mut self, replies: &mut Replies) {
        let waiting = self.members.values_mut();
        let waiting: Vec<(String, Ticket)> =
            waiting.filter_map(|member| Some((member.id.clone(), member.awaiting_sync.take()?))).collect();
        replies.extend(waiting.into_iter().map(|(id, ticket)| (ticket, Reply::Synced(self.synced_answer(&id)))));
    }

    // --- rebalance ----------------------------------------------------------------------------------------------

    /// Everybody has to join again.
    fn prepare_rebalance(&mut self, now: Instant, replies: &mut Replies) {
        if self.state != GroupState::PreparingRebalance {
            for member in self.members.values_mut() {
                if let Some(ticket) = member.awaiting_sync.take() {
                    let again = Synced::refused(ErrorCode::REBALANCE_IN_PROGRESS);
                    replies.push_back((ticket, Reply::Synced(again)));
                    member.deadline = now + member.session_timeout;
                }
            }
            self.state = GroupState::PreparingRebalance;
            self.deadline = Some(now + self.rebalance_timeout());
        }
        self.advance(now, replies);
    }

    /// Completes the rebalance when everyone has joined.
    fn advance(&mut self, now: Instant, replies: &mut Replies) {
        let everyone_joined = self.members.values().all(|member| member.awaiting_join.is_some());
        if self.state == GroupState::PreparingRebalance && self.pending.is_empty() && everyone_joined {
            self.complete_join(now, replies);
        }
    }

    fn complete_join(&mut self, now: Instant, replies: &mut Replies) {
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.state = GroupState::Empty;
            self.protocol = None;
            self.leader = None;
            self.deadline = None;
            return;
        }
        self.state = GroupState::CompletingRebalance;
        self.deadline = Some(now + self.rebalance_timeout());
        self.protocol = Some(self.choose_protocol());
        self.leader = Some(self.choose_leader());
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

    /// Who led before if it is here, else who joined first.
    fn choose_leader(&self) -> String {
        let joined = |member: &&Member| member.awaiting_join.is_some();
        let before = self.leader.as_ref().and_then(|id| self.members.get(id)).filter(joined);
        let first = || self.members.values().filter(joined).min_by_key(|member| member.joined);
        let leader = before.or_else(first).or_else(|| self.members.values().next());
        leader.map(|member| member.id.clone()).expect("a group that completes a rebalance has members")
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    // --- members go ---------------------------------------------------------------------------------------------

    fn remove(&mut self, id: &str, replies: &mut Replies) {
        let Some(mut member) = self.members.remove(id) else { return };
        member.answer_waiting(ErrorCode::UNKNOWN_MEMBER_ID, replies);
        if let Some(instance) = &member.instance {
            self.instances.remove(instance);
        }
    }

    /// Whether somebody was removed.
    fn remove_where(&mut self, is_out: impl Fn(&Member) -> bool, replies: &mut Replies) -> bool {
        let out = self.members.values().filter(|member| is_out(member));
        let out: Vec<String> = out.map(|member| member.id.clone()).collect();
        out.iter().for_each(|id| self.remove(id, replies));
        !out.is_empty()
    }

    fn after_removal(&mut self, now: Instant, replies: &mut Replies) {
        match self.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(now, replies),
            GroupState::PreparingRebalance | GroupState::Empty => self.advance(now, replies),
        }
    }

    // --- time ---------------------------------------------------------------------------------------------------

    /// When something of this group is over; it must be asked again after every change.
    pub fn next_deadline(&mut self, now: Instant) -> Option<Instant> {
        if self.state == GroupState::Empty {
            // Forgotten some time after the last one went, but not while somebody is about to join.
            self.deadline = match self.pending.is_empty() {
                true => self.deadline.or(Some(now + GROUP_EMPTY_KEEP)),
                false => None,
            };
        }
        let sessions = self.members.values().filter(|member| !member.is_waiting()).map(|member| member.deadline);
        let pending = self.pending.values().copied();
        sessions.chain(pending).chain(self.deadline).min()
    }

    /// Whether it was empty for so long that nobody asks for it.
    pub fn is_forgotten(&self, now: Instant) -> bool {
        self.state == GroupState::Empty && self.pending.is_empty() && self.is_over(now)
    }

    /// Ends what is over.
    pub fn expire(&mut self, now: Instant, replies: &mut Replies) {
        self.pending.retain(|_, until| *until > now);
        let mut removed = self.remove_where(|member| !member.is_waiting() && member.deadline <= now, replies);
        match self.state {
            GroupState::PreparingRebalance if self.is_over(now) => self.end_joining(now, replies),
            GroupState::CompletingRebalance if self.is_over(now) => {
                self.deadline = None;
                removed |= self.remove_where(|member| !member.synced, replies);
            }
            _ => {}
        }
        match removed {
            true => self.after_removal(now, replies),
            false => self.advance(now, replies),
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|at| at <= now)
    }

    /// Who did not come back in time is out; static members keep their place until their session ends.
    fn end_joining(&mut self, now: Instant, replies: &mut Replies) {
        self.remove_where(|member| member.awaiting_join.is_none() && member.instance.is_none(), replies);
        if self.members.is_empty() || self.members.values().any(|member| member.awaiting_join.is_some()) {
            self.complete_join(now, replies);
        } else {
            self.deadline = Some(now + self.rebalance_timeout());
        }
    }

    // --- answers ------------------------------------------------------------------------------------------------

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
}
