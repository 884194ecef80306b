//! Programs of the system: found in PATH, or installed by the distribution's package manager after saying so.
//!
//! Installing changes the machine for everybody on it, so it happens only as root, never when offline was asked for,
//! and is announced with its reason before it begins.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::components::offline;
use crate::process::{run, tethered};
use crate::progress::{say, step};

const INSTALL_WITHIN: Duration = Duration::from_secs(900);
const INCLUDE: &str = "/usr/include";
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// What a component needs of the system.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    pub name: &'static str,
    pub version_args: &'static [&'static str],
    pub major_min: u32,
    /// Debian packages that provide it.
    pub apt: &'static [&'static str],
}

/// The machine as far as it matters here; tests make one of their own.
pub struct Machine<'a> {
    path: OsString,
    offline: bool,
    is_root: bool,
    announce: &'a dyn Fn(&str),
}

impl Machine<'static> {
    /// The one we run on.
    pub fn this() -> Self {
        Self {
            path: std::env::var_os("PATH").unwrap_or_default(),
            offline: offline(),
            is_root: rustix::process::geteuid().is_root(),
            announce: &say,
        }
    }
}

impl Machine<'_> {
    /// Makes sure that the program is there; the error says how to get it.
    pub fn obtain(&self, program: &Program) -> Result<PathBuf> {
        let first = self.major_version(program);
        if first.as_ref().is_ok_and(|&major| major >= program.major_min) {
            return Ok(program.name.into());
        }
        let (name, packages) = (program.name, program.apt.join(" "));
        let why = match &first {
            Ok(major) => format!("{name} is version {major}, {} or newer is needed", program.major_min),
            Err(err) => format!("{name} is missing ({err:#})"),
        };
        let how = format!("{why}; get it with `apt-get install {packages}`");
        self.install(program.apt, &why, &how)?;
        if !self.has(program) {
            bail!("{how} (installing it did not help)");
        }
        Ok(name.into())
    }

    /// Makes sure that these headers are there; yields the directory they are in.
    pub fn obtain_headers(&self, files: &[&str], packages: &[&str]) -> Result<PathBuf> {
        if let Some(file) = self.lacks(files) {
            let why = format!("the header {file} is missing");
            let how = format!("{why}; get it with `apt-get install {}`", packages.join(" "));
            self.install(packages, &why, &how)?;
            if let Some(file) = self.lacks(files) {
                bail!("{how} (installing it did not help: {file})");
            }
        }
        Ok(INCLUDE.into())
    }

    /// The first header that is not there.
    pub fn lacks<'f>(&self, files: &[&'f str]) -> Option<&'f str> {
        files.iter().copied().find(|file| !Path::new(INCLUDE).join(file).is_file())
    }

    fn install(&self, packages: &[&str], why: &str, how: &str) -> Result<()> {
        if self.offline || !self.is_root || self.which("apt-get").is_none() {
            bail!("{how}");
        }
        let names = packages.join(" ");
        (self.announce)(&format!("  apt-get install {names}, because {why}"));
        step(&format!("installing {names}"), || self.apt_install(packages)).with_context(|| how.to_owned())
    }

    pub fn has(&self, program: &Program) -> bool {
        self.major_version(program).is_ok_and(|major| major >= program.major_min)
    }

    fn apt_install(&self, packages: &[&str]) -> Result<()> {
        let install = || {
            let mut command = self.command("apt-get");
            command
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["install", "-y", "-q", "--no-install-recommends"])
                .args(packages);
            run(command, INSTALL_WITHIN).map(drop)
        };
        // A fresh machine has no package lists; a used one does not need them again.
        if install().is_ok() {
            return Ok(());
        }
        (self.announce)("  apt-get update, because the package lists may be missing or old");
        let mut update = self.command("apt-get");
        update.args(["update", "-q"]);
        run(update, INSTALL_WITHIN)?;
        install()
    }

    /// The first number in what the program says about its version.
    fn major_version(&self, program: &Program) -> Result<u32> {
        let found = self.which(program.name).with_context(|| format!("no {} in PATH", program.name))?;
        let mut command = self.command("sh");
        // Some print their version on stderr.
        command.args(["-c", "\"$0\" \"$@\" 2>&1"]).arg(found).args(program.version_args);
        let said = run(command, ASK_WITHIN)?;
        first_version(&String::from_utf8_lossy(&said)).with_context(|| format!("{} says no version", program.name))
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = tethered(program);
        command.env("PATH", &self.path);
        command
    }

    fn which(&self, program: &str) -> Option<PathBuf> {
        std::env::split_paths(&self.path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
    }
}

/// The major number of the first `N.` in a text: `javac 17.0.15`, `Version 1.7.1`, `Apache Maven 3.8.7 (…)`.
fn first_version(text: &str) -> Option<u32> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .filter_map(|word| word.split_once('.'))
        .find_map(|(major, _)| major.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    const WANTED: Program =
        Program { name: "gafka-wanted", version_args: &["-v"], major_min: 3, apt: &["wanted-bin", "wanted-data"] };

    fn script(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A machine whose apt-get writes down what it was asked and provides the program in `version`.
    fn with_apt(version: &str) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().display();
        let made = format!("printf '#!/bin/sh\\necho wanted {version}\\n' > {here}/gafka-wanted");
        let text = format!("echo \"$*\" >> {here}/calls\n{made}\nchmod +x {here}/gafka-wanted");
        script(dir.path(), "apt-get", &text);
        dir
    }

    fn calls(dir: &TempDir) -> String {
        fs::read_to_string(dir.path().join("calls")).unwrap_or_default()
    }

    fn obtain(dir: &TempDir, offline: bool, is_root: bool, announce: &dyn Fn(&str)) -> Result<PathBuf> {
        let mut path = OsString::from(dir.path());
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        Machine { path, offline, is_root, announce }.obtain(&WANTED)
    }

    #[test]
    fn an_installation_is_announced_with_its_reason_before_it_begins() {
        let dir = with_apt("3.1");
        let said = RefCell::new(Vec::new());
        obtain(&dir, false, true, &|line| said.borrow_mut().push((line.to_owned(), calls(&dir)))).unwrap();
        let said = said.into_inner();
        let [(line, calls_then)] = said.as_slice() else { panic!("said {said:?}") };
        for expected in ["apt-get install wanted-bin wanted-data", "gafka-wanted is missing"] {
            assert!(line.contains(expected), "{line}");
        }
        assert_eq!(calls_then, "", "it was said too late");
        assert_eq!(calls(&dir), "install -y -q --no-install-recommends wanted-bin wanted-data\n");
    }

    #[test]
    fn nothing_is_installed_when_offline_or_without_the_right_to() {
        for (offline, is_root) in [(true, true), (false, false)] {
            let dir = with_apt("3.1");
            let err = obtain(&dir, offline, is_root, &|line| panic!("said {line}")).unwrap_err().to_string();
            assert!(err.contains("get it with `apt-get install wanted-bin wanted-data`"), "{err}");
            assert_eq!(calls(&dir), "");
        }
    }

    #[test]
    fn what_is_there_and_new_enough_is_left_alone() {
        let dir = with_apt("9.9");
        script(dir.path(), "gafka-wanted", "echo wanted 3.0 >&2");
        obtain(&dir, false, true, &|line| panic!("said {line}")).unwrap();
        assert_eq!(calls(&dir), "");
        script(dir.path(), "gafka-wanted", "echo wanted 2.9");
        let said = RefCell::new(String::new());
        obtain(&dir, false, true, &|line| said.borrow_mut().push_str(line)).unwrap();
        assert!(said.borrow().contains("is version 2, 3 or newer is needed"), "{said:?}");
    }

    #[test]
    fn an_installation_that_does_not_help_is_an_error() {
        let dir = with_apt("1.0");
        let err = obtain(&dir, false, true, &|_| {}).unwrap_err().to_string();
        assert!(err.contains("did not help"), "{err}");
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        let rows = [
            ("javac 17.0.15\n", Some(17)),
            ("openjdk version \"25.0.1\" 2025-10-21\n", Some(25)),
            ("kcat - Apache Kafka producer and consumer tool\nVersion 1.7.1 (JSON, librdkafka 2.0.2 builtin)", Some(1)),
            ("Apache Maven 3.8.7\nMaven home: /usr/share/maven", Some(3)),
            ("nothing here", None),
        ];
        for (said, expected) in rows {
            assert_eq!(first_version(said), expected, "{said}");
        }
    }
}
