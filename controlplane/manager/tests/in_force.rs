//! When a change is answered, what is left half done, and what a deleted app leaves.

mod harness;

use std::time::{Duration, Instant};

use harness::Manager;
use kafka_admin::AdminError;
use serde_json::{Value, json};

async fn with_shop() -> Manager {
    let manager = Manager::start().await;
    for app in ["shop", "audit"] {
        let answer = manager.raw("POST /v1/apps", &[], &json!({"appid": app, "cluster": "main"}).to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    manager.raw("POST /v1/topics/shop/orders/v1", &[], "").await;
    manager
}

const GRANT: &str = r#"{"appid":"audit","kind":"subscribe","owner":"shop","topic":"orders"}"#;

async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < until, "not {what} in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Went wrong: 200 said "does not work any more" while another node still let it pass.
#[tokio::test]
async fn a_revocation_is_200_when_every_node_has_it_and_202_with_where_to_ask_until_then() {
    let manager = with_shop().await;
    manager.check("POST /v1/grants", GRANT, &format!("201 {GRANT}")).await;
    manager.raw("POST /v1/apps/shop/secrets/publish", &[], "").await;

    // Who comes late, but within the limit, is waited for.
    *manager.lacking.lock().unwrap() = vec!["kateway 7d1e".to_owned()];
    let late = std::sync::Arc::clone(&manager.lacking);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(700)).await;
        late.lock().unwrap().clear();
    });
    let began = Instant::now();
    manager.check("DELETE /v1/grants", GRANT, r#"200 {"existed":true,"ok":1}"#).await;
    assert!(began.elapsed() >= Duration::from_millis(700));

    // Every kind of revocation, and its retry.
    *manager.lacking.lock().unwrap() = vec!["kateway 7d1e".to_owned()];
    let revocations = [
        ("DELETE /v1/grants", GRANT),
        ("DELETE /v1/apps/shop/secrets/publish", ""),
        ("PUT /v1/topics/shop/orders/v1?enabled=0", ""),
        ("PUT /v1/apps/audit", r#"{"enabled":false}"#),
        ("DELETE /v1/topics/shop/gone/v1", ""),
        ("DELETE /v1/apps/nobody", ""),
    ];
    let answers = revocations.map(|(line, body)| manager.raw(line, &[], body));
    let mut at = String::new();
    for (answer, (line, _)) in join(answers.into()).await.into_iter().zip(revocations) {
        let body = answer.json();
        assert_eq!((answer.status, &body["in_force"]), (202, &json!(false)), "{line}: {}", answer.body);
        assert_eq!(body["lacking"], json!(["kateway 7d1e"]), "{line}");
        at = answer.header("location").expect("where to ask").to_owned();
        assert_eq!(at, format!("/v1/generations/{}", body["generation"].as_str().unwrap()), "{line}");
    }
    let asked = async || manager.raw(&format!("GET {at}"), &[], "").await.json();
    assert_eq!(asked().await["lacking"], json!(["kateway 7d1e"]));
    manager.lacking.lock().unwrap().clear();
    assert_eq!(asked().await["in_force"], json!(true));

    let rows = [("17", 400, "illegal_generation"), ("00000000000000ff-1", 404, "no_such_generation")];
    for (generation, status, code) in rows {
        let answer = manager.raw(&format!("GET /v1/generations/{generation}"), &[], "").await;
        assert_eq!((answer.status, &answer.json()["code"]), (status, &json!(code)));
    }
}

async fn join<T>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut done = Vec::new();
    let mut all: Vec<_> = all.into_iter().map(Box::pin).map(Some).collect();
    std::future::poll_fn(|cx| {
        for slot in &mut all {
            if let Some(one) = slot
                && let std::task::Poll::Ready(value) = one.as_mut().poll(cx)
            {
                done.push(value);
                *slot = None;
            }
        }
        if all.iter().all(Option::is_none) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

#[tokio::test]
async fn a_node_that_lags_delays_what_gives_for_a_moment_only() {
    let manager = with_shop().await;
    *manager.lacking.lock().unwrap() = vec!["kateway 7d1e".to_owned()];
    let began = Instant::now();
    manager.check("POST /v1/grants", GRANT, &format!("201 {GRANT}")).await;
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn what_was_left_half_done_is_gone_on_with_by_itself() {
    let manager = with_shop().await;
    let state = async |path: &str| -> Value {
        manager.raw(&format!("GET /v1/topics/shop/{path}"), &[], "").await.json()["state"].clone()
    };
    // Deleting while Kafka is away.
    manager.fake.fail(Some(AdminError::Unreachable { why: "refused".into() }));
    assert_eq!(manager.raw("DELETE /v1/topics/shop/orders/v1?delete_data=1", &[], "").await.status, 503);
    assert_eq!(state("orders/v1").await, json!("deleting"));
    manager.fake.fail(None);
    eventually("deleted", async || state("orders/v1").await.is_null()).await;
    assert!(!manager.fake.topics.lock().unwrap().contains_key("shop.orders.v1"));

    // Creating, and the answer was lost.
    *manager.fake.loses_answers.lock().unwrap() = true;
    assert_eq!(manager.raw("POST /v1/topics/shop/lost/v1?partitions=3", &[], "").await.status, 504);
    assert_eq!(state("lost/v1").await, json!("creating"));
    *manager.fake.loses_answers.lock().unwrap() = false;
    eventually("made", async || state("lost/v1").await == json!("active")).await;
    // The database has it a moment earlier.
    eventually("in force", async || manager.snapshot().topic("shop", "lost", "v1").is_some()).await;
}

#[tokio::test]
async fn an_id_whose_topics_or_groups_remain_in_kafka_is_reserved() {
    let manager = with_shop().await;
    let create = async |query: &str| {
        let answer = manager.raw(&format!("POST /v1/apps{query}"), &[], r#"{"appid":"shop"}"#).await;
        (answer.status, answer.json()["errmsg"].as_str().unwrap_or_default().to_owned())
    };
    let expected = r#"200 {"existed":true,"left_in_kafka":["shop.orders.v1"],"ok":1}"#;
    manager.check("DELETE /v1/apps/shop?cascade=1", "", expected).await;
    let said = "app shop was deleted, and Kafka topic shop.orders.v1 of cluster main would be the new one's; reuse=1 makes \
                one of that id all the same";
    assert_eq!(create("").await, (409, said.to_owned()));
    assert_eq!(create("?reuse=1").await.0, 201);

    // Its topic gone, its groups not.
    manager.raw("POST /v1/topics/shop/orders/v1?adopt=1", &[], "").await;
    assert_eq!(manager.raw("DELETE /v1/topics/shop/orders/v1?delete_data=1", &[], "").await.status, 200);
    manager.raw("DELETE /v1/apps/shop", &[], "").await;
    *manager.fake.groups.lock().unwrap() = vec!["shopping.g1".to_owned(), "shop.g1".to_owned()];
    let (status, said) = create("").await;
    assert_eq!(status, 409);
    assert!(said.contains("consumer group shop.g1 of cluster main"), "{said}");
    // And while nobody can say.
    manager.fake.groups.lock().unwrap().pop();
    manager.fake.fail(Some(AdminError::Unreachable { why: "refused".into() }));
    let (status, said) = create("").await;
    assert_eq!(status, 409);
    assert!(said.contains("does not say which groups it left: no Kafka broker can be reached"), "{said}");
    manager.fake.fail(None);
    assert_eq!(create("").await.0, 201, "nothing of it is left");
}

#[tokio::test]
async fn a_rotation_while_two_secrets_live_has_to_say_which_one_dies() {
    let manager = with_shop().await;
    let rotate = async |query: &str| {
        let answer = manager.raw(&format!("POST /v1/apps/shop/secrets/publish{query}"), &[], "").await;
        (answer.status, answer.json()["code"].as_str().unwrap_or_default().to_owned())
    };
    let done = (201, String::new());
    assert_eq!(rotate("").await, done);
    assert_eq!(rotate("").await, (409, "two_secrets_live".to_owned()));
    assert_eq!(rotate("?force=1&replace=current").await, (400, "bad_query".to_owned()));
    assert_eq!(rotate("?replace=previous").await, (400, "bad_query".to_owned()));
    assert_eq!(rotate("?force=1").await, done);
    assert_eq!(rotate("?replace=current").await, done);
    let app = manager.raw("GET /v1/apps/shop", &[], "").await.json();
    let secrets: Vec<(&str, &str)> = app["secrets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|secret| (secret["side"].as_str().unwrap(), secret["which"].as_str().unwrap()))
        .collect();
    assert_eq!(secrets, [("publish", "previous"), ("publish", "current"), ("subscribe", "current")]);
}

/// Processes that share a database share its admin.
#[tokio::test]
async fn an_admin_key_that_was_replaced_elsewhere_is_of_no_use_a_second_later() {
    let manager = with_shop().await;
    let new = model::PlainSecret::from_text("another-key").unwrap();
    manager.db.reset_admin(&model::AppId::new("root").unwrap(), &new).await.unwrap();
    let headers = [("Appid", "root"), ("Pubkey", "another-key")];
    eventually("new", async || manager.send("GET /v1/apps", &headers, "").await.status == 200).await;
    assert_eq!(manager.raw("GET /v1/apps", &[], "").await.status, 401);
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_with_who_what_before_and_after_and_no_secret() {
    let manager = Manager::start().await;
    let mut secrets = Vec::new();
    let steps = [
        ("POST /v1/apps", r#"{"appid":"shop"}"#, "app.create"),
        ("POST /v1/apps", r#"{"appid":"audit"}"#, "app.create"),
        ("PUT /v1/apps/audit", r#"{"enabled":true}"#, "app.update"),
        ("POST /v1/topics/shop/orders/v1", "", "topic.create"),
        ("PUT /v1/topics/shop/orders/v1?compression=zstd", "", "topic.update"),
        ("POST /v1/grants", GRANT, "grant.create"),
        ("POST /v1/apps/shop/secrets/publish", "", "secret.rotate"),
        ("DELETE /v1/apps/shop/secrets/publish", "", "secret.revoke"),
        ("DELETE /v1/grants", GRANT, "grant.delete"),
        ("POST /v1/grants", GRANT, "grant.create"),
        ("DELETE /v1/topics/shop/orders/v1?delete_data=1", "", "topic.delete"),
        ("DELETE /v1/apps/shop", "", "app.delete"),
        // Changes nothing, so there is nothing to write down.
        ("DELETE /v1/apps/shop", "", ""),
        ("GET /v1/apps", "", ""),
    ];
    let newest = async || manager.raw("GET /v1/audit?rows=1", &[], "").await.json()["rows"][0].clone();
    for (at, (line, body, operation)) in steps.into_iter().enumerate() {
        let before = newest().await["num"].as_u64().unwrap_or(0);
        let id = format!("request-{at}");
        let answer = manager.raw(line, &[("X-Request-Id", &id)], body).await;
        assert!(answer.status < 300, "{line}: {}", answer.body);
        let said = answer.json();
        secrets.extend(["pubkey", "subkey", "secret"].iter().filter_map(|name| said[name].as_str().map(str::to_owned)));
        let row = newest().await;
        if operation.is_empty() {
            assert_eq!(row["num"].as_u64().unwrap_or(0), before, "{line}");
            continue;
        }
        let found = (row["operation"].as_str(), row["actor"].as_str(), row["request_id"].as_str());
        assert_eq!(found, (Some(operation), Some("admin"), Some(id.as_str())), "{line}: {row}");
        let generation = manager.db.generation().await.unwrap().to_string();
        assert_eq!(row["generation"], json!(generation), "{line}: the row is of the change's own transaction");
    }
    let all = manager.raw("GET /v1/audit?rows=1000", &[], "").await;
    assert!(secrets.len() >= 5 && secrets.iter().all(|secret| !all.body.contains(secret)), "a secret is in the log");
    let rows = all.json()["rows"].as_array().unwrap().clone();
    let of = |operation: &str| rows.iter().find(|row| row["operation"] == operation).unwrap();
    let deleted = of("topic.delete");
    assert_eq!(deleted["cascades"], json!(["grant: audit may subscribe to every version of shop/orders"]));
    assert_eq!(
        (
            &of("topic.update")["before"]["options"]["compression"],
            &of("topic.update")["after"]["options"]["compression"]
        ),
        (&json!("none"), &json!("zstd"))
    );

    // Filters, and page by page.
    let count = |page: &Value| page["rows"].as_array().unwrap().len();
    for (query, expected) in
        [("appid=audit", 5), ("operation=grant.create", 2), ("actor=nobody", 0), ("outcome=denied", 0)]
    {
        let page = manager.raw(&format!("GET /v1/audit?{query}"), &[], "").await.json();
        assert_eq!(count(&page), expected, "{query}: {page}");
    }
    let (mut seen, mut cursor) = (0, String::new());
    loop {
        let page = manager.raw(&format!("GET /v1/audit?rows=5{cursor}"), &[], "").await.json();
        seen += count(&page);
        let Some(next) = page["cursor"].as_u64() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, rows.len());
    assert_eq!(manager.raw("GET /v1/audit?rows=1001", &[], "").await.status, 400);
}

#[tokio::test]
async fn a_refused_login_is_in_the_audit_log_and_guessing_does_not_fill_it() {
    let manager = Manager::start().await;
    for _ in 0..80 {
        manager.send("DELETE /v1/apps/shop", &[("Appid", "admin"), ("Pubkey", "guess")], "").await;
    }
    let denied = async || manager.raw("GET /v1/audit?outcome=denied&rows=1000", &[], "").await.json()["rows"].clone();
    eventually("written", async || denied().await.as_array().unwrap().len() >= 60).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let rows = denied().await;
    assert_eq!(rows.as_array().unwrap().len(), 60);
    let row = &rows[0];
    assert_eq!((&row["operation"], &row["subject"]), (&json!("login"), &json!("DELETE /v1/apps/shop")));
    assert_eq!(row["actor"], json!("127.0.0.1"));
    assert!(!rows.to_string().contains("guess"));
}
