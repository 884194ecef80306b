//! Turning cases into trials: needs, skips, and a limit on how long a test may run.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use libtest_mimic::{Arguments, Failed, Trial};
use testkit::{components, daemon, progress};

/// A test still running after this is named on stderr.
const SLOW_AFTER: Duration = Duration::from_secs(30);
/// And after this the whole run ends: a thread cannot be killed, but every child dies with the process.
const HUNG_AFTER: Duration = Duration::from_secs(300);
const NIGHTLY_HUNG_AFTER: Duration = Duration::from_secs(1_800);

pub struct Case {
    /// The sentence it proves, as an identifier.
    pub name: &'static str,
    /// Components of the kit, or `bin:NAME` for one of our binaries.
    pub needs: &'static [&'static str],
    /// For long runs only.
    pub nightly: bool,
    pub run: Run,
    /// Cases with the same turn run one after the other; waiting for it does not count as running.
    pub turn: Option<&'static Mutex<()>>,
}

/// What a case does.
#[derive(Clone, Copy)]
pub enum Run {
    Function(fn() -> Result<()>),
    /// A row of a table.
    Row(&'static (dyn Fn() -> Result<()> + Send + Sync)),
}

impl Run {
    fn call(self) -> Result<()> {
        match self {
            Self::Function(function) => function(),
            Self::Row(row) => row(),
        }
    }
}

/// A case that runs every time.
pub const fn case(name: &'static str, needs: &'static [&'static str], run: fn() -> Result<()>) -> Case {
    Case { name, needs, nightly: false, run: Run::Function(run), turn: None }
}

pub fn run(subjects: &[(&'static str, &'static [Case])]) -> ExitCode {
    let args = Arguments::from_args();
    let with_nightly = is_set("GAFKA_NIGHTLY");
    let skip_is_failure = is_set("CI") || is_set("GAFKA_SKIP_IS_FAILURE");
    let mut asked = BTreeMap::new();
    let mut trials = Vec::new();
    for (subject, cases) in subjects {
        for case in cases.iter().filter(|case| with_nightly || !case.nightly) {
            let name = format!("{subject}::{}", case.name);
            let (run, turn) = (case.run, case.turn);
            let limit = if case.nightly { NIGHTLY_HUNG_AFTER } else { HUNG_AFTER };
            // Nothing is fetched for a listing, or for a test that was not asked for.
            let missing = if args.list || is_filtered_out(&args, &name) { None } else { missing(case, &mut asked) };
            let trial = match missing {
                None => {
                    let limited = name.clone();
                    Trial::test(name, move || {
                        let _mine = turn.map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
                        within_limit(&limited, limit, run)
                    })
                }
                Some(reason) if skip_is_failure => {
                    Trial::test(name, move || Err(Failed::from(format!("cannot be skipped here: {reason}"))))
                }
                Some(reason) => {
                    println!("skipped {name}: {reason}");
                    Trial::test(name, || Ok(())).with_ignored_flag(true)
                }
            };
            trials.push(trial);
        }
    }
    libtest_mimic::run(&args, trials).exit_code()
}

fn is_set(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| !value.is_empty() && value != "0" && value != "false")
}

/// As libtest does it: a substring unless `--exact`, minus `--skip`.
fn is_filtered_out(args: &Arguments, name: &str) -> bool {
    let matches = |pattern: &String| if args.exact { name == pattern } else { name.contains(pattern.as_str()) };
    args.filter.as_ref().is_some_and(|filter| !matches(filter)) || args.skip.iter().any(matches)
}

/// Why a case cannot run here, if it cannot. Each need is looked for once.
fn missing(case: &Case, asked: &mut BTreeMap<&'static str, Option<String>>) -> Option<String> {
    case.needs.iter().find_map(|need| {
        let found = asked.entry(need).or_insert_with(|| {
            let outcome = match need.strip_prefix("bin:") {
                Some(binary) => daemon::bin_path(binary).map(drop),
                None => components::ensure(need).map(drop),
            };
            outcome.err().map(|err| format!("{err:#}").replace('\n', "; "))
        });
        found.clone()
    })
}

fn within_limit(name: &str, limit: Duration, run: Run) -> Result<(), Failed> {
    let started = Instant::now();
    let (done, ended) = mpsc::channel::<()>();
    let watched = name.to_owned();
    let watchdog = std::thread::spawn(move || {
        let mut told = false;
        loop {
            let left = if told { limit } else { SLOW_AFTER }.saturating_sub(started.elapsed());
            match ended.recv_timeout(left) {
                Err(RecvTimeoutError::Timeout) if told => {
                    progress::say(&format!("{watched} hung for {limit:?}; ending the whole run"));
                    // Not abort: children are killed by the kernel either way, and the log stays readable.
                    std::process::exit(101);
                }
                Err(RecvTimeoutError::Timeout) => {
                    progress::say(&format!("  … {watched} is still running after {SLOW_AFTER:?}"));
                    told = true;
                }
                _ => return,
            }
        }
    });
    let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| run.call()));
    drop(done);
    let _ = watchdog.join();
    progress::say(&format!("  {name}: {:.1} s", started.elapsed().as_secs_f64()));
    match outcome {
        Ok(Ok(())) => Ok(()),
        // The chain on one line each; a backtrace of the test says less than its context.
        Ok(Err(err)) => {
            Err(Failed::from(err.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n  because: ")))
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(Failed::from(format!("panicked: {}", text.unwrap_or("(no message)"))))
        }
    }
}

/// For comparing what two parties say: an error instead of a panic keeps the context.
#[track_caller]
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<()> {
    if found != expected {
        let at = std::panic::Location::caller();
        bail!("{what}: found {found:?}, expected {expected:?} ({}:{})", at.file(), at.line());
    }
    Ok(())
}
