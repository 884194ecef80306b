//! `kbench compare`: the gateway's CPU per publish as a ratio to what TCP alone costs, and messages per CPU-second of
//! batches, measured in the same minutes.
//!
//! All servers run at the same time, pinned to one CPU; only one of them is loaded at a time, from another CPU, where
//! the null broker runs as well. The ratio is taken within each round, and medians are given with the range. What the
//! gateway acknowledged must have reached the broker, and every answer is read.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Result;

use crate::cli::{Compare, DISTURBED};
use crate::load::Mode;
use crate::machine::machine;
use crate::outcome::Figures;
use crate::publish::Kind;
use crate::receipts::Receipts;
use crate::records::Framing;
use crate::rounds::{Counted, DISTURBED_NOTE, Order, Round, Rounds, Spread, quietly};
use crate::servers::{Load, NullBroker, Server, kateway_path};

pub fn run(compare: Compare) -> Result<ExitCode> {
    let options = &compare.rounds;
    // Declared first, so that it ends last.
    let mut _behind = None;
    let mut servers = vec![
        Server::floor("http", "raw io_uring floor", options.server_cpu)?,
        Server::floor("shard", "runtime shard, no gateway", options.server_cpu)?,
    ];
    if !compare.floor_only {
        let kateway = kateway_path(options.kateway.as_ref())?;
        let broker = NullBroker::start(options.client_cpu)?;
        servers.push(Server::kateway(&kateway, &broker.kafka, 1, Some(options.server_cpu))?);
        _behind = Some(broker);
    }
    let mut cases = cases(&compare, &servers);
    let mut order = Order::new(options.seed);
    for round in Rounds::new(options.rounds, options.within) {
        for index in order.shuffled(cases.len()) {
            let case = &mut cases[index];
            let load = Load {
                connections: case.connections,
                duration: options.duration,
                warmup: options.warmup,
                client_cpu: Some(options.client_cpu),
                machine: true,
            };
            let measured = quietly(options.foreign_max, || {
                let figures = servers[case.server].load(case.kind, Mode::Closed, &load)?;
                let foreign_cores = figures.foreign_cores.unwrap_or(0.0);
                Ok((figures, foreign_cores))
            })?;
            eprintln!(
                "{round}: {}: {:.0} requests/s, {:.2} µs CPU each, foreign {:.2}",
                case.name,
                measured.value.requests_per_second,
                measured.value.cpu_us(),
                measured.foreign_cores
            );
            case.rounds.push(measured);
        }
    }
    console::print!("{}", markdown(&compare, &cases));
    let disturbed = cases.iter().any(|case| case.counted(&cases[0]).disturbed);
    Ok(if disturbed { ExitCode::from(DISTURBED) } else { ExitCode::SUCCESS })
}

/// What a row must reach.
#[derive(Debug, Clone, Copy)]
enum Aim {
    None,
    /// At most this many times the floor's CPU per request.
    RatioMax(f64),
    /// At least so many messages per CPU-second.
    MessagesMin(f64),
}

/// One row.
struct Case {
    name: String,
    /// Index of the server.
    server: usize,
    kind: Kind,
    connections: usize,
    aim: Aim,
    rounds: Vec<Round<Figures>>,
}

fn cases(compare: &Compare, servers: &[Server]) -> Vec<Case> {
    let single = Kind::single(compare.size);
    let case = |server: usize, name: String, kind, connections, aim| Case {
        name,
        server,
        kind,
        connections,
        aim,
        rounds: Vec::new(),
    };
    let mut cases: Vec<Case> = servers
        .iter()
        .enumerate()
        .map(|(index, server)| {
            let aim = if index == GATEWAY { Aim::RatioMax(SINGLES_RATIO_MAX) } else { Aim::None };
            case(index, format!("{}, {} B singles", server.name, compare.size), single, compare.connections, aim)
        })
        .collect();
    if servers.len() <= GATEWAY {
        return cases;
    }
    // The gateway remembers a head that comes again on a connection; here none does.
    let kind = Kind { request_ids: true, ..single };
    let name = format!("kateway, {} B singles, a request id each", compare.size);
    cases.push(case(GATEWAY, name, kind, compare.connections, Aim::RatioMax(SINGLES_RATIO_MAX)));
    if compare.batch < 2 {
        return cases;
    }
    for (framing, aim) in [(Framing::Binary, Aim::MessagesMin(1e6)), (Framing::Ndjson, Aim::MessagesMin(4e5))] {
        let kind = Kind::batch(compare.batch, compare.batch_size, framing);
        let words = match framing {
            Framing::Binary => "binary",
            Framing::Ndjson => "NDJSON",
        };
        let name = format!("kateway, {words} {} × {} B", compare.batch, compare.batch_size);
        cases.push(case(GATEWAY, format!("{name}, summary"), kind, compare.batch_connections, aim));
        if compare.receipts {
            // As a client of that framing would have them.
            let (receipts, words) = match framing {
                Framing::Binary => (Receipts::Binary, "14 B receipts"),
                Framing::Ndjson => (Receipts::Ndjson, "NDJSON receipts"),
            };
            let kind = Kind { receipts, ..kind };
            cases.push(case(GATEWAY, format!("{name}, {words}"), kind, compare.batch_connections, Aim::None));
        }
    }
    cases
}

/// Most CPU per single publish, as a multiple of the floor's.
const SINGLES_RATIO_MAX: f64 = 1.5;

/// Index of the gateway among the servers.
const GATEWAY: usize = 2;

impl Case {
    /// Rounds in which this case was not disturbed, nor the floor where it is compared with that.
    fn counted(&self, floor: &Case) -> Counted {
        let compared = self.kind.batch == 1;
        Counted::of(self.rounds.iter().zip(&floor.rounds).map(|(mine, floor)| mine.quiet && (floor.quiet || !compared)))
    }
}

fn messages_per_cpu_second(figures: &Figures) -> f64 {
    figures.cpu.as_ref().map_or(0.0, |cpu| 1e6 / cpu.us_per_message)
}

fn markdown(compare: &Compare, cases: &[Case]) -> String {
    let options = &compare.rounds;
    let mut out = String::new();
    let _ = writeln!(out, "### CPU per publish, closed loop, acks=all\n");
    let _ = writeln!(
        out,
        "{}. Up to {} rounds of {:?} each, shuffled; medians (min–max) of the quiet ones. Server on CPU {}, client{} on CPU {}; {} \
         connections for singles, {} for batches. Heads on a connection repeat, except in the row with request ids.\n",
        machine(),
        options.rounds,
        options.duration,
        options.server_cpu,
        if compare.floor_only { "" } else { " and null broker" },
        options.client_cpu,
        compare.connections,
        compare.batch_connections
    );
    out.push_str(
        "| server, load | CPU µs/request | ratio to the floor | M messages/CPU-second | messages/s | p50 µs | p99 µs | \
         aim | foreign cores | quiet |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for case in cases {
        let counted = case.counted(&cases[0]);
        let rounds = || counted.indexes.iter().map(|&index| &case.rounds[index]);
        let of = |figure: &dyn Fn(&Figures) -> f64| Spread::of(rounds().map(|round| figure(&round.value)));
        let ratio = Spread::of(
            counted
                .indexes
                .iter()
                .map(|&index| case.rounds[index].value.cpu_us() / cases[0].rounds[index].value.cpu_us()),
        );
        let per_cpu_second = of(&|figures| messages_per_cpu_second(figures) / 1e6);
        let aim = match case.aim {
            Aim::None => "–".to_owned(),
            Aim::RatioMax(max) => met(format!("ratio ≤ {max}"), ratio.median <= max),
            Aim::MessagesMin(min) => met(format!("≥ {} M", min / 1e6), per_cpu_second.median >= min / 1e6),
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {aim} | {} | {} |",
            case.name,
            of(&Figures::cpu_us).show(2),
            // A batch does other work than the floor was given.
            if case.kind.batch == 1 { ratio.show(2) } else { "–".to_owned() },
            per_cpu_second.show(3),
            of(&|figures| figures.messages_per_second).show(0),
            of(&|figures| figures.p50_us as f64).show(0),
            of(&|figures| figures.p99_us as f64).show(0),
            Spread::of(rounds().map(|round| round.foreign_cores)).show(2),
            counted.show()
        );
    }
    if cases.iter().any(|case| case.counted(&cases[0]).disturbed) {
        out.push_str(DISTURBED_NOTE);
    }
    for case in &cases[1..] {
        let _ = writeln!(out, "\n{}, CPU µs/request by thread: {}.", case.name, by_thread(case));
    }
    out
}

/// An aim, and whether it is reached.
pub fn met(aim: String, is: bool) -> String {
    format!("{aim}: {}", if is { "met" } else { "missed" })
}

fn by_thread(case: &Case) -> String {
    let cpu = || case.rounds.iter().filter_map(|round| round.value.cpu.as_ref());
    let mut names: Vec<&String> = cpu().flat_map(|cpu| cpu.us_per_request_by_thread.keys()).collect();
    names.sort();
    names.dedup();
    let parts: Vec<String> = names
        .iter()
        .map(|name| {
            let us = Spread::of(cpu().map(|cpu| cpu.us_per_request_by_thread.get(*name).copied().unwrap_or(0.0)));
            format!("`{name}` {:.2}", us.median)
        })
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Spent;
    use crate::outcome::Outcome;
    use crate::receipts::Stored;
    use std::time::Duration;

    fn figures(cpu_us: u64, messages: u64) -> Figures {
        let mut outcome = Outcome::new();
        outcome.answered(201, Stored { stored: messages, failed: 0 }, 1024, Duration::from_micros(250));
        let spent = Spent { total_ns: cpu_us * 1_000, by_name: [("shard-0".to_owned(), cpu_us * 1_000)].into() };
        Figures::of(&outcome, Duration::from_secs(1), Some(&spent))
    }

    fn case(name: &str, kind: Kind, aim: Aim, cpu_us: &[u64], quiet: &[bool]) -> Case {
        let round = |(&cpu_us, &quiet)| Round { value: figures(cpu_us, kind.batch as u64), foreign_cores: 0.1, quiet };
        let rounds = cpu_us.iter().zip(quiet).map(round).collect();
        Case { name: name.to_owned(), server: 0, kind, connections: 1, aim, rounds }
    }

    fn table(cases: &[Case]) -> String {
        use clap::Parser;
        let crate::cli::Command::Compare(compare) = crate::cli::Cli::parse_from(["kbench", "compare"]).command else {
            panic!("compare");
        };
        markdown(&compare, cases)
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let single = Kind::single(1024);
        // The machine was twice as slow in the second round, for both.
        let floor = case("floor", single, Aim::None, &[8, 16, 8], &[true; 3]);
        let gateway = case("gateway", single, Aim::RatioMax(1.5), &[12, 24, 10], &[true; 3]);
        let text = table(&[floor, gateway]);
        assert!(text.contains("| floor | 8.00 (8.00–16.00) | 1.00 (1.00–1.00) |"), "{text}");
        assert!(text.contains("| gateway | 12.00 (10.00–24.00) | 1.50 (1.25–1.50) |"), "{text}");
        assert!(text.contains("| ratio ≤ 1.5: met | 0.10 (0.10–0.10) | 3/3 |"), "{text}");
        assert!(text.contains("gateway, CPU µs/request by thread: `shard-0` 12.00."), "{text}");
        assert!(!text.contains("DISTURBED"), "{text}");
    }

    #[test]
    fn disturbed_rounds_are_left_out_and_a_disturbed_row_is_marked() {
        let floor = case("floor", Kind::single(1024), Aim::None, &[8, 8, 8], &[true; 3]);
        let batch = Kind::batch(100, 100, Framing::Binary);
        let quiet = case("quiet", batch, Aim::MessagesMin(1e6), &[50, 500, 50], &[true, false, true]);
        let loud = case("loud", batch, Aim::MessagesMin(1e6), &[50, 500, 200], &[true, false, false]);
        let text = table(&[floor, quiet, loud]);
        assert!(text.contains("| quiet | 50.00 (50.00–50.00) | – | 2.000 (2.000–2.000) |"), "{text}");
        assert!(text.contains("| ≥ 1 M: met | 0.10 (0.10–0.10) | 2/3 |"), "{text}");
        assert!(text.contains("| loud | 200.00 (50.00–500.00) | – | 0.500 (0.200–2.000) |"), "{text}");
        assert!(text.contains("| ≥ 1 M: missed | 0.10 (0.10–0.10) | DISTURBED |"), "{text}");
        assert!(text.contains("no results"), "{text}");
    }
}
