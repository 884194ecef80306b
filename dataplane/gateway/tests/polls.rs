//! Polls while Kafka changes under them, and what becomes of messages whose answer did not arrive.

mod harness;

use embedded_kafka::Fault;
use harness::raw::Raw;
use harness::{Scene, as_demo, scene};
use kafka_client::group::limits::COMMIT_INTERVAL;
use kafka_wire::api_key::ApiKey;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use testkit::http::Request;

fn poll(scene: &Scene, query: &str) -> String {
    let answer = scene.poll(&format!("/v1/msgs/demo/orders/v1?group=g{query}"));
    match answer.status {
        200 => answer.text(),
        status => answer.code().map_or(status.to_string(), |code| format!("{status} {code}")),
    }
}

fn publish(scene: &Scene, body: &str) -> String {
    let answer = scene.publish("/v1/msgs/orders/v1?partition=0", body);
    answer.code().map_or(answer.status.to_string(), |code| format!("{} {code}", answer.status))
}

/// All there is, once each.
fn drain(scene: &Scene, count: usize) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        let message = poll(scene, "&wait=5");
        assert_ne!(message, "204", "after {} of {count}: {seen:?}", seen.len());
        assert!(seen.insert(message.clone()), "{message} came twice");
    }
    assert_eq!(poll(scene, "&wait=300ms"), "204", "no more than that");
    seen
}

/// What was delivered so far is committed: a session that ends before delivers it once more.
fn committed(scene: &Scene) {
    let until = Instant::now() + Duration::from_secs(20);
    let mut before = 0;
    loop {
        std::thread::sleep(COMMIT_INTERVAL * 3 / 2);
        let commits = scene.hooks.requests(ApiKey::OffsetCommit);
        if commits > 0 && commits == before {
            return;
        }
        before = commits;
        assert!(Instant::now() < until, "{commits} commits, and no end of them");
    }
}

fn store(scene: &Scene, name: &str, count: usize) -> BTreeSet<String> {
    let values: Vec<String> = (0..count).map(|n| format!("{name}{n}")).collect();
    let lines: String = values.iter().map(|value| format!("{{\"value\":\"{value}\",\"partition\":0}}\n")).collect();
    let request = Request::post("/v1/msgs/orders/v1/batch").header("Content-Type", "application/x-ndjson").body(lines);
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = scene.publisher().call(&as_demo(request.clone())).expect("an answer");
        if answer.status == 200 && answer.header("X-Failed") == Some("0") {
            return values.into_iter().collect();
        }
        assert!(Instant::now() < until, "{} {}", answer.status, answer.text());
    }
}

#[test]
fn a_live_group_reads_all_of_a_topic_that_was_deleted_and_made_again() {
    // 20 of 40 were never delivered and committed as read: offset 20 of the old topic was read from in the new one.
    let scene = scene();
    let old = store(&scene, "old", 20);
    assert_eq!(drain(&scene, 20), old);
    for round in 0..3 {
        scene.delete_topic("demo.orders.v1");
        scene.create_topic("demo.orders.v1");
        let new = store(&scene, &format!("new{round}-"), 40);
        assert_eq!(drain(&scene, 40), new);
    }
}

#[test]
fn polls_of_a_topic_that_is_gone_end_with_404_as_publishes_do_and_go_on_when_it_is_back() {
    // They were answered 204 for ever.
    let scene = scene();
    assert_eq!(publish(&scene, "a"), "201");
    assert_eq!(poll(&scene, "&wait=5"), "a");
    scene.delete_topic("demo.orders.v1");
    let begun = Instant::now();
    assert_eq!(poll(&scene, "&wait=40"), "404 no_such_topic", "one that waits is told when it is certain");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    for query in ["&wait=5", "&wait=0", "&wait=5"] {
        assert_eq!(poll(&scene, query), "404 no_such_topic", "{query}");
    }
    scene.create_topic("demo.orders.v1");
    std::thread::sleep(Duration::from_millis(300)); // a denial is fresh for 200 ms
    assert_eq!(publish(&scene, "b"), "201");
    assert_eq!(poll(&scene, "&wait=5"), "b");
}

#[test]
fn a_broker_that_stood_still_for_longer_than_a_session_delivers_within_two_seconds_of_going_on() {
    const STILL: Duration = Duration::from_secs(12);
    let scene = scene();
    assert_eq!(publish(&scene, "a"), "201");
    assert_eq!(poll(&scene, "&wait=5"), "a");
    committed(&scene);
    scene.hooks.inject(ApiKey::Fetch, Fault::Freeze(STILL), 1);
    std::thread::scope(|scope| {
        let begun = Instant::now();
        let waiting = scope.spawn(|| poll(&scene, "&wait=40"));
        std::thread::sleep(STILL / 2);
        scope.spawn(|| publish(&scene, "b"));
        assert_eq!(waiting.join().expect("answered"), "b");
        let after = begun.elapsed().saturating_sub(STILL);
        assert!(after < Duration::from_secs(2) + Duration::from_millis(500), "{after:?} after it went on");
    });
}

#[test]
fn of_pipelined_polls_each_message_that_was_written_whole_is_delivered_and_the_others_come_again() {
    // The answers of a connection were settled together: when it broke off behind the first, that one came again too.
    let scene = scene();
    let large = "x".repeat(900_000);
    assert_eq!(publish(&scene, "first"), "201");
    for n in 0..16 {
        assert_eq!(publish(&scene, &format!("{n}{large}")), "201");
    }
    assert_eq!(poll(&scene, "&wait=5&reset=oldest"), "first"); // the group stands
    assert_eq!(publish(&scene, "last"), "201");
    let request = format!(
        "GET /v1/msgs/demo/orders/v1?group=g&wait=5 HTTP/1.1\r\nHost: x\r\nAppid: {}\r\nSubkey: {}\r\n\r\n",
        harness::APP,
        harness::SUBKEY
    );
    let mut raw = Raw::open(scene.subscribe);
    raw.send(request.repeat(16).as_bytes());
    // More than sockets hold: the gateway is in the middle of writing when the client has read the first answer.
    let mut seen = Vec::new();
    while seen.len() < 900_400 {
        raw.read_some(&mut seen, 64 << 10);
    }
    std::thread::sleep(Duration::from_millis(500));
    drop(raw);
    let mut left = BTreeSet::new();
    loop {
        let message = poll(&scene, "&wait=2");
        if message == "204" {
            break;
        }
        left.insert(message.trim_end_matches('x').to_owned());
    }
    assert!(!left.contains("0"), "the first was read whole: {left:?}");
    for which in ["15", "last"] {
        assert!(left.contains(which), "{which} was not written whole: {left:?}");
    }
}
