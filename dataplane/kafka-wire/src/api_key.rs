//! Which API a request is for, and which headers its versions wear.
//!
//! The list is Kafka 4.4's `ApiKeys` plus the four broker-to-broker keys that ended with ZooKeeper (4 to 7), so that
//! a proxy can name what it refuses. A key outside the list has no [`ApiKey`]; its request header is read as v1.

macro_rules! api_keys {
    ($($name:ident = $key:literal, flexible from $flexible:expr;)*) => {
        /// A Kafka API, by its key on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ApiKey {
            $(#[doc = concat!("API key ", stringify!($key), ".")] $name = $key,)*
        }

        impl ApiKey {
            /// Every API of the list, by ascending key.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$name,)*];

            /// The API with this key, if the list has it.
            pub const fn from_i16(key: i16) -> Option<ApiKey> {
                match key {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// Kafka's name of the API.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            /// First version with compact lengths and tagged fields (KIP-482); `i16::MAX` when there is none.
            pub const fn flexible_from(self) -> i16 {
                match self {
                    $(ApiKey::$name => $flexible,)*
                }
            }
        }
    };
}

/// `SaslHandshake` and `OffsetDelete` never became flexible.
const NEVER: i16 = i16::MAX;

api_keys! {
    Produce = 0, flexible from 9;
    Fetch = 1, flexible from 12;
    ListOffsets = 2, flexible from 6;
    Metadata = 3, flexible from 9;
    LeaderAndIsr = 4, flexible from 4;
    StopReplica = 5, flexible from 2;
    UpdateMetadata = 6, flexible from 6;
    ControlledShutdown = 7, flexible from 3;
    OffsetCommit = 8, flexible from 8;
    OffsetFetch = 9, flexible from 6;
    FindCoordinator = 10, flexible from 3;
    JoinGroup = 11, flexible from 6;
    Heartbeat = 12, flexible from 4;
    LeaveGroup = 13, flexible from 4;
    SyncGroup = 14, flexible from 4;
    DescribeGroups = 15, flexible from 5;
    ListGroups = 16, flexible from 3;
    SaslHandshake = 17, flexible from NEVER;
    ApiVersions = 18, flexible from 3;
    CreateTopics = 19, flexible from 5;
    DeleteTopics = 20, flexible from 4;
    DeleteRecords = 21, flexible from 2;
    InitProducerId = 22, flexible from 2;
    OffsetForLeaderEpoch = 23, flexible from 4;
    AddPartitionsToTxn = 24, flexible from 3;
    AddOffsetsToTxn = 25, flexible from 3;
    EndTxn = 26, flexible from 3;
    WriteTxnMarkers = 27, flexible from 0;
    TxnOffsetCommit = 28, flexible from 3;
    DescribeAcls = 29, flexible from 2;
    CreateAcls = 30, flexible from 2;
    DeleteAcls = 31, flexible from 2;
    DescribeConfigs = 32, flexible from 4;
    AlterConfigs = 33, flexible from 2;
    AlterReplicaLogDirs = 34, flexible from 2;
    DescribeLogDirs = 35, flexible from 2;
    SaslAuthenticate = 36, flexible from 2;
    CreatePartitions = 37, flexible from 2;
    CreateDelegationToken = 38, flexible from 2;
    RenewDelegationToken = 39, flexible from 2;
    ExpireDelegationToken = 40, flexible from 2;
    DescribeDelegationToken = 41, flexible from 2;
    DeleteGroups = 42, flexible from 2;
    ElectLeaders = 43, flexible from 2;
    IncrementalAlterConfigs = 44, flexible from 1;
    AlterPartitionReassignments = 45, flexible from 0;
    ListPartitionReassignments = 46, flexible from 0;
    OffsetDelete = 47, flexible from NEVER;
    DescribeClientQuotas = 48, flexible from 1;
    AlterClientQuotas = 49, flexible from 1;
    DescribeUserScramCredentials = 50, flexible from 0;
    AlterUserScramCredentials = 51, flexible from 0;
    Vote = 52, flexible from 0;
    BeginQuorumEpoch = 53, flexible from 1;
    EndQuorumEpoch = 54, flexible from 1;
    DescribeQuorum = 55, flexible from 0;
    AlterPartition = 56, flexible from 0;
    UpdateFeatures = 57, flexible from 0;
    Envelope = 58, flexible from 0;
    FetchSnapshot = 59, flexible from 0;
    DescribeCluster = 60, flexible from 0;
    DescribeProducers = 61, flexible from 0;
    BrokerRegistration = 62, flexible from 0;
    BrokerHeartbeat = 63, flexible from 0;
    UnregisterBroker = 64, flexible from 0;
    DescribeTransactions = 65, flexible from 0;
    ListTransactions = 66, flexible from 0;
    AllocateProducerIds = 67, flexible from 0;
    ConsumerGroupHeartbeat = 68, flexible from 0;
    ConsumerGroupDescribe = 69, flexible from 0;
    ControllerRegistration = 70, flexible from 0;
    GetTelemetrySubscriptions = 71, flexible from 0;
    PushTelemetry = 72, flexible from 0;
    AssignReplicasToDirs = 73, flexible from 0;
    ListConfigResources = 74, flexible from 0;
    DescribeTopicPartitions = 75, flexible from 0;
    ShareGroupHeartbeat = 76, flexible from 0;
    ShareGroupDescribe = 77, flexible from 0;
    ShareFetch = 78, flexible from 0;
    ShareAcknowledge = 79, flexible from 0;
    AddRaftVoter = 80, flexible from 0;
    RemoveRaftVoter = 81, flexible from 0;
    UpdateRaftVoter = 82, flexible from 0;
    InitializeShareGroupState = 83, flexible from 0;
    ReadShareGroupState = 84, flexible from 0;
    WriteShareGroupState = 85, flexible from 0;
    DeleteShareGroupState = 86, flexible from 0;
    ReadShareGroupStateSummary = 87, flexible from 0;
    StreamsGroupHeartbeat = 88, flexible from 0;
    StreamsGroupDescribe = 89, flexible from 0;
    DescribeShareGroupOffsets = 90, flexible from 0;
    AlterShareGroupOffsets = 91, flexible from 0;
    DeleteShareGroupOffsets = 92, flexible from 0;
    StreamsGroupTopologyDescriptionUpdate = 93, flexible from 0;
    UnregisterController = 94, flexible from 0;
}

impl ApiKey {
    /// The key on the wire.
    pub const fn key(self) -> i16 {
        self as i16
    }

    /// Header version a request of this API and version wears: 0 (no client id), 1, or 2 (with tagged fields).
    pub const fn request_header_version(self, version: i16) -> i16 {
        if matches!(self, ApiKey::ControlledShutdown) && version == 0 {
            0
        } else if version >= self.flexible_from() {
            2
        } else {
            1
        }
    }

    /// Header version a response wears: 0, or 1 (with tagged fields). ApiVersions always answers with 0, so that a
    /// client can read an answer to a version the server does not know (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        if matches!(self, ApiKey::ApiVersions) {
            0
        } else if version >= self.flexible_from() {
            1
        } else {
            0
        }
    }
}

impl std::fmt::Display for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::ApiKey;

    #[test]
    fn headers_agree_with_kafka_protocol_for_every_key_and_version() {
        let mut seen = 0;
        for theirs in kafka_protocol::messages::ApiKey::iter() {
            let ours = ApiKey::from_i16(theirs as i16).expect("every key kafka-protocol knows is in the list");
            assert_eq!(ours.name(), format!("{theirs:?}"));
            for version in 0..=20 {
                assert_eq!(
                    ours.request_header_version(version),
                    theirs.request_header_version(version),
                    "{ours} v{version}"
                );
                assert_eq!(
                    ours.response_header_version(version),
                    theirs.response_header_version(version),
                    "{ours} v{version}"
                );
            }
            seen += 1;
        }
        assert!(seen > 80, "kafka-protocol lists {seen} keys");
    }

    #[test]
    fn keys_are_distinct_ascending_and_survive_the_round_trip() {
        for pair in ApiKey::ALL.windows(2) {
            assert!(pair[0].key() < pair[1].key(), "{pair:?}");
        }
        for api in ApiKey::ALL {
            assert_eq!(ApiKey::from_i16(api.key()), Some(*api));
        }
        assert_eq!(ApiKey::from_i16(-1), None);
        assert_eq!(ApiKey::from_i16(i16::MAX), None);
    }
}
