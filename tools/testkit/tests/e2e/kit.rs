//! The kit itself: four clients against a real broker agree with each other, so that a later disagreement with gafka
//! is gafka's.

use anyhow::{Result, ensure};
use testkit::kafka::{Cluster, KafkaOptions};
use testkit::python::Client;
use testkit::record::Record;
use testkit::{java, kcat, python};

use crate::harness::{Case, case, same};
use crate::shared::{kafka, unique};

pub const CASES: &[Case] = &[
    case("clients_of_four_makes_read_what_each_other_wrote", &["kafka", "kcat", "python-clients"], round_trip),
    case("a_killed_broker_comes_back_and_a_leader_moves", &["kafka", "python-clients"], kill_and_move),
];

/// Partition, offset, key, value.
type Essence = (i32, i64, Option<Vec<u8>>, Option<Vec<u8>>);

fn essence(records: &[Record]) -> Vec<Essence> {
    let mut all: Vec<Essence> = records
        .iter()
        .map(|record| (record.partition, record.offset, record.key.clone(), record.value.clone()))
        .collect();
    all.sort();
    all
}

fn round_trip() -> Result<()> {
    let kafka = kafka()?;
    let (bootstrap, topic) = (kafka.bootstrap(), unique("kit"));
    python::create_topic(&bootstrap, &topic, 3, 1)?;
    let mut sent = Vec::new();
    for client in Client::ALL {
        let record = Record::with_value(client.name()).key("k1").header("tag", "a").header("tag", "b");
        sent.extend(python::produce(client, &bootstrap, &topic, &[record, Record::with_value("no key")])?);
    }
    sent.extend(java::produce(&bootstrap, &topic, &[Record::with_value("java").key("k2").header("h", "v")])?);
    kcat::produce(&bootstrap, &topic, &Record::with_value("kcat").key("k3").header("h", "v"))?;

    let by_java = java::read(&bootstrap, &topic)?;
    same("records", &by_java.len(), &6)?;
    for record in essence(&sent) {
        ensure!(essence(&by_java).contains(&record), "{record:?} is not in what the Java client read");
    }
    for client in Client::ALL {
        same(client.name(), &essence(&python::read(client, &bootstrap, &topic)?), &essence(&by_java))?;
    }
    same("kcat", &essence(&kcat::read(&bootstrap, &topic)?), &essence(&by_java))?;
    let group = unique("group");
    let by_group = python::consume(Client::Confluent, &bootstrap, &topic, &group, 6)?;
    same("a group", &essence(&by_group), &essence(&by_java))?;
    let committed = python::committed(&bootstrap, &topic, &group)?;
    let total: i64 = committed.as_object().into_iter().flatten().filter_map(|(_, offset)| offset.as_i64()).sum();
    same("committed offsets", &total, &6)
}

fn kill_and_move() -> Result<()> {
    let mut kafka = Cluster::start(KafkaOptions::nodes(3))?;
    let (bootstrap, topic) = (kafka.bootstrap(), unique("kit"));
    python::create_topic(&bootstrap, &topic, 1, 3)?;
    java::move_leader(&bootstrap, &topic, 0, 2)?;
    kafka.kill(2)?;
    python::produce(Client::Confluent, &bootstrap, &topic, &[Record::with_value("while node 2 is dead")])?;
    kafka.restart(2)?;
    kafka.wait_until_all_visible()?;
    java::move_leader(&bootstrap, &topic, 0, 2)?;
    let records = java::read(&bootstrap, &topic)?;
    same("records", &records.iter().map(Record::text).collect(), &vec!["while node 2 is dead".to_owned()])
}
