//! Programs under measurement: started pinned, ended with this one, however that happens.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::limits::{LOOK_ARRIVED_EVERY, READY_TIMEOUT};

/// `program` on one CPU, or on any; it is killed when this program ends, however that happens.
pub fn tethered(cpu: Option<usize>, program: &Path) -> Result<Command> {
    let mut command = Command::new(this_program()?);
    command.arg("pin");
    if let Some(cpu) = cpu {
        command.args(["--cpu", &cpu.to_string()]);
    }
    command.arg("--").arg(program);
    Ok(command)
}

pub fn this_program() -> Result<PathBuf> {
    std::env::current_exe().context("where is this program")
}

/// A child that ends with this program.
pub struct Process {
    pub child: Child,
    // Behind the child: it must be gone before its files.
    _data_dir: Option<TempDir>,
}

impl Process {
    /// Starts it and waits for its ready line. `data_dir` goes when it ends.
    pub fn start(mut command: Command, what: &str, data_dir: Option<TempDir>) -> Result<(Process, Ready)> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let mut process = Process { child, _data_dir: data_dir };
        let out = process.child.stdout.take().context("its output")?;
        let (found, ready) = mpsc::channel();
        std::thread::spawn(move || read_ready(out, &found));
        match ready.recv_timeout(READY_TIMEOUT) {
            Ok(line) => Ok((process, Ready(line))),
            Err(_) => bail!("{what} did not become ready within {} s", READY_TIMEOUT.as_secs()),
        }
    }

    /// One that was started elsewhere.
    pub fn of(child: Child) -> Process {
        Process { child, _data_dir: None }
    }

    /// Starts one that says nothing, and waits until somebody listens at its address.
    pub fn listening(mut command: Command, what: &str, at: SocketAddr, data_dir: Option<TempDir>) -> Result<Process> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let mut process = Process { child, _data_dir: data_dir };
        let began = Instant::now();
        while TcpStream::connect(at).is_err() {
            if let Some(status) = process.child.try_wait()? {
                bail!("{what} ended as soon as it was started: {status}");
            }
            ensure!(
                began.elapsed() < READY_TIMEOUT,
                "{what} does not listen at {at} within {} s",
                READY_TIMEOUT.as_secs()
            );
            std::thread::sleep(LOOK_ARRIVED_EVERY);
        }
        Ok(process)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without waiting for its end, for which dropping does.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("cannot end a process")
    }
}

/// Finds the ready line and then keeps reading, so that the child never blocks on a full pipe.
fn read_ready(out: ChildStdout, found: &mpsc::Sender<Value>) {
    for line in BufReader::new(out).lines().map_while(Result::ok) {
        if let Ok(value) = serde_json::from_str::<Value>(&line)
            && value.get("ready") == Some(&Value::Bool(true))
        {
            let _ = found.send(value);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line a daemon prints when it takes traffic.
pub struct Ready(Value);

impl Ready {
    pub fn text(&self, name: &str) -> Result<String> {
        let value = self.0.get(name).and_then(Value::as_str);
        Ok(value.with_context(|| format!("ready line without {name}: {}", self.0))?.to_owned())
    }
}

/// A new directory, removed with its content.
pub struct TempDir {
    pub path: PathBuf,
}

/// Files that are in memory, on Linux.
const MEMORY_DIR: &str = "/dev/shm";

impl TempDir {
    pub fn new() -> Result<TempDir> {
        TempDir::inside(&std::env::temp_dir())
    }

    /// In memory where that is possible, for a broker whose disk is not to be measured.
    pub fn in_memory() -> Result<TempDir> {
        TempDir::inside(Path::new(MEMORY_DIR)).or_else(|_| TempDir::new())
    }

    pub fn inside(dir: &Path) -> Result<TempDir> {
        let path = dir.join(format!("kbench-{}-{:x}", std::process::id(), runtime::clock::seed()));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(TempDir { path })
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
