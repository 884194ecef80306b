//! Endpoints without a socket: a request value in, an answer value out, Kafka a model cluster in the same thread.

use super::*;
use crate::config::{ClusterSpec, GatewayConfig};
use crate::exchange::reply::{Body, Value};
use crate::kafka::Probing;
use crate::limits::RAW_TOPICS_PER_APP_MAX;
use crate::publish::batch::feed::Flow;
use crate::publish::handoff::Handoff;
use crate::publish::handoff::pace::Pace;
use crate::subscribe::mail::Post;
use bytes::BytesMut;
use expect_test::{Expect, expect};
use gafka_http::{HeadLimits, parse_head};
use kafka_client::{ClientConfig, ConnId};
use kafka_wire::api_key::ApiKey;
use kafka_wire::error_code::ErrorCode;
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::scram::ScramParams;
use model::{
    AppDoc, GrantDoc, PlainSecret, SecretPair, Side, Snapshot, SnapshotDoc, StoredSecret, TopicDoc, TopicOptions,
};
use model_kafka::{Cluster, Fault, Reply as Said, Session};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[path = "../../../kafka-client/tests/client/broker.rs"]
#[allow(dead_code, reason = "each of its users needs a part")]
mod model_kafka;

const PUBKEY: &str = "publish-secret-of-demo";
const SUBKEY: &str = "subscribe-secret-of-demo";

struct Scene {
    services: Services,
    kafka: Cluster,
    wires: BTreeMap<ConnId, (i32, Session, BytesMut)>,
    now: Instant,
}

fn snapshot(grants: Vec<GrantDoc>) -> Snapshot {
    let scram = ScramParams { salt: vec![7; 16], iterations: 4096 };
    let secret = |text: &str| SecretPair {
        current: StoredSecret::derive(&PlainSecret::from_text(text).expect("usable"), &scram),
        previous: None,
    };
    let (app, cluster) = (AppId::new("demo").expect("valid"), ClusterName::new("main").expect("valid"));
    let topic = |index, name: &str, message_bytes_max| TopicDoc {
        limits: model::quota::Limits::default(),
        index,
        owner: app.clone(),
        name: TopicName::new(name).expect("valid"),
        ver: TopicVersion::new("v1").expect("valid"),
        cluster: cluster.clone(),
        enabled: true,
        options: TopicOptions { message_bytes_max, ..TopicOptions::default() },
        partitions: None,
        replicas: None,
        retention_ms: None,
        retention_bytes: None,
    };
    let doc = SnapshotDoc {
        generation: 1,
        history: model::HistoryId::new(1),
        made_at_ms: 0,
        apps: vec![AppDoc {
            limits: model::quota::Limits::default(),
            addresses: model::Addresses::default(),
            handoff: true,
            index: 1,
            id: app.clone(),
            cluster: cluster.clone(),
            enabled: true,
            publish: secret(PUBKEY),
            subscribe: secret(SUBKEY),
            scram: scram.clone(),
        }],
        topics: vec![topic(1, "orders", 1_000_000), topic(2, "small", 8), topic(3, "gone", 1_000_000)],
        grants,
    };
    Snapshot::build(doc).expect("a valid snapshot")
}

impl Scene {
    fn new() -> Scene {
        Scene::granted(Vec::new())
    }

    fn granted(grants: Vec<GrantDoc>) -> Scene {
        let now = Instant::now();
        let client = ClientConfig { bootstrap: vec!["b1:9092".into()], ..ClientConfig::default() };
        let spec = ClusterSpec { name: "main".to_owned(), client, tls: None };
        let config = GatewayConfig::default();
        let snapshot = Arc::new(snapshot(grants));
        let mut kafka = Cluster::new(1, 1);
        kafka.create("demo.orders.v1", 2);
        kafka.create("demo.small.v1", 1);
        let services = Services {
            itself: Weak::new(),
            clusters: Clusters::new(vec![spec], &config, Probing::Relies, now),
            env: Env::alone(config, Arc::clone(&snapshot)),
            access: Access::new(snapshot, 1),
            jobs: crate::jobs::Jobs::new(None, 0),
            publishing: Publishing::new(Handoff::new(None, 0, Pace::new(None, 1))),
            subscriptions: Subscriptions::new(Post::new(Vec::new())),
        };
        Scene { services, kafka, wires: BTreeMap::new(), now }
    }

    /// `|` is CR LF; `{auth}` the headers of a right client. What follows the head is the body.
    fn call(&mut self, side: Side, request: &str) -> String {
        let key = match side {
            Side::Publish => format!("Pubkey: {PUBKEY}"),
            Side::Subscribe => format!("Subkey: {SUBKEY}"),
        };
        let bytes = request.replace("{auth}", &format!("Host: x|Appid: demo|{key}|")).replace('|', "\r\n");
        let head = parse_head(bytes.as_bytes(), &HeadLimits::default()).expect("a good head").expect("a whole one");
        let conn = Rc::new(Conn::new(side, SocketAddr::from(([127, 0, 0, 1], 1)), None));
        let meta = Meta::of(&head, &self.services.env);
        let mut body = &bytes.as_bytes()[head.head_bytes..];
        let opened = match router::may_come_in_pieces(side, &head) {
            true => open(&self.services, &conn, &meta, &head, self.now),
            false => Ok(None),
        };
        match opened {
            Ok(Some((mut feed, _))) => {
                let around = self.services.around();
                assert_eq!(feed.take(around, &mut body, self.now), Flow::Open);
                assert_eq!(feed.end(around, self.now), Flow::Open);
            }
            Ok(None) => {
                let exchange = Exchange::open(&conn, meta, self.now);
                start(&self.services, exchange, &head, RequestBody::Slice(body), self.now);
            }
            Err(refusal) => Exchange::open(&conn, meta, self.now).refuse(&self.services.env, &refusal, self.now),
        }
        for _ in 0..100 {
            self.drive();
            if let Some(answered) = conn.slots().pop() {
                return show(answered.reply);
            }
            self.now += Duration::from_secs(1);
        }
        panic!("no answer to {request}");
    }

    /// What the shard does in a cluster's turn, with queues for sockets.
    fn drive(&mut self) {
        let Services { env, clusters, publishing, subscriptions, .. } = &self.services;
        let (cluster, now) = (clusters.at(0), self.now);
        for _ in 0..50 {
            subscriptions.tick(env, clusters, 0, now);
            cluster.client.borrow_mut().flush(now);
            while let Some(outcome) = { cluster.client.borrow_mut().poll_outcome() } {
                publishing.complete(self.services.around(), cluster, outcome, now);
            }
            while let Some((token, reply)) = { cluster.client.borrow_mut().poll_reply() } {
                subscriptions.on_reply(cluster, token, reply, now);
            }
            let mut client = cluster.client.borrow_mut();
            while let Some(connect) = client.poll_connect(now) {
                let node = connect.host.trim_start_matches('b').parse().expect("b1, b2");
                self.wires.insert(connect.conn, (node, Session::default(), BytesMut::new()));
                client.on_connected(connect.conn, now);
            }
            while let Some(conn) = client.poll_transmit_ready() {
                let Some((node, session, received)) = self.wires.get_mut(&conn) else { continue };
                received.extend_from_slice(&client.take_transmit(conn).concat());
                while received.len() >= 4 {
                    let length = u32::from_be_bytes(received[..4].try_into().expect("four")) as usize;
                    if received.len() < 4 + length {
                        break;
                    }
                    let frame = received.split_to(4 + length).freeze().slice(4..);
                    match self.kafka.handle(*node, conn.0, session, frame) {
                        Said::Answer(chunks) | Said::Held(chunks) | Said::Overtaken(chunks) => {
                            client.on_bytes(conn, &mut BytesMut::from(&chunks.concat()[..]), now);
                        }
                        Said::Nothing | Said::Parked(_) => {}
                        Said::Close => client.on_closed(conn, "closed by the broker".into(), now),
                    }
                }
            }
        }
    }
}

fn show(reply: Reply) -> String {
    let mut shown = reply.status.to_string();
    for header in &reply.headers {
        let value = match &header.value {
            Value::Text(text) => (*text).to_owned(),
            Value::Number(number) => number.to_string(),
            Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        };
        let _ = write!(shown, " {}={value}", header.name);
    }
    match reply.body {
        Body::None => {}
        Body::Stored(stored) => shown.push_str(&format!(" partition {} offset {}", stored.partition, stored.offset)),
        Body::Small(_, bytes) => shown.push_str(&format!(" {}", String::from_utf8_lossy(&bytes))),
        Body::Large(_, bytes) => shown.push_str(&format!(" {}", String::from_utf8_lossy(&bytes).trim_end())),
        Body::Growing(_) => shown.push_str(" growing"),
    }
    if reply.close { shown + ", closes" } else { shown }
}

/// Each row in a world of its own.
fn check(side: Side, rows: &[&str], expected: Expect) {
    let mut table = String::new();
    for row in rows {
        let _ = writeln!(table, "{row}\n    {}", Scene::new().call(side, row));
    }
    expected.assert_eq(&table);
}

#[test]
fn who_may_not_is_told_why_and_nothing_is_stored() {
    check(
        Side::Publish,
        &[
            "POST /v1/msgs/orders/v1 HTTP/1.1|Host: x||a",
            "POST /v1/msgs/orders/v1 HTTP/1.1|Host: x|Appid: demo|Pubkey: wrong||a",
            "POST /v1/msgs/nosuch/v1 HTTP/1.1|{auth}|a",
            "POST /v1/msgs/orders/v2 HTTP/1.1|{auth}|a",
            "POST /v1/raw/msgs/main/some.topic HTTP/1.1|{auth}|a",
            "POST /v1/raw/msgs/main/no+name HTTP/1.1|{auth}|a",
            "POST /v1/raw/msgs/other/some.topic/batch HTTP/1.1|{auth}|a",
            "GET /v1/msgs/orders/v1 HTTP/1.1|{auth}|",
            "POST /nowhere HTTP/1.1|{auth}|",
        ],
        expect![[r#"
            POST /v1/msgs/orders/v1 HTTP/1.1|Host: x||a
                401 WWW-Authenticate=Basic realm="gafka", charset="UTF-8" {"errmsg":"the app id or its secret is missing or wrong","code":"not_authenticated"}
            POST /v1/msgs/orders/v1 HTTP/1.1|Host: x|Appid: demo|Pubkey: wrong||a
                401 WWW-Authenticate=Basic realm="gafka", charset="UTF-8" {"errmsg":"the app id or its secret is missing or wrong","code":"not_authenticated"}
            POST /v1/msgs/nosuch/v1 HTTP/1.1|{auth}|a
                404 {"errmsg":"app demo has no topic nosuch","code":"no_such_topic"}
            POST /v1/msgs/orders/v2 HTTP/1.1|{auth}|a
                404 {"errmsg":"topic orders has no version v2","code":"no_such_version"}
            POST /v1/raw/msgs/main/some.topic HTTP/1.1|{auth}|a
                403 {"errmsg":"app demo has no grant to publish to Kafka topic some.topic of cluster main","code":"not_granted"}
            POST /v1/raw/msgs/main/no+name HTTP/1.1|{auth}|a
                400 {"errmsg":"physical topic \"no+name\" holds '+' at character 2, allowed are letters, digits, dot, _ and -","code":"bad_topic_name"}
            POST /v1/raw/msgs/other/some.topic/batch HTTP/1.1|{auth}|a
                403 {"errmsg":"app demo has no grant to publish to Kafka topic some.topic of cluster other","code":"not_granted"}
            GET /v1/msgs/orders/v1 HTTP/1.1|{auth}|
                405 Allow=POST, OPTIONS {"errmsg":"this path answers POST, OPTIONS","code":"method_not_allowed"}
            POST /nowhere HTTP/1.1|{auth}|
                404 {"errmsg":"there is no such path on this listener","code":"no_such_path"}
        "#]],
    );
}

#[test]
fn raw_topics_that_nobody_uses_any_more_make_place_for_others() {
    // An app that had used 1,000 was refused every other one until a restart.
    let (app, cluster) = (AppId::new("demo").expect("valid"), ClusterName::new("main").expect("valid"));
    let mut scene = Scene::granted(vec![GrantDoc::RawPublish { app, cluster, topic: None }]);
    let publish = |scene: &mut Scene, n: u32| {
        let answer = scene.call(Side::Publish, &format!("POST /v1/raw/msgs/main/t{n} HTTP/1.1|{{auth}}|a"));
        answer[..3].to_owned()
    };
    scene.kafka.create("t0", 1);
    for n in 0..RAW_TOPICS_PER_APP_MAX {
        let expected = if n == 0 { "201" } else { "404" };
        assert_eq!(publish(&mut scene, n), expected, "topic {n}");
    }
    assert_eq!(publish(&mut scene, RAW_TOPICS_PER_APP_MAX), "503");
    for _ in 0..30 {
        scene.now += Duration::from_secs(5 * 60);
        assert_eq!(publish(&mut scene, 0), "201", "one of them is in use");
    }
    for n in RAW_TOPICS_PER_APP_MAX..2 * RAW_TOPICS_PER_APP_MAX - 1 {
        assert_eq!(publish(&mut scene, n), "404", "topic {n}");
    }
    assert_eq!(publish(&mut scene, 2 * RAW_TOPICS_PER_APP_MAX), "503", "topic 0 counts on");
    assert_eq!(publish(&mut scene, 0), "201");
}

#[test]
fn a_publish_asks_for_what_can_be_done() {
    check(
        Side::Publish,
        &[
            "POST /v1/msgs/orders/v1?partition=1 HTTP/1.1|{auth}|a",
            "POST /topics/orders/v1?partition=0&ack=local HTTP/1.1|{auth}|a",
            "POST /v1/msgs/orders/v1?partition=2 HTTP/1.1|{auth}|a",
            "POST /v1/msgs/orders/v1?partition=x HTTP/1.1|{auth}|a",
            "POST /v1/msgs/orders/v1?null=1 HTTP/1.1|{auth}|a",
            "POST /v1/msgs/orders/v1?partition=0&timestamp=17 HTTP/1.1|{auth}|a",
            "POST /v1/msgs/orders/v1?kei=x HTTP/1.1|{auth}|a",
            "POST /v1/msgs/small/v1 HTTP/1.1|{auth}|123456789",
            "POST /v1/msgs/gone/v1 HTTP/1.1|{auth}|a",
            "POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Encoding: br||a",
            "POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Encoding: gzip||a",
            "POST /v1/msgs/orders/v1 HTTP/1.1|{auth}X-Header-A: %||a",
        ],
        expect![[r#"
            POST /v1/msgs/orders/v1?partition=1 HTTP/1.1|{auth}|a
                201 partition 1 offset 0
            POST /topics/orders/v1?partition=0&ack=local HTTP/1.1|{auth}|a
                201 partition 0 offset 0
            POST /v1/msgs/orders/v1?partition=2 HTTP/1.1|{auth}|a
                400 {"errmsg":"topic has no partition 2, it has 2","code":"no_such_partition"}
            POST /v1/msgs/orders/v1?partition=x HTTP/1.1|{auth}|a
                400 {"errmsg":"partition is `x`, expected a number, at least 0","code":"bad_parameter"}
            POST /v1/msgs/orders/v1?null=1 HTTP/1.1|{auth}|a
                400 {"errmsg":"null=1 stores a null value, but the request has a body","code":"null_with_body"}
            POST /v1/msgs/orders/v1?partition=0&timestamp=17 HTTP/1.1|{auth}|a
                201 partition 0 offset 0
            POST /v1/msgs/orders/v1?kei=x HTTP/1.1|{auth}|a
                400 {"errmsg":"there is no query parameter kei here, the nearest is key","code":"unknown_parameter"}
            POST /v1/msgs/small/v1 HTTP/1.1|{auth}|123456789
                413 {"errmsg":"the message is over the limit of 8 bytes","code":"message_too_large"}
            POST /v1/msgs/gone/v1 HTTP/1.1|{auth}|a
                404 {"errmsg":"topic does not exist in the cluster","code":"no_such_topic"}
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Encoding: br||a
                415 Accept-Encoding=gzip, zstd {"errmsg":"Content-Encoding is `br`, expected gzip, zstd or none","code":"unsupported_content_encoding"}
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}Content-Encoding: gzip||a
                400 {"errmsg":"the body cannot be decoded: unexpected end of file","code":"malformed_content_encoding"}
            POST /v1/msgs/orders/v1 HTTP/1.1|{auth}X-Header-A: %||a
                400 {"errmsg":"X-Header-A: a percent sign is not followed by two hexadecimal digits","code":"bad_header"}
        "#]],
    );
}

#[test]
fn a_batch_is_judged_by_its_head_then_record_by_record() {
    const BATCH: &str = "POST /v1/msgs/orders/v1/batch";
    const NDJSON: &str = " HTTP/1.1|{auth}Content-Type: application/x-ndjson||";
    let rows = [
        format!("{BATCH} HTTP/1.1|{{auth}}Content-Type: text/plain||x"),
        format!("{BATCH}{NDJSON}"),
        format!("{BATCH}?key=x{NDJSON}"),
        format!("{BATCH}?receipts=summary&stream=1{NDJSON}"),
        format!("{BATCH}?stream=1 HTTP/1.0|{{auth}}Content-Type: application/x-ndjson|Content-Length: 1||x"),
        format!(
            "{BATCH}{NDJSON}{{\"value\":\"a\",\"partition\":0}}\n{{\"value\":1}}\n{{\"value\":\"b\",\"partition\":0}}"
        ),
        format!("{BATCH}{NDJSON}{{\"value\":\"a\",\"partition\":0}}\n{{\"value\""),
        format!("{BATCH}?receipts=summary{NDJSON}{{\"value\":\"a\",\"partition\":1}}\n{{\"nosuch\":1}}"),
    ];
    check(
        Side::Publish,
        &rows.iter().map(String::as_str).collect::<Vec<_>>(),
        expect![[r#"
        POST /v1/msgs/orders/v1/batch HTTP/1.1|{auth}Content-Type: text/plain||x
            415 Accept=application/x-ndjson, application/vnd.gafka.records {"errmsg":"Content-Type is `text/plain`, expected one of application/x-ndjson, application/vnd.gafka.records","code":"unsupported_content_type"}
        POST /v1/msgs/orders/v1/batch HTTP/1.1|{auth}Content-Type: application/x-ndjson||
            400 {"errmsg":"the batch has no record","code":"empty_batch"}
        POST /v1/msgs/orders/v1/batch?key=x HTTP/1.1|{auth}Content-Type: application/x-ndjson||
            400 {"errmsg":"there is no query parameter key here, the nearest is ack","code":"unknown_parameter"}
        POST /v1/msgs/orders/v1/batch?receipts=summary&stream=1 HTTP/1.1|{auth}Content-Type: application/x-ndjson||
            400 {"errmsg":"receipts=summary comes at the end, stream=1 wants receipts at once","code":"summary_with_stream"}
        POST /v1/msgs/orders/v1/batch?stream=1 HTTP/1.0|{auth}Content-Type: application/x-ndjson|Content-Length: 1||x
            400 {"errmsg":"stream=1 is answered in chunks and needs HTTP/1.1","code":"stream_needs_http_1_1"}
        POST /v1/msgs/orders/v1/batch HTTP/1.1|{auth}Content-Type: application/x-ndjson||{"value":"a","partition":0}
        {"value":1}
        {"value":"b","partition":0}
            200 X-Failed=1 {"partition":0,"offset":0}
        {"status":400,"errmsg":"value must be a string or null; use value_json for JSON","code":"invalid_field"}
        {"partition":0,"offset":1}
        POST /v1/msgs/orders/v1/batch HTTP/1.1|{auth}Content-Type: application/x-ndjson||{"value":"a","partition":0}
        {"value"
            200 X-Failed=1 {"partition":0,"offset":0}
        {"status":400,"errmsg":"the line is not a JSON value: it breaks JSON's grammar","code":"malformed_record"}, closes
        POST /v1/msgs/orders/v1/batch?receipts=summary HTTP/1.1|{auth}Content-Type: application/x-ndjson||{"value":"a","partition":1}
        {"nosuch":1}
            200 X-Failed=1 {"ok":1,"failed":1,"ranges":[{"partition":1,"offset":0,"count":1}],"errors":[{"record":1,"status":400,"code":"unknown_field"}]}
    "#]],
    );
}

#[test]
fn a_poll_asks_for_what_can_be_done() {
    check(
        Side::Subscribe,
        &[
            "GET /v1/msgs/demo/orders/v1 HTTP/1.1|{auth}|",
            "GET /v1/msgs/demo/orders/v1?group=g&wait=x HTTP/1.1|{auth}|",
            "GET /v1/msgs/demo/orders/v1?group=g&ack=1 HTTP/1.1|{auth}|",
            "GET /v1/msgs/nosuch/orders/v1?group=g HTTP/1.1|{auth}|",
            "GET /v1/msgs/demo/nosuch/v1?group=g HTTP/1.1|{auth}|",
            "HEAD /v1/msgs/demo/orders/v1?group=g HTTP/1.1|{auth}|",
        ],
        expect![[r#"
            GET /v1/msgs/demo/orders/v1 HTTP/1.1|{auth}|
                400 {"errmsg":"the query has no group","code":"missing_group"}
            GET /v1/msgs/demo/orders/v1?group=g&wait=x HTTP/1.1|{auth}|
                400 {"errmsg":"wait is \"x\", expected as in 30, 30s or 500ms","code":"illegal_wait"}
            GET /v1/msgs/demo/orders/v1?group=g&ack=1 HTTP/1.1|{auth}|
                501 {"errmsg":"ack=1 is not supported by this version of the gateway","code":"not_supported_yet"}
            GET /v1/msgs/nosuch/orders/v1?group=g HTTP/1.1|{auth}|
                404 {"errmsg":"there is no app nosuch","code":"no_such_app"}
            GET /v1/msgs/demo/nosuch/v1?group=g HTTP/1.1|{auth}|
                404 {"errmsg":"app demo has no topic nosuch","code":"no_such_topic"}
            HEAD /v1/msgs/demo/orders/v1?group=g HTTP/1.1|{auth}|
                405 Allow=GET, OPTIONS {"errmsg":"this path answers GET, OPTIONS","code":"method_not_allowed"}
        "#]],
    );
}

#[test]
fn probes_and_preflights_need_no_credentials() {
    check(
        Side::Subscribe,
        &[
            "GET /healthz HTTP/1.1|Host: x||",
            "GET /alive HTTP/1.1|Host: x||",
            "GET /healthz?x=1 HTTP/1.1|Host: x||",
            "OPTIONS /v1/msgs/demo/orders/v1 HTTP/1.1|Host: x||",
            "OPTIONS * HTTP/1.1|Host: x||",
        ],
        expect![[r#"
            GET /healthz HTTP/1.1|Host: x||
                200 Cache-Control=no-store {"ok":1}
            GET /alive HTTP/1.1|Host: x||
                200 Cache-Control=no-store {"ok":1}
            GET /healthz?x=1 HTTP/1.1|Host: x||
                400 {"errmsg":"there is no query parameter x here, this path takes none","code":"unknown_parameter"}
            OPTIONS /v1/msgs/demo/orders/v1 HTTP/1.1|Host: x||
                204 Allow=GET, OPTIONS
            OPTIONS * HTTP/1.1|Host: x||
                204 Allow=GET, HEAD, POST, OPTIONS
        "#]],
    );
}

#[test]
fn what_kafka_says_of_a_record_is_what_its_publisher_is_told() {
    let mut table = String::new();
    for (what, fault) in [
        ("nothing wrong", None),
        ("refused as invalid", Some(Fault::Error(ErrorCode::INVALID_RECORD))),
        ("too large for the topic", Some(Fault::Error(ErrorCode::MESSAGE_TOO_LARGE))),
        ("not authorized", Some(Fault::Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED))),
    ] {
        let mut scene = Scene::new();
        if let Some(fault) = fault {
            scene.kafka.fault(ApiKey::Produce, fault);
        }
        let answer = scene.call(Side::Publish, "POST /v1/msgs/orders/v1?partition=0&timeout=3s HTTP/1.1|{auth}|a");
        let stored = scene.kafka.log("demo.orders.v1", 0).len();
        let _ = writeln!(table, "{what}: {answer}; {stored} stored");
    }
    expect![[r#"
        nothing wrong: 201 partition 0 offset 0; 1 stored
        refused as invalid: 400 {"errmsg":"refused by the broker: INVALID_RECORD","code":"rejected_by_kafka"}; 0 stored
        too large for the topic: 413 {"errmsg":"record of 69 bytes is larger than the cluster takes","code":"message_too_large"}; 0 stored
        not authorized: 503 Retry-After=1 {"errmsg":"not authorized at the broker: TOPIC_AUTHORIZATION_FAILED","code":"kafka_denied"}; 0 stored
    "#]].assert_eq(&table);
}

#[test]
fn a_request_lets_go_of_its_memory_when_it_is_answered() {
    let mut scene = Scene::new();
    for request in [
        "POST /v1/msgs/orders/v1 HTTP/1.1|{auth}|a",
        "POST /v1/msgs/small/v1 HTTP/1.1|{auth}|123456789",
        "POST /v1/msgs/orders/v1/batch HTTP/1.1|{auth}Content-Type: application/x-ndjson||{\"value\":\"a\"}",
        "POST /v1/msgs/orders/v1/batch?receipts=x HTTP/1.1|{auth}Content-Type: application/x-ndjson||{\"value\":\"a\"}",
    ] {
        scene.call(Side::Publish, request);
        assert_eq!(scene.services.env.budget.used_bytes(), 0, "{request}");
        assert_eq!(scene.services.publishing.count(), 0, "{request}");
    }
}
