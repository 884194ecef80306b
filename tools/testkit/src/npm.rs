//! npm packages: the tarballs as the registry has them, and the `node_modules` that npm makes of them.
//!
//! The lock has the sum of every tarball. Each package is listed, also what another one needs: npm is told to fetch
//! nothing, and no script of a package runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cache;
use crate::fetch::FETCH_WITHIN;
use crate::lockfile::Sums;
use crate::process::{run, tethered};
use crate::progress::{say, step};
use crate::seal::{self, Made};

/// Where [`install`] puts `node_modules`, below a component's directory.
pub const INSTALLED: &str = "npm";

/// `name@version` each, into `files/name-version.tgz`.
pub fn download(packages: &[&str], files: &Path) -> Result<()> {
    for package in packages {
        let mut command = tethered("npm");
        command.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]).arg(files).arg(package);
        command.current_dir(files);
        run(command, FETCH_WITHIN)?;
    }
    Ok(())
}

/// Sealed, and made anew when it changed or the tarballs did.
pub fn install(dir: &Path, locked: &Sums) -> Result<()> {
    let basis = cache::hex(&Sha256::digest(seal::to_text(locked)));
    let make = |into: &Path| step("installing npm packages", || install_from(&dir.join("files"), locked, into));
    if let Made::Anew(why) = seal::made(&dir.join(INSTALLED), &basis, make)? {
        say(&format!("  the npm packages were installed again: {why}"));
    }
    Ok(())
}

fn install_from(files: &Path, locked: &Sums, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    fs::write(into.join("package.json"), json!({"private": true}).to_string())?;
    let mut command = tethered("npm");
    command.args([
        "install",
        "--silent",
        "--offline",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
    ]);
    command.args(locked.keys().map(|file| files.join(file))).current_dir(into);
    // npm keeps what it unpacked in a cache of its user; the tarballs are at hand, so nothing of that is wanted.
    let scratch = crate::process::scratch_dir("npm-cache")?;
    command.arg("--cache").arg(scratch.path());
    run(command, FETCH_WITHIN).context("npm install").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_locked_tarballs_is_sealed_and_a_new_lock_is_a_new_basis() {
        let sums = |sum: &str| Sums::from([("a-1.0.0.tgz".to_owned(), sum.to_owned())]);
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join(INSTALLED);
        let basis = |sums: &Sums| cache::hex(&Sha256::digest(seal::to_text(sums)));
        seal::made(&dir, &basis(&sums("00")), |dir| Ok(fs::create_dir_all(dir)?)).unwrap();
        let missing = install(scratch.path(), &sums("01")).unwrap_err();
        assert!(format!("{missing:#}").contains("a-1.0.0.tgz"), "{missing:#}");
    }
}
