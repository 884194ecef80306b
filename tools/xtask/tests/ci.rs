//! `.ci/run`, with a cargo of our own in place of cargo.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use testkit::process::{run, scratch_dir, tethered};

/// It was: a test whose component could not be had was skipped, and the run was green.
#[test]
fn a_skip_is_a_failure_in_ci() {
    let dir = scratch_dir("ci").unwrap();
    let cargo = dir.path().join("cargo");
    fs::write(&cargo, "#!/bin/sh\necho CI=$CI $*\n").unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = tethered(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.ci/run"));
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", dir.path().display())).env_remove("CI");
    let said = run(command, Duration::from_secs(20)).unwrap();
    assert_eq!(String::from_utf8(said).unwrap(), "CI=true build --package xtask\nCI=true xtask test\n");
}
