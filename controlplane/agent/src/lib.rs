//! Brings the tenants from the database to the shards, and survives the database.
//!
//! ```text
//! database ──poll generation──► load ──► Snapshot::build ──► publish(Arc<Snapshot>)   to the shards
//!                                  └───► snapshot.json (for a start without database)
//! ```
//! One task per process. At start the last good snapshot comes from disk first, so a gateway serves whatever else is
//! down. A database that cannot be asked, or whose rows make no snapshot, changes nothing: the last good one stays.

pub mod disk;
pub mod limits;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authdb::{AuthDb, AuthDbError};
use model::ids::Generation;
use model::{Snapshot, SnapshotDoc, SnapshotError};
use tokio::sync::{mpsc, oneshot, watch};

/// What an agent works with.
pub struct AgentConfig {
    pub db: AuthDb,
    /// Where the last good snapshot is kept.
    pub snapshot_path: PathBuf,
    /// Generations that every shard has taken, if the shards say so. `refresh` then returns only after they have.
    pub applied: Option<watch::Receiver<Generation>>,
    pub poll_period: Duration,
}

impl AgentConfig {
    pub fn new(db: AuthDb, snapshot_path: PathBuf) -> Self {
        Self { db, snapshot_path, applied: None, poll_period: limits::POLL_PERIOD }
    }
}

/// Where the snapshot in force came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nothing could be loaded: everybody is refused.
    Nothing,
    /// Written by an earlier run; the database has not answered yet.
    Disk,
    Database,
}

/// How the agent is doing.
#[derive(Debug, Clone)]
pub struct Status {
    pub generation: Generation,
    pub source: Source,
    /// Why the database cannot be asked right now, and since when.
    pub trouble: Option<(String, Instant)>,
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
    #[error("the agent has stopped")]
    Stopped,
}

/// A handle to the running agent. It stops with `stop`, or when the last handle is gone.
#[derive(Clone)]
pub struct Agent {
    commands: mpsc::Sender<Command>,
    state: Arc<Mutex<State>>,
}

enum Command {
    Refresh(oneshot::Sender<Result<Generation, RefreshError>>),
    Stop(oneshot::Sender<()>),
}

struct State {
    snapshot: Arc<Snapshot>,
    source: Source,
    trouble: Option<(String, Instant)>,
}

impl Agent {
    /// Publishes the snapshot from disk, if there is one, then that of the database, if it answers in time, and goes
    /// on polling in a task of the current tokio runtime. When this returns, `publish` has been called at least once.
    ///
    /// `publish` must not block: it hands the snapshot over.
    pub async fn start(config: AgentConfig, publish: impl Fn(Arc<Snapshot>) + Send + 'static) -> Agent {
        let from_disk = disk::read_snapshot(&config.snapshot_path).await;
        let source = if from_disk.is_some() { Source::Disk } else { Source::Nothing };
        let snapshot = Arc::new(from_disk.unwrap_or_else(Snapshot::empty));
        publish(Arc::clone(&snapshot));
        let state = Arc::new(Mutex::new(State { snapshot, source, trouble: None }));

        let (commands, inbox) = mpsc::channel(limits::REFRESHES_MAX);
        let mut worker = Worker { config, publish, state: Arc::clone(&state), complained_at: None };
        let first = worker.poll();
        if tokio::time::timeout(limits::FIRST_LOOK_TIMEOUT, first).await.is_err() {
            tracing::warn!("database does not answer, starting with the snapshot at hand");
        }
        tokio::spawn(worker.run(inbox));
        Agent { commands, state }
    }

    /// Looks at the database now. When this returns, changes made before the call are in force: handed to `publish`,
    /// and taken by the shards if [`AgentConfig::applied`] says so.
    pub async fn refresh(&self) -> Result<Generation, RefreshError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Refresh(reply)).await.map_err(|_| RefreshError::Stopped)?;
        answer.await.map_err(|_| RefreshError::Stopped)?
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&lock(&self.state).snapshot)
    }

    pub fn status(&self) -> Status {
        let state = lock(&self.state);
        Status { generation: state.snapshot.generation, source: state.source, trouble: state.trouble.clone() }
    }

    /// Ends the task.
    pub async fn stop(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Stop(reply)).await.is_ok() {
            let _ = done.await;
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().expect("nobody panics while holding the agent's state")
}

struct Worker<P> {
    config: AgentConfig,
    publish: P,
    state: Arc<Mutex<State>>,
    complained_at: Option<Instant>,
}

impl<P: Fn(Arc<Snapshot>) + Send + 'static> Worker<P> {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut ticks = tokio::time::interval(self.config.poll_period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stopped = loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Refresh(reply)) => {
                        let result = self.refresh().await;
                        // Nobody waits any more: fine, the work is done.
                        let _ = reply.send(result);
                    }
                    Some(Command::Stop(reply)) => break Some(reply),
                    None => break None,
                },
                _ = ticks.tick() => {
                    let _ = self.poll().await;
                }
            }
        };
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    async fn refresh(&mut self) -> Result<Generation, RefreshError> {
        let generation = self.poll().await?;
        if let Some(applied) = &mut self.config.applied {
            // Closed: the shards are gone, there is nobody to wait for.
            let wait = applied.wait_for(|applied| *applied == generation);
            if tokio::time::timeout(limits::APPLIED_TIMEOUT, wait).await.is_err() {
                return Err(RefreshError::NotApplied { generation });
            }
        }
        Ok(generation)
    }

    /// One look at the database, and everything that follows from it.
    async fn poll(&mut self) -> Result<Generation, RefreshError> {
        let polled = self.load_if_changed().await;
        match &polled {
            Ok(_) => self.trouble_is_over(),
            Err(err) => self.complain(err),
        }
        polled
    }

    async fn load_if_changed(&mut self) -> Result<Generation, RefreshError> {
        let generation = self.config.db.generation().await?;
        let (in_force, source) = {
            let state = lock(&self.state);
            (state.snapshot.generation, state.source)
        };
        if generation == in_force && source == Source::Database {
            return Ok(generation);
        }
        let doc = self.config.db.load().await?;
        let snapshot = Arc::new(Snapshot::build(doc.clone())?);
        let generation = snapshot.generation;
        if generation < in_force {
            tracing::warn!(%generation, before = %in_force, "database is older than the snapshot in force (restored?)");
        }
        tracing::info!(
            %generation,
            apps = snapshot.app_count(),
            topics = snapshot.topic_count(),
            "tenants loaded from the database"
        );
        {
            let mut state = lock(&self.state);
            (state.snapshot, state.source) = (Arc::clone(&snapshot), Source::Database);
        }
        (self.publish)(snapshot);
        self.persist(doc).await;
        Ok(generation)
    }

    /// A disk that is full must not keep a change from the shards: it is reported, and tried again with the next one.
    async fn persist(&mut self, doc: SnapshotDoc) {
        if let Err(err) = disk::write_snapshot(&self.config.snapshot_path, doc).await {
            tracing::error!(
                path = %self.config.snapshot_path.display(),
                %err,
                "snapshot could not be written, a start without database would use the one before"
            );
        }
    }

    fn complain(&mut self, err: &RefreshError) {
        let now = Instant::now();
        let text = with_causes(err);
        let mut state = lock(&self.state);
        let since = state.trouble.as_ref().map_or(now, |(_, since)| *since);
        state.trouble = Some((text.clone(), since));
        if self.complained_at.is_none_or(|at| now.duration_since(at) >= limits::COMPLAIN_PERIOD) {
            self.complained_at = Some(now);
            let generation = state.snapshot.generation;
            tracing::warn!(err = text, %generation, "tenants cannot be brought up to date, serving the last good ones");
        }
    }

    fn trouble_is_over(&mut self) {
        self.complained_at = None;
        if let Some((_, since)) = lock(&self.state).trouble.take() {
            tracing::info!(seconds = since.elapsed().as_secs(), "database answers again");
        }
    }
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
