//! The handle on a running proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use model::Snapshot;
use runtime::crew::{Crew, Fallen};
use runtime::line_log;
use runtime::mailbox::{Sender, TrySendError, mailbox};
use runtime::net::tls::{ClientTls, ServerTls};
use runtime::{Driver, ShardOptions};

use crate::config::ProxyConfig;
use crate::limits::{ADOPT_DEPTH, CONNECTIONS_MAX};
use crate::listeners::Listeners;
use crate::metrics::ProxyMetrics;
use crate::shard::board::Board;
use crate::shard::{self, Control, ShardParts};

/// A drain and a stop, and room to say them again.
const CONTROL_DEPTH: usize = 8;
/// Descriptors that clients leave to files, listeners and rings.
const OTHER_DESCRIPTORS: usize = 256;
/// A connection has a client's and a broker's socket.
const DESCRIPTORS_PER_CONNECTION: usize = 2;

/// A running proxy. Ends with [`Proxy::stop`].
pub struct Proxy {
    bootstrap: SocketAddr,
    board: Arc<Board>,
    metrics: Arc<ProxyMetrics>,
    control: Vec<Sender<Control>>,
    crew: Crew,
    access_log: Mutex<Option<line_log::Writer>>,
}

impl Proxy {
    /// Binds every port and starts the shards. No broker needs to be there.
    pub fn start(config: ProxyConfig) -> io::Result<Proxy> {
        let shard_count = config.shard_count.max(1);
        let descriptors = runtime::descriptors::raise_limit();
        let listeners = Listeners::bind(&config.listen, shard_count)?;
        let listening = listeners.by_shard.iter().map(Vec::len).sum::<usize>();
        let left = descriptors.saturating_sub(OTHER_DESCRIPTORS + listening);
        let connections_max = (left / DESCRIPTORS_PER_CONNECTION / shard_count).clamp(1, CONNECTIONS_MAX);
        tracing::info!(descriptors, connections_max, "client connections of each shard");
        let lines = config.tenants.as_ref().and_then(|tenants| tenants.access_log.as_deref()).map(line_log::open);
        let (lines, access_log) = lines.transpose()?.unzip();
        let board = Arc::new(Board::new(&config));
        let metrics = Arc::new(ProxyMetrics::default());
        let config = Arc::new(config);
        let (adopt, adopted): (Vec<_>, Vec<_>) = (0..shard_count).map(|_| mailbox(ADOPT_DEPTH)).unzip();
        let (control, told): (Vec<_>, Vec<_>) = (0..shard_count).map(|_| mailbox(CONTROL_DEPTH)).unzip();
        let crew = Crew::new(board.roll.clone());
        let inboxes = adopted.into_iter().zip(told);
        for (id, (shard_listeners, (adopted, told))) in listeners.by_shard.into_iter().zip(inboxes).enumerate() {
            let parts = ShardParts {
                id,
                config: Arc::clone(&config),
                naming: listeners.naming.clone(),
                board: Arc::clone(&board),
                listeners: shard_listeners,
                metrics: Arc::clone(&metrics),
                connections_max,
                adopt: adopt.clone(),
                adopted,
                control: told,
                lines: lines.clone(),
            };
            let (cpu, force) = (config.pin.then_some(id), config.driver);
            let options = ShardOptions { cpu, force, ..ShardOptions::named(format!("proxy-{id}")) };
            crew.start(options, move |driver: Driver| {
                tracing::info!(shard = id, %driver, "shard runs");
                shard::run(parts)
            })?;
        }
        Ok(Proxy { bootstrap: listeners.bootstrap, board, metrics, control, crew, access_log: Mutex::new(access_log) })
    }

    /// Where clients begin.
    pub fn bootstrap(&self) -> SocketAddr {
        self.bootstrap
    }

    /// Why this proxy should get no traffic now; empty when it may.
    pub fn unready(&self) -> Vec<String> {
        self.board.unready()
    }

    /// Prometheus text.
    pub fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// Open client connections.
    pub fn connection_count(&self) -> usize {
        self.board.crowd.total()
    }

    /// Greets clients with this certificate from now on; those that are connected stay.
    pub fn set_tls(&self, tls: ServerTls) {
        self.board.set_tls(tls);
    }

    /// Trusts and shows these to brokers from now on.
    pub fn set_upstream_tls(&self, tls: ClientTls) {
        self.board.set_upstream_tls(tls);
    }

    /// Puts these tenants in force; the number of this snapshot, for [`Proxy::applied_edition`].
    ///
    /// # Panics
    /// When this proxy has no tenants.
    pub fn set_snapshot(&self, snapshot: &Arc<Snapshot>) -> u64 {
        let edition = self.board.tenants().set_snapshot(Arc::clone(snapshot));
        self.tell(Control::Snapshot);
        edition
    }

    /// Of the newest snapshot that every shard has taken, its sessions included.
    pub fn applied_edition(&self) -> u64 {
        self.board.tenants().applied_edition()
    }

    /// Drops snapshots that no shard uses any more: on the caller's thread, not on a shard.
    pub fn drop_retired(&self) {
        self.board.tenants().drop_retired();
    }

    /// Readiness says no from now on; traffic is still served.
    pub fn announce_drain(&self) {
        self.board.set_draining();
    }

    /// Stops accepting and ends each connection once what it asked for is answered.
    pub fn drain(&self) {
        self.board.set_draining();
        self.tell(Control::Drain);
    }

    /// Ends what is left.
    pub fn stop(&self) {
        self.tell(Control::Stop);
    }

    /// True when every shard has ended.
    pub fn is_finished(&self) -> bool {
        self.crew.is_finished()
    }

    /// Shards that ended by a panic, in the order they did. The others serve on; whoever runs this proxy is to drain it.
    pub fn fallen(&self) -> Vec<Fallen> {
        self.crew.fallen()
    }

    /// Makes a shard panic, for tests of what follows.
    pub fn make_panic(&self, shard: usize) {
        let _ = self.control[shard].try_send(Control::Panic);
    }

    /// What is logged of sessions from now on goes into a new file, if the old one was renamed.
    pub fn reopen_access_log(&self) {
        if let Some(writer) = &*self.access_log.lock().unwrap_or_else(PoisonError::into_inner) {
            writer.reopen();
        }
    }

    /// Waits for the shards; the error names one that panicked.
    pub fn join(&self) -> Result<(), Fallen> {
        let ended = self.crew.join();
        if let Some(writer) = self.access_log.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = writer.join();
        }
        ended
    }

    fn tell(&self, what: Control) {
        for shard in &self.control {
            if let Err(TrySendError::Full(_)) = shard.try_send(what) {
                tracing::warn!(?what, "a shard does not listen");
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
        let _ = self.join();
    }
}
