//! Permission that is taken away while a request is open: streams, batches and waiting polls end with the answer they
//! would get now, and nothing is stored or handed out after it.

mod harness;

use harness::raw::Raw;
use harness::{APP, OTHER, PUBKEY, SUBKEY, Scene, as_demo_reader, scene, scene_with};
use model::ids::{AppId, ClusterName, PhysicalTopic};
use model::scram::ScramParams;
use model::{GrantDoc, PlainSecret, SecretPair, SnapshotDoc, StoredSecret};
use std::time::{Duration, Instant};
use testkit::http::{Connection, Request};

type Change = fn(&mut SnapshotDoc);

fn another_secret() -> StoredSecret {
    let scram = ScramParams { salt: vec![7; 16], iterations: 4096 };
    StoredSecret::derive(&PlainSecret::from_text("another-secret-of-24-chars").expect("a usable secret"), &scram)
}

fn pair(side: &mut SecretPair, keep_previous: bool) {
    let previous = std::mem::replace(&mut side.current, another_secret());
    side.previous = keep_previous.then_some(previous);
}

/// What is taken away from the app `demo` or its topic orders/v1, and what it is told.
const CHANGES: &[(&str, Change, &str)] = &[
    ("the app is disabled", |doc| doc.apps[0].enabled = false, "403 app_disabled"),
    ("the topic is disabled", |doc| doc.topics[0].enabled = false, "403 topic_disabled"),
    ("the version is removed", |doc| drop(doc.topics.remove(0)), "404 no_such_version"),
    ("the topic is removed", |doc| doc.topics.retain(|topic| topic.name != "orders"), "404 no_such_topic"),
    (
        "the secrets are revoked",
        |doc| {
            pair(&mut doc.apps[0].publish, false);
            pair(&mut doc.apps[0].subscribe, false);
        },
        "401 not_authenticated",
    ),
    (
        "the app may be used from elsewhere only",
        |doc| doc.apps[0].addresses = model::Addresses::parse("192.0.2.0/24").expect("a range"),
        "403 address_not_allowed",
    ),
    (
        "the app is removed",
        |doc| {
            doc.topics.clear();
            doc.grants.clear();
            doc.apps.remove(0);
        },
        "401 not_authenticated",
    ),
];

/// What concerns others, or takes nothing away yet.
const HARMLESS: &[(&str, Change)] = &[
    ("another app is disabled", |doc| doc.apps[1].enabled = false),
    ("another topic is removed", |doc| drop(doc.topics.pop())),
    ("a limit that is not spent", |doc| {
        doc.apps[0].limits = model::quota::Limits::default().with(model::quota::Measure::PublishMessages, 1_000_000);
    }),
    ("the secrets are rotated, the old ones still live", |doc| {
        pair(&mut doc.apps[0].publish, true);
        pair(&mut doc.apps[0].subscribe, true);
    }),
];

fn head(target: &str, app: &str, key: &str) -> String {
    format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\nAppid: {app}\r\nPubkey: {key}\r\nContent-Type: application/x-ndjson\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    )
}

fn record(value: &str) -> String {
    format!("{{\"value\":\"{value}\",\"partition\":0}}\n")
}

/// `"status":403` and the code, as they stand in a receipt.
fn receipt(told: &str) -> (String, String) {
    let (status, code) = told.split_once(' ').expect("status and code");
    (format!("{{\"status\":{status},"), format!("\"code\":\"{code}\"}}\n"))
}

/// With everything allowed again: the next record of partition 0 comes right behind the only one stored before.
fn assert_one_stored(scene: &mut Scene, original: &SnapshotDoc, what: &str) {
    let original = original.clone();
    scene.change(move |doc| *doc = SnapshotDoc { generation: doc.generation, ..original });
    let next = scene.publish("/v1/msgs/orders/v1?partition=0", "next");
    assert_eq!((next.status, next.header("X-Offset")), (201, Some("1")), "{what}: {}", next.text());
}

#[test]
fn an_open_stream_ends_at_once_when_its_caller_may_no_longer_publish() {
    for (what, change, told) in CHANGES {
        let mut scene = scene();
        let original = scene.doc.clone();
        let mut raw = Raw::open(scene.publish);
        raw.send(head("/v1/msgs/orders/v1/batch?stream=1", APP, PUBKEY).as_bytes());
        raw.chunk(&record("before"));
        raw.until("{\"partition\":0,\"offset\":0}\n");
        scene.change(change);
        // It is told without sending anything.
        let (status, code) = receipt(told);
        raw.until(&status);
        raw.until(&code);
        raw.chunk(&record("after"));
        raw.send(b"0\r\n\r\n");
        raw.until("0\r\nX-Failed: 1\r\n\r\n");
        assert!(raw.read_to_close(false).is_empty(), "{what}: nothing more, and closed");
        assert_one_stored(&mut scene, &original, what);
    }
}

#[test]
fn a_stream_whose_client_goes_on_sending_is_cut_after_its_receipts() {
    let mut scene = scene();
    let original = scene.doc.clone();
    let mut raw = Raw::open(scene.publish);
    raw.send(head("/v1/msgs/orders/v1/batch?stream=1", APP, PUBKEY).as_bytes());
    raw.chunk(&record("before"));
    raw.until("{\"partition\":0,\"offset\":0}\n");
    scene.change(|doc| doc.apps[0].enabled = false);
    let begun = Instant::now();
    let lines = record("after").repeat(1000);
    while raw.try_send(format!("{:x}\r\n{lines}\r\n", lines.len()).as_bytes()) {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is drained within limits, not for ever");
    }
    assert_one_stored(&mut scene, &original, "a client that goes on");
    drop(raw);
    scene.wait_idle(0);
}

#[test]
fn a_long_batch_says_which_records_were_stored_before_its_caller_was_stopped() {
    for (what, change, told) in CHANGES {
        let mut scene = scene();
        let original = scene.doc.clone();
        let mut raw = Raw::open(scene.publish);
        raw.send(head("/v1/msgs/orders/v1/batch", APP, PUBKEY).as_bytes());
        raw.chunk(&record("before"));
        let until = Instant::now() + Duration::from_secs(5);
        while scene.metric("gateway_batch_records_total", &["stored"]) < 1 {
            assert!(Instant::now() < until, "{what}: stored while the batch is open");
            std::thread::sleep(Duration::from_millis(2));
        }
        scene.change(change);
        raw.chunk(&record("after"));
        raw.send(b"0\r\n\r\n");
        let answers = raw.answers();
        assert_eq!(answers.len(), 1, "{what}");
        let answer = &answers[0];
        let (status, code) = receipt(told);
        assert_eq!(answer.status(), 200, "{what}: {answer:?}");
        assert!(answer.head.contains("X-Failed: 1\r\n") && answer.closes(), "{what}: {answer:?}");
        assert!(answer.body.starts_with(&format!("{{\"partition\":0,\"offset\":0}}\n{status}")), "{what}: {answer:?}");
        assert!(answer.body.ends_with(&code), "{what}: {answer:?}");
        assert_one_stored(&mut scene, &original, what);
    }
}

#[test]
fn a_batch_that_has_stored_nothing_yet_gets_the_refusal_itself() {
    for query in ["", "?stream=1"] {
        for (what, change, told) in CHANGES {
            let mut scene = scene();
            let mut raw = Raw::open(scene.publish);
            let head = head(&format!("/v1/msgs/orders/v1/batch{query}"), APP, PUBKEY);
            raw.send(head.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").as_bytes());
            raw.until("HTTP/1.1 100 Continue\r\n\r\n");
            raw.send(b"10\r\n{\"val");
            scene.change(change);
            let answers: Vec<String> = raw.answers().iter().map(harness::raw::Answer::summary).collect();
            assert_eq!(answers, [*told], "{what}, {query}");
        }
    }
}

#[test]
fn a_raw_stream_ends_when_its_grant_is_revoked() {
    let raw_grant = |doc: &mut SnapshotDoc| {
        doc.grants.push(GrantDoc::RawPublish {
            app: AppId::new(OTHER).expect("valid"),
            cluster: ClusterName::new("main").expect("valid"),
            topic: Some(PhysicalTopic::new("demo.orders.v1").expect("valid")),
        });
    };
    let mut scene = scene_with(gateway::GatewayConfig::default(), raw_grant);
    let mut raw = Raw::open(scene.publish);
    let target = "/v1/raw/msgs/main/demo.orders.v1/batch?stream=1";
    raw.send(head(target, OTHER, "publish-secret-of-reader").as_bytes());
    raw.chunk(&record("before"));
    raw.until("{\"partition\":0,\"offset\":0}\n");
    scene.change(|doc| doc.grants.clear());
    raw.until("{\"status\":403,");
    raw.until("\"code\":\"not_granted\"}\n");
    raw.send(b"0\r\n\r\n");
    raw.until("0\r\nX-Failed: 1\r\n\r\n");
}

#[test]
fn changes_that_concern_others_end_nothing() {
    let mut scene = scene();
    let mut raw = Raw::open(scene.publish);
    raw.send(head("/v1/msgs/orders/v1/batch?stream=1", APP, PUBKEY).as_bytes());
    let mut offset = 0;
    let mut next = |raw: &mut Raw| {
        raw.chunk(&record("x"));
        raw.until(&format!("{{\"partition\":0,\"offset\":{offset}}}\n"));
        offset += 1;
    };
    next(&mut raw);
    let mut poller = Connection::open(&scene.subscribe.to_string()).expect("connects");
    let poll = "/v1/msgs/demo/orders/v2?group=g&wait=20s";
    poller.send(&as_demo_reader(Request::get(poll))).expect("sent");
    std::thread::sleep(Duration::from_millis(100));
    for (what, change) in HARMLESS {
        scene.change(change);
        std::thread::sleep(Duration::from_millis(20));
        next(&mut raw);
        eprintln!("{what}: went on");
    }
    // The secret was rotated: publish with the new one.
    let request =
        Request::post("/v1/msgs/orders/v2").header("Appid", APP).header("Pubkey", "another-secret-of-24-chars");
    assert_eq!(scene.publisher().call(&request.body("polled")).expect("an answer").status, 201);
    assert_eq!(poller.read().expect("an answer").text(), "polled");
    raw.send(b"0\r\n\r\n");
    raw.until("0\r\nX-Failed: 0\r\n\r\n");
}

#[test]
fn a_waiting_poll_ends_at_once_when_its_caller_may_no_longer_subscribe() {
    for (what, change, told) in CHANGES {
        let mut scene = scene();
        let request = Request::get("/v1/msgs/demo/orders/v1?group=g&wait=60s").header("Appid", APP);
        let mut connection = scene.subscriber();
        connection.send(&request.header("Subkey", SUBKEY)).expect("sent");
        let until = Instant::now() + Duration::from_secs(5);
        while scene.metric("gateway_subscriptions", &[]) < 1 {
            assert!(Instant::now() < until, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
        scene.change(change);
        let answer = connection.read().expect("an answer");
        let seen = format!("{} {}", answer.status, answer.code().unwrap_or_default());
        assert_eq!(seen, *told, "{what}");
    }
}
