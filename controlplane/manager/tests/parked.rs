//! What is parked at gateways, messages and delayed jobs alike: seen, replayed and dropped through the manager of any of them.
//! What only one of the kinds has is tested in `handoff.rs` and `jobs.rs`.

mod harness;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::info;
use harness::parked::{Fake, Fleet, Kind, audit, get, ids, told};
use manager::handoff::Parked;
use manager::jobs::ParkedJob;
use registry::{NodeInfo, NodeKind, Registry};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A row of a node in the answer of a change, or the answer's own part of it.
fn changed<K: Kind>(count: u64, more: bool, beside: Value) -> Value {
    let mut value = json!({"more": more});
    value[K::COUNT] = count.into();
    for (name, field) in beside.as_object().unwrap() {
        value[name] = field.clone();
    }
    value
}

#[tokio::test]
async fn what_all_gateways_have_parked_comes_page_by_page_each_once() {
    come_page_by_page::<Parked>().await;
    come_page_by_page::<ParkedJob>().await;
}

async fn come_page_by_page<K: Kind>() {
    let fleet = Fleet::<K>::with_parked(3).await;
    let mut expected = fleet.parked();
    expected.sort();
    for rows in [1, 2, 3, 5, 6, 7, 100] {
        for manager in [&fleet.one, &fleet.two] {
            let (mut found, mut cursor) = (Vec::new(), String::new());
            for _ in 0..20 {
                let page = get(manager, &format!("{}/parked?rows={rows}{cursor}", K::PATH)).await;
                assert_eq!(page["unreachable"], json!([]));
                let page_rows = page["rows"].as_array().unwrap();
                assert!(page_rows.len() <= rows);
                for row in page_rows {
                    assert!(row[K::ID].as_str().unwrap().starts_with(row["node"].as_str().unwrap()), "{row}");
                }
                found.extend(ids::<K>(&page));
                match page["cursor"].as_str() {
                    None => break,
                    Some(next) => cursor = format!("&cursor={next}"),
                }
            }
            found.sort();
            assert_eq!(found, expected, "{}, pages of {rows}", K::PATH);
        }
    }
}

#[tokio::test]
async fn it_is_found_by_what_is_said_of_it() {
    is_found::<Parked>().await;
    is_found::<ParkedJob>().await;
}

async fn is_found<K: Kind>() {
    let fleet = Fleet::<K>::with_parked(2).await;
    let reason = K::REASON;
    for (query, expected) in [
        ("appid=shop&topic=orders&ver=v1&node=gw-1", "gw-1-shop-0 gw-1-shop-1"),
        ("appid=shop&topic=orders&ver=v2", ""),
        ("appid=shop", "gw-1-shop-0 gw-1-shop-1 gw-2-shop-0 gw-2-shop-1"),
        ("reason=another", ""),
        (&format!("reason={reason}&appid=bank&node=gw-2"), "gw-2-bank-0 gw-2-bank-1"),
    ] {
        let page = get(&fleet.one, &format!("{}/parked?{query}", K::PATH)).await;
        assert_eq!(ids::<K>(&page).join(" "), expected, "{} {query}", K::PATH);
    }
    for (query, expected) in [
        ("topic=orders&ver=v1", "400 bad_filter"),
        ("appid=shop&topic=orders", "400 bad_filter"),
        ("appid=shop&topic=orders&ver=V", "400 illegal_name"),
        ("cursor=nowhere", "400 bad_cursor"),
        ("cursor=gw-1/nothing", "400 bad_cursor"),
        ("rows=0", "400 out_of_range"),
        ("node=gw-9", "404 no_such_instance"),
        ("reazon=x", "400 unknown_parameter"),
    ] {
        let answer = fleet.one.raw(&format!("GET {}/parked?{query}", K::PATH), &[], "").await;
        assert_eq!(told(&answer), expected, "{} {query}: {}", K::PATH, answer.body);
    }
}

#[tokio::test]
async fn it_is_replayed_and_dropped_at_every_gateway_and_each_writes_it_down() {
    is_changed::<Parked>().await;
    is_changed::<ParkedJob>().await;
}

async fn is_changed<K: Kind>() {
    let fleet = Fleet::<K>::with_parked(2).await;
    let line = |deed: &str, query: &str| format!("POST {}/{deed}?{query}", K::PATH);
    let replay = fleet.one.raw(&line("replay", "appid=shop"), &[], r#"{"topic":"orders","ver":"v1"}"#).await;
    let nodes = ["gw-1", "gw-2"].map(|node| changed::<K>(2, false, json!({"node": node})));
    let expected = changed::<K>(4, false, json!({"ok": 1, "unreachable": [], "nodes": nodes}));
    assert_eq!((replay.status, replay.json()), (200, expected));
    assert_eq!(fleet.parked(), ["gw-1-bank-0", "gw-1-bank-1", "gw-2-bank-0", "gw-2-bank-1"]);
    assert_eq!(fleet.kept[1].done(), ["replay gw-2-shop-0", "replay gw-2-shop-1"]);

    // By their ids, at the one that is named, through the other.
    let named = json!(["gw-2-bank-1", "gw-1-bank-0", "never-given"]);
    let body = format!(r#"{{"{}":{named}}}"#, K::IDS);
    let dropped = fleet.one.raw(&line("drop", "node=gw-2"), &[], &body).await.json();
    assert_eq!((&dropped[K::COUNT], &dropped["nodes"][0]["node"]), (&json!(1), &json!("gw-2")));
    assert_eq!(fleet.parked(), ["gw-1-bank-0", "gw-1-bank-1", "gw-2-bank-0"]);
    assert_eq!(fleet.kept[1].done()[2..], ["drop gw-2-bank-1"]);
    // What is done already is done.
    let again = fleet.one.raw(&line("drop", "node=gw-2"), &[], &body).await.json();
    assert_eq!(again[K::COUNT], json!(0));

    let of = K::OPERATION;
    let replayed = [
        format!(r#"admin {of}.replay.begin shop {{"topic":"orders","ver":"v1"}}"#),
        format!("admin {of}.replay shop {}", changed::<K>(2, false, json!({}))),
    ];
    assert_eq!(audit(&fleet.one, of).await, replayed);
    let dropped =
        [format!("admin {of}.drop.begin - {body}"), format!("admin {of}.drop - {}", changed::<K>(1, false, json!({})))];
    assert_eq!(audit(&fleet.two, of).await[..4], [replayed, dropped].concat());
}

#[tokio::test]
async fn one_call_does_a_bounded_part_and_says_that_there_is_more() {
    is_bounded::<Parked>().await;
    is_bounded::<ParkedJob>().await;
}

async fn is_bounded<K: Kind>() {
    let kept = Fake::<K> { at_most: Some(2), ..Fake::with_parked("gw-1", &["shop"], 3) };
    let (kept, manager) = kept.manager().await;
    let mut said = Vec::new();
    for _ in 0..3 {
        let answer = manager.raw(&format!("POST {}/drop", K::PATH), &[], r#"{"all":true}"#).await.json();
        said.push((answer[K::COUNT].as_u64().unwrap(), answer["more"].as_bool().unwrap()));
    }
    assert_eq!(said, [(2, true), (1, false), (0, false)]);
    assert!(kept.ids().is_empty());
}

#[tokio::test]
async fn a_selection_that_says_nothing_or_two_things_changes_nothing() {
    changes_nothing::<Parked>().await;
    changes_nothing::<ParkedJob>().await;
}

async fn changes_nothing<K: Kind>() {
    let (kept, manager) = Fake::<K>::with_parked("gw-1", &["shop"], 1).manager().await;
    let by_ids = |ids: &[&str], beside: &str| format!(r#"{{"{}":{}{beside}}}"#, K::IDS, json!(ids));
    for body in [
        "{}",
        r#"{"all":false}"#,
        &by_ids(&[], ""),
        &by_ids(&["r"; 501], ""),
        &by_ids(&["gw-1-shop-0"], r#","all":true"#),
        &by_ids(&["gw-1-shop-0"], r#","reason":"x""#),
        r#"{"all":true,"reason":"x"}"#,
    ] {
        for deed in ["replay", "drop"] {
            let answer = manager.raw(&format!("POST {}/{deed}?appid=shop", K::PATH), &[], body).await;
            assert_eq!(told(&answer), "400 bad_selection", "{body}");
        }
    }
    for (body, expected) in [
        (r#"{"topic":"orders","ver":"v1"}"#, "400 bad_filter"),
        (r#"{"al":true}"#, "400 bad_json"),
        (r#"{"all":true,"node":"gw-1"}"#, "400 bad_json"),
    ] {
        let answer = manager.raw(&format!("POST {}/drop", K::PATH), &[], body).await;
        assert_eq!(told(&answer), expected, "{body}");
    }
    assert_eq!((kept.ids().len(), audit(&manager, K::OPERATION).await), (1, Vec::new()));
}

#[tokio::test]
async fn an_owner_sees_and_changes_what_is_of_its_apps_and_nothing_else() {
    is_its_owners::<Parked>().await;
    is_its_owners::<ParkedJob>().await;
}

async fn is_its_owners<K: Kind>() {
    let (kept, manager) = Fake::<K>::with_parked("gw-1", &["shop", "bank"], 2).manager().await;
    let key = manager.owner("alice", "shop", &["bank"]).await;
    let alice = async |line: &str, body: &str| manager.send(line, &[("Appid", "alice"), ("Pubkey", &key)], body).await;
    let path = K::PATH;
    for query in ["".to_owned(), "?appid=shop".to_owned(), format!("?reason={}", K::REASON)] {
        let page = alice(&format!("GET {path}/parked{query}"), "").await.json();
        assert_eq!(ids::<K>(&page), ["gw-1-shop-0", "gw-1-shop-1"], "{query}");
    }
    for (line, body) in [
        (format!("GET {path}/parked?appid=bank"), ""),
        (format!("POST {path}/drop"), r#"{"all":true}"#),
        (format!("POST {path}/drop?appid=bank"), r#"{"all":true}"#),
        (format!("POST {path}/replay?appid=bank"), r#"{"all":true}"#),
    ] {
        assert_eq!(alice(&line, body).await.status, 403, "{line}");
    }
    // Another's beside its own.
    let body = format!(r#"{{"{}":["gw-1-bank-0","gw-1-shop-0"]}}"#, K::IDS);
    let done = alice(&format!("POST {path}/drop?appid=shop"), &body).await.json();
    assert_eq!(done[K::COUNT], json!(1), "{done}");
    let done = alice(&format!("POST {path}/replay?appid=shop"), r#"{"all":true}"#).await.json();
    assert_eq!(done[K::COUNT], json!(1), "{done}");
    assert_eq!(kept.ids(), ["gw-1-bank-0", "gw-1-bank-1"]);
    let seen = alice(&format!("GET /v1/audit?operation={}.drop", K::OPERATION), "").await.json();
    assert_eq!(seen["rows"][0]["actor"], json!("alice"), "an owner sees what was done to what is its own");
}

#[tokio::test]
async fn a_gateway_that_gives_no_answer_is_named_and_holds_nobody_up_for_long() {
    // Each waits for the one that is stopped.
    tokio::join!(is_named::<Parked>(), is_named::<ParkedJob>());
}

async fn is_named<K: Kind>() {
    let fleet = Fleet::<K>::with_parked(1).await;
    // One whose process is gone, one that is stopped, one that has not said where its manager is, and a proxy.
    fleet.register("gw-3", "127.0.0.1:1").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    fleet.register("gw-4", &silent.local_addr().unwrap().to_string()).await;
    fleet.registry.register(&NodeInfo { addresses: BTreeMap::new(), ..info("gw-5") }).await.unwrap();
    fleet.registry.register(&NodeInfo { kind: NodeKind::Kproxy, ..info("proxy-1") }).await.unwrap();
    let path = K::PATH;
    let asked = [
        (format!("GET {path}"), "", "nodes"),
        (format!("GET {path}/parked"), "", "rows"),
        (format!("POST {path}/replay"), r#"{"all":true}"#, "nodes"),
    ];
    for (line, body, named) in asked {
        let began = Instant::now();
        let answer = fleet.one.raw(&line, &[], body).await;
        let value = answer.json();
        let missing: Vec<&str> =
            value["unreachable"].as_array().unwrap().iter().map(|gone| gone["node"].as_str().unwrap()).collect();
        assert_eq!((answer.status, missing.as_slice()), (200, ["gw-3", "gw-4", "gw-5"].as_slice()), "{line}");
        assert!(value[named].as_array().unwrap().len() >= 2, "{line}: those that are there answer: {value}");
        assert!(began.elapsed() < Duration::from_secs(9), "{line} took {:?}", began.elapsed());
        let why = value["unreachable"][0]["why"].as_str().unwrap();
        assert!(why.starts_with("gateway gw-3 gave no answer: manager 127.0.0.1:1 cannot be reached"), "{why}");
    }
    for line in [format!("GET {path}?node=gw-3"), format!("GET {path}/parked?node=gw-3")] {
        assert_eq!(told(&fleet.one.raw(&line, &[], "").await), "503 instance_unreachable", "{line}");
    }
}
