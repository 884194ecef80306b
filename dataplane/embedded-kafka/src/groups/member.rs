//! One member of a group: who it is, what it speaks, what it waits for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_wire::error_code::ErrorCode;

use crate::groups::{JoinGroup, Joined, Replies, Reply, Synced, Ticket};

/// An assignment strategy a member offers, with its subscription in that strategy's format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

/// What the broker keeps of a member's subscriptions, names included.
pub fn metadata_bytes(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len()).sum()
}

pub struct Member {
    pub id: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout: Duration,
    pub rebalance_timeout: Duration,
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    pub awaiting_join: Option<Ticket>,
    pub awaiting_sync: Option<Ticket>,
    /// Has asked for its assignment in this generation.
    pub synced: bool,
    /// Dead when silent until then; does not count while it waits for us.
    pub deadline: Instant,
    /// Position in the order of joining.
    pub joined: u64,
}

impl Member {
    pub fn new(join: JoinGroup, id: String, joined: u64, now: Instant) -> Member {
        Member {
            id,
            instance: join.instance,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols,
            assignment: Bytes::new(),
            awaiting_join: None,
            awaiting_sync: None,
            synced: false,
            deadline: now + join.session_timeout,
            joined,
        }
    }

    pub fn update(&mut self, join: JoinGroup, now: Instant) {
        self.protocols = join.protocols;
        self.session_timeout = join.session_timeout;
        self.rebalance_timeout = join.rebalance_timeout;
        self.client_id = join.client_id;
        self.client_host = join.client_host;
        self.deadline = now + self.session_timeout;
    }

    pub fn speaks(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|own| own.name == protocol)
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|own| own.name == protocol).map(|own| own.metadata.clone()).unwrap_or_default()
    }

    /// While the broker owes it an answer, silence is our fault.
    pub fn is_waiting(&self) -> bool {
        self.awaiting_join.is_some() || self.awaiting_sync.is_some()
    }

    /// Ends whatever it waits for with an error.
    pub fn answer_waiting(&mut self, error: ErrorCode, replies: &mut Replies) {
        if let Some(ticket) = self.awaiting_join.take() {
            replies.push_back((ticket, Reply::Joined(Joined::refused(error, &self.id))));
        }
        if let Some(ticket) = self.awaiting_sync.take() {
            replies.push_back((ticket, Reply::Synced(Synced::refused(error))));
        }
    }
}
