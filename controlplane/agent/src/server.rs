//! Pushes what the agent publishes to other processes, over a Unix socket.
//!
//! A consumer says what it has; it is sent what leads on from there, or a snapshot, then every change as it happens. What
//! it does not acknowledge in time, or says it could not use, is sent again as a snapshot: to the same connection if it
//! asks, to a new one if it was cut off.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use authdb::{AuthDb, AuthDbError};
use model::ids::Generation;
use model::{ChangesDoc, ReportedEvent, Snapshot};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::limits::{
    ACKNOWLEDGED_WITHIN, ALIVE_PERIOD, AUDIT_BATCH_EVENTS_MAX, CHANGES_QUEUED_MAX, COMPLAIN_PERIOD, CONSUMERS_MAX,
    HELLO_WITHIN,
};
use crate::store::Raw;
use crate::wire::{self, Alive, Events, Frame, Recorded, Welcome};

/// Who uses this agent's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    pub node: String,
    /// What it has acknowledged. `None`: nothing yet.
    pub applied: Option<Generation>,
}

/// What is asked of the agent for a consumer that needs everything.
pub(crate) type AskForAll = oneshot::Sender<Option<Raw>>;

/// What consumers are told all the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beat {
    pub generation: Generation,
    pub confirmed_at: Option<Instant>,
}

/// A listening socket. Dropping it hangs up on everybody.
pub(crate) struct Server {
    shared: Arc<Shared>,
    path: PathBuf,
    accepting: tokio::task::JoinHandle<()>,
}

struct Shared {
    consumers: Mutex<BTreeMap<u64, Entry>>,
    beat: watch::Receiver<Beat>,
    ask: mpsc::Sender<AskForAll>,
    places: Semaphore,
    /// Where consumers' events are written.
    db: Option<Arc<dyn AuthDb>>,
    complained_at: Mutex<Option<Instant>>,
}

struct Entry {
    consumer: Consumer,
    changes: mpsc::Sender<Arc<ChangesDoc>>,
}

impl Shared {
    /// Of what cannot be written, now and then.
    fn complain(&self, err: &AuthDbError) {
        let mut complained_at = self.complained_at.lock().unwrap_or_else(PoisonError::into_inner);
        if complained_at.is_none_or(|at| at.elapsed() >= COMPLAIN_PERIOD) {
            *complained_at = Some(Instant::now());
            tracing::warn!(%err, "a consumer's events cannot be written into the audit log, it will tell them again");
        }
    }

    fn consumers(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Listens at `path`, where a process that died may have left a socket. The caller holds the agent's lock.
    pub(crate) fn listen(
        path: &Path,
        beat: watch::Receiver<Beat>,
        ask: mpsc::Sender<AskForAll>,
        db: Option<Arc<dyn AuthDb>>,
    ) -> io::Result<Self> {
        let listener = listen(path)?;
        let shared = Arc::new(Shared {
            consumers: Mutex::default(),
            beat,
            ask,
            places: Semaphore::new(CONSUMERS_MAX),
            db,
            complained_at: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { shared, path: path.to_owned(), accepting })
    }

    /// Hands a change to everybody. Whoever does not keep up is hung up on, comes back, and is sent what it lacks.
    pub(crate) fn push(&self, changes: &Arc<ChangesDoc>) {
        self.shared.consumers().retain(|_, entry| entry.changes.try_send(Arc::clone(changes)).is_ok());
    }

    /// Hangs up on everybody: what comes next does not lead on from what they have.
    pub(crate) fn start_over(&self) {
        self.shared.consumers().clear();
    }

    pub(crate) fn consumers(&self) -> Vec<Consumer> {
        self.shared.consumers().values().map(|entry| entry.consumer.clone()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.start_over();
        // Best effort: the next one to listen removes it.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A private socket, in place of whatever was there: only who holds a lock listens.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let short = Short::of(path)?;
    match std::fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    let listener = UnixListener::bind(short.path())?;
    // Its directory is private already; a file that says who may connect does not hurt.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    let mut number = 0;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(err) => {
                tracing::warn!(%err, "an agent's consumer could not be accepted");
                tokio::time::sleep(ALIVE_PERIOD).await;
                continue;
            }
        };
        number += 1;
        let (shared, number) = (Arc::clone(&shared), number);
        tokio::spawn(async move {
            let Ok(_place) = shared.places.try_acquire() else {
                tracing::warn!(limit = CONSUMERS_MAX, "an agent's consumer is one too many");
                return;
            };
            let ended = serve(stream, number, &shared).await;
            let was_known = shared.consumers().remove(&number);
            if let (Some(entry), Err(err)) = (was_known, ended) {
                tracing::info!(node = entry.consumer.node, %err, "an agent's consumer is gone");
            }
        });
    }
}

async fn serve(mut stream: UnixStream, number: u64, shared: &Arc<Shared>) -> io::Result<()> {
    let hello = tokio::time::timeout(HELLO_WITHIN, wire::read(&mut stream)).await;
    let Ok(Frame::Hello(hello)) = hello.map_err(|_| io::ErrorKind::TimedOut)? else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the first frame is not a hello"));
    };
    if hello.wire != wire::VERSION {
        let refused = format!("this agent speaks wire version {}, not {}", wire::VERSION, hello.wire);
        let welcome = Welcome { wire: wire::VERSION, refused: Some(refused), records: false };
        return wire::write(&mut stream, &Frame::Welcome(welcome)).await;
    }
    let (changes, queue) = mpsc::channel(CHANGES_QUEUED_MAX);
    let consumer = Consumer { node: hello.node.chars().take(64).collect(), applied: None };
    // Known before it is asked what it lacks: what is published from now on is queued for it.
    shared.consumers().insert(number, Entry { consumer, changes });
    let welcome = Welcome { wire: wire::VERSION, refused: None, records: shared.db.is_some() };
    wire::write(&mut stream, &Frame::Welcome(welcome)).await?;
    let (read, write) = stream.into_split();
    let (said, told) = mpsc::channel(CHANGES_QUEUED_MAX);
    let reading = tokio::spawn(listen_to(read, said));
    let mut session = Session {
        number,
        shared,
        write,
        queue,
        told,
        has: hello.have,
        sent: None,
        acknowledge_by: None,
        recording: None,
    };
    let ended = session.run().await;
    reading.abort();
    ended
}

async fn listen_to(mut read: tokio::net::unix::OwnedReadHalf, said: mpsc::Sender<Frame>) {
    while let Ok(frame) = wire::read(&mut read).await {
        if said.send(frame).await.is_err() {
            return;
        }
    }
}

/// One consumer that is connected.
struct Session<'s> {
    number: u64,
    shared: &'s Arc<Shared>,
    write: tokio::net::unix::OwnedWriteHalf,
    queue: mpsc::Receiver<Arc<ChangesDoc>>,
    told: mpsc::Receiver<Frame>,
    has: Option<Generation>,
    sent: Option<Generation>,
    acknowledge_by: Option<tokio::time::Instant>,
    /// The batch that is being written. One that is left behind by its consumer is written all the same.
    recording: Option<JoinHandle<Result<String, AuthDbError>>>,
}

impl Session<'_> {
    async fn run(&mut self) -> io::Result<()> {
        if self.has != Some(self.shared.beat.borrow().generation) {
            self.send_all().await?;
        }
        let mut beats = tokio::time::interval(ALIVE_PERIOD);
        loop {
            let late = self.acknowledge_by;
            tokio::select! {
                changes = self.queue.recv() => match changes {
                    Some(changes) => self.send_changes(&changes).await?,
                    None => return Err(io::Error::other("it did not keep up, or a new history began")),
                },
                frame = self.told.recv() => match frame {
                    Some(frame) => self.hear(frame).await?,
                    None => return Err(io::ErrorKind::ConnectionReset.into()),
                },
                recorded = ended(&mut self.recording) => {
                    self.recording = None;
                    match recorded {
                        Ok(id) => self.send(&Frame::Recorded(Recorded { id })).await?,
                        Err(err) => self.shared.complain(&err),
                    }
                }
                _ = beats.tick() => {
                    let Beat { generation, confirmed_at } = *self.shared.beat.borrow();
                    let confirmed_ms_ago = confirmed_at.map(|at| at.elapsed().as_millis() as u64);
                    self.send(&Frame::Alive(Alive { generation, confirmed_ms_ago })).await?;
                }
                () = async { tokio::time::sleep_until(late.expect("only then")).await }, if late.is_some() => {
                    let why = format!("no acknowledgement within {} s", ACKNOWLEDGED_WITHIN.as_secs());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
            }
        }
    }

    async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let sending = tokio::time::timeout(ACKNOWLEDGED_WITHIN, wire::write(&mut self.write, frame));
        sending.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn send_all(&mut self) -> io::Result<()> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the agent has stopped");
        self.shared.ask.send(reply).await.map_err(|_| gone())?;
        let Some(Raw { base, changes }) = answer.await.map_err(|_| gone())? else {
            // Nothing is known yet; what comes will be queued.
            return Ok(());
        };
        self.send(&Frame::Snapshot(base)).await?;
        self.has = None;
        for changes in changes {
            self.has = Some(changes.since);
            self.send_changes(&changes).await?;
        }
        self.expect_acknowledgement();
        Ok(())
    }

    /// Unless the consumer has it already: what is queued and what is in the files may overlap.
    async fn send_changes(&mut self, changes: &ChangesDoc) -> io::Result<()> {
        if self.has.is_some_and(|has| has.includes(changes.generation)) {
            return Ok(());
        }
        self.send(&Frame::Changes(serde_json::to_vec(changes).map_err(io::Error::other)?)).await?;
        (self.has, self.sent) = (Some(changes.generation), Some(changes.generation));
        self.expect_acknowledgement();
        Ok(())
    }

    fn expect_acknowledgement(&mut self) {
        self.acknowledge_by.get_or_insert_with(|| tokio::time::Instant::now() + ACKNOWLEDGED_WITHIN);
    }

    async fn hear(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Applied(generation) => {
                if let Some(entry) = self.shared.consumers().get_mut(&self.number) {
                    entry.consumer.applied = Some(generation);
                }
                if self.sent.is_none_or(|sent| generation.includes(sent)) {
                    self.acknowledge_by = None;
                }
                Ok(())
            }
            Frame::Failed(failed) => {
                tracing::warn!(generation = %failed.generation, why = failed.why, "a consumer asks for everything");
                self.send_all().await
            }
            Frame::Events(Events { events }) => self.record(events),
            _ => Ok(()),
        }
    }

    /// Aside: the consumer hears meanwhile that the agent lives.
    fn record(&mut self, events: Vec<ReportedEvent>) -> io::Result<()> {
        if events.len() > AUDIT_BATCH_EVENTS_MAX {
            let why = format!("a batch of {} events, allowed are {AUDIT_BATCH_EVENTS_MAX}", events.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        if self.recording.is_some() {
            // It will come again.
            return Ok(());
        }
        let (Some(db), Some(last)) = (self.shared.db.clone(), events.last()) else { return Ok(()) };
        let last = last.id.clone();
        let events: Vec<ReportedEvent> = events.into_iter().map(ReportedEvent::bounded).collect();
        self.recording = Some(tokio::spawn(async move {
            db.record_events(&events).await?;
            Ok(last)
        }));
        Ok(())
    }
}

async fn ended(recording: &mut Option<JoinHandle<Result<String, AuthDbError>>>) -> Result<String, AuthDbError> {
    match recording {
        Some(handle) => handle.await.expect("it does not panic"),
        None => std::future::pending().await,
    }
}

/// A socket's path may have 107 bytes, a data directory's more: it is reached through an open directory then.
pub(crate) struct Short {
    _dir: Option<std::fs::File>,
    path: PathBuf,
}

impl Short {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        const SOCKET_PATH_BYTES_MAX: usize = 107;
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(Self { _dir: None, path: path.to_owned() });
        }
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&dir);
        Ok(Self { path: PathBuf::from(format!("/proc/self/fd/{fd}")).join(name), _dir: Some(dir) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Nothing that a consumer could have been sent.
pub(crate) fn nothing() -> Beat {
    Beat { generation: Snapshot::empty().generation, confirmed_at: None }
}
