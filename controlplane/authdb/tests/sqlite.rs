//! What only SQLite does: a file of its own, which several processes open, and which can be away, replaced and restored.
//! What every database does is in `tests/conformance`.

use std::os::unix::fs::PermissionsExt;

use authdb::{AuthDb, CreatedApp, Missing, NewApp, NewTopic, SqliteAuthDb};
use model::TopicOptions;
use model::ids::{AppId, ClusterName, TopicName, TopicVersion};
use model::principals::Visible;

struct Fixture {
    db: SqliteAuthDb,
    dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { db: SqliteAuthDb::open(dir.path().join("tenants.db").to_str().unwrap()).await.unwrap(), dir }
    }

    async fn app(&self, id: &str) -> CreatedApp {
        self.db.create_app(new_app(id)).await.unwrap()
    }

    async fn generation(&self) -> u64 {
        self.db.generation().await.unwrap().number
    }
}

fn id(text: &str) -> AppId {
    AppId::new(text).unwrap()
}

fn new_app(text: &str) -> NewApp {
    NewApp { id: id(text), cluster: ClusterName::new("main").unwrap(), publish: None, subscribe: None, reuse: false }
}

#[tokio::test]
async fn the_file_holds_no_plain_secret_and_is_private() {
    let fixture = Fixture::new().await;
    let created = fixture.app("shop").await;
    fixture.db.close().await;
    for entry in std::fs::read_dir(fixture.dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        let bytes = std::fs::read(entry.path()).unwrap();
        for secret in [&created.publish, &created.subscribe] {
            let found = bytes.windows(secret.expose().len()).any(|w| w == secret.expose().as_bytes());
            assert!(!found, "{:?} holds a secret", entry.path());
        }
    }
}

/// Tells this program that it is one of two writers, and where; it makes apps named after its second part.
const WRITER: &str = "AUTHDB_TEST_WRITER";
const APPS_PER_WRITER: u64 = 30;

/// The writer is this program again, with [`WRITER`] set; both write from the moment that the file `go` is there.
#[tokio::test]
async fn two_processes_share_one_file() {
    if let Ok(task) = std::env::var(WRITER) {
        let (path, name) = task.rsplit_once('|').unwrap();
        return write_apps(path, name).await;
    }
    let fixture = Fixture::new().await;
    let path = fixture.db.path().to_str().unwrap().to_owned();
    let before = fixture.generation().await;
    let writers: Vec<_> = ["left", "right"]
        .map(|name| {
            let mut program = std::process::Command::new(std::env::current_exe().unwrap());
            program.args(["--exact", "two_processes_share_one_file", "--nocapture"]);
            program.env(WRITER, format!("{path}|{name}")).stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .into();
    let ready = |name: &str| fixture.dir.path().join(format!("ready-{name}")).exists();
    for _ in 0..3_000 {
        if ready("left") && ready("right") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    std::fs::write(fixture.dir.path().join("go"), "").unwrap();
    for writer in writers {
        let ended = writer.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stdout));
    }
    // What each wrote is there, counted once, and seen by a process that was open all along.
    assert_eq!(fixture.generation().await, before + 2 * APPS_PER_WRITER);
    let seen = fixture.db.load().await.unwrap();
    assert_eq!(seen.apps.len() as u64, 2 * APPS_PER_WRITER);
    for name in ["left", "right"] {
        let of_it = seen.apps.iter().filter(|app| app.id.as_str().starts_with(name)).count() as u64;
        assert_eq!(of_it, APPS_PER_WRITER, "{name}");
    }
}

async fn write_apps(path: &str, name: &str) {
    let db = SqliteAuthDb::open(path).await.unwrap();
    let dir = std::path::Path::new(path).parent().unwrap();
    std::fs::write(dir.join(format!("ready-{name}")), "").unwrap();
    // A judge that died leaves nobody waiting: its directory is swept, or the loop ends.
    for _ in 0..3_000 {
        if dir.join("go").exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for n in 0..APPS_PER_WRITER {
        db.create_app(new_app(&format!("{name}{n}"))).await.unwrap();
    }
}

#[tokio::test]
async fn processes_that_start_together_all_get_the_database_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenants.db").to_str().unwrap().to_owned();
    let starts: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move {
                let db = SqliteAuthDb::open(&path).await?;
                db.create_admin(&id("admin"), None).await
            })
        })
        .collect();
    let mut keys = Vec::new();
    for start in starts {
        keys.extend(start.await.unwrap().unwrap());
    }
    assert_eq!(keys.len(), 1, "the admin's key is shown by exactly one of them");
    let db = SqliteAuthDb::open(&path).await.unwrap();
    assert!(db.is_admin("admin", keys[0].expose().as_bytes()).await.unwrap());
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let fixture = Fixture::new().await;
    fixture.app("shop").await;
    let orders = NewTopic {
        owner: id("shop"),
        name: TopicName::new("orders").unwrap(),
        ver: TopicVersion::new("v1").unwrap(),
        cluster: ClusterName::new("main").unwrap(),
        options: TopicOptions::default(),
        partitions: Some(4),
        replicas: None,
        retention_ms: None,
        retention_bytes: Some(-1),
    };
    fixture.db.create_topic(orders).await.unwrap();
    let before = fixture.db.load().await.unwrap();
    fixture.db.close().await;
    let again = SqliteAuthDb::open(&format!("sqlite:{}", fixture.db.path().display())).await.unwrap();
    let after = again.load().await.unwrap();
    assert_eq!((before.generation, before.apps, before.topics), (after.generation, after.apps, after.topics));
}

#[tokio::test]
async fn a_handle_survives_its_file_being_away_and_being_replaced() {
    let fixture = Fixture::new().await;
    fixture.app("shop").await;
    let path = fixture.db.path();
    let (away, backup) = (fixture.dir.path().join("away.db"), fixture.dir.path().join("backup.db"));
    let other = SqliteAuthDb::open(backup.to_str().unwrap()).await.unwrap();
    other.create_app(new_app("restored")).await.unwrap();
    other.close().await;

    std::fs::rename(path, &away).unwrap();
    let err = fixture.db.generation().await.unwrap_err();
    assert!(err.to_string().starts_with("cannot open database file"), "{err}");
    assert!(!path.exists(), "an empty database in its place would look as if every tenant had been deleted");

    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    std::fs::rename(&backup, path).unwrap();
    assert_eq!(fixture.db.list_apps(&Visible::All, None, 100).await.unwrap()[0].id, "restored");
}

#[tokio::test]
async fn a_handle_made_before_the_file_can_be_opened_opens_it_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later/tenants.db");
    let strict = SqliteAuthDb::at(path.to_str().unwrap(), Missing::IsAnError).unwrap();
    let lazy = SqliteAuthDb::at(path.to_str().unwrap(), Missing::Create).unwrap();
    assert!(lazy.generation().await.is_err());
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    assert!(strict.generation().await.is_err());
    assert_eq!(lazy.generation().await.unwrap().number, 1);
    assert_eq!(strict.generation().await.unwrap().number, 1);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tenants.db");
    std::fs::write(&path, "this is not a database, it is a sentence of more than sixteen bytes").unwrap();
    assert!(SqliteAuthDb::open(path.to_str().unwrap()).await.is_err());
    let nowhere = dir.path().join("missing/tenants.db");
    let err = SqliteAuthDb::open(nowhere.to_str().unwrap()).await.unwrap_err();
    assert!(err.to_string().starts_with("cannot open database file"), "{err}");
}

#[tokio::test]
async fn a_restored_database_goes_on_in_a_history_of_its_own() {
    let fixture = Fixture::new().await;
    let path = fixture.db.path().to_owned();
    let backup = fixture.dir.path().join("backup.db");
    let restore = |into: &std::path::Path| {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", into.display()));
        }
        let aside = fixture.dir.path().join("aside.db");
        std::fs::copy(&backup, &aside).unwrap();
        std::fs::rename(aside, into).unwrap();
    };
    fixture.app("one").await;
    fixture.db.close().await;
    std::fs::copy(&path, &backup).unwrap();
    fixture.app("two").await;
    let seen = fixture.db.generation().await.unwrap();
    assert_eq!(fixture.db.generation().await.unwrap(), seen, "asking changes nothing");

    // Under a process that is running: by the file that took the place, whatever its number.
    fixture.db.close().await;
    restore(&path);
    let other = SqliteAuthDb::open(path.to_str().unwrap()).await.unwrap();
    other.has_seen(seen);
    for number in 0..5 {
        other.create_app(new_app(&format!("other{number}"))).await.unwrap();
    }
    let new = other.generation().await.unwrap();
    assert_ne!(new.history, seen.history);
    assert_eq!(fixture.db.generation().await.unwrap(), new, "a history that somebody began is not begun again");

    // Under a process that is running and changes something before it looks.
    restore(&path);
    fixture.app("three").await;
    let third = fixture.db.generation().await.unwrap();
    assert!(third.history != new.history && third.history != seen.history);

    // While nobody ran: by what the snapshot of before says. Without one nobody can mistake it.
    fixture.db.close().await;
    restore(&path);
    let fresh = SqliteAuthDb::open(path.to_str().unwrap()).await.unwrap();
    assert_eq!(fresh.generation().await.unwrap().history, seen.history);
    let fresh = SqliteAuthDb::open(path.to_str().unwrap()).await.unwrap();
    fresh.has_seen(seen);
    assert_ne!(fresh.generation().await.unwrap().history, seen.history);
}
