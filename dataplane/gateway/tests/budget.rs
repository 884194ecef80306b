//! The memory budget: what is charged, that a spent one is a 503 and never the end of the connection or of others, and
//! that every byte comes back.

mod harness;

use gateway::GatewayConfig;
use harness::raw::Raw;
use harness::{Scene, as_demo, scene_with};
use std::io::Write as _;
use std::time::{Duration, Instant};
use testkit::http::{Connection, Request, Response};

/// One shard with 16 MiB: a tenant may hold 4 MiB.
fn small() -> Scene {
    let config = GatewayConfig { shard_count: 1, memory_bytes: 16 << 20, ..GatewayConfig::default() };
    scene_with(config, |_| {})
}

/// Messages that are announced and not sent; they hold their size.
fn hold(scene: &Scene, sizes: &[usize]) -> Vec<Connection> {
    let announce = |size: &usize| {
        let request = as_demo(Request::post("/v1/msgs/orders/v1").header("Expect", "100-continue"));
        let mut connection = scene.publisher();
        connection.send_raw(&request.body(vec![b'x'; *size]).head_bytes()).expect("sent");
        assert_eq!(connection.read_interim().expect("an interim answer").status, 100);
        connection
    };
    sizes.iter().map(announce).collect()
}

fn summary(answer: &Response) -> String {
    match answer.code() {
        Some(code) => format!("{} {code}", answer.status),
        None => answer.status.to_string(),
    }
}

/// Refused while the budget is spent, on a connection that is used on; stored once it is back.
fn check_refused_then_stored(request: &Request) {
    let scene = small();
    let mut connection = scene.publisher();
    let held = hold(&scene, &[950_000; 4]);
    let answer = connection.call(request).expect("an answer");
    assert_eq!(summary(&answer), "503 overloaded", "{}", answer.text());
    assert_eq!((answer.header("Retry-After"), answer.header("Connection")), (Some("1"), None));
    assert!(scene.metric("gateway_refused_total", &["memory_tenant"]) >= 1, "counted");
    // Small messages still find room, here and on others' connections.
    let small = as_demo(Request::post("/v1/msgs/orders/v1").body("small"));
    assert_eq!(connection.call(&small).expect("goes on").status, 201);
    assert_eq!(connection.call(&small.chunked(2)).expect("goes on").status, 201);
    drop(held);
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let answer = connection.call(request).expect("an answer");
        if answer.status == 201 {
            break;
        }
        assert!(Instant::now() < until, "the budget did not come back: {}", answer.text());
    }
    drop(connection);
    scene.wait_idle(0);
}

#[test]
fn a_budget_spent_in_the_middle_of_a_chunked_body_is_503_and_the_rest_is_passed_over() {
    check_refused_then_stored(&as_demo(Request::post("/v1/msgs/orders/v1").body(vec![b'x'; 900_000]).chunked(10_000)));
}

#[test]
fn a_budget_spent_while_a_body_is_decoded_is_503() {
    for coding in ["gzip", "zstd"] {
        let plain: Vec<u8> = (0..900_000_u32).map(|at| (at / 1000) as u8).collect();
        let body = match coding {
            "gzip" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(&plain).expect("to memory");
                encoder.finish().expect("to memory")
            }
            _ => zstd::encode_all(&plain[..], 3).expect("to memory"),
        };
        assert!(body.len() < 20_000, "it comes with its head or soon after");
        check_refused_then_stored(&as_demo(
            Request::post("/v1/msgs/orders/v1").header("Content-Encoding", coding).body(body),
        ));
    }
}

#[test]
fn chunked_bodies_are_charged_as_they_come_not_with_the_largest_message() {
    let scene = small();
    let head = as_demo(Request::post("/v1/msgs/orders/v1")).chunked(1).head_bytes();
    // Each might become 1,000,000 bytes; together they have sent 1 MB.
    let mut open: Vec<Raw> = (0..100)
        .map(|_| {
            let mut raw = Raw::open(scene.publish);
            raw.send(&head);
            raw.chunk(&"x".repeat(10_000));
            raw
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(5);
    while scene.metric("gateway_memory_reserved_bytes", &[]) < 1_000_000 {
        assert!(Instant::now() < until, "what came is charged");
        std::thread::sleep(Duration::from_millis(10));
    }
    for raw in &mut open {
        raw.send(b"0\r\n\r\n");
        assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 201 "));
    }
    drop(open);
    scene.wait_idle(0);
}

#[test]
fn a_chunked_message_that_waits_for_kafka_holds_its_own_size() {
    let scene = small();
    assert_eq!(scene.publish("/v1/msgs/orders/v1?partition=0", "warm").status, 201);
    scene.hooks.inject(
        kafka_wire::api_key::ApiKey::Produce,
        embedded_kafka::Fault::Delay(Duration::from_millis(1500)),
        1,
    );
    let target = "/v1/msgs/orders/v1?partition=0";
    let mut waiting: Vec<Connection> = (0..20)
        .map(|_| {
            let mut connection = scene.publisher();
            let body = vec![b'x'; 20_000];
            connection.send(&as_demo(Request::post(target).body(body).chunked(5_000))).expect("sent");
            connection
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let waiting = scene.metric("gateway_publishes_waiting", &[]);
        let reserved = scene.metric("gateway_memory_reserved_bytes", &[]);
        if waiting == 20 {
            assert!((400_000..420_000).contains(&reserved), "20 messages of 20,000 bytes hold {reserved}");
            break;
        }
        assert!(Instant::now() < until, "{waiting} wait");
        std::thread::sleep(Duration::from_millis(10));
    }
    for connection in &mut waiting {
        assert_eq!(connection.read().expect("an answer").status, 201);
    }
}

#[test]
fn many_half_heads_are_refused_and_whole_requests_are_not() {
    let scene = small();
    let half = b"GET /healthz HTTP/1.1\r\nX-Long: ";
    // 256 buffers of 16 KiB are all that clients without a name may hold here.
    let mut open: Vec<Raw> = (0..300)
        .map(|_| {
            let mut raw = Raw::open(scene.publish);
            raw.send(half);
            raw
        })
        .collect();
    let until = Instant::now() + Duration::from_secs(5);
    while scene.metric("gateway_requests_total", &["status=\"503\""]) < 300 - 256 {
        assert!(Instant::now() < until, "too many are refused");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(scene.metric("gateway_requests_total", &["status=\"503\""]), 300 - 256);
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "others are served").status, 201);
    for raw in open.drain(..).rev().take(300 - 256) {
        let answer = Raw::answers(&mut { raw });
        assert_eq!((answer[0].summary().as_str(), answer[0].closes()), ("503 overloaded", true));
    }
    scene.wait_idle(0);
    let mut raw = Raw::open(scene.publish);
    raw.send(half);
    std::thread::sleep(Duration::from_millis(50));
    raw.send(b"x\r\nHost: x\r\n\r\n");
    assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 200 "), "there is room again");
}
