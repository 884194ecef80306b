//! What several processes see of each other's changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use authdb::AuthDb;
use model::doc::{ChangesDoc, SnapshotDoc};
use model::principals::Visible;

use crate::{Database, Fixture, loaded, new_app, new_topic, subscribe};

pub async fn what_one_process_changed_every_other_one_sees(fixture: Fixture<impl Database>) {
    let mut dbs = Vec::new();
    for _ in 0..3 {
        dbs.push(fixture.database.open().await);
    }
    for round in 0..9 {
        let before = fixture.db.generation().await.unwrap();
        dbs[round % 3].create_app(new_app(&format!("app{round}"))).await.unwrap();
        let now = dbs[round % 3].generation().await.unwrap();
        assert_eq!(now.number, before.number + 1);
        for db in &dbs {
            assert_eq!(db.generation().await.unwrap(), now);
            assert_eq!(db.list_apps(&Visible::All, None, 100).await.unwrap().len(), round + 1);
            let parts = db.load_changes(before).await.unwrap().unwrap().parts;
            assert_eq!(parts.len(), 1);
            assert_eq!(parts[0].id, format!("app{round}").as_str());
        }
    }
    let first = loaded(&*dbs[0]).await;
    for db in &dbs {
        assert_eq!(loaded(&**db).await, first);
    }
}

const WRITERS: usize = 3;
/// Things that each of them makes beside its app.
const THINGS: usize = 24;

/// An app, and then topics of it and grants to it in turn: each change adds one thing.
async fn write(db: Arc<dyn AuthDb>, app: &str) {
    db.create_app(new_app(app)).await.unwrap();
    for number in 0..THINGS / 2 {
        db.create_topic(new_topic(app, &format!("t{number}"), "v1")).await.unwrap();
        assert!(db.grant(&subscribe(app, "first", &format!("t{number}"), None)).await.unwrap());
    }
}

/// What a reader has of each app.
#[derive(Default)]
struct Held(BTreeMap<String, usize>);

impl Held {
    fn of(doc: &SnapshotDoc) -> Self {
        let mut held = Self::default();
        let owners = doc.topics.iter().map(|topic| &topic.owner);
        for app in doc.apps.iter().map(|app| &app.id).chain(owners).chain(doc.grants.iter().map(|grant| grant.app())) {
            *held.0.entry(app.to_string()).or_default() += 1;
        }
        held
    }

    fn apply(&mut self, changes: &ChangesDoc) {
        for part in &changes.parts {
            let things = usize::from(part.app.is_some()) + part.topics.len() + part.grants.len();
            self.0.insert(part.id.to_string(), things);
        }
    }

    fn count(&self) -> usize {
        self.0.values().sum()
    }
}

/// Every change adds exactly one thing, so a snapshot of one generation has as many as generations went by: a table that
/// was read later than the number has too many.
pub async fn a_snapshot_loaded_in_a_storm_of_changes_is_exactly_one_generation(fixture: Fixture<impl Database>) {
    fixture.app("first").await;
    for number in 0..THINGS / 2 {
        fixture.topic("first", &format!("t{number}"), "v1").await;
    }
    let start = fixture.db.load().await.unwrap();
    let (at_start, started) = (Held::of(&start).count(), start.generation);
    let expected = move |number: u64| at_start + (number - started) as usize;
    let writing = Arc::new(AtomicUsize::new(WRITERS));
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (db, writing) = (fixture.database.open().await, Arc::clone(&writing));
        tasks.spawn(async move {
            write(db, &format!("writer{writer}")).await;
            writing.fetch_sub(1, Ordering::SeqCst);
        });
    }
    for reads_everything in [true, false] {
        let (db, writing) = (fixture.database.open().await, Arc::clone(&writing));
        let first = fixture.db.load().await.unwrap();
        tasks.spawn(async move {
            let (mut held, mut at, mut moves) = (Held::of(&first), first.generation(), 0);
            loop {
                // Before reading: what is read after the last change has it.
                let is_last = writing.load(Ordering::SeqCst) == 0;
                let now = if reads_everything {
                    let doc = db.load().await.unwrap();
                    held = Held::of(&doc);
                    doc.generation()
                } else {
                    let changes = db.load_changes(at).await.unwrap().expect("few changes are known");
                    held.apply(&changes);
                    changes.generation
                };
                assert!(now.history == at.history && now.number >= at.number, "{now} after {at}");
                assert_eq!(held.count(), expected(now.number), "at {now}");
                moves += usize::from(now != at);
                at = now;
                if is_last {
                    break;
                }
            }
            assert!(moves > 1, "nothing was read while it was written");
        });
    }
    tasks.join_all().await;
    let end = fixture.db.load().await.unwrap();
    let changes = WRITERS * (1 + THINGS);
    assert_eq!((Held::of(&end).count(), end.generation), (at_start + changes, started + changes as u64));
}

pub async fn a_closed_handle_opens_again(fixture: Fixture<impl Database>) {
    fixture.app("shop").await;
    let before = loaded(&*fixture.db).await;
    for _ in 0..2 {
        fixture.db.close().await;
        fixture.db.close().await;
        assert_eq!(loaded(&*fixture.db).await, before);
    }
    fixture.db.close().await;
    fixture.app("news").await;
    assert_eq!(fixture.generation().await, before.generation + 1);
}
