//! The command line. Examples first, flags second; the configuration keys become flags from their one list.

use crate::config::Settings;
use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  kateway quickstart                            everything in one process, nothing else needed
  kateway quickstart --bootstrap kafka1:9092    the same demo on a real Kafka
  kateway serve --config /etc/gafka/kateway.toml
  kateway serve --config kateway.toml --check-config
  kateway config-reference > kateway.toml
  kateway admin app create billing --cluster main
  kateway admin topic create billing invoices v1 --partitions 8
  kateway admin kafka-config billing --side publish --client java";

/// REST publish and subscribe over Kafka.
#[derive(Debug, Parser)]
#[command(name = "kateway", version, before_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: CommandLine,
}

#[derive(Debug, Subcommand)]
pub enum CommandLine {
    /// Start everything in one process with a demo app and topic, and print lines to paste.
    Quickstart(Quickstart),
    /// Run a gateway from a configuration file.
    Serve(daemon::Serve<Settings>),
    /// Manage apps, topics, grants and secrets through the manager's REST API.
    Admin(crate::admin::Admin),
    /// Print every configuration key with its default, as a TOML file.
    ConfigReference(daemon::ConfigReference<Settings>),
    /// Print shell completions.
    Completion {
        /// bash, zsh, fish, elvish or powershell.
        shell: clap_complete::Shell,
    },
}

/// Flags of `quickstart`.
#[derive(Debug, Clone, Args)]
pub struct Quickstart {
    /// Everything lives here; a temporary directory by default. The same directory gives the same credentials and
    /// every acknowledged message again.
    #[arg(long, value_name = "DIR", env = "KATEWAY_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Publish listener.
    #[arg(long = "pub", value_name = "ADDR", value_parser = console::address, default_value = "127.0.0.1:9191")]
    pub publish: SocketAddr,
    /// Subscribe listener.
    #[arg(long = "sub", value_name = "ADDR", value_parser = console::address, default_value = "127.0.0.1:9192")]
    pub subscribe: SocketAddr,
    /// Manager listener.
    #[arg(long = "man", value_name = "ADDR", value_parser = console::address, default_value = "127.0.0.1:9193")]
    pub manager: SocketAddr,
    /// Listener of the embedded broker.
    #[arg(long, value_name = "ADDR", value_parser = console::address, default_value = "127.0.0.1:9092")]
    pub kafka: SocketAddr,
    /// Where Kafka clients log in as apps, at a proxy that shows them what is theirs; the port behind it, and with
    /// --bootstrap 16 of them, are the brokers'. Default: 127.0.0.1:9094, and any free ports where --kafka, or with
    /// --bootstrap --pub, has port 0.
    #[arg(long, value_name = "ADDR", value_parser = console::address)]
    pub kproxy: Option<SocketAddr>,
    /// A real Kafka instead of the embedded broker.
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub bootstrap: Vec<String>,
    /// Data-plane threads; 0: one per core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub shards: usize,
    /// Access log file.
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// One JSON line on stdout when traffic can come, instead of the banner.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_configuration_key_is_a_flag_of_serve() {
        Cli::command().debug_assert();
        let cli =
            Cli::try_parse_from(["kateway", "serve", "--config", "f", "--limits-memory", "64MiB"]).expect("valid");
        let CommandLine::Serve(serve) = cli.command else { panic!("serve was asked for") };
        assert_eq!(serve.sources.flags.get("limits.memory").map(String::as_str), Some("64MiB"));
        assert!(Cli::try_parse_from(["kateway", "serve"]).is_err(), "the file is required");
    }

    #[test]
    fn every_listener_of_quickstart_may_be_a_host_by_its_name() {
        let flags = ["--pub", "--sub", "--man", "--kafka", "--kproxy"];
        let words = ["kateway", "quickstart"].into_iter().chain(flags.iter().flat_map(|flag| [*flag, "localhost:0"]));
        let CommandLine::Quickstart(flags) = Cli::try_parse_from(words).expect("valid").command else {
            panic!("quickstart was asked for")
        };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_eq!([flags.publish, flags.subscribe, flags.manager, flags.kafka], [any; 4]);
        assert_eq!(flags.kproxy, Some(any));
    }
}
