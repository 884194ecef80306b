//! `kateway serve --config F` in front of real clusters.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::process::Signal;
use testkit::daemon::bin_path;
use testkit::gateway::{Gateway, Tenant};
use testkit::http::{Request, call};
use testkit::kafka::{Cluster, KafkaOptions, SASL_PASSWORD, SASL_USER};
use testkit::process::{run, scratch_dir, tethered};
use testkit::python::Client;
use testkit::record::Record;
use testkit::{python, wait};

use crate::harness::{Case, case, same};
use crate::shared::{kafka, unique};

pub const CASES: &[Case] = &[
    case("check_config_names_every_mistake_with_its_line", &["bin:kateway"], check_config),
    case("one_cluster_of_two_down_is_still_ready", &["bin:kateway", "kafka", "python-clients"], one_down),
    case("brokers_are_reached_by_tls_with_plain_and_scram", &["bin:kateway", "kafka", "python-clients"], tls_and_sasl),
    case("a_sighup_obeys_the_log_level_and_goes_on_in_a_new_access_log", &["bin:kateway", "kafka"], sighup),
    case("two_gateways_share_one_database_and_registry", &["bin:kateway", "kafka"], two_gateways),
];

/// A configuration on free ports with these `[clusters.*]` tables.
pub fn config(dir: &Path, name: &str, data_dir: &Path, clusters: &str) -> Result<PathBuf> {
    let path = dir.join(format!("{name}.toml"));
    let data_dir = data_dir.display();
    let listen = "[listen]\npub = \"127.0.0.1:0\"\nsub = \"127.0.0.1:0\"\nman = \"127.0.0.1:0\"\n";
    fs::write(&path, format!("data_dir = \"{data_dir}\"\n{listen}{clusters}"))?;
    Ok(path)
}

pub fn table(name: &str, bootstrap: &str, more: &str) -> String {
    let servers: Vec<String> = bootstrap.split(',').map(|server| format!("\"{server}\"")).collect();
    format!("[clusters.{name}]\nbootstrap = [{}]\n{more}", servers.join(", "))
}

pub fn tenant_in_force(gateway: &Gateway, appid: &str, cluster: &str) -> Result<Tenant> {
    let tenant = gateway.new_tenant(appid, cluster, 2)?;
    wait::until("the new app", Duration::from_secs(5), || gateway.post(&tenant, "", "warm up")?.expect(201).map(drop))?;
    Ok(tenant)
}

fn check_config() -> Result<()> {
    let dir = scratch_dir("serve")?;
    let path = dir.path().join("wrong.toml");
    fs::write(&path, "data_dir = \"d\"\n[listen]\npub = \"nonsense\"\n[limits]\nmemroy = \"1GiB\"\n")?;
    let mut command = tethered(bin_path("kateway")?);
    command.args(["serve", "--check-config", "--config"]).arg(&path);
    let Err(err) = run(command, Duration::from_secs(20)) else { bail!("a wrong file passed") };
    let said = format!("{err:#}");
    ensure!(said.contains("exit status: 2"), "{said}");
    for expected in [":3", ":5", "memory", "clusters"] {
        ensure!(said.contains(expected), "{expected:?} is not in: {said}");
    }
    let good = config(dir.path(), "good", &dir.path().join("data"), &table("main", "127.0.0.1:9092", ""))?;
    let mut command = tethered(bin_path("kateway")?);
    command.args(["serve", "--check-config", "--config"]).arg(&good);
    run(command, Duration::from_secs(20)).map(drop)
}

fn one_down() -> Result<()> {
    let (kafka, dir) = (kafka()?, scratch_dir("serve")?);
    let mut gone = Cluster::start(KafkaOptions::default())?;
    let clusters = table("main", &kafka.bootstrap(), "") + &table("gone", &gone.bootstrap(), "");
    let data = dir.path().join("data");
    let gateway = Gateway::serve(&config(dir.path(), "two", &data, &clusters)?, &data)?;
    let alive = tenant_in_force(&gateway, &unique("alive"), "main")?;
    let dead = tenant_in_force(&gateway, &unique("dead"), "gone")?;
    gone.kill(1)?;

    wait::until("/readyz to name the dead cluster", Duration::from_secs(20), || {
        let readiness = call(&gateway.publish, &Request::get("/readyz"))?.expect(200)?.text();
        ensure!(readiness.contains("gone"), "{readiness}");
        Ok(())
    })?;
    gateway.post(&alive, "", "the other cluster works")?.expect(201)?;
    let started = Instant::now();
    let refused = gateway.post(&dead, "?timeout=2s&hh=n", "nowhere to go")?;
    same("status", &refused.status, &503)?;
    ensure!(refused.header("retry-after").is_some(), "503 without Retry-After");
    ensure!(started.elapsed() < Duration::from_secs(5), "refused after {:?}", started.elapsed());

    gone.restart(1)?;
    gone.wait_until_all_visible()?;
    wait::until("publishes to the returned cluster", Duration::from_secs(20), || {
        gateway.post(&dead, "?timeout=2s", "back again")?.expect(201).map(drop)
    })?;
    let records = python::read(Client::Confluent, &gone.bootstrap(), &dead.physical_topic())?;
    ensure!(!records.iter().any(|record| record.text() == "nowhere to go"), "a refused message was stored");
    Ok(())
}

fn tls_and_sasl() -> Result<()> {
    let dir = scratch_dir("serve")?;
    let kafka = Cluster::start(KafkaOptions { sasl: true, tls: true, ..KafkaOptions::default() })?;
    let Some(ca) = kafka.ca_pem() else { bail!("no certificate") };
    let mechanisms = [("plain", "PLAIN"), ("scram256", "SCRAM-SHA-256"), ("scram512", "SCRAM-SHA-512")];
    let mut clusters = String::new();
    for (name, mechanism) in mechanisms {
        let more = format!(
            "tls.enabled = true\ntls.ca_file = \"{}\"\nsasl.mechanism = \"{mechanism}\"\n\
             sasl.username = \"{SASL_USER}\"\nsasl.password = \"{SASL_PASSWORD}\"\n",
            ca.display()
        );
        clusters.push_str(&table(name, &kafka.bootstrap(), &more));
    }
    let data = dir.path().join("data");
    let mut gateway = Gateway::serve(&config(dir.path(), "secure", &data, &clusters)?, &data)?;
    for (name, mechanism) in mechanisms {
        let tenant = tenant_in_force(&gateway, &unique(name), name)?;
        gateway.post(&tenant, "", mechanism)?.expect(201)?;
        gateway.poll_for(&tenant, "g", &[mechanism], Duration::from_secs(15))?;
        let records = python::read(Client::Confluent, &kafka.internal(), &tenant.physical_topic())?;
        ensure!(records.iter().map(Record::text).any(|value| value == mechanism), "{mechanism}: not in Kafka");
    }
    ensure!(!gateway.log().contains(SASL_PASSWORD), "the broker password is in the log");
    let (status, _) = gateway.sigterm_and_wait(Duration::from_secs(10))?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn sighup() -> Result<()> {
    let (kafka, dir) = (kafka()?, scratch_dir("serve")?);
    let (data, access) = (dir.path().join("data"), dir.path().join("access.log"));
    let path = config(dir.path(), "sighup", &data, &table("main", &kafka.bootstrap(), ""))?;
    let written = fs::read_to_string(&path)?;
    let set = |log: &str| fs::write(&path, format!("log.access = '{}'\n{log}\n{written}", access.display()));
    set("log.level = 'warn'")?;
    let mut gateway = Gateway::serve(&path, &data)?;
    ensure!(!gateway.log().contains(" INFO "), "INFO at level warn: {}", gateway.log());
    let publish = gateway.publish.clone();
    let ask = |name: &str| -> Result<()> {
        call(&publish, &Request::get("/readyz").header("X-Request-Id", name))?.expect(200).map(drop)
    };
    let until_in = |file: &Path, name: &str| {
        wait::until(name, Duration::from_secs(10), || {
            ensure!(fs::read_to_string(file)?.contains(name), "not in {}", file.display());
            Ok(())
        })
    };
    ask("before")?;
    until_in(&access, "before")?;

    let rotated = dir.path().join("access.log.1");
    fs::rename(&access, &rotated)?;
    set("log.level = 'info'\nlimits.idle_timeout = '1m'")?;
    gateway.signal(Signal::HUP)?;
    wait::until("the reload", Duration::from_secs(10), || {
        ensure!(gateway.log().contains("configuration read again"), "{}", gateway.log());
        Ok(())
    })?;
    ensure!(gateway.log().contains("limits.idle_timeout"), "what waits is not told: {}", gateway.log());
    ask("after")?;
    until_in(&access, "after")?;
    ensure!(!fs::read_to_string(&rotated)?.contains("after"), "the renamed file is still written");

    set("log.level = 'inf'")?;
    gateway.signal(Signal::HUP)?;
    wait::until("the refusal", Duration::from_secs(10), || {
        ensure!(gateway.log().contains("did you mean `info`?"), "{}", gateway.log());
        Ok(())
    })?;
    ask("still-there")?;
    let (status, _) = gateway.sigterm_and_wait(Duration::from_secs(10))?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn two_gateways() -> Result<()> {
    let (kafka, dir) = (kafka()?, scratch_dir("serve")?);
    let data = dir.path().join("data");
    let clusters = table("main", &kafka.bootstrap(), "");
    let first = Gateway::serve(&config(dir.path(), "first", &data, &clusters)?, &data)?;
    let second = Gateway::serve(&config(dir.path(), "second", &data, &clusters)?, &data)?;
    let tenant = tenant_in_force(&first, &unique("both"), "main")?;
    wait::until("the second gateway to know the app", Duration::from_secs(5), || {
        second.post(&tenant, "", "by the second")?.expect(201).map(drop)
    })?;
    first.post(&tenant, "", "by the first")?.expect(201)?;
    first.poll_for(&tenant, "one", &["by the first", "by the second"], Duration::from_secs(15))?;
    second.poll_for(&tenant, "two", &["by the first", "by the second"], Duration::from_secs(15))?;
    Ok(())
}
