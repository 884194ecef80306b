//! A single-node Kafka broker in one process: durable, small, and able to misbehave on request.
//!
//! One piece, four uses: `quickstart`, tests, fault injection ([`Hooks`]), and the null broker for measurements
//! ([`EmbeddedConfig::null`]). Not for production: production is Apache Kafka.
//!
//! ```text
//!  kafka-broker thread (runtime shard, unpinned)                          the disk's thread
//!  listener ─▶ connection ─▶ broker ─▶ dispatch ─▶ apis/*.rs ─▶ state ──write──▶ page cache
//!                  ▲            │  ◀─── an outcome ────┘                    │
//!                  └── slots ◀──┴─ waiting ◀───────── doorbell ◀──────── fdatasync
//! ```
//!
//! The rooms, from the top; each knows those below it and none beside or above (tidy test):
//!
//! ```text
//! connection     frames in, answers out, in order
//! broker           a request's outcome becomes an answer, or a place to wait
//! dispatch         the lists of requests · waiting  for the disk, records, the coordinator, a fault's delay; slots
//! apis               one file per API: a request and the state in, an outcome out
//! state                catalogue, topics, partitions, offsets, options; what time alone does
//! groups                 the coordinator, pure · storage  logs, journals, group commit
//! ground: limits, clock, hooks, refusal, sentence
//! ```
//!
//! Durability: acks=all, commits, and changes to topics are answered after an fdatasync that covers them (one call
//! for all that wait); acks=1 and 0 after the write. Consumers see only what is durable. `kill -9` and power cuts lose
//! nothing that was answered so: a simulated disk says so from thousands of seeds (`simulation.rs`). A failed fsync
//! poisons its file until the next start, loudly.
//!
//! Reading order: `broker.rs`, `dispatch.rs`, `apis/produce.rs`, `state/mod.rs`, `state/partition.rs`, `storage/log/`,
//! `storage/syncer.rs`; then `groups/`. What lies on disk: FORMAT.md, `state/data_dir.rs`.

mod apis;
mod broker;
mod clock;
mod connection;
mod dispatch;
mod groups;
mod hooks;
mod limits;
mod refusal;
mod sentence;
#[cfg(test)]
mod simulation;
mod state;
mod storage;
mod waiting;

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use disk::{Disk, Files, Operation};
use runtime::mailbox::{Receiver, Sender, mailbox};
use runtime::net::Listener;
use runtime::notify::Notify;
use runtime::{Either, ShardOptions, race, spawn, spawn_shard};
use tracing::{debug, error, info, warn};

pub use hooks::{Fault, Hooks};
pub use limits::NODE_ID;

use crate::broker::Broker;
use crate::clock::Now;
use crate::limits::{CONNECTIONS_MAX, NULL_PARTITIONS, OFFSETS_RETENTION_DEFAULT, RETENTION_CHECK_EVERY};
use crate::state::BrokerConfig;

/// How to start a broker. Take `..EmbeddedConfig::default()` for the rest.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Port 0: any free one.
    pub listen: SocketAddr,
    /// Everything durable lives here; made when missing. Unused in null mode.
    pub data_dir: PathBuf,
    /// Empty: made up at the first start and kept.
    pub cluster_id: String,
    /// Partitions of a topic made without saying how many.
    pub default_partitions: i32,
    /// Whether asking for a topic's metadata makes it.
    pub auto_create: bool,
    /// Accept everything, keep nothing: for measurements.
    pub null: bool,
    /// Offsets of a group that nobody uses are kept this long.
    pub offsets_retention: Duration,
    /// Faults to inject; keep a clone to steer them.
    pub hooks: Hooks,
    /// How often old records are looked for, which may thus stay so much longer than their topic says.
    pub retention_check_every: Duration,
    /// Host name clients are told. None: the listen address, or `localhost` when that is all addresses.
    pub advertised_host: Option<String>,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        EmbeddedConfig {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            data_dir: PathBuf::new(),
            cluster_id: String::new(),
            default_partitions: NULL_PARTITIONS,
            auto_create: true,
            null: false,
            offsets_retention: OFFSETS_RETENTION_DEFAULT,
            hooks: Hooks::default(),
            retention_check_every: RETENTION_CHECK_EVERY,
            advertised_host: None,
        }
    }
}

/// A running broker; dropping it stops it.
pub struct EmbeddedKafka {
    addr: SocketAddr,
    hooks: Hooks,
    events: Sender<Event>,
    thread: Option<JoinHandle<()>>,
    /// Held while the data directory is ours.
    _lock: Option<File>,
}

enum Event {
    /// The disk did something it was asked for.
    Synced,
    Stop,
}

/// Room for one of each event; more would say nothing new.
const EVENTS_MAX: usize = 4;

impl EmbeddedKafka {
    /// Binds, recovers, and returns when clients can connect.
    pub fn start(config: EmbeddedConfig) -> io::Result<EmbeddedKafka> {
        let descriptors = runtime::descriptors::raise_limit();
        info!(descriptors, "open files and connections this process may have");
        let lock = if config.null { None } else { Some(lock_data_dir(&config.data_dir)?) };
        let (addr, listener) = runtime::net::bind(config.listen)?;
        let host = match config.advertised_host {
            Some(host) => host,
            None if addr.ip().is_unspecified() => "localhost".to_owned(),
            None => addr.ip().to_string(),
        };
        let broker_config = BrokerConfig {
            data_dir: config.data_dir,
            cluster_id: config.cluster_id,
            host,
            port: addr.port(),
            default_partitions: config.default_partitions.max(1),
            auto_create: config.auto_create,
            null: config.null,
            offsets_retention: config.offsets_retention,
            retention_check_every: config.retention_check_every,
        };
        let hooks = config.hooks.clone();
        let (events, inbox) = mailbox(EVENTS_MAX);
        let disk = match config.null {
            true => None,
            false => Some(start_disk(hooks.clone(), events.clone())?),
        };
        let (opened, opening) = mpsc::sync_channel(1);
        let options = ShardOptions { cpu: None, ..ShardOptions::named("kafka-broker") };
        let thread = spawn_shard(options, move |_| async move {
            let timer = Notify::new();
            let opening = Broker::open(broker_config, config.hooks, disk, timer.clone(), Now::read())
                .and_then(|broker| Ok((broker, Listener::from_std(listener)?)));
            match opening {
                Ok((broker, listener)) => {
                    let _ = opened.send(Ok(()));
                    run(Rc::new(RefCell::new(broker)), listener, inbox, timer).await;
                }
                Err(err) => drop(opened.send(Err(err))),
            }
        })?;
        let started = opening.recv().unwrap_or_else(|_| Err(io::Error::other("the broker's thread ended early")));
        let broker = EmbeddedKafka { addr, hooks, events, thread: Some(thread), _lock: lock };
        started.map(|()| broker)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `host:port` for clients' bootstrap.
    pub fn bootstrap(&self) -> String {
        self.addr.to_string()
    }

    /// Steers faults and counts requests.
    pub fn hooks(&self) -> Hooks {
        self.hooks.clone()
    }

    /// Closes every connection, syncs what was asked to be synced, and waits until the threads have ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        while let Err(runtime::mailbox::TrySendError::Full(_)) = self.events.try_send(Event::Stop) {
            std::thread::yield_now();
        }
        if thread.join().is_err() {
            error!("the broker's thread panicked");
        }
    }
}

impl Drop for EmbeddedKafka {
    fn drop(&mut self) {
        self.end();
    }
}

/// The shard's main: everything else runs in tasks that end with it.
async fn run(broker: Rc<RefCell<Broker>>, listener: Listener, mut inbox: Receiver<Event>, timer: Notify) {
    drop(spawn(accept(Rc::clone(&broker), listener)));
    drop(spawn(keep_time(Rc::clone(&broker), timer)));
    while let Some(event) = inbox.recv().await {
        match event {
            Event::Synced => broker.borrow_mut().on_synced(),
            Event::Stop => return,
        }
    }
}

async fn accept(broker: Rc<RefCell<Broker>>, listener: Listener) {
    let open = Rc::new(Cell::new(0_usize));
    loop {
        let (stream, addr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(err) => {
                error!(%err, "the broker's listener is of no use any more");
                return;
            }
        };
        if open.get() >= CONNECTIONS_MAX {
            warn!(peer = %addr, limit = CONNECTIONS_MAX, "too many connections, closing this one");
            continue;
        }
        open.set(open.get() + 1);
        let (broker, open) = (Rc::clone(&broker), Rc::clone(&open));
        drop(spawn(async move {
            connection::serve(stream, addr, broker).await;
            open.set(open.get() - 1);
        }));
    }
}

async fn keep_time(broker: Rc<RefCell<Broker>>, timer: Notify) {
    loop {
        let at = broker.borrow_mut().arm_timer();
        match race(timer.notified(), runtime::time::sleep_until(at)).await {
            Either::First(()) => {}
            Either::Second(()) => broker.borrow_mut().on_timer(Now::read()),
        }
    }
}

/// Real-time level of the disk's thread: just above ordinary threads.
const DISK_PRIORITY: u8 = 1;

fn start_disk(hooks: Hooks, doorbell: Sender<Event>) -> io::Result<Arc<dyn Disk>> {
    let before = move |operation: &Operation| match operation {
        Operation::Persist { .. } => hooks.before_sync(),
        _ => Ok(()),
    };
    let prepare = || {
        if let Err(err) = runtime::priority::realtime(DISK_PRIORITY) {
            debug!(%err, "the disk's thread runs at ordinary priority: with all cores busy a commit takes milliseconds");
        }
    };
    // A full mailbox already holds an event that makes the broker look.
    let ring = move || drop(doorbell.try_send(Event::Synced));
    Ok(Arc::new(Files::start(before, prepare, ring)?))
}

/// Two brokers on one directory would each overwrite the other's log.
fn lock_data_dir(dir: &std::path::Path) -> io::Result<File> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let message = format!("{} is in use by another broker", dir.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, message))
        }
        Err(std::fs::TryLockError::Error(err)) => Err(err),
    }
}
