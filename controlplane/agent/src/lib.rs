//! Brings the tenants from the database to the shards, and survives the database.
//!
//! ```text
//! database ──poll generation──► changes ──► Snapshot::apply ──► publish(Arc<Snapshot>)   to the shards
//!                                  ├──────► snapshot.json, .changes     for a start without database
//!                                  └──────► agent.sock                  to other processes of this data directory
//! ```
//! One task per process. At start the last good snapshot comes from disk first, so a gateway serves whatever else is
//! down. A database that cannot be asked, or whose rows make no snapshot, changes nothing: the last good one stays. A
//! disk that is full or read-only keeps nothing from the shards: writing is tried again, and [`Status`] says so.
//!
//! Of the processes that share a data directory one owns the files: it holds their lock, asks the database, writes, and
//! pushes to the others ([`wire`], `WIRE.md`). Whoever can neither own nor follow asks the database itself and tries again.
//!
//! The other way go events for the audit log that shards tell ([`audit`]): to the database, or to the owner that has one.
//!
//! Loading, building and writing happen on threads of their own: neither the shards nor the manager wait for a million
//! rows.

pub mod audit;
mod feed;
mod follow;
mod ledger;
pub mod limits;
mod server;
pub mod shares;
pub mod standing;
mod store;
pub mod wire;
mod worker;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use authdb::{AuthDb, AuthDbError};
use model::ids::Generation;
use model::{AuditEvent, Snapshot, SnapshotError};
use tokio::sync::{mpsc, oneshot, watch};

pub use feed::{Feed, Shards};
pub use ledger::share_limits;
pub use server::Consumer;
pub use store::open_db;
pub use worker::socket_path;

use worker::Worker;

/// What an agent works with.
pub struct AgentConfig {
    /// `None`: there is only what another process pushes. Such an agent never owns the files: it would keep them from
    /// whoever can say what is new.
    pub db: Option<Arc<dyn AuthDb>>,
    /// Where the last good snapshot is kept.
    pub snapshot_path: PathBuf,
    /// Where processes of the same data directory meet. `None`: there are no others.
    pub socket_path: Option<PathBuf>,
    /// What this process is called by others.
    pub node: String,
    /// Generations that every shard has taken, if the shards say so. `refresh` then returns only after they have.
    pub applied: Option<watch::Receiver<Generation>>,
    pub poll_period: Duration,
    /// What shards tell for the audit log ([`audit::channel`]).
    pub audit: Option<std::sync::mpsc::Receiver<AuditEvent>>,
}

impl AgentConfig {
    pub fn new(db: Arc<dyn AuthDb>, snapshot_path: PathBuf) -> Self {
        Self {
            db: Some(db),
            snapshot_path,
            socket_path: None,
            node: std::process::id().to_string(),
            applied: None,
            poll_period: limits::POLL_PERIOD,
            audit: None,
        }
    }
}

/// Where the snapshot in force came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nothing could be loaded: everybody is refused.
    Nothing,
    /// Written by an earlier run; nobody has confirmed it yet.
    Disk,
    /// The database, or the process that asks it for all.
    Database,
}

/// What a process is to the others of its data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Writes the files, pushes to the others.
    Owner,
    /// Is pushed to.
    Follower,
    /// Neither can be had right now: asks the database itself, writes nothing.
    Alone,
}

/// How the agent is doing.
#[derive(Debug, Clone)]
pub struct Status {
    pub generation: Generation,
    pub source: Source,
    pub part: Part,
    /// When somebody who knows said last that there is nothing newer. `None`: not since the start.
    pub confirmed_at: Option<Instant>,
    /// Why nobody can be asked right now, and since when.
    pub trouble: Option<(String, Instant)>,
    /// Why the files say something older than what is in force, and since when.
    pub unwritten: Option<(String, Instant)>,
    /// Who uses this agent's result.
    pub consumers: Vec<Consumer>,
    pub audit: AuditStatus,
}

/// What became of this process's events for the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditStatus {
    /// They have no row yet, as far as is known here.
    pub waiting: usize,
    /// They will have none: too many waited.
    pub dropped: u64,
}

/// Why the tenants could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    #[error(transparent)]
    Database(#[from] AuthDbError),
    #[error("the database's rows make no snapshot")]
    Snapshot(#[from] SnapshotError),
    #[error("the shards have not taken generation {generation} within {} s", limits::APPLIED_TIMEOUT.as_secs())]
    NotApplied { generation: Generation },
    /// As one look found that several waited for.
    #[error("{0}")]
    Looked(String),
    #[error("there is no database to ask here")]
    NoDatabase,
    #[error("the agent has stopped")]
    Stopped,
}

impl RefreshError {
    /// The same to somebody else who waited for it.
    fn again(&self) -> Self {
        Self::Looked(with_causes(self))
    }
}

/// A handle to the running agent. It stops with `stop`, or when the last handle is gone.
#[derive(Clone)]
pub struct Agent {
    commands: mpsc::Sender<Command>,
    state: Arc<Mutex<State>>,
    applied: Option<watch::Receiver<Generation>>,
    started_at: Instant,
}

enum Command {
    Refresh(oneshot::Sender<Result<Generation, RefreshError>>),
    Stop(oneshot::Sender<()>),
}

struct State {
    snapshot: Arc<Snapshot>,
    source: Source,
    part: Part,
    confirmed_at: Option<Instant>,
    trouble: Option<(String, Instant)>,
    unwritten: Option<(String, Instant)>,
    consumers: Vec<Consumer>,
    audit: AuditStatus,
}

impl Agent {
    /// Publishes the snapshot from disk, if there is one, then that of the database, if it answers in time, and goes
    /// on polling in a task of the current tokio runtime. When this returns, `publish` has been called at least once.
    ///
    /// `publish` must not block: it hands the snapshot over.
    pub async fn start(config: AgentConfig, publish: impl Fn(Arc<Snapshot>) + Send + 'static) -> Agent {
        let started_at = Instant::now();
        let applied = config.applied.clone();
        let state = Arc::new(Mutex::new(State {
            snapshot: Arc::new(Snapshot::empty()),
            source: Source::Nothing,
            part: Part::Alone,
            confirmed_at: None,
            trouble: None,
            unwritten: None,
            consumers: Vec::new(),
            audit: AuditStatus::default(),
        }));
        let (commands, inbox) = mpsc::channel(limits::REFRESHES_MAX);
        let mut worker = Worker::begin(config, publish, Arc::clone(&state)).await;
        let has_nothing = lock(&state).source == Source::Nothing;
        let patience = if has_nothing { limits::FIRST_LOAD_TIMEOUT } else { limits::FIRST_LOOK_TIMEOUT };
        if tokio::time::timeout(patience, worker.first_look()).await.is_err() {
            tracing::warn!("database does not answer, starting with the snapshot at hand");
        }
        tokio::spawn(worker.run(inbox));
        Agent { commands, state, applied, started_at }
    }

    /// Looks at the database now. When this returns, changes made before the call are in force here: handed to
    /// `publish`, and taken by the shards if [`AgentConfig::applied`] says so.
    pub async fn refresh(&self) -> Result<Generation, RefreshError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Refresh(reply)).await.map_err(|_| RefreshError::Stopped)?;
        let generation = answer.await.map_err(|_| RefreshError::Stopped)??;
        if let Some(applied) = &self.applied {
            let mut applied = applied.clone();
            // Closed: the shards are gone, there is nobody to wait for.
            let wait = applied.wait_for(|applied| applied.includes(generation));
            if tokio::time::timeout(limits::APPLIED_TIMEOUT, wait).await.is_err() {
                return Err(RefreshError::NotApplied { generation });
            }
        }
        Ok(generation)
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&lock(&self.state).snapshot)
    }

    pub fn status(&self) -> Status {
        let state = lock(&self.state);
        Status {
            generation: state.snapshot.generation,
            source: state.source,
            part: state.part,
            confirmed_at: state.confirmed_at,
            trouble: state.trouble.clone(),
            unwritten: state.unwritten.clone(),
            consumers: state.consumers.clone(),
            audit: state.audit,
        }
    }

    /// For how long a change made elsewhere may have been missed: since somebody who knows said that this is the newest,
    /// or since the start.
    pub fn staleness(&self, now: Instant) -> Duration {
        let since = lock(&self.state).confirmed_at.unwrap_or(self.started_at);
        now.saturating_duration_since(since)
    }

    /// Ends the task. What shards told before is written, if that is soon done.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Stop(reply)).await.is_ok() {
            let _ = done.await;
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_causes(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        let next = err.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = err.source();
    }
    text
}
