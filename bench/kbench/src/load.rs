//! The load itself: connections of one client thread, in a closed or an open loop.
//!
//! Closed loop: a connection sends when its last answer has come. That finds the rate a server can do, and hides
//! every pause: while the server stands still nobody sends, so nobody is counted as waiting.
//!
//! Open loop: requests are due on a schedule, one every `1/rate`. A pacer puts due times in a queue and wakes an idle
//! connection for each; when all are busy they wait in the queue. Latency counts from the time a request was *due*,
//! so a pause of the server shows in every request that was due meanwhile (no coordinated omission).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use runtime::net::{self, Stream};
use runtime::notify::Notify;
use runtime::{ShardOptions, spawn, spawn_shard, time};

use crate::cli::Run;
use crate::cpu::{Sample, busy_seconds};
use crate::limits::{CONNECT_TIMEOUT, DUE_MAX, GRACE, PACE_AHEAD, RECONNECT_AFTER};
use crate::outcome::{Figures, Outcome};
use crate::response::{self, Answer};

/// What to send, and how to count what comes back.
#[derive(Clone)]
pub struct Work {
    pub host: String,
    pub port: u16,
    /// One whole request, sent again and again.
    pub request: Bytes,
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

/// How many messages an answer stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    /// This many for each success (publishing).
    Each(u64),
    /// One for a 200, none for a 204 (a poll for a single message).
    OnePerBody,
    /// The records in the body (a poll for many).
    Records,
}

/// When counting begins and ends, the same for all threads.
#[derive(Clone, Copy)]
struct Window {
    begin: Instant,
    end: Instant,
}

/// Runs the load and measures. Ends by itself: after the window and a grace for the last answers.
pub fn run(work: &Work, run: &Run) -> Result<Figures> {
    let cpus: Vec<Option<usize>> =
        if run.client_cpu.is_empty() { vec![None] } else { run.client_cpu.iter().copied().map(Some).collect() };
    let threads = cpus.len().min(run.connections);
    // Threads start within this; the window is agreed on beforehand. A counted number of requests counts whole.
    let starting = if run.requests.is_some() { Duration::ZERO } else { Duration::from_millis(50) + run.warmup };
    let begin = Instant::now() + starting;
    let window = Window { begin, end: begin + run.duration };
    let clients: Vec<JoinHandle<Outcome>> = (0..threads)
        .map(|index| {
            let share = Share {
                connections: run.connections / threads + usize::from(index < run.connections % threads),
                requests_max: run.requests.map(|max| max.div_ceil(threads as u64)),
                index: index as u64,
                threads: threads as u64,
            };
            let work = work.clone();
            let options = ShardOptions { cpu: cpus[index], ..ShardOptions::named(format!("client-{index}")) };
            spawn_shard(options, move |_| client(work, share, window)).context("cannot start a client thread")
        })
        .collect::<Result<_>>()?;
    let finished = || clients.iter().all(JoinHandle::is_finished);
    let sample = |at: Instant| {
        // A run with a request limit may be over before its time.
        while Instant::now() < at && !finished() {
            std::thread::sleep(at.saturating_duration_since(Instant::now()).min(Duration::from_millis(10)));
        }
        let process = run.pid.map(Sample::take).transpose().context("cannot read the measured process")?;
        anyhow::Ok((process, run.server_cpu.and_then(busy_seconds)))
    };
    let samples = sample(window.begin).and_then(|first| Ok((first, sample(window.end)?)));
    let measured = run.duration.min(window.begin.elapsed()).max(Duration::from_millis(1));
    let mut outcome = Outcome::new();
    for client in clients {
        match client.join() {
            Ok(part) => outcome.add(&part),
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }
    let ((first, busy_before), (last, busy_after)) = samples?;
    let spent = first.zip(last).map(|(first, last)| last.since(&first));
    let mut figures = Figures::of(&outcome, measured, spent.as_ref());
    if let Some(cpu) = &mut figures.cpu {
        cpu.foreign_cores = busy_before
            .zip(busy_after)
            .map(|(before, after)| ((after - before) / measured.as_secs_f64() - cpu.cores).max(0.0));
    }
    Ok(figures)
}

/// One thread's part.
struct Share {
    connections: usize,
    requests_max: Option<u64>,
    index: u64,
    threads: u64,
}

/// Per client thread.
struct Client {
    work: Work,
    window: Window,
    outcome: RefCell<Outcome>,
    requests_left: Cell<u64>,
    due: RefCell<VecDeque<Instant>>,
    idle: RefCell<VecDeque<Notify>>,
    in_flight: Cell<usize>,
    running: Cell<usize>,
    all_done: Notify,
}

async fn client(work: Work, share: Share, window: Window) -> Outcome {
    let client = Rc::new(Client {
        work,
        window,
        outcome: RefCell::new(Outcome::new()),
        requests_left: Cell::new(share.requests_max.unwrap_or(u64::MAX)),
        due: RefCell::default(),
        idle: RefCell::default(),
        in_flight: Cell::new(0),
        running: Cell::new(share.connections),
        all_done: Notify::new(),
    });
    for _ in 0..share.connections {
        spawn(connection(client.clone()));
    }
    if let Mode::Open(rate) = client.work.mode {
        spawn(pace(client.clone(), rate, share.index, share.threads));
    }
    let _ = time::timeout_at(window.end + GRACE, client.all_done.notified()).await;
    let mut outcome = client.outcome.replace(Outcome::new());
    outcome.unanswered += (client.in_flight.get() + client.due.borrow().len()) as u64;
    outcome
}

/// Puts every request's due time in the queue, on time.
async fn pace(client: Rc<Client>, rate: u64, index: u64, threads: u64) {
    let started = Instant::now();
    let due_at =
        |number: u64| started + Duration::from_nanos((u128::from(number) * 1_000_000_000 / u128::from(rate)) as u64);
    let mut number = index;
    loop {
        let now = Instant::now();
        loop {
            let due = due_at(number);
            if due >= client.window.end || client.requests_left.get() == 0 {
                if client.requests_left.get() > 0 {
                    time::sleep_until(client.window.end).await;
                }
                client.wake_all();
                return;
            }
            if due > now {
                break;
            }
            client.put(due, now);
            number += threads;
        }
        let wait = due_at(number).saturating_duration_since(now);
        if wait > PACE_AHEAD {
            time::sleep(wait - PACE_AHEAD).await;
        } else {
            time::yield_now().await;
        }
    }
}

impl Client {
    fn put(&self, due: Instant, now: Instant) {
        if due >= self.window.begin {
            let late_us = u64::try_from((now - due).as_micros()).unwrap_or(u64::MAX);
            self.outcome.borrow_mut().client_late.saturating_record(late_us);
        }
        let mut queue = self.due.borrow_mut();
        if queue.len() >= DUE_MAX {
            self.outcome.borrow_mut().unanswered += 1;
            return;
        }
        queue.push_back(due);
        if let Some(connection) = self.idle.borrow_mut().pop_front() {
            connection.notify();
        }
    }

    fn wake_all(&self) {
        self.idle.borrow_mut().drain(..).for_each(|connection| connection.notify());
    }

    /// When the next request counts from; `None` when there will be none.
    async fn next(&self, mine: &Notify) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let over = now >= self.window.end || self.requests_left.get() == 0;
            match self.work.mode {
                Mode::Closed if over => return None,
                Mode::Closed => {
                    self.requests_left.set(self.requests_left.get() - 1);
                    return Some(now);
                }
                Mode::Open(_) => {
                    if self.requests_left.get() > 0
                        && let Some(due) = self.due.borrow_mut().pop_front()
                    {
                        self.requests_left.set(self.requests_left.get() - 1);
                        return Some(due);
                    }
                    if over {
                        return None;
                    }
                    self.idle.borrow_mut().push_back(mine.clone());
                    mine.notified().await;
                }
            }
        }
    }

    fn counts(&self, since: Instant, now: Instant) -> bool {
        match self.work.mode {
            // By the end, so that requests and CPU time are of the same window.
            Mode::Closed => now >= self.window.begin && now < self.window.end,
            // By the due time, so that slow answers at the end are not left out.
            Mode::Open(_) => since >= self.window.begin,
        }
    }

    fn failed(&self, err: &io::Error) {
        if Instant::now() >= self.window.begin {
            self.outcome.borrow_mut().failed(&err.to_string());
        }
    }
}

async fn connection(client: Rc<Client>) {
    let mine = Notify::new();
    let mut stream = None;
    let mut buf = BytesMut::with_capacity(16 * 1024);
    while let Some(since) = client.next(&mine).await {
        client.in_flight.set(client.in_flight.get() + 1);
        let answered = exchange(&client.work, &mut stream, &mut buf).await;
        client.in_flight.set(client.in_flight.get() - 1);
        match answered {
            Ok(answer) => {
                let now = Instant::now();
                if client.counts(since, now) {
                    let messages = count(client.work.count, &answer, &buf);
                    let bytes = client.work.payload_bytes.max(answer.body(&buf).len());
                    client.outcome.borrow_mut().answered(answer.status, messages, bytes, now - since);
                }
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

fn count(count: Count, answer: &Answer, buf: &[u8]) -> u64 {
    match (count, answer.status) {
        (Count::Each(each), 200..300) => each,
        (Count::OnePerBody, 200) => 1,
        (Count::Records, 200) => crate::records::count(answer.body(buf)).unwrap_or(0),
        _ => 0,
    }
}

/// One request and its answer, which is then at the front of `buf`.
async fn exchange(work: &Work, stream: &mut Option<Stream>, buf: &mut BytesMut) -> io::Result<Answer> {
    let stream = match stream {
        Some(stream) => stream,
        None => stream.insert(net::connect(&work.host, work.port, CONNECT_TIMEOUT).await?),
    };
    stream.write_all(work.request.clone()).await?;
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
            output: Output::Json,
        }
    }

    fn work(port: u16, mode: Mode) -> Work {
        Work {
            host: "127.0.0.1".to_owned(),
            port,
            request: Bytes::from_static(b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
            mode,
            count: Count::Each(2),
            payload_bytes: 10,
        }
    }

    /// The floor on a thread for as long as the returned guard lives.
    fn floor() -> (u16, impl Drop) {
        struct Guard(runtime::raw_ring::Stop, Option<JoinHandle<io::Result<()>>>);
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
        assert_eq!(figures.messages, 2 * figures.requests);
        assert_eq!(figures.statuses.get(&201), Some(&figures.requests));
        assert_eq!(figures.unanswered, 0);
        let cpu = figures.cpu.expect("measured");
        assert!(cpu.us_per_request > 0.1 && cpu.foreign_cores.is_some(), "{cpu:?}");
    }

    #[test]
    fn an_open_loop_keeps_its_rate() {
        let (port, _floor) = floor();
        let run = Run { client_cpu: vec![0, 1], ..options(500) };
        let figures = super::run(&work(port, Mode::Open(1_000)), &run).expect("a run");
        assert!(figures.all_good(), "{figures:?}");
        assert!((400..=520).contains(&figures.requests), "{figures:?}");
        assert!(figures.client_late_p99_us.is_some());
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
        let figures = super::run(&work(port, Mode::Open(200)), &run).expect("a run");
        // 30 of about 100 were due in the pause: far more than one slow request.
        assert!(figures.p50_us < 100_000, "{figures:?}");
        assert!(figures.max_us >= 140_000, "{figures:?}");
        let late = 1.0 - 20.0 / figures.requests.max(21) as f64;
        assert!(late > 0.1 && figures.p99_us > 100_000, "{figures:?}");
    }

    #[test]
    fn nobody_there_is_an_error_that_is_counted_not_a_hang() {
        let figures = super::run(&work(1, Mode::Closed), &options(100)).expect("a run");
        assert_eq!(figures.requests, 0);
        assert!(figures.errors.keys().any(|why| why.contains("cannot connect to 127.0.0.1:1")), "{figures:?}");
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
