//! One topic, one group, two protocols: what REST published a tenant's Kafka clients read as it is, and the other way round.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use testkit::gateway::Tenant;
use testkit::http::{Response, call};
use testkit::java::{self, Setup};
use testkit::login::{PLAIN, SCRAM_256, SCRAM_512};
use testkit::process::scratch_dir;
use testkit::python::{self, Client};
use testkit::record::Record;
use testkit::{kcat, wait};

use super::stage::{Stage, stage};
use crate::harness::same;

const SOON: Duration = Duration::from_secs(20);

fn an_hour_ago_ms() -> Result<i64> {
    Ok((SystemTime::now() - Duration::from_secs(3_600)).duration_since(UNIX_EPOCH)?.as_millis() as i64)
}

/// Key, value, headers in their order, and time.
fn essence(records: &[Record]) -> Vec<Record> {
    records.iter().map(|record| Record { partition: 0, offset: 0, ..record.clone() }).collect()
}

/// An app whose topic has one partition, so that there is one order.
fn one_partition(stage: &Stage, what: &str) -> Result<Tenant> {
    let tenant = stage.tenant(what)?;
    let topic = stage.topic(&tenant, "line", "v10", 1)?;
    stage.in_force(&tenant, 2)?;
    Ok(topic.tenant)
}

/// Everything a client of either protocol can say of a record.
fn all_kinds(at_ms: i64) -> Vec<Record> {
    let tagged = Record::with_value("tagged").key("a key").header("tag", "red").header("tag", "blue");
    let kinds = [
        tagged.header("trace-id", "café"),
        Record { value: None, ..Record::default() }.key("gone"),
        Record::with_value(""),
        Record::with_value("no key").header("h", "1").header("h", "2"),
    ];
    kinds.into_iter().zip(at_ms..).map(|(kind, timestamp_ms)| Record { partition: 0, timestamp_ms, ..kind }).collect()
}

pub fn what_rest_published_kafka_clients_read() -> Result<()> {
    let stage = stage()?;
    let tenant = one_partition(&stage, "rest")?;
    let at_ms = an_hour_ago_ms()?;
    let publish = |query: &str, more: i64| tenant.publish(&format!("?timestamp={}{query}", at_ms + more));
    let requests = [
        publish("&key=a%20key", 0).header("X-Tag", "red;blue").header("X-Header-trace-id", "caf%C3%A9").body("tagged"),
        publish("&key=gone&null=1", 1),
        publish("", 2),
    ];
    for request in &requests {
        call(&stage.gateway.publish, request)?.expect(201)?;
    }
    let line = json!({"value": "no key", "timestamp": at_ms + 3, "headers": [["h", "1"], ["h", "2"]]});
    let batch = tenant.publish_batch("").header("Content-Type", "application/x-ndjson").body(format!("{line}\n"));
    call(&stage.gateway.publish, &batch)?.expect(200)?;

    let expected = essence(&all_kinds(at_ms));
    let topic = tenant.own_topic();
    let logins = [PLAIN, SCRAM_256, SCRAM_512].map(|mechanism| tenant.login(mechanism));
    let [plain, scram_256, scram_512] = logins.each_ref().map(|login| login.at(&stage.kproxy.bootstrap));
    same("Java", &essence(&java::read(scram_512, &topic)?), &expected)?;
    same("confluent", &essence(&python::read(Client::Confluent, scram_256, &topic)?), &expected)?;
    same("kafka-python", &essence(&python::read(Client::KafkaPython, plain, &topic)?), &expected)?;
    // kcat prints an empty value as none.
    let values: Vec<String> =
        kcat::read(plain, &topic)?.iter().map(|record| record.text().replace("(null)", "")).collect();
    same("kcat", &values, &["tagged", "", "", "no key"].map(str::to_owned).to_vec())
}

pub fn what_kafka_clients_wrote_rest_reads() -> Result<()> {
    let stage = stage()?;
    let tenant = one_partition(&stage, "kafka")?;
    let (at_ms, login) = (an_hour_ago_ms()?, tenant.login(SCRAM_512));
    let records = all_kinds(at_ms);
    java::produce(login.at(&stage.kproxy.bootstrap), &tenant.own_topic(), &records[..2])?;
    python::produce(Client::Confluent, login.at(&stage.kproxy.bootstrap), &tenant.own_topic(), &records[2..])?;
    let polled: Vec<Response> = (0..records.len()).map(|_| polled(&stage, &tenant, "g")).collect::<Result<_>>()?;
    for (offset, (found, record)) in polled.iter().zip(&records).enumerate() {
        let word = |name: &str| found.header(name).map(str::to_owned);
        let text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        same("value", &found.body, &record.value.clone().unwrap_or_default())?;
        same("X-Null", &word("x-null"), &record.value.is_none().then(|| "1".to_owned()))?;
        same("X-Timestamp", &word("x-timestamp"), &Some(record.timestamp_ms.to_string()))?;
        same("X-Offset", &word("x-offset"), &Some(offset.to_string()))?;
        // A key with a space is not visible ASCII.
        let key = text(&record.key).map(|key| if key == "a key" { "YSBrZXk=".to_owned() } else { key });
        same("X-Key", &word("x-key").or(word("x-key-base64")), &key)?;
    }
    same("X-Tag", &polled[0].header("x-tag"), &Some("red;blue"))?;
    same("X-Header-trace-id", &polled[0].header("x-header-trace-id"), &Some("caf%C3%A9"))?;
    let twice: Vec<&str> = polled[3]
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-header-h"))
        .map(|(_, value)| value.as_str())
        .collect();
    same("X-Header-h", &twice, &vec!["1", "2"])
}

fn polled(stage: &Stage, tenant: &Tenant, group: &str) -> Result<Response> {
    wait::until("a message", SOON, || stage.gateway.poll(tenant, group, "&wait=2s")?.expect(200))
}

/// REST and Kafka clients are one group after each other, each goes on where the other stood.
pub fn a_group_moves_between_rest_and_kafka() -> Result<()> {
    let stage = stage()?;
    let tenant = one_partition(&stage, "moves")?;
    let (login, topic) = (tenant.login(SCRAM_256), tenant.own_topic());
    let at = login.at(&stage.kproxy.bootstrap);
    let records: Vec<Record> = (0..12).map(|number| Record::with_value(format!("m{number}"))).collect();
    python::produce(Client::Confluent, at, &topic, &records)?;
    let mut read: Vec<String> = Vec::new();
    let committed = |count: usize| {
        wait::until("the position to be committed", SOON, || {
            let found = python::committed(at, &topic, "g")?;
            same("committed", &found["0"].as_u64(), &Some(count as u64))
        })
    };
    for _ in 0..3 {
        read.push(polled(&stage, &tenant, "g")?.text());
    }
    committed(3).context("by REST")?;
    type Consume<'a> = &'a dyn Fn() -> Result<Vec<Record>>;
    // Java's would take all there is.
    let dir = scratch_dir("tenants")?;
    let settings = dir.path().join("client.properties");
    fs::write(&settings, "max.poll.records=3\n")?;
    let by_java: Consume<'_> = &|| java::consume_as(Setup { settings: &settings, hosts: None }, at, &topic, "g", 3);
    for consume in [by_java, &|| python::consume(Client::Confluent, at, &topic, "g", 3)] {
        read.extend(consume().context("a Kafka client's turn")?.iter().map(Record::text));
    }
    // What REST read ahead before is not given again.
    for _ in 0..3 {
        read.push(polled(&stage, &tenant, "g")?.text());
    }
    let expected: Vec<String> = records.iter().map(Record::text).collect();
    ensure!(read == expected, "read {read:?}");
    committed(12).context("by REST again")
}
