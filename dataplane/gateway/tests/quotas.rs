//! What was set for an app or a topic is what it gets, whichever way it asks, and others are not concerned.

mod harness;

use gateway::GatewayConfig;
use harness::{APP, OTHER_SUBKEY, PUBKEY, SUBKEY, Scene, as_demo, as_demo_reader, scene, scene_with};
use model::ids::{AppId, ClusterName};
use model::quota::{Limits, Measure};
use model::{Addresses, GrantDoc, SnapshotDoc};
use std::time::{Duration, Instant};
use testkit::http::{Connection, Request, Response};

type Change = fn(&mut SnapshotDoc);

fn limited(change: Change) -> Scene {
    scene_with(GatewayConfig { shard_count: 2, ..GatewayConfig::default() }, change)
}

/// The status, and the code of a refusal.
fn shown(response: &Response) -> String {
    match response.code() {
        Some(code) => format!("{} {code}", response.status),
        None => response.status.to_string(),
    }
}

/// Asks for the same again and again on one connection; how many were let through, and the last refusal.
fn flood(connection: &mut Connection, count: usize, request: &Request) -> (usize, Option<Response>) {
    let (mut passed, mut refused) = (0, None);
    for _ in 0..count {
        let answer = connection.call(request).expect("an answer, on the same connection");
        match answer.status {
            200 | 201 => passed += 1,
            429 => refused = Some(answer),
            _ => panic!("{}: {}", answer.status, answer.text()),
        }
    }
    (passed, refused)
}

fn wait_for_connections(scene: &Scene, count: u64) {
    let until = Instant::now() + Duration::from_secs(10);
    while scene.metric("gateway_connections", &[]) > count {
        assert!(Instant::now() < until, "more than {count} connections are open");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// That as many passed as a bucket of `limit` a second lets through, which has a second and a half of it.
fn assert_within(what: &str, passed: usize, limit: usize, since: Instant) {
    let most = limit as f64 * (1.5 + since.elapsed().as_secs_f64()) + 1.0;
    assert!(passed >= limit && passed as f64 <= most, "{what}: {passed} of {limit} a second, at most {most}");
}

#[test]
fn a_publish_beyond_the_limit_is_429_with_retry_after_and_the_connection_lives_on() {
    const TARGET: &str = "/v1/msgs/orders/v1?key=k";
    let app = |doc: &mut SnapshotDoc| doc.apps[0].limits = Limits::default().with(Measure::PublishMessages, 20);
    let topic = |doc: &mut SnapshotDoc| doc.topics[0].limits = Limits::default().with(Measure::PublishMessages, 20);
    let bytes = |doc: &mut SnapshotDoc| doc.apps[0].limits = Limits::default().with(Measure::PublishBytes, 220);
    let rows: [(&str, Change, &str); 3] = [
        ("of the app", app, "app demo may publish 20 messages/s, and that is spent; try again in 1 s"),
        ("of the topic", topic, "topic demo/orders/v1 may publish 20 messages/s, and that is spent; try again in 1 s"),
        ("bytes of value and key", bytes, "app demo may publish 220 bytes/s, and that is spent; try again in 1 s"),
    ];
    for (what, change, sentence) in rows {
        let scene = limited(change);
        let request = as_demo(Request::post(TARGET).body("10 letters"));
        let since = Instant::now();
        let mut connection = scene.publisher();
        let (passed, refused) = flood(&mut connection, 200, &request);
        assert_within(what, passed, 20, since);
        assert!(scene.metric("gateway_repeated_heads_total", &[]) > 100, "{what}: by the short cut, too");
        let refused = refused.unwrap_or_else(|| panic!("{what}: nothing was refused"));
        assert_eq!((shown(&refused).as_str(), refused.header("Retry-After")), ("429 over_quota", Some("1")), "{what}");
        assert_eq!(refused.json().expect("JSON")["errmsg"], sentence);
        let other = as_demo(Request::post("/v1/msgs/orders/v2").body("10 letters and more"));
        let (passed, _) = flood(&mut connection, 100, &other);
        assert!(if what == "of the topic" { passed == 100 } else { passed < 20 }, "{what}: another topic: {passed}");
        assert!(scene.metric("gateway_refused_total", &["quota_publish"]) > 0, "{what}");
    }
}

#[test]
fn a_large_body_beyond_the_limit_is_refused_by_its_head() {
    let scene = limited(|doc| doc.apps[0].limits = Limits::default().with(Measure::PublishBytes, 1_000));
    assert_eq!(scene.publish("/v1/msgs/orders/v1", &"x".repeat(100_000)).status, 201, "something was left");
    let head = format!(
        "POST /v1/msgs/orders/v1 HTTP/1.1\r\nHost: x\r\nAppid: {APP}\r\nPubkey: {PUBKEY}\r\nContent-Length: 500000\r\n\
         Expect: 100-continue\r\n\r\n"
    );
    let mut connection = scene.publisher();
    connection.send_raw(head.as_bytes()).expect("sent");
    let answer = connection.read().expect("an answer instead of 100");
    assert_eq!(shown(&answer), "429 over_quota");
    let wait: u64 = answer.header("Retry-After").expect("a time").parse().expect("seconds");
    assert!((90..=99).contains(&wait), "a hundred seconds' worth was taken: {wait}");
}

#[test]
fn publishing_by_a_topics_name_in_kafka_draws_from_the_apps_limit() {
    let scene = limited(|doc| {
        doc.apps[0].limits = Limits::default().with(Measure::PublishMessages, 5);
        let (app, cluster) = (AppId::new(APP).expect("valid"), ClusterName::new("main").expect("valid"));
        doc.grants.push(GrantDoc::RawPublish { app, cluster, topic: None });
    });
    let since = Instant::now();
    let request = as_demo(Request::post("/v1/raw/msgs/main/demo.orders.v1").body("x"));
    let (passed, refused) = flood(&mut scene.publisher(), 50, &request);
    assert_within("raw", passed, 5, since);
    assert_eq!(refused.map(|refused| shown(&refused)).as_deref(), Some("429 over_quota"));
}

#[test]
fn a_batch_waits_for_its_limit_and_says_429_of_what_had_no_room_in_time() {
    let scene = limited(|doc| doc.apps[0].limits = Limits::default().with(Measure::PublishMessages, 30));
    let lines = "{\"value\":\"x\"}\n".repeat(60);
    let batch = |timeout: &str| {
        let target = format!("/v1/msgs/orders/v1/batch?receipts=summary&timeout={timeout}");
        as_demo(Request::post(&target).header("Content-Type", "application/x-ndjson").body(lines.clone()))
    };
    let since = Instant::now();
    let whole = scene.publisher().call(&batch("20s")).expect("an answer").json().expect("JSON");
    assert_eq!((&whole["ok"], &whole["failed"]), (&60.into(), &0.into()), "all of it, a little later: {whole}");
    assert!(
        since.elapsed().as_secs_f64() > 0.4,
        "sixty at thirty a second, of which a second's worth and a half is there"
    );
    // The next one has 100 ms.
    let part = loop {
        let answer = scene.publisher().call(&batch("100ms")).expect("an answer");
        if answer.status != 429 {
            break answer.json().expect("JSON");
        }
    };
    assert!(part["failed"].as_u64().expect("a number") > 0, "{part}");
    assert_eq!(
        (&part["errors"][0]["status"], &part["errors"][0]["code"]),
        (&429.into(), &"over_quota".into()),
        "{part}"
    );
}

#[test]
fn a_poll_takes_what_is_there_and_the_next_waits_until_that_is_paid_for() {
    let scene = limited(|doc| doc.apps[0].limits = Limits::default().with(Measure::SubscribeMessages, 10));
    for _ in 0..40 {
        assert_eq!(scene.publish("/v1/msgs/orders/v1?partition=0", "x").status, 201);
    }
    let poll = as_demo_reader(
        Request::get("/v1/msgs/demo/orders/v1?group=g&batch=100&wait=10s").header("Accept", "application/x-ndjson"),
    );
    let mut connection = scene.subscriber();
    let first = connection.call(&poll).expect("an answer");
    assert_eq!((first.status, first.text().lines().count()), (200, 40));
    let refused = connection.call(&poll).expect("an answer");
    assert_eq!((shown(&refused).as_str(), refused.header("Retry-After")), ("429 over_quota", Some("3")));
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "x").status, 201, "publishing is another matter");
    let granted = Request::get("/v1/msgs/demo/orders/v1?group=g&wait=10s");
    let granted = granted.header("Appid", "reader").header("Subkey", OTHER_SUBKEY);
    assert_eq!(scene.subscriber().call(&granted).expect("an answer").status, 200, "so is another app");
}

#[test]
fn a_limit_that_comes_goes_or_changes_holds_on_connections_that_are_open() {
    let mut scene = scene();
    let request = as_demo(Request::post("/v1/msgs/orders/v1").body("x"));
    let mut connection = scene.publisher();
    assert_eq!(flood(&mut connection, 20, &request).0, 20, "no limit");
    scene.change(|doc| doc.apps[0].limits = Limits::default().with(Measure::PublishMessages, 5));
    let since = Instant::now();
    let (passed, _) = flood(&mut connection, 100, &request);
    assert_within("set", passed, 5, since);
    scene.change(|doc| doc.topics[1].options.message_bytes_max = 9);
    let (passed, _) = flood(&mut connection, 20, &request);
    assert!(passed <= 5, "a change of something else gives nothing back: {passed}");
    scene.change(|doc| doc.apps[0].limits = Limits::default());
    assert_eq!(flood(&mut connection, 50, &request).0, 50, "no limit any more");
}

#[test]
fn connections_beyond_the_apps_limit_are_429_and_those_it_has_go_on() {
    let mut scene = limited(|doc| doc.apps[0].limits = Limits::default().with(Measure::Connections, 2));
    let publish = as_demo(Request::post("/v1/msgs/orders/v1").body("x"));
    let (mut first, mut second) = (scene.publisher(), scene.subscriber());
    assert_eq!(first.call(&publish).expect("an answer").status, 201);
    let poll = as_demo_reader(Request::get("/v1/msgs/demo/orders/v1?group=g&wait=10s"));
    assert_eq!(second.call(&poll).expect("an answer").status, 200);
    let third = scene.publisher().call(&publish).expect("an answer");
    assert_eq!(shown(&third), "429 over_quota");
    assert!(third.text().contains("app demo may have 2 connections"), "{}", third.text());
    let other = Request::get("/v1/msgs/demo/orders/v1?group=g&wait=10s").header("Appid", "reader");
    assert_eq!(scene.subscriber().call(&other.header("Subkey", OTHER_SUBKEY)).expect("an answer").status, 200);
    assert_eq!(first.call(&publish).expect("an answer").status, 201, "the first goes on");
    drop(second);
    wait_for_connections(&scene, 1);
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "x").status, 201, "there is room again");
    wait_for_connections(&scene, 1);
    // Lowered below what there is: none is taken away, none comes.
    scene.change(|doc| doc.apps[0].limits = Limits::default().with(Measure::Connections, 1));
    assert_eq!(first.call(&publish).expect("an answer").status, 201);
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "x").status, 429);
    scene.change(|doc| doc.apps[0].limits = Limits::default());
    assert_eq!(scene.publish("/v1/msgs/orders/v1", "x").status, 201);
}

#[test]
fn an_app_may_be_used_from_its_addresses_only_and_who_cannot_prove_who_it_is_is_not_told() {
    let list = |text: &str| Addresses::parse(text).expect("ranges");
    let mut scene = limited(|_| {});
    let publish = |scene: &Scene, key: &str| {
        let request = Request::post("/v1/msgs/orders/v1").header("Appid", APP).header("Pubkey", key).body("x");
        shown(&scene.publisher().call(&request).expect("an answer"))
    };
    for (ranges, expected) in
        [("", "201"), ("10.0.0.0/8", "403 address_not_allowed"), ("10.0.0.0/8,127.0.0.0/8", "201")]
    {
        scene.change(|doc| doc.apps[0].addresses = list(ranges));
        assert_eq!(publish(&scene, PUBKEY), expected, "{ranges}");
        assert_eq!(publish(&scene, "wrong"), "401 not_authenticated", "{ranges}");
    }
    let mut warm = scene.publisher();
    let request = as_demo(Request::post("/v1/msgs/orders/v1").body("x"));
    assert_eq!(flood(&mut warm, 5, &request).0, 5);
    scene.change(|doc| doc.apps[0].addresses = list("::1"));
    let refused = warm.call(&request).expect("an answer");
    assert_eq!(refused.json().expect("JSON")["errmsg"], "app demo may not be used from 127.0.0.1");
    let poll = Request::get("/v1/msgs/demo/orders/v1?group=g").header("Appid", APP).header("Subkey", SUBKEY);
    assert_eq!(shown(&scene.subscriber().call(&poll).expect("an answer")), "403 address_not_allowed");
}
