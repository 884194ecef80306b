//! Lists, a page at a time.

use authdb::AuthDb;
use model::principals::Visible;

use crate::{Database, Fixture, id, subscribe};

/// More than there are.
const ROWS_MAX: usize = 100;

/// Rows of all pages of so many, as text.
async fn pages(db: &dyn AuthDb, rows_max: usize) -> [Vec<String>; 3] {
    let (mut apps, mut topics, mut grants) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let last = apps.last().map(|app: &authdb::AppInfo| app.id.clone());
        let page = db.list_apps(&Visible::All, last.as_ref(), rows_max).await.unwrap();
        assert!(page.len() <= rows_max);
        if page.is_empty() {
            break;
        }
        apps.extend(page);
        assert!(apps.len() < ROWS_MAX, "it does not come to its end");
    }
    loop {
        let last = topics.last().map(|row: &authdb::TopicRow| row.doc.clone());
        let after = last.as_ref().map(|doc| (&doc.owner, &doc.name, &doc.ver));
        let page = db.list_topics(None, &Visible::All, after, rows_max).await.unwrap();
        assert!(page.len() <= rows_max);
        if page.is_empty() {
            break;
        }
        topics.extend(page);
        assert!(topics.len() < ROWS_MAX, "it does not come to its end");
    }
    loop {
        let page = db.list_grants(None, &Visible::All, grants.last(), rows_max).await.unwrap();
        assert!(page.len() <= rows_max);
        if page.is_empty() {
            break;
        }
        grants.extend(page);
        assert!(grants.len() < ROWS_MAX, "it does not come to its end");
    }
    [
        apps.iter().map(|app| app.id.to_string()).collect(),
        topics.iter().map(|row| format!("{}/{}/{}", row.doc.owner, row.doc.name, row.doc.ver)).collect(),
        grants.iter().map(ToString::to_string).collect(),
    ]
}

pub async fn pages_of_any_size_make_the_list_and_go_on_behind_what_is_gone(fixture: Fixture<impl Database>) {
    let db = &*fixture.db;
    // Upper case before lower case, a prefix before what it begins: the order of the bytes, whatever the database likes.
    for app in ["a", "A", "a-1", "a_1", "b", "B"] {
        fixture.app(app).await;
    }
    for owner in ["a", "b", "B"] {
        for (name, ver) in [("t", "v1"), ("t", "v2"), ("t", "v10"), ("T", "v1"), ("t-1", "v1")] {
            fixture.topic(owner, name, ver).await;
            for app in ["A", "a-1"] {
                db.grant(&subscribe(app, owner, name, Some(ver))).await.unwrap();
            }
        }
        db.grant(&subscribe("A", owner, "t", None)).await.unwrap();
    }
    let whole = pages(db, 1_000).await;
    assert_eq!(whole.each_ref().map(Vec::len), [6, 15, 33]);
    assert_eq!(whole[0], ["A", "B", "a", "a-1", "a_1", "b"]);
    assert_eq!(whole[1][..5], ["B/T/v1", "B/t/v1", "B/t/v2", "B/t/v10", "B/t-1/v1"]);
    for rows_max in 1..=7 {
        assert_eq!(pages(db, rows_max).await, whole, "{rows_max}");
    }

    // Behind a row that is gone, with its owner.
    let grants = db.list_grants(None, &Visible::All, None, 1_000).await.unwrap();
    let at = grants.iter().position(|grant| grant.to_string().contains("a/t/v2")).expect("granted");
    let topics = db.list_topics(None, &Visible::All, None, 1_000).await.unwrap();
    let of_a = &topics.iter().find(|row| row.doc.owner == id("a")).expect("a topic").doc;
    db.delete_app(&id("a"), true).await.unwrap();
    let apps = db.list_apps(&Visible::All, Some(&id("a")), 1).await.unwrap();
    assert_eq!(apps[0].id, "a-1");
    let next = db.list_topics(None, &Visible::All, Some((&of_a.owner, &of_a.name, &of_a.ver)), 1).await.unwrap();
    assert_eq!(next[0].doc.owner, "b");
    let next = db.list_grants(None, &Visible::All, Some(&grants[at]), 1).await.unwrap();
    let expected = grants[at..].iter().find(|grant| !grant.to_string().contains(" a/")).expect("of others");
    assert_eq!(&next[0], expected);
}
