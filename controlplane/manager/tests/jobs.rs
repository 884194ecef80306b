//! Delayed jobs of all gateways: seen, changed and paused through the manager of any of them. Parked ones are in `parked.rs`,
//! too.

mod harness;

use harness::Manager;
use harness::jobs::FakeJobs;
use harness::parked::{audit, get, told};
use manager::jobs::{JobsError, ParkedJob};
use serde_json::json;

type Fleet = harness::parked::Fleet<ParkedJob>;

#[tokio::test]
async fn an_owner_sees_and_changes_jobs_of_its_apps_and_nothing_else() {
    let kept =
        FakeJobs::with_parked("gw-1", &["shop", "bank"], 2).with_job("gw-1-7", "bank").with_job("gw-1-8", "shop");
    let (kept, manager) = kept.manager().await;
    let key = manager.owner("alice", "shop", &["bank"]).await;
    let alice = async |line: &str| manager.send(line, &[("Appid", "alice"), ("Pubkey", &key)], "").await;
    // Of the node it is told what is of its apps.
    let status = alice("GET /v1/jobs").await.json()["nodes"][0].clone();
    assert_eq!((&status["pending"], &status["parked"], status.get("log_bytes")), (&json!(12), &json!(2), None));
    let expected =
        json!([{"appid": "shop", "topic": "orders", "ver": "v1", "pending": 12, "parked": 2, "paused": false}]);
    assert_eq!(status["queues"], expected);
    let whole = get(&manager, "/v1/jobs").await["nodes"][0].clone();
    assert_eq!((&whole["pending"], &whole["log_bytes"], &whole["fired"]), (&json!(24), &json!(3), &json!(2)));
    for line in [
        "GET /v1/jobs/bank/orders/v1?id=gw-1-7",
        "DELETE /v1/jobs/bank/orders/v1?id=gw-1-7",
        "PUT /v1/jobs/bank/orders/v1/pause",
    ] {
        assert_eq!(alice(line).await.status, 403, "{line}");
    }
    // Another's job under its own topic.
    assert_eq!(told(&alice("DELETE /v1/jobs/shop/orders/v1?id=gw-1-7").await), "404 no_such_job");
    assert_eq!(alice("DELETE /v1/jobs/shop/orders/v1?id=gw-1-8").await.status, 200);
    assert_eq!(kept.done(), ["Delete gw-1-8"]);
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
        (format!("PUT {path}?id=gw-1-1&due={due}&delay=1h"), "400 due_and_delay", ""),
        (format!("PUT {path}?id=gw-1-1&delay=soon"), "400 bad_delay", ""),
        (format!("DELETE {path}?id=gw-1-1&delay=1h"), "400 unknown_parameter", ""),
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
    assert_eq!(audit(&fleet.two, "jobs").await, expected, "each before it was tried");
}

#[tokio::test]
async fn a_job_is_moved_by_a_delay_from_the_clock_of_whoever_is_asked() {
    let two = FakeJobs::with_parked("gw-2", &[], 0).with_job("gw-2-1", "shop");
    let fleet = Fleet::start(FakeJobs::with_parked("gw-1", &[], 0), two).await;
    let now_ms = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let began_ms = now_ms();
    let answer = fleet.one.raw("PUT /v1/jobs/shop/orders/v1?id=gw-2-1&delay=2h", &[], "").await;
    let due_ms = answer.json()["due"].as_i64().unwrap_or_else(|| panic!("{}", answer.body));
    assert!((began_ms + 7_200_000..=now_ms() + 7_200_000).contains(&due_ms), "{due_ms}");
    assert_eq!(fleet.kept[1].done(), [format!("Move({due_ms}) gw-2-1")]);
    assert_eq!(audit(&fleet.two, "jobs").await, [format!(r#"admin jobs.reschedule shop {{"due":{due_ms}}}"#)]);
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
async fn what_is_wrong_at_another_gateway_is_told_with_its_words() {
    let fleet = Fleet::with_parked(1).await;
    *fleet.kept[1].fails.lock().unwrap() = Some(JobsError::Store { why: "the disk is gone".to_owned() });
    for line in ["GET /v1/jobs", "GET /v1/jobs/parked"] {
        let why = "gateway gw-2: the store of delayed jobs cannot be used: the disk is gone";
        assert_eq!(get(&fleet.one, &line[4..]).await["unreachable"], json!([{"node": "gw-2", "why": why}]), "{line}");
    }
    let answer = fleet.two.raw("GET /v1/jobs?node=gw-2", &[], "").await;
    assert_eq!((told(&answer).as_str(), answer.header("retry-after")), ("503 jobs_unusable", Some("1")));
    let manager = Manager::start().await;
    assert_eq!(told(&manager.raw("GET /v1/jobs?node=gw-1", &[], "").await), "409 no_jobs");
    assert_eq!(told(&manager.raw("GET /v1/jobs/shop/orders/v1?id=gw-1-1", &[], "").await), "409 no_jobs");
}
