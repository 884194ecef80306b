//! Chores of this repository, for people and for CI: `cargo xtask up`, `test`, `components`, `mutants`.
//!
//! Plain argument parsing instead of a crate: this is built before anything else, on every clean clone.

mod args;
mod components;
mod deny;
mod mutants;
mod report;
mod step;
mod suite;
mod test;
mod up;

use std::process::{Command, ExitCode};

use anyhow::Result;

const HELP: &str = "\
cargo xtask test                         everything CI does
cargo xtask test kafka-wire              one package, or every test with that in its name
cargo xtask up kafka                     a real Kafka in the foreground, until Ctrl-C
cargo xtask up kafka --nodes 3 --sasl    three nodes, SASL PLAIN and SCRAM
cargo xtask components                   what the tests use, and what is here
cargo xtask components --fetch           get all of it now
cargo xtask mutants PATH/FILE.rs         changes of that file which no test notices

COMMANDS
  test [--list] [--nightly] [FILTER]
  up kafka|kafka3|kafka39|kafka2|zookeeper [--nodes N] [--sasl] [--tls] [--port P] [--heap MB] [--no-auto-create] [--json]
  components [--fetch] [--nightly] [--lock]
  mutants FILE [--shard K/N] [--lib]
  every command takes --offline: fetch and install nothing, as with GAFKA_OFFLINE=1

ENVIRONMENT
  CI=true          a test that cannot run here is a failure, not a skip
  GAFKA_CACHE      where components are kept (else $XDG_CACHE_HOME/gafka, else ~/.cache/gafka)
  GAFKA_OFFLINE=1  fetch and install nothing
  GAFKA_SEED=N     repeats a nightly run of faults in any order, which prints its N
";

const OFFLINE: &str = "--offline";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let outcome = match command.as_str() {
        _ if words.iter().any(|word| word == OFFLINE) => again_offline(&command, &words),
        "test" => test::run(&words),
        "up" => up::run(&words),
        "components" => components::run(&words),
        "mutants" => mutants::run(&words),
        "" | "help" | "--help" | "-h" => {
            console::print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => Err(args::usage(format!("there is no command {other:?}; try `cargo xtask --help`"))),
    };
    match outcome {
        Ok(code) => code,
        Err(err) => {
            eprintln!("xtask: {err:#}");
            ExitCode::from(if err.is::<args::Usage>() { 2 } else { 1 })
        }
    }
}

/// The same command with a changed environment: children see it too, and setting one's own is `unsafe`.
fn again_offline(command: &str, words: &[String]) -> Result<ExitCode> {
    let mut again = Command::new(std::env::current_exe()?);
    again.arg(command).args(words.iter().filter(|word| *word != OFFLINE));
    let status = again.env("GAFKA_OFFLINE", "1").env("CARGO_NET_OFFLINE", "true").status()?;
    Ok(u8::try_from(status.code().unwrap_or(1)).map_or(ExitCode::FAILURE, ExitCode::from))
}
