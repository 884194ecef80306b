//! Subscribe: what others wrote is polled, in every framing, by groups that come and go.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::gateway::{Quickstart, Tenant};
use testkit::http::{Connection, call};
use testkit::process::scratch_dir;
use testkit::python::Client;
use testkit::record::Record;
use testkit::{java, kcat, python, wait};

use crate::harness::{Case, case, same};
use crate::shared::{kafka, unique};

pub const CASES: &[Case] = &[
    case(
        "what_clients_of_four_makes_wrote_is_polled",
        &["bin:kateway", "kafka", "kcat", "python-clients"],
        written_by_others,
    ),
    case(
        "a_group_goes_on_where_it_was_and_its_offsets_are_in_kafka",
        &["bin:kateway", "python-clients"],
        group_position,
    ),
    case("a_batch_comes_in_each_of_four_framings", &["bin:kateway"], framings),
    case("a_waiting_poll_wakes_when_a_message_comes", &["bin:kateway"], wakes),
    case("an_empty_topic_is_204_after_the_wait", &["bin:kateway"], empty),
    case("many_clients_of_a_group_share_its_messages", &["bin:kateway"], shared_group),
    case("reset_newest_begins_at_the_end", &["bin:kateway"], reset_newest),
    case("nobody_reads_without_the_right_key", &["bin:kateway"], refusals),
];

fn embedded() -> Result<(tempfile::TempDir, Quickstart)> {
    let dir = scratch_dir("subscribe")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    Ok((dir, quickstart))
}

fn written_by_others() -> Result<()> {
    let (kafka, dir, mark) = (kafka()?, scratch_dir("subscribe")?, unique("mark"));
    let bootstrap = kafka.bootstrap();
    let quickstart = Quickstart::start(dir.path(), &["--bootstrap", &bootstrap])?;
    let (demo, topic) = (&quickstart.demo, quickstart.demo.physical_topic());
    let record = |by: &str| Record::with_value(format!("{mark} {by}")).key("k").header("lang", by);
    kcat::produce(&bootstrap, &topic, &record("kcat"))?;
    java::produce(&bootstrap, &topic, &[record("java")])?;
    for client in Client::ALL {
        python::produce(client, &bootstrap, &topic, &[record(client.name())])?;
    }
    let values: Vec<String> =
        ["kcat", "java", "confluent", "kafka-python"].iter().map(|by| format!("{mark} {by}")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).collect();
    let polled = quickstart.poll_for(demo, &unique("group"), &values, Duration::from_secs(20))?;
    for response in polled {
        same("X-Key", &response.header("x-key"), &Some("k"))?;
        let by = response.text().rsplit(' ').next().unwrap_or_default().to_owned();
        same("X-Header-lang", &response.header("x-header-lang"), &Some(by.as_str()))?;
        ensure!(response.header("x-timestamp").is_some_and(|at| at != "0"), "no timestamp");
    }
    Ok(())
}

fn publish_many(quickstart: &Quickstart, count: usize) -> Result<()> {
    let mut connection = Connection::open(&quickstart.publish)?;
    for index in 0..count {
        let query = format!("?key=k{}", index % 7);
        connection.call(&quickstart.demo.publish(&query).body(format!("m{index}")))?.expect(201)?;
    }
    Ok(())
}

fn group_position() -> Result<()> {
    let dir = scratch_dir("subscribe")?;
    let mut quickstart = Quickstart::start(dir.path(), &[])?;
    let demo = quickstart.demo.clone();
    publish_many(&quickstart, 20)?;
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(quickstart.poll(&demo, "g", "")?.expect(200)?.text());
    }
    let (status, _) = quickstart.sigterm_and_wait(Duration::from_secs(10))?;
    ensure!(status.success(), "{status}");
    drop(quickstart);

    let quickstart = Quickstart::start(dir.path(), &[])?;
    for _ in 0..15 {
        seen.push(quickstart.poll(&demo, "g", "&wait=5s")?.expect(200)?.text());
    }
    same("nothing left", &quickstart.poll(&demo, "g", "&wait=100ms")?.status, &204)?;
    seen.sort();
    seen.dedup();
    same("each message once over a restart", &seen.len(), &20)?;
    wait::until("the committed offsets", Duration::from_secs(10), || {
        let group = demo.physical_group("g");
        let committed = python::committed(&quickstart.kafka, &demo.physical_topic(), &group)?;
        let total: i64 = committed.as_object().into_iter().flatten().filter_map(|(_, at)| at.as_i64()).sum();
        same("sum of committed offsets", &total, &20)
    })?;
    // Another group begins at the oldest.
    let other = quickstart.poll(&demo, "other", "&batch=100&wait=5s")?.expect(200)?;
    ensure!(!other.body.is_empty(), "another group got nothing");
    Ok(())
}

/// Polls batches with `Accept: accept` until `count` messages came, counted by `split`.
fn collect(
    quickstart: &Quickstart,
    group: &str,
    accept: &str,
    count: usize,
    split: impl Fn(&[u8]) -> Result<Vec<Message>>,
) -> Result<Vec<Message>> {
    let mut all = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(10);
    while all.len() < count && Instant::now() < deadline {
        let request = quickstart.demo.poll(group, "&batch=100&wait=1s").header("Accept", accept);
        let response = call(&quickstart.subscribe, &request)?;
        if response.status == 204 {
            continue;
        }
        let response = response.expect(200)?;
        same("Content-Type", &response.header("content-type"), &Some(accept))?;
        all.extend(split(&response.body).with_context(|| accept.to_owned())?);
    }
    all.sort();
    Ok(all)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    partition: i32,
    offset: i64,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    headers: Vec<(String, String)>,
}

fn framings() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    let mut expected = Vec::new();
    for (key, value, header) in [("a", "plain text", "x"), ("b", "", "y"), ("c", "line\nbreak \"quoted\" é", "z")] {
        let request = demo.publish(&format!("?key={key}")).header("X-Header-h", header).body(value);
        let body = call(&quickstart.publish, &request)?.expect(201)?.json()?;
        expected.push(Message {
            partition: i32::try_from(body["partition"].as_i64().context("partition")?)?,
            offset: body["offset"].as_i64().context("offset")?,
            key: Some(key.into()),
            value: value.into(),
            headers: vec![("h".into(), header.into())],
        });
    }
    expected.sort();
    let json_lines = |body: &[u8]| -> Result<Vec<Message>> {
        std::str::from_utf8(body)?.lines().map(|line| from_json(&serde_json::from_str(line)?)).collect()
    };
    let json = |body: &[u8]| -> Result<Vec<Message>> {
        let array: Vec<serde_json::Value> = serde_json::from_slice(body)?;
        array.iter().map(from_json).collect()
    };
    same("NDJSON", &collect(&quickstart, "g1", "application/x-ndjson", 3, json_lines)?, &expected)?;
    same("JSON", &collect(&quickstart, "g2", "application/json", 3, json)?, &expected)?;
    same("records", &collect(&quickstart, "g3", "application/vnd.gafka.records", 3, from_records)?, &expected)?;
    // The framing of 2017 has neither keys nor headers.
    let bare = |message: &Message| Message { key: None, headers: Vec::new(), ..message.clone() };
    let bare: Vec<Message> = expected.iter().map(bare).collect();
    same("TLV", &collect(&quickstart, "g4", "application/octet-stream", 3, from_tlv)?, &bare)
}

fn from_json(value: &serde_json::Value) -> Result<Message> {
    let text = |name: &str| value[name].as_str().map(|text| text.as_bytes().to_vec());
    let pairs = value["headers"].as_array().map_or(&[][..], Vec::as_slice);
    let pair = |pair: &serde_json::Value| -> Option<(String, String)> {
        Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()))
    };
    ensure!(value["timestamp"].as_i64().is_some_and(|at| at > 0), "no timestamp in {value}");
    Ok(Message {
        partition: i32::try_from(value["partition"].as_i64().context("partition")?)?,
        offset: value["offset"].as_i64().context("offset")?,
        key: text("key"),
        value: text("value").with_context(|| format!("no value in {value}"))?,
        headers: pairs.iter().filter_map(pair).collect(),
    })
}

/// Reads big-endian fields off the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count).with_context(|| format!("{count} bytes expected"))?;
        self.0 = rest;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.bytes(1)?[0])
    }

    fn u16(&mut self) -> Result<usize> {
        Ok(u16::from_be_bytes(self.bytes(2)?.try_into()?).into())
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.bytes(4)?.try_into()?))
    }

    fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_be_bytes(self.bytes(8)?.try_into()?))
    }

    fn length(&mut self) -> Result<usize> {
        Ok(usize::try_from(self.i32()?)?)
    }
}

fn from_tlv(body: &[u8]) -> Result<Vec<Message>> {
    let mut fields = Fields(body);
    let mut messages = Vec::new();
    while !fields.0.is_empty() {
        let (partition, offset, length) = (fields.i32()?, fields.i64()?, fields.length()?);
        let value = fields.bytes(length)?.to_vec();
        messages.push(Message { partition, offset, value, ..Message::default() });
    }
    Ok(messages)
}

fn from_records(body: &[u8]) -> Result<Vec<Message>> {
    let mut outer = Fields(body);
    let mut messages = Vec::new();
    while !outer.0.is_empty() {
        let length = outer.length()?;
        let mut fields = Fields(outer.bytes(length)?);
        let (partition, offset, timestamp) = (fields.i32()?, fields.i64()?, fields.i64()?);
        ensure!(timestamp > 0, "timestamp {timestamp}");
        let _attempt = fields.u16()?;
        let receipt = fields.u16()?;
        fields.bytes(receipt)?;
        let attributes = fields.u8()?;
        ensure!(attributes & 0b0110 == 0, "attributes {attributes:#b}: timestamp and partition stand before them");
        let mut key = None;
        if attributes & 8 != 0 {
            let length = fields.length()?;
            key = Some(fields.bytes(length)?.to_vec());
        }
        let mut headers = Vec::new();
        for _ in 0..fields.u16()? {
            let length = fields.u16()?;
            let name = String::from_utf8(fields.bytes(length)?.to_vec())?;
            let length = fields.length()?;
            headers.push((name, String::from_utf8(fields.bytes(length)?.to_vec())?));
        }
        messages.push(Message { partition, offset, key, value: fields.0.to_vec(), headers });
    }
    Ok(messages)
}

fn wakes() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    // The group exists and is at the end.
    same("empty", &quickstart.poll(demo, "g", "&wait=200ms")?.status, &204)?;
    let mut waiting = Connection::open(&quickstart.subscribe)?;
    waiting.send(&demo.poll("g", "&wait=30s"))?;
    // So that the poll is really waiting: nothing shows that from outside.
    std::thread::sleep(Duration::from_millis(300));
    let published = Instant::now();
    quickstart.post(demo, "", "wake up")?.expect(201)?;
    same("body", &waiting.read()?.expect(200)?.text().as_str(), &"wake up")?;
    let took = published.elapsed();
    ensure!(took < Duration::from_secs(1), "woke after {took:?}");
    Ok(())
}

fn empty() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let started = Instant::now();
    let answer = quickstart.poll(&quickstart.demo, "g", "&wait=700ms")?;
    let took = started.elapsed();
    same("status", &answer.status, &204)?;
    ensure!(took >= Duration::from_millis(650) && took < Duration::from_secs(5), "answered after {took:?}");
    Ok(())
}

fn shared_group() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    const COUNT: usize = 200;
    publish_many(&quickstart, COUNT)?;
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (base, request) = (quickstart.subscribe.clone(), quickstart.demo.poll("g", "&wait=1s"));
            std::thread::spawn(move || -> Result<Vec<String>> {
                let mut connection = Connection::open(&base)?;
                let mut mine = Vec::new();
                loop {
                    let response = connection.call(&request)?;
                    if response.status == 204 {
                        return Ok(mine);
                    }
                    mine.push(response.expect(200)?.text());
                }
            })
        })
        .collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
    }
    same("messages handed out", &all.len(), &COUNT)?;
    all.sort();
    all.dedup();
    same("each of them once", &all.len(), &COUNT)
}

fn reset_newest() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    publish_many(&quickstart, 10)?;
    same("nothing yet", &quickstart.poll(demo, "late", "&reset=newest&wait=500ms")?.status, &204)?;
    quickstart.post(demo, "", "fresh")?.expect(201)?;
    let polled = quickstart.poll(demo, "late", "&reset=newest&wait=10s")?.expect(200)?;
    same("body", &polled.text().as_str(), &"fresh")
}

fn refusals() -> Result<()> {
    let (_dir, quickstart) = embedded()?;
    let demo = &quickstart.demo;
    let with_pubkey = Tenant { subkey: demo.pubkey.clone(), ..demo.clone() };
    let no_topic = Tenant { topic: "nosuch".into(), ..demo.clone() };
    let rows = [
        ("the key for publishing", with_pubkey.poll("g", ""), 401),
        ("no such topic", no_topic.poll("g", ""), 404),
        ("no group", demo.poll("", ""), 400),
        ("not a duration", demo.poll("g", "&wait=x"), 400),
        ("not a number", demo.poll("g", "&batch=x"), 400),
    ];
    for (what, request, expected) in rows {
        let answer = call(&quickstart.subscribe, &request)?;
        same(what, &answer.status, &expected)?;
        ensure!(answer.code().is_some(), "{what}: {}", answer.text());
    }
    Ok(())
}
