//! `kbench journal`: durable appends of a journal, beside what the same disk does of the least that is durable.
//!
//! So many appends wait all the time, spread over a few threads; each is a group of one record, and the next one follows when
//! the journal has acknowledged it. The probe (`probe.rs`) is one writer that syncs each page: what a log without group commit
//! could do at best. All of it on one file system, in turns, in shuffled rounds, each with a directory of its own; what is acknowledged is let go as the gateway does it, so that
//! segments are recycled.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use ::disk::{Device, Files};
use ::journal::{Config, Group, Record, Waiter};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::cli::{DISTURBED, JournalBench, JournalDevice};
use crate::cpu::Sample;
use crate::limits::FREE_EVERY;
use crate::machine::machine;
use crate::measure::{ForeignMeter, Window};
use crate::outcome::{histogram, us};
use crate::probe::{self, Probed};
use crate::process::TempDir;
use crate::publish::message;
use crate::rounds::{Counted, DISTURBED_NOTE, Order, Round, Rounds, Spread, quietly};

pub fn run(bench: JournalBench) -> Result<ExitCode> {
    let mut cases = vec![Case { what: What::Probe, rounds: Vec::new() }];
    cases.extend(bench.devices().into_iter().map(|device| Case { what: What::Journal(device), rounds: Vec::new() }));
    let dir = bench.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut order = Order::new(bench.seed);
    for round in Rounds::new(bench.rounds, bench.within) {
        for index in order.shuffled(cases.len()) {
            let case = &mut cases[index];
            let measured = quietly(bench.foreign_max, || {
                let place = TempDir::inside(&dir)?;
                match case.what {
                    What::Probe => {
                        let probed = probe::measure(&place.path, bench.warmup, bench.duration)?;
                        Ok((Done::probed(&probed), probed.foreign_cores))
                    }
                    What::Journal(device) => appends(&place.path, device, &bench),
                }
            })?;
            let done = &measured.value;
            eprintln!("{round}: {}: {:.0}/s, foreign {:.2}", case.what.name(), done.per_second, measured.foreign_cores);
            case.rounds.push(measured);
        }
    }
    console::print!("{}", markdown(&bench, &dir, &cases));
    let disturbed = cases.iter().any(|case| case.counted().disturbed);
    Ok(if disturbed { ExitCode::from(DISTURBED) } else { ExitCode::SUCCESS })
}

/// One row.
struct Case {
    what: What,
    rounds: Vec<Round<Done>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Probe,
    Journal(JournalDevice),
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Probe => probe::NAME,
            What::Journal(JournalDevice::Mapped) => "journal, mapped segments",
            What::Journal(JournalDevice::Direct) => "journal, direct writes",
            What::Journal(JournalDevice::Plain) => "journal, plain writes",
        }
    }
}

impl Case {
    fn counted(&self) -> Counted {
        Counted::of(self.rounds.iter().map(|round| round.quiet))
    }
}

/// What one round of a case did.
#[derive(Clone, Debug, Default, PartialEq)]
struct Done {
    /// Acknowledged appends, or syncs.
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    commits_per_second: f64,
    appends_per_commit: f64,
    bytes_per_commit: f64,
    /// Of the committing thread.
    cpu_us: f64,
}

/// A closed loop of appends.
fn appends(dir: &Path, device: JournalDevice, bench: &JournalBench) -> Result<(Done, f64)> {
    let device = match device {
        JournalDevice::Mapped => Device::Mapped,
        JournalDevice::Direct => Device::Direct,
        JournalDevice::Plain => Device::Plain,
    };
    let files = Arc::new(Files::with_device(device, |_| Ok(()), || {}, || {})?);
    let (idle, _) =
        ::journal::Journal::recover(Config::new(dir.join("journal"), "kbench"), files, ::journal::random())?;
    let prepare = || {
        ::journal::raise_priority();
    };
    let journal = idle.start(prepare, |_| {}).context("the journal does not start")?;
    let window = bench.window();
    let body = message(bench.bytes);
    let latency = std::thread::scope(|scope| {
        let shares = bench.shares();
        let client = |waiting: usize| {
            let (journal, body) = (&journal, body.clone());
            scope.spawn(move || one_client(journal, &body, waiting, window))
        };
        let clients: Vec<_> = shares.into_iter().map(client).collect();
        let counted = supervise(&journal, window);
        let mut latency = histogram();
        for client in clients {
            match client.join() {
                Ok(part) => latency.add(&part?).expect("same bounds"),
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
        anyhow::Ok((latency, counted?))
    });
    let (latency, counted) = latency?;
    journal.close();
    let seconds = bench.duration.as_secs_f64();
    let appends = latency.len() as f64;
    ensure!(counted.commits > 0 && appends > 0.0, "the journal committed nothing in {seconds} s");
    let done = Done {
        per_second: appends / seconds,
        commits_per_second: counted.commits as f64 / seconds,
        appends_per_commit: counted.records as f64 / counted.commits as f64,
        bytes_per_commit: counted.bytes as f64 / counted.commits as f64,
        cpu_us: counted.cpu_ns as f64 / 1e3 / appends,
        ..Done::of(&latency)
    };
    Ok((done, counted.foreign_cores))
}

/// Keeps so many appends waiting until the window ends, and returns how long those of the window waited.
fn one_client(journal: &::journal::Journal, body: &Bytes, waiting: usize, window: Window) -> Result<Histogram<u64>> {
    let this = std::thread::current();
    let waiter = Waiter::new(move || this.unpark());
    let mut latency = histogram();
    let mut sequence = 0;
    let mut append = |ticket: usize| {
        let group = Group::new([Record::new(0, 2, sequence, body.clone())])?;
        sequence += 1;
        journal.append(group, ticket as u64, &waiter)?;
        anyhow::Ok(Instant::now())
    };
    let mut began = (0..waiting).map(&mut append).collect::<Result<Vec<Instant>>>()?;
    let (mut left, mut completions) = (waiting, Vec::new());
    while left > 0 {
        waiter.take(&mut completions);
        if completions.is_empty() {
            std::thread::park();
            continue;
        }
        let now = Instant::now();
        for completion in completions.drain(..) {
            if let Err(refused) = completion.result {
                bail!("the journal refused an append: {refused}");
            }
            let ticket = completion.ticket as usize;
            if now >= window.begin && now < window.end {
                latency.saturating_record(us(now - began[ticket]));
            }
            match now < window.end {
                true => began[ticket] = append(ticket)?,
                false => left -= 1,
            }
        }
    }
    Ok(latency)
}

/// What the journal and the machine did in the window.
struct Meanwhile {
    commits: u64,
    records: u64,
    bytes: u64,
    cpu_ns: u64,
    foreign_cores: f64,
}

/// Lets go what is acknowledged, and reads the counters at both ends of the window.
fn supervise(journal: &::journal::Journal, window: Window) -> Result<Meanwhile> {
    let read = || {
        let metrics = journal.metrics();
        let counts = [&metrics.commits, &metrics.records, &metrics.record_bytes].map(::journal::metrics::Count::get);
        anyhow::Ok((counts, Sample::take(std::process::id())?))
    };
    free_until(journal, window.begin)?;
    let (before, meter) = (read()?, ForeignMeter::start());
    free_until(journal, window.end)?;
    let (after, foreign_cores) = (read()?, meter.cores());
    let [commits, records, bytes] = [0, 1, 2].map(|at| after.0[at] - before.0[at]);
    let cpu_ns = after.1.since(&before.1).by_name.get("journal").copied().unwrap_or(0);
    Ok(Meanwhile { commits, records, bytes, cpu_ns, foreign_cores })
}

/// A checkpoint for every segment that is full.
fn free_until(journal: &::journal::Journal, end: Instant) -> Result<()> {
    let mut newest = 0;
    while Instant::now() < end {
        std::thread::sleep(FREE_EVERY.min(end.saturating_duration_since(Instant::now())));
        let segments = journal.segments();
        let Some((last, full)) = segments.split_last().filter(|(last, _)| **last > newest) else { continue };
        newest = *last;
        full.iter().for_each(|segment| journal.free(*segment));
        journal.checkpoint(journal.durable_lsn(), Vec::new()).context("the journal writes no checkpoint")?;
    }
    Ok(())
}

impl Done {
    fn of(latency: &Histogram<u64>) -> Done {
        let at = |quantile| latency.value_at_quantile(quantile) as f64;
        Done { p50_us: at(0.5), p99_us: at(0.99), max_us: latency.max() as f64, ..Done::default() }
    }

    fn probed(probed: &Probed) -> Done {
        let per_second = probed.syncs_per_second;
        Done { per_second, commits_per_second: per_second, appends_per_commit: 1.0, ..Done::of(&probed.latency) }
    }
}

impl JournalBench {
    fn window(&self) -> Window {
        let begin = Instant::now() + self.warmup;
        Window { begin, end: begin + self.duration }
    }

    fn devices(&self) -> Vec<JournalDevice> {
        match self.compare {
            true => vec![JournalDevice::Mapped, JournalDevice::Direct],
            false => vec![self.device],
        }
    }

    /// Appends that wait, of each client.
    fn shares(&self) -> Vec<usize> {
        let clients = self.clients.min(self.waiting);
        (0..clients).map(|index| self.waiting / clients + usize::from(index < self.waiting % clients)).collect()
    }
}

fn markdown(bench: &JournalBench, dir: &Path, cases: &[Case]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "### Durable appends of a journal\n");
    let _ = writeln!(
        out,
        "{}. In {}. Up to {} rounds of {:?} each, shuffled; medians (min–max) of the quiet ones. {} appends of {} B wait all the \
         time, of {} threads.\n",
        machine(),
        dir.display(),
        bench.rounds,
        bench.duration,
        bench.waiting,
        bench.bytes,
        bench.shares().len(),
    );
    out.push_str(
        "| what | durable appends/s | times the probe | p50 µs | p99 µs | max µs | commits/s | appends/commit | bytes/commit | CPU \
         µs/append | foreign cores | quiet |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for case in cases {
        let counted = case.counted();
        let rounds = || counted.indexes.iter().map(|&index| &case.rounds[index]);
        let of = |figure: &dyn Fn(&Done) -> f64| Spread::of(rounds().map(|round| figure(&round.value)));
        // A probe that was disturbed counts here all the same: it is of the same round.
        let ratio = counted.indexes.iter().map(|&index| {
            case.rounds[index].value.per_second / cases[0].rounds[index].value.per_second.max(f64::EPSILON)
        });
        let of_journal = |text: String| if case.what == What::Probe { "–".to_owned() } else { text };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            case.what.name(),
            of(&|done| done.per_second).show(0),
            Spread::of(ratio).show(1),
            of(&|done| done.p50_us).show(0),
            of(&|done| done.p99_us).show(0),
            of(&|done| done.max_us).show(0),
            of(&|done| done.commits_per_second).show(0),
            of(&|done| done.appends_per_commit).show(0),
            of_journal(of(&|done| done.bytes_per_commit).show(0)),
            of_journal(of(&|done| done.cpu_us).show(2)),
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

    fn bench(flags: &str) -> JournalBench {
        use clap::Parser;
        let args = format!("kbench journal --warmup 10ms --duration 100ms --rounds 1 {flags}");
        let crate::cli::Command::Journal(bench) = crate::cli::Cli::parse_from(args.split_whitespace()).command else {
            panic!("journal");
        };
        bench
    }

    #[test]
    fn what_waits_is_spread_over_the_threads_and_none_is_idle() {
        for (flags, expected) in [
            ("--waiting 512 --clients 4", vec![128; 4]),
            ("--waiting 6 --clients 4", vec![2, 2, 1, 1]),
            ("--waiting 1 --clients 4", vec![1]),
        ] {
            assert_eq!(bench(flags).shares(), expected, "{flags}");
        }
    }

    #[test]
    fn a_round_on_each_device_counts_what_was_committed() {
        let dir = TempDir::new().expect("a directory");
        for device in [JournalDevice::Plain, JournalDevice::Mapped, JournalDevice::Direct] {
            let bench = bench("--waiting 20 --bytes 100");
            let place = dir.path.join(format!("{device:?}"));
            std::fs::create_dir(&place).expect("a directory");
            let done = match appends(&place, device, &bench) {
                Ok((done, _)) => done,
                // Not every file system takes direct writes.
                Err(err) if device == JournalDevice::Direct => return eprintln!("direct writes: {err:#}"),
                Err(err) => panic!("{err:#}"),
            };
            assert!(done.per_second > 0.0 && done.p99_us >= done.p50_us, "{done:?}");
            assert!((1.0..=20.0).contains(&done.appends_per_commit), "{done:?}");
            assert!(done.bytes_per_commit >= 100.0 * done.appends_per_commit * 0.99, "{done:?}");
        }
    }

    #[test]
    fn appends_are_compared_with_the_probe_of_their_round() {
        let round = |per_second: f64, quiet| {
            let value = Done { per_second, commits_per_second: 10.0, ..Done::default() };
            Round { value, foreign_cores: 0.1, quiet }
        };
        // The disk was twice as slow in the second round.
        let probe = Case { what: What::Probe, rounds: vec![round(100.0, true), round(50.0, true), round(10.0, false)] };
        let rounds = vec![round(5_000.0, true), round(2_500.0, true), round(9_000.0, false)];
        let cases = [probe, Case { what: What::Journal(JournalDevice::Mapped), rounds }];
        let text = markdown(&bench("--compare"), Path::new("/data"), &cases);
        assert!(text.contains("| journal, mapped segments | 3750 (2500–5000) | 50.0 (50.0–50.0) |"), "{text}");
        assert!(text.contains("In /data. ") && text.contains("| 0.10 (0.10–0.10) | 2/3 |"), "{text}");
    }
}
