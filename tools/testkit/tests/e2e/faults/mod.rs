//! Brokers die, stall, hand over and run out of disk, gateways die, while 200 connections publish: every 201 is in
//! Kafka exactly once and in order, nothing that was refused is there, nobody waits longer than he asked for.
//!
//! [`scenarios`] is the table: what happens, on which Kafka, for how long. [`stage`] is what they all play on.

mod scenarios;
mod stage;

use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::gateway::Quickstart;
use testkit::http::{Connection, Request};
use testkit::kafka::{Cluster, KafkaOptions, Version};
use testkit::ledger;
use testkit::load::Load;
use testkit::process::scratch_dir;
use testkit::progress::say;
use testkit::python::{self, Client};
use testkit::wait;

use self::scenarios::{Length, SCENARIOS};
use crate::harness::{Case, Run, case};

pub use self::stage::{stop, with_brokers};

const NEEDS: &[&str] = &["bin:kateway", "kafka", "python-clients"];
const NEEDS_3_9: &[&str] = &["bin:kateway", "kafka-zk", "kafka", "python-clients"];

/// One scenario at a time: each wants all of the machine, and they share the brokers.
pub static TURN: Mutex<()> = Mutex::new(());

/// The cases of this file and every scenario: short against 4.4, and nightly in full length against 4.4 and 3.9.
pub static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let mut cases = vec![case("a_single_broker_that_restarts_is_refused_then_resumed", NEEDS, single_broker_restarts)];
    let settings = [
        ("", Version::Newest, Length::Short),
        ("_for_long", Version::Newest, Length::Full),
        ("_for_long_with_kafka_3_9", Version::WithZookeeper, Length::Full),
    ];
    for (suffix, version, length) in settings {
        for scenario in SCENARIOS {
            let Some(lengths) = scenario.lengths(length) else { continue };
            let row = move || stage::play(scenario, version, lengths);
            cases.push(Case {
                name: Box::leak(format!("{}{suffix}", scenario.name).into_boxed_str()),
                needs: if version == Version::Newest { NEEDS } else { NEEDS_3_9 },
                nightly: length == Length::Full,
                run: Run::Row(Box::leak(Box::new(row))),
                turn: Some(&TURN),
            });
        }
    }
    cases
});

/// Electing and learning about it takes a few seconds, starting a broker more.
const RECOVERS_WITHIN: Duration = Duration::from_secs(30);

fn single_broker_restarts() -> Result<()> {
    let (mut kafka, dir) = (Cluster::start(KafkaOptions::default())?, scratch_dir("faults")?);
    let quickstart = Quickstart::start(dir.path(), &["--bootstrap", &kafka.bootstrap()])?;
    let load = Load { timeout: Duration::from_secs(2), ..Load::default() };
    let running = load.start(&[&quickstart.publish], &quickstart.demo);
    running.wait_for_more(500, RECOVERS_WITHIN)?;
    kafka.kill(1)?;
    let started = Instant::now();
    let refused = quickstart.post(&quickstart.demo, "?timeout=1s&hh=n", "nobody is there")?;
    ensure!(matches!(refused.status, 503 | 504), "{}: {}", refused.status, refused.text());
    ensure!(started.elapsed() < Duration::from_secs(4), "answered after {:?}", started.elapsed());
    let unknown = refused.status == 504;
    kafka.restart(1)?;
    kafka.wait_until_all_visible()?;
    running.wait_for_more(500, RECOVERS_WITHIN).context("after the restart")?;
    let written = running.stop()?;
    wait::until("what waited at the gateway to be delivered", RECOVERS_WITHIN, || {
        let health = Connection::open(&quickstart.publish)?.call(&Request::get("/readyz"))?.text();
        ensure!(!health.contains("\"handoff\""), "{health}");
        Ok(())
    })?;
    let mut records = python::read(Client::Confluent, &kafka.bootstrap(), &quickstart.demo.physical_topic())?;
    let before = records.len();
    records.retain(|record| record.text() != "nobody is there");
    ensure!(before == records.len() || unknown, "a message answered 503 was stored");
    let report = ledger::check(&written.ledger, &records).into_result().with_context(|| quickstart.log_tail())?;
    say(&format!("  {report}"));
    Ok(())
}
