//! The tenants' database end to end, on files of its own.

use std::os::unix::fs::PermissionsExt;

use authdb::{AppUpdate, AuthDb, AuthDbError, Missing, NewApp, NewTopic, Rotation, TopicState, TopicUpdate};
use model::doc::GrantDoc;
use model::ids::{AppId, ClusterName, PhysicalTopic, TopicName, TopicVersion};
use model::scram::{Mechanism, client_proof};
use model::topic_options::{Compression, Partitioner, TopicOptions};
use model::{Credentials, PlainSecret, Side, Snapshot, authenticate};

struct Fixture {
    db: AuthDb,
    dir: tempfile::TempDir,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { db: AuthDb::open(dir.path().join("tenants.db").to_str().unwrap()).await.unwrap(), dir }
    }

    async fn app(&self, id: &str) -> authdb::CreatedApp {
        self.db.create_app(new_app(id)).await.unwrap()
    }

    async fn topic(&self, owner: &str, name: &str, ver: &str) {
        self.db.create_topic(new_topic(owner, name, ver)).await.unwrap();
    }

    async fn generation(&self) -> u64 {
        self.db.generation().await.unwrap().number
    }

    async fn snapshot(&self) -> Snapshot {
        Snapshot::build(self.db.load().await.unwrap()).unwrap()
    }

    async fn opens(&self, app: &str, key: &PlainSecret, side: Side) -> bool {
        let credentials = Credentials { app, key: key.expose().as_bytes() };
        authenticate(&self.snapshot().await, &credentials, side).is_ok()
    }
}

fn id(text: &str) -> AppId {
    AppId::new(text).unwrap()
}

fn new_app(text: &str) -> NewApp {
    NewApp { id: id(text), cluster: ClusterName::new("main").unwrap(), publish: None, subscribe: None, reuse: false }
}

fn topic_name(owner: &str, name: &str, ver: &str) -> (AppId, TopicName, TopicVersion) {
    (id(owner), TopicName::new(name).unwrap(), TopicVersion::new(ver).unwrap())
}

fn new_topic(owner: &str, name: &str, ver: &str) -> NewTopic {
    let (owner, name, ver) = topic_name(owner, name, ver);
    NewTopic {
        owner,
        name,
        ver,
        cluster: ClusterName::new("main").unwrap(),
        options: TopicOptions::default(),
        partitions: Some(4),
        replicas: Some(1),
        retention_ms: None,
        retention_bytes: Some(-1),
    }
}

fn subscribe(app: &str, owner: &str, name: &str, ver: Option<&str>) -> GrantDoc {
    GrantDoc::Subscribe {
        app: id(app),
        owner: id(owner),
        topic: TopicName::new(name).unwrap(),
        ver: ver.map(|v| TopicVersion::new(v).unwrap()),
    }
}

#[tokio::test]
async fn an_app_is_made_with_secrets_that_work_for_http_and_for_kafka_clients() {
    let fixture = Fixture::new().await;
    let created = fixture.app("shop").await;
    assert_ne!(created.publish, created.subscribe);
    assert!(fixture.opens("shop", &created.publish, Side::Publish).await);
    assert!(fixture.opens("shop", &created.subscribe, Side::Subscribe).await);
    assert!(!fixture.opens("shop", &created.publish, Side::Subscribe).await);

    let snapshot = fixture.snapshot().await;
    let app = snapshot.app("shop").unwrap();
    for mechanism in [Mechanism::Sha256, Mechanism::Sha512] {
        for (side, secret) in [(Side::Publish, &created.publish), (Side::Subscribe, &created.subscribe)] {
            let (proof, _) = client_proof(mechanism, secret.expose().as_bytes(), &app.scram, b"exchange");
            assert!(app.secrets(side).current.scram(mechanism).accepts(mechanism, b"exchange", &proof));
        }
    }
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

#[tokio::test]
async fn two_secrets_live_during_a_rotation_and_a_third_needs_to_be_told_which_one_dies() {
    let fixture = Fixture::new().await;
    let shop = id("shop");
    let rotate = |how| fixture.db.rotate_secret(&shop, Side::Publish, None, how);
    let first = fixture.app("shop").await.publish;
    let second = rotate(Rotation::Ordinary).await.unwrap();
    let live = async |secrets: &[&PlainSecret]| {
        let mut live = String::new();
        for secret in secrets {
            live += if fixture.opens("shop", secret, Side::Publish).await { "lives " } else { "dead " };
        }
        live
    };
    assert_eq!(live(&[&first, &second]).await, "lives lives ");
    assert_eq!(fixture.db.get_app(&shop).await.unwrap().rotating(), [Side::Publish]);

    // A retry of a rotation whose answer was lost must not kill what clients use.
    let err = rotate(Rotation::Ordinary).await.unwrap_err();
    assert_eq!(err.to_string(), "two publish secrets of app shop are live already");
    let third = rotate(Rotation::ReplaceYounger).await.unwrap();
    assert_eq!(live(&[&first, &second, &third]).await, "lives dead lives ");
    let fourth = rotate(Rotation::ReplaceOlder).await.unwrap();
    assert_eq!(live(&[&first, &third, &fourth]).await, "dead lives lives ");

    assert!(fixture.db.revoke_previous(&shop, Side::Publish).await.unwrap());
    assert!(!fixture.db.revoke_previous(&shop, Side::Publish).await.unwrap());
    assert_eq!(live(&[&third, &fourth]).await, "dead lives ");
    assert!(fixture.db.get_app(&shop).await.unwrap().rotating().is_empty());
    // With one that lives, all three do the same.
    let fifth = rotate(Rotation::ReplaceYounger).await.unwrap();
    assert_eq!(live(&[&fourth, &fifth]).await, "lives lives ");

    let chosen = PlainSecret::from_text("chosen-by-somebody").unwrap();
    let chose = Some(chosen.clone());
    fixture.db.rotate_secret(&shop, Side::Subscribe, chose, Rotation::Ordinary).await.unwrap();
    assert!(fixture.opens("shop", &chosen, Side::Subscribe).await);
    let ages: Vec<(Side, bool)> =
        fixture.db.get_app(&shop).await.unwrap().secrets.iter().map(|s| (s.side, s.is_previous)).collect();
    let expected = [Side::Publish, Side::Subscribe].map(|side| [(side, true), (side, false)]).concat();
    assert_eq!(ages, expected);

    let (publish, subscribe) = (PlainSecret::from_text("p").unwrap(), PlainSecret::from_text("s").unwrap());
    fixture.db.reset_secrets(&shop, &publish, &subscribe).await.unwrap();
    assert_eq!(live(&[&fourth, &fifth, &publish]).await, "dead dead lives ");
}

#[tokio::test]
async fn every_change_moves_the_generation_by_one_and_nothing_else_moves_it() {
    let fixture = Fixture::new().await;
    let db = &fixture.db;
    fixture.app("shop").await;
    fixture.app("audit").await;
    fixture.topic("shop", "orders", "v1").await;
    let (owner, name, ver) = topic_name("shop", "orders", "v1");
    let grant = subscribe("audit", "shop", "orders", None);
    let mut before = fixture.generation().await;
    macro_rules! moves_by {
        ($steps:expr, $call:expr) => {
            let _ = $call.await;
            let after = fixture.generation().await;
            assert_eq!(after - before, $steps, "{}", stringify!($call));
            before = after;
        };
    }
    moves_by!(0, db.list_apps(None, 10));
    moves_by!(0, db.create_app(new_app("shop")));
    moves_by!(1, db.create_app(new_app("new")));
    moves_by!(1, db.update_app(&id("new"), AppUpdate { enabled: Some(false), cluster: None }));
    moves_by!(1, db.delete_app(&id("new"), false));
    moves_by!(0, db.delete_app(&id("new"), false));
    moves_by!(0, db.delete_app(&id("shop"), false));
    moves_by!(1, db.rotate_secret(&id("shop"), Side::Publish, None, Rotation::Ordinary));
    moves_by!(0, db.rotate_secret(&id("nobody"), Side::Publish, None, Rotation::Ordinary));
    moves_by!(1, db.revoke_previous(&id("shop"), Side::Publish));
    moves_by!(0, db.revoke_previous(&id("shop"), Side::Publish));
    moves_by!(0, db.create_topic(new_topic("shop", "orders", "v1")));
    moves_by!(1, db.create_topic(new_topic("shop", "orders", "v2")));
    moves_by!(0, db.update_topic(&owner, &name, &ver, TopicUpdate::default()));
    moves_by!(1, db.update_topic(&owner, &name, &ver, TopicUpdate { enabled: Some(false), ..TopicUpdate::default() }));
    moves_by!(1, db.grant(&grant));
    moves_by!(0, db.grant(&grant));
    moves_by!(1, db.revoke(&grant));
    moves_by!(0, db.revoke(&grant));
    moves_by!(1, db.delete_topic(&owner, &name, &ver, false));
    moves_by!(0, db.delete_topic(&owner, &name, &ver, false));
    moves_by!(1, db.create_admin(&id("admin"), None));
    moves_by!(0, db.create_admin(&id("admin"), None));
    assert_eq!(db.load().await.unwrap().generation(), db.generation().await.unwrap());
    assert_eq!(db.load().await.unwrap().generation, before);
}

#[tokio::test]
async fn a_call_that_cannot_be_done_says_why() {
    let fixture = Fixture::new().await;
    let db = &fixture.db;
    fixture.app("shop").await;
    fixture.app("audit").await;
    fixture.topic("shop", "orders", "v1").await;
    let raw = GrantDoc::RawPublish { app: id("nobody"), cluster: ClusterName::new("main").unwrap(), topic: None };
    let (owner, name, ver) = topic_name("shop", "orders", "v9");
    let (_, missing, _) = topic_name("shop", "missing", "v1");
    let none = TopicUpdate::default();
    let rows: [(Result<(), AuthDbError>, &str); 11] = [
        (db.create_app(new_app("shop")).await.map(drop), "app shop exists already"),
        (db.get_app(&id("nobody")).await.map(drop), "there is no app nobody"),
        (db.delete_app(&id("shop"), false).await.map(drop), "app shop still owns 1 topic versions, delete them first"),
        (db.create_topic(new_topic("shop", "orders", "v1")).await.map(drop), "topic shop/orders/v1 exists already"),
        (db.create_topic(new_topic("nobody", "orders", "v1")).await.map(drop), "there is no app nobody"),
        (db.get_topic(&owner, &name, &ver).await.map(drop), "topic orders of app shop has no version v9"),
        (db.update_topic(&owner, &missing, &ver, none).await.map(drop), "app shop has no topic missing"),
        (
            db.grant(&subscribe("shop", "shop", "orders", None)).await.map(drop),
            "app shop reads its own topics without a grant",
        ),
        (
            db.grant(&subscribe("audit", "shop", "orders", Some("v9"))).await.map(drop),
            "topic orders of app shop has no version v9",
        ),
        (db.grant(&subscribe("audit", "nobody", "orders", None)).await.map(drop), "there is no app nobody"),
        (db.grant(&raw).await.map(drop), "there is no app nobody"),
    ];
    for (result, expected) in rows {
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
}

#[tokio::test]
async fn a_topic_keeps_everything_that_was_said_about_it() {
    let fixture = Fixture::new().await;
    fixture.app("shop").await;
    let options = TopicOptions {
        partitioner: Partitioner::Fnv1a,
        compression: Compression::Zstd,
        strip_2017_tags: true,
        message_bytes_max: 2_000_000,
    };
    let new = NewTopic { options: options.clone(), ..new_topic("shop", "orders", "v1") };
    let made = fixture.db.create_topic(new).await.unwrap();
    let (owner, name, ver) = topic_name("shop", "orders", "v1");
    assert_eq!(fixture.db.get_topic(&owner, &name, &ver).await.unwrap().doc, made);
    assert_eq!((made.options.clone(), made.partitions, made.retention_bytes), (options, Some(4), Some(-1)));

    let update = TopicUpdate {
        enabled: Some(false),
        options: Some(TopicOptions::default()),
        partitions: Some(8),
        retention_ms: Some(60_000),
        retention_bytes: None,
    };
    let changed = fixture.db.update_topic(&owner, &name, &ver, update).await.unwrap();
    assert_eq!(fixture.db.get_topic(&owner, &name, &ver).await.unwrap(), changed);
    assert_eq!(changed.state, TopicState::Disabled);
    let changed = changed.doc;
    assert_eq!(
        (changed.enabled, changed.options.clone(), changed.partitions, changed.retention_ms, changed.retention_bytes),
        (false, TopicOptions::default(), Some(8), Some(60_000), Some(-1))
    );
    assert_eq!(fixture.db.load().await.unwrap().topics, [changed]);
}

#[tokio::test]
async fn grants_of_a_deleted_topic_do_not_come_back_with_a_new_one() {
    let fixture = Fixture::new().await;
    let db = &fixture.db;
    fixture.app("shop").await;
    fixture.app("audit").await;
    fixture.topic("shop", "orders", "v1").await;
    fixture.topic("shop", "orders", "v2").await;
    for ver in [Some("v1"), Some("v2"), None] {
        assert!(db.grant(&subscribe("audit", "shop", "orders", ver)).await.unwrap());
    }
    let (owner, name, v1) = topic_name("shop", "orders", "v1");
    assert!(db.delete_topic(&owner, &name, &v1, false).await.unwrap());
    let left = [subscribe("audit", "shop", "orders", None), subscribe("audit", "shop", "orders", Some("v2"))];
    assert_eq!(db.list_grants(Some(&id("audit")), None, 10).await.unwrap(), left);
    assert!(db.delete_topic(&owner, &name, &TopicVersion::new("v2").unwrap(), true).await.unwrap());
    assert_eq!(db.list_grants(None, None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_deleted_app_leaves_no_secret_grant_or_number_behind() {
    let fixture = Fixture::new().await;
    let db = &fixture.db;
    fixture.app("shop").await;
    let old = fixture.app("audit").await;
    fixture.topic("shop", "orders", "v1").await;
    let raw = |topic: Option<&str>| GrantDoc::RawPublish {
        app: id("audit"),
        cluster: ClusterName::new("main").unwrap(),
        topic: topic.map(|t| PhysicalTopic::new(t).unwrap()),
    };
    for grant in [subscribe("audit", "shop", "orders", None), raw(None), raw(Some("legacy.events"))] {
        assert!(db.grant(&grant).await.unwrap());
    }
    assert_eq!(db.list_grants(None, None, 10).await.unwrap().len(), 3);
    assert_eq!(db.delete_app(&id("audit"), false).await.unwrap(), Some(vec![]));
    assert_eq!(db.list_grants(None, None, 10).await.unwrap(), []);

    let new = db.create_app(NewApp { reuse: true, ..new_app("audit") }).await.unwrap();
    assert!(new.app.index > old.app.index, "a number was given twice");
    assert!(!fixture.opens("audit", &old.publish, Side::Publish).await);
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
    let db = AuthDb::open(path).await.unwrap();
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
                let db = AuthDb::open(&path).await?;
                db.create_admin(&id("admin"), None).await
            })
        })
        .collect();
    let mut keys = Vec::new();
    for start in starts {
        keys.extend(start.await.unwrap().unwrap());
    }
    assert_eq!(keys.len(), 1, "the admin's key is shown by exactly one of them");
    let db = AuthDb::open(&path).await.unwrap();
    assert!(db.is_admin("admin", keys[0].expose().as_bytes()).await.unwrap());
    assert!(!db.is_admin("admin", b"wrong").await.unwrap());
    assert!(!db.is_admin("other", keys[0].expose().as_bytes()).await.unwrap());
    let reset = PlainSecret::from_text("reset").unwrap();
    db.reset_admin(&id("root"), &reset).await.unwrap();
    assert!(db.is_admin("root", b"reset").await.unwrap());
}

#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let fixture = Fixture::new().await;
    fixture.app("shop").await;
    fixture.topic("shop", "orders", "v1").await;
    let before = fixture.db.load().await.unwrap();
    fixture.db.close().await;
    let again = AuthDb::open(&format!("sqlite:{}", fixture.db.path().display())).await.unwrap();
    let after = again.load().await.unwrap();
    assert_eq!((before.generation, before.apps, before.topics), (after.generation, after.apps, after.topics));
}

#[tokio::test]
async fn a_handle_survives_its_file_being_away_and_being_replaced() {
    let fixture = Fixture::new().await;
    fixture.app("shop").await;
    let path = fixture.db.path();
    let (away, backup) = (fixture.dir.path().join("away.db"), fixture.dir.path().join("backup.db"));
    let other = AuthDb::open(backup.to_str().unwrap()).await.unwrap();
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
    assert_eq!(fixture.db.list_apps(None, 10).await.unwrap()[0].id, "restored");
}

#[tokio::test]
async fn a_handle_made_before_the_file_can_be_opened_opens_it_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("later/tenants.db");
    let strict = AuthDb::at(path.to_str().unwrap(), Missing::IsAnError).unwrap();
    let lazy = AuthDb::at(path.to_str().unwrap(), Missing::Create).unwrap();
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
    assert!(AuthDb::open(path.to_str().unwrap()).await.is_err());
    let nowhere = dir.path().join("missing/tenants.db");
    let err = AuthDb::open(nowhere.to_str().unwrap()).await.unwrap_err();
    assert!(err.to_string().starts_with("cannot open database file"), "{err}");
}

#[tokio::test]
async fn an_id_whose_app_left_things_in_kafka_is_given_again_only_on_purpose() {
    let fixture = Fixture::new().await;
    let db = &fixture.db;
    let left = async |id: &AppId| db.retired_app(id).await.unwrap().map(|retired| retired.topics);
    let shop = id("shop");
    fixture.app("shop").await;
    fixture.topic("shop", "orders", "v1").await;
    fixture.topic("shop", "gone", "v1").await;
    let (_, gone, v1) = topic_name("shop", "gone", "v1");
    assert!(db.delete_topic(&shop, &gone, &v1, true).await.unwrap());
    assert_eq!(left(&shop).await, None, "it lives");

    let err = db.delete_app(&shop, false).await.unwrap_err();
    assert_eq!(err.to_string(), "app shop still owns 1 topic versions, delete them first");
    let went: Vec<_> = db.delete_app(&shop, true).await.unwrap().unwrap().into_iter().map(|row| row.doc.name).collect();
    assert_eq!(went, ["orders"]);
    assert_eq!(db.delete_app(&shop, true).await.unwrap(), None);
    assert_eq!(db.list_topics(None, None, 10).await.unwrap(), []);

    let main = ClusterName::new("main").unwrap();
    assert_eq!(left(&shop).await, Some(vec![(main, "shop.orders.v1".to_owned())]));
    let err = db.create_app(new_app("shop")).await.unwrap_err();
    let expected =
        "app shop was deleted and left things in Kafka that a new app of this name would own: topics shop.orders.v1";
    assert_eq!(err.to_string(), expected);
    db.create_app(NewApp { reuse: true, ..new_app("shop") }).await.unwrap();
    assert_eq!(left(&shop).await, None);

    // What is taken again, or is gone from Kafka, is not left any more.
    fixture.topic("shop", "orders", "v1").await;
    let (_, orders, v1) = topic_name("shop", "orders", "v1");
    assert!(db.delete_topic(&shop, &orders, &v1, true).await.unwrap());
    assert_eq!(db.delete_app(&shop, true).await.unwrap(), Some(vec![]));
    assert_eq!(left(&shop).await, Some(vec![]), "groups may be there");
}

#[tokio::test]
async fn a_topic_is_seen_by_clients_while_it_is_active_or_disabled_and_no_longer() {
    let fixture = Fixture::new().await;
    let db = &fixture.db;
    fixture.app("shop").await;
    let (shop, orders, v1) = topic_name("shop", "orders", "v1");
    let new = || new_topic("shop", "orders", "v1");
    let is_seen = async || db.load().await.unwrap().topics.len() == 1;
    let state = async || db.get_topic(&shop, &orders, &v1).await.ok().map(|row| (row.state, row.was_free));

    // Creating: not seen, resumed by the same call, no news to anybody.
    let before = fixture.generation().await;
    let row = db.begin_topic(new()).await.unwrap();
    db.topic_is_free(&row.doc).await.unwrap();
    assert_eq!(state().await, Some((TopicState::Creating, true)));
    let resumed = db.begin_topic(NewTopic { partitions: Some(9), ..new() }).await.unwrap();
    assert_eq!((resumed.was_free, resumed.doc.partitions), (true, Some(9)));
    assert!(!is_seen().await);
    assert_eq!(fixture.generation().await, before);
    let unfinished = async || db.unfinished_topics().await.unwrap().len();
    assert_eq!(unfinished().await, 1);
    let err = db.update_topic(&shop, &orders, &v1, TopicUpdate::default()).await.unwrap_err();
    assert_eq!(err.to_string(), "topic shop/orders/v1 is creating right now, that has to end first");
    assert!(!db.activate_topic(&row.doc, None, None).await.unwrap(), "a row that was replaced is nobody's");
    assert!(db.activate_topic(&resumed.doc, Some(9), Some(3)).await.unwrap());
    assert_eq!((state().await, is_seen().await), (Some((TopicState::Active, false)), true));
    let err = db.begin_topic(new()).await.unwrap_err();
    assert_eq!(err.to_string(), "topic shop/orders/v1 exists already");
    assert_eq!(fixture.generation().await, before + 1);

    // Deleting: not seen, cannot be made or changed meanwhile, repeatable.
    db.begin_delete_topic(&resumed.doc).await.unwrap();
    db.begin_delete_topic(&resumed.doc).await.unwrap();
    assert_eq!(fixture.generation().await, before + 2);
    assert_eq!((state().await, is_seen().await), (Some((TopicState::Deleting, false)), false));
    assert_eq!(unfinished().await, 1);
    let err = db.begin_topic(new()).await.unwrap_err();
    assert_eq!(err.to_string(), "topic shop/orders/v1 is deleting right now, that has to end first");
    assert!(db.delete_topic(&shop, &orders, &v1, true).await.unwrap());
    assert_eq!((state().await, unfinished().await), (None, 0));

    // Abandoned: as if it had never been.
    let row = db.begin_topic(new()).await.unwrap();
    db.abandon_topic(&row.doc).await.unwrap();
    assert_eq!(state().await, None);
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
    let other = AuthDb::open(path.to_str().unwrap()).await.unwrap();
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
    let fresh = AuthDb::open(path.to_str().unwrap()).await.unwrap();
    assert_eq!(fresh.generation().await.unwrap().history, seen.history);
    let fresh = AuthDb::open(path.to_str().unwrap()).await.unwrap();
    fresh.has_seen(seen);
    assert_ne!(fresh.generation().await.unwrap().history, seen.history);
}
