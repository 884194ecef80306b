//! The REST API over a socket: what can be done, what is refused, and in what words.

mod harness;

use harness::{KEY, Manager, RawAnswer, info};
use kafka_admin::AdminError;
use model::api_doc::{EndpointDoc, In, Kind, Method, Schema};
use model::{Credentials, Side, authenticate, authorize_publish, authorize_raw, authorize_subscribe};
use registry::Registry;
use serde_json::{Value, json};

async fn with_shop() -> Manager {
    let manager = Manager::start().await;
    for app in ["shop", "audit"] {
        let answer = manager.raw("POST /v1/apps", &[], &json!({"appid": app, "cluster": "main"}).to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }
    let answer = manager.raw("POST /v1/topics/shop/orders/v1?partitions=4", &[], "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let team = json!({"name": "team", "role": "owner", "apps": ["shop"]}).to_string();
    assert_eq!(manager.raw("POST /v1/principals", &[], &team).await.status, 201);
    manager.fake.take_calls();
    manager
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text {field} in {value}"))
}

#[tokio::test]
async fn an_app_lives_from_creation_to_deletion() {
    let manager = Manager::start().await;
    let client = manager.client();
    // The only cluster need not be named.
    let made = client.request("POST", "/v1/apps", &[], Some(&json!({"appid": "shop"}))).await.unwrap();
    assert_eq!((text(&made, "appid"), text(&made, "cluster"), &made["enabled"]), ("shop", "main", &json!(true)));
    let opens = |key: &str, side: Side| {
        let credentials = Credentials { app: "shop", key: key.as_bytes() };
        authenticate(&manager.snapshot(), &credentials, side).map(drop).map_err(|denied| denied.code())
    };
    assert_eq!(opens(text(&made, "pubkey"), Side::Publish), Ok(()));
    assert_eq!(opens(text(&made, "subkey"), Side::Subscribe), Ok(()));

    let shown = client.request("GET", "/v1/apps/shop", &[], None).await.unwrap();
    assert!(shown.get("pubkey").is_none(), "a secret is shown once");
    assert_eq!(client.request("GET", "/v1/apps", &[], None).await.unwrap(), json!([shown]));

    let rotated = client.request("POST", "/v1/apps/shop/secrets/publish", &[], None).await.unwrap();
    assert_eq!((text(&rotated, "appid"), text(&rotated, "side")), ("shop", "publish"));
    assert_eq!(opens(text(&made, "pubkey"), Side::Publish), Ok(()));
    assert_eq!(opens(text(&rotated, "secret"), Side::Publish), Ok(()));
    let shown = client.request("GET", "/v1/apps/shop", &[], None).await.unwrap();
    assert_eq!(shown["rotating"], json!(["publish"]));
    for existed in [true, false] {
        let revoked = client.request("DELETE", "/v1/apps/shop/secrets/publish", &[], None).await.unwrap();
        assert_eq!(revoked, json!({"ok": 1, "existed": existed}));
    }
    assert_eq!(opens(text(&made, "pubkey"), Side::Publish), Err("not_authenticated"));
    assert_eq!(opens(text(&rotated, "secret"), Side::Publish), Ok(()));

    client.request("PUT", "/v1/apps/shop", &[], Some(&json!({"enabled": false}))).await.unwrap();
    assert_eq!(opens(text(&rotated, "secret"), Side::Publish), Err("app_disabled"));
    for existed in [true, false] {
        let gone = client.request("DELETE", "/v1/apps/shop", &[], None).await.unwrap();
        assert_eq!(gone, json!({"ok": 1, "existed": existed, "left_in_kafka": []}));
    }
    assert_eq!(opens(text(&rotated, "secret"), Side::Publish), Err("not_authenticated"));
}

#[tokio::test]
async fn a_topic_is_made_in_kafka_and_then_for_clients() {
    let manager = with_shop().await;
    let line = "POST /v1/topics/shop/returns/v10?partitions=3&replicas=2&retention.hours=1.5&retention.bytes=1000\
                &partitioner=fnv1a&compression=lz4&strip_2017_tags=1&message_bytes_max=2000000";
    manager
        .check(
            line,
            "",
            "200 {\"appid\":\"shop\",\"cluster\":\"main\",\"compression\":\"lz4\",\"enabled\":true,\"handoff\":true,\"limits\":{},\
             \"message_bytes_max\":2000000,\"ok\":1,\"partitioner\":\"fnv1a\",\"partitions\":3,\
             \"physical\":\"shop.returns.v10.470\",\"replicas\":2,\"retention_bytes\":1000,\
             \"retention_ms\":5400000,\"state\":\"active\",\"strip_2017_tags\":true,\"topic\":\"returns\",\"ver\":\"v10\"}",
        )
        .await;
    let configs = r#"[("retention.ms", "5400000"), ("retention.bytes", "1000"), ("max.message.bytes", "2100000")]"#;
    assert_eq!(
        manager.fake.take_calls(),
        ["check shop.returns.v10.470".to_owned(), format!("create shop.returns.v10.470 3x2 {configs}")]
    );
    let snapshot = manager.snapshot();
    let permit = authorize_publish(&snapshot, snapshot.app("shop").unwrap(), "returns", "v10").unwrap();
    assert_eq!(&*permit.topic().physical, "shop.returns.v10.470");
    assert_eq!(permit.topic().options.message_bytes_max, 2_000_000);

    // Nothing said: one partition, and three replicas where there are brokers enough.
    manager.raw("POST /v1/topics/shop/plain/v1", &[], "").await;
    assert_eq!(manager.fake.take_calls(), ["brokers", "check shop.plain.v1", "create shop.plain.v1 1x3 []"]);
    let list = manager.raw("GET /v1/topics/shop", &[], "").await.json();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|t| text(t, "physical")).collect();
    assert_eq!(names, ["shop.orders.v1", "shop.plain.v1", "shop.returns.v10.470"]);
    assert_eq!(manager.raw("GET /v1/topics", &[], "").await.json(), list);
    assert_eq!(manager.raw("GET /v1/topics/shop/orders/v1", &[], "").await.json(), list[0]);
}

/// Went wrong: an app deleted with `cascade` and made again read the old app's messages.
#[tokio::test]
async fn a_topic_that_kafka_has_already_is_taken_only_by_whoever_says_so() {
    let manager = with_shop().await;
    manager.raw("DELETE /v1/topics/shop/orders/v1", &[], "").await;
    let line = "POST /v1/topics/shop/orders/v1?partitions=9&replicas=1";
    let answer = manager.raw(line, &[], "").await;
    assert_eq!((answer.status, text(&answer.json(), "code")), (409, "kafka_topic_exists"));
    assert_eq!(manager.raw("GET /v1/topics/shop/orders/v1", &[], "").await.status, 404);
    assert_eq!(manager.raw(&format!("{line}&adopt=0"), &[], "").await.status, 409);
    let answer = manager.raw(&format!("{line}&adopt=1"), &[], "").await;
    let topic = answer.json();
    assert_eq!((answer.status, &topic["partitions"]), (200, &json!(4)));
    assert_eq!(
        text(&topic, "note"),
        "Kafka topic shop.orders.v1 was there already and is adopted as it is: 4 partitions, 3 replicas"
    );
}

#[tokio::test]
async fn a_topic_changes_in_kafka_and_for_clients() {
    let manager = with_shop().await;
    let answer = manager
        .raw("PUT /v1/topics/shop/orders/v1?partitions=8&retention.hours=2&compression=zstd&enabled=0", &[], "")
        .await
        .json();
    assert_eq!(
        (&answer["ok"], &answer["partitions"], text(&answer, "compression"), &answer["enabled"]),
        (&json!(1), &json!(8), "zstd", &json!(false))
    );
    assert_eq!(
        manager.fake.take_calls(),
        [
            "describe shop.orders.v1",
            "partitions shop.orders.v1 8",
            r#"alter shop.orders.v1 [("retention.ms", Some("7200000"))]"#
        ]
    );
    let snapshot = manager.snapshot();
    let denied = authorize_publish(&snapshot, snapshot.app("shop").unwrap(), "orders", "v1").unwrap_err();
    assert_eq!(denied.code(), "topic_disabled");

    // What is there already costs nothing and works.
    manager.raw("PUT /v1/topics/shop/orders/v1?partitions=8&enabled=true", &[], "").await;
    assert_eq!(manager.fake.take_calls(), ["describe shop.orders.v1"]);
    manager
        .check(
            "PUT /v1/topics/shop/orders/v1?partitions=7",
            "",
            r#"400 {"code":"invalid_partitions","errmsg":"the topic has 8 partitions, and Kafka cannot take any away"}"#,
        )
        .await;
    manager
        .check("PUT /v1/topics/shop/orders/v1", "", r#"400 {"code":"nothing_updated","errmsg":"nothing updated"}"#)
        .await;
    let partitions = manager.raw("GET /v1/partitions/shop/orders/v1", &[], "").await.json();
    assert_eq!((&partitions["num"], &partitions["offsets"]["7"]), (&json!(8), &json!({"oldest": 1, "latest": 9})));
}

#[tokio::test]
async fn deleting_a_topic_leaves_its_messages_unless_told_otherwise() {
    let manager = with_shop().await;
    manager.raw("POST /v1/topics/shop/orders/v2", &[], "").await;
    manager.fake.take_calls();
    manager.check("DELETE /v1/topics/shop/orders/v1", "", r#"200 {"existed":true,"ok":1}"#).await;
    manager.check("DELETE /v1/topics/shop/orders/v1", "", r#"200 {"existed":false,"ok":1}"#).await;
    assert!(manager.fake.take_calls().is_empty());
    assert!(manager.snapshot().topic("shop", "orders", "v1").is_none());

    // Kafka is away: no client finds the topic any more, and it is known that there is something left to do.
    manager.fake.fail(Some(AdminError::Unreachable { why: "refused".into() }));
    let answer = manager.raw("DELETE /v1/topics/shop/orders/v2?delete_data=1", &[], "").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    let said =
        "no Kafka broker can be reached: refused; no client finds the topic any more, and its deletion is gone on with";
    assert_eq!(text(&answer.json(), "errmsg"), said);
    assert!(manager.snapshot().topic("shop", "orders", "v2").is_none());
    let state = async || manager.raw("GET /v1/topics/shop/orders/v2", &[], "").await.json()["state"].clone();
    assert_eq!(state().await, json!("deleting"));
    for line in ["POST /v1/topics/shop/orders/v2", "PUT /v1/topics/shop/orders/v2?enabled=1"] {
        let answer = manager.raw(line, &[], "").await;
        assert_eq!((answer.status, text(&answer.json(), "code")), (409, "topic_busy"), "{line}");
    }
    manager.fake.fail(None);
    manager.fake.take_calls();
    manager.check("DELETE /v1/topics/shop/orders/v2", "", r#"200 {"existed":true,"ok":1}"#).await;
    manager.check("DELETE /v1/topics/shop/orders/v2?delete_data=1", "", r#"200 {"existed":false,"ok":1}"#).await;
    assert_eq!(manager.fake.take_calls(), ["delete shop.orders.v2"]);
    assert_eq!(state().await, json!(null));
}

#[tokio::test]
async fn grants_are_given_and_taken_back_exactly() {
    let manager = with_shop().await;
    let may_read = || {
        let snapshot = manager.snapshot();
        authorize_subscribe(&snapshot, snapshot.app("audit").unwrap(), "shop", "orders", "v1").is_ok()
    };
    let one = r#"{"appid":"audit","kind":"subscribe","owner":"shop","topic":"orders","ver":"v1"}"#;
    // As the command line writes "every version".
    let every = r#"{"appid":"audit","kind":"subscribe","owner":"shop","topic":"orders","ver":null}"#;
    let every_shown = r#"{"appid":"audit","kind":"subscribe","owner":"shop","topic":"orders"}"#;
    assert!(!may_read());
    manager.check("POST /v1/grants", one, &format!("201 {one}")).await;
    manager.check("POST /v1/grants", one, &format!("200 {one}")).await;
    manager.check("POST /v1/grants", every, &format!("201 {every_shown}")).await;
    assert!(may_read());
    manager.check("GET /v1/grants?appid=audit", "", &format!("200 [{every_shown},{one}]")).await;
    manager.check("GET /v1/grants?appid=shop", "", "200 []").await;
    manager.check("DELETE /v1/grants", one, r#"200 {"existed":true,"ok":1}"#).await;
    assert!(may_read(), "the grant on every version stands");
    let query = "kind=subscribe&appid=audit&owner=shop&topic=orders";
    for existed in [true, false] {
        let expected = format!(r#"200 {{"existed":{existed},"ok":1}}"#);
        manager.check(&format!("DELETE /v1/grants?{query}"), "", &expected).await;
    }
    assert!(!may_read());

    let raw = r#"{"appid":"audit","cluster":"main","kind":"raw","topic":"legacy.events"}"#;
    manager.check("POST /v1/grants", raw, &format!("201 {raw}")).await;
    let snapshot = manager.snapshot();
    assert!(authorize_raw(&snapshot, snapshot.app("audit").unwrap(), "main", "legacy.events").is_ok());
    manager.check("GET /v1/grants", "", &format!("200 [{raw}]")).await;
    manager.check("DELETE /v1/grants", raw, r#"200 {"existed":true,"ok":1}"#).await;
}

#[tokio::test]
async fn what_cannot_be_done_says_why() {
    let manager = with_shop().await;
    let too_long = format!("POST /v1/topics/shop/{}/v1", "x".repeat(65));
    let too_long_together = format!("POST /v1/topics/{}/{}/v1", "a".repeat(64), "t".repeat(64));
    let rows: [(&str, &str, u16, &str); 34] = [
        ("POST /v1/apps", r#"{"appid":"shop","cluster":"main"}"#, 409, "app_exists"),
        ("POST /v1/apps", r#"{"appid":"admin"}"#, 409, "app_exists"),
        ("POST /v1/apps", r#"{"appid":"new","cluster":"other"}"#, 404, "no_such_cluster"),
        ("POST /v1/apps", r#"{"appid":"a.b"}"#, 400, "illegal_name"),
        ("POST /v1/apps", r#"{"appid":"new","color":"red"}"#, 400, "bad_json"),
        ("POST /v1/apps", r#"{"appid":"new""#, 400, "bad_json"),
        ("GET /v1/apps/nobody", "", 404, "no_such_app"),
        ("PUT /v1/apps/shop", "{}", 400, "nothing_updated"),
        ("PUT /v1/apps/nobody", r#"{"enabled":true}"#, 404, "no_such_app"),
        ("DELETE /v1/apps/shop", "", 409, "app_has_topics"),
        ("POST /v1/apps/shop/secrets/other", "", 400, "illegal_side"),
        ("POST /v1/apps/nobody/secrets/publish", "", 404, "no_such_app"),
        ("POST /v1/topics/shop/orders/v1", "", 409, "topic_exists"),
        ("POST /v1/topics/nobody/orders/v1", "", 404, "no_such_app"),
        ("POST /v1/topics/shop/orders/1", "", 400, "illegal_name"),
        (&too_long, "", 400, "illegal_name"),
        // Each name is within its limit, but the retry queues would be over Kafka's 249 bytes.
        (&too_long_together, "", 400, "name_too_long"),
        ("POST /v1/topics/shop/new/v1?partitions=0", "", 400, "out_of_range"),
        ("POST /v1/topics/shop/new/v1?partitions=many", "", 400, "bad_query"),
        ("POST /v1/topics/shop/new/v1?replicas=99", "", 400, "out_of_range"),
        ("POST /v1/topics/shop/new/v1?retention.hours=-2", "", 400, "illegal_retention"),
        ("POST /v1/topics/shop/new/v1?retention.hours=NaN", "", 400, "illegal_retention"),
        ("POST /v1/topics/shop/new/v1?retention.bytes=0", "", 400, "illegal_retention"),
        ("POST /v1/topics/shop/new/v1?compression=best", "", 400, "illegal_option"),
        ("POST /v1/topics/shop/new/v1?partition=3", "", 400, "unknown_parameter"),
        ("POST /v1/topics/shop/new/v1?cluster=other", "", 404, "no_such_cluster"),
        ("PUT /v1/topics/shop/orders/v9?partitions=5", "", 404, "no_such_version"),
        ("GET /v1/topics/shop/ghosts/v1", "", 404, "no_such_topic"),
        ("GET /v1/topics/nobody", "", 404, "no_such_app"),
        (
            "POST /v1/grants",
            r#"{"kind":"subscribe","appid":"shop","owner":"shop","topic":"orders"}"#,
            400,
            "grant_to_owner",
        ),
        (
            "POST /v1/grants",
            r#"{"kind":"subscribe","appid":"audit","owner":"shop","topic":"ghosts"}"#,
            404,
            "no_such_topic",
        ),
        ("POST /v1/grants", r#"{"kind":"raw","appid":"audit","cluster":"main","owner":"shop"}"#, 400, "bad_grant"),
        ("POST /v1/grants", r#"{"kind":"raw","appid":"audit","cluster":"other"}"#, 404, "no_such_cluster"),
        ("DELETE /v1/grants", "", 400, "bad_grant"),
    ];
    for (line, body, status, code) in rows {
        let answer = manager.raw(line, &[], body).await;
        assert_eq!((answer.status, text(&answer.json(), "code")), (status, code), "{line} {body}: {}", answer.body);
        assert!(text(&answer.json(), "errmsg").len() > 10, "{line}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert!(manager.fake.take_calls().is_empty(), "Kafka was asked for nothing");
    let expected = r#"200 {"existed":true,"left_in_kafka":["shop.orders.v1"],"ok":1}"#;
    manager.check("DELETE /v1/apps/shop?cascade=1", "", expected).await;
    assert_eq!(manager.snapshot().topic_count(), 0);
}

#[tokio::test]
async fn kafkas_refusals_reach_the_client_and_leave_no_topic_behind() {
    let manager = with_shop().await;
    let rows = [
        (AdminError::InvalidReplicationFactor { asked: 3, brokers: 1 }, 400, "invalid_replicas"),
        (AdminError::InvalidConfig { why: "no".to_owned() }, 400, "invalid_config"),
        (AdminError::Unreachable { why: "refused".into() }, 503, "kafka_unreachable"),
        (AdminError::Timeout { why: "slow".to_owned() }, 504, "kafka_timeout"),
        (AdminError::NotAuthenticated { why: "wrong password".into() }, 502, "kafka_refused"),
        (AdminError::Unusable { why: "garbled".to_owned() }, 502, "kafka_refused"),
    ];
    for (err, status, code) in rows {
        manager.fake.fail(Some(err));
        let answer = manager.raw("POST /v1/topics/shop/new/v1?replicas=3", &[], "").await;
        assert_eq!((answer.status, text(&answer.json(), "code")), (status, code));
        assert_eq!(manager.raw("GET /v1/topics/shop/new/v1", &[], "").await.status, 404);
    }
    // Said yes first: what was not made then is forgotten, what may have been made is gone on with.
    manager.fake.fail(None);
    *manager.fake.loses_answers.lock().unwrap() = true;
    let answer = manager.raw("POST /v1/topics/shop/new/v1?partitions=2", &[], "").await;
    assert_eq!((answer.status, text(&answer.json(), "code")), (504, "kafka_timeout"));
    let state = async || manager.raw("GET /v1/topics/shop/new/v1", &[], "").await.json()["state"].clone();
    assert_eq!(state().await, json!("creating"));
    assert!(manager.snapshot().topic("shop", "new", "v1").is_none());
    let answer = manager.raw("POST /v1/topics/shop/new/v1?partitions=2", &[], "").await;
    assert_eq!((answer.status, &answer.json()["note"]), (200, &json!(null)), "{}", answer.body);
    assert_eq!(state().await, json!("active"));
}

#[tokio::test]
async fn without_its_database_the_manager_says_try_again() {
    let manager = with_shop().await;
    manager.remove_database();
    let answer = manager.raw("GET /v1/apps", &[], "").await;
    assert_eq!((answer.status, text(&answer.json(), "code")), (503, "database_unavailable"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(!answer.body.contains("tenants.db"), "paths are for the log: {}", answer.body);
    assert_eq!(manager.send("GET /readyz", &[], "").await.status, 200);
}

#[tokio::test]
async fn only_the_admin_gets_in() {
    let manager = with_shop().await;
    let basic = |text: &str| {
        use base64::Engine;
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
    };
    let (right, wrong) = (basic(&format!("admin:{KEY}")), basic("admin:wrong"));
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let rows: [(Headers<'_>, u16, &str); 7] = [
        (&[("Appid", "admin"), ("Pubkey", KEY)], 200, ""),
        (&[("Authorization", &right)], 200, ""),
        (&[], 401, "not_authenticated"),
        (&[("Authorization", &wrong)], 401, "not_authenticated"),
        (&[("Appid", "admin"), ("Subkey", KEY)], 401, "not_authenticated"),
        (&[("Appid", "shop"), ("Pubkey", KEY)], 401, "not_authenticated"),
        (&[("Appid", "admin"), ("Pubkey", KEY), ("Authorization", &right)], 400, "two_credentials"),
    ];
    for (headers, status, code) in rows {
        let answer = manager.send("GET /v1/apps", headers, "").await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
        if status != 200 {
            assert_eq!(text(&answer.json(), "code"), code);
        }
        assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    }
}

#[tokio::test]
async fn every_endpoint_but_health_wants_credentials() {
    let manager = with_shop().await;
    let open = ["/alive", "/healthz", "/readyz", "/metrics", "/openapi.json"];
    for doc in manager::endpoints() {
        let path = doc.path.replace(":appid", "shop").replace(":topic", "orders").replace(":ver", "v1");
        let path = path.replace(":side", "publish").replace(":generation", "0000000000000001-1");
        let answer = manager.send(&format!("{} {path}", doc.method.as_str()), &[], "").await;
        let expected = if open.contains(&doc.path) { 200 } else { 401 };
        assert_eq!(answer.status, expected, "{} {path}: {}", doc.method.as_str(), answer.body);
    }
    assert_eq!(manager.snapshot().topic_count(), 1);
}

#[tokio::test]
async fn guessing_is_answered_429_and_the_right_key_still_works() {
    let manager = Manager::start().await;
    for attempt in 1..=32 {
        let answer = manager.send("GET /v1/apps", &[("Appid", "admin"), ("Pubkey", "guess")], "").await;
        let expected = if attempt <= 30 { 401 } else { 429 };
        assert_eq!(answer.status, expected, "attempt {attempt}");
        assert_eq!(answer.header("retry-after").is_some(), expected == 429);
    }
    assert_eq!(manager.raw("GET /v1/apps", &[], "").await.status, 200);
}

#[tokio::test]
async fn metrics_off_loopback_are_for_the_admin() {
    let manager = Manager::start_with(|state| state.on_loopback = false).await;
    assert_eq!(manager.send("GET /metrics", &[], "").await.status, 401);
    let answer = manager.raw("GET /metrics", &[], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "# TYPE up gauge\nup 1\n"));
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
}

#[tokio::test]
async fn health_says_what_the_process_says() {
    let manager = Manager::start_with(|state| {
        state.readiness = std::sync::Arc::new(|| manager::Readiness {
            alive: false,
            ready: false,
            detail: json!({"clusters": {"main": {"up": false, "detail": "away"}}}),
        });
    })
    .await;
    assert_eq!(manager.send("GET /alive", &[], "").await.status, 503);
    assert_eq!(manager.send("GET /healthz", &[], "").await.status, 200);
    let answer = manager.send("GET /readyz", &[], "").await;
    let expected = json!({
        "ready": false,
        "clusters": {"main": {"up": false, "detail": "away"}},
        "errmsg": "this process may not take traffic now",
        "code": "not_ready",
    });
    assert_eq!((answer.status, answer.json()), (503, expected));
}

#[tokio::test]
async fn requests_that_are_wrong_in_form_are_answered_in_form() {
    let manager = with_shop().await;
    let answer = manager.send("GET /nowhere", &[], "").await;
    assert_eq!((answer.status, text(&answer.json(), "code")), (404, "no_such_endpoint"));

    let answer = manager.send("PATCH /v1/apps/shop", &[], "").await;
    assert_eq!((answer.status, text(&answer.json(), "code")), (405, "method_not_allowed"));
    let mut allowed: Vec<&str> = answer.header("allow").unwrap().split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["delete", "get", "head", "put"]);

    let answer = manager.raw("POST /v1/apps", &[("Content-Type", "text/plain")], "{}").await;
    assert_eq!((answer.status, text(&answer.json(), "code")), (415, "unsupported_media_type"));
    let answer = manager.raw("POST /v1/apps", &[("Content-Type", "application/json; charset=utf-8")], "{}").await;
    assert_eq!((answer.status, text(&answer.json(), "code")), (400, "bad_json"));
    let answer = manager.raw("POST /v1/apps", &[], &" ".repeat(100_000)).await;
    assert_eq!((answer.status, text(&answer.json(), "code")), (413, "body_too_large"));
    let answer = manager.raw("GET /v1/apps/%ff", &[], "").await;
    assert_eq!(answer.status, 400, "{}", answer.body);
}

#[tokio::test]
async fn request_ids_and_cors_are_answered_on_every_path() {
    let manager = Manager::start().await;
    let answer = manager.send("GET /nowhere", &[("X-Request-Id", "abc-1")], "").await;
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    let answer = manager.send("GET /alive", &[("X-Request-Id", &"x".repeat(500))], "").await;
    assert_eq!(answer.header("x-request-id").unwrap().len(), 16);

    let origin = ("Origin", "https://console.example.com");
    let answer = manager.send("GET /alive", &[origin], "").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://console.example.com"));
    let ask = ("Access-Control-Request-Method", "POST");
    let answer = manager.send("OPTIONS /v1/apps", &[origin, ask], "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-methods")), (204, Some("get, post, put, delete")));
    let answer = manager.send("OPTIONS /v1/apps", &[("Origin", "https://evil.example.com"), ask], "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, None));
}

#[tokio::test]
async fn the_client_tells_refused_from_unreachable() {
    let manager = Manager::start().await;
    let err = manager.client().request("GET", "/v1/apps/nobody", &[], None).await.unwrap_err();
    assert_eq!((err.status(), err.to_string().as_str()), (Some(404), "there is no app nobody (no_such_app)"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = manager::client::AdminClient::new(&url, "admin", KEY).unwrap();
    assert_eq!(client.request("GET", "/v1/apps", &[], None).await.unwrap_err().status(), None);
}

#[tokio::test]
async fn clusters_have_the_shape_of_2017() {
    let manager = Manager::start().await;
    manager.check("GET /v1/clusters", "", r#"200 [{"name":"main","nickname":"main","up":true}]"#).await;
}

/// One row: a request as sent, `|` for CR LF and `{auth}` for the admin's headers, and "status code" of the answer.
async fn check_heads(manager: &Manager, rows: &[(&str, &str)]) {
    for (row, expected) in rows {
        let text =
            row.replace("{auth}", &format!("Appid: admin|Pubkey: {KEY}|Connection: close|")).replace('|', "\r\n");
        let answer = manager.send_bytes(text.as_bytes()).await;
        let code = serde_json::from_str::<Value>(&answer.body).ok();
        let code = code.as_ref().and_then(|body| body["code"].as_str()).unwrap_or_default();
        assert_eq!(format!("{} {code}", answer.status).trim_end(), *expected, "{row}: {}", answer.body);
    }
}

/// hyper passes requests without Host, drops bodies of HTTP/1.0 whose end nobody can tell, and knows no WebSocket.
#[tokio::test]
async fn heads_are_held_to_the_same_rules_as_on_the_other_listeners() {
    let manager = with_shop().await;
    check_heads(
        &manager,
        &[
            ("GET /v1/apps HTTP/1.1|Host: m|{auth}|", "200"),
            ("GET /v1/apps HTTP/1.1|{auth}|", "400 missing_host"),
            ("GET /healthz HTTP/1.1|Connection: close||", "400 missing_host"),
            ("GET /nowhere HTTP/1.1|Connection: close||", "400 missing_host"),
            ("GET /v1/apps HTTP/1.1|Host: m|Host: n|{auth}|", "400 duplicate_header"),
            ("GET /v1/apps HTTP/1.0|{auth}|", "200"),
            ("GET /healthz HTTP/1.0||", "200"),
            ("POST /v1/apps HTTP/1.0|{auth}|{\"appid\":\"lost\"}", "411 length_required"),
            ("PUT /v1/apps/shop HTTP/1.0|Connection: keep-alive|Appid: x||", "411 length_required"),
            ("POST /v1/apps HTTP/1.0|{auth}Content-Length: 17||{\"appid\":\"found\"}", "201"),
            ("DELETE /v1/apps/found HTTP/1.0|{auth}|", "200"),
            ("DELETE /v1/apps/audit HTTP/1.1|Host: m|{auth}Upgrade: websocket||", "501 not_supported_yet"),
            ("GET /healthz HTTP/1.1|Host: m|{auth}Upgrade: h2c, WebSocket||", "501 not_supported_yet"),
            ("GET /v1/apps/audit HTTP/1.1|Host: m|{auth}Upgrade: h2c||", "200"),
        ],
    )
    .await;
}

#[tokio::test]
async fn every_route_refuses_unknown_query_names_and_takes_those_of_2017() {
    let manager = with_shop().await;
    for endpoint in manager::endpoints() {
        let path: Vec<&str> = endpoint.path.split('/').map(|s| if s.starts_with(':') { "none" } else { s }).collect();
        let line = format!("{} {}", endpoint.method.as_str(), path.join("/"));
        let answer = manager.raw(&format!("{line}?mux=1&nonsense=1"), &[], "").await;
        let code = answer.json()["code"].clone();
        assert_eq!((answer.status, code), (400, json!("unknown_parameter")), "{line}: {}", answer.body);
        let answer = manager.raw(&format!("{line}?mux=1&use=&l%69mit=7&&"), &[], "").await;
        assert!(!answer.body.contains("query"), "{line}: {}", answer.body);
    }
    // Nobody who is not logged in learns what there is.
    assert_eq!(manager.send("GET /v1/apps?nonsense=1", &[], "").await.status, 401);
    manager
        .check(
            "DELETE /v1/apps/shop?casscade=1",
            "",
            r#"400 {"code":"unknown_parameter","errmsg":"there is no query parameter casscade here, the nearest is cascade"}"#,
        )
        .await;
}

#[tokio::test]
async fn flags_are_four_words_and_an_empty_one_is_refused() {
    let manager = with_shop().await;
    for (value, status, enabled) in [
        ("0", 200, false),
        ("1", 200, true),
        ("false", 200, false),
        ("true", 200, true),
        ("", 400, true),
        ("no", 400, true),
        ("False", 400, true),
    ] {
        let line = format!("PUT /v1/topics/shop/orders/v1?enabled={value}");
        assert_eq!(manager.raw(&line, &[], "").await.status, status, "{line}");
        let topic = manager.raw("GET /v1/topics/shop/orders/v1", &[], "").await.json();
        assert_eq!(topic["enabled"], json!(enabled), "{line}");
    }
}

#[tokio::test]
async fn a_byte_order_mark_before_json_is_skipped() {
    let manager = with_shop().await;
    let grant = r#"{"kind":"subscribe","appid":"audit","owner":"shop","topic":"orders"}"#;
    for (line, body, status) in [
        ("POST /v1/apps", r#"{"appid":"marked"}"#, 201),
        ("PUT /v1/apps/marked", r#"{"enabled":false}"#, 200),
        ("POST /v1/grants", grant, 201),
        ("DELETE /v1/grants", grant, 200),
    ] {
        let answer = manager.raw(line, &[], &format!("\u{feff}{body}")).await;
        assert_eq!(answer.status, status, "{line}: {}", answer.body);
    }
}

/// The request line of an endpoint for what is there.
fn line_of(doc: &EndpointDoc) -> String {
    let path = doc.path.replace(":appid", "shop").replace(":topic", "orders").replace(":ver", "v1");
    format!("{} {}", doc.method.as_str(), path.replace(":side", "publish").replace(":name", "team"))
}

fn is_refused(answer: &RawAnswer, status: u16, code: &str) -> bool {
    answer.status == status && answer.json()["code"] == code
}

/// Went wrong: `DELETE /v1/apps/x?cascade=$UNSET` deleted everything.
#[tokio::test]
async fn an_empty_flag_is_refused_whatever_flag_it_is() {
    let manager = with_shop().await;
    let mut tried = 0;
    for doc in manager::endpoints() {
        for flag in doc.params.iter().filter(|param| param.place == In::Query && param.kind == Kind::Bool) {
            for value in ["", "=", "=%20", "=yes", "=2"] {
                let line = format!("{}?{}{value}", line_of(&doc), flag.name);
                let answer = manager.raw(&line, &[], "").await;
                assert!(is_refused(&answer, 400, "bad_query"), "{line}: {} {}", answer.status, answer.body);
                tried += 1;
            }
        }
    }
    assert!(tried >= 20, "only {tried} flags were tried");
    assert_eq!(manager.raw("GET /v1/topics/shop/orders/v1", &[], "").await.status, 200);
    assert!(manager.fake.take_calls().is_empty(), "Kafka was asked for nothing");
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_refused_and_an_empty_one_is_none() {
    let manager = with_shop().await;
    let auth = format!("Appid: admin\r\nPubkey: {KEY}\r\nHost: m\r\nConnection: close\r\n");
    let now = manager.db.generation().await.unwrap().to_string();
    let registry = manager.ensemble.open();
    registry.register(&info("gw-1")).await.unwrap();
    for doc in manager::endpoints().iter().filter(|doc| doc.request.is_empty()) {
        let line = line_of(doc).replace(":generation", &now).replace(":id", "gw-1");
        let answer = manager.raw(&line, &[], "{\"appid\":\"shop\"}").await;
        assert!(is_refused(&answer, 400, "unexpected_body"), "{line}: {} {}", answer.status, answer.body);
        let chunked =
            |body: &str| format!("{line} HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n");
        let answer = manager.send_bytes(chunked("1\r\nx\r\n").as_bytes()).await;
        assert!(is_refused(&answer, 400, "unexpected_body"), "{line} in chunks: {}", answer.body);
        // Whatever has to be said of what is asked for is not said here.
        let says_enough = !doc.params.iter().any(|param| param.place == In::Query && param.required);
        if doc.method == Method::Get && says_enough {
            for answer in [manager.raw(&line, &[], "").await, manager.send_bytes(chunked("").as_bytes()).await] {
                assert_eq!(answer.status, 200, "{line}: {}", answer.body);
            }
        }
    }
    // Nobody who is not logged in learns what is read where.
    assert_eq!(manager.send("GET /v1/apps", &[], "x").await.status, 401);
    assert!(manager.fake.take_calls().iter().all(|call| call.starts_with("offsets")), "nothing was changed");
}

#[tokio::test]
async fn limits_and_addresses_are_set_shown_and_refused_when_they_are_none() {
    let manager = with_shop().await;
    let rows = [
        ("PUT /v1/apps/shop/limits?publish_messages=100&connections=7", "", "200"),
        ("PUT /v1/apps/shop/limits", r#"{"connections":0,"subscribe_bytes":1000}"#, "200"),
        ("PUT /v1/topics/shop/orders/v1/limits", r#"{"publish_bytes":5}"#, "200"),
        ("PUT /v1/apps/shop/addresses", r#"{"addresses":["10.1.0.0/16","::1"]}"#, "200"),
        ("PUT /v1/apps/shop/limits", "", "400 nothing_updated"),
        ("PUT /v1/topics/shop/orders/v1/limits?connections=1", "", "400 unknown_parameter"),
        ("PUT /v1/topics/shop/orders/v1/limits", r#"{"connections":1}"#, "400 bad_json"),
        ("PUT /v1/apps/nobody/limits?connections=1", "", "404 no_such_app"),
        ("PUT /v1/topics/shop/orders/v9/limits?publish_bytes=1", "", "404 no_such_version"),
        ("PUT /v1/apps/shop/addresses", r#"{"addresses":["10.1.2.3/16"]}"#, "400 bad_address"),
        ("PUT /v1/apps/nobody/addresses", r#"{"addresses":[]}"#, "404 no_such_app"),
    ];
    for (line, body, expected) in rows {
        let answer = manager.raw(line, &[], body).await;
        let code = answer.json()["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
        assert_eq!(format!("{}{code}", answer.status), expected, "{line} {body}: {}", answer.body);
    }
    let app = manager.raw("GET /v1/apps/shop", &[], "").await.json();
    assert_eq!(app["limits"], json!({"publish_messages": 100, "subscribe_bytes": 1000}));
    assert_eq!(app["addresses"], json!(["10.1.0.0/16", "::1"]));
    let topic = manager.raw("GET /v1/topics/shop/orders/v1", &[], "").await.json();
    assert_eq!(topic["limits"], json!({"publish_bytes": 5}));
    assert_eq!(topic["rates"]["publish_messages"], json!(2.0), "in tenths");
}

#[tokio::test]
async fn documented_limits_are_the_real_ones() {
    let manager = with_shop().await;
    let mut tried = 0;
    for doc in manager::endpoints() {
        let as_body = doc.request.iter().any(|content| content.schema == Schema::Parameters);
        for param in doc.params.iter().filter(|param| param.place == In::Query) {
            let (within, beyond) = match param.kind {
                Kind::Integer { min, max } => {
                    ([max.to_string(), min.to_string()], [(i128::from(max) + 1).to_string(), (min - 1).to_string()])
                }
                Kind::Number { min, max } => {
                    ([max.to_string(), min.to_string()], [(max + 1.0).to_string(), (min - 1.0).to_string()])
                }
                _ => continue,
            };
            for (values, fit) in [(within, true), (beyond, false)] {
                for value in values {
                    // What is made anew has a name that is free.
                    let is_new = doc.method == Method::Post;
                    let path = |kind: &str| match is_new {
                        true => line_of(&doc).replace("orders", &format!("{kind}{tried}")),
                        false => line_of(&doc),
                    };
                    let line = format!("{}?{}={value}", path("query"), param.name);
                    let mut answers = vec![manager.raw(&line, &[], "").await];
                    if as_body {
                        let body = format!("{{\"{}\":{value}}}", param.name);
                        answers.push(manager.raw(&path("body"), &[], &body).await);
                    }
                    for answer in answers {
                        let code = answer.json()["code"].clone();
                        let codes = ["out_of_range", "illegal_retention", "bad_query", "bad_json"];
                        let is_out = answer.status == 400 && codes.iter().any(|out| code == *out);
                        assert_eq!(is_out, !fit, "{line}: {} {}", answer.status, answer.body);
                        tried += 1;
                    }
                }
            }
        }
    }
    assert!(tried >= 30, "only {tried} values were tried");
}

#[tokio::test]
async fn topics_take_their_parameters_as_a_body_too() {
    let manager = with_shop().await;
    let body = r#"{"partitions":3,"replicas":2,"retention.hours":1.5,"retention.bytes":1000,"cluster":"main",
        "partitioner":"fnv1a","compression":"lz4","strip_2017_tags":true,"message_bytes_max":2000000}"#;
    let answer = manager.raw("POST /v1/topics/shop/returns/v1", &[("Content-Type", "application/json")], body).await;
    let topic = answer.json();
    assert_eq!((answer.status, &topic["partitions"], &topic["strip_2017_tags"]), (200, &json!(3), &json!(true)));
    let configs = r#"[("retention.ms", "5400000"), ("retention.bytes", "1000"), ("max.message.bytes", "2100000")]"#;
    let calls = ["check shop.returns.v1".to_owned(), format!("create shop.returns.v1 3x2 {configs}")];
    assert_eq!(manager.fake.take_calls(), calls);
    let answer = manager.raw("PUT /v1/topics/shop/returns/v1?mux=1", &[], r#"{"partitions":4,"enabled":false}"#).await;
    assert_eq!((&answer.json()["partitions"], &answer.json()["enabled"]), (&json!(4), &json!(false)));
    manager.fake.take_calls();
    for (line, body, code) in [
        ("PUT /v1/topics/shop/returns/v1?enabled=1", r#"{"partitions":5}"#, "query_and_body"),
        ("POST /v1/topics/shop/more/v1?partitions=1", "{}", "query_and_body"),
        ("DELETE /v1/grants?kind=raw", r#"{"kind":"raw"}"#, "query_and_body"),
        ("PUT /v1/topics/shop/returns/v1", r#"{"partition":5}"#, "bad_json"),
        ("PUT /v1/topics/shop/returns/v1", r#"{"enabled":1}"#, "bad_json"),
        ("PUT /v1/topics/shop/returns/v1", r#"{"enabled":""}"#, "bad_json"),
        ("PUT /v1/topics/shop/returns/v1", r#"{"partitions":"5"}"#, "bad_json"),
        ("PUT /v1/topics/shop/returns/v1", r#"["partitions"]"#, "bad_json"),
        ("PUT /v1/topics/shop/returns/v1", "{}", "nothing_updated"),
    ] {
        let answer = manager.raw(line, &[], body).await;
        assert!(is_refused(&answer, 400, code), "{line} {body}: {} {}", answer.status, answer.body);
    }
    assert!(manager.fake.take_calls().is_empty(), "Kafka was asked for nothing");
    // As `curl -d ''` sends it.
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(manager.raw("PUT /v1/topics/shop/returns/v1?enabled=1", &form, "").await.status, 200);
}
