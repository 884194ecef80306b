//! Kafka 2.7, whose brokers know no topic ids: that a topic was deleted and made again shows only in what they refuse.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::gateway::{Quickstart, Tenant};
use testkit::kafka::{Cluster, KafkaOptions, Version};
use testkit::process::scratch_dir;
use testkit::python::Client;
use testkit::record::Record;
use testkit::{java, python, wait};

use crate::harness::{Case, Run, case};
use crate::shared::unique;

const NEEDS: &[&str] = &["bin:kateway", "kafka2", "kafka-zk", "kafka", "python-clients"];

pub const CASES: &[Case] = &[
    nightly("messages_are_published_and_polled_on_kafka_2_7", publish_and_poll),
    nightly("a_topic_recreated_at_once_takes_messages_on_kafka_2_7", recreated_at_once),
    nightly("a_topic_recreated_later_takes_messages_on_kafka_2_7", recreated_later),
];

const fn nightly(name: &'static str, run: fn() -> Result<()>) -> Case {
    Case { nightly: true, run: Run::Function(run), ..case(name, NEEDS, run) }
}

const PARTITIONS: u32 = 2;
const IN_A_ROW: usize = 20;
/// Two rounds of metadata and a producer id, on a busy machine.
const RECOVERS_WITHIN: Duration = Duration::from_secs(30);

/// Brokers, a gateway before them, and a topic that has taken messages in every partition.
struct Scene {
    kafka: Cluster,
    quickstart: Quickstart,
    tenant: Tenant,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn start(nodes: usize) -> Result<Self> {
        let version = Version::WithoutTopicIds;
        let kafka = Cluster::start(KafkaOptions { version, ..KafkaOptions::nodes(nodes) })?;
        let dir = scratch_dir("old-kafka")?;
        let quickstart = Quickstart::start(dir.path(), &["--bootstrap", &kafka.bootstrap()])?;
        let clusters = quickstart.admin(&["clusters"])?;
        let first = clusters.as_array().and_then(|all| all.first()).or_else(|| clusters["clusters"].get(0));
        let cluster = first.and_then(|cluster| cluster["name"].as_str().or_else(|| cluster.as_str()));
        let cluster = cluster.with_context(|| format!("no cluster in {clusters}"))?;
        let tenant = quickstart.new_tenant(&unique("old"), cluster, PARTITIONS)?;
        let scene = Self { kafka, quickstart, tenant, _dir: dir };
        scene.every_partition_takes("before")?;
        Ok(scene)
    }

    /// Publishes into each partition until [`IN_A_ROW`] messages were stored at the first attempt: a gateway that does
    /// not know the leader finds it by chance now and then. Yields the bodies answered 201.
    fn every_partition_takes(&self, what: &str) -> Result<Vec<String>> {
        let mut stored = Vec::new();
        for partition in 0..PARTITIONS {
            let (mut attempt, mut in_a_row) = (0, 0);
            wait::until(&format!("partition {partition} to take messages {what}"), RECOVERS_WITHIN, || {
                while in_a_row < IN_A_ROW {
                    attempt += 1;
                    let body = format!("{what}, partition {partition}, attempt {attempt}");
                    let query = format!("?partition={partition}&timeout=2s");
                    let answer = self.quickstart.post(&self.tenant, &query, body.as_str())?;
                    in_a_row = if answer.status == 201 { in_a_row + 1 } else { 0 };
                    answer.expect(201)?;
                    stored.push(body);
                }
                Ok(())
            })
            .with_context(|| self.quickstart.log_tail())?;
        }
        Ok(stored)
    }

    /// Each move begins a new epoch of leadership, so that the recreated topic begins with a lower one: without topic
    /// ids that looks like a broker that lags behind.
    fn move_leaders(&self) -> Result<()> {
        let (bootstrap, topic) = (self.kafka.bootstrap(), self.tenant.physical_topic());
        for node in [2, 3, 1] {
            for partition in 0..PARTITIONS as i32 {
                java::move_leader(&bootstrap, &topic, partition, node)?;
            }
        }
        self.every_partition_takes("after its leaders moved").map(drop)
    }

    fn recreated(&self, gone_for: Duration) -> Result<()> {
        let (bootstrap, topic) = (self.kafka.bootstrap(), self.tenant.physical_topic());
        self.move_leaders()?;
        python::delete_topic(&bootstrap, &topic)?;
        let refused = self.quickstart.post(&self.tenant, "?timeout=1s", "nowhere to go")?;
        ensure!(matches!(refused.status, 404 | 503 | 504), "{}: {}", refused.status, refused.text());
        std::thread::sleep(gone_for);
        python::create_topic(&bootstrap, &topic, PARTITIONS, 3)?;
        let stored = self.every_partition_takes("after it was made again")?;
        let records = python::read(Client::Confluent, &bootstrap, &topic)?;
        let found: Vec<String> = records.iter().map(Record::text).collect();
        for body in &stored {
            let copies = found.iter().filter(|text| *text == body).count();
            ensure!(copies == 1, "{body:?} was answered 201 and is there {copies} times: {found:?}");
        }
        Ok(())
    }
}

fn publish_and_poll() -> Result<()> {
    let scene = Scene::start(1)?;
    let stored = scene.every_partition_takes("to be polled")?;
    let values: Vec<&str> = stored.iter().map(String::as_str).collect();
    scene.quickstart.poll_for(&scene.tenant, "g", &values, Duration::from_secs(30))?;
    Ok(())
}

fn recreated_at_once() -> Result<()> {
    Scene::start(3)?.recreated(Duration::ZERO)
}

/// Long enough for the gateway to believe that the topic is gone.
fn recreated_later() -> Result<()> {
    Scene::start(3)?.recreated(Duration::from_secs(10))
}
