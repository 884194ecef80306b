//! Who changed what, and what was refused.

use authdb::{Actor, AppUpdate, AuditFilter, AuditRow, Outcome, Rotation, TopicUpdate};
use model::principals::Visible;
use model::{AuditEvent, AuditWhat, ReportedEvent, Side};
use serde_json::json;

use crate::{Database, Fixture, id, new_app, new_topic, subscribe, topic_name};

fn shown(row: &AuditRow) -> String {
    format!("{} {} {} {} {} {}", row.actor, row.request_id, row.operation, row.outcome.as_str(), row.app, row.subject)
}

pub async fn every_change_is_written_down_as_whose_it_was_and_nothing_else_is(fixture: Fixture<impl Database>) {
    let ann = fixture.db.acting(Actor { subject: "ann".to_owned(), request_id: "r1".to_owned() });
    let bob = fixture.db.acting(Actor { subject: "bob".to_owned(), request_id: "r2".to_owned() });
    let mut seen = 0;
    macro_rules! writes {
        ($expected:expr, $call:expr) => {
            let _ = $call.await;
            let rows = fixture.db.audit(&AuditFilter::default(), &Visible::All, 100).await.unwrap();
            let new: Vec<String> = rows[..rows.len() - seen].iter().map(shown).collect();
            let expected: &[&str] = $expected;
            assert_eq!(new, expected, "{}", stringify!($call));
            seen = rows.len();
            if let [of_call] = &rows[..new.len()]
                && of_call.generation.is_some()
            {
                assert_eq!(of_call.generation, fixture.db.generation().await.ok(), "where it is in force, it is done");
            }
        };
    }
    let (shop, orders, v1) = topic_name("shop", "orders", "v1");
    let audit = id("audit");
    writes!(&["ann r1 app.create done shop shop"], ann.create_app(new_app("shop")));
    writes!(&[], bob.create_app(new_app("shop")));
    writes!(&["bob r2 app.create done audit audit"], bob.create_app(new_app("audit")));
    let off = AppUpdate { enabled: Some(false), ..AppUpdate::default() };
    writes!(&["bob r2 app.update done audit audit"], bob.update_app(&audit, off));
    writes!(
        &["ann r1 secret.rotate done shop publish secret of shop"],
        ann.rotate_secret(&shop, Side::Publish, None, Rotation::Ordinary)
    );
    writes!(&[], ann.rotate_secret(&shop, Side::Publish, None, Rotation::Ordinary));
    writes!(
        &["ann r1 secret.revoke done shop previous publish secret of shop"],
        ann.revoke_previous(&shop, Side::Publish)
    );
    writes!(&[], ann.revoke_previous(&shop, Side::Publish));
    writes!(&["ann r1 topic.create done shop shop/orders/v1"], ann.create_topic(new_topic("shop", "orders", "v1")));
    writes!(&[], ann.create_topic(new_topic("shop", "orders", "v1")));
    let disabled = || TopicUpdate { enabled: Some(false), ..TopicUpdate::default() };
    writes!(&["ann r1 topic.update done shop shop/orders/v1"], ann.update_topic(&shop, &orders, &v1, disabled()));
    writes!(&[], ann.update_topic(&shop, &orders, &v1, disabled()));
    let grant = subscribe("audit", "shop", "orders", None);
    let of_grant = grant.to_string();
    writes!(&[&format!("ann r1 grant.create done audit {of_grant}")], ann.grant(&grant));
    writes!(&[], ann.grant(&grant));
    writes!(&[&format!("bob r2 grant.delete done audit {of_grant}")], bob.revoke(&grant));
    writes!(&[], bob.revoke(&grant));
    ann.grant(&grant).await.unwrap();
    seen += 1;
    // Without anybody it is the process itself; a refusal changes nothing, and is there all the same.
    writes!(&["system  app.delete done shop shop"], fixture.db.delete_app(&shop, true));
    writes!(&[], fixture.db.delete_app(&shop, true));
    let generation = fixture.generation().await;
    writes!(&["bob r2 login denied  GET /v1/apps"], bob.record_denial("login", "", "GET /v1/apps"));
    let told = |drain: bool| serde_json::json!({"drain": drain});
    writes!(
        &["bob r2 handoff.drop done shop kateway gw-1"],
        bob.record("handoff.drop", "shop", "kateway gw-1", told(false), told(true))
    );
    writes!(
        &["bob r2 instance.drain done  kateway gw-1"],
        bob.record("instance.drain", "", "kateway gw-1", told(false), told(true))
    );
    let drained = &fixture.db.audit(&AuditFilter::default(), &Visible::All, 1).await.unwrap()[0];
    assert_eq!((&drained.before, &drained.after), (&told(false), &told(true)));
    assert_eq!(fixture.generation().await, generation);
    writes!(&["system  admin.create done admin admin"], fixture.db.create_admin(&id("admin"), None));
    writes!(&[], fixture.db.create_admin(&id("admin"), None));
    assert!(seen > 0);

    let of = AuditFilter { operation: Some("app.delete".to_owned()), ..AuditFilter::default() };
    let deleted = &fixture.db.audit(&of, &Visible::All, 100).await.unwrap()[0];
    assert_eq!(deleted.cascades, ["topic shop/orders/v1".to_owned(), format!("grant: {of_grant}")]);
    let of = AuditFilter { operation: Some("app.update".to_owned()), ..AuditFilter::default() };
    let updated = &fixture.db.audit(&of, &Visible::All, 100).await.unwrap()[0];
    assert_eq!((&updated.before["enabled"], &updated.after["enabled"]), (&true.into(), &false.into()));
}

pub async fn the_log_is_read_from_its_newest_row_by_what_is_asked_for(fixture: Fixture<impl Database>) {
    for (actor, app) in [("ann", "a"), ("bob", "b"), ("ann", "c")] {
        let db = fixture.db.acting(Actor { subject: actor.to_owned(), request_id: String::new() });
        db.create_app(new_app(app)).await.unwrap();
        db.record_denial("login", "", app).await.unwrap();
    }
    let all = fixture.db.audit(&AuditFilter::default(), &Visible::All, 100).await.unwrap();
    assert!(all.is_sorted_by(|newer, older| newer.num > older.num && newer.at_ms >= older.at_ms));
    let some = |text: &str| Some(text.to_owned());
    let none = AuditFilter::default;
    let rows: [(AuditFilter, usize, &str); 10] = [
        (none(), 100, "c c b b a a"),
        (none(), 2, "c c"),
        (AuditFilter { before: Some(all[2].num), ..none() }, 2, "b a"),
        (AuditFilter { before: Some(all[5].num), ..none() }, 2, ""),
        (AuditFilter { actor: some("ann"), ..none() }, 100, "c c a a"),
        (AuditFilter { app: some("b"), ..none() }, 100, "b"),
        (AuditFilter { operation: some("login"), actor: some("ann"), ..none() }, 100, "c a"),
        (AuditFilter { outcome: Some(Outcome::Done), ..none() }, 100, "c b a"),
        (AuditFilter { from_ms: Some(all[0].at_ms + 1), ..none() }, 100, ""),
        (AuditFilter { to_ms: Some(all[5].at_ms), ..none() }, 100, ""),
    ];
    for (filter, rows_max, expected) in rows {
        let found = fixture.db.audit(&filter, &Visible::All, rows_max).await.unwrap();
        let subjects: Vec<&str> = found.iter().map(|row| row.subject.as_str()).collect();
        assert_eq!(subjects.join(" "), expected, "{filter:?}");
    }
    let whole = AuditFilter { from_ms: Some(all[5].at_ms), to_ms: Some(all[0].at_ms + 1), ..none() };
    assert_eq!(fixture.db.audit(&whole, &Visible::All, 100).await.unwrap(), all);
}

pub async fn the_log_is_read_on_from_a_number_whole_and_in_order(fixture: Fixture<impl Database>) {
    let other = fixture.database.open().await;
    assert_eq!(fixture.db.audit_after(0, 10).await.unwrap(), []);
    let (mut read, mut position) = (Vec::new(), 0);
    for round in 0..5 {
        fixture.app(&format!("app{round}")).await;
        other.record_denial("login", "", "GET /v1/apps").await.unwrap();
        let page = fixture.db.audit_after(position, 1).await.unwrap();
        assert_eq!(page.len(), 1, "round {round}");
        position = page[0].num;
        read.extend(page);
    }
    read.extend(fixture.db.audit_after(position, 100).await.unwrap());
    let mut all = fixture.db.audit(&AuditFilter::default(), &Visible::All, 100).await.unwrap();
    all.reverse();
    assert_eq!((read.len(), &read), (10, &all));
    let newest = all[9].num;
    for beyond in [newest, newest + 1, u64::MAX] {
        assert_eq!(fixture.db.audit_after(beyond, 100).await.unwrap(), []);
    }
}

pub async fn what_happened_at_nodes_has_one_row_however_often_it_is_told(fixture: Fixture<impl Database>) {
    fixture.app("shop").await;
    let generation = fixture.generation().await;
    let before = fixture.db.audit_after(0, 100).await.unwrap().len();
    let peer = "10.0.0.7:4711".parse().unwrap();
    let event = |number: i64, what, app: &str| ReportedEvent {
        id: format!("gw-{number}"),
        node: "gw".to_owned(),
        event: AuditEvent::new(1_000 + number, what, app, peer, "a, b"),
    };
    let mut several = event(4, AuditWhat::KafkaLoginLimited, "no app!");
    (several.event.peer, several.event.count) = (None, 7);
    let mut revoked = event(2, AuditWhat::KafkaSessionRevoked, "shop");
    revoked.event = revoked.event.side(Side::Subscribe);
    let events = [
        event(1, AuditWhat::KafkaLoginFailed, "shop"),
        revoked,
        event(3, AuditWhat::KafkaGroupsDeleted, "shop"),
        several,
        event(5, AuditWhat::Other("mqtt_hello".to_owned()), ""),
    ];
    // Told by one process, in part once more, then whole by another one at the same time.
    let other = fixture.database.open().await;
    assert_eq!(fixture.db.record_events(&events[..2]).await.unwrap(), 2);
    assert_eq!(fixture.db.record_events(&events[1..3]).await.unwrap(), 1);
    let (here, there) = tokio::join!(fixture.db.record_events(&events), other.record_events(&events));
    assert_eq!(here.unwrap() + there.unwrap(), 2);
    assert_eq!(other.record_events(&events).await.unwrap(), 0);
    assert_eq!(other.record_events(&[]).await.unwrap(), 0);
    assert_eq!(fixture.generation().await, generation);

    let rows = fixture.db.audit_after(0, 100).await.unwrap().split_off(before);
    let found: Vec<String> = rows.iter().map(|row| format!("{} {}", row.at_ms, shown(row))).collect();
    assert_eq!(
        found,
        [
            "1001 10.0.0.7  kafka_login_failed denied shop a, b",
            "1002 system  kafka_session_revoked done shop a, b",
            "1003 app:shop  kafka_groups_deleted done shop a, b",
            "1004 several addresses  kafka_login_limited denied  a, b",
            "1005 system  mqtt_hello done  a, b",
        ]
    );
    assert_eq!(rows[0].after, json!({"node": "gw", "count": 1, "peer": "10.0.0.7:4711"}));
    assert_eq!(rows[1].after["side"], "subscribe");
    assert_eq!(rows[3].after, json!({"node": "gw", "count": 7}));
    assert!(rows.iter().all(|row| row.generation.is_none() && row.before.is_null() && row.cascades.is_empty()));
    assert!(rows.windows(2).all(|pair| pair[0].num + 1 == pair[1].num), "no number is left out");
    // Whoever sees the app sees them; what is about none, who sees all.
    let visible = Visible::Apps(vec![id("shop")]);
    assert_eq!(fixture.db.audit(&AuditFilter::default(), &visible, 100).await.unwrap().len(), 3 + 1);
}
