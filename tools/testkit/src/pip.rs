//! Python packages: wheels that the lock knows, and the virtual environment they are installed into.
//!
//! A component says for which Pythons the lock has its wheels, because an old client has none for the newest Python.
//! It is installed for the first of these that is here: `python3`, or one by its number (`python3.12`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::cache;
use crate::fetch::FETCH_WITHIN;
use crate::lockfile::Sums;
use crate::process::{run, scratch_dir, tethered};
use crate::progress::{say, step};
use crate::seal::{self, Made, remove_if_there, sums_of};

const ASK_WITHIN: Duration = Duration::from_secs(30);

/// What a virtual environment is made of.
#[derive(Clone, Copy, Debug)]
pub struct Wheels {
    /// `name==version`, also of what these need: nothing else is installed.
    pub packages: &'static [&'static str],
    /// Pythons whose wheels are in the lock; on another one the component is missing.
    pub pythons: &'static [&'static str],
    /// What has to be importable at the end.
    pub modules: &'static str,
}

/// A Python on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    program: String,
    /// `3.11`
    version: String,
}

impl Wheels {
    /// The Python these wheels run on here; the error names what there is instead.
    pub fn python(&self) -> Result<Python> {
        choose(self.pythons, version_of)
    }

    /// Downloads the wheels for this machine.
    pub fn download(&self, files: &Path) -> Result<()> {
        let python = self.python()?;
        download(&python.program, self.packages, &[], files)
    }

    /// For the lock: the wheels of every Python and processor that may run the tests.
    pub fn of_all_machines(&self) -> Result<Sums> {
        let dir = scratch_dir("wheels")?;
        for python in self.pythons {
            for processor in ["x86_64", "aarch64"] {
                let platforms = ["manylinux_2_17", "manylinux_2_28"].map(|glibc| format!("{glibc}_{processor}"));
                let [old, new] = &platforms;
                let more = ["--no-deps", "--python-version", python, "--platform", old, "--platform", new];
                let what = format!("wheels for Python {python} on {processor}");
                step(&what, || download("python3", self.packages, &more, dir.path()))?;
            }
        }
        sums_of(dir.path())
    }

    /// Whether the wheels that are here are for the Python that is here: it may be another since they were fetched.
    pub fn fit(&self, sums: &Sums) -> Result<()> {
        let python = self.python()?;
        match sums.keys().find(|file| !fits(file, &python.version)) {
            None => Ok(()),
            Some(file) => bail!("{file} is not for Python {}", python.version),
        }
    }

    /// Made where it stays, because it knows its own path. pip is told the hashes of the lock once more; afterwards the
    /// environment is sealed, and made anew when it changed or the Python it was made with went away.
    pub fn install(&self, dir: &Path, locked: &Sums) -> Result<()> {
        let venv = dir.join("venv");
        let python = self.python()?;
        let requirements = requirements(self.packages, locked);
        let basis = cache::hex(&Sha256::digest(&requirements));
        let make = |venv: &Path| {
            step("installing Python packages into a virtual environment", || install(&python, dir, venv, &requirements))
        };
        if let Made::Anew(why) = seal::made(&venv, &basis, make)? {
            say(&format!("  the Python packages were installed again: {why}"));
        }
        let mut works = tethered(venv.join("bin/python"));
        works.args(["-I", "-B", "-c", &format!("import {}", self.modules)]);
        if let Err(why) = run(works, ASK_WITHIN) {
            say(&format!("  the Python packages are installed again: they do not start: {why:#}"));
            remove_if_there(&venv)?;
            seal::made(&venv, &basis, make)?;
        }
        Ok(())
    }
}

/// `python3` when its version is among `wanted`, else one that is called by a wanted version.
fn choose(wanted: &[&str], version_of: impl Fn(&str) -> Result<String>) -> Result<Python> {
    let by_number = wanted.iter().rev().map(|version| format!("python{version}"));
    for program in std::iter::once("python3".to_owned()).chain(by_number) {
        if let Ok(version) = version_of(&program)
            && wanted.contains(&version.as_str())
        {
            return Ok(Python { program, version });
        }
    }
    let here =
        version_of("python3").map_or_else(|err| format!("does not say ({err:#})"), |version| format!("is {version}"));
    bail!("needs Python {} with venv, as python3 or by its number in PATH; python3 {here}", wanted.join(" or "))
}

/// `3.11`, if that program runs and could make a virtual environment.
fn version_of(program: &str) -> Result<String> {
    let mut command = tethered(program);
    command.args(["-B", "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"]);
    Ok(String::from_utf8(run(command, ASK_WITHIN)?)?.trim().to_owned())
}

/// `cp311` in `lz4-4.4.5-cp311-cp311-manylinux_2_17_x86_64.whl`; `py3` is for all, and so is `abi3` for later ones.
fn fits(wheel: &str, version: &str) -> bool {
    let number = format!("cp{}", version.replace('.', ""));
    let mut tags = wheel.trim_end_matches(".whl").rsplit('-');
    let (_platform, abi, pythons) = (tags.next(), tags.next().unwrap_or(""), tags.next().unwrap_or(""));
    abi == "abi3" || pythons.split('.').any(|python| python == "py3" || python == number)
}

fn download(python: &str, packages: &[&str], more: &[&str], files: &Path) -> Result<()> {
    let mut command = tethered(python);
    command
        .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", "--dest"])
        .arg(files)
        .args(more)
        .args(packages);
    run(command, FETCH_WITHIN).map(drop)
}

/// `-B` everywhere: nothing is written beside the modules, so that the seal holds.
fn install(python: &Python, dir: &Path, venv: &Path, requirements: &str) -> Result<()> {
    let mut make = tethered(&python.program);
    make.args(["-B", "-m", "venv"]).arg(venv);
    make.env("PYTHONDONTWRITEBYTECODE", "1");
    run(make, FETCH_WITHIN)?;
    let wanted: PathBuf = dir.join("requirements.txt");
    fs::write(&wanted, requirements)?;
    let mut install = tethered(venv.join("bin/python"));
    install.args(["-I", "-B", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    install.args(["--no-index", "--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--require-hashes"]);
    install.arg("--find-links").arg(dir.join("files")).arg("--requirement").arg(wanted);
    run(install, FETCH_WITHIN).context("installing the wheels").map(drop)
}

/// `name==version --hash=sha256:…` for each wheel that the lock has of it.
fn requirements(packages: &[&str], locked: &Sums) -> String {
    let line = |package: &&str| {
        let wheel = package.replace('-', "_").replace("==", "-") + "-";
        let of_it = locked.iter().filter(|(file, _)| file.starts_with(&wheel));
        let hashes: String = of_it.map(|(_, sum)| format!(" --hash=sha256:{sum}")).collect();
        format!("{package}{hashes}\n")
    };
    packages.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these programs.
    fn with<'a>(programs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Result<String> + 'a {
        move |program| {
            let found = programs.iter().find(|(name, _)| *name == program);
            found.map(|(_, version)| (*version).to_owned()).with_context(|| format!("no {program}"))
        }
    }

    #[track_caller]
    fn check(programs: &[(&str, &str)], expected: Result<&str, &str>) {
        let found = choose(&["3.11", "3.12"], with(programs)).map_err(|err| err.to_string());
        assert_eq!(found.as_ref().map(|python| python.program.as_str()).map_err(String::as_str), expected);
    }

    #[test]
    fn the_systems_python_is_taken_when_there_are_wheels_for_it_else_one_by_its_number() {
        check(&[("python3", "3.11"), ("python3.12", "3.12")], Ok("python3"));
        check(&[("python3", "3.13"), ("python3.12", "3.12"), ("python3.11", "3.11")], Ok("python3.12"));
        check(&[("python3.11", "3.11")], Ok("python3.11"));
    }

    #[test]
    fn a_machine_without_a_fitting_python_is_told_which_ones_fit_and_what_it_has() {
        let fits = "needs Python 3.11 or 3.12 with venv, as python3 or by its number in PATH; python3";
        check(&[("python3", "3.13"), ("python3.13", "3.13")], Err(&format!("{fits} is 3.13")));
        check(&[], Err(&format!("{fits} does not say (no python3)")));
    }

    #[test]
    fn a_wheel_is_for_one_python_unless_it_says_otherwise() {
        for (wheel, expected) in [
            ("lz4-4.4.5-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", true),
            ("lz4-4.4.5-cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.whl", false),
            ("kafka_python-2.0.2-py2.py3-none-any.whl", true),
            ("packaging-26.4-py3-none-any.whl", true),
            ("made_up-1-cp38-abi3-manylinux_2_17_x86_64.whl", true),
        ] {
            assert_eq!(fits(wheel, "3.11"), expected, "{wheel}");
        }
    }

    #[test]
    fn pip_is_told_every_hash_the_lock_has_of_a_package() {
        let locked: Sums = [
            ("a_b-1.0-cp311.whl", "11"),
            ("a_b-1.0-cp312.whl", "12"),
            ("a_b-1.0.1-cp311.whl", "13"),
            ("c-2-py3.whl", "2"),
        ]
        .map(|(file, sum)| (file.to_owned(), sum.to_owned()))
        .into();
        let text = requirements(&["a-b==1.0", "c==2"], &locked);
        assert_eq!(text, "a-b==1.0 --hash=sha256:11 --hash=sha256:12\nc==2 --hash=sha256:2\n");
    }
}
