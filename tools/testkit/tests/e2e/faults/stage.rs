//! What every scenario plays on: three brokers, one or two gateways, 200 publishers; and the judgement afterwards.
//!
//! The brokers are shared by consecutive scenarios. A scenario that failed leaves them in a state nobody knows, so
//! the next one gets new ones.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use testkit::gateway::{Gateway, Tenant};
use testkit::judgement::judge_answers;
use testkit::kafka::{Cluster, KafkaOptions, Version};
use testkit::ledger::{self, Ledger, Outcome, Report};
use testkit::load::{Answers, Load, Running};
use testkit::process::scratch_dir;
use testkit::progress::say;
use testkit::python::{self, Client};

use super::scenarios::{Lengths, Scenario};
use crate::gateways::{serve, wait_until_known, write_config};
use crate::shared::unique;

/// The node whose disk can be filled.
pub const NODE_WITH_OWN_DISK: usize = 3;
const PARTITIONS: u32 = 4;
/// What must have been stored for a scenario to prove anything.
const STORED_MIN: usize = 3_000;
/// An answer comes within what its request asked for, the sweep that notices it, and a scheduler with two cores for
/// three brokers, a gateway and its clients.
const LATE_MAX: Duration = Duration::from_secs(4);

/// A gateway holds what 200 connections sent and a dead cluster did not take; this is many times that.
const RESIDENT_MB_MAX: u64 = 256;
/// Of the reasons for unknown outcomes.
const REASONS_SHOWN_MAX: usize = 5;

/// What each of the 200 connections does.
fn load(timeout: Duration) -> Load {
    Load {
        keyed: 110,
        keyless: 50,
        ndjson: 15,
        binary: 15,
        streams: 10,
        pause: Duration::from_millis(150),
        value_bytes: 120,
        timeout,
        ..Load::default()
    }
}

/// The brokers of the last scenario, for the next one.
static BROKERS: Mutex<Option<(Version, Cluster)>> = Mutex::new(None);

/// Stops the shared brokers; `main` calls this at its end.
pub fn stop() {
    drop(BROKERS.lock().unwrap_or_else(PoisonError::into_inner).take());
}

fn brokers(version: Version) -> Result<Cluster> {
    let last = BROKERS.lock().unwrap_or_else(PoisonError::into_inner).take();
    match last {
        Some((last, cluster)) if last == version => Ok(cluster),
        other => {
            drop(other);
            let own_disk = Some(NODE_WITH_OWN_DISK);
            Cluster::start(KafkaOptions { version, own_disk, ..KafkaOptions::nodes(3) })
        }
    }
}

/// Lends the brokers to somebody whose turn it is ([`super::TURN`]), and takes them back when all went well.
pub fn with_brokers(version: Version, play: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<()> {
    let mut kafka = brokers(version)?;
    play(&mut kafka)?;
    *BROKERS.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, kafka));
    Ok(())
}

/// A scenario while it plays.
pub struct Stage {
    pub kafka: Cluster,
    pub gateways: Vec<Gateway>,
    pub tenant: Tenant,
    pub running: Running,
    pub lengths: Lengths,
    /// How long it took until messages were stored again, after each event.
    recoveries: Vec<String>,
    dir: TempDir,
}

/// Plays a scenario and judges it.
pub fn play(scenario: &Scenario, version: Version, lengths: Lengths) -> Result<()> {
    let mut stage = Stage::set(scenario, version, lengths)?;
    (scenario.fault)(&mut stage).with_context(|| stage.logs())?;
    let kafka = stage.judge(scenario)?;
    *BROKERS.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, kafka));
    Ok(())
}

impl Stage {
    fn set(scenario: &Scenario, version: Version, lengths: Lengths) -> Result<Self> {
        let (mut kafka, dir) = (brokers(version)?, scratch_dir("faults")?);
        let gateways: Vec<Gateway> = (0..scenario.gateways)
            .map(|index| {
                let of_cluster = lengths.request_timeout_line();
                write_config(dir.path(), index, &kafka.bootstrap(), "handoff.enabled = false", &of_cluster)?;
                serve(dir.path(), index)
            })
            .collect::<Result<_>>()?;
        let tenant = gateways[0].new_tenant(&unique("fire"), "main", PARTITIONS)?;
        wait_until_known(&gateways, &tenant)?;
        kafka.wait_until_in_sync(&tenant.physical_topic())?;
        let copies = kafka.partitions(&tenant.physical_topic())?.iter().map(|found| found.replicas.len()).min();
        ensure!(copies == Some(3), "{copies:?} copies of each partition");
        let bases: Vec<&str> = gateways.iter().map(|gateway| gateway.publish.as_str()).collect();
        let running = load(lengths.publish_timeout).start(&bases, &tenant);
        let recoveries = Vec::new();
        let mut stage = Self { kafka, gateways, tenant, running, lengths, recoveries, dir };
        stage.goes_on("before any fault")?;
        stage.recoveries.clear();
        Ok(stage)
    }

    pub fn topic(&self) -> String {
        self.tenant.physical_topic()
    }

    /// Waits until messages are stored again: by every kind of connection several times over.
    pub fn goes_on(&mut self, when: &str) -> Result<()> {
        let started = Instant::now();
        self.running.wait_for_more(1_500, self.lengths.recovers_within).with_context(|| when.to_owned())?;
        self.recoveries.push(format!("{when}: {:.1} s", started.elapsed().as_secs_f64()));
        Ok(())
    }

    /// Lets a fault last as long as the scenario says, counted from `since`.
    pub fn hold(&self, since: Instant) {
        std::thread::sleep(self.lengths.down.saturating_sub(since.elapsed()));
    }

    /// Every broker is back and has everything.
    pub fn in_sync(&mut self) -> Result<()> {
        let topic = self.topic();
        self.kafka.wait_until_in_sync(&topic)
    }

    /// Starts a gateway that was killed: same ports, same data.
    pub fn restart_gateway(&mut self, index: usize) -> Result<()> {
        self.gateways[index] = serve(self.dir.path(), index)?;
        Ok(())
    }

    fn logs(&self) -> String {
        self.gateways.iter().map(|gateway| gateway.log_tail()).collect::<Vec<_>>().join("\n")
    }

    /// Stops the load and compares what was answered with what is in Kafka now.
    fn judge(mut self, scenario: &Scenario) -> Result<Cluster> {
        self.goes_on("at the end")?;
        self.in_sync()?;
        let topic = self.topic();
        let logs = self.logs();
        for gateway in &mut self.gateways {
            ensure!(gateway.is_running(), "a gateway ended by itself\n{logs}");
        }
        let resident_mb: Vec<u64> =
            self.gateways.iter().map(|gateway| Ok(gateway.resident_bytes()? >> 20)).collect::<Result<_>>()?;
        let written = self.running.stop()?;
        let records = python::read(Client::Confluent, &self.kafka.bootstrap(), &topic)?;
        let report = ledger::check(&written.ledger, &records).into_result().with_context(|| logs.clone());
        if let Ok(report) = &report {
            say(&format!("  {}: {report}", scenario.name));
        }
        say(&format!("  answers: {}", written.answers));
        say(&format!("  resident: {resident_mb:?} MiB"));
        for (why, count) in reasons(&written.ledger) {
            say(&format!("  unknown {count} times: {why}"));
        }
        say(&format!("  stored again after … {}", self.recoveries.join(", ")));
        let report = report?;
        ensure!(report.stored >= STORED_MIN, "that proves little: {report}");
        ensure!(resident_mb.iter().all(|mb| *mb <= RESIDENT_MB_MAX), "{resident_mb:?} MiB resident\n{logs}");
        judge(&written.answers, &written.ledger, scenario, &self.lengths).context(logs)?;
        Ok(self.kafka)
    }
}

/// Why outcomes were unknown, most frequent first; numbers in the reasons do not count.
fn reasons(ledger: &Ledger) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for entry in &ledger.entries {
        let Outcome::Unknown { why } = &entry.outcome else { continue };
        let why = why.chars().map(|letter| if letter.is_ascii_digit() { '#' } else { letter }).collect();
        *counts.entry(why).or_default() += 1;
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts.truncate(REASONS_SHOWN_MAX);
    counts
}

/// A fault of Kafka is told as 503 or 504, at once or in the time the client gave, and never by hanging up.
fn judge(answers: &Answers, ledger: &Ledger, scenario: &Scenario, lengths: &Lengths) -> Result<()> {
    let is_expected = |status: &u16| matches!(status, 200 | 201 | 503 | 504);
    ensure!(answers.statuses.keys().all(is_expected), "statuses {:?}", answers.statuses);
    let other = ledger.entries.iter().find(|entry| match entry.outcome {
        Outcome::Refused { status } => status != 503,
        _ => false,
    });
    ensure!(other.is_none(), "refused for another reason than Kafka: {other:?}");
    let mut report = Report::default();
    judge_answers(answers, scenario.gateways > 1, lengths.publish_timeout + LATE_MAX, &mut report);
    report.into_result().map(drop)
}
