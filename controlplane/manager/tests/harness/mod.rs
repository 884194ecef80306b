//! A manager on a socket of its own, over a real database file. Kafka is a fake that can be told to fail, or the
//! embedded broker.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod handoff;
pub mod jobs;
pub mod jwt;
pub mod parked;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authdb::{Admin, AuthDb};
use kafka_admin::{AdminError, Answer, NewTopic, PartitionDescription, PartitionOffsets, TopicAdmin, TopicDescription};
use manager::client::AdminClient;
use manager::{AdminAccount, Fleet, ManagerState, Readiness, TopicRates};
use model::api_doc::EndpointDoc;
use model::ids::{AppId, ClusterName};
use model::login_limiter::LoginLimiter;
use model::secrets::SecretHash;
use model::{Snapshot, SnapshotDoc};
use registry::memory::MemoryEnsemble;
use registry::{NodeInfo, NodeKind, NodeState, NodeWish};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub const KEY: &str = "admin-key";

pub struct Manager {
    pub address: SocketAddr,
    pub db: Arc<dyn AuthDb>,
    pub fake: Arc<FakeKafka>,
    /// What the refresh hook loaded last: what shards would have.
    pub in_force: Arc<Mutex<SnapshotDoc>>,
    /// Nodes that have nothing of what comes.
    pub lacking: Arc<Mutex<Vec<String>>>,
    logins: Arc<Mutex<LoginLimiter>>,
    task: tokio::task::JoinHandle<()>,
    dir: Option<tempfile::TempDir>,
    /// Where nodes are registered.
    pub ensemble: MemoryEnsemble,
}

impl Manager {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Takes the database away.
    pub fn remove_database(&self) {
        std::fs::remove_file(self.dir.as_ref().unwrap().path().join("tenants.db")).unwrap();
    }

    pub async fn start_with(change: impl FnOnce(&mut ManagerState)) -> Self {
        Self::start_on(tempfile::tempdir().unwrap(), Arc::default(), change).await
    }

    /// As after kill -9: what was under way goes no further, and another one starts on what it left.
    pub async fn killed_and_started(mut self) -> Self {
        self.task.abort();
        let (dir, fake) = (self.dir.take().unwrap(), Arc::clone(&self.fake));
        fake.steps.live();
        Self::start_on(dir, fake, |_| {}).await
    }

    async fn start_on(dir: tempfile::TempDir, fake: Arc<FakeKafka>, change: impl FnOnce(&mut ManagerState)) -> Self {
        let db = authdb::open(dir.path().join("tenants.db").to_str().unwrap()).await.unwrap();
        let in_force = Arc::new(Mutex::new(SnapshotDoc::default()));
        let lacking: Arc<Mutex<Vec<String>>> = Arc::default();
        let ensemble = MemoryEnsemble::default();
        let hook_lacking = Arc::clone(&lacking);
        let (hook_db, hook_doc, hook_fake) = (db.clone(), Arc::clone(&in_force), Arc::clone(&fake));
        let mut state = ManagerState {
            db: db.clone(),
            oidc: None,
            admin: AdminAccount::new(Admin {
                appid: AppId::new("admin").unwrap(),
                key: SecretHash::of(KEY.as_bytes()),
            }),
            clusters: BTreeMap::from([(ClusterName::new("main").unwrap(), Arc::clone(&fake) as Arc<dyn TopicAdmin>)]),
            refresh: Arc::new(move || {
                let (db, in_force, fake) = (hook_db.clone(), Arc::clone(&hook_doc), Arc::clone(&hook_fake));
                Box::pin(async move {
                    fake.steps.pass().await;
                    let doc = db.load().await.map_err(|err| err.to_string())?;
                    let generation = doc.generation();
                    *in_force.lock().unwrap() = doc;
                    Ok(generation)
                })
            }),
            lacking: Arc::new(move |_| {
                let lacking = hook_lacking.lock().unwrap().clone();
                Box::pin(async move { Ok(lacking) })
            }),
            fleet: Fleet {
                registry: Some(Arc::new(ensemble.open())),
                this: "gw-1".to_owned(),
                check: Arc::new(|options| match options.keys().find(|key| *key != "log.level" && *key != "limit") {
                    Some(unknown) => Err(format!("there is no option {unknown}")),
                    None => Ok(()),
                }),
                status: Arc::new(|| {
                    serde_json::json!({
                        "id": "gw-1", "version": "0.1.0", "uptime_s": 1, "shards": 2, "connections": 3,
                        "state": "serving", "loglevel": "info", "options": {"limit": "7"}, "registry": "connected",
                    })
                }),
            },
            handoff: None,
            jobs: None,
            resume_after: Duration::from_secs(1),
            metrics: Arc::new(|| "# TYPE up gauge\nup 1\n".to_owned()),
            openapi: "{\"openapi\":\"3.1.0\"}".into(),
            readiness: Arc::new(|| Readiness {
                alive: true,
                ready: true,
                detail: serde_json::json!({"clusters": {"main": {"up": true}}}),
            }),
            rates: Arc::new(|_| TopicRates { publish_messages: 2.04, ..TopicRates::default() }),
            login_limiter: Arc::new(Mutex::new(LoginLimiter::new([7; 16]))),
            denials: Mutex::default(),
            on_loopback: true,
            cors_origins: vec!["https://console.example.com".to_owned()],
        };
        change(&mut state);
        let logins = Arc::clone(&state.login_limiter);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (router, chores) = manager::build(state);
        let server = manager::serve(listener, router, std::future::pending());
        let task = tokio::spawn(async move {
            tokio::select! {
                _ = server => {}
                () = chores => {}
            }
        });
        Self { address, db, fake, in_force, lacking, logins, ensemble, task, dir: Some(dir) }
    }

    pub fn client(&self) -> AdminClient {
        AdminClient::new(&format!("http://{}", self.address), "admin", KEY).unwrap()
    }

    /// Sends a request line, headers and body as the admin; status, headers and body of the answer.
    pub async fn raw(&self, line: &str, headers: &[(&str, &str)], body: &str) -> RawAnswer {
        let auth = [("Appid", "admin"), ("Pubkey", KEY)];
        let all: Vec<_> = auth.iter().chain(headers).copied().collect();
        self.send(line, &all, body).await
    }

    /// As `raw`, without credentials.
    pub async fn send(&self, line: &str, headers: &[(&str, &str)], body: &str) -> RawAnswer {
        let mut request = format!("{line} HTTP/1.1\r\nHost: manager\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let answer = self.send_bytes(request.as_bytes()).await;
        is_as_described(line, &answer);
        answer
    }

    /// A request as it goes over the line; it should ask for the connection to be closed.
    pub async fn send_bytes(&self, request: &[u8]) -> RawAnswer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // The server may close before it has read all of a body it refuses.
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8(answer).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer with a head");
        RawAnswer { status: head[9..12].parse().unwrap(), head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    /// Makes these apps, and a principal that owns the first of them; its key.
    pub async fn owner(&self, name: &str, app: &str, others: &[&str]) -> String {
        for app in [&[app], others].concat() {
            self.raw("POST /v1/apps", &[], &serde_json::json!({"appid": app}).to_string()).await;
        }
        let owner = serde_json::json!({"name": name, "role": "owner", "apps": [app]}).to_string();
        let made = self.raw("POST /v1/principals", &[], &owner).await.json();
        made["key"].as_str().unwrap().to_owned()
    }

    /// As if a minute had passed since the last failed login.
    pub fn forget_failures(&self) {
        *self.logins.lock().unwrap() = LoginLimiter::new([7; 16]);
    }

    /// The tenants as shards see them after the last change.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::build(self.in_force.lock().unwrap().clone()).unwrap()
    }

    /// One row of a test: method and path, body or "", and what is expected of "status body".
    pub async fn check(&self, line: &str, body: &str, expected: &str) {
        let answer = self.raw(line, &[], body).await;
        let found = format!("{} {}", answer.status, answer.body);
        assert_eq!(found, expected, "{line} {body}");
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A node, as it announces itself.
pub fn info(id: &str) -> NodeInfo {
    NodeInfo {
        kind: NodeKind::Kateway,
        id: id.to_owned(),
        zone: "local".to_owned(),
        version: "0.1.0".to_owned(),
        host: "localhost".to_owned(),
        pid: 1,
        started_at_ms: 1_511_366_400_000,
        addresses: BTreeMap::from([("pub".to_owned(), "127.0.0.1:9191".to_owned())]),
        applied: None,
        state: NodeState::Serving,
        obeys: Some(NodeWish { started_at_ms: 1_511_366_400_000, ..NodeWish::default() }),
        refuses: None,
    }
}

/// The endpoint of a request line.
fn endpoint(line: &str) -> Option<EndpointDoc> {
    let (method, target) = line.split_once(' ')?;
    let path: Vec<&str> = target.split('?').next()?.split('/').collect();
    let fits = |pattern: &str| {
        let pattern: Vec<&str> = pattern.split('/').collect();
        pattern.len() == path.len() && pattern.iter().zip(&path).all(|(a, b)| a.starts_with(':') || a == b)
    };
    manager::endpoints().into_iter().find(|doc| doc.method.as_str() == method && fits(doc.path))
}

/// Its JSON is of the schema that the endpoint's document gives it.
fn is_as_described(line: &str, answer: &RawAnswer) {
    let Some(doc) = endpoint(line) else { return };
    let described = doc.responses.iter().find(|response| response.status == answer.status);
    let Some(response) = described else {
        assert!(answer.status >= 400, "{line}: {} is not described", answer.status);
        return;
    };
    let content = response.content.iter().find(|content| content.media_type == "application/json");
    if let Some(content) = content {
        assert_eq!(content.schema.accepts(&answer.json()), Ok(()), "{line}: {}", answer.body);
    }
}

#[derive(Debug)]
pub struct RawAnswer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl RawAnswer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {}", self.body))
    }
}

/// Topics of a cluster that does what it is told at once, or fails as it is told to.
#[derive(Default)]
pub struct FakeKafka {
    pub topics: Mutex<BTreeMap<String, NewTopic>>,
    pub fail_with: Mutex<Option<AdminError>>,
    /// Does what it is told, and its answer gets lost.
    pub loses_answers: Mutex<bool>,
    pub groups: Mutex<Vec<String>>,
    /// Every call, in order.
    pub calls: Mutex<Vec<String>>,
    pub steps: Steps,
}

/// The places between two steps of a change, at one of which the manager dies: whatever comes there goes no further.
#[derive(Default)]
pub struct Steps {
    passed: AtomicUsize,
    deadly: Mutex<Option<usize>>,
    died: Notify,
}

impl Steps {
    /// The manager dies at the n-th place from now on, the first being 0.
    pub fn die_at(&self, place: usize) {
        self.passed.store(0, Ordering::SeqCst);
        *self.deadly.lock().unwrap() = Some(place);
    }

    pub async fn dead(&self) {
        self.died.notified().await;
    }

    pub fn live(&self) {
        *self.deadly.lock().unwrap() = None;
    }

    pub async fn pass(&self) {
        let place = self.passed.fetch_add(1, Ordering::SeqCst);
        if self.deadly.lock().unwrap().is_some_and(|deadly| place >= deadly) {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

impl FakeKafka {
    /// What a call does and answers; a manager may be killed before and after.
    fn answer<'a, T: Send + 'a>(
        &'a self,
        what: String,
        act: impl FnOnce() -> Result<T, AdminError> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            self.steps.pass().await;
            let answer = self.call(what).and_then(|()| act());
            self.steps.pass().await;
            answer
        })
    }

    fn call(&self, what: String) -> Result<(), AdminError> {
        self.calls.lock().unwrap().push(what);
        match &*self.fail_with.lock().unwrap() {
            Some(err) => Err(err.clone()),
            None => Ok(()),
        }
    }

    fn with<T>(&self, name: &str, f: impl FnOnce(&mut NewTopic) -> T) -> Result<T, AdminError> {
        let mut topics = self.topics.lock().unwrap();
        topics.get_mut(name).map(f).ok_or_else(|| AdminError::NoSuchTopic { topic: name.to_owned() })
    }

    pub fn fail(&self, err: Option<AdminError>) {
        *self.fail_with.lock().unwrap() = err;
    }

    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl TopicAdmin for FakeKafka {
    fn create_topic<'a>(&'a self, topic: &'a NewTopic) -> Answer<'a, ()> {
        let what = format!("create {} {}x{} {:?}", topic.name, topic.partitions, topic.replicas, topic.configs);
        self.answer(what, move || match self.topics.lock().unwrap().entry(topic.name.clone()) {
            Entry::Occupied(_) => Err(AdminError::AlreadyExists { topic: topic.name.clone() }),
            Entry::Vacant(place) => {
                place.insert(topic.clone());
                match *self.loses_answers.lock().unwrap() {
                    true => Err(AdminError::Timeout { why: "lost".to_owned() }),
                    false => Ok(()),
                }
            }
        })
    }

    fn check_topic<'a>(&'a self, topic: &'a NewTopic) -> Answer<'a, ()> {
        self.answer(format!("check {}", topic.name), move || {
            match self.topics.lock().unwrap().contains_key(&topic.name) {
                true => Err(AdminError::AlreadyExists { topic: topic.name.clone() }),
                false => Ok(()),
            }
        })
    }

    fn list_groups(&self) -> Answer<'_, Vec<String>> {
        self.answer("groups".to_owned(), || Ok(self.groups.lock().unwrap().clone()))
    }

    fn delete_topic<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        self.answer(format!("delete {name}"), move || {
            self.with(name, |_| ())?;
            self.topics.lock().unwrap().remove(name);
            Ok(())
        })
    }

    fn describe_topic<'a>(&'a self, name: &'a str) -> Answer<'a, TopicDescription> {
        self.answer(format!("describe {name}"), move || {
            self.with(name, |topic| TopicDescription {
                name: name.to_owned(),
                id: None,
                partitions: (0..topic.partitions)
                    .map(|index| PartitionDescription {
                        index,
                        leader: Some(1),
                        replicas: (1..=i32::from(topic.replicas)).collect(),
                        in_sync: vec![1],
                    })
                    .collect(),
            })
        })
    }

    fn create_partitions<'a>(&'a self, name: &'a str, total: i32) -> Answer<'a, ()> {
        self.answer(format!("partitions {name} {total}"), move || self.with(name, |topic| topic.partitions = total))
    }

    fn alter_configs<'a>(&'a self, name: &'a str, configs: &'a [(String, Option<String>)]) -> Answer<'a, ()> {
        self.answer(format!("alter {name} {configs:?}"), move || self.with(name, |_| ()))
    }

    fn broker_count(&self) -> Answer<'_, usize> {
        self.answer("brokers".to_owned(), || Ok(5))
    }

    fn list_offsets<'a>(&'a self, name: &'a str) -> Answer<'a, Vec<PartitionOffsets>> {
        self.answer(format!("offsets {name}"), move || {
            self.with(name, |topic| {
                (0..topic.partitions).map(|index| PartitionOffsets { index, oldest: 1, newest: 9 }).collect()
            })
        })
    }
}
