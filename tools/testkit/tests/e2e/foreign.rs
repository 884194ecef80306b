//! Other people's clients, in the versions that stumbled over the embedded broker and in the newest, as a user of
//! quickstart brings them along.
//!
//! Each does the same with Apache Kafka, where everything is found that is found at the embedded broker, but for what
//! [`Seen`] says. That also shows that a client's program can tell the difference.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use testkit::foreign::{self, Client, Finding, findings};
use testkit::gateway::Quickstart;
use testkit::go;
use testkit::process::scratch_dir;

use crate::harness::{Case, case, same};
use crate::shared::{kafka, unique};

pub const CASES: &[Case] = &[
    case("clients_written_in_go_read_as_a_group_what_they_wrote", &["bin:kateway", "go"], of_go),
    case("confluent_kafka_finds_what_it_finds_at_apache_kafka", &["bin:kateway", "kafka", "python-clients"], || {
        same_as_kafka(foreign::CONFLUENT)
    }),
    case(
        "confluent_kafka_2_3_finds_what_it_finds_at_apache_kafka",
        &["bin:kateway", "kafka", "python-clients-old"],
        || same_as_kafka(foreign::CONFLUENT_2_3),
    ),
    case("kafka_python_finds_what_it_finds_at_apache_kafka", &["bin:kateway", "kafka", "python-clients"], || {
        same_as_kafka(foreign::KAFKA_PYTHON)
    }),
    case(
        "kafka_python_2_0_finds_what_it_finds_at_apache_kafka",
        &["bin:kateway", "kafka", "python-clients-old"],
        || same_as_kafka(foreign::KAFKA_PYTHON_2_0),
    ),
    case("aiokafka_finds_what_it_finds_at_apache_kafka", &["bin:kateway", "kafka", "python-clients"], || {
        same_as_kafka(foreign::AIOKAFKA)
    }),
    case("kafkajs_finds_what_it_finds_at_apache_kafka", &["bin:kateway", "kafka", "kafkajs"], || {
        same_as_kafka(foreign::KAFKAJS)
    }),
    case("requests_that_old_clients_sent_are_answered_as_by_apache_kafka", &["bin:kateway", "kafka", "python"], bare),
];

/// Where clients see the same thing differently.
struct Seen {
    codecs: &'static [&'static str],
    /// Its word for the refusal of a keyless record in a compacted topic.
    keyless: &'static str,
    /// Its word for the embedded broker's refusal of a transaction; None: it has no transactions.
    transaction: Option<&'static str>,
    /// Whether it asks what it may do (KIP-430).
    allowed: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            codecs: &["none", "gzip", "snappy", "lz4", "zstd"],
            keyless: "INVALID_RECORD",
            transaction: Some("TRANSACTIONAL_ID_AUTHORIZATION_FAILED"),
            allowed: false,
        }
    }
}

impl Seen {
    fn by(client: Client) -> Self {
        match client {
            foreign::CONFLUENT | foreign::CONFLUENT_2_3 => Self { allowed: true, ..Self::default() },
            foreign::KAFKA_PYTHON_2_0 => Self { keyless: "UNKNOWN", transaction: None, ..Self::default() },
            foreign::AIOKAFKA => Self { keyless: "UNKNOWN", ..Self::default() },
            foreign::KAFKAJS => {
                let transaction = Some("KafkaJSGroupCoordinatorNotFound");
                Self { codecs: &["none", "gzip"], transaction, ..Self::default() }
            }
            _ => Self::default(),
        }
    }

    /// What is to be found in every part, in their order; `transaction` is what becomes of one.
    fn findings(&self, transaction: &str) -> Vec<Finding> {
        let resumed = ["second 0", "second 1", "second 2", "second 3"];
        let configs = json!({"retention.ms": "7200000", "cleanup.policy": "compact", "max.message.bytes": "1048588"});
        let mut all = vec![
            ("topics", json!({"again": "TOPIC_ALREADY_EXISTS"})),
            ("records", json!(self.codecs)),
            ("idempotent", json!(200)),
            ("group", json!({"state": ["Stable", 2], "listed": true, "resumed": resumed})),
            ("pattern", json!(["one", "two"])),
            ("times", json!({"before": 0, "at": 2, "between": 3, "behind": null})),
            ("configs", configs),
            ("old_timestamps", json!([20, 1_882_133_856, 1_882_133_856])),
            ("keyless_in_a_compacted_topic", json!(self.keyless)),
        ];
        if self.allowed {
            let topic = ["ALTER", "ALTER_CONFIGS", "CREATE", "DELETE", "DESCRIBE", "DESCRIBE_CONFIGS", "READ", "WRITE"];
            let group = ["ALTER_CONFIGS", "DELETE", "DESCRIBE", "DESCRIBE_CONFIGS", "READ"];
            let cluster = [
                "ALTER",
                "ALTER_CONFIGS",
                "CLUSTER_ACTION",
                "CREATE",
                "DESCRIBE",
                "DESCRIBE_CONFIGS",
                "IDEMPOTENT_WRITE",
            ];
            all.push(("allowed", json!({"topic": topic, "group": group, "cluster": cluster})));
        }
        if self.transaction.is_some() {
            all.push(("transaction", json!(transaction)));
        }
        named(all)
    }
}

fn named(all: Vec<(&str, Value)>) -> Vec<Finding> {
    all.into_iter().map(|(part, found)| (part.to_owned(), found)).collect()
}

/// What a client finds at Apache Kafka.
pub fn at_kafka(client: Client) -> Vec<Finding> {
    Seen::by(client).findings("none")
}

/// What a client finds as a tenant of kproxy, with [`foreign::TENANT_TOPICS`].
pub fn of_tenant(client: Client) -> Vec<Finding> {
    let mut all = at_kafka(client);
    all.retain(|(part, _)| !["configs", "keyless_in_a_compacted_topic", "allowed"].contains(&part.as_str()));
    all[0].1 = json!({"listed": foreign::TENANT_TOPICS.len()});
    all
}

fn same_as_kafka(client: Client) -> Result<()> {
    let truth = findings(client, &kafka()?.bootstrap(), &unique(client.name))?;
    same("at Apache Kafka", &truth, &at_kafka(client))?;
    let dir = scratch_dir("foreign")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    let found = findings(client, &quickstart.kafka, client.name)?;
    let seen = Seen::by(client);
    same("at the embedded broker", &found, &seen.findings(seen.transaction.unwrap_or_default()))
}

/// What bytes find that no library of today sends.
pub fn bare_at_kafka() -> Vec<Finding> {
    let nobody = 25;
    named(vec![
        ("all_topics_with_bytes_behind_the_request", json!("answered")),
        ("oldest_group_requests", json!({"sync": nobody, "heartbeat": nobody, "leave": nobody})),
        ("oldest_join", json!({"error": 0, "generation": 1})),
        ("a_batch_that_does_not_say_its_newest_time", json!({"error": 0, "start": 0, "end": 1, "a minute ago": 0})),
    ])
}

fn bare() -> Result<()> {
    let expected = bare_at_kafka();
    same("at Apache Kafka", &findings(foreign::BARE, &kafka()?.bootstrap(), &unique("bare"))?, &expected)?;
    let dir = scratch_dir("foreign")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    same("at the embedded broker", &findings(foreign::BARE, &quickstart.kafka, "bare")?, &expected)
}

fn of_go() -> Result<()> {
    let dir = scratch_dir("foreign")?;
    let quickstart = Quickstart::start(dir.path(), &[])?;
    for (index, client) in go::Client::ALL.into_iter().enumerate() {
        // A topic of its own, of four partitions: the order among them is the client's.
        let topic = format!("foreign-{index}");
        let mut values = go::round_trip(client, &quickstart.kafka, &topic).with_context(|| format!("{client:?}"))?;
        values.sort();
        same(client.name, &values, &["v0", "v1", "v2"].map(str::to_owned).to_vec())?;
    }
    Ok(())
}
