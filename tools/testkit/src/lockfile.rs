//! `components.lock`: what every fetched file must be, so that another machine gets the same bytes or an error.
//!
//! One line per file, `component version sha256 file`, sorted, made by `cargo xtask components --lock`:
//!
//! ```text
//! kafka 4.4.0 0123…cdef kafka-clients-4.4.0.jar
//! ```
//!
//! Two strengths, because the sources differ:
//! - *exact*: the fetched set must be the locked set (jars are the same for every machine);
//! - *one of each*: the lock has a file per Python and processor; every fetched file must be one of them, and there
//!   must be one of every package (`confluent_kafka` of `confluent_kafka-2.16.1-cp311-…`).

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, bail};

/// File name to SHA-256.
pub type Sums = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    Exact,
    OneOfEach,
}

/// The whole file: (component, version) to its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    entries: BTreeMap<(String, String), Sums>,
}

/// The committed lock, compiled in so that it always belongs to the code that checks it.
pub fn committed() -> Result<Lock> {
    Lock::parse(include_str!("../components.lock")).context("components.lock")
}

impl Lock {
    pub fn parse(text: &str) -> Result<Self> {
        let mut lock = Self::default();
        for (index, line) in text.lines().enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words: Vec<&str> = line.split(' ').collect();
            let &[component, version, sum, file] = words.as_slice() else {
                bail!("line {}: expected `component version sha256 file`", index + 1);
            };
            if sum.len() != 64 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                bail!("line {}: {sum:?} is no SHA-256", index + 1);
            }
            lock.entries
                .entry((component.to_owned(), version.to_owned()))
                .or_default()
                .insert(file.to_owned(), sum.to_owned());
        }
        Ok(lock)
    }

    pub fn to_text(&self) -> String {
        let mut text = String::from("# Made by `cargo xtask components --lock`: component version sha256 file\n");
        for ((component, version), sums) in &self.entries {
            for (file, sum) in sums {
                let _ = writeln!(text, "{component} {version} {sum} {file}");
            }
        }
        text
    }

    pub fn set(&mut self, component: &str, version: &str, sums: Sums) {
        self.entries.retain(|(known, _), _| known != component);
        self.entries.insert((component.to_owned(), version.to_owned()), sums);
    }

    pub fn get(&self, component: &str, version: &str) -> Option<&Sums> {
        self.entries.get(&(component.to_owned(), version.to_owned()))
    }

    /// Is what was fetched what the lock says? The error names the first few differences.
    pub fn verify(&self, component: &str, version: &str, fetched: &Sums, strength: Strength) -> Result<()> {
        let locked = self.get(component, version).with_context(|| {
            format!("components.lock has no {component} {version}; run `cargo xtask components --lock`")
        })?;
        let mut differences = Vec::new();
        for (file, sum) in fetched {
            match locked.get(file) {
                Some(wanted) if wanted == sum => {}
                Some(wanted) => differences.push(format!("{file}: fetched {sum}, locked {wanted}")),
                None => differences.push(format!("{file}: not in components.lock")),
            }
        }
        let is_there = |file: &String| match strength {
            Strength::Exact => fetched.contains_key(file),
            Strength::OneOfEach => fetched.keys().any(|other| package_of(other) == package_of(file)),
        };
        let missing = locked.keys().filter(|file| !is_there(file));
        differences.extend(missing.map(|file| format!("{file}: locked but not fetched")));
        if differences.is_empty() {
            return Ok(());
        }
        let count = differences.len();
        differences.truncate(5);
        bail!(
            "{component} {version} is not what components.lock says ({count} differences):\n{}",
            differences.join("\n")
        )
    }
}

fn package_of(file: &str) -> &str {
    file.split('-').next().unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const B: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn sums(files: &[(&str, &str)]) -> Sums {
        files.iter().map(|(file, sum)| ((*file).to_owned(), (*sum).to_owned())).collect()
    }

    fn lock() -> Lock {
        let mut lock = Lock::default();
        lock.set("kafka", "4.4.0", sums(&[("a.jar", A), ("b.jar", B)]));
        lock
    }

    #[track_caller]
    fn check(fetched: &[(&str, &str)], strength: Strength, expected: Option<&str>) {
        let found = lock().verify("kafka", "4.4.0", &sums(fetched), strength).map_err(|err| err.to_string()).err();
        match (found, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) if found.contains(expected) => {}
            (found, expected) => panic!("found {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn exact_means_the_same_files_with_the_same_bytes() {
        check(&[("a.jar", A), ("b.jar", B)], Strength::Exact, None);
        check(&[("a.jar", A)], Strength::Exact, Some("b.jar: locked but not fetched"));
        check(&[("a.jar", A), ("b.jar", A)], Strength::Exact, Some("b.jar: fetched ba78"));
        check(&[("a.jar", A), ("b.jar", B), ("c.jar", A)], Strength::Exact, Some("c.jar: not in components.lock"));
    }

    #[test]
    fn of_each_package_one_file_of_the_lock_and_no_other() {
        let mut lock = Lock::default();
        lock.set("w", "1", sums(&[("a-1-cp311.whl", A), ("a-1-cp312.whl", B), ("b-1-any.whl", A)]));
        let check = |fetched: &[(&str, &str)], expected: &str| {
            let found = lock.verify("w", "1", &sums(fetched), Strength::OneOfEach).map_err(|err| err.to_string());
            let said = found.err().unwrap_or_else(|| "passed".to_owned());
            assert!(said.contains(expected), "{fetched:?}: {said}, expected {expected}");
        };
        check(&[("a-1-cp311.whl", A), ("b-1-any.whl", A)], "passed");
        check(&[("a-1-cp312.whl", B), ("b-1-any.whl", A)], "passed");
        check(&[("a-1-cp312.whl", A), ("b-1-any.whl", A)], "a-1-cp312.whl: fetched ba78");
        check(&[("a-1-cp313.whl", A), ("b-1-any.whl", A)], "a-1-cp313.whl: not in components.lock");
        check(&[("a-1-cp311.whl", A)], "b-1-any.whl: locked but not fetched");
    }

    #[test]
    fn an_exact_component_that_is_not_locked_is_refused() {
        let err = lock().verify("kafka", "9.9.9", &Sums::new(), Strength::Exact).unwrap_err().to_string();
        assert!(err.contains("has no kafka 9.9.9"), "{err}");
    }

    #[test]
    fn the_file_survives_a_round_trip_and_a_new_version_replaces_the_old() {
        assert_eq!(Lock::parse(&lock().to_text()).unwrap(), lock());
        let mut newer = lock();
        newer.set("kafka", "4.5.0", sums(&[("a.jar", A)]));
        assert!(newer.get("kafka", "4.4.0").is_none());
    }

    #[test]
    fn the_committed_lock_parses() {
        committed().unwrap();
    }

    #[test]
    fn a_damaged_line_is_named() {
        assert!(Lock::parse("kafka 4.4.0 nonsense a.jar").unwrap_err().to_string().contains("line 1"));
        assert!(Lock::parse("# note\nkafka 4.4.0").unwrap_err().to_string().contains("line 2"));
    }
}
