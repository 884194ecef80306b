//! Who may do what, found by doing it: every endpoint, called by everybody, on an app of theirs, on somebody else's and on
//! one that is not there. The table is for reading; a difference is a change of who may do what (`UPDATE_EXPECT=1` writes
//! it down).

mod harness;

use std::fmt::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use expect_test::expect_file;
use harness::handoff::{FakeHandoff, Kept};
use harness::jobs::FakeJobs;
use harness::{KEY, Manager};
use manager::handoff::Adopted;
use model::api_doc::{Auth, EndpointDoc, In};
use serde_json::{Value, json};

/// The app of the owner, the reader and the app among the callers; somebody else's; one that is not there.
const RELATIONS: [(&str, &str); 3] = [("own", "shop"), ("another's", "bank"), ("none", "ghost")];

const LEGEND: &str = "\
# Who may do what at the manager

Each cell is the status that a caller got; `200/2` is a list of two. *own* is app `shop`, which the owner owns, the reader
sees and the app is; *another's* is `bank`; *none* is an app that does not exist. The owner with a token is the owner; the
owner of another issuer has `shop` in its token.
";

/// Who calls, by the headers that they send.
struct Callers {
    keys: Vec<(&'static str, &'static str, String)>,
    expired: String,
    foreign: String,
}

const COLUMNS: [&str; 14] = [
    "nobody",
    "wrong key",
    "admin",
    "admin principal",
    "owner",
    "owner, token",
    "owner, other issuer",
    "reader",
    "reader of all",
    "node",
    "the app",
    "disabled owner",
    "expired token",
    "void token",
];

impl Callers {
    async fn make(manager: &Manager) -> Callers {
        let mut keys = vec![("admin", "admin", KEY.to_owned())];
        for app in ["shop", "bank", "third"] {
            let made = manager.raw("POST /v1/apps", &[], &json!({"appid": app}).to_string()).await.json();
            if app == "shop" {
                keys.push(("the app", "shop", made["pubkey"].as_str().unwrap().to_owned()));
            } else {
                manager.raw(&format!("POST /v1/topics/{app}/orders/v1"), &[], "").await;
            }
        }
        manager.raw("POST /v1/topics/shop/orders/v1", &[], "").await;
        for (app, owner) in [("bank", "shop"), ("third", "bank")] {
            let grant = json!({"kind": "subscribe", "appid": app, "owner": owner, "topic": "orders"});
            assert_eq!(manager.raw("POST /v1/grants", &[], &grant.to_string()).await.status, 201);
        }
        for (column, name, role, rest) in [
            ("admin principal", "second", "admin", json!({})),
            ("owner", "alice", "owner", json!({"apps": ["shop"]})),
            ("reader", "rita", "reader", json!({"apps": ["shop"]})),
            ("reader of all", "auditor", "reader", json!({"every_app": true})),
            ("node", "node-1", "node", json!({})),
            ("disabled owner", "frozen", "owner", json!({"apps": ["shop"]})),
            ("void token", "mallory", "owner", json!({"apps": ["shop"]})),
        ] {
            let mut body = rest;
            body["name"] = name.into();
            body["role"] = role.into();
            let made = manager.raw("POST /v1/principals", &[], &body.to_string()).await;
            assert_eq!(made.status, 201, "{}", made.body);
            keys.push((column, name, made.json()["key"].as_str().unwrap().to_owned()));
        }
        manager.raw("PUT /v1/principals/frozen", &[], r#"{"enabled":false}"#).await;
        let mut callers = Callers { keys, expired: String::new(), foreign: String::new() };
        // Before its role changes back and forth.
        let void = callers.token(manager, "void token").await;
        for role in ["reader", "owner"] {
            manager.raw("PUT /v1/principals/mallory", &[], &json!({"role": role}).to_string()).await;
        }
        callers.keys.retain(|(column, ..)| *column != "void token");
        callers.keys.push(("void token", "", void));
        callers.expired = callers.expired_token(manager).await;
        callers
    }

    fn key(&self, column: &str) -> (&str, &str) {
        let found = self.keys.iter().find(|(known, ..)| *known == column);
        let (_, name, key) = found.unwrap_or_else(|| panic!("{column} is nobody"));
        (name, key)
    }

    async fn token(&self, manager: &Manager, column: &str) -> String {
        let (name, key) = self.key(column);
        let made = manager.send("POST /v1/tokens", &[("Appid", name), ("Pubkey", key)], "").await;
        made.json()["token"].as_str().unwrap_or_else(|| panic!("{}", made.body)).to_owned()
    }

    async fn expired_token(&self, manager: &Manager) -> String {
        let good = self.token(manager, "owner").await;
        let mut claims = harness::jwt::claims(&good);
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        (claims["exp"], claims["nbf"]) = ((now_s - 60).into(), (now_s - 120).into());
        harness::jwt::ours(&*manager.db, &claims).await
    }

    async fn headers(&self, manager: &Manager, column: &str) -> Vec<(&'static str, String)> {
        let bearer = |token: &str| vec![("Authorization", format!("Bearer {token}"))];
        match column {
            "nobody" => Vec::new(),
            "wrong key" => vec![("Appid", "alice".to_owned()), ("Pubkey", "guess".to_owned())],
            // Made for each call: one of them is the end of all tokens.
            "owner, token" => bearer(&self.token(manager, "owner").await),
            "owner, other issuer" => bearer(&self.foreign),
            "expired token" => bearer(&self.expired),
            "void token" => bearer(self.key("void token").1),
            column => {
                let (name, key) = self.key(column);
                vec![("Appid", name.to_owned()), ("Pubkey", key.to_owned())]
            }
        }
    }
}

/// One line of the table: what is called, and what it has to do with the caller.
struct Row {
    shown: String,
    line: String,
    body: String,
    relation: &'static str,
}

/// How an endpoint is called so that calling it again finds the same. A new endpoint says here what it is sent.
fn rows(doc: &EndpointDoc, generation: &str) -> Vec<Row> {
    let by_query = doc.params.iter().any(|param| param.place == In::Query && param.name == "appid");
    let is_grant = doc.auth == Auth::Write(model::api_doc::Resource::Grants);
    let path = |app: &str| {
        let topic = if doc.operation == "deleteTopic" { "not-there" } else { "orders" };
        let path = doc.path.replace(":appid", app).replace(":topic", topic).replace(":ver", "v1");
        let path = path.replace(":side", "subscribe").replace(":generation", generation).replace(":name", "ghost");
        let path = path
            .replace(":id", "gw-1")
            .replace("options/:option/:value", "options/log.level/info")
            .replace(":level", "info");
        assert!(!path.contains(':'), "say what stands for the parameters of {}", doc.path);
        path
    };
    let tomorrow_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() + 86_400_000;
    let tomorrow = format!("?id=5188146770730811648&due={tomorrow_ms}");
    let (query, body) = match doc.operation {
        "createApp" => ("", json!({"appid": "shop"})),
        "updateApp" => ("", json!({"enabled": true})),
        "rotateSecret" => ("?force=1", Value::Null),
        "updateTopic" => ("?enabled=1", Value::Null),
        "limitApp" | "limitTopic" => ("?publish_messages=0", Value::Null),
        "setAppAddresses" => ("", json!({"addresses": []})),
        "createPrincipal" => ("", json!({"name": "ghost", "role": "node"})),
        "updatePrincipal" => ("", json!({"enabled": true})),
        "changeInstanceOptions" => ("", json!({"log.level": "info"})),
        "setInstanceLog" => ("", json!({"level": "info"})),
        "replayParked" | "dropParked" => ("", json!({"receipts": ["none"]})),
        "replayParkedJobs" | "dropParkedJobs" => ("", json!({"ids": ["none"]})),
        "showJob" | "deleteJobOfApp" | "fireJobOfApp" => ("?id=5188146770730811648", Value::Null),
        "rescheduleJobOfApp" => (tomorrow.as_str(), Value::Null),
        "adoptHandoff" => ("", json!({"from": "dead"})),
        "createTopic" | "createGrant" | "deleteGrant" => ("", Value::Null),
        _ if doc.request.is_empty() => ("", Value::Null),
        operation => panic!("say what {operation} is sent"),
    };
    let row = |app: &str, more: &str, body: &Value, relation| Row {
        shown: format!("{} {}{more}", doc.method.as_str(), doc.path),
        line: format!("{} {}{query}{more}", doc.method.as_str(), path(app)),
        body: if body.is_null() { String::new() } else { body.to_string() },
        relation,
    };
    let mut rows = Vec::new();
    if is_grant {
        for (relation, owner) in RELATIONS {
            let grant = json!({"kind": "subscribe", "appid": "third", "owner": owner, "topic": "orders", "ver": "v1"});
            rows.push(row("", "", &grant, relation));
        }
        rows.push(row("", "", &json!({"kind": "raw", "appid": "shop", "cluster": "main"}), "raw"));
        return rows;
    }
    if doc.path.contains(":appid") {
        rows.extend(RELATIONS.map(|(relation, app)| row(app, "", &body, relation)));
    } else {
        rows.push(row("", "", &body, "–"));
    }
    if by_query {
        for (relation, app) in RELATIONS {
            let mut asked = row("", &format!("?appid={app}"), &body, relation);
            asked.shown = format!("{} {}?appid", doc.method.as_str(), doc.path);
            rows.push(asked);
        }
    }
    for param in doc.params.iter().filter(|param| param.for_admins) {
        rows.push(row("shop", &format!("?{}=1", param.name), &body, "own"));
    }
    rows
}

#[tokio::test]
async fn the_table_of_who_may_do_what_is_the_golden_one() {
    let issuer = harness::jwt::Issuer::new();
    let manager = Manager::start_with(|state| {
        state.on_loopback = false;
        state.oidc = Some(issuer.oidc());
        let left = [("dead".to_owned(), Adopted::default())].into();
        state.jobs = Some(Arc::new(FakeJobs::default()));
        state.handoff =
            Some(Arc::new(FakeHandoff { more: Kept { left, ..Kept::default() }, ..FakeHandoff::default() }));
    })
    .await;
    let mut callers = Callers::make(&manager).await;
    callers.foreign = issuer.token(&json!({"sub": "alice", "gafka_role": "owner", "gafka_apps": ["shop"]}));
    let generation = manager.db.generation().await.unwrap().to_string();

    let mut table = format!("{LEGEND}\n| Endpoint | app | {} |\n", COLUMNS.join(" | "));
    writeln!(table, "|---|---|{}", "---|".repeat(COLUMNS.len())).unwrap();
    for doc in manager::endpoints() {
        // What is not there first, to hold what is another's against it.
        let (mut refused_for_none, mut lines) = (Vec::new(), Vec::new());
        for row in rows(&doc, &generation).iter().rev() {
            let mut cells = String::new();
            for column in COLUMNS {
                manager.forget_failures();
                let headers = callers.headers(&manager, column).await;
                let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let answer = manager.send(&row.line, &headers, &row.body).await;
                let is_list = answer.body.starts_with('[');
                let count =
                    if is_list { format!("/{}", answer.json().as_array().unwrap().len()) } else { String::new() };
                write!(cells, " {}{count} |", answer.status).unwrap();
                // Not there and not theirs are the same to whoever may not know.
                let refusal = (column, answer.status, answer.body.clone());
                match row.relation {
                    "none" if answer.status == 403 => refused_for_none.push(refusal),
                    "another's" if answer.status == 403 => {
                        assert!(refused_for_none.contains(&refusal), "{} by {column}: {}", row.line, answer.body);
                    }
                    _ => {}
                }
            }
            lines.push(format!("| `{}` | {} |{cells}\n", row.shown, row.relation));
        }
        table.extend(lines.into_iter().rev());
    }
    expect_file!["data/permissions.md"].assert_eq(&table);
}

/// A role that comes to be, or an endpoint that asks for nothing, is a decision and not an accident.
#[test]
fn only_health_and_the_description_are_open_to_everybody() {
    let open: Vec<&str> =
        manager::endpoints().iter().filter(|doc| doc.auth == Auth::None).map(|doc| doc.path).collect();
    assert_eq!(open, ["/alive", "/healthz", "/readyz", "/openapi.json"]);
    for doc in manager::endpoints() {
        assert!(doc.auth == Auth::None || doc.auth.is_managers(), "{} asks for what no manager knows", doc.path);
    }
}
