//! Kafka goes away and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::wait;

use super::stage::{DELIVERED_WITHIN, Setting, Stage, load, strictly, with_brokers};

/// From a broker's death to the first message that is kept instead.
const FIRST_KEPT_WITHIN: Duration = Duration::from_secs(1);

/// The longest pause before a broker that was away is tried again, and a little.
const DIRECT_WITHIN: Duration = Duration::from_secs(3);

/// Everybody is served all the while, and everything is delivered.
pub fn kafka_dies(nodes: usize, away: Duration) -> Result<()> {
    with_brokers(nodes, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        let running = stage.start(&load());
        running.wait_for_more(1_000, DELIVERED_WITHIN)?;
        let since = stage.kafka_dies()?;
        running.wait_for_more_handed_off(500, Duration::from_secs(10))?;
        std::thread::sleep(away.saturating_sub(since.elapsed()));
        stage.kafka_returns()?;
        // The backlog of a longer outage takes longer, and publishes go behind it.
        running.wait_for_more(1_000, DELIVERED_WITHIN + away).with_context(|| stage.logs())?;
        let written = running.stop()?;
        let first = written.answers.first_handed_off.map(|at| at.saturating_duration_since(since));
        stage.judge("Kafka died", written, strictly())?;
        ensure!(first.is_some_and(|after| after <= FIRST_KEPT_WITHIN), "the first 202 came after {first:?}");
        let answer = stage.probe("?timeout=3s")?;
        ensure!(answer.status == 201, "after the backlog: {} {}", answer.status, answer.text());
        Ok(())
    })
}

/// Nobody published meanwhile: once the pause after the last failed attempt is over, publishes go to Kafka.
pub fn nobody_published() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        stage.probe("")?.expect(201)?;
        stage.kafka_dies()?;
        std::thread::sleep(Duration::from_secs(3));
        stage.kafka_returns()?;
        let started = Instant::now();
        wait::until("a publish that goes to Kafka", DIRECT_WITHIN, || {
            stage.probe("?timeout=3s")?.expect(201).map(drop)
        })?;
        ensure!(started.elapsed() < DIRECT_WITHIN, "after {:?}", started.elapsed());
        Ok(())
    })
}
