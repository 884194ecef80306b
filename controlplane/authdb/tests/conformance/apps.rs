//! Apps and their secrets.

use authdb::{AppUpdate, NewApp, Rotation};
use model::doc::GrantDoc;
use model::ids::{AppId, ClusterName, PhysicalTopic};
use model::principals::Visible;
use model::scram::{Mechanism, client_proof};
use model::{PlainSecret, Side};

use crate::{Database, Fixture, id, new_app, subscribe, topic_name};

pub async fn an_app_is_made_with_secrets_that_work_for_http_and_for_kafka_clients(fixture: Fixture<impl Database>) {
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

pub async fn two_secrets_live_during_a_rotation_and_a_third_needs_to_be_told_which_one_dies(
    fixture: Fixture<impl Database>,
) {
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

pub async fn a_deleted_app_leaves_no_secret_grant_or_number_behind(fixture: Fixture<impl Database>) {
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
    assert_eq!(db.list_grants(None, &Visible::All, None, 100).await.unwrap().len(), 3);
    assert_eq!(db.delete_app(&id("audit"), false).await.unwrap(), Some(vec![]));
    assert_eq!(db.list_grants(None, &Visible::All, None, 100).await.unwrap(), []);

    let new = db.create_app(NewApp { reuse: true, ..new_app("audit") }).await.unwrap();
    assert!(new.app.index > old.app.index, "a number was given twice");
    assert!(!fixture.opens("audit", &old.publish, Side::Publish).await);
}

pub async fn an_id_whose_app_left_things_in_kafka_is_given_again_only_on_purpose(fixture: Fixture<impl Database>) {
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
    assert_eq!(db.list_topics(None, &Visible::All, None, 100).await.unwrap(), []);

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

pub async fn apps_are_listed_by_id_and_are_what_they_were_told_to_be(fixture: Fixture<impl Database>) {
    let db = &fixture.db;
    for id in ["shop", "audit", "news"] {
        fixture.app(id).await;
    }
    let listed = db.list_apps(&Visible::All, None, 100).await.unwrap();
    assert_eq!(listed.iter().map(|app| app.id.as_str()).collect::<Vec<_>>(), ["audit", "news", "shop"]);
    for app in &listed {
        assert_eq!(db.get_app(&app.id).await.unwrap(), *app);
        assert_eq!((app.cluster.as_str(), app.enabled, app.secrets.len()), ("main", true, 2));
    }
    let payments = ClusterName::new("payments").unwrap();
    let update = AppUpdate::default;
    for (update, expected) in [
        (update(), ("main", true, true)),
        (AppUpdate { enabled: Some(false), ..update() }, ("main", false, true)),
        (AppUpdate { cluster: Some(payments), ..update() }, ("payments", false, true)),
        (AppUpdate { enabled: Some(true), handoff: Some(false), ..update() }, ("payments", true, false)),
        (update(), ("payments", true, false)),
        (AppUpdate { handoff: Some(true), ..update() }, ("payments", true, true)),
    ] {
        let app = db.update_app(&id("shop"), update).await.unwrap();
        assert_eq!((app.cluster.as_str(), app.enabled, app.handoff), expected);
        assert_eq!(db.get_app(&id("shop")).await.unwrap(), app);
        let snapshot = fixture.snapshot().await;
        let seen = snapshot.app("shop").unwrap();
        assert_eq!((seen.cluster.as_str(), seen.enabled, seen.handoff), expected);
    }
    assert_eq!(
        db.list_apps(&Visible::All, None, 100).await.unwrap()[..2],
        listed[..2],
        "of others nothing is different"
    );
}
