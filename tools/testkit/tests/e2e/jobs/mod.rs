//! Delayed jobs on a real Kafka, while gateways and brokers die: what was answered 201 is in its topic once it was due, never
//! before, in the order of its key; what was deleted is not.
//!
//! [`load`] adds jobs and judges, [`batches`] adds many at a time; the cases are here.

mod batches;
mod load;

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::http::{Connection, Request, call};
use testkit::kafka::{Cluster, KafkaOptions, Version};
use testkit::progress::say;
use testkit::{python, wait};

use self::batches::{FORMS, add_batches, add_until_killed};
use self::load::{Added, Fate, Plan, add_all, judge};
use crate::faults::TURN;
use crate::handoff::stage::{DELIVERED_WITHIN, Setting, Stage, new_topic, with_brokers};
use crate::harness::{Case, Run};

const NEEDS: &[&str] = &["bin:kateway", "kafka", "python-clients"];
const NEEDS_3_9: &[&str] = &["bin:kateway", "kafka-zk", "python-clients"];

const fn alone(name: &'static str, run: fn() -> Result<()>) -> Case {
    Case { name, needs: NEEDS, nightly: false, run: Run::Function(run), turn: Some(&TURN) }
}

pub const CASES: &[Case] = &[
    alone("come_when_they_are_due_in_the_order_of_their_key_and_never_before", come_when_they_are_due),
    alone("of_batches_in_every_form_come_when_they_are_due_in_the_order_of_their_key", batches_come_when_they_are_due),
    alone("of_batches_all_fire_once_when_the_gateway_is_killed_right_after_their_receipts", killed_after_receipts),
    alone("of_a_stream_that_have_receipts_fire_when_the_gateway_is_killed_in_the_middle_of_it", killed_in_a_stream),
    alone("of_a_gateway_that_is_killed_while_they_fire_are_fired_once_and_none_that_was_deleted", || {
        with_brokers(1, gateway_is_killed)
    }),
    alone("of_a_gateway_that_is_stopped_while_they_fire_fire_once", gateway_is_stopped),
    alone("that_fall_due_while_kafka_is_away_fire_once_when_it_is_back", || {
        with_brokers(1, |kafka| kafka_is_away(kafka, 20_000, Duration::from_secs(8)))
    }),
    Case {
        nightly: true,
        ..alone("a_hundred_thousand_that_fall_due_while_kafka_is_away_fire_once", || {
            with_brokers(1, |kafka| kafka_is_away(kafka, 100_000, Duration::from_secs(60)))
        })
    },
    Case {
        nightly: true,
        needs: NEEDS_3_9,
        ..alone("on_kafka_3_9_fire_once_though_it_was_away_and_the_gateway_was_killed", || {
            let version = Version::WithZookeeper;
            let mut kafka = Cluster::start(KafkaOptions { version, ..KafkaOptions::default() })?;
            kafka_is_away(&mut kafka, 20_000, Duration::from_secs(8))?;
            gateway_is_killed(&mut kafka)
        })
    },
    alone("of_a_topic_that_is_gone_are_parked_and_fire_when_they_are_replayed", topic_goes),
    alone("are_reached_through_any_gateway_or_their_owner_is_away", are_reached_through_any_gateway),
];

fn come_when_they_are_due() -> Result<()> {
    with_brokers(1, |kafka| {
        let stage = Stage::set(kafka, Setting::default())?;
        let plan =
            Plan { jobs: 4_000, first: Duration::from_secs(1), spread: Duration::from_secs(3), ..Plan::default() };
        let added = add_all(&stage, 0, &plan)?;
        judge("jobs that come due", &stage, &added)
    })
}

fn batches_come_when_they_are_due() -> Result<()> {
    with_brokers(1, |kafka| {
        let stage = Stage::set(kafka, Setting::default())?;
        let plan =
            Plan { jobs: 4_000, first: Duration::from_secs(2), spread: Duration::from_secs(3), ..Plan::default() };
        let mut added = Vec::new();
        for (round, form) in FORMS.into_iter().enumerate() {
            added.extend(add_batches(&stage, round, &plan, 1_500, form)?);
        }
        judge("batches of jobs that come due", &stage, &added)
    })
}

fn killed_after_receipts() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        let plan =
            Plan { jobs: 3_000, first: Duration::from_secs(20), spread: Duration::from_secs(4), ..Plan::default() };
        let mut added = Vec::new();
        for (round, form) in FORMS.into_iter().enumerate() {
            added.extend(add_batches(&stage, round, &plan, 3_000, form)?);
            stage.gateway().kill9();
            stage.restart_gateway(0)?;
        }
        // Nothing was under way at a kill.
        judge("gateway killed after receipts of batches", &stage, &added)
    })
}

fn killed_in_a_stream() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        let plan =
            Plan { jobs: 60_000, first: Duration::from_secs(15), spread: Duration::from_secs(5), ..Plan::default() };
        let added = add_until_killed(&mut stage, 0, &plan, 5_000)?;
        let known = added.iter().filter(|job| job.fate == Fate::Fires).count();
        say(&format!("  {known} of {} had receipts at the kill", added.len()));
        stage.restart_gateway(0)?;
        judge("gateway killed in a stream of jobs", &stage, &added)
    })
}

/// Three times, while jobs fire and are deleted.
fn gateway_is_killed(kafka: &mut Cluster) -> Result<()> {
    let mut stage = Stage::set(kafka, Setting::default())?;
    let plan = Plan { jobs: 12_000, first: Duration::from_secs(5), spread: Duration::from_secs(16), ..Plan::default() };
    let mut added = add_all(&stage, 0, &plan)?;
    let deleted = delete_some(&stage, &mut added)?;
    say(&format!("  {} added, {deleted} of them deleted", added.len()));
    let mut looked = 0;
    for kill in 0..4 {
        sleep(Duration::from_secs(2));
        // A broker that is silent for a moment has jobs under way; it works on what it had before the gateway is back.
        if kill > 1 {
            stage.kafka.pause(1)?;
            sleep(Duration::from_millis(100));
        }
        stage.gateway().kill9();
        stage.kafka.resume(1)?;
        stage.restart_gateway(0)?;
        sleep(Duration::from_millis(2_500));
        let said = stage.gateway().log();
        looked +=
            said.lines().filter(|line| line.contains("delayed jobs were at Kafka when this gateway ended")).count();
    }
    ensure!(looked > 0, "nothing was under way at any kill, which proves nothing\n{}", stage.logs());
    // What was under way at a kill is looked for.
    judge("gateway killed while jobs fire", &stage, &added)
}

/// As in a rolling upgrade: SIGTERM, and a new process on the same directory.
fn gateway_is_stopped() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        let plan =
            Plan { jobs: 8_000, first: Duration::from_secs(3), spread: Duration::from_secs(6), ..Plan::default() };
        let added = add_all(&stage, 0, &plan)?;
        for _ in 0..2 {
            sleep(Duration::from_secs(2));
            let (status, took) = stage.gateway().sigterm_and_wait(Duration::from_secs(10))?;
            ensure!(status.success(), "it ended with {status} after {took:?}");
            stage.restart_gateway(0)?;
        }
        judge("gateway stopped while jobs fire", &stage, &added)
    })
}

/// Every tenth, in pairs with what may be firing already: 200 means never, 409 that it fires.
fn delete_some(stage: &Stage<'_>, added: &mut [Added]) -> Result<usize> {
    let mut wire = Connection::open(&stage.gateways[0].publish)?;
    let mut deleted = 0;
    for job in added.iter_mut().step_by(10) {
        let answer = wire.call(&request(stage, "DELETE", &format!("?id={}", job.id)))?;
        ensure!(matches!(answer.status, 200 | 409), "{}: {} {}", job.id, answer.status, answer.text());
        if answer.status == 200 {
            job.fate = Fate::Deleted;
            deleted += 1;
        }
    }
    Ok(deleted)
}

fn kafka_is_away(kafka: &mut Cluster, jobs: usize, away: Duration) -> Result<()> {
    let mut stage = Stage::set(kafka, Setting::default())?;
    stage.kafka_dies()?;
    let begun = Instant::now();
    let plan = Plan { jobs, first: Duration::from_secs(1), spread: away, ..Plan::default() };
    let added = add_all(&stage, 0, &plan)?;
    sleep((away + Duration::from_secs(1)).saturating_sub(begun.elapsed()));
    stage.kafka_returns()?;
    // Those that are due from now on do not wait for the backlog.
    let late = Plan { jobs: 200, first: Duration::from_millis(500), spread: Duration::from_secs(2), ..Plan::default() };
    let late = add_all(&stage, 1, &late)?;
    judge("Kafka away while jobs fall due", &stage, &[added, late].concat())
}

fn topic_goes() -> Result<()> {
    with_brokers(1, |kafka| {
        let stage = Stage::set(kafka, Setting::default())?;
        let plan =
            Plan { jobs: 3, first: Duration::from_secs(2), spread: Duration::from_millis(100), ..Plan::default() };
        let added = add_all(&stage, 0, &plan)?;
        let tenant = stage.tenant.clone();
        stage.gateways[0].admin(&["topic", "delete", &tenant.appid, &tenant.topic, &tenant.ver])?;
        let id = &added[0].id;
        sleep(Duration::from_secs(3));
        // While it is gone nobody may ask; made again, its jobs are there.
        python::delete_topic(&stage.kafka.internal(), &tenant.physical_topic())?;
        new_topic(&stage.gateways[0], &tenant, None)?;
        let shown = wait::until("the job to be parked", DELIVERED_WITHIN, || {
            let shown =
                call(&stage.gateways[0].publish, &request(&stage, "GET", &format!("?id={id}")))?.expect(200)?.json()?;
            ensure!(shown["state"] == "parked", "{shown}");
            Ok(shown)
        })?;
        ensure!(shown["code"].is_string() && shown["reason"].is_string(), "{shown}");
        for job in &added {
            let replay = request(&stage, "POST", &format!("/replay?id={}", job.id));
            call(&stage.gateways[0].publish, &replay)?.expect(200)?;
        }
        judge("parked jobs replayed", &stage, &added)
    })
}

fn are_reached_through_any_gateway() -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting { gateways: 2, ..Setting::default() })?;
        let plan = Plan { jobs: 4, first: Duration::from_secs(600), spread: Duration::from_secs(1), ..Plan::default() };
        let added = add_all(&stage, 0, &plan)?;
        let ask = |stage: &Stage<'_>, method: &str, job: &Added| {
            call(&stage.gateways[1].publish, &request(stage, method, &format!("?id={}", job.id)))
        };
        let shown = wait::until("the other gateway to know the first", DELIVERED_WITHIN, || {
            ask(&stage, "GET", &added[0])?.expect(200)?.json()
        })?;
        ensure!(shown["state"] == "pending" && shown["id"] == added[0].id, "{shown}");
        ask(&stage, "DELETE", &added[1])?.expect(200)?;
        ask(&stage, "DELETE", &added[1])?.expect(409)?;
        let moved = request(&stage, "PUT", &format!("?id={}&delay=1s", added[2].id));
        call(&stage.gateways[1].publish, &moved)?.expect(200)?;
        wait::until("the job to fire", DELIVERED_WITHIN, || {
            let shown = ask(&stage, "GET", &added[2])?.expect(200)?.json()?;
            ensure!(shown["state"] == "fired", "{shown}");
            Ok(())
        })?;
        stage.gateway().kill9();
        let answer = ask(&stage, "GET", &added[0])?.expect(503)?;
        ensure!(answer.code().as_deref() == Some("owner_away"), "{}", answer.text());
        stage.restart_gateway(0)?;
        wait::until("the owner to be there again", DELIVERED_WITHIN, || {
            ask(&stage, "GET", &added[0])?.expect(200).map(drop)
        })
        .context("after the owner's restart")
    })
}

/// About the jobs of the stage's topic.
pub fn request(stage: &Stage<'_>, method: &str, rest: &str) -> Request {
    let tenant = &stage.tenant;
    Request::new(method, &format!("/v1/jobs/{}/{}{rest}", tenant.topic, tenant.ver))
        .header("Appid", &tenant.appid)
        .header("Pubkey", &tenant.pubkey)
}
