//! Clients that go on while something happens around them.
//!
//! A producer is idempotent and writes down what became of each record, as a [`ledger`](crate::ledger) entry; a consumer
//! reads as a group; a transformer copies a topic into another in transactions, each record once. The first two are
//! librdkafka (`python/steady.py`), the last is Java's: with brokers dying, librdkafka 2.16 is now and then stuck in
//! `send_offsets_to_transaction`, whatever its time limit, proxy or no proxy.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ledger::{Entry, Outcome};
use crate::login::At;
use crate::process::{Process, scratch_dir, tethered};
use crate::{components, java, wait};

/// From SIGTERM on a client says what is left to say, and closes its connections.
const STOPS_WITHIN: Duration = Duration::from_secs(75);

/// From SIGQUIT until a client has said where it stands.
const SAYS_WHERE_WITHIN: Duration = Duration::from_millis(500);

/// A client under way.
#[derive(Debug)]
pub struct Steady {
    process: Process,
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
    _dir: TempDir,
}

/// All it said.
#[derive(Debug, Default)]
pub struct Said {
    lines: Vec<Value>,
}

impl Steady {
    /// Writes some hundred records a second, with `name` in each.
    pub fn produce<'a>(at: impl Into<At<'a>>, topic: &str, name: &str) -> Result<Self> {
        Self::python(at.into(), json!({"do": "produce", "topic": topic, "name": name, "pause": 0.003}))
    }

    /// Reads as the only member of a group with this name.
    pub fn consume<'a>(at: impl Into<At<'a>>, topic: &str, name: &str) -> Result<Self> {
        Self::consume_with(json!({}), at, topic, name)
    }

    /// The same with further settings of librdkafka.
    pub fn consume_with<'a>(config: Value, at: impl Into<At<'a>>, topic: &str, name: &str) -> Result<Self> {
        Self::python(at.into(), json!({"do": "consume", "topic": topic, "name": name, "config": config}))
    }

    /// Copies a topic into another with as many partitions; `name` is the group's and the transactional id.
    pub fn transform<'a>(at: impl Into<At<'a>>, topic: &str, to: &str, name: &str) -> Result<Self> {
        Self::start("transformer", java::client(None, at.into(), &["transform", topic, to, name])?)
    }

    fn python(at: At<'_>, mut question: Value) -> Result<Self> {
        question["bootstrap"] = at.bootstrap.into();
        let mut command = tethered(components::ensure("python-clients")?.join("venv/bin/python"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/steady.py");
        command.args(["-I", "-B"]).arg(script).arg(question.to_string());
        at.tell(&mut command);
        Self::start(question["do"].as_str().unwrap_or("client"), command)
    }

    fn start(name: &str, command: Command) -> Result<Self> {
        let dir = scratch_dir("steady")?;
        let mut process = Process::start(name, command, &dir.path().join("stderr.log"), true)?;
        let stdout = process.take_stdout().context("stdout was piped")?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { process, lines, reader, _dir: dir })
    }

    /// Records dealt with so far.
    pub fn count(&self) -> usize {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|line| line.contains("\"offset\"")).count()
    }

    /// Waits until so many more are.
    pub fn wait_for_more(&mut self, more: usize, within: Duration) -> Result<()> {
        self.wait_for(self.count() + more, within)
    }

    /// Waits until it has dealt with so many since its start.
    pub fn wait_for(&mut self, wanted: usize, within: Duration) -> Result<()> {
        wait::until(&format!("{wanted} records of {}", self.process.name()), within, || {
            let count = self.count();
            ensure!(count >= wanted, "{count}");
            Ok(())
        })
        .with_context(|| {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let errors: Vec<&String> = lines.iter().filter(|line| line.contains("\"error\"")).rev().take(10).collect();
            // Python and Java both say it at SIGQUIT.
            if self.process.signal(Signal::QUIT).is_ok() {
                std::thread::sleep(SAYS_WHERE_WITHIN);
            }
            format!("running: {}, last errors {errors:?}\n{}", self.process.is_running(), self.process.log_tail())
        })
    }

    /// Waits until the library has told its application of an error with this in its name.
    pub fn wait_for_error(&self, name: &str, within: Duration) -> Result<()> {
        wait::until(&format!("{} to be told of {name}", self.process.name()), within, || {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let told: Vec<&String> = lines.iter().filter(|line| line.contains("\"error\"")).collect();
            ensure!(told.iter().any(|line| line.contains(name)), "{told:?}");
            Ok(())
        })
    }

    /// SIGTERM, then everything it said; an error when it did not end well.
    pub fn stop(mut self) -> Result<Said> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(STOPS_WITHIN).with_context(|| self.process.log_tail())?;
        // 143 is how a JVM ends after a SIGTERM that it handled.
        let ended_well = status.success() || status.code() == Some(143);
        ensure!(ended_well, "{}: {status}\n{}", self.process.name(), self.process.log_tail());
        self.reader.join().map_err(|_| anyhow!("the reader panicked"))?;
        let lines = std::mem::take(&mut *self.lines.lock().unwrap_or_else(PoisonError::into_inner));
        let lines = lines.iter().map(|line| serde_json::from_str(line).with_context(|| line.clone()));
        Ok(Said { lines: lines.collect::<Result<_>>()? })
    }
}

impl Said {
    /// What a producer knows of its records; `connection` is its number in the ledger.
    pub fn entries(&self, connection: u32) -> Result<Vec<Entry>> {
        let of_records = self.lines.iter().filter(|line| line.get("sequence").is_some());
        of_records.map(|line| entry(line, connection).with_context(|| line.to_string())).collect()
    }

    /// The values that a reader or transformer dealt with, by partition and offset of where it found them.
    pub fn read(&self) -> Vec<(i64, i64, String)> {
        let of_records = self.lines.iter().filter_map(|line| {
            let value = line["value"].as_str()?.to_owned();
            Some((line["partition"].as_i64()?, line["offset"].as_i64()?, value))
        });
        of_records.collect()
    }

    /// What the library told its application, by name.
    pub fn errors(&self) -> Vec<String> {
        let of_errors = self.lines.iter().filter_map(|line| {
            let name = line["error"].as_str()?;
            let fatal = if line["fatal"] == true { "fatal " } else { "" };
            Some(format!("{fatal}{name}"))
        });
        of_errors.collect()
    }
}

fn entry(line: &Value, connection: u32) -> Result<Entry> {
    let text = |name: &str| line[name].as_str().map(|text| text.as_bytes().to_vec());
    let outcome = match (line["partition"].as_i64(), line["offset"].as_i64(), line["unknown"].as_str()) {
        (Some(partition), Some(offset), _) => Outcome::Stored { partition: i32::try_from(partition)?, offset },
        (_, _, Some(why)) => Outcome::Unknown { why: why.to_owned() },
        _ => return Err(anyhow!("neither stored nor unknown")),
    };
    Ok(Entry {
        connection,
        sequence: line["sequence"].as_u64().context("no sequence")?,
        key: text("key"),
        value: text("value").context("no value")?,
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_producer_says_becomes_entries_and_errors() {
        let said = Said {
            lines: vec![
                json!({"sequence": 0, "key": "k", "value": "a", "partition": 2, "offset": 7}),
                json!({"error": "_TRANSPORT", "fatal": false, "text": "Disconnected"}),
                json!({"sequence": 1, "key": "k", "value": "b", "unknown": "_MSG_TIMED_OUT"}),
            ],
        };
        let entries = said.entries(3).unwrap();
        assert_eq!(entries[0].outcome, Outcome::Stored { partition: 2, offset: 7 });
        assert_eq!(entries[1].outcome, Outcome::Unknown { why: "_MSG_TIMED_OUT".into() });
        assert_eq!((entries[1].connection, entries[1].sequence), (3, 1));
        assert_eq!(said.errors(), ["_TRANSPORT"]);
    }
}
