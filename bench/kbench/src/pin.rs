//! A thread, or a whole program, on one CPU: measurements must not depend on where the scheduler puts things.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::cli::Pin;

/// Becomes the command, on that CPU and under the same process id, and dies with the process that started it.
pub fn run(pin: Pin) -> Result<ExitCode> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot follow the parent process")?;
    this_thread(pin.cpu)?;
    let (program, args) = pin.command.split_first().context("a command to run")?;
    let err = Command::new(program).args(args).exec();
    Err(err).with_context(|| format!("cannot run {program}"))
}

/// Keeps this thread (and those it starts) on `cpu`.
pub fn this_thread(cpu: Option<usize>) -> Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    ensure!(cpu < CpuSet::MAX_CPU, "there is no cpu {cpu}");
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("cannot run on cpu {cpu}"))
}
