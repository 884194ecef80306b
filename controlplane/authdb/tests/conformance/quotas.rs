//! Limits, and from where an app may be used.

use authdb::{AuditFilter, AuthDbError};
use model::Addresses;
use model::principals::Visible;
use model::quota::{Limits, Measure};

use crate::{Database, Fixture, id, topic_name};

pub async fn limits_and_addresses_are_set_one_by_one_seen_by_snapshots_and_written_down(
    fixture: Fixture<impl Database>,
) {
    let db = &fixture.db;
    fixture.app("shop").await;
    fixture.topic("shop", "orders", "v1").await;
    let (shop, orders, v1) = topic_name("shop", "orders", "v1");

    db.limit_app(&shop, &[(Measure::PublishMessages, 100), (Measure::Connections, 7)]).await.unwrap();
    let app = db.limit_app(&shop, &[(Measure::Connections, 0), (Measure::SubscribeBytes, 9)]).await.unwrap();
    let expected = Limits::default().with(Measure::PublishMessages, 100).with(Measure::SubscribeBytes, 9);
    assert_eq!(app.limits, expected, "one that is not named stays, 0 takes one away");
    let topic = db.limit_topic(&shop, &orders, &v1, &[(Measure::PublishBytes, 1_000)]).await.unwrap();
    assert_eq!(topic.doc.limits, Limits::default().with(Measure::PublishBytes, 1_000));
    let ranges = Addresses::parse("10.0.0.0/8,::1").unwrap();
    assert_eq!(db.set_addresses(&shop, &ranges).await.unwrap().addresses, ranges);

    let snapshot = fixture.snapshot().await;
    let app = snapshot.app("shop").unwrap();
    assert_eq!((app.limits, &app.addresses), (expected, &ranges));
    assert_eq!(snapshot.topic("shop", "orders", "v1").unwrap().limits, topic.doc.limits);
    let listed = &db.list_apps(&Visible::All, None, 100).await.unwrap()[0];
    assert_eq!((listed.limits, &listed.addresses), (expected, &ranges));

    let rows = db.audit(&AuditFilter::default(), &Visible::All, 3).await.unwrap();
    let shown: Vec<String> = rows.iter().map(|row| format!("{} {} {}", row.operation, row.before, row.after)).collect();
    let expected = [
        r#"app.addresses [] ["10.0.0.0/8","::1"]"#,
        r#"topic.limit {} {"publish_bytes":1000}"#,
        r#"app.limit {"connections":7,"publish_messages":100} {"publish_messages":100,"subscribe_bytes":9}"#,
    ];
    assert_eq!(shown, expected);
}

pub async fn what_is_no_app_topic_or_change_changes_nothing(fixture: Fixture<impl Database>) {
    let db = &fixture.db;
    fixture.app("shop").await;
    let (shop, orders, v1) = topic_name("shop", "orders", "v1");
    let before = fixture.generation().await;
    assert!(matches!(db.limit_app(&id("nobody"), &[]).await, Err(AuthDbError::NoSuchApp(_))));
    assert!(matches!(db.set_addresses(&id("nobody"), &Addresses::default()).await, Err(AuthDbError::NoSuchApp(_))));
    assert!(matches!(db.limit_topic(&shop, &orders, &v1, &[]).await, Err(AuthDbError::NoSuchTopic { .. })));
    db.limit_app(&shop, &[(Measure::PublishMessages, 0)]).await.unwrap();
    db.set_addresses(&shop, &Addresses::default()).await.unwrap();
    assert_eq!(fixture.generation().await, before);
}
