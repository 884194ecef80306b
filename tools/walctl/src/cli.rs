//! The command line. Examples first.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::rows::Format;

const EXAMPLES: &str = "\
Examples:
  walctl inspect /var/lib/gafka                   what waits here, and in which files; also while the gateway runs
  walctl inspect /var/lib/gafka --node 5f0c9a3e71d2b684
  walctl verify /mnt/copy/journal                 every block and body; exit code 1: something is lost
  walctl dump /var/lib/gafka --app billing --limit 10 -o jsonl
  walctl dump /var/lib/gafka --parked             what cannot be delivered, and why
  walctl repair /var/lib/gafka --dry-run          what a start would do with what is damaged
  walctl repair /var/lib/gafka --yes              do it, and put copies of it aside";

/// Journals of messages that were handed off: look, check, read, repair.
#[derive(Debug, Parser)]
#[command(name = "walctl", version, before_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// How results are printed: a table on a terminal, tab-separated in a pipe by default.
    #[arg(short, long, value_enum, global = true)]
    pub output: Option<Format>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show files, backlog, and what a start would say. Changes nothing.
    Inspect(Inspect),
    /// Check every block and every body. Changes nothing; exit code 1 when something is lost.
    Verify(Verify),
    /// Print the messages that wait. Changes nothing.
    Dump(Dump),
    /// Recover a journal that nobody has open, and put copies of what is rotten aside.
    Repair(Repair),
    /// Print shell completions.
    Completion {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}

/// Which journal.
#[derive(Debug, Args)]
pub struct Where {
    /// A gateway's data directory, the directory of one of its nodes, or a journal itself.
    pub dir: PathBuf,
    /// Which node of the data directory, where there are several.
    #[arg(long, value_name = "ID")]
    pub node: Option<String>,
}

#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    pub place: Where,
}

#[derive(Debug, Args)]
pub struct Verify {
    #[command(flatten)]
    pub place: Where,
}

#[derive(Debug, Args)]
pub struct Dump {
    #[command(flatten)]
    pub place: Where,
    /// Of this app.
    #[arg(long, value_name = "APPID")]
    pub app: Option<String>,
    /// For this topic: `orders`, `orders.v1`, or its name in Kafka.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
    /// Those that cannot be delivered, instead of those that wait.
    #[arg(long)]
    pub parked: bool,
    /// At most so many.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Repair {
    #[command(flatten)]
    pub place: Where,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
