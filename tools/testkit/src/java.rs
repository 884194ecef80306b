//! The Java client, the reference implementation, from the jars of the broker under test.
//!
//! `java/Client.java` is compiled once per version of itself and of Kafka, into the cache, and sealed there ([`crate::seal`]).

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::limits::CLIENT_WITHIN;
use crate::login::At;
use crate::process::{run, run_with_input, tethered};
use crate::progress::say;
use crate::record::{Record, parse_lines, to_lines};
use crate::seal::{self, Made};
use crate::{cache, components};

const SOURCE: &str = include_str!("../java/Client.java");

/// Classpath with the compiled client and the Kafka jars.
fn classpath() -> Result<String> {
    let kafka = components::ensure("kafka")?;
    let jars = kafka.join("files").join("*");
    let version = kafka.file_name().and_then(|name| name.to_str()).context("a component has a plain name")?;
    let digest = cache::hex(&Sha256::digest(format!("{version}\n{SOURCE}")));
    let dir = cache::components_dir()?.join(format!("java-client-{}", &digest[..16]));
    let _held = cache::exclusive(&dir.with_extension("lock"))?;
    if let Made::Anew(why) = seal::made(&dir, &digest, |dir| compile(&jars, dir))? {
        say(&format!("  the Java client was compiled again: {why}"));
    }
    Ok(format!("{}:{}", dir.display(), jars.display()))
}

fn compile(jars: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let source = dir.join("Client.java");
    fs::write(&source, SOURCE)?;
    let mut command = tethered("javac");
    command.arg("-d").arg(dir).arg("-cp").arg(jars).arg(&source);
    run(command, CLIENT_WITHIN).context("compiling the Java client").map(drop)
}

fn ask(at: At<'_>, words: &[&str], input: &str) -> Result<Vec<u8>> {
    ask_as(None, at, words, input)
}

/// How a client is set up beyond a bootstrap address.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// A properties file.
    pub settings: &'a Path,
    /// Lines of a hosts file, which the JVM asks instead of the system.
    pub hosts: Option<&'a Path>,
}

fn ask_as(setup: Option<Setup<'_>>, at: At<'_>, words: &[&str], input: &str) -> Result<Vec<u8>> {
    run_with_input(client(setup, at, words)?, input.as_bytes(), CLIENT_WITHIN)
}

/// `words`: what it is to do, then all but the bootstrap address.
pub(crate) fn client(setup: Option<Setup<'_>>, at: At<'_>, words: &[&str]) -> Result<Command> {
    let mut command = small_jvm();
    if let Some(Setup { settings, hosts }) = setup {
        command.arg(format!("-Dclient.settings={}", settings.display()));
        command.args(hosts.map(|hosts| format!("-Djdk.net.hosts.file={}", hosts.display())));
    }
    command.arg("-cp").arg(classpath()?).arg("Client").arg(words[0]).arg(at.bootstrap).args(&words[1..]);
    at.tell(&mut command);
    Ok(command)
}

/// A JVM that starts quickly and takes little, without its arguments.
fn small_jvm() -> Command {
    let mut command = tethered("java");
    command.args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=ERROR"]);
    command.arg("-Dlog4j2.statusLoggerLevel=OFF");
    command
}

/// Every record of a topic from its beginning to its present end.
pub fn read<'a>(at: impl Into<At<'a>>, topic: &str) -> Result<Vec<Record>> {
    parse_lines(&ask(at.into(), &["read", topic], "")?)
}

/// Produces records idempotently; yields where each went.
pub fn produce<'a>(at: impl Into<At<'a>>, topic: &str, records: &[Record]) -> Result<Vec<Record>> {
    parse_lines(&ask(at.into(), &["produce", topic], &to_lines(records))?)
}

/// [`produce`] by a client set up so.
pub fn produce_as<'a>(setup: Setup<'_>, at: impl Into<At<'a>>, topic: &str, records: &[Record]) -> Result<Vec<Record>> {
    parse_lines(&ask_as(Some(setup), at.into(), &["produce", topic], &to_lines(records))?)
}

/// [`consume`] by a client set up so.
pub fn consume_as<'a>(
    setup: Setup<'_>,
    at: impl Into<At<'a>>,
    topic: &str,
    group: &str,
    count: usize,
) -> Result<Vec<Record>> {
    parse_lines(&ask_as(Some(setup), at.into(), &["consume", topic, group, &count.to_string()], "")?)
}

/// Joins a group, reads `count` records from the group's position, commits, leaves.
pub fn consume<'a>(at: impl Into<At<'a>>, topic: &str, group: &str, count: usize) -> Result<Vec<Record>> {
    parse_lines(&ask(at.into(), &["consume", topic, group, &count.to_string()], "")?)
}

/// Makes `node` the leader of a partition: first in the replica list, then a preferred election.
pub fn move_leader(bootstrap: &str, topic: &str, partition: i32, node: i32) -> Result<()> {
    ask(bootstrap.into(), &["move-leader", topic, &partition.to_string(), &node.to_string()], "").map(drop)
}

/// A tool of Kafka's own `bin`, by its class below `org.apache.kafka.tools`, run to its end; yields what it printed.
pub fn tool(class: &str, words: &[&str], input: &str) -> Result<String> {
    let jars = components::ensure("kafka-tools")?.join("files").join("*");
    let mut command = small_jvm();
    command.arg("-cp").arg(&jars).arg(format!("org.apache.kafka.tools.{class}")).args(words);
    let printed = run_with_input(command, input.as_bytes(), CLIENT_WITHIN).with_context(|| class.to_owned())?;
    String::from_utf8(printed).with_context(|| format!("what {class} printed"))
}

/// Kafka's own producer performance tool (what `kafka-producer-perf-test.sh` runs), with the JVM's own compilers and
/// collector; its arguments are still to be added. It runs on the producer of the `kafka` component.
pub fn producer_performance(heap_mb: u32) -> Result<Command> {
    let kafka = components::ensure("kafka")?.join("files").join("*");
    let tools = components::ensure("kafka-tools")?.join("files").join("*");
    let mut command = tethered("java");
    command.arg(format!("-Xms{heap_mb}m")).arg(format!("-Xmx{heap_mb}m"));
    command.args(["-server", "-XX:+UseG1GC", "-Dlog4j2.level=ERROR", "-Dlog4j2.statusLoggerLevel=OFF"]);
    // The newer producer first.
    command.arg("-cp").arg(format!("{}:{}", kafka.display(), tools.display()));
    command.arg("org.apache.kafka.tools.ProducerPerformance");
    Ok(command)
}
