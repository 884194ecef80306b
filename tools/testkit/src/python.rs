//! The Python clients: confluent-kafka (librdkafka) and kafka-python (an implementation of its own).
//!
//! One script, `python/clients.py`, started for each question; it takes a JSON object and answers in JSON lines.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use crate::components;
use crate::limits::CLIENT_WITHIN;
use crate::login::At;
use crate::process::{run_with_input, tethered};
use crate::record::{Record, parse_lines, to_lines};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// confluent-kafka, a recent librdkafka.
    Confluent,
    /// kafka-python, pure Python.
    KafkaPython,
}

impl Client {
    pub const ALL: [Self; 2] = [Self::Confluent, Self::KafkaPython];

    pub fn name(self) -> &'static str {
        match self {
            Self::Confluent => "confluent",
            Self::KafkaPython => "kafka-python",
        }
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python/clients.py")
}

fn ask(client: Client, at: At<'_>, question: Value, input: &str) -> Result<Vec<u8>> {
    let mut question = question;
    question["client"] = client.name().into();
    question["bootstrap"] = at.bootstrap.into();
    let mut command = tethered(components::ensure("python-clients")?.join("venv/bin/python"));
    // Nothing but what was verified is imported, and nothing is written beside it.
    command.args(["-I", "-B"]).arg(script()).arg(question.to_string());
    at.tell(&mut command);
    run_with_input(command, input.as_bytes(), CLIENT_WITHIN)
}

/// Every record of a topic from its beginning to its present end, by partition and offset.
pub fn read<'a>(client: Client, at: impl Into<At<'a>>, topic: &str) -> Result<Vec<Record>> {
    parse_lines(&ask(client, at.into(), json!({"do": "read", "topic": topic}), "")?)
}

/// Produces records (partition −1: the client's choice) and yields where each went.
pub fn produce<'a>(client: Client, at: impl Into<At<'a>>, topic: &str, records: &[Record]) -> Result<Vec<Record>> {
    let question = json!({"do": "produce", "topic": topic});
    parse_lines(&ask(client, at.into(), question, &to_lines(records))?)
}

/// [`produce`] by librdkafka with further settings of its own, for example how to log in.
pub fn produce_with<'a>(config: Value, at: impl Into<At<'a>>, topic: &str, records: &[Record]) -> Result<Vec<Record>> {
    let question = json!({"do": "produce", "topic": topic, "config": config});
    parse_lines(&ask(Client::Confluent, at.into(), question, &to_lines(records))?)
}

/// [`read`] likewise.
pub fn read_with<'a>(config: Value, at: impl Into<At<'a>>, topic: &str) -> Result<Vec<Record>> {
    let question = json!({"do": "read", "topic": topic, "config": config});
    parse_lines(&ask(Client::Confluent, at.into(), question, "")?)
}

/// Joins a group, reads `count` records from the group's position, commits, leaves.
pub fn consume<'a>(
    client: Client,
    at: impl Into<At<'a>>,
    topic: &str,
    group: &str,
    count: usize,
) -> Result<Vec<Record>> {
    let question = json!({"do": "consume", "topic": topic, "group": group, "count": count});
    parse_lines(&ask(client, at.into(), question, "")?)
}

/// [`consume`] by librdkafka with further settings of its own.
pub fn consume_with<'a>(
    config: Value,
    at: impl Into<At<'a>>,
    topic: &str,
    group: &str,
    count: usize,
) -> Result<Vec<Record>> {
    let question = json!({"do": "consume", "topic": topic, "group": group, "count": count, "config": config});
    parse_lines(&ask(Client::Confluent, at.into(), question, "")?)
}

/// Makes a topic and waits until it has leaders.
pub fn create_topic<'a>(at: impl Into<At<'a>>, topic: &str, partitions: u32, replicas: u32) -> Result<()> {
    let question = json!({
        "do": "create", "topic": topic, "partitions": partitions, "replicas": replicas,
    });
    ask(Client::Confluent, at.into(), question, "").map(drop)
}

/// Deletes a topic, as somebody would who does not ask gafka, and waits until no broker lists it.
pub fn delete_topic<'a>(at: impl Into<At<'a>>, topic: &str) -> Result<()> {
    ask(Client::Confluent, at.into(), json!({"do": "delete", "topic": topic}), "").map(drop)
}

/// Partition to leader, replicas and topic settings: `{"partitions":[{"id":0,"leader":1,"replicas":[1]}],"configs":{}}`.
pub fn describe_topic<'a>(at: impl Into<At<'a>>, topic: &str) -> Result<Value> {
    let output = ask(Client::Confluent, at.into(), json!({"do": "describe", "topic": topic}), "")?;
    Ok(serde_json::from_slice(&output)?)
}

/// Next offset to read per partition that a group committed: `{"0": 12}`.
pub fn committed<'a>(at: impl Into<At<'a>>, topic: &str, group: &str) -> Result<Value> {
    let question = json!({"do": "committed", "topic": topic, "group": group});
    Ok(serde_json::from_slice(&ask(Client::Confluent, at.into(), question, "")?)?)
}
