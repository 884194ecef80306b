//! What every case plays on: brokers that may go away, one or two gateways on one data directory, publishers that write
//! down every answer; and the judgement afterwards.
//!
//! A single broker is shared by consecutive cases, three are those of `faults`. Who failed leaves them in a state nobody
//! knows, so the next case gets new ones.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use testkit::gateway::{Gateway, Tenant};
use testkit::http::{Connection, Request, Response, call};
use testkit::judgement::{self, Allowed, History, Said};
use testkit::kafka::disk::Disk;
use testkit::kafka::{Cluster, KafkaOptions, Version};
use testkit::ledger::{Ledger, Report};
use testkit::load::{Load, Running, Written};
use testkit::process::scratch_dir;
use testkit::progress::say;
use testkit::python::{self, Client};
use testkit::record::Record;
use testkit::wait;

use crate::faults;
use crate::gateways::{serve, wait_until_known, write_config};
use crate::shared::unique;

pub const PARTITIONS: u32 = 4;
/// How long a publish asks the gateway to try: whoever was under way when Kafka died is told 504 after this.
pub const PUBLISH_TIMEOUT: Duration = Duration::from_secs(3);
/// No answer takes longer, whatever happens: the timeout, the sweep that notices it, and a scheduler with two cores.
const SLOWEST_MAX: Duration = Duration::from_secs(5);
/// Kafka's return, metadata, and all of the backlog.
pub const DELIVERED_WITHIN: Duration = Duration::from_secs(60);
/// Values of messages that only ask how a partition is served; the judgement does not look at them.
const PROBE: &str = "probe";

static ONE_BROKER: Mutex<Option<Cluster>> = Mutex::new(None);

/// Stops the shared broker; `main` calls this at its end.
pub fn stop() {
    drop(ONE_BROKER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Brokers that a case may do anything to.
pub fn with_brokers(nodes: usize, play: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<()> {
    if nodes > 1 {
        return faults::with_brokers(Version::Newest, play);
    }
    let last = ONE_BROKER.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut kafka = match last {
        Some(kafka) => kafka,
        None => Cluster::start(KafkaOptions::default())?,
    };
    play(&mut kafka)?;
    *ONE_BROKER.lock().unwrap_or_else(PoisonError::into_inner) = Some(kafka);
    Ok(())
}

/// What a case may do to its gateways' configuration, and to its topic.
#[derive(Clone, Copy)]
pub struct Setting {
    pub gateways: usize,
    /// Further lines of the configuration, before any table.
    pub keys: &'static str,
    /// Copies of each partition; as many as the cluster makes by itself if absent.
    pub replicas: Option<u32>,
    /// Where the gateways find Kafka, if not at its own ports.
    pub bootstrap: Option<u16>,
}

impl Default for Setting {
    fn default() -> Self {
        Self { gateways: 1, keys: "", replicas: None, bootstrap: None }
    }
}

/// A case while it plays.
pub struct Stage<'k> {
    pub kafka: &'k mut Cluster,
    pub gateways: Vec<Gateway>,
    pub tenant: Tenant,
    // After the gateways, which write to it, and before the directory it is mounted in.
    _disk: Option<Disk>,
    dir: TempDir,
}

/// No allowances.
pub fn strictly() -> Allowed {
    Allowed::nothing(SLOWEST_MAX)
}

/// Connections of every kind, at a rate that a debug build on two cores keeps up with.
pub fn load() -> Load {
    Load {
        keyed: 16,
        keyless: 4,
        ndjson: 3,
        binary: 3,
        streams: 2,
        pause: Duration::from_millis(25),
        value_bytes: 120,
        timeout: PUBLISH_TIMEOUT,
        ..Load::default()
    }
}

impl<'k> Stage<'k> {
    pub fn set(kafka: &'k mut Cluster, setting: Setting) -> Result<Self> {
        Self::set_on(kafka, setting, scratch_dir("handoff")?, None)
    }

    /// The same in a directory that was prepared, whose `data` may be a disk of its own.
    pub fn set_on(kafka: &'k mut Cluster, setting: Setting, dir: TempDir, disk: Option<Disk>) -> Result<Self> {
        let bootstrap = match setting.bootstrap {
            Some(port) => format!("127.0.0.1:{port}"),
            None => kafka.bootstrap(),
        };
        let gateways: Vec<Gateway> = (0..setting.gateways)
            .map(|index| {
                write_config(dir.path(), index, &bootstrap, setting.keys, "")?;
                serve(dir.path(), index)
            })
            .collect::<Result<_>>()?;
        let tenant = new_tenant(&gateways, setting.replicas)?;
        let stage = Self { kafka, gateways, tenant, _disk: disk, dir };
        let topic = stage.topic();
        stage.kafka.wait_until_in_sync(&topic)?;
        // Until something was stored, Kafka's side of the connection is not what the case is about.
        stage.direct().context("before any fault")?;
        Ok(stage)
    }

    pub fn topic(&self) -> String {
        self.tenant.physical_topic()
    }

    pub fn gateway(&mut self) -> &mut Gateway {
        &mut self.gateways[0]
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Publishers at work, at all gateways.
    pub fn start(&self, load: &Load) -> Running {
        let bases: Vec<&str> = self.gateways.iter().map(|gateway| gateway.publish.as_str()).collect();
        load.start(&bases, &self.tenant)
    }

    /// Starts a gateway that ended: same ports, same data.
    pub fn restart_gateway(&mut self, index: usize) -> Result<()> {
        self.gateways[index] = serve(self.dir.path(), index)?;
        Ok(())
    }

    /// SIGKILL for every broker.
    pub fn kafka_dies(&mut self) -> Result<Instant> {
        let since = Instant::now();
        (1..=self.kafka.node_count()).try_for_each(|node| self.kafka.kill(node))?;
        Ok(since)
    }

    /// Every broker that is gone is started again; returns when they are there and in sync.
    pub fn kafka_returns(&mut self) -> Result<()> {
        self.kafka.restart_dead()?;
        let topic = self.topic();
        self.kafka.wait_until_in_sync(&topic)
    }

    /// Waits until nothing waits any more: every partition takes a publish at once that forbids handing it off.
    pub fn direct(&self) -> Result<()> {
        for gateway in &self.gateways {
            for partition in 0..PARTITIONS {
                wait::until(&format!("partition {partition} to be served directly"), DELIVERED_WITHIN, || {
                    let query = format!("?timeout=3s&hh=n&partition={partition}");
                    gateway.post(&self.tenant, &query, format!("{PROBE} {}", unique("direct")))?.expect(201).map(drop)
                })
                .with_context(|| gateway.log_tail())?;
            }
        }
        Ok(())
    }

    /// One message that is told apart from the load's; it is no part of the judgement.
    pub fn probe(&self, query: &str) -> Result<Response> {
        self.gateways[0].post(&self.tenant, query, format!("{PROBE} {}", unique("one")))
    }

    /// Everything in the topic that publishers of a load wrote.
    pub fn records(&self) -> Result<Vec<Record>> {
        let mut records = python::read(Client::Confluent, &self.kafka.internal(), &self.topic())?;
        records.retain(|record| !record.text().starts_with(PROBE));
        Ok(records)
    }

    /// Waits until everything is delivered, and judges what was answered by what is in Kafka and what receipts say.
    pub fn judge(&mut self, what: &str, written: Written, allowed: Allowed) -> Result<Report> {
        self.direct().context("after the load")?;
        let Written { ledger, answers } = written;
        let receipts = self.ask_about(&ledger)?;
        let history = History { records: self.records()?, ledger, answers, receipts };
        let report = judgement::judge(&history, &allowed);
        say(&format!("  {what}: {report}"));
        say(&format!("  answers {}", history.answers));
        let why = || format!("{}\nrefusals: {:?}\n{}", self.logs(), history.answers.refusals, self.parked());
        report.into_result().with_context(why)
    }

    /// What receipts say of a sample of what was handed off.
    fn ask_about(&self, ledger: &Ledger) -> Result<HashMap<String, Said>> {
        let mut wire = Connection::open(&self.gateways[0].publish)?;
        let mut receipts = HashMap::new();
        for (id, _) in judgement::sample(ledger) {
            let answer = wire.call(&self.receipt_request(id))?;
            receipts.insert(id.to_owned(), Said { status: answer.status, body: answer.json()? });
        }
        Ok(receipts)
    }

    pub fn receipt_request(&self, id: &str) -> Request {
        self.tenant.receipt(id)
    }

    /// What a gateway says of a message.
    pub fn receipt(&self, gateway: usize, id: &str) -> Result<Value> {
        call(&self.gateways[gateway].publish, &self.receipt_request(id))?.expect(200)?.json()
    }

    /// Waits until a receipt says something else than that the message waits.
    pub fn fate(&self, id: &str, within: Duration) -> Result<Value> {
        wait::until("the fate of a message", within, || {
            let said = self.receipt(0, id)?;
            if said["state"] == "pending" { bail!("{said}") } else { Ok(said) }
        })
    }

    /// What is parked, for whoever reads why something is not there.
    fn parked(&self) -> String {
        let listed = self.gateways[0].admin(&["handoff", "parked"]).map(|listed| listed.to_string());
        listed.map_or_else(|err| format!("parked: {err:#}"), |listed| listed.chars().take(2_000).collect())
    }

    pub fn logs(&self) -> String {
        self.gateways.iter().map(|gateway| gateway.log_tail()).collect::<Vec<_>>().join("\n")
    }
}

/// The id of a message that must have been answered 202.
pub fn msg_id(answer: Response) -> Result<String> {
    let body = answer.expect(202)?.json()?;
    body["msg_id"].as_str().map(str::to_owned).with_context(|| format!("no msg_id in {body}"))
}

fn new_tenant(gateways: &[Gateway], replicas: Option<u32>) -> Result<Tenant> {
    let appid = unique("hand");
    let app = gateways[0].admin(&["app", "create", &appid, "--cluster", "main"])?;
    let secret = |name: &str| app[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {app}"));
    let (pubkey, subkey) = (secret("pubkey")?, secret("subkey")?);
    let tenant = Tenant { appid, pubkey, subkey, topic: "orders".to_owned(), ver: "v1".to_owned() };
    new_topic(&gateways[0], &tenant, replicas)?;
    wait_until_known(gateways, &tenant)?;
    Ok(tenant)
}

/// Makes the topic that a tenant is about, of its app.
pub fn new_topic(gateway: &Gateway, tenant: &Tenant, replicas: Option<u32>) -> Result<()> {
    let partitions = PARTITIONS.to_string();
    let mut words = vec!["topic", "create", &tenant.appid, &tenant.topic, &tenant.ver, "--partitions", &partitions];
    let replicas = replicas.map(|count| count.to_string());
    if let Some(count) = &replicas {
        words.extend(["--replicas", count]);
    }
    gateway.admin(&words).map(drop)
}
