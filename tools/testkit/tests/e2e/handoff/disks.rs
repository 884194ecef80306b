//! The disk of a gateway's own is full, fails, or forgets.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testkit::http::Connection;
use testkit::judgement::Allowed;
use testkit::kafka::disk::Disk;
use testkit::load::Load;
use testkit::process::{Process, scratch_dir, tethered};
use testkit::progress::say;
use testkit::wait;

use super::stage::{DELIVERED_WITHIN, Setting, Stage, load, msg_id, strictly, with_brokers};

/// Two segments of the smallest size and what else a gateway writes.
const SMALL_DISK_BYTES: u64 = 32 << 20;
/// Values that fill it soon.
const LARGE_VALUE_BYTES: usize = 60_000;
/// How a publisher's value begins.
const VALUE: &[u8] = b"connection ";
const ROOM_WITHIN: Duration = Duration::from_secs(40);
const ATTACHED_WITHIN: Duration = Duration::from_secs(10);

/// Nothing is kept that has no room, and what was kept is delivered.
pub fn is_full() -> Result<()> {
    with_brokers(1, |kafka| {
        let dir = scratch_dir("handoff")?;
        let data = dir.path().join("data");
        fs::create_dir(&data)?;
        let disk = Disk::make_of(&data, SMALL_DISK_BYTES);
        let keys = match &disk {
            Disk::Mounted(_) => "handoff.free_bytes_min = '0B'\nhandoff.bytes_max = '1GiB'",
            // This machine mounts nothing, so it is the budget that is full.
            Disk::Shared => "handoff.free_bytes_min = '0B'\nhandoff.bytes_max = '16MiB'",
        };
        let mut stage = Stage::set_on(kafka, Setting { keys, ..Setting::default() }, dir, Some(disk))?;
        stage.kafka_dies()?;
        let mut kept = Vec::new();
        let refused = fill(&stage, &mut kept)?;
        say(&format!("  {} messages of {LARGE_VALUE_BYTES} bytes, then {refused}", kept.len()));
        ensure!(kept.len() > 50, "only {} fit", kept.len());
        stage.kafka_returns()?;
        stage.direct()?;
        for id in &kept {
            let said = stage.receipt(0, id)?;
            ensure!(said["state"] == "delivered", "{said}");
        }
        let large = stage.large_values()?;
        ensure!(large == kept.len(), "{large} are in Kafka, {} were kept", kept.len());
        // What was delivered is let go, with the second checkpoint after it.
        stage.kafka_dies()?;
        wait::until("room again", ROOM_WITHIN, || {
            let request = stage.tenant.publish("?timeout=2s&key=large").body(vec![b'l'; LARGE_VALUE_BYTES]);
            let answer = Connection::open(&stage.gateways[0].publish)?.call(&request)?;
            ensure!(answer.status == 202, "{}: {}", answer.status, answer.text());
            Ok(())
        })?;
        stage.kafka_returns()?;
        stage.direct()
    })
}

/// Publishes until there is no room; yields why.
fn fill(stage: &Stage<'_>, kept: &mut Vec<String>) -> Result<String> {
    let mut wire = Connection::open(&stage.gateways[0].publish)?;
    for _ in 0..(4 * SMALL_DISK_BYTES as usize / LARGE_VALUE_BYTES) {
        let request = stage.tenant.publish("?timeout=2s&key=large").body(vec![b'l'; LARGE_VALUE_BYTES]);
        let answer = wire.call(&request)?;
        if answer.status == 202 {
            kept.push(msg_id(answer)?);
            continue;
        }
        let code = answer.code().unwrap_or_default();
        ensure!(answer.status == 503, "{}: {}", answer.status, answer.text());
        ensure!(matches!(code.as_str(), "disk_full" | "handoff_full"), "{code}: {}", answer.text());
        ensure!(answer.header("retry-after").is_some(), "503 without Retry-After");
        return Ok(code);
    }
    bail!("{} messages fit on a disk of {SMALL_DISK_BYTES} bytes", kept.len())
}

impl Stage<'_> {
    fn large_values(&self) -> Result<usize> {
        let is_large = |value: &Vec<u8>| value.len() == LARGE_VALUE_BYTES;
        Ok(self.records()?.iter().filter(|record| record.value.as_ref().is_some_and(is_large)).count())
    }
}

/// What strace does to a gateway while it buffers.
pub enum Injected {
    /// SIGKILL at that call.
    Death,
    /// The call fails; the gateway goes on.
    Failure,
}

/// At each of `injections`, in the syntax of `strace -e inject=`, publishers are at work and Kafka is away.
pub fn fails(injections: &[&str], what: &Injected) -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        // A segment is full every few seconds.
        let running = stage.start(&Load { value_bytes: 2_000, ..load() });
        running.wait_for_more(300, DELIVERED_WITHIN)?;
        stage.kafka_dies()?;
        running.wait_for_more_handed_off(200, Duration::from_secs(20))?;
        for injection in injections {
            let log = stage.data_dir().with_file_name("strace.log");
            let mut strace = attach(stage.gateway().id(), injection, &log)?;
            match what {
                Injected::Death => {
                    stage
                        .gateway()
                        .wait(Duration::from_secs(20))
                        .with_context(|| format!("{injection} hit nothing"))?;
                    stage.restart_gateway(0)?;
                }
                Injected::Failure => {
                    wait::until(&format!("{injection} to hit"), Duration::from_secs(20), || {
                        let traced = fs::read_to_string(&log)?;
                        if traced.contains("(INJECTED)") { Ok(()) } else { bail!("{} bytes traced", traced.len()) }
                    })?;
                    // SIGTERM has it let go of the gateway.
                    strace
                        .sigterm_and_wait(Duration::from_secs(10))
                        .map(drop)
                        .or_else(|_| strace_is_gone(&mut strace))?;
                    ensure!(stage.gateway().is_running(), "{injection} ended the gateway\n{}", stage.logs());
                }
            }
            running.wait_for_more_handed_off(200, Duration::from_secs(20)).with_context(|| injection.to_string())?;
            fs::remove_file(&log)?;
        }
        stage.kafka_returns()?;
        running.wait_for_more(500, DELIVERED_WITHIN)?;
        let written = running.stop()?;
        let gateway_ended = matches!(what, Injected::Death);
        let allowed = Allowed { gateway_ended, refused: true, ..strictly() };
        stage.judge("the disk failed", written, allowed).map(drop)
    })
}

fn strace_is_gone(strace: &mut Process) -> Result<()> {
    ensure!(!strace.is_running(), "strace does not end: {}", strace.log_tail());
    Ok(())
}

/// strace with an injection, attached to every thread.
fn attach(gateway: u32, injection: &str, log: &Path) -> Result<Process> {
    let call = injection.split(':').next().unwrap_or_default();
    let mut command = tethered("strace");
    command.args(["-f", "-e", &format!("trace={call}"), "-e", &format!("inject={injection}"), "-p"]);
    command.arg(gateway.to_string());
    let mut strace = Process::start("strace", command, log, false)?;
    wait::until("strace to be attached", ATTACHED_WITHIN, || {
        // It may have hit at once, and be gone with the gateway.
        if strace.log().contains("attached") {
            return Ok(());
        }
        ensure!(strace.is_running(), "{}", strace.log_tail());
        bail!("not yet")
    })?;
    Ok(strace)
}

/// A byte flips in what was promised, while the gateway is down: it starts, says what is lost, and delivers the rest.
pub fn rots() -> Result<()> {
    damaged(
        |segment| {
            let mut bytes = fs::read(segment)?;
            let at = middle_of_values(&bytes)?;
            bytes[at] ^= 0x10;
            fs::write(segment, bytes).context("the flipped byte")
        },
        true,
    )
}

/// Behind the last block there is half of one that nobody was promised.
pub fn has_a_torn_tail() -> Result<()> {
    damaged(
        |segment| {
            let mut bytes = fs::read(segment)?;
            // Behind the last value that was promised; what a recycled file has there already is no different.
            let last = bytes.windows(VALUE.len()).rposition(|window| window == VALUE).context("no value")?;
            let first = (last + 200).next_multiple_of(4_096);
            ensure!(first + 4_096 <= bytes.len(), "no room for a tail");
            // The beginning of a block that is whole elsewhere, and nothing of its body.
            bytes.copy_within(4_096..4_096 + 2_048, first);
            fs::write(segment, bytes).context("the torn tail")
        },
        false,
    )
}

fn damaged(damage: impl FnOnce(&Path) -> Result<()>, loses: bool) -> Result<()> {
    with_brokers(1, |kafka| {
        let mut stage = Stage::set(kafka, Setting::default())?;
        let running = stage.start(&Load { requests_max: 200, ..load() });
        running.wait_for_more(100, DELIVERED_WITHIN)?;
        stage.kafka_dies()?;
        running.wait_for_more_handed_off(1_000, Duration::from_secs(20))?;
        let written = running.stop()?;
        stage.gateway().kill9();
        damage(&last_segment(&stage.data_dir())?)?;
        stage.restart_gateway(0)?;
        let said = stage.gateway().log();
        let lost = usize::try_from(told_lost(&said)?)?;
        say(&format!("  {lost} told to be lost"));
        ensure!(loses == (lost > 0), "{lost} told to be lost\n{said}");
        msg_id(stage.probe("?timeout=2s&key=after")?).context("after the start")?;
        stage.kafka_returns()?;
        stage.judge("damaged at rest", written, Allowed { lost, ..strictly() }).map(drop)
    })
}

/// Somewhere in the values of a segment.
fn middle_of_values(bytes: &[u8]) -> Result<usize> {
    let windows = bytes.windows(VALUE.len()).enumerate();
    let starts: Vec<usize> = windows.filter(|(_, window)| *window == VALUE).map(|(at, _)| at).collect();
    ensure!(starts.len() > 100, "{} values", starts.len());
    Ok(starts[starts.len() / 2] + 12)
}

/// Records that the log says cannot be delivered.
fn told_lost(log: &str) -> Result<u64> {
    let number = |line: &str, name: &str| -> Result<u64> {
        let from = line.find(name).with_context(|| line.to_owned())? + name.len();
        let digits: String = line[from..].chars().take_while(char::is_ascii_digit).collect();
        digits.parse().with_context(|| line.to_owned())
    };
    let rotten = log.lines().filter(|line| line.contains("are rotten on the disk"));
    rotten.map(|line| Ok(number(line, " to=")? - number(line, " from=")?)).sum()
}

/// The segment that was written to last.
fn last_segment(data: &Path) -> Result<PathBuf> {
    let mut found = Vec::new();
    for node in fs::read_dir(data.join("nodes"))? {
        let Ok(files) = fs::read_dir(node?.path().join("journal")) else { continue };
        for file in files {
            let path = file?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("segment-") {
                found.push(path);
            }
        }
    }
    found.sort();
    found.pop().context("no segment")
}
