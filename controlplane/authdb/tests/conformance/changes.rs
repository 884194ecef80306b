//! What changed since a generation, applied to the snapshot of then, is the snapshot of now.

use authdb::{AppUpdate, AuthDb, AuthDbError, NewApp, NewTopic, Rotation, TopicUpdate};
use model::doc::GrantDoc;
use model::ids::{AppId, ClusterName, PhysicalTopic, TopicName, TopicVersion};
use model::quota::Measure;
use model::{PlainSecret, Side, Snapshot, TopicOptions, authorize_raw, authorize_subscribe};

use crate::{Database, Fixture, loaded, new_app, new_topic, subscribe};

const APPS: [&str; 3] = ["a", "b", "c"];
const TOPICS: [&str; 1] = ["x"];
const VERSIONS: [&str; 2] = ["v1", "v2"];
/// Secrets of a few letters, so that whether one opens an app can be asked of all of them.
const SECRETS: [&str; 5] = ["s0", "s1", "s2", "s3", "s4"];

/// xorshift64*
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }

    fn of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[self.below(all.len())]
    }
}

fn app(text: &str) -> AppId {
    AppId::new(text).unwrap()
}

/// Everything that can be asked of a snapshot about these few names.
fn answers(snapshot: &Snapshot) -> Vec<String> {
    let mut all = vec![format!("{} {} {}", snapshot.generation, snapshot.app_count(), snapshot.topic_count())];
    for id in APPS {
        let Some(found) = snapshot.app(id) else { continue };
        let flags = (found.enabled, found.handoff);
        all.push(format!("{id} {} {flags:?} {} {:?}", found.index, found.cluster, found.limits));
        for secret in SECRETS {
            for side in [Side::Publish, Side::Subscribe] {
                let credentials = model::Credentials { app: id, key: secret.as_bytes() };
                all.push(format!(
                    "{id} {secret} {side:?} {}",
                    model::authenticate(snapshot, &credentials, side).is_ok()
                ));
            }
        }
        all.push(format!("{id} raw {}", authorize_raw(snapshot, found, "main", "legacy").is_ok()));
        for (owner, topic, ver) in names() {
            let topic_of = snapshot
                .topic(owner, topic, ver)
                .map(|topic| (topic.index, topic.enabled, &topic.options, topic.handoff, topic.limits));
            let may = authorize_subscribe(snapshot, found, owner, topic, ver).map(drop).map_err(|denied| denied.code());
            all.push(format!("{id} {owner}/{topic}/{ver} {topic_of:?} {may:?}"));
        }
    }
    all
}

fn names() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    APPS.into_iter().flat_map(|owner| {
        TOPICS.into_iter().flat_map(move |topic| VERSIONS.into_iter().map(move |ver| (owner, topic, ver)))
    })
}

async fn change(db: &dyn AuthDb, rng: &mut Rng) -> Result<(), AuthDbError> {
    let (one, other) = (app(rng.of(&APPS)), app(rng.of(&APPS)));
    let (topic, ver) = (TopicName::new(rng.of(&TOPICS)).unwrap(), TopicVersion::new(rng.of(&VERSIONS)).unwrap());
    let main = ClusterName::new("main").unwrap();
    let secret = PlainSecret::from_text(rng.of(&SECRETS)).unwrap();
    let side = if rng.below(2) == 0 { Side::Publish } else { Side::Subscribe };
    let which = (rng.below(2) == 0).then(|| ver.clone());
    let subscribe = GrantDoc::Subscribe { app: one.clone(), owner: other, topic: topic.clone(), ver: which };
    let legacy = (rng.below(2) == 0).then(|| PhysicalTopic::new("legacy").unwrap());
    let raw = GrantDoc::RawPublish { app: one.clone(), cluster: main.clone(), topic: legacy };
    match rng.below(14) {
        0 | 1 => {
            let (publish, subscribe) = (Some(secret.clone()), Some(secret));
            db.create_app(NewApp { id: one, cluster: main, publish, subscribe, reuse: true }).await.map(drop)
        }
        2 => db.delete_app(&one, rng.below(2) == 0).await.map(drop),
        3 => {
            let update = AppUpdate {
                cluster: None,
                enabled: Some(rng.below(3) > 0),
                handoff: (rng.below(2) == 0).then(|| rng.below(2) == 0),
            };
            db.update_app(&one, update).await.map(drop)
        }
        4 => db.rotate_secret(&one, side, Some(secret), Rotation::ReplaceOlder).await.map(drop),
        5 => db.revoke_previous(&one, side).await.map(drop),
        6 | 7 => {
            let new = NewTopic {
                owner: one,
                name: topic,
                ver,
                cluster: main,
                options: TopicOptions::default(),
                partitions: Some(1),
                replicas: Some(1),
                retention_ms: None,
                retention_bytes: None,
            };
            db.create_topic(new).await.map(drop)
        }
        8 => {
            let options = TopicOptions { handoff: rng.below(2) == 0, ..TopicOptions::default() };
            let update =
                TopicUpdate { enabled: Some(rng.below(2) == 0), options: Some(options), ..TopicUpdate::default() };
            db.update_topic(&one, &topic, &ver, update).await.map(drop)
        }
        9 => {
            if let Ok(row) = db.get_topic(&one, &topic, &ver).await {
                db.begin_delete_topic(&row.doc).await?;
            }
            db.delete_topic(&one, &topic, &ver, rng.below(2) == 0).await.map(drop)
        }
        10 => db.grant(if rng.below(3) == 0 { &raw } else { &subscribe }).await.map(drop),
        11 => db.limit_app(&one, &[(Measure::PublishBytes, rng.below(3) as u64)]).await.map(drop),
        12 => db.limit_topic(&one, &topic, &ver, &[(Measure::PublishMessages, rng.below(3) as u64)]).await.map(drop),
        _ => db.revoke(if rng.below(3) == 0 { &raw } else { &subscribe }).await.map(drop),
    }
}

pub async fn changes_applied_to_what_was_are_what_is(fixture: Fixture<impl Database>) {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1
    });
    println!("SEED={seed}");
    let db = &fixture.db;
    let (mut rng, mut held) = (Rng(seed), Snapshot::build(db.load().await.unwrap()).unwrap());
    let (mut applied, mut changed_something) = (0, 0);
    for step in 0..400 {
        // Several at once, as when a reader was away.
        for _ in 0..=rng.below(3) {
            changed_something += usize::from(change(&**db, &mut rng).await.is_ok());
        }
        let changes = db.load_changes(held.generation).await.unwrap().expect("few changes are known");
        applied += changes.parts.len();
        held = held.apply(changes).unwrap();
        let whole = Snapshot::build(db.load().await.unwrap()).unwrap();
        assert_eq!(answers(&held), answers(&whole), "step {step} of SEED={seed}");
    }
    assert!(applied > 100 && changed_something > 100, "{applied} parts, {changed_something} changes");
}

pub async fn changes_that_are_too_many_or_of_another_history_are_not_told(fixture: Fixture<impl Database>) {
    let db = &fixture.db;
    let start = db.generation().await.unwrap();
    let new = |id: &str| NewApp {
        id: app(id),
        cluster: ClusterName::new("main").unwrap(),
        publish: None,
        subscribe: None,
        reuse: false,
    };
    db.create_app(new("one")).await.unwrap();
    let now = db.generation().await.unwrap();
    let told = async |since| db.load_changes(since).await.unwrap().map(|changes| changes.parts.len());
    assert_eq!(told(start).await, Some(1));
    assert_eq!(told(now).await, Some(0));
    assert_eq!(told(model::Generation { history: model::HistoryId::new(1), ..start }).await, None, "another history");
    assert_eq!(told(model::Generation { number: now.number + 1, ..now }).await, None, "from the future");
    // An import touches everybody.
    let mut doc = db.load().await.unwrap();
    doc.apps.clear();
    db.import(&doc).await.unwrap();
    assert_eq!(told(now).await, None);
    // And nobody remembers for ever.
    let now = db.generation().await.unwrap();
    let off = |enabled| AppUpdate { enabled: Some(enabled), ..AppUpdate::default() };
    for round in 0..=authdb::limits::CHANGES_KEPT {
        db.update_app(&app("one"), off(round % 2 == 0)).await.unwrap();
    }
    assert_eq!(told(now).await, None);
}

/// A grant ends with what it was on, for whoever had it; what is made again under the same name is nobody's to read.
pub async fn what_a_change_takes_from_another_app_is_among_the_changes(fixture: Fixture<impl Database>) {
    let db = &fixture.db;
    let main = || ClusterName::new("main").unwrap();
    let (x, v1) = (TopicName::new("x").unwrap(), TopicVersion::new("v1").unwrap());
    let make = async |id: &str| {
        let new = NewApp { id: app(id), cluster: main(), publish: None, subscribe: None, reuse: true };
        db.create_app(new).await.unwrap();
    };
    let make_topic = async || {
        let new = NewTopic {
            owner: app("a"),
            name: x.clone(),
            ver: v1.clone(),
            cluster: main(),
            options: TopicOptions::default(),
            partitions: None,
            replicas: None,
            retention_ms: None,
            retention_bytes: None,
        };
        db.create_topic(new).await.unwrap();
    };
    make("a").await;
    make("b").await;
    for takes_the_app in [true, false] {
        make_topic().await;
        let grant = GrantDoc::Subscribe { app: app("b"), owner: app("a"), topic: x.clone(), ver: None };
        assert!(db.grant(&grant).await.unwrap());
        let held = Snapshot::build(db.load().await.unwrap()).unwrap();
        let may =
            |snapshot: &Snapshot| authorize_subscribe(snapshot, snapshot.app("b").unwrap(), "a", "x", "v1").is_ok();
        assert!(may(&held));
        if takes_the_app {
            db.delete_app(&app("a"), true).await.unwrap();
            make("a").await;
        } else {
            db.delete_topic(&app("a"), &x, &v1, true).await.unwrap();
        }
        make_topic().await;
        let changes = db.load_changes(held.generation).await.unwrap().unwrap();
        assert!(!may(&held.apply(changes).unwrap()), "takes the app: {takes_the_app}");
        db.delete_topic(&app("a"), &x, &v1, true).await.unwrap();
    }
}

pub async fn an_import_is_one_change_with_everything_in_it<D: Database>(fixture: Fixture<D>) {
    for id in ["shop", "audit", "gone"] {
        fixture.app(id).await;
    }
    // Numbers with a gap, a secret of two, a topic that is disabled, a grant of each kind.
    fixture.db.delete_app(&app("gone"), false).await.unwrap();
    fixture.app("news").await;
    fixture.db.rotate_secret(&app("shop"), Side::Publish, None, Rotation::Ordinary).await.unwrap();
    fixture
        .db
        .update_app(&app("news"), AppUpdate { enabled: Some(false), handoff: Some(false), ..AppUpdate::default() })
        .await
        .unwrap();
    for ver in ["v1", "v2"] {
        fixture.topic("shop", "orders", ver).await;
    }
    let new = new_topic("shop", "orders", "v2");
    let disabled = TopicUpdate { enabled: Some(false), ..TopicUpdate::default() };
    fixture.db.update_topic(&new.owner, &new.name, &new.ver, disabled).await.unwrap();
    fixture.db.begin_topic(new_topic("shop", "unborn", "v1")).await.unwrap();
    fixture.db.grant(&subscribe("audit", "shop", "orders", Some("v2"))).await.unwrap();
    fixture.db.grant(&subscribe("news", "shop", "orders", None)).await.unwrap();
    let raw = GrantDoc::RawPublish { app: app("news"), cluster: new.cluster, topic: None };
    fixture.db.grant(&raw).await.unwrap();
    let doc = fixture.db.load().await.unwrap();

    let other = Fixture::<D>::new().await;
    let before = other.db.generation().await.unwrap();
    let after = other.db.import(&doc).await.unwrap();
    assert_eq!(after, model::Generation { number: before.number + 1, ..before });
    assert_eq!(other.db.generation().await.unwrap(), after);
    let there = other.db.load().await.unwrap();
    assert_eq!((&there.apps, &there.topics, &there.grants), (&doc.apps, &doc.topics, &doc.grants));
    // Numbers go on after the largest one.
    assert!(other.app("more").await.app.index > doc.apps.iter().map(|app| app.index).max().unwrap());

    // One that is there already keeps all of it out.
    let mut more = doc.clone();
    more.apps.retain(|one| one.id == "shop");
    let mut first = more.apps[0].clone();
    (first.id, first.index) = (app("first"), 1_000);
    more.apps.insert(0, first);
    let before = loaded(&*other.db).await;
    other.db.import(&more).await.unwrap_err();
    assert_eq!(loaded(&*other.db).await, before);
    other.db.create_app(new_app("first")).await.unwrap();
}
