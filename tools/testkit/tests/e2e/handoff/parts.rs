//! A part of Kafka is away, or comes and goes, or will never take what waits for it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::gateway::Tenant;
use testkit::kafka::{Cluster, KafkaOptions};
use testkit::python;
use testkit::wait;
use testkit::wire::Wire;

use super::stage::{DELIVERED_WITHIN, PARTITIONS, Setting, Stage, load, msg_id, new_topic, strictly, with_brokers};

/// A topic is known to be gone after 30 s (`GONE_AFTER`).
const PARKED_WITHIN: Duration = Duration::from_secs(60);

/// Partitions whose only copy is on a broker that died are kept here; the others never notice.
pub fn one_broker_dies() -> Result<()> {
    with_brokers(3, |kafka| {
        let mut stage = Stage::set(kafka, Setting { replicas: Some(1), ..Setting::default() })?;
        let topic = stage.topic();
        let leaders: Vec<usize> =
            (0..PARTITIONS as usize).map(|partition| stage.kafka.leader(&topic, partition)).collect::<Result<_>>()?;
        let victim = leaders[0];
        let running = stage.start(&load());
        running.wait_for_more(500, DELIVERED_WITHIN)?;
        stage.kafka.kill(victim)?;
        running.wait_for_more_handed_off(100, Duration::from_secs(20))?;
        running.wait_for_more(500, Duration::from_secs(20)).context("other partitions")?;
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(5) {
            for (partition, leader) in leaders.iter().enumerate() {
                let answer = stage.probe(&format!("?timeout=3s&partition={partition}"))?;
                let expected = if *leader == victim { 202 } else { 201 };
                ensure!(answer.status == expected, "partition {partition}: {} {}", answer.status, answer.text());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        stage.kafka_returns()?;
        running.wait_for_more(1_000, DELIVERED_WITHIN)?;
        let written = running.stop()?;
        stage.judge("one broker of three died", written, strictly()).map(drop)
    })
}

/// The leader is there and may not acknowledge: one of two replicas is missing, two must have it.
pub fn too_few_replicas() -> Result<()> {
    with_brokers(3, |kafka| {
        let mut stage = Stage::set(kafka, Setting { replicas: Some(2), ..Setting::default() })?;
        let victim = stage.kafka.leader(&stage.topic(), 0)?;
        let running = stage.start(&load());
        running.wait_for_more(500, DELIVERED_WITHIN)?;
        stage.kafka.kill(victim)?;
        running.wait_for_more_handed_off(500, Duration::from_secs(30))?;
        wait::until("a publish that is kept", Duration::from_secs(20), || {
            msg_id(stage.probe("?timeout=3s&partition=0")?).map(drop)
        })?;
        stage.kafka_returns()?;
        running.wait_for_more(1_000, DELIVERED_WITHIN)?;
        let written = running.stop()?;
        stage.judge("too few replicas", written, strictly()).map(drop)
    })
}

/// The port of the only broker is refused and taken in turn.
pub fn flaps() -> Result<()> {
    let mut wire = Wire::new()?;
    let mut kafka = Cluster::start(KafkaOptions { advertised_port: Some(wire.port()), ..KafkaOptions::default() })?;
    wire.leads_to(&kafka.address(1)?)?;
    wire.mend()?;
    let mut stage = Stage::set(&mut kafka, Setting { bootstrap: Some(wire.port()), ..Setting::default() })?;
    let running = stage.start(&load());
    running.wait_for_more(500, DELIVERED_WITHIN)?;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(10) {
        wire.cut();
        std::thread::sleep(Duration::from_millis(200));
        wire.mend()?;
        std::thread::sleep(Duration::from_millis(200));
    }
    running.wait_for_more(1_000, DELIVERED_WITHIN)?;
    let written = running.stop()?;
    stage.judge("flapping", written, strictly()).map(drop)
}

/// A topic is deleted while its messages wait: they are parked with the reason, and others are delivered.
pub fn topic_goes() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        let gone = Tenant { topic: "gone".to_owned(), ..stage.tenant.clone() };
        new_topic(&stage.gateways[0], &gone, None)?;
        wait::until("the topic to be served", DELIVERED_WITHIN, || {
            stage.gateways[0].post(&gone, "?timeout=2s&hh=n", "there")?.expect(201).map(drop)
        })?;
        stage.kafka_dies()?;
        let lost = msg_id(stage.gateways[0].post(&gone, "?key=k", "for nobody")?)?;
        let kept = msg_id(stage.probe("?key=k")?)?;
        stage.gateway().kill9();
        stage.kafka_returns()?;
        python::delete_topic(&stage.kafka.internal(), &gone.physical_topic())?;
        stage.restart_gateway(0)?;
        let other = stage.fate(&kept, DELIVERED_WITHIN)?;
        ensure!(other["state"] == "delivered", "{other}");
        let said = stage.fate(&lost, PARKED_WITHIN)?;
        ensure!(said["state"] == "parked" && said["code"] == "topic_gone", "{said}");
        ensure!(said["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{said}");
        stage.direct()
    })
}

/// An app's topic is taken away from it while its messages wait.
pub fn grant_goes() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        let revoked = Tenant { topic: "revoked".to_owned(), ..stage.tenant.clone() };
        new_topic(&stage.gateways[0], &revoked, None)?;
        wait::until("the topic to be served", DELIVERED_WITHIN, || {
            stage.gateways[0].post(&revoked, "?timeout=2s&hh=n", "there")?.expect(201).map(drop)
        })?;
        stage.kafka_dies()?;
        // The first of a partition may be under way already when the topic is taken away.
        msg_id(stage.gateways[0].post(&revoked, "?key=k", "under way")?)?;
        msg_id(stage.gateways[0].post(&revoked, "?key=k", "for nobody")?)?;
        let lost = msg_id(stage.gateways[0].post(&revoked, "?key=k", "for nobody either")?)?;
        let kept = msg_id(stage.probe("?key=k")?)?;
        stage.gateways[0].admin(&["topic", "delete", &revoked.appid, &revoked.topic, &revoked.ver])?;
        wait::until("the topic to be refused", Duration::from_secs(10), || {
            stage.gateways[0].post(&revoked, "?timeout=1s", "too late")?.expect(404).map(drop)
        })?;
        stage.kafka_returns()?;
        let other = stage.fate(&kept, DELIVERED_WITHIN)?;
        ensure!(other["state"] == "delivered", "{other}");
        let said = stage.fate(&lost, DELIVERED_WITHIN)?;
        ensure!(said["state"] == "parked" && said["code"] == "grant_revoked", "{said}");
        stage.direct()
    })
}
