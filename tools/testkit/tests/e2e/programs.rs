//! What holds of all our programs on a command line, and what programs of others kbench finds.

use std::fs;
use std::io::Read;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testkit::daemon::bin_path;
use testkit::process::{run, scratch_dir, tethered};

use crate::harness::{Case, case, same};

pub const CASES: &[Case] = &[
    case("kateway_ends_quietly_when_nobody_reads_on", &["bin:kateway"], || {
        for line in ["completion bash", "config-reference", "admin --dry-run app limit shop --connections 1"] {
            ends_quietly("kateway", line)?;
        }
        Ok(())
    }),
    case("quickstart_ends_in_order_when_nobody_reads_its_banner", &["bin:kateway"], quickstart_ends),
    case("kproxy_ends_quietly_when_nobody_reads_on", &["bin:kproxy"], || {
        for line in ["completion bash", "config-reference", "apis --tenants"] {
            ends_quietly("kproxy", line)?;
        }
        ends_quietly("kproxy", "serve --bootstrap 127.0.0.1:9 --check-config")
    }),
    case("walctl_ends_quietly_when_nobody_reads_on", &["bin:walctl"], || ends_quietly("walctl", "completion bash")),
    case("kbench_ends_quietly_when_nobody_reads_on", &["bin:kbench"], || {
        ends_quietly("kbench", "null-broker --listen 127.0.0.1:0")
    }),
    case("xtask_ends_quietly_when_nobody_reads_on", &["bin:xtask"], || {
        ends_quietly("xtask", "help")?;
        ends_quietly("xtask", "components")
    }),
    case(
        "kbench_measures_the_job_servers_of_others",
        &["bin:kbench", "bin:kateway", "beanstalkd", "redis"],
        job_servers_are_measured,
    ),
];

const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// As if SIGPIPE had killed it: 128 and its number.
const READER_GONE: i32 = 141;

/// A program whose stdout nobody reads: how it ended, and what it said on stderr.
fn without_a_reader(program: &str, line: &str, tmp: &std::path::Path) -> Result<(ExitStatus, String)> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut command = tethered(bin_path(program)?);
    command.args(line.split(' ')).env("TMPDIR", tmp).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // Ours of the pipe is closed, too.
    drop(command);
    let until = Instant::now() + ENDS_WITHIN;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > until => {
                child.kill()?;
                bail!("{program} {line}: goes on without a reader");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut said = String::new();
    child.stderr.take().context("stderr was asked for")?.read_to_string(&mut said)?;
    Ok((status, said))
}

fn ends_quietly(program: &str, line: &str) -> Result<()> {
    let dir = scratch_dir("unread")?;
    let (status, said) = without_a_reader(program, line, dir.path())?;
    same(&format!("{program} {line}"), &(status.code(), said.as_str()), &(Some(READER_GONE), ""))
}

fn quickstart_ends() -> Result<()> {
    let line = "quickstart --pub localhost:0 --sub 127.0.0.1:0 --man 127.0.0.1:0 --kafka 127.0.0.1:0";
    for more in ["", " --json"] {
        let dir = scratch_dir("unread")?;
        let (status, said) = without_a_reader("kateway", &format!("{line}{more}"), dir.path())?;
        ensure!(status.success(), "quickstart{more} ended with {status}: {said}");
        ensure!(!said.contains("panicked"), "{said}");
        let left: Vec<_> = fs::read_dir(dir.path())?.collect::<Result<_, _>>()?;
        ensure!(left.is_empty(), "its temporary directory, with secrets in it, stays: {left:?}");
    }
    Ok(())
}

/// One short round of each. A server that says of no add that it is durable is an error of the program.
fn job_servers_are_measured() -> Result<()> {
    for (server, row) in [("beanstalkd", "beanstalkd `-f0`"), ("Redis", "Redis, `appendfsync always`")] {
        let dir = scratch_dir("job-servers")?;
        let mut command = tethered(bin_path("kbench")?);
        command.args(["jobs", "--only", server, "--rounds", "1", "--duration", "100ms", "--warmup", "50ms"]);
        command.args(["--waiting", "20", "--peer-connections", "3", "--size", "30", "--foreign-max", "1000"]);
        command.arg("--data-dir").arg(dir.path());
        let told = String::from_utf8(run(command, ENDS_WITHIN)?)?;
        ensure!(told.lines().any(|line| line.starts_with('|') && line.contains(row)), "no row of {row}:\n{told}");
    }
    Ok(())
}
