//! The gateway's own behaviour over real sockets, with the embedded broker behind it. What real Kafka does is proven
//! by the end-to-end tests of `tools/testkit`.

mod harness;

use embedded_kafka::Fault;
use gateway::GatewayConfig;
use harness::{APP, OTHER, OTHER_SUBKEY, PUBKEY, SUBKEY, Scene, as_demo, as_demo_reader, scene, scene_with};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use testkit::http::{Request, Response};

fn summary(response: &Response) -> String {
    match response.code() {
        Some(code) => format!("{} {code}", response.status),
        None => response.status.to_string(),
    }
}

#[test]
fn a_published_message_comes_back_with_its_key_headers_tags_and_time() {
    let scene = scene();
    // Not the time of storing, and not so old that retention takes it before it is polled.
    let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3_600);
    let sent_ms = an_hour_ago.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    let request = Request::post(&format!("/v1/msgs/orders/v1?key=k+1&timestamp={sent_ms}"))
        .header("X-Tag", "a;b")
        .header("X-Header-Source", "caf%C3%A9,second")
        .body("hello");
    let stored = scene.publisher().call(&as_demo(request)).expect("an answer");
    assert_eq!(stored.status, 201, "{}", stored.text());
    let json = stored.json().expect("JSON");
    assert_eq!(json["timestamp"], sent_ms as i64);
    assert_eq!(stored.header("X-Partition"), Some(json["partition"].to_string().as_str()));
    assert_eq!(stored.header("X-Offset"), Some("0"));
    assert!(stored.header("X-Msg-Id").is_some());

    let polled = scene.poll("/v1/msgs/demo/orders/v1?group=g&wait=10s");
    assert_eq!(polled.status, 200, "{}", polled.text());
    assert_eq!(polled.text(), "hello");
    assert_eq!(polled.header("X-Key-Base64"), Some("ayAx"), "a space is not visible ASCII");
    assert_eq!(polled.header("X-Tag"), Some("a;b"));
    assert_eq!(polled.header("X-Timestamp"), Some(sent_ms.to_string().as_str()));
    assert_eq!(polled.header("X-Header-source"), Some("caf%C3%A9"));
    assert_eq!(polled.header("Cache-Control"), Some("no-store"));
}

#[test]
fn an_empty_body_is_an_empty_value_and_null_is_a_null_value() {
    let scene = scene();
    assert_eq!(scene.publish("/v1/msgs/orders/v1?partition=0", "").status, 201);
    assert_eq!(scene.publish("/v1/msgs/orders/v1?partition=0&null=1", "").status, 201);
    assert_eq!(summary(&scene.publish("/v1/msgs/orders/v1?null=1", "x")), "400 null_with_body");
    let first = scene.poll("/v1/msgs/demo/orders/v1?group=g&wait=10s");
    assert_eq!((first.status, first.text().as_str(), first.header("X-Null")), (200, "", None));
    let second = scene.poll("/v1/msgs/demo/orders/v1?group=g&wait=10s");
    assert_eq!((second.status, second.text().as_str(), second.header("X-Null")), (200, "", Some("1")));
}

#[test]
fn every_refusal_has_its_status_and_code() {
    let scene = scene();
    let post = |target: &str| as_demo(Request::post(target).body("x"));
    let long_key = format!("/v1/msgs/orders/v1?key={}", "k".repeat(257));
    let rows: Vec<(&str, Request, &str)> = vec![
        ("no credentials", Request::post("/v1/msgs/orders/v1").body("x"), "401 not_authenticated"),
        (
            "wrong secret",
            Request::post("/v1/msgs/orders/v1").header("Appid", APP).header("Pubkey", "nope").body("x"),
            "401 not_authenticated",
        ),
        (
            "the other side's secret",
            Request::post("/v1/msgs/orders/v1").header("Appid", APP).header("Pubkey", SUBKEY).body("x"),
            "401 not_authenticated",
        ),
        (
            "two kinds of credentials",
            post("/v1/msgs/orders/v1").header("Authorization", "Basic ZGVtbzp4"),
            "400 two_credentials",
        ),
        ("no such topic", post("/v1/msgs/nothing/v1"), "404 no_such_topic"),
        ("no such version", post("/v1/msgs/orders/v9"), "404 no_such_version"),
        ("no such path", post("/v1/nothing"), "404 no_such_path"),
        ("wrong method", as_demo(Request::get("/v1/msgs/orders/v1")), "405 method_not_allowed"),
        ("too large", as_demo(Request::post("/v1/msgs/small/v1").body("x".repeat(65))), "413 message_too_large"),
        ("bad partition", post("/v1/msgs/orders/v1?partition=x"), "400 bad_parameter"),
        ("a partition there is not", post("/v1/msgs/orders/v1?partition=99"), "400 no_such_partition"),
        ("long key", post(&long_key), "400 key_too_long"),
        ("bad header encoding", post("/v1/msgs/orders/v1").header("X-Header-a", "100%"), "400 bad_header"),
    ];
    let mut connection = scene.publisher();
    for (what, request, expected) in rows {
        let answer = connection.call(&request).unwrap_or_else(|err| panic!("{what}: {err:#}"));
        assert_eq!(summary(&answer), expected, "{what}: {}", answer.text());
        assert_eq!(answer.header("Content-Type"), Some("application/json"), "{what}");
        assert_eq!(answer.status == 401, answer.header("WWW-Authenticate").is_some(), "{what}");
        assert_eq!(answer.status == 405, answer.header("Allow").is_some(), "{what}");
    }
    // The connection served all of them and still works.
    assert_eq!(connection.call(&post("/v1/msgs/orders/v1")).expect("an answer").status, 201);
}

#[test]
fn a_reset_that_comes_too_late_says_so() {
    // A group that had committed ignored `reset` without a word.
    let scene = scene();
    assert_eq!(scene.publish("/v1/msgs/orders/v1?partition=0", "before").status, 201);
    let mut live = scene.subscriber();
    for reset in ["newest", "oldest"] {
        let target = format!("/v1/msgs/demo/orders/v1?group=g&reset={reset}&wait=20s");
        live.send(&as_demo_reader(Request::get(&target))).expect("sent");
    }
    // Published until it comes: where the newest is, is found while the group joins.
    let [first, second] = std::thread::scope(|scope| {
        let reader = scope.spawn(|| [live.read().expect("an answer"), live.read().expect("another")]);
        while !reader.is_finished() {
            scene.publish("/v1/msgs/orders/v1?partition=0", "after");
            std::thread::sleep(Duration::from_millis(50));
        }
        reader.join().expect("the reader")
    });
    assert_eq!((first.status, first.text()), (200, "after".into()));
    assert_eq!(summary(&second), "409 other_reset", "live, and nothing is committed");
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let answer = scene.poll("/v1/msgs/demo/orders/v1?group=g&reset=oldest&wait=1s");
        assert_ne!(answer.text(), "before", "it began at the newest");
        if answer.header("x-reset") == Some("ignored") {
            break;
        }
        assert!(Instant::now() < until, "committed by now: {}", summary(&answer));
    }
    assert_eq!(scene.poll("/v1/msgs/demo/orders/v1?group=g&wait=0").header("x-reset"), None, "nobody asked");
}

#[test]
fn polls_are_refused_without_a_grant_and_allowed_with_one() {
    let scene = scene();
    let poll = |app: &str, key: &str, target: &str| {
        let request = Request::get(target).header("Appid", app).header("Subkey", key);
        summary(&scene.subscriber().call(&request).expect("an answer"))
    };
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "it").status, 201);
    assert_eq!(poll(OTHER, OTHER_SUBKEY, "/v1/msgs/demo/orders/v1?group=g&wait=10s"), "200");
    assert_eq!(poll(OTHER, OTHER_SUBKEY, "/v1/msgs/demo/secret/v1?group=g&wait=0"), "403 not_granted");
    assert_eq!(poll(OTHER, OTHER_SUBKEY, "/v1/msgs/demo/nothing/v1?group=g"), "404 no_such_topic");
    assert_eq!(poll(OTHER, OTHER_SUBKEY, "/v1/msgs/nobody/orders/v1?group=g"), "404 no_such_app");
    assert_eq!(poll(APP, SUBKEY, "/v1/msgs/demo/orders/v1"), "400 missing_group");
    assert_eq!(poll(APP, PUBKEY, "/v1/msgs/demo/orders/v1?group=g"), "401 not_authenticated");
}

#[test]
fn basic_credentials_work_like_the_headers() {
    let scene = scene();
    let basic = "Basic ZGVtbzpwdWJsaXNoLXNlY3JldC1vZi1kZW1v";
    let request = Request::post("/v1/msgs/orders/v1").header("Authorization", basic).body("x");
    assert_eq!(scene.publisher().call(&request).expect("an answer").status, 201);
}

#[test]
fn pipelined_publishes_are_answered_in_order() {
    let scene = scene();
    let mut connection = scene.publisher();
    let mut bytes = Vec::new();
    let count = 600; // more than the pipeline depth: the gateway stops reading and goes on
    for number in 0..count {
        // Every tenth is refused at once, and must not overtake.
        let target = if number % 10 == 3 { "/v1/msgs/nothing/v1" } else { "/v1/msgs/orders/v1?partition=1" };
        let request = Request::post(target).header("X-Request-Id", format!("r{number}")).body(format!("m{number}"));
        bytes.extend(as_demo(request).to_bytes());
    }
    connection.send_raw(&bytes).expect("sent");
    let mut next_offset = 0;
    for number in 0..count {
        let answer = connection.read().expect("an answer");
        assert_eq!(answer.header("X-Request-Id"), Some(format!("r{number}").as_str()));
        if number % 10 == 3 {
            assert_eq!(answer.status, 404);
        } else {
            assert_eq!(answer.status, 201, "{}", answer.text());
            assert_eq!(answer.header("X-Offset"), Some(next_offset.to_string().as_str()));
            next_offset += 1;
        }
    }
}

#[test]
fn chunked_bodies_and_large_bodies_arrive_whole() {
    let scene = scene();
    let large: String = (0..900_000).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
    let mut connection = scene.publisher();
    for request in [
        Request::post("/v1/msgs/orders/v1?partition=0").body(large.clone()).chunked(7919),
        Request::post("/v1/msgs/orders/v1?partition=0").body(large.clone()),
        Request::post("/v1/msgs/orders/v1?partition=0").body("small").chunked(2),
    ] {
        let answer = connection.call(&as_demo(request)).expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.text());
    }
    for expected in [large.as_str(), large.as_str(), "small"] {
        let polled = scene.poll("/v1/msgs/demo/orders/v1?group=g&wait=10s");
        assert_eq!(polled.status, 200);
        assert_eq!(polled.text(), expected);
    }
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it_or_the_refusal() {
    let scene = scene();
    let mut connection = scene.publisher();
    let request = as_demo(Request::post("/v1/msgs/orders/v1").header("Expect", "100-continue").body("waited"));
    connection.send_raw(&request.head_bytes()).expect("sent");
    assert_eq!(connection.read_interim().expect("an interim answer").status, 100);
    connection.send_raw(b"waited").expect("sent");
    assert_eq!(connection.read().expect("an answer").status, 201);

    let mut connection = scene.publisher();
    let request =
        Request::post("/v1/msgs/orders/v1").header("Expect", "100-continue").header("Appid", "x").body("never sent");
    connection.send_raw(&request.head_bytes()).expect("sent");
    let answer = connection.read().expect("an answer");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("Connection"), Some("close"), "the body may still come, so the connection is done");
}

#[test]
fn a_100_continue_comes_in_its_turn_and_only_to_who_still_waits() {
    let scene = scene();
    assert_eq!(scene.publish("/v1/msgs/orders/v1?partition=0", "warm").status, 201);
    let first = as_demo(Request::post("/v1/msgs/orders/v1?partition=0").body("first")).to_bytes();
    let single = as_demo(Request::post("/v1/msgs/orders/v1?partition=0").header("Expect", "100-continue").body("x"));
    let lines = "{\"value\":\"y\",\"partition\":0}";
    let batch = as_demo(Request::post("/v1/msgs/orders/v1/batch").header("Content-Type", "application/x-ndjson"));
    let batch = batch.header("Expect", "100-continue").body(lines);
    for (request, body) in [
        (&single, b"x".to_vec()),
        (&batch, lines.into()),
        (&single.clone().chunked(1), b"1\r\nx\r\n0\r\n\r\n".to_vec()),
    ] {
        // It waits behind an answer that is not there yet.
        scene.hooks.inject(ApiKey::Produce, Fault::Delay(Duration::from_millis(200)), 1);
        let mut raw = harness::raw::Raw::open(scene.publish);
        raw.send(&first);
        raw.send(&request.head_bytes());
        let answer = raw.until("\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 201 "), "the answer comes first: {answer}");
        raw.until("HTTP/1.1 100 Continue\r\n\r\n");
        raw.send(&body);
        assert!(raw.until("\r\n\r\n").starts_with("HTTP/1.1 20"));
        // It does not wait after all: sent with the body, or before its turn.
        for gap in [Duration::ZERO, Duration::from_millis(50)] {
            scene.hooks.inject(ApiKey::Produce, Fault::Delay(Duration::from_millis(400)), 1);
            let mut raw = harness::raw::Raw::open(scene.publish);
            raw.send(&first);
            raw.send(&request.head_bytes());
            std::thread::sleep(gap);
            raw.send(&body);
            raw.stop_sending();
            let statuses: Vec<u16> = raw.answers().iter().map(harness::raw::Answer::status).collect();
            assert!(matches!(statuses[..], [201, 200 | 201]), "no stray 100: {statuses:?}");
        }
    }
}

#[test]
fn a_body_split_at_every_byte_is_the_same_message() {
    let scene = scene();
    let request = as_demo(Request::post("/v1/msgs/orders/v1?partition=2").body("split")).to_bytes();
    let mut connection = scene.publisher();
    for at in 1..request.len() {
        connection.send_raw(&request[..at]).expect("sent");
        std::thread::sleep(Duration::from_micros(300));
        connection.send_raw(&request[at..]).expect("sent");
        let answer = connection.read().expect("an answer");
        assert_eq!((answer.status, answer.header("X-Offset")), (201, Some((at - 1).to_string().as_str())));
    }
}

#[test]
fn malformed_requests_get_their_status_and_the_connection_ends() {
    let scene = scene();
    let rows: &[(&[u8], u16)] = &[
        (b"POST /v1/msgs/orders/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (
            b"POST /v1/msgs/orders/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"POST /v1/msgs/orders/v1 HTTP/1.1\nHost: x\n\n", 400),
        (b"GARBAGE\r\n\r\n", 400),
        (b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ];
    for (bytes, status) in rows {
        let mut connection = scene.publisher();
        connection.send_raw(bytes).expect("sent");
        let shown = String::from_utf8_lossy(bytes);
        let answer = connection.read().unwrap_or_else(|err| panic!("{shown}: {err:#}"));
        assert_eq!(answer.status, *status, "{shown}: {}", answer.text());
        assert!(connection.is_closed_within(Duration::from_secs(3)).expect("readable"), "{shown}");
    }
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "others are unharmed").status, 201);
}

#[test]
fn a_broken_broker_connection_stores_the_message_once() {
    let scene = scene();
    scene.hooks.inject(ApiKey::Produce, Fault::ApplyThenDisconnect, 1);
    let answer = scene.publish("/v1/msgs/orders/v1?partition=0", "once");
    assert_eq!((answer.status, answer.header("X-Offset")), (201, Some("0")), "{}", answer.text());
    scene.hooks.inject(ApiKey::Produce, Fault::Disconnect, 2);
    let answer = scene.publish("/v1/msgs/orders/v1?partition=0", "again");
    assert_eq!((answer.status, answer.header("X-Offset")), (201, Some("1")), "{}", answer.text());
}

#[test]
fn a_silent_broker_is_504_and_a_refusing_one_503() {
    let scene = scene();
    assert_eq!(scene.publish("/v1/msgs/orders/v1?partition=0", "warm").status, 201);
    scene.hooks.inject(ApiKey::Produce, Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS), 1000);
    let answer = scene.publish("/v1/msgs/orders/v1?partition=1&timeout=300ms", "refused");
    assert_eq!(summary(&answer), "503 kafka_unavailable", "{}", answer.text());
    assert!(answer.header("Retry-After").is_some());
    scene.hooks.clear();
    assert_eq!(scene.publish("/v1/msgs/orders/v1?partition=1", "well again").status, 201);
    // Last, because the connection stays silent until its request timeout.
    scene.hooks.inject(ApiKey::Produce, Fault::Silence, 1);
    let answer = scene.publish("/v1/msgs/orders/v1?partition=0&timeout=300ms", "lost");
    assert_eq!(summary(&answer), "504 outcome_unknown", "{}", answer.text());
}

#[test]
fn a_garbage_answer_of_the_broker_harms_nobody() {
    let scene = scene();
    assert_eq!(scene.publish("/v1/msgs/orders/v1?partition=0", "warm").status, 201);
    scene.hooks.inject(ApiKey::Produce, Fault::Garbage(vec![0xff; 64]), 1);
    let answer = scene.publish("/v1/msgs/orders/v1?partition=0", "after garbage");
    assert_eq!(answer.status, 201, "{}", answer.text());
}

#[test]
fn many_groups_and_connections_get_every_message_once() {
    let scene = scene();
    let total = 200;
    let mut connection = scene.publisher();
    for number in 0..total {
        let request = Request::post("/v1/msgs/orders/v2").body(number.to_string());
        assert_eq!(connection.call(&as_demo(request)).expect("an answer").status, 201);
    }
    for group in ["g1", "g2", "g3"] {
        let mut seen = BTreeSet::new();
        let until = Instant::now() + Duration::from_secs(20);
        while seen.len() < total && Instant::now() < until {
            // A fresh connection each time: clients come and go without a rebalance.
            let answer = scene.poll(&format!("/v1/msgs/demo/orders/v2?group={group}&batch=17&wait=2s"));
            if answer.status == 204 {
                continue;
            }
            assert_eq!(answer.status, 200, "{}", answer.text());
            let mut rest = &answer.body[..];
            while !rest.is_empty() {
                let length = i32::from_be_bytes(rest[12..16].try_into().expect("four bytes")) as usize;
                let value = std::str::from_utf8(&rest[16..16 + length]).expect("text").to_owned();
                assert!(seen.insert(value.clone()), "{group} got {value} twice");
                rest = &rest[16 + length..];
            }
        }
        assert_eq!(seen.len(), total, "{group}");
    }
}

#[test]
fn a_client_that_leaves_is_handed_nothing_even_if_it_asked_to_close() {
    let scene = scene();
    for connection_header in ["keep-alive", "close"] {
        let group = format!("g-{connection_header}");
        let target = format!("/v1/msgs/demo/orders/v1?group={group}&wait=20s&reset=newest");
        // The group's member stands before anybody leaves.
        assert_eq!(scene.poll(&target.replace("20s", "1s")).status, 204);
        let mut leaver = scene.subscriber();
        leaver.send(&as_demo_reader(Request::get(&target).header("Connection", connection_header))).expect("sent");
        std::thread::sleep(Duration::from_millis(200));
        drop(leaver);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(scene.publish("/v1/msgs/orders/v1", connection_header).status, 201);
        let polled = scene.poll(&target);
        assert_eq!((polled.status, polled.text().as_str()), (200, connection_header));
    }
}

#[test]
fn an_open_poll_ends_when_its_grant_is_taken_away() {
    let mut scene = scene();
    let request =
        Request::get("/v1/msgs/demo/orders/v1?group=g&wait=30s").header("Appid", OTHER).header("Subkey", OTHER_SUBKEY);
    let mut connection = scene.subscriber();
    connection.send(&request).expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    scene.change(|doc| doc.grants.clear());
    let answer = connection.read().expect("an answer");
    assert_eq!(summary(&answer), "403 not_granted");
}

#[test]
fn a_new_topic_version_is_served_with_the_next_snapshot() {
    let mut scene = scene();
    assert_eq!(scene.publish("/v1/msgs/orders/v3", "x").status, 404);
    scene.change(|doc| {
        let mut topic = doc.topics[0].clone();
        topic.index = 99;
        topic.ver = model::ids::TopicVersion::new("v3").expect("valid");
        doc.topics.push(topic);
    });
    assert_eq!(scene.publish("/v1/msgs/orders/v3", "x").status, 201);
}

#[test]
fn failed_logins_are_limited_and_right_credentials_never_are() {
    let scene = scene();
    let wrong = Request::post("/v1/msgs/orders/v1").header("Appid", APP).header("Pubkey", "wrong").body("x");
    let mut connection = scene.publisher();
    let mut statuses = Vec::new();
    for _ in 0..35 {
        statuses.push(connection.call(&wrong).expect("an answer").status);
    }
    assert_eq!(statuses[..30], [401; 30]);
    assert_eq!(statuses[30..], [429; 5]);
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "right").status, 201);
}

#[test]
fn a_spent_memory_budget_is_503_and_comes_back() {
    let config = GatewayConfig { shard_count: 1, memory_bytes: 16 << 20, ..GatewayConfig::default() };
    let scene = scene_with(config, |doc| doc.topics[0].options.message_bytes_max = 8_000_000);
    let mut connection = scene.publisher();
    // A tenant may hold a quarter of 16 MiB.
    let head = as_demo(Request::post("/v1/msgs/orders/v1"))
        .header("Expect", "100-continue")
        .body(vec![b'x'; 900_000])
        .head_bytes();
    let mut held: Vec<_> = (0..4)
        .map(|_| {
            let mut connection = scene.publisher();
            connection.send_raw(&head).expect("sent");
            assert_eq!(connection.read_interim().expect("an interim answer").status, 100);
            connection
        })
        .collect();
    let refused = connection.call(&as_demo(Request::post("/v1/msgs/orders/v1").body(vec![b'x'; 900_000])));
    let refused = refused.expect("an answer");
    assert_eq!(summary(&refused), "503 overloaded", "{}", refused.text());
    held.clear();
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let mut connection = scene.publisher();
        let answer = connection.call(&as_demo(Request::post("/v1/msgs/orders/v1").body(vec![b'x'; 900_000])));
        if answer.expect("an answer").status == 201 {
            break;
        }
        assert!(Instant::now() < until, "the budget did not come back");
    }
}

#[test]
fn health_endpoints_need_no_credentials_and_name_the_clusters() {
    let scene = scene();
    for target in ["/alive", "/healthz", "/readyz"] {
        let answer = scene.publisher().call(&Request::get(target)).expect("an answer");
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    }
    let ready = scene.publisher().call(&Request::get("/readyz")).expect("an answer").json().expect("JSON");
    assert_eq!(ready["clusters"]["main"]["up"], true);
    scene.gateway.announce_drain();
    for (target, status) in [("/alive", 503), ("/readyz", 503), ("/healthz", 200)] {
        let answer = scene.publisher().call(&Request::get(target)).expect("an answer");
        assert_eq!(answer.status, status, "{target} while draining");
    }
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "still served").status, 201);
}

#[test]
fn drain_ends_polls_with_204_finishes_publishes_and_stops() {
    let Scene { gateway, publish, subscribe, hooks, .. } = &scene();
    let mut poller = testkit::http::Connection::open(&subscribe.to_string()).expect("connects");
    poller.send(&as_demo_reader(Request::get("/v1/msgs/demo/orders/v1?group=g&wait=60s"))).expect("sent");
    let mut publisher = testkit::http::Connection::open(&publish.to_string()).expect("connects");
    let warm = as_demo(Request::post("/v1/msgs/orders/v2").body("warm"));
    assert_eq!(publisher.call(&warm).expect("an answer").status, 201);
    hooks.inject(ApiKey::Produce, Fault::Delay(Duration::from_millis(400)), 1);
    publisher.send(&as_demo(Request::post("/v1/msgs/orders/v2").body("in flight"))).expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    gateway.announce_drain();
    gateway.drain();
    assert_eq!(poller.read().expect("an answer").status, 204);
    assert_eq!(publisher.read().expect("an answer").status, 201, "publishes in flight finish");
    let until = Instant::now() + Duration::from_secs(5);
    while !gateway.is_finished() {
        assert!(Instant::now() < until, "the shards did not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(testkit::http::Connection::open(&publish.to_string()).is_err(), "nobody listens any more");
}

#[test]
fn what_is_in_flight_at_the_drain_limit_is_answered() {
    let scene = scene();
    let mut publisher = scene.publisher();
    let warm = as_demo(Request::post("/v1/msgs/orders/v2?partition=0").body("warm"));
    assert_eq!(publisher.call(&warm).expect("an answer").status, 201);
    scene.hooks.inject(ApiKey::Produce, Fault::Silence, 10);
    publisher.send(&as_demo(Request::post("/v1/msgs/orders/v2?partition=0").body("hangs"))).expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    scene.gateway.drain();
    scene.gateway.stop();
    assert_eq!(summary(&publisher.read().expect("an answer")), "504 outcome_unknown");
}

#[test]
fn the_access_log_has_every_request_when_the_shards_have_ended() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("access.log");
    let config = GatewayConfig { shard_count: 2, ..GatewayConfig::default() };
    let scene = harness::scene_beside(&[], config, Some(path.clone()), |_| {});
    for number in 0..10 {
        let request = Request::post("/v1/msgs/orders/v1").header("X-Request-Id", format!("r{number}")).body("x");
        assert_eq!(scene.publisher().call(&as_demo(request)).expect("an answer").status, 201);
    }
    scene.gateway.drain();
    scene.gateway.join().expect("no shard panicked");
    let log = std::fs::read_to_string(&path).expect("a file");
    for number in 0..10 {
        assert!(log.lines().any(|line| line.ends_with(&format!(" r{number}"))), "r{number} is missing: {log}");
    }
}
