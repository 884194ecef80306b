//! `kateway admin handoff`: what gateways keep of publishes that Kafka could not take.

use super::call::Call;
use super::parked::{Kind, Said, Selected, Which, show_nodes, show_parts};
use super::tenants::TOPIC_NAME;
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
        which: Which<Messages>,
    },
    /// Have parked messages delivered again.
    Replay {
        #[command(flatten)]
        selected: Selected<Messages>,
    },
    /// Let parked messages go for good.
    Drop {
        #[command(flatten)]
        selected: Selected<Messages>,
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

/// What can be said of parked messages, and of no jobs.
#[derive(Debug, Clone, Args)]
pub struct Messages {
    /// For this topic, by its name in Kafka.
    #[arg(long, value_name = "NAME", conflicts_with = "topic")]
    physical: Option<String>,
    #[arg(long)]
    cluster: Option<String>,
}

impl Kind for Messages {
    const PATH: &'static str = "/v1/handoff";
    const ONE: &'static str = "parked message";
    const IDS: &'static str = "receipts";
    const IDS_IN_HELP: &'static str = "RECEIPTS";
    const IDS_HELP: &'static str = "Receipts, as `parked` shows them";
    const COLUMNS: &'static [&'static str] =
        &["receipt", "node", "appid", "cluster", "physical", "partition", "accepted_at", "reason", "why"];
    const COLUMNS_DONE: &'static [&'static str] = &["node", "records", "more"];

    fn said(&self) -> Vec<Said<'_>> {
        vec![("physical", "for Kafka topic", &self.physical), ("cluster", "for cluster", &self.cluster)]
    }
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
const ADOPTED: &[&str] = &["node", "from", "records", "bytes"];

impl Handoff {
    pub fn call(self) -> Call {
        match self {
            Handoff::Status { node, partitions } => {
                let columns = if partitions { PARTITIONS } else { NODES };
                let call = Call::new("GET", "/v1/handoff", columns).with("node", node);
                if partitions { call.named(&["cluster", "physical", "partition"]) } else { call }
            }
            Handoff::Parked { which } => which.list(),
            Handoff::Replay { selected } => selected.replay(),
            Handoff::Drop { selected } => selected.drop(),
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
            Handoff::Status { partitions: true, .. } => show_parts(answer, "domains"),
            Handoff::Status { .. } | Handoff::Replay { .. } | Handoff::Drop { .. } => show_nodes(answer),
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
                    .named(TOPIC_NAME)
                    .with("handoff", Some(u8::from(allowed)))
            }
            _ => Call::new("PUT", format!("/v1/apps/{appid}"), &["appid", "handoff"]).body(json!({"handoff": allowed})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::parked::unreachable;
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
            table::render(&rows, handoff.call().columns, Format::Table)
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
