//! The agent between a real database file and shards played by a channel.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent::{Agent, AgentConfig, RefreshError, Source, disk};
use authdb::{AuthDb, Missing, NewApp};
use model::ids::{AppId, ClusterName, Generation};
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

    fn db(&self) -> AuthDb {
        AuthDb::at(self.db_path().to_str().unwrap(), Missing::Create).unwrap()
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
    NewApp { id: AppId::new(id).unwrap(), cluster: ClusterName::new("main").unwrap(), publish: None, subscribe: None }
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
    fixture.db().delete_app(&AppId::new("shop").unwrap()).await.unwrap();
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
    let (shards, applied) = watch::channel(Generation(0));
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
    let db = disk::open_db(fixture.db_path().to_str().unwrap(), &fixture.snapshot_path()).unwrap();
    let (agent, mut published) = start(AgentConfig { db, ..fixture.config() }).await;
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
    let unreachable = AuthDb::at("/nonexistent/tenants.db", Missing::Create).unwrap();
    let (agent, mut published) = start(AgentConfig { db: unreachable, ..fixture.config() }).await;
    assert_eq!(agent.status().source, Source::Nothing);
    assert_eq!(published.recv().await.unwrap().app_count(), 0);

    let (agent, _published) = start(fixture.config()).await;
    assert_eq!(agent.status().source, Source::Database);
    let written = std::fs::read(fixture.snapshot_path()).unwrap();
    assert!(snapshot_file::decode(&written).is_ok(), "the good one has replaced it");
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_still_reaches_the_shards() {
    let fixture = Fixture::new();
    let config = AgentConfig { snapshot_path: fixture.dir.path().join("missing/snapshot.json"), ..fixture.config() };
    let (agent, _published) = start(config).await;
    fixture.db().create_app(app("shop")).await.unwrap();
    agent.refresh().await.unwrap();
    assert!(agent.snapshot().app("shop").is_some());
}
