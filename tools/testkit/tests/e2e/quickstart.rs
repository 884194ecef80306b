//! `kateway quickstart`: one command, nothing else needed, nothing acknowledged lost.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::daemon::bin_path;
use testkit::gateway::Quickstart;
use testkit::http::{self, Connection, Request, address_of};
use testkit::load::Load;
use testkit::process::{run, scratch_dir, tethered};
use testkit::python::Client;
use testkit::record::Record;
use testkit::{java, kcat, ledger, python, wait};

use crate::harness::{Case, case, same};

pub const CASES: &[Case] = &[
    case("the_ready_line_says_all_and_the_credentials_are_private", &["bin:kateway"], ready_line),
    case("a_message_goes_in_and_comes_out", &["bin:kateway"], round_trip),
    case("kill_9_under_load_loses_nothing_acknowledged", &["bin:kateway", "python-clients"], kill_9),
    case("sigterm_drains_and_exits_0_within_10_s", &["bin:kateway"], sigterm),
    case("a_port_in_use_is_an_error_though_shards_share_it", &["bin:kateway"], port_in_use),
    case(
        "the_embedded_broker_serves_clients_of_four_makes",
        &["bin:kateway", "kafka", "kcat", "python-clients"],
        embedded_broker,
    ),
];

fn ready_line() -> Result<()> {
    let dir = scratch_dir("quickstart")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let credentials = quickstart.credentials()?;
    for name in ["appid", "pubkey", "subkey", "topic", "ver"] {
        same(name, &credentials[name].as_str().map(str::to_owned), &Some(quickstart.field(name)?))?;
    }
    for name in ["admin_appid", "admin_key"] {
        ensure!(credentials[name].as_str().is_some_and(|text| !text.is_empty()), "no {name} in credentials.json");
    }
    let mode = std::fs::metadata(quickstart.credentials_path())?.permissions().mode() & 0o777;
    same("mode of credentials.json", &mode, &0o600)?;
    same("version", &quickstart.demo.ver.as_str(), &"v1")?;
    for listener in [&quickstart.publish, &quickstart.subscribe, &quickstart.manager] {
        for path in ["/alive", "/healthz", "/readyz"] {
            http::call(listener, &Request::get(path))?.expect(200).context(format!("{listener}{path}"))?;
        }
    }
    let metrics = http::call(&quickstart.manager, &Request::get("/metrics"))?.expect(200)?.text();
    ensure!(metrics.contains("# TYPE "), "not Prometheus text: {metrics}");
    let openapi = http::call(&quickstart.manager, &Request::get("/openapi.json"))?.expect(200)?.json()?;
    ensure!(openapi["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", openapi["openapi"]);
    ensure!(!openapi["paths"]["/v1/msgs/{topic}/{ver}"]["post"].is_null(), "publish is not in {}", openapi["paths"]);
    Ok(())
}

fn round_trip() -> Result<()> {
    let dir = scratch_dir("quickstart")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let before = now_ms();
    let stored = quickstart.post(&quickstart.demo, "", "hello, gafka")?.expect(201)?;
    let body = stored.json()?;
    same("ok", &body["ok"].as_i64(), &Some(1))?;
    let partition = body["partition"].as_i64().context("partition")?;
    let timestamp = body["timestamp"].as_i64().context("timestamp")?;
    // A shard reads the clock once per tick.
    let (from, to) = (before - CLOCK_TICK_MS, now_ms());
    ensure!((from..=to).contains(&timestamp), "timestamp {timestamp} is not between {from} and {to}");
    same("X-Partition", &stored.header("x-partition"), &Some(partition.to_string().as_str()))?;
    same("X-Offset", &stored.header("x-offset"), &Some("0"))?;
    ensure!(stored.header("x-msg-id").is_some_and(|id| !id.is_empty()), "no X-Msg-Id");

    let polled = quickstart.poll(&quickstart.demo, "readers", "")?.expect(200)?;
    same("body", &polled.text().as_str(), &"hello, gafka")?;
    same("X-Partition", &polled.header("x-partition"), &Some(partition.to_string().as_str()))?;
    same("X-Offset", &polled.header("x-offset"), &Some("0"))?;
    same("X-Timestamp", &polled.header("x-timestamp"), &Some(timestamp.to_string().as_str()))?;
    same("Cache-Control", &polled.header("cache-control"), &Some("no-store"))?;
    let none = quickstart.poll(&quickstart.demo, "readers", "&wait=200ms")?;
    same("nothing left", &none.status, &204)
}

const CLOCK_TICK_MS: i64 = 20;

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn kill_9() -> Result<()> {
    let dir = scratch_dir("quickstart")?;
    let mut first = Quickstart::start(dir.path(), &[])?;
    let load = Load { pause: Duration::ZERO, ..Load::default() };
    let running = load.start(&[&first.publish], &first.demo);
    running.wait_for_more(2_000, Duration::from_secs(30))?;
    first.kill9();
    let ledger = running.stop()?.ledger;
    let demo = first.demo.clone();
    drop(first);

    let second = Quickstart::start(dir.path(), &[]).context("restart after kill -9")?;
    same("credentials", &second.demo, &demo)?;
    let records = python::read(Client::Confluent, &second.kafka, &demo.physical_topic())?;
    let report = ledger::check(&ledger, &records).into_result()?;
    ensure!(report.stored >= 2_000, "{report}");
    // And it goes on where it was.
    second.post(&demo, "", "after")?.expect(201)?;
    Ok(())
}

fn sigterm() -> Result<()> {
    let dir = scratch_dir("quickstart")?;
    let mut quickstart = Quickstart::start(dir.path(), &[])?;
    quickstart.post(&quickstart.demo, "", "one")?.expect(201)?;
    quickstart.poll(&quickstart.demo, "readers", "")?.expect(200)?;
    let poll = quickstart.demo.poll("readers", "&wait=60s");
    let mut waiting = Connection::open(&quickstart.subscribe)?;
    waiting.send(&poll)?;
    let mut idle = Connection::open(&quickstart.publish)?;
    idle.call(&Request::get("/alive"))?.expect(200)?;
    // The health of a draining gateway is asked on connections that were there before.
    let mut health = Connection::open(&quickstart.publish)?;
    health.call(&Request::get("/readyz"))?.expect(200)?;

    let started = Instant::now();
    quickstart.signal(rustix::process::Signal::TERM)?;
    wait::until("/readyz to say no", Duration::from_secs(2), || match health.call(&Request::get("/readyz"))?.status {
        503 => Ok(()),
        other => bail!("{other}"),
    })?;
    same("the waiting poll", &waiting.read()?.status, &204)?;
    let status = quickstart.wait(Duration::from_secs(10).saturating_sub(started.elapsed()))?;
    ensure!(status.success(), "{status}\n{}", quickstart.log_tail());
    ensure!(idle.is_closed_within(Duration::from_secs(1))?, "an idle connection outlived the gateway");
    Ok(())
}

fn port_in_use() -> Result<()> {
    let (one, two) = (scratch_dir("quickstart")?, scratch_dir("quickstart")?);
    let first = Quickstart::start(one.path(), &[])?;
    let taken = address_of(&first.publish)?.to_string();
    let mut command = tethered(bin_path("kateway")?);
    command.args(["quickstart", "--json", "--pub", &taken, "--sub", "127.0.0.1:0", "--man", "127.0.0.1:0"]);
    command.args(["--kafka", "127.0.0.1:0", "--data-dir"]).arg(two.path());
    let Err(err) = run(command, Duration::from_secs(20)) else { bail!("a second gateway took {taken}") };
    let said = format!("{err:#}");
    ensure!(said.contains("exit status"), "it did not end by itself: {said}");
    ensure!(said.contains(&taken), "the error does not name {taken}: {said}");
    // The first one is unharmed.
    first.post(&first.demo, "", "still here")?.expect(201)?;
    Ok(())
}

fn embedded_broker() -> Result<()> {
    let dir = scratch_dir("quickstart")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let (kafka, demo) = (&quickstart.kafka, &quickstart.demo);
    let topic = demo.physical_topic();
    let metadata = kcat::metadata(kafka)?;
    let named = |entry: &serde_json::Value| entry["topic"] == topic.as_str();
    let listed = metadata["topics"].as_array().and_then(|topics| topics.iter().find(|entry| named(entry)));
    let partitions = listed.and_then(|entry| entry["partitions"].as_array()).map(Vec::len);
    same("partitions of the demo topic", &partitions, &Some(4))?;

    quickstart.post(demo, "?key=k1", "from kateway")?.expect(201)?;
    kcat::produce(kafka, &topic, &Record::with_value("from kcat").key("k2"))?;
    java::produce(kafka, &topic, &[Record::with_value("from java").key("k3")])?;
    for client in Client::ALL {
        let value = format!("from {}", client.name());
        python::produce(client, kafka, &topic, &[Record::with_value(value).key("k4")])?;
    }
    let expected = ["from confluent", "from java", "from kafka-python", "from kateway", "from kcat"];
    let sorted = |records: Vec<Record>| {
        let mut values: Vec<String> = records.iter().map(Record::text).collect();
        values.sort();
        values
    };
    let expected_values = expected.map(str::to_owned).to_vec();
    same("kcat", &sorted(kcat::read(kafka, &topic)?), &expected_values)?;
    same("java", &sorted(java::read(kafka, &topic)?), &expected_values)?;
    for client in Client::ALL {
        same(client.name(), &sorted(python::read(client, kafka, &topic)?), &expected_values)?;
    }
    quickstart.poll_for(demo, "readers", &expected, Duration::from_secs(10))?;
    Ok(())
}
