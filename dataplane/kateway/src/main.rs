//! kateway: REST publish and subscribe over Kafka. This file is the list of what the binary can be asked to do.

mod admin;
mod cli;
mod config;
mod credentials;
mod handoff_desk;
mod handoff_keys;
mod jobs_desk;
mod jobs_keys;
mod kafka_clients;
mod kafka_config;
mod kproxy;
mod live;
mod manage;
mod node;
mod peers;
mod quickstart;
mod serve;
mod table;
mod tenants;

use clap::{CommandFactory, Parser};
use cli::{Cli, CommandLine};
use daemon::exit;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daemon::files::make_all_private();
    let result = match Cli::parse().command {
        CommandLine::Quickstart(flags) => quickstart::run(flags),
        CommandLine::Serve(flags) => serve::run(flags),
        CommandLine::Admin(flags) => admin::run(flags),
        CommandLine::ConfigReference(flags) => {
            console::print!("{}", flags.text());
            Ok(ExitCode::SUCCESS)
        }
        CommandLine::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kateway", &mut console::Stdout);
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|err| {
        eprintln!("kateway: {err:#}");
        ExitCode::from(exit::FAILED)
    })
}
