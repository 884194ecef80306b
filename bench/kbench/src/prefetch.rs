//! `kbench prefetch`: memory of a gateway while many groups each read one message of a large topic.
//!
//! What a group reads ahead of its polls is held by nobody's request. All groups are of one app and poll at once; then
//! nobody polls any more, and the gateway leaves them. The gateway's resident memory is read all the time: before, while,
//! and when no group is left.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use embedded_kafka::{EmbeddedConfig, EmbeddedKafka};
use testkit::http::Connection;

use crate::cli::Prefetch;
use crate::compare::met;
use crate::gateway::{App, Gateway};
use crate::limits::{LEAVE_GRACE, OTHER_DESCRIPTORS, READ_TIMEOUT, SETTLE};
use crate::machine::machine;
use crate::offsets;
use crate::patience::until;
use crate::process::TempDir;
use crate::produce_load;
use crate::rounds::Spread;
use crate::servers::kateway_path;
use crate::sockets::need_descriptors;

/// `limits.memory` of `kateway quickstart`,
const LIMIT_MIB: f64 = 1024.0;
/// and what the process may have beside it.
const BESIDE_MIB: f64 = 200.0;
const TOPIC: &str = "large";
/// One Produce request of the fill.
const FRAME_BYTES: usize = 512 << 10;
/// How often memory is read.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// A group that was refused for want of memory asks again after this.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);
/// Groups are left after twice their longest wait, and not before this.
const IDLE_MIN: Duration = Duration::from_secs(10);

pub fn run(prefetch: Prefetch) -> Result<ExitCode> {
    need_descriptors(prefetch.groups + OTHER_DESCRIPTORS, &format!("{} groups", prefetch.groups))?;
    let kateway = kateway_path(prefetch.kateway.as_ref())?;
    let mut runs = Vec::new();
    for number in 1..=prefetch.rounds {
        let found = measure(&prefetch, &kateway)?;
        eprintln!(
            "run {number}/{}: {:.0} MiB before, {:.0} at most, {:.0} when read, {:.0} when left",
            prefetch.rounds, found.before_mib, found.peak_mib, found.read_mib, found.left_mib
        );
        runs.push(found);
    }
    console::print!("{}", markdown(&prefetch, &runs));
    Ok(ExitCode::SUCCESS)
}

/// Resident memory of the gateway, and what happened.
#[derive(Debug, Clone, Default)]
struct Found {
    before_mib: f64,
    peak_mib: f64,
    /// All groups have their message and are quiet.
    read_mib: f64,
    /// Nobody is a member of any.
    left_mib: f64,
    read_seconds: f64,
    /// Polls that were answered with something else than a message, and asked again.
    refused: u64,
}

fn measure(prefetch: &Prefetch, kateway: &Path) -> Result<Found> {
    // Declared first, so that they end last.
    let data_dir = TempDir::in_memory()?;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let broker =
        EmbeddedKafka::start(EmbeddedConfig { listen, data_dir: data_dir.path.clone(), ..EmbeddedConfig::default() })?;
    let gateway = Gateway::start(kateway, &broker.bootstrap(), 1, None)?;
    let app = gateway.new_app("readers")?;
    gateway.new_topic(&app, TOPIC, prefetch.partitions, None)?;
    fill(prefetch, &broker, &gateway.sender(&app, TOPIC).physical_topic())?;
    let pid = gateway.server.pid();
    let (peak_kib, done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak_kib.fetch_max(resident_kib(pid)?, Ordering::Relaxed);
                thread::sleep(LOOK_PAUSE);
            }
            anyhow::Ok(())
        });
        let found = read_and_leave(prefetch, &gateway, &app);
        done.store(true, Ordering::Relaxed);
        watch.join().map_err(|_| anyhow!("the watch over memory panicked"))??;
        Ok(Found { peak_mib: mib(peak_kib.load(Ordering::Relaxed)), ..found? })
    })
}

fn read_and_leave(prefetch: &Prefetch, gateway: &Gateway, app: &App) -> Result<Found> {
    let resident = || Ok::<_, anyhow::Error>(mib(resident_kib(gateway.server.pid())?));
    let mut found = Found { before_mib: resident()?, ..Found::default() };
    let started = Instant::now();
    found.refused = read_one_each(prefetch, gateway, app)?;
    found.read_seconds = started.elapsed().as_secs_f64();
    thread::sleep(SETTLE);
    found.read_mib = resident()?;
    let within = (prefetch.wait * 2).max(IDLE_MIN) + LEAVE_GRACE;
    until("groups to be left", within, Duration::from_millis(200), || {
        let groups = gateway.metrics()?.sum("gateway_subscriptions")?;
        Ok(if groups == 0.0 { Ok(()) } else { Err(format!("{groups} are not")) })
    })?;
    thread::sleep(SETTLE);
    found.left_mib = resident()?;
    Ok(found)
}

/// Every group polls at once, until each had its message; how many polls were answered with something else.
fn read_one_each(prefetch: &Prefetch, gateway: &Gateway, app: &App) -> Result<u64> {
    let wait_ms = prefetch.wait.as_millis() as u64;
    let poll = |group: usize| gateway.poll(app, TOPIC, &format!("group{group}"), wait_ms);
    let mut polls = Vec::with_capacity(prefetch.groups);
    for group in 0..prefetch.groups {
        let mut connection = Connection::open_within(&gateway.subscribe, READ_TIMEOUT)?;
        connection.send_raw(poll(group).as_bytes())?;
        polls.push((group, connection));
    }
    let (mut refused, groups) = (0, prefetch.groups);
    until("groups that read", READ_TIMEOUT, REFUSED_PAUSE, || {
        let mut again = Vec::new();
        for (group, mut connection) in polls.drain(..) {
            let answer = connection.read()?;
            match answer.status {
                200 => {}
                204 | 429 | 503 => {
                    refused += 1;
                    connection.send_raw(poll(group).as_bytes())?;
                    again.push((group, connection));
                }
                status => anyhow::bail!("a poll was answered {status}: {}", answer.text()),
            }
        }
        polls = again;
        Ok(if polls.is_empty() { Ok(()) } else { Err(format!("{} of {groups} have no message yet", polls.len())) })
    })?;
    Ok(refused)
}

/// Past the gateway: its memory is what is measured.
fn fill(prefetch: &Prefetch, broker: &EmbeddedKafka, topic: &str) -> Result<()> {
    let bytes = prefetch.topic_mb * 1_000_000;
    let records = (FRAME_BYTES / prefetch.size.max(1)).clamp(1, RECORDS_PER_FRAME_MAX);
    let frames = bytes.div_ceil(records * prefetch.size.max(1));
    let frame_of = |partition| produce_load::frame(topic, partition as i32, records, prefetch.size);
    let frames_of: Vec<_> = (0..prefetch.partitions).map(frame_of).collect();
    let mut socket = TcpStream::connect(broker.addr()).context("cannot connect to the broker")?;
    for number in 0..frames {
        socket.write_all(&frames_of[number % prefetch.partitions])?;
        produce_load::skip_answer(&mut socket)?;
    }
    let stored = offsets::end_of(&broker.bootstrap(), topic)?;
    ensure!(stored == (frames * records) as u64, "{stored} records of {} were stored", frames * records);
    Ok(())
}

/// Of one Produce request of the fill, however small they are.
const RECORDS_PER_FRAME_MAX: usize = 4_096;

/// Resident memory of a process, as proc_pid_status(5) has it.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the gateway is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn markdown(prefetch: &Prefetch, runs: &[Found]) -> String {
    let of = |figure: &dyn Fn(&Found) -> f64| Spread::of(runs.iter().map(figure));
    let (before, peak, left) = (of(&|run| run.before_mib), of(&|run| run.peak_mib), of(&|run| run.left_mib));
    let mut out = String::new();
    let _ = writeln!(
        out,
        "### Memory while {} groups of one app each read one message of {} MB\n\n\
         {}. {} runs, medians (min–max). Messages of {} B in {} partitions, limits.memory {LIMIT_MIB} MiB, one shard. All \
         polls begin at once; {} were refused and came again; the last message came after {} s.\n\n\
         | resident memory of the gateway | MiB | aim |\n|---|---|---|",
        prefetch.groups,
        prefetch.topic_mb,
        machine(),
        runs.len(),
        prefetch.size,
        prefetch.partitions,
        of(&|run| run.refused as f64).show(0),
        of(&|run| run.read_seconds).show(1)
    );
    let most = LIMIT_MIB + BESIDE_MIB;
    let falls = met("falls again".to_owned(), left.median <= before.median + (peak.median - before.median) / 2.0);
    for (what, mib, aim) in [
        ("before", before, "–".to_owned()),
        ("at most", peak, met(format!("≤ {most}"), peak.max <= most)),
        ("every group has its message", of(&|run| run.read_mib), "–".to_owned()),
        ("the groups are left", left, falls),
    ] {
        let _ = writeln!(out, "| {what} | {} | {aim} |", mib.show(0));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn memory_has_to_stay_within_the_limit_and_to_fall() {
        let Command::Prefetch(prefetch) = Cli::parse_from(["kbench", "prefetch"]).command else { panic!("prefetch") };
        for (peak_mib, left_mib, expected) in [
            (2_500.0, 2_500.0, ["| at most | 2500 (2500–2500) | ≤ 1224: missed |", "| falls again: missed |"]),
            (900.0, 80.0, ["| at most | 900 (900–900) | ≤ 1224: met |", "| falls again: met |"]),
        ] {
            let found =
                Found { before_mib: 30.0, peak_mib, read_mib: peak_mib, left_mib, read_seconds: 2.0, refused: 0 };
            let text = markdown(&prefetch, &[found]);
            for line in expected {
                assert!(text.contains(line), "{line}\n{text}");
            }
        }
    }

    #[test]
    fn the_topic_holds_as_much_as_was_asked_for() {
        let args = "kbench prefetch --topic-mb 3 --size 1000 --partitions 2".split(' ');
        let Command::Prefetch(prefetch) = Cli::parse_from(args).command else { panic!("prefetch") };
        let data_dir = TempDir::in_memory().expect("a directory");
        let broker = EmbeddedKafka::start(EmbeddedConfig {
            data_dir: data_dir.path.clone(),
            default_partitions: 2,
            ..EmbeddedConfig::default()
        })
        .expect("a broker");
        // Asking makes it.
        assert_eq!(offsets::end_of(&broker.bootstrap(), "t").expect("a topic"), 0);
        fill(&prefetch, &broker, "t").expect("filled");
        let stored = offsets::end_of(&broker.bootstrap(), "t").expect("a topic");
        assert!((3_000..4_000).contains(&stored), "{stored}");
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_kib(std::process::id()).expect("this process") > 100);
        assert!(resident_kib(u32::MAX).is_err());
    }
}
