//! `kbench jobs --recovery`: a store with many jobs that wait, a process that is killed, and the next start.
//!
//! A process of its own fills the store and says so when the last add is durable; then it is killed, whatever its tables are
//! at. Before each start its files are made to leave the page cache, so what is read is read from the disk. The second start
//! is one after a loss: all books and all of the journal's checkpoints are gone.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Advice, fadvise, statvfs};
use serde_json::{Value, json};

use super::flags::{JobsBench, KeepJobs};
use super::kept::{ACCOUNT, Kept, name};
use super::report;
use crate::cli::FAILED;
use crate::limits::{
    JOBS_DISK_SPARE_BYTES, JOBS_FILL_TIMEOUT, JOBS_GIVE_BACK_EVERY, JOBS_OVERHEAD_BYTES, JOBS_SETTLE_TIMEOUT,
    JOBS_SETTLED_AFTER, LOOK_MEMORY_EVERY, PROGRESS_EVERY,
};
use crate::process::{Process, TempDir, tethered, this_program};
use crate::rounds::Order;

const DAY_MS: i64 = 24 * 3_600_000;
const YEAR_MS: u64 = 365 * DAY_MS as u64;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovery {
    pub filled: Filled,
    pub killed: Start,
    pub lost: Option<Start>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filled {
    pub jobs: u64,
    pub seconds: f64,
    /// How often the store had no room for a moment.
    pub full: u64,
    /// When the last add was durable.
    pub memory: Memory,
    pub anon_bytes_max: u64,
    pub disk_bytes: u64,
    pub disk_bytes_max: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Start {
    /// From the start of the process.
    pub ready_seconds: f64,
    /// Of these, opening the store.
    pub open_seconds: f64,
    pub pending: u64,
    pub tables: u64,
    pub without_book: bool,
    pub memory: Memory,
    pub anon_bytes_max: u64,
    /// When nothing changed any more.
    pub disk_bytes_settled: u64,
}

/// proc_pid_status(5).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Memory {
    pub anon_bytes: u64,
    pub file_bytes: u64,
}

pub fn run(bench: &JobsBench, jobs: u64) -> Result<ExitCode> {
    let dir = bench.dir();
    let (needed, free) = (needed_bytes(jobs, bench.pending_size), free_bytes(&dir)?);
    ensure!(
        needed <= free,
        "{jobs} jobs of {} B may take {needed} bytes and {} has {free} free; have fewer, or name another disk with --data-dir",
        bench.pending_size,
        dir.display()
    );
    let place = TempDir::inside(&dir)?;
    let mut child = Child::start(&place.path, jobs, bench.pending_size)?;
    let filled = child.filled(jobs)?;
    child.kill()?;
    eprintln!("filled with {jobs} jobs in {:.1} s, killed", filled.seconds);
    let killed = Start::measure(&place.path)?;
    eprintln!("ready after {:.2} s with {} jobs, killed", killed.ready_seconds, killed.pending);
    ensure!(killed.pending == jobs, "{jobs} adds were durable and {} jobs are there after a kill", killed.pending);
    for path in of_the_past(&place.path)? {
        std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    // Refused as long as tables cannot be read without a book.
    let lost = match Start::measure(&place.path) {
        Ok(start) => {
            eprintln!("without books ready after {:.2} s with {} jobs", start.ready_seconds, start.pending);
            Some(start)
        }
        Err(err) => {
            eprintln!("without books it does not start: {err:#}");
            None
        }
    };
    let gone = lost.as_ref().map_or(0, |start| jobs.saturating_sub(start.pending));
    let recovery = Recovery { filled, killed, lost };
    console::print!("{}", report::recovery(bench, &report::place(&dir), &recovery));
    if gone > 0 {
        eprintln!("kbench: {gone} jobs are gone with the books");
        return Ok(ExitCode::from(FAILED));
    }
    Ok(ExitCode::SUCCESS)
}

/// What they take while tables are merged: twice, and as much again in the log.
fn needed_bytes(jobs: u64, size: usize) -> u64 {
    jobs * 3 * (size as u64 + JOBS_OVERHEAD_BYTES) + JOBS_DISK_SPARE_BYTES
}

fn free_bytes(dir: &Path) -> Result<u64> {
    let space = statvfs(dir).with_context(|| format!("cannot ask what {} has free", dir.display()))?;
    Ok(space.f_bavail * space.f_frsize)
}

/// The process with the store.
struct Child {
    process: Process,
    began: Instant,
    lines: mpsc::Receiver<Value>,
    dir: PathBuf,
}

impl Child {
    fn start(dir: &Path, fill: u64, size: usize) -> Result<Child> {
        let mut command = tethered(None, &this_program()?)?;
        command.args(["keep-jobs", "--fill", &fill.to_string(), "--size", &size.to_string(), "--dir"]).arg(dir);
        let began = Instant::now();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start the store")?;
        let out = child.stdout.take().context("its output")?;
        let (told, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines.filter_map(|line| serde_json::from_str(&line).ok()).for_each(|line| drop(told.send(line)));
        });
        Ok(Child { process: Process::of(child), began, lines, dir: dir.to_owned() })
    }

    /// Its next line; `look` is called again and again meanwhile.
    fn line(&mut self, timeout: Duration, mut look: impl FnMut(&Child)) -> Result<Value> {
        let end = Instant::now() + timeout;
        loop {
            match self.lines.recv_timeout(LOOK_MEMORY_EVERY) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Disconnected) => bail!("the process with the store ended"),
                Err(RecvTimeoutError::Timeout) => look(self),
            }
            ensure!(Instant::now() < end, "the process with the store says nothing within {timeout:?}");
        }
    }

    fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap_or_default();
        Memory::of(&status)
    }

    fn filled(&mut self, jobs: u64) -> Result<Filled> {
        let (mut anon_bytes_max, mut disk_bytes_max) = (0, 0);
        let look = |child: &Child| {
            anon_bytes_max = anon_bytes_max.max(child.memory().anon_bytes);
            disk_bytes_max = disk_bytes_max.max(disk_bytes(&child.dir));
        };
        let ready = self.line(JOBS_FILL_TIMEOUT, look)?;
        let (memory, disk_bytes) = (self.memory(), disk_bytes(&self.dir));
        Ok(Filled {
            jobs,
            seconds: number(&ready, "fill_us")? as f64 / 1e6,
            full: number(&ready, "full")?,
            memory,
            anon_bytes_max: anon_bytes_max.max(memory.anon_bytes),
            disk_bytes,
            disk_bytes_max: disk_bytes_max.max(disk_bytes),
        })
    }

    /// As if the power of a process alone were cut.
    fn kill(mut self) -> Result<()> {
        self.process.kill()
        // Dropped, which waits for its end.
    }
}

impl Start {
    fn measure(dir: &Path) -> Result<Start> {
        files_below(dir, &mut forget)?;
        let mut child = Child::start(dir, 0, 0)?;
        let mut anon_bytes_max = 0;
        let ready =
            child.line(JOBS_FILL_TIMEOUT, |child| anon_bytes_max = anon_bytes_max.max(child.memory().anon_bytes))?;
        let (ready_seconds, memory) = (child.began.elapsed().as_secs_f64(), child.memory());
        let anon_bytes_max = anon_bytes_max.max(memory.anon_bytes);
        let disk_bytes_settled = settled_bytes(dir);
        child.kill()?;
        Ok(Start {
            ready_seconds,
            open_seconds: number(&ready, "open_us")? as f64 / 1e6,
            pending: number(&ready, "pending")?,
            tables: number(&ready, "tables")?,
            without_book: ready["without_book"] == json!(true),
            memory,
            anon_bytes_max,
            disk_bytes_settled,
        })
    }
}

/// When they did not change for a while.
fn settled_bytes(dir: &Path) -> u64 {
    let (began, mut since, mut bytes) = (Instant::now(), Instant::now(), disk_bytes(dir));
    while since.elapsed() < JOBS_SETTLED_AFTER && began.elapsed() < JOBS_SETTLE_TIMEOUT {
        std::thread::sleep(LOOK_MEMORY_EVERY);
        let now = disk_bytes(dir);
        if now != bytes {
            (since, bytes) = (Instant::now(), now);
        }
    }
    bytes
}

fn number(line: &Value, name: &str) -> Result<u64> {
    line[name].as_u64().with_context(|| format!("the process with the store tells no {name}: {line}"))
}

impl Memory {
    fn of(status: &str) -> Memory {
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
        };
        Memory { anon_bytes: kib("RssAnon") << 10, file_bytes: kib("RssFile") << 10 }
    }
}

fn files_below(dir: &Path, each: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() { files_below(&path, each)? } else { each(&path)? }
    }
    Ok(())
}

/// Blocks that are allocated; files may come and go meanwhile.
fn disk_bytes(dir: &Path) -> u64 {
    let mut bytes = 0;
    let _ = files_below(dir, &mut |path| {
        bytes += std::fs::metadata(path).map_or(0, |meta| meta.blocks() * 512);
        Ok(())
    });
    bytes
}

/// Out of the page cache.
fn forget(path: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    // What is not written yet would stay.
    file.sync_all()?;
    fadvise(&file, 0, None, Advice::DontNeed).with_context(|| format!("cannot forget {}", path.display()))
}

/// Books, and checkpoints of the journal.
fn of_the_past(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    files_below(dir, &mut |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_of_the_past(&name) {
            found.push(path.to_owned());
        }
        Ok(())
    })?;
    ensure!(!found.is_empty(), "no book and no checkpoint below {}", dir.display());
    Ok(found)
}

fn is_of_the_past(name: &str) -> bool {
    name.starts_with("checkpoint-") || name.starts_with("book-")
}

/// `kbench keep-jobs`: opens the store, fills it, says so in a line, and stays.
pub fn keep(keep: &KeepJobs) -> Result<ExitCode> {
    // As the shards of a gateway do: else the allocator keeps what was freed, and that would be measured.
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(JOBS_GIVE_BACK_EVERY);
            runtime::memory::give_back();
        }
    });
    let kept = Kept::open(&keep.dir, |_| {})?;
    let (mut order, now_ms, began) = (Order(1), kept.store().now_ms(), Instant::now());
    let mut told = Instant::now();
    let due_ms = |_| now_ms + DAY_MS + (order.random() % YEAR_MS) as i64;
    let mut count = 0;
    let full = kept.fill(&name(ACCOUNT, "kept"), keep.fill, keep.size, due_ms, |_, dues| {
        count += dues.len() as u64;
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            eprintln!("{count} of {} jobs, {:.0}/s", keep.fill, count as f64 / began.elapsed().as_secs_f64());
        }
    })?;
    let found = kept.found;
    let ready = json!({
        "ready": true, "fill_us": began.elapsed().as_micros() as u64, "full": full, "open_us": found.took.as_micros() as u64,
        "pending": found.pending, "tables": found.tables, "without_book": found.without_book, "lost": found.lost,
    });
    console::println!("{ready}");
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_kind() {
        let status =
            "Name:\tkbench\nVmRSS:\t  300 kB\nRssAnon:\t     123 kB\nRssFile:\t      45 kB\nRssShmem:\t 0 kB\n";
        assert_eq!(Memory::of(status), Memory { anon_bytes: 123 << 10, file_bytes: 45 << 10 });
        assert_eq!(Memory::of(""), Memory::default());
    }

    #[test]
    fn a_hundred_million_small_jobs_want_tens_of_gigabytes_and_a_disk_says_what_it_has() {
        let needed = needed_bytes(100_000_000, 64);
        assert!((20 << 30..60 << 30).contains(&needed), "{needed}");
        assert!(needed_bytes(1, 0) >= JOBS_DISK_SPARE_BYTES);
        assert!(free_bytes(Path::new("/")).is_ok_and(|bytes| bytes > 0));
        assert!(free_bytes(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn books_and_checkpoints_are_what_a_start_knows_of_the_past_and_nothing_else_is() {
        for (name, expected) in [
            ("checkpoint-0000000000000003", true),
            ("book-0000000000000001.jobs", true),
            ("id", false),
            ("0000000000000001.log", false),
            ("table-0000000000000001.jobs", false),
        ] {
            assert_eq!(is_of_the_past(name), expected, "{name}");
        }
    }

    #[test]
    fn files_are_found_and_added_up_however_deep() {
        let dir = TempDir::new().expect("a directory");
        let deep = dir.path.join("a/b");
        std::fs::create_dir_all(&deep).expect("directories");
        assert!(of_the_past(&dir.path).is_err());
        std::fs::write(deep.join("book-1.jobs"), vec![1; 10_000]).expect("a file");
        std::fs::write(dir.path.join("other"), vec![1; 5_000]).expect("a file");
        files_below(&dir.path, &mut forget).expect("all of them");
        assert!(disk_bytes(&dir.path) >= 15_000, "{}", disk_bytes(&dir.path));
        assert_eq!(of_the_past(&dir.path).expect("one"), [deep.join("book-1.jobs")]);
        assert_eq!(disk_bytes(Path::new("/nowhere")), 0);
    }
}
