//! What happens to each Kafka API: the one list, from which ApiVersions answers are cut down, responses find their
//! rewriter, and the operators' page is printed.
//!
//! Versions end where this list was last compared with Kafka's own message definitions (4.4). A newer one might carry
//! an address we do not know of, so it is not advertised, and a request of it ends its connection.
//! `cargo xtask test every_address_of_kafkas_messages` reads those definitions and fails when a host appears elsewhere.

use kafka_wire::ApiKey;

/// What is done with the response of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Its bytes pass as they are.
    Passes,
    /// Read whole, and written with the addresses clients may know.
    Rewritten(Rewriter),
    /// Passes while it arrives; the addresses in it are made unreadable in place (clients ask for metadata instead).
    Elided(Elided),
}

/// Which file of `rewrite/` knows the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewriter {
    ApiVersions,
    DescribeCluster,
    DescribeQuorum,
    DescribeTopicPartitions,
    FindCoordinator,
    Metadata,
    Produce,
    ShareAcknowledge,
}

/// A message with records and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elided {
    Fetch,
    ShareFetch,
}

/// One API.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    pub key: ApiKey,
    /// Newest version that was looked at; −1: never offered.
    pub version_max: i16,
    /// First version whose response is not simply passed on.
    pub handled_from: i16,
    pub handled: Answer,
    /// For the operators' page.
    pub note: &'static str,
}

impl Api {
    /// What is done with a response of this version.
    pub fn answer(&self, version: i16) -> Answer {
        if version >= self.handled_from { self.handled } else { Answer::Passes }
    }

    /// Whether clients are told of it at all.
    pub fn is_offered(&self) -> bool {
        self.version_max >= 0
    }
}

/// Passed on unread.
const fn passes(key: ApiKey, version_max: i16) -> Api {
    Api { key, version_max, handled_from: 0, handled: Answer::Passes, note: "passed on unread" }
}

/// Between brokers and controllers, with addresses clients have no use for.
const fn internal(key: ApiKey) -> Api {
    let note = "not offered: only brokers and controllers speak it";
    Api { key, version_max: -1, handled_from: 0, handled: Answer::Passes, note }
}

const fn rewritten(key: ApiKey, version_max: i16, rewriter: Rewriter, note: &'static str) -> Api {
    Api { key, version_max, handled_from: 0, handled: Answer::Rewritten(rewriter), note }
}

impl Api {
    const fn from(mut self, version: i16) -> Api {
        self.handled_from = version;
        self
    }
}

/// Every API by its key, without gaps.
pub const APIS: &[Api] = &[
    rewritten(ApiKey::Produce, 13, Rewriter::Produce, "addresses of new leaders replaced, from version 10").from(10),
    Api {
        key: ApiKey::Fetch,
        version_max: 18,
        handled_from: 16,
        handled: Answer::Elided(Elided::Fetch),
        note: "addresses of new leaders hidden while it streams, from version 16; clients ask for metadata",
    },
    passes(ApiKey::ListOffsets, 11),
    rewritten(ApiKey::Metadata, 13, Rewriter::Metadata, "addresses replaced; brokers outside the range lead nothing"),
    internal(ApiKey::LeaderAndIsr),
    internal(ApiKey::StopReplica),
    internal(ApiKey::UpdateMetadata),
    internal(ApiKey::ControlledShutdown),
    passes(ApiKey::OffsetCommit, 10),
    passes(ApiKey::OffsetFetch, 10),
    rewritten(ApiKey::FindCoordinator, 6, Rewriter::FindCoordinator, "addresses replaced"),
    passes(ApiKey::JoinGroup, 9),
    passes(ApiKey::Heartbeat, 4),
    passes(ApiKey::LeaveGroup, 5),
    passes(ApiKey::SyncGroup, 5),
    passes(ApiKey::DescribeGroups, 6),
    passes(ApiKey::ListGroups, 5),
    passes(ApiKey::SaslHandshake, 1),
    rewritten(
        ApiKey::ApiVersions,
        5,
        Rewriter::ApiVersions,
        "cut down to this list; its identity check reaches the broker",
    ),
    passes(ApiKey::CreateTopics, 7),
    passes(ApiKey::DeleteTopics, 6),
    passes(ApiKey::DeleteRecords, 2),
    passes(ApiKey::InitProducerId, 6),
    passes(ApiKey::OffsetForLeaderEpoch, 4),
    passes(ApiKey::AddPartitionsToTxn, 5),
    passes(ApiKey::AddOffsetsToTxn, 4),
    passes(ApiKey::EndTxn, 5),
    passes(ApiKey::WriteTxnMarkers, 2),
    passes(ApiKey::TxnOffsetCommit, 6),
    passes(ApiKey::DescribeAcls, 3),
    passes(ApiKey::CreateAcls, 3),
    passes(ApiKey::DeleteAcls, 3),
    passes(ApiKey::DescribeConfigs, 4),
    passes(ApiKey::AlterConfigs, 2),
    passes(ApiKey::AlterReplicaLogDirs, 2),
    passes(ApiKey::DescribeLogDirs, 5),
    passes(ApiKey::SaslAuthenticate, 2),
    passes(ApiKey::CreatePartitions, 3),
    passes(ApiKey::CreateDelegationToken, 3),
    passes(ApiKey::RenewDelegationToken, 2),
    passes(ApiKey::ExpireDelegationToken, 2),
    passes(ApiKey::DescribeDelegationToken, 3),
    passes(ApiKey::DeleteGroups, 3),
    passes(ApiKey::ElectLeaders, 2),
    passes(ApiKey::IncrementalAlterConfigs, 1),
    passes(ApiKey::AlterPartitionReassignments, 1),
    passes(ApiKey::ListPartitionReassignments, 0),
    passes(ApiKey::OffsetDelete, 0),
    passes(ApiKey::DescribeClientQuotas, 1),
    passes(ApiKey::AlterClientQuotas, 1),
    passes(ApiKey::DescribeUserScramCredentials, 0),
    passes(ApiKey::AlterUserScramCredentials, 0),
    internal(ApiKey::Vote),
    internal(ApiKey::BeginQuorumEpoch),
    internal(ApiKey::EndQuorumEpoch),
    rewritten(ApiKey::DescribeQuorum, 2, Rewriter::DescribeQuorum, "addresses of controllers left out, from version 2")
        .from(2),
    internal(ApiKey::AlterPartition),
    passes(ApiKey::UpdateFeatures, 2),
    internal(ApiKey::Envelope),
    internal(ApiKey::FetchSnapshot),
    rewritten(ApiKey::DescribeCluster, 2, Rewriter::DescribeCluster, "addresses replaced"),
    passes(ApiKey::DescribeProducers, 0),
    internal(ApiKey::BrokerRegistration),
    internal(ApiKey::BrokerHeartbeat),
    passes(ApiKey::UnregisterBroker, 0),
    passes(ApiKey::DescribeTransactions, 0),
    passes(ApiKey::ListTransactions, 2),
    internal(ApiKey::AllocateProducerIds),
    passes(ApiKey::ConsumerGroupHeartbeat, 1),
    passes(ApiKey::ConsumerGroupDescribe, 1),
    internal(ApiKey::ControllerRegistration),
    passes(ApiKey::GetTelemetrySubscriptions, 0),
    passes(ApiKey::PushTelemetry, 0),
    internal(ApiKey::AssignReplicasToDirs),
    passes(ApiKey::ListConfigResources, 1),
    rewritten(
        ApiKey::DescribeTopicPartitions,
        0,
        Rewriter::DescribeTopicPartitions,
        "brokers outside the range lead nothing",
    ),
    passes(ApiKey::ShareGroupHeartbeat, 1),
    passes(ApiKey::ShareGroupDescribe, 1),
    Api {
        key: ApiKey::ShareFetch,
        version_max: 2,
        handled_from: 0,
        handled: Answer::Elided(Elided::ShareFetch),
        note: "addresses of new leaders hidden while it streams; clients ask for metadata",
    },
    rewritten(ApiKey::ShareAcknowledge, 2, Rewriter::ShareAcknowledge, "addresses of new leaders replaced"),
    passes(ApiKey::AddRaftVoter, 1),
    passes(ApiKey::RemoveRaftVoter, 0),
    internal(ApiKey::UpdateRaftVoter),
    passes(ApiKey::InitializeShareGroupState, 0),
    passes(ApiKey::ReadShareGroupState, 0),
    passes(ApiKey::WriteShareGroupState, 1),
    passes(ApiKey::DeleteShareGroupState, 0),
    passes(ApiKey::ReadShareGroupStateSummary, 1),
    passes(ApiKey::StreamsGroupHeartbeat, 1),
    passes(ApiKey::StreamsGroupDescribe, 1),
    passes(ApiKey::DescribeShareGroupOffsets, 1),
    passes(ApiKey::AlterShareGroupOffsets, 0),
    passes(ApiKey::DeleteShareGroupOffsets, 0),
    passes(ApiKey::StreamsGroupTopologyDescriptionUpdate, 0),
    passes(ApiKey::UnregisterController, 0),
];

/// The API of a key that is offered.
pub fn offered(key: i16) -> Option<&'static Api> {
    APIS.get(usize::try_from(key).ok()?).filter(|api| api.is_offered())
}

/// The same for one version of it.
pub fn offered_version(key: i16, version: i16) -> Option<&'static Api> {
    offered(key).filter(|api| (0..=api.version_max).contains(&version))
}

/// The list as the Markdown table of the operators' page.
pub fn markdown() -> String {
    let mut page = String::from("| Key | API | Versions | What kproxy does |\n|---|---|---|---|\n");
    for api in APIS {
        let versions = if api.is_offered() { format!("0–{}", api.version_max) } else { "–".to_owned() };
        page.push_str(&format!("| {} | {} | {versions} | {} |\n", api.key.key(), api.key.name(), api.note));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_wire_has_its_row_at_its_place() {
        assert_eq!(APIS.len(), ApiKey::ALL.len());
        for (at, api) in APIS.iter().enumerate() {
            assert_eq!(api.key.key(), at as i16, "{}", api.key);
        }
    }

    #[test]
    fn what_is_not_on_the_list_is_not_offered() {
        assert!(offered_version(0, 13).is_some());
        assert!(offered_version(0, 14).is_none());
        assert!(offered_version(0, -1).is_none());
        assert!(offered_version(4, 0).is_none());
        assert!(offered(95).is_none());
        assert!(offered(-1).is_none());
    }
}
