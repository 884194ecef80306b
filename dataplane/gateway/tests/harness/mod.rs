//! A gateway of two shards over the embedded broker, on free ports, with one app and its topics.
#![allow(dead_code, reason = "every test binary uses its part")]

pub mod raw;

use embedded_kafka::{EmbeddedConfig, EmbeddedKafka, Hooks};
use gateway::{ClusterSpec, Gateway, GatewayConfig, GatewayParts, HandoffPlace, JobsPlace, Listeners};
use kafka_client::ClientConfig;
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::scram::ScramParams;
use model::{AppDoc, GrantDoc, PlainSecret, SecretPair, Snapshot, SnapshotDoc, StoredSecret, TopicDoc, TopicOptions};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::http::{Connection, Request, Response};

/// The gateway's node id.
pub const NODE: &str = "5f0c9a3e71d2b684";
pub const APP: &str = "demo";
pub const OTHER: &str = "reader";
pub const PUBKEY: &str = "publish-secret-of-demo";
pub const SUBKEY: &str = "subscribe-secret-of-demo";
pub const OTHER_SUBKEY: &str = "subscribe-secret-of-reader";

pub struct Scene {
    pub publish: SocketAddr,
    pub subscribe: SocketAddr,
    pub gateway: Gateway,
    pub hooks: Hooks,
    pub doc: SnapshotDoc,
    _kafka: Option<(EmbeddedKafka, tempfile::TempDir)>,
}

pub fn scene() -> Scene {
    scene_with(GatewayConfig { shard_count: 2, ..GatewayConfig::default() }, |_| {})
}

pub fn scene_with(config: GatewayConfig, adjust: impl FnOnce(&mut SnapshotDoc)) -> Scene {
    scene_beside(&[], config, None, adjust)
}

/// With other clusters beside the embedded broker, which is `main`.
pub fn scene_beside(
    others: &[(&str, SocketAddr)],
    config: GatewayConfig,
    access_log: Option<PathBuf>,
    adjust: impl FnOnce(&mut SnapshotDoc),
) -> Scene {
    let dir = tempfile::tempdir().expect("temp dir");
    let hooks = Hooks::default();
    let kafka = EmbeddedKafka::start(EmbeddedConfig {
        data_dir: dir.path().join("kafka"),
        hooks: hooks.clone(),
        ..EmbeddedConfig::default()
    })
    .expect("embedded broker starts");
    create_topics(
        kafka.addr(),
        &["demo.orders.v1", "demo.orders.v2", "demo.orders.v3", "demo.secret.v1", "demo.small.v1"],
    );
    let clusters: Vec<_> = [("main", kafka.addr())].iter().chain(others).copied().collect();
    let mut scene = scene_at(&clusters, config, access_log, adjust);
    scene._kafka = Some((kafka, dir));
    scene.hooks = hooks;
    scene.wait_ready();
    scene
}

/// With whatever stands at these addresses as Kafka clusters. Not ready before one answers.
pub fn scene_at(
    clusters: &[(&str, SocketAddr)],
    config: GatewayConfig,
    access_log: Option<PathBuf>,
    adjust: impl FnOnce(&mut SnapshotDoc),
) -> Scene {
    let spec = |(name, address): &(&str, SocketAddr)| cluster(name, &[*address]);
    scene_of(clusters.iter().map(spec).collect(), config, access_log, adjust)
}

/// A cluster with these bootstrap addresses, whose brokers have 2 s to answer.
pub fn cluster(name: &str, bootstrap: &[SocketAddr]) -> ClusterSpec {
    let client = ClientConfig {
        bootstrap: bootstrap.iter().map(SocketAddr::to_string).collect(),
        request_timeout: Duration::from_secs(2),
        ..ClientConfig::default()
    };
    ClusterSpec { name: name.to_owned(), client, tls: None }
}

/// With any clusters. Not ready before one answers.
pub fn scene_of(
    clusters: Vec<ClusterSpec>,
    config: GatewayConfig,
    access_log: Option<PathBuf>,
    adjust: impl FnOnce(&mut SnapshotDoc),
) -> Scene {
    scene_that_hands_off(clusters, config, access_log, None, adjust)
}

/// With a journal in this directory.
pub fn scene_that_hands_off(
    clusters: Vec<ClusterSpec>,
    config: GatewayConfig,
    access_log: Option<PathBuf>,
    journal: Option<PathBuf>,
    adjust: impl FnOnce(&mut SnapshotDoc),
) -> Scene {
    scene_that_keeps(clusters, config, access_log, Kept { journal, jobs: None }, adjust)
}

/// Delayed jobs, in a directory that goes with the scene.
pub fn scene_with_jobs(config: GatewayConfig, adjust: impl FnOnce(&mut SnapshotDoc)) -> Scene {
    let dir = tempfile::tempdir().expect("temp dir");
    let hooks = Hooks::default();
    let kafka = EmbeddedKafka::start(EmbeddedConfig {
        data_dir: dir.path().join("kafka"),
        hooks: hooks.clone(),
        ..EmbeddedConfig::default()
    })
    .expect("embedded broker starts");
    create_topics(kafka.addr(), &["demo.orders.v1", "demo.orders.v2", "demo.small.v1"]);
    let jobs = Some(dir.path().join("jobs"));
    let clusters = vec![cluster("main", &[kafka.addr()])];
    let mut scene = scene_that_keeps(clusters, config, None, Kept { journal: None, jobs }, adjust);
    scene._kafka = Some((kafka, dir));
    scene.hooks = hooks;
    scene.wait_ready();
    scene
}

/// Directories of what a gateway keeps.
pub struct Kept {
    pub journal: Option<PathBuf>,
    pub jobs: Option<PathBuf>,
}

fn scene_that_keeps(
    clusters: Vec<ClusterSpec>,
    config: GatewayConfig,
    access_log: Option<PathBuf>,
    kept: Kept,
    adjust: impl FnOnce(&mut SnapshotDoc),
) -> Scene {
    let mut doc = doc();
    adjust(&mut doc);
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners = Listeners::bind(local, local, config.shard_count).expect("free ports");
    let (publish, subscribe) = (listeners.publish_addr, listeners.subscribe_addr);
    let gateway = Gateway::start(GatewayParts {
        config,
        clusters,
        listeners,
        snapshot: Arc::new(Snapshot::build(doc.clone()).expect("a valid snapshot")),
        access_log,
        jobs: kept.jobs.map(|dir| JobsPlace { dir, node: NODE.to_owned() }),
        handoff: kept.journal.map(|dir| HandoffPlace { dir, node: NODE.to_owned() }),
    })
    .expect("gateway starts");
    Scene { publish, subscribe, gateway, hooks: Hooks::default(), doc, _kafka: None }
}

/// Asks Kafka itself, past the gateway.
fn ask_kafka(
    kafka: SocketAddr,
    api: kafka_wire::api_key::ApiKey,
    request: kafka_wire::cold::RequestKind,
) -> kafka_wire::cold::ResponseKind {
    use kafka_wire::cold;
    use std::io::{Read, Write};
    const VERSION: i16 = 5;
    let frame = cold::encode_request_frame(&request, VERSION, 1, "test").expect("encodes");
    let mut stream = std::net::TcpStream::connect(kafka).expect("connects");
    stream.write_all(&frame).expect("sent");
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut body = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).expect("an answer");
    let mut body = bytes::Bytes::from(body);
    kafka_wire::header::decode_response_header(&mut body, api, VERSION).expect("a header");
    cold::decode_response(api, VERSION, body).expect("a response")
}

/// The gateway never makes topics by asking for them; the manager does. Here a plain CreateTopics (4 partitions).
pub fn create_topics(kafka: SocketAddr, names: &[&str]) {
    names.iter().for_each(|name| create_topic(kafka, name, &[]));
}

/// One topic with these configurations.
pub fn create_topic(kafka: SocketAddr, name: &str, configs: &[(&str, &str)]) {
    use kafka_wire::cold::{RequestKind, ResponseKind, StrBytes, types};
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let config = |(name, value): &(&str, &str)| {
        let config = types::create_topics_request::CreatableTopicConfig::default();
        config.with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = types::create_topics_request::CreatableTopic::default()
        .with_name(text(name).into())
        .with_num_partitions(4)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = types::CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
    let api = kafka_wire::api_key::ApiKey::CreateTopics;
    let ResponseKind::CreateTopics(response) = ask_kafka(kafka, api, RequestKind::CreateTopics(request)) else {
        panic!("not a CreateTopics response")
    };
    assert!(response.topics.iter().all(|topic| topic.error_code == 0), "{response:?}");
}

fn doc() -> SnapshotDoc {
    let name = |text: &str| TopicName::new(text).expect("valid");
    let topic = |index: u32, topic: &str, ver: &str| TopicDoc {
        limits: model::quota::Limits::default(),
        index,
        owner: AppId::new(APP).expect("valid"),
        name: name(topic),
        ver: TopicVersion::new(ver).expect("valid"),
        cluster: ClusterName::new("main").expect("valid"),
        enabled: true,
        options: TopicOptions::default(),
        partitions: None,
        replicas: None,
        retention_ms: None,
        retention_bytes: None,
    };
    SnapshotDoc {
        generation: 1,
        history: model::HistoryId::new(1),
        made_at_ms: 0,
        apps: vec![app(1, APP, PUBKEY, SUBKEY), app(2, OTHER, "publish-secret-of-reader", OTHER_SUBKEY)],
        topics: vec![
            topic(1, "orders", "v1"),
            topic(2, "orders", "v2"),
            topic(3, "secret", "v1"),
            TopicDoc {
                limits: model::quota::Limits::default(),
                options: TopicOptions { message_bytes_max: 64, ..TopicOptions::default() },
                ..topic(4, "small", "v1")
            },
        ],
        grants: vec![GrantDoc::Subscribe {
            app: AppId::new(OTHER).expect("valid"),
            owner: AppId::new(APP).expect("valid"),
            topic: name("orders"),
            ver: None,
        }],
    }
}

pub fn app(index: u32, id: &str, publish: &str, subscribe: &str) -> AppDoc {
    let scram = ScramParams { salt: vec![7; 16], iterations: 4096 };
    let secret = |text: &str| SecretPair {
        current: StoredSecret::derive(&PlainSecret::from_text(text).expect("a usable secret"), &scram),
        previous: None,
    };
    AppDoc {
        limits: model::quota::Limits::default(),
        addresses: model::Addresses::default(),
        handoff: true,
        index,
        id: AppId::new(id).expect("valid"),
        cluster: ClusterName::new("main").expect("valid"),
        enabled: true,
        publish: secret(publish),
        subscribe: secret(subscribe),
        scram,
    }
}

impl Scene {
    pub fn wait_ready(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while !self.gateway.readiness().ready {
            assert!(Instant::now() < until, "not ready: {}", self.gateway.readiness().reason());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a shard to fall.
    pub fn wait_fallen(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.gateway.fallen().is_empty() {
            assert!(Instant::now() < until, "no shard has fallen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn publisher(&self) -> Connection {
        Connection::open(&self.publish.to_string()).expect("connects")
    }

    pub fn subscriber(&self) -> Connection {
        Connection::open(&self.subscribe.to_string()).expect("connects")
    }

    /// A topic of an app in Kafka, with these configurations, and for the gateway.
    pub fn add_topic(&mut self, owner: &str, name: &str, configs: &[(&str, &str)], adjust: impl FnOnce(&mut TopicDoc)) {
        let (kafka, _) = self._kafka.as_ref().expect("an embedded broker");
        create_topic(kafka.addr(), &format!("{owner}.{name}.v1"), configs);
        self.change(|doc| {
            let mut topic = TopicDoc {
                limits: model::quota::Limits::default(),
                index: 100 + doc.topics.len() as u32,
                owner: AppId::new(owner).expect("valid"),
                name: TopicName::new(name).expect("valid"),
                ..doc.topics[0].clone()
            };
            adjust(&mut topic);
            doc.topics.push(topic);
        });
    }

    /// Makes a topic in Kafka.
    pub fn create_topic(&self, name: &str) {
        create_topics(self.kafka(), &[name]);
    }

    /// Deletes a topic in Kafka, behind the gateway's back.
    pub fn delete_topic(&self, name: &str) {
        use kafka_wire::cold::{RequestKind, ResponseKind, StrBytes, types};
        let names = vec![StrBytes::from_string(name.to_owned()).into()];
        let request = types::DeleteTopicsRequest::default().with_topic_names(names).with_timeout_ms(5000);
        let api = kafka_wire::api_key::ApiKey::DeleteTopics;
        let answer = ask_kafka(self.kafka(), api, RequestKind::DeleteTopics(request));
        let ResponseKind::DeleteTopics(response) = answer else { panic!("not a DeleteTopics response") };
        assert!(response.responses.iter().all(|topic| topic.error_code == 0), "{response:?}");
    }

    fn kafka(&self) -> SocketAddr {
        self._kafka.as_ref().expect("with the embedded broker").0.addr()
    }

    /// Publishes one message on a fresh connection.
    pub fn publish(&self, target: &str, body: &str) -> Response {
        self.publisher().call(&as_demo(Request::post(target).body(body))).expect("an answer")
    }

    /// The sum of a metric over the label sets that contain all of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.gateway.metrics.render();
        text.lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number") as u64)
            .sum()
    }

    /// Waits until no request holds memory, waits for Kafka or has its connection open, apart from `connections`.
    pub fn wait_idle(&self, connections: u64) {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let open = self.metric("gateway_connections", &[]);
            let left =
                (self.metric("gateway_publishes_waiting", &[]), self.metric("gateway_memory_reserved_bytes", &[]));
            if left == (0, 0) && open <= connections {
                return;
            }
            assert!(Instant::now() < until, "waiting, reserved: {left:?}; connections open: {open}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Polls on a fresh connection.
    pub fn poll(&self, target: &str) -> Response {
        self.subscriber().call(&as_demo_reader(Request::get(target))).expect("an answer")
    }

    /// Hands the shards an adjusted snapshot and waits until they have it.
    pub fn change(&mut self, adjust: impl FnOnce(&mut SnapshotDoc)) {
        self.doc.generation += 1;
        adjust(&mut self.doc);
        let snapshot = Arc::new(Snapshot::build(self.doc.clone()).expect("a valid snapshot"));
        let edition = self.gateway.publish_snapshot(&snapshot);
        let until = Instant::now() + Duration::from_secs(5);
        while self.gateway.board.applied_edition() < edition {
            assert!(Instant::now() < until, "the shards did not take the snapshot");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

pub fn as_demo(request: Request) -> Request {
    request.header("Appid", APP).header("Pubkey", PUBKEY)
}

pub fn as_demo_reader(request: Request) -> Request {
    request.header("Appid", APP).header("Subkey", SUBKEY)
}
