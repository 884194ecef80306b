//! The command line. Examples first.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use kafka_client::Mechanism;

use crate::rows::Format;

const EXAMPLES: &str = "\
Examples:
  walctl inspect /var/lib/gafka                   what waits here, and in which files; also while the gateway runs
  walctl inspect /var/lib/gafka --node 5f0c9a3e71d2b684
  walctl verify /mnt/copy/journal                 every block and body; exit code 1: something is lost
  walctl dump /var/lib/gafka --app billing --limit 10 -o jsonl
  walctl dump /var/lib/gafka --parked             what cannot be delivered, and why
  walctl repair /var/lib/gafka --dry-run          what a start would do with what is damaged
  walctl repair /var/lib/gafka --yes              do it, and put copies of it aside
  walctl drain /var/lib/gafka --dry-run           what would be delivered to Kafka
  walctl drain /mnt/copy/journal --bootstrap kafka1:9092 --cluster main --yes";

/// Journals of messages that were handed off: look, check, read, repair, deliver.
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
    /// Deliver the messages that wait to Kafka, where no gateway will do it.
    ///
    /// Each app's messages for a partition go in their order, and what was delivered is noted in the journal, so that nobody
    /// delivers it again and receipts say where it is. What Kafka does not take stays as it is, with everything behind it; a
    /// message that Kafka refuses for what it is itself is parked, as a gateway does. Exit code 1: something was left or
    /// parked.
    ///
    /// Killed in the middle, everything that was noted stays so. What was under way, up to 512 messages or 512 KiB of each of
    /// 16 partitions, may be in Kafka already and is delivered again by the next run. Whether an app may still publish is
    /// not asked.
    Drain(Box<Drain>),
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

#[derive(Debug, Args)]
pub struct Drain {
    #[command(flatten)]
    pub place: Where,
    /// Brokers of the cluster; with --dry-run they need not be named.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required_unless_present = "dry_run")]
    pub bootstrap: Vec<String>,
    /// Whose messages, by the name that the gateway's configuration has for the cluster; required where messages for several
    /// wait.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Only for this topic: `orders`, `orders.v1`, or its name in Kafka. May be repeated.
    #[arg(long = "topic", value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Only of this app. May be repeated.
    #[arg(long = "app", value_name = "APPID")]
    pub apps: Vec<String>,
    /// Also those that are parked, before everything else of their partition.
    #[arg(long)]
    pub include_parked: bool,
    /// Also to topics that were deleted and made again since the messages were accepted.
    #[arg(long)]
    pub recreated: bool,
    /// Say what would be delivered, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    /// How long Kafka may take to take something.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
    /// Say how far it is also where stderr is no terminal.
    #[arg(long)]
    pub progress: bool,
    /// Speak TLS to the brokers, which this machine's certificate authorities vouch for.
    #[arg(long)]
    pub tls: bool,
    /// Speak TLS to the brokers, which one of this PEM file vouches for.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// PEM file with our certificate chain, for brokers that ask for one.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// PEM file with the key of --cert.
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// How to log in to the brokers.
    #[arg(long, value_parser = mechanism(), ignore_case = true, requires = "sasl_username")]
    pub sasl_mechanism: Option<Mechanism>,
    /// User to log in as; the password comes from --sasl-password-file, or the environment variable WALCTL_SASL_PASSWORD.
    #[arg(long, value_name = "NAME", requires = "sasl_mechanism")]
    pub sasl_username: Option<String>,
    /// File whose first line is the password.
    #[arg(long, value_name = "FILE", requires = "sasl_username")]
    pub sasl_password_file: Option<PathBuf>,
}

fn mechanism() -> impl TypedValueParser<Value = Mechanism> {
    let names = PossibleValuesParser::new(Mechanism::ALL.map(Mechanism::name));
    names.map(|name| Mechanism::parse(&name).expect("one of the names"))
}

/// `30s`, `500ms`, `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| "expected a duration like 30s or 2m".to_owned())?;
    Duration::try_from(parsed).ok().filter(|duration| !duration.is_zero()).ok_or("it is longer than nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
