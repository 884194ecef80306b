//! A load balancer in front of the brokers that accepts and never speaks TLS: what it may cost the gateway.
//!
//! One test, alone in its process: it counts the descriptors of all of it.

mod harness;

use gateway::GatewayConfig;
use harness::{Scene, cluster, scene_of};
use runtime::net::tls::ClientTls;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::http::Request;

/// Accepts, reads, says nothing.
struct Frozen {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Frozen {
    fn new() -> Frozen {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (accepted, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&accepted), Arc::clone(&open));
        // Ends with the test process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                counts.0.fetch_add(1, Ordering::SeqCst);
                counts.1.fetch_add(1, Ordering::SeqCst);
                let open = Arc::clone(&counts.1);
                std::thread::spawn(move || {
                    let _ = stream.read_to_end(&mut Vec::new());
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Frozen { address, accepted, open }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

fn scene(frozen: &Frozen, connect_timeout: Duration) -> Scene {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let tls = ClientTls::new(Some(made.cert.pem().as_bytes()), None).expect("a certificate of use");
    let mut spec = cluster("main", &[frozen.address]);
    spec.client.security.tls = true;
    spec.client.connect_timeout = connect_timeout;
    spec.tls = Some(tls);
    scene_of(vec![spec], GatewayConfig { shard_count: 1, ..GatewayConfig::default() }, None, |_| {})
}

/// Went wrong: the handshake had no timeout and nothing to cancel it by.
#[test]
fn a_frozen_load_balancer_costs_a_bounded_number_of_descriptors_and_does_not_hold_up_the_drain() {
    let frozen = Frozen::new();
    let gateway = scene(&frozen, Duration::from_millis(20));
    let before = descriptors();
    let begun = Instant::now();
    while frozen.accepted.load(Ordering::SeqCst) < 8 {
        assert!(begun.elapsed() < Duration::from_secs(10), "each attempt ends in its time, the next begins");
        std::thread::sleep(Duration::from_millis(5));
        let open = frozen.open.load(Ordering::SeqCst);
        assert!(open <= 3, "{open} connections stand after {} attempts", frozen.accepted.load(Ordering::SeqCst));
    }
    let after = descriptors();
    // An attempt under way has one descriptor on either side.
    assert!(after <= before + 6, "{before} descriptors became {after}");
    check_drain(gateway);

    // Given up before its own timeout.
    let gateway = scene(&frozen, Duration::from_secs(60));
    let begun = Instant::now();
    while frozen.open.load(Ordering::SeqCst) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "it tries");
        std::thread::sleep(Duration::from_millis(5));
    }
    check_drain(gateway);
    let begun = Instant::now();
    while frozen.open.load(Ordering::SeqCst) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(5), "its connections are closed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn check_drain(scene: Scene) {
    assert_eq!(scene.publisher().call(&Request::get("/alive")).expect("an answer").status, 200);
    let begun = Instant::now();
    scene.gateway.announce_drain();
    scene.gateway.drain();
    scene.gateway.join().expect("no shard panicked");
    assert!(begun.elapsed() < Duration::from_secs(2), "drained after {:?}", begun.elapsed());
}
