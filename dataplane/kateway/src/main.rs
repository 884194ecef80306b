//! kateway: REST publish and subscribe over Kafka. This file is the list of what the binary can be asked to do.

mod admin;
mod cli;
mod config;
mod credentials;
mod logging;
mod manage;
mod node;
mod notify;
mod quickstart;
mod serve;
mod table;

use cli::CommandLine;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes of the CLI contract that this binary uses.
mod exit {
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
}

fn main() -> ExitCode {
    let result = match cli::parse().command {
        CommandLine::Quickstart(flags) => quickstart::run(flags),
        CommandLine::Serve(flags) => serve::run(&flags),
        CommandLine::Admin(flags) => admin::run(flags),
        CommandLine::ConfigReference => {
            print!("{}", config::reference());
            Ok(ExitCode::SUCCESS)
        }
        CommandLine::Completion { shell } => {
            clap_complete::generate(shell, &mut cli::command(), "kateway", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|err| {
        eprintln!("kateway: {err:#}");
        ExitCode::from(exit::FAILED)
    })
}
