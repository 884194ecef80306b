//! kproxy: the Kafka-protocol proxy. This file is the list of what the binary can be asked to do.

mod serve;
mod settings;
mod tenants;

use clap::{CommandFactory, Parser, Subcommand};
use settings::Settings;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  kproxy serve --listen 0.0.0.0:9092 --bootstrap kafka1:9092,kafka2:9092
  kproxy serve --config /etc/gafka/kproxy.toml
  kproxy serve --bootstrap kafka1:9092 --tenants-data-dir /var/lib/gafka    for the apps of a kateway
  kproxy serve --config kproxy.toml --check-config
  kproxy config-reference > kproxy.toml
  kproxy apis                                   what happens to each Kafka API";

/// A Kafka-protocol proxy that Kafka clients do not notice.
#[derive(Parser)]
#[command(name = "kproxy", version, before_help = EXAMPLES, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: CommandLine,
}

#[derive(Subcommand)]
enum CommandLine {
    /// Run a proxy, from flags alone or from a configuration file.
    Serve(Box<daemon::Serve<Settings>>),
    /// Print every configuration key with its default, as a TOML file.
    ConfigReference(daemon::ConfigReference<Settings>),
    /// Print what happens to each Kafka API, as a Markdown table.
    Apis {
        /// Of the apps of a kateway (tenants.data_dir).
        #[arg(long)]
        tenants: bool,
    },
    /// Print shell completions.
    Completion {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    daemon::files::make_all_private();
    let ended = match Cli::parse().command {
        CommandLine::Serve(flags) => match daemon::open(*flags) {
            Err(code) => return code,
            Ok(process) => serve::run(process),
        },
        CommandLine::ConfigReference(flags) => {
            console::print!("{}", flags.text());
            Ok(ExitCode::SUCCESS)
        }
        CommandLine::Apis { tenants } => {
            console::print!("{}", if tenants { router::tenant::rules::markdown() } else { router::apis::markdown() });
            Ok(ExitCode::SUCCESS)
        }
        CommandLine::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kproxy", &mut console::Stdout);
            Ok(ExitCode::SUCCESS)
        }
    };
    ended.unwrap_or_else(|err| {
        eprintln!("kproxy: {err:#}");
        ExitCode::from(daemon::exit::FAILED)
    })
}
