//! Closing every waiting poll at once, and what becomes of their groups, while publishes go on.
//!
//! The same open loop of publishes to the topic nobody polls runs while the polls wait; while all their connections are
//! closed; while nobody polls any more; and while the groups are left, which is twice the longest wait later. A stall of the gateway shows in every publish that was due meanwhile.
//!
//! A stall of the broker shows there as well, and it is on one CPU with clients that die: so the gateway is also asked
//! `/alive` all the time, which it answers by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use testkit::http::{Connection, Request};

use crate::cli::Polls;
use crate::cpu::{Sample, Spent};
use crate::crowd::Crowd;
use crate::gateway::Gateway;
use crate::limits::{CLOSE_TIMEOUT, LEAVE_GRACE};
use crate::load::Mode;
use crate::outcome::{Figures, us};
use crate::patience::until;
use crate::prefetch::resident_kib;
use crate::publish::Kind;
use crate::servers::Load;
use crate::sockets::open_files;

/// Connections of the open loop.
const CONNECTIONS: usize = 16;
/// Into the loop, so that there is something before as well.
const CLOSE_AFTER: Duration = Duration::from_secs(1);
/// Between an answer to `/alive` and the next question.
const ALIVE_PAUSE: Duration = Duration::from_millis(5);
/// How often the gateway's descriptors are counted.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

pub struct Closed {
    /// While they wait.
    pub before: Phase,
    pub closing: Phase,
    /// From the kill until the gateway had closed its end of every connection,
    pub took: Duration,
    /// and the CPU time it spent in that, more than it did before in as long a time.
    pub closing_cpu_seconds: f64,
    /// The polls are gone, the groups not yet left; `None` when they were left before anybody looked.
    pub gone: Option<Phase>,
    /// `None` when that happened between two looks.
    pub leaving: Option<Phase>,
    /// From then on until the gateway was a member of none of the groups any more.
    pub left_after: Duration,
}

/// One loop of publishes.
pub struct Phase {
    pub seconds: f64,
    pub cpu_seconds: f64,
    pub publishes: u64,
    pub p50_us: u64,
    /// The longest that a publish took, from when it was due.
    pub longest_us: u64,
    /// And how late the client itself was at worst: it shares its CPU with the broker, and with clients that die.
    pub client_late_us: u64,
    /// The gateway's own figure: the longest that its shard did not look at anybody else, of the last minute or less.
    pub longest_turn_us: u64,
    /// The longest that `/alive` took, asked again and again by one connection.
    pub longest_alive_us: u64,
    /// The gateway's resident memory at its end.
    pub resident_kib: u64,
}

impl Phase {
    /// Publishes go on for the time of the load.
    fn measure(gateway: &Gateway, rate: u64, size: usize, load: &Load) -> Result<Phase> {
        let done = AtomicBool::new(false);
        let (figures, longest_alive) = thread::scope(|scope| {
            let alive = scope.spawn(|| longest_alive(gateway, &done));
            let figures = gateway.server.load(Kind::single(size), Mode::Open(rate), load);
            done.store(true, Ordering::Relaxed);
            (figures, alive.join())
        });
        let longest_alive = longest_alive.map_err(|_| anyhow!("whoever asks for /alive panicked"))??;
        Phase::of(gateway, &figures?, longest_alive)
    }

    fn of(gateway: &Gateway, figures: &Figures, longest_alive: Duration) -> Result<Phase> {
        Ok(Phase {
            seconds: figures.seconds,
            cpu_seconds: figures.cpu.as_ref().map_or(0.0, |cpu| cpu.cores * figures.seconds),
            publishes: figures.requests,
            p50_us: figures.p50_us,
            longest_us: figures.max_us,
            client_late_us: figures.open.as_ref().map_or(0, |open| open.client_late_max_us),
            longest_turn_us: gateway.metrics()?.sum("gateway_longest_turn_microseconds")? as u64,
            longest_alive_us: us(longest_alive),
            resident_kib: resident_kib(gateway.server.pid())?,
        })
    }

    /// Two, one after the other.
    fn and(self, next: Phase) -> Phase {
        Phase {
            seconds: self.seconds + next.seconds,
            cpu_seconds: self.cpu_seconds + next.cpu_seconds,
            publishes: self.publishes + next.publishes,
            p50_us: self.p50_us.max(next.p50_us),
            longest_us: self.longest_us.max(next.longest_us),
            client_late_us: self.client_late_us.max(next.client_late_us),
            longest_turn_us: self.longest_turn_us.max(next.longest_turn_us),
            longest_alive_us: self.longest_alive_us.max(next.longest_alive_us),
            resident_kib: next.resident_kib,
        }
    }

    /// CPU time of so many seconds of it.
    pub fn cpu_seconds_of(&self, seconds: f64) -> f64 {
        self.cpu_seconds / self.seconds * seconds
    }
}

fn longest_alive(gateway: &Gateway, done: &AtomicBool) -> Result<Duration> {
    let mut connection = Connection::open(&gateway.server.sender.target)?;
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let asked_at = Instant::now();
        connection.call(&Request::get("/alive"))?.expect(200)?;
        longest = longest.max(asked_at.elapsed());
        thread::sleep(ALIVE_PAUSE);
    }
    Ok(longest)
}

pub fn run(crowd: &mut Crowd, options: &Polls) -> Result<Closed> {
    let load = Load {
        connections: CONNECTIONS,
        duration: options.close_within,
        warmup: options.rounds.warmup,
        client_cpu: Some(options.rounds.client_cpu),
        machine: true,
    };
    let publish = |gateway: &Gateway| Phase::measure(gateway, options.rate, options.size, &load);
    eprintln!("{} publishes/s while {} polls wait", options.rate, crowd.polls);
    let before = publish(&crowd.gateway)?;
    crowd.check()?;
    let (open, polls) = (crowd.open_files()?, crowd.polls);
    eprintln!("{} publishes/s while {polls} polls are closed", options.rate);
    let gateway = &crowd.gateway;
    let pid = gateway.server.pid();
    let (closing, took, spent) = thread::scope(|scope| -> Result<(Phase, Duration, Spent)> {
        let publishing = scope.spawn(move || publish(gateway));
        thread::sleep(load.warmup + CLOSE_AFTER);
        let (sample, most) = (Sample::take(pid)?, open.saturating_sub(polls) + CONNECTIONS + 1);
        crowd.waiting.kill()?;
        let closed = until("closed connections", CLOSE_TIMEOUT, LOOK_PAUSE, || {
            let left = open_files(pid)?.saturating_sub(most);
            Ok(if left == 0 { Ok(()) } else { Err(format!("{left} of {polls} are still open")) })
        });
        let spent = Sample::take(pid)?.since(&sample);
        let phase = publishing.join().map_err(|_| anyhow!("the publishers panicked"))?.context("while closing")?;
        Ok((phase, closed?.1, spent))
    })?;
    let closing_cpu_seconds = spent.total_ns as f64 / 1e9 - before.cpu_seconds_of(took.as_secs_f64());
    let closed_at = Instant::now();
    let (mut gone, mut leaving): (Option<Phase>, Option<Phase>) = (None, None);
    let within = options.wait * 2 + LEAVE_GRACE;
    let ((), _) = until("groups that nobody polls", within, Duration::ZERO, || {
        let groups_before = crowd.gateway.metrics()?.sum("gateway_subscriptions")?;
        if groups_before == 0.0 {
            return Ok(Ok(()));
        }
        let phase = publish(&crowd.gateway).context("while groups are left")?;
        let groups = crowd.gateway.metrics()?.sum("gateway_subscriptions")?;
        let times = if groups < groups_before { &mut leaving } else { &mut gone };
        *times = Some(match times.take() {
            Some(earlier) => earlier.and(phase),
            None => phase,
        });
        Ok(Err(format!("{groups} are not left yet")))
    })?;
    Ok(Closed { before, closing, took, closing_cpu_seconds, gone, leaving, left_after: closed_at.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(seconds: f64, cpu_seconds: f64, longest_us: u64) -> Phase {
        let publishes = (seconds * 1_000.0) as u64;
        Phase {
            seconds,
            cpu_seconds,
            publishes,
            p50_us: 200,
            longest_us,
            client_late_us: 10,
            longest_turn_us: 30,
            longest_alive_us: 300,
            resident_kib: longest_us,
        }
    }

    #[test]
    fn phases_add_up_and_are_compared_over_the_same_time() {
        let before = phase(5.0, 1.0, 900);
        let both = phase(10.0, 2.5, 400).and(phase(10.0, 3.5, 70_000));
        assert_eq!((both.seconds, both.publishes, both.longest_us, both.p50_us), (20.0, 20_000, 70_000, 200));
        assert_eq!(phase(1.0, 1.0, 9).and(phase(1.0, 1.0, 4)).resident_kib, 4, "the later one");
        assert_eq!(both.cpu_seconds - before.cpu_seconds_of(both.seconds), 2.0);
    }
}
