//! Job servers of others, with the same durability: an answer means that `fsync` has returned.
//!
//! | | started as | an add is |
//! |---|---|---|
//! | beanstalkd | `-b DIR -f0` | `put` with a delay |
//! | Redis | `--appendonly yes --appendfsync always` | `SET` of the job and `ZADD` of its time in one `MULTI` |
//!
//! Each connection sends its share of what waits in one write, reads all answers, and sends the next.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;

use super::engine::Rate;
use super::flags::JobsBench;
use crate::cpu::Sample;
use crate::limits::{GRACE, HEAD_BYTES_MAX};
use crate::measure::{ForeignMeter, Window};
use crate::outcome::{histogram, us};
use crate::pin;
use crate::process::{Process, TempDir, tethered};
use crate::publish::message;

/// Seconds until these jobs are due.
const DELAY_SECONDS: u32 = 3_600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    Beanstalkd,
    Redis,
}

impl Peer {
    pub const ALL: [Peer; 2] = [Peer::Beanstalkd, Peer::Redis];

    pub fn name(self) -> &'static str {
        match self {
            Peer::Beanstalkd => "beanstalkd `-f0`",
            Peer::Redis => "Redis, `appendfsync always`",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Peer::Beanstalkd => "beanstalkd",
            Peer::Redis => "redis-server",
        }
    }

    /// Where it is, if it is anywhere.
    pub fn path(self) -> Option<PathBuf> {
        find(self.program(), &std::env::var_os("PATH")?)
    }

    /// How to get it.
    pub fn missing(self) -> String {
        let program = self.program();
        format!("no {program} in PATH, so no row of it; on Debian: apt-get install --no-install-recommends {program}")
    }

    fn args(self, dir: &Path, port: u16) -> Vec<String> {
        let (dir, port) = (dir.display().to_string(), port.to_string());
        let args: &[&str] = match self {
            Peer::Beanstalkd => &["-l", "127.0.0.1", "-p", &port, "-b", &dir, "-f0"],
            Peer::Redis => &[
                "--bind",
                "127.0.0.1",
                "--port",
                &port,
                "--dir",
                &dir,
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                // Nothing of it in the background meanwhile.
                "--save",
                "",
                "--auto-aof-rewrite-percentage",
                "0",
                "--loglevel",
                "warning",
            ],
        };
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    /// One add; no two have the same number.
    fn put(self, number: u64, body: &[u8], into: &mut Vec<u8>) {
        match self {
            Peer::Beanstalkd => {
                into.extend_from_slice(format!("put 0 {DELAY_SECONDS} 60 {}\r\n", body.len()).as_bytes());
                into.extend_from_slice(body);
                into.extend_from_slice(b"\r\n");
            }
            Peer::Redis => {
                let (number, due) = (format!("job:{number}"), (u64::from(DELAY_SECONDS) + number).to_string());
                command(into, &[b"MULTI"]);
                command(into, &[b"SET", number.as_bytes(), body]);
                command(into, &[b"ZADD", b"due", due.as_bytes(), number.as_bytes()]);
                command(into, &[b"EXEC"]);
            }
        }
    }

    /// Bytes of the answer at the begin that says an add is durable; `None`: more is needed.
    fn answer(self, bytes: &[u8]) -> Result<Option<usize>> {
        let (whole, what): (Option<usize>, &[u8]) = match self {
            Peer::Beanstalkd => (bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1), b"INSERTED "),
            Peer::Redis => (Some(DONE.len()).filter(|whole| bytes.len() >= *whole), DONE),
        };
        let known = bytes.len().min(what.len());
        ensure!(bytes[..known] == what[..known], "{} answers {:?}", self.name(), shown(bytes));
        Ok(whole)
    }
}

/// Of a transaction that was done whole, and of which both parts were new.
const DONE: &[u8] = b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n";

fn command(into: &mut Vec<u8>, words: &[&[u8]]) {
    into.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        into.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        into.extend_from_slice(word);
        into.extend_from_slice(b"\r\n");
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}

/// The first file of this name in a list of directories.
fn find(program: &str, path: &std::ffi::OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Adds, so many of which wait all the time.
pub fn adds(peer: Peer, program: &Path, dir: &Path, bench: &JobsBench) -> Result<(Rate, f64)> {
    let mut command = tethered(Some(bench.rounds.server_cpu), program)?;
    let place = TempDir::inside(dir)?;
    let port = testkit::ports::free(1)?[0];
    command.args(peer.args(&place.path, port));
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let process = Process::listening(command, peer.name(), at, Some(place))?;
    let begin = Instant::now() + bench.rounds.warmup;
    let window = Window { begin, end: begin + bench.rounds.duration };
    let shares = bench.shares(bench.peer_connections);
    let connections = shares.len() as u64;
    std::thread::scope(|scope| {
        let start = |(index, waiting): (usize, usize)| {
            let numbers = Numbers { next: index as u64, step: connections };
            scope.spawn(move || {
                pin::this_thread(Some(bench.rounds.client_cpu))?;
                connection(peer, at, window, waiting, numbers, bench.size)
            })
        };
        let threads: Vec<_> = shares.into_iter().enumerate().map(start).collect();
        let sleep_until = |at: Instant| std::thread::sleep(at.saturating_duration_since(Instant::now()));
        sleep_until(window.begin);
        let (before, meter) = (Sample::take(process.pid())?, ForeignMeter::start());
        sleep_until(window.end);
        let (spent, foreign_cores) = (Sample::take(process.pid())?.since(&before), meter.cores());
        let mut latency = histogram();
        for thread in threads {
            match thread.join() {
                Ok(part) => latency.add(&part?).expect("same bounds"),
                Err(payload) => std::panic::resume_unwind(payload),
            }
        }
        ensure!(!latency.is_empty(), "{} answered nothing in {:?}", peer.name(), bench.rounds.duration);
        Ok((Rate::of(latency.len(), bench.rounds.duration.as_secs_f64(), &latency, &spent), foreign_cores))
    })
}

/// Of one connection; no other has them.
struct Numbers {
    next: u64,
    step: u64,
}

fn connection(
    peer: Peer,
    at: SocketAddr,
    window: Window,
    waiting: usize,
    mut numbers: Numbers,
    size: usize,
) -> Result<Histogram<u64>> {
    let mut stream = TcpStream::connect(at).with_context(|| format!("cannot connect to {}", peer.name()))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(window.end.saturating_duration_since(Instant::now()) + GRACE))?;
    let (body, mut latency) = (message(size), histogram());
    let (mut out, mut answers, mut room) = (Vec::new(), Vec::new(), vec![0; HEAD_BYTES_MAX]);
    while Instant::now() < window.end {
        out.clear();
        for _ in 0..waiting {
            peer.put(numbers.next, &body, &mut out);
            numbers.next += numbers.step;
        }
        let began = Instant::now();
        stream.write_all(&out).with_context(|| peer.name())?;
        let mut left = waiting;
        while left > 0 {
            let count = stream.read(&mut room).with_context(|| format!("{} does not answer", peer.name()))?;
            ensure!(count > 0, "{} closes a connection", peer.name());
            answers.extend_from_slice(&room[..count]);
            let (now, mut taken) = (Instant::now(), 0);
            while let Some(bytes) = peer.answer(&answers[taken..])? {
                taken += bytes;
                left = left.checked_sub(1).with_context(|| format!("{} answers more than was asked", peer.name()))?;
                if now >= window.begin && now < window.end {
                    latency.saturating_record(us(now - began));
                }
            }
            answers.drain(..taken);
        }
    }
    Ok(latency)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;

    #[test]
    fn adds_are_spoken_as_their_servers_read_them() {
        for (peer, expected) in [
            (Peer::Beanstalkd, "put 0 3600 60 3\r\nabc\r\n"),
            (
                Peer::Redis,
                "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$5\r\njob:7\r\n$3\r\nabc\r\n\
                 *4\r\n$4\r\nZADD\r\n$3\r\ndue\r\n$4\r\n3607\r\n$5\r\njob:7\r\n*1\r\n$4\r\nEXEC\r\n",
            ),
        ] {
            let mut out = Vec::new();
            peer.put(7, b"abc", &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn only_an_answer_that_says_so_counts_as_an_add() {
        for (peer, bytes, expected) in [
            (Peer::Beanstalkd, "INSERTED 12\r\nINSERTED 13\r\n", Some(Some(13))),
            (Peer::Beanstalkd, "INSERTED 1", Some(None)),
            (Peer::Beanstalkd, "", Some(None)),
            (Peer::Beanstalkd, "INS", Some(None)),
            (Peer::Beanstalkd, "BURIED 12\r\n", None),
            (Peer::Beanstalkd, "OUT_OF_MEMORY\r\n", None),
            (Peer::Redis, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:1\r\n+OK\r\n", Some(Some(36))),
            (Peer::Redis, "+OK\r\n+QUEUED\r\n", Some(None)),
            // It was there already.
            (Peer::Redis, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:0\r\n", None),
            (Peer::Redis, "-MISCONF no disk\r\n", None),
        ] {
            assert_eq!(peer.answer(bytes.as_bytes()).ok(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn a_program_is_found_in_the_first_directory_that_has_it() {
        let dir = TempDir::new().expect("a directory");
        let path = std::env::join_paths([Path::new("/nowhere"), &dir.path]).expect("a list");
        assert_eq!(find("beanstalkd", &path), None);
        std::fs::write(dir.path.join("beanstalkd"), "").expect("a file");
        assert_eq!(find("beanstalkd", &path), Some(dir.path.join("beanstalkd")));
        assert!(Peer::Redis.missing().contains("apt-get install --no-install-recommends redis-server"));
    }

    #[test]
    fn a_connection_counts_the_answers_of_its_window() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        // Answers each add, five bytes at a time.
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let (mut seen, mut answered, mut room) = (Vec::new(), 0, [0; 4_096]);
            while let Ok(count @ 1..) = stream.read(&mut room) {
                seen.extend_from_slice(&room[..count]);
                let adds = seen.windows(5).filter(|window| *window == b"put 0").count();
                let whole = adds.min(seen.iter().filter(|&&byte| byte == b'\n').count() / 2);
                for number in answered..whole {
                    for part in format!("INSERTED {number}\r\n").as_bytes().chunks(5) {
                        stream.write_all(part).expect("it reads");
                    }
                }
                answered = whole;
            }
            answered as u64
        });
        let begin = Instant::now();
        let window = Window { begin, end: begin + Duration::from_millis(100) };
        let latency = connection(Peer::Beanstalkd, at, window, 3, Numbers { next: 0, step: 1 }, 4).expect("adds");
        let answered = server.join().expect("no panic");
        assert!(!latency.is_empty() && latency.len() <= answered && latency.len() + 3 >= answered, "{answered}");
    }
}
