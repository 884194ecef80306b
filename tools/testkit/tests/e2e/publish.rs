//! Publish: what a request can say, how HTTP may carry it, what is refused, and that Kafka has it as said.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use testkit::gateway::{Quickstart, Tenant};
use testkit::http::{Connection, Request, Response, call};
use testkit::kafka::{Cluster, KafkaOptions, Version};
use testkit::process::scratch_dir;
use testkit::python::Client;
use testkit::record::Record;
use testkit::{java, kcat, python};

use crate::harness::{Case, case, same};
use crate::shared::{kafka, unique};

pub const CASES: &[Case] = &[
    case(
        "what_kateway_published_is_read_by_clients_of_four_makes",
        &["bin:kateway", "kafka", "kcat", "python-clients"],
        read_by_others,
    ),
    case(
        "what_kateway_published_to_kafka_3_9_is_read_back",
        &["bin:kateway", "kafka-zk", "kafka", "python-clients"],
        old_kafka,
    ),
    case("a_batch_is_in_kafka_with_a_receipt_for_each_record", &["bin:kateway", "kafka", "python-clients"], batch),
    case("a_key_goes_to_the_partition_the_java_client_chooses", &["bin:kateway", "kafka"], partitioner),
    case("pipelined_publishes_are_answered_in_order", &["bin:kateway"], pipelined),
    case("a_body_may_come_in_chunks_or_wait_for_100_continue", &["bin:kateway"], chunked_and_expect),
    case("null_and_empty_values_are_different", &["bin:kateway", "python-clients"], null_and_empty),
    case("every_ack_level_is_answered", &["bin:kateway", "python-clients"], ack_levels),
    case("a_refusal_has_a_status_a_sentence_and_a_code", &["bin:kateway"], refusals),
    case("the_largest_message_is_1000000_bytes", &["bin:kateway"], largest),
    case("equal_failed_logins_end_in_429_and_harm_nobody_else", &["bin:kateway"], failed_logins),
];

fn embedded() -> Result<(tempfile::TempDir, Quickstart)> {
    let dir = scratch_dir("publish")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    Ok((dir, quickstart))
}

fn number(response: &Response, name: &str) -> Result<i64> {
    let body = response.json()?;
    body[name].as_i64().with_context(|| format!("no {name} in {body}"))
}

fn read_by_others() -> Result<()> {
    let (kafka, dir, value) = (kafka()?, scratch_dir("publish")?, unique("value"));
    let quickstart = Quickstart::start(dir.path(), &["--bootstrap", &kafka.bootstrap()])?;
    same("kafka of the ready line", &quickstart.kafka, &kafka.bootstrap())?;
    let demo = &quickstart.demo;
    // Not the time of storing, and not so old that retention takes it.
    let an_hour_ago_ms =
        (SystemTime::now() - Duration::from_secs(3_600)).duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let request = demo
        .publish(&format!("?key=a%20key&partition=2&timestamp={an_hour_ago_ms}"))
        .header("X-Tag", "red;blue")
        .header("X-Header-trace-id", "caf%C3%A9")
        .body(value.clone());
    let stored = call(&quickstart.publish, &request)?.expect(201)?;
    let expected = Record {
        partition: 2,
        offset: number(&stored, "offset")?,
        timestamp_ms: an_hour_ago_ms,
        ..Record::with_value(value.clone()).key("a key")
    };
    let mut headers = expected.header("tag", "red").header("tag", "blue").header("trace-id", "café");
    headers.headers.sort();
    let topic = demo.physical_topic();
    let readings = [
        ("kcat", kcat::read(&kafka.bootstrap(), &topic)?),
        ("java", java::read(&kafka.bootstrap(), &topic)?),
        ("confluent", python::read(Client::Confluent, &kafka.bootstrap(), &topic)?),
        ("kafka-python", python::read(Client::KafkaPython, &kafka.bootstrap(), &topic)?),
    ];
    for (reader, records) in readings {
        let mut found: Vec<Record> = records.into_iter().filter(|record| record.text() == value).collect();
        found.iter_mut().for_each(|record| record.headers.sort());
        same(reader, &found, &vec![headers.clone()])?;
    }
    Ok(())
}

fn batch() -> Result<()> {
    let (kafka, dir, mark) = (kafka()?, scratch_dir("publish")?, unique("batch"));
    let quickstart = Quickstart::start(dir.path(), &["--bootstrap", &kafka.bootstrap()])?;
    let demo = &quickstart.demo;
    const COUNT: usize = 500;
    let mut lines = String::new();
    for index in 0..COUNT {
        lines.push_str(&match index % 5 {
            0 => format!(r#"{{"value":"{mark} {index}","key":"k{}"}}"#, index % 7),
            1 => format!(r#"{{"value_json":{{"mark":"{mark} {index}"}},"headers":{{"h":"v"}}}}"#),
            2 => format!(r#"{{"value":"{mark} {index}","partition":3}}"#),
            3 => format!(r#"{{"value":"{mark} {index}","headers":[["h","1"],["h","2"]]}}"#),
            // Refused alone: the field is not known.
            _ => format!(r#"{{"value":"{mark} {index}","valeu":"x"}}"#),
        });
        lines.push('\n');
    }
    let path = format!("/v1/msgs/{}/{}/batch", demo.topic, demo.ver);
    let request = Request::post(&path).header("Appid", &*demo.appid).header("Pubkey", &*demo.pubkey);
    let request = request.header("Content-Type", "application/x-ndjson").body(lines);
    let answer = call(&quickstart.publish, &request)?.expect(200)?;
    same("X-Failed", &answer.header("x-failed"), &Some((COUNT / 5).to_string().as_str()))?;
    let receipts: Vec<serde_json::Value> =
        answer.text().lines().map(serde_json::from_str).collect::<Result<_, _>>().context("receipts")?;
    same("receipts", &receipts.len(), &COUNT)?;
    let records = python::read(Client::Confluent, &kafka.bootstrap(), &demo.physical_topic())?;
    for (index, receipt) in receipts.iter().enumerate() {
        let end = format!("{mark} {index}");
        let is_mine = |record: &&Record| record.text().trim_end_matches(['"', '}']).ends_with(&end);
        let found: Vec<&Record> = records.iter().filter(is_mine).collect();
        if index % 5 == 4 {
            same("status of a refused record", &receipt["status"].as_i64(), &Some(400))?;
            same("copies of a refused record", &found.len(), &0)?;
            continue;
        }
        same(&format!("copies of record {index}"), &found.len(), &1)?;
        let at = (i64::from(found[0].partition), found[0].offset);
        let told = (receipt["partition"].as_i64(), receipt["offset"].as_i64());
        same(&format!("place of record {index}"), &told, &(Some(at.0), Some(at.1)))?;
    }
    Ok(())
}

fn old_kafka() -> Result<()> {
    let kafka = Cluster::start(KafkaOptions { version: Version::WithZookeeper, ..KafkaOptions::default() })?;
    let dir = scratch_dir("publish")?;
    let quickstart = Quickstart::start(dir.path(), &["--bootstrap", &kafka.bootstrap()])?;
    quickstart.post(&quickstart.demo, "?key=k", "for the past")?.expect(201)?;
    quickstart.poll_for(&quickstart.demo, "g", &["for the past"], Duration::from_secs(20))?;
    let records = java::read(&kafka.bootstrap(), &quickstart.demo.physical_topic())?;
    same("values", &records.iter().map(Record::text).collect(), &vec!["for the past".to_owned()])
}

fn partitioner() -> Result<()> {
    let (kafka, dir) = (kafka()?, scratch_dir("publish")?);
    let quickstart = Quickstart::start(dir.path(), &["--bootstrap", &kafka.bootstrap()])?;
    let demo = &quickstart.demo;
    let keys: Vec<String> = (0..24).map(|index| format!("{}-{index}", unique("key"))).collect();
    let records: Vec<Record> = keys.iter().map(|key| Record::with_value("java").key(key)).collect();
    let by_java = java::produce(&kafka.bootstrap(), &demo.physical_topic(), &records)?;
    let mut connection = Connection::open(&quickstart.publish)?;
    for (key, record) in keys.iter().zip(&by_java) {
        let stored = connection.call(&demo.publish(&format!("?key={key}")).body("kateway"))?.expect(201)?;
        same(key, &number(&stored, "partition")?, &i64::from(record.partition))?;
    }
    let used: std::collections::BTreeSet<i32> = by_java.iter().map(|record| record.partition).collect();
    ensure!(used.len() > 1, "all keys fell into partition {used:?}, which proves nothing");
    Ok(())
}

fn pipelined() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    let mut connection = Connection::open(&quickstart.publish)?;
    let mut all = Vec::new();
    const COUNT: i64 = 50;
    for index in 0..COUNT {
        // One in ten is refused, in its place.
        let query = if index % 10 == 9 { "?partition=99".to_owned() } else { "?partition=1".to_owned() };
        all.extend(demo.publish(&query).body(format!("message {index}")).to_bytes());
    }
    connection.send_raw(&all)?;
    let mut expected_offset = 0;
    for index in 0..COUNT {
        let response = connection.read().with_context(|| format!("answer {index}"))?;
        if index % 10 == 9 {
            ensure!((400..500).contains(&response.status), "answer {index}: {} {}", response.status, response.text());
        } else {
            same("offset", &number(&response.expect(201)?, "offset")?, &expected_offset)?;
            expected_offset += 1;
        }
    }
    Ok(())
}

fn chunked_and_expect() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    let body: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
    let mut connection = Connection::open(&quickstart.publish)?;
    for chunk_bytes in [100_000, 4_096, 7] {
        let request = demo.publish("?partition=0").body(body[..chunk_bytes * 2].to_vec()).chunked(chunk_bytes);
        connection.call(&request)?.expect(201)?;
    }
    connection.call(&demo.publish("?partition=0").body(body.clone()))?.expect(201)?;

    let request = demo.publish("?partition=0").header("Expect", "100-continue").body("after continue");
    connection.send_raw(&request.head_bytes())?;
    same("interim answer", &connection.read_interim()?.status, &100)?;
    connection.send_raw(b"after continue")?;
    connection.read()?.expect(201)?;

    // A body that will be refused is not asked for.
    let mut other = Connection::open(&quickstart.publish)?;
    let stranger = Tenant { pubkey: "wrong".into(), ..demo.clone() };
    let refused = stranger.publish("").header("Expect", "100-continue").body("never sent");
    other.send_raw(&refused.head_bytes())?;
    same("refused at once", &other.read_interim()?.status, &401)?;

    let polled = quickstart.poll(demo, "readers", "&batch=10&max_bytes=1000000")?.expect(200)?;
    ensure!(polled.body.windows(body.len()).any(|window| window == body), "the large body did not survive");
    Ok(())
}

fn null_and_empty() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    quickstart.post(demo, "?partition=0", "")?.expect(201)?;
    quickstart.post(demo, "?partition=0&null=1&key=k", "")?.expect(201)?;
    same("null with a body", &quickstart.post(demo, "?null=1", "x")?.status, &400)?;
    let records = python::read(Client::Confluent, &quickstart.kafka, &demo.physical_topic())?;
    let values: Vec<_> = records.into_iter().map(|record| record.value).collect();
    same("values", &values, &vec![Some(Vec::new()), None])?;
    let (first, second) = (quickstart.poll(demo, "g", "")?.expect(200)?, quickstart.poll(demo, "g", "")?.expect(200)?);
    same("X-Null", &(first.header("x-null"), second.header("x-null")), &(None, Some("1")))?;
    same("X-Key", &second.header("x-key"), &Some("k"))
}

fn ack_levels() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    for (level, expected) in [("all", 0), ("local", 1)] {
        let stored = quickstart.post(demo, &format!("?partition=3&ack={level}"), level)?.expect(201)?;
        same(level, &number(&stored, "offset")?, &expected)?;
    }
    same("none", &number(&quickstart.post(demo, "?partition=3&ack=none", "none")?.expect(201)?, "offset")?, &-1)?;
    same("unknown level", &quickstart.post(demo, "?ack=some", "x")?.status, &400)?;
    testkit::wait::until("the unacknowledged one", Duration::from_secs(5), || {
        let records = python::read(Client::Confluent, &quickstart.kafka, &demo.physical_topic())?;
        let values: Vec<String> = records.iter().map(Record::text).collect();
        same("values", &values, &["all", "local", "none"].map(str::to_owned).to_vec())
    })
}

fn refusals() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    let path = format!("/v1/msgs/{}/{}", demo.topic, demo.ver);
    let with = |request: Request| request.header("Appid", &*demo.appid).header("Pubkey", &*demo.pubkey);
    let both = with(Request::post(&path)).header("Authorization", "Basic YTpi").body("x");
    let subkey = Request::post(&path).header("Appid", &*demo.appid).header("Pubkey", &*demo.subkey).body("x");
    let rows = [
        ("no credentials", Request::post(&path).body("x"), 401),
        ("the key for reading", subkey, 401),
        ("two kinds of credentials", both, 400),
        ("no such topic", with(Request::post("/v1/msgs/nosuch/v1")).body("x"), 404),
        ("no such version", with(Request::post(&format!("/v1/msgs/{}/v9", demo.topic))).body("x"), 404),
        ("no such path", Request::get("/v1/nonsense"), 404),
        ("wrong method", with(Request::new("DELETE", &path)), 405),
        ("not a partition", demo.publish("?partition=x").body("x"), 400),
    ];
    for (what, request, expected) in rows {
        let answer = call(&quickstart.publish, &request)?;
        same(what, &answer.status, &expected)?;
        same(what, &answer.header("content-type").map(|kind| kind.starts_with("application/json")), &Some(true))?;
        ensure!(answer.code().is_some_and(|code| !code.is_empty()), "{what}: no code: {}", answer.text());
        ensure!(answer.json()?["errmsg"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {}", answer.text());
        match expected {
            401 => ensure!(answer.header("www-authenticate").is_some(), "{what}: no WWW-Authenticate"),
            405 => ensure!(answer.header("allow").is_some_and(|allow| allow.contains("POST")), "{what}: no Allow"),
            _ => {}
        }
    }
    // Basic says the same as the two headers.
    let basic = base64(format!("{}:{}", demo.appid, demo.pubkey).as_bytes());
    let request = Request::post(&path).header("Authorization", format!("Basic {basic}")).body("x");
    call(&quickstart.publish, &request)?.expect(201)?;
    Ok(())
}

/// RFC 4648, with padding; a crate for one header would be too much.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().chain([0, 0].iter()).take(3).fold(0u32, |sum, byte| (sum << 8) | u32::from(*byte));
        for place in 0..4 {
            let letter = ALPHABET[(group >> (18 - 6 * place)) as usize & 63];
            text.push(if place > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

fn largest() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    quickstart.post(demo, "?partition=0", vec![b'x'; 1_000_000])?.expect(201)?;
    let answer = quickstart.post(demo, "?partition=0", vec![b'x'; 1_000_001])?;
    same("one byte more", &answer.status, &413)?;
    let chunked = demo.publish("?partition=0").body(vec![b'x'; 1_000_001]).chunked(65_536);
    same("one byte more, in chunks", &call(&quickstart.publish, &chunked)?.status, &413)?;
    let polled = quickstart.poll(demo, "readers", "")?.expect(200)?;
    same("it comes back whole", &polled.body.len(), &1_000_000)
}

fn failed_logins() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    let stranger = Tenant { pubkey: "guess".into(), ..demo.clone() };
    let mut connection = Connection::open(&quickstart.publish)?;
    let mut statuses = Vec::new();
    for _ in 0..40 {
        let answer = connection.call(&stranger.publish("").body("x"))?;
        if answer.status == 429 {
            ensure!(answer.header("retry-after").is_some(), "429 without Retry-After");
        }
        if answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            connection = Connection::open(&quickstart.publish)?;
        }
        statuses.push(answer.status);
    }
    same("the first", &statuses[0], &401)?;
    same("the last", statuses.last().context("forty")?, &429)?;
    quickstart.post(demo, "", "the right key, from the same address")?.expect(201)?;
    Ok(())
}
