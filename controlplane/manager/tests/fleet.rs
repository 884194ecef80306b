//! Nodes as the manager shows them, and what it wishes of them.

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::{Manager, info};
use registry::{AppliedGeneration, NodeInfo, NodeKind, NodeState, RefusedWish, Registration, Registry};
use serde_json::{Value, json};

/// A node that obeys, after a while, whatever does not name `limit`.
struct Node {
    registry: Arc<dyn Registry>,
    _registration: Arc<Registration>,
}

async fn node(manager: &Manager, info: NodeInfo, after: Duration) -> Node {
    let registry: Arc<dyn Registry> = Arc::new(manager.ensemble.open());
    let mut wished = registry.watch_wish(&info).await.unwrap();
    let registration = Arc::new(Registration::keep(Arc::clone(&registry), info));
    registration.registered().await;
    let announcing = Arc::clone(&registration);
    tokio::spawn(async move {
        while wished.changed().await.is_ok() {
            let Some(wish) = wished.borrow_and_update().clone() else { continue };
            tokio::time::sleep(after).await;
            announcing.update(|node| match wish.options.contains_key("limit") {
                true => node.refuses = Some(RefusedWish { revision: wish.revision, why: "unheard of".to_owned() }),
                false => {
                    node.state = if wish.drain { NodeState::Draining } else { NodeState::Serving };
                    node.obeys = Some(wish);
                }
            });
        }
    });
    Node { registry, _registration: registration }
}

async fn instance(manager: &Manager, id: &str) -> Value {
    manager.raw(&format!("GET /v1/instances/{id}"), &[], "").await.json()
}

async fn newest_audit(manager: &Manager) -> Value {
    manager.raw("GET /v1/audit?rows=1", &[], "").await.json()["rows"][0].clone()
}

#[tokio::test]
async fn nodes_are_shown_as_they_announce_themselves() {
    let manager = Manager::start().await;
    let applied = Some(AppliedGeneration { history: "3f2a000000000001".to_owned(), number: 17 });
    let _first = node(&manager, NodeInfo { applied, ..info("gw-1") }, Duration::ZERO).await;
    let old = NodeInfo { kind: NodeKind::Kproxy, obeys: None, ..info("proxy-1") };
    let _second = node(&manager, old, Duration::ZERO).await;
    let shown = manager.raw("GET /v1/instances", &[], "").await.json();
    let row = |index: usize, field: &str| shown[index][field].clone();
    assert_eq!((row(0, "id"), row(0, "this"), row(0, "state")), (json!("gw-1"), json!(true), json!("serving")));
    assert_eq!(row(0, "generation"), json!("3f2a000000000001-17"));
    assert_eq!(row(0, "obeys"), json!({"revision": 0, "drain": false, "options": {}}));
    assert_eq!((row(1, "kind"), row(1, "this"), row(1, "obeys")), (json!("kproxy"), json!(false), Value::Null));
    assert_eq!(shown.as_array().unwrap().len(), 2);

    for line in ["GET /v1/instances/nobody", "PUT /v1/instances/nobody/drain", "PUT /v1/instances/.%2e/undrain"] {
        let answer = manager.raw(line, &[], "").await;
        assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("no_such_instance")), "{line}");
    }
    let answer = manager.raw("PUT /v1/instances/proxy-1/drain", &[], "").await;
    assert_eq!((answer.status, &answer.json()["code"]), (409, &json!("obeys_nobody")));
}

#[tokio::test]
async fn what_is_wished_is_answered_when_the_node_obeys_and_is_in_the_audit_log() {
    let manager = Manager::start().await;
    let _node = node(&manager, info("gw-2"), Duration::from_millis(300)).await;
    let steps = [
        ("drain", "", 1, "draining", json!({})),
        ("log", r#"{"level":"debug"}"#, 2, "draining", json!({"log.level": "debug"})),
        ("undrain", "", 3, "serving", json!({"log.level": "debug"})),
        ("options", r#"{"log.level":"warn"}"#, 4, "serving", json!({"log.level": "warn"})),
        // What is so already is no wish.
        ("undrain", "", 4, "serving", json!({"log.level": "warn"})),
        ("options", r#"{"log.level":null}"#, 5, "serving", json!({})),
    ];
    let mut rows = Vec::new();
    for (what, body, revision, state, options) in steps {
        let answer = manager.raw(&format!("PUT /v1/instances/gw-2/{what}"), &[("X-Request-Id", what)], body).await;
        let expected = json!({"ok": 1, "id": "gw-2", "revision": revision, "state": state});
        assert_eq!((answer.status, answer.json()), (200, expected), "{what} {body}");
        let obeys = instance(&manager, "gw-2").await["obeys"].clone();
        assert_eq!((&obeys["revision"], &obeys["options"]), (&json!(revision), &options), "{what} {body}");
        let row = newest_audit(&manager).await;
        if rows.last() != Some(&row) {
            assert_eq!((&row["actor"], &row["request_id"]), (&json!("admin"), &json!(what)));
            assert_eq!(row["after"]["options"], options);
            rows.push(row);
        }
    }
    let operations: Vec<&str> = rows.iter().map(|row| row["operation"].as_str().unwrap()).collect();
    let expected = ["instance.drain", "instance.options", "instance.undrain", "instance.options", "instance.options"];
    assert_eq!(operations, expected);
    assert_eq!((&rows[0]["subject"], &rows[0]["before"]["drain"]), (&json!("kateway gw-2"), &json!(false)));
}

#[tokio::test]
async fn a_node_that_does_not_say_that_it_obeys_is_202_with_where_to_ask() {
    let manager = Manager::start().await;
    let node = node(&manager, info("gw-2"), Duration::from_secs(3_600)).await;
    let answer = manager.raw("PUT /v1/instances/gw-2/drain", &[], "").await;
    let body = answer.json();
    assert_eq!((answer.status, &body["lacking"]), (202, &json!(["kateway gw-2"])), "{body}");
    let at = answer.header("location").expect("where to ask").to_owned();
    let asked = manager.raw(&format!("GET {at}"), &[], "").await.json();
    assert_eq!((&asked["state"], &asked["wished"]["drain"]), (&json!("serving"), &json!(true)), "{asked}");
    // What is wished next adds to that.
    let wished = manager.raw("PUT /v1/instances/gw-2/log", &[], r#"{"level":"debug"}"#);
    let gone = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let wish = node.registry.wish(NodeKind::Kateway, "gw-2").await.unwrap().unwrap();
        assert_eq!((wish.revision, wish.drain, wish.options.len()), (2, true, 1));
        node.registry.unregister(NodeKind::Kateway, "gw-2").await.unwrap();
    };
    // Who has left will never obey.
    let (answer, ()) = tokio::join!(wished, gone);
    assert_eq!((answer.status, &answer.json()["code"]), (404, &json!("no_such_instance")));
}

#[tokio::test]
async fn what_a_node_cannot_obey_is_told_and_stands_in_nobodys_way() {
    let manager = Manager::start().await;
    let _node = node(&manager, info("gw-1"), Duration::ZERO).await;
    for (line, body) in [("PUT /v1/instances/gw-1/options", r#"{"limt":"1"}"#), ("PUT /v1/options/limt/1", "")] {
        let expected = r#"400 {"code":"bad_option","errmsg":"there is no option limt"}"#;
        manager.check(line, body, expected).await;
    }
    assert_eq!(newest_audit(&manager).await, Value::Null, "nothing was done");
    // This version knows it, that of the node does not.
    let answer = manager.raw("PUT /v1/instances/gw-1/options", &[], r#"{"limit":"1"}"#).await;
    let said = "kateway gw-1 cannot obey: unheard of";
    assert_eq!((answer.status, &answer.json()["errmsg"]), (409, &json!(said)));
    assert_eq!(instance(&manager, "gw-1").await["refuses"], json!("unheard of"));
    let answer = manager.raw("PUT /v1/log/debug", &[], "").await;
    assert_eq!((answer.status, &answer.json()["revision"]), (200, &json!(2)), "{}", answer.body);
}

#[tokio::test]
async fn a_registry_that_is_away_is_503_and_the_status_is_told_all_the_same() {
    let manager = Manager::start_with(|state| state.fleet.registry = None).await;
    for line in ["GET /v1/instances", "GET /v1/instances/gw-1", "PUT /v1/instances/gw-1/drain", "PUT /v1/log/debug"] {
        let answer = manager.raw(line, &[], "").await;
        assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("registry_away")), "{line}");
    }
    let status = manager.raw("GET /v1/status", &[], "").await.json();
    assert_eq!((&status["loglevel"], &status["readiness"]["ready"]), (&json!("info"), &json!(true)));
    let clusters = manager.raw("GET /v1/clusters", &[], "").await.json();
    assert_eq!(clusters, json!([{"name": "main", "nickname": "main", "up": true}]));
}
