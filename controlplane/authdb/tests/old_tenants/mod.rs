//! The tenants of every data directory that tests keep: what `fill` made of them, and what they may do in any version.
//!
//! Secrets stand here in plain because they are nobody's: they open these directories only.

use std::path::{Path, PathBuf};

use authdb::{AppUpdate, AuthDb, NewApp, NewTopic, Rotation, TopicUpdate};
use model::doc::GrantDoc;
use model::ids::{AppId, ClusterName, PhysicalTopic, TopicName, TopicVersion};
use model::scram::{Mechanism, client_proof};
use model::topic_options::{Compression, Partitioner, TopicOptions};
use model::{
    Credentials, PlainSecret, Side, Snapshot, authenticate, authorize_publish, authorize_raw, authorize_subscribe,
};

const SHOP_PUBLISH_OLD: &str = "shop-publish-before-rotation";
const SHOP_PUBLISH: &str = "shop-publish";
const SHOP_SUBSCRIBE: &str = "shop-subscribe";
const AUDIT_PUBLISH: &str = "audit-publish";
const AUDIT_SUBSCRIBE: &str = "audit-subscribe";
const GONE_PUBLISH: &str = "gone-publish";
const GONE_SUBSCRIBE: &str = "gone-subscribe";
pub const ADMIN: (&str, &str) = ("root", "admin-key");

fn id(text: &str) -> AppId {
    AppId::new(text).unwrap()
}

fn cluster(text: &str) -> ClusterName {
    ClusterName::new(text).unwrap()
}

fn secret(text: &str) -> PlainSecret {
    PlainSecret::from_text(text).unwrap()
}

fn topic(owner: &str, name: &str, ver: &str) -> NewTopic {
    NewTopic {
        owner: id(owner),
        name: TopicName::new(name).unwrap(),
        ver: TopicVersion::new(ver).unwrap(),
        cluster: cluster("main"),
        options: TopicOptions::default(),
        partitions: Some(4),
        replicas: Some(1),
        retention_ms: None,
        retention_bytes: Some(-1),
    }
}

/// Three apps, one of them disabled, a rotation under way, a topic of two versions, one disabled, and grants of each kind.
pub async fn fill(db: &dyn AuthDb) {
    for (app, at, publish, subscribe) in [
        ("shop", "main", SHOP_PUBLISH_OLD, SHOP_SUBSCRIBE),
        ("audit", "payments", AUDIT_PUBLISH, AUDIT_SUBSCRIBE),
        ("gone", "main", GONE_PUBLISH, GONE_SUBSCRIBE),
    ] {
        let (publish, subscribe) = (Some(secret(publish)), Some(secret(subscribe)));
        db.create_app(NewApp { id: id(app), cluster: cluster(at), publish, subscribe, reuse: false }).await.unwrap();
    }
    db.rotate_secret(&id("shop"), Side::Publish, Some(secret(SHOP_PUBLISH)), Rotation::Ordinary).await.unwrap();
    db.update_app(&id("gone"), AppUpdate { enabled: Some(false), ..AppUpdate::default() }).await.unwrap();

    db.create_topic(topic("shop", "orders", "v1")).await.unwrap();
    let options = TopicOptions {
        partitioner: Partitioner::Fnv1a,
        compression: Compression::Zstd,
        strip_2017_tags: true,
        message_bytes_max: 12_345,
        handoff: true,
    };
    db.create_topic(NewTopic { options, cluster: cluster("payments"), ..topic("shop", "orders", "v2") }).await.unwrap();
    let retired = topic("shop", "retired", "v1");
    let (owner, name, ver) = (retired.owner.clone(), retired.name.clone(), retired.ver.clone());
    db.create_topic(retired).await.unwrap();
    let disabled = TopicUpdate { enabled: Some(false), ..TopicUpdate::default() };
    db.update_topic(&owner, &name, &ver, disabled).await.unwrap();
    db.create_topic(topic("audit", "trail", "v1")).await.unwrap();

    let subscribe = |app: &str, owner: &str, topic: &str, ver: Option<&str>| GrantDoc::Subscribe {
        app: id(app),
        owner: id(owner),
        topic: TopicName::new(topic).unwrap(),
        ver: ver.map(|ver| TopicVersion::new(ver).unwrap()),
    };
    let raw = |at: &str, topic: Option<&str>| GrantDoc::RawPublish {
        app: id("audit"),
        cluster: cluster(at),
        topic: topic.map(|topic| PhysicalTopic::new(topic).unwrap()),
    };
    for grant in [
        subscribe("audit", "shop", "orders", Some("v2")),
        subscribe("shop", "audit", "trail", None),
        raw("main", Some("legacy.events")),
        raw("payments", None),
    ] {
        assert!(db.grant(&grant).await.unwrap(), "{grant:?}");
    }
    db.create_admin(&id(ADMIN.0), Some(secret(ADMIN.1))).await.unwrap();
}

/// Every secret, topic and grant does what it did when it was written, and no more.
pub fn check(snapshot: &Snapshot, at: &str) {
    for (app, side, key, expected) in [
        ("shop", Side::Publish, SHOP_PUBLISH, true),
        ("shop", Side::Publish, SHOP_PUBLISH_OLD, true),
        ("shop", Side::Publish, SHOP_SUBSCRIBE, false),
        ("shop", Side::Subscribe, SHOP_SUBSCRIBE, true),
        ("shop", Side::Subscribe, SHOP_PUBLISH, false),
        ("audit", Side::Publish, AUDIT_PUBLISH, true),
        ("audit", Side::Subscribe, AUDIT_SUBSCRIBE, true),
        ("audit", Side::Publish, SHOP_PUBLISH, false),
        ("gone", Side::Publish, GONE_PUBLISH, false),
    ] {
        let found = authenticate(snapshot, &Credentials { app, key: key.as_bytes() }, side).is_ok();
        assert_eq!(found, expected, "{at}: {app} with {key} to {side:?}");
    }
    for (app, side, key) in [("shop", Side::Publish, SHOP_PUBLISH), ("audit", Side::Subscribe, AUDIT_SUBSCRIBE)] {
        let app = snapshot.app(app).unwrap();
        for mechanism in [Mechanism::Sha256, Mechanism::Sha512] {
            let (proof, _) = client_proof(mechanism, key.as_bytes(), &app.scram, b"exchange");
            let accepted = app.secrets(side).current.scram(mechanism).accepts(mechanism, b"exchange", &proof);
            assert!(accepted, "{at}: {} by {mechanism:?}", app.id);
        }
    }
    let app = |name: &str| snapshot.app(name).unwrap_or_else(|| panic!("{at}: no app {name}"));
    for (name, topic, ver, expected) in [
        ("shop", "orders", "v1", true),
        ("shop", "orders", "v2", true),
        ("shop", "orders", "v3", false),
        ("shop", "retired", "v1", false),
        ("audit", "trail", "v1", true),
    ] {
        let found = authorize_publish(snapshot, app(name), topic, ver).is_ok();
        assert_eq!(found, expected, "{at}: {name} publishes to {topic} {ver}");
    }
    for (name, owner, topic, ver, expected) in [
        ("shop", "shop", "orders", "v1", true),
        ("audit", "shop", "orders", "v2", true),
        ("audit", "shop", "orders", "v1", false),
        ("shop", "audit", "trail", "v1", true),
        ("gone", "shop", "orders", "v1", false),
    ] {
        let found = authorize_subscribe(snapshot, app(name), owner, topic, ver).is_ok();
        assert_eq!(found, expected, "{at}: {name} reads {owner}'s {topic} {ver}");
    }
    for (name, to, topic, expected) in [
        ("audit", "main", "legacy.events", true),
        ("audit", "main", "other", false),
        ("audit", "payments", "anything", true),
        ("audit", "payments", "__consumer_offsets", false),
        ("shop", "main", "legacy.events", false),
    ] {
        let found = authorize_raw(snapshot, app(name), to, topic).is_ok();
        assert_eq!(found, expected, "{at}: {name} publishes to {topic} of {to}");
    }
    let orders = snapshot.topic("shop", "orders", "v2").unwrap();
    assert_eq!((orders.cluster.as_str(), &*orders.physical), ("payments", "shop.orders.v2"), "{at}");
    assert_eq!(orders.options.partitioner, Partitioner::Fnv1a, "{at}");
    assert_eq!(orders.options.compression, Compression::Zstd, "{at}");
    assert_eq!((orders.options.strip_2017_tags, orders.options.message_bytes_max), (true, 12_345), "{at}");
    assert!(snapshot.apps().all(|app| app.handoff), "{at}");
    assert!(snapshot.topics().all(|topic| topic.options.handoff && topic.handoff), "{at}");
    assert_eq!((snapshot.app_count(), snapshot.topic_count()), (3, 4), "{at}");
}

/// The data directories of `tests/data`, each of an older version.
pub fn directories(crate_dir: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir(Path::new(crate_dir).join("tests/data")).unwrap();
    let found: Vec<PathBuf> = all.map(|entry| entry.unwrap().path()).collect();
    assert!(!found.is_empty(), "directories to open");
    found
}
