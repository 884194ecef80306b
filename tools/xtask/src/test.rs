//! `cargo xtask test`: everything that must hold, in one run, with one closing line.
//!
//! Order: what fails fast first (formatting, lints, dependencies), then one build of all binaries and tests, the
//! components, unit and integration tests binary by binary, doc tests, and last the end-to-end tests against real
//! components. A step that fails does not stop the others, except the build.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use testkit::progress::say;
use testkit::{components, limits};

use crate::args::Args;
use crate::deny;
use crate::report::{Counts, Report, parse_result, parse_skip};
use crate::step::{self, Ended};
use crate::suite::{self, Binary, cargo};

const FORMAT_WITHIN: Duration = Duration::from_secs(3 * 60);
const CLIPPY_WITHIN: Duration = Duration::from_secs(45 * 60);
const DENY_WITHIN: Duration = Duration::from_secs(5 * 60);
const DOC_WITHIN: Duration = Duration::from_secs(20 * 60);
/// One binary of unit tests should take seconds.
const UNIT_WITHIN: Duration = Duration::from_secs(5 * 60);
const E2E_WITHIN: Duration = Duration::from_secs(20 * 60);
/// `--nightly` simulates for so long per program of tests that has a simulation.
const SIMULATION_NIGHTLY: Duration = Duration::from_secs(20 * 60);
const NIGHTLY_WITHIN: Duration = Duration::from_secs(3 * 60 * 60);
const _: () = assert!(UNIT_WITHIN.as_secs() > limits::KAFKA_READY_WITHIN.as_secs());

const FORMAT: &str = "rustfmt";
const CLIPPY: &str = "clippy";
const DENY: &str = "cargo-deny";
const DOC: &str = "doc tests";

struct Options {
    list: bool,
    nightly: bool,
    skip_is_failure: bool,
    filter: Option<String>,
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str()))
    }
}

pub fn run(words: &[String]) -> Result<ExitCode> {
    let mut args = Args::new(words);
    let (list, nightly) = (args.flag("--list"), args.flag("--nightly"));
    let options = Options { list, nightly, skip_is_failure: in_ci(), filter: args.word() };
    args.finish()?;
    let mut report = Report::default();
    checks(&options, &mut report)?;
    let binaries = build(&options, &mut report)?;
    if options.list {
        return list_all(&options, &binaries);
    }
    let (e2e, unit): (Vec<Binary>, Vec<Binary>) = binaries.into_iter().partition(Binary::is_e2e);
    let mut found = [FORMAT, CLIPPY, DENY, DOC].into_iter().any(|check| options.wants(check));
    for binary in &unit {
        found |= run_binary(binary, &options, &mut report)?;
    }
    if options.wants(DOC) {
        doc_tests(&mut report)?;
    }
    for binary in &e2e {
        if options.wants(&binary.name()) || !matching(binary, &options)?.is_empty() {
            fetch_components(&options);
        }
        found |= run_binary(binary, &options, &mut report)?;
    }
    if let (false, Some(filter)) = (found, &options.filter) {
        anyhow::bail!("no check and no test has `{filter}` in its name; `cargo xtask test --list` shows them");
    }
    console::print!("{}", report.to_text(options.skip_is_failure));
    Ok(if report.is_success(options.skip_is_failure) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !value.is_empty() && value != "false" && value != "0")
}

fn checks(options: &Options, report: &mut Report) -> Result<()> {
    if options.list {
        return Ok(());
    }
    if options.wants(FORMAT) {
        let mut command = cargo();
        command.args(["fmt", "--all", "--check"]);
        check(FORMAT, command, FORMAT_WITHIN, report)?;
    }
    if options.wants(CLIPPY) {
        let mut command = cargo();
        command.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]);
        check(CLIPPY, command, CLIPPY_WITHIN, report)?;
    }
    if options.wants(DENY) {
        match deny::ready() {
            Ok(command) => check(DENY, command, DENY_WITHIN, report)?,
            Err(err) => report.skipped_check(DENY, &format!("{err:#}").replace('\n', "; ")),
        }
    }
    Ok(())
}

/// One command that either succeeds or is one failure.
fn check(name: &str, command: Command, limit: Duration, report: &mut Report) -> Result<()> {
    say(&format!("▶ {name}"));
    let ended = step::run(name, command, limit, |_| {})?;
    if !ended.success {
        show(&ended);
    }
    finished(name, &ended);
    report.check(name, ended.success, ended.took);
    Ok(())
}

fn build(options: &Options, report: &mut Report) -> Result<Vec<Binary>> {
    say("▶ build");
    let (ended, binaries) = suite::build(options.skip_is_failure)?;
    finished("build", &ended);
    if !ended.success {
        report.check("build", false, ended.took);
        console::print!("{}", report.to_text(false));
        anyhow::bail!("the build failed, nothing was tested");
    }
    report.row("build", Counts::default(), ended.took);
    Ok(binaries)
}

fn fetch_components(options: &Options) {
    say("▶ components");
    for component in components::ALL.iter().filter(|component| options.nightly || !component.nightly) {
        // The tests that need it say so themselves; this is for the progress lines.
        if let Err(err) = components::ensure(component.name) {
            say(&format!("  {} cannot be had: {err:#}", component.name));
        }
    }
}

/// Tests of a binary that the filter asks for: all when its name matches, else those whose name does.
fn matching(binary: &Binary, options: &Options) -> Result<Vec<String>> {
    let tests = suite::tests_of(binary, options.nightly)?;
    let whole = options.wants(&binary.name());
    Ok(tests.into_iter().filter(|test| whole || options.wants(test)).collect())
}

/// Runs what the filter asks for. False: nothing.
fn run_binary(binary: &Binary, options: &Options, report: &mut Report) -> Result<bool> {
    let name = binary.name();
    let whole = options.wants(&name);
    if !whole && matching(binary, options)?.is_empty() {
        return Ok(false);
    }
    let mut command = binary.command();
    if let (false, Some(filter)) = (whole, &options.filter) {
        command.arg(filter);
    }
    if options.skip_is_failure {
        command.env("GAFKA_SKIP_IS_FAILURE", "1");
    }
    let mut limit = UNIT_WITHIN;
    if options.nightly && !binary.is_e2e() {
        limit += SIMULATION_NIGHTLY;
        command.env("GAFKA_SIMULATION_SECONDS", SIMULATION_NIGHTLY.as_secs().to_string());
    }
    if binary.is_e2e() {
        limit = if options.nightly { NIGHTLY_WITHIN } else { E2E_WITHIN };
        if options.nightly {
            command.env("GAFKA_NIGHTLY", "1");
        }
        say(&format!("▶ {name}"));
    }
    let ended = step::run(&name, command, limit, |_| {})?;
    let has_tests = count(&name, &ended, report);
    if has_tests {
        finished(&name, &ended);
    }
    Ok(true)
}

fn doc_tests(report: &mut Report) -> Result<()> {
    say(&format!("▶ {DOC}"));
    let mut command = cargo();
    command.args(["test", "--quiet", "--workspace", "--doc", "--no-fail-fast"]);
    let ended = step::run(DOC, command, DOC_WITHIN, |_| {})?;
    finished(DOC, &ended);
    count(DOC, &ended, report);
    Ok(())
}

/// Adds up one program's tests. A program that failed without naming a failed test is one failure itself.
fn count(name: &str, ended: &Ended, report: &mut Report) -> bool {
    let mut sum = Counts::default();
    for counts in ended.lines.iter().filter_map(|line| parse_result(line)) {
        sum.passed += counts.passed;
        sum.failed += counts.failed;
        sum.skipped += counts.skipped;
    }
    ended.lines.iter().filter_map(|line| parse_skip(line)).for_each(|skip| report.skip(skip));
    if !ended.success {
        show(ended);
        let failed: Vec<&str> = ended
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix("test ")?.strip_suffix("FAILED"))
            .map(|test| test.trim_end().trim_end_matches("...").trim_end())
            .collect();
        failed.iter().for_each(|test| report.failure(format!("{name}: {test}")));
        if sum.failed == 0 {
            sum.failed = 1;
            let why = if ended.hung { "hung" } else { ended.status.as_str() };
            report.failure(format!("{name}: {why}"));
        }
    }
    let has_tests = sum != Counts::default();
    if has_tests {
        report.row(name, sum, ended.took);
    }
    has_tests
}

fn finished(name: &str, ended: &Ended) {
    let mark = if ended.success { "✔" } else { "✗" };
    say(&format!("{mark} {name}: {:.1} s", ended.took.as_secs_f64()));
}

fn show(ended: &Ended) {
    // Cargo's messages for machines are not for people; it renders the diagnostics to stderr itself.
    ended.lines.iter().filter(|line| !line.starts_with('{')).for_each(|line| say(line));
}

fn list_all(options: &Options, binaries: &[Binary]) -> Result<ExitCode> {
    for check in [FORMAT, CLIPPY, DENY, DOC].into_iter().filter(|check| options.wants(check)) {
        console::println!("{check}");
    }
    for binary in binaries {
        for test in matching(binary, options)? {
            console::println!("{}: {test}", binary.name());
        }
    }
    Ok(ExitCode::SUCCESS)
}
