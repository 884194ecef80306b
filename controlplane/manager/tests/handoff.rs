//! What gateways keep of publishes that Kafka could not take: seen, replayed, dropped and taken over through the manager of
//! any of them.

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::handoff::{FakeHandoff, domain, parked_message, shared};
use harness::{KEY, Manager, RawAnswer, info};
use manager::HandoffError;
use manager::handoff::Adopted;
use registry::memory::MemoryRegistry;
use registry::{NodeInfo, NodeKind, Registry};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Gateways that find each other, each with a manager.
struct Fleet {
    one: Manager,
    two: Manager,
    kept: [Arc<FakeHandoff>; 2],
    registry: MemoryRegistry,
}

impl Fleet {
    async fn start(one: FakeHandoff, two: FakeHandoff) -> Fleet {
        let ((one, at_one), (two, at_two)) = (shared(one), shared(two));
        let kept = [one, two];
        let one = Manager::start_with(|state| state.handoff = at_one).await;
        let ensemble = one.ensemble.clone();
        let two = Manager::start_with(|state| {
            state.fleet.this = "gw-2".to_owned();
            state.fleet.registry = Some(Arc::new(ensemble.open()));
            state.handoff = at_two;
        })
        .await;
        let fleet = Fleet { registry: one.ensemble.open(), one, two, kept };
        fleet.register("gw-1", &fleet.one.address.to_string()).await;
        fleet.register("gw-2", &fleet.two.address.to_string()).await;
        fleet
    }

    /// Two apps' messages at both gateways.
    async fn with_parked(each: usize) -> Fleet {
        let kept = |node| FakeHandoff::with_parked(node, &["shop", "bank"], each);
        Fleet::start(kept("gw-1"), kept("gw-2")).await
    }

    async fn register(&self, id: &str, manager: &str) {
        let addresses = BTreeMap::from([("man".to_owned(), manager.to_owned())]);
        self.registry.register(&NodeInfo { addresses, ..info(id) }).await.unwrap();
    }

    async fn parked(&self) -> Vec<String> {
        self.kept.iter().flat_map(|kept| kept.receipts()).collect()
    }
}

async fn get(manager: &Manager, path: &str) -> Value {
    let answer = manager.raw(&format!("GET {path}"), &[], "").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

/// The operations of the log, the oldest first, with whom they are about and what came of them.
async fn audit(manager: &Manager) -> Vec<String> {
    let rows = get(manager, "/v1/audit").await["rows"].clone();
    let of = |row: &Value| row["operation"].as_str().is_some_and(|operation| operation.starts_with("handoff"));
    let rows = rows.as_array().unwrap().iter().filter(|row| of(row)).rev();
    let shown = rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {} {}", text("actor"), text("operation"), text("appid"), row["after"])
    });
    shown.collect()
}

fn refused(answer: &RawAnswer) -> String {
    format!("{} {}", answer.status, answer.json()["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn parked_messages_of_all_gateways_come_page_by_page_each_once() {
    let fleet = Fleet::with_parked(3).await;
    let mut expected = fleet.parked().await;
    expected.sort();
    for rows in [1, 2, 3, 5, 6, 7, 100] {
        for manager in [&fleet.one, &fleet.two] {
            let (mut found, mut cursor) = (Vec::new(), String::new());
            for _ in 0..20 {
                let page = get(manager, &format!("/v1/handoff/parked?rows={rows}{cursor}")).await;
                assert_eq!(page["unreachable"], json!([]));
                let page_rows = page["rows"].as_array().unwrap();
                assert!(page_rows.len() <= rows);
                let named = page_rows.iter().map(|row| {
                    let receipt = row["receipt"].as_str().unwrap();
                    assert!(receipt.starts_with(row["node"].as_str().unwrap()), "{row}");
                    receipt.to_owned()
                });
                found.extend(named);
                match page["cursor"].as_str() {
                    None => break,
                    Some(next) => cursor = format!("&cursor={next}"),
                }
            }
            found.sort();
            assert_eq!(found, expected, "pages of {rows}");
        }
    }
}

#[tokio::test]
async fn parked_messages_are_found_by_what_is_said_of_them() {
    let mut kept = FakeHandoff::with_parked("gw-1", &["shop", "bank"], 1);
    let mut other = parked_message("other", "shop");
    other.reason = "not_authorized".to_owned();
    other.topic = model::ids::PhysicalTopic::new("legacy").unwrap();
    kept.parked.get_mut().unwrap().push(other);
    let (_, handoff) = shared(kept);
    let manager = Manager::start_with(|state| state.handoff = handoff).await;
    for (query, expected) in [
        ("", "gw-1-shop-0 gw-1-bank-0 other"),
        ("?appid=shop", "gw-1-shop-0 other"),
        ("?appid=shop&topic=orders&ver=v1", "gw-1-shop-0"),
        ("?appid=shop&topic=orders&ver=v2", ""),
        ("?physical=legacy", "other"),
        ("?cluster=elsewhere", ""),
        ("?reason=not_authorized", "other"),
        ("?node=gw-1&appid=bank", "gw-1-bank-0"),
    ] {
        let page = get(&manager, &format!("/v1/handoff/parked{query}")).await;
        let found: Vec<&str> =
            page["rows"].as_array().unwrap().iter().map(|row| row["receipt"].as_str().unwrap()).collect();
        assert_eq!(found.join(" "), expected, "{query}");
    }
    for (query, expected) in [
        ("?topic=orders&ver=v1", "400 bad_filter"),
        ("?appid=shop&topic=orders", "400 bad_filter"),
        ("?appid=shop&topic=orders&ver=v1&physical=legacy", "400 bad_filter"),
        ("?physical=a%2Fb", "400 illegal_name"),
        ("?cursor=nowhere", "400 bad_cursor"),
        ("?cursor=gw-1/nothing", "400 bad_cursor"),
        ("?rows=0", "400 out_of_range"),
        ("?node=gw-9", "404 no_such_instance"),
    ] {
        let answer = manager.raw(&format!("GET /v1/handoff/parked{query}"), &[], "").await;
        assert_eq!(refused(&answer), expected, "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn messages_are_replayed_and_dropped_at_every_gateway_and_each_writes_it_down() {
    let fleet = Fleet::with_parked(2).await;
    let replay = fleet.one.raw("POST /v1/handoff/replay?appid=shop", &[], r#"{"topic":"orders","ver":"v1"}"#).await;
    let expected = json!({
        "ok": 1, "records": 4, "more": false, "unreachable": [],
        "nodes": [{"node": "gw-1", "records": 2, "more": false}, {"node": "gw-2", "records": 2, "more": false}],
    });
    assert_eq!(replay.json(), expected);
    assert_eq!(fleet.parked().await, ["gw-1-bank-0", "gw-1-bank-1", "gw-2-bank-0", "gw-2-bank-1"]);

    // By receipts, at the one that is named, through the other.
    let body = r#"{"receipts":["gw-2-bank-1","gw-1-bank-0","never-given"]}"#;
    let dropped = fleet.one.raw("POST /v1/handoff/drop?node=gw-2", &[], body).await.json();
    assert_eq!((&dropped["records"], &dropped["nodes"][0]["node"]), (&json!(1), &json!("gw-2")));
    assert_eq!(fleet.parked().await, ["gw-1-bank-0", "gw-1-bank-1", "gw-2-bank-0"]);
    assert_eq!(*fleet.kept[1].dropped.lock().unwrap(), ["gw-2-bank-1"]);
    // What is done already is done.
    let again = fleet.one.raw("POST /v1/handoff/drop?node=gw-2", &[], body).await.json();
    assert_eq!(again["records"], json!(0));

    let selected = r#"{"topic":"orders","ver":"v1"}"#;
    let begun = format!("admin handoff.replay.begin shop {selected}");
    let done = r#"admin handoff.replay shop {"more":false,"records":2}"#;
    assert_eq!(audit(&fleet.one).await, [&begun, done]);
    let of_two = audit(&fleet.two).await;
    assert_eq!(of_two[..2], [&begun, done]);
    assert_eq!(of_two[3], r#"admin handoff.drop - {"more":false,"records":1}"#);
}

#[tokio::test]
async fn one_call_does_a_bounded_part_and_says_that_there_is_more() {
    let mut kept = FakeHandoff::with_parked("gw-1", &["shop"], 3);
    kept.at_most = Some(2);
    let (kept, handoff) = shared(kept);
    let manager = Manager::start_with(|state| state.handoff = handoff).await;
    let mut said = Vec::new();
    for _ in 0..3 {
        let answer = manager.raw("POST /v1/handoff/drop", &[], r#"{"all":true}"#).await.json();
        said.push((answer["records"].as_u64().unwrap(), answer["more"].as_bool().unwrap()));
    }
    assert_eq!(said, [(2, true), (1, false), (0, false)]);
    assert!(kept.receipts().is_empty());
}

#[tokio::test]
async fn a_selection_that_says_nothing_or_two_things_changes_nothing() {
    let (kept, handoff) = shared(FakeHandoff::with_parked("gw-1", &["shop"], 1));
    let manager = Manager::start_with(|state| state.handoff = handoff).await;
    let many = json!({"receipts": vec!["r"; 501]}).to_string();
    for body in [
        "{}",
        r#"{"all":false}"#,
        r#"{"receipts":[]}"#,
        &many,
        r#"{"receipts":["gw-1-shop-0"],"all":true}"#,
        r#"{"all":true,"reason":"no_such_topic"}"#,
    ] {
        for deed in ["replay", "drop"] {
            let answer = manager.raw(&format!("POST /v1/handoff/{deed}?appid=shop"), &[], body).await;
            assert_eq!(refused(&answer), "400 bad_selection", "{body}");
        }
    }
    let answer = manager.raw("POST /v1/handoff/drop", &[], r#"{"topic":"orders","ver":"v1"}"#).await;
    assert_eq!(refused(&answer), "400 bad_filter", "whose topic");
    let answer = manager.raw("POST /v1/handoff/drop", &[], r#"{"al":true}"#).await;
    assert_eq!(refused(&answer), "400 bad_json");
    assert_eq!(kept.receipts().len(), 1);
    assert_eq!(audit(&manager).await, Vec::<String>::new());
}

#[tokio::test]
async fn an_owner_sees_and_changes_what_its_apps_published_and_nothing_else() {
    let mut kept = FakeHandoff::with_parked("gw-1", &["shop", "bank"], 2);
    kept.domains = vec![domain("bank", 700), domain("shop", 300)];
    let (kept, handoff) = shared(kept);
    let manager = Manager::start_with(|state| state.handoff = handoff).await;
    for app in ["shop", "bank"] {
        manager.raw("POST /v1/apps", &[], &json!({"appid": app}).to_string()).await;
    }
    let owner = json!({"name": "alice", "role": "owner", "apps": ["shop"]}).to_string();
    let key = manager.raw("POST /v1/principals", &[], &owner).await.json()["key"].as_str().unwrap().to_owned();
    let alice = async |line: &str, body: &str| manager.send(line, &[("Appid", "alice"), ("Pubkey", &key)], body).await;
    let receipts = |answer: &RawAnswer| {
        let rows = answer.json()["rows"].as_array().unwrap().clone();
        rows.iter().map(|row| row["receipt"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let own = ["gw-1-shop-0", "gw-1-shop-1"];
    for query in ["", "?appid=shop", "?cluster=main"] {
        assert_eq!(receipts(&alice(&format!("GET /v1/handoff/parked{query}"), "").await), own, "{query}");
    }
    assert_eq!(alice("GET /v1/handoff/parked?appid=bank", "").await.status, 403);

    // Of the node it is told what is of its apps.
    let status = alice("GET /v1/handoff", "").await.json()["nodes"][0].clone();
    assert_eq!((&status["bytes"], &status["domains"][0]["appid"]), (&json!(300), &json!("shop")));
    assert_eq!((status["domains"].as_array().unwrap().len(), status.get("disk_bytes")), (1, None), "{status}");
    let whole = get(&manager, "/v1/handoff").await["nodes"][0].clone();
    assert_eq!((&whole["bytes"], &whole["disk_bytes"], &whole["parked"]), (&json!(1000), &json!(1), &json!(4)));
    assert_eq!(whole["domains"][0]["appid"], json!("bank"), "the most bytes first");

    for (line, body) in [
        ("POST /v1/handoff/drop", r#"{"all":true}"#),
        ("POST /v1/handoff/drop?appid=bank", r#"{"all":true}"#),
        ("POST /v1/handoff/adopt", r#"{"from":"gw-9"}"#),
    ] {
        assert_eq!(alice(line, body).await.status, 403, "{line}");
    }
    // Another's receipt beside its own.
    let body = r#"{"receipts":["gw-1-bank-0","gw-1-shop-0"]}"#;
    assert_eq!(alice("POST /v1/handoff/drop?appid=shop", body).await.json()["records"], json!(1));
    assert_eq!(alice("POST /v1/handoff/replay?appid=shop", r#"{"all":true}"#).await.json()["records"], json!(1));
    assert_eq!(kept.receipts(), ["gw-1-bank-0", "gw-1-bank-1"]);
    let seen = alice("GET /v1/audit?operation=handoff.drop", "").await.json();
    assert_eq!(seen["rows"][0]["actor"], json!("alice"), "an owner sees what was done to its messages");
}

#[tokio::test]
async fn a_gateway_that_gives_no_answer_is_named_and_holds_nobody_up_for_long() {
    let fleet = Fleet::with_parked(1).await;
    // One whose process is gone, one that is stopped, one that has not said where its manager is, and a proxy.
    fleet.register("gw-3", "127.0.0.1:1").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    fleet.register("gw-4", &silent.local_addr().unwrap().to_string()).await;
    fleet.registry.register(&NodeInfo { addresses: BTreeMap::new(), ..info("gw-5") }).await.unwrap();
    fleet.registry.register(&NodeInfo { kind: NodeKind::Kproxy, ..info("proxy-1") }).await.unwrap();
    let asked = [
        ("GET /v1/handoff", "", "nodes"),
        ("GET /v1/handoff/parked", "", "rows"),
        ("POST /v1/handoff/replay", r#"{"all":true}"#, "nodes"),
    ];
    for (line, body, told) in asked {
        let began = Instant::now();
        let answer = fleet.one.raw(line, &[], body).await;
        let value = answer.json();
        let missing: Vec<&str> =
            value["unreachable"].as_array().unwrap().iter().map(|gone| gone["node"].as_str().unwrap()).collect();
        assert_eq!((answer.status, missing.as_slice()), (200, ["gw-3", "gw-4", "gw-5"].as_slice()), "{line}");
        assert!(value[told].as_array().unwrap().len() >= 2, "{line}: those that are there answer: {value}");
        assert!(began.elapsed() < Duration::from_secs(9), "{line} took {:?}", began.elapsed());
        let why = value["unreachable"][0]["why"].as_str().unwrap();
        assert!(why.starts_with("gateway gw-3 gave no answer: manager 127.0.0.1:1 cannot be reached"), "{why}");
    }
    for line in ["GET /v1/handoff?node=gw-3", "GET /v1/handoff/parked?node=gw-3"] {
        assert_eq!(refused(&fleet.one.raw(line, &[], "").await), "503 instance_unreachable", "{line}");
    }
}

#[tokio::test]
async fn what_is_wrong_at_another_gateway_is_told_with_its_words() {
    let fleet = Fleet::with_parked(1).await;
    *fleet.kept[1].fails.lock().unwrap() = Some(HandoffError::Journal { why: "segment 7 cannot be read".to_owned() });
    let status = get(&fleet.one, "/v1/handoff").await;
    let why = "gateway gw-2: the journal cannot be used: segment 7 cannot be read";
    assert_eq!(status["unreachable"], json!([{"node": "gw-2", "why": why}]));
    assert_eq!(status["nodes"][0]["node"], json!("gw-1"));
    // And at the one that is asked itself.
    let status = get(&fleet.two, "/v1/handoff").await;
    assert_eq!(status["unreachable"][0]["why"], json!("the journal cannot be used: segment 7 cannot be read"));
    assert_eq!(status["nodes"][0]["node"], json!("gw-1"));
}

#[tokio::test]
async fn a_question_goes_no_further_than_one_hop_wherever_addresses_lead() {
    let fleet = Fleet::with_parked(1).await;
    // Each finds the other, and a third, at a wrong address: its own.
    fleet.register("gw-2", &fleet.one.address.to_string()).await;
    fleet.register("gw-3", &fleet.two.address.to_string()).await;
    for manager in [&fleet.one, &fleet.two] {
        let began = Instant::now();
        let status = get(manager, "/v1/handoff").await;
        let whys = status["unreachable"].as_array().unwrap().iter().map(|gone| gone["why"].as_str().unwrap());
        let whys: Vec<&str> = whys.collect();
        assert!(whys.iter().all(|why| why.contains("what gw-") && why.contains("asks is for gw-")), "{whys:?}");
        assert!(!whys.is_empty());
        assert!(began.elapsed() < Duration::from_secs(3));
    }
    let told = [("X-Gafka-Asked-By", "gw-7")];
    for line in ["GET /v1/handoff", "GET /v1/handoff?node=gw-3", "GET /v1/handoff/parked"] {
        assert_eq!(refused(&fleet.one.raw(line, &told, "").await), "421 misdirected", "{line}");
    }
    assert_eq!(fleet.one.raw("GET /v1/handoff?node=gw-1", &told, "").await.status, 200);
}

#[tokio::test]
async fn whoever_calls_is_asked_for_at_every_gateway_with_the_credentials_they_showed() {
    let fleet = Fleet::with_parked(1).await;
    // The database of the second knows nobody but the admin.
    let reader = json!({"name": "rita", "role": "reader", "every_app": true}).to_string();
    let key = fleet.one.raw("POST /v1/principals", &[], &reader).await.json()["key"].as_str().unwrap().to_owned();
    let told = fleet.one.send("GET /v1/handoff", &[("Appid", "rita"), ("Pubkey", &key)], "").await.json();
    assert_eq!((&told["nodes"][0]["node"], &told["unreachable"][0]["node"]), (&json!("gw-1"), &json!("gw-2")));
    let token = fleet.one.raw("POST /v1/tokens", &[], "").await.json()["token"].as_str().unwrap().to_owned();
    let told = fleet.two.send("GET /v1/handoff?node=gw-1", &[("Appid", "admin"), ("Pubkey", KEY)], "").await;
    assert_eq!(told.status, 200, "{}", told.body);
    let bearer = format!("Bearer {token}");
    let told = fleet.one.send("GET /v1/handoff", &[("Authorization", &bearer)], "").await.json();
    assert_eq!(told["nodes"].as_array().unwrap().len(), 1, "a token of one database is void in another: {told}");
    let basic = "Basic YWRtaW46YWRtaW4ta2V5";
    let told = fleet.one.send("GET /v1/handoff", &[("Authorization", basic)], "").await.json();
    assert_eq!(told["nodes"].as_array().unwrap().len(), 2, "{told}");
}

#[tokio::test]
async fn what_a_dead_node_left_is_taken_over_by_the_one_that_is_named_and_never_from_one_that_lives() {
    let left = BTreeMap::from([("dead".to_owned(), Adopted { records: 12, bytes: 3400 })]);
    let keeps = || FakeHandoff { left: left.clone(), living: vec!["locked".to_owned()], ..FakeHandoff::default() };
    let fleet = Fleet::start(FakeHandoff::default(), keeps()).await;
    let adopted = fleet.one.raw("POST /v1/handoff/adopt", &[], r#"{"node":"gw-2","from":"dead"}"#).await;
    let expected = json!({"ok": 1, "node": "gw-2", "from": "dead", "records": 12, "bytes": 3400});
    assert_eq!((adopted.status, adopted.json()), (200, expected), "{}", adopted.body);
    let expected = [
        r#"admin handoff.adopt.begin - {"node":"gw-2"}"#,
        r#"admin handoff.adopt - {"bytes":3400,"node":"gw-2","records":12}"#,
    ];
    assert_eq!(audit(&fleet.two).await, expected);
    for (body, expected) in [
        (r#"{"from":"dead"}"#, "404 no_such_instance"),
        (r#"{"from":"gw-2"}"#, "409 node_lives"),
        (r#"{"from":"gw-1"}"#, "409 node_lives"),
        (r#"{"node":"gw-9","from":"dead"}"#, "404 no_such_instance"),
        (r#"{"node":"gw-1","from":"../dead"}"#, "400 bad_node"),
        (r#"{"from":""}"#, "400 bad_node"),
    ] {
        assert_eq!(refused(&fleet.one.raw("POST /v1/handoff/adopt", &[], body).await), expected, "{body}");
    }
    let locked = fleet.two.raw("POST /v1/handoff/adopt", &[], r#"{"from":"locked"}"#).await;
    assert_eq!(refused(&locked), "409 node_lives", "it is not registered, and has its lock");
}

#[tokio::test]
async fn without_a_journal_or_a_registry_it_is_said_so() {
    let manager = Manager::start().await;
    let told = get(&manager, "/v1/handoff").await;
    let expected = json!({"nodes": [], "unreachable": [{"node": "gw-1", "why": "gateway gw-1 keeps no publishes"}]});
    assert_eq!(told, expected);
    assert_eq!(refused(&manager.raw("GET /v1/handoff?node=gw-1", &[], "").await), "409 no_handoff");

    let (_, handoff) = shared(FakeHandoff::with_parked("gw-1", &["shop"], 1));
    let manager = Manager::start_with(|state| {
        state.fleet.registry = None;
        state.handoff = handoff;
    })
    .await;
    assert_eq!(refused(&manager.raw("GET /v1/handoff", &[], "").await), "503 registry_away");
    assert_eq!(manager.raw("GET /v1/handoff?node=gw-1", &[], "").await.status, 200, "it knows itself");
}

#[tokio::test]
async fn apps_and_topics_say_whether_their_publishes_may_be_kept() {
    let manager = Manager::start().await;
    manager.raw("POST /v1/apps", &[], r#"{"appid":"shop"}"#).await;
    let made = manager.raw("POST /v1/topics/shop/orders/v1", &[], "").await.json();
    assert_eq!(made["handoff"], json!(true));
    assert_eq!(manager.raw("POST /v1/topics/shop/carts/v1?handoff=0", &[], "").await.json()["handoff"], json!(false));
    let in_force = |topic: &str| manager.snapshot().topic("shop", topic, "v1").unwrap().handoff;
    assert_eq!((in_force("orders"), in_force("carts")), (true, false));

    let app = manager.raw("PUT /v1/apps/shop", &[], r#"{"handoff":false}"#).await;
    assert_eq!((app.status, &app.json()["handoff"], &app.json()["enabled"]), (200, &json!(false), &json!(true)));
    assert_eq!(get(&manager, "/v1/apps/shop").await["handoff"], json!(false));
    assert!(!in_force("orders"), "its app refuses");
    assert_eq!(get(&manager, "/v1/topics/shop/orders/v1").await["handoff"], json!(true), "its own option stays");

    manager.raw("PUT /v1/apps/shop", &[], r#"{"handoff":true}"#).await;
    manager.raw("PUT /v1/topics/shop/carts/v1?handoff=1", &[], "").await;
    manager.raw("PUT /v1/topics/shop/orders/v1?handoff=0", &[], "").await;
    assert_eq!((in_force("orders"), in_force("carts")), (false, true));
    let row = get(&manager, "/v1/audit?operation=topic.update&rows=1").await["rows"][0].clone();
    assert_eq!(
        (&row["before"]["options"]["handoff"], &row["after"]["options"]["handoff"]),
        (&json!(true), &json!(false))
    );
    let row = get(&manager, "/v1/audit?operation=app.update&rows=1").await["rows"][0].clone();
    assert_eq!((&row["before"]["handoff"], &row["after"]["handoff"]), (&json!(false), &json!(true)));
}
