//! `kateway admin`: apps, topics, grants and secrets, through the manager's REST API and nothing else.

use crate::credentials::{self, Credentials};
use crate::table::{self, Format};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use manager::client::{AdminClient, ClientError};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Manage apps, topics, grants and secrets.
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
    output: Option<Format>,
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
    /// Kafka clusters of the gateway.
    Clusters,
}

#[derive(Debug, Clone, Subcommand)]
enum App {
    /// Make an app; its two secrets are shown once.
    Create {
        appid: String,
        /// Cluster its topics live in.
        #[arg(long)]
        cluster: String,
    },
    List,
    Show {
        appid: String,
    },
    /// Remove an app and its grants; Kafka topics stay.
    Delete {
        appid: String,
        /// With the registration of the topics it still owns.
        #[arg(long)]
        cascade: bool,
    },
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
    /// Make a new secret; the previous one stays valid until it is revoked.
    Rotate {
        appid: String,
        /// publish or subscribe.
        side: String,
    },
    /// End the rotation: only the newest secret stays valid.
    RevokePrevious { appid: String, side: String },
}

/// One REST call and how to show its answer.
struct Call {
    method: &'static str,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    columns: &'static [&'static str],
    /// What a person is asked before it is done.
    question: Option<String>,
}

impl Call {
    fn new(method: &'static str, path: impl Into<String>, columns: &'static [&'static str]) -> Call {
        Call { method, path: path.into(), query: Vec::new(), body: None, columns, question: None }
    }

    fn with(mut self, name: &'static str, value: Option<impl ToString>) -> Call {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    fn asking(mut self, question: String) -> Call {
        self.question = Some(question);
        self
    }

    fn body(mut self, body: Value) -> Call {
        self.body = Some(body);
        self
    }
}

const APP: &[&str] = &["appid", "cluster", "enabled"];
const NEW_APP: &[&str] = &["appid", "cluster", "pubkey", "subkey"];
const TOPIC: &[&str] = &["appid", "topic", "ver", "cluster", "physical", "enabled", "partitions"];
const GRANT: &[&str] = &["kind", "appid", "owner", "topic", "ver", "cluster"];
const SECRET: &[&str] = &["appid", "side", "secret"];
const DONE: &[&str] = &["ok"];

impl Noun {
    fn call(self) -> Call {
        match self {
            Noun::Clusters => Call::new("GET", "/v1/clusters", &["name"]),
            Noun::App(App::Create { appid, cluster }) => {
                Call::new("POST", "/v1/apps", NEW_APP).body(json!({"appid": appid, "cluster": cluster}))
            }
            Noun::App(App::List) => Call::new("GET", "/v1/apps", APP),
            Noun::App(App::Show { appid }) => Call::new("GET", format!("/v1/apps/{appid}"), APP),
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
            }) => Call::new("POST", format!("/v1/topics/{appid}/{topic}/{ver}"), TOPIC)
                .with("partitions", partitions)
                .with("replicas", replicas)
                .with("retention.hours", retention_hours)
                .with("retention.bytes", retention_bytes)
                .with("partitioner", partitioner)
                .with("compression", compression),
            Noun::Topic(Topic::List { appid: None }) => Call::new("GET", "/v1/topics", TOPIC),
            Noun::Topic(Topic::List { appid: Some(appid) }) => Call::new("GET", format!("/v1/topics/{appid}"), TOPIC),
            Noun::Topic(Topic::Show { appid, topic, ver }) => {
                Call::new("GET", format!("/v1/topics/{appid}/{topic}/{ver}"), TOPIC)
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
            Noun::Grant(Grant::List { appid }) => Call::new("GET", "/v1/grants", GRANT).with("appid", appid),
            Noun::Grant(Grant::RevokeSubscribe { appid, owner, topic, ver }) => Call::new("DELETE", "/v1/grants", DONE)
                .asking(format!("take from {appid} the right to read {owner}/{topic}?"))
                .body(subscribe_grant(&appid, &owner, &topic, ver)),
            Noun::Grant(Grant::RevokeRaw { appid, cluster, topic }) => Call::new("DELETE", "/v1/grants", DONE)
                .asking(format!("take from {appid} the right to publish by name to cluster {cluster}?"))
                .body(raw_grant(&appid, &cluster, topic)),
            Noun::Secret(Secret::Rotate { appid, side }) => {
                Call::new("POST", format!("/v1/apps/{appid}/secrets/{side}"), SECRET)
            }
            Noun::Secret(Secret::RevokePrevious { appid, side }) => {
                Call::new("DELETE", format!("/v1/apps/{appid}/secrets/{side}"), DONE)
                    .asking(format!("make the previous {side} secret of {appid} invalid now?"))
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
        println!("{} {}{}", call.method, call.path, shown_query(&call.query));
        if let Some(body) = &call.body {
            println!("{}", serde_json::to_string_pretty(body)?);
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
    let query: Vec<(&str, &str)> = call.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(client.request(call.method, &call.path, &query, call.body.as_ref())) {
        Ok(answer) => {
            table::print(&answer, call.columns, flags.output);
            Ok(ExitCode::SUCCESS)
        }
        Err(err) => {
            eprintln!("kateway: {err}");
            Ok(ExitCode::from(exit_code(&err)))
        }
    }
}

/// Exit codes of the CLI contract: 1 failed, 3 not found, 4 denied, 5 unreachable, 6 precondition.
fn exit_code(err: &ClientError) -> u8 {
    match err.status() {
        None => 5,
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

fn connect(flags: &Admin) -> Result<AdminClient> {
    let path = flags.credentials.clone().unwrap_or_else(|| PathBuf::from(credentials::FILE_NAME));
    let stored = Credentials::load(&path)?.unwrap_or_default();
    let from_env = |name: &str, stored: &str| std::env::var(name).unwrap_or_else(|_| stored.to_owned());
    let appid = from_env("KATEWAY_ADMIN_APPID", &stored.admin_appid);
    let key = from_env("KATEWAY_ADMIN_KEY", &stored.admin_key);
    if appid.is_empty() || key.is_empty() {
        bail!(
            "no admin credentials: name the file with --credentials, or set KATEWAY_ADMIN_APPID and KATEWAY_ADMIN_KEY"
        );
    }
    let manager = match (&flags.manager, stored.man.is_empty()) {
        (Some(url), _) => url.clone(),
        (None, false) => stored.man,
        (None, true) => "http://127.0.0.1:9193".to_owned(),
    };
    AdminClient::new(&manager, &appid, &key).with_context(|| format!("{manager} is no manager URL"))
}
