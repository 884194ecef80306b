//! Requests of users that are not Produce: where they go, until when, and who gets the answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use kafka_wire::api_key::ApiKey;
use kafka_wire::cold::RequestKind;

use crate::types::{Asker, ConnId, Lane, Request, RequestToken, Target};

/// [`Target`] with its own strings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Destination {
    Any,
    Controller,
    Broker(i32),
    Coordinator(String),
}

impl From<Target<'_>> for Destination {
    fn from(target: Target<'_>) -> Destination {
        match target {
            Target::Any => Destination::Any,
            Target::Controller => Destination::Controller,
            Target::Broker(node) => Destination::Broker(node),
            Target::Coordinator(group) => Destination::Coordinator(group.to_owned()),
        }
    }
}

/// Not sent yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub token: RequestToken,
    pub destination: Destination,
    pub lane: Lane,
    pub request: Request,
    pub timeout: Duration,
    pub deadline: Instant,
    /// Metadata answers seen when it was made: an unknown broker is believed only after a newer one.
    pub generation: u64,
}

/// Sent; the answer comes on `conn`.
#[derive(Debug)]
pub(crate) struct Sent {
    pub conn: ConnId,
    pub deadline: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub waiting: VecDeque<Waiting>,
    pub sent: foldhash::HashMap<RequestToken, Sent>,
    token_next: u64,
    /// Who makes the requests of now.
    pub asker: Asker,
}

impl Requests {
    pub fn next_token(&mut self) -> RequestToken {
        self.token_next += 1;
        RequestToken::new(self.asker, self.token_next)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|request| request.deadline);
        waiting.chain(self.sent.values().map(|sent| sent.deadline)).min()
    }
}

/// The API of a request a user may send; None for what this client sends itself or does not speak.
pub(crate) fn api_of(request: &RequestKind) -> Option<ApiKey> {
    Some(match request {
        RequestKind::ListOffsets(_) => ApiKey::ListOffsets,
        RequestKind::Metadata(_) => ApiKey::Metadata,
        RequestKind::OffsetCommit(_) => ApiKey::OffsetCommit,
        RequestKind::OffsetFetch(_) => ApiKey::OffsetFetch,
        RequestKind::FindCoordinator(_) => ApiKey::FindCoordinator,
        RequestKind::JoinGroup(_) => ApiKey::JoinGroup,
        RequestKind::SyncGroup(_) => ApiKey::SyncGroup,
        RequestKind::Heartbeat(_) => ApiKey::Heartbeat,
        RequestKind::LeaveGroup(_) => ApiKey::LeaveGroup,
        RequestKind::CreateTopics(_) => ApiKey::CreateTopics,
        RequestKind::DeleteTopics(_) => ApiKey::DeleteTopics,
        RequestKind::CreatePartitions(_) => ApiKey::CreatePartitions,
        RequestKind::InitProducerId(_) => ApiKey::InitProducerId,
        RequestKind::DescribeConfigs(_) => ApiKey::DescribeConfigs,
        RequestKind::IncrementalAlterConfigs(_) => ApiKey::IncrementalAlterConfigs,
        RequestKind::DescribeGroups(_) => ApiKey::DescribeGroups,
        RequestKind::ListGroups(_) => ApiKey::ListGroups,
        RequestKind::DeleteGroups(_) => ApiKey::DeleteGroups,
        RequestKind::DescribeCluster(_) => ApiKey::DescribeCluster,
        RequestKind::DeleteRecords(_) => ApiKey::DeleteRecords,
        _ => return None,
    })
}
