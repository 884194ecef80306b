//! The shards of one server: started together, watched together, ended together.
//!
//! A panic ends its own shard and no other, so somebody has to hear of it: the other shards, which must hand the dead one
//! nothing any more, and whoever runs the process, who drains what is left and ends it. The [`Roll`] is told at the panic
//! itself, before the shard's sockets are closed.

use std::any::Any;
use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::shard::{Driver, ShardOptions, spawn_watched};

/// A shard that ended by a panic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard} panicked: {message}")]
pub struct Fallen {
    pub shard: usize,
    /// What the panic said, on one line. It may carry values of requests: for the log, not for clients.
    pub message: String,
}

/// Which shards have fallen. Shared by the shards and whoever watches them; written by the one that falls.
#[derive(Debug, Clone)]
pub struct Roll {
    has_fallen: Arc<[AtomicBool]>,
    /// In the order they fell.
    fallen: Arc<Mutex<Vec<Fallen>>>,
}

impl Roll {
    pub fn new(shard_count: usize) -> Roll {
        Roll { has_fallen: (0..shard_count).map(|_| AtomicBool::new(false)).collect(), fallen: Arc::default() }
    }

    pub fn has_fallen(&self, shard: usize) -> bool {
        self.has_fallen[shard].load(Ordering::Acquire)
    }

    /// All that have, in the order they did.
    pub fn fallen(&self) -> Vec<Fallen> {
        self.lock().clone()
    }

    /// A sentence for each of them that anybody may read.
    pub fn reasons(&self) -> Vec<String> {
        self.lock().iter().map(|fallen| format!("shard {} has failed", fallen.shard)).collect()
    }

    pub(crate) fn note(&self, shard: usize, payload: &(dyn Any + Send)) {
        let mut fallen = self.lock();
        // What falls while the shard closes follows from the first.
        if !self.has_fallen[shard].swap(true, Ordering::AcqRel) {
            fallen.push(Fallen { shard, message: words_of(payload) });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Fallen>> {
        self.fallen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn words_of(payload: &(dyn Any + Send)) -> String {
    let words = payload.downcast_ref::<String>().map(String::as_str);
    let words = words.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The threads of one server's shards. Dropping it does not end them.
#[derive(Debug)]
pub struct Crew {
    roll: Roll,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Crew {
    pub fn new(roll: Roll) -> Crew {
        Crew { roll, threads: Mutex::default() }
    }

    /// Starts the next shard, see [`crate::spawn_shard`]; the first is shard 0.
    pub fn start<M, F>(&self, options: ShardOptions, main: M) -> io::Result<()>
    where
        M: FnOnce(Driver) -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let mut threads = self.lock();
        let (roll, shard) = (self.roll.clone(), threads.len());
        threads.push(spawn_watched(options, move |payload| roll.note(shard, payload), main)?);
        Ok(())
    }

    /// Those that ended by a panic, in the order they did.
    pub fn fallen(&self) -> Vec<Fallen> {
        self.roll.fallen()
    }

    /// True when every shard has ended.
    pub fn is_finished(&self) -> bool {
        self.lock().iter().all(JoinHandle::is_finished)
    }

    /// Waits for all of them; the error is the first that fell. The second call finds none.
    pub fn join(&self) -> Result<(), Fallen> {
        let threads = std::mem::take(&mut *self.lock());
        for thread in threads {
            drop(thread.join()); // the roll knows how it ended
        }
        self.fallen().into_iter().next().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
