//! Reads that shards ask for, answered elsewhere: a shard never waits for a disk.
//!
//! A plain thread with handles of its own. It takes one request at a time, so at most one read is between a commit and
//! its device; requests are bounded, and refused beyond that.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tracing::error;

use crate::core::Core;
use crate::limits::{READS_MAX, SCRUB_PAUSE_MAX};
use crate::reader::Reader;
use crate::record::{Entry, Place};
use crate::refused::{OpenError, ReadError, Refused};

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

struct Request {
    place: Place,
    count: u32,
    ticket: u64,
    waiter: ReadWaiter,
}

/// The thread, and what waits for it. Dropping it answers what was asked, and ends it.
pub(crate) struct Background {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    core: Arc<Core>,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    scrub: Option<Scrub>,
    is_closing: bool,
}

/// A walk over all segments there are.
struct Scrub {
    segments: Vec<u64>,
    bytes_per_second: u64,
}

impl Background {
    pub fn start(core: Arc<Core>) -> Result<Background, OpenError> {
        let shared = Arc::new(Shared { core, queue: Mutex::default(), wake: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("journal-reads".to_owned()).spawn(move || theirs.run());
        let thread = thread.map_err(|source| OpenError::Thread { source })?;
        Ok(Background { shared, thread: Some(thread) })
    }

    pub fn read(&self, place: Place, count: u32, ticket: u64, waiter: &ReadWaiter) -> Result<(), Refused> {
        let mut queue = self.shared.queue();
        if queue.requests.len() >= READS_MAX {
            return Err(Refused::Waiting);
        }
        queue.requests.push_back(Request { place, count, ticket, waiter: waiter.clone() });
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Begins to check every segment, oldest first, at this pace.
    pub fn scrub(&self, bytes_per_second: u64) {
        let mut segments: Vec<u64> = self.shared.core.table().live.keys().rev().copied().collect();
        // The newest is being written.
        segments.drain(..segments.len().min(1));
        self.shared.queue().scrub = Some(Scrub { segments, bytes_per_second: bytes_per_second.max(1) });
        self.shared.wake.notify_one();
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.shared.queue().is_closing = true;
        self.shared.wake.notify_one();
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

    fn run(&self) {
        let mut reader = Reader::new(Arc::clone(&self.core));
        while let Some(work) = self.take() {
            match work {
                Work::Read(Request { place, count, ticket, waiter }) => {
                    let completion = ReadCompletion { ticket, entries: reader.read_run(place, count) };
                    waiter.inner.completions.lock().unwrap_or_else(PoisonError::into_inner).push(completion);
                    (waiter.inner.doorbell)();
                }
                Work::Scrub { segment, bytes_per_second } => {
                    let bytes = self.scrub(&mut reader, segment);
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
            if let Some(scrub) = &mut queue.scrub {
                let bytes_per_second = scrub.bytes_per_second;
                match scrub.segments.pop() {
                    Some(segment) => return Some(Work::Scrub { segment, bytes_per_second }),
                    None => queue.scrub = None,
                }
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Checks one segment, and says what is rotten; returns how many bytes that were.
    fn scrub(&self, reader: &mut Reader, segment: u64) -> u64 {
        match reader.scrub(segment) {
            Ok(None) => 0,
            Ok(Some((bytes, lost))) => {
                let metrics = &self.core.metrics;
                metrics.scrubbed_bytes.add(bytes);
                for lost in lost {
                    metrics.lost_records.add(lost.to_lsn - lost.from_lsn);
                    let (from_lsn, to_lsn, at) = (lost.from_lsn, lost.to_lsn, lost.at);
                    error!(segment, from_lsn, to_lsn, at, "records of the journal are rotten; look at the disk");
                }
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
