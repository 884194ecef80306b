//! Names to addresses without stopping a shard: the system's resolver blocks, sometimes for many seconds, so it
//! runs on up to [`RESOLVER_THREADS_MAX`] threads of the process, started when needed and ended when idle. Answers
//! return through a mailbox.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::limits::{RESOLVER_IDLE, RESOLVER_QUEUE_MAX, RESOLVER_THREADS_MAX};
use crate::mailbox::{Sender, mailbox};

type Answer = io::Result<Vec<SocketAddr>>;

struct Job {
    host: String,
    port: u16,
    reply: Sender<Answer>,
}

/// Shared by the process. Held for a push or a pop, never while resolving.
static STATE: Mutex<State> = Mutex::new(State { jobs: VecDeque::new(), idle: 0, threads: 0 });
static WORK: Condvar = Condvar::new();

struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The addresses of `host` in the system's order of preference. May be dropped; the lookup then ends unheard.
pub(super) async fn lookup(host: &str, port: u16) -> Answer {
    let (reply, mut answer) = mailbox(1);
    submit(Job { host: host.to_owned(), port, reply })?;
    answer.recv().await.unwrap_or_else(|| Err(io::Error::other("resolver gave no answer")))
}

fn submit(job: Job) -> io::Result<()> {
    let mut state = state();
    if state.jobs.len() >= RESOLVER_QUEUE_MAX {
        return Err(io::Error::new(
            io::ErrorKind::WouldBlock,
            format!("{RESOLVER_QUEUE_MAX} names are already waiting for the system's resolver"),
        ));
    }
    state.jobs.push_back(job);
    if state.idle >= state.jobs.len() || state.threads >= RESOLVER_THREADS_MAX {
        WORK.notify_one();
        return Ok(());
    }
    state.threads += 1;
    drop(state);
    if let Err(err) = std::thread::Builder::new().name("resolver".to_owned()).spawn(serve) {
        let mut state = self::state();
        state.threads -= 1;
        if state.threads == 0 {
            state.jobs.clear();
            return Err(err);
        }
    }
    Ok(())
}

fn serve() {
    let mut state = state();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            let found = (job.host.as_str(), job.port).to_socket_addrs().map(Iterator::collect);
            // Full is impossible, closed means that the connect was given up.
            let _ = job.reply.try_send(found);
            state = self::state();
            continue;
        }
        state.idle += 1;
        let (woken, waited) = WORK.wait_timeout(state, RESOLVER_IDLE).unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.idle -= 1;
        if waited.timed_out() && state.jobs.is_empty() {
            state.threads -= 1;
            return;
        }
    }
}
