//! What clients are told when Kafka misbehaves: every request ends in a status within its own timeout, 503 when nothing
//! was stored and 504 when nobody knows, singly and in batches, and nothing is left behind.

mod harness;

use embedded_kafka::Fault;
use gateway::GatewayConfig;
use harness::{Scene, as_demo, scene, scene_at};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use testkit::http::{Request, Response};

const TIMEOUT: Duration = Duration::from_millis(400);
/// Beyond its timeout a request may take so long: ticks of the client, and a machine that does other things as well.
const SLACK: Duration = Duration::from_millis(1500);

fn single(query: &str) -> Request {
    single_within(TIMEOUT, query)
}

fn single_within(timeout: Duration, query: &str) -> Request {
    let target = format!("/v1/msgs/orders/v1?partition=0&timeout={}ms{query}", timeout.as_millis());
    as_demo(Request::post(&target).body("x"))
}

fn batch(query: &str) -> Request {
    batch_within(TIMEOUT, query)
}

fn batch_within(timeout: Duration, query: &str) -> Request {
    let lines = "{\"value\":\"a\",\"partition\":0}\n{\"value\":\"b\",\"partition\":0}\n";
    let target = format!("/v1/msgs/orders/v1/batch?timeout={}ms{query}", timeout.as_millis());
    as_demo(Request::post(&target).header("Content-Type", "application/x-ndjson").body(lines))
}

/// `503 kafka_unavailable`; of a batch also the receipts, equal ones once: `503: 2 of 503 kafka_unavailable`.
fn outcome(answer: &Response) -> String {
    if let Some(code) = answer.code() {
        return format!("{} {code}", answer.status);
    }
    if answer.header("X-Failed").is_none() && answer.header("Trailer").is_none() {
        return answer.status.to_string();
    }
    let mut receipts: Vec<String> = answer
        .text()
        .lines()
        .map(|line| {
            let receipt: serde_json::Value = serde_json::from_str(line).expect("a receipt");
            match receipt.get("code") {
                Some(code) => format!("{} {}", receipt["status"], code.as_str().unwrap_or_default()),
                None => "stored".to_owned(),
            }
        })
        .collect();
    let count = receipts.len();
    receipts.dedup();
    format!("{}: {count} of {}", answer.status, receipts.join(", "))
}

/// Asks on one connection, and says what came in time.
fn ask(scene: &Scene, what: &str, request: &Request) -> String {
    let begun = Instant::now();
    let answer = scene.publisher().call(request).unwrap_or_else(|err| panic!("{what}: {err:#}"));
    let elapsed = begun.elapsed();
    assert!(elapsed < TIMEOUT + SLACK, "{what}: {} took {elapsed:?}", outcome(&answer));
    if answer.status == 503 {
        assert!(answer.header("Retry-After").is_some(), "{what}");
    }
    outcome(&answer)
}

/// Asks each on a connection of its own, all at once.
fn ask_at_once<const N: usize>(scene: &Scene, what: &str, requests: [Request; N]) -> [String; N] {
    std::thread::scope(|scope| {
        let asked = requests.map(|request| scope.spawn(move || ask(scene, what, &request)));
        asked.map(|asked| asked.join().expect("answered"))
    })
}

type Manners = fn(TcpStream);

/// Reads a request and answers it with these bytes, then stays silent.
fn answer(mut stream: TcpStream, bytes: &[u8]) {
    let mut length = [0; 4];
    if stream.read_exact(&mut length).is_ok() {
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        let _ = stream.read_exact(&mut request);
        let _ = stream.write_all(bytes);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// Somebody at a port who is no broker.
fn impostor(manners: Manners) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    // Ends with the test process; connections are the gateway's and few.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || manners(stream));
        }
    });
    address
}

#[test]
fn behind_something_that_is_no_broker_nothing_is_stored_and_everybody_is_told_in_time() {
    let rows: Vec<(&str, SocketAddr)> = vec![
        // A port that no other test is given by chance.
        ("nobody listens", SocketAddr::from(([127, 0, 0, 1], 1))),
        ("accepts and never answers", impostor(|stream| drop((&stream).read_to_end(&mut Vec::new())))),
        ("closes at once", impostor(drop)),
        ("closes after the request", impostor(|stream| drop((&stream).read(&mut [0; 4096])))),
        ("half a length", impostor(|stream| answer(stream, &[0, 0]))),
        ("half a frame", impostor(|stream| answer(stream, &[0, 0, 1, 0, 0, 0, 0, 1, 0, 0]))),
        ("an empty frame", impostor(|stream| answer(stream, &[0, 0, 0, 0]))),
        ("a negative length", impostor(|stream| answer(stream, &[0xff; 64]))),
        ("a length of 2 GiB", impostor(|stream| answer(stream, &[0x7f, 0xff, 0xff, 0xff, 1, 2, 3, 4]))),
        ("a stranger's correlation id", impostor(|stream| answer(stream, &[0, 0, 0, 6, 9, 9, 9, 9, 0, 0]))),
        ("garbage", impostor(|stream| answer(stream, &[0, 0, 0, 40, 0, 0, 0, 0].repeat(6)))),
        ("a web server", impostor(|stream| answer(stream, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"))),
        ("a TLS server", impostor(|stream| answer(stream, &[0x15, 3, 3, 0, 2, 2, 50]))),
    ];
    // They mostly wait.
    for rows in rows.chunks(7) {
        std::thread::scope(|scope| rows.iter().for_each(|row| drop(scope.spawn(|| check_impostor(row.0, row.1)))));
    }
}

fn check_impostor(what: &str, address: SocketAddr) {
    let config = GatewayConfig { shard_count: 1, ..GatewayConfig::default() };
    let scene = scene_at(&[("main", address)], config, None, |_| {});
    let requests = [single(""), single("&ack=local"), batch(""), batch("&stream=1")];
    let expected = [
        "503 kafka_unavailable",
        "503 kafka_unavailable",
        "503: 2 of 503 kafka_unavailable",
        "200: 2 of 503 kafka_unavailable",
    ];
    assert_eq!(ask_at_once(&scene, what, requests), expected, "{what}");
    let poll = harness::as_demo_reader(Request::get("/v1/msgs/demo/orders/v1?group=g&wait=250ms"));
    let begun = Instant::now();
    let polled = scene.subscriber().call(&poll).expect("an answer");
    assert_eq!(outcome(&polled), "503 kafka_unavailable", "{what}: a poll");
    assert!(begun.elapsed() < TIMEOUT + SLACK, "{what}: the poll took {:?}", begun.elapsed());
    let ready = scene.publisher().call(&Request::get("/readyz")).expect("an answer");
    assert_eq!(ready.status, 503, "{what}: {}", ready.text());
    let alive = scene.publisher().call(&Request::get("/alive")).expect("an answer");
    assert_eq!(alive.status, 200, "{what}: {}", alive.text());
    scene.wait_idle(0);
    assert_eq!(scene.metric("gateway_requests_total", &["status=\"500\""]), 0, "{what}");
}

#[test]
fn a_broker_that_fails_in_the_middle_means_503_when_nothing_was_stored_and_504_when_nobody_knows() {
    const ALWAYS: usize = 100_000;
    const UNAVAILABLE: &str = "503 kafka_unavailable";
    const UNKNOWN: &str = "504 outcome_unknown";
    let garbage = |bytes: &[u8]| Fault::Garbage(bytes.to_vec());
    let rows = [
        // (what, fault, times, acks=all, acks=local)
        ("never answers", Fault::Silence, ALWAYS, UNKNOWN, UNKNOWN),
        ("half a frame, then nothing", garbage(&[0, 0, 1, 0, 0, 0, 0, 1]), ALWAYS, UNKNOWN, UNKNOWN),
        ("too late", Fault::Delay(Duration::from_secs(3)), ALWAYS, UNKNOWN, UNKNOWN),
        ("closes every time", Fault::Disconnect, ALWAYS, UNKNOWN, UNKNOWN),
        // An idempotent producer asks again and is told of the first time; the others cannot know.
        ("closes once", Fault::Disconnect, 1, "stored", UNKNOWN),
        ("stores, then closes", Fault::ApplyThenDisconnect, 1, "stored", UNKNOWN),
        ("garbage once", garbage(&[0xff; 64]), 1, "stored", UNKNOWN),
        ("an empty frame once", garbage(&[0; 4]), 1, "stored", UNKNOWN),
        // With acks=all a leader appends first, and may lose the partition while it waits for its followers.
        ("not the leader", Fault::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER), ALWAYS, UNKNOWN, UNAVAILABLE),
        ("not the leader once", Fault::Error(ErrorCode::NOT_LEADER_OR_FOLLOWER), 1, "stored", "stored"),
        ("not enough replicas", Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS), ALWAYS, UNAVAILABLE, UNAVAILABLE),
        ("replicas too late", Fault::Error(ErrorCode::REQUEST_TIMED_OUT), ALWAYS, UNKNOWN, UNKNOWN),
        ("an error of its own", Fault::Error(ErrorCode::UNKNOWN_SERVER_ERROR), ALWAYS, UNKNOWN, UNKNOWN),
        ("refused", Fault::Error(ErrorCode::INVALID_RECORD), ALWAYS, "400 rejected_by_kafka", "400 rejected_by_kafka"),
        (
            "too large",
            Fault::Error(ErrorCode::MESSAGE_TOO_LARGE),
            ALWAYS,
            "413 message_too_large",
            "413 message_too_large",
        ),
        (
            "we may not",
            Fault::Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            ALWAYS,
            "503 kafka_denied",
            "503 kafka_denied",
        ),
    ];
    let mut cases = Vec::new();
    for (what, fault, times, all, local) in &rows {
        for (acks, expected) in [("&ack=all", *all), ("&ack=local", *local)] {
            for batched in [false, true] {
                let what = format!("{what}, {acks}{}", if batched { ", batch" } else { "" });
                cases.push(move || check_fault(&what, fault, *times, acks, batched, expected));
            }
        }
    }
    // They mostly wait.
    for cases in cases.chunks(8) {
        std::thread::scope(|scope| cases.iter().for_each(|case| drop(scope.spawn(case))));
    }
}

fn check_fault(what: &str, fault: &Fault, times: usize, acks: &str, batched: bool, expected: &str) {
    let scene = scene();
    let (request, stored) = if batched { (batch(acks), "200: 2 of stored") } else { (single(acks), "201") };
    // What does not end by its timeout may take what a busy machine needs.
    let long = Duration::from_secs(20);
    let patient = if batched { batch_within(long, acks) } else { single_within(long, acks) };
    let calm = |request: &Request| outcome(&scene.publisher().call(request).expect("an answer"));
    assert_eq!(calm(&patient), stored, "{what}: before");
    scene.hooks.inject(ApiKey::Produce, fault.clone(), times);
    let seen = if times == 1 { calm(&patient) } else { ask(&scene, what, &request) };
    match (expected, batched) {
        ("stored", _) => assert_eq!(seen, stored, "{what}"),
        (refused, false) => assert_eq!(seen, refused, "{what}"),
        (refused, true) => assert_eq!(seen, format!("{}: 2 of {refused}", &refused[..3]), "{what}"),
    }
    scene.hooks.clear();
    scene.wait_idle(0);
}

#[test]
fn brokers_that_refuse_a_producer_id_are_published_to_without_one_and_that_is_a_metric() {
    let scene = scene();
    assert_eq!(scene.metric("gateway_clusters_without_idempotence", &[]), 0);
    scene.hooks.inject(ApiKey::InitProducerId, Fault::Error(ErrorCode::CLUSTER_AUTHORIZATION_FAILED), 1000);
    let answer = scene.publisher().call(&single_within(Duration::from_secs(20), "&ack=all")).expect("an answer");
    assert_eq!(answer.status, 201, "{}", answer.text());
    let until = Instant::now() + Duration::from_secs(5);
    while scene.metric("gateway_clusters_without_idempotence", &[]) == 0 {
        assert!(Instant::now() < until, "it is told");
        std::thread::sleep(Duration::from_millis(10));
    }
}
