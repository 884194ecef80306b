//! Every client there is, with the brokers themselves and with the proxy before them: the same comes of it.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::kafka::{Cluster, KafkaOptions, Version};
use testkit::proxy::Kproxy;
use testkit::python::Client;
use testkit::record::Record;
use testkit::{foreign, go, java, kcat, python};

use crate::foreign::{at_kafka, bare_at_kafka};
use crate::harness::same;
use crate::shared::{kafka, three_nodes, unique};

/// Partition, offset, key, value, headers.
pub type Essence = (i32, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

pub fn essence(records: &[Record]) -> Vec<Essence> {
    let of = |record: &Record| {
        let Record { partition, offset, key, value, headers, .. } = record.clone();
        (partition, offset, key, value, headers)
    };
    let mut all: Vec<Essence> = records.iter().map(of).collect();
    all.sort();
    all
}

/// The programs of `foreign`, whose cases say what they find at Apache Kafka itself.
pub fn finds_what_it_finds_without_it(client: foreign::Client) -> Result<()> {
    let (brokers, expected) = match client {
        // Its bytes go to one broker, which is to lead and coordinate everything.
        foreign::BARE => (kafka()?, bare_at_kafka()),
        _ => (three_nodes()?, at_kafka(client)),
    };
    let kproxy = Kproxy::start(&brokers.bootstrap(), &["--node-id-base", "1"])?;
    let found = foreign::findings(client, &kproxy.bootstrap, &unique(client.name))?;
    same(client.name, &found, &expected)?;
    // It did not find a way around.
    let asked = kproxy.metric("kproxy_requests_total{api=\"Produce\"}")?;
    ensure!(asked >= 1, "nothing was produced through the proxy");
    Ok(())
}

pub fn do_the_same_through_it() -> Result<()> {
    matrix(&*three_nodes()?)
}

pub fn do_the_same_before_kafka_3_9() -> Result<()> {
    let options = KafkaOptions { version: Version::WithZookeeper, auto_create: true, ..KafkaOptions::nodes(3) };
    matrix(&Cluster::start(options)?)
}

pub fn do_the_same_before_kafka_2_7() -> Result<()> {
    let options = KafkaOptions { version: Version::WithoutTopicIds, auto_create: true, ..KafkaOptions::nodes(3) };
    // The newest Java client has nothing to say to brokers of before 2.1, but to these it has.
    matrix(&Cluster::start(options)?)
}

fn matrix(kafka: &Cluster) -> Result<()> {
    let kproxy = Kproxy::start(&kafka.bootstrap(), &["--node-id-base", "1"])?;
    metadata(kafka, &kproxy)?;
    records(kafka, &kproxy)?;
    groups(kafka, &kproxy)?;
    for client in go::Client::ALL {
        let topic = unique("go");
        // Not by being asked for: kafka-go gives up when the broker it asks has not heard of a topic that is new.
        python::create_topic(&kproxy.bootstrap, &topic, 4, 3)?;
        let mut values = go::round_trip(client, &kproxy.bootstrap, &topic).with_context(|| format!("{client:?}"))?;
        values.sort();
        same(client.name, &values, &["v0", "v1", "v2"].map(str::to_owned).to_vec())?;
        same("in Kafka", &kcat::read(&kafka.bootstrap(), &topic)?.len(), &3)?;
    }
    // That all this did pass the proxy: it has counted more than what was said in it.
    let counted = kproxy.metric("kproxy_bytes_total{peer=\"client\",direction=\"in\"}")?;
    ensure!(counted > 10_000, "only {counted} bytes passed");
    Ok(())
}

/// As kcat prints it, without what must differ.
fn metadata(kafka: &Cluster, kproxy: &Kproxy) -> Result<()> {
    let topic = unique("metadata");
    python::create_topic(&kproxy.bootstrap, &topic, 6, 3)?;
    let mut direct = of_topic(kcat::metadata(&kafka.bootstrap())?, &topic);
    let mut found = of_topic(kcat::metadata(&kproxy.bootstrap)?, &topic);
    let named = |metadata: &mut Value| -> Result<Vec<(i64, String)>> {
        let brokers = metadata["brokers"].take();
        let named = brokers.as_array().context("brokers")?.iter().map(|broker| {
            let name = broker["name"].as_str().context("a name")?;
            Ok((broker["id"].as_i64().context("an id")?, name.to_owned()))
        });
        let mut named: Vec<(i64, String)> = named.collect::<Result<_>>()?;
        named.sort();
        Ok(named)
    };
    let real: Vec<(i64, String)> =
        (1..=3).map(|node| Ok((node, kafka.address(node as usize)?))).collect::<Result<_>>()?;
    let proxied: Vec<(i64, String)> =
        (1..=3).map(|node| Ok((node, kproxy.node(node as i32, 1)?))).collect::<Result<_>>()?;
    same("brokers", &named(&mut direct)?, &real)?;
    same("brokers through kproxy", &named(&mut found)?, &proxied)?;
    same("the rest", &found, &direct)
}

fn of_topic(mut metadata: Value, topic: &str) -> Value {
    if let Some(topics) = metadata["topics"].as_array_mut() {
        topics.retain(|found| found["topic"] == topic);
    }
    for of_this_run in ["originating_broker", "query", "controllerid"] {
        metadata.as_object_mut().map(|all| all.remove(of_this_run));
    }
    metadata
}

/// Written through the proxy, read both ways by everybody.
fn records(kafka: &Cluster, kproxy: &Kproxy) -> Result<()> {
    let (direct, proxied, topic) = (kafka.bootstrap(), kproxy.bootstrap.as_str(), unique("records"));
    python::create_topic(proxied, &topic, 6, 3)?;
    let large = Record::with_value("x".repeat(700_000)).key("large");
    let mut sent = java::produce(proxied, &topic, &[Record::with_value("java").key("k").header("h", "v"), large])?;
    for client in Client::ALL {
        let record = Record::with_value(client.name()).key("k1").header("tag", "a").header("tag", "b");
        sent.extend(python::produce(client, proxied, &topic, &[record, Record::with_value("no key")])?);
    }
    kcat::produce(proxied, &topic, &Record::with_value("kcat").key("k3").header("h", "v"))?;
    let truth = essence(&java::read(&direct, &topic)?);
    same("records", &truth.len(), &(sent.len() + 1))?;
    // Not everybody repeats the headers in the answer.
    let without_headers = |all: &[Essence]| -> Vec<Essence> {
        all.iter()
            .map(|(partition, offset, key, value, _)| (*partition, *offset, key.clone(), value.clone(), vec![]))
            .collect()
    };
    let (answered, there) = (without_headers(&essence(&sent)), without_headers(&truth));
    let missing = answered.iter().find(|record| !there.contains(record));
    ensure!(missing.is_none(), "answered and not there: {:?}", missing.map(|record| (record.0, record.1)));
    same("Java", &essence(&java::read(proxied, &topic)?), &truth)?;
    same("kcat", &essence(&kcat::read(proxied, &topic)?), &truth)?;
    for client in Client::ALL {
        same(client.name(), &essence(&python::read(client, proxied, &topic)?), &truth)?;
    }
    Ok(())
}

/// A group is one group, whichever way its members come.
fn groups(kafka: &Cluster, kproxy: &Kproxy) -> Result<()> {
    let (direct, proxied, topic) = (kafka.bootstrap(), kproxy.bootstrap.as_str(), unique("groups"));
    python::create_topic(proxied, &topic, 3, 3)?;
    let batch = |name: &str| -> Vec<Record> { (0..9).map(|at| Record::with_value(format!("{name} {at}"))).collect() };
    let group = unique("group");
    type Consume = fn(&str, &str, &str, usize) -> Result<Vec<Record>>;
    let consumers: [(&str, Consume); 3] = [
        ("java", |bootstrap, topic, group, count| java::consume(bootstrap, topic, group, count)),
        ("confluent", |bootstrap, topic, group, count| {
            python::consume(Client::Confluent, bootstrap, topic, group, count)
        }),
        ("kafka-python", |bootstrap, topic, group, count| {
            python::consume(Client::KafkaPython, bootstrap, topic, group, count)
        }),
    ];
    for (name, consume) in consumers {
        for (way, bootstrap) in [("through kproxy", proxied), ("directly", direct.as_str())] {
            let sent = python::produce(Client::Confluent, proxied, &topic, &batch(name))?;
            let read = consume(bootstrap, &topic, &group, 9).with_context(|| format!("{name} {way}"))?;
            same(name, &essence(&read), &essence(&sent))?;
        }
    }
    let committed = |bootstrap: &str| python::committed(bootstrap, &topic, &group);
    same("committed offsets", &committed(proxied)?, &committed(&direct)?)
}
