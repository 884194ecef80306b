//! `cargo xtask components`: what the tests use, what is here, and the lock file.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use testkit::components::{ALL, ensure};
use testkit::lockfile::Lock;
use testkit::{cache, fetch};

use crate::args::Args;

/// Beside the code that reads it.
fn lock_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testkit/components.lock")
}

pub fn run(words: &[String]) -> Result<ExitCode> {
    let mut args = Args::new(words);
    let (fetch_all, nightly, lock) = (args.flag("--fetch"), args.flag("--nightly"), args.flag("--lock"));
    args.finish()?;
    if lock {
        return write_lock();
    }
    if fetch_all {
        return Ok(fetch_everything(nightly));
    }
    console::println!("cache\t{}", cache::root()?.display());
    for component in ALL {
        let state = if fetch::is_cached(component) { "here" } else { "missing" };
        let when = if component.nightly { " (nightly)" } else { "" };
        console::println!("{}\t{}\t{state}\t{}{when}", component.name, component.version, component.about);
    }
    Ok(ExitCode::SUCCESS)
}

fn fetch_everything(nightly: bool) -> ExitCode {
    let mut failed = false;
    for component in ALL.iter().filter(|component| nightly || !component.nightly) {
        match ensure(component.name) {
            Ok(_) => console::println!("{}\t{}\tok", component.name, component.version),
            Err(err) => {
                failed = true;
                console::println!("{}\t{}\t{err:#}", component.name, component.version);
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Fetches everything that is fetched and writes down what it was.
fn write_lock() -> Result<ExitCode> {
    let path = lock_path();
    let mut lock = Lock::parse(&fs::read_to_string(&path).unwrap_or_default())?;
    for component in ALL {
        fetch::record(component, &mut lock).with_context(|| component.name.to_owned())?;
    }
    fs::write(&path, lock.to_text())?;
    console::println!("{} written", path.display());
    Ok(ExitCode::SUCCESS)
}
