//! The agent's task: what it is to others, what it asks whom, and what follows from an answer.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use authdb::{AuthDb, AuthDbError};
use model::ids::Generation;
use model::{ChangesDoc, ReportedEvent, Snapshot, SnapshotDoc, SnapshotError, snapshot_file};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::audit::Audit;
use crate::follow::{Event, Follow};
use crate::limits;
use crate::server::{self, AskForAll, Beat, Server};
use crate::store::{self, Store, Written};
use crate::wire::{Alive, Events, Failed, Frame};
use crate::{AgentConfig, AuditStatus, Command, Part, RefreshError, Source, State, lock, with_causes};

pub(crate) struct Worker<P> {
    config: AgentConfig,
    publish: P,
    state: Arc<Mutex<State>>,
    role: Role,
    /// When being alone is to be mended.
    role_at: Instant,
    complained_at: Option<Instant>,
    beat: watch::Sender<Beat>,
    ask: mpsc::Sender<AskForAll>,
    asked: mpsc::Receiver<AskForAll>,
    writing: Option<JoinHandle<io::Result<Written>>>,
    write_again_at: Instant,
    write_pause: Duration,
    /// `None`: nobody tells events here.
    audit: Option<Audit>,
    recording: Option<Recording>,
}

/// Events that are being written; the id of the last one.
type Recording = JoinHandle<Result<String, AuthDbError>>;

enum Role {
    Owner(Box<Owner>),
    Follower(Follow),
    Alone,
}

struct Owner {
    _lock: File,
    /// Away while a thread writes through it.
    store: Option<Store>,
    server: Option<Server>,
}

/// How a snapshot came to be.
enum Delta {
    Changes(Arc<ChangesDoc>),
    All(Option<SnapshotDoc>),
}

impl<P: Fn(Arc<Snapshot>) + Send + 'static> Worker<P> {
    /// Serves what is on disk.
    pub(crate) async fn begin(mut config: AgentConfig, publish: P, state: Arc<Mutex<State>>) -> Self {
        let audit = config.audit.take().map(|events| Audit::new(events, &config.node));
        let (ask, asked) = mpsc::channel(limits::CONSUMERS_MAX);
        let (beat, _) = watch::channel(server::nothing());
        let now = Instant::now();
        let mut worker = Self {
            config,
            publish,
            state,
            role: Role::Alone,
            role_at: now,
            complained_at: None,
            beat,
            ask,
            asked,
            writing: None,
            write_again_at: now,
            write_pause: limits::WRITE_AGAIN_MIN,
            audit,
            recording: None,
        };
        // The lock first: what is read is then what stays.
        let held = worker.try_lock();
        let path = worker.config.snapshot_path.clone();
        let found = off_thread(move || store::read(&path)).await;
        let (snapshot, files) = match found {
            Some(found) => {
                let generation = found.snapshot.generation;
                (found.snapshot, Some((found.base, generation, found.changes, found.changes_bytes)))
            }
            None => (Snapshot::empty(), None),
        };
        if let Some(db) = &worker.config.db {
            db.has_seen(snapshot.generation);
        }
        let snapshot = Arc::new(snapshot);
        {
            let mut state = lock(&worker.state);
            state.source = if files.is_some() { Source::Disk } else { Source::Nothing };
            state.snapshot = Arc::clone(&snapshot);
        }
        (worker.publish)(snapshot);
        if let Some(held) = held {
            worker.own(held, Store::new(worker.config.snapshot_path.clone(), files));
        }
        worker
    }

    pub(crate) async fn first_look(&mut self) {
        self.take_a_role().await;
        if !matches!(self.role, Role::Follower(_)) {
            let _ = self.poll().await;
        }
    }

    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        let mut ticks = tokio::time::interval(self.config.poll_period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stopped = loop {
            tokio::select! {
                command = inbox.recv() => match command {
                    Some(Command::Refresh(reply)) => {
                        // One look serves everybody who asked before it.
                        let mut replies = vec![reply];
                        let mut stopped = None;
                        while let Ok(command) = inbox.try_recv() {
                            match command {
                                Command::Refresh(reply) => replies.push(reply),
                                Command::Stop(reply) => stopped = Some(reply),
                            }
                        }
                        let result = self.poll().await;
                        let first = replies.swap_remove(0);
                        for reply in replies {
                            // Nobody waits any more: fine, the work is done.
                            let _ = reply.send(result.as_ref().copied().map_err(RefreshError::again));
                        }
                        let _ = first.send(result);
                        if stopped.is_some() {
                            break stopped;
                        }
                    }
                    Some(Command::Stop(reply)) => break Some(reply),
                    None => break None,
                },
                _ = ticks.tick() => self.tick().await,
                event = next_event(&mut self.role) => self.hear(event).await,
                Some(reply) = self.asked.recv() => {
                    let raw = match &self.role {
                        Role::Owner(owner) => owner.store.as_ref().and_then(Store::raw),
                        _ => None,
                    };
                    let _ = reply.send(raw);
                }
                written = ended(&mut self.writing) => self.finish_writing(written).await,
                recorded = next_recorded(&mut self.recording) => self.take_recorded(recorded),
                () = changed(&mut self.config.applied), if matches!(self.role, Role::Follower(_)) => {
                    self.acknowledge();
                }
            }
        };
        self.tell_last_events().await;
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    async fn tick(&mut self) {
        if matches!(self.role, Role::Alone) && Instant::now() >= self.role_at {
            self.take_a_role().await;
        }
        if !matches!(self.role, Role::Follower(_)) {
            let _ = self.poll().await;
        }
        self.keep_written();
        self.keep_recorded();
        if let Role::Owner(owner) = &self.role {
            let consumers = owner.server.as_ref().map(Server::consumers).unwrap_or_default();
            lock(&self.state).consumers = consumers;
        }
    }

    fn in_force(&self) -> Arc<Snapshot> {
        Arc::clone(&lock(&self.state).snapshot)
    }

    // What this process is to the others.

    fn lock_path(&self) -> PathBuf {
        let mut path = self.config.snapshot_path.clone().into_os_string();
        path.push(".lock");
        path.into()
    }

    /// `None`: another process has it, the directory cannot be written, or there is nothing to own it for.
    fn try_lock(&self) -> Option<File> {
        self.config.db.as_ref()?;
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(self.lock_path());
        match file {
            Ok(file) => file.try_lock().is_ok().then_some(file),
            Err(err) => {
                tracing::debug!(%err, "the snapshot's lock cannot be opened");
                lock(&self.state).unwritten.get_or_insert_with(|| (err.to_string(), Instant::now()));
                None
            }
        }
    }

    async fn take_a_role(&mut self) {
        if !matches!(self.role, Role::Alone) {
            return;
        }
        self.role_at = Instant::now() + limits::ROLE_PERIOD;
        if let Some(held) = self.try_lock() {
            // Whoever had it may have written since this process read: all is written anew.
            self.own(held, Store::new(self.config.snapshot_path.clone(), None));
            return;
        }
        let Some(socket) = self.config.socket_path.clone() else { return };
        match Follow::connect(&socket, &self.config.node, self.in_force().generation).await {
            Ok(follow) => {
                tracing::info!("tenants come from the agent of another process");
                self.role = Role::Follower(follow);
                lock(&self.state).part = Part::Follower;
            }
            Err(err) => tracing::debug!(%err, "no agent to follow"),
        }
    }

    fn own(&mut self, held: File, store: Store) {
        let server = self.config.socket_path.as_ref().and_then(|path| {
            let server = Server::listen(path, self.beat.subscribe(), self.ask.clone(), self.config.db.clone());
            server.inspect_err(|err| tracing::warn!(%err, "no other process can follow this agent")).ok()
        });
        self.role = Role::Owner(Box::new(Owner { _lock: held, store: Some(store), server }));
        lock(&self.state).part = Part::Owner;
    }

    fn be_alone(&mut self) {
        self.role = Role::Alone;
        self.role_at = Instant::now();
        if let Some(audit) = &mut self.audit {
            audit.told_nobody();
        }
        lock(&self.state).part = Part::Alone;
    }

    // What the database says.

    /// One look at the database, and everything that follows from it.
    async fn poll(&mut self) -> Result<Generation, RefreshError> {
        let polled = self.load_if_changed().await;
        match &polled {
            Ok(_) => self.confirm(Instant::now()),
            // There is nobody to complain about.
            Err(RefreshError::NoDatabase) => {}
            Err(err) => self.complain(err),
        }
        polled
    }

    async fn load_if_changed(&mut self) -> Result<Generation, RefreshError> {
        let db = self.config.db.clone().ok_or(RefreshError::NoDatabase)?;
        let generation = db.generation().await?;
        let before = self.in_force();
        if generation == before.generation {
            return Ok(generation);
        }
        let (snapshot, delta) = off_thread_async(load(db, Arc::clone(&before))).await?;
        let generation = snapshot.generation;
        if generation.history != before.generation.history && before.generation.number > 0 {
            tracing::warn!(%generation, before = %before.generation, "database was restored, a new history is in force");
        }
        tracing::info!(
            %generation,
            apps = snapshot.app_count(),
            topics = snapshot.topic_count(),
            grants = snapshot.grant_count(),
            "tenants loaded from the database"
        );
        self.take(Arc::new(snapshot), delta).await;
        Ok(generation)
    }

    /// In force from now on; written and pushed, if that is this process's part.
    async fn take(&mut self, snapshot: Arc<Snapshot>, delta: Delta) {
        {
            // Together: whoever sees the snapshot sees where it came from.
            let mut state = lock(&self.state);
            (state.snapshot, state.source) = (Arc::clone(&snapshot), Source::Database);
        }
        (self.publish)(Arc::clone(&snapshot));
        let confirmed_at = lock(&self.state).confirmed_at;
        self.beat.send_replace(Beat { generation: snapshot.generation, confirmed_at });
        let Role::Owner(owner) = &mut self.role else {
            if self.config.applied.is_none() {
                self.acknowledge();
            }
            return;
        };
        match delta {
            Delta::Changes(changes) => {
                if let Some(mut store) = owner.store.take() {
                    let written = Arc::clone(&changes);
                    let (store, result) = off_thread(move || {
                        let result = store.append(&written);
                        (store, result)
                    })
                    .await;
                    owner.store = Some(store);
                    if let Some(server) = &owner.server {
                        server.push(&changes);
                    }
                    self.note_written(result);
                }
            }
            Delta::All(doc) => {
                if let Some(server) = &owner.server {
                    server.start_over();
                }
                if let (Some(doc), Some(store)) = (doc, &mut owner.store) {
                    self.writing = None;
                    store.abandon_rotation();
                    let path = store.begin_rotation();
                    let written = off_thread(move || store::write_aside(&path, &doc)).await;
                    self.finish_writing(written).await;
                }
            }
        }
    }

    fn confirm(&mut self, at: Instant) {
        self.complained_at = None;
        let mut state = lock(&self.state);
        state.confirmed_at = state.confirmed_at.max(Some(at));
        state.source = Source::Database;
        let (generation, confirmed_at) = (state.snapshot.generation, state.confirmed_at);
        if let Some((_, since)) = state.trouble.take() {
            tracing::info!(seconds = since.elapsed().as_secs(), "database answers again");
        }
        drop(state);
        self.beat.send_replace(Beat { generation, confirmed_at });
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

    // What the owner pushes.

    async fn hear(&mut self, event: Event) {
        let before = self.in_force();
        match event {
            Event::Snapshot(file) => {
                let built = off_thread(move || {
                    let doc = snapshot_file::decode(&file).map_err(|err| with_causes(&err))?;
                    Snapshot::build(doc).map_err(|err| err.to_string())
                });
                match built.await {
                    Ok(snapshot) => self.take(Arc::new(snapshot), Delta::All(None)).await,
                    Err(why) => self.refuse(why),
                }
            }
            Event::Changes(changes) => {
                let from = Arc::clone(&before);
                let applied = off_thread(move || {
                    let changes: ChangesDoc = serde_json::from_slice(&changes).map_err(|err| err.to_string())?;
                    if from.generation.includes(changes.generation) {
                        return Ok(None);
                    }
                    let snapshot = from.apply(changes.clone()).map_err(|err| err.to_string())?;
                    Ok(Some((snapshot, changes)))
                });
                match applied.await {
                    Ok(Some((snapshot, changes))) => {
                        self.take(Arc::new(snapshot), Delta::Changes(Arc::new(changes))).await;
                    }
                    Ok(None) => self.acknowledge(),
                    Err(why) => self.refuse(why),
                }
            }
            Event::Alive(Alive { generation, confirmed_ms_ago }) => {
                if let Some(ago) = confirmed_ms_ago
                    && before.generation.includes(generation)
                    && let Some(at) = Instant::now().checked_sub(Duration::from_millis(ago))
                {
                    self.confirm(at);
                    self.acknowledge();
                }
            }
            Event::Recorded(id) => self.take_recorded(Ok(id)),
            Event::Lost(err) => {
                tracing::info!(%err, "the agent of another process is gone");
                self.be_alone();
            }
        }
    }

    /// Tells what is in force here.
    fn acknowledge(&self) {
        let Role::Follower(follow) = &self.role else { return };
        let generation = match &self.config.applied {
            Some(applied) => *applied.borrow(),
            None => self.in_force().generation,
        };
        if generation.number > 0 {
            follow.reply(Frame::Applied(generation));
        }
    }

    fn refuse(&self, why: String) {
        let generation = self.in_force().generation;
        tracing::warn!(why, %generation, "what another process's agent sent cannot be used, asking for everything");
        if let Role::Follower(follow) = &self.role {
            follow.reply(Frame::Failed(Failed { generation, why }));
        }
    }

    // What is to stand in the audit log.

    /// Gets events written, or told to whoever writes them.
    fn keep_recorded(&mut self) {
        let Some(audit) = &mut self.audit else { return };
        let now = Instant::now();
        audit.take(now);
        if self.recording.is_none() {
            match (&self.config.db, &self.role) {
                (Some(db), _) => self.recording = audit.due(now).map(|events| record(Arc::clone(db), events)),
                (None, Role::Follower(follow)) if follow.records => {
                    if let Some(events) = audit.due(now) {
                        follow.reply(Frame::Events(Events { events }));
                    }
                }
                (None, _) => {}
            }
        }
        lock(&self.state).audit = AuditStatus { waiting: audit.waiting(), dropped: audit.dropped() };
    }

    fn take_recorded(&mut self, recorded: Result<String, AuthDbError>) {
        self.recording = None;
        let Some(audit) = &mut self.audit else { return };
        match recorded {
            Ok(id) => audit.recorded(&id),
            Err(err) => {
                audit.failed(Instant::now());
                tracing::debug!(%err, "events for the audit log cannot be written, trying on");
            }
        }
        self.keep_recorded();
    }

    fn events_waiting(&self) -> usize {
        self.audit.as_ref().map_or(0, Audit::waiting)
    }

    /// What shards have told until now is written, if that is soon done.
    async fn tell_last_events(&mut self) {
        let Some(audit) = &mut self.audit else { return };
        audit.take_last(Instant::now());
        // Whoever is away now is not waited for.
        let _ = tokio::time::timeout(limits::AUDIT_LAST_WORDS, async {
            let writes = self.config.db.is_some();
            if !writes && self.events_waiting() > 0 {
                self.take_a_role().await;
            }
            while self.events_waiting() > 0 && (writes || matches!(self.role, Role::Follower(_))) {
                self.keep_recorded();
                tokio::select! {
                    recorded = next_recorded(&mut self.recording) => self.take_recorded(recorded),
                    event = next_event(&mut self.role) => match event {
                        Event::Recorded(id) => self.take_recorded(Ok(id)),
                        Event::Lost(_) => self.be_alone(),
                        _ => {}
                    },
                    () = tokio::time::sleep(self.config.poll_period) => {}
                }
            }
        })
        .await;
        let count = self.events_waiting();
        if count > 0 {
            tracing::error!(count, "events for the audit log are lost: nobody took them before this process's end");
        }
    }

    // What is on disk.

    /// Begins a new snapshot file if one is due, on a thread of its own.
    fn keep_written(&mut self) {
        let in_force = self.in_force().generation;
        let (Role::Owner(owner), Some(db)) = (&mut self.role, &self.config.db) else { return };
        let Some(store) = &mut owner.store else { return };
        let is_due = self.writing.is_none() && Instant::now() >= self.write_again_at && in_force.number > 0;
        if !is_due || !store.wants_base(in_force) || lock(&self.state).trouble.is_some() {
            return;
        }
        let (db, path) = (Arc::clone(db), store.begin_rotation());
        let handle = tokio::runtime::Handle::current();
        self.writing = Some(tokio::task::spawn_blocking(move || {
            let doc = handle.block_on(db.load()).map_err(|err| io::Error::other(with_causes(&err)))?;
            store::write_aside(&path, &doc)
        }));
    }

    async fn finish_writing(&mut self, written: io::Result<Written>) {
        self.writing = None;
        let Role::Owner(owner) = &mut self.role else { return };
        let Some(mut store) = owner.store.take() else { return };
        let (store, result) = off_thread(move || {
            let result = match written {
                Ok(written) => store.finish_rotation(written),
                Err(err) => {
                    store.abandon_rotation();
                    Err(err)
                }
            };
            (store, result)
        })
        .await;
        owner.store = Some(store);
        self.note_written(result);
    }

    fn note_written(&mut self, result: io::Result<()>) {
        let now = Instant::now();
        let path = self.config.snapshot_path.display();
        match result {
            Ok(()) => {
                self.write_pause = limits::WRITE_AGAIN_MIN;
                if let Some((_, since)) = lock(&self.state).unwritten.take() {
                    tracing::info!(%path, seconds = since.elapsed().as_secs(), "snapshot can be written again");
                }
            }
            Err(err) => {
                self.write_again_at = now + self.write_pause;
                self.write_pause = (2 * self.write_pause).min(limits::WRITE_AGAIN_MAX);
                let mut state = lock(&self.state);
                if state.unwritten.is_none() {
                    tracing::error!(
                        %path,
                        %err,
                        "snapshot could not be written, a start without database would use the one before; trying on"
                    );
                }
                let since = state.unwritten.as_ref().map_or(now, |(_, since)| *since);
                state.unwritten = Some((err.to_string(), since));
            }
        }
    }
}

async fn load(db: Arc<dyn AuthDb>, before: Arc<Snapshot>) -> Result<(Snapshot, Delta), RefreshError> {
    if before.generation.number > 0
        && let Some(changes) = db.load_changes(before.generation).await?
    {
        match before.apply(changes.clone()) {
            Ok(snapshot) => return Ok((snapshot, Delta::Changes(Arc::new(changes)))),
            Err(err @ SnapshotError::TooMany { .. }) => return Err(err.into()),
            Err(err) => tracing::warn!(%err, "changes cannot be applied, loading everything"),
        }
    }
    let doc = db.load().await?;
    let snapshot = Snapshot::build(doc.clone())?;
    Ok((snapshot, Delta::All(Some(doc))))
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// What decodes a million rows between two awaits does it where nobody else waits.
async fn off_thread_async<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let handle = tokio::runtime::Handle::current();
    off_thread(move || handle.block_on(work)).await
}

async fn next_event(role: &mut Role) -> Event {
    match role {
        Role::Follower(follow) => follow.next().await,
        Role::Owner(_) | Role::Alone => std::future::pending().await,
    }
}

fn record(db: Arc<dyn AuthDb>, events: Vec<ReportedEvent>) -> Recording {
    tokio::spawn(async move {
        db.record_events(&events).await?;
        Ok(events.last().map_or_else(String::new, |last| last.id.clone()))
    })
}

async fn next_recorded(recording: &mut Option<Recording>) -> Result<String, AuthDbError> {
    match recording {
        Some(handle) => handle.await.expect("it does not panic"),
        None => std::future::pending().await,
    }
}

async fn ended(writing: &mut Option<JoinHandle<io::Result<Written>>>) -> io::Result<Written> {
    match writing {
        Some(handle) => handle.await.unwrap_or_else(|err| Err(io::Error::other(err))),
        None => std::future::pending().await,
    }
}

async fn changed(applied: &mut Option<watch::Receiver<Generation>>) {
    if let Some(applied) = applied
        && applied.changed().await.is_ok()
    {
        return;
    }
    // Nobody says, or the shards are gone.
    std::future::pending().await
}

/// Where processes of a data directory meet.
pub fn socket_path(data_dir: &Path) -> PathBuf {
    data_dir.join("agent.sock")
}
