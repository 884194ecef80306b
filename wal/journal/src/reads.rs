//! Reading for whoever must not wait: asked of a thread of its own, answered with a doorbell.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tracing::error;

use crate::limits::READS_WAITING_MAX;
use crate::reader::Reader;
use crate::record::{Entry, Place};
use crate::refused::{ReadError, Refused};

/// Records that were asked for.
#[derive(Debug)]
pub struct ReadCompletion {
    pub ticket: u64,
    pub entries: Result<Vec<Result<Entry, ReadError>>, ReadError>,
}

/// One per consumer (a shard); clones are the same one.
#[derive(Clone)]
pub struct ReadWaiter {
    inner: Arc<Inner>,
}

struct Inner {
    completions: Mutex<Vec<ReadCompletion>>,
    doorbell: Box<dyn Fn() + Send + Sync>,
}

impl ReadWaiter {
    /// `doorbell` is rung on the reading thread, once per read; so it does little.
    pub fn new(doorbell: impl Fn() + Send + Sync + 'static) -> ReadWaiter {
        ReadWaiter { inner: Arc::new(Inner { completions: Mutex::default(), doorbell: Box::new(doorbell) }) }
    }

    /// Takes all there are, in the order they were asked for.
    pub fn take(&self) -> Vec<ReadCompletion> {
        std::mem::take(&mut self.inner.completions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, completion: ReadCompletion) {
        self.inner.completions.lock().unwrap_or_else(PoisonError::into_inner).push(completion);
        (self.inner.doorbell)();
    }
}

struct Read {
    place: Place,
    count: u32,
    ticket: u64,
    waiter: ReadWaiter,
}

/// The thread that reads. Dropping it ends it; what was asked for is read first.
pub struct Reads {
    asked: Option<SyncSender<Read>>,
    thread: Option<JoinHandle<()>>,
}

impl Reads {
    pub fn start(reader: Reader) -> std::io::Result<Reads> {
        let (asked, asks) = sync_channel(READS_WAITING_MAX);
        let thread = std::thread::Builder::new().name("journal-reads".to_owned()).spawn(move || work(reader, &asks))?;
        Ok(Reads { asked: Some(asked), thread: Some(thread) })
    }

    /// Asks for `count` records from a place on; `waiter` hears of it with this ticket.
    pub fn ask(&self, place: Place, count: u32, ticket: u64, waiter: &ReadWaiter) -> Result<(), Refused> {
        let asked = self.asked.as_ref().expect("there until it is dropped");
        asked.try_send(Read { place, count, ticket, waiter: waiter.clone() }).map_err(|err| match err {
            TrySendError::Full(_) => Refused::Waiting,
            TrySendError::Disconnected(_) => Refused::Closed,
        })
    }
}

impl Drop for Reads {
    fn drop(&mut self) {
        drop(self.asked.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the thread that reads the journal panicked");
        }
    }
}

fn work(mut reader: Reader, asks: &Receiver<Read>) {
    while let Ok(Read { place, count, ticket, waiter }) = asks.recv() {
        let entries = reader.read_run(place, count);
        waiter.push(ReadCompletion { ticket, entries });
    }
}
