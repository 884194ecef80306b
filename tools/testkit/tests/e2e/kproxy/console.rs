//! What Kafka brings in its `bin`, used as an operator uses it.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::proxy::Kproxy;
use testkit::record::Record;
use testkit::{java, python};

use crate::harness::same;
use crate::shared::{three_nodes, unique};

const RECORDS: usize = 40;

pub fn tools_do_the_same_through_it() -> Result<()> {
    let kafka = three_nodes()?;
    let kproxy = Kproxy::start(&kafka.bootstrap(), &["--node-id-base", "1"])?;
    let (direct, proxied, topic) = (kafka.bootstrap(), kproxy.bootstrap.as_str(), unique("tools"));
    let of_topic = ["--topic", &topic];
    tool("TopicCommand", proxied, &[&of_topic[..], &["--create", "--partitions", "3"]].concat(), "")?;
    both_ways("TopicCommand", [&direct, proxied], &[&of_topic[..], &["--describe"]].concat())?;

    let typed: Vec<String> = (0..RECORDS).map(|at| format!("typed {at}")).collect();
    tool("ConsoleProducer", proxied, &of_topic, &typed.join("\n"))?;
    let count = RECORDS.to_string();
    let read = [&of_topic[..], &["--from-beginning", "--timeout-ms", "30000", "--max-messages", &count]].concat();
    for bootstrap in [&direct, proxied] {
        let printed = tool("consumer.ConsoleConsumer", bootstrap, &read, "")?;
        let found: BTreeSet<&str> = printed.lines().collect();
        same("what was typed", &found, &typed.iter().map(String::as_str).collect())?;
    }

    let told = tool("VerifiableProducer", proxied, &[&of_topic[..], &["--max-messages", &count]].concat(), "")?;
    same("acknowledged", &events(&told, "producer_send_success")?.len(), &RECORDS)?;
    let all = (2 * RECORDS).to_string();
    for protocol in ["CLASSIC", "CONSUMER"] {
        let group = unique("verifiable");
        let rest = ["--max-messages", &all, "--reset-policy", "earliest", "--group-protocol", protocol];
        let rest = [&of_topic[..], &["--group-id", &group], &rest].concat();
        let told = tool("VerifiableConsumer", proxied, &rest, "").context(protocol)?;
        same(protocol, &counted(&told, "records_consumed")?, &(2 * RECORDS as u64))?;
        both_ways("consumer.group.ConsumerGroupCommand", [&direct, proxied], &["--describe", "--group", &group])?;
    }
    let group = unique("shared");
    let rest = ["--max-messages", &all, "--offset-reset-strategy", "earliest", "--group-id", &group];
    let told = tool("VerifiableShareConsumer", proxied, &[&of_topic[..], &rest].concat(), "")?;
    same("taken by a share group", &counted(&told, "records_consumed")?, &(2 * RECORDS as u64))?;
    same("acknowledged to it", &counted(&told, "offsets_acknowledged")?, &(2 * RECORDS as u64))?;
    both_ways("consumer.group.ShareGroupCommand", [&direct, proxied], &["--describe", "--group", &group])?;
    let quorum = tool("MetadataQuorumCommand", proxied, &["describe", "--status"], "")?;
    ensure!(quorum.contains("LeaderId:"), "{quorum}");
    Ok(())
}

/// A leader sends who is in another broker's rack to that broker (KIP-392), and this is done through the proxy too.
pub fn a_consumer_reads_from_its_rack() -> Result<()> {
    let kafka = three_nodes()?;
    let kproxy = Kproxy::start(&kafka.bootstrap(), &["--node-id-base", "1"])?;
    let topic = unique("racks");
    python::create_topic(&kproxy.bootstrap, &topic, 1, 3)?;
    const SIZE: usize = 300_000;
    java::produce(&kafka.bootstrap(), &topic, &[Record::with_value("x".repeat(SIZE))])?;
    let leader = kafka.leader(&topic, 0)?;
    // Not counted before its first connection.
    let of = |node: usize| kproxy.metric(&format!("kproxy_broker_bytes_total{{broker=\"{node}\"}}")).unwrap_or(0);
    for node in (1..=3).filter(|node| *node != leader) {
        let (before, of_leader) = (of(node), of(leader));
        let rack = format!("client.rack=rack-{node}");
        let rest = ["--from-beginning", "--max-messages", "1", "--timeout-ms", "30000", "--command-property", &rack];
        let printed =
            tool("consumer.ConsoleConsumer", &kproxy.bootstrap, &[&["--topic", &topic][..], &rest].concat(), "")?;
        same("size read", &printed.trim().len(), &SIZE)?;
        let (follower, leader) = (of(node) - before, of(leader) - of_leader);
        ensure!(
            follower > SIZE as u64 && leader < SIZE as u64,
            "{follower} from the follower, {leader} from its leader"
        );
    }
    Ok(())
}

fn tool(class: &str, bootstrap: &str, words: &[&str], input: &str) -> Result<String> {
    java::tool(class, &[&["--bootstrap-server", bootstrap], words].concat(), input)
}

/// What is printed is the same, directly and through the proxy.
fn both_ways(class: &str, [direct, proxied]: [&str; 2], words: &[&str]) -> Result<String> {
    let direct = tool(class, direct, words, "")?;
    same(class, &tool(class, proxied, words, "")?, &direct)?;
    ensure!(!direct.trim().is_empty(), "{class} printed nothing");
    Ok(direct)
}

/// The lines of a verifiable client with this name.
fn events(printed: &str, name: &str) -> Result<Vec<Value>> {
    let lines: Vec<Value> =
        printed.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("JSON lines")?;
    Ok(lines.into_iter().filter(|line| line["name"] == name).collect())
}

fn counted(printed: &str, name: &str) -> Result<u64> {
    events(printed, name)?.iter().map(|event| event["count"].as_u64().context("a count")).sum()
}
