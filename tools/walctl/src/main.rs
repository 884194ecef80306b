//! The operator's tool for a journal of handed-off messages: what waits in it, what of it is whole, and what to do about it.
//!
//! Reads as its list of commands; each is a file, or a folder, of the same name. `place.rs` finds the directory and who has it,
//! `backlog.rs` reads it without a change, `rows.rs` prints. What the files mean is `wal/FORMAT.md`.

#![forbid(unsafe_code)]

mod backlog;
mod cli;
mod drain;
mod dump;
mod exit;
mod inspect;
mod place;
mod repair;
mod rows;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let Cli { command, output } = Cli::parse();
    let done = match command {
        Command::Inspect(inspect) => inspect::run(&inspect, output),
        Command::Verify(verify) => verify::run(&verify, output),
        Command::Dump(dump) => dump::run(&dump, output),
        Command::Repair(repair) => repair::run(&repair, output),
        Command::Drain(drain) => drain::run(&drain, output),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "walctl", &mut console::Stdout);
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|err| {
        eprintln!("walctl: {err:#}");
        ExitCode::from(exit::of(&err))
    })
}
