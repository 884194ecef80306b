//! The agent between a real database file, a real registry directory and shards played by a channel.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, AgentConfig, Part, RefreshError, Source, open_db};
use authdb::{AuthDb, Missing, NewApp};
use model::ids::{AppId, ClusterName, Generation, TopicName, TopicVersion};
use model::{Snapshot, snapshot_file};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;

struct Fixture {
    dir: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn db_path(&self) -> PathBuf {
        self.dir.path().join("tenants.db")
    }

    fn snapshot_path(&self) -> PathBuf {
        self.dir.path().join("snapshot.json")
    }

    fn db(&self) -> Arc<dyn AuthDb> {
        authdb::at(self.db_path().to_str().unwrap(), Missing::Create).unwrap()
    }

    fn config(&self) -> AgentConfig {
        AgentConfig { poll_period: Duration::from_millis(10), ..AgentConfig::new(self.db(), self.snapshot_path()) }
    }
}

async fn start(config: AgentConfig) -> (Agent, UnboundedReceiver<Arc<Snapshot>>) {
    let (sender, published) = unbounded_channel();
    (Agent::start(config, move |snapshot| drop(sender.send(snapshot))).await, published)
}

fn app(id: &str) -> NewApp {
    let cluster = ClusterName::new("main").unwrap();
    NewApp { id: AppId::new(id).unwrap(), cluster, publish: None, subscribe: None, reuse: true }
}

async fn until(published: &mut UnboundedReceiver<Arc<Snapshot>>, condition: impl Fn(&Snapshot) -> bool) {
    let found = async {
        loop {
            if condition(&published.recv().await.expect("the agent runs")) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.expect("the snapshot was published in time");
}

#[tokio::test]
async fn a_change_reaches_the_shards_by_itself() {
    let fixture = Fixture::new();
    let (agent, mut published) = start(fixture.config()).await;
    assert_eq!(agent.status().source, Source::Database);
    fixture.db().create_app(app("shop")).await.unwrap();
    until(&mut published, |s| s.app("shop").is_some()).await;
    fixture.db().delete_app(&AppId::new("shop").unwrap(), false).await.unwrap();
    until(&mut published, |s| s.app("shop").is_none()).await;
}

#[tokio::test]
async fn after_a_refresh_the_change_is_in_force() {
    let fixture = Fixture::new();
    let config = AgentConfig { poll_period: Duration::from_secs(3600), ..fixture.config() };
    let (agent, _published) = start(config).await;
    // The first tick of an interval is immediate; nothing has changed for it.
    fixture.db().create_app(app("shop")).await.unwrap();
    let generation = agent.refresh().await.unwrap();
    assert_eq!(agent.snapshot().generation, generation);
    assert!(agent.snapshot().app("shop").is_some());
}

#[tokio::test]
async fn a_refresh_waits_for_the_shards_to_take_the_snapshot() {
    let fixture = Fixture::new();
    let (shards, applied) = watch::channel(Generation::default());
    let config = AgentConfig { applied: Some(applied), ..fixture.config() };
    let shards = Arc::new(shards);
    let taking = Arc::clone(&shards);
    let agent = Agent::start(config, move |snapshot| {
        let taking = Arc::clone(&taking);
        tokio::spawn(async move {
            tokio::task::yield_now().await;
            taking.send_replace(snapshot.generation);
        });
    })
    .await;
    fixture.db().create_app(app("shop")).await.unwrap();
    let generation = agent.refresh().await.unwrap();
    assert_eq!(*shards.borrow(), generation);
}

#[tokio::test]
async fn tenants_are_served_from_disk_when_the_database_is_gone() {
    let fixture = Fixture::new();
    {
        let (agent, _published) = start(fixture.config()).await;
        fixture.db().create_app(app("shop")).await.unwrap();
        agent.refresh().await.unwrap();
        agent.stop().await;
        assert!(matches!(agent.refresh().await, Err(RefreshError::Stopped)));
    }
    let mode = std::fs::metadata(fixture.snapshot_path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let away = fixture.dir.path().join("away");
    std::fs::rename(fixture.db_path(), &away).unwrap();
    let db = open_db(fixture.db_path().to_str().unwrap(), &fixture.snapshot_path()).unwrap();
    let (agent, mut published) = start(AgentConfig { db: Some(db), ..fixture.config() }).await;
    assert_eq!(agent.status().source, Source::Disk);
    assert!(agent.status().trouble.is_some());
    assert!(agent.snapshot().app("shop").is_some());
    assert!(agent.refresh().await.is_err());
    assert!(!fixture.db_path().exists(), "an empty database would delete every tenant");

    std::fs::rename(&away, fixture.db_path()).unwrap();
    fixture.db().create_app(app("audit")).await.unwrap();
    until(&mut published, |s| s.app("audit").is_some() && s.app("shop").is_some()).await;
    assert_eq!(agent.status().source, Source::Database);
    assert!(agent.refresh().await.is_ok());
    assert!(agent.status().trouble.is_none());
}

#[tokio::test]
async fn a_damaged_snapshot_on_disk_is_as_good_as_none() {
    let fixture = Fixture::new();
    let mut file = snapshot_file::encode(&fixture.db().load().await.unwrap());
    let last = file.len() - 2;
    file[last] ^= 1;
    std::fs::write(fixture.snapshot_path(), file).unwrap();
    {
        let unreachable = authdb::at("/nonexistent/tenants.db", Missing::Create).unwrap();
        let (agent, mut published) = start(AgentConfig { db: Some(unreachable), ..fixture.config() }).await;
        assert_eq!(agent.status().source, Source::Nothing);
        assert_eq!(published.recv().await.unwrap().app_count(), 0);
        agent.stop().await;
    }
    let (agent, _published) = start(fixture.config()).await;
    assert_eq!(agent.status().source, Source::Database);
    let written = std::fs::read(fixture.snapshot_path()).unwrap();
    assert!(snapshot_file::decode(&written).is_ok(), "the good one has replaced it");
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_reaches_the_shards_and_is_written_as_soon_as_it_can() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path().join("missing");
    let config = AgentConfig { snapshot_path: dir.join("snapshot.json"), ..fixture.config() };
    let (agent, _published) = start(config).await;
    fixture.db().create_app(app("shop")).await.unwrap();
    agent.refresh().await.unwrap();
    assert!(agent.snapshot().app("shop").is_some());
    let (why, _) = agent.status().unwritten.expect("it says that it could not write");
    assert!(why.contains("No such file"), "{why}");
    std::fs::create_dir(&dir).unwrap();
    eventually("written", async || agent.status().unwritten.is_none()).await;
    assert_eq!(served_without_database(&dir).await, ["shop"]);
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

/// The apps that a start from a directory's files serves while the database is away.
async fn served_without_database(dir: &Path) -> Vec<String> {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("snapshot.") && !name.ends_with(".lock")) {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    let away = authdb::at("/nonexistent/tenants.db", Missing::Create).unwrap();
    let (agent, _published) = start(AgentConfig::new(away, copy.path().join("snapshot.json"))).await;
    let mut apps: Vec<String> = agent.snapshot().apps().map(|app| app.id.as_str().to_owned()).collect();
    apps.sort();
    agent.stop().await;
    apps
}

#[tokio::test]
async fn a_change_costs_a_line_on_disk_and_is_there_without_a_database() {
    let fixture = Fixture::new();
    let dir = fixture.dir.path();
    let (agent, _published) = start(fixture.config()).await;
    let base = std::fs::read(fixture.snapshot_path()).unwrap();
    for (id, expected) in [("a", &["a"][..]), ("b", &["a", "b"]), ("c", &["a", "b", "c"])] {
        fixture.db().create_app(app(id)).await.unwrap();
        agent.refresh().await.unwrap();
        assert_eq!(served_without_database(dir).await, expected);
    }
    fixture.db().delete_app(&AppId::new("b").unwrap(), false).await.unwrap();
    agent.refresh().await.unwrap();
    assert_eq!(served_without_database(dir).await, ["a", "c"]);
    assert_eq!(std::fs::read(fixture.snapshot_path()).unwrap(), base, "the snapshot itself was not written again");
    agent.stop().await;

    // A start that finds nothing new writes nothing; the changes go on in the same file.
    let changes = || -> Vec<u8> {
        let names = std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.path());
        let found: Vec<PathBuf> = names.filter(|path| path.extension().is_some_and(|end| end == "changes")).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        std::fs::read(&found[0]).unwrap()
    };
    let before = changes();
    let (agent, _published) = start(fixture.config()).await;
    assert_eq!(changes(), before);
    fixture.db().create_app(app("d")).await.unwrap();
    agent.refresh().await.unwrap();
    assert!(changes().starts_with(&before) && changes().len() > before.len());
    assert_eq!(served_without_database(dir).await, ["a", "c", "d"]);
}

/// A crash while a change is being written leaves any part of its line.
#[tokio::test]
async fn changes_cut_at_any_byte_or_damaged_serve_what_came_before() {
    let fixture = Fixture::new();
    let (agent, _published) = start(fixture.config()).await;
    for id in ["a", "b"] {
        fixture.db().create_app(app(id)).await.unwrap();
        agent.refresh().await.unwrap();
    }
    agent.stop().await;
    let names = std::fs::read_dir(fixture.dir.path()).unwrap().flatten().map(|entry| entry.path());
    let path = names.into_iter().find(|path| path.extension().is_some_and(|end| end == "changes")).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let cuts = (first..whole.len()).step_by(97).chain([first, whole.len() - 1]);
    for at in cuts {
        std::fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(served_without_database(fixture.dir.path()).await, ["a"], "cut at {at}");
    }
    for at in [0, 7, 80, first - 2] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(served_without_database(fixture.dir.path()).await, [""; 0], "damaged at {at}");
    }
    // And what is written after such a crash stands on what was whole.
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    let (agent, _published) = start(fixture.config()).await;
    fixture.db().create_app(app("c")).await.unwrap();
    agent.refresh().await.unwrap();
    assert_eq!(served_without_database(fixture.dir.path()).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn many_changes_end_in_a_new_snapshot_and_none_is_lost_on_the_way() {
    let fixture = Fixture::new();
    let (agent, _published) = start(fixture.config()).await;
    let base = std::fs::read(fixture.snapshot_path()).unwrap();
    let (shop, name) = (AppId::new("shop").unwrap(), TopicName::new("orders").unwrap());
    fixture.db().create_app(app("shop")).await.unwrap();
    let is_rotated = || std::fs::read(fixture.snapshot_path()).unwrap() != base;
    let mut count = 0;
    while !is_rotated() && count < 400 {
        // The app's part grows with each topic, so a mebibyte of changes is soon there.
        for _ in 0..20 {
            count += 1;
            let new = authdb::NewTopic {
                owner: shop.clone(),
                name: name.clone(),
                ver: TopicVersion::new(&format!("v{count}")).unwrap(),
                cluster: ClusterName::new("main").unwrap(),
                options: model::TopicOptions::default(),
                partitions: Some(1),
                replicas: Some(1),
                retention_ms: None,
                retention_bytes: None,
            };
            fixture.db().create_topic(new).await.unwrap();
            agent.refresh().await.unwrap();
        }
    }
    assert!(is_rotated(), "{count} changes and still the same snapshot");
    agent.refresh().await.unwrap();
    let away = authdb::at("/nonexistent/tenants.db", Missing::Create).unwrap();
    agent.stop().await;
    let (agent, _published) = start(AgentConfig::new(away, fixture.snapshot_path())).await;
    assert_eq!(agent.snapshot().topic_count(), count);
}

#[tokio::test]
async fn several_processes_of_a_directory_have_one_owner_and_the_others_are_pushed_to() {
    let fixture = Fixture::new();
    let socket = Some(agent::socket_path(fixture.dir.path()));
    let config = |node: &str| AgentConfig { socket_path: socket.clone(), node: node.to_owned(), ..fixture.config() };
    let (owner, _owned) = start(config("first")).await;
    let (follower, mut followed) = start(config("second")).await;
    let blind =
        AgentConfig { db: None, snapshot_path: fixture.dir.path().join("blind/snapshot.json"), ..config("third") };
    let (blind, mut seen) = start(blind).await;
    assert_eq!((owner.status().part, follower.status().part), (Part::Owner, Part::Follower));
    assert_eq!(blind.status().part, Part::Follower);
    assert!(matches!(blind.refresh().await, Err(RefreshError::NoDatabase)));
    for id in ["a", "b", "c"] {
        fixture.db().create_app(app(id)).await.unwrap();
        until(&mut followed, |snapshot| snapshot.app(id).is_some()).await;
        until(&mut seen, |snapshot| snapshot.app(id).is_some()).await;
    }
    let newest = owner.refresh().await.unwrap();
    eventually("acknowledged", async || {
        let consumers = owner.status().consumers;
        consumers.len() == 2 && consumers.iter().all(|consumer| consumer.applied == Some(newest))
    })
    .await;
    assert!(blind.status().confirmed_at.is_some() && blind.status().source == Source::Database);

    // Who has a database and changes something need not wait for the owner to notice.
    fixture.db().create_app(app("d")).await.unwrap();
    follower.refresh().await.unwrap();
    assert!(follower.snapshot().app("d").is_some());

    // Without its owner the directory has a new one, and nobody misses anything.
    owner.stop().await;
    eventually("taken over", async || follower.status().part == Part::Owner).await;
    fixture.db().create_app(app("e")).await.unwrap();
    until(&mut seen, |snapshot| snapshot.app("e").is_some()).await;
    follower.refresh().await.unwrap();
    assert_eq!(served_without_database(fixture.dir.path()).await, ["a", "b", "c", "d", "e"]);
}

/// Went wrong: a proxy that started while no gateway ran owned the snapshot, had nothing new to say, and the gateway that came
/// later followed it.
#[tokio::test]
async fn who_has_no_database_never_owns_the_files_of_those_who_have() {
    let fixture = Fixture::new();
    let socket = Some(agent::socket_path(fixture.dir.path()));
    let config = |node: &str| AgentConfig { socket_path: socket.clone(), node: node.to_owned(), ..fixture.config() };
    let (first, _published) = start(config("first")).await;
    fixture.db().create_app(app("a")).await.unwrap();
    first.refresh().await.unwrap();
    first.stop().await;
    drop(first);

    let (blind, mut seen) = start(AgentConfig { db: None, ..config("blind") }).await;
    assert_eq!((blind.status().part, blind.status().source), (Part::Alone, Source::Disk));
    assert!(blind.snapshot().app("a").is_some(), "the last good snapshot serves");
    let (owner, _published) = start(config("second")).await;
    assert_eq!(owner.status().part, Part::Owner);
    fixture.db().create_app(app("b")).await.unwrap();
    until(&mut seen, |snapshot| snapshot.app("b").is_some()).await;
    assert_eq!(blind.status().part, Part::Follower);
}

/// An owner that is stopped (SIGSTOP) keeps its lock and its connections and says nothing.
#[tokio::test]
async fn a_silent_owner_is_not_waited_for() {
    let fixture = Fixture::new();
    let path = agent::socket_path(fixture.dir.path());
    let held = std::fs::File::create(fixture.dir.path().join("snapshot.json.lock")).unwrap();
    held.lock().unwrap();
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let mute = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let frame = agent::wire::read(&mut stream).await.unwrap();
        assert!(matches!(frame, agent::wire::Frame::Hello(_)), "{frame:?}");
        let welcome = agent::wire::Welcome { wire: agent::wire::VERSION, refused: None, records: false };
        agent::wire::write(&mut stream, &agent::wire::Frame::Welcome(welcome)).await.unwrap();
        drop(listener);
        std::future::pending::<()>().await
    });
    let (follower, mut published) = start(AgentConfig { socket_path: Some(path), ..fixture.config() }).await;
    assert_eq!(follower.status().part, Part::Follower);
    fixture.db().create_app(app("shop")).await.unwrap();
    until(&mut published, |snapshot| snapshot.app("shop").is_some()).await;
    assert_eq!(follower.status().part, Part::Alone);
    mute.abort();
}

/// What a consumer cannot use it says so, and is sent everything.
#[tokio::test]
async fn changes_that_lead_on_from_nothing_are_refused_and_a_snapshot_mends_it() {
    use agent::wire::{self, Frame};
    let fixture = Fixture::new();
    fixture.db().create_app(app("shop")).await.unwrap();
    let doc = fixture.db().load().await.unwrap();
    let (path, generation) = (agent::socket_path(fixture.dir.path()), doc.generation());
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let teller = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        wire::read(&mut stream).await.unwrap();
        let welcome = wire::Welcome { wire: wire::VERSION, refused: None, records: false };
        wire::write(&mut stream, &Frame::Welcome(welcome)).await.unwrap();
        let mut told = Vec::new();
        for rubbish in [b"{}".to_vec(), serde_json::to_vec(&lost_changes(generation)).unwrap()] {
            wire::write(&mut stream, &Frame::Changes(rubbish)).await.unwrap();
            told.push(wire::read(&mut stream).await.unwrap());
        }
        wire::write(&mut stream, &Frame::Snapshot(snapshot_file::encode(&doc))).await.unwrap();
        told.push(wire::read(&mut stream).await.unwrap());
        told
    });
    let blind = AgentConfig {
        db: None,
        snapshot_path: fixture.dir.path().join("blind/snapshot.json"),
        socket_path: Some(path),
        ..fixture.config()
    };
    let (_blind, mut seen) = start(blind).await;
    until(&mut seen, |snapshot| snapshot.app("shop").is_some()).await;
    let told = teller.await.unwrap();
    assert!(
        matches!(&told[..], [Frame::Failed(_), Frame::Failed(_), Frame::Applied(applied)] if *applied == generation)
    );
}

fn lost_changes(generation: Generation) -> model::ChangesDoc {
    let since = Generation { number: generation.number + 5, ..generation };
    model::ChangesDoc {
        since,
        generation: Generation { number: since.number + 1, ..since },
        made_at_ms: 0,
        parts: vec![],
    }
}
