//! Durable adds and deletes of a store in this process: so many wait all the time, the next one follows when the log has
//! acknowledged one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::jobs::Key;
use ::jobs::store::{Changed, NewJob, Store};
use ::jobs::wheel::Entry;
use ::journal::Waiter;
use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;

use super::flags::JobsBench;
use super::kept::{ACCOUNT, Kept, is_full, name};
use crate::cpu::{Sample, Spent};
use crate::limits::JOBS_FULL_PAUSE;
use crate::measure::{ForeignMeter, Window};
use crate::outcome::{histogram, us};
use crate::publish::message;
use crate::rounds::Order;

/// Jobs here are due between an hour and a day from now.
const HOUR_MS: i64 = 3_600_000;
const SPREAD_MS: u64 = 23 * 3_600_000;

/// What a closed loop found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rate {
    /// Jobs added or deleted, or syncs.
    pub per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub max_us: f64,
    /// Of the log, where it was asked.
    pub log: Option<Log>,
    pub cpu_us: f64,
    pub cpu_us_by_thread: BTreeMap<String, f64>,
}

/// What the log and the store did meanwhile.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Log {
    pub commits_per_second: f64,
    pub jobs_per_commit: f64,
    /// How often the store had no room for a moment.
    pub full: u64,
}

/// What became of one try.
enum Sent {
    Waits {
        jobs: u64,
    },
    /// No room for now.
    Full,
    /// There is nothing more to be sent.
    Over,
}

/// What one thread found.
struct Client {
    latency: Histogram<u64>,
    jobs: u64,
    full: u64,
    /// When there was nothing more to be sent.
    over_at: Option<Instant>,
}

/// Adds, so many together.
pub fn adds(dir: &Path, bench: &JobsBench, together: u16) -> Result<(Rate, f64)> {
    let kept = Kept::open(dir, |_| {})?;
    let (store, body) = (kept.store(), message(bench.size));
    measure(&kept, bench, |client| {
        let queue = name(ACCOUNT, &format!("adds-{client}"));
        let (mut order, now_ms) = (Order(client as u64), store.now_ms());
        let body = body.clone();
        move |ticket, waiter: &Waiter| {
            let mut due_ms = || now_ms + HOUR_MS + (order.random() % SPREAD_MS) as i64;
            let job = |_| NewJob { due_ms: due_ms(), key: None, own: &body };
            let jobs: Vec<NewJob<'_>> = (0..together).map(job).collect();
            match store.add(&queue, &jobs, ticket, waiter) {
                Ok(_) => Ok(Sent::Waits { jobs: u64::from(together) }),
                Err(error) if is_full(&error) => Ok(Sent::Full),
                Err(error) => bail!("the store refused an add: {error}"),
            }
        }
    })
}

/// Deletes of so many jobs that were added before, in the order of their numbers.
pub fn deletes(dir: &Path, bench: &JobsBench, jobs: u64) -> Result<(Rate, f64)> {
    let kept = Kept::open(dir, |_| {})?;
    let store = kept.store();
    let of_each = jobs / bench.clients as u64;
    let mut by_client = Vec::new();
    for client in 0..bench.clients {
        let queue = name(ACCOUNT, &format!("deletes-{client}"));
        let (mut order, now_ms, mut keys) = (Order(client as u64), store.now_ms(), Vec::new());
        kept.fill(
            &queue,
            of_each,
            bench.size,
            |_| now_ms + HOUR_MS + (order.random() % SPREAD_MS) as i64,
            |first, dues| keys.extend((first..).zip(dues).map(|(seq, due_ms)| Key { due_ms: *due_ms, seq })),
        )?;
        let queue = store.find(&queue).context("a queue with jobs")?.0;
        by_client.push((queue, keys));
    }
    let measured = measure(&kept, bench, |client| {
        let (queue, keys) = &by_client[client];
        let mut keys = keys.iter();
        move |ticket, waiter: &Waiter| {
            let Some(key) = keys.next() else { return Ok(Sent::Over) };
            match store.delete(Entry { key: *key, queue: *queue }, ticket, waiter) {
                Ok(Changed::Appended) => Ok(Sent::Waits { jobs: 1 }),
                Ok(other) => bail!("job {} waits, and its delete came to {other:?}", key.seq),
                Err(error) => bail!("the store refused a delete: {error}"),
            }
        }
    });
    measured.context("deletes")
}

/// `client` makes what each thread sends.
fn measure<S>(kept: &Kept, bench: &JobsBench, client: impl Fn(usize) -> S) -> Result<(Rate, f64)>
where
    S: FnMut(u64, &Waiter) -> Result<Sent> + Send,
{
    let begin = Instant::now() + bench.rounds.warmup;
    let window = Window { begin, end: begin + bench.rounds.duration };
    let (store, is_measured) = (kept.store(), AtomicBool::new(false));
    let is_measured = &is_measured;
    let (clients, meanwhile) = std::thread::scope(|scope| {
        let start = |(index, waiting): (usize, usize)| {
            let send = client(index);
            let thread = std::thread::Builder::new().name("client".to_owned());
            thread.spawn_scoped(scope, move || {
                let found = one_client(window, waiting, send);
                // What a thread used is known while it lives.
                while !is_measured.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                found
            })
        };
        let threads: Vec<_> = bench.shares(bench.clients).into_iter().enumerate().map(start).collect();
        let meanwhile = supervise(store, window);
        is_measured.store(true, Ordering::Release);
        let threads = threads.into_iter().collect::<Result<Vec<_>, _>>()?;
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<Client>>| match thread.join() {
            Ok(client) => client,
            Err(payload) => std::panic::resume_unwind(payload),
        };
        anyhow::Ok((threads.into_iter().map(join).collect::<Result<Vec<Client>>>()?, meanwhile?))
    })?;
    let mut latency = histogram();
    for client in &clients {
        latency.add(&client.latency).expect("same bounds");
    }
    let jobs: u64 = clients.iter().map(|client| client.jobs).sum();
    // The first that had nothing more to send: from then on there was less to do.
    let end = clients.iter().filter_map(|client| client.over_at).fold(window.end, Instant::min);
    let seconds = end.saturating_duration_since(begin).as_secs_f64();
    ensure!(jobs > 0 && seconds > 0.0, "nothing came to an end in {:?}", bench.rounds.duration);
    let (spent, counts, foreign_cores) = meanwhile;
    let log = Log {
        commits_per_second: counts[0] as f64 / bench.rounds.duration.as_secs_f64(),
        jobs_per_commit: counts[1] as f64 / counts[0].max(1) as f64,
        full: clients.iter().map(|client| client.full).sum(),
    };
    Ok((Rate { log: Some(log), ..Rate::of(jobs, seconds, &latency, &spent) }, foreign_cores))
}

/// Commits and records of the log, and what the process spent, in the window.
fn supervise(store: &Store, window: Window) -> Result<(Spent, [u64; 2], f64)> {
    let read = || {
        let metrics = store.journal().metrics();
        anyhow::Ok((Sample::take(std::process::id())?, [metrics.commits.get(), metrics.records.get()]))
    };
    let sleep_until = |at: Instant| std::thread::sleep(at.saturating_duration_since(Instant::now()));
    sleep_until(window.begin);
    let ((sample, before), meter) = (read()?, ForeignMeter::start());
    sleep_until(window.end);
    let ((last, after), foreign_cores) = (read()?, meter.cores());
    Ok((last.since(&sample), [after[0] - before[0], after[1] - before[1]], foreign_cores))
}

/// Keeps so many waiting until the window ends, or there is nothing left to send.
fn one_client(window: Window, waiting: usize, mut send: impl FnMut(u64, &Waiter) -> Result<Sent>) -> Result<Client> {
    let this = std::thread::current();
    let waiter = Waiter::new(move || this.unpark());
    let mut client = Client { latency: histogram(), jobs: 0, full: 0, over_at: None };
    let mut idle: Vec<usize> = (0..waiting).rev().collect();
    let mut sent: Vec<(Instant, u64)> = vec![(window.begin, 0); waiting];
    let mut completions = Vec::new();
    loop {
        let mut pause = Duration::MAX;
        while client.over_at.is_none()
            && Instant::now() < window.end
            && let Some(ticket) = idle.pop()
        {
            match send(ticket as u64, &waiter)? {
                Sent::Waits { jobs } => {
                    sent[ticket] = (Instant::now(), jobs);
                    continue;
                }
                Sent::Full => {
                    client.full += 1;
                    pause = JOBS_FULL_PAUSE;
                }
                Sent::Over => client.over_at = Some(Instant::now()),
            }
            idle.push(ticket);
            break;
        }
        let is_over = client.over_at.is_some() || Instant::now() >= window.end;
        if is_over && idle.len() == waiting {
            return Ok(client);
        }
        waiter.take(&mut completions);
        if completions.is_empty() {
            std::thread::park_timeout(pause);
            continue;
        }
        let now = Instant::now();
        for completion in completions.drain(..) {
            if let Err(refused) = completion.result {
                bail!("the log refused: {refused}");
            }
            let ticket = completion.ticket as usize;
            let (began, jobs) = sent[ticket];
            if now >= window.begin && now < window.end {
                client.jobs += jobs;
                client.latency.saturating_record(us(now - began));
            }
            idle.push(ticket);
        }
    }
}

impl Rate {
    pub fn of(jobs: u64, seconds: f64, latency: &Histogram<u64>, spent: &Spent) -> Rate {
        let at = |quantile| latency.value_at_quantile(quantile) as f64;
        let us_of = |ns: u64| ns as f64 / 1e3 / jobs.max(1) as f64;
        Rate {
            per_second: jobs as f64 / seconds,
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: latency.max() as f64,
            log: None,
            cpu_us: us_of(spent.total_ns),
            cpu_us_by_thread: spent.by_name.iter().map(|(name, ns)| (name.clone(), us_of(*ns))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::flags::tests::bench;
    use crate::process::TempDir;

    #[test]
    fn a_round_of_adds_counts_what_the_log_acknowledged() {
        let bench = bench("--duration 150ms --warmup 20ms --waiting 20 --size 50");
        for together in [1, 10] {
            let dir = TempDir::new().expect("a directory");
            let (rate, _) = adds(&dir.path, &bench, together).expect("adds");
            let log = rate.log.as_ref().expect("the log was asked");
            let of_threads = |name: &str| rate.cpu_us_by_thread.get(name).copied().unwrap_or(0.0);
            assert!(of_threads("client") > 0.0 && of_threads("journal") > 0.0, "{rate:?}");
            assert!(rate.per_second > 0.0 && rate.p99_us >= rate.p50_us && rate.cpu_us > 0.0, "{rate:?}");
            assert!(
                log.jobs_per_commit >= f64::from(together) && log.jobs_per_commit <= 40.0 * f64::from(together),
                "{rate:?}"
            );
            // What was told to be added is there, and more: what came before the window and after it.
            let pending = Kept::open(&dir.path, |_| {}).expect("the store").found.pending as f64;
            assert!(pending >= rate.per_second * 0.149, "{pending} {rate:?}");
        }
    }

    #[test]
    fn deletes_end_when_every_job_is_deleted_and_none_is_there_after_a_start() {
        let bench = bench("--duration 1s --warmup 0ms --waiting 20 --size 50");
        let dir = TempDir::new().expect("a directory");
        let (rate, _) = deletes(&dir.path, &bench, 1_000).expect("deletes");
        assert!(rate.per_second > 0.0 && rate.cpu_us_by_thread.contains_key("client"), "{rate:?}");
        assert_eq!(Kept::open(&dir.path, |_| {}).expect("the store").found.pending, 0);
    }

    #[test]
    fn a_loop_that_runs_out_ends_and_says_when() {
        let begin = Instant::now();
        let window = Window { begin, end: begin + Duration::from_secs(60) };
        let mut tries = 0;
        let client = one_client(window, 3, |_, _| {
            tries += 1;
            Ok(if tries == 1 { Sent::Full } else { Sent::Over })
        });
        let client = client.expect("no error");
        assert_eq!((client.jobs, client.full, client.over_at.is_some()), (0, 1, true));
    }

    #[test]
    fn rates_are_of_jobs_and_cpu_time_is_shared_by_them() {
        let mut latency = histogram();
        latency.saturating_record(100);
        let spent = Spent { total_ns: 3_000_000, by_name: [("journal".to_owned(), 1_000_000)].into() };
        let rate = Rate::of(1_000, 0.5, &latency, &spent);
        assert_eq!((rate.per_second, rate.p50_us, rate.cpu_us), (2_000.0, 100.0, 3.0));
        assert_eq!(rate.cpu_us_by_thread["journal"], 1.0);
    }
}
