//! `kbench latency`: latency at half load, open loop, and what of it the harness itself adds.
//!
//! Half load is half of what the gateway did in a closed loop in this same run. Servers run on one CPU. Client and null
//! broker share the other, so part of what a gateway's row shows is the broker keeping the client from its CPU. To
//! tell that apart, each floor is measured at the same rate twice: with the broker idle, and with the broker under as
//! many Produce requests a second, of as many records each, as the gateway sent it. Those come from a small process on
//! the server's CPU, where the gateway sends them from too.
//!
//! The row "floor, broker loaded" is what this machine and this harness cost; what a gateway's row has beyond it is the
//! gateway, Kafka's round trip included: a floor answers at once, a gateway when the broker has answered.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};
use kafka_wire::api_key::ApiKey;

use crate::cli::{DISTURBED, Latency};
use crate::cpu::Sample;
use crate::load::Mode;
use crate::machine::machine;
use crate::offsets;
use crate::outcome::{Figures, OpenFigures};
use crate::pin;
use crate::process::{Process, tethered, this_program};
use crate::publish::Kind;
use crate::rounds::{Counted, DISTURBED_NOTE, Order, Round, Rounds, Spread, quietly};
use crate::servers::{Load, Server, kateway_path};

pub fn run(latency: Latency) -> Result<ExitCode> {
    let options = &latency.rounds;
    let kateway = kateway_path(options.kateway.as_ref())?;
    // The broker's thread and the client's stay where this thread is.
    pin::this_thread(Some(options.client_cpu))?;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let broker = EmbeddedKafka::start(EmbeddedConfig { listen, null: true, ..EmbeddedConfig::default() })?;
    let cpu = options.server_cpu;
    let servers = [
        Server::floor("http", "raw io_uring floor", cpu)?,
        Server::floor("shard", "runtime shard, no gateway", cpu)?,
        Server::kateway(&kateway, &broker.bootstrap(), 1, Some(cpu))?,
    ];
    let gateway = &servers[2];
    let bench = Bench { latency: &latency, broker: &broker };
    let mut closed = Vec::new();
    for server in &servers {
        let measured = quietly(options.foreign_max, || bench.load(server, Mode::Closed).map(Taken::with_foreign))?;
        closed.push(measured.value.figures.requests_per_second);
        eprintln!("{}: {:.0} requests/s in a closed loop", server.name, measured.value.figures.requests_per_second);
    }
    let rate = latency.rate.unwrap_or((closed[2] / 2.0) as u64).max(1);
    let probe = quietly(options.foreign_max, || bench.load(gateway, Mode::Open(rate)).map(Taken::with_foreign))?;
    let produce = Produce::of(&probe.value, rate)?;
    eprintln!("{rate} requests/s make {:.0} produce requests/s of {} records", produce.per_second, produce.records);
    let mut cases = vec![
        Case::new(&servers[0], Behind::Idle),
        Case::new(&servers[0], Behind::Loaded),
        Case::new(&servers[1], Behind::Idle),
        Case::new(&servers[1], Behind::Loaded),
        Case::new(gateway, Behind::Gateway),
    ];
    let mut order = Order::new(options.seed);
    for round in Rounds::new(options.rounds, options.within) {
        for index in order.shuffled(cases.len()) {
            let case = &mut cases[index];
            let _load = match case.behind {
                Behind::Loaded => Some(bench.produce(&produce)?),
                Behind::Idle | Behind::Gateway => None,
            };
            let measured =
                quietly(options.foreign_max, || bench.load(case.server, Mode::Open(rate)).map(Taken::with_foreign))?;
            let figures = &measured.value.figures;
            eprintln!(
                "{round}: {}, {}: p50 {} µs, p99 {} µs, p99.9 {} µs, foreign {:.2}",
                case.server.name,
                case.behind.words(),
                figures.p50_us,
                figures.p99_us,
                figures.p999_us,
                measured.foreign_cores
            );
            case.rounds.push(measured);
        }
    }
    console::print!("{}", markdown(&latency, &closed, rate, &cases));
    let disturbed = cases.iter().any(|case| case.counted().disturbed);
    Ok(if disturbed { ExitCode::from(DISTURBED) } else { ExitCode::SUCCESS })
}

/// What the broker does while a server is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Behind {
    Idle,
    /// As much as the gateway gives it, from somebody else.
    Loaded,
    /// What the gateway gives it.
    Gateway,
}

impl Behind {
    fn words(self) -> &'static str {
        match self {
            Behind::Idle => "idle",
            Behind::Loaded => "as loaded",
            Behind::Gateway => "by the gateway",
        }
    }
}

/// One row.
struct Case<'s> {
    server: &'s Server,
    behind: Behind,
    rounds: Vec<Round<Taken>>,
}

impl<'s> Case<'s> {
    fn new(server: &'s Server, behind: Behind) -> Case<'s> {
        Case { server, behind, rounds: Vec::new() }
    }

    fn counted(&self) -> Counted {
        Counted::of(self.rounds.iter().map(|round| round.quiet))
    }
}

/// One measurement, and what the broker did meanwhile, warm-up included.
#[derive(Debug, Clone)]
struct Taken {
    figures: Figures,
    seconds: f64,
    broker_cores: f64,
    produce_requests: u64,
    records: u64,
}

impl Taken {
    fn with_foreign(self) -> (Taken, f64) {
        let foreign_cores = self.figures.foreign_cores.unwrap_or(0.0);
        (self, foreign_cores)
    }
}

/// How the gateway loads the broker.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Produce {
    per_second: f64,
    records: usize,
}

impl Produce {
    fn of(probe: &Taken, rate: u64) -> Result<Produce> {
        let records = probe.records as f64 / probe.produce_requests as f64;
        let records = Some(records).filter(|records| records.is_finite() && *records >= 1.0);
        let records = records.context("the gateway sent no produce requests to count")?.round();
        Ok(Produce { per_second: rate as f64 / records, records: records as usize })
    }
}

struct Bench<'b> {
    latency: &'b Latency,
    broker: &'b EmbeddedKafka,
}

impl Bench<'_> {
    fn load(&self, server: &Server, mode: Mode) -> Result<Taken> {
        let options = &self.latency.rounds;
        let load = Load {
            connections: self.latency.connections,
            duration: options.duration,
            warmup: options.warmup,
            client_cpu: Some(options.client_cpu),
            machine: true,
        };
        let this = std::process::id();
        let (cpu, requests, records) = (Sample::take(this)?, self.requests(), self.records(server)?);
        let figures = server.load(Kind::single(self.latency.size), mode, &load)?;
        let spent = Sample::take(this)?.since(&cpu);
        let seconds = (options.duration + options.warmup).as_secs_f64();
        let broker_ns = spent.by_name.iter().filter(|(name, _)| name.starts_with(BROKER_THREAD)).map(|(_, ns)| ns);
        Ok(Taken {
            figures,
            seconds,
            broker_cores: broker_ns.sum::<u64>() as f64 / 1e9 / seconds,
            produce_requests: self.requests() - requests,
            records: self.records(server)? - records,
        })
    }

    fn requests(&self) -> u64 {
        self.broker.hooks().requests(ApiKey::Produce)
    }

    fn records(&self, server: &Server) -> Result<u64> {
        server.physical_topic().map_or(Ok(0), |topic| offsets::end_of(&self.broker.bootstrap(), topic))
    }

    /// Loads the broker until the guard is dropped.
    fn produce(&self, produce: &Produce) -> Result<Process> {
        let mut command = tethered(None, &this_program()?)?;
        command.args(["produce-load", "--to", &self.broker.addr().to_string()]);
        command.args(["--rate", &produce.per_second.to_string(), "--records", &produce.records.to_string()]);
        command.args(["--size", &self.latency.size.to_string()]);
        command.args(["--cpu", &self.latency.rounds.server_cpu.to_string()]);
        Ok(Process::start(command, "load for the broker", None)?.0)
    }
}

/// How the embedded broker names its thread.
const BROKER_THREAD: &str = "kafka-broker";

fn markdown(latency: &Latency, closed: &[f64], rate: u64, cases: &[Case<'_>]) -> String {
    let options = &latency.rounds;
    let mut out = String::new();
    let _ = writeln!(out, "### Latency at half load, open loop, {} B publishes, acks=all\n", latency.size);
    let half = match latency.rate {
        Some(_) => "as asked for".to_owned(),
        None => "half of the gateway's closed loop".to_owned(),
    };
    let _ = writeln!(
        out,
        "{}. All rows at {rate} requests/s, {half}; closed loop in this run: {}. Up to {} rounds of {:?} each, shuffled; medians \
         (min–max) of the quiet ones, µs from the time a request was due. Server on CPU {}, client and null broker on CPU \
         {}, {} connections.\n",
        machine(),
        closed
            .iter()
            .zip(["floor", "shard", "gateway"])
            .map(|(rate, name)| format!("{name} {rate:.0}/s"))
            .collect::<Vec<_>>()
            .join(", "),
        options.rounds,
        options.duration,
        options.server_cpu,
        options.client_cpu,
        latency.connections
    );
    out.push_str(
        "| server | broker | CPU µs/request | p50 | p99 | p99.9 | max | client late p50 / p99 / p99.9 | from sending p50 / p99 / p99.9 | \
         broker cores | produce requests/s | unanswered | foreign cores | quiet |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for case in cases {
        let counted = case.counted();
        let rounds = || counted.indexes.iter().map(|&index| &case.rounds[index]);
        let of = |figure: &dyn Fn(&Taken) -> f64| Spread::of(rounds().map(|round| figure(&round.value)));
        let open = |figure: &dyn Fn(&OpenFigures) -> u64| {
            of(&|taken| taken.figures.open.as_ref().map_or(0.0, |open| figure(open) as f64)).median
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {:.0} / {:.0} / {:.0} | {:.0} / {:.0} / {:.0} | {} | {} | {} | {} | {} |",
            case.server.name,
            case.behind.words(),
            of(&|taken| taken.figures.cpu_us()).show(2),
            of(&|taken| taken.figures.p50_us as f64).show(0),
            of(&|taken| taken.figures.p99_us as f64).show(0),
            of(&|taken| taken.figures.p999_us as f64).show(0),
            of(&|taken| taken.figures.max_us as f64).show(0),
            open(&|open| open.client_late_p50_us),
            open(&|open| open.client_late_p99_us),
            open(&|open| open.client_late_p999_us),
            open(&|open| open.from_sent_p50_us),
            open(&|open| open.from_sent_p99_us),
            open(&|open| open.from_sent_p999_us),
            of(&|taken| taken.broker_cores).show(2),
            of(&|taken| taken.produce_requests as f64 / taken.seconds).show(0),
            rounds().map(|round| round.value.figures.unanswered).sum::<u64>(),
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

    fn taken(produce_requests: u64, records: u64) -> Taken {
        let outcome = crate::outcome::Outcome::new();
        let figures = Figures::of(&outcome, std::time::Duration::from_secs(1), None);
        Taken { figures, seconds: 1.0, broker_cores: 0.0, produce_requests, records }
    }

    #[test]
    fn the_broker_is_given_as_many_requests_and_records_as_by_the_gateway() {
        for (produce_requests, records, rate, expected) in [
            (1_000, 16_000, 50_000, Some(Produce { per_second: 3_125.0, records: 16 })),
            (1_000, 1_000, 700, Some(Produce { per_second: 700.0, records: 1 })),
            (0, 0, 700, None),
            (0, 10, 700, None),
        ] {
            assert_eq!(Produce::of(&taken(produce_requests, records), rate).ok(), expected);
        }
    }
}
