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
//! - A group's entry in the schedule is never later than its earliest deadline.
//!
//! `coordinator.rs` finds the group and keeps the schedule, `group.rs` is the state machine above, `member.rs` one member.

mod coordinator;
mod group;
mod member;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use kafka_wire::error_code::ErrorCode;

pub use coordinator::Groups;
pub use member::Protocol;

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
pub struct JoinGroup {
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

/// A SyncGroup request.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    pub group: String,
    pub generation: i32,
    pub member: String,
    pub instance: Option<String>,
    /// What the member believes the group agreed on, if it says so.
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// From the leader: (member, assignment).
    pub assignments: Vec<(String, Bytes)>,
}

impl SyncGroup {
    fn caller(&self) -> Caller<'_> {
        Caller {
            group: &self.group,
            generation: self.generation,
            member: &self.member,
            instance: self.instance.as_deref(),
        }
    }
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

/// Answers and whose they are, in order.
type Replies = VecDeque<(Ticket, Reply)>;

/// Kafka's state names, as DescribeGroups and ListGroups say them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl GroupState {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
        }
    }
}

/// A group as DescribeGroups shows it.
#[derive(Clone, Debug)]
pub struct Described {
    pub state: GroupState,
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
