//! Load and measurement: floors, a broker that costs little, publishers and subscribers, and comparisons.
//!
//! Reads as its list of commands; each is a file, or a folder, of the same name. `load.rs` and `open.rs` drive the
//! connections, `receipts.rs` reads whether an answer says what it must, `measure.rs` and `cpu.rs` ask the kernel what was
//! spent and by whom, `probe.rs` what the disk does, `rounds.rs` decides what counts, `report.rs` and `machine.rs` say what
//! was found where. `gateway.rs`, `crowd.rs` and `waiting.rs` are the gateways, groups and clients of `polls`, `delivery.rs`
//! and `closing.rs` its later parts.

#![forbid(unsafe_code)]

mod cli;
mod closing;
mod compare;
mod cpu;
mod crowd;
mod delivery;
mod floor;
mod gateway;
mod handoff;
mod jobs;
mod journal;
mod latency;
mod limits;
mod load;
mod machine;
mod measure;
mod micro;
mod null_broker;
mod offsets;
mod open;
mod outcome;
mod patience;
mod pin;
mod polls;
mod prefetch;
mod probe;
mod process;
mod produce_load;
mod proxy;
mod publish;
mod ready;
mod receipts;
mod records;
mod report;
mod response;
mod rounds;
mod servers;
mod sockets;
mod subscribe;
mod tenants;
mod versus_java;
mod waiting;

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
        Command::Latency(latency) => latency::run(latency),
        Command::Polls(polls) => polls::run(polls),
        Command::Prefetch(prefetch) => prefetch::run(prefetch),
        Command::WaitPolls(wait) => waiting::run(wait),
        Command::Proxy(proxy) => proxy::run(proxy),
        Command::Tenants(tenants) => tenants::run(tenants),
        Command::VersusJava(versus) => versus_java::run(versus),
        Command::Journal(bench) => journal::run(bench),
        Command::Handoff(bench) => handoff::run(bench),
        Command::Jobs(bench) => jobs::run(bench),
        Command::KeepJobs(keep) => jobs::recovery::keep(&keep),
        Command::Micro(micro) => micro::run(micro),
        Command::ProduceLoad(load) => produce_load::run(load),
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
