//! `kbench tenants`: what many tenants cost a node: a start, a change, and what a shard notices of it.
//!
//! A database is filled first, then a gateway started on it three ways: with nothing but the database, with the database
//! and its own snapshot on disk, and with the snapshot alone. Changes go through the manager, one after the other, and
//! are timed until they are answered, which is when they are in force on every shard; meanwhile one connection publishes,
//! so that the shards have something to be late with.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use model::doc::{AppDoc, GrantDoc, SnapshotDoc, TopicDoc};
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::limits::{SCRAM_ITERATIONS_DEFAULT, SCRAM_SALT_BYTES};
use model::scram::ScramParams;
use model::{PlainSecret, SecretPair, StoredSecret, TopicOptions};
use serde_json::{Value, json};
use testkit::http::{self, Connection, Request};

use crate::cli::Tenants;
use crate::cpu::Sample;
use crate::machine::machine;
use crate::prefetch::resident_kib;
use crate::process::{Process, Ready, TempDir, tethered};
use crate::servers::{NullBroker, kateway_path};

const SECRET: &str = "a-secret-of-the-bench";
const CLUSTER: &str = "main";
const VERSION: &str = "v1";

pub fn run(tenants: Tenants) -> Result<ExitCode> {
    let kateway = kateway_path(tenants.kateway.as_ref())?;
    let found = measure(&tenants, &kateway)?;
    console::print!("{}", markdown(&tenants, &found));
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, Default)]
struct Found {
    import_s: f64,
    /// From the start of the process to its ready line.
    from_database_s: f64,
    from_both_s: f64,
    from_snapshot_s: f64,
    snapshot_mib: f64,
    resident_mib: f64,
    changes_ms: Vec<f64>,
    change_cpu_ms: f64,
    longest_turn_us: f64,
    quiet_turn_us: f64,
    published: u64,
}

fn measure(tenants: &Tenants, kateway: &Path) -> Result<Found> {
    let mut found = Found::default();
    let broker = NullBroker::start(0)?;
    let dir = TempDir::new()?;
    let data = dir.path.join("data");
    std::fs::create_dir(&data)?;
    let config = dir.path.join("kateway.toml");
    let listen = "[listen]\npub = \"127.0.0.1:0\"\nsub = \"127.0.0.1:0\"\nman = \"127.0.0.1:0\"\n";
    std::fs::write(
        &config,
        format!(
            "data_dir = \"{}\"\n{listen}[log]\nlevel = \"warn\"\n[clusters.{CLUSTER}]\nbootstrap = [\"{}\"]\n",
            data.display(),
            broker.kafka
        ),
    )?;

    let database = data.join("gafka.db");
    eprintln!("filling the database");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    found.import_s = timed(|| runtime.block_on(fill(&database, tenants)))?;

    let start = || -> Result<(Process, Ready)> {
        let mut command = tethered(None, kateway)?;
        command.args(["serve", "--json", "--config"]).arg(&config);
        Process::start(command, "the gateway", None)
    };
    let mut started = None;
    found.from_database_s = timed(|| {
        started = Some(start()?);
        Ok(())
    })?;
    eprintln!("ready from the database after {:.1} s", found.from_database_s);
    let (mut process, ready) = started.context("it was started")?;
    let gateway = Gateway::of(&data, &ready)?;
    gateway.until_written()?;
    change(&gateway, tenants, process.pid(), &mut found)?;
    found.resident_mib = resident_kib(process.pid())? as f64 / 1024.0;
    found.snapshot_mib = std::fs::metadata(data.join("snapshot.json"))?.len() as f64 / f64::from(1 << 20);
    process.kill()?;

    found.from_both_s = timed(|| start().map(|(mut process, _)| process.kill())?)?;
    std::fs::rename(&database, data.join("away.db"))?;
    let mut started = None;
    found.from_snapshot_s = timed(|| {
        started = Some(start()?);
        Ok(())
    })?;
    let (mut process, ready) = started.context("it was started")?;
    ensure!(publish(&mut Connection::open(&ready.text("pub")?)?, 0)? == 201, "the snapshot alone does not serve");
    process.kill()?;
    Ok(found)
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64())
}

/// Apps with as many topics and grants each; the grants of an app are on topics of those that follow it.
async fn fill(path: &Path, tenants: &Tenants) -> Result<()> {
    let db = authdb::open(path.to_str().context("a path of text")?).await?;
    let (apps, topics, grants) = (tenants.apps, tenants.topics / tenants.apps, tenants.grants / tenants.apps);
    let scram = ScramParams { salt: vec![7; SCRAM_SALT_BYTES], iterations: SCRAM_ITERATIONS_DEFAULT };
    let secret = PlainSecret::from_text(SECRET).context("a secret")?;
    let pair = SecretPair { current: StoredSecret::derive(&secret, &scram), previous: None };
    let (cluster, ver) = (ClusterName::new(CLUSTER)?, TopicVersion::new(VERSION)?);
    let mut doc = SnapshotDoc::default();
    for app in 0..apps {
        let id = app_id(app)?;
        doc.apps.push(AppDoc {
            limits: model::quota::Limits::default(),
            addresses: model::Addresses::default(),
            handoff: true,
            index: app as u32 + 1,
            id: id.clone(),
            cluster: cluster.clone(),
            enabled: true,
            scram: scram.clone(),
            publish: pair.clone(),
            subscribe: pair.clone(),
        });
        for topic in 0..topics {
            doc.topics.push(TopicDoc {
                limits: model::quota::Limits::default(),
                index: (app * topics + topic) as u32 + 1,
                owner: id.clone(),
                name: topic_name(topic)?,
                ver: ver.clone(),
                cluster: cluster.clone(),
                enabled: true,
                options: TopicOptions::default(),
                partitions: Some(4),
                replicas: Some(3),
                retention_ms: None,
                retention_bytes: None,
            });
        }
        for grant in 0..grants {
            let owner = (app + 1 + grant / topics) % apps;
            ensure!(owner != app, "more grants than there are topics of others");
            let (owner, topic) = (app_id(owner)?, topic_name(grant % topics)?);
            doc.grants.push(GrantDoc::Subscribe { app: id.clone(), owner, topic, ver: Some(ver.clone()) });
        }
    }
    db.import(&doc).await?;
    db.close().await;
    Ok(())
}

fn app_id(app: usize) -> Result<AppId> {
    Ok(AppId::new(&format!("app-{app}"))?)
}

fn topic_name(topic: usize) -> Result<TopicName> {
    Ok(TopicName::new(&format!("topic-{topic}"))?)
}

struct Gateway {
    publish: String,
    manager: String,
    admin: (String, String),
}

impl Gateway {
    fn of(data: &Path, ready: &Ready) -> Result<Self> {
        let text = std::fs::read_to_string(data.join("credentials.json")).context("the gateway's credentials")?;
        let admin: Value = serde_json::from_str(&text)?;
        let text = |name: &str| admin[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        let (publish, manager) = (ready.text("pub")?, ready.text("man")?);
        Ok(Self { publish, manager, admin: (text("admin_appid")?, text("admin_key")?) })
    }

    fn ask(&self, request: Request) -> Result<http::Response> {
        let (appid, key) = &self.admin;
        http::call(&self.manager, &request.header("Appid", appid.as_str()).header("Pubkey", key.as_str()))
    }

    /// The snapshot of everything is on disk.
    fn until_written(&self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while !self.ask(Request::get("/readyz"))?.json()?["tenants"]["unwritten"].is_null() {
            ensure!(Instant::now() < until, "the snapshot is not written");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The longest that any shard was busy of late, in microseconds.
    fn longest_turn_us(&self) -> Result<f64> {
        let text = self.ask(Request::get("/metrics"))?.expect(200)?.text();
        let turns = text.lines().filter_map(|line| line.strip_prefix("gateway_longest_turn_microseconds{"));
        let turns = turns.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        turns.max_by(f64::total_cmp).context("no gateway_longest_turn_microseconds")
    }
}

fn publish(connection: &mut Connection, number: u64) -> Result<u16> {
    let target = format!("/v1/msgs/topic-{}/{VERSION}", number % 2);
    let request = Request::post(&target).header("Appid", "app-0").header("Pubkey", SECRET).body(vec![0x5a; 100]);
    Ok(connection.call(&request)?.status)
}

fn change(gateway: &Gateway, tenants: &Tenants, pid: u32, found: &mut Found) -> Result<()> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let publishing = scope.spawn(|| -> Result<u64> {
            let mut connection = Connection::open(&gateway.publish)?;
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                let status = publish(&mut connection, count)?;
                ensure!(status == 201, "publish {count} was answered {status}");
                count += 1;
                thread::sleep(Duration::from_millis(1));
            }
            Ok(count)
        });
        let changed = change_one_after_the_other(gateway, tenants, pid, found);
        done.store(true, Ordering::Relaxed);
        found.published = publishing.join().map_err(|_| anyhow!("the publisher panicked"))??;
        changed
    })
}

fn change_one_after_the_other(gateway: &Gateway, tenants: &Tenants, pid: u32, found: &mut Found) -> Result<()> {
    // What a start leaves in the gauge is over by then: it tells the longest of the last seconds.
    thread::sleep(Duration::from_secs(12));
    for _ in 0..10 {
        found.quiet_turn_us = found.quiet_turn_us.max(gateway.longest_turn_us()?);
        thread::sleep(Duration::from_millis(200));
    }
    let before = Sample::take(pid)?;
    for number in 0..tenants.changes {
        // Of the last app on a topic of the first: not among those that were made.
        let grant = json!({"kind": "subscribe", "appid": format!("app-{}", number % tenants.apps),
                           "owner": format!("app-{}", (number + tenants.apps - 1) % tenants.apps), "topic": "topic-0"});
        let (request, status) = match number % 2 {
            0 => (Request::post("/v1/grants").json(&grant), 201),
            _ => (Request::new("DELETE", "/v1/grants").json(&previous(number, tenants)), 200),
        };
        let began = Instant::now();
        gateway.ask(request)?.expect(status)?;
        found.changes_ms.push(began.elapsed().as_secs_f64() * 1e3);
        found.longest_turn_us = found.longest_turn_us.max(gateway.longest_turn_us()?);
        thread::sleep(Duration::from_millis(100));
    }
    let after = Sample::take(pid)?;
    found.change_cpu_ms = after.since(&before).total_ns as f64 / 1e6 / tenants.changes as f64;
    found.changes_ms.sort_by(f64::total_cmp);
    Ok(())
}

/// The grant that the change before made.
fn previous(number: usize, tenants: &Tenants) -> Value {
    let number = number - 1;
    json!({"kind": "subscribe", "appid": format!("app-{}", number % tenants.apps),
           "owner": format!("app-{}", (number + tenants.apps - 1) % tenants.apps), "topic": "topic-0"})
}

fn markdown(tenants: &Tenants, found: &Found) -> String {
    let percentile = |part: f64| {
        let last = found.changes_ms.len().saturating_sub(1);
        found.changes_ms.get((part * last as f64).round() as usize).copied().unwrap_or(f64::NAN)
    };
    let rows = [
        ("start to ready, from the database alone", format!("{:.2} s", found.from_database_s)),
        ("start to ready, database and snapshot on disk", format!("{:.2} s", found.from_both_s)),
        ("start to ready, the snapshot alone", format!("{:.2} s", found.from_snapshot_s)),
        ("a change in force, median", format!("{:.1} ms", percentile(0.5))),
        ("a change in force, slowest", format!("{:.1} ms", percentile(1.0))),
        ("CPU of the process per change, publishing included", format!("{:.1} ms", found.change_cpu_ms)),
        ("longest turn of a shard while changing", format!("{:.0} µs", found.longest_turn_us)),
        ("the same while nothing changes", format!("{:.0} µs", found.quiet_turn_us)),
        ("snapshot.json", format!("{:.0} MiB", found.snapshot_mib)),
        ("resident memory", format!("{:.0} MiB", found.resident_mib)),
    ];
    let mut text = format!(
        "{}\n\n{} apps, {} topics, {} grants; {} changes, {} publishes meanwhile; filled in {:.1} s\n\n| what | found |\n|---|---|\n",
        machine(),
        tenants.apps,
        tenants.topics,
        tenants.grants,
        tenants.changes,
        found.published,
        found.import_s
    );
    for (what, value) in rows {
        let _ = writeln!(text, "| {what} | {value} |");
    }
    text
}
