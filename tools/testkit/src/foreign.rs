//! Other people's clients doing what clients do, part by part, with any broker: `python/foreign.py`, `python/bare.py` and
//! `node/foreign.cjs`.
//!
//! A program checks for itself what must be true of every broker and tells what it found where brokers may differ. Its
//! caller compares that with what it expects, part by part, and so notices a part that was not done.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::components;
use crate::login::At;
use crate::npm;
use crate::process::{run, tethered};
use crate::progress::say;

/// A dozen parts; a group of librdkafka's takes 7 s to be shared anew, on a busy machine several times that.
const WITHIN: Duration = Duration::from_secs(150);

/// A client in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub name: &'static str,
    /// The component it comes with.
    pub component: &'static str,
}

pub const CONFLUENT: Client = Client { name: "confluent", component: "python-clients" };
pub const CONFLUENT_2_3: Client = Client { name: "confluent-2.3", component: "python-clients-old" };
pub const KAFKA_PYTHON: Client = Client { name: "kafka-python", component: "python-clients" };
pub const KAFKA_PYTHON_2_0: Client = Client { name: "kafka-python-2.0", component: "python-clients-old" };
pub const AIOKAFKA: Client = Client { name: "aiokafka", component: "python-clients" };
pub const KAFKAJS: Client = Client { name: "kafkajs", component: "kafkajs" };
/// Requests byte by byte, which no library of today sends.
pub const BARE: Client = Client { name: "bare", component: "python" };

/// Topics, and how many partitions they have, that a client needs to do its parts as a tenant: `PREFIX-NAME`, version `v1`.
pub const TENANT_TOPICS: [(&str, u32); 14] = [
    ("topics", 3),
    ("records-none", 1),
    ("records-gzip", 1),
    ("records-snappy", 1),
    ("records-lz4", 1),
    ("records-zstd", 1),
    ("idempotent", 1),
    ("group", 4),
    ("pattern-1", 1),
    ("pattern-2", 1),
    ("no-pattern", 1),
    ("times", 1),
    ("old", 1),
    ("transaction", 1),
];

/// A part and what was found in it.
pub type Finding = (String, Value);

/// Lets a client do all its parts with a broker; topics and groups it makes begin with `prefix`. One that logs in does those
/// that tenants can do, with topics that are there ([`TENANT_TOPICS`]). The error carries what
/// went wrong in which part.
pub fn findings<'a>(client: Client, at: impl Into<At<'a>>, prefix: &str) -> Result<Vec<Finding>> {
    let at = at.into();
    let attempts = if client == KAFKA_PYTHON && at.login.is_none() { KAFKA_PYTHON_ATTEMPTS } else { 1 };
    let mut found = findings_once(client, at, prefix);
    for attempt in 1..attempts {
        match &found {
            Err(err) if format!("{err:?}").contains("waited in vain") => {
                say(&format!("  {} waited in vain: once more", client.name));
                found = findings_once(client, at, &format!("{prefix}-{attempt}"));
            }
            _ => break,
        }
    }
    found
}

/// On a busy machine a consumer of kafka-python 3.0.12 now and then gets no record any more, at Apache Kafka itself as
/// elsewhere: what counts is what it finds when it does.
const KAFKA_PYTHON_ATTEMPTS: usize = 3;

fn findings_once(client: Client, at: At<'_>, prefix: &str) -> Result<Vec<Finding>> {
    let mut command = program(client)?;
    command.args([at.bootstrap, prefix]);
    at.tell(&mut command);
    let output =
        run(command, WITHIN).with_context(|| format!("{} with the broker at {}", client.name, at.bootstrap))?;
    let lines = std::str::from_utf8(&output)?.lines();
    lines.map(finding).collect()
}

fn program(client: Client) -> Result<Command> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let component = components::ensure(client.component)?;
    if client == KAFKAJS {
        let mut command = tethered(components::ensure("node")?);
        command.env("NODE_PATH", component.join(npm::INSTALLED).join("node_modules"));
        command.env("KAFKAJS_NO_PARTITIONER_WARNING", "1").arg(here.join("node/foreign.cjs"));
        return Ok(command);
    }
    let (python, script): (PathBuf, &str) = match client == BARE {
        true => (component, "python/bare.py"),
        false => (component.join("venv/bin/python"), "python/foreign.py"),
    };
    let mut command = tethered(python);
    // Nothing but what was verified is imported, and nothing is written beside it.
    command.args(["-I", "-B"]).arg(here.join(script));
    if client != BARE {
        command.arg(client.name);
    }
    Ok(command)
}

/// `{"part": "times", "found": 7, "seconds": 0.1}`
fn finding(line: &str) -> Result<Finding> {
    let value: Value = serde_json::from_str(line).with_context(|| format!("no finding: {line}"))?;
    let part = value["part"].as_str().with_context(|| format!("a finding without its part: {line}"))?;
    Ok((part.to_owned(), value["found"].clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_no_finding_is_an_error_that_shows_it() {
        assert_eq!(finding(r#"{"part": "times", "found": [1]}"#).unwrap(), ("times".into(), serde_json::json!([1])));
        for line in ["", "%1|FATAL|…", r#"{"found": 1}"#] {
            assert!(finding(line).unwrap_err().to_string().contains(line), "{line}");
        }
    }
}
