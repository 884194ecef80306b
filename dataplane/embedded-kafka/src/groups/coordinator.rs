//! All groups of the broker: who is asked about which, and when each wants to be asked again.

use std::collections::BTreeSet;
use std::time::Instant;

use foldhash::HashMap;
use kafka_wire::error_code::ErrorCode;

use crate::groups::group::Group;
use crate::groups::member::metadata_bytes;
use crate::groups::{Caller, Described, GroupState, JoinGroup, Joined, Replies, Reply, SyncGroup, Synced, Ticket};
use crate::limits::{
    GROUP_ID_BYTES_MAX, GROUPS_MAX, INSTANCE_ID_BYTES_MAX, MEMBER_METADATA_BYTES_MAX, SESSION_TIMEOUT_MAX,
    SESSION_TIMEOUT_MIN,
};

/// The coordinator.
pub struct Groups {
    groups: HashMap<String, Group>,
    schedule: BTreeSet<(Instant, String)>,
    replies: Replies,
    seed: u64,
}

impl Groups {
    /// `seed` makes member ids unique among restarts.
    pub fn new(seed: u64) -> Groups {
        Groups { groups: HashMap::default(), schedule: BTreeSet::new(), replies: Replies::new(), seed }
    }

    /// Handles a JoinGroup; the answer comes out of `poll_reply`, now or later.
    pub fn join(&mut self, join: JoinGroup, ticket: Ticket, now: Instant) {
        let member = join.member.clone();
        if let Err(error) = self.try_join(join, ticket, now) {
            self.replies.push_back((ticket, Reply::Joined(Joined::refused(error, &member))));
        }
    }

    /// Handles a SyncGroup; the answer comes out of `poll_reply`, now or later.
    pub fn sync(&mut self, sync: SyncGroup, ticket: Ticket, now: Instant) {
        let group_id = sync.group.clone();
        let synced = match self.groups.get_mut(&group_id) {
            Some(group) => group.sync(sync, ticket, now, &mut self.replies),
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        };
        match synced {
            // Sessions of those who were answered count again.
            Ok(()) => self.reschedule(&group_id, now),
            Err(error) => self.replies.push_back((ticket, Reply::Synced(Synced::refused(error)))),
        }
    }

    /// Handles a Heartbeat.
    pub fn heartbeat(&mut self, caller: Caller<'_>, now: Instant) -> ErrorCode {
        match self.groups.get_mut(caller.group) {
            Some(group) => group.heartbeat(caller, now),
            None => ErrorCode::UNKNOWN_MEMBER_ID,
        }
    }

    /// Whether a commit from this caller is taken; counts as a heartbeat.
    pub fn may_commit(&mut self, caller: Caller<'_>, now: Instant) -> Result<(), ErrorCode> {
        if caller.group.len() > GROUP_ID_BYTES_MAX {
            return Err(ErrorCode::INVALID_GROUP_ID);
        }
        match self.groups.get_mut(caller.group) {
            // Somebody who assigns partitions by hand, or a tool: allowed while nobody is a member.
            None if caller.generation < 0 => Ok(()),
            None => Err(ErrorCode::ILLEGAL_GENERATION),
            Some(group) => group.may_commit(caller, now),
        }
    }

    /// Handles one member of a LeaveGroup.
    pub fn leave(&mut self, group_id: &str, member: &str, instance: Option<&str>, now: Instant) -> ErrorCode {
        let Some(group) = self.groups.get_mut(group_id) else { return ErrorCode::UNKNOWN_MEMBER_ID };
        match group.leave(member, instance, now, &mut self.replies) {
            Ok(()) => {
                self.reschedule(group_id, now);
                ErrorCode::NONE
            }
            Err(error) => error,
        }
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
            if group.is_forgotten(now) {
                self.groups.remove(&group_id);
                continue;
            }
            group.expire(now, &mut self.replies);
            self.reschedule(&group_id, now);
        }
    }

    /// Ids of groups with or lately with members, and their state and protocol type.
    pub fn list(&self) -> impl Iterator<Item = (&str, GroupState, &str)> {
        self.groups.iter().map(|(id, group)| (id.as_str(), group.state(), group.protocol_type()))
    }

    /// Whether somebody is in this group, or about to be.
    pub fn has_members(&self, group_id: &str) -> bool {
        self.groups.get(group_id).is_some_and(Group::has_members)
    }

    /// What DescribeGroups says of one group.
    pub fn describe(&self, group_id: &str) -> Option<Described> {
        self.groups.get(group_id).map(Group::describe)
    }

    /// Forgets a group without members. False: it has some.
    pub fn delete(&mut self, group_id: &str) -> bool {
        let deletable = self.groups.get(group_id).is_none_or(|group| group.state() == GroupState::Empty);
        if deletable
            && let Some(group) = self.groups.remove(group_id)
            && let Some(scheduled) = group.scheduled
        {
            self.schedule.remove(&(scheduled, group_id.to_owned()));
        }
        deletable
    }

    fn try_join(&mut self, join: JoinGroup, ticket: Ticket, now: Instant) -> Result<(), ErrorCode> {
        check(&join)?;
        self.find_or_make(&join)?;
        let fresh_id = self.fresh_member_id(join.instance.as_deref().unwrap_or(&join.client_id));
        let group_id = join.group.clone();
        let group = self.groups.get_mut(&group_id).expect("found or made above");
        let arrival = group.admit(&join)?;
        group.join(arrival, join, fresh_id, ticket, now, &mut self.replies);
        self.reschedule(&group_id, now);
        Ok(())
    }

    /// Only somebody new makes a group.
    fn find_or_make(&mut self, join: &JoinGroup) -> Result<(), ErrorCode> {
        if self.groups.contains_key(&join.group) {
            return Ok(());
        }
        if !join.member.is_empty() {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if self.groups.len() >= GROUPS_MAX {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
        }
        self.groups.insert(join.group.clone(), Group::new());
        Ok(())
    }

    fn fresh_member_id(&mut self, prefix: &str) -> String {
        let high = splitmix(&mut self.seed);
        let low = splitmix(&mut self.seed);
        format!("{prefix}-{high:016x}{low:016x}")
    }

    /// The group is looked at when its next deadline comes.
    fn reschedule(&mut self, group_id: &str, now: Instant) {
        let group = self.groups.get_mut(group_id).expect("caller looked it up");
        let earliest = group.next_deadline(now);
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

/// What is refused whatever the group is.
fn check(join: &JoinGroup) -> Result<(), ErrorCode> {
    if join.group.is_empty() || join.group.len() > GROUP_ID_BYTES_MAX {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    if !(SESSION_TIMEOUT_MIN..=SESSION_TIMEOUT_MAX).contains(&join.session_timeout) {
        return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
    }
    if join.protocols.is_empty() || join.protocol_type.is_empty() {
        return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    let instance_bytes = join.instance.as_ref().map_or(0, String::len);
    if metadata_bytes(&join.protocols) > MEMBER_METADATA_BYTES_MAX || instance_bytes > INSTANCE_ID_BYTES_MAX {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    Ok(())
}

pub(super) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
