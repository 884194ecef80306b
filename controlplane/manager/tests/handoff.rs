//! What gateways keep of publishes that Kafka could not take: seen and taken over through the manager of any of them. Parked
//! messages are in `parked.rs`, too.

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::handoff::{FakeHandoff, Kept, domain};
use harness::parked::{Kind, get, ids, told};
use harness::{KEY, Manager};
use manager::HandoffError;
use manager::handoff::{Adopted, Parked};
use serde_json::json;

type Fleet = harness::parked::Fleet<Parked>;

#[tokio::test]
async fn parked_messages_are_found_by_what_is_said_of_them() {
    let mut kept = FakeHandoff::with_parked("gw-1", &["shop", "bank"], 1);
    let mut other = Parked::waiting("other", "shop");
    other.reason = "not_authorized".to_owned();
    other.topic = model::ids::PhysicalTopic::new("legacy").unwrap();
    kept.parked.get_mut().unwrap().push(other);
    let (_, manager) = kept.manager().await;
    for (query, expected) in [
        ("", "gw-1-shop-0 gw-1-bank-0 other"),
        ("?appid=shop", "gw-1-shop-0 other"),
        ("?appid=shop&topic=orders&ver=v1", "gw-1-shop-0"),
        ("?physical=legacy", "other"),
        ("?cluster=elsewhere", ""),
        ("?reason=not_authorized", "other"),
    ] {
        let page = get(&manager, &format!("/v1/handoff/parked{query}")).await;
        assert_eq!(ids::<Parked>(&page).join(" "), expected, "{query}");
    }
    for (query, expected) in
        [("?appid=shop&topic=orders&ver=v1&physical=legacy", "400 bad_filter"), ("?physical=a%2Fb", "400 illegal_name")]
    {
        let answer = manager.raw(&format!("GET /v1/handoff/parked{query}"), &[], "").await;
        assert_eq!(told(&answer), expected, "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn an_owner_is_told_of_a_node_what_is_of_its_apps() {
    let more = Kept { domains: vec![domain("bank", 700), domain("shop", 300)], ..Kept::default() };
    let kept = FakeHandoff { more, ..FakeHandoff::with_parked("gw-1", &["shop", "bank"], 2) };
    let (_, manager) = kept.manager().await;
    let key = manager.owner("alice", "shop", &["bank"]).await;
    let alice = async |line: &str, body: &str| manager.send(line, &[("Appid", "alice"), ("Pubkey", &key)], body).await;
    let status = alice("GET /v1/handoff", "").await.json()["nodes"][0].clone();
    assert_eq!((&status["bytes"], &status["domains"][0]["appid"]), (&json!(300), &json!("shop")));
    assert_eq!((status["domains"].as_array().unwrap().len(), status.get("disk_bytes")), (1, None), "{status}");
    let whole = get(&manager, "/v1/handoff").await["nodes"][0].clone();
    assert_eq!((&whole["bytes"], &whole["disk_bytes"], &whole["parked"]), (&json!(1000), &json!(1), &json!(4)));
    assert_eq!(whole["domains"][0]["appid"], json!("bank"), "the most bytes first");
    assert_eq!(alice("POST /v1/handoff/adopt", r#"{"from":"gw-9"}"#).await.status, 403);
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
    let headers = [("X-Gafka-Asked-By", "gw-7")];
    for line in ["GET /v1/handoff", "GET /v1/handoff?node=gw-3", "GET /v1/handoff/parked"] {
        assert_eq!(told(&fleet.one.raw(line, &headers, "").await), "421 misdirected", "{line}");
    }
    assert_eq!(fleet.one.raw("GET /v1/handoff?node=gw-1", &headers, "").await.status, 200);
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
    let more = Kept { left, living: vec!["locked".to_owned()], domains: Vec::new() };
    let fleet = Fleet::start(FakeHandoff::default(), FakeHandoff { more, ..FakeHandoff::default() }).await;
    let adopted = fleet.one.raw("POST /v1/handoff/adopt", &[], r#"{"node":"gw-2","from":"dead"}"#).await;
    let expected = json!({"ok": 1, "node": "gw-2", "from": "dead", "records": 12, "bytes": 3400});
    assert_eq!((adopted.status, adopted.json()), (200, expected), "{}", adopted.body);
    let expected = [
        r#"admin handoff.adopt.begin - {"node":"gw-2"}"#,
        r#"admin handoff.adopt - {"bytes":3400,"node":"gw-2","records":12}"#,
    ];
    assert_eq!(harness::parked::audit(&fleet.two, "handoff").await, expected);
    for (body, expected) in [
        (r#"{"from":"dead"}"#, "404 no_such_instance"),
        (r#"{"from":"gw-2"}"#, "409 node_lives"),
        (r#"{"from":"gw-1"}"#, "409 node_lives"),
        (r#"{"node":"gw-9","from":"dead"}"#, "404 no_such_instance"),
        (r#"{"node":"gw-1","from":"../dead"}"#, "400 bad_node"),
        (r#"{"from":""}"#, "400 bad_node"),
    ] {
        assert_eq!(told(&fleet.one.raw("POST /v1/handoff/adopt", &[], body).await), expected, "{body}");
    }
    let locked = fleet.two.raw("POST /v1/handoff/adopt", &[], r#"{"from":"locked"}"#).await;
    assert_eq!(told(&locked), "409 node_lives", "it is not registered, and has its lock");
}

#[tokio::test]
async fn without_a_journal_or_a_registry_it_is_said_so() {
    let manager = Manager::start().await;
    let found = get(&manager, "/v1/handoff").await;
    let expected = json!({"nodes": [], "unreachable": [{"node": "gw-1", "why": "gateway gw-1 keeps no publishes"}]});
    assert_eq!(found, expected);
    assert_eq!(told(&manager.raw("GET /v1/handoff?node=gw-1", &[], "").await), "409 no_handoff");

    let manager = Manager::start_with(|state| {
        state.fleet.registry = None;
        state.handoff = Some(Arc::new(FakeHandoff::with_parked("gw-1", &["shop"], 1)));
    })
    .await;
    assert_eq!(told(&manager.raw("GET /v1/handoff", &[], "").await), "503 registry_away");
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
