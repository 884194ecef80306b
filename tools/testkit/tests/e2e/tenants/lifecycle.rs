//! What operators see of tenants, and what nobody sees: secrets.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::{
    DeleteGroupsRequest, GroupId, MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
};
use rustix::process::Signal;
use testkit::login::{PLAIN, SCRAM_512};
use testkit::process::scratch_dir;
use testkit::python::{self, Client};
use testkit::record::Record;
use testkit::{ports, wait};

use super::stage::{Side, Stage, logged_in, stage};
use crate::harness::same;
use crate::kproxy::wire::{Wire, text};
use crate::serve::table;
use crate::shared::three_nodes;

const SOON: Duration = Duration::from_secs(10);

/// Whatever is done with them, rightly and wrongly, and however much is logged.
pub fn tenants_are_counted_and_logged_and_their_secrets_are_nowhere() -> Result<()> {
    let (stage, dir) = (stage()?, scratch_dir("tenants")?);
    let access = dir.path().join("access.log");
    let flags = ["--tenants-access-log", &access.display().to_string(), "--log-level", "trace"];
    let mut kproxy = stage.another(&flags)?;
    let tenant = stage.tenant("seen")?;
    let guess = "a-guess-that-is-somebodys-secret-elsewhere";
    let (appid, topic) = (tenant.appid.as_str(), tenant.own_topic());
    let records: Vec<Record> = (0..10).map(|number| Record::with_value(format!("v{number}"))).collect();
    for mechanism in [PLAIN, SCRAM_512] {
        let login = tenant.login(mechanism);
        python::produce(Client::Confluent, login.at(&kproxy.bootstrap), &topic, &records)?;
        python::consume(Client::Confluent, login.at(&kproxy.bootstrap), &topic, "g", 10)?;
    }
    ensure!(logged_in(&kproxy.bootstrap, appid, guess).is_err(), "a guess is let in");
    let mut revoked = logged_in(&kproxy.bootstrap, appid, &tenant.pubkey)?;
    let new = stage.new_secret(&tenant, Side::Publish)?;
    stage.gateway.admin(&["secret", "revoke-previous", appid, "publish"])?;
    ensure!(revoked.is_closed_within(SOON)?, "a revoked session lives on");
    let mut deletes = logged_in(&kproxy.bootstrap, appid, &tenant.subkey)?;
    deletes.ask(2, &DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("g"))]))?;

    for (series, least) in [
        (format!("kproxy_app_messages_total{{app=\"{appid}\",direction=\"in\"}}"), 20),
        (format!("kproxy_app_messages_total{{app=\"{appid}\",direction=\"out\"}}"), 20),
        (format!("kproxy_app_bytes_total{{app=\"{appid}\",direction=\"in\"}}"), 40),
        (format!("kproxy_app_bytes_total{{app=\"{appid}\",direction=\"out\"}}"), 40),
        (format!("kproxy_app_requests_total{{app=\"{appid}\"}}"), 20),
        ("kproxy_logins_total{outcome=\"ok\"}".to_owned(), 5),
        ("kproxy_logins_total{outcome=\"not_authenticated\"}".to_owned(), 1),
        ("kproxy_sessions_revoked_total".to_owned(), 1),
    ] {
        let found = kproxy.metric(&series)?;
        ensure!(found >= least, "{series} is {found}, at least {least} was expected");
    }
    let log = kproxy.log();
    for event in ["login_failed", "session_revoked", "DeleteGroups"] {
        let is_told = log.lines().any(|line| line.contains("audit") && line.contains(event) && line.contains(appid));
        ensure!(is_told, "no audit of {event} in {log}");
    }
    let lines = wait::until("a line of each session", SOON, || {
        let lines = fs::read_to_string(&access)?;
        let count = lines.lines().filter(|line| line.contains(appid)).count();
        ensure!(count >= 5 && lines.contains("revoked"), "{lines}");
        Ok(lines)
    })?;
    let read: u64 = kproxy.metric(&format!("kproxy_app_messages_total{{app=\"{appid}\",direction=\"out\"}}"))?;
    ensure!(read >= 20 && lines.contains("publish") && lines.contains("subscribe"), "{lines}");

    let mut processes = String::new();
    for entry in fs::read_dir("/proc")? {
        // Some end meanwhile, and most entries are no process.
        processes += &String::from_utf8_lossy(&fs::read(entry?.path().join("cmdline")).unwrap_or_default());
    }
    let metrics = kproxy.metrics()?.text();
    drop(deletes);
    let (status, _) = kproxy.sigterm_and_wait(Duration::from_secs(35))?;
    same("exit code", &status.code(), &Some(0))?;
    let (log, lines) = (kproxy.log(), fs::read_to_string(&access)?);
    let places = [("the log", &log), ("metrics", &metrics), ("the access log", &lines), ("the processes", &processes)];
    for (number, secret) in [&tenant.pubkey, &tenant.subkey, &new, guess].into_iter().enumerate() {
        let place = places.iter().find(|(_, text)| text.contains(secret));
        ensure!(place.is_none(), "{} has secret {number}", place.map_or("", |(place, _)| place));
    }
    Ok(())
}

/// An app of another cluster is told where it belongs; SIGTERM drains those who are served.
pub fn an_app_of_another_cluster_is_told_so_and_a_drain_ends_all() -> Result<()> {
    let nowhere = format!("127.0.0.1:{}", ports::free(1)?[0]);
    let mut stage = Stage::start(&*three_nodes()?, &table("elsewhere", &nowhere, ""))?;
    let tenant = stage.tenant("here")?;
    let far = stage.gateway.admin(&["app", "create", "far", "--cluster", "elsewhere"])?;
    let secret = far["pubkey"].as_str().context("pubkey")?;
    let expected = "app far has its topics on cluster elsewhere, this is the proxy of cluster main";
    wait::until("the sentence", SOON, || {
        let Err(refused) = logged_in(&stage.kproxy.bootstrap, "far", secret) else { anyhow::bail!("let in") };
        ensure!(format!("{refused:#}").contains(expected), "{refused:#}");
        Ok(())
    })?;
    let mut inside = stage.wire(&tenant, Side::Publish)?;
    stage.kproxy.signal(Signal::TERM)?;
    wait::until("readiness to fail", SOON, || same("readiness", &stage.kproxy.readiness()?.0, &503))?;
    let instances = stage.gateway.admin(&["instances"])?;
    ensure!(!instances.to_string().contains("\"kproxy\""), "a draining proxy is registered: {instances}");
    ensure!(inside.is_closed_within(SOON)?, "a session outlives the drain");
    same("exit code", &stage.kproxy.wait(SOON)?.code(), &Some(0))?;
    let log = stage.kproxy.log();
    ensure!(log.contains("drained") && !log.contains("drain.limit is over"), "{log}");
    Ok(())
}

/// Went wrong: at a broker's port whoever was still logging in when connections were looked at was taken for somebody at the
/// wrong broker, and closed.
pub fn a_slow_login_is_waited_for() -> Result<()> {
    let stage = stage()?;
    let tenant = stage.tenant("slow")?;
    let proof = format!("\0{}\0{}", tenant.appid, tenant.pubkey).into_bytes();
    for address in [stage.kproxy.bootstrap.clone(), stage.kproxy.node(2, 1)?] {
        let mut wire = Wire::connect(&address)?;
        wire.ask(1, &SaslHandshakeRequest::default().with_mechanism(text("PLAIN")))?;
        std::thread::sleep(Duration::from_millis(1_200));
        let answer = wire.ask(2, &SaslAuthenticateRequest::default().with_auth_bytes(proof.clone().into()))?;
        same(&address, &answer.error_code, &0)?;
        wire.ask(4, &MetadataRequest::default().with_topics(None))?;
    }
    Ok(())
}
