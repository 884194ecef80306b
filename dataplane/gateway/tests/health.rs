//! What `/readyz` and `/alive` say about clusters that nobody uses, that die, freeze and come back.

mod harness;

use embedded_kafka::{EmbeddedConfig, EmbeddedKafka, Hooks};
use gateway::GatewayConfig;
use gateway::limits::{PROBE_INTERVAL, PROBE_PAUSE, PROBE_TIMEOUT};
use harness::{Scene, cluster, scene_of};
use kafka_wire::api_key::ApiKey;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testkit::http::Request;

/// What a busy machine may add to a limit.
const SLACK: Duration = Duration::from_secs(3);

fn broker(dir: &tempfile::TempDir, listen: SocketAddr, hooks: &Hooks) -> EmbeddedKafka {
    let data_dir = dir.path().join("kafka");
    EmbeddedKafka::start(EmbeddedConfig { data_dir, listen, hooks: hooks.clone(), ..EmbeddedConfig::default() })
        .expect("embedded broker starts")
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A port that no test is given by chance and nobody listens on.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

fn two_shards() -> GatewayConfig {
    GatewayConfig { shard_count: 2, ..GatewayConfig::default() }
}

fn status(scene: &Scene, target: &str) -> u16 {
    scene.publisher().call(&Request::get(target)).expect("an answer").status
}

fn clusters(scene: &Scene) -> serde_json::Value {
    scene.publisher().call(&Request::get("/readyz")).expect("an answer").json().expect("JSON")["clusters"].clone()
}

/// Waits for `/readyz` to say so; how long it took.
fn until_ready_is(scene: &Scene, expected: u16, limit: Duration) -> Duration {
    let begun = Instant::now();
    while status(scene, "/readyz") != expected {
        assert!(begun.elapsed() < limit, "not {expected} within {limit:?}: {}", clusters(scene));
        std::thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}

/// Went wrong: closed counted as down, so an idle gateway was 503 from 11 s after its last request on.
#[test]
fn a_gateway_that_nobody_uses_stays_ready_and_asks_once_per_process() {
    let (dir, hooks) = (tempfile::tempdir().expect("temp dir"), Hooks::default());
    let kafka = broker(&dir, any_port(), &hooks);
    let mut spec = cluster("main", &[kafka.addr()]);
    spec.client.bootstrap_idle_max = Duration::from_millis(50);
    let config = GatewayConfig { shard_count: 4, ..GatewayConfig::default() };
    let scene = scene_of(vec![spec], config, None, |_| {});
    scene.wait_ready();
    std::thread::sleep(Duration::from_millis(500));
    let (begun, asked) = (Instant::now(), hooks.requests(ApiKey::Metadata));
    while begun.elapsed() < PROBE_INTERVAL * 3 / 2 {
        for target in ["/readyz", "/alive"] {
            assert_eq!(status(&scene, target), 200, "{target} after {:?}", begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let asked = hooks.requests(ApiKey::Metadata) - asked;
    assert!((1..=2).contains(&asked), "{asked} questions in {:?}", begun.elapsed());
    assert_eq!(scene.metric("gateway_cluster_up", &["cluster=\"main\""]), 1);
}

#[test]
fn one_cluster_that_answers_is_enough_though_nobody_uses_it_and_the_dead_one_is_named() {
    let dir = tempfile::tempdir().expect("temp dir");
    let kafka = broker(&dir, any_port(), &Hooks::default());
    let specs = vec![cluster("gone", &[nobody()]), cluster("main", &[kafka.addr()])];
    let scene = scene_of(specs, two_shards(), None, |_| {});
    until_ready_is(&scene, 200, SLACK);
    let begun = Instant::now();
    while clusters(&scene)["gone"]["probed_ms_ago"].is_null() {
        assert!(begun.elapsed() < PROBE_TIMEOUT + SLACK, "the dead cluster's first probe ends");
        assert_eq!(status(&scene, "/readyz"), 200);
        std::thread::sleep(Duration::from_millis(10));
    }
    let said = clusters(&scene);
    assert_eq!((&said["main"]["up"], &said["gone"]["up"]), (&true.into(), &false.into()), "{said}");
    assert!(said["gone"]["detail"].as_str().is_some_and(|why| why.contains("127.0.0.1:1")), "{said}");
    assert_eq!(scene.metric("gateway_cluster_up", &["cluster=\"gone\""]), 0);
    assert_eq!(scene.metric("gateway_cluster_up", &["cluster=\"main\""]), 1);
}

#[test]
fn with_every_cluster_dead_it_is_alive_not_ready_and_says_which() {
    let scene = scene_of(vec![cluster("a", &[nobody()]), cluster("b", &[nobody()])], two_shards(), None, |_| {});
    assert_eq!((status(&scene, "/readyz"), status(&scene, "/alive")), (503, 200), "before the first probe has ended");
    let begun = Instant::now();
    while ["a", "b"].iter().any(|name| clusters(&scene)[name]["probed_ms_ago"].is_null()) {
        assert!(begun.elapsed() < PROBE_TIMEOUT + SLACK, "the first probes end");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!((status(&scene, "/readyz"), status(&scene, "/alive")), (503, 200));
    let reason = scene.gateway.readiness().reason();
    assert!(reason.contains("a: ") && reason.contains("b: "), "{reason}");
    scene.gateway.announce_drain();
    assert_eq!((status(&scene, "/readyz"), status(&scene, "/alive")), (503, 503), "draining");
}

#[test]
fn a_killed_broker_is_noticed_and_so_is_its_return() {
    let (dir, hooks) = (tempfile::tempdir().expect("temp dir"), Hooks::default());
    let kafka = broker(&dir, any_port(), &hooks);
    let address = kafka.addr();
    let scene = scene_of(vec![cluster("main", &[address])], two_shards(), None, |_| {});
    until_ready_is(&scene, 200, SLACK);
    drop(kafka);
    // Its connections break, so nobody waits for the next regular question.
    until_ready_is(&scene, 503, PROBE_PAUSE + PROBE_TIMEOUT + SLACK);
    assert_eq!(status(&scene, "/alive"), 200);
    assert_eq!(scene.metric("gateway_cluster_up", &[]), 0);
    let _kafka = broker(&dir, address, &hooks);
    until_ready_is(&scene, 200, Duration::from_secs(2) + SLACK);
    assert_eq!(scene.metric("gateway_cluster_up", &[]), 1);
}

/// A way to a broker that can freeze: connections stand and are accepted, and nothing moves.
struct Way {
    address: SocketAddr,
    frozen: Arc<AtomicBool>,
}

impl Way {
    fn to(broker: SocketAddr) -> Way {
        let listener = TcpListener::bind(any_port()).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let frozen = Arc::new(AtomicBool::new(false));
        let state = Arc::clone(&frozen);
        // Ends with the test process; connections are the gateway's and few.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let Ok(onward) = TcpStream::connect(broker) else { continue };
                for (from, to) in [(&stream, &onward), (&onward, &stream)] {
                    let (from, to) = (from.try_clone().expect("a descriptor"), to.try_clone().expect("a descriptor"));
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || carry(from, to, &state));
                }
            }
        });
        Way { address, frozen }
    }

    fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, frozen: &AtomicBool) {
    let mut buffer = [0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while frozen.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[test]
fn a_frozen_broker_is_passed_over_while_another_answers() {
    let dir = tempfile::tempdir().expect("temp dir");
    let kafka = broker(&dir, any_port(), &Hooks::default());
    let way = Way::to(kafka.addr());
    // Known by its bootstrap address, which is the way, and by its own from metadata.
    let scene = scene_of(vec![cluster("main", &[way.address])], two_shards(), None, |_| {});
    until_ready_is(&scene, 200, SLACK);
    way.freeze(true);
    let begun = Instant::now();
    // Whatever was asked before the freeze; then a whole round.
    while begun.elapsed() < PROBE_INTERVAL + PROBE_TIMEOUT + Duration::from_secs(1) {
        assert_eq!(status(&scene, "/readyz"), 200, "after {:?}: {}", begun.elapsed(), clusters(&scene));
        std::thread::sleep(Duration::from_millis(20));
    }
    let age_ms = clusters(&scene)["main"]["probed_ms_ago"].as_u64().expect("probed");
    assert!(u128::from(age_ms) < begun.elapsed().as_millis(), "answered since: {age_ms} ms ago");
}

#[test]
fn a_frozen_cluster_is_down_after_the_timeout_and_up_again_after_the_thaw() {
    let dir = tempfile::tempdir().expect("temp dir");
    // Metadata tells an address where nobody listens, so the way is the only one.
    let advertised_host = Some("127.0.0.2".to_owned());
    let data_dir = dir.path().join("kafka");
    let kafka = EmbeddedKafka::start(EmbeddedConfig { data_dir, advertised_host, ..EmbeddedConfig::default() })
        .expect("embedded broker starts");
    let way = Way::to(kafka.addr());
    let scene = scene_of(vec![cluster("main", &[way.address])], two_shards(), None, |_| {});
    until_ready_is(&scene, 200, SLACK);
    way.freeze(true);
    until_ready_is(&scene, 503, PROBE_INTERVAL + PROBE_TIMEOUT + SLACK);
    assert_eq!(status(&scene, "/alive"), 200);
    way.freeze(false);
    until_ready_is(&scene, 200, Duration::from_secs(2) + SLACK);
}
