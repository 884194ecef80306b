//! Topic versions and their states.

use authdb::{NewTopic, TopicState, TopicUpdate};
use model::principals::Visible;
use model::topic_options::{Compression, Partitioner, TopicOptions};

use crate::{Database, Fixture, id, main_cluster, new_topic, topic_name};

pub async fn a_topic_keeps_everything_that_was_said_about_it(fixture: Fixture<impl Database>) {
    fixture.app("shop").await;
    let options = TopicOptions {
        partitioner: Partitioner::Fnv1a,
        compression: Compression::Zstd,
        strip_2017_tags: true,
        message_bytes_max: 2_000_000,
        handoff: false,
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
    // One option alone, there and back: what is answered is what is stored.
    for handoff in [false, true] {
        let options = Some(TopicOptions { handoff, ..TopicOptions::default() });
        let changed = fixture.db.update_topic(&owner, &name, &ver, TopicUpdate { options, ..TopicUpdate::default() });
        assert_eq!(changed.await.unwrap().doc.options.handoff, handoff);
        assert_eq!(fixture.db.get_topic(&owner, &name, &ver).await.unwrap().doc.options.handoff, handoff);
    }
    assert_eq!(fixture.db.load().await.unwrap().topics, [changed]);
}

pub async fn a_topic_is_seen_by_clients_while_it_is_active_or_disabled_and_no_longer(fixture: Fixture<impl Database>) {
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

pub async fn topics_are_listed_by_owner_name_and_the_number_of_their_version(fixture: Fixture<impl Database>) {
    let db = &fixture.db;
    fixture.app("shop").await;
    fixture.app("audit").await;
    let made = [("shop", "orders", "v10"), ("shop", "orders", "v2"), ("shop", "carts", "v1"), ("audit", "trail", "v1")];
    for (owner, name, ver) in made {
        fixture.topic(owner, name, ver).await;
    }
    let listed = async |owner: Option<&str>| {
        let owner = owner.map(id);
        let rows = db.list_topics(owner.as_ref(), &Visible::All, None, 100).await.unwrap();
        rows.iter().map(|row| format!("{}/{}/{}", row.doc.owner, row.doc.name, row.doc.ver)).collect::<Vec<_>>()
    };
    let of_shop = ["shop/carts/v1", "shop/orders/v2", "shop/orders/v10"];
    assert_eq!(listed(Some("shop")).await, of_shop);
    assert_eq!(listed(None).await, [&["audit/trail/v1"], &of_shop[..]].concat());
    assert!(listed(Some("nobody")).await.is_empty());
}

/// Kafka counts metrics of `a.b_c.v1` and `a_b.c.v1` under one name, and refuses the second.
pub async fn names_that_kafka_would_take_for_one_another_are_found(fixture: Fixture<impl Database>) {
    let db = &fixture.db;
    for owner in ["a", "a_b"] {
        fixture.app(owner).await;
    }
    for (owner, name, ver) in [("a", "b_c", "v1"), ("a_b", "c", "v1"), ("a_b", "c", "v2"), ("a", "b_d", "v1")] {
        fixture.topic(owner, name, ver).await;
    }
    let similar = async |cluster: &str, owner: &str, name: &str, ver: &str| {
        let (owner, name, ver) = topic_name(owner, name, ver);
        let cluster = model::ids::ClusterName::new(cluster).unwrap();
        let rows = db.similar_topics(&cluster, &owner, &name, &ver).await.unwrap();
        let mut found: Vec<_> =
            rows.iter().map(|row| format!("{}.{}.{}", row.doc.owner, row.doc.name, row.doc.ver)).collect();
        found.sort();
        found.join(" ")
    };
    assert_eq!(similar(main_cluster().as_str(), "a", "b_c", "v1").await, "a.b_c.v1 a_b.c.v1");
    assert_eq!(similar("main", "a_b", "c", "v2").await, "a_b.c.v2");
    assert_eq!(similar("main", "a", "b", "v1").await, "");
    assert_eq!(similar("payments", "a", "b_c", "v1").await, "", "another cluster");
}
