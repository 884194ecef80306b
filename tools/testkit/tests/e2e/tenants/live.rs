//! What is changed at the manager holds at kproxy at once, for those who are logged in too.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, MetadataRequest, TopicName};
use rustix::process::Signal;
use serde_json::Value;
use testkit::gateway::Tenant;
use testkit::http::Request;
use testkit::login::SCRAM_256;
use testkit::python::{self, Client};
use testkit::record::Record;
use testkit::steady::Steady;
use testkit::wait;

use super::stage::{Side, Stage, logged_in, stage};
use crate::harness::same;
use crate::kproxy::wire::{Wire, text};
use crate::shared::three_nodes;

/// As the operators' page promises.
const CUT_WITHIN: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(20);
const TOPIC_AUTHORIZATION_FAILED: i16 = 29;

/// A consumer that waits for the next record in a fetch session, at each broker.
fn waiting(stage: &Stage, tenant: &Tenant, topic: &str) -> Result<Vec<Wire>> {
    (1..=3)
        .map(|node| {
            let mut wire = stage.wire_to(node, tenant, Side::Subscribe)?;
            let first = wire.ask(12, &fetch(topic, 0, 0).with_max_wait_ms(1))?;
            same("error", &first.error_code, &0)?;
            // Without a topic: what the session has.
            let next = fetch(topic, first.session_id, 1).with_topics(Vec::new());
            wire.send(12, &next.with_max_wait_ms(60_000))?;
            Ok(wire)
        })
        .collect()
}

fn fetch(topic: &str, session: i32, epoch: i32) -> FetchRequest {
    let partition = |index: i32| {
        let at = FetchPartition::default().with_partition(index).with_fetch_offset(0);
        at.with_partition_max_bytes(1 << 20)
    };
    let topic = FetchTopic::default().with_topic(TopicName(text(topic)));
    FetchRequest::default()
        .with_min_bytes(1 << 20)
        .with_max_bytes(1 << 20)
        .with_session_id(session)
        .with_session_epoch(epoch)
        .with_topics(vec![topic.with_partitions((0..3).map(partition).collect())])
}

/// That these end, so long after `since` at most.
fn cut(all: Vec<Wire>, since: Instant, what: &str) -> Result<()> {
    for mut wire in all {
        ensure!(wire.is_closed_within(CUT_WITHIN)?, "{what}: a session lives on");
        let after = since.elapsed();
        ensure!(after < CUT_WITHIN, "{what}: cut after {after:?}");
    }
    Ok(())
}

fn is_served(wire: &mut Wire) -> Result<()> {
    let found = wire.ask(4, &MetadataRequest::default().with_topics(None))?;
    ensure!(!found.topics.is_empty(), "nothing is there");
    Ok(())
}

pub fn both_secrets_live_until_the_old_one_is_revoked() -> Result<()> {
    let stage = stage()?;
    let tenant = stage.tenant("rotates")?;
    // Real clients beside the sockets, with the secret that will die.
    let login = tenant.login(SCRAM_256);
    let mut producer = Steady::produce(login.at(&stage.kproxy.bootstrap), &tenant.own_topic(), "p")?;
    producer.wait_for_more(50, SOON)?;
    for side in Side::BOTH {
        let mut before = stage.wire(&tenant, side)?;
        let new = stage.new_secret(&tenant, side)?;
        let mut after =
            wait::until("the new secret", SOON, || logged_in(&stage.kproxy.bootstrap, &tenant.appid, &new))?;
        stage.wire(&tenant, side).context("the old secret after the rotation")?;
        is_served(&mut before)?;
        let mut old = vec![before];
        if side == Side::Subscribe {
            old.extend(waiting(&stage, &tenant, &tenant.own_topic())?);
        }
        let since = Instant::now();
        stage.gateway.admin(&["secret", "revoke-previous", &tenant.appid, side.name()])?;
        cut(old, since, "a revoked secret")?;
        let Err(refused) = stage.wire(&tenant, side) else { anyhow::bail!("the old secret is let in") };
        ensure!(format!("{refused:#}").contains("58: the app id or its secret is missing or wrong"), "{refused:#}");
        is_served(&mut after).context("the session with the new secret")?;
        if side == Side::Publish {
            producer.wait_for_error("AUTHENTICATION", SOON)?;
        }
    }
    Ok(())
}

pub fn a_revoked_grant_ends_who_waits_for_records() -> Result<()> {
    let stage = stage()?;
    let (owner, reader) = (stage.tenant("gives")?, stage.tenant("takes")?);
    let topic = stage.topic(&owner, "given", "v10", 3)?;
    stage.grant(&reader, &topic)?;
    stage.in_force(&reader, 2)?;
    // Who reads its own topic only is not disturbed.
    let mut own = waiting(&stage, &reader, &reader.own_topic())?;
    let granted = waiting(&stage, &reader, &topic.others)?;
    let of = &topic.tenant;
    let since = Instant::now();
    stage.gateway.admin(&["grant", "revoke-subscribe", &reader.appid, &owner.appid, &of.topic, &of.ver])?;
    cut(granted, since, "a revoked grant")?;
    for node in 1..=3 {
        let answer = stage.wire_to(node, &reader, Side::Subscribe)?.ask(12, &fetch(&topic.others, 0, 0))?;
        let codes: Vec<i16> =
            answer.responses.iter().flat_map(|topic| &topic.partitions).map(|found| found.error_code).collect();
        same("codes", &codes, &vec![TOPIC_AUTHORIZATION_FAILED; 3])?;
    }
    ensure!(!own[0].is_closed_within(Duration::from_millis(100))?, "a session that did not read it was cut");
    stage.grant(&reader, &topic)?;
    stage.in_force(&reader, 2)?;
    waiting(&stage, &reader, &topic.others).context("after a new grant").map(drop)
}

pub fn a_disabled_app_and_a_wrong_address_are_shown_out() -> Result<()> {
    let stage = stage()?;
    let tenant = stage.tenant("comes-and-goes")?;
    let appid = tenant.appid.clone();
    let enabled = |enabled: bool| {
        let body = serde_json::json!({"enabled": enabled});
        stage.manage(Request::new("PUT", &format!("/v1/apps/{appid}")).json(&body))?.expect(200).map(drop)
    };
    let addresses = |range: &[&str]| stage.gateway.admin(&[&["app", "addresses", &appid], range].concat()).map(drop);
    type Change<'a> = &'a dyn Fn() -> Result<()>;
    let rows: [(&str, Change<'_>, Change<'_>); 2] = [
        ("is disabled", &|| enabled(false), &|| enabled(true)),
        ("may not be used from 127.0.0.1", &|| addresses(&["192.0.2.0/24"]), &|| addresses(&["127.0.0.0/8"])),
    ];
    for (sentence, away, back) in rows {
        let mut inside = vec![stage.wire(&tenant, Side::Publish)?];
        inside.extend(waiting(&stage, &tenant, &tenant.own_topic())?);
        let since = Instant::now();
        away()?;
        cut(inside, since, sentence)?;
        for side in Side::BOTH {
            let Err(refused) = stage.wire(&tenant, side) else { anyhow::bail!("let in although it {sentence}") };
            ensure!(format!("{refused:#}").contains(sentence), "{refused:#}");
        }
        back()?;
        wait::until("it to be welcome again", SOON, || is_served(&mut stage.wire(&tenant, Side::Publish)?))?;
    }
    Ok(())
}

/// 200 says that it is in force everywhere, a frozen proxy makes it 202.
pub fn the_manager_waits_for_kproxy_and_names_one_that_is_frozen() -> Result<()> {
    let mut stage = Stage::start(&*three_nodes()?, "")?;
    let tenant = stage.tenant("frozen")?;
    let revoke = |stage: &Stage| {
        stage.new_secret(&tenant, Side::Publish)?;
        stage.manage(Request::new("DELETE", &format!("/v1/apps/{}/secrets/publish", tenant.appid)))
    };
    let mut before = stage.wire(&tenant, Side::Publish)?;
    revoke(&stage)?.expect(200)?;
    // At once: what was told to be in force is.
    ensure!(stage.wire(&tenant, Side::Publish).is_err(), "a revoked secret is let in after 200");
    ensure!(before.is_closed_within(Duration::from_millis(200))?, "its session lives on after 200");

    let instances = stage.gateway.admin(&["instances"])?;
    let mut kproxies = instances.as_array().context("nodes")?.iter().filter(|node| node["kind"] == "kproxy");
    let kproxy = kproxies.next().with_context(|| format!("no kproxy in {instances}"))?;
    same("where it listens", &kproxy["addresses"]["kafka.main"], &Value::from(stage.kproxy.bootstrap.clone()))?;
    let name = format!("kproxy {}", kproxy["id"].as_str().context("an id")?);
    stage.kproxy.signal(Signal::STOP)?;
    let answer = revoke(&stage)?.expect(202)?.json()?;
    same("lacking", &answer["lacking"], &serde_json::json!([name]))?;
    stage.kproxy.signal(Signal::CONT)?;
    wait::until("it to have it", SOON, || {
        let refused = stage.wire(&tenant, Side::Publish);
        ensure!(refused.is_err(), "let in");
        Ok(())
    })
}

/// The last good snapshot serves while there is no kateway, over a restart too.
pub fn kproxy_serves_without_its_kateway() -> Result<()> {
    let mut stage = Stage::start(&*three_nodes()?, "")?;
    let tenant = stage.tenant("orphan")?;
    let mut inside = stage.wire(&tenant, Side::Subscribe)?;
    stage.gateway.kill9();
    is_served(&mut inside)?;
    let login = tenant.login(SCRAM_256);
    let record = [Record::with_value("without a kateway")];
    python::produce(Client::Confluent, login.at(&stage.kproxy.bootstrap), &tenant.own_topic(), &record)?;
    stage.kproxy.kill9();
    stage.kproxy = stage.another(&[])?;
    same("readiness", &stage.kproxy.readiness()?.0, &200)?;
    let read = python::read(Client::Confluent, login.at(&stage.kproxy.bootstrap), &tenant.own_topic())?;
    same("records", &read.iter().map(Record::text).collect(), &vec!["without a kateway".to_owned()])?;
    ensure!(stage.kproxy.log().contains("snapshot.json"), "{}", stage.kproxy.log());
    Ok(())
}
