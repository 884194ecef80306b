//! Who may do what, as one table that a person can read: tests/grants_table.txt. `UPDATE_EXPECT=1` rewrites it.

mod fixture;

use std::fmt::Write;

use expect_test::expect_file;
use model::{Denied, Snapshot, authorize_publish, authorize_raw, authorize_subscribe};

const APPS: [&str; 3] = ["shop", "audit", "ops"];

fn row(verdict: Result<String, Denied>) -> String {
    match verdict {
        Ok(what) => format!("ok  {what}"),
        Err(denied) => format!("{} {}", denied.refusal().status, denied.refusal().code),
    }
}

fn publish(snapshot: &Snapshot, app: &str, path: &str) -> String {
    let [topic, ver] = parts(path);
    let app = snapshot.app(app).unwrap();
    row(authorize_publish(snapshot, app, topic, ver).map(|permit| permit.topic().physical.to_string()))
}

fn subscribe(snapshot: &Snapshot, app: &str, path: &str) -> String {
    let [owner, topic, ver] = parts(path);
    let app = snapshot.app(app).unwrap();
    row(authorize_subscribe(snapshot, app, owner, topic, ver).map(|permit| permit.topic().physical.to_string()))
}

fn raw(snapshot: &Snapshot, app: &str, path: &str) -> String {
    let [cluster, topic] = parts(path);
    let app = snapshot.app(app).unwrap();
    row(authorize_raw(snapshot, app, cluster, topic).map(|permit| format!("{}/{}", permit.cluster(), permit.topic())))
}

fn parts<const N: usize>(path: &str) -> [&str; N] {
    path.split('/').collect::<Vec<_>>().try_into().expect("the table's paths have the right number of parts")
}

type Check = fn(&Snapshot, &str, &str) -> String;

#[test]
fn every_role_may_do_exactly_what_the_table_says() {
    let snapshot = fixture::snapshot();
    let resources: [(&str, &[&str], Check); 3] = [
        ("publish", &["orders/v1", "orders/v2", "orders/v9", "returns/v10", "frozen/v1", "nothing/v1"], publish),
        (
            "subscribe",
            &[
                "shop/orders/v1",
                "shop/orders/v2",
                "shop/orders/v9",
                "shop/returns/v1",
                "shop/returns/v10",
                "shop/frozen/v1",
                "shop/gone/v1",
                "audit/orders/v1",
                "closed/orders/v1",
                "nobody/orders/v1",
            ],
            subscribe,
        ),
        (
            "raw publish",
            &[
                "main/legacy.events",
                "main/legacy.other",
                "main/shop.orders.v1",
                "main/__audit",
                "main/__consumer_offsets",
                "main/not a name",
                "main/..",
                "other/legacy.events",
            ],
            raw,
        ),
    ];
    let mut table = String::new();
    for (action, paths, check) in resources {
        for path in paths {
            for app in APPS {
                let line = format!("{action:<11} {path:<24} {app:<6} {}", check(&snapshot, app, path));
                writeln!(table, "{}", line.trim_end()).unwrap();
            }
        }
    }
    expect_file!["grants_table.txt"].assert_eq(&table);
}

#[test]
fn refusals_read_as_sentences() {
    let snapshot = fixture::snapshot();
    let (shop, audit) = (snapshot.app("shop").unwrap(), snapshot.app("audit").unwrap());
    let rows = [
        (authorize_publish(&snapshot, shop, "orders", "v9"), "404 no_such_version: topic orders has no version v9"),
        (authorize_publish(&snapshot, shop, "ghosts", "v1"), "404 no_such_topic: app shop has no topic ghosts"),
        (authorize_publish(&snapshot, shop, "frozen", "v1"), "403 topic_disabled: topic frozen v1 is disabled"),
        (
            authorize_subscribe(&snapshot, audit, "shop", "orders", "v2"),
            "403 not_granted: app audit has no grant to subscribe to shop/orders/v2",
        ),
        (authorize_subscribe(&snapshot, audit, "nobody", "orders", "v1"), "404 no_such_app: there is no app nobody"),
        (authorize_subscribe(&snapshot, audit, "closed", "orders", "v1"), "403 app_disabled: app closed is disabled"),
    ];
    for (verdict, expected) in rows {
        let denied = verdict.unwrap_err();
        assert_eq!(format!("{} {}: {denied}", denied.status(), denied.code()), expected);
    }
}

/// Both have to say so, and what is published by name is nobody's topic here.
#[test]
fn a_publish_is_kept_while_kafka_is_away_only_where_the_topic_and_the_app_allow_it() {
    for (of_app, of_topic) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut doc = fixture::doc();
        for app in &mut doc.apps {
            app.handoff = of_app;
        }
        doc.topics[0].options.handoff = of_topic;
        let snapshot = Snapshot::build(doc).unwrap();
        let (shop, ops) = (snapshot.app("shop").unwrap(), snapshot.app("ops").unwrap());
        let found = |ver| authorize_publish(&snapshot, shop, "orders", ver).unwrap().handoff();
        assert_eq!(found("v1"), of_app && of_topic, "app {of_app}, topic {of_topic}");
        assert_eq!(found("v2"), of_app, "another topic");
        assert_eq!(authorize_raw(&snapshot, ops, "main", "legacy").unwrap().handoff(), of_app, "by name");
    }
}

#[test]
fn whoever_says_nothing_about_handing_off_means_yes() {
    let mut rows = serde_json::to_value(fixture::doc()).unwrap();
    assert!(rows["apps"][0].get("handoff").is_none(), "what is usual is not written: {}", rows["apps"][0]);
    rows["topics"][0]["options"].as_object_mut().unwrap().remove("handoff").unwrap();
    let doc: model::SnapshotDoc = serde_json::from_value(rows).unwrap();
    assert_eq!(doc, fixture::doc());

    let mut off = fixture::doc();
    off.apps[0].handoff = false;
    let file = model::snapshot_file::encode(&off);
    assert_eq!(model::snapshot_file::decode(&file).unwrap(), off);
}
