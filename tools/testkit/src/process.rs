//! Child processes that cannot outlive the test run.
//!
//! Four nets, because a test may pass, fail, panic, time out or be killed with SIGKILL:
//! 1. [`Process`] kills its child and all that came from it on drop, also while a panic unwinds.
//! 2. The kernel kills the child when we die: it is started through `setpriv --pdeathsig KILL` (util-linux), which
//!    sets the flag and then becomes the program, so the process id stays the same. `pre_exec` would do the same but
//!    needs `unsafe`.
//! 3. A guard kills what the child started in turn, which the kernel's flag does not reach ([`crate::tether`]).
//! 4. Directories left behind by a killed run are removed by the next one ([`scratch_dir`]).
//!
//! The kernel's flag is tied to the *thread* that forked, so every child is started from one thread that lives as
//! long as the process; otherwise a component shared by several tests would die with the first test's thread.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::limits::LOG_TAIL_BYTES;
use crate::tether::Tether;

const SCRATCH_PREFIX: &str = "gafka-testkit-";

type Job = (Command, Sender<std::io::Result<Family>>);

/// The one thread that forks.
static SPAWNER: LazyLock<Mutex<Sender<Job>>> = LazyLock::new(|| {
    let (jobs, inbox) = mpsc::channel::<Job>();
    std::thread::Builder::new()
        .name("testkit-spawner".into())
        .spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(Family::start(&mut command));
            }
        })
        .expect("a process that cannot start a thread cannot test anything");
    Mutex::new(jobs)
});

static HAS_SETPRIV: LazyLock<bool> = LazyLock::new(|| {
    let probe = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success())
});

/// A command that dies with us. Arguments, environment and streams are set on the result as usual.
pub fn tethered(program: impl AsRef<OsStr>) -> Command {
    if !*HAS_SETPRIV {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A child and everything that comes from it. Drop kills whoever of them still runs.
#[derive(Debug)]
pub struct Family {
    child: Child,
    tether: Tether,
    ended: Option<ExitStatus>,
}

impl Family {
    fn start(command: &mut Command) -> std::io::Result<Self> {
        let tether = Tether::mark(command)?;
        Ok(Self { child: command.spawn()?, tether, ended: None })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How the child ended, if it did. What it left running then is killed too.
    pub fn try_wait(&mut self) -> std::io::Result<Option<ExitStatus>> {
        if self.ended.is_none()
            && let Some(status) = self.child.try_wait()?
        {
            self.ended = Some(status);
            self.tether.kill_all();
        }
        Ok(self.ended)
    }

    /// SIGKILL for all of them; reaps the child. Harmless when they already ended.
    pub fn kill9(&mut self) {
        if self.ended.is_none() {
            let _ = self.child.kill();
            self.tether.kill_all();
            self.ended = self.child.wait().ok();
        }
    }

    pub fn take_stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    pub fn take_stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.child.stderr.take()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Starts `command` on the spawner thread.
pub fn spawn(command: Command) -> Result<Family> {
    let shown = shown(&command);
    let (answer, child) = mpsc::channel();
    SPAWNER
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| anyhow!("the spawner thread is gone"))?;
    child.recv().context("the spawner thread is gone")?.with_context(|| format!("cannot start {shown}"))
}

/// The command line as a person would type it, for messages.
pub fn shown(command: &Command) -> String {
    let mut words: Vec<OsString> = vec![command.get_program().to_owned()];
    words.extend(command.get_args().map(OsStr::to_owned));
    let mut line = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    if let Some(rest) = line.strip_prefix("setpriv --pdeathsig KILL -- ") {
        line = rest.to_owned();
    }
    if line.len() > 400 {
        let cut = (0..=400).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// Runs a short-lived program to its end and returns its stdout; the error carries its stderr.
pub fn run(command: Command, within: Duration) -> Result<Vec<u8>> {
    run_with_input(command, b"", within)
}

/// The same with something on its stdin.
pub fn run_with_input(mut command: Command, input: &[u8], within: Duration) -> Result<Vec<u8>> {
    let line = shown(&command);
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process { name: line.clone(), family: spawn(command)?, log: None, quiet: true };
    let mut stdout = process.family.take_stdout().context("stdout was asked for")?;
    let mut stderr = process.family.take_stderr().context("stderr was asked for")?;
    if let Some(mut stdin) = process.family.take_stdin() {
        let input = input.to_vec();
        // A program that ends without reading all of it is judged by its exit code.
        std::thread::spawn(move || stdin.write_all(&input));
    }
    let out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let err = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let status = process.wait(within);
    if status.is_err() {
        process.kill9();
    }
    let out = out.join().map_err(|_| anyhow!("reader panicked"))??;
    let err = err.join().map_err(|_| anyhow!("reader panicked"))??;
    let status = status.with_context(|| format!("{line}\n{}", tail_of(&err)))?;
    if !status.success() {
        bail!("{line}: {status}\n{}{}", tail_of(&out), tail_of(&err));
    }
    Ok(out)
}

/// A running child and where it writes.
#[derive(Debug)]
pub struct Process {
    name: String,
    family: Family,
    log: Option<PathBuf>,
    quiet: bool,
}

impl Process {
    /// Starts `command` with stdin closed, stderr in `log`, and stdout there too unless the caller piped it.
    pub fn start(name: &str, mut command: Command, log: &Path, pipe_stdout: bool) -> Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open the log of {name}, {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(file.try_clone()?);
        if pipe_stdout {
            command.stdout(Stdio::piped());
        } else {
            command.stdout(file);
        }
        Ok(Self { name: name.to_owned(), family: spawn(command)?, log: Some(log.to_owned()), quiet: false })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.family.id()
    }

    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.family.take_stdout()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.family.try_wait(), Ok(None))
    }

    /// Sends a signal to exactly this child; a child that is gone is an error.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.family.try_wait()? {
            bail!("{} is not running any more: {status}", self.name);
        }
        let pid = Pid::from_raw(i32::try_from(self.family.id())?).context("no such process id")?;
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits for the end. Polls: the standard library has no wait with a deadline.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.family.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} is still running after {within:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL for it and all that came from it. Harmless when it already ended.
    pub fn kill9(&mut self) {
        self.family.kill9();
    }

    /// SIGTERM, then how it ended and how long that took.
    pub fn sigterm_and_wait(&mut self, within: Duration) -> Result<(ExitStatus, Duration)> {
        let started = Instant::now();
        self.signal(Signal::TERM)?;
        let status = self.wait(within).with_context(|| self.log_tail())?;
        Ok((status, started.elapsed()))
    }

    /// The end of what it wrote, for messages.
    pub fn log_tail(&self) -> String {
        match &self.log {
            Some(path) => format!("--- end of the log of {}\n{}", self.name, tail_of_file(path)),
            None => String::new(),
        }
    }

    /// Everything it wrote to stderr so far.
    pub fn log(&self) -> String {
        self.log.as_deref().and_then(|path| fs::read(path).ok()).map_or_else(String::new, |bytes| lossy(&bytes))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.quiet {
            crate::progress::say(&self.log_tail());
        }
        self.kill9();
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn tail_of(bytes: &[u8]) -> String {
    lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..])
}

fn tail_of_file(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(LOG_TAIL_BYTES as u64);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_or_else(|err| format!("(no log: {err})"), |bytes| lossy(&bytes))
}

/// A directory that is removed on drop, or by the next run if this one is killed.
pub fn scratch_dir(purpose: &str) -> Result<TempDir> {
    static SWEPT: std::sync::Once = std::sync::Once::new();
    SWEPT.call_once(sweep_dead_runs);
    tempfile::Builder::new()
        .prefix(&format!("{SCRATCH_PREFIX}{}-{purpose}-", std::process::id()))
        .tempdir()
        .context("cannot make a temporary directory")
}

/// Removes scratch directories whose process no longer exists.
fn sweep_dead_runs() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(|name| name.strip_prefix(SCRATCH_PREFIX)).and_then(owner_of) else {
            continue;
        };
        if rustix::process::test_kill_process(owner) == Err(rustix::io::Errno::SRCH) {
            unmount_below(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Unmounts what a killed run left mounted ([`crate::kafka::disk`]).
fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for mount in mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new) {
        if mount.starts_with(dir) {
            crate::kafka::disk::unmount(mount);
        }
    }
}

fn owner_of(rest: &str) -> Option<Pid> {
    Pid::from_raw(rest.split('-').next()?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_gone_when_its_handle_drops() {
        let dir = scratch_dir("drop").unwrap();
        let mut command = tethered("sleep");
        command.arg("600");
        let process = Process::start("sleep", command, &dir.path().join("log"), false).unwrap();
        let pid = Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap();
        assert!(rustix::process::test_kill_process(pid).is_ok());
        drop(process);
        assert_eq!(rustix::process::test_kill_process(pid), Err(rustix::io::Errno::SRCH));
    }

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let dir = scratch_dir("thread").unwrap();
        let log = dir.path().join("log");
        let mut process = std::thread::spawn(move || {
            let mut command = tethered("sleep");
            command.arg("600");
            Process::start("sleep", command, &log, false).unwrap()
        })
        .join()
        .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert!(process.is_running());
    }

    #[test]
    fn a_program_that_fails_is_reported_with_what_it_said() {
        let mut command = tethered("sh");
        command.args(["-c", "echo went wrong >&2; exit 3"]);
        let err = run(command, Duration::from_secs(10)).unwrap_err().to_string();
        assert!(err.contains("went wrong"), "{err}");
        assert!(err.contains("exit status: 3"), "{err}");
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_named() {
        let mut command = tethered("sleep");
        command.arg("600");
        let err = format!("{:#}", run(command, Duration::from_millis(50)).unwrap_err());
        assert!(err.contains("sleep 600"), "{err}");
    }

    #[test]
    fn scratch_of_a_dead_process_is_recognised_by_its_name() {
        assert_eq!(owner_of("1234-kafka-abc"), Pid::from_raw(1234));
        assert_eq!(owner_of("notes-kafka"), None);
    }
}
