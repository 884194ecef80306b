//! A change is done whole or not at all.

use std::future::poll_fn;
use std::task::Poll;

use authdb::{
    Admin, Answer, AppInfo, AppUpdate, AuditFilter, AuditRow, AuthDb, AuthDbError, Rotation, TopicRow, TopicUpdate,
};
use model::Side;
use model::doc::{GrantDoc, SnapshotDoc};
use model::principals::Visible;

use crate::{Database, Fixture, id, loaded, main_cluster, new_app, new_topic, subscribe, topic_name};

type Everything = (SnapshotDoc, Vec<AppInfo>, Vec<TopicRow>, Vec<AuditRow>, Option<Admin>);

/// All that can be asked.
async fn everything(db: &dyn AuthDb) -> Everything {
    let (apps, topics) = (
        db.list_apps(&Visible::All, None, 100).await.unwrap(),
        db.list_topics(None, &Visible::All, None, 100).await.unwrap(),
    );
    let audit = db.audit(&AuditFilter::default(), &Visible::All, 1_000).await.unwrap();
    (loaded(db).await, apps, topics, audit, db.admin().await.unwrap())
}

pub async fn a_call_that_cannot_be_done_says_why_and_leaves_everything_as_it_was(fixture: Fixture<impl Database>) {
    let db = &fixture.db;
    fixture.app("shop").await;
    fixture.app("audit").await;
    fixture.topic("shop", "orders", "v1").await;
    let raw = GrantDoc::RawPublish { app: id("nobody"), cluster: main_cluster(), topic: None };
    let (owner, name, ver) = topic_name("shop", "orders", "v9");
    let (_, missing, _) = topic_name("shop", "missing", "v1");
    let none = TopicUpdate::default();
    // Half done, a reserved id, and two secrets that live.
    let (_, deleting, v1) = topic_name("shop", "deleting", "v1");
    fixture.topic("shop", "deleting", "v1").await;
    let row = db.get_topic(&owner, &deleting, &v1).await.unwrap();
    db.begin_delete_topic(&row.doc).await.unwrap();
    fixture.app("retired").await;
    db.delete_app(&id("retired"), false).await.unwrap();
    let rotate = || db.rotate_secret(&owner, Side::Publish, None, Rotation::Ordinary);
    rotate().await.unwrap();
    let is_deleting = "topic shop/deleting/v1 is deleting right now, that has to end first";
    let before = everything(&**db).await;

    let rows: [(Result<(), AuthDbError>, &str); 17] = [
        (rotate().await.map(drop), "two publish secrets of app shop are live already"),
        (db.revoke_previous(&id("nobody"), Side::Publish).await.map(drop), "there is no app nobody"),
        (db.update_app(&id("nobody"), AppUpdate::default()).await.map(drop), "there is no app nobody"),
        (db.create_topic(new_topic("shop", "deleting", "v1")).await.map(drop), is_deleting),
        (db.update_topic(&owner, &deleting, &v1, none.clone()).await.map(drop), is_deleting),
        (
            db.create_app(new_app("retired")).await.map(drop),
            "app retired was deleted and left things in Kafka that a new app of this name would own: its consumer groups \
             may be there",
        ),
        (db.create_app(new_app("shop")).await.map(drop), "app shop exists already"),
        (db.get_app(&id("nobody")).await.map(drop), "there is no app nobody"),
        (db.delete_app(&id("shop"), false).await.map(drop), "app shop still owns 2 topic versions, delete them first"),
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
    // And so do those that find nothing to do.
    assert!(!db.activate_topic(&row.doc, None, None).await.unwrap());
    db.abandon_topic(&row.doc).await.unwrap();
    db.begin_delete_topic(&row.doc).await.unwrap();
    assert!(!db.delete_topic(&owner, &name, &ver, true).await.unwrap());
    assert_eq!(db.delete_app(&id("nobody"), true).await.unwrap(), None);
    assert!(!db.revoke(&raw).await.unwrap());
    assert!(!db.revoke_previous(&owner, Side::Subscribe).await.unwrap());
    assert_eq!(everything(&**db).await, before);
}

/// Lets a call come so far.
async fn polled<T>(mut call: Answer<'_, T>, polls_max: usize) -> Option<T> {
    let mut polls = 0;
    poll_fn(|context| {
        polls += 1;
        if polls > polls_max {
            return Poll::Ready(None);
        }
        call.as_mut().poll(context).map(|answer| Some(answer.unwrap()))
    })
    .await
}

pub async fn a_call_that_is_dropped_on_its_way_was_done_whole_or_not_at_all_and_holds_nobody_up(
    fixture: Fixture<impl Database>,
) {
    let db = &fixture.db;
    fixture.app("shop").await;
    fixture.app("audit").await;
    let other = fixture.database.open().await;
    let (shop, orders, v1) = topic_name("shop", "orders", "v1");
    let (mut done, mut undone, mut polls_max) = (0, 0, 1);
    for _ in 0..60 {
        for ver in ["v1", "v2"] {
            db.create_topic(new_topic("shop", "orders", ver)).await.unwrap();
        }
        // Of every version, which lives on while v2 does, and of this one.
        for ver in [None, Some("v1")] {
            db.grant(&subscribe("audit", "shop", "orders", ver)).await.unwrap();
        }
        let before = everything(&*other).await;
        let answered = polled(db.delete_topic(&shop, &orders, &v1, true), polls_max).await;
        // Held up by nothing, and when it has its turn, what was dropped is over.
        other.delete_app(&id("nobody"), false).await.unwrap();
        let after = everything(&*other).await;
        let is_done = after.0.topics.len() == 1;
        if is_done {
            assert_eq!(after.0.generation, before.0.generation + 1, "after {polls_max} polls");
            assert_eq!(after.0.grants, [subscribe("audit", "shop", "orders", None)], "after {polls_max} polls");
            assert_eq!(after.3.len(), before.3.len() + 1, "after {polls_max} polls");
        } else {
            assert_eq!(after, before, "after {polls_max} polls");
        }
        *(if is_done { &mut done } else { &mut undone }) += 1;
        assert!(is_done || answered.is_none());
        // One step further each time, and again from the beginning.
        polls_max = if answered.is_some() { 1 } else { polls_max + 1 };
        for row in other.list_topics(None, &Visible::All, None, 100).await.unwrap() {
            other.delete_topic(&row.doc.owner, &row.doc.name, &row.doc.ver, true).await.unwrap();
        }
    }
    assert!(done > 0 && undone > 0, "{done} times done, {undone} times dropped before");
}
