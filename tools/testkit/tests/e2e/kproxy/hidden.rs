//! No byte that reaches a client tells where a broker really is, whatever the client asks, in every version.
//!
//! The same questions are put to the brokers themselves first, and there every answer that can carry an address does.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::share_acknowledge_request::{AcknowledgePartition, AcknowledgeTopic};
use kafka_protocol::messages::share_fetch_request::{
    FetchPartition as ShareFetchPartition, FetchTopic as ShareFetchTopic,
};
use kafka_protocol::messages::*;
use testkit::kafka::Cluster;
use testkit::proxy::Kproxy;
use testkit::python;

use super::wire::{NOBODY, Wire, batch, text, versions};
use crate::harness::same;
use crate::shared::{three_nodes, unique};

/// Another name for the loopback than the brokers use, so that theirs would be seen.
const HOST: &str = "localhost";
const BROKERS_HOST: &str = "127.0.0.1";
/// A UUID as Kafka writes them.
const SHARE_MEMBER: &str = "Z2Fma2EtdGVzdGtpdC0wMA";
const UNKNOWN_PARTITION: i16 = 3;
const NOT_LEADER: i16 = 6;
const LEADER_NOT_AVAILABLE: i16 = 5;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;

/// Where a client is told that nodes are: by answer and version, then node, host and port.
type Told = BTreeMap<(&'static str, i16), Vec<(i32, String, i32)>>;

/// Answers of one party.
struct Heard {
    told: Told,
    bytes: Vec<u8>,
    /// Error and leader of each partition, in every version of Metadata.
    leaders: Vec<Vec<(i16, i32)>>,
    coordinators: Vec<(i16, i32, String, i32)>,
}

/// A topic of one copy, and for each node a partition that it leads.
struct Stage {
    topic: metadata_response::MetadataResponseTopic,
    led_by: BTreeMap<i32, i32>,
}

impl Stage {
    fn name(&self) -> TopicName {
        self.topic.name.clone().unwrap_or_default()
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn records() -> Result<Bytes> {
    batch(&["for somebody else"], NOBODY)
}

/// Asks everything: `at` is where a node is found.
fn ask_everything(bootstrap: &str, at: impl Fn(i32) -> Result<String>, asked: i32, stage: &Stage) -> Result<Heard> {
    let mut wire = Wire::connect(bootstrap)?;
    let mut heard = Heard { told: Told::new(), bytes: Vec::new(), leaders: Vec::new(), coordinators: Vec::new() };
    let offered = wire.offered()?;
    for version in versions::<MetadataRequest>(&offered)? {
        let topic = MetadataRequestTopic::default().with_name(Some(stage.name()));
        let answer = wire.ask(version, &MetadataRequest::default().with_topics(Some(vec![topic])))?;
        let brokers = answer.brokers.iter().map(|broker| (broker.node_id.0, broker.host.to_string(), broker.port));
        heard.told.insert(("Metadata", version), brokers.collect());
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let mut leaders: Vec<_> = partitions.map(|of| (of.partition_index, of.error_code, of.leader_id.0)).collect();
        leaders.sort_unstable();
        heard.leaders.push(leaders.into_iter().map(|(_, error, leader)| (error, leader)).collect());
    }
    for version in versions::<DescribeClusterRequest>(&offered)? {
        let answer = wire.ask(version, &DescribeClusterRequest::default().with_endpoint_type(1))?;
        let brokers = answer.brokers.iter().map(|broker| (broker.broker_id.0, broker.host.to_string(), broker.port));
        heard.told.insert(("DescribeCluster", version), brokers.collect());
    }
    for version in versions::<FindCoordinatorRequest>(&offered)? {
        // The group's name decides whose it is; one of these belongs to every node.
        for key in (0..12).map(|number| text(&format!("group-{number}"))) {
            let request = FindCoordinatorRequest::default();
            let request = match version {
                0..=3 => request.with_key(key),
                _ => request.with_coordinator_keys(vec![key]),
            };
            let answer = wire.ask(version, &request)?;
            let found = match answer.coordinators.first() {
                Some(found) => (found.error_code, found.node_id.0, found.host.to_string(), found.port),
                None => (answer.error_code, answer.node_id.0, answer.host.to_string(), answer.port),
            };
            if found.0 == 0 {
                let told = heard.told.entry(("FindCoordinator", version)).or_default();
                told.push((found.1, found.2.clone(), found.3));
            }
            heard.coordinators.push(found);
        }
    }
    for version in versions::<DescribeQuorumRequest>(&offered)? {
        let topic = describe_quorum_request::TopicData::default()
            .with_topic_name(topic_name("__cluster_metadata"))
            .with_partitions(vec![describe_quorum_request::PartitionData::default()]);
        let answer = wire.ask(version, &DescribeQuorumRequest::default().with_topics(vec![topic]))?;
        same("DescribeQuorum", &answer.error_code, &0)?;
        let listeners = answer.nodes.iter().flat_map(|node| node.listeners.iter().map(move |at| (node.node_id.0, at)));
        let told = listeners.map(|(node, at)| (node, at.host.to_string(), i32::from(at.port))).collect();
        heard.told.insert(("DescribeQuorum", version), told);
    }
    for version in versions::<DescribeTopicPartitionsRequest>(&offered)? {
        let topics = vec![TopicRequest::default().with_name(stage.name())];
        let answer = wire.ask(version, &DescribeTopicPartitionsRequest::default().with_topics(topics))?;
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        heard.leaders.push(partitions.map(|of| (of.error_code, of.leader_id.0)).collect());
    }
    heard.bytes.append(&mut wire.received);
    ask_the_wrong_one(&at(asked)?, asked, stage, &mut heard)?;
    Ok(heard)
}

/// Whoever writes to or reads from a node that does not lead is told who does (KIP-951).
fn ask_the_wrong_one(address: &str, asked: i32, stage: &Stage, heard: &mut Heard) -> Result<()> {
    let mut wire = Wire::connect(address)?;
    let offered = wire.offered()?;
    let led_elsewhere: Vec<i32> = stage.led_by.iter().filter(|(node, _)| **node != asked).map(|(_, at)| *at).collect();
    let mut refusals = 0;
    let mut refused = |what: &str, version: i16, error: i16| -> Result<()> {
        refusals += 1;
        same(&format!("error of a node that does not lead, {what} v{version}"), &error, &NOT_LEADER)
    };
    for version in versions::<ProduceRequest>(&offered)? {
        let partition = |index: &i32| -> Result<_> {
            Ok(PartitionProduceData::default().with_index(*index).with_records(Some(records()?)))
        };
        let topic = TopicProduceData::default()
            .with_name(if version < 13 { stage.name() } else { TopicName::default() })
            .with_topic_id(stage.topic.topic_id)
            .with_partition_data(led_elsewhere.iter().map(partition).collect::<Result<_>>()?);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5_000).with_topic_data(vec![topic]);
        let answer = wire.ask(version, &request)?;
        answer
            .responses
            .iter()
            .flat_map(|of| &of.partition_responses)
            .try_for_each(|of| refused("Produce", version, of.error_code))?;
        let told = answer.node_endpoints.iter().map(|at| (at.node_id.0, at.host.to_string(), at.port));
        heard.told.insert(("Produce", version), told.collect());
    }
    for version in versions::<FetchRequest>(&offered)? {
        let partition =
            |index: &i32| FetchPartition::default().with_partition(*index).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default()
            .with_topic(if version < 13 { stage.name() } else { TopicName::default() })
            .with_topic_id(stage.topic.topic_id)
            .with_partitions(led_elsewhere.iter().map(partition).collect());
        let request = FetchRequest::default().with_max_wait_ms(100).with_max_bytes(1 << 20).with_topics(vec![topic]);
        // Without a session.
        let answer = wire.ask(version, &request.with_session_epoch(-1))?;
        answer
            .responses
            .iter()
            .flat_map(|of| &of.partitions)
            .try_for_each(|of| refused("Fetch", version, of.error_code))?;
        let told = answer.node_endpoints.iter().map(|at| (at.node_id.0, at.host.to_string(), at.port));
        heard.told.insert(("Fetch", version), told.collect());
    }
    let member = Some(text(SHARE_MEMBER));
    for version in versions::<ShareFetchRequest>(&offered)? {
        let partition = |index: &i32| ShareFetchPartition::default().with_partition_index(*index);
        let topic = ShareFetchTopic::default()
            .with_topic_id(stage.topic.topic_id)
            .with_partitions(led_elsewhere.iter().map(partition).collect());
        let request = ShareFetchRequest::default()
            .with_group_id(Some(GroupId(text("share"))))
            .with_member_id(member.clone())
            .with_max_wait_ms(100)
            .with_max_bytes(1 << 20)
            .with_max_records(10)
            .with_batch_size(10)
            .with_topics(vec![topic]);
        let answer = wire.ask(version, &request)?;
        same("ShareFetch", &answer.error_code, &0)?;
        answer
            .responses
            .iter()
            .flat_map(|of| &of.partitions)
            .try_for_each(|of| refused("ShareFetch", version, of.error_code))?;
        let told = answer.node_endpoints.iter().map(|at| (at.node_id.0, at.host.to_string(), at.port));
        heard.told.insert(("ShareFetch", version), told.collect());
    }
    // A node that lost the lead after records were acquired would tell the next; one that never led knows nothing.
    for version in versions::<ShareAcknowledgeRequest>(&offered)? {
        let batch = share_acknowledge_request::AcknowledgementBatch::default().with_acknowledge_types(vec![1]);
        let partition = |index: &i32| {
            let batches = vec![batch.clone()];
            AcknowledgePartition::default().with_partition_index(*index).with_acknowledgement_batches(batches)
        };
        let topic = AcknowledgeTopic::default()
            .with_topic_id(stage.topic.topic_id)
            .with_partitions(led_elsewhere.iter().map(partition).collect());
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(GroupId(text("share"))))
            .with_member_id(member.clone())
            .with_share_session_epoch(1)
            .with_topics(vec![topic]);
        let answer = wire.ask(version, &request)?;
        same("ShareAcknowledge", &answer.error_code, &0)?;
        answer
            .responses
            .iter()
            .flat_map(|of| &of.partitions)
            .try_for_each(|of| same("ShareAcknowledge", &of.error_code, &UNKNOWN_PARTITION))?;
        let told = answer.node_endpoints.iter().map(|at| (at.node_id.0, at.host.to_string(), at.port));
        heard.told.insert(("ShareAcknowledge", version), told.collect());
    }
    ensure!(refusals > 2 * 25, "{refusals} refusals prove little");
    heard.bytes.append(&mut wire.received);
    Ok(())
}

fn stage(kafka: &Cluster) -> Result<Stage> {
    let name = unique("hidden");
    python::create_topic(&kafka.bootstrap(), &name, 6, 1)?;
    let mut wire = Wire::connect(&kafka.address(1)?)?;
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(&name)));
    let answer = wire.ask(12, &MetadataRequest::default().with_topics(Some(vec![topic])))?;
    let topic = answer.topics.into_iter().next().context("the topic is there")?;
    let led_by = topic.partitions.iter().map(|of| (of.leader_id.0, of.partition_index)).collect::<BTreeMap<_, _>>();
    same("nodes that lead", &led_by.keys().copied().collect::<Vec<_>>(), &vec![1, 2, 3])?;
    for node in 1..=3 {
        testkit::wait::until("every node to know the topic", std::time::Duration::from_secs(20), || {
            let topic = MetadataRequestTopic::default().with_name(Some(topic_name(&name)));
            let mut wire = Wire::connect(&kafka.address(node)?)?;
            let answer = wire.ask(12, &MetadataRequest::default().with_topics(Some(vec![topic])))?;
            let known = answer.topics.first().context("the topic")?;
            same("partitions", &(known.error_code, known.partitions.len()), &(0, 6))
        })?;
    }
    // Coordinators are there from the first time that one is asked for.
    testkit::wait::until("coordinators", std::time::Duration::from_secs(20), || {
        let asked = FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group-0")]);
        same("error", &wire.ask(4, &asked)?.coordinators.first().context("an answer")?.error_code, &0)
    })?;
    Ok(Stage { topic, led_by })
}

/// Where a real address shows, if it does: the brokers' host, or one of their ports behind the host that clients are told.
///
/// A port alone proves nothing: the four bytes of port 27,648 are in every frame of 108 bytes whose id begins with zero.
fn leak(bytes: &[u8], kafka: &Cluster) -> Option<String> {
    let finds = |needle: &[u8]| bytes.windows(needle.len()).any(|found| found == needle);
    let ports = kafka.ports().into_iter();
    let behind_host = |port: Vec<u8>| [HOST.as_bytes(), &port].concat();
    let by_port = ports.flat_map(|port| {
        let written = [i32::from(port).to_be_bytes().to_vec(), port.to_be_bytes().to_vec()].map(behind_host);
        written.into_iter().chain([format!(":{port}").into_bytes()])
    });
    let mut needles = by_port.chain([BROKERS_HOST.as_bytes().to_vec()]);
    needles.find(|needle| finds(needle)).map(|needle| format!("{needle:?} in {} bytes", bytes.len()))
}

/// Answers that carry addresses here, in which versions. ShareAcknowledge is left to `tests/rewriters.rs` of the router.
const WITH_ADDRESSES: [(&str, i16, i16); 7] = [
    ("Metadata", 0, 13),
    ("DescribeCluster", 0, 2),
    ("FindCoordinator", 0, 6),
    ("DescribeQuorum", 2, 2),
    ("Produce", 10, 13),
    ("Fetch", 16, 18),
    ("ShareFetch", 1, 1),
];

pub fn nothing_leaks() -> Result<()> {
    let kafka = three_nodes()?;
    let stage = stage(&kafka)?;
    let direct = ask_everything(&kafka.address(1)?, |node| kafka.address(node as usize), 2, &stage)?;
    for (name, first, last) in WITH_ADDRESSES {
        for version in first..=last {
            let told = direct.told.get(&(name, version)).with_context(|| format!("{name} v{version} was not asked"))?;
            ensure!(!told.is_empty(), "{name} v{version} of a broker has no address: this proves nothing");
        }
    }
    ensure!(leak(&direct.bytes, &kafka).is_some(), "brokers' own answers do not show where they are");
    for port in kafka.ports() {
        let real_port = [HOST.as_bytes(), &i32::from(port).to_be_bytes()].concat();
        ensure!(leak(&real_port, &kafka).is_some(), "a real port behind the proxy's host is not seen");
    }

    let kproxy = Kproxy::start(&kafka.bootstrap(), &["--node-id-base", "1", "--advertised", HOST])?;
    let first = kproxy.node(1, 1)?;
    let found = ask_everything(&kproxy.bootstrap, |node| kproxy.node(node, 1), 2, &stage)?;
    same("a real address", &leak(&found.bytes, &kafka), &None)?;
    let first: i32 = first.rsplit(':').next().context("a port")?.parse()?;
    for ((name, version), told) in &found.told {
        let is_elsewhere = matches!(*name, "Fetch" | "ShareFetch" | "DescribeQuorum");
        let of_direct = if is_elsewhere { &[][..] } else { direct.told[&(*name, *version)].as_slice() };
        let expected: Vec<_> = of_direct.iter().map(|(node, ..)| (*node, HOST.to_owned(), first + node - 1)).collect();
        same(&format!("{name} v{version}"), &sorted(told), &sorted(&expected))?;
    }
    same("leaders", &found.leaders, &direct.leaders)?;
    ensure!(kproxy.metric("kproxy_answers_hidden_total")? >= 4, "Fetch answers passed unseen");
    only_one_has_a_place(&kafka, &stage, &direct)
}

/// A range of one port: the other two brokers are absent, lead nothing and coordinate nothing.
fn only_one_has_a_place(kafka: &Cluster, stage: &Stage, direct: &Heard) -> Result<()> {
    let flags = ["--node-id-base", "2", "--range-width", "1", "--advertised", HOST];
    let kproxy = Kproxy::start(&kafka.bootstrap(), &flags)?;
    let found = ask_everything(&kproxy.bootstrap, |node| kproxy.node(node, 2), 2, stage)?;
    same("a real address", &leak(&found.bytes, kafka), &None)?;
    for ((name, version), told) in &found.told {
        ensure!(told.iter().all(|(node, host, _)| (*node, host.as_str()) == (2, HOST)), "{name} v{version}: {told:?}");
        ensure!(*name != "Metadata" || told.len() == 1, "{name} v{version}: {told:?}");
    }
    for (leaders, of_direct) in found.leaders.iter().zip(&direct.leaders) {
        let hidden = |(error, leader): &(i16, i32)| match leader {
            2 => (*error, 2),
            _ => (LEADER_NOT_AVAILABLE, -1),
        };
        same("leaders", leaders, &of_direct.iter().map(hidden).collect())?;
    }
    for (coordinator, of_direct) in found.coordinators.iter().zip(&direct.coordinators) {
        match of_direct.1 {
            2 => same("coordinator", &(coordinator.0, coordinator.1), &(0, 2))?,
            _ => same("coordinator", coordinator, &(COORDINATOR_NOT_AVAILABLE, -1, String::new(), -1))?,
        }
    }
    let log = kproxy.log();
    ensure!(log.contains("broker outside the range"), "{log}");
    Ok(())
}

fn sorted<T: Ord + Clone>(all: &[T]) -> Vec<T> {
    let mut all = all.to_owned();
    all.sort();
    all.dedup();
    all
}
