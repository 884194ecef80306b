//! What cargo-deny needs before it runs: itself, and every crate of `Cargo.lock`.
//!
//! It reads the manifests of all crates in the graph, also those of other platforms, which a build on this one never
//! downloads. `cargo fetch` gets them; asked to fetch nothing, we only look whether they are here, so that the step
//! can say what is missing.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use testkit::components::{self, offline};
use testkit::process::{run, tethered};
use testkit::progress::step;

use crate::suite::cargo;

/// Some 300 crates from a slow registry.
const FETCH_WITHIN: Duration = Duration::from_secs(15 * 60);
const LOOK_WITHIN: Duration = Duration::from_secs(60);

/// The command of the check, once all it reads is here; the error says what is not.
pub fn ready() -> Result<Command> {
    let files = components::ensure("cargo-deny")?.join("files");
    if offline() {
        run(look(), LOOK_WITHIN).context(
            "crates that Cargo.lock names, perhaps of other platforms, are not downloaded, and offline was asked for; \
             `cargo fetch --locked` gets them",
        )?;
    } else {
        step("fetching the crates of all platforms", || run(fetch(), FETCH_WITHIN))?;
    }
    let mut command = tethered(files.join("cargo-deny"));
    // Not the advisories: their database is not in a package registry.
    command.args(["--offline", "--log-level", "error", "check", "licenses", "bans", "sources"]);
    Ok(command)
}

/// Without a target it is every target.
fn fetch() -> Command {
    let mut command = cargo();
    command.args(["fetch", "--quiet", "--locked"]);
    command
}

/// What cargo-deny asks cargo, for all platforms.
fn look() -> Command {
    let mut command = cargo();
    command.args(["metadata", "--quiet", "--format-version", "1", "--locked", "--offline"]);
    command
}

#[cfg(test)]
mod tests {
    use testkit::process::scratch_dir;

    use super::*;

    /// It was: on a machine that had built everything cargo-deny failed, because of crates for Windows.
    #[test]
    fn crates_that_are_not_downloaded_are_named_when_nothing_may_be_fetched() {
        let home = scratch_dir("cargo-home").unwrap();
        let mut command = look();
        command.env("CARGO_HOME", home.path()).env("CARGO_NET_OFFLINE", "true");
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        let err = format!("{:#}", run(command, LOOK_WITHIN).unwrap_err());
        assert!(err.contains("offline"), "{err}");
        assert!(!home.path().join("registry/cache").exists(), "something was fetched");
    }
}
