//! `kbench polls`: what groups and polls that only wait cost everybody else, and how they are served.
//!
//! - CPU of the gateway per publish to a topic nobody polls, beside 0, 100 and 2,000 groups with 10,000 polls. What the
//!   groups cost by themselves (heartbeats, polls that end and come again) is measured right before each load and taken
//!   off. Two loads: many connections, whose publishes share a flush, and one, each of whose publishes is a flush of its
//!   own, so that whatever walks groups or polls in a flush shows whole.
//! - From a publish to the poll that waits for it (`delivery.rs`), beside the same groups.
//! - Connections held to the broker.
//! - Closing all polls at once, and leaving their groups (`closing.rs`).
//!
//! A gateway for each number of groups; all run at the same time on one CPU, in front of one embedded broker on the other,
//! where the clients are as well. One is loaded at a time, in shuffled rounds. The polls are in two client processes.
//! The broker's files are in memory where the machine has such a place: a disk is not measured here.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread::sleep;

use anyhow::{Result, ensure};
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};
use hdrhistogram::Histogram;

use crate::cli::{DISTURBED, Polls};
use crate::closing::{self, Closed, Phase};
use crate::compare::met;
use crate::cpu::Sample;
use crate::crowd::Crowd;
use crate::delivery;
use crate::limits::{CROWDS_MAX, OTHER_DESCRIPTORS, SETTLE_JOINED};
use crate::load::Mode;
use crate::machine::machine;
use crate::measure::ForeignMeter;
use crate::outcome::{Figures, histogram};
use crate::pin;
use crate::process::TempDir;
use crate::publish::Kind;
use crate::rounds::{Counted, DISTURBED_NOTE, Order, Round, Rounds, Spread, quietly};
use crate::servers::{Load, kateway_path};
use crate::sockets::need_descriptors;

/// "Does not depend on groups and polls": at most this many times the CPU that a publish costs beside none.
const COST_RATIO_MAX: f64 = 1.2;
/// A poll is served at most so much later than beside no other group.
const LATER_MS_MAX: f64 = 10.0;
/// Connections to a broker and shard, and what the process has beside them: the control plane's.
const BROKER_CONNECTIONS_MAX: usize = 16;

pub fn run(polls: Polls) -> Result<ExitCode> {
    let options = &polls.rounds;
    let growing = polls.groups.is_sorted_by(|less, more| less < more);
    ensure!(
        growing && polls.groups.first() == Some(&0) && (2..=CROWDS_MAX).contains(&polls.groups.len()),
        "--groups is 0 and then up to {} larger numbers",
        CROWDS_MAX - 1
    );
    let most = polls.polls_of(polls.groups[polls.groups.len() - 1]);
    need_descriptors(most + OTHER_DESCRIPTORS, &format!("{most} polls"))?;
    let kateway = kateway_path(options.kateway.as_ref())?;
    // The broker's thread and the client's stay where this thread is.
    pin::this_thread(Some(options.client_cpu))?;
    // Declared first, so that they end last.
    let data_dir = TempDir::in_memory()?;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let broker =
        EmbeddedKafka::start(EmbeddedConfig { listen, data_dir: data_dir.path.clone(), ..EmbeddedConfig::default() })?;
    let mut rows = Vec::new();
    for &groups in &polls.groups {
        rows.push(Row::new(Crowd::gather(&polls, groups, &kateway, broker.addr())?));
    }
    eprintln!("{} s for what was used to join", SETTLE_JOINED.as_secs());
    sleep(SETTLE_JOINED);
    let mut order = Order::new(options.seed);
    measure_cost(&polls, &mut rows, &mut order)?;
    measure_delivery(&polls, &mut rows, &mut order)?;
    let closed = closing::run(&mut rows.last_mut().expect("at least two").crowd, &polls)?;
    let found: Vec<&Found> = rows.iter().map(|row| &row.found).collect();
    console::print!("{}", markdown(&polls, &found, &closed));
    Ok(if disturbed(&found) { ExitCode::from(DISTURBED) } else { ExitCode::SUCCESS })
}

/// A number of groups.
struct Row {
    crowd: Crowd,
    found: Found,
}

/// What was found about it.
struct Found {
    groups: usize,
    polls: usize,
    costs: Vec<Round<Cost>>,
    /// Microseconds.
    deliveries: Vec<Round<Histogram<u64>>>,
    broker_connections_max: usize,
}

impl Row {
    fn new(crowd: Crowd) -> Row {
        let (groups, polls) = (crowd.groups, crowd.polls);
        let found = Found { groups, polls, costs: Vec::new(), deliveries: Vec::new(), broker_connections_max: 0 };
        Row { crowd, found }
    }

    /// While nobody joins.
    fn count_connections(&mut self) -> Result<()> {
        self.found.broker_connections_max = self.found.broker_connections_max.max(self.crowd.broker_connections()?);
        Ok(())
    }
}

/// CPU of one gateway in one round.
#[derive(Debug, Clone)]
struct Cost {
    /// CPUs' worth of time beside no load.
    standing_cores: f64,
    many: Figures,
    one: Figures,
}

impl Cost {
    fn measure(crowd: &Crowd, options: &Polls) -> Result<Cost> {
        let before = Sample::take(crowd.gateway.server.pid())?;
        sleep(options.rounds.duration);
        let spent = Sample::take(crowd.gateway.server.pid())?.since(&before);
        let load = |connections| {
            let load = Load {
                connections,
                duration: options.rounds.duration,
                warmup: options.rounds.warmup,
                client_cpu: Some(options.rounds.client_cpu),
                machine: true,
            };
            crowd.gateway.server.load(Kind::single(options.size), Mode::Closed, &load)
        };
        Ok(Cost {
            standing_cores: spent.total_ns as f64 / 1e9 / options.rounds.duration.as_secs_f64(),
            many: load(options.connections)?,
            one: load(1)?,
        })
    }

    /// Microseconds per publish, without what the groups cost by themselves.
    fn us(&self, figures: &Figures) -> f64 {
        figures.cpu_us() - self.standing_cores * 1e6 / figures.requests_per_second.max(1.0)
    }
}

fn measure_cost(polls: &Polls, rows: &mut [Row], order: &mut Order) -> Result<()> {
    let options = &polls.rounds;
    for round in Rounds::new(options.rounds, options.within) {
        for index in order.shuffled(rows.len()) {
            let row = &mut rows[index];
            let measured = quietly(options.foreign_max, || {
                let meter = ForeignMeter::start();
                let cost = Cost::measure(&row.crowd, polls)?;
                Ok((cost, meter.cores()))
            })?;
            let cost = &measured.value;
            eprintln!(
                "{round}: {} groups: {:.2} cores standing, {:.2} µs a publish of {} connections, {:.2} µs of one, foreign {:.2}",
                row.crowd.groups,
                cost.standing_cores,
                cost.us(&cost.many),
                polls.connections,
                cost.us(&cost.one),
                measured.foreign_cores
            );
            row.found.costs.push(measured);
            row.crowd.check()?;
            row.count_connections()?;
        }
    }
    Ok(())
}

fn measure_delivery(polls: &Polls, rows: &mut [Row], order: &mut Order) -> Result<()> {
    let options = &polls.rounds;
    for round in Rounds::new(options.rounds, options.within) {
        for index in order.shuffled(rows.len()) {
            let row = &mut rows[index];
            let measured = quietly(options.foreign_max, || {
                let meter = ForeignMeter::start();
                let times = delivery::measure(&row.crowd.gateway, &row.crowd.probe, polls.samples)?;
                Ok((times, meter.cores()))
            })?;
            let times = &measured.value;
            let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
            eprintln!(
                "{round}: {} groups: publish to waiting poll p50 {:.1} ms, p99 {:.1} ms, foreign {:.2}",
                row.crowd.groups,
                ms(0.5),
                ms(0.99),
                measured.foreign_cores
            );
            row.found.deliveries.push(measured);
            row.crowd.check()?;
        }
    }
    Ok(())
}

impl Found {
    /// Rounds in which neither this nor what it is compared with was disturbed.
    fn cost_counted(&self, none: &Found) -> Counted {
        Counted::of(self.costs.iter().zip(&none.costs).map(|(mine, none)| mine.quiet && none.quiet))
    }

    fn delivery_counted(&self) -> Counted {
        Counted::of(self.deliveries.iter().map(|round| round.quiet))
    }

    fn delivery(&self) -> Histogram<u64> {
        let mut all = histogram();
        for index in self.delivery_counted().indexes {
            all.add(&self.deliveries[index].value).expect("same bounds");
        }
        all
    }

    /// "Beside none" is what the first row is.
    fn aim(&self, aim: String, is: bool) -> String {
        if self.groups == 0 { "–".to_owned() } else { met(aim, is) }
    }
}

fn disturbed(found: &[&Found]) -> bool {
    found.iter().any(|row| row.cost_counted(found[0]).disturbed || row.delivery_counted().disturbed)
}

fn markdown(polls: &Polls, found: &[&Found], closed: &Closed) -> String {
    let mut out = String::new();
    cost_table(&mut out, polls, found);
    delivery_table(&mut out, polls, found);
    closed_table(&mut out, polls, found[found.len() - 1], closed);
    if disturbed(found) {
        out.push_str(DISTURBED_NOTE);
    }
    out
}

fn cost_table(out: &mut String, polls: &Polls, found: &[&Found]) {
    let options = &polls.rounds;
    let _ = writeln!(
        out,
        "### CPU per publish beside groups and polls that wait\n\n\
         {}. Up to {} rounds of {:?} for each load, shuffled; medians (min–max) of the quiet ones. Publishes of {} B, \
         acks=all, closed loop, to a topic nobody polls; what the groups cost by themselves (\"standing\", measured before \
         each load) is taken off. Gateways on CPU {}, clients and broker on CPU {}. {} topics of {} partitions for each \
         thousand groups; polls wait {:?} to {:?}.\n",
        machine(),
        options.rounds,
        options.duration,
        polls.size,
        options.server_cpu,
        options.client_cpu,
        polls.topics,
        polls.partitions,
        polls.wait / 2,
        polls.wait
    );
    let _ = writeln!(
        out,
        "| groups | waiting polls | standing, cores | CPU µs/publish, {} connections | ratio to no groups | CPU \
         µs/publish, one connection | ratio to no groups | aim | broker connections | aim | foreign cores | quiet |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|",
        polls.connections
    );
    for row in found {
        let counted = row.cost_counted(found[0]);
        let rounds = || counted.indexes.iter().map(|&index| (&row.costs[index].value, &found[0].costs[index].value));
        let of = |us: &dyn Fn(&Cost) -> f64| {
            let ratio = Spread::of(rounds().map(|(mine, none)| us(mine) / us(none)));
            (Spread::of(rounds().map(|(mine, _)| us(mine))), ratio)
        };
        let (many, many_ratio) = of(&|cost| cost.us(&cost.many));
        let (one, one_ratio) = of(&|cost| cost.us(&cost.one));
        let is = many_ratio.median.max(one_ratio.median) <= COST_RATIO_MAX;
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.groups,
            row.polls,
            Spread::of(rounds().map(|(mine, _)| mine.standing_cores)).show(3),
            many.show(2),
            many_ratio.show(2),
            one.show(2),
            one_ratio.show(2),
            row.aim(format!("ratio ≤ {COST_RATIO_MAX}"), is),
            row.broker_connections_max,
            row.aim(format!("≤ {BROKER_CONNECTIONS_MAX}"), row.broker_connections_max <= BROKER_CONNECTIONS_MAX),
            Spread::of(counted.indexes.iter().map(|&index| row.costs[index].foreign_cores)).show(2),
            counted.show()
        );
    }
}

fn delivery_table(out: &mut String, polls: &Polls, found: &[&Found]) {
    let _ = writeln!(
        out,
        "\n### From a publish to the poll that waits for it\n\n\
         One group of its own, one message after the other, beside so many groups; {} messages in each of up to {} rounds, \
         shuffled. Milliseconds from the writing of the publish to the last byte of the poll's answer.\n\n\
         | other groups | messages | p50 ms | p99 ms | max ms | later than beside none, p50 / p99 ms | aim | foreign cores | quiet \
         |\n|---|---|---|---|---|---|---|---|---|",
        polls.samples, polls.rounds.rounds
    );
    let none = found[0].delivery();
    for row in found {
        let (all, counted) = (row.delivery(), row.delivery_counted());
        let ms = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1e3;
        let later = |quantile| ms(&all, quantile) - ms(&none, quantile);
        let is = later(0.5).max(later(0.99)) <= LATER_MS_MAX;
        let _ = writeln!(
            out,
            "| {} | {} | {:.2} | {:.2} | {:.2} | {:.2} / {:.2} | {} | {} | {} |",
            row.groups,
            all.len(),
            ms(&all, 0.5),
            ms(&all, 0.99),
            all.max() as f64 / 1e3,
            later(0.5),
            later(0.99),
            row.aim(format!("≤ {LATER_MS_MAX} later"), is),
            Spread::of(counted.indexes.iter().map(|&index| row.deliveries[index].foreign_cores)).show(2),
            counted.show()
        );
    }
}

fn closed_table(out: &mut String, polls: &Polls, row: &Found, closed: &Closed) {
    let leaving_cost = match (&closed.gone, &closed.leaving) {
        (Some(gone), Some(leaving)) => {
            let beyond = leaving.cpu_seconds - gone.cpu_seconds_of(leaving.seconds);
            format!(", which took {beyond:+.2} s of CPU beside the heartbeats it saved")
        }
        _ => String::new(),
    };
    let _ = writeln!(
        out,
        "\n### All {} polls closed at once, and their {} groups left\n\n\
         {} publishes/s to a topic nobody polls, open loop, meanwhile; each is answered. The gateway had closed its end of \
         every connection {:.2} s after the clients were killed, which took {:.2} s of CPU beyond the usual; the groups \
         were left {:.0} s later{leaving_cost}.\n\n\
         | while | seconds | publishes | gateway CPU s | p50 µs | longest ms | client late at most ms | \
         longest `/alive` ms | gateway's longest turn ms | gateway's memory MiB |\n\
         |---|---|---|---|---|---|---|---|---|---|",
        row.polls,
        row.groups,
        polls.rate,
        closed.took.as_secs_f64(),
        closed.closing_cpu_seconds,
        closed.left_after.as_secs_f64()
    );
    for (name, phase) in [
        ("they wait", Some(&closed.before)),
        ("they are closed", Some(&closed.closing)),
        ("nobody polls", closed.gone.as_ref()),
        ("the groups are left", closed.leaving.as_ref()),
    ] {
        let Some(phase) = phase else { continue };
        let Phase { seconds, publishes, cpu_seconds, p50_us, .. } = phase;
        let ms = |us: u64| us as f64 / 1e3;
        let _ = writeln!(
            out,
            "| {name} | {seconds:.1} | {publishes} | {cpu_seconds:.2} | {p50_us} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} |",
            ms(phase.longest_us),
            ms(phase.client_late_us),
            ms(phase.longest_alive_us),
            ms(phase.longest_turn_us),
            phase.resident_kib as f64 / 1024.0
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use crate::cpu::Spent;
    use crate::outcome::Outcome;
    use crate::receipts::Stored;
    use clap::Parser;
    use std::time::Duration;

    /// A thousand publishes in a second.
    fn figures(cpu_us: u64) -> Figures {
        let mut outcome = Outcome::new();
        for _ in 0..1_000 {
            outcome.answered(201, Stored { stored: 1, failed: 0 }, 100, Duration::from_micros(250));
        }
        let spent = Spent { total_ns: cpu_us * 1_000_000, by_name: [].into() };
        Figures::of(&outcome, Duration::from_secs(1), Some(&spent))
    }

    fn row(groups: usize, costs: &[(f64, u64, u64)], delivery_us: &[u64]) -> Found {
        let cost = |&(standing_cores, many, one): &(f64, u64, u64)| Round {
            value: Cost { standing_cores, many: figures(many), one: figures(one) },
            foreign_cores: 0.1,
            quiet: true,
        };
        let mut times = histogram();
        delivery_us.iter().for_each(|&us| times.saturating_record(us));
        Found {
            groups,
            polls: groups * 5,
            costs: costs.iter().map(cost).collect(),
            deliveries: vec![Round { value: times, foreign_cores: 0.1, quiet: true }],
            broker_connections_max: 5 + groups / 100,
        }
    }

    fn phase(cpu_seconds: f64, longest_us: u64) -> Phase {
        Phase {
            seconds: 10.0,
            cpu_seconds,
            publishes: 10_000,
            p50_us: 200,
            longest_us,
            client_late_us: 900,
            longest_turn_us: 400,
            longest_alive_us: 2_000,
            resident_kib: 100 << 10,
        }
    }

    #[test]
    fn what_groups_cost_by_themselves_is_taken_off_and_ratios_are_within_a_round() {
        let Command::Polls(polls) = Cli::parse_from(["kbench", "polls"]).command else { panic!("polls") };
        // The machine was twice as slow in the second round; heartbeats take 20 µs for each of 1,000 publishes.
        let none = row(0, &[(0.0, 10, 30), (0.0, 20, 60)], &[2_000, 2_000]);
        let many = row(2_000, &[(0.02, 30, 53), (0.02, 43, 83)], &[8_000, 19_000]);
        let closed = Closed {
            before: phase(0.5, 3_000),
            closing: phase(0.9, 41_500),
            took: Duration::from_millis(1_250),
            closing_cpu_seconds: 0.42,
            gone: Some(phase(0.3, 2_000)),
            leaving: Some(phase(0.36, 4_000)),
            left_after: Duration::from_secs(118),
        };
        let text = markdown(&polls, &[&none, &many], &closed);
        for expected in [
            "| 0 | 0 | 0.000 (0.000–0.000) | 15.00 (10.00–20.00) | 1.00 (1.00–1.00) |",
            "| 2000 | 10000 | 0.020 (0.020–0.020) | 16.50 (10.00–23.00) | 1.07 (1.00–1.15) | 48.00 (33.00–63.00) | 1.08 (1.05–1.10) \
             | ratio ≤ 1.2: met | 25 | ≤ 16: missed |",
            "| 2000 | 2 | 8.00 | 19.01 | 19.01 | 6.00 / 17.01 | ≤ 10 later: missed |",
            "every connection 1.25 s after the clients were killed, which took 0.42 s of CPU beyond the usual",
            "the groups were left 118 s later, which took +0.06 s of CPU",
            "| they are closed | 10.0 | 10000 | 0.90 | 200 | 41.5 | 0.9 | 2.0 | 0.4 | 100 |",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains("DISTURBED"), "{text}");
        let text = markdown(&polls, &[&none, &many], &Closed { leaving: None, ..closed });
        assert!(text.contains("118 s later.") && !text.contains("| the groups are left |"), "{text}");
    }

    #[test]
    fn rows_are_compared_with_no_groups_at_all() {
        for bad in ["--groups 100,2000", "--groups 0", "--groups 0,5,5", "--groups 0,1,2,3,4,5,6"] {
            let Command::Polls(polls) = Cli::parse_from(format!("kbench polls {bad}").split(' ')).command else {
                panic!("polls")
            };
            assert!(run(polls).expect_err("refused").to_string().contains("--groups is 0"), "{bad}");
        }
    }
}
