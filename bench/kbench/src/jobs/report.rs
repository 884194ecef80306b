//! What was found, as tables: rates, how late jobs come out, and starts after a kill.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use super::engine::{Log, Rate};
use super::flags::JobsBench;
use super::late::{Late, Quantiles};
use super::peers::Peer;
use super::recovery::{Recovery, Start};
use super::{Case, Found, What};
use crate::machine::{file_system, machine};
use crate::rounds::{Counted, DISTURBED_NOTE, Spread};

/// Threads that use less than this part of a job's CPU time are not named.
const THREAD_SHARE_MIN: f64 = 0.03;
const NOTHING: &str = "–";

/// A directory and its file system.
pub fn place(dir: &Path) -> String {
    format!("{}, {}", dir.display(), file_system(dir))
}

pub fn markdown(bench: &JobsBench, place: &str, cases: &[Case]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "### Delayed jobs\n");
    let _ = writeln!(
        out,
        "{}. In {place}. Up to {} rounds of {:?} each, shuffled; medians (min–max) of the quiet ones. {} wait all the time, of {} \
         threads in this process, of {} connections over HTTP, of {} to others. {} B a job. Gateway and others on CPU {}, their \
         clients on CPU {}; the store in this process on any.\n",
        machine(),
        bench.rounds.rounds,
        bench.rounds.duration,
        bench.waiting,
        bench.shares(bench.clients).len(),
        bench.waiting,
        bench.shares(bench.peer_connections).len(),
        bench.size,
        bench.rounds.server_cpu,
        bench.rounds.client_cpu,
    );
    rates(&mut out, bench, cases);
    lateness(&mut out, bench, cases);
    if cases.iter().any(|case| case.counted().disturbed) {
        out.push_str(DISTURBED_NOTE);
    }
    out
}

fn rates(out: &mut String, bench: &JobsBench, cases: &[Case]) {
    out.push_str(
        "| what | durable jobs/s | times the probe | times beanstalkd | p50 µs | p99 µs | max µs | commits/s | jobs/commit | no room, \
         times | CPU µs/job | of these by thread | foreign cores | quiet |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for case in cases {
        let rows = case.counted_rows(|found| match found {
            Found::Rate(rate) => Some(rate),
            Found::Late(_) => None,
        });
        let Some(Rows { counted, rows }) = rows else { continue };
        let of = |figure: &dyn Fn(&Rate) -> f64| Spread::of(rows.iter().map(|rate| figure(rate)));
        let of_log = |digits, figure: &dyn Fn(&Log) -> f64| match rows.iter().all(|rate| rate.log.is_some()) {
            true => Spread::of(rows.iter().filter_map(|rate| rate.log.as_ref()).map(figure)).show(digits),
            false => NOTHING.to_owned(),
        };
        let of_servers = |text: String| if case.what == What::Probe { NOTHING.to_owned() } else { text };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            case.what.name(bench),
            of(&|rate| rate.per_second).show(0),
            beside(cases, case, &counted, What::Probe, 1),
            beside(cases, case, &counted, What::Peer(Peer::Beanstalkd), 1),
            of(&|rate| rate.p50_us).show(0),
            of(&|rate| rate.p99_us).show(0),
            of(&|rate| rate.max_us).show(0),
            of_log(0, &|log| log.commits_per_second),
            of_log(0, &|log| log.jobs_per_commit),
            of_log(0, &|log| log.full as f64),
            of_servers(of(&|rate| rate.cpu_us).show(2)),
            of_servers(threads(&rows.iter().map(|rate| &rate.cpu_us_by_thread).collect::<Vec<_>>())),
            case.foreign(&counted),
            counted.show()
        );
    }
}

fn lateness(out: &mut String, bench: &JobsBench, cases: &[Case]) {
    out.push_str(
        "\n| what | late p50 ms | p99 | p99.9 | max | all came out after s | another account beside it: p50 ms | p99 | max | CPU \
         µs/job | of these by thread | foreign cores | quiet |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for case in cases {
        let rows = case.counted_rows(|found| match found {
            Found::Late(late) => Some(late),
            Found::Rate(_) => None,
        });
        let Some(Rows { counted, rows }) = rows else { continue };
        let of = |figure: &dyn Fn(&Late) -> f64| Spread::of(rows.iter().map(|late| figure(late)));
        let others = |figure: &dyn Fn(&Quantiles) -> f64| match rows.iter().all(|late| late.of_others.is_some()) {
            true => Spread::of(rows.iter().filter_map(|late| late.of_others.as_ref()).map(figure)).show(1),
            false => NOTHING.to_owned(),
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            case.what.name(bench),
            of(&|late| late.of_jobs.p50_ms).show(1),
            of(&|late| late.of_jobs.p99_ms).show(1),
            of(&|late| late.of_jobs.p999_ms).show(1),
            of(&|late| late.of_jobs.max_ms).show(1),
            of(&|late| late.seconds).show(2),
            others(&|late| late.p50_ms),
            others(&|late| late.p99_ms),
            others(&|late| late.max_ms),
            of(&|late| late.cpu_us).show(2),
            threads(&rows.iter().map(|late| &late.cpu_us_by_thread).collect::<Vec<_>>()),
            case.foreign(&counted),
            counted.show()
        );
    }
}

/// Rounds that count, and what was found in them.
struct Rows<'c, T> {
    counted: Counted,
    rows: Vec<&'c T>,
}

impl Case {
    /// `None`: it has another kind of figures.
    fn counted_rows<'c, T>(&'c self, of: impl Fn(&'c Found) -> Option<&'c T>) -> Option<Rows<'c, T>> {
        let counted = self.counted();
        let rows = counted.indexes.iter().map(|&index| of(&self.rounds[index].value)).collect::<Option<Vec<_>>>()?;
        Some(Rows { counted, rows })
    }

    fn per_second(&self, index: usize) -> Option<f64> {
        match &self.rounds.get(index)?.value {
            Found::Rate(rate) => Some(rate.per_second),
            Found::Late(_) => None,
        }
    }

    fn foreign(&self, counted: &Counted) -> String {
        Spread::of(counted.indexes.iter().map(|&index| self.rounds[index].foreign_cores)).show(2)
    }
}

/// How many times the other's rate, in each round. The other may have been disturbed: it is of the same round.
fn beside(cases: &[Case], case: &Case, counted: &Counted, other: What, digits: usize) -> String {
    let Some(other) = cases.iter().find(|case| case.what == other) else { return NOTHING.to_owned() };
    let ratio = |index: &usize| Some(case.per_second(*index)? / other.per_second(*index)?.max(f64::EPSILON));
    Spread::of(counted.indexes.iter().filter_map(ratio)).show(digits)
}

/// Medians of what each thread used, the most first.
fn threads(rounds: &[&BTreeMap<String, f64>]) -> String {
    let mut names: Vec<&String> = rounds.iter().flat_map(|threads| threads.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let of = |name: &String| rounds.iter().map(|threads| threads.get(name).copied().unwrap_or(0.0)).collect::<Vec<_>>();
    let mut found: Vec<(&String, f64)> =
        names.into_iter().map(|name| (name, Spread::of(of(name).into_iter()).median)).collect();
    found.sort_by(|one, other| other.1.total_cmp(&one.1));
    let total: f64 = found.iter().map(|(_, us)| us).sum();
    let shown = found.iter().filter(|(_, us)| *us >= total * THREAD_SHARE_MIN && *us > 0.0);
    shown.map(|(name, us)| format!("{name} {us:.2}")).collect::<Vec<_>>().join(", ")
}

pub fn recovery(bench: &JobsBench, place: &str, found: &Recovery) -> String {
    let mut out = String::new();
    let Recovery { filled, killed, lost } = found;
    let (jobs, size) = (filled.jobs, bench.pending_size);
    let of_job = |bytes: u64| bytes as f64 / jobs.max(1) as f64;
    let _ = writeln!(out, "### A start with {jobs} delayed jobs after a kill\n");
    let _ = writeln!(
        out,
        "{}. In {place}. {jobs} jobs of {size} B, due within a year; their files out of the page cache before each start.\n",
        machine()
    );
    out.push_str(
        "| added/s | no room, times | RssAnon MiB, most | RssAnon MiB at the end | RssFile MiB at the end | disk B/job at the end | disk \
         B/job, most | disk B/job at rest |\n|---|---|---|---|---|---|---|---|\n",
    );
    let _ = writeln!(
        out,
        "| {:.0} | {} | {} | {} | {} | {:.1} | {:.1} | {:.1} |",
        jobs as f64 / filled.seconds.max(f64::EPSILON),
        filled.full,
        mib(filled.anon_bytes_max),
        mib(filled.memory.anon_bytes),
        mib(filled.memory.file_bytes),
        of_job(filled.disk_bytes),
        of_job(filled.disk_bytes_max),
        of_job(killed.disk_bytes_settled)
    );
    out.push_str(
        "\n| start | ready after s | of these opening the store s | jobs found | of tables | RssAnon MiB, most before that | RssAnon MiB \
         then | RssFile MiB then |\n|---|---|---|---|---|---|---|---|\n",
    );
    let starts = [("after a kill", Some(killed)), ("and without books and checkpoints", lost.as_ref())];
    for (what, start) in starts {
        let Some(start) = start else {
            let _ = writeln!(out, "| {what} | refused, nothing touched | – | – | – | – | – | – |");
            continue;
        };
        let Start { ready_seconds, open_seconds, pending, tables, memory, .. } = start;
        let gone = if *pending < jobs { format!(", **{} are gone**", jobs - pending) } else { String::new() };
        let _ = writeln!(
            out,
            "| {what} | {ready_seconds:.2} | {open_seconds:.2} | {pending}{gone} | {tables} | {} | {} | {} |",
            mib(start.anon_bytes_max),
            mib(memory.anon_bytes),
            mib(memory.file_bytes)
        );
    }
    out
}

fn mib(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::super::recovery::{Filled, Memory};
    use super::*;
    use crate::jobs::flags::tests::bench;
    use crate::rounds::Round;

    fn rate(per_second: f64, log: Option<Log>) -> Found {
        let cpu_us_by_thread = [("client".to_owned(), 1.5), ("journal".to_owned(), 0.5), ("idle".to_owned(), 0.01)];
        Found::Rate(Rate { per_second, cpu_us: 2.0, cpu_us_by_thread: cpu_us_by_thread.into(), log, ..Rate::default() })
    }

    fn case(what: What, found: [Found; 3]) -> Case {
        let mut foreign = [0.1, 0.1, 0.9].into_iter();
        let round = |value| {
            let foreign_cores = foreign.next().unwrap_or(0.0);
            Round { value, foreign_cores, quiet: foreign_cores < 0.2 }
        };
        Case { what, rounds: found.into_iter().map(round).collect() }
    }

    /// The disk was twice as slow in the second round, and the third was disturbed.
    fn cases() -> Vec<Case> {
        let log = |full| Some(Log { commits_per_second: 10.0, jobs_per_commit: 256.0, full });
        let late = |p99_ms, other_ms| {
            let quantiles = |p99_ms| Quantiles { p99_ms, ..Quantiles::default() };
            let of_others = Some(quantiles(other_ms)).filter(|_| other_ms > 0.0);
            Found::Late(Late { of_jobs: quantiles(p99_ms), of_others, seconds: 2.5, ..Late::default() })
        };
        vec![
            case(What::Probe, [rate(100.0, None), rate(50.0, None), rate(10.0, None)]),
            case(What::Adds, [rate(5_000.0, log(0)), rate(2_500.0, log(4)), rate(9_000.0, log(99))]),
            case(What::Peer(Peer::Beanstalkd), [rate(500.0, None), rate(125.0, None), rate(1.0, None)]),
            case(What::Steady, [late(5.0, 0.0), late(7.0, 0.0), late(900.0, 0.0)]),
            case(What::Burst, [late(50.0, 3.0), late(70.0, 5.0), late(900.0, 900.0)]),
        ]
    }

    #[test]
    fn rates_are_compared_with_the_probe_and_beanstalkd_of_their_round() {
        let text = markdown(&bench("--size 100"), "/data, ext4 on /dev/vda", &cases());
        for row in [
            "In /data, ext4 on /dev/vda. Up to 5 rounds of 1.5s each",
            "512 wait all the time, of 2 threads in this process, of 512 connections over HTTP, of 16 to others. 100 B a job.",
            "| probe: 4 KiB and fdatasync, one writer | 75 (50–100) | 1.0 (1.0–1.0) | 0.3 (0.2–0.4) |",
            // Of medians it would be 12.
            "| store: adds, one by one | 3750 (2500–5000) | 50.0 (50.0–50.0) | 15.0 (10.0–20.0) |",
            "| 10 (10–10) | 256 (256–256) | 2 (0–4) | 2.00 (2.00–2.00) | client 1.50, journal 0.50 | 0.10 (0.10–0.10) | 2/3 |",
            "| beanstalkd `-f0`: adds | 312 (125–500) | 3.8 (2.5–5.0) | 1.0 (1.0–1.0) |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        assert!(!text.contains("DISTURBED"), "{text}");
    }

    #[test]
    fn a_server_that_is_not_here_has_no_row_and_nothing_is_compared_with_it() {
        let cases: Vec<Case> = cases().into_iter().filter(|case| !matches!(case.what, What::Peer(_))).collect();
        let text = markdown(&bench(""), "/data", &cases);
        assert!(text.contains("| store: adds, one by one | 3750 (2500–5000) | 50.0 (50.0–50.0) | – |"), "{text}");
        assert!(!text.contains("| beanstalkd"), "{text}");
    }

    #[test]
    fn lateness_is_told_of_the_jobs_and_of_the_account_beside_a_burst() {
        let text = markdown(&bench("--burst 5000"), "/data", &cases());
        for row in [
            "| 20000 due each second for 4s | 0.0 (0.0–0.0) | 6.0 (5.0–7.0) | 0.0 (0.0–0.0) | 0.0 (0.0–0.0) | 2.50 (2.50–2.50) | – | – | – |",
            "| 5000 due within one second | 0.0 (0.0–0.0) | 60.0 (50.0–70.0) |",
            "| 2.50 (2.50–2.50) | 0.0 (0.0–0.0) | 4.0 (3.0–5.0) |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
    }

    #[test]
    fn a_row_that_was_never_quiet_is_marked() {
        let mut cases = cases();
        cases[1].rounds[0].quiet = false;
        let text = markdown(&bench(""), "/data", &cases);
        assert!(text.contains("| DISTURBED |") && text.ends_with(DISTURBED_NOTE), "{text}");
    }

    #[test]
    fn bytes_are_told_for_each_job_and_jobs_that_are_gone_are_not_hidden() {
        let memory = Memory { anon_bytes: 3 << 20, file_bytes: 1 << 19 };
        let filled = Filled {
            jobs: 1_000,
            seconds: 0.5,
            full: 7,
            memory,
            anon_bytes_max: 9 << 20,
            disk_bytes: 100_000,
            disk_bytes_max: 300_000,
        };
        let killed = Start {
            ready_seconds: 0.25,
            open_seconds: 0.2,
            pending: 1_000,
            disk_bytes_settled: 90_000,
            ..Start::default()
        };
        let lost = Some(Start { pending: 900, without_book: true, ..Start::default() });
        let text = recovery(&bench("--pending-size 10"), "/data", &Recovery { filled, killed, lost });
        for row in [
            "1000 jobs of 10 B, due within a year;",
            "| 2000 | 7 | 9.0 | 3.0 | 0.5 | 100.0 | 300.0 | 90.0 |",
            "| after a kill | 0.25 | 0.20 | 1000 | 0 |",
            "| and without books and checkpoints | 0.00 | 0.00 | 900, **100 are gone** | 0 |",
        ] {
            assert!(text.contains(row), "{row}\n{text}");
        }
    }
}
