//! Reads that shards ask for, answered elsewhere: a shard never waits for a disk.
//!
//! A thread with handles of its own, plain, or on glommio (`ring.rs`) where that is asked for and can be. It takes one
//! request at a time, so at most one read is between a commit and its device; requests are bounded, and refused beyond
//! that.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::LocalExecutor;
use tracing::{error, warn};

use crate::config::Background;
use crate::core::Core;
use crate::limits::{READS_MAX, SCRUB_PAUSE_MAX};
use crate::reader::Reader;
use crate::record::{Entry, Place};
use crate::recovery::Lost;
use crate::refused::{OpenError, ReadError, Refused};
use crate::ring;

/// The end of one request: the records, each of them or why not, or why there is none.
#[derive(Debug)]
pub struct ReadCompletion {
    pub ticket: u64,
    pub entries: Result<Vec<Result<Entry, ReadError>>, ReadError>,
}

/// One per consumer; clones are the same one.
#[derive(Clone)]
pub struct ReadWaiter {
    inner: Arc<Inner>,
}

struct Inner {
    completions: Mutex<Vec<ReadCompletion>>,
    doorbell: Box<dyn Fn() + Send + Sync>,
}

impl ReadWaiter {
    /// `doorbell` is rung on the reading thread, once per request.
    pub fn new(doorbell: impl Fn() + Send + Sync + 'static) -> ReadWaiter {
        ReadWaiter { inner: Arc::new(Inner { completions: Mutex::default(), doorbell: Box::new(doorbell) }) }
    }

    pub fn take(&self, into: &mut Vec<ReadCompletion>) {
        into.append(&mut self.inner.completions.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// One that was asked for. Dropped without an answer it says that there is none, so that nobody waits for ever.
pub(crate) struct Request {
    pub place: Place,
    pub count: u32,
    ticket: u64,
    /// Until it is answered.
    waiter: Option<ReadWaiter>,
}

impl Request {
    pub fn answer(mut self, entries: Result<Vec<Result<Entry, ReadError>>, ReadError>) {
        self.tell(entries);
    }

    fn tell(&mut self, entries: Result<Vec<Result<Entry, ReadError>>, ReadError>) {
        let Some(waiter) = self.waiter.take() else { return };
        let completion = ReadCompletion { ticket: self.ticket, entries };
        waiter.inner.completions.lock().unwrap_or_else(PoisonError::into_inner).push(completion);
        (waiter.inner.doorbell)();
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let source = io::Error::other("the reading thread of the journal failed; the log says why");
        self.tell(Err(ReadError::Io { segment: self.place.segment, source }));
    }
}

/// The thread, and what waits for it. Dropping it answers what was asked, and ends it.
pub(crate) struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    runs_on: Background,
}

/// What the thread shares with who asks.
pub(crate) struct Shared {
    pub core: Arc<Core>,
    queue: Mutex<Queue>,
    /// A plain thread waits here.
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    scrub: Option<Scrub>,
    is_closing: bool,
    /// Tasks of the ring that wait.
    reads_wait: Option<Waker>,
    scrub_waits: Option<Waker>,
}

/// A walk over all segments there are.
struct Scrub {
    segments: Vec<u64>,
    bytes_per_second: u64,
}

impl Scrub {
    fn next(&mut self) -> Option<(u64, u64)> {
        self.segments.pop().map(|segment| (segment, self.bytes_per_second))
    }
}

/// Bytes that were checked, and what is rotten; `None`: the segment is gone.
pub(crate) type Scrubbed = Result<Option<(u64, Vec<Lost>)>, ReadError>;

impl Worker {
    pub fn start(core: Arc<Core>) -> Result<Worker, OpenError> {
        let shared = Arc::new(Shared { core, queue: Mutex::default(), wake: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let (tell, told) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("journal-reads".to_owned()).spawn(move || theirs.run(&tell));
        let thread = thread.map_err(|source| OpenError::Thread { source })?;
        let runs_on = told.recv().expect("the thread says it before anything else");
        Ok(Worker { shared, thread: Some(thread), runs_on })
    }

    pub fn runs_on(&self) -> Background {
        self.runs_on
    }

    pub fn read(&self, place: Place, count: u32, ticket: u64, waiter: &ReadWaiter) -> Result<(), Refused> {
        let mut queue = self.shared.queue();
        if queue.requests.len() >= READS_MAX {
            return Err(Refused::Waiting);
        }
        queue.requests.push_back(Request { place, count, ticket, waiter: Some(waiter.clone()) });
        let task = queue.reads_wait.take();
        self.shared.wake(queue, [task, None]);
        Ok(())
    }

    /// Begins to check every segment, oldest first, at this pace.
    pub fn scrub(&self, bytes_per_second: u64) {
        let mut segments: Vec<u64> = self.shared.core.table().live.keys().rev().copied().collect();
        // The newest is being written.
        segments.drain(..segments.len().min(1));
        let mut queue = self.shared.queue();
        queue.scrub = Some(Scrub { segments, bytes_per_second: bytes_per_second.max(1) });
        let task = queue.scrub_waits.take();
        self.shared.wake(queue, [task, None]);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.is_closing = true;
        let tasks = [queue.reads_wait.take(), queue.scrub_waits.take()];
        self.shared.wake(queue, tasks);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the reading thread of the journal panicked");
        }
    }
}

enum Work {
    Read(Request),
    Scrub { segment: u64, bytes_per_second: u64 },
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes whoever works, without the lock.
    fn wake(&self, queue: MutexGuard<'_, Queue>, tasks: [Option<Waker>; 2]) {
        drop(queue);
        self.wake.notify_one();
        tasks.into_iter().flatten().for_each(Waker::wake);
    }

    pub fn is_closing(&self) -> bool {
        self.queue().is_closing
    }

    /// The next request; `None`: closing, and every read is answered.
    pub fn poll_request(&self, cx: &Context<'_>) -> Poll<Option<Request>> {
        let mut queue = self.queue();
        match queue.requests.pop_front() {
            None if !queue.is_closing => {
                queue.reads_wait = Some(cx.waker().clone());
                Poll::Pending
            }
            next => Poll::Ready(next),
        }
    }

    /// The next segment to check, and the pace; `None`: closing.
    pub fn poll_segment(&self, cx: &Context<'_>) -> Poll<Option<(u64, u64)>> {
        let mut queue = self.queue();
        if queue.is_closing {
            return Poll::Ready(None);
        }
        match queue.scrub.as_mut().and_then(Scrub::next) {
            Some(next) => Poll::Ready(Some(next)),
            None => {
                queue.scrub = None;
                queue.scrub_waits = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Ready when the journal closes; of the scrub.
    pub fn poll_closing(&self, cx: &Context<'_>) -> Poll<()> {
        let mut queue = self.queue();
        if queue.is_closing {
            return Poll::Ready(());
        }
        queue.scrub_waits = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Says first on what it runs.
    fn run(self: &Arc<Shared>, tell: &SyncSender<Background>) {
        let ring = self.ring();
        let runs_on = if ring.is_some() { Background::Ring } else { Background::Plain };
        tell.send(runs_on).expect("whoever started us waits for it");
        if let Some(ring) = ring
            && catch_unwind(AssertUnwindSafe(|| ring::run(self, &ring))).is_err()
        {
            error!("the ring of the journal's reads panicked, which is a bug; they go on without it");
            self.run_plain();
        } else if runs_on == Background::Plain {
            self.run_plain();
        }
    }

    fn ring(&self) -> Option<LocalExecutor> {
        let Core { config, disk, .. } = &*self.core;
        if config.background == Background::Plain || !disk.is_of_the_system() {
            return None;
        }
        let warned = |err: &io::Error| {
            warn!(
                %err,
                "the journal cannot have an io_uring, so its reads and scrubs run on a plain thread; allow io_uring in the \
                 container's seccomp profile and kernel.io_uring_disabled, and at least 512 KiB of locked memory (ulimit -l)"
            );
        };
        ring::executor().inspect_err(warned).ok()
    }

    fn run_plain(&self) {
        let mut reader = Reader::new(Arc::clone(&self.core));
        while let Some(work) = self.take() {
            match work {
                Work::Read(request) => {
                    let entries = reader.read_run(request.place, request.count);
                    request.answer(entries);
                }
                Work::Scrub { segment, bytes_per_second } => {
                    let bytes = self.tell(segment, reader.scrub(segment));
                    self.pause(bytes, bytes_per_second);
                }
            }
        }
    }

    /// Reads first; `None`: closing, and every read is answered.
    fn take(&self) -> Option<Work> {
        let mut queue = self.queue();
        loop {
            if let Some(request) = queue.requests.pop_front() {
                return Some(Work::Read(request));
            }
            if queue.is_closing {
                return None;
            }
            if let Some((segment, bytes_per_second)) = queue.scrub.as_mut().and_then(Scrub::next) {
                return Some(Work::Scrub { segment, bytes_per_second });
            }
            queue.scrub = None;
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts what a scrub of a segment found, and says what is rotten; returns how many bytes it read.
    pub fn tell(&self, segment: u64, scrubbed: Scrubbed) -> u64 {
        match scrubbed {
            Ok(None) => 0,
            Ok(Some((bytes, lost))) => {
                let metrics = &self.core.metrics;
                for lost in lost {
                    metrics.lost_records.add(lost.to_lsn - lost.from_lsn);
                    let (from_lsn, to_lsn, at) = (lost.from_lsn, lost.to_lsn, lost.at);
                    error!(segment, from_lsn, to_lsn, at, "records of the journal are rotten; look at the disk");
                }
                metrics.scrubbed_bytes.add(bytes);
                bytes
            }
            Err(err) => {
                error!(segment, %err, "a segment of the journal cannot be checked");
                0
            }
        }
    }

    /// Keeps the pace of a scrub; a read ends the pause.
    fn pause(&self, bytes: u64, bytes_per_second: u64) {
        let pause = Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64).min(SCRUB_PAUSE_MAX);
        let queue = self.queue();
        let idle = |queue: &mut Queue| queue.requests.is_empty() && !queue.is_closing;
        drop(self.wake.wait_timeout_while(queue, pause, idle));
    }
}
