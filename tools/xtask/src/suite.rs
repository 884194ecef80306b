//! Building everything once and knowing which test binaries came out.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use testkit::process::tethered;

use crate::step::{self, Ended};

/// A cold build of everything takes minutes on two cores; CI's whole run may take 90.
const BUILD_WITHIN: Duration = Duration::from_secs(45 * 60);

/// One test executable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    pub package: String,
    /// `lib`, `bin kateway`, `test e2e`.
    pub target: String,
    pub executable: PathBuf,
    pub manifest_dir: PathBuf,
}

impl Binary {
    pub fn name(&self) -> String {
        format!("{} ({})", self.package, self.target)
    }

    /// Needs real components and our binaries, so it runs last and with its own rules.
    pub fn is_e2e(&self) -> bool {
        self.package == "testkit" && self.target == "test e2e"
    }

    pub fn command(&self) -> Command {
        let mut command = tethered(&self.executable);
        command.current_dir(&self.manifest_dir);
        // What cargo sets for a test it runs.
        command.env("CARGO_MANIFEST_DIR", &self.manifest_dir).env("CARGO_PKG_NAME", &self.package);
        if let Some(dir) = self.bin_dir() {
            command.env("GAFKA_BIN_DIR", dir);
        }
        command
    }

    /// `target/debug` of `target/debug/deps/NAME-HASH`.
    fn bin_dir(&self) -> Option<PathBuf> {
        Some(self.executable.parent()?.parent()?.to_owned())
    }
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    tethered(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Builds every binary and every test in one go: asked for separately, cargo would choose other features for some
/// dependencies and build those twice. `locked` makes a `Cargo.lock` that was not committed an error.
pub fn build(locked: bool) -> Result<(Ended, Vec<Binary>)> {
    let mut command = cargo();
    command.args(["build", "--workspace", "--bins", "--tests", "--message-format=json-render-diagnostics"]);
    if locked {
        command.arg("--locked");
    }
    let mut binaries = Vec::new();
    let ended = step::run("build", command, BUILD_WITHIN, |line| binaries.extend(test_binary(line)))?;
    binaries.sort_by_key(|binary| (binary.is_e2e(), binary.name()));
    Ok((ended, binaries))
}

/// A line of cargo's messages, if it tells of a test executable.
fn test_binary(line: &str) -> Option<Binary> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let name = message["target"]["name"].as_str()?;
    let kind = message["target"]["kind"][0].as_str()?;
    let target = match kind {
        "bin" | "test" | "example" | "bench" => format!("{kind} {name}"),
        _ => "lib".to_owned(),
    };
    Some(Binary {
        package: package_name(message["package_id"].as_str()?),
        target,
        executable: message["executable"].as_str()?.into(),
        manifest_dir: manifest.parent()?.to_owned(),
    })
}

/// The name in `path+file:///dir/model#0.1.0` or `path+file:///dir/http#gafka-http@0.1.0`.
fn package_name(id: &str) -> String {
    let (source, fragment) = id.split_once('#').unwrap_or((id, ""));
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => source.rsplit('/').next().unwrap_or(source).to_owned(),
    }
}

/// The names of a binary's tests, with `nightly` also of those that run only then.
pub fn tests_of(binary: &Binary, nightly: bool) -> Result<Vec<String>> {
    let mut command = binary.command();
    if nightly {
        command.env("GAFKA_NIGHTLY", "1");
    }
    command.args(["--list", "--format", "terse"]);
    let output = testkit::process::run(command, Duration::from_secs(60)).with_context(|| binary.name())?;
    let listed = String::from_utf8_lossy(&output).into_owned();
    Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_executables_are_recognised_among_cargos_messages() {
        let line = r#"{"reason":"compiler-artifact","package_id":"path+file:///w/tools/testkit#0.1.0",
            "manifest_path":"/w/tools/testkit/Cargo.toml","target":{"kind":["test"],"name":"e2e"},
            "profile":{"test":true},"executable":"/w/target/debug/deps/e2e-1"}"#;
        let binary = test_binary(line).unwrap();
        assert_eq!(binary.name(), "testkit (test e2e)");
        assert!(binary.is_e2e());
        assert_eq!(binary.bin_dir(), Some(PathBuf::from("/w/target/debug")));
        assert_eq!(test_binary(&line.replace("true", "false")), None);
        assert_eq!(test_binary("not json"), None);
    }

    #[test]
    fn packages_are_named_with_and_without_their_own_name_in_the_id() {
        assert_eq!(package_name("path+file:///w/dataplane/http#gafka-http@0.1.0"), "gafka-http");
        assert_eq!(package_name("path+file:///w/controlplane/model#0.1.0"), "model");
    }
}
