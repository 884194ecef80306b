//! Go's clients: Sarama, segmentio/kafka-go and franz-go, in one program of ours (`go/main.go`) that is built here.
//!
//! `go.mod` names every module by version and `go.sum` its sum, which the tool checks whatever mirror it asks; both are in
//! the checkout, so they are the lock. What is fetched and built lies in the cache, not in the checkout. The tool itself
//! must be there: no other version of it is fetched, and one that is too old is named with what is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::cache;
use crate::components::{self, offline};
use crate::limits::CLIENT_WITHIN;
use crate::login::At;
use crate::process::{run, tethered};
use crate::progress::step;

const BUILD_WITHIN: Duration = Duration::from_secs(900);
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// A client in a version, as `go/main.go` knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    pub name: &'static str,
    /// The module file that pins it.
    modules: &'static str,
}

impl Client {
    pub const ALL: [Self; 4] = [
        Self { name: "sarama", modules: "go" },
        Self { name: "sarama", modules: "sarama-1.43" },
        Self { name: "kafka-go", modules: "go" },
        Self { name: "franz-go", modules: "go" },
    ];
}

/// Produces three values to a topic that appears by it if it may, and reads them back as a group's member.
pub fn round_trip<'a>(client: Client, at: impl Into<At<'a>>, topic: &str) -> Result<Vec<String>> {
    let at = at.into();
    let mut command = tethered(built(client.modules)?);
    command.args([client.name, at.bootstrap, topic]);
    at.tell(&mut command);
    let output = run(command, CLIENT_WITHIN)?;
    Ok(String::from_utf8(output)?.lines().map(str::to_owned).collect())
}

/// The program with these modules, built when its sources are new to the cache.
fn built(modules: &str) -> Result<PathBuf> {
    let go = components::ensure("go")?;
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("go");
    let module_file = sources.join(format!("{modules}.mod"));
    let mut digest = Sha256::new();
    for file in [sources.join("main.go"), module_file.clone(), sources.join(format!("{modules}.sum"))] {
        digest.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let root = cache::root()?.join("go");
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let program = root.join(format!("clients-{modules}-{}", &cache::hex(&digest.finalize())[..16]));
    let _held = cache::exclusive(&root.join("build.lock"))?;
    if program.is_file() {
        return Ok(program);
    }
    new_enough(&go, &module_file)?;
    let building = root.join(format!(".clients.{}", std::process::id()));
    let mut command = of_cache(&go, &root);
    command.current_dir(&sources).args(["build", "-mod=readonly", "-trimpath", "-modfile"]).arg(&module_file);
    command.arg("-o").arg(&building).arg(".");
    step(&format!("building Go clients with {modules}.mod"), || run(command, BUILD_WITHIN))?;
    fs::rename(&building, &program)?;
    Ok(program)
}

/// The tool with a cache of its own for what it fetches and compiles.
fn of_cache(go: &Path, root: &Path) -> Command {
    let mut command = tethered(go);
    command.env("GOTOOLCHAIN", "local").env("GOMODCACHE", root.join("mod")).env("GOCACHE", root.join("build"));
    command.env("CGO_ENABLED", "0").env_remove("GOFLAGS");
    if offline() {
        command.env("GOPROXY", "off");
    }
    command
}

/// Go before 1.21 does not say what is wrong with a newer module file, so it is said here.
fn new_enough(go: &Path, module_file: &Path) -> Result<()> {
    let text = fs::read_to_string(module_file)?;
    let needed = text.lines().find_map(|line| line.strip_prefix("go ")).context("a module file says its Go")?;
    let mut ask = tethered(go);
    ask.args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local");
    let said = String::from_utf8(run(ask, ASK_WITHIN)?)?;
    if minor(said.trim().trim_start_matches("go")) < minor(needed) {
        bail!("{} is too old: Go {needed} or newer is needed", said.trim());
    }
    Ok(())
}

/// The number behind the first dot of `1.26.0`; nothing we know has another before it.
fn minor(version: &str) -> u32 {
    version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_compare_by_number() {
        for (version, expected) in [("1.26.8", 26), ("1.9", 9), ("1.21", 21), ("devel", 0)] {
            assert_eq!(minor(version), expected, "{version}");
        }
        assert!(minor("1.19.8") < minor("1.21"));
    }
}
