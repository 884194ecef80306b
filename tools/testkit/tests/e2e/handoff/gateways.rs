//! Gateways that have a backlog die, are stopped, or are asked by way of another one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::gateway::Gateway;
use testkit::http::{Request, call};
use testkit::judgement::Allowed;
use testkit::load::Load;
use testkit::progress::say;
use testkit::wait;

use super::stage::{DELIVERED_WITHIN, Setting, Stage, load, msg_id, strictly, with_brokers};

/// A gateway that starts keeps messages at once.
const KEEPS_WITHIN: Duration = Duration::from_secs(2);

/// Kafka is away when a gateway dies, and when it comes back.
pub fn dies_while_buffering() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        let running = stage.start(&load());
        running.wait_for_more(500, DELIVERED_WITHIN)?;
        stage.kafka_dies()?;
        running.wait_for_more_handed_off(1_000, Duration::from_secs(20))?;
        stage.gateway().kill9();
        stage.restart_gateway(0)?;
        let started = Instant::now();
        msg_id(stage.probe("?timeout=2s&key=early")?).context("the first publish after the start")?;
        ensure!(started.elapsed() < KEEPS_WITHIN, "kept after {:?}", started.elapsed());
        running.wait_for_more_handed_off(1_000, Duration::from_secs(20)).context("after the restart")?;
        stage.kafka_returns()?;
        running.wait_for_more(1_000, DELIVERED_WITHIN).context("after Kafka's return")?;
        let written = running.stop()?;
        let allowed = Allowed { gateway_ended: true, ..strictly() };
        stage.judge("died while buffering", written, allowed).map(drop)
    })
}

/// What was under way is looked for, and not sent again.
pub fn dies_while_draining() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        let load = Load { value_bytes: 3_000, records_per_batch: 20, ..load() };
        let running = stage.start(&load);
        running.wait_for_more(500, DELIVERED_WITHIN)?;
        stage.kafka_dies()?;
        running.wait_for_more_handed_off(5_000, Duration::from_secs(40))?;
        stage.kafka.restart_dead()?;
        let before = counter(stage.gateway(), "gateway_handoff_delivered_total")?;
        wait::until("the first deliveries", DELIVERED_WITHIN, || {
            let delivered = counter(stage.gateway(), "gateway_handoff_delivered_total")?;
            if delivered < before + 300 { bail!("{delivered} delivered, {before} before") } else { Ok(()) }
        })?;
        stage.gateway().kill9();
        stage.kafka_returns()?;
        stage.restart_gateway(0)?;
        let said = stage.gateway().log();
        let waited = said.lines().find(|line| line.contains("messages wait here since before this start"));
        say(&format!("  {}", waited.context("everything had been delivered before the kill, which proves nothing")?));
        running.wait_for_more(1_000, DELIVERED_WITHIN)?;
        let written = running.stop()?;
        let said = stage.gateway().log();
        let found = said.lines().filter(|line| line.contains("messages were under way when the last process ended"));
        let found: Vec<&str> = found.collect();
        ensure!(!found.is_empty(), "nobody looked for what was under way\n{said}");
        found.iter().for_each(|line| say(&format!("  {line}")));
        let allowed = Allowed { gateway_ended: true, ..strictly() };
        stage.judge("died while draining", written, allowed).map(drop)
    })
}

/// A gateway that is told to stop does not wait for Kafka, and says what it leaves.
pub fn is_stopped_with_a_backlog() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting { keys: "drain.limit = '3s'", ..Setting::default() })?;
        let running = stage.start(&load());
        running.wait_for_more(500, DELIVERED_WITHIN)?;
        stage.kafka_dies()?;
        running.wait_for_more_handed_off(1_000, Duration::from_secs(20))?;
        let (status, took) = stage.gateway().sigterm_and_wait(Duration::from_secs(10))?;
        let said = stage.gateway().log();
        ensure!(status.success(), "{status}\n{said}");
        ensure!(took < Duration::from_secs(5), "ended after {took:?}");
        let left = said.lines().find(|line| line.contains("messages wait in the journal"));
        let left = left.with_context(|| format!("does not say what it leaves:\n{said}"))?.to_owned();
        say(&format!("  {left}"));
        stage.kafka_returns()?;
        stage.restart_gateway(0)?;
        running.wait_for_more(1_000, DELIVERED_WITHIN)?;
        let written = running.stop()?;
        let allowed = Allowed { gateway_ended: true, ..strictly() };
        stage.judge("stopped with a backlog", written, allowed).map(drop)
    })
}

/// A receipt may be asked for anywhere; who has the message answers, or nobody does.
pub fn are_asked_for_each_other() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting { gateways: 2, ..Setting::default() })?;
        stage.kafka_dies()?;
        let id = msg_id(stage.probe("?key=k")?)?;
        wait::until("the other gateway to ask the owner", Duration::from_secs(15), || {
            let said = stage.receipt(1, &id)?;
            ensure!(said["state"] == "pending", "{said}");
            Ok(())
        })?;
        stage.gateway().sigterm_and_wait(Duration::from_secs(15))?;
        let away = call(&stage.gateways[1].publish, &stage.receipt_request(&id))?;
        ensure!(away.status == 503 && away.code().as_deref() == Some("owner_away"), "{}: {}", away.status, away.text());
        ensure!(away.header("retry-after").is_some(), "503 without Retry-After");
        stage.restart_gateway(0)?;
        stage.kafka_returns()?;
        let here = stage.fate(&id, DELIVERED_WITHIN)?;
        ensure!(here["state"] == "delivered", "{here}");
        wait::until("the other gateway to find the owner again", Duration::from_secs(15), || {
            let there = stage.receipt(1, &id)?;
            ensure!(there == here, "{there} there, {here} here");
            Ok(())
        })?;
        // Nobody learns of another app's message.
        let stranger = Request::get(&format!("/v1/receipts/{id}")).header("Appid", "nobody").header("Pubkey", "x");
        ensure!(call(&stage.gateways[1].publish, &stranger)?.status == 401, "a stranger was answered");
        Ok(())
    })
}

/// A counter of a gateway, over all its shards.
fn counter(gateway: &Gateway, name: &str) -> Result<u64> {
    let text = call(&gateway.manager, &Request::get("/metrics"))?.expect(200)?.text();
    let mut lines = text.lines().filter(|line| !line.starts_with('#') && line.starts_with(name)).peekable();
    lines.peek().with_context(|| format!("no {name} in {text}"))?;
    lines.map(|line| Ok(line.rsplit(' ').next().context("a value")?.parse::<f64>()? as u64)).sum()
}
