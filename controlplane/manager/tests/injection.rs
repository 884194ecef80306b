//! Texts that would break out of a statement, a path or a log, in every place of a request that takes one: they are refused
//! or found nowhere, and nothing changes.

mod harness;

use harness::Manager;
use model::SnapshotDoc;
use model::api_doc::{EndpointDoc, In, Kind};
use serde_json::json;

/// As they stand in a request's target.
const TEXTS: [&str; 24] = [
    "../admin",
    "..",
    "%2e%2e",
    "..%2f..%2fadmin",
    "shop%2forders",
    "shop%00",
    "%00",
    "'",
    "shop'--",
    "shop'%20OR%20'1'='1",
    "shop%22%20OR%201=1",
    "shop%22;--",
    "x');DROP%20TABLE%20app;--",
    "shop'%20UNION%20SELECT%20sha256%20FROM%20admin--",
    "%5b%22shop%22%5d",
    "%ff%fe",
    "%",
    "%zz",
    "shop%e2%80%8b",
    "%ef%bd%93%ef%bd%88%ef%bd%8f%ef%bd%90",
    "%f0%9f%92%a9",
    "shop%0d%0aAppid:%20admin",
    "*",
    "shop,bank",
];

async fn state(manager: &Manager) -> (SnapshotDoc, Vec<authdb::Principal>) {
    let snapshot = SnapshotDoc { made_at_ms: 0, ..manager.db.load().await.unwrap() };
    (snapshot, manager.db.list_principals().await.unwrap())
}

fn path_with(doc: &EndpointDoc, at: Option<&str>, text: &str) -> String {
    let segments = doc.path.split('/').map(|segment| match segment.strip_prefix(':') {
        Some(name) if Some(name) == at => text,
        Some("appid") => "shop",
        Some("topic") => "orders",
        Some("ver") => "v1",
        Some("side") => "publish",
        Some("name") => "alice",
        Some("generation") => "0000000000000001-1",
        _ => segment,
    });
    segments.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn no_path_and_no_query_breaks_out_of_anything() {
    let manager = Manager::start().await;
    for app in ["shop", "bank"] {
        manager.raw("POST /v1/apps", &[], &json!({"appid": app}).to_string()).await;
    }
    manager.raw("POST /v1/topics/shop/orders/v1", &[], "").await;
    let grant = json!({"kind": "subscribe", "appid": "bank", "owner": "shop", "topic": "orders"}).to_string();
    manager.raw("POST /v1/grants", &[], &grant).await;
    let alice = json!({"name": "alice", "role": "owner", "apps": ["shop"]}).to_string();
    let alice = manager.raw("POST /v1/principals", &[], &alice).await.json()["key"].as_str().unwrap().to_owned();
    let before = state(&manager).await;

    let long = "a".repeat(5_000);
    let texts: Vec<&str> = TEXTS.into_iter().chain([long.as_str()]).collect();
    let mut tried = 0;
    for doc in manager::endpoints() {
        let mut lines = Vec::new();
        for text in &texts {
            for param in doc.path_params() {
                lines.push((format!("{} {}", doc.method.as_str(), path_with(&doc, Some(param), text)), false));
            }
            for param in doc.params.iter().filter(|param| param.place == In::Query) {
                // What is only compared may be any text; nothing is found by it.
                let is_free = matches!(param.kind, Kind::Text);
                let path = path_with(&doc, None, "");
                lines.push((format!("{} {path}?{}={text}", doc.method.as_str(), param.name), is_free));
            }
        }
        for (line, is_free) in lines {
            for (name, key) in [("admin", harness::KEY), ("alice", alice.as_str())] {
                let request = format!(
                    "{line} HTTP/1.1\r\nHost: m\r\nAppid: {name}\r\nPubkey: {key}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                );
                let answer = manager.send_bytes(request.as_bytes()).await;
                let found_nothing = is_free && answer.status == 200 && answer.json()["rows"] == json!([]);
                let is_refused = (400..500).contains(&answer.status);
                assert!(is_refused || found_nothing, "{line} as {name}: {} {}", answer.status, answer.body);
                tried += 1;
            }
        }
    }
    assert!(tried > 1_000, "only {tried} were tried");
    assert_eq!(state(&manager).await, before);
    assert_eq!(manager.snapshot().app_count(), 2);
}

#[tokio::test]
async fn no_body_and_no_header_breaks_out_of_anything() {
    let manager = Manager::start().await;
    manager.raw("POST /v1/apps", &[], &json!({"appid": "shop"}).to_string()).await;
    let before = state(&manager).await;
    for text in ["", "'", "x');DROP TABLE app;--", "..", "a/b", "a\u{0}", "ｓｈｏｐ", "a b", "*", &"a".repeat(65)] {
        let bodies = [
            ("POST /v1/apps", json!({"appid": text})),
            ("POST /v1/apps", json!({"appid": "new", "cluster": text})),
            ("PUT /v1/apps/shop", json!({"cluster": text})),
            ("POST /v1/principals", json!({"name": text, "role": "owner"})),
            ("POST /v1/principals", json!({"name": "new", "role": text})),
            ("POST /v1/principals", json!({"name": "new", "role": "owner", "apps": [text]})),
            ("POST /v1/grants", json!({"kind": "subscribe", "appid": text, "owner": "shop", "topic": "t"})),
            ("POST /v1/grants", json!({"kind": "subscribe", "appid": "shop", "owner": text, "topic": "t"})),
            ("POST /v1/grants", json!({"kind": "raw", "appid": "shop", "cluster": text})),
            ("POST /v1/topics/shop/orders/v1", json!({"cluster": text})),
        ];
        for (line, body) in bodies {
            let answer = manager.raw(line, &[], &body.to_string()).await;
            assert!((400..500).contains(&answer.status), "{line} {body}: {} {}", answer.status, answer.body);
        }
        if text.is_ascii() && !text.contains('\0') {
            manager.forget_failures();
            let answer = manager.send("GET /v1/apps", &[("Appid", text), ("Pubkey", text)], "").await;
            assert_eq!(answer.status, 401, "{text:?}: {}", answer.body);
        }
    }
    assert_eq!(state(&manager).await, before);
    assert_eq!(manager.fake.take_calls(), Vec::<String>::new());
}
