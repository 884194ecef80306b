//! Tokens: what ours open and when they stop, what those of another issuer open, and what is no token at all.

mod harness;

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use harness::jwt::{self, Issuer, base64url, jwt};
use harness::{KEY, Manager, RawAnswer};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A manager with app `shop` and its owner `alice`, whose key is the second.
async fn with_alice() -> (Manager, String) {
    with_alice_and(|_| {}).await
}

async fn with_alice_and(change: impl FnOnce(&mut manager::ManagerState)) -> (Manager, String) {
    let manager = Manager::start_with(change).await;
    for app in ["shop", "bank"] {
        manager.raw("POST /v1/apps", &[], &json!({"appid": app}).to_string()).await;
    }
    let alice = json!({"name": "alice", "role": "owner", "apps": ["shop"]}).to_string();
    let made = manager.raw("POST /v1/principals", &[], &alice).await.json();
    let key = made["key"].as_str().unwrap().to_owned();
    (manager, key)
}

async fn token_of(manager: &Manager, name: &str, key: &str) -> String {
    let made = manager.send("POST /v1/tokens", &[("Appid", name), ("Pubkey", key)], "").await;
    assert_eq!((made.status, made.header("cache-control")), (201, Some("no-store")), "{}", made.body);
    made.json()["token"].as_str().unwrap().to_owned()
}

async fn with_token(manager: &Manager, line: &str, token: &str) -> RawAnswer {
    manager.send(line, &[("Authorization", &format!("Bearer {token}"))], "").await
}

async fn check(manager: &Manager, token: &str, expected: &str) {
    manager.forget_failures();
    let answer = with_token(manager, "GET /v1/apps/shop", token).await;
    let code =
        if answer.status == 200 { String::new() } else { format!(" {}", answer.json()["code"].as_str().unwrap()) };
    assert_eq!(format!("{}{code}", answer.status), expected, "{token}: {}", answer.body);
    if answer.status == 401 {
        let challenge = "bearer realm=\"gafka\", error=\"invalid_token\"";
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
    }
}

#[tokio::test]
async fn a_token_opens_what_the_key_opens_except_another_token() {
    let (manager, key) = with_alice().await;
    let token = token_of(&manager, "alice", &key).await;
    check(&manager, &token, "200").await;
    assert_eq!(with_token(&manager, "GET /v1/apps/bank", &token).await.status, 403);
    assert_eq!(with_token(&manager, "POST /v1/topics/shop/orders/v1", &token).await.status, 200);
    assert_eq!(with_token(&manager, "POST /v1/tokens", &token).await.status, 403);
    let claims = jwt::claims(&token);
    assert_eq!((&claims["iss"], &claims["sub"], &claims["role"]), (&json!("gafka"), &json!("alice"), &json!("owner")));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    assert_eq!(jwt::head(&token)["alg"], "EdDSA");
    // The audit log has whose token did it.
    let rows = manager.raw("GET /v1/audit?operation=topic.create", &[], "").await.json();
    assert_eq!(rows["rows"][0]["actor"], "alice");
}

#[tokio::test]
async fn a_token_is_void_as_soon_as_anything_about_its_principal_changes() {
    let (manager, key) = with_alice().await;
    for (line, body) in [
        ("PUT /v1/principals/alice", r#"{"apps":["shop","bank"]}"#),
        ("PUT /v1/principals/alice", r#"{"role":"reader"}"#),
        ("PUT /v1/principals/alice", r#"{"role":"owner","apps":["shop"]}"#),
        ("DELETE /v1/tokens", ""),
    ] {
        let token = token_of(&manager, "alice", &key).await;
        check(&manager, &token, "200").await;
        assert_eq!(manager.raw(line, &[], body).await.status, 200, "{line} {body}");
        check(&manager, &token, "401 bad_token").await;
    }
    let token = token_of(&manager, "alice", &key).await;
    manager.raw("PUT /v1/principals/alice", &[], r#"{"enabled":false}"#).await;
    check(&manager, &token, "401 bad_token").await;
    manager.raw("PUT /v1/principals/alice", &[], r#"{"enabled":true}"#).await;
    check(&manager, &token, "401 bad_token").await;
    let token = token_of(&manager, "alice", &key).await;
    let rotated = manager.raw("POST /v1/principals/alice/key", &[], "").await.json();
    check(&manager, &token, "401 bad_token").await;
    assert_eq!(manager.send("GET /v1/apps", &[("Appid", "alice"), ("Pubkey", &key)], "").await.status, 401);
    // Removed, and somebody else made under the same name.
    let token = token_of(&manager, "alice", rotated["key"].as_str().unwrap()).await;
    manager.raw("DELETE /v1/principals/alice", &[], "").await;
    check(&manager, &token, "401 bad_token").await;
    let alice = json!({"name": "alice", "role": "owner", "apps": ["shop"]}).to_string();
    manager.raw("POST /v1/principals", &[], &alice).await;
    check(&manager, &token, "401 bad_token").await;
    // The admin's end with its key. Another process replaced it, which is known a second later.
    let token = token_of(&manager, "admin", KEY).await;
    check(&manager, &token, "200").await;
    let (admin, other) = (model::AppId::new("admin").unwrap(), model::PlainSecret::from_text("other").unwrap());
    manager.db.reset_admin(&admin, &other).await.unwrap();
    tokio::time::sleep(manager::limits::ADMIN_REMEMBERED).await;
    check(&manager, &token, "401 bad_token").await;
}

#[tokio::test]
async fn nothing_that_is_not_exactly_ours_is_a_token() {
    let (manager, key) = with_alice().await;
    let good = token_of(&manager, "alice", &key).await;
    let (head, claims) = (jwt::head(&good), jwt::claims(&good));
    let (kid, pair) = jwt::our_key(&*manager.db).await;
    let sign = |message: &[u8]| pair.sign(message).as_ref().to_vec();
    let changed = |name: &str, value: Value| {
        let mut claims = claims.clone();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        claims
    };
    let with_head = |name: &str, value: Value| {
        let mut head = head.clone();
        head[name] = value;
        head
    };
    check(&manager, &jwt(&head, &claims, sign), "200").await;
    // Signed by us, and still none: (claim, value).
    for (name, value) in [
        ("exp", json!(now_s() - 60)),
        ("exp", Value::Null),
        ("exp", json!("never")),
        ("nbf", json!(now_s() + 3600)),
        ("nbf", Value::Null),
        ("iss", json!("gafka2")),
        ("iss", Value::Null),
        ("aud", json!("gafka-gateway")),
        ("aud", json!([])),
        ("sub", json!("bob")),
        ("sub", json!("admin")),
        ("sub", Value::Null),
        ("stamp", json!("0000000000000000")),
        ("stamp", Value::Null),
    ] {
        check(&manager, &jwt(&head, &changed(name, value), sign), "401 bad_token").await;
    }
    // The role in a token is for people.
    let promoted = jwt(&head, &changed("role", json!("admin")), sign);
    assert_eq!(with_token(&manager, "GET /v1/principals", &promoted).await.status, 403);

    let other = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let public = pair.public_key().as_ref();
    let hs256 = |secret: &[u8]| {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        jwt(&with_head("alg", json!("HS256")), &claims, |message| hmac::sign(&secret, message).as_ref().to_vec())
    };
    let (message, signature) = good.rsplit_once('.').unwrap();
    let forged = changed("sub", json!("admin")).to_string();
    for token in [
        // Another signature, or none.
        jwt(&head, &claims, |message| other.sign(message).as_ref().to_vec()),
        jwt(&head, &claims, |_| vec![0; 64]),
        jwt(&with_head("alg", json!("none")), &claims, |_| Vec::new()),
        jwt(&with_head("alg", json!("None")), &claims, |_| Vec::new()),
        format!("{message}."),
        message.to_owned(),
        // Other claims under the signature.
        format!("{}.{}.{signature}", good.split('.').next().unwrap(), base64url(forged.as_bytes())),
        // The public key as a shared secret.
        hs256(public),
        hs256(base64url(public).as_bytes()),
        jwt(&with_head("alg", json!("ES256")), &claims, sign),
        jwt(&with_head("alg", json!("RS256")), &claims, sign),
        // Keys that the token brings along, or names.
        jwt(&with_head("kid", json!("another")), &claims, sign),
        jwt(&with_head("kid", json!(format!("{kid}' OR 1=1;--"))), &claims, sign),
        jwt(
            &json!({"alg": "EdDSA", "jwk": {"kty": "OKP", "crv": "Ed25519", "x": base64url(other.public_key().as_ref())}}),
            &claims,
            |message| other.sign(message).as_ref().to_vec(),
        ),
        format!("{good}x"),
        format!("{good}.x"),
        "a.b.c".to_owned(),
        "..".to_owned(),
        "x".to_owned(),
        "x".repeat(20_000),
    ] {
        check(&manager, &token, "401 bad_token").await;
    }
}

#[tokio::test]
async fn a_token_is_good_for_a_minute_to_a_day() {
    let (manager, key) = with_alice().await;
    for (ttl, expected) in
        [("60", 201), ("86400", 201), ("59", 400), ("86401", 400), ("-1", 400), ("x", 400), ("", 400)]
    {
        let headers = [("Appid", "alice"), ("Pubkey", key.as_str())];
        let answer = manager.send(&format!("POST /v1/tokens?ttl={ttl}"), &headers, "").await;
        assert_eq!(answer.status, expected, "{ttl}: {}", answer.body);
    }
}

#[tokio::test]
async fn tokens_of_another_issuer_are_taken_as_configured_and_no_others() {
    let mut issuer = Issuer::new();
    let (manager, _) = with_alice_and(|state| state.oidc = Some(issuer.oidc())).await;
    let owner = json!({"sub": "bob", "gafka_role": "owner", "gafka_apps": ["shop"]});
    let with = |name: &str, value: Value| {
        let mut more = owner.clone();
        more[name] = value;
        more
    };
    for (claims, expected) in [
        (owner.clone(), "200"),
        (with("gafka_role", json!(["staff", "reader", "owner"])), "200"),
        (with("aud", json!(["other", Issuer::AUDIENCE])), "200"),
        (with("gafka_role", json!("admin")), "200"),
        (with("gafka_apps", json!("shop")), "200"),
        (with("gafka_apps", json!([])), "403 forbidden"),
        (with("gafka_apps", json!("*")), "403 forbidden"),
        (with("gafka_role", json!("root")), "403 forbidden"),
        (with("gafka_role", Value::Null), "403 forbidden"),
        (with("sub", json!("two words")), "401 bad_token"),
        (with("sub", Value::Null), "401 bad_token"),
        (with("iss", json!("https://login.example.com")), "401 bad_token"),
        (with("iss", json!("gafka")), "401 bad_token"),
        (with("aud", json!("other")), "401 bad_token"),
        (with("exp", json!(now_s() - 60)), "401 bad_token"),
        (with("nbf", json!(now_s() + 3600)), "401 bad_token"),
    ] {
        check(&manager, &issuer.token(&claims), expected).await;
    }
    let every = json!({"sub": "eve", "gafka_role": "reader", "gafka_apps": ["*"]});
    let apps = with_token(&manager, "GET /v1/apps", &issuer.token(&every)).await.json();
    assert_eq!(apps.as_array().unwrap().len(), 2);
    let answer = with_token(&manager, "POST /v1/topics/shop/orders/v1", &issuer.token(&owner)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let rows = manager.raw("GET /v1/audit?operation=topic.create", &[], "").await.json();
    assert_eq!(rows["rows"][0]["actor"], "oidc:bob");

    // The public key is no secret to sign with, and the head does not choose.
    let claims = Issuer::claims(&owner);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &issuer.public_bytes());
    let mut head = issuer.head();
    head["alg"] = "HS256".into();
    check(&manager, &jwt(&head, &claims, |m| hmac::sign(&secret, m).as_ref().to_vec()), "401 bad_token").await;
    head["alg"] = "none".into();
    check(&manager, &jwt(&head, &claims, |_| Vec::new()), "401 bad_token").await;

    // A file with a new key is read again; what the old one signed is nothing then.
    let before = issuer.token(&owner);
    issuer.rotate();
    tokio::time::sleep(manager::limits::JWKS_LOOKED_AT_EVERY + Duration::from_millis(50)).await;
    check(&manager, &issuer.token(&owner), "200").await;
    check(&manager, &before, "401 bad_token").await;
    // One with a shared secret in it, or a key for something else, has no key, and those so far stay.
    let now = issuer.token(&owner);
    let encrypts = {
        let mut jwk = issuer.jwk();
        jwk["use"] = "enc".into();
        jwk
    };
    for jwk in [json!({"kty": "oct", "kid": "k1", "k": base64url(b"secret"), "alg": "HS256"}), encrypts] {
        issuer.publish(jwk);
        tokio::time::sleep(manager::limits::JWKS_LOOKED_AT_EVERY + Duration::from_millis(50)).await;
        check(&manager, &now, "200").await;
    }
}

/// An RSA key of 2,048 bits and tokens of 2020 that were signed with it elsewhere (RS256, PS256), good until 2286.
#[tokio::test]
async fn tokens_signed_with_rsa_are_verified() {
    let issuer = Issuer::new();
    let mut jwk: Value = serde_json::from_str(include_str!("data/rsa.jwk.json")).unwrap();
    issuer.publish(jwk.clone());
    let (manager, _) = with_alice_and(|state| state.oidc = Some(issuer.oidc())).await;
    for token in include_str!("data/rsa.tokens").lines() {
        check(&manager, token, "200").await;
        let (message, signature) = token.rsplit_once('.').unwrap();
        let tampered = signature.replace(['A', 'b', 'Q'], "x");
        check(&manager, &format!("{message}.{tampered}"), "401 bad_token").await;
    }
    // A key that says what it signs with has signed with nothing else.
    for said in ["RS256", "PS256"] {
        jwk["alg"] = said.into();
        issuer.publish(jwk.clone());
        tokio::time::sleep(manager::limits::JWKS_LOOKED_AT_EVERY + Duration::from_millis(50)).await;
        for token in include_str!("data/rsa.tokens").lines() {
            let is_said = jwt::head(token)["alg"] == said;
            check(&manager, token, if is_said { "200" } else { "401 bad_token" }).await;
        }
    }
}

/// Everything that is logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_key_and_no_token_is_in_a_log_or_in_the_audit_log() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let issuer = Issuer::new();
    let (manager, key) = with_alice_and(|state| state.oidc = Some(issuer.oidc())).await;
    let token = token_of(&manager, "alice", &key).await;
    let foreign = issuer.token(&json!({"sub": "bob", "gafka_role": "owner", "gafka_apps": ["bank"]}));
    let (void, guess) = (format!("{}x", &token), "a-guess-at-the-key");
    for line in ["GET /v1/apps", "GET /v1/apps/bank", "POST /v1/topics/shop/orders/v1", "GET /v1/principals"] {
        for token in [&token, &foreign, &void] {
            with_token(&manager, line, token).await;
        }
        for key in [key.as_str(), guess] {
            manager.send(line, &[("Appid", "alice"), ("Pubkey", key)], "").await;
        }
    }
    let rotated = manager.raw("POST /v1/principals/alice/key", &[], "").await.json();
    manager.raw("DELETE /v1/tokens", &[], "").await;
    with_token(&manager, "GET /v1/apps", &token).await;
    let seed = manager.db.token_key().await.unwrap().unwrap().seed;
    // Refusals are written down behind their answers.
    let mut log = String::new();
    for _ in 0..200 {
        log = manager.raw("GET /v1/audit?rows=1000", &[], "").await.body;
        if log.contains("oidc:bob") && log.contains("forbidden") && log.contains("login") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(log.contains("oidc:bob") && log.contains("\"alice\""), "refusals have their names: {log}");
    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("token given out") && text.contains("failed login"), "the logs are these");
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    let secrets = [
        key.clone(),
        rotated["key"].as_str().unwrap().to_owned(),
        guess.to_owned(),
        signature(&token),
        signature(&foreign),
        base64url(&seed),
        format!("{seed:?}"),
        KEY.to_owned(),
    ];
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the audit log");
        assert!(!text.contains(&secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn wrong_tokens_in_a_row_are_answered_429_and_a_right_one_still_works() {
    let (manager, key) = with_alice().await;
    let token = token_of(&manager, "alice", &key).await;
    for attempt in 1..=32 {
        let answer = with_token(&manager, "GET /v1/apps", "a.b.c").await;
        assert_eq!(answer.status, if attempt <= 30 { 401 } else { 429 }, "attempt {attempt}");
    }
    check(&manager, &token, "200").await;
}
