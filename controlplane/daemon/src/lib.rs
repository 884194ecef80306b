//! What every daemon shares: declared keys, `--check-config`, logs, signals, the operator's port.
//!
//! A daemon declares its keys once, as the struct it reads them from; file, flags, environment, `--help`,
//! `config-reference` and its schema follow. It adds what only it can check, and runs:
//!
//! ```no_run
#![doc = include_str!("../tests/toyd/toyd.rs")]
//! ```

pub mod brokers;
pub mod check;
pub mod cli;
pub mod exit;
pub mod fault;
pub mod files;
pub mod keys;
pub mod logging;
pub mod notify;
pub mod ops;
pub mod process;
pub mod signals;

pub use check::{Check, Listener};
pub use cli::{ConfigReference, Serve};
pub use fault::Fault;
pub use keys::{Bytes, HostPort, Loaded, Mistakes, Secret, Sources};
pub use logging::Log;
pub use ops::{Ops, OpsServer, Readiness};
pub use process::{Process, open};
pub use signals::{Signal, Signals};

/// A program that runs until it is told to stop, and is configured by keys.
pub trait Daemon: keys::Keys {
    const NAME: &'static str;
    const VERSION: &'static str;
    /// Environment variables with our prefix that are no keys.
    const OTHER_VARIABLES: &'static [&'static str] = &[];
    /// Whether `--config` must be given.
    const NEEDS_FILE: bool = false;

    fn log(&self) -> &Log;

    /// Says what is wrong with values that are each right by themselves.
    fn check(&self, check: &mut Check<'_>);

    /// What is allowed and may still not be meant: a sentence each.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What `--check-config` adds to "good".
    fn summary(&self) -> String {
        String::new()
    }
}

/// `KATEWAY_` for kateway.
pub fn variable_prefix<D: Daemon>() -> String {
    format!("{}_", D::NAME.replace('-', "_").to_uppercase())
}
