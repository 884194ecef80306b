//! Delayed jobs of all gateways: seen, replayed, dropped, changed and paused through the manager of any of them.

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use harness::jobs::{FakeJobs, shared};
use harness::{Manager, RawAnswer, info};
use manager::jobs::JobsError;
use registry::memory::MemoryRegistry;
use registry::{NodeInfo, Registry};
use serde_json::{Value, json};

/// Gateways that find each other, each with a manager.
struct Fleet {
    one: Manager,
    two: Manager,
    kept: [Arc<FakeJobs>; 2],
    registry: MemoryRegistry,
}

impl Fleet {
    async fn start(one: FakeJobs, two: FakeJobs) -> Fleet {
        let ((one, at_one), (two, at_two)) = (shared(one), shared(two));
        let kept = [one, two];
        let one = Manager::start_with(|state| state.jobs = at_one).await;
        let ensemble = one.ensemble.clone();
        let two = Manager::start_with(|state| {
            state.fleet.this = "gw-2".to_owned();
            state.fleet.registry = Some(Arc::new(ensemble.open()));
            state.jobs = at_two;
        })
        .await;
        let fleet = Fleet { registry: one.ensemble.open(), one, two, kept };
        fleet.register("gw-1", &fleet.one.address.to_string()).await;
        fleet.register("gw-2", &fleet.two.address.to_string()).await;
        fleet
    }

    /// Two apps' jobs at both gateways.
    async fn with_parked(each: usize) -> Fleet {
        let kept = |node| FakeJobs::with_parked(node, &["shop", "bank"], each);
        Fleet::start(kept("gw-1"), kept("gw-2")).await
    }

    async fn register(&self, id: &str, manager: &str) {
        let addresses = BTreeMap::from([("man".to_owned(), manager.to_owned())]);
        self.registry.register(&NodeInfo { addresses, ..info(id) }).await.unwrap();
    }

    fn parked(&self) -> Vec<String> {
        self.kept.iter().flat_map(|kept| kept.ids()).collect()
    }
}

async fn get(manager: &Manager, path: &str) -> Value {
    let answer = manager.raw(&format!("GET {path}"), &[], "").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

/// What the log says of jobs, the oldest first.
async fn audit(manager: &Manager) -> Vec<String> {
    let rows = get(manager, "/v1/audit").await["rows"].clone();
    let of = |row: &Value| row["operation"].as_str().is_some_and(|operation| operation.starts_with("jobs"));
    let rows = rows.as_array().unwrap().iter().filter(|row| of(row)).rev();
    let shown = rows.map(|row| {
        let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
        format!("{} {} {} {}", text("actor"), text("operation"), text("appid"), row["after"])
    });
    shown.collect()
}

fn told(answer: &RawAnswer) -> String {
    format!("{} {}", answer.status, answer.json()["code"].as_str().unwrap_or_default())
}

fn ids(answer: &Value) -> Vec<String> {
    answer["rows"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn parked_jobs_of_all_gateways_come_page_by_page_each_once() {
    let fleet = Fleet::with_parked(3).await;
    let mut expected = fleet.parked();
    expected.sort();
    for rows in [1, 2, 5, 6, 7, 100] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        for _ in 0..20 {
            let page = get(&fleet.two, &format!("/v1/jobs/parked?rows={rows}{cursor}")).await;
            assert_eq!(page["unreachable"], json!([]));
            assert!(page["rows"].as_array().unwrap().len() <= rows);
            found.extend(ids(&page));
            match page["cursor"].as_str() {
                None => break,
                Some(next) => cursor = format!("&cursor={next}"),
            }
        }
        found.sort();
        assert_eq!(found, expected, "pages of {rows}");
    }
    for (query, expected) in [
        ("?appid=shop&topic=orders&ver=v1&node=gw-1", "gw-1-shop-0 gw-1-shop-1 gw-1-shop-2"),
        ("?appid=shop&topic=orders&ver=v2", ""),
        ("?reason=record_too_large", ""),
        ("?reason=topic_gone&appid=bank&node=gw-2", "gw-2-bank-0 gw-2-bank-1 gw-2-bank-2"),
    ] {
        assert_eq!(ids(&get(&fleet.one, &format!("/v1/jobs/parked{query}")).await).join(" "), expected, "{query}");
    }
    for (query, expected) in [
        ("?topic=orders&ver=v1", "400 bad_filter"),
        ("?appid=shop&topic=orders", "400 bad_filter"),
        ("?cursor=x", "400 bad_cursor"),
        ("?cursor=gw-1/x", "400 bad_cursor"),
        ("?rows=0", "400 out_of_range"),
        ("?node=gw-9", "404 no_such_instance"),
    ] {
        let answer = fleet.one.raw(&format!("GET /v1/jobs/parked{query}"), &[], "").await;
        assert_eq!(told(&answer), expected, "{query}");
    }
}

#[tokio::test]
async fn parked_jobs_are_replayed_and_dropped_at_every_gateway_and_written_down() {
    let fleet = Fleet::with_parked(2).await;
    let answer = fleet.one.raw("POST /v1/jobs/replay?appid=shop", &[], r#"{"topic":"orders","ver":"v1"}"#).await;
    let nodes = json!([{"node": "gw-1", "jobs": 2, "more": false}, {"node": "gw-2", "jobs": 2, "more": false}]);
    assert_eq!(
        (answer.status, answer.json()),
        (200, json!({"ok": 1, "jobs": 4, "more": false, "nodes": nodes, "unreachable": []}))
    );
    assert_eq!(fleet.kept[1].done(), ["replay gw-2-shop-0", "replay gw-2-shop-1"]);
    let answer = fleet.one.raw("POST /v1/jobs/drop?node=gw-2", &[], r#"{"ids":["gw-2-bank-1","gw-1-bank-1"]}"#).await;
    assert_eq!(answer.json()["jobs"], json!(1));
    assert_eq!(fleet.parked(), ["gw-1-bank-0", "gw-1-bank-1", "gw-2-bank-0"]);
    let expected = [
        r#"admin jobs.replay.begin shop {"topic":"orders","ver":"v1"}"#,
        r#"admin jobs.replay shop {"jobs":2,"more":false}"#,
        r#"admin jobs.drop.begin - {"ids":["gw-2-bank-1","gw-1-bank-1"]}"#,
        r#"admin jobs.drop - {"jobs":1,"more":false}"#,
    ];
    assert_eq!(audit(&fleet.two).await, expected);
}

#[tokio::test]
async fn a_selection_that_says_nothing_or_two_things_changes_nothing() {
    let (kept, jobs) = shared(FakeJobs { at_most: Some(1), ..FakeJobs::with_parked("gw-1", &["shop"], 2) });
    let manager = Manager::start_with(|state| state.jobs = jobs).await;
    let many = json!({"ids": vec!["r"; 501]}).to_string();
    for body in ["{}", r#"{"ids":[]}"#, &many, r#"{"ids":["gw-1-shop-0"],"all":true}"#, r#"{"all":true,"reason":"x"}"#]
    {
        for deed in ["replay", "drop"] {
            let answer = manager.raw(&format!("POST /v1/jobs/{deed}?appid=shop"), &[], body).await;
            assert_eq!(told(&answer), "400 bad_selection", "{body}");
        }
    }
    assert_eq!((kept.ids().len(), audit(&manager).await), (2, Vec::new()));
    let mut said = Vec::new();
    for _ in 0..3 {
        let answer = manager.raw("POST /v1/jobs/drop", &[], r#"{"all":true}"#).await.json();
        said.push((answer["jobs"].as_u64().unwrap(), answer["more"].as_bool().unwrap()));
    }
    assert_eq!(said, [(1, true), (1, false), (0, false)]);
}

#[tokio::test]
async fn an_owner_sees_and_changes_jobs_of_its_apps_and_nothing_else() {
    let kept =
        FakeJobs::with_parked("gw-1", &["shop", "bank"], 2).with_job("gw-1-7", "bank").with_job("gw-1-8", "shop");
    let (kept, jobs) = shared(kept);
    let manager = Manager::start_with(|state| state.jobs = jobs).await;
    for app in ["shop", "bank"] {
        manager.raw("POST /v1/apps", &[], &json!({"appid": app}).to_string()).await;
    }
    let owner = json!({"name": "alice", "role": "owner", "apps": ["shop"]}).to_string();
    let key = manager.raw("POST /v1/principals", &[], &owner).await.json()["key"].as_str().unwrap().to_owned();
    let alice = async |line: &str, body: &str| manager.send(line, &[("Appid", "alice"), ("Pubkey", &key)], body).await;
    for query in ["", "?appid=shop", "?reason=topic_gone"] {
        let found = ids(&alice(&format!("GET /v1/jobs/parked{query}"), "").await.json());
        assert_eq!(found, ["gw-1-shop-0", "gw-1-shop-1"], "{query}");
    }
    // Of the node it is told what is of its apps.
    let status = alice("GET /v1/jobs", "").await.json()["nodes"][0].clone();
    assert_eq!((&status["pending"], &status["parked"], status.get("log_bytes")), (&json!(12), &json!(2), None));
    let expected =
        json!([{"appid": "shop", "topic": "orders", "ver": "v1", "pending": 12, "parked": 2, "paused": false}]);
    assert_eq!(status["queues"], expected);
    let whole = get(&manager, "/v1/jobs").await["nodes"][0].clone();
    assert_eq!((&whole["pending"], &whole["log_bytes"], &whole["fired"]), (&json!(24), &json!(3), &json!(2)));

    for (line, body) in [
        ("GET /v1/jobs/parked?appid=bank", ""),
        ("POST /v1/jobs/drop", r#"{"all":true}"#),
        ("POST /v1/jobs/drop?appid=bank", r#"{"all":true}"#),
        ("GET /v1/jobs/bank/orders/v1?id=gw-1-7", ""),
        ("DELETE /v1/jobs/bank/orders/v1?id=gw-1-7", ""),
        ("PUT /v1/jobs/bank/orders/v1/pause", ""),
    ] {
        assert_eq!(alice(line, body).await.status, 403, "{line}");
    }
    // Another's job under its own topic, and another's id beside its own.
    let answer = alice("DELETE /v1/jobs/shop/orders/v1?id=gw-1-7", "").await;
    assert_eq!(told(&answer), "404 no_such_job");
    let body = r#"{"ids":["gw-1-bank-0","gw-1-shop-0"]}"#;
    assert_eq!(alice("POST /v1/jobs/drop?appid=shop", body).await.json()["jobs"], json!(1));
    assert_eq!(alice("DELETE /v1/jobs/shop/orders/v1?id=gw-1-8", "").await.status, 200);
    assert_eq!(kept.done(), ["drop gw-1-shop-0", "Delete gw-1-8"]);
}

#[tokio::test]
async fn one_job_is_found_wherever_it_is_and_changed_there() {
    let one = FakeJobs::with_parked("gw-1", &[], 0).with_job("gw-1-1", "shop");
    let two = FakeJobs::with_parked("gw-2", &[], 0).with_job("gw-2-1", "shop").with_job("shared-1", "shop");
    let fleet = Fleet::start(one, two).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let due = now.as_millis() as i64 + 86_400_000;
    let moved = json!({"due": due, "id": "gw-2-1", "node": "gw-2", "ok": 1}).to_string();
    let path = "/v1/jobs/shop/orders/v1";
    let rows = [
        (
            format!("GET {path}?id=gw-2-1"),
            "200 ",
            r#"{"attempts":0,"due":1511366400000,"id":"gw-2-1","node":"gw-2","state":"pending"}"#,
        ),
        (
            format!("GET {path}?id=shared-1"),
            "200 ",
            r#"{"attempts":0,"due":1511366400000,"id":"shared-1","node":"gw-2","state":"pending"}"#,
        ),
        (format!("PUT {path}?id=gw-2-1&due={due}"), "200 ", &moved),
        (format!("POST {path}/fire?id=gw-1-1"), "200 ", r#"{"id":"gw-1-1","node":"gw-1","ok":1}"#),
        (format!("DELETE {path}?id=gw-2-1&node=gw-2"), "200 ", r#"{"id":"gw-2-1","node":"gw-2","ok":1}"#),
        (format!("GET {path}?id=gw-2-1"), "200 ", r#"{"id":"gw-2-1","node":"gw-2","state":"deleted"}"#),
        (format!("DELETE {path}?id=gw-1-9"), "404 no_such_job", ""),
        (format!("GET {path}?id=gw-2-1&node=gw-1"), "404 no_such_job", ""),
        (format!("GET {path}?id=nonsense"), "404 no_such_job", ""),
        (format!("GET {path}?id=gw-9-1"), "503 owner_away", ""),
        (format!("PUT {path}?id=gw-1-1&due=1511366400000"), "400 due_past", ""),
        (format!("PUT {path}?id=gw-1-1&due=99999999999999"), "400 due_too_far", ""),
        (format!("PUT {path}?id=gw-1-1&due=-1"), "400 out_of_range", ""),
        (format!("PUT {path}?id=gw-1-1"), "400 missing_due", ""),
        (format!("GET {path}"), "400 missing_id", ""),
    ];
    for (line, expected, body) in rows {
        let answer = fleet.one.raw(&line, &[], "").await;
        assert_eq!(told(&answer), expected, "{line}: {}", answer.body);
        if !body.is_empty() {
            assert_eq!(answer.json().to_string(), body, "{line}");
        }
    }
    // What another says is passed on with its status.
    let answer = fleet.one.raw(&format!("DELETE {path}?id=gw-2-1"), &[], "").await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(answer.body.contains("this job is deleted"), "{}", answer.body);
    assert_eq!(fleet.kept[1].done(), [format!("Move({due}) gw-2-1"), "Delete gw-2-1".to_owned()]);
    assert_eq!(fleet.kept[0].done(), ["Fire gw-1-1"]);
    let expected = [
        format!(r#"admin jobs.reschedule shop {{"due":{due}}}"#),
        r#"admin jobs.delete shop {"due":null}"#.to_owned(),
        r#"admin jobs.delete shop {"due":null}"#.to_owned(),
    ];
    assert_eq!(audit(&fleet.two).await, expected, "each before it was tried");
}

#[tokio::test]
async fn a_topics_jobs_are_paused_everywhere_and_its_queue_of_2017_is_there_as_often_as_it_is_made() {
    let fleet = Fleet::with_parked(0).await;
    for manager in [&fleet.one, &fleet.two] {
        manager.raw("POST /v1/apps", &[], r#"{"appid":"shop"}"#).await;
        assert_eq!(manager.raw("POST /v1/topics/shop/orders/v1", &[], "").await.status, 200);
    }
    for (word, paused) in [("pause", true), ("resume", false)] {
        let answer = fleet.one.raw(&format!("PUT /v1/jobs/shop/orders/v1/{word}"), &[], "").await;
        let nodes = json!([{"node": "gw-1", "paused": paused}, {"node": "gw-2", "paused": paused}]);
        let expected = json!({"ok": 1, "paused": paused, "nodes": nodes, "unreachable": []});
        assert_eq!((answer.status, answer.json()), (200, expected), "{}", answer.body);
    }
    assert_eq!(fleet.kept[1].done(), ["paused=true shop/orders/v1", "paused=false shop/orders/v1"]);
    for _ in 0..2 {
        fleet.one.check("POST /v1/jobs/shop/orders/v1", "", r#"201 {"ok":1}"#).await;
    }
    for line in ["POST /v1/jobs/shop/orders/v9", "PUT /v1/jobs/shop/orders/v9/pause", "POST /v1/jobs/ghost/orders/v1"] {
        assert_eq!(fleet.one.raw(line, &[], "").await.status, 404, "{line}");
    }
    assert_eq!(fleet.kept[0].done().len(), 2);
}

#[tokio::test]
async fn a_gateway_that_gives_no_answer_is_named_with_its_words() {
    let fleet = Fleet::with_parked(1).await;
    fleet.register("gw-3", "127.0.0.1:1").await;
    *fleet.kept[1].fails.lock().unwrap() = Some(JobsError::Store { why: "the disk is gone".to_owned() });
    for (line, body, rows) in [
        ("GET /v1/jobs", "", "nodes"),
        ("GET /v1/jobs/parked", "", "rows"),
        ("POST /v1/jobs/replay", r#"{"all":true}"#, "nodes"),
    ] {
        let answer = fleet.one.raw(line, &[], body).await.json();
        let missing = answer["unreachable"].as_array().unwrap().clone();
        let nodes: Vec<&str> = missing.iter().map(|gone| gone["node"].as_str().unwrap()).collect();
        assert_eq!(nodes, ["gw-2", "gw-3"], "{line}");
        let why = "gateway gw-2: the store of delayed jobs cannot be used: the disk is gone";
        assert_eq!(missing[0]["why"], json!(why), "{line}");
        assert!(!answer[rows].as_array().unwrap().is_empty(), "{line}: the one that is there answers");
    }
    let manager = Manager::start().await;
    assert_eq!(told(&manager.raw("GET /v1/jobs?node=gw-1", &[], "").await), "409 no_jobs");
    assert_eq!(told(&manager.raw("GET /v1/jobs/shop/orders/v1?id=gw-1-1", &[], "").await), "409 no_jobs");
}
