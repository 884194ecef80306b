//! A database that an older version wrote opens with every app, topic, grant and secret in it.
//!
//! `tests/data/2026-11` was written by `fill`, run by the code of that time (`AUTHDB_WRITE_DATA=DIR cargo test -p authdb
//! --test old_data`), and is never written again. A version with a new migration adds a directory of its own.

mod old_tenants;

use std::fs;
use std::path::Path;

use authdb::Missing;
use model::Snapshot;
use model::ids::AppId;
use model::principals::Visible;

const FILE: &str = "tenants.db";
/// Set: write a new directory there.
const WRITE_TO: &str = "AUTHDB_WRITE_DATA";

async fn write_to(dir: &Path) {
    let db = authdb::open(dir.join(FILE).to_str().unwrap()).await.unwrap();
    old_tenants::fill(&*db).await;
    // The last connection moves the journal into the file.
    db.close().await;
}

#[tokio::test]
async fn a_database_of_every_older_version_opens_with_all_its_apps_topics_grants_and_secrets() {
    if let Some(dir) = std::env::var_os(WRITE_TO) {
        return write_to(Path::new(&dir)).await;
    }
    for old in old_tenants::directories(env!("CARGO_MANIFEST_DIR")) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        fs::copy(old.join(FILE), &file).unwrap();
        // The second opening reads what the first one made of it.
        for round in 0..2 {
            let at = format!("{old:?}, opening {round}");
            let db = authdb::at(file.to_str().unwrap(), Missing::IsAnError).unwrap();
            old_tenants::check(&Snapshot::build(db.load().await.unwrap()).unwrap(), &at);
            let (admin, key) = old_tenants::ADMIN;
            assert!(db.is_admin(admin, key.as_bytes()).await.unwrap(), "{at}");
            assert!(!db.is_admin(admin, b"another key").await.unwrap(), "{at}");
            let shop = db.get_app(&AppId::new("shop").unwrap()).await.unwrap();
            assert_eq!(shop.rotating(), [model::Side::Publish], "{at}");
            // And goes on: what it is given now is there beside the old.
            let trail = |row: &authdb::TopicRow| row.doc.name.as_str() == "trail";
            assert_eq!(
                db.list_topics(None, &Visible::All, None, 100).await.unwrap().iter().filter(|row| trail(row)).count(),
                1,
                "{at}"
            );
            db.rotate_secret(
                &AppId::new("gone").unwrap(),
                model::Side::Subscribe,
                None,
                authdb::Rotation::ReplaceYounger,
            )
            .await
            .unwrap();
            db.close().await;
        }
    }
}
