//! Starting a shard: a pinned thread with the best ring this kernel gives.
//!
//! Measured on Linux 6.18, CPU per 1 KiB POST: io_uring with COOP_TASKRUN and SINGLE_ISSUER 7.8 µs, monoio's own
//! default (no flags) 10.0 µs, epoll 8.0 µs. So the flags are asked for first, then a plain ring, then epoll; the
//! choice is returned, logged, and can be forced (`ShardOptions::force` or the variable [`DRIVER_VARIABLE`]).
//! DEFER_TASKRUN is not used: with monoio 0.2.4 socket completions stop while the run queue is never empty.
//!
//! How a shard ends: when `main` returns or anything on the shard panics, every other task's future is dropped
//! while the ring still runs, so sockets are closed and peers see it; then the thread ends with `main`'s value or
//! with the panic.

use std::any::Any;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::str::FromStr;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;

use monoio::time::TimeDriver;
use monoio::{IoUringDriver, LegacyDriver, Runtime, RuntimeBuilder};

use crate::context::{self, PanicWatch, Shard};
use crate::limits::{CLOSING_ROUNDS_MAX, COMPLETIONS_PER_ENTRY, RING_ENTRIES_DEFAULT, RING_ENTRIES_MIN};

/// Environment variable that forces a driver: `coop`, `uring` or `epoll`. `ShardOptions::force` wins over it.
pub const DRIVER_VARIABLE: &str = "GAFKA_RUNTIME_DRIVER";

/// How a shard talks to the kernel, best first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Driver {
    /// io_uring with COOP_TASKRUN and SINGLE_ISSUER (Linux 6.0).
    IoUringCoop,
    /// io_uring without flags (Linux 5.6).
    IoUring,
    /// epoll, where io_uring is absent or forbidden (seccomp, RLIMIT_MEMLOCK).
    Epoll,
}

impl Driver {
    /// Best first, the order in which they are tried.
    pub const ALL: [Driver; 3] = [Driver::IoUringCoop, Driver::IoUring, Driver::Epoll];
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::IoUringCoop => "io_uring (COOP_TASKRUN, SINGLE_ISSUER)",
            Driver::IoUring => "io_uring (plain)",
            Driver::Epoll => "epoll",
        })
    }
}

impl FromStr for Driver {
    type Err = io::Error;

    fn from_str(name: &str) -> io::Result<Driver> {
        match name {
            "coop" => Ok(Driver::IoUringCoop),
            "uring" => Ok(Driver::IoUring),
            "epoll" => Ok(Driver::Epoll),
            other => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("unknown driver {other:?}: use coop, uring or epoll"),
            )),
        }
    }
}

/// How to start one shard.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Thread name; the kernel shows its first 15 bytes.
    pub name: String,
    /// CPU to pin the thread to. `None` lets the scheduler place it (a broker's file work, tests).
    pub cpu: Option<usize>,
    /// Submission entries; see [`RING_ENTRIES_DEFAULT`].
    pub ring_entries: u32,
    /// Use exactly this driver, or fail.
    pub force: Option<Driver>,
}

impl Default for ShardOptions {
    fn default() -> Self {
        ShardOptions { name: "shard".to_owned(), cpu: None, ring_entries: RING_ENTRIES_DEFAULT, force: None }
    }
}

impl ShardOptions {
    pub fn named(name: impl Into<String>) -> Self {
        ShardOptions { name: name.into(), ..ShardOptions::default() }
    }
}

/// Starts a thread with its own runtime and runs `main` on it. Returns once the driver works, or the reason why
/// none does.
///
/// `join` on the returned handle gives `main`'s value, or the panic of `main` or of any task of the shard.
pub fn spawn_shard<M, F>(options: ShardOptions, main: M) -> io::Result<JoinHandle<F::Output>>
where
    M: FnOnce(Driver) -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    spawn_watched(options, |_| {}, main)
}

/// The same; `panicked` hears of each panic when it happens, while the shard's sockets are still open.
pub(crate) fn spawn_watched<M, F>(
    options: ShardOptions,
    panicked: impl Fn(&(dyn Any + Send)) + Send + Sync + 'static,
    main: M,
) -> io::Result<JoinHandle<F::Output>>
where
    M: FnOnce(Driver) -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Send + 'static,
{
    let panicked: Arc<PanicWatch> = Arc::new(panicked);
    let (started, starting) = mpsc::sync_channel::<io::Result<()>>(1);
    let thread = std::thread::Builder::new().name(options.name.clone()).spawn(move || {
        pin_thread(&options);
        match build(&options) {
            Ok((runtime, driver)) => {
                tracing::info!(shard = %options.name, cpu = ?options.cpu, %driver, "shard started");
                let _ = started.send(Ok(()));
                let shard = Shard::new(driver, Arc::clone(&panicked));
                // The driver itself may panic, outside of every task.
                catch_unwind(AssertUnwindSafe(|| run(runtime, shard, main))).unwrap_or_else(|payload| {
                    panicked(&*payload);
                    resume_unwind(payload)
                })
            }
            Err(err) => {
                let _ = started.send(Err(err));
                // Nobody sees this value: spawn_shard has returned the error and dropped the handle.
                resume_unwind(Box::new("no driver"))
            }
        }
    })?;
    match starting.recv() {
        Ok(Ok(())) => Ok(thread),
        Ok(Err(err)) => {
            let _ = thread.join();
            Err(err)
        }
        Err(_) => Err(io::Error::other("shard thread ended before it started")),
    }
}

fn pin_thread(options: &ShardOptions) {
    let Some(cpu) = options.cpu else { return };
    let mut set = rustix::thread::CpuSet::new();
    let pinned = if cpu < rustix::thread::CpuSet::MAX_CPU {
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)
    } else {
        Err(rustix::io::Errno::INVAL)
    };
    if let Err(err) = pinned {
        tracing::warn!(shard = %options.name, cpu, %err, "shard not pinned: it runs on any cpu");
    }
}

enum Built {
    Uring(Runtime<TimeDriver<IoUringDriver>>),
    Epoll(Runtime<TimeDriver<LegacyDriver>>),
}

fn build(options: &ShardOptions) -> io::Result<(Built, Driver)> {
    let forced = match options.force {
        Some(driver) => Some(driver),
        None => match std::env::var(DRIVER_VARIABLE) {
            Ok(name) => Some(name.parse()?),
            Err(_) => None,
        },
    };
    if let Some(driver) = forced {
        return Ok((build_one(driver, options.ring_entries)?, driver));
    }
    let mut last = io::Error::other("no driver tried");
    for driver in Driver::ALL {
        match build_one(driver, options.ring_entries) {
            Ok(built) => return Ok((built, driver)),
            Err(err) => {
                tracing::warn!(shard = %options.name, %driver, %err, "driver not available, trying the next");
                last = err;
            }
        }
    }
    Err(last)
}

fn build_one(driver: Driver, ring_entries: u32) -> io::Result<Built> {
    let entries = ring_entries.max(RING_ENTRIES_MIN);
    if driver == Driver::Epoll {
        return Ok(Built::Epoll(RuntimeBuilder::<LegacyDriver>::new().with_entries(entries).enable_timer().build()?));
    }
    // Old kernels lack single operations; monoio's own probe knows the ones it uses.
    if !monoio::utils::detect_uring() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "io_uring, or an operation of it, is not available"));
    }
    let mut ring = io_uring::IoUring::builder();
    ring.setup_cqsize(entries * COMPLETIONS_PER_ENTRY);
    if driver == Driver::IoUringCoop {
        ring.setup_coop_taskrun().setup_single_issuer();
    }
    Ok(Built::Uring(
        RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).with_entries(entries).enable_timer().build()?,
    ))
}

fn run<M, F>(built: Built, shard: Rc<Shard>, main: M) -> F::Output
where
    M: FnOnce(Driver) -> F,
    F: Future + 'static,
{
    context::enter(Some(shard.clone()));
    let supervised = supervise(shard, main);
    let outcome = match built {
        Built::Uring(mut runtime) => runtime.block_on(supervised),
        Built::Epoll(mut runtime) => runtime.block_on(supervised),
    };
    context::enter(None);
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
}

/// Runs `main` until it ends or something panics, then closes every task.
async fn supervise<M, F>(shard: Rc<Shard>, main: M) -> Result<F::Output, Box<dyn Any + Send>>
where
    M: FnOnce(Driver) -> F,
    F: Future + 'static,
{
    let mut value = None;
    match catch_unwind(AssertUnwindSafe(|| Box::pin(main(shard.driver)))) {
        Err(payload) => shard.fail(payload),
        Ok(mut future) => {
            poll_fn(|cx| {
                match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                    Ok(Poll::Ready(ended)) => value = Some(ended),
                    Ok(Poll::Pending) => {}
                    Err(payload) => shard.fail(payload),
                }
                if value.is_some() || shard.panic.borrow().is_some() {
                    return Poll::Ready(());
                }
                *shard.main.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
                shard.fail(payload);
            }
        }
    }
    close(&shard).await;
    match (shard.panic.borrow_mut().take(), value) {
        (None, Some(value)) => Ok(value),
        (Some(payload), _) => Err(payload),
        (None, None) => unreachable!("main ended with a value or by a panic"),
    }
}

/// Lets every task drop its future, and the ring work off the cancellations and closes that follow.
async fn close(shard: &Shard) {
    shard.closing.set(true);
    shard.main.borrow_mut().take();
    for _ in 0..CLOSING_ROUNDS_MAX {
        shard.tasks.wake_all();
        crate::time::yield_now().await;
        if shard.tasks.is_empty() {
            break;
        }
    }
    if !shard.tasks.is_empty() {
        tracing::warn!(tasks = shard.tasks.len(), "tasks left at the end of a shard");
    }
    // A dropped operation completes a round later, and only then its descriptor is closed.
    for _ in 0..2 {
        crate::time::yield_now().await;
    }
}
