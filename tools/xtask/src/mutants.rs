//! `cargo xtask mutants FILE`: changes one source file in many small ways and names the changes no test noticed.
//!
//! cargo-mutants does the work in a copy of the tree. Survivors that are right to survive are listed with a reason in
//! `tools/xtask/mutants.txt`; any other is a failure, and so is a listed one that does not survive any more. A file too
//! large for one slice of time is done in shards: `--shard 0/3`, `1/3`, `2/3`. `--lib` builds and runs the unit tests
//! alone, which is twice as fast where they are what tests the file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::components;
use testkit::process::{scratch_dir, tethered};
use testkit::progress::say;

use crate::args::{Args, usage};
use crate::step;

/// One slice; a larger file is done in shards.
const SLICE_WITHIN: Duration = Duration::from_secs(50 * 60);
/// Simulated worlds of each run of the tests: what a change breaks for good, few of them show.
const WORLDS: &str = "150";
const ACCEPTED: &str = "tools/xtask/mutants.txt";

/// A change of the code, as cargo-mutants describes it, without line and column, which move.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mutant {
    file: String,
    change: String,
}

pub fn run(words: &[String]) -> Result<ExitCode> {
    let mut args = Args::new(words);
    let shard = args.value("--shard")?;
    let unit_tests_only = args.flag("--lib");
    let file =
        args.word().ok_or_else(|| usage("mutants of which file? For example dataplane/kafka-client/src/backoff.rs"))?;
    args.finish()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let package = package_of(&root, &file)?;
    let accepted = parse_accepted(&fs::read_to_string(root.join(ACCEPTED))?)?;
    let program = components::ensure("cargo-mutants")
        .context("`cargo install cargo-mutants --locked` could not be done; it needs the crate registry once")?
        .join("files/cargo-mutants");

    let scratch = scratch_dir("mutants")?;
    let mut command = tethered(program);
    command.current_dir(&root).args(["mutants", "--colors", "never", "--no-shuffle", "--package", &package]);
    command.args(["--file", &file, "--output"]).arg(scratch.path());
    // The copy is built here each time, so that the next slice finds our dependencies built.
    command.env("CARGO_TARGET_DIR", root.join("target/mutants"));
    command.env("GAFKA_SIMULATION_WORLDS", WORLDS);
    if let Some(shard) = &shard {
        command.args(["--shard", shard]);
    }
    if unit_tests_only {
        command.args(["--", "--lib"]);
    }
    let ended = step::run("mutants", command, SLICE_WITHIN, say)?;
    if ended.hung {
        bail!("{file} takes longer than {SLICE_WITHIN:?}; do it in shards, `--shard 0/3` and so on");
    }
    // 2: some survived, 3: some ran into the time limit of a test, which is noticing them.
    if !["exit status: 0", "exit status: 2", "exit status: 3"].contains(&ended.status.as_str()) {
        bail!("cargo-mutants: {}; do the tests of {package} pass?", ended.status);
    }
    let survivors = parse_missed(&fs::read_to_string(scratch.path().join("mutants.out/missed.txt"))?)?;
    let verdict = compare(&file, &survivors, &accepted, shard.is_none());
    console::print!("{}", verdict.to_text());
    Ok(if verdict.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The package whose directory the file is in.
fn package_of(root: &Path, file: &str) -> Result<String> {
    if !root.join(file).is_file() || Path::new(file).is_absolute() {
        return Err(usage(format!("{file}: no such file, seen from the root of the checkout")));
    }
    let dir = Path::new(file).ancestors().skip(1).find(|dir| root.join(dir).join("Cargo.toml").is_file());
    let manifest: PathBuf = root.join(dir.with_context(|| format!("{file} is in no package"))?).join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    let name = text.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    name.map(str::to_owned).with_context(|| format!("{file} is in no package"))
}

/// `FILE:LINE:COLUMN: CHANGE` per line.
fn parse_missed(text: &str) -> Result<Vec<Mutant>> {
    let parse = |line: &str| {
        let (place, change) = line.split_once(": ")?;
        let file = place.split(':').next()?;
        Some(Mutant { file: file.to_owned(), change: change.to_owned() })
    };
    text.lines().map(|line| parse(line).with_context(|| format!("not understood: {line}"))).collect()
}

/// `FILE: CHANGE | REASON` per line; a change that occurs twice in a function is listed twice.
fn parse_accepted(text: &str) -> Result<Vec<Mutant>> {
    let parse = |line: &str| {
        // The last bar: a change may be about `|`.
        let (mutant, reason) = line.rsplit_once(" | ")?;
        let (file, change) = mutant.split_once(": ")?;
        (!reason.trim().is_empty()).then(|| Mutant { file: file.to_owned(), change: change.trim().to_owned() })
    };
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| parse(line).with_context(|| format!("{ACCEPTED}: not `FILE: CHANGE | REASON`: {line}")))
        .collect()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    unlisted: Vec<Mutant>,
    accepted: Vec<Mutant>,
    /// Listed, but noticed by a test by now, or not a change of this code any more.
    outdated: Vec<Mutant>,
}

/// `whole`: all of the file was tried, so that a listed change that did not survive is outdated.
fn compare(file: &str, survivors: &[Mutant], listed: &[Mutant], whole: bool) -> Verdict {
    let mut left: Vec<Mutant> = listed.iter().filter(|mutant| mutant.file == file).cloned().collect();
    let mut verdict = Verdict::default();
    for survivor in survivors {
        match left.iter().position(|mutant| mutant == survivor) {
            Some(at) => verdict.accepted.push(left.remove(at)),
            None => verdict.unlisted.push(survivor.clone()),
        }
    }
    if whole {
        verdict.outdated = left;
    }
    verdict
}

impl Verdict {
    fn is_success(&self) -> bool {
        self.unlisted.is_empty() && self.outdated.is_empty()
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let groups = [
            ("survived, with a reason", &self.accepted),
            ("SURVIVED", &self.unlisted),
            ("LISTED BUT NO SURVIVOR", &self.outdated),
        ];
        for (what, mutants) in groups {
            mutants.iter().for_each(|Mutant { file, change }| text.push_str(&format!("{what}: {file}: {change}\n")));
        }
        if !self.unlisted.is_empty() {
            text.push_str(&format!("write a test for each, or list it with a reason in {ACCEPTED}\n"));
        }
        let count = self.accepted.len() + self.unlisted.len();
        text.push_str(&format!("{count} survived, {} of them without a reason\n", self.unlisted.len()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSED: &str = "a/src/x.rs:12:5: replace Backoff::reset with ()\na/src/x.rs:30:9: replace | with ^ in mask\n";

    #[track_caller]
    fn check(listed: &str, whole: bool, unlisted: usize, outdated: usize) {
        let survivors = parse_missed(MISSED).unwrap();
        let verdict = compare("a/src/x.rs", &survivors, &parse_accepted(listed).unwrap(), whole);
        assert_eq!((verdict.unlisted.len(), verdict.outdated.len()), (unlisted, outdated), "{verdict:?}");
        assert_eq!(verdict.is_success(), unlisted + outdated == 0);
    }

    #[test]
    fn survivors_without_a_reason_and_reasons_without_a_survivor_fail() {
        let first = "a/src/x.rs: replace Backoff::reset with () | nobody can tell\n";
        let both = format!("# note\n\n{first}a/src/x.rs: replace | with ^ in mask | the bits are disjoint\n");
        check("", true, 2, 0);
        check(first, true, 1, 0);
        check(&both, true, 0, 0);
        check(&format!("{both}{first}"), true, 0, 1);
        check(&format!("{both}{first}"), false, 0, 0);
        check(&format!("{both}a/src/other.rs: replace f with () | elsewhere\n"), true, 0, 0);
    }

    #[test]
    fn a_line_without_reason_is_a_mistake() {
        assert!(parse_accepted("a.rs: replace f with ()").is_err());
        assert!(parse_accepted("a.rs: replace f with () |  ").is_err());
    }

    #[test]
    fn the_list_in_the_tree_is_read_and_names_files_that_are_there() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for mutant in parse_accepted(&fs::read_to_string(root.join(ACCEPTED)).unwrap()).unwrap() {
            assert!(root.join(&mutant.file).is_file(), "{mutant:?}");
        }
    }

    #[test]
    fn the_package_of_a_file_is_found_and_a_missing_file_is_the_callers_mistake() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        assert_eq!(package_of(&root, "tools/xtask/src/main.rs").unwrap(), "xtask");
        assert_eq!(package_of(&root, "dataplane/http/src/lib.rs").unwrap(), "gafka-http");
        assert!(package_of(&root, "nosuch.rs").unwrap_err().is::<crate::args::Usage>());
    }
}
