//! `kateway admin handoff`: what gateways keep of publishes that Kafka could not take.

use crate::admin::Call;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Commands of `kateway admin handoff`.
#[derive(Debug, Clone, Subcommand)]
pub enum Handoff {
    /// How much waits at each gateway.
    Status {
        /// Only this gateway, of `instances`.
        #[arg(long, value_name = "ID")]
        node: Option<String>,
        /// A row for each partition that does not go to Kafka straight away.
        #[arg(long)]
        partitions: bool,
    },
    /// Messages that were accepted and cannot be delivered, with the reason.
    Parked {
        #[command(flatten)]
        which: Which,
    },
    /// Have parked messages delivered again.
    Replay {
        #[command(flatten)]
        selected: Selected,
    },
    /// Let parked messages go for good.
    Drop {
        #[command(flatten)]
        selected: Selected,
    },
    /// Have a gateway deliver what one that is dead has left in their data directory.
    Adopt {
        /// The node that is dead.
        from: String,
        /// Who takes it over; not given: the one whose manager answers.
        #[arg(long, value_name = "ID")]
        node: Option<String>,
    },
    /// Let gateways keep publishes of an app, or to one of its topics, while Kafka is away.
    Allow(Subject),
    /// Have such publishes refused; what is kept already is delivered.
    Refuse(Subject),
}

/// An app, or one of its topic versions.
#[derive(Debug, Clone, Args)]
pub struct Subject {
    appid: String,
    #[arg(requires = "ver")]
    topic: Option<String>,
    ver: Option<String>,
}

/// Which parked messages.
#[derive(Debug, Clone, Args)]
pub struct Which {
    /// Of this app.
    #[arg(long = "app", value_name = "APPID")]
    appid: Option<String>,
    /// For this topic of the app.
    #[arg(long, requires_all = ["appid", "ver"])]
    topic: Option<String>,
    /// Its version.
    #[arg(long, requires = "topic")]
    ver: Option<String>,
    /// For this topic, by its name in Kafka.
    #[arg(long, value_name = "NAME", conflicts_with = "topic")]
    physical: Option<String>,
    #[arg(long)]
    cluster: Option<String>,
    /// With this reason, as `parked` shows it.
    #[arg(long)]
    reason: Option<String>,
    /// At this gateway only.
    #[arg(long, value_name = "ID")]
    node: Option<String>,
}

/// Which of them are changed: by their receipts, by what they have in common, or all.
#[derive(Debug, Clone, Args)]
pub struct Selected {
    /// Receipts, as `parked` shows them.
    receipts: Vec<String>,
    #[command(flatten)]
    which: Which,
    /// All of them (of the app, with --app).
    #[arg(long)]
    all: bool,
}

const NODES: &[&str] = &[
    "node",
    "enabled",
    "device",
    "records",
    "bytes",
    "parked",
    "oldest_at",
    "disk_bytes",
    "budget_bytes",
    "free_bytes",
];
const PARTITIONS: &[&str] =
    &["node", "cluster", "physical", "partition", "appid", "state", "since", "records", "bytes", "left_s", "why"];
const PARKED: &[&str] =
    &["receipt", "node", "appid", "cluster", "physical", "partition", "accepted_at", "reason", "why"];
const DONE: &[&str] = &["node", "records", "more"];
const ADOPTED: &[&str] = &["node", "from", "records", "bytes"];

impl Handoff {
    pub fn call(self) -> Call {
        match self {
            Handoff::Status { node, partitions } => {
                let columns = if partitions { PARTITIONS } else { NODES };
                Call::new("GET", "/v1/handoff", columns).with("node", node)
            }
            Handoff::Parked { which } => {
                let Which { appid, topic, ver, physical, cluster, reason, node } = which;
                Call::list("/v1/handoff/parked", PARKED)
                    .with("appid", appid)
                    .with("topic", topic)
                    .with("ver", ver)
                    .with("physical", physical)
                    .with("cluster", cluster)
                    .with("reason", reason)
                    .with("node", node)
            }
            Handoff::Replay { selected } => selected.call("/v1/handoff/replay"),
            Handoff::Drop { selected } => {
                let question = format!("drop {} for good?", selected.said());
                selected.call("/v1/handoff/drop").asking(question)
            }
            Handoff::Adopt { from, node } => {
                let mut body = json!({"from": from});
                if let Some(node) = node {
                    body["node"] = node.into();
                }
                Call::new("POST", "/v1/handoff/adopt", ADOPTED).body(body)
            }
            Handoff::Allow(subject) => subject.call(true),
            Handoff::Refuse(subject) => subject.call(false),
        }
    }

    /// What is shown of an answer: its gateways, or their partitions.
    pub fn rows(&self, answer: &mut Value) {
        match self {
            Handoff::Status { partitions: true, .. } => {
                let nodes = answer["nodes"].as_array_mut().map(std::mem::take).unwrap_or_default();
                let rows = nodes.into_iter().flat_map(|mut node| {
                    let domains = node["domains"].as_array_mut().map(std::mem::take).unwrap_or_default();
                    let id = node["node"].take();
                    domains.into_iter().map(move |mut domain| {
                        domain["node"] = id.clone();
                        domain
                    })
                });
                *answer = rows.collect();
            }
            Handoff::Status { .. } | Handoff::Replay { .. } | Handoff::Drop { .. } => *answer = answer["nodes"].take(),
            Handoff::Parked { .. } | Handoff::Adopt { .. } | Handoff::Allow(_) | Handoff::Refuse(_) => {}
        }
    }
}

impl Subject {
    fn call(self, allowed: bool) -> Call {
        let Subject { appid, topic, ver } = self;
        match (topic, ver) {
            (Some(topic), Some(ver)) => {
                Call::new("PUT", format!("/v1/topics/{appid}/{topic}/{ver}"), &["appid", "topic", "ver", "handoff"])
                    .with("handoff", Some(u8::from(allowed)))
            }
            _ => Call::new("PUT", format!("/v1/apps/{appid}"), &["appid", "handoff"]).body(json!({"handoff": allowed})),
        }
    }
}

impl Selected {
    fn call(self, path: &'static str) -> Call {
        let Selected { receipts, which, all } = self;
        let Which { appid, topic, ver, physical, cluster, reason, node } = which;
        let fields = [
            ("receipts", (!receipts.is_empty()).then(|| receipts.into())),
            ("topic", topic.map(Value::from)),
            ("ver", ver.map(Value::from)),
            ("physical", physical.map(Value::from)),
            ("cluster", cluster.map(Value::from)),
            ("reason", reason.map(Value::from)),
            ("all", all.then(|| true.into())),
        ];
        let body = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        Call::new("POST", path, DONE).with("appid", appid).with("node", node).body(Value::Object(body.collect()))
    }

    /// As a person is asked about them.
    fn said(&self) -> String {
        let Selected { receipts, which, all } = self;
        let mut said = match (receipts.len(), all) {
            (0, true) => "all parked messages".to_owned(),
            (0, false) => "parked messages".to_owned(),
            (1, _) => "1 parked message".to_owned(),
            (count, _) => format!("{count} parked messages"),
        };
        for (what, value) in [
            ("of app", &which.appid),
            ("for topic", &which.topic),
            ("in version", &which.ver),
            ("for Kafka topic", &which.physical),
            ("for cluster", &which.cluster),
            ("with reason", &which.reason),
            ("at gateway", &which.node),
        ] {
            if let Some(value) = value {
                said.push_str(&format!(" {what} {value}"));
            }
        }
        said
    }
}

/// Gateways that gave no answer, each in a sentence: whoever reads the rows is told that there may be more.
pub fn unreachable(answer: &Value) -> Vec<String> {
    let missing = answer["unreachable"].as_array().into_iter().flatten();
    missing.filter_map(|gone| gone["why"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{self, Format};
    use expect_test::expect;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(subcommand)]
        handoff: Handoff,
    }

    fn parse(line: &str) -> Result<Handoff, clap::Error> {
        let words = ["handoff"].into_iter().chain(line.split(' '));
        <Line as clap::Parser>::try_parse_from(words).map(|line| line.handoff)
    }

    #[test]
    fn the_manager_is_asked_for_what_is_said_and_no_more() {
        let told = [
            "status",
            "status --node gw-1 --partitions",
            "parked",
            "parked --app shop --topic orders --ver v1 --reason no_such_topic",
            "parked --physical legacy --cluster main --node gw-1",
            "replay AZ3c AZ3d",
            "replay --app shop --all",
            "drop --app shop --topic orders --ver v1",
            "drop AZ3c --node gw-1",
            "drop --all",
            "adopt 7d1e",
            "adopt 7d1e --node 5f0c",
            "allow shop",
            "refuse shop",
            "refuse shop orders v1",
            "allow shop orders v1",
        ]
        .map(|line| format!("{line}\n    {}\n", parse(line).unwrap().call().shown()));
        expect![[r#"
            status
                GET /v1/handoff
            status --node gw-1 --partitions
                GET /v1/handoff?node=gw-1
            parked
                GET /v1/handoff/parked?rows=1000
            parked --app shop --topic orders --ver v1 --reason no_such_topic
                GET /v1/handoff/parked?rows=1000&appid=shop&topic=orders&ver=v1&reason=no_such_topic
            parked --physical legacy --cluster main --node gw-1
                GET /v1/handoff/parked?rows=1000&physical=legacy&cluster=main&node=gw-1
            replay AZ3c AZ3d
                POST /v1/handoff/replay {"receipts":["AZ3c","AZ3d"]}
            replay --app shop --all
                POST /v1/handoff/replay?appid=shop {"all":true}
            drop --app shop --topic orders --ver v1
                POST /v1/handoff/drop?appid=shop {"topic":"orders","ver":"v1"}
            drop AZ3c --node gw-1
                POST /v1/handoff/drop?node=gw-1 {"receipts":["AZ3c"]}
            drop --all
                POST /v1/handoff/drop {"all":true}
            adopt 7d1e
                POST /v1/handoff/adopt {"from":"7d1e"}
            adopt 7d1e --node 5f0c
                POST /v1/handoff/adopt {"from":"7d1e","node":"5f0c"}
            allow shop
                PUT /v1/apps/shop {"handoff":true}
            refuse shop
                PUT /v1/apps/shop {"handoff":false}
            refuse shop orders v1
                PUT /v1/topics/shop/orders/v1?handoff=0
            allow shop orders v1
                PUT /v1/topics/shop/orders/v1?handoff=1
        "#]]
        .assert_eq(&told.concat());
    }

    #[test]
    fn what_says_half_of_a_topic_is_no_command() {
        for line in [
            "parked --topic orders --ver v1",
            "parked --app shop --topic orders",
            "parked --app shop --ver v1",
            "drop --app shop --topic orders --ver v1 --physical legacy",
            "refuse shop orders",
            "refuse",
            "adopt",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn rows_are_gateways_or_their_partitions_and_who_is_missing_is_told() {
        let domain = json!({"cluster": "main", "physical": "shop.orders.v1", "partition": 3, "appid": "shop",
            "state": "draining", "since": 0, "records": 7, "bytes": 512, "why": "no leader", "left_s": 2});
        let answer = json!({
            "nodes": [
                {"node": "gw-1", "enabled": true, "device": "mmap", "records": 7, "bytes": 512, "parked": 0,
                 "oldest_at": 0, "disk_bytes": 1, "budget_bytes": 2, "free_bytes": 3, "domains": [domain]},
                {"node": "gw-2", "enabled": false, "records": 0, "bytes": 0, "domains": []},
            ],
            "unreachable": [{"node": "gw-3", "why": "gateway gw-3 gave no answer"}],
        });
        let shown = |line: &str| {
            let (handoff, mut rows) = (parse(line).unwrap(), answer.clone());
            handoff.rows(&mut rows);
            table::render(&rows, handoff.call().columns(), Format::Table)
        };
        expect![[r#"
            NODE  ENABLED  DEVICE  RECORDS  BYTES  PARKED  OLDEST_AT  DISK_BYTES  BUDGET_BYTES  FREE_BYTES
            gw-1  true     mmap    7        512    0       0          1           2             3
            gw-2  false    -       0        0      -       -          -           -             -
            NODE  CLUSTER  PHYSICAL        PARTITION  APPID  STATE     SINCE  RECORDS  BYTES  LEFT_S  WHY
            gw-1  main     shop.orders.v1  3          shop   draining  0      7        512    2       no leader
        "#]]
        .assert_eq(&(shown("status") + &shown("status --partitions")));
        assert_eq!(unreachable(&answer), ["gateway gw-3 gave no answer"]);
        assert!(unreachable(&json!([])).is_empty());
    }
}
