//! The open loop: requests are due on a schedule, one every `1/rate`, whether answers come or not.
//!
//! Latency counts from the time a request was *due*, so a pause of the server shows in every request that was due
//! meanwhile (no coordinated omission). When all connections are busy, due requests wait for one, and that counts too.
//!
//! The client must not be what is measured, on a machine where it shares a CPU with the broker behind the gateway. So
//! it has no tasks, timers or wake-ups: one thread turns a loop of non-blocking calls, looks at the clock in every
//! turn, and offers its CPU to whoever else waits for it (`sched_yield`) only when it has nothing to do. How late it
//! was itself is measured for each request (`client_late`), and the answer's delay from the moment of sending is kept
//! beside the latency (`from_sent`).

use std::collections::VecDeque;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;
use rustix::net::{RecvFlags, SendFlags};

use crate::cli::Run;
use crate::limits::{CONNECT_TIMEOUT, DUE_MAX, EVENTS_MAX, GRACE, RECONNECT_AFTER, SLEEP_BEYOND};
use crate::load::Work;
use crate::measure::{Window, supervise};
use crate::outcome::{Figures, Outcome};
use crate::{pin, response};

/// Room for an answer that was not yet read.
const READ_BYTES: usize = 16 << 10;

pub fn run(work: &Work, rate: u64, run: &Run) -> Result<Figures> {
    let cpus = run.client_cpus();
    let threads = cpus.len().min(run.connections);
    // Connections are made before the first request is due.
    let start = Instant::now() + Duration::from_millis(100);
    let begin = start + if run.requests.is_some() { Duration::ZERO } else { run.warmup };
    let window = Window { begin, end: begin + run.duration };
    let clients = (0..threads)
        .map(|index| {
            let (work, cpu) = (work.clone(), cpus[index]);
            let connections = run.connections_of(index, threads);
            let schedule = Schedule { start, rate, next: index as u64, step: threads as u64 };
            let requests_max = run.requests.map_or(u64::MAX, |max| max.div_ceil(threads as u64));
            std::thread::Builder::new()
                .name(format!("client-{index}"))
                .spawn(move || {
                    let mut outcome = Outcome::new();
                    let turned = pin::this_thread(cpu).and_then(|()| {
                        Driver::new(&work, connections, schedule, requests_max, window, &mut outcome)?.turn()
                    });
                    if let Err(err) = turned {
                        outcome.failed(&format!("{err:#}"));
                    }
                    outcome
                })
                .context("cannot start a client thread")
        })
        .collect::<Result<_>>()?;
    supervise(run, window, clients)
}

/// When this thread's requests are due: every `step`-th of all.
struct Schedule {
    start: Instant,
    rate: u64,
    next: u64,
    step: u64,
}

impl Schedule {
    fn due(&self) -> Instant {
        let ns = u128::from(self.next) * 1_000_000_000 / u128::from(self.rate);
        self.start + Duration::from_nanos(ns as u64)
    }
}

enum State {
    Idle,
    /// Since when the request was due, when its first byte was sent, and how much of it is.
    Busy {
        due: Instant,
        sent_at: Instant,
        sent: usize,
    },
    /// Connected again at this time.
    Broken(Instant),
}

struct Connection {
    socket: Option<TcpStream>,
    buf: Vec<u8>,
    /// Which request is next; each connection begins one further on, so that they do not send alike.
    number: usize,
    state: State,
}

struct Driver<'w> {
    work: &'w Work,
    window: Window,
    schedule: Schedule,
    requests_left: u64,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    broken: VecDeque<usize>,
    /// Due, waiting for an idle connection.
    waiting: VecDeque<Instant>,
    in_flight: usize,
    outcome: &'w mut Outcome,
}

impl<'w> Driver<'w> {
    fn new(
        work: &'w Work,
        connections: usize,
        schedule: Schedule,
        requests_left: u64,
        window: Window,
        outcome: &'w mut Outcome,
    ) -> Result<Driver<'w>> {
        let fresh = |begun| Connection {
            socket: None,
            buf: Vec::with_capacity(READ_BYTES),
            number: begun,
            state: State::Broken(Instant::now()),
        };
        let mut driver = Driver {
            work,
            window,
            schedule,
            requests_left,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: (0..connections).map(fresh).collect(),
            idle: VecDeque::with_capacity(connections),
            broken: (0..connections).collect(),
            waiting: VecDeque::new(),
            in_flight: 0,
            outcome,
        };
        driver.mend(Instant::now());
        Ok(driver)
    }

    /// Until everything that was due is answered, or the grace for it is over.
    fn turn(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = Instant::now();
            let next_due = self.note_due(now);
            self.mend(now);
            let mut busy = self.send_waiting();
            let over = next_due.is_none() && self.waiting.is_empty() && self.in_flight == 0;
            if over || now >= self.window.end + GRACE {
                break;
            }
            events.clear();
            let timeout = self.timeout(next_due, now);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(err) => return Err(err).context("epoll_wait"),
            }
            for event in &events {
                busy = true;
                self.ready(event.data.u64() as usize, event.flags);
            }
            if !busy {
                std::thread::yield_now();
            }
        }
        self.outcome.unanswered += (self.in_flight + self.waiting.len()) as u64;
        Ok(())
    }

    /// Moves what is due to `waiting`; yields when the next one will be.
    fn note_due(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let due = self.schedule.due();
            if due >= self.window.end || self.requests_left == 0 {
                return None;
            }
            if due > now {
                return Some(due);
            }
            if due >= self.window.begin {
                self.outcome.client_late(now - due);
            }
            if self.waiting.len() < DUE_MAX {
                self.waiting.push_back(due);
            } else {
                self.outcome.unanswered += 1;
            }
            self.schedule.next += self.schedule.step;
            self.requests_left -= 1;
        }
    }

    /// Never sleeps while anything may happen soon: to be woken costs more than a request.
    fn timeout(&self, next_due: Option<Instant>, now: Instant) -> Timespec {
        let soonest = next_due.unwrap_or(now + SLEEP_BEYOND * 2).saturating_duration_since(now);
        let nanoseconds = match soonest.checked_sub(SLEEP_BEYOND) {
            Some(spare) if self.waiting.is_empty() => spare.min(SLEEP_BEYOND).subsec_nanos(),
            _ => 0,
        };
        Timespec { tv_sec: 0, tv_nsec: nanoseconds.into() }
    }

    fn send_waiting(&mut self) -> bool {
        let mut sent = false;
        while !self.waiting.is_empty()
            && let Some(index) = self.idle.pop_front()
        {
            let due = self.waiting.pop_front().expect("not empty");
            self.in_flight += 1;
            self.connections[index].state = State::Busy { due, sent_at: Instant::now(), sent: 0 };
            self.send(index);
            sent = true;
        }
        sent
    }

    fn send(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let State::Busy { sent, .. } = &mut connection.state else { return };
        let socket = connection.socket.as_ref().expect("busy connections have one");
        let request = self.work.request(connection.number);
        while *sent < request.len() {
            match rustix::net::send(socket, &request[*sent..], SendFlags::NOSIGNAL) {
                Ok(count) => *sent += count,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(err) => return self.fail(index, &io::Error::from(err).to_string()),
            }
        }
    }

    fn ready(&mut self, index: usize, flags: epoll::EventFlags) {
        if flags.contains(epoll::EventFlags::OUT) {
            self.send(index);
        }
        if !flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
            return;
        }
        loop {
            let connection = &mut self.connections[index];
            let Some(socket) = &connection.socket else { return };
            connection.buf.reserve(READ_BYTES);
            let room = connection.buf.capacity() - connection.buf.len();
            let count = match rustix::net::recv(socket, spare_capacity(&mut connection.buf), RecvFlags::empty()) {
                Ok((_, 0)) => return self.fail(index, "connection closed by the server"),
                Ok((_, count)) => count,
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => continue,
                Err(err) => return self.fail(index, &io::Error::from(err).to_string()),
            };
            self.take_answer(index);
            // A read that did not fill the room took all there was: what comes later is a new edge.
            if count < room {
                return;
            }
        }
    }

    fn take_answer(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let State::Busy { due, sent_at, .. } = connection.state else {
            return self.fail(index, "bad answer: nothing was asked");
        };
        let answer = match response::parse(&connection.buf) {
            Ok(Some(answer)) => answer,
            Ok(None) => return,
            Err(err) => return self.fail(index, &format!("bad answer: {err}")),
        };
        let now = Instant::now();
        // By the due time, so that slow answers at the end are not left out.
        if due >= self.window.begin {
            self.work.note(&answer, &connection.buf, now - due, self.outcome);
            self.outcome.since_sent(now - sent_at);
        }
        connection.buf.drain(..answer.bytes);
        connection.number += 1;
        self.in_flight -= 1;
        if answer.closes {
            return self.drop_connection(index, now);
        }
        connection.state = State::Idle;
        self.idle.push_back(index);
    }

    /// The request of this connection, if any, is lost.
    fn fail(&mut self, index: usize, why: &str) {
        let now = Instant::now();
        match self.connections[index].state {
            State::Busy { .. } => {
                self.in_flight -= 1;
                if now >= self.window.begin {
                    self.outcome.failed(why);
                }
            }
            // Closed while nothing was asked: no harm.
            State::Idle => self.idle.retain(|&idle| idle != index),
            State::Broken(_) => return,
        }
        self.drop_connection(index, now + RECONNECT_AFTER);
    }

    fn drop_connection(&mut self, index: usize, again_at: Instant) {
        let connection = &mut self.connections[index];
        connection.socket = None;
        connection.buf.clear();
        connection.state = State::Broken(again_at);
        self.broken.push_back(index);
    }

    /// Connects what is not connected. It blocks, but only when the server failed, or closed.
    fn mend(&mut self, now: Instant) {
        for _ in 0..self.broken.len() {
            let Some(index) = self.broken.pop_front() else { return };
            let State::Broken(again_at) = self.connections[index].state else { continue };
            if again_at > now {
                self.broken.push_back(index);
                continue;
            }
            match self.connect(index) {
                Ok(socket) => {
                    let connection = &mut self.connections[index];
                    connection.socket = Some(socket);
                    connection.state = State::Idle;
                    self.idle.push_back(index);
                }
                Err(err) => {
                    self.outcome.failed(&format!("{err:#}"));
                    self.connections[index].state = State::Broken(now + RECONNECT_AFTER);
                    self.broken.push_back(index);
                }
            }
        }
    }

    fn connect(&self, index: usize) -> Result<TcpStream> {
        let (host, port) = (self.work.host.as_str(), self.work.port);
        let cannot = || format!("cannot connect to {host}:{port}");
        let addr = (host, port).to_socket_addrs().with_context(cannot)?.next().with_context(cannot)?;
        let socket = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT).with_context(cannot)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(index as u64), flags)?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Output;
    use crate::load::{Count, Mode};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// Answers whole requests of `request_bytes`, on a thread per connection.
    fn server(request_bytes: usize, answer: &'static [u8], per_connection: usize) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut socket = socket.expect("accept");
                std::thread::spawn(move || {
                    let mut request = vec![0; request_bytes];
                    for _ in 0..per_connection {
                        if socket.read_exact(&mut request).is_err() || socket.write_all(answer).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    fn load(port: u16, request_bytes: usize, rate: u64, requests: u64) -> Figures {
        let work = Work {
            host: "127.0.0.1".to_owned(),
            port,
            requests: vec![vec![b'x'; request_bytes].into()],
            mode: Mode::Open(rate),
            count: Count::OnePerBody,
            payload_bytes: request_bytes,
        };
        let options = Run {
            connections: 3,
            duration: Duration::from_secs(60),
            warmup: Duration::ZERO,
            requests: Some(requests),
            client_cpu: Vec::new(),
            pid: None,
            server_cpu: None,
            machine: false,
            output: Output::Json,
        };
        run(&work, rate, &options).expect("a run")
    }

    #[test]
    fn a_request_larger_than_the_sockets_buffers_is_sent_in_parts() {
        let request_bytes = 24 << 20;
        let port = server(request_bytes, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", usize::MAX);
        let figures = load(port, request_bytes, 50, 6);
        assert_eq!((figures.requests, figures.unanswered), (6, 0), "{figures:?}");
        assert!(figures.all_good(), "{figures:?}");
    }

    #[test]
    fn a_server_that_closes_after_each_answer_is_connected_to_again() {
        let port = server(10, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 1);
        let figures = load(port, 10, 200, 40);
        assert_eq!((figures.requests, figures.unanswered), (40, 0), "{figures:?}");
        assert!(figures.all_good(), "{figures:?}");
    }

    #[test]
    fn a_server_that_breaks_off_costs_the_requests_it_held() {
        // The second of each connection is read and never answered.
        let port = server(10, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 1);
        let figures = load(port, 10, 200, 40);
        let lost: u64 = figures.errors.values().sum();
        assert_eq!(figures.requests + lost, 40, "{figures:?}");
        assert!(figures.requests >= 3 && lost > 0, "{figures:?}");
    }
}
