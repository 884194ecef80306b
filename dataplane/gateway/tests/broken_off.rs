//! Clients that stop, dribble, vanish or do not read: every request that was whole gets its answer, what is broken off
//! gets a 4xx or a clean close and is counted, nothing is left behind, and others are served meanwhile.

mod harness;

use embedded_kafka::Fault;
use gateway::GatewayConfig;
use harness::raw::{Raw, answers};
use harness::{Scene, as_demo, as_demo_reader, scene, scene_with};
use kafka_wire::api_key::ApiKey;
use std::time::{Duration, Instant};
use testkit::http::Request;

const BATCH: &str = "/v1/msgs/orders/v1/batch";

fn single() -> Request {
    as_demo(Request::post("/v1/msgs/orders/v1?partition=0").body("hello"))
}

fn ndjson(query: &str) -> Request {
    let lines = "{\"value\":\"a\",\"partition\":1}\n{\"value\":\"b\",\"partition\":1}\n";
    as_demo(Request::post(&format!("{BATCH}{query}")).header("Content-Type", "application/x-ndjson").body(lines))
}

fn binary() -> Request {
    let record = |value: &[u8]| {
        let mut body = vec![4, 0, 0, 0, 2, 0, 0];
        body.extend(value);
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    };
    let body = [record(b"a"), record(b"b")].concat();
    as_demo(Request::post(BATCH).header("Content-Type", "application/vnd.gafka.records").body(body))
}

/// Every way a request can be framed.
fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("single", single().to_bytes()),
        ("single, chunked", single().chunked(2).to_bytes()),
        ("NDJSON", ndjson("").to_bytes()),
        ("NDJSON, chunked", ndjson("").chunked(7).to_bytes()),
        ("NDJSON, stream", ndjson("?stream=1").chunked(20).to_bytes()),
        ("binary", binary().to_bytes()),
        ("binary, chunked", binary().chunked(5).to_bytes()),
    ]
}

/// Long timeouts of clients are short here.
fn impatient() -> Scene {
    let config = GatewayConfig { shard_count: 2, head_timeout: Duration::from_millis(300), ..GatewayConfig::default() };
    scene_with(config, |_| {})
}

#[test]
fn a_request_broken_off_at_any_byte_is_told_so_and_closed_cleanly() {
    let scene = scene();
    for (what, bytes) in shapes() {
        let before = scene.metric("gateway_connections_ended_total", &["reason=\"early_close\""]);
        for cut in 1..bytes.len() {
            let answers = Raw::half_closed(scene.publish, &bytes[..cut]).answers();
            assert_eq!(answers.len(), 1, "{what}, cut at {cut}: {answers:?}");
            let answer = &answers[0];
            let told = answer.summary() == "400 incomplete_request"
                || answer.body.lines().last().is_some_and(|line| line.contains("\"code\":\"incomplete_request\""));
            assert!(told, "{what}, cut at {cut}: {answer:?}");
        }
        let counted = scene.metric("gateway_connections_ended_total", &["reason=\"early_close\""]) - before;
        assert_eq!(counted, bytes.len() as u64 - 1, "{what}");
        let whole = Raw::half_closed(scene.publish, &bytes).answers();
        assert!(matches!(whole[0].status(), 200 | 201), "{what}: {whole:?}");
    }
    scene.wait_idle(0);
    assert_eq!(scene.metric("gateway_requests_total", &["status=\"500\""]), 0);
}

#[test]
fn a_client_that_vanishes_at_any_byte_leaves_nothing_behind() {
    let scene = scene();
    for (_, bytes) in shapes() {
        for cut in 0..=bytes.len() {
            let mut raw = Raw::open(scene.publish);
            raw.send(&bytes[..cut]);
        }
    }
    scene.wait_idle(0);
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "others are served").status, 201);
}

#[test]
fn a_client_that_stops_sending_gets_every_answer_it_is_owed() {
    let scene = scene();
    scene.hooks.inject(ApiKey::Produce, Fault::Delay(Duration::from_millis(150)), 3);
    let whole = [single().to_bytes(), ndjson("").to_bytes(), ndjson("?stream=1").to_bytes(), binary().to_bytes()];
    let rows = [
        (whole.concat(), vec!["201", "200", "200", "200"]),
        (Request::get("/healthz").to_bytes(), vec!["200"]),
        ([single().to_bytes(), Request::get("/nowhere").to_bytes()].concat(), vec!["201", "404 no_such_path"]),
    ];
    for (bytes, expected) in rows {
        let answers = Raw::half_closed(scene.publish, &bytes).answers();
        assert_eq!(answers.iter().map(harness::raw::Answer::summary).collect::<Vec<_>>(), expected);
    }
    // A poll that waits ends empty: the client may be gone altogether, and must not be handed messages.
    let poll = as_demo_reader(Request::get("/v1/msgs/demo/orders/v2?group=g&wait=30s")).to_bytes();
    let begun = Instant::now();
    let answers = Raw::half_closed(scene.subscribe, &[Request::get("/healthz").to_bytes(), poll].concat()).answers();
    assert_eq!(answers.iter().map(harness::raw::Answer::status).collect::<Vec<_>>(), [200, 204]);
    assert!(begun.elapsed() < Duration::from_secs(10), "at once, not when its wait is over");
    scene.wait_idle(0);
}

#[test]
fn requests_before_one_that_breaks_off_are_answered_first() {
    let part = |bytes: Vec<u8>| bytes[..bytes.len() - 3].to_vec();
    let rows = [
        ("half a head", b"POST /v1/msgs/ord".to_vec(), "400 incomplete_request", "408 request_timeout"),
        ("half a body", part(single().to_bytes()), "400 incomplete_request", "408 request_timeout"),
        ("half a chunked body", part(single().chunked(2).to_bytes()), "400 incomplete_request", "408 request_timeout"),
        ("half a batch", part(ndjson("").to_bytes()), "200", "200"),
        ("garbage", b"no request at all\r\n\r\n".to_vec(), "400 malformed_version", "400 malformed_version"),
    ];
    let check = |what: &str, broken: &[u8], ends: bool, last: &str| {
        let scene = impatient();
        assert_eq!(scene.publish("/v1/msgs/orders/v1", "warm").status, 201);
        // Longer than a head or a body may take: what is owed does not depend on it.
        let delay = Duration::from_millis(if ends { 100 } else { 1200 });
        scene.hooks.inject(ApiKey::Produce, Fault::Delay(delay), 1);
        let mut raw = Raw::open(scene.publish);
        raw.send(&[&single().to_bytes()[..], &single().to_bytes(), broken].concat());
        if ends {
            raw.stop_sending();
        }
        let answers: Vec<String> = raw.answers().iter().map(harness::raw::Answer::summary).collect();
        assert_eq!(answers, ["201", "201", last], "{what}, client {}", if ends { "ends" } else { "is silent" });
        scene.wait_idle(0);
    };
    std::thread::scope(|scope| {
        for (what, broken, when_ended, when_silent) in &rows {
            scope.spawn(|| check(what, broken, true, when_ended));
            scope.spawn(|| check(what, broken, false, when_silent));
        }
    });
}

#[test]
fn dribbled_heads_and_bodies_are_cut_off_in_time_and_stop_nobody() {
    let scene = impatient();
    let head_of = |request: Request| String::from_utf8(request.head_bytes()).expect("text");
    let long = "x".repeat(5000);
    let rows: Vec<(&str, String, &str)> = vec![
        ("head", String::new(), "POST /v1/msgs/orders/v1 HTTP/1.1\r\nX-Long: "),
        ("body", head_of(as_demo(Request::post("/v1/msgs/orders/v1").body(long.clone()))), ""),
        ("chunks", head_of(as_demo(Request::post("/v1/msgs/orders/v1").body(long.clone()).chunked(1))), "1388\r\n"),
        ("chunk extension", head_of(as_demo(Request::post("/v1/msgs/orders/v1").chunked(1))), "1;"),
        ("batch", head_of(ndjson("").body(long.clone())), "{\"value\":\""),
        ("refused body", head_of(Request::post("/v1/msgs/orders/v1").body(long)), ""),
    ];
    // Many of each, every one a byte at a time.
    let mut clients: Vec<(&str, Raw)> = Vec::new();
    for _ in 0..40 {
        for (what, head, begin) in &rows {
            let mut raw = Raw::open(scene.publish);
            raw.send(head.as_bytes());
            raw.send(begin.as_bytes());
            clients.push((what, raw));
        }
    }
    let begun = Instant::now();
    let mut bystander = scene.publisher();
    let mut served = 0;
    // Grace of a body: twice that of a head. The sweeper comes by every 500 ms.
    while begun.elapsed() < Duration::from_millis(1500) {
        for (_, raw) in &mut clients {
            raw.try_send(b"a");
        }
        assert_eq!(bystander.call(&single()).expect("others are served").status, 201);
        served += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(served >= 3, "{served} requests of others in 1.5 s");
    for (what, mut raw) in clients {
        let seen = raw.read_to_close(true); // it still sends: the end may be a reset
        if let Some(answer) = (!seen.is_empty()).then(|| answers(&seen)) {
            let expected = if what == "refused body" { 401 } else { 408 };
            assert_eq!(answer.iter().map(harness::raw::Answer::status).collect::<Vec<_>>(), [expected], "{what}");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "all were cut off in time");
    let timeouts = scene.metric("gateway_connections_ended_total", &["reason=\"timeout\""]);
    assert_eq!(timeouts, 240, "each is counted");
    drop(bystander);
    scene.wait_idle(0);
}

#[test]
fn a_client_that_does_not_read_its_receipts_is_cut_off_and_others_are_unharmed() {
    let config =
        GatewayConfig { shard_count: 1, write_timeout: Duration::from_millis(400), ..GatewayConfig::default() };
    let scene = scene_with(config, |_| {});
    let mut deaf = Raw::open(scene.publish);
    let head = ndjson("?stream=1").chunked(1).head_bytes();
    deaf.send(&head);
    let lines = "{\"value\":\"v\",\"partition\":0}\n".repeat(1000);
    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
    let begun = Instant::now();
    let mut sent = 0_u32;
    let mut bystander = scene.publisher();
    // Its receipts fill the sockets, then the gateway stops reading, then it has had enough.
    while deaf.try_send(chunk.as_bytes()) {
        sent += 1;
        assert!(sent < 10_000, "the gateway takes records of which nobody reads the receipts");
        if sent.is_multiple_of(50) {
            assert_eq!(bystander.call(&single()).expect("others are served").status, 201);
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(400), "not before its time");
    let until = Instant::now() + Duration::from_secs(5);
    while scene.metric("gateway_connections_ended_total", &["reason=\"write_stalled\""]) != 1 {
        assert!(Instant::now() < until, "counted");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(bystander.call(&single()).expect("others are served").status, 201);
    drop(bystander);
    drop(deaf);
    scene.wait_idle(0);
}

#[test]
fn a_client_that_reads_its_receipts_slowly_but_steadily_is_not_cut_off() {
    let config =
        GatewayConfig { shard_count: 1, write_timeout: Duration::from_millis(600), ..GatewayConfig::default() };
    let scene = scene_with(config, |_| {});
    let mut slow = Raw::open(scene.publish);
    let lines = "{\"value\":\"v\",\"partition\":0}\n".repeat(100_000);
    let request = ndjson("?stream=1").body(lines).to_bytes();
    let mut writer = slow.try_clone();
    let sender = std::thread::spawn(move || writer.send(&request));
    let mut seen = Vec::new();
    let begun = Instant::now();
    while !seen.ends_with(b"\r\n0\r\nX-Failed: 0\r\n\r\n") {
        let count = slow.read_some(&mut seen, 400 << 10);
        assert!(count > 0, "cut off after {} bytes and {:?}", seen.len(), begun.elapsed());
        std::thread::sleep(Duration::from_millis(150));
    }
    sender.join().expect("sent");
    assert!(begun.elapsed() > Duration::from_millis(1200), "longer than it may stall: {:?}", begun.elapsed());
    let answers = answers(&seen);
    assert_eq!(answers[0].body.lines().count(), 100_000);
}
