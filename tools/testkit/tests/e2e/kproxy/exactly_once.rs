//! Idempotent and transactional clients while brokers and proxies die: nothing is lost, doubled or reordered.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::kafka::Cluster;
use testkit::ledger::{self, Ledger};
use testkit::login::{At, Login};
use testkit::progress::say;
use testkit::proxy::Kproxy;
use testkit::python::{self, Client};
use testkit::steady::{Said, Steady};
use testkit::{ports, wait};

use crate::harness::same;
use crate::shared::unique;

pub const PARTITIONS: u32 = 4;
const PRODUCERS: u32 = 2;
/// Electing a leader, fencing a broker, a client's own back-off, on a busy machine.
const RECOVERS_WITHIN: Duration = Duration::from_secs(60);
/// The range of a proxy of these tests, bootstrap port included.
const PORTS: u16 = 9;

/// A proxy on ports of its own for life.
pub struct Place {
    listen: String,
    kafka: String,
    /// Data directory of the kateway whose apps are served.
    tenants: Option<String>,
}

impl Place {
    pub fn new(kafka: &Cluster) -> Result<Self> {
        let listen = format!("127.0.0.1:{}", ports::free_in_a_row(PORTS)?);
        Ok(Self { listen, kafka: kafka.bootstrap(), tenants: None })
    }

    pub fn of_tenants(self, data: &Path) -> Self {
        Self { tenants: Some(data.display().to_string()), ..self }
    }

    pub fn start(&self, more: &[&str]) -> Result<Kproxy> {
        let width = (PORTS - 1).to_string();
        let mut flags = vec!["--listen", self.listen.as_str(), "--node-id-base", "1", "--range-width", &width];
        flags.extend(self.tenants.iter().flat_map(|data| ["--tenants-data-dir", data]));
        flags.extend(more);
        Kproxy::start(&self.kafka, &flags)
    }
}

fn producers(at: At<'_>, topic: &str) -> Result<Vec<Steady>> {
    (0..PRODUCERS).map(|number| Steady::produce(at, topic, &format!("p{number}"))).collect()
}

/// All of them go on.
fn go_on(all: &mut [Steady], when: &str) -> Result<()> {
    all.iter_mut().try_for_each(|one| one.wait_for_more(300, RECOVERS_WITHIN)).with_context(|| when.to_owned())
}

/// Stops the producers and compares what they were told with what is in Kafka, read past the proxy.
fn judged(kafka: &mut Cluster, topic: &str, all: Vec<Steady>) -> Result<Vec<Said>> {
    let said: Vec<Said> = all.into_iter().map(Steady::stop).collect::<Result<_>>()?;
    kafka.wait_until_in_sync(topic)?;
    let records = python::read(Client::Confluent, &kafka.bootstrap(), topic)?;
    let entries = said.iter().zip(0..).map(|(said, number)| said.entries(number)).collect::<Result<Vec<_>>>()?;
    let report = ledger::check(&Ledger { entries: entries.concat() }, &records).into_result()?;
    say(&format!("  {report}"));
    let told: Vec<String> = said.iter().flat_map(Said::errors).collect();
    ensure!(!told.iter().any(|error| error.starts_with("fatal")), "{told:?}");
    ensure!(report.unknown == 0, "records whose producer does not know what became of them: {report}");
    ensure!(report.stored > 1_500, "that proves little: {report}");
    Ok(said)
}

/// What clients and Kafka call a topic.
pub struct Names {
    pub shown: String,
    pub physical: String,
}

/// Who dies, and who has to live with it.
pub struct Play<'a> {
    pub place: &'a Place,
    pub login: Option<&'a Login>,
    pub topic: Names,
    pub copy: Names,
    pub brokers: &'a [usize],
    /// How many times the proxy does.
    pub proxies: usize,
}

pub fn nothing_is_lost_doubled_or_reordered(kafka: &mut Cluster) -> Result<()> {
    let names = |what: &str| -> Result<Names> {
        let name = unique(what);
        python::create_topic(&kafka.bootstrap(), &name, PARTITIONS, 3)?;
        Ok(Names { shown: name.clone(), physical: name })
    };
    let (topic, copy) = (names("eos")?, names("eos-copy")?);
    let place = Place::new(kafka)?;
    let kproxy = place.start(&[])?;
    play(kafka, kproxy, &Play { place: &place, login: None, topic, copy, brokers: &[2, 3], proxies: 2 })
}

/// Each broker in turn dies as a machine without power does, then the proxy does, and comes back before it knows who is
/// where. A transformer copies everything meanwhile.
pub fn play(kafka: &mut Cluster, mut kproxy: Kproxy, play: &Play<'_>) -> Result<()> {
    let Play { place, login, topic, copy, brokers, proxies } = play;
    let bootstrap = kproxy.bootstrap.clone();
    let at = At { bootstrap: &bootstrap, login: *login };
    let mut all = producers(at, &topic.shown)?;
    let mut transformer = Steady::transform(at, &topic.shown, &copy.shown, &unique("eos-transformer"))?;
    go_on(&mut all, "before any fault")?;
    transformer.wait_for_more(200, RECOVERS_WITHIN)?;
    for node in *brokers {
        kafka.kill(*node)?;
        go_on(&mut all, "a broker was killed")?;
        transformer.wait_for_more(200, RECOVERS_WITHIN).context("a broker was killed")?;
        kafka.restart(*node)?;
        kafka.wait_until_in_sync(&topic.physical)?;
    }
    for _ in 0..*proxies {
        kproxy.kill9();
        drop(kproxy);
        kproxy = place.start(&[])?;
        go_on(&mut all, "the proxy was killed")?;
        transformer.wait_for_more(200, RECOVERS_WITHIN).context("the proxy was killed")?;
    }
    judged(kafka, &topic.physical, all).with_context(|| kproxy.log_tail())?;
    let said = transformer.stop()?;
    copied_once(kafka, &topic.physical, &copy.physical)
        .with_context(|| format!("the transformer was told {:?}", said.errors()))
}

/// What is committed in the copy is the original, partition by partition, in order.
fn copied_once(kafka: &Cluster, topic: &str, copy: &str) -> Result<()> {
    let values = |topic: &str| -> Result<Vec<(i32, String)>> {
        let mut records = python::read(Client::Confluent, &kafka.bootstrap(), topic)?;
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records.iter().map(|record| (record.partition, record.text())).collect())
    };
    let (original, found) = (values(topic)?, values(copy)?);
    same("records that were copied", &found.len(), &original.len())?;
    let first = found.iter().zip(&original).find(|(found, original)| found != original);
    ensure!(first.is_none(), "the copy differs first in {first:?}");
    say(&format!("  {} copied in transactions", found.len()));
    Ok(())
}

/// An operator replaces the proxy under load.
pub fn a_drain_costs_clients_a_reconnect(kafka: &mut Cluster) -> Result<()> {
    let (topic, group) = (unique("drain"), unique("drain-group"));
    python::create_topic(&kafka.bootstrap(), &topic, PARTITIONS, 3)?;
    let place = Place::new(kafka)?;
    let limit = Duration::from_secs(10);
    let start = || place.start(&["--drain-delay", "1s", "--drain-limit", "10s"]);
    let mut kproxy = start()?;
    let mut all = producers(At::from(&kproxy.bootstrap), &topic)?;
    all.push(Steady::consume(&kproxy.bootstrap, &topic, &group)?);
    go_on(&mut all, "before the drain")?;
    for _ in 0..2 {
        kproxy.signal(rustix::process::Signal::TERM)?;
        wait::until("readiness to fail while traffic is still taken", Duration::from_secs(1), || {
            let (status, reasons) = kproxy.readiness()?;
            same("readiness while draining", &status, &503)?;
            ensure!(reasons.to_string().contains("draining"), "{reasons}");
            Ok(())
        })?;
        let status = kproxy.wait(limit + Duration::from_secs(2)).with_context(|| kproxy.log_tail())?;
        same("exit code", &status.code(), &Some(0))?;
        let log = kproxy.log();
        ensure!(log.contains("drained") && !log.contains("drain.limit is over"), "{log}");
        drop(kproxy);
        kproxy = start()?;
        go_on(&mut all, "after the drain")?;
    }
    let consumer = all.pop().context("the consumer")?;
    let mut said = judged(kafka, &topic, all).with_context(|| kproxy.log_tail())?;
    let read = consumer.stop()?;
    let stored = python::read(Client::Confluent, &kafka.bootstrap(), &topic)?.len();
    let mut values: Vec<_> = read.read();
    // A group that had not committed when it lost its coordinator may read again, and never less.
    values.sort();
    values.dedup();
    same("records that were read", &values.len(), &stored)?;
    said.push(read);
    let reconnects = ["_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE"];
    let others: Vec<String> =
        said.iter().flat_map(Said::errors).filter(|error| !reconnects.contains(&error.as_str())).collect();
    ensure!(others.is_empty(), "clients were told {others:?}");
    Ok(())
}
