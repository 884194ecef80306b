//! Limits are one account, whichever way an app comes, and are told in Kafka's words.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, MetadataRequest, ProduceRequest, TopicName};
use testkit::gateway::Tenant;
use testkit::http::Connection;
use testkit::wait;

use super::stage::{Side, Stage, logged_in, stage};
use crate::harness::same;
use crate::kproxy::wire::{NOBODY, Wire, batch, text};

const SOON: Duration = Duration::from_secs(10);
/// Messages a second.
const LIMIT: f64 = 200.0;
const BATCH: [&str; 5] = ["1", "2", "3", "4", "5"];
/// Nodes agree on their shares.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
const MEASURED_FOR: Duration = Duration::from_secs(8);
/// Bytes a second; an answer has 100,000.
const READ_BYTES_LIMIT: usize = 50_000;
const FAILED_LOGINS_MAX: usize = 30;

/// The port of a partition's leader.
fn leader(stage: &Stage, tenant: &Tenant, side: Side) -> Result<Wire> {
    let answer = stage.wire(tenant, side)?.ask(4, &MetadataRequest::default().with_topics(None))?;
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let first = partitions.into_iter().find(|found| found.partition_index == 0);
    let node = first.ok_or_else(|| anyhow!("no partition in {answer:?}"))?.leader_id.0;
    stage.wire_to(node, tenant, side)
}

/// Writes one batch; how long the client is to wait.
fn write(wire: &mut Wire, tenant: &Tenant, records: &Bytes) -> Result<i32> {
    let partition = PartitionProduceData::default().with_records(Some(records.clone()));
    let topic = TopicProduceData::default().with_name(TopicName(text(&tenant.own_topic())));
    let topic = topic.with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(5_000).with_topic_data(vec![topic]);
    let answer = wire.ask(9, &request)?;
    let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    ensure!(partitions.all(|found| found.error_code == 0), "{answer:?}");
    Ok(answer.throttle_time_ms)
}

/// Writes as fast as it is let, without ever waiting by itself: the longest that it was told to.
fn flood(stage: &Stage, tenant: &Tenant, stored: &AtomicU64, stop: &AtomicBool) -> Result<i32> {
    let mut wire = leader(stage, tenant, Side::Publish)?;
    let (records, mut told_ms) = (batch(&BATCH, NOBODY)?, 0);
    while !stop.load(Ordering::Relaxed) {
        let told = write(&mut wire, tenant, &records)?;
        stored.fetch_add(BATCH.len() as u64, Ordering::Relaxed);
        told_ms = told_ms.max(told);
    }
    Ok(told_ms)
}

/// The same by REST, which refuses instead.
fn flood_by_rest(stage: &Stage, tenant: &Tenant, stored: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let mut connection = Connection::open(&stage.gateway.publish)?;
    let request = tenant.publish("").body("x");
    while !stop.load(Ordering::Relaxed) {
        match connection.call(&request)?.status {
            201 => drop(stored.fetch_add(1, Ordering::Relaxed)),
            // On a busy machine it may be too slow for that, and the rates tell all the same.
            429 => std::thread::sleep(Duration::from_millis(2)),
            other => bail!("{other}"),
        }
    }
    Ok(())
}

pub fn an_app_has_one_number_for_rest_and_kafka() -> Result<()> {
    let stage = stage()?;
    let tenant = stage.tenant("floods")?;
    stage.gateway.admin(&["app", "limit", &tenant.appid, "--publish-messages", &LIMIT.to_string()])?;
    let (by_kafka, by_rest, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let kafka = scope.spawn(|| flood(&stage, &tenant, &by_kafka, &stop));
        let rest = scope.spawn(|| flood_by_rest(&stage, &tenant, &by_rest, &stop));
        std::thread::sleep(SETTLES_WITHIN);
        let now = || [&by_kafka, &by_rest].map(|count| count.load(Ordering::Relaxed) as f64);
        let (before, since) = (now(), Instant::now());
        std::thread::sleep(MEASURED_FOR);
        let (after, seconds) = (now(), since.elapsed().as_secs_f64());
        stop.store(true, Ordering::Relaxed);
        let told_ms = kafka.join().map_err(|_| anyhow!("panicked"))??;
        rest.join().map_err(|_| anyhow!("panicked"))??;
        let rates = [(after[0] - before[0]) / seconds, (after[1] - before[1]) / seconds];
        let together = rates[0] + rates[1];
        ensure!((0.8 * LIMIT..=1.3 * LIMIT).contains(&together), "{rates:?} a second, the limit is {LIMIT}");
        ensure!(rates.iter().all(|rate| *rate > 0.1 * LIMIT), "one got nothing: {rates:?} a second");
        ensure!(told_ms > 0, "the client was never told to wait");
        Ok(())
    })?;
    let throttled = stage.kproxy.metric(&format!("kproxy_app_throttled_total{{app=\"{}\"}}", tenant.appid))?;
    ensure!(throttled > 0, "nothing is counted");
    stage.gateway.admin(&["app", "limit", &tenant.appid, "--publish-messages", "0"])?;
    wait::until("no limit any more", SOON, || {
        let (stored, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let kafka = scope.spawn(|| flood(&stage, &tenant, &stored, &stop));
            std::thread::sleep(Duration::from_secs(1));
            stop.store(true, Ordering::Relaxed);
            kafka.join().map_err(|_| anyhow!("panicked"))?
        })?;
        let stored = stored.load(Ordering::Relaxed);
        ensure!(stored as f64 > 1.5 * LIMIT, "{stored} in a second");
        Ok(())
    })
}

/// Bytes that go out are drawn from the same account, and told and held back like those that come in.
pub fn a_reader_beyond_its_bytes_is_told_to_wait() -> Result<()> {
    let stage = stage()?;
    let tenant = stage.tenant("drinks")?;
    let mut writer = leader(&stage, &tenant, Side::Publish)?;
    let value = "x".repeat(10_000);
    write(&mut writer, &tenant, &batch(&[value.as_str(); 10], NOBODY)?)?;
    stage.gateway.admin(&["app", "limit", &tenant.appid, "--subscribe-bytes", &READ_BYTES_LIMIT.to_string()])?;
    let mut reader = leader(&stage, &tenant, Side::Subscribe)?;
    let (mut bytes, mut told_ms, since) = (0, 0, Instant::now());
    while since.elapsed() < MEASURED_FOR {
        let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(TopicName(text(&tenant.own_topic())));
        let request = FetchRequest::default().with_max_wait_ms(100).with_max_bytes(1 << 20).with_session_epoch(-1);
        let answer = reader.ask(12, &request.with_topics(vec![topic.with_partitions(vec![partition])]))?;
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
        bytes += partitions.filter_map(|found| found.records.as_ref()).map(|records| records.len()).sum::<usize>();
        told_ms = told_ms.max(answer.throttle_time_ms);
    }
    let rate = bytes as f64 / since.elapsed().as_secs_f64();
    // An answer is not cut: what is overdrawn, the next one waits for.
    ensure!((0.3..=1.8).contains(&(rate / READ_BYTES_LIMIT as f64)), "{rate} bytes a second");
    ensure!(told_ms > 0, "the client was never told to wait");
    let throttled = stage.kproxy.metric(&format!("kproxy_app_throttled_total{{app=\"{}\"}}", tenant.appid))?;
    ensure!(throttled > 0, "nothing is counted");
    Ok(())
}

pub fn connections_beyond_the_limit_are_told_why() -> Result<()> {
    let stage = stage()?;
    let tenant = stage.tenant("crowd")?;
    stage.gateway.admin(&["app", "limit", &tenant.appid, "--connections", "2"])?;
    let first = wait::until("two connections", SOON, || {
        // Those that looked for the app before end in their own time.
        Ok([stage.wire(&tenant, Side::Publish)?, stage.wire(&tenant, Side::Subscribe)?])
    })?;
    let Err(refused) = stage.wire(&tenant, Side::Publish) else { bail!("a third one is let in") };
    let said = format!("{refused:#}");
    ensure!(said.contains(&tenant.appid) && said.contains("connections"), "{said}");
    drop(first);
    wait::until("room for one more", SOON, || stage.wire(&tenant, Side::Publish).map(drop))
}

/// As on REST: thirty a minute from one address for one app, and whoever has the right secret never notices.
pub fn failed_logins_are_limited_and_the_right_secret_is_not() -> Result<()> {
    let stage = stage()?;
    let (tenant, other) = (stage.tenant("guessed")?, stage.tenant("beside")?);
    let guess = |app: &str| match logged_in(&stage.kproxy.bootstrap, app, "a-guess") {
        Ok(_) => bail!("a guess is let in"),
        Err(err) => Ok(format!("{err:#}")),
    };
    let said: Vec<String> = (0..FAILED_LOGINS_MAX + 5).map(|_| guess(&tenant.appid)).collect::<Result<_>>()?;
    // The first ones may have been used up while the app was not known yet.
    let (wrong, limited) = ("is missing or wrong", "too many failed logins");
    ensure!(said[0].contains(wrong), "{}", said[0]);
    let from = said.iter().position(|said| said.contains(limited)).ok_or_else(|| anyhow!("never limited: {said:?}"))?;
    ensure!((FAILED_LOGINS_MAX - 12..=FAILED_LOGINS_MAX).contains(&from), "limited from the {from}th on");
    ensure!(said[from..].iter().all(|said| said.contains(limited)), "{said:?}");
    for side in Side::BOTH {
        stage.wire(&tenant, side).context("the right secret")?;
    }
    same("another app", &guess(&other.appid)?.contains(wrong), &true)?;
    let failed = stage.kproxy.metric("kproxy_logins_total{outcome=\"too_many_failed_logins\"}")?;
    ensure!(failed >= 5, "{failed} are counted");
    Ok(())
}
