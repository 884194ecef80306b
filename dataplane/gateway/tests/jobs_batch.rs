//! Batches of delayed jobs over real sockets, with a store on disk and the embedded broker behind it: receipts, partial
//! refusals, bodies that break off, clients that do not read.

mod harness;

use gateway::delayed::{Name, NewJob};
use gateway::{GatewayConfig, JobsConfig};
use harness::raw::Raw;
use harness::{APP, PUBKEY, Scene, as_demo, scene_with_jobs};
use journal::Waiter;
use model::SnapshotDoc;
use model::quota::{Limits, Measure};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testkit::http::{Request, Response};

const BATCH: &str = "/v1/jobs/orders/v1/batch";
const NDJSON: &str = "application/x-ndjson";
const RECORDS: &str = "application/vnd.gafka.records";
const BINARY_RECEIPTS: &str = "application/vnd.gafka.receipts";
const HOUR_MS: i64 = 3_600_000;

fn jobs() -> Scene {
    jobs_with(JobsConfig::default(), |_| {})
}

fn jobs_with(jobs: JobsConfig, adjust: impl FnOnce(&mut SnapshotDoc)) -> Scene {
    scene_with_jobs(GatewayConfig { shard_count: 2, jobs, ..GatewayConfig::default() }, adjust)
}

fn ndjson(query: &str, body: impl Into<Vec<u8>>) -> Request {
    as_demo(Request::post(&format!("{BATCH}{query}")).header("Content-Type", NDJSON).body(body))
}

fn binary(query: &str, body: impl Into<Vec<u8>>) -> Request {
    as_demo(Request::post(&format!("{BATCH}{query}")).header("Content-Type", RECORDS).body(body))
}

/// A record of the binary framing, in partition 0.
fn record(due_ms: Option<i64>, value: &[u8]) -> Vec<u8> {
    let mut body = vec![4 | if due_ms.is_some() { 16 } else { 0 }];
    body.extend(due_ms.iter().flat_map(|due_ms| due_ms.to_be_bytes()));
    body.extend(0_i32.to_be_bytes());
    body.extend(0_u16.to_be_bytes());
    body.extend(value);
    framed(&body)
}

/// One with a timestamp, by key.
fn stamped(timestamp_ms: i64, due_ms: i64, value: &[u8]) -> Vec<u8> {
    framed(&[&[2 | 16][..], &timestamp_ms.to_be_bytes(), &due_ms.to_be_bytes(), &[0, 0], value].concat())
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], body].concat()
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

fn call(scene: &Scene, request: &Request) -> Response {
    scene.publisher().call(request).expect("an answer")
}

/// `200 failed=1 | 201 | status code | …`
fn shown(answer: &Response) -> String {
    let mut text = answer.status.to_string();
    if let Some(failed) = answer.header("X-Failed") {
        let _ = write!(text, " failed={failed}");
    }
    for line in answer.text().lines() {
        let receipt: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|err| panic!("{line}: {err}"));
        let _ = match receipt["status"].as_u64() {
            Some(201) => write!(text, " | 201"),
            _ => write!(text, " | {} {}", receipt["status"], receipt["code"].as_str().unwrap_or_default()),
        };
    }
    text
}

fn receipts(answer: &Response) -> Vec<serde_json::Value> {
    answer.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn look(scene: &Scene, id: &str) -> serde_json::Value {
    call(scene, &as_demo(Request::get(&format!("/v1/jobs/orders/v1?id={id}")))).json().expect("JSON")
}

/// Waits until the topic has so many messages: their partition, value and timestamp.
fn published(scene: &Scene, group: &str, count: usize) -> Vec<(i64, String, i64)> {
    let mut messages = Vec::new();
    let until = Instant::now() + Duration::from_secs(30);
    while messages.len() < count && Instant::now() < until {
        let request = Request::get(&format!("/v1/msgs/demo/orders/v1?group={group}&batch=4000&wait=1s"));
        let request = harness::as_demo_reader(request).header("Accept", NDJSON);
        let answer = scene.subscriber().call(&request).expect("an answer");
        messages.extend(receipts(&answer).into_iter().map(|message| {
            let text = message["value"].as_str().unwrap_or("null").to_owned();
            let number = |name: &str| message[name].as_i64().unwrap_or(-1);
            (number("partition"), text, number("timestamp"))
        }));
    }
    messages
}

#[test]
fn every_format_gives_each_job_its_id_and_all_fire_once_in_order_and_never_early() {
    let scene = jobs();
    let due_ms = (now_ms() / 1_000 + 2) * 1_000;
    let rfc3339 = jiff::Timestamp::from_millisecond(due_ms).expect("a time").to_string();
    let lines = format!(
        "{{\"value\":\"a\",\"partition\":0,\"due\":{}}}\n\n{{\"value\":\"b\",\"partition\":0,\"due\":\"{rfc3339}\"}}\n\
         {{\"value\":\"first\",\"partition\":0,\"delay\":\"200ms\"}}\n{{\"value\":\"query\",\"partition\":0}}",
        due_ms / 1_000
    );
    let begun_ms = now_ms();
    let answer = call(&scene, &ndjson("?delay=1", lines));
    assert_eq!(shown(&answer), "200 failed=0 | 201 | 201 | 201 | 201");
    assert_eq!(answer.header("Content-Type"), Some(NDJSON));
    let told = receipts(&answer);
    let due = |at: usize| told[at]["due"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond();
    assert_eq!((due(0), due(1)), (due_ms, due_ms));
    assert!((begun_ms + 200..begun_ms + 2_000).contains(&due(2)), "{told:?}");
    assert!((begun_ms + 1_000..begun_ms + 3_000).contains(&due(3)), "{told:?}");
    let seen = look(&scene, told[0]["id"].as_str().unwrap());
    assert_eq!((&seen["state"], &seen["due"]), (&"pending".into(), &told[0]["due"]), "{seen}");

    let records = [record(Some(due_ms), b"c"), record(None, b"none"), record(Some(due_ms), b"d")].concat();
    let answer = call(&scene, &binary("", records).header("Accept", BINARY_RECEIPTS));
    assert_eq!((answer.status, answer.header("X-Failed")), (200, Some("1")));
    assert_eq!(answer.header("Content-Type"), Some(BINARY_RECEIPTS));
    let of = |at: usize| {
        let (status, rest) = answer.body[at * 14..][..14].split_at(2);
        let (partition, number) = rest.split_at(4);
        let status = u16::from_be_bytes(status.try_into().unwrap());
        (status, i32::from_be_bytes(partition.try_into().unwrap()), i64::from_be_bytes(number.try_into().unwrap()))
    };
    let ((status, partition, id), refused) = (of(0), of(1));
    assert_eq!((status, partition, refused), (201, -1, (400, -1, -1)));
    assert_eq!(look(&scene, &id.to_string())["state"], "pending");
    assert!(of(2).2 > id, "numbers follow each other");

    let answer = call(&scene, &binary("?receipts=summary", record(Some(due_ms), b"e")));
    assert_eq!(answer.text(), "{\"ok\":1,\"failed\":0,\"ranges\":[],\"errors\":[]}\n");

    let messages = published(&scene, "g", 7);
    let values: Vec<&str> = messages.iter().map(|(_, value, _)| value.as_str()).collect();
    assert_eq!(values, ["first", "query", "a", "b", "c", "d", "e"], "of one partition");
    for ((_, value, at_ms), due_ms) in messages.iter().zip([due(2), due(3), due_ms, due_ms, due_ms, due_ms, due_ms]) {
        assert!(*at_ms >= due_ms, "{value}: {} ms early", due_ms - at_ms);
    }
    assert_eq!(scene.metric("gateway_batch_records_total", &["delayed"]), 7);
    assert_eq!(scene.metric("gateway_batch_records_total", &["failed"]), 1);
    scene.wait_idle(0);
}

#[test]
fn a_record_that_is_no_job_fails_alone_with_the_code_of_a_single_one() {
    let scene = jobs();
    let now_ms = now_ms();
    let (later, past, far) = (now_ms + HOUR_MS, now_ms - HOUR_MS, now_ms + 11 * 366 * 24 * HOUR_MS);
    let line = |fields: &str| format!("{{\"value\":\"v\",\"delay\":1000}}\n{{{fields}}}\n{{\"delay\":\"2h\"}}\n");
    let around = |middle: Vec<u8>| [record(Some(later), b"v"), middle, record(Some(later), b"w")].concat();
    let rows = [
        ("neither", ndjson("", line("\"value\":\"v\"")), "400 missing_due"),
        ("both", ndjson("", line("\"delay\":1,\"due\":1795824060")), "400 conflicting_fields"),
        ("no time", ndjson("", line("\"due\":\"tomorrow\"")), "400 invalid_field"),
        ("past", ndjson("", line(&format!("\"due\":{}", past / 1_000))), "400 due_past"),
        ("milliseconds", ndjson("", line(&format!("\"due\":{later}"))), "400 due_too_far"),
        (
            "a timestamp in seconds",
            ndjson("", line(&format!("\"delay\":1,\"timestamp\":{}", now_ms / 1_000))),
            "400 timestamp_unit",
        ),
        ("an unknown field", ndjson("", line("\"delay\":1,\"valu\":1")), "400 unknown_field"),
        ("a partition that is none", ndjson("", line("\"delay\":1,\"partition\":-1")), "400 invalid_field"),
        ("binary, neither", binary("", around(record(None, b"v"))), "400 missing_due"),
        ("binary, past", binary("", around(record(Some(past), b"v"))), "400 due_past"),
        ("binary, negative", binary("", around(record(Some(-1), b"v"))), "400 due_past"),
        ("binary, far", binary("", around(record(Some(far), b"v"))), "400 due_too_far"),
        ("binary, garbage", binary("", around(framed(&[16, 0, 0, 0]))), "400 invalid_record"),
        (
            "binary, a timestamp in seconds",
            binary("", around(stamped(now_ms / 1_000, later, b"v"))),
            "400 timestamp_unit",
        ),
    ];
    let mut connection = scene.publisher();
    for (what, request, expected) in rows {
        let answer = connection.call(&request).unwrap_or_else(|err| panic!("{what}: {err:#}"));
        assert_eq!(shown(&answer), format!("200 failed=1 | 201 | {expected} | 201"), "{what}: {}", answer.text());
    }
    let small = |lines: String| {
        as_demo(Request::post("/v1/jobs/small/v1/batch?delay=1h").header("Content-Type", NDJSON).body(lines))
    };
    let value = |bytes: usize| format!("{{\"value\":\"{}\"}}\n", "x".repeat(bytes));
    let answer = connection.call(&small([value(64), value(65), value(1)].concat())).expect("an answer");
    assert_eq!(shown(&answer), "200 failed=1 | 201 | 413 message_too_large | 201");
    let answer = connection.call(&small(value(65))).expect("an answer");
    assert_eq!(shown(&answer), "413 failed=1 | 413 message_too_large", "the first one's status when none is kept");
    // Every second one is none, whatever they are put together with.
    let lines = "{\"delay\":3600}\n{}\n".repeat(3_000);
    let answer = connection.call(&ndjson("", lines)).expect("an answer");
    assert_eq!(shown(&answer), format!("200 failed=3000{}", " | 201 | 400 missing_due".repeat(3_000)));
}

#[test]
fn what_a_batch_of_jobs_cannot_be_is_refused_before_its_body_and_keeps_the_connection() {
    let scene = jobs();
    let line = "{\"delay\":1}\n";
    let rows = [
        ("no record", ndjson("", "\n\n"), "400 empty_batch"),
        (
            "another type",
            as_demo(Request::post(BATCH).header("Content-Type", "text/plain").body(line)),
            "415 unsupported_content_type",
        ),
        ("a parameter of publishes", ndjson("?ack=all", line), "400 unknown_parameter"),
        ("a parameter of single jobs", ndjson("?key=k", line), "400 unknown_parameter"),
        ("a default that is past", ndjson("?due=17", line), "400 due_past"),
        ("no default", ndjson("?delay=soon", line), "400 bad_parameter"),
        ("not yet", ndjson("?durability=both", line), "501 durability_unknown"),
        ("one key for many", ndjson("", line).header("Idempotency-Key", "k"), "400 bad_header"),
        (
            "no such topic",
            as_demo(Request::post("/v1/jobs/nothing/v1/batch").header("Content-Type", NDJSON).body(line)),
            "404 no_such_topic",
        ),
        ("wrong method", as_demo(Request::get(BATCH)), "405 method_not_allowed"),
        ("no credentials", Request::post(BATCH).header("Content-Type", NDJSON).body(line), "401 not_authenticated"),
    ];
    let mut connection = scene.publisher();
    for (what, request, expected) in rows {
        let answer = connection.call(&request).unwrap_or_else(|err| panic!("{what}: {err:#}"));
        let seen = format!("{} {}", answer.status, answer.code().unwrap_or_default());
        assert_eq!(seen, expected, "{what}: {}", answer.text());
    }
    let off = [harness::scene(), jobs_with(JobsConfig { enabled: false, ..JobsConfig::default() }, |_| {})];
    for scene in off {
        let answer = call(&scene, &ndjson("", line));
        assert_eq!((answer.status, answer.code().as_deref()), (503, Some("jobs_off")), "{}", answer.text());
    }
}

#[test]
fn a_full_disk_and_spent_limits_are_each_records_own_answer() {
    let full = jobs_with(JobsConfig { free_bytes_min: Some(u64::MAX / 2), ..JobsConfig::default() }, |_| {});
    let single = call(&full, &as_demo(Request::post("/v1/jobs/orders/v1?delay=1h").body("x")));
    assert_eq!((single.status, single.code().as_deref()), (503, Some("disk_full")));
    let answer = call(&full, &ndjson("", "{\"delay\":3600}\n{}\n{\"delay\":3600}\n"));
    assert_eq!(shown(&answer), "503 failed=3 | 503 disk_full | 400 missing_due | 503 disk_full");
    assert!(answer.header("Retry-After").is_some());
    full.wait_idle(0);

    let limited = jobs_with(JobsConfig::default(), |doc| {
        doc.apps[0].limits = Limits::default().with(Measure::PublishMessages, 5);
    });
    let answer = call(&limited, &ndjson("?timeout=100ms", "{\"delay\":3600}\n".repeat(20)));
    let seen = shown(&answer);
    assert!(seen.starts_with("200 failed=") && seen.contains(" | 201 | 429 over_quota"), "{seen}");
}

#[test]
fn a_body_that_breaks_off_has_kept_what_came_before_and_says_so() {
    let scene = jobs();
    let rows = [
        ("a line that is not JSON", ndjson("", "{\"delay\":3600}\nnonsense\n{\"delay\":3600}\n")),
        ("a length that cannot be", binary("?delay=1h", [record(None, b"a"), vec![0, 0, 0, 1, 9]].concat())),
        ("a body that ends within a record", binary("?delay=1h", [record(None, b"a"), vec![0, 0, 0, 9, 0]].concat())),
    ];
    for (what, request) in rows {
        let mut connection = scene.publisher();
        let answer = connection.call(&request).unwrap_or_else(|err| panic!("{what}: {err:#}"));
        assert_eq!(shown(&answer), "200 failed=1 | 201 | 400 malformed_record", "{what}");
        assert!(connection.is_closed_within(Duration::from_secs(3)).expect("readable"), "{what}");
    }
    // A client that is gone: whole records are jobs, and nothing waits for it.
    for query in ["?delay=1h", "?delay=1h&stream=1"] {
        let request = ndjson(query, "{\"value\":\"v\"}\n".repeat(3)).to_bytes();
        let mut connection = scene.publisher();
        connection.send_raw(&request[..request.len() - 5]).expect("sent");
        drop(connection);
    }
    // Whoever is gone may not have been read yet.
    let until = Instant::now() + Duration::from_secs(10);
    let count = || {
        let list = call(&scene, &as_demo(Request::get("/v1/jobs/orders/v1"))).json().expect("JSON");
        list["jobs"].as_array().expect("jobs").len()
    };
    while count() < 3 + 2 * 2 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    scene.wait_idle(0);
    assert_eq!(count(), 3 + 2 * 2);
}

#[test]
fn a_stream_gives_ids_while_records_still_arrive_and_ends_when_the_gateway_drains() {
    let scene = jobs();
    let head = |extra: &str| {
        format!(
            "POST {BATCH}?stream=1 HTTP/1.1\r\nHost: x\r\nAppid: {APP}\r\nPubkey: {PUBKEY}\r\nContent-Type: {NDJSON}\r\n{extra}Transfer-Encoding: chunked\r\n\r\n"
        )
    };
    let mut wire = Raw::open(scene.publish);
    wire.send(head("").as_bytes());
    for _ in 0..20 {
        wire.chunk("{\"value\":\"c\",\"delay\":3600}\n");
        wire.until("{\"status\":201,\"id\":\"");
        wire.until("\"}\n");
    }
    wire.chunk("{}\n");
    wire.until("missing_due");
    wire.send(b"0\r\n\r\n");
    wire.until("0\r\nX-Failed: 1\r\n\r\n");
    wire.send(head("").as_bytes());
    wire.chunk("{\"delay\":3600}\n");
    wire.until("{\"status\":201,\"id\":\"");
    scene.gateway.drain();
    wire.until("\"code\":\"draining\"");
    wire.until("0\r\nX-Failed: 1\r\n\r\n");
    let until = Instant::now() + Duration::from_secs(5);
    while !scene.gateway.is_finished() {
        assert!(Instant::now() < until, "the shards did not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_client_that_does_not_read_its_receipts_is_not_read_on_and_gets_all_of_them_when_it_does() {
    const COUNT: usize = 300_000;
    let config = GatewayConfig { shard_count: 1, memory_bytes: 32 << 20, ..GatewayConfig::default() };
    let scene = scene_with_jobs(config, |_| {});
    let body = record(None, b"a value that is not so short").repeat(COUNT);
    // Of each record 78 bytes come back, 23 MB of all: more than what the sockets hold.
    let head = binary("?delay=1h&stream=1", body.clone()).head_bytes();
    let mut wire = Raw::open(scene.publish);
    wire.send(&head);
    let sent = std::thread::spawn({
        let mut wire = wire.try_clone();
        move || wire.try_send(&body)
    });
    let until = Instant::now() + Duration::from_secs(10);
    let added = || scene.metric("gateway_batch_records_total", &["delayed"]);
    let mut before = 0;
    // Nothing moves for a while: it is held back.
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = added();
        if now == before && now > 0 {
            break;
        }
        before = now;
        assert!(Instant::now() < until, "{now} are added, and it goes on");
    }
    assert!(before < COUNT as u64, "all of them were taken without a receipt being read");
    let mut seen = Vec::new();
    while !seen.ends_with(b"X-Failed: 0\r\n\r\n") && wire.read_some(&mut seen, 1 << 20) > 0 {}
    assert!(sent.join().expect("no panic"), "all was sent");
    assert_eq!((added(), receipts_in(&seen)), (COUNT as u64, COUNT));
    scene.wait_idle(1);
}

/// Receipts in what came over the wire: each has a line feed, heads and chunk sizes have `\r\n`.
fn receipts_in(seen: &[u8]) -> usize {
    let feeds = seen.iter().filter(|byte| **byte == b'\n').count();
    feeds - seen.windows(2).filter(|pair| pair == b"\r\n").count()
}

#[test]
fn a_large_batch_needs_memory_for_what_is_under_way_only() {
    // A tenant may hold 4 MiB of 16; the body is 15 MB, its receipts 7 MB.
    let config = GatewayConfig { shard_count: 1, memory_bytes: 32 << 20, ..GatewayConfig::default() };
    let scene = scene_with_jobs(config, |_| {});
    let count = 100_000;
    let value = "v".repeat(100);
    let lines: String = (0..count).map(|_| format!("{{\"value\":\"{value}\",\"delay\":3600}}\n")).collect();
    let answer = scene.publisher().call(&ndjson("", lines)).expect("an answer");
    assert_eq!((answer.status, answer.header("X-Failed")), (200, Some("0")));
    let told = receipts(&answer);
    let ids: Vec<u64> = told.iter().map(|receipt| receipt["id"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(ids.len(), count);
    assert!(ids.is_sorted(), "in the order of the batch");
    // A record as large as a job may be, between others.
    let large = "x".repeat(1_000_000);
    let lines = format!("{{\"value\":\"a\"}}\n{{\"value\":\"{large}\"}}\n").repeat(4);
    let answer = scene.publisher().call(&ndjson("?delay=1h&receipts=summary", lines)).expect("an answer");
    assert_eq!(answer.json().expect("JSON")["ok"], 8, "{}", answer.text());
    scene.wait_idle(0);
}

#[test]
fn a_job_is_published_with_all_that_its_record_says() {
    let scene = jobs();
    let due_ms = now_ms() + 300;
    let line = "{\"value\":\"line\",\"delay\":0,\"key\":\"k\",\"partition\":3,\"timestamp\":1700000000000,\
                \"headers\":[[\"a\",\"1\"],[\"a\",null]]}\n{\"delay\":0,\"partition\":3}\n";
    assert_eq!(shown(&call(&scene, &ndjson("", line))), "200 failed=0 | 201 | 201");
    assert_eq!(shown(&call(&scene, &binary("", stamped(1_700_000_000_007, due_ms, b"record")))), "200 failed=0 | 201");
    let mut seen = published(&scene, "g", 3);
    seen.sort_by(|one, other| one.1.cmp(&other.1));
    let [(3, line, 1_700_000_000_000), (3, null, fired_ms), (_, record, 1_700_000_000_007)] = &seen[..] else {
        panic!("{seen:?}")
    };
    assert_eq!((line.as_str(), null.as_str(), record.as_str()), ("line", "null", "record"));
    assert!(*fired_ms > 1_700_000_000_007, "a message that says no time has that of its publishing");
    let request = Request::get("/v1/msgs/demo/orders/v1?group=h&batch=10&wait=1s");
    let answer =
        scene.subscriber().call(&harness::as_demo_reader(request).header("Accept", NDJSON)).expect("an answer");
    let line = receipts(&answer).into_iter().find(|message| message["value"] == "line").expect("it is there");
    assert_eq!(line["key"], "k");
    assert_eq!(
        (&line["headers"][0], &line["headers"][1]),
        (&serde_json::json!(["a", "1"]), &serde_json::json!(["a", null]))
    );
}

#[test]
fn a_batch_of_a_million_is_kept_and_one_too_many_ends_it() {
    let scene = jobs();
    let records = record(None, b"x").repeat(1_000_001);
    let answer = call(&scene, &binary("?delay=1h&receipts=summary", records));
    let summary = answer.json().expect("JSON");
    assert_eq!((summary["ok"].as_u64(), summary["failed"].as_u64()), (Some(1_000_000), Some(1)), "{summary}");
    assert_eq!(summary["errors"][0]["code"], "too_many_records");
    assert_eq!(answer.header("Connection"), Some("close"));
}

#[test]
fn while_the_store_has_no_room_a_batch_waits_and_only_after_its_timeout_records_are_refused() {
    let scene = jobs();
    let desk = scene.gateway.jobs().expect("jobs are kept").clone();
    let (is_over, full) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lines = "{\"delay\":3600}\n".repeat(2_000);
    std::thread::scope(|scope| {
        // Somebody who leaves no room for as long as that.
        scope.spawn(|| {
            let name = Name { account: APP.into(), subject: "other/v1".into() };
            let job = NewJob { due_ms: now_ms() + HOUR_MS, key: None, own: &[b'x'; 500] };
            let (waiter, mut completions) = (Waiter::new(|| {}), Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                full.fetch_add(
                    usize::from(desk.store().add(&name, &[job; 2_000], 0, &waiter).is_err()),
                    Ordering::Relaxed,
                );
                waiter.take(&mut completions);
                completions.clear();
            }
        });
        let until = Instant::now() + Duration::from_secs(20);
        while full.load(Ordering::Relaxed) == 0 {
            assert!(Instant::now() < until, "there is room for everything");
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut waits = scene.publisher();
        waits.send(&ndjson("", lines.repeat(10))).expect("sent");
        let hasty = call(&scene, &ndjson("?timeout=1ms&receipts=summary", lines.repeat(10)));
        is_over.store(true, Ordering::Relaxed);
        let hasty = hasty.json().expect("JSON");
        assert_eq!(hasty["ok"].as_u64().unwrap() + hasty["failed"].as_u64().unwrap(), 20_000, "{hasty}");
        if let Some(error) = hasty["errors"].as_array().and_then(|errors| errors.first()) {
            assert!(["jobs_full", "overloaded"].contains(&error["code"].as_str().unwrap()), "{hasty}");
        }
        let answer = waits.read().expect("an answer");
        assert_eq!((answer.status, answer.header("X-Failed")), (200, Some("0")), "{}", answer.text());
    });
    scene.wait_idle(0);
}
