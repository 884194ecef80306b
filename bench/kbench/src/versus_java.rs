//! `kbench versus-java`: what a real Kafka takes through the gateway, against what it takes from Kafka's own load tool
//! (`kafka-producer-perf-test`) alone. Same broker, same topic, same machine, in turns.
//!
//! Nothing is pinned: a broker has more threads than this machine has CPUs, and the tool has two that matter; to tie
//! any of them down would decide the result. The gateway's runs have one process more than the tool's, and this client
//! in place of the tool.
//!
//! Both sides keep acks=all and idempotence. What either reports as sent must be in the topic afterwards. The tool runs
//! as it comes, and tuned for throughput; it is given time to be compiled before it counts, and its payloads come from
//! a file, since made up for each record they cost it more than sending them.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::kafka::{Cluster, KafkaOptions};

use crate::cli::{DISTURBED, VersusJava};
use crate::limits::{JAVA_CALIBRATION_RECORDS, JAVA_TIMEOUT};
use crate::load::Mode;
use crate::machine::machine;
use crate::measure::ForeignMeter;
use crate::offsets;
use crate::process::TempDir;
use crate::publish::{Kind, message};
use crate::records::Framing;
use crate::rounds::{Counted, DISTURBED_NOTE, Order, Round, Rounds, Spread, quietly};
use crate::servers::{Load, Server, kateway_path};

/// At least this much of what the broker takes from the tool.
const AIM: f64 = 0.7;

/// Old records go soon: a benchmark writes gigabytes, and nobody reads them.
const SHORT_RETENTION: &[&str] = &[
    "log.segment.bytes=134217728",
    "log.retention.bytes=268435456",
    "log.retention.check.interval.ms=3000",
    "log.segment.delete.delay.ms=1000",
];

pub fn run(versus: VersusJava) -> Result<ExitCode> {
    let kateway = kateway_path(versus.kateway.as_ref())?;
    // Declared first, so that it ends last.
    let cluster = match &versus.kafka {
        Some(_) => None,
        None => Some(Cluster::start(KafkaOptions {
            heap_mb: versus.heap_mb,
            server_jvm: true,
            properties: SHORT_RETENTION,
            ..KafkaOptions::default()
        })?),
    };
    let kafka = match &cluster {
        Some(cluster) => cluster.bootstrap(),
        None => versus.kafka.clone().context("a Kafka to load")?,
    };
    let gateway = Server::kateway(&kateway, &kafka, versus.shards, None)?;
    let topic = gateway.physical_topic().context("the gateway's topic")?.to_owned();
    let bench = Bench { versus: &versus, kafka, topic, gateway, machine: cluster.is_some() };
    let mut cases = cases(&versus);
    for case in &mut cases {
        if let Way::Java { properties, .. } = case.way {
            // A short run first: the tool is told a number of records, not a time.
            let per_second = bench.java(case)?;
            case.way = Way::Java { properties, per_second };
        }
    }
    let mut order = Order::new(versus.seed);
    for round in Rounds::new(versus.rounds, versus.within) {
        for index in order.shuffled(cases.len()) {
            let case = &mut cases[index];
            let measured = quietly(versus.foreign_max, || {
                let meter = ForeignMeter::start();
                let per_second = bench.measure(case)?;
                Ok((per_second, if bench.machine { meter.cores() } else { 0.0 }))
            })?;
            eprintln!(
                "{round}: {} B, {}: {:.0} messages/s, foreign {:.2}",
                case.size, case.name, measured.value, measured.foreign_cores
            );
            case.rounds.push(measured);
        }
    }
    console::print!("{}", markdown(&versus, &cases));
    let disturbed = cases.iter().any(|case| case.counted().disturbed);
    Ok(if disturbed { ExitCode::from(DISTURBED) } else { ExitCode::SUCCESS })
}

/// How records reach the broker.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Java {
        properties: &'static [&'static str],
        /// As measured before.
        per_second: f64,
    },
    Gateway {
        kind: Kind,
        connections: usize,
    },
}

/// One row; rounds hold messages a second.
struct Case {
    name: String,
    size: usize,
    way: Way,
    rounds: Vec<Round<f64>>,
}

fn cases(versus: &VersusJava) -> Vec<Case> {
    let mut cases = Vec::new();
    for &size in &versus.sizes {
        let mut case = |name: String, way| cases.push(Case { name, size, way, rounds: Vec::new() });
        for (name, properties) in [
            ("Java tool, its defaults", &[][..]),
            ("Java tool, linger.ms=5 batch.size=262144", &["linger.ms=5", "batch.size=262144"]),
        ] {
            case(name.to_owned(), Way::Java { properties, per_second: 0.0 });
        }
        let kind = Kind::batch(versus.batch, size, Framing::Binary);
        let connections = versus.batch_connections;
        case(format!("kateway, binary batches of {}", versus.batch), Way::Gateway { kind, connections });
        let (kind, connections) = (Kind::single(size), versus.connections);
        case("kateway, singles".to_owned(), Way::Gateway { kind, connections });
    }
    cases
}

impl Case {
    fn counted(&self) -> Counted {
        Counted::of(self.rounds.iter().map(|round| round.quiet))
    }

    fn median(&self) -> f64 {
        Spread::of(self.counted().indexes.iter().map(|&index| self.rounds[index].value)).median
    }
}

struct Bench<'v> {
    versus: &'v VersusJava,
    kafka: String,
    topic: String,
    gateway: Server,
    /// Whether everything that runs for this was started by this process.
    machine: bool,
}

impl Bench<'_> {
    fn measure(&self, case: &Case) -> Result<f64> {
        match case.way {
            Way::Java { .. } => self.java(case),
            Way::Gateway { kind, connections } => {
                let load = Load {
                    connections,
                    duration: self.versus.duration,
                    warmup: self.versus.warmup,
                    client_cpu: None,
                    machine: self.machine,
                };
                Ok(self.gateway.load(kind, Mode::Closed, &load)?.messages_per_second)
            }
        }
    }

    /// Warm-up and measured time.
    fn seconds(&self) -> f64 {
        (self.versus.warmup + self.versus.duration).as_secs_f64()
    }

    fn java(&self, case: &Case) -> Result<f64> {
        let Way::Java { properties, per_second } = case.way else { return Ok(0.0) };
        let records = ((per_second * self.seconds()) as u64).max(JAVA_CALIBRATION_RECORDS);
        let warmup = (records as f64 * self.versus.warmup.as_secs_f64() / self.seconds()) as u64;
        let mut command = testkit::java::producer_performance(self.versus.heap_mb)?;
        command.args(["--bootstrap-server", &self.kafka, "--topic", &self.topic, "--throughput", "-1"]);
        let payloads = TempDir::new()?;
        let payload_file = payloads.path.join("payloads");
        std::fs::write(&payload_file, message(case.size)).context("the tool's payloads")?;
        command.arg("--payload-file").arg(&payload_file).args(["--num-records", &records.to_string()]);
        command.args(["--warmup-records", &warmup.to_string(), "--reporting-interval", "3600000"]);
        command.args(["--command-property", "acks=all", "enable.idempotence=true"]).args(properties);
        let before = offsets::end_of(&self.kafka, &self.topic)?;
        let within = JAVA_TIMEOUT + Duration::from_secs_f64(2.0 * self.seconds());
        let said = testkit::process::run(command, within).context("the Java tool")?;
        let arrived = offsets::end_of(&self.kafka, &self.topic)? - before;
        ensure!(arrived >= records, "the Java tool sent {records} records and {arrived} arrived");
        let said = String::from_utf8_lossy(&said);
        parse(&said).with_context(|| format!("the Java tool said {said:?}"))
    }
}

/// The rate in the last line of the tool, which is that of the time after the warm-up:
/// `… records sent, 812345.1 records/sec (77.47 MB/sec), …`.
fn parse(said: &str) -> Option<f64> {
    let line = said.lines().rev().find(|line| line.contains(" records/sec"))?;
    line.split_once(" records/sec")?.0.rsplit(' ').next()?.parse().ok()
}

fn markdown(versus: &VersusJava, cases: &[Case]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "### A real single-node Kafka: through the gateway, and from Kafka's own load tool\n");
    let _ = writeln!(
        out,
        "{}. Up to {} rounds, shuffled, of {:?} after {:?} of warm-up; medians (min–max) of the quiet ones. acks=all, \
         idempotence on; broker{}, gateway ({} shard), client and tool share the machine, nothing pinned. {} connections \
         for batches, {} for singles. Ratios are to the tool's medians.\n",
        machine(),
        versus.rounds,
        versus.duration,
        versus.warmup,
        if versus.kafka.is_none() { format!(" (Kafka 4.4, G1, {} MiB heap)", versus.heap_mb) } else { String::new() },
        versus.shards,
        versus.batch_connections,
        versus.connections,
    );
    out.push_str(
        "| bytes | way | messages/s | MiB/s | ratio to the tool's defaults | ratio to the tool tuned | aim | foreign cores | \
         quiet |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for case in cases {
        let counted = case.counted();
        let rounds = || counted.indexes.iter().map(|&index| &case.rounds[index]);
        let per_second = Spread::of(rounds().map(|round| round.value));
        let java = cases.iter().filter(|other| other.size == case.size && matches!(other.way, Way::Java { .. }));
        let ratios: Vec<f64> = java.map(|java| case.median() / java.median()).collect();
        let worst = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let aim = match case.way {
            Way::Gateway { kind, .. } if kind.batch > 1 => {
                format!("≥ {AIM} of the better: {}", if worst >= AIM { "met" } else { "missed" })
            }
            _ => "–".to_owned(),
        };
        let ratio = |index: usize| ratios.get(index).map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let _ = writeln!(
            out,
            "| {} | {} | {} | {:.1} | {} | {} | {aim} | {} | {} |",
            case.size,
            case.name,
            per_second.show(0),
            per_second.median * case.size as f64 / f64::from(1 << 20),
            ratio(0),
            ratio(1),
            Spread::of(rounds().map(|round| round.foreign_cores)).show(2),
            counted.show()
        );
    }
    if cases.iter().any(|case| case.counted().disturbed) {
        out.push_str(DISTURBED_NOTE);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_after_the_warm_up_counts() {
        let said = "200000 records sent, 150000.1 records/sec (14.31 MB/sec), 3.10 ms avg latency, 200.00 ms max latency.\n\
                    100000 steady state records sent, 412345.6 records/sec (39.32 MB/sec), 1.00 ms avg latency.\n\n";
        assert_eq!(parse(said), Some(412_345.6));
        assert_eq!(parse("no such topic\n"), None);
    }

    #[test]
    fn the_aim_is_measured_against_the_better_of_the_tools_two_ways() {
        use clap::Parser;
        let args = ["kbench", "versus-java", "--sizes", "100"];
        let crate::cli::Command::VersusJava(versus) = crate::cli::Cli::parse_from(args).command else {
            panic!("versus-java");
        };
        let mut cases = cases(&versus);
        for (case, per_second) in cases.iter_mut().zip([500.0, 1000.0, 600.0, 50.0]) {
            case.rounds = vec![Round { value: per_second, foreign_cores: 0.0, quiet: true }];
        }
        let text = markdown(&versus, &cases);
        assert!(
            text.contains("binary batches of 100 | 600 (600–600) | 0.1 | 1.20 | 0.60 | ≥ 0.7 of the better: missed |"),
            "{text}"
        );
        assert!(text.contains("singles | 50 (50–50) | 0.0 | 0.10 | 0.05 | – |"), "{text}");
    }
}
