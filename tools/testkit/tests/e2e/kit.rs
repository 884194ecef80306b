//! The kit itself: four clients against a real broker agree with each other, so that a later disagreement with gafka
//! is gafka's.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use testkit::fetch::Store;
use testkit::kafka::{Cluster, KafkaOptions};
use testkit::process::scratch_dir;
use testkit::python::Client;
use testkit::record::Record;
use testkit::{components, java, kcat, python, seal};

use crate::harness::{Case, case, same};
use crate::shared::{kafka, unique};

pub const CASES: &[Case] = &[
    case("clients_of_four_makes_read_what_each_other_wrote", &["kafka", "kcat", "python-clients"], round_trip),
    case("a_changed_python_environment_is_made_anew_and_a_wheel_outside_the_lock_refused", &["python-clients"], venv),
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

/// In a cache of its own: the wheels are copied from the user's, nothing is fetched.
fn venv() -> Result<()> {
    let component = components::by_name("python-clients")?;
    let (users, scratch) = (components::ensure(component.name)?, scratch_dir("cache")?);
    let dir = scratch.path().join(component.dir_name());
    let files = dir.join("files");
    fs::create_dir_all(&files)?;
    for entry in fs::read_dir(users.join("files"))? {
        let entry = entry?;
        fs::copy(entry.path(), files.join(entry.file_name()))?;
    }
    // What a helpful hand would do as well.
    let record = || -> Result<()> {
        let sums = scratch.path().join(format!("{}.sums", component.dir_name()));
        Ok(fs::write(sums, seal::to_text(&seal::sums_of(&files)?))?)
    };
    record()?;
    let store = Store::at(scratch.path(), true);
    store.obtain(component)?;

    let venv = dir.join("venv");
    let is_module = |file: &&String| file.ends_with("/site-packages/kafka/__init__.py");
    let module = seal::sums_of(&venv)?.keys().find(is_module).context("no module kafka is installed")?.clone();
    let original = fs::read(venv.join(&module))?;
    let made_at = || fs::metadata(&venv)?.created();
    let first = made_at()?;
    store.obtain(component)?;
    same("made without a reason", &made_at()?, &first)?;
    fs::write(venv.join(&module), [b"# a hand\n", original.as_slice()].concat())?;
    store.obtain(component)?;
    same("the module", &(fs::read(venv.join(&module))? == original), &true)?;

    fs::copy(files.join(a_wheel(&files)?), files.join("kafka_python-3.0.12-py4-none-any.whl"))?;
    record()?;
    let refused = format!("{:#}", store.obtain(component).err().context("a wheel outside the lock passed")?);
    ensure!(refused.contains("kafka_python-3.0.12-py4-none-any.whl: not in components.lock"), "{refused}");
    Ok(())
}

fn a_wheel(files: &Path) -> Result<String> {
    seal::sums_of(files)?.into_keys().next().context("no wheel is here")
}
