//! What happens to each Kafka API between a tenant and its cluster: the one list. What is not on it is not offered.
//!
//! A rule names the fields that carry what has to be renamed: topics, by name or id, in arrays; groups and transactional
//! ids, which are a tenant's own. `messages/` has a file for each API that needs more than that.

use kafka_wire::shape::Shape;
use kafka_wire::shapes::{
    add_offsets_to_txn, add_partitions_to_txn, consumer_group_describe, consumer_group_heartbeat, delete_groups,
    describe_cluster, describe_groups, end_txn, fetch, find_coordinator, heartbeat, init_producer_id, join_group,
    leave_group, list_groups, list_offsets, metadata, offset_commit, offset_delete, offset_fetch,
    offset_for_leader_epoch, produce, sync_group, txn_offset_commit,
};
use kafka_wire::{ApiKey, ErrorCode};
use model::tenant::Access;

/// Which secret a session must have shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Any,
    Publish,
    Subscribe,
}

/// Who knows the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The proxy answers: versions and logins.
    Local,
    /// Records stream through, behind names that are replaced.
    Produce,
    Fetch,
    /// Read whole, renamed as the rule says, and as the file of this API in `messages/` says.
    Whole,
}

/// An array of topics, and of what stands in it.
#[derive(Debug, Clone, Copy)]
pub struct Topics {
    pub array: &'static str,
    pub name: &'static str,
    /// The number of a partition: a field of the elements below, or an array of numbers.
    pub partition: &'static str,
    /// Whether one that is refused has to be told of in the answer.
    pub is_answered: bool,
}

/// What a message has to rename.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    pub shape: &'static Shape,
    pub topics: &'static [Topics],
    /// Text fields with groups and transactional ids.
    pub owned: &'static [&'static str],
    /// Flags that must be off: what the proxy may do at the cluster, or have made there, is no tenant's business.
    pub off: &'static [&'static str],
    /// Node ids that must be nobody's: who says it is a replica moves what is committed, and reads what is not.
    pub nobody: &'static [&'static str],
}

/// One API.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    pub key: ApiKey,
    pub version_min: i16,
    pub version_max: i16,
    pub need: Need,
    /// What is wanted of the topics in a request.
    pub access: Access,
    /// The whole of it, for a session that showed the other secret.
    pub refusal: ErrorCode,
    pub way: Way,
    pub request: Message,
    pub response: Message,
    /// For the operators' page.
    pub note: &'static str,
}

impl Rule {
    pub fn has_version(&self, version: i16) -> bool {
        (self.version_min..=self.version_max).contains(&version)
    }
}

const fn topics(array: &'static str, name: &'static str, partition: &'static str) -> Topics {
    Topics { array, name, partition, is_answered: true }
}

const fn message(shape: &'static Shape) -> Message {
    Message { shape, topics: &[], owned: &[], off: &[], nobody: &[] }
}

impl Message {
    const fn topics(mut self, topics: &'static [Topics]) -> Message {
        self.topics = topics;
        self
    }

    const fn owned(mut self, owned: &'static [&'static str]) -> Message {
        self.owned = owned;
        self
    }

    const fn nobody(mut self, nobody: &'static [&'static str]) -> Message {
        self.nobody = nobody;
        self
    }

    const fn off(mut self, off: &'static [&'static str]) -> Message {
        self.off = off;
        self
    }
}

const fn rule(key: ApiKey, version_min: i16, version_max: i16, request: Message, response: Message) -> Rule {
    Rule {
        key,
        version_min,
        version_max,
        need: Need::Any,
        access: Access::Describe,
        refusal: ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        way: Way::Whole,
        request,
        response,
        note: "",
    }
}

impl Rule {
    const fn publish(mut self, access: Access, refusal: ErrorCode) -> Rule {
        (self.need, self.access, self.refusal) = (Need::Publish, access, refusal);
        self
    }

    const fn subscribe(mut self, access: Access, refusal: ErrorCode) -> Rule {
        (self.need, self.access, self.refusal) = (Need::Subscribe, access, refusal);
        self
    }

    const fn way(mut self, way: Way) -> Rule {
        self.way = way;
        self
    }

    const fn note(mut self, note: &'static str) -> Rule {
        self.note = note;
        self
    }
}

const fn local(key: ApiKey, version_min: i16, version_max: i16, note: &'static str) -> Rule {
    rule(key, version_min, version_max, message(&NOTHING), message(&NOTHING)).way(Way::Local).note(note)
}

const NOTHING: Shape = Shape { name: "", versions: (0, 0), flexible_from: 0, fields: &[] };

const GROUP_REFUSED: ErrorCode = ErrorCode::GROUP_AUTHORIZATION_FAILED;
const TRANSACTION_REFUSED: ErrorCode = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
const TOPIC_REFUSED: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;

/// By key.
pub static RULES: &[Rule] = &[
    rule(
        ApiKey::Produce,
        3,
        13,
        message(&produce::REQUEST).topics(&[topics("topic_data", "name", "index")]).owned(&["transactional_id"]),
        message(&produce::RESPONSE).topics(&[topics("responses", "name", "index")]),
    )
    .publish(Access::Write, TOPIC_REFUSED)
    .way(Way::Produce)
    .note("topics and transactional id renamed around the records; limits of messages and bytes"),
    rule(
        ApiKey::Fetch,
        4,
        18,
        message(&fetch::REQUEST)
            .topics(&[
                topics("topics", "topic", "partition"),
                Topics { array: "forgotten_topics_data", name: "topic", partition: "partitions", is_answered: false },
            ])
            .nobody(&["replica_id"]),
        message(&fetch::RESPONSE).topics(&[topics("responses", "topic", "partition_index")]),
    )
    .subscribe(Access::Read, TOPIC_REFUSED)
    .way(Way::Fetch)
    .note("topics renamed around the records; limits of messages and bytes; addresses hidden"),
    rule(
        ApiKey::ListOffsets,
        1,
        11,
        message(&list_offsets::REQUEST).topics(&[topics("topics", "name", "partition_index")]).nobody(&["replica_id"]),
        message(&list_offsets::RESPONSE).topics(&[topics("topics", "name", "partition_index")]),
    )
    .note("topics renamed"),
    rule(
        ApiKey::Metadata,
        0,
        13,
        message(&metadata::REQUEST).topics(&[topics("topics", "name", "")]).off(&[
            "allow_auto_topic_creation",
            "include_cluster_authorized_operations",
            "include_topic_authorized_operations",
        ]),
        message(&metadata::RESPONSE).topics(&[topics("topics", "name", "partition_index")]),
    )
    .note("own and granted topics only, no topic is made; addresses and cluster id replaced"),
    rule(
        ApiKey::OffsetCommit,
        2,
        10,
        message(&offset_commit::REQUEST).topics(&[topics("topics", "name", "partition_index")]).owned(&["group_id"]),
        message(&offset_commit::RESPONSE).topics(&[topics("topics", "name", "partition_index")]),
    )
    .subscribe(Access::Read, GROUP_REFUSED)
    .note("group and topics renamed"),
    rule(
        ApiKey::OffsetFetch,
        1,
        10,
        message(&offset_fetch::REQUEST).topics(&[topics("topics", "name", "partition_indexes")]).owned(&["group_id"]),
        message(&offset_fetch::RESPONSE).topics(&[topics("topics", "name", "partition_index")]).owned(&["group_id"]),
    )
    .subscribe(Access::Read, GROUP_REFUSED)
    .note("groups and topics renamed"),
    rule(
        ApiKey::FindCoordinator,
        0,
        6,
        message(&find_coordinator::REQUEST).owned(&["key", "coordinator_keys"]),
        message(&find_coordinator::RESPONSE).owned(&["key"]),
    )
    .note("groups and transactional ids renamed, others refused; addresses replaced"),
    rule(ApiKey::JoinGroup, 0, 9, message(&join_group::REQUEST).owned(&["group_id"]), message(&join_group::RESPONSE))
        .subscribe(Access::Read, GROUP_REFUSED)
        .note("group renamed, and topics in what consumers tell each other"),
    rule(ApiKey::Heartbeat, 0, 4, message(&heartbeat::REQUEST).owned(&["group_id"]), message(&heartbeat::RESPONSE))
        .subscribe(Access::Read, GROUP_REFUSED)
        .note("group renamed"),
    rule(
        ApiKey::LeaveGroup,
        0,
        5,
        message(&leave_group::REQUEST).owned(&["group_id"]),
        message(&leave_group::RESPONSE),
    )
    .subscribe(Access::Read, GROUP_REFUSED)
    .note("group renamed"),
    rule(ApiKey::SyncGroup, 0, 5, message(&sync_group::REQUEST).owned(&["group_id"]), message(&sync_group::RESPONSE))
        .subscribe(Access::Read, GROUP_REFUSED)
        .note("group renamed, and topics in what consumers tell each other"),
    rule(
        ApiKey::DescribeGroups,
        0,
        6,
        message(&describe_groups::REQUEST).owned(&["groups"]).off(&["include_authorized_operations"]),
        message(&describe_groups::RESPONSE).owned(&["group_id"]),
    )
    .subscribe(Access::Read, GROUP_REFUSED)
    .note("groups renamed, and topics in what consumers told each other"),
    rule(
        ApiKey::ListGroups,
        0,
        5,
        message(&list_groups::REQUEST),
        message(&list_groups::RESPONSE).topics(&[]).owned(&["group_id"]),
    )
    .subscribe(Access::Read, GROUP_REFUSED)
    .note("own groups only"),
    // Version 0 is kafka-python's before 2.1; and without it on the list librdkafka takes SASL for unsupported.
    local(ApiKey::SaslHandshake, 0, 1, "answered here: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
    local(ApiKey::ApiVersions, 0, 5, "answered here: what the broker offers, cut down to this list"),
    rule(
        ApiKey::InitProducerId,
        0,
        5,
        message(&init_producer_id::REQUEST).owned(&["transactional_id"]),
        message(&init_producer_id::RESPONSE),
    )
    .publish(Access::Write, ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
    .note("transactional id renamed; no two-phase commit"),
    rule(
        ApiKey::OffsetForLeaderEpoch,
        0,
        4,
        message(&offset_for_leader_epoch::REQUEST)
            .topics(&[topics("topics", "topic", "partition")])
            .nobody(&["replica_id"]),
        message(&offset_for_leader_epoch::RESPONSE).topics(&[topics("topics", "topic", "partition")]),
    )
    .note("topics renamed"),
    rule(
        ApiKey::AddPartitionsToTxn,
        0,
        3,
        message(&add_partitions_to_txn::REQUEST)
            .topics(&[topics("v3_and_below_topics", "name", "partitions")])
            .owned(&["v3_and_below_transactional_id"]),
        message(&add_partitions_to_txn::RESPONSE).topics(&[topics(
            "results_by_topic_v3_and_below",
            "name",
            "partition_index",
        )]),
    )
    .publish(Access::Write, TRANSACTION_REFUSED)
    .note("transactional id and topics renamed"),
    rule(
        ApiKey::AddOffsetsToTxn,
        0,
        4,
        message(&add_offsets_to_txn::REQUEST).owned(&["transactional_id", "group_id"]),
        message(&add_offsets_to_txn::RESPONSE),
    )
    .publish(Access::Consumed, TRANSACTION_REFUSED)
    .note("transactional id and group renamed"),
    rule(ApiKey::EndTxn, 0, 5, message(&end_txn::REQUEST).owned(&["transactional_id"]), message(&end_txn::RESPONSE))
        .publish(Access::Write, TRANSACTION_REFUSED)
        .note("transactional id renamed"),
    rule(
        ApiKey::TxnOffsetCommit,
        0,
        6,
        message(&txn_offset_commit::REQUEST)
            .topics(&[topics("topics", "name", "partition_index")])
            .owned(&["transactional_id", "group_id"]),
        message(&txn_offset_commit::RESPONSE).topics(&[topics("topics", "name", "partition_index")]),
    )
    .publish(Access::Consumed, TRANSACTION_REFUSED)
    .note("transactional id, group and topics renamed; topics that the app may read"),
    local(ApiKey::SaslAuthenticate, 0, 2, "answered here: the app and one of its secrets"),
    rule(
        ApiKey::DeleteGroups,
        0,
        3,
        message(&delete_groups::REQUEST).owned(&["groups_names"]),
        message(&delete_groups::RESPONSE).owned(&["group_id"]),
    )
    .subscribe(Access::Read, GROUP_REFUSED)
    .note("groups renamed; audited"),
    rule(
        ApiKey::OffsetDelete,
        0,
        0,
        message(&offset_delete::REQUEST).topics(&[topics("topics", "name", "partition_index")]).owned(&["group_id"]),
        message(&offset_delete::RESPONSE).topics(&[topics("topics", "name", "partition_index")]),
    )
    .subscribe(Access::Read, GROUP_REFUSED)
    .note("group and topics renamed; audited"),
    rule(
        ApiKey::DescribeCluster,
        0,
        2,
        message(&describe_cluster::REQUEST).off(&["include_cluster_authorized_operations"]),
        message(&describe_cluster::RESPONSE),
    )
    .note("addresses and cluster id replaced"),
    rule(
        ApiKey::ConsumerGroupHeartbeat,
        0,
        1,
        message(&consumer_group_heartbeat::REQUEST).owned(&["group_id"]),
        message(&consumer_group_heartbeat::RESPONSE),
    )
    .subscribe(Access::Read, GROUP_REFUSED)
    .note("group and topics renamed; no patterns"),
    rule(
        ApiKey::ConsumerGroupDescribe,
        0,
        1,
        message(&consumer_group_describe::REQUEST).owned(&["group_ids"]).off(&["include_authorized_operations"]),
        message(&consumer_group_describe::RESPONSE).owned(&["group_id"]),
    )
    .subscribe(Access::Read, GROUP_REFUSED)
    .note("groups and topics renamed"),
];

/// The rule of a key; None: not for tenants.
pub fn of(key: i16) -> Option<&'static Rule> {
    RULES.binary_search_by_key(&key, |rule| rule.key.key()).ok().map(|at| &RULES[at])
}

/// The list as the Markdown table of the operators' page.
pub fn markdown() -> String {
    let mut page = String::from("| Key | API | Versions | Secret | What kproxy does |\n|---|---|---|---|---|\n");
    for rule in RULES {
        let (key, name, min, max, note) =
            (rule.key.key(), rule.key.name(), rule.version_min, rule.version_max, rule.note);
        let secret = match rule.need {
            Need::Any => "either",
            Need::Publish => "Pubkey",
            Need::Subscribe => "Subkey",
        };
        page.push_str(&format!("| {key} | {name} | {min}–{max} | {secret} | {note} |\n"));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apis;
    use crate::tenant::fill::elements_of;
    use kafka_wire::shape::{Field, Kind};

    #[test]
    fn rules_ascend_and_offer_nothing_that_was_not_looked_at() {
        assert!(RULES.windows(2).all(|pair| pair[0].key.key() < pair[1].key.key()));
        for rule in RULES {
            let api = apis::offered(rule.key.key()).expect("on the list of all");
            assert!(rule.version_max <= api.version_max, "{}", rule.key);
            assert!(!rule.note.is_empty(), "{}", rule.key);
            assert!(std::ptr::eq(of(rule.key.key()).unwrap(), rule));
        }
        assert!(of(ApiKey::CreateTopics.key()).is_none());
        assert!(of(-1).is_none() && of(1000).is_none());
    }

    fn has_field(fields: &'static [Field], name: &str) -> bool {
        fields.iter().any(|field| {
            field.name == name
                || match field.kind {
                    Kind::Struct(inner) | Kind::NullableStruct(inner) => has_field(inner, name),
                    Kind::Array(Kind::Struct(inner)) => has_field(inner, name),
                    _ => false,
                }
        })
    }

    #[test]
    fn every_field_a_rule_names_is_in_the_message_and_every_version_has_a_shape() {
        for rule in RULES.iter().filter(|rule| rule.way != Way::Local) {
            for message in [&rule.request, &rule.response] {
                let (min, max) = message.shape.versions;
                let says_replica = has_field(message.shape.fields, "replica_id");
                assert_eq!(says_replica, !message.nobody.is_empty(), "{}", message.shape.name);
                assert!(min <= rule.version_min && rule.version_max <= max, "{}", message.shape.name);
                for name in message.owned.iter().chain(message.off).chain(message.nobody) {
                    assert!(has_field(message.shape.fields, name), "{} has no {name}", message.shape.name);
                }
                for topics in message.topics {
                    for version in rule.version_min..=rule.version_max {
                        let Some(fields) = elements_of(message.shape.fields, topics.array, version) else { continue };
                        assert!(has_field(fields, topics.name), "{} has no {}", message.shape.name, topics.name);
                        assert!(topics.partition.is_empty() || has_field(fields, topics.partition));
                    }
                    assert!(
                        elements_of(message.shape.fields, topics.array, rule.version_max).is_some(),
                        "{} v{} has no {}",
                        message.shape.name,
                        rule.version_max,
                        topics.array
                    );
                }
            }
        }
    }

    /// Fields whose text is a topic, a group or a transactional id, by their names in Kafka's definitions.
    #[test]
    fn no_message_on_the_list_has_a_name_that_no_rule_speaks_of() {
        const NAMES: &[&str] = &["topic", "topic_name", "group_id", "transactional_id", "resource_name"];
        const HANDLED_IN_MESSAGES: &[&str] = &["ConsumerGroupDescribeResponse", "ConsumerGroupHeartbeatResponse"];
        for rule in RULES.iter().filter(|rule| rule.way != Way::Local) {
            for message in [&rule.request, &rule.response] {
                if HANDLED_IN_MESSAGES.contains(&message.shape.name) {
                    continue;
                }
                for name in NAMES.iter().filter(|name| has_field(message.shape.fields, name)) {
                    let is_topic = message.topics.iter().any(|topics| topics.name == *name);
                    assert!(is_topic || message.owned.contains(name), "{}: {name}", message.shape.name);
                }
            }
        }
    }
}
