//! A manager on a socket of its own, over a real database file. Kafka is a fake that can be told to fail, or the
//! embedded broker.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use authdb::{Admin, AuthDb};
use kafka_admin::{AdminError, Answer, NewTopic, PartitionDescription, PartitionOffsets, TopicAdmin, TopicDescription};
use manager::client::AdminClient;
use manager::{ManagerState, Readiness};
use model::ids::{AppId, ClusterName};
use model::login_limiter::LoginLimiter;
use model::secrets::SecretHash;
use model::{Snapshot, SnapshotDoc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const KEY: &str = "admin-key";

pub struct Manager {
    pub address: SocketAddr,
    pub db: AuthDb,
    pub fake: Arc<FakeKafka>,
    /// What the refresh hook loaded last: what shards would have.
    pub in_force: Arc<Mutex<SnapshotDoc>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    _dir: tempfile::TempDir,
}

impl Manager {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut ManagerState)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = AuthDb::open(dir.path().join("tenants.db").to_str().unwrap()).await.unwrap();
        let fake = Arc::new(FakeKafka::default());
        let in_force = Arc::new(Mutex::new(SnapshotDoc::default()));
        let (hook_db, hook_doc) = (db.clone(), Arc::clone(&in_force));
        let mut state = ManagerState {
            db: db.clone(),
            admin: Admin { appid: AppId::new("admin").unwrap(), key: SecretHash::of(KEY.as_bytes()) },
            clusters: BTreeMap::from([(ClusterName::new("main").unwrap(), Arc::clone(&fake) as Arc<dyn TopicAdmin>)]),
            refresh: Arc::new(move || {
                let (db, in_force) = (hook_db.clone(), Arc::clone(&hook_doc));
                Box::pin(async move {
                    let doc = db.load().await.map_err(|err| err.to_string())?;
                    *in_force.lock().unwrap() = doc;
                    Ok(())
                })
            }),
            metrics: Arc::new(|| "# TYPE up gauge\nup 1\n".to_owned()),
            openapi: "{\"openapi\":\"3.1.0\"}".into(),
            readiness: Arc::new(|| Readiness {
                alive: true,
                ready: true,
                detail: serde_json::json!({"clusters": {"main": "reachable"}}),
            }),
            login_limiter: Arc::new(Mutex::new(LoginLimiter::new([7; 16]))),
            on_loopback: true,
            cors_origins: vec!["https://console.example.com".to_owned()],
        };
        change(&mut state);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        tokio::spawn(manager::serve(listener, manager::router(state), async move { drop(stopped.await) }));
        Self { address, db, fake, in_force, stop: Some(stop), _dir: dir }
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
        self.send_bytes(request.as_bytes()).await
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
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
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
    /// Every call, in order.
    pub calls: Mutex<Vec<String>>,
}

impl FakeKafka {
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
        Box::pin(async move {
            self.call(format!("create {} {}x{} {:?}", topic.name, topic.partitions, topic.replicas, topic.configs))?;
            match self.topics.lock().unwrap().entry(topic.name.clone()) {
                Entry::Occupied(_) => Err(AdminError::AlreadyExists { topic: topic.name.clone() }),
                Entry::Vacant(place) => {
                    place.insert(topic.clone());
                    Ok(())
                }
            }
        })
    }

    fn delete_topic<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            self.call(format!("delete {name}"))?;
            self.with(name, |_| ())?;
            self.topics.lock().unwrap().remove(name);
            Ok(())
        })
    }

    fn describe_topic<'a>(&'a self, name: &'a str) -> Answer<'a, TopicDescription> {
        Box::pin(async move {
            self.call(format!("describe {name}"))?;
            self.with(name, |topic| TopicDescription {
                name: name.to_owned(),
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
        Box::pin(async move {
            self.call(format!("partitions {name} {total}"))?;
            self.with(name, |topic| topic.partitions = total)
        })
    }

    fn alter_configs<'a>(&'a self, name: &'a str, configs: &'a [(String, Option<String>)]) -> Answer<'a, ()> {
        Box::pin(async move {
            self.call(format!("alter {name} {configs:?}"))?;
            self.with(name, |_| ())
        })
    }

    fn broker_count(&self) -> Answer<'_, usize> {
        Box::pin(async move { self.call("brokers".to_owned()).map(|()| 5) })
    }

    fn list_offsets<'a>(&'a self, name: &'a str) -> Answer<'a, Vec<PartitionOffsets>> {
        Box::pin(async move {
            self.call(format!("offsets {name}"))?;
            self.with(name, |topic| {
                (0..topic.partitions).map(|index| PartitionOffsets { index, oldest: 1, newest: 9 }).collect()
            })
        })
    }
}
