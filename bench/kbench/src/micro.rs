//! `kbench micro`: the benches of all crates that a publish passes through, run by cargo, as one table.

use std::fmt::Write as _;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::cli::Micro;
use crate::machine::machine;

/// One group of benches.
struct Bench {
    /// What of a publish it is.
    what: &'static str,
    package: &'static str,
    bench: &'static str,
    /// Beginning of the benches' names.
    group: &'static str,
}

const BENCHES: &[Bench] = &[
    Bench { what: "head parse", package: "gafka-http", bench: "head", group: "parse_head" },
    Bench { what: "authorize", package: "model", bench: "authorize", group: "authorize" },
    Bench { what: "batch framing", package: "gateway", bench: "batch", group: "framing" },
    Bench { what: "batch, body to receipt", package: "gateway", bench: "batch", group: "batch" },
    Bench { what: "accumulator", package: "kafka-client", bench: "publish", group: "accumulator" },
    Bench { what: "batch encode", package: "kafka-wire", bench: "record_batch", group: "encode" },
    Bench { what: "produce frame", package: "kafka-wire", bench: "record_batch", group: "produce frame" },
    Bench { what: "CRC32C", package: "kafka-wire", bench: "record_batch", group: "crc32c" },
];

pub fn run(micro: Micro) -> Result<ExitCode> {
    let mut out = format!("### Micro benches\n\n{}.\n\n| what | bench | time | rate |\n|---|---|---|---|\n", machine());
    let wanted = |bench: &&Bench| micro.filter.as_ref().is_none_or(|filter| bench.what.contains(filter.as_str()));
    let mut rows = 0;
    for bench in BENCHES.iter().filter(wanted) {
        eprintln!("{} ({})", bench.what, bench.package);
        for found in measure(bench, micro.quick)? {
            let _ = writeln!(out, "| {} | {} | {} | {} |", bench.what, found.name, found.time, found.rate);
            rows += 1;
        }
    }
    ensure!(
        rows > 0,
        "no such bench; there is: {}",
        BENCHES.iter().map(|bench| bench.what).collect::<Vec<_>>().join(", ")
    );
    console::print!("{out}");
    Ok(ExitCode::SUCCESS)
}

fn measure(bench: &Bench, quick: bool) -> Result<Vec<Found>> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["bench", "-q", "-p", bench.package, "--bench", bench.bench, "--", "--color", "never"]);
    if quick {
        command.arg("--quick");
    }
    let filter = format!("^{}/", bench.group);
    let output = command.arg(filter).stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    ensure!(output.status.success(), "cargo bench -p {} failed: {}", bench.package, output.status);
    let found = parse(&String::from_utf8_lossy(&output.stdout));
    if found.is_empty() {
        bail!("{} has no benches in group {}", bench.package, bench.group);
    }
    Ok(found)
}

#[derive(Debug, PartialEq)]
struct Found {
    name: String,
    /// As criterion estimates it.
    time: String,
    /// Throughput, where the bench has one.
    rate: String,
}

/// Reads what criterion prints. A long name has a line of its own:
///
/// ```text
/// crc32c/1 KiB            time:   [58.1 ns 58.4 ns 58.8 ns]
///                         thrpt:  [16.2 GiB/s 16.3 GiB/s 16.4 GiB/s]
///                  change:
///                         time:   [-1.0% +0.2% +1.4%] (p = 0.8 > 0.05)
/// ```
fn parse(said: &str) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut name = String::new();
    for line in said.lines() {
        // Compared with an earlier run, which is of no interest here.
        if line.contains('%') {
            continue;
        }
        if let Some((before, estimates)) = line.split_once("time:   [") {
            if !before.trim().is_empty() {
                name = before.trim().to_owned();
            }
            found.push(Found { name: name.clone(), time: middle(estimates), rate: "–".to_owned() });
        } else if let Some((_, estimates)) = line.split_once("thrpt:  [") {
            if let Some(last) = found.last_mut() {
                last.rate = middle(estimates);
            }
        } else if !line.starts_with(' ') && !line.is_empty() {
            name = line.trim().to_owned();
        }
    }
    found
}

/// The second of three numbers with units.
fn middle(estimates: &str) -> String {
    let words: Vec<&str> = estimates.trim_end_matches(']').split_ascii_whitespace().collect();
    words.get(2..4).map_or_else(|| estimates.to_owned(), |words| words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_criterion_prints_becomes_rows() {
        let said = "\
crc32c/1 KiB            time:   [58.1 ns 58.4 ns 58.8 ns]
                        thrpt:  [16.2 GiB/s 16.3 GiB/s 16.4 GiB/s]
Found 3 outliers among 100 measurements (3.00%)
  2 (2.00%) high mild
batch/publish/binary 100 x 100 B, Summary receipts
                        time:   [11.1 µs 11.2 µs 11.9 µs]
                 change:
                        time:   [−1.0% +0.2% +1.4%] (p = 0.8 > 0.05)
                        thrpt:  [−1.0% +0.2% +1.4%]
";
        let row =
            |name: &str, time: &str, rate: &str| Found { name: name.into(), time: time.into(), rate: rate.into() };
        assert_eq!(
            parse(said),
            [
                row("crc32c/1 KiB", "58.4 ns", "16.3 GiB/s"),
                row("batch/publish/binary 100 x 100 B, Summary receipts", "11.2 µs", "–")
            ]
        );
    }
}
