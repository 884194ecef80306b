//! What one tenant can do to another: nothing. Everything is tried at every broker, with both of its secrets, by a socket that
//! says what no library would; what is the victim's is looked at past the proxy before and after.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use testkit::gateway::Tenant;
use testkit::kafka::Cluster;
use testkit::login::PLAIN;
use testkit::python::{self, Client};
use testkit::record::Record;
use testkit::steady::Steady;
use testkit::wait;

use super::matrix::coordinator;
use super::stage::{Side, Stage, stage};
use crate::harness::same;
use crate::kproxy::wire::{NOBODY, Producer, Wire, batch, text, versions};
use crate::shared::{three_nodes, unique};

const SOON: Duration = Duration::from_secs(20);
const NODES: [i32; 3] = [1, 2, 3];
const NEWEST_KEY: i16 = 100;
/// TOPIC_, GROUP_, CLUSTER_ and TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
const REFUSED: [i16; 4] = [29, 30, 31, 53];
/// NOT_COORDINATOR and GROUP_ID_NOT_FOUND.
const NO_SUCH_GROUP: [i16; 2] = [16, 69];
const UNKNOWN_TOPIC: i16 = 3;
const UNKNOWN_TOPIC_ID: i16 = 100;

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// What is the victim's in Kafka, asked past the proxy.
#[derive(Debug, PartialEq)]
struct Estate {
    topic: String,
    configs: String,
    records: Vec<Record>,
    members: String,
    offsets: String,
    /// Names of topics and groups of both.
    names: Vec<String>,
}

impl Estate {
    fn of(victim: &Tenant, attacker: &Tenant, kafka: &Cluster) -> Result<Self> {
        let (name, group_name) = (victim.physical_topic(), victim.physical_group("victims"));
        let mut wire = Wire::connect(&kafka.address(1)?)?;
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name(&name)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        let topic = format!("{:?}", wire.ask(12, &request)?.topics);
        let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text(&name));
        let configs = wire.ask(4, &DescribeConfigsRequest::default().with_resources(vec![resource]))?;
        let mut at_coordinator = coordinator(kafka, &group_name)?;
        let members = at_coordinator.ask(5, &DescribeGroupsRequest::default().with_groups(vec![group(&group_name)]))?;
        let asked = OffsetFetchRequestGroup::default().with_group_id(group(&group_name)).with_topics(None);
        let offsets = at_coordinator.ask(8, &OffsetFetchRequest::default().with_groups(vec![asked]))?;
        let names = names(kafka, &[&victim.appid, &attacker.appid])?;
        Ok(Self {
            topic,
            configs: format!("{:?}", configs.results),
            records: python::read(Client::Confluent, &kafka.bootstrap(), &name)?,
            members: format!("{:?}", members.groups),
            offsets: format!("{:?}", offsets.groups),
            names,
        })
    }
}

/// Topics and groups in Kafka with one of these in their names; the attacker's own groups are not looked at.
fn names(kafka: &Cluster, about: &[&str]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for node in 1..=3 {
        let mut wire = Wire::connect(&kafka.address(node)?)?;
        if node == 1 {
            let topics = wire.ask(4, &MetadataRequest::default().with_topics(None))?.topics;
            all.extend(topics.into_iter().filter_map(|topic| topic.name).map(|name| name.to_string()));
        }
        let groups = wire.ask(4, &ListGroupsRequest::default())?.groups;
        let own = format!("{}.", about[about.len() - 1]);
        all.extend(groups.into_iter().map(|found| found.group_id.to_string()).filter(|name| !name.starts_with(&own)));
    }
    all.retain(|name| about.iter().any(|word| name.contains(word)));
    all.sort();
    Ok(all)
}

/// One that the other knows everything of, and has no grant to.
struct Crime {
    victim: Tenant,
    attacker: Tenant,
    topic: MetadataResponseTopic,
    /// Of the victim's member.
    member: String,
    /// Of its open transaction.
    producer: Producer,
}

/// An attempt on a topic: the codes it was answered.
type OnTopic = fn(&mut Wire, &str) -> Result<Vec<i16>>;

const ON_TOPIC: [(&str, OnTopic); 10] = [
    ("Metadata", |wire, name| {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
        Ok(wire.ask(12, &request)?.topics.iter().map(|topic| topic.error_code).collect())
    }),
    ("Produce", |wire, name| produced(wire, 12, TopicProduceData::default().with_name(topic_name(name)), NOBODY, None)),
    ("Fetch", |wire, name| fetched(wire, 12, FetchTopic::default().with_topic(topic_name(name)))),
    ("ListOffsets", |wire, name| {
        let partition = ListOffsetsPartition::default().with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(topic_name(name)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let answer = wire.ask(7, &request)?;
        Ok(answer.topics.iter().flat_map(|topic| &topic.partitions).map(|found| found.error_code).collect())
    }),
    ("OffsetForLeaderEpoch", |wire, name| {
        let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(-1);
        let topic = OffsetForLeaderTopic::default().with_topic(topic_name(name)).with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let answer = wire.ask(4, &request)?;
        Ok(answer.topics.iter().flat_map(|topic| &topic.partitions).map(|found| found.error_code).collect())
    }),
    ("OffsetCommit", |wire, name| committed(wire, "own", name)),
    ("OffsetFetch", |wire, name| {
        let topic = OffsetFetchRequestTopics::default().with_name(topic_name(name)).with_partition_indexes(vec![0]);
        let of = OffsetFetchRequestGroup::default().with_group_id(group("own")).with_topics(Some(vec![topic]));
        let answer = wire.ask(8, &OffsetFetchRequest::default().with_groups(vec![of]))?;
        let of = answer.groups.first().context("a group")?;
        let partitions = of.topics.iter().flat_map(|topic| &topic.partitions);
        let codes = partitions.map(|found| if found.committed_offset < 0 { found.error_code } else { 0 });
        Ok(codes.chain((of.error_code != 0).then_some(of.error_code)).collect())
    }),
    ("OffsetDelete", |wire, name| {
        let partition = OffsetDeleteRequestPartition::default();
        let topic = OffsetDeleteRequestTopic::default().with_name(topic_name(name)).with_partitions(vec![partition]);
        let answer =
            wire.ask(0, &OffsetDeleteRequest::default().with_group_id(group("own")).with_topics(vec![topic]))?;
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|found| found.error_code);
        Ok(partitions.chain((answer.error_code != 0).then_some(answer.error_code)).collect())
    }),
    ("AddPartitionsToTxn", |wire, name| {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic_name(name)).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text("own")))
            .with_v3_and_below_topics(vec![topic]);
        let answer = wire.ask(3, &request)?;
        let topics = answer.results_by_topic_v3_and_below.iter();
        Ok(topics.flat_map(|topic| &topic.results_by_partition).map(|found| found.partition_error_code).collect())
    }),
    ("TxnOffsetCommit", |wire, name| {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(1);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(TransactionalId(text("own")))
            .with_group_id(group("own"))
            .with_topics(vec![topic]);
        let answer = wire.ask(3, &request)?;
        Ok(answer.topics.iter().flat_map(|topic| &topic.partitions).map(|found| found.error_code).collect())
    }),
];

fn produced(
    wire: &mut Wire,
    version: i16,
    topic: TopicProduceData,
    producer: Producer,
    transaction: Option<&str>,
) -> Result<Vec<i16>> {
    let partition = PartitionProduceData::default().with_records(Some(batch(&["an attack"], producer)?));
    let topic = topic.with_partition_data(vec![partition]);
    let request = ProduceRequest::default()
        .with_transactional_id(transaction.map(|id| TransactionalId(text(id))))
        .with_acks(-1)
        .with_timeout_ms(5_000)
        .with_topic_data(vec![topic]);
    let answer = wire.ask(version, &request)?;
    Ok(answer.responses.iter().flat_map(|topic| &topic.partition_responses).map(|found| found.error_code).collect())
}

fn fetched(wire: &mut Wire, version: i16, topic: FetchTopic) -> Result<Vec<i16>> {
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = topic.with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_wait_ms(10).with_max_bytes(1 << 20).with_session_epoch(-1);
    let answer = wire.ask(version, &request.with_topics(vec![topic]))?;
    let partitions: Vec<_> = answer.responses.iter().flat_map(|topic| &topic.partitions).collect();
    let got = partitions.iter().any(|found| found.records.as_ref().is_some_and(|records| !records.is_empty()));
    ensure!(!got, "records came");
    let codes = partitions.iter().map(|found| found.error_code);
    Ok(codes.chain((answer.error_code != 0).then_some(answer.error_code)).collect())
}

fn committed(wire: &mut Wire, group_name: &str, topic: &str) -> Result<Vec<i16>> {
    let partition =
        OffsetCommitRequestPartition::default().with_committed_offset(0).with_committed_metadata(Some(text("")));
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(group(group_name))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let answer = wire.ask(8, &request)?;
    Ok(answer.topics.iter().flat_map(|topic| &topic.partitions).map(|found| found.error_code).collect())
}

impl Crime {
    fn names_of_topic(&self) -> Vec<String> {
        let (victim, attacker) = (&self.victim.appid, &self.attacker.appid);
        vec![
            format!("{victim}.orders.v1"),
            format!("{victim}.orders.v1.1"),
            format!(".{victim}.orders.v1"),
            format!("../{victim}.orders.v1"),
            format!("{attacker}.{victim}.orders.v1"),
            format!("{attacker}.orders.v1"),
            format!("{victim}.prices.v10"),
            format!("{victim}.nothing.v1"),
            "nobody.orders.v1".to_owned(),
            "nothing.v1".to_owned(),
            "__consumer_offsets".to_owned(),
            "__transaction_state".to_owned(),
            "orders".to_owned(),
            "..".to_owned(),
            "\u{0}".to_owned(),
        ]
    }

    /// Every form of a name, in every request that takes one.
    fn on_topics(&self, stage: &Stage) -> Result<()> {
        for (node, side) in NODES.into_iter().flat_map(|node| Side::BOTH.map(|side| (node, side))) {
            let mut wire = stage.wire_to(node, &self.attacker, side)?;
            for name in self.names_of_topic() {
                for (what, attempt) in ON_TOPIC {
                    let codes = attempt(&mut wire, &name).with_context(|| format!("{what} {name:?} {side:?}"))?;
                    let is_refused = codes.iter().any(|code| REFUSED.contains(code));
                    // The group is looked for at every broker, and is nowhere.
                    let is_no_more = codes.iter().all(|code| REFUSED.contains(code) || NO_SUCH_GROUP.contains(code));
                    let is_refused = is_refused && is_no_more;
                    ensure!(is_refused, "{what} of {name:?} with the secret to {side:?}: {codes:?}");
                }
            }
        }
        Ok(())
    }

    /// A topic's id is no secret and opens nothing.
    fn by_id(&self, stage: &Stage) -> Result<()> {
        let refused = |code: &i16| REFUSED.contains(code) || *code == UNKNOWN_TOPIC_ID || *code == UNKNOWN_TOPIC;
        for (node, side) in NODES.into_iter().flat_map(|node| Side::BOTH.map(|side| (node, side))) {
            let mut wire = stage.wire_to(node, &self.attacker, side)?;
            let topic = MetadataRequestTopic::default().with_topic_id(self.topic.topic_id).with_name(None);
            let answer = wire.ask(12, &MetadataRequest::default().with_topics(Some(vec![topic])))?;
            let told = format!("{:?}", answer.topics);
            ensure!(!told.contains(&self.victim.appid), "Metadata tells {told}");
            let produce = TopicProduceData::default().with_topic_id(self.topic.topic_id);
            let fetch = || FetchTopic::default().with_topic_id(self.topic.topic_id);
            let rows = [
                ("Metadata", answer.topics.iter().map(|topic| topic.error_code).collect()),
                ("Produce", produced(&mut wire, 13, produce, NOBODY, None)?),
                ("Fetch", fetched(&mut wire, 13, fetch())?),
                ("Fetch", fetched(&mut wire, 17, fetch())?),
            ];
            for (what, codes) in rows {
                let codes: Vec<i16> = codes;
                ensure!(!codes.is_empty() && codes.iter().all(refused), "{what} by id as {side:?}: {codes:?}");
            }
        }
        Ok(())
    }

    /// Metadata of all, in every version, and what else says what a cluster has.
    fn all_that_is_told(&self, stage: &Stage, real_cluster: &str) -> Result<()> {
        for side in Side::BOTH {
            let mut wire = stage.wire(&self.attacker, side)?;
            let offered = wire.offered()?;
            for version in versions::<MetadataRequest>(&offered)? {
                let all = if version == 0 { Some(Vec::new()) } else { None };
                let request = MetadataRequest::default().with_topics(all);
                let answer = wire.ask(version, &request)?;
                let found: Vec<String> =
                    answer.topics.iter().filter_map(|topic| topic.name.as_ref()).map(|name| name.to_string()).collect();
                let own = vec!["orders.v1".to_owned()];
                same(&format!("Metadata v{version} as {side:?}"), &found, &own)?;
                let id = answer.cluster_id.map(|id| id.to_string()).unwrap_or_default();
                ensure!(id != real_cluster, "the cluster's own id in version {version}");
            }
            for version in versions::<DescribeClusterRequest>(&offered)? {
                let answer = wire.ask(version, &DescribeClusterRequest::default().with_endpoint_type(1))?;
                ensure!(answer.cluster_id.as_str() != real_cluster, "the cluster's own id in DescribeCluster");
            }
        }
        for node in NODES {
            let mut wire = stage.wire_to(node, &self.attacker, Side::Subscribe)?;
            for version in versions::<ListGroupsRequest>(&wire.offered()?)? {
                let groups = wire.ask(version, &ListGroupsRequest::default())?.groups;
                let told: Vec<String> = groups.iter().map(|found| found.group_id.to_string()).collect();
                ensure!(!told.iter().any(|name| name.contains("victims")), "ListGroups tells {told:?}");
            }
        }
        Ok(())
    }

    /// Whatever a group is called, it is one of the attacker's own, and has nothing of the victim's.
    fn on_groups(&self, stage: &Stage) -> Result<()> {
        let victim = &self.victim.appid;
        let names = [
            format!("{victim}.victims"),
            format!(".{victim}.victims"),
            format!("../{victim}.victims"),
            format!("\u{8}{victim}.victims"),
            "victims".to_owned(),
            String::new(),
        ];
        for (node, name) in NODES.into_iter().flat_map(|node| names.iter().map(move |name| (node, name))) {
            self.on_group(&mut stage.wire_to(node, &self.attacker, Side::Subscribe)?, name)
                .with_context(|| format!("group {name:?}"))?;
            // And with the other secret.
            let mut wire = stage.wire_to(node, &self.attacker, Side::Publish)?;
            let answer = wire.ask(2, &DeleteGroupsRequest::default().with_groups_names(vec![group(name)]))?;
            let codes: Vec<i16> = answer.results.iter().map(|found| found.error_code).collect();
            ensure!(codes.iter().all(|code| REFUSED.contains(code)), "DeleteGroups as {:?}: {codes:?}", Side::Publish);
        }
        Ok(())
    }

    fn on_group(&self, wire: &mut Wire, name: &str) -> Result<()> {
        let answer = wire.ask(5, &DescribeGroupsRequest::default().with_groups(vec![group(name)]))?;
        ensure!(answer.groups.iter().all(|found| found.members.is_empty()), "members: {answer:?}");
        let of = OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(None);
        let answer = wire.ask(8, &OffsetFetchRequest::default().with_groups(vec![of]))?;
        ensure!(answer.groups.iter().all(|found| found.topics.is_empty()), "offsets: {answer:?}");
        let member = text(&self.member);
        let heartbeat = HeartbeatRequest::default().with_group_id(group(name)).with_generation_id(1);
        let answer = wire.ask(3, &heartbeat.with_member_id(member.clone()))?;
        ensure!(answer.error_code != 0, "a heartbeat for the victim");
        let leaving = MemberIdentity::default().with_member_id(member.clone());
        let answer =
            wire.ask(4, &LeaveGroupRequest::default().with_group_id(group(name)).with_members(vec![leaving]))?;
        let left = answer.error_code == 0 && answer.members.iter().all(|found| found.error_code == 0);
        ensure!(!left, "the victim was sent away");
        let sync = SyncGroupRequest::default().with_group_id(group(name)).with_generation_id(1).with_member_id(member);
        ensure!(wire.ask(3, &sync)?.error_code != 0, "assigned for the victim");
        let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
        let join = JoinGroupRequest::default()
            .with_group_id(group(name))
            .with_session_timeout_ms(6_000)
            .with_rebalance_timeout_ms(1_000)
            .with_member_id(text(&self.member))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        ensure!(wire.ask(5, &join)?.error_code != 0, "joined as the victim's member");
        let codes = committed(wire, name, &format!("{}.orders.v1", self.victim.appid))?;
        ensure!(codes.iter().all(|code| REFUSED.contains(code)), "OffsetCommit: {codes:?}");
        // Whether there is such a group of the attacker's own or not: the victim's stays.
        wire.ask(2, &DeleteGroupsRequest::default().with_groups_names(vec![group(name)]))?;
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name("orders.v1"))
            .with_partitions(vec![OffsetDeleteRequestPartition::default()]);
        wire.ask(0, &OffsetDeleteRequest::default().with_group_id(group(name)).with_topics(vec![topic]))?;
        Ok(())
    }

    /// A transaction that is open meanwhile, of which everything is known.
    fn on_transactions(&self, stage: &Stage) -> Result<()> {
        let names = [format!("{}.tx", self.victim.appid), "tx".to_owned(), format!("../{}.tx", self.victim.appid)];
        let Producer { id, epoch, .. } = self.producer;
        for (node, name) in NODES.into_iter().flat_map(|node| names.iter().map(move |name| (node, name))) {
            let mut wire = stage.wire_to(node, &self.attacker, Side::Publish)?;
            let transaction = TransactionalId(text(name));
            let end = EndTxnRequest::default()
                .with_transactional_id(transaction.clone())
                .with_producer_id(id.into())
                .with_producer_epoch(epoch)
                .with_committed(false);
            ensure!(wire.ask(3, &end)?.error_code != 0, "EndTxn of {name:?} passed");
            let offsets = AddOffsetsToTxnRequest::default()
                .with_transactional_id(transaction.clone())
                .with_producer_id(id.into())
                .with_producer_epoch(epoch)
                .with_group_id(group("victims"));
            ensure!(wire.ask(3, &offsets)?.error_code != 0, "AddOffsetsToTxn of {name:?} passed");
            let own = TopicProduceData::default().with_name(topic_name("orders.v1"));
            let own = produced(&mut wire, 11, own, self.producer, Some(name))?;
            ensure!(own.iter().all(|code| *code != 0), "wrote in the victim's transaction: {own:?}");
            let init = InitProducerIdRequest::default()
                .with_transactional_id(Some(transaction))
                .with_transaction_timeout_ms(5_000)
                .with_producer_id((-1).into())
                .with_producer_epoch(-1);
            let answer = wire.ask(4, &init)?;
            ensure!(answer.producer_id.0 != id, "fenced the victim's producer by {name:?}");
        }
        Ok(())
    }

    /// What is not on the list is not offered, and whoever asks all the same is shown out, logged in or not.
    fn on_what_is_not_offered(&self, stage: &Stage) -> Result<()> {
        let offered = stage.wire(&self.attacker, Side::Publish)?.offered()?;
        let is_offered = |key: i16| offered.iter().any(|(known, ..)| *known == key);
        // CreateTopics, DeleteTopics, DeleteRecords, ACLs, configurations, log dirs, quotas, SCRAM users, share groups.
        for key in [19, 20, 21, 29, 30, 31, 32, 33, 34, 35, 37, 44, 48, 49, 50, 51, 76, 78, 79] {
            ensure!(!is_offered(key), "API {key} is offered");
        }
        for (side, key) in Side::BOTH.into_iter().flat_map(|side| (0..NEWEST_KEY).map(move |key| (side, key))) {
            if is_offered(key) {
                continue;
            }
            let mut wire = stage.wire(&self.attacker, side)?;
            let heard = wire.received.len();
            let mut frame = vec![0, 0, 0, 10];
            frame.extend(key.to_be_bytes());
            frame.extend([0, 0, 0, 0, 0, 1, 0xff, 0xff]);
            wire.send_raw(&frame)?;
            ensure!(wire.is_closed_within(SOON)?, "API {key} does not end the session");
            same(&format!("bytes in answer to API {key}"), &(wire.received.len() - heard), &0)?;
        }
        Ok(())
    }
}

pub fn a_tenant_can_do_nothing_to_another() -> Result<()> {
    let (stage, kafka) = (stage()?, three_nodes()?);
    let attacker = stage.tenant("mallory")?;
    // A name that begins with the attacker's.
    let victim = stage.tenant_called(&format!("{}0", attacker.appid))?;
    let login = victim.login(PLAIN);
    let at = login.at(&stage.kproxy.bootstrap);
    let values: Vec<Record> = (0..30).map(|at| Record::with_value(format!("mine {at}")).key(&at.to_string())).collect();
    python::produce(Client::Confluent, at, "orders.v1", &values)?;
    let mut member = Steady::consume(at, "orders.v1", "victims")?;
    member.wait_for(values.len(), SOON)?;
    wait::until("its position to be committed", SOON, || {
        let committed =
            python::committed(&kafka.bootstrap(), &victim.physical_topic(), &victim.physical_group("victims"))?;
        let sum: i64 = committed.as_object().into_iter().flatten().filter_map(|(_, at)| at.as_i64()).sum();
        same("sum of positions", &sum, &(values.len() as i64))
    })?;
    let before = Estate::of(&victim, &attacker, &kafka)?;
    let (mut transaction, crime) = prepare(&stage, &kafka, victim, attacker)?;

    crime.all_that_is_told(&stage, testkit::kafka::CLUSTER_ID)?;
    crime.on_topics(&stage)?;
    crime.by_id(&stage)?;
    crime.on_groups(&stage)?;
    crime.on_transactions(&stage)?;
    crime.on_what_is_not_offered(&stage)?;

    same("what is the victim's", &Estate::of(&crime.victim, &crime.attacker, &kafka)?, &before)?;
    let end = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(text("tx")))
        .with_producer_id(crime.producer.id.into())
        .with_producer_epoch(crime.producer.epoch)
        .with_committed(true);
    same("the victim's commit", &transaction.ask(3, &end)?.error_code, &0)?;
    python::produce(Client::Confluent, login.at(&stage.kproxy.bootstrap), "orders.v1", &[Record::with_value("after")])?;
    member.wait_for(values.len() + 1, SOON).context("the victim's member goes on")?;
    member.stop().map(drop)
}

/// Opens a transaction of the victim's, and finds out what an attacker would like to know.
fn prepare(stage: &Stage, kafka: &Cluster, victim: Tenant, attacker: Tenant) -> Result<(Wire, Crime)> {
    let mut direct = Wire::connect(&kafka.address(1)?)?;
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name(&victim.physical_topic())));
    let answer = direct.ask(12, &MetadataRequest::default().with_topics(Some(vec![asked])))?;
    let topic = answer.topics.into_iter().next().context("the topic")?;
    let name = victim.physical_group("victims");
    let answer =
        coordinator(kafka, &name)?.ask(5, &DescribeGroupsRequest::default().with_groups(vec![group(&name)]))?;
    let member = answer.groups.first().and_then(|group| group.members.first()).context("the member")?;
    let member = member.member_id.to_string();
    let (wire, id, epoch) = wait::until("a transaction of the victim's", SOON, || {
        let request = FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![text("tx")]);
        let found = stage.wire(&victim, Side::Publish)?.ask(4, &request)?;
        let found = found.coordinators.first().context("a coordinator")?.clone();
        same("error of the coordinator", &found.error_code, &0)?;
        let mut wire = stage.wire_to(found.node_id.0, &victim, Side::Publish)?;
        let init = InitProducerIdRequest::default()
            .with_transactional_id(Some(TransactionalId(text("tx"))))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let answer = wire.ask(4, &init)?;
        same("error of InitProducerId", &answer.error_code, &0)?;
        let topic = AddPartitionsToTxnTopic::default().with_name(topic_name("orders.v1")).with_partitions(vec![0]);
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(TransactionalId(text("tx")))
            .with_v3_and_below_producer_id(answer.producer_id)
            .with_v3_and_below_producer_epoch(answer.producer_epoch)
            .with_v3_and_below_topics(vec![topic]);
        let added = wire.ask(3, &add)?;
        let topics = added.results_by_topic_v3_and_below.iter();
        let mut codes = topics.flat_map(|topic| &topic.results_by_partition).map(|found| found.partition_error_code);
        same("error of AddPartitionsToTxn", &codes.next(), &Some(0))?;
        Ok((wire, answer.producer_id.0, answer.producer_epoch))
    })?;
    let producer = Producer { id, epoch, sequence: 0, transactional: true };
    Ok((wire, Crime { victim, attacker, topic, member, producer }))
}

/// The brokers make topics that are asked for, the proxy lets nobody ask them to.
pub fn no_topic_appears_by_being_asked_for() -> Result<()> {
    let (stage, kafka) = (stage()?, three_nodes()?);
    let tenant = stage.tenant("wisher")?;
    let absent = stage.topic(&tenant, "absent", "v1", 1)?;
    stage.in_force(&tenant, 2)?;
    python::delete_topic(&kafka.bootstrap(), &absent.physical)?;
    let other = unique("other");
    let (by_itself, of_nobody) = (format!("{}.new.v1", tenant.appid), format!("{other}.new.v1"));
    let names = ["absent.v1", "new.v1", "new", &by_itself, &of_nobody];
    for side in Side::BOTH {
        let mut wire = stage.wire(&tenant, side)?;
        for version in versions::<MetadataRequest>(&wire.offered()?)? {
            for name in names {
                let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
                let request = MetadataRequest::default().with_allow_auto_topic_creation(true);
                let answer = wire.ask(version, &request.with_topics(Some(vec![topic])))?;
                let codes: Vec<i16> = answer.topics.iter().map(|topic| topic.error_code).collect();
                ensure!(codes.iter().all(|code| *code != 0), "Metadata v{version} of {name} as {side:?}: {codes:?}");
            }
        }
    }
    let listed = Wire::connect(&kafka.address(1)?)?.ask(4, &MetadataRequest::default().with_topics(None))?.topics;
    let mut listed = listed.into_iter().filter_map(|topic| topic.name).map(|name| name.to_string());
    let made: Vec<String> = listed
        .by_ref()
        .filter(|name| name.contains(&other) || name == "new" || name == "new.v1" || name.contains(&tenant.appid))
        .collect();
    same("topics", &made, &vec![tenant.physical_topic()])
}
