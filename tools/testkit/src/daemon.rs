//! Our own binaries as a user runs them: command line in, ready line out, signals.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::kafka::disk::Disk;
use crate::limits::DAEMON_READY_WITHIN;
use crate::process::{Process, scratch_dir, tethered};

/// Where one of our binaries is: `$GAFKA_BIN_DIR`, else beside the directory of the running test.
pub fn bin_path(name: &str) -> Result<PathBuf> {
    let dir = match std::env::var_os("GAFKA_BIN_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => {
            let test = std::env::current_exe()?;
            // target/debug/deps/e2e-0123456789abcdef
            test.parent().and_then(Path::parent).context("a test runs from a target directory")?.to_owned()
        }
    };
    let path = dir.join(name);
    if !path.is_file() {
        bail!("{} is not built; `cargo build --workspace --bins` makes it", path.display());
    }
    Ok(path)
}

/// A running daemon whose ready line has been read.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    ready: Value,
    // After `process`: the log must outlive it.
    _dir: TempDir,
}

impl Daemon {
    /// Starts `bin` with `args` (which must include `--json`) and waits for its ready line.
    pub fn start<I>(bin: &str, args: I) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        Self::start_with(bin, &args, &[])
    }

    /// The same with environment variables.
    pub fn start_with(bin: &str, args: &[OsString], env: &[(&str, &str)]) -> Result<Self> {
        let dir = scratch_dir(bin)?;
        let mut command = tethered(bin_path(bin)?);
        command.args(args).envs(env.iter().copied()).current_dir(dir.path());
        let mut process = Process::start(bin, command, &dir.path().join("stderr.log"), true)?;
        let stdout = process.take_stdout().context("stdout was piped")?;
        let (line, first) = mpsc::channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            if let Some(Ok(text)) = lines.next() {
                let _ = line.send(text);
            }
            drop(line);
            // Whatever else it says: read, so that it never blocks on a full pipe.
            for _ in lines {}
        });
        let ready = match first.recv_timeout(DAEMON_READY_WITHIN) {
            Ok(line) => line,
            Err(err) => {
                let state = match process.wait(Duration::from_millis(200)) {
                    Ok(status) => format!("ended with {status}"),
                    Err(_) => "is still running".to_owned(),
                };
                bail!("{bin} gave no ready line ({err}), {state}\n{}", process.log_tail());
            }
        };
        let ready: Value = serde_json::from_str(&ready)
            .map_err(|err| anyhow!("{bin}: the ready line is not JSON ({err}): {ready}\n{}", process.log_tail()))?;
        if ready.get("ready") != Some(&Value::Bool(true)) {
            bail!("{bin}: not ready: {ready}");
        }
        Ok(Self { process, ready, _dir: dir })
    }

    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// A text field of the ready line.
    pub fn field(&self, name: &str) -> Result<String> {
        let value = self.ready.get(name).and_then(Value::as_str);
        value.map(str::to_owned).with_context(|| format!("the ready line has no {name:?}: {}", self.ready))
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// From now on it can append nothing to what lies on this disk.
    pub fn fill(&mut self, disk: &Disk) -> Result<()> {
        disk.fill(&mut self.process)
    }

    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        self.process.wait(within)
    }

    pub fn sigterm_and_wait(&mut self, within: Duration) -> Result<(ExitStatus, Duration)> {
        self.process.sigterm_and_wait(within)
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Resident memory, in bytes, as the kernel counts it.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}
