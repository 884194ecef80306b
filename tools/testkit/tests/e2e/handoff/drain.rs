//! A gateway is gone for good and leaves a backlog, which somebody delivers by hand.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use testkit::daemon::bin_path;
use testkit::judgement::Allowed;
use testkit::ledger;
use testkit::process::{run, tethered};
use testkit::progress::say;

use super::stage::{DELIVERED_WITHIN, Setting, Stage, load, strictly, with_brokers};

/// Everything is in Kafka before any gateway starts, and the one that does knows where.
pub fn by_hand() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        let running = stage.start(&load());
        running.wait_for_more(500, DELIVERED_WITHIN)?;
        stage.kafka_dies()?;
        running.wait_for_more_handed_off(2_000, Duration::from_secs(40))?;
        let bootstrap = stage.kafka.bootstrap();
        let busy = drain(&stage.data_dir(), &bootstrap).err().context("a journal was drained that a gateway has")?;
        ensure!(format!("{busy:#}").contains("kateway admin handoff"), "{busy:#}");
        stage.gateway().kill9();
        let written = running.stop()?;
        stage.kafka_returns()?;

        let rows = drain(&stage.data_dir(), &bootstrap)?;
        let sum = |field: &str| -> u64 { rows.iter().filter_map(|row| row[field].as_u64()).sum() };
        say(&format!("  {} delivered in {} streams", sum("delivered"), rows.len()));
        ensure!(sum("delivered") >= 2_000 && sum("left") + sum("parked") == 0, "{rows:?}");
        let report = ledger::check(&written.ledger, &stage.records()?);
        report.into_result().context("before a gateway started")?;
        let again = drain(&stage.data_dir(), &bootstrap)?;
        ensure!(again.is_empty(), "a second time {again:?}");

        stage.restart_gateway(0)?;
        let said = stage.gateway().log();
        ensure!(!said.contains("messages wait here since before this start"), "{said}");
        let allowed = Allowed { gateway_ended: true, ..strictly() };
        stage.judge("drained by hand", written, allowed).map(drop)
    })
}

/// `walctl drain`: its rows, which are none when nothing waits.
fn drain(data_dir: &Path, bootstrap: &str) -> Result<Vec<Value>> {
    let mut command = tethered(bin_path("walctl")?);
    command.arg("drain").arg(data_dir).args(["--bootstrap", bootstrap, "--cluster", "main", "--yes", "-o", "jsonl"]);
    let rows = String::from_utf8(run(command, DELIVERED_WITHIN)?)?;
    rows.lines().map(|row| serde_json::from_str(row).with_context(|| row.to_owned())).collect()
}
