//! Load and measurement: floors, a broker that costs little, publishers and subscribers, and comparisons.
//!
//! Reads as its list of commands; each is a file of the same name. `load.rs` drives the connections, `cpu.rs` asks the
//! kernel what the measured process spent, `report.rs` says what was found.

#![forbid(unsafe_code)]

mod cli;
mod compare;
mod cpu;
mod floor;
mod limits;
mod load;
mod null_broker;
mod outcome;
mod pin;
mod publish;
mod ready;
mod records;
mod report;
mod response;
mod subscribe;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Floor(floor) => floor::run(floor),
        Command::NullBroker(broker) => null_broker::run(broker),
        Command::Publish(publish) => publish::run(publish),
        Command::Subscribe(subscribe) => subscribe::run(subscribe),
        Command::Compare(compare) => compare::run(compare),
        Command::Pin(pin) => pin::run(pin),
    };
    match done {
        Ok(code) => code,
        Err(err) => {
            eprintln!("kbench: {err:#}");
            ExitCode::from(cli::FAILED)
        }
    }
}
