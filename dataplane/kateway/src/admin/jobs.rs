//! `kateway admin job`: messages that gateways keep until they are due.

use super::call::Call;
use super::parked::{Kind, Said, Selected, Which, show_nodes, show_parts};
use super::people::epoch_ms;
use super::tenants::TOPIC_NAME;
use clap::{Args, Subcommand};
use serde_json::Value;

/// Commands of `kateway admin job`.
#[derive(Debug, Clone, Subcommand)]
pub enum Job {
    /// How many wait, for which topics, at each gateway.
    List {
        /// Only this gateway, of `instances`.
        #[arg(long, value_name = "ID")]
        node: Option<String>,
        /// A row for each gateway instead of each topic.
        #[arg(long)]
        totals: bool,
    },
    /// Jobs whose time came and that cannot fire, with the reason.
    Parked {
        #[command(flatten)]
        which: Which<Jobs>,
    },
    /// Have parked jobs tried again.
    Replay {
        #[command(flatten)]
        selected: Selected<Jobs>,
    },
    /// Let parked jobs go for good.
    Drop {
        #[command(flatten)]
        selected: Selected<Jobs>,
    },
    /// What became of a job.
    Show(One),
    /// Have a job never fire.
    Delete(One),
    /// Have a job be due at another time.
    #[command(before_help = RESCHEDULED)]
    Reschedule {
        #[command(flatten)]
        one: One,
        #[command(flatten)]
        when: When,
    },
    /// Have a job fire now.
    Fire(One),
    /// Have a topic's jobs wait, however late.
    Pause(Topic),
    /// Have a topic's jobs go on.
    Resume(Topic),
}

/// Nothing can be said of parked jobs alone.
#[derive(Debug, Clone, Args)]
pub struct Jobs {}

impl Kind for Jobs {
    const PATH: &'static str = "/v1/jobs";
    const ONE: &'static str = "parked job";
    const IDS: &'static str = "ids";
    const IDS_IN_HELP: &'static str = "IDS";
    const IDS_HELP: &'static str = "Ids, as `parked` shows them";
    const COLUMNS: &'static [&'static str] =
        &["id", "node", "appid", "topic", "ver", "due", "parked_at", "reason", "why"];
    const COLUMNS_DONE: &'static [&'static str] = &["node", "jobs", "more"];

    fn said(&self) -> Vec<Said<'_>> {
        Vec::new()
    }
}

/// A topic version of an app.
#[derive(Debug, Clone, Args)]
pub struct Topic {
    /// Whose.
    #[arg(long = "app", value_name = "APPID")]
    appid: String,
    /// Where they are published when they are due.
    #[arg(long)]
    topic: String,
    /// Its version.
    #[arg(long)]
    ver: String,
    /// At this gateway only.
    #[arg(long, value_name = "ID")]
    node: Option<String>,
}

/// One job.
#[derive(Debug, Clone, Args)]
pub struct One {
    #[command(flatten)]
    of: Topic,
    /// As whoever added it was told.
    #[arg(long)]
    id: String,
}

const RESCHEDULED: &str = "\
Examples:
  kateway admin job reschedule --app shop --topic orders --ver v1 --id 5188146770730811648 --delay 30m
  kateway admin job reschedule --app shop --topic orders --ver v1 --id 5188146770730811648 --due 2027-01-01T08:00:00Z";

/// A job's new time, said in one way.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub struct When {
    /// RFC 3339 (2027-01-01T08:00:00Z), or seconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = epoch_ms)]
    due: Option<i64>,
    /// How long from now, by the manager's clock: 250ms, 30s, 5m, 2h, or seconds.
    #[arg(long, value_name = "TIME", value_parser = delay)]
    delay: Option<String>,
}

/// The manager parses it; what it would refuse is a mistake in the command already.
fn delay(text: &str) -> Result<String, String> {
    let parsed = model::duration::parse(text).map(|_| text.to_owned());
    parsed.ok_or_else(|| "expected seconds, or a number with a unit: 250ms, 30s, 5m, 2h; a year at most".to_owned())
}

const QUEUES: &[&str] = &["node", "appid", "topic", "ver", "pending", "parked", "paused"];
const NODES: &[&str] = &[
    "node",
    "enabled",
    "pending",
    "due",
    "in_flight",
    "parked",
    "fired",
    "lost",
    "memory_bytes",
    "tables",
    "table_bytes",
    "log_segments",
    "log_bytes",
    "read_only",
];
const SHOWN: &[&str] = &["id", "node", "state", "due", "attempts", "parked_at", "reason", "why"];
const CHANGED: &[&str] = &["id", "node", "due"];
const PAUSED: &[&str] = &["node", "paused"];

impl Job {
    pub fn call(self) -> Call {
        match self {
            Job::List { node, totals } => {
                let call = Call::new("GET", "/v1/jobs", if totals { NODES } else { QUEUES }).with("node", node);
                if totals { call } else { call.named(TOPIC_NAME) }
            }
            Job::Parked { which } => which.list(),
            Job::Replay { selected } => selected.replay(),
            Job::Drop { selected } => selected.drop(),
            Job::Show(one) => one.call("GET", "", SHOWN),
            Job::Delete(one) => {
                let question = format!("have job {} of {} never fire?", one.id, one.of.said());
                one.call("DELETE", "", CHANGED).asking(question)
            }
            Job::Reschedule { one, when: When { due, delay } } => {
                one.call("PUT", "", CHANGED).with("due", due).with("delay", delay)
            }
            Job::Fire(one) => one.call("POST", "/fire", CHANGED),
            Job::Pause(topic) => topic.call("PUT", "/pause", PAUSED),
            Job::Resume(topic) => topic.call("PUT", "/resume", PAUSED),
        }
    }

    /// What is shown of an answer: gateways, or their topics.
    pub fn rows(&self, answer: &mut Value) {
        match self {
            Job::List { totals: false, .. } => show_parts(answer, "queues"),
            Job::List { .. } | Job::Replay { .. } | Job::Drop { .. } | Job::Pause(_) | Job::Resume(_) => {
                show_nodes(answer);
            }
            Job::Parked { .. } | Job::Show(_) | Job::Delete(_) | Job::Reschedule { .. } | Job::Fire(_) => {}
        }
    }
}

impl Topic {
    fn call(self, method: &'static str, suffix: &str, columns: &'static [&'static str]) -> Call {
        let Topic { appid, topic, ver, node } = self;
        Call::new(method, format!("/v1/jobs/{appid}/{topic}/{ver}{suffix}"), columns).with("node", node)
    }

    fn said(&self) -> String {
        let Topic { appid, topic, ver, .. } = self;
        format!("{appid}/{topic}/{ver}")
    }
}

impl One {
    fn call(self, method: &'static str, suffix: &str, columns: &'static [&'static str]) -> Call {
        let One { of, id } = self;
        of.call(method, suffix, columns).with("id", Some(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{self, Format};
    use expect_test::expect;
    use serde_json::json;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(subcommand)]
        job: Job,
    }

    fn parse(line: &str) -> Result<Job, clap::Error> {
        let words = ["job"].into_iter().chain(line.split(' '));
        <Line as clap::Parser>::try_parse_from(words).map(|line| line.job)
    }

    #[test]
    fn the_manager_is_asked_for_what_is_said_and_no_more() {
        let told = [
            "list",
            "list --node gw-1 --totals",
            "parked",
            "parked --app shop --topic orders --ver v1 --reason topic_gone --node gw-1",
            "replay 51881 51882",
            "replay --app shop --all",
            "drop --app shop --topic orders --ver v1",
            "drop 51881 --node gw-1",
            "show --app shop --topic orders --ver v1 --id 51881",
            "delete --app shop --topic orders --ver v1 --id 51881 --node gw-1",
            "reschedule --app shop --topic orders --ver v1 --id 51881 --due 2027-01-01T08:00:00Z",
            "reschedule --app shop --topic orders --ver v1 --id 51881 --due 1798790400",
            "reschedule --app shop --topic orders --ver v1 --id 51881 --delay 30m",
            "fire --app shop --topic orders --ver v1 --id 51881",
            "pause --app shop --topic orders --ver v1",
            "resume --app shop --topic orders --ver v1 --node gw-1",
        ]
        .map(|line| format!("{line}\n    {}\n", parse(line).unwrap().call().shown()));
        expect![[r#"
            list
                GET /v1/jobs
            list --node gw-1 --totals
                GET /v1/jobs?node=gw-1
            parked
                GET /v1/jobs/parked?rows=1000
            parked --app shop --topic orders --ver v1 --reason topic_gone --node gw-1
                GET /v1/jobs/parked?rows=1000&appid=shop&topic=orders&ver=v1&reason=topic_gone&node=gw-1
            replay 51881 51882
                POST /v1/jobs/replay {"ids":["51881","51882"]}
            replay --app shop --all
                POST /v1/jobs/replay?appid=shop {"all":true}
            drop --app shop --topic orders --ver v1
                POST /v1/jobs/drop?appid=shop {"topic":"orders","ver":"v1"}
            drop 51881 --node gw-1
                POST /v1/jobs/drop?node=gw-1 {"ids":["51881"]}
            show --app shop --topic orders --ver v1 --id 51881
                GET /v1/jobs/shop/orders/v1?id=51881
            delete --app shop --topic orders --ver v1 --id 51881 --node gw-1
                DELETE /v1/jobs/shop/orders/v1?node=gw-1&id=51881
            reschedule --app shop --topic orders --ver v1 --id 51881 --due 2027-01-01T08:00:00Z
                PUT /v1/jobs/shop/orders/v1?id=51881&due=1798790400000
            reschedule --app shop --topic orders --ver v1 --id 51881 --due 1798790400
                PUT /v1/jobs/shop/orders/v1?id=51881&due=1798790400000
            reschedule --app shop --topic orders --ver v1 --id 51881 --delay 30m
                PUT /v1/jobs/shop/orders/v1?id=51881&delay=30m
            fire --app shop --topic orders --ver v1 --id 51881
                POST /v1/jobs/shop/orders/v1/fire?id=51881
            pause --app shop --topic orders --ver v1
                PUT /v1/jobs/shop/orders/v1/pause
            resume --app shop --topic orders --ver v1 --node gw-1
                PUT /v1/jobs/shop/orders/v1/resume?node=gw-1
        "#]]
        .assert_eq(&told.concat());
    }

    #[test]
    fn what_says_half_of_a_topic_or_no_time_is_no_command() {
        for line in [
            "parked --topic orders --ver v1",
            "parked --app shop --topic orders",
            "show --app shop --topic orders --ver v1",
            "delete --id 51881",
            "pause --app shop",
            "reschedule --app shop --topic orders --ver v1 --id 51881",
            "reschedule --app shop --topic orders --ver v1 --id 51881 --due tomorrow",
            "reschedule --app shop --topic orders --ver v1 --id 51881 --delay tomorrow",
            "reschedule --app shop --topic orders --ver v1 --id 51881 --delay 30m --due 1798790400",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_help_of_reschedule_says_both_ways_with_an_example_of_each() {
        let mut line = <Line as clap::CommandFactory>::command();
        let help = line.find_subcommand_mut("reschedule").expect("it is there").render_help().to_string();
        expect![[r#"
            Examples:
              kateway admin job reschedule --app shop --topic orders --ver v1 --id 5188146770730811648 --delay 30m
              kateway admin job reschedule --app shop --topic orders --ver v1 --id 5188146770730811648 --due 2027-01-01T08:00:00Z

            Have a job be due at another time

            Usage: reschedule [OPTIONS] --app <APPID> --topic <TOPIC> --ver <VER> --id <ID> <--due <TIME>|--delay <TIME>>

            Options:
                  --app <APPID>    Whose
                  --topic <TOPIC>  Where they are published when they are due
                  --ver <VER>      Its version
                  --node <ID>      At this gateway only
                  --id <ID>        As whoever added it was told
                  --due <TIME>     RFC 3339 (2027-01-01T08:00:00Z), or seconds since 1970
                  --delay <TIME>   How long from now, by the manager's clock: 250ms, 30s, 5m, 2h, or seconds
              -h, --help           Print help
        "#]].assert_eq(&help);
    }

    #[test]
    fn whoever_drops_or_deletes_is_asked_with_what() {
        for (line, expected) in [
            ("drop 1 2 --node gw-1", Some("drop 2 parked jobs at gateway gw-1 for good?")),
            ("drop --app shop --all", Some("drop all parked jobs of app shop for good?")),
            ("delete --app shop --topic orders --ver v1 --id 7", Some("have job 7 of shop/orders/v1 never fire?")),
            ("replay --all", None),
            ("show --app shop --topic orders --ver v1 --id 7", None),
        ] {
            assert_eq!(parse(line).unwrap().call().question.as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn rows_are_topics_or_gateways() {
        let queue = json!({"appid": "shop", "topic": "orders", "ver": "v1", "pending": 7, "parked": 2, "paused": true});
        let answer = json!({
            "nodes": [
                {"node": "gw-1", "enabled": true, "pending": 7, "due": 1, "in_flight": 0, "parked": 2, "fired": 9,
                 "lost": 0, "memory_bytes": 1, "tables": 1, "table_bytes": 2, "log_segments": 1, "log_bytes": 3,
                 "read_only": false, "queues": [queue]},
                {"node": "gw-2", "enabled": false, "pending": 0, "parked": 0, "queues": []},
            ],
            "unreachable": [],
        });
        let shown = |line: &str| {
            let (job, mut rows) = (parse(line).unwrap(), answer.clone());
            job.rows(&mut rows);
            table::render(&rows, job.call().columns, Format::Table)
        };
        expect![[r#"
            NODE  APPID  TOPIC   VER  PENDING  PARKED  PAUSED
            gw-1  shop   orders  v1   7        2       true
            NODE  ENABLED  PENDING  DUE  IN_FLIGHT  PARKED  FIRED  LOST  MEMORY_BYTES  TABLES  TABLE_BYTES  LOG_SEGMENTS  LOG_BYTES  READ_ONLY
            gw-1  true     7        1    0          2       9      0     1             1       2            1             3          false
            gw-2  false    0        -    -          0       -      -     -             -       -            -             -          -
        "#]].assert_eq(&(shown("list") + &shown("list --totals")));
    }
}
