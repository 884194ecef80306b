//! Authentication against a snapshot, with and without the cache.

mod fixture;

use model::doc::SnapshotDoc;
use model::{CredentialCache, Credentials, Denied, HistoryId, Side, Snapshot, authenticate, authenticate_cached};

fn both(snapshot: &Snapshot, cache: &mut CredentialCache, app: &str, key: &str, side: Side) -> String {
    let credentials = Credentials { app, key: key.as_bytes() };
    let say = |verdict: Result<&model::App, Denied>| match verdict {
        Ok(app) => format!("ok {}", app.id),
        Err(denied) => format!("{} {}", denied.refusal().status, denied.refusal().code),
    };
    let plain = say(authenticate(snapshot, &credentials, side));
    // Twice, so that the second time is answered from the cache where it can be.
    for _ in 0..2 {
        assert_eq!(say(authenticate_cached(snapshot, cache, &credentials, side, 7)), plain, "{app} {key}");
    }
    plain
}

#[test]
fn a_secret_opens_its_own_side_of_its_own_app() {
    let snapshot = fixture::snapshot();
    let mut cache = CredentialCache::new([3; 16]);
    let long = "x".repeat(500);
    let rows = [
        ("shop", "shop-pub", Side::Publish, "ok shop"),
        ("shop", "shop-sub", Side::Subscribe, "ok shop"),
        ("shop", "shop-sub", Side::Publish, "401 not_authenticated"),
        ("shop", "shop-pub", Side::Subscribe, "401 not_authenticated"),
        ("shop", "audit-pub", Side::Publish, "401 not_authenticated"),
        ("shop", "", Side::Publish, "401 not_authenticated"),
        ("shop", &long, Side::Publish, "401 not_authenticated"),
        ("nobody", "shop-pub", Side::Publish, "401 not_authenticated"),
        ("", "", Side::Publish, "401 not_authenticated"),
        ("closed", "closed-pub", Side::Publish, "403 app_disabled"),
        ("closed", "wrong", Side::Publish, "401 not_authenticated"),
    ];
    for (app, key, side, expected) in rows {
        assert_eq!(both(&snapshot, &mut cache, app, key, side), expected, "{app} {key} {side:?}");
    }
}

#[test]
fn remembered_credentials_are_asked_about_again_when_the_apps_secrets_are_others() {
    let mut cache = CredentialCache::new([3; 16]);
    assert_eq!(both(&fixture::snapshot(), &mut cache, "shop", "shop-pub", Side::Publish), "ok shop");

    let mut rotated = fixture::doc();
    rotated.generation = 8;
    rotated.apps[0].publish.current = fixture::secret("new");
    rotated.apps[0].publish.previous = Some(fixture::secret("shop-pub"));
    let rotated = Snapshot::build(rotated).unwrap();
    assert_eq!(both(&rotated, &mut cache, "shop", "shop-pub", Side::Publish), "ok shop");
    assert_eq!(both(&rotated, &mut cache, "shop", "new", Side::Publish), "ok shop");

    let mut revoked = fixture::doc();
    revoked.generation = 9;
    revoked.apps[0].publish.current = fixture::secret("new");
    let revoked = Snapshot::build(revoked).unwrap();
    assert_eq!(both(&revoked, &mut cache, "shop", "shop-pub", Side::Publish), "401 not_authenticated");

    let deleted = Snapshot::build(SnapshotDoc { generation: 10, ..SnapshotDoc::default() }).unwrap();
    assert_eq!(both(&deleted, &mut cache, "shop", "new", Side::Publish), "401 not_authenticated");
}

#[test]
fn a_number_that_comes_again_in_another_history_is_asked_about_again() {
    let mut cache = CredentialCache::new([3; 16]);
    let mut doc = fixture::doc();
    assert_eq!(both(&fixture::snapshot(), &mut cache, "shop", "shop-pub", Side::Publish), "ok shop");
    // Restored from a backup of before shop's secret was made, and changed as many times since.
    doc.history = HistoryId::new(2);
    doc.apps[0].publish.current = fixture::secret("older");
    let restored = Snapshot::build(doc).unwrap();
    assert_eq!(both(&restored, &mut cache, "shop", "shop-pub", Side::Publish), "401 not_authenticated");
}

#[test]
fn an_empty_snapshot_refuses_everybody() {
    let mut cache = CredentialCache::new([3; 16]);
    assert_eq!(both(&Snapshot::empty(), &mut cache, "shop", "shop-pub", Side::Publish), "401 not_authenticated");
}

#[test]
fn a_snapshot_prints_no_secret() {
    let doc = fixture::doc();
    let printed = format!("{doc:?} {:?}", fixture::snapshot());
    assert!(!printed.contains(&doc.apps[0].publish.current.sha256.to_hex()));
}
