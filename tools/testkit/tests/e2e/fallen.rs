//! A shard panics: the process says which, serves with the others, drains and ends with a failure for its supervisor.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::daemon::{Daemon, bin_path};
use testkit::gateway::Quickstart;
use testkit::http::{self, Request};
use testkit::load::Load;
use testkit::process::{run, scratch_dir, tethered};
use testkit::python::Client;
use testkit::{ledger, python, wait};

use crate::harness::{Case, case, same};

pub const CASES: &[Case] = &[
    case("a_gateway_that_loses_a_shard_drains_and_ends_with_1", &["bin:kateway", "python-clients"], gateway),
    case("a_proxy_that_loses_a_shard_drains_and_ends_with_1", &["bin:kateway", "bin:kproxy"], proxy),
    case("a_fault_that_nobody_knows_refuses_the_start", &["bin:kateway", "bin:kproxy"], unknown_fault),
];

const PANIC: &[(&str, &str)] = &[("GAFKA_FAULT", "panic-shard:1")];
/// The fault comes 1.5 s after the ready line.
const FALLS_WITHIN: Duration = Duration::from_secs(10);
/// Quickstart's drain limit, and the last answers.
const ENDS_WITHIN: Duration = Duration::from_secs(9);

/// Waits until `/readyz` says that the shard is gone, always on a connection of its own: none may hang.
fn until_fallen(base: &str) -> Result<Instant> {
    wait::until("/readyz to name the shard", FALLS_WITHIN, || {
        let said = http::call(base, &Request::get("/readyz"))?;
        ensure!(said.status == 503 && said.text().contains("shard 1 has failed"), "{} {}", said.status, said.text());
        Ok(Instant::now())
    })
}

/// It ended with 1 in time, and logged one error.
fn ended_with_failure(daemon: &mut Daemon, since: Instant) -> Result<()> {
    let status = daemon.wait(ENDS_WITHIN.saturating_sub(since.elapsed()))?;
    same("exit code", &status.code(), &Some(1))?;
    let log = daemon.log();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
    let [error] = errors[..] else { bail!("not one error, but {errors:#?}") };
    for word in ["shard=1", "this shard was told to panic", "drains the other shards", "code 1"] {
        ensure!(error.contains(word), "{word:?} is not in: {error}");
    }
    Ok(())
}

fn gateway() -> Result<()> {
    let dir = scratch_dir("fallen")?;
    let mut quickstart = Quickstart::start_with(dir.path(), &["--shards", "2"], PANIC)?;
    let load = Load { keyed: 16, pause: Duration::ZERO, ..Load::default() };
    let running = load.start(&[&quickstart.publish], &quickstart.demo);
    running.wait_for_more(100, FALLS_WITHIN)?;
    let fallen = until_fallen(&quickstart.publish)?;
    for listener in [&quickstart.subscribe, &quickstart.manager] {
        until_fallen(listener)?;
    }
    // For a second the drain is announced only: who comes is served, by the shard that is left.
    for _ in 0..20 {
        quickstart.post(&quickstart.demo, "", "after")?.expect(201)?;
    }
    running.wait_for_more(50, Duration::from_secs(2))?;
    ended_with_failure(&mut quickstart, fallen)?;
    let ledger = running.stop()?.ledger;
    let demo = quickstart.demo.clone();
    drop(quickstart);

    let again = Quickstart::start(dir.path(), &[]).context("restart")?;
    let mut records = python::read(Client::Confluent, &again.kafka, &demo.physical_topic())?;
    let by_hand = records.extract_if(.., |record| record.text() == "after").count();
    same("published on connections that came after", &by_hand, &20)?;
    let report = ledger::check(&ledger, &records).into_result()?;
    ensure!(report.stored >= 150, "{report}");
    Ok(())
}

fn proxy() -> Result<()> {
    let dir = scratch_dir("fallen")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let args = ["serve", "--json", "--listen", "127.0.0.1:0", "--shards-count", "2", "--drain-limit", "7s"];
    let mut args: Vec<OsString> = args.map(OsString::from).to_vec();
    args.extend(["--bootstrap".into(), (&quickstart.kafka).into()]);
    let mut kproxy = Daemon::start_with("kproxy", &args, PANIC)?;
    let fallen = until_fallen(&kproxy.field("ops")?)?;
    ended_with_failure(&mut kproxy, fallen)
}

fn unknown_fault() -> Result<()> {
    let kateway: &[&str] = &["quickstart", "--shards", "2"];
    let kproxy: &[&str] = &["serve", "--listen", "127.0.0.1:0", "--bootstrap", "127.0.0.1:1", "--shards-count", "2"];
    for (binary, args) in [("kateway", kateway), ("kproxy", kproxy)] {
        for fault in ["panic-shard:2", "panic"] {
            let mut command = tethered(bin_path(binary)?);
            command.args(args).env("GAFKA_FAULT", fault);
            if binary == "kateway" {
                command.args(["--pub", "127.0.0.1:0", "--sub", "127.0.0.1:0", "--man", "127.0.0.1:0"]);
                command.args(["--kafka", "127.0.0.1:0"]);
            }
            let Err(err) = run(command, Duration::from_secs(20)) else { bail!("{binary} took {fault}") };
            let said = format!("{err:#}");
            ensure!(said.contains("exit status: 1"), "{said}");
            ensure!(said.contains("GAFKA_FAULT is for tests only"), "{said}");
        }
    }
    Ok(())
}
