//! A running `kproxy` and where its brokers are, as clients see them.

use std::ffi::OsString;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::daemon::Daemon;
use crate::http::{Request, Response, call};

/// A proxy and its two ports. Derefs to the [`Daemon`].
#[derive(Debug)]
pub struct Kproxy {
    daemon: Daemon,
    /// `host:port` where clients begin.
    pub bootstrap: String,
    /// `http://host:port` of the operator's port.
    pub ops: String,
}

impl Kproxy {
    /// In front of these brokers, from flags alone; on free ports unless `flags` has `--listen`.
    pub fn start(bootstrap: &str, flags: &[&str]) -> Result<Self> {
        let mut args: Vec<OsString> = ["serve", "--json", "--bootstrap", bootstrap].map(Into::into).into();
        if !flags.contains(&"--listen") {
            args.extend(["--listen", "127.0.0.1:0"].map(OsString::from));
        }
        if !flags.contains(&"--ops-listen") {
            args.extend(["--ops-listen", "127.0.0.1:0"].map(OsString::from));
        }
        args.extend(flags.iter().map(Into::into));
        Self::with(args)
    }

    /// `kproxy serve --config F`.
    pub fn serve(config: &Path) -> Result<Self> {
        Self::with(["serve".into(), "--json".into(), "--config".into(), config.into()].into())
    }

    fn with(args: Vec<OsString>) -> Result<Self> {
        let daemon = Daemon::start("kproxy", args)?;
        Ok(Self { bootstrap: daemon.field("bootstrap")?, ops: daemon.field("ops")?, daemon })
    }

    /// Where a node is found at a proxy whose range begins with node `base`.
    pub fn node(&self, node: i32, base: i32) -> Result<String> {
        let (host, port) = self.bootstrap.rsplit_once(':').context("host:port")?;
        let port: i32 = port.parse()?;
        Ok(format!("{host}:{}", port + 1 + node - base))
    }

    /// `/readyz`: status and the reasons in it.
    pub fn readiness(&self) -> Result<(u16, Value)> {
        let answer = call(&self.ops, &Request::get("/readyz"))?;
        Ok((answer.status, answer.json()?))
    }

    /// A counter or gauge of `/metrics`, by its name and labels as they are written there.
    pub fn metric(&self, series: &str) -> Result<u64> {
        let text = self.metrics()?.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let name = series.split('{').next().unwrap_or(series);
        let others = || text.lines().filter(|line| line.starts_with(name)).collect::<Vec<_>>().join("\n");
        let value: f64 = line.with_context(|| format!("no {series} in:\n{}", others()))?.trim().parse()?;
        Ok(value as u64)
    }

    pub fn metrics(&self) -> Result<Response> {
        let answer = call(&self.ops, &Request::get("/metrics"))?;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
        Ok(answer)
    }
}

impl Deref for Kproxy {
    type Target = Daemon;
    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Kproxy {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}
