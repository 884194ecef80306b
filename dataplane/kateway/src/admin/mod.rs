//! `kateway admin`: apps, topics, grants, secrets, principals and nodes, through the manager's REST API and nothing else.
//!
//! A file for each group of commands; `call.rs` is what they are made into, `people.rs` how its answer reads.

mod call;
mod handoff;
mod jobs;
mod parked;
mod people;
mod principals;
mod tenants;

use self::handoff::Handoff;
use self::jobs::Job;
use self::people::say_as_people_do;
use self::principals::Principal;
use self::tenants::{App, Grant, Secret, Topic};
use crate::credentials::{self, Credentials, LOOKS_LIKE};
use crate::kafka_config::{Failed, KafkaConfig};
use crate::table::{self, Format};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use daemon::exit;
use manager::client::{AdminClient, ClientError};
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

pub use self::call::Call;

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

const INSTANCE: &[&str] = &["kind", "id", "zone", "version", "state", "started_at", "generation", "addresses"];
const OBEYED: &[&str] = &["id", "revision", "state", "lacking"];
const STATUS: &[&str] =
    &["id", "version", "uptime_s", "state", "shards", "connections", "registry", "loglevel", "options", "readiness"];

impl Noun {
    fn call(self) -> Call {
        match self {
            Noun::KafkaConfig(config) => config.call(),
            Noun::Handoff(handoff) => handoff.call(),
            Noun::Job(job) => job.call(),
            Noun::Clusters => Call::new("GET", "/v1/clusters", &["name", "up", "detail"]),
            Noun::Instances => Call::new("GET", "/v1/instances", INSTANCE).named(&["id"]),
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
            Noun::App(app) => app.call(),
            Noun::Topic(topic) => topic.call(),
            Noun::Grant(grant) => grant.call(),
            Noun::Secret(secret) => secret.call(),
        }
    }

    /// What is shown of an answer, where that is something in it.
    fn rows(&self, answer: &mut Value) {
        match self {
            Noun::Handoff(handoff) => handoff.rows(answer),
            Noun::Job(job) => job.rows(answer),
            Noun::Topic(topic) => topic.rows(answer),
            _ => {}
        }
    }
}

pub fn run(flags: Admin) -> Result<ExitCode> {
    let call = flags.noun.clone().call();
    if flags.dry_run {
        console::println!("{}", call.line());
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
    Ok(match runtime.block_on(call.send(&client)) {
        Ok(answer) => {
            let shown = Shown::of(&flags.noun, &call, answer, flags.output);
            console::print!("{}", shown.text);
            for why in &shown.complaints {
                eprintln!("kateway: {why}");
            }
            ExitCode::from(shown.code)
        }
        Err(err) => failed(&err, exit_code(&err)),
    })
}

/// What comes of an answer.
struct Shown {
    text: String,
    complaints: Vec<String>,
    code: u8,
}

impl Shown {
    fn of(noun: &Noun, call: &Call, mut answer: Value, output: Option<Format>) -> Shown {
        let mut complaints = parked::unreachable(&answer);
        let mut code = if complaints.is_empty() { exit::OK } else { exit::UNREACHABLE };
        let is_gone_already = answer.get("existed").is_some_and(|existed| *existed == false);
        if let Some(removed) = call.removes.as_ref().filter(|_| is_gone_already) {
            complaints.push(format!("there is no {}; nothing was removed", removed.what));
            code = exit::NOT_FOUND;
        }
        let format = output.unwrap_or_else(table::default_format);
        if format != Format::Json {
            noun.rows(&mut answer);
        }
        if let Some(rows) = answer.get_mut("rows").filter(|rows| rows.is_array()) {
            answer = rows.take();
        }
        if !matches!(format, Format::Json | Format::Jsonl) {
            if is_gone_already {
                return Shown { text: String::new(), complaints, code };
            }
            if let (Some(removed), Some(row)) = (&call.removes, answer.as_object_mut()) {
                // The manager says only that it is gone.
                row.insert("name".to_owned(), removed.name.as_str().into());
            }
            say_as_people_do(&mut answer, SystemTime::now());
        }
        let columns = if format == Format::Name { call.name } else { call.columns };
        Shown { text: table::render(&answer, columns, format), complaints, code }
    }
}

fn failed(why: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("kateway: {why}");
    ExitCode::from(code)
}

fn option_change(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, or KEY= to take it back")?;
    Ok((key.to_owned(), Some(value.to_owned()).filter(|value| !value.is_empty())))
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
    /// The file that is named, which must be one, or the one that lies here, if one does.
    pub fn stored(&self) -> Result<Option<Credentials>> {
        match &self.credentials {
            Some(path) => Credentials::named(path).map(Some),
            None => {
                let path = self.credentials_path();
                if path.exists() { Credentials::named(&path).map(Some) } else { Ok(None) }
            }
        }
    }

    fn credentials_path(&self) -> PathBuf {
        self.credentials.clone().unwrap_or_else(|| PathBuf::from(credentials::FILE_NAME))
    }
}

fn connect(flags: &Admin) -> Result<AdminClient> {
    connect_with(flags, |name| std::env::var(name).ok())
}

fn connect_with(flags: &Admin, env: impl Fn(&str) -> Option<String>) -> Result<AdminClient> {
    let from_env = |name: &str| env(name).filter(|value| !value.is_empty());
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
            let stored = flags.stored()?.context(
                "no admin credentials: name the file with --credentials, or set KATEWAY_ADMIN_APPID, KATEWAY_ADMIN_KEY \
                 and KATEWAY_MANAGER",
            )?;
            if stored.admin_appid.is_empty() || stored.admin_key.is_empty() {
                let why = "it has no admin_appid and admin_key";
                bail!("{} is no credentials file of an admin: {why}; {LOOKS_LIKE}", flags.credentials_path().display());
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
    use expect_test::{Expect, expect};
    use std::path::Path;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        admin: Admin,
    }

    fn parse(line: &str) -> Admin {
        let words = ["admin"].into_iter().chain(line.split(' '));
        <Line as clap::Parser>::try_parse_from(words).unwrap_or_else(|err| panic!("{line}: {err}")).admin
    }

    /// What a person or a program is told, on stdout and on stderr, and the exit code.
    fn shown(line: &str, answer: &Value) -> String {
        let flags = parse(line);
        let call = flags.noun.clone().call();
        let shown = Shown::of(&flags.noun, &call, answer.clone(), flags.output);
        let complaints: String = shown.complaints.iter().map(|why| format!("kateway: {why}\n")).collect();
        format!("$ {line}\n{}{complaints}{}\n", shown.text, shown.code)
    }

    fn check(lines: &[&str], answer: Value, expected: Expect) {
        expected.assert_eq(&lines.iter().map(|line| shown(line, &answer)).collect::<String>());
    }

    #[test]
    fn names_are_what_other_commands_take_and_nothing_else() {
        let row = json!({"kind": "kateway", "id": "gw-1", "num": 7, "name": "main", "appid": "shop", "topic": "orders",
            "ver": "v1", "side": "publish", "receipt": "AZ3c", "node": "gw-2", "cluster": "east", "partition": 3,
            "physical": "shop.orders.v1"});
        for (line, expected) in [
            ("clusters", "main"),
            ("instances", "gw-1"),
            ("status", "gw-1"),
            ("drain gw-1", "gw-1"),
            ("audit", "7"),
            ("app list", "shop"),
            ("app show shop", "shop"),
            ("app disable shop", "shop"),
            ("topic list", "shop orders v1"),
            ("topic list shop", "shop orders v1"),
            ("topic show shop orders v1", "shop orders v1"),
            ("topic create shop orders v1", "shop orders v1"),
            ("topic set shop orders v1 --partitions 2", "shop orders v1"),
            ("topic limit shop orders v1", "shop orders v1"),
            ("topic delete shop orders v1", "shop orders v1"),
            ("app delete shop", "shop"),
            ("secret rotate shop publish", "shop publish"),
            ("secret revoke-previous shop publish", "shop publish"),
            ("principal list", "main"),
            ("handoff parked", "AZ3c"),
            ("handoff refuse shop orders v1", "shop orders v1"),
            ("job parked", "gw-1"),
        ] {
            let flags = parse(&format!("{line} -o name"));
            let found = Shown::of(&flags.noun, &flags.noun.clone().call(), row.clone(), flags.output).text;
            assert_eq!(found, format!("{expected}\n"), "{line}");
        }
        let grants = json!([
            {"kind": "subscribe", "appid": "bank", "owner": "shop", "topic": "orders", "ver": null, "cluster": null},
            {"kind": "raw", "appid": "bank", "owner": null, "topic": "legacy", "ver": null, "cluster": "main"},
        ]);
        check(
            &["grant list -o name"],
            grants,
            expect![[r#"
            $ grant list -o name
            subscribe bank shop orders
            raw bank main legacy
            0
        "#]],
        );
    }

    #[test]
    fn what_was_not_there_is_said_and_is_an_exit_code_of_its_own() {
        let lines = [
            "app delete ghost -o table",
            "app delete ghost -o tsv",
            "app delete ghost -o name",
            "app delete ghost -o json",
            "topic delete shop orders v9 -o tsv",
            "principal delete ghost -o tsv",
            "grant revoke-subscribe bank shop orders -o tsv",
            "grant revoke-raw bank main -o tsv",
            "secret revoke-previous shop publish -o tsv",
        ];
        check(
            &lines,
            json!({"ok": 1, "existed": false}),
            expect![[r#"
            $ app delete ghost -o table
            kateway: there is no app ghost; nothing was removed
            3
            $ app delete ghost -o tsv
            kateway: there is no app ghost; nothing was removed
            3
            $ app delete ghost -o name
            kateway: there is no app ghost; nothing was removed
            3
            $ app delete ghost -o json
            {
              "existed": false,
              "ok": 1
            }
            kateway: there is no app ghost; nothing was removed
            3
            $ topic delete shop orders v9 -o tsv
            kateway: there is no topic shop orders v9; nothing was removed
            3
            $ principal delete ghost -o tsv
            kateway: there is no principal ghost; nothing was removed
            3
            $ grant revoke-subscribe bank shop orders -o tsv
            kateway: there is no grant subscribe bank shop orders; nothing was removed
            3
            $ grant revoke-raw bank main -o tsv
            kateway: there is no grant raw bank main; nothing was removed
            3
            $ secret revoke-previous shop publish -o tsv
            kateway: there is no previous publish secret of shop; nothing was removed
            3
        "#]],
        );
        check(
            &lines[..4],
            json!({"ok": 1, "existed": true}),
            expect![[r#"
            $ app delete ghost -o table
            NAME   EXISTED  LACKING
            ghost  true     -
            0
            $ app delete ghost -o tsv
            ghost	true	-
            0
            $ app delete ghost -o name
            ghost
            0
            $ app delete ghost -o json
            {
              "existed": true,
              "ok": 1
            }
            0
        "#]],
        );
    }

    #[test]
    fn partitions_are_rows_in_their_order() {
        let offsets = json!({"0": {"oldest": 0, "latest": 7827}, "10": {"oldest": 3, "latest": 3}, "2": {"oldest": 0, "latest": 1}});
        let lines =
            ["table", "tsv", "jsonl", "name"].map(|format| format!("topic partitions shop orders v1 -o {format}"));
        let lines = lines.each_ref().map(String::as_str);
        check(
            &lines,
            json!({"num": 3, "offsets": offsets}),
            expect![[r#"
            $ topic partitions shop orders v1 -o table
            PARTITION  OLDEST  LATEST
            0          0       7827
            2          0       1
            10         3       3
            0
            $ topic partitions shop orders v1 -o tsv
            0	0	7827
            2	0	1
            10	3	3
            0
            $ topic partitions shop orders v1 -o jsonl
            {"latest":7827,"oldest":0,"partition":0}
            {"latest":1,"oldest":0,"partition":2}
            {"latest":3,"oldest":3,"partition":10}
            0
            $ topic partitions shop orders v1 -o name
            0
            2
            10
            0
        "#]],
        );
    }

    #[test]
    fn no_cell_is_json() {
        let node = json!({"kind": "kateway", "id": "gw-1", "state": "up", "started_at": 0, "zone": "local",
            "addresses": {"man": "127.0.0.1:9193", "pub": "127.0.0.1:9191"}});
        check(
            &["instances -o table"],
            node,
            expect![[r#"
            $ instances -o table
            KIND     ID    ZONE   VERSION  STATE  STARTED_AT                GENERATION  ADDRESSES
            kateway  gw-1  local  -        up     1970-01-01T00:00:00.000Z  -           man=127.0.0.1:9193 pub=127.0.0.1:9191
            0
        "#]],
        );
        let status = json!({"id": "gw-1", "options": {}, "readiness": {"ready": true, "clusters": {"main": {"up": true}}},
            "connections": {"pub": 2, "sub": 0}});
        check(
            &["status -o tsv"],
            status,
            expect![[r#"
            $ status -o tsv
            gw-1	-	-	-	-	pub=2 sub=0	-	-	-	clusters.main.up=true ready=true
            0
        "#]],
        );
        let app = json!({"appid": "shop", "limits": {"publish_bytes": 9, "connections": 2}, "addresses": ["10.0.0.0/8", "::1"]});
        check(
            &["app show shop -o tsv"],
            app,
            expect![[r#"
            $ app show shop -o tsv
            shop	-	-	-	connections=2 publish_bytes=9	10.0.0.0/8,::1	-	-
            0
        "#]],
        );
    }

    #[test]
    fn the_manager_is_asked_for_what_is_said_and_no_more() {
        let lines = [
            "app create shop --cluster main",
            "app set shop --cluster east",
            "app enable shop",
            "app disable shop",
            "app limit shop --publish-bytes 9 --connections 0",
            "app delete shop --cascade",
            "topic create shop orders v1 --partitions 8 --replicas 3 --retention-hours 1.5 --adopt",
            "topic set shop orders v1 --partitions 16 --retention-bytes -1 --compression lz4",
            "topic set shop orders v1 --message-bytes-max 2000000 --strip-2017-tags true --partitioner fnv1a",
            "topic enable shop orders v1",
            "topic disable shop orders v1",
            "topic limit shop orders v1 --publish-messages 5",
            "grant subscribe bank shop orders",
            "secret rotate shop publish --replace-current",
        ];
        let told = lines.map(|line| {
            let call = parse(line).noun.call();
            let asks = call.question.as_ref().map(|question| format!("    asks: {question}\n")).unwrap_or_default();
            format!("{line}\n    {}\n{asks}", call.shown())
        });
        expect![[r#"
            app create shop --cluster main
                POST /v1/apps {"appid":"shop","cluster":"main"}
            app set shop --cluster east
                PUT /v1/apps/shop {"cluster":"east"}
            app enable shop
                PUT /v1/apps/shop {"enabled":true}
            app disable shop
                PUT /v1/apps/shop {"enabled":false}
                asks: let app shop neither publish nor subscribe from now on?
            app limit shop --publish-bytes 9 --connections 0
                PUT /v1/apps/shop/limits?publish_bytes=9&connections=0
            app delete shop --cascade
                DELETE /v1/apps/shop?cascade=1
                asks: remove app shop, its topics' registration and its grants?
            topic create shop orders v1 --partitions 8 --replicas 3 --retention-hours 1.5 --adopt
                POST /v1/topics/shop/orders/v1?partitions=8&retention.hours=1.5&replicas=3&adopt=1
            topic set shop orders v1 --partitions 16 --retention-bytes -1 --compression lz4
                PUT /v1/topics/shop/orders/v1?partitions=16&retention.bytes=-1&compression=lz4
            topic set shop orders v1 --message-bytes-max 2000000 --strip-2017-tags true --partitioner fnv1a
                PUT /v1/topics/shop/orders/v1?partitioner=fnv1a&message_bytes_max=2000000&strip_2017_tags=1
            topic enable shop orders v1
                PUT /v1/topics/shop/orders/v1?enabled=1
            topic disable shop orders v1
                PUT /v1/topics/shop/orders/v1?enabled=0
                asks: let nobody publish to shop/orders/v1 or read it from now on?
            topic limit shop orders v1 --publish-messages 5
                PUT /v1/topics/shop/orders/v1/limits?publish_messages=5
            grant subscribe bank shop orders
                POST /v1/grants {"appid":"bank","kind":"subscribe","owner":"shop","topic":"orders","ver":null}
            secret rotate shop publish --replace-current
                POST /v1/apps/shop/secrets/publish?replace=current
        "#]]
        .assert_eq(&told.concat());
        let nothing = ["admin", "topic", "set", "shop", "orders", "v1"];
        assert!(<Line as clap::Parser>::try_parse_from(nothing).is_err(), "nothing is changed by saying nothing");
    }

    #[test]
    fn a_file_that_is_named_is_there_and_is_one_of_credentials() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).expect("written");
        };
        file("passwd", "root:x:0:0:root:/root:/bin/bash\n");
        file("package.json", r#"{"name":"shop"}"#);
        file("half.json", r#"{"admin_appid":"admin"}"#);
        file("good.json", r#"{"admin_appid":"admin","admin_key":"k"}"#);
        let told = |name: &str| {
            let path = dir.path().join(name);
            let flags = Admin { credentials: Some(path), ..parse("clusters") };
            let told = connect_with(&flags, |_| None).map_or_else(|err| format!("{err:#}"), |_| "connects".to_owned());
            told.replace(&dir.path().display().to_string(), "DIR") + "\n"
        };
        let names = ["nonexist", "passwd", "package.json", "half.json", ".", "good.json"];
        expect![[r#"
            there is no file DIR/nonexist; one looks like {"man":"http://127.0.0.1:9193","admin_appid":"admin","admin_key":"…"}, and a quickstart or a first serve writes it to its data directory, as credentials.json
            DIR/passwd is no credentials file: expected value at line 1 column 1; one looks like {"man":"http://127.0.0.1:9193","admin_appid":"admin","admin_key":"…"}, and a quickstart or a first serve writes it to its data directory, as credentials.json
            DIR/package.json is no credentials file of an admin: it has no admin_appid and admin_key; one looks like {"man":"http://127.0.0.1:9193","admin_appid":"admin","admin_key":"…"}, and a quickstart or a first serve writes it to its data directory, as credentials.json
            DIR/half.json is no credentials file of an admin: it has no admin_appid and admin_key; one looks like {"man":"http://127.0.0.1:9193","admin_appid":"admin","admin_key":"…"}, and a quickstart or a first serve writes it to its data directory, as credentials.json
            cannot read DIR/.: Is a directory (os error 21)
            connects
        "#]].assert_eq(&names.map(told).concat());
        // None is named, and none lies here.
        assert!(!Path::new(credentials::FILE_NAME).exists(), "tests run where there is none");
        let err = connect_with(&parse("clusters"), |_| None).map(drop).unwrap_err();
        assert!(err.to_string().starts_with("no admin credentials: name the file with --credentials, or set"), "{err}");
    }
}
