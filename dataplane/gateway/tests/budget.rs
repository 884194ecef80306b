//! The memory budget: what is charged, that a spent one is a 503 and never the end of the connection or of others, and
//! that every byte comes back.

mod harness;

use gateway::GatewayConfig;
use harness::raw::Raw;
use harness::{APP, PUBKEY, Scene, app, as_demo, scene_at, scene_beside, scene_with};
use model::TopicDoc;
use model::ids::{AppId, ClusterName};
use model::topic_options::Compression;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
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

#[test]
fn a_batch_without_memory_for_its_receipts_ends_instead_of_growing() {
    let scene = small();
    let held = hold(&scene, &[1_000_000, 1_000_000, 1_000_000, 1_000_000, 180_000]);
    // 14 KB are left to the tenant; the receipts of these alone would take 3 MB.
    let records = [0_u8, 0, 0, 3, 0, 0, 0].repeat(200_000);
    let batch = Request::post("/v1/msgs/orders/v1/batch?timeout=300ms")
        .header("Content-Type", "application/vnd.gafka.records")
        .header("Accept", "application/vnd.gafka.receipts");
    let answer = scene.publisher().call(&as_demo(batch.body(records))).expect("an answer");
    assert_eq!((answer.status, answer.header("Connection")), (503, Some("close")), "{:?}", answer.headers);
    let receipts = answer.body.len() / 14;
    assert!((1..20_000).contains(&receipts), "it ended after {receipts} records");
    assert!(answer.body.chunks(14).all(|receipt| receipt[..2] == 503_u16.to_be_bytes()), "none was stored");
    drop(held);
    scene.wait_idle(0);
}

/// Accepts as the kernel does, and never answers. The listener must be kept.
fn silent_cluster() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[test]
fn a_dead_cluster_takes_half_of_the_memory_at_most_and_a_tenant_a_quarter() {
    let (_listener, dead) = silent_cluster();
    let config = GatewayConfig { shard_count: 1, memory_bytes: 16 << 20, ..GatewayConfig::default() };
    // Four apps with a topic on the dead cluster; demo's are on the living one.
    let scene = scene_beside(&[("dead", dead)], config, None, |doc| {
        for number in 0..4 {
            let id = format!("app{number}");
            doc.apps.push(app(10 + number, &id, &format!("publish-secret-{id}"), &format!("subscribe-secret-{id}")));
            let topic = TopicDoc {
                limits: model::quota::Limits::default(),
                index: 10 + number,
                owner: AppId::new(&id).expect("valid"),
                cluster: ClusterName::new("dead").expect("valid"),
                ..doc.topics[0].clone()
            };
            doc.topics.push(topic);
        }
    });
    let publish = |number: u32, bytes: usize| {
        let id = format!("app{number}");
        let request = Request::post("/v1/msgs/orders/v1?timeout=2500ms").body(vec![b'x'; bytes]);
        request.header("Appid", id.clone()).header("Pubkey", format!("publish-secret-{id}"))
    };
    // Tenants 0 and 1 fill their quarters: 4 messages of 900,000 bytes of 4 MiB each.
    let mut waiting = Vec::new();
    for number in [0, 0, 0, 0, 1, 1, 1, 1] {
        let mut connection = scene.publisher();
        connection.send(&publish(number, 900_000)).expect("sent");
        waiting.push(connection);
    }
    let until = Instant::now() + Duration::from_secs(5);
    while scene.metric("gateway_publishes_waiting", &[]) < 8 {
        assert!(Instant::now() < until, "they wait for their cluster");
        std::thread::sleep(Duration::from_millis(5));
    }
    let refusals = |scope: &str| scene.metric("gateway_refused_total", &[scope]);
    let answer = scene.publisher().call(&publish(0, 600_000)).expect("an answer");
    assert_eq!(
        (summary(&answer).as_str(), refusals("memory_tenant")),
        ("503 overloaded", 1),
        "a tenant has its quarter"
    );
    // 7.2 MB of 8 MiB wait: other tenants have room of their own, but not there.
    let mut third = scene.publisher();
    third.send(&publish(2, 900_000)).expect("sent");
    waiting.push(third);
    while scene.metric("gateway_publishes_waiting", &[]) < 9 {
        assert!(Instant::now() < until, "there is room for one more");
        std::thread::sleep(Duration::from_millis(5));
    }
    let answer = scene.publisher().call(&publish(3, 1_000_000)).expect("an answer");
    assert_eq!(
        (summary(&answer).as_str(), refusals("memory_cluster")),
        ("503 overloaded", 1),
        "a cluster has its half"
    );
    // The living cluster does not notice: three messages of the same size at once, and a batch.
    let alive = as_demo(Request::post("/v1/msgs/orders/v1").body(vec![b'x'; 900_000]));
    let mut others: Vec<Connection> = (0..3).map(|_| scene.publisher()).collect();
    for other in &mut others {
        other.send(&alive).expect("sent");
    }
    for other in &mut others {
        assert_eq!(other.read().expect("an answer").status, 201);
    }
    let lines = "{\"value\":\"x\"}\n".repeat(10_000);
    let batch =
        Request::post("/v1/msgs/orders/v1/batch?receipts=summary").header("Content-Type", "application/x-ndjson");
    let batch = batch.header("Appid", APP).header("Pubkey", PUBKEY).body(lines);
    assert_eq!(scene.publisher().call(&batch).expect("an answer").header("X-Failed"), Some("0"));
    // In the end everybody is told, and all of it comes back.
    for connection in &mut waiting {
        assert_eq!(summary(&connection.read().expect("an answer")), "503 kafka_unavailable");
    }
    drop((waiting, others));
    scene.wait_idle(0);
}

/// Went wrong: what waits in the Kafka client was one pot for the whole cluster, smaller than one tenant's share of the
/// memory, and first come first served.
#[test]
fn a_tenant_whose_partition_lacks_replicas_is_refused_at_its_share_and_others_of_the_cluster_are_served() {
    let config = GatewayConfig { shard_count: 1, memory_bytes: 320 << 20, ..GatewayConfig::default() };
    let tenant_bytes = config.budget().tenant_bytes_max;
    assert!(tenant_bytes > kafka_client::limits::QUEUE_BYTES_MAX, "more than the client's own idea of a full queue");
    let mut scene = scene_with(config, |doc| {
        doc.apps.push(app(10, "calm", "publish-secret-of-calm", "subscribe-secret-of-calm"));
    });
    scene.add_topic(APP, "held", &[("min.insync.replicas", "2")], |_| {});
    scene.add_topic("calm", "orders", &[], |_| {});
    let calm = |what: &str| {
        let request = Request::post("/v1/msgs/orders/v1").header("Appid", "calm");
        let request = request.header("Pubkey", "publish-secret-of-calm").body(vec![b'x'; 500_000]);
        let begun = Instant::now();
        let answer = scene.publisher().call(&request).expect("an answer");
        assert_eq!(answer.status, 201, "{what}: {}", answer.text());
        assert!(begun.elapsed() < Duration::from_secs(2), "{what}: after {:?}", begun.elapsed());
    };
    calm("before");
    let fill = as_demo(Request::post("/v1/msgs/held/v1?partition=0&timeout=6s").body(vec![b'x'; 1_000_000]));
    let fits = (tenant_bytes / 1_000_512) as u64;
    let mut waiting: Vec<Connection> = Vec::new();
    let until = Instant::now() + Duration::from_secs(5);
    for sent in 1..=fits {
        let mut connection = scene.publisher();
        connection.send(&fill).expect("sent");
        waiting.push(connection);
        while scene.metric("gateway_publishes_waiting", &[]) < sent.saturating_sub(8) {
            assert!(Instant::now() < until, "{sent} were sent");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    while scene.metric("gateway_publishes_waiting", &[]) < fits {
        assert!(Instant::now() < until, "all of the tenant's share can wait");
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = scene.publisher().call(&fill).expect("an answer");
    assert_eq!(summary(&refused), "503 overloaded", "{}", refused.text());
    assert!(refused.text().contains("budget of the tenant"), "{}", refused.text());
    calm("while the other's share is spent");
    for connection in &mut waiting {
        let told = summary(&connection.read().expect("an answer"));
        // Unknown for the one that is with the broker at that moment, once more.
        assert!(["503 kafka_unavailable", "504 outcome_unknown"].contains(&told.as_str()), "{told}");
    }
    drop(waiting);
    scene.wait_idle(0);
}

#[test]
fn keys_headers_and_the_records_of_a_batch_are_charged_while_they_wait_for_kafka() {
    let scene = small();
    let reserved = |request: Request| {
        scene.hooks.inject(
            kafka_wire::api_key::ApiKey::Produce,
            embedded_kafka::Fault::Delay(Duration::from_millis(1500)),
            1,
        );
        let mut connection = scene.publisher();
        connection.send(&as_demo(request)).expect("sent");
        let (until, mut most) = (Instant::now() + Duration::from_millis(1300), 0);
        while Instant::now() < until {
            most = most.max(scene.metric("gateway_memory_reserved_bytes", &[]));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(matches!(connection.read().expect("an answer").status, 200 | 201));
        scene.wait_idle(1);
        most
    };
    assert_eq!(scene.publish("/v1/msgs/orders/v1?partition=0", "warm").status, 201);
    let plain = reserved(Request::post("/v1/msgs/orders/v1?partition=0").body("x"));
    let headers = Request::post("/v1/msgs/orders/v1?partition=0").header("X-Header-Large", "h".repeat(5_000));
    let headers = reserved(headers.body("x"));
    assert!((5_000..5_100).contains(&(headers - plain)), "5,000 bytes of headers: {plain} became {headers}");
    let batch = Request::post("/v1/msgs/orders/v1/batch").header("Content-Type", "application/x-ndjson");
    let lines = "{\"partition\":0}\n".repeat(1_000);
    let batch = reserved(batch.body(lines));
    assert!(batch >= 1_000 * 160, "a thousand records of nothing hold {batch}");
}

#[test]
fn an_app_can_keep_so_many_groups_and_others_are_served() {
    let (_listener, dead) = silent_cluster();
    let config = GatewayConfig { shard_count: 1, ..GatewayConfig::default() };
    let scene = scene_at(&[("main", dead)], config, None, |_| {});
    let poll = |app: &str, key: &str, group: &str| {
        let target = format!("/v1/msgs/demo/orders/v1?group={group}&wait=0");
        Request::get(&target).header("Appid", app).header("Subkey", key)
    };
    let mut connection = scene.subscriber();
    for group in 0..gateway::limits::GROUPS_PER_APP_MAX {
        let answer = connection.call(&poll(APP, harness::SUBKEY, &format!("g{group}"))).expect("an answer");
        assert_ne!(answer.code().as_deref(), Some("too_many_groups"), "group {group}: {}", answer.text());
    }
    let answer = connection.call(&poll(APP, harness::SUBKEY, "one-more")).expect("an answer");
    assert_eq!(summary(&answer), "503 too_many_groups");
    let known = connection.call(&poll(APP, harness::SUBKEY, "g0")).expect("an answer");
    assert_ne!(known.code().as_deref(), Some("too_many_groups"), "a group it has goes on");
    let other = connection.call(&poll(harness::OTHER, harness::OTHER_SUBKEY, "one-more")).expect("an answer");
    assert_ne!(other.code().as_deref(), Some("too_many_groups"), "another app has its own");
    assert!(scene.metric("gateway_refused_total", &["groups_of_app"]) == 1, "counted");
}

/// 16 MiB, of an app that may hold 4.
fn fill(scene: &Scene) -> BTreeSet<String> {
    let filler: String = (0..64_000usize).map(|at| char::from(b'a' + (at * at % 23) as u8)).collect();
    let value = |n: usize| format!("{n}{filler}");
    for n in 0..256 {
        assert_eq!(scene.publish("/v1/msgs/full/v1", &value(n)).status, 201, "message {n}");
    }
    (0..256).map(value).collect()
}

#[test]
fn groups_that_hold_more_than_memory_allows_let_go_and_each_still_reads_everything_once() {
    // 400 groups that had read one message each kept 2.5 GB under a limit of 1 GiB.
    for codec in [Compression::None, Compression::Gzip] {
        let mut scene = small();
        scene.add_topic("demo", "full", &[], |topic| topic.options.compression = codec);
        let all = fill(&scene);
        let poll = |group: usize, batch: usize| {
            scene.poll(&format!("/v1/msgs/demo/full/v1?group=g{group}&wait=10&batch={batch}&max_bytes=1000000"))
        };
        let mut most = 0;
        for group in 0..30 {
            assert_eq!(poll(group, 1).status, 200, "group {group}");
            most = most.max(scene.metric("gateway_memory_reserved_bytes", &[]));
        }
        assert!(
            most < 6 << 20,
            "{codec:?}: {most} bytes held for an app that may hold 4 MiB, and an answer on its way"
        );
        for group in [0, 13, 29] {
            let mut seen = BTreeSet::new();
            while seen.len() + 1 < all.len() {
                let answer = poll(group, 0); // a batch of one
                assert_eq!(answer.status, 200, "{codec:?}: group {group} after {} messages", seen.len());
                assert!(seen.insert(String::from_utf8(answer.body[16..].to_vec()).expect("text")), "twice");
            }
            assert!(seen.is_subset(&all));
        }
    }
}
