//! Events for the audit log, from a channel as shards have it to rows of a real database file.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use agent::wire::{self, Events, Frame, Recorded, Welcome};
use agent::{Agent, AgentConfig, AuditStatus, Part, audit};
use authdb::{AuditRow, AuthDb, Missing};
use model::{AuditEvent, AuditWhat, ReportedEvent};
use tokio::net::{UnixListener, UnixStream};

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn db(&self) -> Arc<dyn AuthDb> {
        authdb::at(self.path("tenants.db").to_str().unwrap(), Missing::Create).unwrap()
    }

    fn config(&self, node: &str) -> AgentConfig {
        AgentConfig {
            poll_period: Duration::from_millis(10),
            socket_path: Some(agent::socket_path(self.dir.path())),
            node: node.to_owned(),
            ..AgentConfig::new(self.db(), self.path("snapshot.json"))
        }
    }

    async fn owner(&self) -> Agent {
        let agent = Agent::start(self.config("owner"), |_| {}).await;
        assert_eq!(agent.status().part, Part::Owner);
        agent
    }

    /// A proxy: it is told events, and has no database.
    async fn proxy(&self) -> (Agent, SyncSender<AuditEvent>) {
        let (told, events) = audit::channel();
        let config = AgentConfig { db: None, audit: Some(events), ..self.config("proxy") };
        (Agent::start(config, |_| {}).await, told)
    }

    async fn rows(&self) -> Vec<AuditRow> {
        self.db().audit_after(0, 1_000).await.unwrap()
    }

    async fn subjects(&self) -> String {
        self.rows().await.iter().map(|row| row.subject.clone()).collect::<Vec<_>>().join(" ")
    }
}

fn deleted(groups: &str) -> AuditEvent {
    AuditEvent::new(1_000, AuditWhat::KafkaGroupsDeleted, "shop", "10.0.0.1:4711".parse().unwrap(), groups)
}

async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    for _ in 0..1_000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {what} after 10 s");
}

fn nothing_waits(agent: &Agent) -> bool {
    agent.status().audit == AuditStatus::default()
}

#[tokio::test]
async fn who_has_the_database_writes_what_its_own_shards_tell() {
    let fixture = Fixture::new();
    let (told, events) = audit::channel();
    let agent = Agent::start(AgentConfig { audit: Some(events), ..fixture.config("gw") }, |_| {}).await;
    told.try_send(deleted("a")).unwrap();
    eventually("written", async || fixture.subjects().await == "a").await;
    // What comes last is there when it has stopped, and what is being counted, too.
    let failed = || AuditEvent::new(1, AuditWhat::KafkaLoginFailed, "shop", "10.0.0.1:1".parse().unwrap(), "login");
    for _ in 0..5 {
        told.try_send(failed()).unwrap();
    }
    agent.stop().await;
    let rows = fixture.rows().await;
    let found: Vec<_> = rows.iter().map(|row| (row.operation.as_str(), row.after["count"].as_u64().unwrap())).collect();
    assert_eq!(found, [("kafka_groups_deleted", 1), ("kafka_login_failed", 1), ("kafka_login_failed", 4)]);
    assert_eq!((rows[0].app.as_str(), &rows[0].after["node"]), ("shop", &"gw".into()));
}

#[tokio::test]
async fn what_a_proxy_tells_has_one_row_also_when_the_owner_was_away() {
    let fixture = Fixture::new();
    let owner = fixture.owner().await;
    let (proxy, told) = fixture.proxy().await;
    assert_eq!(proxy.status().part, Part::Follower);
    told.try_send(deleted("a")).unwrap();
    eventually("written", async || fixture.subjects().await == "a" && nothing_waits(&proxy)).await;

    owner.stop().await;
    drop(owner);
    eventually("alone", async || proxy.status().part == Part::Alone).await;
    for groups in ["b", "c"] {
        told.try_send(deleted(groups)).unwrap();
    }
    eventually("waiting", async || proxy.status().audit.waiting == 2).await;
    assert_eq!(fixture.subjects().await, "a");
    let owner = fixture.owner().await;
    eventually("written", async || fixture.subjects().await == "a b c" && nothing_waits(&proxy)).await;
    assert_eq!(fixture.rows().await[2].after["node"], "proxy");

    // The last words of a proxy are taken as well.
    told.try_send(deleted("d")).unwrap();
    proxy.stop().await;
    assert_eq!(fixture.subjects().await, "a b c d");
    owner.stop().await;
}

/// Between a proxy and its owner, at another path: what it is asked for it does to the proxy's first connections.
struct Middle {
    fixture: Fixture,
    listener: UnixListener,
}

impl Middle {
    fn new() -> Self {
        let fixture = Fixture::new();
        let listener = UnixListener::bind(fixture.path("middle.sock")).unwrap();
        Self { fixture, listener }
    }

    async fn proxy(&self) -> (Agent, SyncSender<AuditEvent>) {
        let (told, events) = audit::channel();
        let socket_path = Some(self.fixture.path("middle.sock"));
        let snapshot_path = self.fixture.path("blind/snapshot.json");
        let config =
            AgentConfig { db: None, audit: Some(events), socket_path, snapshot_path, ..self.fixture.config("proxy") };
        (Agent::start(config, |_| {}).await, told)
    }

    /// Passes a connection on to the owner, and ends it when the owner's frame is one that `ends` says it is.
    async fn pass(&self, ends: impl Fn(&Frame) -> bool) -> Vec<Vec<ReportedEvent>> {
        let (mut client, _) = self.listener.accept().await.unwrap();
        let owner = agent::socket_path(self.fixture.dir.path());
        let mut agent = UnixStream::connect(owner).await.unwrap();
        let (mut from_client, mut to_client) = client.split();
        let (mut from_agent, mut to_agent) = agent.split();
        let mut told = Vec::new();
        let up = async {
            while let Ok(frame) = wire::read(&mut from_client).await {
                wire::write(&mut to_agent, &frame).await.unwrap();
                if let Frame::Events(Events { events }) = frame {
                    told.push(events);
                }
            }
        };
        let down = async {
            while let Ok(frame) = wire::read(&mut from_agent).await {
                if ends(&frame) {
                    return;
                }
                let _ = wire::write(&mut to_client, &frame).await;
            }
        };
        tokio::select! {
            () = up => {}
            () = down => {}
        }
        told
    }
}

#[tokio::test]
async fn what_was_written_and_not_acknowledged_before_the_connection_broke_has_one_row() {
    let middle = Middle::new();
    let fixture = &middle.fixture;
    let owner = fixture.owner().await;
    let script = async {
        // It is written, and nobody hears of it; three times.
        let mut told = Vec::new();
        for _ in 0..3 {
            told.extend(middle.pass(|frame| matches!(frame, Frame::Recorded(_))).await);
        }
        assert_eq!(fixture.subjects().await, "a");
        assert_eq!(told.len(), 3);
        assert!(told.iter().all(|events| events[..] == told[0][..]), "with the same ids: {told:?}");
        middle.pass(|_| false).await
    };
    let test = async {
        let (proxy, told) = middle.proxy().await;
        told.try_send(deleted("a")).unwrap();
        eventually("acknowledged", async || proxy.status().audit.waiting == 1).await;
        eventually("acknowledged", async || nothing_waits(&proxy)).await;
        told.try_send(deleted("b")).unwrap();
        eventually("acknowledged", async || fixture.subjects().await == "a b" && nothing_waits(&proxy)).await;
    };
    tokio::select! {
        told = script => panic!("the last connection ended: {told:?}"),
        () = test => {}
    }
    owner.stop().await;
}

async fn welcome(listener: &UnixListener, records: bool) -> UnixStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(matches!(wire::read(&mut stream).await.unwrap(), Frame::Hello(_)));
    let welcome = Frame::Welcome(Welcome { wire: wire::VERSION, refused: None, records });
    wire::write(&mut stream, &welcome).await.unwrap();
    stream
}

#[tokio::test]
async fn an_owner_of_before_there_were_events_is_sent_none_and_followed_all_the_same() {
    let middle = Middle::new();
    let owners = async {
        let mut old = welcome(&middle.listener, false).await;
        let heard = tokio::time::timeout(Duration::from_millis(500), wire::read(&mut old)).await;
        assert!(heard.is_err(), "{heard:?}");
        drop(old);
        let mut new = welcome(&middle.listener, true).await;
        let Frame::Events(Events { events }) = wire::read(&mut new).await.unwrap() else { panic!("no events") };
        let id = events.last().unwrap().id.clone();
        wire::write(&mut new, &Frame::Recorded(Recorded { id })).await.unwrap();
        (events, new)
    };
    let test = async {
        let (proxy, told) = middle.proxy().await;
        assert_eq!(proxy.status().part, Part::Follower);
        told.try_send(deleted("a")).unwrap();
        eventually("waiting", async || proxy.status().audit.waiting == 1).await;
        eventually("acknowledged", async || nothing_waits(&proxy)).await;
        proxy
    };
    let ((events, _new), _proxy) = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(owners, test) })
        .await
        .expect("a newer owner is told in the end");
    assert_eq!(events.iter().map(|event| event.event.about.as_str()).collect::<Vec<_>>(), ["a"]);
}

/// Whatever a consumer sends as events: nothing is written of what is none, and the others are served on.
#[tokio::test]
async fn what_is_no_batch_ends_its_own_connection_only() {
    let fixture = Fixture::new();
    let owner = fixture.owner().await;
    let (proxy, told) = fixture.proxy().await;
    let event = |number: usize| ReportedEvent {
        id: format!("x-{number}"),
        node: "x".to_owned(),
        event: deleted(&number.to_string()),
    };
    let too_many: Vec<ReportedEvent> = (0..=agent::limits::AUDIT_BATCH_EVENTS_MAX).map(event).collect();
    let rows = [
        Frame::Events(Events { events: too_many }).encode(),
        b"\0\0\0\x03e{}".to_vec(),
        b"\0\0\0\x12e{\"events\":[null]}".to_vec(),
    ];
    for row in rows {
        let mut stream = UnixStream::connect(agent::socket_path(fixture.dir.path())).await.unwrap();
        let hello = wire::Hello { wire: wire::VERSION, node: "x".to_owned(), have: None };
        wire::write(&mut stream, &Frame::Hello(hello)).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &row).await.unwrap();
        let ended =
            tokio::time::timeout(Duration::from_secs(5), async { while wire::read(&mut stream).await.is_ok() {} });
        ended.await.expect("it is hung up on");
    }
    assert_eq!(fixture.subjects().await, "");
    told.try_send(deleted("a")).unwrap();
    eventually("written", async || fixture.subjects().await == "a" && nothing_waits(&proxy)).await;
    owner.stop().await;
}
