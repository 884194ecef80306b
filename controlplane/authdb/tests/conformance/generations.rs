//! What moves a generation, and what begins a history.

use authdb::{AppUpdate, Rotation, TopicUpdate};
use model::principals::Visible;
use model::{Generation, HistoryId, Side};

use crate::{Database, Fixture, id, new_app, new_topic, subscribe, topic_name};

pub async fn every_change_moves_the_generation_by_one_and_nothing_else_moves_it(fixture: Fixture<impl Database>) {
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
    moves_by!(0, db.list_apps(&Visible::All, None, 100));
    moves_by!(0, db.create_app(new_app("shop")));
    moves_by!(1, db.create_app(new_app("new")));
    moves_by!(1, db.update_app(&id("new"), AppUpdate { enabled: Some(false), ..AppUpdate::default() }));
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

pub async fn a_database_older_than_it_was_seen_goes_on_in_a_history_of_its_own(fixture: Fixture<impl Database>) {
    fixture.app("shop").await;
    let old = fixture.db.generation().await.unwrap();
    // A first start has seen nothing, which says nothing.
    fixture.db.has_seen(Generation { number: 1_000, history: HistoryId::default() });
    fixture.db.has_seen(old);
    assert_eq!(fixture.db.generation().await.unwrap(), old);

    // Two processes have seen what was lost; the one that looks first begins the history.
    let other = fixture.database.open().await;
    let lost = Generation { number: old.number + 5, ..old };
    for db in [&fixture.db, &other] {
        db.has_seen(lost);
    }
    let new = fixture.db.generation().await.unwrap();
    assert_ne!(new.history, old.history);
    assert_eq!(new.number, old.number + 1);
    for db in [&fixture.db, &other] {
        assert_eq!(db.generation().await.unwrap(), new);
        assert_eq!(db.load().await.unwrap().generation(), new);
        assert_eq!(db.load_changes(old).await.unwrap(), None, "nobody gets there by changes");
    }
    // Also by changing something before looking.
    let third = fixture.database.open().await;
    third.has_seen(Generation { number: new.number + 1, ..new });
    third.create_app(new_app("news")).await.unwrap();
    let after = third.generation().await.unwrap();
    assert_ne!(after.history, new.history);
    assert_eq!(fixture.db.generation().await.unwrap(), after);
}
