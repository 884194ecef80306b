use clap::{Parser, Subcommand};
use daemon::{Check, Daemon, HostPort, Listener, Log, Ops, Process, Readiness, Signals};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

daemon::words! {
    /// Who is let in.
    pub enum Mode { Open = "open", Closed = "closed" }
}

daemon::keys! {
    /// All that toyd is told. The documentation of a field is its help; `as` names it where the field cannot.
    pub struct Settings {
        /// where clients connect
        pub listen as "listen.kafka": SocketAddr = default("127.0.0.1:19092"),
        /// operator's port: /healthz, /readyz, /metrics
        pub listen_ops as "listen.ops": SocketAddr = default("127.0.0.1:19090"),
        /// brokers to ask first, host:port
        pub bootstrap: Vec<HostPort> = required("for example [\"broker1:9092\", \"broker2:9092\"]"),
        /// first node id that clients are shown
        pub node_id_base: i32 = default("1000"),
        /// files with tenants
        pub tenants: Vec<PathBuf> = default(""),
        /// forward unknown requests
        pub forward: bool = default("true"),
        /// who is let in
        pub mode: Mode = default("closed"),
        /// from SIGTERM to the end of accepting
        pub drain_delay as "drain.delay": Duration = default("1s"),
        /// from SIGTERM until what is in flight is given up
        pub drain_limit as "drain.limit": Duration = default("7s"),
        /// log.level, log.format
        pub log: Log = group,
        /// One table per cluster behind this one.
        pub clusters: BTreeMap<String, Upstream> = tables("main"),
    }
}

daemon::keys! {
    /// `[clusters.NAME]`: in the file only.
    pub struct Upstream {
        /// brokers to ask first, host:port
        pub bootstrap: Vec<HostPort> = required("for example [\"broker1:9092\"]"),
        /// TLS to these brokers
        pub tls: daemon::brokers::Tls = group,
        /// login to these brokers
        pub sasl: daemon::brokers::Sasl = group,
    }
}

impl Daemon for Settings {
    const NAME: &'static str = "toyd"; // variables begin with TOYD_
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    fn log(&self) -> &Log {
        &self.log
    }

    fn check(&self, check: &mut Check<'_>) {
        check.listeners(&[
            Listener { key: "listen.kafka", address: self.listen, port_count: 65 },
            Listener { key: "listen.ops", address: self.listen_ops, port_count: 1 },
        ]);
        check.shorter("drain.delay", self.drain_delay, "drain.limit", self.drain_limit);
        for (name, upstream) in &self.clusters {
            upstream.tls.check(&format!("clusters.{name}"), check);
            upstream.sasl.check(&format!("clusters.{name}"), check);
        }
        if self.node_id_base > 1_000_000 {
            check.mistake("node_id_base", "must be at most 1000000");
        }
    }
}

#[derive(Parser)]
#[command(name = "toyd", version)]
struct Cli {
    #[command(subcommand)]
    command: CommandLine,
}

#[derive(Subcommand)]
enum CommandLine {
    /// Run.
    Serve(daemon::Serve<Settings>),
    /// Print every configuration key with its default, as a TOML file.
    ConfigReference(daemon::ConfigReference<Settings>),
}

pub fn main() -> ExitCode {
    let served = match Cli::parse().command {
        CommandLine::ConfigReference(flags) => {
            print!("{}", flags.text());
            return ExitCode::SUCCESS;
        }
        // Mistakes are printed, and the code is 2; with --check-config it ends here, too.
        CommandLine::Serve(flags) => match daemon::open(flags) {
            Err(code) => return code,
            Ok(process) => serve(process),
        },
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("toyd: {err:#}");
            ExitCode::from(daemon::exit::FAILED)
        }
    }
}

fn serve(process: Process<Settings>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(live(process))
}

async fn live(mut process: Process<Settings>) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?; // first: from here on no signal ends us half-way
    let settings = process.settings().clone();
    let ops = Ops {
        readiness: Box::new(|| Readiness { ready: true, reasons: Vec::new() }),
        metrics: Box::new(|| "toyd_up 1\n".to_owned()),
    };
    let ops = ops.serve(settings.listen_ops).await?;
    // … start whatever serves …
    process.ready(&[("kafka", settings.listen.to_string()), ("ops", format!("http://{}", ops.address))]);
    process.until_stopped(&mut signals, |_live| {}).await; // the closure obeys what a SIGHUP brings
    tokio::time::sleep(settings.drain_delay).await; // … then stop accepting, until drain_limit …
    drop(ops);
    Ok(())
}
