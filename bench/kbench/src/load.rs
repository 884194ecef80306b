//! What a load is, and the closed loop: a connection sends when its last answer has come. That finds the rate a server
//! can do, and hides every pause: while the server stands still nobody sends, so nobody is counted as waiting. Latency
//! is measured in an open loop (`open.rs`).
//!
//! Connections are tasks of the gateway's own runtime: nothing here drives more load with one CPU.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use runtime::net::{self, Stream};
use runtime::notify::Notify;
use runtime::{ShardOptions, spawn, spawn_shard, time};

use crate::cli::Run;
use crate::limits::{CONNECT_TIMEOUT, GRACE, RECONNECT_AFTER};
use crate::measure::{Window, supervise};
use crate::outcome::{Figures, Outcome};
use crate::receipts::{self, Receipts, Stored, Taken};
use crate::response::{self, Answer};
use crate::{open, records};

/// What to send, and how to count what comes back.
#[derive(Clone)]
pub struct Work {
    pub host: String,
    pub port: u16,
    /// Whole requests, sent in turn on each connection.
    pub requests: Vec<Bytes>,
    pub mode: Mode,
    pub count: Count,
    /// Bytes of messages one request carries.
    pub payload_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Closed,
    /// Requests a second, over all threads.
    Open(u64),
}

/// How many messages an answer stands for. One that does not say so as it must is an error, not a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    /// One, taken as the answer says (publishing).
    Single { taken: Taken },
    /// What the receipts of a batch say.
    Receipts { taken: Taken, receipts: Receipts, records: u64 },
    /// One for a 200, none for a 204 (a poll for a single message).
    OnePerBody,
    /// The records in the body (a poll for many).
    Records,
}

impl Work {
    /// The request that a connection sends after `number` others.
    pub fn request(&self, number: usize) -> &Bytes {
        &self.requests[number % self.requests.len()]
    }

    /// Counts an answer that came within the window.
    pub fn note(&self, answer: &Answer, buf: &[u8], latency: Duration, outcome: &mut Outcome) {
        match self.count.of(answer, buf) {
            Ok(stored) => {
                let bytes = self.payload_bytes.max(answer.body(buf).len());
                outcome.answered(answer.status, stored, bytes, latency);
            }
            Err(why) => outcome.failed(&why),
        }
    }
}

impl Count {
    /// Reads a success; a refusal (any other status than 2xx) stands for nothing and is counted by its status.
    fn of(self, answer: &Answer, buf: &[u8]) -> Result<Stored, String> {
        let body = answer.body(buf);
        if !(200..300).contains(&answer.status) {
            return Ok(Stored::default());
        }
        match self {
            Count::Single { taken } => receipts::single(taken, answer.status, body),
            Count::Receipts { taken, receipts, records } => {
                receipts::batch(taken, receipts, records, answer.status, body)
            }
            Count::OnePerBody => Ok(Stored { stored: u64::from(answer.status == 200), failed: 0 }),
            Count::Records if answer.status == 200 => match records::count(body) {
                Some(stored) => Ok(Stored { stored, failed: 0 }),
                None => Err("wrong answer: not whole records".to_owned()),
            },
            Count::Records => Ok(Stored::default()),
        }
    }
}

/// Runs the load and measures. Ends by itself: after the window and a grace for the last answers.
pub fn run(work: &Work, run: &Run) -> Result<Figures> {
    if let Mode::Open(rate) = work.mode {
        return open::run(work, rate, run);
    }
    let cpus = run.client_cpus();
    let threads = cpus.len().min(run.connections);
    // Threads start within this; the window is agreed on beforehand. A counted number of requests counts whole.
    let starting = if run.requests.is_some() { Duration::ZERO } else { Duration::from_millis(50) + run.warmup };
    let begin = Instant::now() + starting;
    let window = Window { begin, end: begin + run.duration };
    let clients = (0..threads)
        .map(|index| {
            let connections = run.connections_of(index, threads);
            let requests_max = run.requests.map(|max| max.div_ceil(threads as u64));
            let work = work.clone();
            let options = ShardOptions { cpu: cpus[index], ..ShardOptions::named(format!("client-{index}")) };
            spawn_shard(options, move |_| client(work, connections, requests_max, window))
                .context("cannot start a client thread")
        })
        .collect::<Result<_>>()?;
    supervise(run, window, clients)
}

/// Per client thread.
struct Client {
    work: Work,
    window: Window,
    outcome: RefCell<Outcome>,
    requests_left: Cell<u64>,
    in_flight: Cell<usize>,
    running: Cell<usize>,
    all_done: Notify,
}

async fn client(work: Work, connections: usize, requests_max: Option<u64>, window: Window) -> Outcome {
    let client = Rc::new(Client {
        work,
        window,
        outcome: RefCell::new(Outcome::new()),
        requests_left: Cell::new(requests_max.unwrap_or(u64::MAX)),
        in_flight: Cell::new(0),
        running: Cell::new(connections),
        all_done: Notify::new(),
    });
    for begun in 0..connections {
        spawn(connection(client.clone(), begun));
    }
    let _ = time::timeout_at(window.end + GRACE, client.all_done.notified()).await;
    let mut outcome = client.outcome.replace(Outcome::new());
    outcome.unanswered += client.in_flight.get() as u64;
    outcome
}

impl Client {
    /// When the next request begins; `None` when there will be none.
    fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        if now >= self.window.end || self.requests_left.get() == 0 {
            return None;
        }
        self.requests_left.set(self.requests_left.get() - 1);
        Some(now)
    }

    fn answered(&self, answer: &Answer, buf: &[u8], since: Instant) {
        let now = Instant::now();
        // By the end, so that requests and CPU time are of the same window.
        if now >= self.window.begin && now < self.window.end {
            self.work.note(answer, buf, now - since, &mut self.outcome.borrow_mut());
        }
    }

    fn failed(&self, err: &io::Error) {
        if Instant::now() >= self.window.begin {
            self.outcome.borrow_mut().failed(&err.to_string());
        }
    }
}

/// `begun`: connections before this one, each of which begins one request further on, so that they do not send alike.
async fn connection(client: Rc<Client>, begun: usize) {
    let mut stream = None;
    let mut buf = BytesMut::with_capacity(16 * 1024);
    let mut number = begun;
    while let Some(since) = client.next() {
        client.in_flight.set(client.in_flight.get() + 1);
        let answered =
            exchange(&client.work.host, client.work.port, client.work.request(number), &mut stream, &mut buf).await;
        number += 1;
        client.in_flight.set(client.in_flight.get() - 1);
        match answered {
            Ok(answer) => {
                client.answered(&answer, &buf, since);
                buf.advance(answer.bytes);
                if answer.closes {
                    stream = None;
                }
            }
            Err(err) => {
                client.failed(&err);
                stream = None;
                buf.clear();
                time::sleep(RECONNECT_AFTER).await;
            }
        }
        // Given-up room in front of the buffer is taken back without a new allocation.
        if buf.is_empty() {
            buf.clear();
        }
    }
    client.running.set(client.running.get() - 1);
    if client.running.get() == 0 {
        client.all_done.notify();
    }
}

/// One request and its answer, which is then at the front of `buf`.
pub async fn exchange(
    host: &str,
    port: u16,
    request: &Bytes,
    stream: &mut Option<Stream>,
    buf: &mut BytesMut,
) -> io::Result<Answer> {
    let stream = match stream {
        Some(stream) => stream,
        None => stream.insert(net::connect(host, port, CONNECT_TIMEOUT).await?),
    };
    stream.write_all(request.clone()).await?;
    loop {
        if let Some(answer) = response::parse(buf).map_err(|err| io::Error::other(format!("bad answer: {err}")))? {
            return Ok(answer);
        }
        buf.reserve(4 * 1024);
        let (result, returned) = stream.read(std::mem::take(buf)).await;
        *buf = returned;
        if result? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed by the server"));
        }
    }
}

/// Splits `http://host:port`.
pub fn split_url(url: &str) -> Result<(String, u16)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url:?} does not begin with http://"))?;
    let authority = rest.trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':').with_context(|| format!("{url:?} has no port"))?;
    let port = port.parse().with_context(|| format!("{url:?} has no port"))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Output;
    use std::io::{Read, Write};

    fn options(duration_ms: u64) -> Run {
        Run {
            connections: 4,
            duration: Duration::from_millis(duration_ms),
            warmup: Duration::from_millis(20),
            requests: None,
            client_cpu: Vec::new(),
            pid: None,
            server_cpu: None,
            machine: false,
            output: Output::Json,
        }
    }

    fn work(port: u16, mode: Mode) -> Work {
        Work {
            host: "127.0.0.1".to_owned(),
            port,
            requests: vec![Bytes::from_static(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n")],
            mode,
            count: Count::Single { taken: Taken::Stored },
            payload_bytes: 10,
        }
    }

    /// The floor on a thread for as long as the returned guard lives.
    fn floor() -> (u16, impl Drop) {
        struct Guard(runtime::raw_ring::Stop, Option<std::thread::JoinHandle<io::Result<()>>>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.stop();
                if let Some(thread) = self.1.take() {
                    thread.join().expect("no panic").expect("no error");
                }
            }
        }
        let (addr, listener) = net::bind(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).expect("bind");
        let stop = runtime::raw_ring::Stop::new().expect("eventfd");
        let thread = {
            let stop = stop.clone();
            std::thread::spawn(move || runtime::raw_ring::serve_http(listener, &stop))
        };
        (addr.port(), Guard(stop, Some(thread)))
    }

    #[test]
    fn a_closed_loop_counts_what_was_answered_and_what_it_cost() {
        let (port, _floor) = floor();
        let run = Run { pid: Some(std::process::id()), server_cpu: Some(0), ..options(200) };
        let figures = super::run(&work(port, Mode::Closed), &run).expect("a run");
        assert!(figures.all_good(), "{figures:?}");
        assert!(figures.requests > 100, "{figures:?}");
        assert_eq!((figures.messages, figures.failed), (figures.requests, 0));
        assert_eq!(figures.statuses.get(&201), Some(&figures.requests));
        assert_eq!(figures.unanswered, 0);
        let cpu = figures.cpu.as_ref().expect("measured");
        assert!(cpu.us_per_request > 0.1 && figures.foreign_cores.is_some(), "{figures:?}");
    }

    #[test]
    fn an_open_loop_keeps_its_rate() {
        let (port, _floor) = floor();
        let run = Run { client_cpu: vec![0, 1], ..options(500) };
        let figures = super::run(&work(port, Mode::Open(1_000)), &run).expect("a run");
        assert!(figures.all_good(), "{figures:?}");
        assert!((400..=520).contains(&figures.requests), "{figures:?}");
        assert!(figures.open.is_some());
    }

    #[test]
    fn a_request_limit_ends_the_run_early_in_both_loops() {
        let (port, _floor) = floor();
        for mode in [Mode::Closed, Mode::Open(10_000)] {
            let run = Run { requests: Some(50), warmup: Duration::ZERO, ..options(600_000) };
            let figures = super::run(&work(port, mode), &run).expect("a run");
            assert_eq!(figures.requests, 50, "{figures:?}");
            assert!(figures.seconds < 300.0, "{figures:?}");
        }
    }

    #[test]
    fn a_pause_of_the_server_shows_in_every_request_that_was_due_meanwhile() {
        // Answers one request after the other and stands still once for 150 ms.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("accept");
            let mut buf = [0; 4096];
            let mut answered = 0;
            while let Ok(count @ 1..) = socket.read(&mut buf) {
                let requests = buf[..count].windows(4).filter(|window| window == b"\r\n\r\n").count();
                answered += requests;
                if answered == 20 {
                    std::thread::sleep(Duration::from_millis(150));
                }
                for _ in 0..requests {
                    if socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                        return;
                    }
                }
            }
        });
        let run = Run { connections: 1, warmup: Duration::ZERO, ..options(500) };
        let work = Work { count: Count::OnePerBody, ..work(port, Mode::Open(200)) };
        let figures = super::run(&work, &run).expect("a run");
        // 30 of about 100 were due in the pause: far more than the one that a closed loop would have seen.
        assert!(figures.requests >= 80, "{figures:?}");
        assert!(figures.max_us >= 140_000 && figures.p99_us > 100_000, "{figures:?}");
    }

    #[test]
    fn an_answer_that_does_not_say_what_was_stored_is_an_error() {
        let (port, _floor) = floor();
        let count = Count::Receipts { taken: Taken::Stored, receipts: Receipts::Summary, records: 10 };
        for mode in [Mode::Closed, Mode::Open(500)] {
            let figures = super::run(&Work { count, ..work(port, mode) }, &options(100)).expect("a run");
            assert_eq!((figures.requests, figures.messages), (0, 0), "{figures:?}");
            assert!(figures.errors.keys().all(|why| why.starts_with("wrong answer: 201 {")), "{figures:?}");
            assert!(!figures.errors.is_empty() && !figures.all_good());
        }
    }

    #[test]
    fn nobody_there_is_an_error_that_is_counted_not_a_hang() {
        for mode in [Mode::Closed, Mode::Open(100)] {
            let figures = super::run(&work(1, mode), &options(100)).expect("a run");
            assert_eq!(figures.requests, 0);
            assert!(figures.errors.keys().any(|why| why.contains("cannot connect to 127.0.0.1:1")), "{figures:?}");
        }
    }

    #[test]
    fn urls_name_host_and_port() {
        assert_eq!(split_url("http://127.0.0.1:9191/").ok(), Some(("127.0.0.1".to_owned(), 9191)));
        assert_eq!(split_url("http://[::1]:80").ok(), Some(("::1".to_owned(), 80)));
        for bad in ["https://x:1", "x:1", "http://x", "http://x:y"] {
            assert!(split_url(bad).is_err(), "{bad}");
        }
    }
}
