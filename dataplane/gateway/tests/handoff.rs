//! Hinted handoff over the embedded broker: what is answered while Kafka is away, what becomes of it, in which order.
//!
//! Real brokers, kills and full disks are in the end-to-end tests; here are the answers, word by word.

mod harness;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};
use gateway::handoff::{ReceiptId, State};
use gateway::{GatewayConfig, HandoffConfig};
use harness::{PUBKEY, Scene, as_demo, cluster, create_topics, scene_that_hands_off};
use model::Snapshot;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::http::{Request, Response};

const WITHIN: Duration = Duration::from_secs(20);

/// A broker that can go away and come back with what it had.
struct Broker {
    dir: tempfile::TempDir,
    address: SocketAddr,
    running: Option<EmbeddedKafka>,
}

impl Broker {
    fn start() -> Broker {
        let dir = tempfile::tempdir().unwrap();
        let mut broker = Broker { dir, address: SocketAddr::from(([127, 0, 0, 1], 0)), running: None };
        broker.come();
        broker.address = broker.running.as_ref().unwrap().addr();
        create_topics(broker.address, &["demo.orders.v1", "demo.small.v1"]);
        broker
    }

    fn come(&mut self) {
        let data_dir = self.dir.path().join("kafka");
        let config = EmbeddedConfig { data_dir, listen: self.address, ..EmbeddedConfig::default() };
        self.running = Some(EmbeddedKafka::start(config).expect("the broker starts"));
    }

    fn go(&mut self) {
        self.running = None;
    }
}

fn scene(broker: &Broker, dir: &Path, handoff: HandoffConfig) -> Scene {
    scene_of_shards(2, broker, dir, handoff)
}

fn scene_of_shards(shard_count: usize, broker: &Broker, dir: &Path, handoff: HandoffConfig) -> Scene {
    let config = GatewayConfig { shard_count, handoff, ..GatewayConfig::default() };
    scene_that_hands_off(vec![cluster("main", &[broker.address])], config, None, Some(dir.join("journal")), |_| {})
}

fn publish(scene: &Scene, query: &str, body: &str) -> Response {
    scene.publisher().call(&as_demo(Request::post(&format!("/v1/msgs/orders/v1?{query}")).body(body))).unwrap()
}

fn receipt(scene: &Scene, path: &str) -> Value {
    let answer = scene.publisher().call(&as_demo(Request::get(path))).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_str(&answer.text()).unwrap()
}

/// Asks until the receipt says so.
fn becomes(scene: &Scene, path: &str, state: &str) -> Value {
    let until = Instant::now() + WITHIN;
    loop {
        let receipt = receipt(scene, path);
        if receipt["state"] == state {
            return receipt;
        }
        assert!(Instant::now() < until, "{receipt} did not become {state}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Path of the receipt of an answer that must be 202.
fn kept(answer: &Response) -> String {
    assert_eq!(answer.status, 202, "{}", answer.text());
    let json: Value = serde_json::from_str(&answer.text()).unwrap();
    let path = json["receipt"].as_str().unwrap().to_owned();
    assert_eq!(json["ok"], 1);
    assert_eq!(answer.header("X-Msg-Id"), json["msg_id"].as_str());
    assert_eq!(answer.header("Location"), Some(&*path));
    assert_eq!(path, format!("/v1/receipts/{}", json["msg_id"].as_str().unwrap()));
    path
}

#[test]
fn while_kafka_is_away_a_publish_is_kept_within_a_moment_and_delivered_in_order_when_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let scene = scene(&broker, dir.path(), HandoffConfig::default());
    scene.wait_ready();
    assert_eq!(publish(&scene, "key=k", "before").status, 201);
    broker.go();
    let begun = Instant::now();
    let paths: Vec<String> = (0..20).map(|n| kept(&publish(&scene, "key=k", &format!("away {n}")))).collect();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(receipt(&scene, &paths[0])["state"], "pending");
    let refused = publish(&scene, "key=k&hh=n", "not kept");
    assert_eq!((refused.status, refused.code().as_deref()), (503, Some("kafka_unavailable")));
    assert!(refused.header("Retry-After").is_some());
    let health = scene.publisher().call(&Request::get("/readyz")).unwrap();
    let health: Value = serde_json::from_str(&health.text()).unwrap();
    assert_eq!((&health["ready"], &health["handoff"]["messages"]), (&Value::Bool(true), &Value::from(20)));
    broker.come();
    let offsets: Vec<i64> =
        paths.iter().map(|path| becomes(&scene, path, "delivered")["offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, (1..=20).collect::<Vec<i64>>(), "behind what was there, in the order of their answers");
    let until = Instant::now() + WITHIN;
    while publish(&scene, "key=k", "after").status != 201 {
        assert!(Instant::now() < until, "direct again once nothing waits");
    }
}

#[test]
fn what_is_kept_is_there_after_a_start_without_kafka_and_so_is_its_receipt() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let first = scene(&broker, dir.path(), HandoffConfig::default());
    first.wait_ready();
    broker.go();
    let before = kept(&publish(&first, "key=k", "before the start"));
    first.gateway.drain();
    first.gateway.join().unwrap();
    drop(first);
    let second = scene(&broker, dir.path(), HandoffConfig::default());
    let after = kept(&publish(&second, "key=k", "after the start, no partition known"));
    assert_eq!(receipt(&second, &before)["state"], "pending");
    broker.come();
    let [first, then] = [before, after].map(|path| becomes(&second, &path, "delivered")["offset"].as_i64().unwrap());
    assert!(first < then, "{first} was accepted before {then}");
}

/// Wrong once: it went into the lane of its partition, which was known by then and goes first.
#[test]
fn who_waits_in_vain_at_the_gate_of_the_lane_by_key_goes_behind_what_is_in_that_lane() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    broker.go();
    // One message takes half a second, and a gate is given up after 100 ms. One shard: who holds is who gives up.
    let slow = HandoffConfig { drain_bytes_per_s: Some(4_000), ..HandoffConfig::default() };
    let scene = scene_of_shards(1, &broker, dir.path(), slow);
    let body = "x".repeat(2_000);
    let mut paths: Vec<String> = (0..8).map(|_| kept(&publish(&scene, "key=k", &body))).collect();
    broker.come();
    let domains = || scene.gateway.handoff().unwrap().status(Instant::now()).domains;
    let at_gate = || domains().iter().any(|domain| matches!(domain.state, State::Gate { .. }));
    for _ in 0..2 {
        let until = Instant::now() + WITHIN;
        loop {
            assert!(Instant::now() < until, "nobody waited at a gate: {:?}", domains());
            if !at_gate() {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let begun = Instant::now();
            paths.push(kept(&publish(&scene, "key=k", &body)));
            // Else the gate was given up before it came.
            if begun.elapsed() > Duration::from_millis(50) {
                break;
            }
        }
    }
    assert!(!domains().is_empty(), "the gates were given up, not passed");
    let id = |path: &String| ReceiptId::parse(path.rsplit('/').next().unwrap()).unwrap();
    let lanes: Vec<_> = paths.iter().map(|path| (id(path).stream, id(path).sequence)).collect();
    let expected: Vec<_> = (0..paths.len() as u64).map(|at| (lanes[0].0, at)).collect();
    assert_eq!(lanes, expected, "one lane, in the order of the answers");
    let offsets = paths.iter().map(|path| becomes(&scene, path, "delivered")["offset"].as_u64().unwrap());
    assert_eq!(offsets.collect::<Vec<_>>(), (0..paths.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_batch_is_kept_record_by_record_with_receipts_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let scene = scene(&broker, dir.path(), HandoffConfig::default());
    scene.wait_ready();
    broker.go();
    // Malformed ones before, between and behind: each receipt stays its record's.
    let letters = "xaxbcxxdx";
    let line = |letter| match letter {
        'x' => "{\"nonsense\":1}\n".to_owned(),
        value => format!("{{\"key\":\"k\",\"value\":\"{value}\"}}\n"),
    };
    let lines: String = letters.chars().map(line).collect();
    let statuses: Vec<u64> = letters.chars().map(|letter| if letter == 'x' { 400 } else { 202 }).collect();
    let batch = |query: &str, accept: &str| {
        let request = Request::post(&format!("/v1/msgs/orders/v1/batch?{query}"))
            .header("Content-Type", "application/x-ndjson")
            .header("Accept", accept)
            .body(&*lines);
        scene.publisher().call(&as_demo(request)).unwrap()
    };
    let answer = batch("", "*/*");
    assert_eq!((answer.status, answer.header("X-Failed")), (200, Some("5")));
    let receipts: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(receipts.iter().map(|receipt| receipt["status"].as_u64().unwrap()).eq(statuses.iter().copied()));
    let binary = batch("", "application/vnd.gafka.receipts");
    let status = |at: usize| u16::from_be_bytes(binary.body[14 * at..14 * at + 2].try_into().unwrap());
    assert!((0..letters.len()).map(|at| u64::from(status(at))).eq(statuses.iter().copied()));
    assert_eq!(binary.body[14 + 2..14 + 14], [0xff; 12], "partition and offset are not known");
    let summary: Value = serde_json::from_str(&batch("receipts=summary", "*/*").text()).unwrap();
    assert_eq!((&summary["ok"], &summary["handed_off"], &summary["failed"]), (&4.into(), &4.into(), &5.into()));
    broker.come();
    let kept = receipts.iter().filter(|receipt| receipt["status"] == 202);
    let places = kept.map(|receipt| becomes(&scene, receipt["receipt"].as_str().unwrap(), "delivered"));
    let offsets: Vec<i64> = places.map(|place| place["offset"].as_i64().unwrap()).collect();
    assert!(offsets.iter().copied().eq(offsets[0]..offsets[0] + 4), "{offsets:?}");
}

#[test]
fn async_hands_off_while_kafka_is_there_and_is_refused_where_handoff_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start();
    let on = scene(&broker, dir.path(), HandoffConfig::default());
    on.wait_ready();
    let path = kept(&publish(&on, "key=k&async=1", "kept"));
    assert_eq!(becomes(&on, &path, "delivered")["offset"], 0);
    drop(on);
    let off = scene(&broker, dir.path(), HandoffConfig { enabled: false, ..HandoffConfig::default() });
    off.wait_ready();
    assert_eq!(publish(&off, "key=k", "direct").status, 201);
    assert_eq!(publish(&off, "key=k&async=1", "no").code().as_deref(), Some("handoff_off"));
    assert_eq!(receipt(&off, &path)["state"], "delivered", "what it holds can be asked about all the same");
}

#[test]
fn over_budget_is_503_with_the_limit_in_it_and_other_topics_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let scene = scene(&broker, dir.path(), HandoffConfig { topic_bytes_max: 3_000, ..HandoffConfig::default() });
    scene.wait_ready();
    broker.go();
    let body = "x".repeat(800);
    let answers: Vec<Response> = (0..4).map(|_| publish(&scene, "key=k", &body)).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [202, 202, 202, 503]);
    assert_eq!((answers[3].code().as_deref(), answers[3].header("Retry-After")), (Some("handoff_full"), Some("5")));
    assert!(answers[3].text().contains("of at most 3000"), "{}", answers[3].text());
    let other = Request::post("/v1/msgs/small/v1").body("x");
    assert_eq!(scene.publisher().call(&as_demo(other)).unwrap().status, 202);
    broker.come();
    let until = Instant::now() + WITHIN;
    while publish(&scene, "key=k", &body).status != 201 {
        assert!(Instant::now() < until, "room again once it is delivered");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_receipt_is_its_publishers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let scene = scene(&broker, dir.path(), HandoffConfig::default());
    scene.wait_ready();
    broker.go();
    let path = kept(&publish(&scene, "key=k", "mine"));
    let ask = |path: &str, app: &str| {
        let request = Request::get(path).header("Appid", app).header("Pubkey", PUBKEY);
        let answer = scene.publisher().call(&request).unwrap();
        (answer.status, answer.code().unwrap_or_default())
    };
    assert_eq!(ask(&path, "demo").0, 200);
    assert_eq!(ask(&path, "stranger"), (401, "not_authenticated".to_owned()));
    // Of a message that is there, by whoever was given another one's.
    let second = kept(&publish(&scene, "key=k", "mine, too"));
    let plain = |path: &str| URL_SAFE_NO_PAD.decode(path.rsplit('/').next().unwrap()).unwrap();
    let (mut forged, numbered) = (plain(&path), plain(&second));
    forged[..13].copy_from_slice(&numbered[..13]);
    let forged = format!("/v1/receipts/{}", URL_SAFE_NO_PAD.encode(forged));
    for bad in [forged, format!("{path}AAAA"), "/v1/receipts/x".to_owned()] {
        assert_eq!(ask(&bad, "demo"), (404, "no_such_receipt".to_owned()), "{bad}");
    }
}

fn change(scene: &Scene, what: &str, receipts: &[&str]) -> (u16, Value) {
    let body = serde_json::json!({ "receipts": receipts }).to_string();
    let request =
        Request::post(&format!("/v1/receipts/{what}")).header("Content-Type", "application/json").body(&*body);
    let answer = scene.publisher().call(&as_demo(request)).unwrap();
    (answer.status, serde_json::from_str(&answer.text()).unwrap())
}

#[test]
fn what_may_not_be_delivered_any_more_is_parked_and_its_owner_replays_or_drops_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Broker::start();
    let scene = scene(&broker, dir.path(), HandoffConfig::default());
    scene.wait_ready();
    broker.go();
    let [first, second] = ["first", "second"].map(|body| kept(&publish(&scene, "key=k", body)));
    let allow = |generation: u64, allowed: bool| {
        let mut doc = scene.doc.clone();
        doc.generation += generation;
        doc.topics.iter_mut().for_each(|topic| topic.enabled = allowed);
        scene.gateway.publish_snapshot(&Arc::new(Snapshot::build(doc).unwrap()));
    };
    allow(1, false);
    for path in [&first, &second] {
        let parked = becomes(&scene, path, "parked");
        assert_eq!(parked["code"], "grant_revoked", "{parked}");
        assert!(!parked["reason"].as_str().unwrap().is_empty());
    }
    broker.come();
    assert_eq!(change(&scene, "replay", &["AAAA"]).0, 404);
    assert_eq!(change(&scene, "replay", &[]).0, 400);
    allow(2, true);
    let (status, done) = change(&scene, "replay", &[&first]);
    assert_eq!((status, &done["records"]), (200, &1.into()), "{done}");
    becomes(&scene, &first, "delivered");
    let (status, done) = change(&scene, "drop", &[&first, &second]);
    assert_eq!((status, &done["records"]), (200, &1.into()), "what is not parked is passed over: {done}");
    assert_eq!(receipt(&scene, &second)["state"], "dropped");
    assert_eq!(receipt(&scene, &first)["state"], "delivered");
}
