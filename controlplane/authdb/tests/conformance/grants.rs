//! What apps may do beyond their own topics.

use model::doc::GrantDoc;
use model::ids::{PhysicalTopic, TopicVersion};
use model::principals::Visible;

use crate::{Database, Fixture, id, main_cluster, subscribe, topic_name};

pub async fn grants_are_listed_by_kind_and_grantee_and_of_one_app_alone(fixture: Fixture<impl Database>) {
    let db = &fixture.db;
    for app in ["shop", "audit", "news"] {
        fixture.app(app).await;
    }
    for ver in ["v2", "v10"] {
        fixture.topic("shop", "orders", ver).await;
    }
    let raw = |app: &str, topic: Option<&str>| GrantDoc::RawPublish {
        app: id(app),
        cluster: main_cluster(),
        topic: topic.map(|topic| PhysicalTopic::new(topic).unwrap()),
    };
    let in_order = [
        subscribe("audit", "shop", "orders", None),
        subscribe("audit", "shop", "orders", Some("v2")),
        subscribe("audit", "shop", "orders", Some("v10")),
        subscribe("news", "shop", "orders", Some("v2")),
        raw("audit", None),
        raw("audit", Some("legacy")),
        raw("shop", Some("legacy")),
    ];
    for grant in in_order.iter().rev() {
        assert!(db.grant(grant).await.unwrap(), "{grant}");
        assert!(!db.grant(grant).await.unwrap(), "{grant} again");
    }
    assert_eq!(db.list_grants(None, &Visible::All, None, 100).await.unwrap(), in_order);
    for app in ["audit", "news", "shop", "nobody"] {
        let of_it: Vec<GrantDoc> = in_order.iter().filter(|grant| *grant.app() == id(app)).cloned().collect();
        assert_eq!(db.list_grants(Some(&id(app)), &Visible::All, None, 100).await.unwrap(), of_it, "{app}");
    }
    // Each by itself: one version is not every version, one topic not every topic.
    for (gone, grant) in in_order.iter().enumerate() {
        assert!(db.revoke(grant).await.unwrap(), "{grant}");
        assert_eq!(db.list_grants(None, &Visible::All, None, 100).await.unwrap(), in_order[gone + 1..]);
        assert!(!db.revoke(grant).await.unwrap(), "{grant} again");
    }
}

pub async fn grants_of_a_deleted_topic_do_not_come_back_with_a_new_one(fixture: Fixture<impl Database>) {
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
    assert_eq!(db.list_grants(Some(&id("audit")), &Visible::All, None, 100).await.unwrap(), left);
    assert!(db.delete_topic(&owner, &name, &TopicVersion::new("v2").unwrap(), true).await.unwrap());
    assert_eq!(db.list_grants(None, &Visible::All, None, 100).await.unwrap(), []);
}
