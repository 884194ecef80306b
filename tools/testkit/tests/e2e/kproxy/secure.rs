//! TLS on both sides, logins that the proxy passes on and never has, brokers told apart by name.
//!
//! The cluster lets nobody in without a login, so the proxy's own questions are closed at, and what it knows of the cluster
//! it learned from what clients were answered.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;
use serde_json::{Value, json};
use testkit::java::{self, Setup};
use testkit::kafka::{Cluster, KafkaOptions, SASL_PASSWORD, SASL_USER};
use testkit::process::scratch_dir;
use testkit::proxy::Kproxy;
use testkit::record::Record;
use testkit::{python, wait};

use super::wire::Wire;
use crate::harness::same;
use crate::shared::unique;

const SOON: Duration = Duration::from_secs(10);
const NAMES: [&str; 3] = ["b1.kafka.test", "b2.kafka.test", "b3.kafka.test"];

static SECURE: Mutex<Option<Result<Arc<Cluster>, String>>> = Mutex::new(None);

/// Three brokers behind TLS and SASL.
fn secure() -> Result<Arc<Cluster>> {
    let mut slot = SECURE.lock().unwrap_or_else(PoisonError::into_inner);
    let options = KafkaOptions { sasl: true, tls: true, ..KafkaOptions::nodes(3) };
    let start = || Cluster::start(options).map(Arc::new).map_err(|err| format!("{err:?}"));
    slot.get_or_insert_with(start).clone().map_err(|err| anyhow!("the Kafka with TLS: {err}"))
}

/// Stops it; `main` calls this at its end.
pub fn stop() {
    drop(SECURE.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// A certificate for these names that is its own authority, and its key.
fn certificate(dir: &Path, names: &[&str]) -> Result<(PathBuf, PathBuf)> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate()?;
    let cert = CertificateParams::new(names)?.self_signed(&key)?;
    let (cert_file, key_file) = (dir.join("cert.pem"), dir.join("key.pem"));
    fs::write(&cert_file, cert.pem())?;
    fs::write(&key_file, key.serialize_pem())?;
    Ok((cert_file, key_file))
}

/// A proxy with this certificate before the cluster; `more` are further lines.
fn proxy(dir: &Path, kafka: &Cluster, more: &str) -> Result<Kproxy> {
    let servers: Vec<String> = kafka.bootstrap().split(',').map(|server| format!("\"{server}\"")).collect();
    let file = dir.join("kproxy.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nops.listen = \"127.0.0.1:0\"\nbootstrap = [{}]\n{more}
[tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"
[upstream.tls]\nenabled = true\nca_file = \"{ca}\"\n",
        servers.join(", "),
        cert = dir.join("cert.pem").display(),
        key = dir.join("key.pem").display(),
        ca = kafka.ca_pem().context("a certificate")?.display(),
    );
    fs::write(&file, text)?;
    Kproxy::serve(&file)
}

/// For librdkafka.
fn login(mechanism: &str, ca: &Path) -> Value {
    json!({
        "security.protocol": "SASL_SSL", "ssl.ca.location": ca, "sasl.mechanism": mechanism,
        "sasl.username": SASL_USER, "sasl.password": SASL_PASSWORD,
    })
}

/// `127.0.0.1 b1.kafka.test`, and how the Java client logs in.
fn java_setup(dir: &Path, ca: &Path) -> Result<(PathBuf, PathBuf)> {
    let (hosts, settings) = (dir.join("hosts"), dir.join("client.properties"));
    fs::write(&hosts, NAMES.iter().map(|name| format!("127.0.0.1 {name}\n")).collect::<String>())?;
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
    let text = format!(
        "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\nssl.truststore.type=PEM
ssl.truststore.location={}\nsasl.jaas.config={module} required username=\"{SASL_USER}\" password=\"{SASL_PASSWORD}\";\n",
        ca.display()
    );
    fs::write(&settings, text)?;
    Ok((hosts, settings))
}

/// Logs a socket in with PLAIN.
fn log_in(wire: &mut Wire) -> Result<()> {
    same("login", &wire.log_in(SASL_USER, SASL_PASSWORD)?.error_code, &0)
}

pub fn logins_pass_and_strangers_are_told_nothing() -> Result<()> {
    let (kafka, dir) = (secure()?, scratch_dir("secure")?);
    let (cert, _) = certificate(dir.path(), &["127.0.0.1"])?;
    let topic = unique("secure");
    python::create_topic(&kafka.internal(), &topic, 6, 3)?;
    let mut kproxy = proxy(dir.path(), &kafka, "node_id_base = 1\n")?;
    same("readiness before any client", &kproxy.readiness()?.0, &200)?;
    ensure!(kproxy.log().contains("brokers want a login"), "{}", kproxy.log());
    ensure!(!kproxy.log().contains("broker known"), "somebody told a stranger: {}", kproxy.log());

    // A node's port, before it is known who that is: some broker answers, and who is where becomes known by it.
    let second = kproxy.node(2, 1)?;
    let mut early = Wire::connect_tls(&second, "127.0.0.1", &fs::read(&cert)?)?;
    log_in(&mut early)?;
    let sent = python::produce_with(login("PLAIN", &cert), &second, &topic, &[Record::with_value("PLAIN").key("0")])?;
    same("sent", &sent.len(), &1)?;
    ensure!(kproxy.log().contains("broker known"), "nothing was learned: {}", kproxy.log());
    // Whoever was given another broker than he meant is asked to come again, now that it can be had.
    ensure!(early.is_closed_within(SOON)?, "a client stays with a broker it does not mean");
    let mut again = Wire::connect_tls(&second, "127.0.0.1", &fs::read(&cert)?)?;
    log_in(&mut again)?;
    ensure!(kproxy.metric("kproxy_broker_connections{broker=\"2\"}")? >= 1, "{}", kproxy.metrics()?.text());

    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let record = Record::with_value(mechanism).key(mechanism);
        python::produce_with(login(mechanism, &cert), &kproxy.bootstrap, &topic, &[record])?;
    }
    let mut read: Vec<String> =
        python::read_with(login("SCRAM-SHA-256", &cert), &kproxy.bootstrap, &topic)?.iter().map(Record::text).collect();
    read.sort();
    same("records", &read, &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].map(str::to_owned).to_vec())?;
    ensure!(!kproxy.log().contains(SASL_PASSWORD), "a password is in the log");
    let (status, _) = kproxy.sigterm_and_wait(Duration::from_secs(35))?;
    same("exit code", &status.code(), &Some(0))
}

/// One port, many names: the whole of Java's client with it.
pub fn names_tell_brokers_apart() -> Result<()> {
    let (kafka, dir) = (secure()?, scratch_dir("secure")?);
    let (cert, _) = certificate(dir.path(), &["*.kafka.test", "kafka.test"])?;
    let topic = unique("names");
    python::create_topic(&kafka.internal(), &topic, 6, 3)?;
    let kproxy = proxy(dir.path(), &kafka, "sni_pattern = \"b$.kafka.test\"\n")?;
    let port = kproxy.bootstrap.rsplit(':').next().context("a port")?;
    let (hosts, settings) = java_setup(dir.path(), &cert)?;
    let setup = Setup { settings: &settings, hosts: Some(&hosts) };
    let bootstrap = format!("b1.kafka.test:{port}");
    let records: Vec<Record> = (0..60).map(|at| Record::with_value(format!("r{at}")).key(&format!("k{at}"))).collect();
    java::produce_as(setup, &bootstrap, &topic, &records)?;
    let mut read: Vec<String> =
        java::consume_as(setup, &bootstrap, &topic, &unique("g"), 60)?.iter().map(Record::text).collect();
    read.sort();
    let mut written: Vec<String> = records.iter().map(Record::text).collect();
    written.sort();
    same("records", &read, &written)?;
    // Every broker had some of it, by its name.
    for node in 1..=3 {
        let bytes = kproxy.metric(&format!("kproxy_broker_bytes_total{{broker=\"{node}\"}}"))?;
        ensure!(bytes > 1_000, "node {node} had {bytes} bytes");
    }
    // Whatever its case; a name that is no broker's is the bootstrap.
    let ca = fs::read(&cert)?;
    for name in ["B2.Kafka.Test", "other.kafka.test"] {
        Wire::connect_tls(&kproxy.bootstrap, name, &ca)?.offered().with_context(|| name.to_owned())?;
    }
    let mut plain = Wire::connect(&kproxy.bootstrap)?;
    plain.send_raw(b"\0\0\0\x0a\x00\x12\x00\x00\0\0\0\x01\xff\xff")?;
    ensure!(plain.is_closed_within(SOON)?, "a client without TLS is served");
    wait::until("the log to name it", SOON, || {
        let log = kproxy.log();
        ensure!(log.contains("a client without TLS?"), "{log}");
        Ok(())
    })
}

pub fn a_new_certificate_is_for_new_connections() -> Result<()> {
    let (kafka, dir) = (secure()?, scratch_dir("secure")?);
    let (cert, key) = certificate(dir.path(), &["127.0.0.1"])?;
    let old_ca = fs::read(&cert)?;
    let mut kproxy = proxy(dir.path(), &kafka, "node_id_base = 1\n")?;
    let mut before = Wire::connect_tls(&kproxy.bootstrap, "127.0.0.1", &old_ca)?;
    before.offered()?;

    // Half of a change is no change: the old stays in force.
    fs::write(&key, "no key")?;
    kproxy.signal(Signal::HUP)?;
    wait::until("the refusal", SOON, || {
        let log = kproxy.log();
        ensure!(log.contains("the certificates stay as they were"), "{log}");
        Ok(())
    })?;
    Wire::connect_tls(&kproxy.bootstrap, "127.0.0.1", &old_ca)?.offered()?;

    certificate(dir.path(), &["127.0.0.1"])?;
    let new_ca = fs::read(&cert)?;
    ensure!(new_ca != old_ca, "the certificate is the same");
    kproxy.signal(Signal::HUP)?;
    wait::until("the new certificate", SOON, || {
        Wire::connect_tls(&kproxy.bootstrap, "127.0.0.1", &new_ca)?.offered().map(drop)
    })?;
    ensure!(Wire::connect_tls(&kproxy.bootstrap, "127.0.0.1", &old_ca).is_err(), "the old one is still shown");
    log_in(&mut before).context("a connection from before")
}
