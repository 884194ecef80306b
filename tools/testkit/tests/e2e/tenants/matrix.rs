//! Clients of every make as tenants: each says `topic.version`, Kafka has the app in front, and what is there is the same.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::{ConsumerGroupDescribeRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId};
use serde_json::json;
use testkit::foreign::{self, Client as Foreign, TENANT_TOPICS};
use testkit::gateway::Tenant;
use testkit::java::{self, Setup};
use testkit::kafka::Cluster;
use testkit::login::{At, PLAIN, SCRAM_256, SCRAM_512};
use testkit::process::scratch_dir;
use testkit::progress::say;
use testkit::python::{self, Client};
use testkit::record::Record;
use testkit::steady::Steady;
use testkit::{go, kcat, wait};

use super::stage::{Stage, Topic, stage};
use crate::foreign::of_tenant;
use crate::harness::same;
use crate::kproxy::clients::essence;
use crate::kproxy::wire::{Wire, text};
use crate::shared::{three_nodes, unique};

const SOON: Duration = Duration::from_secs(20);
const PREFIX: &str = "t";

/// The programs of `foreign`, by every mechanism.
pub fn finds_what_it_finds_at_kafka(client: Foreign) -> Result<()> {
    let stage = stage()?;
    let mechanism = match client {
        foreign::CONFLUENT | foreign::KAFKA_PYTHON_2_0 => SCRAM_512,
        foreign::CONFLUENT_2_3 | foreign::AIOKAFKA => SCRAM_256,
        _ => PLAIN,
    };
    // On a busy machine a consumer of kafka-python 3.0.12 now and then gets no record any more.
    let attempts = if client == foreign::KAFKA_PYTHON { 3 } else { 1 };
    let mut found = finds(&stage, client, mechanism);
    for _ in 1..attempts {
        let Err(err) = &found else { break };
        if !format!("{err:?}").contains("waited in vain") {
            break;
        }
        say(&format!("  {} waited in vain: once more", client.name));
        found = finds(&stage, client, mechanism);
    }
    same(client.name, &found.with_context(|| stage.kproxy.log_tail())?, &of_tenant(client))
}

fn finds(stage: &Stage, client: Foreign, mechanism: &'static str) -> Result<Vec<foreign::Finding>> {
    let tenant = stage.gateway.admin(&["app", "create", &unique("foreign"), "--cluster", "main"])?;
    let word = |name: &str| tenant[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {tenant}"));
    let tenant = Tenant {
        appid: word("appid")?,
        pubkey: word("pubkey")?,
        subkey: word("subkey")?,
        topic: String::new(),
        ver: String::new(),
    };
    for (name, partitions) in TENANT_TOPICS {
        stage.topic(&tenant, &format!("{PREFIX}-{name}"), "v1", partitions)?;
    }
    stage.in_force(&tenant, TENANT_TOPICS.len())?;
    foreign::findings(client, tenant.login(mechanism).at(&stage.kproxy.bootstrap), PREFIX)
}

/// Own and granted topics, with and without a checksum in Kafka's name.
pub fn records_are_the_same_under_both_names() -> Result<()> {
    let (stage, kafka) = (stage()?, three_nodes()?);
    let (owner, reader) = (stage.tenant("owner")?, stage.tenant("reader")?);
    let plain = stage.topic(&owner, "orders", "v9", 1)?;
    same("in Kafka without a checksum", &plain.physical, &plain.others)?;
    stage.grant(&reader, &plain)?;
    let (writes, reads) = (owner.login(SCRAM_512), reader.login(SCRAM_256));
    let record = [Record::with_value("plain").key("k")];
    python::produce(Client::Confluent, writes.at(&stage.kproxy.bootstrap), &plain.own, &record)?;
    let read = python::read(Client::Confluent, reads.at(&stage.kproxy.bootstrap), &plain.others)?;
    same("read", &read, &python::read(Client::Confluent, &kafka.bootstrap(), &plain.physical)?)?;
    same("records", &read.len(), &1)?;

    let topic = stage.topic(&owner, "orders", "v10", 6)?;
    ensure!(topic.physical != topic.others && topic.physical.starts_with(&topic.others), "{topic:?}");
    stage.grant(&reader, &topic)?;
    written_and_read(&stage, &kafka, &owner, &reader, &topic)
}

fn written_and_read(stage: &Stage, kafka: &Cluster, owner: &Tenant, reader: &Tenant, topic: &Topic) -> Result<()> {
    let (direct, proxied) = (kafka.bootstrap(), stage.kproxy.bootstrap.as_str());
    let logins = [PLAIN, SCRAM_256, SCRAM_512].map(|mechanism| owner.login(mechanism));
    let [plain, scram_256, scram_512] = logins.each_ref().map(|login| login.at(proxied));
    let large = Record::with_value("x".repeat(700_000)).key("large");
    let mut sent =
        java::produce(scram_512, &topic.own, &[Record::with_value("java").key("k").header("h", "v"), large])?;
    for (client, at) in [(Client::Confluent, scram_256), (Client::KafkaPython, plain)] {
        let record = Record::with_value(client.name()).key("k1").header("tag", "a").header("tag", "b");
        sent.extend(python::produce(client, at, &topic.own, &[record, Record::with_value("no key")])?);
    }
    kcat::produce(plain, &topic.own, &Record::with_value("kcat").key("k3").header("h", "v"))?;
    let truth = essence(&java::read(&direct, &topic.physical)?);
    same("records in Kafka", &truth.len(), &(sent.len() + 1))?;
    let others = [SCRAM_512, PLAIN, SCRAM_256].map(|mechanism| reader.login(mechanism));
    let [other_512, other_plain, other_256] = others.each_ref().map(|login| login.at(proxied));
    let (own, granted) = (topic.own.as_str(), topic.others.as_str());
    same("Java", &essence(&java::read(plain, own)?), &truth)?;
    same("Java, granted", &essence(&java::read(other_512, granted)?), &truth)?;
    same("kcat", &essence(&kcat::read(scram_512, own)?), &truth)?;
    same("kcat, granted", &essence(&kcat::read(other_plain, granted)?), &truth)?;
    same("confluent", &essence(&python::read(Client::Confluent, plain, own)?), &truth)?;
    same("confluent, granted", &essence(&python::read(Client::Confluent, other_256, granted)?), &truth)?;
    same("kafka-python", &essence(&python::read(Client::KafkaPython, scram_256, own)?), &truth)?;
    same("kafka-python, granted", &essence(&python::read(Client::KafkaPython, other_plain, granted)?), &truth)
}

pub fn clients_written_in_go_do_it_too() -> Result<()> {
    let (stage, kafka) = (stage()?, three_nodes()?);
    let tenant = stage.tenant("go")?;
    for (index, client) in go::Client::ALL.into_iter().enumerate() {
        let topic = stage.topic(&tenant, &format!("go-{index}"), "v1", 4)?;
        stage.in_force(&tenant, index + 2)?;
        let login = tenant.login(PLAIN);
        let found = go::round_trip(client, login.at(&stage.kproxy.bootstrap), &topic.own);
        let mut values = found.with_context(|| format!("{client:?}"))?;
        values.sort();
        same(client.name, &values, &["v0", "v1", "v2"].map(str::to_owned).to_vec())?;
        same("in Kafka", &kcat::read(&kafka.bootstrap(), &topic.physical)?.len(), &3)?;
    }
    Ok(())
}

/// A group is one group, whether its members come through the proxy or know Kafka's names: they take turns.
pub fn a_group_goes_on_under_both_names() -> Result<()> {
    let (stage, kafka) = (stage()?, three_nodes()?);
    let tenant = stage.tenant("groups")?;
    let dir = scratch_dir("tenants")?;
    let settings = dir.path().join("client.properties");
    fs::write(&settings, "group.protocol=consumer\n")?;
    let setup = Setup { settings: &settings, hosts: None };
    // The one that is called a consumer here is KIP-848's.
    type Consume<'a> = &'a dyn Fn(At<'_>, &str, &str) -> Result<Vec<Record>>;
    let rows: [(&str, &'static str, &str, Consume<'_>); 5] = [
        ("java", SCRAM_256, "classic", &|at, topic, group| java::consume(at, topic, group, 9)),
        ("confluent", SCRAM_512, "classic", &|at, topic, group| {
            python::consume(Client::Confluent, at, topic, group, 9)
        }),
        ("kafka-python", PLAIN, "classic", &|at, topic, group| {
            python::consume(Client::KafkaPython, at, topic, group, 9)
        }),
        ("java", PLAIN, "consumer", &|at, topic, group| java::consume_as(setup, at, topic, group, 9)),
        ("confluent", SCRAM_256, "consumer", &|at, topic, group| {
            python::consume_with(json!({"group.protocol": "consumer"}), at, topic, group, 9)
        }),
    ];
    let (direct, proxied) = (kafka.bootstrap(), &stage.kproxy.bootstrap);
    // A topic for each group, which begins with the oldest.
    let topics = [stage.topic(&tenant, "classic", "v1", 3)?, stage.topic(&tenant, "consumer", "v10", 3)?];
    stage.in_force(&tenant, 3)?;
    for (name, mechanism, group, consume) in rows {
        let login = tenant.login(mechanism);
        let of_group = &topics[usize::from(group == "consumer")];
        let (topic, physical_topic) = (of_group.own.clone(), of_group.physical.clone());
        let physical_group = tenant.physical_group(group);
        let ways: [(&str, At<'_>, &str, &str); 2] = [
            ("through kproxy", login.at(proxied), &topic, group),
            ("directly", At::from(&direct), &physical_topic, &physical_group),
        ];
        for (way, at, topic_there, group_there) in ways {
            let what = || format!("{name}, {group}, {way}");
            let values: Vec<Record> = (0..9).map(|at| Record::with_value(format!("{name} {at}"))).collect();
            let sent = python::produce(Client::Confluent, login.at(proxied), &topic, &values)?;
            let read = consume(at, topic_there, group_there).with_context(what)?;
            same(&what(), &essence(&read), &essence(&sent))?;
        }
        let committed = python::committed(&direct, &physical_topic, &physical_group)?;
        same("committed", &python::committed(login.at(proxied), &topic, group)?, &committed)?;
    }
    Ok(())
}

/// What Kafka is told of a tenant's group.
pub fn kafka_has_the_app_before_groups_and_topics() -> Result<()> {
    let (stage, kafka) = (stage()?, three_nodes()?);
    let (tenant, other) = (stage.tenant("named")?, stage.tenant("granting")?);
    let granted = stage.topic(&other, "prices", "v10", 2)?;
    stage.grant(&tenant, &granted)?;
    let login = tenant.login(SCRAM_512);
    let topics = json!([tenant.own_topic(), granted.others]);
    let mut expected = vec![tenant.physical_topic(), granted.physical.clone()];
    expected.sort();
    for (number, protocol) in ["classic", "consumer"].into_iter().enumerate() {
        let config = match protocol {
            "classic" => json!({"topics": topics}),
            _ => json!({"topics": topics, "group.protocol": protocol}),
        };
        let mut member =
            Steady::consume_with(config, login.at(&stage.kproxy.bootstrap), &tenant.own_topic(), protocol)?;
        python::produce(
            Client::Confluent,
            login.at(&stage.kproxy.bootstrap),
            &tenant.own_topic(),
            &[Record::with_value("x")],
        )?;
        // Either group reads from the beginning.
        member.wait_for(number + 1, SOON).with_context(|| protocol.to_owned())?;
        let group = tenant.physical_group(protocol);
        let found = match protocol {
            "classic" => classic_subscription(&mut coordinator(&kafka, &group)?, &group)?,
            _ => subscription(&mut coordinator(&kafka, &group)?, &group)?,
        };
        same(protocol, &found, &expected)?;
        member.stop()?;
    }
    Ok(())
}

/// A connection past the proxy, to the broker that coordinates a group.
pub fn coordinator(kafka: &Cluster, group: &str) -> Result<Wire> {
    let found = wait::until("the coordinator", SOON, || {
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(group)]);
        let answer = Wire::connect(&kafka.address(1)?)?.ask(4, &request)?;
        let found = answer.coordinators.first().context("an answer")?.clone();
        same("error", &found.error_code, &0)?;
        Ok(found)
    })?;
    Wire::connect(&kafka.address(found.node_id.0 as usize)?)
}

/// Topics that the only member of a group says it subscribes to, by the consumers' own protocol.
fn classic_subscription(wire: &mut Wire, group: &str) -> Result<Vec<String>> {
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(group))]);
    let answer = wire.ask(5, &request)?;
    let member = answer.groups.first().and_then(|group| group.members.first()).context("a member")?;
    // version, count, then each topic with its length in front.
    let metadata = &member.member_metadata;
    let number = |at: usize, width: usize| -> Result<usize> {
        let bytes = metadata.get(at..at + width).context("cut off")?;
        Ok(bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    };
    let (mut topics, mut at) = (Vec::new(), 6);
    for _ in 0..number(2, 4)? {
        let length = number(at, 2)?;
        topics.push(String::from_utf8(metadata.get(at + 2..at + 2 + length).context("cut off")?.to_vec())?);
        at += 2 + length;
    }
    topics.sort();
    let assignment = String::from_utf8_lossy(&member.member_assignment).into_owned();
    ensure!(topics.iter().all(|topic| assignment.contains(topic)), "{topics:?} are not all in {assignment:?}");
    Ok(topics)
}

/// The same by KIP-848.
fn subscription(wire: &mut Wire, group: &str) -> Result<Vec<String>> {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![GroupId(text(group))]);
    let answer = wire.ask(0, &request)?;
    let member = answer.groups.first().and_then(|group| group.members.first()).context("a member")?;
    let mut topics: Vec<String> = member.subscribed_topic_names.iter().map(|name| name.to_string()).collect();
    topics.sort();
    Ok(topics)
}
