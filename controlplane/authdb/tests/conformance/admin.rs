//! The manager's one account.

use model::PlainSecret;

use crate::{Database, Fixture, id};

pub async fn of_many_first_starts_one_makes_the_admin(fixture: Fixture<impl Database>) {
    assert_eq!(fixture.db.admin().await.unwrap(), None);
    assert!(!fixture.db.is_admin("admin", b"").await.unwrap());
    let mut starts = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let db = fixture.database.open().await;
        starts.spawn(async move { db.create_admin(&id("admin"), None).await.unwrap() });
    }
    let keys: Vec<PlainSecret> = starts.join_all().await.into_iter().flatten().collect();
    assert_eq!(keys.len(), 1, "the admin's key is shown by exactly one of them");
    let is_admin = async |appid: &str, key: &[u8]| fixture.db.is_admin(appid, key).await.unwrap();
    let key = keys[0].expose().as_bytes();
    assert!(is_admin("admin", key).await);
    assert!(!is_admin("admin", b"wrong").await);
    assert!(!is_admin("other", key).await);

    let chosen = PlainSecret::from_text("chosen").unwrap();
    assert_eq!(fixture.db.create_admin(&id("root"), Some(chosen.clone())).await.unwrap(), None);
    fixture.db.reset_admin(&id("root"), &chosen).await.unwrap();
    assert!(is_admin("root", b"chosen").await);
    assert!(!is_admin("admin", key).await);
    assert_eq!(fixture.db.admin().await.unwrap().unwrap().appid, "root");
}
