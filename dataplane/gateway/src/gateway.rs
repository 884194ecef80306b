//! The shards of one process, as the control plane handles them.

use crate::config::{ClusterSpec, GatewayConfig};
use crate::env::access_log::AccessLog;
use crate::env::board::{Board, Readiness};
use crate::env::metrics::GatewayMetrics;
use crate::env::peers::Peers;
use crate::limits::{ADOPT_DEPTH, BROKER_DESCRIPTORS, CONNECTIONS_MAX, MAILBOX_DEPTH, OTHER_DESCRIPTORS};

use crate::jobs::desk::{Desk, JobsPlace};
use crate::publish::handoff;
use crate::publish::handoff::keeper::Keeper;
use crate::publish::handoff::open::HandoffPlace;
use crate::publish::handoff::store::Store;
use crate::shard::control::{self, Control, ControlSender};
use crate::shard::{self, Inboxes, ShardParts};
use model::{Side, Snapshot};
use runtime::crew::{Crew, Fallen};
use runtime::line_log;
use runtime::mailbox::mailbox;
use runtime::{Driver, ShardOptions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Bound listeners, one per shard and side.
pub struct Listeners {
    pub publish_addr: SocketAddr,
    pub subscribe_addr: SocketAddr,
    publish: Vec<TcpListener>,
    subscribe: Vec<TcpListener>,
}

impl Listeners {
    /// Binds both sides for all shards. A port that is in use is an error although shards share theirs.
    pub fn bind(publish: SocketAddr, subscribe: SocketAddr, shard_count: usize) -> io::Result<Listeners> {
        let bind = |what: &str, addr: SocketAddr| {
            runtime::net::bind_reuseport(addr, shard_count)
                .map_err(|err| io::Error::new(err.kind(), format!("cannot listen on {addr} ({what}): {err}")))
        };
        let (publish_addr, publish) = bind("publish", publish)?;
        let (subscribe_addr, subscribe) = bind("subscribe", subscribe)?;
        Ok(Listeners { publish_addr, subscribe_addr, publish, subscribe })
    }
}

/// What a gateway is started from.
pub struct GatewayParts {
    pub config: GatewayConfig,
    pub clusters: Vec<ClusterSpec>,
    pub listeners: Listeners,
    pub snapshot: Arc<Snapshot>,
    pub access_log: Option<PathBuf>,
    /// Where this node's journal is; `None`: nothing is handed off.
    pub handoff: Option<HandoffPlace>,
    /// Where this node keeps delayed jobs; `None`: none are taken.
    pub jobs: Option<JobsPlace>,
}

/// Handle on the running shards. Dropping it does not stop them; [`Gateway::drain`] and [`Gateway::stop`] do.
pub struct Gateway {
    pub board: Arc<Board>,
    pub metrics: Arc<GatewayMetrics>,
    control: Vec<ControlSender>,
    crew: Crew,
    access_log: Mutex<Option<line_log::Writer>>,
    /// The journal of this node, if it hands off.
    handoff: Option<Arc<Store>>,
    keeper: Mutex<Option<Keeper>>,
    /// Delayed jobs of this node, if it keeps any.
    jobs: Option<Arc<Desk>>,
}

impl Gateway {
    pub fn start(parts: GatewayParts) -> io::Result<Gateway> {
        let GatewayParts { config, clusters, listeners, snapshot, access_log, handoff, jobs } = parts;
        let shard_count = config.shard_count;
        let config = Arc::new(config);
        let connections_max = connections_max(runtime::descriptors::raise_limit(), shard_count, clusters.len());
        let mut random = [0; 16];
        random[..8].copy_from_slice(&runtime::clock::seed().to_ne_bytes());
        random[8..].copy_from_slice(&runtime::clock::seed().to_ne_bytes());
        let names = clusters.iter().map(|spec| spec.name.clone());
        let board = Arc::new(Board::new(&config, names, random, snapshot));
        let metrics = Arc::new(GatewayMetrics::default());
        let log_writer = access_log
            .map(|path| {
                line_log::open(&path).map_err(|err| {
                    io::Error::new(err.kind(), format!("cannot open the access log {}: {err}", path.display()))
                })
            })
            .transpose()?;
        let (log_writer, access_log) = log_writer.unzip();
        let (control, control_inboxes): (Vec<_>, Vec<_>) = (0..shard_count).map(|_| control::lane()).unzip();
        let (mail, mail_inboxes): (Vec<_>, Vec<_>) = (0..shard_count).map(|_| mailbox(MAILBOX_DEPTH)).unzip();
        let (adopt, adopt_inboxes): (Vec<_>, Vec<_>) = (0..shard_count).map(|_| mailbox(ADOPT_DEPTH)).unzip();
        let (bells, bell_inboxes): (Vec<_>, Vec<_>) = (0..shard_count).map(|_| mailbox(1)).unzip();
        let handoff = handoff.map(|place| handoff::open::open(&place, &config.handoff, bells)).transpose()?;
        let (job_bells, job_inboxes): (Vec<_>, Vec<_>) = (0..shard_count).map(|_| mailbox(1)).unzip();
        let jobs = jobs.map(|place| Desk::open(&place, &config.jobs, job_bells)).transpose()?;
        let keeper = handoff.as_ref().map(Keeper::start).transpose()?;
        if let Some(store) = &handoff {
            let store = Arc::clone(store);
            board.set_handoff(move || store.health());
        }
        if let Some(desk) = &jobs {
            let (of_board, of_metrics) = (Arc::clone(desk), Arc::clone(desk));
            board.set_jobs(move || of_board.health());
            metrics.registry().gauges_from(
                "gateway_jobs_app",
                "Delayed jobs that did not come to an end, and those of them that are parked, by app; beyond a cap the app is `other`.",
                move || of_metrics.by_app(),
            );
        }
        let inboxes =
            control_inboxes.into_iter().zip(mail_inboxes).zip(adopt_inboxes).zip(bell_inboxes).zip(job_inboxes);
        let crew = Crew::new(board.roll.clone());
        let mut publish = listeners.publish.into_iter();
        let mut subscribe = listeners.subscribe.into_iter();
        for (id, ((((control, mail_inbox), adopted), rung), jobs_rung)) in inboxes.enumerate() {
            let inboxes = Inboxes { control, mail: mail_inbox, adopted, handoff: rung, jobs: jobs_rung };
            let shard_listeners = [(Side::Publish, publish.next()), (Side::Subscribe, subscribe.next())]
                .into_iter()
                .filter_map(|(side, listener)| Some((side, listener?)))
                .collect();
            let (config, board) = (Arc::clone(&config), Arc::clone(&board));
            let (mail, adopt) = (mail.clone(), adopt.clone());
            let (clusters, log_writer) = (clusters.clone(), log_writer.clone());
            let (pin, force) = (config.pin.then_some(id), config.driver);
            let options = ShardOptions { cpu: pin, force, ..ShardOptions::named(format!("shard-{id}")) };
            let (metrics, handoff, jobs) = (Arc::clone(&metrics), handoff.clone(), jobs.clone());
            let main = move |driver: Driver| {
                tracing::info!(shard = id, %driver, "shard runs");
                shard::run(ShardParts {
                    id,
                    config,
                    board,
                    clusters,
                    listeners: shard_listeners,
                    metrics,
                    access_log: AccessLog::new(log_writer),
                    connections_max,
                    mail,
                    adopt,
                    inboxes,
                    handoff,
                    jobs,
                })
            };
            crew.start(options, main)?;
        }
        Ok(Gateway {
            board,
            metrics,
            control,
            crew,
            access_log: Mutex::new(access_log),
            handoff,
            keeper: Mutex::new(keeper),
            jobs,
        })
    }

    /// Hands a new snapshot to every shard; its edition, by which [`Board::applied_edition`] says when they have it.
    pub fn publish_snapshot(&self, snapshot: &Arc<Snapshot>) -> u64 {
        let edition = self.board.set_snapshot(Arc::clone(snapshot));
        self.tell(Control::Snapshot);
        self.board.drop_retired();
        edition
    }

    /// Lays out where the other gateways are; shards look there when they have to ask one of them.
    pub fn set_peers(&self, peers: Arc<Peers>) {
        self.board.set_peers(peers);
    }

    /// The journal of this node, if it hands off.
    pub fn handoff(&self) -> Option<&Arc<Store>> {
        self.handoff.as_ref()
    }

    /// Delayed jobs of this node, if it keeps any.
    pub fn jobs(&self) -> Option<&Arc<Desk>> {
        self.jobs.as_ref()
    }

    pub fn readiness(&self) -> Readiness {
        self.board.readiness()
    }

    /// The access log goes on in a new file, if the old one was renamed.
    pub fn reopen_access_log(&self) {
        if let Some(writer) = &*self.access_log.lock().unwrap_or_else(PoisonError::into_inner) {
            writer.reopen();
        }
    }

    pub fn shard_count(&self) -> usize {
        self.control.len()
    }

    /// `/readyz` and `/alive` say no from now on; traffic is still served.
    pub fn announce_drain(&self) {
        self.board.set_draining();
    }

    /// Stops accepting, ends waiting polls, lets what is in flight finish.
    pub fn drain(&self) {
        self.tell(Control::Drain);
    }

    /// Ends what is still in flight with 503 or 504.
    pub fn stop(&self) {
        self.tell(Control::Stop);
    }

    /// True when every shard has ended.
    pub fn is_finished(&self) -> bool {
        self.crew.is_finished()
    }

    /// Shards that ended by a panic, in the order they did. The others serve on, without the groups of these; whoever runs
    /// this gateway is to drain it.
    pub fn fallen(&self) -> Vec<Fallen> {
        self.crew.fallen()
    }

    /// Makes a shard panic, for tests of what follows.
    pub fn make_panic(&self, shard: usize) {
        self.control[shard].tell(Control::Panic);
    }

    /// Waits for the shards, and until their access log is written; the error names one that panicked. The second call
    /// finds none.
    pub fn join(&self) -> Result<(), String> {
        let ended = self.crew.join();
        // After the shards, which may have noted something until their end.
        drop(self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(jobs) = &self.jobs {
            jobs.close();
        }
        if let Some(store) = &self.handoff {
            store.say_what_stays();
        }
        let access_log = self.access_log.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = access_log {
            writer.join().map_err(|_| "the writer of the access log panicked".to_owned())?;
        }
        ended.map_err(|fallen| fallen.to_string())
    }

    fn tell(&self, what: Control) {
        self.control.iter().for_each(|shard| shard.tell(what));
    }
}

/// Client connections of one shard: clients take no descriptor that a broker's connection needs.
fn connections_max(descriptors: usize, shard_count: usize, cluster_count: usize) -> usize {
    let reserved = shard_count * cluster_count * BROKER_DESCRIPTORS + OTHER_DESCRIPTORS;
    // Where there are too few for all, brokers get half.
    let for_clients = descriptors.saturating_sub(reserved).max(descriptors / 2);
    let connections_max = (for_clients / shard_count.max(1)).min(CONNECTIONS_MAX);
    tracing::info!(descriptors, connections_max, "client connections of each shard");
    connections_max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_descriptors_to_the_brokers() {
        for (descriptors, shard_count, cluster_count, expected) in
            [(1_048_576, 2, 1, CONNECTIONS_MAX), (65_536, 2, 1, 32_512), (4_096, 2, 4, 1_408), (1_024, 2, 50, 256)]
        {
            let what = format!("{descriptors} for {shard_count} shards and {cluster_count} clusters");
            assert_eq!(connections_max(descriptors, shard_count, cluster_count), expected, "{what}");
        }
    }
}
