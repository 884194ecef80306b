//! Who may call the manager beside the admin.

use authdb::{Actor, AuditFilter, AuthDb, AuthDbError, NewPrincipal, Principal, PrincipalUpdate};
use model::ids::{AppId, PrincipalName};
use model::principals::{Role, Visible};
use model::{PlainSecret, SecretHash, Side};

use crate::{Database, Fixture, id, new_app, subscribe};

fn name(text: &str) -> PrincipalName {
    PrincipalName::new(text).unwrap()
}

fn new(text: &str, role: Role, apps: &[&str], every_app: bool) -> NewPrincipal {
    NewPrincipal { name: name(text), role, apps: apps.iter().map(|app| id(app)).collect(), every_app }
}

fn apps(principal: &Principal) -> Vec<&str> {
    principal.apps.iter().map(AppId::as_str).collect()
}

fn only(apps: &[&str]) -> Visible {
    Visible::Apps(apps.iter().map(|app| id(app)).collect())
}

/// The stamp, if the key is right.
async fn opens(db: &dyn AuthDb, who: &str, key: &PlainSecret) -> Option<String> {
    let login = db.principal_login(who).await.unwrap()?;
    login.key.matches(&SecretHash::of(key.expose().as_bytes())).then_some(login.stamp)
}

pub async fn a_principal_is_what_it_was_told_to_be_and_proves_it_with_its_key(fixture: Fixture<impl Database>) {
    let db = &*fixture.db;
    fixture.app("shop").await;
    fixture.app("bank").await;
    let before = fixture.generation().await;
    let (made, key) = db.create_principal(new("alice", Role::Owner, &["shop", "bank"], false)).await.unwrap();
    assert_eq!(
        (made.role, apps(&made), made.every_app, made.enabled),
        (Role::Owner, vec!["bank", "shop"], false, true)
    );
    assert_eq!(db.get_principal(&name("alice")).await.unwrap(), made);
    assert_eq!(db.list_principals().await.unwrap(), std::slice::from_ref(&made));
    let mut stamps = vec![opens(db, "alice", &key).await.unwrap()];
    assert_eq!(opens(db, "alice", &PlainSecret::from_text("guess").unwrap()).await, None);
    assert_eq!(opens(db, "alic", &key).await, None);

    // Each change is another stamp, and what is not said stays.
    let change = async |update: PrincipalUpdate| db.update_principal(&name("alice"), update).await.unwrap();
    let none = PrincipalUpdate::default;
    let rows = [
        (PrincipalUpdate { apps: Some(vec![id("shop")]), ..none() }, Role::Owner, vec!["shop"], false, true),
        (PrincipalUpdate { enabled: Some(false), ..none() }, Role::Owner, vec!["shop"], false, false),
        (PrincipalUpdate { enabled: Some(true), ..none() }, Role::Owner, vec!["shop"], false, true),
        (PrincipalUpdate { role: Some(Role::Reader), ..none() }, Role::Reader, vec!["shop"], false, true),
        (PrincipalUpdate { every_app: Some(true), ..none() }, Role::Reader, vec![], true, true),
        (PrincipalUpdate { apps: Some(vec![id("bank")]), ..none() }, Role::Reader, vec!["bank"], false, true),
        (PrincipalUpdate { role: Some(Role::Admin), ..none() }, Role::Admin, vec![], false, true),
        (none(), Role::Admin, vec![], false, true),
    ];
    for (update, role, of, every_app, enabled) in rows {
        let at = format!("{update:?}");
        let after = change(update).await;
        assert_eq!((after.role, apps(&after), after.every_app, after.enabled), (role, of, every_app, enabled), "{at}");
        stamps.push(opens(db, "alice", &key).await.unwrap());
    }
    let rotated = db.rotate_principal_key(&name("alice")).await.unwrap();
    assert_eq!(opens(db, "alice", &key).await, None);
    stamps.push(opens(db, "alice", &rotated).await.unwrap());
    assert!(db.delete_principal(&name("alice")).await.unwrap());
    assert!(!db.delete_principal(&name("alice")).await.unwrap());
    assert_eq!(opens(db, "alice", &rotated).await, None);
    let (_, key) = db.create_principal(new("alice", Role::Node, &[], false)).await.unwrap();
    stamps.push(opens(db, "alice", &key).await.unwrap());
    let count = stamps.len();
    stamps.sort();
    stamps.dedup();
    assert_eq!(stamps.len(), count, "no stamp comes again");

    assert_eq!(fixture.generation().await, before, "no snapshot shows principals");
    let rows = db.audit(&AuditFilter::default(), &Visible::All, 100).await.unwrap();
    let shown = format!("{rows:?}");
    assert_eq!(rows.iter().filter(|row| row.operation.starts_with("principal.")).count(), count + 1);
    assert!(!shown.contains(key.expose()) && !shown.contains(rotated.expose()), "{shown}");
}

pub async fn a_name_is_one_callers(fixture: Fixture<impl Database>) {
    let db = &*fixture.db;
    fixture.app("shop").await;
    db.create_admin(&id("root"), None).await.unwrap();
    db.create_principal(new("alice", Role::Node, &[], false)).await.unwrap();
    let taken = |text: &str| db.create_principal(new(text, Role::Node, &[], false));
    let other = PlainSecret::from_text("other").unwrap();
    let rows = [
        (taken("shop").await.map(drop), "shop is the name of an app already"),
        (taken("root").await.map(drop), "root is the name of the admin already"),
        (taken("alice").await.map(drop), "alice is the name of a principal already"),
        (taken("system").await.map(drop), "system is the name of the audit log's already"),
        (db.create_app(new_app("alice")).await.map(drop), "alice is the name of a principal already"),
        (db.reset_admin(&id("alice"), &other).await, "alice is the name of a principal already"),
    ];
    for (result, expected) in rows {
        assert_eq!(result.unwrap_err().to_string(), expected);
    }
    let mut doc = db.load().await.unwrap();
    doc.apps[0].id = id("alice");
    doc.apps[0].index += 1;
    assert!(matches!(db.import(&doc).await, Err(AuthDbError::NameTaken { .. })));
    // Both at once, from two processes: one of them gets it.
    for round in 0..5 {
        let (text, one, two) = (format!("both{round}"), fixture.database.open().await, fixture.database.open().await);
        let (app, principal) =
            tokio::join!(one.create_app(new_app(&text)), two.create_principal(new(&text, Role::Node, &[], false)));
        assert!(app.is_ok() != principal.is_ok(), "{text}");
    }
}

pub async fn apps_that_do_not_fit_a_role_are_refused(fixture: Fixture<impl Database>) {
    let db = &*fixture.db;
    fixture.app("shop").await;
    for (role, apps, every_app) in [
        (Role::Admin, &["shop"][..], false),
        (Role::Admin, &[], true),
        (Role::Node, &["shop"], false),
        (Role::Node, &[], true),
        (Role::Owner, &[], true),
        (Role::Reader, &["shop"], true),
    ] {
        let refused = db.create_principal(new("alice", role, apps, every_app)).await;
        assert!(matches!(refused, Err(AuthDbError::BadPrincipal { .. })), "{role:?} {apps:?} {every_app}");
    }
    let unknown = db.create_principal(new("alice", Role::Owner, &["nobody"], false)).await;
    assert_eq!(unknown.unwrap_err().to_string(), "there is no app nobody");
    assert_eq!(db.list_principals().await.unwrap(), []);
}

/// Otherwise whoever owned the old one would own what another team makes under the same name.
pub async fn an_app_that_is_made_again_is_nobodys(fixture: Fixture<impl Database>) {
    let db = &*fixture.db;
    fixture.app("shop").await;
    db.create_principal(new("alice", Role::Owner, &["shop"], false)).await.unwrap();
    db.delete_app(&id("shop"), true).await.unwrap();
    db.create_app(authdb::NewApp { reuse: true, ..new_app("shop") }).await.unwrap();
    assert_eq!(apps(&db.get_principal(&name("alice")).await.unwrap()), Vec::<&str>::new());
    let of = AuditFilter { operation: Some("app.delete".to_owned()), ..AuditFilter::default() };
    assert_eq!(db.audit(&of, &Visible::All, 1).await.unwrap()[0].cascades, ["right of principal alice"]);
}

pub async fn who_does_not_see_everything_is_read_only_what_is_theirs(fixture: Fixture<impl Database>) {
    let db = &*fixture.db;
    for app in ["shop", "bank", "third"] {
        fixture.app(app).await;
        fixture.topic(app, "orders", "v1").await;
    }
    for (app, owner) in [("bank", "shop"), ("third", "bank")] {
        db.grant(&subscribe(app, owner, "orders", None)).await.unwrap();
    }
    db.record_denial("forbidden", "shop", "GET /v1/apps/shop").await.unwrap();
    db.record_denial("login", "", "GET /v1/apps").await.unwrap();
    for (visible, shown) in [
        (Visible::All, (3, 3, 2, true)),
        (only(&["shop"]), (1, 1, 1, false)),
        (only(&["bank"]), (1, 1, 2, false)),
        (only(&["bank", "third", "nobody"]), (2, 2, 2, false)),
        (only(&["nobody"]), (0, 0, 0, false)),
        (only(&[]), (0, 0, 0, false)),
    ] {
        let listed = db.list_apps(&visible, None, 100).await.unwrap();
        assert!(listed.iter().all(|app| visible.includes(app.id.as_str())));
        let topics = db.list_topics(None, &visible, None, 100).await.unwrap();
        assert!(topics.iter().all(|row| visible.includes(row.doc.owner.as_str())));
        let grants = db.list_grants(None, &visible, None, 100).await.unwrap();
        let rows = db.audit(&AuditFilter::default(), &visible, 100).await.unwrap();
        assert!(visible == Visible::All || rows.iter().all(|row| visible.includes(&row.app)));
        let sees_logins = rows.iter().any(|row| row.operation == "login");
        assert_eq!((listed.len(), topics.len(), grants.len(), sees_logins), shown, "{visible:?}");
    }
    assert_eq!(db.list_topics(Some(&id("bank")), &only(&["shop"]), None, 100).await.unwrap(), []);
    assert_eq!(db.list_grants(Some(&id("third")), &only(&["shop"]), None, 100).await.unwrap(), []);
}

pub async fn tokens_have_one_key_until_it_is_renewed(fixture: Fixture<impl Database>) {
    let db = fixture.db.acting(Actor { subject: "alice".to_owned(), request_id: "r1".to_owned() });
    assert_eq!(db.token_key().await.unwrap(), None);
    let first = db.begin_token("jti-1", 1_000).await.unwrap();
    let other = fixture.database.open().await;
    assert_eq!(other.begin_token("jti-2", 2_000).await.unwrap(), first);
    assert_eq!(other.token_key().await.unwrap(), Some(first.clone()));
    other.renew_token_key().await.unwrap();
    let second = db.token_key().await.unwrap().unwrap();
    assert!(second.kid != first.kid && second.seed != first.seed);
    let rows = db.audit(&AuditFilter::default(), &Visible::All, 100).await.unwrap();
    let shown: Vec<String> = rows.iter().map(|row| format!("{} {} {}", row.actor, row.operation, row.after)).collect();
    let created = r#"alice token.create {"expires_at":1000,"jti":"jti-1"}"#;
    assert_eq!((shown.len(), shown.last().unwrap().as_str()), (3, created));
    assert!(!format!("{first:?}").contains(&format!("{:?}", first.seed)), "a seed is not shown");
    // An app proves itself with either of its live secrets, for publishing.
    let app = fixture.app("shop").await;
    let login = db.app_login("shop").await.unwrap().unwrap();
    let is_one = |key: &PlainSecret| login.keys.iter().any(|one| one.matches(&SecretHash::of(key.expose().as_bytes())));
    assert!(is_one(&app.publish) && !is_one(&app.subscribe) && login.enabled);
    db.rotate_secret(&id("shop"), Side::Publish, None, authdb::Rotation::Ordinary).await.unwrap();
    assert_eq!(db.app_login("shop").await.unwrap().unwrap().keys.len(), 2);
    assert!(db.app_login("nobody").await.unwrap().is_none());
}
