//! librdkafka's own test suite, built from the sources in the crate `rdkafka-sys` that `Cargo.lock` pins, against any
//! broker: [`Suite::built`], then [`Suite::run`].
//!
//! Each test number runs in a process of its own, in full mode: in the quick one some fifteen tests pass having done
//! nothing. Tests that need no broker are left out. What is left is compared with an [`Expectations`] file, a line per
//! test that does not simply pass:
//!
//! ```text
//! 0055 fail  its last part wants transactions
//! 0081/do_test_DeleteGroups pass  0081 ends at its first failure, so its other parts are run one by one
//! ```
//!
//! The runner is linked against a shared library, and a system may have another librdkafka: it is told where ours is.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::process::{Process, run, scratch_dir, tethered};
use crate::progress::{say, step};
use crate::{cache, components, seal};

/// Two minutes on two idle cores.
const BUILD_WITHIN: Duration = Duration::from_secs(20 * 60);
const ASK_WITHIN: Duration = Duration::from_secs(60);
/// The longest test that passes takes 80 s beside two others.
const TEST_WITHIN: Duration = Duration::from_secs(5 * 60);
/// More than these that go wrong have one cause, which a second look at each does not find.
const AGAIN_MAX: usize = 15;
/// A test that depends on timing may need so many more tries to end alike at two addresses.
const AGAIN_ROUNDS: usize = 3;
/// What part of a reason is shown.
const REASON_CHARS_MAX: usize = 200;

/// The mock cluster is all these two talk to, though they do not say so.
const WITHOUT_BROKER: [&str; 2] = ["0139", "0150"];

/// A test number, or one part of such a test by the name of its function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    number: String,
    part: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// Which broker, and what it takes for.
#[derive(Clone, Copy, Debug)]
pub struct Broker<'a> {
    pub bootstrap: &'a str,
    /// Tests ask for it: `4.4.0`.
    pub version: &'a str,
}

/// The built suite.
#[derive(Debug)]
pub struct Suite {
    dir: PathBuf,
}

impl Suite {
    /// From the cache, or built now.
    pub fn built() -> Result<Self> {
        components::ensure("librdkafka-headers")?;
        let (version, sources) = sources()?;
        let root = cache::components_dir()?;
        let dir = root.join(format!("librdkafka-suite-{version}"));
        let _held = cache::exclusive(&root.join(format!("librdkafka-suite-{version}.lock")))?;
        let make = |dir: &Path| step(&format!("building librdkafka's suite {version}"), || build(&sources, dir));
        if let seal::Made::Anew(why) = seal::made(&dir, &cache::hex(&Sha256::digest(BUILD)), make)? {
            say(&format!("  librdkafka's suite was built again: {why}"));
        }
        Ok(Self { dir })
    }

    /// Every test number that needs a broker.
    pub fn tests(&self) -> Result<Vec<Test>> {
        let text = fs::read_to_string(self.dir.join("tests.c"))?;
        let tests = with_broker(&text);
        ensure!(tests.len() > 80, "only {} tests were found in the suite's list", tests.len());
        Ok(tests)
    }

    /// Runs these, so many at once, and yields how each ended, in their order.
    pub fn run(&self, broker: Broker, tests: &[Test], at_once: usize) -> Result<Vec<(Test, Outcome)>> {
        let scratch = scratch_dir("librdkafka")?;
        self.furnish(scratch.path())?;
        let queue: Mutex<VecDeque<usize>> = Mutex::new((0..tests.len()).collect());
        let ended: Mutex<BTreeMap<usize, Result<Outcome>>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..at_once.max(1) {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                        let Some(index) = next else { return };
                        let outcome = self.run_one(broker, &tests[index], scratch.path());
                        ended.lock().unwrap_or_else(PoisonError::into_inner).insert(index, outcome);
                    }
                });
            }
        });
        let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let each = tests.iter().cloned().zip(ended.into_values());
        each.map(|(test, outcome)| Ok((test, outcome?))).collect()
    }

    /// Runs all of them and the parts that `expected` names, and those that ended otherwise than it says once more, each
    /// alone: some depend on timing. Yields how many there are of each outcome; the error names what still differs.
    pub fn check(&self, broker: Broker, expected: &Expectations, at_once: usize) -> Result<String> {
        let mut tests = self.tests()?;
        tests.extend(expected.parts());
        let mut all: BTreeMap<Test, Outcome> = self.run(broker, &tests, at_once)?.into_iter().collect();
        let again: Vec<Test> =
            all.iter().filter(|(test, outcome)| !expected.met(test, outcome)).map(|(test, _)| test.clone()).collect();
        if again.len() <= AGAIN_MAX {
            all.extend(self.run(broker, &again, 1)?);
        }
        let unmet: Vec<String> = all
            .iter()
            .filter(|(test, outcome)| !expected.met(test, outcome))
            .map(|(test, outcome)| format!("{test}: {outcome}"))
            .collect();
        let count = |wanted: fn(&Outcome) -> bool| all.values().filter(|outcome| wanted(outcome)).count();
        let summary = format!(
            "{} passed, {} skipped, {} failed, {} of them run twice",
            count(|outcome| *outcome == Outcome::Passed),
            count(|outcome| matches!(outcome, Outcome::Skipped(_))),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            again.len()
        );
        ensure!(unmet.is_empty(), "{summary}; otherwise than written down:\n{}", unmet.join("\n"));
        Ok(summary)
    }

    /// Runs these at two addresses of one cluster and compares test by test; those that ended differently run again, alone and
    /// at both, as often as it may take: some depend on timing. Yields how many there are of each outcome; the error names
    /// what always differed.
    pub fn compare(&self, [one, other]: [Broker; 2], tests: &[Test], at_once: usize) -> Result<String> {
        let mut at_one = Seen::default();
        let mut at_other = Seen::default();
        let mut left = tests.to_vec();
        for round in 0..=AGAIN_ROUNDS {
            let at_once = if round == 0 { at_once } else { 1 };
            at_one.add(self.run(one, &left, at_once)?);
            at_other.add(self.run(other, &left, at_once)?);
            left.retain(|test| !at_one.has_common(&at_other, test));
            if left.is_empty() || left.len() > AGAIN_MAX {
                break;
            }
            say(&format!("  librdkafka's suite: {} ended differently, once more", list(&left)));
        }
        let summary = format!("at one {}; at the other {}", at_one.summary(tests), at_other.summary(tests));
        let differing = left.iter().map(|test| format!("{test}: {} and {}", at_one.last(test), at_other.last(test)));
        let differing: Vec<String> = differing.collect();
        ensure!(differing.is_empty(), "{summary}; different:\n{}", differing.join("\n"));
        Ok(summary)
    }

    /// What tests look for beside their own directory: a file of the sources, and two of Kafka's programs.
    fn furnish(&self, scratch: &Path) -> Result<()> {
        symlink(self.dir.join("src"), scratch.join("src"))?;
        let jars = components::ensure("kafka2")?.join("files").join("*");
        let bin = scratch.join("kafka/bin");
        fs::create_dir_all(&bin)?;
        for (name, class) in [("kafka-topics.sh", "TopicCommand"), ("kafka-acls.sh", "AclCommand")] {
            let java = "java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1";
            let script = format!("#!/bin/sh\nexec {java} -cp '{}' kafka.admin.{class} \"$@\"\n", jars.display());
            fs::write(bin.join(name), script)?;
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    fn run_one(&self, broker: Broker, test: &Test, scratch: &Path) -> Result<Outcome> {
        let dir = scratch.join(test.to_string().replace('/', "-"));
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("test.conf"), format!("bootstrap.servers={}\n", broker.bootstrap))?;
        let (report, log) = (dir.join("report.json"), dir.join("log"));
        let mut command = tethered(self.dir.join("test-runner"));
        // -L: not those that need no broker.
        command.current_dir(&dir).args(["-L", "-p1"]);
        command.env("LD_LIBRARY_PATH", self.dir.join("lib")).env("TEST_REPORT", &report);
        command.env("TEST_KAFKA_VERSION", broker.version).env("BROKERS", broker.bootstrap);
        command.env("KAFKA_PATH", scratch.join("kafka")).env("TESTS", &test.number);
        // It would stretch every time limit by three.
        command.env_remove("CI");
        match &test.part {
            Some(part) => command.env("SUBTESTS", part),
            None => command.env_remove("SUBTESTS"),
        };
        let started = Instant::now();
        let mut process = Process::start(&test.to_string(), command, &log, false)?;
        let status = process.wait(TEST_WITHIN);
        process.kill9();
        let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let outcome = match status {
            Err(_) => Outcome::Failed(format!("still running after {TEST_WITHIN:?}")),
            Ok(status) => judge(test, status.success(), &fs::read_to_string(&report).unwrap_or_default(), &said),
        };
        say(&format!("  librdkafka {test}: {outcome}, {:.0} s", started.elapsed().as_secs_f64()));
        Ok(outcome)
    }
}

/// Version and directory of librdkafka in the crate that the lock file pins.
fn sources() -> Result<(String, PathBuf)> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["metadata", "--format-version", "1", "--locked"]);
    if components::offline() {
        command.arg("--offline");
    }
    let metadata: Value = serde_json::from_slice(&run(command, ASK_WITHIN)?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;
    let package =
        packages.iter().find(|package| package["name"] == "rdkafka-sys").context("no rdkafka-sys is locked")?;
    let text = |name: &str| package[name].as_str().with_context(|| format!("no {name} of rdkafka-sys"));
    let sources = Path::new(text("manifest_path")?).with_file_name("librdkafka");
    Ok((text("version")?.to_owned(), sources))
}

/// $1: where; $2: the sources. Executable bits do not survive in a crate.
const BUILD: &str = "\
mkdir -p \"$1/lib\" \"$1/src\"
cp -R --no-preserve=mode \"$2/.\" .
chmod +x configure configure.self lds-gen.py mklove/modules/* tests/*.sh
./configure --disable-valgrind --disable-refcnt-debug --disable-curl
make -j2 libs
cd tests
make -j2 build
strip --strip-debug test-runner
cp test-runner \"$1/\"
cp test.c \"$1/tests.c\"
cp ../src/librdkafka.so.1 ../src-cpp/librdkafka++.so.1 \"$1/lib/\"
cp ../src/statistics_schema.json \"$1/src/\"
";

fn build(sources: &Path, dir: &Path) -> Result<()> {
    let scratch = scratch_dir("librdkafka-build")?;
    let mut command = tethered("sh");
    command.current_dir(scratch.path()).args(["-ec", BUILD, "sh"]).arg(dir).arg(sources);
    run(command, BUILD_WITHIN).context("building librdkafka's suite needs a C++ compiler and make").map(drop)
}

/// The rows of the suite's own table that are neither local nor manual: `_TEST(0001_multiobj, 0),`.
fn with_broker(table: &str) -> Vec<Test> {
    let mut numbers: Vec<&str> = table
        .split("_TEST(")
        .skip(1)
        .filter_map(|row| {
            let (name, rest) = row.split_once(',')?;
            let number = name.get(..4).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
            let flags = rest.split([',', ')']).next().unwrap_or("");
            (!flags.contains("LOCAL") && !flags.contains("MANUAL")).then_some(number)
        })
        .filter(|number| !WITHOUT_BROKER.contains(number))
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.into_iter().map(|number| Test { number: number.to_owned(), part: None }).collect()
}

/// From the suite's report and what it said on the way. Without a report it died before it could write one.
fn judge(test: &Test, exited_well: bool, report: &str, said: &str) -> Outcome {
    let said = plain(said);
    let report: Value = serde_json::from_str(report).unwrap_or(Value::Null);
    let states: Vec<&str> = report["tests"].as_object().map_or_else(Vec::new, |tests| {
        let of_it = tests.iter().filter(|(name, _)| name.starts_with(&test.number));
        of_it.filter_map(|(_, entry)| entry["state"].as_str()).collect()
    });
    if !exited_well || states.iter().any(|state| ["FAILED", "RUNNING"].contains(state)) {
        return Outcome::Failed(failure(&said));
    }
    // A part that is asked for by a name that nobody has would pass without this.
    let ran_part = test.part.as_deref().is_none_or(|part| said.contains(&format!("[ {part}")));
    match states.contains(&"PASSED") {
        true if ran_part => Outcome::Passed,
        true => Outcome::Failed("it has no such part".to_owned()),
        false if states.is_empty() => Outcome::Failed("nothing of that number is in the report".to_owned()),
        false => Outcome::Skipped(skipped(&said)),
    }
}

/// The first sentence behind `### Test "NAME" failed at FILE:LINE:FUNCTION() at …`.
fn failure(said: &str) -> String {
    let mut lines = said.lines().skip_while(|line| !line.starts_with("### Test \"") || line.contains("<MAIN>"));
    let reason = lines.nth(1).or_else(|| said.lines().rev().find(|line| !line.trim().is_empty()));
    reason.unwrap_or("it died without a word").chars().take(REASON_CHARS_MAX).collect()
}

fn skipped(said: &str) -> String {
    let reasons = said.lines().filter_map(|line| Some(line.split_once("SKIPPING TEST: ")?.1));
    let mut others = reasons.filter(|reason| !reason.contains("negative test flags"));
    others.next().unwrap_or("by the suite itself: a known issue, or for another scenario").to_owned()
}

/// Without the escape sequences of a terminal.
fn plain(text: &str) -> String {
    let mut pieces = text.split('\x1b');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| all + piece.split_once('m').map_or(piece, |(_, rest)| rest))
}

impl fmt::Display for Test {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            Some(part) => write!(out, "{}/{part}", self.number),
            None => out.write_str(&self.number),
        }
    }
}

impl FromStr for Test {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (number, part) = text.split_once('/').map_or((text, None), |(number, part)| (number, Some(part)));
        ensure!(number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit()), "{text:?} names no test");
        Ok(Self { number: number.to_owned(), part: part.map(str::to_owned) })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => out.write_str("passed"),
            Self::Skipped(why) => write!(out, "skipped ({why})"),
            Self::Failed(why) => write!(out, "FAILED ({why})"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Pass,
    Fail,
    Skip,
    /// It depends on timing.
    Either,
}

/// How tests ended in the rounds so far.
#[derive(Debug, Default)]
struct Seen {
    outcomes: BTreeMap<Test, Vec<Outcome>>,
}

impl Seen {
    fn add(&mut self, round: Vec<(Test, Outcome)>) {
        for (test, outcome) in round {
            self.outcomes.entry(test).or_default().push(outcome);
        }
    }

    fn of(&self, test: &Test) -> &[Outcome] {
        self.outcomes.get(test).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether it ever ended alike here and there.
    fn has_common(&self, other: &Seen, test: &Test) -> bool {
        let kind = std::mem::discriminant::<Outcome>;
        self.of(test).iter().any(|mine| other.of(test).iter().any(|theirs| kind(mine) == kind(theirs)))
    }

    fn last(&self, test: &Test) -> String {
        self.of(test).last().map_or_else(|| "not run".to_owned(), ToString::to_string)
    }

    fn summary(&self, tests: &[Test]) -> String {
        let last = tests.iter().filter_map(|test| self.of(test).last());
        let (mut passed, mut skipped, mut failed) = (0, 0, 0);
        for outcome in last {
            match outcome {
                Outcome::Passed => passed += 1,
                Outcome::Skipped(_) => skipped += 1,
                Outcome::Failed(_) => failed += 1,
            }
        }
        format!("{passed} passed, {skipped} skipped, {failed} failed")
    }
}

fn list(tests: &[Test]) -> String {
    tests.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// What does not simply pass against one kind of broker, with a reason each.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    lines: BTreeMap<Test, Expected>,
}

impl Expectations {
    pub fn parse(text: &str) -> Result<Self> {
        let mut all = Self::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let test: Test = words.next().unwrap_or_default().parse()?;
            let expected = match words.next() {
                Some("pass") => Expected::Pass,
                Some("fail") => Expected::Fail,
                Some("skip") => Expected::Skip,
                Some("either") => Expected::Either,
                other => bail!("{line:?}: {other:?} is not pass, fail, skip or either"),
            };
            ensure!(words.next().is_some(), "{line:?} gives no reason");
            ensure!(all.lines.insert(test, expected).is_none(), "{line:?} is there twice");
        }
        Ok(all)
    }

    /// The parts to run beside the whole tests.
    pub fn parts(&self) -> impl Iterator<Item = Test> + '_ {
        self.lines.keys().filter(|test| test.part.is_some()).cloned()
    }

    /// Is it what is written down, or else a pass?
    pub fn met(&self, test: &Test, outcome: &Outcome) -> bool {
        match (self.lines.get(test).copied().unwrap_or(Expected::Pass), outcome) {
            (Expected::Either, _) => true,
            (Expected::Pass, Outcome::Passed) => true,
            (Expected::Fail, Outcome::Failed(_)) => true,
            (Expected::Skip, Outcome::Skipped(_)) => true,
            (Expected::Pass | Expected::Fail | Expected::Skip, _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_alike_when_it_ever_ended_alike_at_both() {
        let test: Test = "0042".parse().expect("a test");
        let failed = || Outcome::Failed("late".to_owned());
        let (mut one, mut other) = (Seen::default(), Seen::default());
        one.add(vec![(test.clone(), Outcome::Passed)]);
        other.add(vec![(test.clone(), failed())]);
        assert!(!one.has_common(&other, &test));
        one.add(vec![(test.clone(), Outcome::Skipped("no".to_owned()))]);
        assert!(!one.has_common(&other, &test));
        other.add(vec![(test.clone(), Outcome::Passed)]);
        assert!(one.has_common(&other, &test));
        assert_eq!(one.summary(&[test]), "0 passed, 1 skipped, 0 failed");
    }

    #[track_caller]
    fn check(exited_well: bool, states: &[(&str, &str)], said: &str, expected: Outcome) {
        let tests: serde_json::Map<String, Value> =
            states.iter().map(|(name, state)| ((*name).to_owned(), serde_json::json!({"state": state}))).collect();
        let report = serde_json::json!({ "tests": tests }).to_string();
        let test: Test = if said.contains("[ do_") { "0081/do_it" } else { "0081" }.parse().unwrap();
        assert_eq!(judge(&test, exited_well, &report, said), expected);
    }

    #[test]
    fn a_test_passed_when_it_said_so_and_its_process_ended_well() {
        let whole = [("0080_other", "FAILED"), ("0081_admin", "PASSED"), ("0081_admin_local", "SKIPPED")];
        check(true, &whole, "", Outcome::Passed);
        let leaked = "\x1b[31m### Test \"0081_admin\" failed at test.c:1() at Monday: ###\x1b[0m\n4 threads\nmore";
        check(false, &whole, leaked, Outcome::Failed("4 threads".to_owned()));
        check(true, &[("0081_admin", "FAILED")], leaked, Outcome::Failed("4 threads".to_owned()));
        check(false, &[], "", Outcome::Failed("it died without a word".to_owned()));
        check(true, &[], "", Outcome::Failed("nothing of that number is in the report".to_owned()));
    }

    #[test]
    fn a_part_that_nobody_has_did_not_pass() {
        check(true, &[("0081_admin", "PASSED")], "[ do_it:1: PASS ]", Outcome::Passed);
        check(true, &[("0081_admin", "PASSED")], "[ do_", Outcome::Failed("it has no such part".to_owned()));
    }

    #[test]
    fn a_skip_carries_the_tests_own_reason() {
        let said = "x SKIPPING TEST: Filtered due to negative test flags\ny SKIPPING TEST: no SASL\n";
        check(true, &[("0081_admin", "SKIPPED")], said, Outcome::Skipped("no SASL".to_owned()));
    }

    #[test]
    fn tests_that_need_no_broker_and_those_for_people_are_left_out() {
        let table = "#define _TEST(name, ...)\n _TEST(0001_multiobj, 0),\n _TEST(0022_batch, 0),\n \
                     _TEST(0022_batch_local, TEST_F_LOCAL),\n _TEST(0028_long,\n TEST_F_KNOWN_ISSUE),\n \
                     _TEST(0066_plugins,\n TEST_F_LOCAL | TEST_F_KNOWN_ISSUE),\n _TEST(0139_mock, 0),\n \
                     _TEST(8000_idle, TEST_F_MANUAL),";
        let numbers: Vec<String> = with_broker(table).iter().map(ToString::to_string).collect();
        assert_eq!(numbers, ["0001", "0022", "0028"]);
    }

    #[test]
    fn what_is_expected_has_a_reason_and_whatever_is_not_listed_passes() {
        let all =
            Expectations::parse("# note\n0055 fail  no transactions\n0113 either timing\n0097 skip no TLS\n").unwrap();
        let met = |test: &str, outcome: Outcome| all.met(&test.parse().unwrap(), &outcome);
        let (failed, skipped) = (|| Outcome::Failed(String::new()), || Outcome::Skipped(String::new()));
        assert!(met("0055", failed()) && !met("0055", Outcome::Passed));
        assert!(met("0113", failed()) && met("0113", Outcome::Passed));
        assert!(met("0097", skipped()) && !met("0097", failed()));
        assert!(met("0001", Outcome::Passed) && !met("0001", failed()) && !met("0001", skipped()));
        for bad in ["0055 fail", "0055 maybe so", "55 fail x", "0055 fail x\n0055 skip y"] {
            assert!(Expectations::parse(bad).is_err(), "{bad}");
        }
    }
}
