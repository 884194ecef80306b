//! `kateway admin`: apps, topics, grants, secrets, principals and nodes, through the manager's REST API and nothing else.

use crate::admin_handoff::Handoff;
use crate::admin_jobs::Job;
use crate::admin_parked;
use crate::credentials::{self, Credentials};
use crate::kafka_config::{Failed, KafkaConfig};
use crate::table::{self, Format};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use daemon::exit;
use manager::client::{AdminClient, ClientError};
use manager::limits::PAGE_ROWS_MAX;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Manage apps, topics, grants, secrets, and who may do so.
#[derive(Debug, Clone, Args)]
pub struct Admin {
    /// The manager; taken from the credentials file when not given.
    #[arg(long, value_name = "URL", env = "KATEWAY_MANAGER", global = true)]
    manager: Option<String>,
    /// File with the admin's credentials (a quickstart or a first serve wrote it to its data directory).
    #[arg(long, value_name = "FILE", env = "KATEWAY_CREDENTIALS", global = true)]
    credentials: Option<PathBuf>,
    /// Output: a table on a terminal, tab-separated in a pipe.
    #[arg(short, long, value_enum, global = true)]
    pub output: Option<Format>,
    /// Print what would be sent, and send nothing.
    #[arg(long, global = true)]
    dry_run: bool,
    /// Do not ask before something is removed.
    #[arg(long, short = 'y', global = true)]
    yes: bool,
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Clone, Subcommand)]
enum Noun {
    /// Apps (tenants).
    #[command(subcommand)]
    App(App),
    /// Topic versions of an app.
    #[command(subcommand)]
    Topic(Topic),
    /// Who may read whose topics, or publish to a Kafka topic by name.
    #[command(subcommand)]
    Grant(Grant),
    /// Secrets of an app.
    #[command(subcommand)]
    Secret(Secret),
    /// Who may call the manager beside the admin.
    #[command(subcommand)]
    Principal(Principal),
    /// Print configurations for Kafka clients that log in at kproxy as this app.
    KafkaConfig(KafkaConfig),
    /// Publishes that Kafka could not take, kept at the gateways.
    #[command(subcommand)]
    Handoff(Handoff),
    /// Delayed jobs: messages kept at the gateways until they are due.
    #[command(subcommand)]
    Job(Job),
    /// Kafka clusters of the gateway.
    Clusters,
    /// Nodes that are up.
    Instances,
    /// Keep new traffic from a node; it goes on, and serves what comes.
    Drain {
        /// Of `instances`.
        id: String,
    },
    /// Let new traffic come to a drained node again.
    Undrain { id: String },
    /// Change what a node logs, until it starts again.
    Log {
        id: String,
        /// A filter like info,kateway=debug.
        level: String,
    },
    /// Change options of a node, until it starts again.
    Options {
        id: String,
        /// A configuration key that is live; without a value: as it is configured.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = option_change)]
        changes: Vec<(String, Option<String>)>,
    },
    /// How the node is whose manager answers.
    Status,
    /// Who changed what, and who was refused, the newest first.
    Audit {
        /// Only what is about this app.
        #[arg(long)]
        appid: Option<String>,
        /// Only this: app.create, topic.delete, secret.rotate, login, …
        #[arg(long)]
        operation: Option<String>,
        /// done or denied.
        #[arg(long)]
        outcome: Option<String>,
        #[arg(long, default_value_t = 100)]
        rows: u32,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum App {
    /// Make an app; its two secrets are shown once.
    Create {
        appid: String,
        /// Cluster its topics live in.
        #[arg(long)]
        cluster: String,
        /// Although a deleted app of this id left topics or groups in Kafka, which the new one will own.
        #[arg(long)]
        reuse: bool,
    },
    List,
    Show {
        appid: String,
    },
    /// Set how much an app may publish and read, over all gateways. What is not given stays; 0 takes a limit away.
    Limit {
        appid: String,
        #[command(flatten)]
        rates: Rates,
        /// Client connections at one time.
        #[arg(long, value_name = "N")]
        connections: Option<u64>,
    },
    /// Set from where an app may be used: 192.0.2.7, 10.1.0.0/16, 2001:db8::/32; none: from everywhere.
    Addresses {
        appid: String,
        ranges: Vec<String>,
    },
    /// Remove an app and its grants; Kafka topics stay.
    Delete {
        appid: String,
        /// With the registration of the topics it still owns.
        #[arg(long)]
        cascade: bool,
    },
}

#[derive(Debug, Clone, Args)]
struct Rates {
    /// Messages a second.
    #[arg(long, value_name = "N")]
    publish_messages: Option<u64>,
    /// Bytes a second of values, keys and headers.
    #[arg(long, value_name = "N")]
    publish_bytes: Option<u64>,
    /// Messages a second.
    #[arg(long, value_name = "N")]
    subscribe_messages: Option<u64>,
    /// Bytes a second of answers to polls.
    #[arg(long, value_name = "N")]
    subscribe_bytes: Option<u64>,
}

#[derive(Debug, Clone, Subcommand)]
enum Topic {
    /// Make a topic version, in Kafka too.
    Create {
        appid: String,
        topic: String,
        ver: String,
        #[arg(long)]
        partitions: Option<u32>,
        #[arg(long)]
        replicas: Option<u32>,
        #[arg(long, value_name = "HOURS")]
        retention_hours: Option<f64>,
        #[arg(long, value_name = "BYTES")]
        retention_bytes: Option<i64>,
        /// murmur2 or fnv1a.
        #[arg(long)]
        partitioner: Option<String>,
        /// none, gzip, snappy, lz4 or zstd.
        #[arg(long)]
        compression: Option<String>,
        /// Take the topic of this name that Kafka has already, with its messages.
        #[arg(long)]
        adopt: bool,
    },
    /// Topic versions, of one app or all.
    List {
        appid: Option<String>,
    },
    Show {
        appid: String,
        topic: String,
        ver: String,
    },
    /// Set how much may be published to a topic version and read from it, by everybody together.
    Limit {
        appid: String,
        topic: String,
        ver: String,
        #[command(flatten)]
        rates: Rates,
    },
    /// Partitions with their oldest and newest offsets.
    Partitions {
        appid: String,
        topic: String,
        ver: String,
    },
    Delete {
        appid: String,
        topic: String,
        ver: String,
        /// The messages in Kafka too.
        #[arg(long)]
        delete_data: bool,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum Grant {
    /// Let APPID read a topic of OWNER.
    Subscribe {
        appid: String,
        owner: String,
        topic: String,
        /// One version; all when not given.
        ver: Option<String>,
    },
    /// Let APPID publish to a Kafka topic by its physical name.
    Raw {
        appid: String,
        cluster: String,
        /// One topic; all when not given.
        topic: Option<String>,
    },
    List {
        appid: Option<String>,
    },
    /// Take a subscribe grant back.
    RevokeSubscribe {
        appid: String,
        owner: String,
        topic: String,
        ver: Option<String>,
    },
    /// Take a raw grant back.
    RevokeRaw {
        appid: String,
        cluster: String,
        topic: Option<String>,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum Secret {
    /// Make a new secret; the previous one stays valid until it is revoked. While two are valid, say which one dies.
    Rotate {
        appid: String,
        /// publish or subscribe.
        side: String,
        /// Of two, replace the younger: its answer was lost, say.
        #[arg(long, conflicts_with = "replace_current")]
        force: bool,
        /// Of two, replace the older, which clients use so far.
        #[arg(long)]
        replace_current: bool,
    },
    /// End the rotation: only the newest secret stays valid.
    RevokePrevious { appid: String, side: String },
}

#[derive(Debug, Clone, Subcommand)]
enum Principal {
    /// Make a principal; its key is shown once.
    Create {
        name: String,
        /// admin, owner, reader or node.
        #[arg(long)]
        role: String,
        #[command(flatten)]
        apps: Apps,
    },
    List,
    Show {
        name: String,
    },
    /// Change what it may do; its tokens are void from then on.
    Update {
        name: String,
        /// admin, owner, reader or node.
        #[arg(long)]
        role: Option<String>,
        #[command(flatten)]
        apps: Apps,
        /// May it log in.
        #[arg(long)]
        enabled: Option<bool>,
    },
    /// Remove it; its apps stay.
    Delete {
        name: String,
    },
    /// Make a new key, shown once; the key so far and its tokens are void.
    Rotate {
        name: String,
    },
    /// A token for whoever asks (the credentials in use), shown once; KATEWAY_ADMIN_TOKEN takes it.
    Token {
        /// Seconds that it is good for.
        #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
        ttl: u32,
    },
    /// Make every token that was given out so far void.
    VoidTokens,
}

/// Which apps a principal is about.
#[derive(Debug, Clone, Args)]
struct Apps {
    /// An app that an owner owns, or a reader sees; repeatable, and all of them are named.
    #[arg(long = "app", value_name = "APPID", conflicts_with = "every_app")]
    apps: Vec<String>,
    /// A reader sees every app, those to come too.
    #[arg(long)]
    every_app: bool,
}

/// One REST call and how to show its answer.
pub struct Call {
    method: &'static str,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    columns: &'static [&'static str],
    /// What a person is asked before it is done.
    question: Option<String>,
    /// A list, to be asked for page by page.
    is_list: bool,
}

impl Call {
    pub fn new(method: &'static str, path: impl Into<String>, columns: &'static [&'static str]) -> Call {
        Call { method, path: path.into(), query: Vec::new(), body: None, columns, question: None, is_list: false }
    }

    pub fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Call {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    /// Every row, however many there are.
    pub fn list(path: impl Into<String>, columns: &'static [&'static str]) -> Call {
        Call { is_list: true, ..Call::new("GET", path, columns) }.with("rows", Some(PAGE_ROWS_MAX))
    }

    pub fn asking(mut self, question: String) -> Call {
        self.question = Some(question);
        self
    }

    fn with_rates(self, rates: Rates) -> Call {
        self.with("publish_messages", rates.publish_messages)
            .with("publish_bytes", rates.publish_bytes)
            .with("subscribe_messages", rates.subscribe_messages)
            .with("subscribe_bytes", rates.subscribe_bytes)
    }

    #[cfg(test)]
    pub fn columns(&self) -> &'static [&'static str] {
        self.columns
    }

    #[cfg(test)]
    pub fn question(&self) -> Option<&str> {
        self.question.as_deref()
    }

    /// In a line, as it is sent.
    #[cfg(test)]
    pub fn shown(&self) -> String {
        let body = self.body.as_ref().map(|body| format!(" {body}")).unwrap_or_default();
        format!("{} {}{}{body}", self.method, self.path, shown_query(&self.query))
    }

    pub fn body(mut self, body: Value) -> Call {
        self.body = Some(body);
        self
    }
}

const APP: &[&str] = &["appid", "cluster", "enabled"];
const ONE_APP: &[&str] = &["appid", "cluster", "enabled", "created_at", "limits", "addresses", "handoff", "secrets"];
const ONE_TOPIC: &[&str] =
    &["appid", "topic", "ver", "cluster", "physical", "state", "partitions", "limits", "handoff", "rates"];
const APP_LIMITS: &[&str] = &["appid", "limits"];
const TOPIC_LIMITS: &[&str] = &["appid", "topic", "ver", "limits"];
const NEW_APP: &[&str] = &["appid", "cluster", "pubkey", "subkey"];
const TOPIC: &[&str] = &["appid", "topic", "ver", "cluster", "physical", "state", "partitions"];
const GRANT: &[&str] = &["kind", "appid", "owner", "topic", "ver", "cluster"];
const SECRET: &[&str] = &["appid", "side", "secret"];
const PRINCIPAL: &[&str] = &["name", "role", "apps", "every_app", "enabled"];
const NEW_PRINCIPAL: &[&str] = &["name", "role", "apps", "every_app", "key"];
const INSTANCE: &[&str] = &["kind", "id", "zone", "version", "state", "started_at", "generation", "addresses"];
const OBEYED: &[&str] = &["id", "revision", "state", "lacking"];
const STATUS: &[&str] =
    &["id", "version", "uptime_s", "state", "shards", "connections", "registry", "loglevel", "options", "readiness"];
const DONE: &[&str] = &["ok", "existed", "lacking"];

impl Noun {
    fn call(self) -> Call {
        match self {
            Noun::KafkaConfig(config) => config.call(),
            Noun::Handoff(handoff) => handoff.call(),
            Noun::Job(job) => job.call(),
            Noun::Clusters => Call::new("GET", "/v1/clusters", &["name", "up", "detail"]),
            Noun::Instances => Call::new("GET", "/v1/instances", INSTANCE),
            Noun::Drain { id } => Call::new("PUT", format!("/v1/instances/{id}/drain"), OBEYED),
            Noun::Undrain { id } => Call::new("PUT", format!("/v1/instances/{id}/undrain"), OBEYED),
            Noun::Log { id, level } => {
                Call::new("PUT", format!("/v1/instances/{id}/log"), OBEYED).body(json!({"level": level}))
            }
            Noun::Options { id, changes } => Call::new("PUT", format!("/v1/instances/{id}/options"), OBEYED)
                .body(changes.into_iter().map(|(key, value)| (key, Value::from(value))).collect()),
            Noun::Status => Call::new("GET", "/v1/status", STATUS),
            Noun::Audit { appid, operation, outcome, rows } => {
                Call::new("GET", "/v1/audit", &["num", "at", "actor", "operation", "outcome", "subject"])
                    .with("appid", appid)
                    .with("operation", operation)
                    .with("outcome", outcome)
                    .with("rows", Some(rows))
            }
            Noun::Principal(principal) => principal.call(),
            Noun::App(App::Create { appid, cluster, reuse }) => Call::new("POST", "/v1/apps", NEW_APP)
                .with("reuse", reuse.then_some(1))
                .body(json!({"appid": appid, "cluster": cluster})),
            Noun::App(App::List) => Call::list("/v1/apps", APP),
            Noun::App(App::Show { appid }) => Call::new("GET", format!("/v1/apps/{appid}"), ONE_APP),
            Noun::App(App::Limit { appid, rates, connections }) => {
                Call::new("PUT", format!("/v1/apps/{appid}/limits"), APP_LIMITS)
                    .with_rates(rates)
                    .with("connections", connections)
            }
            Noun::App(App::Addresses { appid, ranges }) => {
                Call::new("PUT", format!("/v1/apps/{appid}/addresses"), &["appid", "addresses", "lacking"])
                    .body(json!({"addresses": ranges}))
            }
            Noun::App(App::Delete { appid, cascade }) => Call::new("DELETE", format!("/v1/apps/{appid}"), DONE)
                .with("cascade", cascade.then_some(1))
                .asking(format!("remove app {appid}, its topics' registration and its grants?")),
            Noun::Topic(Topic::Create {
                appid,
                topic,
                ver,
                partitions,
                replicas,
                retention_hours,
                retention_bytes,
                partitioner,
                compression,
                adopt,
            }) => Call::new("POST", format!("/v1/topics/{appid}/{topic}/{ver}"), TOPIC)
                .with("partitions", partitions)
                .with("replicas", replicas)
                .with("retention.hours", retention_hours)
                .with("retention.bytes", retention_bytes)
                .with("partitioner", partitioner)
                .with("compression", compression)
                .with("adopt", adopt.then_some(1)),
            Noun::Topic(Topic::List { appid: None }) => Call::list("/v1/topics", TOPIC),
            Noun::Topic(Topic::List { appid: Some(appid) }) => Call::list(format!("/v1/topics/{appid}"), TOPIC),
            Noun::Topic(Topic::Show { appid, topic, ver }) => {
                Call::new("GET", format!("/v1/topics/{appid}/{topic}/{ver}"), ONE_TOPIC)
            }
            Noun::Topic(Topic::Limit { appid, topic, ver, rates }) => {
                Call::new("PUT", format!("/v1/topics/{appid}/{topic}/{ver}/limits"), TOPIC_LIMITS).with_rates(rates)
            }
            Noun::Topic(Topic::Partitions { appid, topic, ver }) => {
                Call::new("GET", format!("/v1/partitions/{appid}/{topic}/{ver}"), &["num", "offsets"])
            }
            Noun::Topic(Topic::Delete { appid, topic, ver, delete_data }) => {
                let what = if delete_data { " and its messages in Kafka" } else { "; its messages stay in Kafka" };
                Call::new("DELETE", format!("/v1/topics/{appid}/{topic}/{ver}"), DONE)
                    .with("delete_data", delete_data.then_some(1))
                    .asking(format!("remove {appid}/{topic}/{ver}{what}?"))
            }
            Noun::Grant(Grant::Subscribe { appid, owner, topic, ver }) => {
                Call::new("POST", "/v1/grants", GRANT).body(subscribe_grant(&appid, &owner, &topic, ver))
            }
            Noun::Grant(Grant::Raw { appid, cluster, topic }) => {
                Call::new("POST", "/v1/grants", GRANT).body(raw_grant(&appid, &cluster, topic))
            }
            Noun::Grant(Grant::List { appid }) => Call::list("/v1/grants", GRANT).with("appid", appid),
            Noun::Grant(Grant::RevokeSubscribe { appid, owner, topic, ver }) => Call::new("DELETE", "/v1/grants", DONE)
                .asking(format!("take from {appid} the right to read {owner}/{topic}?"))
                .body(subscribe_grant(&appid, &owner, &topic, ver)),
            Noun::Grant(Grant::RevokeRaw { appid, cluster, topic }) => Call::new("DELETE", "/v1/grants", DONE)
                .asking(format!("take from {appid} the right to publish by name to cluster {cluster}?"))
                .body(raw_grant(&appid, &cluster, topic)),
            Noun::Secret(Secret::Rotate { appid, side, force, replace_current }) => {
                Call::new("POST", format!("/v1/apps/{appid}/secrets/{side}"), SECRET)
                    .with("force", force.then_some(1))
                    .with("replace", replace_current.then_some("current"))
            }
            Noun::Secret(Secret::RevokePrevious { appid, side }) => {
                Call::new("DELETE", format!("/v1/apps/{appid}/secrets/{side}"), DONE)
                    .asking(format!("make the previous {side} secret of {appid} invalid now?"))
            }
        }
    }
}

impl Principal {
    fn call(self) -> Call {
        match self {
            Principal::Create { name, role, apps } => {
                let body = json!({"name": name, "role": role, "apps": apps.apps, "every_app": apps.every_app});
                Call::new("POST", "/v1/principals", NEW_PRINCIPAL).body(body)
            }
            Principal::List => Call::new("GET", "/v1/principals", PRINCIPAL),
            Principal::Show { name } => Call::new("GET", format!("/v1/principals/{name}"), PRINCIPAL),
            Principal::Update { name, role, apps: Apps { apps, every_app }, enabled } => {
                let fields = [
                    ("role", role.map(Value::from)),
                    ("apps", (!apps.is_empty()).then(|| apps.clone().into())),
                    ("every_app", (every_app || !apps.is_empty()).then(|| every_app.into())),
                    ("enabled", enabled.map(Value::from)),
                ];
                let body = fields.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
                Call::new("PUT", format!("/v1/principals/{name}"), PRINCIPAL).body(Value::Object(body.collect()))
            }
            Principal::Delete { name } => Call::new("DELETE", format!("/v1/principals/{name}"), DONE)
                .asking(format!("remove principal {name}, its key and its tokens?")),
            Principal::Rotate { name } => Call::new("POST", format!("/v1/principals/{name}/key"), &["name", "key"])
                .asking(format!("make the key of principal {name} and its tokens invalid now?")),
            Principal::Token { ttl } => {
                Call::new("POST", "/v1/tokens", &["name", "expires_at", "token"]).with("ttl", Some(ttl))
            }
            Principal::VoidTokens => {
                Call::new("DELETE", "/v1/tokens", DONE).asking("make every token of everybody invalid now?".to_owned())
            }
        }
    }
}

fn subscribe_grant(appid: &str, owner: &str, topic: &str, ver: Option<String>) -> Value {
    json!({"kind": "subscribe", "appid": appid, "owner": owner, "topic": topic, "ver": ver})
}

fn raw_grant(appid: &str, cluster: &str, topic: Option<String>) -> Value {
    json!({"kind": "raw", "appid": appid, "cluster": cluster, "topic": topic})
}

pub fn run(flags: Admin) -> Result<ExitCode> {
    let call = flags.noun.clone().call();
    if flags.dry_run {
        console::println!("{} {}{}", call.method, call.path, shown_query(&call.query));
        if let Some(body) = &call.body {
            console::println!("{}", serde_json::to_string_pretty(body)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(question) = &call.question
        && !flags.yes
        && !ask(question)?
    {
        bail!("nothing was done");
    }
    let client = connect(&flags)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let Noun::KafkaConfig(config) = &flags.noun {
        return Ok(match runtime.block_on(config.run(&flags, &client))? {
            Ok(text) => {
                console::print!("{text}");
                ExitCode::SUCCESS
            }
            Err(Failed::Manager(err)) => failed(&err, exit_code(&err)),
            Err(Failed::Precondition(why)) => failed(&why, exit::PRECONDITION),
        });
    }
    match runtime.block_on(send(&client, &call)) {
        Ok(mut answer) => {
            let missing = admin_parked::unreachable(&answer);
            let wants_rows = !matches!(flags.output, Some(Format::Json));
            match &flags.noun {
                Noun::Handoff(handoff) if wants_rows => handoff.rows(&mut answer),
                Noun::Job(job) if wants_rows => job.rows(&mut answer),
                _ => {}
            }
            if let Some(rows) = answer.get_mut("rows").filter(|rows| rows.is_array()) {
                answer = rows.take();
            }
            if !matches!(flags.output, Some(Format::Json | Format::Jsonl)) {
                say_as_people_do(&mut answer, SystemTime::now());
            }
            table::print(&answer, call.columns, flags.output);
            for why in &missing {
                eprintln!("kateway: {why}");
            }
            Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::UNREACHABLE) })
        }
        Err(err) => Ok(failed(&err, exit_code(&err))),
    }
}

fn failed(why: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("kateway: {why}");
    ExitCode::from(code)
}

/// The answer; of a list, all pages in one.
pub async fn send(client: &AdminClient, call: &Call) -> Result<Value, ClientError> {
    let (mut rows, mut cursor, mut unreachable) = (Vec::new(), None::<String>, Vec::new());
    loop {
        let mut query: Vec<(&str, &str)> = call.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let mut answer = client.request(call.method, &call.path, &query, call.body.as_ref()).await?;
        if !call.is_list {
            return Ok(answer);
        }
        if let Some(Value::Array(page)) = answer.get_mut("rows").map(Value::take) {
            rows.extend(page);
        }
        if let Some(Value::Array(missing)) = answer.get_mut("unreachable").map(Value::take) {
            unreachable.extend(missing);
        }
        cursor = answer["cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            return Ok(match unreachable.is_empty() {
                true => rows.into(),
                false => json!({"rows": rows, "unreachable": unreachable}),
            });
        }
    }
}

fn option_change(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, or KEY= to take it back")?;
    Ok((key.to_owned(), Some(value.to_owned()).filter(|value| !value.is_empty())))
}

/// Fields that are epoch ms.
const TIMES: &[&str] =
    &["at", "created_at", "expires_at", "started_at", "accepted_at", "oldest_at", "since", "due", "parked_at"];

/// Times as dates, limits as `name=number`, secrets as people ask for them: which side, which of two, how old.
fn say_as_people_do(answer: &mut Value, now: SystemTime) {
    let now_ms = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let rows = match answer {
        Value::Array(rows) => rows.as_mut_slice(),
        one => std::slice::from_mut(one),
    };
    for row in rows {
        for name in TIMES {
            if let Some(at_ms) = row[*name].as_i64() {
                row[*name] = rfc_3339(at_ms).into();
            }
        }
        for name in ["limits", "rates"] {
            if let Some(numbers) = row[name].as_object() {
                let numbers: Vec<String> = numbers.iter().map(|(name, number)| format!("{name}={number}")).collect();
                row[name] = numbers.join(" ").into();
            }
        }
        for name in ["addresses", "apps"] {
            if let Some(texts) = row[name].as_array() {
                row[name] = texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",").into();
            }
        }
        let Some(secrets) = row["secrets"].as_array() else { continue };
        let said = secrets.iter().map(|secret| {
            let text = |field: &str| secret[field].as_str().unwrap_or("?").to_owned();
            let age_ms = now_ms - secret["created_at"].as_i64().unwrap_or(now_ms);
            format!("{} {} {}", text("side"), text("which"), age(age_ms.max(0) as u64 / 1000))
        });
        row["secrets"] = said.collect::<Vec<_>>().join(", ").into();
    }
}

/// A time as people and programs give it: RFC 3339, or seconds since 1970.
pub fn epoch_ms(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds.saturating_mul(1_000));
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(|time| time.as_millisecond())
        .map_err(|_| "expected RFC 3339 (2027-01-01T08:00:00Z), or seconds since 1970".to_owned())
}

/// UTC, with milliseconds. Days to dates after Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
fn rfc_3339(epoch_ms: i64) -> String {
    let (days, ms) = (epoch_ms.div_euclid(86_400_000), epoch_ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March, so that the leap day is the last one.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// In the largest unit that fits.
fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Exit codes of the CLI contract: 1 failed, 3 not found, 4 denied, 5 unreachable, 6 precondition.
fn exit_code(err: &ClientError) -> u8 {
    match err.status() {
        None => exit::UNREACHABLE,
        Some(404) => 3,
        Some(401 | 403 | 429) => 4,
        Some(409 | 412) => 6,
        Some(_) => 1,
    }
}

fn shown_query(query: &[(&str, String)]) -> String {
    let pairs: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) }
}

fn ask(question: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("{question} Say --yes to do it without a terminal");
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

impl Admin {
    /// Whether it is there or not.
    pub fn credentials_path(&self) -> PathBuf {
        self.credentials.clone().unwrap_or_else(|| PathBuf::from(credentials::FILE_NAME))
    }
}

fn connect(flags: &Admin) -> Result<AdminClient> {
    let path = flags.credentials_path();
    let from_env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(token) = from_env("KATEWAY_ADMIN_TOKEN") {
        let manager = flags.manager.clone().context(
            "KATEWAY_ADMIN_TOKEN is sent only to an address given with it: say --manager URL or set KATEWAY_MANAGER",
        )?;
        return AdminClient::with_token(&manager, &token).with_context(|| format!("{manager} is no manager URL"));
    }
    let (manager, appid, key) = match (from_env("KATEWAY_ADMIN_APPID"), from_env("KATEWAY_ADMIN_KEY")) {
        // A key goes to the address it was given with, and to no other: a file that lies about could name anybody's.
        (Some(appid), Some(key)) => {
            let manager = flags.manager.clone().context(
                "KATEWAY_ADMIN_KEY is sent only to an address given with it: say --manager URL or set KATEWAY_MANAGER",
            )?;
            (manager, appid, key)
        }
        (None, None) => {
            let stored = Credentials::load(&path)?.unwrap_or_default();
            if stored.admin_appid.is_empty() || stored.admin_key.is_empty() {
                bail!(
                    "no admin credentials: name the file with --credentials, or set KATEWAY_ADMIN_APPID, KATEWAY_ADMIN_KEY \
                     and KATEWAY_MANAGER"
                );
            }
            let found = if stored.man.is_empty() { "http://127.0.0.1:9193".to_owned() } else { stored.man };
            (flags.manager.clone().unwrap_or(found), stored.admin_appid, stored.admin_key)
        }
        _ => bail!("of KATEWAY_ADMIN_APPID and KATEWAY_ADMIN_KEY one is set and the other is not"),
    };
    AdminClient::new(&manager, &appid, &key).with_context(|| format!("{manager} is no manager URL"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_principal_is_told_what_is_said_and_no_more() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(subcommand)]
            principal: Principal,
        }
        for (line, expected) in [
            (
                "create team --role owner --app shop --app bank",
                r#"POST /v1/principals {"apps":["shop","bank"],"every_app":false,"name":"team","role":"owner"}"#,
            ),
            (
                "create auditor --role reader --every-app",
                r#"POST /v1/principals {"apps":[],"every_app":true,"name":"auditor","role":"reader"}"#,
            ),
            ("update team --enabled false", r#"PUT /v1/principals/team {"enabled":false}"#),
            ("update team --app shop", r#"PUT /v1/principals/team {"apps":["shop"],"every_app":false}"#),
            ("update team --every-app", r#"PUT /v1/principals/team {"every_app":true}"#),
            ("update team --role reader", r#"PUT /v1/principals/team {"role":"reader"}"#),
            ("rotate team", "POST /v1/principals/team/key "),
            ("delete team", "DELETE /v1/principals/team "),
            ("token --ttl 60", "POST /v1/tokens?ttl=60 "),
            ("void-tokens", "DELETE /v1/tokens "),
        ] {
            let words = ["principal"].into_iter().chain(line.split(' '));
            let call = <Line as clap::Parser>::try_parse_from(words).unwrap().principal.call();
            let body = call.body.map(|body| body.to_string()).unwrap_or_default();
            assert_eq!(format!("{} {}{} {body}", call.method, call.path, shown_query(&call.query)), expected);
        }
    }

    #[test]
    fn times_are_shown_in_utc() {
        let rows = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_795_795_012_775, "2026-11-27T15:56:52.775Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ];
        for (ms, expected) in rows {
            assert_eq!(rfc_3339(ms), expected);
        }
    }

    #[test]
    fn secrets_are_shown_with_their_ages() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let secret = |which: &str, ago_s: i64| json!({"side": "publish", "which": which, "created_at": (1_000_000 - ago_s) * 1000});
        let mut app =
            json!([{"appid": "shop", "secrets": [secret("previous", 400_000), secret("current", 90)]}, {"appid": "x"}]);
        say_as_people_do(&mut app, now);
        assert_eq!(app[0]["secrets"], "publish previous 4d, publish current 90s");
        assert_eq!([119, 120, 7_199, 7_200, 172_799, 172_800].map(age), ["119s", "2m", "119m", "2h", "47h", "2d"]);
    }
}
