//! Brokers die, stall and hand over while messages flow: every 201 is in Kafka exactly once and in order, nothing
//! that was refused is there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::gateway::Quickstart;
use testkit::java;
use testkit::kafka::{Cluster, KafkaOptions};
use testkit::ledger::{self, Report};
use testkit::load::{Load, Running};
use testkit::process::scratch_dir;
use testkit::progress::say;
use testkit::python::{self, Client};

use crate::harness::{Case, case, nightly};

pub const CASES: &[Case] = &[
    case(
        "every_201_is_in_kafka_once_and_in_order_while_a_broker_dies_and_leaders_move",
        &["bin:kateway", "kafka", "python-clients"],
        broker_dies_and_leaders_move,
    ),
    case("a_single_broker_that_restarts_is_refused_then_resumed", &["bin:kateway", "kafka", "python-clients"], restart),
    nightly("brokers_that_stall_and_die_for_minutes", &["bin:kateway", "kafka", "python-clients"], minutes),
];

/// Fencing a dead broker takes 3 s, electing and learning about it a little more.
const RECOVERS_WITHIN: Duration = Duration::from_secs(30);

fn gateway_for(kafka: &Cluster, dir: &tempfile::TempDir) -> Result<Quickstart> {
    let quickstart = Quickstart::start(dir.path(), &["--bootstrap", &kafka.bootstrap()])?;
    let described = python::describe_topic(&kafka.bootstrap(), &quickstart.demo.physical_topic())?;
    let partitions = described["partitions"].as_array().context("partitions")?;
    ensure!(partitions.len() == 4, "the demo topic has {} partitions", partitions.len());
    let copies = partitions[0]["replicas"].as_array().map_or(0, Vec::len);
    ensure!(copies == kafka.node_count().min(3), "the demo topic has {copies} copies");
    Ok(quickstart)
}

fn leader_of(kafka: &Cluster, topic: &str, partition: usize) -> Result<usize> {
    let described = python::describe_topic(&kafka.internal(), topic)?;
    let leader = described["partitions"].get(partition).and_then(|entry| entry["leader"].as_u64());
    usize::try_from(leader.with_context(|| format!("no leader in {described}"))?).map_err(Into::into)
}

/// Stops the load and compares its ledger with what is in Kafka now.
fn judge(kafka: &Cluster, quickstart: &Quickstart, running: Running) -> Result<Report> {
    let ledger = running.stop()?;
    let records = python::read(Client::Confluent, &kafka.bootstrap(), &quickstart.demo.physical_topic())?;
    let report = ledger::check(&ledger, &records).into_result().with_context(|| quickstart.log_tail())?;
    say(&format!("  {report}"));
    Ok(report)
}

fn broker_dies_and_leaders_move() -> Result<()> {
    let (mut kafka, dir) = (Cluster::start(KafkaOptions::nodes(3))?, scratch_dir("faults")?);
    let quickstart = gateway_for(&kafka, &dir)?;
    let topic = quickstart.demo.physical_topic();
    let running = Load::default().start(&quickstart.publish, &quickstart.demo);
    running.wait_for_more(500, RECOVERS_WITHIN).context("before any fault")?;

    let victim = leader_of(&kafka, &topic, 0)?;
    kafka.kill(victim)?;
    running.wait_for_more(1_000, RECOVERS_WITHIN).context("after the kill")?;
    kafka.restart(victim)?;
    kafka.wait_until_all_visible()?;
    running.wait_for_more(500, RECOVERS_WITHIN).context("after the restart")?;

    for partition in 0..2 {
        let leader = leader_of(&kafka, &topic, partition)?;
        let next = leader % kafka.node_count() + 1;
        java::move_leader(&kafka.bootstrap(), &topic, i32::try_from(partition)?, i32::try_from(next)?)?;
        running.wait_for_more(300, RECOVERS_WITHIN).with_context(|| format!("after partition {partition} moved"))?;
    }
    let report = judge(&kafka, &quickstart, running)?;
    ensure!(report.stored >= 2_000, "{report}");
    Ok(())
}

fn restart() -> Result<()> {
    let (mut kafka, dir) = (Cluster::start(KafkaOptions::default())?, scratch_dir("faults")?);
    let quickstart = gateway_for(&kafka, &dir)?;
    let load = Load { timeout: "2s", ..Load::default() };
    let running = load.start(&quickstart.publish, &quickstart.demo);
    running.wait_for_more(500, RECOVERS_WITHIN)?;
    kafka.kill(1)?;
    let started = std::time::Instant::now();
    let refused = quickstart.post(&quickstart.demo, "?timeout=1s", "nobody is there")?;
    ensure!(matches!(refused.status, 503 | 504), "{}: {}", refused.status, refused.text());
    ensure!(started.elapsed() < Duration::from_secs(4), "answered after {:?}", started.elapsed());
    let unknown = refused.status == 504;
    kafka.restart(1)?;
    kafka.wait_until_all_visible()?;
    running.wait_for_more(500, RECOVERS_WITHIN).context("after the restart")?;
    let ledger = running.stop()?;
    let mut records = python::read(Client::Confluent, &kafka.bootstrap(), &quickstart.demo.physical_topic())?;
    let before = records.len();
    records.retain(|record| record.text() != "nobody is there");
    ensure!(before == records.len() || unknown, "a message answered 503 was stored");
    let report = ledger::check(&ledger, &records).into_result().with_context(|| quickstart.log_tail())?;
    say(&format!("  {report}"));
    Ok(())
}

fn minutes() -> Result<()> {
    let (mut kafka, dir) = (Cluster::start(KafkaOptions::nodes(3))?, scratch_dir("faults")?);
    let quickstart = gateway_for(&kafka, &dir)?;
    let load = Load { requests_max: 200_000, ..Load::default() };
    let running = load.start(&quickstart.publish, &quickstart.demo);
    for round in 0..6 {
        let victim = round % kafka.node_count() + 1;
        running.wait_for_more(500, RECOVERS_WITHIN)?;
        if round % 2 == 0 {
            kafka.kill(victim)?;
            running.wait_for_more(500, RECOVERS_WITHIN)?;
            kafka.restart(victim)?;
            kafka.wait_until_all_visible()?;
        } else {
            kafka.pause(victim)?;
            running.wait_for_more(200, Duration::from_secs(60))?;
            kafka.resume(victim)?;
        }
    }
    judge(&kafka, &quickstart, running).map(drop)
}
